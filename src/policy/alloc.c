/* SPDX-License-Identifier: Apache-2.0 */
/* Names, defaults and consistency of memory allocation settings. */
#include <policy/alloc.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <base/units.h>

/* A pool counts like a VM of this size. */
#define POOL_PAGES (UINT64_C(16384) * MIB_PAGES)

static const struct {
	const char *name;
	uint32_t per_mib;
} levels[] = {
	[SHARES_LOW] = {"low", 5},
	[SHARES_NORMAL] = {"normal", 10},
	[SHARES_HIGH] = {"high", 20},
	[SHARES_CUSTOM] = {"custom", 0},
};

void mem_alloc_init(struct mem_alloc *alloc)
{
	*alloc = (struct mem_alloc){
		.limit_pages = ALLOC_UNLIMITED,
		.level = SHARES_NORMAL,
		.expandable = true,
	};
}

static int shares_set(struct mem_alloc *alloc, const char *value,
		      struct err *err)
{
	uint64_t n;
	int r;

	for (unsigned int i = 0; i < SHARES_CUSTOM; i++) {
		if (!strcmp(value, levels[i].name)) {
			alloc->level = (enum shares_level)i;
			alloc->shares = 0;
			return 0;
		}
	}
	r = number_parse(value, 1, ALLOC_SHARES_MAX, &n, err);
	if (r == -EINVAL)
		return err_set(
			err, r,
			"\"%.40s\" is neither low, normal, high nor a number",
			value);
	if (r < 0)
		return r;
	alloc->level = SHARES_CUSTOM;
	alloc->shares = (uint32_t)n;
	return 0;
}

static int limit_set(struct mem_alloc *alloc, const char *value, struct err *err)
{
	if (!strcmp(value, "unlimited") || !strcmp(value, "-1")) {
		alloc->limit_pages = ALLOC_UNLIMITED;
		return 0;
	}
	return size_parse_pages(value, &alloc->limit_pages, err);
}

static int expandable_set(struct mem_alloc *alloc, const char *value,
			  struct err *err)
{
	if (!strcmp(value, "true")) {
		alloc->expandable = true;
		return 0;
	}
	if (!strcmp(value, "false")) {
		alloc->expandable = false;
		return 0;
	}
	return err_set(err, -EINVAL, "\"%.40s\" is neither true nor false",
		       value);
}

int mem_alloc_set(struct mem_alloc *alloc, const char *key, const char *value,
		  struct err *err)
{
	int r;

	if (!strcmp(key, "reservation"))
		r = size_parse_pages(value, &alloc->reservation_pages, err);
	else if (!strcmp(key, "limit"))
		r = limit_set(alloc, value, err);
	else if (!strcmp(key, "shares"))
		r = shares_set(alloc, value, err);
	else if (!strcmp(key, "expandableReservation"))
		r = expandable_set(alloc, value, err);
	else
		return err_set(
			err, -ENOENT,
			"no memory setting \"%.40s\" (reservation, limit, shares, expandableReservation)",
			key);
	if (r < 0)
		err_prefix(err, "%s: ", key);
	return r;
}

int mem_alloc_check_vm(const struct mem_alloc *alloc, uint64_t size_pages,
		       struct err *err)
{
	char a[UNITS_TEXT], b[UNITS_TEXT];

	if (size_pages == 0)
		return err_set(err, -EINVAL, "a VM needs memory: its size is 0");
	if (alloc->reservation_pages > size_pages)
		return err_set(err, -EINVAL,
			       "reservation %s is larger than the VM's size %s",
			       pages_format(alloc->reservation_pages, a),
			       pages_format(size_pages, b));
	if (alloc->limit_pages == 0)
		return err_set(
			err, -EINVAL,
			"limit 0 would leave the VM no memory; say \"unlimited\" for none");
	return mem_alloc_check_pool(alloc, err);
}

int mem_alloc_check_pool(const struct mem_alloc *alloc, struct err *err)
{
	char a[UNITS_TEXT], b[UNITS_TEXT];

	if (alloc->reservation_pages > alloc->limit_pages)
		return err_set(err, -EINVAL,
			       "reservation %s is larger than limit %s",
			       pages_format(alloc->reservation_pages, a),
			       pages_format(alloc->limit_pages, b));
	if (alloc->level == SHARES_CUSTOM &&
	    (alloc->shares == 0 || alloc->shares > ALLOC_SHARES_MAX))
		return err_set(err, -EINVAL,
			       "%" PRIu32 " shares are not in 1..%" PRIu32,
			       alloc->shares, ALLOC_SHARES_MAX);
	return 0;
}

uint64_t mem_alloc_vm_shares(const struct mem_alloc *alloc, uint64_t size_pages)
{
	uint64_t n;

	if (alloc->level == SHARES_CUSTOM)
		return alloc->shares ? alloc->shares : 1;
	n = size_pages * levels[alloc->level].per_mib / MIB_PAGES;
	return n ? n : 1;
}

uint64_t mem_alloc_pool_shares(const struct mem_alloc *alloc)
{
	return mem_alloc_vm_shares(alloc, POOL_PAGES);
}

const char *shares_level_name(enum shares_level level)
{
	return levels[level].name;
}

const char *mem_alloc_format(const struct mem_alloc *alloc, char buf[ALLOC_TEXT])
{
	char reservation[UNITS_TEXT], limit[UNITS_TEXT] = "unlimited";
	char shares[UNITS_TEXT];

	size_format(alloc->reservation_pages * PAGE_SIZE, reservation);
	if (alloc->limit_pages != ALLOC_UNLIMITED)
		size_format(alloc->limit_pages * PAGE_SIZE, limit);
	if (alloc->level == SHARES_CUSTOM)
		snprintf(shares, sizeof(shares), "%" PRIu32, alloc->shares);
	else
		snprintf(shares, sizeof(shares), "%s",
			 levels[alloc->level].name);
	snprintf(buf, ALLOC_TEXT,
		 "reservation=%s limit=%s shares=%s expandableReservation=%s",
		 reservation, limit, shares,
		 alloc->expandable ? "true" : "false");
	return buf;
}
