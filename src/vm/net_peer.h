/* SPDX-License-Identifier: Apache-2.0 */
/* What is at the other end of a VM's network cable. */
#ifndef VM_NET_PEER_H
#define VM_NET_PEER_H
#include <base/error.h>
#include <vm/config.h>

/**
 * net_peer_open() - a stream of frames (dev/frames.h) as the configuration says.
 * @cfg: there is a network card
 * @err: names the option, and what was wrong
 *
 * For the user's own sockets mezz-net is started, which ends when the stream is closed; this
 * waits until it has done what it was told, such as listening on ports.
 *
 * Return: a descriptor that does not block; -EINVAL (mezz-net cannot do that), -ENOENT,
 * -ECONNREFUSED (nobody listens), or what else socket(), connect() and posix_spawn() report.
 */
int net_peer_open(const struct vm_net_config *cfg, struct err *err)
	__attribute__((warn_unused_result));

#endif
