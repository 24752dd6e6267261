/* SPDX-License-Identifier: Apache-2.0 */
/* Hardware-reduced ACPI tables, with a small AML writer for the DSDT. */
#include <dev/acpi.h>

#include <errno.h>
#include <string.h>

#include <base/verify.h>
#include <dev/apic_bus.h>
#include <dev/ioapic.h>
#include <dev/lapic.h>
#include <dev/power.h>
#include <dev/rtc.h>
#include <dev/serial.h>
#include <dev/virtio_mmio.h>

_Static_assert(ACPI_VIRTIO_MAX >= VIRTIO_MMIO_SLOTS, "every slot can be told");

/* Where tables are made. Once it does not fit, nothing more is stored, but counted. */
struct out {
	uint8_t *buf;
	size_t room;
	size_t len;
};

static void put(struct out *out, const void *bytes, size_t n)
{
	if (out->len + n <= out->room)
		memcpy(out->buf + out->len, bytes, n);
	out->len += n;
}

static void put8(struct out *out, uint8_t v)
{
	put(out, &v, sizeof(v));
}

static void put16(struct out *out, uint16_t v)
{
	put(out, &v, sizeof(v));
}

static void put32(struct out *out, uint32_t v)
{
	put(out, &v, sizeof(v));
}

static void put64(struct out *out, uint64_t v)
{
	put(out, &v, sizeof(v));
}

static void put_zeros(struct out *out, size_t n)
{
	while (n--)
		put8(out, 0);
}

static void put_align(struct out *out, size_t align)
{
	put_zeros(out, -out->len & (align - 1));
}

static void patch(struct out *out, size_t at, const void *bytes, size_t n)
{
	if (at + n <= out->room)
		memcpy(out->buf + at, bytes, n);
}

static void patch_checksum(struct out *out, size_t start, size_t end, size_t at)
{
	uint8_t sum = 0;

	if (end > out->room)
		return;
	for (size_t i = start; i < end; i++)
		sum += out->buf[i];
	out->buf[at] = (uint8_t)(out->buf[at] - sum);
}

/* System description tables [ACPI 6.3 5.2.6 "System Description Table Header"]. */

#define HEADER_LENGTH_AT   4
#define HEADER_CHECKSUM_AT 9

#define OEM_ID             "MEZZ  "
#define OEM_TABLE_ID       "MEZZANIN"

static size_t table_begin(struct out *out, const char *signature,
			  uint8_t revision)
{
	put_align(out, 16);

	size_t start = out->len;

	put(out, signature, 4);
	put32(out, 0); /* length */
	put8(out, revision);
	put8(out, 0); /* checksum */
	put(out, OEM_ID, 6);
	put(out, OEM_TABLE_ID, 8);
	put32(out, 1); /* OEM revision */
	put(out, "MEZZ", 4);
	put32(out, 1); /* creator revision */
	return start;
}

static void table_end(struct out *out, size_t start)
{
	uint32_t len = (uint32_t)(out->len - start);

	patch(out, start + HEADER_LENGTH_AT, &len, sizeof(len));
	patch_checksum(out, start, out->len, start + HEADER_CHECKSUM_AT);
}

/* AML [ACPI 6.3 20.2 "AML Grammar Definition"]. */

#define AML_ZERO       0x00
#define AML_ONE        0x01
#define AML_NAME       0x08
#define AML_BYTE       0x0a
#define AML_DWORD      0x0c
#define AML_STRING     0x0d
#define AML_SCOPE      0x10
#define AML_BUFFER     0x11
#define AML_PACKAGE    0x12
#define AML_METHOD     0x14
#define AML_NOTIFY     0x86
#define AML_EXT        0x5b
#define AML_EXT_DEVICE 0x82

/*
 * A package starts with its own length, in 1 to 4 bytes. Always take two: enough for
 * 4095 bytes, which no package of ours but the outermost scope comes near, and three
 * for that one.
 */
struct package {
	size_t at;
	unsigned int len_bytes;
};

static struct package package_begin(struct out *out, unsigned int len_bytes)
{
	struct package pkg = {.at = out->len, .len_bytes = len_bytes};

	put_zeros(out, len_bytes);
	return pkg;
}

static void package_end(struct out *out, struct package pkg)
{
	size_t len = out->len - pkg.at;
	uint8_t bytes[4] = {
		(uint8_t)((pkg.len_bytes - 1) << 6 | (len & 0xf)),
		(uint8_t)(len >> 4),
		(uint8_t)(len >> 12),
	};

	VERIFY(pkg.len_bytes >= 2 && pkg.len_bytes <= 3);
	VERIFY(len >> (pkg.len_bytes * 8 - 4) == 0);
	patch(out, pkg.at, bytes, pkg.len_bytes);
}

