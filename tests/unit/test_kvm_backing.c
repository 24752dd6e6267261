/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of a range of addresses: how much is mapped, in how many mappings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <engine/kvm_backing.h>

#define N_PAGES 64

static FILE *smaps;

static uint8_t *map_file(void)
{
	const int fd = memfd_create("test", MFD_CLOEXEC);
	uint8_t *mem;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, N_PAGES * PAGE_SIZE), 0);
	mem = mmap(NULL, N_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_SHARED, fd, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	close(fd);
	return mem;
}

static void test_touched(void **state)
{
	uint8_t *mem = map_file();
	struct kvm_backing b = kvm_backing_read(smaps, mem, N_PAGES * PAGE_SIZE);

	(void)state;
	assert_int_equal(b.small_bytes + b.large_bytes, 0);
	assert_int_equal(b.mappings, 1);
	for (unsigned int i = 0; i < 10; i++)
		mem[i * PAGE_SIZE] = 1;
	b = kvm_backing_read(smaps, mem, N_PAGES * PAGE_SIZE);
	assert_true(b.small_bytes + b.large_bytes >= 10 * PAGE_SIZE);
	munmap(mem, N_PAGES * PAGE_SIZE);
}

/* What begins or ends outside does not count. */
static void test_range(void **state)
{
	uint8_t *mem = map_file();
	struct kvm_backing b;

	(void)state;
	mem[20 * PAGE_SIZE] = 1;
	assert_int_equal(mprotect(mem + 16 * PAGE_SIZE, 16 * PAGE_SIZE,
				  PROT_READ),
			 0);
	b = kvm_backing_read(smaps, mem, N_PAGES * PAGE_SIZE);
	assert_int_equal(b.mappings, 3);
	b = kvm_backing_read(smaps, mem + 16 * PAGE_SIZE, 16 * PAGE_SIZE);
	assert_int_equal(b.mappings, 1);
	assert_true(b.small_bytes + b.large_bytes >= PAGE_SIZE);
	b = kvm_backing_read(smaps, mem + 17 * PAGE_SIZE, 15 * PAGE_SIZE);
	assert_int_equal(b.mappings, 0);
	munmap(mem, N_PAGES * PAGE_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_touched),
		cmocka_unit_test(test_range),
	};

	int failed;

	/* Once, before there is what it will tell. */
	smaps = kvm_backing_open();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	fclose(smaps);
	return failed;
}
