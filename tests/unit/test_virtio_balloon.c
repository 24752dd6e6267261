/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon: memory really goes, contents are right, and a guest that lies harms itself only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include <dev/virtio_balloon.h>
#include <mem/machine.h>

#include "virtio_driver.h"

#define RAM_PAGES (DRIVER_RAM / PAGE_SIZE)
#define ALL                                                        \
	(VIRTIO_BALLOON_STATS_VQ | VIRTIO_BALLOON_DEFLATE_ON_OOM | \
	 VIRTIO_BALLOON_PAGE_POISON | VIRTIO_BALLOON_REPORTING)

/* Where the guest keeps lists and statistics, and where its data begins. */
#define LIST   DRIVER_DATA
#define DATA   UINT64_C(0x400000)
#define DATA_P (DATA / PAGE_SIZE)

struct fixture {
	struct driver d;
	struct virtio_balloon *b;
	uint64_t given;
	uint64_t taken;
	unsigned int n_statistics;
	struct virtio_balloon_guest guest;
	unsigned int unmaps;
	uint64_t written_bytes;
};

static void on_given(void *ctx, uint64_t pages)
{
	((struct fixture *)ctx)->given += pages;
}

static void on_taken(void *ctx, uint64_t pages)
{
	((struct fixture *)ctx)->taken += pages;
}

static void on_statistics(void *ctx, const struct virtio_balloon_guest *guest)
{
	struct fixture *f = ctx;

	f->n_statistics++;
	f->guest = *guest;
}

static const struct virtio_balloon_ops ops = {
	.given = on_given,
	.taken = on_taken,
	.statistics = on_statistics,
};

static void on_unmap(void *ctx, ppn_t page)
{
	(void)page;
	((struct fixture *)ctx)->unmaps++;
}

/* What follows the contents looks at them at once, as shadow page tables do. */
static void on_written(void *ctx, gpa_t addr, uint64_t len)
{
	struct fixture *f = ctx;
	uint8_t bytes[PAGE_SIZE];

	f->written_bytes += len;
	assert_true(guestmem_read(f->d.mem, addr, bytes, len));
	for (uint64_t i = 0; i < len; i++)
		assert_int_equal(bytes[i], 0);
}

static const struct guestmem_ops processor = {
	.unmap = on_unmap,
	.written = on_written,
};

static int setup(void **state)
{
	static struct fixture f;
	struct virtio_report report = driver_report(&f.d);

	f = (struct fixture){0};
	if (driver_init(&f.d) ||
	    virtio_balloon_new(f.d.mem, &report, &ops, &f, &f.b, NULL))
		return -1;
	guestmem_set_ops(f.d.mem, &processor, &f);
	driver_attach(&f.d, virtio_balloon_dev(f.b));
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	const bool sound = physmap_audit(guestmem_physmap(f->d.mem));

	f->b = virtio_balloon_free(f->b);
	driver_release(&f->d);
	return sound ? 0 : -1;
}

static uint64_t in_state(struct fixture *f, enum physmap_state state)
{
	return physmap_counts(guestmem_physmap(f->d.mem)).pages[state];
}

