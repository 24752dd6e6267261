/* SPDX-License-Identifier: Apache-2.0 */
/* Paging-structure caches of the modelled processor. */
#include <mmu/psc.h>

#include <string.h>

static uint64_t key_of(const struct walk_format *fmt, unsigned int level,
		       uint64_t addr)
{
	const struct walk_level *l = &fmt->level[level];

	return (addr & ((UINT64_C(1) << PSC_ADDR_BITS) - 1)) >>
	       (l->shift + l->index_bits);
}

static struct psc_entry *slot(struct psc *c, unsigned int level, uint64_t key)
{
	if (level == 1)
		return &c->level1[key % ARRAY_SIZE(c->level1)];
	if (level == 2)
		return &c->level2[key % ARRAY_SIZE(c->level2)];
	return &c->level3[key % ARRAY_SIZE(c->level3)];
}

void psc_init(struct psc *c)
{
	/* Generation 0 is never current, so entries of zeros match nothing. */
	memset(c, 0, sizeof(*c));
	c->generation = 1;
}

void psc_flush(struct psc *c)
{
	if (++c->generation == UINT64_C(1) << PSC_GENERATION_BITS)
		psc_init(c);
}

const struct psc_entry *psc_find(struct psc *c, const struct walk_format *fmt,
				 uint64_t addr, unsigned int *ret_level)
{
	for (unsigned int level = 1; level < fmt->levels; level++) {
		const uint64_t key = key_of(fmt, level, addr);
		const struct psc_entry *e = slot(c, level, key);

		if (e->tag == (key << PSC_GENERATION_BITS | c->generation)) {
			*ret_level = level;
			return e;
		}
	}
	return NULL;
}

void psc_put(struct psc *c, const struct walk_format *fmt, unsigned int level,
	     uint64_t addr, struct psc_entry entry)
{
	const uint64_t key = key_of(fmt, level, addr);

	entry.tag = key << PSC_GENERATION_BITS | c->generation;
	*slot(c, level, key) = entry;
}

bool psc_begin(struct psc *c, struct guest_walk *g)
{
	struct walk *w = &g->w;
	unsigned int level;
	const struct psc_entry *e = psc_find(c, w->fmt, w->addr, &level);

	if (e == NULL)
		return false;
	w->table = e->table;
	w->rights = (uint8_t)e->rights;
	w->level = (uint8_t)level;
	g->host = e->host;
	return true;
}

void psc_learn(struct psc *c, const struct guest_walk *g)
{
	const struct walk *w = &g->w;
	unsigned int rights = WALK_ALL;

	/* Of what lies above its start a walk from the middle knows the sum only. */
	if (g->first < w->fmt->levels)
		rights = g->first_rights;
	for (unsigned int level = g->first; level > w->level; level--) {
		const struct guest_ref *below = &g->ref[level - 1];

		if (!w->fmt->level[level].plain)
			rights &= walk_rights(g->ref[level].entry);
		/* A table outside RAM reads as ones, each time anew. */
		if (below->host == NULL)
			continue;
		psc_put(c, w->fmt, level - 1, w->addr,
			(struct psc_entry){
				.table = g->ref[level].entry & PTE_ADDR,
				.host = below->host -
					(below->addr.v & ~PAGE_MASK),
				.rights = rights,
			});
	}
}
