/* SPDX-License-Identifier: Apache-2.0 */
/* Priorities, timer, registers in both modes, and messages between local APICs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dev/lapic.h>

#define TSC_HZ         UINT64_C(2600000000)
#define N_CPUS         4

#define OFF_ID         0x020
#define OFF_VERSION    0x030
#define OFF_TPR        0x080
#define OFF_PPR        0x0a0
#define OFF_EOI        0x0b0
#define OFF_LDR        0x0d0
#define OFF_DFR        0x0e0
#define OFF_SVR        0x0f0
#define OFF_ISR        0x100
#define OFF_TMR        0x180
#define OFF_IRR        0x200
#define OFF_ESR        0x280
#define OFF_ICR_LOW    0x300
#define OFF_ICR_HIGH   0x310
#define OFF_LVT_TIMER  0x320
#define OFF_LVT_ERROR  0x370
#define OFF_INIT_COUNT 0x380
#define OFF_CUR_COUNT  0x390
#define OFF_DIVIDE     0x3e0

#define X2(off)        (MSR_X2APIC_FIRST + ((off) >> 4))

struct fixture {
	struct apic_bus bus;
	struct dev_clock clock;
	struct lapic cpus[N_CPUS];
	struct lapic *cpu; /* the first */
	uint64_t ns;
	uint64_t tsc;
	unsigned int kicks[N_CPUS];
	unsigned int nmis[N_CPUS];
	unsigned int inits[N_CPUS];
	int sipis[N_CPUS];
	int eoi;
};

static uint64_t now_ns(void *ctx)
{
	return ((struct fixture *)ctx)->ns;
}

static uint64_t now_tsc(void *ctx)
{
	return ((struct fixture *)ctx)->tsc;
}

static void on_kick(void *ctx, unsigned int cpu)
{
	((struct fixture *)ctx)->kicks[cpu]++;
}

static void on_nmi(void *ctx, unsigned int cpu)
{
	((struct fixture *)ctx)->nmis[cpu]++;
}

static void on_init(void *ctx, unsigned int cpu)
{
	((struct fixture *)ctx)->inits[cpu]++;
}

static void on_sipi(void *ctx, unsigned int cpu, uint8_t vector)
{
	((struct fixture *)ctx)->sipis[cpu] = vector;
}

static void on_eoi(void *ctx, uint8_t vector)
{
	((struct fixture *)ctx)->eoi = vector;
}

static const struct apic_bus_ops bus_ops = {on_kick, on_nmi, on_init, on_sipi};

static uint32_t rd(struct lapic *l, uint64_t off)
{
	return (uint32_t)lapic_mmio_read(l, off, 4);
}

static void wr(struct lapic *l, uint64_t off, uint32_t value)
{
	lapic_mmio_write(l, off, 4, value);
}

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){
		.ns = 1000,
		.tsc = 5000,
		.eoi = -1,
		.clock = {now_ns, now_tsc, NULL, &f, TSC_HZ},
		.sipis = {-1, -1, -1, -1},
	};
	f.cpu = &f.cpus[0];
	apic_bus_init(&f.bus, &bus_ops, &f);
	f.bus.eoi = on_eoi;
	f.bus.eoi_ctx = &f;
	for (unsigned int i = 0; i < N_CPUS; i++) {
		lapic_init(&f.cpus[i], &f.bus, &f.clock, i, 40);
		wr(&f.cpus[i], OFF_SVR, 0x1ff);
	}
	*state = &f;
	return 0;
}

static uint64_t msr(struct lapic *l, uint32_t idx)
{
	uint64_t v = 0;

	assert_true(lapic_msr_read(l, idx, &v));
	return v;
}

static void to_x2(struct lapic *l)
{
	assert_true(lapic_msr_write(l, MSR_APIC_BASE,
				    msr(l, MSR_APIC_BASE) | LAPIC_BASE_EXTD));
}

