/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software TLB: guest virtual page to host pointer, one compare per access.
 *
 * There are two direct-mapped arrays, one for user and one for supervisor accesses,
 * so that rights need no further check. An entry's read tag is the page address
 * with the current context number in its low 12 bits (and so the write tag); an entry of
 * another context never matches. Access of size n at address a compares
 * ((a + n - 1) & PAGE_MASK) | context with the tag of the entry found by a: an access that
 * crosses into the next page therefore misses and takes the slow path.
 *
 * Flushing takes a new context number, which costs nothing whatever the size; entries of
 * global pages are recognised on their next use by the `meta` word and
 * re-tagged without a walk. When numbers run out the arrays are cleared.
 *
 * A write tag is present only where a store needs no bookkeeping: the guest's dirty bit is
 * set, the machine page is private, and no GUESTMEM_* flag asks for the slow path.
 */
#ifndef MMU_TLB_H
#define MMU_TLB_H
#include <base/types.h>

#define TLB_BITS    14
#define TLB_ENTRIES (1U << TLB_BITS)
#define TLB_NO_TAG  UINT64_C(0xfff) /* context 4095 is never current */

/**
 * struct tlb_entry - one translation.
 * @read: tag that read accesses compare with, or TLB_NO_TAG
 * @write: tag that write accesses compare with, or TLB_NO_TAG
 * @addend: host address = guest virtual address + addend (modulo 2^64)
 * @meta: page address | global generation << 3 | TLB_META_* bits
 */
struct tlb_entry {
	uint64_t read;
	uint64_t write;
	uint64_t addend;
	uint64_t meta;
};

#define TLB_META_GLOBAL UINT64_C(1)
#define TLB_META_READ   UINT64_C(2)
#define TLB_META_WRITE  UINT64_C(4)

#define TLB_SMAP_SLOTS  8

/** struct tlb_stats - counters of a software TLB. */
struct tlb_stats {
	uint64_t misses;        /* slow lookups that needed the MMU */
	uint64_t revalidations; /* global entries taken over into a new context */
	uint64_t flushes;       /* whole flushes, global or not */
	uint64_t page_flushes; /* single pages */
};

/**
 * struct tlb - the software TLB of one virtual processor.
 *
 * Embedded in struct cpu; used by its thread only.
 */
struct tlb {
	struct tlb_entry *cur; /* array in use: user or supervisor, or blind */
	uint64_t ctx;          /* current context, 1 to 4094 */

	struct tlb_entry *array[2]; /* indexed by 1 for user, 0 for supervisor */
	struct tlb_entry *blind;    /* never filled: every access is slow */
	uint64_t next_ctx;
	uint32_t global_gen; /* 9 bits */
	uint32_t fetch_gen[2]; /* by privilege as @array: a change voids what is known of code */
	bool local_code; /* supervisor code was fetched from a page that is not global, or low */
	bool user;
	bool is_blind;
	uint32_t *write_slot; /* per PPN: slot + 1 that may hold its only write tag, or TLB_MANY */
	uint64_t n_ppn;
	uint32_t n_smap; /* supervisor entries of user pages, to drop at CLAC */
	uint32_t smap[TLB_SMAP_SLOTS];
	uint64_t large[4]; /* filter: 2 MiB regions that hold entries of large pages */
	uint64_t huge; /* the same for 1 GiB pages, one bit per GiB modulo 64 */
	struct tlb_stats stats;
};

/** tlb_init() - make an empty TLB for a VM with @n_ppn pages of RAM. Return: 0 or -ENOMEM. */
int tlb_init(struct tlb *t, uint64_t n_ppn) __attribute__((warn_unused_result));

/** tlb_release() - free its arrays. */
void tlb_release(struct tlb *t);

/** tlb_set_user() - choose the array by privilege: true for CPL 3. */
void tlb_set_user(struct tlb *t, bool user);

/** tlb_set_blind() - send every access to the slow path (alignment checks, data breakpoints). */
void tlb_set_blind(struct tlb *t, bool blind);

/** tlb_flush_all() - drop everything, global pages too. */
void tlb_flush_all(struct tlb *t);

/** tlb_flush_nonglobal() - drop all but global pages. */
void tlb_flush_nonglobal(struct tlb *t);

/** tlb_flush_page() - drop one page of any size and of any kind, as INVLPG does. */
void tlb_flush_page(struct tlb *t, gva_t addr);

/**
 * tlb_note_code() - code was fetched; tells which flushes concern what is known of it.
 * @t: software TLB
 * @addr: linear address
 * @global: it is in a global page
 */
static inline void tlb_note_code(struct tlb *t, gva_t addr, bool global)
{
	if (!t->user && (!global || !(addr.v >> 63)))
		t->local_code = true;
}

/** tlb_protect_ppn() - no store to this page of RAM may hit any more. */
void tlb_protect_ppn(struct tlb *t, ppn_t page);

/** tlb_close_smap() - EFLAGS.AC was cleared: drop what was filled under it. */
void tlb_close_smap(struct tlb *t);

/** tlb_slot() - the entry that an address uses in the array of a privilege. */
static inline struct tlb_entry *tlb_slot(struct tlb_entry *array, uint64_t addr)
{
	return &array[(addr >> PAGE_SHIFT) & (TLB_ENTRIES - 1)];
}

/* What tlb_fill() is told of a translation. */
struct tlb_fill {
	gva_t addr;
	uint8_t *host; /* host address of the page's first byte */
	ppn_t ppn;     /* page of RAM, used if @write */
	bool read;
	bool write;
	bool global;
	bool smap_window; /* user page reached from supervisor mode under EFLAGS.AC */
	uint8_t page_shift; /* of the guest's page: 12, 21 or 30 */
};

/** tlb_fill() - enter a 4 KiB piece of a translation for the current privilege and context. */
void tlb_fill(struct tlb *t, const struct tlb_fill *f);

/**
 * tlb_revalidate() - take a global entry of an older context over into the current one.
 * Return: true if the slot of @addr can be used now.
 */
bool tlb_revalidate(struct tlb *t, gva_t addr);

#endif
