/* SPDX-License-Identifier: Apache-2.0 */
/* The guest model: rates and costs first, then demand, faults, balloon, reclaim. */
#include <policy/guest.h>

#include <base/arith.h>
#include <base/units.h>

/* What guests and devices can do; measured figures of the real host may replace them. */
#define TOUCH_RATE   (400 * MIB_PAGES) /* new pages per second */
#define REPORT_RATE  (100 * MIB_PAGES) /* free pages reported per second */
#define INFLATE_RATE (50 * MIB_PAGES)
#define DEFLATE_RATE (500 * MIB_PAGES)
#define DRIVER_UP_MS 10000
#define BOOT_MS      30000
#define UNZIP_MS     0.010
#define SWAP_IN_MS   0.040 /* per page, neighbours read ahead */
#define ASK_MS       0.050 /* one question to the host */
#define COPIES       4     /* pages that one common page stands for */
#define CHURN_PER_S  0.002 /* part of the working set that is replaced */
#define COW_PER_S    0.0005
#define LIAR_PER_S   0.3
#define MISJUDGED    0.02 /* victims that were in use after all */

static uint64_t take(uint64_t *from, uint64_t n)
{
	n = min_u64(*from, n);
	*from -= n;
	return n;
}

/* Round to a neighbouring whole number so that the mean is right. */
static uint64_t whole(struct rng *rng, double pages)
{
	const uint64_t n = pages > 0 ? (uint64_t)pages : 0;

	return n + (rng_fraction(rng) < pages - (double)n);
}

static double ratio(uint64_t a, uint64_t b)
{
	return b ? (double)a / (double)b : 0;
}

static uint64_t rate_pages(uint64_t per_second, uint64_t dt_ms)
{
	return per_second * dt_ms / 1000;
}

static uint64_t used_pages(const struct guest *g)
{
	return g->private_pages - g->stale_pages + g->shared_pages +
	       g->zip_pages + g->swap_pages + g->zero_used_pages;
}

static uint64_t capacity(const struct guest *g)
{
	return g->spec->size_pages - g->balloon_pages;
}

static uint64_t zip_store(const struct guest *g)
{
	return (g->zip_pages + 1) / 2;
}

static uint64_t common(const struct guest *g)
{
	return (g->shared_pages + COPIES - 1) / COPIES;
}

uint64_t guest_charge(const struct guest *guest)
{
	return guest->private_pages + common(guest) + zip_store(guest);
}

uint64_t guest_pages(const struct guest *guest)
{
	return used_pages(guest) + guest->stale_pages + guest->zero_pages +
	       guest->balloon_pages;
}

/* Private pages that are in use, though nothing in the working set needs them. */
static uint64_t private_idle(const struct guest *g)
{
	return sub_u64(g->private_pages - g->stale_pages,
		       sub_u64(g->active_pages, g->hot_out_pages));
}

static uint64_t available(const struct guest *g)
{
	const uint64_t idle = g->footprint_pages - g->active_pages;
	const uint64_t hard = g->active_pages + idle * g->spec->hard_pct / 100;

	return sub_u64(capacity(g), hard);
}

void guest_init(struct guest *guest, const struct scenario_vm *spec,
		uint64_t now_ms, uint64_t seed)
{
	*guest = (struct guest){
		.spec = spec,
		.start_ms = now_ms,
		.zero_pages = spec->size_pages,
		.rng = {seed},
		.trace_active_pages = spec->active_pages,
		.trace_footprint_pages = spec->footprint_pages,
	};
	balloon_watch_init(&guest->watch);
	sweep_init(&guest->sweep);
	workset_init(&guest->ws);
}

/* What the workload wants now. Return true if its working set moves elsewhere. */
static bool demand_set(struct guest *g, uint64_t now_ms)
{
	const struct scenario_vm *const spec = g->spec;
	const uint64_t age = now_ms - g->start_ms;
	const uint64_t in_period = age % spec->period_ms;
	uint64_t active = spec->active_pages, footprint = spec->footprint_pages;
	uint64_t phase = 0;

	switch (spec->workload) {
	case WORKLOAD_IDLE:
	case WORKLOAD_STEADY:
		break;
	case WORKLOAD_PHASES:
		phase = age / (spec->period_ms / 2 + 1);
		if (phase & 1)
			active = spec->active_high_pages;
		break;
	case WORKLOAD_BURSTY:
		if (in_period >= spec->period_ms / 10 * 9)
			active = spec->active_high_pages;
		break;
	case WORKLOAD_BOOT:
		if (age < BOOT_MS) {
			active = spec->active_high_pages;
			footprint = spec->size_pages;
		}
		break;
	case WORKLOAD_TRACE:
		active = g->trace_active_pages;
		footprint = g->trace_footprint_pages;
		break;
	}
	g->footprint_pages = min_u64(footprint, spec->size_pages);
	g->active_pages = min_u64(active, g->footprint_pages);
	if (phase == g->phase)
		return false;
	g->phase = phase;
	return true;
}

