/* SPDX-License-Identifier: Apache-2.0 */
/* Reading scenario files: sections, keys and what each key takes. */
#include <policy/scenario.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/arith.h>
#include <base/units.h>

#define LINE_MAX_LEN 512
#define SECTIONS_MAX 4096u

enum section {
	SECTION_NONE,
	SECTION_HOST,
	SECTION_SIM,
	SECTION_OPTIONS,
	SECTION_AT,
	SECTION_POOL,
	SECTION_VM,
};

struct reader {
	struct scenario *s;
	enum section section;
	uint64_t at_ms;
	bool vms_without_swap; /* swap is not given: as much as all VMs need */
};

enum value_kind {
	VALUE_SIZE,
	VALUE_DURATION,
	VALUE_NUMBER,
	VALUE_PERCENT,
};

/* A key whose value is a number in a struct. */
struct key {
	const char *name;
	enum value_kind kind;
	size_t offset;
};

static const struct key host_keys[] = {
	{"memory", VALUE_SIZE, offsetof(struct scenario, managed_pages)},
	{"swap", VALUE_SIZE, offsetof(struct scenario, swap_pages)},
	{"swap-rate", VALUE_SIZE, offsetof(struct scenario, swap_rate_pages)},
	{"processor-mhz", VALUE_NUMBER, offsetof(struct scenario, processor_mhz)},
};

static const struct key sim_keys[] = {
	{"duration", VALUE_DURATION, offsetof(struct scenario, duration_ms)},
	{"step", VALUE_DURATION, offsetof(struct scenario, step_ms)},
	{"seed", VALUE_NUMBER, offsetof(struct scenario, seed)},
};

static const struct key vm_keys[] = {
	{"size", VALUE_SIZE, offsetof(struct scenario_vm, size_pages)},
	{"overhead", VALUE_SIZE, offsetof(struct scenario_vm, overhead_pages)},
	{"active", VALUE_SIZE, offsetof(struct scenario_vm, active_pages)},
	{"active-high", VALUE_SIZE,
	 offsetof(struct scenario_vm, active_high_pages)},
	{"footprint", VALUE_SIZE, offsetof(struct scenario_vm, footprint_pages)},
	{"floor", VALUE_SIZE, offsetof(struct scenario_vm, floor_pages)},
	{"period", VALUE_DURATION, offsetof(struct scenario_vm, period_ms)},
	{"start", VALUE_DURATION, offsetof(struct scenario_vm, start_ms)},
	{"stagger", VALUE_DURATION, offsetof(struct scenario_vm, stagger_ms)},
	{"shareable", VALUE_PERCENT, offsetof(struct scenario_vm, shareable_pct)},
	{"zero", VALUE_PERCENT, offsetof(struct scenario_vm, zero_pct)},
	{"pieces", VALUE_PERCENT, offsetof(struct scenario_vm, pieces_pct)},
	{"incompressible", VALUE_PERCENT,
	 offsetof(struct scenario_vm, incompressible_pct)},
	{"hard", VALUE_PERCENT, offsetof(struct scenario_vm, hard_pct)},
};

static const char *const workload_names[] = {
	[WORKLOAD_IDLE] = "idle",     [WORKLOAD_STEADY] = "steady",
	[WORKLOAD_PHASES] = "phases", [WORKLOAD_BURSTY] = "bursty",
	[WORKLOAD_BOOT] = "boot",     [WORKLOAD_TRACE] = "trace",
};

static const char *const balloon_names[] = {
	[BALLOON_KIND_NORMAL] = "normal",
	[BALLOON_KIND_ABSENT] = "none",
	[BALLOON_KIND_STUCK] = "stuck",
	[BALLOON_KIND_LIAR] = "liar",
};

