/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87, MMX, SSE and SSE2 against the real processor: the same bytes run on both from the same
 * random state, and all registers, flags, memory and exceptions must agree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cpu/cpu.h>
#include <cpu/flags.h>
#include <cpu/fp.h>

#include "native_run.h"

/* Guest physical address of the 2 MiB that the guest sees at RUN_CODE. */
#define RUN_GPA   UINT64_C(0x200000)
#define RAM_BYTES UINT64_C(0x400000)

/* The guest's system tables, at the same virtual address. */
#define PML4      UINT64_C(0x1000)
#define PDPT      UINT64_C(0x2000)
#define PD        UINT64_C(0x3000)
#define GDT       UINT64_C(0x4000)
#define IDT       UINT64_C(0x5000)
#define HANDLERS  UINT64_C(0x6000) /* one byte for each vector: HLT */
#define STACK_TOP UINT64_C(0x9000)

#define N_VECTORS 32U

/* Exception flags and masks that a test's control words may have. */
enum masks {
	MASKED,
	UNMASKED,
};

struct form {
	const char *name;
	uint8_t bytes[96];
	uint8_t n_bytes;
	bool env;    /* stores pointers, which are not compared */
	bool fxsave; /* the same, and MXCSR_MASK */
	bool fcw;    /* the operand is a control word, often with all masked */
};

struct rig {
	struct guestmem *mem;
	struct cpu *cpu;
	uint64_t seed;
	unsigned int n_bad;
	unsigned int n_runs;
	const void *bad_form; /* that was shown last */
};

