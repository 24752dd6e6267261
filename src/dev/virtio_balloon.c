/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio memory balloon: inflate, deflate, statistics, free page reporting, poison. */
#include <dev/virtio_balloon.h>

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <mem/guestmem.h>

#define DEVICE_ID 5

#define FEATURES                                                   \
	(VIRTIO_BALLOON_STATS_VQ | VIRTIO_BALLOON_DEFLATE_ON_OOM | \
	 VIRTIO_BALLOON_PAGE_POISON | VIRTIO_BALLOON_REPORTING)

/*
 * Which queue does what. The standard numbers queues as if the guest had taken all
 * features, Linux leaves out those of features that were not taken; we have none for free
 * page hints, so a report may come by index 2, 3 or 4.
 */
enum role {
	ROLE_INFLATE,
	ROLE_DEFLATE,
	ROLE_STATS,
	ROLE_REPORT,
	ROLE_NONE,
};

#define N_QUEUES 5

/* Statistics that we read: le16 tag, le64 value, without padding. */
enum tag {
	TAG_SWAP_IN = 0,
	TAG_SWAP_OUT = 1,
	TAG_MAJOR_FAULTS = 2,
	TAG_MINOR_FAULTS = 3,
	TAG_FREE = 4,
	TAG_TOTAL = 5,
	TAG_AVAILABLE = 6,
	TAG_CACHES = 7,
	TAG_OOM_KILL = 10,
	N_TAGS = 11,
};

#define TAG_BYTES 10
/* Newer guests may know more kinds than we do. */
#define MAX_STATISTICS 64
#define TAGS_NEEDED    (1U << TAG_TOTAL | 1U << TAG_AVAILABLE)

/* Members: I immutable; all others under the device lock. */
struct virtio_balloon {
	struct virtio_dev dev;
	const struct virtio_balloon_ops *ops; /* I */
	void *ctx;                            /* I */
	uint32_t target;  /* num_pages of the configuration */
	uint32_t claimed; /* actual of the configuration */
	uint32_t poison;  /* poison_val of the configuration */
	bool excused;     /* a deflation for an older target may be under way */
	uint64_t oom_kills; /* that the guest had when it was asked last */
	uint64_t lowest;    /* no page of the balloon is before this PPN */
	uint64_t highest;   /* nor after this one */
	struct virtio_balloon_guest guest;
	struct virtio_balloon_stats stats;
	bool holds_chain;
	struct vq_chain stats_chain; /* kept until the host wants statistics */
	struct vq_chain chain;
	uint32_t pfns[VIRTIO_BALLOON_MAX_PFNS];
	uint64_t pages[VIRTIO_BALLOON_MAX_PFNS];
};

static const struct virtio_balloon_ops no_ops;

static struct virtio_balloon *balloon_of(struct virtio_dev *dev)
{
	return (struct virtio_balloon *)(void *)((char *)dev -
						 offsetof(struct virtio_balloon,
							  dev));
}

static enum role role_of(const struct virtio_dev *dev, unsigned int queue)
{
	if (queue < ROLE_STATS)
		return (enum role)queue;
	if (queue == ROLE_STATS && virtio_dev_has(dev, VIRTIO_BALLOON_STATS_VQ))
		return ROLE_STATS;
	return virtio_dev_has(dev, VIRTIO_BALLOON_REPORTING) ? ROLE_REPORT
							     : ROLE_NONE;
}

static enum physmap_state state_of(const struct virtio_balloon *b, uint64_t page)
{
	return physmap_state(
		physmap_load(guestmem_physmap(b->dev.mem), ppn(page)));
}

static uint64_t ballooned_pages(const struct virtio_balloon *b)
{
	return physmap_counts(guestmem_physmap(b->dev.mem)).pages[PHYSMAP_BALLOON];
}

static void tell_given(struct virtio_balloon *b, uint64_t pages)
{
	if (pages && b->ops->given)
		b->ops->given(b->ctx, pages);
}

static void tell_taken(struct virtio_balloon *b, uint64_t pages)
{
	if (pages && b->ops->taken)
		b->ops->taken(b->ctx, pages);
}

/* Lists of pages. */

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a;
	const uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The RAM pages that a request names, in order, so that runs of them are found. */
