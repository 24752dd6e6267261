/* SPDX-License-Identifier: Apache-2.0 */
/* Looking for pages with equal contents, and giving them one frame. */
#ifndef HOST_SHARE_H
#define HOST_SHARE_H
#include <base/error.h>
#include <base/types.h>
#include <host/vmmem.h>

#define SHARE_WINDOW VMMEM_WINDOW

struct share;

/** share_new() - room to work in. Return: NULL if there is no memory. */
struct share *share_new(void);

/** share_free() - end it; NULL is fine. Return: NULL. */
struct share *share_free(struct share *s);

/**
 * share_set_gap() - read that many pages for nothing rather than make another call.
 * @s: room to work in
 * @pages: most pages between two that are wanted; 0: read only what is wanted
 */
void share_set_gap(struct share *s, unsigned pages);

/**
 * share_scan() - look at the next pages of a VM.
 * @s: room to work in
 * @vm: VM, a member of its group
 * @cursor: where to go on; moves
 * @max_pages: hash at most that many, whole windows
 * @max_skip: pass at most that often over a page where nothing changed; 0: never
 *
 * Pages are read while the guest runs; only those that seem to match are revoked and
 * compared in full.
 *
 * Return: how many pages were hashed. Context: the mover.
 */
uint64_t share_scan(struct share *s, struct vmmem *vm, uint64_t *cursor,
		    uint64_t max_pages, unsigned max_skip);

/**
 * share_filled() - look at pages that a VM has just read from an image that others have.
 * @s: room to work in
 * @vm: VM, a member of its group
 * @max_pages: begin no further stretch after that many
 *
 * Return: how many pages were hashed. Context: the mover.
 */
uint64_t share_filled(struct share *s, struct vmmem *vm, uint64_t max_pages);

/**
 * share_find() - a frame with these contents.
 * @g: group
 * @bytes: a page
 * @ret_frame: number
 *
 * Return: false if there is none. Context: the mover.
 */
bool share_find(const struct group *g, const uint8_t *bytes,
		uint64_t *ret_frame);

#endif
