/* SPDX-License-Identifier: Apache-2.0 */
/* How the kernel backs a range of this process's addresses. */
#ifndef ENGINE_KVM_BACKING_H
#define ENGINE_KVM_BACKING_H
#include <stdio.h>

#include <base/types.h>

/**
 * kvm_backing_open() - what kvm_backing_read() reads.
 *
 * For a process that will be allowed to open nothing any more. Return: closed with fclose(), or
 * NULL if there is no /proc.
 */
FILE *kvm_backing_open(void);

/**
 * struct kvm_backing - memory that is mapped in a range.
 * @large_bytes: by entries of 2 MiB
 * @small_bytes: by entries of 4 KiB
 * @mappings: mappings of the kernel that the range is made of
 */
struct kvm_backing {
	uint64_t large_bytes;
	uint64_t small_bytes;
	uint64_t mappings;
};

/**
 * kvm_backing_read() - ask the kernel.
 * @smaps: of kvm_backing_open(); NULL is fine
 * @start: first address
 * @bytes: length
 *
 * Return: all zero if it cannot be read. Context: any thread, one at a time; takes milliseconds.
 */
struct kvm_backing kvm_backing_read(FILE *smaps, const uint8_t *start,
				    uint64_t bytes);

#endif
