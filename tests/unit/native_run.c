/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run an instruction, or a few, on the real processor, from a given state, and see
 * what became of it.
 */
#include "native_run.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* The assembly below works on these. */
extern struct run_state native_state __attribute__((visibility("hidden")));
extern uint64_t native_rsp __attribute__((visibility("hidden")));
struct run_state native_state;
uint64_t native_rsp;

void native_enter(void) __attribute__((visibility("hidden")));
void native_faulted(void) __attribute__((visibility("hidden")));

/* clang-format off: a table */
#define GPRS(X)     \
	X(rax, 512) \
	X(rcx, 520) \
	X(rdx, 528) \
	X(rbx, 536) \
	X(rbp, 552) \
	X(rsi, 560) \
	X(rdi, 568) \
	X(r8, 576)  \
	X(r9, 584)  \
	X(r10, 592) \
	X(r11, 600) \
	X(r12, 608) \
	X(r13, 616) \
	X(r14, 624) \
	X(r15, 632)
/* clang-format on */

#define LOAD_GPR(reg, at) "movq native_state+" #at "(%rip), %" #reg "\n"
#define SAVE_GPR(reg, at) "movq %" #reg ", native_state+" #at "(%rip)\n"

__asm__(".pushsection .text\n"
	".globl native_enter\n"
	".globl native_faulted\n"
	"native_enter:\n"
	"pushq %rbx\n pushq %rbp\n pushq %r12\n"
	"pushq %r13\n pushq %r14\n pushq %r15\n"
	"movq %rsp, native_rsp(%rip)\n"
	"fxrstor64 native_state(%rip)\n"
	"pushq native_state+640(%rip)\n popfq\n" GPRS(LOAD_GPR) "call *native_entry(%rip)\n" GPRS(
		SAVE_GPR) "pushfq\n popq native_state+640(%rip)\n"
			  "fxsave64 native_state(%rip)\n"
			  "native_faulted:\n"
			  "fninit\n"
			  "movq native_rsp(%rip), %rsp\n"
			  "pushq $0x1f80\n ldmxcsr (%rsp)\n popq %rax\n"
			  "popq %r15\n popq %r14\n popq %r13\n"
			  "popq %r12\n popq %rbp\n popq %rbx\n"
			  "ret\n"
			  "native_entry: .quad 0x10000000\n"
			  ".popsection");

_Static_assert(offsetof(struct run_state, gpr) == 512, "the assembly above");
_Static_assert(offsetof(struct run_state, flags) == 640, "the assembly above");

static void on_signal(int sig, siginfo_t *info, void *arg)
{
	static const int order[16] = {
		REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
		REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
		REG_R12, REG_R13, REG_R14, REG_R15,
	};
	ucontext_t *uc = arg;
	greg_t *g = uc->uc_mcontext.gregs;

	(void)info;
	if ((uint64_t)g[REG_RIP] - RUN_CODE >= 4096) {
		signal(sig, SIG_DFL); /* a fault of the test itself */
		return;
	}
	memcpy(native_state.fx, uc->uc_mcontext.fpregs, sizeof(native_state.fx));
	for (int i = 0; i < 16; i++)
		native_state.gpr[i] = (uint64_t)g[order[i]];
	native_state.flags = (uint64_t)g[REG_EFL];
	native_state.vector = (uint64_t)g[REG_TRAPNO];
	native_state.fault = (uint64_t)g[REG_RIP];
	g[REG_RIP] = (greg_t)(uintptr_t)native_faulted;
	g[REG_RSP] = (greg_t)native_rsp;
	uc->uc_mcontext.fpregs->cwd = 0x37f;
	uc->uc_mcontext.fpregs->swd = 0;
	uc->uc_mcontext.fpregs->mxcsr = 0x1f80;
}

static int map_fixed(uint64_t addr, uint64_t size)
{
	void *p = mmap((void *)(uintptr_t)addr, size,
		       PROT_READ | PROT_WRITE | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return p == (void *)(uintptr_t)addr ? 0 : -errno;
}

int native_setup(void)
{
	const int r = map_fixed(RUN_CODE, 4096);

	return r ? r : map_fixed(RUN_DATA, RUN_DATA_END - RUN_DATA);
}

/* Not only once: the test framework has handlers of its own around each test. */
static void catch_faults(void)
{
	static const int signals[] = {SIGFPE, SIGSEGV, SIGILL, SIGBUS};
	const struct sigaction sa = {.sa_sigaction = on_signal,
				     .sa_flags = SA_SIGINFO};

	for (unsigned int i = 0; i < 4; i++)
		sigaction(signals[i], &sa, NULL);
}

void native_set_code(const uint8_t *bytes, unsigned int n_bytes)
{
	uint8_t *code = (uint8_t *)(uintptr_t)RUN_CODE;

	catch_faults();
	memcpy(code, bytes, n_bytes);
	code[n_bytes] = 0xc3;
}

void native_step(struct run_state *s)
{
	uint8_t *data = (uint8_t *)(uintptr_t)s->window;

	memcpy(data, s->mem, sizeof(s->mem));
	native_state = *s;
	native_state.vector = 0;
	native_state.fault = 0;
	native_enter();
	*s = native_state;
	memcpy(s->mem, data, sizeof(s->mem));
}