static uint64_t rnd(struct rig *r)
{
	r->seed ^= r->seed << 13;
	r->seed ^= r->seed >> 7;
	r->seed ^= r->seed << 17;
	return r->seed * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t below(struct rig *r, uint64_t n)
{
	return (rnd(r) >> 20) % n;
}

static uint32_t some_float(struct rig *r)
{
	static const uint32_t values[] = {
		0,          0x80000000, 1,          0x80000001, 0x007fffff,
		0x00400000, 0x00800000, 0x80800000, 0x00ffffff, 0x3f800000,
		0xbf800000, 0x3f800001, 0x3fffffff, 0x40000000, 0x40490fdb,
		0x4b000000, 0x4effffff, 0x4f000000, 0xcf000000, 0x5f000000,
		0xdf000000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
		0x7f800001, 0xff812345, 0x7fc00000, 0xffc00001, 0x7e967699,
		0x3effffff, 0x3f000000, 0x4b7fffff, 0x20000000, 0x1f800000,
		0x9f812345,
	};

	if (below(r, 3))
		return values[below(r, sizeof(values) / sizeof(*values))];
	return (uint32_t)rnd(r);
}

static uint64_t some_double(struct rig *r)
{
	static const uint64_t values[] = {
		0,
		0x8000000000000000,
		1,
		0x8000000000000001,
		0x000fffffffffffff,
		0x0008000000000000,
		0x0010000000000000,
		0x001fffffffffffff,
		0x3ff0000000000000,
		0xbff0000000000000,
		0x3ff0000000000001,
		0x4000000000000000,
		0x400921fb54442d18,
		0x41dfffffffc00000,
		0x41e0000000000000,
		0xc1e0000000000000,
		0x41dfffffffe00000,
		0x43e0000000000000,
		0xc3e0000000000000,
		0x43dfffffffffffff,
		0x7fefffffffffffff,
		0xffefffffffffffff,
		0x7ff0000000000000,
		0xfff0000000000000,
		0x7ff0000000000001,
		0xfff0000012345678,
		0x7ff8000000000000,
		0xfff8000000000001,
		0x47efffffe0000000,
		0x47f0000000000000,
		0x3810000000000000,
		0x380fffffffffffff,
		0x36a0000000000000,
		0x3690000000000000,
		0x1e60000000000000,
		0x2000000000000001,
		0x3fe0000000000000,
		0x3690000000000001,
		0x3800000000000001,
		0x3fd5555555555555,
	};

	if (below(r, 3))
		return values[below(r, sizeof(values) / sizeof(*values))];
	return rnd(r);
}

/* An 80-bit number in 16 bytes. */
static void some_extended(struct rig *r, uint8_t *out)
{
	static const struct {
		uint64_t mant;
		uint16_t exp;
	} values[] = {
		{0, 0},
		{0, 0x8000},
		{1, 0},
		{0x7fffffffffffffff, 0},
		{0x8000000000000000, 0}, /* pseudo-denormal */
		{0x8000000000000000, 1},
		{0x8000000000000000, 0x3fff},
		{0x8000000000000000, 0xbfff},
		{0xc90fdaa22168c235, 0x4000},
		{0x8000000000000000, 0x3ffe},
		{0xb504f333f9de6484, 0x3ffe},
		{0xffffffffffffffff, 0x7ffe},
		{0xffffffffffffffff, 0xfffe},
		{0x8000000000000000, 0x7fff},
		{0x8000000000000000, 0xffff},
		{0x8000000000000001, 0x7fff},
		{0xc000000000000000, 0x7fff},
		{0xc000000000000000, 0xffff},
		{0xffffffffffffffff, 0x7fff},
		{0x4000000000000000, 0x3fff}, /* unnormal */
		{0, 0x7fff},
		{1, 0x7fff}, /* pseudo-infinity and -NaN */
		{0x8000000000000000, 0x401e},
		{0xffffffff00000000, 0x401d},
		{0x8000000000000000, 0x403e},
		{0xfffffffffffffffe, 0x403d},
		{0x8000000000000000, 0x400e},
		{0xde0b6b3a763fffff, 0x403a},
		{0xde0b6b3a76400000, 0x403a},
		{0xffffff8000000000, 0x407e},
		{0x8000000000000000, 0x3f81},
		{0x8000000000000000, 0x3f80},
		{0xfffffffffffffc00, 0x43fe},
		{0x8000000000000000, 0x3c01},
		{0xd413cccfe7799211, 0x4034},
		{0x9a209a84fbcff799, 0x3ffd},
	};
	const unsigned int kind = (unsigned int)below(r, 8);
	uint64_t mant = rnd(r);
	uint16_t exp = (uint16_t)rnd(r);

	if (kind < 4) {
		const size_t i = below(r, sizeof(values) / sizeof(*values));

		mant = values[i].mant;
		exp = values[i].exp;
	} else if (kind < 7) {
		mant |= UINT64_C(1) << 63;
		exp = (uint16_t)((exp & 0x8000) | (0x3fff - 20 + below(r, 90)));
	}
	memset(out, 0, 16);
	memcpy(out, &mant, 8);
	memcpy(out + 8, &exp, 2);
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static void fill_x87(struct rig *r, struct run_state *s, enum masks masks)
{
	uint16_t fcw = (uint16_t)((rnd(r) & 0x0f00) | 0x7f);
	uint16_t fsw = (uint16_t)(rnd(r) & 0x7f3f);

	if (masks == UNMASKED) {
		fcw &= (uint16_t)(rnd(r) | 0x40);
		if (below(r, 8))
			fsw &= (uint16_t)~0x3f;
	}
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080;
	put16(s->fx + FX_FCW, fcw);
	put16(s->fx + FX_FSW, fsw);
	s->fx[FX_FTW] = (uint8_t)(below(r, 3) ? 0xff : rnd(r));
	for (unsigned int i = 0; i < 8; i++)
		some_extended(r, s->fx + FX_ST + 16 * i);
}

static void fill_element(struct rig *r, uint8_t *out, bool doubles)
{
	uint32_t f[2] = {some_float(r), some_float(r)};
	uint64_t d = some_double(r);

	if (doubles)
		memcpy(out, &d, 8);
	else
		memcpy(out, f, 8);
}

static void fill_sse(struct rig *r, struct run_state *s, enum masks masks)
{
	uint32_t mxcsr = (uint32_t)rnd(r) & 0xe07f;
	const bool doubles = below(r, 2);

	/* DAZ and FTZ hide most of what is interesting. */
	if (below(r, 2))
		mxcsr &= 0x7fbf;
	mxcsr |= masks == MASKED ? 0x1f80 : (uint32_t)rnd(r) & 0x1f80;
	if (below(r, 2))
		mxcsr &= ~0x3fU;
	memcpy(s->fx + FX_MXCSR, &mxcsr, 4);
	for (unsigned int i = 0; i < 32; i++)
		fill_element(r, s->fx + FX_XMM + 8 * i, doubles);
}

static void fill_mem(struct rig *r, struct run_state *s)
{
	const unsigned int kind = (unsigned int)below(r, 4);

	for (unsigned int i = 0; i < RUN_WINDOW; i += 8) {
		uint64_t v = rnd(r);

		if (kind < 2)
			fill_element(r, s->mem + i, kind);
		else
			memcpy(s->mem + i, &v, 8);
	}
}

/* Operands: aligned, not aligned, across pages, and reaching to where nothing is. */
static uint64_t some_operand(struct rig *r, struct run_state *s)
{
	uint64_t addr;

	switch (below(r, 8)) {
	case 0:
		s->window = RUN_DATA_END - RUN_WINDOW;
		addr = RUN_DATA_END - 1 - below(r, 20);
		break;
	case 1:
		s->window = RUN_DATA_END - 0x1000 - RUN_WINDOW / 2;
		addr = RUN_DATA_END - 0x1000 - 1 - below(r, 20);
		break;
	case 2:
		s->window = RUN_DATA;
		addr = RUN_DATA + below(r, 256);
		break;
	default:
		s->window = RUN_DATA;
		addr = RUN_DATA + 16 * below(r, 16);
	}
	return addr;
}

static void put_value(struct rig *r, struct run_state *s, uint64_t addr)
{
	const uint64_t at = addr - s->window;
	uint8_t e[16];

	if (at + 16 > RUN_WINDOW)
		return;
	some_extended(r, e);
	if (below(r, 3) == 0)
		memcpy(s->mem + at, e, 10);
	else if (below(r, 3) == 0)
		for (unsigned int i = 0; i < 9; i++)
			s->mem[at + i] = (uint8_t)(below(r, 10) << 4 |
						   below(r, 10));
}

static void fill(struct rig *r, struct run_state *s, enum masks x87,
		 enum masks sse)
{
	memset(s, 0, sizeof(*s));
	fill_x87(r, s, x87);
	fill_sse(r, s, sse);
	fill_mem(r, s);
	for (unsigned int i = 0; i < 16; i++)
		s->gpr[i] = rnd(r);
	s->flags = rnd(r) & RFLAGS_ARITH;
	s->gpr[7] = some_operand(r, s);
	put_value(r, s, s->gpr[7]);
}

static gpa_t run_gpa(uint64_t addr)
{
	return gpa(addr - RUN_CODE + RUN_GPA);
}

static void guest_put(struct rig *r, uint64_t addr, const void *p, uint64_t n)
{
	assert_true(guestmem_write(r->mem, gpa(addr), p, n));
}

static void guest_put64(struct rig *r, uint64_t addr, uint64_t v)
{
	guest_put(r, addr, &v, 8);
}

static void guest_set_code(struct rig *r, const uint8_t *bytes,
			   unsigned int n_bytes)
{
	static const uint8_t hlt = 0xf4;

	assert_true(guestmem_write(r->mem, run_gpa(RUN_CODE), bytes, n_bytes));
	assert_true(guestmem_write(r->mem, run_gpa(RUN_CODE + n_bytes), &hlt, 1));
}

static void guest_load(struct rig *r, const struct run_state *s)
{
	struct cpu *c = r->cpu;

	memcpy(c->gpr, s->gpr, sizeof(s->gpr));
	c->gpr[REG_RSP] = STACK_TOP;
	c->gpr[REG_RIP] = RUN_CODE;
	memcpy(&c->x87, s->fx, sizeof(c->x87));
	memcpy(c->xmm, s->fx + FX_XMM, sizeof(c->xmm));
	c->halted = c->shutdown = false;
	c->exc.pending = false;
	cpu_set_rflags(c, s->flags);
	cpu_state_changed(c);
}

static void guest_save(struct rig *r, struct run_state *s, unsigned int n_bytes)
{
	struct cpu *c = r->cpu;
	const uint64_t rip = cpu_rip(c);

	memcpy(s->gpr, c->gpr, sizeof(s->gpr));
	memcpy(s->fx, &c->x87, sizeof(c->x87));
	memcpy(s->fx + FX_XMM, c->xmm, sizeof(c->xmm));
	s->flags = cpu_rflags(c);
	s->vector = 0;
	s->fault = 0;
	if (rip != RUN_CODE + n_bytes + 1) {
		uint64_t frame[6];

		assert_true(rip > HANDLERS && rip <= HANDLERS + N_VECTORS);
		s->vector = rip - HANDLERS - 1;
		assert_true(guestmem_read(r->mem, gpa(c->gpr[REG_RSP]), frame,
					  sizeof(frame)));
		const unsigned int at = STACK_TOP - c->gpr[REG_RSP] == 48;

		s->fault = frame[at];
		s->flags = frame[at + 2];
	}
}

static void guest_step(struct rig *r, struct run_state *s, unsigned int n_bytes)
{
	assert_true(
		guestmem_write(r->mem, run_gpa(s->window), s->mem, RUN_WINDOW));
	guest_load(r, s);
	assert_int_equal(cpu_run(r->cpu, 1000), CPU_EXIT_HLT);
	guest_save(r, s, n_bytes);
	assert_true(
		guestmem_read(r->mem, run_gpa(s->window), s->mem, RUN_WINDOW));
}

static void forget_pointers(const struct form *f, struct run_state *s,
			    uint64_t operand)
{
	const uint64_t at = operand - s->window;

	memset(s->fx + 6, 0, 18); /* FOP, FIP, FDP */
	memset(s->fx + 28, 0, 4); /* MXCSR_MASK */
	memset(s->fx + 416, 0, 96);
	s->fx[5] = 0;
	s->gpr[4] = 0;
	s->flags &= RFLAGS_ARITH;
	/* Selectors and pointers of the last instruction: FNSTENV, FNSAVE. */
	if (f->env && at + 28 <= RUN_WINDOW)
		memset(s->mem + at + (f->bytes[0] == 0x66 ? 6 : 12), 0,
		       f->bytes[0] == 0x66 ? 8 : 16);
	if (f->fxsave && at + 32 <= RUN_WINDOW) {
		memset(s->mem + at + 6, 0, 18);
		memset(s->mem + at + 28, 0, 4);
	}
}

/*
 * Whether a result that overflows or underflows into an exception was exact is the one thing
 * that we do not find out: fp.h.
 */
static void forget_precision(struct run_state *native, struct run_state *ours)
{
	uint32_t mxcsr;

	memcpy(&mxcsr, native->fx + FX_MXCSR, 4);
	if (native->vector == VEC_XM && (mxcsr & ~(mxcsr >> 7) & 0x18)) {
		native->fx[FX_MXCSR] |= 0x20;
		ours->fx[FX_MXCSR] |= 0x20;
	}
}

static void show(const char *who, const struct run_state *s)
{
	print_message(
		"  %s: vector %u at +%x fcw %04x fsw %04x ftw %02x mxcsr %08x flags %04x\n",
		who, (unsigned int)s->vector,
		s->vector ? (unsigned int)(s->fault - RUN_CODE) : 0,
		get16(s->fx), get16(s->fx + 2), s->fx[4],
		*(const uint32_t *)(const void *)(s->fx + FX_MXCSR),
		(unsigned int)s->flags);
}

static void show_bytes(const char *what, const uint8_t *a, const uint8_t *b,
		       unsigned int n)
{
	if (!memcmp(a, b, n))
		return;
	print_message("  %-8s", what);
	for (unsigned int i = n; i--;)
		print_message("%02x", a[i]);
	print_message(" ");
	for (unsigned int i = n; i--;)
		print_message("%02x", b[i]);
	print_message("\n");
}

static void report(struct rig *r, const struct form *f,
		   const struct run_state *in, const struct run_state *native,
		   const struct run_state *ours)
{
	char name[16];

	/* One of each instruction tells most. */
	r->n_bad++;
	if (r->bad_form == f)
		return;
	r->bad_form = f;
	print_message("%s, operand %llx differs (left real, right ours):\n",
		      f->name, (unsigned long long)in->gpr[7]);
	show("before", in);
	show("real", native);
	show("ours", ours);
	for (unsigned int i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "st%u", i);
		show_bytes(name, native->fx + FX_ST + 16 * i,
			   ours->fx + FX_ST + 16 * i, 16);
	}
	for (unsigned int i = 0; i < 16; i++) {
		snprintf(name, sizeof(name), "xmm%u", i);
		show_bytes(name, native->fx + FX_XMM + 16 * i,
			   ours->fx + FX_XMM + 16 * i, 16);
		snprintf(name, sizeof(name), "gpr%u", i);
		show_bytes(name, (const uint8_t *)&native->gpr[i],
			   (const uint8_t *)&ours->gpr[i], 8);
	}
	for (unsigned int i = 0; i < RUN_WINDOW; i += 16) {
		snprintf(name, sizeof(name), "mem+%x", i);
		show_bytes(name, native->mem + i, ours->mem + i, 16);
	}
	show_bytes("source", in->fx + FX_ST, native->fx + FX_ST, 10);
	show_bytes("source1", in->fx + FX_ST + 16, native->fx + FX_ST + 16, 10);
}

static bool same(const struct run_state *a, const struct run_state *b)
{
	return !memcmp(a->fx, b->fx, sizeof(a->fx)) &&
	       !memcmp(a->gpr, b->gpr, sizeof(a->gpr)) &&
	       a->flags == b->flags && a->vector == b->vector &&
	       a->fault == b->fault && !memcmp(a->mem, b->mem, sizeof(a->mem));
}

static void run_form(struct rig *r, const struct form *f, unsigned int n_runs,
		     enum masks x87, enum masks sse)
{
	static struct run_state in, native, ours;

	r->bad_form = NULL;
	native_set_code(f->bytes, f->n_bytes);
	guest_set_code(r, f->bytes, f->n_bytes);
	for (unsigned int i = 0; i < n_runs; i++) {
		fill(r, &in, x87, sse);
		if (f->fcw && below(r, 4) && in.gpr[7] < in.window + 512)
			in.mem[in.gpr[7] - in.window] |= 0x3f;
		native = ours = in;
		native_step(&native);
		guest_step(r, &ours, f->n_bytes);
		forget_pointers(f, &native, in.gpr[7]);
		forget_pointers(f, &ours, in.gpr[7]);
		forget_precision(&native, &ours);
		r->n_runs++;
		if (!same(&native, &ours))
			report(r, f, &in, &native, &ours);
	}
}

static void mem_unmap(void *ctx, ppn_t page)
{
	const struct rig *r = ctx;

	cpu_unmap(r->cpu, page);
}

static void mem_written(void *ctx, gpa_t addr, uint64_t len)
{
	const struct rig *r = ctx;

	cpu_written(r->cpu, addr, len);
}

static void mem_kick(void *ctx)
{
	(void)ctx;
}

static void build_tables(struct rig *r)
{
	uint8_t hlt[N_VECTORS];

	memset(hlt, 0xf4, sizeof(hlt));
	guest_put64(r, PML4, PDPT | PTE_P | PTE_W);
	guest_put64(r, PDPT, PD | PTE_P | PTE_W);
	guest_put64(r, PD, PTE_P | PTE_W | PTE_PS);
	guest_put64(r, PD + 8 * (RUN_CODE >> 21),
		    RUN_GPA | PTE_P | PTE_W | PTE_PS);
	guest_put64(r, GDT, 0);
	guest_put64(r, GDT + 8, UINT64_C(0x00af9b000000ffff));
	guest_put64(r, GDT + 16, UINT64_C(0x00cf93000000ffff));
	for (uint64_t v = 0; v < N_VECTORS; v++) {
		guest_put64(r, IDT + 16 * v,
			    (HANDLERS + v) | UINT64_C(8) << 16 |
				    UINT64_C(0x8e00) << 32);
		guest_put64(r, IDT + 16 * v + 8, 0);
	}
	guest_put(r, HANDLERS, hlt, sizeof(hlt));
}

static void enter_long_mode(struct cpu *c)
{
	c->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP | CR0_WP | CR0_PG;
	c->cr3 = PML4;
	c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	c->efer = EFER_LME | EFER_LMA | EFER_NXE;
	c->gdtr = (struct cpu_table){.base = GDT, .limit = 23};
	c->idtr = (struct cpu_table){.base = IDT, .limit = N_VECTORS * 16 - 1};
	c->seg[SEG_CS] = (struct cpu_segment){
		.sel = 8,
		.attr = SEG_P | SEG_S | 11 | SEG_L | SEG_G,
		.limit = UINT32_MAX,
	};
	cpu_state_changed(c);
}

static int setup(void **state)
{
	static const struct guestmem_ops mem_ops = {.unmap = mem_unmap,
						    .written = mem_written,
						    .kick = mem_kick};
	static const struct cpu_ops no_ops;
	const struct mmu_options mmu = mmu_options_default();
	const struct cpu_features features = {.n_cpus = 1, .tsc_khz = 1000000};
	struct rig *r = calloc(1, sizeof(*r));
	struct err err;

	assert_non_null(r);
	r->seed = UINT64_C(0x9e3779b97f4a7c15);
	assert_int_equal(guestmem_new(RAM_BYTES, &r->mem, &err), 0);
	assert_int_equal(cpu_new(r->mem, &no_ops, NULL, &mmu, &features,
				 &r->cpu, &err),
			 0);
	guestmem_set_ops(r->mem, &mem_ops, r);
	build_tables(r);
	enter_long_mode(r->cpu);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	cpu_free(r->cpu);
	guestmem_free(r->mem);
	free(r);
	return 0;
}

/* The forms of SSE, SSE2 and MMX, assembled: one record of 64 bytes for each. */
#define RECORD 64U

#define F(text)                           \
	".byte 9f - 8f\n"                 \
	"8: " text "\n"                   \
	"9: .skip 15 - (9b - 8b), 0x90\n" \
	"7: .ascii \"" text "\"\n"        \
	".skip 48 - (. - 7b), 0\n"

/* Registers (different, the same) and memory. */
#define XMM(insn)               \
	F(insn " %xmm9, %xmm2") \
	F(insn " %xmm3, %xmm3") \
	F(insn " (%rdi), %xmm12")
#define MM(insn)              \
	F(insn " %mm5, %mm2") \
	F(insn " (%rdi), %mm1")
#define BOTH(insn) XMM(insn) MM(insn)
#define SHIFT(insn)           \
	BOTH(insn)            \
	F(insn " $5, %xmm4")  \
	F(insn " $77, %xmm4") \
	F(insn " $3, %mm4")
#define IMM(insn, imm)                    \
	F(insn " $" imm ", %xmm9, %xmm2") \
	F(insn " $" imm ", (%rdi), %xmm3")
#define IMMS(insn)     \
	IMM(insn, "0") \
	IMM(insn, "0x1b") IMM(insn, "0x4e") IMM(insn, "0xff") IMM(insn, "0x93")
/* clang-format off: a table */
#define COMPARES(insn) \
	IMM(insn, "0") \
	IMM(insn, "1") \
	IMM(insn, "2") \
	IMM(insn, "3") \
	IMM(insn, "4") \
	IMM(insn, "5") \
	IMM(insn, "6") \
	IMM(insn, "7")
/* clang-format on */
#define MOVE(insn) \
	XMM(insn)  \
	F(insn " %xmm10, (%rdi)")

extern const uint8_t integer_forms[] __attribute__((visibility("hidden")));
extern const uint8_t integer_forms_end[] __attribute__((visibility("hidden")));
extern const uint8_t float_forms[] __attribute__((visibility("hidden")));
extern const uint8_t float_forms_end[] __attribute__((visibility("hidden")));

/* The limit is meant for strings of the program; this one is for the assembler. */
#pragma GCC diagnostic ignored "-Woverlength-strings"

__asm__(".pushsection .rodata\n"
	"integer_forms:\n" BOTH("paddb") BOTH("paddw") BOTH("paddd") BOTH("paddq") BOTH("paddsb") BOTH("paddsw") BOTH("paddusb") BOTH("paddusw") BOTH("psubb") BOTH("psubw") BOTH("psubd") BOTH(
		"psubq") BOTH("psubsb") BOTH("psubsw") BOTH("psubusb") BOTH("psubusw") BOTH("pmullw") BOTH("pmulhw") BOTH("pmulhuw") BOTH("pmuludq") BOTH("pmaddwd") BOTH("psadbw") BOTH("pavgb")
		BOTH("pavgw") BOTH("pminub") BOTH("pmaxub") BOTH("pminsw") BOTH("pmaxsw") BOTH("pcmpeqb") BOTH("pcmpeqw") BOTH("pcmpeqd") BOTH("pcmpgtb") BOTH("pcmpgtw") BOTH("pcmpgtd") BOTH(
			"pand") BOTH("pandn") BOTH("por") BOTH("pxor") SHIFT("psllw") SHIFT("pslld") SHIFT("psllq") SHIFT("psrlw")
			SHIFT("psrld") SHIFT("psrlq") SHIFT("psraw") SHIFT("psrad") BOTH("packsswb") BOTH("packssdw") BOTH("packuswb") BOTH("punpcklbw") BOTH("punpcklwd") BOTH("punpckldq") BOTH(
				"punpckhbw") BOTH("punpckhwd") BOTH("punpckhdq") XMM("punpcklqdq") XMM("punpckhqdq") XMM("andps") XMM("andpd") XMM("andnps") XMM("andnpd") XMM("orps")
				XMM("orpd") XMM("xorps") XMM("xorpd") XMM("unpcklps") XMM("unpcklpd") XMM("unpckhps") XMM("unpckhpd") XMM("rcpps") XMM("rsqrtps") XMM(
					"rcpss") XMM("rsqrtss") IMMS("pshufd") IMMS("pshufhw") IMMS("pshuflw") IMMS("shufps") IMMS("shufpd") F("pshufw $0x1b, %mm3, %mm6") F("pshufw $0x72, (%rdi), %mm6")
					F("pslldq $0, %xmm1") F("pslldq $5, %xmm1") F("pslldq $15, %xmm1") F("pslldq $16, %xmm1") F("pslldq $200, %xmm1") F(
						"psrldq $0, %xmm8") F("psrldq $5, %xmm8") F("psrldq $15, %xmm8") F("psrldq $16, %xmm8") F("psrldq $200, %xmm8")
						MOVE("movaps") MOVE("movapd") MOVE("movdqa") MOVE("movups") MOVE("movupd") MOVE("movdqu") MOVE(
							"movss") MOVE("movsd") MOVE("movq") F("movdqu 16(%rdi,%rcx,2), %xmm3") F("movntps %xmm1, (%rdi)") F("movntpd %xmm1, (%rdi)") F("movntdq %xmm11, (%rdi)") F("movntq %mm3, (%rdi)")
							F("movnti %ecx, (%rdi)") F("movnti %r9, (%rdi)") F("movlps %xmm1, (%rdi)") F("movlps (%rdi), %xmm1") F("movlpd %xmm1, (%rdi)") F("movlpd (%rdi), %xmm1") F("movhps %xmm1, (%rdi)") F(
								"movhps (%rdi), %xmm1") F("movhpd %xmm1, (%rdi)") F("movhpd (%rdi), %xmm1") F("movhlps %xmm4, %xmm7") F("movlhps %xmm4, %xmm7")
								F("movd %ecx, %xmm5") F("movd %xmm5, %ecx") F("movd (%rdi), %xmm5") F("movd %xmm5, (%rdi)") F("movq %r9, %xmm5") F(
									"movq %xmm5, %r9") F("movd %ecx, %mm5") F("movd %mm5, %ecx") F("movd (%rdi), %mm5") F("movd %mm5, (%rdi)") F("movq %r9, %mm5") F("movq %mm5, %r9")
									F("movq %mm5, %mm0") F("movq (%rdi), %mm5") F("movq %mm5, (%rdi)") F("movq2dq %mm4, %xmm9") F("movdq2q %xmm9, %mm4") F("movmskps %xmm9, %eax") F(
										"movmskpd %xmm3, %r8d") F("pmovmskb %xmm9, %eax") F("pmovmskb %mm3, %r8d") F("pinsrw $3, %ecx, %xmm6") F("pinsrw $13, (%rdi), %xmm6") F("pinsrw $3, %ecx, %mm6")
										F("pinsrw $6, (%rdi), %mm6") F("pextrw $5, %xmm6, %r10d") F("pextrw $2, %mm6, %eax") F("maskmovdqu %xmm2, %xmm5") F(
											"maskmovq %mm2, %mm5") F("emms") F("stmxcsr (%rdi)") F("ldmxcsr (%rdi)") F("fxsave (%rdi)")
											F("fxsave64 (%rdi)") "integer_forms_end:\n"
													     "float_forms:\n" XMM(
														     "addps") XMM("addpd") XMM("addss") XMM("addsd") XMM("subps") XMM("subpd")
														     XMM("subss") XMM("subsd") XMM("mulps") XMM("mulpd") XMM(
															     "mulss") XMM("mulsd") XMM("divps") XMM("divpd") XMM("divss")
															     XMM("divsd") XMM("minps") XMM("minpd") XMM("minss") XMM("minsd") XMM(
																     "maxps") XMM("maxpd") XMM("maxss") XMM("maxsd") XMM("sqrtps")
																     XMM("sqrtpd") XMM("sqrtss") XMM("sqrtsd") COMPARES("cmpps") COMPARES(
																	     "cmppd") COMPARES("cmpss") COMPARES("cmpsd")
																	     XMM("comiss") XMM("comisd") XMM("ucomiss") XMM(
																		     "ucomisd") XMM("cvtdq2ps") XMM("cvtps2dq") XMM("cvttps2dq") XMM("cvtpd2dq")
																		     XMM("cvttpd2dq") XMM("cvtdq2pd") XMM("cvtps2pd") XMM("cvtpd2ps") XMM("cvtss2sd") XMM(
																			     "cvtsd2ss") F("cvtss2si %xmm9, %ecx") F("cvtss2si (%rdi), %r9")
																			     F("cvttss2si %xmm9, %rcx") F("cvttss2si (%rdi), %r9d") F("cvtsd2si %xmm9, %ecx") F(
																				     "cvtsd2si (%rdi), %r9") F("cvttsd2si %xmm9, %rcx") F("cvttsd2si (%rdi), %r9d")
																				     F("cvtss2si %xmm9, %rcx") F("cvttsd2si %xmm9, %ecx") F(
																					     "cvtsi2ssl %ecx, %xmm3") F("cvtsi2ssq %r9, %xmm11") F("cvtsi2ssl (%rdi), %xmm3")
																					     F("cvtsi2ssq (%rdi), %xmm11") F("cvtsi2sdl %ecx, %xmm3") F(
																						     "cvtsi2sdq %r9, %xmm11") F("cvtsi2sdl (%rdi), %xmm3") F("cvtsi2sdq (%rdi), %xmm11")
																						     F("cvtpi2ps %mm3, %xmm4") F("cvtpi2ps (%rdi), %xmm4") F(
																							     "cvtpi2pd %mm3, %xmm4") F("cvtpi2pd (%rdi), %xmm4")
																							     F("cvtps2pi %xmm3, %mm4") F(
																								     "cvtps2pi (%rdi), %mm4") F("cvttps2pi %xmm3, %mm4")
																								     F("cvttps2pi (%rdi), %mm4") F(
																									     "cvtpd2pi %xmm3, %mm4")
																									     F("cvtpd2pi (%rdi), %mm4") F(
																										     "cvttpd2pi %xmm3, %mm4")
																										     F("cvttpd2pi (%rdi), %mm4") "float_forms_end:\n"
																														 ".popsection");

static void run_records(struct rig *r, const uint8_t *at, const uint8_t *end,
			unsigned int n_runs, enum masks x87, enum masks sse)
{
	for (; at < end; at += RECORD) {
		struct form f = {
			.name = (const char *)at + 16,
			.n_bytes = at[0],
			.fxsave = !strncmp((const char *)at + 16, "fxsave", 6),
		};

		memcpy(f.bytes, at + 1, f.n_bytes);
		run_form(r, &f, n_runs, x87, sse);
	}
}

static void check(const struct rig *r)
{
	print_message("%u runs, %u differ\n", r->n_runs, r->n_bad);
	assert_true(r->n_runs > 0);
	assert_int_equal(r->n_bad, 0);
}

static void test_sse_integer(void **state)
{
	struct rig *r = *state;

	run_records(r, integer_forms, integer_forms_end, 60, MASKED, MASKED);
	check(r);
}

static void test_sse_float_masked(void **state)
{
	struct rig *r = *state;

	run_records(r, float_forms, float_forms_end, 300, MASKED, MASKED);
	check(r);
}

static void test_sse_float_unmasked(void **state)
{
	struct rig *r = *state;

	run_records(r, float_forms, float_forms_end, 300, MASKED, UNMASKED);
	check(r);
}

/* MMX with x87 exceptions pending: #MF. */
static void test_mmx_pending(void **state)
{
	struct rig *r = *state;

	run_records(r, integer_forms, integer_forms_end, 20, UNMASKED, UNMASKED);
	run_records(r, float_forms, float_forms_end, 20, UNMASKED, UNMASKED);
	check(r);
}

/* Not advertised: FISTTP is of SSE3. */
static bool is_later(uint8_t opcode, uint8_t modrm)
{
	return modrm < 0xc0 && (modrm & 0x38) == 0x08 &&
	       (opcode == 0xdb || opcode == 0xdd || opcode == 0xdf);
}

/* All of D8 to DF, with every register and with memory at RDI. */
static void run_x87(struct rig *r, uint8_t prefix, unsigned int n_runs,
		    enum masks masks)
{
	char name[32];

	for (unsigned int i = 0; i < 8 * 72; i++) {
		const uint8_t opcode = (uint8_t)(0xd8 + i / 72);
		const unsigned int n = i % 72;
		const uint8_t modrm = (uint8_t)(n < 64 ? 0xc0 + n
						       : (n - 64) << 3 | 7);
		struct form f = {.name = name};

		if (is_later(opcode, modrm))
			continue;
		if (prefix)
			f.bytes[f.n_bytes++] = prefix;
		f.bytes[f.n_bytes++] = opcode;
		f.bytes[f.n_bytes++] = modrm;
		f.env = modrm == 0x37 && (opcode == 0xd9 || opcode == 0xdd);
		if (prefix && !f.env && modrm != 0x27)
			continue;
		snprintf(name, sizeof(name), "%02x %02x %02x", prefix, opcode,
			 modrm);
		run_form(r, &f, n_runs, masks, MASKED);
	}
}

static void test_x87_masked(void **state)
{
	struct rig *r = *state;

	run_x87(r, 0, 100, MASKED);
	run_x87(r, 0x66, 100, MASKED);
	check(r);
}

static void test_x87_unmasked(void **state)
{
	struct rig *r = *state;

	run_x87(r, 0, 100, UNMASKED);
	run_x87(r, 0x66, 100, UNMASKED);
	check(r);
}

/* An instruction at random; none that stores pointers. Return: its length. */
static unsigned int some_insn(struct rig *r, uint8_t *out)
{
	const uint8_t *forms = below(r, 2) ? integer_forms : float_forms;
	const uint8_t *end = forms == integer_forms ? integer_forms_end
						    : float_forms_end;
	const uint8_t *at = forms +
			    RECORD * below(r, (uint64_t)(end - forms) / RECORD);

	if (below(r, 3)) {
		out[0] = (uint8_t)(0xd8 + below(r, 8));
		out[1] = (uint8_t)(below(r, 4) ? 0xc0 | rnd(r)
					       : (rnd(r) & 0x38) | 7);
		if (is_later(out[0], out[1]) || out[1] == 0x37 || out[1] == 0x27)
			out[1] = 0xc1;
		return 2;
	}
	if (!strncmp((const char *)at + 16, "fx", 2) || !below(r, 20)) {
		out[0] = 0x9b;
		return 1;
	}
	memcpy(out, at + 1, at[0]);
	return at[0];
}

/* Several in one block: state stays on the host from one to the next, or changes its place. */
static void test_sequences(void **state)
{
	struct rig *r = *state;

	for (unsigned int i = 0; i < 1500; i++) {
		struct form f = {.name = "sequence"};

		for (uint64_t n = 2 + below(r, 6); n; n--)
			f.n_bytes = (uint8_t)(f.n_bytes +
					      some_insn(r, f.bytes + f.n_bytes));
		run_form(r, &f, 10, below(r, 3) ? MASKED : UNMASKED,
			 below(r, 3) ? MASKED : UNMASKED);
	}
	check(r);
}

/* Ways in which the place of the x87 state changes that chance seldom finds. */
static void test_transitions(void **state)
{
	static const struct form forms[] = {
		{"fld1; movq %mm5, (%rdi)",
		 {0xd9, 0xe8, 0x0f, 0x7f, 0x2f},
		 5,
		 false,
		 false,
		 false},
		{"fld1; movd %mm5, (%rdi)",
		 {0xd9, 0xe8, 0x0f, 0x7e, 0x2f},
		 5,
		 false,
		 false,
		 false},
		{"fld1; paddb (%rdi), %mm1; fldpi",
		 {0xd9, 0xe8, 0x0f, 0xfc, 0x0f, 0xd9, 0xeb},
		 7,
		 false,
		 false,
		 false},
		{"paddb %mm1, %mm2; emms; fldpi",
		 {0x0f, 0xfc, 0xd1, 0x0f, 0x77, 0xd9, 0xeb},
		 7,
		 false,
		 false,
		 false},
		{"fld1; fldcw (%rdi); fdiv %st(1), %st; fldpi",
		 {0xd9, 0xe8, 0xd9, 0x2f, 0xd8, 0xf1, 0xd9, 0xeb},
		 8,
		 false,
		 false,
		 true},
		{"fldpi; fldcw (%rdi); fistpl 8(%rdi)",
		 {0xd9, 0xeb, 0xd9, 0x2f, 0xdb, 0x5f, 0x08},
		 7,
		 false,
		 false,
		 true},
		{"fdiv %st(1), %st; fnstsw %ax; fnstcw (%rdi); fld1",
		 {0xd8, 0xf1, 0xdf, 0xe0, 0xd9, 0x3f, 0xd9, 0xe8},
		 8,
		 false,
		 false,
		 false},
		{"fdiv %st(1), %st; fnclex; fld1; fninit; fldpi",
		 {0xd8, 0xf1, 0xdb, 0xe2, 0xd9, 0xe8, 0xdb, 0xe3, 0xd9, 0xeb},
		 10,
		 false,
		 false,
		 false},
		{"fdiv %st(1), %st; fnstsw (%rdi); fwait",
		 {0xd8, 0xf1, 0xdd, 0x3f, 0x9b},
		 5,
		 false,
		 false,
		 false},
	};
	struct rig *r = *state;

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		run_form(r, &forms[i], 200, MASKED, MASKED);
		run_form(r, &forms[i], 200, UNMASKED, MASKED);
	}
	check(r);
}

