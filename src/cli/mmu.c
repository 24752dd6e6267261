/* SPDX-License-Identifier: Apache-2.0 */
/* mezz mmu report: what memory virtualization did in several runs, side by side. */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cli/commands.h>

#define RUNS_MAX 8

/* Modes that a counter means something in. */
enum {
	SOFTWARE = 1,
	HARDWARE = 2,
	BOTH = 3
};

/* A line of the report: a counter, as it is or divided by another one or by a constant. */
struct row {
	const char *title;
	unsigned int modes;
	const char *group;
	const char *name;
	const char *per; /* counter of the same group, or NULL */
	double unit;     /* 0 for 1 */
};

/* A row without a group is a heading. */
static const struct row rows[] = {
	{"run", BOTH, NULL, NULL, NULL, 0},
	{"run time, ms", BOTH, "vm", "run_ns", NULL, 1e6},
	{"processor time, ms", BOTH, "process", "user_us", NULL, 1e3},
	{"instructions, thousands", BOTH, "cpu", "instructions", NULL, 1e3},
	{"TLB and walks", BOTH, NULL, NULL, NULL, 0},
	{"software TLB misses", BOTH, "tlb", "misses", NULL, 0},
	{"software TLB flushes", BOTH, "tlb", "flushes", NULL, 0},
	{"walks", BOTH, "mmu", "walks", NULL, 0},
	{"guest references / walk", HARDWARE, "mmu", "guest_refs", "walks", 0},
	{"nested references / walk", HARDWARE, "mmu", "nested_refs", "walks", 0},
	{"shadow references / walk", SOFTWARE, "mmu", "shadow_refs", "walks", 0},
	{"exits", BOTH, NULL, NULL, NULL, 0},
	{"true faults", BOTH, "mmu", "true_faults", NULL, 0},
	{"hidden faults", SOFTWARE, "mmu", "hidden_faults", NULL, 0},
	{"nested violations", HARDWARE, "mmu", "nested_violations", NULL, 0},
	{"traced writes", SOFTWARE, "mmu", "traced_writes", NULL, 0},
	{"roots found", SOFTWARE, "mmu", "root_hits", NULL, 0},
	{"roots built", SOFTWARE, "mmu", "roots_built", NULL, 0},
	{"upkeep", BOTH, NULL, NULL, NULL, 0},
	{"tables out of sync", SOFTWARE, "mmu", "unsyncs", NULL, 0},
	{"resynchronizations", SOFTWARE, "mmu", "resyncs", NULL, 0},
	{"prefetched entries", SOFTWARE, "mmu", "prefetches", NULL, 0},
	{"entries zapped", BOTH, "mmu", "zaps", NULL, 0},
	{"tables recycled", SOFTWARE, "mmu", "recycled", NULL, 0},
	{"memory", BOTH, NULL, NULL, NULL, 0},
	{"tables now", BOTH, "mmu", "tables", NULL, 0},
	{"tables at most", BOTH, "mmu", "tables_peak", NULL, 0},
	{"table memory at most, KiB", BOTH, "mmu", "table_bytes_peak", NULL,
	 1024},
	{"bound of it, KiB", SOFTWARE, "mmu", "table_bytes_bound", NULL, 1024},
};

/* More references than any walk can make. */
#define REFS_END 25

static json_int_t counter(const json_t *run, const char *group, const char *name)
{
	return json_integer_value(
		json_object_get(json_object_get(run, group), name));
}

static const char *mode_of(const json_t *run)
{
	const char *mode = json_string_value(
		json_object_get(json_object_get(run, "vm"), "mmu"));

	return mode ? mode : "?";
}

static bool applies(const json_t *run, unsigned int modes)
{
	if (!strcmp(mode_of(run), "software"))
		return modes & SOFTWARE;
	return modes & HARDWARE;
}

static void print_cell(const json_t *run, const struct row *r)
{
	double value = (double)counter(run, r->group, r->name);
	double by = r->unit;

	if (r->per)
		by = (double)counter(run, r->group, r->per);
	else if (by == 0)
		by = 1;
	if (!applies(run, r->modes) || by == 0)
		printf(" %18s", "-");
	else
		printf(" %18.*f", r->per ? 2 : 0, value / by);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Base names tell the runs apart unless two are the same. */
static const char *column_name(char *const names[], int n, int i)
{
	const size_t width = 18;
	const char *name = base_name(names[i]);

	for (int k = 0; k < n; k++)
		if (k != i && !strcmp(base_name(names[k]), name))
			name = names[i];
	return strlen(name) > width ? name + strlen(name) - width : name;
}

static void print_head(json_t *const runs[], char *const names[], int n)
{
	printf("%-32s", "");
	for (int i = 0; i < n; i++)
		printf(" %18s", column_name(names, n, i));
	printf("\n%-32s", "memory virtualization");
	for (int i = 0; i < n; i++)
		printf(" %18s", mode_of(runs[i]));
	putchar('\n');
}

/* Shares of the walks that found a translation, by how many references they made. */
static void print_walks(json_t *const runs[], int n)
{
	printf("\nreferences of a walk, percent of walks\n");
	for (int refs = 0; refs < REFS_END; refs++) {
		char name[4];
		bool any = false;

		snprintf(name, sizeof(name), "%d", refs);
		for (int i = 0; i < n; i++)
			any |= counter(runs[i], "walks_by_references", name) !=
			       0;
		if (!any)
			continue;
		printf("  %-30s", name);
		for (int i = 0; i < n; i++) {
			const json_int_t found = counter(runs[i], "mmu",
							 "walks_found");
			const json_int_t these = counter(runs[i],
							 "walks_by_references",
							 name);

			if (these)
				printf(" %18.3f",
				       100 * (double)these / (double)found);
			else
				printf(" %18s", "-");
		}
		putchar('\n');
	}
}

static void print_report(json_t *const runs[], char *const names[], int n)
{
	print_head(runs, names, n);
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		if (!rows[r].group) {
			printf("\n%s\n", rows[r].title);
			continue;
		}
		printf("  %-30s", rows[r].title);
		for (int i = 0; i < n; i++)
			print_cell(runs[i], &rows[r]);
		putchar('\n');
	}
	print_walks(runs, n);
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
	const bool help = argc >= 1 && (!strcmp(argv[0], "--help") ||
					!strcmp(argv[0], "-h"));

	fprintf(help ? stdout : stderr,
		"usage: mezz mmu report FILE.json...\n\n"
		"Compare the MMU counters of runs: the files that 'mezz run --stats' wrote.\n");
	return help ? 0 : 2;
}
