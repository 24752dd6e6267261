/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC: priorities, destinations, interprocessor interrupts, and its life. */
#include <dev/lapic.h>

#include <base/verify.h>
#include <dev/lapic_impl.h>

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

uint32_t lapic_set_word(const uint64_t *set, unsigned int word)
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
void lapic_kick_if_pending(struct lapic *lapic)
{
	if (lapic_pending(lapic) >= 0)
		apic_bus_kick(lapic->bus, lapic->cpu);
}

void lapic_raise_error(struct lapic *lapic, uint32_t bit)
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
		lapic_raise_error(lapic, ESR_RECEIVE_VECTOR);
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
	lapic_kick_if_pending(lapic);
	return true;
}

void lapic_end_of_interrupt(struct lapic *lapic)
{
	int vector = set_highest(lapic->isr);

	lapic->stats.eois++;
	if (vector < 0)
		return;
	set_remove(lapic->isr, (uint8_t)vector);
	if (set_has(lapic->tmr, (uint8_t)vector))
		apic_bus_eoi(lapic->bus, (uint8_t)vector);
	lapic_kick_if_pending(lapic);
}

/* Destinations. */

uint32_t lapic_x2_ldr(const struct lapic *lapic)
{
	return lapic->id >> 4 << 16 | UINT32_C(1) << (lapic->id & 0xf);
}

static bool matches_logical(const struct lapic *lapic, uint32_t dest)
{
	if (lapic_in_x2(lapic)) {
		uint32_t ldr = lapic_x2_ldr(lapic);

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

void lapic_send_ipi(struct lapic *lapic)
{
	uint64_t icr = lapic->icr;
	enum apic_mode mode = ICR_MODE(icr);
	uint32_t dest = (uint32_t)(icr >> 32);

	lapic->stats.ipis++;
	if ((mode == APIC_MODE_FIXED || mode == APIC_MODE_LOWEST) &&
	    (icr & ICR_VECTOR) < VECTOR_MIN) {
		lapic_raise_error(lapic, ESR_SEND_VECTOR);
		return;
	}
	/* INIT level de-assert only matters for APICs on a serial bus. */
	if (mode == APIC_MODE_INIT && (icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
		return;

	if (!lapic_in_x2(lapic)) {
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
	lapic_timer_stop(lapic);
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
