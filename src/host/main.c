/* SPDX-License-Identifier: Apache-2.0 */
/* mezzd: the host memory manager as a program of its own. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/log.h>
#include <host/host.h>

static void on_event(void *ctx, const struct host_event *event)
{
	(void)ctx;
	log_info("%s", event->text);
}

static int usage(void)
{
	printf("usage: mezzd [--state-dir DIR] [--memory SIZE|PCT%%] [--vm-program FILE]\n");
	return 2;
}

static int run(const char *dir, const char *memory, const char *program)
{
	struct host_config cfg = {
		.state_dir = dir,
		.vm_program = program,
		.event = on_event,
	};
	struct host *host;
	struct err err = {0};
	sigset_t set;
	int number;

	options_init(&cfg.options);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	/* Before threads start, so that none of them takes the signal. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (host_memory_parse(memory, &cfg.memory_bytes, &err) ||
	    host_new(&cfg, &host, &err)) {
		log_error("%s", err.text);
		return 1;
	}
	log_info("%llu MiB of machine memory",
		 (unsigned long long)cfg.memory_bytes >> 20);
	sigwait(&set, &number);
	host_free(host);
	return 0;
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{"state-dir", required_argument, NULL, 'd'},
		{"memory", required_argument, NULL, 'm'},
		{"vm-program", required_argument, NULL, 'p'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	const char *dir = "/var/lib/mezzanine";
	const char *memory = NULL;
	const char *program = "/usr/local/libexec/mezzanine/mezz-vm";
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'd':
			dir = optarg;
			break;
		case 'm':
			memory = optarg;
			break;
		case 'p':
			program = optarg;
			break;
		default:
			return usage();
		}
	}
	return optind < argc ? usage() : run(dir, memory, program);
}
