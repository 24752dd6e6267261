/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk of the guest's tables against the model: all combinations of the bits of one
 * entry with the rights of another, of access, privilege and control bits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <arch/x86.h>
#include <mmu/mmu.h>

#include "mmu_model.h"

#define RAM          (UINT64_C(8) << 20)
#define TABLE(level) (UINT64_C(0x10000) * (level))
#define DATA         UINT64_C(0x60000)
#define LARGE        UINT64_C(0x40000000) /* not RAM, but aligned for every size */
#define VA           UINT64_C(0x00007ffc40401234)
#define VA32         UINT64_C(0xc0401234)

struct env {
	struct guestmem *mem;
	struct tlb tlb;
	struct mmu *mmu;
	struct mmu_regs regs;
	uint64_t va;
	unsigned int levels;
	unsigned int bytes;
	uint8_t *entry[5]; /* by level: host address of the entry for va */
	uint64_t addr[5];  /* by level: its guest physical address */
	uint64_t checked;
};

/* One kind of format under test. */
struct format {
	uint64_t cr4;
	uint64_t efer;
	uint64_t va;
	unsigned int levels;
	unsigned int bytes;
	unsigned int shift[5];
	unsigned int index_bits;
};

static const struct format formats[] = {
	{CR4_PAE, EFER_LME | EFER_LMA, VA, 4, 8, {0, 12, 21, 30, 39}, 9},
	{CR4_PAE, 0, VA32, 3, 8, {0, 12, 21, 30}, 9},
	{0, 0, VA32, 2, 4, {0, 12, 22}, 10},
	{CR4_PSE, 0, VA32, 2, 4, {0, 12, 22}, 10},
};

static const unsigned int accesses[] = {
	MMU_ACC_READ,
	MMU_ACC_WRITE,
	MMU_ACC_FETCH,
	MMU_ACC_READ | MMU_ACC_AC,
	MMU_ACC_WRITE | MMU_ACC_AC,
	MMU_ACC_FETCH | MMU_ACC_AC,
	MMU_ACC_USER,
	MMU_ACC_USER | MMU_ACC_WRITE,
	MMU_ACC_USER | MMU_ACC_FETCH,
};

static void unmap_hook(void *ctx, ppn_t page)
{
	mmu_unmap(ctx, page);
}

static void written_hook(void *ctx, gpa_t addr, uint64_t len)
{
	mmu_table_written(ctx, addr, len);
}

static const struct guestmem_ops hooks = {
	.unmap = unmap_hook,
	.written = written_hook,
};

static void env_init(struct env *e, enum mmu_mode mode, bool caches)
{
	struct mmu_options opt = mmu_options_default();
	struct err err;

	memset(e, 0, sizeof(*e));
	opt.mode = mode;
	opt.structure_caches = caches;
	assert_int_equal(guestmem_new(RAM, &e->mem, &err), 0);
	assert_int_equal(tlb_init(&e->tlb, RAM / PAGE_SIZE), 0);
	assert_int_equal(mmu_new(e->mem, &e->tlb, &opt, &e->mmu, &err), 0);
	guestmem_set_ops(e->mem, &hooks, e->mmu);
}

static void env_release(struct env *e)
{
	struct err err;

	if (mmu_audit(e->mmu, &err) < 0)
		fail_msg("%s", err.text);
	mmu_free(e->mmu);
	tlb_release(&e->tlb);
	guestmem_free(e->mem);
}

static uint8_t *host(struct env *e, uint64_t addr)
{
	uint8_t *p;
	uint64_t len;

	assert_int_equal(guestmem_span(e->mem, gpa(addr), MEM_WRITE, &p, &len),
			 MEM_OK);
	return p;
}

static void entry_set(struct env *e, unsigned int level, uint64_t v)
{
	memcpy(e->entry[level], &v, e->bytes);
	mmu_table_written(e->mmu, gpa(e->addr[level]), e->bytes);
}

static uint64_t entry_get(const struct env *e, unsigned int level)
{
	uint64_t v = 0;

	memcpy(&v, e->entry[level], e->bytes);
	return v;
}

/* Where the entry of a level leads when it is no leaf. */
static uint64_t next_of(unsigned int level)
{
	return level == 1 ? DATA : TABLE(level - 1);
}

static void use_format(struct env *e, const struct format *f)
{
	e->va = f->va;
	e->levels = f->levels;
	e->bytes = f->bytes;
	for (unsigned int l = 1; l <= f->levels; l++) {
		const uint64_t index = f->va >> f->shift[l] &
				       ((1U << f->index_bits) - 1);

		e->addr[l] = TABLE(l) + index * f->bytes;
		e->entry[l] = host(e, e->addr[l]);
	}
	e->regs = (struct mmu_regs){
		.cr0 = CR0_PE | CR0_PG,
		.cr3 = TABLE(f->levels),
		.cr4 = f->cr4,
		.efer = f->efer,
	};
}