/* Pages that join the working set come from the idle ones, some of which are out. */
static void working_set_move(struct guest *g, bool elsewhere, uint64_t dt_ms)
{
	const uint64_t out = g->zip_pages + g->swap_pages;
	const uint64_t idle = sub_u64(used_pages(g), g->hot_before);
	const uint64_t idle_out = sub_u64(out, g->hot_out_pages);
	double joined = (double)g->active_pages * CHURN_PER_S * (double)dt_ms /
			1000;

	if (elsewhere)
		joined = (double)g->active_pages;
	else if (g->active_pages > g->hot_before)
		joined += (double)(g->active_pages - g->hot_before);
	else if (g->active_pages < g->hot_before)
		g->hot_out_pages = mul_div(g->hot_out_pages, g->active_pages,
					   g->hot_before);
	g->hot_out_pages += min_u64(idle_out,
				    whole(&g->rng,
					  joined * ratio(idle_out, idle)));
	g->hot_out_pages = min_u64(g->hot_out_pages,
				   min_u64(out, g->active_pages));
	g->hot_before = g->active_pages;
}

/* Make pages private, as far as the host allows. Return how many. */
static uint64_t allow(struct guest *g, uint64_t n)
{
	const uint64_t granted = take(&g->allowance_pages, n);

	if (granted < n)
		g->asked = true;
	return granted;
}

static void fault_in(struct guest *g, uint64_t dt_ms)
{
	const uint64_t out = g->zip_pages + g->swap_pages;
	const double from_zip = ratio(g->zip_pages, out);
	const double cost = from_zip * UNZIP_MS + (1 - from_zip) * SWAP_IN_MS;
	const uint64_t in_time = (uint64_t)((double)dt_ms / cost);
	const uint64_t n = allow(g, min_u64(g->hot_out_pages, in_time));
	uint64_t zips = min_u64(g->zip_pages,
				whole(&g->rng, (double)n * from_zip));
	uint64_t swaps = n - zips;

	if (swaps > g->swap_pages) {
		zips += swaps - g->swap_pages;
		swaps = g->swap_pages;
	}
	g->zip_pages -= zips;
	g->swap_pages -= swaps;
	g->private_pages += n;
	g->hot_out_pages -= n;
	g->stats.zip_in += zips;
	g->stats.swap_in += swaps;
	g->stats.stall_zip_ms += (double)zips * UNZIP_MS;
	g->stats.stall_swap_ms += (double)swaps * SWAP_IN_MS;
}

static void use_more(struct guest *g, uint64_t dt_ms)
{
	const uint64_t want = min_u64(g->footprint_pages, capacity(g));
	const uint64_t more = sub_u64(want, used_pages(g));
	const uint64_t again = take(&g->stale_pages, more);
	const uint64_t n = min_u64(min_u64(more - again, g->zero_pages),
				   rate_pages(TOUCH_RATE, dt_ms));

	g->private_pages += take(&g->zero_pages, allow(g, n));
}

/* Give up @n pages, idle ones first, those in memory before those outside. */
static uint64_t drop(struct guest *g, uint64_t n)
{
	uint64_t left = n, part;

	part = min_u64(private_idle(g), left);
	g->private_pages -= part;
	left -= part;
	left -= take(&g->zero_used_pages, left);
	left -= take(&g->shared_pages, left);
	left -= take(&g->swap_pages, left);
	left -= take(&g->zip_pages, left);
	part = min_u64(g->private_pages - g->stale_pages, left);
	g->private_pages -= part;
	left -= part;
	g->hot_out_pages = min_u64(g->hot_out_pages,
				   g->zip_pages + g->swap_pages);
	return n - left;
}

