/* SPDX-License-Identifier: Apache-2.0 */
/* The 16550A serial port: registers, queues and the interrupt line. */
#include <dev/serial.h>

enum port {
	PORT_DATA, /* RBR, THR; divisor low */
	PORT_IER,  /* divisor high */
	PORT_IIR,  /* FCR */
	PORT_LCR,
	PORT_MCR,
	PORT_LSR,
	PORT_MSR,
	PORT_SCR,
};

#define IER_RX          0x01
#define IER_TX          0x02
#define IER_LINE        0x04
#define IER_MODEM       0x08
#define IER_WRITABLE    0x0f

#define IIR_NONE        0x01
#define IIR_MODEM       0x00
#define IIR_TX          0x02
#define IIR_RX          0x04
#define IIR_LINE        0x06
#define IIR_TIMEOUT     0x0c
#define IIR_FIFO        0xc0

#define FCR_ENABLE      0x01
#define FCR_CLEAR_RX    0x02
#define FCR_CLEAR_TX    0x04
#define FCR_TRIGGER     0xc0

#define LCR_DLAB        0x80

#define MCR_DTR         0x01
#define MCR_RTS         0x02
#define MCR_OUT1        0x04
#define MCR_OUT2        0x08
#define MCR_LOOP        0x10
#define MCR_WRITABLE    0x1f

#define LSR_DATA        0x01
#define LSR_OVERRUN     0x02
#define LSR_TX_IDLE     0x60 /* holding and shift register empty */

#define MSR_DCTS        0x01
#define MSR_DDSR        0x02
#define MSR_TERI        0x04
#define MSR_DDCD        0x08
#define MSR_CTS         0x10
#define MSR_DSR         0x20
#define MSR_RI          0x40
#define MSR_DCD         0x80

#define CHIP_FIFO_BYTES 16
#define ROOM_BYTES      (SERIAL_RX_BYTES / 2)
#define DIVISOR_9600    12
#define LISTEN_POLLS    16
#define LISTEN_ACCESSES 64

static uint32_t rx_trigger(const struct serial *serial)
{
	static const uint8_t levels[4] = {1, 4, 8, 14};

	return serial->fcr & FCR_ENABLE ? levels[serial->fcr >> 6] : 1;
}

/* What the IIR shows: the most urgent cause that is enabled. */
static uint8_t pending_cause(const struct serial *serial)
{
	if ((serial->ier & IER_LINE) && serial->overrun)
		return IIR_LINE;
	if ((serial->ier & IER_RX) && serial->rx_count >= rx_trigger(serial))
		return IIR_RX;
	if ((serial->ier & IER_RX) && serial->rx_count)
		return IIR_TIMEOUT;
	if ((serial->ier & IER_TX) && serial->thre_pending)
		return IIR_TX;
	if ((serial->ier & IER_MODEM) && serial->msr)
		return IIR_MODEM;
	return IIR_NONE;
}

static void update_line(struct serial *serial)
{
	bool high = pending_cause(serial) != IIR_NONE;

	if (high == serial->line_high)
		return;
	serial->line_high = high;
	serial->stats.irqs += high;
	irq_set(&serial->irq, high);
}

/* Receiver. */

static void rx_put(struct serial *serial, uint8_t byte, uint32_t depth)
{
	if (serial->rx_count >= depth) {
		serial->overrun = true;
		return;
	}
	serial->rx[(serial->rx_head + serial->rx_count) % SERIAL_RX_BYTES] = byte;
	serial->rx_count++;
	serial->rx_burst++;
}

/*
 * A driver probes with the receive interrupt on, and empties the queue before it says that the
 * terminal is ready (DTR): what came before that would be lost. One that never says so has the
 * interrupt on for long; one without interrupts looks at the line status again and again, where
 * one that sends looks once a byte.
 */
static bool listens(const struct serial *serial)
{
	if (!(serial->ier & IER_RX))
		return serial->polls >= LISTEN_POLLS;
	if (serial->mcr & MCR_DTR)
		return serial->mcr &
		       MCR_RTS; /* which it lowers if it has no room */
	return serial->accesses >= LISTEN_ACCESSES;
}

