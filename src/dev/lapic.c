/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC: registers, priorities, timer and interprocessor interrupts. */
#include <dev/lapic.h>

#include <base/verify.h>

/* Registers by number: offset in the page >> 4, MSR - LAPIC_MSR_X2_FIRST. */
enum reg {
	REG_ID = 0x02,
	REG_VERSION = 0x03,
	REG_TPR = 0x08,
	REG_APR = 0x09,
	REG_PPR = 0x0a,
	REG_EOI = 0x0b,
	REG_RRD = 0x0c,
	REG_LDR = 0x0d,
	REG_DFR = 0x0e,
	REG_SVR = 0x0f,
	REG_ISR = 0x10,
	REG_TMR = 0x18,
	REG_IRR = 0x20,
	REG_ESR = 0x28,
	REG_ICR_LOW = 0x30,
	REG_ICR_HIGH = 0x31,
	REG_LVT_TIMER = 0x32,
	REG_LVT_ERROR = 0x37,
	REG_INIT_COUNT = 0x38,
	REG_CUR_COUNT = 0x39,
	REG_DIVIDE = 0x3e,
	REG_SELF_IPI = 0x3f,
};

#define VERSION          UINT32_C(0x14)

#define SVR_ENABLE       UINT32_C(0x100)
#define SVR_WRITABLE     UINT32_C(0x3ff)
#define SVR_RESET        UINT32_C(0xff)

#define LVT_VECTOR       UINT32_C(0xff)
#define LVT_MODE(v)      ((enum apic_mode)(((v) >> 8) & 7))
#define LVT_MASKED       (UINT32_C(1) << 16)
#define LVT_TIMER_MODE   (UINT32_C(3) << 17)
#define LVT_ONE_SHOT     (UINT32_C(0) << 17)
#define LVT_PERIODIC     (UINT32_C(1) << 17)
#define LVT_DEADLINE     (UINT32_C(2) << 17)

#define ICR_VECTOR       UINT64_C(0xff)
#define ICR_MODE(v)      ((enum apic_mode)(((v) >> 8) & 7))
#define ICR_LOGICAL      (UINT64_C(1) << 11)
#define ICR_STATUS       (UINT64_C(1) << 12)
#define ICR_ASSERT       (UINT64_C(1) << 14)
#define ICR_LEVEL        (UINT64_C(1) << 15)
#define ICR_SHORTHAND(v) (((v) >> 18) & 3)
#define ICR_WRITABLE_X1  UINT64_C(0xff000000000ccfff)
#define ICR_WRITABLE_X2  UINT64_C(0xffffffff000ccfff)

enum shorthand {
	TO_DEST,
	TO_SELF,
	TO_ALL,
	TO_OTHERS,
};

#define ESR_SEND_VECTOR    (UINT32_C(1) << 5)
#define ESR_RECEIVE_VECTOR (UINT32_C(1) << 6)
#define ESR_REGISTER       (UINT32_C(1) << 7)

/* Vectors 0 to 15 are not for interrupts. */
#define VECTOR_MIN  16

#define DFR_FLAT    UINT32_C(0xf0000000)
#define DFR_RESET   UINT32_C(0xffffffff)
#define DFR_FIXED_1 UINT32_C(0x0fffffff)

#define NS_PER_S    UINT64_C(1000000000)

__extension__ typedef unsigned __int128 uint128_t;

_Static_assert(LAPIC_BUS_HZ == NS_PER_S,
	       "timer counts are taken for nanoseconds");

/* Writable bits of each LVT entry [SDM3 10.5.1 "Local Vector Table"]. */
static const uint32_t lvt_writable[LAPIC_N_LVT] = {
	[LAPIC_LVT_TIMER] = LVT_VECTOR | LVT_MASKED | LVT_TIMER_MODE,
	[LAPIC_LVT_THERMAL] = LVT_VECTOR | LVT_MASKED | 0x700,
	[LAPIC_LVT_PERF] = LVT_VECTOR | LVT_MASKED | 0x700,
	[LAPIC_LVT_LINT0] = LVT_VECTOR | LVT_MASKED | 0xa700,
	[LAPIC_LVT_LINT1] = LVT_VECTOR | LVT_MASKED | 0xa700,
	[LAPIC_LVT_ERROR] = LVT_VECTOR | LVT_MASKED,
};