/* Free page reporting comes with the balloon device. */
static void report_free(struct guest *g, uint64_t dt_ms)
{
	const uint64_t freed = sub_u64(used_pages(g), g->footprint_pages);
	const uint64_t n = min_u64(freed, rate_pages(REPORT_RATE, dt_ms));
	const uint64_t stale = min_u64(n * g->spec->pieces_pct / 100,
				       private_idle(g));

	if (g->spec->balloon != BALLOON_KIND_NORMAL)
		return;
	g->stale_pages += stale;
	g->zero_pages += drop(g, n - stale);
}

static void break_shares(struct guest *g, uint64_t dt_ms)
{
	const double part = COW_PER_S * (double)dt_ms / 1000;
	uint64_t n = whole(&g->rng, (double)g->shared_pages * part);

	n = take(&g->shared_pages, allow(g, min_u64(n, g->shared_pages)));
	g->private_pages += n;
	g->stats.cow += n;
	n = whole(&g->rng, (double)g->zero_used_pages * part);
	g->private_pages += take(&g->zero_used_pages,
				 allow(g, min_u64(n, g->zero_used_pages)));
}

static bool driver_up(const struct guest *g, uint64_t now_ms)
{
	return g->spec->balloon != BALLOON_KIND_ABSENT &&
	       now_ms >= g->start_ms + DRIVER_UP_MS;
}

static void turns_count(struct guest *g, uint64_t before)
{
	const int turn = (g->balloon_pages > before) -
			 (g->balloon_pages < before);

	if (g->sweep.phase != SWEEP_REST)
		return;
	if (turn != 0 && g->last_turn != 0 && turn != g->last_turn)
		g->stats.balloon_turns++;
	if (turn != 0)
		g->last_turn = turn;
	g->stats.balloon_max = max_u64(g->stats.balloon_max, g->balloon_pages);
}

/* What a balloon takes: pages that are free, then those that the guest can do without. */
static void inflate(struct guest *g, uint64_t n)
{
	const uint64_t stale = take(&g->stale_pages, n);
	const uint64_t unused = take(&g->zero_pages, n - stale);

	g->private_pages -= stale;
	g->balloon_pages += stale + unused + drop(g, n - stale - unused);
}

static void balloon_run(struct guest *g, uint64_t now_ms, uint64_t dt_ms)
{
	const uint64_t before = g->balloon_pages;
	const uint64_t target = g->action.balloon_target_pages +
				g->sweep.extra_pages;
	const uint64_t more = sub_u64(target, g->balloon_pages);
	const uint64_t less = sub_u64(g->balloon_pages, target);
	uint64_t n;

	if (!driver_up(g, now_ms) || g->spec->balloon == BALLOON_KIND_STUCK)
		return;
	n = min_u64(min_u64(more, rate_pages(INFLATE_RATE, dt_ms)),
		    available(g));
	inflate(g, n);
	g->zero_pages += take(&g->balloon_pages,
			      min_u64(less, rate_pages(DEFLATE_RATE, dt_ms)));
	/* Deflate on out-of-memory: the driver gives back what the guest needs. */
	if (g->active_pages > capacity(g)) {
		g->zero_pages += take(&g->balloon_pages,
				      g->active_pages - capacity(g));
		g->stats.ooms++;
	}
	if (g->spec->balloon == BALLOON_KIND_LIAR) {
		n = whole(&g->rng, (double)g->balloon_pages * LIAR_PER_S *
					   (double)dt_ms / 1000);
		n = allow(g, min_u64(n, g->balloon_pages));
		g->private_pages += take(&g->balloon_pages, n);
	}
	turns_count(g, before);
}

/* A step of the simulation has its own statistics. */
static void sweep(struct guest *g, uint64_t now_ms,
		  const struct options *options)
{
	const struct sweep_report report = {
		.now_ms = now_ms,
		.size_pages = g->spec->size_pages,
		.base_pages = g->action.balloon_target_pages,
		.balloon_pages = g->balloon_pages,
		.empty_pages = g->zero_pages + g->zero_used_pages,
		.stats_ms = now_ms,
		.free_pages = g->stale_pages + g->zero_pages,
		.available_pages = available(g),
		.ooms = g->stats.ooms,
		.allowed = g->watch.driver == BALLOON_READY &&
			   g->watch.stats_valid && !g->watch.distress &&
			   !g->action.reclaim_pages && !g->asked,
	};

	sweep_update(&g->sweep, &report, options);
}

