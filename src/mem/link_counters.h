/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM tells its host without a message: counters in a memory file that both map, a
 * ring of places (frames, slots) that its pages have left, and a ring of pages that a disk
 * has filled.
 *
 * Written by the VM only, but for the rings' tails, @want, @want_root, @break_large and
 * @decided. The host believes none of it without a check.
 */
#ifndef MEM_LINK_COUNTERS_H
#define MEM_LINK_COUNTERS_H
#include <assert.h>
#include <stdatomic.h>

#include <base/error.h>
#include <base/types.h>

#define LINK_COUNTERS_MAGIC UINT64_C(0x544e435a5a454d35)
#define LINK_LEFT_RING      4096u
#define LINK_FILLED_RING    4096u
#define LINK_IMAGES_MAX     8
#define LINK_ROOT_KNOWN     1 /* four levels in long mode */

/* What a guest waits for; in the order of enum guestmem_stall. */
enum link_stall {
	LINK_STALL_ZIP,  /* a page that is unpacked */
	LINK_STALL_SWAP, /* a page that is read from the disk */
	LINK_STALL_HOST, /* allowance */
	LINK_STALL_BUSY, /* a page that is being moved */
	LINK_STALLS,
};

/* What runs the guest's instructions. */
enum link_engine {
	LINK_ENGINE_NONE, /* it is not chosen yet */
	LINK_ENGINE_SOFT, /* our own processor */
	LINK_ENGINE_KVM,
	LINK_ENGINES,
};

/* Who combines guest and machine addresses. */
enum link_mmu {
	LINK_MMU_NONE,     /* it is not chosen yet */
	LINK_MMU_SOFTWARE, /* shadow page tables of ours */
	LINK_MMU_HARDWARE, /* nested page tables of ours */
	LINK_MMU_HOST,     /* the host's KVM and processor */
	LINK_MMUS,
};

/* Waits by length: eight buckets for each power of two of nanoseconds, up to 17 s. */
#define LINK_STALL_BUCKETS 256

/* A page and the SHARED, ZIPPED or SWAPPED entry that it has left. */
struct link_left {
	uint64_t page;
	uint64_t entry;
};

/* Pages that have just been read from a disk image, which others may have read as well. */
struct link_filled {
	uint64_t page;
	uint32_t n_pages;
	uint32_t image; /* index into @images */
};

/* A disk image that the guest can only read: device and inode. */
struct link_image {
	uint64_t dev;
	uint64_t ino;
};

/**
 * struct link_counters - the file.
 *
 * Members: I written once, v atomic and the VM's, h atomic and the host's, b both.
 * Times are CLOCK_MONOTONIC, which VM and host share.
 */
struct link_counters {
	uint64_t magic;        /* I LINK_COUNTERS_MAGIC */
	_Atomic uint32_t want; /* b the VM waits for allowance; the host clears it */
	_Atomic uint32_t left_overflow; /* b a place was lost: look at the physmap */
	_Atomic uint32_t left_head; /* v next place to write */
	_Atomic uint32_t left_tail; /* h next place to read */
	_Atomic uint32_t large; /* v it has large pages, and memory comes without it */
	_Atomic uint32_t break_large; /* h memory is scarce: no large pages any more */
	_Atomic uint32_t engine; /* v enum link_engine */
	_Atomic uint32_t mmu;    /* v enum link_mmu */

	_Atomic uint64_t run_ns;                /* v not idle */
	_Atomic uint64_t stall_ns[LINK_STALLS]; /* v by cause */
	_Atomic uint64_t zip_in;                /* v */
	_Atomic uint64_t swap_in;               /* v */
	_Atomic uint64_t read_ahead; /* v pages that read-ahead had already */
	_Atomic uint64_t unshares;   /* v */
	_Atomic uint64_t dropped;    /* v pages that the guest gave up */
	_Atomic uint64_t started;    /* v the guest runs */

	_Atomic uint64_t
		page_root; /* v CR3 a moment ago, and LINK_ROOT_KNOWN; 0: not known */

	_Atomic uint64_t balloon_present; /* v driver has set the device up */
	_Atomic uint64_t balloon_stats_ms; /* v when statistics came last; 0: never */
	_Atomic uint64_t balloon_total;     /* v pages the guest says it has */
	_Atomic uint64_t balloon_available; /* v */
	_Atomic uint64_t balloon_free;      /* v */
	_Atomic uint64_t balloon_ooms;      /* v */

	_Atomic uint32_t n_images;    /* v of @images, after they are written */
	_Atomic uint32_t filled_head; /* v next place to write */
	_Atomic uint32_t filled_tail; /* h next place to read */
	_Atomic uint32_t
		want_root; /* b the host waits for @page_root; the VM clears it */
	_Atomic uint32_t decided; /* h the host has decided what the VM may have */
	struct link_image images[LINK_IMAGES_MAX]; /* v */

	_Atomic uint64_t stalls[LINK_STALLS][LINK_STALL_BUCKETS]; /* v */

	struct link_left left[LINK_LEFT_RING];       /* v */
	struct link_filled filled[LINK_FILLED_RING]; /* v */
};

#define LINK_COUNTERS_BYTES \
	((sizeof(struct link_counters) + PAGE_SIZE - 1) & PAGE_MASK)

/**
 * link_counters_new() - a new file, mapped.
 * @ret_fd: owned by the caller
 * @ret: mapping, ended with link_counters_unmap()
 * @err: message
 *
 * Return: 0 or -errno.
 */
int link_counters_new(int *ret_fd, struct link_counters **ret, struct err *err)
	__attribute__((warn_unused_result));

/** link_counters_map() - the file that a VM sent. Return: 0, -EBADMSG or what mmap() reports. */
int link_counters_map(int fd, struct link_counters **ret, struct err *err)
	__attribute__((warn_unused_result));

/** link_counters_unmap() - end a mapping; NULL is fine. */
void link_counters_unmap(struct link_counters *counters);

/** link_stall_bucket() - which bucket a wait of that length belongs to. */
unsigned link_stall_bucket(uint64_t ns);

/** link_stall_bucket_ns() - the middle of a bucket. */
uint64_t link_stall_bucket_ns(unsigned bucket);

/** link_stall_add() - VM: a wait has ended. Context: any thread. */
void link_stall_add(struct link_counters *c, enum link_stall cause, uint64_t ns);

/**
 * link_stall_quantile() - how long waits last.
 * @c: counters
 * @cause: of the waits
 * @permille: 500 for the median
 *
 * Return: the length that so many of 1000 waits stay within, to 6 %; 0 if there were none.
 */
uint64_t link_stall_quantile(const struct link_counters *c,
			     enum link_stall cause, unsigned permille);

/** link_left_push() - VM: a page has left a place. Context: one thread. */
void link_left_push(struct link_counters *c, uint64_t page, uint64_t entry);

/** link_left_pop() - host: the oldest place. Return: false if there is none. */
bool link_left_pop(struct link_counters *c, struct link_left *ret);

/**
 * link_filled_push() - VM: a disk has filled pages; forgotten if the ring is full.
 * Context: one thread at a time.
 */
void link_filled_push(struct link_counters *c, const struct link_filled *filled);

/** link_filled_pop() - host: the oldest pages, unchecked. Return: false if there are none. */
bool link_filled_pop(struct link_counters *c, struct link_filled *ret);

/** link_filled_any() - host: whether link_filled_pop() would find something. */
bool link_filled_any(const struct link_counters *c);

#endif
