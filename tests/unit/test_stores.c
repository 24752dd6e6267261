/* SPDX-License-Identifier: Apache-2.0 */
/* Ledger, compression cache and swap file: what is taken, kept, and given back. */
#include <errno.h>
#include <lz4.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/rng.h>
#include <host/ledger.h>
#include <host/swap.h>
#include <host/vmmem.h>
#include <host/zip.h>
#include <mem/zip_slot.h>

static void the_reserve_is_for_moves(void **state)
{
	struct ledger l;

	(void)state;
	ledger_init(&l, LEDGER_RESERVE + 10);
	assert_int_equal(ledger_take(&l, LEDGER_VM, 100), 10);
	assert_int_equal(ledger_take(&l, LEDGER_VM, 1), 0);
	assert_int_equal(ledger_take(&l, LEDGER_MOVE, 100), LEDGER_RESERVE);
	assert_int_equal(ledger_free_pages(&l), 0);
	ledger_overhead(&l, 5);
	assert_int_equal(ledger_over_pages(&l), 5);
	assert_int_equal(ledger_take(&l, LEDGER_MOVE, 1), 0);
	ledger_overhead(&l, 0);
	ledger_give(&l, 3);
	assert_int_equal(ledger_free_pages(&l), 3);
	ledger_release(&l);
}

static void classes_fit_their_pages(void **state)
{
	(void)state;
	for (unsigned cls = 0; cls < ZIP_CLASSES; cls++)
		assert_true(zip_class_bytes(cls) * zip_class_slots(cls) <=
			    PAGE_SIZE);
	assert_int_equal(zip_class_of(ZIP_MAX_BYTES), ZIP_CLASSES - 1);
	assert_int_equal(zip_class_of(ZIP_MAX_BYTES + 1), ZIP_CLASS_NONE);
}

#define N 64

static unsigned pack(unsigned what, uint8_t *page, char *packed)
{
	struct rng rng = {what};

	memset(page, (int)what, PAGE_SIZE);
	/* Different sizes, for different classes. */
	for (unsigned i = 0; i < what * 24; i++)
		page[i] = (uint8_t)rng_next(&rng);
	return (unsigned)LZ4_compress_default((char *)page, packed, PAGE_SIZE,
					      ZIP_MAX_BYTES);
}

static void packed_pages_come_back(void **state)
{
	uint8_t page[PAGE_SIZE], got[PAGE_SIZE];
	char packed[ZIP_MAX_BYTES];
	uint64_t entry[N], oldest;
	struct err err = {0};
	struct ledger l;
	struct zip *zip;

	(void)state;
	ledger_init(&l, 1000);
	assert_int_equal(zip_new(256, &l, &zip, &err), 0);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(zip_put(zip, i, packed, pack(i, page, packed),
					 256, &entry[i]),
				 0);
	assert_int_equal(1000 - ledger_free_pages(&l), zip_pages(zip));
	assert_int_equal(file_pages(zip_fd(zip)), zip_pages(zip));
	for (unsigned i = 0; i < N; i++) {
		(void)pack(i, page, packed);
		assert_int_equal(zip_get(zip, entry[i], got), 0);
		assert_memory_equal(got, page, PAGE_SIZE);
	}
	assert_true(zip_oldest(zip, &oldest));
	assert_int_equal(oldest, 0);
	for (unsigned i = 0; i < N; i++) {
		zip_drop(zip, entry[i]);
		zip_drop(zip, entry[i]);
		assert_int_equal(zip_get(zip, entry[i], got), -EIO);
	}
	assert_int_equal(zip_pages(zip), 0);
	assert_int_equal(file_pages(zip_fd(zip)), 0);
	assert_int_equal(ledger_free_pages(&l), 1000);
	zip_free(zip);
	ledger_release(&l);
}

static void a_cache_is_found_again(void **state)
{
	uint8_t page[PAGE_SIZE], got[PAGE_SIZE];
	char packed[ZIP_MAX_BYTES];
	struct zip *zip, *again;
	uint64_t a, b;
	struct err err = {0};
	struct ledger l, second;

	(void)state;
	ledger_init(&l, 1000);
	ledger_init(&second, 1000);
	assert_int_equal(zip_new(256, &l, &zip, &err), 0);
	assert_int_equal(zip_put(zip, 1, packed, pack(9, page, packed), 256, &a),
			 0);
	assert_int_equal(zip_put(zip, 2, packed, pack(60, page, packed), 256, &b),
			 0);
	assert_int_equal(zip_adopt(zip_fd(zip), 255, &second, &again, &err),
			 -EBADMSG);
	assert_int_equal(zip_adopt(zip_fd(zip), 256, &second, &again, &err), 0);
	assert_true(zip_claim(again, 2, b));
	assert_false(zip_claim(again, 3, b));
	assert_false(zip_claim(again, 3, physmap_zipped(UINT64_C(1) << 40, 9)));
	zip_trim(again);
	assert_int_equal(zip_get(again, a, got), -EIO);
	assert_int_equal(zip_get(again, b, got), 0);
	assert_memory_equal(got, page, PAGE_SIZE);
	assert_int_equal(file_pages(zip_fd(again)), 1);
	zip_free(again);
	zip_free(zip);
	ledger_release(&l);
	ledger_release(&second);
}

