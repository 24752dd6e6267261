/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System instructions: what cannot be compared with the real processor from a user program is
 * compared with what the manuals say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <cpu/feature_set.h>

#include "cpu_harness.h"

/* Pages of the kernel and of a user program. */
#define KERNEL_CODE  UINT64_C(0x400000) /* two pages */
#define KERNEL_DATA  UINT64_C(0x410000)
#define KERNEL_STACK UINT64_C(0x420000)
#define USER_CODE    UINT64_C(0x500000) /* two pages */
#define USER_DATA    UINT64_C(0x510000)
#define USER_STACK   UINT64_C(0x520000)
#define STACK_TOP    0x800

/* Offsets in the system area of the harness. */
#define GDT HARNESS_SYSTEM
#define TSS (HARNESS_SYSTEM + 0x200)
#define IDT (HARNESS_SYSTEM + 0x1000)

/* Code of @name; it ends by HLT in the kernel and by INT3 in a program. */
#define SNIPPET(name, bits, text)                                          \
	__asm__(".pushsection .rodata\n.code" #bits "\n" #name ": " text   \
		"\n" #name "_end: .code64\n.popsection");                  \
	extern const uint8_t name[] __attribute__((visibility("hidden"))); \
	extern const uint8_t name##_end[] __attribute__((visibility("hidden")))

#define KERNEL(h, name) run_at(h, KERNEL_CODE, 64, 0, name, name##_end)
#define USER(h, name)   run_at(h, USER_CODE, 64, 3, name, name##_end)
#define USER32(h, name) run_at(h, USER_CODE, 32, 3, name, name##_end)

static struct cpu_harness *start(const struct cpu_features *features)
{
	struct cpu_harness *h = cpu_harness_new(features, NULL);

	cpu_harness_map(h, KERNEL_CODE, 2, PTE_P | PTE_W);
	cpu_harness_map(h, KERNEL_DATA, 1, PTE_P | PTE_W);
	cpu_harness_map(h, KERNEL_STACK, 1, PTE_P | PTE_W);
	cpu_harness_map(h, USER_CODE, 2, PTE_P | PTE_W | PTE_U);
	cpu_harness_map(h, USER_DATA, 1, PTE_P | PTE_W | PTE_U);
	cpu_harness_map(h, USER_STACK, 1, PTE_P | PTE_W | PTE_U);
	return h;
}

static int setup(void **state)
{
	*state = start(NULL);
	return 0;
}

static int setup_features(void **state)
{
	static const struct cpu_features all = {
		.pcid = true,
		.fsgsbase = true,
		.pku = true,
		.umip = true,
		.n_cpus = 1,
		.tsc_khz = 1000000,
	};

	*state = start(&all);
	return 0;
}

static int teardown(void **state)
{
	cpu_harness_free(*state);
	return 0;
}

/* RSI is at data of the same privilege; flags are clear but for IF if the test has not set them. */
static struct harness_end run_at(struct cpu_harness *h, uint64_t at,
				 unsigned int bits, unsigned int cpl,
				 const uint8_t *code, const uint8_t *end)
{
	struct cpu *c = h->cpu;

	cpu_harness_write(h, at, code, (size_t)(end - code));
	cpu_harness_set_mode(h, bits, cpl);
	c->gpr[REG_RSP] = (cpl ? USER_STACK : KERNEL_STACK) + STACK_TOP;
	c->gpr[REG_RSI] = cpl ? USER_DATA : KERNEL_DATA;
	return cpu_harness_run(h, at, 1000);
}

static void put_kernel(struct cpu_harness *h, const uint8_t *code,
		       const uint8_t *end)
{
	cpu_harness_write(h, KERNEL_CODE, code, (size_t)(end - code));
}

static uint64_t data64(struct cpu_harness *h, uint64_t addr)
{
	uint64_t v;

	cpu_harness_read(h, addr, &v, sizeof(v));
	return v;
}

static void put64(struct cpu_harness *h, uint64_t addr, uint64_t v)
{
	cpu_harness_write(h, addr, &v, sizeof(v));
}

static void expect(struct harness_end e, unsigned int vector, uint32_t code)
{
	assert_int_equal(e.outcome, HARNESS_EXCEPTION);
	assert_int_equal(e.vector, vector);
	assert_int_equal(e.code, code);
}

static void expect_halt(struct harness_end e)
{
	if (e.outcome == HARNESS_EXCEPTION)
		print_message("exception %u code %x at %lx\n", e.vector, e.code,
			      e.rip);
	assert_int_equal(e.outcome, HARNESS_HALTED);
}

SNIPPET(hlt, 64, "hlt");
SNIPPET(int3, 64, "int3");
SNIPPET(syscall, 64, "syscall; int3");
SNIPPET(sysretq, 64, "sysretq");
SNIPPET(sysretl, 64, "sysretl");
SNIPPET(sysenter, 64, "sysenter; int3");
SNIPPET(sysexit, 64, "sysexit");

static void set_syscall(struct cpu_harness *h)
{
	struct cpu *c = h->cpu;

	c->star = (uint64_t)0x20 << 48 | (uint64_t)HARNESS_CODE64 << 32;
	c->lstar = KERNEL_CODE;
	c->sfmask = RFLAGS_IF | RFLAGS_DF | RFLAGS_TF;
}

/* [APM3 "SYSCALL", "SYSRET"] */
static void test_syscall(void **state)
{
	struct cpu_harness *h = *state;
	struct cpu *c = h->cpu;

	set_syscall(h);
	put_kernel(h, hlt, hlt_end);
	cpu_set_rflags(c, RFLAGS_IF | RFLAGS_DF | RFLAGS_CF);
	struct harness_end e = USER(h, syscall);

	expect_halt(e);
	assert_int_equal(e.rip, KERNEL_CODE + 1);
	assert_int_equal(c->gpr[REG_RCX], USER_CODE + 2);
	assert_int_equal(c->gpr[REG_R11],
			 RFLAGS_IF | RFLAGS_DF | RFLAGS_CF | RFLAGS_ONE);
	assert_int_equal(e.rflags, RFLAGS_CF | RFLAGS_ONE);
	assert_int_equal(e.cs, HARNESS_CODE64);
	assert_int_equal(c->seg[SEG_SS].sel, HARNESS_CODE64 + 8);
	assert_int_equal(c->cpl, 0);

	put_kernel(h, sysretq, sysretq_end);
	e = USER(h, syscall);
	expect(e, VEC_BP, 0);
	assert_int_equal(e.rip, USER_CODE + 3);
	assert_int_equal(e.cs, HARNESS_USER_CODE64);
	assert_int_equal(e.rflags & ~RFLAGS_RF, RFLAGS_CF | RFLAGS_ONE);

	put_kernel(h, sysretl, sysretl_end);
	e = USER(h, syscall);
	expect(e, VEC_BP, 0);
	assert_int_equal(e.cs, 0x23);

	expect(USER(h, sysretq), VEC_GP, 0);
	c->efer &= ~EFER_SCE;
	cpu_harness_write(h, USER_CODE, syscall, 3);
	c->cpl = 3;
	cpu_state_changed(c);
	expect(cpu_harness_run(h, USER_CODE, 100), VEC_UD, 0);
}

/* A debugger steps over a system call: it sees the instruction behind it and not the kernel. */
static void test_syscall_step(void **state)
{
	struct cpu_harness *h = *state;

	set_syscall(h);
	put_kernel(h, sysretq, sysretq_end);
	cpu_set_rflags(h->cpu, RFLAGS_IF | RFLAGS_TF);
	const struct harness_end e = USER(h, syscall);

	expect(e, VEC_DB, 0);
	assert_int_equal(e.rip, USER_CODE + 2);
	assert_int_equal(e.cs, HARNESS_USER_CODE64);
	assert_true(h->cpu->dr[6] & BIT64(14));
}

/* Its identity is AMD's, whose processors know SYSENTER outside long mode only. */
static void test_sysenter(void **state)
{
	struct cpu_harness *h = *state;

	h->cpu->sysenter_cs = HARNESS_CODE32;
	h->cpu->sysenter_eip = KERNEL_CODE;
	expect(USER(h, sysenter), VEC_UD, 0);
	expect(KERNEL(h, sysexit), VEC_UD, 0);
	expect(USER32(h, sysenter), VEC_UD, 0);
}

SNIPPET(int_30, 64, "int $0x30; int3");
SNIPPET(int1, 64, ".byte 0xf1; int3");
SNIPPET(popf_int3, 64, "pushq $0x302; popfq; int3");
SNIPPET(popf_nop, 64, "pushq $0x302; popfq; nop; int3");

static void test_interrupts(void **state)
{
	struct cpu_harness *h = *state;
	struct harness_end e = USER(h, int_30);

	expect(e, 0x30, 0);
	assert_int_equal(e.rip, USER_CODE + 2);
	assert_int_equal(e.cs, HARNESS_USER_CODE64);
	assert_int_equal(e.rsp, USER_STACK + STACK_TOP);

	/* A gate of the kernel's: not for programs, whatever the hardware may do with it. */
	put64(h, IDT + 0x30 * 16,
	      data64(h, IDT + 0x30 * 16) & ~(UINT64_C(0x60) << 40));
	put64(h, IDT + 1 * 16,
	      data64(h, IDT + 1 * 16) & ~(UINT64_C(0x60) << 40));
	expect(USER(h, int_30), VEC_GP, 0x30 * 8 + 2);
	expect(USER(h, int1), VEC_DB, 0);
	expect(KERNEL(h, int_30), 0x30, 0);

	/* Beyond the table. */
	h->cpu->idtr.limit = 0x30 * 16 - 1;
	expect(KERNEL(h, int_30), VEC_GP, 0x30 * 8 + 2);
}

/* TF counts from the second instruction on, and not for what INT runs. */
static void test_trap_flag(void **state)
{
	struct cpu_harness *h = *state;
	struct harness_end e = USER(h, popf_int3);

	expect(e, VEC_BP, 0);
	assert_int_equal(e.rip, USER_CODE + 7);
	e = USER(h, popf_nop);
	expect(e, VEC_DB, 0);
	assert_int_equal(e.rip, USER_CODE + 7);
	assert_true(e.rflags & RFLAGS_TF);
}

SNIPPET(iretq, 64,
	"pushq $0x2b; pushq $0x520700; pushq $0x202; pushq $0x33;"
	"pushq $0x500000; iretq");
SNIPPET(iretd, 64,
	"subq $20, %rsp; movl $0x500000, (%rsp); movl $0x3b, 4(%rsp);"
	"movl $0x203, 8(%rsp); movl $0x520700, 12(%rsp);"
	"movl $0x2b, 16(%rsp); iretl");
SNIPPET(iret_null, 64,
	"pushq $0x2b; pushq $0; pushq $0x202; pushq $0; pushq $0; iretq");
SNIPPET(iret_nt, 64, "pushq $0x4002; popfq; iretq");

static void test_iret(void **state)
{
	struct cpu_harness *h = *state;

	cpu_harness_write(h, USER_CODE, int3, 1);
	struct harness_end e = KERNEL(h, iretq);

	expect(e, VEC_BP, 0);
	assert_int_equal(e.rip, USER_CODE + 1);
	assert_int_equal(e.cs, HARNESS_USER_CODE64);
	assert_int_equal(e.rsp, 0x520700);
	e = KERNEL(h, iretd);
	expect(e, VEC_BP, 0);
	assert_int_equal(e.cs, HARNESS_USER_CODE32);
	assert_true(e.rflags & RFLAGS_CF);
	expect(KERNEL(h, iret_null), VEC_GP, 0);
	/* docs/limits.md: no task switches. */
	expect(KERNEL(h, iret_nt), VEC_GP, 0);
}

SNIPPET(str, 64, "str %rax; sldt %rbx; hlt");
SNIPPET(ltr, 64, "mov $0x50, %eax; ltr %ax; hlt");
SNIPPET(lldt, 64, "xor %eax, %eax; lldt %ax; sldt %rbx; hlt");

static void test_task_register(void **state)
{
	struct cpu_harness *h = *state;
	struct cpu *c = h->cpu;

	expect_halt(KERNEL(h, str));
	assert_int_equal(c->gpr[REG_RAX], HARNESS_TSS);
	/* It is busy: LTR wants one that is not, and makes it busy. */
	expect(KERNEL(h, ltr), VEC_GP, HARNESS_TSS);
	put64(h, GDT + HARNESS_TSS,
	      data64(h, GDT + HARNESS_TSS) & ~(UINT64_C(2) << 40));
	expect_halt(KERNEL(h, ltr));
	assert_true(data64(h, GDT + HARNESS_TSS) & UINT64_C(2) << 40);
	assert_int_equal(c->tr.base, TSS);
	expect_halt(KERNEL(h, lldt));
	assert_int_equal(c->gpr[REG_RBX], 0);
	expect(USER(h, ltr), VEC_GP, 0);
	expect(USER(h, lldt), VEC_GP, 0);
}

SNIPPET(tables, 64,
	"sgdt (%rsi); sidt 16(%rsi); lgdt (%rsi); lidt 16(%rsi); hlt");
SNIPPET(sgdt, 64, "sgdt (%rsi); smsw %eax; int3");
SNIPPET(lgdt, 64, "lgdt (%rsi)");

static void test_tables(void **state)
{
	struct cpu_harness *h = *state;
	struct cpu *c = h->cpu;
	const struct cpu_table gdtr = c->gdtr, idtr = c->idtr;

	expect_halt(KERNEL(h, tables));
	assert_int_equal(data64(h, KERNEL_DATA) & 0xffff, gdtr.limit);
	assert_int_equal(data64(h, KERNEL_DATA + 2), gdtr.base);
	assert_int_equal(data64(h, KERNEL_DATA + 18), idtr.base);
	assert_int_equal(c->gdtr.base, gdtr.base);
	assert_int_equal(c->idtr.limit, idtr.limit);
	expect(USER(h, sgdt), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RAX], (uint32_t)c->cr0);
	expect(USER(h, lgdt), VEC_GP, 0);
}

