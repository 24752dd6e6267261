/* SPDX-License-Identifier: Apache-2.0 */
/* mezz top: the memory screen of esxtop, live or in batches. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cli/commands.h>
#include <cli/common.h>
#include <policy/state.h>
#include <policy/units.h>

/**
 * struct top - the screen.
 * @now: figures
 * @before: those of the last time, for rates
 * @sort: key that orders the VMs
 * @period_ms: between two of them
 */
struct top {
	struct cli cli;
	struct api_snapshot now;
	struct api_snapshot before;
	char sort;
	uint64_t period_ms;
	bool batch;
	uint64_t left; /* screens to come; 0: without end */
};

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

static const struct api_vm *before(const struct top *t, const char *name)
{
	const struct api_vm *vms = t->before.vms.v;

	for (size_t i = 0; i < t->before.vms.n; i++)
		if (!strcmp(vms[i].config.name, name))
			return &vms[i];
	return NULL;
}

/* Pages since the last time, in MiB a second; a VM that started anew begins at nothing. */
static double rate(const struct top *t, uint64_t now, uint64_t old)
{
	const uint64_t ms = t->now.time_ms - t->before.time_ms;

	if (!t->before.time_ms || !ms || now < old)
		return 0;
	return mib(now - old) * 1000 / (double)ms;
}

static uint64_t stall(const struct api_stats *s)
{
	return s->stall_zip_ns + s->stall_swap_ns + s->stall_host_ns +
	       s->stall_busy_ns;
}

/* %LAT_M: the share of its time that a VM waits for memory. */
static double latency_pct(const struct top *t, const struct api_stats *now,
			  const struct api_stats *old)
{
	const uint64_t ms = t->now.time_ms - t->before.time_ms;
	const uint64_t waited = stall(now), until = stall(old);

	if (!t->before.time_ms || !ms || waited < until)
		return 0;
	return (double)(waited - until) / ((double)ms * 1e4);
}

static void print_header(const struct top *t)
{
	const struct api_host *h = &t->now.host;
	const time_t secs = (time_t)(t->now.time_ms / 1000);
	const uint64_t up = h->uptime_ms / 1000;
	char clock[16] = "";
	struct tm tm;

	if (localtime_r(&secs, &tm))
		strftime(clock, sizeof(clock), "%T", &tm);
	printf("%s up %" PRIu64 ":%02" PRIu64 ":%02" PRIu64
	       ", %u VMs; MEM overcommit: %.2f\n",
	       clock, up / 3600, up / 60 % 60, up % 60, h->n_vms, h->overcommit);
	printf("MEM    /MB: %8.0f managed: %6.0f minfree, %7.0f rsvd, %7.0f ursvd, %s state\n",
	       mib(h->managed_pages), mib(h->minfree_pages),
	       mib(h->reserved_pages), mib(h->unreserved_pages),
	       host_state_name(h->state));
	printf("           : %8.1f consumed, %.1f common, %.1f zip, %.1f tables, %.1f overhead, %.1f free\n",
	       mib(h->consumed_pages), mib(h->common_pages), mib(h->zip_pages),
	       mib(h->table_pages), mib(h->overhead_pages), mib(h->free_pages));
	printf("PSHARE /MB: %8.1f shared, %8.1f common: %8.1f saving; %.1f zero\n",
	       mib(h->shared_pages), mib(h->common_pages), mib(h->saving_pages),
	       mib(h->zero_pages));
}

static void print_reclaim(const struct top *t)
{
	const struct api_host *h = &t->now.host;
	const struct api_vm *vms = t->now.vms.v;
	uint64_t target = 0, max = 0;
	double in = 0, out = 0;

	for (size_t i = 0; i < t->now.vms.n; i++) {
		const struct api_stats *s = &vms[i].stats;
		const struct api_vm *old = before(t, vms[i].config.name);

		target += s->balloon_target_pages;
		max += s->balloon_max_pages;
		in += old ? rate(t, s->swap_in, old->stats.swap_in) : 0;
		out += old ? rate(t, s->swap_out, old->stats.swap_out) : 0;
	}
	printf("SWAP   /MB: %8.1f curr, %8.2f r/s, %8.2f w/s\n",
	       mib(h->swapped_pages), in, out);
	printf("ZIP    /MB: %8.1f zipped, %8.1f saved\n",
	       mib(h->compressed_pages),
	       h->compressed_pages > h->zip_pages
		       ? mib(h->compressed_pages - h->zip_pages)
		       : 0);
	printf("MEMCTL /MB: %8.1f curr, %8.1f target, %8.1f max\n\n",
	       mib(h->ballooned_pages), mib(target), mib(max));
}

