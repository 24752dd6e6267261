/* SPDX-License-Identifier: Apache-2.0 */
/* Where a guest's memory is: its physmap in runs, and who shares its frames. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <host/control_impl.h>
#include <mem/physmap.h>

#define MAP_PAGES_MAX UINT64_C(1048576)
#define RUNS_MAX      65536
#define CHUNK_PAGES   4096
#define WITH_MAX      8
#define FRAMES_MAX    4096

/* A frame whose sharers are looked for. */
struct frame {
	uint64_t slot;
	struct api_page_run *run;
};

struct builder {
	struct api_map *map;
	size_t room;
	struct host_page pages[CHUNK_PAGES];
	struct frame frames[FRAMES_MAX]; /* by slot */
	size_t n_frames;
};

static enum api_page_state page_state(uint64_t entry)
{
	static const enum api_page_state states[] = {
		[PHYSMAP_ZERO] = API_PAGE_ZERO,
		[PHYSMAP_HOME] = API_PAGE_HOME,
		[PHYSMAP_SHARED] = API_PAGE_SHARED,
		[PHYSMAP_ZIPPED] = API_PAGE_ZIPPED,
		[PHYSMAP_SWAPPED] = API_PAGE_SWAPPED,
		[PHYSMAP_BALLOON] = API_PAGE_BALLOON,
	};
	const unsigned int s = physmap_stable_state(entry);

	return s < ARRAY_SIZE(states) ? states[s] : API_PAGE_INVALID;
}

static struct api_page_run one_page(uint64_t page, const struct host_page *p)
{
	struct api_page_run run = {.first = page,
				   .count = 1,
				   .state = page_state(p->entry),
				   .moving = physmap_is_busy(p->entry)};

	switch (run.state) {
	case API_PAGE_HOME:
		run.slot = page;
		break;
	case API_PAGE_SHARED:
		run.slot = physmap_slot(p->entry);
		run.sharers = p->sharers;
		break;
	case API_PAGE_ZIPPED:
		run.slot = physmap_slot(p->entry);
		run.bytes = physmap_size_bytes(p->entry);
		break;
	case API_PAGE_SWAPPED:
		run.slot = physmap_slot(p->entry);
		break;
	case API_PAGE_ZERO:
	case API_PAGE_BALLOON:
	case API_PAGE_INVALID:
		break;
	}
	return run;
}

/* Does a page continue a run? A frame that others have too stands alone, to name them. */
static bool continues(const struct api_page_run *run,
		      const struct api_page_run *page)
{
	if (run->state != page->state || run->moving != page->moving)
		return false;
	switch (run->state) {
	case API_PAGE_ZERO:
	case API_PAGE_BALLOON:
	case API_PAGE_INVALID:
	case API_PAGE_HOME:
	case API_PAGE_ZIPPED:
		return true;
	case API_PAGE_SWAPPED:
		return page->slot == run->slot + run->count;
	case API_PAGE_SHARED:
		return page->sharers <= 1 && run->sharers <= 1 &&
		       page->slot == run->slot + run->count;
	}
	return false;
}

/* Return: 0, -ENOSPC when there are runs enough, -ENOMEM. */
static int add_page(struct builder *b, uint64_t page, const struct host_page *p)
{
	const struct api_page_run new = one_page(page, p);
	struct api_page_run *runs = b->map->runs.v;
	const size_t n = b->map->runs.n;

	if (n && continues(&runs[n - 1], &new)) {
		runs[n - 1].count++;
		runs[n - 1].bytes += new.bytes;
		return 0;
	}
	if (n == RUNS_MAX)
		return -ENOSPC;
	if (n == b->room) {
		const size_t room = b->room ? 2 * b->room : 256;

		runs = realloc(runs, room * sizeof(*runs));
		if (!runs)
			return -ENOMEM;
		b->map->runs.v = runs;
		b->room = room;
	}
	runs[n] = new;
	b->map->runs.n++;
	return 0;
}

static int read_runs(struct control *c, struct builder *b, uint64_t max,
		     struct err *err)
{
	struct api_map *map = b->map;

	while (map->count < max) {
		const uint64_t first = map->first + map->count;
		const uint64_t want = max - map->count;
		const int64_t got = host_vm_pages(c->host, map->vm, first,
						  want < CHUNK_PAGES
							  ? want
							  : CHUNK_PAGES,
						  b->pages);

		if (got < 0)
			return err_set(err, -EBUSY, "'%s' does not run",
				       map->vm);
		if (!got)
			return 0;
		for (int64_t i = 0; i < got; i++) {
			const int r = add_page(b, first + (uint64_t)i,
					       &b->pages[i]);

			if (r == -ENOSPC)
				return 0;
			if (r)
				return err_set(err, r, "no memory for the map");
			map->count++;
		}
	}
	return 0;
}

