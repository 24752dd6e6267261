/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The physmap: where each page of a VM's guest RAM is now, one 64-bit atomic word per
 * PPN in a memory file that the VM and the host manager share.
 *
 * An entry is in one of six stable states, or BUSY. A BUSY entry keeps, in full, the
 * stable entry that it falls back to should its mover die, and which side is moving it.
 *
 *    63                                20 19      8 7   6 5       4      3    2     0
 *   +------------------------------------+---------+-----+-------+------+----+-------+
 *   | frame (SHARED), slot (ZIPPED,      | size    |  0  |watched|host  |busy| stable|
 *   | SWAPPED), else 0                   | (ZIPPED)|     |       |moves |    | state |
 *   +------------------------------------+---------+-----+-------+------+----+-------+
 *
 * An all-zero word is ZERO and not busy, so that a new, sparse file is a new physmap.
 */
#ifndef MEM_PHYSMAP_H
#define MEM_PHYSMAP_H
#include <assert.h>
#include <stdatomic.h>

#include <base/error.h>
#include <base/types.h>

enum physmap_state {
	PHYSMAP_ZERO,    /* all zero, no memory behind it */
	PHYSMAP_HOME,    /* in the home frame */
	PHYSMAP_SHARED,  /* in a frame of the group file, copy on write */
	PHYSMAP_ZIPPED,  /* in a slot of the zip file */
	PHYSMAP_SWAPPED, /* in a slot of the swap file */
	PHYSMAP_BALLOON, /* nowhere: the guest gave it up */
	PHYSMAP_BUSY,    /* moving; everybody but its mover waits */
	PHYSMAP_N_STATES,
};

#define PHYSMAP_N_STABLE ((unsigned)PHYSMAP_BUSY)

/* Who changes an entry. */
enum physmap_mover {
	PHYSMAP_BY_VM,       /* brings back, and gives up */
	PHYSMAP_BY_HOST,     /* takes away */
	PHYSMAP_BY_RECOVERY, /* the VM, ending what a dead host had begun */
	PHYSMAP_N_MOVERS,
};

#define PHYSMAP_STATE_MASK UINT64_C(0x07)
#define PHYSMAP_BUSY_BIT   UINT64_C(0x08)
#define PHYSMAP_HOST_BIT   UINT64_C(0x10)
#define PHYSMAP_WATCHED    UINT64_C(0x20)
#define PHYSMAP_RESERVED   UINT64_C(0xc0)
#define PHYSMAP_SIZE_SHIFT 8
#define PHYSMAP_SIZE_MASK  UINT64_C(0xfff)
#define PHYSMAP_SLOT_SHIFT 20
#define PHYSMAP_MAX_SLOT   ((UINT64_C(1) << (64 - PHYSMAP_SLOT_SHIFT)) - 1)

/* The entry of a page that is at home and of which nobody wants to know anything. */
#define PHYSMAP_HOME_ENTRY ((uint64_t)PHYSMAP_HOME)

#define PHYSMAP_MAGIC      UINT64_C(0x50414d505a5a454d) /* "MEZZPMAP" in memory */
#define PHYSMAP_VERSION    1
/* Where the entries start in the file. */
#define PHYSMAP_ENTRIES_OFFSET PAGE_SIZE

/* So many that it never ends. */
#define PHYSMAP_UNLIMITED (UINT64_C(1) << 62)

/**
 * struct physmap_header - the first page of the physmap's memory file.
 *
 * Members: I written once before the file is shared; a atomic, any side.
 *
 * The counters are a convenience: physmap_count() recomputes them from the entries.
 */
struct physmap_header {
	uint64_t magic;          /* I PHYSMAP_MAGIC */
	uint32_t version;        /* I PHYSMAP_VERSION */
	uint32_t page_bytes;     /* I PAGE_SIZE */
	uint64_t n_pages;        /* I entries */
	uint64_t entries_offset; /* I first byte of the first entry */
	uint64_t file_bytes;     /* I length of the file */
	uint64_t unused[3];      /* I zero */

	_Atomic uint64_t pages[8]; /* a by enum physmap_state; the last is unused */

	_Atomic uint64_t allowance; /* a pages the VM may still make HOME by itself */
	_Atomic uint64_t touched; /* a watched pages that were touched */
	_Atomic uint32_t bell; /* a futex: rung when a waiter should look again */
	_Atomic uint32_t n_waiting; /* a threads that wait for the bell */
};

static_assert(offsetof(struct physmap_header, pages) == 64, "a line of its own");
static_assert(offsetof(struct physmap_header, allowance) == 128,
	      "a line of its own");
static_assert(sizeof(struct physmap_header) <= PHYSMAP_ENTRIES_OFFSET,
	      "the header fits before the entries");

struct physmap;

/** physmap_zero() - entry of a page of zeros. */
static inline uint64_t physmap_zero(void)
{
	return PHYSMAP_ZERO;
}

/** physmap_home() - entry of a page in its home frame. */
static inline uint64_t physmap_home(void)
{
	return PHYSMAP_HOME_ENTRY;
}

