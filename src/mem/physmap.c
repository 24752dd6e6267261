/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The physmap: where each page of guest RAM is now.
 *
 * physmap_change() is the only function that writes an entry, but for
 * physmap_claim_run(), which does one change to many. It checks the change
 * against one table of what each side may do, does it by compare-and-swap, and keeps
 * the books. What the table says, in words:
 *
 *   The host takes away: it makes a page BUSY, decides what becomes of it while BUSY,
 *   and ends that. It never moves contents into HOME.
 *   The VM brings back: it makes ZERO pages HOME by a first write, and SHARED, ZIPPED
 *   and SWAPPED pages HOME through BUSY while it fills the home frame. It gives pages
 *   up (BALLOON, or ZERO when the guest reports them free).
 *   Recovery ends a dead host's moves.
 *
 * A page leaves HOME in three steps, so that it is whole at each moment:
 *
 *   HOME -> BUSY(falls back to HOME) -> BUSY(falls back to X) -> X
 *
 * Until the second step the home frame holds the only copy. The second step sets the
 * final state, with the contents safe wherever X says, and only then may the home frame
 * be released; nobody else touches the page meanwhile, since it is still BUSY. Setting X
 * at once and then releasing the frame would lose data: the VM could bring the page back
 * into the very frame that is being released.
 *
 * The home frame of a page that is neither HOME nor BUSY reads as zeros. So ZERO becomes
 * HOME without anybody clearing memory.
 *
 * Allowance counts frames that the VM may take by itself. ZERO to HOME takes one, and so
 * does starting to bring a page back; giving that up returns it. What a page leaving
 * HOME frees goes to the host, which grants it again to whom it likes. So the host's
 * memory in use and promised is the sum of HOME, BUSY and allowance over all VMs.
 *
 * Waiting is done on one futex per VM, the bell, in the shared header, because a
 * processor that waits for a page must also be woken by a revocation, a grant and the end
 * of the VM. A waiter announces itself, then checks; a ringer changes, then looks for
 * waiters. With sequentially consistent accesses one of them sees the other.
 *
 * Everything in the file may be scribbled upon by a broken VM. This side keeps its own
 * copy of the size, and treats words that are no entries as an outcome, not as a bug.
 */
#include <mem/physmap.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <base/verify.h>
#include <mem/memfile.h>

/* 1 TiB of guest RAM, the most that a machine window holds. */
#define MAX_PAGES (UINT64_C(1) << 28)

/* Members: I immutable. The mapped file has its own legend in the header. */
struct physmap {
	struct physmap_header *header; /* I the mapped file */
	_Atomic uint64_t *entries;     /* I in it */
	uint64_t n_pages;              /* I */
	uint64_t file_bytes;           /* I */
	int fd;                        /* I */
};

/*
 * The legal changes. An entry is of one of 18 kinds: each stable state by itself, BUSY
 * by the VM, and BUSY by the host.
 */
#define N_KINDS        (3 * PHYSMAP_N_STABLE)
#define IS(state)      (PHYSMAP_##state)
#define BY_VM(state)   (PHYSMAP_##state + PHYSMAP_N_STABLE)
#define BY_HOST(state) (PHYSMAP_##state + 2 * PHYSMAP_N_STABLE)
#define TO(kind)       (UINT32_C(1) << (kind))

