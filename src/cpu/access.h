/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory operands: effective address, and loads and stores through the software TLB.
 *
 * LOAD and friends are macros because they leave the handler when the access faults.
 * On the slow path (miss, page crossing, device, flagged page, other privilege) data
 * pass through cpu.scratch.
 */
#ifndef CPU_ACCESS_H
#define CPU_ACCESS_H
#include <string.h>

#include <cpu/op.h>

/** cpu_linear() - linear address of an offset in the segment of an op's memory operand, cut to
 * the width of its address. */
static inline uint64_t cpu_linear(const struct cpu *c, const struct op *op,
				  uint64_t offset)
{
	if (op->ea & EA_ADDR16)
		offset = (uint16_t)offset;
	else if (op->ea & EA_ADDR32)
		offset = (uint32_t)offset;
	offset += c->gpr[op->seg];
	return op->ea & EA_NO_LINEAR64 ? (uint32_t)offset : offset;
}

/** cpu_ea_slow() - the unusual forms: 16/32-bit addresses, segment bases and limits.
 * Does not fail; limit checks are made by the slow access itself, to which such operands go. */
uint64_t cpu_ea_slow(const struct cpu *c, const struct op *op);

/** cpu_ea() - linear address of the memory operand of an op. */
static inline uint64_t cpu_ea(const struct cpu *c, const struct op *op)
{
	if (unlikely(op->ea & EA_SLOW))
		return cpu_ea_slow(c, op);
	return c->gpr[op->base] + (c->gpr[op->index] << op->scale) +
	       (uint64_t)(int64_t)op->disp + c->gpr[op->seg];
}

/**
 * cpu_ea_simple() - the same for operands with neither index nor segment base
 * (emit_is_simple()).
 */
static inline uint64_t cpu_ea_simple(const struct cpu *c, const struct op *op)
{
	return c->gpr[op->base] + (uint64_t)(int64_t)op->disp;
}

/** cpu_offset() - effective address without segment base and without checks (LEA), untruncated. */
static inline uint64_t cpu_offset(const struct cpu *c, const struct op *op)
{
	return c->gpr[op->base] + (c->gpr[op->index] << op->scale) +
	       (uint64_t)(int64_t)op->disp;
}

/**
 * cpu_load_slow() - read @size bytes (1 to 64) at a linear address into cpu.scratch.
 * @c: processor
 * @op: for the kind of fault (#SS or #GP) and limit checks; NULL for plain linear access
 * @addr: first byte
 * Return: false if an exception is pending (or the VM stops): end the handler with FAULT().
 */
bool cpu_load_slow(struct cpu *c, const struct op *op, uint64_t addr,
		   unsigned int size);

/**
 * cpu_store_slow() - write @size bytes (1 to 64) from cpu.scratch to a linear address.
 * Nothing is written if any byte of it faults. Return: as above.
 */
bool cpu_store_slow(struct cpu *c, const struct op *op, uint64_t addr,
		    unsigned int size);

/**
 * cpu_rmw_slow() - begin a read-modify-write: check that it may be written, read it into scratch.
 * The handler changes cpu.scratch and ends with cpu_rmw_finish().
 */
bool cpu_rmw_slow(struct cpu *c, const struct op *op, uint64_t addr,
		  unsigned int size);

/** cpu_rmw_finish() - store cpu.scratch back; cannot fault after cpu_rmw_slow() succeeded. */
void cpu_rmw_finish(struct cpu *c);

/**
 * cpu_sys_load() - implicit supervisor read (descriptor tables, TSS): CPL 3 code does it with
 * supervisor rights, and SMAP ignores EFLAGS.AC. Into scratch. Return: as cpu_load_slow().
 */
bool cpu_sys_load(struct cpu *c, uint64_t addr, unsigned int size);

/** cpu_sys_store() - implicit supervisor write from scratch. */
bool cpu_sys_store(struct cpu *c, uint64_t addr, unsigned int size);

