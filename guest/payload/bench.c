/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest side of the benchmark: one workload per call.
 *
 *	bench NAME [OPS [PARAMETER]]	run one, print "bench NAME OPS NANOSECONDS"
 *	bench list			print the names with their default numbers of operations
 *
 * Only the operations are timed, not what prepares them. Default numbers take 0.2 to 1 s on a
 * machine that executes 1 G instructions a second.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE_BYTES 4096UL
#define MIB        (1024UL * 1024UL)
#define MAX_RING   256

static volatile uint64_t sink;

static void fail(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_MONOTONIC, &ts))
		fail("clock_gettime");
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Private memory in 4 KiB pages, not touched yet. */
static uint8_t *map(size_t bytes)
{
	uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	/* Fails on a kernel without huge pages, where nothing is to be done. */
	(void)madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

static void unmap(uint8_t *p, size_t bytes)
{
	if (munmap(p, bytes))
		fail("munmap");
}

static void touch(uint8_t *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += PAGE_BYTES)
		*(volatile uint8_t *)(p + i) = (uint8_t)(i >> 12 | 1);
}

static void wait_for(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "bench: a child failed\n");
		exit(1);
	}
}

static pid_t fork_or_fail(void)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	return pid;
}

static uint64_t run_alu(uint64_t ops, uint64_t unused)
{
	uint64_t x = 88172645463325252;
	uint32_t sum = 1;
	uint64_t start = now_ns();

	(void)unused;
	for (uint64_t i = 0; i < ops; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		sum = sum * 31 + (uint32_t)x;
		if (x & 8)
			sum ^= 0x5bd1e995;
	}
	sink = x + sum;
	return now_ns() - start;
}

static uint64_t run_syscall(uint64_t ops, uint64_t unused)
{
	uint64_t start = now_ns();

	(void)unused;
	for (uint64_t i = 0; i < ops; i++)
		syscall(SYS_getppid);
	return now_ns() - start;
}

static uint64_t run_touch(uint64_t ops, uint64_t chunk_mib)
{
	size_t chunk = chunk_mib * MIB;
	uint64_t ns = 0;

	while (ops) {
		size_t bytes = ops * PAGE_BYTES < chunk ? ops * PAGE_BYTES
							: chunk;
		uint8_t *p = map(bytes);
		uint64_t start = now_ns();

		touch(p, bytes);
		ns += now_ns() - start;
		unmap(p, bytes);
		ops -= bytes / PAGE_BYTES;
	}
	return ns;
}

/* One operation maps 16 pages, touches the first, and unmaps them. */
static uint64_t run_mmap(uint64_t ops, uint64_t pages)
{
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < ops; i++) {
		uint8_t *p = mmap(NULL, pages * PAGE_BYTES,
				  PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			fail("mmap");
		*(volatile uint8_t *)p = 1;
		unmap(p, pages * PAGE_BYTES);
	}
	return now_ns() - start;
}

/* One operation makes a page read-only, reads it, makes it writable again and writes it. */
static uint64_t run_mprotect(uint64_t ops, uint64_t pages)
{
	uint8_t *p = map(pages * PAGE_BYTES);
	uint64_t start;

	touch(p, pages * PAGE_BYTES);
	start = now_ns();
	for (uint64_t i = 0; i < ops; i++) {
		volatile uint8_t *page = p + i % pages * PAGE_BYTES;

		if (mprotect((uint8_t *)page, PAGE_BYTES, PROT_READ))
			fail("mprotect");
		sink += *page;
		if (mprotect((uint8_t *)page, PAGE_BYTES, PROT_READ | PROT_WRITE))
			fail("mprotect");
		*page = (uint8_t)i;
	}
	return now_ns() - start;
}

static uint64_t run_fork(uint64_t ops, uint64_t touched_pages)
{
	uint8_t *p = map(touched_pages * PAGE_BYTES);
	uint64_t start;

	touch(p, touched_pages * PAGE_BYTES);
	start = now_ns();
	for (uint64_t i = 0; i < ops; i++) {
		pid_t pid = fork_or_fail();

		if (!pid)
			_exit(0);
		wait_for(pid);
	}
	return now_ns() - start;
}

static uint64_t run_exec(uint64_t ops, uint64_t unused)
{
	uint64_t start = now_ns();

	(void)unused;
	for (uint64_t i = 0; i < ops; i++) {
		pid_t pid = fork_or_fail();

		if (!pid) {
			execl("/proc/self/exe", "bench", "nothing", NULL);
			_exit(127);
		}
		wait_for(pid);
	}
	return now_ns() - start;
}

static void put_token(int fd, uint64_t token)
{
	if (write(fd, &token, sizeof(token)) != sizeof(token))
		fail("write to a pipe");
}

static bool get_token(int fd, uint64_t *ret_token)
{
	ssize_t n = read(fd, ret_token, sizeof(*ret_token));

	if (n != 0 && n != sizeof(*ret_token))
		fail("read from a pipe");
	return n != 0;
}

/*
 * Processes in a ring hand a token round: each reads it from the pipe before it, and writes
 * it to the pipe behind it. The first one counts the hops down.
 */
static void ring_member(int from, int to)
{
	uint64_t token;

	while (get_token(from, &token) && token)
		put_token(to, token - 1);
	put_token(to, 0);
	_exit(0);
}