/* Pages of RAM that have memory behind them, as the kernel says. */
static uint64_t machine_pages(struct fixture *f)
{
	struct stat st;

	assert_int_equal(fstat(guestmem_machine(f->d.mem)->home_fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE_SIZE;
}

/* What fill() puts into a page. */
static uint8_t mark(uint64_t page)
{
	return (uint8_t)(page | 1);
}

static void fill(struct fixture *f, uint64_t page, uint64_t n)
{
	uint8_t bytes[PAGE_SIZE];

	for (uint64_t i = 0; i < n; i++) {
		memset(bytes, mark(page + i), sizeof(bytes));
		driver_put(&f->d, (page + i) * PAGE_SIZE, bytes, sizeof(bytes));
	}
}

static uint8_t first_byte(struct fixture *f, uint64_t page)
{
	uint8_t byte;

	driver_get(&f->d, page * PAGE_SIZE, &byte, 1);
	return byte;
}

/* A list of pages into queue @q, as the Linux driver sends it. */
static void send(struct fixture *f, unsigned int q, const uint32_t *pfns,
		 uint32_t n)
{
	driver_put(&f->d, LIST, pfns, n * sizeof(*pfns));
	driver_desc(&f->d, driver_desc_at(q), 0, LIST,
		    n * (uint32_t)sizeof(*pfns), 0, 0);
	driver_offer(&f->d, q, 0);
	driver_kick(&f->d, q);
}

static void send_run(struct fixture *f, unsigned int q, uint64_t first,
		     uint32_t n)
{
	static uint32_t pfns[VIRTIO_BALLOON_MAX_PFNS + 1];

	for (uint32_t i = 0; i < n; i++)
		pfns[i] = (uint32_t)first + i;
	send(f, q, pfns, n);
}

static void report(struct fixture *f, unsigned int q, uint64_t addr,
		   uint32_t len)
{
	driver_desc(&f->d, driver_desc_at(q), 0, addr, len, D_WRITE, 0);
	driver_offer(&f->d, q, 0);
	driver_kick(&f->d, q);
}

static void test_offers(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(driver_rd(&f->d, R_ID), 5);
	assert_false(virtio_balloon_present(f->b));
	assert_int_equal(driver_rd(&f->d, R_FEATURES) & 0xff, ALL);
	driver_start(&f->d, ALL, 4);
	assert_true(virtio_balloon_present(f->b));
	driver_wr(&f->d, R_STATUS, 0);
	assert_false(virtio_balloon_present(f->b));
}

static void test_inflate_releases_memory(void **state)
{
	struct fixture *f = *state;
	const uint32_t shuffled[] = {DATA_P + 3, DATA_P + 1, DATA_P, DATA_P + 2,
				     DATA_P + 9};
	uint64_t before;

	driver_start(&f->d, ALL, 4);
	fill(f, DATA_P, 10);
	send_run(f, 0, DATA_P + 20, 0);
	before = machine_pages(f);
	send(f, 0, shuffled, ARRAY_SIZE(shuffled));
	assert_int_equal(driver_used(&f->d, 0), 2);
	assert_int_equal(driver_used_len(&f->d, 0, 1), 0);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 5);
	/* The list itself needed a page that was not there before. */
	assert_int_equal(machine_pages(f), before + 1 - 5);
	assert_int_equal(f->given, 5);
	assert_true(f->unmaps >= 5);
	/* What was not named is as it was; what was is zeros, and no longer given. */
	assert_int_equal(first_byte(f, DATA_P + 4), mark(DATA_P + 4));
	assert_int_equal(first_byte(f, DATA_P + 3), 0);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 4);
	assert_int_equal(f->d.reports, 0);
}

static void test_deflate(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, ALL, 4);
	fill(f, DATA_P, 8);
	send_run(f, 0, DATA_P, 4);
	/* Twice as many as there are: the others keep what they hold. */
	send_run(f, 1, DATA_P, 8);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 0);
	assert_int_equal(f->taken, 4);
	assert_int_equal(virtio_balloon_stats(f->b)->deflated_pages, 4);
	assert_int_equal(virtio_balloon_stats(f->b)->absent_pages, 4);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(first_byte(f, DATA_P + i),
				 i < 4 ? 0 : mark(DATA_P + i));
}

/* A page that was used again before the host hears of it keeps what was written. */
static void test_deflate_after_use(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, ALL, 4);
	send_run(f, 0, DATA_P, 1);
	fill(f, DATA_P, 1);
	send_run(f, 1, DATA_P, 1);
	assert_int_equal(first_byte(f, DATA_P), mark(DATA_P));
}

