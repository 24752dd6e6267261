/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every form of every instruction: all opcodes with all prefixes and operands are decoded, and what
 * the processor shows to have is run on it and on the real one, in 64-bit and 32-bit mode.
 *
 * Three things must hold. What both run ends alike. What the real processor runs and ours has by
 * its CPUID is not #UD. And each instruction of the decoder's tables was compared here, or is in
 * the list of those that cannot be, with where they are tested. Arguments: seed, runs of each form.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cpu/emit.h>

#include "cpu_compare.h"

#define MAX_COMPLAINTS 20

/* A form under test: prefixes, opcode map, opcode and ModRM. */
struct form {
	uint8_t prefixes[2];
	unsigned int n_prefixes;
	bool map_0f;
	uint8_t opcode;
	uint8_t reg;
	uint8_t rm; /* of a register operand */
	bool mem;
};

static uint64_t seed = 1;
static unsigned int n_runs = 3;
static bool compared[ZYDIS_MNEMONIC_MAX_VALUE + 1];

/* Instructions whose result depends on the machine around the processor. */
static const struct {
	ZydisMnemonic mnemonic;
	const char *tested;
} elsewhere[] = {
#define IN_SYSTEM(m)                                  \
	{                                             \
		ZYDIS_MNEMONIC_##m, "test_cpu_system" \
	}
#define IN_FP(m)                                                             \
	{                                                                    \
		ZYDIS_MNEMONIC_##m, "test_cpu_fp, which leaves pointers out" \
	}
	/* They enter the host's kernel. */
	IN_SYSTEM(SYSCALL),
	IN_SYSTEM(SYSENTER),
	IN_SYSTEM(INT),
	IN_SYSTEM(INT1),
	IN_SYSTEM(SYSEXIT),
	/* They depend on descriptor tables. */
	IN_SYSTEM(IRET),
	IN_SYSTEM(IRETD),
	IN_SYSTEM(IRETQ),
	IN_SYSTEM(LAR),
	IN_SYSTEM(LSL),
	IN_SYSTEM(VERR),
	IN_SYSTEM(VERW),
	IN_SYSTEM(LDS),
	IN_SYSTEM(LES),
	IN_SYSTEM(LFS),
	IN_SYSTEM(LGS),
	IN_SYSTEM(LSS),
	IN_SYSTEM(SLDT),
	IN_SYSTEM(STR),
	IN_SYSTEM(SGDT),
	IN_SYSTEM(SIDT),
	IN_SYSTEM(SMSW),
	/* Their results are this machine's. */
	IN_SYSTEM(CPUID),
	IN_SYSTEM(RDTSC),
	IN_SYSTEM(RDTSCP),
	IN_SYSTEM(RDRAND),
	/* They show where the last x87 instruction was. */
	IN_FP(FNSTENV),
	IN_FP(FNSAVE),
	IN_FP(FXSAVE),
	IN_FP(FXSAVE64),
	IN_FP(FXRSTOR),
	IN_FP(FXRSTOR64),
	/* Whether they fault without a byte to store is the processor's choice. */
	IN_FP(MASKMOVQ),
	IN_FP(MASKMOVDQU),
	/* The real one may know a bit of MXCSR that ours does not show. */
	IN_FP(LDMXCSR),
	/* Not shown by default. */
	IN_SYSTEM(INVPCID),
	IN_SYSTEM(RDFSBASE),
	IN_SYSTEM(WRFSBASE),
	IN_SYSTEM(RDGSBASE),
	IN_SYSTEM(WRGSBASE),
	IN_SYSTEM(RDPKRU),
	IN_SYSTEM(WRPKRU),
	/* Hints or older instructions to ours, but the real one may have them. */
	IN_SYSTEM(TZCNT),
	IN_SYSTEM(LZCNT),
	IN_SYSTEM(RDSSPD),
	IN_SYSTEM(RDSSPQ),
	IN_SYSTEM(CLDEMOTE),
	IN_SYSTEM(PREFETCHWT1),
	IN_SYSTEM(ENDBR32),
	IN_SYSTEM(ENDBR64),
	/* Its meaning at CPL 3 is #UD. */
	IN_SYSTEM(STAC),
	IN_SYSTEM(CLAC),
};

