/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Differential test: the same instructions with the same state on the software processor and on the
 * real one.
 *
 * Each case is a few instructions of random forms with random registers, flags and memory, at the
 * same addresses on both sides. General registers, flags but the undefined ones, memory, the fault
 * and its address must agree. Arguments: seed and number of cases.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu_compare.h"

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

static uint64_t seed = 1;
static uint64_t n_cases = 60000;
static uint64_t only = UINT64_MAX; /* trace this case */

static void put(struct compare_case *t, const void *bytes, size_t n)
{
	memcpy(&t->code[t->len], bytes, n);
	t->len += (unsigned int)n;
}

static void put8(struct compare_case *t, unsigned int byte)
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

static void put_modrm_reg(struct cpu_compare *f, struct compare_case *t,
			  const struct form *m, const struct encoding *x)
{
	const unsigned int reg = m->digit >= 0 ? (unsigned int)m->digit
					       : compare_below(f, 8);
	const unsigned int rm = (unsigned int)compare_below(f, 8);
	const unsigned int n = rm | (x->rex & 1) << 3;

	put8(t, 0xc0 | reg << 3 | rm);
	if (m->flags & F_TARGET)
		t->state.gpr[n] = compare_below(f, 8)
					  ? CODE_BASE + compare_below(f, 8192)
					  : compare_value(f);
}

/* Bits that F_BIT adds to the address: kept small, so that it stays in the data. */
static uint64_t bit_delta(struct cpu_compare *f, struct compare_case *t,
			  const struct encoding *x, unsigned int reg)
{
	const unsigned int n = reg | (x->rex & 4) << 1;
	const int64_t bits = (int64_t)compare_below(f, 4096) - 2048;
	const unsigned int size = x->rex & 8 ? 8 : x->p66 ? 2 : 4;
	const int64_t width = size * 8;
	int64_t units = bits / width;

	if (bits % width < 0)
		units--;
	t->state.gpr[n] = (uint64_t)bits;
	if (size == 4 && compare_below(f, 2)) /* the upper half must not matter */
		t->state.gpr[n] ^= compare_rnd(f) << 32;
	return (uint64_t)(units * (int64_t)size);
}

static void put_disp(struct compare_case *t, unsigned int mod, uint64_t disp)
{
	if (mod == 1)
		put(t, &disp, 1);
	else if (mod == 2)
		put(t, &disp, 4);
}

static uint64_t disp_of(struct cpu_compare *f, unsigned int mod)
{
	if (mod == 1)
		return (uint64_t)(int64_t)(int8_t)compare_below(f, 256);
	if (mod == 2)
		return (uint64_t)(int64_t)(int32_t)compare_rnd(f);
	return 0;
}

/* 16-bit addresses: nothing is mapped there, but the fault and LEA tell what was computed. */
static void put_modrm_mem16(struct cpu_compare *f, struct compare_case *t,
			    unsigned int reg)
{
	const unsigned int mod = (unsigned int)compare_below(f, 3);
	const unsigned int rm = (unsigned int)compare_below(f, 8);
	const uint64_t disp = compare_rnd(f);

	put8(t, mod << 6 | reg << 3 | rm);
	if (mod == 1)
		put(t, &disp, 1);
	else if (mod == 2 || rm == 6)
		put(t, &disp, 2);
}

/* Base register, displacement, and maybe a scaled index, so that they add up to @at. */
static void put_modrm_mem(struct cpu_compare *f, struct compare_case *t,
			  const struct form *m, const struct encoding *x)
{
	const unsigned int reg = m->digit >= 0 ? (unsigned int)m->digit
					       : compare_below(f, 8);
	uint64_t at = compare_address(f, m->flags & F_ALIGN16);
	unsigned int mod = (unsigned int)compare_below(f, 3);
	unsigned int rm = (unsigned int)compare_below(f, 8);
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
			t->state.gpr[n] ^= compare_rnd(f) << 32;
		return;
	}
	const unsigned int scale = (unsigned int)compare_below(f, 4);
	const unsigned int index = (unsigned int)compare_below(f, 8);
	const unsigned int base = (unsigned int)compare_below(f, 8);
	const unsigned int n_index = index | (x->rex & 2) << 2;
	const unsigned int n_base = base | (x->rex & 1) << 3;

	put8(t, mod << 6 | reg << 3 | 4);
	put8(t, scale << 6 | index << 3 | base);
	if (mod == 0 && base == 5) { /* no base: the displacement alone must do */
		disp = at & 0x7fffffff;
		put(t, &disp, 4);
		if (n_index != 4)
			t->state.gpr[n_index] = compare_below(f, 2);
		return;
	}
	put_disp(t, mod, disp);
	if (n_index == n_base && n_index != 4)
		return; /* wherever it is */
	if (n_index != 4) {
		t->state.gpr[n_index] = compare_value(f);
		at -= t->state.gpr[n_index] << scale;
	}
	t->state.gpr[n_base] = at - disp;
}

static void put_prefixes(struct compare_case *t, const struct encoding *x)
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

static struct encoding choose(struct cpu_compare *f, const struct form *m)
{
	const bool is_32 = f->variant->is_32;
	const bool is_branch = m->flags & (F_REL8 | F_REL32 | F_TARGET);
	struct encoding x = {
		.p66 = is_branch && is_32   ? !compare_below(f, 64)
		       : m->flags & F_NO_66 ? false
					    : !compare_below(f, 4),
		.p67 = !compare_below(f, 16),
		.lock = (m->flags & F_LOCK) ? !compare_below(f, 4)
					    : !compare_below(f, 128),
		.gs = !is_32 && !compare_below(f, 16),
		.has_rex = !is_32 && compare_below(f, 2),
	};

