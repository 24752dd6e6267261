/* SPDX-License-Identifier: Apache-2.0 */
/* Fragments as host code. */
#include <string.h>

#include <base/verify.h>
#include <cpu/translate_impl.h>

#define N_CALLER_SAVED 5 /* the first of pool[] */

/* Host registers by number. RAX, RCX and RDX are scratch, RDI is the processor. */
enum {
	H_RAX,
	H_RCX,
	H_RDX,
	H_RBX,
	H_RSP,
	H_RBP,
	H_RSI,
	H_RDI
};

static const uint8_t pool[N_POOL] = {H_RSI, 8,  9,  10, 11, H_RBX,
				     H_RBP, 12, 13, 14, 15};

/* Pieces. */

static void emit_bytes(struct translator *t, const void *bytes, uint32_t n)
{
	if (t->len + n > FRAGMENT_BYTES) {
		t->failed = true;
		return;
	}
	memcpy(t->out + t->len, bytes, n);
	t->len += n;
}

#define BYTES(t, ...)                                   \
	do {                                            \
		const uint8_t bytes_[] = {__VA_ARGS__}; \
		emit_bytes(t, bytes_, sizeof(bytes_));  \
	} while (0)

static void emit_u32(struct translator *t, uint32_t v)
{
	emit_bytes(t, &v, sizeof(v));
}

static void emit_u64(struct translator *t, uint64_t v)
{
	emit_bytes(t, &v, sizeof(v));
}

/* A 64-bit instruction with register @reg and memory at an offset in struct cpu. */
static void emit_cpu_op(struct translator *t, uint8_t opcode, unsigned int reg,
			size_t offset)
{
	BYTES(t, (uint8_t)(0x48 | (reg >> 3) << 2), opcode,
	      (uint8_t)(0x80 | (reg & 7) << 3 | H_RDI));
	emit_u32(t, (uint32_t)offset);
}

static size_t gpr_offset(unsigned int n)
{
	return offsetof(struct cpu, gpr) + 8 * n;
}

static void emit_load(struct translator *t, unsigned int host, unsigned int n)
{
	emit_cpu_op(t, 0x8b, host, gpr_offset(n));
}

static void emit_store(struct translator *t, unsigned int host, unsigned int n)
{
	emit_cpu_op(t, 0x89, host, gpr_offset(n));
}

static void store_flags(struct translator *t)
{
	BYTES(t, 0x9f /* lahf */, 0x0f, 0x90, 0xc0 /* seto al */, 0x66, 0x89,
	      0x87);
	emit_u32(t, (uint32_t)offsetof(struct cpu, af));
}

static void load_flags(struct translator *t)
{
	BYTES(t, 0x0f, 0xb7, 0x87); /* movzx eax, word [rdi + af] */
	emit_u32(t, (uint32_t)offsetof(struct cpu, af));
	BYTES(t, 0x04, 0x7f /* add al, 127: overflows if OF */, 0x9e /* sahf */);
}

/* The guest's flags go to memory, since something of ours is about to change the host's. */
static void save_flags(struct translator *t)
{
	if (t->flags_host && !t->flags_stored) {
		store_flags(t);
		t->flags_stored = true;
	}
}

static void need_flags(struct translator *t)
{
	if (!t->flags_host) {
		load_flags(t);
		t->flags_host = true;
	}
}

static ZydisRegister host_reg(unsigned int host, ZydisRegister like)
{
	switch ((int)ZydisRegisterGetClass(like)) {
	case ZYDIS_REGCLASS_GPR8:
		/* Zydis counts AH to BH as 4 to 7. */
		return ZydisRegisterEncode(ZYDIS_REGCLASS_GPR8,
					   (ZyanU8)(host < 4 ? host : host + 4));
	case ZYDIS_REGCLASS_GPR16:
		return ZydisRegisterEncode(ZYDIS_REGCLASS_GPR16, (ZyanU8)host);
	case ZYDIS_REGCLASS_GPR32:
		return ZydisRegisterEncode(ZYDIS_REGCLASS_GPR32, (ZyanU8)host);
	default:
		return ZydisRegisterEncode(ZYDIS_REGCLASS_GPR64, (ZyanU8)host);
	}
}

