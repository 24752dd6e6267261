/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of mem/physmap. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <mem/physmap.h>

static struct physmap *new_map(uint64_t n_pages)
{
	struct physmap *map = NULL;
	struct err err = {0};

	if (physmap_new(n_pages, &map, &err))
		fail_msg("%s", err.text);
	return map;
}

static void change(struct physmap *map, enum physmap_mover by, uint64_t page,
		   uint64_t to)
{
	assert_int_equal(physmap_change(map, by, ppn(page),
					physmap_load(map, ppn(page)), to),
			 PHYSMAP_CHANGED);
}

static uint64_t by_host(uint64_t stable)
{
	return physmap_busy(stable, PHYSMAP_BY_HOST);
}

static uint64_t by_vm(uint64_t stable)
{
	return physmap_busy(stable, PHYSMAP_BY_VM);
}

static void entries_hold_what_they_are_made_of(void **state)
{
	const uint64_t zipped = physmap_zipped(PHYSMAP_MAX_SLOT, 2047);
	const uint64_t busy = by_host(zipped);

	(void)state;
	assert_int_equal(physmap_zero(), 0);
	assert_int_equal(physmap_home(), PHYSMAP_HOME_ENTRY);
	assert_int_equal(physmap_state(zipped), PHYSMAP_ZIPPED);
	assert_int_equal(physmap_slot(zipped), PHYSMAP_MAX_SLOT);
	assert_int_equal(physmap_size_bytes(zipped), 2047);
	assert_int_equal(physmap_state(busy), PHYSMAP_BUSY);
	assert_int_equal(physmap_stable_state(busy), PHYSMAP_ZIPPED);
	assert_int_equal(physmap_slot(busy), PHYSMAP_MAX_SLOT);
	assert_int_equal(physmap_size_bytes(busy), 2047);
	assert_int_equal(physmap_stable(busy), zipped);
	assert_int_equal(physmap_busy_mover(busy), PHYSMAP_BY_HOST);
	assert_int_equal(physmap_busy_mover(by_vm(zipped)), PHYSMAP_BY_VM);
	assert_int_equal(physmap_slot(physmap_shared(99)), 99);
	assert_int_equal(physmap_slot(physmap_swapped(98)), 98);
	assert_true(physmap_is_watched(physmap_watched(physmap_home())));
	assert_int_equal(by_host(physmap_watched(physmap_home())),
			 by_host(physmap_home()));
	assert_string_equal(physmap_state_name(PHYSMAP_BUSY), "busy");
	assert_string_equal(physmap_state_name(PHYSMAP_ZERO), "zero");
}

static void words_that_are_no_entries(void **state)
{
	(void)state;
	assert_true(physmap_valid(physmap_zero()));
	assert_true(physmap_valid(by_vm(physmap_zipped(0, 1))));
	assert_false(physmap_valid(6));
	assert_false(physmap_valid(7));
	assert_false(physmap_valid(by_host(6)));
	assert_false(physmap_valid(physmap_home() | 0x40));
	assert_false(physmap_valid(physmap_home() | 0x80));
	assert_false(physmap_valid(physmap_home() | PHYSMAP_HOST_BIT));
	assert_false(physmap_valid(physmap_zero() | UINT64_C(1) << 20));
	assert_false(physmap_valid(physmap_home() | UINT64_C(1) << 63));
	assert_false(physmap_valid(physmap_balloon() | 0x100));
	assert_false(physmap_valid(physmap_zipped(3, 0)));
	assert_false(physmap_valid(physmap_shared(3) | 0x100));
	assert_false(physmap_valid(physmap_watched(physmap_balloon())));
	assert_false(physmap_valid(physmap_watched(physmap_swapped(1))));
	assert_false(physmap_valid(by_host(physmap_home()) | PHYSMAP_WATCHED));
}

/*
 * The model that the table is compared with: DESIGN's rules as predicates, written
 * independently of the table. 36 words: each stable entry (with two payloads where there
 * is one), watched where that is possible, and BUSY by either side.
 */
struct word {
	uint64_t entry;
	enum physmap_state stable;
	char busy; /* 'v', 'h' or 0 */
	bool watched;
};

