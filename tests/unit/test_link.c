/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's end of the link: greeting, waiting for a decision, what a host may ask, and the end
 * of a host that says what it must not. The host is this test.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/arith.h>
#include <base/clock.h>
#include <mem/link_msg.h>
#include <mem/memfile.h>
#include <vm/link.h>

#define N_PAGES UINT64_C(4096)
#define SOON_MS 2000

struct vm {
	char dir[32];
	struct guestmem *mem;
	struct link *link;
	int sock; /* the host's */
	struct link_counters *counters;
	int fds[LINK_FDS_MAX]; /* of the last HELLO */
	_Atomic uint64_t balloon;
	_Atomic unsigned int powers;
	_Atomic unsigned int stops;
	_Atomic int large; /* as it was told last, -1: never */
	_Atomic bool waited;
	_Atomic int wait_result;
};

static void on_balloon(void *ctx, uint64_t pages)
{
	struct vm *vm = ctx;

	atomic_store(&vm->balloon, pages);
}

static void on_power(void *ctx)
{
	struct vm *vm = ctx;

	atomic_fetch_add(&vm->powers, 1);
}

static void on_stop(void *ctx)
{
	struct vm *vm = ctx;

	atomic_fetch_add(&vm->stops, 1);
}

static void on_large(void *ctx, bool on)
{
	struct vm *vm = ctx;

	atomic_store(&vm->large, on);
}

static const struct link_hooks hooks = {
	.balloon = on_balloon,
	.power = on_power,
	.stop = on_stop,
	.large = on_large,
};

static int setup(void **state)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	struct err err = {0};

	assert_non_null(vm);
	vm->sock = -1;
	vm->large = -1;
	snprintf(vm->dir, sizeof(vm->dir), "/tmp/test-link-XXXXXX");
	assert_non_null(mkdtemp(vm->dir));
	assert_int_equal(guestmem_new(N_PAGES * PAGE_SIZE, &vm->mem, &err), 0);
	assert_int_equal(link_new(vm->mem, vm->dir, &hooks, vm, &vm->link, &err),
			 0);
	*state = vm;
	return 0;
}

static void hang_up(struct vm *vm)
{
	link_counters_unmap(vm->counters);
	vm->counters = NULL;
	close(vm->sock);
	vm->sock = -1;
}

static int teardown(void **state)
{
	struct vm *vm = *state;
	char path[64];

	if (vm->sock >= 0)
		hang_up(vm);
	link_free(vm->link);
	guestmem_free(vm->mem);
	snprintf(path, sizeof(path), "%s/%s", vm->dir, LINK_SOCKET_NAME);
	unlink(path);
	assert_int_equal(rmdir(vm->dir), 0);
	free(vm);
	return 0;
}

/* The next message of the VM, or what ends the link. */
static int hear(struct vm *vm, struct link_msg *msg)
{
	struct pollfd fd = {.fd = vm->sock, .events = POLLIN};

	assert_int_equal(poll(&fd, 1, SOON_MS), 1);
	return link_recv(vm->sock, LINK_FROM_VM, 0, msg, vm->fds);
}

static void say(struct vm *vm, enum link_type type, uint64_t value)
{
	struct link_msg msg;

	link_msg_init(&msg, type, value);
	assert_int_equal(link_send(vm->sock, &msg, NULL, 0), 0);
}

/* Connect, and be greeted with that many descriptors. */
static void call(struct vm *vm, unsigned int n_fds)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct link_msg msg;
	struct err err;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", vm->dir,
		 LINK_SOCKET_NAME);
	vm->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(vm->sock, (struct sockaddr *)&addr,
				 sizeof(addr)),
			 0);
	assert_int_equal(hear(vm, &msg), 0);
	assert_int_equal(msg.type, LINK_HELLO);
	assert_int_equal(msg.value, N_PAGES);
	assert_int_equal(msg.n_fds, n_fds);
	assert_int_equal(link_counters_map(vm->fds[LINK_FD_COUNTERS],
					   &vm->counters, &err),
			 0);
	for (unsigned int i = 0; i < n_fds; i++)
		close(vm->fds[i]);
}