static void test_power_on(void **state)
{
	struct fixture *f = *state;
	struct lapic l;

	lapic_init(&l, &f->bus, &f->clock, 2, 40);
	assert_int_equal(msr(&l, MSR_APIC_BASE), 0xfee00800);
	assert_int_equal(msr(f->cpu, MSR_APIC_BASE), 0xfee00900);
	assert_int_equal(rd(&l, OFF_ID), 2 << 24);
	assert_int_equal(rd(&l, OFF_VERSION), 0x00050014);
	assert_int_equal(rd(&l, OFF_SVR), 0xff);
	assert_int_equal(rd(&l, OFF_DFR), 0xffffffff);
	assert_int_equal(rd(&l, OFF_LVT_TIMER), 0x10000);
	assert_false(lapic_deliver(&l, 0x40, false)); /* not enabled yet */
	assert_int_equal(lapic_pending(&l), -1);
	/* A software-disabled APIC keeps its LVT masked. */
	wr(&l, OFF_LVT_TIMER, 0x40);
	assert_int_equal(rd(&l, OFF_LVT_TIMER), 0x10040);
}

static void test_priorities(void **state)
{
	struct fixture *f = *state;
	struct lapic *l = f->cpu;

	assert_true(lapic_deliver(l, 0x41, false));
	assert_true(lapic_deliver(l, 0x52, false));
	assert_int_equal(f->kicks[0], 2);
	assert_int_equal(lapic_pending(l), 0x52);
	assert_int_equal(rd(l, OFF_IRR + 0x20), (1 << 1) | (1 << 18));
	lapic_accept(l, 0x52);
	assert_int_equal(rd(l, OFF_ISR + 0x20), 1 << 18);
	assert_int_equal(rd(l, OFF_PPR), 0x50);
	/* Lower class waits; the same class does, too; a higher one nests. */
	assert_int_equal(lapic_pending(l), -1);
	lapic_deliver(l, 0x5f, false);
	assert_int_equal(lapic_pending(l), -1);
	lapic_deliver(l, 0x60, false);
	assert_int_equal(lapic_pending(l), 0x60);
	lapic_accept(l, 0x60);
	wr(l, OFF_EOI, 0);
	assert_int_equal(lapic_pending(l), -1);
	wr(l, OFF_EOI, 0);
	assert_int_equal(lapic_pending(l), 0x5f);
	lapic_accept(l, 0x5f);
	wr(l, OFF_EOI, 0);
	assert_int_equal(lapic_pending(l), 0x41);
	assert_int_equal(l->stats.eois, 3);
	assert_int_equal(f->eoi, -1); /* all were edges */
}

static void test_tpr(void **state)
{
	struct fixture *f = *state;
	struct lapic *l = f->cpu;
	unsigned int kicks;

	assert_true(lapic_set_cr8(l, 5));
	assert_int_equal(rd(l, OFF_TPR), 0x50);
	lapic_deliver(l, 0x5e, false);
	assert_int_equal(lapic_pending(l), -1);
	lapic_deliver(l, 0x61, false);
	assert_int_equal(lapic_pending(l), 0x61);
	lapic_accept(l, 0x61);
	wr(l, OFF_EOI, 0);
	assert_int_equal(lapic_pending(l), -1);
	kicks = f->kicks[0];
	wr(l, OFF_TPR, 0x4f);
	assert_int_equal(f->kicks[0], kicks + 1);
	assert_int_equal(lapic_cr8(l), 4);
	assert_int_equal(lapic_ppr(l), 0x4f);
	assert_int_equal(lapic_pending(l), 0x5e);
	assert_false(lapic_set_cr8(l, 16));
	assert_int_equal(lapic_cr8(l), 4);
}

static void test_level_eoi(void **state)
{
	struct fixture *f = *state;
	struct lapic *l = f->cpu;

	lapic_deliver(l, 0x30, true);
	assert_int_equal(rd(l, OFF_TMR + 0x10), 1 << 16);
	lapic_accept(l, 0x30);
	assert_int_equal(f->eoi, -1);
	wr(l, OFF_EOI, 0);
	assert_int_equal(f->eoi, 0x30);
	/* The same vector by an edge no longer is. */
	f->eoi = -1;
	lapic_deliver(l, 0x30, false);
	assert_int_equal(rd(l, OFF_TMR + 0x10), 0);
	lapic_accept(l, 0x30);
	wr(l, OFF_EOI, 0);
	assert_int_equal(f->eoi, -1);
	wr(l, OFF_EOI, 0); /* one too many */
	assert_int_equal(lapic_pending(l), -1);
}

