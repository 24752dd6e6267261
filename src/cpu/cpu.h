/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software x86-64 processor: state and control of one virtual processor.
 *
 * It touches the guest only through struct cpu_ops, struct mmu and struct guestmem, so the
 * same objects link into a VM, the unit tests and the fuzzers.
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H
#include <arch/x86.h>
#include <base/error.h>
#include <base/types.h>
#include <cpu/feature_set.h>
#include <mem/guestmem.h>
#include <mmu/mmu.h>
#include <mmu/tlb.h>

/* Indices into cpu.gpr. The first 16 are the architecture's numbers. */
enum cpu_reg {
	REG_RAX,
	REG_RCX,
	REG_RDX,
	REG_RBX,
	REG_RSP,
	REG_RBP,
	REG_RSI,
	REG_RDI,
	REG_R8,
	REG_R9,
	REG_R10,
	REG_R11,
	REG_R12,
	REG_R13,
	REG_R14,
	REG_R15,
	/* Not architectural registers, but found by the same index in effective addresses: */
	REG_RIP, /* linear-less RIP of the first instruction of the running block */
	REG_ZERO, /* always 0 */
	REG_SEG,  /* REG_SEG + enum cpu_seg: base of that segment */
	REG_COUNT = REG_SEG + 6,
};

enum cpu_seg {
	SEG_ES,
	SEG_CS,
	SEG_SS,
	SEG_DS,
	SEG_FS,
	SEG_GS,
	SEG_COUNT,
};

/* Attribute bits of a segment as in the second word of its descriptor, bits 8 to 23. */
#define SEG_TYPE      0x000fU
#define SEG_S         0x0010U
#define SEG_DPL       0x0060U
#define SEG_DPL_SHIFT 5
#define SEG_P         0x0080U
#define SEG_AVL       0x1000U
#define SEG_L         0x2000U
#define SEG_DB        0x4000U
#define SEG_G         0x8000U

/**
 * struct cpu_segment - the hidden part of a segment register.
 * @sel: visible selector
 * @attr: SEG_* bits
 * @limit: in bytes, inclusive, already scaled
 *
 * The base is cpu.gpr[REG_SEG + n], where effective addresses need it; for LDTR and TR it is @base.
 */
struct cpu_segment {
	uint16_t sel;
	uint16_t attr;
	uint32_t limit;
	uint64_t base;
};

/**
 * struct cpu_table - GDTR or IDTR.
 * @base: linear address
 * @limit: in bytes, inclusive
 */
struct cpu_table {
	uint64_t base;
	uint16_t limit;
};

/* What a block was decoded for; part of the key of a block. */
enum cpu_code_mode {
	CODE_64 = 0,
	CODE_32 = 1,
	CODE_16 = 2,
	CODE_BITS = 3,
	CODE_STACK32 = 1 << 2, /* SS.D: stack pointer is ESP (outside 64-bit mode) */
	CODE_COMPAT = 1 << 3, /* EFER.LMA set: 32- or 16-bit code under long mode */
	CODE_SEGMENTED = 1 << 4, /* some segment is not flat: check limits */
	CODE_SINGLE = 1 << 5, /* one instruction per block: trap flag, shadow, debug */
	CODE_FP_TRAP = 1 << 6, /* floating point must look at CR0 and CR4 first: fp.h */
	CODE_FP_UNMASKED = 1
			   << 7, /* MXCSR unmasks an exception: SSE arithmetic is watched */
};

/** struct cpu_exception - one that the handler of an instruction has raised. */
struct cpu_exception {
	bool pending;
	uint8_t vector;
	bool has_code; /* @code goes on the stack */
	uint32_t code;
	uint64_t cr2; /* VEC_PF */
	uint64_t dr6; /* VEC_DB: bits to set */
};

/** union cpu_xmm - an XMM register, by what its lanes hold; lane 0 is the lowest. */
union cpu_xmm {
	uint8_t u8[16];
	uint16_t u16[8];
	uint32_t u32[4];
	uint64_t u64[2];
	int8_t i8[16];
	int16_t i16[8];
	int32_t i32[4];
	int64_t i64[2];
	float f32[4];
	double f64[2];
} __attribute__((aligned(16)));

/**
 * struct cpu_x87 - x87 and MMX state in the layout of the FXSAVE image's first 160 bytes.
 */
struct cpu_x87 {
	uint16_t fcw;
	uint16_t fsw;
	uint8_t ftw; /* abridged */
	uint8_t reserved;
	uint16_t fop;
	uint64_t fip;
	uint64_t fdp;
	uint32_t mxcsr;
	uint32_t mxcsr_mask;
	uint8_t st[8][16]; /* ST(0) first, 10 bytes used */
} __attribute__((aligned(16)));

