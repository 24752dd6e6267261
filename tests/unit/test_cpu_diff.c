/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Differential test: the same instructions with the same state on the software processor and on the
 * real one.
 *
 * Each case is a few instructions of random forms with random registers, flags and memory, at the
 * same addresses on both sides. General registers, flags but the undefined ones, memory, the fault
 * and its address must agree. Arguments: seed and number of cases.
 */
#include <Zydis/Zydis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

#include "cpu_harness.h"
#include "host_exec.h"

#define CODE_BASE  UINT64_C(0x10000000)
#define CODE_PAGES 2
#define DATA_BASE \
	UINT64_C(0x20000000) /* nothing is mapped on either side of it */
#define DATA_PAGES     4
#define DATA_BYTES     (DATA_PAGES * PAGE_SIZE)
#define RO_BASE        UINT64_C(0x21000000) /* read-only */
#define STACK_BASE     UINT64_C(0x30000000)
#define STACK_PAGES    2
#define USER_END       UINT64_C(0x7ffffffff000)
#define GS_BASE_VALUE  UINT64_C(0x12345000)
#define MAX_CODE       64
#define FLAGS_COMPARED (RFLAGS_ARITH | RFLAGS_DF)

enum form_flags {
	F_MODRM = 1 << 0,
	F_BYTE = 1 << 1, /* byte operands */
	F_IMM8 = 1 << 2,
	F_IMMZ = 1 << 3, /* 16 or 32 bits by operand size */
	F_IMMV = 1 << 4, /* up to 64 bits */
	F_IMM16 = 1 << 5,
	F_MEM = 1 << 6,  /* memory operands only */
	F_REG = 1 << 7,  /* register operands only */
	F_PLUS = 1 << 8, /* register in the opcode */
	F_LOCK = 1 << 9, /* may be locked */
	F_STRING = 1 << 10,
	F_REP = 1 << 11, /* REPE and REPNE mean something */
	F_REL8 = 1 << 12,
	F_REL32 = 1 << 13,
	F_NO_66 = 1 << 14,
	F_NO_W = 1 << 15,
	F_BIT = 1 << 16, /* register is a bit offset that moves the address */
	F_TARGET = 1 << 17,  /* operand is where to jump */
	F_MOFFS = 1 << 18,   /* 64-bit address follows */
	F_ALIGN16 = 1 << 19, /* operand is mostly aligned */
	F_STACK = 1 << 20,   /* pops a return address */
	F_ONLY64 = 1 << 21,
	F_ONLY32 = 1 << 22,
};

struct form {
	const char *name;
	uint8_t opcode[3];
	uint8_t n_opcode;
	int8_t digit; /* of ModRM, or -1 for a register */
	uint32_t flags;
};

#define ALU(name, base, digit, lock)                                          \
	{name, {(base)}, 1, -1, F_MODRM | F_BYTE | (lock)},                   \
		{name, {(base) + 1}, 1, -1, F_MODRM | (lock)},                \
		{name, {(base) + 2}, 1, -1, F_MODRM | F_BYTE},                \
		{name, {(base) + 3}, 1, -1, F_MODRM},                         \
		{name, {(base) + 4}, 1, -1, F_BYTE | F_IMM8},                 \
		{name, {(base) + 5}, 1, -1, F_IMMZ},                          \
		{name, {0x80}, 1, digit, F_MODRM | F_BYTE | F_IMM8 | (lock)}, \
		{name, {0x81}, 1, digit, F_MODRM | F_IMMZ | (lock)},          \
	{                                                                     \
		name, {0x83}, 1, digit, F_MODRM | F_IMM8 | (lock)             \
	}

#define SHIFT(name, digit)                                   \
	{name, {0xc0}, 1, digit, F_MODRM | F_BYTE | F_IMM8}, \
		{name, {0xc1}, 1, digit, F_MODRM | F_IMM8},  \
		{name, {0xd0}, 1, digit, F_MODRM | F_BYTE},  \
		{name, {0xd1}, 1, digit, F_MODRM},           \
		{name, {0xd2}, 1, digit, F_MODRM | F_BYTE},  \
	{                                                    \
		name, {0xd3}, 1, digit, F_MODRM              \
	}

#define UNARY(name, byte, digit, flags)                         \
	{name, {byte}, 1, digit, F_MODRM | F_BYTE | (flags)},   \
	{                                                       \
		name, {(byte) + 1}, 1, digit, F_MODRM | (flags) \
	}

#define CC(name, n)                                                        \
	{"j" name, {0x70 + (n)}, 1, -1, F_REL8 | F_NO_66},                 \
		{"j" name, {0x0f, 0x80 + (n)}, 2, -1, F_REL32 | F_NO_66},  \
		{"set" name, {0x0f, 0x90 + (n)}, 2, -1, F_MODRM | F_BYTE}, \
	{                                                                  \
		"cmov" name, {0x0f, 0x40 + (n)}, 2, -1, F_MODRM            \
	}

