/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of VMs and pools, and options of VMs' processes, as people write them: --limit 256M,
 * --limit=256M and limit=256M are the same, and --disk FILE is for the process.
 */
#ifndef CLI_SETTINGS_H
#define CLI_SETTINGS_H
#include <jansson.h>
#include <stdio.h>

#include <base/error.h>
#include <base/types.h>

#define CLI_WORDS          64
#define CLI_WORDS_NO_VALUE (-1)
#define CLI_WORDS_TOO_MANY (-2)
/* Width of an option in cli_words_help(). */
#define CLI_WORDS_COLUMN 32

enum cli_words_kind {
	CLI_WORDS_NONE,
	CLI_WORDS_VM,
	CLI_WORDS_POOL,
};

/**
 * struct cli_words - options that define a VM or a pool, in the order of the command line.
 * @kind: what is defined
 * @set: settings: key and value
 * @n_set: how many
 * @args: for the VM's process
 * @n_args: how many
 */
struct cli_words {
	enum cli_words_kind kind;
	const char *set[CLI_WORDS][2];
	int n_set;
	char *args[CLI_WORDS];
	int n_args;
};

/**
 * cli_words_read() - take an option that defines.
 * @w: where to keep it; its texts stay where they are
 * @left: how many words are left, at least 1
 * @argv: they
 *
 * Return: how many words it is, 0: it is none of these; CLI_WORDS_NO_VALUE, CLI_WORDS_TOO_MANY.
 */
int cli_words_read(struct cli_words *w, int left, char *const *argv);

/** cli_words_help() - the settings of a kind as options, a line each. */
void cli_words_help(enum cli_words_kind kind, FILE *to);

/**
 * cli_words_settings() - the settings as a request.
 * @w: what was given as options
 * @words: KEY=VALUE words that come after them
 * @n: how many
 * @err: names the setting and what is wrong with it
 *
 * Return: new object, or NULL.
 */
json_t *cli_words_settings(const struct cli_words *w, const char *const *words,
			   int n, struct err *err);

/**
 * cli_words_args() - options of a VM's process as a list.
 * @argv: words
 * @n: how many
 * @remote: files are named on another machine; else from the current folder
 *
 * Return: new array.
 */
json_t *cli_words_args(char *const *argv, int n, bool remote);

#endif
