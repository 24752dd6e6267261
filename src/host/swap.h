/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The swap file of one VM: slots of a page each, written in runs.
 *
 * Used by one thread at a time, which holds the gate, but for what any thread may call.
 */
#ifndef HOST_SWAP_H
#define HOST_SWAP_H
#include <base/error.h>
#include <base/types.h>

struct swap;

/**
 * swap_new() - make a swap file, with its disk space, in place of one that is there.
 * @path: of the file
 * @n_slots: pages, may be 0
 * @ret: set on success; ended with swap_free()
 * @err: message
 *
 * Return: 0, -ENOSPC, -EFBIG or what making a file reports.
 */
int swap_new(const char *path, uint64_t n_slots, struct swap **ret,
	     struct err *err) __attribute__((warn_unused_result));

/** swap_adopt() - the swap file of a VM that runs; claim its slots. Return: 0 or -errno. */
int swap_adopt(const char *path, struct swap **ret, struct err *err)
	__attribute__((warn_unused_result));

/** swap_free() - end it; the file stays. NULL is fine. Return: NULL. */
struct swap *swap_free(struct swap *swap);

/** swap_reader() - a new descriptor that can only read the file. Return: it, or -errno. */
int swap_reader(const struct swap *swap);

/**
 * swap_take() - find free slots in a row.
 * @swap: swap file
 * @n: how many at most
 * @ret_slot: first
 *
 * Return: how many, 0 if the file is full.
 */
unsigned swap_take(struct swap *swap, unsigned n, uint64_t *ret_slot);

/**
 * swap_write_error() - whether the last write failed. Return: errno, positive; 0: it did not.
 *
 * Context: any thread.
 */
int swap_write_error(const struct swap *swap);

/**
 * swap_write() - write pages into slots in a row.
 * @swap: swap file
 * @slot: first
 * @pages: @n pages, aligned to a page
 * @n: how many
 *
 * Return: 0, or -errno (-ENOSPC, -EIO): nothing may be relied on then.
 */
int swap_write(struct swap *swap, uint64_t slot, const uint8_t *pages,
	       unsigned n) __attribute__((warn_unused_result));

/** swap_read() - read one slot into an aligned page. Return: 0 or -errno. */
int swap_read(struct swap *swap, uint64_t slot, uint8_t *page)
	__attribute__((warn_unused_result));

/** swap_drop() - a slot is not used any more; nothing happens if it was not. */
void swap_drop(struct swap *swap, uint64_t slot);

/** swap_claim() - a slot is in use. Return: false if there is none such, or it is already. */
bool swap_claim(struct swap *swap, uint64_t slot);

/** swap_uses() - whether a slot is in use. */
bool swap_uses(const struct swap *swap, uint64_t slot);

/** swap_clear() - forget all slots, for a new scan. */
void swap_clear(struct swap *swap);

/** swap_slots() - how many there are. Any thread. */
uint64_t swap_slots(const struct swap *swap);

/** swap_slots_free() - of those free. Any thread. */
uint64_t swap_slots_free(const struct swap *swap);

#endif