static bool read_pages(struct virtio_balloon *b, unsigned int queue,
		       const struct vq_chain *chain, unsigned int *ret_n)
{
	const uint64_t n = chain->out_bytes / sizeof(b->pfns[0]);
	bool sorted = true;
	unsigned int found = 0;

	if (n > VIRTIO_BALLOON_MAX_PFNS) {
		virtio_dev_fail(&b->dev, "too many pages in one request");
		return false;
	}
	if (!vq_chain_read(&b->dev.queues[queue], chain, 0, b->pfns,
			   n * sizeof(b->pfns[0])))
		return false;
	for (uint64_t i = 0; i < n; i++) {
		const uint64_t pfn = le32toh(b->pfns[i]);
		ppn_t page;

		if (!guestmem_ppn(b->dev.mem, gpa(pfn << PAGE_SHIFT), &page)) {
			b->stats.outside_pages++;
			continue;
		}
		sorted = sorted && (!found || b->pages[found - 1] < page.v);
		b->pages[found++] = page.v;
	}
	if (!sorted)
		qsort(b->pages, found, sizeof(b->pages[0]), by_value);
	*ret_n = found;
	return true;
}

/* Inflate. */

/* How many of the pages from @i on follow each other and are not in the balloon. */
static unsigned int run_length(const struct virtio_balloon *b, unsigned int i,
			       unsigned int n)
{
	unsigned int len = 0;

	while (i + len < n && b->pages[i + len] == b->pages[i] + len &&
	       state_of(b, b->pages[i + len]) != PHYSMAP_BALLOON)
		len++;
	return len;
}

static bool inflate_run(struct virtio_balloon *b, uint64_t first, uint64_t n)
{
	if (first < b->lowest)
		b->lowest = first;
	if (first + n - 1 > b->highest)
		b->highest = first + n - 1;
	if (guestmem_drop_run(b->dev.mem, ppn(first), n, PHYSMAP_BALLOON) !=
	    MEM_OK)
		return false;
	b->stats.inflated_pages += n;
	return true;
}

static bool serve_inflate(struct virtio_dev *dev, unsigned int queue,
			  struct vq_chain *chain)
{
	struct virtio_balloon *b = balloon_of(dev);
	const uint64_t before = b->stats.inflated_pages;
	unsigned int n;

	if (!read_pages(b, queue, chain, &n))
		return false;
	b->stats.inflate_requests++;
	for (unsigned int i = 0; i < n;) {
		const unsigned int len = run_length(b, i, n);

		if (len && !inflate_run(b, b->pages[i], len))
			return false;
		/* It was there already, if only since it is named twice. */
		b->stats.duplicate_pages += !len;
		i += len ? len : 1;
	}
	tell_given(b, b->stats.inflated_pages - before);
	virtqueue_push(&dev->queues[queue], chain, 0);
	return true;
}

/* Deflate. */

/*
 * The guest takes pages back that it should give: it would have had to kill a process. One
 * page at a time it only moves a page of its balloon elsewhere.
 */
static void judge_deflation(struct virtio_balloon *b, uint64_t pages)
{
	if (pages > 1 && !b->excused && ballooned_pages(b) < b->target &&
	    virtio_dev_has(&b->dev, VIRTIO_BALLOON_DEFLATE_ON_OOM)) {
		b->stats.oom_deflations++;
		b->stats.ooms++;
	}
	b->excused = false;
}

static bool serve_deflate(struct virtio_dev *dev, unsigned int queue,
			  struct vq_chain *chain)
{
	struct virtio_balloon *b = balloon_of(dev);
	uint64_t taken = 0;
	unsigned int n;

	if (!read_pages(b, queue, chain, &n))
		return false;
	b->stats.deflate_requests++;
	for (unsigned int i = 0; i < n; i++) {
		/* What else a page holds is no business of the balloon. */
		if (state_of(b, b->pages[i]) != PHYSMAP_BALLOON) {
			b->stats.absent_pages++;
			continue;
		}
		if (guestmem_drop(dev->mem, ppn(b->pages[i]), PHYSMAP_ZERO) !=
		    MEM_OK)
			return false;
		taken++;
	}
	b->stats.deflated_pages += taken;
	judge_deflation(b, n);
	tell_taken(b, taken);
	virtqueue_push(&dev->queues[queue], chain, 0);
	return true;
}

/* Free page reporting. */

static bool report_seg(struct virtio_balloon *b, const struct vq_seg *seg,
		       uint64_t *pages)
{
	const uint64_t start = (seg->addr.v + PAGE_SIZE - 1) & PAGE_MASK;
	const uint64_t end = (seg->addr.v + seg->len) & PAGE_MASK;
	const uint64_t n = end > start ? (end - start) >> PAGE_SHIFT : 0;
	ppn_t first;

	b->stats.partial_bytes += seg->len - (n << PAGE_SHIFT);
	if (!n || !guestmem_ppn(b->dev.mem, gpa(start), &first))
		return true;
	if (b->poison) {
		b->stats.poisoned_pages += n;
		return true;
	}
	*pages += n;
	return guestmem_drop_run(b->dev.mem, first, n, PHYSMAP_ZERO) == MEM_OK;
}

