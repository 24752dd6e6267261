/* SPDX-License-Identifier: Apache-2.0 */
/* A sharing group: frames, references, and whose pages contain what. */
#include <host/group.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef HAVE_XXH_DISPATCH
/* The library's own choice among what the processor can do. */
#include <xxh_x86dispatch.h>
#else
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

#include <base/sparse.h>
#include <base/verify.h>
#include <host/vmmem.h>
#include <mem/memfile.h>

uint64_t page_hash(const uint8_t *bytes)
{
	return XXH3_64bits(bytes, PAGE_SIZE);
}

static int group_build(struct group *g, struct err *err)
{
	struct stat st;
	void *map;

	if (fstat(g->fd, &st) < 0)
		return err_set(err, -errno, "cannot use a group's file: %s",
			       strerror(errno));
	g->ino = st.st_ino;
	g->n_frames = (uint64_t)st.st_size / PAGE_SIZE;
	map = memfile_map(g->fd, (uint64_t)st.st_size, PROT_READ | PROT_WRITE);
	if (map == MAP_FAILED)
		return err_set(err, -errno, "cannot map a group's file: %s",
			       strerror(errno));
	g->map = map;
	g->refs = sparse_new(g->n_frames * sizeof(*g->refs));
	g->tags = sparse_new(g->n_frames * sizeof(*g->tags));
	if (!g->refs || !g->tags)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static int group_make(const char *name, int fd, struct ledger *ledger,
		      struct group **ret, struct err *err)
{
	struct group *g = calloc(1, sizeof(*g));
	int r;

	if (!g) {
		close(fd);
		return err_set(err, -ENOMEM, "out of memory");
	}
	snprintf(g->name, sizeof(g->name), "%s", name);
	hints_init(&g->hints);
	g->fd = fd;
	g->ledger = ledger;
	r = group_build(g, err);
	if (r) {
		group_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

int group_new(const char *name, uint64_t n_frames, struct ledger *ledger,
	      struct group **ret, struct err *err)
{
	int fd;
	int r = memfile_new("mezz-group", n_frames * PAGE_SIZE, false, &fd, err);

	return r ? r : group_make(name, fd, ledger, ret, err);
}

int group_adopt(const char *name, int fd, ino_t ino, struct ledger *ledger,
		struct group **ret, struct err *err)
{
	const int needed = F_SEAL_SHRINK | F_SEAL_GROW;
	const int seals = fcntl(fd, F_GET_SEALS);
	char path[64];
	struct stat st;

	if (seals < 0 || (seals & needed) != needed || fstat(fd, &st) < 0 ||
	    st.st_ino != ino || st.st_size < (off_t)PAGE_SIZE)
		return err_set(err, -EBADMSG,
			       "this is not the file of group %s", name);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

	const int mine = open(path, O_RDWR | O_CLOEXEC);

	if (mine < 0)
		return err_set(err, -errno, "cannot open a group's file: %s",
			       strerror(errno));

	int r = group_make(name, mine, ledger, ret, err);

	if (!r)
		(*ret)->adopting = true;
	return r;
}

struct group *group_free(struct group *g)
{
	if (!g)
		return NULL;
	ledger_give(g->ledger, atomic_load(&g->n_frames_used));
	if (g->map)
		munmap(g->map, g->n_frames * PAGE_SIZE);
	sparse_free(g->refs, g->n_frames * sizeof(*g->refs));
	sparse_free(g->tags, g->n_frames * sizeof(*g->tags));
	hints_release(&g->hints);
	close(g->fd);
	free(g);
	return NULL;
}

int group_join(struct group *g, struct vmmem *vm)
{
	uint64_t base = 0;
	uint32_t at = 0;

	if (g->n_members == GROUP_MEMBERS_MAX)
		return -ENOSPC;
	/* The first gap between two members that is long enough. */
	while (at < g->n_members && g->members[at]->base - base < vm->n_pages) {
		base = g->members[at]->base + g->members[at]->n_pages;
		at++;
	}
	if (base + vm->n_pages > HINT_FRAME)
		return -ENOSPC;
	memmove(&g->members[at + 1], &g->members[at],
		(g->n_members - at) * sizeof(*g->members));
	g->members[at] = vm;
	g->n_members++;
	vm->base = (uint32_t)base;
	return 0;
}

void group_leave(struct group *g, const struct vmmem *vm)
{
	for (uint32_t i = 0; i < g->n_members; i++) {
		if (g->members[i] != vm)
			continue;
		memmove(&g->members[i], &g->members[i + 1],
			(g->n_members - i - 1) * sizeof(*g->members));
		g->n_members--;
		return;
	}
}

struct vmmem *group_whose(const struct group *g, uint32_t where,
			  uint64_t *ret_page)
{
	uint32_t low = 0;
	uint32_t high = g->n_members;

	while (low < high) {
		const uint32_t mid = (low + high) / 2;
		struct vmmem *vm = g->members[mid];

		if (where < vm->base) {
			high = mid;
		} else if (where - vm->base >= vm->n_pages) {
			low = mid + 1;
		} else {
			*ret_page = where - vm->base;
			return vm;
		}
	}
	return NULL;
}

int group_reader(const struct group *g)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", g->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

const uint8_t *group_bytes(const struct group *g, uint64_t frame)
{
	VERIFY(frame < g->n_frames);
	return g->map + frame * PAGE_SIZE;
}

static bool write_frame(struct group *g, uint64_t frame, const uint8_t *bytes)
{
	ssize_t n;

	do {
		n = pwrite(g->fd, bytes, PAGE_SIZE, (off_t)(frame * PAGE_SIZE));
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)PAGE_SIZE;
}

int group_frame_new(struct group *g, uint32_t tag, const uint8_t *bytes,
		    uint64_t *ret_frame)
{
	uint64_t f = g->first_free;

	while (f < g->n_frames && g->tags[f])
		f++;
	g->first_free = f;
	if (g->adopting || f == g->n_frames ||
	    !ledger_take(g->ledger, LEDGER_MOVE, 1))
		return -ENOSPC;

	/* Written and not copied, for that would clear the page first. */
	if (!write_frame(g, f, bytes) ||
	    !hints_add(&g->hints, tag, HINT_FRAME | (uint32_t)f)) {
		memfile_drop(g->fd, f * PAGE_SIZE, PAGE_SIZE);
		ledger_give(g->ledger, 1);
		return -ENOSPC;
	}
	g->tags[f] = tag;
	if (f >= g->end_used)
		g->end_used = f + 1;
	atomic_fetch_add(&g->n_frames_used, 1);
	*ret_frame = f;
	return 0;
}

static void free_frame(struct group *g, uint64_t frame)
{
	hints_remove(&g->hints, g->tags[frame], HINT_FRAME | (uint32_t)frame);
	g->tags[frame] = 0;
	if (frame < g->first_free)
		g->first_free = frame;
	memfile_drop(g->fd, frame * PAGE_SIZE, PAGE_SIZE);
	atomic_fetch_sub(&g->n_frames_used, 1);
	ledger_give(g->ledger, 1);
}

void group_ref(struct group *g, uint64_t frame)
{
	VERIFY(frame < g->n_frames && g->tags[frame]);
	g->refs[frame]++;
}

void group_unref(struct group *g, uint64_t frame)
{
	VERIFY(frame < g->n_frames && g->refs[frame]);
	/* Another VM may turn up that shares it too; group_trim() sees to the rest. */
	if (!--g->refs[frame] && !g->adopting)
		free_frame(g, frame);
}

uint32_t group_refs(const struct group *g, uint64_t frame)
{
	return frame < g->n_frames ? g->refs[frame] : 0;
}

bool group_claim(struct group *g, uint64_t frame)
{
	if (frame >= g->n_frames || (!g->adopting && !g->refs[frame]))
		return false;
	if (!g->tags[frame]) {
		/* The right tag comes when all are claimed. */
		g->tags[frame] = 1;
		atomic_fetch_add(&g->n_frames_used, 1);
		ledger_force(g->ledger, 1);
	}
	g->refs[frame]++;
	if (frame >= g->end_used)
		g->end_used = frame + 1;
	return true;
}

void group_trim(struct group *g)
{
	const uint64_t bytes = g->n_frames * PAGE_SIZE;
	uint64_t start;
	uint64_t end = 0;

	if (!g->adopting)
		return;
	g->adopting = false;
	g->first_free = 0;
	while (memfile_data_next(g->fd, bytes, end, &start, &end)) {
		for (uint64_t f = start / PAGE_SIZE; f < end / PAGE_SIZE; f++) {
			if (!g->refs[f])
				memfile_drop(g->fd, f * PAGE_SIZE, PAGE_SIZE);
		}
	}
	for (uint64_t f = 0; f < g->end_used; f++) {
		if (!g->refs[f] && g->tags[f]) {
			free_frame(g, f);
		} else if (g->refs[f]) {
			g->tags[f] = hints_tag(page_hash(group_bytes(g, f)));
			/* Without memory nobody else joins this frame; no harm. */
			(void)hints_add(&g->hints, g->tags[f],
					HINT_FRAME | (uint32_t)f);
		}
	}
}

uint64_t group_book_bytes(const struct group *g)
{
	uint64_t bytes = hints_bytes(&g->hints) +
			 g->end_used * (sizeof(*g->refs) + sizeof(*g->tags));

	for (uint32_t i = 0; i < g->n_members; i++)
		bytes += g->members[i]->n_pages * sizeof(uint32_t) +
			 g->members[i]->n_pages / VMMEM_WINDOW;
	return bytes;
}
