/* SPDX-License-Identifier: Apache-2.0 */
/* The console as a socket: what clients get, what they type, and who loses what. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/types.h>
#include <vm/console_socket.h>
#include <vm/vm.h>

_Static_assert(CONSOLE_HISTORY == 65536, "as mezz(1) and docs/host.md say");

/* The guest: takes as much as it has room for. */
static size_t guest_room;
static uint8_t guest_got[4096];
static size_t guest_n;

size_t vm_console_input(struct vm *vm, const uint8_t *bytes, size_t len)
{
	const size_t n = len < guest_room ? len : guest_room;

	(void)vm;
	memcpy(guest_got + guest_n, bytes, n);
	guest_n += n;
	guest_room -= n;
	return n;
}

void vm_press_power(struct vm *vm)
{
	(void)vm;
}

struct fixture {
	char dir[32];
	char path[64];
	struct console_socket *con;
};

static int setup(void **state)
{
	static struct fixture f;
	struct err err;

	f = (struct fixture){.dir = "/tmp/mezz-con-XXXXXX"};
	guest_room = guest_n = 0;
	if (!mkdtemp(f.dir))
		return -1;
	snprintf(f.path, sizeof(f.path), "%s/console.sock", f.dir);
	*state = &f;
	return console_socket_new(f.path, &f.con, &err);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	console_socket_free(f->con);
	unlink(f->path);
	return rmdir(f->dir);
}

/* What mezz-vm's main thread does when something has happened. */
static void serve(struct fixture *f)
{
	struct pollfd fds[CONSOLE_FDS];

	console_socket_fds(f->con, fds);
	assert_true(poll(fds, CONSOLE_FDS, 0) >= 0);
	console_socket_serve(f->con, fds, NULL);
}

static int connect_client(struct fixture *f)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", f->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	serve(f);
	return fd;
}

/* Everything that a client gets, as long as it comes. */
static size_t receive(struct fixture *f, int fd, uint8_t *buf, size_t size)
{
	size_t n = 0;
	ssize_t r;

	do {
		serve(f);
		r = read(fd, buf + n, size - n);
		if (r > 0)
			n += (size_t)r;
	} while (r > 0);
	return n;
}

static bool is_open(int fd)
{
	uint8_t byte;

	return recv(fd, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

static void print_lines(struct fixture *f, unsigned int n)
{
	char line[16];

	for (unsigned int i = 0; i < n; i++) {
		const int len = snprintf(line, sizeof(line), "line %08u\n", i);

		console_socket_output(f->con, (const uint8_t *)line,
				      (size_t)len);
	}
}

/* Who connects late gets exactly the end of what was said. */
static void test_history(void **state)
{
	static uint8_t got[2 * CONSOLE_HISTORY];
	struct fixture *f = *state;

	print_lines(f, 10000);

	const int fd = connect_client(f);
	const size_t n = receive(f, fd, got, sizeof(got));

	assert_int_equal(n, CONSOLE_HISTORY);
	assert_memory_equal(got + n - 14, "line 00009999\n", 14);
	for (unsigned int i = 1; i <= CONSOLE_HISTORY / 14; i++) {
		char line[16];

		snprintf(line, sizeof(line), "line %08u\n", 10000 - i);
		assert_memory_equal(got + n - i * 14, line, 14);
	}
	close(fd);
}

/* A client that does not read is told how much it missed. */
static void test_slow_client(void **state)
{
	static uint8_t got[1 << 20];
	struct fixture *f = *state;
	const int fd = connect_client(f);

	for (unsigned int i = 0; i < 40; i++) {
		print_lines(f, 1000);
		serve(f);
	}

	const size_t n = receive(f, fd, got, sizeof(got));

	assert_true(n > CONSOLE_HISTORY);
	assert_memory_equal(got + n - 14, "line 00000999\n", 14);
	assert_non_null(memmem(got, n, "bytes were missed]", 18));
	close(fd);
}

/* Two type more at once than the guest takes: all arrives, and neither is thrown out. */
static void test_typed_at_once(void **state)
{
	struct fixture *f = *state;
	const int a = connect_client(f);
	const int b = connect_client(f);
	uint8_t keys[256];
	size_t n_a = 0;

	memset(keys, 'a', sizeof(keys));
	assert_int_equal(write(a, keys, sizeof(keys)), sizeof(keys));
	memset(keys, 'b', sizeof(keys));
	assert_int_equal(write(b, keys, sizeof(keys)), sizeof(keys));
	serve(f);
	assert_true(is_open(a));
	assert_true(is_open(b));
	for (unsigned int i = 0; i < 64; i++) {
		guest_room = 16;
		console_socket_push(f->con, NULL);
		serve(f);
	}
	assert_int_equal(guest_n, 2 * sizeof(keys));
	for (size_t i = 0; i < guest_n; i++)
		n_a += guest_got[i] == 'a';
	assert_int_equal(n_a, sizeof(keys));
	close(a);
	close(b);
}

/* One more than there may be is told so; one that leaves makes room. */
static void test_many_clients(void **state)
{
	struct fixture *f = *state;
	int fds[CONSOLE_CLIENTS];
	uint8_t got[128];

	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++)
		fds[i] = connect_client(f);

	const int extra = connect_client(f);
	const ssize_t n = read(extra, got, sizeof(got));

	assert_true(n > 0);
	assert_memory_equal(got, "too many", 8);
	close(extra);
	close(fds[3]);
	serve(f);
	fds[3] = connect_client(f);
	console_socket_output(f->con, (const uint8_t *)"x", 1);
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++) {
		assert_int_equal(receive(f, fds[i], got, sizeof(got)), 1);
		close(fds[i]);
	}
}

/* A log that is cut keeps the whole history, at every moment, and ends with the latest. */
static void test_log(void **state)
{
	struct fixture *f = *state;
	char tail[14];
	struct stat st;
	unsigned int cuts = 0;
	off_t before = 0;

	for (unsigned int i = 0; i < 3 * CONSOLE_LOG_MAX / 1400; i++) {
		print_lines(f, 100);
		assert_int_equal(fstat(STDOUT_FILENO, &st), 0);
		assert_true(st.st_size <= CONSOLE_LOG_MAX);
		if (i * 1400 >= CONSOLE_HISTORY)
			assert_true(st.st_size >= CONSOLE_HISTORY);
		assert_int_equal(pread(STDOUT_FILENO, tail, 14, st.st_size - 14),
				 14);
		assert_memory_equal(tail, "line 00000099\n", 14);
		cuts += st.st_size < before;
		before = st.st_size;
	}
	assert_true(cuts >= 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_history),       T(test_slow_client),
		T(test_typed_at_once), T(test_many_clients),
		T(test_log),
	};
	char log[] = "/tmp/mezz-log-XXXXXX";
	const int fd = mkstemp(log);

	/* Standard output is the log. */
	if (fd < 0 || unlink(log) || dup2(fd, STDOUT_FILENO) < 0)
		return 1;
	return cmocka_run_group_tests_name("console_socket", tests, NULL, NULL);
}
