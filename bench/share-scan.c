/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's scanner by itself, for bench/bench-sharing: VMs that hold what files contain stand
 * still, and are scanned a number of times.
 *
 *	share-scan [-g PAGES] [-s PASSES] PASSES FILE...
 *
 * -g: pages read for nothing rather than by another call (share_set_gap()); -s: how often at
 * most to pass over what does not change (Mem.ShareSkipMax).
 *
 * Everything is as in mezzd but for the processes: each VM has a thread that answers revocations,
 * whose time counts. Prints one JSON object for each pass.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <host/group.h>
#include <host/share.h>
#include <host/vmmem.h>
#include <mem/guestmem.h>
#include <mem/memfile.h>
#include <policy/options.h>

#define VMS_MAX 16

static const char usage[] = "share-scan [-g PAGES] [-s PASSES] PASSES FILE...";
static struct options options;

struct guest {
	struct guestmem *mem;
	struct vmmem *host;
	pthread_t thread;
	clockid_t clock;
	uint64_t pages; /* loaded */
	uint64_t cursor;
	int kick_fd;
};

static struct guest guests[VMS_MAX];
static int n_guests;
static struct ledger ledger;

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "share-scan: %s: %s\n", what, why);
	exit(1);
}

static void check(int code, const char *what)
{
	if (code)
		fail(what, strerror(-code));
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int on_revoke(void *ctx, const struct revoke_request *request)
{
	struct guest *g = ctx;

	return guestmem_revoke(g->mem, request);
}

static void on_ack(void *ctx, uint64_t ticket)
{
	struct guest *g = ctx;

	revoke_host_ack(g->host->revoke, ticket);
}

static void kick(void *ctx)
{
	const struct guest *g = ctx;
	const uint64_t one = 1;

	if (write(g->kick_fd, &one, sizeof(one)) < 0)
		fail("kick", strerror(errno));
}

static const struct guestmem_ops ops = {.kick = kick};

/* An idle processor: it sleeps until it is kicked. */
static void *serve(void *arg)
{
	struct guest *g = arg;
	uint64_t n;

	while (read(g->kick_fd, &n, sizeof(n)) == (ssize_t)sizeof(n))
		guestmem_service(g->mem);
	return NULL;
}

static void load(struct guest *g, const char *path, uint64_t bytes)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	static uint8_t page[PAGE_SIZE];
	uint64_t start;
	uint64_t end = 0;

	while (memfile_data_next(fd, bytes, end, &start, &end)) {
		for (uint64_t at = start; at < end; at += PAGE_SIZE) {
			const ppn_t p = ppn(at / PAGE_SIZE);

			if (pread(fd, page, PAGE_SIZE, (off_t)at) !=
				    (ssize_t)PAGE_SIZE ||
			    !guestmem_write(g->mem, guestmem_gpa(g->mem, p),
					    page, PAGE_SIZE))
				fail(path, "cannot be loaded");
			g->pages++;
		}
	}
	close(fd);
}

static int dup_of(int fd)
{
	const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		fail("descriptor", strerror(errno));
	return copy;
}

static void connect_host(struct guest *g, struct group *group)
{
	const uint64_t n_pages = physmap_pages(guestmem_physmap(g->mem));
	struct link_counters *counters;
	struct zip *zip;
	struct swap *swap;
	struct err err = {0};
	int fds[LINK_FDS_NEW];
	char path[] = "/tmp/mezz-bench-swap";

	check(link_counters_new(&fds[LINK_FD_COUNTERS], &counters, &err),
	      err.text);
	fds[LINK_FD_HOME] = dup_of(guestmem_machine(g->mem)->home_fd);
	fds[LINK_FD_TABLES] = dup_of(guestmem_machine(g->mem)->table_fd);
	fds[LINK_FD_PHYSMAP] = dup_of(physmap_fd(guestmem_physmap(g->mem)));
	check(vmmem_new(n_pages, fds, &ledger, on_revoke, g, &g->host, &err),
	      err.text);
	check(zip_new(n_pages, &ledger, &zip, &err), err.text);
	check(swap_new(path, 0, &swap, &err), err.text);
	unlink(path);
	check(vmmem_attach(g->host, zip, swap, group), "group");
	vmmem_rescan(g->host, true);
	g->kick_fd = eventfd(0, EFD_CLOEXEC);
	guestmem_set_ops(g->mem, &ops, g);
	guestmem_connect_host(g->mem, on_ack, g);
	check(-pthread_create(&g->thread, NULL, serve, g), "thread");
	pthread_getcpuclockid(g->thread, &g->clock);
}

