/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storms of signals and long jumps: faults of each kind, queued signals, timers, alternate
 * stacks. Prints only what is the same on every machine.
 *
 *	signals [ROUNDS]	default 2000
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define PAGE_BYTES   4096UL
#define STACK_BYTES  (64 * 1024)
#define N_TIMER_HITS 20

static sigjmp_buf back;
static volatile sig_atomic_t count;
static volatile int last_code;
static volatile uintptr_t last_addr;
static uint8_t alt_stack[STACK_BYTES];
static volatile int on_alt_stack;
static uint8_t *page;

static void jump_back(int sig, siginfo_t *info, void *context)
{
	(void)context;
	last_code = info->si_code;
	last_addr = (uintptr_t)info->si_addr;
	count++;
	siglongjmp(back, sig);
}

static void count_up(int sig, siginfo_t *info, void *context)
{
	uint8_t here;

	(void)sig;
	(void)context;
	last_code = info->si_code;
	on_alt_stack += &here >= alt_stack && &here < alt_stack + STACK_BYTES;
	count++;
}

static void catch_signal(int sig, void (*fn)(int, siginfo_t *, void *),
			 int flags)
{
	struct sigaction sa = {.sa_sigaction = fn,
			       .sa_flags = SA_SIGINFO | flags};

	sigemptyset(&sa.sa_mask);
	if (sigaction(sig, &sa, NULL)) {
		perror("sigaction");
		exit(2);
	}
}

static void fault_read(void)
{
	(void)*(volatile uint8_t *)(page + 123);
}

static void fault_write(void)
{
	*(volatile uint8_t *)(page + PAGE_BYTES + 456) = 1;
}

static void fault_unmapped(void)
{
	volatile uintptr_t address = 16;

	*(volatile uint8_t *)address = 1;
}

static void fault_non_canonical(void)
{
	volatile uint64_t address = UINT64_C(0x8000000000000000);

	(void)*(volatile uint8_t *)address;
}

static void fault_execute(void)
{
	/* Readable and writable, but not executable. */
	void (*fn)(void);
	uint8_t *p = page + 2 * PAGE_BYTES;

	memcpy(&fn, &p, sizeof(fn));
	fn();
}

static void fault_bus(void)
{
	(void)*(volatile uint8_t *)(page + 4 * PAGE_BYTES);
}

static void fault_divide(void)
{
	__asm__ volatile("xor %%edx, %%edx\n\tmov $1, %%eax\n\t"
			 "xor %%ecx, %%ecx\n\tdivl %%ecx"
			 :
			 :
			 : "eax", "ecx", "edx", "cc");
}

static void fault_opcode(void)
{
	__asm__ volatile("ud2");
}

static void fault_breakpoint(void)
{
	__asm__ volatile("int3");
}

static void fault_privileged(void)
{
	__asm__ volatile("hlt");
}

static void fault_sse(void)
{
	uint32_t csr = 0x1f80 & ~0x200U; /* division by zero unmasked */
	float zero = 0.0F;
	float one = 1.0F;

	__asm__ volatile("ldmxcsr %0\n\tmovss %2, %%xmm0\n\tdivss %1, %%xmm0"
			 :
			 : "m"(csr), "m"(zero), "m"(one)
			 : "xmm0");
}

static void fault_x87(void)
{
	uint16_t cw = 0x037f & (uint16_t)~0x4; /* division by zero unmasked */

	__asm__ volatile("fninit\n\tfldcw %0\n\tfld1\n\tfldz\n\t"
			 "fdivrp\n\tfwait"
			 :
			 : "m"(cw));
}

static const struct fault {
	const char *name;
	void (*run)(void);
	int sig;
	int has_addr; /* address inside our pages: print its offset */
} faults[] = {
	{"read", fault_read, SIGSEGV, 1},
	{"write", fault_write, SIGSEGV, 1},
	{"unmapped", fault_unmapped, SIGSEGV, 0},
	{"non-canonical", fault_non_canonical, SIGSEGV, 0},
	{"execute", fault_execute, SIGSEGV, 1},
	{"bus", fault_bus, SIGBUS, 1},
	{"divide", fault_divide, SIGFPE, 0},
	{"opcode", fault_opcode, SIGILL, 0},
	{"breakpoint", fault_breakpoint, SIGTRAP, 0},
	{"privileged", fault_privileged, SIGSEGV, 0},
	{"sse", fault_sse, SIGFPE, 0},
	{"x87", fault_x87, SIGFPE, 0},
};

static void reset_fpu(void)
{
	uint32_t csr = 0x1f80;

	__asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(csr));
}