/* FXRSTOR of images whose MXCSR may be bad. */
static void test_fxrstor(void **state)
{
	static const struct form forms[] = {
		{"fxrstor (%rdi)", {0x0f, 0xae, 0x0f}, 3, false, false, false},
		{"fxrstor64 (%rdi)",
		 {0x48, 0x0f, 0xae, 0x0f},
		 4,
		 false,
		 false,
		 false},
	};
	static struct run_state in, native, ours;
	struct rig *r = *state;

	for (unsigned int i = 0; i < 400; i++) {
		const struct form *f = &forms[i & 1];
		uint32_t mxcsr;

		native_set_code(f->bytes, f->n_bytes);
		guest_set_code(r, f->bytes, f->n_bytes);
		fill(r, &in, UNMASKED, UNMASKED);
		in.window = RUN_DATA;
		in.gpr[7] = RUN_DATA + 16 + (below(r, 8) ? 0 : 8);
		/* Bit 17, AMD's misaligned mode, exists on the host only. */
		mxcsr = (uint32_t)rnd(r) & (below(r, 4) ? 0xffff : 0xfffdffff);
		memcpy(in.mem + 16 + FX_MXCSR, &mxcsr, 4);
		in.mem[16 + 5] = 0;
		native = ours = in;
		native_step(&native);
		guest_step(r, &ours, f->n_bytes);
		forget_pointers(f, &native, in.gpr[7]);
		forget_pointers(f, &ours, in.gpr[7]);
		for (unsigned int n = 0; n < 8; n++) { /* beyond the 80 bits */
			memset(native.fx + FX_ST + 16 * n + 10, 0, 6);
			memset(ours.fx + FX_ST + 16 * n + 10, 0, 6);
		}
		r->n_runs++;
		if (!same(&native, &ours))
			report(r, f, &in, &native, &ours);
	}
	check(r);
}

