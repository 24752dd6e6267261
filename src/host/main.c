/* SPDX-License-Identifier: Apache-2.0 */
/* mezzd: the host memory manager, its definitions and its HTTP server; or one VM with its own. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <api/paths.h>
#include <api/server.h>
#include <base/log.h>
#include <base/units.h>
#include <host/control.h>
#include <host/foreground.h>
#include <host/host.h>
#include <host/notify.h>
#include <host/restart.h>
#include <host/shutdown.h>

#define STATUS_FAILED 1
#define STATUS_USAGE  2

/**
 * struct settings - the command line.
 */
struct settings {
	char state_dir[PATHS_MAX];
	char socket[PATHS_MAX];
	char vm_program[PATHS_MAX];
	char web_page[PATHS_MAX];
	char token[512];
	const char *memory;
	const char *tcp;
	const char *token_file;
	const char *run; /* size of the one VM, or NULL */
	bool temporary;
	bool stop_vms; /* at the end, waiting stop_ms for their guests */
	uint64_t stop_ms;
	struct foreground fg;
};

/* What events go to, from when on there is something. */
struct listeners {
	pthread_mutex_t lock;      /* held while one of them is told */
	struct api_server *server; /* or NULL */
	struct restart *restart;   /* or NULL */
	struct foreground *fg;     /* or NULL */
	struct api_event *early;   /* what there was before the server */
	size_t n_early;
	bool served; /* there has been a server, or will be none */
};

static const char usage_text[] =
	"usage: mezzd [OPTION]...\n\n"
	"  --memory SIZE|PCT%    machine memory (what is available, less a reserve)\n"
	"  --state-dir DIR       definitions, swap files, logs\n"
	"  --socket PATH         where to listen\n"
	"  --tcp ADDRESS:PORT    listen there too; needs --token-file\n"
	"  --token-file FILE     its first line is what TCP clients must say\n"
	"  --vm-program FILE     mezz-vm\n"
	"  --web-page FILE       the page at /\n"
	"  --run SIZE -- ARGS    run one VM of SIZE on this terminal and end with it; ARGS are\n"
	"                        options of mezz-vm ('mezz run' does this)\n"
	"  --stop-vms TIME       at the end, shut all VMs down: their guests have TIME for it\n"
	"  --temporary           remove the state directory at the end\n"
	"  --quiet               log warnings and errors only\n"
	"  --version, --help\n";

/* For clients that ask for all events; without memory it is in the log alone. */
static void keep_early(struct listeners *listeners, const struct api_event *e)
{
	struct api_event *all = realloc(listeners->early,
					(listeners->n_early + 1) * sizeof(*all));

	if (!all)
		return;
	all[listeners->n_early++] = *e;
	listeners->early = all;
}

static void tell_early(struct listeners *listeners)
{
	for (size_t i = 0; listeners->server && i < listeners->n_early; i++)
		api_server_event(listeners->server, &listeners->early[i]);
	free(listeners->early);
	listeners->early = NULL;
	listeners->n_early = 0;
	listeners->served = true;
}

static void on_event(void *ctx, const struct host_event *event)
{
	struct listeners *listeners = ctx;
	struct api_event e;

	log_info("%s", event->text);
	control_event(event, &e);
	pthread_mutex_lock(&listeners->lock);
	if (listeners->server)
		api_server_event(listeners->server, &e);
	else if (!listeners->served)
		keep_early(listeners, &e);
	if (listeners->restart)
		restart_event(listeners->restart, event);
	pthread_mutex_unlock(&listeners->lock);
	if (listeners->fg)
		foreground_event(listeners->fg, event);
}

static void on_start_failed(void *ctx, const char *name, const struct err *err)
{
	(void)ctx;
	log_error("cannot start '%s': %s", name, err->text);
}

static int read_token(struct settings *s, struct err *err)
{
	FILE *f = s->token_file ? fopen(s->token_file, "re") : NULL;

	if (!f)
		return err_set(err, -EINVAL, "--tcp needs --token-file: %s",
			       s->token_file ? strerror(errno)
					     : "it is not given");
	if (!fgets(s->token, sizeof(s->token), f))
		s->token[0] = 0;
	s->token[strcspn(s->token, "\r\n")] = 0;
	return fclose(f) ? -errno : 0;
}

/* A descriptor for each connection, and some for each VM. */
static void raise_descriptors(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l))
		return;
	l.rlim_cur = l.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &l))
		log_warn("cannot raise the number of descriptors: %s",
			 strerror(errno));
}

static void listen_to(struct listeners *listeners, struct api_server *server,
		      struct restart *restart)
{
	pthread_mutex_lock(&listeners->lock);
	listeners->server = server;
	listeners->restart = restart;
	tell_early(listeners);
	pthread_mutex_unlock(&listeners->lock);
}

