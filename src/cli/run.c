/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mezz run: one VM on this terminal, with a host memory manager of its own.
 *
 * The manager, mezzd, is a process of its own, and the VM is its child. This one stays, so
 * that the terminal gets its modes back and nothing is left behind however these end.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <api/paths.h>
#include <api/vm_options.h>
#include <base/clock.h>
#include <base/types.h>
#include <base/units.h>
#include <cli/commands.h>

#define STATUS_FAILED  1
#define STATUS_SIGNAL  128
#define PATIENCE_MS    5000
#define FOLDER         "mezz-run-"
#define STALE_S        60
#define DEFAULT_MEMORY (UINT64_C(512) << 20)

static const char usage[] =
	"usage: mezz run [OPTION]... [--no-host | --machine-memory SIZE|PCT%]\n\n"
	"Run a VM on this terminal until it ends. Ctrl-A x ends it, Ctrl-A h lists more keys.\n\n"
	"      --machine-memory SIZE|PCT%  what guest and manager may use together (what is\n"
	"                                  available); less than the guest's RAM is possible\n"
	"      --no-host                   no manager: the VM keeps every page that it touches.\n"
	"                                  Implied by what plays the manager's part itself or\n"
	"                                  excludes one: --revoke-stress, --memory-limit,\n"
	"                                  --clock instructions\n\n";

static struct termios saved;
static int have_saved;
static volatile sig_atomic_t child;

static void restore_terminal(void)
{
	if (have_saved)
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
	have_saved = 0;
}

/* Pass it on; the VM ends, and we after it. */
static void forward(int sig)
{
	if (child > 0)
		kill(child, sig);
}

static void catch_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction sa = {.sa_handler = forward};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
}

static void save_terminal(void)
{
	have_saved = isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &saved);
}

static void raw_terminal(void)
{
	struct termios raw = saved;

	cfmakeraw(&raw);
	raw.c_oflag |= OPOST; /* messages of ours end in plain newlines */
	if (have_saved)
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
}

/* Whom a killed manager left to us: it was told to end when that died. */
static void end_orphans(void)
{
	char path[64];
	long pid;

	for (int ms = 0; ms < PATIENCE_MS; ms += 5) {
		const pid_t got = waitpid(-1, NULL, WNOHANG);

		if (got < 0 && errno == ECHILD)
			return;
		nap_ms(5);
	}
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	FILE *f = fopen(path, "re");

	while (f && fscanf(f, "%ld", &pid) == 1)
		kill((pid_t)pid, SIGKILL);
	if (f)
		fclose(f);
}

static int wait_for_child(const char *what)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return STATUS_FAILED;
	child = 0;
	end_orphans();
	restore_terminal();
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "mezz: %s was ended by signal %d (%s)\n", what,
		WTERMSIG(status), strsignal(WTERMSIG(status)));
	return STATUS_SIGNAL + WTERMSIG(status);
}

/* Return: exit status. */
static int start(const char *program, char *const *argv, const char *what)
{
	pid_t pid;
	/* Unlike fork() it copies no page tables. */
	const int r = posix_spawn(&pid, program, NULL, NULL, argv, environ);

	if (r) {
		restore_terminal();
		fprintf(stderr, "mezz: cannot start %s: %s\n", program,
			strerror(r));
		return STATUS_FAILED;
	}
	child = pid;
	return wait_for_child(what);
}

/**
 * struct plan - what the words of the command line ask for.
 * @args: options of the VM, without those that are ours
 * @n_args: how many
 * @memory_bytes: its RAM
 * @machine: machine memory, or NULL
 * @alone: without a manager
 * @help: only tell the options
 */
struct plan {
	char **args;
	int n_args;
	uint64_t memory_bytes;
	const char *machine;
	bool alone;
	bool help;
};

/* Return: whether a VM can have so much. */
static bool read_memory(const char *text, uint64_t *ret)
{
	return !size_parse_bytes(text, ret, NULL) && *ret >= VM_MEMORY_MIN &&
	       *ret <= VM_MEMORY_MAX && !(*ret % PAGE_SIZE);
}

/* Options of the VM that decide something here. What is wrong with them it says itself. */
static void look_at_option(struct plan *p, const struct vm_option *o,
			   const char *value)
{
	switch ((unsigned int)o->id) {
	case VM_OPT_MEMORY:
		p->alone |= !value || !read_memory(value, &p->memory_bytes);
		break;
	case VM_OPT_CLOCK:
		p->alone |= value && !strcmp(value, "instructions");
		break;
	case VM_OPT_REVOKE_STRESS:
	case VM_OPT_MEMORY_LIMIT:
	case VM_OPT_LINK:
	case VM_OPT_CONSOLE:
		p->alone = true;
		break;
	case VM_OPT_HELP:
		p->help = true;
		break;
	default:
		break;
	}
}

/* Ours are not the VM's. Return: how many words are used up, 0: not ours. */
static int own_option(struct plan *p, int left, char *const *argv)
{
	static const char machine[] = "--machine-memory";
	const size_t n = sizeof(machine) - 1;

	if (!strcmp(argv[0], "--no-host")) {
		p->alone = true;
		return 1;
	}
	if (strncmp(argv[0], machine, n))
		return 0;
	if (argv[0][n] == '=') {
		p->machine = argv[0] + n + 1;
		return 1;
	}
	if (argv[0][n] || left < 2)
		return 0;
	p->machine = argv[1];
	return 2;
}