SNIPPET(lmsw, 64, "mov $0x9, %eax; lmsw %ax; smsw %rbx; clts; smsw %rcx; hlt");
SNIPPET(lmsw_pe, 64, "xor %eax, %eax; lmsw %ax; smsw %rbx; hlt");
SNIPPET(cr0_pg, 64, "mov %cr0, %rax; btr $0, %rax; mov %rax, %cr0; hlt");
SNIPPET(cr0_nw, 64, "mov %cr0, %rax; bts $29, %rax; mov %rax, %cr0; hlt");
SNIPPET(cr4_bad, 64, "mov %cr4, %rax; bts $31, %rax; mov %rax, %cr4; hlt");
SNIPPET(cr4_pae, 64, "mov %cr4, %rax; btr $5, %rax; mov %rax, %cr4; hlt");
SNIPPET(cr3_bad, 64, "mov %cr3, %rax; bts $60, %rax; mov %rax, %cr3; hlt");
SNIPPET(cr_same, 64,
	"mov %cr0, %rax; mov %rax, %cr0; mov %cr3, %rax; mov %rax, %cr3;"
	"mov %cr4, %rax; mov %rax, %cr4; mov %cr2, %rbx; mov $5, %eax;"
	"mov %rax, %cr8; hlt");
SNIPPET(cr1, 64, ".byte 0x0f, 0x20, 0xc8; hlt");
SNIPPET(user_cr, 64, "mov %cr0, %rax");
SNIPPET(user_clts, 64, "clts");
SNIPPET(user_invlpg, 64, "invlpg (%rsi)");
SNIPPET(user_wbinvd, 64, "wbinvd");
SNIPPET(invd, 64, "wbinvd; invd; invlpg (%rsi); hlt");