static void print_vm(const struct top *t, const struct api_vm *vm)
{
	static const struct api_stats none;
	const struct api_stats *s = &vm->stats;
	const struct api_vm *was = before(t, vm->config.name);
	const struct api_stats *old = was ? &was->stats : s;
	const double size = mib(vm->config.size_pages);
	const double saved = s->shared_pages > s->common_pages
				     ? mib(s->shared_pages - s->common_pages)
				     : 0;

	if (!t->before.time_ms)
		old = &none;
	printf("%-16.16s %7.0f %7.0f %7.0f %7.0f %5.0f %c %6.0f %6.0f %6.0f %7.2f %7.2f %6.0f %7.2f %7.2f %6.0f %6.0f %6.0f %6.1f %6.2f\n",
	       vm->config.name, size, mib(s->granted_pages),
	       mib(s->entitlement_pages), mib(s->active_pages),
	       size > 0 ? 100 * mib(s->active_pages) / size : 0,
	       s->balloon_driver == BALLOON_READY ? 'Y' : 'N',
	       mib(s->ballooned_pages), mib(s->balloon_target_pages),
	       mib(s->swapped_pages), rate(t, s->swap_in, old->swap_in),
	       rate(t, s->swap_out, old->swap_out), mib(s->compressed_pages),
	       rate(t, s->zip_out, old->zip_out),
	       rate(t, s->zip_in, old->zip_in), mib(s->shared_pages),
	       mib(s->zero_pages), saved,
	       mib(s->overhead_pages + s->table_pages), latency_pct(t, s, old));
}

/* The key of each column, in the letters of the help line. */
static double sort_value(const struct api_vm *vm, char key)
{
	const struct api_stats *s = &vm->stats;

	switch (key) {
	case 'm':
		return (double)vm->config.size_pages;
	case 'a':
		return (double)s->active_pages;
	case 'b':
		return (double)s->ballooned_pages;
	case 'w':
		return (double)s->swapped_pages;
	case 'z':
		return (double)s->compressed_pages;
	case 's':
		return (double)s->shared_pages;
	default:
		return (double)s->granted_pages;
	}
}

static int compare_vms(const void *a, const void *b, void *key)
{
	const struct api_vm *x = a, *y = b;
	const char k = *(const char *)key;
	const double p = sort_value(x, k), q = sort_value(y, k);

	if (k == 'n' || p == q)
		return strcmp(x->config.name, y->config.name);
	return p < q ? 1 : -1;
}

static size_t room_for_vms(const struct top *t)
{
	struct winsize w;

	if (t->batch || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || w.ws_row < 12)
		return SIZE_MAX;
	return w.ws_row - 11u;
}

static void print_screen(struct top *t)
{
	struct api_vm *vms = t->now.vms.v;
	size_t room = room_for_vms(t);

	if (t->now.vms.n)
		qsort_r(vms, t->now.vms.n, sizeof(*vms), compare_vms, &t->sort);
	print_header(t);
	print_reclaim(t);
	printf("%-16s %7s %7s %7s %7s %5s %s %6s %6s %6s %7s %7s %6s %7s %7s %6s %6s %6s %6s %6s\n",
	       "NAME", "MEMSZ", "GRANT", "SZTGT", "TCHD", "%ACTV", "M",
	       "MCTLSZ", "MCTLTG", "SWCUR", "SWR/s", "SWW/s", "ZIPPED", "ZIP/s",
	       "UNZIP/s", "SHRD", "ZERO", "SHRDSV", "OVHD", "%LAT_M");
	for (size_t i = 0; i < t->now.vms.n && room; i++) {
		if (vms[i].runtime.power == API_POWERED_OFF)
			continue;
		print_vm(t, &vms[i]);
		room--;
	}
}

