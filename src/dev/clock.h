/* SPDX-License-Identifier: Apache-2.0 */
/* Where devices get the time from, so that tests can hold it still. */
#ifndef DEV_CLOCK_H
#define DEV_CLOCK_H
#include <base/types.h>

/**
 * struct dev_clock - the time of one VM, or of one of its processors.
 * @now_ns: nanoseconds since an origin of the VM's choice, never going back
 * @now_tsc: the guest's time-stamp counter (offset included)
 * @wall_ns: nanoseconds since 1970-01-01 UTC
 * @ctx: passed to each
 * @tsc_hz: ticks of @now_tsc per second of @now_ns
 *
 * Made by whoever assembles the VM; devices keep a pointer, so it outlives them.
 */
struct dev_clock {
	uint64_t (*now_ns)(void *ctx);
	uint64_t (*now_tsc)(void *ctx);
	uint64_t (*wall_ns)(void *ctx);
	void *ctx;
	uint64_t tsc_hz;
};

#endif
