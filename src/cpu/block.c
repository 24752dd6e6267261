/* SPDX-License-Identifier: Apache-2.0 */
/* The block cache: lookup, fetch, linking and invalidation. The model is described in block.h. */
#include <cpu/block.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <base/sparse.h>
#include <base/verify.h>
#include <cpu/translate.h>

#define HASH_BITS  15
#define FETCH_BITS 8
#define LINE_SHIFT 6 /* granularity at which stores miss code */
#define PAGES_BITS 12
#define CODE_PAGES 16384 /* 64 MiB of code; with more the cache is flushed */

/* Where fetches of a page go; a small TLB of its own, valid for one jump key. */
struct fetch_entry {
	uint64_t page;
	uint64_t key;
	struct code_fetch code;
};

/* A page of RAM that blocks were decoded from. */
struct code_page {
	struct code_page *next;
	ppn_t ppn;
	uint64_t lines;       /* one bit per 64 bytes that hold decoded code */
	struct block *blocks; /* by page_next: those that begin here */
	struct block *cross; /* by cross_next: those whose instruction ends here */
};

struct block_cache {
	struct block_cache_head head; /* first: op.h's inline path */
	struct fetch_entry fetch[1U << FETCH_BITS];
	struct block *hash[1U << HASH_BITS];
	struct code_page *pages[1U << PAGES_BITS];
	struct code_page records[CODE_PAGES]; /* used ones are in pages[], others free */
	struct code_page *free_records; /* of the first n_records */
	size_t n_records; /* those after have never been used, and have no memory */
	size_t n_free_records;
	uint8_t *pool;
	size_t pool_bytes;
	size_t pool_used;
	uint64_t generation; /* counts flushes */
};

static void record_free(struct block_cache *bc, struct code_page *p)
{
	p->next = bc->free_records;
	bc->free_records = p;
	bc->n_free_records++;
}

int block_cache_new(struct cpu *c, size_t pool_bytes)
{
	struct block_cache *bc = calloc(1, sizeof(*bc));

	if (!bc)
		return -ENOMEM;
	bc->pool = sparse_new(pool_bytes);
	if (!bc->pool) {
		free(bc);
		return -ENOMEM;
	}
	bc->pool_bytes = pool_bytes;
	bc->n_free_records = CODE_PAGES;
	c->blocks = bc;
	return 0;
}

static struct code_page *record_new(struct block_cache *bc)
{
	struct code_page *p = bc->free_records;

	VERIFY(bc->n_free_records); /* make_room() keeps two for every block */
	bc->n_free_records--;
	if (!p)
		return &bc->records[bc->n_records++];
	bc->free_records = p->next;
	return p;
}

static void pages_clear(struct cpu *c, struct block_cache *bc)
{
	uint8_t *flags = guestmem_flags(c->mem);

	/* Those of free records have none of the flag already. */
	for (size_t i = 0; i < bc->n_records; i++)
		flags[bc->records[i].ppn.v] &= (uint8_t)~GUESTMEM_CODE;
	memset(bc->pages, 0, sizeof(bc->pages));
	bc->free_records = NULL;
	bc->n_records = 0;
	bc->n_free_records = CODE_PAGES;
}

void block_cache_free(struct cpu *c)
{
	struct block_cache *bc = c->blocks;

	if (!bc)
		return;
	pages_clear(c, bc);
	sparse_free(bc->pool, bc->pool_bytes);
	free(bc);
	c->blocks = NULL;
}

void block_flush(struct cpu *c)
{
	struct block_cache *bc = c->blocks;

	pages_clear(c, bc);
	memset(bc->hash, 0, sizeof(bc->hash));
	memset(&bc->head, 0, sizeof(bc->head));
	bc->pool_used = 0;
	bc->generation++;
	if (c->translator)
		translator_clear(c->translator);
	c->stats.code_flushes++;
}

