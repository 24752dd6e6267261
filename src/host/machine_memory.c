/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory there is to manage. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/units.h>
#include <host/cgroup.h>
#include <host/host_impl.h>

static uint64_t meminfo(const char *key)
{
	const size_t len = strlen(key);
	uint64_t kib = 0;
	char line[256];
	FILE *f = fopen("/proc/meminfo", "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, len) && line[len] == ':')
			kib = strtoull(line + len + 1, NULL, 10);
	}
	fclose(f);
	return kib * 1024;
}

static int parse_percent(const char *text, uint64_t ram, uint64_t *ret,
			 struct err *err)
{
	char number[16];
	const size_t len = strlen(text) - 1;
	uint64_t pct;
	int r;

	snprintf(number, sizeof(number), "%.*s", (int)len, text);
	r = number_parse(number, 1, 100, &pct, err);
	if (!r)
		*ret = ram / 100 * pct;
	return r;
}

int host_memory_parse(const char *text, uint64_t *ret_bytes, struct err *err)
{
	uint64_t ram = meminfo("MemTotal");
	uint64_t available = meminfo("MemAvailable");
	uint64_t bytes = 0;
	int r = 0;

	cgroup_memory("/proc/self/cgroup", "/sys/fs/cgroup", &ram, &available);

	if (!text) {
		bytes = available > ram / 16 ? available - ram / 16 : 0;
	} else if (*text && text[strlen(text) - 1] == '%') {
		r = parse_percent(text, ram, &bytes, err);
	} else {
		r = size_parse(text, &bytes, err);
	}
	if (r) {
		err_prefix(err, "machine memory: ");
		return r;
	}
	bytes &= PAGE_MASK;
	if (bytes < HOST_MEMORY_MIN || bytes > ram)
		return err_set(
			err, -ERANGE,
			"machine memory of %llu MiB is not between 16 MiB and the %llu MiB of this host or container",
			(unsigned long long)bytes >> 20,
			(unsigned long long)ram >> 20);
	*ret_bytes = bytes;
	return 0;
}
