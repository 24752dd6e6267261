/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O APIC [82093AA "I/O Advanced Programmable Interrupt Controller"]. */
#include <dev/ioapic.h>

#define REG_SELECT     0x00
#define REG_WINDOW     0x10
#define REG_EOI        0x40

#define IDX_ID         0x00
#define IDX_VERSION    0x01
#define IDX_ARB        0x02
#define IDX_ENTRIES    0x10

#define VERSION        0x20

#define RTE_VECTOR     UINT64_C(0xff)
#define RTE_MODE(e)    ((enum apic_mode)(((e) >> 8) & 7))
#define RTE_LOGICAL    (UINT64_C(1) << 11)
#define RTE_STATUS     (UINT64_C(1) << 12)
#define RTE_REMOTE_IRR (UINT64_C(1) << 14)
#define RTE_LEVEL      (UINT64_C(1) << 15)
#define RTE_MASKED     (UINT64_C(1) << 16)
#define RTE_DEST(e)    ((uint32_t)((e) >> 56))
#define RTE_WRITABLE   UINT64_C(0xff0000000001afff)
#define ID_WRITABLE    UINT32_C(0x0f000000)

static bool rte_is_level(uint64_t entry)
{
	/* Modes other than fixed and lowest priority are edge-triggered whatever is set. */
	return (entry & RTE_LEVEL) && (RTE_MODE(entry) == APIC_MODE_FIXED ||
				       RTE_MODE(entry) == APIC_MODE_LOWEST);
}

static bool send(struct ioapic *ioapic, uint64_t entry)
{
	uint32_t dest = RTE_DEST(entry);

	return apic_bus_send(ioapic->bus,
			     &(struct apic_msg){
				     .dest = dest == 0xff ? APIC_DEST_ALL : dest,
				     .logical = entry & RTE_LOGICAL,
				     .mode = RTE_MODE(entry),
				     .vector = entry & RTE_VECTOR,
				     .level = rte_is_level(entry),
			     });
}

/* A level-triggered pin sends while its line is high and no earlier message is unfinished. */
static void service_level(struct ioapic *ioapic, unsigned int pin)
{
	uint64_t entry = ioapic->entries[pin];

	if (!rte_is_level(entry) || (entry & (RTE_MASKED | RTE_REMOTE_IRR)) ||
	    !(ioapic->lines & (UINT32_C(1) << pin)))
		return;

	ioapic->stats.levels++;
	/*
	 * Set first: the receiver may end it before this returns. A message that nobody
	 * took has no end to wait for.
	 */
	ioapic->entries[pin] |= RTE_REMOTE_IRR;
	if (!send(ioapic, entry))
		ioapic->entries[pin] &= ~RTE_REMOTE_IRR;
}

void ioapic_set(void *ctx, unsigned int pin, bool level)
{
	struct ioapic *ioapic = ctx;

	if (pin >= IOAPIC_PINS)
		return;

	uint32_t bit = UINT32_C(1) << pin;
	bool rising = level && !(ioapic->lines & bit);
	uint64_t entry = ioapic->entries[pin];

	if (level)
		ioapic->lines |= bit;
	else
		ioapic->lines &= ~bit;

	if (rte_is_level(entry)) {
		service_level(ioapic, pin);
	} else if (rising && (entry & RTE_MASKED)) {
		ioapic->stats.masked++;
	} else if (rising) {
		ioapic->stats.edges++;
		send(ioapic, entry);
	}
}

/* The end of a level-triggered interrupt reached it. */
static void ioapic_eoi(struct ioapic *ioapic, uint8_t vector)
{
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t entry = ioapic->entries[pin];

		if (!(entry & RTE_REMOTE_IRR) || (entry & RTE_VECTOR) != vector)
			continue;
		ioapic->stats.eois++;
		ioapic->entries[pin] &= ~RTE_REMOTE_IRR;
		service_level(ioapic, pin);
	}
}

static void eoi_from_bus(void *ctx, uint8_t vector)
{
	ioapic_eoi(ctx, vector);
}

static void write_entry(struct ioapic *ioapic, unsigned int pin, bool high,
			uint32_t value)
{
	uint64_t old = ioapic->entries[pin];
	uint64_t entry = high ? (old & UINT32_MAX) | (uint64_t)value << 32
			      : (old & ~(uint64_t)UINT32_MAX) | value;

	entry = (entry & RTE_WRITABLE) | (old & RTE_REMOTE_IRR);
	/* Changing a pin to edge ends what was in flight; kernels rely on it to clear it. */
	if (!rte_is_level(entry))
		entry &= ~RTE_REMOTE_IRR;
	ioapic->entries[pin] = entry;
	service_level(ioapic, pin);
}

static uint32_t read_window(const struct ioapic *ioapic)
{
	unsigned int idx = ioapic->select;

	switch (idx) {
	case IDX_ID:
	case IDX_ARB:
		return ioapic->id;
	case IDX_VERSION:
		return VERSION | (IOAPIC_PINS - 1) << 16;
	default:
		break;
	}

	unsigned int pin = (idx - IDX_ENTRIES) / 2;

	if (idx < IDX_ENTRIES || pin >= IOAPIC_PINS)
		return 0;
	return (uint32_t)(ioapic->entries[pin] >> (idx & 1 ? 32 : 0));
}

static void write_window(struct ioapic *ioapic, uint32_t value)
{
	unsigned int idx = ioapic->select;
	unsigned int pin = (idx - IDX_ENTRIES) / 2;

	if (idx == IDX_ID)
		ioapic->id = value & ID_WRITABLE;
	else if (idx >= IDX_ENTRIES && pin < IOAPIC_PINS)
		write_entry(ioapic, pin, idx & 1, value);
}

static uint64_t ioapic_read(void *ctx, uint64_t off, unsigned int size)
{
	const struct ioapic *ioapic = ctx;

	(void)size;
	switch (off) {
	case REG_SELECT:
		return ioapic->select;
	case REG_WINDOW:
		return read_window(ioapic);
	default:
		return 0;
	}
}

static void ioapic_write(void *ctx, uint64_t off, unsigned int size,
			 uint64_t value)
{
	struct ioapic *ioapic = ctx;

	switch (off) {
	case REG_SELECT:
		ioapic->select = value & 0xff;
		break;
	case REG_WINDOW:
		/* The window is 32 bits wide; narrower stores are undefined. */
		if (size == 4)
			write_window(ioapic, (uint32_t)value);
		break;
	case REG_EOI:
		ioapic_eoi(ioapic, value & 0xff);
		break;
	default:
		break;
	}
}

const struct bus_ops ioapic_bus_ops = {
	.name = "ioapic",
	.max_size = 4,
	.read = ioapic_read,
	.write = ioapic_write,
};

void ioapic_init(struct ioapic *ioapic, struct apic_bus *bus)
{
	*ioapic = (struct ioapic){.bus = bus};
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++)
		ioapic->entries[pin] = RTE_MASKED;
	bus->eoi = eoi_from_bus;
	bus->eoi_ctx = ioapic;
}