size_t block_cache_bytes(const struct cpu *c)
{
	return sizeof(*c->blocks) + c->blocks->pool_used +
	       (c->translator ? translator_bytes(c->translator) : 0);
}

static struct fetch_entry *fetch_slot(const struct cpu *c, uint64_t linear)
{
	return &c->blocks->fetch[(linear >> PAGE_SHIFT) & ((1U << FETCH_BITS) - 1)];
}

static bool fetch_cached(const struct cpu *c, uint64_t linear,
			 struct code_fetch *ret)
{
	const struct fetch_entry *e = fetch_slot(c, linear);

	*ret = e->code;
	return e->page == (linear & PAGE_MASK) && e->key == cpu_jump_key(c);
}

/* Translate the page of a linear address for instruction fetch. */
static bool fetch_page(struct cpu *c, uint64_t linear, struct code_fetch *ret)
{
	struct fetch_entry *e = fetch_slot(c, linear);
	const uint64_t page = linear & PAGE_MASK;
	struct mmu_xlat x;

	if (fetch_cached(c, linear, ret))
		return true;
	switch (mmu_translate(c->mmu, gva(linear),
			      MMU_ACC_FETCH | (c->cpl == 3 ? MMU_ACC_USER : 0),
			      &x)) {
	case MMU_OK:
		ret->host = machine_ptr(guestmem_machine(c->mem),
					ma(x.ma.v & PAGE_MASK));
		ret->ppn = x.ppn;
		tlb_note_code(&c->tlb, gva(linear), x.global);
		/* The walk may itself have flushed; then the key is of the past. */
		*e = (struct fetch_entry){page, cpu_jump_key(c), *ret};
		return true;
	case MMU_FAULT:
		cpu_raise_code(c, VEC_PF, x.fault_code);
		c->exc.cr2 = linear;
		return false;
	case MMU_MMIO:
		c->fetch_failed = true;
		c->bad_fetch = x.gpa;
		return false;
	case MMU_STOPPED:
		c->stopped = true;
		return false;
	}
	return false;
}

static size_t hash_of(uint64_t key, uint32_t mode)
{
	const uint64_t h = (key ^ (uint64_t)mode << 56) *
			   UINT64_C(0x9e3779b97f4a7c15);

	return h >> (64 - HASH_BITS);
}

static struct code_page **page_slot(struct block_cache *bc, ppn_t page)
{
	struct code_page **p = &bc->pages[(page.v * UINT64_C(0x9e3779b97f4a7c15)) >>
					  (64 - PAGES_BITS)];

	while (*p && (*p)->ppn.v != page.v)
		p = &(*p)->next;
	return p;
}

/* The record of a page; the page is protected from silent stores when it is new. */
static struct code_page *page_get(struct cpu *c, ppn_t page)
{
	struct block_cache *bc = c->blocks;
	struct code_page **slot = page_slot(bc, page);

	if (!*slot) {
		struct code_page *p = record_new(bc);

		*p = (struct code_page){.ppn = page};
		*slot = p;
		guestmem_flags(c->mem)[page.v] |= GUESTMEM_CODE;
		tlb_protect_ppn(&c->tlb, page);
	}
	return *slot;
}

static uint64_t line_mask(uint64_t offset, uint64_t len)
{
	VERIFY(len);

	const unsigned int first = (unsigned int)(offset >> LINE_SHIFT);
	const unsigned int last = (unsigned int)((offset + len - 1) >>
						 LINE_SHIFT);

	return (UINT64_MAX << first) & (UINT64_MAX >> (63 - last));
}

static uint64_t block_offset(const struct block *b)
{
	return b->key & ~PAGE_MASK;
}

/* Bytes of a block in the page that it begins in. */
static uint64_t block_head_bytes(const struct block *b)
{
	const uint64_t room = PAGE_SIZE - block_offset(b);

	return b->bytes < room ? b->bytes : room;
}

