/* SPDX-License-Identifier: Apache-2.0 */
/* A port by which a test program ends its VM with a status. Only there if asked for. */
#ifndef DEV_DEBUG_EXIT_H
#define DEV_DEBUG_EXIT_H
#include <base/types.h>
#include <dev/bus.h>

#define DEBUG_EXIT_PORT  0xf4
#define DEBUG_EXIT_PORTS 4

/**
 * struct debug_exit - the port; embedded in the VM.
 * @request: the guest wrote v: end the run with @status = (v << 1) | 1
 * @ctx: for @request
 */
struct debug_exit {
	void (*request)(void *ctx, int status);
	void *ctx;
};

/* For bus_add_pio(bus, DEBUG_EXIT_PORT, DEBUG_EXIT_PORTS, …, debug_exit). */
extern const struct bus_ops debug_exit_bus_ops;

#endif
