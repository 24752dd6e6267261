/* SPDX-License-Identifier: Apache-2.0 */
/* The main program of a fuzzer in the ordinary tests: replays files through its entry. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BYTES (1 << 20)

static int replay_file(const char *path)
{
	uint8_t *data = malloc(MAX_BYTES);
	FILE *f = fopen(path, "rb");

	if (!f || !data) {
		perror(path);
		free(data);
		return 1;
	}

	size_t size = fread(data, 1, MAX_BYTES, f);

	fclose(f);
	/* An exact copy, so that a sanitizer sees reads beyond its end. */
	uint8_t *exact = malloc(size ? size : 1);

	if (!exact) {
		free(data);
		return 1;
	}
	memcpy(exact, data, size);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
	free(data);
	return 0;
}

static int replay_dir(const char *path, unsigned int *n)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	int failed = 0;

	if (!dir) {
		perror(path);
		return 1;
	}
	while ((entry = readdir(dir))) {
		char file[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		failed |= replay_file(file);
		(*n)++;
	}
	closedir(dir);
	return failed;
}

int main(int argc, char **argv)
{
	unsigned int n = 0;
	int failed = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode)) {
			failed |= replay_dir(argv[i], &n);
		} else {
			failed |= replay_file(argv[i]);
			n++;
		}
	}
	/* A corpus that is not there must not look like a pass. */
	if (!n) {
		fprintf(stderr, "nothing to replay\n");
		return 1;
	}
	printf("%u inputs replayed\n", n);
	return failed;
}
