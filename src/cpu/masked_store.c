/* SPDX-License-Identifier: Apache-2.0 */
/* The store under a mask of MMX and SSE2. */
#include <cpu/masked_store.h>

#include <cpu/access.h>

void masked_store_emit(struct emitter *e, struct op *op)
{
	for (unsigned int i = 0; i < e->insn->operand_count; i++)
		if (emit_is_mem(&e->ops[i]))
			emit_mem(e, op, &e->ops[i]);
}

__attribute__((noinline)) bool masked_store(struct cpu *c, const struct op *op,
					    __m128i data, __m128i mask,
					    unsigned int size)
{
	const unsigned int chosen = (unsigned int)_mm_movemask_epi8(mask);
	uint8_t bytes[16];

	if (!chosen)
		return true;
	if (!cpu_rmw_slow(c, op, cpu_ea(c, op), size))
		return false;
	_mm_storeu_si128((__m128i_u *)bytes, data);
	for (unsigned int i = 0; i < size; i++)
		if (chosen & (1U << i))
			((uint8_t *)c->scratch)[i] = bytes[i];
	cpu_rmw_finish(c);
	return true;
}
