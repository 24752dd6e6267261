/* SPDX-License-Identifier: Apache-2.0 */
/* Worlds, their memory and the model's, and what random programs are made of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <mem/physmap.h>

#include "lockstep.h"

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

static_assert(ARRAY_SIZE(configs) == N_WORLDS, "a world for each");

void say(const struct program *p, const struct world *w, const char *what)
{
	print_error("seed %lu step %u, %s: %s\n", p->seed, p->step, w->name,
		    what);
}

uint64_t rnd(struct program *p)
{
	p->rng ^= p->rng << 13;
	p->rng ^= p->rng >> 7;
	p->rng ^= p->rng << 17;
	return p->rng * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

uint64_t below(struct program *p, uint64_t n)
{
	return rnd(p) % n;
}

bool chance(struct program *p, unsigned int pct)
{
	return below(p, 100) < pct;
}

/* Addresses */

uint64_t va_of(unsigned int i)
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

unsigned int pcid_now(const struct program *p)
{
	return p->regs.cr4 & CR4_PCIDE ? p->regs.cr3 & 0xfff : 0;
}

/* Memory */

static uint8_t *world_host(struct world *w, uint64_t addr,
			   enum mem_access access)
{
	struct mem_page page = {.ma = ma(0)};

	assert_int_equal(guestmem_resolve(w->rig.mem, gpa(addr), access, &page),
			 MEM_OK);
	return machine_ptr(w->rig.machine, page.ma) + addr % PAGE_SIZE;
}

uint64_t world_load(struct world *w, uint64_t addr)
{
	uint64_t v;

	memcpy(&v, world_host(w, addr, MEM_READ), sizeof(v));
	return v;
}

void world_store(struct world *w, uint64_t addr, uint64_t v)
{
	memcpy(world_host(w, addr, MEM_WRITE), &v, sizeof(v));
	if (guestmem_flags(w->rig.mem)[addr / PAGE_SIZE] & GUESTMEM_TABLE)
		mmu_table_written(w->rig.mmu, gpa(addr), sizeof(v));
}

static void change(struct world *w, uint64_t page, uint64_t from, uint64_t to)
{
	assert_int_equal(physmap_change(guestmem_physmap(w->rig.mem),
					PHYSMAP_BY_HOST, ppn(page), from, to),
			 PHYSMAP_CHANGED);
}

void world_take(struct world *w, uint64_t page)
{
	const uint64_t to = physmap_swapped(page);
	/* As a table it would map data of others with all rights. */
	const uint64_t nonsense = DATA(0) | PTE_P | PTE_W | PTE_U | PTE_A |
				  PTE_D;
	uint8_t *frame = machine_ptr(w->rig.machine,
				     ma(MACHINE_HOME + page * PAGE_SIZE));

	if (physmap_load(guestmem_physmap(w->rig.mem), ppn(page)) !=
	    PHYSMAP_HOME_ENTRY)
		return;
	change(w, page, physmap_home(),
	       physmap_busy(physmap_home(), PHYSMAP_BY_HOST));
	mmu_unmap(w->rig.mmu, ppn(page));
	memcpy(w->away + page * PAGE_SIZE, frame, PAGE_SIZE);
	for (unsigned int i = 0; i < PAGE_SIZE; i += 8)
		memcpy(frame + i, &nonsense, 8);
	change(w, page, physmap_busy(physmap_home(), PHYSMAP_BY_HOST),
	       physmap_busy(to, PHYSMAP_BY_HOST));
	change(w, page, physmap_busy(to, PHYSMAP_BY_HOST), to);
}

static int fill_hook(void *ctx, ppn_t page, uint64_t entry, uint8_t *frame)
{
	const struct world *w = ctx;

	assert_int_equal(physmap_slot(entry), page.v);
	memcpy(frame, w->away + page.v * PAGE_SIZE, PAGE_SIZE);
	return 0;
}

static void left_hook(void *ctx, ppn_t page, uint64_t entry)
{
	(void)ctx;
	(void)page;
	(void)entry;
}

static const struct guestmem_source_ops swap = {
	.fill = fill_hook,
	.left = left_hook,
};

uint64_t model_load(struct program *p, uint64_t addr)
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

void model_store(struct program *p, uint64_t addr, uint64_t v)
{
	assert_true(guestmem_write(p->model, gpa(addr), &v, sizeof(v)));
	remember(p, addr, v);
}

void store(struct program *p, uint64_t addr, uint64_t v)
{
	p->now++;
	model_store(p, addr, v);
	for (unsigned int i = 0; i < N_WORLDS; i++)
		world_store(&p->world[i], addr, v);
}

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
			if (guestmem_flags(w->rig.mem)[addr / PAGE_SIZE] &
			    GUESTMEM_TABLE)
				mmu_table_written(w->rig.mmu, gpa(addr), part);
			break;
		case BY_DEVICE:
			assert_true(guestmem_write(w->rig.mem, gpa(addr), from,
						   part));
			break;
		case BY_SPAN:
		case N_STORERS:
			assert_int_equal(guestmem_span(w->rig.mem, gpa(addr),
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
void store_bytes(struct program *p, uint64_t addr, const uint8_t *from,
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

/* All memory, all entries. */
void check_all(struct program *p)
{
	for (unsigned int k = 0; k < N_WORLDS; k++) {
		struct world *w = &p->world[k];
		struct err err;

		if (mmu_audit(w->rig.mmu, &err) < 0) {
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

/* Life of worlds and programs. */

static void world_init(struct world *w, const struct config *c)
{
	struct err err;

	w->name = c->name;
	assert_int_equal(mmu_rig_init(&w->rig, RAM, &c->opt, &err), 0);
	guestmem_set_source(w->rig.mem, &swap, w);
	w->away = malloc(RAM);
	assert_non_null(w->away);
}

static void world_release(struct world *w)
{
	assert_int_equal(mmu_rig_release(&w->rig), 0);
	free(w->away);
}

void program_init(struct program *p, uint64_t seed)
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
		mmu_set_regs(p->world[k].rig.mmu, &p->regs);
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
		mmu_invpcid(p->world[k].rig.mmu, 2, 0, gva(0));
	use_root(p);
}

void program_release(struct program *p)
{
	for (unsigned int k = 0; k < N_WORLDS; k++)
		world_release(&p->world[k]);
	guestmem_free(p->model);
	free(p->newest);
	free(p->past);
}
