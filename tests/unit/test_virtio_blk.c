/* SPDX-License-Identifier: Apache-2.0 */
/* The disk: data, bounds, odd images, locks, errors of the host, and pages taken away. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <dev/virtio_blk.h>
#include <mem/revoke_stress.h>

#include "virtio_driver.h"

#define IMAGE_BYTES (1 << 20)
#define F_RO        (UINT64_C(1) << 5)
#define F_FLUSH     (UINT64_C(1) << 9)
#define F_DISCARD   (UINT64_C(1) << 13)
#define F_ZEROES    (UINT64_C(1) << 14)

struct fixture {
	struct driver d;
	char path[64];
	struct virtio_blk *blk;
	uint8_t image[IMAGE_BYTES];
};

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 31 + at / 509 + at / 65521);
}

static void make_image(struct fixture *f, size_t bytes)
{
	int fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	for (size_t i = 0; i < bytes; i++)
		f->image[i] = pattern(i);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, f->image, bytes), bytes);
	close(fd);
}

static size_t read_image(struct fixture *f)
{
	int fd = open(f->path, O_RDONLY);
	ssize_t n = read(fd, f->image, sizeof(f->image));

	assert_true(n >= 0);
	close(fd);
	return (size_t)n;
}

static int setup(void **state)
{
	static struct fixture f;
	int fd;

	memset(&f, 0, sizeof(f));
	strcpy(f.path, "/tmp/mezz-disk-XXXXXX");
	fd = mkstemp(f.path);
	if (fd < 0 || driver_init(&f.d))
		return -1;
	close(fd);
	make_image(&f, IMAGE_BYTES);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->blk = virtio_blk_close(f->blk);
	driver_release(&f->d);
	unlink(f->path);
	return 0;
}

static void plug(struct fixture *f, enum virtio_blk_mode mode, uint64_t features)
{
	const struct virtio_report report = driver_report(&f->d);
	struct err err;

	assert_int_equal(virtio_blk_open(f->path, mode, f->d.mem, &report,
					 &f->blk, &err),
			 0);
	driver_attach(&f->d, virtio_blk_dev(f->blk));
	driver_start(&f->d, features, 1);
}

static int request(struct fixture *f, uint32_t type, uint64_t sector,
		   unsigned int n_pieces, const struct piece *pieces)
{
	return driver_disk_request(&f->d, type, sector, n_pieces, pieces);
}

static int simple(struct fixture *f, uint32_t type, uint64_t sector,
		  uint32_t len)
{
	const struct piece piece = {DRIVER_DATA, len};

	return request(f, type, sector, len ? 1 : 0, &piece);
}

static void check_pattern(struct fixture *f, uint64_t addr, uint64_t from,
			  size_t len)
{
	uint8_t *buf = malloc(len);

	assert_non_null(buf);
	driver_get(&f->d, addr, buf, len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], pattern(from + i));
	free(buf);
}

static void test_config(void **state)
{
	struct fixture *f = *state;
	uint64_t v;

	plug(f, VIRTIO_BLK_RW, 0);
	assert_int_equal(driver_rd(&f->d, R_ID), 2);
	assert_true(bus_mmio_read(f->d.bus, gpa(VIRTIO_MMIO_BASE + R_CONFIG), 8,
				  &v));
	assert_int_equal(v, IMAGE_BYTES / 512);
	assert_int_equal(driver_rd(&f->d, R_CONFIG + 12), 126); /* seg_max */
	assert_int_equal(driver_rd(&f->d, R_CONFIG + 20), 512);
	driver_wr(&f->d, R_FEAT_SEL, 0);
	v = driver_rd(&f->d, R_FEATURES);
	assert_int_equal(v & (F_RO | F_FLUSH | F_DISCARD | F_ZEROES),
			 F_FLUSH | F_DISCARD | F_ZEROES);
}

