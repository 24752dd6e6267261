/* SPDX-License-Identifier: Apache-2.0 */
/* How the kernel backs a range of this process's addresses. */
#ifndef ENGINE_KVM_BACKING_H
#define ENGINE_KVM_BACKING_H
#include <base/types.h>

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
 * @start: first address
 * @bytes: length
 *
 * Return: all zero if /proc cannot be read. Context: any thread; takes milliseconds.
 */
struct kvm_backing kvm_backing_read(const uint8_t *start, uint64_t bytes);

#endif