static int fault_storm(const struct fault *f, int rounds)
{
	volatile int bad = 0;
	volatile int i;

	count = 0;
	catch_signal(f->sig, jump_back, 0);
	for (i = 0; i < rounds; i++) {
		const int sig = sigsetjmp(back, 1);

		if (sig == 0) {
			f->run();
			bad++;
		} else if (sig != f->sig) {
			bad++;
		}
		reset_fpu();
	}
	printf("%s: signal %d, %d times, code %d", f->name, f->sig, (int)count,
	       last_code);
	if (f->has_addr)
		printf(", offset %lu", last_addr - (uintptr_t)page);
	printf("%s\n", bad ? ", WRONG" : "");
	return bad;
}

static void raise_storm(int rounds)
{
	count = 0;
	on_alt_stack = 0;
	catch_signal(SIGUSR1, count_up, SA_ONSTACK);
	for (int i = 0; i < rounds; i++)
		raise(SIGUSR1);
	printf("raise: %d signals, %d on the alternate stack\n", (int)count,
	       on_alt_stack);
}

/* Real-time signals are queued, and each is delivered once it is unblocked. */
static void queue_storm(void)
{
	const int sig = SIGRTMIN + 1;
	sigset_t set;

	count = 0;
	catch_signal(sig, count_up, 0);
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < 100; i++)
		sigqueue(getpid(), sig, (union sigval){.sival_int = i});
	const int before = count;

	sigprocmask(SIG_UNBLOCK, &set, NULL);
	printf("queue: %d while blocked, %d after\n", before, (int)count);
}

/* A timer interrupts a loop of integer and floating point arithmetic, which must not notice. */
static int timer_storm(void)
{
	const struct itimerval on = {{0, 2000}, {0, 2000}};
	const struct itimerval off = {{0, 0}, {0, 0}};
	int wrong = 0;

	count = 0;
	catch_signal(SIGALRM, count_up, SA_RESTART);
	setitimer(ITIMER_REAL, &on, NULL);
	while (count < N_TIMER_HITS) {
		volatile double d = 1.0;
		volatile long double e = 1.0L;
		uint32_t x = 1;

		for (int i = 0; i < 10000; i++) {
			d = d * 1.0000001 + 0.5;
			e = e / 3.0L + 1.0L;
			x = x * 1664525 + 1013904223;
		}
		wrong += x != 0xf3be7791U || e < 1.49L || e > 1.51L ||
			 d < 5000.0 || d > 5010.0;
	}
	setitimer(ITIMER_REAL, &off, NULL);
	printf("timer: %s\n", wrong ? "WRONG" : "arithmetic undisturbed");
	return wrong != 0;
}

static int deep(int depth, jmp_buf env)
{
	volatile uint8_t pad[200];

	pad[depth % 200] = (uint8_t)depth;
	if (depth < 0)
		return 0;
	if (depth == 0)
		longjmp(env, 7);
	return deep(depth - 1, env) + pad[depth % 200];
}

static void jump_storm(int rounds)
{
	static jmp_buf env;
	volatile int hits = 0;
	volatile int i;

	for (i = 0; i < rounds; i++) {
		if (setjmp(env) == 7)
			hits++;
		else
			(void)deep(i % 50, env);
	}
	printf("longjmp: %d\n", hits);
}

/* Pages: unreadable, read-only, writable, spare, and one behind the end of a file. */
static void prepare_pages(void)
{
	FILE *file = tmpfile();
	uint8_t *behind;

	page = mmap(NULL, 5 * PAGE_BYTES, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED || !file || fputc('x', file) == EOF ||
	    fflush(file) || mprotect(page, PAGE_BYTES, PROT_NONE) ||
	    mprotect(page + PAGE_BYTES, PAGE_BYTES, PROT_READ)) {
		perror("signals");
		exit(2);
	}
	memset(page + 2 * PAGE_BYTES, 0xc3, PAGE_BYTES);
	if (ftruncate(fileno(file), 0)) {
		perror("ftruncate");
		exit(2);
	}
	behind = mmap(page + 4 * PAGE_BYTES, PAGE_BYTES, PROT_READ,
		      MAP_SHARED | MAP_FIXED, fileno(file), 0);
	if (behind == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	const int rounds = argc > 1 ? atoi(argv[1]) : 2000;
	const stack_t alt = {.ss_sp = alt_stack, .ss_size = STACK_BYTES};
	int bad = 0;

	prepare_pages();
	sigaltstack(&alt, NULL);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		bad += fault_storm(&faults[i], rounds);
	raise_storm(rounds);
	queue_storm();
	bad += timer_storm();
	jump_storm(rounds);
	return bad != 0;
}
