/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest without a system that builds, changes and breaks its own page tables.
 *
 * Its command line is SEED STEPS. Each step stores at random into tables: entries of any
 * level, stores of any size, tables that map themselves or each other, that two parents
 * share, that are mapped as data; some stores go through the very mappings that
 * they change. It changes control bits, flushes in one of the ways there are, and makes an
 * access. What must come of that, error code and accessed and dirty bits too, it works out
 * beforehand with a walk of its own through an identity mapping. It prints how often it was
 * wrong, and a sum of all that was read and of all faults.
 */
#include <stddef.h>
#include <stdint.h>

#include "bare.h"

#define N_FRAMES   20UL
#define POOL       0x1000000UL
#define LARGE_POOL 0x1400000UL
#define RAM_END    (64UL << 20)
#define AREA       0x8000000000UL /* hostile: slot 1 of the root */

#define P          1UL
#define W          2UL
#define U          4UL
#define A          0x20UL
#define D          0x40UL
#define PS         0x80UL
#define G          0x100UL
#define NX         (1UL << 63)
#define ADR        0x000ffffffffff000UL

#define CR0_WP     (1UL << 16)
#define CR4_PGE    (1UL << 7)
#define CR4_SMAP   (1UL << 21)
#define NXE        (1UL << 11)
#define NO_FAULT   ~0UL

__asm__("page_fault: push %rax\n"
	"mov 8(%rsp), %rax\n mov %rax, fault_code\n"
	"mov %cr2, %rax\n mov %rax, fault_addr\n"
	"mov resume, %rax\n mov %rax, 16(%rsp)\n"
	"pop %rax\n add $8, %rsp\n iretq\n"
	".globl page_fault\n");

uint64_t fault_code __attribute__((used)), fault_addr __attribute__((used));
uint64_t resume __attribute__((used));
extern const uint8_t page_fault[];

static uint64_t root[512] __attribute__((aligned(4096)));
static uint64_t identity[2][512] __attribute__((aligned(4096)));
static uint64_t idt[32];
static uint64_t rng, sum = 0xcbf29ce484222325UL;
static uint64_t cr0, cr4, efer, ac;
static uint64_t n_loads, n_stores, n_faults, n_wrong;

static uint64_t below(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (rng * 0x2545f4914f6cdd1dUL >> 20) % n;
}

static void add(uint64_t v)
{
	sum = (sum ^ v) * 0x100000001b3UL;
}

static volatile uint64_t *at(uint64_t phys)
{
	return (volatile uint64_t *)phys;
}

/* Walk. */

struct path {
	uint64_t code; /* NO_FAULT, or what the processor must say */
	uint64_t phys;
	unsigned int n;
	uint64_t addr[4], want[4];
};

static int reserved(uint64_t e, unsigned int level)
{
	uint64_t bits = 0x000fc00000000000UL;

	if (!(efer & NXE))
		bits |= NX;
	if (level == 4)
		bits |= PS;
	if ((e & PS) && level == 3)
		bits |= 0x3fffe000UL;
	if ((e & PS) && level == 2)
		bits |= 0x1fe000UL;
	return (e & bits) != 0;
}

static void walk(uint64_t va, int write, struct path *p)
{
	uint64_t table = (uint64_t)root, rights = W | U, e = 0;
	unsigned int level = 4;

	p->n = 0;
	p->code = write ? 2 : 0;
	for (;; level--) {
		const unsigned int shift = 3 + 9 * level;

		p->addr[p->n] = table + 8 * (va >> shift & 511);
		/* Beyond RAM all bits read as ones. */
		e = table < RAM_END ? *at(p->addr[p->n]) : ~0UL;
		p->want[p->n++] = e | A;
		if (!(e & P))
			return;
		if (reserved(e, level)) {
			p->code |= 9;
			return;
		}
		rights &= e;
		if (level == 1 || (level < 4 && (e & PS)))
			break;
		table = e & ADR;
	}
	if ((write && !(rights & W) && (cr0 & CR0_WP)) ||
	    ((rights & U) && (cr4 & CR4_SMAP) && !ac)) {
		p->code |= 1;
		return;
	}
	const uint64_t mask = (1UL << (3 + 9 * level)) - 1;

	p->phys = (e & ADR & ~mask) | (va & mask);
	p->code = NO_FAULT;
	if (write)
		p->want[p->n - 1] |= D;
}

/* Accesses. Each goes on behind itself after a fault. */

#define TRY(insn, ...)                                                     \
	__asm__ volatile("lea 1f(%%rip), %%rax\n mov %%rax, resume\n" insn \
			 "\n1:"                                            \
			 : __VA_ARGS__                                     \
			 : "rax", "memory")

static uint64_t load(uint64_t va)
{
	uint64_t v = 0;

	TRY("mov (%1), %0", "+r"(v) : "r"(va));
	return v;
}