static void compare(struct env *e, unsigned int access)
{
	struct model_result want;
	struct mmu_xlat got;
	uint64_t before[5];
	enum mmu_result kind;

	model_access(e->mem, &e->regs, e->va, access, &want);
	for (unsigned int l = 1; l <= e->levels; l++)
		before[l] = entry_get(e, l);
	mmu_invlpg(e->mmu, gva(e->va));
	kind = mmu_translate(e->mmu, gva(e->va), access, &got);
	if (kind != want.kind)
		fail_msg("access %#x: got %u, want %u (entries %lx %lx %lx %lx, cr4 %lx)",
			 access, kind, want.kind,
			 entry_get(e, 4 % (e->levels + 1)),
			 entry_get(e, 3 % (e->levels + 1)), entry_get(e, 2),
			 entry_get(e, 1), e->regs.cr4);
	if (kind == MMU_FAULT)
		assert_int_equal(got.fault_code, want.code);
	else
		assert_int_equal(got.gpa.v, want.gpa);
	if (kind == MMU_OK) {
		assert_int_equal(got.page_shift, want.page_shift);
		assert_int_equal(got.global, want.global);
	}
	model_apply(e->mem, &want);
	for (unsigned int l = 1; l <= e->levels; l++) {
		uint64_t v = before[l];

		for (unsigned int i = 0; i < want.n_sets; i++)
			if (host(e, want.set[i].addr) == e->entry[l])
				v = want.set[i].value;
		assert_int_equal(entry_get(e, l), v);
	}
	e->checked++;
}

/* What a translation says about other kinds of access must be what they would get. */
static void compare_hints(struct env *e, unsigned int access)
{
	struct model_result read, write;
	struct mmu_xlat got;
	const unsigned int base = access & ~(unsigned int)(MMU_ACC_WRITE |
							   MMU_ACC_FETCH);

	if (mmu_translate(e->mmu, gva(e->va), access, &got) != MMU_OK)
		return;
	model_access(e->mem, &e->regs, e->va, base, &read);
	model_access(e->mem, &e->regs, e->va, base | MMU_ACC_WRITE, &write);
	assert_int_equal(got.read, read.kind == MMU_OK);
	/* A store in place needs a page of our own: DATA is written once before. */
	assert_int_equal(got.write, write.kind == MMU_OK && write.n_sets == 0);
}

static uint64_t entry_of(const struct env *e, unsigned int level,
			 unsigned int bits)
{
	uint64_t v = next_of(level);

	if (bits & 1)
		v |= PTE_P;
	if (bits & 2)
		v |= PTE_W;
	if (bits & 4)
		v |= PTE_U;
	if ((bits & 8) && e->bytes == 8)
		v |= PTE_NX;
	if (bits & 16)
		v |= PTE_A | PTE_PCD;
	if (bits & 32)
		v |= PTE_D | PTE_G;
	if (bits & 64)
		v = (v & ~next_of(level)) | PTE_PS | (level == 1 ? DATA : LARGE);
	if (bits & 128)
		v |= e->bytes == 8 ? BIT64(46) : BIT64(21);
	if (bits & 256)
		v |= BIT64(13) | BIT64(60);
	return v;
}

#define ALL_BITS (PTE_P | PTE_W | PTE_U)

static uint64_t open_entry(const struct env *e, const struct format *f,
			   unsigned int level)
{
	(void)e;
	if (f->levels == 3 && level == 3)
		return next_of(level) | PTE_P;
	return next_of(level) | ALL_BITS;
}

static void all_entries(struct env *e, const struct format *f)
{
	for (unsigned int level = 1; level <= f->levels; level++) {
		const unsigned int other = level == 1 ? f->levels : level - 1;

		for (unsigned int bits = 0; bits < 1024; bits++) {
			/* The other entry takes away one right, or none. */
			static const uint64_t less[] = {0, PTE_W, PTE_U,
							PTE_W | PTE_U};

			for (unsigned int i = 0; i < ARRAY_SIZE(less); i++) {
				for (unsigned int l = 1; l <= f->levels; l++)
					entry_set(e, l, open_entry(e, f, l));
				if (!(f->levels == 3 && other == 3))
					entry_set(e, other,
						  next_of(other) |
							  (ALL_BITS & ~less[i]));
				entry_set(e, level,
					  entry_of(e, level, bits & 511) |
						  (bits & 512 ? BIT64(7) : 0));
				const unsigned int
					a = accesses[(bits * 4 + i +
						      (unsigned int)e->checked) %
						     ARRAY_SIZE(accesses)];

				/* Over all control settings every access has its turn. */
				compare(e, a);
				compare_hints(e, a);
			}
		}
	}
}

