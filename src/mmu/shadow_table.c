/* SPDX-License-Identifier: Apache-2.0 */
/* Shadow tables as objects: creation, lookup by guest frame and role, bound and recycling. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <base/sparse.h>
#include <base/verify.h>
#include <mmu/shadow_impl.h>

#define TABLE_COST (PAGE_SIZE + sizeof(struct shadow_table))
/* Never so tight that one fill could not have what it needs. */
#define MIN_BOUND \
	(UINT64_C(24) * (TABLE_COST + 2 * sizeof(struct shadow_group)))
/* Parents that the recycler looks at; more than that means that it is in use. */
#define MAX_PARENTS_SEEN 16U

static uint32_t bucket_of(const struct shadow *s, uint64_t gfn)
{
	return (uint32_t)((gfn * UINT64_C(0x9e3779b97f4a7c15)) >> 40) &
	       s->hash_mask;
}

struct shadow_table *shadow_chain_first(const struct shadow *s, uint64_t gfn)
{
	const uint32_t i = s->hash[bucket_of(s, gfn)];

	return i ? s->table[i - 1] : NULL;
}

struct shadow_table *shadow_chain_next(const struct shadow *s,
				       const struct shadow_table *t)
{
	return t->hash_next ? s->table[t->hash_next - 1] : NULL;
}

struct shadow_table *shadow_find(const struct shadow *s, uint64_t gfn,
				 uint32_t role)
{
	struct shadow_table *t = shadow_chain_first(s, gfn);

	while (t && (t->gfn != gfn || t->role != role))
		t = shadow_chain_next(s, t);
	return t;
}

static void hash_insert(struct shadow *s, struct shadow_table *t)
{
	uint32_t *head = &s->hash[bucket_of(s, t->gfn)];

	t->hash_next = *head;
	*head = t->idx + 1;
}

static void hash_remove(struct shadow *s, struct shadow_table *t)
{
	uint32_t *link = &s->hash[bucket_of(s, t->gfn)];

	while (*link != t->idx + 1)
		link = &s->table[*link - 1]->hash_next;
	*link = t->hash_next;
}

void shadow_trace(struct shadow *s, uint64_t gfn)
{
	uint8_t *flags = guestmem_flags(s->mmu->mem);
	bool synced = false;
	ppn_t page;

	if (!guestmem_ppn(s->mmu->mem, gpa(gfn << PAGE_SHIFT), &page))
		return;
	for (struct shadow_table *t = shadow_chain_first(s, gfn); t;
	     t = shadow_chain_next(s, t))
		if (t->gfn == gfn && shadow_is_mirror(t) && !t->unsync)
			synced = true;
	if (!synced) {
		flags[page.v] &= (uint8_t)~GUESTMEM_TABLE;
	} else if (!(flags[page.v] & GUESTMEM_TABLE)) {
		flags[page.v] |= GUESTMEM_TABLE;
		tlb_protect_ppn(s->mmu->tlb, page);
	}
}

/* Used since the recycler last came by? */
static bool second_chance(struct shadow *s, struct shadow_table *t)
{
	bool used = t->used;
	uint32_t id = t->parents;

	t->used = false;
	for (unsigned int n = 0; id && n < MAX_PARENTS_SEEN; n++) {
		const unsigned int i = (id - 1) % SHADOW_ENTRIES;
		struct shadow_table *p = s->table[(id - 1) / SHADOW_ENTRIES];

		used |= (p->entry[i] & PTE_A) != 0;
		p->entry[i] &= ~PTE_A;
		id = p->group[i / SHADOW_GROUP]->link[i % SHADOW_GROUP].next;
	}
	return used;
}

static struct shadow_table *find_victim(struct shadow *s)
{
	/* Twice around: the first time may only take the chances away. */
	for (uint32_t n = 0; n < 2 * s->n_tables + 1; n++) {
		struct shadow_table *t;

		s->hand = s->hand + 1 < s->n_tables ? s->hand + 1 : 0;
		t = s->table[s->hand];
		if (t == NULL || t == s->root || t->pin == s->fill_seq)
			continue;
		if (!second_chance(s, t))
			return t;
	}
	return NULL;
}

void shadow_account(struct shadow *s, int64_t bytes)
{
	struct mmu_stats *stats = &s->mmu->stats;

	stats->table_bytes += (uint64_t)bytes;
	if (stats->table_bytes > stats->table_bytes_peak)
		stats->table_bytes_peak = stats->table_bytes;
}

void shadow_make_room(struct shadow *s, uint64_t bytes)
{
	const struct mmu_stats *stats = &s->mmu->stats;

	if (stats->table_bytes + bytes <= stats->table_bytes_bound)
		return;
	/* Accessed bits are about to be cleared: walks must set them again. */
	psc_flush(&s->psc);
	while (stats->table_bytes + bytes > stats->table_bytes_bound) {
		struct shadow_table *t = find_victim(s);

		if (t == NULL)
			return;
		s->mmu->stats.recycled++;
		shadow_destroy(s, t);
	}
}

static bool registry_grow(struct shadow *s, uint32_t idx)
{
	uint32_t n = s->n_tables ? s->n_tables : 64;
	struct shadow_table **table;

	while (n <= idx)
		n *= 2;
	table = realloc(s->table, n * sizeof(*table));
	if (table == NULL)
		return false;
	memset(table + s->n_tables, 0, (n - s->n_tables) * sizeof(*table));
	s->table = table;
	s->n_tables = n;
	return true;
}

