/* SPDX-License-Identifier: Apache-2.0 */
/* What programs do to tables and pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <mem/physmap.h>

#include "lockstep.h"

/* Edits */

static uint64_t random_target(struct program *p, unsigned int level,
			      bool *ret_large)
{
	const uint64_t pick = below(p, 100);

	*ret_large = false;
	if (pick < 3)
		return UINT64_C(0xd0000000);
	if (level == 1)
		return pick < 75 ? DATA(below(p, N_DATA))
		       : pick < 85
			       ? UINT64_C(0x400000) + PAGE_SIZE * below(p, 512)
			       : PAGE_SIZE * (1 + below(p, N_FRAMES));
	if (level < 4 && pick < 20) {
		*ret_large = true;
		return level == 3 ? 0 : UINT64_C(0x200000) * below(p, 4);
	}
	if (pick < 30)
		return PAGE_SIZE * (1 + below(p, N_FRAMES));
	return level == 2 ? LAST(below(p, N_LAST)) : TABLE(below(p, N_TABLES));
}

uint64_t random_entry(struct program *p, unsigned int level)
{
	bool large;
	uint64_t v = random_target(p, level, &large);

	v |= large ? PTE_PS : 0;
	v |= chance(p, 97) ? PTE_P : 0;
	v |= chance(p, 88) ? PTE_W : 0;
	v |= chance(p, 88) ? PTE_U : 0;
	v |= chance(p, 60) ? PTE_A : 0;
	v |= chance(p, 40) ? PTE_D : 0;
	v |= chance(p, 15) ? PTE_G : 0;
	v |= chance(p, 5) ? PTE_NX : 0;
	v |= chance(p, 10) ? BIT64(59) : 0;
	v |= chance(p, 1) ? BIT64(47) : 0;
	return v;
}

static unsigned int level_of_frame(struct program *p, uint64_t frame)
{
	if (frame < TABLE(0))
		return 4;
	if (frame < LAST(0))
		return chance(p, 50) ? 3 : 2;
	return 1;
}

/* A word of a table that some address uses. */
uint64_t random_word(struct program *p, uint64_t frame, unsigned int level)
{
	const uint64_t va = va_of((unsigned int)below(p, N_VA));

	return frame + 8 * (va >> (3 + 9 * level) & 511);
}

void step_edit(struct program *p)
{
	const uint64_t frame = chance(p, 10)   ? ROOT(below(p, N_ROOTS))
			       : chance(p, 40) ? TABLE(below(p, N_TABLES))
					       : LAST(below(p, N_LAST));
	const unsigned int level = level_of_frame(p, frame);
	const uint64_t addr = random_word(p, frame, level);
	uint64_t v = model_load(p, addr);

	switch (below(p, 6)) {
	case 0:
		v ^= PTE_A;
		break;
	case 1:
		v ^= PTE_W | (chance(p, 50) ? PTE_D : 0);
		break;
	case 2:
		v ^= chance(p, 50) ? PTE_P : PTE_U;
		break;
	default:
		v = random_entry(p, level);
		break;
	}
	store(p, addr, v);
}

/* Many stores to one table, as fork and exit make them. */
void step_burst(struct program *p)
{
	const uint64_t frame = LAST(below(p, N_LAST));
	const uint64_t kind = below(p, 3);

	for (unsigned int i = 0; i < 12; i++) {
		const uint64_t addr = random_word(p, frame, 1);
		const uint64_t v = model_load(p, addr);

		store(p, addr,
		      kind == 0   ? random_entry(p, 1)
		      : kind == 1 ? v & ~PTE_W
				  : 0);
	}
}

#define MAX_WORDS 64U

/* A store of any size, at any place, over entries or parts of them. */
void step_odd_store(struct program *p)
{
	const unsigned int level = 1 + (unsigned int)below(p, 4);
	const uint64_t frame = PAGE_SIZE * (1 + below(p, N_FRAMES - 2));
	const bool is_long = chance(p, 10);
	const unsigned int n = is_long ? 4 + (unsigned int)below(p,
								 MAX_WORDS - 4)
				       : 3;
	uint64_t start = random_word(p, frame, level);
	uint64_t word[MAX_WORDS];
	uint64_t len, at;

	/* The last word of a page begins what crosses into the next one. */
	if (chance(p, 20))
		start = frame + PAGE_SIZE - 8;
	else if (start > frame && chance(p, 30))
		start -= 8;
	for (unsigned int i = 0; i < n; i++) {
		word[i] = model_load(p, start + 8 * i);
		if (chance(p, 70))
			word[i] = random_entry(p, level);
		else if (chance(p, 50))
			word[i] ^= BIT64(below(p, 10));
	}
	at = below(p, 8);
	len = is_long ? 8 * n - at : UINT64_C(1) << below(p, 5);
	if (chance(p, 50))
		at &= ~(len - 1) & 7;
	store_bytes(p, start + at, (const uint8_t *)word + at, len,
		    (enum storer)below(p, N_STORERS));
}

/* A page is given up: it reads as zeros from now on. */
void step_drop(struct program *p)
{
	const uint64_t addr = chance(p, 20)
				      ? PAGE_SIZE * (1 + below(p, N_FRAMES))
			      : chance(p, 50)
				      ? DATA(below(p, N_DATA))
				      : UINT64_C(0x400000) +
						PAGE_SIZE * below(p, 512);

	p->now++;
	for (uint64_t a = addr; a < addr + PAGE_SIZE; a += 8)
		if (p->newest[a / 8])
			model_store(p, a, 0);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		assert_int_equal(guestmem_drop(p->world[k].rig.mem,
					       ppn(addr / PAGE_SIZE),
					       PHYSMAP_ZERO),
				 MEM_OK);
}

/* The host takes a page. */
void step_take(struct program *p)
{
	const uint64_t page = chance(p, 70) ? 1 + below(p, N_FRAMES)
					    : 1024 + below(p, 1024);

	for (unsigned int k = 0; k < N_WORLDS; k++) {
		struct world *w = &p->world[k];

		world_take(w, page);
		/* While it is away nobody may read it as a table. */
		CHECK(p, w,
		      !(guestmem_flags(w->rig.mem)[page] & GUESTMEM_TABLE));
	}
}
