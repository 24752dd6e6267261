/* SPDX-License-Identifier: Apache-2.0 */
/* The memory screen of esxtop: header lines, and columns by table. Amounts are MiB. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cli/common.h>
#include <cli/top.h>
#include <policy/state.h>

/* One VM, its figures of the last time, and for how long they are past. */
struct row {
	const struct api_vm *vm;
	const struct api_stats *now;
	const struct api_stats *before;
	uint64_t ms; /* 0: there were none */
};

static const struct api_vm *find(const struct api_snapshot *s, const char *name)
{
	const struct api_vm *vms = s->vms.v;

	for (size_t i = 0; i < s->vms.n; i++)
		if (!strcmp(vms[i].config.name, name))
			return &vms[i];
	return NULL;
}

static struct row make_row(const struct top_screen *s, const struct api_vm *vm)
{
	const struct api_vm *was = find(&s->before, vm->config.name);
	/* One that started anew begins at nothing. */
	const bool same = was && was->runtime.start_ms == vm->runtime.start_ms;

	return (struct row){.vm = vm,
			    .now = &vm->stats,
			    .before = same ? &was->stats : &vm->stats,
			    .ms = same && s->before.time_ms
					  ? s->now.time_ms - s->before.time_ms
					  : 0};
}

/* Pages since the last time, in MiB a second. */
static double rate(const struct row *r, uint64_t now, uint64_t before)
{
	return r->ms && now > before ? mib(now - before) * 1000 / (double)r->ms
				     : 0;
}

static uint64_t waited_ns(const struct api_stats *s)
{
	return s->stall_zip_ns + s->stall_swap_ns + s->stall_host_ns +
	       s->stall_busy_ns;
}

#define AMOUNT(name_, pages_)                       \
	static double name_(const struct row *r)    \
	{                                           \
		const struct api_stats *s = r->now; \
                                                    \
		(void)s;                            \
		return mib(pages_);                 \
	}
#define RATE(name_, counter_)                                          \
	static double name_(const struct row *r)                       \
	{                                                              \
		return rate(r, r->now->counter_, r->before->counter_); \
	}

AMOUNT(memsz, vm_memory_pages(r->vm))
AMOUNT(grant, s->granted_pages)
AMOUNT(cnsm, s->consumed_pages)
AMOUNT(sztgt, s->entitlement_pages + s->overhead_pages + s->table_pages)
AMOUNT(tchd, s->active_pages)
AMOUNT(mctlsz, s->ballooned_pages)
AMOUNT(mctltgt, s->balloon_target_pages)
AMOUNT(mctlmax, s->balloon_max_pages)
AMOUNT(swcur, s->swapped_pages)
AMOUNT(swtgt, s->swap_target_pages)
AMOUNT(cachesz, s->compressed_pages)
AMOUNT(cacheusd, s->zip_pages)
AMOUNT(shrd, s->shared_pages)
AMOUNT(zero, s->zero_pages)
AMOUNT(shrdsvd,
       s->shared_pages > s->common_pages ? s->shared_pages - s->common_pages : 0)
AMOUNT(ovhd, s->overhead_pages + s->table_pages)
AMOUNT(ovhdmax, s->overhead_max_pages)
RATE(swr, swap_in)
RATE(sww, swap_out)
RATE(zip, zip_out)
RATE(unzip, zip_in)

static double actv(const struct row *r)
{
	const uint64_t size = vm_memory_pages(r->vm);

	return size ? 100.0 * (double)r->now->active_pages / (double)size : 0;
}

/* What is not known yet is negative. */
static double actvs(const struct row *r)
{
	return r->now->active_slow_pct;
}

static double actvf(const struct row *r)
{
	return r->now->active_fast_pct;
}

static double mctl(const struct row *r)
{
	return r->now->balloon_driver == BALLOON_READY;
}

static double lat(const struct row *r)
{
	const uint64_t now = waited_ns(r->now), before = waited_ns(r->before);

	return r->ms && now > before
		       ? (double)(now - before) / ((double)r->ms * 1e4)
		       : 0;
}

static double amin(const struct row *r)
{
	return mib(r->vm->config.alloc.reservation_pages);
}

static double amax(const struct row *r)
{
	const uint64_t limit = r->vm->config.alloc.limit_pages;

	return limit == ALLOC_UNLIMITED ? -1 : mib(limit);
}

static double ashrs(const struct row *r)
{
	return (double)r->now->shares;
}

struct column {
	char group;
	const char *head;
	int width;
	int decimals; /* -1: Y or N */
	double (*value)(const struct row *r);
};

