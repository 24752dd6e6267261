/* SPDX-License-Identifier: Apache-2.0 */
/* boot_load(): what lies in guest memory afterwards, for each protocol, and what does not fit. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <boot/boot.h>
#include <boot/layout.h>

#include "boot_files.h"

#define MIB      (UINT64_C(1) << 20)
#define N_INITRD 100001

static struct test_file vmlinux;
static struct test_file file;
static char kernel[64];
static char initrd[64];
static uint8_t initrd_bytes[N_INITRD];
static struct guestmem *mem;
static struct boot_state state;
static struct err err;

static int setup(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < N_INITRD; i++)
		initrd_bytes[i] = (uint8_t)(i * 13 >> 3);
	test_write_file(initrd_bytes, N_INITRD, initrd);
	test_elf64(&vmlinux, true);
	test_bzimage(&file, &vmlinux, TEST_LZ4);
	test_write_file(file.data, file.bytes, kernel);
	memset(&state, 0, sizeof(state));
	memset(&err, 0, sizeof(err));
	return guestmem_new(64 * MIB, &mem, NULL);
}

static int teardown(void **unused)
{
	(void)unused;
	mem = guestmem_free(mem);
	unlink(kernel);
	unlink(initrd);
	return 0;
}

static void use_kernel(const struct test_file *f)
{
	unlink(kernel);
	test_write_file(f->data, f->bytes, kernel);
}

static void use_memory(uint64_t bytes)
{
	mem = guestmem_free(mem);
	assert_int_equal(guestmem_new(bytes, &mem, NULL), 0);
}

/* The kernel file is read, and is gone, before there is guest memory. */
static bool read_before;

static int load(enum boot_protocol protocol, const char *cmdline)
{
	static const uint8_t seed[BOOT_SEED_BYTES] = {1, 2, 3};
	struct boot_kernel *before = NULL;
	struct boot_config cfg = {
		.kernel_path = kernel,
		.initrd_path = initrd[0] ? initrd : NULL,
		.cmdline = cmdline,
		.rsdp = gpa(0xe0000),
		.seed = seed,
		.protocol = protocol,
	};

	int r = 0;

	memset(&err, 0, sizeof(err));
	if (read_before) {
		r = boot_kernel_new(kernel, protocol, &before, &err);
		unlink(kernel);
		cfg.kernel = before;
	}
	if (!r)
		r = boot_load(mem, &cfg, &state, &err);
	assert_null(boot_kernel_free(before));
	return r;
}

static void expect_loaded(enum boot_protocol protocol)
{
	const int r = load(BOOT_AUTO, "one two");

	assert_string_equal(err.text, "");
	assert_int_equal(r, 0);
	assert_int_equal(state.protocol, protocol);
}