/** physmap_balloon() - entry of a page that the guest gave up. */
static inline uint64_t physmap_balloon(void)
{
	return PHYSMAP_BALLOON;
}

/** physmap_shared() - entry of a page in a frame of the group file, up to PHYSMAP_MAX_SLOT. */
static inline uint64_t physmap_shared(uint64_t frame)
{
	return frame << PHYSMAP_SLOT_SHIFT | PHYSMAP_SHARED;
}

/** physmap_zipped() - entry of a page compressed to @size_bytes, 1 to 4095, in a slot. */
static inline uint64_t physmap_zipped(uint64_t slot, unsigned size_bytes)
{
	return slot << PHYSMAP_SLOT_SHIFT |
	       (uint64_t)size_bytes << PHYSMAP_SIZE_SHIFT | PHYSMAP_ZIPPED;
}

/** physmap_swapped() - entry of a page in a slot of the swap file. */
static inline uint64_t physmap_swapped(uint64_t slot)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): it is unsigned */
	return slot << PHYSMAP_SLOT_SHIFT | PHYSMAP_SWAPPED;
}

/**
 * physmap_busy() - the BUSY entry that falls back to a stable one.
 * @stable: what it becomes if its mover dies
 * @by: PHYSMAP_BY_VM or PHYSMAP_BY_HOST, who moves it
 */
static inline uint64_t physmap_busy(uint64_t stable, enum physmap_mover by)
{
	return (stable & ~PHYSMAP_WATCHED) | PHYSMAP_BUSY_BIT |
	       (by == PHYSMAP_BY_HOST ? PHYSMAP_HOST_BIT : 0);
}

/** physmap_watched() - a ZERO, HOME or SHARED entry whose next touch is to be counted. */
static inline uint64_t physmap_watched(uint64_t stable)
{
	return stable | PHYSMAP_WATCHED;
}

/** physmap_is_watched() - whether the next touch of the page is to be counted. */
static inline bool physmap_is_watched(uint64_t entry)
{
	return entry & PHYSMAP_WATCHED;
}

/** physmap_is_busy() - whether the page is moving. */
static inline bool physmap_is_busy(uint64_t entry)
{
	return entry & PHYSMAP_BUSY_BIT;
}

/** physmap_busy_mover() - PHYSMAP_BY_VM or PHYSMAP_BY_HOST, of a BUSY entry. */
static inline enum physmap_mover physmap_busy_mover(uint64_t entry)
{
	return entry & PHYSMAP_HOST_BIT ? PHYSMAP_BY_HOST : PHYSMAP_BY_VM;
}

/** physmap_stable() - the entry without BUSY and watched: where the contents are. */
static inline uint64_t physmap_stable(uint64_t entry)
{
	return entry & ~(PHYSMAP_BUSY_BIT | PHYSMAP_HOST_BIT | PHYSMAP_WATCHED);
}

/** physmap_stable_state() - state of physmap_stable(). */
static inline enum physmap_state physmap_stable_state(uint64_t entry)
{
	return (enum physmap_state)(entry & PHYSMAP_STATE_MASK);
}

/** physmap_state() - the state of an entry. */
static inline enum physmap_state physmap_state(uint64_t entry)
{
	return physmap_is_busy(entry) ? PHYSMAP_BUSY
				      : physmap_stable_state(entry);
}

/** physmap_slot() - frame of a SHARED, slot of a ZIPPED or SWAPPED entry, also if BUSY. */
static inline uint64_t physmap_slot(uint64_t entry)
{
	return entry >> PHYSMAP_SLOT_SHIFT;
}

/** physmap_size_bytes() - compressed size of a ZIPPED entry, also if BUSY. */
static inline unsigned physmap_size_bytes(uint64_t entry)
{
	return (entry >> PHYSMAP_SIZE_SHIFT) & PHYSMAP_SIZE_MASK;
}

/** physmap_state_name() - "zero", "home", … for people. */
const char *physmap_state_name(enum physmap_state state);

/**
 * physmap_valid() - whether a word is an entry at all.
 * @entry: any word, also one that an untrusted VM wrote
 */
bool physmap_valid(uint64_t entry);

/**
 * physmap_legal() - whether one side may make one entry of another.
 * @by: who
 * @from: entry now
 * @to: entry wanted
 *
 * Pure; both may be any words.
 */
bool physmap_legal(enum physmap_mover by, uint64_t from, uint64_t to);

/**
 * physmap_new() - a physmap of pages that are all ZERO, with no allowance.
 * @n_pages: pages of guest RAM, at least 1
 * @ret_map: set on success; ended with physmap_free()
 * @err: message on failure
 *
 * Return: 0, -EINVAL (size), -ENOMEM, or what memfd_create() and mmap() report.
 */
int physmap_new(uint64_t n_pages, struct physmap **ret_map, struct err *err)
	__attribute__((warn_unused_result));

/**
 * physmap_attach() - open the physmap that another process made.
 * @fd: its memory file; duplicated, stays the caller's
 * @ret_map: set on success; ended with physmap_free()
 * @err: message on failure
 *
 * The header is checked against the file and never believed again.
 *
 * Return: 0, -EBADMSG (not a physmap, or one of another version), -EPERM (the file's
 * length is not sealed), or what fstat() and mmap() report.
 */
