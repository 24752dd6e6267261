/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the files, checks that everything fits, and only then writes into guest memory. */
#include <boot/boot.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arch/x86.h>
#include <boot/file.h>
#include <boot/kernel_image.h>
#include <boot/layout.h>
#include <boot/plan.h>
#include <boot/unpack.h>

#define COPY_BYTES (UINT64_C(1) << 20)

const char *boot_protocol_name(enum boot_protocol protocol)
{
	static const char *const names[] = {
		[BOOT_AUTO] = "automatic",
		[BOOT_LINUX64] = "Linux 64-bit",
		[BOOT_PVH] = "PVH",
		[BOOT_MULTIBOOT] = "multiboot",
	};

	return names[protocol];
}

static bool is_zero(const uint8_t *p, uint64_t bytes)
{
	while (bytes >= 64) {
		uint64_t w[8];
		uint64_t any = 0;

		memcpy(w, p, sizeof(w));
		for (unsigned int i = 0; i < 8; i++)
			any |= w[i];
		if (any)
			return false;
		p += 64;
		bytes -= 64;
	}
	for (uint64_t i = 0; i < bytes; i++) {
		if (p[i])
			return false;
	}
	return true;
}

int plan_write(struct boot_plan *plan, uint64_t addr, const uint8_t *data,
	       uint64_t bytes, struct err *err)
{
	while (bytes) {
		uint64_t n = PAGE_SIZE - (addr & (PAGE_SIZE - 1));

		n = n < bytes ? n : bytes;
		if (!is_zero(data, n)) {
			if (!guestmem_write(plan->mem, gpa(addr), data, n))
				return err_set(
					err, -ENOMEM,
					"guest memory at %#lx cannot be written",
					addr);
			plan->written_bytes += n;
		}
		addr += n;
		data += n;
		bytes -= n;
	}
	return 0;
}

static int choose_protocol(const struct kernel_image *img,
			   enum boot_protocol want,
			   enum boot_protocol *ret_protocol, struct err *err)
{
	const bool has[] = {
		[BOOT_LINUX64] = img->has_linux64,
		[BOOT_PVH] = img->has_pvh,
		[BOOT_MULTIBOOT] = img->has_multiboot,
	};

	if (want != BOOT_AUTO) {
		if (!has[want])
			return err_set(err, -ENOEXEC,
				       "it cannot be started by the %s protocol",
				       boot_protocol_name(want));
		*ret_protocol = want;
	} else if (img->kind == KERNEL_BZIMAGE) {
		*ret_protocol = BOOT_LINUX64;
	} else if (img->has_multiboot) {
		*ret_protocol = BOOT_MULTIBOOT;
	} else if (img->has_pvh) {
		*ret_protocol = BOOT_PVH;
	} else {
		*ret_protocol = BOOT_LINUX64;
	}
	return 0;
}

/* Kernel segments lie in RAM, and not where the boot data or firmware tables go. */
static int check_segments(const struct kernel_image *img,
			  const struct memmap *map, struct err *err)
{
	if (map->low_end <= LAYOUT_HIGH_MEMORY)
		return err_set(
			err, -ENOSPC,
			"guest memory of %lu KiB is too small: 2 MiB are the least",
			map->low_end >> 10);
	if (img->end > GUESTMEM_HOLE_START)
		return err_set(
			err, -ENOEXEC,
			"it loads at %#lx to %#lx, where no guest has memory",
			img->start, img->end);
	if (img->end > map->low_end)
		return err_set(
			err, -ENOSPC,
			"it needs guest memory up to %lu KiB, but there are only %lu KiB: %lu KiB are missing",
			(img->end + 1023) >> 10, map->low_end >> 10,
			(img->end - map->low_end + 1023) >> 10);
	for (unsigned int i = 0; i < img->n_segments; i++) {
		const struct kernel_segment *s = &img->segments[i];
		const uint64_t end = s->addr + s->mem_bytes;

		if ((s->addr < LAYOUT_DATA_END && end > LAYOUT_DATA) ||
		    (s->addr < LAYOUT_HIGH_MEMORY && end > LAYOUT_LOW_END))
			return err_set(
				err, -ENOEXEC,
				"it loads at %#lx to %#lx, over boot data or firmware tables",
				s->addr, end);
	}
	return 0;
}

