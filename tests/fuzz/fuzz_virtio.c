/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that does anything to virtio devices: the input is a program of register accesses
 * and stores into guest memory, where the rings are. Nothing it does may harm us, and a
 * device that it broke must work again after a reset.
 *
 * Records: one byte of operation, then
 *   0  register store:  slot (1), offset (2), size exponent (1), value (4)
 *   1  register load:   slot (1), offset (2), size exponent (1)
 *   2  memory store:    address (3), length (1), bytes
 *   3  set up queue:    slot (1), queue (1), feature bits 28, 29, of the balloon 0-5 (1)
 *   4  descriptor:      slot (1), queue (1), index (1), address (4), length (4),
 *                       flags (1), next (1)
 *   5  offer and tell:  slot (1), queue (1), head (1)
 *   6  the host:        size of the balloon (2), and ask it for statistics
 *   7  the network:     length of a frame that comes (2), and whether the wire takes any (1)
 * Addresses are taken modulo a little more than RAM, so that most hit.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <base/verify.h>
#include <dev/bus.h>
#include <dev/frames.h>
#include <dev/virtio_balloon.h>
#include <dev/virtio_blk.h>
#include <dev/virtio_mmio.h>
#include <dev/virtio_net.h>
#include <dev/virtio_rng.h>
#include <mem/guestmem.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM_BYTES   (UINT64_C(2) << 20)
#define DISK_BYTES  (100 * 1024 + 77)
#define N_SLOTS     4
#define BALLOON     2
#define NET         3
#define QUEUE_SIZE  8
#define RINGS       0x10000
#define RING_PAGES  3
#define MAX_RECORDS 512

struct guest {
	struct guestmem *mem;
	struct bus *bus;
	struct virtio_blk *blk;
	struct virtio_rng *rng;
	struct virtio_balloon *balloon;
	struct virtio_net *net;
	bool wire_full;
	uint16_t avail_idx[N_SLOTS];
	bool level[N_SLOTS];
	unsigned int reports;
	const uint8_t *data;
	size_t left;
};

static void on_irq(void *ctx, unsigned int gsi, bool level)
{
	struct guest *g = ctx;

	VERIFY(gsi - VIRTIO_MMIO_GSI < N_SLOTS);
	g->level[gsi - VIRTIO_MMIO_GSI] = level;
}

static void on_report(void *ctx, const char *text)
{
	VERIFY(text[0]);
	((struct guest *)ctx)->reports++;
}

static uint64_t take(struct guest *g, unsigned int bytes)
{
	uint64_t v = 0;

	for (unsigned int i = 0; i < bytes && g->left; i++, g->left--)
		v |= (uint64_t)*g->data++ << (i * 8);
	return v;
}

static void reg_write(struct guest *g, unsigned int slot, uint64_t off,
		      uint32_t value)
{
	bus_mmio_write(g->bus,
		       gpa(VIRTIO_MMIO_BASE + slot * VIRTIO_MMIO_SLOT_BYTES +
			   off),
		       4, value);
}

static uint64_t reg_read(struct guest *g, unsigned int slot, uint64_t off)
{
	uint64_t v;

	bus_mmio_read(g->bus,
		      gpa(VIRTIO_MMIO_BASE + slot * VIRTIO_MMIO_SLOT_BYTES + off),
		      4, &v);
	return v;
}

static uint64_t ring_at(unsigned int slot, unsigned int ring)
{
	return RINGS + (slot * RING_PAGES + ring) * PAGE_SIZE;
}

static void set_up(struct guest *g, unsigned int slot, uint32_t queue,
		   uint32_t features)
{
	static const uint8_t zeros[RING_PAGES * PAGE_SIZE];

	reg_write(g, slot, 0x70, 0);
	reg_write(g, slot, 0x70, 3);
	reg_write(g, slot, 0x24, 0);
	reg_write(g, slot, 0x20,
		  (features & 3) << 28 | (slot == BALLOON ? features >> 2 : 0));
	reg_write(g, slot, 0x24, 1);
	reg_write(g, slot, 0x20, 1);
	reg_write(g, slot, 0x70, 0xb);
	VERIFY(guestmem_write(g->mem, gpa(ring_at(slot, 0)), zeros,
			      sizeof(zeros)));
	g->avail_idx[slot] = 0;
	reg_write(g, slot, 0x30, queue);
	reg_write(g, slot, 0x38, QUEUE_SIZE);
	for (unsigned int ring = 0; ring < RING_PAGES; ring++) {
		reg_write(g, slot, 0x80 + ring * 0x10,
			  (uint32_t)ring_at(slot, ring));
		reg_write(g, slot, 0x84 + ring * 0x10, 0);
	}
	reg_write(g, slot, 0x44, 1);
	reg_write(g, slot, 0x70, 0xf);
}

