/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM without a processor: guest memory, the link and the pager are the real ones, the
 * guest is a loop that writes, verifies and gives up pages and knows what each must hold.
 *
 * It is started like mezz-vm. What it has done is in the file progress of its directory;
 * while there is a file pause there, it does nothing but answer the host.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <base/rng.h>
#include <base/verify.h>
#include <mem/guestmem.h>
#include <vm/link.h>

#include "progress.h"

#define FILL_PAGES 16

/* Its balloon driver: none; one that works; one that does nothing, until it is told to; and one
 * that says that its guest could do without everything, and goes on using what it gave up. */
enum fake_driver {
	DRIVER_NONE,
	DRIVER_GOOD,
	DRIVER_STUCK,
	DRIVER_LIAR,
};

struct fake {
	struct guestmem *mem;
	struct link *link;
	struct fake_progress *progress;
	char dir[4000];
	uint64_t n_pages;
	uint64_t available; /* what it says it could do without */
	uint64_t active;    /* pages [0, active) are used */
	uint64_t common_pct; /* of the pages written, contents that others have too */
	uint64_t write_pct;
	uint64_t drop_pct;
	bool sequential; /* write all once, then only look */
	enum fake_driver balloon;
	uint64_t image; /* says that what it writes at first came from there; 0: does not */
	bool outside; /* says so of pages that it does not have */
	uint64_t spoil_next;
	uint64_t seed;
	struct rng rng;
	uint32_t *holds; /* by page: what was written there, 0: zeros */
	uint8_t *ballooned;
	uint64_t n_ballooned;
	_Atomic uint64_t balloon_target;
	_Atomic bool stop;
	uint8_t want[PAGE_SIZE];
};

/* Contents by number: small numbers are common to all VMs; a third of the rest packs badly. */
static void contents(const struct fake *f, uint32_t what, uint8_t *page)
{
	struct rng random = {
		what < FAKE_COMMON ? what : f->seed ^ (uint64_t)what << 20};
	uint64_t words[PAGE_SIZE / 8];

	if (!what) {
		memset(page, 0, PAGE_SIZE);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		/* Every fourth word only, so that it packs to a third or so. */
		if (what % 3 == 0 || i % 4 == 0)
			words[i] = rng_next(&random);
		else
			words[i] = what;
	}
	memcpy(page, words, PAGE_SIZE);
}

static void on_balloon(void *ctx, uint64_t pages)
{
	struct fake *f = ctx;

	atomic_store(&f->balloon_target, pages);
}

static void on_stop(void *ctx)
{
	struct fake *f = ctx;

	atomic_store(&f->stop, true);
	guestmem_stop(f->mem);
}

static const struct link_hooks hooks = {
	.balloon = on_balloon,
	.stop = on_stop,
};

static void fail(struct fake *f, uint64_t page)
{
	if (atomic_load(&f->stop))
		return;
	fprintf(stderr, "page %llu does not hold what was written (%u)\n",
		(unsigned long long)page, f->holds[page]);
	atomic_fetch_add(&f->progress->errors, 1);
}

static void write_page(struct fake *f, uint64_t page, uint32_t what)
{
	contents(f, what, f->want);
	if (guestmem_write(f->mem, guestmem_gpa(f->mem, ppn(page)), f->want,
			   PAGE_SIZE))
		f->holds[page] = what;
	else
		fail(f, page);
}

static void check_page(struct fake *f, uint64_t page)
{
	uint8_t got[PAGE_SIZE];

	contents(f, f->holds[page], f->want);
	if (!guestmem_read(f->mem, guestmem_gpa(f->mem, ppn(page)), got,
			   PAGE_SIZE) ||
	    memcmp(got, f->want, PAGE_SIZE) != 0)
		fail(f, page);
}

static void drop_page(struct fake *f, uint64_t page, enum physmap_state to)
{
	if (guestmem_drop(f->mem, ppn(page), to) == MEM_OK)
		f->holds[page] = 0;
}