static int compare_frames(const void *a, const void *b)
{
	const struct frame *x = a, *y = b;

	return (x->slot > y->slot) - (x->slot < y->slot);
}

static void collect_frames(struct builder *b)
{
	struct api_page_run *runs = b->map->runs.v;

	for (size_t i = 0; i < b->map->runs.n; i++) {
		if (runs[i].state != API_PAGE_SHARED || runs[i].sharers <= 1)
			continue;
		if (b->n_frames == FRAMES_MAX)
			break;
		b->frames[b->n_frames++] = (struct frame){.slot = runs[i].slot,
							  .run = &runs[i]};
	}
	qsort(b->frames, b->n_frames, sizeof(b->frames[0]), compare_frames);
}

static int add_sharer(struct api_page_run *run, const char *vm, uint64_t page)
{
	if (run->with.n == WITH_MAX)
		return 0;
	if (!run->with.v) {
		run->with.v = calloc(WITH_MAX, sizeof(struct api_page));
		if (!run->with.v)
			return -ENOMEM;
	}
	struct api_page *to = (struct api_page *)run->with.v + run->with.n++;

	memcpy(to->vm, vm, strlen(vm) + 1);
	to->ppn = page;
	return 0;
}

/* A page of some VM of the group: is it in a frame that we look for? */
static int match_page(struct builder *b, const char *vm, uint64_t page,
		      uint64_t entry)
{
	const struct frame key = {.slot = physmap_slot(entry)};
	struct frame *f = bsearch(&key, b->frames, b->n_frames, sizeof(key),
				  compare_frames);
	int r = 0;

	if (!f || physmap_stable_state(entry) != PHYSMAP_SHARED)
		return 0;
	while (f > b->frames && f[-1].slot == key.slot)
		f--;
	for (; f < b->frames + b->n_frames && f->slot == key.slot && !r; f++)
		if (f->run->first != page || strcmp(vm, b->map->vm) != 0)
			r = add_sharer(f->run, vm, page);
	return r;
}

static int match_vm(struct control *c, struct builder *b, const char *vm)
{
	for (uint64_t first = 0; first < MAP_PAGES_MAX;) {
		const int64_t got = host_vm_pages(c->host, vm, first,
						  CHUNK_PAGES, b->pages);

		if (got <= 0) /* its end, or it ended meanwhile */
			return 0;
		for (int64_t i = 0; i < got; i++) {
			const int r = match_page(b, vm, first + (uint64_t)i,
						 b->pages[i].entry);

			if (r)
				return r;
		}
		first += (uint64_t)got;
	}
	return 0;
}

static int find_sharers(struct control *c, struct builder *b,
			const struct host_snapshot *s, const char *group)
{
	int r = 0;

	collect_frames(b);
	for (uint32_t i = 0; b->n_frames && i < s->n_vms && !r; i++) {
		const struct host_vm_settings *set = &s->vms[i].settings;
		const bool same = !strcmp(set->name, b->map->vm) ||
				  (*group && !strcmp(set->group, group));

		if (same)
			r = match_vm(c, b, set->name);
	}
	return r;
}

static int build(struct control *c, struct builder *b, uint64_t max,
		 struct err *err)
{
	struct host_snapshot s;
	const struct host_vm_settings *set = NULL;

	if (host_snapshot_take(c->host, &s))
		return err_set(err, -ENOMEM, "no memory for the map");
	for (uint32_t i = 0; i < s.n_vms; i++)
		if (!strcmp(s.vms[i].settings.name, b->map->vm))
			set = &s.vms[i].settings;
	int r = set ? 0 : err_set(err, -EBUSY, "'%s' does not run", b->map->vm);

	if (!r) {
		b->map->size_pages = set->size_pages;
		r = read_runs(c, b, max, err);
	}
	if (!r && find_sharers(c, b, &s, set->group))
		r = err_set(err, -ENOMEM, "no memory for the map");
	host_snapshot_release(&s);
	return r;
}

int map_vm(struct control *control, const struct api_request *request,
	   struct api_map *ret, struct err *err)
{
	struct builder *b = calloc(1, sizeof(*b));
	const uint64_t max = request->query[1] ? request->query[1]
					       : MAP_PAGES_MAX;

	if (!b)
		return err_set(err, -ENOMEM, "no memory for the map");
	memcpy(ret->vm, request->name, sizeof(ret->vm));
	ret->first = request->query[0];
	b->map = ret;
	const int r = build(control, b, max, err);

	free(b);
	return r;
}
