/* SPDX-License-Identifier: Apache-2.0 */
/* The 16550A as drivers probe and use it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dev/serial.h>

enum {
	DATA,
	IER,
	IIR,
	LCR,
	MCR,
	LSR,
	MSR,
	SCR,
};

struct fixture {
	struct serial port;
	bool line;
	unsigned int edges;
	uint8_t sent[2048];
	size_t n_sent;
	unsigned int rooms;
};

static void on_irq(void *ctx, unsigned int gsi, bool level)
{
	struct fixture *f = ctx;

	assert_int_equal(gsi, 4);
	f->edges += level && !f->line;
	f->line = level;
}

static void on_transmit(void *ctx, const uint8_t *bytes, size_t len)
{
	struct fixture *f = ctx;

	assert_true(f->n_sent + len <= sizeof(f->sent));
	memcpy(f->sent + f->n_sent, bytes, len);
	f->n_sent += len;
}

static void on_room(void *ctx)
{
	((struct fixture *)ctx)->rooms++;
}

static const struct serial_ops ops = {on_transmit, on_room};

static int setup(void **state)
{
	static struct fixture f;
	const struct irq_line irq = {on_irq, &f, SERIAL_COM1_GSI};

	f = (struct fixture){0};
	serial_init(&f.port, &irq, &ops, &f);
	*state = &f;
	return 0;
}

static uint8_t rd(struct fixture *f, unsigned int reg)
{
	return (uint8_t)serial_bus_ops.read(&f->port, reg, 1);
}

static void wr(struct fixture *f, unsigned int reg, uint8_t value)
{
	serial_bus_ops.write(&f->port, reg, 1, value);
}

static void test_power_on(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rd(f, LSR), 0x60);
	assert_int_equal(rd(f, MSR), 0xb0);
	assert_int_equal(rd(f, IIR), 0x01);
	assert_int_equal(rd(f, IER), 0);
	wr(f, SCR, 0xa5);
	assert_int_equal(rd(f, SCR), 0xa5);
	wr(f, IER, 0xff); /* only four bits are there */
	assert_int_equal(rd(f, IER), 0x0f);
}

static void test_divisor(void **state)
{
	struct fixture *f = *state;

	wr(f, LCR, 0x83);
	wr(f, DATA, 0x01);
	wr(f, IER, 0x02);
	assert_int_equal(rd(f, DATA), 0x01);
	assert_int_equal(rd(f, IER), 0x02);
	wr(f, LCR, 0x03);
	assert_int_equal(rd(f, IER), 0);
	assert_int_equal(f->n_sent, 0);
	assert_int_equal(rd(f, LCR), 0x03);
}

static void test_transmit(void **state)
{
	struct fixture *f = *state;

	wr(f, DATA, 'h');
	wr(f, DATA, 'i');
	assert_int_equal(f->n_sent, 0); /* gathered */
	wr(f, DATA, '\n');
	assert_memory_equal(f->sent, "hi\n", 3);
	assert_int_equal(f->n_sent, 3);
	wr(f, DATA, '$');
	serial_flush(&f->port);
	assert_int_equal(f->n_sent, 4);
	serial_flush(&f->port);
	assert_int_equal(f->port.stats.tx_flushes, 2);
	for (unsigned int i = 0; i < SERIAL_TX_BYTES; i++)
		wr(f, DATA, 'x');
	assert_int_equal(f->n_sent, 4 + SERIAL_TX_BYTES);
	assert_int_equal(rd(f, LSR), 0x60);
}

/* Linux tests for a bug: enabling the interrupt twice must show it twice. */
static void test_transmit_interrupt(void **state)
{
	struct fixture *f = *state;

	wr(f, IER, 0x02);
	assert_true(f->line);
	assert_int_equal(rd(f, IIR), 0x02);
	assert_false(f->line); /* reading it was the acknowledgement */
	assert_int_equal(rd(f, IIR), 0x01);
	wr(f, IER, 0x00);
	wr(f, IER, 0x02);
	assert_int_equal(rd(f, IIR), 0x02);
	/* Each byte gives a new edge. */
	assert_int_equal(f->edges, 2);
	wr(f, DATA, 'a');
	assert_int_equal(f->edges, 3);
	wr(f, DATA, 'b');
	assert_int_equal(f->edges, 4);
	assert_true(f->line);
	wr(f, IER, 0);
	assert_false(f->line);
}

static void test_receive(void **state)
{
	struct fixture *f = *state;

	wr(f, IIR, 0x81); /* FIFO, trigger at 8 */
	wr(f, MCR, 0x0b);
	wr(f, IER, 0x01);
	assert_int_equal(serial_receive(&f->port, (const uint8_t *)"abc", 3), 3);
	assert_true(f->line);
	assert_int_equal(rd(f, IIR), 0xcc); /* timeout: below the trigger */
	assert_int_equal(serial_receive(&f->port, (const uint8_t *)"defgh", 5),
			 5);
	assert_int_equal(rd(f, IIR), 0xc4);
	assert_int_equal(rd(f, LSR), 0x61);
	for (const char *c = "abcdefgh"; *c; c++)
		assert_int_equal(rd(f, DATA), *c);
	assert_false(f->line);
	assert_int_equal(rd(f, IIR), 0xc1);
	assert_int_equal(rd(f, LSR), 0x60);
	assert_int_equal(rd(f, DATA), 0);
}

