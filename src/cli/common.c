/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a command line, and settings as people write them. */
#include <cli/common.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <policy/units.h>

static const struct cli_option common_options[] = {
	{"json", 'j', NULL, "print the answer of mezzd as it is"},
	{"socket", 0, "PATH", "socket of mezzd ($MEZZ_SOCKET)"},
	{"url", 0, "URL",
	 "http://ADDRESS:PORT instead; $MEZZ_TOKEN is its token"},
	{"help", 'h', NULL, "this text"},
	{NULL, 0, NULL, NULL},
};
enum {
	COMMON_JSON,
	COMMON_SOCKET,
	COMMON_URL,
	COMMON_HELP,
	COMMON_N
};

static void print_options(FILE *to, const struct cli_option *o)
{
	for (; o && o->name; o++) {
		char left[64];

		snprintf(left, sizeof(left), "--%s%s%s", o->name,
			 o->value ? " " : "", o->value ? o->value : "");
		if (o->letter)
			fprintf(to, "  -%c, %-24s %s\n", o->letter, left,
				o->help);
		else
			fprintf(to, "      %-24s %s\n", left, o->help);
	}
}

static int usage_error(const char *usage, const char *what, const char *word)
{
	fprintf(stderr, "mezz: %s%s\nusage: mezz %.*s\n", what, word,
		(int)strcspn(usage, "\n"), usage);
	return CLI_USAGE;
}

static int help(const char *usage, const struct cli_option *options)
{
	printf("usage: mezz %s\n\n", usage);
	print_options(stdout, options);
	print_options(stdout, common_options);
	return CLI_OK;
}

/* Index in a table, or -1; @ret_glued: what stands after '='. */
static int find_option(const struct cli_option *o, const char *word,
		       const char **ret_glued)
{
	*ret_glued = NULL;
	for (int i = 0; o && o[i].name; i++) {
		const size_t n = strlen(o[i].name);

		if (o[i].letter && word[1] == o[i].letter && !word[2])
			return i;
		if (strncmp(word, "--", 2) || strncmp(word + 2, o[i].name, n))
			continue;
		if (!word[2 + n])
			return i;
		if (word[2 + n] == '=' && o[i].value) {
			*ret_glued = word + n + 3;
			return i;
		}
	}
	return -1;
}

struct words {
	int argc;
	char **argv;
	int at;
	const char *usage;
	const struct cli_option *options;
	const char *common[COMMON_N];
};

/* Return: -1 to go on, else the exit status. */
static int read_option(struct cli *cli, struct words *w)
{
	const char *word = w->argv[w->at++], *glued;
	const struct cli_option *table = w->options;
	const char **values = cli->values;
	int i = find_option(table, word, &glued);

	if (i < 0) {
		table = common_options;
		values = w->common;
		i = find_option(table, word, &glued);
	}
	if (i < 0)
		return usage_error(w->usage, "there is no option ", word);
	if (table[i].value && !glued && w->at == w->argc)
		return usage_error(w->usage, "a value is missing after ", word);
	values[i] = !table[i].value ? "" : glued ? glued : w->argv[w->at++];
	return -1;
}

static int read_words(struct cli *cli, struct words *w)
{
	while (w->at < w->argc) {
		const char *word = w->argv[w->at];

		if (!strcmp(word, "--")) {
			cli->rest = w->argv + w->at + 1;
			cli->n_rest = w->argc - w->at - 1;
			return -1;
		}
		if (word[0] == '-' && word[1]) {
			const int status = read_option(cli, w);

			if (status >= 0)
				return status;
			continue;
		}
		if (cli->n_args == CLI_ARGS)
			return usage_error(w->usage, "too many words", "");
		cli->args[cli->n_args++] = word;
		w->at++;
	}
	return -1;
}

int cli_begin(struct cli *cli, int argc, char *argv[], const char *usage,
	      const struct cli_option *options, int min, int max)
{
	struct words w = {.argc = argc,
			  .argv = argv,
			  .usage = usage,
			  .options = options};
	struct err err = {0};

	memset(cli, 0, sizeof(*cli));
	const int status = read_words(cli, &w);

	if (status >= 0)
		return status;
	if (w.common[COMMON_HELP])
		return help(usage, options);
	if (cli->n_args < min)
		return usage_error(usage, "words are missing", "");
	if (cli->n_args > max)
		return usage_error(usage, "what is ", cli->args[max]);
	cli->json = w.common[COMMON_JSON];
	cli->remote = w.common[COMMON_URL];
	const struct client_config cfg = {.socket_path = w.common[COMMON_SOCKET],
					  .url = w.common[COMMON_URL],
					  .token = getenv("MEZZ_TOKEN")};

	return client_new(&cfg, &cli->client, &err) ? cli_fail(&err) : -1;
}

int cli_end(struct cli *cli, int status)
{
	cli->client = client_free(cli->client);
	return status;
}

int cli_fail(const struct err *err)
{
	fprintf(stderr, "mezz: %s\n", err->text);
	return CLI_FAILED;
}