static void emit_request(struct translator *t, const ZydisEncoderRequest *req)
{
	uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
	ZyanUSize n = sizeof(bytes);

	if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(req, bytes, &n))) {
		t->failed = true;
		return;
	}
	emit_bytes(t, bytes, (uint32_t)n);
}

/* The address part of a memory operand in host registers, without its segment. */
static void rename_memory(const struct translator *t, const struct guest_insn *g,
			  const ZydisDecodedOperandMem *m,
			  ZydisEncoderOperand *to)
{
	int64_t disp = m->disp.has_displacement ? m->disp.value : 0;

	to->mem.base = to->mem.index = ZYDIS_REGISTER_NONE;
	to->mem.scale = 0;
	if (m->base == ZYDIS_REGISTER_RIP) {
		to->mem.base = host_reg(t->host[REG_RIP], ZYDIS_REGISTER_RAX);
		disp += g->off + g->insn.length;
	} else if (m->base != ZYDIS_REGISTER_NONE) {
		to->mem.base = host_reg(t->host[ZydisRegisterGetId(m->base)],
					m->base);
	}
	if (m->index != ZYDIS_REGISTER_NONE) {
		to->mem.index = host_reg(t->host[ZydisRegisterGetId(m->index)],
					 m->index);
		to->mem.scale = m->scale ? m->scale : 1;
	}
	to->mem.displacement = disp;
}

/* RCX := linear address of the memory operand. */
static void emit_address(struct translator *t, const struct guest_insn *g)
{
	const ZydisDecodedOperandMem *m = &g->ops[g->mem].mem;
	ZydisEncoderRequest req = {
		.machine_mode = ZYDIS_MACHINE_MODE_LONG_64,
		.mnemonic = ZYDIS_MNEMONIC_LEA,
		.operand_count = 2,
	};

	req.operands[0].type = ZYDIS_OPERAND_TYPE_REGISTER;
	req.operands[0].reg.value = ZYDIS_REGISTER_RCX;
	req.operands[1].type = ZYDIS_OPERAND_TYPE_MEMORY;
	req.operands[1].mem.size = 8;
	rename_memory(t, g, m, &req.operands[1]);
	emit_request(t, &req);
	if (m->segment == ZYDIS_REGISTER_FS)
		emit_cpu_op(t, 0x03, H_RCX, gpr_offset(REG_SEG + SEG_FS));
	else if (m->segment == ZYDIS_REGISTER_GS)
		emit_cpu_op(t, 0x03, H_RCX, gpr_offset(REG_SEG + SEG_GS));
}

static void add_exit(struct translator *t, unsigned int insn, uint32_t dirty)
{
	t->exits[t->n_exits++] = (struct side_exit){t->len, insn, dirty};
	emit_u32(t, 0);
}

/*
 * RCX: linear address -> host address, or leave before the instruction. The same
 * comparison as cpu_read_hit() and cpu_write_hit().
 */
static void emit_lookup(struct translator *t, unsigned int insn,
			unsigned int size, bool write)
{
	_Static_assert(sizeof(struct tlb_entry) == 32, "an entry is 1 << 5");

	BYTES(t, 0x48, 0x89, 0xc8,              /* mov rax, rcx */
	      0x48, 0xc1, 0xe8, PAGE_SHIFT - 5, /* shr rax, 7 */
	      0x25 /* and eax, imm32 */);
	emit_u32(t, (TLB_ENTRIES - 1) << 5);
	emit_cpu_op(t, 0x03, H_RAX, offsetof(struct cpu, tlb.cur));
	BYTES(t, 0x48, 0x8d, 0x51,
	      (uint8_t)(size - 1), /* lea rdx, [rcx + n - 1] */
	      0x48, 0x81, 0xe2);   /* and rdx, imm32 */
	emit_u32(t, (uint32_t)PAGE_MASK);
	emit_cpu_op(t, 0x0b, H_RDX, offsetof(struct cpu, tlb.ctx));
	BYTES(t, 0x48, 0x3b, 0x50, /* cmp rdx, [rax + tag] */
	      (uint8_t)(write ? offsetof(struct tlb_entry, write)
			      : offsetof(struct tlb_entry, read)),
	      0x0f, 0x85); /* jne */
	add_exit(t, insn, t->dirty);
	BYTES(t, 0x48, 0x03, 0x48, /* add rcx, [rax + addend] */
	      (uint8_t)offsetof(struct tlb_entry, addend));
}

