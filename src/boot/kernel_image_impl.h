/* SPDX-License-Identifier: Apache-2.0 */
/* The readers of the file formats, called by kernel_image.c. Only for this folder. */
#ifndef BOOT_KERNEL_IMAGE_IMPL_H
#define BOOT_KERNEL_IMAGE_IMPL_H
#include <boot/kernel_image.h>

/**
 * struct image_file - the bytes being read.
 * @data: first byte
 * @bytes: how many
 */
struct image_file {
	const uint8_t *data;
	size_t bytes;
};

/** image_has() - are @len bytes at @off inside the file? */
static inline bool image_has(const struct image_file *f, uint64_t off,
			     uint64_t len)
{
	return off <= f->bytes && len <= f->bytes - off;
}

/** elf_detect() - does it start as an ELF file? */
bool elf_detect(const struct image_file *f);

/**
 * elf_note() - where a note segment is, going by the headers alone.
 * @f: file of which only the beginning needs to be there
 * @nth: counts from 0
 * @ret_off: where its bytes are; inside the file
 * @ret_bytes: how many
 *
 * Return: false if there is no such one.
 */
bool elf_note(const struct image_file *f, uint32_t nth, uint64_t *ret_off,
	      uint64_t *ret_bytes);

/**
 * elf_read_notes() - the PVH note alone.
 * @f: file that elf_read() took, of which headers and notes need to be there
 * @img: gets @has_pvh and @pvh_entry
 */
void elf_read_notes(const struct image_file *f, struct kernel_image *img);

/** elf_read() - segments, entry and PVH note of an ELF file. Returns as kernel_image_init(). */
int elf_read(const struct image_file *f, struct kernel_image *img,
	     struct err *err) __attribute__((warn_unused_result));

/** bzimage_detect() - does it start as a Linux x86 image with a setup header? */
bool bzimage_detect(const struct image_file *f);

/** bzimage_read() - unpack a bzImage and read its vmlinux. Returns as kernel_image_init(). */
int bzimage_read(const struct image_file *f, struct kernel_image *img,
		 struct err *err) __attribute__((warn_unused_result));

/** bzimage_find_pvh() - as kernel_image_find_pvh(), with @img->packed. */
int bzimage_find_pvh(struct kernel_image *img, struct err *err)
	__attribute__((warn_unused_result));

/**
 * image_walk_blocks() - kernel_image_walk() of an image with @packed.
 *
 * Parameters and result as there.
 */
int image_walk_blocks(const struct kernel_image *img,
		      const struct kernel_taker *taker, struct err *err)
	__attribute__((warn_unused_result));

/**
 * multiboot_read() - find a multiboot header.
 * @f: file
 * @img: gets its entry; of a file that is not ELF, its segment as well
 * @ret_found: is there one?
 * @err: message on failure
 *
 * Return: as kernel_image_init().
 */
int multiboot_read(const struct image_file *f, struct kernel_image *img,
		   bool *ret_found, struct err *err)
	__attribute__((warn_unused_result));

/**
 * image_add_segment() - add one, if it takes up memory at all.
 * @img: image
 * @seg: checked here for overflow and overlap
 * @err: message on failure
 *
 * Return: 0 or -ENOEXEC.
 */
int image_add_segment(struct kernel_image *img, const struct kernel_segment *seg,
		      struct err *err) __attribute__((warn_unused_result));

#endif
