/* SPDX-License-Identifier: Apache-2.0 */
/* The table of advanced options, and the names that only ESXi knows. */
#include <policy/options.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <base/units.h>

#define NAME_MAX_LEN 40

static const struct option_info table[] = {
	[OPT_ALLOC_GUEST_LARGE_PAGE] =
		{"Mem.AllocGuestLargePage", NULL, "",
		 "back guest memory with 2 MiB pages while memory is plentiful (0 no, 1 yes)",
		 0, 1, 1},
	[OPT_BALANCE_PERIOD] = {"Mem.BalancePeriod", NULL, "s",
				"time between two decisions while nothing happens",
				1, 120, 15},
	[OPT_CTL_MAX_PERCENT] =
		{"Mem.CtlMaxPercent", NULL, "%",
		 "largest balloon, in percent of the VM's size; 0 disables ballooning",
		 0, 99, 65},
	[OPT_IDLE_TAX] =
		{"Mem.IdleTax", NULL, "%",
		 "tax on idle memory: largest part of a VM's idle pages that others may claim",
		 0, 99, 75},
	[OPT_IDLE_TAX_TYPE] =
		{"Mem.IdleTaxType", NULL, "",
		 "0 the same rate for every idle page, 1 half the rate until idle exceeds active",
		 0, 1, 0},
	[OPT_MEM_MIN_FREE_PCT] =
		{"Mem.MemMinFreePct", "Mem.MinFreePct", "%",
		 "machine memory kept free, in percent; 0 means the sliding scale 6/4/2/1",
		 0, 50, 0},
	[OPT_MEM_ZIP_ENABLE] =
		{"Mem.MemZipEnable", NULL, "",
		 "compress pages instead of swapping them where that saves memory (0 no, 1 yes)",
		 0, 1, 1},
	[OPT_MEM_ZIP_MAX_ALLOC_PCT] =
		{"Mem.MemZipMaxAllocPct", NULL, "%",
		 "largest compression cache, in percent of the memory that the VM has now",
		 5, 100, 50},
	[OPT_MEM_ZIP_MAX_PCT] =
		{"Mem.MemZipMaxPct", NULL, "%",
		 "largest compression cache, in percent of the VM's size", 5,
		 100, 10},
	[OPT_SAMPLE_ACTIVE_PCT_MIN] =
		{"Mem.SampleActivePctMin", NULL, "%",
		 "least part of a VM that counts as active, whatever the samples say",
		 0, 10, 1},
	[OPT_SAMPLE_COUNT] =
		{"Mem.SampleCount", NULL, "pages",
		 "pages sampled per VM and period to estimate its active memory",
		 10, 10000, 100},
	[OPT_SAMPLE_PERIOD] =
		{"Mem.SamplePeriod", NULL, "s",
		 "length of a sampling period, in time that the VM runs; 0 disables sampling",
		 0, 180, 60},
	[OPT_SHARE_FORCE_SALTING] =
		{"Mem.ShareForceSalting", NULL, "",
		 "who may share: 0 all VMs, 1 those of no group too, 2 only within a group",
		 0, 2, 2},
	[OPT_SHARE_RATE_MAX] =
		{"Mem.ShareRateMax", NULL, "pages/s",
		 "largest scan rate per VM when looking for pages to share; 0 disables scanning",
		 0, 32768, 1024},
	[OPT_SHARE_SCAN_GHZ] =
		{"Mem.ShareScanGHz", NULL, "MiB/s",
		 "scan rate of the whole host per GHz of its processors; 0 disables scanning",
		 0, 32, 4},
	[OPT_SHARE_SCAN_TIME] = {"Mem.ShareScanTime", NULL, "min",
				 "time in which a VM should be scanned once",
				 10, 600, 60},
	[OPT_SHARE_SKIP_MAX] =
		{"Mem.ShareSkipMax", NULL, "passes",
		 "how often at most a scan passes over pages that do not change; 0 looks at all",
		 0, 8, 8},
	[OPT_SWEEP_ENABLE] =
		{"Mem.SweepEnable", NULL, "",
		 "take back what guests have freed in small pieces, by their balloons (0 no, 1 yes)",
		 0, 1, 1},
	[OPT_VM_OVERHEAD_GROWTH_LIMIT] =
		{"Mem.VMOverheadGrowthLimit", NULL, "MiB",
		 "how far a VM's overhead may grow beyond what was reserved at its start",
		 0, OPTION_UNLIMITED, OPTION_UNLIMITED},
};

_Static_assert(ARRAY_SIZE(table) == OPTIONS_COUNT, "an option has no entry");

