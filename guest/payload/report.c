/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report STATUS: tells the host what the run shall end with once the guest has switched itself off.
 *
 * By a port that is there under Mezzanine only; elsewhere nothing listens to it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>

#define STATUS_PORT 0x603

int main(int argc, char *argv[])
{
	char *end = NULL;
	const unsigned long status = argc == 2 ? strtoul(argv[1], &end, 10) : 0;

	if (argc != 2 || !*argv[1] || *end || status > 255) {
		fprintf(stderr, "usage: report STATUS, from 0 to 255\n");
		return 2;
	}
	if (ioperm(STATUS_PORT, 1, 1)) {
		fprintf(stderr, "report: no access to port %#x: %s\n",
			STATUS_PORT, strerror(errno));
		return 1;
	}
	outb((unsigned char)status, STATUS_PORT);
	return 0;
}
