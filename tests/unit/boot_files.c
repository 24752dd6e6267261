/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel files for tests, written member by member without the loader's own code. */
#include "boot_files.h"

#include <assert.h>
#include <bzlib.h>
#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define DATA_OFFSET 0x4000
#define NOTE_OFFSET 0x200
#define NOTE_BYTES  20
#define ELF_BYTES   (DATA_OFFSET + TEST_DATA_BYTES)

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static void put16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

uint8_t test_text_byte(size_t i)
{
	return i >= 0x1000 && i < 0x2000 ? 0 : (uint8_t)(i % 251 + 1);
}

static void fill_contents(struct test_file *f)
{
	memset(f->data, 0, ELF_BYTES);
	f->bytes = ELF_BYTES;
	for (size_t i = 0; i < TEST_TEXT_BYTES; i++)
		f->data[TEST_TEXT_OFFSET + i] = test_text_byte(i);
	memset(f->data + DATA_OFFSET, 0xda, TEST_DATA_BYTES);
}

static void fill_note(struct test_file *f)
{
	put32(f->data + NOTE_OFFSET, 4);
	put32(f->data + NOTE_OFFSET + 4, 4);
	put32(f->data + NOTE_OFFSET + 8, 18);
	memcpy(f->data + NOTE_OFFSET + 12, "Xen", 4);
	put32(f->data + NOTE_OFFSET + 16, TEST_PVH_ENTRY);
}

void test_elf64(struct test_file *f, bool pvh)
{
	const Elf64_Ehdr e = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
			    ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = TEST_TEXT_ADDR,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = pvh ? 3 : 2,
	};
	const Elf64_Phdr p[3] = {
		{.p_type = PT_LOAD,
		 .p_offset = TEST_TEXT_OFFSET,
		 .p_vaddr = UINT64_C(0xffffffff81000000),
		 .p_paddr = TEST_TEXT_ADDR,
		 .p_filesz = TEST_TEXT_BYTES,
		 .p_memsz = TEST_TEXT_BYTES},
		{.p_type = PT_LOAD,
		 .p_offset = DATA_OFFSET,
		 .p_vaddr = UINT64_C(0xffffffff81100000),
		 .p_paddr = TEST_DATA_ADDR,
		 .p_filesz = TEST_DATA_BYTES,
		 .p_memsz = TEST_DATA_MEM},
		{.p_type = PT_NOTE,
		 .p_offset = NOTE_OFFSET,
		 .p_filesz = NOTE_BYTES,
		 .p_memsz = NOTE_BYTES,
		 .p_align = 4},
	};

	fill_contents(f);
	memcpy(f->data, &e, sizeof(e));
	memcpy(f->data + sizeof(e), p, sizeof(p));
	if (pvh)
		fill_note(f);
}

void test_elf32(struct test_file *f, bool multiboot, bool pvh)
{
	const Elf32_Ehdr e = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32,
			    ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_386,
		.e_version = EV_CURRENT,
		.e_entry = TEST_TEXT_ADDR + 0x20,
		.e_phoff = sizeof(Elf32_Ehdr),
		.e_ehsize = sizeof(Elf32_Ehdr),
		.e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = pvh ? 3 : 2,
	};
	const Elf32_Phdr p[3] = {
		{.p_type = PT_LOAD,
		 .p_offset = TEST_TEXT_OFFSET,
		 .p_vaddr = TEST_TEXT_ADDR,
		 .p_paddr = TEST_TEXT_ADDR,
		 .p_filesz = TEST_TEXT_BYTES,
		 .p_memsz = TEST_TEXT_BYTES},
		{.p_type = PT_LOAD,
		 .p_offset = DATA_OFFSET,
		 .p_vaddr = TEST_DATA_ADDR,
		 .p_paddr = TEST_DATA_ADDR,
		 .p_filesz = TEST_DATA_BYTES,
		 .p_memsz = TEST_DATA_MEM},
		{.p_type = PT_NOTE,
		 .p_offset = NOTE_OFFSET,
		 .p_filesz = NOTE_BYTES,
		 .p_memsz = NOTE_BYTES,
		 .p_align = 4},
	};

	fill_contents(f);
	memcpy(f->data, &e, sizeof(e));
	memcpy(f->data + sizeof(e), p, sizeof(p));
	if (pvh)
		fill_note(f);
	if (multiboot) {
		put32(f->data + TEST_TEXT_OFFSET + 8, 0x1badb002);
		put32(f->data + TEST_TEXT_OFFSET + 12, 0);
		put32(f->data + TEST_TEXT_OFFSET + 16, -0x1badb002U);
	}
}

