/* SPDX-License-Identifier: Apache-2.0 */
/* Shadow tables: cached roots, tracing, out of sync, large pages, bound, pages taken away. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <mem/physmap.h>
#include <mmu/shadow_impl.h>

#include "mmu_rig.h"

#define RAM    (UINT64_C(32) << 20)
#define N_PROC 64U
#define OPEN   (PTE_P | PTE_W | PTE_U)
#define USED   (OPEN | PTE_A | PTE_D)
#define DATA   UINT64_C(0x800000)

struct env {
	struct mmu_rig rig;
	struct mmu_regs regs;
};

static void env_init(struct env *e, uint64_t bound)
{
	struct mmu_options opt = mmu_options_default();
	struct err err;

	opt.mode = MMU_SOFTWARE;
	opt.shadow_bytes = bound;
	assert_int_equal(mmu_rig_init(&e->rig, RAM, &opt, &err), 0);
	e->regs = mmu_rig_long_mode(0);
}

static void audit(struct env *e)
{
	struct err err;

	if (mmu_audit(e->rig.mmu, &err) < 0)
		fail_msg("%s", err.text);
}

static void env_release(struct env *e)
{
	audit(e);
	assert_int_equal(mmu_rig_release(&e->rig), 0);
}

static void put(struct env *e, uint64_t addr, uint64_t v)
{
	assert_true(mmu_rig_put(&e->rig, addr, v));
}

/* Four tables of process @i, at 16 KiB each from 1 MiB on; address 0 on maps DATA. */
static uint64_t process_root(unsigned int i)
{
	return (UINT64_C(1) << 20) + (uint64_t)i * 4 * PAGE_SIZE;
}

static uint64_t last_table(unsigned int i)
{
	return process_root(i) + 3 * PAGE_SIZE;
}

static void make_process(struct env *e, unsigned int i)
{
	const uint64_t root = process_root(i);

	for (uint64_t t = root; t < last_table(i); t += PAGE_SIZE)
		put(e, t, (t + PAGE_SIZE) | OPEN);
	for (uint64_t p = 0; p < 64; p++)
		put(e, last_table(i) + 8 * p, (DATA + p * PAGE_SIZE) | OPEN);
}

static void run_first_process(struct env *e)
{
	make_process(e, 0);
	e->regs.cr3 = process_root(0);
	mmu_set_regs(e->rig.mmu, &e->regs);
}

static enum mmu_result access_to(struct env *e, uint64_t addr,
				 unsigned int access, struct mmu_xlat *x)
{
	return mmu_translate(e->rig.mmu, gva(addr), MMU_ACC_USER | access, x);
}

static void run_processes(struct env *e)
{
	struct mmu_xlat x;

	for (unsigned int i = 0; i < N_PROC; i++) {
		mmu_load_cr3(e->rig.mmu, process_root(i));
		for (uint64_t p = 0; p < 64; p++) {
			assert_int_equal(access_to(e, p * PAGE_SIZE,
						   MMU_ACC_WRITE, &x),
					 MMU_OK);
			assert_int_equal(x.gpa.v, DATA + p * PAGE_SIZE);
			assert_true(x.write);
		}
	}
}

static void test_switching_rebuilds_nothing(void **state)
{
	struct env e;
	struct mmu_stats warm;

	(void)state;
	env_init(&e, 0);
	mmu_set_regs(e.rig.mmu, &e.regs);
	for (unsigned int i = 0; i < N_PROC; i++)
		make_process(&e, i);
	run_processes(&e);
	audit(&e);
	warm = *mmu_stats(e.rig.mmu);
	assert_int_equal(warm.roots_built, N_PROC);
	for (unsigned int n = 0; n < 3; n++)
		run_processes(&e);
	assert_int_equal(mmu_stats(e.rig.mmu)->roots_built, N_PROC);
	assert_int_equal(mmu_stats(e.rig.mmu)->root_hits - warm.root_hits,
			 3 * N_PROC);
	assert_int_equal(mmu_stats(e.rig.mmu)->hidden_faults,
			 warm.hidden_faults);
	assert_int_equal(mmu_stats(e.rig.mmu)->recycled, 0);
	env_release(&e);
}

