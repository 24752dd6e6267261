/* SPDX-License-Identifier: Apache-2.0 */
/* mezz ls: all VMs. */
#include <stdio.h>

#include <cli/commands.h>
#include <cli/common.h>

int cmd_ls(int argc, char *argv[])
{
	const struct client_request req = {.op = API_LIST_VMS};
	struct api_vms list = {0};
	struct cli cli;
	int status = cli_begin(&cli, argc, argv,
			       "ls\n\nList all VMs; amounts are MiB.", NULL, 0,
			       0);

	if (status >= 0)
		return status;
	status = cli_call(&cli, &req, &list);
	if (status == CLI_OK)
		printf("%-24s %-13s %8s %9s %9s %9s %8s %s\n", "NAME", "STATE",
		       "MEMSZ", "CONSUMED", "ACTIVE", "RESERVED", "SHARES",
		       "POOL");
	const struct api_vm *vms = list.vms.v;

	for (size_t i = 0; status == CLI_OK && i < list.vms.n; i++)
		printf("%-24s %-13s %8.0f %9.1f %9.1f %9.0f %8u %s\n",
		       vms[i].config.name, api_power_name(vms[i].runtime.power),
		       mib(vm_memory_pages(&vms[i])),
		       mib(vms[i].stats.consumed_pages),
		       mib(vms[i].stats.active_pages),
		       mib(vms[i].config.alloc.reservation_pages),
		       vms[i].config.alloc.shares, vms[i].config.pool);
	api_release(&api_vms_schema, &list);
	return cli_end(&cli, status < 0 ? CLI_OK : status);
}
