/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payload that comes in blocks which can be unpacked each by itself, and several at once.
 *
 * A block that lies in the midst of a segment is unpacked into guest memory itself, by any
 * thread. Any other is unpacked beside it and then copied. That is the caller's thread's part, as
 * is everything else that has to do with guest memory: nobody writes in place while it does that.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <base/thread.h>
#include <base/verify.h>
#include <boot/kernel_image_impl.h>
#include <boot/unpack.h>

/* What compresses better than this is tables of zeros, which are not written. */
#define DENSE_PART 4
/* Blocks beside guest memory at one time. */
#define BESIDE_MAX 2

/*
 * One block: its number, how many bytes there are of it and how many of them, from its start on,
 * segments have; and where it is unpacked to, once that is known.
 */
struct block {
	uint64_t idx;
	uint64_t bytes;
	uint64_t wanted_bytes;
	uint8_t *out;
	bool in_place;
	bool done;
	int result;
	struct err err;
};

/* Members: I immutable while threads run, a atomic; a block is whose thread took its number. */
struct crew {
	const struct kernel_image *img;   /* I */
	const struct kernel_taker *taker; /* I */
	struct block *blocks;             /* I */
	uint64_t n_blocks;                /* I */
	_Atomic uint64_t next;            /* a */
	uint8_t *beside[BESIDE_MAX];      /* I or NULL */
};

/* Where a segment starts in the unpacked file. */
static uint64_t offset_of(const struct kernel_image *img,
			  const struct kernel_segment *s)
{
	return (uint64_t)(s->data - img->unpacked);
}

/* The part of a segment that a block has, as a range of the unpacked file; may be empty. */
static bool common_part(const struct kernel_image *img,
			const struct kernel_segment *s, const struct block *b,
			uint64_t *ret_from, uint64_t *ret_to)
{
	const uint64_t first = b->idx * UNPACK_BLOCK_BYTES;
	const uint64_t end = first + b->bytes;
	const uint64_t off = offset_of(img, s);

	*ret_from = off > first ? off : first;
	*ret_to = off + s->file_bytes < end ? off + s->file_bytes : end;
	return *ret_from < *ret_to;
}

/* How large it is, what is wanted of it, and where it may go: no room if it should not. */
static void look_at(const struct kernel_image *img, uint64_t idx,
		    struct block *b, struct kernel_room *room)
{
	const uint64_t first = idx * UNPACK_BLOCK_BYTES;
	const uint64_t rest = img->unpacked_bytes - first;
	uint64_t from, to;

	*b = (struct block){
		.idx = idx,
		.bytes = rest < UNPACK_BLOCK_BYTES ? rest : UNPACK_BLOCK_BYTES,
	};
	*room = (struct kernel_room){0};
	for (unsigned int i = 0; i < img->n_segments; i++) {
		const struct kernel_segment *s = &img->segments[i];

		if (!common_part(img, s, b, &from, &to))
			continue;
		if (to - first > b->wanted_bytes)
			b->wanted_bytes = to - first;
		if (to - from == b->bytes)
			*room = (struct kernel_room){
				.addr = s->addr + (first - offset_of(img, s)),
				.bytes = b->bytes,
			};
	}
	if (unpack_block_packed(img->packed, img->packed_bytes, idx) <
	    b->bytes / DENSE_PART)
		room->bytes = 0;
}

static void unpack_one(const struct kernel_image *img, struct block *b)
{
	if (b->out)
		b->result = unpack_block(img->packed, img->packed_bytes,
					 img->unpacked_bytes, b->idx,
					 b->wanted_bytes, b->out, &b->err);
}

static void *unpack_some(void *arg)
{
	struct crew *c = arg;
	uint64_t i;

	while ((i = atomic_fetch_add(&c->next, 1)) < c->n_blocks)
		unpack_one(c->img, &c->blocks[i]);
	return NULL;
}

/* With as many threads as there are, this one included; with fewer it only takes longer. */
static void unpack_all(struct crew *c, uint64_t n_jobs)
{
	pthread_t helpers[KERNEL_THREADS_MAX];
	unsigned int n = 0;

	atomic_store(&c->next, 0);
	while (n + 1 < c->taker->n_threads && n + 1 < n_jobs &&
	       !thread_start(&helpers[n], unpack_some, c))
		n++;
	unpack_some(c);
	while (n)
		pthread_join(helpers[--n], NULL);
}