static void test_one_shot(void **state)
{
	struct fixture *f = *state;
	struct lapic *l = f->cpu;
	uint32_t seq = lapic_timer_seq(l);

	wr(l, OFF_LVT_TIMER, 0xec);
	wr(l, OFF_DIVIDE, 0x3); /* 16 */
	assert_true(lapic_next_event_ns(l, f->ns, f->tsc) == LAPIC_NEVER);
	wr(l, OFF_INIT_COUNT, 100);
	assert_int_not_equal(lapic_timer_seq(l), seq);
	assert_int_equal(lapic_next_event_ns(l, f->ns, f->tsc), 1000 + 1600);
	f->ns = 1000 + 800;
	assert_int_equal(rd(l, OFF_CUR_COUNT), 50);
	lapic_poll(l, f->ns, f->tsc);
	assert_int_equal(lapic_pending(l), -1);
	f->ns = 1000 + 1600;
	lapic_poll(l, f->ns, f->tsc);
	assert_int_equal(lapic_pending(l), 0xec);
	assert_int_equal(rd(l, OFF_CUR_COUNT), 0);
	assert_true(lapic_next_event_ns(l, f->ns, f->tsc) == LAPIC_NEVER);
	lapic_poll(l, f->ns + 100000, f->tsc);
	assert_int_equal(l->stats.timer_fired, 1);
	/* Writing zero stops it. */
	wr(l, OFF_INIT_COUNT, 100);
	wr(l, OFF_INIT_COUNT, 0);
	assert_true(lapic_next_event_ns(l, f->ns, f->tsc) == LAPIC_NEVER);
}

static void test_divide(void **state)
{
	static const struct {
		uint32_t code;
		uint64_t by;
	} cases[] = {{0x0, 2},  {0x1, 4},  {0x2, 8},   {0x3, 16},
		     {0x8, 32}, {0x9, 64}, {0xa, 128}, {0xb, 1}};
	struct fixture *f = *state;
	struct lapic *l = f->cpu;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		wr(l, OFF_DIVIDE, cases[i].code);
		assert_int_equal(rd(l, OFF_DIVIDE), cases[i].code);
		wr(l, OFF_INIT_COUNT, 10);
		assert_int_equal(lapic_next_event_ns(l, f->ns, f->tsc),
				 f->ns + 10 * cases[i].by);
	}
	/* A new divisor in mid-count keeps the count. */
	f->ns += 5;
	assert_int_equal(rd(l, OFF_CUR_COUNT), 5);
	wr(l, OFF_DIVIDE, 0x0);
	assert_int_equal(rd(l, OFF_CUR_COUNT), 5);
	assert_int_equal(lapic_next_event_ns(l, f->ns, f->tsc), f->ns + 10);
}

static void test_periodic(void **state)
{
	struct fixture *f = *state;
	struct lapic *l = f->cpu;

	wr(l, OFF_LVT_TIMER, 0x200ec);
	wr(l, OFF_DIVIDE, 0xb);
	wr(l, OFF_INIT_COUNT, 1000);
	f->ns = 2000;
	lapic_poll(l, f->ns, f->tsc);
	assert_int_equal(lapic_pending(l), 0xec);
	lapic_accept(l, 0xec);
	wr(l, OFF_EOI, 0);
	assert_int_equal(lapic_next_event_ns(l, f->ns, f->tsc), 3000);
	f->ns = 2250;
	assert_int_equal(rd(l, OFF_CUR_COUNT), 750);
	/* Five periods late: one interrupt, and the rhythm is kept. */
	f->ns = 7900;
	assert_int_equal(lapic_next_event_ns(l, f->ns, f->tsc), f->ns);
	assert_int_equal(rd(l, OFF_CUR_COUNT), 100);
	lapic_poll(l, f->ns, f->tsc);
	assert_int_equal(l->stats.timer_fired, 2);
	assert_int_equal(l->stats.timer_missed, 4);
	assert_int_equal(lapic_next_event_ns(l, f->ns, f->tsc), 8000);
	/* Masked, it runs on silently. */
	lapic_accept(l, 0xec);
	wr(l, OFF_EOI, 0);
	wr(l, OFF_LVT_TIMER, 0x300ec);
	lapic_poll(l, 8000, f->tsc);
	assert_int_equal(lapic_pending(l), -1);
	assert_int_equal(lapic_next_event_ns(l, 8000, f->tsc), 9000);
}

