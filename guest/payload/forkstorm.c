/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many processes at once, each with memory of its own that was shared by fork before.
 *
 *	forkstorm [PROCESSES [ROUNDS]]		default 64 and 10
 *
 * None begins before all are there. Every child checks what it inherited, writes over it,
 * forks a child that checks that, and computes a number; the sum is printed.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE_WORDS 512UL
#define N_PAGES    64UL

static uint64_t *mem;

static uint64_t word(uint64_t page, uint64_t owner)
{
	return (page + 1) * 0x9e3779b97f4a7c15 ^ owner * 0xc2b2ae3d27d4eb4f;
}

static void write_all(uint64_t owner)
{
	for (uint64_t p = 0; p < N_PAGES; p++)
		mem[p * PAGE_WORDS + owner % PAGE_WORDS] = word(p, owner);
}

static int check_all(uint64_t owner)
{
	for (uint64_t p = 0; p < N_PAGES; p++) {
		if (mem[p * PAGE_WORDS + owner % PAGE_WORDS] != word(p, owner))
			return 1;
	}
	return 0;
}

static pid_t fork_or_exit(void)
{
	const pid_t pid = fork();

	if (pid < 0) {
		perror("forkstorm: fork");
		exit(2);
	}
	return pid;
}

static int exit_status(pid_t pid)
{
	int status = 0;

	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* Blocks until the last process that holds @gate's other end has closed it. */
static void wait_at(const int gate[2])
{
	char c;

	close(gate[1]);
	if (read(gate[0], &c, 1) != 0)
		_exit(203);
	close(gate[0]);
}

/* Returns a number below 100 that depends on @who, or 200 on wrong memory. */
static int child(uint64_t who)
{
	uint64_t x = who;

	if (check_all(0))
		return 200;
	write_all(who);
	const pid_t pid = fork_or_exit();

	if (pid == 0) {
		write_all(0);
		_exit(check_all(who % PAGE_WORDS == 0 ? 0 : who) ? 201 : 0);
	}
	for (int i = 0; i < 1000; i++)
		x = x * 6364136223846793005 + 1442695040888963407;
	if (exit_status(pid) != 0 || check_all(who))
		return 202;
	return (int)(x >> 33) % 100;
}

int main(int argc, char **argv)
{
	const int n = argc > 1 ? atoi(argv[1]) : 64;
	const int rounds = argc > 2 ? atoi(argv[2]) : 10;
	pid_t *pids = calloc((size_t)n, sizeof(*pids));
	uint64_t sum = 0;
	int wrong = 0;

	mem = mmap(NULL, N_PAGES * PAGE_WORDS * 8, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!pids || mem == MAP_FAILED)
		return 2;
	write_all(0);
	for (int r = 0; r < rounds; r++) {
		int gate[2];

		if (pipe(gate))
			return 2;
		for (int i = 0; i < n; i++) {
			pids[i] = fork_or_exit();
			if (pids[i] == 0) {
				wait_at(gate);
				_exit(child((uint64_t)(r * n + i + 1)));
			}
		}
		close(gate[0]);
		close(gate[1]);
		for (int i = 0; i < n; i++) {
			const int status = exit_status(pids[i]);

			if (status < 0 || status >= 100)
				wrong++;
			else
				sum += (uint64_t)(i + 1) * (uint64_t)status;
		}
	}
	printf("forkstorm %d %d: sum %lu, %d wrong\n", n, rounds, sum, wrong);
	return wrong != 0;
}
