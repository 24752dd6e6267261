/* SPDX-License-Identifier: Apache-2.0 */
/* The x87 environment in memory: FLDENV, FNSTENV, FRSTOR, FNSAVE. [SDM1 8.1.10] */
#include <cpu/fp_ops.h>
#include <cpu/x87.h>

#define TAG_VALID   0U
#define TAG_ZERO    1U
#define TAG_SPECIAL 2U
#define TAG_EMPTY   3U

#define REGS_BYTES  80U /* eight registers of ten bytes */

/* Environment as words: 16 bits wide with a 16-bit operand size, else 32. */
enum env_word {
	ENV_FCW,
	ENV_FSW,
	ENV_FTW,
	ENV_FIP,
	ENV_FCS,
	ENV_FDP,
	ENV_FDS,
	ENV_WORDS,
};

static unsigned int env_bytes(bool wide)
{
	return ENV_WORDS * (wide ? 4 : 2);
}

static unsigned int tag_of(const uint8_t *reg)
{
	const uint64_t mant = host_ld64(reg);
	const unsigned int exp = host_ld16(reg + 8) & 0x7fff;

	if (!exp && !mant)
		return TAG_ZERO;
	if (!exp || exp == 0x7fff || !(mant >> 63))
		return TAG_SPECIAL;
	return TAG_VALID;
}

static uint16_t full_tags(const struct cpu *c)
{
	const unsigned int top = x87_top(c);
	unsigned int tags = 0;

	for (unsigned int i = 0; i < 8; i++) {
		const unsigned int tag = c->x87.ftw & (1U << i)
						 ? tag_of(c->x87.st[(i - top) & 7])
						 : TAG_EMPTY;

		tags |= tag << (2 * i);
	}
	return (uint16_t)tags;
}

static uint8_t abridged_tags(uint32_t tags)
{
	unsigned int valid = 0;

	for (unsigned int i = 0; i < 8; i++)
		if (((tags >> (2 * i)) & 3) != TAG_EMPTY)
			valid |= 1U << i;
	return (uint8_t)valid;
}

static void env_pack(const struct cpu *c, bool wide, uint8_t *out)
{
	const uint32_t high = 0xffff0000;
	const uint32_t env[ENV_WORDS] = {
		[ENV_FCW] = high | c->x87.fcw,
		[ENV_FSW] = high | c->x87.fsw,
		[ENV_FTW] = high | full_tags(c),
		[ENV_FIP] = (uint32_t)c->x87.fip,
		[ENV_FCS] = wide ? (uint32_t)c->x87.fop << 16 : 0,
		[ENV_FDP] = (uint32_t)c->x87.fdp,
		[ENV_FDS] = high,
	};

	for (unsigned int i = 0; i < ENV_WORDS; i++) {
		if (wide)
			host_st32(out + 4 * i, env[i]);
		else
			host_st16(out + 2 * i, (uint16_t)env[i]);
	}
}

static void env_unpack(struct cpu *c, bool wide, const uint8_t *in)
{
	uint32_t env[ENV_WORDS];

	for (unsigned int i = 0; i < ENV_WORDS; i++)
		env[i] = wide ? host_ld32(in + 4 * i) : host_ld16(in + 2 * i);
	x87_set_top(c, (env[ENV_FSW] >> FSW_TOP_SHIFT) & 7);
	c->x87.fcw = (uint16_t)((env[ENV_FCW] & FCW_KEPT) | FCW_ONE);
	c->x87.fsw = (uint16_t)env[ENV_FSW];
	c->x87.ftw = abridged_tags(env[ENV_FTW]);
	c->x87.fip = env[ENV_FIP];
	c->x87.fdp = env[ENV_FDP];
	c->x87.fop = wide ? (env[ENV_FCS] >> 16) & 0x7ff : 0;
	x87_update_es(c);
}

__attribute__((noinline)) static bool fnstenv(struct cpu *c,
					      const struct op *op, bool wide)
{
	uint8_t image[ENV_WORDS * 4];

	x87_save(c);
	env_pack(c, wide, image);
	if (!fp_store_bytes(c, op, cpu_ea(c, op), image, env_bytes(wide)))
		return false;
	c->x87.fcw |= FCW_MASKS;
	x87_update_es(c);
	return true;
}

__attribute__((noinline)) static bool fldenv(struct cpu *c, const struct op *op,
					     bool wide)
{
	uint8_t image[ENV_WORDS * 4];

	if (!x87_not_pending(c) ||
	    !fp_load_bytes(c, op, cpu_ea(c, op), image, env_bytes(wide)))
		return false;
	x87_save(c);
	env_unpack(c, wide, image);
	return true;
}

__attribute__((noinline)) static bool fnsave(struct cpu *c, const struct op *op,
					     bool wide)
{
	uint8_t image[ENV_WORDS * 4 + REGS_BYTES];
	uint8_t *regs = image + env_bytes(wide);

	x87_save(c);
	env_pack(c, wide, image);
	for (unsigned int i = 0; i < 8; i++)
		memcpy(regs + 10 * i, c->x87.st[i], 10);
	if (!fp_store_bytes(c, op, cpu_ea(c, op), image,
			    env_bytes(wide) + REGS_BYTES))
		return false;
	x87_init(c);
	return true;
}

__attribute__((noinline)) static bool frstor(struct cpu *c, const struct op *op,
					     bool wide)
{
	uint8_t image[ENV_WORDS * 4 + REGS_BYTES];
	const uint8_t *regs = image + env_bytes(wide);

	if (!x87_not_pending(c) || !fp_load_bytes(c, op, cpu_ea(c, op), image,
						  env_bytes(wide) + REGS_BYTES))
		return false;
	x87_save(c);
	env_unpack(c, wide, image);
	for (unsigned int i = 0; i < 8; i++)
		memcpy(c->x87.st[i], regs + 10 * i, 10);
	return true;
}

/* op.imm: is the image 32 bits wide? */
#define ENV_OP(name)                            \
	OP(x87_##name)                          \
	{                                       \
		if (!name(c, op, op->imm != 0)) \
			FAULT();                \
		NEXT();                         \
	}

ENV_OP(fnstenv)
ENV_OP(fldenv)
ENV_OP(fnsave)
ENV_OP(frstor)

bool x87_emit_env(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const fns[] = {
		[X87_ENV_FLDENV] = op_x87_fldenv,
		[X87_ENV_FNSTENV] = op_x87_fnstenv,
		[X87_ENV_FRSTOR] = op_x87_frstor,
		[X87_ENV_FNSAVE] = op_x87_fnsave,
	};
	const bool prefixed = e->insn->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE;
	const bool wide = ((e->mode & CODE_BITS) == CODE_16) == prefixed;
	struct op *op;

	for (unsigned int i = 0; i < e->insn->operand_count; i++) {
		if (!emit_is_mem(&e->ops[i]))
			continue;
		fp_emit_check(e, FP_KIND_X87);
		op = emit(e, fns[self->arg]);
		emit_mem(e, op, &e->ops[i]);
		op->imm = wide;
		return true;
	}
	return false;
}
