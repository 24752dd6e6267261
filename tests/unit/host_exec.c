/* SPDX-License-Identifier: Apache-2.0 */
/* The test's side of running code on the real processor. */
#include "host_exec.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "host_worker.h"

#define PAGE     4096U
#define MAX_MAPS 16U

static struct {
	pid_t pid;
	int socket;
	int memory;
	uint64_t bytes; /* of the memory file */
	struct worker_shared *shared;
	unsigned int n_maps;
	struct {
		void *at;
		size_t bytes;
	} maps[MAX_MAPS];
} worker;

/* The worker's program is beside the test's. */
static void worker_path(char *path, size_t size)
{
	const ssize_t n = readlink("/proc/self/exe", path, size - 1);

	assert_true(n > 0);
	path[n] = '\0';
	char *slash = strrchr(path, '/');

	assert_non_null(slash);
	snprintf(slash, size - (size_t)(slash - path), "/host_worker");
}

static void become_worker(const char *path, int socket, int memory)
{
	/* By way of high numbers, so that neither is closed under the other. */
	const int s = fcntl(socket, F_DUPFD, 100);
	const int m = fcntl(memory, F_DUPFD, 100);

	if (dup2(s, WORKER_SOCKET) == WORKER_SOCKET &&
	    dup2(m, WORKER_MEMORY) == WORKER_MEMORY) {
		close(s);
		close(m);
		execl(path, "host_worker", (char *)NULL);
	}
	_exit(127);
}

static uint64_t grow(uint64_t bytes)
{
	const uint64_t at = worker.bytes;

	worker.bytes += bytes;
	assert_int_equal(ftruncate(worker.memory, (off_t)worker.bytes), 0);
	return at;
}

static void ask(const struct worker_request *request)
{
	int answer = -1;

	assert_int_equal(send(worker.socket, request, sizeof(*request),
			      MSG_NOSIGNAL),
			 sizeof(*request));
	if (recv(worker.socket, &answer, sizeof(answer), 0) != sizeof(answer))
		fail_msg("the process that runs the code has ended");
	assert_int_equal(answer, 0);
}

void host_exec_start(uint64_t gs_base)
{
	const struct worker_request set_gs = {.verb = WORKER_SET_GS,
					      .addr = gs_base};
	char path[PATH_MAX];
	int sockets[2];

	worker_path(path, sizeof(path));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				    sockets),
			 0);
	worker.memory = memfd_create("host-exec", MFD_CLOEXEC);
	assert_true(worker.memory >= 0);
	worker.bytes = 0;
	worker.n_maps = 0;
	grow(PAGE);
	worker.shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			     worker.memory, 0);
	assert_ptr_not_equal(worker.shared, MAP_FAILED);
	worker.pid = fork();
	assert_true(worker.pid >= 0);
	if (worker.pid == 0)
		become_worker(path, sockets[1], worker.memory);
	close(sockets[1]);
	worker.socket = sockets[0];
	ask(&set_gs);
}

void host_exec_stop(void)
{
	kill(worker.pid, SIGKILL);
	waitpid(worker.pid, NULL, 0);
	close(worker.socket);
	for (unsigned int i = 0; i < worker.n_maps; i++)
		munmap(worker.maps[i].at, worker.maps[i].bytes);
	munmap(worker.shared, PAGE);
	close(worker.memory);
}

void host_exec_map(uint64_t addr, uint64_t n_pages, int prot)
{
	const struct worker_request request = {
		.verb = WORKER_MAP,
		.prot = prot,
		.addr = addr,
		.offset = grow(n_pages * PAGE),
		.bytes = n_pages * PAGE,
	};
	void *p = mmap((void *)addr, request.bytes, prot & ~PROT_EXEC,
		       MAP_SHARED | MAP_FIXED_NOREPLACE, worker.memory,
		       (off_t)request.offset);

	assert_ptr_equal(p, (void *)addr);
	assert_true(worker.n_maps < MAX_MAPS);
	worker.maps[worker.n_maps].at = p;
	worker.maps[worker.n_maps++].bytes = request.bytes;
	ask(&request);
}

struct host_end host_exec(struct host_state *state)
{
	const struct worker_request run = {.verb = WORKER_RUN};

	worker.shared->state = *state;
	ask(&run);
	*state = worker.shared->state;
	return worker.shared->end;
}