static bool serve_report(struct virtio_dev *dev, unsigned int queue,
			 struct vq_chain *chain)
{
	struct virtio_balloon *b = balloon_of(dev);
	uint64_t pages = 0;

	b->stats.report_requests++;
	for (unsigned int i = 0; i < chain->n_in; i++)
		if (!report_seg(b, &chain->segs[chain->n_out + i], &pages))
			return false;
	b->stats.reported_pages += pages;
	tell_given(b, pages);
	virtqueue_push(&dev->queues[queue], chain, 0);
	return true;
}

/* Statistics. */

/* No guest has more memory than we gave it. */
static uint64_t some_pages(const struct virtio_balloon *b, uint64_t bytes)
{
	const uint64_t ram = guestmem_ram_bytes(b->dev.mem);

	return (bytes < ram ? bytes : ram) / PAGE_SIZE;
}

static void take_statistic(struct virtio_balloon *b,
			   struct virtio_balloon_guest *g, unsigned int tag,
			   uint64_t value)
{
	switch (tag) {
	case TAG_SWAP_IN:
		g->swapped_in = value / PAGE_SIZE;
		break;
	case TAG_SWAP_OUT:
		g->swapped_out = value / PAGE_SIZE;
		break;
	case TAG_MAJOR_FAULTS:
		g->major_faults = value;
		break;
	case TAG_MINOR_FAULTS:
		g->minor_faults = value;
		break;
	case TAG_FREE:
		g->free_pages = some_pages(b, value);
		break;
	case TAG_TOTAL:
		g->total_pages = some_pages(b, value);
		break;
	case TAG_AVAILABLE:
		g->available_pages = some_pages(b, value);
		break;
	case TAG_CACHES:
		g->cache_pages = some_pages(b, value);
		break;
	case TAG_OOM_KILL:
		g->oom_kills = value;
		break;
	default:
		break;
	}
}

static void accept_statistics(struct virtio_balloon *b,
			      const struct virtio_balloon_guest *g)
{
	if (g->oom_kills > b->oom_kills)
		b->stats.ooms += g->oom_kills - b->oom_kills;
	b->oom_kills = g->oom_kills;
	b->guest = *g;
	b->stats.stats_received++;
	if (b->ops->statistics)
		b->ops->statistics(b->ctx, &b->guest);
}

/* The request stays with us: giving it back is how new statistics are asked for. */
static bool serve_stats(struct virtio_dev *dev, unsigned int queue,
			struct vq_chain *chain)
{
	struct virtio_balloon *b = balloon_of(dev);
	struct virtio_balloon_guest g = {0};
	uint64_t n = chain->out_bytes / TAG_BYTES;
	unsigned int seen = 0;

	if (n > MAX_STATISTICS)
		n = MAX_STATISTICS;
	for (uint64_t i = 0; i < n; i++) {
		uint8_t record[TAG_BYTES];
		uint16_t tag;
		uint64_t value;

		if (!vq_chain_read(&dev->queues[queue], chain, i * TAG_BYTES,
				   record, TAG_BYTES))
			return false;
		memcpy(&tag, record, sizeof(tag));
		memcpy(&value, record + sizeof(tag), sizeof(value));
		tag = le16toh(tag);
		take_statistic(b, &g, tag, le64toh(value));
		if (tag < N_TAGS)
			seen |= 1U << tag;
	}
	b->holds_chain = true;
	if ((seen & TAGS_NEEDED) == TAGS_NEEDED)
		accept_statistics(b, &g);
	else
		b->stats.stats_incomplete++;
	return false;
}

bool virtio_balloon_ask(struct virtio_balloon *b)
{
	const bool held = b->holds_chain;

	if (!virtio_dev_running(&b->dev) ||
	    role_of(&b->dev, ROLE_STATS) != ROLE_STATS)
		return false;
	b->holds_chain = false;
	if (!b->dev.queues[ROLE_STATS].ready)
		return false;
	if (held) {
		b->stats.stats_asked++;
		virtqueue_push(&b->dev.queues[ROLE_STATS], &b->stats_chain, 0);
	}
	/*
	 * Interrupts, and has the guest notify us of the next request. Of its first one
	 * Linux notifies while the device is not started, when nobody listens.
	 */
	virtio_dev_drain(&b->dev, ROLE_STATS, &b->stats_chain, serve_stats);
	return held;
}

static void balloon_notify(struct virtio_dev *dev, unsigned int queue)
{
	struct virtio_balloon *b = balloon_of(dev);

	switch (role_of(dev, queue)) {
	case ROLE_INFLATE:
		virtio_dev_drain(dev, queue, &b->chain, serve_inflate);
		break;
	case ROLE_DEFLATE:
		virtio_dev_drain(dev, queue, &b->chain, serve_deflate);
		break;
	case ROLE_STATS:
		if (!b->holds_chain)
			virtio_dev_drain(dev, queue, &b->stats_chain,
					 serve_stats);
		break;
	case ROLE_REPORT:
		virtio_dev_drain(dev, queue, &b->chain, serve_report);
		break;
	case ROLE_NONE:
		break;
	}
}

