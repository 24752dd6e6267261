/* SPDX-License-Identifier: Apache-2.0 */
/* mezz start: start VMs that are defined. */
#include <stdio.h>

#include <cli/commands.h>
#include <cli/common.h>

int cmd_start(int argc, char *argv[])
{
	struct cli cli;
	int status = cli_begin(
		&cli, argc, argv,
		"start NAME...\n\nStart VMs, each if its reservation fits.",
		NULL, 1, CLI_ARGS);
	int worst = CLI_OK;

	if (status >= 0)
		return status;
	for (int i = 0; i < cli.n_args; i++) {
		const struct client_request req = {.op = API_START_VM,
						   .name = cli.args[i]};

		status = cli_call(&cli, &req, NULL);
		if (status == CLI_OK)
			printf("%s runs\n", cli.args[i]);
		if (status > 0)
			worst = status;
	}
	return cli_end(&cli, worst);
}