int cli_print_json(json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(json);
	return CLI_OK;
}

int cli_call(struct cli *cli, const struct client_request *request, void *reply)
{
	struct err err = {0};
	json_t *json = NULL;

	if (client_call(cli->client, request, reply, &json, &err))
		return cli_fail(&err);
	if (!cli->json) {
		json_decref(json);
		return CLI_OK;
	}
	cli_print_json(json);
	return -1;
}

/* The object "memoryAllocation" of a request, made if it is not there. Borrowed. */
static json_t *allocation(json_t *body)
{
	json_t *a = json_object_get(body, "memoryAllocation");

	if (!a) {
		a = json_object();
		json_object_set_new(body, "memoryAllocation", a);
	}
	return a;
}

static int set_size(json_t *to, const char *name, const char *value,
		    struct err *err)
{
	uint64_t pages;
	const int r = size_parse_pages(value, &pages, err);

	if (!r)
		json_object_set_new(to, name,
				    json_integer(
					    (json_int_t)(pages * PAGE_SIZE)));
	return r;
}

static int set_limit(json_t *to, const char *name, const char *value,
		     struct err *err)
{
	if (strcmp(value, "unlimited") != 0)
		return set_size(to, name, value, err);
	json_object_set_new(to, name, json_integer(-1));
	return 0;
}

/* A level, or a number of shares. */
static int set_shares(json_t *to, const char *name, const char *value,
		      struct err *err)
{
	struct mem_alloc alloc;

	mem_alloc_init(&alloc);
	const int r = mem_alloc_set(&alloc, "shares", value, err);

	if (r)
		return r;
	json_t *shares = json_pack("{s:s}", "level",
				   shares_level_name(alloc.level));

	if (alloc.level == SHARES_CUSTOM)
		json_object_set_new(shares, "shares",
				    json_integer(alloc.shares));
	json_object_set_new(to, name, shares);
	return 0;
}

static int set_switch(json_t *to, const char *name, const char *value,
		      struct err *err)
{
	const bool yes = !strcmp(value, "on") || !strcmp(value, "true");

	if (!yes && strcmp(value, "off") != 0 && strcmp(value, "false") != 0)
		return err_set(err, -EINVAL, "'%s' is neither on nor off",
			       value);
	json_object_set_new(to, name, json_boolean(yes));
	return 0;
}

static int set_text(json_t *to, const char *name, const char *value,
		    struct err *err)
{
	json_t *j = json_string(value);

	if (!j)
		return err_set(err, -EINVAL, "this is no text in UTF-8");
	json_object_set_new(to, name, j);
	return 0;
}

struct setting {
	const char *key;
	const char *name; /* in JSON */
	bool promise;     /* in memoryAllocation */
	int (*set)(json_t *to, const char *name, const char *value,
		   struct err *err);
};

static const struct setting settings[] = {
	{"memory", "memorySize", false, set_size},
	{"reservation", "reservation", true, set_size},
	{"limit", "limit", true, set_limit},
	{"shares", "shares", true, set_shares},
	{"expandable", "expandableReservation", true, set_switch},
	{"pool", "resourcePool", false, set_text},
	{"parent", "parent", false, set_text},
	{"group", "shareGroup", false, set_text},
	{"sharing", "pageSharing", false, set_switch},
	{"floor", "memoryFloor", false, set_size},
	{"autostart", "autostart", false, set_switch},
};

int cli_setting(json_t *body, const char *key, const char *value,
		struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];

		if (strcmp(s->key, key) != 0)
			continue;
		const int r = s->set(s->promise ? allocation(body) : body,
				     s->name, value, err);

		if (r)
			err_prefix(err, "%s: ", key);
		return r;
	}
	return err_set(
		err, -ENOENT,
		"there is no setting '%s', but memory, reservation, limit, shares, pool, group, sharing, floor, autostart; for pools parent and expandable",
		key);
}

json_t *cli_settings(const struct cli *cli, int first)
{
	json_t *body = json_object();
	struct err err = {0};

	for (int i = first; i < cli->n_args; i++) {
		const char *equals = strchr(cli->args[i], '=');
		char key[32];

		if (!equals || equals - cli->args[i] >= (long)sizeof(key)) {
			err_set(&err, -EINVAL, "'%s' is not KEY=VALUE",
				cli->args[i]);
			goto failed;
		}
		snprintf(key, sizeof(key), "%.*s", (int)(equals - cli->args[i]),
			 cli->args[i]);
		if (cli_setting(body, key, equals + 1, &err))
			goto failed;
	}
	return body;
failed:
	cli_fail(&err);
	json_decref(body);
	return NULL;
}

json_t *cli_rest(const struct cli *cli)
{
	json_t *list = json_array();

	for (int i = 0; i < cli->n_rest; i++)
		json_array_append_new(list, json_string(cli->rest[i]));
	return list;
}

double mib(uint64_t pages)
{
	return (double)pages / (double)MIB_PAGES;
}
