/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio network card with one pair of queues and no offloads [VIRTIO 1.2 5.1 "Network
 * Device"]: frames go in and out as they are on the wire.
 *
 * It has no thread and no socket: its owner is told what the guest sends, and gives what the
 * guest shall receive. All under the device lock.
 */
#ifndef DEV_VIRTIO_NET_H
#define DEV_VIRTIO_NET_H
#include <base/error.h>
#include <base/types.h>
#include <dev/virtio_mmio.h>

#define VIRTIO_NET_MAC_BYTES  6

#define VIRTIO_NET_MAC        (UINT64_C(1) << 5)
#define VIRTIO_NET_STATUS     (UINT64_C(1) << 16)

#define VIRTIO_NET_Q_RECEIVE  0
#define VIRTIO_NET_Q_TRANSMIT 1

struct guestmem;
struct virtio_net;

/**
 * struct virtio_net_ops - the other end of the cable.
 * @send: the guest sends a frame; false: not now, virtio_net_flush() tries again
 * @room: the guest can receive again, or has reset the card
 *
 * Called where the guest notifies the device.
 */
struct virtio_net_ops {
	bool (*send)(void *ctx, const uint8_t *frame, size_t len);
	void (*room)(void *ctx);
};

/**
 * struct virtio_net_stats - counters.
 * @sent: frames that the guest sent
 * @sent_bytes: in them
 * @received: frames that the guest got
 * @received_bytes: in them
 * @dropped: frames for a guest that has no driver, or from it of an impossible length
 */
struct virtio_net_stats {
	uint64_t sent;
	uint64_t sent_bytes;
	uint64_t received;
	uint64_t received_bytes;
	uint64_t dropped;
};

/**
 * virtio_net_new() - a network card.
 * @mem: guest memory
 * @mac: its address
 * @report: where messages about a misbehaving guest go, copied; may be NULL
 * @ops: constant table
 * @ctx: passed to every function of the table
 * @ret_net: set on success; ended with virtio_net_free()
 * @err: message on failure
 *
 * Return: 0 or -ENOMEM.
 */
int virtio_net_new(struct guestmem *mem, const uint8_t mac[VIRTIO_NET_MAC_BYTES],
		   const struct virtio_report *report,
		   const struct virtio_net_ops *ops, void *ctx,
		   struct virtio_net **ret_net, struct err *err)
	__attribute__((warn_unused_result));

/** virtio_net_free() - end it; NULL is fine. Return: NULL. */
struct virtio_net *virtio_net_free(struct virtio_net *net);

/** virtio_net_dev() - the device, for virtio_mmio_attach(). */
struct virtio_dev *virtio_net_dev(struct virtio_net *net);

/**
 * virtio_net_receive() - a frame for the guest.
 * @net: the card
 * @frame: @len bytes
 * @len: at most FRAME_MAX_BYTES
 *
 * Return: false if the guest has nowhere to put it now: ops->room is called when that has
 * changed. True if it is done with: given, or dropped for want of a driver.
 */
bool virtio_net_receive(struct virtio_net *net, const uint8_t *frame,
			size_t len);

/** virtio_net_flush() - send what ops->send did not take, and what came after it. */
void virtio_net_flush(struct virtio_net *net);

/** virtio_net_held() - is there a frame that ops->send did not take? */
bool virtio_net_held(const struct virtio_net *net);

/** virtio_net_unplug() - the cable is gone: tell the guest. */
void virtio_net_unplug(struct virtio_net *net);

/** virtio_net_stats() - counters. */
const struct virtio_net_stats *virtio_net_stats(const struct virtio_net *net);

#endif
