/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's virtio driver for tests. */
#include "virtio_driver.h"

#include <stdio.h>

#include <base/verify.h>

/* One page for each ring of each queue. */
uint64_t driver_desc_at(unsigned int q)
{
	return DRIVER_RINGS + q * 3 * PAGE_SIZE;
}

uint64_t driver_avail_at(unsigned int q)
{
	return driver_desc_at(q) + PAGE_SIZE;
}

uint64_t driver_used_at(unsigned int q)
{
	return driver_desc_at(q) + 2 * PAGE_SIZE;
}

static void on_irq(void *ctx, unsigned int gsi, bool level)
{
	struct driver *d = ctx;

	VERIFY(gsi == VIRTIO_MMIO_GSI);
	d->irqs += level && !d->irq_level;
	d->irq_level = level;
}

static void on_report(void *ctx, const char *text)
{
	struct driver *d = ctx;

	d->reports++;
	snprintf(d->report, sizeof(d->report), "%s", text);
}

int driver_init(struct driver *d)
{
	*d = (struct driver){0};
	if (guestmem_new(DRIVER_RAM, &d->mem, NULL) || bus_new(&d->bus, NULL))
		return -1;
	return 0;
}

void driver_release(struct driver *d)
{
	d->bus = bus_free(d->bus);
	d->mem = guestmem_free(d->mem);
}

struct virtio_report driver_report(struct driver *d)
{
	return (struct virtio_report){on_report, d};
}

void driver_attach(struct driver *d, struct virtio_dev *dev)
{
	const struct irq_line irq = {on_irq, d, 0};

	VERIFY(virtio_mmio_attach(dev, d->bus, 0, &irq, NULL) == 0);
}

uint32_t driver_rd(struct driver *d, uint32_t reg)
{
	uint64_t value = 0;

	(void)bus_mmio_read(d->bus, gpa(VIRTIO_MMIO_BASE + reg), 4, &value);
	return (uint32_t)value;
}

void driver_wr(struct driver *d, uint32_t reg, uint32_t value)
{
	(void)bus_mmio_write(d->bus, gpa(VIRTIO_MMIO_BASE + reg), 4, value);
}

bool driver_negotiate(struct driver *d, uint64_t features)
{
	driver_wr(d, R_STATUS, 0);
	driver_wr(d, R_STATUS, 1);
	driver_wr(d, R_STATUS, 3);
	for (uint32_t i = 0; i < 2; i++) {
		driver_wr(d, R_DRV_SEL, i);
		driver_wr(d, R_DRIVER, (uint32_t)(features >> (i * 32)));
	}
	driver_wr(d, R_STATUS, 0xb);
	return driver_rd(d, R_STATUS) & VIRTIO_STATUS_FEATURES_OK;
}

void driver_queue(struct driver *d, unsigned int q)
{
	static const uint8_t zeros[3 * PAGE_SIZE];

	driver_put(d, driver_desc_at(q), zeros, sizeof(zeros));
	d->avail_idx[q] = 0;
	driver_wr(d, R_QUEUE_SEL, q);
	driver_wr(d, R_NUM, DRIVER_QUEUE);
	driver_wr(d, R_DESC, (uint32_t)driver_desc_at(q));
	driver_wr(d, R_DESC + 4, 0);
	driver_wr(d, R_AVAIL, (uint32_t)driver_avail_at(q));
	driver_wr(d, R_AVAIL + 4, 0);
	driver_wr(d, R_USED, (uint32_t)driver_used_at(q));
	driver_wr(d, R_USED + 4, 0);
	driver_wr(d, R_READY, 1);
}

void driver_start(struct driver *d, uint64_t features, unsigned int n_queues)
{
	VERIFY(driver_negotiate(d, features | VIRTIO_FEATURE_VERSION_1));
	for (unsigned int q = 0; q < n_queues; q++)
		driver_queue(d, q);
	driver_wr(d, R_STATUS, 0xf);
}

void driver_put(struct driver *d, uint64_t addr, const void *bytes, size_t len)
{
	VERIFY(guestmem_write(d->mem, gpa(addr), bytes, len));
}

void driver_get(struct driver *d, uint64_t addr, void *bytes, size_t len)
{
	VERIFY(guestmem_read(d->mem, gpa(addr), bytes, len));
}

uint16_t driver_get16(struct driver *d, uint64_t addr)
{
	uint16_t value;

	driver_get(d, addr, &value, sizeof(value));
	return value;
}

void driver_put16(struct driver *d, uint64_t addr, uint16_t value)
{
	driver_put(d, addr, &value, sizeof(value));
}

void driver_desc(struct driver *d, uint64_t table, unsigned int i,
		 uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	const struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
		uint16_t next;
	} desc = {addr, len, flags, next};

	driver_put(d, table + i * sizeof(desc), &desc, sizeof(desc));
}

void driver_offer(struct driver *d, unsigned int q, uint16_t head)
{
	uint64_t ring = driver_avail_at(q);

	driver_put16(d, ring + 4 + d->avail_idx[q] % DRIVER_QUEUE * 2, head);
	driver_put16(d, ring + 2, ++d->avail_idx[q]);
}

void driver_kick(struct driver *d, unsigned int q)
{
	driver_wr(d, R_NOTIFY, q);
}

uint16_t driver_used(struct driver *d, unsigned int q)
{
	return driver_get16(d, driver_used_at(q) + 2);
}

static uint32_t used_word(struct driver *d, unsigned int q, uint16_t i,
			  unsigned int word)
{
	uint32_t value;

	driver_get(d, driver_used_at(q) + 4 + i % DRIVER_QUEUE * 8 + word * 4,
		   &value, sizeof(value));
	return value;
}

uint32_t driver_used_id(struct driver *d, unsigned int q, uint16_t i)
{
	return used_word(d, q, i, 0);
}

uint32_t driver_used_len(struct driver *d, unsigned int q, uint16_t i)
{
	return used_word(d, q, i, 1);
}

int driver_disk_request(struct driver *d, uint32_t type, uint64_t sector,
			unsigned int n_pieces, const struct piece *pieces)
{
	const struct {
		uint32_t type;
		uint32_t reserved;
		uint64_t sector;
	} header = {type, 0, sector};
	const uint64_t table = driver_desc_at(0);
	const uint16_t used = driver_used(d, 0);
	const bool in = type == DISK_IN || type == DISK_GET_ID;
	uint8_t status = 0xee;

	driver_put(d, DISK_HEADER, &header, sizeof(header));
	driver_put(d, DISK_STATUS, &status, 1);
	driver_desc(d, table, 0, DISK_HEADER, sizeof(header), D_NEXT, 1);
	for (unsigned int i = 0; i < n_pieces; i++)
		driver_desc(d, table, 1 + i, pieces[i].addr, pieces[i].len,
			    D_NEXT | (in ? D_WRITE : 0), (uint16_t)(2 + i));
	driver_desc(d, table, 1 + n_pieces, DISK_STATUS, 1, D_WRITE, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	if (driver_used(d, 0) == used)
		return -1;
	driver_get(d, DISK_STATUS, &status, 1);
	return status;
}
