/* SPDX-License-Identifier: Apache-2.0 */
/* A disk whose image stays as it is: whatever the guest does, compared with a plain model. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/rng.h>
#include <dev/overlay.h>
#include <dev/virtio_blk.h>

#include "virtio_driver.h"

#define SECTOR      512
#define SECTORS     2048
#define IMAGE_BYTES (SECTORS * SECTOR - 100) /* the last sector is not whole */
#define F_FLUSH     (UINT64_C(1) << 9)
#define F_DISCARD   (UINT64_C(1) << 13)
#define F_ZEROES    (UINT64_C(1) << 14)

struct fixture {
	struct driver d;
	char dir[64];
	char path[80];
	struct virtio_blk *blk;
	uint8_t image[SECTORS * SECTOR]; /* what the file holds, and zeros */
	uint8_t model[SECTORS * SECTOR]; /* what the guest must see */
	uint8_t buf[SECTORS * SECTOR];
};

static int setup(void **state)
{
	static struct fixture f;
	int fd;

	memset(&f, 0, sizeof(f));
	strcpy(f.dir, "/tmp/mezz-snapshot-XXXXXX");
	if (!mkdtemp(f.dir) || driver_init(&f.d))
		return -1;
	snprintf(f.path, sizeof(f.path), "%s/image", f.dir);
	for (size_t i = 0; i < IMAGE_BYTES; i++)
		f.image[i] = (uint8_t)(i * 31 + i / 509);
	memcpy(f.model, f.image, sizeof(f.model));
	fd = open(f.path, O_WRONLY | O_CREAT, 0400); /* nobody may write it */
	if (fd < 0 || write(fd, f.image, IMAGE_BYTES) != IMAGE_BYTES)
		return -1;
	close(fd);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->blk = virtio_blk_close(f->blk);
	driver_release(&f->d);
	unlink(f->path);
	/* Only if nothing else was left in it. */
	return rmdir(f->dir);
}

static int open_snapshot(struct fixture *f, const char *dir,
			 struct virtio_blk **ret, struct err *err)
{
	return virtio_blk_open_snapshot(f->path, dir, f->d.mem, NULL, ret, err);
}

static void plug(struct fixture *f)
{
	struct err err;

	assert_int_equal(open_snapshot(f, f->dir, &f->blk, &err), 0);
	driver_attach(&f->d, virtio_blk_dev(f->blk));
	driver_start(&f->d, F_FLUSH | F_DISCARD | F_ZEROES, 1);
}

/* One request whose data are at DRIVER_DATA, in pieces of odd lengths. */
static void request(struct fixture *f, uint32_t type, uint64_t sector,
		    uint32_t len, uint32_t first)
{
	struct piece pieces[2];
	unsigned int n = 0;

	if (first > len)
		first = len;
	if (first)
		pieces[n++] = (struct piece){DRIVER_DATA, first};
	if (len > first)
		pieces[n++] = (struct piece){DRIVER_DATA + first, len - first};
	assert_int_equal(driver_disk_request(&f->d, type, sector, n, pieces), 0);
}

static void compare(struct fixture *f, uint64_t sector, uint64_t n)
{
	const uint32_t len = (uint32_t)n * SECTOR;

	request(f, DISK_IN, sector, len, len / 3);
	driver_get(&f->d, DRIVER_DATA, f->buf, len);
	assert_memory_equal(f->buf, f->model + sector * SECTOR, len);
}