/* Where the x87 registers are. */
enum fp_where {
	FP_MEM, /* in cpu.x87 */
	FP_LIVE, /* in the host's x87; cpu.x87 has only fcw and the pointers right */
	FP_MMX, /* in cpu.x87, with top of stack 0 and all tags valid, as MMX wants it */
};

/**
 * struct cpu_fp - how the floating-point state is held while cpu_run() runs.
 * @where: enum fp_where; always FP_MEM outside cpu_run() (fp.h)
 * @unmasked: the control word unmasks an exception: look after each x87 instruction
 * @xmm, @gpr, @af: destinations before an SSE instruction that may fault (CODE_FP_UNMASKED)
 */
struct cpu_fp {
	uint8_t where;
	bool unmasked;
	uint16_t af;
	uint64_t gpr;
	union cpu_xmm xmm; /* or an MMX register */
};

/**
 * struct cpu_piece - the part of a slow access that lies in one page.
 * @host: where its bytes are, or NULL for a device
 * @gpa: guest physical address
 * @ppn: page of RAM, if not a device
 * @size: bytes
 */
struct cpu_piece {
	uint8_t *host;
	gpa_t gpa;
	ppn_t ppn;
	uint32_t size;
};

struct cpu;

/**
 * struct cpu_ops - what the processor needs from the machine around it.
 *
 * All are called on the processor's thread. @ctx is cpu.ctx.
 * @pio_read, @pio_write: @size is 1, 2 or 4 bytes
 * @mmio_read, @mmio_write: @size is 1 to 8 bytes at a device address
 * @tsc: time-stamp counter
 * @msr_read, @msr_write: MSRs that the processor does not have itself (APIC, TSC deadline,
 *	paravirtual clock, …); false means #GP
 * @cr8_read, @cr8_write: task priority (bits 3:0)
 */
struct cpu_ops {
	uint32_t (*pio_read)(void *ctx, uint16_t port, unsigned int size);
	void (*pio_write)(void *ctx, uint16_t port, unsigned int size,
			  uint32_t value);
	uint64_t (*mmio_read)(void *ctx, gpa_t addr, unsigned int size);
	void (*mmio_write)(void *ctx, gpa_t addr, unsigned int size,
			   uint64_t value);
	uint64_t (*tsc)(void *ctx);
	bool (*msr_read)(void *ctx, uint32_t msr, uint64_t *ret_value);
	bool (*msr_write)(void *ctx, uint32_t msr, uint64_t value);
	uint64_t (*cr8_read)(void *ctx);
	void (*cr8_write)(void *ctx, uint64_t value);
};

/* Why cpu_run() returned. */
enum cpu_exit {
	CPU_EXIT_SLICE, /* its instructions are used up, or the machine wants attention */
	CPU_EXIT_HLT,      /* halted: wait for an interrupt */
	CPU_EXIT_SHUTDOWN, /* triple fault */
	CPU_EXIT_STOPPED,  /* memory could not be provided, see guestmem */
	CPU_EXIT_BAD_FETCH, /* the guest jumped to cpu.bad_fetch, where there is no memory */
};

/** struct cpu_stats - counters of a processor since its start. */
struct cpu_stats {
	uint64_t blocks_decoded;
	uint64_t blocks_dropped; /* because the guest wrote over their code */
	uint64_t code_flushes;   /* whole block cache thrown away */
	uint64_t insns_decoded;
	uint64_t slow_loads;     /* that did not hit the TLB at once */
	uint64_t slow_stores;    /* the same */
	uint64_t code_stores;    /* stores into pages that hold decoded code */
	uint64_t fragments;      /* pieces of code translated */
	uint64_t jump_misses;    /* jumps that the jump cache did not know */
	uint64_t exceptions[32]; /* delivered, by vector */
	uint64_t interrupts;     /* hardware interrupts delivered */
	uint64_t page_faults;    /* delivered to the guest */
	uint64_t mmio;           /* accesses of devices in memory */
	uint64_t pio;            /* and by I/O ports */
	uint64_t syscalls;       /* by SYSCALL and SYSENTER */
	uint64_t mode_changes; /* of bits of CR0 and CR4 that concern translation */
};

struct block;
struct op;
struct block_cache;
struct cpu_decoder;
struct translator;

/**
 * struct cpu - one virtual processor. Used by its thread only.
 */
struct cpu {
	uint64_t gpr[REG_COUNT];
	struct tlb tlb;
	int64_t left; /* instructions left in this slice; < 0 is never stored */
	uint64_t accesses; /* memory operands of the blocks entered */
	uint16_t af; /* arithmetic flags, form of LAHF and SETO: flags.h */
	uint32_t code_mode; /* enum cpu_code_mode bits */

