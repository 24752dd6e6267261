/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random and hostile page-table programs, run in lock step on several MMUs and on the
 * model: both modes, each with its optimisations on and off.
 *
 * A program stores to tables at all levels (self maps, one table under two parents, a
 * table mapped as data, data used as a table, large and small pages in turn), with stores
 * of all sizes and by devices, flushes or does not, changes control bits, takes pages
 * away, and makes accesses. After each access the outcome of every MMU, and the
 * accessed and dirty bits that it left, are compared with what the architecture allows:
 *
 *  - a fault, and its code, must be what the tables say now;
 *  - a translation must be what the tables say now, or what a walk could have seen since
 *    the last event that flushes it: at each level a value that the entry had since
 *    then and not before the value above it was read, if its accessed bit (and for stores
 *    the leaf's dirty bit) was set;
 *  - accessed and dirty bits are set as the model sets them, unless such an older
 *    translation allows the access without a walk.
 *
 * Now and then a program leaves long mode for another paging mode or for none, where it
 * flushes before each access, so that outcomes are exact.
 *
 * Where MMUs may differ in this way they are brought to the same contents of memory
 * before the program goes on. Seeds: MMU_SEED is the first, MMU_SEEDS how many.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arch/x86.h>
#include <mem/physmap.h>
#include <mmu/mmu.h>

#include "mmu_model.h"

#define RAM      (UINT64_C(8) << 20)
#define N_WORDS  (RAM / 8)
#define N_STEPS  3000U
#define N_PCID   3U
#define N_ROOTS  3U
#define MAX_SEEN 512U
#define MAX_CUTS 8192U

/* Frames: roots, tables of any level, last-level tables, data. */
#define ROOT(i)  (UINT64_C(0x1000) * (1 + (i)))
#define TABLE(i) (UINT64_C(0x1000) * (4 + (i)))
#define N_TABLES 6U
#define LAST(i)  (UINT64_C(0x1000) * (10 + (i)))
#define N_LAST   5U
#define DATA(i)  (UINT64_C(0x1000) * (16 + (i)))
#define N_DATA   8U
#define N_FRAMES 24U

#define N_L4     3U
#define N_L3     2U
#define N_L2     3U
#define N_L1     4U
#define N_VA     (N_L4 * N_L3 * N_L2 * N_L1)

struct world {
	const char *name;
	struct guestmem *mem;
	struct machine *machine;
	struct tlb tlb;
	struct mmu *mmu;
};

struct config {
	const char *name;
	struct mmu_options opt;
};

#define BOTH .large_pages = true, .structure_caches = true

static const struct config configs[] = {
	{"hardware", {.mode = MMU_HARDWARE, BOTH}},
	{"hardware, no caches", {.mode = MMU_HARDWARE}},
	{"software",
	 {.mode = MMU_SOFTWARE, BOTH, .prefetch = true, .out_of_sync = true}},
	{"software, in sync", {.mode = MMU_SOFTWARE, BOTH, .prefetch = true}},
	{"software, no prefetch",
	 {.mode = MMU_SOFTWARE, BOTH, .out_of_sync = true}},
	{"software, plain", {.mode = MMU_SOFTWARE}},
	{"software, tiny",
	 {.mode = MMU_SOFTWARE,
	  BOTH,
	  .prefetch = true,
	  .out_of_sync = true,
	  .shadow_bytes = 1}},
};

#define N_WORLDS ARRAY_SIZE(configs)

/* A value that a word of guest memory had from a time on. */
struct past {
	uint64_t value;
	uint64_t since;
	uint32_t older; /* index + 1 */
};

struct program {
	struct world world[N_WORLDS];
	struct guestmem *model;
	struct mmu_regs regs;
	uint64_t rng;
	uint64_t now;
	uint64_t seed;
	unsigned int step;

	uint32_t *newest; /* by word: index + 1 in past */
	struct past *past;
	uint32_t n_past, max_past;

	/* Since when translations may be cached: by PCID and address; global ones. */
	uint64_t flushed[N_PCID][N_VA];
	uint64_t flushed_global[N_VA];
	/* Since when pages of 2 MiB and 1 GiB may: INVLPG of any address in them flushes them. */
	uint64_t flushed_large[N_PCID][2][N_VA];
	uint64_t flushed_large_global[2][N_VA];
	/* When all of a PCID's structure caches were flushed, in order. */
	uint64_t cut[N_PCID][MAX_CUTS];
	unsigned int n_cuts[N_PCID];
	/* When a root was last in use with a PCID. */
	uint64_t root_used[N_PCID][N_ROOTS];

	/* Of one access: what older walks may have come to, and the words they read. */
	uint64_t older[MAX_SEEN];
	unsigned int n_older;
	uint64_t seen[MAX_SEEN];
	unsigned int n_seen;

	uint64_t n_ok, n_fault, n_mmio, n_ambiguous, n_stale, n_stores, n_exact;
};

static uint64_t rnd(struct program *p)
{
	p->rng ^= p->rng << 13;
	p->rng ^= p->rng >> 7;
	p->rng ^= p->rng << 17;
	return p->rng * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

static uint64_t below(struct program *p, uint64_t n)
{
	return rnd(p) % n;
}

static bool chance(struct program *p, unsigned int pct)
{
	return below(p, 100) < pct;
}

/* Addresses */

static uint64_t va_of(unsigned int i)
{
	static const uint64_t l4[N_L4] = {0, 1, 511};
	static const uint64_t l1[N_L1] = {0, 1, 5, 511};
	uint64_t va = l1[i % N_L1] << 12;

	i /= N_L1;
	va |= (uint64_t)(i % N_L2) << 21;
	i /= N_L2;
	va |= (uint64_t)(i % N_L3) << 30;
	i /= N_L3;
	va |= l4[i] << 39;
	return va & BIT64(47) ? va | UINT64_C(0xffff000000000000) : va;
}

static unsigned int pcid_now(const struct program *p)
{
	return p->regs.cr4 & CR4_PCIDE ? p->regs.cr3 & 0xfff : 0;
}

/* Memory */

static uint8_t *world_host(struct world *w, uint64_t addr,
			   enum mem_access access)
{
	struct mem_page page;

	assert_int_equal(guestmem_resolve(w->mem, gpa(addr), access, &page),
			 MEM_OK);
	return machine_ptr(w->machine, page.ma) + addr % PAGE_SIZE;
}

static uint64_t world_load(struct world *w, uint64_t addr)
{
	uint64_t v;

	memcpy(&v, world_host(w, addr, MEM_READ), sizeof(v));
	return v;
}

static void world_store(struct world *w, uint64_t addr, uint64_t v)
{
	memcpy(world_host(w, addr, MEM_WRITE), &v, sizeof(v));
	if (guestmem_flags(w->mem)[addr / PAGE_SIZE] & GUESTMEM_TABLE)
		mmu_table_written(w->mmu, gpa(addr), sizeof(v));
}

static uint64_t model_load(struct program *p, uint64_t addr)
{
	uint64_t v = 0;

	assert_true(guestmem_read(p->model, gpa(addr), &v, sizeof(v)));
	return v;
}

static void remember(struct program *p, uint64_t addr, uint64_t v)
{
	uint32_t *newest = &p->newest[addr / 8];

	if (p->n_past == p->max_past) {
		p->max_past *= 2;
		p->past = realloc(p->past, p->max_past * sizeof(*p->past));
		assert_non_null(p->past);
	}
	p->past[p->n_past] = (struct past){v, p->now, *newest};
	*newest = ++p->n_past;
}

static void model_store(struct program *p, uint64_t addr, uint64_t v)
{
	assert_true(guestmem_write(p->model, gpa(addr), &v, sizeof(v)));
	remember(p, addr, v);
}

static void store(struct program *p, uint64_t addr, uint64_t v)
{
	p->now++;
	model_store(p, addr, v);
	for (unsigned int i = 0; i < N_WORLDS; i++)
		world_store(&p->world[i], addr, v);
}

/* Who stores: the processor, a device by copying, a device to memory it was given. */
enum storer {
	BY_CPU,
	BY_DEVICE,
	BY_SPAN,
	N_STORERS
};

static void world_write(struct world *w, uint64_t addr, const uint8_t *from,
			uint64_t len, enum storer by)
{
	while (len) {
		const uint64_t rest = PAGE_SIZE - addr % PAGE_SIZE;
		const uint64_t part = len < rest ? len : rest;
		uint64_t room;
		uint8_t *to;

		switch (by) {
		case BY_CPU:
			memcpy(world_host(w, addr, MEM_WRITE), from, part);
			if (guestmem_flags(w->mem)[addr / PAGE_SIZE] &
			    GUESTMEM_TABLE)
				mmu_table_written(w->mmu, gpa(addr), part);
			break;
		case BY_DEVICE:
			assert_true(
				guestmem_write(w->mem, gpa(addr), from, part));
			break;
		case BY_SPAN:
		case N_STORERS:
			assert_int_equal(guestmem_span(w->mem, gpa(addr),
						       MEM_WRITE, &to, &room),
					 MEM_OK);
			memcpy(to, from, part);
			break;
		}
		addr += part;
		from += part;
		len -= part;
	}
}

/* Store bytes anywhere. */
static void store_bytes(struct program *p, uint64_t addr, const uint8_t *from,
			uint64_t len, enum storer by)
{
	p->now++;
	for (uint64_t a = addr & ~UINT64_C(7); a < addr + len; a += 8) {
		uint64_t v = model_load(p, a);

		for (uint64_t b = 0; b < 8; b++)
			if (a + b >= addr && a + b < addr + len)
				memcpy((uint8_t *)&v + b, from + (a + b - addr),
				       1);
		model_store(p, a, v);
	}
	for (unsigned int i = 0; i < N_WORLDS; i++)
		world_write(&p->world[i], addr, from, len, by);
}

/* What older walks may have come to. */

struct chain {
	struct program *p;
	uint64_t va;
	unsigned int access;
	const uint64_t *large; /* since when translations of large pages may be cached */
	bool global_only;
	uint64_t rsvd;
};

static void see(struct program *p, uint64_t word)
{
	for (unsigned int i = 0; i < p->n_seen; i++)
		if (p->seen[i] == word)
			return;
	if (p->n_seen < MAX_SEEN)
		p->seen[p->n_seen++] = word;
}

static void add_older(struct program *p, uint64_t addr)
{
	for (unsigned int i = 0; i < p->n_older; i++)
		if (p->older[i] == addr)
			return;
	if (p->n_older < MAX_SEEN)
		p->older[p->n_older++] = addr;
}

static bool older_allowed(const struct chain *c, uint64_t rights, uint64_t leaf)
{
	const struct mmu_regs *r = &c->p->regs;
	const bool write = c->access & MMU_ACC_WRITE;
	const bool user = c->access & MMU_ACC_USER;
	const bool fetch = c->access & MMU_ACC_FETCH;
	const unsigned int key = r->pkru >> 2 * (leaf >> 59 & 15) & 3;

	if (fetch && !(rights & PTE_NX))
		return false;
	if (user && !(rights & PTE_U))
		return false;
	if (write && !(rights & PTE_W) && (user || (r->cr0 & CR0_WP)))
		return false;
	if (!user && (rights & PTE_U)) {
		if (fetch && (r->cr4 & CR4_SMEP))
			return false;
		if (!fetch && (r->cr4 & CR4_SMAP) && !(c->access & MMU_ACC_AC))
			return false;
	}
	if ((r->cr4 & CR4_PKE) && (rights & PTE_U) && !fetch) {
		if (key & 1)
			return false;
		if ((key & 2) && write && (user || (r->cr0 & CR0_WP)))
			return false;
	}
	return true;
}

/* When an entry or a path may have been read: not before @since, and before @until. */
struct span {
	uint64_t since, until;
};

static struct span both_spans(struct span a, struct span b)
{
	return (struct span){
		.since = a.since > b.since ? a.since : b.since,
		.until = a.until < b.until ? a.until : b.until,
	};
}

/*
 * Whether a walk can have begun with entries that were gone at @path.until, and have read
 * the last one at @path.since: from structure caches, unless these were flushed between.
 */
static bool can_be_read(const struct chain *c, struct span path)
{
	const struct program *p = c->p;
	const unsigned int pcid = pcid_now(p);

	if (path.since < path.until || c->global_only)
		return true;
	for (unsigned int i = p->n_cuts[pcid]; i; i--) {
		const uint64_t at = p->cut[pcid][i - 1];

		if (at < path.until)
			break;
		if (at <= path.since)
			return false;
	}
	return true;
}

static void older_leaf(const struct chain *c, uint64_t rights, uint64_t leaf,
		       unsigned int shift, struct span path, uint64_t until,
		       bool current)
{
	const uint64_t mask = (UINT64_C(1) << shift) - 1;
	uint64_t flushed = 0;

	if (c->global_only && !(leaf & PTE_G))
		return;
	if (!current && (c->access & MMU_ACC_WRITE) && !(leaf & PTE_D))
		return;
	if (shift > PAGE_SHIFT)
		flushed = c->large[shift > 21];
	if (!current && until <= flushed)
		return;
	if (flushed > path.since)
		path.since = flushed;
	if (can_be_read(c, path) && older_allowed(c, rights, leaf))
		add_older(c->p, (leaf & PTE_ADDR & ~mask) | (c->va & mask));
}

static void older_walk(const struct chain *c, unsigned int level,
		       uint64_t table, uint64_t rights, struct span path);

static void older_entry(const struct chain *c, unsigned int level, uint64_t v,
			uint64_t rights, struct span path, struct span span,
			bool current)
{
	const unsigned int shift = 3 + 9 * level;
	uint64_t rsvd = c->rsvd | UINT64_C(0xfc00) << 36;
	const bool leaf = level == 1 || (level < 4 && (v & PTE_PS));

	if (level == 4)
		rsvd |= PTE_PS;
	if (leaf && level > 1)
		rsvd |= ((UINT64_C(1) << shift) - 1) & ~UINT64_C(0x1fff);
	if (!(v & PTE_P) || (v & rsvd) || (!current && !(v & PTE_A)))
		return;
	rights &= v ^ PTE_NX;
	path = both_spans(path, span);
	if (leaf)
		older_leaf(c, rights, v, shift, path, span.until, current);
	else
		older_walk(c, level - 1, v & PTE_ADDR, rights, path);
}

/* @path: of the entries above; none below is read before they are. */
static void older_walk(const struct chain *c, unsigned int level,
		       uint64_t table, uint64_t rights, struct span path)
{
	const uint64_t word = table + 8 * (c->va >> (3 + 9 * level) & 511);
	struct program *p = c->p;
	struct span span = {0, UINT64_MAX};
	bool current = true;

	if (word >= RAM)
		return;
	see(p, word);
	for (uint32_t i = p->newest[word / 8]; i; i = p->past[i - 1].older) {
		const struct past *h = &p->past[i - 1];

		span.since = h->since;
		older_entry(c, level, h->value, rights, path, span, current);
		/* What it was before was gone by then. */
		if (h->since <= path.since)
			return;
		current = false;
		span.until = h->since;
	}
	span.since = 0;
	older_entry(c, level, 0, rights, path, span, current);
}

static void find_older(struct program *p, unsigned int vi, unsigned int access)
{
	const unsigned int pcid = pcid_now(p);
	struct span path = {p->flushed[pcid][vi], UINT64_MAX};
	uint64_t large[2];
	struct chain c = {
		.p = p,
		.va = va_of(vi),
		.access = access,
		.large = large,
		.rsvd = p->regs.efer & EFER_NXE ? 0 : PTE_NX,
	};

	p->n_older = 0;
	p->n_seen = 0;
	for (unsigned int k = 0; k < 2; k++)
		large[k] = p->flushed_large[pcid][k][vi];
	for (unsigned int r = 0; r < N_ROOTS; r++)
		if (p->root_used[pcid][r] >= path.since ||
		    ROOT(r) == (p->regs.cr3 & PTE_ADDR))
			older_walk(&c, 4, ROOT(r), ~UINT64_C(0), path);
	if (!(p->regs.cr4 & CR4_PGE))
		return;
	path.since = p->flushed_global[vi];
	for (unsigned int k = 0; k < 2; k++)
		large[k] = p->flushed_large_global[k][vi];
	c.global_only = true;
	for (unsigned int q = 0; q < N_PCID; q++)
		for (unsigned int r = 0; r < N_ROOTS; r++)
			if (p->root_used[q][r] >= path.since)
				older_walk(&c, 4, ROOT(r), ~UINT64_C(0), path);
}

static bool is_older(const struct program *p, uint64_t addr)
{
	for (unsigned int i = 0; i < p->n_older; i++)
		if (p->older[i] == addr)
			return true;
	return false;
}

/* Accesses */

struct outcome {
	enum mmu_result kind;
	uint32_t code;
	uint64_t gpa;
	bool zero; /* the common page of zeros, through the software TLB: any such page */
	bool hit; /* in the software TLB */
	uint8_t *host;
};

static void fill(struct world *w, uint64_t va, const struct mmu_xlat *x,
		 uint8_t *host)
{
	const struct tlb_fill f = {
		.addr = gva(va & PAGE_MASK),
		.host = host - va % PAGE_SIZE,
		.ppn = x->ppn,
		.read = x->read,
		.write = x->write && !guestmem_flags(w->mem)[x->ppn.v],
		.global = x->global,
		.smap_window = x->smap_window,
		.page_shift = x->page_shift,
	};

	tlb_fill(&w->tlb, &f);
}

static bool tlb_hit(struct world *w, uint64_t va, unsigned int access,
		    struct outcome *ret)
{
	const struct tlb_entry *e = tlb_slot(w->tlb.cur, va);
	const uint64_t tag = (va & PAGE_MASK) | w->tlb.ctx;
	uint64_t machine;

	if ((access & MMU_ACC_WRITE ? e->write : e->read) != tag &&
	    tlb_revalidate(&w->tlb, gva(va)))
		e = tlb_slot(w->tlb.cur, va);
	if ((access & MMU_ACC_WRITE ? e->write : e->read) != tag)
		return false;
	ret->host = (uint8_t *)(uintptr_t)(va + e->addend);
	machine = (uint64_t)(ret->host - w->machine->window);
	ret->zero = machine >= MACHINE_ZERO;
	ret->gpa = machine;
	ret->hit = true;
	ret->kind = MMU_OK;
	return true;
}

static void world_access(struct world *w, uint64_t va, unsigned int access,
			 struct outcome *ret)
{
	struct mmu_xlat x;

	memset(ret, 0, sizeof(*ret));
	tlb_set_user(&w->tlb, access & MMU_ACC_USER);
	if (!(access & (MMU_ACC_USER | MMU_ACC_AC)))
		tlb_close_smap(&w->tlb);
	if (!(access & MMU_ACC_FETCH) && tlb_hit(w, va, access, ret))
		return;
	ret->kind = mmu_translate(w->mmu, gva(va), access, &x);
	ret->code = x.fault_code;
	ret->gpa = x.gpa.v;
	if (ret->kind != MMU_OK)
		return;
	ret->host = machine_ptr(w->machine, x.ma);
	assert_int_equal(x.ppn.v, x.gpa.v / PAGE_SIZE);
	if (!(access & MMU_ACC_FETCH))
		fill(w, va, &x, ret->host);
}

static void say(const struct program *p, const struct world *w, const char *what)
{
	print_error("seed %lu step %u, %s: %s\n", p->seed, p->step, w->name,
		    what);
}

#define CHECK(p, w, cond)                 \
	do {                              \
		if (!(cond)) {            \
			say(p, w, #cond); \
			fail();           \
		}                         \
	} while (0)

/* Where a page is must be where the physmap has it. */
static void check_place(struct program *p, struct world *w,
			const struct outcome *o, unsigned int access)
{
	const uint64_t machine = (uint64_t)(o->host - w->machine->window);
	const struct physmap *map = guestmem_physmap(w->mem);

	if (machine < RAM) {
		CHECK(p, w,
		      physmap_state(physmap_load(map, ppn(machine / PAGE_SIZE))) ==
			      PHYSMAP_HOME);
		return;
	}
	CHECK(p, w, !(access & MMU_ACC_WRITE));
	if (!o->zero)
		CHECK(p, w,
		      physmap_state(physmap_load(map, ppn(o->gpa / PAGE_SIZE))) ==
			      PHYSMAP_ZERO);
}

static bool is_older_zero(const struct program *p, struct world *w)
{
	const struct physmap *map = guestmem_physmap(w->mem);

	for (unsigned int i = 0; i < p->n_older; i++)
		if (p->older[i] < RAM &&
		    physmap_state(
			    physmap_load(map, ppn(p->older[i] / PAGE_SIZE))) ==
			    PHYSMAP_ZERO)
			return true;
	return false;
}

/* Return: true if this is what the tables say now. */
static bool check_outcome(struct program *p, struct world *w,
			  const struct model_result *want,
			  const struct outcome *o, unsigned int access)
{
	if (o->kind == MMU_FAULT) {
		CHECK(p, w, want->kind == MMU_FAULT);
		CHECK(p, w, o->code == want->code);
		return true;
	}
	if (o->kind == MMU_OK)
		check_place(p, w, o, access);
	if (o->zero) {
		CHECK(p, w, is_older_zero(p, w));
		return false;
	}
	if (want->kind == o->kind && want->gpa == o->gpa)
		return true;
	CHECK(p, w, is_older(p, o->gpa));
	CHECK(p, w, (o->kind == MMU_OK) == (o->gpa < RAM));
	p->n_stale++;
	return false;
}

/* Bits of the entries that were or may have been walked; afterwards all agree. */
static void check_marks(struct program *p, bool ambiguous)
{
	for (unsigned int i = 0; i < p->n_seen; i++) {
		const uint64_t addr = p->seen[i];
		const uint64_t want = model_load(p, addr);
		uint64_t all = want;

		for (unsigned int k = 0; k < N_WORLDS; k++) {
			struct world *w = &p->world[k];
			const uint64_t got = world_load(w, addr);

			CHECK(p, w, ((got ^ want) & ~(PTE_A | PTE_D)) == 0);
			CHECK(p, w, got == want || ambiguous);
			all |= got;
		}
		if (all != want)
			model_store(p, addr, all);
		for (unsigned int k = 0; k < N_WORLDS; k++)
			if (world_load(&p->world[k], addr) != all)
				world_store(&p->world[k], addr, all);
	}
}

static uint64_t random_entry(struct program *p, unsigned int level);

/* All agree where it goes: store through what the access gave. */
static void do_store(struct program *p, const struct outcome *o, uint64_t addr)
{
	const uint64_t v = addr < ROOT(0) + N_FRAMES * PAGE_SIZE
				   ? random_entry(p,
						  1 + (unsigned int)below(p, 4))
				   : rnd(p);
	const unsigned int size = 1U << (chance(p, 60) ? 3 : below(p, 4));
	const unsigned int at = (unsigned int)below(p, 8 / size) * size;
	uint64_t all = model_load(p, addr);

	memcpy((uint8_t *)&all + at, &v, size);
	p->now++;
	p->n_stores++;
	model_store(p, addr, all);
	for (unsigned int k = 0; k < N_WORLDS; k++) {
		struct world *w = &p->world[k];

		memcpy(o[k].host + at, &v, size);
		/* A store that hits tells nobody: nobody must need to know. */
		if (!o[k].hit &&
		    guestmem_flags(w->mem)[addr / PAGE_SIZE] & GUESTMEM_TABLE)
			mmu_table_written(w->mmu, gpa(addr + at), size);
	}
}

static void check_loads(struct program *p, const struct outcome *o,
			uint64_t addr)
{
	const uint64_t want = model_load(p, addr);

	for (unsigned int k = 0; k < N_WORLDS; k++) {
		uint64_t got;

		memcpy(&got, o[k].host, sizeof(got));
		CHECK(p, &p->world[k], got == want);
	}
}

static const unsigned int access_kinds[] = {
	MMU_ACC_READ,
	MMU_ACC_READ,
	MMU_ACC_WRITE,
	MMU_ACC_WRITE,
	MMU_ACC_FETCH,
	MMU_ACC_READ | MMU_ACC_AC,
	MMU_ACC_WRITE | MMU_ACC_AC,
	MMU_ACC_USER,
	MMU_ACC_USER,
	MMU_ACC_USER | MMU_ACC_WRITE,
	MMU_ACC_USER | MMU_ACC_WRITE,
	MMU_ACC_USER | MMU_ACC_FETCH,
};

static unsigned int random_kind(struct program *p)
{
	return access_kinds[below(p, ARRAY_SIZE(access_kinds))];
}

/* Random tables deny most accesses: prefer those that they allow. */
static unsigned int likely_va(struct program *p, unsigned int access,
			      struct model_result *ret)
{
	unsigned int vi, tries = 0;

	do {
		vi = (unsigned int)below(p, N_VA);
		model_access(p->model, &p->regs, va_of(vi), access, ret);
	} while (ret->kind == MMU_FAULT && tries++ < 6);
	return vi;
}

static void access_at(struct program *p, unsigned int vi, unsigned int access)
{
	const uint64_t va = va_of(vi) + 8 * below(p, 3) * 255;
	struct outcome o[N_WORLDS];
	struct model_result want;
	bool all_now = true, ambiguous;

	model_access(p->model, &p->regs, va, access, &want);
	find_older(p, vi, access);
	for (unsigned int i = 0; i < p->n_older; i++)
		p->older[i] |= va & ~PAGE_MASK;
	for (unsigned int i = 0; i < want.n_refs; i++)
		if (want.ref[i] < RAM)
			see(p, want.ref[i]);
	/* An older walk may have gone another way, or may spare this one its marks. */
	ambiguous = p->n_older > 1 || (p->n_older == 1 && want.n_sets > 0) ||
		    (p->n_older == 1 &&
		     (want.kind == MMU_FAULT || p->older[0] != want.gpa)) ||
		    (p->n_older == 1 && p->n_seen > want.n_refs);
	p->n_ambiguous += ambiguous;

	for (unsigned int k = 0; k < N_WORLDS; k++) {
		world_access(&p->world[k], va, access, &o[k]);
		if (!check_outcome(p, &p->world[k], &want, &o[k], access) &&
		    !(o[k].zero && want.kind == MMU_OK && !ambiguous))
			all_now = false;
	}
	p->now++;
	for (unsigned int i = 0; i < want.n_sets; i++)
		model_store(p, want.set[i].addr, want.set[i].value);
	check_marks(p, ambiguous);
	p->n_ok += want.kind == MMU_OK;
	p->n_mmio += want.kind == MMU_MMIO;
	p->n_fault += want.kind == MMU_FAULT;

	if (!all_now)
		return;
	if (want.kind == MMU_FAULT) {
		p->flushed[pcid_now(p)][vi] = ++p->now;
		p->flushed_global[vi] = p->now;
	} else if (want.kind == MMU_OK && (access & MMU_ACC_WRITE)) {
		do_store(p, o, want.gpa);
	} else if (want.kind == MMU_OK) {
		check_loads(p, o, want.gpa);
	}
}

static void step_access(struct program *p)
{
	const unsigned int access = random_kind(p);
	struct model_result now;

	access_at(p, likely_va(p, access, &now), access);
}

/* Edits */

static uint64_t random_target(struct program *p, unsigned int level,
			      bool *ret_large)
{
	const uint64_t pick = below(p, 100);

	*ret_large = false;
	if (pick < 3)
		return UINT64_C(0xd0000000);
	if (level == 1)
		return pick < 75 ? DATA(below(p, N_DATA))
		       : pick < 85
			       ? UINT64_C(0x400000) + PAGE_SIZE * below(p, 512)
			       : PAGE_SIZE * (1 + below(p, N_FRAMES));
	if (level < 4 && pick < 20) {
		*ret_large = true;
		return level == 3 ? 0 : UINT64_C(0x200000) * below(p, 4);
	}
	if (pick < 30)
		return PAGE_SIZE * (1 + below(p, N_FRAMES));
	return level == 2 ? LAST(below(p, N_LAST)) : TABLE(below(p, N_TABLES));
}

static uint64_t random_entry(struct program *p, unsigned int level)
{
	bool large;
	uint64_t v = random_target(p, level, &large);

	v |= large ? PTE_PS : 0;
	v |= chance(p, 97) ? PTE_P : 0;
	v |= chance(p, 88) ? PTE_W : 0;
	v |= chance(p, 88) ? PTE_U : 0;
	v |= chance(p, 60) ? PTE_A : 0;
	v |= chance(p, 40) ? PTE_D : 0;
	v |= chance(p, 15) ? PTE_G : 0;
	v |= chance(p, 5) ? PTE_NX : 0;
	v |= chance(p, 10) ? BIT64(59) : 0;
	v |= chance(p, 1) ? BIT64(47) : 0;
	return v;
}

static unsigned int level_of_frame(struct program *p, uint64_t frame)
{
	if (frame < TABLE(0))
		return 4;
	if (frame < LAST(0))
		return chance(p, 50) ? 3 : 2;
	return 1;
}

/* A word of a table that some address uses. */
static uint64_t random_word(struct program *p, uint64_t frame,
			    unsigned int level)
{
	const uint64_t va = va_of((unsigned int)below(p, N_VA));

	return frame + 8 * (va >> (3 + 9 * level) & 511);
}

static void step_edit(struct program *p)
{
	const uint64_t frame = chance(p, 10)   ? ROOT(below(p, N_ROOTS))
			       : chance(p, 40) ? TABLE(below(p, N_TABLES))
					       : LAST(below(p, N_LAST));
	const unsigned int level = level_of_frame(p, frame);
	const uint64_t addr = random_word(p, frame, level);
	uint64_t v = model_load(p, addr);

	switch (below(p, 6)) {
	case 0:
		v ^= PTE_A;
		break;
	case 1:
		v ^= PTE_W | (chance(p, 50) ? PTE_D : 0);
		break;
	case 2:
		v ^= chance(p, 50) ? PTE_P : PTE_U;
		break;
	default:
		v = random_entry(p, level);
		break;
	}
	store(p, addr, v);
}

/* Many stores to one table, as fork and exit make them. */
static void step_burst(struct program *p)
{
	const uint64_t frame = LAST(below(p, N_LAST));
	const uint64_t kind = below(p, 3);

	for (unsigned int i = 0; i < 12; i++) {
		const uint64_t addr = random_word(p, frame, 1);
		const uint64_t v = model_load(p, addr);

		store(p, addr,
		      kind == 0   ? random_entry(p, 1)
		      : kind == 1 ? v & ~PTE_W
				  : 0);
	}
}

#define MAX_WORDS 64U

/* A store of any size, at any place, over entries or parts of them. */
static void step_odd_store(struct program *p)
{
	const unsigned int level = 1 + (unsigned int)below(p, 4);
	const uint64_t frame = PAGE_SIZE * (1 + below(p, N_FRAMES - 2));
	const bool is_long = chance(p, 10);
	const unsigned int n = is_long ? 4 + (unsigned int)below(p,
								 MAX_WORDS - 4)
				       : 3;
	uint64_t start = random_word(p, frame, level);
	uint64_t word[MAX_WORDS];
	uint64_t len, at;

	/* The last word of a page begins what crosses into the next one. */
	if (chance(p, 20))
		start = frame + PAGE_SIZE - 8;
	else if (start > frame && chance(p, 30))
		start -= 8;
	for (unsigned int i = 0; i < n; i++) {
		word[i] = model_load(p, start + 8 * i);
		if (chance(p, 70))
			word[i] = random_entry(p, level);
		else if (chance(p, 50))
			word[i] ^= BIT64(below(p, 10));
	}
	at = below(p, 8);
	len = is_long ? 8 * n - at : UINT64_C(1) << below(p, 5);
	if (chance(p, 50))
		at &= ~(len - 1) & 7;
	store_bytes(p, start + at, (const uint8_t *)word + at, len,
		    (enum storer)below(p, N_STORERS));
}

/* Flushes */

static void cut(struct program *p, unsigned int pcid)
{
	assert_true(p->n_cuts[pcid] < MAX_CUTS);
	p->cut[pcid][p->n_cuts[pcid]++] = p->now;
}

static void flushed_all(struct program *p, bool global)
{
	p->now++;
	for (unsigned int q = 0; q < N_PCID; q++)
		cut(p, q);
	for (unsigned int v = 0; v < N_VA; v++) {
		for (unsigned int q = 0; q < N_PCID; q++)
			p->flushed[q][v] = p->now;
		if (global)
			p->flushed_global[v] = p->now;
	}
}

static void use_root(struct program *p)
{
	for (unsigned int r = 0; r < N_ROOTS; r++)
		if (ROOT(r) == (p->regs.cr3 & PTE_ADDR))
			p->root_used[pcid_now(p)][r] = p->now;
}

static void load_cr3(struct program *p, uint64_t root, uint64_t pcid, bool keep)
{
	use_root(p);
	p->regs.cr3 = root | pcid;
	p->now++;
	if (!keep) {
		cut(p, (unsigned int)pcid);
		for (unsigned int v = 0; v < N_VA; v++)
			p->flushed[pcid][v] = p->now;
	}
	use_root(p);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_load_cr3(p->world[k].mmu,
			     p->regs.cr3 | (keep ? CR3_NOFLUSH : 0));
}

static void step_cr3(struct program *p)
{
	const bool pcide = p->regs.cr4 & CR4_PCIDE;
	const uint64_t pcid = pcide ? below(p, N_PCID) : 0;

	load_cr3(p, ROOT(below(p, N_ROOTS)), pcid, pcide && chance(p, 50));
}

static void invlpg(struct program *p, unsigned int vi)
{
	const unsigned int pcid = pcid_now(p);

	p->flushed[pcid][vi] = ++p->now;
	p->flushed_global[vi] = p->now;
	cut(p, pcid);
	for (unsigned int v = 0; v < N_VA; v++)
		for (unsigned int k = 0; k < 2; k++)
			if (va_of(v) >> (21 + 9 * k) ==
			    va_of(vi) >> (21 + 9 * k)) {
				p->flushed_large[pcid][k][v] = p->now;
				p->flushed_large_global[k][v] = p->now;
			}
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_invlpg(p->world[k].mmu, gva(va_of(vi)));
}

static void step_invlpg(struct program *p)
{
	invlpg(p, (unsigned int)below(p, N_VA));
}

static void invpcid(struct program *p, unsigned int type, unsigned int pcid,
		    unsigned int vi)
{
	use_root(p);
	p->now++;
	if (type == 0)
		p->flushed[pcid][vi] = p->now;
	if (type == 1)
		cut(p, pcid);
	for (unsigned int v = 0; type == 1 && v < N_VA; v++)
		p->flushed[pcid][v] = p->now;
	if (type >= 2)
		flushed_all(p, type == 2);
	use_root(p);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_invpcid(p->world[k].mmu, type, pcid, gva(va_of(vi)));
}

static void step_invpcid(struct program *p)
{
	const unsigned int pcid = p->regs.cr4 & CR4_PCIDE
					  ? (unsigned int)below(p, N_PCID)
					  : 0;

	invpcid(p, (unsigned int)below(p, 4), pcid,
		(unsigned int)below(p, N_VA));
}

static void step_regs(struct program *p)
{
	static const uint64_t cr4[] = {CR4_PGE, CR4_SMEP, CR4_SMAP, CR4_PKE,
				       CR4_PCIDE};
	const uint64_t what = below(p, ARRAY_SIZE(cr4) + 3);
	const uint32_t pkru = p->regs.pkru;

	use_root(p);
	if (what < ARRAY_SIZE(cr4))
		p->regs.cr4 ^= cr4[what];
	else if (what == ARRAY_SIZE(cr4))
		p->regs.cr0 ^= CR0_WP;
	else if (what == ARRAY_SIZE(cr4) + 1)
		p->regs.efer ^= EFER_NXE;
	else
		p->regs.pkru = (uint32_t)below(p, 16);
	/* A PCID other than 0 must be left before PCIDs are turned off. */
	if (!(p->regs.cr4 & CR4_PCIDE))
		p->regs.cr3 &= PTE_ADDR;
	/* Rights of keys that are off mean nothing; all else has rights baked in. */
	if (what <= ARRAY_SIZE(cr4) + 1 ||
	    ((p->regs.cr4 & CR4_PKE) && p->regs.pkru != pkru))
		flushed_all(p, true);
	use_root(p);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_set_regs(p->world[k].mmu, &p->regs);
}

/* Flush one address or more, in any of the ways that there are. */
static void some_flush(struct program *p, unsigned int vi)
{
	switch (below(p, 8)) {
	case 0:
	case 1:
		load_cr3(p, p->regs.cr3 & PTE_ADDR, pcid_now(p), false);
		break;
	case 2:
		step_cr3(p);
		break;
	case 3:
	case 4:
		invpcid(p, (unsigned int)below(p, 4), pcid_now(p), vi);
		break;
	case 5:
		step_regs(p);
		break;
	default:
		invlpg(p, vi);
		break;
	}
}

/* What an operating system does: change the entry of a page, flush it, go on. */
static void step_update(struct program *p)
{
	const unsigned int access = random_kind(p);
	struct model_result now;
	const unsigned int vi = likely_va(p, access, &now);
	const unsigned int level = 5 - now.n_refs;
	uint64_t leaf;

	if (now.kind != MMU_OK)
		return;
	leaf = now.ref[now.n_refs - 1];
	if (chance(p, 30)) {
		store(p, leaf, model_load(p, leaf) | PTE_G);
		invlpg(p, vi);
	}
	access_at(p, vi, access);
	/* Others of its table before, so that it may be out of sync. */
	for (unsigned int i = 0; level == 1 && i < 10; i++)
		store(p, (leaf & PAGE_MASK) + 8 * below(p, 512), 0);
	if (level > 1 && chance(p, 40)) /* large to small */
		store(p, leaf, model_load(p, leaf) ^ PTE_PS);
	else
		store(p, leaf,
		      chance(p, 50) ? model_load(p, leaf) & ~(PTE_W | PTE_D)
				    : random_entry(p, level));
	some_flush(p, vi);
	access_at(p, vi, access);
}

/*
 * A last-level table gets out of sync where it is reached through one parent, and then a
 * second parent that was not present or allowed less, which takes no flush.
 */
static void step_relink(struct program *p)
{
	const unsigned int access = random_kind(p);
	struct model_result now, other;
	const unsigned int vi = likely_va(p, access, &now);
	const unsigned int vj = likely_va(p, access, &other);
	uint64_t parent, last, v, fewer;

	if (now.kind != MMU_OK || now.n_refs != 4 || other.n_refs != 4 ||
	    other.ref[2] >= RAM || now.ref[2] == other.ref[2])
		return;
	parent = model_load(p, now.ref[2]);
	fewer = chance(p, 50) ? 0 : parent & ~(chance(p, 50) ? PTE_W : PTE_U);
	last = now.ref[3] & PAGE_MASK;
	access_at(p, vi, access);
	store(p, other.ref[2], parent);
	invlpg(p, vj);
	access_at(p, vj, access);
	store(p, now.ref[2], fewer);
	invlpg(p, vi);
	if (fewer)
		access_at(p, vi, access & ~(unsigned int)MMU_ACC_WRITE);
	v = model_load(p, now.ref[3]);
	for (unsigned int i = 0; i < 10; i++)
		store(p, last + 8 * below(p, 512), 0);
	store(p, now.ref[3],
	      chance(p, 50) ? v & ~(PTE_W | PTE_U) : random_entry(p, 1));
	store(p, now.ref[2], parent);
	access_at(p, vi, access);
}

/* A page is given up: it reads as zeros from now on. */
static void step_drop(struct program *p)
{
	const uint64_t addr = chance(p, 20)
				      ? PAGE_SIZE * (1 + below(p, N_FRAMES))
			      : chance(p, 50)
				      ? DATA(below(p, N_DATA))
				      : UINT64_C(0x400000) +
						PAGE_SIZE * below(p, 512);

	p->now++;
	for (uint64_t a = addr; a < addr + PAGE_SIZE; a += 8)
		if (p->newest[a / 8])
			model_store(p, a, 0);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		assert_int_equal(guestmem_drop(p->world[k].mem,
					       ppn(addr / PAGE_SIZE),
					       PHYSMAP_ZERO),
				 MEM_OK);
}

/* A page is taken, and given back as it was before anyone asks for it. */
static void step_take(struct program *p)
{
	const uint64_t page = chance(p, 70) ? 1 + below(p, N_FRAMES)
					    : 1024 + below(p, 1024);

	for (unsigned int k = 0; k < N_WORLDS; k++) {
		struct world *w = &p->world[k];

		mmu_unmap(w->mmu, ppn(page));
		/* While it is away nobody may read it as a table. */
		CHECK(p, w, !(guestmem_flags(w->mem)[page] & GUESTMEM_TABLE));
	}
}

/* Other paging modes */

enum odd_mode {
	PAGING_OFF,
	LEGACY,
	LEGACY_PSE,
	PAE,
	N_ODD_MODES
};

static void enter_odd_mode(struct program *p, enum odd_mode mode)
{
	struct mmu_regs *r = &p->regs;

	r->cr3 &= PTE_ADDR;
	r->cr4 &= ~(CR4_PCIDE | CR4_PAE | CR4_PSE);
	r->efer &= ~EFER_LMA;
	if (mode == PAGING_OFF)
		r->cr0 &= ~CR0_PG;
	if (mode == LEGACY_PSE)
		r->cr4 |= CR4_PSE;
	if (mode == PAE)
		r->cr4 |= CR4_PAE;
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_set_regs(p->world[k].mmu, r);
}

/* Give an address a path through tables of the mode. */
static void make_odd_path(struct program *p, enum odd_mode mode, uint64_t va)
{
	const uint64_t table = TABLE(below(p, N_TABLES));
	const uint64_t last = LAST(below(p, N_LAST));
	uint64_t pde = random_entry(p, 2);
	const uint64_t pte = random_entry(p, 1);

	if (!(pde & PTE_PS))
		pde = last | (pde & ~PTE_ADDR);
	if (mode == PAE) {
		store(p, (p->regs.cr3 & 0xffffffe0) + 8 * (va >> 30),
		      table | PTE_P | (chance(p, 5) ? PTE_W : 0));
		store(p, table + 8 * (va >> 21 & 511), pde);
		store(p, last + 8 * (va >> 12 & 511), pte & ~BIT64(59));
	} else {
		store_bytes(p, p->regs.cr3 + 4 * (va >> 22),
			    (const uint8_t *)&pde, 4, BY_CPU);
		store_bytes(p, last + 4 * (va >> 12 & 1023),
			    (const uint8_t *)&pte, 4, BY_CPU);
	}
}

static void apply_marks(struct program *p, const struct model_result *want)
{
	p->now++;
	for (unsigned int i = 0; i < want->n_sets; i++) {
		const uint64_t addr = want->set[i].addr & ~UINT64_C(7);
		uint64_t v = model_load(p, addr);

		memcpy((uint8_t *)&v + (want->set[i].addr & 7),
		       &want->set[i].value, want->entry_bytes);
		model_store(p, addr, v);
	}
}

/* An access to an address that nothing is cached of, without the software TLB. */
static void exact_access(struct program *p, uint64_t va, unsigned int access)
{
	struct model_result want;

	model_access(p->model, &p->regs, va, access, &want);
	apply_marks(p, &want);
	for (unsigned int k = 0; k < N_WORLDS; k++) {
		struct world *w = &p->world[k];
		struct outcome o = {0};
		struct mmu_xlat x;

		CHECK(p, w,
		      mmu_translate(w->mmu, gva(va), access, &x) == want.kind);
		if (want.kind == MMU_FAULT)
			CHECK(p, w, x.fault_code == want.code);
		else
			CHECK(p, w, x.gpa.v == want.gpa);
		if (want.kind == MMU_OK) {
			CHECK(p, w, x.page_shift == want.page_shift);
			CHECK(p, w, x.global == want.global);
			o.host = machine_ptr(w->machine, x.ma);
			o.gpa = x.gpa.v;
			check_place(p, w, &o, access);
		}
		for (unsigned int i = 0; i < want.n_refs; i++) {
			const uint64_t word = want.ref[i] & ~UINT64_C(7);

			CHECK(p, w,
			      word >= RAM || world_load(w, word) ==
						     model_load(p, word));
		}
	}
	p->n_exact += want.kind == MMU_OK;
}

static void step_excursion(struct program *p)
{
	const enum odd_mode mode = (enum odd_mode)below(p, N_ODD_MODES);
	const uint64_t n = 4 + below(p, 16);
	const struct mmu_regs home = p->regs;

	enter_odd_mode(p, mode);
	for (uint64_t i = 0; i < n; i++) {
		/* The first third of them lies below 4 GiB. */
		const uint64_t va = va_of((unsigned int)below(p, N_VA / N_L4));

		if (mode != PAGING_OFF && chance(p, 70))
			make_odd_path(p, mode, va);
		else
			step_odd_store(p);
		for (unsigned int k = 0; k < N_WORLDS; k++)
			mmu_invlpg(p->world[k].mmu, gva(va));
		exact_access(p, va + below(p, PAGE_SIZE - 8), random_kind(p));
	}
	p->regs = home;
	flushed_all(p, true);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_set_regs(p->world[k].mmu, &p->regs);
}

/* All memory, all entries. */
static void check_all(struct program *p)
{
	for (unsigned int k = 0; k < N_WORLDS; k++) {
		struct world *w = &p->world[k];
		struct err err;

		if (mmu_audit(w->mmu, &err) < 0) {
			say(p, w, err.text);
			fail();
		}
		for (uint64_t a = ROOT(0); a < PAGE_SIZE * N_FRAMES; a += 8)
			if (world_load(w, a) != model_load(p, a)) {
				say(p, w, "memory differs");
				print_error("at %#lx: %#lx, not %#lx\n", a,
					    world_load(w, a), model_load(p, a));
				fail();
			}
	}
}

/* Worlds */

static void unmap_hook(void *ctx, ppn_t page)
{
	struct world *w = ctx;

	mmu_unmap(w->mmu, page);
}

static void written_hook(void *ctx, gpa_t addr, uint64_t len)
{
	struct world *w = ctx;

	mmu_table_written(w->mmu, addr, len);
}

static const struct guestmem_ops hooks = {
	.unmap = unmap_hook,
	.written = written_hook,
};

static void world_init(struct world *w, const struct config *c)
{
	struct err err;

	w->name = c->name;
	assert_int_equal(guestmem_new(RAM, &w->mem, &err), 0);
	w->machine = guestmem_machine(w->mem);
	assert_int_equal(tlb_init(&w->tlb, RAM / PAGE_SIZE), 0);
	assert_int_equal(mmu_new(w->mem, &w->tlb, &c->opt, &w->mmu, &err), 0);
	guestmem_set_ops(w->mem, &hooks, w);
}

static void world_release(struct world *w)
{
	mmu_free(w->mmu);
	assert_int_equal(machine_table_pages(w->machine), 0);
	tlb_release(&w->tlb);
	guestmem_free(w->mem);
}

static void program_init(struct program *p, uint64_t seed)
{
	struct err err;

	memset(p, 0, sizeof(*p));
	p->seed = seed;
	p->rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	p->newest = calloc(N_WORDS, sizeof(*p->newest));
	p->max_past = 4096;
	p->past = calloc(p->max_past, sizeof(*p->past));
	assert_true(p->newest != NULL && p->past != NULL);
	assert_int_equal(guestmem_new(RAM, &p->model, &err), 0);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		world_init(&p->world[k], &configs[k]);

	p->regs = (struct mmu_regs){
		.cr0 = CR0_PE | CR0_PG | (seed & 8 ? 0 : CR0_WP),
		.cr3 = ROOT(0),
		.cr4 = CR4_PAE | CR4_PGE | (seed & 1 ? CR4_PKE : 0) |
		       (seed & 2 ? CR4_PCIDE : 0) | (seed & 4 ? CR4_SMAP : 0),
		.efer = EFER_LME | EFER_LMA | EFER_NXE,
		.pkru = 4,
	};
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_set_regs(p->world[k].mmu, &p->regs);
	/* Half of 2 MiB at home for large entries to begin with. */
	for (uint64_t a = UINT64_C(0x600000); a < RAM; a += PAGE_SIZE)
		store(p, a, a);
	for (unsigned int i = 0; i < 300; i++)
		step_edit(p);
	for (unsigned int r = 0; r < N_ROOTS; r++)
		for (unsigned int v = 0; v < N_VA; v++)
			store(p, ROOT(r) + 8 * (va_of(v) >> 39 & 511),
			      TABLE(r + v % 2) | PTE_P | PTE_W | PTE_U);
	flushed_all(p, true);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_invpcid(p->world[k].mmu, 2, 0, gva(0));
	use_root(p);
}

static void program_release(struct program *p)
{
	for (unsigned int k = 0; k < N_WORLDS; k++)
		world_release(&p->world[k]);
	guestmem_free(p->model);
	free(p->newest);
	free(p->past);
}

struct choice {
	void (*step)(struct program *p);
	unsigned int weight; /* of 1000 */
};

static const struct choice choices[] = {
	{step_access, 530},  {step_edit, 180},  {step_odd_store, 50},
	{step_update, 30},   {step_relink, 10}, {step_burst, 20},
	{step_invlpg, 80},   {step_cr3, 45},    {step_invpcid, 15},
	{step_regs, 10},     {step_drop, 15},   {step_take, 10},
	{step_excursion, 5},
};

static void step(struct program *p)
{
	uint64_t what = below(p, 1000);

	use_root(p);
	for (unsigned int i = 0; i < ARRAY_SIZE(choices); i++) {
		if (what < choices[i].weight) {
			choices[i].step(p);
			return;
		}
		what -= choices[i].weight;
	}
}

static uint64_t setting(const char *name, uint64_t normal)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : normal;
}

static void test_programs(void **state)
{
	const uint64_t first = setting("MMU_SEED", 1);
	const uint64_t n = setting("MMU_SEEDS", 20);
	uint64_t ok = 0, fault = 0, mmio = 0, stale = 0, ambiguous = 0,
		 stores = 0, exact = 0;
	uint64_t unsyncs = 0, recycled = 0;
	struct program *p = malloc(sizeof(*p));

	(void)state;
	assert_non_null(p);
	for (uint64_t seed = first; seed < first + n; seed++) {
		program_init(p, seed);
		for (p->step = 0; p->step < N_STEPS; p->step++) {
			step(p);
			if (p->step % 32 == 0)
				check_all(p);
		}
		check_all(p);
		ok += p->n_ok;
		fault += p->n_fault;
		mmio += p->n_mmio;
		stale += p->n_stale;
		ambiguous += p->n_ambiguous;
		stores += p->n_stores;
		exact += p->n_exact;
		for (unsigned int k = 0; k < N_WORLDS; k++)
			unsyncs += mmu_stats(p->world[k].mmu)->unsyncs;
		recycled += mmu_stats(p->world[6].mmu)->recycled;
		program_release(p);
	}
	free(p);
	print_message(
		"%lu ok, %lu faults, %lu device, %lu ambiguous, %lu stale, %lu stores, %lu in other modes, %lu unsyncs, %lu recycled\n",
		ok, fault, mmio, ambiguous, stale, stores, exact, unsyncs,
		recycled);
	/* The programs must reach what they are meant to test. */
	assert_true(ok > 50 * n && fault > 50 * n && mmio > 0 && stores > 20 * n);
	assert_true(stale > 0 && unsyncs > n && recycled > 0 && exact > n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