static void test_deadline(void **state)
{
	struct fixture *f = *state;
	struct lapic *l = f->cpu;

	/* Not in that mode: the write is ignored. */
	assert_true(lapic_msr_write(l, MSR_TSC_DEADLINE, 1));
	assert_int_equal(msr(l, MSR_TSC_DEADLINE), 0);
	assert_int_equal(lapic_pending(l), -1);

	wr(l, OFF_LVT_TIMER, 0x400ec);
	wr(l, OFF_INIT_COUNT, 77);
	assert_int_equal(rd(l, OFF_INIT_COUNT), 0);
	assert_true(lapic_msr_write(l, MSR_TSC_DEADLINE, f->tsc + TSC_HZ + 1));
	assert_int_equal(msr(l, MSR_TSC_DEADLINE), f->tsc + TSC_HZ + 1);
	/* Rounded up: never woken before the deadline. */
	assert_int_equal(lapic_next_event_ns(l, f->ns, f->tsc),
			 f->ns + 1000000001);
	lapic_poll(l, f->ns, f->tsc + TSC_HZ);
	assert_int_equal(lapic_pending(l), -1);
	lapic_poll(l, f->ns, f->tsc + TSC_HZ + 1);
	assert_int_equal(lapic_pending(l), 0xec);
	assert_int_equal(msr(l, MSR_TSC_DEADLINE), 0);
	assert_true(lapic_next_event_ns(l, f->ns, f->tsc) == LAPIC_NEVER);

	/* In the past: at once. */
	lapic_accept(l, 0xec);
	wr(l, OFF_EOI, 0);
	assert_true(lapic_msr_write(l, MSR_TSC_DEADLINE, f->tsc));
	assert_int_equal(lapic_pending(l), 0xec);
	assert_int_equal(msr(l, MSR_TSC_DEADLINE), 0);

	/* So far that it does not fit nanoseconds. */
	assert_true(lapic_msr_write(l, MSR_TSC_DEADLINE, UINT64_MAX));
	assert_true(lapic_next_event_ns(l, f->ns, 0) > UINT64_MAX / 4);
	f->clock.tsc_hz = 1000;
	assert_true(lapic_next_event_ns(l, f->ns, 0) == LAPIC_NEVER);

	/* Leaving the mode disarms it. */
	wr(l, OFF_LVT_TIMER, 0xec);
	assert_int_equal(msr(l, MSR_TSC_DEADLINE), 0);
	assert_true(lapic_next_event_ns(l, f->ns, f->tsc) == LAPIC_NEVER);
}

static void test_ipi_physical(void **state)
{
	struct fixture *f = *state;

	wr(f->cpu, OFF_ICR_HIGH, 2 << 24);
	wr(f->cpu, OFF_ICR_LOW, 0x45);
	assert_int_equal(lapic_pending(&f->cpus[2]), 0x45);
	assert_int_equal(lapic_pending(&f->cpus[1]), -1);
	assert_int_equal(lapic_pending(&f->cpus[0]), -1);
	assert_int_equal(rd(f->cpu, OFF_ICR_LOW), 0x45); /* idle */
	assert_int_equal(rd(f->cpu, OFF_ICR_HIGH), 2 << 24);
	/* Broadcast. */
	wr(f->cpu, OFF_ICR_HIGH, 0xffu << 24);
	wr(f->cpu, OFF_ICR_LOW, 0x46);
	for (unsigned int i = 0; i < N_CPUS; i++)
		assert_int_equal(lapic_pending(&f->cpus[i]), 0x46);
}

static void test_ipi_shorthand(void **state)
{
	struct fixture *f = *state;

	wr(f->cpu, OFF_ICR_LOW, 0x40041); /* self */
	assert_int_equal(lapic_pending(f->cpu), 0x41);
	assert_int_equal(lapic_pending(&f->cpus[1]), -1);
	wr(f->cpu, OFF_ICR_LOW, 0xc0042); /* others */
	assert_int_equal(lapic_pending(f->cpu), 0x41);
	assert_int_equal(lapic_pending(&f->cpus[3]), 0x42);
	wr(f->cpu, OFF_ICR_LOW, 0x80043); /* all */
	assert_int_equal(lapic_pending(f->cpu), 0x43);
	assert_int_equal(lapic_pending(&f->cpus[3]), 0x43);
}

