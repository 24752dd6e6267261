/* SPDX-License-Identifier: Apache-2.0 */
/* Split virtqueues: take requests out of rings that the guest may have filled with anything. */
#include <dev/virtqueue.h>

#include <string.h>

#include <base/verify.h>
#include <mem/guestmem.h>

#define DESC_BYTES      16
#define DESC_NEXT       1
#define DESC_WRITE      2
#define DESC_INDIRECT   4

#define AVAIL_FLAGS     0
#define AVAIL_IDX       2
#define AVAIL_RING      4
#define AVAIL_NO_NOTIFY 1
#define USED_IDX        2
#define USED_RING       4
#define USED_ELEM_BYTES 8

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

_Static_assert(sizeof(struct desc) == DESC_BYTES, "fixed by the standard");

/* A descriptor table: the queue's own or an indirect one. */
struct table {
	gpa_t addr;
	uint32_t n;
};

/* Is every byte of it RAM, without the hole in between? */
static bool range_is_ram(const struct virtqueue *vq, gpa_t addr, uint64_t len)
{
	ppn_t first;
	ppn_t last;

	if (len == 0)
		return true;

	/* If this wraps around, the start is no RAM. */
	gpa_t end = gpa_add(addr, len - 1);

	return guestmem_ppn(vq->mem, addr, &first) &&
	       guestmem_ppn(vq->mem, end, &last) &&
	       last.v - first.v ==
		       (end.v >> PAGE_SHIFT) - (addr.v >> PAGE_SHIFT);
}

/* Ring fields are aligned, so each is in one page and can be one atomic access. */
static bool load16(struct virtqueue *vq, gpa_t addr, uint16_t *ret_value)
{
	uint8_t *ptr;
	uint64_t len;

	if (guestmem_span(vq->mem, addr, MEM_READ, &ptr, &len) != MEM_OK)
		return false;
	*ret_value = __atomic_load_n((const uint16_t *)(const void *)ptr,
				     __ATOMIC_ACQUIRE);
	return true;
}

static bool store16(struct virtqueue *vq, gpa_t addr, uint16_t value)
{
	uint8_t *ptr;
	uint64_t len;

	if (guestmem_span(vq->mem, addr, MEM_WRITE, &ptr, &len) != MEM_OK)
		return false;
	__atomic_store_n((uint16_t *)(void *)ptr, value, __ATOMIC_RELEASE);
	return true;
}

void virtqueue_init(struct virtqueue *vq, struct guestmem *mem,
		    uint16_t max_size)
{
	VERIFY(max_size && max_size <= VIRTQUEUE_MAX_SIZE &&
	       !(max_size & (max_size - 1)));
	*vq = (struct virtqueue){.mem = mem, .max_size = max_size};
}

void virtqueue_reset(struct virtqueue *vq)
{
	*vq = (struct virtqueue){
		.mem = vq->mem,
		.max_size = vq->max_size,
		.stats = vq->stats,
	};
}

void virtqueue_break(struct virtqueue *vq, const char *why)
{
	if (!vq->broken)
		vq->broken = why;
}

static const char *check_setup(const struct virtqueue *vq)
{
	uint64_t n = vq->size;

	if (n == 0 || n > vq->max_size || (n & (n - 1)))
		return "impossible queue size";
	if ((vq->desc.v & 15) || (vq->driver.v & 1) || (vq->device.v & 3))
		return "misaligned ring";
	if (!range_is_ram(vq, vq->desc, n * DESC_BYTES) ||
	    !range_is_ram(vq, vq->driver, AVAIL_RING + n * 2 + 2) ||
	    !range_is_ram(vq, vq->device, USED_RING + n * USED_ELEM_BYTES + 2))
		return "ring outside of RAM";
	return NULL;
}

bool virtqueue_start(struct virtqueue *vq)
{
	const char *why = check_setup(vq);

	if (why) {
		virtqueue_break(vq, why);
		return false;
	}
	vq->next_avail = 0;
	vq->next_used = 0;
	vq->signalled = 0;
	vq->ready = true;
	return true;
}

static bool usable(const struct virtqueue *vq)
{
	return vq->ready && !vq->broken;
}

static enum vq_status broken(struct virtqueue *vq, const char *why)
{
	virtqueue_break(vq, why);
	return VQ_BROKEN;
}

