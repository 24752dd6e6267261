/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel files: what they are, and what is said about those that are none. */
#include <elf.h>
#include <errno.h>
#include <lz4.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <boot/kernel_image.h>

#include "boot_files.h"

static struct test_file vmlinux;
static struct test_file file;
static struct kernel_image img;

static void expect_ok(const struct test_file *f)
{
	struct err err = {0};
	const int r = kernel_image_init(&img, f->data, f->bytes, &err);

	assert_string_equal(err.text, "");
	assert_int_equal(r, 0);
}

static void expect_refused(const struct test_file *f, const char *why)
{
	struct err err = {0};

	assert_int_equal(kernel_image_init(&img, f->data, f->bytes, &err),
			 -ENOEXEC);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void check_segments(void)
{
	assert_int_equal(img.n_segments, 2);
	assert_int_equal(img.start, TEST_TEXT_ADDR);
	assert_int_equal(img.end, TEST_DATA_ADDR + TEST_DATA_MEM);
	assert_int_equal(img.segments[0].file_bytes, TEST_TEXT_BYTES);
	assert_int_equal(img.segments[1].file_bytes, TEST_DATA_BYTES);
	assert_int_equal(img.segments[1].mem_bytes, TEST_DATA_MEM);
	assert_int_equal(img.segments[0].data[5], test_text_byte(5));
}

static void test_bzimage_of_each_format(void **state)
{
	(void)state;
	test_elf64(&vmlinux, true);
	for (int f = 0; f < TEST_FORMATS; f++) {
		test_bzimage(&file, &vmlinux, f);
		expect_ok(&file);
		assert_int_equal(img.kind, KERNEL_BZIMAGE);
		check_segments();
		assert_true(img.has_linux64);
		assert_int_equal(img.linux64_entry, TEST_TEXT_ADDR);
		assert_true(img.has_pvh);
		assert_int_equal(img.pvh_entry, TEST_PVH_ENTRY);
		assert_false(img.has_multiboot);
		assert_int_equal(img.cmdline_max, 2047);
		assert_int_equal(img.setup_bytes, 0x202 + 0x6a - 0x1f1);
		assert_memory_equal(img.setup, file.data + 0x1f1,
				    img.setup_bytes);
		kernel_image_release(&img);
	}
}

/* Where a kernel of three LZ4 blocks has its parts; the text lies across two of them. */
#define BIG_BYTES (20UL << 20)
#define BIG_TEXT  ((8UL << 20) - 0x1000)
#define BIG_DATA  (16UL << 20)
#define BIG_NOTE  (18UL << 20)

static void put(uint8_t *p, uint64_t value, size_t bytes)
{
	memcpy(p, &value, bytes);
}

static uint8_t *make_big_vmlinux(void)
{
	uint8_t *big = calloc(1, BIG_BYTES);
	const uint64_t offsets[] = {BIG_TEXT, BIG_DATA, BIG_NOTE};

	assert_non_null(big);
	test_elf64(&vmlinux, true);
	memcpy(big, vmlinux.data, 0x200);
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		Elf64_Phdr p;
		uint8_t *at = big + sizeof(Elf64_Ehdr) + i * sizeof(p);

		memcpy(&p, at, sizeof(p));
		memcpy(big + offsets[i], vmlinux.data + p.p_offset, p.p_filesz);
		p.p_offset = offsets[i];
		memcpy(at, &p, sizeof(p));
	}
	return big;
}

/* The small kernel's bzImage with another payload. Return: its length. */
static size_t pack(const uint8_t *kernel, size_t bytes, uint8_t *to, size_t max)
{
	uint8_t *const payload = to + 512 * 3 + 0x40;
	size_t len = 4;

	put(payload, 0x184c2102, 4);
	for (size_t at = 0; at < bytes; at += 8UL << 20) {
		const size_t n = bytes - at < 8UL << 20 ? bytes - at : 8UL << 20;
		const int packed = LZ4_compress_default(
			(const char *)kernel + at, (char *)payload + len + 4,
			(int)n, (int)(max - 4096 - len));

		assert_true(packed > 0);
		put(payload + len, (uint64_t)packed, 4);
		len += 4 + (size_t)packed;
	}
	put(payload + len, bytes, 4);
	len += 4;
	put(to + 0x24c, len, 4);
	put(to + 0x1f4, (0x40 + len + 15) / 16, 4);
	return 512 * 3 + (0x40 + len + 15) / 16 * 16;
}

static void make_big_bzimage(void)
{
	uint8_t *big = make_big_vmlinux();

	test_bzimage(&file, &vmlinux, TEST_LZ4);
	file.bytes = pack(big, BIG_BYTES, file.data, TEST_FILE_MAX);
	free(big);
}

