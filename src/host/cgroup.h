/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What memory this process may use by its control groups: in a container that is less than
 * what the host has, and whoever takes more is killed.
 * [Linux Documentation/admin-guide/cgroup-v2.rst "Memory", cgroup-v1/memory.rst]
 */
#ifndef HOST_CGROUP_H
#define HOST_CGROUP_H
#include <base/types.h>

/**
 * cgroup_memory() - the tightest limits of a process's groups and of those around them.
 * @membership: the process's groups, as in /proc/self/cgroup
 * @mount: where the hierarchies are mounted, as in /sys/fs/cgroup
 * @limit: bytes; lowered to the least limit, and left alone where there is none
 * @left: bytes; lowered to the least that a limit leaves, what the kernel could drop of the
 *        page cache included
 *
 * Both versions of control groups are looked at. What cannot be read limits nothing.
 */
void cgroup_memory(const char *membership, const char *mount, uint64_t *limit,
		   uint64_t *left);

#endif