#define MAX_WORDS 64

static unsigned all_words(struct word *ret)
{
	const uint64_t stable[] = {
		physmap_zero(),         physmap_home(),
		physmap_balloon(),      physmap_shared(1),
		physmap_shared(2),      physmap_zipped(1, 100),
		physmap_zipped(2, 100), physmap_swapped(1),
		physmap_swapped(2),
	};
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(stable); i++) {
		const enum physmap_state s = physmap_state(stable[i]);

		ret[n++] = (struct word){stable[i], s, 0, false};
		ret[n++] = (struct word){by_vm(stable[i]), s, 'v', false};
		ret[n++] = (struct word){by_host(stable[i]), s, 'h', false};
		if (s == PHYSMAP_ZERO || s == PHYSMAP_HOME ||
		    s == PHYSMAP_SHARED)
			ret[n++] = (struct word){physmap_watched(stable[i]), s,
						 0, true};
	}
	return n;
}

static bool away(enum physmap_state s)
{
	return s == PHYSMAP_SHARED || s == PHYSMAP_ZIPPED ||
	       s == PHYSMAP_SWAPPED;
}

static bool same_contents(const struct word *a, const struct word *b)
{
	return physmap_stable(a->entry) == physmap_stable(b->entry);
}

static bool vm_may(const struct word *a, const struct word *b)
{
	if (b->watched || a->busy == 'h' || b->busy == 'h')
		return false;
	if (a->watched && !b->busy && same_contents(a, b))
		return true; /* touched */
	if (!a->busy && !b->busy) {
		if (a->stable == PHYSMAP_ZERO)
			return b->stable == PHYSMAP_HOME ||
			       b->stable == PHYSMAP_BALLOON;
		if (a->stable == PHYSMAP_BALLOON)
			return b->stable == PHYSMAP_ZERO;
		return away(a->stable) && (b->stable == PHYSMAP_ZERO ||
					   b->stable == PHYSMAP_BALLOON);
	}
	if (!a->busy)
		return same_contents(a, b) &&
		       (a->stable == PHYSMAP_HOME || away(a->stable));
	if (b->busy)
		return a->stable == PHYSMAP_HOME &&
		       (b->stable == PHYSMAP_ZERO ||
			b->stable == PHYSMAP_BALLOON);
	return same_contents(a, b) ||
	       (away(a->stable) && b->stable == PHYSMAP_HOME);
}

static bool host_may(const struct word *a, const struct word *b)
{
	/* How far from home; contents only move outwards. */
	static const int distance[PHYSMAP_N_STATES] = {
		[PHYSMAP_HOME] = 0,
		[PHYSMAP_SHARED] = 1,
		[PHYSMAP_ZIPPED] = 2,
		[PHYSMAP_SWAPPED] = 3,
	};

	if (a->busy == 'v' || b->busy == 'v' || a->stable == PHYSMAP_BALLOON ||
	    b->stable == PHYSMAP_BALLOON)
		return false;
	if (!a->busy || !b->busy)
		return a->busy != b->busy && same_contents(a, b);
	if (a->stable == PHYSMAP_ZERO)
		return false;
	if (b->stable == PHYSMAP_ZERO)
		return a->stable == PHYSMAP_HOME;
	if (a->stable == b->stable)
		return !same_contents(a, b);
	return distance[b->stable] > distance[a->stable];
}

static bool recovery_may(const struct word *a, const struct word *b)
{
	return a->busy == 'h' && !b->busy && !b->watched &&
	       same_contents(a, b) && a->stable != PHYSMAP_BALLOON;
}

static void every_pair_is_as_the_rules_say(void **state)
{
	bool (*const may[])(const struct word *, const struct word *) = {
		[PHYSMAP_BY_VM] = vm_may,
		[PHYSMAP_BY_HOST] = host_may,
		[PHYSMAP_BY_RECOVERY] = recovery_may,
	};
	struct word words[MAX_WORDS];
	const unsigned n = all_words(words);
	unsigned n_legal = 0;

	(void)state;
	for (unsigned by = 0; by < PHYSMAP_N_MOVERS; by++) {
		for (unsigned i = 0; i < n * n; i++) {
			const struct word *a = &words[i / n];
			const struct word *b = &words[i % n];
			const bool legal = physmap_legal(by, a->entry, b->entry);

			n_legal += legal;
			if (legal != may[by](a, b))
				fail_msg("mover %u: %#lx to %#lx is %s", by,
					 a->entry, b->entry,
					 legal ? "legal" : "illegal");
		}
	}
	assert_true(n_legal > 60);
}

