/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of output that each client reads at its own pace, and one queue of input. */
#include <vm/console_socket.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vm/console.h>
#include <vm/socket.h>
#include <vm/vm.h>

#define INPUT_BYTES 256

enum {
	FD_LISTEN,
	FD_OUTPUT,
	FD_CLIENTS,
};

struct client {
	int fd;      /* -1: nobody */
	uint64_t at; /* how much of the output it has been sent */
};

/* Members: o under @lock, the others belong to the thread that waits. */
struct console_socket {
	pthread_mutex_t lock;
	uint8_t ring[CONSOLE_HISTORY]; /* o byte i of the output is at i % CONSOLE_HISTORY */
	uint64_t written;              /* o */
	bool log_is_file;              /* o */
	uint64_t log_bytes; /* o */
	int listen_fd;
	int output_fd; /* eventfd: there is output */
	struct client clients[CONSOLE_CLIENTS];
	uint8_t input[INPUT_BYTES];
	size_t n_input;
};

int console_socket_new(const char *path, struct console_socket **ret,
		       struct err *err)
{
	struct console_socket *con = calloc(1, sizeof(*con));
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, (size_t)(slash - path) + 1)
			  : strdup(".");
	struct stat st;
	int r = con && dir ? 0
			   : err_set(err, -ENOMEM, "no memory for a console");

	if (!r)
		r = socket_listen(dir, slash ? slash + 1 : path, SOCK_STREAM,
				  &con->listen_fd, err);
	free(dir);
	if (r) {
		free(con);
		return r;
	}
	pthread_mutex_init(&con->lock, NULL);
	con->output_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++)
		con->clients[i].fd = -1;
	if (!fstat(STDOUT_FILENO, &st) && S_ISREG(st.st_mode)) {
		con->log_is_file = true;
		con->log_bytes = (uint64_t)st.st_size;
	}
	if (con->output_fd < 0) {
		r = err_set(err, -errno, "eventfd: %s", strerror(errno));
		console_socket_free(con);
		return r;
	}
	*ret = con;
	return 0;
}

/* Copy output from @at on that lies in one piece in the ring. Under @lock. */
static size_t piece(const struct console_socket *con, uint64_t at, size_t max,
		    const uint8_t **ret)
{
	const size_t from = at % CONSOLE_HISTORY;
	size_t n = con->written - at < max ? (size_t)(con->written - at) : max;

	if (n > CONSOLE_HISTORY - from)
		n = CONSOLE_HISTORY - from;
	*ret = con->ring + from;
	return n;
}

static uint64_t oldest(const struct console_socket *con)
{
	return con->written > CONSOLE_HISTORY ? con->written - CONSOLE_HISTORY
					      : 0;
}

/* A log that grew too long starts anew with what is still known. Under @lock. */
static void cut_log(struct console_socket *con)
{
	if (ftruncate(STDOUT_FILENO, 0))
		return;
	/* It is open for appending where mezzd opened it; elsewhere it may not be. */
	(void)lseek(STDOUT_FILENO, 0, SEEK_SET);
	con->log_bytes = 0;
	for (uint64_t at = oldest(con); at < con->written;) {
		const uint8_t *bytes;
		const size_t n = piece(con, at, CONSOLE_HISTORY, &bytes);

		console_write(bytes, n);
		con->log_bytes += n;
		at += n;
	}
}

void console_socket_output(struct console_socket *con, const uint8_t *bytes,
			   size_t len)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&con->lock);
	for (size_t i = 0; i < len; i++)
		con->ring[(con->written + i) % CONSOLE_HISTORY] = bytes[i];
	con->written += len;
	if (con->log_is_file && con->log_bytes + len > CONSOLE_LOG_MAX) {
		cut_log(con);
	} else {
		console_write(bytes, len);
		con->log_bytes += len;
	}
	pthread_mutex_unlock(&con->lock);

	const ssize_t n = write(con->output_fd, &one, sizeof(one));

	(void)n; /* fails only if it is readable already */
}

static void drop(struct client *c)
{
	close(c->fd);
	c->fd = -1;
}

/* What a client missed, in words. Return: false if it does not take even that. */
static bool tell_gap(struct client *c, uint64_t from)
{
	char text[80];
	const int n = snprintf(text, sizeof(text),
			       "\r\n[console: %llu bytes were missed]\r\n",
			       (unsigned long long)(from - c->at));

	if (write(c->fd, text, (size_t)n) != n)
		return false;
	c->at = from;
	return true;
}

