/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compression cache of one VM: slots of a zip file, by size class, oldest first.
 *
 * Used by one thread at a time, which holds the gate, but for what any thread may call.
 */
#ifndef HOST_ZIP_H
#define HOST_ZIP_H
#include <base/error.h>
#include <base/types.h>
#include <host/ledger.h>

struct zip;

/**
 * zip_new() - an empty cache.
 * @n_pages: pages of the VM: length of the file, and the most that it may hold
 * @ledger: where pages of the file are entered; outlives the cache
 * @ret: set on success; ended with zip_free()
 * @err: message
 *
 * Return: 0 or -errno.
 */
int zip_new(uint64_t n_pages, struct ledger *ledger, struct zip **ret,
	    struct err *err) __attribute__((warn_unused_result));

/**
 * zip_adopt() - the cache of a VM that ran before this host.
 * @fd: zip file, perhaps read-only; stays the caller's
 * @n_pages: pages of the VM
 * @ledger: where pages of the file are entered; outlives the cache
 * @ret: set on success; ended with zip_free()
 * @err: message
 *
 * All slots are free at first: zip_claim() those in use, then zip_trim().
 *
 * Return: 0, -EBADMSG (not a zip file of that VM), or -errno.
 */
int zip_adopt(int fd, uint64_t n_pages, struct ledger *ledger, struct zip **ret,
	      struct err *err) __attribute__((warn_unused_result));

/** zip_free() - end it and give its pages back to the ledger; NULL is fine. Return: NULL. */
struct zip *zip_free(struct zip *zip);

/** zip_fd() - its file, owned by the cache. */
int zip_fd(const struct zip *zip);

/**
 * zip_put() - keep a compressed page.
 * @zip: cache
 * @page: PPN that it belongs to
 * @bytes: compressed
 * @size_bytes: 1 to ZIP_MAX_BYTES
 * @max_pages: the file may have that many pages
 * @ret_entry: ZIPPED entry
 *
 * Return: 0, -ENOSPC (@max_pages, or the ledger has no page), -E2BIG (does not fit a slot).
 */
int zip_put(struct zip *zip, uint64_t page, const void *bytes,
	    unsigned size_bytes, uint64_t max_pages, uint64_t *ret_entry)
	__attribute__((warn_unused_result));

/**
 * zip_get() - unpack a page.
 * @zip: cache
 * @entry: any ZIPPED entry
 * @ret_bytes: PAGE_SIZE bytes
 *
 * Return: 0 or -EIO (no such slot, or what is there does not unpack to a page).
 */
int zip_get(const struct zip *zip, uint64_t entry, uint8_t *ret_bytes)
	__attribute__((warn_unused_result));

/** zip_drop() - a slot is not used any more; nothing happens if it was not. */
void zip_drop(struct zip *zip, uint64_t entry);

/** zip_claim() - a slot is in use by a page. Return: false if it cannot be, or is already. */
bool zip_claim(struct zip *zip, uint64_t page, uint64_t entry);

/** zip_uses() - whether a slot is in use. */
bool zip_uses(const struct zip *zip, uint64_t entry);

/** zip_trim() - release pages of the file without slots in use; also frees the ledger. */
void zip_trim(struct zip *zip);

/** zip_clear() - forget all slots, for a new scan; the file keeps what it holds. */
void zip_clear(struct zip *zip);

/**
 * zip_oldest() - the page that has been in the cache longest, perhaps no longer.
 * @zip: cache
 * @ret_page: its PPN; it is not offered again
 *
 * Return: false if there is none.
 */
bool zip_oldest(struct zip *zip, uint64_t *ret_page);

/** zip_pages() - pages of the file in use. Any thread. */
uint64_t zip_pages(const struct zip *zip);

/** zip_slots() - slots in use. */
uint64_t zip_slots(const struct zip *zip);

#endif
