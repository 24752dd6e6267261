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

int kernel_image_walk(const struct kernel_image *img,
		      const struct kernel_taker *taker, struct err *err)
{
	int r = 0;

	if (img->packed)
		return image_walk_blocks(img, taker, err);
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
	img->unpacked = NULL;
	img->packed = NULL;
	img->n_segments = 0;
}