/*
 * As high as the kernel can reach, out of the way of its own growth; a multiboot module goes right
 * behind the kernel, since such kernels take what follows the modules for free memory.
 */
static int plan_initrd(struct boot_plan *plan, enum boot_protocol protocol,
		       uint64_t bytes, struct err *err)
{
	const uint64_t floor = ((plan->img->end > LAYOUT_HIGH_MEMORY
					 ? plan->img->end
					 : LAYOUT_HIGH_MEMORY) +
				PAGE_SIZE - 1) &
			       PAGE_MASK;
	uint64_t top = plan->map.low_end;

	if (top > plan->img->initrd_max + 1)
		top = plan->img->initrd_max + 1;
	const uint64_t room = top > floor ? top - floor : 0;

	if (bytes > room)
		return err_set(
			err, -ENOSPC,
			"%s: the initrd has %lu KiB, but guest memory has room for %lu KiB above the kernel: %lu KiB are missing",
			plan->cfg->initrd_path, (bytes + 1023) >> 10,
			room >> 10, (bytes - room + 1023) >> 10);
	plan->initrd_bytes = bytes;
	plan->initrd_start = protocol == BOOT_MULTIBOOT
				     ? floor
				     : (top - bytes) & PAGE_MASK;
	return 0;
}

static int check_cmdline(const struct boot_plan *plan, struct err *err)
{
	const uint64_t len = strlen(plan->cmdline);
	const uint64_t max = plan->img->cmdline_max < LAYOUT_CMDLINE_BYTES
				     ? plan->img->cmdline_max
				     : LAYOUT_CMDLINE_BYTES - 1;

	if (len > max)
		return err_set(
			err, -E2BIG,
			"the kernel command line has %lu characters; this kernel takes %lu",
			len, max);
	return 0;
}

static int place_piece(void *ctx, uint64_t addr, const uint8_t *data,
		       uint64_t bytes, struct err *err)
{
	struct boot_plan *plan = ctx;

	return plan_write(plan, addr, data, bytes, err);
}

/*
 * Where guest memory can be written in place, one page after another. Good until guest memory
 * is used again, or its epoch changes: if a page had to be waited for, one before it may have been
 * taken meanwhile.
 */
static uint8_t *find_room(const struct boot_plan *plan, uint64_t addr,
			  uint64_t bytes)
{
	uint8_t *first = NULL;
	uint64_t len;

	if ((addr | bytes) & (PAGE_SIZE - 1))
		return NULL;
	for (uint64_t done = 0; done < bytes; done += PAGE_SIZE) {
		uint8_t *p;

		if (guestmem_span(plan->mem, gpa(addr + done), MEM_WRITE, &p,
				  &len) != MEM_OK)
			return NULL;
		first = first ? first : p;
		if (p != first + done)
			return NULL;
	}
	return first;
}

static void find_rooms(void *ctx, struct kernel_room *rooms, uint64_t n_rooms)
{
	struct boot_plan *plan = ctx;
	const uint64_t epoch = guestmem_epoch(plan->mem);

	for (uint64_t i = 0; i < n_rooms; i++)
		rooms[i].at = rooms[i].bytes ? find_room(plan, rooms[i].addr,
							 rooms[i].bytes)
					     : NULL;
	for (uint64_t i = 0; i < n_rooms; i++) {
		if (epoch != guestmem_epoch(plan->mem))
			rooms[i].at = NULL;
		if (rooms[i].at)
			plan->written_bytes += rooms[i].bytes;
	}
}

