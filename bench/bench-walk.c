/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What single events of memory virtualization cost, in both modes.
 *
 *	bench-walk [ROUNDS]		default 201
 *
 * An MMU of each kind, with and without structure caches, on equal guest memories, in
 * turn: a few hundred operations with one, the same with the next, and so on. So whatever
 * disturbs one disturbs all. Prints medians over the rounds.
 *
 * The second table counts instructions of the host for one operation: the same operations
 * are made in a child process that is single-stepped. What that says is the same in each
 * run, whatever else the host does.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../tests/unit/mmu_rig.h"

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
	struct mmu_rig rig;
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

static void put(struct subject *s, uint64_t addr, uint64_t v)
{
	if (!mmu_rig_put(&s->rig, addr, v))
		die("no guest memory");
}

static uint64_t get(struct subject *s, uint64_t addr)
{
	return mmu_rig_get(&s->rig, addr);
}

static uint64_t entry_addr(uint64_t page)
{
	return L1_TABLE + page * 8;
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
	const struct mmu_regs regs = mmu_rig_long_mode(ROOT);
	struct mmu_options opt = mmu_options_default();
	struct err err;

	opt.mode = i % 2 ? MMU_HARDWARE : MMU_SOFTWARE;
	opt.structure_caches = i < 2;
	if (mmu_rig_init(&s->rig, RAM, &opt, &err))
		die(err.text);
	make_tables(s);
	mmu_set_regs(s->rig.mmu, &regs);
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
	translate(s->rig.mmu, page, USER);
}

static void switch_to(struct subject *s, uint64_t page)
{
	mmu_load_cr3(s->rig.mmu, ROOT);
	translate(s->rig.mmu, page, USER);
}

static void take_away(struct subject *s, uint64_t page)
{
	const uint64_t frame = get(s, entry_addr(page)) & PTE_ADDR;

	if (guestmem_drop(s->rig.mem, ppn(frame / PAGE_SIZE), PHYSMAP_ZERO) !=
	    MEM_OK)
		die("cannot drop a page");
}

static void touch(struct subject *s, uint64_t page)
{
	translate(s->rig.mmu, page, USER | MMU_ACC_WRITE);
}

/* What mprotect() does to a page, and a read of it. */
static void change(struct subject *s, uint64_t page)
{
	put(s, entry_addr(page), get(s, entry_addr(page)) ^ PTE_W);
	mmu_invlpg(s->rig.mmu, gva(page * PAGE_SIZE));
	translate(s->rig.mmu, page, USER);
}

