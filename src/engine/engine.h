/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine runs virtual processors. There is one constant table of functions per engine,
 * chosen once for a VM; devices, boot, host link and policy do not know which one it is.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <base/error.h>
#include <base/types.h>
#include <boot/boot.h>
#include <cpu/cpu.h>
#include <mem/guestmem.h>
#include <mmu/mmu.h>

/* Why a processor came back from engine_ops.run. */
enum engine_exit {
	ENGINE_EXIT_SLICE,     /* its time slice is over, or devices want attention */
	ENGINE_EXIT_HALT,      /* waits for an interrupt */
	ENGINE_EXIT_SHUTDOWN,  /* triple fault */
	ENGINE_EXIT_STOPPED,   /* guest memory refused: see guestmem_failure() */
	ENGINE_EXIT_BAD_FETCH, /* the guest jumped to where there is no memory: struct engine_fail */
};

/**
 * struct engine_config - what an engine is made for.
 * @mem: guest memory; outlives the engine
 * @io: the machine around the processor
 * @io_ctx: for @io
 * @mmu: switches of memory virtualization
 * @features: what CPUID shows
 */
struct engine_config {
	struct guestmem *mem;
	const struct cpu_ops *io;
	void *io_ctx;
	struct mmu_options mmu;
	struct cpu_features features;
};

/* Receives counters one by one; @group and @name are constant strings. */
typedef void engine_counter_fn(void *arg, const char *group, const char *name,
			       uint64_t value);

struct engine;

/**
 * struct engine_ops - one engine; a constant table.
 * @name: as given to --engine
 * @new: a processor after reset; 0 or -errno with a message
 * @free: end it; NULL is fine
 * @boot: set the state in which a kernel starts
 * @run: execute until one of enum engine_exit
 * @can_interrupt: may a hardware interrupt be taken now?
 * @interrupt: take it
 * @want_interrupt: come back from @run as soon as one can be taken
 * @retired: instructions executed so far
 * @rip: address of the next instruction, for messages
 * @bad_fetch: after ENGINE_EXIT_BAD_FETCH
 * @audit: check every cached translation; count or -EILSEQ with a message
 * @counters: report all of them
 *
 * All on the processor's thread, except that @counters may also run when the thread is gone.
 */
struct engine_ops {
	const char *name;
	int (*new)(const struct engine_config *cfg, struct engine **ret_engine,
		   struct err *err);
	struct engine *(*free)(struct engine *engine);
	void (*boot)(struct engine *engine, const struct boot_state *state);
	enum engine_exit (*run)(struct engine *engine);
	bool (*can_interrupt)(const struct engine *engine);
	void (*interrupt)(struct engine *engine, uint8_t vector);
	void (*want_interrupt)(struct engine *engine, bool want);
	uint64_t (*retired)(const struct engine *engine);
	uint64_t (*rip)(const struct engine *engine);
	gpa_t (*bad_fetch)(const struct engine *engine);
	int64_t (*audit)(struct engine *engine, struct err *err);
	void (*counters)(const struct engine *engine, engine_counter_fn *fn,
			 void *arg);
};

/* The software processor of src/cpu. */
extern const struct engine_ops engine_soft;

#endif
