/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest's instructions are to the translator: kind, registers, memory and flags. */
#include <base/verify.h>
#include <cpu/translate_impl.h>

#define FLAGS_ALL (RFLAGS_ARITH)

static bool is_simple_mnemonic(ZydisMnemonic m)
{
	switch ((int)m) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
	case ZYDIS_MNEMONIC_LEA:
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_ADC:
	case ZYDIS_MNEMONIC_SBB:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
	case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_NOT:
	case ZYDIS_MNEMONIC_BSWAP:
	case ZYDIS_MNEMONIC_CMOVB:
	case ZYDIS_MNEMONIC_CMOVBE:
	case ZYDIS_MNEMONIC_CMOVL:
	case ZYDIS_MNEMONIC_CMOVLE:
	case ZYDIS_MNEMONIC_CMOVNB:
	case ZYDIS_MNEMONIC_CMOVNBE:
	case ZYDIS_MNEMONIC_CMOVNL:
	case ZYDIS_MNEMONIC_CMOVNLE:
	case ZYDIS_MNEMONIC_CMOVNO:
	case ZYDIS_MNEMONIC_CMOVNP:
	case ZYDIS_MNEMONIC_CMOVNS:
	case ZYDIS_MNEMONIC_CMOVNZ:
	case ZYDIS_MNEMONIC_CMOVO:
	case ZYDIS_MNEMONIC_CMOVP:
	case ZYDIS_MNEMONIC_CMOVS:
	case ZYDIS_MNEMONIC_CMOVZ:
	case ZYDIS_MNEMONIC_SETB:
	case ZYDIS_MNEMONIC_SETBE:
	case ZYDIS_MNEMONIC_SETL:
	case ZYDIS_MNEMONIC_SETLE:
	case ZYDIS_MNEMONIC_SETNB:
	case ZYDIS_MNEMONIC_SETNBE:
	case ZYDIS_MNEMONIC_SETNL:
	case ZYDIS_MNEMONIC_SETNLE:
	case ZYDIS_MNEMONIC_SETNO:
	case ZYDIS_MNEMONIC_SETNP:
	case ZYDIS_MNEMONIC_SETNS:
	case ZYDIS_MNEMONIC_SETNZ:
	case ZYDIS_MNEMONIC_SETO:
	case ZYDIS_MNEMONIC_SETP:
	case ZYDIS_MNEMONIC_SETS:
	case ZYDIS_MNEMONIC_SETZ:
		return true;
	default:
		return false;
	}
}

static bool is_shift(ZydisMnemonic m)
{
	return m == ZYDIS_MNEMONIC_SHL || m == ZYDIS_MNEMONIC_SHR ||
	       m == ZYDIS_MNEMONIC_SAR || m == ZYDIS_MNEMONIC_ROL ||
	       m == ZYDIS_MNEMONIC_ROR;
}

/* The forms that are encoded again as they are, but for their registers. */
static enum insn_kind kind_of(const struct guest_insn *g)
{
	const ZydisDecodedInstruction *i = &g->insn;
	const ZydisDecodedOperand *o = g->ops;

