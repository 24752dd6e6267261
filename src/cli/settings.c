/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of VMs and pools as people write them. */
#include <cli/settings.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <api/vm_options.h>
#include <base/units.h>
#include <policy/alloc.h>

/* The object "memoryAllocation" of a request, made if it is not there. Borrowed. */
static json_t *allocation(json_t *body)
{
	json_t *a = json_object_get(body, "memoryAllocation");

	if (!a) {
		a = json_object();
		json_object_set_new(body, "memoryAllocation", a);
	}
	return a;
}

static int set_size(json_t *to, const char *name, const char *value,
		    struct err *err)
{
	uint64_t pages;
	const int r = size_parse_pages(value, &pages, err);

	if (!r)
		json_object_set_new(to, name,
				    json_integer(
					    (json_int_t)(pages * PAGE_SIZE)));
	return r;
}

static int set_limit(json_t *to, const char *name, const char *value,
		     struct err *err)
{
	if (strcmp(value, "unlimited") != 0)
		return set_size(to, name, value, err);
	json_object_set_new(to, name, json_integer(-1));
	return 0;
}

/* A level, or a number of shares. */
static int set_shares(json_t *to, const char *name, const char *value,
		      struct err *err)
{
	struct mem_alloc alloc;

	mem_alloc_init(&alloc);
	const int r = mem_alloc_set(&alloc, "shares", value, err);

	if (r)
		return r;
	json_t *shares = json_pack("{s:s}", "level",
				   shares_level_name(alloc.level));

	if (alloc.level == SHARES_CUSTOM)
		json_object_set_new(shares, "shares",
				    json_integer(alloc.shares));
	json_object_set_new(to, name, shares);
	return 0;
}

static int set_switch(json_t *to, const char *name, const char *value,
		      struct err *err)
{
	const bool yes = !strcmp(value, "on") || !strcmp(value, "true");

	if (!yes && strcmp(value, "off") != 0 && strcmp(value, "false") != 0)
		return err_set(err, -EINVAL, "'%s' is neither on nor off",
			       value);
	json_object_set_new(to, name, json_boolean(yes));
	return 0;
}

static int set_text(json_t *to, const char *name, const char *value,
		    struct err *err)
{
	json_t *j = json_string(value);

	if (!j)
		return err_set(err, -EINVAL, "this is no text in UTF-8");
	json_object_set_new(to, name, j);
	return 0;
}

/**
 * struct setting - one setting.
 * @key: before the '=', or after two dashes
 * @letter: after one dash, or 0
 * @takes: what it takes, for the help
 * @help: one line
 * @name: in JSON
 * @promise: in memoryAllocation
 * @of: kinds of words, bits, that may hold it
 * @set: puts it into a request
 */
struct setting {
	const char *key;
	char letter;
	const char *takes;
	const char *help;
	const char *name;
	bool promise;
	unsigned int of;
	int (*set)(json_t *to, const char *name, const char *value,
		   struct err *err);
};

#define OF_VM   (1U << CLI_WORDS_VM)
#define OF_POOL (1U << CLI_WORDS_POOL)

static const struct setting settings[] = {
	{"memory", 'm', "SIZE", "guest RAM (512M)", "memorySize", false, OF_VM,
	 set_size},
	{"reservation", 0, "SIZE", "machine memory that is guaranteed (0)",
	 "reservation", true, OF_VM | OF_POOL, set_size},
	{"limit", 0, "SIZE|unlimited", "machine memory at most (unlimited)",
	 "limit", true, OF_VM | OF_POOL, set_limit},
	{"shares", 0, "low|normal|high|NUMBER",
	 "weight beside the others (normal)", "shares", true, OF_VM | OF_POOL,
	 set_shares},
	{"expandable", 0, "on|off", "borrow from the pool above (on)",
	 "expandableReservation", true, OF_POOL, set_switch},
	{"parent", 0, "NAME", "pool above (the host)", "parent", false, OF_POOL,
	 set_text},
	{"pool", 0, "NAME", "resource pool (the host's own)", "resourcePool",
	 false, OF_VM, set_text},
	{"group", 0, "NAME", "share pages with VMs of that group (none)",
	 "shareGroup", false, OF_VM, set_text},
	{"sharing", 0, "on|off", "look for pages to share (on)", "pageSharing",
	 false, OF_VM, set_switch},
	{"floor", 0, "SIZE", "what the balloon leaves to the guest (0)",
	 "memoryFloor", false, OF_VM, set_size},
	{"autostart", 0, "on|off", "start it with mezzd (off)", "autostart",
	 false, OF_VM, set_switch},
};

/* Where a word names this setting as an option: what follows it; else NULL. */
static const char *after_name(const struct setting *s, const char *word)
{
	const size_t n = strlen(s->key);

	if (s->letter && word[0] == '-' && word[1] == s->letter && !word[2])
		return word + 2;
	if (strncmp(word, "--", 2) || strncmp(word + 2, s->key, n))
		return NULL;
	return !word[2 + n] || word[2 + n] == '=' ? word + 2 + n : NULL;
}

