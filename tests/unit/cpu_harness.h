/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs snippets of machine code on the software processor, for unit tests.
 *
 * The guest is in long mode with paging on. Tests map pages where they like; tables, descriptors
 * and exception handlers live in a supervisor area at HARNESS_SYSTEM. Exceptions are delivered
 * through a real IDT to handlers that halt, and the harness reads the frame that was pushed.
 */
#ifndef TESTS_UNIT_CPU_HARNESS_H
#define TESTS_UNIT_CPU_HARNESS_H
#include <cpu/cpu.h>

#define HARNESS_SYSTEM    UINT64_C(0xffff800000000000)
#define HARNESS_RAM_BYTES (UINT64_C(64) << 20)
#define HARNESS_MMIO \
	UINT64_C(0xd0000000) /* guest physical, one page of bytes that are kept */
#define HARNESS_N_IO 64

/* Selectors of the harness's GDT. */
enum harness_selector {
	HARNESS_CODE64 = 0x08,
	HARNESS_DATA = 0x10,
	HARNESS_CODE32 = 0x18,
	HARNESS_CODE16 = 0x20,
	HARNESS_USER_DATA = 0x28 | 3,
	HARNESS_USER_CODE64 = 0x30 | 3,
	HARNESS_USER_CODE32 = 0x38 | 3,
	HARNESS_USER_CODE16 = 0x40 | 3,
	HARNESS_TSS = 0x50,
};

/* Port and device accesses as the machine around the processor saw them. */
struct harness_io {
	bool is_write;
	bool is_mmio;
	uint64_t addr;
	uint64_t value;
	unsigned int size;
};

/**
 * struct cpu_harness - a processor with memory.
 * @cpu: tests set and read registers here; call cpu_state_changed() after control registers
 * @io: accesses so far; @n_io of them, the first HARNESS_N_IO kept
 * @mmio: the device page
 * @pio_value: what port reads return
 */
struct cpu_harness {
	struct guestmem *mem;
	struct cpu *cpu;
	uint64_t next_page; /* first gpa that is not used yet */
	uint64_t root;      /* gpa of the top table */
	struct harness_io io[HARNESS_N_IO];
	unsigned int n_io;
	uint8_t mmio[4096];
	uint32_t pio_value;
	uint64_t tsc;
};

enum harness_outcome {
	HARNESS_HALTED,    /* HLT at CPL 0; rip is behind it */
	HARNESS_EXCEPTION, /* vector, error code, and what was pushed */
	HARNESS_LIMIT,     /* still running after the instructions allowed */
	HARNESS_SHUTDOWN,
	HARNESS_BAD_FETCH,
};

/**
 * struct harness_end - how a run ended.
 * @rip, @rflags, @rsp, @cs: of the interrupted code if there was an exception
 * @cr2: as after a page fault
 * @insns: instructions retired
 */
struct harness_end {
	enum harness_outcome outcome;
	unsigned int vector;
	uint32_t code;
	uint64_t rip;
	uint64_t rflags;
	uint64_t rsp;
	uint64_t cs;
	uint64_t cr2;
	uint64_t insns;
};

/** cpu_harness_new() - @features and @mmu may be NULL for defaults. Fails the test if it cannot. */
struct cpu_harness *cpu_harness_new(const struct cpu_features *features,
				    const struct mmu_options *mmu);

/**
 * cpu_harness_reset() - the processor, its caches and the devices as they were made; guest
 * memory and what is mapped stay.
 */
void cpu_harness_reset(struct cpu_harness *h);

/** cpu_harness_free() - end it; NULL is fine. Return: NULL. */
struct cpu_harness *cpu_harness_free(struct cpu_harness *h);

/**
 * cpu_harness_map() - map fresh zeroed RAM.
 * @addr: page-aligned linear address
 * @n_pages: contiguous in guest physical memory as well
 * @flags: PTE_P | PTE_W | PTE_U | PTE_NX …
 *
 * Return: guest physical address of the first page.
 */
uint64_t cpu_harness_map(struct cpu_harness *h, uint64_t addr, uint64_t n_pages,
			 uint64_t flags);

/** cpu_harness_map_at() - map one page to a given guest physical address, or change its flags. */
void cpu_harness_map_at(struct cpu_harness *h, uint64_t addr, uint64_t gpa_addr,
			uint64_t flags);

/** cpu_harness_gpa() - guest physical address of a mapped linear one. */
uint64_t cpu_harness_gpa(struct cpu_harness *h, uint64_t addr);

/** cpu_harness_write() - copy into mapped pages (linear address), as a device does. */
void cpu_harness_write(struct cpu_harness *h, uint64_t addr, const void *buf,
		       size_t len);

/** cpu_harness_read() - copy out of mapped pages. */
void cpu_harness_read(struct cpu_harness *h, uint64_t addr, void *buf,
		      size_t len);

/**
 * cpu_harness_set_mode() - load CS, SS and data segments, flat.
 * @bits: 64, 32 or 16 (32 and 16 are compatibility mode)
 * @cpl: 0 or 3
 */
void cpu_harness_set_mode(struct cpu_harness *h, unsigned int bits,
			  unsigned int cpl);

/** cpu_harness_set_legacy() - paging and long mode off; code of @bits (32 or 16), flat, CPL 0. */
void cpu_harness_set_legacy(struct cpu_harness *h, unsigned int bits);

/**
 * cpu_harness_run() - run from a linear address until HLT, an exception, or @max_insns.
 * At CPL 3 code cannot halt: end it with an instruction that raises.
 */
struct harness_end cpu_harness_run(struct cpu_harness *h, uint64_t rip,
				   uint64_t max_insns);

#endif