/* clang-format off */
static const uint32_t legal_kinds[PHYSMAP_N_MOVERS][N_KINDS] = {
	[PHYSMAP_BY_VM] = {
		/* To itself: the touch of a watched page. */
		[IS(ZERO)]    = TO(IS(ZERO)) | TO(IS(HOME)) | TO(IS(BALLOON)),
		[IS(HOME)]    = TO(IS(HOME)) | TO(BY_VM(HOME)),
		[IS(SHARED)]  = TO(IS(SHARED)) | TO(BY_VM(SHARED)) |
				TO(IS(ZERO)) | TO(IS(BALLOON)),
		[IS(ZIPPED)]  = TO(BY_VM(ZIPPED)) | TO(IS(ZERO)) | TO(IS(BALLOON)),
		[IS(SWAPPED)] = TO(BY_VM(SWAPPED)) | TO(IS(ZERO)) | TO(IS(BALLOON)),
		[IS(BALLOON)] = TO(IS(ZERO)),

		[BY_VM(ZERO)]    = TO(IS(ZERO)),
		[BY_VM(HOME)]    = TO(IS(HOME)) | TO(BY_VM(ZERO)) | TO(BY_VM(BALLOON)),
		[BY_VM(SHARED)]  = TO(IS(SHARED)) | TO(IS(HOME)),
		[BY_VM(ZIPPED)]  = TO(IS(ZIPPED)) | TO(IS(HOME)),
		[BY_VM(SWAPPED)] = TO(IS(SWAPPED)) | TO(IS(HOME)),
		[BY_VM(BALLOON)] = TO(IS(BALLOON)),
	},
	[PHYSMAP_BY_HOST] = {
		[IS(ZERO)]    = TO(BY_HOST(ZERO)),
		[IS(HOME)]    = TO(BY_HOST(HOME)),
		[IS(SHARED)]  = TO(BY_HOST(SHARED)),
		[IS(ZIPPED)]  = TO(BY_HOST(ZIPPED)),
		[IS(SWAPPED)] = TO(BY_HOST(SWAPPED)),

		[BY_HOST(ZERO)]    = TO(IS(ZERO)),
		[BY_HOST(HOME)]    = TO(IS(HOME)) | TO(BY_HOST(ZERO)) |
				     TO(BY_HOST(SHARED)) | TO(BY_HOST(ZIPPED)) |
				     TO(BY_HOST(SWAPPED)),
		/* To itself: another frame or slot. */
		[BY_HOST(SHARED)]  = TO(IS(SHARED)) | TO(BY_HOST(SHARED)) |
				     TO(BY_HOST(ZIPPED)) | TO(BY_HOST(SWAPPED)),
		[BY_HOST(ZIPPED)]  = TO(IS(ZIPPED)) | TO(BY_HOST(ZIPPED)) |
				     TO(BY_HOST(SWAPPED)),
		[BY_HOST(SWAPPED)] = TO(IS(SWAPPED)) | TO(BY_HOST(SWAPPED)),
	},
	[PHYSMAP_BY_RECOVERY] = {
		[BY_HOST(ZERO)]    = TO(IS(ZERO)),
		[BY_HOST(HOME)]    = TO(IS(HOME)),
		[BY_HOST(SHARED)]  = TO(IS(SHARED)),
		[BY_HOST(ZIPPED)]  = TO(IS(ZIPPED)),
		[BY_HOST(SWAPPED)] = TO(IS(SWAPPED)),
	},
};
/* clang-format on */

static const char *const state_names[] = {
	[PHYSMAP_ZERO] = "zero",       [PHYSMAP_HOME] = "home",
	[PHYSMAP_SHARED] = "shared",   [PHYSMAP_ZIPPED] = "zipped",
	[PHYSMAP_SWAPPED] = "swapped", [PHYSMAP_BALLOON] = "balloon",
	[PHYSMAP_BUSY] = "busy",
};

static_assert(ARRAY_SIZE(state_names) == PHYSMAP_N_STATES,
	      "a name for each state");

const char *physmap_state_name(enum physmap_state state)
{
	return state_names[state];
}

static bool payload_valid(uint64_t entry)
{
	const uint64_t slot = physmap_slot(entry);
	const unsigned size = physmap_size_bytes(entry);

	switch (physmap_stable_state(entry)) {
	case PHYSMAP_ZERO:
	case PHYSMAP_HOME:
	case PHYSMAP_BALLOON:
		return !slot && !size;
	case PHYSMAP_SHARED:
	case PHYSMAP_SWAPPED:
		return !size;
	case PHYSMAP_ZIPPED:
		return size;
	case PHYSMAP_BUSY:
	case PHYSMAP_N_STATES:
		break;
	}
	return false;
}

static bool flags_valid(uint64_t entry)
{
	const enum physmap_state state = physmap_stable_state(entry);

	if (entry & PHYSMAP_RESERVED)
		return false;
	if (!physmap_is_busy(entry) && entry & PHYSMAP_HOST_BIT)
		return false;
	/* Touching any other page is noticed anyway. */
	return !physmap_is_watched(entry) ||
	       (!physmap_is_busy(entry) &&
		(state == PHYSMAP_ZERO || state == PHYSMAP_HOME ||
		 state == PHYSMAP_SHARED));
}

