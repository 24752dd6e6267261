/* SPDX-License-Identifier: Apache-2.0 */
/* Strict parsing: the whole text counts, and a unit is never guessed. */
#include <base/units.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <base/types.h>

#define SIZE_MAX_BYTES (UINT64_C(1) << 62)
#define YEAR_MS        (UINT64_C(366) * 24 * 3600 * 1000)
#define FRACTION_ONE   1000000u

/* Above 64 bits before the check whether an amount fits. */
__extension__ typedef unsigned __int128 wide_t;

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Return the number of digits read, or -1 on overflow. */
static int digits_parse(const char *text, uint64_t *ret)
{
	uint64_t v = 0;
	int n;

	for (n = 0; is_digit(text[n]); n++) {
		if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
		    __builtin_add_overflow(v, (uint64_t)(text[n] - '0'), &v))
			return -1;
	}
	*ret = v;
	return n;
}

int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
		 struct err *err)
{
	uint64_t v = 0;
	int n = digits_parse(text, &v);

	if (n == 0 || (n > 0 && text[n]))
		return err_set(err, -EINVAL, "\"%.40s\" is not a whole number",
			       text);
	if (n < 0 || v < min || v > max)
		return err_set(err, -ERANGE,
			       "%.40s is not in %" PRIu64 "..%" PRIu64, text,
			       min, max);
	*ret = v;
	return 0;
}

/* Millionths; further digits must be zero, or the amount would silently change. */
static int fraction_parse(const char **text, uint32_t *ret_millionths)
{
	const char *p = *text;
	uint32_t v = 0, unit = FRACTION_ONE;

	if (*p != '.') {
		*ret_millionths = 0;
		return 0;
	}
	p++;
	if (!is_digit(*p))
		return -EINVAL;
	for (; is_digit(*p); p++) {
		unit /= 10;
		if (unit == 0 && *p != '0')
			return -EINVAL;
		v += unit * (uint32_t)(*p - '0');
	}
	*text = p;
	*ret_millionths = v;
	return 0;
}

static int unit_shift(const char *unit)
{
	static const char letters[] = "KMGT";
	const char *p;

	if (!strcmp(unit, "B"))
		return 0;
	if (!unit[0])
		return -1;
	p = strchr(letters, unit[0] >= 'a' && unit[0] <= 'z' ? unit[0] - 'a' + 'A'
							     : unit[0]);
	if (!p)
		return -1;
	if (unit[1] && strcasecmp(unit + 1, "B") && strcasecmp(unit + 1, "iB"))
		return -1;
	return 10 * (int)(p - letters + 1);
}

static int size_parse_default(const char *text, const char *unit,
			      uint64_t *ret_bytes, struct err *err)
{
	uint64_t whole = 0;
	uint32_t millionths;
	int n = digits_parse(text, &whole);
	const char *p = text + (n > 0 ? n : 0);
	wide_t bytes;
	int shift;

	if (n == 0)
		return err_set(err, -EINVAL,
			       "\"%.40s\" is not a size such as 512MiB", text);
	if (n < 0)
		return err_set(err, -ERANGE, "size %.40s is too large", text);
	if (fraction_parse(&p, &millionths) < 0)
		return err_set(err, -EINVAL,
			       "size %.40s: at most six decimals, please", text);
	if (!*p && whole == 0 && millionths == 0) {
		*ret_bytes = 0;
		return 0;
	}
	if (!*p && !millionths)
		p = unit;
	if (!*p)
		return err_set(err, -EINVAL,
			       "size %.40s has no unit; write %.40sMiB or %.40sGiB",
			       text, text, text);
	shift = unit_shift(p);
	if (shift < 0)
		return err_set(
			err, -EINVAL,
			"size %.40s: unknown unit \"%.20s\" (B, KiB, MiB, GiB, TiB)",
			text, p);
	bytes = ((wide_t)whole << shift) +
		(((wide_t)millionths << shift) + FRACTION_ONE - 1) /
			FRACTION_ONE;
	if (bytes > SIZE_MAX_BYTES)
		return err_set(err, -ERANGE, "size %.40s is too large", text);
	*ret_bytes = (uint64_t)bytes;
	return 0;
}

int size_parse(const char *text, uint64_t *ret_bytes, struct err *err)
{
	return size_parse_default(text, "", ret_bytes, err);
}

int size_parse_bytes(const char *text, uint64_t *ret_bytes, struct err *err)
{
	return size_parse_default(text, "B", ret_bytes, err);
}

int size_parse_pages(const char *text, uint64_t *ret_pages, struct err *err)
{
	uint64_t bytes;
	int r = size_parse(text, &bytes, err);

	if (r < 0)
		return r;
	*ret_pages = (bytes + PAGE_SIZE - 1) / PAGE_SIZE;
	return 0;
}

const char *size_format(uint64_t bytes, char buf[UNITS_TEXT])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	unsigned int u = 0;

	while (bytes && !(bytes & 1023) && u < ARRAY_SIZE(units) - 1) {
		bytes >>= 10;
		u++;
	}
	snprintf(buf, UNITS_TEXT, "%" PRIu64 "%s", bytes, units[u]);
	return buf;
}

const char *pages_format(uint64_t pages, char buf[UNITS_TEXT])
{
	if (pages % MIB_PAGES == 0)
		snprintf(buf, UNITS_TEXT, "%" PRIu64 " MiB", pages / MIB_PAGES);
	else
		snprintf(buf, UNITS_TEXT, "%" PRIu64 ".%02" PRIu64 " MiB",
			 pages / MIB_PAGES, pages % MIB_PAGES * 100 / MIB_PAGES);
	return buf;
}

int duration_parse(const char *text, uint64_t *ret_ms, struct err *err)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = {
		{"ms", 1},      {"s", 1000},    {"", 1000},
		{"min", 60000}, {"h", 3600000},
	};
	uint64_t v = 0;
	int n = digits_parse(text, &v);

	if (n == 0)
		return err_set(err, -EINVAL,
			       "\"%.40s\" is not a duration such as 15s", text);
	for (size_t i = 0; n > 0 && i < ARRAY_SIZE(units); i++) {
		if (strcmp(text + n, units[i].name))
			continue;
		if (v > YEAR_MS / units[i].ms) {
			n = -1;
			break;
		}
		*ret_ms = v * units[i].ms;
		return 0;
	}
	if (n < 0 || v > YEAR_MS)
		return err_set(err, -ERANGE,
			       "duration %.40s is too long: at most a year",
			       text);
	return err_set(err, -EINVAL,
		       "duration %.40s: unknown unit \"%.20s\" (ms, s, min, h)",
		       text, text + n);
}