static void test_read(void **state)
{
	struct fixture *f = *state;
	/* Odd places, odd lengths, page boundaries. */
	const struct piece pieces[3] = {{0x100ffd, 3},
					{0x200001, 9000},
					{0x300800, 10240 - 9003}};

	plug(f, VIRTIO_BLK_RO, 0);
	assert_int_equal(request(f, DISK_IN, 7, 3, pieces), 0);
	assert_int_equal(driver_used_len(&f->d, 0, 0), 10241);
	check_pattern(f, 0x100ffd, 7 * 512, 3);
	check_pattern(f, 0x200001, 7 * 512 + 3, 9000);
	check_pattern(f, 0x300800, 7 * 512 + 9003, 10240 - 9003);
	assert_int_equal(virtio_blk_stats(f->blk)->read_bytes, 10240);
	assert_int_equal(f->d.irqs, 1);
	/* All of it at once. */
	assert_int_equal(simple(f, DISK_IN, 0, IMAGE_BYTES), 0);
	check_pattern(f, DRIVER_DATA, 0, IMAGE_BYTES);
}

struct told {
	unsigned int n;
	gpa_t addr[4];
	uint64_t len[4];
};

static void on_filled(void *ctx, const struct virtio_blk *blk, gpa_t addr,
		      uint64_t len)
{
	struct told *told = ctx;

	(void)blk;
	assert_true(told->n < 4);
	told->addr[told->n] = addr;
	told->len[told->n++] = len;
}

/* Pieces that touch are one; what the guest writes is nobody's business. */
static void test_filled(void **state)
{
	struct fixture *f = *state;
	const struct piece pieces[] = {
		{DRIVER_DATA, 1024},
		{DRIVER_DATA + 1024, 512},
		{DRIVER_DATA + 2 * PAGE_SIZE, PAGE_SIZE},
	};
	struct told told = {0};

	plug(f, VIRTIO_BLK_RW, F_FLUSH);
	virtio_blk_set_filled(f->blk, on_filled, &told);
	assert_int_equal(request(f, DISK_OUT, 0, 3, pieces), 0);
	assert_int_equal(told.n, 0);
	assert_int_equal(request(f, DISK_IN, 0, 3, pieces), 0);
	assert_int_equal(told.n, 2);
	assert_int_equal(told.addr[0].v, DRIVER_DATA);
	assert_int_equal(told.len[0], 1536);
	assert_int_equal(told.addr[1].v, DRIVER_DATA + 2 * PAGE_SIZE);
	assert_int_equal(told.len[1], PAGE_SIZE);
}

static void test_write(void **state)
{
	struct fixture *f = *state;
	const struct piece pieces[2] = {{0x100fff, 600}, {0x200000, 424}};
	uint8_t data[1024];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(200 - i);
	plug(f, VIRTIO_BLK_RW, F_FLUSH);
	driver_put(&f->d, 0x100fff, data, 600);
	driver_put(&f->d, 0x200000, data + 600, 424);
	assert_int_equal(request(f, DISK_OUT, 100, 2, pieces), 0);
	assert_int_equal(driver_used_len(&f->d, 0, 0), 1);
	assert_int_equal(simple(f, DISK_FLUSH, 0, 0), 0);
	assert_int_equal(virtio_blk_stats(f->blk)->flushes, 1);
	assert_int_equal(read_image(f), IMAGE_BYTES);
	assert_memory_equal(f->image + 51200, data, sizeof(data));
	assert_int_equal(f->image[51199], pattern(51199));
	assert_int_equal(f->image[52224], pattern(52224));
}

static void test_bounds(void **state)
{
	struct fixture *f = *state;
	const uint64_t end = IMAGE_BYTES / 512;

	plug(f, VIRTIO_BLK_RW, 0);
	assert_int_equal(simple(f, DISK_IN, end - 1, 512), 0);
	assert_int_equal(simple(f, DISK_IN, end - 1, 1024), 1);
	assert_int_equal(simple(f, DISK_IN, end, 512), 1);
	assert_int_equal(simple(f, DISK_IN, UINT64_MAX, 512), 1);
	assert_int_equal(simple(f, DISK_IN, UINT64_MAX / 512 + 1, 512), 1);
	assert_int_equal(simple(f, DISK_OUT, end - 1, 1024), 1);
	assert_int_equal(simple(f, DISK_OUT, 0, 511), 1);
	assert_int_equal(simple(f, DISK_IN, 0, 513), 1);
	assert_int_equal(simple(f, DISK_IN, 0, 0), 0);
	assert_int_equal(driver_used_len(&f->d, 0, 1), 1);
	assert_int_equal(virtio_blk_stats(f->blk)->errors, 7);
	assert_int_equal(read_image(f), IMAGE_BYTES);
	for (size_t i = 0; i < IMAGE_BYTES; i++)
		assert_int_equal(f->image[i], pattern(i));
}

