/* SPDX-License-Identifier: Apache-2.0 */
/* The engine that runs on our own processor and needs nothing of the host. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <cpu/block.h>
#include <engine/engine.h>

/* Instructions between two looks at timers and requests: some tens of microseconds. */
#define SLICE_INSNS 16384

struct engine {
	struct cpu *cpu;
	void (*wake)(void *io_ctx); /* of the VM's thread */
	void *io_ctx;
};

static struct engine *soft_free(struct engine *e)
{
	if (e) {
		cpu_free(e->cpu);
		free(e);
	}
	return NULL;
}

static void unmap(void *ctx, ppn_t page)
{
	struct engine *e = ctx;

	cpu_unmap(e->cpu, page);
}

static void written(void *ctx, gpa_t addr, uint64_t len)
{
	struct engine *e = ctx;

	cpu_written(e->cpu, addr, len);
}

/* A processor that runs looks for revocations after every slice, which is soon enough. */
static void kick(void *ctx)
{
	struct engine *e = ctx;

	e->wake(e->io_ctx);
}

static const struct guestmem_ops mem_ops = {
	.unmap = unmap,
	.written = written,
	.kick = kick,
};

static int soft_new(const struct engine_config *cfg, struct engine **ret_engine,
		    struct err *err)
{
	struct engine *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return err_set(err, -ENOMEM, "no memory for the engine");
	r = cpu_new(cfg->mem, cfg->io, cfg->io_ctx, &cfg->mmu, &cfg->features,
		    &e->cpu, err);
	if (r) {
		free(e);
		return r;
	}
	e->wake = cfg->wake;
	e->io_ctx = cfg->io_ctx;
	guestmem_set_ops(cfg->mem, &mem_ops, e);
	*ret_engine = e;
	return 0;
}

static void set_segment(struct cpu *c, unsigned int n,
			const struct boot_segment *s)
{
	c->seg[n] = (struct cpu_segment){
		.sel = s->sel,
		.attr = s->attr,
		.limit = s->limit,
		.base = s->base,
	};
	c->gpr[REG_SEG + n] = s->base;
}