static const char *tested_elsewhere(ZydisMnemonic m)
{
	for (size_t i = 0; i < ARRAY_SIZE(elsewhere); i++)
		if (elsewhere[i].mnemonic == m)
			return elsewhere[i].tested;
	return NULL;
}

/* The instruction sets that CPUID shows by default. */
static bool is_shown(const ZydisDecodedInstruction *insn)
{
	static const ZydisISAExt shown[] = {
		ZYDIS_ISA_EXT_BASE,
		ZYDIS_ISA_EXT_LONGMODE,
		ZYDIS_ISA_EXT_X87,
		ZYDIS_ISA_EXT_MMX,
		ZYDIS_ISA_EXT_SSE,
		ZYDIS_ISA_EXT_SSE2,
		ZYDIS_ISA_EXT_PAUSE,
		ZYDIS_ISA_EXT_CLFSH,
		ZYDIS_ISA_EXT_AMD3DNOW_PREFETCH,
	};

	if (insn->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(shown); i++)
		if (insn->meta.isa_ext == shown[i])
			return true;
	return false;
}

static bool has_prefix(const ZydisDecodedInstruction *insn, uint8_t byte)
{
	for (unsigned int i = 0; i < insn->raw.prefix_count; i++)
		if (insn->raw.prefixes[i].value == byte)
			return true;
	return false;
}

/*
 * AMD's processors do as the operand size says, Intel's take near branches in 64-bit mode for 64
 * bits wide; a REP prefix changes the condition of some LOOPs; and what is a hint for one is
 * undefined for the other.
 */
static bool depends_on_vendor(const ZydisDecodedInstruction *insn,
			      const ZydisDecodedOperand *ops, bool is_32)
{
	if (insn->mnemonic == ZYDIS_MNEMONIC_LOOPE ||
	    insn->mnemonic == ZYDIS_MNEMONIC_LOOPNE)
		if (has_prefix(insn, 0xf2) || has_prefix(insn, 0xf3))
			return true;
	if (insn->meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT ||
	    insn->meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR)
		return !is_32 && has_prefix(insn, 0x66);
	return insn->mnemonic == ZYDIS_MNEMONIC_NOP && insn->opcode == 0x0d &&
	       ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER;
}

