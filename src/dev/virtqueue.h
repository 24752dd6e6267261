/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One split virtqueue, seen from the device [VIRTIO 1.2 2.7 "Split Virtqueues"].
 *
 * The rings are written by the guest and may hold anything. Whatever breaks the rules
 * (an index out of range, a loop, an address outside RAM, a chain that is too long, a
 * readable part after a writable one, an available index that jumped) makes the queue
 * broken: it is not touched any more until the guest resets the device, and ->broken
 * says why. Each ring entry is copied once and judged by the copy.
 *
 *	while (virtqueue_pop(vq, &chain) == VQ_OK) {
 *		len = … vq_chain_read(vq, &chain, …) … vq_chain_write(…) …
 *		virtqueue_push(vq, &chain, len);
 *	}
 *	if (virtqueue_should_notify(vq))
 *		… interrupt …
 */
#ifndef DEV_VIRTQUEUE_H
#define DEV_VIRTQUEUE_H
#include <base/types.h>

#define VIRTQUEUE_MAX_SIZE 256
#define VQ_MAX_SEGS        VIRTQUEUE_MAX_SIZE
/* No request may be longer: used entries tell lengths in 32 bits. */
#define VQ_MAX_CHAIN_BYTES UINT64_C(0xffffffff)

struct guestmem;

enum vq_status {
	VQ_OK,
	VQ_EMPTY,   /* nothing to do (or the queue is not ready) */
	VQ_BROKEN,  /* the guest broke the rules; see virtqueue.broken */
	VQ_STOPPED, /* the VM is being stopped; leave everything as it is */
};

/**
 * struct vq_seg - one stretch of guest RAM, checked to be RAM throughout.
 * @addr: first byte
 * @len: bytes
 */
struct vq_seg {
	gpa_t addr;
	uint32_t len;
};

/**
 * struct vq_chain - one request.
 * @head: index of its first descriptor
 * @n_out: stretches that the device reads: segs[0 … n_out)
 * @n_in: stretches that the device writes: segs[n_out … n_out + n_in)
 * @out_bytes: their sum
 * @in_bytes: their sum
 * @segs: the stretches
 *
 * Large: keep it in the device, not on the stack.
 */
struct vq_chain {
	uint16_t head;
	unsigned int n_out;
	unsigned int n_in;
	uint64_t out_bytes;
	uint64_t in_bytes;
	struct vq_seg segs[VQ_MAX_SEGS];
};

/**
 * struct virtqueue_stats - counters, kept over resets.
 * @popped: requests taken
 * @pushed: requests returned
 * @notifications: times that the guest wanted an interrupt for them
 * @suppressed: times that it did not
 */
struct virtqueue_stats {
	uint64_t popped;
	uint64_t pushed;
	uint64_t notifications;
	uint64_t suppressed;
};

/**
 * struct virtqueue - one queue; embedded in its device. Read freely, write only size,
 * addresses and ready, as the transport does.
 * @mem: guest memory
 * @max_size: largest size offered, a power of two
 * @size: as set by the guest, a power of two
 * @ready: the guest has set it up
 * @event_idx: VIRTIO_F_EVENT_IDX was negotiated
 * @indirect: VIRTIO_F_INDIRECT_DESC was negotiated
 * @desc: descriptor table
 * @driver: available ring
 * @device: used ring
 * @next_avail: first entry of the available ring not yet taken
 * @next_used: where the next used entry goes
 * @signalled: next_used when the guest was last told
 * @broken: why it is broken, a constant text, or NULL
 * @stats: counters
 */
struct virtqueue {
	struct guestmem *mem;
	uint16_t max_size;
	uint16_t size;
	bool ready;
	bool event_idx;
	bool indirect;
	gpa_t desc;
	gpa_t driver;
	gpa_t device;
	uint16_t next_avail;
	uint16_t next_used;
	uint16_t signalled;
	const char *broken;
	struct virtqueue_stats stats;
};

/**
 * virtqueue_init() - a queue that is not set up.
 * @vq: to initialize
 * @mem: guest memory
 * @max_size: power of two, at most VIRTQUEUE_MAX_SIZE
 */
void virtqueue_init(struct virtqueue *vq, struct guestmem *mem,
		    uint16_t max_size);

/** virtqueue_reset() - back to not set up; memory and counters stay. */
void virtqueue_reset(struct virtqueue *vq);

/**
 * virtqueue_start() - the guest says that size and addresses are right.
 * @vq: with size, desc, driver and device set
 *
 * Return: true and ->ready, or false and ->broken if they are not.
 */
bool virtqueue_start(struct virtqueue *vq);

/**
 * virtqueue_pop() - take the next request.
 * @vq: the queue
 * @chain: filled on VQ_OK
 *
 * Return: see enum vq_status.
 */
enum vq_status virtqueue_pop(struct virtqueue *vq, struct vq_chain *chain);

/**
 * virtqueue_push() - give a request back.
 * @vq: the queue
 * @chain: from virtqueue_pop()
 * @written: bytes written into its writable part, from its start
 */
void virtqueue_push(struct virtqueue *vq, const struct vq_chain *chain,
		    uint32_t written);

/** virtqueue_should_notify() - does the guest want an interrupt for what was pushed? */
bool virtqueue_should_notify(struct virtqueue *vq);

/**
 * virtqueue_has_work() - is there a request to pop? Also asks the guest, by event index,
 * to notify the next one, so that nothing is lost between the two.
 */
bool virtqueue_has_work(struct virtqueue *vq);

/**
 * virtqueue_break() - mark it broken.
 * @vq: the queue
 * @why: constant text
 */
void virtqueue_break(struct virtqueue *vq, const char *why);

/**
 * struct vq_cursor - a walk over one part of a request.
 * @segs: stretches not yet finished
 * @n_segs: how many
 * @off: bytes of the first of them that are done
 */
struct vq_cursor {
	const struct vq_seg *segs;
	unsigned int n_segs;
	uint32_t off;
};

enum vq_part {
	VQ_OUT, /* what the device reads */
	VQ_IN,  /* what it writes */
};

/**
 * vq_cursor_init() - start a walk.
 * @cur: to initialize
 * @chain: the request, which must outlive it
 * @part: which part
 * @skip: bytes of it to skip
 */
void vq_cursor_init(struct vq_cursor *cur, const struct vq_chain *chain,
		    enum vq_part part, uint64_t skip);

/**
 * vq_cursor_next() - the next stretch, and go past it.
 * @cur: the walk
 * @max: at most so many bytes
 * @ret_addr: its address
 *
 * Return: its length, 0 at the end.
 */
uint64_t vq_cursor_next(struct vq_cursor *cur, uint64_t max, gpa_t *ret_addr);

/**
 * vq_chain_read() - copy from the part that the device reads.
 * @vq: the queue
 * @chain: the request
 * @off: offset in that part
 * @buf: destination
 * @len: bytes
 *
 * Return: false if it is shorter than @off + @len, or the VM is being stopped.
 */
bool vq_chain_read(struct virtqueue *vq, const struct vq_chain *chain,
		   uint64_t off, void *buf, uint64_t len)
	__attribute__((warn_unused_result));

/** vq_chain_write() - copy into the part that the device writes; as vq_chain_read(). */
bool vq_chain_write(struct virtqueue *vq, const struct vq_chain *chain,
		    uint64_t off, const void *buf, uint64_t len)
	__attribute__((warn_unused_result));

#endif
