/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory balloon [VIRTIO 1.2 5.5 "Traditional Memory Balloon Device"]: takes back what
 * the guest does not need.
 *
 * Three ways: the guest gives pages up when the host sets a target (inflate) and takes them
 * back when the target falls or when it would have to kill a process (deflate); and it tells
 * by itself, at any time, which of its free pages it has not used for a while (free page
 * reporting). Given pages are BALLOON in the physmap, reported ones ZERO, and both are
 * without memory; whatever is touched again is a page of zeros.
 *
 * The guest may lie about all of it. It can only give up its own RAM, and what it says
 * counts for nothing: how large the balloon really is, the physmap says.
 *
 * A guest that poisons its free pages expects the poison back. Pages that it reports are
 * left alone then.
 */
#ifndef DEV_VIRTIO_BALLOON_H
#define DEV_VIRTIO_BALLOON_H
#include <base/error.h>
#include <base/types.h>
#include <dev/virtio_mmio.h>

#define VIRTIO_BALLOON_STATS_VQ       (UINT64_C(1) << 1)
#define VIRTIO_BALLOON_DEFLATE_ON_OOM (UINT64_C(1) << 2)
#define VIRTIO_BALLOON_PAGE_POISON    (UINT64_C(1) << 4)
#define VIRTIO_BALLOON_REPORTING      (UINT64_C(1) << 5)

/* Configuration space. */
#define VIRTIO_BALLOON_NUM_PAGES    0
#define VIRTIO_BALLOON_ACTUAL       4
#define VIRTIO_BALLOON_POISON       12
#define VIRTIO_BALLOON_CONFIG_BYTES 16

/* More pages in one request break the rules: it would keep the VM too long. */
#define VIRTIO_BALLOON_MAX_PFNS 4096

struct guestmem;
struct virtio_balloon;

/**
 * struct virtio_balloon_guest - what the guest says of its memory.
 * @total_pages: it has; at most the size of RAM, as the next two
 * @free_pages: unused
 * @available_pages: it could use without swapping
 * @cache_pages: page cache
 * @swapped_in: pages, since its boot
 * @swapped_out: pages, since its boot
 * @major_faults: since its boot
 * @minor_faults: since its boot
 * @oom_kills: since its boot; 0 if it does not say
 */
struct virtio_balloon_guest {
	uint64_t total_pages;
	uint64_t free_pages;
	uint64_t available_pages;
	uint64_t cache_pages;
	uint64_t swapped_in;
	uint64_t swapped_out;
	uint64_t major_faults;
	uint64_t minor_faults;
	uint64_t oom_kills;
};

/**
 * struct virtio_balloon_ops - who wants to know; on the processor thread, in a request.
 * @given: the guest has given up @pages pages, or reported them free; may be NULL
 * @taken: the guest has taken @pages pages out of the balloon; may be NULL
 * @statistics: new ones have come; may be NULL
 */
struct virtio_balloon_ops {
	void (*given)(void *ctx, uint64_t pages);
	void (*taken)(void *ctx, uint64_t pages);
	void (*statistics)(void *ctx, const struct virtio_balloon_guest *guest);
};

/**
 * struct virtio_balloon_stats - counters, kept over resets.
 * @target_pages: as set by the host
 * @claimed_pages: what the guest says is in the balloon
 * @inflate_requests: by the guest
 * @inflated_pages: put into the balloon
 * @duplicate_pages: put into the balloon though they were in it
 * @deflate_requests: by the guest
 * @deflated_pages: taken out of the balloon
 * @absent_pages: taken out though they were not in it, or no more
 * @outside_pages: that are no RAM
 * @report_requests: by the guest
 * @reported_pages: reported free and dropped
 * @poisoned_pages: reported free and left alone, since the guest wants its poison back
 * @partial_bytes: reported free, but not whole pages
 * @oom_deflations: requests that took pages out although the target was not lower
 * @returned_pages: left in the balloon by a driver that has gone
 * @stats_asked: times that statistics were asked for
 * @stats_received: times that they came and were complete
 * @stats_incomplete: times that something important was not among them
 * @ooms: @oom_deflations and the processes that the guest says it has killed
 */
struct virtio_balloon_stats {
	uint64_t target_pages;
	uint64_t claimed_pages;
	uint64_t inflate_requests;
	uint64_t inflated_pages;
	uint64_t duplicate_pages;
	uint64_t deflate_requests;
	uint64_t deflated_pages;
	uint64_t absent_pages;
	uint64_t outside_pages;
	uint64_t report_requests;
	uint64_t reported_pages;
	uint64_t poisoned_pages;
	uint64_t partial_bytes;
	uint64_t oom_deflations;
	uint64_t returned_pages;
	uint64_t stats_asked;
	uint64_t stats_received;
	uint64_t stats_incomplete;
	uint64_t ooms;
};

/**
 * virtio_balloon_new() - a balloon with target 0.
 * @mem: guest memory
 * @report: where messages about a misbehaving guest go, copied; may be NULL
 * @ops: constant table; may be NULL
 * @ctx: passed to every function of @ops
 * @ret_balloon: set on success; ended with virtio_balloon_free()
 * @err: message on failure
 *
 * Return: 0 or -ENOMEM.
 */
int virtio_balloon_new(struct guestmem *mem, const struct virtio_report *report,
		       const struct virtio_balloon_ops *ops, void *ctx,
		       struct virtio_balloon **ret_balloon, struct err *err)
	__attribute__((warn_unused_result));

/** virtio_balloon_free() - end it; NULL is fine. Return: NULL. */
struct virtio_balloon *virtio_balloon_free(struct virtio_balloon *balloon);

/** virtio_balloon_dev() - the device, for virtio_mmio_attach(). */
struct virtio_dev *virtio_balloon_dev(struct virtio_balloon *balloon);

/**
 * virtio_balloon_set_target() - how many pages the guest should give up.
 * @balloon: balloon
 * @pages: target; more than the guest has means all of them
 *
 * The guest is told if it is new. Like everything here under the device lock.
 */
void virtio_balloon_set_target(struct virtio_balloon *balloon, uint64_t pages);

/**
 * virtio_balloon_ask() - have the guest send new statistics.
 *
 * Return: false if there is no driver, or it has not answered the last time.
 */
bool virtio_balloon_ask(struct virtio_balloon *balloon);

/** virtio_balloon_present() - has a driver set the device up? */
bool virtio_balloon_present(const struct virtio_balloon *balloon);

/** virtio_balloon_guest() - the last complete statistics, all 0 if there are none. */
const struct virtio_balloon_guest *virtio_balloon_guest(
	const struct virtio_balloon *balloon);

/** virtio_balloon_stats() - counters. */
const struct virtio_balloon_stats *virtio_balloon_stats(
	const struct virtio_balloon *balloon);

#endif