/* Of @n pages of one class: the file has no more pages than they need. */
static void slots_share_pages(void **state)
{
	uint8_t page[PAGE_SIZE];
	char packed[ZIP_MAX_BYTES];
	struct err err = {0};
	struct ledger l;

	(void)state;
	ledger_init(&l, 1000);
	for (unsigned what = 1; what < 64; what += 20) {
		const unsigned bytes = pack(what, page, packed);
		const unsigned per_page = zip_class_slots(zip_class_of(bytes));
		uint64_t entry[N];
		struct zip *zip;

		assert_int_equal(zip_new(256, &l, &zip, &err), 0);
		for (unsigned i = 0; i < N; i++) {
			assert_int_equal(zip_put(zip, i, packed, bytes, 256,
						 &entry[i]),
					 0);
			assert_int_equal(zip_slots(zip), i + 1);
			assert_int_equal(zip_pages(zip), i / per_page + 1);
		}
		/* A slot that is free again is the next, wherever it is. */
		for (unsigned i = 0; i < N; i += per_page) {
			uint64_t again;

			zip_drop(zip, entry[i]);
			assert_false(zip_uses(zip, entry[i]));
			assert_int_equal(zip_put(zip, i, packed, bytes, 256,
						 &again),
					 0);
			assert_int_equal(zip_slots(zip), N);
			assert_int_equal(zip_pages(zip), (N - 1) / per_page + 1);
			entry[i] = again;
		}
		/* So is a page that is free again, for any class. */
		for (unsigned i = 0; i < N; i++)
			zip_drop(zip, entry[i]);
		assert_int_equal(zip_pages(zip), 0);
		assert_int_equal(zip_put(zip, 0, packed, 2000, 256, entry), 0);
		assert_int_equal(physmap_slot(entry[0]), 0);
		zip_free(zip);
		assert_int_equal(ledger_free_pages(&l), 1000);
	}
	ledger_release(&l);
}

static void put_many(struct zip *zip, unsigned first, unsigned n,
		     uint64_t *entries)
{
	uint8_t page[PAGE_SIZE];
	char packed[ZIP_MAX_BYTES];
	const unsigned bytes = pack(1, page, packed);

	for (unsigned i = first; i < first + n; i++)
		assert_int_equal(zip_put(zip, i, packed, bytes, 1000,
					 &entries[i]),
				 0);
}

static void take_oldest(struct zip *zip, unsigned first, unsigned n)
{
	uint64_t page;

	for (unsigned i = first; i < first + n; i++) {
		assert_true(zip_oldest(zip, &page));
		assert_int_equal(page, i);
	}
}

/* However many there are, and wherever in its ring the oldest is. */
static void the_oldest_comes_first(void **state)
{
	static uint64_t entries[2000];
	struct err err = {0};
	struct ledger l;
	struct zip *zip;
	uint64_t page;

	(void)state;
	ledger_init(&l, 1000);
	assert_int_equal(zip_new(1000, &l, &zip, &err), 0);
	assert_false(zip_oldest(zip, &page));
	put_many(zip, 0, 200, entries);
	take_oldest(zip, 0, 150);
	put_many(zip, 200, 150, entries);
	take_oldest(zip, 150, 100);
	put_many(zip, 350, 900, entries);
	take_oldest(zip, 250, 1000);
	assert_false(zip_oldest(zip, &page));
	zip_free(zip);
	ledger_release(&l);
}