static void test_ipi_logical(void **state)
{
	struct fixture *f = *state;

	/* Flat. */
	for (unsigned int i = 0; i < N_CPUS; i++)
		wr(&f->cpus[i], OFF_LDR, 1u << (24 + i));
	wr(f->cpu, OFF_ICR_HIGH, 0x0au << 24);
	wr(f->cpu, OFF_ICR_LOW, 0x847);
	assert_int_equal(lapic_pending(&f->cpus[0]), -1);
	assert_int_equal(lapic_pending(&f->cpus[1]), 0x47);
	assert_int_equal(lapic_pending(&f->cpus[2]), -1);
	assert_int_equal(lapic_pending(&f->cpus[3]), 0x47);
	/* Cluster. */
	for (unsigned int i = 0; i < N_CPUS; i++) {
		wr(&f->cpus[i], OFF_DFR, 0x0fffffff);
		wr(&f->cpus[i], OFF_LDR, (i / 2) << 28 | 1u << (24 + i % 2));
	}
	wr(f->cpu, OFF_ICR_HIGH, 0x13u << 24);
	wr(f->cpu, OFF_ICR_LOW, 0x848);
	assert_int_equal(lapic_pending(&f->cpus[0]), -1);
	assert_int_equal(lapic_pending(&f->cpus[1]), 0x47);
	assert_int_equal(lapic_pending(&f->cpus[2]), 0x48);
	assert_int_equal(lapic_pending(&f->cpus[3]), 0x48);
}

static void test_lowest_priority(void **state)
{
	struct fixture *f = *state;
	unsigned int n[N_CPUS] = {0};

	wr(&f->cpus[1], OFF_TPR, 0x20);
	for (unsigned int k = 0; k < 6; k++) {
		wr(f->cpu, OFF_ICR_HIGH, 0xffu << 24);
		wr(f->cpu, OFF_ICR_LOW, 0x150 + k);
		for (unsigned int i = 0; i < N_CPUS; i++)
			if (lapic_pending(&f->cpus[i]) == (int)(0x50 + k))
				n[i]++;
	}
	/* Evenly among the equals, nothing to the one that is busier. */
	assert_int_equal(n[0], 2);
	assert_int_equal(n[1], 0);
	assert_int_equal(n[2], 2);
	assert_int_equal(n[3], 2);
}

static void test_start_up(void **state)
{
	struct fixture *f = *state;

	wr(&f->cpus[1], OFF_TPR, 0x20);
	wr(f->cpu, OFF_ICR_HIGH, 1 << 24);
	wr(f->cpu, OFF_ICR_LOW, 0xc500);
	assert_int_equal(f->inits[1], 1);
	assert_int_equal(rd(&f->cpus[1], OFF_TPR), 0);
	assert_int_equal(rd(&f->cpus[1], OFF_ID), 1 << 24);
	wr(f->cpu, OFF_ICR_LOW, 0x8500); /* de-assert: nothing */
	assert_int_equal(f->inits[1], 1);
	wr(f->cpu, OFF_ICR_LOW, 0x69a);
	assert_int_equal(f->sipis[1], 0x9a);
	assert_int_equal(f->sipis[2], -1);
	wr(f->cpu, OFF_ICR_LOW, 0x400);
	assert_int_equal(f->nmis[1], 1);
	wr(f->cpu, OFF_ICR_LOW, 0x200);
	assert_int_equal(f->bus.stats.unsupported, 1);
}

static void test_errors(void **state)
{
	struct fixture *f = *state;
	struct lapic *l = f->cpu;

	wr(l, OFF_LVT_ERROR, 0xfe);
	assert_int_equal(rd(l, 0x3f0), 0); /* no such register in memory */
	assert_int_equal(lapic_pending(l), 0xfe);
	assert_int_equal(rd(l, OFF_ESR), 0); /* not latched yet */
	wr(l, OFF_ESR, 0);
	assert_int_equal(rd(l, OFF_ESR), 0x80);
	wr(l, OFF_ESR, 0);
	assert_int_equal(rd(l, OFF_ESR), 0);
	wr(l, OFF_ICR_LOW, 0x4000f); /* vector below 16 */
	assert_false(lapic_deliver(l, 0x3, false));
	wr(l, OFF_ESR, 0);
	assert_int_equal(rd(l, OFF_ESR), 0x60);
	/* An error entry with an illegal vector of its own must not recurse. */
	wr(l, OFF_LVT_ERROR, 0x05);
	assert_false(lapic_deliver(l, 0x3, false));
	wr(l, OFF_ESR, 0);
	assert_int_equal(rd(l, OFF_ESR), 0x40);
}

