/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port I/O and memory-mapped I/O of one VM: which device answers where.
 *
 * Regions are added while the VM is assembled and never move. An access that lies
 * in one region goes to its device, cut into pieces if it is wider than the device
 * takes. An access that leaves its region is made byte by byte. What nobody claims
 * reads as all ones, and writes to it are dropped. All is counted per region.
 *
 * Locking: every function of every device in this folder is called with the VM's
 * device lock held (with one processor thread, that thread is the lock). No device
 * makes threads. Registers that belong to one processor (its local APIC) are not
 * on the bus: see lapic_claims().
 *
 *	struct bus *bus;
 *	bus_new(&bus, &err);
 *	bus_add_pio(bus, SERIAL_COM1_PORT, SERIAL_PORTS, &serial_bus_ops, &com1, &err);
 *	…
 *	bus_pio_read(bus, port, size, &value);    an IN of the guest
 *	bus_mmio_write(bus, addr, size, value);   a store that hit no RAM
 */
#ifndef DEV_BUS_H
#define DEV_BUS_H
#include <base/error.h>
#include <base/types.h>

#define BUS_REGIONS_MAX 64 /* per address space */

struct bus;

/**
 * struct bus_ops - the functions of one kind of device; a constant table.
 * @name: for counters and messages
 * @max_size: widest access in bytes that it takes: 1, 2, 4 or 8
 * @read: @off is from the start of the region, @size 1, 2, 4 or 8, up to @max_size;
 *        bits above @size bytes of the result are ignored
 * @write: likewise; bits above @size bytes of @value are zero
 */
struct bus_ops {
	const char *name;
	unsigned int max_size;
	uint64_t (*read)(void *ctx, uint64_t off, unsigned int size);
	void (*write)(void *ctx, uint64_t off, unsigned int size,
		      uint64_t value);
};

/**
 * struct bus_counters - accesses of the guest to one region, or to none.
 * @name: the device's, or "unclaimed-pio", "unclaimed-mmio"
 * @start: first port or guest physical address
 * @reads: how many reads
 * @writes: how many writes
 */
struct bus_counters {
	const char *name;
	uint64_t start;
	uint64_t reads;
	uint64_t writes;
};

/**
 * bus_new() - a bus without devices.
 * @ret_bus: set on success; the caller ends it with bus_free()
 * @err: message on failure
 *
 * Return: 0 or -ENOMEM.
 */
int bus_new(struct bus **ret_bus, struct err *err)
	__attribute__((warn_unused_result));

/** bus_free() - end it; the devices are not touched. NULL is fine. Return: NULL. */
struct bus *bus_free(struct bus *bus);

/**
 * bus_add_pio() - let a device answer at a range of ports.
 * @bus: the bus
 * @port: first port
 * @len: number of ports
 * @ops: the device's functions
 * @ctx: passed to them
 * @err: message on failure
 *
 * Return: 0, -EINVAL (empty, or beyond port 0xffff), -EEXIST (overlaps another
 * region), -ENOSPC (BUS_REGIONS_MAX reached).
 */
int bus_add_pio(struct bus *bus, uint16_t port, uint32_t len,
		const struct bus_ops *ops, void *ctx, struct err *err)
	__attribute__((warn_unused_result));

/**
 * bus_add_mmio() - let a device answer at a range of guest physical addresses.
 * Parameters and result as for bus_add_pio(); -EINVAL also if the range wraps.
 */
int bus_add_mmio(struct bus *bus, gpa_t start, uint64_t len,
		 const struct bus_ops *ops, void *ctx, struct err *err)
	__attribute__((warn_unused_result));

/**
 * bus_pio_read() - an IN of the guest.
 * @bus: the bus
 * @port: port number
 * @size: 1, 2 or 4 bytes
 * @ret_value: what was read, zero-extended; all ones where nobody answers
 *
 * Return: true if a device answered all of it. Context: device lock.
 */
bool bus_pio_read(struct bus *bus, uint16_t port, unsigned int size,
		  uint64_t *ret_value);

/** bus_pio_write() - an OUT of the guest; as bus_pio_read(). */
bool bus_pio_write(struct bus *bus, uint16_t port, unsigned int size,
		   uint64_t value);

/** bus_mmio_read() - a load of 1, 2, 4 or 8 bytes outside RAM; as bus_pio_read(). */
bool bus_mmio_read(struct bus *bus, gpa_t addr, unsigned int size,
		   uint64_t *ret_value);

/** bus_mmio_write() - a store of 1, 2, 4 or 8 bytes outside RAM; as bus_pio_read(). */
bool bus_mmio_write(struct bus *bus, gpa_t addr, unsigned int size,
		    uint64_t value);

/**
 * bus_counters_get() - the counters of one region.
 * @bus: the bus
 * @idx: 0 and 1 are unclaimed ports and unclaimed memory, regions follow
 * @ret_counters: set if there is such a region
 *
 * Return: false past the last one.
 */
bool bus_counters_get(const struct bus *bus, unsigned int idx,
		      struct bus_counters *ret_counters);

#endif
