/* SPDX-License-Identifier: Apache-2.0 */
/* mezz create: define a VM. */
#include <stdio.h>

#include <cli/commands.h>
#include <cli/common.h>

static const char usage[] =
	"create NAME [OPTION]... [KEY=VALUE]... [--start] [-- OPTION-OF-THE-VM...]\n\n"
	"Define a VM. The settings below may be written KEY=VALUE as well; all options of the VM's\n"
	"process, such as --kernel, --disk and --append, are understood: see mezz run --help.";

static const struct cli_option options[] = {
	{"start", 's', NULL, "start it too"},
	{NULL, 0, NULL, NULL},
};

static json_t *make_body(const struct cli *cli)
{
	json_t *body = cli_settings(cli, 1);

	if (!body)
		return NULL;
	if (!json_object_get(body, "memorySize"))
		json_object_set_new(body, "memorySize",
				    json_integer(INT64_C(512) << 20));
	json_object_set_new(body, "name", json_string(cli->args[0]));
	json_object_set_new(body, "args", cli_vm_args(cli));
	return body;
}

int cmd_create(int argc, char *argv[])
{
	struct cli cli;
	int status = cli_begin_defining(&cli, CLI_WORDS_VM, argc, argv, usage,
					options, 1, CLI_ARGS);

	if (status >= 0)
		return status;
	json_t *body = make_body(&cli);
	const struct client_request create = {.op = API_CREATE_VM, .body = body};
	const struct client_request start = {.op = API_START_VM,
					     .name = cli.args[0]};

	status = body ? cli_call(&cli, &create, NULL) : CLI_FAILED;
	if (status != CLI_FAILED && cli.values[0]) {
		status = cli_call(&cli, &start, NULL);
		if (status == CLI_FAILED)
			fprintf(stderr,
				"mezz: '%s' is defined, but does not run: mezz start %s tries again, mezz rm %s forgets it\n",
				cli.args[0], cli.args[0], cli.args[0]);
	}
	json_decref(body);
	return cli_end(&cli, status < 0 ? CLI_OK : status);
}
