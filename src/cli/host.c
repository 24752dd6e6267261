/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mezz host: machine memory, what runs the processors, advanced options, and whether the
 * books are right.
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <api/paths.h>
#include <cli/commands.h>
#include <cli/common.h>
#include <policy/state.h>

static const char usage[] =
	"host [--engine | --options | --set NAME=VALUE | --audit]\n\n"
	"Show the host's memory and what runs VMs there, or its advanced options.";

enum {
	HOST_ENGINE,
	HOST_OPTIONS,
	HOST_SET,
	HOST_AUDIT
};
static const struct cli_option host_options[] = {
	[HOST_ENGINE] = {"engine", 'e', NULL,
			 "what runs VMs here, and why; needs no mezzd"},
	[HOST_OPTIONS] = {"options", 'o', NULL, "list advanced options"},
	[HOST_SET] = {"set", 's', "NAME=VALUE", "change one of them"},
	[HOST_AUDIT] = {"audit", 0, NULL,
			"recompute all bookkeeping and compare"},
	{NULL, 0, NULL, NULL},
};

/* Known to the program that runs VMs, which knows KVM; this one does not. */
static int show_engine(void)
{
	static const char *const places[] = {"mezz-vm", "../vm/mezz-vm",
					     "../libexec/mezzanine/mezz-vm",
					     NULL};
	char program[PATHS_MAX];
	char probe[] = "--probe";
	char *argv[] = {program, probe, NULL};
	struct err err;
	int status = 0;
	pid_t pid;

	fflush(stdout);
	if (!paths_beside(places, program)) {
		err_set(&err, -ENOENT,
			"the program mezz-vm is not beside this one");
		return cli_fail(&err);
	}
	const int r = posix_spawn(&pid, program, NULL, NULL, argv, environ);

	if (r) {
		err_set(&err, -r, "cannot start %s: %s", program, strerror(r));
		return cli_fail(&err);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status ? CLI_FAILED : CLI_OK;
}

static int show_host(struct cli *cli)
{
	const struct client_request req = {.op = API_GET_HOST};
	struct api_host h = {0};
	const int status = cli_call(cli, &req, &h);

	if (status != CLI_OK)
		return status;
	printf("%s, mezzd %s, %u VMs, memory state %s\n", h.name, h.version,
	       h.n_vms, host_state_name(h.state));
	const struct {
		const char *name;
		uint64_t pages;
	} rows[] = {
		{"managed", h.managed_pages},
		{"  consumed", h.consumed_pages},
		{"  common", h.common_pages},
		{"  zip", h.zip_pages},
		{"  page tables", h.table_pages},
		{"  overhead", h.overhead_pages},
		{"  free", h.free_pages},
		{"minfree", h.minfree_pages},
		{"reserved", h.reserved_pages},
		{"unreserved", h.unreserved_pages},
		{"configured", h.size_pages},
		{"saved by sharing", h.saving_pages},
		{"ballooned", h.ballooned_pages},
		{"compressed", h.compressed_pages},
		{"swapped", h.swapped_pages},
		{"swap free", h.swap_free_pages},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		printf("  %-20s %12.1f MiB\n", rows[i].name, mib(rows[i].pages));
	if (cli->remote)
		return CLI_OK;
	puts("what runs VMs");
	return show_engine();
}

static int show_options(struct cli *cli, const struct client_request *req)
{
	struct api_options list = {0};
	const int status = cli_call(cli, req, &list);
	const struct api_option *o = list.options.v;

	for (size_t i = 0; status == CLI_OK && i < list.options.n; i++)
		printf("%-26s %10s  (%s) %s\n", o[i].name, o[i].value,
		       o[i].default_value, o[i].description);
	api_release(&api_options_schema, &list);
	return status;
}

static int set_option(struct cli *cli, const char *text)
{
	const char *equals = strchr(text, '=');
	struct err err;
	char name[API_NAME_MAX];

	if (!equals || equals - text >= API_NAME_MAX) {
		err_set(&err, -1, "'%s' is not NAME=VALUE", text);
		return cli_fail(&err);
	}
	snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
	json_t *body = json_pack("{s:s}", "value", equals + 1);
	const struct client_request req = {.op = API_SET_OPTION,
					   .name = name,
					   .body = body};
	const int status = cli_call(cli, &req, NULL);

	json_decref(body);
	return status;
}

static int audit(struct cli *cli)
{
	const struct client_request req = {.op = API_GET_AUDIT};
	struct api_audit a = {0};
	const int status = cli_call(cli, &req, &a);

	if (status != CLI_OK)
		return status;
	printf("books %.1f MiB, kernel %.1f MiB, untouched %.1f MiB; wrong: %u counts, %llu references, %llu slots\n",
	       mib(a.book_pages), mib(a.kernel_pages), mib(a.untouched_pages),
	       a.wrong_counts, (unsigned long long)a.wrong_refs,
	       (unsigned long long)a.wrong_slots);
	return a.wrong_counts || a.wrong_refs || a.wrong_slots ? CLI_FAILED
							       : CLI_OK;
}

int cmd_host(int argc, char *argv[])
{
	const struct client_request list = {.op = API_LIST_OPTIONS};
	struct cli cli;
	int status = cli_begin(&cli, argc, argv, usage, host_options, 0, 0);

	if (status >= 0)
		return status;
	if (cli.values[HOST_ENGINE] && cli.json) {
		fprintf(stderr,
			"mezz: --engine is no answer of mezzd, and knows no --json\n");
		status = CLI_USAGE;
	} else if (cli.values[HOST_ENGINE])
		status = show_engine();
	else if (cli.values[HOST_SET])
		status = set_option(&cli, cli.values[HOST_SET]);
	else if (cli.values[HOST_OPTIONS])
		status = show_options(&cli, &list);
	else if (cli.values[HOST_AUDIT])
		status = audit(&cli);
	else
		status = show_host(&cli);
	return cli_end(&cli, status < 0 ? CLI_OK : status);
}
