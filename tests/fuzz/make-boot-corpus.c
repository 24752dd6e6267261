/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the starting inputs of fuzz_boot: small kernel files of each kind and format. */
#include <stdio.h>

#include "../unit/boot_files.h"

static struct test_file vmlinux;
static struct test_file file;

static int put(const char *dir, const char *name, const struct test_file *f)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *out = fopen(path, "wb");

	if (!out || fwrite(f->data, 1, f->bytes, out) != f->bytes ||
	    fclose(out)) {
		perror(path);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const names[TEST_FORMATS] = {
		"bzimage-gzip", "bzimage-bzip2", "bzimage-lzma",
		"bzimage-xz",   "bzimage-lz4",   "bzimage-zstd",
	};
	const char *dir = argc > 1 ? argv[1] : ".";
	int bad = 0;

	test_elf64(&vmlinux, true);
	for (int f = 0; f < TEST_FORMATS; f++) {
		test_bzimage(&file, &vmlinux, f);
		bad |= put(dir, names[f], &file);
	}
	bad |= put(dir, "elf64-pvh", &vmlinux);
	test_elf64(&vmlinux, false);
	bad |= put(dir, "elf64", &vmlinux);
	vmlinux.bytes = 0x1234;
	bad |= put(dir, "elf64-truncated", &vmlinux);
	test_elf32(&file, true, true);
	bad |= put(dir, "elf32-multiboot", &file);
	test_flat(&file);
	bad |= put(dir, "flat-multiboot", &file);
	return bad;
}
