/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a command line, and settings as people write them. */
#include <cli/common.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/units.h>

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

struct words {
	int argc;
	char **argv;
	int at;
	const char *usage;
	const struct cli_option *options;
	const char *common[COMMON_N];
};

static void print_options(FILE *to, const struct cli_option *o, int width)
{
	for (; o && o->name; o++) {
		char left[64];

		snprintf(left, sizeof(left), "--%s%s%s", o->name,
			 o->value ? " " : "", o->value ? o->value : "");
		if (o->letter)
			fprintf(to, "  -%c, %-*s %s\n", o->letter, width, left,
				o->help);
		else
			fprintf(to, "      %-*s %s\n", width, left, o->help);
	}
}

static int usage_error(const char *usage, const char *what, const char *word)
{
	fprintf(stderr, "mezz: %s%s\nusage: mezz %.*s\n", what, word,
		(int)strcspn(usage, "\n"), usage);
	return CLI_USAGE;
}

static int help(const struct words *w, enum cli_words_kind kind)
{
	const int width = kind == CLI_WORDS_NONE ? 24 : CLI_WORDS_COLUMN;

	printf("usage: mezz %s\n\n", w->usage);
	cli_words_help(kind, stdout);
	print_options(stdout, w->options, width);
	print_options(stdout, common_options, width);
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

/* An option that defines a VM or a pool, the one before @at. Return: as read_option(). */
static int read_defining(struct cli *cli, struct words *w, const char *word)
{
	const int n = cli_words_read(&cli->words, w->argc - w->at + 1,
				     w->argv + w->at - 1);

	if (n == CLI_WORDS_NO_VALUE)
		return usage_error(w->usage, "a value is missing after ", word);
	if (n == CLI_WORDS_TOO_MANY)
		return usage_error(w->usage, "too many words", "");
	if (!n)
		return usage_error(w->usage, "there is no option ", word);
	w->at += n - 1;
	return -1;
}

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
		return read_defining(cli, w, word);
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
	return cli_begin_defining(cli, CLI_WORDS_NONE, argc, argv, usage,
				  options, min, max);
}

int cli_begin_defining(struct cli *cli, enum cli_words_kind kind, int argc,
		       char *argv[], const char *usage,
		       const struct cli_option *options, int min, int max)
{
	struct words w = {.argc = argc,
			  .argv = argv,
			  .usage = usage,
			  .options = options};
	struct err err = {0};

	memset(cli, 0, sizeof(*cli));
	cli->words.kind = kind;
	const int status = read_words(cli, &w);

	if (status >= 0)
		return status;
	if (w.common[COMMON_HELP])
		return help(&w, kind);
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

json_t *cli_settings(const struct cli *cli, int first)
{
	struct err err = {0};
	json_t *body = cli_words_settings(&cli->words, cli->args + first,
					  cli->n_args - first, &err);

	if (!body)
		cli_fail(&err);
	return body;
}

json_t *cli_vm_args(const struct cli *cli)
{
	json_t *list = cli_words_args(cli->words.args, cli->words.n_args,
				      cli->remote);
	json_t *rest = cli_words_args(cli->rest, cli->n_rest, cli->remote);

	json_array_extend(list, rest);
	json_decref(rest);
	return list;
}

uint64_t vm_memory_pages(const struct api_vm *vm)
{
	const struct api_stats *s = &vm->stats;
	const uint64_t has = s->granted_pages + s->ballooned_pages +
			     s->compressed_pages + s->swapped_pages;

	return has ? has : vm->config.size_pages;
}

double mib(uint64_t pages)
{
	return (double)pages / (double)MIB_PAGES;
}