int physmap_attach(int fd, struct physmap **ret_map, struct err *err)
	__attribute__((warn_unused_result));

/** physmap_free() - close it; the other side keeps its own. NULL is fine. Return: NULL. */
struct physmap *physmap_free(struct physmap *map);

/** physmap_fd() - its memory file, owned by the physmap. */
int physmap_fd(const struct physmap *map);

/** physmap_pages() - how many entries it has. */
uint64_t physmap_pages(const struct physmap *map);

/** physmap_entries() - the array, indexed by PPN; changed with physmap_change() only. */
_Atomic uint64_t *physmap_entries(struct physmap *map);

/** physmap_load() - the entry of a page. */
uint64_t physmap_load(const struct physmap *map, ppn_t page);

enum physmap_result {
	PHYSMAP_CHANGED,
	PHYSMAP_RACED, /* the entry was no longer as expected; nothing changed */
	PHYSMAP_NO_ALLOWANCE, /* the VM may not have another page; nothing changed */
	PHYSMAP_ILLEGAL,      /* see physmap_legal(); nothing changed */
};

/**
 * physmap_change() - the one way to change an entry.
 * @map: physmap
 * @by: who
 * @page: PPN
 * @from: entry as read before
 * @to: entry wanted
 *
 * Takes and returns allowance, keeps the counters, counts touches of watched pages, and
 * rings the bell when a page stops being BUSY.
 *
 * Return: see enum physmap_result. Context: any thread of the side that @by names.
 */
enum physmap_result physmap_change(struct physmap *map, enum physmap_mover by,
				   ppn_t page, uint64_t from, uint64_t to)
	__attribute__((warn_unused_result));

/**
 * physmap_claim_run() - VM: make pages HOME that are ZERO, as far as allowance goes.
 * @map: physmap
 * @first: first PPN
 * @n_pages: how many to look at; pages in another state stay as they are
 *
 * What physmap_change() would do with each, but the books are kept once for all: of 64 GiB
 * there are 16 million pages. Return: how many became HOME. Context: any thread of the VM.
 */
uint64_t physmap_claim_run(struct physmap *map, ppn_t first, uint64_t n_pages);

/** physmap_grant() - allow the VM that many more pages; rings the bell. */
void physmap_grant(struct physmap *map, uint64_t pages);

/** physmap_withdraw() - take back up to that much unused allowance. Return: pages taken back. */
uint64_t physmap_withdraw(struct physmap *map, uint64_t pages);

/** physmap_allowance() - pages the VM may still make HOME by itself. */
uint64_t physmap_allowance(const struct physmap *map);

/**
 * struct physmap_counts - pages by state.
 * @pages: indexed by enum physmap_state; they add up to the size
 */
struct physmap_counts {
	uint64_t pages[PHYSMAP_N_STATES];
};

/** physmap_counts() - as the counters say; each exact, the sum only while nothing moves. */
struct physmap_counts physmap_counts(const struct physmap *map);

/** physmap_touched() - how many watched pages were touched since the beginning. */
uint64_t physmap_touched(const struct physmap *map);

/**
 * physmap_count() - pages by state, recomputed from the entries.
 * @map: physmap
 * @ret_counts: set; words that are no entries are not counted
 *
 * Entries that nobody ever wrote are skipped, so its cost is that of the pages in use.
 *
 * Return: how many words were no valid entries. Context: one thread at a time per
 * memory file.
 */
uint64_t physmap_count(struct physmap *map, struct physmap_counts *ret_counts);

/** physmap_audit() - whether counters and entries agree. Call while nothing moves. */
bool physmap_audit(struct physmap *map);

/** physmap_recount() - set the counters from the entries. Call while nothing moves. */
void physmap_recount(struct physmap *map);

/**
 * physmap_recover() - end what a dead host had begun.
 * @map: physmap
 * @home_fd: the VM's home file
 *
 * Every page that the host was moving becomes what its entry falls back to: HOME as long
 * as the home frame is the only copy, else the final state, whose leftover home frame is
 * released. The counters are set right. Call when the host cannot act any more, with
 * nothing else moving.
 *
 * Return: pages turned back.
 */
uint64_t physmap_recover(struct physmap *map, int home_fd);

/** physmap_bell_prepare() - say that this thread is about to wait. Return: for _wait(). */
uint32_t physmap_bell_prepare(struct physmap *map);

/**
 * physmap_bell_wait() - sleep until the bell rings after physmap_bell_prepare(), or for a second.
 * @map: physmap
 * @seen: from physmap_bell_prepare(); whatever is waited for was checked since
 *
 * Return: false if it was the second that ended it.
 */
bool physmap_bell_wait(struct physmap *map, uint32_t seen);

/** physmap_bell_finish() - this thread no longer waits; one for each _prepare(). */
void physmap_bell_finish(struct physmap *map);

/** physmap_bell_ring() - make waiting threads look again. Any thread, either side. */
void physmap_bell_ring(struct physmap *map);

#endif