OP_EXPORT(stale)
{
	cpu_fault_exit(c, op);
	/* Entered anew by a link or the jump cache: look up what is there now. */
	if (op->idx == 0)
		return cpu_enter_slow(c);
	return NULL;
}

static void hash_remove(struct block_cache *bc, struct block *b)
{
	struct block **p = &bc->hash[hash_of(b->key, b->mode)];

	while (*p && *p != b)
		p = &(*p)->hash_next;
	if (*p)
		*p = b->hash_next;
}

static void block_kill(struct cpu *c, struct block *b)
{
	hash_remove(c->blocks, b);
	for (unsigned int i = 0; i < b->n_ops; i++)
		b->ops[i].fn = op_stale;
	c->stats.blocks_dropped++;
}

/*
 * A block whose instruction crosses pages hangs in the lists of two pages. Who kills it unlinks
 * it from the list that it walks, and with these from the other.
 */
static void cross_unlink(struct cpu *c, struct block *b)
{
	struct code_page *p = *page_slot(c->blocks, ppn(b->key2 >> PAGE_SHIFT));

	if (!b->key2 || !p)
		return;
	for (struct block **at = &p->cross; *at; at = &(*at)->cross_next)
		if (*at == b) {
			*at = b->cross_next;
			return;
		}
}

static void head_unlink(struct cpu *c, struct block *b)
{
	struct code_page *p = *page_slot(c->blocks, ppn(b->key >> PAGE_SHIFT));

	if (!p)
		return;
	for (struct block **at = &p->blocks; *at; at = &(*at)->page_next)
		if (*at == b) {
			*at = b->page_next;
			return;
		}
}

/* Kill the blocks that begin in the page and overlap; return the lines of those that stay. */
static uint64_t kill_overlapping(struct cpu *c, struct code_page *p,
				 uint64_t first, uint64_t last)
{
	uint64_t lines = 0;

	for (struct block **at = &p->blocks; *at;) {
		struct block *b = *at;
		const uint64_t start = block_offset(b);
		const uint64_t bytes = block_head_bytes(b);

		if (start <= last && first < start + bytes) {
			*at = b->page_next;
			cross_unlink(c, b);
			block_kill(c, b);
		} else {
			lines |= line_mask(start, bytes);
			at = &b->page_next;
		}
	}
	return lines;
}

static uint64_t kill_crossing(struct cpu *c, struct code_page *p, uint64_t first)
{
	uint64_t lines = 0;

	for (struct block **at = &p->cross; *at;) {
		struct block *b = *at;
		const uint64_t tail = b->bytes - block_head_bytes(b);

		if (first < tail) {
			*at = b->cross_next;
			head_unlink(c, b);
			block_kill(c, b);
		} else {
			lines |= line_mask(0, tail);
			at = &b->cross_next;
		}
	}
	return lines;
}

void block_written(struct cpu *c, ppn_t page, uint64_t offset, uint64_t len)
{
	struct code_page **slot = page_slot(c->blocks, page);
	struct code_page *p = *slot;

	if (!p || !len || !(p->lines & line_mask(offset, len)))
		return;
	p->lines = kill_overlapping(c, p, offset, offset + len - 1) |
		   kill_crossing(c, p, offset);
	if (!p->blocks && !p->cross) {
		*slot = p->next;
		guestmem_flags(c->mem)[page.v] &= (uint8_t)~GUESTMEM_CODE;
		record_free(c->blocks, p);
	}
}

static void make_room(struct cpu *c)
{
	struct block_cache *bc = c->blocks;
	const size_t need = sizeof(struct block) +
			    (BLOCK_MAX_OPS + 8) * sizeof(struct op);

	if (bc->pool_used + need > bc->pool_bytes || bc->n_free_records < 2 ||
	    (c->translator && translator_full(c->translator)))
		block_flush(c);
}