static void test_flow(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[SERIAL_RX_BYTES + 10];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	wr(f, MCR, 0x0b);
	wr(f, IER, 0x01);
	assert_int_equal(serial_room(&f->port), SERIAL_RX_BYTES);
	assert_int_equal(serial_receive(&f->port, bytes, sizeof(bytes)),
			 SERIAL_RX_BYTES);
	assert_int_equal(serial_room(&f->port), 0);
	for (unsigned int i = 0; i < SERIAL_RX_BYTES; i++) {
		assert_int_equal(rd(f, DATA), bytes[i]);
		assert_int_equal(serial_room(&f->port), 0);
	}
	/* Not before it has seen that there is no more. */
	assert_int_equal(f->rooms, 0);
	assert_int_equal(rd(f, LSR), 0x60); /* nothing was lost */
	assert_int_equal(f->rooms, 1);
	assert_int_equal(serial_room(&f->port), SERIAL_RX_BYTES);
}

/* As Linux has it: until nothing is pending. Return: bytes, or -1 if it gives up before that. */
static int handle_interrupt(struct fixture *f, bool refill)
{
	const uint8_t bytes[SERIAL_RX_BYTES] = {0};
	int n = 0;

	for (unsigned int passes = 0; passes < 512; passes++) {
		if (rd(f, IIR) & 1)
			return n;
		for (unsigned int i = 0; i < 256 && rd(f, LSR) & 1; i++) {
			rd(f, DATA);
			n++;
			if (refill)
				serial_receive(&f->port, bytes, sizeof(bytes));
		}
		rd(f, MSR);
	}
	return -1;
}

/* However fast bytes come, a handler gets to its end, and none is lost between two. */
static void test_handler_ends(void **state)
{
	struct fixture *f = *state;
	const uint8_t bytes[SERIAL_RX_BYTES] = {0};

	wr(f, IIR, 0x81);
	wr(f, MCR, 0x0b);
	wr(f, IER, 0x01);
	/* It is seen to look again at its first interrupt. */
	assert_int_equal(serial_receive(&f->port, bytes, 1), 1);
	assert_int_equal(handle_interrupt(f, false), 1);
	for (unsigned int i = 0; i < 20; i++) {
		f->rooms = 0;
		assert_int_equal(serial_receive(&f->port, bytes, 100), 100);
		assert_true(f->line);
		assert_int_equal(handle_interrupt(f, true), SERIAL_RX_BYTES);
		assert_false(f->line);
		assert_int_equal(f->rooms, 1);
	}
}

/* Who never asks what the interrupt was for has seen the end in the line status. */
static void test_handler_without_iir(void **state)
{
	struct fixture *f = *state;
	const uint8_t bytes[SERIAL_RX_BYTES] = {0};

	rd(f, IIR);
	wr(f, MCR, 0x0b);
	wr(f, IER, 0x01);
	for (unsigned int i = 0; i < 20; i++) {
		f->rooms = 0;
		assert_int_equal(serial_receive(&f->port, bytes, sizeof(bytes)),
				 sizeof(bytes));
		assert_int_equal(serial_receive(&f->port, bytes, 1), 0);
		while (rd(f, LSR) & 1)
			rd(f, DATA);
		assert_int_equal(f->rooms, 1);
	}
}

/* A driver that starts throws away what is in the queue: nothing is put there before. */
static void test_not_before_it_listens(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(serial_receive(&f->port, (const uint8_t *)"x", 1), 0);
	wr(f, IER, 0x0f); /* is there such a register? */
	rd(f, IER);
	assert_int_equal(serial_room(&f->port), 0);
	wr(f, IER, 0);
	wr(f, IIR, 0x07);
	rd(f, LSR);
	wr(f, IER, 0x05);
	wr(f, IIR, 0x01);
	assert_int_equal(f->rooms, 0);
	wr(f, MCR, 0x0b); /* ready */
	assert_int_equal(f->rooms, 1);
	assert_int_equal(serial_receive(&f->port, (const uint8_t *)"x", 1), 1);
	assert_int_equal(rd(f, DATA), 'x');
	wr(f, MCR, 0x09); /* RTS falls: no room */
	assert_int_equal(serial_receive(&f->port, (const uint8_t *)"x", 1), 0);
	wr(f, MCR, 0x0b);
	assert_int_equal(f->rooms, 2);
	wr(f, IER, 0);
	assert_int_equal(serial_room(&f->port), 0);
}

