/* SPDX-License-Identifier: Apache-2.0 */
/* Reads ELF kernels, 64- and 32-bit: loadable segments, entry point, PVH note. [ELF], [PVH] */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include <boot/kernel_image_impl.h>

#define NOTE_HEADER_BYTES 12
#define NOTE_PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
#define ELF_MAX_PHDRS     128

/* A program header of either class. */
struct phdr {
	uint32_t type;
	uint64_t offset;
	uint64_t vaddr;
	uint64_t paddr;
	uint64_t file_bytes;
	uint64_t mem_bytes;
	uint64_t align;
};

struct elf_header {
	bool is_64;
	uint16_t machine;
	uint16_t type;
	uint64_t entry;
	uint64_t phoff;
	uint32_t phentsize;
	uint32_t phnum;
};

static const struct machine_name {
	uint16_t machine;
	const char *name;
} machine_names[] = {
	{EM_386, "32-bit x86"}, {EM_ARM, "32-bit ARM"},
	{EM_AARCH64, "arm64"},  {EM_RISCV, "RISC-V"},
	{EM_PPC64, "POWER"},    {EM_S390, "s390"},
	{EM_MIPS, "MIPS"},      {EM_LOONGARCH, "LoongArch"},
};

static const char *machine_name(uint16_t machine)
{
	for (size_t i = 0; i < ARRAY_SIZE(machine_names); i++) {
		if (machine_names[i].machine == machine)
			return machine_names[i].name;
	}
	return "another architecture";
}

bool elf_detect(const struct image_file *f)
{
	return image_has(f, 0, EI_NIDENT) && !memcmp(f->data, ELFMAG, SELFMAG);
}

static bool read_header(const struct image_file *f, struct elf_header *h)
{
	Elf64_Ehdr e64;
	Elf32_Ehdr e32;

	if (f->data[EI_CLASS] == ELFCLASS64 && image_has(f, 0, sizeof(e64))) {
		memcpy(&e64, f->data, sizeof(e64));
		*h = (struct elf_header){true,        e64.e_machine,
					 e64.e_type,  e64.e_entry,
					 e64.e_phoff, e64.e_phentsize,
					 e64.e_phnum};
		return h->phentsize == sizeof(Elf64_Phdr);
	}
	if (f->data[EI_CLASS] == ELFCLASS32 && image_has(f, 0, sizeof(e32))) {
		memcpy(&e32, f->data, sizeof(e32));
		*h = (struct elf_header){false,       e32.e_machine,
					 e32.e_type,  e32.e_entry,
					 e32.e_phoff, e32.e_phentsize,
					 e32.e_phnum};
		return h->phentsize == sizeof(Elf32_Phdr);
	}
	return false;
}

static int check_header(const struct image_file *f, struct elf_header *h,
			struct err *err)
{
	if (f->data[EI_DATA] != ELFDATA2LSB)
		return err_set(
			err, -ENOEXEC,
			"it is an ELF file for a big-endian machine; an x86-64 kernel is needed");
	if (!read_header(f, h))
		return err_set(err, -ENOEXEC,
			       "it is a truncated or damaged ELF file");
	/* A 32-bit file may hold 64-bit code, as multiboot kernels do. */
	if (h->machine != EM_X86_64 && (h->is_64 || h->machine != EM_386))
		return err_set(
			err, -ENOEXEC,
			"it is an ELF file for %s (machine %u); an x86-64 kernel is needed",
			machine_name(h->machine), h->machine);
	if (h->type != ET_EXEC)
		return err_set(
			err, -ENOEXEC,
			"it is an ELF file of type %u; a kernel is an executable at fixed addresses (type %u)",
			h->type, ET_EXEC);
	if (h->phnum == 0 || h->phnum > ELF_MAX_PHDRS)
		return err_set(err, -ENOEXEC,
			       "it is an ELF file with %u program headers",
			       h->phnum);
	if (!image_has(f, h->phoff, (uint64_t)h->phnum * h->phentsize))
		return err_set(
			err, -ENOEXEC,
			"it is truncated: its program headers lie beyond its end");
	return 0;
}

static struct phdr read_phdr(const struct image_file *f,
			     const struct elf_header *h, uint32_t idx)
{
	const uint8_t *p = f->data + h->phoff + (size_t)idx * h->phentsize;
	Elf64_Phdr p64;
	Elf32_Phdr p32;

	if (h->is_64) {
		memcpy(&p64, p, sizeof(p64));
		return (struct phdr){p64.p_type,  p64.p_offset, p64.p_vaddr,
				     p64.p_paddr, p64.p_filesz, p64.p_memsz,
				     p64.p_align};
	}
	memcpy(&p32, p, sizeof(p32));
	return (struct phdr){p32.p_type,  p32.p_offset, p32.p_vaddr,
			     p32.p_paddr, p32.p_filesz, p32.p_memsz,
			     p32.p_align};
}

