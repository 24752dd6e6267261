/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 32-bit program: what compatibility mode must do right. Prints the same lines on every machine.
 *
 *	test32 [NAME]	int80 sysenter segments string x87 sse arithmetic faults; default: all
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <elf.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static int bad;

static void expect(int ok, const char *what)
{
	if (!ok) {
		printf("WRONG: %s\n", what);
		bad = 1;
	}
}

static long int80(long nr, long a, long b, long c)
{
	long r;

	__asm__ volatile("int $0x80"
			 : "=a"(r)
			 : "a"(nr), "b"(a), "c"(b), "d"(c)
			 : "memory");
	return r;
}

static void test_int80(void)
{
	const char text[] = "int80: write\n";

	fflush(stdout);
	expect(int80(SYS_write, 1, (long)text, sizeof(text) - 1) ==
		       (long)sizeof(text) - 1,
	       "int80 write");
	expect(int80(SYS_getpid, 0, 0, 0) == getpid(), "int80 getpid");
	printf("int80: bad call %ld, bad pointer %ld\n", int80(9999, 0, 0, 0),
	       int80(SYS_write, 1, 8, 4));
}

/* The entry in the vDSO chooses SYSENTER, SYSCALL or INT 0x80 as the processor has it. */
static void test_sysenter(void)
{
	const uintptr_t base = getauxval(AT_SYSINFO);
	int n = 0;

	if (!base) {
		printf("sysenter: no entry\n");
		return;
	}
	for (int i = 0; i < 1000; i++) {
		long r;

		__asm__ volatile("call *%1"
				 : "=a"(r)
				 : "r"(base), "a"(SYS_getppid)
				 : "memory", "cc");
		n += r == getppid();
	}
	printf("sysenter: %d calls\n", n);
	expect(n == 1000, "sysenter");
}

static uint32_t thread_word[4] = {11, 22, 33, 44};

static void test_segments(void)
{
	struct user_desc d = {
		.entry_number = (unsigned int)-1,
		.base_addr = (uint32_t)(uintptr_t)thread_word,
		.limit = sizeof(thread_word) - 1,
		.seg_32bit = 1,
		.useable = 1,
	};
	struct user_desc ldt = d;
	uint32_t w = 0;
	uint32_t v = 0;
	uint32_t limit = 0;
	uint16_t old;
	uint16_t ss;

	expect(syscall(SYS_set_thread_area, &d) == 0, "set_thread_area");
	__asm__ volatile("mov %%fs, %0" : "=r"(old));
	__asm__ volatile("mov %1, %%fs\n\tmov %%fs:8, %0\n\tmovl $55, %%fs:12"
			 : "=&r"(w)
			 : "r"(d.entry_number * 8 + 3)
			 : "memory");
	__asm__ volatile("lsl %1, %0"
			 : "=r"(limit)
			 : "r"(d.entry_number * 8 + 3));
	__asm__ volatile("mov %0, %%fs" : : "r"(old));
	printf("segments: fs:8 = %u, then %u, limit %u\n", w, thread_word[3],
	       limit);

	ldt.entry_number = 0;
	expect(syscall(SYS_modify_ldt, 1, &ldt, sizeof(ldt)) == 0, "modify_ldt");
	__asm__ volatile("mov %1, %%fs\n\tmov %%fs:4, %0"
			 : "=&r"(v)
			 : "r"(7)
			 : "memory");
	__asm__ volatile("mov %0, %%fs" : : "r"(old));
	__asm__ volatile("mov %%ss, %0" : "=r"(ss));
	printf("segments: ldt fs:4 = %u, ss %#x\n", v, ss);
	expect(w == 33 && thread_word[3] == 55 && v == 22 && limit == 15,
	       "segments");
}