static void test_lying_lists(void **state)
{
	struct fixture *f = *state;
	const uint32_t pfns[] = {RAM_PAGES,
				 UINT32_MAX,
				 DATA_P,
				 DATA_P,
				 GUESTMEM_HOLE_START / PAGE_SIZE,
				 DATA_P + 1,
				 RAM_PAGES - 1};
	const struct virtio_balloon_stats *s = virtio_balloon_stats(f->b);

	driver_start(&f->d, ALL, 4);
	fill(f, DATA_P, 3);
	send(f, 0, pfns, ARRAY_SIZE(pfns));
	assert_int_equal(s->outside_pages, 3);
	assert_int_equal(s->duplicate_pages, 1);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 3);
	send(f, 0, pfns, ARRAY_SIZE(pfns));
	assert_int_equal(s->inflated_pages, 3);
	assert_int_equal(s->duplicate_pages, 1 + 4);
	send(f, 1, pfns, ARRAY_SIZE(pfns));
	assert_int_equal(s->outside_pages, 9);
	assert_int_equal(s->deflated_pages, 3);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 0);
	/* Half a number at the end is no number. */
	driver_desc(&f->d, driver_desc_at(0), 0, LIST + 8, 7, 0, 0);
	driver_offer(&f->d, 0, 0);
	driver_kick(&f->d, 0);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 1);
	/* The guest's own count is shown, and nothing follows from it. */
	driver_wr(&f->d, R_CONFIG + VIRTIO_BALLOON_ACTUAL, UINT32_MAX);
	assert_int_equal(s->claimed_pages, UINT32_MAX);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 1);
	assert_int_equal(f->d.reports, 0);
}

static void test_bounds_a_request(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, ALL, 4);
	send_run(f, 0, DATA_P, VIRTIO_BALLOON_MAX_PFNS);
	assert_int_equal(f->given, VIRTIO_BALLOON_MAX_PFNS);
	send_run(f, 0, DATA_P, VIRTIO_BALLOON_MAX_PFNS + 1);
	assert_int_equal(f->d.reports, 1);
	assert_non_null(strstr(f->d.report, "too many pages"));
	assert_true(driver_rd(&f->d, R_STATUS) & VIRTIO_STATUS_NEEDS_RESET);
	assert_false(virtio_balloon_present(f->b));
}

/* Everything at once: rings, lists, the kernel itself. The guest is lost, we are not. */
static void test_gives_up_all_memory(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, ALL, 4);
	for (uint64_t page = 0; page < RAM_PAGES;
	     page += VIRTIO_BALLOON_MAX_PFNS)
		send_run(f, 0, page, VIRTIO_BALLOON_MAX_PFNS);
	driver_kick(&f->d, 0);
	driver_wr(&f->d, R_STATUS, 0);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 0);
	driver_start(&f->d, ALL, 4);
	send_run(f, 0, DATA_P, 2);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 2);
}

static void test_flagged_pages(void **state)
{
	struct fixture *f = *state;
	uint8_t *flags = guestmem_flags(f->d.mem);

	driver_start(&f->d, ALL, 4);
	fill(f, DATA_P, 8);
	flags[DATA_P + 2] = GUESTMEM_TABLE;
	flags[DATA_P + 5] = GUESTMEM_CODE;
	send_run(f, 0, DATA_P, 4);
	/* Looking at it did not take it out of the balloon again. */
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 4);
	assert_int_equal(f->written_bytes, PAGE_SIZE);
	report(f, 3, DATA + 4 * PAGE_SIZE, 4 * PAGE_SIZE);
	assert_int_equal(f->written_bytes, 2 * PAGE_SIZE);
}

static void test_report(void **state)
{
	struct fixture *f = *state;
	uint64_t before;

	driver_start(&f->d, ALL, 4);
	fill(f, DATA_P, 2048);
	before = machine_pages(f);
	/* Not whole pages at either end: they stay. */
	report(f, 3, DATA + 100, 2047 * PAGE_SIZE);
	assert_int_equal(machine_pages(f), before - 2046);
	assert_int_equal(f->given, 2046);
	assert_int_equal(virtio_balloon_stats(f->b)->partial_bytes, PAGE_SIZE);
	assert_int_equal(first_byte(f, DATA_P), mark(DATA_P));
	assert_int_equal(first_byte(f, DATA_P + 1), 0);
	assert_int_equal(first_byte(f, DATA_P + 2047), mark(DATA_P + 2047));
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 0);
	assert_int_equal(driver_used(&f->d, 3), 1);
	assert_int_equal(f->d.irqs, 1);
	/* What is no RAM at all breaks the rules of every queue. */
	report(f, 3, DRIVER_RAM - PAGE_SIZE, 2 * PAGE_SIZE);
	assert_int_equal(f->d.reports, 1);
}

