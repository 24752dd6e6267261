/* SPDX-License-Identifier: Apache-2.0 */
/* What a run did, as JSON for programs and as a summary for people. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <vm/vm_impl.h>

static void put(json_t *object, const char *name, uint64_t value)
{
	json_object_set_new(object, name, json_integer((json_int_t)value));
}

static json_t *group(json_t *root, const char *name)
{
	json_t *g = json_object_get(root, name);

	if (!g) {
		g = json_object();
		json_object_set_new(root, name, g);
	}
	return g;
}

static void add_counter(void *arg, const char *group_name, const char *name,
			uint64_t value)
{
	put(group(arg, group_name), name, value);
}

static void add_vm(const struct vm *vm, json_t *root)
{
	json_t *g = group(root, "vm");

	json_object_set_new(g, "engine", json_string(vm->engine_ops->name));
	json_object_set_new(g, "engine_choice", json_string(vm->engine_why));
	json_object_set_new(g, "mmu",
			    json_string(vm->cfg->mmu_options.mode == MMU_SOFTWARE
						? "software"
						: "hardware"));
	json_object_set_new(g, "mmu_choice", json_string(vm->mmu_why));
	json_object_set_new(g, "protocol",
			    json_string(boot_protocol_name(vm->boot.protocol)));
	put(g, "memory_bytes", vm->cfg->memory_bytes);
	put(g, "run_ns", vm->end_ns);
	put(g, "idle_ns", vm->idle_ns);
	put(g, "slices", vm->slices);
	put(g, "halts", vm->halts);
	put(g, "audited_entries", vm->audited);
}

static void add_memory(const struct vm *vm, json_t *root)
{
	const struct mem_stats s = guestmem_stats(vm->mem);
	json_t *g = group(root, "physmap");
	json_t *r = group(root, "revocation");

	for (unsigned int i = 0; i < PHYSMAP_N_STATES; i++)
		put(g, physmap_state_name((enum physmap_state)i),
		    s.pages.pages[i]);
	put(g, "zero_fills", s.zero_fills);
	put(g, "unshares", s.unshares);
	put(g, "fills", s.fills);
	put(g, "dropped", s.dropped);
	put(g, "table_pages", s.table_pages);
	put(r, "requests", s.revoke_requests);
	put(r, "pages", s.revoked_pages);
	put(r, "busy_waits", s.busy_waits);
	put(r, "busy_wait_ns", s.busy_wait_ns);
	if (vm->cfg->revoke_stress) {
		put(r, "stress_taken", vm->stress_stats.taken);
		put(r, "stress_zeroed", vm->stress_stats.zeroed);
		put(r, "stress_skipped", vm->stress_stats.skipped);
		put(r, "stress_timeouts", vm->stress_stats.timeouts);
	}
}

static void add_devices(const struct vm *vm, json_t *root)
{
	json_t *exits = group(root, "device_exits");
	struct bus_counters c;

	for (unsigned int i = 0; bus_counters_get(vm->bus, i, &c); i++) {
		json_t *d = group(exits, c.name);
		const json_t *old_r = json_object_get(d, "reads");
		const json_t *old_w = json_object_get(d, "writes");

		put(d, "reads", c.reads + (uint64_t)json_integer_value(old_r));
		put(d, "writes", c.writes + (uint64_t)json_integer_value(old_w));
	}
	put(group(exits, "local APIC"), "accesses", vm->lapic.stats.accesses);
	json_t *l = group(root, "local_apic");

	put(l, "timer_fired", vm->lapic.stats.timer_fired);
	put(l, "injected", vm->lapic.stats.injected);
	put(l, "ipis", vm->lapic.stats.ipis);
	json_t *c1 = group(root, "console");

	put(c1, "bytes_out", vm->serial.stats.tx_bytes);
	put(c1, "writes_out", vm->serial.stats.tx_flushes);
	for (unsigned int i = 0; i < vm->n_disks; i++) {
		const struct virtio_blk_stats *s = virtio_blk_stats(vm->disks[i]);
		char name[16];

		snprintf(name, sizeof(name), "disk%u", i);
		json_t *d = group(root, name);

		put(d, "reads", s->reads);
		put(d, "read_bytes", s->read_bytes);
		put(d, "writes", s->writes);
		put(d, "write_bytes", s->write_bytes);
		put(d, "flushes", s->flushes);
		put(d, "errors", s->errors);
	}
}

static void add_balloon(const struct vm *vm, json_t *root)
{
	const struct virtio_balloon_stats *s;
	const struct virtio_balloon_guest *guest;
	json_t *b, *g;

	if (!vm->balloon)
		return;
	s = virtio_balloon_stats(vm->balloon);
	guest = virtio_balloon_guest(vm->balloon);
	b = group(root, "balloon");
	put(b, "target", s->target_pages);
	put(b, "claimed", s->claimed_pages);
	put(b, "inflate_requests", s->inflate_requests);
	put(b, "inflated", s->inflated_pages);
	put(b, "duplicate", s->duplicate_pages);
	put(b, "deflate_requests", s->deflate_requests);
	put(b, "deflated", s->deflated_pages);
	put(b, "absent", s->absent_pages);
	put(b, "outside", s->outside_pages);
	put(b, "report_requests", s->report_requests);
	put(b, "reported", s->reported_pages);
	put(b, "poisoned", s->poisoned_pages);
	put(b, "partial_bytes", s->partial_bytes);
	put(b, "oom_deflations", s->oom_deflations);
	put(b, "ooms", s->ooms);
	put(b, "returned", s->returned_pages);
	put(b, "stats_asked", s->stats_asked);
	put(b, "stats_received", s->stats_received);
	put(b, "stats_incomplete", s->stats_incomplete);
	put(b, "features", virtio_balloon_dev(vm->balloon)->features);
	g = group(root, "guest");
	put(g, "total", guest->total_pages);
	put(g, "free", guest->free_pages);
	put(g, "available", guest->available_pages);
	put(g, "cache", guest->cache_pages);
	put(g, "swapped_in", guest->swapped_in);
	put(g, "swapped_out", guest->swapped_out);
	put(g, "major_faults", guest->major_faults);
	put(g, "minor_faults", guest->minor_faults);
}

static void add_net(const struct vm *vm, json_t *root)
{
	const struct virtio_net_stats *s = vm_net_stats(vm);
	json_t *n;

	if (!s)
		return;
	n = group(root, "net");
	put(n, "sent", s->sent);
	put(n, "sent_bytes", s->sent_bytes);
	put(n, "received", s->received);
	put(n, "received_bytes", s->received_bytes);
	put(n, "dropped", s->dropped);
}

/* A figure of the process's status in bytes, or 0. @key: with a newline before it. */
static uint64_t status_bytes(const struct vm *vm, const char *key)
{
	char text[4096];
	const ssize_t n = pread(vm->status_fd, text, sizeof(text) - 1, 0);
	uint64_t kib = 0;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	const char *at = strstr(text, key);

	if (!at || sscanf(at + strlen(key), ": %" SCNu64, &kib) != 1)
		return 0;
	return kib << 10;
}

