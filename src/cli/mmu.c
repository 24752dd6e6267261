/* SPDX-License-Identifier: Apache-2.0 */
/* mezz mmu report: what memory virtualization did in several runs, side by side. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include <cli/commands.h>

#define RUNS_MAX 8

struct row {
	const char *title;
	const char *group;
	const char *name;
	const char *per_group; /* divided by this counter, or NULL */
	const char *per_name;
};

static const struct row rows[] = {
	{"run time, ms", "vm", "run_ns", "", "1000000"},
	{"instructions, thousands", "cpu", "instructions", "", "1000"},
	{"software TLB misses", "tlb", "misses", NULL, NULL},
	{"hardware walks", "mmu", "walks", NULL, NULL},
	{"guest table references / walk", "mmu", "guest_refs", "mmu", "walks"},
	{"nested references / walk", "mmu", "nested_refs", "mmu", "walks"},
	{"shadow references / walk", "mmu", "shadow_refs", "mmu", "walks"},
	{"true faults", "mmu", "true_faults", NULL, NULL},
	{"hidden faults", "mmu", "hidden_faults", NULL, NULL},
	{"nested violations", "mmu", "nested_violations", NULL, NULL},
	{"traced writes", "mmu", "traced_writes", NULL, NULL},
	{"tables out of sync", "mmu", "unsyncs", NULL, NULL},
	{"resynchronizations", "mmu", "resyncs", NULL, NULL},
	{"prefetched entries", "mmu", "prefetches", NULL, NULL},
	{"entries zapped", "mmu", "zaps", NULL, NULL},
	{"roots built", "mmu", "roots_built", NULL, NULL},
	{"roots found", "mmu", "root_hits", NULL, NULL},
	{"tables recycled", "mmu", "recycled", NULL, NULL},
	{"tables now", "mmu", "tables", NULL, NULL},
	{"tables at most", "mmu", "tables_peak", NULL, NULL},
};

static double counter(const json_t *run, const char *group, const char *name)
{
	return (double)json_integer_value(
		json_object_get(json_object_get(run, group), name));
}

static double divisor(const json_t *run, const struct row *r)
{
	double constant;

	if (!r->per_group)
		return 1;
	if (*r->per_group)
		return counter(run, r->per_group, r->per_name);
	return sscanf(r->per_name, "%lf", &constant) == 1 ? constant : 1;
}

static void print_cell(const json_t *run, const struct row *r)
{
	const double value = counter(run, r->group, r->name);
	const double by = divisor(run, r);

	if (by == 0)
		printf(" %16s", "-");
	else
		printf(" %16.*f", r->per_group ? 2 : 0, value / by);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void print_report(json_t *const runs[], char *const names[], int n)
{
	printf("%-32s", "");
	for (int i = 0; i < n; i++)
		printf(" %16.16s", base_name(names[i]));
	printf("\n%-32s", "memory virtualization");
	for (int i = 0; i < n; i++) {
		const char *mode = json_string_value(
			json_object_get(json_object_get(runs[i], "vm"), "mmu"));

		printf(" %16s", mode ? mode : "?");
	}
	putchar('\n');
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		printf("%-32s", rows[r].title);
		for (int i = 0; i < n; i++)
			print_cell(runs[i], &rows[r]);
		putchar('\n');
	}
}

static int report(int n, char *files[])
{
	json_t *runs[RUNS_MAX];
	int loaded = 0, status = 0;

	if (n < 1 || n > RUNS_MAX) {
		fprintf(stderr,
			"mezz: mmu report takes 1 to %d files made by 'mezz run --stats'\n",
			RUNS_MAX);
		return 2;
	}
	for (; loaded < n; loaded++) {
		json_error_t e;

		runs[loaded] = json_load_file(files[loaded], 0, &e);
		if (!runs[loaded] || !json_object_get(runs[loaded], "mmu")) {
			fprintf(stderr, "mezz: %s: %s\n", files[loaded],
				runs[loaded] ? "no counters of a run in it"
					     : e.text);
			json_decref(runs[loaded]);
			status = 2;
			break;
		}
	}
	if (!status)
		print_report(runs, files, n);
	for (int i = 0; i < loaded; i++)
		json_decref(runs[i]);
	return status;
}

int cmd_mmu(int argc, char *argv[])
{
	if (argc >= 1 && !strcmp(argv[0], "report"))
		return report(argc - 1, argv + 1);
	fprintf(stderr, "usage: mezz mmu report FILE.json...\n");
	return argc >= 1 && !strcmp(argv[0], "--help") ? 0 : 2;
}