static void tell_room(struct serial *serial)
{
	if (!serial->room_wanted || serial_room(serial) < ROOM_BYTES)
		return;
	serial->room_wanted = false;
	if (serial->ops->room)
		serial->ops->room(serial->ctx);
}

/* The driver sees that nothing is there, and is about to do something else. */
static void end_burst(struct serial *serial)
{
	serial->rx_burst = 0;
	tell_room(serial);
}

static uint8_t rx_get(struct serial *serial)
{
	if (!serial->rx_count)
		return 0;

	uint8_t byte = serial->rx[serial->rx_head];

	serial->rx_head = (serial->rx_head + 1) % SERIAL_RX_BYTES;
	serial->rx_count--;
	serial->stats.rx_bytes++;
	update_line(serial);
	return byte;
}

size_t serial_room(const struct serial *serial)
{
	/* In loopback the wire from outside is cut; let the bytes wait there. */
	if (serial->mcr & MCR_LOOP || !listens(serial))
		return 0;
	return serial->rx_burst < SERIAL_RX_BYTES
		       ? SERIAL_RX_BYTES - serial->rx_burst
		       : 0;
}

size_t serial_receive(struct serial *serial, const uint8_t *bytes, size_t len)
{
	size_t room = serial_room(serial);
	size_t n = len < room ? len : room;

	for (size_t i = 0; i < n; i++)
		rx_put(serial, bytes[i], SERIAL_RX_BYTES);
	if (n < len)
		serial->room_wanted = true;
	update_line(serial);
	return n;
}

/* Transmitter. */

bool serial_unsent(const struct serial *serial)
{
	return serial->tx_count;
}

void serial_flush(struct serial *serial)
{
	uint32_t len = serial->tx_count;

	if (!len)
		return;
	serial->tx_count = 0;
	serial->stats.tx_flushes++;
	serial->ops->transmit(serial->ctx, serial->tx, len);
}

static void tx_put(struct serial *serial, uint8_t byte)
{
	if (serial->mcr & MCR_LOOP) {
		rx_put(serial, byte,
		       serial->fcr & FCR_ENABLE ? CHIP_FIFO_BYTES : 1);
	} else {
		serial->polls = 0;
		serial->stats.tx_bytes++;
		serial->tx[serial->tx_count++] = byte;
		if (byte == '\n' || serial->tx_count == SERIAL_TX_BYTES)
			serial_flush(serial);
	}

	/* It is full and empty again at once: the line falls and rises for the next byte. */
	serial->thre_pending = false;
	update_line(serial);
	serial->thre_pending = true;
	update_line(serial);
}

/* Modem lines. */

