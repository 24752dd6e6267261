/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays that are mapped, so that their pages come one by one. */
#include <base/sparse.h>

#include <stddef.h>
#include <sys/mman.h>

void *sparse_new(uint64_t bytes)
{
	void *array = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return array == MAP_FAILED ? NULL : array;
}

void sparse_free(void *array, uint64_t bytes)
{
	if (array)
		munmap(array, bytes);
}
