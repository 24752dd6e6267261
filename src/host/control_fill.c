/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of the host in the structs of the API. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <host/control_impl.h>

static double overcommit(const struct host_figures *f)
{
	const double wanted = (double)f->size_pages + (double)f->overhead_pages;
	const double have = (double)f->managed_pages;

	return have > 0 && wanted > have ? wanted / have - 1 : 0;
}

void fill_host(struct api_host *to, const struct host_figures *from,
	       const char *version)
{
	*to = (struct api_host){
		.managed_pages = from->managed_pages,
		.consumed_pages = from->consumed_pages,
		.common_pages = from->common_pages,
		.zip_pages = from->zip_pages,
		.table_pages = from->table_pages,
		.overhead_pages = from->overhead_pages,
		.free_pages = from->free_pages,
		.promised_pages = from->promised_pages,
		.over_pages = from->over_pages,
		.minfree_pages = from->minfree_pages,
		.state = from->state,
		.shared_pages = from->shared_pages,
		.saving_pages = from->shared_pages > from->common_pages
					? from->shared_pages - from->common_pages
					: 0,
		.zero_pages = from->zero_pages,
		.ballooned_pages = from->ballooned_pages,
		.compressed_pages = from->compressed_pages,
		.swapped_pages = from->swapped_pages,
		.size_pages = from->size_pages,
		.reserved_pages = from->reserved_pages,
		.unreserved_pages = from->unreserved_pages,
		.swap_free_pages = from->swap_free_pages,
		.n_vms = from->n_vms,
		.n_pools = from->n_pools,
		.overcommit = overcommit(from),
		.overcommit_1min = from->overcommit[0],
		.overcommit_5min = from->overcommit[1],
		.overcommit_15min = from->overcommit[2],
		.share_scanned = from->share_scanned,
		.share_cpu_ns = from->share_cpu_ns,
		.share_book_bytes = from->share_book_bytes,
		.plan_ns = from->plan_ns,
		.uptime_ms = from->uptime_ms,
	};
	snprintf(to->version, sizeof(to->version), "%s", version);
	if (gethostname(to->name, sizeof(to->name) - 1))
		to->name[0] = 0;
}

void fill_stats(struct api_stats *to, const struct host_vm_figures *from)
{
	*to = (struct api_stats){
		.granted_pages = from->granted_pages,
		.consumed_pages = from->consumed_pages,
		.active_pages = from->active_pages,
		.private_pages = from->private_pages,
		.shared_pages = from->shared_pages,
		.zero_pages = from->zero_pages,
		.ballooned_pages = from->ballooned_pages,
		.compressed_pages = from->compressed_pages,
		.swapped_pages = from->swapped_pages,
		.overhead_pages = from->overhead_pages,
		.overhead_max_pages = from->overhead_max_pages,
		.swap_target_pages = from->swap_target_pages,
		.common_pages = from->common_pages,
		.zip_pages = from->zip_pages,
		.table_pages = from->table_pages,
		.entitlement_pages = from->entitlement_pages,
		.allowance_pages = from->allowance_pages,
		.active_fast_pct = from->active_fast_pct,
		.active_slow_pct = from->active_slow_pct,
		.shares = from->shares,
		.balloon_driver = from->balloon_driver,
		.balloon_target_pages = from->balloon_target_pages,
		.balloon_max_pages = from->balloon_max_pages,
		.guest_total_pages = from->guest_total_pages,
		.guest_available_pages = from->guest_available_pages,
		.guest_free_pages = from->guest_free_pages,
		.guest_stats = from->guest_stats_age_ms != UINT64_MAX,
		.guest_stats_age_ms = from->guest_stats_age_ms == UINT64_MAX
					      ? 0
					      : from->guest_stats_age_ms,
		.distress = from->distress,
		.blocked = from->blocked,
		.run_ns = from->run_ns,
		.stall_zip_ns = from->stall_zip_ns,
		.stall_swap_ns = from->stall_swap_ns,
		.stall_host_ns = from->stall_host_ns,
		.stall_busy_ns = from->stall_busy_ns,
		.stall_zip_median_ns = from->stall_median_ns[LINK_STALL_ZIP],
		.stall_zip_p99_ns = from->stall_p99_ns[LINK_STALL_ZIP],
		.stall_swap_median_ns = from->stall_median_ns[LINK_STALL_SWAP],
		.stall_swap_p99_ns = from->stall_p99_ns[LINK_STALL_SWAP],
		.stall_host_median_ns = from->stall_median_ns[LINK_STALL_HOST],
		.stall_host_p99_ns = from->stall_p99_ns[LINK_STALL_HOST],
		.stall_busy_median_ns = from->stall_median_ns[LINK_STALL_BUSY],
		.stall_busy_p99_ns = from->stall_p99_ns[LINK_STALL_BUSY],
		.latency_pct = from->latency_pct,
		.zip_out = from->zip_out,
		.zip_in = from->zip_in,
		.swap_out = from->swap_out,
		.swap_in = from->swap_in,
		.shared_ever = from->shared_ever,
		.shared_filled = from->shared_filled,
		.unshared = from->unshared,
		.zeroed = from->zeroed,
		.reported_free = from->reported_free,
		.swept = from->swept,
		.scanned = from->scanned,
		.swap_slots = from->swap_slots,
		.swap_slots_free = from->swap_slots_free,
	};
}

_Static_assert(API_NAME_MAX == HOST_NAME_SIZE, "names fit on both sides");
_Static_assert(API_STRINGS_MAX == HOST_ARGS_MAX, "args fit on both sides");

void fill_settings(struct host_vm_settings *to, const struct api_vm_config *from)
{
	host_vm_settings_init(to, from->name, from->size_pages);
	memcpy(to->pool, from->pool, sizeof(to->pool));
	memcpy(to->group, from->group, sizeof(to->group));
	to->alloc = from->alloc;
	to->floor_pages = from->floor_pages;
	to->share = from->share;
	to->n_args = from->args.n;
	for (unsigned int i = 0; i < from->args.n; i++)
		to->args[i] = from->args.v[i];
}

void fill_pool(struct api_pool *to, const struct host_pool_figures *from)
{
	*to = (struct api_pool){
		.config.alloc = from->alloc,
		.reservation_used_pages = from->usage.reservation_used,
		.charged_pages = from->usage.charged_pages,
		.unreserved_pages = from->usage.unreserved_pages,
		.entitlement_pages = from->entitlement_pages,
		.consumed_pages = from->consumed_pages,
	};
	memcpy(to->name, from->name, sizeof(to->name));
	memcpy(to->config.parent, from->parent, sizeof(to->config.parent));
	to->config.alloc.shares = (uint32_t)mem_alloc_pool_shares(&from->alloc);
}

void fill_option(struct api_option *to, const struct options *options,
		 enum option_id id)
{
	const struct option_info *info = option_info(id);
	struct options defaults;

	*to = (struct api_option){.min = info->min,
				  .max = info->max,
				  .unlimited = info->max == OPTION_UNLIMITED};
	options_init(&defaults);
	snprintf(to->name, sizeof(to->name), "%s", info->name);
	snprintf(to->unit, sizeof(to->unit), "%s", info->unit);
	snprintf(to->description, sizeof(to->description), "%s",
		 info->description);
	option_format(options, id, to->value, sizeof(to->value));
	option_format(&defaults, id, to->default_value,
		      sizeof(to->default_value));
}
