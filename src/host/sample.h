/* SPDX-License-Identifier: Apache-2.0 */
/* Estimating a VM's working set: random pages are watched, and those touched counted. */
#ifndef HOST_SAMPLE_H
#define HOST_SAMPLE_H
#include <base/rng.h>
#include <base/types.h>
#include <host/vmmem.h>
#include <policy/options.h>
#include <policy/workset.h>

#define SAMPLE_MAX 10000

/**
 * struct sample_time - how long a VM has been there.
 * @run_ns: time that its processor ran
 * @free_ns: time that passed while it did not wait for memory
 */
struct sample_time {
	uint64_t run_ns;
	uint64_t free_ns;
};

/**
 * struct sample - the sample of one VM.
 * @ws: estimator
 * @pages: PPNs that are watched
 * @away: bit i: page i was compressed, swapped or ballooned when it was chosen
 * @zero: bit i: page i had no contents when it was chosen
 * @done: bit i: page i was counted
 * @n: how many
 * @until: the period ends when either of these is reached
 * @has_until: a period has begun
 * @random: of the choice
 */
struct sample {
	struct workset ws;
	uint32_t *pages;
	uint64_t *away;
	uint64_t *zero;
	uint64_t *done;
	uint32_t n;
	struct sample_time until;
	bool has_until;
	struct rng random;
};

/** sample_init() - nothing is known. Return: 0 or -ENOMEM. */
int sample_init(struct sample *s, uint64_t seed)
	__attribute__((warn_unused_result));

/** sample_release() - end it. */
void sample_release(struct sample *s);

/**
 * sample_tick() - count touches; at the end of a period begin the next.
 * @s: sample
 * @vm: VM
 * @options: Mem.SamplePeriod, Mem.SampleCount
 *
 * Context: the mover, some ten times in a period.
 */
void sample_tick(struct sample *s, struct vmmem *vm,
		 const struct options *options);

#endif
