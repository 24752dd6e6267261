/* SPDX-License-Identifier: Apache-2.0 */
/* Decompression of kernel payloads: one adapter per format over the format's usual library. */
#include <boot/unpack.h>

#include <bzlib.h>
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

#include <base/verify.h>
#include <boot/bytes.h>

#define HUGE_PAGE_BYTES   (UINT64_C(2) << 20)
#define LZ4_LEGACY_MAGIC  0x184c2102U
#define LZMA_MEMORY_BYTES (UINT64_C(1) << 30)

struct span {
	const uint8_t *in;
	size_t in_bytes;
	uint8_t *out;
	size_t out_bytes;
};

/* Each fills @out exactly, or returns false. */
typedef bool (*unpack_fn)(const struct span *s);

static bool unpack_gzip(const struct span *s)
{
	z_stream z = {
		/* The library's member lacks a const; it only reads. */
		.next_in = (Bytef *)(uintptr_t)s->in,
		.avail_in = (uInt)s->in_bytes,
		.next_out = s->out,
		.avail_out = (uInt)s->out_bytes,
	};

	/* 16 asks for a gzip header around the largest window. */
	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return false;
	const int r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return r == Z_STREAM_END && z.avail_out == 0;
}

static bool unpack_bzip2(const struct span *s)
{
	unsigned int len = (unsigned int)s->out_bytes;
	/* The library's prototype lacks a const; it only reads. */
	char *in = (char *)(uintptr_t)s->in;
	const int r = BZ2_bzBuffToBuffDecompress((char *)s->out, &len, in,
						 (unsigned int)s->in_bytes, 0,
						 0);

	return r == BZ_OK && len == s->out_bytes;
}

static bool run_lzma(lzma_stream *l, const struct span *s)
{
	l->next_in = s->in;
	l->avail_in = s->in_bytes;
	l->next_out = s->out;
	l->avail_out = s->out_bytes;

	lzma_ret r = lzma_code(l, LZMA_FINISH);
	const bool full = l->avail_out == 0;
	uint8_t extra;

	/* The end mark or checksum is read only while there is room for one more byte. */
	if (r == LZMA_OK && full) {
		l->next_out = &extra;
		l->avail_out = 1;
		r = lzma_code(l, LZMA_FINISH);
		l->next_out = NULL;
	}
	const bool ended = r == LZMA_STREAM_END && l->total_out == s->out_bytes;

	lzma_end(l);
	return full && ended;
}

static bool unpack_lzma(const struct span *s)
{
	lzma_stream l = LZMA_STREAM_INIT;

	return lzma_alone_decoder(&l, LZMA_MEMORY_BYTES) == LZMA_OK &&
	       run_lzma(&l, s);
}

static bool unpack_xz(const struct span *s)
{
	lzma_stream l = LZMA_STREAM_INIT;

	return lzma_stream_decoder(&l, LZMA_MEMORY_BYTES, 0) == LZMA_OK &&
	       run_lzma(&l, s);
}

/*
 * Legacy frames: a magic number, then blocks of at most 8 MiB with their packed size in front.
 * A magic number may come again where a block could start. Moves *@at to the next block.
 */
static bool lz4_next(const uint8_t *in, size_t in_bytes, size_t *at,
		     uint32_t *ret_len)
{
	uint32_t len;

	do {
		if (in_bytes - *at < 4)
			return false;
		len = get_le32(in + *at);
		*at += 4;
	} while (len == LZ4_LEGACY_MAGIC);
	*ret_len = len;
	return len <= in_bytes - *at && len <= INT32_MAX;
}

static bool unpack_lz4(const struct span *s)
{
	size_t at = 0;
	size_t done = 0;

	while (done < s->out_bytes) {
		size_t room = s->out_bytes - done;
		uint32_t len;

		if (!lz4_next(s->in, s->in_bytes, &at, &len))
			return false;
		if (room > UNPACK_BLOCK_BYTES)
			room = UNPACK_BLOCK_BYTES;
		const int n = LZ4_decompress_safe((const char *)s->in + at,
						  (char *)s->out + done,
						  (int)len, (int)room);
		if (n <= 0)
			return false;
		done += (size_t)n;
		at += len;
	}
	return true;
}

static bool unpack_zstd(const struct span *s)
{
	const size_t len = ZSTD_findFrameCompressedSize(s->in, s->in_bytes);

	if (ZSTD_isError(len))
		return false;
	const size_t n = ZSTD_decompress(s->out, s->out_bytes, s->in, len);

	return !ZSTD_isError(n) && n == s->out_bytes;
}

/* Formats by their first bytes; @fn is NULL for one that we know but cannot unpack. */
static const struct format {
	const char *name;
	uint8_t magic[6];
	uint8_t magic_bytes;
	unpack_fn fn;
} formats[] = {
	{"gzip", {0x1f, 0x8b}, 2, unpack_gzip},
	{"bzip2", {'B', 'Z', 'h'}, 3, unpack_bzip2},
	{"LZMA", {0x5d, 0x00, 0x00}, 3, unpack_lzma},
	{"xz", {0xfd, '7', 'z', 'X', 'Z', 0x00}, 6, unpack_xz},
	{"LZO", {0x89, 'L', 'Z', 'O'}, 4, NULL},
	{"LZ4", {0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4},
	{"Zstandard", {0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd},
};

static const struct format *find_format(const uint8_t *in, size_t in_bytes)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		const struct format *f = &formats[i];

		if (in_bytes >= f->magic_bytes &&
		    !memcmp(in, f->magic, f->magic_bytes))
			return f;
	}
	return NULL;
}

