/* SPDX-License-Identifier: Apache-2.0 */
/* How the kernel backs a range of this process's addresses: /proc/self/smaps. */
#include <engine/kvm_backing.h>

#include <inttypes.h>
#include <string.h>

static bool is_inside(const char *line, uint64_t start, uint64_t end)
{
	uint64_t first, last;

	return sscanf(line, "%" SCNx64 "-%" SCNx64, &first, &last) == 2 &&
	       first >= start && last <= end;
}

static bool read_kib(const char *line, const char *key, uint64_t *ret_bytes)
{
	uint64_t kib;

	if (strncmp(line, key, strlen(key)) != 0 ||
	    sscanf(line + strlen(key), " %" SCNu64, &kib) != 1)
		return false;
	*ret_bytes += kib << 10;
	return true;
}

FILE *kvm_backing_open(void)
{
	return fopen("/proc/self/smaps", "re");
}

struct kvm_backing kvm_backing_read(FILE *smaps, const uint8_t *start,
				    uint64_t bytes)
{
	const uint64_t first = (uint64_t)(uintptr_t)start;
	struct kvm_backing b = {0};
	uint64_t rss = 0;
	bool inside = false;
	char line[512];

	if (!smaps)
		return b;
	/* What is in its buffer was true once. */
	rewind(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		/* A mapping starts with its addresses, a figure of it with a capital. */
		if (line[0] < 'A' || line[0] > 'Z') {
			inside = is_inside(line, first, first + bytes);
			b.mappings += inside;
		} else if (inside && !read_kib(line, "Rss:", &rss)) {
			read_kib(line, "ShmemPmdMapped:", &b.large_bytes);
		}
	}
	b.small_bytes = rss > b.large_bytes ? rss - b.large_bytes : 0;
	return b;
}