/* By the number in the standard, and without statistics by the number that Linux uses. */
static void test_report_queues(void **state)
{
	struct fixture *f = *state;
	const unsigned int queues[] = {4, 3, 2};

	for (unsigned int i = 0; i < ARRAY_SIZE(queues); i++) {
		driver_start(&f->d,
			     i < 2 ? ALL : ALL & ~VIRTIO_BALLOON_STATS_VQ, 5);
		fill(f, DATA_P, 1);
		report(f, queues[i], DATA, PAGE_SIZE);
		assert_int_equal(f->given, i + 1);
	}
	/* Not negotiated: there is no such queue. */
	driver_start(&f->d, VIRTIO_BALLOON_STATS_VQ, 5);
	fill(f, DATA_P, 1);
	report(f, 3, DATA, PAGE_SIZE);
	assert_int_equal(driver_used(&f->d, 3), 0);
	assert_int_equal(first_byte(f, DATA_P), mark(DATA_P));
}

static void test_poison(void **state)
{
	struct fixture *f = *state;

	/* Cannot be set by a driver that does not know it. */
	driver_start(&f->d, ALL & ~VIRTIO_BALLOON_PAGE_POISON, 4);
	driver_wr(&f->d, R_CONFIG + VIRTIO_BALLOON_POISON, 0xaaaaaaaa);
	assert_int_equal(driver_rd(&f->d, R_CONFIG + VIRTIO_BALLOON_POISON), 0);

	driver_start(&f->d, ALL, 4);
	driver_wr(&f->d, R_CONFIG + VIRTIO_BALLOON_POISON, 0xaaaaaaaa);
	assert_int_equal(driver_rd(&f->d, R_CONFIG + VIRTIO_BALLOON_POISON),
			 0xaaaaaaaa);
	fill(f, DATA_P, 4);
	report(f, 3, DATA, 4 * PAGE_SIZE);
	assert_int_equal(driver_used(&f->d, 3), 1);
	assert_int_equal(f->given, 0);
	assert_int_equal(virtio_balloon_stats(f->b)->poisoned_pages, 4);
	assert_int_equal(first_byte(f, DATA_P), mark(DATA_P));
	/* Of the balloon nothing is expected: the driver fills pages itself. */
	send_run(f, 0, DATA_P, 1);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 1);
	/* Zero is what reported pages hold anyway. */
	driver_start(&f->d, ALL, 4);
	fill(f, DATA_P, 4);
	report(f, 3, DATA, 4 * PAGE_SIZE);
	assert_int_equal(virtio_balloon_stats(f->b)->reported_pages, 4);
	assert_int_equal(first_byte(f, DATA_P), 0);
}

static void test_target(void **state)
{
	struct fixture *f = *state;
	uint32_t generation = driver_rd(&f->d, R_GENERATION);

	virtio_balloon_set_target(f->b, 100);
	assert_int_equal(f->d.irqs, 0);
	assert_int_equal(driver_rd(&f->d, R_CONFIG), 100);
	driver_start(&f->d, ALL, 4);
	virtio_balloon_set_target(f->b, 100);
	assert_int_equal(f->d.irqs, 0);
	virtio_balloon_set_target(f->b, UINT64_MAX);
	assert_int_equal(f->d.irqs, 1);
	assert_int_equal(driver_rd(&f->d, R_ISR), VIRTIO_ISR_CONFIG);
	assert_int_equal(driver_rd(&f->d, R_CONFIG), RAM_PAGES);
	assert_int_equal(driver_rd(&f->d, R_GENERATION), generation + 2);
	/* It is not the guest's to set. */
	driver_wr(&f->d, R_CONFIG, 7);
	assert_int_equal(driver_rd(&f->d, R_CONFIG), RAM_PAGES);
	/* Beyond the configuration there is nothing. */
	driver_wr(&f->d, R_CONFIG + VIRTIO_BALLOON_CONFIG_BYTES, 7);
	assert_int_equal(driver_rd(&f->d, R_CONFIG + VIRTIO_BALLOON_CONFIG_BYTES),
			 0);
}

