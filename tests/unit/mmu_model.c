/* SPDX-License-Identifier: Apache-2.0 */
/* Address translation written down as the manual tells it, one paging mode after the other. */
#include "mmu_model.h"

#include <string.h>

#include <arch/x86.h>

struct path {
	struct guestmem *mem;
	const struct mmu_regs *r;
	struct model_result *res;
	unsigned int access;
	bool writable, user, executable;
	/* Entries met, for accessed bits; a PAE pointer entry has none. */
	unsigned int n;
	uint64_t addr[4], entry[4];
};

static uint64_t read_entry(struct path *p, uint64_t addr)
{
	const unsigned int bytes = p->res->entry_bytes;
	uint64_t e = 0;

	p->res->ref[p->res->n_refs++] = addr;
	if (!guestmem_read(p->mem, gpa(addr), &e, bytes))
		e = bytes == 4 ? 0xffffffff : ~0ULL;
	return e;
}

static bool is_write(const struct path *p)
{
	return p->access & MMU_ACC_WRITE;
}

static bool is_user(const struct path *p)
{
	return p->access & MMU_ACC_USER;
}

static bool is_fetch(const struct path *p)
{
	return p->access & MMU_ACC_FETCH;
}

static void fault(struct path *p, bool present, bool reserved, bool key)
{
	const bool nx_on = (p->r->efer & EFER_NXE) && (p->r->cr4 & CR4_PAE);

	p->res->kind = MMU_FAULT;
	p->res->code = (present ? 0x01 : 0) | (is_write(p) ? 0x02 : 0) |
		       (is_user(p) ? 0x04 : 0) | (reserved ? 0x08 : 0) |
		       (key ? 0x20 : 0);
	if (is_fetch(p) && (nx_on || (p->r->cr4 & CR4_SMEP)))
		p->res->code |= 0x10;
}

/* Return: false if the walk ends with a fault. */
static bool take(struct path *p, uint64_t addr, uint64_t e, uint64_t reserved)
{
	if (!(e & 1)) {
		fault(p, false, false, false);
		return false;
	}
	if (!(p->r->efer & EFER_NXE))
		reserved |= 1ULL << 63;
	if (e & reserved) {
		fault(p, true, true, false);
		return false;
	}
	p->writable = p->writable && (e & 2);
	p->user = p->user && (e & 4);
	p->executable = p->executable && !(e >> 63);
	p->addr[p->n] = addr;
	p->entry[p->n] = e;
	p->n++;
	return true;
}

static bool rights_fault(const struct path *p)
{
	const bool wp = p->r->cr0 & CR0_WP;

	if (is_fetch(p) && !p->executable)
		return true;
	if (is_user(p))
		return !p->user || (is_write(p) && !p->writable);
	if (is_write(p) && !p->writable && wp)
		return true;
	if (!p->user)
		return false;
	if (is_fetch(p))
		return p->r->cr4 & CR4_SMEP;
	return (p->r->cr4 & CR4_SMAP) && !(p->access & MMU_ACC_AC);
}

static bool key_fault(const struct path *p, uint64_t leaf)
{
	const unsigned int key = leaf >> 59 & 0xf;
	const bool access_off = p->r->pkru & (1U << 2 * key);
	const bool write_off = p->r->pkru & (2U << 2 * key);

	if (!(p->r->cr4 & CR4_PKE) || !(p->r->efer & EFER_LMA))
		return false;
	if (is_fetch(p) || !p->user)
		return false;
	if (access_off)
		return true;
	return write_off && is_write(p) && (is_user(p) || (p->r->cr0 & CR0_WP));
}

static void leaf(struct path *p, uint64_t base, uint64_t va, unsigned int shift)
{
	const uint64_t e = p->entry[p->n - 1];
	const bool key = key_fault(p, e);
	ppn_t page;

	if (key || rights_fault(p)) {
		fault(p, true, false, key);
		return;
	}
	for (unsigned int i = 0; i < p->n; i++) {
		uint64_t new = p->entry[i] | 0x20;

		if (i == p->n - 1 && is_write(p))
			new |= 0x40;
		if (new == p->entry[i])
			continue;
		p->res->set[p->res->n_sets].addr = p->addr[i];
		p->res->set[p->res->n_sets].value = new;
		p->res->n_sets++;
	}
	p->res->gpa = base + va % (1ULL << shift);
	p->res->page_shift = shift;
	p->res->global = (e & 0x100) && (p->r->cr4 & CR4_PGE);
	p->res->kind = guestmem_ppn(p->mem, gpa(p->res->gpa), &page) ? MMU_OK
								     : MMU_MMIO;
}