static enum vq_status read_desc(struct virtqueue *vq, const struct table *table,
				uint32_t idx, struct desc *ret_desc)
{
	if (idx >= table->n)
		return broken(vq, "descriptor index out of range");
	/* The table was found to be RAM, so only the end of the VM stops this. */
	if (!guestmem_read(vq->mem,
			   gpa_add(table->addr, (uint64_t)idx * DESC_BYTES),
			   ret_desc, DESC_BYTES))
		return VQ_STOPPED;
	return VQ_OK;
}

static enum vq_status enter_indirect(struct virtqueue *vq,
				     const struct desc *desc,
				     struct table *table)
{
	if (!vq->indirect)
		return broken(vq, "indirect descriptor without the feature");
	if (desc->flags & DESC_NEXT)
		return broken(vq, "indirect descriptor with a next one");
	if (desc->len == 0 || desc->len % DESC_BYTES)
		return broken(vq, "indirect table of impossible length");
	if (!range_is_ram(vq, gpa(desc->addr), desc->len))
		return broken(vq, "indirect table outside of RAM");
	table->addr = gpa(desc->addr);
	table->n = desc->len / DESC_BYTES;
	return VQ_OK;
}

static enum vq_status add_seg(struct virtqueue *vq, struct vq_chain *chain,
			      const struct desc *desc)
{
	unsigned int n = chain->n_out + chain->n_in;

	/* Every round adds one, so this also ends loops. */
	if (n == VQ_MAX_SEGS)
		return broken(vq, "descriptor chain too long, or a loop");
	if (!range_is_ram(vq, gpa(desc->addr), desc->len))
		return broken(vq, "buffer outside of RAM");

	chain->segs[n] = (struct vq_seg){gpa(desc->addr), desc->len};
	if (desc->flags & DESC_WRITE) {
		chain->n_in++;
		chain->in_bytes += desc->len;
	} else if (chain->n_in) {
		return broken(vq, "readable buffer after a writable one");
	} else {
		chain->n_out++;
		chain->out_bytes += desc->len;
	}
	if (chain->in_bytes + chain->out_bytes > VQ_MAX_CHAIN_BYTES)
		return broken(vq, "request of 4 GiB or more");
	return VQ_OK;
}

static enum vq_status walk(struct virtqueue *vq, struct vq_chain *chain)
{
	struct table table = {vq->desc, vq->size};
	uint32_t idx = chain->head;
	bool in_indirect = false;
	struct desc desc;

	for (;;) {
		enum vq_status status = read_desc(vq, &table, idx, &desc);

		if (status == VQ_OK && (desc.flags & DESC_INDIRECT)) {
			if (in_indirect)
				return broken(vq, "indirect table in another");
			status = enter_indirect(vq, &desc, &table);
			if (status != VQ_OK)
				return status;
			in_indirect = true;
			idx = 0;
			continue;
		}
		if (status == VQ_OK)
			status = add_seg(vq, chain, &desc);
		if (status != VQ_OK || !(desc.flags & DESC_NEXT))
			return status;
		idx = desc.next;
	}
}

enum vq_status virtqueue_pop(struct virtqueue *vq, struct vq_chain *chain)
{
	uint16_t avail;
	uint16_t head;

	if (vq->broken)
		return VQ_BROKEN;
	if (!vq->ready)
		return VQ_EMPTY;
	if (!load16(vq, gpa_add(vq->driver, AVAIL_IDX), &avail))
		return VQ_STOPPED;
	if (avail == vq->next_avail)
		return VQ_EMPTY;
	if ((uint16_t)(avail - vq->next_avail) > vq->size)
		return broken(vq, "available index jumped");

	uint64_t slot = vq->next_avail & (vq->size - 1);

	if (!load16(vq, gpa_add(vq->driver, AVAIL_RING + slot * 2), &head))
		return VQ_STOPPED;

	chain->head = head;
	chain->n_out = 0;
	chain->n_in = 0;
	chain->out_bytes = 0;
	chain->in_bytes = 0;

	enum vq_status status = walk(vq, chain);

	if (status != VQ_OK)
		return status;
	vq->next_avail++;
	vq->stats.popped++;
	return VQ_OK;
}