static int check_piece(void *ctx, uint64_t addr, const uint8_t *data,
		       uint64_t bytes, struct err *err)
{
	uint64_t *seen = ctx;

	(void)err;
	for (uint64_t i = 0; i < bytes; i++) {
		if (addr < TEST_DATA_ADDR)
			assert_int_equal(data[i],
					 test_text_byte(addr - TEST_TEXT_ADDR +
							i));
		else
			assert_int_equal(data[i], 0xda);
	}
	*seen += bytes;
	return 0;
}

/* The packed bytes of a block of the big kernel. */
static uint8_t *packed_block(unsigned int idx)
{
	uint8_t *at = file.data + 512 * 3 + 0x40 + 4;
	uint32_t len;

	for (; idx; idx--) {
		memcpy(&len, at, 4);
		at += 4 + len;
	}
	return at + 4;
}

static void test_bzimage_by_blocks(void **state)
{
	struct err err = {0};
	uint64_t seen = 0;
	const struct kernel_taker taker = {.piece = check_piece, .ctx = &seen};

	(void)state;
	make_big_bzimage();
	expect_ok(&file);
	assert_non_null(img.packed);
	assert_int_equal(kernel_image_find_pvh(&img, &err), 0);
	assert_true(img.has_pvh);
	assert_int_equal(img.pvh_entry, TEST_PVH_ENTRY);
	assert_int_equal(img.segments[0].file_bytes, TEST_TEXT_BYTES);
	assert_int_equal(kernel_image_walk(&img, &taker, &err), 0);
	assert_int_equal(seen, TEST_TEXT_BYTES + TEST_DATA_BYTES);
	/* Behind the data of the last block nobody looks. */
	memset(file.data + file.bytes - 64, 0, 32);
	assert_int_equal(kernel_image_walk(&img, &taker, &err), 0);
	assert_int_equal(seen, 2 * (TEST_TEXT_BYTES + TEST_DATA_BYTES));
	/* Its length: it ends before the data does. */
	put(packed_block(2) - 4, 8, 4);
	assert_int_equal(kernel_image_walk(&img, &taker, &err), -ENOEXEC);
	assert_non_null(strstr(err.text, "damaged"));
	kernel_image_release(&img);
}

/* A kernel whose text does not compress, and fills the second block. */
#define DENSE_BYTES (UINT64_C(14) << 20)
#define DENSE_TEXT  (UINT64_C(2) << 20)
#define DENSE_DATA  UINT64_C(0x4000000)

static uint8_t *make_dense_vmlinux(void)
{
	uint8_t *big = calloc(1, DENSE_BYTES);
	uint8_t *const phdrs = big + sizeof(Elf64_Ehdr);
	uint32_t x = 1;
	Elf64_Phdr p;

	assert_non_null(big);
	test_elf64(&vmlinux, false);
	memcpy(big, vmlinux.data, vmlinux.bytes);
	memcpy(&p, phdrs, sizeof(p));
	p.p_offset = DENSE_TEXT;
	p.p_filesz = p.p_memsz = DENSE_BYTES - DENSE_TEXT;
	memcpy(phdrs, &p, sizeof(p));
	memcpy(&p, phdrs + sizeof(p), sizeof(p));
	p.p_paddr = DENSE_DATA;
	memcpy(phdrs + sizeof(p), &p, sizeof(p));
	for (uint64_t i = DENSE_TEXT; i < DENSE_BYTES; i++) {
		x = x * 1664525 + 1013904223;
		big[i] = (uint8_t)(x >> 24);
	}
	return big;
}

/* Memory from TEST_TEXT_ADDR on; what is given as room is not given as a piece. */
struct placed {
	uint8_t *memory;
	uint64_t in_place_bytes;
	bool refuse;
};

static int place_piece(void *ctx, uint64_t addr, const uint8_t *data,
		       uint64_t bytes, struct err *err)
{
	const struct placed *p = ctx;

	(void)err;
	if (addr < DENSE_DATA)
		memcpy(p->memory + (addr - TEST_TEXT_ADDR), data, bytes);
	return 0;
}

static void give_rooms(void *ctx, struct kernel_room *rooms, uint64_t n)
{
	struct placed *p = ctx;

	for (uint64_t i = 0; i < n; i++) {
		rooms[i].at = NULL;
		if (p->refuse || !rooms[i].bytes)
			continue;
		assert_in_range(rooms[i].addr, TEST_TEXT_ADDR, DENSE_DATA - 1);
		p->in_place_bytes += rooms[i].bytes;
		rooms[i].at = p->memory + (rooms[i].addr - TEST_TEXT_ADDR);
	}
}

