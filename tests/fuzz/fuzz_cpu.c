/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as code: decoded and executed in each way that must make no difference, interpreted
 * under nested and under shadow paging and translated, after which registers and memory must be
 * the same; and one instruction at a time, which must not break anything.
 *
 * An input is a byte of flags, a seed for registers and data, and the code.
 */
#include <stdlib.h>
#include <string.h>

#include <base/verify.h>
#include <cpu/feature_set.h>

#include "../unit/cpu_harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FLAG_32    0x01
#define FLAG_USER  0x02
#define FLAG_CROSS 0x04 /* the code begins at the end of a page */
#define FLAG_SHOW  0x08 /* all features are shown */
#define FLAG_LOCKED \
	0x10 /* more processors are shown, so LOCK is taken seriously */

#define CODE      UINT64_C(0x400000) /* two pages that may be written */
#define DATA      UINT64_C(0x410000)
#define STACK     UINT64_C(0x420000)
#define MAX_CODE  256U
#define MAX_INSNS 3000
#define SLICE     512

/* What an input comes to. */
struct outcome {
	enum cpu_exit exit;
	uint64_t insns;
	uint64_t gpr[REG_RIP + 1];
	uint64_t rflags;
	uint16_t sel[SEG_COUNT];
	uint64_t cr0, cr2, cr3, cr4, efer;
	uint64_t memory; /* hash */
	uint8_t x87[160];
	uint8_t xmm[256];
};

enum variant {
	INTERPRETED,
	TRANSLATED,
	SHADOW,
	SINGLE,
	N_VARIANTS,
};

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
	return *seed ^ *seed >> 33;
}

/* Half of the registers point somewhere useful. */
static void set_registers(struct cpu *c, uint64_t seed)
{
	for (unsigned int i = 0; i < 16; i++) {
		const uint64_t v = next_random(&seed);

		c->gpr[i] = i == REG_RSP       ? STACK + 0x800
			    : (seed >> 40 & 1) ? DATA + (v & 0xfff)
			    : (seed >> 41 & 1) ? v & 0xff
					       : v;
	}
	for (unsigned int i = 0; i < sizeof(c->xmm) / 8; i++) {
		const uint64_t v = next_random(&seed);

		memcpy((uint8_t *)c->xmm + 8 * (size_t)i, &v, 8);
	}
	cpu_set_rflags(c, RFLAGS_IF | (seed & RFLAGS_ARITH));
}

static void fill_data(struct cpu_harness *h, uint64_t seed)
{
	uint64_t words[PAGE_SIZE / 8];

	for (unsigned int i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = next_random(&seed);
	cpu_harness_write(h, DATA, words, sizeof(words));
}

static struct cpu_harness *new_machine(unsigned int flags, enum variant variant)
{
	const bool all = flags & FLAG_SHOW;
	const struct cpu_features features = {
		.pcid = all,
		.fsgsbase = all,
		.pku = all,
		.umip = all,
		.repeatable = true,
		.no_translate = variant != TRANSLATED,
		.translate_at_once = variant == TRANSLATED,
		.n_cpus = flags & FLAG_LOCKED ? 2 : 1,
		.tsc_khz = 1000000,
	};
	struct mmu_options mmu = mmu_options_default();
	const uint64_t user = flags & FLAG_USER ? PTE_U : 0;

	mmu.mode = variant == SHADOW ? MMU_SOFTWARE : MMU_HARDWARE;
	struct cpu_harness *h = cpu_harness_new(&features, &mmu);

	cpu_harness_map(h, CODE, 2, PTE_P | PTE_W | user);
	cpu_harness_map(h, DATA, 1, PTE_P | PTE_W | user);
	cpu_harness_map(h, STACK, 1, PTE_P | PTE_W | user);
	return h;
}

static uint64_t hash_memory(struct cpu_harness *h)
{
	uint64_t words[PAGE_SIZE / 8];
	uint64_t hash = 0;

	for (uint64_t at = 0; at < h->next_page; at += PAGE_SIZE) {
		VERIFY(guestmem_read(h->mem, gpa(at), words, sizeof(words)));
		for (unsigned int i = 0; i < ARRAY_SIZE(words); i++)
			hash = (hash ^ words[i]) * UINT64_C(0x100000001b3) +
			       (hash >> 29);
	}
	return hash;
}

static void take_outcome(struct cpu_harness *h, struct outcome *out)
{
	const struct cpu *c = h->cpu;

	memcpy(out->gpr, c->gpr, sizeof(out->gpr));
	out->rflags = cpu_rflags(c);
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		out->sel[i] = c->seg[i].sel;
	out->cr0 = c->cr0;
	out->cr2 = c->cr2;
	out->cr3 = c->cr3;
	out->cr4 = c->cr4;
	out->efer = c->efer;
	out->memory = hash_memory(h);
	memcpy(out->x87, &c->x87, sizeof(out->x87));
	memcpy(out->xmm, c->xmm, sizeof(out->xmm));
}

static void run(unsigned int flags, uint64_t seed, const uint8_t *code,
		size_t n_code, enum variant variant, struct outcome *out)
{
	struct cpu_harness *h = new_machine(flags, variant);
	struct cpu *c = h->cpu;
	const uint64_t at = CODE + (flags & FLAG_CROSS
					    ? PAGE_SIZE - 1 - (seed & 31)
					    : 64 + (seed & 63));
	const uint64_t start = cpu_retired(c);

	memset(out, 0, sizeof(*out));
	fill_data(h, seed);
	cpu_harness_write(h, at, code, n_code);
	cpu_harness_set_mode(h, flags & FLAG_32 ? 32 : 64,
			     flags & FLAG_USER ? 3 : 0);
	set_registers(c, seed);
	if (variant == SINGLE)
		c->dr[7] |= 1;
	c->gpr[REG_RIP] = at;
	cpu_state_changed(c);
	out->exit = CPU_EXIT_SLICE;
	while (out->exit == CPU_EXIT_SLICE && cpu_retired(c) - start < MAX_INSNS)
		out->exit = cpu_run(c, SLICE);
	out->insns = cpu_retired(c) - start;
	take_outcome(h, out);
	cpu_harness_free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome outcome[N_VARIANTS];
	uint64_t seed;

	if (size < 10)
		return 0;
	memcpy(&seed, data + 1, sizeof(seed));
	data += 9;
	size -= 9;
	const size_t n_code = size < MAX_CODE ? size : MAX_CODE;

	for (unsigned int v = 0; v < N_VARIANTS; v++)
		run(data[-9], seed, data, n_code, (enum variant)v, &outcome[v]);
	/* Where a run is cut off depends on how it goes from block to block. */
	for (unsigned int v = TRANSLATED; v <= SHADOW; v++)
		if (outcome[v].exit != CPU_EXIT_SLICE &&
		    outcome[INTERPRETED].exit != CPU_EXIT_SLICE)
			VERIFY(!memcmp(&outcome[v], &outcome[INTERPRETED],
				       sizeof(outcome[v])));
	return 0;
}