bool physmap_valid(uint64_t entry)
{
	return payload_valid(entry) && flags_valid(entry);
}

static unsigned kind_of(uint64_t entry)
{
	const unsigned state = physmap_stable_state(entry);

	if (!physmap_is_busy(entry))
		return state;
	return state + (physmap_busy_mover(entry) == PHYSMAP_BY_HOST
				? 2 * PHYSMAP_N_STABLE
				: PHYSMAP_N_STABLE);
}

/* Entering and leaving BUSY does not change what an entry stands for. */
static bool payload_kept(uint64_t from, uint64_t to)
{
	if (physmap_stable_state(from) != physmap_stable_state(to))
		return true;
	if (physmap_is_busy(from) && physmap_is_busy(to))
		return true;
	return physmap_stable(from) == physmap_stable(to);
}

/* The host asks for the next touch when it lets go of a page; the VM's touch ends that. */
static bool watch_legal(enum physmap_mover by, uint64_t from, uint64_t to)
{
	if (physmap_is_watched(to))
		return by == PHYSMAP_BY_HOST && physmap_is_busy(from);
	/* A change of nothing at all would be a bug, or a touch counted twice. */
	return from != to;
}

static bool touch_legal(enum physmap_mover by, uint64_t from, uint64_t to)
{
	if (by != PHYSMAP_BY_VM || kind_of(from) != kind_of(to))
		return true;
	return physmap_is_watched(from);
}

bool physmap_legal(enum physmap_mover by, uint64_t from, uint64_t to)
{
	return physmap_valid(from) && physmap_valid(to) &&
	       legal_kinds[by][kind_of(from)] & TO(kind_of(to)) &&
	       payload_kept(from, to) && watch_legal(by, from, to) &&
	       touch_legal(by, from, to);
}

/* Return: false with errno. */
static bool physmap_map(struct physmap *map)
{
	void *file = memfile_map(map->fd, map->file_bytes,
				 PROT_READ | PROT_WRITE);

	if (file == MAP_FAILED)
		return false;
	map->header = file;
	map->entries = (_Atomic uint64_t *)((uint8_t *)file +
					    PHYSMAP_ENTRIES_OFFSET);
	return true;
}

static int cannot_map(struct err *err)
{
	return err_set(err, -errno, "cannot map the physmap: %s",
		       strerror(errno));
}

static uint64_t file_bytes_for(uint64_t n_pages)
{
	const uint64_t bytes = PHYSMAP_ENTRIES_OFFSET +
			       n_pages * sizeof(uint64_t);

	return (bytes + PAGE_SIZE - 1) & PAGE_MASK;
}

static struct physmap *physmap_alloc(void)
{
	struct physmap *map = calloc(1, sizeof(*map));

	if (map)
		map->fd = -1;
	return map;
}

static int physmap_create(struct physmap *map, struct err *err)
{
	map->file_bytes = file_bytes_for(map->n_pages);

	int r = memfile_new("mezz-physmap", map->file_bytes, false, &map->fd,
			    err);

	if (r)
		return r;
	if (!physmap_map(map))
		return cannot_map(err);

	struct physmap_header *h = map->header;

	h->magic = PHYSMAP_MAGIC;
	h->version = PHYSMAP_VERSION;
	h->page_bytes = PAGE_SIZE;
	h->n_pages = map->n_pages;
	h->entries_offset = PHYSMAP_ENTRIES_OFFSET;
	h->file_bytes = map->file_bytes;
	atomic_store(&h->pages[PHYSMAP_ZERO], map->n_pages);
	return 0;
}

int physmap_new(uint64_t n_pages, struct physmap **ret_map, struct err *err)
{
	if (!n_pages || n_pages > MAX_PAGES)
		return err_set(err, -EINVAL,
			       "a physmap of %llu pages is not possible",
			       (unsigned long long)n_pages);

	struct physmap *map = physmap_alloc();

	if (!map)
		return err_set(err, -ENOMEM, "out of memory");
	map->n_pages = n_pages;

	int r = physmap_create(map, err);

	if (r) {
		physmap_free(map);
		return r;
	}
	*ret_map = map;
	return 0;
}

