/* SPDX-License-Identifier: Apache-2.0 */
/* The exit port of test programs. */
#include <dev/debug_exit.h>

static uint64_t debug_exit_read(void *ctx, uint64_t off, unsigned int size)
{
	(void)ctx;
	(void)off;
	(void)size;
	return 0;
}

static void debug_exit_write(void *ctx, uint64_t off, unsigned int size,
			     uint64_t value)
{
	struct debug_exit *port = ctx;

	(void)size;
	if (off == 0)
		port->request(port->ctx, (int)((uint32_t)value << 1 | 1));
}

const struct bus_ops debug_exit_bus_ops = {
	.name = "debug-exit",
	.max_size = 4,
	.read = debug_exit_read,
	.write = debug_exit_write,
};