static const struct setting *setting_of(const char *word,
					enum cli_words_kind kind,
					const char **ret_glued)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];
		const char *rest = s->of & 1U << kind ? after_name(s, word)
						      : NULL;

		if (!rest)
			continue;
		*ret_glued = *rest ? rest + 1 : NULL;
		return s;
	}
	return NULL;
}

/* How many words an option that takes a value uses up. */
static int words_used(const char *glued, int left)
{
	return glued ? 1 : left < 2 ? CLI_WORDS_NO_VALUE : 2;
}

int cli_words_read(struct cli_words *w, int left, char *const *argv)
{
	const char *glued = NULL;
	const struct setting *s = setting_of(argv[0], w->kind, &glued);
	const struct vm_option *o;
	int used;

	if (s) {
		used = words_used(glued, left);
		if (used < 0 || w->n_set == CLI_WORDS)
			return used < 0 ? used : CLI_WORDS_TOO_MANY;
		w->set[w->n_set][0] = s->key;
		w->set[w->n_set++][1] = glued ? glued : argv[1];
		return used;
	}
	o = w->kind == CLI_WORDS_VM ? vm_option_find(argv[0], &glued) : NULL;
	if (!o)
		return 0;
	used = o->value ? words_used(glued, left) : 1;
	if (used < 0 || w->n_args + used > CLI_WORDS)
		return used < 0 ? used : CLI_WORDS_TOO_MANY;
	for (int i = 0; i < used; i++)
		w->args[w->n_args++] = argv[i];
	return used;
}

void cli_words_help(enum cli_words_kind kind, FILE *to)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];
		char left[64];

		if (!(s->of & 1U << kind))
			continue;
		snprintf(left, sizeof(left), "--%s %s", s->key, s->takes);
		fprintf(to, "  %c%c%c %-*s %s\n", s->letter ? '-' : ' ',
			s->letter ? s->letter : ' ', s->letter ? ',' : ' ',
			CLI_WORDS_COLUMN, left, s->help);
	}
}

static int put_setting(json_t *body, const char *key, const char *value,
		       struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];

		if (strcmp(s->key, key) != 0)
			continue;
		const int r = s->set(s->promise ? allocation(body) : body,
				     s->name, value, err);

		if (r)
			err_prefix(err, "%s: ", key);
		return r;
	}
	return err_set(
		err, -ENOENT,
		"there is no setting '%s', but memory, reservation, limit, shares, pool, group, sharing, floor, autostart; for pools parent and expandable",
		key);
}

static int put_word(json_t *body, const char *word, struct err *err)
{
	const char *equals = strchr(word, '=');
	char key[32];

	if (!equals || equals - word >= (long)sizeof(key))
		return err_set(err, -EINVAL, "'%s' is not KEY=VALUE", word);
	snprintf(key, sizeof(key), "%.*s", (int)(equals - word), word);
	return put_setting(body, key, equals + 1, err);
}

json_t *cli_words_settings(const struct cli_words *w, const char *const *words,
			   int n, struct err *err)
{
	json_t *body = json_object();
	int r = 0;

	for (int i = 0; i < w->n_set && !r; i++)
		r = put_setting(body, w->set[i][0], w->set[i][1], err);
	for (int i = 0; i < n && !r; i++)
		r = put_word(body, words[i], err);
	if (!r)
		return body;
	json_decref(body);
	return NULL;
}

/*
 * Files are named from where the person is; the VM is started from where mezzd is, which may
 * be anywhere on this machine.
 */
static json_t *absolute(const char *before, const char *path)
{
	char *here = path[0] == '/' || !path[0] ? NULL : getcwd(NULL, 0);
	json_t *text = here ? json_sprintf("%s%s/%s", before, here, path)
			    : json_sprintf("%s%s", before, path);

	free(here);
	return text;
}

static bool takes_file(const struct vm_option *o)
{
	return o && o->value && !strncmp(o->value, "FILE", 4);
}

json_t *cli_words_args(char *const *argv, int n, bool remote)
{
	json_t *list = json_array();

	for (int i = 0; i < n; i++) {
		const char *glued = NULL;
		const struct vm_option *o = vm_option_find(argv[i], &glued);
		const bool file = !remote && takes_file(o);
		char name[64];

		if (file && glued) {
			snprintf(name, sizeof(name), "--%s=", o->name);
			json_array_append_new(list, absolute(name, glued));
			continue;
		}
		json_array_append_new(list, json_string(argv[i]));
		if (!o || !o->value || glued || i + 1 == n)
			continue;
		i++;
		json_array_append_new(list, file ? absolute("", argv[i])
						 : json_string(argv[i]));
	}
	return list;
}