static void read_words(struct plan *p, int argc, char *const *argv)
{
	for (int i = 0; i < argc;) {
		const int own = own_option(p, argc - i, argv + i);
		const char *value;
		const struct vm_option *o;

		if (own) {
			i += own;
			continue;
		}
		o = vm_option_find(argv[i], &value);
		p->args[p->n_args++] = argv[i++];
		if (o && o->value && !value && i < argc) {
			value = argv[i];
			p->args[p->n_args++] = argv[i++];
		}
		if (o)
			look_at_option(p, o, value);
		else
			p->alone = true; /* it will refuse that */
	}
}

static int run_alone(const struct plan *p)
{
	static const char *const places[] = {"mezz-vm", "../vm/mezz-vm",
					     "../libexec/mezzanine/mezz-vm",
					     NULL};
	char program[PATHS_MAX];
	char **argv = calloc((size_t)p->n_args + 2, sizeof(*argv));

	if (!argv || !paths_beside(places, program)) {
		fprintf(stderr,
			"mezz: the program mezz-vm is not beside this one\n");
		free(argv);
		return STATUS_FAILED;
	}
	argv[0] = program;
	memcpy(argv + 1, p->args, (size_t)p->n_args * sizeof(*argv));
	raw_terminal();
	const int status = start(program, argv, "the VM's process");

	free(argv);
	return status;
}

/* One of ours in which no manager runs: all that belonged to it were killed at once. */
static bool is_stale(const char *dir, time_t now)
{
	char path[PATHS_MAX + 8];
	struct stat st;
	int fd;
	bool stale;

	if (lstat(dir, &st) || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
	    now - st.st_mtime < STALE_S)
		return false;
	snprintf(path, sizeof(path), "%s/lock", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT;
	stale = !flock(fd, LOCK_EX | LOCK_NB);
	close(fd);
	return stale;
}

static void remove_stale(const char *tmp)
{
	const time_t now = time(NULL);
	char pattern[PATHS_MAX];
	glob_t found = {0};

	snprintf(pattern, sizeof(pattern), "%s/" FOLDER "??????", tmp);
	if (!glob(pattern, GLOB_NOSORT, NULL, &found))
		for (size_t i = 0; i < found.gl_pathc; i++)
			if (is_stale(found.gl_pathv[i], now))
				paths_remove_tree(found.gl_pathv[i]);
	globfree(&found);
}

/* On a disk where there is one, for what does not fit into memory is swapped there. */
static const char *tmp_folder(void)
{
	const char *said = getenv("TMPDIR");

	if (said && *said)
		return said;
	return access("/var/tmp", W_OK | X_OK) ? "/tmp" : "/var/tmp";
}

static int run_with_host(const struct plan *p)
{
	static const char *const places[] = {"mezzd", "../host/mezzd", NULL};
	char program[PATHS_MAX], dir[PATHS_MAX], socket[PATHS_MAX + 16];
	char memory[32];
	const char *tmp = tmp_folder();
	const char *argv[] = {
		program,       "--run",    memory, "--state-dir", dir,
		"--temporary", "--socket", socket, "--quiet",     "--memory",
		p->machine,    "--",       NULL,
	};
	size_t n = ARRAY_SIZE(argv) - 1;
	char **all = calloc((size_t)p->n_args + ARRAY_SIZE(argv), sizeof(*all));

	snprintf(memory, sizeof(memory), "%lluB",
		 (unsigned long long)p->memory_bytes);
	remove_stale(tmp);
	snprintf(dir, sizeof(dir), "%s/" FOLDER "XXXXXX", tmp);
	if (!all || !paths_beside(places, program)) {
		fprintf(stderr,
			"mezz: the program mezzd is not beside this one; --no-host does without\n");
		free(all);
		return STATUS_FAILED;
	}
	if (!mkdtemp(dir)) {
		fprintf(stderr, "mezz: cannot make a folder %s: %s\n", dir,
			strerror(errno));
		free(all);
		return STATUS_FAILED;
	}
	snprintf(socket, sizeof(socket), "%s/mezzd.sock", dir);
	if (!p->machine) {
		argv[n - 3] = "--";
		n -= 2;
	}
	memcpy(all, argv, n * sizeof(*all));
	memcpy(all + n, p->args, (size_t)p->n_args * sizeof(*all));
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	const int status = start(program, all, "the VM's memory manager");

	paths_remove_tree(dir);
	free(all);
	return status;
}

int cmd_run(int argc, char *argv[])
{
	struct plan p = {.args = calloc((size_t)argc + 1, sizeof(*p.args)),
			 .memory_bytes = DEFAULT_MEMORY};
	int status = STATUS_FAILED;

	if (!p.args) {
		perror("mezz");
		return status;
	}
	read_words(&p, argc, argv);
	if (p.help) {
		fputs(usage, stdout);
		fputs(vm_options_usage(), stdout);
		free(p.args);
		return 0;
	}
	catch_signals();
	save_terminal();
	status = p.alone ? run_alone(&p) : run_with_host(&p);
	free(p.args);
	return status;
}