static bool in_x2(const struct lapic *lapic)
{
	return lapic->base & LAPIC_BASE_EXTD;
}

/* Sets of vectors. */

static bool set_has(const uint64_t *set, uint8_t vector)
{
	return set[vector / 64] >> (vector % 64) & 1;
}

static void set_add(uint64_t *set, uint8_t vector)
{
	set[vector / 64] |= UINT64_C(1) << (vector % 64);
}

static void set_remove(uint64_t *set, uint8_t vector)
{
	set[vector / 64] &= ~(UINT64_C(1) << (vector % 64));
}

static int set_highest(const uint64_t *set)
{
	for (int i = 3; i >= 0; i--)
		if (set[i])
			return i * 64 + 63 - __builtin_clzll(set[i]);
	return -1;
}

static uint32_t set_word(const uint64_t *set, unsigned int word)
{
	return (uint32_t)(set[word / 2] >> (word % 2 * 32));
}

/* Priorities. */

uint8_t lapic_ppr(const struct lapic *lapic)
{
	int in_service = set_highest(lapic->isr);
	uint8_t isr_class = in_service < 0 ? 0 : in_service & 0xf0;

	if ((lapic->tpr & 0xf0) >= isr_class)
		return (uint8_t)lapic->tpr;
	return isr_class;
}

int lapic_pending(const struct lapic *lapic)
{
	int vector = set_highest(lapic->irr);

	if (vector < 0 || !lapic_is_enabled(lapic))
		return -1;
	return (vector & 0xf0) > (lapic_ppr(lapic) & 0xf0) ? vector : -1;
}

void lapic_accept(struct lapic *lapic, int vector)
{
	VERIFY(vector >= VECTOR_MIN && vector <= 255);
	set_remove(lapic->irr, (uint8_t)vector);
	set_add(lapic->isr, (uint8_t)vector);
	lapic->stats.injected++;
}

/* If lowering the priority made something deliverable, the processor must look. */
static void kick_if_pending(struct lapic *lapic)
{
	if (lapic_pending(lapic) >= 0)
		apic_bus_kick(lapic->bus, lapic->cpu);
}

static void raise_error(struct lapic *lapic, uint32_t bit)
{
	uint32_t lvt = lapic->lvt[LAPIC_LVT_ERROR];
	uint8_t vector = lvt & LVT_VECTOR;

	if (lapic->esr_new & bit)
		return;
	lapic->esr_new |= bit;
	lapic->stats.errors++;
	if (lvt & LVT_MASKED)
		return;
	/* An illegal vector here is the same error again, which is already noted. */
	if (vector < VECTOR_MIN)
		lapic->esr_new |= ESR_RECEIVE_VECTOR;
	else
		(void)lapic_deliver(lapic, vector, false);
}

bool lapic_deliver(struct lapic *lapic, uint8_t vector, bool level)
{
	if (!lapic_is_enabled(lapic))
		return false;
	if (vector < VECTOR_MIN) {
		raise_error(lapic, ESR_RECEIVE_VECTOR);
		return false;
	}

	lapic->stats.received++;
	if (set_has(lapic->irr, vector))
		lapic->stats.merged++;
	set_add(lapic->irr, vector);
	if (level)
		set_add(lapic->tmr, vector);
	else
		set_remove(lapic->tmr, vector);
	kick_if_pending(lapic);
	return true;
}

static void end_of_interrupt(struct lapic *lapic)
{
	int vector = set_highest(lapic->isr);

	lapic->stats.eois++;
	if (vector < 0)
		return;
	set_remove(lapic->isr, (uint8_t)vector);
	if (set_has(lapic->tmr, (uint8_t)vector))
		apic_bus_eoi(lapic->bus, (uint8_t)vector);
	kick_if_pending(lapic);
}

/* Destinations. */

