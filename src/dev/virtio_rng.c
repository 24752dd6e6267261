/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio entropy source. */
#include <dev/virtio_rng.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define DEVICE_ID 4

/* getrandom() never returns less than asked up to here, once the host has booted. */
#define PIECE_BYTES 256
/* More at once would only keep the guest's processor waiting. */
#define MAX_REQUEST_BYTES 65536

struct virtio_rng {
	struct virtio_dev dev;
	struct vq_chain chain;
	struct virtio_rng_stats stats;
	uint64_t repeat; /* state of the repeatable sequence, 0 for real entropy */
};

static struct virtio_rng *rng_of(struct virtio_dev *dev)
{
	return (struct virtio_rng *)(void *)((char *)dev -
					     offsetof(struct virtio_rng, dev));
}

static ssize_t get_bytes(struct virtio_rng *rng, uint8_t *to, uint64_t len)
{
	if (!rng->repeat)
		return getrandom(to, len, 0);
	for (uint64_t i = 0; i < len; i++) {
		rng->repeat = rng->repeat * UINT64_C(6364136223846793005) + 1;
		to[i] = (uint8_t)(rng->repeat >> 56);
	}
	return (ssize_t)len;
}

static bool serve(struct virtio_dev *dev, unsigned int queue,
		  struct vq_chain *chain)
{
	struct virtio_rng *rng = rng_of(dev);
	struct virtqueue *vq = &dev->queues[queue];
	uint64_t want = chain->in_bytes < MAX_REQUEST_BYTES ? chain->in_bytes
							    : MAX_REQUEST_BYTES;
	uint64_t done = 0;
	uint8_t piece[PIECE_BYTES];

	while (done < want) {
		uint64_t n = want - done < PIECE_BYTES ? want - done
						       : PIECE_BYTES;
		ssize_t got = get_bytes(rng, piece, n);

		if (got <= 0)
			break;
		if (!vq_chain_write(vq, chain, done, piece, (uint64_t)got))
			return false;
		done += (uint64_t)got;
	}
	rng->stats.requests++;
	rng->stats.bytes += done;
	virtqueue_push(vq, chain, (uint32_t)done);
	return true;
}

static void rng_notify(struct virtio_dev *dev, unsigned int queue)
{
	virtio_dev_drain(dev, queue, &rng_of(dev)->chain, serve);
}

static const struct virtio_ops rng_ops = {
	.name = "virtio-rng",
	.device_id = DEVICE_ID,
	.notify = rng_notify,
};

int virtio_rng_new(struct guestmem *mem, const struct virtio_report *report,
		   struct virtio_rng **ret_rng, struct err *err)
{
	struct virtio_rng *rng = calloc(1, sizeof(*rng));

	if (!rng)
		return err_set(err, -ENOMEM, "no memory for virtio-rng");
	virtio_dev_init(&rng->dev, &rng_ops, mem, report, 0, 1);
	*ret_rng = rng;
	return 0;
}

struct virtio_rng *virtio_rng_free(struct virtio_rng *rng)
{
	free(rng);
	return NULL;
}

void virtio_rng_set_repeatable(struct virtio_rng *rng, uint64_t seed)
{
	rng->repeat = seed;
}

struct virtio_dev *virtio_rng_dev(struct virtio_rng *rng)
{
	return &rng->dev;
}

const struct virtio_rng_stats *virtio_rng_stats(const struct virtio_rng *rng)
{
	return &rng->stats;
}