/* Send what a client has not got, as far as it takes it. */
static void send_output(struct console_socket *con, struct client *c)
{
	uint8_t copy[4096];
	const uint8_t *bytes;

	for (;;) {
		pthread_mutex_lock(&con->lock);
		const uint64_t from = oldest(con);
		const size_t n = c->at < from ? 0
					      : piece(con, c->at, sizeof(copy),
						      &bytes);

		if (n)
			memcpy(copy, bytes, n);
		pthread_mutex_unlock(&con->lock);
		if (c->at < from) {
			if (!tell_gap(c, from))
				return;
			continue;
		}
		const ssize_t sent = n ? write(c->fd, copy, n) : 0;

		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			drop(c);
		if (sent <= 0)
			return;
		c->at += (uint64_t)sent;
	}
}

static void accept_client(struct console_socket *con)
{
	static const char
		full[] = "too many consoles of this VM are open already\r\n";
	const int fd = accept4(con->listen_fd, NULL, NULL,
			       SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++) {
		struct client *c = &con->clients[i];

		if (c->fd >= 0)
			continue;
		pthread_mutex_lock(&con->lock);
		*c = (struct client){.fd = fd, .at = oldest(con)};
		pthread_mutex_unlock(&con->lock);
		send_output(con, c);
		return;
	}
	const ssize_t n = write(fd, full, sizeof(full) - 1);

	(void)n;
	close(fd);
}

void console_socket_push(struct console_socket *con, struct vm *vm)
{
	const size_t n = con->n_input
				 ? vm_console_input(vm, con->input, con->n_input)
				 : 0;

	con->n_input -= n;
	memmove(con->input, con->input + n, con->n_input);
}

static void read_client(struct console_socket *con, struct client *c,
			struct vm *vm)
{
	const size_t room = INPUT_BYTES - con->n_input;
	const ssize_t n = room ? read(c->fd, con->input + con->n_input, room)
			       : 0;

	/* Another client has filled it since poll(): this one waits, it has not gone. */
	if (!room)
		return;
	if (n > 0)
		con->n_input += (size_t)n;
	else if (!n || (errno != EAGAIN && errno != EINTR))
		drop(c);
	console_socket_push(con, vm);
}

void console_socket_fds(struct console_socket *con, struct pollfd *fds)
{
	const bool room = con->n_input < INPUT_BYTES / 2;

	fds[FD_LISTEN] = (struct pollfd){con->listen_fd, POLLIN, 0};
	fds[FD_OUTPUT] = (struct pollfd){con->output_fd, POLLIN, 0};
	pthread_mutex_lock(&con->lock);
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++) {
		const struct client *c = &con->clients[i];
		const short behind = c->fd >= 0 && c->at < con->written ? POLLOUT
									: 0;

		fds[FD_CLIENTS + i] = (struct pollfd){
			c->fd, (short)((room ? POLLIN : 0) | behind), 0};
	}
	pthread_mutex_unlock(&con->lock);
}

void console_socket_serve(struct console_socket *con, const struct pollfd *fds,
			  struct vm *vm)
{
	uint64_t count;

	if (fds[FD_OUTPUT].revents) {
		const ssize_t n = read(con->output_fd, &count, sizeof(count));

		(void)n;
	}
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++) {
		struct client *c = &con->clients[i];
		const short events = fds[FD_CLIENTS + i].revents;

		if (c->fd < 0)
			continue;
		if (events & POLLIN)
			read_client(con, c, vm);
		else if (events & (POLLERR | POLLHUP))
			drop(c);
		if (c->fd >= 0)
			send_output(con, c);
	}
	/* Last, so that @fds still speaks of the clients that there were. */
	if (fds[FD_LISTEN].revents)
		accept_client(con);
}

void console_socket_free(struct console_socket *con)
{
	if (!con)
		return;
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++) {
		if (con->clients[i].fd < 0)
			continue;
		send_output(con, &con->clients[i]);
		if (con->clients[i].fd >= 0)
			drop(&con->clients[i]);
	}
	close(con->listen_fd);
	if (con->output_fd >= 0)
		close(con->output_fd);
	pthread_mutex_destroy(&con->lock);
	free(con);
}
