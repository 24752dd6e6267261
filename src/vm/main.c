/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mezz-vm: runs one guest and ends with it. `mezz run` starts it; its options are the same.
 *
 * The main thread waits for console input, signals, the time limit and the end of the guest.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <api/vm_options.h>
#include <engine/probe.h>
#include <mem/link_msg.h>
#include <vm/console.h>
#include <vm/console_socket.h>
#include <vm/image.h>
#include <vm/sandbox.h>
#include <vm/vm.h>

struct runner {
	struct vm *vm;
	struct console console;
	struct console_socket *socket; /* NULL: standard input and output */
	FILE *stats; /* where counters go at the end, or NULL */
	int ended_fd;
	int room_fd;
	int signal_fd;
	int timer_fd;
	bool timed_out;
};

static void signal_fd(int fd)
{
	const uint64_t one = 1;
	const ssize_t n = write(fd, &one, sizeof(one));

	(void)n; /* fails only if it is readable already */
}

static void on_output(void *ctx, const uint8_t *bytes, size_t len)
{
	const struct runner *r = ctx;

	if (r->socket)
		console_socket_output(r->socket, bytes, len);
	else
		console_write(bytes, len);
}

static void on_room(void *ctx)
{
	const struct runner *r = ctx;

	signal_fd(r->room_fd);
}

static void on_ended(void *ctx)
{
	const struct runner *r = ctx;

	signal_fd(r->ended_fd);
}

static void on_report(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "mezz: %s\n", text);
}

static const struct vm_callbacks callbacks = {
	.output = on_output,
	.input_room = on_room,
	.ended = on_ended,
	.report = on_report,
};

static void drain(int fd)
{
	uint64_t n;
	const ssize_t r = read(fd, &n, sizeof(n));

	(void)r;
}

static int open_events(struct runner *r, uint64_t timeout_ms)
{
	const struct itimerspec t = {
		.it_value = {
			.tv_sec = (time_t)(timeout_ms / 1000),
			.tv_nsec = (long)(timeout_ms % 1000) * 1000000,
		}};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (r->signal_fd < 0 || r->ended_fd < 0 || r->room_fd < 0 ||
	    r->timer_fd < 0)
		return -errno;
	return timerfd_settime(r->timer_fd, 0, &t, NULL) ? -errno : 0;
}

static void push_input(struct runner *r)
{
	if (r->socket)
		console_socket_push(r->socket, r->vm);
	else
		console_push(&r->console, r->vm);
}

/* Until the guest ends, or is told to. */
static void wait_for_end(struct runner *r)
{
	enum {
		ENDED,
		SIGNAL,
		TIMER,
		ROOM,
		INPUT,
		SOCKET,
		N = SOCKET + CONSOLE_FDS
	};
	struct pollfd fds[N] = {
		[ENDED] = {r->ended_fd, POLLIN, 0},
		[SIGNAL] = {r->signal_fd, POLLIN, 0},
		[TIMER] = {r->timer_fd, POLLIN, 0},
		[ROOM] = {r->room_fd, POLLIN, 0},
		[INPUT] = {STDIN_FILENO, POLLIN, 0},
	};

	const nfds_t n = r->socket ? N : SOCKET;

	for (;;) {
		fds[INPUT].fd = !r->socket && console_wants(&r->console)
					? STDIN_FILENO
					: -1;
		if (r->socket)
			console_socket_fds(r->socket, fds + SOCKET);
		if (poll(fds, n, -1) < 0)
			continue;
		if (r->socket)
			console_socket_serve(r->socket, fds + SOCKET, r->vm);
		if (fds[ENDED].revents)
			return;
		if (fds[TIMER].revents) {
			r->timed_out = true;
			vm_stop(r->vm);
			fds[TIMER].fd = -1;
		}
		if (fds[SIGNAL].revents) {
			vm_stop(r->vm);
			fds[SIGNAL].fd = -1;
		}
		if (fds[ROOM].revents) {
			drain(r->room_fd);
			push_input(r);
		}
		if (fds[INPUT].revents &&
		    console_read(&r->console, r->vm) == CONSOLE_QUIT)
			vm_stop(r->vm);
	}
}

static int crash(const struct vm *vm)
{
	char text[512];

	vm_end_text(vm, text, sizeof(text));
	fprintf(stderr, "mezz: %s\n", text);
	return VM_STATUS_CRASH;
}