/* Accepting a name that changes nothing would be a lie, so say why instead. */
static const struct {
	const char *name;
	const char *reason;
} foreign[] = {
	{"Mem.EncryptTierNvme", "there is no NVMe memory tier"},
	{"Mem.TierNvmePct", "there is no NVMe memory tier"},
	{"Mem.MemCBTBitmapMaxAlloc", "there is no changed-block tracking"},
	{"Mem.MemDefragClientsPerDir", "the Linux kernel compacts memory itself"},
	{"Mem.MemEagerZero",
	 "the Linux kernel zeroes a page when it is allocated"},
	{"Mem.MemMaxResvThreshold", "there is no health signal for reservations"},
	{"Mem.ReallocPolicy", "there is one reallocation policy"},
	{"Mem.SampleDirtiedPctMin", "written pages are not sampled apart"},
	{"Mem.ShareCOSBufSize", "copying on write needs no buffer set aside"},
	{"Mem.VMXMinMB", "the overhead of a VM is measured"},
	{"Mem.kernelResvPad", "the Linux kernel manages its own reserve"},
	{"Mem.AllocUsePSharePool", "there are no preallocated page pools"},
	{"Mem.AllocUseGuestPool", "there are no preallocated page pools"},
};

void options_init(struct options *options)
{
	for (unsigned int i = 0; i < OPTIONS_COUNT; i++)
		options->v[i] = table[i].value;
}

const struct option_info *option_info(enum option_id id)
{
	return &table[id];
}

static unsigned int min3(unsigned int a, unsigned int b, unsigned int c)
{
	if (b < a)
		a = b;
	return c < a ? c : a;
}

/* Levenshtein's distance, for names of at most NAME_MAX_LEN characters. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[NAME_MAX_LEN + 1];
	const size_t n = strlen(b);

	for (unsigned int j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned int i = 1; *a; i++, a++) {
		unsigned int diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			const unsigned int above = row[j];

			row[j] = min3(above + 1, row[j - 1] + 1,
				      diagonal + (*a != b[j - 1]));
			diagonal = above;
		}
	}
	return row[n];
}

static const char *nearest(const char *name)
{
	unsigned int best = 4;
	const char *found = NULL;

	if (strlen(name) > NAME_MAX_LEN)
		return NULL;
	for (unsigned int i = 0; i < OPTIONS_COUNT; i++) {
		const unsigned int d = distance(name, table[i].name);

		if (d < best) {
			best = d;
			found = table[i].name;
		}
	}
	return found;
}

int option_find(const char *name, enum option_id *ret, struct err *err)
{
	const char *near;

	for (unsigned int i = 0; i < OPTIONS_COUNT; i++) {
		if (!strcasecmp(name, table[i].name) ||
		    (table[i].alias && !strcasecmp(name, table[i].alias))) {
			*ret = (enum option_id)i;
			return 0;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
		if (!strcasecmp(name, foreign[i].name))
			return err_set(
				err, -EOPNOTSUPP,
				"%s is an option of ESXi that means nothing here: %s",
				foreign[i].name, foreign[i].reason);
	}
	near = nearest(name);
	if (near)
		return err_set(err, -ENOENT,
			       "no option is called \"%.60s\"; is %s meant?",
			       name, near);
	return err_set(err, -ENOENT, "no option is called \"%.60s\"", name);
}

int options_set(struct options *options, const char *name, const char *value,
		struct err *err)
{
	enum option_id id;
	uint64_t v;
	int r = option_find(name, &id, err);

	if (r < 0)
		return r;
	if (table[id].max == OPTION_UNLIMITED && !strcmp(value, "unlimited")) {
		options->v[id] = OPTION_UNLIMITED;
		return 0;
	}
	r = number_parse(value, table[id].min, table[id].max, &v, err);
	if (r < 0) {
		err_prefix(err, "%s: ", table[id].name);
		return r;
	}
	options->v[id] = (uint32_t)v;
	return 0;
}

int options_check(const struct options *options, struct err *err)
{
	for (unsigned int i = 0; i < OPTIONS_COUNT; i++) {
		if (options->v[i] < table[i].min || options->v[i] > table[i].max)
			return err_set(err, -ERANGE,
				       "%s: %" PRIu32 " is not in %" PRIu32
				       "..%" PRIu32,
				       table[i].name, options->v[i],
				       table[i].min, table[i].max);
	}
	return 0;
}

const char *option_format(const struct options *options, enum option_id id,
			  char *buf, size_t size)
{
	if (table[id].max == OPTION_UNLIMITED &&
	    options->v[id] == OPTION_UNLIMITED)
		snprintf(buf, size, "unlimited");
	else
		snprintf(buf, size, "%" PRIu32, options->v[id]);
	return buf;
}