static int percent_parse(const char *value, uint32_t *ret, struct err *err)
{
	char digits[8];
	const size_t len = strlen(value);
	uint64_t v;
	int r;

	if (len < 2 || len > sizeof(digits) || value[len - 1] != '%')
		return err_set(err, -EINVAL,
			       "\"%.40s\" is not a percentage such as 30%%",
			       value);
	memcpy(digits, value, len - 1);
	digits[len - 1] = '\0';
	r = number_parse(digits, 0, 100, &v, err);
	if (r == 0)
		*ret = (uint32_t)v;
	return r;
}

static int key_set(void *object, const struct key *key, const char *value,
		   struct err *err)
{
	void *const field = (char *)object + key->offset;

	switch (key->kind) {
	case VALUE_SIZE:
		return size_parse_pages(value, field, err);
	case VALUE_DURATION:
		return duration_parse(value, field, err);
	case VALUE_NUMBER:
		return number_parse(value, 0, INT64_MAX, field, err);
	case VALUE_PERCENT:
		return percent_parse(value, field, err);
	}
	return -EINVAL;
}

/* Return 1 if the key is not in the table. */
static int table_set(void *object, const struct key *keys, size_t n,
		     const char *name, const char *value, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(keys[i].name, name)) {
			const int r = key_set(object, &keys[i], value, err);

			if (r < 0)
				err_prefix(err, "%s: ", name);
			return r;
		}
	}
	return 1;
}

static int word_find(const char *const *words, size_t n, const char *what,
		     const char *value, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(words[i], value))
			return (int)i;
	}
	return err_set(err, -EINVAL, "%s: \"%.40s\" is not a known word", what,
		       value);
}

static int pool_find(const struct scenario *s, const char *name, uint32_t *ret,
		     struct err *err)
{
	if (!strcmp(name, "host")) {
		*ret = 0;
		return 0;
	}
	for (size_t i = 0; i < s->n_pools; i++) {
		if (!strcmp(s->pools[i].name, name)) {
			*ret = (uint32_t)i + 1;
			return 0;
		}
	}
	return err_set(err, -ENOENT, "no pool above here is called \"%.40s\"",
		       name);
}

static int unknown_key(const char *name, struct err *err)
{
	return err_set(err, -ENOENT, "no key is called \"%.40s\" here", name);
}

static int sim_set(struct scenario *s, const char *name, const char *value,
		   struct err *err)
{
	int r = table_set(s, sim_keys, ARRAY_SIZE(sim_keys), name, value, err);

	if (r != 1)
		return r;
	if (strcmp(name, "trace"))
		return unknown_key(name, err);
	if (!value[0] || strlen(value) >= sizeof(s->trace_file))
		return err_set(err, -EINVAL,
			       "trace: the name of the file is empty or too long");
	strcpy(s->trace_file, value);
	return 0;
}

static int host_set(struct reader *rd, const char *name, const char *value,
		    struct err *err)
{
	const int r = table_set(rd->s, host_keys, ARRAY_SIZE(host_keys), name,
				value, err);

	if (r == 0 && !strcmp(name, "swap"))
		rd->vms_without_swap = false;
	return r == 1 ? unknown_key(name, err) : r;
}

static int pool_set(struct scenario *s, const char *name, const char *value,
		    struct err *err)
{
	struct scenario_pool *const pool = &s->pools[s->n_pools - 1];

	if (strcmp(name, "parent"))
		return mem_alloc_set(&pool->alloc, name, value, err);
	if (!strcmp(value, pool->name))
		return err_set(err, -ELOOP, "pool %s cannot be inside itself",
			       pool->name);
	return pool_find(s, value, &pool->parent, err);
}

static int vm_count_set(struct scenario_vm *vm, const char *value,
			struct err *err)
{
	uint64_t v;
	int r = number_parse(value, 1, SCENARIO_VMS_MAX, &v, err);

	if (r < 0)
		err_prefix(err, "count: ");
	else
		vm->count = (uint32_t)v;
	return r;
}