/* One run of an instruction on our processor only. Return: its exception. */
static uint64_t vector_of(struct rig *r, const uint8_t *bytes,
			  unsigned int n_bytes, struct run_state *s)
{
	guest_set_code(r, bytes, n_bytes);
	guest_step(r, s, n_bytes);
	return s->vector;
}

static uint64_t plain_vector(struct rig *r, const uint8_t *bytes,
			     unsigned int n_bytes)
{
	static struct run_state s;

	fill(r, &s, MASKED, MASKED);
	s.window = s.gpr[7] = RUN_DATA;
	return vector_of(r, bytes, n_bytes, &s);
}

/* Availability. [APM2 table 11-1, SDM3 table 2-1] */
static void test_availability(void **state)
{
	static const uint8_t fld1[] = {0xd9, 0xe8};
	static const uint8_t fnstcw[] = {0xd9, 0x3f};
	static const uint8_t wait[] = {0x9b};
	static const uint8_t paddb_mm[] = {0x0f, 0xfc, 0xc1};
	static const uint8_t addps[] = {0x0f, 0x58, 0xc1};
	static const uint8_t movdqa[] = {0x66, 0x0f, 0x6f, 0x07};
	static const uint8_t fxsave[] = {0x0f, 0xae, 0x07};
	static const uint8_t movnti[] = {0x0f, 0xc3, 0x07};
	static const uint64_t base = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	static const struct {
		uint64_t cr0, cr4;
		uint8_t fld1, fnstcw, wait, paddb, addps, movdqa, fxsave;
	} cases[] = {
		{0, CR4_OSFXSR, 0, 0, 0, 0, 0, 0, 0},
		{CR0_MP, CR4_OSFXSR, 0, 0, 0, 0, 0, 0, 0},
		{CR0_TS, CR4_OSFXSR, 7, 7, 0, 7, 7, 7, 7},
		{CR0_TS | CR0_MP, CR4_OSFXSR, 7, 7, 7, 7, 7, 7, 7},
		{CR0_EM, CR4_OSFXSR, 7, 7, 0, 6, 6, 6, 6},
		{0, 0, 0, 0, 0, 0, 6, 6, 0},
		{CR0_TS, 0, 7, 7, 0, 7, 6, 6, 7},
	};
	struct rig *r = *state;
	struct cpu *c = r->cpu;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		c->cr0 = base | cases[i].cr0;
		c->cr4 = CR4_PAE | CR4_OSXMMEXCPT | cases[i].cr4;
#define EXPECT(insn, want) \
	assert_int_equal(plain_vector(r, insn, sizeof(insn)), want)
		EXPECT(fld1, cases[i].fld1);
		EXPECT(fnstcw, cases[i].fnstcw);
		EXPECT(wait, cases[i].wait);
		EXPECT(paddb_mm, cases[i].paddb);
		EXPECT(addps, cases[i].addps);
		EXPECT(movdqa, cases[i].movdqa);
		EXPECT(fxsave, cases[i].fxsave);
		EXPECT(movnti, 0);
	}
}