/* The lookup changes the host's flags. */
static void prepare_lookup(struct translator *t, const struct guest_insn *g)
{
	if (g->live_in)
		save_flags(t);
	t->flags_host = false;
}

static void emit_plain(struct translator *t, unsigned int n)
{
	const struct guest_insn *g = &t->insns[n];
	ZydisEncoderRequest req;

	if (!ZYAN_SUCCESS(ZydisEncoderDecodedInstructionToEncoderRequest(
		    &g->insn, g->ops, g->insn.operand_count_visible, &req))) {
		t->failed = true;
		return;
	}
	req.prefixes = 0;
	for (int i = 0; i < g->insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *o = &g->ops[i];
		ZydisEncoderOperand *to = &req.operands[i];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			to->reg.value = host_reg(
				t->host[translator_gpr(o->reg.value)],
				o->reg.value);
		} else if (i == g->mem) {
			to->mem.base = ZYDIS_REGISTER_RCX;
			to->mem.index = ZYDIS_REGISTER_NONE;
			to->mem.scale = 0;
			to->mem.displacement = 0;
		} else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			rename_memory(t, g, &o->mem, to);
		}
	}
	if (g->mem >= 0) {
		prepare_lookup(t, g);
		emit_address(t, g);
		emit_lookup(t, n, g->ops[g->mem].size / 8, g->mem_writes);
	}
	if (g->tests || (g->sets && !g->sets_all && g->live_out))
		need_flags(t);
	emit_request(t, &req);
}

static void emit_push(struct translator *t, unsigned int n)
{
	const struct guest_insn *g = &t->insns[n];
	const unsigned int sp = t->host[REG_RSP];
	const unsigned int src = t->host[ZydisRegisterGetId(g->ops[0].reg.value)];

	prepare_lookup(t, g);
	/* lea rcx, [sp - 8]; the pool has neither RSP nor R12's twin without a SIB byte */
	BYTES(t, (uint8_t)(0x48 | sp >> 3), 0x8d,
	      (uint8_t)(0x40 | H_RCX << 3 | 4), (uint8_t)(0x20 | (sp & 7)),
	      0xf8);
	emit_lookup(t, n, 8, true);
	BYTES(t, (uint8_t)(0x48 | (src >> 3) << 2), 0x89,
	      (uint8_t)((src & 7) << 3 | H_RCX)); /* mov [rcx], src */
	BYTES(t, (uint8_t)(0x48 | sp >> 3 | (sp >> 3) << 2), 0x8d,
	      (uint8_t)(0x40 | (sp & 7) << 3 | 4), (uint8_t)(0x20 | (sp & 7)),
	      0xf8); /* lea sp, [sp - 8] */
}