void virtqueue_push(struct virtqueue *vq, const struct vq_chain *chain,
		    uint32_t written)
{
	const uint32_t elem[2] = {chain->head, written};
	uint64_t slot = vq->next_used & (vq->size - 1);

	/* The rings were found to be RAM: a failure means that the VM is being stopped. */
	if (!usable(vq) ||
	    !guestmem_write(vq->mem,
			    gpa_add(vq->device,
				    USED_RING + slot * USED_ELEM_BYTES),
			    elem, sizeof(elem)) ||
	    !store16(vq, gpa_add(vq->device, USED_IDX),
		     (uint16_t)(vq->next_used + 1)))
		return;
	vq->next_used++;
	vq->stats.pushed++;
}

bool virtqueue_should_notify(struct virtqueue *vq)
{
	uint16_t old = vq->signalled;
	uint16_t new = vq->next_used;
	uint16_t word;
	bool wanted;

	if (!usable(vq) || old == new)
		return false;

	/* The used index must be visible before the guest's wish is read. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (vq->event_idx) {
		if (!load16(vq,
			    gpa_add(vq->driver,
				    AVAIL_RING + (uint64_t)vq->size * 2),
			    &word))
			return false;
		wanted = (uint16_t)(new - word - 1) < (uint16_t)(new - old);
	} else {
		if (!load16(vq, gpa_add(vq->driver, AVAIL_FLAGS), &word))
			return false;
		wanted = !(word & AVAIL_NO_NOTIFY);
	}
	vq->signalled = new;
	if (wanted)
		vq->stats.notifications++;
	else
		vq->stats.suppressed++;
	return wanted;
}

bool virtqueue_has_work(struct virtqueue *vq)
{
	uint16_t avail;

	if (!usable(vq))
		return false;
	if (vq->event_idx &&
	    !store16(vq,
		     gpa_add(vq->device,
			     USED_RING + (uint64_t)vq->size * USED_ELEM_BYTES),
		     vq->next_avail))
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load16(vq, gpa_add(vq->driver, AVAIL_IDX), &avail) &&
	       avail != vq->next_avail;
}

void vq_cursor_init(struct vq_cursor *cur, const struct vq_chain *chain,
		    enum vq_part part, uint64_t skip)
{
	gpa_t addr;

	cur->segs = chain->segs + (part == VQ_IN ? chain->n_out : 0);
	cur->n_segs = part == VQ_IN ? chain->n_in : chain->n_out;
	cur->off = 0;
	while (skip) {
		uint64_t n = vq_cursor_next(cur, skip, &addr);

		if (!n)
			return;
		skip -= n;
	}
}

uint64_t vq_cursor_next(struct vq_cursor *cur, uint64_t max, gpa_t *ret_addr)
{
	while (cur->n_segs && cur->off == cur->segs->len) {
		cur->segs++;
		cur->n_segs--;
		cur->off = 0;
	}
	if (!cur->n_segs)
		return 0;

	uint64_t left = cur->segs->len - cur->off;
	uint64_t len = left < max ? left : max;

	*ret_addr = gpa_add(cur->segs->addr, cur->off);
	cur->off += (uint32_t)len;
	return len;
}

bool vq_chain_read(struct virtqueue *vq, const struct vq_chain *chain,
		   uint64_t off, void *buf, uint64_t len)
{
	struct vq_cursor cur;
	uint8_t *at = buf;
	gpa_t addr;

	if (off > chain->out_bytes || len > chain->out_bytes - off)
		return false;
	vq_cursor_init(&cur, chain, VQ_OUT, off);
	while (len) {
		const uint64_t n = vq_cursor_next(&cur, len, &addr);

		VERIFY(n);
		if (!guestmem_read(vq->mem, addr, at, n))
			return false;
		at += n;
		len -= n;
	}
	return true;
}

bool vq_chain_write(struct virtqueue *vq, const struct vq_chain *chain,
		    uint64_t off, const void *buf, uint64_t len)
{
	struct vq_cursor cur;
	const uint8_t *at = buf;
	gpa_t addr;

	if (off > chain->in_bytes || len > chain->in_bytes - off)
		return false;
	vq_cursor_init(&cur, chain, VQ_IN, off);
	while (len) {
		const uint64_t n = vq_cursor_next(&cur, len, &addr);

		VERIFY(n);
		if (!guestmem_write(vq->mem, addr, at, n))
			return false;
		at += n;
		len -= n;
	}
	return true;
}
