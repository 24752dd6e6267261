/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a VM: one table, from which both the parser and the help text come. */
#include <vm/config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <api/vm_options.h>
#include <base/units.h>

/* Position of a word in a comma-free, NULL-ended list, or -1. */
static int word_index(const char *const *words, const char *word)
{
	for (int i = 0; words[i]; i++)
		if (!strcmp(words[i], word))
			return i;
	return -1;
}

static int set_string(char **to, const char *value, struct err *err)
{
	char *copy = strdup(value);

	if (!copy)
		return err_set(err, -ENOMEM, "no memory for the options");
	free(*to);
	*to = copy;
	return 0;
}

/* Each adds to the ones before. */
static int add_words(char **to, const char *value, char separator,
		     struct err *err)
{
	char *joined;

	if (!*to || !**to)
		return set_string(to, value, err);
	if (asprintf(&joined, "%s%c%s", *to, separator, value) < 0)
		return err_set(err, -ENOMEM, "no memory for the options");
	free(*to);
	*to = joined;
	return 0;
}

static int bad(struct err *err, const char *option, const char *value,
	       const char *expected)
{
	return err_set(err, -EINVAL, "--%s: '%s' is not %s", option, value,
		       expected);
}

void vm_config_init(struct vm_config *cfg)
{
	memset(cfg, 0, sizeof(*cfg));
	cfg->memory_bytes = UINT64_C(512) << 20;
	cfg->mmu_options = mmu_options_default();
	cfg->features.n_cpus = 1;
	cfg->revoke_seed = 1;
	cfg->balloon = true;
}

void vm_config_release(struct vm_config *cfg)
{
	free(cfg->kernel);
	free(cfg->initrd);
	free(cfg->append);
	free(cfg->exec);
	free(cfg->stats_path);
	free(cfg->link_dir);
	free(cfg->console_path);
	free(cfg->net.words);
	free(cfg->net.socket);
	for (unsigned int i = 0; i < cfg->n_disks; i++)
		free(cfg->disks[i].path);
	memset(cfg, 0, sizeof(*cfg));
}

/* What follows the last comma of a disk, if it is a word of ours. */
static bool disk_mode(const char *word, enum virtio_blk_mode *ret)
{
	static const char *const words[] = {",ro", ",snapshot", NULL};
	const int i = word ? word_index(words, word) : -1;

	if (i < 0)
		return false;
	*ret = i ? VIRTIO_BLK_SNAPSHOT : VIRTIO_BLK_RO;
	return true;
}

static int add_disk(struct vm_config *cfg, const char *value, struct err *err)
{
	struct vm_disk_config *d = &cfg->disks[cfg->n_disks];
	const char *comma = strrchr(value, ',');
	size_t len = strlen(value);

	if (cfg->n_disks == VM_DISKS_MAX)
		return err_set(err, -EINVAL, "--disk: at most %d disks",
			       VM_DISKS_MAX);
	d->mode = VIRTIO_BLK_RW;
	if (disk_mode(comma, &d->mode))
		len = (size_t)(comma - value);
	if (!len)
		return bad(err, "disk", value, "FILE, FILE,ro or FILE,snapshot");
	d->path = strndup(value, len);
	if (!d->path)
		return err_set(err, -ENOMEM, "no memory for the options");
	cfg->n_disks++;
	return 0;
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
	int end = 0;

	return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0],
		      &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &end) == 6 &&
	       !text[end];
}

/* Words of mezz-net's are only passed on: it knows them. */
static int net_word(struct vm_net_config *net, const char *word, struct err *err)
{
	if (!strncmp(word, "mac=", 4)) {
		if (!parse_mac(word + 4, net->mac) || net->mac[0] & 1)
			return bad(err, "net", word,
				   "mac= and the address of one card");
		return 0;
	}
	if (!net->user)
		return bad(err, "net", word, "mac=…, which a socket may have");
	return add_words(&net->words, word, ',', err);
}

static int set_net(struct vm_config *cfg, const char *value, struct err *err)
{
	struct vm_net_config *net = &cfg->net;
	char *copy = strdup(value);
	char *rest = copy;
	const char *first = strsep(&rest, ",");
	int r = 0;

	if (!copy)
		return err_set(err, -ENOMEM, "no memory for the options");
	if (vm_config_has_net(cfg))
		r = err_set(err, -EINVAL, "--net: a VM has one network card");
	else if (!strcmp(first, "user"))
		net->user = true;
	else if (strchr(first, '/'))
		r = set_string(&net->socket, first, err);
	else
		r = bad(err, "net", first,
			"'user' or the path of a socket, with a slash in it");
	for (char *w; !r && (w = strsep(&rest, ","));)
		r = net_word(net, w, err);
	free(copy);
	return r;
}