/* A few pages at a time, from the end of RAM down, as long as the target differs. */
static void follow_balloon(struct fake *f)
{
	const uint64_t target = atomic_load(&f->balloon_target);

	if (f->balloon == DRIVER_STUCK && atomic_load(&f->progress->mended))
		f->balloon = DRIVER_GOOD;
	if (f->balloon == DRIVER_NONE || f->balloon == DRIVER_STUCK)
		return;
	for (int i = 0; i < 64; i++) {
		if (f->n_ballooned < target) {
			const uint64_t page = f->n_pages - 1 - f->n_ballooned;

			drop_page(f, page, PHYSMAP_BALLOON);
			f->ballooned[page] = 1;
			f->n_ballooned++;
		} else if (f->n_ballooned > target) {
			f->n_ballooned--;
			f->ballooned[f->n_pages - 1 - f->n_ballooned] = 0;
		}
	}
}

/* No engine has these numbers: a host believes no word of a VM unchecked. */
static void tell_engine(struct fake *f)
{
	struct link_counters *c = link_counters(f->link);

	atomic_store(&c->engine, LINK_ENGINES);
	atomic_store(&c->mmu, UINT32_MAX);
}

static void tell_balloon(struct fake *f)
{
	struct link_counters *c = link_counters(f->link);
	struct timespec t;

	if (f->balloon == DRIVER_NONE)
		return;
	clock_gettime(CLOCK_MONOTONIC, &t);
	atomic_store(&c->balloon_present, 1);
	atomic_store(&c->balloon_total, f->n_pages);
	atomic_store(&c->balloon_available,
		     f->balloon == DRIVER_LIAR ? f->n_pages
		     : f->available > f->n_ballooned
			     ? f->available - f->n_ballooned
			     : 0);
	atomic_store(&c->balloon_stats_ms,
		     (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
}

static uint32_t choose(struct fake *f)
{
	const uint64_t r = rng_next(&f->rng);

	if (r % 100 < f->common_pct)
		return 1 + (uint32_t)(r >> 32) % (FAKE_COMMON - 1);
	return FAKE_COMMON + (uint32_t)(r >> 34);
}

static void step(struct fake *f)
{
	const uint64_t r = rng_next(&f->rng);
	const uint64_t page = (r >> 8) % f->active;
	const uint64_t dice = (r & 0xff) * 100 / 256;

	guestmem_service(f->mem);
	if (f->ballooned[page] && f->balloon != DRIVER_LIAR)
		return;
	if (atomic_load(&f->progress->spoil))
		write_page(f, f->spoil_next++ % f->active,
			   FAKE_COMMON + (uint32_t)(r >> 34));
	else if (dice < f->drop_pct)
		drop_page(f, page, PHYSMAP_ZERO);
	else if (dice < f->drop_pct + f->write_pct)
		write_page(f, page, choose(f));
	else
		check_page(f, page);
}

static bool is_paused(struct fake *f)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/pause", f->dir);
	return !access(path, F_OK);
}

static void pause_while_told(struct fake *f)
{
	const struct timespec t = {.tv_nsec = 1000000};

	while (is_paused(f) && !atomic_load(&f->stop)) {
		guestmem_service(f->mem);
		tell_balloon(f);
		atomic_store(&f->progress->paused, 1);
		nanosleep(&t, NULL);
	}
	atomic_store(&f->progress->paused, 0);
}

static void offer_image(struct fake *f)
{
	struct link_counters *c = link_counters(f->link);

	c->images[0] = (struct link_image){.dev = 1, .ino = f->image};
	atomic_store(&c->n_images, !!f->image);
}

/* As a disk would: a stretch at a time, but never more than the host has looked at. */
static void tell_filled(struct fake *f, uint64_t end)
{
	const struct timespec t = {.tv_nsec = 1000000};
	const struct link_filled filled = {
		.page = end - FILL_PAGES + (f->outside ? f->n_pages : 0),
		.n_pages = FILL_PAGES,
	};

	link_filled_push(link_counters(f->link), &filled);
	while (end % (FILL_PAGES * 64) == 0 &&
	       link_filled_any(link_counters(f->link)) &&
	       !atomic_load(&f->stop)) {
		guestmem_service(f->mem);
		nanosleep(&t, NULL);
	}
}

static void run(struct fake *f)
{
	link_set_processor(f->link);
	tell_engine(f);
	offer_image(f);
	for (uint64_t p = 0; f->sequential && p < f->active; p++) {
		guestmem_service(f->mem);
		write_page(f, p, choose(f));
		if (f->image && (p + 1) % FILL_PAGES == 0)
			tell_filled(f, p + 1);
	}
	while (!atomic_load(&f->stop)) {
		for (int i = 0; i < 64; i++)
			step(f);
		atomic_fetch_add(&f->progress->ops, 64);
		follow_balloon(f);
		tell_balloon(f);
		pause_while_told(f);
	}
}

static int open_progress(struct fake *f)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/progress", f->dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, PAGE_SIZE) < 0)
		return -errno;
	f->progress = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			   fd, 0);
	close(fd);
	return f->progress == MAP_FAILED ? -errno : 0;
}