static void test_control_registers(void **state)
{
	struct cpu_harness *h = *state;
	struct cpu *c = h->cpu;

	expect_halt(KERNEL(h, lmsw));
	assert_true(c->gpr[REG_RBX] & CR0_TS);
	assert_false(c->gpr[REG_RCX] & CR0_TS);
	expect_halt(KERNEL(h, lmsw_pe)); /* PE stays */
	assert_true(c->gpr[REG_RBX] & CR0_PE);
	expect(KERNEL(h, cr0_pg), VEC_GP, 0);
	expect(KERNEL(h, cr0_nw), VEC_GP, 0);
	expect(KERNEL(h, cr4_bad), VEC_GP, 0);
	expect(KERNEL(h, cr4_pae), VEC_GP, 0);
	expect(KERNEL(h, cr3_bad), VEC_GP, 0);
	expect(KERNEL(h, cr1), VEC_UD, 0);
	expect_halt(KERNEL(h, cr_same));
	expect_halt(KERNEL(h, invd));
	expect(USER(h, user_cr), VEC_GP, 0);
	expect(USER(h, user_clts), VEC_GP, 0);
	expect(USER(h, user_invlpg), VEC_GP, 0);
	expect(USER(h, user_wbinvd), VEC_GP, 0);
}

SNIPPET(dr_fetch, 64,
	"lea 1f(%rip), %rax; mov %rax, %dr0; mov $1, %eax; mov %rax, %dr7;"
	"nop; 1: nop; hlt");