/* What segments have of one block that was unpacked beside guest memory. */
static int place(const struct crew *c, const struct block *b, struct err *err)
{
	const uint64_t first = b->idx * UNPACK_BLOCK_BYTES;
	int r = 0;

	for (unsigned int i = 0; i < c->img->n_segments && !r; i++) {
		const struct kernel_segment *s = &c->img->segments[i];
		const uint64_t at = s->addr - offset_of(c->img, s);
		uint64_t from, to;

		if (common_part(c->img, s, b, &from, &to))
			r = c->taker->piece(c->taker->ctx, at + from,
					    b->out + (from - first), to - from,
					    err);
	}
	return r;
}

/* For as many blocks as there may be. Return: how many can be unpacked now. */
static uint64_t find_places(struct crew *c)
{
	const unsigned int max = c->taker->n_threads > 1 ? BESIDE_MAX : 1;
	uint64_t n_jobs = 0;
	unsigned int n = 0;

	for (uint64_t i = 0; i < c->n_blocks; i++) {
		struct block *b = &c->blocks[i];

		if (!b->done && !b->out && n < max) {
			if (!c->beside[n])
				c->beside[n] = unpack_room_new();
			b->out = c->beside[n++];
		}
		n_jobs += !!b->out;
	}
	return n_jobs;
}

static int finish(const struct crew *c, struct block *b, struct err *err)
{
	int r = b->result;

	if (r)
		*err = b->err;
	else if (!b->in_place)
		r = place(c, b, err);
	b->out = NULL;
	b->done = true;
	return r;
}

/* Return: 0 with *@ret_more saying whether there are blocks left; -errno. */
static int do_round(struct crew *c, bool *ret_more, struct err *err)
{
	const uint64_t n_jobs = find_places(c);
	bool more = false;
	int r = 0;

	if (n_jobs)
		unpack_all(c, n_jobs);
	for (uint64_t i = 0; i < c->n_blocks && !r; i++) {
		if (c->blocks[i].out)
			r = finish(c, &c->blocks[i], err);
		more |= !c->blocks[i].done;
	}
	if (more && !n_jobs)
		return err_set(err, -ENOMEM,
			       "no memory to unpack the kernel in");
	*ret_more = more;
	return r;
}

/* All that there is room for is unpacked in the first round, for nobody else writes before it. */
static void find_rooms(struct crew *c, struct kernel_room *rooms)
{
	for (uint64_t i = 0; i < c->n_blocks; i++)
		look_at(c->img, i, &c->blocks[i], &rooms[i]);
	if (c->taker->rooms)
		c->taker->rooms(c->taker->ctx, rooms, c->n_blocks);
	for (uint64_t i = 0; i < c->n_blocks; i++) {
		struct block *b = &c->blocks[i];

		b->out = rooms[i].at;
		b->in_place = rooms[i].at;
		b->done = !b->wanted_bytes;
	}
}

int image_walk_blocks(const struct kernel_image *img,
		      const struct kernel_taker *taker, struct err *err)
{
	const uint64_t n_blocks = unpack_n_blocks(img->packed, img->packed_bytes,
						  img->unpacked_bytes);
	struct kernel_room *rooms = calloc(n_blocks, sizeof(*rooms));
	struct crew c = {
		.img = img,
		.taker = taker,
		.blocks = calloc(n_blocks, sizeof(*c.blocks)),
		.n_blocks = n_blocks,
	};
	bool more = rooms && c.blocks;
	int r = more ? 0
		     : err_set(err, -ENOMEM,
			       "no memory to unpack the kernel in");

	VERIFY(taker->n_threads <= KERNEL_THREADS_MAX);
	if (more)
		find_rooms(&c, rooms);
	while (more && !r)
		r = do_round(&c, &more, err);
	for (unsigned int i = 0; i < BESIDE_MAX; i++)
		unpack_room_free(c.beside[i]);
	free(c.blocks);
	free(rooms);
	return r;
}
