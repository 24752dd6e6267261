/* SPDX-License-Identifier: Apache-2.0 */
/* The timer of the local APIC: count, period and deadline. */
#include <dev/lapic_impl.h>

#define NS_PER_S UINT64_C(1000000000)

__extension__ typedef unsigned __int128 uint128_t;

_Static_assert(LAPIC_BUS_HZ == NS_PER_S,
	       "timer counts are taken for nanoseconds");

uint32_t lapic_timer_mode(const struct lapic *lapic)
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

void lapic_timer_stop(struct lapic *lapic)
{
	lapic->timer_due_ns = LAPIC_NEVER;
	lapic->tsc_deadline = 0;
	lapic->timer_seq++;
}

void lapic_timer_start(struct lapic *lapic)
{
	lapic_timer_stop(lapic);
	if (lapic->init_count == 0)
		return;
	lapic->timer_start_ns = lapic->clock->now_ns(lapic->clock->ctx);
	lapic->timer_due_ns = lapic->timer_start_ns + timer_period_ns(lapic);
}

uint32_t lapic_timer_current(const struct lapic *lapic)
{
	if (lapic->timer_due_ns == LAPIC_NEVER)
		return 0;

	uint64_t now = lapic->clock->now_ns(lapic->clock->ctx);
	uint64_t period = timer_period_ns(lapic);
	uint64_t left;

	if (now < lapic->timer_due_ns)
		left = lapic->timer_due_ns - now;
	else if (lapic_timer_mode(lapic) == LVT_PERIODIC)
		left = period - (now - lapic->timer_due_ns) % period;
	else
		return 0;
	return (uint32_t)((left + timer_divisor(lapic) - 1) /
			  timer_divisor(lapic));
}

/* A new divisor applies from now on; the count goes on from where it is. */
void lapic_timer_set_divide(struct lapic *lapic, uint32_t value)
{
	uint32_t left = lapic_timer_current(lapic);

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

	if (lapic_timer_mode(lapic) == LVT_PERIODIC) {
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

void lapic_timer_set_deadline(struct lapic *lapic, uint64_t value)
{
	if (lapic_timer_mode(lapic) != LVT_DEADLINE)
		return;
	lapic->tsc_deadline = value;
	lapic->timer_seq++;
	/* A deadline in the past fires at once. */
	if (value && lapic->clock->now_tsc(lapic->clock->ctx) >= value) {
		lapic->tsc_deadline = 0;
		timer_fire(lapic);
	}
}
