/* SPDX-License-Identifier: Apache-2.0 */
/* Reading recorded traces, line by line, trusting nothing. */
#include <policy/trace.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <base/units.h>

#define HEADER       "time_s,vm,active_mib,footprint_mib"
#define LINE_MAX_LEN 256
#define FIELDS       4

/* Milliseconds and thousandths of a MiB are exact enough and need no floating point. */
#define THOUSAND       1000u
#define TIME_MAX_S     (UINT64_C(366) * 24 * 3600)
#define MEMORY_MAX_MIB (UINT64_C(1) << 32)

struct reader {
	struct trace *trace;
	size_t rows_size;
	uint32_t *buckets; /* hash of names: index + 1, or 0 */
	uint32_t n_buckets;
};

/* A decimal number, in thousandths. */
static int thousandths_parse(const char *text, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0, unit = THOUSAND;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		v = v * 10 + (uint64_t)(*p - '0');
		if (v > max)
			return -ERANGE;
	}
	if (p == text)
		return -EINVAL;
	v *= THOUSAND;
	if (*p == '.') {
		for (p++; *p >= '0' && *p <= '9'; p++) {
			unit /= 10;
			v += unit * (uint64_t)(*p - '0');
		}
	}
	if (*p)
		return -EINVAL;
	*ret = v;
	return 0;
}

static uint32_t name_hash(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return h;
}

static int buckets_grow(struct reader *r)
{
	const uint32_t n = r->n_buckets ? 2 * r->n_buckets : 64;
	uint32_t *const fresh = calloc(n, sizeof(*fresh));
	char(*names)[TRACE_NAME_MAX];

	if (!fresh)
		return -ENOMEM;
	names = realloc(r->trace->names, n / 2 * sizeof(*names));
	if (!names) {
		free(fresh);
		return -ENOMEM;
	}
	r->trace->names = names;
	for (uint32_t i = 0; i < r->trace->n_names; i++) {
		uint32_t b = name_hash(names[i]) % n;

		while (fresh[b])
			b = (b + 1) % n;
		fresh[b] = i + 1;
	}
	free(r->buckets);
	r->buckets = fresh;
	r->n_buckets = n;
	return 0;
}

static int name_intern(struct reader *r, const char *name, uint32_t *ret)
{
	uint32_t b;

	if (2 * (r->trace->n_names + 1) > r->n_buckets && buckets_grow(r) < 0)
		return -ENOMEM;
	for (b = name_hash(name) % r->n_buckets; r->buckets[b];
	     b = (b + 1) % r->n_buckets) {
		if (!strcmp(r->trace->names[r->buckets[b] - 1], name)) {
			*ret = r->buckets[b] - 1;
			return 0;
		}
	}
	strcpy(r->trace->names[r->trace->n_names], name);
	*ret = r->trace->n_names++;
	r->buckets[b] = r->trace->n_names;
	return 0;
}

static int row_append(struct reader *r, const struct trace_row *row)
{
	struct trace *const t = r->trace;

	if (t->n_rows == r->rows_size) {
		const size_t size = r->rows_size ? 2 * r->rows_size : 256;
		struct trace_row *const rows = realloc(t->rows,
						       size * sizeof(*rows));

		if (!rows)
			return -ENOMEM;
		t->rows = rows;
		r->rows_size = size;
	}
	t->rows[t->n_rows++] = *row;
	return 0;
}

/* Split in place. Return the number of fields, FIELDS + 1 if there are more. */
static int fields_split(char *line, char *field[FIELDS])
{
	int n = 0;

	for (char *p = line; p; n++) {
		char *const comma = strchr(p, ',');

		if (n == FIELDS)
			return FIELDS + 1;
		field[n] = p;
		if (comma)
			*comma = '\0';
		p = comma ? comma + 1 : NULL;
	}
	return n;
}

static int number_field(const char *text, const char *what, uint64_t max,
			uint64_t *ret, struct err *err)
{
	const int r = thousandths_parse(text, max, ret);

	if (r == -ERANGE)
		return err_set(err, r, "%s %.40s is too large", what, text);
	if (r < 0)
		return err_set(err, r, "%s \"%.40s\" is not a number", what,
			       text);
	return 0;
}