static void emit_pop(struct translator *t, unsigned int n)
{
	const struct guest_insn *g = &t->insns[n];
	const unsigned int sp = t->host[REG_RSP];
	const unsigned int dst = t->host[ZydisRegisterGetId(g->ops[0].reg.value)];

	prepare_lookup(t, g);
	BYTES(t, (uint8_t)(0x48 | (sp >> 3) << 2), 0x89,
	      (uint8_t)(0xc0 | (sp & 7) << 3 | H_RCX)); /* mov rcx, sp */
	emit_lookup(t, n, 8, false);
	BYTES(t, (uint8_t)(0x48 | (dst >> 3) << 2), 0x8b,
	      (uint8_t)((dst & 7) << 3 | H_RCX)); /* mov dst, [rcx] */
	BYTES(t, (uint8_t)(0x48 | sp >> 3 | (sp >> 3) << 2), 0x8d,
	      (uint8_t)(0x40 | (sp & 7) << 3 | 4), (uint8_t)(0x20 | (sp & 7)),
	      0x08); /* lea sp, [sp + 8] */
}

static void emit_insn(struct translator *t, unsigned int n)
{
	const struct guest_insn *g = &t->insns[n];

	switch (g->kind) {
	case INSN_PLAIN:
		emit_plain(t, n);
		break;
	case INSN_PUSH:
		emit_push(t, n);
		break;
	case INSN_POP:
		emit_pop(t, n);
		break;
	case INSN_JCC:
	case INSN_OTHER:
		t->failed = true;
		break;
	}
	t->dirty |= g->writes;
	if (g->sets) {
		t->flags_host = true;
		t->flags_stored = false;
	}
}

/* Ways out. */

static void emit_spill(struct translator *t, uint32_t dirty)
{
	for (unsigned int n = 0; n < N_GUEST_REGS; n++)
		if (dirty & 1U << n)
			emit_store(t, t->host[n], n);
}

static void emit_restore(struct translator *t)
{
	for (unsigned int i = t->n_saved; i > 0; i--) {
		const unsigned int h = pool[N_CALLER_SAVED + i - 1];

		if (h >= 8)
			BYTES(t, 0x41);
		BYTES(t, (uint8_t)(0x58 | (h & 7)));
	}
}

/* Go to the op of an instruction: rsi := op, jump to its handler. */
static void emit_goto_op(struct translator *t, unsigned int insn)
{
	const struct op *op = &t->block->ops[t->insns[insn].op];

	BYTES(t, 0x48, 0xbe); /* mov rsi, imm64 */
	emit_u64(t, (uint64_t)(uintptr_t)op);
	if (insn == t->first) {
		/* Its handler is this fragment now. */
		BYTES(t, 0x48, 0xb8); /* mov rax, imm64 */
		emit_u64(t, (uint64_t)(uintptr_t)t->first_fn);
		BYTES(t, 0xff, 0xe0); /* jmp rax */
	} else {
		_Static_assert(offsetof(struct op, fn) == 0, "jmp [rsi]");
		BYTES(t, 0xff, 0x26); /* jmp [rsi] */
	}
}

static void emit_exits(struct translator *t)
{
	for (unsigned int i = 0; i < t->n_exits && !t->failed; i++) {
		const struct side_exit *x = &t->exits[i];
		const uint32_t rel = t->len - (x->at + 4);

		memcpy(t->out + x->at, &rel, sizeof(rel));
		emit_spill(t, t->loops ? t->dirty : x->dirty);
		emit_restore(t);
		emit_goto_op(t, x->insn);
	}
}

static void emit_fall_out(struct translator *t)
{
	if (t->insns[t->end - 1].live_out)
		save_flags(t);
	emit_spill(t, t->dirty);
	emit_restore(t);
	BYTES(t, 0x48, 0xbe);
	emit_u64(t, (uint64_t)(uintptr_t)&t->block
			    ->ops[translator_op_of(t->block, t->end)]);
	BYTES(t, 0xff, 0x26);
}

/*
 * The branch of a block back to its own beginning. Not taken: the branch's op decides
 * again, from the registers stored (it repeats a compare that is fused with it).
 */
