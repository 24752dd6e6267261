/* SPDX-License-Identifier: Apache-2.0 */
/* The CMOS clock [MC146818A "Real-Time Clock Plus RAM"], without alarm and interrupts. */
#include <dev/rtc.h>

#include <time.h>

enum reg {
	REG_SECONDS = 0x00,
	REG_MINUTES = 0x02,
	REG_HOURS = 0x04,
	REG_WEEKDAY = 0x06,
	REG_DAY = 0x07,
	REG_MONTH = 0x08,
	REG_YEAR = 0x09,
	REG_A = 0x0a,
	REG_B = 0x0b,
	REG_C = 0x0c,
	REG_D = 0x0d,
	REG_CENTURY = 0x32,
};

#define A_RATE \
	0x26 /* 32.768 kHz crystal, 1024 Hz rate, no update in progress */
#define B_24H    0x02
#define B_BINARY 0x04
#define B_SET    0x80
#define D_VALID  0x80
#define HOUR_PM  0x80

#define INDEX_MASK \
	0x7f /* bit 7 of the index port masks NMIs, which we ignore */
#define NS_PER_S UINT64_C(1000000000)
#define YEARS    10000 /* that century and year can tell */

static bool is_time_reg(uint8_t reg)
{
	return reg == REG_SECONDS || reg == REG_MINUTES || reg == REG_HOURS ||
	       (reg >= REG_WEEKDAY && reg <= REG_YEAR) || reg == REG_CENTURY;
}

static uint8_t encode(const struct rtc *rtc, int value)
{
	if (rtc->ram[REG_B] & B_BINARY)
		return (uint8_t)value;
	return (uint8_t)(value / 10 << 4 | value % 10);
}

static int decode(const struct rtc *rtc, uint8_t value)
{
	if (rtc->ram[REG_B] & B_BINARY)
		return value;
	return (value >> 4) * 10 + (value & 0xf);
}

static uint8_t encode_hour(const struct rtc *rtc, int hour)
{
	if (rtc->ram[REG_B] & B_24H)
		return encode(rtc, hour);
	return encode(rtc, hour % 12 ? hour % 12 : 12) |
	       (hour >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct rtc *rtc, uint8_t value)
{
	if (rtc->ram[REG_B] & B_24H)
		return decode(rtc, value);
	return decode(rtc, value & (uint8_t)~HOUR_PM) % 12 +
	       (value & HOUR_PM ? 12 : 0);
}

static time_t wall_s(const struct rtc *rtc)
{
	return (time_t)(rtc->clock->wall_ns(rtc->clock->ctx) / NS_PER_S);
}

/* Put the time that it is now into the registers. */
static void latch(struct rtc *rtc)
{
	time_t now = wall_s(rtc) + rtc->offset_s;
	struct tm tm;

	if (!gmtime_r(&now, &tm))
		return;

	/* A guest may have set it to before the year 0: the registers only go round. */
	int year = (tm.tm_year + 1900 + 10 * YEARS) % YEARS;

	rtc->ram[REG_SECONDS] = encode(rtc, tm.tm_sec);
	rtc->ram[REG_MINUTES] = encode(rtc, tm.tm_min);
	rtc->ram[REG_HOURS] = encode_hour(rtc, tm.tm_hour);
	rtc->ram[REG_WEEKDAY] = encode(rtc, tm.tm_wday + 1);
	rtc->ram[REG_DAY] = encode(rtc, tm.tm_mday);
	rtc->ram[REG_MONTH] = encode(rtc, tm.tm_mon + 1);
	rtc->ram[REG_YEAR] = encode(rtc, year % 100);
	rtc->ram[REG_CENTURY] = encode(rtc, year / 100);
}

/* Take the time that is in the registers as the time that it is now. */
static void set_from_regs(struct rtc *rtc)
{
	struct tm tm = {
		.tm_sec = decode(rtc, rtc->ram[REG_SECONDS]),
		.tm_min = decode(rtc, rtc->ram[REG_MINUTES]),
		.tm_hour = decode_hour(rtc, rtc->ram[REG_HOURS]),
		.tm_mday = decode(rtc, rtc->ram[REG_DAY]),
		.tm_mon = decode(rtc, rtc->ram[REG_MONTH]) - 1,
		.tm_year = decode(rtc, rtc->ram[REG_CENTURY]) * 100 +
			   decode(rtc, rtc->ram[REG_YEAR]) - 1900,
	};

	rtc->offset_s = timegm(&tm) - wall_s(rtc);
}

static uint8_t read_reg(struct rtc *rtc)
{
	switch (rtc->index) {
	case REG_A:
		return A_RATE;
	case REG_C:
		return 0;
	case REG_D:
		return D_VALID;
	default:
		break;
	}
	if (is_time_reg(rtc->index) && !(rtc->ram[REG_B] & B_SET))
		latch(rtc);
	return rtc->ram[rtc->index];
}

static void write_reg(struct rtc *rtc, uint8_t value)
{
	bool setting = rtc->ram[REG_B] & B_SET;

	switch (rtc->index) {
	case REG_A:
	case REG_C:
	case REG_D:
		return;
	case REG_B:
		if (!setting && (value & B_SET))
			latch(rtc);
		rtc->ram[REG_B] = value;
		if (setting && !(value & B_SET))
			set_from_regs(rtc);
		return;
	default:
		break;
	}
	if (!is_time_reg(rtc->index)) {
		rtc->ram[rtc->index] = value;
		return;
	}
	if (!setting)
		latch(rtc);
	rtc->ram[rtc->index] = value;
	if (!setting)
		set_from_regs(rtc);
}

static uint64_t rtc_read(void *ctx, uint64_t off, unsigned int size)
{
	struct rtc *rtc = ctx;

	(void)size;
	return off == 0 ? 0xff : read_reg(rtc);
}

static void rtc_write(void *ctx, uint64_t off, unsigned int size, uint64_t value)
{
	struct rtc *rtc = ctx;

	(void)size;
	if (off == 0)
		rtc->index = value & INDEX_MASK;
	else
		write_reg(rtc, (uint8_t)value);
}

const struct bus_ops rtc_bus_ops = {
	.name = "rtc",
	.max_size = 1,
	.read = rtc_read,
	.write = rtc_write,
};

void rtc_init(struct rtc *rtc, const struct dev_clock *clock)
{
	*rtc = (struct rtc){.clock = clock};
	rtc->ram[REG_B] = B_24H;
}