static void test_string(void)
{
	static uint8_t a[1000];
	static uint8_t b[1000];
	uint32_t n = 1000;
	uint8_t *d = b;
	const uint8_t *s = a;
	uint8_t equal;

	for (int i = 0; i < 1000; i++)
		a[i] = (uint8_t)(i * 7);
	__asm__ volatile("cld\n\trep movsb"
			 : "+D"(d), "+S"(s), "+c"(n)
			 :
			 : "memory");
	n = 250;
	d = b;
	s = a;
	__asm__ volatile("repe cmpsl\n\tsete %3"
			 : "+D"(d), "+S"(s), "+c"(n), "=q"(equal)
			 :
			 : "memory", "cc");
	printf("string: %d, equal %u, left %u\n", memcmp(a, b, 1000) == 0,
	       equal, n);
	n = 1000;
	d = b + 999;
	__asm__ volatile("std\n\trepne scasb\n\tcld"
			 : "+D"(d), "+c"(n)
			 : "a"(0x31)
			 : "memory", "cc");
	printf("string: backward scan stops at %d, left %u\n", (int)(d - b), n);
	n = 100;
	d = b;
	__asm__ volatile("rep stosw"
			 : "+D"(d), "+c"(n)
			 : "a"(0xbeef)
			 : "memory");
	printf("string: stored to %d, %02x %02x\n", (int)(d - b), b[198],
	       b[199]);
}

static void print_ld(const char *name, long double v)
{
	uint8_t raw[10];

	memcpy(raw, &v, sizeof(raw));
	printf("x87: %s = %.15Lg (", name, v);
	for (int i = 9; i >= 0; i--)
		printf("%02x", raw[i]);
	printf(")\n");
}

static void test_x87(void)
{
	volatile long double one = 1.0L;
	volatile long double three = 3.0L;
	volatile double d = 2.5;
	long double r;
	uint16_t status;
	int32_t i32;
	int64_t i64;
	uint8_t bcd[10];

	print_ld("1/3", one / three);
	__asm__("fsqrt" : "=t"(r) : "0"(three));
	print_ld("sqrt 3", r);
	__asm__("fprem" : "=t"(r) : "0"((long double)10.5L), "u"(three));
	print_ld("10.5 rem 3", r);
	__asm__("fscale" : "=t"(r) : "0"(three), "u"((long double)4.0L));
	print_ld("3 scaled by 4", r);
	__asm__("frndint" : "=t"(r) : "0"((long double)d));
	print_ld("2.5 rounded", r);
	__asm__("fistpl %0" : "=m"(i32) : "t"((long double)-7.5L) : "st");
	__asm__("fistpll %0" : "=m"(i64) : "t"((long double)1e15L) : "st");
	printf("x87: fistp %d %lld\n", i32, (long long)i64);
	__asm__("fbstp %0" : "=m"(bcd) : "t"((long double)1234567.0L) : "st");
	printf("x87: fbstp %02x%02x%02x%02x\n", bcd[3], bcd[2], bcd[1], bcd[0]);
	__asm__("fcom %%st(1)\n\tfnstsw %0"
		: "=a"(status)
		: "t"(one), "u"(three));
	printf("x87: compare %#x\n", status & 0x4500);
	__asm__("fxam\n\tfnstsw %0" : "=a"(status) : "t"((long double)0.0L));
	printf("x87: examine %#x\n", status & 0x4500);
}

__attribute__((target("sse2"))) static void test_sse(void)
{
	volatile float f[4] = {1.0F, 2.0F, 3.0F, 4.0F};
	float out[4];
	double dd[2] = {1.5, -2.5};
	int32_t cv;

	__asm__("movups %1, %%xmm0\n\tmulps %%xmm0, %%xmm0\n\t"
		"shufps $0x1b, %%xmm0, %%xmm0\n\tmovups %%xmm0, %0"
		: "=m"(out)
		: "m"(f)
		: "xmm0");
	__asm__("cvtsd2si %1, %0" : "=r"(cv) : "m"(dd[1]));
	printf("sse: %g %g %g %g, %d\n", (double)out[0], (double)out[1],
	       (double)out[2], (double)out[3], cv);
}

