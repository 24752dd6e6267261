/* SPDX-License-Identifier: Apache-2.0 */
/* The processor under test: memory, tables, descriptors and the catching of exceptions. */
#include "cpu_harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cpu/block.h>
#include <cpu/sys.h>

#define GDT_OFFSET     0x0000
#define TSS_OFFSET     0x0200
#define IDT_OFFSET     0x1000
#define HANDLER_OFFSET 0x2000
#define STACK_OFFSET   0x3000 /* one page, growing down from its end */
#define SYSTEM_PAGES   4
#define N_VECTORS      256
#define SLICE          256

static uint32_t pio_read(void *ctx, uint16_t port, unsigned int size)
{
	struct cpu_harness *h = ctx;

	if (h->n_io < HARNESS_N_IO)
		h->io[h->n_io] = (struct harness_io){.addr = port,
						     .value = h->pio_value,
						     .size = size};
	h->n_io++;
	return h->pio_value;
}

static void pio_write(void *ctx, uint16_t port, unsigned int size,
		      uint32_t value)
{
	struct cpu_harness *h = ctx;

	if (h->n_io < HARNESS_N_IO)
		h->io[h->n_io] = (struct harness_io){.is_write = true,
						     .addr = port,
						     .value = value,
						     .size = size};
	h->n_io++;
}

static uint64_t mmio_read(void *ctx, gpa_t addr, unsigned int size)
{
	struct cpu_harness *h = ctx;
	uint64_t v = 0;

	if (addr.v >= HARNESS_MMIO &&
	    addr.v + size <= HARNESS_MMIO + sizeof(h->mmio))
		memcpy(&v, &h->mmio[addr.v - HARNESS_MMIO], size);
	if (h->n_io < HARNESS_N_IO)
		h->io[h->n_io] = (struct harness_io){.is_mmio = true,
						     .addr = addr.v,
						     .value = v,
						     .size = size};
	h->n_io++;
	return v;
}

static void mmio_write(void *ctx, gpa_t addr, unsigned int size, uint64_t value)
{
	struct cpu_harness *h = ctx;

	if (addr.v >= HARNESS_MMIO &&
	    addr.v + size <= HARNESS_MMIO + sizeof(h->mmio))
		memcpy(&h->mmio[addr.v - HARNESS_MMIO], &value, size);
	if (h->n_io < HARNESS_N_IO)
		h->io[h->n_io] = (struct harness_io){.is_mmio = true,
						     .is_write = true,
						     .addr = addr.v,
						     .value = value,
						     .size = size};
	h->n_io++;
}

static uint64_t read_tsc(void *ctx)
{
	struct cpu_harness *h = ctx;

	return h->tsc += 1000;
}

static bool msr_read(void *ctx, uint32_t msr, uint64_t *ret_value)
{
	(void)ctx;
	(void)msr;
	(void)ret_value;
	return false;
}

static bool msr_write(void *ctx, uint32_t msr, uint64_t value)
{
	(void)ctx;
	(void)msr;
	(void)value;
	return false;
}

static uint64_t cr8_read(void *ctx)
{
	(void)ctx;
	return 0;
}

static void cr8_write(void *ctx, uint64_t value)
{
	(void)ctx;
	(void)value;
}

static const struct cpu_ops ops = {
	.pio_read = pio_read,
	.pio_write = pio_write,
	.mmio_read = mmio_read,
	.mmio_write = mmio_write,
	.tsc = read_tsc,
	.msr_read = msr_read,
	.msr_write = msr_write,
	.cr8_read = cr8_read,
	.cr8_write = cr8_write,
};

static void on_unmap(void *ctx, ppn_t page)
{
	struct cpu_harness *h = ctx;

	cpu_unmap(h->cpu, page);
}

static void on_written(void *ctx, gpa_t addr, uint64_t len)
{
	struct cpu_harness *h = ctx;

	cpu_written(h->cpu, addr, len);
}

static void on_kick(void *ctx)
{
	(void)ctx;
}

static const struct guestmem_ops mem_ops = {
	.unmap = on_unmap,
	.written = on_written,
	.kick = on_kick,
};

static uint64_t phys_rd64(struct cpu_harness *h, uint64_t addr)
{
	uint64_t v;

	assert_true(guestmem_read(h->mem, gpa(addr), &v, sizeof(v)));
	return v;
}

static void phys_wr64(struct cpu_harness *h, uint64_t addr, uint64_t v)
{
	assert_true(guestmem_write(h->mem, gpa(addr), &v, sizeof(v)));
}

