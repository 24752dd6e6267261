/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CMOS clock at ports 0x70 and 0x71, for guests that read the time of day there and
 * would else wait a second for it. It runs on the VM's wall clock; a guest that sets it
 * gets an offset of its own. No alarm and no interrupts.
 */
#ifndef DEV_RTC_H
#define DEV_RTC_H
#include <base/types.h>
#include <dev/bus.h>
#include <dev/clock.h>

#define RTC_PORT  0x70
#define RTC_PORTS 2

/**
 * struct rtc - the clock; embedded in the VM. Members are private.
 * @clock: wall clock
 * @offset_s: seconds that the guest is ahead of it
 * @index: selected register
 * @ram: registers and battery-backed bytes; the time is here only while it is being set
 */
struct rtc {
	const struct dev_clock *clock;
	int64_t offset_s;
	uint8_t index;
	uint8_t ram[128];
};

/* For bus_add_pio(bus, RTC_PORT, RTC_PORTS, …, rtc). */
extern const struct bus_ops rtc_bus_ops;

/**
 * rtc_init() - a clock that shows the wall clock's time, UTC, 24 hours, BCD.
 * @rtc: to initialize
 * @clock: its wall_ns is used
 */
void rtc_init(struct rtc *rtc, const struct dev_clock *clock);

#endif
