/* SPDX-License-Identifier: Apache-2.0 */
/* Where a guest's memory is: its physmap in runs, and who shares its frames. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <host/control_impl.h>
#include <mem/physmap.h>

#define MAP_PAGES_MAX UINT64_C(1048576)
#define RUNS_MAX      65536
#define CHUNK_PAGES   4096
#define WITH_MAX      8
#define FRAMES_MAX    4096
#define VIRTUAL_MAX   4096 /* each page is a walk */

/* Parameters of the request, in the order of the route's table. */
enum {
	MAP_FIRST,
	MAP_COUNT,
	MAP_VIRTUAL,
	MAP_FRAMES,
};

/* A frame whose sharers are looked for. */
struct frame {
	uint64_t slot;
	struct api_page_run *run;
};

struct builder {
	struct api_map *map;
	size_t room;
	bool with_frames;
	struct host_page pages[CHUNK_PAGES];
	uint64_t ppns[CHUNK_PAGES];
	uint64_t host_frames[CHUNK_PAGES];
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
	if (run->state != page->state || run->moving != page->moving ||
	    run->first + run->count != page->first)
		return false;
	if (run->frame ? run->frame + run->count != page->frame : page->frame)
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
static int add_page(struct builder *b, size_t at)
{
	struct api_page_run new = one_page(b->ppns[at], &b->pages[at]);
	struct api_page_run *runs = b->map->runs.v;
	const size_t n = b->map->runs.n;

	new.frame = b->host_frames[at];
	if (n && continues(&runs[n - 1], &new)) {
		runs[n - 1].count++;
		runs[n - 1].bytes += new.bytes;
		return 0;
	}
	if (n == RUNS_MAX)
		return -ENOSPC;
	if (n == b->room) {
		const size_t room = b->room ? 2 * b->room : 256;

		void *more = realloc(runs, room * sizeof(*runs));

		if (!more)
			return -ENOMEM;
		b->map->runs.v = runs = more;
		b->room = room;
	}
	runs[n] = new;
	b->map->runs.n++;
	return 0;
}

/* The host's frames behind the first @n pages of the chunk. */
static int read_frames(struct control *c, struct builder *b, size_t n,
		       struct err *err)
{
	const int r = b->with_frames
			      ? host_vm_frames(c->host, b->map->vm, b->pages,
					       b->ppns, n, b->host_frames)
			      : 0;

	return r ? err_set(err, r == -ENOENT ? -EBUSY : r,
			   "the host's frames behind '%s' cannot be seen: %s",
			   b->map->vm, strerror(-r))
		 : 0;
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
		for (int64_t i = 0; i < got; i++)
			b->ppns[i] = first + (uint64_t)i;
		const int seen = read_frames(c, b, (size_t)got, err);

		if (seen)
			return seen;
		for (int64_t i = 0; i < got; i++) {
			const int r = add_page(b, (size_t)i);

			if (r == -ENOSPC)
				return 0;
			if (r)
				return err_set(err, r, "no memory for the map");
			map->count++;
		}
	}
	return 0;
}

static void hex(char to[API_HEX_MAX], uint64_t v)
{
	snprintf(to, API_HEX_MAX, "0x%016llx", (unsigned long long)v);
}

/* The way to the first page, for the eye. */
static int tell_walk(struct api_map *map, const struct host_walk *w)
{
	static const char *const ends[] = {
		[HOST_WALK_MAPPED] = "a page of its memory",
		[HOST_WALK_NOT_PRESENT] = "nothing: the entry is not present",
		[HOST_WALK_TABLE_AWAY] = "a table that is compressed or swapped now",
		[HOST_WALK_NO_RAM] = "an address without memory, such as a device",
	};
	struct api_walk_step *steps = calloc(w->n_steps + 1u, sizeof(*steps));

	if (!steps)
		return -ENOMEM;
	map->walk = (struct api_array){.v = steps, .n = w->n_steps};
	for (unsigned int i = 0; i < w->n_steps; i++) {
		steps[i] = (struct api_walk_step){
			.level = w->steps[i].level,
			.table = w->steps[i].table,
			.index = w->steps[i].index,
		};
		hex(steps[i].entry, w->steps[i].entry);
	}
	snprintf(map->walk_end, sizeof(map->walk_end), "%s", ends[w->end]);
	return 0;
}

/* A page that the guest has mapped at an address. */
static int add_virtual(struct control *c, struct builder *b, uint64_t address,
		       const struct host_walk *w, struct err *err)
{
	struct api_page_run *runs;
	const size_t n = b->map->runs.n;
	int r;

	if (host_vm_pages(c->host, b->map->vm, w->page, 1, b->pages) != 1)
		return err_set(err, -EBUSY, "'%s' does not run", b->map->vm);
	b->ppns[0] = w->page;
	r = read_frames(c, b, 1, err);
	if (!r && add_page(b, 0))
		r = err_set(err, -ENOMEM, "no memory for the map");
	runs = b->map->runs.v;
	if (!r && b->map->runs.n > n)
		hex(runs[n].virtual_address, address);
	return r;
}

static int read_virtual(struct control *c, struct builder *b, uint64_t address,
			uint64_t max, struct err *err)
{
	struct api_map *map = b->map;

	if (host_vm_ask_root(c->host, map->vm) == -ETIMEDOUT)
		return err_set(err, -EBUSY, "'%s' does not answer", map->vm);
	for (uint64_t i = 0; i < max && map->runs.n < RUNS_MAX; i++) {
		const uint64_t at = address + i * PAGE_SIZE;
		struct host_walk w;
		int r = host_vm_walk(c->host, map->vm, at, &w);

		if (r == -ENODATA)
			return err_set(
				err, -EOPNOTSUPP,
				"'%s' does not use page tables of four levels in long mode",
				map->vm);
		if (r)
			return err_set(err, -EBUSY, "'%s' does not run",
				       map->vm);
		if (!i && tell_walk(map, &w))
			return err_set(err, -ENOMEM, "no memory for the map");
		if (w.end == HOST_WALK_MAPPED)
			r = add_virtual(c, b, at, &w, err);
		if (r)
			return r;
		map->count++;
		if (at + PAGE_SIZE < PAGE_SIZE) /* the end of all addresses */
			break;
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

static uint64_t limited(uint64_t count, uint64_t max)
{
	return count && count < max ? count : max;
}

static int build(struct control *c, struct builder *b,
		 const struct api_request *req, struct err *err)
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
		r = req->has_query[MAP_VIRTUAL]
			    ? read_virtual(c, b,
					   req->query[MAP_VIRTUAL] & PAGE_MASK,
					   limited(req->query[MAP_COUNT],
						   VIRTUAL_MAX),
					   err)
			    : read_runs(c, b,
					limited(req->query[MAP_COUNT],
						MAP_PAGES_MAX),
					err);
	}
	if (!r && find_sharers(c, b, &s, set->group))
		r = err_set(err, -ENOMEM, "no memory for the map");
	host_snapshot_release(&s);
	return r;
}

int control_get_map(struct control *control, const struct api_request *request,
		    void *reply, struct err *err)
{
	struct api_map *ret = reply;
	struct builder *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(err, -ENOMEM, "no memory for the map");
	memcpy(ret->vm, request->name, sizeof(ret->vm));
	ret->first = request->query[MAP_FIRST];
	b->map = ret;
	b->with_frames = request->query[MAP_FRAMES];
	const int r = build(control, b, request, err);

	free(b);
	return r;
}
