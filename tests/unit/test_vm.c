/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of vm/vm: a whole VM on the software processor, whose kernel only halts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/clock.h>
#include <mem/revoke.h>
#include <vm/vm_impl.h>

#include "boot_files.h"

#define PATIENCE_MS 20000
#define FIRST_PAGE  (TEST_TEXT_ADDR / PAGE_SIZE)

/**
 * struct machine_under_test - a VM that has halted, and a host that takes its pages.
 * @cfg: of the VM
 * @vm: the VM
 * @host: the other end of its revocations
 * @kernel: path of its kernel
 */
struct machine_under_test {
	struct vm_config cfg;
	struct vm *vm;
	struct revoke_host *host;
	char kernel[64];
};

static void output(void *ctx, const uint8_t *bytes, size_t len)
{
	(void)ctx;
	(void)bytes;
	(void)len;
}

static void ignore(void *ctx)
{
	(void)ctx;
}

static void report(void *ctx, const char *text)
{
	(void)ctx;
	(void)text;
}

static const struct vm_callbacks callbacks = {
	.output = output,
	.input_room = ignore,
	.ended = ignore,
	.report = report,
};

static int send_to_vm(void *ctx, const struct revoke_request *request)
{
	const struct machine_under_test *m = ctx;

	return guestmem_revoke(m->vm->mem, request);
}

static void ack_to_host(void *ctx, uint64_t ticket)
{
	const struct machine_under_test *m = ctx;

	revoke_host_ack(m->host, ticket);
}

/* Without interrupts, timers and a balloon nothing of its own wakes it. */
static void write_kernel(char *path)
{
	static const uint8_t code[] = {0xfa, 0xf4, 0xeb,
				       0xfd}; /* cli; 1: hlt; jmp 1b */
	static struct test_file f;

	test_elf64(&f, false);
	memcpy(f.data + TEST_TEXT_OFFSET, code, sizeof(code));
	test_write_file(f.data, f.bytes, path);
}

static void start(struct machine_under_test *m, enum vm_mmu mmu)
{
	struct err err = {0};

	write_kernel(m->kernel);
	vm_config_init(&m->cfg);
	m->cfg.memory_bytes = UINT64_C(32) << 20;
	m->cfg.kernel = strdup(m->kernel);
	m->cfg.protocol = BOOT_LINUX64;
	m->cfg.engine = VM_ENGINE_SOFT;
	m->cfg.mmu = mmu;
	m->cfg.balloon = false;
	if (vm_config_complete(&m->cfg, "", &err) ||
	    vm_new(&m->cfg, &callbacks, m, &m->vm, &err))
		fail_msg("%s", err.text);
	assert_int_equal(revoke_host_new(guestmem_physmap(m->vm->mem),
					 guestmem_machine(m->vm->mem)->home_fd,
					 send_to_vm, m, &m->host),
			 0);
	guestmem_connect_host(m->vm->mem, ack_to_host, m);
	if (vm_start(m->vm, &err))
		fail_msg("%s", err.text);
}

static void wait_until_asleep(struct machine_under_test *m)
{
	const uint64_t end = monotonic_ms() + PATIENCE_MS;

	while (!atomic_load(&m->vm->asleep) && monotonic_ms() < end)
		nap_ms(1);
	assert_true(atomic_load(&m->vm->asleep));
}

static void end(struct machine_under_test *m)
{
	vm_stop(m->vm);
	assert_int_equal(vm_join(m->vm), VM_END_STOPPED);
	revoke_host_free(m->host);
	vm_free(m->vm);
	vm_config_release(&m->cfg);
	unlink(m->kernel);
}

/* Its next timer would be too late, and here there is none. */
static void lets_go_of_pages(enum vm_mmu mmu)
{
	struct machine_under_test m = {0};
	const ppn_t page = ppn(FIRST_PAGE);
	struct revoke_batch batch;

	start(&m, mmu);
	for (unsigned int i = 0; i < 3; i++) {
		wait_until_asleep(&m);
		assert_int_equal(revoke_take(m.host, &page, 1,
					     1U << PHYSMAP_HOME, &batch),
				 1);
		assert_int_equal(revoke_wait(m.host, &batch,
					     PATIENCE_MS * UINT64_C(1000000)),
				 0);
		assert_int_equal(revoke_finish(m.host, &batch, 0, physmap_home()),
				 0);
		revoke_end(m.host, &batch);
	}
	end(&m);
}

static void halted_under_nested_tables(void **state)
{
	(void)state;
	lets_go_of_pages(VM_MMU_HARDWARE);
}

static void halted_under_shadow_tables(void **state)
{
	(void)state;
	lets_go_of_pages(VM_MMU_SOFTWARE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(halted_under_nested_tables),
		cmocka_unit_test(halted_under_shadow_tables),
	};

	return cmocka_run_group_tests_name("vm", tests, NULL, NULL);
}