/* Lines that are longer than the screen would scroll it: the terminal cuts them. */
static void show_screen(struct top *t)
{
	if (!t->batch)
		printf("\033[?7l\033[H\033[J");
	print_screen(t);
	if (!t->batch)
		printf("\033[?7h");
	else
		putchar('\n');
	fflush(stdout);
}

static int refresh(struct top *t)
{
	const struct client_request req = {.op = API_GET_SNAPSHOT};

	api_release(&api_snapshot_schema, &t->before);
	t->before = t->now;
	t->now = (struct api_snapshot){0};
	return cli_call(&t->cli, &req, &t->now);
}

/* Until the next screen is due. Return: false to leave. */
static bool wait_for_key(struct top *t)
{
	struct pollfd in = {STDIN_FILENO, POLLIN, 0};
	char key;

	if (t->batch)
		in.fd = -1;
	if (poll(&in, 1, (int)t->period_ms) <= 0)
		return !stopped;
	if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 3)
		return false;
	if (strchr("mabwzsgn", key))
		t->sort = key;
	return !stopped;
}

static int loop(struct top *t)
{
	for (;;) {
		const int status = refresh(t);

		if (status > 0)
			return status;
		if (!t->cli.json)
			show_screen(t);
		if (t->left && !--t->left)
			return CLI_OK;
		if (!wait_for_key(t))
			return CLI_OK;
	}
}

static int on_terminal(struct top *t)
{
	struct termios saved, raw;
	const bool tty = !t->batch && !tcgetattr(STDIN_FILENO, &saved);

	if (tty) {
		raw = saved;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
		printf("\033[?1049h\033[?25l");
	}
	const int status = loop(t);

	if (tty) {
		printf("\033[?25h\033[?1049l");
		fflush(stdout);
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
	}
	return status;
}

enum {
	TOP_BATCH,
	TOP_DELAY,
	TOP_N,
	TOP_SORT
};
static const struct cli_option options[] = {
	[TOP_BATCH] = {"batch", 'b', NULL, "print screen after screen"},
	[TOP_DELAY] = {"delay", 'd', "TIME",
		       "between two screens: 500ms, 2s (5s)"},
	[TOP_N] = {"count", 'n', "N", "so many screens"},
	[TOP_SORT] = {"sort", 0, "KEY", "one letter, as in the live screen"},
	{NULL, 0, NULL, NULL},
};

int cmd_top(int argc, char *argv[])
{
	struct top t = {.sort = 'g', .period_ms = 5000};
	const struct sigaction sa = {.sa_handler = on_signal};
	struct err err = {0};
	int status = cli_begin(
		&t.cli, argc, argv,
		"top [-b] [-d TIME] [-n N]\n\n"
		"Memory of host and VMs, as in esxtop. Keys: q leaves; VMs are ordered by\n"
		"m memory size, g granted, a active, b balloon, w swapped, z zipped, s shared, n name.",
		options, 0, 0);

	if (status >= 0)
		return status;
	t.batch = t.cli.json || t.cli.values[TOP_BATCH] ||
		  !isatty(STDOUT_FILENO);
	if ((t.cli.values[TOP_DELAY] &&
	     duration_parse(t.cli.values[TOP_DELAY], &t.period_ms, &err)) ||
	    (t.cli.values[TOP_N] &&
	     number_parse(t.cli.values[TOP_N], 1, UINT32_MAX, &t.left, &err)))
		return cli_end(&t.cli, cli_fail(&err));
	if (t.cli.values[TOP_SORT] && *t.cli.values[TOP_SORT])
		t.sort = *t.cli.values[TOP_SORT];
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	status = on_terminal(&t);
	api_release(&api_snapshot_schema, &t.now);
	api_release(&api_snapshot_schema, &t.before);
	return cli_end(&t.cli, status);
}