static uint64_t some_address(struct guest *g, unsigned int bytes)
{
	uint64_t v = take(g, bytes);

	/* The highest ones stay as wild as they are. */
	if (v >> (bytes * 8 - 4) == 0xf)
		return v << 32 | v;
	return v % (RAM_BYTES + PAGE_SIZE);
}

static void store_memory(struct guest *g)
{
	uint64_t addr = some_address(g, 3);
	uint64_t n = take(g, 1);

	if (n > g->left)
		n = g->left;
	/* Outside RAM it fails, which is fine. */
	const bool is_ram = guestmem_write(g->mem, gpa(addr), g->data, n);

	(void)is_ram;
	g->data += n;
	g->left -= n;
}

static void store_desc(struct guest *g)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
		uint16_t next;
	} desc;
	unsigned int slot = take(g, 1) % N_SLOTS;
	uint64_t idx;

	(void)take(g, 1);
	idx = take(g, 1) % QUEUE_SIZE;
	desc.addr = some_address(g, 4);
	desc.len = (uint32_t)take(g, 4);
	desc.flags = (uint16_t)take(g, 1);
	desc.next = (uint16_t)take(g, 1);
	VERIFY(guestmem_write(g->mem, gpa(ring_at(slot, 0) + idx * 16), &desc,
			      sizeof(desc)));
}

static uint32_t some_queue(struct guest *g, unsigned int slot)
{
	return (uint32_t)take(g, 1) % (slot == BALLOON ? 5 : 2);
}

static void offer(struct guest *g)
{
	unsigned int slot = take(g, 1) % N_SLOTS;
	uint32_t queue = some_queue(g, slot);
	uint16_t head = (uint16_t)(take(g, 1) % (QUEUE_SIZE + 1));
	uint64_t ring = ring_at(slot, 1);
	uint16_t idx = g->avail_idx[slot]++;

	VERIFY(guestmem_write(g->mem, gpa(ring + 4 + idx % QUEUE_SIZE * 2),
			      &head, 2));
	idx++;
	VERIFY(guestmem_write(g->mem, gpa(ring + 2), &idx, 2));
	reg_write(g, slot, 0x50, queue);
}

static void access_register(struct guest *g, bool write)
{
	unsigned int slot = take(g, 1) % N_SLOTS;
	uint64_t off = take(g, 2) % VIRTIO_MMIO_SLOT_BYTES;
	unsigned int size = 1U << (take(g, 1) % 4);
	gpa_t at = gpa(VIRTIO_MMIO_BASE + slot * VIRTIO_MMIO_SLOT_BYTES + off);
	uint64_t v;

	if (write)
		bus_mmio_write(g->bus, at, size, take(g, 4));
	else
		bus_mmio_read(g->bus, at, size, &v);
}

static void host_acts(struct guest *g)
{
	virtio_balloon_set_target(g->balloon, take(g, 2));
	virtio_balloon_ask(g->balloon);
}

static bool on_send(void *ctx, const uint8_t *frame, size_t len)
{
	const struct guest *g = ctx;

	VERIFY(frame && len <= FRAME_MAX_BYTES);
	return !g->wire_full;
}

static void on_room(void *ctx)
{
	VERIFY(ctx);
}

static const struct virtio_net_ops net_ops = {.send = on_send, .room = on_room};

static void network_acts(struct guest *g)
{
	static const uint8_t frame[FRAME_MAX_BYTES];

	(void)virtio_net_receive(g->net, frame,
				 take(g, 2) % (FRAME_MAX_BYTES + 1));
	g->wire_full = take(g, 1) & 1;
	virtio_net_flush(g->net);
}