static void store(uint64_t va, uint64_t v, unsigned int size)
{
	switch (size) {
	case 1:
		TRY("movb %b1, (%0)", : "r"(va), "r"(v));
		break;
	case 2:
		TRY("movw %w1, (%0)", : "r"(va), "r"(v));
		break;
	case 4:
		TRY("movl %k1, (%0)", : "r"(va), "r"(v));
		break;
	default:
		TRY("movq %1, (%0)", : "r"(va), "r"(v));
		break;
	}
}

static uint64_t exchange(uint64_t va, uint64_t v)
{
	TRY("xchg %0, (%1)", "+r"(v) : "r"(va));
	return v;
}

static void wrong(const char *what, uint64_t va)
{
	if (n_wrong++ >= 5)
		return;
	print("mezz-tables: wrong ");
	print(what);
	print(" at ");
	print_number(va, "\n");
}

static void check_marks(const struct path *p, uint64_t va, uint64_t first,
			uint64_t last)
{
	for (unsigned int i = 0; i < p->n; i++) {
		const uint64_t e = p->addr[i];
		uint64_t want = p->want[i];

		/* The access may have been to the tables themselves. */
		if (e >= RAM_END || (e + 8 > first && e < last))
			continue;
		/* One table may be in the path at two levels. */
		for (unsigned int k = 0; k < p->n; k++)
			if (p->addr[k] == e)
				want |= p->want[k];
		if (p->code == NO_FAULT ? *at(e) != want : (*at(e) | A) != want)
			wrong("accessed or dirty bit", va);
	}
}

static void access_one(uint64_t va)
{
	const int kind = (int)below(4);
	const unsigned int size = kind ? 8 : 1U << below(4);
	const int write = kind != 3;
	const uint64_t v = below(8) ? below(1UL << 40) & ~(PS | ADR) : 0;
	uint64_t got = 0, old = 0;
	struct path p;

	walk(va, write, &p);
	const int in_ram = p.code == NO_FAULT && p.phys < RAM_END;

	if (in_ram)
		old = *at(p.phys);
	fault_code = NO_FAULT;
	if (kind == 3)
		got = load(va);
	else if (kind == 2)
		got = exchange(va, v);
	else
		store(va, v, size);
	if (fault_code != p.code)
		wrong("outcome", va);
	if (fault_code != NO_FAULT) {
		n_faults++;
		if (fault_addr != va)
			wrong("CR2", va);
		add(fault_code);
		add(fault_addr);
	} else if (p.code == NO_FAULT) {
		n_loads += kind >= 2;
		n_stores += write;
		add(p.phys);
		add(got);
		/* A mark may have changed the word in between. */
		if (in_ram && kind >= 2 && ((got ^ old) & ~(A | D)))
			wrong("value read", va);
		if (in_ram && write && size == 8 && *at(p.phys) != v)
			wrong("value stored", va);
	}
	check_marks(&p, va, p.code == NO_FAULT && write ? p.phys : 0,
		    p.code == NO_FAULT && write ? p.phys + size : 0);
}

/* Eight bytes in two pages, which a fault leaves as they were. */
static void access_two(uint64_t va, int write)
{
	const uint64_t next = (va | 4095) + 1;
	struct path p, q;
	uint64_t got = 0;

	walk(va, write, &p);
	walk(next, write, &q);
	fault_code = NO_FAULT;
	if (write)
		store(va, 0, 8);
	else
		got = load(va);
	if (fault_code != (p.code == NO_FAULT ? q.code : p.code))
		wrong("outcome of two pages", va);
	if (fault_code != NO_FAULT) {
		n_faults++;
		if (fault_addr != (p.code == NO_FAULT ? next : va))
			wrong("CR2 of two pages", va);
	}
	add(fault_code);
	add(got);
}

/* Changes. */

static uint64_t frame(void)
{
	return POOL + 4096 * below(N_FRAMES);
}

/* Whatever is stored of it, and over whatever: no entry may ever lead to ourselves. */
static uint64_t random_entry(unsigned int level)
{
	uint64_t e = below(30) ? frame() : 0xd0000000UL;

	if (level == 1 && below(10) < 3)
		e = LARGE_POOL + 4096 * below(512);
	if ((level == 2 || level == 3) && below(10) < 3)
		e = PS | (level == 2 ? LARGE_POOL + (below(2) << 21) : 0);
	e |= below(40) ? P : 0;
	e |= below(8) ? W : 0;
	e |= below(3) ? 0 : U;
	e |= below(2) ? A : 0;
	e |= below(3) ? 0 : D;
	e |= below(8) ? 0 : G;
	e |= below(30) ? 0 : NX;
	return e;
}

static uint64_t random_va(void)
{
	static const uint16_t l1[] = {0, 1, 5, 511};

	return AREA | below(2) << 30 | below(3) << 21 |
	       (uint64_t)l1[below(4)] << 12;
}

