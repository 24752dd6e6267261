/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a kernel file: it is refused with a message, or loaded so that what the processor
 * starts on is in guest memory.
 */
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <base/verify.h>
#include <boot/boot.h>
#include <boot/kernel_image.h>
#include <boot/layout.h>
#include <mem/guestmem.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM_BYTES (UINT64_C(24) << 20)

static bool in_segments(const struct kernel_image *img, uint64_t addr)
{
	for (unsigned int i = 0; i < img->n_segments; i++) {
		if (addr >= img->segments[i].addr &&
		    addr - img->segments[i].addr < img->segments[i].mem_bytes)
			return true;
	}
	return false;
}

static void check_image(const struct kernel_image *img)
{
	volatile uint8_t sink = 0;

	VERIFY(img->n_segments >= 1 && img->n_segments <= KERNEL_MAX_SEGMENTS);
	VERIFY(img->has_linux64 || img->has_pvh || img->has_multiboot);
	for (unsigned int i = 0; i < img->n_segments; i++) {
		const struct kernel_segment *s = &img->segments[i];

		VERIFY(s->mem_bytes && s->file_bytes <= s->mem_bytes);
		VERIFY(s->addr >= img->start &&
		       s->addr + s->mem_bytes <= img->end);
		/* A sanitizer sees a segment that is not in the file. */
		if (s->file_bytes)
			sink = s->data[0] ^ s->data[s->file_bytes - 1];
	}
	(void)sink;
	VERIFY(!img->has_linux64 || in_segments(img, img->linux64_entry));
}

static void boot_file(const uint8_t *data, size_t size)
{
	char path[64];
	struct guestmem *mem = NULL;
	struct boot_state state = {0};
	struct err err = {0};
	const int fd = memfd_create("fuzz-boot", MFD_CLOEXEC);

	VERIFY(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	VERIFY(guestmem_new(RAM_BYTES, &mem, NULL) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	const struct boot_config cfg = {
		.kernel_path = path,
		.initrd_path = path,
		.cmdline = "fuzz",
		.rsdp = gpa(ACPI_BASE),
		.n_threads = 2,
	};

	if (boot_load(mem, &cfg, &state, &err) == 0) {
		VERIFY(state.protocol != BOOT_AUTO);
		VERIFY(state.kernel_end.v <= RAM_BYTES);
		VERIFY(state.initrd_bytes == size);
		VERIFY(state.initrd_start.v >= state.kernel_end.v &&
		       state.initrd_start.v + size <= RAM_BYTES);
	} else {
		VERIFY(err.text[0]);
	}
	guestmem_free(mem);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kernel_image img;
	struct err err = {0};

	if (kernel_image_init(&img, data, size, &err) == 0) {
		check_image(&img);
		kernel_image_release(&img);
	} else {
		VERIFY(err.text[0]);
	}
	boot_file(data, size);
	return 0;
}