static void test_odd_accesses(void **state)
{
	struct fixture *f = *state;
	struct lapic *l = f->cpu;

	wr(l, OFF_TPR, 0x31);
	assert_int_equal(lapic_mmio_read(l, OFF_TPR, 1), 0x31);
	assert_int_equal(lapic_mmio_read(l, OFF_SVR + 1, 1), 0x1);
	assert_int_equal(lapic_mmio_read(l, OFF_TPR + 4, 4), 0);
	assert_int_equal(lapic_mmio_read(l, OFF_TPR, 8), 0x31);
	lapic_mmio_write(l, OFF_TPR, 1, 0x77);
	lapic_mmio_write(l, OFF_TPR + 4, 4, 0x77);
	assert_int_equal(rd(l, OFF_TPR), 0x31);
}

static void test_base(void **state)
{
	struct fixture *f = *state;
	struct lapic *l = f->cpu;

	assert_true(lapic_claims(l, gpa(0xfee00fff)));
	assert_false(lapic_claims(l, gpa(0xfee01000)));
	assert_false(lapic_claims(l, gpa(0xfedfffff)));
	/* Reserved bits, address too wide. */
	assert_false(lapic_msr_write(l, MSR_APIC_BASE, 0xfee00901));
	assert_false(lapic_msr_write(l, MSR_APIC_BASE,
				     0xfee00900 | UINT64_C(1) << 40));
	/* x2APIC without enable, and back from x2APIC to xAPIC. */
	assert_false(lapic_msr_write(l, MSR_APIC_BASE, 0xfee00500));
	to_x2(l);
	assert_false(lapic_claims(l, gpa(0xfee00000)));
	assert_false(lapic_msr_write(l, MSR_APIC_BASE, 0xfee00900));
	assert_int_equal(msr(l, MSR_APIC_BASE), 0xfee00d00);
	/* Off: everything is reset; from off not straight to x2APIC. */
	assert_true(lapic_msr_write(l, MSR_APIC_BASE, 0xfee00100));
	assert_false(lapic_msr_write(l, MSR_APIC_BASE, 0xfee00d00));
	assert_false(lapic_deliver(l, 0x44, false));
	/* On again, somewhere else. */
	assert_true(lapic_msr_write(l, MSR_APIC_BASE, 0x12345900));
	assert_true(lapic_claims(l, gpa(0x12345020)));
	assert_int_equal(rd(l, OFF_SVR), 0xff);
}

static void test_x2_registers(void **state)
{
	struct fixture *f = *state;
	struct lapic *l = &f->cpus[3];
	uint64_t v;

	assert_false(lapic_msr_read(l, X2(OFF_ID), &v)); /* not in that mode */
	to_x2(l);
	assert_int_equal(msr(l, X2(OFF_ID)), 3);
	assert_int_equal(msr(l, X2(OFF_LDR)), 1 << 3);
	assert_int_equal(msr(l, X2(OFF_VERSION)), 0x00050014);
	assert_true(lapic_msr_write(l, X2(OFF_TPR), 0x20));
	assert_int_equal(lapic_cr8(l), 2);
	assert_false(lapic_msr_write(l, X2(OFF_TPR), 0x100));
	assert_false(lapic_msr_write(l, X2(OFF_EOI), 1));
	assert_false(lapic_msr_read(l, X2(OFF_EOI), &v));
	assert_false(lapic_msr_write(l, X2(OFF_ESR), 1));
	assert_true(lapic_msr_write(l, X2(OFF_ESR), 0));
	assert_false(lapic_msr_read(l, X2(OFF_DFR), &v));
	assert_false(lapic_msr_write(l, X2(OFF_ID), 1));
	assert_false(lapic_msr_write(l, X2(OFF_LDR), 1));
	assert_false(lapic_msr_write(l, X2(OFF_CUR_COUNT), 1));
	assert_false(lapic_msr_read(l, X2(OFF_ICR_HIGH), &v));
	assert_false(lapic_msr_read(l, MSR_X2APIC_LAST, &v));
	assert_false(lapic_msr_write(l, X2(OFF_LVT_TIMER), 0x80000));
	assert_true(lapic_msr_write(l, X2(OFF_LVT_TIMER), 0x400ec));
	assert_int_equal(msr(l, X2(OFF_LVT_TIMER)), 0x400ec);
	assert_true(lapic_msr_write(l, X2(OFF_TPR), 0));
	lapic_deliver(l, 0x44, false);
	assert_int_equal(msr(l, X2(OFF_IRR) + 2), 1 << 4);
	lapic_accept(l, 0x44);
	assert_int_equal(msr(l, X2(OFF_ISR) + 2), 1 << 4);
	assert_true(lapic_msr_write(l, X2(OFF_EOI), 0));
	assert_int_equal(msr(l, X2(OFF_ISR) + 2), 0);
}