SNIPPET(dr_write, 64,
	"mov %rsi, %dr1; mov $0xd00004, %eax; mov %rax, %dr7;"
	"mov 4(%rsi), %ecx; movb $1, 3(%rsi); nop; hlt");
SNIPPET(dr4, 64, "mov %dr4, %rax; hlt");
SNIPPET(dr_gd, 64, "mov $0x2400, %eax; mov %rax, %dr7; mov %dr0, %rax; hlt");
SNIPPET(dr6_bad, 64, "mov $-1, %rax; mov %rax, %dr6; hlt");

static void test_debug_registers(void **state)
{
	struct cpu_harness *h = *state;
	struct cpu *c = h->cpu;
	struct harness_end e = KERNEL(h, dr_fetch);

	expect(e, VEC_DB, 0);
	assert_int_equal(e.rip, KERNEL_CODE +
					(uint64_t)(dr_fetch_end - dr_fetch) -
					2); /* a fault: before it */
	assert_int_equal(c->dr[6] & 15, 1);
	c->dr[7] = 0x400;
	c->dr[6] = 0;
	e = KERNEL(h, dr_write); /* a trap: behind the store */
	expect(e, VEC_DB, 0);
	assert_int_equal(e.rip,
			 KERNEL_CODE + (uint64_t)(dr_write_end - dr_write) - 2);
	assert_int_equal(c->dr[6] & 15, 2);
	c->dr[7] = 0x400;
	expect_halt(KERNEL(h, dr4)); /* DR6 by its old name */
	c->cr4 |= CR4_DE;
	expect(KERNEL(h, dr4), VEC_UD, 0);
	e = KERNEL(h, dr_gd);
	expect(e, VEC_DB, 0);
	assert_true(c->dr[6] & BIT64(13));
	c->dr[7] = 0x400;
	expect(KERNEL(h, dr6_bad), VEC_GP, 0);
	expect(USER(h, dr4), VEC_GP, 0);
}

SNIPPET(msrs, 64,
	"mov $0xc0000100, %ecx; mov $0x12345678, %eax; mov $0x7ff0, %edx;"
	"wrmsr; rdmsr; shl $32, %rdx; or %rdx, %rax; mov %rax, %rbx;"
	"mov $0xc0000102, %ecx; mov $0x1000, %eax; xor %edx, %edx; wrmsr;"
	"swapgs; dec %ecx; rdmsr; hlt");
SNIPPET(msr_unknown, 64, "mov $0x12345, %ecx; rdmsr; hlt");
SNIPPET(msr_wide, 64,
	"mov $0xc0000082, %ecx; mov $0x8000, %edx; xor %eax, %eax; wrmsr; hlt");