static uint64_t new_pages(struct cpu_harness *h, uint64_t n)
{
	static const uint8_t zero[PAGE_SIZE];
	const uint64_t addr = h->next_page;

	assert_true(addr + n * PAGE_SIZE <= HARNESS_RAM_BYTES);
	for (uint64_t i = 0; i < n; i++)
		assert_true(guestmem_write(h->mem, gpa(addr + i * PAGE_SIZE),
					   zero, sizeof(zero)));
	h->next_page += n * PAGE_SIZE;
	return addr;
}

/* Address of the last-level entry; upper levels are made, with all rights. */
static uint64_t entry_of(struct cpu_harness *h, uint64_t addr)
{
	uint64_t table = h->root;

	for (unsigned int shift = 39; shift > PAGE_SHIFT; shift -= 9) {
		const uint64_t at = table + ((addr >> shift) & 511) * 8;
		uint64_t pte = phys_rd64(h, at);

		if (!(pte & PTE_P)) {
			pte = new_pages(h, 1) | PTE_P | PTE_W | PTE_U;
			phys_wr64(h, at, pte);
		}
		table = pte & PTE_ADDR;
	}
	return table + ((addr >> PAGE_SHIFT) & 511) * 8;
}

void cpu_harness_map_at(struct cpu_harness *h, uint64_t addr, uint64_t gpa_addr,
			uint64_t flags)
{
	phys_wr64(h, entry_of(h, addr), gpa_addr | flags);
	mmu_invlpg(h->cpu->mmu, gva(addr));
}

uint64_t cpu_harness_map(struct cpu_harness *h, uint64_t addr, uint64_t n_pages,
			 uint64_t flags)
{
	const uint64_t phys = new_pages(h, n_pages);

	for (uint64_t i = 0; i < n_pages; i++)
		cpu_harness_map_at(h, addr + i * PAGE_SIZE,
				   phys + i * PAGE_SIZE, flags);
	return phys;
}

uint64_t cpu_harness_gpa(struct cpu_harness *h, uint64_t addr)
{
	return (phys_rd64(h, entry_of(h, addr)) & PTE_ADDR) |
	       (addr & ~PAGE_MASK);
}

void cpu_harness_write(struct cpu_harness *h, uint64_t addr, const void *buf,
		       size_t len)
{
	const uint8_t *from = buf;

	while (len) {
		const size_t room = PAGE_SIZE - (addr & ~PAGE_MASK);
		const size_t n = len < room ? len : room;

		assert_true(guestmem_write(h->mem, gpa(cpu_harness_gpa(h, addr)),
					   from, n));
		addr += n;
		from += n;
		len -= n;
	}
}

void cpu_harness_read(struct cpu_harness *h, uint64_t addr, void *buf,
		      size_t len)
{
	uint8_t *to = buf;

	while (len) {
		const size_t room = PAGE_SIZE - (addr & ~PAGE_MASK);
		const size_t n = len < room ? len : room;

		assert_true(guestmem_read(h->mem, gpa(cpu_harness_gpa(h, addr)),
					  to, n));
		addr += n;
		to += n;
		len -= n;
	}
}

/* Attributes of a flat segment, as cpu_segment has them. */
static uint16_t attr_of(uint16_t sel)
{
	const uint16_t base = SEG_P | SEG_S | SEG_G |
			      (uint16_t)((sel & 3) << SEG_DPL_SHIFT);

	switch (sel & ~7) {
	case HARNESS_CODE64:
	case HARNESS_USER_CODE64 & ~7:
		return base | 11 | SEG_L;
	case HARNESS_CODE32:
	case HARNESS_USER_CODE32 & ~7:
		return base | 11 | SEG_DB;
	case HARNESS_CODE16:
	case HARNESS_USER_CODE16 & ~7:
		return base | 11;
	default:
		return base | 3 | SEG_DB;
	}
}