static void test_read_only(void **state)
{
	struct fixture *f = *state;

	plug(f, VIRTIO_BLK_RO, 0);
	driver_wr(&f->d, R_FEAT_SEL, 0);
	assert_int_equal(driver_rd(&f->d, R_FEATURES) &
				 (F_RO | F_FLUSH | F_DISCARD | F_ZEROES),
			 F_RO);
	assert_int_equal(simple(f, DISK_OUT, 0, 512), 1);
	assert_int_equal(simple(f, DISK_ZEROES, 0, 16), 1);
	assert_int_equal(simple(f, DISK_FLUSH, 0, 0), 0);
	assert_int_equal(read_image(f), IMAGE_BYTES);
	assert_int_equal(f->image[1], pattern(1));
}

static void test_odd_size(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[512];

	make_image(f, 1000);
	memset(buf, 0xaa, sizeof(buf));
	plug(f, VIRTIO_BLK_RW, F_FLUSH);
	assert_int_equal(virtio_blk_sectors(f->blk), 2);
	driver_put(&f->d, DRIVER_DATA + 512, buf, 512);
	driver_put(&f->d, DRIVER_DATA + 1024, buf, 512);
	assert_int_equal(simple(f, DISK_IN, 0, 1024), 0);
	driver_get(&f->d, DRIVER_DATA + 1024, buf, 512);
	assert_int_equal(buf[0] & buf[511], 0xaa); /* beyond the request */
	check_pattern(f, DRIVER_DATA, 0, 1000);
	driver_get(&f->d, DRIVER_DATA + 1000, buf, 24);
	for (unsigned int i = 0; i < 24; i++)
		assert_int_equal(buf[i], 0);
	/* Nothing is added by reading; writing completes the sector. */
	assert_int_equal(read_image(f), 1000);
	memset(buf, 0xbb, sizeof(buf));
	driver_put(&f->d, DRIVER_DATA, buf, 512);
	assert_int_equal(simple(f, DISK_OUT, 1, 512), 0);
	assert_int_equal(read_image(f), 1024);
	assert_int_equal(f->image[1023], 0xbb);
}

static void test_image_shrinks(void **state)
{
	struct fixture *f = *state;

	plug(f, VIRTIO_BLK_RW, 0);
	assert_int_equal(truncate(f->path, 4096), 0);
	assert_int_equal(simple(f, DISK_IN, 0, 4096), 0);
	assert_int_equal(simple(f, DISK_IN, 4, 4096), 1);
}

