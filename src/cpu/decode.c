/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding: Zydis tells what an instruction is, the topics' emitters make ops of it.
 *
 * A block ends with an instruction that branches or may change how code is to be decoded or
 * mapped, at the end of the page, or when it is long enough. An instruction that reaches
 * into the next page is a block of its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <base/verify.h>
#include <cpu/block.h>
#include <cpu/emit.h>

#define X86_MAX_INSN 15
#define MAX_TOPICS   3
#define OPS_PER_INSN 8 /* no emitter appends more */

struct cpu_decoder {
	ZydisDecoder zydis[3]; /* indexed by code bits: CODE_64, CODE_32, CODE_16 */
	/* Some mnemonics have forms in several topics (MOV, MOVSD): each is asked in turn. */
	const struct insn_emit *emit[ZYDIS_MNEMONIC_MAX_VALUE + 1][MAX_TOPICS];
	uint64_t unimplemented[ZYDIS_MNEMONIC_MAX_VALUE + 1];
};

static void add_table(struct cpu_decoder *d, const struct insn_table *t)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct insn_emit **at = d->emit[t->rows[i].mnemonic];
		size_t n = 0;

		while (n < MAX_TOPICS && at[n])
			n++;
		VERIFY(n < MAX_TOPICS);
		at[n] = &t->rows[i];
	}
}

int decoder_new(struct cpu *c)
{
	struct cpu_decoder *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	ZydisDecoderInit(&d->zydis[CODE_64], ZYDIS_MACHINE_MODE_LONG_64,
			 ZYDIS_STACK_WIDTH_64);
	ZydisDecoderInit(&d->zydis[CODE_32], ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
			 ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&d->zydis[CODE_16], ZYDIS_MACHINE_MODE_LONG_COMPAT_16,
			 ZYDIS_STACK_WIDTH_16);
	add_table(d, &int_table);
	add_table(d, &branch_table);
	add_table(d, &string_table);
	add_table(d, &x87_table);
	add_table(d, &sse_table);
	add_table(d, &sys_table);
	c->decoder = d;
	return 0;
}

void decoder_free(struct cpu *c)
{
	free(c->decoder);
	c->decoder = NULL;
}

void cpu_for_each_unimplemented(const struct cpu *c,
				void (*fn)(void *arg, const char *name,
					   uint64_t count),
				void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(c->decoder->unimplemented); i++)
		if (c->decoder->unimplemented[i])
			fn(arg, ZydisMnemonicGetString((ZydisMnemonic)i),
			   c->decoder->unimplemented[i]);
}

OP(unimplemented)
{
	c->decoder->unimplemented[op->imm]++;
	cpu_raise(c, VEC_UD);
	FAULT();
}

OP(undefined)
{
	cpu_raise(c, VEC_UD);
	FAULT();
}

OP(too_long)
{
	cpu_raise_code(c, VEC_GP, 0);
	FAULT();
}

/* The block is over without a branch: go on at the next address. */
OP(block_end)
{
	JUMP_DIRECT(c->gpr[REG_RIP] + op->off, 0);
}

OP(block_end_32)
{
	JUMP_DIRECT((uint32_t)(c->gpr[REG_RIP] + op->off), 0);
}

struct op *emit(struct emitter *e, op_fn *fn)
{
	struct block *b = e->block;
	struct op *op = &b->ops[b->n_ops];

	*op = (struct op){
		.fn = fn,
		.base = REG_ZERO,
		.index = REG_ZERO,
		.seg = REG_ZERO,
		.len = e->insn ? e->insn->length : 0,
		.off = e->rip_off,
		.idx = b->n_ops,
		.nth = e->nth,
	};
	b->n_ops++;
	return op;
}

static void emit_mem_segment(const struct emitter *e, struct op *op,
			     ZydisRegister reg)
{
	const int named = emit_seg(reg);
	const int seg = named < 0 ? SEG_DS : named;

	if (seg == SEG_SS)
		op->ea |= EA_STACK;
	if ((e->mode & CODE_BITS) == CODE_64) {
		if (seg == SEG_FS || seg == SEG_GS)
			op->seg = (uint8_t)(REG_SEG + seg);
		return;
	}
	op->ea |= EA_NO_LINEAR64;
	op->seg = (uint8_t)(REG_SEG + seg);
	if (e->mode & CODE_SEGMENTED)
		op->ea |= EA_CHECK;
}

