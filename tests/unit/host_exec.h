/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs machine code on the real processor, with all registers given, and tells how it ended.
 *
 * The code runs in a process of its own, host_worker.c, that shares with the test the pages that
 * the code may touch and has hardly any others: a wild address faults there as it does in the
 * guest, whatever a sanitizer has put into the address space of the test.
 */
#ifndef TESTS_UNIT_HOST_EXEC_H
#define TESTS_UNIT_HOST_EXEC_H
#include <stdbool.h>
#include <stdint.h>

#define HOST_X87_BYTES \
	160 /* of the image of FXSAVE: up to and with the registers */

/* User-visible state; gpr in the architecture's order. */
struct host_state {
	uint64_t gpr[16];
	uint64_t rip;
	uint64_t rflags;
	uint8_t x87[HOST_X87_BYTES];
	uint8_t xmm[16][16];
	uint32_t mxcsr;
	bool is_32; /* run in compatibility mode; upper halves of registers mean nothing */
};

/**
 * struct host_end - how the code ended.
 * @vector: exception, 3 for INT3
 * @code: its error code
 * @cr2: address of a page fault
 */
struct host_end {
	unsigned int vector;
	uint32_t code;
	uint64_t cr2;
};

/** host_exec_start() - start the process, with a base of GS for the code. Fails the test if not. */
void host_exec_start(uint64_t gs_base);

/** host_exec_stop() - end it, and unmap what was mapped. */
void host_exec_stop(void);

/**
 * host_exec_map() - map zeroed pages at the same address in the process and here, where they
 * can be read, written if @prot has it, and never executed.
 */
void host_exec_map(uint64_t addr, uint64_t n_pages, int prot);

/** host_exec() - run from state->rip until a signal; state is updated. */
struct host_end host_exec(struct host_state *state);

#endif