	if (i->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
	    i->address_width != 64 ||
	    (i->attributes & (ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_HAS_REP |
			      ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)))
		return INSN_OTHER;
	if (i->meta.category == ZYDIS_CATEGORY_COND_BR &&
	    i->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE &&
	    i->mnemonic != ZYDIS_MNEMONIC_JRCXZ &&
	    i->mnemonic != ZYDIS_MNEMONIC_JECXZ &&
	    i->mnemonic != ZYDIS_MNEMONIC_LOOP &&
	    i->mnemonic != ZYDIS_MNEMONIC_LOOPE &&
	    i->mnemonic != ZYDIS_MNEMONIC_LOOPNE)
		return INSN_JCC;
	if (i->mnemonic == ZYDIS_MNEMONIC_PUSH ||
	    i->mnemonic == ZYDIS_MNEMONIC_POP) {
		if (i->operand_width != 64 ||
		    o[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    ZydisRegisterGetClass(o[0].reg.value) !=
			    ZYDIS_REGCLASS_GPR64 ||
		    o[0].reg.value == ZYDIS_REGISTER_RSP)
			return INSN_OTHER;
		return i->mnemonic == ZYDIS_MNEMONIC_PUSH ? INSN_PUSH : INSN_POP;
	}
	if (is_shift(i->mnemonic))
		return o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
				       (o[1].imm.value.u &
					(o[0].size == 64 ? 63 : 31)) &&
				       o[0].size >= 32
			       ? INSN_PLAIN
			       : INSN_OTHER;
	if (i->mnemonic == ZYDIS_MNEMONIC_IMUL)
		return i->operand_count_visible >= 2 ? INSN_PLAIN : INSN_OTHER;
	if (i->mnemonic == ZYDIS_MNEMONIC_BSWAP && o[0].size == 16)
		return INSN_OTHER;
	return is_simple_mnemonic(i->mnemonic) ? INSN_PLAIN : INSN_OTHER;
}

int translator_gpr(ZydisRegister reg)
{
	switch ((int)ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_GPR8:
		if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
			return -1;
		return emit_reg8(reg) / 8;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		return ZydisRegisterGetId(reg);
	default:
		return -1;
	}
}

static bool note_register(struct guest_insn *g, const ZydisDecodedOperand *o)
{
	const int n = translator_gpr(o->reg.value);

	if (n < 0)
		return false;
	if (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
		g->reads |= 1U << n;
	if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) {
		g->writes |= 1U << n;
		/* What a narrow or conditional write leaves must be there. */
		if (o->size < 32 ||
		    (o->actions & ZYDIS_OPERAND_ACTION_CONDWRITE))
			g->reads |= 1U << n;
	}
	return true;
}

static bool note_memory(struct guest_insn *g, int index)
{
	const ZydisDecodedOperand *o = &g->ops[index];
	const ZydisDecodedOperandMem *m = &o->mem;

	if (m->base == ZYDIS_REGISTER_RIP)
		g->reads |= 1U << REG_RIP;
	else if (m->base != ZYDIS_REGISTER_NONE)
		g->reads |= 1U << ZydisRegisterGetId(m->base);
	if (m->index != ZYDIS_REGISTER_NONE)
		g->reads |= 1U << ZydisRegisterGetId(m->index);
	if (m->disp.has_displacement && m->disp.value != (int32_t)m->disp.value)
		return false;
	if (m->type == ZYDIS_MEMOP_TYPE_AGEN)
		return true;
	if (o->size != 8 && o->size != 16 && o->size != 32 && o->size != 64)
		return false;
	g->mem = index;
	g->mem_writes = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	return true;
}

static bool note_operands(struct guest_insn *g)
{
	for (int i = 0; i < g->insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *o = &g->ops[i];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    !note_register(g, o))
			return false;
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && !note_memory(g, i))
			return false;
	}
	return true;
}

static void note_flags(struct guest_insn *g)
{
	const ZydisAccessedFlags *f = g->insn.cpu_flags;
	const uint32_t sets = f ? (f->modified | f->set_0 | f->set_1 |
				   f->undefined)
				: 0;

	g->tests = f && (f->tested & FLAGS_ALL);
	g->sets = sets & FLAGS_ALL;
	g->sets_all = (sets & FLAGS_ALL) == FLAGS_ALL;
}

static void analyse(struct guest_insn *g)
{
	g->reads = g->writes = 0;
	g->mem = -1;
	g->mem_writes = false;
	g->kind = kind_of(g);
	note_flags(g);
	switch (g->kind) {
	case INSN_PLAIN:
		if (!note_operands(g))
			g->kind = INSN_OTHER;
		break;
	case INSN_PUSH:
		g->reads = 1U << REG_RSP |
			   1U << ZydisRegisterGetId(g->ops[0].reg.value);
		g->writes = 1U << REG_RSP;
		break;
	case INSN_POP:
		g->reads = 1U << REG_RSP;
		g->writes = 1U << REG_RSP |
			    1U << ZydisRegisterGetId(g->ops[0].reg.value);
		break;
	case INSN_JCC:
	case INSN_OTHER:
		break;
	}
}

int translator_op_of(const struct block *b, unsigned int nth)
{
	for (unsigned int i = 0; i < b->n_ops; i++)
		if (b->ops[i].nth == nth)
			return (int)i;
	return -1;
}

bool translator_decode(struct translator *t, const struct block *b,
		       const uint8_t *code)
{
	size_t at = 0;

	for (unsigned int i = 0; i < b->n_insns; i++) {
		struct guest_insn *g = &t->insns[i];

		if (at >= b->bytes ||
		    !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&t->decoder, code + at,
							 b->bytes - at,
							 &g->insn, g->ops)))
			return false;
		g->off = (uint16_t)at;
		g->op = translator_op_of(b, i);
		analyse(g);
		at += g->insn.length;
	}
	return true;
}