static void test_out_of_memory(void **state)
{
	struct fixture *f = *state;
	const struct virtio_balloon_stats *s = virtio_balloon_stats(f->b);

	driver_start(&f->d, ALL, 4);
	virtio_balloon_set_target(f->b, 100);
	send_run(f, 0, DATA_P, 100);
	/* A page of the balloon moves, once also while it grows. */
	send_run(f, 0, DATA_P + 100, 1);
	send_run(f, 1, DATA_P, 1);
	virtio_balloon_set_target(f->b, 110);
	send_run(f, 0, DATA_P + 101, 1);
	send_run(f, 1, DATA_P + 101, 1);
	assert_int_equal(s->oom_deflations, 0);
	/* As asked for, the last part of it when the target is higher again. */
	virtio_balloon_set_target(f->b, 50);
	send_run(f, 1, DATA_P + 1, 20);
	virtio_balloon_set_target(f->b, 90);
	send_run(f, 1, DATA_P + 21, 20);
	assert_int_equal(s->oom_deflations, 0);
	send_run(f, 1, DATA_P + 41, 20);
	assert_int_equal(s->oom_deflations, 1);
	assert_int_equal(s->ooms, 1);
	driver_start(&f->d, ALL & ~VIRTIO_BALLOON_DEFLATE_ON_OOM, 4);
	send_run(f, 0, DATA_P, 50);
	send_run(f, 1, DATA_P, 20);
	assert_int_equal(s->ooms, 1);
}

static void test_reset_returns_pages(void **state)
{
	struct fixture *f = *state;
	const uint32_t ends[] = {0x7ff, RAM_PAGES - 1};

	driver_start(&f->d, ALL, 4);
	send(f, 0, ends, 2);
	driver_wr(&f->d, R_CONFIG + VIRTIO_BALLOON_ACTUAL, 2);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 2);
	driver_wr(&f->d, R_STATUS, 0);
	assert_int_equal(in_state(f, PHYSMAP_BALLOON), 0);
	assert_int_equal(f->taken, 2);
	assert_int_equal(virtio_balloon_stats(f->b)->returned_pages, 2);
	assert_int_equal(driver_rd(&f->d, R_CONFIG + VIRTIO_BALLOON_ACTUAL), 0);
}

/* Statistics. */

