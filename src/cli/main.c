/* SPDX-License-Identifier: Apache-2.0 */
/* mezz: the command that people type. One row per command in the table below. */
#include <stdio.h>
#include <string.h>

#include <base/types.h>
#include <cli/commands.h>

struct command {
	const char *name;
	int (*run)(int argc, char *argv[]);
	const char *summary;
};

static const struct command commands[] = {
	{"run", cmd_run, "run a VM on this terminal until it ends"},
	{"create", cmd_create, "define a VM"},
	{"start", cmd_start, "start VMs"},
	{"stop", cmd_stop, "press the power button of VMs, or end them"},
	{"rm", cmd_rm, "remove VMs that do not run"},
	{"ls", cmd_ls, "list VMs"},
	{"show", cmd_show, "show all about a VM"},
	{"set", cmd_set, "change the settings of a VM, also while it runs"},
	{"console", cmd_console, "connect this terminal to a VM"},
	{"top", cmd_top, "memory of host and VMs, live, as in esxtop"},
	{"host", cmd_host, "memory of the host, advanced options, audit"},
	{"pool", cmd_pool, "resource pools"},
	{"map", cmd_map, "draw where the pages of a VM are"},
	{"events", cmd_events, "print events as they happen"},
	{"mmu", cmd_mmu, "compare the MMU counters of runs (report FILE...)"},
};

static int usage(FILE *to)
{
	fprintf(to, "usage: mezz COMMAND [OPTION]...\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(to, "  %-8s %s\n", commands[i].name,
			commands[i].summary);
	fprintf(to, "\n'mezz COMMAND --help' tells a command's options.\n");
	return to == stdout ? 0 : 2;
}

int main(int argc, char *argv[])
{
	if (argc < 2)
		return usage(stderr);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
	    !strcmp(argv[1], "help"))
		return usage(stdout);
	if (!strcmp(argv[1], "--version")) {
		printf("mezz %s\n", MEZZ_VERSION);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 2, argv + 2);
	fprintf(stderr, "mezz: there is no command '%s'\n", argv[1]);
	return usage(stderr);
}
