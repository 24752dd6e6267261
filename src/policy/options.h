/* SPDX-License-Identifier: Apache-2.0 */
/* Advanced options of the host: ESXi's names, defaults, ranges and units. */
#ifndef POLICY_OPTIONS_H
#define POLICY_OPTIONS_H
#include <base/error.h>
#include <base/types.h>

/* In the order of the names. Each is an index into struct options and the table. */
enum option_id {
	OPT_ALLOC_GUEST_LARGE_PAGE,
	OPT_BALANCE_PERIOD,
	OPT_CTL_MAX_PERCENT,
	OPT_IDLE_TAX,
	OPT_IDLE_TAX_TYPE,
	OPT_MEM_MIN_FREE_PCT,
	OPT_MEM_ZIP_ENABLE,
	OPT_MEM_ZIP_MAX_ALLOC_PCT,
	OPT_MEM_ZIP_MAX_PCT,
	OPT_SAMPLE_ACTIVE_PCT_MIN,
	OPT_SAMPLE_COUNT,
	OPT_SAMPLE_PERIOD,
	OPT_SHARE_FORCE_SALTING,
	OPT_SHARE_RATE_MAX,
	OPT_SHARE_SCAN_GHZ,
	OPT_SHARE_SCAN_TIME,
	OPT_SHARE_SKIP_MAX,
	OPT_SWEEP_ENABLE,
	OPT_VM_OVERHEAD_GROWTH_LIMIT,
	OPTIONS_COUNT,
};

/* Text of an option without a limit, where the range allows OPTION_UNLIMITED. */
#define OPTION_UNLIMITED UINT32_MAX

/**
 * struct option_info - what there is to know about one option.
 * @name: ESXi's name, such as Mem.IdleTax
 * @alias: an older name that is accepted too, or NULL
 * @unit: unit of the value, "" for a switch or a choice
 * @description: one line
 * @min: smallest value
 * @max: largest value; OPTION_UNLIMITED if "unlimited" is a value
 * @value: default
 */
struct option_info {
	const char *name;
	const char *alias;
	const char *unit;
	const char *description;
	uint32_t min;
	uint32_t max;
	uint32_t value;
};

/**
 * struct options - the values in force.
 * @v: indexed by enum option_id, each within its range
 */
struct options {
	uint32_t v[OPTIONS_COUNT];
};

/**
 * options_init() - set every option to its default.
 * @options: what to set
 */
void options_init(struct options *options);

/**
 * option_info() - describe one option.
 * @id: option
 *
 * Return: an entry of a constant table.
 */
const struct option_info *option_info(enum option_id id);

/**
 * option_find() - find an option by its name.
 * @name: ESXi's name, in any case, or an alias
 * @ret: the option; not touched on failure
 * @err: suggests the name that was probably meant, or says why an option that ESXi
 *       has means nothing here
 *
 * Return: 0, -ENOENT if there is no such option, -EOPNOTSUPP if only ESXi has it.
 */
int option_find(const char *name, enum option_id *ret, struct err *err)
	__attribute__((warn_unused_result));

/**
 * options_set() - change one option by text.
 * @options: values; unchanged on failure
 * @name: as for option_find()
 * @value: whole number, or "unlimited" where that is allowed
 * @err: names the option and says what was wrong
 *
 * Return: 0, -ENOENT, -EOPNOTSUPP, -EINVAL or -ERANGE.
 */
int options_set(struct options *options, const char *name, const char *value,
		struct err *err) __attribute__((warn_unused_result));

/**
 * options_check() - refuse values out of range, as after loading them from a file.
 * @options: values
 * @err: names the first option that is wrong
 *
 * Return: 0 or -ERANGE.
 */
int options_check(const struct options *options, struct err *err)
	__attribute__((warn_unused_result));

/**
 * option_format() - write the value of an option as options_set() reads it.
 * @options: values
 * @id: option
 * @buf: where to write
 * @size: room in @buf, at least 16 bytes
 *
 * Return: @buf.
 */
const char *option_format(const struct options *options, enum option_id id,
			  char *buf, size_t size);

#endif
