/* SPDX-License-Identifier: Apache-2.0 */
/* Accesses in all worlds, compared with the model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <mem/physmap.h>

#include "lockstep.h"

/* Accesses */

static bool tlb_hit(struct world *w, uint64_t va, unsigned int access,
		    struct outcome *ret)
{
	const struct tlb_entry *e = tlb_slot(w->rig.tlb.cur, va);
	const uint64_t tag = (va & PAGE_MASK) | w->rig.tlb.ctx;
	uint64_t machine;

	if ((access & MMU_ACC_WRITE ? e->write : e->read) != tag &&
	    tlb_revalidate(&w->rig.tlb, gva(va)))
		e = tlb_slot(w->rig.tlb.cur, va);
	if ((access & MMU_ACC_WRITE ? e->write : e->read) != tag)
		return false;
	ret->host = (uint8_t *)(uintptr_t)(va + e->addend);
	machine = (uint64_t)(ret->host - w->rig.machine->window);
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
	tlb_set_user(&w->rig.tlb, access & MMU_ACC_USER);
	if (!(access & (MMU_ACC_USER | MMU_ACC_AC)))
		tlb_close_smap(&w->rig.tlb);
	if (!(access & MMU_ACC_FETCH) && tlb_hit(w, va, access, ret))
		return;
	ret->kind = mmu_translate(w->rig.mmu, gva(va), access, &x);
	ret->code = x.fault_code;
	ret->gpa = x.gpa.v;
	if (ret->kind != MMU_OK)
		return;
	ret->host = machine_ptr(w->rig.machine, x.ma);
	assert_int_equal(x.ppn.v, x.gpa.v / PAGE_SIZE);
	if (!(access & MMU_ACC_FETCH))
		mmu_rig_fill_tlb(&w->rig, gva(va), &x);
}

/* Where a page is must be where the physmap has it. */
void check_place(struct program *p, struct world *w, const struct outcome *o,
		 unsigned int access)
{
	const uint64_t machine = (uint64_t)(o->host - w->rig.machine->window);
	const struct physmap *map = guestmem_physmap(w->rig.mem);

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
	const struct physmap *map = guestmem_physmap(w->rig.mem);

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
		if (!o[k].hit && guestmem_flags(w->rig.mem)[addr / PAGE_SIZE] &
					 GUESTMEM_TABLE)
			mmu_table_written(w->rig.mmu, gpa(addr + at), size);
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

unsigned int random_kind(struct program *p)
{
	return access_kinds[below(p, ARRAY_SIZE(access_kinds))];
}

/* Random tables deny most accesses: prefer those that they allow. */
unsigned int likely_va(struct program *p, unsigned int access,
		       struct model_result *ret)
{
	unsigned int vi, tries = 0;

	do {
		vi = (unsigned int)below(p, N_VA);
		model_access(p->model, &p->regs, va_of(vi), access, ret);
	} while (ret->kind == MMU_FAULT && tries++ < 6);
	return vi;
}

void access_at(struct program *p, unsigned int vi, unsigned int access)
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

void step_access(struct program *p)
{
	const unsigned int access = random_kind(p);
	struct model_result now;

	access_at(p, likely_va(p, access, &now), access);
}
