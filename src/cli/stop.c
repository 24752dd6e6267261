/* SPDX-License-Identifier: Apache-2.0 */
/* mezz stop: end VMs that run. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <cli/commands.h>
#include <cli/common.h>
#include <policy/units.h>

#define WAIT_DEFAULT_MS 60000

static const char
	usage[] = "stop NAME... [--wait TIME] [--force | --vm | --kill]\n\n"
		  "Press the power button of VMs and wait until they are off. A guest that does not listen\n"
		  "to it goes on; --force ends it then.";

enum {
	STOP_FORCE,
	STOP_VM,
	STOP_KILL,
	STOP_WAIT
};
static const struct cli_option options[] = {
	[STOP_FORCE] = {"force", 'f', NULL,
			"end a VM that is not off after that time"},
	[STOP_VM] = {"vm", 0, NULL,
		     "do not press it, but end the VM: as if by its plug"},
	[STOP_KILL] = {"kill", 'k', NULL, "kill its process"},
	[STOP_WAIT] = {"wait", 'w', "TIME",
		       "wait so long (60s); 0 does not wait"},
	{NULL, 0, NULL, NULL},
};

static int stop_one(struct cli *cli, const char *name, const json_t *body)
{
	const struct client_request req = {.op = API_STOP_VM_OP,
					   .name = name,
					   .body = body};
	struct api_vm vm = {0};
	const int status = cli_call(cli, &req, &vm);

	if (status == CLI_OK)
		printf("%s %s\n", name,
		       vm.runtime.power == API_POWERED_OFF ? "is off"
		       : cli->values[STOP_KILL] || cli->values[STOP_VM]
			       ? "is ending"
			       : "has been told to switch off");
	api_release(&api_vm_schema, &vm);
	return status < 0 ? CLI_OK : status;
}

int cmd_stop(int argc, char *argv[])
{
	struct cli cli;
	int status = cli_begin(&cli, argc, argv, usage, options, 1, CLI_ARGS);
	struct err err = {0};
	uint64_t ms = WAIT_DEFAULT_MS;

	if (status >= 0)
		return status;
	if (cli.values[STOP_WAIT] &&
	    duration_parse(cli.values[STOP_WAIT], &ms, &err)) {
		err_prefix(&err, "--wait: ");
		return cli_end(&cli, cli_fail(&err));
	}
	json_t *body = json_pack("{s:s, s:I, s:b}", "how",
				 cli.values[STOP_KILL] ? "kill"
				 : cli.values[STOP_VM] ? "vm"
						       : "guest",
				 "waitMs", (json_int_t)ms, "force",
				 cli.values[STOP_FORCE] != NULL);
	int worst = CLI_OK;

	for (int i = 0; i < cli.n_args; i++) {
		status = stop_one(&cli, cli.args[i], body);
		worst = status > worst ? status : worst;
	}
	json_decref(body);
	return cli_end(&cli, worst);
}