static void aml_name(struct out *out, const char *name)
{
	put8(out, AML_NAME);
	put(out, name, strlen(name));
}

static void aml_integer(struct out *out, uint32_t v)
{
	if (v <= 1) {
		put8(out, v ? AML_ONE : AML_ZERO);
	} else if (v <= 0xff) {
		put8(out, AML_BYTE);
		put8(out, (uint8_t)v);
	} else {
		put8(out, AML_DWORD);
		put32(out, v);
	}
}

static void aml_string(struct out *out, const char *text)
{
	put8(out, AML_STRING);
	put(out, text, strlen(text) + 1);
}

/* "PNP0501" as EISA packs it: three letters of five bits, four hex digits. */
static void aml_eisa_id(struct out *out, const char *letters, uint16_t number)
{
	uint16_t packed = (uint16_t)((letters[0] - '@') << 10 |
				     (letters[1] - '@') << 5 |
				     (letters[2] - '@'));

	put8(out, AML_DWORD);
	put8(out, packed >> 8);
	put8(out, packed & 0xff);
	put8(out, number >> 8);
	put8(out, number & 0xff);
}

static struct package aml_device_begin(struct out *out, const char *name)
{
	put8(out, AML_EXT);
	put8(out, AML_EXT_DEVICE);

	struct package pkg = package_begin(out, 2);

	put(out, name, 4);
	return pkg;
}

/* Resource descriptors [ACPI 6.3 6.4 "Resource Data Types for ACPI"]. */

#define RES_IO              0x47
#define RES_END             0x79
#define RES_MEMORY32_FIXED  0x86
#define RES_INTERRUPT       0x89

#define RES_IO_BYTES        8
#define RES_MEMORY32_BYTES  12
#define RES_INTERRUPT_BYTES 9
#define RES_END_BYTES       2

#define INTERRUPT_CONSUMER  0x01
#define INTERRUPT_EDGE      0x02

static struct package crs_begin(struct out *out, uint8_t bytes)
{
	aml_name(out, "_CRS");
	put8(out, AML_BUFFER);

	struct package pkg = package_begin(out, 2);

	aml_integer(out, bytes + RES_END_BYTES);
	return pkg;
}

static void crs_end(struct out *out, struct package pkg)
{
	put8(out, RES_END);
	put8(out, 0); /* no checksum */
	package_end(out, pkg);
}

static void res_interrupt(struct out *out, uint32_t gsi)
{
	put8(out, RES_INTERRUPT);
	put16(out, RES_INTERRUPT_BYTES - 3);
	/* Active high, exclusive. */
	put8(out, INTERRUPT_CONSUMER | INTERRUPT_EDGE);
	put8(out, 1);
	put32(out, gsi);
}

static void res_io(struct out *out, uint16_t port, uint8_t ports)
{
	put8(out, RES_IO);
	put8(out, 1); /* decodes 16 bits */
	put16(out, port);
	put16(out, port);
	put8(out, 1); /* alignment */
	put8(out, ports);
}

static void put_serial_device(struct out *out)
{
	struct package dev = aml_device_begin(out, "COM1");

	aml_name(out, "_HID");
	aml_eisa_id(out, "PNP", 0x0501);
	aml_name(out, "_UID");
	aml_integer(out, 0);

	struct package crs = crs_begin(out, RES_IO_BYTES + RES_INTERRUPT_BYTES);

	res_io(out, SERIAL_COM1_PORT, SERIAL_PORTS);
	res_interrupt(out, SERIAL_COM1_GSI);
	crs_end(out, crs);
	package_end(out, dev);
}

/*
 * Without an interrupt. If it is not described at all, Linux takes the clock of every PC, whose
 * interrupt 8 there is none of, and has no /dev/rtc0.
 */
static void put_rtc_device(struct out *out)
{
	struct package dev = aml_device_begin(out, "RTC_");

	aml_name(out, "_HID");
	aml_eisa_id(out, "PNP", 0x0b00);
	aml_name(out, "_UID");
	aml_integer(out, 0);

	struct package crs = crs_begin(out, RES_IO_BYTES);

	res_io(out, RTC_PORT, RTC_PORTS);
	crs_end(out, crs);
	package_end(out, dev);
}

static void put_virtio_device(struct out *out, unsigned int idx,
			      const struct acpi_virtio *virtio)
{
	const char name[] = {'V', 'R', (char)('0' + idx / 10),
			     (char)('0' + idx % 10), 0};
	struct package dev = aml_device_begin(out, name);

	aml_name(out, "_HID");
	aml_string(out, "LNRO0005");
	aml_name(out, "_UID");
	aml_integer(out, idx);
	aml_name(out, "_CCA");
	aml_integer(out, 1);

	struct package crs = crs_begin(out, RES_MEMORY32_BYTES +
						    RES_INTERRUPT_BYTES);

	put8(out, RES_MEMORY32_FIXED);
	put16(out, RES_MEMORY32_BYTES - 3);
	put8(out, 1); /* writable */
	put32(out, (uint32_t)virtio->base.v);
	put32(out, (uint32_t)VIRTIO_MMIO_SLOT_BYTES);
	res_interrupt(out, virtio->gsi);
	crs_end(out, crs);
	package_end(out, dev);
}

