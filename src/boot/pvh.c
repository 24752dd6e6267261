/* SPDX-License-Identifier: Apache-2.0 */
/* The PVH protocol: 32-bit protected mode without paging, EBX at start_info. [PVH] */
#include <arch/x86.h>
#include <boot/bytes.h>
#include <boot/layout.h>
#include <boot/plan.h>

#define START_MAGIC    0x336ec578U
#define VERSION_MEMMAP 1 /* the first with a memory map */

/* Inside the information page. */
#define MODULES_OFFSET 0x100
#define MEMMAP_OFFSET  0x200
#define MEMMAP_STRIDE  24

/* Offsets in start_info. */
#define MAGIC          0
#define VERSION        4
#define NR_MODULES     12
#define MODLIST_PADDR  16
#define CMDLINE_PADDR  24
#define RSDP_PADDR     32
#define MEMMAP_PADDR   40
#define MEMMAP_ENTRIES 48

static_assert(MEMMAP_OFFSET + MEMMAP_MAX * MEMMAP_STRIDE <= LAYOUT_INFO_BYTES,
	      "the map fits its page");

static void fill_info(const struct boot_plan *plan, uint8_t *info)
{
	put_le32(info + MAGIC, START_MAGIC);
	put_le32(info + VERSION, VERSION_MEMMAP);
	put_le64(info + CMDLINE_PADDR, LAYOUT_CMDLINE);
	put_le64(info + RSDP_PADDR, plan->cfg->rsdp.v);
	if (plan->initrd_bytes) {
		put_le32(info + NR_MODULES, 1);
		put_le64(info + MODLIST_PADDR, LAYOUT_INFO + MODULES_OFFSET);
		put_le64(info + MODULES_OFFSET, plan->initrd_start);
		put_le64(info + MODULES_OFFSET + 8, plan->initrd_bytes);
	}
	put_le64(info + MEMMAP_PADDR, LAYOUT_INFO + MEMMAP_OFFSET);
	put_le32(info + MEMMAP_ENTRIES, plan->map.n);
	memmap_put(&plan->map, info + MEMMAP_OFFSET, MEMMAP_STRIDE);
}

int pvh_place(struct boot_plan *plan, struct boot_state *state, struct err *err)
{
	uint8_t info[LAYOUT_INFO_BYTES] = {0};
	int r;

	fill_info(plan, info);
	r = plan_write(plan, LAYOUT_INFO, info, sizeof(info), err);
	if (r == 0)
		r = segments_place(plan, false, state, err);
	state->rip = plan->img->pvh_entry;
	state->rbx = LAYOUT_INFO;
	state->cr0 = CR0_PE | CR0_ET;
	return r;
}
