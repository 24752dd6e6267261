/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of mezz: one function and one file each. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

/** cmd_run() - mezz run: start mezz-vm on this terminal. Return: its exit status. */
int cmd_run(int argc, char *argv[]);

/** cmd_mmu() - mezz mmu report: counters of several runs side by side. Return: exit status. */
int cmd_mmu(int argc, char *argv[]);

#endif
