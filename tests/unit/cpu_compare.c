/* SPDX-License-Identifier: Apache-2.0 */
/* Random states for code, and the comparison of what becomes of them on both processors. */
#include "cpu_compare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define FLAGS_COMPARED (RFLAGS_ARITH | RFLAGS_DF)
#define USER_END       UINT64_C(0x7ffffffff000)

uint64_t compare_rnd(struct cpu_compare *f)
{
	/* xorshift64* */
	f->rng ^= f->rng >> 12;
	f->rng ^= f->rng << 25;
	f->rng ^= f->rng >> 27;
	return f->rng * UINT64_C(0x2545f4914f6cdd1d);
}

uint64_t compare_below(struct cpu_compare *f, uint64_t n)
{
	return (compare_rnd(f) >> 16) % n;
}

uint64_t compare_value(struct cpu_compare *f)
{
	static const uint64_t edges[] = {0,
					 1,
					 0x7f,
					 0x80,
					 0xff,
					 0x7fff,
					 0x8000,
					 0xffff,
					 0x7fffffff,
					 0x80000000,
					 0xffffffff,
					 UINT64_C(0x7fffffffffffffff),
					 UINT64_C(0x8000000000000000),
					 UINT64_MAX,
					 31,
					 32,
					 33,
					 63,
					 64};

	switch (compare_below(f, 4)) {
	case 0:
		return edges[compare_below(f, ARRAY_SIZE(edges))];
	case 1:
		return compare_below(f, 256) - 128;
	default:
		return compare_rnd(f);
	}
}

uint64_t compare_address(struct cpu_compare *f, bool aligned)
{
	const uint64_t r = compare_below(f, 64);
	uint64_t at = DATA_BASE + compare_below(f, DATA_BYTES - 64);

	if (r < 8) /* near a page boundary */
		at = DATA_BASE + (1 + compare_below(f, DATA_PAGES)) * PAGE_SIZE -
		     8 + compare_below(f, 12);
	else if (r < 10)
		at = DATA_BASE - compare_below(f, 16);
	else if (r == 10)
		at = RO_BASE + compare_below(f, 64);
	else if (r == 11)
		at = UINT64_C(0x800000000000) << compare_below(f, 17);
	else if (r == 12)
		at = UINT64_C(0x7ffffffffff8) + compare_below(f, 8);
	if (aligned && compare_below(f, 8))
		at &= ~UINT64_C(15);
	return at;
}

void compare_state(struct cpu_compare *f, struct compare_case *t)
{
	struct host_state *s = &t->state;

	for (unsigned int i = 0; i < 16; i++)
		s->gpr[i] = compare_value(f);
	s->gpr[REG_RSP] = STACK_BASE + PAGE_SIZE +
			  (compare_below(f, 256) & ~7UL);
	if (!compare_below(f, 32))
		s->gpr[REG_RSP] = compare_address(f, false);
	s->rip = CODE_BASE + 256 + compare_below(f, PAGE_SIZE - 512);
	if (!compare_below(f, 8))
		s->rip = CODE_BASE + PAGE_SIZE - 1 - compare_below(f, 12);
	s->rflags = (compare_rnd(f) & RFLAGS_ARITH) | RFLAGS_ONE | RFLAGS_IF;
	if (!compare_below(f, 4))
		s->rflags |= RFLAGS_DF;
	memset(s->x87, 0, sizeof(s->x87));
	s->x87[0] = 0x7f; /* control word: all masked, extended */
	s->x87[1] = 0x03;
	s->mxcsr = 0x1f80;
	for (unsigned int i = 0; i < 16; i++)
		for (unsigned int j = 0; j < 16; j++)
			s->xmm[i][j] = (uint8_t)compare_rnd(f);
}