/* Far branches and selectors depend on the host's descriptor tables. */
static bool depends_on_segments(const ZydisDecodedInstruction *insn,
				const ZydisDecodedOperand *ops)
{
	if (insn->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return true;
	for (unsigned int i = 0; i < insn->operand_count_visible; i++)
		if (ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(ops[i].reg.value) ==
			    ZYDIS_REGCLASS_SEGMENT)
			return true;
	return false;
}

static void put8(struct compare_case *t, unsigned int byte)
{
	t->code[t->len++] = (uint8_t)byte;
}

/* Memory operands are at RDI or EDI, with and without displacement. */
static void put_form(struct cpu_compare *f, struct compare_case *t,
		     const struct form *m)
{
	const uint64_t tail = compare_rnd(f);
	const bool disp = compare_below(f, 2);

	t->len = 0;
	for (unsigned int i = 0; i < m->n_prefixes; i++)
		put8(t, m->prefixes[i]);
	if (m->map_0f)
		put8(t, 0x0f);
	put8(t, m->opcode);
	if (m->mem) {
		put8(t, (disp ? 0x40 : 0) | m->reg << 3 | 7);
		if (disp)
			put8(t, tail >> 56);
	} else {
		put8(t, 0xc0 | m->reg << 3 | m->rm);
	}
	memcpy(&t->code[t->len], &tail, sizeof(tail));
	t->len += sizeof(tail);
	memcpy(&t->code[t->len], &tail, 2);
	t->len += 2;
}

static void set_operands(struct cpu_compare *f, struct compare_case *t,
			 const ZydisDecodedInstruction *insn,
			 const ZydisDecodedOperand *ops)
{
	struct host_state *s = &t->state;
	uint64_t disp = 0;

	for (unsigned int i = 0; i < insn->operand_count_visible; i++)
		if (ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    ops[i].mem.base != ZYDIS_REGISTER_NONE)
			disp = (uint64_t)ops[i].mem.disp.value;
	s->gpr[REG_RDI] = compare_address(f, true) - disp;
	s->gpr[REG_RSI] = compare_address(f, false);
	s->gpr[REG_RBX] = compare_address(f, false);
	s->gpr[REG_RBP] = compare_address(f, false);
	if (insn->attributes & ZYDIS_ATTRIB_HAS_MODRM)
		s->gpr[REG_RCX] = compare_value(f);
	else
		s->gpr[REG_RCX] = compare_below(f, 40); /* strings, loops */
	for (unsigned int i = 0; i < 8; i++)
		for (unsigned int j = 0; j < 10; j++)
			s->x87[32 + 16 * i + j] = (uint8_t)compare_rnd(f);
	s->x87[4] = (uint8_t)compare_rnd(f);
}

/* Bits that make the address move stay near, as there is little memory. */
static void keep_near(struct compare_case *t,
		      const ZydisDecodedInstruction *insn,
		      const ZydisDecodedOperand *ops)
{
	const bool bit_op = insn->mnemonic == ZYDIS_MNEMONIC_BT ||
			    insn->mnemonic == ZYDIS_MNEMONIC_BTS ||
			    insn->mnemonic == ZYDIS_MNEMONIC_BTR ||
			    insn->mnemonic == ZYDIS_MNEMONIC_BTC;

	if (!bit_op || ops[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return;
	const int n = ZydisRegisterGetId(ops[1].reg.value);

	if (n >= 0 && n < 16 && n != REG_RDI)
		t->state.gpr[n] &= 255;
}

struct tally {
	unsigned int n_forms;
	unsigned int n_cases;
	unsigned int n_bad;
};

static void complain(struct tally *tally, const struct form *m,
		     const char *what, ZydisMnemonic mnemonic)
{
	if (++tally->n_bad > MAX_COMPLAINTS)
		return;
	print_error("%s %s: prefixes %02x %02x, %s%02x /%u %s\n",
		    ZydisMnemonicGetString(mnemonic), what,
		    m->n_prefixes > 0 ? m->prefixes[0] : 0,
		    m->n_prefixes > 1 ? m->prefixes[1] : 0,
		    m->map_0f ? "0f " : "", m->opcode, m->reg,
		    m->mem ? "memory" : "register");
}

static void run_form(struct cpu_compare *f, const struct form *m,
		     unsigned int n, struct tally *tally, bool *ret_modrm)
{
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn;
	struct compare_case t;
	bool counted = false;

	*ret_modrm = true;
	for (unsigned int i = 0; i < n; i++) {
		compare_state(f, &t);
		put_form(f, &t, m);
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&f->decoder, t.code,
							 t.len, &insn, ops)))
			return;
		*ret_modrm = insn.attributes & ZYDIS_ATTRIB_HAS_MODRM;
		if (!is_shown(&insn) || tested_elsewhere(insn.mnemonic) ||
		    depends_on_segments(&insn, ops) ||
		    depends_on_vendor(&insn, ops, f->variant->is_32))
			return;
		t.len = insn.length;
		strcpy(t.names, ZydisMnemonicGetString(insn.mnemonic));
		set_operands(f, &t, &insn, ops);
		keep_near(&t, &insn, ops);
		t.state.is_32 = f->variant->is_32;
		if (t.state.is_32)
			compare_narrow(&t.state);
		if (!compare_find_undefined(f, &t))
			continue;
		compare_stir(f);
		if (cpu_compare_run(f, &t, false) == COMPARE_DIFFERS)
			complain(tally, m, "differs", insn.mnemonic);
		compared[insn.mnemonic] = true;
		tally->n_cases++;
		tally->n_forms += !counted;
		counted = true;
	}
}

