/* SPDX-License-Identifier: Apache-2.0 */
/* Counters and rings that a VM shares with its host. */
#include <mem/link_counters.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mem/memfile.h>

static int map_file(int fd, struct link_counters **ret, struct err *err)
{
	void *p = memfile_map(fd, LINK_COUNTERS_BYTES, PROT_READ | PROT_WRITE);

	if (p == MAP_FAILED)
		return err_set(err, -errno, "cannot map counters: %s",
			       strerror(errno));
	*ret = p;
	return 0;
}

int link_counters_new(int *ret_fd, struct link_counters **ret, struct err *err)
{
	int fd;
	int r = memfile_new("mezz-counters", LINK_COUNTERS_BYTES, false, &fd,
			    err);

	if (r)
		return r;
	r = map_file(fd, ret, err);
	if (r) {
		close(fd);
		return r;
	}
	(*ret)->magic = LINK_COUNTERS_MAGIC;
	*ret_fd = fd;
	return 0;
}

int link_counters_map(int fd, struct link_counters **ret, struct err *err)
{
	const int needed = F_SEAL_SHRINK | F_SEAL_GROW;
	const int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || (seals & needed) != needed || fstat(fd, &st) < 0 ||
	    (uint64_t)st.st_size != LINK_COUNTERS_BYTES)
		return err_set(err, -EBADMSG,
			       "the counters' file is not one of ours");

	int r = map_file(fd, ret, err);

	if (!r && (*ret)->magic != LINK_COUNTERS_MAGIC) {
		link_counters_unmap(*ret);
		*ret = NULL;
		r = err_set(err, -EBADMSG, "the counters have another version");
	}
	return r;
}

void link_counters_unmap(struct link_counters *counters)
{
	if (counters)
		munmap(counters, LINK_COUNTERS_BYTES);
}

#define SUB_BITS 3
#define SUBS     (1U << SUB_BITS)

unsigned link_stall_bucket(uint64_t ns)
{
	unsigned top;
	unsigned bucket;

	if (ns < SUBS)
		return (unsigned)ns;
	top = 63 - (unsigned)__builtin_clzll(ns);
	bucket = (top - SUB_BITS + 1) * SUBS +
		 (unsigned)(ns >> (top - SUB_BITS) & (SUBS - 1));
	return bucket < LINK_STALL_BUCKETS ? bucket : LINK_STALL_BUCKETS - 1;
}

uint64_t link_stall_bucket_ns(unsigned bucket)
{
	const unsigned power = bucket / SUBS;
	uint64_t width;

	if (!power)
		return bucket;
	width = UINT64_C(1) << (power - 1);
	return (SUBS + bucket % SUBS) * width + width / 2;
}

void link_stall_add(struct link_counters *c, enum link_stall cause, uint64_t ns)
{
	atomic_fetch_add_explicit(&c->stall_ns[cause], ns, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->stalls[cause][link_stall_bucket(ns)], 1,
				  memory_order_relaxed);
}

uint64_t link_stall_quantile(const struct link_counters *c,
			     enum link_stall cause, unsigned permille)
{
	uint64_t n[LINK_STALL_BUCKETS];
	double sum = 0;
	double below = 0;

	/* Doubles, since the VM may have written any number there. */
	for (unsigned i = 0; i < LINK_STALL_BUCKETS; i++) {
		n[i] = atomic_load_explicit(&c->stalls[cause][i],
					    memory_order_relaxed);
		sum += (double)n[i];
	}
	for (unsigned i = 0; sum > 0 && i < LINK_STALL_BUCKETS; i++) {
		below += (double)n[i];
		if (n[i] && below * 1000 >= sum * permille)
			return link_stall_bucket_ns(i);
	}
	return 0;
}

void link_left_push(struct link_counters *c, uint64_t page, uint64_t entry)
{
	const uint32_t head = atomic_load_explicit(&c->left_head,
						   memory_order_relaxed);

	if (head - atomic_load(&c->left_tail) >= LINK_LEFT_RING) {
		atomic_store(&c->left_overflow, 1);
		return;
	}
	c->left[head % LINK_LEFT_RING] = (struct link_left){page, entry};
	atomic_store(&c->left_head, head + 1);
}

bool link_left_pop(struct link_counters *c, struct link_left *ret)
{
	const uint32_t tail = atomic_load(&c->left_tail);
	const uint32_t head = atomic_load(&c->left_head);

	if (tail == head)
		return false;
	if (head - tail > LINK_LEFT_RING) {
		/* A head that cannot be: whatever is there is of no use. */
		atomic_store(&c->left_overflow, 1);
		atomic_store(&c->left_tail, head);
		return false;
	}
	*ret = c->left[tail % LINK_LEFT_RING];
	atomic_store(&c->left_tail, tail + 1);
	return true;
}

void link_filled_push(struct link_counters *c, const struct link_filled *filled)
{
	const uint32_t head = atomic_load_explicit(&c->filled_head,
						   memory_order_relaxed);

	if (head - atomic_load(&c->filled_tail) >= LINK_FILLED_RING)
		return;
	c->filled[head % LINK_FILLED_RING] = *filled;
	atomic_store(&c->filled_head, head + 1);
}

bool link_filled_any(const struct link_counters *c)
{
	return atomic_load(&c->filled_head) != atomic_load(&c->filled_tail);
}

bool link_filled_pop(struct link_counters *c, struct link_filled *ret)
{
	const uint32_t tail = atomic_load(&c->filled_tail);
	const uint32_t head = atomic_load(&c->filled_head);

	if (tail == head)
		return false;
	if (head - tail > LINK_FILLED_RING) {
		/* A head that cannot be. Nothing is lost but the chance to share early. */
		atomic_store(&c->filled_tail, head);
		return false;
	}
	*ret = c->filled[tail % LINK_FILLED_RING];
	atomic_store(&c->filled_tail, tail + 1);
	return true;
}
