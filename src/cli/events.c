/* SPDX-License-Identifier: Apache-2.0 */
/* mezz events: what happens, as it happens. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cli/commands.h>
#include <cli/common.h>

static bool print_event(void *ctx, const char *kind, const json_t *data)
{
	const struct cli *cli = ctx;
	struct api_event e = {0};
	char when[32];

	if (strcmp(kind, "event") != 0)
		return true;
	if (cli->json) {
		json_dumpf(data, stdout, JSON_COMPACT);
		putchar('\n');
	} else if (!api_decode(&api_event_schema, data, API_WHOLE, &e, NULL)) {
		const time_t t = (time_t)(e.time_ms / 1000);
		struct tm tm;

		if (!localtime_r(&t, &tm) ||
		    !strftime(when, sizeof(when), "%F %T", &tm))
			when[0] = 0;
		printf("%s  %-14s %-16s %s\n", when, e.kind, e.vm, e.text);
	}
	return !fflush(stdout);
}

int cmd_events(int argc, char *argv[])
{
	static const struct cli_option options[] = {
		{"all", 'a', NULL,
		 "begin with the last ones that mezzd remembers"},
		{NULL, 0, NULL, NULL},
	};
	struct err err = {0};
	struct cli cli;
	int status = cli_begin(&cli, argc, argv,
			       "events [--all]\n\nPrint events until interrupted.",
			       options, 0, 0);

	if (status >= 0)
		return status;
	if (client_stream(cli.client, cli.values[0] ? "since=0" : NULL,
			  print_event, &cli, &err))
		status = cli_fail(&err);
	return cli_end(&cli, status < 0 ? CLI_OK : status);
}