/* SSE3 and later, and what AMD had before: not advertised. */
static void test_not_advertised(void **state)
{
	static const uint8_t haddps[] = {0xf2, 0x0f, 0x7c, 0xc1};
	static const uint8_t pshufb[] = {0x66, 0x0f, 0x38, 0x00, 0xc1};
	static const uint8_t pextrw_mem[] = {0x66, 0x0f, 0x3a, 0x15, 0x07, 1};
	static const uint8_t fisttp[] = {0xdb, 0x0f};
	static const uint8_t vaddps[] = {0xc5, 0xf0, 0x58, 0xc1};
	static const uint8_t femms[] = {0x0f, 0x0e};
	static const uint8_t xsave[] = {0x0f, 0xae, 0x27};
	struct rig *r = *state;

	EXPECT(haddps, VEC_UD);
	EXPECT(pshufb, VEC_UD);
	EXPECT(pextrw_mem, VEC_UD);
	EXPECT(fisttp, VEC_UD);
	EXPECT(vaddps, VEC_UD);
	EXPECT(femms, VEC_UD);
	EXPECT(xsave, VEC_UD);
}

/*
 * LDMXCSR unmasks in the middle: what follows is watched; and without the OS's
 * consent it is #UD.
 */
static void test_unmask(void **state)
{
	/* ldmxcsr (%rdi); divps %xmm1, %xmm0 */
	static const uint8_t code[] = {0x0f, 0xae, 0x17, 0x0f, 0x5e, 0xc1};
	static struct run_state s;
	struct rig *r = *state;

	for (unsigned int i = 0; i < 3; i++) {
		const uint32_t mxcsr = i ? 0x1f80 & ~(1U << 9) : 0x1f80;

		fill(r, &s, MASKED, MASKED);
		s.window = s.gpr[7] = RUN_DATA;
		memcpy(s.mem, &mxcsr, 4);
		memset(s.fx + FX_XMM, 0x3f, 16);   /* about 0.75 */
		memset(s.fx + FX_XMM + 16, 0, 16); /* divided by zero */
		r->cpu->cr4 = CR4_PAE | CR4_OSFXSR |
			      (i < 2 ? CR4_OSXMMEXCPT : 0);
		assert_int_equal(vector_of(r, code, sizeof(code), &s),
				 i == 0   ? 0
				 : i == 1 ? VEC_XM
					  : VEC_UD);
		assert_int_equal(r->cpu->x87.mxcsr, mxcsr | 4);
		assert_int_equal(r->cpu->xmm[0].u32[0],
				 i ? 0x3f3f3f3f : 0x7f800000);
	}
}

