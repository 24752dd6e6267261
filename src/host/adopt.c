/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMs that an earlier host left running: finding them, and connecting to them.
 *
 * One that runs but cannot be connected to, since it stands still or its settings cannot be
 * read, is in the list all the same, so that its memory counts and nobody else has its name.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/clock.h>
#include <host/host_impl.h>

#define CONNECT_MS  1000
#define TICKS_FIELD 20 /* after the name, whose end is the last ')' */

/**
 * struct found - what is known of a VM that runs.
 * @file: its settings
 * @sock: connected to it, or -1; owned
 * @pid: its process, or 0
 */
struct found {
	struct settings_file file;
	int sock;
	pid_t pid;
};

uint64_t process_ticks(pid_t pid)
{
	char path[64], text[1024];
	char *at;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	at = strrchr(text, ')');
	for (int i = 0; at && i < TICKS_FIELD; i++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

/* The RAM of a VM, by its memory file; 0 if it cannot be seen. */
static uint64_t ram_pages(pid_t pid)
{
	char path[64], target[64];
	uint64_t pages = 0;
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = pid > 0 ? opendir(path) : NULL;
	while (dir && (entry = readdir(dir))) {
		const ssize_t n = readlinkat(dirfd(dir), entry->d_name, target,
					     sizeof(target) - 1);
		struct stat st;

		target[n > 0 ? n : 0] = '\0';
		if (!strncmp(target, "/memfd:mezz-home", 16) &&
		    !fstatat(dirfd(dir), entry->d_name, &st, 0))
			pages = (uint64_t)st.st_size / PAGE_SIZE;
	}
	if (dir)
		closedir(dir);
	return pages;
}

/* One that runs may be busy with others that connect. */
static int connect_running(int dir_fd)
{
	const uint64_t end = monotonic_ms() + CONNECT_MS;
	int fd;

	while ((fd = process_connect(dir_fd)) == -EAGAIN && monotonic_ms() < end)
		nap_ms(5);
	return fd;
}

/* Who listens. Return: 0; -EPERM if that is somebody else's process. */
static int peer_of(int sock, pid_t *ret)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    peer.uid != geteuid())
		return -EPERM;
	*ret = peer.pid;
	return 0;
}

static int read_settings(int dir_fd, const char *name,
			 struct settings_file *ret, struct err *err)
{
	const int r = settings_read(dir_fd, ret, err);

	if (!r && strcmp(ret->vm.name, name) != 0)
		return err_set(err, -EBADMSG, "the settings are of VM %s",
			       ret->vm.name);
	return r;
}

/* Settings and process, whatever of them there is. Return: 0, or why it cannot be linked. */
static int look_at(int dir_fd, const char *name, struct found *f,
		   struct err *err)
{
	int r = read_settings(dir_fd, name, &f->file, err);

	if (f->sock >= 0 && peer_of(f->sock, &f->pid))
		return err_set(err, -EPERM, "its process is another user's");
	if (!f->pid && !r && f->file.pid > 0 &&
	    process_ticks(f->file.pid) == f->file.pid_ticks)
		f->pid = f->file.pid;
	if (r) {
		host_vm_settings_init(&f->file.vm, name, ram_pages(f->pid));
		if (f->sock >= 0)
			close(f->sock);
		f->sock = -1;
	} else if (f->sock < 0) {
		r = err_set(err, -EAGAIN, "it does not answer");
	}
	return r;
}

static void set_process(struct hvm *vm, pid_t pid)
{
	const int fd = pid > 0 ? process_open(pid) : -1;

	vm->pid = fd < 0 ? 0 : pid;
	vm->pid_fd = fd < 0 ? -1 : fd;
}

