/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacks the payload of a kernel image on the host, so that the guest does not spend its first
 * hundred million instructions on it.
 */
#ifndef BOOT_UNPACK_H
#define BOOT_UNPACK_H
#include <base/error.h>
#include <base/types.h>

/* Larger than any kernel; a payload that claims more is damaged. */
#define UNPACK_MAX_BYTES   (UINT64_C(512) << 20)

#define UNPACK_BLOCK_BYTES (UINT64_C(8) << 20)

/**
 * unpack() - decompress one stream: gzip, bzip2, LZMA, xz, LZ4 (legacy frames) or Zstandard.
 * @in: the stream; bytes after its end are ignored
 * @in_bytes: how many there are
 * @out_bytes: how many it must unpack to; at most UNPACK_MAX_BYTES
 * @ret_out: set on success to @out_bytes bytes; released with free()
 * @err: message on failure
 *
 * Return: 0; -ENOEXEC if it is damaged, truncated or in another format; -ENOMEM.
 */
int unpack(const uint8_t *in, size_t in_bytes, size_t out_bytes,
	   uint8_t **ret_out, struct err *err)
	__attribute__((warn_unused_result));

/**
 * unpack_n_blocks() - in how many pieces a stream can be unpacked, each by itself.
 * @in: the stream
 * @in_bytes: how many bytes there are
 * @out_bytes: how many it unpacks to
 *
 * Return: 0 if only unpack() can; else all pieces but the last have UNPACK_BLOCK_BYTES.
 */
uint64_t unpack_n_blocks(const uint8_t *in, size_t in_bytes, size_t out_bytes);

/** unpack_room_new() - room for a piece, which goes back to the kernel whole. Return: or NULL. */
uint8_t *unpack_room_new(void);

/** unpack_room_free() - NULL is fine. */
void unpack_room_free(uint8_t *room);

/**
 * unpack_block() - one piece.
 * @in: a stream of which unpack_n_blocks() is not 0
 * @in_bytes: as for unpack_n_blocks()
 * @out_bytes: as for unpack_n_blocks()
 * @idx: below unpack_n_blocks()
 * @wanted_bytes: how many of the piece, from its start on; what is wrong with the others is not
 *	found
 * @out: room for them
 * @err: message on failure
 *
 * Return: 0, or -ENOEXEC if it is damaged or truncated. Context: any number of threads.
 */
int unpack_block(const uint8_t *in, size_t in_bytes, size_t out_bytes,
		 uint64_t idx, uint64_t wanted_bytes, uint8_t *out,
		 struct err *err) __attribute__((warn_unused_result));

/**
 * unpack_block_packed() - how many bytes a piece is packed into; 0 if the stream is damaged.
 * Parameters as for unpack_block().
 */
size_t unpack_block_packed(const uint8_t *in, size_t in_bytes, uint64_t idx);

/** unpack_format() - name of the format that @in starts with, or NULL if it is unknown. */
const char *unpack_format(const uint8_t *in, size_t in_bytes);

#endif
