/* SPDX-License-Identifier: Apache-2.0 */
/* The overlay: a nameless file, and a bitmap that takes memory only where it is written. */
#include <dev/overlay.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <base/sparse.h>
#include <base/verify.h>

#define WORD_BITS 64

struct overlay {
	int fd;
	uint64_t sectors;
	uint64_t *map; /* a mapping: pages of it exist once a bit is set */
	size_t map_bytes;
};

/* Not every file system knows O_TMPFILE. */
static int nameless_file(const char *dir)
{
	char path[4096];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	if (snprintf(path, sizeof(path), "%s/overlay-XXXXXX", dir) >=
	    (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

static int make_file(struct overlay *o, const char *dir, struct err *err)
{
	o->fd = nameless_file(dir);
	if (o->fd < 0)
		return err_set(err, -errno,
			       "cannot make a file for a disk's changes in %s: %s",
			       dir, strerror(errno));
	if (ftruncate(o->fd, (off_t)(o->sectors * OVERLAY_SECTOR_BYTES)))
		return err_set(err, -errno,
			       "a disk's changes do not fit into a file in %s: %s",
			       dir, strerror(errno));
	return 0;
}

static int make_map(struct overlay *o, struct err *err)
{
	o->map_bytes = (o->sectors + WORD_BITS - 1) / WORD_BITS *
		       sizeof(*o->map);
	o->map = sparse_new(o->map_bytes);
	if (!o->map)
		return err_set(err, -ENOMEM,
			       "no memory to note a disk's changes");
	return 0;
}

int overlay_new(const char *dir, uint64_t sectors, struct overlay **ret,
		struct err *err)
{
	struct overlay *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return err_set(err, -ENOMEM,
			       "no memory to note a disk's changes");
	o->sectors = sectors;
	r = make_file(o, dir, err);
	if (!r)
		r = make_map(o, err);
	if (r) {
		overlay_free(o);
		return r;
	}
	*ret = o;
	return 0;
}

struct overlay *overlay_free(struct overlay *overlay)
{
	if (!overlay)
		return NULL;
	sparse_free(overlay->map, overlay->map_bytes);
	if (overlay->fd >= 0)
		close(overlay->fd);
	free(overlay);
	return NULL;
}

int overlay_fd(const struct overlay *overlay)
{
	return overlay->fd;
}

/* The first sector from @at on, before @end, whose bit is not @is; else @end. */
static uint64_t find_change(const struct overlay *o, uint64_t at, uint64_t end,
			    bool is)
{
	while (at < end) {
		const uint64_t word = o->map[at / WORD_BITS];
		const uint64_t others = (is ? ~word : word) >> at % WORD_BITS;

		if (others) {
			at += (uint64_t)__builtin_ctzll(others);
			return at < end ? at : end;
		}
		at = (at / WORD_BITS + 1) * WORD_BITS;
	}
	return end;
}

uint64_t overlay_run(const struct overlay *overlay, uint64_t pos, uint64_t len,
		     bool *ret_here)
{
	const uint64_t first = pos / OVERLAY_SECTOR_BYTES;
	const uint64_t end = (pos + len + OVERLAY_SECTOR_BYTES - 1) /
			     OVERLAY_SECTOR_BYTES;
	uint64_t stop;

	VERIFY(len && end <= overlay->sectors);
	*ret_here = overlay->map[first / WORD_BITS] >> first % WORD_BITS & 1;
	stop = find_change(overlay, first, end, *ret_here) *
	       OVERLAY_SECTOR_BYTES;
	return stop < pos + len ? stop - pos : len;
}

void overlay_mark(struct overlay *overlay, uint64_t sector, uint64_t n)
{
	VERIFY(sector <= overlay->sectors && n <= overlay->sectors - sector);
	while (n) {
		const uint64_t bit = sector % WORD_BITS;
		const uint64_t some = n < WORD_BITS - bit ? n : WORD_BITS - bit;

		overlay->map[sector / WORD_BITS] |= (some == WORD_BITS
							     ? ~UINT64_C(0)
							     : (UINT64_C(1)
								<< some) -
								       1)
						    << bit;
		sector += some;
		n -= some;
	}
}