static uint64_t guests_ns(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < n_guests; i++)
		sum += clock_ns(guests[i].clock);
	return sum;
}

static uint64_t home_pages(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < n_guests; i++)
		sum += vmmem_home_pages(guests[i].host);
	return sum;
}

/* As the mover does: some windows of one VM, then of the next. */
static uint64_t pass(struct share *share)
{
	bool done[VMS_MAX] = {0};
	uint64_t scanned = 0;
	int left = n_guests;

	while (left) {
		for (int i = 0; i < n_guests; i++) {
			struct guest *g = &guests[i];

			if (done[i])
				continue;
			vmmem_drain(g->host);
			scanned += share_scan(share, g->host, &g->cursor, 1024,
					      options.v[OPT_SHARE_SKIP_MAX]);
			if (g->cursor < g->host->n_pages)
				continue;
			g->cursor = 0;
			done[i] = true;
			left--;
		}
	}
	return scanned;
}

static void add_guest(const char *path, struct group *group)
{
	struct guest *g = &guests[n_guests++];
	struct err err = {0};
	struct stat st;

	if (n_guests == VMS_MAX || stat(path, &st) < 0)
		fail(path, "cannot be used");
	check(guestmem_new((uint64_t)st.st_size, &g->mem, &err), err.text);
	load(g, path, (uint64_t)st.st_size);
	connect_host(g, group);
}

int main(int argc, char *argv[])
{
	struct share *share = share_new();
	struct group *group;
	struct err err = {0};
	uint64_t before;
	long passes;
	int opt;

	options_init(&options);
	while (share && (opt = getopt(argc, argv, "g:s:")) != -1) {
		const uint32_t n = optarg ? (uint32_t)strtoul(optarg, NULL, 0)
					  : 0;

		if (opt == 'g')
			share_set_gap(share, n);
		else if (opt == 's')
			options.v[OPT_SHARE_SKIP_MAX] = n;
		else
			fail("usage", usage);
	}
	passes = optind < argc ? strtol(argv[optind++], NULL, 0) : 0;
	if (passes < 1 || optind == argc || !share)
		fail("usage", usage);
	ledger_init(&ledger, UINT64_C(1) << 24);
	check(group_new("bench", UINT64_C(1) << 22, &ledger, &group, &err),
	      err.text);
	for (int i = optind; i < argc; i++)
		add_guest(argv[i], group);
	before = home_pages();
	for (long i = 0; i < passes; i++) {
		const uint64_t vm = guests_ns();
		const uint64_t mover = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		const uint64_t scanned = pass(share);

		printf("{\"pages\": %llu, \"scanned_pages\": %llu, \"cpu_ns\": %llu, \"cpu_vm_ns\": %llu, \"saved_pages\": %llu, \"book_bytes\": %llu}\n",
		       (unsigned long long)before, (unsigned long long)scanned,
		       (unsigned long long)(clock_ns(CLOCK_THREAD_CPUTIME_ID) -
					    mover),
		       (unsigned long long)(guests_ns() - vm),
		       (unsigned long long)(before - home_pages() -
					    group->n_frames_used),
		       (unsigned long long)group_book_bytes(group));
	}
	share_free(share);
	return 0;
}
