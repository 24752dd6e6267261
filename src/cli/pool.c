/* SPDX-License-Identifier: Apache-2.0 */
/* mezz pool: resource pools. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <cli/commands.h>
#include <cli/common.h>

static void print_pool(const struct api_pool *p)
{
	const struct mem_alloc *a = &p->config.alloc;
	char limit[16] = "-";

	if (a->limit_pages != ALLOC_UNLIMITED)
		snprintf(limit, sizeof(limit), "%.1f", mib(a->limit_pages));
	printf("%-20s %-16s %10.1f %10.1f %10.1f %10s %10" PRIu32
	       " %10.1f %10.1f\n",
	       *p->name ? p->name : "(host)", p->config.parent,
	       mib(a->reservation_pages), mib(p->reservation_used_pages),
	       mib(p->unreserved_pages), limit, a->shares,
	       mib(p->entitlement_pages), mib(p->consumed_pages));
}

static int list(struct cli *cli)
{
	const struct client_request req = {.op = API_LIST_POOLS};
	struct api_pools pools = {0};
	const int status = cli_call(cli, &req, &pools);
	const struct api_pool *p = pools.pools.v;

	if (status == CLI_OK)
		printf("%-20s %-16s %10s %10s %10s %10s %10s %10s %10s\n",
		       "POOL", "PARENT", "RESERVED", "USED", "UNRESERVED",
		       "LIMIT", "SHARES", "ENTITLED", "CONSUMED");
	for (size_t i = 0; status == CLI_OK && i < pools.pools.n; i++)
		print_pool(&p[i]);
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
