/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slow memory accesses: everything that a software-TLB hit does not cover.
 *
 * An access is cut into pieces of one page each. All pieces are translated, with the rights
 * that the whole access needs, before the first byte moves; so an access that faults on its
 * second page has changed nothing. Translating may wait for a page that the host
 * is moving, and serves revocations meanwhile: if any page was taken by that, the earlier piece is
 * translated again.
 */
#include <cpu/access.h>

#include <base/verify.h>
#include <cpu/block.h>

static bool is_64(const struct cpu *c)
{
	return (c->code_mode & CODE_BITS) == CODE_64;
}

static bool is_canonical(uint64_t addr)
{
	return (uint64_t)((int64_t)(addr << 16) >> 16) == addr;
}

/* Raise what an access through a stack or another segment raises for a bad address. */
static void raise_segment(struct cpu *c, const struct op *op)
{
	cpu_raise_code(c, op && (op->ea & EA_STACK) ? VEC_SS : VEC_GP, 0);
}

static bool segment_allows(const struct cpu_segment *s, uint64_t first,
			   uint64_t last, bool write)
{
	const bool is_code = s->attr & 8;
	const uint64_t top = s->attr & SEG_DB ? UINT32_MAX : UINT16_MAX;

	if (!(s->attr & SEG_P))
		return false;
	if (write ? is_code || !(s->attr & 2) : is_code && !(s->attr & 2))
		return false;
	if (!is_code && (s->attr & 4)) /* expand down */
		return first > s->limit && last <= top;
	return last <= s->limit;
}

/* Limits and rights of a segment that is not flat. */
static bool check_segment(struct cpu *c, const struct op *op, uint64_t addr,
			  unsigned int size, bool write)
{
	if (!op || !(op->ea & EA_CHECK) || op->seg < REG_SEG)
		return true;
	const unsigned int n = op->seg - REG_SEG;
	const uint32_t first = (uint32_t)(addr - c->gpr[op->seg]);

	if (segment_allows(&c->seg[n], first, (uint64_t)first + size - 1, write))
		return true;
	cpu_raise_code(c, n == SEG_SS ? VEC_SS : VEC_GP, 0);
	return false;
}

static bool check_alignment(struct cpu *c, uint64_t addr, unsigned int size)
{
	if (c->cpl != 3 || !(c->sys_flags & RFLAGS_AC) || !(c->cr0 & CR0_AM) ||
	    size > 8 || !(addr & (size - 1)))
		return true;
	cpu_raise_code(c, VEC_AC, 0);
	return false;
}

static bool check_address(struct cpu *c, const struct op *op, uint64_t *addr,
			  unsigned int size, bool write)
{
	if (is_64(c)) {
		if (unlikely(!is_canonical(*addr) ||
			     !is_canonical(*addr + size - 1))) {
			raise_segment(c, op);
			return false;
		}
	} else {
		*addr = (uint32_t)*addr;
		/*
		 * Beyond the limit of a flat segment; whether that faults is up to
		 * the processor.
		 */
		if (unlikely(*addr + size - 1 > UINT32_MAX)) {
			raise_segment(c, op);
			return false;
		}
		if (unlikely(!check_segment(c, op, *addr, size, write)))
			return false;
	}
	return check_alignment(c, *addr, size);
}

/* Data breakpoints. [SDM3 17.2.4 "Debug Control Register (DR7)"] */
static void watch_data(struct cpu *c, uint64_t addr, unsigned int size,
		       bool write)
{
	for (unsigned int i = 0; i < 4; i++) {
		const unsigned int ctl = (c->dr[7] >> (16 + 4 * i)) & 15;
		const unsigned int kind = ctl & 3;
		static const uint8_t len_of[4] = {1, 2, 8, 4};
		const uint64_t len = len_of[ctl >> 2];
		const uint64_t base = c->dr[i] & ~(len - 1);

		if (!((c->dr[7] >> (2 * i)) & 3))
			continue;
		if (kind != 3 && !(kind == 1 && write))
			continue;
		if (addr < base + len && base < addr + size)
			c->debug_hits |= (uint8_t)(1U << i);
	}
}

static unsigned int explicit_access(const struct cpu *c, bool write)
{
	unsigned int access = write ? MMU_ACC_WRITE : 0;

	if (c->cpl == 3)
		access |= MMU_ACC_USER;
	else if (c->sys_flags & RFLAGS_AC)
		access |= MMU_ACC_AC;
	return access;
}

static void raise_page_fault(struct cpu *c, uint64_t addr, uint32_t code)
{
	cpu_raise_code(c, VEC_PF, code);
	c->exc.cr2 = addr;
}