/* Threads of which each has a processor: more would only take their time from each other. */
static unsigned int count_threads(const struct boot_config *cfg)
{
	unsigned int n = cfg->n_threads;
	cpu_set_t set;

	if (!n)
		n = sched_getaffinity(0, sizeof(set), &set)
			    ? 1
			    : (unsigned int)CPU_COUNT(&set);
	return n < KERNEL_THREADS_MAX ? n : KERNEL_THREADS_MAX;
}

static int place_kernel(struct boot_plan *plan, struct err *err)
{
	const struct kernel_taker taker = {
		.piece = place_piece,
		.rooms = find_rooms,
		.ctx = plan,
		.n_threads = count_threads(plan->cfg),
	};
	const int r = kernel_image_walk(plan->img, &taker, err);

	if (r == -ENOEXEC)
		err_prefix(err, "%s: ", plan->cfg->kernel_path);
	return r;
}

/* By way of a buffer, which is made when it is first needed. */
static int copy_piece(struct boot_plan *plan, int fd, uint64_t addr,
		      uint64_t bytes, uint8_t **buf, struct err *err)
{
	const char *path = plan->cfg->initrd_path;
	int r;

	if (!*buf)
		*buf = malloc(COPY_BYTES);
	if (!*buf)
		return err_set(err, -ENOMEM, "%s: no memory to read it", path);
	r = file_read(fd, path, *buf, bytes, err);
	return r ? r : plan_write(plan, addr, *buf, bytes, err);
}

/* Read into guest memory itself where it can be written in place. */
static int place_initrd(struct boot_plan *plan, int fd, struct err *err)
{
	uint8_t *buf = NULL;
	int r = 0;

	for (uint64_t done = 0; r == 0 && done < plan->initrd_bytes;) {
		const uint64_t addr = plan->initrd_start + done;
		const uint64_t left = plan->initrd_bytes - done;
		const uint64_t n = left < COPY_BYTES ? left : COPY_BYTES;
		struct kernel_room room = {
			.addr = addr,
			.bytes = (n + PAGE_SIZE - 1) & PAGE_MASK,
		};

		find_rooms(plan, &room, 1);
		r = room.at ? file_read(fd, plan->cfg->initrd_path, room.at, n,
					err)
			    : copy_piece(plan, fd, addr, n, &buf, err);
		done += n;
	}
	free(buf);
	return r;
}

static int place_protocol(struct boot_plan *plan, enum boot_protocol protocol,
			  struct boot_state *state, struct err *err)
{
	switch (protocol) {
	case BOOT_PVH:
		return pvh_place(plan, state, err);
	case BOOT_MULTIBOOT:
		return multiboot_place(plan, state, err);
	case BOOT_AUTO:
	case BOOT_LINUX64:
		break;
	}
	return linux64_place(plan, state, err);
}

static int carry_out(struct boot_plan *plan, enum boot_protocol protocol,
		     int initrd_fd, struct boot_state *state, struct err *err)
{
	int r = place_kernel(plan, err);

	if (r == 0)
		r = place_initrd(plan, initrd_fd, err);
	if (r == 0)
		r = plan_write(plan, LAYOUT_CMDLINE,
			       (const uint8_t *)plan->cmdline,
			       strlen(plan->cmdline), err);
	if (r == 0)
		r = place_protocol(plan, protocol, state, err);
	state->protocol = protocol;
	state->rflags = RFLAGS_ONE;
	state->kernel_start = gpa(plan->img->start);
	state->kernel_end = gpa(plan->img->end);
	state->initrd_start = gpa(plan->initrd_start);
	state->initrd_bytes = plan->initrd_bytes;
	state->written_bytes = plan->written_bytes;
	return r;
}

/* Everything after the kernel file is understood; @initrd_fd is -1 if there is none. */
static int boot_image(struct boot_plan *plan, int initrd_fd,
		      uint64_t initrd_bytes, struct boot_state *ret_state,
		      struct err *err)
{
	enum boot_protocol protocol = BOOT_AUTO;
	struct boot_state state = {0};
	char *cmdline = NULL;
	int r;

