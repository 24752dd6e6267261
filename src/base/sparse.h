/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays that are as long as a guest's memory, of which little may ever be used. */
#ifndef BASE_SPARSE_H
#define BASE_SPARSE_H
#include <stdint.h>

/**
 * sparse_new() - zeroes that take memory page by page, where they are touched.
 * @bytes: how many, not 0
 *
 * Nothing is promised for the rest, so its length may be more than the host's memory.
 *
 * Return: the caller's, aligned to a page, ended with sparse_free(); NULL: no addresses are left.
 */
void *sparse_new(uint64_t bytes) __attribute__((warn_unused_result));

/** sparse_free() - end it. @bytes is what it was made with. @array may be NULL. */
void sparse_free(void *array, uint64_t bytes);

#endif