#define BIT(name, op, digit, lock)                                      \
	{name, {0x0f, op}, 2, -1, F_MODRM | F_BIT | (lock)},            \
	{                                                               \
		name, {0x0f, 0xba}, 2, digit, F_MODRM | F_IMM8 | (lock) \
	}

#define STRING(name, op, rep)                             \
	{name, {op}, 1, -1, F_STRING | F_BYTE | (rep)},   \
	{                                                 \
		name, {(op) + 1}, 1, -1, F_STRING | (rep) \
	}

static const struct form int_forms[] = {
	ALU("add", 0x00, 0, F_LOCK),
	ALU("or", 0x08, 1, F_LOCK),
	ALU("adc", 0x10, 2, F_LOCK),
	ALU("sbb", 0x18, 3, F_LOCK),
	ALU("and", 0x20, 4, F_LOCK),
	ALU("sub", 0x28, 5, F_LOCK),
	ALU("xor", 0x30, 6, F_LOCK),
	ALU("cmp", 0x38, 7, 0),
	{"test", {0x84}, 1, -1, F_MODRM | F_BYTE},
	{"test", {0x85}, 1, -1, F_MODRM},
	{"test", {0xa8}, 1, -1, F_BYTE | F_IMM8},
	{"test", {0xa9}, 1, -1, F_IMMZ},
	{"test", {0xf6}, 1, 0, F_MODRM | F_BYTE | F_IMM8},
	{"test", {0xf7}, 1, 0, F_MODRM | F_IMMZ},
	UNARY("not", 0xf6, 2, F_LOCK),
	UNARY("neg", 0xf6, 3, F_LOCK),
	UNARY("mul", 0xf6, 4, 0),
	UNARY("imul", 0xf6, 5, 0),
	UNARY("div", 0xf6, 6, 0),
	UNARY("idiv", 0xf6, 7, 0),
	UNARY("inc", 0xfe, 0, F_LOCK),
	UNARY("dec", 0xfe, 1, F_LOCK),
	{"imul", {0x69}, 1, -1, F_MODRM | F_IMMZ},
	{"imul", {0x6b}, 1, -1, F_MODRM | F_IMM8},
	{"imul", {0x0f, 0xaf}, 2, -1, F_MODRM},
	SHIFT("rol", 0),
	SHIFT("ror", 1),
	SHIFT("rcl", 2),
	SHIFT("rcr", 3),
	SHIFT("shl", 4),
	SHIFT("shr", 5),
	SHIFT("shl", 6),
	SHIFT("sar", 7),
	{"shld", {0x0f, 0xa4}, 2, -1, F_MODRM | F_IMM8},
	{"shld", {0x0f, 0xa5}, 2, -1, F_MODRM},
	{"shrd", {0x0f, 0xac}, 2, -1, F_MODRM | F_IMM8},
	{"shrd", {0x0f, 0xad}, 2, -1, F_MODRM},
	BIT("bt", 0xa3, 4, 0),
	BIT("bts", 0xab, 5, F_LOCK),
	BIT("btr", 0xb3, 6, F_LOCK),
	BIT("btc", 0xbb, 7, F_LOCK),
	{"bsf", {0x0f, 0xbc}, 2, -1, F_MODRM},
	{"bsr", {0x0f, 0xbd}, 2, -1, F_MODRM},
	{"bswap", {0x0f, 0xc8}, 2, -1, F_PLUS},
	{"mov", {0x88}, 1, -1, F_MODRM | F_BYTE},
	{"mov", {0x89}, 1, -1, F_MODRM},
	{"mov", {0x8a}, 1, -1, F_MODRM | F_BYTE},
	{"mov", {0x8b}, 1, -1, F_MODRM},
	{"mov", {0xb0}, 1, -1, F_PLUS | F_BYTE | F_IMM8},
	{"mov", {0xb8}, 1, -1, F_PLUS | F_IMMV},
	{"mov", {0xc6}, 1, 0, F_MODRM | F_BYTE | F_IMM8},
	{"mov", {0xc7}, 1, 0, F_MODRM | F_IMMZ},
	{"mov", {0xa0}, 1, -1, F_MOFFS | F_BYTE},
	{"mov", {0xa1}, 1, -1, F_MOFFS},
	{"mov", {0xa2}, 1, -1, F_MOFFS | F_BYTE},
	{"mov", {0xa3}, 1, -1, F_MOFFS},
	{"movnti", {0x0f, 0xc3}, 2, -1, F_MODRM | F_MEM | F_NO_66},
	{"movzx", {0x0f, 0xb6}, 2, -1, F_MODRM | F_BYTE},
	{"movzx", {0x0f, 0xb7}, 2, -1, F_MODRM},
	{"movsx", {0x0f, 0xbe}, 2, -1, F_MODRM | F_BYTE},
	{"movsx", {0x0f, 0xbf}, 2, -1, F_MODRM},
	{"movsxd", {0x63}, 1, -1, F_MODRM | F_ONLY64},
	{"lea", {0x8d}, 1, -1, F_MODRM | F_MEM},
	{"xchg", {0x86}, 1, -1, F_MODRM | F_BYTE | F_LOCK},
	{"xchg", {0x87}, 1, -1, F_MODRM | F_LOCK},
	{"xchg", {0x90}, 1, -1, F_PLUS},
	{"xadd", {0x0f, 0xc0}, 2, -1, F_MODRM | F_BYTE | F_LOCK},
	{"xadd", {0x0f, 0xc1}, 2, -1, F_MODRM | F_LOCK},
	{"cmpxchg", {0x0f, 0xb0}, 2, -1, F_MODRM | F_BYTE | F_LOCK},
	{"cmpxchg", {0x0f, 0xb1}, 2, -1, F_MODRM | F_LOCK},
	{"cmpxchg8b", {0x0f, 0xc7}, 2, 1, F_MODRM | F_MEM | F_LOCK | F_ALIGN16},
	{"xlat", {0xd7}, 1, -1, F_STRING | F_BYTE},
	{"cbw", {0x98}, 1, -1, 0},
	{"cwd", {0x99}, 1, -1, 0},
	{"lahf", {0x9f}, 1, -1, 0},
	{"sahf", {0x9e}, 1, -1, 0},
	{"clc", {0xf8}, 1, -1, 0},
	{"stc", {0xf9}, 1, -1, 0},
	{"cmc", {0xf5}, 1, -1, 0},
	{"cld", {0xfc}, 1, -1, 0},
	{"std", {0xfd}, 1, -1, 0},
	{"nop", {0x0f, 0x1f}, 2, 0, F_MODRM},
	{"prefetch", {0x0f, 0x18}, 2, 1, F_MODRM | F_MEM},
	{"clflush", {0x0f, 0xae}, 2, 7, F_MODRM | F_MEM | F_NO_66},
	{"push", {0x50}, 1, -1, F_PLUS},
	{"pop", {0x58}, 1, -1, F_PLUS},
	{"push", {0x68}, 1, -1, F_IMMZ},
	{"push", {0x6a}, 1, -1, F_IMM8},
	{"push", {0xff}, 1, 6, F_MODRM},
	{"pop", {0x8f}, 1, 0, F_MODRM},
	{"leave", {0xc9}, 1, -1, F_STACK},
	{"enter", {0xc8}, 1, -1, F_IMM16 | F_IMM8 | F_STACK},
	{"ud2", {0x0f, 0x0b}, 2, -1, 0},
	CC("o", 0),
	CC("no", 1),
	CC("b", 2),
	CC("ae", 3),
	CC("e", 4),
	CC("ne", 5),
	CC("be", 6),
	CC("a", 7),
	CC("s", 8),
	CC("ns", 9),
	CC("p", 10),
	CC("np", 11),
	CC("l", 12),
	CC("ge", 13),
	CC("le", 14),
	CC("g", 15),
	{"loopne", {0xe0}, 1, -1, F_REL8 | F_NO_66},
	{"loope", {0xe1}, 1, -1, F_REL8 | F_NO_66},
	{"loop", {0xe2}, 1, -1, F_REL8 | F_NO_66},
	{"jrcxz", {0xe3}, 1, -1, F_REL8 | F_NO_66},
	{"jmp", {0xeb}, 1, -1, F_REL8 | F_NO_66},
	{"jmp", {0xe9}, 1, -1, F_REL32 | F_NO_66},
	{"call", {0xe8}, 1, -1, F_REL32 | F_NO_66},
	{"jmp", {0xff}, 1, 4, F_MODRM | F_NO_66 | F_TARGET},
	{"call", {0xff}, 1, 2, F_MODRM | F_NO_66 | F_TARGET},
	{"ret", {0xc3}, 1, -1, F_NO_66 | F_STACK},
	{"ret", {0xc2}, 1, -1, F_NO_66 | F_STACK | F_IMM16},
	{"inc", {0x40}, 1, -1, F_PLUS | F_ONLY32},
	{"dec", {0x48}, 1, -1, F_PLUS | F_ONLY32},
	{"daa", {0x27}, 1, -1, F_ONLY32},
	{"das", {0x2f}, 1, -1, F_ONLY32},
	{"aaa", {0x37}, 1, -1, F_ONLY32},
	{"aas", {0x3f}, 1, -1, F_ONLY32},
	{"aam", {0xd4}, 1, -1, F_IMM8 | F_ONLY32},
	{"aad", {0xd5}, 1, -1, F_IMM8 | F_ONLY32},
	{"pusha", {0x60}, 1, -1, F_ONLY32},
	{"popa", {0x61}, 1, -1, F_ONLY32},
	{"bound", {0x62}, 1, -1, F_MODRM | F_MEM | F_ONLY32},
	{"into", {0xce}, 1, -1, F_ONLY32},
	STRING("movs", 0xa4, 0),
	STRING("stos", 0xaa, 0),
	STRING("lods", 0xac, 0),
	STRING("cmps", 0xa6, F_REP),
	STRING("scas", 0xae, F_REP),
};

