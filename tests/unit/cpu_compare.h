/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the same code from the same state on the software processor and on the real one.
 *
 * Both have the same user-mode memory at the same addresses: code, data, a page that is
 * read-only, a stack, and nothing else. Code ends at the first INT3 or fault; all registers, the
 * flags that are not undefined, memory, and the fault with its address must agree.
 */
#ifndef TESTS_UNIT_CPU_COMPARE_H
#define TESTS_UNIT_CPU_COMPARE_H
#include <Zydis/Zydis.h>

#include "cpu_harness.h"
#include "host_exec.h"

#define CODE_BASE  UINT64_C(0x10000000)
#define CODE_PAGES 2
#define DATA_BASE \
	UINT64_C(0x20000000) /* nothing is mapped on either side of it */
#define DATA_PAGES    4
#define DATA_BYTES    (DATA_PAGES * PAGE_SIZE)
#define RO_BASE       UINT64_C(0x21000000) /* read-only */
#define STACK_BASE    UINT64_C(0x30000000)
#define STACK_PAGES   2
#define GS_BASE_VALUE UINT64_C(0x12345000)
#define MAX_CODE      64

/* One case. */
struct compare_case {
	uint8_t code[MAX_CODE];
	unsigned int len;
	struct host_state state;
	uint64_t undefined; /* flags that need not agree */
	char names[64];
};

/* Ways of running that must make no difference to the guest. */
struct compare_variant {
	unsigned int n_cpus; /* more than one: locked host instructions */
	bool single; /* one instruction per block, as with breakpoints set */
	enum mmu_mode mmu;
	bool is_32;
	unsigned int share; /* of the number of cases */
};

/**
 * struct cpu_compare - both processors.
 * @last_vector: how the last case ended in the guest
 */
struct cpu_compare {
	const struct compare_variant *variant;
	struct cpu_harness *h;
	uint8_t *guest_data; /* host pointers to the guest's memory */
	uint8_t *guest_stack;
	uint8_t *guest_code;
	ZydisDecoder decoder;
	uint64_t rng;
	unsigned int last_vector;
};

enum compare_result {
	COMPARE_SAME,
	COMPARE_DIFFERS, /* it was printed; memory is the same again */
	COMPARE_ENDLESS, /* the guest did not end, the host was not tried */
};

/** cpu_compare_new() - start both. Fails the test if it cannot. */
struct cpu_compare *cpu_compare_new(const struct compare_variant *variant,
				    uint64_t seed);

/** cpu_compare_free() - end them; NULL is fine. Return: NULL. */
struct cpu_compare *cpu_compare_free(struct cpu_compare *f);

/** compare_rnd(), compare_below() - random numbers, of 64 bits or below @n. */
uint64_t compare_rnd(struct cpu_compare *f);
uint64_t compare_below(struct cpu_compare *f, uint64_t n);

/** compare_value() - often one where carries, signs and zeros happen. */
uint64_t compare_value(struct cpu_compare *f);

/** compare_address() - where a memory operand is to be: mostly data, sometimes where it faults. */
uint64_t compare_address(struct cpu_compare *f, bool aligned);

/** compare_state() - random registers and flags, a place for the code. */
void compare_state(struct cpu_compare *f, struct compare_case *t);

/** compare_narrow() - keep what 32-bit code sees: lower halves of eight registers. */
void compare_narrow(struct host_state *s);

/**
 * compare_find_undefined() - which flags the code leaves undefined, by Zydis; shifts by a count not
 * known here may also leave flags as they were, so what was undefined before stays so.
 *
 * Return: false if the case is of no use, as undefined flags decide what it does.
 */
bool compare_find_undefined(struct cpu_compare *f, struct compare_case *t);

/** compare_stir() - new contents in part of the data and the stack, the same on both sides. */
void compare_stir(struct cpu_compare *f);

/** cpu_compare_run() - run a case on both. @show: print it in any case. */
enum compare_result cpu_compare_run(struct cpu_compare *f,
				    const struct compare_case *t, bool show);

#endif
