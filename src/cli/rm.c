/* SPDX-License-Identifier: Apache-2.0 */
/* mezz rm: forget VMs that do not run. */
#include <stdio.h>

#include <cli/commands.h>
#include <cli/common.h>

int cmd_rm(int argc, char *argv[])
{
	struct cli cli;
	int status = cli_begin(
		&cli, argc, argv,
		"rm NAME...\n\nRemove definitions of VMs that do not run, and their files.",
		NULL, 1, CLI_ARGS);
	int worst = CLI_OK;

	if (status >= 0)
		return status;
	for (int i = 0; i < cli.n_args; i++) {
		const struct client_request req = {.op = API_REMOVE_VM,
						   .name = cli.args[i]};

		status = cli_call(&cli, &req, NULL);
		if (status > 0)
			worst = status;
	}
	return cli_end(&cli, worst);
}