static uint32_t x2_ldr(const struct lapic *lapic)
{
	return lapic->id >> 4 << 16 | UINT32_C(1) << (lapic->id & 0xf);
}

static bool matches_logical(const struct lapic *lapic, uint32_t dest)
{
	if (in_x2(lapic)) {
		uint32_t ldr = x2_ldr(lapic);

		return dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff);
	}

	uint32_t ldr = lapic->ldr >> 24;

	if (dest > 0xff)
		return false;
	if (lapic->dfr >> 28 == DFR_FLAT >> 28)
		return dest & ldr;
	return dest >> 4 == ldr >> 4 && (dest & ldr & 0xf);
}

bool lapic_matches(const struct lapic *lapic, uint32_t dest, bool logical)
{
	if (!(lapic->base & LAPIC_BASE_ENABLE))
		return false;
	if (dest == APIC_DEST_ALL)
		return true;
	return logical ? matches_logical(lapic, dest) : dest == lapic->id;
}

/* Interprocessor interrupts. */

static void send_to_set(struct lapic *lapic, const struct apic_msg *msg,
			bool with_self)
{
	for (unsigned int cpu = 0; cpu < APIC_CPUS_MAX; cpu++)
		if (cpu != lapic->cpu)
			(void)apic_bus_deliver(lapic->bus, cpu, msg);
	if (with_self)
		(void)apic_bus_deliver(lapic->bus, lapic->cpu, msg);
}

