/* SPDX-License-Identifier: Apache-2.0 */
/* mezz set: change the settings of a VM, also while it runs. */
#include <stdio.h>

#include <cli/commands.h>
#include <cli/common.h>

int cmd_set(int argc, char *argv[])
{
	struct cli cli;
	int status = cli_begin_defining(
		&cli, CLI_WORDS_VM, argc, argv,
		"set NAME [OPTION]... [KEY=VALUE]... [-- OPTION-OF-THE-VM...]\n\n"
		"Change a VM: at once, but for memory, group and options of its process, which wait for\n"
		"its next start and replace those that it had. Settings may be written KEY=VALUE as well.\n"
		"What is not named stays as it is; in brackets is what mezz create gives.",
		NULL, 1, CLI_ARGS);

	if (status >= 0)
		return status;
	json_t *body = cli_settings(&cli, 1);

	if (body && (cli.rest || cli.words.n_args))
		json_object_set_new(body, "args", cli_vm_args(&cli));
	const struct client_request req = {.op = API_SET_VM,
					   .name = cli.args[0],
					   .body = body};

	status = body ? cli_call(&cli, &req, NULL) : CLI_FAILED;
	json_decref(body);
	return cli_end(&cli, status < 0 ? CLI_OK : status);
}
