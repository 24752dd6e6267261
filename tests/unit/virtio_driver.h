/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's virtio driver for tests: speaks to a device through its registers and rings. */
#ifndef TESTS_UNIT_VIRTIO_DRIVER_H
#define TESTS_UNIT_VIRTIO_DRIVER_H
#include <base/types.h>
#include <dev/bus.h>
#include <dev/virtio_mmio.h>
#include <mem/guestmem.h>

#define DRIVER_RAM   (UINT64_C(32) << 20)
#define DRIVER_QUEUE 8 /* size of the queues that it sets up */

/* Where queue n has its rings; data is wherever the test likes, above them. */
#define DRIVER_RINGS 0x10000
#define DRIVER_DATA  0x100000

/* Registers. */
#define R_MAGIC      0x00
#define R_VERSION    0x04
#define R_ID         0x08
#define R_FEATURES   0x10
#define R_FEAT_SEL   0x14
#define R_DRIVER     0x20
#define R_DRV_SEL    0x24
#define R_QUEUE_SEL  0x30
#define R_NUM_MAX    0x34
#define R_NUM        0x38
#define R_READY      0x44
#define R_NOTIFY     0x50
#define R_ISR        0x60
#define R_ACK        0x64
#define R_STATUS     0x70
#define R_DESC       0x80
#define R_AVAIL      0x90
#define R_USED       0xa0
#define R_SHM_LEN    0xb0
#define R_GENERATION 0xfc
#define R_CONFIG     0x100

#define D_NEXT       1
#define D_WRITE      2
#define D_INDIRECT   4

/**
 * struct driver - the driver and the machine that it runs in.
 * @mem: guest memory
 * @bus: where the device is, in slot 0
 * @irq_level: its interrupt line
 * @irqs: rising edges of it
 * @reports: messages about us
 * @avail_idx: per queue: next entry of the available ring
 */
struct driver {
	struct guestmem *mem;
	struct bus *bus;
	bool irq_level;
	unsigned int irqs;
	unsigned int reports;
	char report[512];
	uint16_t avail_idx[VIRTIO_MAX_QUEUES];
};

/** driver_init() - memory and an empty bus. Return: 0 or -1. */
int driver_init(struct driver *d);

/** driver_release() - end both. */
void driver_release(struct driver *d);

/** driver_report() - where the device's messages go. */
struct virtio_report driver_report(struct driver *d);

/** driver_attach() - plug the device into slot 0. */
void driver_attach(struct driver *d, struct virtio_dev *dev);

/** driver_rd() - read a register. */
uint32_t driver_rd(struct driver *d, uint32_t reg);

/** driver_wr() - write a register. */
void driver_wr(struct driver *d, uint32_t reg, uint32_t value);

/** driver_negotiate() - reset, acknowledge, take @features. Return: FEATURES_OK stuck. */
bool driver_negotiate(struct driver *d, uint64_t features);

/** driver_queue() - set queue @q up at its usual place. */
void driver_queue(struct driver *d, unsigned int q);

/** driver_start() - negotiate VERSION_1 and @features, set @n_queues up, DRIVER_OK. */
void driver_start(struct driver *d, uint64_t features, unsigned int n_queues);

/** driver_put() - store into guest memory. */
void driver_put(struct driver *d, uint64_t addr, const void *bytes, size_t len);

/** driver_get() - load from guest memory. */
void driver_get(struct driver *d, uint64_t addr, void *bytes, size_t len);

/** driver_get16() - load a ring field. */
uint16_t driver_get16(struct driver *d, uint64_t addr);

/** driver_put16() - store a ring field. */
void driver_put16(struct driver *d, uint64_t addr, uint16_t value);

/* Rings of queue q. */
uint64_t driver_desc_at(unsigned int q);
uint64_t driver_avail_at(unsigned int q);
uint64_t driver_used_at(unsigned int q);

/** driver_desc() - write descriptor @i of the table at @table. */
void driver_desc(struct driver *d, uint64_t table, unsigned int i,
		 uint64_t addr, uint32_t len, uint16_t flags, uint16_t next);

/** driver_offer() - put a chain into the available ring, without telling. */
void driver_offer(struct driver *d, unsigned int q, uint16_t head);

/** driver_kick() - tell the device. */
void driver_kick(struct driver *d, unsigned int q);

/** driver_used() - used index of queue @q. */
uint16_t driver_used(struct driver *d, unsigned int q);

/** driver_used_len() - length in used entry @i. */
uint32_t driver_used_len(struct driver *d, unsigned int q, uint16_t i);

/** driver_used_id() - head in used entry @i. */
uint32_t driver_used_id(struct driver *d, unsigned int q, uint16_t i);

/* Requests of a disk [VIRTIO 1.2 5.2 "Block Device"]. */
enum {
	DISK_IN = 0,
	DISK_OUT = 1,
	DISK_FLUSH = 4,
	DISK_GET_ID = 8,
	DISK_DISCARD = 11,
	DISK_ZEROES = 13,
};

/* Where a request of a disk has what is not data. */
#define DISK_HEADER 0xf0000
#define DISK_STATUS 0xf1000

/* A stretch of guest memory. */
struct piece {
	uint64_t addr;
	uint32_t len;
};

/**
 * driver_disk_request() - make one request by a disk's queue.
 * @d: the driver; what is not data lies right below DRIVER_DATA
 * @type: DISK_IN and so on
 * @sector: where
 * @n_pieces: how many of @pieces, up to 4
 * @pieces: its data
 *
 * Return: its status, or -1 if the device does not answer.
 */
int driver_disk_request(struct driver *d, uint32_t type, uint64_t sector,
			unsigned int n_pieces, const struct piece *pieces);

#endif