static const struct column columns[] = {
	{'A', "MEMSZ", 8, 0, memsz},     {'A', "GRANT", 8, 0, grant},
	{'A', "CNSM", 8, 0, cnsm},       {'A', "SZTGT", 8, 0, sztgt},
	{'B', "TCHD", 8, 0, tchd},       {'B', "%ACTV", 6, 0, actv},
	{'B', "%ACTVS", 7, 0, actvs},    {'B', "%ACTVF", 7, 0, actvf},
	{'C', "MCTL?", 6, -1, mctl},     {'C', "MCTLSZ", 7, 0, mctlsz},
	{'C', "MCTLTGT", 8, 0, mctltgt}, {'C', "MCTLMAX", 8, 0, mctlmax},
	{'D', "SWCUR", 7, 0, swcur},     {'D', "SWTGT", 7, 0, swtgt},
	{'D', "SWR/s", 7, 2, swr},       {'D', "SWW/s", 7, 2, sww},
	{'E', "CACHESZ", 8, 0, cachesz}, {'E', "CACHEUSD", 9, 0, cacheusd},
	{'E', "ZIP/s", 7, 2, zip},       {'E', "UNZIP/s", 8, 2, unzip},
	{'F', "SHRD", 7, 0, shrd},       {'F', "ZERO", 7, 0, zero},
	{'F', "SHRDSVD", 8, 1, shrdsvd}, {'G', "OVHD", 7, 1, ovhd},
	{'G', "OVHDMAX", 8, 1, ovhdmax}, {'H', "%LAT_M", 7, 2, lat},
	{'I', "AMIN", 8, 0, amin},       {'I', "AMAX", 8, 0, amax},
	{'I', "ASHRS", 8, 0, ashrs},
};

static const char *const groups[TOP_FIELDS] = {
	"memory size: MEMSZ GRANT CNSM SZTGT",
	"working set: TCHD %ACTV %ACTVS %ACTVF",
	"balloon: MCTL? MCTLSZ MCTLTGT MCTLMAX",
	"swap: SWCUR SWTGT SWR/s SWW/s",
	"compression: CACHESZ CACHEUSD ZIP/s UNZIP/s",
	"sharing: SHRD ZERO SHRDSVD",
	"overhead: OVHD OVHDMAX",
	"waiting for memory: %LAT_M",
	"allocation: AMIN AMAX ASHRS",
};

#define NAME_WIDTH 16

static const struct {
	char key;
	double (*value)(const struct row *r); /* NULL: by name */
} sorts[] = {
	{'m', memsz}, {'g', grant},   {'c', cnsm}, {'a', tchd}, {'b', mctlsz},
	{'w', swcur}, {'z', cachesz}, {'s', shrd}, {'l', lat},  {'n', NULL},
};

bool top_is_sort_key(char key)
{
	for (size_t i = 0; i < ARRAY_SIZE(sorts); i++)
		if (sorts[i].key == key)
			return true;
	return false;
}

unsigned int top_fields(const char *letters)
{
	unsigned int fields = 0;

	for (; *letters; letters++) {
		const unsigned int i = (unsigned int)((*letters & ~0x20) - 'A');

		if (i >= TOP_FIELDS)
			return 0;
		fields |= 1u << i;
	}
	return fields;
}

static int compare(const void *a, const void *b, void *ctx)
{
	const struct top_screen *s = ctx;
	const struct api_vm *x = a, *y = b;

	for (size_t i = 0; i < ARRAY_SIZE(sorts); i++) {
		if (sorts[i].key != s->sort || !sorts[i].value)
			continue;
		const struct row p = make_row(s, x), q = make_row(s, y);
		const double v = sorts[i].value(&p), w = sorts[i].value(&q);

		if (v < w || v > w)
			return v < w ? 1 : -1;
	}
	return strcmp(x->config.name, y->config.name);
}

static void print_time(const struct top_screen *s)
{
	const struct api_host *h = &s->now.host;
	const time_t secs = (time_t)(s->now.time_ms / 1000);
	const uint64_t up = h->uptime_ms / 1000;
	char clock[16] = "";
	struct tm tm;

	if (localtime_r(&secs, &tm))
		strftime(clock, sizeof(clock), "%T", &tm);
	printf("%s up %" PRIu64 ":%02" PRIu64 ":%02" PRIu64
	       ", %u VMs; MEM overcommit avg: %.2f, %.2f, %.2f\n",
	       clock, up / 3600, up / 60 % 60, up % 60, h->n_vms,
	       h->overcommit_1min, h->overcommit_5min, h->overcommit_15min);
}