static void garbage_is_never_legal(void **state)
{
	struct word words[MAX_WORDS];
	const unsigned n = all_words(words);

	(void)state;
	for (unsigned by = 0; by < PHYSMAP_N_MOVERS; by++) {
		for (unsigned i = 0; i < n; i++) {
			for (uint64_t bad = 6; bad < 8; bad++) {
				assert_false(
					physmap_legal(by, words[i].entry, bad));
				assert_false(
					physmap_legal(by, bad, words[i].entry));
			}
			assert_false(physmap_legal(by, words[i].entry | 0x40,
						   words[i].entry));
		}
	}
}

static void a_new_map_is_zero(void **state)
{
	struct physmap *map = new_map(1000);
	const struct physmap_counts counts = physmap_counts(map);

	(void)state;
	assert_int_equal(physmap_pages(map), 1000);
	assert_int_equal(counts.pages[PHYSMAP_ZERO], 1000);
	assert_int_equal(physmap_load(map, ppn(999)), physmap_zero());
	assert_int_equal(physmap_allowance(map), 0);
	assert_true(physmap_audit(map));
	physmap_free(map);
	assert_null(physmap_free(NULL));
}

static void sizes_are_checked(void **state)
{
	struct physmap *map = NULL;
	struct err err = {0};

	(void)state;
	assert_int_equal(physmap_new(0, &map, &err), -EINVAL);
	assert_int_equal(physmap_new((UINT64_C(1) << 28) + 1, &map, &err),
			 -EINVAL);
	assert_null(map);
}

static void change_says_what_became_of_it(void **state)
{
	struct physmap *map = new_map(8);

	(void)state;
	assert_int_equal(physmap_change(map, PHYSMAP_BY_VM, ppn(1),
					physmap_zero(), physmap_home()),
			 PHYSMAP_NO_ALLOWANCE);
	physmap_grant(map, 1);
	assert_int_equal(physmap_change(map, PHYSMAP_BY_HOST, ppn(1),
					physmap_zero(), physmap_home()),
			 PHYSMAP_ILLEGAL);
	assert_int_equal(physmap_change(map, PHYSMAP_BY_VM, ppn(1),
					physmap_home(), by_vm(physmap_home())),
			 PHYSMAP_RACED);
	assert_int_equal(physmap_change(map, PHYSMAP_BY_VM, ppn(1),
					physmap_shared(1),
					by_vm(physmap_shared(1))),
			 PHYSMAP_RACED);
	/* A race gives the allowance back. */
	assert_int_equal(physmap_allowance(map), 1);
	assert_int_equal(physmap_load(map, ppn(1)), physmap_zero());
	assert_int_equal(physmap_change(map, PHYSMAP_BY_VM, ppn(1),
					physmap_zero(), physmap_home()),
			 PHYSMAP_CHANGED);
	assert_int_equal(physmap_allowance(map), 0);
	assert_true(physmap_audit(map));
	physmap_free(map);
}