/* Some drivers use the interrupt and never say that they are ready. */
static void test_without_dtr(void **state)
{
	struct fixture *f = *state;

	wr(f, IER, 0x01);
	assert_int_equal(serial_receive(&f->port, (const uint8_t *)"x", 1), 0);
	for (unsigned int i = 0; i < 100; i++) {
		rd(f, LSR);
		wr(f, DATA, 'a');
	}
	assert_int_equal(f->rooms, 1);
	assert_int_equal(serial_receive(&f->port, (const uint8_t *)"x", 1), 1);
}

/* One without interrupts asks again and again; who sends asks once for each byte. */
static void test_polling(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(serial_receive(&f->port, (const uint8_t *)"x", 1), 0);
	for (unsigned int i = 0; i < 100; i++) {
		rd(f, LSR);
		wr(f, DATA, 'a');
	}
	assert_int_equal(serial_room(&f->port), 0);
	for (unsigned int i = 0; i < 100; i++)
		rd(f, LSR);
	assert_int_equal(f->rooms, 1);
	assert_int_equal(serial_receive(&f->port, (const uint8_t *)"x", 1), 1);
	assert_int_equal(rd(f, LSR), 0x61);
	assert_int_equal(rd(f, DATA), 'x');
}

static void test_loopback(void **state)
{
	struct fixture *f = *state;

	/* As Linux does it: OUT2 and RTS come back as DCD and CTS. */
	wr(f, MCR, 0x1a);
	assert_int_equal(rd(f, MSR) & 0xf0, 0x90);
	wr(f, MCR, 0x15);
	assert_int_equal(rd(f, MSR) & 0xf0, 0x60);
	wr(f, MCR, 0x11); /* RI fell: trailing edge */
	assert_int_equal(rd(f, MSR), 0x24);
	assert_int_equal(rd(f, MSR), 0x20);

	/* Data comes back, 16 bytes with FIFO, more overruns. */
	wr(f, IIR, 0x01);
	for (unsigned int i = 0; i < 16; i++)
		wr(f, DATA, (uint8_t)i);
	assert_int_equal(rd(f, LSR), 0x61);
	wr(f, DATA, 99);
	assert_int_equal(rd(f, LSR), 0x63);
	assert_int_equal(rd(f, LSR), 0x61);
	assert_int_equal(f->n_sent, 0);
	assert_int_equal(serial_receive(&f->port, (const uint8_t *)"x", 1), 0);
	for (unsigned int i = 0; i < 16; i++)
		assert_int_equal(rd(f, DATA), i);
	assert_int_equal(f->rooms, 0);
	wr(f, IER, 0x01);
	assert_int_equal(f->rooms, 0);
	wr(f, MCR, 0x0b);
	assert_int_equal(f->rooms, 1); /* the wire is whole again */
	assert_int_equal(rd(f, MCR), 0x0b);
}

static void test_modem_and_line_interrupts(void **state)
{
	struct fixture *f = *state;

	wr(f, IER, 0x0c);
	assert_false(f->line);
	wr(f, MCR, 0x10); /* CTS, DSR and DCD fall */
	assert_true(f->line);
	assert_int_equal(rd(f, IIR), 0x00);
	assert_int_equal(rd(f, MSR), 0x0b);
	assert_false(f->line);
	wr(f, DATA, 1);
	wr(f, DATA, 2); /* no FIFO: one byte deep */
	assert_int_equal(rd(f, IIR), 0x06);
	assert_int_equal(rd(f, LSR), 0x63);
	assert_int_equal(rd(f, IIR), 0x01);
	assert_int_equal(rd(f, DATA), 1);
}

static void test_fifo_clear(void **state)
{
	struct fixture *f = *state;

	wr(f, IIR, 0x01);
	assert_int_equal(rd(f, IIR) & 0xc0, 0xc0);
	wr(f, MCR, 0x0b);
	wr(f, IER, 0x01);
	serial_receive(&f->port, (const uint8_t *)"abc", 3);
	wr(f, IIR, 0x03);
	assert_int_equal(rd(f, LSR), 0x60);
	assert_false(f->line);
	serial_receive(&f->port, (const uint8_t *)"abc", 3);
	wr(f, IIR, 0x00); /* switching off empties, too */
	assert_int_equal(rd(f, LSR), 0x60);
	assert_int_equal(rd(f, IIR), 0x01);
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_power_on),
		T(test_divisor),
		T(test_transmit),
		T(test_transmit_interrupt),
		T(test_receive),
		T(test_flow),
		T(test_handler_ends),
		T(test_handler_without_iir),
		T(test_not_before_it_listens),
		T(test_without_dtr),
		T(test_polling),
		T(test_loopback),
		T(test_modem_and_line_interrupts),
		T(test_fifo_clear),
	};

	return cmocka_run_group_tests_name("serial", tests, NULL, NULL);
}
