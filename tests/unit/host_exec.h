/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs machine code on the real processor, with all registers given, and tells how it ended.
 *
 * Entry and exit are signals: the handler's context is replaced by the wanted state, and the next
 * signal (INT3 at the end of the code, or a fault) gives the state back. So nothing of
 * the test itself is in the way of any register.
 */
#ifndef TESTS_UNIT_HOST_EXEC_H
#define TESTS_UNIT_HOST_EXEC_H
#include <stdbool.h>
#include <stdint.h>

/* User-visible state; gpr in the architecture's order. */
struct host_state {
	uint64_t gpr[16];
	uint64_t rip;
	uint64_t rflags;
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

/** host_exec_init() - install signal handlers, load data segments that 32-bit code can use. */
void host_exec_init(void);

/** host_exec_set_gs() - base of GS for the code. */
void host_exec_set_gs(uint64_t base);

/** host_exec() - run from state->rip until a signal; state is updated. */
struct host_end host_exec(struct host_state *state);

#endif
