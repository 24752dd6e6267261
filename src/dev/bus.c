/* SPDX-License-Identifier: Apache-2.0 */
/* Port I/O and memory-mapped I/O: find the region of an access and count it. */
#include <dev/bus.h>

#include <errno.h>
#include <stdlib.h>

#include <base/verify.h>

#define PIO_PORTS UINT64_C(0x10000)

struct region {
	uint64_t start;
	uint64_t len;
	const struct bus_ops *ops;
	void *ctx;
	uint64_t reads;
	uint64_t writes;
};

/* One address space; regions in the order in which they were added. */
struct space {
	struct region regions[BUS_REGIONS_MAX];
	unsigned int n_regions;
	unsigned int last; /* hit last: accesses come in runs */
	uint64_t stray_reads;
	uint64_t stray_writes;
};

struct bus {
	struct space pio;
	struct space mmio;
};

int bus_new(struct bus **ret_bus, struct err *err)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return err_set(err, -ENOMEM, "no memory for the device bus");
	*ret_bus = bus;
	return 0;
}

struct bus *bus_free(struct bus *bus)
{
	free(bus);
	return NULL;
}

static int space_add(struct space *space, uint64_t start, uint64_t len,
		     const struct bus_ops *ops, void *ctx, struct err *err)
{
	VERIFY(ops->max_size == 1 || ops->max_size == 2 || ops->max_size == 4 ||
	       ops->max_size == 8);

	for (unsigned int i = 0; i < space->n_regions; i++) {
		const struct region *other = &space->regions[i];

		if (start - other->start < other->len ||
		    other->start - start < len)
			return err_set(err, -EEXIST,
				       "%s at 0x%llx overlaps %s at 0x%llx",
				       ops->name, (unsigned long long)start,
				       other->ops->name,
				       (unsigned long long)other->start);
	}
	if (space->n_regions == BUS_REGIONS_MAX)
		return err_set(
			err, -ENOSPC,
			"no place for %s on the bus: %d regions are the most",
			ops->name, BUS_REGIONS_MAX);

	space->regions[space->n_regions++] = (struct region){
		.start = start,
		.len = len,
		.ops = ops,
		.ctx = ctx,
	};
	return 0;
}

int bus_add_pio(struct bus *bus, uint16_t port, uint32_t len,
		const struct bus_ops *ops, void *ctx, struct err *err)
{
	if (len == 0 || len > PIO_PORTS - port)
		return err_set(err, -EINVAL,
			       "%s: %u ports from 0x%x are not in the I/O space",
			       ops->name, len, port);
	return space_add(&bus->pio, port, len, ops, ctx, err);
}

int bus_add_mmio(struct bus *bus, gpa_t start, uint64_t len,
		 const struct bus_ops *ops, void *ctx, struct err *err)
{
	if (len == 0 || len - 1 > UINT64_MAX - start.v)
		return err_set(
			err, -EINVAL,
			"%s: 0x%llx bytes from 0x%llx are not an address range",
			ops->name, (unsigned long long)len,
			(unsigned long long)start.v);
	return space_add(&bus->mmio, start.v, len, ops, ctx, err);
}

static struct region *space_find(struct space *space, uint64_t addr)
{
	struct region *region = &space->regions[space->last];

	if (space->last < space->n_regions && addr - region->start < region->len)
		return region;

	for (unsigned int i = 0; i < space->n_regions; i++) {
		region = &space->regions[i];
		if (addr - region->start < region->len) {
			space->last = i;
			return region;
		}
	}
	return NULL;
}

static uint64_t size_mask(unsigned int size)
{
	return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

static uint64_t region_read(struct region *region, uint64_t off,
			    unsigned int size)
{
	const struct bus_ops *ops = region->ops;
	unsigned int step = size < ops->max_size ? size : ops->max_size;
	uint64_t value = 0;

	region->reads++;
	for (unsigned int i = 0; i < size; i += step)
		value |= (ops->read(region->ctx, off + i, step) & size_mask(step))
			 << (i * 8);
	return value;
}

static void region_write(struct region *region, uint64_t off, unsigned int size,
			 uint64_t value)
{
	const struct bus_ops *ops = region->ops;
	unsigned int step = size < ops->max_size ? size : ops->max_size;

	region->writes++;
	for (unsigned int i = 0; i < size; i += step)
		ops->write(region->ctx, off + i, step,
			   (value >> (i * 8)) & size_mask(step));
}

static bool space_read(struct space *space, uint64_t addr, unsigned int size,
		       uint64_t *ret_value)
{
	struct region *region = space_find(space, addr);

	if (region && region->len - (addr - region->start) >= size) {
		*ret_value = region_read(region, addr - region->start, size);
		return true;
	}
	if (size == 1) {
		space->stray_reads++;
		*ret_value = 0xff;
		return false;
	}

	bool claimed = true;
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++) {
		uint64_t byte;

		claimed &= space_read(space, addr + i, 1, &byte);
		value |= byte << (i * 8);
	}
	*ret_value = value;
	return claimed;
}

static bool space_write(struct space *space, uint64_t addr, unsigned int size,
			uint64_t value)
{
	struct region *region = space_find(space, addr);

	if (region && region->len - (addr - region->start) >= size) {
		region_write(region, addr - region->start, size, value);
		return true;
	}
	if (size == 1) {
		space->stray_writes++;
		return false;
	}

	bool claimed = true;

	for (unsigned int i = 0; i < size; i++)
		claimed &= space_write(space, addr + i, 1,
				       (value >> (i * 8)) & 0xff);
	return claimed;
}

bool bus_pio_read(struct bus *bus, uint16_t port, unsigned int size,
		  uint64_t *ret_value)
{
	return space_read(&bus->pio, port, size, ret_value);
}

bool bus_pio_write(struct bus *bus, uint16_t port, unsigned int size,
		   uint64_t value)
{
	return space_write(&bus->pio, port, size, value);
}

bool bus_mmio_read(struct bus *bus, gpa_t addr, unsigned int size,
		   uint64_t *ret_value)
{
	return space_read(&bus->mmio, addr.v, size, ret_value);
}

bool bus_mmio_write(struct bus *bus, gpa_t addr, unsigned int size,
		    uint64_t value)
{
	return space_write(&bus->mmio, addr.v, size, value);
}

static struct bus_counters region_counters(const struct region *region)
{
	return (struct bus_counters){
		.name = region->ops->name,
		.start = region->start,
		.reads = region->reads,
		.writes = region->writes,
	};
}

bool bus_counters_get(const struct bus *bus, unsigned int idx,
		      struct bus_counters *ret_counters)
{
	if (idx < 2) {
		const struct space *space = idx ? &bus->mmio : &bus->pio;

		*ret_counters = (struct bus_counters){
			.name = idx ? "unclaimed-mmio" : "unclaimed-pio",
			.reads = space->stray_reads,
			.writes = space->stray_writes,
		};
		return true;
	}

	idx -= 2;
	if (idx < bus->pio.n_regions) {
		*ret_counters = region_counters(&bus->pio.regions[idx]);
		return true;
	}

	idx -= bus->pio.n_regions;
	if (idx < bus->mmio.n_regions) {
		*ret_counters = region_counters(&bus->mmio.regions[idx]);
		return true;
	}
	return false;
}
