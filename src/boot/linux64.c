/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Linux 64-bit boot protocol: long mode, the first 4 GiB mapped to themselves, RSI at
 * boot_params. [LINUX-BOOT "64-bit Boot Protocol"]
 */
#include <string.h>

#include <arch/x86.h>
#include <boot/bytes.h>
#include <boot/layout.h>
#include <boot/plan.h>

/* Offsets in boot_params. [ZERO-PAGE] */
#define ACPI_RSDP_ADDR     0x070
#define E820_ENTRIES       0x1e8
#define SETUP_HEADER       0x1f1
#define BOOT_FLAG          0x1fe
#define HEADER_MAGIC       0x202
#define HEADER_MAGIC_VALUE 0x53726448U /* "HdrS" */
#define VERSION            0x206
#define TYPE_OF_LOADER     0x210
#define LOADFLAGS          0x211
#define RAMDISK_IMAGE      0x218
#define RAMDISK_SIZE       0x21c
#define CMD_LINE_PTR       0x228
#define KERNEL_ALIGNMENT   0x230
#define CMDLINE_SIZE       0x238
#define SETUP_DATA         0x250
#define E820_TABLE         0x2d0

#define LOADER_UNDEFINED   0xff
#define LOADED_HIGH        0x01
#define PROTOCOL_VERSION   0x020f
#define ALIGNMENT_BYTES    0x200000

#define SETUP_RNG_SEED     9
#define SETUP_DATA_BYTES   16 /* next, type, length */
#define TABLE_ENTRIES      512
#define LARGE_PAGE_BYTES   (UINT64_C(2) << 20)

static_assert(SETUP_DATA_BYTES + BOOT_SEED_BYTES <= LAYOUT_SEED_BYTES,
	      "the seed fits its place");
static_assert(KERNEL_SETUP_START == SETUP_HEADER &&
		      KERNEL_SETUP_END <= E820_TABLE,
	      "the setup header has the same offsets in file and boot_params");

/* A bare vmlinux brings no header: write what the kernel reads of it. */
static void make_setup_header(uint8_t *zero_page)
{
	put_le16(zero_page + BOOT_FLAG, 0xaa55);
	put_le32(zero_page + HEADER_MAGIC, HEADER_MAGIC_VALUE);
	put_le16(zero_page + VERSION, PROTOCOL_VERSION);
	put_le32(zero_page + KERNEL_ALIGNMENT, ALIGNMENT_BYTES);
}

static void fill_zero_page(const struct boot_plan *plan, uint8_t *zero_page)
{
	const struct kernel_image *img = plan->img;

	if (img->setup_bytes)
		memcpy(zero_page + SETUP_HEADER, img->setup, img->setup_bytes);
	else
		make_setup_header(zero_page);
	zero_page[TYPE_OF_LOADER] = LOADER_UNDEFINED;
	zero_page[LOADFLAGS] |= LOADED_HIGH;
	put_le32(zero_page + CMD_LINE_PTR, LAYOUT_CMDLINE);
	put_le32(zero_page + CMDLINE_SIZE, (uint32_t)img->cmdline_max);
	put_le64(zero_page + ACPI_RSDP_ADDR, plan->cfg->rsdp.v);
	put_le32(zero_page + RAMDISK_IMAGE, (uint32_t)plan->initrd_start);
	put_le32(zero_page + RAMDISK_SIZE, (uint32_t)plan->initrd_bytes);
	put_le64(zero_page + SETUP_DATA, plan->cfg->seed ? LAYOUT_SEED : 0);

	zero_page[E820_ENTRIES] = (uint8_t)plan->map.n;
	memmap_put(&plan->map, zero_page + E820_TABLE, MEMMAP_ENTRY_BYTES);
}

static int place_seed(struct boot_plan *plan, struct err *err)
{
	uint8_t data[SETUP_DATA_BYTES + BOOT_SEED_BYTES] = {0};

	if (!plan->cfg->seed)
		return 0;
	put_le32(data + 8, SETUP_RNG_SEED);
	put_le32(data + 12, BOOT_SEED_BYTES);
	memcpy(data + SETUP_DATA_BYTES, plan->cfg->seed, BOOT_SEED_BYTES);
	return plan_write(plan, LAYOUT_SEED, data, sizeof(data), err);
}

static int place_tables(struct boot_plan *plan, struct err *err)
{
	uint8_t table[PAGE_SIZE] = {0};
	int r;

	put_le64(table, LAYOUT_PDPT | PTE_P | PTE_W);
	r = plan_write(plan, LAYOUT_PML4, table, sizeof(table), err);
	for (uint64_t g = 0; g < LAYOUT_MAPPED_GIB; g++)
		put_le64(table + g * 8,
			 (LAYOUT_PD + g * PAGE_SIZE) | PTE_P | PTE_W);
	if (r == 0)
		r = plan_write(plan, LAYOUT_PDPT, table, sizeof(table), err);
	for (uint64_t g = 0; r == 0 && g < LAYOUT_MAPPED_GIB; g++) {
		for (uint64_t i = 0; i < TABLE_ENTRIES; i++)
			put_le64(table + i * 8,
				 (g * TABLE_ENTRIES + i) * LARGE_PAGE_BYTES |
					 PTE_P | PTE_W | PTE_PS);
		r = plan_write(plan, LAYOUT_PD + g * PAGE_SIZE, table,
			       sizeof(table), err);
	}
	return r;
}

int linux64_place(struct boot_plan *plan, struct boot_state *state,
		  struct err *err)
{
	uint8_t zero_page[PAGE_SIZE] = {0};
	int r;

	fill_zero_page(plan, zero_page);
	r = plan_write(plan, LAYOUT_ZERO_PAGE, zero_page, sizeof(zero_page),
		       err);
	if (r == 0)
		r = place_seed(plan, err);
	if (r == 0)
		r = place_tables(plan, err);
	if (r == 0)
		r = segments_place(plan, true, state, err);
	state->long_mode = true;
	state->rip = plan->img->linux64_entry;
	state->rsp = LAYOUT_STACK_TOP;
	state->rsi = LAYOUT_ZERO_PAGE;
	state->cr0 = CR0_PE | CR0_ET | CR0_PG;
	state->cr3 = LAYOUT_PML4;
	state->cr4 = CR4_PAE;
	state->efer = EFER_LME | EFER_LMA;
	return r;
}