struct statistic {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

static void put_statistics(struct fixture *f, const struct statistic *s,
			   uint32_t n)
{
	driver_put(&f->d, LIST, s, n * sizeof(*s));
	driver_desc(&f->d, driver_desc_at(2), 0, LIST, n * (uint32_t)sizeof(*s),
		    0, 0);
	driver_offer(&f->d, 2, 0);
}

static void test_statistics(void **state)
{
	struct fixture *f = *state;
	const struct statistic s[] = {
		{0, 8192},    {1, 16384}, {2, 3},     {3, 99},  {4, 4096},
		{5, 1 << 20}, {6, 40960}, {7, 20480}, {999, 1}, {10, 2},
	};
	struct statistic more[ARRAY_SIZE(s)];
	const struct virtio_balloon_stats *c = virtio_balloon_stats(f->b);

	assert_false(virtio_balloon_ask(f->b));
	driver_start(&f->d, ALL, 4);
	assert_false(virtio_balloon_ask(f->b));
	/* Linux offers them before the device is started: nobody tells us. */
	put_statistics(f, s, ARRAY_SIZE(s));
	assert_false(virtio_balloon_ask(f->b));
	assert_int_equal(f->n_statistics, 1);
	assert_int_equal(f->guest.swapped_in, 2);
	assert_int_equal(f->guest.swapped_out, 4);
	assert_int_equal(f->guest.major_faults, 3);
	assert_int_equal(f->guest.minor_faults, 99);
	assert_int_equal(f->guest.free_pages, 1);
	assert_int_equal(f->guest.total_pages, 256);
	assert_int_equal(f->guest.available_pages, 10);
	assert_int_equal(f->guest.cache_pages, 5);
	assert_int_equal(c->ooms, 2);
	assert_int_equal(driver_used(&f->d, 2), 0);
	assert_int_equal(f->d.irqs, 0);

	assert_true(virtio_balloon_ask(f->b));
	assert_int_equal(driver_used(&f->d, 2), 1);
	assert_int_equal(f->d.irqs, 1);
	/* Not answered: there is nothing to ask again. */
	assert_false(virtio_balloon_ask(f->b));
	assert_int_equal(driver_used(&f->d, 2), 1);

	/* More than there can be, and a count that goes down and up again. */
	memcpy(more, s, sizeof(s));
	more[6].value = UINT64_MAX;
	more[9].value = 1;
	put_statistics(f, more, ARRAY_SIZE(more));
	driver_kick(&f->d, 2);
	assert_int_equal(f->guest.available_pages, RAM_PAGES);
	assert_int_equal(c->ooms, 2);
	assert_int_equal(c->stats_received, 2);
	assert_true(virtio_balloon_ask(f->b));
	/* Without what matters most they are none. */
	put_statistics(f, s, 6);
	driver_kick(&f->d, 2);
	assert_int_equal(f->n_statistics, 2);
	assert_int_equal(c->stats_incomplete, 1);
	assert_int_equal(virtio_balloon_guest(f->b)->available_pages, RAM_PAGES);
}

/* With event indexes the guest notifies of the answer only if it was told to. */
static void test_statistics_event_index(void **state)
{
	struct fixture *f = *state;
	const struct statistic s[] = {{5, 1 << 20}, {6, 4096}};

	driver_start(&f->d, ALL | VIRTIO_FEATURE_EVENT_IDX, 4);
	put_statistics(f, s, ARRAY_SIZE(s));
	driver_kick(&f->d, 2);
	assert_int_equal(f->n_statistics, 1);
	assert_true(virtio_balloon_ask(f->b));
	assert_int_equal(driver_get16(&f->d,
				      driver_used_at(2) + 4 + 8 * DRIVER_QUEUE),
			 1);
}

static void test_statistics_garbage(void **state)
{
	struct fixture *f = *state;
	static struct statistic many[400];

	for (unsigned int i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct statistic){(uint16_t)(i < 64 ? 77 : 5 + i % 2),
					     UINT64_MAX};
	driver_start(&f->d, ALL, 4);
	put_statistics(f, many, ARRAY_SIZE(many));
	driver_kick(&f->d, 2);
	assert_int_equal(f->n_statistics, 0);
	/* Two at once: the second waits for its turn. */
	put_statistics(f, many + 64, 2);
	driver_kick(&f->d, 2);
	assert_int_equal(f->n_statistics, 0);
	assert_true(virtio_balloon_ask(f->b));
	assert_int_equal(f->n_statistics, 1);
	/* The queue goes while we hold a request of it. */
	driver_wr(&f->d, R_QUEUE_SEL, 2);
	driver_wr(&f->d, R_READY, 0);
	assert_false(virtio_balloon_ask(f->b));
	driver_wr(&f->d, R_STATUS, 0);
	assert_false(virtio_balloon_ask(f->b));
}

/* A request of the driver before belongs to nobody. */
static void test_statistics_reset(void **state)
{
	struct fixture *f = *state;
	const struct statistic s[] = {{5, 1 << 20}, {6, 4096}};

	driver_start(&f->d, ALL, 4);
	put_statistics(f, s, ARRAY_SIZE(s));
	driver_kick(&f->d, 2);
	driver_start(&f->d, ALL, 4);
	assert_false(virtio_balloon_ask(f->b));
	assert_int_equal(driver_used(&f->d, 2), 0);
}

/* The VM ends in the middle of it. */
static void test_stopped(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, ALL, 4);
	fill(f, DATA_P, 4);
	driver_desc(&f->d, driver_desc_at(3), 0, DATA, 4 * PAGE_SIZE, D_WRITE,
		    0);
	driver_offer(&f->d, 3, 0);
	guestmem_stop(f->d.mem);
	driver_kick(&f->d, 3);
	assert_int_equal(f->d.reports, 0);
	assert_int_equal(f->given + f->taken, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_offers),
		T(test_inflate_releases_memory),
		T(test_deflate),
		T(test_deflate_after_use),
		T(test_lying_lists),
		T(test_bounds_a_request),
		T(test_gives_up_all_memory),
		T(test_flagged_pages),
		T(test_report),
		T(test_report_queues),
		T(test_poison),
		T(test_target),
		T(test_out_of_memory),
		T(test_reset_returns_pages),
		T(test_statistics),
		T(test_statistics_event_index),
		T(test_statistics_garbage),
		T(test_statistics_reset),
		T(test_stopped),
	};

	return cmocka_run_group_tests_name("virtio_balloon", tests, NULL, NULL);
}