/* Takes over the socket. */
static int enter(struct host *host, const struct found *f)
{
	struct hvm *vm = hvm_new(host, &f->file.vm);
	int r;

	if (!vm) {
		if (f->sock >= 0)
			close(f->sock);
		return -ENOMEM;
	}
	vm->sock = f->sock;
	vm->state = HOST_VM_FOUND;
	vm->adopting = true;
	vm->entered = true;
	vm->ran_before = true;
	vm->group_ino = f->file.group_ino;
	vm->saved = true;
	vm->start_ms = f->file.start_ms ? f->file.start_ms : vm->start_ms;
	set_process(vm, f->pid);
	r = vm_insert(host, vm);
	if (!r)
		r = manager_watch(host, vm);
	if (r) {
		hvm_destroy(vm);
		return r;
	}
	host->n_adopting++;
	return 0;
}

static void adopt_running(struct host *host, const char *name, int dir_fd,
			  int sock)
{
	struct found f = {.sock = sock};
	struct err err = {0};
	int r = look_at(dir_fd, name, &f, &err);
	/* Without a size there is nothing that could be counted. */
	const int entered = f.file.vm.size_pages && r != -EPERM ? enter(host, &f)
								: -ENOENT;

	if (entered && f.sock >= 0 && r == -EPERM)
		close(f.sock);
	if (!r && !entered)
		return;
	host_tell(host, HOST_EVENT_ERROR, name, "cannot take over VM %s: %s%s",
		  name, r ? err.text : strerror(-entered),
		  entered ? "" : "; its memory counts, and it is tried again");
}

static void adopt_dir(struct host *host, const char *name)
{
	const int dir_fd = process_dir(host, name);
	int sock;

	if (dir_fd < 0)
		return;
	sock = connect_running(dir_fd);
	/* Nobody listens: it ended while there was no host. Else its swap file is in use. */
	if (sock == -ECONNREFUSED || sock == -ENOENT)
		process_remove_files(host, name);
	else
		adopt_running(host, name, dir_fd, sock < 0 ? -1 : sock);
	close(dir_fd);
}

int adopt_all(struct host *host, struct err *err)
{
	const int fd = openat(host->dir_fd, ".",
			      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir)
		return err_set(err, -errno, "cannot read %s/vms: %s",
			       host->state_dir, strerror(errno));
	while ((entry = readdir(dir))) {
		struct err ignored;

		if (!host_name_check(entry->d_name, &ignored))
			adopt_dir(host, entry->d_name);
	}
	closedir(dir);
	return 0;
}

void adopt_wait(struct host *host, uint64_t timeout_ms)
{
	const struct timespec end = monotonic_after_ms(timeout_ms);

	pthread_mutex_lock(&host->lock);
	while (host->n_adopting &&
	       !pthread_cond_timedwait(&host->changed, &host->lock, &end))
		;
	pthread_mutex_unlock(&host->lock);
}

/* What is not known yet; what is assumed of it stays until it greets. */
static int take(struct hvm *vm, const struct settings_file *file, int sock)
{
	pid_t pid;
	int r = peer_of(sock, &pid);

	if (r)
		return r;
	vm->set = file->vm;
	vm->set.n_args = 0;
	vm->group_ino = file->group_ino;
	vm->saved = true;
	vm->start_ms = file->start_ms;
	if (vm->pid_fd < 0)
		set_process(vm, pid);
	vm->sock = sock;
	r = manager_watch(vm->host, vm);
	if (r)
		vm->sock = -1;
	return r;
}

bool adopt_again(struct hvm *vm)
{
	const int dir_fd = process_dir(vm->host, vm->set.name);
	struct settings_file file;
	struct err ignored;
	int sock;

	if (dir_fd < 0)
		return true;
	/* To connect only to end that again would be a lot of work for the VM. */
	sock = read_settings(dir_fd, vm->set.name, &file, &ignored)
		       ? -EBADMSG
		       : process_connect(dir_fd);
	close(dir_fd);
	/* If its process is known, that says when it ends. */
	if (sock < 0)
		return vm->pid_fd >= 0 ||
		       (sock != -ECONNREFUSED && sock != -ENOENT);
	if (take(vm, &file, sock))
		close(sock);
	return true;
}
