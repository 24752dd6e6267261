/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What single events of memory virtualization cost, in both modes.
 *
 *	bench-walk [ROUNDS]		default 201
 *
 * An MMU of each kind, with and without structure caches, on equal guest memories, in
 * turn: a few hundred operations with one, the same with the next, and so on. So whatever
 * disturbs one disturbs all. Prints medians over the rounds.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <arch/x86.h>
#include <mmu/mmu.h>

#define MIB      (UINT64_C(1) << 20)
#define RAM      (256 * MIB)
#define DATA     (48 * MIB) /* guest physical; mapped from address 0 on, shuffled */
#define N_PAGES  (192 * MIB / PAGE_SIZE)
#define ROOT     MIB
#define L1_TABLE (ROOT + 3 * PAGE_SIZE)
#define OPEN     (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)
#define CHUNK    512U
#define USER     MMU_ACC_USER

struct subject {
	const char *name;
	struct guestmem *mem;
	struct tlb tlb;
	struct mmu *mmu;
};

#define N_SUBJECTS 4U

/* An operation on one of @size pages. Only run() is timed. */
struct event {
	const char *name;
	uint64_t size;
	void (*prepare)(struct subject *s, uint64_t page);
	void (*run)(struct subject *s, uint64_t page);
};

static void die(const char *what)
{
	fprintf(stderr, "bench-walk: %s\n", what);
	exit(1);
}

