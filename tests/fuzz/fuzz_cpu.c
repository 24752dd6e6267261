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

/* Of a machine, with its tables; more than they come to. */
#define MAX_PAGES 32

/* What an input comes to. */
/* Without padding: two of them are compared as bytes. */
struct outcome {
	enum cpu_exit exit;
	uint16_t sel[SEG_COUNT];
	uint64_t insns;
	uint64_t gpr[REG_RIP + 1];
	uint64_t rflags;
	uint64_t cr0, cr2, cr3, cr4, efer;
	uint8_t x87[160];
	uint8_t xmm[256];
	uint8_t memory[MAX_PAGES][PAGE_SIZE];
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

/*
 * Making a machine takes longer than most inputs, so they are kept, with what their memory was
 * like at the beginning.
 */
struct machine_kept {
	struct cpu_harness *h;
	struct mmu_options mmu;
	uint64_t home_pages;
	uint8_t memory[MAX_PAGES][PAGE_SIZE];
};

static uint64_t home_pages(const struct cpu_harness *h)
{
	return guestmem_stats(h->mem).pages.pages[PHYSMAP_HOME];
}

static void read_memory(struct cpu_harness *h,
			uint8_t memory[MAX_PAGES][PAGE_SIZE])
{
	VERIFY(guestmem_read(h->mem, gpa(0), memory, h->next_page));
}

static void new_machine(struct machine_kept *m, bool show, bool locked,
			enum variant variant)
{
	const struct cpu_features features = {
		.pcid = show,
		.fsgsbase = show,
		.pku = show,
		.umip = show,
		.repeatable = true,
		.no_translate = variant != TRANSLATED,
		.translate_at_once = variant == TRANSLATED,
		.n_cpus = locked ? 2 : 1,
		.tsc_khz = 1000000,
	};
	uint8_t breaks[2 * PAGE_SIZE];

	m->mmu = mmu_options_default();
	m->mmu.mode = variant == SHADOW ? MMU_SOFTWARE : MMU_HARDWARE;
	m->h = cpu_harness_new(&features, &m->mmu);
	cpu_harness_map(m->h, CODE, 2, PTE_P | PTE_W);
	cpu_harness_map(m->h, DATA, 1, PTE_P | PTE_W);
	cpu_harness_map(m->h, STACK, 1, PTE_P | PTE_W);
	/* Code that runs on behind its end is over there. */
	memset(breaks, 0xcc, sizeof(breaks));
	cpu_harness_write(m->h, CODE, breaks, sizeof(breaks));
	VERIFY(m->h->next_page <= sizeof(m->memory));
	read_memory(m->h, m->memory);
	m->home_pages = home_pages(m->h);
}

/* Pages that an input reached by other ways than what is mapped: the first, and beyond. */
static void drop_strays(struct machine_kept *m)
{
	const ppn_t first = ppn(m->h->next_page / PAGE_SIZE);
	const uint64_t n = HARNESS_RAM_BYTES / PAGE_SIZE - first.v;

	if (home_pages(m->h) == m->home_pages)
		return;
	VERIFY(guestmem_drop(m->h->mem, ppn(0), PHYSMAP_ZERO) == MEM_OK);
	VERIFY(guestmem_drop_run(m->h->mem, first, n, PHYSMAP_ZERO) == MEM_OK);
	VERIFY(home_pages(m->h) == m->home_pages);
}

/* @now: what its memory is like */
static void restore_memory(struct machine_kept *m,
			   uint8_t now[MAX_PAGES][PAGE_SIZE])
{
	for (uint64_t i = 1; i < m->h->next_page / PAGE_SIZE; i++)
		if (memcmp(now[i], m->memory[i], PAGE_SIZE))
			VERIFY(guestmem_write(m->h->mem, gpa(i * PAGE_SIZE),
					      m->memory[i], PAGE_SIZE));
	drop_strays(m);
}

/* What a machine has cached of one input's memory must not hide faults of another's. */
static void forget(struct machine_kept *m)
{
	struct cpu *c = m->h->cpu;
	struct err err;

	cpu_harness_reset(m->h);
	mmu_free(c->mmu);
	VERIFY(!mmu_new(m->h->mem, &c->tlb, &m->mmu, &c->mmu, &err));
	tlb_flush_all(&c->tlb);
	cpu_state_changed(c);
}

static struct machine_kept *machine_for(unsigned int flags, enum variant variant)
{
	static struct machine_kept kept[2][2][N_VARIANTS];
	const bool show = flags & FLAG_SHOW;
	const bool locked = flags & FLAG_LOCKED;
	struct machine_kept *m = &kept[show][locked][variant];

	if (m->h)
		forget(m);
	else
		new_machine(m, show, locked, variant);
	return m;
}

static void map_all(struct cpu_harness *h, uint64_t flags)
{
	static const uint64_t pages[] = {CODE, CODE + PAGE_SIZE, DATA, STACK};

	for (unsigned int i = 0; i < ARRAY_SIZE(pages); i++)
		cpu_harness_map_at(h, pages[i], cpu_harness_gpa(h, pages[i]),
				   PTE_P | PTE_W | flags);
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
	read_memory(h, out->memory);
	memcpy(out->x87, &c->x87, sizeof(out->x87));
	memcpy(out->xmm, c->xmm, sizeof(out->xmm));
}

static void run(unsigned int flags, uint64_t seed, const uint8_t *code,
		size_t n_code, enum variant variant, struct outcome *out)
{
	struct machine_kept *m = machine_for(flags, variant);
	struct cpu_harness *h = m->h;
	struct cpu *c = h->cpu;
	const uint64_t at = CODE + (flags & FLAG_CROSS
					    ? PAGE_SIZE - 1 - (seed & 31)
					    : 64 + (seed & 63));
	const uint64_t start = cpu_retired(c);

	map_all(h, flags & FLAG_USER ? PTE_U : 0);
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
	restore_memory(m, out->memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct outcome outcome[N_VARIANTS];
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