static void test_x2_ipis(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < N_CPUS; i++)
		to_x2(&f->cpus[i]);
	assert_true(lapic_msr_write(f->cpu, X2(OFF_ICR_LOW),
				    UINT64_C(2) << 32 | 0x45));
	assert_int_equal(lapic_pending(&f->cpus[2]), 0x45);
	/* Logical: cluster 0, processors 1 and 3. */
	assert_true(lapic_msr_write(f->cpu, X2(OFF_ICR_LOW),
				    UINT64_C(0xa) << 32 | 0x846));
	assert_int_equal(lapic_pending(&f->cpus[1]), 0x46);
	assert_int_equal(lapic_pending(&f->cpus[2]), 0x45);
	assert_int_equal(lapic_pending(&f->cpus[3]), 0x46);
	/* Another cluster. */
	assert_true(lapic_msr_write(f->cpu, X2(OFF_ICR_LOW),
				    UINT64_C(0x1000a) << 32 | 0x847));
	assert_int_equal(lapic_pending(&f->cpus[1]), 0x46);
	/* 255 is an id here, all ones is everyone. */
	assert_true(lapic_msr_write(f->cpu, X2(OFF_ICR_LOW),
				    UINT64_C(0xff) << 32 | 0x48));
	assert_int_equal(lapic_pending(&f->cpus[1]), 0x46);
	assert_true(lapic_msr_write(f->cpu, X2(OFF_ICR_LOW),
				    UINT64_C(0xffffffff) << 32 | 0x849));
	assert_int_equal(lapic_pending(&f->cpus[1]), 0x49);
	assert_false(lapic_msr_write(f->cpu, X2(OFF_ICR_LOW), 0x100000));
	/* SELF IPI. */
	assert_true(lapic_msr_write(f->cpu, MSR_X2APIC_FIRST + 0x3f, 0x77));
	assert_int_equal(lapic_pending(f->cpu), 0x77);
	assert_false(lapic_msr_write(f->cpu, MSR_X2APIC_FIRST + 0x3f, 0x177));
}

static void test_svr_off(void **state)
{
	struct fixture *f = *state;
	struct lapic *l = f->cpu;

	wr(l, OFF_LVT_TIMER, 0xec);
	lapic_deliver(l, 0x44, false);
	wr(l, OFF_SVR, 0xff);
	assert_int_equal(rd(l, OFF_LVT_TIMER), 0x100ec);
	assert_int_equal(lapic_pending(l), -1);
	assert_false(lapic_deliver(l, 0x45, false));
	/* What was requested before is still there afterwards. */
	wr(l, OFF_SVR, 0x1ff);
	assert_int_equal(lapic_pending(l), 0x44);
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_power_on),     T(test_priorities),
		T(test_tpr),          T(test_level_eoi),
		T(test_one_shot),     T(test_divide),
		T(test_periodic),     T(test_deadline),
		T(test_ipi_physical), T(test_ipi_shorthand),
		T(test_ipi_logical),  T(test_lowest_priority),
		T(test_start_up),     T(test_errors),
		T(test_odd_accesses), T(test_base),
		T(test_x2_registers), T(test_x2_ipis),
		T(test_svr_off),
	};

	return cmocka_run_group_tests_name("lapic", tests, NULL, NULL);
}
