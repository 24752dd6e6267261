/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver of the virtio balloon that does not do what it should, as a program.
 *
 *	liar mute SECONDS	says what it has to spare, and gives no page; from
 *				SIGUSR1 on it gives what it is asked for
 *	liar lie SECONDS	gives pages that it does not have: beyond RAM, in the
 *				devices' window, one page many times, one in use;
 *				says in the device's configuration that it gave all
 *				it was asked for; and makes up statistics
 *
 * Prints "liar ready" when it has the device, "liar asked N" when it is asked for the first time,
 * and "liar ok" at the end. Needs virtio_balloon to be unbound, and the kernel parameter
 * iomem=relaxed, since the device's registers are mapped through /dev/mem.
 */
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SLOTS_BASE 0xd0000000UL
#define SLOT_BYTES 0x1000UL
#define N_SLOTS    16
#define MAGIC      0x74726976U /* [VIRTIO 4.2.2 "MMIO Device Register Layout"] */
#define BALLOON_ID 5
#define PAGE_BYTES 4096UL
#define QUEUE_SIZE 16
#define N_QUEUES   3

enum reg {
	REG_MAGIC = 0x000,
	REG_DEVICE_ID = 0x008,
	REG_FEATURES = 0x020,
	REG_FEATURES_SEL = 0x024,
	REG_QUEUE_SEL = 0x030,
	REG_QUEUE_NUM = 0x038,
	REG_QUEUE_READY = 0x044,
	REG_QUEUE_NOTIFY = 0x050,
	REG_ISR = 0x060,
	REG_ISR_ACK = 0x064,
	REG_STATUS = 0x070,
	REG_QUEUE_DESC = 0x080,
	REG_QUEUE_DRIVER = 0x090,
	REG_QUEUE_DEVICE = 0x0a0,
	REG_CONFIG = 0x100, /* num_pages, then actual */
};

enum queue_index {
	INFLATE,
	DEFLATE,
	STATS,
};

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct ring {
	uint16_t flags;
	uint16_t idx;
	uint16_t ring[QUEUE_SIZE];
};

/* All of a queue, and what it sends, in one page. */
struct queue {
	struct desc desc[QUEUE_SIZE];
	struct ring avail;
	uint8_t used[8 + 8 * QUEUE_SIZE] __attribute__((aligned(4)));
	uint8_t bytes[1024] __attribute__((aligned(8)));
};

_Static_assert(sizeof(struct queue) <= PAGE_BYTES, "a queue is one page");

static volatile uint32_t *regs;
static struct queue *queues[N_QUEUES];
static volatile sig_atomic_t mended;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint32_t read_reg(unsigned int reg)
{
	return regs[reg / 4];
}

static void write_reg(unsigned int reg, uint32_t value)
{
	regs[reg / 4] = value;
}

static void find_device(void)
{
	const int fd = open("/dev/mem", O_RDWR | O_SYNC);
	volatile uint8_t *slots;

	if (fd < 0)
		die("/dev/mem");
	slots = mmap(NULL, N_SLOTS * SLOT_BYTES, PROT_READ | PROT_WRITE,
		     MAP_SHARED, fd, SLOTS_BASE);
	if (slots == MAP_FAILED)
		die("mmap");
	for (int i = 0; i < N_SLOTS; i++) {
		regs = (volatile uint32_t *)(slots + i * SLOT_BYTES);
		if (read_reg(REG_MAGIC) == MAGIC &&
		    read_reg(REG_DEVICE_ID) == BALLOON_ID)
			return;
	}
	fprintf(stderr, "liar: there is no balloon\n");
	exit(1);
}

/* Guest physical address of a page of ours, which stays there. */
static uint64_t physical(const void *page)
{
	const int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	if (fd < 0 || pread(fd, &entry, sizeof(entry),
			    (off_t)((uintptr_t)page / PAGE_BYTES *
				    sizeof(entry))) != sizeof(entry))
		die("pagemap");
	close(fd);
	return (entry & ((1UL << 55) - 1)) * PAGE_BYTES;
}

static void *new_page(void)
{
	void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE,
			  -1, 0);

	if (page == MAP_FAILED)
		die("mmap");
	memset(page, 0, PAGE_BYTES);
	return page;
}

static void set_address(unsigned int reg, uint64_t at)
{
	write_reg(reg, (uint32_t)at);
	write_reg(reg + 4, (uint32_t)(at >> 32));
}

static void make_queue(unsigned int i)
{
	uint64_t at;

	queues[i] = new_page();
	at = physical(queues[i]);
	write_reg(REG_QUEUE_SEL, i);
	write_reg(REG_QUEUE_NUM, QUEUE_SIZE);
	set_address(REG_QUEUE_DESC, at + offsetof(struct queue, desc));
	set_address(REG_QUEUE_DRIVER, at + offsetof(struct queue, avail));
	set_address(REG_QUEUE_DEVICE, at + offsetof(struct queue, used));
	write_reg(REG_QUEUE_READY, 1);
}

