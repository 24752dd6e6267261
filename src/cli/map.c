/* SPDX-License-Identifier: Apache-2.0 */
/* mezz map: where a guest's memory is, drawn and listed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <cli/commands.h>
#include <cli/common.h>
#include <policy/units.h>

#define WIDTH 64

static const char letters[] = {
	[API_PAGE_ZERO] = '.',    [API_PAGE_HOME] = '#',
	[API_PAGE_SHARED] = 'S',  [API_PAGE_ZIPPED] = 'z',
	[API_PAGE_SWAPPED] = 'w', [API_PAGE_BALLOON] = 'o',
	[API_PAGE_INVALID] = '?',
};

/* One letter for each @scale pages: what most of them are. */
static void draw(const struct api_map *map, uint64_t scale)
{
	const struct api_page_run *runs = map->runs.v;
	size_t run = 0;

	for (uint64_t cell = 0; cell * scale < map->count; cell++) {
		const uint64_t first = map->first + cell * scale;
		uint64_t count[ARRAY_SIZE(letters)] = {0};
		unsigned int most = 0;

		for (uint64_t p = first; p < first + scale; p++) {
			while (run < map->runs.n &&
			       p >= runs[run].first + runs[run].count)
				run++;
			if (run < map->runs.n)
				count[runs[run].state]++;
		}
		for (unsigned int s = 0; s < ARRAY_SIZE(letters); s++)
			if (count[s] > count[most])
				most = s;
		if (cell % WIDTH == 0)
			printf("%s%012" PRIx64 "  ", cell ? "\n" : "",
			       first * PAGE_SIZE);
		putchar(letters[most]);
	}
	printf("\n\n. zero   # home   S shared   z zipped   w swapped   o balloon; one letter is %" PRIu64
	       " KiB\n",
	       scale * PAGE_SIZE / 1024);
}

static void print_place(const struct api_page_run *r)
{
	switch (r->state) {
	case API_PAGE_HOME:
		printf("home file, page %" PRIu64, r->slot);
		break;
	case API_PAGE_SHARED:
		printf("group frame %" PRIu64 ", %" PRIu64 " sharers", r->slot,
		       r->sharers);
		break;
	case API_PAGE_ZIPPED:
		printf("zip slots from %" PRIu64 ", %" PRIu64 " bytes", r->slot,
		       r->bytes);
		break;
	case API_PAGE_SWAPPED:
		printf("swap file, page %" PRIu64, r->slot);
		break;
	case API_PAGE_ZERO:
	case API_PAGE_BALLOON:
	case API_PAGE_INVALID:
		printf("no machine memory");
		break;
	}
}

static void list(const struct api_map *map)
{
	const struct api_page_run *runs = map->runs.v;

	printf("%-16s %8s  %-8s %s\n", "GUEST PHYSICAL", "PAGES", "STATE",
	       "WHERE THE BYTES ARE");
	for (size_t i = 0; i < map->runs.n; i++) {
		const struct api_page *with = runs[i].with.v;

		printf("%016" PRIx64 " %8" PRIu64 "  %-8s ",
		       runs[i].first * PAGE_SIZE, runs[i].count,
		       api_page_state_name(runs[i].state));
		print_place(&runs[i]);
		for (size_t k = 0; k < runs[i].with.n; k++)
			printf("%s%s:%" PRIx64, k ? ", " : "; with ",
			       with[k].vm, with[k].ppn * PAGE_SIZE);
		printf("%s\n", runs[i].moving ? " (moving)" : "");
	}
}

enum {
	MAP_LIST,
	MAP_FROM,
	MAP_SIZE
};
static const struct cli_option options[] = {
	[MAP_LIST] = {"list", 'l', NULL, "list runs of pages instead of drawing"},
	[MAP_FROM] = {"from", 0, "SIZE", "begin there, guest physical"},
	[MAP_SIZE] = {"size", 0, "SIZE", "that much"},
	{NULL, 0, NULL, NULL},
};

int cmd_map(int argc, char *argv[])
{
	struct api_map map = {0};
	struct err err = {0};
	struct cli cli;
	uint64_t from = 0, size = 0;
	char query[96];
	int status = cli_begin(
		&cli, argc, argv,
		"map NAME [--list] [--from SIZE] [--size SIZE]\n\n"
		"Draw where the pages of a VM are: guest physical to machine.",
		options, 1, 1);

	if (status >= 0)
		return status;
	if ((cli.values[MAP_FROM] &&
	     size_parse_pages(cli.values[MAP_FROM], &from, &err)) ||
	    (cli.values[MAP_SIZE] &&
	     size_parse_pages(cli.values[MAP_SIZE], &size, &err)))
		return cli_end(&cli, cli_fail(&err));
	snprintf(query, sizeof(query), "first=%" PRIu64 "&count=%" PRIu64, from,
		 size);
	const struct client_request req = {.op = API_MAP_VM,
					   .name = cli.args[0],
					   .query = query};

	status = cli_call(&cli, &req, &map);
	if (status == CLI_OK && cli.values[MAP_LIST])
		list(&map);
	else if (status == CLI_OK)
		draw(&map, map.count / (WIDTH * 32) + 1);
	api_release(&api_map_schema, &map);
	return cli_end(&cli, status < 0 ? CLI_OK : status);
}