/* Apply @set to each word of a comma-separated list. */
static int each_word(const char *option, const char *value,
		     const char *const *known,
		     void (*set)(struct vm_config *cfg, int word),
		     struct vm_config *cfg, struct err *err)
{
	char *copy = strdup(value);
	char *rest = copy;
	int r = 0;

	if (!copy)
		return err_set(err, -ENOMEM, "no memory for the options");
	for (char *w; !r && (w = strsep(&rest, ","));) {
		const int i = word_index(known, w);

		if (i < 0)
			r = err_set(err, -EINVAL, "--%s: '%s' is not known",
				    option, w);
		else
			set(cfg, i);
	}
	free(copy);
	return r;
}

static const char *const without_words[] = {"caches", "large",     "prefetch",
					    "unsync", "translate", NULL};

static void set_without(struct vm_config *cfg, int word)
{
	struct mmu_options *o = &cfg->mmu_options;
	bool *const fields[] = {&o->structure_caches, &o->large_pages,
				&o->prefetch, &o->out_of_sync};

	if (word == (int)ARRAY_SIZE(fields))
		cfg->features.no_translate = true;
	else
		*fields[word] = false;
}

static const char *const cpu_words[] = {"pcid",   "fsgsbase", "pku",    "umip",
					"x2apic", "nosmap",   "nosmep", NULL};

static void set_cpu(struct vm_config *cfg, int word)
{
	struct cpu_features *f = &cfg->features;
	bool *const fields[] = {&f->pcid,   &f->fsgsbase, &f->pku,    &f->umip,
				&f->x2apic, &f->no_smap,  &f->no_smep};

	*fields[word] = true;
}

static int set_memory(struct vm_config *cfg, const char *value, struct err *err)
{
	uint64_t bytes;

	if (size_parse_bytes(value, &bytes, NULL))
		return bad(err, "memory", value, "a size such as 512M or 2G");
	if (bytes < VM_MEMORY_MIN || bytes > VM_MEMORY_MAX || bytes % PAGE_SIZE)
		return err_set(
			err, -EINVAL,
			"--memory: %s is not between 16M and 512G in steps of 4K",
			value);
	cfg->memory_bytes = bytes;
	return 0;
}

static int set_cpus(struct vm_config *cfg, const char *value, struct err *err)
{
	uint64_t n;

	if (number_parse(value, 1, VM_CPUS_MAX, &n, NULL))
		return bad(err, "cpus", value, "a number from 1 to 16");
	cfg->features.n_cpus = (uint32_t)n;
	return 0;
}

static int set_word(const char *option, const char *value,
		    const char *const *words, const char *expected, int *ret,
		    struct err *err)
{
	*ret = word_index(words, value);
	return *ret < 0 ? bad(err, option, value, expected) : 0;
}

static int set_size(const char *option, const char *value, uint64_t *ret,
		    struct err *err)
{
	return size_parse_bytes(value, ret, NULL)
		       ? bad(err, option, value, "a size")
		       : 0;
}

static int set_balloon(struct vm_config *cfg, const char *value, struct err *err)
{
	uint64_t bytes = 0;

	cfg->balloon = strcmp(value, "off") != 0;
	if (cfg->balloon && strcmp(value, "on") &&
	    (size_parse_bytes(value, &bytes, NULL) || bytes % PAGE_SIZE))
		return bad(err, "balloon", value,
			   "on, off or a size in steps of 4K");
	cfg->balloon_bytes = bytes;
	return 0;
}

static int set_number(const char *option, const char *value, uint64_t max,
		      uint64_t *ret, struct err *err)
{
	return number_parse(value, 0, max, ret, NULL)
		       ? bad(err, option, value, "a number in range")
		       : 0;
}

static int set_timeout(struct vm_config *cfg, const char *value, struct err *err)
{
	return duration_parse(value, &cfg->timeout_ms, NULL)
		       ? bad(err, "timeout", value,
			     "a time such as 90, 90s, 5min or 1h, at most a year")
		       : 0;
}

