/* SPDX-License-Identifier: Apache-2.0 */
/* mezz stop: end VMs that run. */
#include <stdio.h>
#include <stdlib.h>

#include <cli/commands.h>
#include <cli/common.h>
#include <policy/units.h>

static const char usage[] =
	"stop NAME... [--vm | --kill] [--wait TIME]\n\n"
	"Press the power button of VMs; what the guest does then is its business.";

enum {
	STOP_VM,
	STOP_KILL,
	STOP_WAIT
};
static const struct cli_option options[] = {
	[STOP_VM] = {"vm", 0, NULL,
		     "end the VM in order, whatever its guest thinks"},
	[STOP_KILL] = {"kill", 'k', NULL, "kill its process"},
	[STOP_WAIT] = {"wait", 'w', "TIME",
		       "come back when it has ended: 30s, 2min"},
	{NULL, 0, NULL, NULL},
};

int cmd_stop(int argc, char *argv[])
{
	struct cli cli;
	int status = cli_begin(&cli, argc, argv, usage, options, 1, CLI_ARGS);
	struct err err = {0};
	uint64_t ms = 0;

	if (status >= 0)
		return status;
	if (cli.values[STOP_WAIT] &&
	    duration_parse(cli.values[STOP_WAIT], &ms, &err))
		return cli_end(&cli, cli_fail(&err));
	json_t *body = json_pack("{s:s, s:I}", "how",
				 cli.values[STOP_KILL] ? "kill"
				 : cli.values[STOP_VM] ? "vm"
						       : "guest",
				 "waitMs", (json_int_t)ms);
	int worst = CLI_OK;

	for (int i = 0; i < cli.n_args; i++) {
		const struct client_request req = {.op = API_STOP_VM_OP,
						   .name = cli.args[i],
						   .body = body};

		status = cli_call(&cli, &req, NULL);
		if (status > 0)
			worst = status;
	}
	json_decref(body);
	return cli_end(&cli, worst);
}