SNIPPET(efer_lme, 64, "mov $0xc0000080, %ecx; rdmsr; btr $8, %eax; wrmsr; hlt");
SNIPPET(swapgs, 64, "swapgs");
SNIPPET(rdmsr, 64, "mov $0xc0000080, %ecx; rdmsr");

static void test_msrs(void **state)
{
	struct cpu_harness *h = *state;
	struct cpu *c = h->cpu;

	expect_halt(KERNEL(h, msrs));
	assert_int_equal(c->gpr[REG_RBX], UINT64_C(0x7ff012345678));
	assert_int_equal(c->gpr[REG_SEG + SEG_FS], UINT64_C(0x7ff012345678));
	assert_int_equal(c->gpr[REG_RAX], 0x1000);
	expect(KERNEL(h, msr_unknown), VEC_GP, 0);
	expect(KERNEL(h, msr_wide), VEC_GP, 0);
	expect(KERNEL(h, efer_lme), VEC_GP, 0);
	expect(USER(h, swapgs), VEC_GP, 0);
	expect(USER(h, rdmsr), VEC_GP, 0);
}

SNIPPET(lar, 64,
	"mov $0x33, %eax; lar %eax, %ebx; setz %cl; lsl %eax, %edx; int3");
SNIPPET(lar_kernel, 64,
	"mov $8, %eax; lar %eax, %ebx; setz %cl; lsl %eax, %edx; setz %dl; int3");
SNIPPET(verr, 64,
	"mov $0x33, %eax; verr %ax; setz %cl; verw %ax; setz %dl; int3");
SNIPPET(verw, 64,
	"mov $0x2b, %eax; verr %ax; setz %cl; verw %ax; setz %dl; int3");
SNIPPET(ver_null, 64,
	"xor %eax, %eax; verr %ax; setz %cl; verw %ax; setz %dl; int3");

static void test_selectors(void **state)
{
	struct cpu_harness *h = *state;
	struct cpu *c = h->cpu;

	expect(USER(h, lar), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RCX] & 0xff, 1);
	assert_int_equal(c->gpr[REG_RBX] & 0xff00, 0xfb00); /* code, DPL 3 */
	assert_int_equal(c->gpr[REG_RDX], UINT32_MAX);
	expect(USER(h, lar_kernel), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RCX] & 0xff, 0);
	assert_int_equal(c->gpr[REG_RDX] & 0xff, 0);
	expect(USER(h, verr), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RCX] & 0xff, 1);
	assert_int_equal(c->gpr[REG_RDX] & 0xff, 0); /* code cannot be written */
	expect(USER(h, verw), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RCX] & 0xff, 1);
	assert_int_equal(c->gpr[REG_RDX] & 0xff, 1);
	expect(USER(h, ver_null), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RCX] & 0xff, 0);
	assert_int_equal(c->gpr[REG_RDX] & 0xff, 0);
}

SNIPPET(load_null, 64,
	"xor %eax, %eax; mov %ax, %ds; mov %ax, %es; mov %ax, %fs; mov %ax, %gs;"
	"mov %ds, %ebx; int3");
SNIPPET(load_ss_null, 64, "xor %eax, %eax; mov %ax, %ss; int3");
SNIPPET(load_kernel, 64, "mov $0x10, %eax; mov %ax, %ds; int3");
SNIPPET(load_code, 64, "mov $0x33, %eax; mov %ax, %ss; int3");
SNIPPET(load_beyond, 64, "mov $0xff8, %eax; mov %ax, %es; int3");
SNIPPET(load_cs, 64, ".byte 0x8e, 0xc8; int3");
SNIPPET(push_pop, 64,
	"mov $0x2b, %eax; mov %ax, %fs; push %fs; pop %gs; mov %gs, %edx; int3");
SNIPPET(load_far, 64,
	"movl $0x1234, (%rsi); movw $0x2b, 4(%rsi); lfs (%rsi), %eax;"
	"lgs (%rsi), %ebx; lss (%rsi), %ecx; mov %fs, %edx; int3");
SNIPPET(load_far32, 32,
	"movl $0x1234, (%esi); movw $0x2b, 4(%esi); lds (%esi), %eax;"
	"les (%esi), %ebx; mov %ds, %edx; int3");