static void emit_loop_end(struct translator *t, unsigned int jcc, uint32_t head)
{
	const struct guest_insn *g = &t->insns[jcc];
	const unsigned int op_insn = g->op >= 0 ? jcc : jcc - 1;
	uint32_t not_taken, out, rel;

	need_flags(t);
	BYTES(t, 0x0f, (uint8_t)(0x80 | ((g->insn.opcode & 15) ^ 1)));
	not_taken = t->len;
	emit_u32(t, 0);
	if (!t->flags_stored)
		store_flags(t);
	emit_cpu_op(t, 0x81, 5,
		    offsetof(struct cpu, left)); /* sub [left], imm32 */
	emit_u32(t, t->block->n_insns);
	BYTES(t, 0x0f, 0x8c); /* jl */
	out = t->len;
	emit_u32(t, 0);
	if (t->block->n_accesses) {
		/* add qword [accesses], imm32 */
		emit_cpu_op(t, 0x81, 0, offsetof(struct cpu, accesses));
		emit_u32(t, t->block->n_accesses);
	}
	BYTES(t, 0xe9);
	emit_u32(t, head - (t->len + 4));

	/* The slice is over: as BLOCK_ENTER() leaves. */
	rel = t->len - (out + 4);
	memcpy(t->out + out, &rel, sizeof(rel));
	emit_cpu_op(t, 0x81, 0, offsetof(struct cpu, left)); /* add */
	emit_u32(t, t->block->n_insns);
	emit_spill(t, t->dirty);
	emit_restore(t);
	BYTES(t, 0x31, 0xc0, 0xc3); /* xor eax, eax; ret */

	rel = t->len - (not_taken + 4);
	memcpy(t->out + not_taken, &rel, sizeof(rel));
	if (!t->flags_stored)
		store_flags(t);
	emit_spill(t, t->dirty);
	emit_restore(t);
	emit_goto_op(t, op_insn);
}

/* One fragment. */

static void assign_registers(struct translator *t)
{
	unsigned int n_used = 0;

	memset(t->host, 0, sizeof(t->host));
	for (unsigned int n = 0; n < N_GUEST_REGS; n++)
		if (t->used_regs & 1U << n)
			t->host[n] = pool[n_used++];
	t->n_saved = n_used > N_CALLER_SAVED ? n_used - N_CALLER_SAVED : 0;
}

/* Registers whose first use in the fragment is a read. */
static uint32_t read_first(const struct translator *t)
{
	uint32_t read = 0, written = 0;

	for (unsigned int i = t->first; i < t->end; i++) {
		read |= t->insns[i].reads & ~written;
		written |= t->insns[i].writes;
	}
	return read;
}

static void emit_prologue(struct translator *t)
{
	/* A loop may leave in any round: all that it uses must be there. */
	const uint32_t load = t->loops ? t->used_regs : read_first(t);

	for (unsigned int i = 0; i < t->n_saved; i++) {
		const unsigned int h = pool[N_CALLER_SAVED + i];

		if (h >= 8)
			BYTES(t, 0x41);
		BYTES(t, (uint8_t)(0x50 | (h & 7)));
	}
	for (unsigned int n = 0; n < N_GUEST_REGS; n++)
		if (load & 1U << n)
			emit_load(t, t->host[n], n);
}

void translator_emit(struct translator *t)
{
	const struct guest_insn *last = &t->insns[t->end - 1];
	uint32_t head;

	t->out = t->rw + t->used;
	t->len = 0;
	t->n_exits = 0;
	t->failed = false;
	t->dirty = 0;
	t->flags_host = false;
	t->flags_stored = true;
	t->first_fn = t->block->ops[t->insns[t->first].op].fn;
	assign_registers(t);
	emit_prologue(t);
	head = t->len;
	if (t->loops)
		for (unsigned int i = t->first; i < t->end; i++)
			t->dirty |= t->insns[i].writes;
	for (unsigned int i = t->first;
	     i < t->end - (t->loops ? 1 : 0) && !t->failed; i++)
		emit_insn(t, i);
	if (t->loops && last->kind == INSN_JCC)
		emit_loop_end(t, t->end - 1, head);
	else if (!t->loops)
		emit_fall_out(t);
	emit_exits(t);
}
