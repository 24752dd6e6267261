/* SPDX-License-Identifier: Apache-2.0 */
/* Makes small kernel files for tests: ELF, bzImage with a payload of each format, multiboot. */
#ifndef TESTS_UNIT_BOOT_FILES_H
#define TESTS_UNIT_BOOT_FILES_H
#include <base/types.h>

#define TEST_FILE_MAX (256 * 1024)

struct test_file {
	uint8_t data[TEST_FILE_MAX];
	size_t bytes;
};

enum test_format {
	TEST_GZIP,
	TEST_BZIP2,
	TEST_LZMA,
	TEST_XZ,
	TEST_LZ4,
	TEST_ZSTD,
	TEST_FORMATS,
};

/* The kernels all have two segments: text here, and data with BSS behind it. */
#define TEST_TEXT_OFFSET 0x1000 /* in the ELF files */
#define TEST_TEXT_ADDR   UINT64_C(0x1000000)
#define TEST_TEXT_BYTES  0x2800
#define TEST_DATA_ADDR   UINT64_C(0x1100000)
#define TEST_DATA_BYTES  0x1800
#define TEST_DATA_MEM    0x9000
#define TEST_PVH_ENTRY   UINT64_C(0x1000100)

/* Byte @i of the text, never zero in the first page, all zero in the second. */
uint8_t test_text_byte(size_t i);

/* A 64-bit kernel; a PVH note if asked for. */
void test_elf64(struct test_file *f, bool pvh);

/* A 32-bit kernel with a multiboot header in its text. */
void test_elf32(struct test_file *f, bool multiboot, bool pvh);

/* A bzImage around the bytes of @vmlinux. */
void test_bzimage(struct test_file *f, const struct test_file *vmlinux,
		  enum test_format format);

/* A flat file whose multiboot header says where to load it. */
void test_flat(struct test_file *f);

/* Packs @in_bytes bytes; returns how many came out. */
size_t test_pack(enum test_format format, const uint8_t *in, size_t in_bytes,
		 uint8_t *out, size_t out_bytes);

/* Writes a temporary file; @path has room for 64 bytes. The caller unlinks it. */
void test_write_file(const void *data, size_t bytes, char *path);

#endif
