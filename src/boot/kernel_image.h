/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a kernel file holds: the segments to load, and the ways in. Reads bytes only; nothing of
 * a guest is known here. Every offset and size in the file is checked against the file's length.
 */
#ifndef BOOT_KERNEL_IMAGE_H
#define BOOT_KERNEL_IMAGE_H
#include <base/error.h>
#include <base/types.h>

#define KERNEL_MAX_SEGMENTS 32
/* The setup header of a bzImage: from 0x1f1 of the file to at most here. */
#define KERNEL_SETUP_START 0x1f1
#define KERNEL_SETUP_END   0x290

enum kernel_kind {
	KERNEL_BZIMAGE, /* unpacked: the segments are those of its vmlinux */
	KERNEL_ELF64,
	KERNEL_ELF32,
	KERNEL_FLAT, /* multiboot header with load addresses */
};

/**
 * struct kernel_segment - one stretch of guest memory.
 * @data: contents, @file_bytes of them; to be had from kernel_image_walk()
 * @file_bytes: at most @mem_bytes; the rest is zero
 * @addr: guest physical address of the first byte
 * @mem_bytes: never zero; @addr + @mem_bytes does not overflow
 */
struct kernel_segment {
	const uint8_t *data;
	uint64_t file_bytes;
	uint64_t addr;
	uint64_t mem_bytes;
};

/**
 * struct kernel_image - a kernel file, understood. Ended with kernel_image_release().
 * @kind: what the file is
 * @segments: @n_segments of them, at least one; no two overlap; they point into the file's bytes
 *	or into @unpacked
 * @n_segments: how many
 * @start: lowest address of a segment
 * @end: first address above all segments
 * @has_linux64: @linux64_entry can be entered by the Linux 64-bit boot protocol
 * @linux64_entry: physical address
 * @has_pvh: there is a PVH note, @pvh_entry; of a packed one see kernel_image_find_pvh()
 * @pvh_entry: physical address
 * @has_multiboot: there is a multiboot header, @multiboot_entry
 * @multiboot_entry: physical address
 * @setup: setup header of a bzImage, from KERNEL_SETUP_START on
 * @setup_bytes: length of it, 0 if there is none
 * @cmdline_max: longest command line without its terminating zero
 * @initrd_max: highest address that an initrd may use
 * @unpacked: owned; NULL if the file is not compressed
 * @unpacked_bytes: how large it is
 * @packed: NULL if @unpacked is all there; else it is an address range without contents, which
 *	are unpacked piece by piece from here, so that they are never in memory as a whole
 * @packed_bytes: how many bytes there are
 */
struct kernel_image {
	enum kernel_kind kind;
	struct kernel_segment segments[KERNEL_MAX_SEGMENTS];
	unsigned int n_segments;
	uint64_t start;
	uint64_t end;
	bool has_linux64;
	uint64_t linux64_entry;
	bool has_pvh;
	uint64_t pvh_entry;
	bool has_multiboot;
	uint64_t multiboot_entry;
	uint8_t setup[KERNEL_SETUP_END - KERNEL_SETUP_START];
	size_t setup_bytes;
	uint64_t cmdline_max;
	uint64_t initrd_max;
	uint8_t *unpacked;
	size_t unpacked_bytes;
	const uint8_t *packed;
	size_t packed_bytes;
};

/**
 * kernel_image_init() - understand a kernel file.
 * @img: written on success only
 * @data: the file; must live as long as @img
 * @bytes: its length
 * @err: message on failure, without the file's name
 *
 * Return: 0; -ENOEXEC if it is not a kernel that we can start, or truncated or damaged; -ENOMEM.
 */
int kernel_image_init(struct kernel_image *img, const uint8_t *data,
		      size_t bytes, struct err *err)
	__attribute__((warn_unused_result));

/**
 * kernel_image_find_pvh() - look for the PVH note of a kernel that is unpacked piece by piece.
 * @img: image; gets @has_pvh and @pvh_entry
 * @err: message on failure
 *
 * The note lies in the midst of the kernel, and few want to know. Return: 0; -ENOEXEC if the
 * payload is damaged; -ENOMEM.
 */
int kernel_image_find_pvh(struct kernel_image *img, struct err *err)
	__attribute__((warn_unused_result));

/**
 * struct kernel_room - a place that may be written in place.
 * @addr: guest physical address
 * @bytes: how many, in the midst of a segment and in pages that are not mostly zeros; 0: none
 * @at: NULL when it is asked for; who is asked sets it to where they are written
 */
struct kernel_room {
	uint64_t addr;
	uint64_t bytes;
	uint8_t *at;
};

/* So many threads unpack at most. */
#define KERNEL_THREADS_MAX 4

/**
 * struct kernel_taker - who takes the contents of segments.
 * @piece: called for each piece: guest physical address, bytes and their number. What it
 *	returns, if it is not 0, ends the walk
 * @rooms: which of so many places can be written in place, all of them until the next call of
 *	either function; they are then not given to @piece. Or NULL
 * @ctx: for both
 * @n_threads: that unpack, the caller's included: 0 and 1 mean that alone, at most
 *	KERNEL_THREADS_MAX. The functions are called by the caller's thread, while no other writes
 */
struct kernel_taker {
	int (*piece)(void *ctx, uint64_t addr, const uint8_t *data,
		     uint64_t bytes, struct err *err);
	void (*rooms)(void *ctx, struct kernel_room *rooms, uint64_t n_rooms);
	void *ctx;
	unsigned int n_threads;
};

/**
 * kernel_image_walk() - read the contents of all segments.
 * @img: image
 * @taker: who gets them; after a failure, what it gave room for holds anything
 * @err: message on failure
 *
 * Return: 0; what @piece returned; -ENOEXEC if the payload is damaged; -ENOMEM.
 */
int kernel_image_walk(const struct kernel_image *img,
		      const struct kernel_taker *taker, struct err *err)
	__attribute__((warn_unused_result));

/** kernel_image_release() - free what it owns. */
void kernel_image_release(struct kernel_image *img);

#endif