static void test_host_full(void **state)
{
	struct fixture *f = *state;
	struct rlimit old;
	struct rlimit limit;

	/* A file size limit stands for a full disk. */
	plug(f, VIRTIO_BLK_RW, F_FLUSH);
	assert_int_equal(truncate(f->path, 0), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = (struct rlimit){8192, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);

	int inside = simple(f, DISK_OUT, 0, 8192);
	int outside = simple(f, DISK_OUT, 8, 8192);

	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(inside, 0);
	assert_int_equal(outside, 1);
}

struct range {
	uint64_t sector;
	uint32_t n;
	uint32_t flags;
};

static int ranges(struct fixture *f, uint32_t type, const struct range *r,
		  size_t n)
{
	driver_put(&f->d, DRIVER_DATA, r, n * sizeof(*r));
	return simple(f, type, 0, (uint32_t)(n * sizeof(*r)));
}

/* The host's calls, interrupted by a signal so many times: see meson.build. */
static unsigned int interrupts;

int __real_fallocate64(int fd, int mode, off_t at, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t at, off_t len);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

static bool interrupted(void)
{
	if (!interrupts)
		return false;
	interrupts--;
	errno = EINTR;
	return true;
}

int __wrap_fallocate64(int fd, int mode, off_t at, off_t len)
{
	return interrupted() ? -1 : __real_fallocate64(fd, mode, at, len);
}

int __wrap_fdatasync(int fd)
{
	return interrupted() ? -1 : __real_fdatasync(fd);
}

static void test_signals_are_no_errors(void **state)
{
	struct fixture *f = *state;
	const struct range range = {2, 8, 0};

	plug(f, VIRTIO_BLK_RW, F_FLUSH | F_DISCARD | F_ZEROES);
	interrupts = 3;
	assert_int_equal(simple(f, DISK_FLUSH, 0, 0), 0);
	interrupts = 3;
	assert_int_equal(ranges(f, DISK_ZEROES, &range, 1), 0);
	interrupts = 3;
	assert_int_equal(ranges(f, DISK_DISCARD, &range, 1), 0);
	assert_int_equal(interrupts, 0);
}

/* Each sector is an available ring that offers one more, and the header of the next read. */
static void make_chain_reaction(struct fixture *f)
{
	struct {
		uint16_t flags;
		uint16_t idx;
		uint16_t ring[DRIVER_QUEUE];
		uint32_t pad[3];
		struct {
			uint32_t type;
			uint32_t reserved;
			uint64_t sector;
		} header;
	} sector = {.header.type = DISK_IN};
	const int fd = open(f->path, O_WRONLY);

	assert_true(fd >= 0);
	for (unsigned int i = 0; i < IMAGE_BYTES / 512; i++) {
		sector.idx = (uint16_t)(i + 2);
		sector.header.sector = i + 1;
		assert_int_equal(pwrite(fd, &sector, sizeof(sector), i * 512),
				 sizeof(sector));
	}
	close(fd);
}

static void test_rings_that_rewrite_themselves(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;
	const uint64_t avail = driver_avail_at(0);
	const uint64_t table = driver_desc_at(0);
	uint16_t used = 0;
	bool more;

	make_chain_reaction(f);
	plug(f, VIRTIO_BLK_RW, F_FLUSH);
	driver_desc(d, table, 0, avail + 32, 16, D_NEXT, 1);
	driver_desc(d, table, 1, avail, 512, D_NEXT | D_WRITE, 2);
	driver_desc(d, table, 2, DISK_STATUS, 1, D_WRITE, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	assert_int_equal(driver_used(d, 0), DRIVER_QUEUE);
	while (virtio_dev_owes(virtio_blk_dev(f->blk))) {
		assert_int_equal(driver_used(d, 0) - used, DRIVER_QUEUE);
		used = driver_used(d, 0);
		more = virtio_dev_resume(virtio_blk_dev(f->blk));
		assert_int_equal(more, driver_used(d, 0) - used == DRIVER_QUEUE);
	}
	/* All sectors, and one that is not there. */
	assert_int_equal(driver_used(d, 0), IMAGE_BYTES / 512 + 1);
	assert_int_equal(d->reports, 0);
}

static void test_stop_is_seen(void **state)
{
	struct fixture *f = *state;

	plug(f, VIRTIO_BLK_RW, F_FLUSH);
	assert_int_equal(simple(f, DISK_IN, 0, 4096), 0);
	guestmem_stop(f->d.mem);
	assert_int_equal(simple(f, DISK_IN, 0, 4096), -1);
	assert_false(virtio_dev_owes(virtio_blk_dev(f->blk)));
}

static void test_get_id(void **state)
{
	struct fixture *f = *state;
	char id[21] = {0};

	plug(f, VIRTIO_BLK_RO, 0);
	assert_int_equal(simple(f, DISK_GET_ID, 0, 20), 0);
	assert_int_equal(driver_used_len(&f->d, 0, 0), 21);
	driver_get(&f->d, DRIVER_DATA, id, 20);
	assert_string_equal(id, f->path + strlen("/tmp/"));
	assert_int_equal(simple(f, DISK_GET_ID, 0, 19), 1);
	assert_int_equal(simple(f, 77, 0, 20), 2);
}

static void test_ranges(void **state)
{
	struct fixture *f = *state;
	const struct range two[2] = {{2, 3, 0}, {100, 8, 1}};
	const struct range bad[2] = {{200, 8, 0}, {IMAGE_BYTES / 512, 1, 0}};
	const struct range flagged = {300, 8, 1};
	const struct range whole = {16, 16, 0};
	static const struct range many[17];

	plug(f, VIRTIO_BLK_RW, F_FLUSH | F_DISCARD | F_ZEROES);
	assert_int_equal(ranges(f, DISK_ZEROES, two, 2), 0);
	assert_int_equal(ranges(f, DISK_ZEROES, bad, 2), 1); /* nothing is done */
	assert_int_equal(ranges(f, DISK_DISCARD, &flagged, 1), 2);
	assert_int_equal(ranges(f, DISK_ZEROES, many, 17), 1);
	assert_int_equal(simple(f, DISK_ZEROES, 0, 15), 1);
	assert_int_equal(simple(f, DISK_DISCARD, 0, 0), 1);
	assert_int_equal(ranges(f, DISK_DISCARD, &whole, 1), 0);
	assert_int_equal(read_image(f), IMAGE_BYTES);
	for (uint64_t i = 0; i < IMAGE_BYTES; i++) {
		uint64_t s = i / 512;
		bool zero = (s >= 2 && s < 5) || (s >= 100 && s < 108) ||
			    (s >= 16 && s < 32);

		assert_int_equal(f->image[i], zero ? 0 : pattern(i));
	}
}

static void test_malformed(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	plug(f, VIRTIO_BLK_RW, 0);
	/* No room for a status. */
	driver_desc(d, driver_desc_at(0), 0, DISK_HEADER, 16, 0, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	assert_int_equal(driver_rd(d, R_STATUS) & 0x40, 0x40);
	assert_non_null(strstr(d->report, "virtio-blk"));
	driver_start(d, 0, 1);
	/* A header that is too short. */
	driver_desc(d, driver_desc_at(0), 0, DISK_HEADER, 15, D_NEXT, 1);
	driver_desc(d, driver_desc_at(0), 1, DISK_STATUS, 1, D_WRITE, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	assert_int_equal(driver_rd(d, R_STATUS) & 0x40, 0x40);
	assert_int_equal(d->reports, 2);
	/* And whole again after a reset. */
	driver_start(d, 0, 1);
	assert_int_equal(simple(f, DISK_IN, 0, 512), 0);
	check_pattern(f, DRIVER_DATA, 0, 512);
}

/* Header in three descriptors, status behind the data in one: any layout is allowed. */
static void test_any_layout(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;
	const uint64_t header[2] = {DISK_IN, 3};
	uint64_t table = driver_desc_at(0);
	uint8_t status = 0xee;

	plug(f, VIRTIO_BLK_RO, 0);
	driver_put(d, DISK_HEADER, header, 16);
	driver_put(d, DRIVER_DATA + 1024, &status, 1);
	driver_desc(d, table, 0, DISK_HEADER, 1, D_NEXT, 1);
	driver_desc(d, table, 1, DISK_HEADER + 1, 10, D_NEXT, 2);
	driver_desc(d, table, 2, DISK_HEADER + 11, 5, D_NEXT, 3);
	driver_desc(d, table, 3, DRIVER_DATA, 1025, D_WRITE, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	driver_get(d, DRIVER_DATA + 1024, &status, 1);
	assert_int_equal(status, 0);
	check_pattern(f, DRIVER_DATA, 3 * 512, 1024);
}

static int try_open(struct fixture *f, const char *path,
		    enum virtio_blk_mode mode, struct err *err)
{
	struct virtio_blk *blk = NULL;
	int r = virtio_blk_open(path, mode, f->d.mem, NULL, &blk, err);

	virtio_blk_close(blk);
	if (r < 0)
		assert_non_null(strstr(err->text, path));
	return r;
}

static void test_cannot_open(void **state)
{
	struct fixture *f = *state;
	struct err err;

	assert_int_equal(try_open(f, "/tmp/no/such/disk", VIRTIO_BLK_RO, &err),
			 -ENOENT);
	assert_int_equal(try_open(f, "/tmp", VIRTIO_BLK_RO, &err), -EISDIR);
	assert_int_equal(try_open(f, "/tmp", VIRTIO_BLK_RW, &err), -EISDIR);
	assert_string_equal(err.text, "disk image '/tmp' is a directory");
	assert_int_equal(try_open(f, "/dev/null", VIRTIO_BLK_RO, &err), -EINVAL);
	make_image(f, 0);
	assert_int_equal(try_open(f, f->path, VIRTIO_BLK_RW, &err), -EINVAL);
	assert_non_null(strstr(err.text, "is empty"));
	/* A pipe must not keep us waiting. */
	unlink(f->path);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	assert_int_equal(try_open(f, f->path, VIRTIO_BLK_RO, &err), -EINVAL);
}

static void test_no_permission(void **state)
{
	struct fixture *f = *state;
	struct err err;
	uid_t me = geteuid();

	/* The superuser may do everything, so be somebody else for a moment. */
	assert_int_equal(chmod(f->path, 0444), 0);
	if (me == 0)
		assert_int_equal(seteuid(65534), 0);

	int rw = try_open(f, f->path, VIRTIO_BLK_RW, &err);
	int ro;

	if (me == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(rw, -EACCES);
	assert_non_null(strstr(err.text, "cannot be written"));
	assert_int_equal(chmod(f->path, 0), 0);
	if (me == 0)
		assert_int_equal(seteuid(65534), 0);
	ro = try_open(f, f->path, VIRTIO_BLK_RO, &err);
	if (me == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(ro, -EACCES);
}

static void test_locks(void **state)
{
	struct fixture *f = *state;
	struct err err;

	plug(f, VIRTIO_BLK_RO, 0);
	assert_int_equal(try_open(f, f->path, VIRTIO_BLK_RO, &err), 0);
	assert_int_equal(try_open(f, f->path, VIRTIO_BLK_RW, &err), -EBUSY);
	assert_non_null(strstr(err.text, "in use by another program"));
	f->blk = virtio_blk_close(f->blk);
	assert_int_equal(virtio_blk_open(f->path, VIRTIO_BLK_RW, f->d.mem, NULL,
					 &f->blk, &err),
			 0);
	assert_int_equal(try_open(f, f->path, VIRTIO_BLK_RO, &err), -EBUSY);
	assert_int_equal(try_open(f, f->path, VIRTIO_BLK_RW, &err), -EBUSY);
}

/*
 * Pages that the guest has only read so far are one common page of zeros. The disk's
 * write moves each of them, in the middle of a batch.
 */
static void test_pages_move(void **state)
{
	struct fixture *f = *state;
	uint64_t epoch;

	plug(f, VIRTIO_BLK_RO, 0);
	for (uint64_t at = 0; at < IMAGE_BYTES; at += PAGE_SIZE) {
		uint8_t *ptr;
		uint64_t len;

		assert_int_equal(guestmem_span(f->d.mem, gpa(DRIVER_DATA + at),
					       MEM_READ, &ptr, &len),
				 MEM_OK);
	}
	epoch = guestmem_epoch(f->d.mem);
	assert_int_equal(simple(f, DISK_IN, 0, IMAGE_BYTES), 0);
	assert_true(guestmem_epoch(f->d.mem) > epoch);
	check_pattern(f, DRIVER_DATA, 0, IMAGE_BYTES);
}

/*
 * A host that takes page 1 while the disk has page 0 in hand and waits for page 1, and then
 * takes page 0 and forgets its (zero) contents. What the disk reads must not end in the
 * frame that page 0 no longer has.
 */
struct thief {
	struct guestmem *mem;
	struct revoke_host *host;
	struct revoke_batch batches[2]; /* of page 1, of page 0 */
	unsigned int n_taken;
	unsigned int n_acked;
};

#define FIRST_PAGE (DRIVER_DATA / PAGE_SIZE)

static int thief_send(void *ctx, const struct revoke_request *request)
{
	return guestmem_revoke(((struct thief *)ctx)->mem, request);
}

static void thief_take(struct thief *t, uint64_t page)
{
	const ppn_t pages[1] = {ppn(page)};

	assert_int_equal(revoke_take(t->host, pages, 1, 1U << PHYSMAP_HOME,
				     &t->batches[t->n_taken++]),
			 1);
}

/* Called by the processor thread in the middle of its wait for page 1. */
static void thief_unmap(void *ctx, ppn_t page)
{
	if (page.v == FIRST_PAGE + 1)
		thief_take(ctx, FIRST_PAGE);
}

static void thief_ack(void *ctx, uint64_t ticket)
{
	struct thief *t = ctx;
	struct revoke_batch *batch = &t->batches[t->n_acked];
	uint64_t final = t->n_acked ? PHYSMAP_ZERO : PHYSMAP_HOME;

	assert_int_equal(ticket, batch->ticket);
	revoke_host_ack(t->host, ticket);
	assert_int_equal(revoke_wait(t->host, batch, 0), 0);
	assert_int_equal(revoke_finish(t->host, batch, 0, final), 0);
	revoke_end(t->host, batch);
	t->n_acked++;
}

static void test_page_taken_in_hand(void **state)
{
	static const struct guestmem_ops ops = {.unmap = thief_unmap};
	static const uint8_t zeros[2 * PAGE_SIZE];
	struct fixture *f = *state;
	struct thief t = {.mem = f->d.mem};

	plug(f, VIRTIO_BLK_RO, 0);
	driver_put(&f->d, DRIVER_DATA, zeros, sizeof(zeros));
	guestmem_set_ops(f->d.mem, &ops, &t);
	assert_int_equal(revoke_host_new(guestmem_physmap(f->d.mem),
					 guestmem_machine(f->d.mem)->home_fd,
					 thief_send, &t, &t.host),
			 0);
	guestmem_connect_host(f->d.mem, thief_ack, &t);

	const struct piece both = {DRIVER_DATA, 2 * PAGE_SIZE};
	/* The request is acknowledged at a safe point: there must be none before page 1. */
	thief_take(&t, FIRST_PAGE + 1);
	assert_int_equal(request(f, DISK_IN, 0, 1, &both), 0);
	assert_int_equal(t.n_acked, 2);
	check_pattern(f, DRIVER_DATA, 0, 2 * PAGE_SIZE);
	guestmem_connect_host(f->d.mem, NULL, NULL);
	revoke_host_free(t.host);
}

/* A host that takes, spoils and returns pages all the time must not be noticed. */
static void test_under_revocation(void **state)
{
	struct fixture *f = *state;
	struct revoke_stress *stress;
	struct revoke_stress_stats stats;
	struct err err;
	const uint32_t len = 96 * 1024;
	unsigned int round = 0;

	plug(f, VIRTIO_BLK_RW, F_FLUSH);
	assert_int_equal(revoke_stress_start(f->d.mem, 200000, 1, &stress, &err),
			 0);
	do {
		uint64_t sector = round % 20 * 97;

		assert_int_equal(simple(f, DISK_IN, sector, len), 0);
		guestmem_service(f->d.mem);
		check_pattern(f, DRIVER_DATA, sector * 512, len);
		assert_int_equal(simple(f, DISK_OUT, sector, len), 0);
		guestmem_service(f->d.mem);
		stats = revoke_stress_stats(stress);
		round++;
	} while (round < 300 || (stats.taken < 2000 && round < 100000));
	revoke_stress_stop(stress);
	assert_true(stats.taken >= 2000);
	assert_int_equal(read_image(f), IMAGE_BYTES);
	for (size_t i = 0; i < IMAGE_BYTES; i++)
		assert_int_equal(f->image[i], pattern(i));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_config),
		T(test_read),
		T(test_filled),
		T(test_write),
		T(test_bounds),
		T(test_read_only),
		T(test_odd_size),
		T(test_image_shrinks),
		T(test_host_full),
		T(test_get_id),
		T(test_ranges),
		T(test_malformed),
		T(test_any_layout),
		T(test_cannot_open),
		T(test_no_permission),
		T(test_locks),
		T(test_pages_move),
		T(test_page_taken_in_hand),
		T(test_under_revocation),
		T(test_signals_are_no_errors),
		T(test_rings_that_rewrite_themselves),
		T(test_stop_is_seen),
	};

	return cmocka_run_group_tests_name("virtio_blk", tests, NULL, NULL);
}
