/* SPDX-License-Identifier: Apache-2.0 */
/* The link's messages: what is taken, what is refused, and descriptors on their way. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <mem/link_msg.h>

static bool valid(const struct link_msg *m, enum link_side from)
{
	struct link_msg out;

	return link_msg_valid(m, sizeof(*m), m->n_fds, from, 100, &out);
}

static void good_messages_pass(void **state)
{
	struct link_msg m;

	(void)state;
	link_msg_init(&m, LINK_ACK, 7);
	assert_true(valid(&m, LINK_FROM_VM));
	link_msg_init(&m, LINK_WANT, 0);
	assert_true(valid(&m, LINK_FROM_VM));
	link_msg_init(&m, LINK_UP, 0);
	assert_true(valid(&m, LINK_FROM_VM));
	link_msg_init(&m, LINK_BALLOON, 100);
	assert_true(valid(&m, LINK_FROM_HOST));
	link_msg_init(&m, LINK_REVOKE, 0);
	m.revoke = (struct revoke_request){.ticket = 1,
					   .n_pages = 2,
					   .pages = {99, 0}};
	assert_true(valid(&m, LINK_FROM_HOST));
}

static void nobody_says_the_others_words(void **state)
{
	struct link_msg m;

	(void)state;
	link_msg_init(&m, LINK_ACK, 7);
	assert_false(valid(&m, LINK_FROM_HOST));
	link_msg_init(&m, LINK_UP, 0);
	assert_false(valid(&m, LINK_FROM_HOST));
	link_msg_init(&m, LINK_UP, 1);
	assert_false(valid(&m, LINK_FROM_VM));
	link_msg_init(&m, LINK_STOP, 0);
	assert_false(valid(&m, LINK_FROM_VM));
}

static void each_field_is_checked(void **state)
{
	struct link_msg m, out;

	(void)state;
	link_msg_init(&m, LINK_BALLOON, 101);
	assert_false(valid(&m, LINK_FROM_HOST));
	link_msg_init(&m, LINK_ACK, 0);
	assert_false(valid(&m, LINK_FROM_VM));
	link_msg_init(&m, LINK_ACK, 1);
	m.magic ^= 1;
	assert_false(valid(&m, LINK_FROM_VM));
	link_msg_init(&m, LINK_ACK, 1);
	m.version++;
	assert_false(valid(&m, LINK_FROM_VM));
	link_msg_init(&m, LINK_ACK, 1);
	m.reserved = 1;
	assert_false(valid(&m, LINK_FROM_VM));
	link_msg_init(&m, LINK_ACK, 1);
	m.revoke.pages[63] = 1;
	assert_false(valid(&m, LINK_FROM_VM));
	link_msg_init(&m, LINK_HELLO, 100);
	m.n_fds = 3;
	assert_false(valid(&m, LINK_FROM_VM));
	link_msg_init(&m, LINK_ACK, 1);
	assert_false(
		link_msg_valid(&m, sizeof(m) - 1, 0, LINK_FROM_VM, 100, &out));
	assert_false(link_msg_valid(&m, sizeof(m), 1, LINK_FROM_VM, 100, &out));
}

static void revocations_are_checked_whole(void **state)
{
	struct link_msg m;

	(void)state;
	link_msg_init(&m, LINK_REVOKE, 0);
	m.revoke = (struct revoke_request){.ticket = 1, .n_pages = 1};
	m.revoke.pages[0] = 100;
	assert_false(valid(&m, LINK_FROM_HOST));
	m.revoke.pages[0] = 0;
	m.revoke.pages[1] = 5;
	assert_false(valid(&m, LINK_FROM_HOST));
	m.revoke.pages[1] = 0;
	m.revoke.n_pages = REVOKE_BATCH_PAGES + 1;
	assert_false(valid(&m, LINK_FROM_HOST));
	m.revoke.n_pages = 1;
	m.revoke.ticket = 0;
	assert_false(valid(&m, LINK_FROM_HOST));
}

static void descriptors_arrive(void **state)
{
	int fds[LINK_FDS_MAX], sock[2];
	const int sent[LINK_FDS_NEW] = {0, 1, 2, 1};
	struct link_msg m, got;
	struct stat a, b;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock), 0);
	link_msg_init(&m, LINK_HELLO, 100);
	assert_int_equal(link_send(sock[0], &m, sent, LINK_FDS_NEW), 0);
	assert_int_equal(link_recv(sock[1], LINK_FROM_VM, 0, &got, fds), 0);
	assert_int_equal(got.n_fds, LINK_FDS_NEW);
	assert_int_equal(fstat(fds[2], &a), 0);
	assert_int_equal(fstat(2, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	for (unsigned i = 0; i < LINK_FDS_NEW; i++)
		close(fds[i]);
	assert_int_equal(link_recv(sock[1], LINK_FROM_VM, 0, &got, fds),
			 -EAGAIN);
	close(sock[0]);
	assert_int_equal(link_recv(sock[1], LINK_FROM_VM, 0, &got, fds), -EPIPE);
	close(sock[1]);
}

/* A refused message must not leave its descriptors behind. */
static void refused_descriptors_are_closed(void **state)
{
	int fds[LINK_FDS_MAX], sock[2], before, after;
	const int sent[1] = {0};
	struct link_msg m, got;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock), 0);
	before = dup(0);
	close(before);
	link_msg_init(&m, LINK_ACK, 1);
	assert_int_equal(link_send(sock[0], &m, sent, 1), 0);
	assert_int_equal(link_recv(sock[1], LINK_FROM_VM, 0, &got, fds),
			 -EBADMSG);
	after = dup(0);
	close(after);
	assert_int_equal(before, after);
	close(sock[0]);
	close(sock[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_messages_pass),
		cmocka_unit_test(nobody_says_the_others_words),
		cmocka_unit_test(each_field_is_checked),
		cmocka_unit_test(revocations_are_checked_whole),
		cmocka_unit_test(descriptors_arrive),
		cmocka_unit_test(refused_descriptors_are_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