/* The host takes a page of each kind; the VM brings each back. */
static void allowance_through_all_states(void **state)
{
	const uint64_t finals[] = {physmap_shared(3), physmap_zipped(4, 9),
				   physmap_swapped(5)};
	struct physmap *map = new_map(8);

	(void)state;
	physmap_grant(map, 1);
	change(map, PHYSMAP_BY_VM, 0, physmap_home());
	for (unsigned i = 0; i < ARRAY_SIZE(finals); i++) {
		change(map, PHYSMAP_BY_HOST, 0, by_host(physmap_home()));
		change(map, PHYSMAP_BY_HOST, 0, by_host(finals[i]));
		change(map, PHYSMAP_BY_HOST, 0, finals[i]);
		/* What that freed is the host's. */
		assert_int_equal(physmap_allowance(map), 0);
		assert_int_equal(physmap_change(map, PHYSMAP_BY_VM, ppn(0),
						finals[i], by_vm(finals[i])),
				 PHYSMAP_NO_ALLOWANCE);
		physmap_grant(map, 1);
		change(map, PHYSMAP_BY_VM, 0, by_vm(finals[i]));
		assert_int_equal(physmap_allowance(map), 0);
		change(map, PHYSMAP_BY_VM, 0, finals[i]);
		assert_int_equal(physmap_allowance(map), 1);
		change(map, PHYSMAP_BY_VM, 0, by_vm(finals[i]));
		change(map, PHYSMAP_BY_VM, 0, physmap_home());
		assert_int_equal(physmap_allowance(map), 0);
		assert_true(physmap_audit(map));
	}
	/* Giving up does not return allowance either. */
	change(map, PHYSMAP_BY_VM, 0, by_vm(physmap_home()));
	change(map, PHYSMAP_BY_VM, 0, by_vm(physmap_balloon()));
	change(map, PHYSMAP_BY_VM, 0, physmap_balloon());
	assert_int_equal(physmap_allowance(map), 0);
	assert_int_equal(physmap_counts(map).pages[PHYSMAP_BALLOON], 1);
	physmap_free(map);
}

static void withdraw_takes_what_is_there(void **state)
{
	struct physmap *map = new_map(8);

	(void)state;
	physmap_grant(map, 10);
	assert_int_equal(physmap_withdraw(map, 4), 4);
	assert_int_equal(physmap_withdraw(map, 40), 6);
	assert_int_equal(physmap_withdraw(map, 1), 0);
	physmap_free(map);
}

static void a_run_is_claimed_as_far_as_allowance_goes(void **state)
{
	struct physmap *map = new_map(16);

	(void)state;
	physmap_grant(map, 12);
	change(map, PHYSMAP_BY_VM, 3, physmap_home());
	change(map, PHYSMAP_BY_VM, 5, physmap_balloon());
	change(map, PHYSMAP_BY_HOST, 6, by_host(physmap_zero()));
	/* Of 2 to 7, two are something else, and one is not the VM's to move. */
	assert_int_equal(physmap_claim_run(map, ppn(2), 6), 3);
	assert_int_equal(physmap_allowance(map), 8);
	assert_int_equal(physmap_load(map, ppn(1)), physmap_zero());
	assert_int_equal(physmap_load(map, ppn(2)), physmap_home());
	assert_int_equal(physmap_load(map, ppn(5)), physmap_balloon());
	assert_int_equal(physmap_load(map, ppn(6)), by_host(physmap_zero()));
	assert_int_equal(physmap_load(map, ppn(8)), physmap_zero());
	assert_true(physmap_audit(map));

	physmap_withdraw(map, 4);
	assert_int_equal(physmap_claim_run(map, ppn(0), 16), 4);
	assert_int_equal(physmap_allowance(map), 0);
	assert_int_equal(physmap_counts(map).pages[PHYSMAP_HOME], 8);
	assert_int_equal(physmap_claim_run(map, ppn(0), 16), 0);
	assert_true(physmap_audit(map));
	physmap_free(map);
}

static void touches_of_watched_pages_are_counted(void **state)
{
	struct physmap *map = new_map(8);

	(void)state;
	physmap_grant(map, 8);
	for (unsigned i = 0; i < 4; i++)
		change(map, PHYSMAP_BY_VM, i, physmap_home());
	for (unsigned i = 0; i < 6; i++) {
		const uint64_t stable = physmap_load(map, ppn(i));

		change(map, PHYSMAP_BY_HOST, i, by_host(stable));
		change(map, PHYSMAP_BY_HOST, i, physmap_watched(stable));
	}
	assert_int_equal(physmap_touched(map), 0);
	change(map, PHYSMAP_BY_VM, 0, physmap_home());
	assert_int_equal(physmap_touched(map), 1);
	assert_int_equal(physmap_load(map, ppn(0)), physmap_home());
	/* Giving it up, or the host taking it, is no touch. */
	change(map, PHYSMAP_BY_VM, 1, by_vm(physmap_home()));
	change(map, PHYSMAP_BY_HOST, 2, by_host(physmap_home()));
	assert_int_equal(physmap_touched(map), 1);
	change(map, PHYSMAP_BY_VM, 4, physmap_home());
	change(map, PHYSMAP_BY_VM, 5, physmap_zero());
	assert_int_equal(physmap_touched(map), 3);
	assert_true(physmap_audit(map));
	physmap_free(map);
}