	r = choose_protocol(plan->img, plan->cfg->protocol, &protocol, err);
	if (r == 0)
		r = check_segments(plan->img, &plan->map, err);
	if (r < 0) {
		err_prefix(err, "%s: ", plan->cfg->kernel_path);
		return r;
	}
	if (initrd_fd >= 0)
		r = plan_initrd(plan, protocol, initrd_bytes, err);
	if (r < 0)
		return r;
	if (asprintf(&cmdline, "%s%s%s",
		     protocol == BOOT_MULTIBOOT ? plan->cfg->kernel_path : "",
		     protocol == BOOT_MULTIBOOT ? " " : "",
		     plan->cfg->cmdline ? plan->cfg->cmdline : "") < 0)
		return err_set(err, -ENOMEM, "no memory for the command line");
	plan->cmdline = cmdline;
	r = check_cmdline(plan, err);
	if (r == 0)
		r = carry_out(plan, protocol, initrd_fd, &state, err);
	plan->cmdline = NULL;
	free(cmdline);
	if (r == 0)
		*ret_state = state;
	return r;
}

static int boot_with_initrd(struct boot_plan *plan,
			    struct boot_state *ret_state, struct err *err)
{
	uint64_t bytes = 0;
	int fd = -1;

	if (plan->cfg->initrd_path) {
		fd = file_open(plan->cfg->initrd_path, &bytes, err);
		if (fd < 0)
			return fd;
	}
	const int r = boot_image(plan, fd, bytes, ret_state, err);

	if (fd >= 0)
		close(fd);
	return r;
}

/* The file's bytes, and what they mean. */
struct boot_kernel {
	uint8_t *data;
	struct kernel_image img;
};

static int understand(struct boot_kernel *k, size_t bytes,
		      enum boot_protocol protocol, struct err *err)
{
	int r = kernel_image_init(&k->img, k->data, bytes, err);

	if (r < 0)
		return r;
	if (protocol == BOOT_PVH)
		r = kernel_image_find_pvh(&k->img, err);
	if (r < 0)
		kernel_image_release(&k->img);
	return r;
}

int boot_kernel_new(const char *path, enum boot_protocol protocol,
		    struct boot_kernel **ret, struct err *err)
{
	struct boot_kernel *k = calloc(1, sizeof(*k));
	size_t bytes = 0;
	int r;

	if (!k)
		return err_set(err, -ENOMEM, "%s: no memory to read it", path);
	r = file_load(path, UNPACK_MAX_BYTES, &k->data, &bytes, err);
	if (r == 0) {
		r = understand(k, bytes, protocol, err);
		if (r < 0)
			err_prefix(err, "%s: ", path);
	}
	if (r < 0) {
		free(k->data);
		free(k);
		return r;
	}
	*ret = k;
	return 0;
}

struct boot_kernel *boot_kernel_free(struct boot_kernel *kernel)
{
	if (!kernel)
		return NULL;
	kernel_image_release(&kernel->img);
	free(kernel->data);
	free(kernel);
	return NULL;
}

int boot_load(struct guestmem *mem, const struct boot_config *cfg,
	      struct boot_state *ret_state, struct err *err)
{
	struct boot_plan plan = {.mem = mem, .cfg = cfg};
	struct boot_kernel *own = NULL;
	int r = 0;

	memmap_init(&plan.map, guestmem_ram_bytes(mem));
	if (!cfg->kernel)
		r = boot_kernel_new(cfg->kernel_path, cfg->protocol, &own, err);
	if (r == 0) {
		plan.img = cfg->kernel ? &cfg->kernel->img : &own->img;
		r = boot_with_initrd(&plan, ret_state, err);
	}
	boot_kernel_free(own);
	return r;
}
