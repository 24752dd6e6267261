/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics by table: each number of host, VMs and pools, under a name made of its own. */
#include <api/metrics.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct family {
	const char *prefix;
	const char *label; /* NULL: the one object has none */
	const struct api_schema *schema;
	const char *objects;
	size_t n;
	size_t stride;
	size_t name_offset;
};

static bool is_metric(const struct api_field *f)
{
	switch (f->type) {
	case API_BOOL:
	case API_UINT:
	case API_UINT32:
	case API_PAGES:
	case API_NS:
	case API_NUMBER:
	case API_ENUM:
		return !(f->flags & API_NO_METRIC);
	case API_STRING:
	case API_LIMIT:
	case API_OBJECT:
	case API_ARRAY:
	case API_STRINGS:
	case API_TYPES:
		break;
	}
	return false;
}

static bool ends_with(const char *name, const char *end)
{
	const size_t n = strlen(name), k = strlen(end);

	return n > k && !strcmp(name + n - k, end);
}

static bool is_ms(const struct api_field *f)
{
	return f->type == API_UINT && ends_with(f->name, "Ms");
}

/*
 * Units are Prometheus' own, and "_count" is its word for a part of a histogram: swapIn becomes
 * swap_in, stallZipNs stall_zip_seconds_total, uptimeMs uptime_seconds, vmCount vms.
 */
static void metric_name(const char *prefix, const struct api_field *f,
			char *buf, size_t size)
{
	size_t n = (size_t)snprintf(buf, size, "%s", prefix);
	size_t len = strlen(f->name);
	const bool is_count = ends_with(f->name, "Count");
	const bool is_time = f->type == API_NS || is_ms(f);

	if (is_time)
		len -= 2;
	else if (is_count)
		len -= strlen("Count");
	for (size_t i = 0; i < len && n + 24 < size; i++) {
		if (isupper((unsigned char)f->name[i]))
			buf[n++] = '_';
		buf[n++] = (char)tolower((unsigned char)f->name[i]);
	}
	snprintf(buf + n, size - n, "%s%s",
		 f->type == API_PAGES ? "_bytes"
		 : is_time            ? "_seconds"
		 : is_count           ? "s"
				      : "",
		 f->flags & API_COUNTER ? "_total" : "");
}

static double as_double(const struct api_field *f, const void *p)
{
	uint64_t u64;
	uint32_t u32;
	double d;

	if (f->type == API_NUMBER) {
		memcpy(&d, p, sizeof(d));
		return d;
	}
	if (f->type == API_BOOL)
		return *(const bool *)p;
	if (f->size == sizeof(u32)) {
		memcpy(&u32, p, sizeof(u32));
		return u32;
	}
	memcpy(&u64, p, sizeof(u64));
	if (f->type == API_PAGES)
		return (double)u64 * (double)PAGE_SIZE;
	if (is_ms(f))
		return (double)u64 / 1e3;
	return f->type == API_NS ? (double)u64 / 1e9 : (double)u64;
}

/* Names of VMs and pools need no escapes: letters, digits, and . _ - */
static void print_sample(FILE *out, const struct family *fam, const char *name,
			 const struct api_field *f, const char *object)
{
	fputs(name, out);
	if (fam->label)
		fprintf(out, "{%s=\"%s\"}", fam->label,
			object + fam->name_offset);
	fprintf(out, " %.17g\n", as_double(f, object + f->offset));
}

static void print_family(FILE *out, const struct family *fam, size_t base)
{
	char name[128];

	for (size_t i = 0; i < fam->schema->n_fields; i++) {
		struct api_field f = fam->schema->fields[i];

		if (!is_metric(&f) || !fam->n)
			continue;
		f.offset += base;
		metric_name(fam->prefix, &f, name, sizeof(name));
		fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, f.help, name,
			f.flags & API_COUNTER ? "counter" : "gauge");
		for (size_t k = 0; k < fam->n; k++)
			print_sample(out, fam, name, &f,
				     fam->objects + k * fam->stride);
	}
}

char *api_metrics(const struct api_snapshot *snapshot)
{
	const struct family host = {.prefix = "mezz_host_",
				    .schema = &api_host_schema,
				    .objects = (const char *)&snapshot->host,
				    .n = 1};
	const struct family vms = {.prefix = "mezz_vm_",
				   .label = "vm",
				   .schema = &api_stats_schema,
				   .objects = snapshot->vms.v,
				   .n = snapshot->vms.n,
				   .stride = sizeof(struct api_vm),
				   .name_offset = offsetof(struct api_vm,
							   config.name)};
	const struct family power = {.prefix = "mezz_vm_",
				     .label = "vm",
				     .schema = &api_runtime_schema,
				     .objects = snapshot->vms.v,
				     .n = snapshot->vms.n,
				     .stride = sizeof(struct api_vm),
				     .name_offset = offsetof(struct api_vm,
							     config.name)};
	const struct family pools = {.prefix = "mezz_pool_",
				     .label = "pool",
				     .schema = &api_pool_schema,
				     .objects = snapshot->pools.v,
				     .n = snapshot->pools.n,
				     .stride = sizeof(struct api_pool),
				     .name_offset = offsetof(struct api_pool,
							     name)};
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	print_family(out, &host, 0);
	print_family(out, &vms, offsetof(struct api_vm, stats));
	print_family(out, &power, offsetof(struct api_vm, runtime));
	print_family(out, &pools, 0);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}