/* A normal deviate, near enough: the sum of twelve uniform ones. */
static double luck(struct rng *rng)
{
	double sum = -6;

	for (int i = 0; i < 12; i++)
		sum += rng_fraction(rng);
	return sum;
}

static double square_root(double v)
{
	double x = v > 1 ? v : 1;

	for (int i = 0; i < 30; i++)
		x = (x + v / x) / 2;
	return x;
}

/* Touches counted by now: a growing working set shows in the same period. */
static void sample_touches(struct guest *g)
{
	const double n = g->ws.n;
	const double f = ratio(g->active_pages, g->spec->size_pages);
	const double t = n * f + g->ws_luck * square_root(n * f * (1 - f));

	if (t > g->ws.touched)
		workset_touch(&g->ws,
			      (uint32_t)(t < n ? t + 0.5 : n) - g->ws.touched);
}

static void sample(struct guest *g, uint64_t dt_ms,
		   const struct options *options)
{
	const uint64_t period = UINT64_C(1000) * options->v[OPT_SAMPLE_PERIOD];

	if (period == 0) {
		workset_init(&g->ws);
		return;
	}
	if (g->ws_left_ms <= dt_ms) {
		workset_begin(&g->ws, options->v[OPT_SAMPLE_COUNT]);
		g->ws_luck = luck(&g->rng);
		g->ws_left_ms = period;
	} else {
		g->ws_left_ms -= dt_ms;
	}
	sample_touches(g);
}

void guest_run(struct guest *guest, uint64_t now_ms, uint64_t dt_ms,
	       const struct options *options)
{
	const bool elsewhere = demand_set(guest, now_ms);

	guest->asked = false;
	guest->stats.run_ms += (double)dt_ms;
	working_set_move(guest, elsewhere, dt_ms);
	fault_in(guest, dt_ms);
	use_more(guest, dt_ms);
	report_free(guest, dt_ms);
	break_shares(guest, dt_ms);
	balloon_run(guest, now_ms, dt_ms);
	sweep(guest, now_ms, options);
	if (guest->asked && guest->blocked)
		guest->stats.stall_host_ms += (double)dt_ms;
	else if (guest->asked)
		guest->stats.stall_host_ms += ASK_MS;
	sample(guest, dt_ms, options);
}

void guest_order(struct guest *guest, const struct plan_action *action)
{
	guest->action = *action;
	guest->allowance_pages = action->allowance_pages;
	guest->blocked = action->blocked;
}

/* Private pages chosen at random; those among them that are free are free no more. */
static uint64_t take_private(struct guest *g, uint64_t n)
{
	n = min_u64(n, g->private_pages);
	if (n > 0)
		g->stale_pages -= mul_div(g->stale_pages, n, g->private_pages);
	g->private_pages -= n;
	g->stale_pages = min_u64(g->stale_pages, g->private_pages);
	return n;
}

/* Scan private pages at random for contents that are zero or exist elsewhere. */
static void share(struct guest *g, double scanned)
{
	const uint64_t used = used_pages(g);
	const uint64_t like = used * g->spec->shareable_pct / 100;
	const uint64_t zero = used * g->spec->zero_pct / 100;
	const double hit_like = ratio(sub_u64(like, g->shared_pages),
				      g->private_pages);
	const double hit_zero = ratio(sub_u64(zero, g->zero_used_pages),
				      g->private_pages);

	g->shared_pages += take_private(g,
					min_u64(sub_u64(like, g->shared_pages),
						whole(&g->rng,
						      scanned * hit_like)));
	g->zero_used_pages += take_private(
		g, min_u64(sub_u64(zero, g->zero_used_pages),
			   whole(&g->rng, scanned * hit_zero)));
}

/* Some victims are in use after all; more are, if not enough idle ones are left. */
static void heat(struct guest *g, uint64_t victims, uint64_t idle)
{
	const uint64_t wrong = whole(&g->rng, (double)victims * MISJUDGED);
	const uint64_t hot = max_u64(wrong, sub_u64(victims, idle));

	g->hot_out_pages = min_u64(g->hot_out_pages + hot,
				   min_u64(g->zip_pages + g->swap_pages,
					   g->active_pages));
}

static uint64_t above_reservation(const struct guest *g)
{
	return sub_u64(guest_charge(g), g->spec->alloc.reservation_pages);
}