/* Without these another holder could cut the file short and our next access would fail. */
static int check_seals(int fd, struct err *err)
{
	const int needed = F_SEAL_SHRINK | F_SEAL_GROW;
	const int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & needed) != needed)
		return err_set(err, -EPERM,
			       "the physmap's memory file is not sealed");
	return 0;
}

static int check_header(const struct physmap_header *h, uint64_t file_bytes,
			struct err *err)
{
	if (h->magic != PHYSMAP_MAGIC)
		return err_set(err, -EBADMSG, "the file is not a physmap");
	if (h->version != PHYSMAP_VERSION)
		return err_set(
			err, -EBADMSG,
			"the physmap has version %u, this program knows version %u",
			h->version, PHYSMAP_VERSION);
	if (h->page_bytes != PAGE_SIZE ||
	    h->entries_offset != PHYSMAP_ENTRIES_OFFSET ||
	    h->file_bytes != file_bytes || !h->n_pages ||
	    h->n_pages > MAX_PAGES || file_bytes_for(h->n_pages) != file_bytes)
		return err_set(err, -EBADMSG,
			       "the physmap's header contradicts its length");
	return 0;
}

static int physmap_open(struct physmap *map, int fd, struct err *err)
{
	struct stat st;

	map->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (map->fd < 0 || fstat(map->fd, &st) < 0)
		return err_set(err, -errno, "cannot use the physmap's file: %s",
			       strerror(errno));

	int r = check_seals(map->fd, err);

	if (r)
		return r;
	if (st.st_size < (off_t)PHYSMAP_ENTRIES_OFFSET)
		return err_set(err, -EBADMSG, "the file is not a physmap");
	map->file_bytes = (uint64_t)st.st_size;
	if (!physmap_map(map))
		return cannot_map(err);

	/* Copied first: the other side might change it between check and use. */
	struct physmap_header copy;

	memcpy(&copy, map->header, offsetof(struct physmap_header, pages));
	r = check_header(&copy, map->file_bytes, err);
	if (!r)
		map->n_pages = copy.n_pages;
	return r;
}

int physmap_attach(int fd, struct physmap **ret_map, struct err *err)
{
	struct physmap *map = physmap_alloc();

	if (!map)
		return err_set(err, -ENOMEM, "out of memory");

	int r = physmap_open(map, fd, err);

	if (r) {
		physmap_free(map);
		return r;
	}
	*ret_map = map;
	return 0;
}

struct physmap *physmap_free(struct physmap *map)
{
	if (!map)
		return NULL;
	if (map->header)
		munmap(map->header, map->file_bytes);
	if (map->fd >= 0)
		close(map->fd);
	free(map);
	return NULL;
}

int physmap_fd(const struct physmap *map)
{
	return map->fd;
}

uint64_t physmap_pages(const struct physmap *map)
{
	return map->n_pages;
}

_Atomic uint64_t *physmap_entries(struct physmap *map)
{
	return map->entries;
}

uint64_t physmap_load(const struct physmap *map, ppn_t page)
{
	VERIFY(page.v < map->n_pages);
	return atomic_load(&map->entries[page.v]);
}

/* A page whose contents are somewhere else than in guest memory's own frames. */
static bool is_away(uint64_t entry)
{
	const enum physmap_state state = physmap_stable_state(entry);

	return state == PHYSMAP_SHARED || state == PHYSMAP_ZIPPED ||
	       state == PHYSMAP_SWAPPED;
}

static bool takes_allowance(enum physmap_mover by, uint64_t from, uint64_t to)
{
	if (by != PHYSMAP_BY_VM || physmap_is_busy(from))
		return false;
	return (physmap_state(from) == PHYSMAP_ZERO &&
		physmap_state(to) == PHYSMAP_HOME) ||
	       (is_away(from) && physmap_is_busy(to));
}