/* Bits 51 to 46: above the physical address width. */
#define TOO_HIGH 0x000fc00000000000ULL
#define FRAME    0x000ffffffffff000ULL

static void long_mode(struct path *p, uint64_t va)
{
	uint64_t table = p->r->cr3 & FRAME;
	uint64_t at = table + 8 * (va >> 39 & 511);
	uint64_t e = read_entry(p, at);

	if (!take(p, at, e, TOO_HIGH | 0x80))
		return;
	at = (e & FRAME) + 8 * (va >> 30 & 511);
	e = read_entry(p, at);
	if (!take(p, at, e, e & 0x80 ? TOO_HIGH | 0x3fffe000 : TOO_HIGH))
		return;
	if (e & 0x80) {
		leaf(p, e & 0x000fffffc0000000ULL, va, 30);
		return;
	}
	at = (e & FRAME) + 8 * (va >> 21 & 511);
	e = read_entry(p, at);
	if (!take(p, at, e, e & 0x80 ? TOO_HIGH | 0x1fe000 : TOO_HIGH))
		return;
	if (e & 0x80) {
		leaf(p, e & 0x000fffffffe00000ULL, va, 21);
		return;
	}
	at = (e & FRAME) + 8 * (va >> 12 & 511);
	e = read_entry(p, at);
	if (take(p, at, e, TOO_HIGH))
		leaf(p, e & FRAME, va, 12);
}

static void pae(struct path *p, uint64_t va)
{
	const uint64_t high = TOO_HIGH | 0x7ff0000000000000ULL;
	uint64_t at = (p->r->cr3 & 0xffffffe0) + 8 * (va >> 30);
	uint64_t e = read_entry(p, at);

	/* The pointer entry: present, two cache bits and an address, nothing else. */
	if (!(e & 1)) {
		fault(p, false, false, false);
		return;
	}
	if (e & (high | 1ULL << 63 | 0x1e6)) {
		fault(p, true, true, false);
		return;
	}
	at = (e & FRAME) + 8 * (va >> 21 & 511);
	e = read_entry(p, at);
	if (!take(p, at, e, e & 0x80 ? high | 0x1fe000 : high))
		return;
	if (e & 0x80) {
		leaf(p, e & 0x000fffffffe00000ULL, va, 21);
		return;
	}
	at = (e & FRAME) + 8 * (va >> 12 & 511);
	e = read_entry(p, at);
	if (take(p, at, e, high))
		leaf(p, e & FRAME, va, 12);
}

static void two_levels(struct path *p, uint64_t va)
{
	const bool pse = p->r->cr4 & CR4_PSE;
	uint64_t at = (p->r->cr3 & 0xfffff000) + 4 * (va >> 22);
	uint64_t e = read_entry(p, at);

	if (!take(p, at, e, pse && (e & 0x80) ? 1U << 21 : 0))
		return;
	if (pse && (e & 0x80)) {
		leaf(p, (e & 0xffc00000) | (e >> 13 & 0xff) << 32, va, 22);
		return;
	}
	at = (e & 0xfffff000) + 4 * (va >> 12 & 1023);
	e = read_entry(p, at);
	if (take(p, at, e, 0))
		leaf(p, e & 0xfffff000, va, 12);
}

void model_access(struct guestmem *mem, const struct mmu_regs *regs,
		  uint64_t va, unsigned int access, struct model_result *ret)
{
	struct path p = {
		.mem = mem,
		.r = regs,
		.res = ret,
		.access = access,
		.writable = true,
		.user = true,
		.executable = true,
	};

	memset(ret, 0, sizeof(*ret));
	ret->entry_bytes = 8;
	if (!(regs->cr0 & CR0_PG)) {
		ppn_t page;

		ret->gpa = va & 0xffffffff;
		ret->page_shift = 12;
		ret->kind = guestmem_ppn(mem, gpa(ret->gpa), &page) ? MMU_OK
								    : MMU_MMIO;
	} else if (regs->efer & EFER_LMA) {
		long_mode(&p, va);
	} else if (regs->cr4 & CR4_PAE) {
		pae(&p, va);
	} else {
		ret->entry_bytes = 4;
		two_levels(&p, va);
	}
}

void model_apply(struct guestmem *mem, const struct model_result *result)
{
	for (unsigned int i = 0; i < result->n_sets; i++)
		if (!guestmem_write(mem, gpa(result->set[i].addr),
				    &result->set[i].value, result->entry_bytes))
			return;
}
