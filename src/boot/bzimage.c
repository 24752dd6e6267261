/* SPDX-License-Identifier: Apache-2.0 */
/* Reads Linux's bzImage: the setup header, and the vmlinux that is packed inside. [LINUX-BOOT] */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <boot/bytes.h>
#include <boot/kernel_image_impl.h>
#include <boot/layout.h>
#include <boot/unpack.h>

/* Offsets in the file. [LINUX-BOOT "The Real-Mode Kernel Header"] */
#define SETUP_SECTS       0x1f1
#define SYSSIZE           0x1f4
#define BOOT_FLAG         0x1fe
#define JUMP_OFFSET       0x201
#define HEADER_MAGIC      0x202
#define VERSION           0x206
#define INITRD_ADDR_MAX   0x22c
#define XLOADFLAGS        0x236
#define CMDLINE_SIZE      0x238
#define PAYLOAD_OFFSET    0x248
#define PAYLOAD_LENGTH    0x24c
#define HEADER_READ_BYTES 0x268 /* what protocol 2.12 has */

#define BOOT_FLAG_VALUE   0xaa55
#define VERSION_64        0x020c /* the first with xloadflags */
#define XLF_KERNEL_64     0x1
#define SECTOR_BYTES      512
#define DEFAULT_SECTS     4
#define ELF_HEADS_BYTES   (UINT64_C(64) << 10) /* headers are within these */

bool bzimage_detect(const struct image_file *f)
{
	return image_has(f, 0, HEADER_MAGIC + 4) &&
	       get_le16(f->data + BOOT_FLAG) == BOOT_FLAG_VALUE &&
	       !memcmp(f->data + HEADER_MAGIC, "HdrS", 4);
}

static int check_setup(const struct image_file *f, struct err *err)
{
	if (!image_has(f, 0, HEADER_READ_BYTES))
		return err_set(err, -ENOEXEC,
			       "it is a truncated bzImage: %zu bytes", f->bytes);
	const unsigned int version = get_le16(f->data + VERSION);

	if (version < VERSION_64)
		return err_set(
			err, -ENOEXEC,
			"its boot protocol is %u.%02u; 2.12 (Linux 3.8) or later is needed",
			version >> 8, version & 0xff);
	if (!(get_le16(f->data + XLOADFLAGS) & XLF_KERNEL_64))
		return err_set(err, -ENOEXEC,
			       "it is a 32-bit kernel; an x86-64 one is needed");
	return 0;
}

/* Finds the packed vmlinux; its last four bytes are the size when unpacked. */
static int find_payload(const struct image_file *f, struct image_file *payload,
			struct err *err)
{
	const uint8_t *d = f->data;
	const uint64_t sects = d[SETUP_SECTS] ? d[SETUP_SECTS] : DEFAULT_SECTS;
	const uint64_t system = (sects + 1) * SECTOR_BYTES;
	const uint64_t system_bytes = (uint64_t)get_le32(d + SYSSIZE) * 16;
	const uint64_t off = get_le32(d + PAYLOAD_OFFSET);
	const uint64_t len = get_le32(d + PAYLOAD_LENGTH);

	if (!image_has(f, system, system_bytes))
		return err_set(err, -ENOEXEC,
			       "it is a truncated bzImage: %zu bytes of %lu",
			       f->bytes, system + system_bytes);
	if (len < 8 || off + len > f->bytes - system)
		return err_set(
			err, -ENOEXEC,
			"it is a damaged bzImage: payload of %lu bytes at %lu in a file of %zu",
			len, system + off, f->bytes);
	*payload = (struct image_file){d + system + off, len};
	return 0;
}

static void copy_setup(const struct image_file *f, struct kernel_image *img)
{
	const uint8_t *d = f->data;
	size_t end = HEADER_MAGIC + (size_t)d[JUMP_OFFSET];

	if (end > KERNEL_SETUP_END)
		end = KERNEL_SETUP_END;
	if (end < HEADER_READ_BYTES)
		end = HEADER_READ_BYTES;
	if (end > f->bytes)
		end = f->bytes;
	img->setup_bytes = end - KERNEL_SETUP_START;
	memcpy(img->setup, d + KERNEL_SETUP_START, img->setup_bytes);
	img->cmdline_max = get_le32(d + CMDLINE_SIZE);
	if (get_le32(d + INITRD_ADDR_MAX) < img->initrd_max)
		img->initrd_max = get_le32(d + INITRD_ADDR_MAX);
}

