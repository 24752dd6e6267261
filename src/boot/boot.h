/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a kernel: reads the files, places everything in guest memory and says in which state
 * the first processor starts. Nothing here knows an engine.
 *
 * Kernel files, told apart by their contents:
 *	bzImage (64-bit), unpacked here	-> its vmlinux, Linux 64-bit protocol
 *	ELF64 x86-64 with a PVH note	-> PVH
 *	ELF64 x86-64 without one	-> Linux 64-bit protocol (vmlinux)
 *	ELF32 with a multiboot header	-> multiboot 1
 *	ELF32 i386 with a PVH note	-> PVH
 *	flat with a multiboot header that says where it goes -> multiboot 1
 *
 *	struct boot_config cfg = {.kernel_path = k, .initrd_path = i, .cmdline = c,
 *				  .rsdp = gpa(ACPI_BASE)};
 *	struct boot_state state;
 *	r = boot_load(mem, &cfg, &state, &err);
 */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H
#include <base/error.h>
#include <base/types.h>
#include <mem/guestmem.h>

struct boot_kernel;

enum boot_protocol {
	BOOT_AUTO, /* as the list above says */
	BOOT_LINUX64, /* Linux 64-bit boot protocol: long mode, RSI = boot_params */
	BOOT_PVH,     /* 32-bit protected mode, EBX = start_info */
	BOOT_MULTIBOOT, /* 32-bit protected mode, EAX = magic, EBX = information */
};

/**
 * struct boot_config - what to boot.
 * @kernel_path: kernel file
 * @initrd_path: initial RAM disk (first module of a multiboot kernel), or NULL
 * @cmdline: command line, or NULL for an empty one. A multiboot kernel gets @kernel_path and a
 *	blank before it, as other loaders do.
 * @rsdp: address of the ACPI RSDP, which the caller writes; 0 if there are no tables
 * @seed: 32 random bytes for the guest's random number generator, or NULL for none; Linux
 *	64-bit protocol only
 * @protocol: BOOT_AUTO, or one that the file must be able to do
 * @n_threads: that unpack the kernel; 0: as many as this process has processors, within reason
 * @kernel: @kernel_path, read before; NULL: it is read now
 */
struct boot_config {
	const char *kernel_path;
	const char *initrd_path;
	const char *cmdline;
	gpa_t rsdp;
	const uint8_t *seed;
	enum boot_protocol protocol;
	unsigned int n_threads;
	const struct boot_kernel *kernel;
};

#define BOOT_SEED_BYTES 32

/**
 * struct boot_segment - one segment register.
 * @sel: selector, valid in the GDT of boot_state
 * @attr: bits 8 to 23 of the descriptor's second word, with the limit's bits zero (as SEG_* of
 *	cpu/cpu.h)
 * @limit: in bytes, inclusive
 * @base: first byte
 */
struct boot_segment {
	uint16_t sel;
	uint16_t attr;
	uint32_t limit;
	uint64_t base;
};

/**
 * struct boot_state - how the first processor starts.
 * @protocol: which one was used; never BOOT_AUTO
 * @long_mode: 64-bit code with paging on; else 32-bit protected mode with paging off
 * @rip: first instruction
 * @rsp: stack, 0 if the protocol gives none
 * @rax: general register, as are @rbx and @rsi; all others are zero
 * @rflags: only the bit that is always one
 * @cr0: control register, as are @cr3 and @cr4
 * @efer: LME and LMA, or zero
 * @gdt_base: address of a GDT that holds the segments below
 * @gdt_limit: its limit
 * @code: CS
 * @data: DS, ES, SS, FS and GS
 * @tss: TR, a busy TSS
 * @kernel_start: first byte of the kernel in guest memory
 * @kernel_end: end of it with its BSS
 * @initrd_start: where the initrd is
 * @initrd_bytes: its size, 0 if there is none
 * @written_bytes: how much guest memory was written; pages of zeroes mostly are not
 *
 * The IDT register is base 0, limit 0; interrupts are off.
 */
struct boot_state {
	enum boot_protocol protocol;
	bool long_mode;
	uint64_t rip;
	uint64_t rsp;
	uint64_t rax;
	uint64_t rbx;
	uint64_t rsi;
	uint64_t rflags;
	uint64_t cr0;
	uint64_t cr3;
	uint64_t cr4;
	uint64_t efer;
	gpa_t gdt_base;
	uint16_t gdt_limit;
	struct boot_segment code;
	struct boot_segment data;
	struct boot_segment tss;
	gpa_t kernel_start;
	gpa_t kernel_end;
	gpa_t initrd_start;
	uint64_t initrd_bytes;
	uint64_t written_bytes;
};

/**
 * boot_kernel_new() - read a kernel file and understand it, which needs no guest memory.
 * @path: kernel file
 * @protocol: how it will be booted, as in struct boot_config
 * @ret: set on success; ended with boot_kernel_free()
 * @err: message on failure: names the file
 *
 * Return: 0, or what boot_load() returns for a kernel file. Context: any thread.
 */
int boot_kernel_new(const char *path, enum boot_protocol protocol,
		    struct boot_kernel **ret, struct err *err)
	__attribute__((warn_unused_result));

/** boot_kernel_free() - NULL is fine. Return: NULL. */
struct boot_kernel *boot_kernel_free(struct boot_kernel *kernel);

/**
 * boot_load() - put a kernel and what it needs into guest memory.
 * @mem: guest memory of a VM that has not run yet (all of it reads as zero, but for the ACPI
 *	tables)
 * @cfg: what to boot
 * @ret_state: how the first processor starts; set on success
 * @err: message on failure: names the file and the numbers that did not fit
 *
 * Return: 0; -ENOENT, -EACCES and the like if a file cannot be read; -ENOEXEC if the kernel file
 * is not one for us, or truncated, or damaged; -E2BIG if the command line is too long; -ENOSPC
 * if guest memory is too small; -ENOMEM if host memory is.
 * Context: before the VM runs.
 */
int boot_load(struct guestmem *mem, const struct boot_config *cfg,
	      struct boot_state *ret_state, struct err *err)
	__attribute__((warn_unused_result));

/** boot_protocol_name() - its name for people. */
const char *boot_protocol_name(enum boot_protocol protocol);

#endif
