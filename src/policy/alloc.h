/* SPDX-License-Identifier: Apache-2.0 */
/* What a VM or a resource pool is promised: reservation, limit and shares. */
#ifndef POLICY_ALLOC_H
#define POLICY_ALLOC_H
#include <base/error.h>
#include <base/types.h>

#define ALLOC_UNLIMITED  UINT64_MAX
#define ALLOC_SHARES_MAX UINT32_C(1000000000)
#define ALLOC_TEXT       160

/* ESXi's words. A level follows the size of a VM; custom is an absolute number. */
enum shares_level {
	SHARES_LOW,
	SHARES_NORMAL,
	SHARES_HIGH,
	SHARES_CUSTOM,
};

/**
 * struct mem_alloc - memoryAllocation of a VM or a resource pool.
 * @reservation_pages: guaranteed; counted in full when it starts
 * @limit_pages: never given more than this, or ALLOC_UNLIMITED
 * @level: how shares are derived
 * @shares: the number of shares, if @level is SHARES_CUSTOM
 * @expandable: pools only: borrow from the parent what the own reservation lacks
 */
struct mem_alloc {
	uint64_t reservation_pages;
	uint64_t limit_pages;
	enum shares_level level;
	uint32_t shares;
	bool expandable;
};

/**
 * mem_alloc_init() - ESXi's defaults: nothing reserved, no limit, normal shares.
 * @alloc: what to set; expandable is set too, it has no meaning for a VM
 */
void mem_alloc_init(struct mem_alloc *alloc);

/**
 * mem_alloc_set() - change one setting by its name.
 * @alloc: what to change; unchanged on failure
 * @key: reservation, limit, shares or expandableReservation
 * @value: a size; a size or "unlimited"; low, normal, high or a number; true or false
 * @err: names the setting and says what was wrong
 *
 * Return: 0, -ENOENT if there is no such setting, -EINVAL or -ERANGE for the value.
 */
int mem_alloc_set(struct mem_alloc *alloc, const char *key, const char *value,
		  struct err *err) __attribute__((warn_unused_result));

/**
 * mem_alloc_check_vm() - refuse promises that contradict each other.
 * @alloc: settings of a VM
 * @size_pages: configured size of the VM
 * @err: says which number is larger than which
 *
 * Return: 0 or -EINVAL.
 */
int mem_alloc_check_vm(const struct mem_alloc *alloc, uint64_t size_pages,
		       struct err *err) __attribute__((warn_unused_result));

/**
 * mem_alloc_check_pool() - the same for a resource pool.
 * @alloc: settings of a pool
 * @err: says which number is larger than which
 *
 * Return: 0 or -EINVAL.
 */
int mem_alloc_check_pool(const struct mem_alloc *alloc, struct err *err)
	__attribute__((warn_unused_result));

/**
 * mem_alloc_vm_shares() - shares of a VM: 5, 10 or 20 per MiB, or its own number.
 * @alloc: settings
 * @size_pages: configured size
 *
 * Return: at least 1.
 */
uint64_t mem_alloc_vm_shares(const struct mem_alloc *alloc, uint64_t size_pages);

/**
 * mem_alloc_pool_shares() - shares of a pool, which counts like a VM of 16 GiB.
 * @alloc: settings
 *
 * Return: at least 1.
 */
uint64_t mem_alloc_pool_shares(const struct mem_alloc *alloc);

/**
 * shares_level_name() - the word for a level.
 * @level: level
 *
 * Return: a constant string.
 */
const char *shares_level_name(enum shares_level level);

/**
 * mem_alloc_format() - write the settings as mem_alloc_set() reads them.
 * @alloc: settings
 * @buf: at least ALLOC_TEXT bytes
 *
 * Return: @buf: "reservation=… limit=… shares=… expandableReservation=…".
 */
const char *mem_alloc_format(const struct mem_alloc *alloc,
			     char buf[ALLOC_TEXT]);

#endif
