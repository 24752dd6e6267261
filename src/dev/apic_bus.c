/* SPDX-License-Identifier: Apache-2.0 */
/* Routing of interrupt messages between the I/O APIC and local APICs. */
#include <dev/apic_bus.h>

#include <dev/lapic.h>

void apic_bus_init(struct apic_bus *bus, const struct apic_bus_ops *ops,
		   void *ctx)
{
	*bus = (struct apic_bus){.ops = ops, .ctx = ctx};
}

void apic_bus_kick(struct apic_bus *bus, unsigned int cpu)
{
	if (bus->ops->kick)
		bus->ops->kick(bus->ctx, cpu);
}

void apic_bus_eoi(struct apic_bus *bus, uint8_t vector)
{
	if (bus->eoi)
		bus->eoi(bus->eoi_ctx, vector);
}

bool apic_bus_deliver(struct apic_bus *bus, unsigned int cpu,
		      const struct apic_msg *msg)
{
	struct lapic *lapic = bus->lapics[cpu];

	if (!lapic || !(lapic->base & LAPIC_BASE_ENABLE))
		return false;

	switch (msg->mode) {
	case APIC_MODE_FIXED:
	case APIC_MODE_LOWEST:
		return lapic_deliver(lapic, msg->vector, msg->level);
	case APIC_MODE_NMI:
		if (bus->ops->nmi)
			bus->ops->nmi(bus->ctx, cpu);
		return true;
	case APIC_MODE_INIT:
		lapic_reset(lapic);
		if (bus->ops->init)
			bus->ops->init(bus->ctx, cpu);
		return true;
	case APIC_MODE_SIPI:
		if (bus->ops->sipi)
			bus->ops->sipi(bus->ctx, cpu, msg->vector);
		return true;
	case APIC_MODE_SMI:
	case APIC_MODE_RESERVED:
	case APIC_MODE_EXTINT:
		break;
	}
	bus->stats.unsupported++;
	return false;
}

/*
 * The receiver with the lowest processor priority; among equals in turn, so that one
 * processor does not get everything.
 */
static bool send_lowest(struct apic_bus *bus, const struct apic_msg *msg)
{
	unsigned int best = APIC_CPUS_MAX;

	for (unsigned int i = 0; i < APIC_CPUS_MAX; i++) {
		unsigned int cpu = (bus->next_lowest + i) % APIC_CPUS_MAX;
		const struct lapic *lapic = bus->lapics[cpu];

		if (!lapic || !lapic_matches(lapic, msg->dest, msg->logical) ||
		    !lapic_is_enabled(lapic))
			continue;
		if (best == APIC_CPUS_MAX ||
		    lapic_ppr(lapic) < lapic_ppr(bus->lapics[best]))
			best = cpu;
	}
	if (best == APIC_CPUS_MAX)
		return false;
	bus->next_lowest = (best + 1) % APIC_CPUS_MAX;
	return apic_bus_deliver(bus, best, msg);
}

static bool send_all(struct apic_bus *bus, const struct apic_msg *msg)
{
	bool accepted = false;

	for (unsigned int cpu = 0; cpu < APIC_CPUS_MAX; cpu++) {
		const struct lapic *lapic = bus->lapics[cpu];

		if (lapic && lapic_matches(lapic, msg->dest, msg->logical))
			accepted |= apic_bus_deliver(bus, cpu, msg);
	}
	return accepted;
}

bool apic_bus_send(struct apic_bus *bus, const struct apic_msg *msg)
{
	bus->stats.messages++;

	bool accepted = msg->mode == APIC_MODE_LOWEST ? send_lowest(bus, msg)
						      : send_all(bus, msg);

	if (!accepted)
		bus->stats.unclaimed++;
	return accepted;
}
