/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that takes random pages of a running VM, spoils them, and gives them back. */
#ifndef MEM_REVOKE_STRESS_H
#define MEM_REVOKE_STRESS_H
#include <base/error.h>
#include <base/types.h>
#include <mem/guestmem.h>

struct revoke_stress;

/**
 * struct revoke_stress_stats - what it did.
 * @batches: requests that the VM acknowledged
 * @taken: pages taken, spoiled and returned
 * @zeroed: those of them that were all zero and became ZERO
 * @skipped: random picks that were not at home
 * @timeouts: requests that were not acknowledged in time and were withdrawn
 */
struct revoke_stress_stats {
	uint64_t batches;
	uint64_t taken;
	uint64_t zeroed;
	uint64_t skipped;
	uint64_t timeouts;
};

/**
 * revoke_stress_start() - begin; the guest must not notice.
 * @mem: guest memory whose ops are set; nobody else may be its host
 * @pages_per_second: at least 1
 * @seed: of the choice of pages
 * @ret_stress: set on success; ended with revoke_stress_stop()
 * @err: message on failure
 *
 * Return: 0, -EINVAL, -ENOMEM, or what pthread_create() reports.
 */
int revoke_stress_start(struct guestmem *mem, uint64_t pages_per_second,
			uint64_t seed, struct revoke_stress **ret_stress,
			struct err *err) __attribute__((warn_unused_result));

/** revoke_stress_stats() - its counters now. Any thread. */
struct revoke_stress_stats revoke_stress_stats(const struct revoke_stress *stress);

/**
 * revoke_stress_stop() - end it; every page is back when this returns.
 * @stress: from revoke_stress_start(), or NULL
 *
 * Works with the processor running or not.
 *
 * Return: NULL.
 */
struct revoke_stress *revoke_stress_stop(struct revoke_stress *stress);

#endif