static void fill_tlb(struct cpu *c, uint64_t addr, const struct mmu_xlat *x,
		     uint8_t *host)
{
	const bool flagged = guestmem_flags(c->mem)[x->ppn.v] != 0;
	const struct tlb_fill f = {
		.addr = gva(addr),
		.host = (uint8_t *)((uintptr_t)host & PAGE_MASK),
		.ppn = x->ppn,
		.read = x->read,
		.write = x->write && !flagged,
		.global = x->global,
		.smap_window = x->smap_window,
		.page_shift = x->page_shift,
	};

	tlb_fill(&c->tlb, &f);
}

/* Translate the part of an access that lies in one page. False: exception or stop pending. */
static bool resolve_piece(struct cpu *c, uint64_t addr, unsigned int size,
			  unsigned int access, bool fill, struct cpu_piece *ret)
{
	struct mmu_xlat x;

	c->tlb.stats.misses++;
	switch (mmu_translate(c->mmu, gva(addr), access, &x)) {
	case MMU_OK:
		ret->host = machine_ptr(guestmem_machine(c->mem), x.ma);
		ret->gpa = x.gpa;
		ret->ppn = x.ppn;
		ret->size = size;
		if (fill)
			fill_tlb(c, addr, &x, ret->host);
		return true;
	case MMU_FAULT:
		raise_page_fault(c, addr, x.fault_code);
		return false;
	case MMU_MMIO:
		ret->host = NULL;
		ret->gpa = x.gpa;
		ret->size = size;
		return true;
	case MMU_STOPPED:
		c->stopped = true;
		return false;
	}
	return false;
}

/*
 * All pieces of an access; at most two, since @size is at most 64. Return: how many,
 * 0 on failure.
 */
static unsigned int resolve(struct cpu *c, uint64_t addr, unsigned int size,
			    unsigned int access, bool fill,
			    struct cpu_piece piece[2])
{
	const unsigned int room = PAGE_SIZE - (addr & ~PAGE_MASK);

	if (size <= room)
		return resolve_piece(c, addr, size, access, fill, &piece[0]);

	const uint64_t next = is_64(c) ? addr + room : (uint32_t)(addr + room);
	uint64_t epoch;

	do {
		epoch = guestmem_epoch(c->mem);
		if (!resolve_piece(c, addr, room, access, fill, &piece[0]) ||
		    !resolve_piece(c, next, size - room, access, fill, &piece[1]))
			return 0;
	} while (epoch != guestmem_epoch(c->mem));
	return 2;
}

static void device_read(struct cpu *c, const struct cpu_piece *p, uint8_t *out)
{
	for (unsigned int done = 0; done < p->size;) {
		const unsigned int n = p->size - done < 8 ? p->size - done : 8;
		const uint64_t v = c->ops->mmio_read(c->ctx,
						     gpa_add(p->gpa, done), n);

		memcpy(out + done, &v, n);
		done += n;
	}
	c->stats.mmio++;
	cpu_end_slice(c);
}

static void device_write(struct cpu *c, const struct cpu_piece *p,
			 const uint8_t *in)
{
	for (unsigned int done = 0; done < p->size;) {
		const unsigned int n = p->size - done < 8 ? p->size - done : 8;
		uint64_t v = 0;

		memcpy(&v, in + done, n);
		c->ops->mmio_write(c->ctx, gpa_add(p->gpa, done), n, v);
		done += n;
	}
	c->stats.mmio++;
	cpu_end_slice(c);
}

/* Copy of a size known to be small; aligned sizes are single host accesses. */
static void copy_small(void *to, const void *from, unsigned int size)
{
	switch (size) {
	case 1:
		memcpy(to, from, 1);
		break;
	case 2:
		memcpy(to, from, 2);
		break;
	case 4:
		memcpy(to, from, 4);
		break;
	case 8:
		memcpy(to, from, 8);
		break;
	default:
		memcpy(to, from, size);
	}
}

static void read_pieces(struct cpu *c, const struct cpu_piece *p, unsigned int n)
{
	uint8_t *out = (uint8_t *)c->scratch;

	for (unsigned int i = 0; i < n; i++) {
		if (p[i].host)
			copy_small(out, p[i].host, p[i].size);
		else
			device_read(c, &p[i], out);
		out += p[i].size;
	}
}

void cpu_written_flagged(struct cpu *c, ppn_t page, gpa_t addr, uint64_t len)
{
	const uint8_t flags = guestmem_flags(c->mem)[page.v];

	if (flags & GUESTMEM_CODE) {
		c->stats.code_stores++;
		block_written(c, page, addr.v & ~PAGE_MASK, len);
	}
	if (flags & GUESTMEM_TABLE)
		mmu_table_written(c->mmu, addr, len);
}