static void test_segment_loads(void **state)
{
	struct cpu_harness *h = *state;
	struct cpu *c = h->cpu;
	const uint64_t user_data = GDT + (HARNESS_USER_DATA & ~7U);
	const uint64_t raw = data64(h, user_data);

	expect(USER(h, load_null), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RBX], 0);
	expect(USER(h, load_ss_null), VEC_GP, 0);
	expect(USER(h, load_kernel), VEC_GP, HARNESS_DATA);
	expect(USER(h, load_code), VEC_GP, HARNESS_USER_CODE64 & ~3U);
	expect(USER(h, load_beyond), VEC_GP, 0xff8);
	expect(USER(h, load_cs), VEC_UD, 0);
	expect(USER(h, load_far), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RAX], 0x1234);
	assert_int_equal(c->gpr[REG_RBX], 0x1234);
	assert_int_equal(c->gpr[REG_RCX], 0x1234);
	assert_int_equal(c->gpr[REG_RDX], HARNESS_USER_DATA);
	expect(USER32(h, load_far32), VEC_BP, 0);
	assert_int_equal((uint32_t)c->gpr[REG_RAX], 0x1234);
	assert_int_equal((uint32_t)c->gpr[REG_RBX], 0x1234);
	assert_int_equal((uint32_t)c->gpr[REG_RDX], HARNESS_USER_DATA);

	/* The base comes from the descriptor. */
	put64(h, user_data, raw | UINT64_C(0x12) << 56 | UINT64_C(0x3456) << 16);
	expect(USER(h, push_pop), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RDX], HARNESS_USER_DATA);
	assert_int_equal(c->gpr[REG_SEG + SEG_GS], 0x12003456);
	put64(h, user_data, raw & ~(UINT64_C(0x80) << 40));
	expect(USER(h, push_pop), VEC_NP, HARNESS_USER_DATA & ~3U);
}

SNIPPET(far_jump, 64,
	"movl $0x500000, (%rsi); movw $0x3b, 4(%rsi); ljmp *(%rsi)");
SNIPPET(far_call, 64,
	"lea 1f(%rip), %rax; mov %eax, (%rsi); movw $0x33, 4(%rsi);"
	"lcall *(%rsi); mov $7, %ebx; int3; 1: lretl");
SNIPPET(far_data, 64, "movl $0, (%rsi); movw $0x2b, 4(%rsi); ljmp *(%rsi)");
SNIPPET(far_ret, 64,
	"pushq $0x2b; pushq $0x520700; pushq $0x33; pushq $0x500000; lretq");
SNIPPET(far_gate, 64, "movl $0, (%rsi); movw $0x60, 4(%rsi); lcall *(%rsi)");

static void test_far_branches(void **state)
{
	struct cpu_harness *h = *state;
	struct harness_end e;

	expect(USER(h, far_call), VEC_BP, 0);
	assert_int_equal(h->cpu->gpr[REG_RBX], 7);
	/* Into itself, now as 32-bit code: the same bytes store and jump again. */
	e = USER(h, far_data);
	expect(e, VEC_GP, HARNESS_USER_DATA & ~3U);
	cpu_harness_write(h, USER_CODE, int3, 1);
	cpu_harness_write(h, USER_CODE + 0x100, far_jump,
			  (size_t)(far_jump_end - far_jump));
	cpu_harness_set_mode(h, 64, 3);
	h->cpu->gpr[REG_RSP] = USER_STACK + STACK_TOP;
	h->cpu->gpr[REG_RSI] = USER_DATA;
	e = cpu_harness_run(h, USER_CODE + 0x100, 100);
	expect(e, VEC_BP, 0);
	assert_int_equal(e.cs, HARNESS_USER_CODE32);
	e = KERNEL(h, far_ret); /* to less privilege */
	expect(e, VEC_BP, 0);
	assert_int_equal(e.cs, HARNESS_USER_CODE64);
	assert_int_equal(e.rsp, 0x520700);

	/* docs/limits.md: no call gates. */
	h->cpu->gdtr.limit = 0x6f;
	put64(h, GDT + 0x60,
	      UINT64_C(0xec) << 40 | (uint64_t)HARNESS_CODE64 << 16);
	put64(h, GDT + 0x68, 0);
	expect(USER(h, far_gate), VEC_GP, 0x60);
}

SNIPPET(ports, 64,
	"mov $0x12345678, %eax; out %eax, $0x40; mov $0x3f8, %edx; in (%dx), %al;"
	"mov %eax, %ebx; hlt");
SNIPPET(user_in, 64, "mov $0x60, %edx; in (%dx), %al; int3");
SNIPPET(user_ins, 64,
	"mov $0x60, %edx; mov %rsi, %rdi; mov $2, %ecx; rep insb; rep outsb; int3");
SNIPPET(user_cli, 64, "cli; sti; int3");
SNIPPET(user_hlt, 64, "hlt");

