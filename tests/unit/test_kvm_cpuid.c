/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of the host's CPUID for a guest under KVM. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <engine/kvm_cpuid.h>

#define BIT(n) (UINT32_C(1) << (n))

static struct cpuid_list list;

static void add(uint32_t function, uint32_t index, uint32_t eax)
{
	list.entries[list.head.nent++] = (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.eax = eax,
		.ebx = UINT32_MAX,
		.ecx = UINT32_MAX,
		.edx = UINT32_MAX,
	};
}

static const struct kvm_cpuid_entry2 *find(uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < list.head.nent; i++)
		if (list.entries[i].function == function &&
		    list.entries[i].index == index)
			return &list.entries[i];
	return NULL;
}

/* A host that has everything. */
static int fill(void **state)
{
	(void)state;
	memset(&list, 0, sizeof(list));
	add(0, 0, 0x1f);
	add(1, 0, 0x123);
	add(4, 0, 0xffffc121);
	add(4, 3, 0xffffc163);
	add(7, 0, 1);
	add(0xa, 0, UINT32_MAX);
	add(0xb, 0, 1);
	add(0xb, 1, 7);
	add(0x1f, 0, 1);
	add(0x40000001, 0, UINT32_MAX);
	add(0x80000001, 0, 0);
	add(0x80000008, 0, 0x3030);
	add(0x8000000a, 0, 1);
	add(0x8000001f, 0, 1);
	return 0;
}

static void filter(uint32_t n_cpus, uint32_t apic_id)
{
	const struct cpu_features f = {.n_cpus = n_cpus};

	kvm_cpuid_filter(&list, &f, apic_id, true);
}

static void test_identity(void **state)
{
	(void)state;
	filter(4, 3);
	assert_int_equal(find(1, 0)->eax, 0x123);
	assert_int_equal(find(1, 0)->ebx, 0x0304ff00);
	assert_true(find(1, 0)->edx & BIT(28));
	assert_int_equal(find(0x80000008, 0)->ecx, 3 | 2 << 12);
	assert_int_equal(find(0x80000008, 0)->eax, 0x3030);
}

static void test_hidden(void **state)
{
	const uint32_t hidden = BIT(3) | BIT(5) | BIT(6) | BIT(15);

	(void)state;
	filter(1, 0);
	assert_int_equal(find(1, 0)->ecx & hidden, 0);
	assert_true(find(1, 0)->ecx & BIT(31)); /* hypervisor */
	assert_true(find(1, 0)->ecx & BIT(24)); /* TSC deadline */
	assert_true(find(1, 0)->ecx & BIT(13)); /* CX16 stays */
	assert_false(find(1, 0)->edx & BIT(28));
	assert_false(find(7, 0)->ecx & BIT(16));         /* LA57 */
	assert_true(find(7, 0)->ebx & BIT(5));           /* AVX2 stays */
	assert_true(find(7, 0)->ebx & BIT(7));           /* SMEP stays */
	assert_false(find(0x80000001, 0)->ecx & BIT(2)); /* SVM */
	assert_false(find(0x80000001, 0)->ecx & BIT(22));
	assert_int_equal(find(0x8000000a, 0)->eax, 0);
	assert_int_equal(find(0x8000001f, 0)->eax, 0);
	assert_int_equal(find(0xa, 0)->eax, 0);
	/* KVM's asynchronous faults: by #PF, to a nested guest, by interrupt */
	assert_int_equal(~find(0x40000001, 0)->eax, BIT(4) | BIT(10) | BIT(14));
}

static void test_options(void **state)
{
	const struct cpu_features f = {
		.n_cpus = 1,
		.no_smap = true,
		.no_smep = true,
	};

	(void)state;
	kvm_cpuid_filter(&list, &f, 0, false);
	assert_false(find(7, 0)->ebx & BIT(7));
	assert_false(find(7, 0)->ebx & BIT(20));
	assert_false(find(1, 0)->ecx & BIT(24));
}

static void test_topology(void **state)
{
	unsigned int n = 0;

	(void)state;
	filter(6, 5);
	for (uint32_t i = 0; i < list.head.nent; i++)
		n += list.entries[i].function == 0xb;
	assert_int_equal(n, 3);
	assert_null(find(0x1f, 0));
	assert_int_equal(find(0xb, 0)->eax, 0); /* no siblings */
	assert_int_equal(find(0xb, 0)->ebx, 1);
	assert_int_equal(find(0xb, 0)->ecx, 0x100);
	assert_int_equal(find(0xb, 1)->eax, 3); /* 6 need three bits */
	assert_int_equal(find(0xb, 1)->ebx, 6);
	assert_int_equal(find(0xb, 1)->ecx, 0x201);
	assert_int_equal(find(0xb, 1)->edx, 5);
	assert_int_equal(find(0xb, 2)->ecx, 2); /* the end */
	/* First level private, third level shared by all. */
	assert_int_equal(find(4, 0)->eax >> 14 & 0xfff, 0);
	assert_int_equal(find(4, 3)->eax >> 14 & 0xfff, 7);
	assert_int_equal(find(4, 3)->eax >> 26, 7);
}

static void test_old_host(void **state)
{
	(void)state;
	list.entries[0].eax = 0x7; /* knows no leaf 0xb */
	filter(2, 1);
	assert_null(find(0xb, 0));
}

static void test_full_list(void **state)
{
	(void)state;
	while (list.head.nent < KVM_CPUID_MAX)
		add(0x12345678, list.head.nent, 0);
	filter(2, 1);
	assert_true(list.head.nent <= KVM_CPUID_MAX);
	assert_non_null(find(0xb, 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_identity, fill),
		cmocka_unit_test_setup(test_hidden, fill),
		cmocka_unit_test_setup(test_options, fill),
		cmocka_unit_test_setup(test_topology, fill),
		cmocka_unit_test_setup(test_old_host, fill),
		cmocka_unit_test_setup(test_full_list, fill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
