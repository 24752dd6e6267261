/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sharing group: a memory file whose frames hold contents that several guest pages
 * share, their reference counts, and the table of what the group's pages contain.
 *
 * Used by one thread at a time, which holds the gate, but for what any thread may call.
 */
#ifndef HOST_GROUP_H
#define HOST_GROUP_H
#include <sys/types.h>

#include <base/error.h>
#include <base/types.h>
#include <host/hints.h>
#include <host/ledger.h>

struct vmmem;

#define GROUP_MEMBERS_MAX 4096

/**
 * struct group - one group; its members own it together.
 * @name: of the group, or of the VM that is alone in it
 * @ino: inode of its file, which tells it from any other
 * @hints: what its pages contain; the mover's
 * @members: VMs in it, by @base; changed under the gate and the host's lock
 * @n_members: how many
 * @adopting: VMs of a former host may still turn up: frames without references stay
 * @n_frames_used: frames with references. Any thread
 * @ledger: where its frames are entered
 * @fd: its file
 * @map: the file mapped, @n_frames pages
 * @n_frames: the most that it may ever have
 */
struct group {
	char name[64];
	ino_t ino;
	struct hints hints;
	struct vmmem *members[GROUP_MEMBERS_MAX];
	uint32_t n_members;
	bool adopting;
	_Atomic uint64_t n_frames_used;

	struct ledger *ledger;
	int fd;
	uint8_t *map;
	uint64_t n_frames;
	_Atomic uint32_t *refs;    /* by frame; read by any thread */
	uint32_t *tags;            /* by frame */
	uint64_t first_free;       /* no free frame before it */
	_Atomic uint64_t end_used; /* no frame was used from here on */
};

/**
 * group_new() - an empty group.
 * @name: copied
 * @n_frames: the most that it may ever have
 * @ledger: where its frames are entered
 * @ret: set on success; ended with group_free()
 * @err: message
 *
 * Return: 0 or -errno.
 */
int group_new(const char *name, uint64_t n_frames, struct ledger *ledger,
	      struct group **ret, struct err *err)
	__attribute__((warn_unused_result));

/**
 * group_adopt() - the group of VMs that ran before this host.
 * @name: copied
 * @fd: its file, perhaps read-only; stays the caller's
 * @ino: the inode that it must have
 * @ledger: where its frames are entered
 * @ret: set on success; ended with group_free()
 * @err: message
 *
 * Frames are claimed one by one, then group_trim() is called.
 *
 * Return: 0, -EBADMSG (another file), or -errno.
 */
int group_adopt(const char *name, int fd, ino_t ino, struct ledger *ledger,
		struct group **ret, struct err *err)
	__attribute__((warn_unused_result));

/** group_free() - end a group without members; NULL is fine. Return: NULL. */
struct group *group_free(struct group *g);

/** group_join() - a VM becomes a member; sets its base. Return: 0 or -ENOSPC. */
int group_join(struct group *g, struct vmmem *vm)
	__attribute__((warn_unused_result));

/** group_leave() - a VM is no member any more. */
void group_leave(struct group *g, const struct vmmem *vm);

/** group_whose() - whose page a hint names. Return: the VM, or NULL. */
struct vmmem *group_whose(const struct group *g, uint32_t where,
			  uint64_t *ret_page);

/** group_reader() - a new descriptor that can only read the file. Return: it, or -errno. */
int group_reader(const struct group *g);

/** group_bytes() - contents of a frame. */
const uint8_t *group_bytes(const struct group *g, uint64_t frame);

/**
 * group_frame_new() - a frame with contents, without references yet.
 * @g: group
 * @tag: of the contents
 * @bytes: a page
 * @ret_frame: number
 *
 * Return: 0 or -ENOSPC. Follow with group_ref().
 */
int group_frame_new(struct group *g, uint32_t tag, const uint8_t *bytes,
		    uint64_t *ret_frame) __attribute__((warn_unused_result));

/** group_ref() - one more page shares a frame. */
void group_ref(struct group *g, uint64_t frame);

/** group_unref() - one page less; the last one frees the frame. */
void group_unref(struct group *g, uint64_t frame);

/** group_refs() - how many pages share a frame; 0 for numbers that are none. Any thread. */
uint32_t group_refs(const struct group *g, uint64_t frame);

/** group_claim() - a page found to share a frame. Return: false if there is no such frame. */
bool group_claim(struct group *g, uint64_t frame);

/** group_trim() - all pages are claimed: free the other frames, enter the rest's contents. */
void group_trim(struct group *g);

/** group_book_bytes() - memory of table and counts. Under the host's lock. */
uint64_t group_book_bytes(const struct group *g);

/** page_hash() - the hash that tags come from. */
uint64_t page_hash(const uint8_t *bytes);

#endif
