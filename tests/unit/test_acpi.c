/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables: found from the RSDP as a kernel does, checked, and read by ACPICA's iasl. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <dev/acpi.h>

static uint8_t buf[ACPI_MAX_BYTES];
static size_t len;

static struct acpi_config full_config(void)
{
	struct acpi_config cfg = {
		.n_cpus = 3,
		.has_serial = true,
		.has_rtc = true,
		.button_gsi = 21,
		.n_virtio = ACPI_VIRTIO_MAX,
	};

	for (unsigned int i = 0; i < cfg.n_virtio; i++)
		cfg.virtio[i] = (struct acpi_virtio){gpa(0xd0000000 + i * 0x1000),
						     5 + i};
	return cfg;
}

static int setup(void **state)
{
	const struct acpi_config cfg = full_config();
	struct err err;

	(void)state;
	memset(buf, 0xcc, sizeof(buf));
	return acpi_build(&cfg, gpa(ACPI_BASE), buf, sizeof(buf), &len, &err);
}

static uint64_t get(const uint8_t *at, unsigned int bytes)
{
	uint64_t v = 0;

	memcpy(&v, at, bytes);
	return v;
}

static uint8_t sum(const uint8_t *at, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s += *at++;
	return s;
}

static const uint8_t *table_at(uint64_t addr, const char *signature)
{
	assert_in_range(addr, ACPI_BASE + 36, ACPI_BASE + len - 36);
	assert_int_equal(addr & 15, 0);

	const uint8_t *t = buf + (addr - ACPI_BASE);
	uint64_t n = get(t + 4, 4);

	assert_memory_equal(t, signature, 4);
	assert_in_range(n, 36, ACPI_BASE + len - addr);
	assert_int_equal(sum(t, n), 0);
	return t;
}

static const uint8_t *from_xsdt(const char *signature)
{
	const uint8_t *xsdt = table_at(get(buf + 24, 8), "XSDT");
	uint64_t n = (get(xsdt + 4, 4) - 36) / 8;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t addr = get(xsdt + 36 + i * 8, 8);

		if (!memcmp(buf + (addr - ACPI_BASE), signature, 4))
			return table_at(addr, signature);
	}
	return NULL;
}

static void test_rsdp(void **state)
{
	(void)state;
	assert_memory_equal(buf, "RSD PTR ", 8);
	assert_int_equal(buf[15], 2);
	assert_int_equal(get(buf + 16, 4), 0);
	assert_int_equal(get(buf + 20, 4), 36);
	assert_int_equal(sum(buf, 20), 0);
	assert_int_equal(sum(buf, 36), 0);
	assert_int_equal(buf[len], 0xcc); /* nothing behind the end */
}

static void test_fadt(void **state)
{
	const uint8_t *f = from_xsdt("FACP");

	(void)state;
	assert_non_null(f);
	assert_int_equal(get(f + 4, 4), 276);
	assert_int_equal(f[8], 6);
	assert_int_equal(get(f + 140, 8), get(f + 40, 4));
	assert_non_null(table_at(get(f + 140, 8), "DSDT"));
	/* HW_REDUCED and RESET_REG; no buttons in fixed hardware. */
	assert_int_equal(get(f + 112, 4) & 0x100430, 0x100430);
	/* No legacy devices, no 8042; no VGA. */
	assert_int_equal(get(f + 109, 2) & 0x27, 0x04);
	/* Reset, sleep control and sleep status are bytes in the I/O space. */
	assert_int_equal(get(f + 116, 4), 0x01000801);
	assert_int_equal(get(f + 120, 8), 0x602);
	assert_int_equal(f[128], 1);
	assert_int_equal(get(f + 244, 4), 0x01000801);
	assert_int_equal(get(f + 248, 8), 0x600);
	assert_int_equal(get(f + 260, 8), 0x601);
	/* Nothing of the old PM hardware. */
	for (unsigned int i = 46; i < 109; i++)
		assert_int_equal(f[i], 0);
	for (unsigned int i = 148; i < 244; i++)
		assert_int_equal(f[i], 0);
}

static void test_madt(void **state)
{
	const uint8_t *m = from_xsdt("APIC");
	const uint8_t *at;
	unsigned int n_lapics = 0;
	unsigned int n_ioapics = 0;

	(void)state;
	assert_non_null(m);
	assert_int_equal(get(m + 36, 4), 0xfee00000);
	assert_int_equal(get(m + 40, 4), 0);
	for (at = m + 44; at < m + get(m + 4, 4); at += at[1]) {
		if (at[0] == 0) {
			assert_int_equal(at[3], n_lapics++);
			assert_int_equal(get(at + 4, 4), 1);
		} else {
			assert_int_equal(at[0], 1);
			assert_int_equal(get(at + 4, 4), 0xfec00000);
			assert_int_equal(get(at + 8, 4), 0);
			n_ioapics++;
		}
		assert_true(at[1] >= 8);
	}
	assert_int_equal(n_lapics, 3);
	assert_int_equal(n_ioapics, 1);
}