static void compress(struct guest *g, struct guest_budget *budget)
{
	const uint64_t idle = private_idle(g);
	uint64_t n = min_u64(min_u64(g->action.compress_pages, budget->zip_pages),
			     min_u64(g->private_pages, above_reservation(g)));
	uint64_t misfits, stay;

	if (n == 0)
		return;
	budget->zip_pages -= n;
	g->action.compress_pages -= n;
	misfits = min_u64(n,
			  whole(&g->rng,
				(double)n * g->spec->incompressible_pct / 100));
	stay = sub_u64(misfits, budget->swap_pages);
	misfits -= stay;
	n -= stay;
	budget->swap_pages -= misfits;
	take_private(g, n);
	g->swap_pages += misfits;
	g->zip_pages += n - misfits;
	g->stats.swap_out += misfits;
	g->stats.zip_out += n - misfits;
	heat(g, n, idle);
}

static void swap_out(struct guest *g, struct guest_budget *budget)
{
	const uint64_t idle = private_idle(g);
	const uint64_t n = min_u64(min_u64(g->action.swap_pages,
					   budget->swap_pages),
				   min_u64(g->private_pages,
					   above_reservation(g)));

	if (n == 0)
		return;
	budget->swap_pages -= n;
	g->action.swap_pages -= n;
	take_private(g, n);
	g->swap_pages += n;
	g->stats.swap_out += n;
	heat(g, n, idle);
}

static void evict(struct guest *g, struct guest_budget *budget)
{
	const uint64_t n = min_u64(min_u64(g->action.evict_pages,
					   budget->swap_pages),
				   g->zip_pages);

	budget->swap_pages -= n;
	g->action.evict_pages -= n;
	g->zip_pages -= n;
	g->swap_pages += n;
	g->stats.swap_out += n;
}

void guest_serve(struct guest *guest, uint64_t dt_ms,
		 struct guest_budget *budget)
{
	share(guest, (double)guest->action.share_rate * (double)dt_ms / 1000);
	/* Victims are tried for sharing before they are compressed or swapped. */
	share(guest,
	      (double)min_u64(guest->action.compress_pages, budget->zip_pages));
	compress(guest, budget);
	share(guest,
	      (double)min_u64(guest->action.swap_pages, budget->swap_pages));
	swap_out(guest, budget);
	evict(guest, budget);
}

void guest_watch(struct guest *guest, uint64_t now_ms)
{
	const bool up = driver_up(guest, now_ms);
	const struct balloon_report report = {
		.now_ms = now_ms,
		.present = up,
		.target_pages = guest->action.balloon_target_pages +
				guest->sweep.extra_pages,
		.actual_pages = guest->balloon_pages,
		.stats_ms = now_ms,
		.has_stats = up,
		.available_pages = available(guest),
		.ooms = guest->stats.ooms,
	};

	balloon_watch_update(&guest->watch, &report, guest->spec->size_pages);
}

void guest_snapshot(const struct guest *guest, uint32_t node,
		    struct plan_vm *ret)
{
	*ret = (struct plan_vm){
		.node = node,
		.private_pages = guest->private_pages,
		.shared_pages = guest->shared_pages,
		.zero_pages = guest->zero_pages + guest->zero_used_pages,
		.balloon_pages = guest->balloon_pages,
		.sweep_pages = guest->sweep.phase == SWEEP_REST
				       ? 0
				       : sub_u64(guest->balloon_pages,
						 guest->action
							 .balloon_target_pages),
		.zip_pages = guest->zip_pages,
		.swap_pages = guest->swap_pages,
		.common_pages = common(guest),
		.zip_store_pages = zip_store(guest),
		.balloon_target_pages = guest->action.balloon_target_pages,
		.balloon_floor_pages = guest->spec->floor_pages,
		.available_pages = available(guest),
		.swap_free_pages = sub_u64(guest->spec->size_pages,
					   guest->spec->alloc.reservation_pages +
						   guest->swap_pages),
		.driver = guest->watch.driver,
		.stats_valid = guest->watch.stats_valid,
		.distress = guest->watch.distress,
	};
}

uint64_t guest_active_estimate(const struct guest *guest,
			       const struct options *options)
{
	uint64_t pages = guest->spec->size_pages;

	if (options->v[OPT_SAMPLE_PERIOD] != 0)
		workset_pages(&guest->ws, guest->spec->size_pages,
			      options->v[OPT_SAMPLE_ACTIVE_PCT_MIN], &pages);
	return pages;
}
