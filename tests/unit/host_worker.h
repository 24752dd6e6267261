/* SPDX-License-Identifier: Apache-2.0 */
/* What host_exec.c and the process that runs the code say to each other. */
#ifndef TESTS_UNIT_HOST_WORKER_H
#define TESTS_UNIT_HOST_WORKER_H
#include "host_exec.h"

/* Descriptors that the worker is started with. */
#define WORKER_SOCKET 3
#define WORKER_MEMORY \
	4 /* first a struct worker_shared in a page, then pages to map */

enum worker_verb {
	WORKER_SET_GS, /* addr */
	WORKER_MAP,    /* addr, offset in the memory file, length, prot */
	WORKER_RUN,    /* what is in the shared page */
};

/* A request; the answer is one int, 0 or an errno. */
struct worker_request {
	enum worker_verb verb;
	int prot;
	uint64_t addr;
	uint64_t offset;
	uint64_t bytes;
};

struct worker_shared {
	struct host_state state;
	struct host_end end;
};

_Static_assert(sizeof(struct worker_shared) <= 4096, "it has one page");

#endif