static void expect_refused(int code, const char *why)
{
	assert_int_equal(load(BOOT_AUTO, "one"), code);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static uint64_t guest(uint64_t addr, unsigned int size)
{
	uint64_t v = 0;

	assert_true(guestmem_read(mem, gpa(addr), &v, size));
	return v;
}

static void check_kernel(void)
{
	static uint8_t buf[TEST_DATA_MEM];

	assert_true(
		guestmem_read(mem, gpa(TEST_TEXT_ADDR), buf, TEST_TEXT_BYTES));
	for (size_t i = 0; i < TEST_TEXT_BYTES; i++)
		assert_int_equal(buf[i], test_text_byte(i));
	assert_true(guestmem_read(mem, gpa(TEST_DATA_ADDR), buf, TEST_DATA_MEM));
	for (size_t i = 0; i < TEST_DATA_MEM; i++)
		assert_int_equal(buf[i], i < TEST_DATA_BYTES ? 0xda : 0);
	assert_int_equal(state.kernel_start.v, TEST_TEXT_ADDR);
	assert_int_equal(state.kernel_end.v, TEST_DATA_ADDR + TEST_DATA_MEM);
}

static void check_initrd(uint64_t start)
{
	static uint8_t buf[N_INITRD];

	assert_int_equal(state.initrd_start.v, start);
	assert_int_equal(state.initrd_bytes, N_INITRD);
	assert_true(guestmem_read(mem, state.initrd_start, buf, N_INITRD));
	assert_memory_equal(buf, initrd_bytes, N_INITRD);
}

static void check_string(uint64_t addr, const char *text)
{
	char buf[256] = {0};

	assert_true(strlen(text) < sizeof(buf));
	assert_true(guestmem_read(mem, gpa(addr), buf, strlen(text) + 1));
	assert_string_equal(buf, text);
}

/* The descriptor in the guest's own table says the same as the state that goes with it. */
static void check_descriptor(const struct boot_segment *s)
{
	const uint64_t d = guest(state.gdt_base.v + s->sel, 8);
	uint64_t limit = (d & 0xffff) | (d >> 32 & 0xf0000);
	const uint64_t base = (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000);

	if (d >> 55 & 1)
		limit = limit << 12 | 0xfff;
	assert_true(s->sel + 7 <= state.gdt_limit);
	assert_int_equal(limit, s->limit);
	assert_int_equal(base, s->base);
	assert_int_equal(d >> 40 & 0xf0ff, s->attr);
}

static void check_protected(void)
{
	assert_false(state.long_mode);
	assert_int_equal(state.cr0 & UINT64_C(0x80000001), 1);
	assert_int_equal(state.cr3, 0);
	assert_int_equal(state.efer, 0);
	assert_int_equal(state.code.attr & 0x6000, 0x4000);
	check_descriptor(&state.code);
	check_descriptor(&state.data);
	check_descriptor(&state.tss);
}

/* Walks the tables that the kernel starts on. */
static uint64_t translate(uint64_t addr)
{
	uint64_t e = guest(state.cr3 + (addr >> 39 & 511) * 8, 8);

	assert_int_equal(e & 1, 1);
	e = guest((e & ~UINT64_C(0xfff)) + (addr >> 30 & 511) * 8, 8);
	assert_int_equal(e & 0x81, 1);
	e = guest((e & ~UINT64_C(0xfff)) + (addr >> 21 & 511) * 8, 8);
	assert_int_equal(e & 0x83, 0x83);
	return (e & ~UINT64_C(0x1fffff)) + (addr & 0x1fffff);
}

static void test_long_mode(void **unused)
{
	(void)unused;
	expect_loaded(BOOT_LINUX64);
	check_kernel();
	check_initrd(64 * MIB - (N_INITRD + 4095) / 4096 * 4096);
	assert_true(state.long_mode);
	assert_int_equal(state.rip, TEST_TEXT_ADDR);
	assert_int_equal(state.rflags, 2);
	assert_int_equal(state.cr0 & UINT64_C(0x80000001), 0x80000001);
	assert_int_equal(state.cr4, 0x20);
	assert_int_equal(state.efer, 0x500);
	assert_int_equal(state.code.attr & 0x6000, 0x2000);
	check_descriptor(&state.code);
	check_descriptor(&state.data);
	check_descriptor(&state.tss);
	for (uint64_t a = 0; a < 4096 * MIB; a += 127 * MIB + 12345)
		assert_int_equal(translate(a), a);
}

static void test_zero_page(void **unused)
{
	(void)unused;
	expect_loaded(BOOT_LINUX64);
	const uint64_t zp = state.rsi;

	assert_int_equal(guest(zp + 0x070, 8), 0xe0000);
	assert_int_equal(guest(zp + 0x1fe, 2), 0xaa55);
	assert_int_equal(guest(zp + 0x202, 4), 0x53726448);
	assert_int_equal(guest(zp + 0x206, 2), 0x020f);
	assert_int_equal(guest(zp + 0x210, 1), 0xff);
	assert_int_equal(guest(zp + 0x211, 1) & 1, 1);
	assert_int_equal(guest(zp + 0x218, 4), state.initrd_start.v);
	assert_int_equal(guest(zp + 0x21c, 4), N_INITRD);
	assert_int_equal(guest(zp + 0x238, 4), 2047);
	check_string(guest(zp + 0x228, 4), "one two");
	/* The sentinel tells the kernel that everything else was zeroed. */
	assert_int_equal(guest(zp + 0x1ef, 1), 0);

	assert_int_equal(guest(zp + 0x1e8, 1), 3);
	assert_int_equal(guest(zp + 0x2d0 + 20, 8), 0x9fc00);
	assert_int_equal(guest(zp + 0x2d0 + 36, 4), 2);
	assert_int_equal(guest(zp + 0x2d0 + 40, 8), MIB);
	assert_int_equal(guest(zp + 0x2d0 + 48, 8), 63 * MIB);

	const uint64_t data = guest(zp + 0x250, 8);

	assert_int_equal(guest(data, 8), 0);
	assert_int_equal(guest(data + 8, 4), 9);
	assert_int_equal(guest(data + 12, 4), 32);
	assert_int_equal(guest(data + 16, 4), 0x030201);
}

static void test_vmlinux(void **unused)
{
	(void)unused;
	test_elf64(&vmlinux, false);
	use_kernel(&vmlinux);
	expect_loaded(BOOT_LINUX64);
	check_kernel();
	assert_int_equal(guest(state.rsi + 0x202, 4), 0x53726448);
	assert_int_equal(guest(state.rsi + 0x238, 4), 2047);
}

static void test_pvh(void **unused)
{
	(void)unused;
	use_kernel(&vmlinux);
	expect_loaded(BOOT_PVH);
	check_kernel();
	check_initrd(64 * MIB - (N_INITRD + 4095) / 4096 * 4096);
	check_protected();
	assert_int_equal(state.rip, TEST_PVH_ENTRY);
	const uint64_t info = state.rbx;

	assert_int_equal(guest(info, 4), 0x336ec578);
	assert_int_equal(guest(info + 4, 4), 1);
	assert_int_equal(guest(info + 12, 4), 1);
	assert_int_equal(guest(guest(info + 16, 8), 8), state.initrd_start.v);
	assert_int_equal(guest(guest(info + 16, 8) + 8, 8), N_INITRD);
	check_string(guest(info + 24, 8), "one two");
	assert_int_equal(guest(info + 32, 8), 0xe0000);
	assert_int_equal(guest(info + 48, 4), 3);
	const uint64_t map = guest(info + 40, 8);

	assert_int_equal(guest(map + 24, 8), 0x9fc00);
	assert_int_equal(guest(map + 40, 4), 2);
	assert_int_equal(guest(map + 56, 8), 63 * MIB);
}

static void test_multiboot(void **unused)
{
	char cmdline[128];

	(void)unused;
	test_elf32(&file, true, true);
	use_kernel(&file);
	expect_loaded(BOOT_MULTIBOOT);
	/* Right behind the kernel: what follows is the kernel's to use. */
	check_initrd(TEST_DATA_ADDR + TEST_DATA_MEM);
	check_protected();
	assert_int_equal(state.rip, TEST_TEXT_ADDR + 0x20);
	assert_int_equal(state.rax, 0x2badb002);
	const uint64_t info = state.rbx;

	assert_int_equal(guest(info, 4), 0x24d);
	assert_int_equal(guest(info + 4, 4), 639);
	assert_int_equal(guest(info + 8, 4), 63 * 1024);
	strcpy(cmdline, kernel);
	strcat(cmdline, " one two");
	check_string(guest(info + 16, 4), cmdline);
	assert_int_equal(guest(info + 20, 4), 1);
	const uint64_t module = guest(info + 24, 4);

	assert_int_equal(guest(module, 4), state.initrd_start.v);
	assert_int_equal(guest(module + 4, 4), state.initrd_start.v + N_INITRD);
	check_string(guest(module + 8, 4), initrd);
	assert_int_equal(guest(info + 44, 4), 3 * 24);
	const uint64_t map = guest(info + 48, 4);

	assert_int_equal(guest(map, 4), 20);
	assert_int_equal(guest(map + 24 + 4, 8), 0x9fc00);
	assert_int_equal(guest(map + 48 + 12, 8), 63 * MIB);
}

/* The second page of the text and the BSS are zero: nothing may be written there. */
static void test_zero_pages_are_skipped(void **unused)
{
	(void)unused;
	unlink(initrd);
	initrd[0] = 0;
	test_elf64(&vmlinux, false);
	use_kernel(&vmlinux);
	expect_loaded(BOOT_LINUX64);
	const uint64_t kernel_bytes = TEST_TEXT_BYTES - 0x1000 + TEST_DATA_BYTES;
	/* boot_params, six page tables, GDT, seed and command line */
	const uint64_t boot_bytes = 7 * 4096 + 0x30 + 48 + 7;

	assert_int_equal(state.written_bytes, kernel_bytes + boot_bytes);
	assert_int_equal(state.initrd_bytes, 0);
	assert_int_equal(guest(state.rsi + 0x21c, 4), 0);
}

static void test_chosen_protocol(void **unused)
{
	(void)unused;
	assert_int_equal(load(BOOT_PVH, ""), 0);
	assert_int_equal(state.protocol, BOOT_PVH);
	assert_int_equal(load(BOOT_MULTIBOOT, ""), -ENOEXEC);
	assert_non_null(strstr(err.text, "multiboot"));
	assert_non_null(strstr(err.text, kernel));
}

static void test_memory_too_small(void **unused)
{
	(void)unused;
	/* The kernel ends at 17444 KiB. */
	use_memory(16 * MIB);
	expect_refused(
		-ENOSPC,
		"it needs guest memory up to 17444 KiB, but there are only 16384 KiB: 1060 KiB are missing");
	assert_non_null(strstr(err.text, kernel));
	use_memory(MIB);
	expect_refused(-ENOSPC, "guest memory of 1024 KiB is too small");
	/* Nothing was written. */
	assert_int_equal(guest(LAYOUT_ZERO_PAGE + 0x1fe, 2), 0);
}

static void test_initrd_too_large(void **unused)
{
	(void)unused;
	use_memory(17444 * 1024 + 96 * 1024);
	expect_refused(
		-ENOSPC,
		"the initrd has 98 KiB, but guest memory has room for 96 KiB above the kernel: 2 KiB are missing");
	assert_non_null(strstr(err.text, initrd));
	assert_int_equal(guest(TEST_TEXT_ADDR, 8), 0);

	use_memory(17444 * 1024 + 100 * 1024);
	expect_loaded(BOOT_LINUX64);
	check_initrd(17444 * 1024);
}

static void test_command_line_length(void **unused)
{
	static char text[LAYOUT_CMDLINE_BYTES + 1];

	(void)unused;
	memset(text, 'a', 2047);
	assert_int_equal(load(BOOT_AUTO, text), 0);
	text[2047] = 'a';
	assert_int_equal(load(BOOT_AUTO, text), -E2BIG);
	assert_non_null(strstr(err.text, "2048 characters"));
	assert_non_null(strstr(err.text, "takes 2047"));
}

static void test_kernel_over_boot_data(void **unused)
{
	(void)unused;
	test_flat(&file);
	/* Load address 0x7f000: reaches boot data at 0x80000. */
	const uint32_t addrs[5] = {0x7f040, 0x7f000, 0x81000, 0x82000, 0x7f080};

	memcpy(file.data + 0x40 + 12, addrs, sizeof(addrs));
	use_kernel(&file);
	expect_refused(-ENOEXEC, "over boot data");
}

static void test_low_kernel(void **unused)
{
	(void)unused;
	test_flat(&file);
	const uint32_t addrs[5] = {0x10040, 0x10000, 0x12000, 0x13000, 0x10080};

	memcpy(file.data + 0x40 + 12, addrs, sizeof(addrs));
	use_kernel(&file);
	expect_loaded(BOOT_MULTIBOOT);
	assert_int_equal(guest(0x10fff, 1), 0x90);
	/* Modules keep off what is not RAM. */
	check_initrd(LAYOUT_HIGH_MEMORY);
}

static void test_bad_files(void **unused)
{
	(void)unused;
	unlink(initrd);
	expect_refused(-ENOENT, initrd);
	unlink(kernel);
	expect_refused(-ENOENT, "No such file");
	test_write_file("", 0, kernel);
	expect_refused(-ENOEXEC, "empty");
	unlink(kernel);
	strcpy(kernel, "/tmp");
	expect_refused(-EISDIR, "is a directory");
	strcpy(kernel, "/dev/null");
	expect_refused(-EINVAL, "not a regular file");
	strcpy(kernel, "/nowhere");
}

static void test_read_before(void **unused)
{
	(void)unused;
	read_before = true;
	expect_loaded(BOOT_LINUX64);
	check_kernel();
	expect_refused(-ENOENT, kernel);
	use_memory(64 * MIB);
	test_bzimage(&file, &vmlinux, TEST_LZ4);
	use_kernel(&file);
	assert_int_equal(load(BOOT_PVH, "one"), 0);
	assert_int_equal(state.rip, TEST_PVH_ENTRY);
	check_kernel();
	file.data[0x202] = 0;
	use_kernel(&file);
	expect_refused(-ENOEXEC, "it is not a kernel");
	read_before = false;
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_long_mode),
		CASE(test_zero_page),
		CASE(test_vmlinux),
		CASE(test_pvh),
		CASE(test_multiboot),
		CASE(test_zero_pages_are_skipped),
		CASE(test_chosen_protocol),
		CASE(test_memory_too_small),
		CASE(test_initrd_too_large),
		CASE(test_command_line_length),
		CASE(test_kernel_over_boot_data),
		CASE(test_low_kernel),
		CASE(test_bad_files),
		CASE(test_read_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