static void write_pieces(struct cpu *c, const struct cpu_piece *p,
			 unsigned int n)
{
	const uint8_t *in = (const uint8_t *)c->scratch;

	for (unsigned int i = 0; i < n; i++) {
		if (p[i].host) {
			copy_small(p[i].host, in, p[i].size);
			if (guestmem_flags(c->mem)[p[i].ppn.v])
				cpu_written_flagged(c, p[i].ppn, p[i].gpa,
						    p[i].size);
		} else {
			device_write(c, &p[i], in);
		}
		in += p[i].size;
	}
}

bool cpu_load_slow(struct cpu *c, const struct op *op, uint64_t addr,
		   unsigned int size)
{
	struct cpu_piece piece[2];

	c->stats.slow_loads++;
	if (!check_address(c, op, &addr, size, false))
		return false;
	if (tlb_revalidate(&c->tlb, gva(addr))) {
		const uint8_t *p = cpu_read_hit(c, addr, size);

		if (p) {
			copy_small(c->scratch, p, size);
			return true;
		}
	}
	const unsigned int n = resolve(c, addr, size, explicit_access(c, false),
				       true, piece);

	if (!n)
		return false;
	if (unlikely(c->debug_data))
		watch_data(c, addr, size, false);
	read_pieces(c, piece, n);
	return true;
}

/*
 * A store to a flagged page misses for ever, so it is worth a translation that
 * does not walk: the entry's read tag still tells where the page is.
 */
bool cpu_store_slow(struct cpu *c, const struct op *op, uint64_t addr,
		    unsigned int size)
{
	struct cpu_piece piece[2];

	c->stats.slow_stores++;
	if (!check_address(c, op, &addr, size, true))
		return false;
	if (tlb_revalidate(&c->tlb, gva(addr))) {
		uint8_t *p = cpu_write_hit(c, addr, size);

		if (p) {
			copy_small(p, c->scratch, size);
			return true;
		}
	}
	const unsigned int n = resolve(c, addr, size, explicit_access(c, true),
				       true, piece);

	if (!n)
		return false;
	if (unlikely(c->debug_data))
		watch_data(c, addr, size, true);
	write_pieces(c, piece, n);
	return true;
}

bool cpu_rmw_slow(struct cpu *c, const struct op *op, uint64_t addr,
		  unsigned int size)
{
	c->stats.slow_stores++;
	if (!check_address(c, op, &addr, size, true))
		return false;
	tlb_revalidate(&c->tlb, gva(addr));
	c->n_rmw = resolve(c, addr, size, explicit_access(c, true), true,
			   c->rmw);
	if (!c->n_rmw)
		return false;
	if (unlikely(c->debug_data))
		watch_data(c, addr, size, true);
	read_pieces(c, c->rmw, c->n_rmw);
	return true;
}

void cpu_rmw_finish(struct cpu *c)
{
	write_pieces(c, c->rmw, c->n_rmw);
}

/*
 * Implicit supervisor accesses use the supervisor array whatever the CPL, but not what was
 * let in by EFLAGS.AC. Return: host address of a hit, or NULL with the pieces resolved
 * (@ret_n of them, 0 on failure).
 */
static uint8_t *sys_access(struct cpu *c, uint64_t addr, unsigned int size,
			   bool write, struct cpu_piece piece[2],
			   unsigned int *ret_n)
{
	const bool user = c->tlb.user;
	uint8_t *hit = NULL;

	tlb_set_user(&c->tlb, false);
	if (!c->tlb.n_smap)
		hit = write ? cpu_write_hit(c, addr, size)
			    : cpu_read_hit(c, addr, size);
	if (!hit)
		*ret_n = resolve(c, addr, size, write ? MMU_ACC_WRITE : 0, true,
				 piece);
	tlb_set_user(&c->tlb, user);
	return hit;
}

bool cpu_sys_load(struct cpu *c, uint64_t addr, unsigned int size)
{
	struct cpu_piece piece[2];
	unsigned int n = 0;
	const uint8_t *hit = sys_access(c, addr, size, false, piece, &n);

	if (hit)
		copy_small(c->scratch, hit, size);
	else if (n)
		read_pieces(c, piece, n);
	return hit || n;
}

bool cpu_sys_store(struct cpu *c, uint64_t addr, unsigned int size)
{
	struct cpu_piece piece[2];
	unsigned int n = 0;
	uint8_t *hit = sys_access(c, addr, size, true, piece, &n);

	if (hit)
		copy_small(hit, c->scratch, size);
	else if (n)
		write_pieces(c, piece, n);
	return hit || n;
}

uint64_t cpu_ea_slow(const struct cpu *c, const struct op *op)
{
	return cpu_linear(c, op, cpu_offset(c, op));
}