/* What a new host does with the cache of a VM that goes on, and with its own after a loss. */
static void a_cache_is_counted_anew(void **state)
{
	uint8_t page[PAGE_SIZE], got[PAGE_SIZE];
	char packed[ZIP_MAX_BYTES];
	uint64_t entries[N], small, oldest;
	struct err err = {0};
	struct ledger l;
	struct zip *zip;

	(void)state;
	ledger_init(&l, 1000);
	assert_int_equal(zip_new(1000, &l, &zip, &err), 0);
	put_many(zip, 0, N, entries);
	assert_int_equal(zip_put(zip, 99, packed, pack(60, page, packed), 1000,
				 &small),
			 0);
	zip_clear(zip);
	assert_int_equal(zip_slots(zip), 0);
	assert_int_equal(zip_pages(zip), 0);
	assert_int_equal(ledger_free_pages(&l), 1000);
	assert_false(zip_oldest(zip, &oldest));
	assert_false(zip_uses(zip, entries[0]));
	/* The last first, and each other one; their pages have no slots of another class. */
	for (unsigned i = N; i > N / 2; i -= 2)
		assert_true(zip_claim(zip, i - 1, entries[i - 1]));
	assert_false(zip_claim(zip, 7,
			       physmap_zipped(physmap_slot(entries[N - 16]),
					      ZIP_MAX_BYTES)));
	assert_int_equal(zip_slots(zip), N / 4);
	assert_int_equal(1000 - ledger_free_pages(&l), zip_pages(zip));
	zip_trim(zip);
	assert_int_equal(file_pages(zip_fd(zip)), zip_pages(zip));
	assert_int_equal(zip_get(zip, entries[N - 1], got), 0);
	(void)pack(1, page, packed);
	assert_memory_equal(got, page, PAGE_SIZE);
	for (unsigned i = N; i > N / 2; i -= 2) {
		assert_true(zip_oldest(zip, &oldest));
		assert_int_equal(oldest, i - 1);
		zip_drop(zip, entries[i - 1]);
	}
	assert_false(zip_oldest(zip, &oldest));
	assert_int_equal(zip_pages(zip), 0);
	/* And from the beginning of the file again. */
	put_many(zip, 0, 1, entries);
	assert_int_equal(physmap_slot(entries[0]), 0);
	zip_free(zip);
	assert_int_equal(ledger_free_pages(&l), 1000);
	ledger_release(&l);
}

static void a_full_cache_refuses(void **state)
{
	uint8_t page[PAGE_SIZE];
	char packed[ZIP_MAX_BYTES];
	uint64_t entry;
	struct err err = {0};
	struct ledger l;
	struct zip *zip;
	int r = 0;

	(void)state;
	ledger_init(&l, 3);
	assert_int_equal(zip_new(256, &l, &zip, &err), 0);
	for (unsigned i = 0; i < 100 && !r; i++)
		r = zip_put(zip, i, packed, pack(60, page, packed), 256, &entry);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(zip_pages(zip), 3);
	assert_int_equal(ledger_free_pages(&l), 0);
	assert_int_equal(zip_put(zip, 1, packed, ZIP_MAX_BYTES + 1, 256, &entry),
			 -E2BIG);
	zip_free(zip);
	ledger_release(&l);
}

static void swapped_pages_come_back(void **state)
{
	uint8_t *pages = aligned_alloc(PAGE_SIZE, 64 * PAGE_SIZE);
	uint8_t *got = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	char path[] = "/tmp/mezz-swap-XXXXXX";
	struct err err = {0};
	struct swap *swap;
	uint64_t slot = 0;

	(void)state;
	close(mkstemp(path));
	assert_int_equal(swap_new(path, 100, &swap, &err), 0);
	for (unsigned i = 0; i < 64; i++)
		memset(pages + i * PAGE_SIZE, (int)i + 1, PAGE_SIZE);
	assert_int_equal(swap_take(swap, 64, &slot), 64);
	assert_int_equal(swap_write(swap, slot, pages, 64), 0);
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(swap_read(swap, slot + i, got), 0);
		assert_memory_equal(got, pages + i * PAGE_SIZE, PAGE_SIZE);
	}
	assert_int_equal(swap_take(swap, 64, &slot), 36);
	assert_int_equal(swap_take(swap, 64, &slot), 0);
	swap_drop(swap, 10);
	swap_drop(swap, 10);
	swap_drop(swap, 1000);
	assert_int_equal(swap_slots_free(swap), 1);
	assert_int_equal(swap_take(swap, 64, &slot), 1);
	assert_int_equal(slot, 10);
	assert_false(swap_claim(swap, 10));
	assert_false(swap_claim(swap, 100));
	swap_free(swap);
	assert_int_equal(swap_adopt(path, &swap, &err), 0);
	assert_int_equal(swap_slots(swap), 100);
	assert_int_equal(swap_slots_free(swap), 100);
	swap_free(swap);
	unlink(path);
	free(pages);
	free(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reserve_is_for_moves),
		cmocka_unit_test(classes_fit_their_pages),
		cmocka_unit_test(packed_pages_come_back),
		cmocka_unit_test(a_cache_is_found_again),
		cmocka_unit_test(slots_share_pages),
		cmocka_unit_test(the_oldest_comes_first),
		cmocka_unit_test(a_cache_is_counted_anew),
		cmocka_unit_test(a_full_cache_refuses),
		cmocka_unit_test(swapped_pages_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
