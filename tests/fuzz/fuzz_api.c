/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a request line, as the body of each kind of request, and as a stream of events. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <api/client.h>
#include <api/routes.h>
#include <base/verify.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A whole object that was read says the same when it is written and read again. */
static void check_schema(const struct api_schema *schema,
			 enum api_decode_mode mode, const json_t *j)
{
	void *object = calloc(1, schema->size), *again = calloc(1, schema->size);
	struct err err = {0};

	VERIFY(object && again);
	if (schema == &api_vm_config_schema) {
		api_vm_config_init(object);
		api_vm_config_init(again);
	}
	if (!api_decode(schema, j, mode, object, &err)) {
		json_t *out = api_encode(schema, object);

		VERIFY(out);
		if (mode == API_WHOLE) {
			VERIFY(!api_decode(schema, out, mode, again, &err));
			json_t *out_again = api_encode(schema, again);

			VERIFY(json_equal(out, out_again));
			json_decref(out_again);
		}
		json_decref(out);
	} else {
		VERIFY(err.text[0]);
	}
	api_release(schema, object);
	api_release(schema, again);
	free(object);
	free(again);
}

static void check_body(const char *text, size_t len)
{
	json_t *j = NULL;
	struct err err = {0};

	if (api_parse(text, len, &j, &err)) {
		VERIFY(err.text[0]);
		return;
	}
	VERIFY(json_is_object(j));
	for (const struct api_schema *const *s = api_schemas(); *s; s++) {
		check_schema(*s, API_WHOLE, j);
		check_schema(*s, API_CHANGE, j);
	}
	json_decref(j);
}

/* "METHOD PATH" up to the end of the first line. */
static void check_line(const char *text, size_t len)
{
	char line[512], name[API_NAME_MAX];
	enum api_op op = API_OPS;
	char *space;

	if (len >= sizeof(line) || memchr(text, 0, len))
		return;
	memcpy(line, text, len);
	line[len] = 0;
	space = strchr(line, ' ');
	if (!space)
		return;
	*space = 0;
	if (api_match(line, space + 1, &op, name) == API_MATCHED) {
		VERIFY(op < API_OPS);
		VERIFY(!strchr(name, '/'));
		VERIFY(!*name == !strstr(api_route(op)->path, "{name}"));
	}
	VERIFY(strlen(name) < API_NAME_MAX);
}

static bool on_event(void *ctx, const char *kind, const char *data)
{
	(void)ctx;
	VERIFY(strlen(kind) < sizeof(((struct sse *)0)->kind));
	VERIFY(data);
	return true;
}

/* In pieces of a size that the input chooses, as a network would. */
static void check_stream(const char *text, size_t len, size_t piece)
{
	struct sse sse;

	sse_init(&sse);
	for (size_t at = 0; at < len; at += piece) {
		const size_t n = len - at < piece ? len - at : piece;

		if (sse_feed(&sse, text + at, n, on_event, NULL))
			break;
	}
	sse_release(&sse);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	const char *end = size ? memchr(text, '\n', size) : NULL;
	const size_t line = end ? (size_t)(end - text) : size;

	check_line(text, line);
	if (end)
		check_body(end + 1, size - line - 1);
	check_stream(text, size, 1 + line % 7);
	return 0;
}
