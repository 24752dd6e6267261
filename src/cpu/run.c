/* SPDX-License-Identifier: Apache-2.0 */
/* The run loop of the processor, and what belongs to its whole life. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <base/verify.h>
#include <cpu/block.h>
#include <cpu/cpu.h>
#include <cpu/flags.h>
#include <cpu/fp.h>
#include <cpu/op.h>
#include <cpu/sys.h>
#include <cpu/translate.h>

/* Translated code goes from handler to handler, which a dispatch loop does not expect. */
#ifdef CPU_DISPATCH_LOOP
#define TRANSLATE false
#else
#define TRANSLATE true
#endif

#define BLOCK_POOL_BYTES (14UL << 20)

int cpu_new(struct guestmem *mem, const struct cpu_ops *ops, void *ctx,
	    const struct mmu_options *mmu, const struct cpu_features *features,
	    struct cpu **ret_cpu, struct err *err)
{
	struct cpu *c = aligned_alloc(64, (sizeof(*c) + 63) & ~63UL);
	int r;

	if (!c)
		return err_set(err, -ENOMEM, "no memory for a processor");
	memset(c, 0, sizeof(*c));
	c->mem = mem;
	c->ops = ops;
	c->ctx = ctx;
	c->features = *features;
	r = tlb_init(&c->tlb, guestmem_ram_bytes(mem) / PAGE_SIZE);
	if (!r)
		r = block_cache_new(c, BLOCK_POOL_BYTES);
	if (!r)
		r = decoder_new(c);
	if (r) {
		cpu_free(c);
		return err_set(err, r, "no memory for a processor");
	}
	if (TRANSLATE && !features->no_translate)
		r = translator_new(&c->translator);
	if (r) {
		cpu_free(c);
		return err_set(err, r, "no memory for translated code");
	}
	r = mmu_new(mem, &c->tlb, mmu, &c->mmu, err);
	if (r) {
		cpu_free(c);
		return r;
	}
	cpu_reset(c);
	*ret_cpu = c;
	return 0;
}

struct cpu *cpu_free(struct cpu *c)
{
	if (!c)
		return NULL;
	mmu_free(c->mmu);
	decoder_free(c);
	block_cache_free(c);
	translator_free(c->translator);
	tlb_release(&c->tlb);
	free(c);
	return NULL;
}

uint64_t cpu_retired(const struct cpu *c)
{
	return c->granted - (uint64_t)c->left;
}

uint64_t cpu_rip(const struct cpu *c)
{
	return c->gpr[REG_RIP];
}

uint64_t cpu_rflags(const struct cpu *c)
{
	return c->sys_flags | RFLAGS_ONE | af_to_rflags(c->af);
}

void cpu_raise(struct cpu *c, enum x86_vector vector)
{
	c->exc = (struct cpu_exception){
		.pending = true,
		.vector = (uint8_t)vector,
	};
}

void cpu_raise_code(struct cpu *c, enum x86_vector vector, uint32_t code)
{
	c->exc = (struct cpu_exception){
		.pending = true,
		.vector = (uint8_t)vector,
		.has_code = true,
		.code = code,
	};
}

bool cpu_can_interrupt(const struct cpu *c)
{
	return (c->sys_flags & RFLAGS_IF) && !c->shadow && !c->exc.pending;
}

void cpu_unmap(struct cpu *c, ppn_t page)
{
	mmu_unmap(c->mmu, page);
}

void cpu_written(struct cpu *c, gpa_t addr, uint64_t len)
{
	while (len) {
		const uint64_t room = PAGE_SIZE - (addr.v & ~PAGE_MASK);
		const uint64_t n = len < room ? len : room;
		ppn_t page;

		if (guestmem_ppn(c->mem, addr, &page))
			cpu_written_flagged(c, page, addr, n);
		addr = gpa_add(addr, n);
		len -= n;
	}
}

/* The block at RIP by the jump cache, as a branch inside blocks would find it. */
static const struct op *enter(struct cpu *c, const struct op *op)
{
	(void)op; /* a handler's signature, for the tail call */
	JUMP(c->gpr[REG_RIP]);
}

static void dispatch(struct cpu *c)
{
	const struct op *op = enter(c, NULL);

	while (op)
		op = op->fn(c, op);
}

/*
 * One instruction, for the trap flag, an interrupt shadow and breakpoints.
 * [SDM3 17.3.1.4 "Single-Step Exception Condition"]
 */
static void run_single(struct cpu *c)
{
	const int64_t rest = c->left;
	const uint64_t granted = c->granted;
	const bool trap = c->sys_flags & RFLAGS_TF;
	const bool after_ss = c->shadow_ss;
	const uint64_t resume = c->sys_flags & RFLAGS_RF;
	const uint64_t rip = c->gpr[REG_RIP];

	if (!after_ss && cpu_breakpoint_hit(c))
		return;
	/* Before, not after: what IRET loads into RF is for the next instruction. */
	c->sys_flags &= ~RFLAGS_RF;
	c->code_mode |= CODE_SINGLE;
	c->left = 1;
	c->shadow = c->shadow_ss = false;
	if (!after_ss)
		c->debug_hits = 0; /* else what the load of SS met is due now */
	c->attention = c->tf_after = false;
	dispatch(c);

	const bool complete = !c->exc.pending && !c->stopped && !c->fetch_failed;
	const int64_t used = c->left > 1 ? 0 : 1 - c->left;

	c->granted = granted;
	c->left = rest - used;
	if (c->attention)
		cpu_end_slice(c);
	cpu_update_mode(c);
	/* Not done, or a repetition of a string instruction of which more follow. */
	if (c->gpr[REG_RIP] == rip)
		c->sys_flags |= resume;
	if (complete && !c->shadow_ss)
		cpu_single_step_trap(c, trap && (!c->tf_after ||
						 (c->sys_flags & RFLAGS_TF)));
}

enum cpu_exit cpu_run(struct cpu *c, uint32_t n_insns)
{
	VERIFY(n_insns >= BLOCK_MAX_INSNS);
	c->granted += n_insns - (uint64_t)c->left;
	c->left = n_insns;
	fp_enter(c);
	for (;;) {
		if (c->exc.pending) {
			cpu_deliver_exception(c);
			c->left--; /* a guest that only faults must not keep us here */
		}
		if (c->shutdown || c->stopped || c->fetch_failed || c->halted)
			break;
		if (c->left < BLOCK_MAX_INSNS) {
			block_sample(c);
			break;
		}
		if (c->intr_wanted && cpu_can_interrupt(c))
			break;
		if (unlikely(c->shadow || (c->code_mode & CODE_SINGLE)))
			run_single(c);
		else
			dispatch(c);
	}
	fp_leave(c);
	if (c->shutdown)
		return CPU_EXIT_SHUTDOWN;
	if (c->stopped)
		return CPU_EXIT_STOPPED;
	if (c->fetch_failed)
		return CPU_EXIT_BAD_FETCH;
	return c->halted ? CPU_EXIT_HLT : CPU_EXIT_SLICE;
}
