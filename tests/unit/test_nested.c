/* SPDX-License-Identifier: Apache-2.0 */
/* Nested tables: violations and their information, references counted, large pages, audit. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <mem/physmap.h>
#include <mmu/nested.h>

#include "mmu_rig.h"

#define RAM (UINT64_C(64) << 20)

struct env {
	struct guestmem *mem;
	struct tlb tlb;
	struct mmu_stats stats;
	struct nested *n;
};

static void env_init(struct env *e, uint64_t ram, bool caches, bool large)
{
	struct mmu_options opt = mmu_options_default();
	struct err err;

	memset(e, 0, sizeof(*e));
	opt.structure_caches = caches;
	opt.large_pages = large;
	assert_int_equal(guestmem_new(ram, &e->mem, &err), 0);
	assert_int_equal(tlb_init(&e->tlb, ram / PAGE_SIZE), 0);
	assert_int_equal(nested_new(e->mem, &e->tlb, &opt, &e->stats, &e->n,
				    &err),
			 0);
}

static void env_release(struct env *e)
{
	nested_free(e->n);
	assert_int_equal(machine_table_pages(guestmem_machine(e->mem)), 0);
	tlb_release(&e->tlb);
	guestmem_free(e->mem);
}

/* The last-level entry of an address that is mapped by small pages. */
static uint64_t *entry_of(struct env *e, uint64_t addr)
{
	uint64_t table = nested_root(e->n).v;
	uint64_t *slot = NULL;

	for (int shift = 39; shift >= 12; shift -= 9) {
		slot = (uint64_t *)(void *)machine_ptr(guestmem_machine(e->mem),
						       ma(table)) +
		       (addr >> shift & 511);
		assert_true(*slot & PTE_P);
		if (*slot & PTE_PS)
			break;
		table = *slot & PTE_ADDR;
	}
	return slot;
}

static void assert_violates(struct env *e, uint64_t addr, unsigned int access,
			    uint64_t info1)
{
	struct nested_violation v;
	struct mem_page page;

	assert_false(nested_translate(e->n, gpa(addr), access, &page, &v));
	assert_int_equal(v.info1, info1);
	assert_int_equal(v.info2, addr);
}

static void test_exit_information(void **state)
{
	struct env e;
	struct mem_page page;
	uint64_t *entry;

	(void)state;
	env_init(&e, RAM, false, true);
	assert_violates(&e, 0x5678, NESTED_READ, 0x100000004);
	assert_int_equal(nested_access(e.n, gpa(0x5678), NESTED_READ, &page),
			 MEM_OK);
	assert_int_equal(page.ma.v, MACHINE_ZERO + 0x678);
	assert_false(page.writable);

	assert_violates(&e, 0x5678, NESTED_WRITE, 0x100000007);
	assert_violates(&e, 0x5008, NESTED_TABLE, 0x200000007);

	entry = entry_of(&e, 0x5000);
	*entry ^= PTE_U;
	assert_violates(&e, 0x5678, NESTED_READ, 0x100000005);
	*entry ^= PTE_U | BIT64(47);
	assert_violates(&e, 0x5678, NESTED_READ, 0x10000000d);
	*entry ^= BIT64(47) | PTE_NX;
	assert_violates(&e, 0x5678, NESTED_FETCH, 0x100000015);
	*entry ^= PTE_NX;

	assert_int_equal(nested_access(e.n, gpa(0x5678), NESTED_WRITE, &page),
			 MEM_OK);
	assert_int_equal(page.ma.v, MACHINE_HOME + 0x5678);
	assert_true(page.writable);
	assert_violates(&e, 0xc0000010, NESTED_WRITE, 0x100000006);
	assert_int_equal(nested_access(e.n, gpa(0xc0000010), NESTED_WRITE, &page),
			 MEM_NOT_RAM);
	env_release(&e);
}

/* Bits of an entry that say what an access may do. */
static const uint64_t entry_bits[] = {PTE_P, PTE_W, PTE_U, PTE_NX, BIT64(47)};

#define N_COMBINATIONS (1U << ARRAY_SIZE(entry_bits))

