/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events, as far as mezzd sends them: event, data and comments. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <api/client.h>

#define SSE_MAX (UINT64_C(64) << 20)

void sse_init(struct sse *sse)
{
	memset(sse, 0, sizeof(*sse));
	strcpy(sse->kind, "message");
}

void sse_release(struct sse *sse)
{
	free(sse->line);
	free(sse->data);
	memset(sse, 0, sizeof(*sse));
}

static int append(struct sse *sse, const char *bytes, size_t n)
{
	if (sse->len + n > SSE_MAX)
		return -EFBIG;
	if (sse->len + n + 1 > sse->room) {
		const size_t room = 2 * (sse->len + n + 1);
		char *line = realloc(sse->line, room);

		if (!line)
			return -ENOMEM;
		sse->line = line;
		sse->room = room;
	}
	memcpy(sse->line + sse->len, bytes, n);
	sse->len += n;
	sse->line[sse->len] = 0;
	return 0;
}

/* Several lines of data are one text with newlines between them. */
static int add_data(struct sse *sse, const char *value)
{
	char *data;

	if (!sse->data) {
		sse->data = strdup(value);
		return sse->data ? 0 : -ENOMEM;
	}
	if (strlen(sse->data) + strlen(value) > SSE_MAX)
		return -EFBIG;
	if (asprintf(&data, "%s\n%s", sse->data, value) < 0)
		return -ENOMEM;
	free(sse->data);
	sse->data = data;
	return 0;
}

static int end_event(struct sse *sse,
		     bool (*on_event)(void *ctx, const char *kind,
				      const char *data),
		     void *ctx)
{
	const bool more = !sse->data || on_event(ctx, sse->kind, sse->data);

	free(sse->data);
	sse->data = NULL;
	strcpy(sse->kind, "message");
	return more ? 0 : 1;
}

static int take_line(struct sse *sse,
		     bool (*on_event)(void *ctx, const char *kind,
				      const char *data),
		     void *ctx)
{
	char *line = sse->len ? sse->line : NULL;
	int r = 0;

	if (line && line[sse->len - 1] == '\r')
		line[--sse->len] = 0;
	if (!sse->len)
		return end_event(sse, on_event, ctx);
	char *value = strchr(line, ':');

	if (value) {
		*value++ = 0;
		value += *value == ' ';
	}
	if (!strcmp(line, "event"))
		snprintf(sse->kind, sizeof(sse->kind), "%s", value ? value : "");
	else if (!strcmp(line, "data"))
		r = add_data(sse, value ? value : "");
	sse->len = 0;
	return r;
}

int sse_feed(struct sse *sse, const char *bytes, size_t n,
	     bool (*on_event)(void *ctx, const char *kind, const char *data),
	     void *ctx)
{
	while (n) {
		const char *end = memchr(bytes, '\n', n);
		const size_t len = end ? (size_t)(end - bytes) : n;
		int r = append(sse, bytes, len);

		if (!r && end)
			r = take_line(sse, on_event, ctx);
		if (r)
			return r;
		bytes += len + !!end;
		n -= len + !!end;
	}
	return 0;
}
