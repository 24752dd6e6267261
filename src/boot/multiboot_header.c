/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the header of a multiboot 1 kernel, and loads by its addresses if it has some. [MB1] */
#include <errno.h>

#include <boot/bytes.h>
#include <boot/kernel_image_impl.h>
#include <boot/layout.h>

#define HEADER_SEARCH_BYTES 8192
#define HEADER_BYTES        12
#define HEADER_ADDR_BYTES   32
#define HEADER_MAGIC        0x1badb002U

#define BIT_(n)             (UINT32_C(1) << (n))
#define FLAG_PAGE_ALIGN     BIT_(0)
#define FLAG_MEMORY         BIT_(1)
#define FLAG_VIDEO          BIT_(2)
#define FLAG_ADDRESSES      BIT_(16)
/* Features that a loader must know, and those that we give. */
#define FLAGS_REQUIRED 0xffffU
#define FLAGS_GIVEN    (FLAG_PAGE_ALIGN | FLAG_MEMORY)

static bool find_header(const struct image_file *f, uint64_t *ret_off)
{
	for (uint64_t off = 0; off + HEADER_BYTES <= HEADER_SEARCH_BYTES &&
			       image_has(f, off, HEADER_BYTES);
	     off += 4) {
		const uint8_t *p = f->data + off;
		const uint32_t sum = get_le32(p) + get_le32(p + 4) +
				     get_le32(p + 8);

		if (get_le32(p) == HEADER_MAGIC && sum == 0) {
			*ret_off = off;
			return true;
		}
	}
	return false;
}

/* The header's own address tells which byte of the file goes where. */
static int read_addresses(const struct image_file *f, uint64_t off,
			  struct kernel_image *img, struct err *err)
{
	if (!image_has(f, off, HEADER_ADDR_BYTES))
		return err_set(err, -ENOEXEC,
			       "it is truncated inside its multiboot header");
	const uint8_t *p = f->data + off;
	const uint64_t header = get_le32(p + 12);
	const uint64_t load = get_le32(p + 16);
	const uint64_t load_end = get_le32(p + 20);
	const uint64_t bss_end = get_le32(p + 24);
	const uint64_t entry = get_le32(p + 28);

	if (header < load || header - load > off)
		return err_set(
			err, -ENOEXEC,
			"its multiboot header is damaged: loads at %#lx, but its header is at %#lx",
			load, header);
	const uint64_t first = off - (header - load);
	const uint64_t bytes = load_end ? load_end - load : f->bytes - first;

	if ((load_end && load_end < load) || !image_has(f, first, bytes))
		return err_set(
			err, -ENOEXEC,
			"it is truncated: its multiboot header wants bytes %lu to %lu of %zu",
			first, first + bytes, f->bytes);
	const struct kernel_segment seg = {
		.data = f->data + first,
		.file_bytes = bytes,
		.addr = load,
		.mem_bytes = bss_end > load + bytes ? bss_end - load : bytes,
	};

	if (entry < load || entry - load >= seg.mem_bytes)
		return err_set(
			err, -ENOEXEC,
			"its multiboot header is damaged: entry %#lx lies outside what is loaded",
			entry);
	img->multiboot_entry = entry;
	return image_add_segment(img, &seg, err);
}

int multiboot_read(const struct image_file *f, struct kernel_image *img,
		   bool *ret_found, struct err *err)
{
	uint64_t off = 0;

	*ret_found = find_header(f, &off);
	if (!*ret_found)
		return 0;
	const uint32_t flags = get_le32(f->data + off + 4);

	if (flags & FLAGS_REQUIRED & ~FLAGS_GIVEN)
		return err_set(
			err, -ENOEXEC,
			"its multiboot header asks for features (flags %#x) that are not supported%s",
			flags & FLAGS_REQUIRED & ~FLAGS_GIVEN,
			flags & FLAG_VIDEO ? ", such as a screen" : "");
	img->has_multiboot = true;
	img->cmdline_max = LAYOUT_CMDLINE_BYTES - 1;
	/* ELF segments are what counts if there are some: every loader reads them. */
	if (img->n_segments)
		return 0;
	if (!(flags & FLAG_ADDRESSES))
		return err_set(
			err, -ENOEXEC,
			"its multiboot header does not say where to load it, and it is no ELF file");
	return read_addresses(f, off, img, err);
}