static void all_controls(enum mmu_mode mode, bool caches)
{
	static const uint64_t cr4_bits[] = {CR4_SMEP, CR4_SMAP, CR4_PGE,
					    CR4_PKE};
	struct env e;

	env_init(&e, mode, caches);
	host(&e, DATA);
	for (unsigned int f = 0; f < ARRAY_SIZE(formats); f++) {
		for (unsigned int c = 0; c < 64; c++) {
			use_format(&e, &formats[f]);
			for (unsigned int i = 0; i < ARRAY_SIZE(cr4_bits); i++)
				if (c & 1U << i)
					e.regs.cr4 |= cr4_bits[i];
			if (c & 16)
				e.regs.cr0 |= CR0_WP;
			if (c & 32)
				e.regs.efer |= EFER_NXE;
			/* Key 0 free, key 2 (bit 60) write-protected. */
			e.regs.pkru = 2U << 4;
			mmu_set_regs(e.mmu, &e.regs);
			all_entries(&e, &formats[f]);
		}
	}
	assert_true(e.checked > 1000000);
	env_release(&e);
}

static void test_all_combinations(void **state)
{
	(void)state;
	all_controls(MMU_HARDWARE, false);
}

static void test_all_combinations_with_caches(void **state)
{
	(void)state;
	all_controls(MMU_HARDWARE, true);
}

static void test_all_combinations_in_software(void **state)
{
	(void)state;
	all_controls(MMU_SOFTWARE, true);
}

/* Each access with each set of rights and controls, without sampling. */
static void all_rights(enum mmu_mode mode)
{
	static const uint64_t cr4_bits[] = {CR4_SMEP, CR4_SMAP, CR4_PKE};
	struct env e;

	env_init(&e, mode, true);
	host(&e, DATA);
	use_format(&e, &formats[0]);
	for (unsigned int c = 0; c < 32 * 4; c++) {
		e.regs.cr4 = CR4_PAE;
		for (unsigned int i = 0; i < ARRAY_SIZE(cr4_bits); i++)
			if (c & 1U << i)
				e.regs.cr4 |= cr4_bits[i];
		e.regs.cr0 = CR0_PE | CR0_PG | (c & 8 ? CR0_WP : 0);
		e.regs.efer = EFER_LMA | EFER_LME | (c & 16 ? EFER_NXE : 0);
		e.regs.pkru = c >> 5; /* of key 0 */
		mmu_set_regs(e.mmu, &e.regs);
		for (unsigned int rights = 0; rights < 64; rights++) {
			entry_set(&e, 4, TABLE(3) | ALL_BITS);
			entry_set(&e, 3, TABLE(2) | ALL_BITS);
			entry_set(&e, 2, entry_of(&e, 2, 1 | (rights & 7) << 1));
			entry_set(&e, 1,
				  entry_of(&e, 1, 1 | (rights >> 3) << 1));
			for (unsigned int i = 0; i < ARRAY_SIZE(accesses); i++)
				compare(&e, accesses[i]);
		}
	}
	env_release(&e);
}

static void test_all_rights(void **state)
{
	(void)state;
	all_rights(MMU_HARDWARE);
	all_rights(MMU_SOFTWARE);
}

static void paging_off(enum mmu_mode mode)
{
	struct env e;
	struct mmu_xlat x;

	env_init(&e, mode, true);
	e.regs.cr4 = CR4_SMEP | CR4_SMAP;
	mmu_set_regs(e.mmu, &e.regs);
	assert_int_equal(mmu_translate(e.mmu, gva(0x5123), MMU_ACC_READ, &x),
			 MMU_OK);
	assert_int_equal(x.gpa.v, 0x5123);
	assert_int_equal(x.ma.v, MACHINE_ZERO + 0x123);
	assert_false(x.write);
	assert_int_equal(mmu_translate(e.mmu, gva(0x5123), MMU_ACC_WRITE, &x),
			 MMU_OK);
	assert_int_equal(x.ma.v, MACHINE_HOME + 0x5123);
	assert_true(x.write);
	assert_int_equal(mmu_translate(e.mmu, gva(0xfee00020), MMU_ACC_WRITE, &x),
			 MMU_MMIO);
	assert_int_equal(x.gpa.v, 0xfee00020);
	env_release(&e);
}

static void test_paging_off(void **state)
{
	(void)state;
	paging_off(MMU_HARDWARE);
	paging_off(MMU_SOFTWARE);
}

/* Tables outside RAM read as ones. */
static void tables_outside_ram(enum mmu_mode mode)
{
	struct env e;
	struct mmu_xlat x;

	env_init(&e, mode, true);
	use_format(&e, &formats[0]);
	e.regs.cr3 = 0xd0000000;
	mmu_set_regs(e.mmu, &e.regs);
	assert_int_equal(mmu_translate(e.mmu, gva(VA), MMU_ACC_WRITE, &x),
			 MMU_FAULT);
	assert_int_equal(x.fault_code, PF_P | PF_RSVD | PF_W);
	env_release(&e);
}

static void test_tables_outside_ram(void **state)
{
	(void)state;
	tables_outside_ram(MMU_HARDWARE);
	tables_outside_ram(MMU_SOFTWARE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_combinations),
		cmocka_unit_test(test_all_combinations_with_caches),
		cmocka_unit_test(test_all_combinations_in_software),
		cmocka_unit_test(test_all_rights),
		cmocka_unit_test(test_paging_off),
		cmocka_unit_test(test_tables_outside_ram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