static void edit(void)
{
	const unsigned int level = 1 + (unsigned int)below(3);
	const uint64_t slot = frame() +
			      8 * (random_va() >> (3 + 9 * level) & 511);
	uint64_t v = random_entry(level);

	switch (below(8)) {
	case 0: /* a byte of flags */
		*(volatile uint8_t *)slot = (uint8_t)v;
		break;
	case 1:
		*(volatile uint32_t *)slot = (uint32_t)v;
		break;
	case 2: /* two halves of entries */
		*(volatile uint64_t *)(slot + 4) = v;
		break;
	case 3: /* across the end of a page */
		*(volatile uint64_t *)((slot | 4095) - 3) = v;
		break;
	case 4: { /* a run of entries */
		uint64_t to = slot, n = 1 + below(64);

		__asm__ volatile("rep stosq"
				 : "+D"(to), "+c"(n)
				 : "a"(v)
				 : "memory");
		break;
	}
	case 5: /* as fork and exit do */
		for (uint64_t i = 0; i < 12; i++)
			*at((slot & ~4095UL) + 8 * i) &= i % 2 ? ~W : ~P;
		*at(slot) = v;
		break;
	default:
		*at(slot) = v;
		break;
	}
	/* Most of the time there is a way from the root. */
	if (below(4))
		root[1] = (POOL + 4096 * below(3)) | P | W | U;
}

static void set_controls(void)
{
	__asm__ volatile("mov %0, %%cr0" : : "r"(cr0));
	__asm__ volatile("mov %0, %%cr4" : : "r"(cr4));
	__asm__ volatile("wrmsr"
			 :
			 : "c"(0xc0000080), "a"((uint32_t)efer),
			   "d"((uint32_t)(efer >> 32)));
	if (ac)
		__asm__ volatile("stac");
	else
		__asm__ volatile("clac");
}

static void toggle(void)
{
	switch (below(5)) {
	case 0:
		cr0 ^= CR0_WP;
		break;
	case 1:
		cr4 ^= CR4_SMAP;
		break;
	case 2:
		cr4 ^= CR4_PGE;
		break;
	case 3:
		efer ^= NXE;
		break;
	default:
		ac = !ac;
		break;
	}
	set_controls();
}

static void load_root(void)
{
	__asm__ volatile("mov %0, %%cr3" : : "r"(root) : "memory");
}

/* Everything, global or not; or one address, with the structure caches. */
static void flush(uint64_t va)
{
	if (below(4)) {
		__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
		__asm__ volatile("invlpg (%0)" : : "r"(va + 4096) : "memory");
		return;
	}
	load_root();
	cr4 ^= CR4_PGE;
	set_controls();
	cr4 ^= CR4_PGE;
	set_controls();
}

/* Random tables deny most accesses: prefer those that they allow. */
static uint64_t likely_va(void)
{
	struct path p;
	uint64_t va;

	for (unsigned int tries = 0; tries < 12; tries++) {
		va = random_va();
		walk(va, 1, &p);
		if (p.code == NO_FAULT)
			break;
	}
	return va;
}

static void step(void)
{
	uint64_t va;

	for (uint64_t n = below(4); n; n--)
		edit();
	if (!below(12))
		toggle();
	va = likely_va();
	flush(va);
	if (below(6))
		access_one(va + 0x800 + 8 * below(200));
	else
		access_two(va + 4093, (int)below(2));
}

static void prepare(void)
{
	const struct {
		uint16_t limit;
		uintptr_t base;
	} __attribute__((packed)) idtr = {sizeof(idt) - 1, (uintptr_t)idt};
	const uint64_t handler = (uint64_t)page_fault;
	uint64_t cs;

	/* The first 64 MiB for ourselves. */
	root[0] = (uint64_t)identity[0] | P | W;
	identity[0][0] = (uint64_t)identity[1] | P | W;
	for (uint64_t i = 0; i < 32; i++)
		identity[1][i] = i << 21 | P | W | A | D | PS;
	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	idt[28] = (handler & 0xffff) | (cs & 0xffff) << 16 |
		  (uint64_t)0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
	idt[29] = handler >> 32;
	__asm__ volatile("lidt %0" : : "m"(idtr));
	__asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	cr0 |= CR0_WP;
	cr4 |= CR4_PGE;
	efer = 0x500 | NXE;
	set_controls();
	load_root();
}

static uint64_t number(const char **text)
{
	uint64_t n = 0;

	while (**text == ' ')
		(*text)++;
	for (; **text >= '0' && **text <= '9'; (*text)++)
		n = 10 * n + (uint64_t)(**text - '0');
	return n;
}

void linux64(const uint8_t *zero_page)
{
	const char *line = linux64_command_line(zero_page);

	rng = number(&line) * 0x9e3779b97f4a7c15UL + 1;
	uint64_t n = number(&line);

	prepare();
	while (n--)
		step();
	print("mezz-tables: ");
	print_number(n_loads, " loads, ");
	print_number(n_stores, " stores, ");
	print_number(n_faults, " faults, sum ");
	print_number(sum, ", ");
	print_number(n_wrong, " wrong\n");
	out8(POWER_PORT, POWER_OFF);
	halt();
}
