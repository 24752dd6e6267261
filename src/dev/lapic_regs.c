/* SPDX-License-Identifier: Apache-2.0 */
/* The registers of the local APIC, by memory (xAPIC) and by MSR (x2APIC). */
#include <dev/lapic_impl.h>

/* Writable bits of each LVT entry [SDM3 10.5.1 "Local Vector Table"]. */
static const uint32_t lvt_writable[LAPIC_N_LVT] = {
	[LAPIC_LVT_TIMER] = LVT_VECTOR | LVT_MASKED | LVT_TIMER_MODE,
	[LAPIC_LVT_THERMAL] = LVT_VECTOR | LVT_MASKED | 0x700,
	[LAPIC_LVT_PERF] = LVT_VECTOR | LVT_MASKED | 0x700,
	[LAPIC_LVT_LINT0] = LVT_VECTOR | LVT_MASKED | 0xa700,
	[LAPIC_LVT_LINT1] = LVT_VECTOR | LVT_MASKED | 0xa700,
	[LAPIC_LVT_ERROR] = LVT_VECTOR | LVT_MASKED,
};

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
		lapic_timer_stop(lapic);
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
	lapic_kick_if_pending(lapic);
}

static void write_tpr(struct lapic *lapic, uint8_t value)
{
	lapic->tpr = value;
	lapic_kick_if_pending(lapic);
}

static void write_esr(struct lapic *lapic)
{
	lapic->esr_seen = lapic->esr_new;
	lapic->esr_new = 0;
}

static void write_init_count(struct lapic *lapic, uint32_t value)
{
	if (lapic_timer_mode(lapic) == LVT_DEADLINE)
		return;
	lapic->init_count = value;
	lapic_timer_start(lapic);
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
		*ret_value = lapic_timer_current(lapic);
		return true;
	case REG_DIVIDE:
		*ret_value = lapic->divide;
		return true;
	default:
		break;
	}

	if (reg >= REG_ISR && reg < REG_ISR + 8)
		*ret_value = lapic_set_word(lapic->isr, reg - REG_ISR);
	else if (reg >= REG_TMR && reg < REG_TMR + 8)
		*ret_value = lapic_set_word(lapic->tmr, reg - REG_TMR);
	else if (reg >= REG_IRR && reg < REG_IRR + 8)
		*ret_value = lapic_set_word(lapic->irr, reg - REG_IRR);
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
		lapic_end_of_interrupt(lapic);
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
		lapic_timer_set_divide(lapic, value);
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
		lapic_raise_error(lapic, ESR_REGISTER);
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
		lapic_send_ipi(lapic);
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
		lapic_raise_error(lapic, ESR_REGISTER);
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
		*ret_value = lapic_x2_ldr(lapic);
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
		lapic_send_ipi(lapic);
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
		lapic_raise_error(lapic, ESR_SEND_VECTOR);
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

bool lapic_msr_read(struct lapic *lapic, uint32_t msr, uint64_t *ret_value)
{
	lapic->stats.accesses++;
	switch (msr) {
	case MSR_APIC_BASE:
		*ret_value = lapic->base;
		return true;
	case MSR_TSC_DEADLINE:
		*ret_value = lapic->tsc_deadline;
		return true;
	default:
		return lapic_in_x2(lapic) &&
		       x2_read(lapic, msr - MSR_X2APIC_FIRST, ret_value);
	}
}

bool lapic_msr_write(struct lapic *lapic, uint32_t msr, uint64_t value)
{
	lapic->stats.accesses++;
	switch (msr) {
	case MSR_APIC_BASE:
		return write_base(lapic, value);
	case MSR_TSC_DEADLINE:
		lapic_timer_set_deadline(lapic, value);
		return true;
	default:
		return lapic_in_x2(lapic) &&
		       x2_write(lapic, msr - MSR_X2APIC_FIRST, value);
	}
}

bool lapic_set_cr8(struct lapic *lapic, uint64_t value)
{
	if (value > 0xf)
		return false;
	write_tpr(lapic, (uint8_t)(value << 4));
	return true;
}