static int apply(struct vm_config *cfg, const struct vm_option *o,
		 const char *value, struct err *err)
{
	static const char *const protocols[] = {"auto", "linux64", "pvh",
						"multiboot", NULL};
	static const char *const engines[] = {"auto", "soft", "kvm", NULL};
	static const char *const mmus[] = {"auto", "software", "hardware", NULL};
	static const char *const clocks[] = {"host", "instructions", NULL};
	int word = 0, r = 0;

	switch (o->id) {
	case VM_OPT_MEMORY:
		return set_memory(cfg, value, err);
	case VM_OPT_CPUS:
		return set_cpus(cfg, value, err);
	case VM_OPT_KERNEL:
		return set_string(&cfg->kernel, value, err);
	case VM_OPT_INITRD:
		return set_string(&cfg->initrd, value, err);
	case VM_OPT_APPEND:
		return add_words(&cfg->append, value, ' ', err);
	case VM_OPT_EXEC:
		return set_string(&cfg->exec, value, err);
	case VM_OPT_BARE:
		cfg->bare = true;
		return 0;
	case VM_OPT_PROTOCOL:
		r = set_word(o->name, value, protocols, o->value, &word, err);
		cfg->protocol = (enum boot_protocol)word;
		return r;
	case VM_OPT_DISK:
		return add_disk(cfg, value, err);
	case VM_OPT_NET:
		return set_net(cfg, value, err);
	case VM_OPT_ENGINE:
		r = set_word(o->name, value, engines, o->value, &word, err);
		cfg->engine = (enum vm_engine)word;
		return r;
	case VM_OPT_MMU:
		r = set_word(o->name, value, mmus, o->value, &word, err);
		cfg->mmu = (enum vm_mmu)word;
		return r;
	case VM_OPT_SHADOW_MEMORY:
		return set_size(o->name, value, &cfg->mmu_options.shadow_bytes,
				err);
	case VM_OPT_WITHOUT:
		return each_word(o->name, value, without_words, set_without,
				 cfg, err);
	case VM_OPT_TRANSLATE_AT_ONCE:
		cfg->features.translate_at_once = true;
		return 0;
	case VM_OPT_CPU:
		return each_word(o->name, value, cpu_words, set_cpu, cfg, err);
	case VM_OPT_CLOCK:
		r = set_word(o->name, value, clocks, o->value, &word, err);
		cfg->clock = (enum vm_clock)word;
		return r;
	case VM_OPT_STATS:
		return set_string(&cfg->stats_path, value, err);
	case VM_OPT_TIMEOUT:
		return set_timeout(cfg, value, err);
	case VM_OPT_REVOKE_STRESS:
		return set_number(o->name, value, 10000000, &cfg->revoke_stress,
				  err);
	case VM_OPT_REVOKE_SEED:
		return set_number(o->name, value, UINT64_MAX, &cfg->revoke_seed,
				  err);
	case VM_OPT_AUDIT:
		return set_number(o->name, value, UINT32_MAX, &cfg->audit_every,
				  err);
	case VM_OPT_MEMORY_LIMIT:
		return set_size(o->name, value, &cfg->memory_limit_bytes, err);
	case VM_OPT_LINK:
		return set_string(&cfg->link_dir, value, err);
	case VM_OPT_BALLOON:
		return set_balloon(cfg, value, err);
	case VM_OPT_CONSOLE:
		return set_string(&cfg->console_path, value, err);
	case VM_OPT_EXIT_PORT:
		cfg->exit_port = true;
		return 0;
	case VM_OPT_VERBOSE:
		cfg->verbose = true;
		return 0;
	case VM_OPT_HELP:
		return 1;
	}
	return 0;
}

int vm_config_parse(struct vm_config *cfg, int argc, char *const argv[],
		    struct err *err)
{
	for (int i = 0; i < argc; i++) {
		const char *value;
		const struct vm_option *o = vm_option_find(argv[i], &value);

		if (!o)
			return err_set(err, -EINVAL,
				       "unknown option '%s' (see --help)",
				       argv[i]);
		if (o->value && !value) {
			if (i + 1 == argc)
				return err_set(err, -EINVAL,
					       "--%s needs a value: %s",
					       o->name, o->value);
			value = argv[++i];
		}
		const int r = apply(cfg, o, value, err);

		if (r)
			return r;
	}
	return 0;
}

static int default_file(char **to, const char *dir, const char *name,
			struct err *err)
{
	if (asprintf(to, "%s/%s", dir, name) < 0) {
		*to = NULL;
		return err_set(err, -ENOMEM, "no memory for the options");
	}
	if (access(*to, R_OK))
		return err_set(
			err, -ENOENT,
			"no --kernel given, and %s is not there: 'make guest' builds the guest image, and 'meson install' puts it in place",
			*to);
	return 0;
}

int vm_config_complete(struct vm_config *cfg, const char *image_dir,
		       struct err *err)
{
	int r = 0;

	if (vm_config_has_net(cfg) && cfg->clock == VM_CLOCK_INSTRUCTIONS)
		return err_set(
			err, -EINVAL,
			"--net: what comes from outside is not repeatable, as --clock instructions is");
	cfg->features.repeatable = cfg->clock == VM_CLOCK_INSTRUCTIONS;
	cfg->mmu_options.mode = cfg->mmu == VM_MMU_SOFTWARE ? MMU_SOFTWARE
							    : MMU_HARDWARE;
	if (cfg->kernel)
		return 0;
	r = default_file(&cfg->kernel, image_dir, "vmlinuz", err);
	if (!r && !cfg->initrd)
		r = default_file(&cfg->initrd, image_dir, "initramfs.cpio", err);
	return r;
}