static int row_parse(struct reader *r, char *line, struct err *err)
{
	uint64_t active, footprint;
	struct trace_row row;
	char *field[FIELDS];
	const int n = fields_split(line, field);
	int code;

	if (n != FIELDS)
		return err_set(err, -EINVAL, "%s fields, want 4: " HEADER,
			       n < FIELDS ? "too few" : "too many");
	code = number_field(field[0], "time_s", TIME_MAX_S, &row.time_ms, err);
	if (code == 0)
		code = number_field(field[2], "active_mib", MEMORY_MAX_MIB,
				    &active, err);
	if (code == 0)
		code = number_field(field[3], "footprint_mib", MEMORY_MAX_MIB,
				    &footprint, err);
	if (code < 0)
		return code;
	if (!field[1][0] || strlen(field[1]) >= TRACE_NAME_MAX)
		return err_set(err, -EINVAL,
			       "a VM's name has 1 to %d characters",
			       TRACE_NAME_MAX - 1);
	if (footprint < active)
		return err_set(err, -EINVAL,
			       "footprint %.40s is less than active %.40s",
			       field[3], field[2]);
	if (r->trace->n_rows > 0 &&
	    row.time_ms < r->trace->rows[r->trace->n_rows - 1].time_ms)
		return err_set(err, -EINVAL,
			       "time %.40s is before the time of the line above",
			       field[0]);
	if (r->trace->n_rows >= TRACE_ROWS_MAX)
		return err_set(err, -ERANGE, "more than %u lines",
			       TRACE_ROWS_MAX);
	row.active_pages = active * MIB_PAGES / THOUSAND;
	row.footprint_pages = footprint * MIB_PAGES / THOUSAND;
	if (name_intern(r, field[1], &row.vm) < 0 || row_append(r, &row) < 0)
		return err_set(err, -ENOMEM, "no memory for so long a trace");
	return 0;
}

/* Return the start of the next line, or NULL; @buf gets this one without its end. */
static const char *line_take(const char *text, char buf[LINE_MAX_LEN],
			     bool *ret_fits)
{
	const char *const end = strchr(text, '\n');
	size_t len = end ? (size_t)(end - text) : strlen(text);

	if (len > 0 && text[len - 1] == '\r')
		len--;
	*ret_fits = len < LINE_MAX_LEN;
	if (*ret_fits) {
		memcpy(buf, text, len);
		buf[len] = '\0';
	}
	return end ? end + 1 : NULL;
}

static int text_read(struct reader *r, const char *text, struct err *err)
{
	bool header = false;
	unsigned int line_number = 0;
	int code = 0;

	while (text && *text) {
		char line[LINE_MAX_LEN];
		bool fits;

		text = line_take(text, line, &fits);
		line_number++;
		if (!fits) {
			code = err_set(err, -EINVAL, "the line is too long");
		} else if (!line[0] || line[0] == '#') {
			continue;
		} else if (!header) {
			header = !strcmp(line, HEADER);
			if (!header)
				code = err_set(err, -EINVAL,
					       "the first line must be " HEADER);
		} else {
			code = row_parse(r, line, err);
		}
		if (code < 0) {
			err_prefix(err, "line %u: ", line_number);
			return code;
		}
	}
	if (r->trace->n_rows == 0)
		return err_set(err, -EINVAL,
			       "the trace has no lines after its header");
	return 0;
}

int trace_parse(const char *text, struct trace **ret, struct err *err)
{
	struct reader r = {.trace = calloc(1, sizeof(*r.trace))};
	int code;

	if (!r.trace)
		return err_set(err, -ENOMEM, "no memory for a trace");
	code = text_read(&r, text, err);
	free(r.buckets);
	if (code < 0) {
		trace_free(r.trace);
		return code;
	}
	*ret = r.trace;
	return 0;
}

void trace_free(struct trace *trace)
{
	if (!trace)
		return;
	free(trace->rows);
	free(trace->names);
	free(trace);
}