static int vm_set(struct scenario *s, const char *name, const char *value,
		  struct err *err)
{
	struct scenario_vm *const vm = &s->vms[s->n_vms - 1];
	int r = table_set(vm, vm_keys, ARRAY_SIZE(vm_keys), name, value, err);

	if (r != 1)
		return r;
	if (!strcmp(name, "count"))
		return vm_count_set(vm, value, err);
	if (!strcmp(name, "pool"))
		return pool_find(s, value, &vm->pool, err);
	if (!strcmp(name, "workload")) {
		r = word_find(workload_names, ARRAY_SIZE(workload_names), name,
			      value, err);
		if (r >= 0)
			vm->workload = (enum workload)r;
		return r < 0 ? r : 0;
	}
	if (!strcmp(name, "balloon")) {
		r = word_find(balloon_names, ARRAY_SIZE(balloon_names), name,
			      value, err);
		if (r >= 0)
			vm->balloon = (enum balloon_kind)r;
		return r < 0 ? r : 0;
	}
	if (!strcmp(name, "reservation") || !strcmp(name, "limit") ||
	    !strcmp(name, "shares"))
		return mem_alloc_set(&vm->alloc, name, value, err);
	return unknown_key(name, err);
}

static void *array_grow(void *array, size_t n, size_t size)
{
	/* Doubling at powers of two needs no separate capacity. */
	if (n & (n - 1) && n != 0)
		return array;
	return realloc(array, (n ? 2 * n : 1) * size);
}

static int change_add(struct reader *rd, const char *name, const char *value,
		      struct err *err)
{
	struct scenario *const s = rd->s;
	struct options probe = s->options;
	struct scenario_change *changes;
	enum option_id id;
	int r = options_set(&probe, name, value, err);

	if (r < 0)
		return r;
	r = option_find(name, &id, err);
	if (r < 0)
		return r;
	changes = array_grow(s->changes, s->n_changes, sizeof(*changes));
	if (!changes || s->n_changes >= SECTIONS_MAX)
		return err_set(err, -ENOMEM, "too many changes of options");
	s->changes = changes;
	changes[s->n_changes++] = (struct scenario_change){rd->at_ms, id,
							   probe.v[id]};
	return 0;
}

static int name_copy(char *to, const char *name, struct err *err)
{
	if (!name[0] || strlen(name) >= SCENARIO_NAME_MAX)
		return err_set(err, -EINVAL, "a name has 1 to %d characters",
			       SCENARIO_NAME_MAX - 1);
	strcpy(to, name);
	return 0;
}

static int pool_add(struct scenario *s, const char *name, struct err *err)
{
	struct scenario_pool *pools, pool = {.parent = 0};
	uint32_t old;
	int r = name_copy(pool.name, name, err);

	if (r < 0)
		return r;
	if (pool_find(s, name, &old, NULL) == 0)
		return err_set(err, -EINVAL, "there is already a pool %s",
			       pool.name);
	mem_alloc_init(&pool.alloc);
	pools = array_grow(s->pools, s->n_pools, sizeof(*pools));
	if (!pools || s->n_pools >= SECTIONS_MAX)
		return err_set(err, -ENOMEM, "too many pools");
	s->pools = pools;
	pools[s->n_pools++] = pool;
	return 0;
}

static int vm_add(struct scenario *s, const char *name, struct err *err)
{
	struct scenario_vm *vms, vm = {
					 .count = 1,
					 .size_pages = 256 * MIB_PAGES,
					 .overhead_pages = 5 * MIB_PAGES,
					 .workload = WORKLOAD_STEADY,
					 .period_ms = 300000,
					 .incompressible_pct = 30,
					 .hard_pct = 30,
					 .zero_pct = 5,
				 };
	int r = name_copy(vm.name, name, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < s->n_vms; i++) {
		if (!strcmp(s->vms[i].name, name))
			return err_set(err, -EINVAL,
				       "there is already a group of VMs %s",
				       vm.name);
	}
	mem_alloc_init(&vm.alloc);
	vms = array_grow(s->vms, s->n_vms, sizeof(*vms));
	if (!vms || s->n_vms >= SECTIONS_MAX)
		return err_set(err, -ENOMEM, "too many groups of VMs");
	s->vms = vms;
	vms[s->n_vms++] = vm;
	return 0;
}