/* What a handler of #MF reads to find the culprit. */
static void test_pointers(void **state)
{
	/* nop; fdivs (%rdi); nop; fwait */
	static const uint8_t code[] = {0x90, 0xd8, 0x37, 0x90, 0x9b};
	static struct run_state s;
	struct rig *r = *state;

	fill(r, &s, MASKED, MASKED);
	s.window = s.gpr[7] = RUN_DATA;
	memset(s.mem, 0, 4);
	put16(s.fx + FX_FCW, 0x037b); /* divide by zero unmasked */
	put16(s.fx + FX_FSW, 0);
	s.fx[FX_FTW] = 0xff;
	memset(s.fx + FX_ST, 0, 16);
	s.fx[FX_ST + 7] = 0x80;
	put16(s.fx + FX_ST + 8, 0x3fff); /* 1.0 */
	assert_int_equal(vector_of(r, code, sizeof(code), &s), VEC_MF);
	assert_int_equal(s.fault, RUN_CODE + 4);
	assert_int_equal(r->cpu->x87.fip, RUN_CODE + 1);
	assert_int_equal(r->cpu->x87.fdp, RUN_DATA);
	assert_int_equal(r->cpu->x87.fop, 0x037);
	assert_int_equal(r->cpu->x87.fsw & 0x80bf, 0x8084);
}

