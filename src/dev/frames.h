/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet frames on a stream socket: each has its length before it, 4 bytes, the highest
 * first. This is what passt, and QEMU's "stream" network, speak on a Unix socket.
 *
 * Neither end waits for the other. A frame is passed on whole or not at all; what the
 * socket does not take at once is kept, up to a bound.
 */
#ifndef DEV_FRAMES_H
#define DEV_FRAMES_H
#include <base/types.h>

/* A frame of Ethernet with one VLAN tag, without its checksum. */
#define FRAME_MAX_BYTES 1518
#define FRAMES_ROOM     65536

/**
 * struct frames - one end of a connection; one thread at a time. Large: allocate it.
 * @fd: the socket, not blocking; belongs to the owner
 * @in: bytes that have come, from the beginning of a frame on
 * @n_in: how many
 * @skip: bytes to come that belong to a frame that is too long
 * @out: bytes that the socket has not taken yet
 * @n_out: how many
 * @too_long: frames that were dropped, being longer than FRAME_MAX_BYTES
 */
struct frames {
	int fd;
	uint8_t in[FRAMES_ROOM];
	size_t n_in;
	uint64_t skip;
	uint8_t out[FRAMES_ROOM];
	size_t n_out;
	uint64_t too_long;
};

/** frames_init() - nothing has come, nothing is kept. */
void frames_init(struct frames *f, int fd);

/**
 * frames_send() - send a frame.
 * @f: the connection
 * @frame: @len bytes
 * @len: 0 to FRAME_MAX_BYTES
 *
 * Return: whether it was taken. If not, there is no room: wait until the socket is writable,
 * and frames_flush(). A connection that is broken takes everything.
 */
bool frames_send(struct frames *f, const void *frame, size_t len);

/** frames_flush() - send what is kept, as far as the socket takes it. */
void frames_flush(struct frames *f);

/** frames_waiting() - is something kept, so that the socket should become writable? */
static inline bool frames_waiting(const struct frames *f)
{
	return f->n_out > 0;
}

/** frames_room() - bytes that may still be kept. */
static inline size_t frames_room(const struct frames *f)
{
	return FRAMES_ROOM - f->n_out;
}

/**
 * frames_receive() - pass on what has come.
 * @f: the connection
 * @take: called with each frame, in order; false: not now, call again with the same
 * @ctx: passed to @take
 *
 * Reads once, so that a peer that never stops cannot keep the caller.
 *
 * Return: 1 if something was read and there may be more; 0 if there is nothing (more), or @take
 * takes nothing; -EPIPE if the other end is gone, or what read() reports.
 */
int frames_receive(struct frames *f,
		   bool (*take)(void *ctx, const uint8_t *frame, size_t len),
		   void *ctx) __attribute__((warn_unused_result));

#endif
