/* SPDX-License-Identifier: Apache-2.0 */
/* The options of mezz-vm: sizes, lists, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <base/types.h>
#include <vm/config.h>

/* As main() has it: words that nobody changes, in an array that does not say so. */
static int parse(struct vm_config *cfg, const char *const *words, int n,
		 struct err *err)
{
	union {
		const char *const *in;
		char *const *out;
	} argv = {words};

	vm_config_init(cfg);
	return vm_config_parse(cfg, n, argv.out, err);
}

/* Parse words, and look whether they are refused with a word of the message. */
static void refuse(const char *const *words, int n, const char *said)
{
	struct vm_config cfg;
	struct err err = {""};

	assert_true(parse(&cfg, words, n, &err) < 0);
	if (!strstr(err.text, said))
		fail_msg("\"%s\" does not say %s", err.text, said);
	vm_config_release(&cfg);
}

static void test_refused(void **state)
{
	static const char *const words[][2] = {
		{"--memory", "15M"},       {"--memory", "17M1"},
		{"--memory", "16777215"},  {"--memory-limit", "some"},
		{"--cpus", "0"},           {"--cpus", "17"},
		{"--disk", ",ro"},         {"--disk", ""},
		{"--disk", ",snapshot"},   {"--without", "speed"},
		{"--cpu", "pcid,avx"},     {"--engine", "fast"},
		{"--timeout", "-1"},       {"--timeout", "5d"},
		{"--timeout", ""},         {"--balloon", "1"},
		{"--shadow-memory", "2 "}, {"--net", "everybody"},
		{"--net", "user,mac=2"},   {"--net", "/s,tcp=1:2"},
	};
	static const char *const unknown[] = {"--nothing"};
	static const char *const lacks[] = {"--memory"};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(words); i++)
		refuse(words[i], 2, words[i][0]);
	refuse(unknown, 1, "--nothing");
	refuse(lacks, 1, "--memory needs a value");
}

static void test_times(void **state)
{
	static const struct {
		const char *word;
		uint64_t ms;
	} times[] = {{"90", 90000},   {"90s", 90000}, {"5min", 300000},
		     {"2h", 7200000}, {"500ms", 500}, {"0", 0}};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(times); i++) {
		const char *const words[] = {"-t", times[i].word};
		struct vm_config cfg;
		struct err err = {""};

		assert_int_equal(parse(&cfg, words, 2, &err), 0);
		assert_int_equal(cfg.timeout_ms, times[i].ms);
		vm_config_release(&cfg);
	}
}

static void test_memory(void **state)
{
	static const struct {
		const char *word;
		uint64_t bytes;
	} sizes[] = {{"16777216", UINT64_C(16) << 20},
		     {"512M", UINT64_C(512) << 20},
		     {"1.5g", UINT64_C(1536) << 20}};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		const char *const words[] = {"--memory", sizes[i].word};
		struct vm_config cfg;
		struct err err = {""};

		assert_int_equal(parse(&cfg, words, 2, &err), 0);
		assert_int_equal(cfg.memory_bytes, sizes[i].bytes);
		vm_config_release(&cfg);
	}
}

static void test_net(void **state)
{
	static const char *const user[] = {
		"--net", "user,tcp=2222:22,mac=02:00:00:00:00:0a,host"};
	static const char *const peer[] = {"-n", "/run/a,b"};
	static const char *const twice[] = {"-n", "user", "-n", "/run/a"};
	static const char *const repeatable[] = {"-n",      "user",
						 "--clock", "instructions",
						 "-k",      "kernel"};
	static const uint8_t mac[] = {2, 0, 0, 0, 0, 10};
	struct err err = {""};
	struct vm_config cfg;

	(void)state;
	assert_int_equal(parse(&cfg, user, 2, &err), 0);
	assert_true(vm_config_has_net(&cfg));
	assert_true(cfg.net.user);
	assert_string_equal(cfg.net.words, "tcp=2222:22,host");
	assert_memory_equal(cfg.net.mac, mac, sizeof(mac));
	vm_config_release(&cfg);
	refuse(peer, 2, "--net: 'b' is not mac=");
	assert_int_equal(parse(&cfg, (const char *[]){"-n", "./peer"}, 2, &err),
			 0);
	assert_false(cfg.net.user);
	assert_string_equal(cfg.net.socket, "./peer");
	vm_config_release(&cfg);
	refuse(twice, 4, "one network card");
	assert_int_equal(parse(&cfg, repeatable, 6, &err), 0);
	assert_int_equal(vm_config_complete(&cfg, "/nowhere", &err), -EINVAL);
	assert_non_null(strstr(err.text, "--net"));
	vm_config_release(&cfg);
}

static void test_accepted(void **state)
{
	static const char *const words[] = {
		"-m",    "1G",          "--disk=a,ro",
		"-d",    "b,c",         "--without=caches,translate",
		"--cpu", "pcid,nosmap", "--balloon",
		"off",   "-d",          "d,ro,snapshot"};
	struct vm_config cfg;
	struct err err = {""};

	(void)state;
	assert_int_equal(parse(&cfg, words, ARRAY_SIZE(words), &err), 0);
	assert_int_equal(cfg.memory_bytes, UINT64_C(1) << 30);
	assert_int_equal(cfg.n_disks, 3);
	assert_string_equal(cfg.disks[0].path, "a");
	assert_int_equal(cfg.disks[0].mode, VIRTIO_BLK_RO);
	assert_string_equal(cfg.disks[1].path, "b,c");
	assert_int_equal(cfg.disks[1].mode, VIRTIO_BLK_RW);
	assert_string_equal(cfg.disks[2].path, "d,ro");
	assert_int_equal(cfg.disks[2].mode, VIRTIO_BLK_SNAPSHOT);
	assert_false(cfg.mmu_options.structure_caches);
	assert_true(cfg.mmu_options.large_pages);
	assert_true(cfg.features.no_translate);
	assert_true(cfg.features.pcid && cfg.features.no_smap);
	assert_false(cfg.features.umip || cfg.balloon);
	vm_config_release(&cfg);
}

/* As one would type it who adds a word to a command that is there already. */
static void test_words_are_joined(void **state)
{
	static const char *const words[] = {"--append", "",   "-a",
					    "quiet",    "-a", "a=1 b"};
	struct vm_config cfg;
	struct err err = {""};

	(void)state;
	assert_int_equal(parse(&cfg, words, ARRAY_SIZE(words), &err), 0);
	assert_string_equal(cfg.append, "quiet a=1 b");
	vm_config_release(&cfg);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_net),
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_words_are_joined),
	};

	return cmocka_run_group_tests_name("vm_config", tests, NULL, NULL);
}
