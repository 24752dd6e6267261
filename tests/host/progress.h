/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests know of the fake VM. */
#ifndef TESTS_HOST_PROGRESS_H
#define TESTS_HOST_PROGRESS_H
#include <base/types.h>

/* Contents below this number are the same in all VMs. */
#define FAKE_COMMON 64

/* The file progress in the VM's directory; the test sets @spoil: write to each page; and
 * @mended: a balloon driver that is stuck works from then on. @allowed: pages that the VM might
 * have when it had waited for a host. */
struct fake_progress {
	_Atomic uint64_t ops;
	_Atomic uint64_t errors;
	_Atomic uint64_t paused;
	_Atomic uint64_t spoil;
	_Atomic uint64_t mended;
	_Atomic uint64_t allowed;
};

#endif
