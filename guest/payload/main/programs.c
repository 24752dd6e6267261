// SPDX-License-Identifier: Apache-2.0
/*
 * The first function of all 64-bit programs for guests, which are one file: the name under
 * which it is called tells which of them is meant. PROGRAMS lists them as PROGRAM(name).
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define PROGRAM(name) int main_##name(int argc, char *argv[]);
PROGRAMS
#undef PROGRAM

static const struct program {
	const char *name;
	int (*main)(int argc, char *argv[]);
} programs[] = {
#define PROGRAM(name) {#name, main_##name},
	PROGRAMS
#undef PROGRAM
};

int main(int argc, char *argv[])
{
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : argc ? argv[0] : "";

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
		if (!strcmp(name, programs[i].name))
			return programs[i].main(argc, argv);
	fprintf(stderr, "%s: no program for guests has that name\n", name);
	return 127;
}
