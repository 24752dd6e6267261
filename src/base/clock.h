/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's clocks as numbers, and naps. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H
#include <stdint.h>
#include <time.h>

/** clock_ns() - what one of the kernel's clocks says, in nanoseconds; it must be there. */
static inline uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/** monotonic_ns() - time that nobody sets, for durations and timeouts, in nanoseconds. */
static inline uint64_t monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/** monotonic_ms() - the same in milliseconds. */
static inline uint64_t monotonic_ms(void)
{
	return monotonic_ns() / 1000000;
}

/** thread_ns() - processor time of the calling thread, in nanoseconds. */
static inline uint64_t thread_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/** wall_ms() - time of day, in milliseconds since 1970. */
static inline uint64_t wall_ms(void)
{
	return clock_ns(CLOCK_REALTIME) / 1000000;
}

/** monotonic_after_ns() - the moment @ns nanoseconds from now, for waits on CLOCK_MONOTONIC. */
static inline struct timespec monotonic_after_ns(uint64_t ns)
{
	const uint64_t at = monotonic_ns() + ns;

	return (struct timespec){
		.tv_sec = (time_t)(at / 1000000000),
		.tv_nsec = (long)(at % 1000000000),
	};
}

/** monotonic_after_ms() - the same in milliseconds, and so for longer. */
static inline struct timespec monotonic_after_ms(uint64_t ms)
{
	const uint64_t at = monotonic_ms() + ms;

	return (struct timespec){
		.tv_sec = (time_t)(at / 1000),
		.tv_nsec = (long)(at % 1000) * 1000000,
	};
}

/** nap_us() - sleep for that many microseconds, less if a signal comes. */
static inline void nap_us(uint64_t us)
{
	const struct timespec t = {
		.tv_sec = (time_t)(us / 1000000),
		.tv_nsec = (long)(us % 1000000) * 1000,
	};

	nanosleep(&t, NULL);
}

/** nap_ms() - the same for milliseconds. */
static inline void nap_ms(uint64_t ms)
{
	nap_us(ms * 1000);
}

#endif