/* What the generator decides for one case. */
struct test_case {
	uint8_t code[MAX_CODE];
	unsigned int len;
	struct host_state state;
	uint64_t undefined; /* flags that need not agree */
	char names[64];
};

/* Ways of running that must make no difference to the guest. */
struct variant {
	unsigned int n_cpus; /* more than one: locked host instructions */
	bool single; /* one instruction per block, as with breakpoints set */
	enum mmu_mode mmu;
	bool is_32;
	unsigned int share; /* of the number of cases */
};

struct fixture {
	const struct variant *variant;
	struct cpu_harness *h;
	uint8_t *guest_data; /* host pointers to the guest's memory */
	uint8_t *guest_stack;
	uint8_t *guest_code;
	ZydisDecoder decoder;
	uint64_t rng;
	uint64_t n_endless;
};

static uint64_t seed = 1;
static uint64_t n_cases = 60000;
static uint64_t only = UINT64_MAX; /* trace this case */

static uint64_t rnd(struct fixture *f)
{
	/* xorshift64* */
	f->rng ^= f->rng >> 12;
	f->rng ^= f->rng << 25;
	f->rng ^= f->rng >> 27;
	return f->rng * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t below(struct fixture *f, uint64_t n)
{
	return (rnd(f) >> 16) % n;
}

/* Values where carries, signs and zeros happen. */
static uint64_t value(struct fixture *f)
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

	switch (below(f, 4)) {
	case 0:
		return edges[below(f, ARRAY_SIZE(edges))];
	case 1:
		return below(f, 256) - 128;
	default:
		return rnd(f);
	}
}

