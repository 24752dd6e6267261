/* SPDX-License-Identifier: Apache-2.0 */
/* Memory files: their length is sealed, their pages come and go, what is zero is seen as zero. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <mem/memfile.h>

#define N_PAGES 64

static int new_file(bool growable)
{
	struct err err;
	int fd = -1;

	assert_int_equal(memfile_new("test", N_PAGES * PAGE_SIZE, growable, &fd,
				     &err),
			 0);
	return fd;
}

static uint64_t pages_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE_SIZE;
}

static void put(int fd, uint64_t page, uint64_t at, uint8_t byte)
{
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)(page * PAGE_SIZE + at)),
			 1);
}

static void length_is_sealed(void **state)
{
	const int fixed = new_file(false);
	const int growable = new_file(true);

	(void)state;
	assert_int_equal(ftruncate(fixed, PAGE_SIZE), -1);
	assert_int_equal(ftruncate(fixed, 2 * N_PAGES * PAGE_SIZE), -1);
	assert_int_equal(ftruncate(growable, PAGE_SIZE), -1);
	assert_int_equal(ftruncate(growable, 2 * N_PAGES * PAGE_SIZE), 0);
	assert_int_equal(fcntl(fixed, F_ADD_SEALS, F_SEAL_WRITE), -1);
	close(fixed);
	close(growable);
}

static void dropped_pages_have_no_memory(void **state)
{
	const int fd = new_file(false);
	uint8_t byte = 1;

	(void)state;
	for (uint64_t p = 0; p < 8; p++)
		put(fd, p, 100, 7);
	assert_int_equal(pages_of(fd), 8);
	assert_true(memfile_drop(fd, 2 * PAGE_SIZE, 3 * PAGE_SIZE));
	assert_int_equal(pages_of(fd), 5);
	assert_int_equal(pread(fd, &byte, 1, 2 * PAGE_SIZE + 100), 1);
	assert_int_equal(byte, 0);
	assert_int_equal(pread(fd, &byte, 1, 5 * PAGE_SIZE + 100), 1);
	assert_int_equal(byte, 7);
	close(fd);
}

static void stretches_with_memory_are_found(void **state)
{
	const int fd = new_file(false);
	const uint64_t bytes = N_PAGES * PAGE_SIZE;
	uint64_t start = 1, end = 1;

	(void)state;
	assert_false(memfile_data_next(fd, bytes, 0, &start, &end));
	put(fd, 3, 0, 1);
	put(fd, 4, 0, 1);
	put(fd, N_PAGES - 1, 0, 1);
	assert_true(memfile_data_next(fd, bytes, 0, &start, &end));
	assert_int_equal(start, 3 * PAGE_SIZE);
	assert_int_equal(end, 5 * PAGE_SIZE);
	assert_true(memfile_data_next(fd, bytes, 4 * PAGE_SIZE, &start, &end));
	assert_int_equal(start, 4 * PAGE_SIZE);
	assert_true(memfile_data_next(fd, bytes, end, &start, &end));
	assert_int_equal(start, bytes - PAGE_SIZE);
	assert_int_equal(end, bytes);
	assert_false(memfile_data_next(fd, bytes, end, &start, &end));
	/* What is behind the part that matters does not. */
	assert_false(memfile_data_next(fd, bytes - PAGE_SIZE, 5 * PAGE_SIZE,
				       &start, &end));
	close(fd);
}

static void mappings_are_of_the_file(void **state)
{
	const int fd = new_file(false);
	uint8_t *map = memfile_map(fd, N_PAGES * PAGE_SIZE,
				   PROT_READ | PROT_WRITE);

	(void)state;
	assert_ptr_not_equal(map, MAP_FAILED);
	map[7 * PAGE_SIZE] = 1;
	assert_false(memfile_page_is_zero(fd, 7 * PAGE_SIZE));
	/* As much as was touched. */
	assert_int_equal(pages_of(fd), 1);
	put(fd, 3, 5, 9);
	assert_int_equal(map[3 * PAGE_SIZE + 5], 9);
	munmap(map, N_PAGES * PAGE_SIZE);
	close(fd);
	assert_ptr_equal(memfile_map(-1, PAGE_SIZE, PROT_READ), MAP_FAILED);
	assert_int_equal(errno, EBADF);
}

static void zeros_are_seen(void **state)
{
	uint8_t page[PAGE_SIZE] = {0};

	(void)state;
	assert_true(page_is_zero(page));
	for (unsigned int i = 0; i < PAGE_SIZE; i++) {
		page[i] = 1;
		assert_false(page_is_zero(page));
		page[i] = 0;
	}
	memset(page, 7, sizeof(page));
	assert_false(page_is_zero(page));
}

static void pages_of_a_file_are_zero_or_not(void **state)
{
	const int fd = new_file(false);

	(void)state;
	put(fd, 1, PAGE_SIZE - 1, 1);
	put(fd, 2, 0, 0);
	assert_true(memfile_page_is_zero(fd, 0));
	assert_false(memfile_page_is_zero(fd, PAGE_SIZE));
	assert_true(memfile_page_is_zero(fd, 2 * PAGE_SIZE));
	/* Looking costs no memory. */
	assert_int_equal(pages_of(fd), 2);
	/* What is not there is not known to be zero. */
	assert_false(memfile_page_is_zero(fd, N_PAGES * PAGE_SIZE));
	assert_false(memfile_page_is_zero(-1, 0));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(length_is_sealed),
		cmocka_unit_test(dropped_pages_have_no_memory),
		cmocka_unit_test(stretches_with_memory_are_found),
		cmocka_unit_test(mappings_are_of_the_file),
		cmocka_unit_test(zeros_are_seen),
		cmocka_unit_test(pages_of_a_file_are_zero_or_not),
	};

	return cmocka_run_group_tests_name("memfile", tests, NULL, NULL);
}
