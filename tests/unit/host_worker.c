/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process in which code of tests runs on the real processor; see host_exec.h.
 *
 * Entry and exit are signals: the handler's context is replaced by the wanted state, and the next
 * signal (INT3 at the end of the code, or a fault) gives the state back. So nothing of
 * the program is in the way of any register.
 */
#include "host_worker.h"

#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define XSTATE_BV_OFFSET 512
#define XSTATE_X87_SSE   3
#define LINUX_USER32_CS  0x23
#define LINUX_USER_DS    0x2b
#define FX_MXCSR         24
#define FX_ST            32

/* Indices into gregs, in the architecture's order. */
static const int greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX,
				REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				REG_R8,  REG_R9,  REG_R10, REG_R11,
				REG_R12, REG_R13, REG_R14, REG_R15};

static struct host_state *volatile running; /* NULL: the next signal is the entry's */
static struct host_state *volatile wanted;
static struct host_end end;
static greg_t saved_gregs[NGREG];
static struct _libc_fpstate saved_fp;
static uint64_t saved_bv;
static uint8_t stack[65536];

static uint64_t *xstate_bv(ucontext_t *u)
{
	return (uint64_t *)(void *)((uint8_t *)u->uc_mcontext.fpregs +
				    XSTATE_BV_OFFSET);
}

/* The kernel's structure begins as FXSAVE's image does. */
static void load_x87(struct _libc_fpstate *fp, const uint8_t *x87)
{
	memcpy(fp, x87, FX_MXCSR);
	memcpy((uint8_t *)fp + FX_ST, x87 + FX_ST, HOST_X87_BYTES - FX_ST);
}

static void load(ucontext_t *u, const struct host_state *s)
{
	struct _libc_fpstate *fp = u->uc_mcontext.fpregs;

	memcpy(saved_gregs, u->uc_mcontext.gregs, sizeof(saved_gregs));
	saved_fp = *fp;
	saved_bv = *xstate_bv(u);
	for (unsigned int i = 0; i < 16; i++)
		u->uc_mcontext.gregs[greg_of[i]] = (greg_t)s->gpr[i];
	u->uc_mcontext.gregs[REG_RIP] = (greg_t)s->rip;
	u->uc_mcontext.gregs[REG_EFL] = (greg_t)s->rflags;
	if (s->is_32) {
		greg_t *cs = &u->uc_mcontext.gregs[REG_CSGSFS];

		*cs = (*cs & ~(greg_t)0xffff) | LINUX_USER32_CS;
	}
	load_x87(fp, s->x87);
	memcpy(fp->_xmm, s->xmm, sizeof(s->xmm));
	fp->mxcsr = s->mxcsr;
	*xstate_bv(u) |= XSTATE_X87_SSE;
}

static void store(ucontext_t *u, struct host_state *s)
{
	struct _libc_fpstate *fp = u->uc_mcontext.fpregs;

	for (unsigned int i = 0; i < 16; i++)
		s->gpr[i] = (uint64_t)u->uc_mcontext.gregs[greg_of[i]];
	s->rip = (uint64_t)u->uc_mcontext.gregs[REG_RIP];
	s->rflags = (uint64_t)u->uc_mcontext.gregs[REG_EFL];
	memcpy(s->x87, fp, HOST_X87_BYTES);
	memcpy(s->xmm, fp->_xmm, sizeof(s->xmm));
	s->mxcsr = fp->mxcsr;
	end.vector = (unsigned int)u->uc_mcontext.gregs[REG_TRAPNO];
	end.code = (uint32_t)u->uc_mcontext.gregs[REG_ERR];
	end.cr2 = (uint64_t)u->uc_mcontext.gregs[REG_CR2];
	memcpy(u->uc_mcontext.gregs, saved_gregs, sizeof(saved_gregs));
	*fp = saved_fp;
	*xstate_bv(u) = saved_bv;
}

/* Signals leave AC, NT and ID alone, so what POPF has loaded there would stay. */
static inline __attribute__((always_inline)) void clear_flags(void)
{
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
			 "pushfq\n\t"
			 "andq %0, (%%rsp)\n\t"
			 "popfq\n\t"
			 "lea 128(%%rsp), %%rsp"
			 :
			 : "i"(~0x244000)
			 : "memory", "cc");
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	clear_flags();
	(void)info;
	if (running) {
		store(u, running);
		running = NULL;
	} else if (wanted && number == SIGTRAP) {
		running = wanted;
		wanted = NULL;
		load(u, running);
	} else {
		/* A fault of this program itself. */
		signal(number, SIG_DFL);
	}
}

static int init(void)
{
	static const int signals[] = {SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS};
	const stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction act = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO | SA_ONSTACK,
	};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Segments that 32-bit code can use. */
	__asm__ volatile("mov %0, %%ds\n\tmov %0, %%es"
			 :
			 : "r"(LINUX_USER_DS)
			 : "memory");
	if (sigaltstack(&alt, NULL))
		return -1;
	for (unsigned int i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		if (sigaction(signals[i], &act, NULL))
			return -1;
	return 0;
}

static int map(const struct worker_request *r)
{
	void *p = mmap((void *)r->addr, r->bytes, r->prot,
		       MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE,
		       WORKER_MEMORY, (off_t)r->offset);

	return p == (void *)r->addr ? 0 : errno;
}

static int obey(const struct worker_request *r, struct worker_shared *shared)
{
	switch (r->verb) {
	case WORKER_SET_GS:
		return syscall(SYS_arch_prctl, ARCH_SET_GS, r->addr) ? errno : 0;
	case WORKER_MAP:
		return map(r);
	case WORKER_RUN:
		clear_flags();
		wanted = &shared->state;
		__asm__ volatile("int3" : : : "memory");
		shared->end = end;
		return 0;
	}
	return EINVAL;
}

int main(void)
{
	struct worker_shared *shared = mmap(NULL, sizeof(*shared),
					    PROT_READ | PROT_WRITE, MAP_SHARED,
					    WORKER_MEMORY, 0);
	struct worker_request request;

	if (shared == MAP_FAILED || init())
		return 1;
	while (recv(WORKER_SOCKET, &request, sizeof(request), 0) ==
	       sizeof(request)) {
		const int answer = obey(&request, shared);

		if (send(WORKER_SOCKET, &answer, sizeof(answer),
			 MSG_NOSIGNAL) != sizeof(answer))
			return 1;
	}
	return 0;
}