static void put_descriptors(struct cpu_harness *h)
{
	static const uint16_t flat[] = {
		HARNESS_CODE64,      HARNESS_DATA,        HARNESS_CODE32,
		HARNESS_CODE16,      HARNESS_USER_DATA,   HARNESS_USER_CODE64,
		HARNESS_USER_CODE32, HARNESS_USER_CODE16,
	};
	const uint64_t gdt = HARNESS_SYSTEM + GDT_OFFSET;
	const uint64_t tss = HARNESS_SYSTEM + TSS_OFFSET;
	uint64_t raw[2];

	for (size_t i = 0; i < ARRAY_SIZE(flat); i++) {
		raw[0] = (uint64_t)attr_of(flat[i]) << 40 |
			 UINT64_C(0x000f00000000ffff);
		cpu_harness_write(h, gdt + (flat[i] & ~7), raw, 8);
	}
	raw[0] = UINT64_C(0x67) | (tss & 0xffffff) << 16 |
		 (uint64_t)(SEG_P | 11) << 40 | (tss >> 24 & 0xff) << 56;
	raw[1] = tss >> 32;
	cpu_harness_write(h, gdt + HARNESS_TSS, raw, 16);
}

/* All vectors go to a HLT of their own, on the first interrupt stack. */
static void put_handlers(struct cpu_harness *h)
{
	const uint64_t stack = HARNESS_SYSTEM + STACK_OFFSET + PAGE_SIZE;
	const uint64_t idt = HARNESS_SYSTEM + IDT_OFFSET;

	for (unsigned int i = 0; i < N_VECTORS; i++) {
		const uint64_t to = HARNESS_SYSTEM + HANDLER_OFFSET + i;
		const uint64_t gate[2] = {(to & 0xffff) |
						  (uint64_t)HARNESS_CODE64 << 16 |
						  UINT64_C(1) << 32 |
						  UINT64_C(0xee) << 40 |
						  (to >> 16 & 0xffff) << 48,
					  to >> 32};

		cpu_harness_write(h, idt + i * 16, gate, sizeof(gate));
		cpu_harness_write(h, to, "\xf4", 1);
	}
	/* RSP0, IST1, and a port bitmap beyond the limit: no port is allowed at CPL 3. */
	cpu_harness_write(h, HARNESS_SYSTEM + TSS_OFFSET + 4, &stack, 8);
	cpu_harness_write(h, HARNESS_SYSTEM + TSS_OFFSET + 0x24, &stack, 8);
	cpu_harness_write(h, HARNESS_SYSTEM + TSS_OFFSET + 0x66, "\x68", 2);
}

static void set_segment(struct cpu *c, unsigned int n, uint16_t sel)
{
	c->seg[n] = (struct cpu_segment){
		.sel = sel,
		.attr = attr_of(sel),
		.limit = UINT32_MAX,
	};
	c->gpr[REG_SEG + n] = 0;
}

void cpu_harness_set_mode(struct cpu_harness *h, unsigned int bits,
			  unsigned int cpl)
{
	struct cpu *c = h->cpu;
	const uint16_t code = bits == 64   ? HARNESS_CODE64
			      : bits == 32 ? HARNESS_CODE32
					   : HARNESS_CODE16;
	const uint16_t user = bits == 64   ? HARNESS_USER_CODE64
			      : bits == 32 ? HARNESS_USER_CODE32
					   : HARNESS_USER_CODE16;

	c->cr4 |= CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_PGE;
	c->cr0 |= CR0_PG | CR0_WP | CR0_MP | CR0_PE | CR0_NE;
	c->efer |= EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	c->cr3 = h->root;
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		set_segment(c, i, cpl ? HARNESS_USER_DATA : HARNESS_DATA);
	set_segment(c, SEG_CS, cpl ? user : code);
	c->cpl = (uint8_t)cpl;
	cpu_state_changed(c);
}

void cpu_harness_set_legacy(struct cpu_harness *h, unsigned int bits)
{
	struct cpu *c = h->cpu;

	c->cr0 &= ~CR0_PG;
	c->efer &= ~(EFER_LME | EFER_LMA);
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		set_segment(c, i, HARNESS_DATA);
	set_segment(c, SEG_CS, bits == 32 ? HARNESS_CODE32 : HARNESS_CODE16);
	c->cpl = 0;
	cpu_state_changed(c);
}

static void set_tables(struct cpu_harness *h)
{
	struct cpu *c = h->cpu;

	c->gdtr = (struct cpu_table){HARNESS_SYSTEM + GDT_OFFSET, 0x5f};
	c->idtr = (struct cpu_table){HARNESS_SYSTEM + IDT_OFFSET,
				     N_VECTORS * 16 - 1};
	c->tr = (struct cpu_segment){
		.sel = HARNESS_TSS,
		.attr = SEG_P | 11,
		.limit = 0x67,
		.base = HARNESS_SYSTEM + TSS_OFFSET,
	};
}

