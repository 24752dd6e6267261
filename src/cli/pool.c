/* SPDX-License-Identifier: Apache-2.0 */
/* mezz pool: resource pools. */
#include <stdio.h>
#include <string.h>

#include <cli/commands.h>
#include <cli/common.h>

static int list(struct cli *cli)
{
	const struct client_request req = {.op = API_LIST_POOLS};
	struct api_pools pools = {0};
	const int status = cli_call(cli, &req, &pools);
	const struct api_pool *p = pools.pools.v;

	if (status == CLI_OK)
		printf("%-20s %-16s %10s %10s %10s %10s %10s\n", "POOL",
		       "PARENT", "RESERVED", "USED", "UNRESERVED", "ENTITLED",
		       "CONSUMED");
	for (size_t i = 0; status == CLI_OK && i < pools.pools.n; i++)
		printf("%-20s %-16s %10.1f %10.1f %10.1f %10.1f %10.1f\n",
		       *p[i].name ? p[i].name : "(host)", p[i].config.parent,
		       mib(p[i].config.alloc.reservation_pages),
		       mib(p[i].reservation_used_pages),
		       mib(p[i].unreserved_pages), mib(p[i].entitlement_pages),
		       mib(p[i].consumed_pages));
	api_release(&api_pools_schema, &pools);
	return status;
}

static int set(struct cli *cli)
{
	json_t *body = cli_settings(cli, 2);
	const struct client_request req = {.op = API_SET_POOL,
					   .name = cli->args[1],
					   .body = body};
	const int status = body ? cli_call(cli, &req, NULL) : CLI_FAILED;

	json_decref(body);
	return status;
}

static int dispatch(struct cli *cli)
{
	const struct client_request rm = {.op = API_REMOVE_POOL,
					  .name = cli->args[1]};

	if (!strcmp(cli->args[0], "ls") && cli->n_args == 1)
		return list(cli);
	if (!strcmp(cli->args[0], "set") && cli->n_args >= 2)
		return set(cli);
	if (!strcmp(cli->args[0], "rm") && cli->n_args == 2)
		return cli_call(cli, &rm, NULL);
	fprintf(stderr,
		"mezz: pool takes ls, set NAME [OPTION]... or rm NAME\n");
	return CLI_USAGE;
}

int cmd_pool(int argc, char *argv[])
{
	struct cli cli;
	int status = cli_begin_defining(
		&cli, CLI_WORDS_POOL, argc, argv,
		"pool ls | set NAME [OPTION]... [KEY=VALUE]... | rm NAME\n\n"
		"Resource pools. Settings may be written KEY=VALUE as well.",
		NULL, 1, CLI_ARGS);

	if (status >= 0)
		return status;
	status = dispatch(&cli);
	return cli_end(&cli, status < 0 ? CLI_OK : status);
}