/* Where a memory operand is to be: mostly in the data, sometimes where it faults. */
static uint64_t data_address(struct fixture *f, bool aligned)
{
	const uint64_t r = below(f, 64);
	uint64_t at = DATA_BASE + below(f, DATA_BYTES - 64);

	if (r < 8) /* near a page boundary */
		at = DATA_BASE + (1 + below(f, DATA_PAGES)) * PAGE_SIZE - 8 +
		     below(f, 12);
	else if (r < 10)
		at = DATA_BASE - below(f, 16);
	else if (r == 10)
		at = RO_BASE + below(f, 64);
	else if (r == 11)
		at = UINT64_C(0x800000000000) << below(f, 17);
	else if (r == 12)
		at = UINT64_C(0x7ffffffffff8) + below(f, 8);
	if (aligned && below(f, 8))
		at &= ~UINT64_C(15);
	return at;
}

static void put(struct test_case *t, const void *bytes, size_t n)
{
	memcpy(&t->code[t->len], bytes, n);
	t->len += (unsigned int)n;
}

static void put8(struct test_case *t, unsigned int byte)
{
	t->code[t->len++] = (uint8_t)byte;
}

struct encoding {
	bool p66, p67, lock, gs;
	unsigned int rep; /* 0xf2, 0xf3 or 0 */
	bool has_rex;
	uint8_t rex;
	unsigned int n_tail; /* immediate bytes after the address, for RIP-relative ones */
};

static unsigned int imm_bytes(const struct form *m, const struct encoding *x)
{
	const bool w = x->rex & 8;
	unsigned int n = 0;

	if (m->flags & F_IMM16)
		n += 2;
	if (m->flags & F_IMM8)
		n += 1;
	if (m->flags & F_IMMZ)
		n += x->p66 && !w ? 2 : 4;
	if (m->flags & F_IMMV)
		n += w ? 8 : x->p66 ? 2 : 4;
	return n;
}

static void put_modrm_reg(struct fixture *f, struct test_case *t,
			  const struct form *m, const struct encoding *x)
{
	const unsigned int reg = m->digit >= 0 ? (unsigned int)m->digit
					       : below(f, 8);
	const unsigned int rm = (unsigned int)below(f, 8);
	const unsigned int n = rm | (x->rex & 1) << 3;

	put8(t, 0xc0 | reg << 3 | rm);
	if (m->flags & F_TARGET)
		t->state.gpr[n] = below(f, 8) ? CODE_BASE + below(f, 8192)
					      : value(f);
}

/* Bits that F_BIT adds to the address: kept small, so that it stays in the data. */
static uint64_t bit_delta(struct fixture *f, struct test_case *t,
			  const struct encoding *x, unsigned int reg)
{
	const unsigned int n = reg | (x->rex & 4) << 1;
	const int64_t bits = (int64_t)below(f, 4096) - 2048;
	const unsigned int size = x->rex & 8 ? 8 : x->p66 ? 2 : 4;
	const int64_t width = size * 8;
	int64_t units = bits / width;

	if (bits % width < 0)
		units--;
	t->state.gpr[n] = (uint64_t)bits;
	if (size == 4 && below(f, 2)) /* the upper half must not matter */
		t->state.gpr[n] ^= rnd(f) << 32;
	return (uint64_t)(units * (int64_t)size);
}