struct cpu_harness *cpu_harness_new(const struct cpu_features *features,
				    const struct mmu_options *mmu)
{
	struct cpu_harness *h = calloc(1, sizeof(*h));
	const struct mmu_options mmu_default = mmu_options_default();
	const struct cpu_features feature_default = {.n_cpus = 1,
						     .tsc_khz = 1000000};
	struct cpu_features used = features ? *features : feature_default;
	struct err err = {""};

	assert_non_null(h);
	/* The same tests run on translated code: see meson.build. */
	if (getenv("CPU_TRANSLATE_AT_ONCE"))
		used.translate_at_once = true;
	if (guestmem_new(HARNESS_RAM_BYTES, &h->mem, &err))
		fail_msg("%s", err.text);
	if (cpu_new(h->mem, &ops, h, mmu ? mmu : &mmu_default, &used, &h->cpu,
		    &err))
		fail_msg("%s", err.text);
	guestmem_set_ops(h->mem, &mem_ops, h);
	h->next_page = PAGE_SIZE;
	h->root = new_pages(h, 1);
	cpu_harness_map(h, HARNESS_SYSTEM, SYSTEM_PAGES, PTE_P | PTE_W);
	put_descriptors(h);
	put_handlers(h);
	set_tables(h);
	cpu_harness_set_mode(h, 64, 0);
	return h;
}

void cpu_harness_reset(struct cpu_harness *h)
{
	cpu_reset(h->cpu);
	block_flush(h->cpu);
	set_tables(h);
	cpu_harness_set_mode(h, 64, 0);
	memset(h->mmio, 0, sizeof(h->mmio));
	h->n_io = 0;
	h->pio_value = 0;
	h->tsc = 0;
}

struct cpu_harness *cpu_harness_free(struct cpu_harness *h)
{
	if (!h)
		return NULL;
	cpu_free(h->cpu);
	guestmem_free(h->mem);
	free(h);
	return NULL;
}

static bool has_error_code(unsigned int vector)
{
	return vector == VEC_DF || (vector >= VEC_TS && vector <= VEC_PF) ||
	       vector == VEC_AC;
}

/* The frame on the interrupt stack. */
static void read_frame(struct cpu_harness *h, struct harness_end *end)
{
	uint64_t frame[6] = {0};
	const bool has_code = has_error_code(end->vector);
	const size_t len = has_code ? sizeof(frame) : sizeof(frame) - 8;

	cpu_harness_read(h, HARNESS_SYSTEM + STACK_OFFSET + PAGE_SIZE - len,
			 &frame[!has_code], len);
	end->code = (uint32_t)frame[0];
	end->rip = frame[1];
	end->cs = frame[2];
	end->rflags = frame[3];
	end->rsp = frame[4];
	end->cr2 = h->cpu->cr2;
}

static void read_halt(struct cpu_harness *h, struct harness_end *end)
{
	const uint64_t handler = cpu_rip(h->cpu) - 1 - HARNESS_SYSTEM -
				 HANDLER_OFFSET;

	if (handler < N_VECTORS) {
		end->outcome = HARNESS_EXCEPTION;
		end->vector = (unsigned int)handler;
		read_frame(h, end);
		return;
	}
	end->outcome = HARNESS_HALTED;
	end->rip = cpu_rip(h->cpu);
	end->rflags = cpu_rflags(h->cpu);
	end->rsp = h->cpu->gpr[REG_RSP];
	end->cs = h->cpu->seg[SEG_CS].sel;
}

struct harness_end cpu_harness_run(struct cpu_harness *h, uint64_t rip,
				   uint64_t max_insns)
{
	struct cpu *c = h->cpu;
	const uint64_t start = cpu_retired(c);
	struct harness_end end = {.outcome = HARNESS_LIMIT};
	enum cpu_exit why = CPU_EXIT_SLICE;

	c->gpr[REG_RIP] = rip;
	c->halted = c->shutdown = false;
	while (why == CPU_EXIT_SLICE && cpu_retired(c) - start < max_insns)
		why = cpu_run(c, SLICE);
	end.insns = cpu_retired(c) - start;
	if (why == CPU_EXIT_HLT)
		read_halt(h, &end);
	else if (why == CPU_EXIT_SHUTDOWN)
		end.outcome = HARNESS_SHUTDOWN;
	else if (why == CPU_EXIT_BAD_FETCH)
		end.outcome = HARNESS_BAD_FETCH;
	return end;
}
