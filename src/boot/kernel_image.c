/* SPDX-License-Identifier: Apache-2.0 */
/* Tells kernel files apart by their contents, and says what a file is that is not a kernel. */
#include <boot/kernel_image.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <boot/bytes.h>
#include <boot/kernel_image_impl.h>
#include <boot/layout.h>
#include <boot/unpack.h>

#define LINUX_CMDLINE_MAX 2047

/* Files that people try by mistake. */
static const struct foreign {
	uint32_t offset;
	uint8_t magic[8];
	uint8_t magic_bytes;
	const char *what;
} foreign[] = {
	{0x38,
	 {'A', 'R', 'M', 'd'},
	 4,
	 "it is a kernel for arm64; an x86-64 one is needed"},
	{0x38,
	 {'R', 'S', 'C', 0x05},
	 4,
	 "it is a kernel for RISC-V; an x86-64 one is needed"},
	{0x24,
	 {0x18, 0x28, 0x6f, 0x01},
	 4,
	 "it is a kernel for 32-bit ARM; an x86-64 one is needed"},
	{0, {'M', 'Z'}, 2, "it is a UEFI program, not a kernel"},
	{0, {'0', '7', '0', '7', '0'}, 5, "it is a cpio archive, not a kernel"},
	{0,
	 {'!', '<', 'a', 'r', 'c', 'h', '>', '\n'},
	 8,
	 "it is an archive or a Debian package, not a kernel"},
	{0, {'Q', 'F', 'I', 0xfb}, 4, "it is a disk image, not a kernel"},
};

int image_add_segment(struct kernel_image *img,
		      const struct kernel_segment *seg, struct err *err)
{
	const uint64_t end = seg->addr + seg->mem_bytes;

	if (!seg->mem_bytes)
		return 0;
	if (seg->file_bytes > seg->mem_bytes || end < seg->addr)
		return err_set(
			err, -ENOEXEC,
			"it is damaged: segment at %#lx has %#lx bytes in %#lx of memory",
			seg->addr, seg->file_bytes, seg->mem_bytes);
	if (img->n_segments == KERNEL_MAX_SEGMENTS)
		return err_set(err, -ENOEXEC,
			       "it has more than %d segments to load",
			       KERNEL_MAX_SEGMENTS);
	for (unsigned int i = 0; i < img->n_segments; i++) {
		const struct kernel_segment *s = &img->segments[i];

		if (seg->addr < s->addr + s->mem_bytes && s->addr < end)
			return err_set(
				err, -ENOEXEC,
				"it is damaged: segments at %#lx and %#lx overlap",
				s->addr, seg->addr);
	}
	if (!img->n_segments || seg->addr < img->start)
		img->start = seg->addr;
	if (end > img->end)
		img->end = end;
	img->segments[img->n_segments++] = *seg;
	return 0;
}

static int refuse(const struct image_file *f, struct err *err)
{
	const char *packed = unpack_format(f->data, f->bytes);

	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
		const struct foreign *x = &foreign[i];

		if (image_has(f, x->offset, x->magic_bytes) &&
		    !memcmp(f->data + x->offset, x->magic, x->magic_bytes))
			return err_set(err, -ENOEXEC, "%s", x->what);
	}
	if (packed)
		return err_set(
			err, -ENOEXEC,
			"it is a file compressed with %s, not a kernel; unpack it first",
			packed);
	return err_set(
		err, -ENOEXEC,
		"it is not a kernel: neither a Linux bzImage, nor an ELF file, nor multiboot");
}

static int read_image(const struct image_file *f, struct kernel_image *img,
		      struct err *err)
{
	bool found = false;
	int r;

	if (bzimage_detect(f))
		return bzimage_read(f, img, err);
	if (elf_detect(f)) {
		r = elf_read(f, img, err);
		if (r < 0 || img->kind == KERNEL_ELF64)
			return r;
		r = multiboot_read(f, img, &found, err);
		if (r < 0)
			return r;
		if (!img->has_multiboot && !img->has_pvh)
			return err_set(
				err, -ENOEXEC,
				"it is a 32-bit ELF file with neither a multiboot header nor a PVH note");
		return 0;
	}
	img->kind = KERNEL_FLAT;
	r = multiboot_read(f, img, &found, err);
	if (r < 0 || found)
		return r;
	return refuse(f, err);
}

int kernel_image_init(struct kernel_image *img, const uint8_t *data,
		      size_t bytes, struct err *err)
{
	const struct image_file f = {data, bytes};
	struct kernel_image tmp = {
		.cmdline_max = LINUX_CMDLINE_MAX,
		.initrd_max = LAYOUT_INITRD_MAX,
	};
	const int r = read_image(&f, &tmp, err);

	if (r < 0) {
		kernel_image_release(&tmp);
		return r;
	}
	*img = tmp;
	return 0;
}

