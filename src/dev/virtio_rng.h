/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio entropy source fed by getrandom(). */
#ifndef DEV_VIRTIO_RNG_H
#define DEV_VIRTIO_RNG_H
#include <base/error.h>
#include <base/types.h>
#include <dev/virtio_mmio.h>

struct guestmem;
struct virtio_rng;

/**
 * struct virtio_rng_stats - counters.
 * @requests: buffers filled
 * @bytes: entropy given
 */
struct virtio_rng_stats {
	uint64_t requests;
	uint64_t bytes;
};

/**
 * virtio_rng_new() - an entropy source.
 * @mem: guest memory
 * @report: where messages about a misbehaving guest go, copied; may be NULL
 * @ret_rng: set on success; ended with virtio_rng_free()
 * @err: message on failure
 *
 * Return: 0 or -ENOMEM.
 */
int virtio_rng_new(struct guestmem *mem, const struct virtio_report *report,
		   struct virtio_rng **ret_rng, struct err *err)
	__attribute__((warn_unused_result));

/** virtio_rng_free() - end it; NULL is fine. Return: NULL. */
struct virtio_rng *virtio_rng_free(struct virtio_rng *rng);

/**
 * virtio_rng_set_repeatable() - give the same bytes in every run instead of entropy.
 * @rng: the device
 * @seed: of the sequence, not 0
 */
void virtio_rng_set_repeatable(struct virtio_rng *rng, uint64_t seed);

/** virtio_rng_dev() - the device, for virtio_mmio_attach(). */
struct virtio_dev *virtio_rng_dev(struct virtio_rng *rng);

/** virtio_rng_stats() - counters. */
const struct virtio_rng_stats *virtio_rng_stats(const struct virtio_rng *rng);

#endif
