/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of mezz-vm: one table for the program itself, for its help text, and for those
 * who start it and must find some of them among others.
 */
#ifndef API_VM_OPTIONS_H
#define API_VM_OPTIONS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* RAM of a VM, bytes; in whole pages. */
#define VM_MEMORY_MIN (UINT64_C(16) << 20)
#define VM_MEMORY_MAX (UINT64_C(512) << 30)

enum vm_option_id {
	VM_OPT_MEMORY,
	VM_OPT_CPUS,
	VM_OPT_KERNEL,
	VM_OPT_INITRD,
	VM_OPT_APPEND,
	VM_OPT_EXEC,
	VM_OPT_BARE,
	VM_OPT_PROTOCOL,
	VM_OPT_DISK,
	VM_OPT_NET,
	VM_OPT_ENGINE,
	VM_OPT_MMU,
	VM_OPT_SHADOW_MEMORY,
	VM_OPT_WITHOUT,
	VM_OPT_TRANSLATE_AT_ONCE,
	VM_OPT_CPU,
	VM_OPT_CLOCK,
	VM_OPT_STATS,
	VM_OPT_TIMEOUT,
	VM_OPT_REVOKE_STRESS,
	VM_OPT_REVOKE_SEED,
	VM_OPT_AUDIT,
	VM_OPT_MEMORY_LIMIT,
	VM_OPT_LINK,
	VM_OPT_BALLOON,
	VM_OPT_CONSOLE,
	VM_OPT_EXIT_PORT,
	VM_OPT_VERBOSE,
	VM_OPT_HELP,
};

/**
 * struct vm_option - one option.
 * @id: which
 * @name: after the two dashes
 * @letter: after one dash, or 0
 * @value: what it takes, for the help; NULL: nothing
 * @help: one line
 */
struct vm_option {
	enum vm_option_id id;
	const char *name;
	char letter;
	const char *value;
	const char *help;
};

/**
 * vm_option_find() - the option that a word names.
 * @word: word of a command line
 * @ret_value: set to what is glued to it by '=', or NULL
 *
 * Return: its row, or NULL.
 */
const struct vm_option *vm_option_find(const char *word, const char **ret_value);

/** vm_options_usage() - all of them as text for people, each line ended. */
const char *vm_options_usage(void);

#endif
