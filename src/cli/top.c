/* SPDX-License-Identifier: Apache-2.0 */
/* mezz top: the memory screen of esxtop, live or in batches. */
#include <cli/top.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/units.h>
#include <cli/commands.h>
#include <cli/common.h>

#define FIELDS_ALL ((1u << TOP_FIELDS) - 1)

/**
 * struct top - the command.
 * @screen: what is shown
 * @period_ms: between two screens
 * @batch: no keys, screens one after the other
 * @left: screens to come; 0: without end
 * @choosing: the fields are being chosen
 * @helping: the keys are explained
 */
struct top {
	struct cli cli;
	struct top_screen screen;
	uint64_t period_ms;
	bool batch;
	uint64_t left;
	bool choosing;
	bool helping;
};

static volatile sig_atomic_t stopped;
static volatile sig_atomic_t resized;

static void on_signal(int sig)
{
	if (sig == SIGWINCH)
		resized = 1;
	else
		stopped = 1;
}

/* What does not fit is left out, for a line that is too long would scroll the screen. */
static void fit(struct top *t)
{
	struct winsize w;

	t->screen.columns = 0;
	t->screen.rows = SIZE_MAX;
	if (t->batch || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || !w.ws_col)
		return;
	t->screen.columns = w.ws_col;
	t->screen.rows = w.ws_row > TOP_ROWS_BEFORE ? w.ws_row - TOP_ROWS_BEFORE
						    : 0;
}

static void show(struct top *t)
{
	fit(t);
	if (!t->batch)
		printf("\033[?7l\033[H\033[J");
	if (t->helping)
		top_print_help();
	else if (t->choosing)
		top_print_fields(&t->screen);
	else
		top_print(&t->screen);
	if (!t->batch)
		printf("\033[?7h");
	else
		putchar('\n');
	fflush(stdout);
}

static int refresh(struct top *t)
{
	const struct client_request req = {.op = API_GET_SNAPSHOT};
	struct top_screen *s = &t->screen;

	api_release(&api_snapshot_schema, &s->before);
	s->before = s->now;
	s->now = (struct api_snapshot){0};
	return cli_call(&t->cli, &req, &s->now);
}

/* Return: false to leave. */
static bool on_key(struct top *t, char key, bool *again)
{
	const char letter[] = {key, 0};
	const unsigned int field = t->choosing ? top_fields(letter) : 0;

	if (t->choosing) {
		t->screen.fields ^= field;
		t->choosing = field;
		return true;
	}
	if (key == 'q' || key == 3)
		return false;
	t->helping = !t->helping && (key == 'h' || key == '?');
	if (key == 'f')
		t->choosing = true;
	else if (top_is_sort_key(key))
		t->screen.sort = key;
	*again = key == ' ';
	return true;
}

/* Until the next figures are due; keys are answered with the old ones. Return: false to leave. */
static bool wait_for_next(struct top *t)
{
	const uint64_t end = monotonic_ms() + t->period_ms;
	bool again = false;

	while (!stopped && !again) {
		struct pollfd in = {t->batch ? -1 : STDIN_FILENO, POLLIN, 0};
		const uint64_t now = monotonic_ms();
		char key;
		int n;

		if (now >= end)
			return true;
		n = poll(&in, 1, (int)(end - now));
		if (n > 0) {
			if (read(STDIN_FILENO, &key, 1) != 1 ||
			    !on_key(t, key, &again))
				return false;
		}
		if ((n > 0 || resized) && !t->batch)
			show(t);
		resized = 0;
	}
	return !stopped;
}

static int loop(struct top *t)
{
	for (;;) {
		const int status = refresh(t);

		if (status > 0)
			return status;
		if (!t->cli.json)
			show(t);
		if (t->left && !--t->left)
			return CLI_OK;
		if (!wait_for_next(t))
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
	TOP_FIELD_LIST,
	TOP_SORT
};
static const struct cli_option options[] = {
	[TOP_BATCH] = {"batch", 'b', NULL, "print screen after screen"},
	[TOP_DELAY] = {"delay", 'd', "TIME",
		       "between two screens: 500ms, 2s (5s)"},
	[TOP_N] = {"count", 'n', "N", "so many screens"},
	[TOP_FIELD_LIST] = {"fields", 0, "LETTERS",
			    "groups of columns, as the key f lists them"},
	[TOP_SORT] = {"sort", 0, "KEY", "one letter, as in the live screen"},
	{NULL, 0, NULL, NULL},
};

static int read_options(struct top *t, struct err *err)
{
	const char *const *v = t->cli.values;
	const char *sort = v[TOP_SORT];
	int r = 0;

	if (v[TOP_DELAY])
		r = duration_parse(v[TOP_DELAY], &t->period_ms, err);
	if (!r && !t->period_ms)
		r = err_set(err, -EINVAL, "--delay is longer than 0");
	if (!r && v[TOP_N])
		r = number_parse(v[TOP_N], 1, UINT32_MAX, &t->left, err);
	if (!r && v[TOP_FIELD_LIST]) {
		t->screen.fields = top_fields(v[TOP_FIELD_LIST]);
		if (!t->screen.fields)
			r = err_set(err, -EINVAL,
				    "--fields: '%s' is not letters from A to I",
				    v[TOP_FIELD_LIST]);
	}
	if (!r && sort && (!top_is_sort_key(sort[0]) || sort[1]))
		r = err_set(err, -EINVAL,
			    "--sort: '%s' is none of m g c a b w z s l n", sort);
	if (!r && sort)
		t->screen.sort = sort[0];
	return r;
}

int cmd_top(int argc, char *argv[])
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
	struct top t = {.screen = {.sort = 'g', .fields = FIELDS_ALL},
			.period_ms = 5000};
	const struct sigaction sa = {.sa_handler = on_signal};
	struct err err = {0};
	int status = cli_begin(
		&t.cli, argc, argv,
		"top [-b] [-d TIME] [-n N] [--fields LETTERS] [--sort KEY]\n\n"
		"Memory of host and VMs, as in esxtop; amounts are MiB. Keys: q leaves, f chooses\n"
		"fields, space refreshes, h helps; VMs are ordered by m memory size, g granted, c consumed,\n"
		"a active, b balloon, w swapped, z compressed, s shared, l latency, n name.",
		options, 0, 0);

	if (status >= 0)
		return status;
	t.batch = t.cli.json || t.cli.values[TOP_BATCH] ||
		  !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO);
	if (read_options(&t, &err))
		return cli_end(&t.cli, cli_fail(&err));
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &sa, NULL);
	status = on_terminal(&t);
	api_release(&api_snapshot_schema, &t.screen.now);
	api_release(&api_snapshot_schema, &t.screen.before);
	return cli_end(&t.cli, status);
}