static void audit_finds_what_is_wrong(void **state)
{
	struct physmap *map = new_map(5000);
	struct physmap_counts counts;

	(void)state;
	/* A word scribbled over by a broken VM. */
	atomic_store(&physmap_entries(map)[4000], physmap_home());
	assert_false(physmap_audit(map));
	physmap_recount(map);
	assert_true(physmap_audit(map));
	assert_int_equal(physmap_counts(map).pages[PHYSMAP_HOME], 1);
	atomic_store(&physmap_entries(map)[4001], 7);
	assert_int_equal(physmap_count(map, &counts), 1);
	assert_int_equal(counts.pages[PHYSMAP_ZERO], 4998);
	assert_false(physmap_audit(map));
	physmap_free(map);
}

static void another_process_sees_the_same(void **state)
{
	struct physmap *vm = new_map(100000);
	struct physmap *host = NULL;
	struct err err = {0};

	(void)state;
	physmap_grant(vm, 3);
	change(vm, PHYSMAP_BY_VM, 99999, physmap_home());
	assert_int_equal(physmap_attach(physmap_fd(vm), &host, &err), 0);
	assert_int_equal(physmap_pages(host), 100000);
	assert_int_equal(physmap_allowance(host), 2);
	assert_int_equal(physmap_load(host, ppn(99999)), physmap_home());
	change(host, PHYSMAP_BY_HOST, 99999, by_host(physmap_home()));
	assert_int_equal(physmap_state(physmap_load(vm, ppn(99999))),
			 PHYSMAP_BUSY);
	assert_true(physmap_audit(vm));
	assert_true(physmap_audit(host));
	physmap_free(vm);
	assert_true(physmap_audit(host));
	physmap_free(host);
}

static int attach_error(int fd, const char *words)
{
	struct physmap *map = NULL;
	struct err err = {0};
	int r = physmap_attach(fd, &map, &err);

	assert_null(map);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
	return r;
}

static int raw_file(const void *header, size_t len, off_t file_bytes)
{
	int fd = memfd_create("raw", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, file_bytes), 0);
	assert_int_equal(pwrite(fd, header, len, 0), len);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), 0);
	return fd;
}

static void attach_believes_nothing(void **state)
{
	const struct physmap_header good = {
		.magic = PHYSMAP_MAGIC,
		.version = PHYSMAP_VERSION,
		.page_bytes = PAGE_SIZE,
		.n_pages = 512,
		.entries_offset = PAGE_SIZE,
		.file_bytes = 2 * PAGE_SIZE,
	};
	struct physmap_header bad[5];
	struct physmap *map = NULL;
	int fd;

	(void)state;
	fd = raw_file(&good, sizeof(good), 2 * PAGE_SIZE);
	assert_int_equal(physmap_attach(fd, &map, NULL), 0);
	physmap_free(map);
	close(fd);

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		memcpy(&bad[i], &good, sizeof(good));
	bad[0].page_bytes = 8192;
	bad[1].n_pages = 513;
	bad[2].n_pages = UINT64_MAX / 4;
	bad[3].entries_offset = 0;
	bad[4].file_bytes = PAGE_SIZE;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		fd = raw_file(&bad[i], sizeof(good), 2 * PAGE_SIZE);
		assert_int_equal(attach_error(fd, "contradicts"), -EBADMSG);
		close(fd);
	}
	bad[0].version = 9;
	fd = raw_file(&bad[0], sizeof(good), 2 * PAGE_SIZE);
	assert_int_equal(attach_error(fd, "version 9"), -EBADMSG);
	close(fd);
	fd = raw_file("hello", 5, 2 * PAGE_SIZE);
	assert_int_equal(attach_error(fd, "not a physmap"), -EBADMSG);
	close(fd);
	fd = raw_file("hello", 5, 5);
	assert_int_equal(attach_error(fd, "not a physmap"), -EBADMSG);
	close(fd);
	fd = memfd_create("unsealed", MFD_CLOEXEC);
	assert_int_equal(attach_error(fd, "not sealed"), -EPERM);
	close(fd);
	assert_int_equal(attach_error(-1, "cannot use"), -EBADF);
}