static int soft_boot(struct engine *e, const struct boot_state *s,
		     struct err *err)
{
	static const uint8_t data[] = {SEG_ES, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
	struct cpu *c = e->cpu;

	(void)err; /* nothing of it can fail */
	set_segment(c, SEG_CS, &s->code);
	for (unsigned int i = 0; i < ARRAY_SIZE(data); i++)
		set_segment(c, data[i], &s->data);
	c->tr = (struct cpu_segment){
		.sel = s->tss.sel,
		.attr = s->tss.attr,
		.limit = s->tss.limit,
		.base = s->tss.base,
	};
	c->gdtr = (struct cpu_table){s->gdt_base.v, s->gdt_limit};
	c->idtr = (struct cpu_table){0, 0};
	c->gpr[REG_RIP] = s->rip;
	c->gpr[REG_RSP] = s->rsp;
	c->gpr[REG_RAX] = s->rax;
	c->gpr[REG_RBX] = s->rbx;
	c->gpr[REG_RSI] = s->rsi;
	c->cr0 = s->cr0;
	c->cr3 = s->cr3;
	c->cr4 = s->cr4;
	c->efer = s->efer;
	cpu_set_rflags(c, s->rflags);
	cpu_state_changed(c);
	return 0;
}

static enum engine_exit soft_run(struct engine *e)
{
	switch (cpu_run(e->cpu, SLICE_INSNS)) {
	case CPU_EXIT_SLICE:
		return ENGINE_EXIT_SLICE;
	case CPU_EXIT_HLT:
		return ENGINE_EXIT_HALT;
	case CPU_EXIT_SHUTDOWN:
		return ENGINE_EXIT_SHUTDOWN;
	case CPU_EXIT_STOPPED:
		return ENGINE_EXIT_STOPPED;
	case CPU_EXIT_BAD_FETCH:
		return ENGINE_EXIT_BAD_FETCH;
	}
	return ENGINE_EXIT_STOPPED;
}

static bool soft_can_interrupt(const struct engine *e)
{
	return cpu_can_interrupt(e->cpu);
}

static void soft_interrupt(struct engine *e, uint8_t vector)
{
	cpu_interrupt(e->cpu, vector);
}

static void soft_want_interrupt(struct engine *e, bool want)
{
	e->cpu->intr_wanted = want;
}

static uint64_t soft_retired(const struct engine *e)
{
	return cpu_retired(e->cpu);
}

static uint64_t soft_rip(const struct engine *e)
{
	return cpu_rip(e->cpu);
}

static uint64_t soft_page_root(const struct engine *e)
{
	const struct cpu *c = e->cpu;
	/* Five levels are not modelled. */
	const bool four_levels = (c->cr0 & CR0_PG) && (c->efer & EFER_LMA);

	return four_levels ? c->cr3 : 0;
}

static const char *soft_failure(const struct engine *e)
{
	(void)e;
	return "no failure";
}

static gpa_t soft_bad_fetch(const struct engine *e)
{
	return e->cpu->bad_fetch;
}

static int64_t soft_audit(struct engine *e, struct err *err)
{
	return mmu_audit(e->cpu->mmu, err);
}

struct counter_sink {
	engine_counter_fn *fn;
	void *arg;
};

static void count_unimplemented(void *arg, const char *name, uint64_t count)
{
	const struct counter_sink *s = arg;

	s->fn(s->arg, "unimplemented", name, count);
}

static void cpu_counters(const struct cpu *c, engine_counter_fn *fn, void *arg)
{
	const struct cpu_stats *s = &c->stats;

	fn(arg, "cpu", "instructions", cpu_retired(c));
	fn(arg, "cpu", "blocks_decoded", s->blocks_decoded);
	fn(arg, "cpu", "blocks_dropped", s->blocks_dropped);
	fn(arg, "cpu", "instructions_decoded", s->insns_decoded);
	fn(arg, "cpu", "code_flushes", s->code_flushes);
	fn(arg, "cpu", "code_stores", s->code_stores);
	fn(arg, "cpu", "fragments", s->fragments);
	fn(arg, "cpu", "jump_misses", s->jump_misses);
	fn(arg, "cpu", "slow_loads", s->slow_loads);
	fn(arg, "cpu", "slow_stores", s->slow_stores);
	fn(arg, "cpu", "page_faults", s->page_faults);
	fn(arg, "cpu", "interrupts", s->interrupts);
	fn(arg, "cpu", "syscalls", s->syscalls);
	fn(arg, "cpu", "mode_changes", s->mode_changes);
	fn(arg, "cpu", "mmio", s->mmio);
	fn(arg, "cpu", "pio", s->pio);
	fn(arg, "cpu", "code_cache_bytes", block_cache_bytes(c));
	/* What instructions ask for, less what had to be looked up. */
	fn(arg, "tlb", "hits",
	   c->accesses > c->tlb.stats.misses ? c->accesses - c->tlb.stats.misses
					     : 0);
	fn(arg, "tlb", "misses", c->tlb.stats.misses);
	fn(arg, "tlb", "revalidations", c->tlb.stats.revalidations);
	fn(arg, "tlb", "flushes", c->tlb.stats.flushes);
	fn(arg, "tlb", "page_flushes", c->tlb.stats.page_flushes);
}

/* How many walks made how many references, as a group of its own. */
static void walk_counters(const struct mmu_stats *s, engine_counter_fn *fn,
			  void *arg)
{
	char name[4];

	for (unsigned int n = 0; n <= MMU_MAX_REFS; n++) {
		snprintf(name, sizeof(name), "%u", n);
		if (s->found[n])
			fn(arg, "walks_by_references", name, s->found[n]);
	}
}

static void mmu_counters(const struct mmu_stats *s, engine_counter_fn *fn,
			 void *arg)
{
	uint64_t found = 0;

	fn(arg, "mmu", "walks", s->walks);
	fn(arg, "mmu", "guest_refs", s->guest_refs);
	fn(arg, "mmu", "nested_refs", s->nested_refs);
	fn(arg, "mmu", "shadow_refs", s->shadow_refs);
	for (unsigned int n = 0; n <= MMU_MAX_REFS; n++)
		found += s->found[n];
	fn(arg, "mmu", "walks_found", found);
	fn(arg, "mmu", "nested_violations", s->nested_violations);
	fn(arg, "mmu", "true_faults", s->guest_faults);
	fn(arg, "mmu", "hidden_faults", s->hidden_faults);
	fn(arg, "mmu", "traced_writes", s->traced_writes);
	fn(arg, "mmu", "unsyncs", s->unsyncs);
	fn(arg, "mmu", "resyncs", s->resyncs);
	fn(arg, "mmu", "prefetches", s->prefetches);
	fn(arg, "mmu", "zaps", s->zaps);
	fn(arg, "mmu", "roots_built", s->roots_built);
	fn(arg, "mmu", "root_hits", s->root_hits);
	fn(arg, "mmu", "recycled", s->recycled);
	fn(arg, "mmu", "tables", s->tables);
	fn(arg, "mmu", "tables_peak", s->tables_peak);
	fn(arg, "mmu", "table_bytes", s->table_bytes);
	fn(arg, "mmu", "table_bytes_peak", s->table_bytes_peak);
	fn(arg, "mmu", "table_bytes_bound", s->table_bytes_bound);
}

static void soft_counters(const struct engine *e, engine_counter_fn *fn,
			  void *arg)
{
	struct counter_sink sink = {fn, arg};

	cpu_counters(e->cpu, fn, arg);
	mmu_counters(mmu_stats(e->cpu->mmu), fn, arg);
	walk_counters(mmu_stats(e->cpu->mmu), fn, arg);
	cpu_for_each_unimplemented(e->cpu, count_unimplemented, &sink);
}

const struct engine_ops engine_soft = {
	.name = "soft",
	.max_cpus = 1,
	.new = soft_new,
	.free = soft_free,
	.boot = soft_boot,
	.run = soft_run,
	.can_interrupt = soft_can_interrupt,
	.interrupt = soft_interrupt,
	.want_interrupt = soft_want_interrupt,
	.retired = soft_retired,
	.rip = soft_rip,
	.page_root = soft_page_root,
	.failure = soft_failure,
	.bad_fetch = soft_bad_fetch,
	.audit = soft_audit,
	.counters = soft_counters,
};