static void send_ipi(struct lapic *lapic)
{
	uint64_t icr = lapic->icr;
	enum apic_mode mode = ICR_MODE(icr);
	uint32_t dest = (uint32_t)(icr >> 32);

	lapic->stats.ipis++;
	if ((mode == APIC_MODE_FIXED || mode == APIC_MODE_LOWEST) &&
	    (icr & ICR_VECTOR) < VECTOR_MIN) {
		raise_error(lapic, ESR_SEND_VECTOR);
		return;
	}
	/* INIT level de-assert only matters for APICs on a serial bus. */
	if (mode == APIC_MODE_INIT && (icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
		return;

	if (!in_x2(lapic)) {
		dest >>= 24;
		if (dest == 0xff)
			dest = APIC_DEST_ALL;
	}

	const struct apic_msg msg = {
		.dest = dest,
		.logical = icr & ICR_LOGICAL,
		.mode = mode,
		.vector = icr & ICR_VECTOR,
	};

	switch ((enum shorthand)ICR_SHORTHAND(icr)) {
	case TO_DEST:
		(void)apic_bus_send(lapic->bus, &msg);
		break;
	case TO_SELF:
		/* Only a fixed interrupt may be sent to oneself. */
		if (mode == APIC_MODE_FIXED)
			(void)lapic_deliver(lapic, msg.vector, false);
		break;
	case TO_ALL:
		send_to_set(lapic, &msg, true);
		break;
	case TO_OTHERS:
		send_to_set(lapic, &msg, false);
		break;
	}
}

/* Timer. */

static uint32_t timer_mode(const struct lapic *lapic)
{
	return lapic->lvt[LAPIC_LVT_TIMER] & LVT_TIMER_MODE;
}

/* Divide value: bits 3, 1, 0 of the register give 2, 4, … 128, and 111b gives 1. */
static uint64_t timer_divisor(const struct lapic *lapic)
{
	uint32_t code = (lapic->divide >> 1 & 4) | (lapic->divide & 3);

	return UINT64_C(1) << ((code + 1) & 7);
}

static uint64_t timer_period_ns(const struct lapic *lapic)
{
	return lapic->init_count * timer_divisor(lapic);
}

static void timer_stop(struct lapic *lapic)
{
	lapic->timer_due_ns = LAPIC_NEVER;
	lapic->tsc_deadline = 0;
	lapic->timer_seq++;
}

static void timer_start(struct lapic *lapic)
{
	timer_stop(lapic);
	if (lapic->init_count == 0)
		return;
	lapic->timer_start_ns = lapic->clock->now_ns(lapic->clock->ctx);
	lapic->timer_due_ns = lapic->timer_start_ns + timer_period_ns(lapic);
}

static uint32_t timer_current(const struct lapic *lapic)
{
	if (lapic->timer_due_ns == LAPIC_NEVER)
		return 0;

	uint64_t now = lapic->clock->now_ns(lapic->clock->ctx);
	uint64_t period = timer_period_ns(lapic);
	uint64_t left;

	if (now < lapic->timer_due_ns)
		left = lapic->timer_due_ns - now;
	else if (timer_mode(lapic) == LVT_PERIODIC)
		left = period - (now - lapic->timer_due_ns) % period;
	else
		return 0;
	return (uint32_t)((left + timer_divisor(lapic) - 1) /
			  timer_divisor(lapic));
}

/* A new divisor applies from now on; the count goes on from where it is. */
static void timer_set_divide(struct lapic *lapic, uint32_t value)
{
	uint32_t left = timer_current(lapic);

	lapic->divide = value & 0xb;
	if (lapic->timer_due_ns == LAPIC_NEVER)
		return;
	lapic->timer_due_ns = lapic->clock->now_ns(lapic->clock->ctx) +
			      left * timer_divisor(lapic);
	lapic->timer_seq++;
}

static void timer_fire(struct lapic *lapic)
{
	uint32_t lvt = lapic->lvt[LAPIC_LVT_TIMER];

	lapic->stats.timer_fired++;
	if (!(lvt & LVT_MASKED))
		(void)lapic_deliver(lapic, lvt & LVT_VECTOR, false);
}

void lapic_poll(struct lapic *lapic, uint64_t now_ns, uint64_t now_tsc)
{
	if (lapic->tsc_deadline && now_tsc >= lapic->tsc_deadline) {
		lapic->tsc_deadline = 0;
		timer_fire(lapic);
	}
	if (now_ns < lapic->timer_due_ns)
		return;

	if (timer_mode(lapic) == LVT_PERIODIC) {
		/* Periods that passed unseen merge into one, as they would in the IRR. */
		uint64_t period = timer_period_ns(lapic);
		uint64_t missed = (now_ns - lapic->timer_due_ns) / period;

		lapic->stats.timer_missed += missed;
		lapic->timer_due_ns += (missed + 1) * period;
	} else {
		lapic->timer_due_ns = LAPIC_NEVER;
	}
	timer_fire(lapic);
}

uint64_t lapic_next_event_ns(const struct lapic *lapic, uint64_t now_ns,
			     uint64_t now_tsc)
{
	if (!lapic->tsc_deadline)
		return lapic->timer_due_ns > now_ns ? lapic->timer_due_ns
						    : now_ns;
	if (lapic->tsc_deadline <= now_tsc)
		return now_ns;

	uint128_t ticks = lapic->tsc_deadline - now_tsc;
	uint64_t hz = lapic->clock->tsc_hz;
	uint128_t ns = (ticks * NS_PER_S + hz - 1) / hz;

	/* Linux parks the timer at the far end of time. */
	return ns >= LAPIC_NEVER - now_ns ? LAPIC_NEVER : now_ns + (uint64_t)ns;
}

/* Registers that are the same in both modes. */

static void write_lvt(struct lapic *lapic, unsigned int idx, uint32_t value)
{
	uint32_t old = lapic->lvt[idx];

	value &= lvt_writable[idx];
	if (!(lapic->svr & SVR_ENABLE))
		value |= LVT_MASKED;
	lapic->lvt[idx] = value;

	if (idx != LAPIC_LVT_TIMER)
		return;
	/* Going to or from TSC-deadline mode disarms the timer. */
	if (((old ^ value) & LVT_TIMER_MODE) &&
	    ((old | value) & LVT_TIMER_MODE & ~LVT_PERIODIC)) {
		lapic->init_count = 0;
		timer_stop(lapic);
	}
}

static void write_svr(struct lapic *lapic, uint32_t value)
{
	lapic->svr = value & SVR_WRITABLE;
	if (!(lapic->svr & SVR_ENABLE)) {
		for (unsigned int i = 0; i < LAPIC_N_LVT; i++)
			lapic->lvt[i] |= LVT_MASKED;
		return;
	}
	kick_if_pending(lapic);
}

static void write_tpr(struct lapic *lapic, uint8_t value)
{
	lapic->tpr = value;
	kick_if_pending(lapic);
}

static void write_esr(struct lapic *lapic)
{
	lapic->esr_seen = lapic->esr_new;
	lapic->esr_new = 0;
}

static void write_init_count(struct lapic *lapic, uint32_t value)
{
	if (timer_mode(lapic) == LVT_DEADLINE)
		return;
	lapic->init_count = value;
	timer_start(lapic);
}

/* Read what exists in both modes. Return: false if there is no such register. */
static bool read_common(const struct lapic *lapic, unsigned int reg,
			uint32_t *ret_value)
{
	switch (reg) {
	case REG_VERSION:
		*ret_value = VERSION | (LAPIC_N_LVT - 1) << 16;
		return true;
	case REG_TPR:
		*ret_value = lapic->tpr;
		return true;
	case REG_PPR:
		*ret_value = lapic_ppr(lapic);
		return true;
	case REG_SVR:
		*ret_value = lapic->svr;
		return true;
	case REG_ESR:
		*ret_value = lapic->esr_seen;
		return true;
	case REG_INIT_COUNT:
		*ret_value = lapic->init_count;
		return true;
	case REG_CUR_COUNT:
		*ret_value = timer_current(lapic);
		return true;
	case REG_DIVIDE:
		*ret_value = lapic->divide;
		return true;
	default:
		break;
	}

	if (reg >= REG_ISR && reg < REG_ISR + 8)
		*ret_value = set_word(lapic->isr, reg - REG_ISR);
	else if (reg >= REG_TMR && reg < REG_TMR + 8)
		*ret_value = set_word(lapic->tmr, reg - REG_TMR);
	else if (reg >= REG_IRR && reg < REG_IRR + 8)
		*ret_value = set_word(lapic->irr, reg - REG_IRR);
	else if (reg >= REG_LVT_TIMER && reg <= REG_LVT_ERROR)
		*ret_value = lapic->lvt[reg - REG_LVT_TIMER];
	else
		return false;
	return true;
}

/* Write what exists in both modes, reserved bits already dealt with. */
static bool write_common(struct lapic *lapic, unsigned int reg, uint32_t value)
{
	switch (reg) {
	case REG_TPR:
		write_tpr(lapic, (uint8_t)value);
		return true;
	case REG_EOI:
		end_of_interrupt(lapic);
		return true;
	case REG_SVR:
		write_svr(lapic, value);
		return true;
	case REG_ESR:
		write_esr(lapic);
		return true;
	case REG_INIT_COUNT:
		write_init_count(lapic, value);
		return true;
	case REG_DIVIDE:
		timer_set_divide(lapic, value);
		return true;
	default:
		break;
	}
	if (reg < REG_LVT_TIMER || reg > REG_LVT_ERROR)
		return false;
	write_lvt(lapic, reg - REG_LVT_TIMER, value);
	return true;
}

/* xAPIC: registers in memory. */

static uint32_t mmio_read_reg(struct lapic *lapic, unsigned int reg)
{
	uint32_t value = 0;

	switch (reg) {
	case REG_ID:
		return lapic->id << 24;
	case REG_LDR:
		return lapic->ldr;
	case REG_DFR:
		return lapic->dfr;
	case REG_ICR_LOW:
		return (uint32_t)lapic->icr;
	case REG_ICR_HIGH:
		return (uint32_t)(lapic->icr >> 32);
	case REG_EOI:
	case REG_APR:
	case REG_RRD:
		return 0;
	default:
		break;
	}
	if (!read_common(lapic, reg, &value))
		raise_error(lapic, ESR_REGISTER);
	return value;
}

static void mmio_write_reg(struct lapic *lapic, unsigned int reg, uint32_t value)
{
	uint64_t high = lapic->icr & ~(uint64_t)UINT32_MAX;

	switch (reg) {
	case REG_LDR:
		lapic->ldr = value & UINT32_C(0xff000000);
		return;
	case REG_DFR:
		lapic->dfr = value | DFR_FIXED_1;
		return;
	case REG_ICR_LOW:
		lapic->icr = (high | value) & ICR_WRITABLE_X1;
		send_ipi(lapic);
		return;
	case REG_ICR_HIGH:
		lapic->icr = ((uint64_t)value << 32 | (uint32_t)lapic->icr) &
			     ICR_WRITABLE_X1;
		return;
	case REG_ID:
	case REG_VERSION:
	case REG_APR:
	case REG_PPR:
	case REG_RRD:
	case REG_CUR_COUNT:
		return; /* read-only */
	default:
		break;
	}
	if (reg >= REG_ISR && reg < REG_ESR)
		return;
	if (!write_common(lapic, reg, value))
		raise_error(lapic, ESR_REGISTER);
}

uint64_t lapic_mmio_read(struct lapic *lapic, uint64_t off, unsigned int size)
{
	unsigned int shift = (unsigned int)(off & 0xf) * 8;

	lapic->stats.accesses++;
	/* Only bytes 0 to 3 of each 16 are there; the rest reads as zero. */
	if (shift >= 32)
		return 0;

	uint64_t value = mmio_read_reg(lapic, (unsigned int)(off >> 4)) >> shift;

	return size >= 8 ? value : value & ((UINT64_C(1) << (size * 8)) - 1);
}

void lapic_mmio_write(struct lapic *lapic, uint64_t off, unsigned int size,
		      uint64_t value)
{
	lapic->stats.accesses++;
	if ((off & 0xf) == 0 && size >= 4)
		mmio_write_reg(lapic, (unsigned int)(off >> 4), (uint32_t)value);
}

/* x2APIC: registers as MSRs; what is reserved faults. */

static bool x2_read(struct lapic *lapic, unsigned int reg, uint64_t *ret_value)
{
	uint32_t value;

	switch (reg) {
	case REG_ID:
		*ret_value = lapic->id;
		return true;
	case REG_LDR:
		*ret_value = x2_ldr(lapic);
		return true;
	case REG_ICR_LOW:
		*ret_value = lapic->icr;
		return true;
	default:
		break;
	}
	if (!read_common(lapic, reg, &value))
		return false;
	*ret_value = value;
	return true;
}

/* Bits of a register that may be ones in a write; 0 if it cannot be written. */
static uint32_t x2_writable(unsigned int reg)
{
	switch (reg) {
	case REG_TPR:
		return 0xff;
	case REG_SVR:
		return SVR_WRITABLE;
	case REG_INIT_COUNT:
		return UINT32_MAX;
	case REG_DIVIDE:
		return 0xb;
	case REG_SELF_IPI:
		return 0xff;
	default:
		break;
	}
	if (reg >= REG_LVT_TIMER && reg <= REG_LVT_ERROR)
		/* Delivery status and remote IRR are read-only and ignored. */
		return lvt_writable[reg - REG_LVT_TIMER] | 1 << 12 | 1 << 14;
	return 0;
}

static bool x2_write(struct lapic *lapic, unsigned int reg, uint64_t value)
{
	if (reg == REG_ICR_LOW) {
		if (value & ~(ICR_WRITABLE_X2 | ICR_STATUS))
			return false;
		lapic->icr = value & ICR_WRITABLE_X2;
		send_ipi(lapic);
		return true;
	}
	if (reg == REG_EOI || reg == REG_ESR)
		return value == 0 && write_common(lapic, reg, 0);

	uint32_t writable = x2_writable(reg);

	if (!writable || (value & ~(uint64_t)writable))
		return false;
	if (reg != REG_SELF_IPI)
		return write_common(lapic, reg, (uint32_t)value);

	lapic->stats.ipis++;
	if (value < VECTOR_MIN)
		raise_error(lapic, ESR_SEND_VECTOR);
	else
		(void)lapic_deliver(lapic, (uint8_t)value, false);
	return true;
}

/* Base and deadline MSRs. */

static bool write_base(struct lapic *lapic, uint64_t value)
{
	uint64_t addr_mask = ((UINT64_C(1) << lapic->phys_bits) - 1) & PAGE_MASK;
	uint64_t mode = value & (LAPIC_BASE_ENABLE | LAPIC_BASE_EXTD);
	uint64_t old = lapic->base & (LAPIC_BASE_ENABLE | LAPIC_BASE_EXTD);

	if (value &
	    ~(addr_mask | LAPIC_BASE_BSP | LAPIC_BASE_EXTD | LAPIC_BASE_ENABLE))
		return false;
	if (mode == LAPIC_BASE_EXTD)
		return false;
	/* x2APIC is entered from xAPIC and left only by switching off. */
	if (mode == (LAPIC_BASE_ENABLE | LAPIC_BASE_EXTD) && old == 0)
		return false;
	if (mode == LAPIC_BASE_ENABLE && (old & LAPIC_BASE_EXTD))
		return false;

	if (mode == 0 && old != 0)
		lapic_reset(lapic);
	lapic->base = value;
	/* The two modes lay out the destination differently. */
	if (mode != old)
		lapic->icr &= UINT32_MAX;
	return true;
}

static void write_deadline(struct lapic *lapic, uint64_t value)
{
	if (timer_mode(lapic) != LVT_DEADLINE)
		return;
	lapic->tsc_deadline = value;
	lapic->timer_seq++;
	/* A deadline in the past fires at once. */
	if (value && lapic->clock->now_tsc(lapic->clock->ctx) >= value) {
		lapic->tsc_deadline = 0;
		timer_fire(lapic);
	}
}

bool lapic_msr_read(struct lapic *lapic, uint32_t msr, uint64_t *ret_value)
{
	lapic->stats.accesses++;
	switch (msr) {
	case LAPIC_MSR_BASE:
		*ret_value = lapic->base;
		return true;
	case LAPIC_MSR_TSC_DEADLINE:
		*ret_value = lapic->tsc_deadline;
		return true;
	default:
		return in_x2(lapic) &&
		       x2_read(lapic, msr - LAPIC_MSR_X2_FIRST, ret_value);
	}
}

bool lapic_msr_write(struct lapic *lapic, uint32_t msr, uint64_t value)
{
	lapic->stats.accesses++;
	switch (msr) {
	case LAPIC_MSR_BASE:
		return write_base(lapic, value);
	case LAPIC_MSR_TSC_DEADLINE:
		write_deadline(lapic, value);
		return true;
	default:
		return in_x2(lapic) &&
		       x2_write(lapic, msr - LAPIC_MSR_X2_FIRST, value);
	}
}

bool lapic_set_cr8(struct lapic *lapic, uint64_t value)
{
	if (value > 0xf)
		return false;
	write_tpr(lapic, (uint8_t)(value << 4));
	return true;
}

/* Life. */

void lapic_reset(struct lapic *lapic)
{
	lapic->tpr = 0;
	lapic->svr = SVR_RESET;
	lapic->ldr = 0;
	lapic->dfr = DFR_RESET;
	lapic->esr_seen = 0;
	lapic->esr_new = 0;
	lapic->icr = 0;
	for (unsigned int i = 0; i < LAPIC_N_LVT; i++)
		lapic->lvt[i] = LVT_MASKED;
	lapic->divide = 0;
	lapic->init_count = 0;
	timer_stop(lapic);
	for (unsigned int i = 0; i < 4; i++) {
		lapic->irr[i] = 0;
		lapic->isr[i] = 0;
		lapic->tmr[i] = 0;
	}
}

void lapic_init(struct lapic *lapic, struct apic_bus *bus,
		const struct dev_clock *clock, unsigned int cpu,
		unsigned int phys_bits)
{
	VERIFY(cpu < APIC_CPUS_MAX && phys_bits >= 32 && phys_bits <= 52);
	*lapic = (struct lapic){
		.bus = bus,
		.clock = clock,
		.cpu = cpu,
		.id = cpu,
		.phys_bits = phys_bits,
		.base = LAPIC_DEFAULT_BASE | LAPIC_BASE_ENABLE |
			(cpu == 0 ? LAPIC_BASE_BSP : 0),
	};
	lapic_reset(lapic);
	bus->lapics[cpu] = lapic;
}
