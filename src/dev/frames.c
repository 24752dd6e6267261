/* SPDX-License-Identifier: Apache-2.0 */
/* Frames on a stream socket. */
#include <dev/frames.h>

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <base/verify.h>

#define HEAD_BYTES sizeof(uint32_t)

void frames_init(struct frames *f, int fd)
{
	f->fd = fd;
	f->n_in = 0;
	f->skip = 0;
	f->n_out = 0;
	f->too_long = 0;
}

void frames_flush(struct frames *f)
{
	ssize_t n;

	if (!f->n_out)
		return;
	n = write(f->fd, f->out, f->n_out);
	/* The reader is told that the other end is gone. */
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		n = (ssize_t)f->n_out;
	if (n <= 0)
		return;
	f->n_out -= (size_t)n;
	memmove(f->out, f->out + n, f->n_out);
}

bool frames_send(struct frames *f, const void *frame, size_t len)
{
	const uint32_t head = htobe32((uint32_t)len);

	VERIFY(len <= FRAME_MAX_BYTES);
	if (frames_room(f) < HEAD_BYTES + len)
		frames_flush(f);
	if (frames_room(f) < HEAD_BYTES + len)
		return false;
	memcpy(f->out + f->n_out, &head, HEAD_BYTES);
	memcpy(f->out + f->n_out + HEAD_BYTES, frame, len);
	f->n_out += HEAD_BYTES + len;
	frames_flush(f);
	return true;
}

/* Leave out what came of a frame that is too long. Return: bytes of @f->in that are gone. */
static size_t skip(struct frames *f, size_t at)
{
	const size_t n = f->skip < f->n_in - at ? (size_t)f->skip : f->n_in - at;

	f->skip -= n;
	return n;
}

/* Return: whether all whole frames were taken. */
static bool pass_on(struct frames *f,
		    bool (*take)(void *ctx, const uint8_t *frame, size_t len),
		    void *ctx)
{
	size_t at = 0;
	bool taken = true;

	for (;;) {
		uint32_t len;

		at += skip(f, at);
		if (f->n_in - at < HEAD_BYTES)
			break;
		memcpy(&len, f->in + at, HEAD_BYTES);
		len = be32toh(len);
		if (len > FRAME_MAX_BYTES) {
			f->too_long++;
			f->skip = HEAD_BYTES + (uint64_t)len;
			continue;
		}
		if (f->n_in - at < HEAD_BYTES + len)
			break;
		taken = take(ctx, f->in + at + HEAD_BYTES, len);
		if (!taken)
			break;
		at += HEAD_BYTES + len;
	}
	f->n_in -= at;
	memmove(f->in, f->in + at, f->n_in);
	return taken;
}

int frames_receive(struct frames *f,
		   bool (*take)(void *ctx, const uint8_t *frame, size_t len),
		   void *ctx)
{
	ssize_t n;

	/* What was not taken last time comes first; then there is room for a frame at least. */
	if (!pass_on(f, take, ctx))
		return 0;
	n = read(f->fd, f->in + f->n_in, FRAMES_ROOM - f->n_in);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	f->n_in += (size_t)n;
	return pass_on(f, take, ctx) ? 1 : 0;
}