static bool returns_allowance(enum physmap_mover by, uint64_t from, uint64_t to)
{
	return by == PHYSMAP_BY_VM && physmap_is_busy(from) && is_away(from) &&
	       is_away(to);
}

uint64_t physmap_withdraw(struct physmap *map, uint64_t pages)
{
	_Atomic uint64_t *allowance = &map->header->allowance;
	uint64_t have = atomic_load(allowance);
	uint64_t taken;

	do {
		taken = have < pages ? have : pages;
	} while (taken &&
		 !atomic_compare_exchange_weak(allowance, &have, have - taken));
	return taken;
}

void physmap_grant(struct physmap *map, uint64_t pages)
{
	atomic_fetch_add(&map->header->allowance, pages);
	physmap_bell_ring(map);
}

uint64_t physmap_allowance(const struct physmap *map)
{
	return atomic_load(&map->header->allowance);
}

/* Bringing a watched page back or using it is a touch; giving it up is not. */
static bool is_touch(enum physmap_mover by, uint64_t from, uint64_t to)
{
	if (by != PHYSMAP_BY_VM || !physmap_is_watched(from))
		return false;
	if (physmap_is_busy(to))
		return is_away(to);
	return physmap_state(to) == PHYSMAP_HOME ||
	       physmap_state(to) == physmap_state(from);
}

static void keep_books(struct physmap *map, enum physmap_mover by,
		       uint64_t from, uint64_t to)
{
	const enum physmap_state before = physmap_state(from);
	const enum physmap_state after = physmap_state(to);

	if (before != after) {
		atomic_fetch_sub(&map->header->pages[before], 1);
		atomic_fetch_add(&map->header->pages[after], 1);
	}
	if (is_touch(by, from, to))
		atomic_fetch_add(&map->header->touched, 1);
	if (returns_allowance(by, from, to))
		atomic_fetch_add(&map->header->allowance, 1);
	if (before == PHYSMAP_BUSY && after != PHYSMAP_BUSY)
		physmap_bell_ring(map);
}

enum physmap_result physmap_change(struct physmap *map, enum physmap_mover by,
				   ppn_t page, uint64_t from, uint64_t to)
{
	VERIFY(page.v < map->n_pages);
	if (!physmap_legal(by, from, to))
		return PHYSMAP_ILLEGAL;

	/* First the frame, then the page: the host's memory is never exceeded. */
	const bool taken = takes_allowance(by, from, to);
	uint64_t expected = from;

	if (taken && !physmap_withdraw(map, 1))
		return PHYSMAP_NO_ALLOWANCE;
	if (!atomic_compare_exchange_strong(&map->entries[page.v], &expected,
					    to)) {
		if (taken)
			atomic_fetch_add(&map->header->allowance, 1);
		return PHYSMAP_RACED;
	}
	keep_books(map, by, from, to);
	return PHYSMAP_CHANGED;
}

/* Entries change while the books have it already: memory in use never looks like less. */
uint64_t physmap_claim_run(struct physmap *map, ppn_t first, uint64_t n_pages)
{
	_Atomic uint64_t *pages = map->header->pages;
	uint64_t taken, n = 0;

	VERIFY(first.v <= map->n_pages && n_pages <= map->n_pages - first.v);
	taken = physmap_withdraw(map, n_pages);
	atomic_fetch_add(&pages[PHYSMAP_HOME], taken);
	atomic_fetch_sub(&pages[PHYSMAP_ZERO], taken);
	for (uint64_t i = first.v; i < first.v + n_pages && n < taken; i++) {
		uint64_t expected = physmap_zero();

		if (physmap_load(map, ppn(i)) == expected)
			n += atomic_compare_exchange_strong(&map->entries[i],
							    &expected,
							    physmap_home());
	}
	if (n == taken)
		return n;
	physmap_grant(map, taken - n);
	atomic_fetch_add(&pages[PHYSMAP_ZERO], taken - n);
	atomic_fetch_sub(&pages[PHYSMAP_HOME], taken - n);
	return n;
}

struct physmap_counts physmap_counts(const struct physmap *map)
{
	struct physmap_counts counts;

	for (unsigned i = 0; i < PHYSMAP_N_STATES; i++)
		counts.pages[i] = atomic_load(&map->header->pages[i]);
	return counts;
}

