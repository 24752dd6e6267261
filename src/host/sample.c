/* SPDX-License-Identifier: Apache-2.0 */
/* Estimating a VM's working set by statistical sampling. */
#include <host/sample.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <base/clock.h>

#define WATCH_TIMEOUT_NS UINT64_C(200000000)
/* The period of a VM that sleeps lasts so much longer than that of one that runs. */
#define IDLE_FACTOR 2
#define WORDS       ((SAMPLE_MAX + 63) / 64)

int sample_init(struct sample *s, uint64_t seed)
{
	*s = (struct sample){.random = {seed}};
	workset_init(&s->ws);
	s->pages = calloc(SAMPLE_MAX, sizeof(*s->pages));
	s->away = calloc(WORDS, sizeof(*s->away));
	s->zero = calloc(WORDS, sizeof(*s->zero));
	s->done = calloc(WORDS, sizeof(*s->done));
	if (s->pages && s->away && s->zero && s->done)
		return 0;
	sample_release(s);
	return -ENOMEM;
}

void sample_release(struct sample *s)
{
	free(s->pages);
	free(s->away);
	free(s->zero);
	free(s->done);
	*s = (struct sample){0};
}

static bool bit(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

static void set_bit(uint64_t *bits, uint32_t i)
{
	bits[i / 64] |= UINT64_C(1) << i % 64;
}

static bool is_away(uint64_t entry)
{
	const enum physmap_state state = physmap_stable_state(entry);

	return state == PHYSMAP_ZIPPED || state == PHYSMAP_SWAPPED ||
	       state == PHYSMAP_BALLOON;
}

/*
 * A watch ends by a touch. A page that the host or the guest moved away meanwhile was not
 * touched, whatever became of its watch; one that came back from there was.
 */
static bool was_touched(const struct sample *s, uint32_t i, uint64_t entry)
{
	if (is_away(entry))
		return false;
	if (bit(s->away, i))
		return true;
	/* It had contents and has none: the guest has freed it, which ended the watch. */
	if (physmap_stable_state(entry) == PHYSMAP_ZERO && !bit(s->zero, i))
		return false;
	return !physmap_is_watched(entry) && !physmap_is_busy(entry);
}

static void count_touches(struct sample *s, const struct vmmem *vm)
{
	uint32_t touched = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		const uint64_t entry = physmap_load(vm->map, ppn(s->pages[i]));

		if (bit(s->done, i) || !was_touched(s, i, entry))
			continue;
		set_bit(s->done, i);
		touched++;
	}
	workset_touch(&s->ws, touched);
}

/* Watch up to a batch. Pages that cannot be watched, but are not away, are left out. */
static bool watch_batch(struct sample *s, struct vmmem *vm, uint32_t n)
{
	ppn_t pages[REVOKE_BATCH_PAGES] = {0};
	unsigned n_watch = 0;

	for (uint32_t i = 0; i < n; i++) {
		const uint64_t page = rng_next(&s->random) % vm->n_pages;
		const uint64_t entry = physmap_load(vm->map, ppn(page));

		if (is_away(entry))
			set_bit(s->away, s->n);
		else
			pages[n_watch++] = ppn(page);
		if (physmap_stable_state(entry) == PHYSMAP_ZERO)
			set_bit(s->zero, s->n);
		s->pages[s->n++] = (uint32_t)page;
	}
	return !n_watch ||
	       revoke_watch(vm->revoke, pages, n_watch, WATCH_TIMEOUT_NS) >= 0;
}

static void begin(struct sample *s, struct vmmem *vm,
		  const struct options *options, const struct sample_time *now)
{
	uint32_t left = options->v[OPT_SAMPLE_COUNT];

	s->n = 0;
	memset(s->away, 0, WORDS * sizeof(*s->away));
	memset(s->zero, 0, WORDS * sizeof(*s->zero));
	memset(s->done, 0, WORDS * sizeof(*s->done));
	if (left > SAMPLE_MAX)
		left = SAMPLE_MAX;
	while (left) {
		const uint32_t n = left < REVOKE_BATCH_PAGES
					   ? left
					   : REVOKE_BATCH_PAGES;

		/* A VM that does not answer is not sampled in this period. */
		if (!watch_batch(s, vm, n)) {
			s->n = 0;
			break;
		}
		left -= n;
	}
	workset_begin(&s->ws, s->n);
	s->until = *now;
	s->until.run_ns += options->v[OPT_SAMPLE_PERIOD] * UINT64_C(1000000000);
	s->until.free_ns += options->v[OPT_SAMPLE_PERIOD] * IDLE_FACTOR *
			    UINT64_C(1000000000);
	s->has_until = true;
}

/*
 * A period is time that the VM runs: one that waits for a processor or for memory has no
 * chance to touch anything. But one that sleeps could, and does not need to.
 */
static struct sample_time time_of(const struct vmmem *vm)
{
	const struct link_counters *c = vm->counters;
	const uint64_t now = monotonic_ms() * 1000000;
	uint64_t stalls = 0;

	for (unsigned i = 0; i < LINK_STALLS; i++)
		stalls += atomic_load(&c->stall_ns[i]);
	return (struct sample_time){
		.run_ns = atomic_load(&c->run_ns),
		.free_ns = now > stalls ? now - stalls : 0,
	};
}

void sample_tick(struct sample *s, struct vmmem *vm,
		 const struct options *options)
{
	const struct sample_time now = time_of(vm);

	if (!options->v[OPT_SAMPLE_PERIOD])
		return;
	count_touches(s, vm);
	if (s->has_until && now.run_ns < s->until.run_ns &&
	    now.free_ns < s->until.free_ns)
		return;
	workset_end(&s->ws);
	begin(s, vm, options, &now);
}