static void put_disp(struct test_case *t, unsigned int mod, uint64_t disp)
{
	if (mod == 1)
		put(t, &disp, 1);
	else if (mod == 2)
		put(t, &disp, 4);
}

static uint64_t disp_of(struct fixture *f, unsigned int mod)
{
	if (mod == 1)
		return (uint64_t)(int64_t)(int8_t)below(f, 256);
	if (mod == 2)
		return (uint64_t)(int64_t)(int32_t)rnd(f);
	return 0;
}

/* 16-bit addresses: nothing is mapped there, but the fault and LEA tell what was computed. */
static void put_modrm_mem16(struct fixture *f, struct test_case *t,
			    unsigned int reg)
{
	const unsigned int mod = (unsigned int)below(f, 3);
	const unsigned int rm = (unsigned int)below(f, 8);
	const uint64_t disp = rnd(f);

	put8(t, mod << 6 | reg << 3 | rm);
	if (mod == 1)
		put(t, &disp, 1);
	else if (mod == 2 || rm == 6)
		put(t, &disp, 2);
}

/* Base register, displacement, and maybe a scaled index, so that they add up to @at. */
static void put_modrm_mem(struct fixture *f, struct test_case *t,
			  const struct form *m, const struct encoding *x)
{
	const unsigned int reg = m->digit >= 0 ? (unsigned int)m->digit
					       : below(f, 8);
	uint64_t at = data_address(f, m->flags & F_ALIGN16);
	unsigned int mod = (unsigned int)below(f, 3);
	unsigned int rm = (unsigned int)below(f, 8);
	uint64_t disp;

	if ((m->flags & F_BIT) && m->digit < 0)
		at -= bit_delta(f, t, x, reg);
	if (x->gs)
		at -= GS_BASE_VALUE;
	if (x->p67 && f->variant->is_32) {
		put_modrm_mem16(f, t, reg);
		return;
	}
	if (mod == 0 && rm == 5) { /* relative to RIP, or to nothing */
		const uint64_t next = f->variant->is_32 ? 0
							: t->state.rip + t->len +
								  5 + x->n_tail;

		put8(t, reg << 3 | 5);
		disp = at - next;
		put(t, &disp, 4);
		return;
	}
	disp = disp_of(f, mod);
	if (rm != 4) {
		const unsigned int n = rm | (x->rex & 1) << 3;

		put8(t, mod << 6 | reg << 3 | rm);
		put_disp(t, mod, disp);
		t->state.gpr[n] = at - disp;
		if (x->p67)
			t->state.gpr[n] ^= rnd(f) << 32;
		return;
	}
	const unsigned int scale = (unsigned int)below(f, 4);
	const unsigned int index = (unsigned int)below(f, 8);
	const unsigned int base = (unsigned int)below(f, 8);
	const unsigned int n_index = index | (x->rex & 2) << 2;
	const unsigned int n_base = base | (x->rex & 1) << 3;

	put8(t, mod << 6 | reg << 3 | 4);
	put8(t, scale << 6 | index << 3 | base);
	if (mod == 0 && base == 5) { /* no base: the displacement alone must do */
		disp = at & 0x7fffffff;
		put(t, &disp, 4);
		if (n_index != 4)
			t->state.gpr[n_index] = below(f, 2);
		return;
	}
	put_disp(t, mod, disp);
	if (n_index == n_base && n_index != 4)
		return; /* wherever it is */
	if (n_index != 4) {
		t->state.gpr[n_index] = value(f);
		at -= t->state.gpr[n_index] << scale;
	}
	t->state.gpr[n_base] = at - disp;
}

static void put_prefixes(struct test_case *t, const struct encoding *x)
{
	if (x->gs)
		put8(t, 0x65);
	if (x->p67)
		put8(t, 0x67);
	if (x->p66)
		put8(t, 0x66);
	if (x->lock)
		put8(t, 0xf0);
	if (x->rep)
		put8(t, x->rep);
	if (x->has_rex)
		put8(t, x->rex);
}

static struct encoding choose(struct fixture *f, const struct form *m)
{
	const bool is_32 = f->variant->is_32;
	const bool is_branch = m->flags & (F_REL8 | F_REL32 | F_TARGET);
	struct encoding x = {
		.p66 = is_branch && is_32   ? !below(f, 64)
		       : m->flags & F_NO_66 ? false
					    : !below(f, 4),
		.p67 = !below(f, 16),
		.lock = (m->flags & F_LOCK) ? !below(f, 4) : !below(f, 128),
		.gs = !is_32 && !below(f, 16),
		.has_rex = !is_32 && below(f, 2),
	};

	if (m->flags & F_STRING) {
		x.rep = below(f, 3) ? 0xf3 : 0;
		if ((m->flags & F_REP) && !below(f, 3))
			x.rep = 0xf2;
	}
	if (x.has_rex) {
		x.rex = (uint8_t)(0x40 | below(f, 16));
		if (m->flags & F_NO_W)
			x.rex &= 0xf7;
	}
	x.n_tail = imm_bytes(m, &x);
	return x;
}