static void print_memory(const struct api_host *h)
{
	const uint64_t vms = h->consumed_pages + h->common_pages + h->zip_pages;
	const uint64_t vmk = h->overhead_pages + h->table_pages;

	printf("PMEM  /MB: %6.0f total: %8.1f vmk, %8.1f other, %8.1f free\n",
	       mib(h->managed_pages), mib(vmk), mib(vms), mib(h->free_pages));
	printf("VMKMEM/MB: %6.0f managed: %5.0f minfree, %5.0f rsvd, %6.0f ursvd, %s state\n",
	       mib(h->managed_pages), mib(h->minfree_pages),
	       mib(h->reserved_pages), mib(h->unreserved_pages),
	       host_state_name(h->state));
	printf("PSHARE/MB: %8.1f shared, %8.1f common: %8.1f saving; %.1f zero\n",
	       mib(h->shared_pages), mib(h->common_pages), mib(h->saving_pages),
	       mib(h->zero_pages));
}

static void print_reclaim(const struct top_screen *s)
{
	const struct api_host *h = &s->now.host;
	const struct api_vm *vms = s->now.vms.v;
	const uint64_t cache = h->zip_pages;
	uint64_t target = 0, max = 0, swap_target = 0;
	double in = 0, out = 0;

	for (size_t i = 0; i < s->now.vms.n; i++) {
		const struct row r = make_row(s, &vms[i]);

		target += r.now->balloon_target_pages;
		max += r.now->balloon_max_pages;
		swap_target += r.now->swap_target_pages;
		in += swr(&r);
		out += sww(&r);
	}
	printf("SWAP  /MB: %8.1f curr, %8.1f target: %8.2f r/s, %8.2f w/s\n",
	       mib(h->swapped_pages), mib(swap_target), in, out);
	printf("ZIP   /MB: %8.1f zipped, %8.1f saved\n",
	       mib(h->compressed_pages),
	       h->compressed_pages > cache ? mib(h->compressed_pages - cache)
					   : 0);
	printf("MEMCTL/MB: %8.1f curr, %8.1f target, %8.1f max\n\n",
	       mib(h->ballooned_pages), mib(target), mib(max));
}

/* Is a column shown? @at: where it would begin; moved on. */
static bool shown(const struct top_screen *s, const struct column *c, int *at)
{
	if (!(s->fields & 1u << (c->group - 'A')))
		return false;
	*at += c->width;
	return !s->columns || *at <= (int)s->columns;
}

static void print_heads(const struct top_screen *s)
{
	int at = NAME_WIDTH;

	printf("%-*s", NAME_WIDTH, "NAME");
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		if (shown(s, &columns[i], &at))
			printf("%*s", columns[i].width, columns[i].head);
	putchar('\n');
}

static void print_vm(const struct top_screen *s, const struct api_vm *vm)
{
	const struct row r = make_row(s, vm);
	int at = NAME_WIDTH;

	printf("%-*.*s", NAME_WIDTH, NAME_WIDTH - 1, vm->config.name);
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		const struct column *c = &columns[i];

		if (!shown(s, c, &at))
			continue;
		if (c->decimals < 0)
			printf("%*s", c->width, c->value(&r) > 0 ? "Y" : "N");
		else if (c->value(&r) < 0)
			printf("%*s", c->width, "-");
		else
			printf("%*.*f", c->width, c->decimals, c->value(&r));
	}
	putchar('\n');
}

void top_print(struct top_screen *s)
{
	struct api_vm *vms = s->now.vms.v;
	size_t left = s->rows;

	if (s->now.vms.n)
		qsort_r(vms, s->now.vms.n, sizeof(*vms), compare, s);
	print_time(s);
	print_memory(&s->now.host);
	print_reclaim(s);
	print_heads(s);
	for (size_t i = 0; i < s->now.vms.n && left; i++) {
		if (vms[i].runtime.power == API_POWERED_OFF)
			continue;
		print_vm(s, &vms[i]);
		left--;
	}
}

void top_print_fields(const struct top_screen *s)
{
	printf("Fields: a letter switches one on or off, any other key goes back.\n\n");
	for (unsigned int i = 0; i < TOP_FIELDS; i++)
		printf("  %c %c  %s\n", s->fields & 1u << i ? '*' : ' ',
		       (char)('A' + i), groups[i]);
}

void top_print_help(void)
{
	printf("q leaves, f chooses fields, space refreshes, h shows this; any key goes back.\n\n"
	       "These order the VMs:\n"
	       "  m  memory size (MEMSZ)   g  granted (GRANT)      c  consumed (CNSM)\n"
	       "  a  active (TCHD)         b  balloon (MCTLSZ)     w  swapped (SWCUR)\n"
	       "  z  compressed (CACHESZ)  s  shared (SHRD)        l  latency (%%LAT_M)\n"
	       "  n  name\n\n"
	       "Amounts are MiB, rates MiB a second; mezz(1) says what each column is.\n");
}