	if (m->flags & F_STRING) {
		x.rep = compare_below(f, 3) ? 0xf3 : 0;
		if ((m->flags & F_REP) && !compare_below(f, 3))
			x.rep = 0xf2;
	}
	if (x.has_rex) {
		x.rex = (uint8_t)(0x40 | compare_below(f, 16));
		if (m->flags & F_NO_W)
			x.rex &= 0xf7;
	}
	x.n_tail = imm_bytes(m, &x);
	return x;
}

static void put_imm(struct cpu_compare *f, struct compare_case *t,
		    const struct form *m, const struct encoding *x)
{
	uint64_t v = compare_value(f);

	if (m->opcode[0] == 0xc8) { /* ENTER: not far */
		v = compare_below(f, 512) | compare_below(f, 5) << 16;
		put(t, &v, 3);
		return;
	}
	put(t, &v, imm_bytes(m, x));
}

static void put_relative(struct cpu_compare *f, struct compare_case *t,
			 const struct form *m, const struct encoding *x)
{
	/* Somewhere in the code, where all else is INT3. */
	const uint64_t to = CODE_BASE + compare_below(f, CODE_PAGES * PAGE_SIZE);
	uint64_t rel = m->flags & F_REL8 ? 2 + compare_below(f, 100)
					 : to - t->state.rip - t->len - 4;

	put(t, &rel, m->flags & F_REL8 ? 1 : x->p66 ? 2 : 4);
}

static void set_string_state(struct cpu_compare *f, struct compare_case *t,
			     const struct encoding *x)
{
	t->state.gpr[REG_RSI] = compare_address(f, false) -
				(x->gs ? GS_BASE_VALUE : 0);
	t->state.gpr[REG_RDI] = compare_below(f, 3)
					? compare_address(f, false)
					: DATA_BASE + 4096 +
						  compare_below(f, 64);
	if (!compare_below(f, 4)) /* overlapping */
		t->state.gpr[REG_RSI] = t->state.gpr[REG_RDI] +
					compare_below(f, 32) - 16;
	t->state.gpr[REG_RBX] = compare_address(f, false);
	t->state.gpr[REG_RCX] = compare_below(f, 8) ? compare_below(f, 40)
						    : compare_below(f, 2000);
	if (x->p67 && compare_below(f, 2))
		t->state.gpr[REG_RCX] |= compare_rnd(f) << 32;
}

static void put_insn(struct cpu_compare *f, struct compare_case *t,
		     const struct form *m)
{
	const struct encoding x = choose(f, m);
	const bool mem = (m->flags & F_MEM) ||
			 (!(m->flags & F_REG) && compare_below(f, 2));

	put_prefixes(t, &x);
	put(t, m->opcode, m->n_opcode);
	if (m->flags & F_PLUS)
		t->code[t->len - 1] |= compare_below(f, 8);
	if ((m->flags & F_MODRM) && mem)
		put_modrm_mem(f, t, m, &x);
	else if (m->flags & F_MODRM)
		put_modrm_reg(f, t, m, &x);
	if (m->flags & F_MOFFS) {
		const uint64_t at = compare_address(f, false) -
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
		t->state.gpr[REG_RBP] = compare_address(f, false);
}

static const struct form *choose_form(struct cpu_compare *f,
				      const struct form *forms, size_t n)
{
	const uint32_t not_here = f->variant->is_32 ? F_ONLY64 : F_ONLY32;
	const struct form *m;

	do
		m = &forms[compare_below(f, n)];
	while (m->flags & not_here);
	return m;
}

static void make_case(struct cpu_compare *f, struct compare_case *t,
		      const struct form *forms, size_t n_forms)
{
	do {
		unsigned int n = compare_below(f, 3)
					 ? 1
					 : 1 + (unsigned int)compare_below(f, 3);

		t->len = 0;
		t->names[0] = '\0';
		compare_state(f, t);
		while (n--) {
			const struct form *m = choose_form(f, forms, n_forms);

			strcat(strcat(t->names, m->name), " ");
			put_insn(f, t, m);
			if (m->flags & (F_REL8 | F_REL32 | F_TARGET))
				break; /* else it may go into what follows */
		}
		t->state.is_32 = f->variant->is_32;
		if (t->state.is_32)
			compare_narrow(&t->state);
	} while (!compare_find_undefined(f, t));
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

static void test_integer(void **state)
{
	struct cpu_compare *f = *state;
	struct compare_case t;
	uint64_t n_endless = 0;

	for (uint64_t i = 0; i < n_cases / f->variant->share; i++) {
		make_case(f, &t, int_forms, ARRAY_SIZE(int_forms));
		compare_stir(f);
		switch (cpu_compare_run(f, &t, i == only)) {
		case COMPARE_SAME:
			break;
		case COMPARE_DIFFERS:
			fail_msg("seed %lu case %lu", seed, i);
			break;
		case COMPARE_ENDLESS: /* code that jumps to itself: rare */
			n_endless++;
		}
	}
	assert_true(n_endless <= 2 + n_cases / 1000);
}

#define INTEGER_TEST(name, variant)                          \
	{                                                    \
		name, test_integer, setup, teardown, variant \
	}

static struct compare_variant plain = {.n_cpus = 1, .share = 1};
static struct compare_variant locked = {.n_cpus = 2, .share = 4};
static struct compare_variant single = {.n_cpus = 1, .single = true, .share = 4};
static struct compare_variant shadow = {.n_cpus = 1,
					.mmu = MMU_SOFTWARE,
					.share = 4};
static struct compare_variant compat = {.n_cpus = 1, .is_32 = true, .share = 2};

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
