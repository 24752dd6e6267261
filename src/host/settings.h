/* SPDX-License-Identifier: Apache-2.0 */
/* The settings of a VM that runs, in a file beside its socket, for the next host. */
#ifndef HOST_SETTINGS_H
#define HOST_SETTINGS_H
#include <sys/types.h>

#include <base/error.h>
#include <host/host.h>

/**
 * struct settings_file - what the file holds.
 * @vm: settings, without arguments
 * @group_ino: inode of the sharing group's file, 0 until the VM is attached
 * @start_ms: wall clock of the VM's start
 * @pid: its process, 0 until the VM is attached
 * @pid_ticks: process_ticks() of that, or another process may have the number by now
 */
struct settings_file {
	struct host_vm_settings vm;
	ino_t group_ino;
	uint64_t start_ms;
	pid_t pid;
	uint64_t pid_ticks;
};

/** settings_write() - replace the file, whole or not at all. Return: 0 or -errno. */
int settings_write(int dir_fd, const struct settings_file *s, struct err *err)
	__attribute__((warn_unused_result));

/** settings_read() - read it. Return: 0, -EBADMSG, or -errno. */
int settings_read(int dir_fd, struct settings_file *ret, struct err *err)
	__attribute__((warn_unused_result));

#define SETTINGS_CHANGES 320

/**
 * settings_changes() - what a running VM's settings were changed to, for people.
 * @from: before
 * @to: after; name, size, group and arguments are not looked at
 * @buf: "limit 256M, shares low"; empty if nothing was changed
 *
 * Return: @buf.
 */
const char *settings_changes(const struct host_vm_settings *from,
			     const struct host_vm_settings *to,
			     char buf[SETTINGS_CHANGES]);

#endif