	uint64_t scratch[8]
		__attribute__((aligned(16))); /* slow-path data: access.h */
	uint64_t sys_flags; /* RFLAGS without the arithmetic ones */
	union cpu_xmm xmm[16];
	struct cpu_x87 x87;
	struct cpu_fp fp;

	uint8_t cpl;
	bool halted;
	bool shadow; /* interrupts are inhibited for one instruction (STI, MOV SS) */
	bool shadow_ss; /* so are debug exceptions: it was a load of SS */
	bool tf_after; /* whether to trap is up to TF as it is after the instruction */
	bool intr_wanted; /* leave at once when interrupts become possible */
	bool stopped;     /* guest memory refused: CPU_EXIT_STOPPED */
	bool shutdown;
	bool attention;    /* cpu_end_slice() was called */
	bool fetch_failed; /* CPU_EXIT_BAD_FETCH */
	bool debug_data;   /* DR7 watches data: every access is slow */
	uint8_t debug_hits; /* DR6.B3-B0 of data breakpoints hit by this instruction */
	bool nmi_blocked;
	struct cpu_exception exc;

	struct cpu_segment seg[SEG_COUNT];
	struct cpu_segment ldtr;
	struct cpu_segment tr;
	struct cpu_table gdtr;
	struct cpu_table idtr;
	uint64_t cr0, cr2, cr3, cr4, efer;
	uint32_t pkru;
	uint64_t dr[8];
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_aux, tsc_offset, misc_enable, mtrr_def_type;

	uint64_t random; /* state of RDRAND in repeatable runs */
	uint64_t granted; /* instructions granted so far; retired = granted - left */
	struct mmu *mmu;
	struct guestmem *mem;
	const struct cpu_ops *ops;
	void *ctx;
	struct cpu_features features;
	struct block_cache *blocks;
	struct cpu_decoder *decoder;
	struct translator *translator; /* NULL: switched off */
	struct cpu_piece rmw[2]; /* of the slow read-modify-write in progress: access.c */
	uint32_t n_rmw;
	gpa_t bad_fetch; /* CPU_EXIT_BAD_FETCH */
	struct cpu_stats stats;
};

/**
 * cpu_new() - a processor in the state after reset, paging off.
 * @mem: guest memory
 * @ops: the machine around it
 * @ctx: for @ops
 * @mmu: MMU switches
 * @features: what CPUID shows
 * @ret_cpu: set on success; ended with cpu_free()
 * @err: message on failure
 *
 * Return: 0 or -errno.
 */
int cpu_new(struct guestmem *mem, const struct cpu_ops *ops, void *ctx,
	    const struct mmu_options *mmu, const struct cpu_features *features,
	    struct cpu **ret_cpu, struct err *err)
	__attribute__((warn_unused_result));

/** cpu_free() - end it; NULL is fine. Return: NULL. */
struct cpu *cpu_free(struct cpu *c);

/**
 * cpu_run() - execute up to @n_insns instructions.
 *
 * Returns earlier when the guest halts, and after anything that may have changed what
 * devices or interrupts want (port and device access, CR8, interrupts enabled).
 */
enum cpu_exit cpu_run(struct cpu *c, uint32_t n_insns);

/** cpu_can_interrupt() - may an external interrupt be taken before the next instruction? */
bool cpu_can_interrupt(const struct cpu *c);

/**
 * cpu_interrupt() - deliver an external interrupt; requires cpu_can_interrupt().
 * Wakes from HLT.
 */
void cpu_interrupt(struct cpu *c, uint8_t vector);

/** cpu_retired() - instructions executed so far. */
uint64_t cpu_retired(const struct cpu *c);

/** cpu_rip() - address of the next instruction; valid outside cpu_run(). */
uint64_t cpu_rip(const struct cpu *c);

/** cpu_rflags() - the whole RFLAGS register. */
uint64_t cpu_rflags(const struct cpu *c);

/** cpu_set_rflags() - set RFLAGS without checks, and what follows from it. */
void cpu_set_rflags(struct cpu *c, uint64_t value);

/**
 * cpu_state_changed() - after segments, control registers or RFLAGS were set from outside:
 * recompute what is derived (code mode, CPL-dependent TLB array, MMU registers).
 */
void cpu_state_changed(struct cpu *c);

/**
 * cpu_unmap() - drop every cached translation of a page of RAM; safe point
 * (guestmem_ops.unmap).
 */
void cpu_unmap(struct cpu *c, ppn_t page);

/** cpu_written() - a device stored into flagged guest memory (guestmem_ops.written). */
void cpu_written(struct cpu *c, gpa_t addr, uint64_t len);

/**
 * cpu_for_each_unimplemented() - names and counts of instructions that raised #UD because the
 * processor lacks them.
 */
void cpu_for_each_unimplemented(const struct cpu *c,
				void (*fn)(void *arg, const char *name,
					   uint64_t count),
				void *arg);

#endif
