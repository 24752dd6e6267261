/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack in all code modes: RSP in 64-bit mode, SS:ESP or SS:SP elsewhere.
 *
 * The handlers of 64-bit pushes and pops have their own short paths; these functions serve all
 * other modes and whatever pushes more than one value.
 */
#ifndef CPU_STACK_H
#define CPU_STACK_H
#include <cpu/access.h>

/** cpu_sp_mask() - the part of RSP that is the stack pointer in the current mode. */
static inline uint64_t cpu_sp_mask(const struct cpu *c)
{
	if (likely((c->code_mode & CODE_BITS) == CODE_64))
		return UINT64_MAX;
	return c->code_mode & CODE_STACK32 ? UINT32_MAX : UINT16_MAX;
}

/** cpu_set_sp() - change the stack pointer, and no bit beyond its width. */
static inline void cpu_set_sp(struct cpu *c, uint64_t sp)
{
	const uint64_t mask = cpu_sp_mask(c);

	c->gpr[REG_RSP] = (c->gpr[REG_RSP] & ~mask) | (sp & mask);
}

/**
 * cpu_stack_read() - read the stack without popping.
 * @c: processor
 * @offset: bytes above the stack pointer
 * @size: 2, 4 or 8 bytes
 *
 * The value, zero-extended, is left in c->scratch[0].
 * Return: false if an exception is pending: end the handler with FAULT().
 */
bool cpu_stack_read(struct cpu *c, uint64_t offset, unsigned int size);

/** cpu_stack_write() - write the stack without pushing; arguments and result as above. */
bool cpu_stack_write(struct cpu *c, uint64_t offset, unsigned int size,
		     uint64_t value);

/** cpu_stack_probe() - fault as a write there would, but write nothing; as above. */
bool cpu_stack_probe(struct cpu *c, uint64_t offset, unsigned int size);

/**
 * cpu_push() - push one value.
 * @c: processor
 * @size: 2, 4 or 8 bytes: the operand size
 * @value: of which the low @size bytes count
 *
 * Return: false if an exception is pending; then the stack pointer is unchanged.
 */
bool cpu_push(struct cpu *c, unsigned int size, uint64_t value);

/** cpu_pop() - pop one value into c->scratch[0], zero-extended. Return: as cpu_push(). */
bool cpu_pop(struct cpu *c, unsigned int size);

#endif