bool elf_note(const struct image_file *f, uint32_t nth, uint64_t *ret_off,
	      uint64_t *ret_bytes)
{
	struct elf_header h = {0};
	struct err ignored;

	if (check_header(f, &h, &ignored))
		return false;
	for (uint32_t i = 0; i < h.phnum; i++) {
		const struct phdr p = read_phdr(f, &h, i);

		if (p.type != PT_NOTE ||
		    !image_has(f, p.offset, p.file_bytes) || nth--)
			continue;
		*ret_off = p.offset;
		*ret_bytes = p.file_bytes;
		return true;
	}
	return false;
}

/* Looks for the PVH entry among the notes of one segment; a damaged note ends the search. */
static void read_notes(const struct image_file *f, const struct phdr *p,
		       struct kernel_image *img)
{
	const uint64_t align = p->align == 8 ? 8 : 4;
	uint64_t at = p->offset;
	const uint64_t end = p->offset + p->file_bytes;

	while (end - at >= NOTE_HEADER_BYTES) {
		Elf64_Nhdr n;

		memcpy(&n, f->data + at, sizeof(n));
		const uint64_t name = at + sizeof(n);
		const uint64_t desc = name + (((uint64_t)n.n_namesz + align - 1) &
					      -align);
		const uint64_t next = desc + (((uint64_t)n.n_descsz + align - 1) &
					      -align);

		if (desc > end || n.n_descsz > end - desc)
			return;
		if (n.n_type == NOTE_PHYS32_ENTRY && n.n_namesz == 4 &&
		    !memcmp(f->data + name, "Xen", 4) &&
		    (n.n_descsz == 4 || n.n_descsz == 8)) {
			uint64_t entry = 0;

			memcpy(&entry, f->data + desc, n.n_descsz);
			img->has_pvh = true;
			img->pvh_entry = entry;
		}
		if (next > end)
			return;
		at = next;
	}
}

void elf_read_notes(const struct image_file *f, struct kernel_image *img)
{
	struct elf_header h = {0};
	struct err ignored;

	if (check_header(f, &h, &ignored))
		return;
	for (uint32_t i = 0; i < h.phnum; i++) {
		const struct phdr p = read_phdr(f, &h, i);

		if (p.type == PT_NOTE && image_has(f, p.offset, p.file_bytes))
			read_notes(f, &p, img);
	}
}

static int read_segments(const struct image_file *f, const struct elf_header *h,
			 struct kernel_image *img, struct err *err)
{
	for (uint32_t i = 0; i < h->phnum; i++) {
		const struct phdr p = read_phdr(f, h, i);

		if (p.type != PT_LOAD && p.type != PT_NOTE)
			continue;
		if (!image_has(f, p.offset, p.file_bytes))
			return err_set(
				err, -ENOEXEC,
				"it is truncated: segment %u ends at byte %lu of %zu",
				i, p.offset + p.file_bytes, f->bytes);
		if (p.type == PT_NOTE) {
			read_notes(f, &p, img);
			continue;
		}
		const struct kernel_segment seg = {
			.data = f->data + p.offset,
			.file_bytes = p.file_bytes,
			.addr = p.paddr,
			.mem_bytes = p.mem_bytes,
		};
		const int r = image_add_segment(img, &seg, err);

		if (r < 0)
			return r;
	}
	if (!img->n_segments)
		return err_set(err, -ENOEXEC,
			       "it is an ELF file with nothing to load");
	return 0;
}

/*
 * Linux's entry is a physical address already; other kernels name the virtual one, which has to
 * be found in a segment.
 */
static bool physical_entry(const struct image_file *f,
			   const struct elf_header *h, uint64_t *ret_entry)
{
	for (uint32_t i = 0; i < h->phnum; i++) {
		const struct phdr p = read_phdr(f, h, i);

		if (p.type == PT_LOAD && h->entry >= p.paddr &&
		    h->entry - p.paddr < p.mem_bytes) {
			*ret_entry = h->entry;
			return true;
		}
	}
	for (uint32_t i = 0; i < h->phnum; i++) {
		const struct phdr p = read_phdr(f, h, i);

		if (p.type == PT_LOAD && h->entry >= p.vaddr &&
		    h->entry - p.vaddr < p.mem_bytes) {
			*ret_entry = p.paddr + (h->entry - p.vaddr);
			return true;
		}
	}
	return false;
}

int elf_read(const struct image_file *f, struct kernel_image *img,
	     struct err *err)
{
	struct elf_header h = {0};
	uint64_t entry = 0;
	int r = check_header(f, &h, err);

	if (r < 0)
		return r;
	r = read_segments(f, &h, img, err);
	if (r < 0)
		return r;
	if (!physical_entry(f, &h, &entry))
		return err_set(
			err, -ENOEXEC,
			"it is damaged: its entry %#lx lies in none of its segments",
			h.entry);
	if (h.is_64) {
		img->kind = KERNEL_ELF64;
		img->has_linux64 = true;
		img->linux64_entry = entry;
	} else {
		img->kind = KERNEL_ELF32;
		img->multiboot_entry = entry;
	}
	return 0;
}
