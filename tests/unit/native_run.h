/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run an instruction, or a few, on the real processor, from a given state, and see
 * what became of it.
 */
#ifndef TESTS_UNIT_NATIVE_RUN_H
#define TESTS_UNIT_NATIVE_RUN_H
#include <stdint.h>

/* Code and data are at these addresses; from the end of the data on there is nothing. */
#define RUN_CODE     UINT64_C(0x10000000)
#define RUN_DATA_END UINT64_C(0x10200000)
#define RUN_DATA     (RUN_DATA_END - 0x2000)
#define RUN_WINDOW   1024U /* bytes of data that a run fills and compares */

/**
 * struct run_state - what goes into a run and what comes out.
 * @fx: image of FXSAVE64
 * @gpr: by the architecture's numbers; RSP is not used
 * @flags: arithmetic bits of RFLAGS
 * @vector: exception that the instruction raised, or 0
 * @fault: address of the instruction that raised it, or 0
 * @window: address of the data that @mem is the contents of
 */
struct run_state {
	uint8_t fx[512] __attribute__((aligned(16)));
	uint64_t gpr[16];
	uint64_t flags;
	uint64_t vector;
	uint64_t fault;
	uint64_t window;
	uint8_t mem[RUN_WINDOW];
};

#define FX_FCW   0
#define FX_FSW   2
#define FX_FTW   4
#define FX_MXCSR 24
#define FX_ST    32
#define FX_XMM   160

/** native_setup() - map code and data. Return: 0 or -errno. */
int native_setup(void);

/**
 * native_set_code() - the instructions that native_step() executes; their faults are
 * caught from now on.
 */
void native_set_code(const uint8_t *bytes, unsigned int n_bytes);

/** native_step() - execute them, up to the first that faults. */
void native_step(struct run_state *s);

#endif
