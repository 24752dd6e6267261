/* SPDX-License-Identifier: Apache-2.0 */
/* Multiboot 1: 32-bit protected mode without paging, EBX at the information. [MB1] */
#include <string.h>

#include <arch/x86.h>
#include <boot/bytes.h>
#include <boot/layout.h>
#include <boot/plan.h>

#define BOOTLOADER_MAGIC 0x2badb002U

/* Offsets in the information, and the flags that say which members count. */
#define FLAGS            0
#define MEM_LOWER        4
#define MEM_UPPER        8
#define CMDLINE          16
#define MODS_COUNT       20
#define MODS_ADDR        24
#define MMAP_LENGTH      44
#define MMAP_ADDR        48
#define BOOT_LOADER_NAME 64
#define FLAG_MEMORY      (1U << 0)
#define FLAG_CMDLINE     (1U << 2)
#define FLAG_MODULES     (1U << 3)
#define FLAG_MMAP        (1U << 6)
#define FLAG_NAME        (1U << 9)

/* Inside the information page. */
#define MODULES_OFFSET 0x100
#define NAME_OFFSET    0x140
#define MMAP_OFFSET    0x200
#define STRING_OFFSET  0x400
#define MMAP_STRIDE    (4 + MEMMAP_ENTRY_BYTES)

static_assert(MMAP_OFFSET + MEMMAP_MAX * MMAP_STRIDE <= STRING_OFFSET,
	      "the map ends before the strings");

static void fill_mmap(const struct memmap *map, uint8_t *info)
{
	put_le32(info + MMAP_LENGTH, map->n * MMAP_STRIDE);
	put_le32(info + MMAP_ADDR, LAYOUT_INFO + MMAP_OFFSET);
	/* Before each entry its size, which does not count itself. */
	for (unsigned int i = 0; i < map->n; i++)
		put_le32(info + MMAP_OFFSET + (size_t)i * MMAP_STRIDE,
			 MEMMAP_ENTRY_BYTES);
	memmap_put(map, info + MMAP_OFFSET + 4, MMAP_STRIDE);
}

/* The initrd is the first module, and its name the module's string. */
static void fill_module(const struct boot_plan *plan, uint8_t *info)
{
	uint8_t *m = info + MODULES_OFFSET;
	const size_t room = LAYOUT_INFO_BYTES - STRING_OFFSET - 1;
	size_t len = strlen(plan->cfg->initrd_path);

	len = len < room ? len : room;
	memcpy(info + STRING_OFFSET, plan->cfg->initrd_path, len);
	put_le32(info + MODS_COUNT, 1);
	put_le32(info + MODS_ADDR, LAYOUT_INFO + MODULES_OFFSET);
	put_le32(m, (uint32_t)plan->initrd_start);
	put_le32(m + 4, (uint32_t)(plan->initrd_start + plan->initrd_bytes));
	put_le32(m + 8, LAYOUT_INFO + STRING_OFFSET);
}

static void fill_info(const struct boot_plan *plan, uint8_t *info)
{
	static const char name[] = "mezzanine";

	put_le32(info + FLAGS, FLAG_MEMORY | FLAG_CMDLINE | FLAG_MODULES |
				       FLAG_MMAP | FLAG_NAME);
	put_le32(info + MEM_LOWER, LAYOUT_LOW_END / 1024);
	put_le32(info + MEM_UPPER,
		 (uint32_t)((plan->map.low_end - LAYOUT_HIGH_MEMORY) / 1024));
	put_le32(info + CMDLINE, LAYOUT_CMDLINE);
	put_le32(info + BOOT_LOADER_NAME, LAYOUT_INFO + NAME_OFFSET);
	memcpy(info + NAME_OFFSET, name, sizeof(name));
	fill_mmap(&plan->map, info);
	if (plan->initrd_bytes)
		fill_module(plan, info);
}

int multiboot_place(struct boot_plan *plan, struct boot_state *state,
		    struct err *err)
{
	uint8_t info[LAYOUT_INFO_BYTES] = {0};
	int r;

	fill_info(plan, info);
	r = plan_write(plan, LAYOUT_INFO, info, sizeof(info), err);
	if (r == 0)
		r = segments_place(plan, false, state, err);
	state->rip = plan->img->multiboot_entry;
	state->rax = BOOTLOADER_MAGIC;
	state->rbx = LAYOUT_INFO;
	state->cr0 = CR0_PE | CR0_ET;
	return r;
}