static void block_register(struct cpu *c, struct block *b)
{
	struct block_cache *bc = c->blocks;
	struct code_page *p = page_get(c, ppn(b->key >> PAGE_SHIFT));
	const size_t h = hash_of(b->key, b->mode);

	b->hash_next = bc->hash[h];
	bc->hash[h] = b;
	b->page_next = p->blocks;
	p->blocks = b;
	p->lines |= line_mask(block_offset(b), block_head_bytes(b));
	if (b->key2) {
		p = page_get(c, ppn(b->key2 >> PAGE_SHIFT));
		b->cross_next = p->cross;
		p->cross = b;
		p->lines |= line_mask(0, b->bytes - block_head_bytes(b));
	}
	bc->pool_used += sizeof(*b) + b->n_ops * sizeof(struct op);
	c->stats.blocks_decoded++;
	c->stats.insns_decoded += b->n_insns;
}

/* RIP to linear address; instruction fetch ignores the segment base in 64-bit mode. */
static uint64_t linear_rip(const struct cpu *c, uint64_t rip)
{
	if (likely((c->code_mode & CODE_BITS) == CODE_64))
		return rip;
	return (uint32_t)(rip + c->gpr[REG_SEG + SEG_CS]);
}

static bool check_rip(struct cpu *c)
{
	const uint64_t rip = c->gpr[REG_RIP];

	if ((c->code_mode & CODE_BITS) == CODE_64
		    ? (uint64_t)((int64_t)(rip << 16) >> 16) == rip
		    : rip <= c->seg[SEG_CS].limit)
		return true;
	cpu_raise_code(c, VEC_GP, 0);
	return false;
}

static struct block *block_build(struct cpu *c, uint64_t linear,
				 const struct code_fetch *code)
{
	struct block_cache *bc = c->blocks;
	const uint64_t offset = linear & ~PAGE_MASK;
	const size_t n_bytes = PAGE_SIZE - offset;
	struct code_fetch next;
	bool need_next;

	make_room(c);
	struct block *b = (struct block *)(bc->pool + bc->pool_used);

	memset(b, 0, sizeof(*b));
	b->key = code->ppn.v << PAGE_SHIFT | offset;
	b->mode = (uint16_t)c->code_mode;
	block_decode(c, b, code->host + offset, n_bytes, NULL, 0, &need_next);
	if (need_next) {
		const uint64_t addr = (linear & PAGE_MASK) + PAGE_SIZE;

		if (!fetch_page(c, addr, &next))
			return NULL;
		b->key2 = next.ppn.v << PAGE_SHIFT | 1;
		/* Bringing the second page may have moved the first. */
		struct code_fetch first;

		if (!fetch_page(c, linear, &first))
			return NULL;
		b->key = first.ppn.v << PAGE_SHIFT | offset;
		block_decode(c, b, first.host + offset, n_bytes, next.host, 15,
			     &need_next);
	}
	block_register(c, b);
	if (c->translator && c->features.translate_at_once && !b->key2 &&
	    (b->mode & (CODE_BITS | CODE_SINGLE)) == CODE_64)
		translate_block(c->translator, c, b, code->host + offset);
	return b;
}

/* Is a block whose instruction crosses pages still followed by the same page? */
static bool cross_is_current(struct cpu *c, const struct block *b,
			     uint64_t linear, bool *ret_failed)
{
	struct code_fetch next;

	if (!fetch_page(c, (linear & PAGE_MASK) + PAGE_SIZE, &next)) {
		*ret_failed = true;
		return false;
	}
	return b->key2 >> PAGE_SHIFT == next.ppn.v;
}

/*
 * The block at gpr[REG_RIP] for the current mode, decoded if need be. Return: NULL if fetching
 * raised an exception or the VM stops.
 */
static struct block *block_lookup(struct cpu *c)
{
	const uint64_t linear = linear_rip(c, c->gpr[REG_RIP]);
	struct code_fetch code;
	bool failed = false;