static void change(struct fixture *f, struct rng *rng, uint64_t sector,
		   uint64_t n)
{
	struct {
		uint64_t sector;
		uint32_t n;
		uint32_t flags;
	} range = {sector, (uint32_t)n, 0};
	const uint32_t len = (uint32_t)n * SECTOR;
	uint8_t *to = f->model + sector * SECTOR;

	switch (rng_below(rng, 4)) {
	case 0:
	case 1:
		for (uint32_t i = 0; i < len; i++)
			to[i] = (uint8_t)rng_next(rng);
		driver_put(&f->d, DRIVER_DATA, to, len);
		request(f, DISK_OUT, sector, len, (uint32_t)rng_below(rng, len));
		break;
	case 2:
		range.flags = (uint32_t)rng_below(rng, 2);
		memset(to, 0, len);
		driver_put(&f->d, DRIVER_DATA, &range, sizeof(range));
		request(f, DISK_ZEROES, 0, sizeof(range), 0);
		break;
	default:
		memset(to, 0, len);
		driver_put(&f->d, DRIVER_DATA, &range, sizeof(range));
		request(f, DISK_DISCARD, 0, sizeof(range), 0);
		break;
	}
}

static void check_image(struct fixture *f)
{
	const int fd = open(f->path, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, f->buf, sizeof(f->buf)), IMAGE_BYTES);
	assert_memory_equal(f->buf, f->image, IMAGE_BYTES);
	close(fd);
}

static void test_against_a_model(void **state)
{
	struct fixture *f = *state;
	struct rng rng;

	rng.state = 1;
	plug(f);
	compare(f, 0, SECTORS);
	for (unsigned int i = 0; i < 500; i++) {
		const uint64_t sector = rng_below(&rng, SECTORS);
		uint64_t n = 1 + rng_below(&rng, i % 5 ? 20 : 300);

		if (n > SECTORS - sector)
			n = SECTORS - sector;
		if (rng_below(&rng, 2))
			change(f, &rng, sector, n);
		else
			compare(f, sector, n);
	}
	request(f, DISK_FLUSH, 0, 0, 0);
	compare(f, 0, SECTORS);
	check_image(f);
}

/* Many may use one image so at once; each sees its own changes only. */
static void test_together(void **state)
{
	struct fixture *f = *state;
	struct virtio_blk *other = NULL, *writer = NULL;
	struct rng rng;
	struct err err;

	rng.state = 2;
	plug(f);
	change(f, &rng, 8, 64);
	assert_int_equal(open_snapshot(f, f->dir, &other, &err), 0);
	assert_int_equal(virtio_blk_open(f->path, VIRTIO_BLK_RW, f->d.mem, NULL,
					 &writer, &err),
			 -EBUSY);
	f->blk = virtio_blk_close(f->blk);
	virtio_blk_close(other);

	/* The next one begins with the image again. */
	memcpy(f->model, f->image, sizeof(f->model));
	driver_release(&f->d);
	assert_int_equal(driver_init(&f->d), 0);
	plug(f);
	compare(f, 0, SECTORS);
}

static void test_no_folder(void **state)
{
	struct fixture *f = *state;
	struct virtio_blk *blk;
	struct err err;

	assert_int_equal(open_snapshot(f, "/nowhere", &blk, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nowhere"));
}

static void test_runs(void **state)
{
	static bool in[1000];
	struct overlay *o;
	struct rng rng;
	struct err err;

	(void)state;
	rng.state = 3;
	memset(in, 0, sizeof(in));
	assert_int_equal(overlay_new("/tmp", ARRAY_SIZE(in), &o, &err), 0);
	for (unsigned int i = 0; i < 3000; i++) {
		const uint64_t at = rng_below(&rng, ARRAY_SIZE(in));
		const uint64_t n = 1 + rng_below(&rng, ARRAY_SIZE(in) - at);
		const uint64_t pos = at * SECTOR + rng_below(&rng, SECTOR);
		const uint64_t len = (at + n) * SECTOR - pos;
		uint64_t end = at;
		bool here;

		if (i % 100 == 0) {
			const uint64_t some = n < 150 ? n : 150;

			overlay_mark(o, at, some);
			memset(in + at, true, some);
		}
		while (end < at + n && in[end] == in[at])
			end++;
		assert_int_equal(overlay_run(o, pos, len, &here),
				 end * SECTOR - pos);
		assert_int_equal(here, in[at]);
	}
	overlay_free(o);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		T(test_against_a_model),
		T(test_together),
		T(test_no_folder),
	};

	return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