static uint64_t combination(uint64_t table, unsigned int bits)
{
	uint64_t entry = table & PTE_ADDR;

	for (unsigned int i = 0; i < ARRAY_SIZE(entry_bits); i++)
		if (bits & 1U << i)
			entry |= entry_bits[i];
	return entry;
}

/* What the architecture says of four entries, the top one first; 0: the access is allowed. */
static uint64_t model_info1(const unsigned int *bits, unsigned int access)
{
	const bool table = access & NESTED_TABLE;
	const bool write = table || (access & NESTED_WRITE);
	const bool fetch = access & NESTED_FETCH;
	const uint64_t info = (table ? NESTED_INFO_TABLE : NESTED_INFO_FINAL) |
			      PF_U | (write ? PF_W : 0) | (fetch ? PF_I : 0);
	unsigned int all = ~0U, any = 0;

	for (unsigned int i = 0; i < 4; i++) {
		if (!(bits[i] & 1))
			return info;
		if (bits[i] & 16)
			return info | PF_P | PF_RSVD;
		all &= bits[i];
		any |= bits[i];
	}
	if (!(all & 4) || (write && !(all & 2)) || (fetch && (any & 8)))
		return info | PF_P;
	return 0;
}

/* Every combination of rights at every level, for every kind of access. */
static void test_all_combinations(void **state)
{
	static const unsigned int accesses[] = {NESTED_READ, NESTED_WRITE,
						NESTED_FETCH, NESTED_TABLE};
	struct nested_violation v;
	struct mem_page page;
	uint64_t *slot[4], old[4], table;
	struct env e;

	(void)state;
	env_init(&e, RAM, false, false);
	assert_int_equal(nested_access(e.n, gpa(0x5678), NESTED_WRITE, &page),
			 MEM_OK);
	table = nested_root(e.n).v;
	for (unsigned int i = 0; i < 4; i++) {
		slot[i] = (uint64_t *)(void *)machine_ptr(guestmem_machine(e.mem),
							  ma(table)) +
			  (UINT64_C(0x5678) >> (39 - 9 * i) & 511);
		old[i] = *slot[i];
		table = old[i] & PTE_ADDR;
	}
	for (unsigned int n = 0; n < 1U << (4 * ARRAY_SIZE(entry_bits)); n++) {
		unsigned int bits[4];

		for (unsigned int i = 0; i < 4; i++) {
			bits[i] = n >> (5 * i) & (N_COMBINATIONS - 1);
			*slot[i] = combination(old[i], bits[i]);
		}
		for (unsigned int i = 0; i < ARRAY_SIZE(accesses); i++) {
			const uint64_t want = model_info1(bits, accesses[i]);
			const bool ok = nested_translate(e.n, gpa(0x5678),
							 accesses[i], &page, &v);

			if (ok != !want || (want && v.info1 != want))
				fail_msg("entries %05x access %x: %lx, not %lx",
					 n, accesses[i], ok ? 0 : v.info1, want);
		}
	}
	for (unsigned int i = 0; i < 4; i++)
		*slot[i] = old[i];
	env_release(&e);
}

/* Guest tables at 0x1000 to 0x4000 map address 0 to @target. */
static void make_tables(struct mmu_rig *r, uint64_t target)
{
	for (uint64_t t = 0x1000; t < 0x4000; t += 0x1000)
		assert_true(mmu_rig_put(r, t,
					(t + 0x1000) | PTE_P | PTE_W | PTE_U));
	assert_true(mmu_rig_put(r, 0x4000, target | PTE_P | PTE_W | PTE_U));
}

static void rig_init(struct mmu_rig *r, bool caches)
{
	struct mmu_options opt = mmu_options_default();
	const struct mmu_regs regs = mmu_rig_long_mode(0x1000);
	struct err err;

	opt.structure_caches = caches;
	assert_int_equal(mmu_rig_init(r, RAM, &opt, &err), 0);
	make_tables(r, 0x8000);
	mmu_set_regs(r->mmu, &regs);
}

