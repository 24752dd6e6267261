/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of memory by control groups of both versions. */
#include <host/cgroup.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 4096

/* The names of one version. */
struct version {
	const char *folder; /* below the mount */
	const char *limit, *usage;
	const char *cache; /* in memory.stat: what goes first */
};

static const struct version versions[] = {
	{"", "memory.max", "memory.current", "inactive_file"},
	{"/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
	 "total_inactive_file"},
};

static FILE *open_file(const char *group, const char *name)
{
	char path[PATH_SIZE + 64];

	snprintf(path, sizeof(path), "%s/%s", group, name);
	return fopen(path, "re");
}

/* Return: whether the file begins with a number; "max" is none. */
static bool read_number(const char *group, const char *name, uint64_t *ret)
{
	FILE *f = open_file(group, name);
	bool good;

	if (!f)
		return false;
	good = fscanf(f, "%" SCNu64, ret) == 1;
	fclose(f);
	return good;
}

/* Return: the figure of memory.stat, 0 if there is none. */
static uint64_t read_stat(const char *group, const char *key)
{
	FILE *f = open_file(group, "memory.stat");
	uint64_t value, found = 0;
	char word[64];

	if (!f)
		return 0;
	while (fscanf(f, "%63s %" SCNu64, word, &value) == 2) {
		if (!strcmp(word, key))
			found = value;
	}
	fclose(f);
	return found;
}

static void look(const struct version *v, const char *group, uint64_t *limit,
		 uint64_t *left)
{
	uint64_t max, usage, cache;

	if (!read_number(group, v->limit, &max))
		return;
	if (max < *limit)
		*limit = max;
	if (!read_number(group, v->usage, &usage))
		return;
	cache = read_stat(group, v->cache);
	usage -= cache < usage ? cache : usage;
	if (max < usage)
		*left = 0;
	else if (max - usage < *left)
		*left = max - usage;
}

/*
 * From the process's group to the root of what is mounted. A container may see the path that
 * its group has outside, which is not there; the root is then its own group.
 */
static void look_upwards(const struct version *v, const char *mount,
			 const char *path, uint64_t *limit, uint64_t *left)
{
	char group[PATH_SIZE];
	const int base = snprintf(group, sizeof(group), "%s%s", mount,
				  v->folder);

	if (base < 0 || (size_t)base + strlen(path) >= sizeof(group))
		return;
	memcpy(group + base, path, strlen(path) + 1);
	for (;;) {
		char *slash;

		look(v, group, limit, left);
		slash = strrchr(group + base, '/');
		if (!slash)
			return;
		*slash = 0;
	}
}

/* "4:cpu,memory" has the controller of version 1, "0:" is version 2. */
static const struct version *version_of(const char *controllers)
{
	size_t len = strlen("memory");

	if (!*controllers)
		return &versions[0];
	for (const char *c = controllers; c; c = strchr(c, ',')) {
		c += *c == ',';
		if (!strncmp(c, "memory", len) && (!c[len] || c[len] == ','))
			return &versions[1];
	}
	return NULL;
}

void cgroup_memory(const char *membership, const char *mount, uint64_t *limit,
		   uint64_t *left)
{
	char line[PATH_SIZE];
	FILE *f = fopen(membership, "re");

	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		char *controllers = strchr(line, ':');
		char *path = controllers ? strchr(controllers + 1, ':') : NULL;
		const struct version *v;

		if (!path)
			continue;
		*path++ = 0;
		path[strcspn(path, "\n")] = 0;
		v = version_of(controllers + 1);
		if (v)
			look_upwards(v, mount, path, limit, left);
	}
	fclose(f);
}
