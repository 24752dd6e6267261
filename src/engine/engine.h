/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine runs virtual processors. There is one constant table of functions per engine,
 * chosen once for a VM; devices, boot, host link and policy do not know which one it is.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H
#include <pthread.h>

#include <base/error.h>
#include <base/types.h>
#include <boot/boot.h>
#include <cpu/cpu.h>
#include <mem/guestmem.h>
#include <mmu/mmu.h>

/* Why a processor came back from engine_ops.run. */
enum engine_exit {
	ENGINE_EXIT_SLICE, /* its time slice is over, or devices want attention */
	ENGINE_EXIT_HALT,     /* waits for an interrupt */
	ENGINE_EXIT_SHUTDOWN, /* triple fault */
	ENGINE_EXIT_STOPPED,  /* guest memory refused: see guestmem_failure() */
	ENGINE_EXIT_BAD_FETCH, /* a jump to where there is no memory: struct engine_fail */
	ENGINE_EXIT_FAILED, /* the engine cannot go on: engine_ops.failure */
};

struct probe_verdict;

/**
 * struct engine_config - what an engine is made for.
 * @mem: guest memory; outlives the engine
 * @io: the machine around the processor
 * @wake: have the thread that calls @run do so soon, also if it sleeps because the processor
 *        has halted; any thread
 * @io_ctx: for @io and @wake
 * @mmu: switches of memory virtualization
 * @features: what CPUID shows
 * @lock: held around every use of guest memory by devices, and by an engine whose
 *        processors have threads of their own
 * @large_pages: back guest RAM with 2 MiB pages where the host offers them
 * @max_runs: bound on mappings of shared memory, 0 for the engine's own
 * @verdict: set by the KVM engine: whether the host's KVM is usable; else making it fails
 */
struct engine_config {
	struct guestmem *mem;
	const struct cpu_ops *io;
	void (*wake)(void *io_ctx);
	void *io_ctx;
	struct mmu_options mmu;
	struct cpu_features features;
	pthread_mutex_t *lock;
	bool large_pages;
	uint64_t max_runs;
	struct probe_verdict *verdict;
};

/* Receives counters one by one; @group and @name are constant strings. */
typedef void engine_counter_fn(void *arg, const char *group, const char *name,
			       uint64_t value);

struct engine;

#define ENGINE_RIP_UNKNOWN UINT64_MAX

/**
 * struct engine_ops - one engine; a constant table.
 * @name: as given to --engine
 * @max_cpus: processors that a VM may have
 * @new: processors after reset; 0 or -errno with a message
 * @free: end it; NULL is fine
 * @boot: set the state in which a kernel starts; 0 or -errno with a message
 * @rip: address of the next instruction of the first processor, for messages, or
 *       ENGINE_RIP_UNKNOWN
 * @bad_fetch: after ENGINE_EXIT_BAD_FETCH: where
 * @page_root: CR3 of the first processor if it walks four levels in long mode, else 0; NULL if
 *             that cannot be told. On that processor's thread
 * @failure: after ENGINE_EXIT_FAILED: why, one sentence
 * @audit: check every cached translation; count or -EILSEQ with a message
 * @counters: report all of them
 *
 * An engine that leaves timers, interrupts and idling to the VM has, for its one processor:
 * @run: execute until one of enum engine_exit
 * @can_interrupt: may a hardware interrupt be taken now?
 * @interrupt: take it
 * @want_interrupt: come back from @run as soon as one can be taken
 * @retired: instructions executed so far
 * All on the processor's thread, except that @counters may also run when the thread is gone.
 *
 * An engine with interrupt controllers of its own has, with NULL for those:
 * @run_cpu: execute processor @cpu, always on the same thread, until one of enum engine_exit
 * @leave_cpu: that thread will not call @run_cpu any more
 * @kick: make every @run_cpu return soon, or the next one; any thread
 * @tell_stopped: the host has held the VM up: tell the guest, on each processor before that
 *                goes on; any thread
 * @stop: the VM ends: nobody may wait for memory any more; with the lock held
 * @set_irq: drive a pin of its I/O APIC; fits struct irq_line with the engine; any thread
 *
 * An engine that backs guest RAM with large pages has, with NULL for those:
 * @set_large: they are wanted, as at first, or not any more; any thread
 */
struct engine_ops {
	const char *name;
	unsigned int max_cpus;
	int (*new)(const struct engine_config *cfg, struct engine **ret_engine,
		   struct err *err);
	struct engine *(*free)(struct engine *engine);
	int (*boot)(struct engine *engine, const struct boot_state *state,
		    struct err *err);
	uint64_t (*rip)(const struct engine *engine);
	uint64_t (*page_root)(const struct engine *engine);
	const char *(*failure)(const struct engine *engine);
	int64_t (*audit)(struct engine *engine, struct err *err);
	void (*counters)(const struct engine *engine, engine_counter_fn *fn,
			 void *arg);

	enum engine_exit (*run)(struct engine *engine);
	bool (*can_interrupt)(const struct engine *engine);
	void (*interrupt)(struct engine *engine, uint8_t vector);
	void (*want_interrupt)(struct engine *engine, bool want);
	uint64_t (*retired)(const struct engine *engine);
	gpa_t (*bad_fetch)(const struct engine *engine);

	enum engine_exit (*run_cpu)(struct engine *engine, unsigned int cpu);
	void (*leave_cpu)(struct engine *engine, unsigned int cpu);
	void (*kick)(struct engine *engine);
	void (*tell_stopped)(struct engine *engine);
	void (*stop)(struct engine *engine);
	void (*set_irq)(void *engine, unsigned int gsi, bool level);
	void (*set_large)(struct engine *engine, bool on);
};

/* The software processor of src/cpu. */
extern const struct engine_ops engine_soft;

/* The host's /dev/kvm. */
extern const struct engine_ops engine_kvm;

#endif