static void recovery_turns_pages_back(void **state)
{
	struct physmap *map = new_map(4096);
	int home = memfd_create("home", MFD_CLOEXEC);
	uint8_t byte = 0;

	(void)state;
	assert_int_equal(ftruncate(home, 4096 * PAGE_SIZE), 0);
	physmap_grant(map, 100);
	for (unsigned i = 0; i < 5; i++) {
		change(map, PHYSMAP_BY_VM, i * 700, physmap_home());
		assert_int_equal(pwrite(home, "x", 1, i * 700 * PAGE_SIZE), 1);
		if (i < 4)
			change(map, PHYSMAP_BY_HOST, i * 700,
			       by_host(physmap_home()));
	}
	change(map, PHYSMAP_BY_HOST, 700, by_host(physmap_swapped(6)));
	change(map, PHYSMAP_BY_HOST, 1400, by_host(physmap_zero()));
	change(map, PHYSMAP_BY_HOST, 2100, by_host(physmap_zipped(1, 7)));
	change(map, PHYSMAP_BY_HOST, 2100, physmap_zipped(1, 7));
	change(map, PHYSMAP_BY_VM, 2800, by_vm(physmap_home()));
	/* The host died between an entry and the counters. */
	atomic_store(&physmap_entries(map)[4095], by_host(physmap_home()));

	assert_int_equal(physmap_recover(map, home), 4);
	assert_int_equal(physmap_load(map, ppn(0)), physmap_home());
	assert_int_equal(physmap_load(map, ppn(700)), physmap_swapped(6));
	assert_int_equal(physmap_load(map, ppn(1400)), physmap_zero());
	assert_int_equal(physmap_load(map, ppn(2100)), physmap_zipped(1, 7));
	/* The VM's own moves go on. */
	assert_int_equal(physmap_load(map, ppn(2800)), by_vm(physmap_home()));
	assert_int_equal(physmap_load(map, ppn(4095)), physmap_home());
	assert_int_equal(pread(home, &byte, 1, 0), 1);
	assert_int_equal(byte, 'x');
	assert_int_equal(pread(home, &byte, 1, 700 * PAGE_SIZE), 1);
	assert_int_equal(byte, 0);
	assert_int_equal(pread(home, &byte, 1, 1400 * PAGE_SIZE), 1);
	assert_int_equal(byte, 0);
	assert_true(physmap_audit(map));
	close(home);
	physmap_free(map);
}

static void a_huge_map_costs_what_is_used(void **state)
{
	struct physmap *map = new_map(UINT64_C(1) << 28);
	uint64_t last = (UINT64_C(1) << 28) - 1;

	(void)state;
	physmap_grant(map, 2);
	change(map, PHYSMAP_BY_VM, last, physmap_home());
	change(map, PHYSMAP_BY_VM, last / 2, physmap_home());
	assert_true(physmap_audit(map));
	assert_int_equal(physmap_counts(map).pages[PHYSMAP_HOME], 2);
	assert_int_equal(physmap_counts(map).pages[PHYSMAP_ZERO], last - 1);
	physmap_free(map);
}

struct mover {
	struct physmap *map;
	enum physmap_mover by;
	uint64_t n_done;
	_Atomic unsigned *n_hosts; /* that still run */
};

#define RACE_PAGES   64
#define RACE_CHANGES 20000

