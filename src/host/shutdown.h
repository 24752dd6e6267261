/* SPDX-License-Identifier: Apache-2.0 */
/* The end of all VMs, when this program shall not leave any: as polite as time allows. */
#ifndef HOST_SHUTDOWN_H
#define HOST_SHUTDOWN_H
#include <signal.h>

#include <host/host.h>

/**
 * shutdown_vms() - end all VMs.
 * @host: the host
 * @wait_ms: how long guests may take after their power button was pressed
 * @signals: blocked signals, any of which ends the waiting
 *
 * Those that run after that time are ended whatever their guests think of it, and are killed if
 * they do not listen to that either. What happens is logged.
 */
void shutdown_vms(struct host *host, uint64_t wait_ms, const sigset_t *signals);

#endif