static void test_arithmetic(void)
{
	uint64_t h = 1469598103934665603;
	uint32_t eax = 0x12345678;
	uint32_t edx = 0x9;
	uint8_t ah;

	for (uint32_t i = 1; i < 10000; i++) {
		h = (h ^ i) * 1099511628211;
		h += (h / i) ^ (h % i);
		h = h << (i % 64) | h >> ((64 - i % 64) % 64);
		h ^= (uint64_t)((int64_t)h / (int32_t)i);
	}
	__asm__("divl %2" : "+a"(eax), "+d"(edx) : "r"(0x1000) : "cc");
	printf("arithmetic: %016llx, %#x rest %#x\n", (unsigned long long)h,
	       eax, edx);
	__asm__("mov $0x35, %%al\n\tadd $0x27, %%al\n\tdaa\n\tmov %%al, %0"
		: "=m"(ah)
		:
		: "eax", "cc");
	printf("arithmetic: daa %#x", ah);
	__asm__("mov $0x0105, %%ax\n\tadd $9, %%al\n\taaa\n\tmov %%ax, %%dx\n\t"
		"movzx %%dx, %0"
		: "=r"(eax)
		:
		: "eax", "edx", "cc");
	printf(", aaa %#x", eax);
	__asm__("push $1\n\tpush $2\n\tpush $3\n\tpusha\n\tpopa\n\t"
		"pop %0\n\tadd $8, %%esp"
		: "=r"(eax)
		:
		: "cc", "memory");
	printf(", pusha %u\n", eax);
}

static sigjmp_buf back;
static volatile int fault_code;
static volatile uint32_t fault_cs;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *u = context;

	fault_code = info->si_code;
	fault_cs = (uint32_t)u->uc_mcontext.gregs[REG_CS];
	siglongjmp(back, sig);
}

static int try_fault(void (*fn)(void))
{
	const int sig = sigsetjmp(back, 1);

	if (sig == 0)
		fn();
	return sig;
}

static void fault_bound(void)
{
	const int32_t range[2] = {1, 5};

	__asm__ volatile("bound %0, %1" : : "r"(9), "m"(range));
}

static void fault_into(void)
{
	__asm__ volatile("mov $0x7fffffff, %%eax\n\tadd $1, %%eax\n\tinto"
			 :
			 :
			 : "eax", "cc");
}

static void fault_segment(void)
{
	__asm__ volatile("mov %0, %%es" : : "r"(0x1234));
}

static void fault_limit(void)
{
	struct user_desc d = {
		.entry_number = 1,
		.base_addr = (uint32_t)(uintptr_t)thread_word,
		.limit = 7,
		.seg_32bit = 1,
		.useable = 1,
	};

	if (syscall(SYS_modify_ldt, 1, &d, sizeof(d)))
		return;
	__asm__ volatile("push %%es\n\tmov %0, %%es\n\tmovl %%es:8, %%eax\n\t"
			 "pop %%es"
			 :
			 : "r"(1 * 8 + 7)
			 : "eax", "memory");
}

static void fault_gate(void)
{
	__asm__ volatile("int $0x81");
}

static void fault_null(void)
{
	__asm__ volatile("movl $1, 16" : : : "memory");
}

static void test_faults(void)
{
	static const struct {
		const char *name;
		void (*fn)(void);
	} all[] = {
		{"bound", fault_bound},     {"into", fault_into},
		{"segment", fault_segment}, {"limit", fault_limit},
		{"gate", fault_gate},       {"null", fault_null},
	};
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		uint16_t ds;
		const int sig = try_fault(all[i].fn);

		__asm__ volatile("mov %%ds, %0\n\tmov %0, %%es" : "=r"(ds));
		printf("faults: %s gives signal %d code %d, cs %#x\n",
		       all[i].name, sig, fault_code, fault_cs);
	}
}

static const struct {
	const char *name;
	void (*fn)(void);
} tests[] = {
	{"int80", test_int80},
	{"sysenter", test_sysenter},
	{"segments", test_segments},
	{"string", test_string},
	{"x87", test_x87},
	{"sse", test_sse},
	{"arithmetic", test_arithmetic},
	{"faults", test_faults},
};

int main(int argc, char **argv)
{
	int n = 0;

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (argc > 1 && strcmp(argv[1], tests[i].name))
			continue;
		tests[i].fn();
		n++;
	}
	printf("test32: %s\n", bad ? "WRONG" : n ? "ok" : "no such test");
	return bad || !n;
}
