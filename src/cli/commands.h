/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of mezz: one function and one file each. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

/** cmd_run() - mezz run: start mezz-vm on this terminal. Return: its exit status. */
int cmd_run(int argc, char *argv[]);

/** cmd_mmu() - mezz mmu report: counters of several runs side by side. Return: exit status. */
int cmd_mmu(int argc, char *argv[]);

/** cmd_create() - mezz create: define a VM. Return: exit status. */
int cmd_create(int argc, char *argv[]);

/** cmd_start() - mezz start: start VMs. Return: exit status. */
int cmd_start(int argc, char *argv[]);

/** cmd_stop() - mezz stop: end VMs. Return: exit status. */
int cmd_stop(int argc, char *argv[]);

/** cmd_rm() - mezz rm: forget VMs. Return: exit status. */
int cmd_rm(int argc, char *argv[]);

/** cmd_ls() - mezz ls: list VMs. Return: exit status. */
int cmd_ls(int argc, char *argv[]);

/** cmd_show() - mezz show: all about one VM. Return: exit status. */
int cmd_show(int argc, char *argv[]);

/** cmd_set() - mezz set: change a VM's settings. Return: exit status. */
int cmd_set(int argc, char *argv[]);

/** cmd_pool() - mezz pool: resource pools. Return: exit status. */
int cmd_pool(int argc, char *argv[]);

/** cmd_console() - mezz console: this terminal as a VM's console. Return: exit status. */
int cmd_console(int argc, char *argv[]);

/** cmd_top() - mezz top: live figures of memory. Return: exit status. */
int cmd_top(int argc, char *argv[]);

/** cmd_host() - mezz host: the host's memory and options. Return: exit status. */
int cmd_host(int argc, char *argv[]);

/** cmd_map() - mezz map: where a VM's pages are. Return: exit status. */
int cmd_map(int argc, char *argv[]);

/** cmd_events() - mezz events: what happens, as it happens. Return: exit status. */
int cmd_events(int argc, char *argv[]);

#endif