#define METHOD_ONE_ARG        1
#define METHOD_SERIALIZED     (1 << 3)
#define NOTIFY_BUTTON_PRESSED 0x80

static void put_power_button(struct out *out, uint32_t gsi)
{
	struct package dev = aml_device_begin(out, "PWRB");

	aml_name(out, "_HID");
	aml_eisa_id(out, "PNP", 0x0c0c);
	aml_name(out, "_UID");
	aml_integer(out, 0);
	package_end(out, dev);

	dev = aml_device_begin(out, "GED_");
	aml_name(out, "_HID");
	aml_string(out, "ACPI0013");
	aml_name(out, "_UID");
	aml_integer(out, 0);

	struct package crs = crs_begin(out, RES_INTERRUPT_BYTES);

	res_interrupt(out, gsi);
	crs_end(out, crs);

	/* There is one interrupt, so its argument, the GSI, need not be looked at. */
	put8(out, AML_METHOD);

	struct package method = package_begin(out, 2);

	put(out, "_EVT", 4);
	put8(out, METHOD_ONE_ARG | METHOD_SERIALIZED);
	put8(out, AML_NOTIFY);
	put(out, "PWRB", 4);
	aml_integer(out, NOTIFY_BUTTON_PRESSED);
	package_end(out, method);
	package_end(out, dev);
}

static size_t put_dsdt(struct out *out, const struct acpi_config *cfg)
{
	size_t start = table_begin(out, "DSDT", 2);

	aml_name(out, "\\_S5_");
	put8(out, AML_PACKAGE);

	struct package s5 = package_begin(out, 2);

	put8(out, 4);
	aml_integer(out, POWER_SLEEP_TYPE_S5);
	aml_integer(out, 0);
	aml_integer(out, 0);
	aml_integer(out, 0);
	package_end(out, s5);

	put8(out, AML_SCOPE);

	struct package scope = package_begin(out, 3);

	put(out, "\\_SB_", 5);
	if (cfg->has_serial)
		put_serial_device(out);
	if (cfg->has_rtc)
		put_rtc_device(out);
	if (cfg->button_gsi)
		put_power_button(out, cfg->button_gsi);
	for (unsigned int i = 0; i < cfg->n_virtio; i++)
		put_virtio_device(out, i, &cfg->virtio[i]);
	package_end(out, scope);

	table_end(out, start);
	return start;
}

/* Fixed tables. */

#define FADT_BYTES         276
#define FADT_WBINVD        (UINT32_C(1) << 0)
#define FADT_PROC_C1       (UINT32_C(1) << 2)
#define FADT_NO_PWR_BUTTON (UINT32_C(1) << 4)
#define FADT_NO_SLP_BUTTON (UINT32_C(1) << 5)
#define FADT_RESET_REG     (UINT32_C(1) << 10)
#define FADT_HW_REDUCED    (UINT32_C(1) << 20)
/* No legacy devices, no 8042, no VGA to probe for; a CMOS clock there is. */
#define FADT_BOOT_NO_VGA (1 << 2)
#define FADT_BOOT_NO_MSI (1 << 3)
#define PROFILE_SERVER   4

#define GAS_SYSTEM_IO    1
#define GAS_BYTE_ACCESS  1

static void put_gas_port(struct out *out, uint16_t port)
{
	put8(out, GAS_SYSTEM_IO);
	put8(out, 8); /* bits wide */
	put8(out, 0); /* bit offset */
	put8(out, GAS_BYTE_ACCESS);
	put64(out, port);
}

static size_t put_fadt(struct out *out, uint64_t dsdt)
{
	size_t start = table_begin(out, "FACP", 6);

	put32(out, 0); /* FACS: none with reduced hardware */
	put32(out, (uint32_t)dsdt);
	put8(out, 0);
	put8(out, PROFILE_SERVER);
	put_zeros(out, start + 109 - out->len); /* SCI, SMI, PM and GPE blocks */
	put16(out, FADT_BOOT_NO_VGA | FADT_BOOT_NO_MSI);
	put8(out, 0);
	put32(out, FADT_WBINVD | FADT_PROC_C1 | FADT_NO_PWR_BUTTON |
			   FADT_NO_SLP_BUTTON | FADT_RESET_REG |
			   FADT_HW_REDUCED);
	put_gas_port(out, POWER_PORT + POWER_RESET_REG);
	put8(out, POWER_RESET_VALUE);
	put16(out, 0); /* ARM boot flags */
	put8(out, 3);  /* minor version */
	put64(out, 0); /* X_FIRMWARE_CTRL */
	put64(out, dsdt);
	put_zeros(out, start + 244 - out->len); /* X_ blocks */
	put_gas_port(out, POWER_PORT + POWER_SLEEP_CONTROL);
	put_gas_port(out, POWER_PORT + POWER_SLEEP_STATUS);
	put64(out, 0); /* hypervisor vendor */
	VERIFY(out->len - start == FADT_BYTES);
	table_end(out, start);
	return start;
}