static int file_of_page(void)
{
	struct err err;
	int fd;

	assert_int_equal(memfile_new("test-link", PAGE_SIZE, true, &fd, &err),
			 0);
	return fd;
}

static void attach(struct vm *vm, bool with_files)
{
	const int fds[] = {file_of_page(), file_of_page(), file_of_page()};
	struct link_msg msg;

	link_msg_init(&msg, LINK_ATTACH, 0);
	assert_int_equal(link_send(vm->sock, &msg, fds,
				   with_files ? LINK_ATTACH_FDS : 0),
			 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

/* Nothing but the end of the link comes from the VM any more. */
static void is_hung_up_on(struct vm *vm)
{
	struct link_msg msg;
	int r = 0;

	while (!r)
		r = hear(vm, &msg);
	assert_true(r == -EPIPE || r == -ECONNRESET);
	hang_up(vm);
}

/* Until a condition holds, or SOON_MS are over. */
#define BECOMES(condition)                                              \
	do {                                                            \
		for (int ms_ = 0; ms_ < SOON_MS && !(condition); ms_++) \
			nap_ms(1);                                      \
		assert_true(condition);                                 \
	} while (0)

/* With the message after it, by whose coming the VM is known to be attached. */
static void attach_and_see(struct vm *vm, bool with_files)
{
	static uint64_t pages;

	attach(vm, with_files);
	say(vm, LINK_BALLOON, ++pages);
	BECOMES(atomic_load(&vm->balloon) == pages);
}

static void *waiter(void *arg)
{
	struct vm *vm = arg;
	struct err err;

	atomic_store(&vm->wait_result, link_wait(vm->link, 10 * SOON_MS, &err));
	atomic_store(&vm->waited, true);
	return NULL;
}

/* A VM that is attached goes on when it has been decided what it may have, and not before. */
static void test_waits_for_decision(void **state)
{
	struct vm *vm = *state;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, waiter, vm), 0);
	call(vm, LINK_FDS_NEW);
	nap_ms(20);
	assert_false(atomic_load(&vm->waited));
	attach_and_see(vm, true);
	nap_ms(50);
	assert_false(atomic_load(&vm->waited));
	assert_int_equal(physmap_allowance(guestmem_physmap(vm->mem)), 0);
	physmap_grant(guestmem_physmap(vm->mem), 5);
	atomic_store(&vm->counters->decided, 1);
	BECOMES(atomic_load(&vm->waited));
	assert_int_equal(atomic_load(&vm->wait_result), 0);
	pthread_join(thread, NULL);
}

static void test_wait_ends(void **state)
{
	struct vm *vm = *state;
	struct err err = {0};

	assert_int_equal(link_wait(vm->link, 20, &err), -ETIMEDOUT);
	assert_string_equal(err.text, "no host has linked itself with this VM");
	call(vm, LINK_FDS_NEW);
	attach_and_see(vm, true);
	/* A host that cannot decide is a host all the same. */
	assert_int_equal(link_wait(vm->link, 20, &err), 0);
}

static void test_hooks(void **state)
{
	struct vm *vm = *state;

	call(vm, LINK_FDS_NEW);
	attach(vm, true);
	say(vm, LINK_BALLOON, 12);
	BECOMES(atomic_load(&vm->balloon) == 12);
	say(vm, LINK_POWER, 0);
	BECOMES(atomic_load(&vm->powers) == 1);
	assert_int_equal(atomic_load(&vm->large), -1);
	atomic_store(&vm->counters->break_large, 1);
	BECOMES(atomic_load(&vm->large) == 0);
	atomic_store(&vm->counters->break_large, 0);
	BECOMES(atomic_load(&vm->large) == 1);
	/* Nobody here knows where a guest's tables are, so none waits for it. */
	atomic_store(&vm->counters->want_root, 1);
	BECOMES(!atomic_load(&vm->counters->want_root));
	say(vm, LINK_STOP, 0);
	BECOMES(atomic_load(&vm->stops) == 1);
	assert_int_equal(atomic_load(&vm->powers), 1);
}

