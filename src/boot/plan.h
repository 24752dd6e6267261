/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A boot that has been checked and can be carried out, and the protocols that carry it out.
 * Only for this folder and its tests.
 */
#ifndef BOOT_PLAN_H
#define BOOT_PLAN_H
#include <boot/boot.h>
#include <boot/kernel_image.h>
#include <boot/memmap.h>

/**
 * struct boot_plan - what goes where. Nothing has been written yet, and nothing can fail any more
 * but guest memory and the reading of the initrd.
 * @mem: guest memory
 * @cfg: what the caller wants
 * @img: the kernel
 * @map: the guest's memory map
 * @cmdline: command line as the guest sees it
 * @initrd_start: where the initrd goes
 * @initrd_bytes: 0 if there is none
 * @written_bytes: counted while it is carried out
 */
struct boot_plan {
	struct guestmem *mem;
	const struct boot_config *cfg;
	const struct kernel_image *img;
	struct memmap map;
	const char *cmdline;
	uint64_t initrd_start;
	uint64_t initrd_bytes;
	uint64_t written_bytes;
};

/**
 * plan_write() - write into guest memory, but for pages of zeroes.
 * @plan: counts what is written
 * @addr: guest physical address
 * @data: what
 * @bytes: how much
 * @err: message on failure
 *
 * Return: 0, or -ENOMEM if guest memory cannot be written.
 */
int plan_write(struct boot_plan *plan, uint64_t addr, const uint8_t *data,
	       uint64_t bytes, struct err *err)
	__attribute__((warn_unused_result));

/** linux64_place() - boot_params and page tables; fills @state. Returns as plan_write(). */
int linux64_place(struct boot_plan *plan, struct boot_state *state,
		  struct err *err) __attribute__((warn_unused_result));

/** pvh_place() - start_info; fills @state. Returns as plan_write(). */
int pvh_place(struct boot_plan *plan, struct boot_state *state, struct err *err)
	__attribute__((warn_unused_result));

/** multiboot_place() - multiboot information; fills @state. Returns as plan_write(). */
int multiboot_place(struct boot_plan *plan, struct boot_state *state,
		    struct err *err) __attribute__((warn_unused_result));

/**
 * segments_place() - the GDT, and the segments that use it.
 * @plan: plan
 * @long_mode: a 64-bit code segment, or a 32-bit one
 * @state: gets GDT and segments
 * @err: message on failure
 *
 * Return: as plan_write().
 */
int segments_place(struct boot_plan *plan, bool long_mode,
		   struct boot_state *state, struct err *err)
	__attribute__((warn_unused_result));

#endif