static void put_imm(struct fixture *f, struct test_case *t,
		    const struct form *m, const struct encoding *x)
{
	uint64_t v = value(f);

	if (m->opcode[0] == 0xc8) { /* ENTER: not far */
		v = below(f, 512) | below(f, 5) << 16;
		put(t, &v, 3);
		return;
	}
	put(t, &v, imm_bytes(m, x));
}

static void put_relative(struct fixture *f, struct test_case *t,
			 const struct form *m, const struct encoding *x)
{
	/* Somewhere in the code, where all else is INT3. */
	const uint64_t to = CODE_BASE + below(f, CODE_PAGES * PAGE_SIZE);
	uint64_t rel = m->flags & F_REL8 ? 2 + below(f, 100)
					 : to - t->state.rip - t->len - 4;

	put(t, &rel, m->flags & F_REL8 ? 1 : x->p66 ? 2 : 4);
}

static void set_string_state(struct fixture *f, struct test_case *t,
			     const struct encoding *x)
{
	t->state.gpr[REG_RSI] = data_address(f, false) -
				(x->gs ? GS_BASE_VALUE : 0);
	t->state.gpr[REG_RDI] = below(f, 3) ? data_address(f, false)
					    : DATA_BASE + 4096 + below(f, 64);
	if (!below(f, 4)) /* overlapping */
		t->state.gpr[REG_RSI] = t->state.gpr[REG_RDI] + below(f, 32) -
					16;
	t->state.gpr[REG_RBX] = data_address(f, false);
	t->state.gpr[REG_RCX] = below(f, 8) ? below(f, 40) : below(f, 2000);
	if (x->p67 && below(f, 2))
		t->state.gpr[REG_RCX] |= rnd(f) << 32;
}

static void put_insn(struct fixture *f, struct test_case *t,
		     const struct form *m)
{
	const struct encoding x = choose(f, m);
	const bool mem = (m->flags & F_MEM) ||
			 (!(m->flags & F_REG) && below(f, 2));

	put_prefixes(t, &x);
	put(t, m->opcode, m->n_opcode);
	if (m->flags & F_PLUS)
		t->code[t->len - 1] |= below(f, 8);
	if ((m->flags & F_MODRM) && mem)
		put_modrm_mem(f, t, m, &x);
	else if (m->flags & F_MODRM)
		put_modrm_reg(f, t, m, &x);
	if (m->flags & F_MOFFS) {
		const uint64_t at = data_address(f, false) -
				    (x.gs ? GS_BASE_VALUE : 0);

		put(t, &at, (f->variant->is_32 ? 4U : 8U) >> x.p67);
	}
	if (m->flags & (F_REL8 | F_REL32))
		put_relative(f, t, m, &x);
	else
		put_imm(f, t, m, &x);
	if (m->flags & F_STRING)
		set_string_state(f, t, &x);
	if (m->n_opcode == 1 && m->opcode[0] == 0xc9)
		t->state.gpr[REG_RBP] = data_address(f, false);
}

static void random_state(struct fixture *f, struct test_case *t)
{
	struct host_state *s = &t->state;

	for (unsigned int i = 0; i < 16; i++)
		s->gpr[i] = value(f);
	s->gpr[REG_RSP] = STACK_BASE + PAGE_SIZE + (below(f, 256) & ~7UL);
	if (!below(f, 32))
		s->gpr[REG_RSP] = data_address(f, false);
	s->rip = CODE_BASE + 256 + below(f, PAGE_SIZE - 512);
	if (!below(f, 8))
		s->rip = CODE_BASE + PAGE_SIZE - 1 - below(f, 12);
	s->rflags = (rnd(f) & RFLAGS_ARITH) | RFLAGS_ONE | RFLAGS_IF;
	if (!below(f, 4))
		s->rflags |= RFLAGS_DF;
	s->mxcsr = 0x1f80;
	for (unsigned int i = 0; i < 16; i++)
		for (unsigned int j = 0; j < 16; j++)
			s->xmm[i][j] = (uint8_t)rnd(f);
}

/*
 * Which flags the code leaves undefined, by Zydis; shifts by a count not known here may also leave
 * flags as they were, so what was undefined before stays so.
 */
static bool find_undefined(struct fixture *f, struct test_case *t)
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

static const struct form *choose_form(struct fixture *f,
				      const struct form *forms, size_t n)
{
	const uint32_t not_here = f->variant->is_32 ? F_ONLY64 : F_ONLY32;
	const struct form *m;

	do
		m = &forms[below(f, n)];
	while (m->flags & not_here);
	return m;
}

/* 32-bit code sees and leaves the lower halves of eight registers. */
static void narrow(struct host_state *s)
{
	for (unsigned int i = 0; i < 16; i++)
		s->gpr[i] = i < 8 ? (uint32_t)s->gpr[i] : 0;
}

