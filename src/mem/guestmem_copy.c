/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as bytes, for devices and loaders. */
#include <string.h>

#include <mem/guestmem_impl.h>

/* Whether all of [addr, addr + len) is RAM. */
static bool range_is_ram(const struct guestmem *mem, uint64_t addr, uint64_t len)
{
	const uint64_t low_end = mem->hot.low_pages * PAGE_SIZE;
	const uint64_t high_end = GUESTMEM_HOLE_END +
				  (mem->hot.n_pages - mem->hot.low_pages) *
					  PAGE_SIZE;
	uint64_t end;

	if (!len)
		return true;
	if (__builtin_add_overflow(addr, len, &end))
		return false;
	return end <= low_end || (addr >= GUESTMEM_HOLE_END && end <= high_end);
}

static uint64_t part_of_page(uint64_t addr, uint64_t len)
{
	const uint64_t rest = PAGE_SIZE - addr % PAGE_SIZE;

	return len < rest ? len : rest;
}

bool guestmem_read(struct guestmem *mem, gpa_t addr, void *buf, uint64_t len)
{
	uint8_t *to = buf;
	struct mem_page page;

	if (!range_is_ram(mem, addr.v, len))
		return false;
	while (len) {
		const uint64_t part = part_of_page(addr.v, len);

		if (guestmem_resolve(mem, addr, MEM_READ, &page) != MEM_OK)
			return false;
		memcpy(to,
		       machine_ptr(mem->machine,
				   ma_add(page.ma, addr.v % PAGE_SIZE)),
		       part);
		addr = gpa_add(addr, part);
		to += part;
		len -= part;
	}
	return true;
}

void guestmem_tell_written(struct guestmem *mem, gpa_t addr, uint64_t len)
{
	ppn_t page;

	if (guestmem_ppn(mem, addr, &page))
		guestmem_page_written(mem, page, addr, len);
}

bool guestmem_write(struct guestmem *mem, gpa_t addr, const void *buf,
		    uint64_t len)
{
	const uint8_t *from = buf;
	struct mem_page page;

	if (!range_is_ram(mem, addr.v, len))
		return false;
	while (len) {
		const uint64_t part = part_of_page(addr.v, len);

		if (guestmem_resolve(mem, addr, MEM_WRITE, &page) != MEM_OK)
			return false;
		memcpy(machine_ptr(mem->machine,
				   ma_add(page.ma, addr.v % PAGE_SIZE)),
		       from, part);
		guestmem_page_written(mem, page.ppn, addr, part);
		addr = gpa_add(addr, part);
		from += part;
		len -= part;
	}
	return true;
}

enum mem_status guestmem_span(struct guestmem *mem, gpa_t addr,
			      enum mem_access access, uint8_t **ret_ptr,
			      uint64_t *ret_len)
{
	const uint64_t offset = addr.v % PAGE_SIZE;
	struct mem_page page;
	enum mem_status status = guestmem_resolve(mem, addr, access, &page);

	if (status != MEM_OK)
		return status;
	/* Stores are still to come: as much is told as makes everyone forget the page. */
	if (access == MEM_WRITE)
		guestmem_page_written(mem, page.ppn, gpa(addr.v & PAGE_MASK),
				      PAGE_SIZE);
	*ret_ptr = machine_ptr(mem->machine, ma_add(page.ma, offset));
	*ret_len = PAGE_SIZE - offset;
	return MEM_OK;
}