static int section_open(struct reader *rd, const char *title, struct err *err)
{
	uint64_t at;
	int r = 0;

	if (!strcmp(title, "host")) {
		rd->section = SECTION_HOST;
	} else if (!strcmp(title, "sim")) {
		rd->section = SECTION_SIM;
	} else if (!strcmp(title, "options")) {
		rd->section = SECTION_OPTIONS;
	} else if (!strncmp(title, "at ", 3)) {
		rd->section = SECTION_AT;
		r = duration_parse(title + 3, &at, err);
		if (r == 0 && at < rd->at_ms)
			return err_set(err, -EINVAL,
				       "this change is before the one above");
		if (r == 0)
			rd->at_ms = at;
	} else if (!strncmp(title, "pool ", 5)) {
		rd->section = SECTION_POOL;
		r = pool_add(rd->s, title + 5, err);
	} else if (!strncmp(title, "vm ", 3)) {
		rd->section = SECTION_VM;
		r = vm_add(rd->s, title + 3, err);
	} else {
		return err_set(
			err, -ENOENT,
			"no section is called [%.40s] (host, sim, options, at TIME, pool NAME, vm NAME)",
			title);
	}
	return r;
}

static int key_apply(struct reader *rd, const char *name, const char *value,
		     struct err *err)
{
	switch (rd->section) {
	case SECTION_HOST:
		return host_set(rd, name, value, err);
	case SECTION_SIM:
		return sim_set(rd->s, name, value, err);
	case SECTION_OPTIONS:
		return options_set(&rd->s->options, name, value, err);
	case SECTION_AT:
		return change_add(rd, name, value, err);
	case SECTION_POOL:
		return pool_set(rd->s, name, value, err);
	case SECTION_VM:
		return vm_set(rd->s, name, value, err);
	case SECTION_NONE:
		break;
	}
	return err_set(err, -EINVAL, "a key before the first [section]");
}

static char *trim(char *text)
{
	char *end = text + strlen(text);

	while (end > text && strchr(" \t\r", end[-1]))
		*--end = '\0';
	return text + strspn(text, " \t");
}

static int line_apply(struct reader *rd, char *line, struct err *err)
{
	char *const hash = strchr(line, '#');
	char *equals, *text;
	size_t len;

	if (hash)
		*hash = '\0';
	text = trim(line);
	len = strlen(text);
	if (len == 0)
		return 0;
	if (text[0] == '[') {
		if (text[len - 1] != ']')
			return err_set(err, -EINVAL, "the ] is missing");
		text[len - 1] = '\0';
		return section_open(rd, trim(text + 1), err);
	}
	equals = strchr(text, '=');
	if (!equals)
		return err_set(err, -EINVAL, "\"%.40s\" is not KEY = VALUE",
			       text);
	*equals = '\0';
	return key_apply(rd, trim(text), trim(equals + 1), err);
}

static int text_read(struct reader *rd, const char *text, struct err *err)
{
	unsigned int number = 0;

	while (*text) {
		const char *const end = strchr(text, '\n');
		const size_t len = end ? (size_t)(end - text) : strlen(text);
		char line[LINE_MAX_LEN];
		int r;

		number++;
		if (len >= sizeof(line)) {
			r = err_set(err, -EINVAL, "the line is too long");
		} else {
			memcpy(line, text, len);
			line[len] = '\0';
			r = line_apply(rd, line, err);
		}
		if (r < 0) {
			err_prefix(err, "line %u: ", number);
			return r;
		}
		text += len + (end ? 1 : 0);
	}
	return 0;
}

