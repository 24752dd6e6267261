/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio network card. */
#include <dev/virtio_net.h>

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <dev/frames.h>

#define DEVICE_ID 1
#define LINK_UP   1

/* Before each frame, in both directions. */
struct head {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len;
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
	uint16_t num_buffers;
} __attribute__((packed));

struct net_config {
	uint8_t mac[VIRTIO_NET_MAC_BYTES];
	uint16_t status;
} __attribute__((packed));

struct virtio_net {
	struct virtio_dev dev;
	const struct virtio_net_ops *ops;
	void *ctx;
	struct net_config config;
	bool held; /* @tx is a frame that was not taken */
	struct vq_chain tx;
	struct vq_chain rx;
	struct virtio_net_stats stats;
};

static struct virtio_net *net_of(struct virtio_dev *dev)
{
	return (struct virtio_net *)(void *)((char *)dev -
					     offsetof(struct virtio_net, dev));
}

/* Return: false to leave the request with us. */
static bool send_frame(struct virtio_net *net, const struct vq_chain *chain)
{
	struct virtqueue *vq = &net->dev.queues[VIRTIO_NET_Q_TRANSMIT];
	uint8_t frame[FRAME_MAX_BYTES];
	uint64_t len;

	if (chain->out_bytes < sizeof(struct head)) {
		virtio_dev_fail(&net->dev, "a frame to send without its header");
		return false;
	}
	len = chain->out_bytes - sizeof(struct head);
	if (len > sizeof(frame)) {
		net->stats.dropped++;
		virtqueue_push(vq, chain, 0);
		return true;
	}
	if (!vq_chain_read(vq, chain, sizeof(struct head), frame, len))
		return false;
	if (!net->ops->send(net->ctx, frame, (size_t)len)) {
		net->held = true;
		return false;
	}
	net->stats.sent++;
	net->stats.sent_bytes += len;
	virtqueue_push(vq, chain, 0);
	return true;
}

static bool serve_send(struct virtio_dev *dev, unsigned int queue,
		       struct vq_chain *chain)
{
	(void)queue;
	return send_frame(net_of(dev), chain);
}

void virtio_net_flush(struct virtio_net *net)
{
	if (!virtio_dev_running(&net->dev))
		return;
	if (net->held) {
		net->held = false;
		if (!send_frame(net, &net->tx))
			return;
	}
	virtio_dev_drain(&net->dev, VIRTIO_NET_Q_TRANSMIT, &net->tx, serve_send);
}

static void net_notify(struct virtio_dev *dev, unsigned int queue)
{
	struct virtio_net *net = net_of(dev);

	if (queue == VIRTIO_NET_Q_RECEIVE)
		net->ops->room(net->ctx);
	else if (!net->held)
		virtio_net_flush(net);
}

static void net_reset(struct virtio_dev *dev)
{
	struct virtio_net *net = net_of(dev);

	net->held = false;
	net->ops->room(net->ctx);
}

static void net_config_read(struct virtio_dev *dev, uint32_t off, void *buf,
			    uint32_t len)
{
	memcpy(buf, (const char *)&net_of(dev)->config + off, len);
}

static const struct virtio_ops net_ops = {
	.name = "virtio-net",
	.device_id = DEVICE_ID,
	.config_bytes = sizeof(struct net_config),
	.notify = net_notify,
	.reset = net_reset,
	.config_read = net_config_read,
};

static bool put_frame(struct virtio_net *net, const uint8_t *frame, size_t len)
{
	struct virtqueue *vq = &net->dev.queues[VIRTIO_NET_Q_RECEIVE];
	const struct head head = {.num_buffers = htole16(1)};

	if (net->rx.in_bytes < sizeof(head) + len) {
		virtio_dev_fail(&net->dev,
				"a buffer that is too short for a frame");
		return false;
	}
	return vq_chain_write(vq, &net->rx, 0, &head, sizeof(head)) &&
	       vq_chain_write(vq, &net->rx, sizeof(head), frame, len);
}

bool virtio_net_receive(struct virtio_net *net, const uint8_t *frame, size_t len)
{
	struct virtqueue *vq = &net->dev.queues[VIRTIO_NET_Q_RECEIVE];

	if (!virtio_dev_running(&net->dev) || !vq->ready) {
		net->stats.dropped++;
		return true;
	}
	switch (virtqueue_pop(vq, &net->rx)) {
	case VQ_OK:
		break;
	case VQ_EMPTY:
		/* Asks for a notification; a buffer may have come just before that. */
		if (!virtqueue_has_work(vq))
			return false;
		return virtio_net_receive(net, frame, len);
	case VQ_BROKEN:
		virtio_dev_fail(&net->dev, vq->broken);
		return true;
	case VQ_STOPPED:
		return false;
	}
	if (!put_frame(net, frame, len))
		return true;
	net->stats.received++;
	net->stats.received_bytes += len;
	virtqueue_push(vq, &net->rx, (uint32_t)(sizeof(struct head) + len));
	virtio_dev_interrupt(&net->dev, VIRTIO_NET_Q_RECEIVE);
	return true;
}

bool virtio_net_held(const struct virtio_net *net)
{
	return net->held;
}

void virtio_net_unplug(struct virtio_net *net)
{
	net->config.status = 0;
	virtio_dev_config_changed(&net->dev);
}

int virtio_net_new(struct guestmem *mem, const uint8_t mac[VIRTIO_NET_MAC_BYTES],
		   const struct virtio_report *report,
		   const struct virtio_net_ops *ops, void *ctx,
		   struct virtio_net **ret_net, struct err *err)
{
	struct virtio_net *net = calloc(1, sizeof(*net));

	if (!net)
		return err_set(err, -ENOMEM, "no memory for virtio-net");
	net->ops = ops;
	net->ctx = ctx;
	net->config.status = htole16(LINK_UP);
	memcpy(net->config.mac, mac, sizeof(net->config.mac));
	virtio_dev_init(&net->dev, &net_ops, mem, report,
			VIRTIO_NET_MAC | VIRTIO_NET_STATUS, 2);
	*ret_net = net;
	return 0;
}

struct virtio_net *virtio_net_free(struct virtio_net *net)
{
	free(net);
	return NULL;
}

struct virtio_dev *virtio_net_dev(struct virtio_net *net)
{
	return &net->dev;
}

const struct virtio_net_stats *virtio_net_stats(const struct virtio_net *net)
{
	return &net->stats;
}