int kernel_image_find_pvh(struct kernel_image *img, struct err *err)
{
	return img->packed ? bzimage_find_pvh(img, err) : 0;
}

/* A piece of the payload; no piece if @idx is NO_BLOCK. */
struct kernel_block {
	uint8_t *bytes;
	uint64_t idx;
};

#define NO_BLOCK UINT64_MAX
/* What compresses better than this is tables of zeros, which are not written. */
#define DENSE_PART 4

struct kernel_block *image_block_new(void)
{
	struct kernel_block *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->idx = NO_BLOCK;
	b->bytes = unpack_room_new();
	if (b->bytes)
		return b;
	free(b);
	return NULL;
}

static void block_free(struct kernel_block *b)
{
	if (b)
		unpack_room_free(b->bytes);
	free(b);
}

int image_block(const struct kernel_image *img, uint64_t idx,
		const uint8_t **ret_bytes, struct err *err)
{
	struct kernel_block *b = img->block;

	if (b->idx != idx) {
		b->idx = NO_BLOCK;
		const int r = unpack_block(img->packed, img->packed_bytes,
					   img->unpacked_bytes, idx, b->bytes,
					   err);

		if (r)
			return r;
		b->idx = idx;
	}
	*ret_bytes = b->bytes;
	return 0;
}

/* Where a segment starts in the unpacked file. */
static uint64_t offset_of(const struct kernel_image *img,
			  const struct kernel_segment *s)
{
	return (uint64_t)(s->data - img->unpacked);
}

/* What segments have of one block, which covers that range of the unpacked file. */
static int walk_block(const struct kernel_image *img, uint64_t first,
		      uint64_t bytes, const uint8_t *block,
		      const struct kernel_taker *taker, struct err *err)
{
	int r = 0;

	for (unsigned int i = 0; i < img->n_segments && !r; i++) {
		const struct kernel_segment *s = &img->segments[i];
		const uint64_t off = offset_of(img, s);
		const uint64_t from = off > first ? off : first;
		const uint64_t to = off + s->file_bytes < first + bytes
					    ? off + s->file_bytes
					    : first + bytes;

		if (from < to)
			r = taker->piece(taker->ctx, s->addr + (from - off),
					 block + (from - first), to - from, err);
	}
	return r;
}

/* Where a block can be unpacked to in place, for all of it is in one segment; or NULL. */
static uint8_t *room_for(const struct kernel_image *img, uint64_t idx,
			 uint64_t bytes, const struct kernel_taker *taker)
{
	const uint64_t first = idx * UNPACK_BLOCK_BYTES;

	if (!taker->room || idx == img->block->idx ||
	    unpack_block_packed(img->packed, img->packed_bytes, idx) <
		    bytes / DENSE_PART)
		return NULL;
	for (unsigned int i = 0; i < img->n_segments; i++) {
		const struct kernel_segment *s = &img->segments[i];
		const uint64_t off = offset_of(img, s);

		if (off <= first && first + bytes <= off + s->file_bytes)
			return taker->room(taker->ctx, s->addr + (first - off),
					   bytes);
	}
	return NULL;
}

static int walk_one(const struct kernel_image *img, uint64_t idx,
		    const struct kernel_taker *taker, struct err *err)
{
	const uint64_t first = idx * UNPACK_BLOCK_BYTES;
	const uint64_t rest = img->unpacked_bytes - first;
	const uint64_t bytes = rest < UNPACK_BLOCK_BYTES ? rest
							 : UNPACK_BLOCK_BYTES;
	uint8_t *room = room_for(img, idx, bytes, taker);
	const uint8_t *block;
	int r;

	if (room)
		return unpack_block(img->packed, img->packed_bytes,
				    img->unpacked_bytes, idx, room, err);
	r = image_block(img, idx, &block, err);
	return r ? r : walk_block(img, first, bytes, block, taker, err);
}

int kernel_image_walk(const struct kernel_image *img,
		      const struct kernel_taker *taker, struct err *err)
{
	const uint64_t n = img->packed ? unpack_n_blocks(img->packed,
							 img->packed_bytes,
							 img->unpacked_bytes)
				       : 0;
	int r = 0;

	for (uint64_t i = 0; i < n && !r; i++)
		r = walk_one(img, i, taker, err);
	if (img->packed)
		return r;
	for (unsigned int i = 0; i < img->n_segments && !r; i++) {
		const struct kernel_segment *s = &img->segments[i];

		r = taker->piece(taker->ctx, s->addr, s->data, s->file_bytes,
				 err);
	}
	return r;
}

void kernel_image_release(struct kernel_image *img)
{
	if (img->packed)
		munmap(img->unpacked, img->unpacked_bytes);
	else
		free(img->unpacked);
	block_free(img->block);
	img->block = NULL;
	img->unpacked = NULL;
	img->packed = NULL;
	img->n_segments = 0;
}