static void count_refs(bool caches, uint64_t want_guest, uint64_t want_nested)
{
	const struct mmu_stats *now;
	struct mmu_stats before;
	struct mmu_rig r;
	struct mmu_xlat x;

	rig_init(&r, caches);
	now = mmu_stats(r.mmu);
	assert_int_equal(mmu_translate(r.mmu, gva(0), MMU_ACC_WRITE, &x),
			 MMU_OK);
	before = *now;
	assert_int_equal(mmu_translate(r.mmu, gva(0), MMU_ACC_WRITE, &x),
			 MMU_OK);
	assert_int_equal(now->guest_refs - before.guest_refs, want_guest);
	assert_int_equal(now->nested_refs - before.nested_refs, want_nested);
	assert_int_equal(now->found[want_guest + want_nested] -
				 before.found[want_guest + want_nested],
			 1);
	assert_int_equal(mmu_rig_release(&r), 0);
}

static void test_references_per_walk(void **state)
{
	(void)state;
	/* 4 x (4 + 1) + 4 = 24 without caches. */
	count_refs(false, 4, 20);
	count_refs(true, 1, 0);
}

static void touch(struct env *e, uint64_t start, uint64_t end)
{
	struct mem_page page;

	for (uint64_t a = start; a < end; a += PAGE_SIZE)
		assert_int_equal(nested_access(e->n, gpa(a), NESTED_WRITE, &page),
				 MEM_OK);
}

static void test_large_entries(void **state)
{
	const uint64_t two_mib = UINT64_C(2) << 20;
	struct env e;
	struct mem_page page;
	struct err err;

	(void)state;
	env_init(&e, RAM, true, true);
	touch(&e, two_mib, 2 * two_mib - PAGE_SIZE);
	assert_false(*entry_of(&e, two_mib) & PTE_PS);
	touch(&e, 2 * two_mib - PAGE_SIZE, 2 * two_mib);
	assert_true(*entry_of(&e, two_mib) & PTE_PS);
	assert_int_equal(e.stats.tables, 3);
	assert_true(nested_audit(e.n, &err) > 0);

	assert_true(nested_unmap(e.n, ppn(600)));
	assert_false(nested_unmap(e.n, ppn(600)));
	assert_violates(&e, 600 * PAGE_SIZE, NESTED_READ, 0x100000004);
	assert_true(nested_translate(e.n, gpa(601 * PAGE_SIZE + 5),
				     NESTED_WRITE, &page, NULL));
	assert_int_equal(page.ma.v, MACHINE_HOME + 601 * PAGE_SIZE + 5);
	assert_true(nested_audit(e.n, &err) > 500);
	touch(&e, 600 * PAGE_SIZE, 601 * PAGE_SIZE);
	assert_true(*entry_of(&e, two_mib) & PTE_PS);
	assert_true(nested_audit(e.n, &err) > 0);
	env_release(&e);

	env_init(&e, RAM, true, false);
	touch(&e, two_mib, 2 * two_mib);
	assert_false(*entry_of(&e, two_mib) & PTE_PS);
	env_release(&e);
}

static void test_huge_entry(void **state)
{
	const uint64_t gib = UINT64_C(1) << 30;
	struct env e;
	struct mem_page page;

	(void)state;
	env_init(&e, 2 * gib, true, true);
	/* Reads are enough to enter a page that is at home, and cost the host no memory. */
	for (uint64_t p = 0; p < gib / PAGE_SIZE; p++)
		assert_int_equal(physmap_change(guestmem_physmap(e.mem),
						PHYSMAP_BY_VM, ppn(p),
						physmap_zero(), physmap_home()),
				 PHYSMAP_CHANGED);
	for (uint64_t a = 0; a < gib; a += PAGE_SIZE)
		assert_int_equal(nested_access(e.n, gpa(a), NESTED_READ, &page),
				 MEM_OK);
	assert_int_equal(e.stats.tables, 2);
	assert_true(nested_unmap(e.n, ppn(12345)));
	assert_int_equal(e.stats.tables, 4);
	assert_violates(&e, 12345 * PAGE_SIZE, NESTED_READ, 0x100000004);
	assert_true(nested_translate(e.n, gpa(12346 * PAGE_SIZE), NESTED_WRITE,
				     &page, NULL));
	assert_int_equal(page.ma.v, MACHINE_HOME + 12346 * PAGE_SIZE);
	env_release(&e);
}