/*
 * Have that range of the unpacked file where it belongs, along with what is before it in the same
 * block.
 */
static int fill_range(struct kernel_image *img, uint64_t off, uint64_t bytes,
		      struct err *err)
{
	const uint64_t end = off + bytes;
	int r = 0;

	while (off < end && !r) {
		const uint64_t idx = off / UNPACK_BLOCK_BYTES;
		const uint64_t first = idx * UNPACK_BLOCK_BYTES;
		const uint64_t next = first + UNPACK_BLOCK_BYTES;
		const uint64_t stop = end < next ? end : next;

		r = unpack_block(img->packed, img->packed_bytes,
				 img->unpacked_bytes, idx, stop - first,
				 img->unpacked + first, err);
		off = stop;
	}
	return r;
}

static int fill_heads(struct kernel_image *img, struct err *err)
{
	return fill_range(img, 0,
			  img->unpacked_bytes < ELF_HEADS_BYTES
				  ? img->unpacked_bytes
				  : ELF_HEADS_BYTES,
			  err);
}

static void forget_contents(const struct kernel_image *img)
{
	(void)madvise(img->unpacked, img->unpacked_bytes, MADV_DONTNEED);
}

int bzimage_find_pvh(struct kernel_image *img, struct err *err)
{
	const struct image_file vmlinux = {img->unpacked, img->unpacked_bytes};
	uint64_t off, len;
	int r = fill_heads(img, err);

	for (uint32_t i = 0; !r && elf_note(&vmlinux, i, &off, &len); i++)
		r = fill_range(img, off, len, err);
	if (!r)
		elf_read_notes(&vmlinux, img);
	forget_contents(img);
	return r;
}

/*
 * Only the headers, which tell about the kernel, are unpacked now. Unpacked as a whole it
 * would be the largest piece of memory that the VM ever needs beside the guest's.
 */
static int unpack_heads(const struct image_file *payload, size_t bytes,
			struct kernel_image *img, struct err *err)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return err_set(err, -ENOMEM,
			       "no memory to unpack %zu bytes of kernel", bytes);
	img->unpacked = p;
	img->unpacked_bytes = bytes;
	img->packed = payload->data;
	img->packed_bytes = payload->bytes;
	return fill_heads(img, err);
}

static int unpack_payload(const struct image_file *payload, size_t bytes,
			  struct kernel_image *img, struct err *err)
{
	if (unpack_n_blocks(payload->data, payload->bytes, bytes) > 1)
		return unpack_heads(payload, bytes, img, err);
	img->unpacked_bytes = bytes;
	return unpack(payload->data, payload->bytes, bytes, &img->unpacked, err);
}

int bzimage_read(const struct image_file *f, struct kernel_image *img,
		 struct err *err)
{
	struct image_file payload = {0};
	int r = check_setup(f, err);

	if (r < 0)
		return r;
	r = find_payload(f, &payload, err);
	if (r < 0)
		return r;
	const size_t bytes = get_le32(payload.data + payload.bytes - 4);

	r = unpack_payload(&payload, bytes, img, err);
	if (r < 0)
		return r;
	const struct image_file vmlinux = {img->unpacked, bytes};

	if (!elf_detect(&vmlinux))
		return err_set(err, -ENOEXEC, "its payload is not an ELF file");
	r = elf_read(&vmlinux, img, err);
	if (img->packed)
		forget_contents(img);
	if (r < 0) {
		err_prefix(err, "unpacked kernel: ");
		return r;
	}
	if (img->kind != KERNEL_ELF64)
		return err_set(
			err, -ENOEXEC,
			"its payload is a 32-bit kernel; an x86-64 one is needed");
	img->kind = KERNEL_BZIMAGE;
	copy_setup(f, img);
	return 0;
}
