/* SPDX-License-Identifier: Apache-2.0 */
/* mezz map: where a guest's memory is, drawn and listed. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <base/units.h>
#include <cli/commands.h>
#include <cli/common.h>

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

/* How the guest's own tables lead to the first page. */
static void print_walk(const struct api_map *map)
{
	static const char *const names[] = {"", "PT", "PD", "PDPT", "PML4"};
	const struct api_walk_step *steps = map->walk.v;

	printf("The guest's page tables:\n");
	for (size_t i = 0; i < map->walk.n; i++)
		printf("  %-5s at %012" PRIx64 " [%3u]  %s\n",
		       steps[i].level < ARRAY_SIZE(names) ? names[steps[i].level]
							  : "",
		       steps[i].table, steps[i].index, steps[i].entry);
	printf("  lead to %s\n\n", map->walk_end);
}

static void print_run(const struct api_page_run *r, bool frames)
{
	const struct api_page *with = r->with.v;

	if (*r->virtual_address)
		printf("%-18s ", r->virtual_address);
	printf("%012" PRIx64 " %8" PRIu64 "  %-8s ", r->first * PAGE_SIZE,
	       r->count, api_page_state_name(r->state));
	if (frames && r->frame)
		printf("%012" PRIx64 "  ", r->frame * PAGE_SIZE);
	else if (frames)
		printf("%-12s  ", "-");
	print_place(r);
	for (size_t k = 0; k < r->with.n; k++)
		printf("%s%s:%" PRIx64, k ? ", " : "; with ", with[k].vm,
		       with[k].ppn * PAGE_SIZE);
	printf("%s\n", r->moving ? " (moving)" : "");
}

static void list(const struct api_map *map, bool frames)
{
	const struct api_page_run *runs = map->runs.v;
	const bool is_virtual = map->walk.n;

	if (is_virtual) {
		print_walk(map);
		printf("%-18s ", "GUEST VIRTUAL");
	}
	printf("%-12s %8s  %-8s ", "PHYSICAL", "PAGES", "STATE");
	if (frames)
		printf("%-12s  ", "MACHINE");
	printf("WHERE THE BYTES ARE\n");
	for (size_t i = 0; i < map->runs.n; i++)
		print_run(&runs[i], frames);
}

enum {
	MAP_LIST,
	MAP_FROM,
	MAP_SIZE,
	MAP_VIRTUAL,
	MAP_FRAMES
};
static const struct cli_option options[] = {
	[MAP_LIST] = {"list", 'l', NULL, "list runs of pages instead of drawing"},
	[MAP_FROM] = {"from", 0, "SIZE", "begin there, guest physical"},
	[MAP_SIZE] = {"size", 0, "SIZE", "that much"},
	[MAP_VIRTUAL] = {"virtual", 'v', "ADDRESS",
			 "begin at this guest virtual address; list"},
	[MAP_FRAMES] = {"frames", 'f', NULL,
			"list with the host's machine addresses"},
	{NULL, 0, NULL, NULL},
};

static int make_query(const struct cli *cli, char *query, size_t size,
		      struct err *err)
{
	const char *text = cli->values[MAP_VIRTUAL];
	uint64_t from = 0, count = 0;
	char *end = NULL;
	int r = 0, n;

	if (cli->values[MAP_FROM])
		r = size_parse_pages(cli->values[MAP_FROM], &from, err);
	if (!r && cli->values[MAP_SIZE])
		r = size_parse_pages(cli->values[MAP_SIZE], &count, err);
	if (r)
		return r;
	/* A page of tables and a few more is what one looks at. */
	if (text && !count)
		count = 16;
	n = snprintf(query, size,
		     "first=%" PRIu64 "&count=%" PRIu64 "&frames=%d", from,
		     count, cli->values[MAP_FRAMES] != NULL);
	if (!text)
		return 0;
	errno = 0;
	const uint64_t address = strtoull(text, &end, 16);

	if (end == text || *end || errno)
		return err_set(err, -EINVAL,
			       "--virtual: '%s' is not a hexadecimal address",
			       text);
	snprintf(query + n, size - (size_t)n, "&virtual=%" PRIu64, address);
	return 0;
}

int cmd_map(int argc, char *argv[])
{
	struct api_map map = {0};
	struct err err = {0};
	struct cli cli;
	char query[160];
	int status = cli_begin(
		&cli, argc, argv,
		"map NAME [--list] [--from SIZE] [--size SIZE] [--virtual ADDRESS] [--frames]\n\n"
		"Draw where the pages of a VM are: guest physical to machine; or from a guest virtual\n"
		"address by the guest's own page tables, as its processor had them a moment ago.",
		options, 1, 1);

	if (status >= 0)
		return status;
	if (make_query(&cli, query, sizeof(query), &err))
		return cli_end(&cli, cli_fail(&err));
	const struct client_request req = {.op = API_MAP_VM,
					   .name = cli.args[0],
					   .query = query};

	status = cli_call(&cli, &req, &map);
	if (status == CLI_OK && (cli.values[MAP_LIST] || cli.values[MAP_VIRTUAL] ||
				 cli.values[MAP_FRAMES]))
		list(&map, cli.values[MAP_FRAMES]);
	else if (status == CLI_OK)
		draw(&map, map.count / (WIDTH * 32) + 1);
	api_release(&api_map_schema, &map);
	return cli_end(&cli, status < 0 ? CLI_OK : status);
}