static void test_io(void **state)
{
	struct cpu_harness *h = *state;
	struct cpu *c = h->cpu;

	h->pio_value = 0xab;
	expect_halt(KERNEL(h, ports));
	assert_int_equal(h->n_io, 2);
	assert_true(h->io[0].is_write);
	assert_int_equal(h->io[0].addr, 0x40);
	assert_int_equal(h->io[0].value, 0x12345678);
	assert_int_equal(h->io[0].size, 4);
	assert_int_equal(h->io[1].addr, 0x3f8);
	assert_int_equal(c->gpr[REG_RBX], 0x123456ab);

	expect(USER(h, user_in), VEC_GP, 0);
	expect(USER(h, user_ins), VEC_GP, 0);
	expect(USER(h, user_cli), VEC_GP, 0);
	expect(USER(h, user_hlt), VEC_GP, 0);
	cpu_set_rflags(c, RFLAGS_IF | RFLAGS_IOPL);
	expect(USER(h, user_in), VEC_BP, 0);
	cpu_set_rflags(c, RFLAGS_IF | RFLAGS_IOPL);
	expect(USER(h, user_cli), VEC_BP, 0);

	/* One port by the bitmap of the TSS. */
	c->tr.limit = 0x68 + 0x60 / 8 + 1;
	put64(h, TSS + 0x68, UINT64_MAX);
	put64(h, TSS + 0x68 + 8, UINT64_MAX);
	cpu_set_rflags(c, RFLAGS_IF);
	expect(USER(h, user_in), VEC_GP, 0);
	put64(h, TSS + 0x68 + 0x60 / 8, 0xfffe);
	expect(USER(h, user_in), VEC_BP, 0);
	h->n_io = 0;
	expect(USER(h, user_ins), VEC_BP, 0);
	assert_int_equal(h->n_io, 2);
	assert_int_equal(data64(h, USER_DATA) & 0xffff, 0xabab);
}

SNIPPET(cpuid, 64, "cpuid; hlt");

static const uint32_t *cpuid_of(struct cpu_harness *h, uint32_t leaf)
{
	static uint32_t r[4];
	struct cpu *c = h->cpu;

	c->gpr[REG_RAX] = leaf;
	c->gpr[REG_RCX] = 0;
	expect_halt(KERNEL(h, cpuid));
	r[0] = (uint32_t)c->gpr[REG_RAX];
	r[1] = (uint32_t)c->gpr[REG_RBX];
	r[2] = (uint32_t)c->gpr[REG_RCX];
	r[3] = (uint32_t)c->gpr[REG_RDX];
	return r;
}

static void test_cpuid(void **state)
{
	struct cpu_harness *h = *state;
	const uint32_t *r = cpuid_of(h, 0);

	assert_memory_equal(&r[1], "Auth", 4);
	assert_memory_equal(&r[3], "enti", 4);
	assert_memory_equal(&r[2], "cAMD", 4);
	r = cpuid_of(h, 1);
	assert_int_equal(r[2] & BIT64(13), BIT64(13));      /* CMPXCHG16B */
	assert_int_equal(r[2] & (BIT64(17) | BIT64(0)), 0); /* no PCID, SSE3 */
	assert_int_equal(r[2] & (BIT64(27) | BIT64(28)), 0); /* no OSXSAVE, AVX */
	r = cpuid_of(h, 0x80000001);
	assert_true(r[3] & BIT64(29));
	r = cpuid_of(h, 0x40000000);
	assert_memory_equal(&r[1], "KVMKVMKVM\0\0\0", 12);
	r = cpuid_of(h, 7);
	assert_int_equal(r[1] & (BIT64(0) | BIT64(10)), 0);
}

SNIPPET(rdtsc, 64,
	"rdtsc; shl $32, %rdx; lea (%rax, %rdx), %rbx; rdtscp; shl $32, %rdx;"
	"or %rdx, %rax; int3");
SNIPPET(rdpmc, 64, "xor %ecx, %ecx; rdpmc");
SNIPPET(rdrand, 64, "stc; rdrand %rax; setc %bl; rdrand %rcx; int3");
SNIPPET(stac, 64, "stac; pushfq; pop %rax; clac; pushfq; pop %rbx; hlt");

static void test_machine(void **state)
{
	struct cpu_harness *h = *state;
	struct cpu *c = h->cpu;

	c->tsc_aux = 77;
	expect(USER(h, rdtsc), VEC_BP, 0);
	assert_true(c->gpr[REG_RAX] > c->gpr[REG_RBX]);
	assert_int_equal(c->gpr[REG_RCX], 77);
	c->cr4 |= CR4_TSD;
	expect(USER(h, rdtsc), VEC_GP, 0);
	c->cr4 &= ~CR4_TSD;
	expect(USER(h, rdpmc), VEC_GP, 0);
	expect(KERNEL(h, rdpmc), VEC_GP, 0);
	expect(USER(h, rdrand), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RBX] & 0xff, 1);
	assert_true(c->gpr[REG_RAX] != c->gpr[REG_RCX]);
	expect_halt(KERNEL(h, stac));
	assert_true(c->gpr[REG_RAX] & RFLAGS_AC);
	assert_false(c->gpr[REG_RBX] & RFLAGS_AC);
	expect(USER(h, stac), VEC_UD, 0);
}

SNIPPET(fsgsbase, 64,
	"mov $0x7654321, %eax; wrfsbase %rax; rdfsbase %rbx; wrgsbase %rax;"
	"rdgsbase %edx; int3");
SNIPPET(pkru, 64,
	"xor %ecx, %ecx; mov $0x30, %eax; xor %edx, %edx; wrpkru; rdpkru; int3");
SNIPPET(invpcid, 64,
	"xor %eax, %eax; mov %rax, (%rsi); mov %rax, 8(%rsi); invpcid (%rsi), %rax; hlt");