const char *unpack_format(const uint8_t *in, size_t in_bytes)
{
	const struct format *f = find_format(in, in_bytes);

	return f ? f->name : NULL;
}

/* Large pages where the host has them: page faults cost more than the copying. */
static uint8_t *alloc_output(size_t bytes)
{
	const size_t whole = (bytes + HUGE_PAGE_BYTES - 1) &
			     ~(HUGE_PAGE_BYTES - 1);

	if (bytes < HUGE_PAGE_BYTES)
		return malloc(bytes);
	uint8_t *p = aligned_alloc(HUGE_PAGE_BYTES, whole);

	if (p)
		(void)madvise(p, whole, MADV_HUGEPAGE);
	return p;
}

int unpack(const uint8_t *in, size_t in_bytes, size_t out_bytes,
	   uint8_t **ret_out, struct err *err)
{
	const struct format *f = find_format(in, in_bytes);

	if (!f)
		return err_set(err, -ENOEXEC,
			       "its payload is in no known compressed format");
	if (!f->fn)
		return err_set(
			err, -ENOEXEC,
			"its payload is compressed with %s, which is not supported",
			f->name);
	if (out_bytes == 0 || out_bytes > UNPACK_MAX_BYTES ||
	    in_bytes > UNPACK_MAX_BYTES)
		return err_set(
			err, -ENOEXEC,
			"its payload claims to unpack to %zu bytes, which no kernel does",
			out_bytes);

	uint8_t *out = alloc_output(out_bytes);

	if (!out)
		return err_set(err, -ENOMEM,
			       "no memory to unpack %zu bytes of kernel",
			       out_bytes);
	const struct span s = {in, in_bytes, out, out_bytes};

	if (!f->fn(&s)) {
		free(out);
		return err_set(err, -ENOEXEC,
			       "its %s payload is damaged or truncated",
			       f->name);
	}
	*ret_out = out;
	return 0;
}

uint64_t unpack_n_blocks(const uint8_t *in, size_t in_bytes, size_t out_bytes)
{
	const struct format *f = find_format(in, in_bytes);

	if (!f || f->fn != unpack_lz4 || !out_bytes ||
	    out_bytes > UNPACK_MAX_BYTES)
		return 0;
	return (out_bytes + UNPACK_BLOCK_BYTES - 1) / UNPACK_BLOCK_BYTES;
}

/* Where a block starts. Return: whether it is there. */
static bool lz4_block(const uint8_t *in, size_t in_bytes, uint64_t idx,
		      size_t *ret_at, uint32_t *ret_len)
{
	size_t at = 0;
	uint32_t len = 0;

	for (uint64_t i = 0; i <= idx; i++) {
		at += len;
		if (!lz4_next(in, in_bytes, &at, &len))
			return false;
	}
	*ret_at = at;
	*ret_len = len;
	return true;
}

size_t unpack_block_packed(const uint8_t *in, size_t in_bytes, uint64_t idx)
{
	size_t at;
	uint32_t len;

	return lz4_block(in, in_bytes, idx, &at, &len) ? len : 0;
}

static bool lz4_unpack(const uint8_t *in, uint32_t len, uint64_t bytes,
		       uint64_t wanted_bytes, uint8_t *out)
{
	const int n = wanted_bytes == bytes
			      ? LZ4_decompress_safe((const char *)in,
						    (char *)out, (int)len,
						    (int)bytes)
			      : LZ4_decompress_safe_partial((const char *)in,
							    (char *)out,
							    (int)len,
							    (int)wanted_bytes,
							    (int)wanted_bytes);

	return n == (int)wanted_bytes;
}

int unpack_block(const uint8_t *in, size_t in_bytes, size_t out_bytes,
		 uint64_t idx, uint64_t wanted_bytes, uint8_t *out,
		 struct err *err)
{
	uint64_t bytes = out_bytes - idx * UNPACK_BLOCK_BYTES;
	size_t at;
	uint32_t len;

	if (bytes > UNPACK_BLOCK_BYTES)
		bytes = UNPACK_BLOCK_BYTES;
	VERIFY(wanted_bytes <= bytes);
	if (!lz4_block(in, in_bytes, idx, &at, &len))
		return err_set(err, -ENOEXEC, "its LZ4 payload is truncated");
	if (!lz4_unpack(in + at, len, bytes, wanted_bytes, out))
		return err_set(err, -ENOEXEC,
			       "its LZ4 payload is damaged or truncated");
	return 0;
}

/*
 * Not from the heap, which keeps what was freed for next time: there is none. In large pages
 * where the host has them: page faults cost as much as the copying.
 */
uint8_t *unpack_room_new(void)
{
	uint8_t *p = mmap(NULL, UNPACK_BLOCK_BYTES + HUGE_PAGE_BYTES,
			  PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t before;

	if (p == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)p & (HUGE_PAGE_BYTES - 1);
	if (before)
		munmap(p, before);
	if (before < HUGE_PAGE_BYTES)
		munmap(p + before + UNPACK_BLOCK_BYTES,
		       HUGE_PAGE_BYTES - before);
	(void)madvise(p + before, UNPACK_BLOCK_BYTES, MADV_HUGEPAGE);
	return p + before;
}

void unpack_room_free(uint8_t *room)
{
	if (room)
		munmap(room, UNPACK_BLOCK_BYTES);
}
