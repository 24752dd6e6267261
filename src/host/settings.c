/* SPDX-License-Identifier: Apache-2.0 */
/* The settings of a VM that runs: lines of key=value. */
#include <host/settings.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <base/units.h>
#include <host/disk.h>

#define FILE_NAME "settings"
#define TEMP_NAME "settings.new"
#define TEXT_MAX  1024
/* The file, and its place in the folder. */
#define ROOM_BYTES 8192

static int write_text(int dir_fd, const char *text, size_t len)
{
	const int fd = openat(dir_fd, TEMP_NAME,
			      O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n != (ssize_t)len) {
		const int r = n < 0 ? -errno : -ENOSPC;

		close(fd);
		unlinkat(dir_fd, TEMP_NAME, 0);
		return r;
	}
	close(fd);
	return renameat(dir_fd, TEMP_NAME, dir_fd, FILE_NAME) < 0 ? -errno : 0;
}

int settings_write(int dir_fd, const struct settings_file *s, struct err *err)
{
	char alloc[ALLOC_TEXT];
	char text[TEXT_MAX];
	const int len = snprintf(text, sizeof(text),
				 "name=%s pool=%s group=%s size=%" PRIu64
				 " floor=%" PRIu64 " share=%d group_ino=%" PRIu64
				 " start_ms=%" PRIu64
				 " pid=%d pid_ticks=%" PRIu64 " %s\n",
				 s->vm.name, s->vm.pool, s->vm.group,
				 s->vm.size_pages, s->vm.floor_pages,
				 s->vm.share, (uint64_t)s->group_ino,
				 s->start_ms, (int)s->pid, s->pid_ticks,
				 mem_alloc_format(&s->vm.alloc, alloc));
	const int r = write_text(dir_fd, text, (size_t)len);
	char why[DISK_TEXT];

	return r ? err_set(err, r, "cannot write the settings of VM %s: %s",
			   s->vm.name,
			   disk_error_at(-r, dir_fd, ROOM_BYTES, why))
		 : 0;
}

static int set_name(char to[HOST_NAME_SIZE], const char *value)
{
	if (strlen(value) >= HOST_NAME_SIZE)
		return -EBADMSG;
	snprintf(to, HOST_NAME_SIZE, "%s", value);
	return 0;
}

static int set_number(uint64_t *to, const char *value)
{
	struct err ignored;

	return number_parse(value, 0, UINT64_MAX, to, &ignored) ? -EBADMSG : 0;
}

static int set_one(struct settings_file *s, const char *key, const char *value)
{
	struct err ignored;
	uint64_t n = 0;
	int r;

	if (!strcmp(key, "name"))
		return set_name(s->vm.name, value);
	if (!strcmp(key, "pool"))
		return set_name(s->vm.pool, value);
	if (!strcmp(key, "group"))
		return set_name(s->vm.group, value);
	if (!strcmp(key, "size"))
		return set_number(&s->vm.size_pages, value);
	if (!strcmp(key, "floor"))
		return set_number(&s->vm.floor_pages, value);
	if (!strcmp(key, "start_ms"))
		return set_number(&s->start_ms, value);
	if (!strcmp(key, "share")) {
		r = set_number(&n, value);
		s->vm.share = n;
		return r;
	}
	if (!strcmp(key, "pid_ticks"))
		return set_number(&s->pid_ticks, value);
	if (!strcmp(key, "pid")) {
		r = set_number(&n, value);
		s->pid = n <= INT32_MAX ? (pid_t)n : 0;
		return r;
	}
	if (!strcmp(key, "group_ino")) {
		r = set_number(&n, value);
		s->group_ino = (ino_t)n;
		return r;
	}
	return mem_alloc_set(&s->vm.alloc, key, value, &ignored) ? -EBADMSG : 0;
}

static int parse(struct settings_file *s, char *text)
{
	char *save = NULL;
	int r = 0;

	for (char *word = strtok_r(text, " \n", &save); word && !r;
	     word = strtok_r(NULL, " \n", &save)) {
		char *value = strchr(word, '=');

		if (!value)
			return -EBADMSG;
		*value++ = '\0';
		r = set_one(s, word, value);
	}
	return r ? r : s->vm.name[0] && s->vm.size_pages ? 0 : -EBADMSG;
}

int settings_read(int dir_fd, struct settings_file *ret, struct err *err)
{
	struct settings_file s = {0};
	char text[TEXT_MAX];
	ssize_t n;
	int r;
	const int fd = openat(dir_fd, FILE_NAME, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_set(err, -errno, "cannot open settings: %s",
			       strerror(errno));
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n < 0)
		return err_set(err, -errno, "cannot read settings: %s",
			       strerror(errno));
	text[n] = '\0';
	mem_alloc_init(&s.vm.alloc);
	r = parse(&s, text);
	if (r)
		return err_set(err, r, "the settings are damaged");
	*ret = s;
	return 0;
}

struct text {
	char *buf;
	size_t len;
};

static void add(struct text *t, const char *what, const char *value)
{
	const int n = snprintf(t->buf + t->len, SETTINGS_CHANGES - t->len,
			       "%s%s %s", t->len ? ", " : "", what, value);

	t->len += (size_t)n;
	if (t->len >= SETTINGS_CHANGES)
		t->len = SETTINGS_CHANGES - 1;
}

static void add_pages(struct text *t, const char *what, uint64_t from,
		      uint64_t to)
{
	char value[UNITS_TEXT];

	if (from != to)
		add(t, what,
		    to == ALLOC_UNLIMITED ? "unlimited"
					  : size_format(to * PAGE_SIZE, value));
}

static void add_shares(struct text *t, const struct mem_alloc *from,
		       const struct mem_alloc *to)
{
	char number[UNITS_TEXT];

	if (from->level == to->level &&
	    (to->level != SHARES_CUSTOM || from->shares == to->shares))
		return;
	snprintf(number, sizeof(number), "%" PRIu32, to->shares);
	add(t, "shares",
	    to->level == SHARES_CUSTOM ? number : shares_level_name(to->level));
}

const char *settings_changes(const struct host_vm_settings *from,
			     const struct host_vm_settings *to,
			     char buf[SETTINGS_CHANGES])
{
	struct text t = {.buf = buf};

	buf[0] = '\0';
	add_pages(&t, "reservation", from->alloc.reservation_pages,
		  to->alloc.reservation_pages);
	add_pages(&t, "limit", from->alloc.limit_pages, to->alloc.limit_pages);
	add_shares(&t, &from->alloc, &to->alloc);
	add_pages(&t, "floor", from->floor_pages, to->floor_pages);
	if (strcmp(from->pool, to->pool) != 0)
		add(&t, "pool", to->pool[0] ? to->pool : "(host)");
	if (from->share != to->share)
		add(&t, "sharing", to->share ? "on" : "off");
	return buf;
}
