/* SPDX-License-Identifier: Apache-2.0 */
/* Estimating a VM's working set: random pages are watched, and those touched counted. */
#ifndef HOST_SAMPLE_H
#define HOST_SAMPLE_H
#include <base/types.h>
#include <host/vmmem.h>
#include <policy/options.h>
#include <policy/workset.h>

#define SAMPLE_MAX 10000

/**
 * struct sample - the sample of one VM.
 * @ws: estimator
 * @pages: PPNs that are watched
 * @away: bit i: page i was compressed, swapped or ballooned when it was chosen
 * @done: bit i: page i was counted
 * @n: how many
 * @until_ns: running time at which the period ends
 * @seed: of the random choice
 */
struct sample {
	struct workset ws;
	uint32_t *pages;
	uint64_t *away;
	uint64_t *done;
	uint32_t n;
	uint64_t until_ns;
	uint64_t seed;
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