static void run(struct guest *g)
{
	for (unsigned int n = 0; g->left && n < MAX_RECORDS; n++) {
		switch (take(g, 1) % 8) {
		case 0:
			access_register(g, true);
			break;
		case 1:
			access_register(g, false);
			break;
		case 2:
			store_memory(g);
			break;
		case 3: {
			unsigned int slot = take(g, 1) % N_SLOTS;
			uint32_t queue = some_queue(g, slot);

			set_up(g, slot, queue, (uint32_t)take(g, 1));
			break;
		}
		case 4:
			store_desc(g);
			break;
		case 5:
			offer(g);
			break;
		case 6:
			host_acts(g);
			break;
		default:
			network_acts(g);
			break;
		}
	}
}

/* The line follows the interrupt status, whatever happened. */
static void check_lines(struct guest *g)
{
	for (unsigned int slot = 0; slot < N_SLOTS; slot++)
		VERIFY(g->level[slot] == (reg_read(g, slot, 0x60) != 0));
}

/* After a reset the disk reads its first sector again. */
static void check_disk_works(struct guest *g)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
		uint16_t next;
	} descs[3] = {{0x100000, 16, 1, 1},
		      {0x101000, 512, 3, 2},
		      {0x102000, 1, 2, 0}};
	const uint64_t header[2] = {0, 0};
	const uint16_t one = 1;
	uint8_t status = 0xee;

	set_up(g, 0, 0, 0);
	VERIFY(reg_read(g, 0, 0x70) == 0xf);
	VERIFY(guestmem_write(g->mem, gpa(0x100000), header, 16));
	VERIFY(guestmem_write(g->mem, gpa(0x102000), &status, 1));
	VERIFY(guestmem_write(g->mem, gpa(ring_at(0, 0)), descs, sizeof(descs)));
	VERIFY(guestmem_write(g->mem, gpa(ring_at(0, 1) + 2), &one, 2));
	reg_write(g, 0, 0x50, 0);
	VERIFY(guestmem_read(g->mem, gpa(0x102000), &status, 1));
	VERIFY(status == 0);
}

/* Nothing is in the balloon of a driver that has gone, and the books are in order. */
static void check_balloon(struct guest *g)
{
	struct physmap *map = guestmem_physmap(g->mem);

	VERIFY(virtio_balloon_guest(g->balloon)->total_pages <=
	       RAM_BYTES / PAGE_SIZE);
	reg_write(g, BALLOON, 0x70, 0);
	VERIFY(physmap_counts(map).pages[PHYSMAP_BALLOON] == 0);
	VERIFY(physmap_audit(map));
}

static void plug(struct guest *g, unsigned int slot, struct virtio_dev *dev)
{
	const struct irq_line irq = {on_irq, g, 0};

	VERIFY(virtio_mmio_attach(dev, g->bus, slot, &irq, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest g = {.data = data, .left = size};
	const struct virtio_report report = {on_report, &g};
	static const uint8_t mac[VIRTIO_NET_MAC_BYTES] = {2};
	char path[64];
	int disk = memfd_create("fuzz-disk", MFD_CLOEXEC);

	VERIFY(disk >= 0 && ftruncate(disk, DISK_BYTES) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", disk);
	VERIFY(guestmem_new(RAM_BYTES, &g.mem, NULL) == 0);
	VERIFY(bus_new(&g.bus, NULL) == 0);
	VERIFY(virtio_blk_open(path, VIRTIO_BLK_RW, g.mem, &report, &g.blk,
			       NULL) == 0);
	VERIFY(virtio_rng_new(g.mem, &report, &g.rng, NULL) == 0);
	plug(&g, 0, virtio_blk_dev(g.blk));
	plug(&g, 1, virtio_rng_dev(g.rng));
	VERIFY(virtio_balloon_new(g.mem, &report, NULL, NULL, &g.balloon,
				  NULL) == 0);
	plug(&g, BALLOON, virtio_balloon_dev(g.balloon));
	VERIFY(virtio_net_new(g.mem, mac, &report, &net_ops, &g, &g.net,
			      NULL) == 0);
	plug(&g, NET, virtio_net_dev(g.net));

	run(&g);
	check_lines(&g);
	check_disk_works(&g);
	check_balloon(&g);

	virtio_net_free(g.net);
	virtio_balloon_free(g.balloon);
	virtio_rng_free(g.rng);
	virtio_blk_close(g.blk);
	bus_free(g.bus);
	guestmem_free(g.mem);
	close(disk);
	return 0;
}