static uint64_t number(const char *text)
{
	char *end;
	const uint64_t n = strtoull(text, &end, 0);

	return *end == 'K' ? n * 1024 / PAGE_SIZE : n;
}

static void parse(struct fake *f, int argc, char *argv[])
{
	for (int i = 1; i + 1 < argc; i += 2) {
		const char *key = argv[i];

		if (!strcmp(key, "--memory"))
			f->n_pages = number(argv[i + 1]);
		else if (!strcmp(key, "--link"))
			snprintf(f->dir, sizeof(f->dir), "%s", argv[i + 1]);
		else if (!strcmp(key, "--active"))
			f->active = number(argv[i + 1]);
		else if (!strcmp(key, "--available"))
			f->available = number(argv[i + 1]);
		else if (!strcmp(key, "--common"))
			f->common_pct = number(argv[i + 1]);
		else if (!strcmp(key, "--write"))
			f->write_pct = number(argv[i + 1]);
		else if (!strcmp(key, "--drop"))
			f->drop_pct = number(argv[i + 1]);
		else if (!strcmp(key, "--seed"))
			f->seed = number(argv[i + 1]);
		else if (!strcmp(key, "--sequential"))
			f->sequential = number(argv[i + 1]);
		else if (!strcmp(key, "--balloon"))
			f->balloon = (enum fake_driver)number(argv[i + 1]);
		else if (!strcmp(key, "--image"))
			f->image = number(argv[i + 1]);
		else if (!strcmp(key, "--outside"))
			f->outside = number(argv[i + 1]);
	}
	if (!f->active || f->active > f->n_pages)
		f->active = f->n_pages;
	f->rng.state = f->seed * 77 + 5;
}

int main(int argc, char *argv[])
{
	static struct fake f = {.write_pct = 30, .drop_pct = 2, .common_pct = 30};
	struct err err = {0};

	parse(&f, argc, argv);
	f.holds = calloc(f.n_pages, sizeof(*f.holds));
	f.ballooned = calloc(f.n_pages, 1);
	if (!f.holds || !f.ballooned || open_progress(&f))
		return 1;
	if (guestmem_new(f.n_pages * PAGE_SIZE, &f.mem, &err) ||
	    link_new(f.mem, f.dir, &hooks, &f, &f.link, &err) ||
	    link_wait(f.link, 20000, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	atomic_store(&f.progress->allowed,
		     physmap_allowance(guestmem_physmap(f.mem)));
	link_tell_up(f.link);
	run(&f);
	f.link = link_free(f.link);
	guestmem_free(f.mem);
	return atomic_load(&f.progress->errors) ? 99 : 0;
}