uint64_t physmap_touched(const struct physmap *map)
{
	return atomic_load(&map->header->touched);
}

/* Iterates over the entries that have memory behind them. */
struct scan {
	struct physmap *map;
	uint64_t page; /* the next one */
	uint64_t end;  /* end of the stretch that it is in */
};

static bool scan_next(struct scan *s, ppn_t *ret_page)
{
	if (s->page >= s->end) {
		uint64_t start;
		uint64_t end;

		if (!memfile_data_next(s->map->fd, s->map->file_bytes,
				       PHYSMAP_ENTRIES_OFFSET + s->page * 8,
				       &start, &end))
			return false;
		s->page = (start - PHYSMAP_ENTRIES_OFFSET) / 8;
		s->end = (end - PHYSMAP_ENTRIES_OFFSET) / 8;
		if (s->end > s->map->n_pages)
			s->end = s->map->n_pages;
		if (s->page >= s->end)
			return false;
	}
	*ret_page = ppn(s->page++);
	return true;
}

uint64_t physmap_count(struct physmap *map, struct physmap_counts *ret_counts)
{
	struct scan s = {.map = map};
	struct physmap_counts counts = {0};
	uint64_t n_seen = 0;
	uint64_t n_invalid = 0;
	ppn_t page;

	while (scan_next(&s, &page)) {
		const uint64_t entry = physmap_load(map, page);

		n_seen++;
		if (physmap_valid(entry))
			counts.pages[physmap_state(entry)]++;
		else
			n_invalid++;
	}
	counts.pages[PHYSMAP_ZERO] += map->n_pages - n_seen;
	*ret_counts = counts;
	return n_invalid;
}

bool physmap_audit(struct physmap *map)
{
	struct physmap_counts counts;

	if (physmap_count(map, &counts))
		return false;
	for (unsigned i = 0; i < PHYSMAP_N_STATES; i++) {
		if (counts.pages[i] != atomic_load(&map->header->pages[i]))
			return false;
	}
	return true;
}

void physmap_recount(struct physmap *map)
{
	struct physmap_counts counts;

	physmap_count(map, &counts);
	for (unsigned i = 0; i < PHYSMAP_N_STATES; i++)
		atomic_store(&map->header->pages[i], counts.pages[i]);
}

uint64_t physmap_recover(struct physmap *map, int home_fd)
{
	struct scan s = {.map = map};
	uint64_t n = 0;
	ppn_t page;

	while (scan_next(&s, &page)) {
		const uint64_t entry = physmap_load(map, page);

		if (!physmap_valid(entry) || !physmap_is_busy(entry) ||
		    physmap_busy_mover(entry) != PHYSMAP_BY_HOST)
			continue;
		if (physmap_stable_state(entry) != PHYSMAP_HOME)
			memfile_drop(home_fd, page.v * PAGE_SIZE, PAGE_SIZE);
		if (physmap_change(map, PHYSMAP_BY_RECOVERY, page, entry,
				   physmap_stable(entry)) == PHYSMAP_CHANGED)
			n++;
	}
	/* The host may have died between an entry and its counters. */
	physmap_recount(map);
	return n;
}

static long futex(_Atomic uint32_t *word, int op, uint32_t value,
		  const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

uint32_t physmap_bell_prepare(struct physmap *map)
{
	atomic_fetch_add(&map->header->n_waiting, 1);
	return atomic_load(&map->header->bell);
}

bool physmap_bell_wait(struct physmap *map, uint32_t seen)
{
	const struct timespec second = {.tv_sec = 1};

	/* Every other reason to return is fine: the caller looks again. */
	return !futex(&map->header->bell, FUTEX_WAIT, seen, &second) ||
	       errno != ETIMEDOUT;
}

void physmap_bell_finish(struct physmap *map)
{
	atomic_fetch_sub(&map->header->n_waiting, 1);
}

void physmap_bell_ring(struct physmap *map)
{
	if (!atomic_load(&map->header->n_waiting))
		return;
	atomic_fetch_add(&map->header->bell, 1);
	(void)futex(&map->header->bell, FUTEX_WAKE, INT_MAX, NULL);
}
