/* SPDX-License-Identifier: Apache-2.0 */
/* Frames on a stream socket: whole, in order, bounded, whatever the socket takes at once. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <dev/frames.h>

struct fixture {
	struct frames a;
	struct frames b;
	unsigned int taken;   /* frames that came to b */
	unsigned int refuses; /* take no more than that */
	size_t last_len;
	uint8_t last[FRAME_MAX_BYTES];
};

static int setup(void **state)
{
	static struct fixture f;
	int ends[2];

	signal(SIGPIPE, SIG_IGN);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends))
		return -1;
	f = (struct fixture){.refuses = ~0U};
	frames_init(&f.a, ends[0]);
	frames_init(&f.b, ends[1]);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->a.fd);
	close(f->b.fd);
	return 0;
}

/* Frame number n is of a length and contents that follow from n. */
static size_t make(unsigned int n, uint8_t frame[FRAME_MAX_BYTES])
{
	const size_t len = n * 37 % (FRAME_MAX_BYTES + 1);

	memset(frame, (int)(n & 0xff), len);
	return len;
}

static bool take(void *ctx, const uint8_t *frame, size_t len)
{
	struct fixture *f = ctx;
	uint8_t want[FRAME_MAX_BYTES];

	if (f->taken == f->refuses)
		return false;
	assert_int_equal(len, make(f->taken, want));
	assert_memory_equal(frame, want, len);
	f->taken++;
	return true;
}

static bool keep(void *ctx, const uint8_t *frame, size_t len)
{
	struct fixture *f = ctx;

	f->taken++;
	f->last_len = len;
	memcpy(f->last, frame, len);
	return true;
}

static bool send_number(struct fixture *f, unsigned int n)
{
	uint8_t frame[FRAME_MAX_BYTES];
	const size_t len = make(n, frame);

	return frames_send(&f->a, frame, len);
}

static void test_all_arrive(void **state)
{
	struct fixture *f = *state;
	unsigned int sent = 0;

	/* Far more than socket and buffers hold: the sender has to wait again and again. */
	while (f->taken < 5000) {
		while (sent < 5000 && send_number(f, sent))
			sent++;
		assert_true(frames_receive(&f->b, take, f) >= 0);
		frames_flush(&f->a);
	}
	assert_int_equal(sent, 5000);
	assert_false(frames_waiting(&f->a));
	assert_int_equal(frames_receive(&f->b, take, f), 0);
}

static void test_bounded(void **state)
{
	struct fixture *f = *state;
	unsigned int sent = 0;

	while (send_number(f, sent))
		sent++;
	assert_true(frames_waiting(&f->a));
	assert_true(frames_room(&f->a) < 4 + FRAME_MAX_BYTES);
	/* What was refused was not sent in part. */
	while (f->taken < sent) {
		assert_true(frames_receive(&f->b, take, f) >= 0);
		frames_flush(&f->a);
	}
	assert_true(send_number(f, sent));
	while (frames_receive(&f->b, take, f) > 0)
		;
	assert_int_equal(f->taken, sent + 1);
}

static void test_waits_for_the_taker(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 10; i++)
		assert_true(send_number(f, i));
	f->refuses = 4;
	assert_int_equal(frames_receive(&f->b, take, f), 0);
	assert_int_equal(f->taken, 4);
	assert_int_equal(frames_receive(&f->b, take, f), 0);
	assert_int_equal(f->taken, 4);
	f->refuses = ~0U;
	/* Nothing new has come; what had is passed on all the same. */
	assert_int_equal(frames_receive(&f->b, take, f), 0);
	assert_int_equal(f->taken, 10);
}

/* A peer may send anything, in pieces of any size. */
static void test_too_long(void **state)
{
	struct fixture *f = *state;
	static const uint8_t junk[100000];
	static const uint8_t head[] = {0, 1, 0x86, 0xa0}; /* 100,000 */
	static const uint8_t good[] = {0, 0, 0, 3, 'a', 'b', 'c'};
	size_t at = 0;

	assert_int_equal(write(f->a.fd, head, sizeof(head)), sizeof(head));
	while (at < sizeof(junk)) {
		const ssize_t n = write(f->a.fd, junk + at, sizeof(junk) - at);

		assert_true(frames_receive(&f->b, keep, f) >= 0);
		at += n > 0 ? (size_t)n : 0;
	}
	for (size_t i = 0; i < sizeof(good); i++) {
		assert_int_equal(write(f->a.fd, good + i, 1), 1);
		while (frames_receive(&f->b, keep, f) > 0)
			;
		assert_int_equal(f->taken, i + 1 == sizeof(good));
	}
	assert_int_equal(f->last_len, 3);
	assert_memory_equal(f->last, "abc", 3);
	assert_int_equal(f->b.too_long, 1);
}

static void test_other_end_gone(void **state)
{
	struct fixture *f = *state;
	unsigned int sent = 0;

	assert_true(send_number(f, 0));
	assert_int_equal(shutdown(f->a.fd, SHUT_RDWR), 0);
	/* What was sent before still comes. */
	assert_int_equal(frames_receive(&f->b, take, f), 1);
	assert_int_equal(f->taken, 1);
	assert_int_equal(frames_receive(&f->b, take, f), -EPIPE);
	/* Nobody is kept waiting by a cable without an end. */
	while (sent < 5000 && send_number(f, sent))
		sent++;
	assert_int_equal(sent, 5000);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_all_arrive),          T(test_bounded),
		T(test_waits_for_the_taker), T(test_too_long),
		T(test_other_end_gone),
	};

	return cmocka_run_group_tests_name("frames", tests, NULL, NULL);
}
