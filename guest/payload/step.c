/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single steps and breakpoints, as a debugger inside the guest uses them.
 *
 *	step trap	the trap flag, set by the program itself
 *	step trace	a traced child, stepped through known instructions
 *	step watch	hardware breakpoints on code and data of a traced child
 *	step		all of them
 *
 * Prints how many steps were taken where; the same on every machine.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_STEPS 100000

/*
 * The code under test: a loop, a string instruction, a call, a system call, PUSHF and a shadow
 * of MOV SS. Its result is known.
 */
extern const uint8_t code_start[], code_string[], code_inner[], code_end[];
__asm__(".text\n"
	".globl code_start, code_string, code_inner, code_end\n"
	"code_start:\n"
	"	mov $10, %ecx\n"
	"	xor %eax, %eax\n"
	"1:	add %ecx, %eax\n"
	"	dec %ecx\n"
	"	jnz 1b\n"
	"	push %rax\n"
	"	lea -256(%rsp), %rdi\n"
	"	mov $16, %ecx\n"
	"code_string:\n"
	"	rep stosb\n"
	"	mov $39, %eax\n" /* getpid */
	"	syscall\n"
	"	call code_inner\n"
	"	mov %ss, %edx\n"
	"	mov %edx, %ss\n"
	"	nop\n"
	"	pushf\n"
	"	pop %rdx\n"
	"	pop %rax\n"
	"	add %ebx, %eax\n"
	"code_end:\n"
	"	ret\n"
	"code_inner:\n"
	"	mov $1000, %ebx\n"
	"	ret\n");

static int run_code(void)
{
	int result;

	/* The red zone is not ours inside the call. */
	__asm__ volatile("sub $512, %%rsp\n\tcall code_start\n\tadd $512, %%rsp"
			 : "=a"(result)
			 :
			 : "rbx", "rcx", "rdx", "rdi", "r11", "memory", "cc");
	return result;
}

static int inside(uint64_t rip)
{
	return rip >= (uintptr_t)code_start && rip < (uintptr_t)code_inner + 6;
}

static volatile int traps;
static volatile int traps_inside;
static volatile int string_traps;

static void on_trap(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *u = context;
	const uint64_t rip = (uint64_t)u->uc_mcontext.gregs[REG_RIP];

	(void)sig;
	(void)info;
	traps++;
	if (inside(rip))
		traps_inside++;
	if (rip == (uintptr_t)code_string)
		string_traps++;
}

static int test_trap(void)
{
	struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	int result;

	sigaction(SIGTRAP, &sa, NULL);
	__asm__ volatile("sub $128, %%rsp\n\t"
			 "pushf\n\torl $0x100, (%%rsp)\n\tpopf\n\t"
			 "call code_start\n\t"
			 "pushf\n\tandl $~0x100, (%%rsp)\n\tpopf\n\t"
			 "add $128, %%rsp"
			 : "=a"(result)
			 :
			 : "rbx", "rcx", "rdx", "rdi", "r11", "memory", "cc");
	printf("trap: result %d, %d traps, %d inside, %d at the string instruction\n",
	       result, traps, traps_inside, string_traps);
	return result != 1055;
}

static pid_t start_child(void)
{
	int status;
	const pid_t pid = fork();

	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(99);
		raise(SIGSTOP);
		_exit(run_code() == 1055 ? 55 : 1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) {
		perror("step: child");
		exit(2);
	}
	return pid;
}

static int test_trace(void)
{
	const pid_t pid = start_child();
	struct user_regs_struct regs;
	int status = 0;
	int in = 0;
	int in_string = 0;
	uint64_t hash = 0;

	for (int i = 0; i < MAX_STEPS; i++) {
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) ||
		    waitpid(pid, &status, 0) != pid || WIFEXITED(status) ||
		    WIFSIGNALED(status))
			break;
		if (ptrace(PTRACE_GETREGS, pid, NULL, &regs))
			break;
		if (!inside(regs.rip))
			continue;
		in++;
		in_string += regs.rip == (uintptr_t)code_string;
		hash = hash * 31 + (regs.rip - (uintptr_t)code_start);
		hash = hash * 31 + regs.rcx % 0x10000;
	}
	/* RCX holds a return address after SYSCALL, at a fixed place as the program is static. */
	printf("trace: %d steps inside, %d at the string instruction, %s %d, path %016lx\n",
	       in, in_string, WIFEXITED(status) ? "exit" : "signal",
	       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), hash);
	return !WIFEXITED(status) || WEXITSTATUS(status) != 55;
}

static int watched;

static int poke_debug(pid_t pid, int reg, uint64_t value)
{
	return ptrace(PTRACE_POKEUSER, pid,
		      (void *)(offsetof(struct user, u_debugreg) +
			       (size_t)reg * 8),
		      (void *)value) != 0;
}

static uint64_t peek_debug(pid_t pid, int reg)
{
	return (uint64_t)ptrace(PTRACE_PEEKUSER, pid,
				(void *)(offsetof(struct user, u_debugreg) +
					 (size_t)reg * 8),
				NULL);
}

static void watched_child(void)
{
	volatile int *w = &watched;
	int sum = 0;

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(99);
	raise(SIGSTOP);
	for (int i = 1; i <= 3; i++)
		*w = i;
	for (int i = 1; i <= 2; i++)
		sum += *w;
	_exit(run_code() == 1055 && sum == 6 ? 55 : 1);
}

/* DR0: execution of code_inner; DR1: writes to @watched. */
static int test_watch(void)
{
	int status = 0;
	int execs = 0;
	int writes = 0;
	const pid_t pid = fork();

	if (pid == 0)
		watched_child();
	if (pid < 0 || waitpid(pid, &status, 0) != pid ||
	    poke_debug(pid, 0, (uintptr_t)code_inner) ||
	    poke_debug(pid, 1, (uintptr_t)&watched) ||
	    poke_debug(pid, 7, 1U | 1U << 2 | 1U << 20 | 3U << 22)) {
		perror("step: watch");
		return 1;
	}
	for (int i = 0; i < 100; i++) {
		if (ptrace(PTRACE_CONT, pid, NULL, NULL) ||
		    waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
			break;
		const uint64_t dr6 = peek_debug(pid, 6);

		execs += (dr6 & 1) != 0;
		writes += (dr6 & 2) != 0;
		poke_debug(pid, 6, 0);
	}
	printf("watch: %d executions, %d writes, exit %d\n", execs, writes,
	       WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	return execs != 1 || writes != 3;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "all";
	const int all = !strcmp(what, "all");
	int bad = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (all || !strcmp(what, "trap"))
		bad |= test_trap();
	if (all || !strcmp(what, "trace"))
		bad |= test_trace();
	if (all || !strcmp(what, "watch"))
		bad |= test_watch();
	return bad;
}