static uint8_t modem_levels(const struct serial *serial)
{
	uint8_t mcr = serial->mcr;

	if (!(mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
	       (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void write_mcr(struct serial *serial, uint8_t value)
{
	uint8_t old = modem_levels(serial);

	serial->mcr = value & MCR_WRITABLE;

	uint8_t now = modem_levels(serial);
	uint8_t changed = old ^ now;

	serial->msr |= (changed & MSR_CTS ? MSR_DCTS : 0) |
		       (changed & MSR_DSR ? MSR_DDSR : 0) |
		       (old & ~now & MSR_RI ? MSR_TERI : 0) |
		       (changed & MSR_DCD ? MSR_DDCD : 0);
	update_line(serial);
	tell_room(serial);
}

/* Registers. */

static void write_fcr(struct serial *serial, uint8_t value)
{
	/* Switching the FIFOs on or off empties them. */
	if ((serial->fcr ^ value) & FCR_ENABLE)
		value |= FCR_CLEAR_RX;
	if (value & FCR_CLEAR_RX) {
		serial->rx_head = 0;
		serial->rx_count = 0;
		serial->rx_burst = 0;
	}
	serial->fcr = value & (FCR_ENABLE | FCR_TRIGGER);
	update_line(serial);
	tell_room(serial);
}

static void write_ier(struct serial *serial, uint8_t value)
{
	/* Enabling the transmitter interrupt while it is empty raises it. */
	if ((value & IER_TX) && !(serial->ier & IER_TX))
		serial->thre_pending = true;
	if (!(serial->ier & IER_RX))
		serial->accesses = 0;
	serial->ier = value & IER_WRITABLE;
	update_line(serial);
	tell_room(serial);
}

static uint8_t read_iir(struct serial *serial)
{
	uint8_t cause = pending_cause(serial);

	if (cause == IIR_TX) {
		serial->thre_pending = false;
		update_line(serial);
	}
	if (cause != IIR_NONE) {
		serial->told_cause = true;
	} else {
		serial->loops |= serial->told_cause;
		serial->told_cause = false;
		if (!serial->rx_count)
			end_burst(serial);
	}
	return cause | (serial->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct serial *serial)
{
	uint8_t value = LSR_TX_IDLE;

	if (serial->rx_count)
		value |= LSR_DATA;
	else if (!serial->loops || !(serial->ier & IER_RX))
		end_burst(serial);
	if (serial->overrun) {
		value |= LSR_OVERRUN;
		serial->overrun = false;
		update_line(serial);
	}
	if (serial->polls < LISTEN_POLLS)
		serial->polls++;
	tell_room(serial);
	return value;
}

static uint8_t read_msr(struct serial *serial)
{
	uint8_t value = serial->msr | modem_levels(serial);

	serial->msr = 0;
	update_line(serial);
	return value;
}

static void count_access(struct serial *serial)
{
	if (serial->accesses < LISTEN_ACCESSES)
		serial->accesses++;
}

static uint64_t serial_read(void *ctx, uint64_t off, unsigned int size)
{
	struct serial *serial = ctx;
	bool dlab = serial->lcr & LCR_DLAB;

	(void)size;
	count_access(serial);
	switch ((enum port)off) {
	case PORT_DATA:
		return dlab ? serial->divisor & 0xff : rx_get(serial);
	case PORT_IER:
		return dlab ? serial->divisor >> 8 : serial->ier;
	case PORT_IIR:
		return read_iir(serial);
	case PORT_LCR:
		return serial->lcr;
	case PORT_MCR:
		return serial->mcr;
	case PORT_LSR:
		return read_lsr(serial);
	case PORT_MSR:
		return read_msr(serial);
	case PORT_SCR:
		return serial->scr;
	}
	return 0xff;
}

static void serial_write(void *ctx, uint64_t off, unsigned int size,
			 uint64_t value)
{
	struct serial *serial = ctx;
	bool dlab = serial->lcr & LCR_DLAB;
	uint8_t byte = (uint8_t)value;

	(void)size;
	count_access(serial);
	switch ((enum port)off) {
	case PORT_DATA:
		if (dlab)
			serial->divisor = (serial->divisor & 0xff00) | byte;
		else
			tx_put(serial, byte);
		break;
	case PORT_IER:
		if (dlab)
			serial->divisor = (uint16_t)(byte << 8) |
					  (serial->divisor & 0xff);
		else
			write_ier(serial, byte);
		break;
	case PORT_IIR:
		write_fcr(serial, byte);
		break;
	case PORT_LCR:
		serial->lcr = byte;
		break;
	case PORT_MCR:
		write_mcr(serial, byte);
		break;
	case PORT_SCR:
		serial->scr = byte;
		break;
	case PORT_LSR:
	case PORT_MSR:
		break; /* read-only */
	}
}

const struct bus_ops serial_bus_ops = {
	.name = "serial",
	.max_size = 1,
	.read = serial_read,
	.write = serial_write,
};

void serial_init(struct serial *serial, const struct irq_line *irq,
		 const struct serial_ops *ops, void *ctx)
{
	*serial = (struct serial){
		.irq = *irq,
		.ops = ops,
		.ctx = ctx,
		.divisor = DIVISOR_9600,
	};
}