/* Memory of the process beyond guest RAM: all that is private, and our tables. */
static uint64_t overhead_bytes(const struct vm *vm)
{
	return status_bytes(vm, "\nRssAnon") +
	       guestmem_stats(vm->mem).table_pages * PAGE_SIZE;
}

static void add_process(const struct vm *vm, json_t *root)
{
	json_t *g = group(root, "process");
	struct rusage u = {0};

	(void)getrusage(RUSAGE_SELF, &u);
	put(g, "peak_rss_bytes", status_bytes(vm, "\nVmHWM"));
	put(g, "anonymous_bytes", status_bytes(vm, "\nRssAnon"));
	put(g, "beyond_guest_ram_bytes", overhead_bytes(vm));
	put(g, "user_us",
	    (uint64_t)u.ru_utime.tv_sec * 1000000 + (uint64_t)u.ru_utime.tv_usec);
	put(g, "system_us",
	    (uint64_t)u.ru_stime.tv_sec * 1000000 + (uint64_t)u.ru_stime.tv_usec);
}

static json_t *stats_json(const struct vm *vm)
{
	json_t *root = json_object();

	add_vm(vm, root);
	vm->engine_ops->counters(vm->engine, add_counter, root);
	add_memory(vm, root);
	add_devices(vm, root);
	add_balloon(vm, root);
	add_net(vm, root);
	add_process(vm, root);
	return root;
}

int vm_write_stats(const struct vm *vm, FILE *to, struct err *err)
{
	json_t *root = stats_json(vm);
	const bool bad = json_dumpf(root, to, JSON_INDENT(2)) || fflush(to);

	json_decref(root);
	if (bad)
		return err_set(err, -EIO, "cannot write the counters: %s",
			       strerror(errno));
	return 0;
}

