/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that talk to mezzd share: options, errors, sizes. */
#ifndef CLI_COMMON_H
#define CLI_COMMON_H
#include <api/client.h>
#include <cli/settings.h>

#define CLI_OK      0
#define CLI_FAILED  1
#define CLI_USAGE   2
#define CLI_ARGS    64
#define CLI_OPTIONS 16

/**
 * struct cli_option - an option of a command.
 * @name: after the two dashes; NULL ends the table
 * @letter: after one dash, or 0
 * @value: what it takes, for the help; NULL: nothing
 * @help: one line
 */
struct cli_option {
	const char *name;
	char letter;
	const char *value;
	const char *help;
};

/**
 * struct cli - a command that is being run.
 * @client: to mezzd
 * @json: print the answer as it came
 * @remote: mezzd may be on another machine
 * @args: words that are no options
 * @n_args: how many
 * @rest: words after --
 * @n_rest: how many
 * @words: options that define a VM or a pool
 * @values: by option of the command: its value, or "" if it takes none; NULL: not given
 */
struct cli {
	struct client *client;
	bool json;
	bool remote;
	const char *args[CLI_ARGS];
	int n_args;
	char **rest;
	int n_rest;
	struct cli_words words;
	const char *values[CLI_OPTIONS];
};

/**
 * cli_begin() - read the words of a command and be ready to talk to mezzd.
 * @cli: set; ended with cli_end()
 * @argc: number of @argv
 * @argv: the words after the command
 * @usage: "ls [--json]" and what it is for, in several lines
 * @options: of the command, or NULL; --json, --socket, --url, --help are always there
 * @min: fewest words that are no options
 * @max: most of them
 *
 * Return: -1 to go on, else the exit status, everything said.
 */
int cli_begin(struct cli *cli, int argc, char *argv[], const char *usage,
	      const struct cli_option *options, int min, int max);

/**
 * cli_begin_defining() - cli_begin() for a command that defines a VM or a pool.
 * @kind: which; its settings are options too, and so are those of a VM's process
 *
 * All else is as there: @cli, @argc, @argv, @usage, @options, @min, @max, and the result.
 */
int cli_begin_defining(struct cli *cli, enum cli_words_kind kind, int argc,
		       char *argv[], const char *usage,
		       const struct cli_option *options, int min, int max);

/** cli_end() - free it. Return: @status. */
int cli_end(struct cli *cli, int status);

/** cli_fail() - tell why. Return: CLI_FAILED. */
int cli_fail(const struct err *err);

/** cli_print_json() - print and release. Return: CLI_OK. */
int cli_print_json(json_t *json);

/**
 * cli_call() - ask mezzd; print the answer if that is wanted as JSON, or say what failed.
 * @cli: command
 * @request: what to ask
 * @reply: zeroed reply to decode into, or NULL
 *
 * Return: CLI_OK: @reply is there; -1: it has been printed; CLI_FAILED.
 */
int cli_call(struct cli *cli, const struct client_request *request, void *reply);

/**
 * cli_settings() - settings given as options, and KEY=VALUE words from @first on.
 *
 * Return: new object, NULL: said why.
 */
json_t *cli_settings(const struct cli *cli, int first);

/** cli_vm_args() - options of the VM's process, before and after --. Return: new array. */
json_t *cli_vm_args(const struct cli *cli);

/**
 * vm_memory_pages() - memory that a guest has.
 * @vm: a VM
 *
 * Return: pages: of one that runs what it was started with, for a change waits for its next start;
 * else what it is defined with.
 */
uint64_t vm_memory_pages(const struct api_vm *vm);

/** mib() - pages in MiB, for the eye. */
double mib(uint64_t pages);

#endif
