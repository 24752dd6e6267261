/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the guest RAM window share: kvm_window.c, kvm_chunks.c, kvm_shared.c. */
#ifndef ENGINE_KVM_WINDOW_IMPL_H
#define ENGINE_KVM_WINDOW_IMPL_H
#include <pthread.h>
#include <stdatomic.h>

#include <engine/kvm_window.h>
#include <engine/run_map.h>

#define LARGE_BYTES (UINT64_C(2) << 20)
#define LARGE_PAGES (LARGE_BYTES / PAGE_SIZE)

enum chunk_state {
	CHUNK_PLAIN, /* the kernel's alone: all HOME */
	CHUNK_SMALL, /* likewise, but made of small pages that could be a large one */
	CHUNK_REGISTERED, /* pages may be away */
	CHUNK_QUIET, /* registered, and no page was taken since the last look */
};

/* Its state, and how many looks it has been in it (no more than 255). */
struct chunk {
	uint8_t state;
	uint8_t age;
};

/* Pages that may be read only, until somebody wants to write. */
#define READ_ONLY_MAX 64

/* Pages from @first on, without @end. */
struct page_range {
	uint64_t first;
	uint64_t end;
};

/* Members: I immutable, m under cfg.lock, a atomic. */
struct kvm_window {
	struct kvm_window_config cfg; /* I */
	struct machine *machine;      /* I */
	pid_t pid;                    /* I */
	struct physmap *map;          /* I */
	uint64_t n_pages;             /* I */
	uint8_t *base;                /* I */
	uint8_t *reserved;            /* I what munmap() gets */
	uint64_t reserved_bytes;      /* I */
	struct kvm_userfault fault;   /* I */
	int uffd;                     /* I or -1 */
	int wake_fd;                  /* I eventfd */
	bool offers_large;            /* I the host has large pages for us */
	struct chunk *chunks;         /* m */
	uint64_t n_chunks;            /* I */
	uint64_t chunk_pages;         /* I */
	uint64_t n_small;             /* m chunks that are CHUNK_SMALL */
	bool devices_large; /* m the machine window asks for large pages, too */
	bool loaded_large;  /* I it did so before anything was loaded */
	uint64_t look_at;   /* m where chunks_look() goes on */
	struct run_map shared;                      /* m */
	struct page_range read_only[READ_ONLY_MAX]; /* m */
	unsigned int n_read_only;                   /* m of @read_only */
	bool open;                                  /* m kvm_window_open() */
	uint64_t strays_ns;                         /* m chunks_drop_strays() */
	uint64_t fault_ns; /* m since when the fault that is served has waited uncounted */
	uint64_t untold_ns; /* m how long the guest has waited since it was told */
	pthread_t thread;
	bool started;        /* owner's thread */
	_Atomic bool ending; /* a */
	_Atomic bool broken; /* a no large pages are wanted */
	bool gave_back;      /* thread: chunks_give_back() has been done */
	struct kvm_window_stats stats; /* m */
};

static inline uint8_t *window_at(const struct kvm_window *w, uint64_t page)
{
	return w->base + page * PAGE_SIZE;
}

static inline uint64_t chunk_of(const struct kvm_window *w, uint64_t page)
{
	return page / w->chunk_pages;
}

/* The page after a page's chunk. */
static inline uint64_t chunk_end(const struct kvm_window *w, uint64_t page)
{
	const uint64_t end = (page / w->chunk_pages + 1) * w->chunk_pages;

	return end < w->n_pages ? end : w->n_pages;
}

static inline bool is_plain_home(const struct kvm_window *w, uint64_t page)
{
	return physmap_load(w->map, ppn(page)) == PHYSMAP_HOME_ENTRY &&
	       !run_map_has(&w->shared, page);
}

/**
 * window_register() - have userfaultfd watch pages of our own mapping.
 * @w: window
 * @first: first page
 * @end: page behind the last
 * @mode: UFFDIO_REGISTER_MODE_…
 */
void window_register(struct kvm_window *w, uint64_t first, uint64_t end,
		     uint64_t mode);

/** window_watch_home() - watch pages of the home file: those that are away come by a fault. */
void window_watch_home(struct kvm_window *w, uint64_t first, uint64_t end);

/** window_unwatch() - stop watching; whoever waits there tries again. */
void window_unwatch(struct kvm_window *w, uint64_t first, uint64_t end);

/** window_map_watched() - show the home file there, watched before anybody can see it. */
void window_map_watched(struct kvm_window *w, uint64_t first, uint64_t end);

/**
 * chunks_init() - cut the window into chunks; all of them plain.
 *
 * Return: 0 or -ENOMEM.
 */
int chunks_init(struct kvm_window *w) __attribute__((warn_unused_result));

/**
 * chunks_claim_all() - make all of RAM HOME, if it is allowed.
 *
 * Without memory behind it until it is touched. Return: whether every page is HOME now.
 */
bool chunks_claim_all(struct kvm_window *w);

/** chunks_start_plain(), chunks_start_watched() - the window as the VM starts. */
void chunks_start_plain(struct kvm_window *w);
void chunks_start_watched(struct kvm_window *w);

/** chunk_watch() - a page of it is about to be taken: from now on its pages may be away. */
void chunk_watch(struct kvm_window *w, uint64_t page);

/** chunk_is_plain() - whether nobody watches a page's chunk. */
bool chunk_is_plain(const struct kvm_window *w, uint64_t page);

/**
 * chunk_claim() - make a page's chunk HOME as a whole before its first touch, and the kernel's.
 *
 * Return: false if it cannot be, or large pages are not wanted.
 */
bool chunk_claim(struct kvm_window *w, uint64_t page);

/** page_claim() - make a ZERO page HOME. Return: false if it cannot be. */
bool page_claim(struct kvm_window *w, uint64_t page);

/** chunks_need_look() - whether chunks_look() would find something to do, now or later. */
bool chunks_need_look(const struct kvm_window *w);

/** chunks_audit() - count chunks again. Return: whether all counts of them are right. */
bool chunks_audit(const struct kvm_window *w);

/** chunks_look() - give chunks back to the kernel that are whole again. Takes the lock. */
void chunks_look(struct kvm_window *w);

/**
 * chunks_drop_strays() - release memory behind pages that are away.
 *
 * The kernel may leave or bring it there: it cannot always split a large page of which a part
 * is released, and khugepaged fills the holes of one that it is making while we take it apart.
 */
void chunks_drop_strays(struct kvm_window *w);

/**
 * chunks_untouched() - how many pages from @first on, before @end, have never been touched, as far
 * as they are in plain chunks.
 */
uint64_t chunks_untouched(const struct kvm_window *w, uint64_t first,
			  uint64_t end);

/** chunks_give_back() - make ZERO what is HOME but was never touched. Takes the lock. */
void chunks_give_back(struct kvm_window *w);

/**
 * shared_show() - map a page of the group's file, with those around it.
 * @w: window
 * @page: number of the page
 * @frame: that it is shared in
 * @read_only: the one who waits asks for writing and is to fail (kvm_window.c: by_worker())
 *
 * Return: false if the page had better become private.
 */
bool shared_show(struct kvm_window *w, uint64_t page, uint64_t frame,
		 bool read_only);

/** shared_let_write() - processors may write to all shared pages, which is a write fault. */
void shared_let_write(struct kvm_window *w);

/** shared_leave() - a page of a shared run goes back to the home file, not mapped yet. */
void shared_leave(struct kvm_window *w, uint64_t page);

#endif