bool compare_find_undefined(struct cpu_compare *f, struct compare_case *t)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

	t->undefined = 0;
	for (unsigned int at = 0; at < t->len; at += insn.length) {
		if (!ZYAN_SUCCESS(
			    ZydisDecoderDecodeFull(&f->decoder, &t->code[at],
						   t->len - at, &insn, ops)))
			return true; /* raises #UD on both sides */
		const ZydisAccessedFlags *a = insn.cpu_flags;

		if (insn.mnemonic == ZYDIS_MNEMONIC_TZCNT ||
		    insn.mnemonic == ZYDIS_MNEMONIC_LZCNT)
			return false;
		if (a && (a->tested & t->undefined))
			return false;
		if (a)
			t->undefined |= a->undefined;
		/* A count that is not 1 leaves OF undefined; results of wide double shifts too. */
		if (insn.meta.category == ZYDIS_CATEGORY_SHIFT ||
		    insn.meta.category == ZYDIS_CATEGORY_ROTATE)
			t->undefined |= RFLAGS_OF;
	}
	return true;
}

void compare_narrow(struct host_state *s)
{
	for (unsigned int i = 0; i < 16; i++)
		s->gpr[i] = i < 8 ? (uint32_t)s->gpr[i] : 0;
}

void compare_stir(struct cpu_compare *f)
{
	uint8_t *data = (uint8_t *)DATA_BASE;

	for (unsigned int i = 0; i < 8; i++) {
		const uint64_t at = compare_below(f, DATA_BYTES - 8);
		const uint64_t v = compare_value(f);

		memcpy(data + at, &v, 8);
		memcpy(f->guest_data + at, &v, 8);
	}
	/* A return address at the top of the stack, whatever is popped. */
	for (unsigned int i = 0; i < 32; i++) {
		const uint64_t v = compare_below(f, 16)
					   ? CODE_BASE + compare_below(f, 8192)
					   : compare_value(f);

		memcpy((uint8_t *)STACK_BASE + PAGE_SIZE + i * 8, &v, 8);
		memcpy(f->guest_stack + PAGE_SIZE + i * 8, &v, 8);
	}
}

static void place_code(struct cpu_compare *f, const struct compare_case *t,
		       bool clear)
{
	uint8_t bytes[MAX_CODE];

	if (clear)
		memset(bytes, 0xcc, t->len);
	else
		memcpy(bytes, t->code, t->len);
	memcpy((void *)t->state.rip, bytes, t->len);
	cpu_harness_write(f->h, t->state.rip, bytes, t->len);
}

static struct harness_end run_guest(struct cpu_compare *f, struct host_state *s)
{
	struct cpu *c = f->h->cpu;

	cpu_harness_set_mode(f->h, s->is_32 ? 32 : 64, 3);
	c->gpr[REG_SEG + SEG_GS] = GS_BASE_VALUE;
	memcpy(c->gpr, s->gpr, sizeof(s->gpr));
	cpu_set_rflags(c, s->rflags);
	memcpy(c->xmm, s->xmm, sizeof(s->xmm));
	memcpy(&c->x87, s->x87, sizeof(c->x87));
	c->x87.mxcsr = s->mxcsr;
	const struct harness_end e = cpu_harness_run(f->h, s->rip, 100000);

	memcpy(s->gpr, c->gpr, sizeof(s->gpr));
	s->gpr[REG_RSP] = e.rsp;
	s->rip = e.rip;
	s->rflags = e.rflags;
	memcpy(s->xmm, c->xmm, sizeof(s->xmm));
	memcpy(s->x87, &c->x87, sizeof(c->x87));
	s->mxcsr = c->x87.mxcsr;
	return e;
}

static void print_state(const char *who, const struct host_state *s,
			unsigned int vector, uint32_t code, uint64_t cr2)
{
	print_error("%s: vector %u code %x cr2 %lx rip %lx rflags %lx mxcsr %x\n",
		    who, vector, code, cr2, s->rip, s->rflags, s->mxcsr);
	for (unsigned int i = 0; i < 16; i++)
		print_error(" r%u=%lx%s", i, s->gpr[i], i % 4 == 3 ? "\n" : "");
}

static void print_case(struct cpu_compare *f, const struct compare_case *t)
{
	ZydisFormatter formatter;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	char text[128];

	print_error("%s at %lx\n", t->names, t->state.rip);
	for (unsigned int i = 0; i < t->len; i++)
		print_error("%02x ", t->code[i]);
	print_error("\n");
	ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	for (unsigned int at = 0; at < t->len; at += insn.length) {
		if (!ZYAN_SUCCESS(
			    ZydisDecoderDecodeFull(&f->decoder, &t->code[at],
						   t->len - at, &insn, ops)))
			break;
		ZydisFormatterFormatInstruction(&formatter, &insn, ops,
						insn.operand_count_visible,
						text, sizeof(text),
						t->state.rip + at, NULL);
		print_error("  %s\n", text);
	}
	print_state("before", &t->state, 0, 0, 0);
}

