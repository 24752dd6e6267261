/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VM processes: starting them, and what they bring along.
 *
 * A VM listens in its own directory; the host connects, whether it has just started the VM
 * or finds it running. What the VM then sends is checked against what the host knows by
 * itself: the size and the group's file from the settings in the directory, the swap file
 * by its path.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/program.h>
#include <base/verify.h>
#include <host/disk.h>
#include <host/host_impl.h>

#define CONNECT_MS 10000
#define LOG_NAME   "vm.log"

int process_dir(struct host *host, const char *name)
{
	const int fd = openat(host->dir_fd, name,
			      O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

void process_kill(const struct hvm *vm, int signal)
{
	if (vm->pid_fd >= 0)
		(void)syscall(SYS_pidfd_send_signal, vm->pid_fd, signal, NULL,
			      0);
}

int process_connect(int dir_fd)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX,
			      SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = 0;

	if (fd < 0)
		return -errno;
	snprintf(addr.sun_path, sizeof(addr.sun_path),
		 "/proc/self/fd/%d/vm.sock", dir_fd);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		r = -errno;
	if (r)
		close(fd);
	return r ? r : fd;
}

int process_open(pid_t pid)
{
	const int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

/* One for each run, or the end of one would be told in words of another. */
static int log_file(int dir_fd)
{
	/* There is none if it never ran. */
	(void)renameat(dir_fd, LOG_NAME, dir_fd, LOG_NAME ".1");

	const int fd = openat(dir_fd, LOG_NAME,
			      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

/* @log_fd: of a VM that runs apart from this program; -1: it shares our terminal. */
static int spawn_vm(const char *program, const char *const *argv, int log_fd,
		    pid_t *ret_pid)
{
	const int apart[] = {PROGRAM_NULL, log_fd, log_fd};
	const int shared[] = {PROGRAM_KEEP, PROGRAM_KEEP, PROGRAM_KEEP};

	/* What ends this program does not end VMs that run apart. */
	return program_spawn(program, argv, log_fd < 0 ? shared : apart, 3,
			     log_fd >= 0, ret_pid);
}

static int spawn(struct host *host, const struct host_vm_settings *set,
		 int dir_fd, pid_t *ret_pid, struct err *err)
{
	const char *argv[HOST_ARGS_MAX + 8];
	char memory[32];
	char *dir, *console = NULL;
	char why[DISK_TEXT];
	unsigned n = 0;
	int r;
	const int log_fd = host->foreground ? -1 : log_file(dir_fd);

	if (log_fd < 0 && !host->foreground)
		return err_set(err, log_fd, "cannot open the log of VM %s: %s",
			       set->name,
			       disk_error_at(-log_fd, dir_fd, PAGE_SIZE, why));
	if (asprintf(&dir, "%s/vms/%s", host->state_dir, set->name) < 0)
		dir = NULL;
	if (!dir || asprintf(&console, "%s/console.sock", dir) < 0) {
		free(dir);
		if (log_fd >= 0)
			close(log_fd);
		return err_set(err, -ENOMEM, "out of memory");
	}
	snprintf(memory, sizeof(memory), "%lluK",
		 (unsigned long long)(set->size_pages * PAGE_SIZE / 1024));
	argv[n++] = host->vm_program;
	argv[n++] = "--memory";
	argv[n++] = memory;
	argv[n++] = "--link";
	argv[n++] = dir;
	if (!host->foreground) {
		argv[n++] = "--console";
		argv[n++] = console;
	}
	for (unsigned i = 0; i < set->n_args; i++)
		argv[n++] = set->args[i];
	argv[n] = NULL;
	r = spawn_vm(host->vm_program, argv, log_fd, ret_pid);
	/* Not as if the VM were not there. */
	if (r)
		r = err_set(err, r == -ENOENT ? -ENOEXEC : r,
			    "cannot start %s: %s", host->vm_program,
			    strerror(-r));
	if (log_fd >= 0)
		close(log_fd);
	free(console);
	free(dir);
	return r;
}

bool process_last_words(struct host *host, const char *name, char *buf,
			size_t size)
{
	const int dir_fd = process_dir(host, name);
	const int fd = dir_fd < 0 || host->foreground
			       ? -1
			       : openat(dir_fd, LOG_NAME, O_RDONLY | O_CLOEXEC);
	const off_t all = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	const off_t from = all > (off_t)size - 1 ? all - (off_t)size + 1 : 0;
	ssize_t n = fd < 0 ? 0 : pread(fd, buf, size - 1, from);
	char *line;

	if (fd >= 0)
		close(fd);
	if (dir_fd >= 0)
		close(dir_fd);
	while (n > 0 && strchr("\r\n", buf[n - 1]))
		n--;
	buf[n > 0 ? n : 0] = 0;
	line = strrchr(buf, '\n');
	if (line)
		memmove(buf, line + 1, strlen(line));
	/* A guest writes there, too, and this goes to terminals and into JSON. */
	for (char *c = buf; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return *buf;
}

int process_ended(struct host *host, const char *name, struct err *err)
{
	char line[400];

	if (process_last_words(host, name, line, sizeof(line)))
		return err_set(err, -ECHILD, "VM %s ended at its start: %s",
			       name, line);
	return err_set(err, -ECHILD,
		       "VM %s ended at its start and said nothing", name);
}

/* The VM makes its socket within milliseconds, or ends with a message in its log. */
static int connect_new(struct hvm *vm, pid_t pid, int dir_fd, struct err *err)
{
	const uint64_t end = monotonic_ms() + CONNECT_MS;
	int fd, status;

	do {
		fd = process_connect(dir_fd);
		if (fd >= 0) {
			pthread_mutex_lock(&vm->host->lock);
			vm->sock = fd;
			pthread_mutex_unlock(&vm->host->lock);
			return 0;
		}
		if (waitpid(pid, &status, WNOHANG) == pid) {
			pthread_mutex_lock(&vm->host->lock);
			vm->pid = 0;
			pthread_mutex_unlock(&vm->host->lock);
			host_tell_ended(vm->host, vm->set.name, status);
			return process_ended(vm->host, vm->set.name, err);
		}
		nap_ms(2);
	} while (monotonic_ms() < end);
	return err_set(err, -ETIMEDOUT, "VM %s does not open its socket",
		       vm->set.name);
}

static int make_dir(struct host *host, const char *name, struct err *err)
{
	char why[DISK_TEXT];
	int fd, e;

	if (mkdirat(host->dir_fd, name, 0700) < 0 && errno != EEXIST) {
		e = errno;
		return err_set(err, -e, "cannot make %s/vms/%s: %s",
			       host->state_dir, name,
			       disk_error_at(e, host->dir_fd, PAGE_SIZE, why));
	}
	fd = process_dir(host, name);
	return fd < 0 ? err_set(err, fd, "cannot open %s/vms/%s: %s",
				host->state_dir, name, strerror(-fd))
		      : fd;
}

static int make_swap(struct host *host, const struct host_vm_settings *set,
		     struct err *err)
{
	struct swap *swap = NULL;
	char path[4096];
	int r = host_vm_path(host, set->name, "swap", path, sizeof(path));

	if (r)
		return err_set(err, r, "the path of the swap file is too long");
	r = swap_new(path, set->size_pages - set->alloc.reservation_pages,
		     &swap, err);
	swap_free(swap);
	return r;
}

/* From now on it can be ended; whoever wanted that already has it now. */
static int know_process(struct hvm *vm, pid_t pid, struct err *err)
{
	const int fd = process_open(pid);

	if (fd < 0) {
		kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		return err_set(err, fd, "pidfd_open: %s", strerror(-fd));
	}
	pthread_mutex_lock(&vm->host->lock);
	vm->pid = pid;
	vm->pid_fd = fd;
	if (vm->unwanted)
		process_kill(vm, SIGKILL);
	pthread_mutex_unlock(&vm->host->lock);
	return 0;
}

void process_remove_files(struct host *host, const char *name)
{
	static const char *const files[] = {"swap", "vm.sock", "console.sock"};
	char path[4096];

	for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
		if (!host_vm_path(host, name, files[i], path, sizeof(path)))
			unlink(path);
	}
}

int process_start(struct host *host, struct hvm *vm,
		  const struct host_vm_settings *set, struct err *err)
{
	const int dir_fd = make_dir(host, set->name, err);
	pid_t pid;
	int r;

	if (dir_fd < 0)
		return dir_fd;
	unlinkat(dir_fd, "vm.sock", 0);
	r = make_swap(host, set, err);
	if (!r)
		r = process_save(vm, err);
	if (!r)
		r = spawn(host, set, dir_fd, &pid, err);
	if (!r)
		r = know_process(vm, pid, err);
	if (!r)
		r = connect_new(vm, pid, dir_fd, err);
	close(dir_fd);
	return r;
}

int process_save(struct hvm *vm, struct err *err)
{
	const struct settings_file s = {
		.vm = vm->set,
		.group_ino = vm->group_ino,
		.start_ms = vm->start_ms,
		.pid = vm->pid,
		.pid_ticks = vm->pid > 0 ? process_ticks(vm->pid) : 0,
	};
	const int dir_fd = process_dir(vm->host, vm->set.name);
	int r;

	if (dir_fd < 0)
		return err_set(err, dir_fd, "cannot open the directory of VM %s",
			       vm->set.name);
	r = settings_write(dir_fd, &s, err);
	close(dir_fd);
	return r;
}

static int on_revoke(void *ctx, const struct revoke_request *request)
{
	struct hvm *vm = ctx;
	struct link_msg msg;

	link_msg_init(&msg, LINK_REVOKE, 0);
	msg.revoke = *request;
	return link_send(vm->sock, &msg, NULL, 0);
}

static struct group *group_find(struct host *host, const char *name)
{
	for (uint32_t i = 0; i < host->n_groups; i++) {
		if (!strcmp(host->groups[i]->name, name))
			return host->groups[i];
	}
	return NULL;
}

static int group_enter(struct host *host, struct group *g)
{
	struct group **groups = realloc(host->groups,
					(host->n_groups + 1) * sizeof(*groups));

	if (!groups)
		return -ENOMEM;
	host->groups = groups;
	groups[host->n_groups++] = g;
	return 0;
}

/* The VM's group; made, or taken over from what an attached VM brings. Under the gate. */
static int group_for(struct hvm *vm, int fd, struct group **ret, struct err *err)
{
	struct host *host = vm->host;
	char name[64];
	struct group *g;
	int r;

	/* A VM without a group is alone in one that no group's name can name. */
	snprintf(name, sizeof(name), "%s%s", vm->set.group[0] ? "" : "/",
		 vm->set.group[0] ? vm->set.group : vm->set.name);
	g = group_find(host, name);
	if (g) {
		struct stat st;

		if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_ino != g->ino ||
				g->ino != vm->group_ino))
			return err_set(err, -EBADMSG,
				       "it brings another file for group %s",
				       name);
		*ret = g;
		return 0;
	}
	r = fd >= 0 ? group_adopt(name, fd, vm->group_ino, &host->ledger, &g,
				  err)
		    : group_new(name, host->managed_pages, &host->ledger, &g,
				err);
	if (r)
		return r;
	r = group_enter(host, g);
	if (r) {
		group_free(g);
		return err_set(err, r, "out of memory");
	}
	*ret = g;
	return 0;
}

static int send_attach(struct hvm *vm, const struct vmmem *mem, bool has_files)
{
	struct link_msg msg;
	int fds[LINK_ATTACH_FDS] = {-1, -1, -1};
	char path[64];
	int r = -EMFILE;

	link_msg_init(&msg, LINK_ATTACH, 0);
	if (has_files)
		return link_send(vm->sock, &msg, NULL, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", zip_fd(mem->zip));
	fds[LINK_ATTACH_ZIP] = open(path, O_RDONLY | O_CLOEXEC);
	fds[LINK_ATTACH_SWAP] = swap_reader(mem->swap);
	fds[LINK_ATTACH_GROUP] = group_reader(mem->group);
	if (fds[0] >= 0 && fds[1] >= 0 && fds[2] >= 0)
		r = link_send(vm->sock, &msg, fds, LINK_ATTACH_FDS);
	for (unsigned i = 0; i < LINK_ATTACH_FDS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return r;
}

/* Stores and group, from the VM's descriptors if it has them. Under the gate. */
static int give_stores(struct hvm *vm, struct vmmem *mem, const int *fds,
		       bool has_files, struct err *err)
{
	struct zip *zip = NULL;
	struct swap *swap = NULL;
	struct group *group = NULL;
	char path[4096];
	int r = host_vm_path(vm->host, vm->set.name, "swap", path, sizeof(path));

	if (!r)
		r = swap_adopt(path, &swap, err);
	if (!r)
		r = has_files ? zip_adopt(fds[LINK_FD_ZIP], mem->n_pages,
					  mem->ledger, &zip, err)
			      : zip_new(mem->n_pages, mem->ledger, &zip, err);
	if (!r)
		r = group_for(vm, has_files ? fds[LINK_FD_GROUP] : -1, &group,
			      err);
	if (!r) {
		r = vmmem_attach(mem, zip, swap, group);
		if (r)
			err_set(err, r, "group %s is full", group->name);
	}
	if (r) {
		zip_free(zip);
		swap_free(swap);
	}
	return r;
}

/* A full disk is no reason to lose a VM whose settings are there already. */
static int remember(struct hvm *vm, ino_t group_ino, struct err *err)
{
	if (vm->saved && vm->group_ino == group_ino)
		return 0;
	vm->group_ino = group_ino;
	return process_save(vm, err);
}

static int hello_locked(struct hvm *vm, struct vmmem *mem, const int *fds,
			bool has_files, struct err *err)
{
	int r = give_stores(vm, mem, fds, has_files, err);

	if (r)
		return r;
	vmmem_rescan(mem, true);
	if (atomic_load(&mem->misbehaved))
		return err_set(err, -EBADMSG, "%s", mem->why);
	r = remember(vm, mem->group->ino, err);
	if (!r) {
		r = send_attach(vm, mem, has_files);
		if (r)
			err_set(err, r, "cannot greet it: %s", strerror(-r));
	}
	return r;
}

int process_hello(struct hvm *vm, const struct link_msg *msg, int *fds,
		  struct err *err)
{
	const bool has_files = msg->n_fds == LINK_FDS_ATTACHED;
	struct vmmem *mem = NULL;
	int r;

	if (has_files && !vm->adopting) {
		for (unsigned i = 0; i < LINK_FDS_NEW; i++)
			close(fds[i]);
		r = err_set(err, -EBADMSG,
			    "a new VM brings files of an old one");
	} else {
		r = vmmem_new(vm->set.size_pages, fds, &vm->host->ledger,
			      on_revoke, vm, &mem, err);
	}
	pthread_mutex_lock(&vm->host->lock);
	if (!r)
		r = hello_locked(vm, mem, fds, has_files, err);
	if (r)
		vmmem_free(mem);
	else
		vm->mem = mem;
	pthread_mutex_unlock(&vm->host->lock);
	for (unsigned i = LINK_FDS_NEW; i < msg->n_fds; i++)
		close(fds[i]);
	return r;
}