#define MADT_LAPIC        0
#define MADT_LAPIC_BYTES  8
#define MADT_IOAPIC       1
#define MADT_IOAPIC_BYTES 12
#define MADT_ENABLED      1

static size_t put_madt(struct out *out, unsigned int n_cpus)
{
	size_t start = table_begin(out, "APIC", 5);

	put32(out, (uint32_t)LAPIC_DEFAULT_BASE);
	put32(out, 0); /* no 8259 */
	for (unsigned int i = 0; i < n_cpus; i++) {
		put8(out, MADT_LAPIC);
		put8(out, MADT_LAPIC_BYTES);
		put8(out, (uint8_t)i); /* processor UID */
		put8(out, (uint8_t)i); /* APIC id */
		put32(out, MADT_ENABLED);
	}
	put8(out, MADT_IOAPIC);
	put8(out, MADT_IOAPIC_BYTES);
	put8(out, 0); /* id */
	put8(out, 0);
	put32(out, (uint32_t)IOAPIC_BASE);
	put32(out, 0); /* first GSI */
	table_end(out, start);
	return start;
}

#define RSDP_BYTES           36
#define RSDP_V1_BYTES        20
#define RSDP_CHECKSUM_AT     8
#define RSDP_XSDT_AT         24
#define RSDP_EXT_CHECKSUM_AT 32

static void put_rsdp(struct out *out)
{
	put(out, "RSD PTR ", 8);
	put8(out, 0);
	put(out, OEM_ID, 6);
	put8(out, 2);  /* revision */
	put32(out, 0); /* no RSDT */
	put32(out, RSDP_BYTES);
	put64(out, 0); /* XSDT, when it is known */
	put8(out, 0);
	put_zeros(out, 3);
}

static void finish_rsdp(struct out *out, uint64_t xsdt)
{
	patch(out, RSDP_XSDT_AT, &xsdt, sizeof(xsdt));
	patch_checksum(out, 0, RSDP_V1_BYTES, RSDP_CHECKSUM_AT);
	patch_checksum(out, 0, RSDP_BYTES, RSDP_EXT_CHECKSUM_AT);
}

static int check_config(const struct acpi_config *cfg, gpa_t base,
			struct err *err)
{
	if (cfg->n_cpus < 1 || cfg->n_cpus > APIC_CPUS_MAX)
		return err_set(err, -EINVAL,
			       "%u processors: the ACPI tables can tell 1 to %d",
			       cfg->n_cpus, APIC_CPUS_MAX);
	if (cfg->n_virtio > ACPI_VIRTIO_MAX)
		return err_set(err, -EINVAL,
			       "%u virtio devices: the ACPI tables can tell %d",
			       cfg->n_virtio, ACPI_VIRTIO_MAX);
	if ((base.v & 0xf) || base.v > UINT32_MAX - ACPI_MAX_BYTES)
		return err_set(err, -EINVAL, "ACPI tables cannot be at 0x%llx",
			       (unsigned long long)base.v);
	for (unsigned int i = 0; i < cfg->n_virtio; i++)
		if (cfg->virtio[i].base.v > UINT32_MAX)
			return err_set(err, -EINVAL,
				       "virtio device %u is above 4 GiB", i);
	return 0;
}

int acpi_build(const struct acpi_config *cfg, gpa_t base, uint8_t *buf,
	       size_t buf_bytes, size_t *ret_len, struct err *err)
{
	struct out out = {.buf = buf, .room = buf_bytes};
	int r = check_config(cfg, base, err);

	if (r < 0)
		return r;

	put_rsdp(&out);

	size_t dsdt = put_dsdt(&out, cfg);
	size_t fadt = put_fadt(&out, base.v + dsdt);
	size_t madt = put_madt(&out, cfg->n_cpus);
	size_t xsdt = table_begin(&out, "XSDT", 1);

	put64(&out, base.v + fadt);
	put64(&out, base.v + madt);
	table_end(&out, xsdt);
	finish_rsdp(&out, base.v + xsdt);

	if (out.len > buf_bytes)
		return err_set(err, -ENOSPC,
			       "ACPI tables need %zu bytes, there are %zu",
			       out.len, buf_bytes);
	*ret_len = out.len;
	return 0;
}