/* Linux pretends that pages above user space are present. */
static uint32_t code_of(const struct harness_end *guest)
{
	return guest->vector == VEC_PF && guest->cr2 >= USER_END
		       ? guest->code | PF_P
		       : guest->code;
}

static void print_code_at(uint64_t rip)
{
	const uint64_t end = CODE_BASE + CODE_PAGES * PAGE_SIZE;

	print_error("there:");
	for (uint64_t at = rip; at >= CODE_BASE && at < end && at < rip + 15;
	     at++)
		print_error(" %02x", *(const uint8_t *)at);
	print_error("\n");
}

static bool is_memory_fault(unsigned int vector)
{
	return vector == VEC_PF || vector == VEC_GP || vector == VEC_SS;
}

/*
 * Control, status and tag words and the registers. What the last instruction was is shown by AMD
 * processors after an unmasked exception only (test_cpu_fp compares it).
 */
static bool same_x87(const struct host_state *a, const struct host_state *b)
{
	if (memcmp(a->x87, b->x87, 5) != 0)
		return false;
	for (unsigned int i = 0; i < 8; i++)
		if (memcmp(a->x87 + 32 + (size_t)16 * i,
			   b->x87 + 32 + (size_t)16 * i, 10) != 0)
			return false;
	return true;
}

static bool same(const struct compare_case *t, const struct host_state *a,
		 const struct host_state *b, const struct host_end *host,
		 const struct harness_end *guest)
{
	if (guest->outcome != HARNESS_EXCEPTION || a->rip != b->rip)
		return false;
	/* Which part of several faults first is the processor's choice. */
	if (is_memory_fault(host->vector) && is_memory_fault(guest->vector) &&
	    (strstr(t->names, "cmps") || strstr(t->names, "fldenv") ||
	     strstr(t->names, "frstor") || strstr(t->names, "fbstp")))
		return !memcmp(a->gpr, b->gpr, sizeof(a->gpr));
	if (guest->vector != host->vector)
		return false;
	if (host->vector != 3 && code_of(guest) != host->code)
		return false;
	if (host->vector == VEC_PF && guest->cr2 != host->cr2)
		return false;
	if ((a->rflags ^ b->rflags) & FLAGS_COMPARED & ~t->undefined)
		return false;
	if (a->mxcsr != b->mxcsr || memcmp(a->xmm, b->xmm, sizeof(a->xmm)) ||
	    !same_x87(a, b))
		return false;
	return !memcmp(a->gpr, b->gpr, sizeof(a->gpr));
}

static bool same_memory(const struct cpu_compare *f)
{
	return !memcmp((void *)DATA_BASE, f->guest_data, DATA_BYTES) &&
	       !memcmp((void *)CODE_BASE, f->guest_code,
		       CODE_PAGES * PAGE_SIZE) &&
	       !memcmp((void *)STACK_BASE, f->guest_stack,
		       STACK_PAGES * PAGE_SIZE);
}

static void fill_code(struct cpu_compare *f)
{
	static uint8_t traps[CODE_PAGES * PAGE_SIZE];

	memset(traps, 0xcc, sizeof(traps));
	memcpy((void *)CODE_BASE, traps, sizeof(traps));
	cpu_harness_write(f->h, CODE_BASE, traps, sizeof(traps));
}

/* A case may have written over the code: then what lies there is anything, advertised or not. */
static void restore_code(struct cpu_compare *f)
{
	const uint8_t *code = (const uint8_t *)CODE_BASE;

	if (code[0] != 0xcc ||
	    memcmp(code, code + 1, CODE_PAGES * PAGE_SIZE - 1) != 0)
		fill_code(f);
}