static void make_case(struct fixture *f, struct test_case *t,
		      const struct form *forms, size_t n_forms)
{
	do {
		unsigned int n = below(f, 3) ? 1 : 1 + (unsigned int)below(f, 3);

		t->len = 0;
		t->names[0] = '\0';
		random_state(f, t);
		while (n--) {
			const struct form *m = choose_form(f, forms, n_forms);

			strcat(strcat(t->names, m->name), " ");
			put_insn(f, t, m);
			if (m->flags & (F_REL8 | F_REL32 | F_TARGET))
				break; /* else it may go into what follows */
		}
		t->state.is_32 = f->variant->is_32;
		if (t->state.is_32)
			narrow(&t->state);
	} while (!find_undefined(f, t));
}

/* New contents in part of the data, the same on both sides. */
static void stir(struct fixture *f)
{
	uint8_t *data = (uint8_t *)DATA_BASE;

	for (unsigned int i = 0; i < 8; i++) {
		const uint64_t at = below(f, DATA_BYTES - 8);
		const uint64_t v = value(f);

		memcpy(data + at, &v, 8);
		memcpy(f->guest_data + at, &v, 8);
	}
	/* A return address at the top of the stack, whatever is popped. */
	for (unsigned int i = 0; i < 32; i++) {
		const uint64_t v = below(f, 16) ? CODE_BASE + below(f, 8192)
						: value(f);

		memcpy((uint8_t *)STACK_BASE + PAGE_SIZE + i * 8, &v, 8);
		memcpy(f->guest_stack + PAGE_SIZE + i * 8, &v, 8);
	}
}

static void place_code(struct fixture *f, const struct test_case *t, bool clear)
{
	uint8_t bytes[MAX_CODE];

	if (clear)
		memset(bytes, 0xcc, t->len);
	else
		memcpy(bytes, t->code, t->len);
	memcpy((void *)t->state.rip, bytes, t->len);
	cpu_harness_write(f->h, t->state.rip, bytes, t->len);
}

static struct harness_end run_guest(struct fixture *f, struct host_state *s)
{
	struct cpu *c = f->h->cpu;

	cpu_harness_set_mode(f->h, s->is_32 ? 32 : 64, 3);
	c->gpr[REG_SEG + SEG_GS] = GS_BASE_VALUE;
	memcpy(c->gpr, s->gpr, sizeof(s->gpr));
	cpu_set_rflags(c, s->rflags);
	memcpy(c->xmm, s->xmm, sizeof(s->xmm));
	c->x87.mxcsr = s->mxcsr;
	const struct harness_end e = cpu_harness_run(f->h, s->rip, 100000);