static uint64_t get(const json_t *root, const char *group_name, const char *name)
{
	return (uint64_t)json_integer_value(
		json_object_get(json_object_get(root, group_name), name));
}

static double ratio(uint64_t a, uint64_t b)
{
	return b ? (double)a / (double)b : 0;
}

static void print_unimplemented(const json_t *root)
{
	json_t *g = json_object_get(root, "unimplemented");
	const char *name;
	json_t *count;

	json_object_foreach(g, name, count)
		fprintf(stderr,
			"  not implemented: %s, %" JSON_INTEGER_FORMAT
			" times\n",
			name, json_integer_value(count));
}

static void print_physmap(const struct vm *vm)
{
	const struct mem_stats s = guestmem_stats(vm->mem);

	fprintf(stderr, "  physmap (pages):");
	for (unsigned int i = 0; i < PHYSMAP_N_STATES; i++)
		fprintf(stderr, " %s %" PRIu64,
			physmap_state_name((enum physmap_state)i),
			s.pages.pages[i]);
	fputc('\n', stderr);
}

void vm_print_summary(const struct vm *vm)
{
	json_t *r = stats_json(vm);
	const uint64_t insns = get(r, "cpu", "instructions");
	const uint64_t busy_us = (vm->end_ns - vm->idle_ns) / 1000;
	const uint64_t walks = get(r, "mmu", "walks");
	char end[256];

	vm_end_text(vm, end, sizeof(end));
	fprintf(stderr, "mezz: %s after %.3f s (%.3f s idle)\n", end,
		(double)vm->end_ns / 1e9, (double)vm->idle_ns / 1e9);
	fprintf(stderr,
		"  engine %s, %s memory virtualization, kernel entered by %s\n",
		vm->engine_ops->name,
		vm->cfg->mmu_options.mode == MMU_SOFTWARE ? "software"
							  : "hardware",
		boot_protocol_name(vm->boot.protocol));
	fprintf(stderr,
		"  instructions %.1f M, %.0f M/s; blocks decoded %" PRIu64
		", dropped %" PRIu64 "\n",
		(double)insns / 1e6, ratio(insns, busy_us),
		get(r, "cpu", "blocks_decoded"),
		get(r, "cpu", "blocks_dropped"));
	fprintf(stderr,
		"  software TLB: %.1f M hits, %" PRIu64 " misses, %" PRIu64
		" revalidated, %" PRIu64 " flushes; walks %" PRIu64
		": %.2f guest, %.2f nested, %.2f shadow references each\n",
		(double)get(r, "tlb", "hits") / 1e6, get(r, "tlb", "misses"),
		get(r, "tlb", "revalidations"), get(r, "tlb", "flushes"), walks,
		ratio(get(r, "mmu", "guest_refs"), walks),
		ratio(get(r, "mmu", "nested_refs"), walks),
		ratio(get(r, "mmu", "shadow_refs"), walks));
	fprintf(stderr,
		"  faults: %" PRIu64 " delivered to the guest, %" PRIu64
		" nested violations, %" PRIu64 " hidden; interrupts %" PRIu64
		", system calls %" PRIu64 ", device exits %" PRIu64 "\n",
		get(r, "cpu", "page_faults"), get(r, "mmu", "nested_violations"),
		get(r, "mmu", "hidden_faults"), get(r, "cpu", "interrupts"),
		get(r, "cpu", "syscalls"),
		get(r, "cpu", "mmio") + get(r, "cpu", "pio"));
	fprintf(stderr, "  engine choice: %s; memory virtualization: %s\n",
		vm->engine_why, vm->mmu_why);
	print_physmap(vm);
	if (get(r, "revocation", "pages"))
		fprintf(stderr,
			"  revoked pages: %" PRIu64 ", waits: %" PRIu64 "\n",
			get(r, "revocation", "pages"),
			get(r, "revocation", "busy_waits"));
	fprintf(stderr,
		"  memory: guest RAM touched %.1f MiB, tables %.2f MiB, beyond guest RAM %.1f MiB\n",
		(double)get(r, "physmap", "home") * 4096 / 1048576.0,
		(double)get(r, "physmap", "table_pages") * 4096 / 1048576.0,
		(double)get(r, "process", "beyond_guest_ram_bytes") / 1048576.0);
	print_unimplemented(r);
	json_decref(r);
}
