/* SPDX-License-Identifier: Apache-2.0 */
/* The memory map below, at and above the device hole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <boot/memmap.h>
#include <mem/guestmem.h>

#define GIB (UINT64_C(1) << 30)

static uint64_t ram_bytes(const struct memmap *m)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < m->n; i++) {
		if (m->regions[i].type == MEMMAP_RAM)
			sum += m->regions[i].bytes;
	}
	return sum;
}

static void test_sizes(void **state)
{
	static const uint64_t sizes[] = {
		2 << 20, GIB, 3 * GIB - 4096, 3 * GIB, 3 * GIB + 4096, 64 * GIB,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct memmap m;

		memmap_init(&m, sizes[i]);
		/* All but the reserved part below 1 MiB. */
		assert_int_equal(ram_bytes(&m), sizes[i] - 0x60400);
		for (unsigned int k = 1; k < m.n; k++)
			assert_true(m.regions[k].start >=
				    m.regions[k - 1].start +
					    m.regions[k - 1].bytes);
		assert_int_equal(m.n, sizes[i] > 3 * GIB ? 4 : 3);
		assert_int_equal(m.low_end,
				 sizes[i] < 3 * GIB ? sizes[i] : 3 * GIB);
	}
}

static void test_regions(void **state)
{
	struct memmap m;

	(void)state;
	memmap_init(&m, 4 * GIB);
	assert_int_equal(m.regions[0].start, 0);
	assert_int_equal(m.regions[0].bytes, 0x9fc00);
	assert_int_equal(m.regions[1].type, MEMMAP_RESERVED);
	assert_int_equal(m.regions[2].start, 0x100000);
	assert_int_equal(m.regions[2].bytes, 3 * GIB - 0x100000);
	assert_int_equal(m.regions[3].start, 4 * GIB);
	assert_int_equal(m.regions[3].bytes, GIB);
}

static void test_no_room(void **state)
{
	struct memmap m;

	(void)state;
	memmap_init(&m, 4096);
	assert_int_equal(m.low_end, 4096);
	assert_int_equal(ram_bytes(&m), 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_regions),
		cmocka_unit_test(test_no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
