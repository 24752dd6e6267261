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
	void *p = mmap(NULL, LINK_COUNTERS_BYTES, PROT_READ | PROT_WRITE,
		       MAP_SHARED, fd, 0);

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