static uint64_t rnd(uint64_t *rng)
{
	*rng = *rng * UINT64_C(6364136223846793005) + 1442695040888963407;
	return *rng >> 32;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Guest memory and tables. */

static void unmap_hook(void *ctx, ppn_t page)
{
	struct subject *s = ctx;

	mmu_unmap(s->mmu, page);
}

static void written_hook(void *ctx, gpa_t addr, uint64_t len)
{
	struct subject *s = ctx;

	mmu_table_written(s->mmu, addr, len);
}

static const struct guestmem_ops hooks = {
	.unmap = unmap_hook,
	.written = written_hook,
};

static void put(struct subject *s, uint64_t addr, uint64_t v)
{
	if (!guestmem_write(s->mem, gpa(addr), &v, sizeof(v)))
		die("no guest memory");
}

static uint64_t entry_addr(uint64_t page)
{
	return L1_TABLE + page * 8;
}

static uint64_t get(struct subject *s, uint64_t addr)
{
	uint64_t v = 0;

	if (!guestmem_read(s->mem, gpa(addr), &v, sizeof(v)))
		die("no guest memory");
	return v;
}

static void make_tables(struct subject *s)
{
	uint64_t rng = 1;

	put(s, ROOT, (ROOT + PAGE_SIZE) | OPEN);
	put(s, ROOT + PAGE_SIZE, (ROOT + 2 * PAGE_SIZE) | OPEN);
	for (uint64_t t = 0; t < N_PAGES / 512; t++)
		put(s, ROOT + 2 * PAGE_SIZE + 8 * t,
		    (L1_TABLE + t * PAGE_SIZE) | OPEN);
	for (uint64_t p = 0; p < N_PAGES; p++) {
		put(s, DATA + p * PAGE_SIZE, p);
		put(s, entry_addr(p), (DATA + p * PAGE_SIZE) | OPEN);
	}
	/* As after some uptime: neighbours are not next to each other. */
	for (uint64_t p = N_PAGES - 1; p; p--) {
		const uint64_t other = rnd(&rng) % (p + 1);
		const uint64_t v = get(s, entry_addr(p));

		put(s, entry_addr(p), get(s, entry_addr(other)));
		put(s, entry_addr(other), v);
	}
}

static void make_subject(struct subject *s, unsigned int i)
{
	static const char *const names[N_SUBJECTS] = {"software", "hardware",
						      "software, no caches",
						      "hardware, no caches"};
	const struct mmu_regs regs = {
		.cr0 = CR0_PE | CR0_PG | CR0_WP,
		.cr3 = ROOT,
		.cr4 = CR4_PAE,
		.efer = EFER_LME | EFER_LMA | EFER_NXE,
	};
	struct mmu_options opt = mmu_options_default();
	struct err err;

	s->name = names[i];
	opt.mode = i % 2 ? MMU_HARDWARE : MMU_SOFTWARE;
	opt.structure_caches = i < 2;
	if (guestmem_new(RAM, &s->mem, &err) ||
	    tlb_init(&s->tlb, RAM / PAGE_SIZE) ||
	    mmu_new(s->mem, &s->tlb, &opt, &s->mmu, &err))
		die("cannot make an MMU");
	make_tables(s);
	guestmem_set_ops(s->mem, &hooks, s);
	mmu_set_regs(s->mmu, &regs);
}

/* Events. */

static void translate(struct mmu *mmu, uint64_t page, unsigned int access)
{
	struct mmu_xlat x;

	if (mmu_translate(mmu, gva(page * PAGE_SIZE), access, &x) != MMU_OK)
		die("an access failed");
}

static void nothing(struct subject *s, uint64_t page)
{
	(void)s;
	(void)page;
}

static void walk(struct subject *s, uint64_t page)
{
	translate(s->mmu, page, USER);
}

static void switch_to(struct subject *s, uint64_t page)
{
	mmu_load_cr3(s->mmu, ROOT);
	translate(s->mmu, page, USER);
}

static void take_away(struct subject *s, uint64_t page)
{
	const uint64_t frame = get(s, entry_addr(page)) & PTE_ADDR;

	if (guestmem_drop(s->mem, ppn(frame / PAGE_SIZE), PHYSMAP_ZERO) != MEM_OK)
		die("cannot drop a page");
}

static void touch(struct subject *s, uint64_t page)
{
	translate(s->mmu, page, USER | MMU_ACC_WRITE);
}

/* What mprotect() does to a page, and a read of it. */
static void change(struct subject *s, uint64_t page)
{
	put(s, entry_addr(page), get(s, entry_addr(page)) ^ PTE_W);
	mmu_invlpg(s->mmu, gva(page * PAGE_SIZE));
	translate(s->mmu, page, USER);
}

/* What munmap() and a later page fault do to an entry, and a read of the page. */
static void replace(struct subject *s, uint64_t page)
{
	const uint64_t v = get(s, entry_addr(page));

	put(s, entry_addr(page), 0);
	mmu_invlpg(s->mmu, gva(page * PAGE_SIZE));
	put(s, entry_addr(page), v);
	translate(s->mmu, page, USER);
}

static const struct event events[] = {
	{"walk, 32 MiB", 32 * MIB / PAGE_SIZE, nothing, walk},
	{"walk, 96 MiB", 96 * MIB / PAGE_SIZE, nothing, walk},
	{"walk, 192 MiB", 192 * MIB / PAGE_SIZE, nothing, walk},
	{"switch and walk", 32 * MIB / PAGE_SIZE, nothing, switch_to},
	{"first store to a page", 32 * MIB / PAGE_SIZE, take_away, touch},
	{"change rights, walk", 32 * MIB / PAGE_SIZE, nothing, change},
	{"replace entry, walk", 32 * MIB / PAGE_SIZE, nothing, replace},
};

/* By the processor; in software mode it is the VMM that reads the guest's tables. */
static uint64_t references(const struct mmu_stats *s)
{
	return s->shadow_refs ? s->shadow_refs : s->guest_refs + s->nested_refs;
}

struct figures {
	double *ns; /* by round */
	double refs;
	uint64_t walks;
};

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double chunk(struct subject *s, const struct event *e, uint64_t rng)
{
	const unsigned int n = e->prepare == nothing ? CHUNK : CHUNK / 8;
	uint64_t page[CHUNK], start;

	for (unsigned int i = 0; i < n; i++) {
		page[i] = rnd(&rng) % e->size;
		e->prepare(s, page[i]);
	}
	start = now_ns();
	for (unsigned int i = 0; i < n; i++)
		e->run(s, page[i]);
	return (double)(now_ns() - start) / n;
}

static void print_row(const struct event *e, struct figures f[N_SUBJECTS],
		      unsigned int rounds)
{
	printf("%-22s", e->name);
	for (unsigned int i = 0; i < N_SUBJECTS; i++) {
		qsort(f[i].ns, rounds, sizeof(double), by_value);
		printf("  %7.1f ns %5.2f refs", f[i].ns[rounds / 2],
		       f[i].refs / (double)f[i].walks);
		if (i % 2)
			printf("  %5.2f",
			       f[i - 1].ns[rounds / 2] / f[i].ns[rounds / 2]);
	}
	putchar('\n');
}

static void measure(struct subject *s, const struct event *e,
		    unsigned int rounds)
{
	struct figures f[N_SUBJECTS] = {0};

	/* Everything is filled before the first round counts. */
	for (unsigned int i = 0; i < N_SUBJECTS; i++) {
		for (uint64_t p = 0; p < e->size; p++)
			translate(s[i].mmu, p, USER);
		f[i].ns = calloc(rounds, sizeof(double));
		if (!f[i].ns)
			die("no memory");
	}
	for (unsigned int r = 0; r < rounds; r++)
		for (unsigned int i = 0; i < N_SUBJECTS; i++) {
			const struct mmu_stats before = *mmu_stats(s[i].mmu);

			f[i].ns[r] = chunk(&s[i], e, r + 1);
			f[i].refs += (double)(references(mmu_stats(s[i].mmu)) -
					      references(&before));
			f[i].walks += mmu_stats(s[i].mmu)->walks - before.walks;
		}
	print_row(e, f, rounds);
	for (unsigned int i = 0; i < N_SUBJECTS; i++)
		free(f[i].ns);
}

int main(int argc, char *argv[])
{
	const int rounds = argc > 1 ? atoi(argv[1]) : 201;
	static struct subject s[N_SUBJECTS];

	if (rounds < 1)
		die("usage: bench-walk [ROUNDS]");
	for (unsigned int i = 0; i < N_SUBJECTS; i++)
		make_subject(&s[i], i);
	printf("%-22s", "");
	for (unsigned int i = 0; i < N_SUBJECTS; i++)
		printf("  %-21s%s", s[i].name, i % 2 ? "  sw/hw" : "");
	putchar('\n');
	for (unsigned int i = 0; i < ARRAY_SIZE(events); i++)
		measure(s, &events[i], (unsigned int)rounds);
	for (unsigned int i = 0; i < N_SUBJECTS; i++) {
		mmu_free(s[i].mmu);
		tlb_release(&s[i].tlb);
		guestmem_free(s[i].mem);
	}
	return 0;
}
