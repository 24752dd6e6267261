/* SPDX-License-Identifier: Apache-2.0 */
/* The software TLB's slow operations: filling and flushing. The model is described in tlb.h. */
#include <mmu/tlb.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <base/sparse.h>
#include <base/verify.h>

#define TLB_LAST_CTX 4094U
#define TLB_GEN_BITS 9
#define TLB_MANY     UINT32_MAX
#define TLB_BYTES    (sizeof(struct tlb_entry) * TLB_ENTRIES)

static struct tlb_entry *array_new(void)
{
	void *p = mmap(NULL, TLB_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Zero tags never match: contexts start at 1. */
static void arrays_clear(struct tlb *t)
{
	memset(t->array[0], 0, TLB_BYTES);
	memset(t->array[1], 0, TLB_BYTES);
	t->next_ctx = 1;
	t->global_gen = 0;
}

static void new_context(struct tlb *t)
{
	if (t->next_ctx > TLB_LAST_CTX)
		arrays_clear(t);
	t->ctx = t->next_ctx++;
	t->n_smap = 0;
}

/* User code is flushed by everything; kernels keep theirs in global pages of the upper half. */
static void flush_code(struct tlb *t, bool global)
{
	t->fetch_gen[1]++;
	if (!global && !t->local_code)
		return;
	t->fetch_gen[0]++;
	t->local_code = false;
}

static void choose_array(struct tlb *t)
{
	t->cur = t->is_blind ? t->blind : t->array[t->user];
}

int tlb_init(struct tlb *t, uint64_t n_ppn)
{
	memset(t, 0, sizeof(*t));
	t->array[0] = array_new();
	t->array[1] = array_new();
	t->blind = array_new();
	t->write_slot = sparse_new(n_ppn * sizeof(*t->write_slot) + PAGE_SIZE);
	t->n_ppn = n_ppn;
	if (!t->array[0] || !t->array[1] || !t->blind || !t->write_slot) {
		tlb_release(t);
		return -ENOMEM;
	}
	t->next_ctx = 1;
	new_context(t);
	choose_array(t);
	return 0;
}

void tlb_release(struct tlb *t)
{
	for (unsigned int i = 0; i < 2; i++)
		if (t->array[i])
			munmap(t->array[i], TLB_BYTES);
	if (t->blind)
		munmap(t->blind, TLB_BYTES);
	sparse_free(t->write_slot,
		    t->n_ppn * sizeof(*t->write_slot) + PAGE_SIZE);
	memset(t, 0, sizeof(*t));
}

void tlb_set_user(struct tlb *t, bool user)
{
	t->user = user;
	choose_array(t);
}

void tlb_set_blind(struct tlb *t, bool blind)
{
	t->is_blind = blind;
	choose_array(t);
}

void tlb_flush_nonglobal(struct tlb *t)
{
	t->stats.flushes++;
	flush_code(t, false);
	new_context(t);
}

void tlb_flush_all(struct tlb *t)
{
	t->stats.flushes++;
	if (++t->global_gen == 1U << TLB_GEN_BITS)
		arrays_clear(t);
	memset(t->large, 0, sizeof(t->large));
	t->huge = 0;
	flush_code(t, true);
	new_context(t);
}

static void entry_drop(struct tlb_entry *e)
{
	e->read = TLB_NO_TAG;
	e->write = TLB_NO_TAG;
	e->meta = 0;
}

static bool entry_is_in(const struct tlb_entry *e, uint64_t first, uint64_t last)
{
	const uint64_t page = e->meta & PAGE_MASK;

	return page >= first && page <= last;
}

static unsigned int large_bit(uint64_t addr)
{
	return (addr >> 21) & 255;
}

static uint64_t huge_bit(uint64_t addr)
{
	return UINT64_C(1) << ((addr >> 30) & 63);
}

static bool large_possible(const struct tlb *t, uint64_t addr)
{
	const unsigned int bit = large_bit(addr);

	return t->large[bit / 64] & (UINT64_C(1) << (bit % 64));
}

static void drop_range(struct tlb *t, uint64_t first, uint64_t last)
{
	const uint64_t n = (last - first) / PAGE_SIZE + 1;

	for (unsigned int a = 0; a < 2; a++)
		for (uint64_t i = 0; i < n && i < TLB_ENTRIES; i++) {
			struct tlb_entry *e = tlb_slot(t->array[a],
						       first + i * PAGE_SIZE);
			if (entry_is_in(e, first, last))
				entry_drop(e);
		}
}

void tlb_flush_page(struct tlb *t, gva_t addr)
{
	const uint64_t page = addr.v & PAGE_MASK;

	t->stats.page_flushes++;
	flush_code(t, addr.v >> 63);
	if (unlikely(t->huge & huge_bit(addr.v))) {
		const uint64_t mask = (UINT64_C(1) << 30) - 1;

		drop_range(t, addr.v & ~mask, (addr.v | mask) & PAGE_MASK);
	} else if (large_possible(t, addr.v)) {
		const uint64_t mask = (UINT64_C(1) << 21) - 1;

		drop_range(t, addr.v & ~mask, (addr.v | mask) & PAGE_MASK);
	} else {
		drop_range(t, page, page);
	}
}

void tlb_protect_ppn(struct tlb *t, ppn_t page)
{
	const uint32_t where = t->write_slot[page.v];

	if (!where)
		return;
	t->write_slot[page.v] = 0;
	if (where == TLB_MANY) {
		tlb_flush_all(t);
		return;
	}
	/* It may meanwhile belong to another page, which then misses once: harmless. */
	struct tlb_entry *e = &t->array[(where - 1) >> TLB_BITS]
				       [(where - 1) & (TLB_ENTRIES - 1)];
	e->write = TLB_NO_TAG;
	e->meta &= ~TLB_META_WRITE;
}

void tlb_close_smap(struct tlb *t)
{
	for (uint32_t i = 0; i < t->n_smap; i++)
		entry_drop(&t->array[0][t->smap[i]]);
	t->n_smap = 0;
}

static uint64_t meta_of(const struct tlb *t, uint64_t page, bool global,
			bool read, bool write)
{
	return page | (uint64_t)t->global_gen << 3 |
	       (global ? TLB_META_GLOBAL : 0) | (read ? TLB_META_READ : 0) |
	       (write ? TLB_META_WRITE : 0);
}

static void note_large(struct tlb *t, const struct tlb_fill *f)
{
	if (f->page_shift == 21) {
		const unsigned int bit = large_bit(f->addr.v);

		t->large[bit / 64] |= UINT64_C(1) << (bit % 64);
	} else if (f->page_shift > 21) {
		t->huge |= huge_bit(f->addr.v);
	}
}

/* A page's write tag may be in one slot that we remember, or in several. */
static void note_writable(struct tlb *t, ppn_t page, uint32_t slot)
{
	uint32_t *where = &t->write_slot[page.v];

	if (*where == 0)
		*where = slot + 1;
	else if (*where != slot + 1)
		*where = TLB_MANY;
}

void tlb_fill(struct tlb *t, const struct tlb_fill *f)
{
	const uint64_t page = f->addr.v & PAGE_MASK;
	struct tlb_entry *e = tlb_slot(t->array[t->user], page);
	const uint32_t index = (uint32_t)(e - t->array[t->user]);

	if (f->smap_window) {
		if (t->n_smap == TLB_SMAP_SLOTS)
			tlb_close_smap(t);
		t->smap[t->n_smap++] = index;
	}
	e->read = f->read ? page | t->ctx : TLB_NO_TAG;
	e->write = f->write ? page | t->ctx : TLB_NO_TAG;
	e->addend = (uint64_t)(uintptr_t)f->host - page;
	e->meta = meta_of(t, page, f->global && !f->smap_window, f->read,
			  f->write);
	if (f->page_shift > PAGE_SHIFT)
		note_large(t, f);
	if (f->write)
		note_writable(t, f->ppn, (uint32_t)t->user << TLB_BITS | index);
}

bool tlb_revalidate(struct tlb *t, gva_t addr)
{
	const uint64_t page = addr.v & PAGE_MASK;
	struct tlb_entry *e = tlb_slot(t->array[t->user], page);
	const uint64_t want = meta_of(t, page, true, false, false);

	if ((e->meta & ~(TLB_META_READ | TLB_META_WRITE)) != want)
		return false;
	const uint64_t tag = page | t->ctx;

	if (e->read == tag || e->write == tag)
		return false; /* current already: the miss has another reason */
	e->read = e->meta & TLB_META_READ ? tag : TLB_NO_TAG;
	e->write = e->meta & TLB_META_WRITE ? tag : TLB_NO_TAG;
	t->stats.revalidations++;
	return true;
}