static bool table_page(struct shadow *s, struct shadow_table *t)
{
	ma_t page;

	if (machine_table_alloc(s->machine, &page) < 0)
		return false;
	t->idx = (uint32_t)((page.v - MACHINE_TABLE) >> PAGE_SHIFT);
	t->entry = (uint64_t *)(void *)machine_ptr(s->machine, page);
	if (t->idx < s->n_tables || registry_grow(s, t->idx))
		return true;
	machine_table_free(s->machine, page);
	return false;
}

struct shadow_table *shadow_create(struct shadow *s, uint64_t gfn,
				   uint32_t role, uint8_t *guest)
{
	struct mmu_stats *stats = &s->mmu->stats;
	struct shadow_table *t;

	shadow_make_room(s, TABLE_COST);
	t = calloc(1, sizeof(*t));
	if (t == NULL || !table_page(s, t)) {
		free(t);
		return NULL;
	}
	t->gfn = gfn;
	t->role = role;
	t->guest = guest;
	t->pin = s->fill_seq;
	t->used = true;
	s->table[t->idx] = t;
	shadow_account(s, TABLE_COST);
	stats->tables++;
	if (stats->tables > stats->tables_peak)
		stats->tables_peak = stats->tables;
	if (role & SHADOW_PRIVATE)
		return t;
	hash_insert(s, t);
	if (!shadow_is_mirror(t))
		return t;
	/* A frame has at most one meaning while it is out of sync. */
	for (struct shadow_table *o = shadow_chain_first(s, gfn); o;
	     o = shadow_chain_next(s, o))
		if (o->gfn == gfn && o->unsync)
			shadow_resync(s, o);
	shadow_trace(s, gfn);
	return t;
}

void shadow_destroy(struct shadow *s, struct shadow_table *t)
{
	/* Out of reach first: clearing its entries may come back to it as an orphan. */
	if (t == s->root)
		s->root = NULL;
	psc_flush(&s->psc);
	t->pin = UINT64_MAX;
	shadow_clear_chain(s, &t->parents);
	for (unsigned int w = 0; w < ARRAY_SIZE(t->present); w++)
		while (t->present[w])
			shadow_set(s, t,
				   w * 64 + (unsigned int)__builtin_ctzll(
						    t->present[w]),
				   0, 0);
	if (t->unsync)
		shadow_forget_unsync(s, t);
	if (!(t->role & SHADOW_PRIVATE))
		hash_remove(s, t);
	if (shadow_is_mirror(t))
		shadow_trace(s, t->gfn);
	for (unsigned int g = 0; g < SHADOW_GROUPS; g++)
		if (t->group[g]) {
			free(t->group[g]);
			shadow_account(s, -(int64_t)sizeof(struct shadow_group));
		}
	s->table[t->idx] = NULL;
	machine_table_free(s->machine,
			   ma(MACHINE_TABLE + (uint64_t)t->idx * PAGE_SIZE));
	shadow_account(s, -(int64_t)TABLE_COST);
	s->mmu->stats.tables--;
	free(t);
}

/* Life of them all. */

static uint64_t rmap_bytes(const struct shadow *s)
{
	return s->n_ppn * sizeof(*s->rmap);
}

static uint64_t rmap_large_bytes(const struct shadow *s)
{
	return (s->n_ppn / SHADOW_ENTRIES + 1) * sizeof(*s->rmap_large);
}

static uint64_t bound_of(const struct mmu *mmu)
{
	uint64_t bound = mmu->opt.shadow_bytes;

	if (bound == 0) {
		bound = guestmem_ram_bytes(mmu->mem) / 64;
		if (bound < UINT64_C(2) << 20)
			bound = UINT64_C(2) << 20;
	}
	return bound < MIN_BOUND ? MIN_BOUND : bound;
}

int shadow_new(struct mmu *mmu, struct shadow **ret_shadow, struct err *err)
{
	struct shadow *s = calloc(1, sizeof(*s));
	uint32_t buckets = 256;

	if (s == NULL)
		return err_set(err, -ENOMEM, "no memory for shadow tables");
	s->mmu = mmu;
	s->machine = guestmem_machine(mmu->mem);
	s->n_ppn = guestmem_ram_bytes(mmu->mem) >> PAGE_SHIFT;
	mmu->stats.table_bytes_bound = bound_of(mmu);
	psc_init(&s->psc);
	while (buckets < mmu->stats.table_bytes_bound / TABLE_COST)
		buckets *= 2;
	s->hash_mask = buckets - 1;
	s->hash = calloc(buckets, sizeof(*s->hash));
	s->rmap = sparse_new(rmap_bytes(s));
	s->rmap_large = sparse_new(rmap_large_bytes(s));
	if (!s->hash || !s->rmap || !s->rmap_large) {
		shadow_free(s);
		return err_set(err, -ENOMEM, "no memory for shadow tables");
	}
	*ret_shadow = s;
	return 0;
}

struct shadow *shadow_free(struct shadow *s)
{
	if (s == NULL)
		return NULL;
	for (uint32_t i = 0; i < s->n_tables; i++)
		if (s->table[i])
			shadow_destroy(s, s->table[i]);
	sparse_free(s->rmap, rmap_bytes(s));
	sparse_free(s->rmap_large, rmap_large_bytes(s));
	free(s->unsync);
	free(s->hash);
	free(s->table);
	free(s);
	return NULL;
}