static void test_bound(void **state)
{
	const uint64_t bound = 256 * 1024;
	struct env e;

	(void)state;
	env_init(&e, bound);
	mmu_set_regs(e.rig.mmu, &e.regs);
	for (unsigned int i = 0; i < N_PROC; i++)
		make_process(&e, i);
	for (unsigned int n = 0; n < 3; n++) {
		run_processes(&e);
		audit(&e); /* checks the bound as well */
	}
	assert_true(mmu_stats(e.rig.mmu)->recycled > N_PROC);
	assert_true(mmu_stats(e.rig.mmu)->tables_peak * PAGE_SIZE <= bound);
	env_release(&e);
}

/*
 * A fill makes its last table at the bound, and the recycler finds all tables in use: the
 * first it meets would be the one that the new table is about to be entered in.
 */
static void test_no_fill_recycles_its_own_tables(void **state)
{
	const uint64_t two_mib = UINT64_C(2) << 20;
	const uint64_t l2 = process_root(0) + 2 * PAGE_SIZE;
	const uint64_t new_l1 = UINT64_C(0x600000);
	struct env e;
	struct mmu_xlat x;
	struct mmu_stats *stats;
	struct shadow *s;
	struct shadow_table *parent;

	(void)state;
	env_init(&e, 0);
	mmu_set_regs(e.rig.mmu, &e.regs);
	for (unsigned int i = 0; i < N_PROC; i++)
		make_process(&e, i);
	put(&e, new_l1, DATA | OPEN);
	put(&e, l2 + 8, new_l1 | OPEN);
	run_processes(&e);
	mmu_load_cr3(e.rig.mmu, process_root(0));
	assert_int_equal(access_to(&e, 0, MMU_ACC_READ, &x), MMU_OK);
	stats = &e.rig.mmu->stats;
	stats->table_bytes_bound = stats->table_bytes;

	s = e.rig.mmu->shadow;
	parent = shadow_find(s, l2 / PAGE_SIZE, 2 | SHADOW_NXE);
	assert_non_null(parent);
	for (uint32_t i = 0; i < s->n_tables; i++)
		if (s->table[i])
			s->table[i]->used = true;
	s->hand = parent->idx - 1;
	assert_int_equal(access_to(&e, two_mib, MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(x.gpa.v, DATA);
	assert_true(stats->recycled > 0);
	assert_ptr_equal(shadow_find(s, l2 / PAGE_SIZE, 2 | SHADOW_NXE), parent);
	env_release(&e);
}

static void test_traced_stores(void **state)
{
	struct env e;
	struct mmu_xlat x;
	struct mmu_stats before;
	const uint8_t *flags;

	(void)state;
	env_init(&e, 0);
	run_first_process(&e);
	flags = guestmem_flags(e.rig.mem);
	assert_int_equal(access_to(&e, 0, MMU_ACC_WRITE, &x), MMU_OK);
	for (unsigned int t = 0; t < 4; t++)
		assert_true(flags[process_root(0) / PAGE_SIZE + t] &
			    GUESTMEM_TABLE);

	/* Rights taken away are adapted in place: no hidden fault for the next read. */
	before = *mmu_stats(e.rig.mmu);
	put(&e, last_table(0), DATA | PTE_P | PTE_U | PTE_A | PTE_D);
	assert_int_equal(mmu_stats(e.rig.mmu)->traced_writes,
			 before.traced_writes + 1);
	audit(&e);
	assert_int_equal(access_to(&e, 0, MMU_ACC_READ, &x), MMU_OK);
	assert_false(x.write);
	assert_int_equal(mmu_stats(e.rig.mmu)->hidden_faults,
			 before.hidden_faults);
	assert_int_equal(access_to(&e, 0, MMU_ACC_WRITE, &x), MMU_FAULT);
	assert_int_equal(x.fault_code, PF_P | PF_W | PF_U);

	/* A clear from the middle of the tables takes everything below out of use. */
	put(&e, process_root(0) + PAGE_SIZE, 0);
	assert_int_equal(access_to(&e, 0, MMU_ACC_READ, &x), MMU_FAULT);
	assert_int_equal(mmu_stats(e.rig.mmu)->tables, 2);
	assert_false(flags[last_table(0) / PAGE_SIZE] & GUESTMEM_TABLE);
	env_release(&e);
}

/* A page that stores hit in the software TLB becomes a table: they must miss from then on. */
static void test_tables_are_protected(void **state)
{
	const uint64_t two_mib = UINT64_C(2) << 20;
	const uint64_t l2 = process_root(0) + 2 * PAGE_SIZE;
	const struct tlb_entry *entry;
	struct env e;
	struct mmu_xlat x;

	(void)state;
	env_init(&e, 0);
	run_first_process(&e);
	tlb_set_user(&e.rig.tlb, true);
	assert_int_equal(access_to(&e, 0, MMU_ACC_WRITE, &x), MMU_OK);
	mmu_rig_fill_tlb(&e.rig, gva(0), &x);
	entry = tlb_slot(e.rig.tlb.cur, 0);
	assert_int_equal(entry->write, e.rig.tlb.ctx);

	put(&e, DATA, (DATA + PAGE_SIZE) | OPEN);
	put(&e, l2 + 8, DATA | OPEN);
	assert_int_equal(access_to(&e, two_mib, MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(x.gpa.v, DATA + PAGE_SIZE);
	assert_int_not_equal(entry->write, e.rig.tlb.ctx);
	env_release(&e);
}

/* One store over the end of a table into the next one. */
static void test_store_over_two_tables(void **state)
{
	const uint64_t two_mib = UINT64_C(2) << 20;
	const uint64_t first = UINT64_C(0x600000);
	const uint64_t end = first + PAGE_SIZE;
	const uint64_t word[2] = {DATA | USED, (DATA + PAGE_SIZE) | USED};
	struct env e;
	struct mmu_xlat x;

	(void)state;
	env_init(&e, 0);
	make_process(&e, 0);
	put(&e, process_root(0) + 2 * PAGE_SIZE + 8, first | OPEN);
	put(&e, process_root(0) + 2 * PAGE_SIZE + 16, end | OPEN);
	put(&e, end - 8, (DATA + 2 * PAGE_SIZE) | USED);
	put(&e, end, (DATA + 3 * PAGE_SIZE) | USED);
	e.regs.cr3 = process_root(0);
	mmu_set_regs(e.rig.mmu, &e.regs);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(access_to(&e,
					   2 * two_mib - PAGE_SIZE +
						   i * PAGE_SIZE,
					   MMU_ACC_READ, &x),
				 MMU_OK);
	memcpy(machine_ptr(e.rig.machine, ma(MACHINE_HOME + end - 8)), word,
	       sizeof(word));
	mmu_table_written(e.rig.mmu, gpa(end - 8), sizeof(word));
	mmu_load_cr3(e.rig.mmu, process_root(0));
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(access_to(&e,
					   2 * two_mib - PAGE_SIZE +
						   i * PAGE_SIZE,
					   MMU_ACC_READ, &x),
				 MMU_OK);
		assert_int_equal(x.gpa.v, word[i] & PTE_ADDR);
	}
	env_release(&e);
}

/* A table that is out of sync is used as one of a higher level: it must be followed again. */
static void test_out_of_sync_table_gets_a_level(void **state)
{
	const uint64_t one_gib = UINT64_C(1) << 30;
	struct env e;
	struct mmu_xlat x;

	(void)state;
	env_init(&e, 0);
	run_first_process(&e);
	assert_int_equal(access_to(&e, 0, MMU_ACC_READ, &x), MMU_OK);
	for (uint64_t p = 40; p <= 40 + SHADOW_UNSYNC_AFTER; p++)
		put(&e, last_table(0) + 8 * p, 0);
	assert_int_equal(mmu_stats(e.rig.mmu)->unsyncs, 1);
	/* Its first entry leads to data, which now is a table of zeros. */
	put(&e, process_root(0) + PAGE_SIZE + 8, last_table(0) | OPEN);
	put(&e, DATA, (DATA + PAGE_SIZE) | OPEN);
	assert_int_equal(access_to(&e, one_gib, MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(x.gpa.v, DATA + PAGE_SIZE);
	env_release(&e);
}

/* A page fault takes what the software TLB knows of its address with it. */
static void test_fault_flushes(void **state)
{
	struct env e;
	struct mmu_xlat x;

	(void)state;
	env_init(&e, 0);
	run_first_process(&e);
	tlb_set_user(&e.rig.tlb, true);
	assert_int_equal(access_to(&e, 0, MMU_ACC_READ, &x), MMU_OK);
	mmu_rig_fill_tlb(&e.rig, gva(0), &x);
	assert_int_equal(tlb_slot(e.rig.tlb.cur, 0)->read, e.rig.tlb.ctx);
	put(&e, last_table(0), 0);
	assert_int_equal(access_to(&e, 0, MMU_ACC_WRITE, &x), MMU_FAULT);
	assert_int_not_equal(tlb_slot(e.rig.tlb.cur, 0)->read, e.rig.tlb.ctx);
	env_release(&e);
}

static void test_out_of_sync(void **state)
{
	struct env e;
	struct mmu_xlat x;
	const uint8_t *flags;
	uint64_t traced;

	(void)state;
	env_init(&e, 0);
	run_first_process(&e);
	flags = guestmem_flags(e.rig.mem);
	for (uint64_t p = 0; p < 64; p++)
		assert_int_equal(access_to(&e, p * PAGE_SIZE, MMU_ACC_WRITE, &x),
				 MMU_OK);
	for (uint64_t p = 0; p < 64; p++)
		put(&e, last_table(0) + 8 * p, 0);
	traced = mmu_stats(e.rig.mmu)->traced_writes;
	assert_int_equal(traced, SHADOW_UNSYNC_AFTER);
	assert_int_equal(mmu_stats(e.rig.mmu)->unsyncs, 1);
	assert_false(flags[last_table(0) / PAGE_SIZE] & GUESTMEM_TABLE);

	/* Without a flush the last one may still be used; INVLPG ends that for one. */
	mmu_invlpg(e.rig.mmu, gva(63 * PAGE_SIZE));
	assert_int_equal(access_to(&e, 63 * PAGE_SIZE, MMU_ACC_READ, &x),
			 MMU_FAULT);
	mmu_load_cr3(e.rig.mmu, process_root(0));
	assert_int_equal(mmu_stats(e.rig.mmu)->resyncs, 1);
	for (uint64_t p = 0; p < 64; p++)
		assert_int_equal(access_to(&e, p * PAGE_SIZE, MMU_ACC_READ, &x),
				 MMU_FAULT);
	env_release(&e);
}

static void test_large_pages(void **state)
{
	const uint64_t two_mib = UINT64_C(2) << 20;
	struct env e;
	struct mmu_xlat x;
	uint64_t hidden;

	(void)state;
	env_init(&e, 0);
	make_process(&e, 0);
	put(&e, process_root(0) + 2 * PAGE_SIZE + 8, DATA | OPEN | PTE_PS);
	e.regs.cr3 = process_root(0);
	mmu_set_regs(e.rig.mmu, &e.regs);
	/* Split while not all of it is at home; one entry from then on. */
	for (uint64_t a = 0; a < two_mib; a += PAGE_SIZE) {
		assert_int_equal(access_to(&e, two_mib + a, MMU_ACC_WRITE, &x),
				 MMU_OK);
		assert_int_equal(x.gpa.v, DATA + a);
		assert_int_equal(x.page_shift, 21);
	}
	assert_int_equal(mmu_stats(e.rig.mmu)->tables, 3);
	hidden = mmu_stats(e.rig.mmu)->hidden_faults;
	assert_int_equal(access_to(&e, two_mib, MMU_ACC_WRITE, &x), MMU_OK);
	assert_int_equal(mmu_stats(e.rig.mmu)->hidden_faults, hidden);
	audit(&e);

	/* One page of it is taken away: no entry may lead there. */
	assert_int_equal(guestmem_drop(e.rig.mem, ppn(DATA / PAGE_SIZE + 7),
				       PHYSMAP_ZERO),
			 MEM_OK);
	audit(&e);
	assert_int_equal(access_to(&e, two_mib + 7 * PAGE_SIZE, MMU_ACC_READ, &x),
			 MMU_OK);
	assert_int_equal(x.ma.v, MACHINE_ZERO);
	assert_false(x.write);
	assert_int_equal(access_to(&e, two_mib + 7 * PAGE_SIZE, MMU_ACC_WRITE,
				   &x),
			 MMU_OK);
	assert_int_equal(x.ma.v, MACHINE_HOME + DATA + 7 * PAGE_SIZE);

	/* In one entry again, which forbids fetches as the guest's does. */
	put(&e, process_root(0) + 2 * PAGE_SIZE + 8, 0);
	put(&e, process_root(0) + 2 * PAGE_SIZE + 8,
	    DATA | USED | PTE_PS | PTE_NX);
	mmu_invlpg(e.rig.mmu, gva(two_mib));
	assert_int_equal(access_to(&e, two_mib, MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(mmu_stats(e.rig.mmu)->tables, 3);
	assert_int_equal(access_to(&e, two_mib, MMU_ACC_FETCH, &x), MMU_FAULT);
	assert_int_equal(x.fault_code, PF_P | PF_U | PF_I);

	/* Clean large pages are not writable until their dirty bit is set. */
	put(&e, process_root(0) + 2 * PAGE_SIZE + 8,
	    DATA | OPEN | PTE_PS | PTE_A);
	mmu_invlpg(e.rig.mmu, gva(two_mib));
	assert_int_equal(access_to(&e, two_mib, MMU_ACC_READ, &x), MMU_OK);
	assert_false(x.write);
	assert_int_equal(access_to(&e, two_mib, MMU_ACC_WRITE, &x), MMU_OK);
	assert_true(x.write);
	env_release(&e);
}

/* Two large pages of the same frames, split, with different protection keys. */
static void test_split_pages_keep_their_keys(void **state)
{
	const uint64_t two_mib = UINT64_C(2) << 20;
	const uint64_t slot = process_root(0) + 2 * PAGE_SIZE;
	struct env e;
	struct mmu_xlat x;

	(void)state;
	env_init(&e, 0);
	make_process(&e, 0);
	put(&e, slot + 8, DATA | USED | PTE_PS);
	put(&e, slot + 16, DATA | USED | PTE_PS | UINT64_C(1) << PTE_PKEY_SHIFT);
	e.regs.cr3 = process_root(0);
	e.regs.cr4 |= CR4_PKE;
	e.regs.pkru = 4;
	mmu_set_regs(e.rig.mmu, &e.regs);
	assert_int_equal(access_to(&e, two_mib, MMU_ACC_WRITE, &x), MMU_OK);
	assert_int_equal(access_to(&e, 2 * two_mib + PAGE_SIZE, MMU_ACC_FETCH,
				   &x),
			 MMU_OK);
	assert_int_equal(access_to(&e, 2 * two_mib, MMU_ACC_READ, &x),
			 MMU_FAULT);
	assert_int_equal(x.fault_code, PF_P | PF_U | PF_PK);
	/* A key that changes. */
	put(&e, slot + 8, DATA | USED | PTE_PS | UINT64_C(1) << PTE_PKEY_SHIFT);
	mmu_invlpg(e.rig.mmu, gva(two_mib));
	assert_int_equal(access_to(&e, two_mib, MMU_ACC_READ, &x), MMU_FAULT);
	assert_int_equal(x.fault_code, PF_P | PF_U | PF_PK);
	env_release(&e);
}

/* The same with one of them global. */
static void test_split_pages_keep_their_scope(void **state)
{
	const uint64_t two_mib = UINT64_C(2) << 20;
	const uint64_t slot = process_root(0) + 2 * PAGE_SIZE;
	struct env e;
	struct mmu_xlat x;

	(void)state;
	env_init(&e, 0);
	make_process(&e, 0);
	put(&e, slot + 8, DATA | USED | PTE_PS | PTE_G);
	put(&e, slot + 16, DATA | USED | PTE_PS);
	e.regs.cr3 = process_root(0);
	e.regs.cr4 |= CR4_PGE;
	mmu_set_regs(e.rig.mmu, &e.regs);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(access_to(&e, two_mib, MMU_ACC_WRITE, &x),
				 MMU_OK);
		assert_true(x.global);
		assert_int_equal(access_to(&e, 2 * two_mib, MMU_ACC_WRITE, &x),
				 MMU_OK);
		assert_false(x.global);
	}
	/* It becomes local. */
	put(&e, slot + 8, DATA | USED | PTE_PS);
	mmu_invlpg(e.rig.mmu, gva(two_mib));
	assert_int_equal(access_to(&e, two_mib, MMU_ACC_WRITE, &x), MMU_OK);
	assert_false(x.global);
	env_release(&e);
}

/* With CR0.WP clear stores are allowed without W: the dirty bit of a split page is due still. */
static void test_split_page_gets_dirty(void **state)
{
	const uint64_t two_mib = UINT64_C(2) << 20;
	const uint64_t slot = process_root(0) + 2 * PAGE_SIZE + 8;
	struct env e;
	struct mmu_xlat x;

	(void)state;
	env_init(&e, 0);
	make_process(&e, 0);
	put(&e, DATA, 1);
	put(&e, slot, DATA | PTE_P | PTE_U | PTE_PS);
	e.regs.cr0 &= ~CR0_WP;
	e.regs.cr3 = process_root(0);
	mmu_set_regs(e.rig.mmu, &e.regs);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(mmu_translate(e.rig.mmu, gva(two_mib),
					       MMU_ACC_READ, &x),
				 MMU_OK);
		assert_false(x.write);
	}
	assert_int_equal(mmu_translate(e.rig.mmu, gva(two_mib), MMU_ACC_WRITE,
				       &x),
			 MMU_OK);
	assert_true(mmu_rig_get(&e.rig, slot) & PTE_D);
	env_release(&e);
}

/* The same last-level table under parents with different rights. */
static void test_two_parents(void **state)
{
	const uint64_t one_gib = UINT64_C(1) << 30;
	struct env e;
	struct mmu_xlat x;

	(void)state;
	env_init(&e, 0);
	make_process(&e, 0);
	put(&e, process_root(0) + PAGE_SIZE + 8,
	    (process_root(0) + 2 * PAGE_SIZE) | PTE_P | PTE_U);
	e.regs.cr3 = process_root(0);
	mmu_set_regs(e.rig.mmu, &e.regs);
	assert_int_equal(access_to(&e, 0, MMU_ACC_WRITE, &x), MMU_OK);
	assert_int_equal(access_to(&e, one_gib, MMU_ACC_READ, &x), MMU_OK);
	assert_false(x.write);
	assert_int_equal(access_to(&e, one_gib, MMU_ACC_WRITE, &x), MMU_FAULT);
	assert_int_equal(x.fault_code, PF_P | PF_W | PF_U);
	assert_int_equal(access_to(&e, 0, MMU_ACC_WRITE, &x), MMU_OK);
	env_release(&e);
}

/*
 * A subtree with a table out of sync gets a new parent: nothing of it can have been cached
 * at its new addresses, and the guest needs no flush to make an entry present.
 */
static void test_subtree_is_synced_before_linking(void **state)
{
	const uint64_t second = UINT64_C(1) << 39;
	struct env e;
	struct mmu_xlat x;

	(void)state;
	env_init(&e, 0);
	make_process(&e, 0);
	put(&e, process_root(0) + 8, (process_root(0) + PAGE_SIZE) | OPEN);
	put(&e, process_root(0), 0);
	e.regs.cr3 = process_root(0);
	mmu_set_regs(e.rig.mmu, &e.regs);
	assert_int_equal(access_to(&e, second, MMU_ACC_WRITE, &x), MMU_OK);
	for (uint64_t p = SHADOW_UNSYNC_AFTER + 1; p; p--)
		put(&e, last_table(0) + 8 * p, (DATA + 99 * PAGE_SIZE) | OPEN);
	put(&e, last_table(0), (DATA + 99 * PAGE_SIZE) | USED);
	assert_int_equal(mmu_stats(e.rig.mmu)->unsyncs, 1);
	assert_int_equal(access_to(&e, second, MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(x.gpa.v, DATA); /* stale, as it may be */

	put(&e, process_root(0), (process_root(0) + PAGE_SIZE) | OPEN);
	/* Its neighbour makes the link. */
	assert_int_equal(access_to(&e, PAGE_SIZE, MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(access_to(&e, 0, MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(x.gpa.v, DATA + 99 * PAGE_SIZE);
	env_release(&e);
}

static void test_tables_taken_away(void **state)
{
	struct env e;
	struct mmu_xlat x;

	(void)state;
	env_init(&e, 0);
	run_first_process(&e);
	assert_int_equal(access_to(&e, 0, MMU_ACC_WRITE, &x), MMU_OK);
	/* The running root's own page becomes zeros. */
	assert_int_equal(guestmem_drop(e.rig.mem,
				       ppn(process_root(0) / PAGE_SIZE),
				       PHYSMAP_ZERO),
			 MEM_OK);
	audit(&e);
	assert_int_equal(access_to(&e, 0, MMU_ACC_READ, &x), MMU_FAULT);
	assert_int_equal(x.fault_code, PF_U);
	put(&e, process_root(0), (process_root(0) + PAGE_SIZE) | OPEN);
	assert_int_equal(access_to(&e, 0, MMU_ACC_READ, &x), MMU_OK);
	env_release(&e);
}

/* What a device is given to store to changes later, be it the running root's last entry. */
static void test_device_stores(void **state)
{
	const uint64_t top = UINT64_C(0xffffff8000000000);
	struct env e;
	struct mmu_xlat x;
	uint64_t root, len;
	uint8_t *p;

	(void)state;
	env_init(&e, 0);
	make_process(&e, 0);
	make_process(&e, 1);
	root = process_root(0);
	put(&e, root + 511 * 8, (root + PAGE_SIZE) | OPEN);
	e.regs.cr3 = root;
	mmu_set_regs(e.rig.mmu, &e.regs);
	assert_int_equal(access_to(&e, top, MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(guestmem_span(e.rig.mem, gpa(root + 511 * 8),
				       MEM_WRITE, &p, &len),
			 MEM_OK);
	memset(p, 0, 8);
	mmu_load_cr3(e.rig.mmu, root);
	assert_int_equal(access_to(&e, top, MMU_ACC_READ, &x), MMU_FAULT);
	audit(&e);
	/* By copying, in the middle of a last-level table. */
	assert_int_equal(access_to(&e, 5 * PAGE_SIZE, MMU_ACC_READ, &x), MMU_OK);
	put(&e, last_table(0) + 5 * 8, (DATA + 9 * PAGE_SIZE) | OPEN);
	mmu_invlpg(e.rig.mmu, gva(5 * PAGE_SIZE));
	assert_int_equal(access_to(&e, 5 * PAGE_SIZE, MMU_ACC_READ, &x), MMU_OK);
	assert_int_equal(x.gpa.v, DATA + 9 * PAGE_SIZE);
	env_release(&e);
}

/* A followed store that makes an entry fills the shadow, but never one without A. */
static void test_fills_ahead(void **state)
{
	struct env e;
	struct mmu_xlat x;
	uint64_t hidden;

	(void)state;
	env_init(&e, 0);
	make_process(&e, 0);
	for (uint64_t i = 8; i < 64; i++)
		put(&e, last_table(0) + 8 * i, 0);
	e.regs.cr3 = process_root(0);
	mmu_set_regs(e.rig.mmu, &e.regs);
	assert_int_equal(access_to(&e, 0, MMU_ACC_READ, &x), MMU_OK);
	put(&e, DATA + 40 * PAGE_SIZE, 1);
	hidden = mmu_stats(e.rig.mmu)->hidden_faults;
	for (uint64_t i = 8; i < 64; i++) {
		put(&e, last_table(0) + 8 * i, (DATA + 40 * PAGE_SIZE) | USED);
		assert_int_equal(access_to(&e, i * PAGE_SIZE, MMU_ACC_WRITE, &x),
				 MMU_OK);
	}
	assert_int_equal(mmu_stats(e.rig.mmu)->hidden_faults, hidden);
	assert_int_equal(mmu_stats(e.rig.mmu)->unsyncs, 0);
	put(&e, last_table(0) + 8 * 63, 0);
	put(&e, last_table(0) + 8 * 63, (DATA + 40 * PAGE_SIZE) | OPEN);
	assert_int_equal(access_to(&e, 63 * PAGE_SIZE, MMU_ACC_READ, &x),
			 MMU_OK);
	assert_int_equal(mmu_stats(e.rig.mmu)->hidden_faults, hidden + 1);
	env_release(&e);
}

static void test_audit_sees_damage(void **state)
{
	struct env e;
	struct mmu_xlat x;
	struct err err;
	uint8_t *flags;
	uint64_t v = 0;

	(void)state;
	env_init(&e, 0);
	run_first_process(&e);
	assert_int_equal(access_to(&e, 0, MMU_ACC_WRITE, &x), MMU_OK);
	audit(&e);
	/* Tracing lost. */
	flags = &guestmem_flags(e.rig.mem)[last_table(0) / PAGE_SIZE];
	*flags = 0;
	assert_int_equal(mmu_audit(e.rig.mmu, &err), -EILSEQ);
	/* A store that nobody followed. */
	put(&e, last_table(0), v);
	*flags = GUESTMEM_TABLE;
	assert_int_equal(mmu_audit(e.rig.mmu, &err), -EILSEQ);
	put(&e, last_table(0), v);
	env_release(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_switching_rebuilds_nothing),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_no_fill_recycles_its_own_tables),
		cmocka_unit_test(test_traced_stores),
		cmocka_unit_test(test_tables_are_protected),
		cmocka_unit_test(test_store_over_two_tables),
		cmocka_unit_test(test_out_of_sync_table_gets_a_level),
		cmocka_unit_test(test_fault_flushes),
		cmocka_unit_test(test_out_of_sync),
		cmocka_unit_test(test_large_pages),
		cmocka_unit_test(test_split_pages_keep_their_keys),
		cmocka_unit_test(test_split_pages_keep_their_scope),
		cmocka_unit_test(test_split_page_gets_dirty),
		cmocka_unit_test(test_two_parents),
		cmocka_unit_test(test_subtree_is_synced_before_linking),
		cmocka_unit_test(test_tables_taken_away),
		cmocka_unit_test(test_device_stores),
		cmocka_unit_test(test_fills_ahead),
		cmocka_unit_test(test_audit_sees_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