static void vm_step(struct mover *m, ppn_t page, uint64_t entry)
{
	uint64_t to = physmap_home();

	if (physmap_is_busy(entry) && physmap_busy_mover(entry) != PHYSMAP_BY_VM)
		return;
	if (physmap_is_watched(entry))
		to = physmap_stable(entry);
	else if (physmap_state(entry) == PHYSMAP_ZIPPED)
		to = by_vm(entry);
	else if (physmap_state(entry) == PHYSMAP_HOME)
		return;
	if (physmap_change(m->map, PHYSMAP_BY_VM, page, entry, to) ==
	    PHYSMAP_CHANGED)
		m->n_done++;
}

static void host_step(struct mover *m, ppn_t page, uint64_t entry, uint64_t i)
{
	uint64_t to;

	if (physmap_state(entry) == PHYSMAP_HOME)
		to = by_host(physmap_home());
	else if (entry == by_host(physmap_home()))
		to = i % 3 ? by_host(physmap_zipped(i, 10))
			   : physmap_watched(physmap_home());
	else if (physmap_is_busy(entry) &&
		 physmap_busy_mover(entry) == PHYSMAP_BY_HOST)
		to = physmap_stable(entry);
	else
		return;
	if (physmap_change(m->map, PHYSMAP_BY_HOST, page, entry, to) ==
	    PHYSMAP_CHANGED)
		m->n_done++;
	/* A host grants what it took. */
	if (physmap_state(to) == PHYSMAP_ZIPPED)
		physmap_grant(m->map, 1);
}

/* The VM goes on as long as there is a host that takes pages away. */
static bool goes_on(const struct mover *m)
{
	if (m->by == PHYSMAP_BY_HOST)
		return m->n_done < RACE_CHANGES;
	return atomic_load(m->n_hosts);
}

static void *move_pages(void *arg)
{
	struct mover *m = arg;
	uint64_t seed = m->by + 1;

	for (uint64_t i = 0; goes_on(m); i++) {
		seed = seed * UINT64_C(6364136223846793005) + 1;

		const ppn_t page = ppn((seed >> 40) % RACE_PAGES);
		const uint64_t entry = physmap_load(m->map, page);

		if (m->by == PHYSMAP_BY_VM)
			vm_step(m, page, entry);
		else
			host_step(m, page, entry, i);
		/* With fewer processors than threads each waits for the others. */
		if (i % 256 == 0)
			sched_yield();
	}
	if (m->by == PHYSMAP_BY_HOST)
		atomic_fetch_sub(m->n_hosts, 1);
	return NULL;
}

static void both_sides_at_once(void **state)
{
	struct physmap *map = new_map(RACE_PAGES);
	_Atomic unsigned n_hosts = 2;
	struct mover movers[3] = {
		{.map = map, .by = PHYSMAP_BY_VM, .n_hosts = &n_hosts},
		{.map = map, .by = PHYSMAP_BY_HOST, .n_hosts = &n_hosts},
		{.map = map, .by = PHYSMAP_BY_HOST, .n_hosts = &n_hosts},
	};
	pthread_t threads[3];

	(void)state;
	physmap_grant(map, RACE_PAGES);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, move_pages,
						&movers[i]),
				 0);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		assert_true(movers[i].n_done > RACE_CHANGES / 10);
	}
	assert_true(physmap_audit(map));
	physmap_free(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_hold_what_they_are_made_of),
		cmocka_unit_test(words_that_are_no_entries),
		cmocka_unit_test(every_pair_is_as_the_rules_say),
		cmocka_unit_test(garbage_is_never_legal),
		cmocka_unit_test(a_new_map_is_zero),
		cmocka_unit_test(sizes_are_checked),
		cmocka_unit_test(change_says_what_became_of_it),
		cmocka_unit_test(allowance_through_all_states),
		cmocka_unit_test(withdraw_takes_what_is_there),
		cmocka_unit_test(a_run_is_claimed_as_far_as_allowance_goes),
		cmocka_unit_test(touches_of_watched_pages_are_counted),
		cmocka_unit_test(audit_finds_what_is_wrong),
		cmocka_unit_test(another_process_sees_the_same),
		cmocka_unit_test(attach_believes_nothing),
		cmocka_unit_test(recovery_turns_pages_back),
		cmocka_unit_test(a_huge_map_costs_what_is_used),
		cmocka_unit_test(both_sides_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
