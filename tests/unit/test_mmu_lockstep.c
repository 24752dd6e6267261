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
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lockstep.h"

#define N_STEPS 3000U

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
		mmu_set_regs(p->world[k].rig.mmu, r);
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
		      mmu_translate(w->rig.mmu, gva(va), access, &x) ==
			      want.kind);
		if (want.kind == MMU_FAULT)
			CHECK(p, w, x.fault_code == want.code);
		else
			CHECK(p, w, x.gpa.v == want.gpa);
		if (want.kind == MMU_OK) {
			CHECK(p, w, x.page_shift == want.page_shift);
			CHECK(p, w, x.global == want.global);
			o.host = machine_ptr(w->rig.machine, x.ma);
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
			mmu_invlpg(p->world[k].rig.mmu, gva(va));
		exact_access(p, va + below(p, PAGE_SIZE - 8), random_kind(p));
	}
	p->regs = home;
	flushed_all(p, true);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_set_regs(p->world[k].rig.mmu, &p->regs);
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
			unsyncs += mmu_stats(p->world[k].rig.mmu)->unsyncs;
		recycled += mmu_stats(p->world[6].rig.mmu)->recycled;
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