	if (!check_rip(c) || !fetch_page(c, linear, &code))
		return NULL;
	const uint64_t key = code.ppn.v << PAGE_SHIFT | (linear & ~PAGE_MASK);

	for (struct block *b = c->blocks->hash[hash_of(key, c->code_mode)]; b;
	     b = b->hash_next) {
		if (b->key != key || b->mode != c->code_mode)
			continue;
		if (likely(!b->key2) || cross_is_current(c, b, linear, &failed))
			return b;
		if (failed)
			return NULL;
	}
	return block_build(c, linear, &code);
}

/* Slices that end at a block before it is worth translating. */
#define HOT 3

void block_sample(struct cpu *c)
{
	const uint64_t rip = c->gpr[REG_RIP];
	struct jump_entry *e = cpu_jump_slot(c->blocks->head.jump, rip);
	struct block *b = e->block;
	struct code_fetch code;

	if (!c->translator || c->exc.pending ||
	    (c->code_mode & (CODE_BITS | CODE_SINGLE)) != CODE_64 ||
	    e->rip != rip || e->key != cpu_jump_key(c) ||
	    b->ops[0].fn == op_stale || b->heat > HOT)
		return;
	if (b->heat < HOT) {
		b->heat++;
		return;
	}
	/* Only a cached fetch is sure not to fault or to move pages. */
	if (!fetch_cached(c, rip, &code)) {
		/* An interrupt handler took its place: fetch again when the block goes on. */
		e->key = UINT64_MAX;
		return;
	}
	b->heat++;
	translate_block(c->translator, c, b, code.host + (rip & ~PAGE_MASK));
}

const struct op *cpu_enter_slow(struct cpu *c)
{
	struct block *b = block_lookup(c);

	if (!b)
		return NULL;
	c->stats.jump_misses++;
	if (likely(!b->key2)) {
		struct jump_entry *e = cpu_jump_slot(c->blocks->head.jump,
						     c->gpr[REG_RIP]);

		e->rip = c->gpr[REG_RIP];
		e->key = cpu_jump_key(c);
		e->block = b;
	}
	BLOCK_ENTER_SLOW(b);
}

static struct block *jump_or_lookup(struct cpu *c)
{
	const uint64_t rip = c->gpr[REG_RIP];
	const struct jump_entry *e = cpu_jump_slot(c->blocks->head.jump, rip);

	if (e->rip == rip && e->key == cpu_jump_key(c))
		return e->block;
	return block_lookup(c);
}

const struct op *cpu_link(struct cpu *c, const struct op *op, unsigned int side,
			  uint64_t from_rip)
{
	struct block *from = op_block(op);
	const uint64_t generation = c->blocks->generation;
	const bool is_dead = from->ops[0].fn == op_stale;
	const bool is_same_page = !((from_rip ^ c->gpr[REG_RIP]) & PAGE_MASK);
	struct block *b = jump_or_lookup(c);

	if (!b)
		return NULL;
	if (!b->key2 && !from->key2 && is_same_page && !is_dead &&
	    generation == c->blocks->generation) {
		from->link[side] = b;
	} else if (!b->key2) {
		struct jump_entry *e = cpu_jump_slot(c->blocks->head.jump,
						     c->gpr[REG_RIP]);

		*e = (struct jump_entry){c->gpr[REG_RIP], cpu_jump_key(c), b};
	}
	BLOCK_ENTER_SLOW(b);
}

const struct op *cpu_fault_exit(struct cpu *c, const struct op *op)
{
	c->left += op_block(op)->n_insns - op->nth;
	c->gpr[REG_RIP] += op->off;
	return NULL;
}

const struct op *cpu_leave(struct cpu *c, const struct op *op, uint64_t rip)
{
	c->left += op_block(op)->n_insns - op->nth - 1;
	c->gpr[REG_RIP] = rip;
	return NULL;
}