static int serve(const struct settings *s, struct control *control,
		 struct api_server **ret, struct err *err)
{
	const struct api_server_config cfg = {
		.backend = control_backend(control),
		.socket_path = s->socket,
		.tcp = s->tcp,
		.token = s->tcp ? s->token : NULL,
		.web_page = *s->web_page ? s->web_page : NULL,
		.version = MEZZ_VERSION,
	};
	const int r = paths_make_parents(s->socket, err);

	return r ? r : api_server_new(&cfg, ret, err);
}

static void wait_for_end(const struct settings *s, struct host *host,
			 const sigset_t *set)
{
	int number;

	while (sigwait(set, &number))
		;
	log_info("%s: ending; VMs %s", strsignal(number),
		 s->stop_vms ? "are shut down first" : "go on");
	if (s->stop_vms)
		shutdown_vms(host, s->stop_ms, set);
}

static void tell_ready(const struct settings *s)
{
	char text[PATHS_MAX + 32];
	struct err err = {0};

	log_info("listening on %s", s->socket);
	snprintf(text, sizeof(text), "listening on %s", s->socket);
	if (notify_ready(text, &err))
		log_error("%s", err.text);
}

/* Definitions and server, until a signal, or until the VM on our terminal has ended. */
static int run_with_host(struct settings *s, struct host *host,
			 struct listeners *listeners, const sigset_t *set)
{
	struct control *control = NULL;
	struct api_server *server = NULL;
	struct restart *restart = NULL;
	struct err err = {0};
	int r = s->run ? foreground_start(&s->fg, host, &err) : 0;

	if (!r)
		r = control_new(host, s->state_dir, MEZZ_VERSION, &control,
				&err);
	if (!r)
		r = serve(s, control, &server, &err);
	/* A VM on our terminal ends with a reset: whoever typed that wants to know. */
	if (!r && !s->run)
		r = restart_new(control, &restart, &err);
	listen_to(listeners, server, restart);
	/* A VM that ended has said why by itself. */
	if (r && !(s->run && atomic_load(&s->fg.ended)))
		log_error("%s", err.text);
	if (!r)
		tell_ready(s);
	if (!r && !s->run) {
		control_autostart(control, on_start_failed, NULL);
		wait_for_end(s, host, set);
	} else if (!r) {
		foreground_wait(&s->fg, host, set);
	}
	listen_to(listeners, NULL, NULL);
	restart_free(restart);
	api_server_free(server);
	control_free(control);
	return s->run ? foreground_end(&s->fg) : r ? STATUS_FAILED : 0;
}