/* A driver that goes has forgotten what is in the balloon: the guest has it all back. */
static void return_all(struct virtio_balloon *b)
{
	uint64_t n = 0;

	for (uint64_t page = b->lowest; page <= b->highest; page++) {
		if (state_of(b, page) != PHYSMAP_BALLOON)
			continue;
		if (guestmem_drop(b->dev.mem, ppn(page), PHYSMAP_ZERO) != MEM_OK)
			return;
		n++;
	}
	b->lowest = UINT64_MAX;
	b->highest = 0;
	b->stats.returned_pages += n;
	tell_taken(b, n);
}

static void balloon_reset(struct virtio_dev *dev)
{
	struct virtio_balloon *b = balloon_of(dev);

	b->claimed = 0;
	b->poison = 0;
	b->excused = false;
	b->holds_chain = false;
	b->stats.claimed_pages = 0;
	return_all(b);
}

/* Configuration. */

static void balloon_config_read(struct virtio_dev *dev, uint32_t off, void *buf,
				uint32_t len)
{
	const struct virtio_balloon *b = balloon_of(dev);
	const uint32_t config[VIRTIO_BALLOON_CONFIG_BYTES / 4] = {
		[VIRTIO_BALLOON_NUM_PAGES / 4] = htole32(b->target),
		[VIRTIO_BALLOON_ACTUAL / 4] = htole32(b->claimed),
		[VIRTIO_BALLOON_POISON / 4] = htole32(b->poison),
	};

	memcpy(buf, (const uint8_t *)config + off, len);
}

/* Drivers write whole words; anything else is ignored. */
static void balloon_config_write(struct virtio_dev *dev, uint32_t off,
				 const void *buf, uint32_t len)
{
	struct virtio_balloon *b = balloon_of(dev);
	uint32_t word;

	if (len != sizeof(word))
		return;
	memcpy(&word, buf, sizeof(word));
	if (off == VIRTIO_BALLOON_ACTUAL) {
		b->claimed = le32toh(word);
		b->stats.claimed_pages = b->claimed;
	} else if (off == VIRTIO_BALLOON_POISON &&
		   virtio_dev_has(dev, VIRTIO_BALLOON_PAGE_POISON)) {
		b->poison = le32toh(word);
	}
}

static const struct virtio_ops balloon_ops = {
	.name = "virtio-balloon",
	.device_id = DEVICE_ID,
	.config_bytes = VIRTIO_BALLOON_CONFIG_BYTES,
	.notify = balloon_notify,
	.reset = balloon_reset,
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
};

void virtio_balloon_set_target(struct virtio_balloon *b, uint64_t pages)
{
	const uint64_t ram = guestmem_ram_bytes(b->dev.mem) / PAGE_SIZE;
	const uint64_t most = ram < UINT32_MAX ? ram : UINT32_MAX;
	const uint32_t target = (uint32_t)(pages < most ? pages : most);

	if (target == b->target)
		return;
	if (target > b->target && ballooned_pages(b) > b->target)
		b->excused = true;
	b->target = target;
	b->stats.target_pages = target;
	virtio_dev_config_changed(&b->dev);
}

int virtio_balloon_new(struct guestmem *mem, const struct virtio_report *report,
		       const struct virtio_balloon_ops *ops, void *ctx,
		       struct virtio_balloon **ret_balloon, struct err *err)
{
	struct virtio_balloon *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(err, -ENOMEM, "no memory for virtio-balloon");
	virtio_dev_init(&b->dev, &balloon_ops, mem, report, FEATURES, N_QUEUES);
	b->ops = ops ? ops : &no_ops;
	b->ctx = ctx;
	b->lowest = UINT64_MAX;
	*ret_balloon = b;
	return 0;
}

struct virtio_balloon *virtio_balloon_free(struct virtio_balloon *balloon)
{
	free(balloon);
	return NULL;
}

struct virtio_dev *virtio_balloon_dev(struct virtio_balloon *balloon)
{
	return &balloon->dev;
}

bool virtio_balloon_present(const struct virtio_balloon *balloon)
{
	return virtio_dev_running(&balloon->dev);
}

const struct virtio_balloon_guest *virtio_balloon_guest(
	const struct virtio_balloon *balloon)
{
	return &balloon->guest;
}

const struct virtio_balloon_stats *virtio_balloon_stats(
	const struct virtio_balloon *balloon)
{
	return &balloon->stats;
}