/*
 * Zydis 4.0 takes REX.B and base 5 for r13d where 32-bit addresses have a SIB byte with a
 * displacement and no base. [SDM2 table 2-3]
 */
static bool has_no_base(const ZydisDecodedInstruction *insn,
			const ZydisDecodedOperand *m)
{
	return m->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM &&
	       insn->address_width == 32 && insn->raw.modrm.mod == 0 &&
	       insn->raw.modrm.rm == 4 && insn->raw.sib.base == 5;
}

void emit_mem(struct emitter *e, struct op *op, const ZydisDecodedOperand *m)
{
	const ZydisDecodedOperandMem *mem = &m->mem;
	int64_t disp = mem->disp.has_displacement ? mem->disp.value : 0;

	op->ea = 0;
	if (unlikely(has_no_base(e->insn, m))) {
		disp = e->insn->raw.disp.value;
	} else if (mem->base == ZYDIS_REGISTER_RIP ||
		   mem->base == ZYDIS_REGISTER_EIP) {
		op->base = REG_RIP;
		disp += e->rip_off + e->insn->length;
	} else if (mem->base != ZYDIS_REGISTER_NONE) {
		op->base = emit_gpr(mem->base);
	}
	if (mem->index != ZYDIS_REGISTER_NONE) {
		op->index = emit_gpr(mem->index);
		op->scale = mem->scale == 8   ? 3
			    : mem->scale == 4 ? 2
			    : mem->scale == 2 ? 1
					      : 0;
	}
	emit_mem_segment(e, op, mem->segment);
	if (e->insn->address_width == 32)
		op->ea |= EA_ADDR32;
	else if (e->insn->address_width == 16)
		op->ea |= EA_ADDR16;
	if (disp == (int32_t)disp) {
		op->disp = (int32_t)disp;
		return;
	}
	/* Only MOV with a 64-bit absolute address: its emitter uses imm as the address. */
	op->disp = 0;
	op->imm = (uint64_t)disp;
}

bool emit_is_simple(const struct op *op)
{
	return op->index == REG_ZERO && op->seg == REG_ZERO &&
	       !(op->ea & EA_SLOW);
}

uint8_t emit_gpr(ZydisRegister reg)
{
	const ZyanI16 id = ZydisRegisterGetId(reg);

	return id < 0 ? REG_ZERO : (uint8_t)id;
}

uint8_t emit_reg8(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		return (uint8_t)((reg - ZYDIS_REGISTER_AH) * 8 + 1);
	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
		return (uint8_t)((reg - ZYDIS_REGISTER_AL) * 8);
	return (uint8_t)((reg - ZYDIS_REGISTER_SPL + 4) * 8);
}

uint8_t emit_xmm(ZydisRegister reg)
{
	return (uint8_t)(reg - ZYDIS_REGISTER_XMM0);
}

/* Zydis counts them as the instructions do. */
static_assert(ZYDIS_REGISTER_GS - ZYDIS_REGISTER_ES == SEG_GS &&
		      ZYDIS_REGISTER_SS - ZYDIS_REGISTER_ES == SEG_SS,
	      "segment registers are numbered alike");

int emit_seg(ZydisRegister reg)
{
	return reg >= ZYDIS_REGISTER_ES && reg <= ZYDIS_REGISTER_GS
		       ? (int)(reg - ZYDIS_REGISTER_ES)
		       : -1;
}

int64_t emit_target(const struct emitter *e, const ZydisDecodedOperand *o)
{
	return e->rip_off + e->insn->length + o->imm.value.s;
}

static bool is_advertised(const struct emitter *e)
{
	/* VEX, EVEX and XOP forms share mnemonics with what we have, but not features. */
	return e->insn->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
	       e->insn->encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW;
}

static void emit_insn(struct emitter *e, struct cpu_decoder *d)
{
	const struct insn_emit *const *row = d->emit[e->insn->mnemonic];
	const uint8_t n_ops = e->block->n_ops;

	for (size_t i = 0; i < MAX_TOPICS && row[i] && is_advertised(e); i++) {
		if (row[i]->emit(e, row[i]))
			return;
		e->block->n_ops = n_ops;
		e->end = false;
	}
	emit(e, op_unimplemented)->imm = e->insn->mnemonic;
	e->end = true;
}