static void test_bzimage_in_place(void **state)
{
	const size_t max = 20UL << 20;
	uint8_t *big = make_dense_vmlinux();
	uint8_t *packed = malloc(max);
	struct placed p = {.memory = malloc(DENSE_BYTES)};
	struct kernel_taker taker = {place_piece, give_rooms, &p, 0};
	struct err err = {0};
	size_t bytes;

	(void)state;
	assert_non_null(packed);
	assert_non_null(p.memory);
	test_bzimage(&file, &vmlinux, TEST_LZ4);
	memcpy(packed, file.data, file.bytes);
	bytes = pack(big, DENSE_BYTES, packed, max);
	for (unsigned int i = 0; i < 2 * (KERNEL_THREADS_MAX + 1); i++) {
		p.refuse = i % 2;
		taker.n_threads = i / 2;
		p.in_place_bytes = 0;
		memset(p.memory, 0xee, DENSE_BYTES);
		assert_int_equal(kernel_image_init(&img, packed, bytes, &err),
				 0);
		assert_int_equal(kernel_image_walk(&img, &taker, &err), 0);
		assert_memory_equal(p.memory, big + DENSE_TEXT,
				    DENSE_BYTES - DENSE_TEXT);
		/* The first block has headers before the text. */
		assert_int_equal(p.in_place_bytes,
				 p.refuse ? 0 : DENSE_BYTES - (8UL << 20));
		kernel_image_release(&img);
	}
	free(p.memory);
	free(packed);
	free(big);
}

static void test_bzimage_truncated(void **state)
{
	(void)state;
	test_elf64(&vmlinux, false);
	test_bzimage(&file, &vmlinux, TEST_LZ4);
	const size_t whole = file.bytes;

	for (file.bytes = 0x268; file.bytes < whole; file.bytes += 7)
		expect_refused(&file, "truncated bzImage");
	file.bytes = 0x250;
	expect_refused(&file, "truncated bzImage");
	file.bytes = whole;
	file.data[0x24e] ^= 0x80;
	expect_refused(&file, "damaged bzImage: payload of");
}

static void test_bzimage_refused(void **state)
{
	(void)state;
	test_elf64(&vmlinux, false);
	test_bzimage(&file, &vmlinux, TEST_ZSTD);
	file.data[0x236] &= 0xfe;
	expect_refused(&file, "32-bit kernel");
	file.data[0x207] = 1;
	expect_refused(&file, "boot protocol is 1.15");

	test_bzimage(&file, &vmlinux, TEST_ZSTD);
	file.data[512 * 3 + 0x40] ^= 0xff;
	expect_refused(&file, "no known compressed format");

	vmlinux.data[1] = 'X';
	test_bzimage(&file, &vmlinux, TEST_XZ);
	expect_refused(&file, "not an ELF file");
}

static void test_plain_elf64(void **state)
{
	(void)state;
	test_elf64(&file, false);
	expect_ok(&file);
	assert_int_equal(img.kind, KERNEL_ELF64);
	assert_false(img.has_pvh);
	assert_int_equal(img.setup_bytes, 0);
	check_segments();

	/* An entry given as a virtual address is found in its segment. */
	const uint64_t entry = UINT64_C(0xffffffff81000123);

	memcpy(file.data + offsetof(Elf64_Ehdr, e_entry), &entry, 8);
	expect_ok(&file);
	assert_int_equal(img.linux64_entry, TEST_TEXT_ADDR + 0x123);
}

static void set_phdr(unsigned int idx, size_t member, uint64_t value)
{
	memcpy(file.data + sizeof(Elf64_Ehdr) + idx * sizeof(Elf64_Phdr) + member,
	       &value, 8);
}

static void test_elf_damaged(void **state)
{
	(void)state;
	test_elf64(&file, true);
	set_phdr(0, offsetof(Elf64_Phdr, p_filesz), TEST_TEXT_BYTES + 1);
	expect_refused(&file, "damaged: segment at 0x1000000");

	test_elf64(&file, true);
	set_phdr(1, offsetof(Elf64_Phdr, p_paddr), TEST_TEXT_ADDR + 0x1000);
	expect_refused(&file, "overlap");

	test_elf64(&file, true);
	set_phdr(1, offsetof(Elf64_Phdr, p_paddr), UINT64_MAX - 0x1000);
	expect_refused(&file, "damaged: segment");

	test_elf64(&file, true);
	set_phdr(1, offsetof(Elf64_Phdr, p_offset), UINT64_MAX - 0x1000);
	expect_refused(&file, "truncated: segment 1");

	test_elf64(&file, true);
	set_phdr(0, offsetof(Elf64_Phdr, p_paddr), 0x2000000);
	set_phdr(0, offsetof(Elf64_Phdr, p_vaddr), 0x2000000);
	expect_refused(&file, "its entry 0x1000000 lies in none");

	test_elf64(&file, true);
	file.bytes = 0x80;
	expect_refused(&file, "program headers lie beyond");
	file.bytes = 0x30;
	expect_refused(&file, "truncated or damaged ELF");
}