static uint64_t run_ring(uint64_t ops, uint64_t n_procs)
{
	static int pipes[MAX_RING][2];
	static pid_t pids[MAX_RING];
	uint64_t start;
	uint64_t token = 0;
	uint64_t n = n_procs < 2 ? 2 : n_procs;

	n = n > MAX_RING ? MAX_RING : n;
	for (uint64_t i = 0; i < n; i++) {
		if (pipe(pipes[i]))
			fail("pipe");
	}
	for (uint64_t i = 1; i < n; i++) {
		pids[i] = fork_or_fail();
		if (!pids[i])
			ring_member(pipes[i - 1][0], pipes[i][1]);
	}

	start = now_ns();
	put_token(pipes[0][1], ops);
	while (get_token(pipes[n - 1][0], &token) && token)
		put_token(pipes[0][1], token - 1);
	start = now_ns() - start;

	/* A zero that came the whole way round has ended every member; else send one. */
	put_token(pipes[0][1], 0);
	for (uint64_t i = 1; i < n; i++)
		wait_for(pids[i]);
	return start;
}

/* Each load's address depends on the value of the one before. */
static uint64_t run_random(uint64_t ops, uint64_t mib)
{
	size_t bytes = mib * MIB;
	uint8_t *p = map(bytes);
	uint64_t x = 1;
	uint64_t start;

	touch(p, bytes);
	start = now_ns();
	for (uint64_t i = 0; i < ops; i++) {
		uint64_t where;

		x = x * 6364136223846793005 + 1442695040888963407;
		where = ((x >> 32) * (bytes / 8)) >> 32;
		x += *(volatile uint64_t *)(p + where * 8);
	}
	sink = x;
	return now_ns() - start;
}

/* One operation reads 1 MiB; the buffer is 64 MiB. */
static uint64_t run_stream(uint64_t ops, uint64_t mib)
{
	uint8_t *p = map(mib * MIB);
	uint64_t sum = 0;
	uint64_t start;

	touch(p, mib * MIB);
	start = now_ns();
	for (uint64_t i = 0; i < ops; i++) {
		const volatile uint64_t
			*q = (const volatile uint64_t *)(p + i % mib * MIB);

		for (size_t k = 0; k < MIB / 8; k += 8)
			sum += q[k] + q[k + 1] + q[k + 2] + q[k + 3] +
			       q[k + 4] + q[k + 5] + q[k + 6] + q[k + 7];
	}
	sink = sum;
	return now_ns() - start;
}

static void write_test_file(const char *path, uint64_t mib)
{
	static uint8_t buf[64 * 1024];
	uint64_t x = 1;
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	if (fd < 0)
		fail(path);
	for (uint64_t i = 0; i < mib * MIB; i += sizeof(buf)) {
		for (size_t k = 0; k < sizeof(buf); k += 8) {
			x = x * 6364136223846793005 + 1442695040888963407;
			memcpy(buf + k, &x, 8);
		}
		if (write(fd, buf, sizeof(buf)) != sizeof(buf))
			fail(path);
	}
	close(fd);
}

/* One operation is 1 MiB of a file in memory, through the sha256sum that is in the path. */
static uint64_t run_sha256sum(uint64_t ops, uint64_t unused)
{
	char path[] = "/tmp/bench-sha256sum";
	uint64_t start;
	pid_t pid;

	(void)unused;
	write_test_file(path, ops);
	start = now_ns();
	pid = fork_or_fail();
	if (!pid) {
		int fd = open("/dev/null", O_WRONLY);

		if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
			_exit(126);
		execlp("sha256sum", "sha256sum", path, NULL);
		_exit(127);
	}
	wait_for(pid);
	start = now_ns() - start;
	unlink(path);
	return start;
}

struct workload {
	const char *name;
	uint64_t (*run)(uint64_t ops, uint64_t parameter);
	uint64_t ops;
	uint64_t parameter;
};

static const struct workload workloads[] = {
	{"alu", run_alu, 30000000, 0},
	{"syscall", run_syscall, 1000000, 0},
	{"touch", run_touch, 65536, 32},
	{"mmap", run_mmap, 50000, 16},
	{"mprotect", run_mprotect, 100000, 64},
	{"fork", run_fork, 1500, 64},
	{"exec", run_exec, 800, 0},
	{"pipe", run_ring, 40000, 2},
	{"ring", run_ring, 40000, 32},
	{"random32", run_random, 4000000, 32},
	{"random96", run_random, 4000000, 96},
	{"random192", run_random, 4000000, 192},
	{"stream", run_stream, 2048, 64},
	{"sha256sum", run_sha256sum, 32, 0},
};

int main(int argc, char **argv)
{
	const size_t n = sizeof(workloads) / sizeof(workloads[0]);

	if (argc == 2 && !strcmp(argv[1], "nothing"))
		return 0;
	if (argc == 2 && !strcmp(argv[1], "list")) {
		for (size_t i = 0; i < n; i++)
			printf("%s %lu\n", workloads[i].name, workloads[i].ops);
		return 0;
	}
	for (size_t i = 0; argc >= 2 && i < n; i++) {
		const struct workload *w = &workloads[i];
		uint64_t ops = argc > 2 ? strtoull(argv[2], NULL, 0) : w->ops;
		uint64_t par = argc > 3 ? strtoull(argv[3], NULL, 0)
					: w->parameter;

		if (strcmp(argv[1], w->name))
			continue;
		printf("bench %s %lu %lu\n", w->name, ops, w->run(ops, par));
		return 0;
	}
	fprintf(stderr, "usage: bench NAME [OPS [PARAMETER]] | bench list\n");
	return 2;
}
