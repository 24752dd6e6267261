/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables of a VM: hardware-reduced, so a kernel finds neither PIC nor PIT nor
 * PM timer, but its processors, one I/O APIC, a serial port, virtio-mmio devices and
 * how to switch off, by the guest or by its power button. RSDP -> XSDT -> FADT -> DSDT, and MADT.
 *
 *	acpi_build(&cfg, gpa(ACPI_BASE), buf, sizeof(buf), &len, &err);
 *	guestmem_write(mem, gpa(ACPI_BASE), buf, len);
 *
 * The RSDP is the first thing in the buffer: its address is the base (what boot_params
 * calls acpi_rsdp_addr and PVH rsdp_paddr).
 */
#ifndef DEV_ACPI_H
#define DEV_ACPI_H
#include <base/error.h>
#include <base/types.h>

#define ACPI_BASE \
	UINT64_C(0xe0000) /* where PCs have it: found even by a scan */
#define ACPI_MAX_BYTES  0x8000
#define ACPI_VIRTIO_MAX 16

/**
 * struct acpi_virtio - one virtio-mmio device.
 * @base: its register page, below 4 GiB
 * @gsi: its interrupt, edge-triggered
 */
struct acpi_virtio {
	gpa_t base;
	uint32_t gsi;
};

/**
 * struct acpi_config - what the tables tell.
 * @n_cpus: processors, with APIC ids from 0; at least 1
 * @has_serial: there is a COM1
 * @has_rtc: there is a CMOS clock
 * @button_gsi: interrupt of the power button, edge-triggered; 0: there is none
 * @n_virtio: how many of @virtio count
 * @virtio: devices
 */
struct acpi_config {
	unsigned int n_cpus;
	bool has_serial;
	bool has_rtc;
	uint32_t button_gsi;
	unsigned int n_virtio;
	struct acpi_virtio virtio[ACPI_VIRTIO_MAX];
};

/**
 * acpi_build() - make the tables.
 * @cfg: what they tell
 * @base: guest address at which @buf will be, 16-byte aligned, below 4 GiB
 * @buf: where to make them
 * @buf_bytes: room there; ACPI_MAX_BYTES is always enough
 * @ret_len: bytes used
 * @err: message on failure
 *
 * Return: 0, -EINVAL (impossible configuration), -ENOSPC (buffer too small).
 */
int acpi_build(const struct acpi_config *cfg, gpa_t base, uint8_t *buf,
	       size_t buf_bytes, size_t *ret_len, struct err *err)
	__attribute__((warn_unused_result));

#endif
