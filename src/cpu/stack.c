/* SPDX-License-Identifier: Apache-2.0 */
/* Stack accesses of all code modes; see stack.h. */
#include <cpu/stack.h>

/* What stack accesses are to the slow path: faults are #SS, and SS limits hold if not flat. */
static const struct op stack_flat = {
	.base = REG_ZERO,
	.index = REG_ZERO,
	.seg = REG_ZERO,
	.ea = EA_STACK,
};

static const struct op stack_checked = {
	.base = REG_ZERO,
	.index = REG_ZERO,
	.seg = REG_SEG + SEG_SS,
	.ea = EA_STACK | EA_CHECK | EA_NO_LINEAR64,
};

static const struct op *stack_kind(const struct cpu *c)
{
	return c->code_mode & CODE_SEGMENTED ? &stack_checked : &stack_flat;
}

static uint64_t stack_address(const struct cpu *c, uint64_t offset)
{
	const uint64_t sp = (c->gpr[REG_RSP] + offset) & cpu_sp_mask(c);

	if (likely((c->code_mode & CODE_BITS) == CODE_64))
		return sp;
	return (uint32_t)(sp + c->gpr[REG_SEG + SEG_SS]);
}

bool cpu_stack_read(struct cpu *c, uint64_t offset, unsigned int size)
{
	const uint64_t addr = stack_address(c, offset);
	const uint8_t *p = cpu_read_hit(c, addr, size);
	uint64_t value = 0;

	if (unlikely(!p || (c->code_mode & CODE_SEGMENTED))) {
		if (!cpu_load_slow(c, stack_kind(c), addr, size))
			return false;
		p = (const uint8_t *)c->scratch;
	}
	memcpy(&value, p, size);
	c->scratch[0] = value;
	return true;
}

bool cpu_stack_write(struct cpu *c, uint64_t offset, unsigned int size,
		     uint64_t value)
{
	const uint64_t addr = stack_address(c, offset);
	uint8_t *p = cpu_write_hit(c, addr, size);

	if (likely(p && !(c->code_mode & CODE_SEGMENTED))) {
		memcpy(p, &value, size);
		return true;
	}
	c->scratch[0] = value;
	return cpu_store_slow(c, stack_kind(c), addr, size);
}

bool cpu_stack_probe(struct cpu *c, uint64_t offset, unsigned int size)
{
	return cpu_rmw_slow(c, stack_kind(c), stack_address(c, offset), size);
}

bool cpu_push(struct cpu *c, unsigned int size, uint64_t value)
{
	if (!cpu_stack_write(c, -(uint64_t)size, size, value))
		return false;
	cpu_set_sp(c, c->gpr[REG_RSP] - size);
	return true;
}

bool cpu_pop(struct cpu *c, unsigned int size)
{
	if (!cpu_stack_read(c, 0, size))
		return false;
	cpu_set_sp(c, c->gpr[REG_RSP] + size);
	return true;
}