static bool is_prefix(uint8_t byte, bool is_32)
{
	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64:
	case 0x65:
	case 0x66:
	case 0x67:
	case 0xf0:
	case 0xf2:
	case 0xf3:
	case 0x0f:
		return true;
	default:
		return !is_32 && byte >= 0x40 && byte < 0x50;
	}
}

static void run_opcode(struct cpu_compare *f, struct form *m,
		       struct tally *tally)
{
	bool modrm = true;

	/* Every register operand, as it may be a part of the opcode. */
	for (unsigned int i = 0; i < 64 && modrm; i++) {
		m->reg = i & 7;
		m->rm = i >> 3;
		run_form(f, m, (n_runs + 2) / 3, tally, &modrm);
	}
	m->mem = true;
	for (unsigned int i = 0; i < 8; i++) {
		m->reg = i;
		run_form(f, m, n_runs, tally, &modrm);
		if (!modrm)
			break;
	}
}

static void test_forms(void **state)
{
	static const struct {
		uint8_t bytes[2];
		unsigned int n;
		bool only_64;
	} prefixes[] = {
		{{0}, 0, false},          {{0x66}, 1, false},
		{{0xf2}, 1, false},       {{0xf3}, 1, false},
		{{0x67}, 1, false},       {{0xf0}, 1, false},
		{{0x65}, 1, true},        {{0x48}, 1, true},
		{{0x45}, 1, true},        {{0x66, 0x4d}, 2, true},
		{{0xf2, 0x48}, 2, true},  {{0xf3, 0x48}, 2, true},
		{{0x66, 0xf0}, 2, false}, {{0x66, 0xf3}, 2, false},
	};
	struct cpu_compare *f = *state;
	struct tally tally = {0};

	for (size_t p = 0; p < ARRAY_SIZE(prefixes); p++) {
		if (prefixes[p].only_64 && f->variant->is_32)
			continue;
		for (unsigned int op = 0; op < 512; op++) {
			struct form m = {
				.n_prefixes = prefixes[p].n,
				.map_0f = op >= 256,
				.opcode = (uint8_t)op,
			};

			memcpy(m.prefixes, prefixes[p].bytes, 2);
			if (m.map_0f || !is_prefix(m.opcode, f->variant->is_32))
				run_opcode(f, &m, &tally);
		}
	}
	print_message("%u forms with operands, %u runs, %u bad\n",
		      tally.n_forms, tally.n_cases, tally.n_bad);
	assert_true(tally.n_forms > 1000);
	assert_int_equal(tally.n_bad, 0);
}

static void check_table(const char *name, const struct insn_table *table)
{
	unsigned int n_missing = 0;

	for (size_t i = 0; i < table->n; i++) {
		const ZydisMnemonic m = table->rows[i].mnemonic;

		if (compared[m] || tested_elsewhere(m))
			continue;
		print_error("%s: %s was never compared\n", name,
			    ZydisMnemonicGetString(m));
		n_missing++;
	}
	assert_int_equal(n_missing, 0);
}

/* After the others, which fill in what was compared. */
static void test_complete(void **state)
{
	(void)state;
	check_table("int_table", &int_table);
	check_table("branch_table", &branch_table);
	check_table("string_table", &string_table);
	check_table("x87_table", &x87_table);
	check_table("sse_table", &sse_table);
	check_table("sys_table", &sys_table);
}

static int setup(void **state)
{
	*state = cpu_compare_new(*state, seed);
	return 0;
}

static int teardown(void **state)
{
	cpu_compare_free(*state);
	return 0;
}

static struct compare_variant wide = {.n_cpus = 1};
static struct compare_variant compat = {.n_cpus = 1, .is_32 = true};

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		{"64-bit", test_forms, setup, teardown, &wide},
		{"32-bit", test_forms, setup, teardown, &compat},
		cmocka_unit_test(test_complete),
	};

	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		n_runs = (unsigned int)strtoul(argv[2], NULL, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