	memcpy(s->gpr, c->gpr, sizeof(s->gpr));
	s->gpr[REG_RSP] = e.rsp;
	s->rip = e.rip;
	s->rflags = e.rflags;
	memcpy(s->xmm, c->xmm, sizeof(s->xmm));
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

static void print_case(struct fixture *f, const struct test_case *t,
		       uint64_t number)
{
	ZydisFormatter formatter;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	char text[128];

	print_error("seed %lu case %lu: %s at %lx\n", seed, number, t->names,
		    t->state.rip);
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

static bool same(const struct test_case *t, const struct host_state *a,
		 const struct host_state *b, const struct host_end *host,
		 const struct harness_end *guest)
{
	if (guest->outcome != HARNESS_EXCEPTION || a->rip != b->rip)
		return false;
	/* Which of two operands faults first is the processor's choice. */
	if (is_memory_fault(host->vector) && is_memory_fault(guest->vector) &&
	    strstr(t->names, "cmps"))
		return !memcmp(a->gpr, b->gpr, sizeof(a->gpr));
	if (guest->vector != host->vector)
		return false;
	if (host->vector != 3 && code_of(guest) != host->code)
		return false;
	if (host->vector == VEC_PF && guest->cr2 != host->cr2)
		return false;
	if ((a->rflags ^ b->rflags) & FLAGS_COMPARED & ~t->undefined)
		return false;
	if (a->mxcsr != b->mxcsr || memcmp(a->xmm, b->xmm, sizeof(a->xmm)))
		return false;
	return !memcmp(a->gpr, b->gpr, sizeof(a->gpr));
}

static bool same_memory(const struct fixture *f)
{
	return !memcmp((void *)DATA_BASE, f->guest_data, DATA_BYTES) &&
	       !memcmp((void *)CODE_BASE, f->guest_code,
		       CODE_PAGES * PAGE_SIZE) &&
	       !memcmp((void *)STACK_BASE, f->guest_stack,
		       STACK_PAGES * PAGE_SIZE);
}

static void fill_code(struct fixture *f)
{
	static uint8_t traps[CODE_PAGES * PAGE_SIZE];

	memset(traps, 0xcc, sizeof(traps));
	memcpy((void *)CODE_BASE, traps, sizeof(traps));
	cpu_harness_write(f->h, CODE_BASE, traps, sizeof(traps));
}

/* A case may have written over the code: then what lies there is anything, advertised or not. */
static void restore_code(struct fixture *f)
{
	const uint8_t *code = (const uint8_t *)CODE_BASE;

	if (code[0] != 0xcc ||
	    memcmp(code, code + 1, CODE_PAGES * PAGE_SIZE - 1) != 0)
		fill_code(f);
}

/* Code that jumps to itself: rare, and of no use on the host. */
static void skip_endless(struct fixture *f, const struct test_case *t)
{
	place_code(f, t, true);
	fill_code(f);
	memcpy((void *)DATA_BASE, f->guest_data, DATA_BYTES);
	memcpy((void *)STACK_BASE, f->guest_stack, STACK_PAGES * PAGE_SIZE);
	f->n_endless++;
	assert_true(f->n_endless <= 2 + n_cases / 1000);
}

static void run_case(struct fixture *f, const struct test_case *t,
		     uint64_t number)
{
	struct host_state host = t->state;
	struct host_state guest = t->state;

	place_code(f, t, false);
	const struct harness_end guest_end = run_guest(f, &guest);

	if (guest_end.outcome == HARNESS_LIMIT) {
		skip_endless(f, t);
		return;
	}
	const struct host_end host_end = host_exec(&host);

	if (t->state.is_32) {
		narrow(&host);
		narrow(&guest);
	}
	const bool ok = same(t, &host, &guest, &host_end, &guest_end);
	const bool memory_ok = same_memory(f);

	if (!ok || !memory_ok || number == only) {
		print_case(f, t, number);
		print_state("host", &host, host_end.vector, host_end.code,
			    host_end.cr2);
		print_state("guest", &guest, guest_end.vector, guest_end.code,
			    guest_end.cr2);
		print_code_at(host.rip);
		print_error("undefined flags %lx, outcome %d\n", t->undefined,
			    guest_end.outcome);
	}
	place_code(f, t, true);
	restore_code(f);
	assert_true(memory_ok);
	assert_true(ok);
}

static uint8_t *guest_ptr(struct fixture *f, uint64_t addr)
{
	uint8_t *p;
	uint64_t len;

	assert_int_equal(guestmem_span(f->h->mem,
				       gpa(cpu_harness_gpa(f->h, addr)),
				       MEM_WRITE, &p, &len),
			 MEM_OK);
	return p;
}

static void map_both(struct fixture *f, uint64_t addr, uint64_t n_pages,
		     int prot, uint64_t flags)
{
	void *p = mmap((void *)addr, n_pages * PAGE_SIZE, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE |
			       MAP_POPULATE,
		       -1, 0);

	assert_ptr_equal(p, (void *)addr);
	cpu_harness_map(f->h, addr, n_pages, PTE_P | PTE_U | flags);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct cpu_features features = {.tsc_khz = 1000000};
	struct mmu_options mmu = mmu_options_default();

	assert_non_null(f);
	f->variant = *state;
	features.n_cpus = f->variant->n_cpus;
	mmu.mode = f->variant->mmu;
	f->rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	f->h = cpu_harness_new(&features, &mmu);
	if (f->variant->single)
		f->h->cpu->dr[7] |= 1; /* a breakpoint at 0 */
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
	*state = f;
	return 0;
}

static void unmap_host(uint64_t addr, uint64_t n_pages)
{
	munmap((void *)addr, n_pages * PAGE_SIZE);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unmap_host(CODE_BASE, CODE_PAGES);
	unmap_host(DATA_BASE, DATA_PAGES);
	unmap_host(STACK_BASE, STACK_PAGES);
	unmap_host(RO_BASE, 1);
	cpu_harness_free(f->h);
	free(f);
	return 0;
}

static void test_integer(void **state)
{
	struct fixture *f = *state;
	struct test_case t;

	/* Here, since cmocka installs handlers of its own before each test. */
	host_exec_init();
	host_exec_set_gs(GS_BASE_VALUE);
	for (uint64_t i = 0; i < n_cases / f->variant->share; i++) {
		make_case(f, &t, int_forms, ARRAY_SIZE(int_forms));
		stir(f);
		run_case(f, &t, i);
	}
}

#define INTEGER_TEST(name, variant)                          \
	{                                                    \
		name, test_integer, setup, teardown, variant \
	}

static struct variant plain = {.n_cpus = 1, .share = 1};
static struct variant locked = {.n_cpus = 2, .share = 4};
static struct variant single = {.n_cpus = 1, .single = true, .share = 4};
static struct variant shadow = {.n_cpus = 1, .mmu = MMU_SOFTWARE, .share = 4};
static struct variant compat = {.n_cpus = 1, .is_32 = true, .share = 2};

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		INTEGER_TEST("integer", &plain),
		INTEGER_TEST("integer, locked", &locked),
		INTEGER_TEST("integer, one instruction per block", &single),
		INTEGER_TEST("integer, shadow paging", &shadow),
		INTEGER_TEST("integer, 32-bit", &compat),
	};

	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		n_cases = strtoull(argv[2], NULL, 0);
	if (argc > 3)
		only = strtoull(argv[3], NULL, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