/* The physmap takes a page away: what the MMU had cached of it must be gone. */
static void test_pages_taken_away(void **state)
{
	struct mmu_rig r;
	struct mmu_xlat x;
	struct err err;
	uint64_t violations;
	uint32_t gen;

	(void)state;
	rig_init(&r, true);
	assert_int_equal(mmu_translate(r.mmu, gva(0), MMU_ACC_WRITE, &x),
			 MMU_OK);

	gen = r.tlb.fetch_gen[1];
	assert_int_equal(guestmem_drop(r.mem, ppn(8), PHYSMAP_ZERO), MEM_OK);
	assert_int_not_equal(r.tlb.fetch_gen[1], gen);
	assert_int_equal(mmu_translate(r.mmu, gva(5), MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(x.ma.v, MACHINE_ZERO + 5);
	assert_false(x.write);

	/* A device makes the page that was read as zeros private: no stale zeros. */
	gen = r.tlb.fetch_gen[1];
	assert_true(mmu_rig_put(&r, 0x8000, 77));
	assert_int_not_equal(r.tlb.fetch_gen[1], gen);
	assert_int_equal(mmu_translate(r.mmu, gva(5), MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(x.ma.v, MACHINE_HOME + 0x8005);

	/* The last table may be taken: the structure cache must not lead there any more. */
	violations = mmu_stats(r.mmu)->nested_violations;
	mmu_unmap(r.mmu, ppn(4));
	assert_int_equal(mmu_translate(r.mmu, gva(5), MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(mmu_stats(r.mmu)->nested_violations, violations + 1);

	/* It vanishes: the structure cache must not go on with it. */
	assert_int_equal(guestmem_drop(r.mem, ppn(4), PHYSMAP_ZERO), MEM_OK);
	assert_int_equal(mmu_translate(r.mmu, gva(0), MMU_ACC_READ, &x),
			 MMU_FAULT);
	assert_int_equal(x.fault_code, 0);
	assert_true(mmu_audit(r.mmu, &err) > 0);
	assert_int_equal(mmu_rig_release(&r), 0);
}

/* A page fault takes what the software TLB knows of its address with it. */
static void test_fault_flushes(void **state)
{
	const struct tlb_entry *entry;
	struct mmu_rig r;
	struct mmu_xlat x;

	(void)state;
	rig_init(&r, true);
	assert_int_equal(mmu_translate(r.mmu, gva(0), MMU_ACC_READ, &x), MMU_OK);
	mmu_rig_fill_tlb(&r, gva(0), &x);
	entry = tlb_slot(r.tlb.cur, 0);
	assert_int_equal(entry->read, r.tlb.ctx);
	assert_true(mmu_rig_put(&r, 0x4000, 0));
	assert_int_equal(mmu_translate(r.mmu, gva(0), MMU_ACC_WRITE, &x),
			 MMU_FAULT);
	assert_int_not_equal(entry->read, r.tlb.ctx);
	assert_int_equal(mmu_rig_release(&r), 0);
}

static void test_audit_sees_damage(void **state)
{
	struct env e;
	struct err err;
	uint64_t *entry;

	(void)state;
	env_init(&e, RAM, false, true);
	touch(&e, 0x5000, 0x7000);
	assert_int_equal(nested_audit(e.n, &err), 2);
	entry = entry_of(&e, 0x5000);
	*entry += PAGE_SIZE;
	assert_int_equal(nested_audit(e.n, &err), -EILSEQ);
	*entry -= PAGE_SIZE;
	assert_int_equal(nested_audit(e.n, &err), 2);
	*entry &= ~PTE_W;
	assert_int_equal(nested_audit(e.n, &err), -EILSEQ);
	env_release(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exit_information),
		cmocka_unit_test(test_all_combinations),
		cmocka_unit_test(test_references_per_walk),
		cmocka_unit_test(test_large_entries),
		cmocka_unit_test(test_huge_entry),
		cmocka_unit_test(test_pages_taken_away),
		cmocka_unit_test(test_fault_flushes),
		cmocka_unit_test(test_audit_sees_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
