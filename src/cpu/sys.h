/* SPDX-License-Identifier: Apache-2.0 */
/* The system side of the processor: modes, segments, exceptions; used inside src/cpu. */
#ifndef CPU_SYS_H
#define CPU_SYS_H
#include <cpu/cpu.h>

/**
 * cpu_reset() - state after reset, except that nothing real-mode is modelled: RIP 0,
 * CPL 0, paging off.
 */
void cpu_reset(struct cpu *c);

/**
 * cpu_update_mode() - recompute code_mode and the TLB array from CS, SS, CPL,
 * control registers, DR7 and flags.
 */
void cpu_update_mode(struct cpu *c);

/**
 * cpu_update_mmu() - tell the MMU the control registers after one of CR0, CR4, EFER
 * or PKRU changed.
 */
void cpu_update_mmu(struct cpu *c);

/** cpu_set_cpl() - change the privilege level and what follows from it. */
void cpu_set_cpl(struct cpu *c, unsigned int cpl);

/**
 * cpu_deliver_exception() - deliver cpu.exc through the IDT; may end in a double
 * fault or shutdown.
 */
void cpu_deliver_exception(struct cpu *c);

/** cpu_breakpoint_hit() - instruction breakpoint at RIP? Then #DB is pending. */
bool cpu_breakpoint_hit(struct cpu *c);

/**
 * cpu_single_step_trap() - after an instruction: raise #DB for the trap flag or data
 * breakpoints.
 */
void cpu_single_step_trap(struct cpu *c, bool trap);

/* How an event enters the IDT. */
enum event_kind {
	EVENT_FAULT,    /* exception of an instruction */
	EVENT_SOFTWARE, /* INT n, INT3, INTO: gate DPL is checked */
	EVENT_ICEBP,    /* INT1: like a fault for checks, not software */
	EVENT_HARDWARE, /* external interrupt */
};

/** cpu_event() - go through one IDT gate. Return: false if another exception is pending. */
bool cpu_event(struct cpu *c, uint8_t vector, enum event_kind kind,
	       bool has_code, uint32_t code, uint64_t return_rip);

/**
 * cpu_load_descriptor() - read a descriptor of the GDT or LDT.
 * @c: processor
 * @sel: selector, not null
 * @fault: vector to raise with the selector as code if it is beyond the table
 * @ret_raw: the 8 bytes
 * Return: false with an exception pending.
 */
bool cpu_load_descriptor(struct cpu *c, uint16_t sel, enum x86_vector fault,
			 uint64_t *ret_raw);

/** descriptor_unpack() - hidden part from raw descriptor bytes. */
void descriptor_unpack(uint16_t sel, uint64_t raw, struct cpu_segment *ret);

/** cpu_set_segment() - load a segment register's hidden part (no checks); base from @s. */
void cpu_set_segment(struct cpu *c, unsigned int n, const struct cpu_segment *s);

/**
 * cpu_load_segment() - MOV, POP, LDS… to DS, ES, FS, GS or SS, with all checks.
 * Return: false if faulted.
 */
bool cpu_load_segment(struct cpu *c, unsigned int n, uint16_t sel);

/**
 * cpu_check_code_return() - may CS be loaded with @sel for @cpl? Reads the descriptor.
 * False: exception pending.
 */
bool cpu_check_code_return(struct cpu *c, uint16_t sel, struct cpu_segment *ret);

/** cpu_set_accessed() - set the accessed bit in memory if it is clear. */
bool cpu_set_accessed(struct cpu *c, uint16_t sel, uint64_t raw);

/**
 * cpu_null_outer_segments() - after a return to an outer level: drop data segments
 * that it may not have.
 */
void cpu_null_outer_segments(struct cpu *c);

/** cpu_rdmsr(), cpu_wrmsr() - false means #GP (pending). */
bool cpu_rdmsr(struct cpu *c, uint32_t msr, uint64_t *ret_value);
bool cpu_wrmsr(struct cpu *c, uint32_t msr, uint64_t value);

/** cpu_cpuid() - the four registers of a leaf. */
void cpu_cpuid(const struct cpu *c, uint32_t leaf, uint32_t subleaf,
	       uint32_t ret_regs[4]);

static inline bool cpu_is_long(const struct cpu *c)
{
	return c->efer & EFER_LMA;
}

static inline bool cpu_is_64(const struct cpu *c)
{
	return (c->code_mode & CODE_BITS) == CODE_64;
}

static inline bool cpu_canonical(uint64_t addr)
{
	return (uint64_t)((int64_t)(addr << 16) >> 16) == addr;
}

#endif
