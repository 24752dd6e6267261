/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the loader puts things in guest memory. All of it lies below 1 MiB, in what a PC calls
 * conventional memory, as far up as fits, so that a bare test program may be linked low.
 */
#ifndef BOOT_LAYOUT_H
#define BOOT_LAYOUT_H
#include <assert.h>

#include <dev/acpi.h>
#include <mem/guestmem.h>

/* End of conventional memory; a PC keeps its extended BIOS data from there on. */
#define LAYOUT_LOW_END UINT64_C(0x9fc00)

/* Boot data: everything from here to LAYOUT_DATA_END is written by the loader. */
#define LAYOUT_DATA       UINT64_C(0x80000)
#define LAYOUT_DATA_END   UINT64_C(0x90000)

#define LAYOUT_GDT        UINT64_C(0x80000)
#define LAYOUT_GDT_BYTES  0x30
#define LAYOUT_TSS        UINT64_C(0x80100)
#define LAYOUT_TSS_BYTES  0x68
#define LAYOUT_SEED       UINT64_C(0x80200) /* setup_data with a random seed */
#define LAYOUT_SEED_BYTES 0x100
#define LAYOUT_ZERO_PAGE  UINT64_C(0x81000) /* boot_params */
#define LAYOUT_PML4       UINT64_C(0x82000)
#define LAYOUT_PDPT       UINT64_C(0x83000)
#define LAYOUT_PD         UINT64_C(0x84000) /* one per GiB */
#define LAYOUT_MAPPED_GIB 4
#define LAYOUT_STACK      UINT64_C(0x88000) /* grows down from LAYOUT_STACK_TOP */
#define LAYOUT_STACK_TOP  UINT64_C(0x88ff0)
#define LAYOUT_INFO \
	UINT64_C(0x89000) /* PVH start_info, multiboot information */
#define LAYOUT_INFO_BYTES    0x1000
#define LAYOUT_CMDLINE       UINT64_C(0x8a000)
#define LAYOUT_CMDLINE_BYTES 0x2000 /* with its terminating zero */

/* Firmware tables, where PCs have them; never given to the guest as RAM. */
#define LAYOUT_FIRMWARE    UINT64_C(0xe0000)
#define LAYOUT_HIGH_MEMORY UINT64_C(0x100000) /* RAM again from here on */

/* An initrd must end below this: what Linux's setup header asks for (initrd_addr_max). */
#define LAYOUT_INITRD_MAX UINT64_C(0x7fffffff)

static_assert(LAYOUT_GDT == LAYOUT_DATA &&
		      LAYOUT_GDT + LAYOUT_GDT_BYTES <= LAYOUT_TSS &&
		      LAYOUT_TSS + LAYOUT_TSS_BYTES <= LAYOUT_SEED &&
		      LAYOUT_SEED + LAYOUT_SEED_BYTES <= LAYOUT_ZERO_PAGE &&
		      LAYOUT_ZERO_PAGE + PAGE_SIZE <= LAYOUT_PML4 &&
		      LAYOUT_PML4 + PAGE_SIZE <= LAYOUT_PDPT &&
		      LAYOUT_PDPT + PAGE_SIZE <= LAYOUT_PD &&
		      LAYOUT_PD + LAYOUT_MAPPED_GIB * PAGE_SIZE <= LAYOUT_STACK &&
		      LAYOUT_STACK_TOP <= LAYOUT_INFO &&
		      LAYOUT_INFO + LAYOUT_INFO_BYTES <= LAYOUT_CMDLINE &&
		      LAYOUT_CMDLINE + LAYOUT_CMDLINE_BYTES <= LAYOUT_DATA_END,
	      "boot data must not overlap");
static_assert(LAYOUT_DATA_END <= LAYOUT_LOW_END, "boot data lies in RAM");
static_assert(LAYOUT_FIRMWARE <= ACPI_BASE &&
		      ACPI_BASE + ACPI_MAX_BYTES <= LAYOUT_HIGH_MEMORY,
	      "ACPI tables lie in what the guest does not use as RAM");
static_assert(LAYOUT_INITRD_MAX < GUESTMEM_HOLE_START,
	      "an initrd lies below the device hole");

#endif