void test_flat(struct test_file *f)
{
	uint8_t *h = f->data + 0x40;

	memset(f->data, 0x90, 0x3000);
	f->bytes = 0x3000;
	put32(h, 0x1badb002);
	put32(h + 4, 0x10000);
	put32(h + 8, -(0x1badb002U + 0x10000U));
	put32(h + 12, 0x200040); /* the header itself */
	put32(h + 16, 0x200000); /* first byte of the file */
	put32(h + 20, 0x202000);
	put32(h + 24, 0x208000);
	put32(h + 28, 0x200080);
}

static size_t pack_gzip(const uint8_t *in, size_t n, uint8_t *out, size_t room)
{
	z_stream z = {.next_in = (Bytef *)(uintptr_t)in,
		      .avail_in = (uInt)n,
		      .next_out = out,
		      .avail_out = (uInt)room};

	assert(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8,
			    Z_DEFAULT_STRATEGY) == Z_OK);
	assert(deflate(&z, Z_FINISH) == Z_STREAM_END);
	deflateEnd(&z);
	return room - z.avail_out;
}

static size_t pack_lzma(bool alone, const uint8_t *in, size_t n, uint8_t *out,
			size_t room)
{
	lzma_stream l = LZMA_STREAM_INIT;
	lzma_options_lzma opt;

	lzma_lzma_preset(&opt, 6);
	assert((alone ? lzma_alone_encoder(&l, &opt)
		      : lzma_easy_encoder(&l, 6, LZMA_CHECK_CRC32)) == LZMA_OK);
	l.next_in = in;
	l.avail_in = n;
	l.next_out = out;
	l.avail_out = room;
	assert(lzma_code(&l, LZMA_FINISH) == LZMA_STREAM_END);
	lzma_end(&l);
	return room - l.avail_out;
}

/* Two blocks, as a kernel of more than 8 MiB has, each of them full in the format's sense. */
static size_t pack_lz4(const uint8_t *in, size_t n, uint8_t *out, size_t room)
{
	const int len = LZ4_compress_default((const char *)in, (char *)out + 8,
					     (int)n, (int)room - 8);

	assert(len > 0);
	put32(out, 0x184c2102);
	put32(out + 4, (uint32_t)len);
	return (size_t)len + 8;
}

size_t test_pack(enum test_format format, const uint8_t *in, size_t in_bytes,
		 uint8_t *out, size_t out_bytes)
{
	unsigned int n = (unsigned int)out_bytes;

	switch (format) {
	case TEST_GZIP:
		return pack_gzip(in, in_bytes, out, out_bytes);
	case TEST_BZIP2:
		assert(BZ2_bzBuffToBuffCompress((char *)out, &n,
						(char *)(uintptr_t)in,
						(unsigned int)in_bytes, 9, 0,
						0) == BZ_OK);
		return n;
	case TEST_LZMA:
		return pack_lzma(true, in, in_bytes, out, out_bytes);
	case TEST_XZ:
		return pack_lzma(false, in, in_bytes, out, out_bytes);
	case TEST_LZ4:
		return pack_lz4(in, in_bytes, out, out_bytes);
	case TEST_ZSTD:
		return ZSTD_compress(out, out_bytes, in, in_bytes, 3);
	case TEST_FORMATS:
		break;
	}
	abort();
}

void test_bzimage(struct test_file *f, const struct test_file *vmlinux,
		  enum test_format format)
{
	const size_t system = 512 * 3;
	const size_t off = 0x40;
	uint8_t *d = f->data;

	memset(d, 0, sizeof(f->data));
	size_t len = test_pack(format, vmlinux->data, vmlinux->bytes,
			       d + system + off,
			       sizeof(f->data) - system - off - 64);

	/* gzip ends with the size itself; for the others the kernel's build adds it. */
	if (format != TEST_GZIP) {
		put32(d + system + off + len, (uint32_t)vmlinux->bytes);
		len += 4;
	}
	d[0x1f1] = 2;
	put32(d + 0x1f4, (uint32_t)(off + len + 15) / 16);
	put16(d + 0x1fe, 0xaa55);
	d[0x200] = 0xeb;
	d[0x201] = 0x6a;
	put32(d + 0x202, 0x53726448); /* "HdrS" */
	put16(d + 0x206, 0x020f);
	put32(d + 0x22c, 0x7fffffff);
	put32(d + 0x230, 0x200000);
	put16(d + 0x236, 0x7f);
	put32(d + 0x238, 2047);
	put32(d + 0x248, (uint32_t)off);
	put32(d + 0x24c, (uint32_t)len);
	f->bytes = system + (off + len + 15) / 16 * 16;
}

void test_write_file(const void *data, size_t bytes, char *path)
{
	strcpy(path, "/tmp/mezz-test-boot-XXXXXX");
	const int fd = mkstemp(path);

	assert(fd >= 0);
	assert(write(fd, data, bytes) == (ssize_t)bytes);
	close(fd);
}