/* 32-bit code: eight XMM registers, and the rest of the image is not written. */
static void test_fxsave_32(void **state)
{
	static const uint8_t code[] = {0x0f, 0xae, 0x07};
	static struct run_state s;
	struct rig *r = *state;
	uint8_t rest[512 - 288];

	fill(r, &s, MASKED, MASKED);
	s.window = s.gpr[7] = RUN_DATA;
	memcpy(rest, s.mem + 288, sizeof(rest));
	r->cpu->seg[SEG_CS].attr = SEG_P | SEG_S | 11 | SEG_DB | SEG_G;
	assert_int_equal(vector_of(r, code, sizeof(code), &s), 0);
	assert_memory_equal(s.mem + 160, s.fx + FX_XMM, 128);
	assert_memory_equal(s.mem + 288, rest, sizeof(rest));
}

static void test_wait(void **state)
{
	static const struct form f = {"fwait", {0x9b}, 1, false, false, false};
	struct rig *r = *state;

	run_form(r, &f, 100, UNMASKED, MASKED);
	check(r);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sse_integer, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_sse_float_masked, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_sse_float_unmasked, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_mmx_pending, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_x87_masked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_x87_unmasked, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sequences, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transitions, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_fxrstor, setup, teardown),
		cmocka_unit_test_setup_teardown(test_availability, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_not_advertised, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_unmask, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pointers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fxsave_32, setup, teardown),
	};

	if (native_setup() < 0) {
		print_message("cannot map the addresses of the test\n");
		return 77; /* skipped */
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