/* Where an entry points: never NULL, which spares callers a test of what they asked already. */
static inline uint8_t *host_of(uint64_t addr, const struct tlb_entry *e)
{
	uint8_t *p = (uint8_t *)(uintptr_t)(addr + e->addend);

	if (!p)
		__builtin_unreachable();
	return p;
}

/** cpu_read_hit() - host address of a read that hits, or NULL. @size at most PAGE_SIZE. */
static inline uint8_t *cpu_read_hit(const struct cpu *c, uint64_t addr,
				    unsigned int size)
{
	const struct tlb_entry *e = tlb_slot(c->tlb.cur, addr);

	if (likely(e->read == (((addr + size - 1) & PAGE_MASK) | c->tlb.ctx)))
		return host_of(addr, e);
	return NULL;
}

/** cpu_write_hit() - host address of a write that hits, or NULL. */
static inline uint8_t *cpu_write_hit(const struct cpu *c, uint64_t addr,
				     unsigned int size)
{
	const struct tlb_entry *e = tlb_slot(c->tlb.cur, addr);

	if (likely(e->write == (((addr + size - 1) & PAGE_MASK) | c->tlb.ctx)))
		return host_of(addr, e);
	return NULL;
}

/* Unaligned, alias-free access to host memory. */
#define HOST_ACCESS(type, suffix)                           \
	static inline type host_ld##suffix(const void *p)   \
	{                                                   \
		type v;                                     \
		memcpy(&v, p, sizeof(v));                   \
		return v;                                   \
	}                                                   \
	static inline void host_st##suffix(void *p, type v) \
	{                                                   \
		memcpy(p, &v, sizeof(v));                   \
	}
HOST_ACCESS(uint8_t, 8)
HOST_ACCESS(uint16_t, 16)
HOST_ACCESS(uint32_t, 32)
HOST_ACCESS(uint64_t, 64)
#undef HOST_ACCESS

/*
 * LOAD(bits, var, addr): declare nothing; set var (an uint<bits>_t) from memory at a linear
 * address, or leave the handler with the fault.
 */
#define LOAD(bits, var, addr)                                                  \
	do {                                                                   \
		const uint64_t load_a_ = (addr);                               \
		const uint8_t *load_p_ = cpu_read_hit(c, load_a_, (bits) / 8); \
		if (likely(load_p_ != NULL)) {                                 \
			(var) = host_ld##bits(load_p_);                        \
		} else {                                                       \
			if (!cpu_load_slow(c, op, load_a_, (bits) / 8))        \
				FAULT();                                       \
			(var) = host_ld##bits(c->scratch);                     \
		}                                                              \
	} while (0)

/* STORE(bits, addr, value): store, or leave the handler with the fault. */
#define STORE(bits, addr, value)                                            \
	do {                                                                \
		const uint64_t store_a_ = (addr);                           \
		uint8_t *store_p_ = cpu_write_hit(c, store_a_, (bits) / 8); \
		if (likely(store_p_ != NULL)) {                             \
			host_st##bits(store_p_, (value));                   \
		} else {                                                    \
			host_st##bits(c->scratch, (value));                 \
			if (!cpu_store_slow(c, op, store_a_, (bits) / 8))   \
				FAULT();                                    \
		}                                                           \
	} while (0)

/*
 * RMW_BEGIN(bits, ptr, addr): ptr (an uint8_t *) is where the operand can be read and changed,
 * or leave the handler with the fault. RMW_END(ptr) makes the change real.
 */
#define RMW_BEGIN(bits, ptr, addr)                                    \
	do {                                                          \
		const uint64_t rmw_a_ = (addr);                       \
		(ptr) = cpu_write_hit(c, rmw_a_, (bits) / 8);         \
		if (unlikely((ptr) == NULL)) {                        \
			if (!cpu_rmw_slow(c, op, rmw_a_, (bits) / 8)) \
				FAULT();                              \
			(ptr) = (uint8_t *)c->scratch;                \
		}                                                     \
	} while (0)

#define RMW_END(ptr)                                          \
	do {                                                  \
		if (unlikely((ptr) == (uint8_t *)c->scratch)) \
			cpu_rmw_finish(c);                    \
	} while (0)

#endif