/* What munmap() and a later page fault do to an entry, and a read of the page. */
static void replace(struct subject *s, uint64_t page)
{
	const uint64_t v = get(s, entry_addr(page));

	put(s, entry_addr(page), 0);
	mmu_invlpg(s->rig.mmu, gva(page * PAGE_SIZE));
	put(s, entry_addr(page), v);
	translate(s->rig.mmu, page, USER);
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

/* Choose pages for @n operations and make them ready. */
static void prepare(struct subject *s, const struct event *e, uint64_t rng,
		    unsigned int n, uint64_t *ret_page)
{
	for (unsigned int i = 0; i < n; i++) {
		ret_page[i] = rnd(&rng) % e->size;
		e->prepare(s, ret_page[i]);
	}
}

static double chunk(struct subject *s, const struct event *e, uint64_t rng)
{
	const unsigned int n = e->prepare == nothing ? CHUNK : CHUNK / 8;
	uint64_t page[CHUNK], start;

	prepare(s, e, rng, n, page);
	start = now_ns();
	for (unsigned int i = 0; i < n; i++)
		e->run(s, page[i]);
	return (double)(now_ns() - start) / n;
}

/* Everything is filled before the first round counts. */
static void warm_up(struct subject *s, const struct event *e)
{
	for (uint64_t p = 0; p < e->size; p++)
		translate(s->rig.mmu, p, USER);
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

	for (unsigned int i = 0; i < N_SUBJECTS; i++) {
		warm_up(&s[i], e);
		f[i].ns = calloc(rounds, sizeof(double));
		if (!f[i].ns)
			die("no memory");
	}
	for (unsigned int r = 0; r < rounds; r++)
		for (unsigned int i = 0; i < N_SUBJECTS; i++) {
			const struct mmu_stats before = *mmu_stats(s[i].rig.mmu);

			f[i].ns[r] = chunk(&s[i], e, r + 1);
			f[i].refs += (double)(references(mmu_stats(s[i].rig.mmu)) -
					      references(&before));
			f[i].walks += mmu_stats(s[i].rig.mmu)->walks -
				      before.walks;
		}
	print_row(e, f, rounds);
	for (unsigned int i = 0; i < N_SUBJECTS; i++)
		free(f[i].ns);
}

/* Instructions. */

#define N_STEPPED 16U

/* The child stops before and after what is counted. */
static void stop_here(void)
{
	if (raise(SIGSTOP))
		die("cannot stop");
}

static void __attribute__((noreturn)) stepped(void)
{
	static struct subject s[N_SUBJECTS];
	uint64_t page[N_STEPPED];

	for (unsigned int i = 0; i < N_SUBJECTS; i++)
		make_subject(&s[i], i);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		die("single-stepping is not permitted here");
	stop_here(); /* what stopping itself takes */
	stop_here();
	for (unsigned int e = 0; e < ARRAY_SIZE(events); e++)
		for (unsigned int i = 0; i < N_SUBJECTS; i++) {
			warm_up(&s[i], &events[e]);
			/* Caches are as they are between two chunks. */
			chunk(&s[i], &events[e], 1);
			prepare(&s[i], &events[e], 2, N_STEPPED, page);
			stop_here();
			for (unsigned int k = 0; k < N_STEPPED; k++)
				events[e].run(&s[i], page[k]);
			stop_here();
		}
	_exit(0);
}

static int wait_stop(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		die("the child that is single-stepped has ended");
	return WSTOPSIG(status);
}

/* Let the child run to the next pair of stops, and count between them. */
static uint64_t count_steps(pid_t child)
{
	uint64_t n = 0;

	while (wait_stop(child) != SIGSTOP)
		ptrace(PTRACE_CONT, child, NULL, NULL);
	do {
		ptrace(PTRACE_SINGLESTEP, child, NULL, NULL);
		n++;
	} while (wait_stop(child) != SIGSTOP);
	ptrace(PTRACE_CONT, child, NULL, NULL);
	return n;
}

static void print_heading(const char *what)
{
	static const char *const names[N_SUBJECTS / 2] = {"", ", no caches"};

	printf("%-22s", what);
	for (unsigned int i = 0; i < N_SUBJECTS; i++)
		printf("  %s%-12s%s", i % 2 ? "hardware" : "software",
		       names[i / 2], i % 2 ? "  sw/hw" : "");
	putchar('\n');
}

static void count_instructions(void)
{
	const pid_t child = fork();
	uint64_t nothing_done;

	if (child < 0)
		die("cannot fork");
	if (child == 0)
		stepped();
	nothing_done = count_steps(child);
	print_heading("instructions");
	for (unsigned int e = 0; e < ARRAY_SIZE(events); e++) {
		double n[N_SUBJECTS];

		for (unsigned int i = 0; i < N_SUBJECTS; i++)
			n[i] = (double)(count_steps(child) - nothing_done) /
			       N_STEPPED;
		printf("%-22s", events[e].name);
		for (unsigned int i = 0; i < N_SUBJECTS; i++) {
			printf("  %20.1f", n[i]);
			if (i % 2)
				printf("  %5.2f", n[i - 1] / n[i]);
		}
		putchar('\n');
	}
	if (waitpid(child, NULL, 0) != child)
		die("the child that is single-stepped is lost");
}

static void measure_all(unsigned int rounds)
{
	static struct subject s[N_SUBJECTS];

	for (unsigned int i = 0; i < N_SUBJECTS; i++)
		make_subject(&s[i], i);
	print_heading("time and references");
	for (unsigned int i = 0; i < ARRAY_SIZE(events); i++)
		measure(s, &events[i], rounds);
	for (unsigned int i = 0; i < N_SUBJECTS; i++)
		if (mmu_rig_release(&s[i].rig))
			die("tables are left over");
}

int main(int argc, char *argv[])
{
	const int rounds = argc > 1 ? atoi(argv[1]) : 201;

	if (rounds < 1)
		die("usage: bench-walk [ROUNDS]");
	setvbuf(stdout, NULL, _IOLBF, 0);
	measure_all((unsigned int)rounds);
	putchar('\n');
	count_instructions();
	return 0;
}
