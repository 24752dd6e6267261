/* SPDX-License-Identifier: Apache-2.0 */
/* MASKMOVQ and MASKMOVDQU: store the bytes whose mask has its top bit set. */
#ifndef CPU_MASKED_STORE_H
#define CPU_MASKED_STORE_H
#include <emmintrin.h>

#include <cpu/emit.h>

/** masked_store_emit() - describe the memory operand, DS:rDI or another segment. */
void masked_store_emit(struct emitter *e, struct op *op);

/**
 * masked_store() - store at the op's operand.
 * @c: processor
 * @op: with the operand of masked_store_emit()
 * @data: bytes to store
 * @mask: of each byte the highest bit: it is chosen
 * @size: of the operand, 8 or 16
 *
 * Nothing is touched if no byte is chosen; else the whole operand must be writable, as on
 * AMD processors. Return: false with an exception pending.
 */
bool masked_store(struct cpu *c, const struct op *op, __m128i data,
		  __m128i mask, unsigned int size);

#endif