static void test_refuses(void **state)
{
	struct acpi_config cfg = full_config();
	uint8_t small[1024];
	struct err err;
	size_t n = 77;

	(void)state;
	assert_int_equal(acpi_build(&cfg, gpa(ACPI_BASE), small, sizeof(small),
				    &n, &err),
			 -ENOSPC);
	assert_int_equal(n, 77);
	assert_int_equal(acpi_build(&cfg, gpa(ACPI_BASE + 8), buf, sizeof(buf),
				    &n, &err),
			 -EINVAL);
	cfg.n_cpus = 0;
	assert_int_equal(acpi_build(&cfg, gpa(ACPI_BASE), buf, sizeof(buf), &n,
				    &err),
			 -EINVAL);
	cfg.n_cpus = 17;
	assert_int_equal(acpi_build(&cfg, gpa(ACPI_BASE), buf, sizeof(buf), &n,
				    &err),
			 -EINVAL);
	cfg.n_cpus = 1;
	cfg.virtio[2].base = gpa(UINT64_C(1) << 32);
	assert_int_equal(acpi_build(&cfg, gpa(ACPI_BASE), buf, sizeof(buf), &n,
				    &err),
			 -EINVAL);
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, 1 << 20);

	assert_non_null(f);
	assert_non_null(text);
	assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	return text;
}

static void check_dsl(const char *dsl, const struct acpi_config *cfg)
{
	char want[64];

	assert_non_null(strstr(dsl, "Name (\\_S5, Package (0x04)"));
	assert_non_null(strstr(dsl, "EisaId (\"PNP0501\")"));
	assert_non_null(strstr(dsl, "EisaId (\"PNP0B00\")"));
	assert_non_null(strstr(dsl, "0x03F8,             // Range Minimum"));
	assert_non_null(strstr(dsl, "EisaId (\"PNP0C0C\")"));
	assert_non_null(strstr(dsl, "\"ACPI0013\""));
	assert_non_null(strstr(dsl, "Method (_EVT, 1, Serialized)"));
	assert_non_null(strstr(dsl, "Notify (PWRB, 0x80)"));
	assert_non_null(strstr(dsl, "0x00000015,"));
	for (unsigned int i = 0; i < cfg->n_virtio; i++) {
		snprintf(want, sizeof(want), "0x%08X,         // Address Base",
			 (unsigned int)cfg->virtio[i].base.v);
		assert_non_null(strstr(dsl, want));
		snprintf(want, sizeof(want), "Device (VR%02u)", i);
		assert_non_null(strstr(dsl, want));
	}
}

/* The reference implementation must read our AML and find what we meant. */
static void test_iasl(void **state)
{
	const struct acpi_config cfg = full_config();
	const uint8_t *dsdt = table_at(get(from_xsdt("FACP") + 140, 8), "DSDT");
	char dir[] = "/tmp/mezz-acpi-XXXXXX";
	char path[64];
	char cmd[256];
	FILE *f;
	char *text;

	(void)state;
	if (system("command -v iasl >/dev/null 2>&1") != 0) {
		print_message("skipped: iasl (acpica-tools) is not installed\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/dsdt.aml", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(dsdt, 1, get(dsdt + 4, 4), f), get(dsdt + 4, 4));
	fclose(f);

	/* Disassemble, compile what came out, which also judges its sense. */
	snprintf(cmd, sizeof(cmd),
		 "cd %s && iasl -d dsdt.aml >log 2>&1 && iasl -p again dsdt.dsl >>log 2>&1",
		 dir);
	assert_int_equal(system(cmd), 0);
	snprintf(path, sizeof(path), "%s/log", dir);
	text = read_file(path);
	assert_non_null(strstr(text, "0 Errors, 0 Warnings"));
	free(text);
	snprintf(path, sizeof(path), "%s/dsdt.dsl", dir);
	text = read_file(path);
	check_dsl(text, &cfg);
	free(text);
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	assert_int_equal(system(cmd), 0);
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_rsdp),    T(test_fadt), T(test_madt),
		T(test_refuses), T(test_iasl),
	};

	return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