static void test_tells(void **state)
{
	struct vm *vm = *state;
	struct link_msg msg;

	call(vm, LINK_FDS_NEW);
	attach_and_see(vm, true);
	link_tell_up(vm->link);
	assert_int_equal(hear(vm, &msg), 0);
	assert_int_equal(msg.type, LINK_UP);
	atomic_store(&vm->counters->want_root, 1);
	link_tell_page_root(vm->link, 0x5000);
	assert_int_equal(atomic_load(&vm->counters->page_root),
			 0x5000 | LINK_ROOT_KNOWN);
	assert_int_equal(atomic_load(&vm->counters->want_root), 0);
	link_tell_page_root(vm->link, 0);
	assert_int_equal(atomic_load(&vm->counters->page_root), 0);
}

static void *toucher(void *arg)
{
	struct vm *vm = arg;
	const uint8_t byte = 9;

	assert_true(guestmem_write(vm->mem, gpa(3 * PAGE_SIZE), &byte, 1));
	return NULL;
}

/* Without allowance the host is asked, once until it has answered; the next host, too. */
static void test_asks(void **state)
{
	struct vm *vm = *state;
	pthread_t thread;
	struct link_msg msg;

	call(vm, LINK_FDS_NEW);
	attach_and_see(vm, true);
	assert_int_equal(pthread_create(&thread, NULL, toucher, vm), 0);
	assert_int_equal(hear(vm, &msg), 0);
	assert_int_equal(msg.type, LINK_WANT);
	assert_int_equal(atomic_load(&vm->counters->want), 1);
	nap_ms(50);
	assert_int_equal(link_recv(vm->sock, LINK_FROM_VM, 0, &msg, vm->fds),
			 -EAGAIN);
	hang_up(vm);

	call(vm, LINK_FDS_ATTACHED);
	attach(vm, false);
	assert_int_equal(hear(vm, &msg), 0);
	assert_int_equal(msg.type, LINK_WANT);
	physmap_grant(guestmem_physmap(vm->mem), 4);
	pthread_join(thread, NULL);
	assert_int_equal(
		physmap_counts(guestmem_physmap(vm->mem)).pages[PHYSMAP_HOME],
		1);
}

/* A host that breaks the rules loses the link, and the next one may come. */
static void test_wrong_hosts(void **state)
{
	struct vm *vm = *state;
	pthread_t thread;
	struct link_msg msg;

	call(vm, LINK_FDS_NEW);
	assert_int_equal(send(vm->sock, "hello", 5, 0), 5);
	is_hung_up_on(vm);

	/* Not attached yet. */
	call(vm, LINK_FDS_NEW);
	say(vm, LINK_STOP, 0);
	is_hung_up_on(vm);

	/* Nothing to attach. */
	call(vm, LINK_FDS_NEW);
	attach(vm, false);
	is_hung_up_on(vm);

	call(vm, LINK_FDS_NEW);
	say(vm, LINK_WANT, 0);
	is_hung_up_on(vm);

	call(vm, LINK_FDS_NEW);
	attach_and_see(vm, true);
	link_tell_up(vm->link);
	assert_int_equal(hear(vm, &msg), 0);
	hang_up(vm);

	/* What the last host may have wanted is settled by who uses the memory. */
	assert_int_equal(pthread_create(&thread, NULL, waiter, vm), 0);
	/* Files that it has already. */
	call(vm, LINK_FDS_ATTACHED);
	attach(vm, true);
	is_hung_up_on(vm);

	call(vm, LINK_FDS_ATTACHED);
	attach_and_see(vm, false);
	assert_int_equal(atomic_load(&vm->stops), 0);
	atomic_store(&vm->counters->decided, 1);
	pthread_join(thread, NULL);
	assert_int_equal(atomic_load(&vm->wait_result), 0);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_waits_for_decision),
		TEST(test_wait_ends),
		TEST(test_hooks),
		TEST(test_tells),
		TEST(test_asks),
		TEST(test_wrong_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
