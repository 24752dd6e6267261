/* SPDX-License-Identifier: Apache-2.0 */
/* The formats of page tables, and one step of a walk. [SDM3 4 "Paging"] */
#include <mmu/walk.h>

/* Address bits that the physical address width leaves unused. */
#define HIGH_ADDR (PTE_ADDR & ~((UINT64_C(1) << X86_PHYS_BITS) - 1))
/* PAE paging has nothing between the address and NX. */
#define PAE_HIGH (HIGH_ADDR | UINT64_C(0x7ff0000000000000))
/* Address bits of a large page below its alignment; bit 12 is PAT. */
#define LOW_2M UINT64_C(0x1fe000)
#define LOW_1G UINT64_C(0x3fffe000)
/* PSE-36: bits 20 to 13 of the entry are bits 39 to 32 of the address. */
#define PSE36_MASK  UINT64_C(0x1fe000)
#define PSE36_SHIFT 19

const struct walk_format walk_long = {
	.levels = 4,
	.entry_bytes = 8,
	.root_mask = CR3_ADDR_MASK,
	.level =
		{
			[1] = {.shift = 12,
			       .index_bits = 9,
			       .leaf_rsvd = HIGH_ADDR},
			[2] = {.shift = 21,
			       .index_bits = 9,
			       .large = true,
			       .table_rsvd = HIGH_ADDR,
			       .leaf_rsvd = HIGH_ADDR | LOW_2M},
			[3] = {.shift = 30,
			       .index_bits = 9,
			       .large = true,
			       .table_rsvd = HIGH_ADDR,
			       .leaf_rsvd = HIGH_ADDR | LOW_1G},
			[4] = {.shift = 39,
			       .index_bits = 9,
			       .table_rsvd = HIGH_ADDR | PTE_PS},
		},
};

const struct walk_format walk_pae = {
	.levels = 3,
	.entry_bytes = 8,
	.root_mask = UINT64_C(0xffffffe0),
	.level =
		{
			[1] = {.shift = 12,
			       .index_bits = 9,
			       .leaf_rsvd = PAE_HIGH},
			[2] = {.shift = 21,
			       .index_bits = 9,
			       .large = true,
			       .table_rsvd = PAE_HIGH,
			       .leaf_rsvd = PAE_HIGH | LOW_2M},
			[3] = {.shift = 30,
			       .index_bits = 2,
			       .plain = true,
			       .table_rsvd = PAE_HIGH | PTE_NX | PTE_W | PTE_U |
					     PTE_A | PTE_D | PTE_PS | PTE_G},
		},
};

const struct walk_format walk_legacy = {
	.levels = 2,
	.entry_bytes = 4,
	.root_mask = UINT64_C(0xfffff000),
	.level =
		{
			[1] = {.shift = 12, .index_bits = 10},
			[2] = {.shift = 22, .index_bits = 10},
		},
};

const struct walk_format walk_legacy_pse = {
	.levels = 2,
	.entry_bytes = 4,
	.root_mask = UINT64_C(0xfffff000),
	.level =
		{
			[1] = {.shift = 12, .index_bits = 10},
			[2] = {.shift = 22,
			       .index_bits = 10,
			       .large = true,
			       .leaf_rsvd = BIT64(21)},
		},
};

uint64_t walk_page_base(const struct walk *w)
{
	const uint64_t low = (UINT64_C(1) << walk_page_shift(w)) - 1;
	uint64_t base = w->entry & PTE_ADDR & ~low;

	if (w->fmt->entry_bytes == 4 && w->level == 2)
		base |= (w->entry & PSE36_MASK) << PSE36_SHIFT;
	return base;
}