static int vm_finish(struct scenario_vm *vm, struct err *err)
{
	int r = mem_alloc_check_vm(&vm->alloc, vm->size_pages, err);

	if (r == 0 && vm->size_pages > (UINT64_C(1) << 34))
		r = err_set(err, -ERANGE, "a VM of more than 64 TiB");
	if (r == 0 && vm->period_ms == 0)
		r = err_set(err, -EINVAL, "period: must not be 0");
	if (r == 0 && vm->overhead_pages > vm->size_pages + 256 * MIB_PAGES)
		r = err_set(err, -ERANGE, "overhead: more than the VM's size");
	if (r == 0 && vm->shareable_pct + vm->zero_pct > 100)
		r = err_set(err, -EINVAL,
			    "shareable and zero are more than 100 %% together");
	if (r < 0) {
		err_prefix(err, "vm %s: ", vm->name);
		return r;
	}
	if (vm->footprint_pages == 0 || vm->footprint_pages > vm->size_pages)
		vm->footprint_pages = vm->size_pages;
	vm->active_pages = min_u64(vm->active_pages, vm->footprint_pages);
	vm->active_high_pages = min_u64(max_u64(vm->active_high_pages,
						vm->active_pages),
					vm->footprint_pages);
	return 0;
}

static int scenario_finish(struct reader *rd, struct err *err)
{
	struct scenario *const s = rd->s;
	uint64_t vms = 0, need = 0;

	for (size_t i = 0; i < s->n_vms; i++) {
		int r = vm_finish(&s->vms[i], err);

		if (r < 0)
			return r;
		vms += s->vms[i].count;
		need += s->vms[i].count * s->vms[i].size_pages;
	}
	if (vms == 0)
		return err_set(err, -EINVAL,
			       "there is no [vm NAME] to simulate");
	if (vms > SCENARIO_VMS_MAX)
		return err_set(err, -ERANGE, "%" PRIu64 " VMs are more than %u",
			       vms, SCENARIO_VMS_MAX);
	if (s->managed_pages == 0)
		return err_set(err, -EINVAL, "[host] has no memory");
	if (s->managed_pages > UINT64_C(1) << 36 ||
	    s->swap_rate_pages > UINT64_C(1) << 36)
		return err_set(err, -ERANGE,
			       "[host] memory or swap-rate: more than 256 TiB");
	if (s->processor_mhz > 100000000)
		return err_set(err, -ERANGE,
			       "[host] processor-mhz: more than 100000 GHz");
	if (s->step_ms == 0 || s->step_ms > 60000 || s->duration_ms < s->step_ms)
		return err_set(
			err, -EINVAL,
			"[sim] step must be 1ms to 60s, and duration at least one step");
	if (rd->vms_without_swap)
		s->swap_pages = need;
	return 0;
}

int scenario_parse(const char *text, struct scenario **ret, struct err *err)
{
	struct reader rd = {.vms_without_swap = true};
	int r;

	rd.s = calloc(1, sizeof(*rd.s));
	if (!rd.s)
		return err_set(err, -ENOMEM, "no memory for a scenario");
	rd.s->swap_rate_pages = 200 * MIB_PAGES;
	rd.s->processor_mhz = 8000;
	rd.s->duration_ms = 600000;
	rd.s->step_ms = 1000;
	rd.s->seed = 1;
	options_init(&rd.s->options);
	r = text_read(&rd, text, err);
	if (r == 0)
		r = scenario_finish(&rd, err);
	if (r < 0) {
		scenario_free(rd.s);
		return r;
	}
	*ret = rd.s;
	return 0;
}

void scenario_free(struct scenario *scenario)
{
	if (!scenario)
		return;
	free(scenario->changes);
	free(scenario->pools);
	free(scenario->vms);
	free(scenario);
}
