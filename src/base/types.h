/* SPDX-License-Identifier: Apache-2.0 */
/* Address types: one-member structs, so that the compiler refuses to mix them. */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE  (UINT64_C(1) << PAGE_SHIFT)
#define PAGE_MASK  (~(PAGE_SIZE - 1))

/* Guest virtual address: what a guest program uses, after segmentation. */
typedef struct {
	uint64_t v;
} gva_t;

/* Guest physical address: what the guest kernel believes is on the bus. */
typedef struct {
	uint64_t v;
} gpa_t;

/*
 * Machine address: where the bytes really are. It is an offset into the machine
 * window of the VM (mem/machine.h), so it names a memory file and an offset in it.
 */
typedef struct {
	uint64_t v;
} ma_t;

/* PPN: index of a page of guest RAM, counted from zero without the MMIO hole. */
typedef struct {
	uint64_t v;
} ppn_t;

static inline gva_t gva(uint64_t v)
{
	return (gva_t){v};
}

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){v};
}

static inline ma_t ma(uint64_t v)
{
	return (ma_t){v};
}

static inline ppn_t ppn(uint64_t v)
{
	return (ppn_t){v};
}

static inline gpa_t gpa_add(gpa_t a, uint64_t bytes)
{
	return (gpa_t){a.v + bytes};
}

static inline ma_t ma_add(ma_t a, uint64_t bytes)
{
	return (ma_t){a.v + bytes};
}

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define likely(x)     __builtin_expect(!!(x), 1)
#define unlikely(x)   __builtin_expect(!!(x), 0)

#endif
