/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A serial port.
 *
 * Output: what the guest sends is gathered and handed to ops->transmit at a newline,
 * when the buffer is full, and at serial_flush(), which the caller makes whenever the
 * processor is about to sleep and at least every few milliseconds. For the guest the
 * transmitter is always empty, so it never waits.
 *
 * Input: serial_receive() takes as many bytes as fit, none before the guest listens: it is ready
 * and its receive interrupt is on, or it polls. ops->room tells that there is room again.
 * The receive queue is deeper than the 16 bytes of the chip so that a paste
 * costs few interrupts. The character timeout of the chip is immediate.
 *
 * A line is slow, and a driver may rely on that: its interrupt handler goes on until nothing is
 * pending. Bytes that came as fast as it reads would keep it there, with everything else
 * of the guest waiting, until it gives up and loses them. So it gets a queue full at most
 * before it has seen that there is nothing.
 */
#ifndef DEV_SERIAL_H
#define DEV_SERIAL_H
#include <base/types.h>
#include <dev/bus.h>
#include <dev/irq.h>

#define SERIAL_COM1_PORT 0x3f8
#define SERIAL_COM1_GSI  4
#define SERIAL_PORTS     8

#define SERIAL_RX_BYTES  256
#define SERIAL_TX_BYTES  512

/**
 * struct serial_ops - the other end of the wire.
 * @transmit: bytes from the guest
 * @room: serial_receive() would take something again; may be NULL
 */
struct serial_ops {
	void (*transmit)(void *ctx, const uint8_t *bytes, size_t len);
	void (*room)(void *ctx);
};

/**
 * struct serial_stats - counters.
 * @tx_bytes: sent by the guest
 * @tx_flushes: calls of ops->transmit
 * @rx_bytes: read by the guest
 * @irqs: times the interrupt line rose
 */
struct serial_stats {
	uint64_t tx_bytes;
	uint64_t tx_flushes;
	uint64_t rx_bytes;
	uint64_t irqs;
};

/**
 * struct serial - one port; embedded in the VM. Members are private.
 * @irq: interrupt line
 * @ops: other end
 * @ctx: for @ops
 * @ier: interrupt enable register
 * @fcr: FIFO control, the bits that stay
 * @lcr: line control
 * @mcr: modem control
 * @msr: deltas of the modem status; the levels are derived
 * @scr: scratch
 * @divisor: divisor latch
 * @thre_pending: the transmitter-empty interrupt is due
 * @overrun: a byte was lost, tell in the line status
 * @line_high: level of @irq
 * @room_wanted: serial_receive() was refused something
 * @polls: reads of the line status since a byte was sent, up to what counts as listening
 * @accesses: to registers since the receive interrupt was switched on, likewise
 * @told_cause: the last read of the interrupt identification told a cause
 * @loops: the driver reads that again after a cause, until there is none
 * @rx_burst: bytes put into the queue since the driver last saw that there was nothing
 * @rx: ring of received bytes
 * @rx_head: index of the oldest
 * @rx_count: how many
 * @tx: gathered output
 * @tx_count: how much
 * @stats: counters
 */
struct serial {
	struct irq_line irq;
	const struct serial_ops *ops;
	void *ctx;
	uint8_t ier;
	uint8_t fcr;
	uint8_t lcr;
	uint8_t mcr;
	uint8_t msr;
	uint8_t scr;
	uint16_t divisor;
	bool thre_pending;
	bool overrun;
	bool line_high;
	bool room_wanted;
	uint8_t polls;
	uint8_t accesses;
	bool told_cause;
	bool loops;
	uint32_t rx_burst;
	uint8_t rx[SERIAL_RX_BYTES];
	uint32_t rx_head;
	uint32_t rx_count;
	uint8_t tx[SERIAL_TX_BYTES];
	uint32_t tx_count;
	struct serial_stats stats;
};

/* For bus_add_pio(bus, SERIAL_COM1_PORT, SERIAL_PORTS, …, serial). */
extern const struct bus_ops serial_bus_ops;

/**
 * serial_init() - power-on state.
 * @serial: to initialize
 * @irq: interrupt line, copied
 * @ops: constant table
 * @ctx: for @ops
 */
void serial_init(struct serial *serial, const struct irq_line *irq,
		 const struct serial_ops *ops, void *ctx);

/** serial_room() - how many bytes serial_receive() would take now. */
size_t serial_room(const struct serial *serial);

/**
 * serial_receive() - bytes arrive from outside.
 * @serial: the port
 * @bytes: what
 * @len: how many
 *
 * Return: how many were taken. If fewer than @len, ops->room follows later.
 */
size_t serial_receive(struct serial *serial, const uint8_t *bytes, size_t len);

/** serial_unsent() - whether there is something that serial_flush() would hand out. */
bool serial_unsent(const struct serial *serial);

/** serial_flush() - hand out what the guest has sent so far. */
void serial_flush(struct serial *serial);

#endif