static void take_device(void)
{
	write_reg(REG_STATUS, 0);
	write_reg(REG_STATUS, 1 | 2);
	write_reg(REG_FEATURES_SEL, 0);
	write_reg(REG_FEATURES, 1 << 1); /* statistics */
	write_reg(REG_FEATURES_SEL, 1);
	write_reg(REG_FEATURES, 1); /* version 1 */
	write_reg(REG_STATUS, 1 | 2 | 8);
	for (unsigned int i = 0; i < N_QUEUES; i++)
		make_queue(i);
	write_reg(REG_STATUS, 1 | 2 | 8 | 4);
}

static void send_bytes(unsigned int i, const void *bytes, uint32_t len)
{
	struct queue *q = queues[i];
	const uint16_t at = q->avail.idx % QUEUE_SIZE;

	memcpy(q->bytes, bytes, len);
	q->desc[at] = (struct desc){
		.addr = physical(q) + offsetof(struct queue, bytes),
		.len = len,
	};
	q->avail.ring[at] = at;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	q->avail.idx++;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	write_reg(REG_QUEUE_NOTIFY, i);
}

/* Pages that are none, and one that is ours, again and again, also while it is used. */
static void lie_about_pages(uint32_t asked)
{
	static uint32_t *used;
	uint32_t pfns[128];

	if (!used)
		used = new_page();
	used[0] = asked;
	for (uint32_t i = 0; i < 128; i++)
		switch (i % 4) {
		case 0:
			pfns[i] = (uint32_t)(physical(used) / PAGE_BYTES);
			break;
		case 1:
			pfns[i] = 0xffffffff - i;
			break;
		case 2:
			pfns[i] = (uint32_t)(SLOTS_BASE / PAGE_BYTES) + i;
			break;
		default:
			pfns[i] = 0x7fffffff;
		}
	send_bytes(INFLATE, pfns, sizeof(pfns));
	write_reg(REG_CONFIG + 4, asked);
	used[0] = asked;
}

/* Pages of ours that we never look at again. */
static void give_pages(uint32_t asked)
{
	static uint32_t given;
	uint32_t pfns[128];
	uint32_t n = 0;

	while (n < 128 && given < asked) {
		pfns[n++] = (uint32_t)(physical(new_page()) / PAGE_BYTES);
		given++;
	}
	if (n)
		send_bytes(INFLATE, pfns, n * (uint32_t)sizeof(pfns[0]));
	write_reg(REG_CONFIG + 4, given);
}

/* Whether the device has taken all that was sent. */
static int is_idle(unsigned int i)
{
	uint16_t idx;

	memcpy(&idx, queues[i]->used + 2, sizeof(idx));
	return idx == queues[i]->avail.idx;
}

/* Everything is available, out of nothing, and a kind that nobody knows; or what may be true. */
static void send_statistics(int lies)
{
	static const uint16_t tags[] = {4, 5, 6, 10, 0x7777};
	static const uint64_t lie[] = {UINT64_MAX, 1, UINT64_MAX / 2, 0, 5};
	static const uint64_t truth[] = {40 << 20, 100 << 20, 60 << 20, 0, 5};
	uint8_t bytes[sizeof(tags) / sizeof(tags[0]) * 10];

	for (unsigned int i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
		memcpy(bytes + 10 * i, &tags[i], 2);
		memcpy(bytes + 10 * i + 2, lies ? &lie[i] : &truth[i], 8);
	}
	send_bytes(STATS, bytes, sizeof(bytes));
}

static void on_mended(int sig)
{
	(void)sig;
	mended = 1;
}

static void look(int lies, uint32_t *told)
{
	const uint32_t asked = read_reg(REG_CONFIG);

	write_reg(REG_ISR_ACK, read_reg(REG_ISR));
	if (asked && !*told)
		printf("liar asked %u\n", asked);
	*told |= asked;
	fflush(stdout);
	if (is_idle(STATS))
		send_statistics(lies);
	if (lies && asked && is_idle(INFLATE))
		lie_about_pages(asked);
	if (mended && is_idle(INFLATE))
		give_pages(asked);
}

int main(int argc, char *argv[])
{
	const struct timespec pause = {.tv_nsec = 200000000};
	uint32_t told = 0;
	time_t end;
	int lies;

	if (argc != 3 || (strcmp(argv[1], "mute") && strcmp(argv[1], "lie"))) {
		fprintf(stderr, "usage: liar mute|lie SECONDS\n");
		return 2;
	}
	lies = !strcmp(argv[1], "lie");
	signal(SIGUSR1, on_mended);
	find_device();
	take_device();
	/* One round of statistics, or nobody would ever be asked. */
	send_statistics(lies);
	printf("liar ready\n");
	fflush(stdout);
	end = time(NULL) + atoi(argv[2]);
	while (time(NULL) < end) {
		look(lies, &told);
		nanosleep(&pause, NULL);
	}
	printf("liar ok\n");
	return 0;
}