/* No prefix of a file may be taken for the whole, or be read beyond its end. */
static void test_every_prefix(void **state)
{
	(void)state;
	test_elf64(&vmlinux, true);
	for (size_t n = 0; n < vmlinux.bytes; n += n < 1024 ? 1 : 61) {
		/* An exact allocation lets a sanitizer see the first byte too far. */
		uint8_t *copy = malloc(n ? n : 1);
		struct err err = {0};

		memcpy(copy, vmlinux.data, n);
		assert_int_equal(kernel_image_init(&img, copy, n, &err),
				 -ENOEXEC);
		free(copy);
	}
}

static void test_multiboot_files(void **state)
{
	(void)state;
	test_elf32(&file, true, false);
	expect_ok(&file);
	assert_int_equal(img.kind, KERNEL_ELF32);
	assert_true(img.has_multiboot);
	assert_false(img.has_linux64);
	assert_int_equal(img.multiboot_entry, TEST_TEXT_ADDR + 0x20);
	check_segments();

	/* The loader must give what the header requires. */
	file.data[0x1000 + 12] = 4;
	file.data[0x1000 + 16] -= 4;
	expect_refused(&file, "asks for features");

	test_elf32(&file, false, true);
	expect_ok(&file);
	assert_true(img.has_pvh);
	assert_false(img.has_multiboot);

	test_elf32(&file, false, false);
	expect_refused(&file, "neither a multiboot header nor a PVH note");
}

static void test_flat_files(void **state)
{
	(void)state;
	test_flat(&file);
	expect_ok(&file);
	assert_int_equal(img.kind, KERNEL_FLAT);
	assert_int_equal(img.n_segments, 1);
	assert_int_equal(img.segments[0].addr, 0x200000);
	assert_int_equal(img.segments[0].file_bytes, 0x2000);
	assert_int_equal(img.segments[0].mem_bytes, 0x8000);
	assert_int_equal(img.multiboot_entry, 0x200080);

	file.bytes = 0x1000;
	expect_refused(&file, "truncated");
	file.bytes = 0x50;
	expect_refused(&file, "truncated inside its multiboot header");

	test_flat(&file);
	file.data[0x40 + 30] = 0x40;
	expect_refused(&file, "entry");
}

static void test_foreign_files(void **state)
{
	static const struct {
		size_t offset;
		const char *magic;
		const char *why;
	} all[] = {
		{0x38, "ARMd", "arm64"},
		{0x38, "RSC\x05", "RISC-V"},
		{0, "MZ", "UEFI"},
		{0, "070701", "cpio"},
		{0, "!<arch>\n", "Debian package"},
		{0, "QFI\xfb", "disk image"},
		{0, "\x1f\x8b", "compressed with gzip"},
		{0,
		 "\xfd"
		 "7zXZ",
		 "compressed with xz"},
		{0, "#!/bin/sh", "it is not a kernel"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		memset(file.data, 0, 4096);
		memcpy(file.data + all[i].offset, all[i].magic,
		       strlen(all[i].magic));
		file.bytes = 4096;
		expect_refused(&file, all[i].why);
	}
	test_elf64(&file, false);
	file.data[offsetof(Elf64_Ehdr, e_machine)] = EM_AARCH64;
	expect_refused(&file, "arm64");
	test_elf64(&file, false);
	file.data[offsetof(Elf64_Ehdr, e_type)] = ET_DYN;
	expect_refused(&file, "type 3");
	test_elf64(&file, false);
	file.data[EI_DATA] = ELFDATA2MSB;
	expect_refused(&file, "big-endian");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bzimage_of_each_format),
		cmocka_unit_test(test_bzimage_by_blocks),
		cmocka_unit_test(test_bzimage_in_place),
		cmocka_unit_test(test_bzimage_truncated),
		cmocka_unit_test(test_bzimage_refused),
		cmocka_unit_test(test_plain_elf64),
		cmocka_unit_test(test_elf_damaged),
		cmocka_unit_test(test_every_prefix),
		cmocka_unit_test(test_multiboot_files),
		cmocka_unit_test(test_flat_files),
		cmocka_unit_test(test_foreign_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