SNIPPET(invpcid_bad, 64, "mov $4, %eax; invpcid (%rsi), %rax; hlt");

/* Without them in CPUID they are undefined. */
static void test_not_shown(void **state)
{
	struct cpu_harness *h = *state;

	expect(USER(h, fsgsbase), VEC_UD, 0);
	expect(USER(h, pkru), VEC_UD, 0);
	expect(KERNEL(h, invpcid), VEC_UD, 0);
}

static void test_shown(void **state)
{
	struct cpu_harness *h = *state;
	struct cpu *c = h->cpu;

	expect(USER(h, fsgsbase), VEC_UD, 0);
	expect(USER(h, pkru), VEC_UD, 0);
	c->cr4 |= CR4_FSGSBASE | CR4_PKE;
	expect(USER(h, fsgsbase), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RBX], 0x7654321);
	assert_int_equal(c->gpr[REG_RDX], 0x7654321);
	expect(USER(h, pkru), VEC_BP, 0);
	assert_int_equal(c->gpr[REG_RAX], 0x30);
	c->cr4 &= ~CR4_PKE;
	expect_halt(KERNEL(h, invpcid));
	expect(KERNEL(h, invpcid_bad), VEC_GP, 0);
	expect(USER(h, invpcid), VEC_GP, 0);
	c->cr4 |= CR4_UMIP;
	expect(USER(h, sgdt), VEC_GP, 0);
	c->cr4 &= ~CR4_UMIP;
}

SNIPPET(hints, 64,
	"xor %eax, %eax; mov $0x50, %ecx; bsf %ecx, %edx; tzcnt %ecx, %ebx;"
	"lzcnt %ecx, %ebp; mov $5, %eax; endbr64; .byte 0xf3, 0x0f, 0x1e, 0xfb;"
	"rdsspd %eax; rdsspq %rax; cldemote (%rsi); prefetchwt1 (%rsi);"
	"nopl (%rsi); int3");

/* Processors that lack these run them as what they once were. */
static void test_hints(void **state)
{
	struct cpu_harness *h = *state;

	expect(USER(h, hints), VEC_BP, 0);
	assert_int_equal(h->cpu->gpr[REG_RBX], 4);
	assert_int_equal(h->cpu->gpr[REG_RBP], 6); /* BSR */
	assert_int_equal(h->cpu->gpr[REG_RAX], 5);
}

/* docs/limits.md: near branches in 64-bit mode are 64 bits wide, as Intel's are. */
static void test_narrow_branch(void **state)
{
	/* data16 jmp to the INT3 behind two HLT */
	static const uint8_t code[] = {0x66, 0xeb, 0x02, 0xf4, 0xf4, 0xcc};
	struct cpu_harness *h = *state;
	const struct harness_end e = run_at(h, USER_CODE, 64, 3, code,
					    code + sizeof(code));

	expect(e, VEC_BP, 0);
	assert_int_equal(e.rip, USER_CODE + sizeof(code));
}

/* Bytes that are no instruction become one when a later one of them is written over. */
static void test_undefined_then_written(void **state)
{
	static const uint8_t good[] = {0x0f, 0x1f, 0xc0, 0xcc}; /* nop; int3 */
	struct cpu_harness *h = *state;

	for (uint64_t before = 0; before < 3; before++) {
		const uint64_t at = USER_CODE + PAGE_SIZE - before;

		cpu_harness_write(h, at, "\x0f\x04\x04\xcc", 4);
		cpu_harness_set_mode(h, 64, 3);
		h->cpu->gpr[REG_RSP] = USER_STACK + STACK_TOP;
		expect(cpu_harness_run(h, at, 100), VEC_UD, 0);
		cpu_harness_write(h, at + 1, &good[1], 3);
		expect(cpu_harness_run(h, at, 100), VEC_BP, 0);
	}
}

#define SYSTEM_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		SYSTEM_TEST(test_syscall),
		SYSTEM_TEST(test_syscall_step),
		SYSTEM_TEST(test_sysenter),
		SYSTEM_TEST(test_interrupts),
		SYSTEM_TEST(test_trap_flag),
		SYSTEM_TEST(test_iret),
		SYSTEM_TEST(test_task_register),
		SYSTEM_TEST(test_tables),
		SYSTEM_TEST(test_control_registers),
		SYSTEM_TEST(test_debug_registers),
		SYSTEM_TEST(test_msrs),
		SYSTEM_TEST(test_selectors),
		SYSTEM_TEST(test_segment_loads),
		SYSTEM_TEST(test_far_branches),
		SYSTEM_TEST(test_io),
		SYSTEM_TEST(test_cpuid),
		SYSTEM_TEST(test_machine),
		SYSTEM_TEST(test_not_shown),
		cmocka_unit_test_setup_teardown(test_shown, setup_features,
						teardown),
		SYSTEM_TEST(test_hints),
		SYSTEM_TEST(test_narrow_branch),
		SYSTEM_TEST(test_undefined_then_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