/* Both sides as if the case had never been. */
static void reset_host(struct cpu_compare *f)
{
	fill_code(f);
	memcpy((void *)DATA_BASE, f->guest_data, DATA_BYTES);
	memcpy((void *)STACK_BASE, f->guest_stack, STACK_PAGES * PAGE_SIZE);
}

enum compare_result cpu_compare_run(struct cpu_compare *f,
				    const struct compare_case *t, bool show)
{
	struct host_state host = t->state;
	struct host_state guest = t->state;

	place_code(f, t, false);
	const struct harness_end guest_end = run_guest(f, &guest);

	if (guest_end.outcome == HARNESS_LIMIT) {
		reset_host(f);
		return COMPARE_ENDLESS;
	}
	const struct host_end host_end = host_exec(&host);

	if (t->state.is_32) {
		compare_narrow(&host);
		compare_narrow(&guest);
	}
	const bool ok = same(t, &host, &guest, &host_end, &guest_end) &&
			same_memory(f);

	if (!ok || show) {
		print_case(f, t);
		print_state("host", &host, host_end.vector, host_end.code,
			    host_end.cr2);
		print_state("guest", &guest, guest_end.vector, guest_end.code,
			    guest_end.cr2);
		print_code_at(host.rip);
		print_error("undefined flags %lx, outcome %d, memory %s\n",
			    t->undefined, guest_end.outcome,
			    same_memory(f) ? "agrees" : "differs");
	}
	f->last_vector = guest_end.vector;
	place_code(f, t, true);
	restore_code(f);
	if (!ok)
		reset_host(f);
	return ok ? COMPARE_SAME : COMPARE_DIFFERS;
}

static uint8_t *guest_ptr(struct cpu_compare *f, uint64_t addr)
{
	uint8_t *p;
	uint64_t len;

	assert_int_equal(guestmem_span(f->h->mem,
				       gpa(cpu_harness_gpa(f->h, addr)),
				       MEM_WRITE, &p, &len),
			 MEM_OK);
	return p;
}

static void map_both(struct cpu_compare *f, uint64_t addr, uint64_t n_pages,
		     int prot, uint64_t flags)
{
	host_exec_map(addr, n_pages, prot);
	cpu_harness_map(f->h, addr, n_pages, PTE_P | PTE_U | flags);
}

struct cpu_compare *cpu_compare_new(const struct compare_variant *variant,
				    uint64_t seed)
{
	struct cpu_compare *f = calloc(1, sizeof(*f));
	struct cpu_features features = {.tsc_khz = 1000000};
	struct mmu_options mmu = mmu_options_default();

	assert_non_null(f);
	f->variant = variant;
	features.n_cpus = f->variant->n_cpus;
	mmu.mode = f->variant->mmu;
	f->rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	f->h = cpu_harness_new(&features, &mmu);
	if (f->variant->single)
		f->h->cpu->dr[7] |= 1; /* a breakpoint at 0 */
	host_exec_start(GS_BASE_VALUE);
	map_both(f, CODE_BASE, CODE_PAGES, PROT_READ | PROT_WRITE | PROT_EXEC,
		 PTE_W);
	map_both(f, DATA_BASE, DATA_PAGES, PROT_READ | PROT_WRITE,
		 PTE_W | PTE_NX);
	map_both(f, STACK_BASE, STACK_PAGES, PROT_READ | PROT_WRITE,
		 PTE_W | PTE_NX);
	map_both(f, RO_BASE, 1, PROT_READ, PTE_NX);
	f->guest_data = guest_ptr(f, DATA_BASE);
	f->guest_stack = guest_ptr(f, STACK_BASE);
	f->guest_code = guest_ptr(f, CODE_BASE);
	if (f->variant->is_32)
		ZydisDecoderInit(&f->decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
				 ZYDIS_STACK_WIDTH_32);
	else
		ZydisDecoderInit(&f->decoder, ZYDIS_MACHINE_MODE_LONG_64,
				 ZYDIS_STACK_WIDTH_64);
	fill_code(f);
	return f;
}

struct cpu_compare *cpu_compare_free(struct cpu_compare *f)
{
	if (f) {
		host_exec_stop();
		cpu_harness_free(f->h);
		free(f);
	}
	return NULL;
}