static void emit_bad(struct emitter *e, ZyanStatus status)
{
	static const ZydisDecodedInstruction no_insn;

	e->insn = &no_insn;
	emit(e, status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? op_too_long
							    : op_undefined);
	e->end = true;
}

/* Operands in memory, those of PUSH and RET included; one that is read and written counts once. */
static unsigned int count_accesses(const ZydisDecodedInstruction *insn,
				   const ZydisDecodedOperand *ops)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < insn->operand_count; i++)
		n += ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		     ops[i].mem.type == ZYDIS_MEMOP_TYPE_MEM &&
		     ops[i].actions != 0;
	return n;
}

/* One step of a block: decode at @code and emit. Return: bytes used, 0 if @n_bytes are too few. */
static size_t decode_one(struct cpu *c, struct emitter *e, const uint8_t *code,
			 size_t n_bytes)
{
	struct cpu_decoder *d = c->decoder;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	const ZyanStatus s = ZydisDecoderDecodeFull(
		&d->zydis[e->mode & CODE_BITS], code, n_bytes, &insn, ops);

	if (s == ZYDIS_STATUS_NO_MORE_DATA && n_bytes < X86_MAX_INSN)
		return 0;
	if (!ZYAN_SUCCESS(s)) {
		emit_bad(e, s == ZYDIS_STATUS_NO_MORE_DATA
				    ? ZYDIS_STATUS_INSTRUCTION_TOO_LONG
				    : s);
		/* Any of these bytes, written anew, may make an instruction of it. */
		return n_bytes < X86_MAX_INSN ? n_bytes : X86_MAX_INSN;
	}
	e->insn = &insn;
	e->ops = ops;
	emit_insn(e, d);
	e->block->n_accesses += (uint8_t)count_accesses(&insn, ops);
	e->insn = NULL;
	e->ops = NULL;
	return insn.length;
}

static void finish(struct emitter *e, size_t bytes)
{
	struct block *b = e->block;

	if (!e->end) {
		e->insn = NULL;
		e->rip_off = (uint16_t)bytes;
		emit(e, (e->mode & CODE_BITS) == CODE_64 ? op_block_end
							 : op_block_end_32);
	}
	b->bytes = (uint16_t)bytes;
	b->n_insns = e->nth;
}

/* The first instruction does not fit: decode it alone from both pages' bytes. */
static size_t decode_crossing(struct cpu *c, struct emitter *e,
			      const uint8_t *code, size_t n_bytes,
			      const uint8_t *next, size_t n_next)
{
	uint8_t bytes[X86_MAX_INSN];
	const size_t take = n_next < sizeof(bytes) - n_bytes
				    ? n_next
				    : sizeof(bytes) - n_bytes;

	memcpy(bytes, code, n_bytes);
	memcpy(bytes + n_bytes, next, take);
	return decode_one(c, e, bytes, n_bytes + take);
}

void block_decode(struct cpu *c, struct block *b, const uint8_t *code,
		  size_t n_bytes, const uint8_t *next, size_t n_next,
		  bool *ret_need_next)
{
	const unsigned int max_insns = b->mode & CODE_SINGLE ? 1
							     : BLOCK_MAX_INSNS;
	struct emitter e = {
		.c = c,
		.mode = b->mode,
		.block = b,
		.fuse = true,
	};
	size_t at = 0;

	*ret_need_next = false;
	b->n_ops = 0;
	b->n_accesses = 0;
	while (!e.end && e.nth < max_insns &&
	       b->n_ops < BLOCK_MAX_OPS - OPS_PER_INSN && at < n_bytes) {
		size_t used;

		e.rip_off = (uint16_t)at;
		used = decode_one(c, &e, code + at, n_bytes - at);
		if (!used && at)
			break;
		if (!used && !next) {
			*ret_need_next = true;
			return;
		}
		if (!used) {
			used = decode_crossing(c, &e, code, n_bytes, next,
					       n_next);
			at = used;
			e.nth++;
			break;
		}
		at += used;
		e.nth++;
	}
	finish(&e, at);
}