static int status_of(const struct runner *r, enum vm_end end,
		     const struct vm_config *cfg)
{
	switch (end) {
	case VM_END_POWER_OFF:
		/* To a manager these numbers say how the VM ended; nobody else waits there. */
		return cfg->console_path ? VM_STATUS_OFF
					 : vm_exit_status(r->vm) & 0xff;
	case VM_END_EXIT_PORT:
		return vm_exit_status(r->vm) & 0xff;
	case VM_END_RESET:
		fprintf(stderr, "mezz: the guest asked for a reset\n");
		return VM_STATUS_RESET;
	case VM_END_STOPPED:
		if (r->timed_out) {
			fprintf(stderr, "mezz: time limit of %.10g s reached\n",
				(double)cfg->timeout_ms / 1000);
			return VM_STATUS_TIMEOUT;
		}
		return VM_STATUS_STOPPED;
	case VM_END_NONE:
	case VM_END_PANIC:
	case VM_END_SHUTDOWN:
	case VM_END_BAD_FETCH:
	case VM_END_MEMORY:
	case VM_END_AUDIT:
	case VM_END_ENGINE:
		break;
	}
	return crash(r->vm);
}

static int fail(const struct err *err)
{
	fprintf(stderr, "mezz: %s\n", err->text);
	return VM_STATUS_USAGE;
}

/* Only for a VM that there is: a file without counters in it would be no help. */
static int open_stats(struct runner *r, const struct vm_config *cfg,
		      struct err *err)
{
	if (!cfg->stats_path)
		return 0;
	r->stats = fopen(cfg->stats_path, "we");
	if (!r->stats)
		return err_set(err, -errno, "cannot write counters to %s: %s",
			       cfg->stats_path, strerror(errno));
	return 0;
}

static int open_ends(struct runner *r, const struct vm_config *cfg,
		     struct err *err)
{
	if (open_events(r, cfg->timeout_ms))
		return err_set(err, -errno, "cannot wait for events: %s",
			       strerror(errno));
	if (cfg->console_path)
		return console_socket_new(cfg->console_path, &r->socket, err);
	console_init(&r->console,
		     cfg->exec && cfg->clock != VM_CLOCK_INSTRUCTIONS);
	return 0;
}

static int make_vm(struct runner *r, const struct vm_config *cfg,
		   struct err *err)
{
	int status = open_ends(r, cfg, err);

	if (!status)
		status = vm_new(cfg, &callbacks, r, &r->vm, err);
	/* In the sandbox nothing is opened any more. */
	if (!status)
		status = open_stats(r, cfg, err);
	/* Among VMs that share a host; a VM run by hand has its user's rights. */
	if (!status && cfg->link_dir)
		status = sandbox_enter(err);
	return status ? status : vm_start(r->vm, err);
}

static int report(const struct runner *r, const struct vm_config *cfg)
{
	int status = status_of(r, vm_join(r->vm), cfg);
	struct err err = {0};

	if (cfg->verbose)
		vm_print_summary(r->vm);
	if (r->stats && vm_write_stats(r->vm, r->stats, &err))
		status = fail(&err);
	return status;
}

static int run(const struct vm_config *cfg)
{
	struct runner r = {0};
	struct err err = {0};
	int status;

	if (make_vm(&r, cfg, &err)) {
		status = fail(&err);
	} else {
		wait_for_end(&r);
		status = report(&r, cfg);
	}
	vm_free(r.vm);
	console_socket_free(r.socket);
	if (r.stats)
		(void)fclose(r.stats); /* it has been flushed */
	return status;
}

static void print_facility(void *arg, const char *name, const char *found,
			   const char *use)
{
	(void)arg;
	printf("  %-30s %s\n  %-30s     %s\n", name, found, "", use);
}

int main(int argc, char *argv[])
{
	struct vm_config cfg;
	struct err err = {0};
	char dir[4096];
	int status;

	/* For mezz host, which cannot look by itself. */
	if (argc == 2 && !strcmp(argv[1], "--probe")) {
		probe_facilities(print_facility, NULL);
		return 0;
	}
	vm_config_init(&cfg);
	int r = vm_config_parse(&cfg, argc - 1, argv + 1, &err);

	/*
	 * A VM on a terminal ends with the program that started it: nobody else would end it.
	 * One whose console is a socket is found again by the next memory manager.
	 */
	if (!cfg.console_path)
		prctl(PR_SET_PDEATHSIG, SIGTERM);

	if (r == 1) {
		printf("usage: mezz-vm [OPTION]...\n%s", vm_options_usage());
		vm_config_release(&cfg);
		return 0;
	}
	if (!r)
		r = image_folder(dir, sizeof(dir), &err);
	if (!r)
		r = vm_config_complete(&cfg, dir, &err);
	status = r ? fail(&err) : run(&cfg);
	vm_config_release(&cfg);
	return status;
}