static void block_signals(const struct settings *s, sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	if (s->run) {
		sigaddset(set, SIGHUP);
		sigaddset(set, SIGQUIT);
		sigaddset(set, FOREGROUND_SIGNAL);
	}
	/* Before threads start, so that none of them takes the signal. */
	sigprocmask(SIG_BLOCK, set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* A file that may not grow is an error like a full disk, not the end. */
	signal(SIGXFSZ, SIG_IGN);
}

static int run(struct settings *s)
{
	static struct listeners listeners = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct host_config cfg = {.state_dir = s->state_dir,
				  .vm_program = s->vm_program,
				  .foreground = s->run,
				  .event = on_event,
				  .event_ctx = &listeners};
	struct host *host = NULL;
	struct err err = {0};
	sigset_t set;
	int r = s->tcp ? read_token(s, &err) : 0;

	listeners.fg = s->run ? &s->fg : NULL;
	options_init(&cfg.options);
	block_signals(s, &set);
	raise_descriptors();
	if (!r)
		r = paths_make_parents(s->state_dir, &err);
	if (!r)
		r = host_memory_parse(s->memory, &cfg.memory_bytes, &err);
	if (!r)
		r = host_new(&cfg, &host, &err);
	if (r) {
		log_error("%s", err.text);
		return STATUS_FAILED;
	}
	log_info("%llu MiB of machine memory",
		 (unsigned long long)cfg.memory_bytes >> 20);
	r = run_with_host(s, host, &listeners, &set);
	host_free(host);
	if (s->temporary)
		paths_remove_tree(s->state_dir);
	return r;
}

/* The words after -- are those of the VM. */
/* cppcheck-suppress constParameter ; the words of main() are not constant */
static int set_vm(struct settings *s, int argc, char *argv[], struct err *err)
{
	uint64_t pages;
	int r = size_parse_pages(s->run, &pages, err);

	if (!r && argc > HOST_ARGS_MAX)
		r = err_set(err, -E2BIG, "a VM has at most %d arguments",
			    HOST_ARGS_MAX);
	if (r)
		return r;
	host_vm_settings_init(&s->fg.settings, "run", pages);
	for (int i = 0; i < argc; i++)
		s->fg.settings.args[i] = argv[i];
	s->fg.settings.n_args = (unsigned int)argc;
	return 0;
}

static int set_defaults(struct settings *s)
{
	static const char *const programs[] = {"mezz-vm", "../vm/mezz-vm",
					       "../libexec/mezzanine/mezz-vm",
					       NULL};
	static const char *const pages[] = {"../share/mezzanine/index.html",
					    "../../../web/index.html", NULL};
	struct err err = {0};
	int r = 0;

	if (!*s->state_dir)
		r = paths_state_dir(s->state_dir, &err);
	if (!r && !*s->socket)
		r = paths_socket(s->socket, &err);
	if (!r && !*s->vm_program && !paths_beside(programs, s->vm_program))
		r = err_set(
			&err, -ENOENT,
			"the program mezz-vm is not near this one; say --vm-program");
	if (!*s->web_page && !paths_beside(pages, s->web_page))
		s->web_page[0] = 0;
	if (r)
		log_error("%s", err.text);
	return r;
}

static bool set_path(char to[PATHS_MAX], const char *value)
{
	return snprintf(to, PATHS_MAX, "%s", value) < PATHS_MAX;
}

enum {
	OPT_STATE,
	OPT_SOCKET,
	OPT_PROGRAM,
	OPT_PAGE,
	OPT_MEMORY,
	OPT_TCP,
	OPT_TOKEN,
	OPT_RUN,
	OPT_TEMPORARY,
	OPT_STOP_VMS,
	OPT_QUIET,
	OPT_VERSION,
	OPT_HELP
};

/* clang-format off */
static const struct option options[] = {
	{"state-dir", required_argument, NULL, OPT_STATE},
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"vm-program", required_argument, NULL, OPT_PROGRAM},
	{"web-page", required_argument, NULL, OPT_PAGE},
	{"memory", required_argument, NULL, OPT_MEMORY},
	{"tcp", required_argument, NULL, OPT_TCP},
	{"token-file", required_argument, NULL, OPT_TOKEN},
	{"run", required_argument, NULL, OPT_RUN},
	{"stop-vms", required_argument, NULL, OPT_STOP_VMS},
	{"temporary", no_argument, NULL, OPT_TEMPORARY},
	{"quiet", no_argument, NULL, OPT_QUIET},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};
/* clang-format on */

/* Return: as apply_option(). */
static int set_stop(struct settings *s, const char *value)
{
	struct err err = {0};

	s->stop_vms = true;
	if (!duration_parse(value, &s->stop_ms, &err))
		return -1;
	log_error("--stop-vms: %s", err.text);
	return STATUS_USAGE;
}

/* Return: -1 to go on, else the exit status. */
static int apply_option(struct settings *s, int option)
{
	bool fits = true;

	switch (option) {
	case OPT_STATE:
		fits = set_path(s->state_dir, optarg);
		break;
	case OPT_SOCKET:
		fits = set_path(s->socket, optarg);
		break;
	case OPT_PROGRAM:
		fits = set_path(s->vm_program, optarg);
		break;
	case OPT_PAGE:
		fits = set_path(s->web_page, optarg);
		break;
	case OPT_MEMORY:
		s->memory = optarg;
		break;
	case OPT_TCP:
		s->tcp = optarg;
		break;
	case OPT_TOKEN:
		s->token_file = optarg;
		break;
	case OPT_RUN:
		s->run = optarg;
		break;
	case OPT_STOP_VMS:
		return set_stop(s, optarg);
	case OPT_TEMPORARY:
		s->temporary = true;
		break;
	case OPT_QUIET:
		log_set_level(LOG_LEVEL_WARN);
		break;
	case OPT_VERSION:
		printf("mezzd %s\n", MEZZ_VERSION);
		return 0;
	case OPT_HELP:
		fputs(usage_text, stdout);
		return 0;
	default:
		fits = false;
		break;
	}
	return fits ? -1 : STATUS_USAGE;
}

int main(int argc, char *argv[])
{
	static struct settings s;
	struct err err = {0};
	int c;

	log_set_level(LOG_LEVEL_INFO);
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		const int status = apply_option(&s, c);

		if (status >= 0)
			return status;
	}
	if (s.run && set_vm(&s, argc - optind, argv + optind, &err)) {
		log_error("%s", err.text);
		return STATUS_USAGE;
	}
	if (!s.run && optind < argc) {
		fprintf(stderr, "mezzd: what is '%s'?\n%s", argv[optind],
			usage_text);
		return STATUS_USAGE;
	}
	return set_defaults(&s) ? STATUS_FAILED : run(&s);
}
