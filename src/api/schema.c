/* SPDX-License-Identifier: Apache-2.0 */
/* Structs to JSON and back, by table. */
#include <api/schema.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/verify.h>

/* jansson has signed integers only. */
#define INT_MAX_WIRE ((uint64_t)INT64_MAX)

static uint64_t get_u64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void set_u64(void *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

static int wrong(const struct api_field *f, struct err *err, const char *what)
{
	return err_set(err, -EINVAL, "%s must be %s", f->name, what);
}

/* Strings */

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Bytes of the UTF-8 character at @s, or 0 if there is none. */
static size_t character(const char *s, size_t n)
{
	for (size_t len = 1; len <= 4 && len <= n; len++) {
		json_t *j = json_stringn(s, len);

		json_decref(j);
		if (j)
			return len;
	}
	return 0;
}

/*
 * Messages quote what clients sent, paths, and what programs said; and they are cut where
 * they are full. Such bytes must not keep anybody from getting an answer.
 */
static json_t *encode_bytes(const char *s, size_t n)
{
	char *text = malloc(n * strlen(REPLACEMENT) + 1);
	size_t len = 0;
	json_t *j;

	if (!text)
		return NULL;
	for (size_t at = 0; at < n;) {
		const size_t good = character(s + at, n - at);
		const char *from = good ? s + at : REPLACEMENT;
		const size_t more = good ? good : strlen(REPLACEMENT);

		memcpy(text + len, from, more);
		len += more;
		at += good ? good : 1;
	}
	j = json_stringn(text, len);
	free(text);
	return j;
}

static json_t *encode_string(const struct api_field *f, const void *p)
{
	const size_t n = strnlen(p, f->size);
	json_t *j = json_stringn(p, n);

	/* NULL for what is no UTF-8, which is seldom. */
	return j ? j : encode_bytes(p, n);
}

static int decode_string(const struct api_field *f, const json_t *j, void *p,
			 struct err *err)
{
	if (!json_is_string(j))
		return wrong(f, err, "a string");
	const size_t n = json_string_length(j);

	if (n >= f->size)
		return err_set(err, -ERANGE,
			       "%s is %zu bytes long, at most %zu are allowed",
			       f->name, n, f->size - 1);
	if (strlen(json_string_value(j)) != n)
		return wrong(f, err, "a string without NUL");
	memset(p, 0, f->size);
	memcpy(p, json_string_value(j), n);
	return 0;
}

/* Switches */

static json_t *encode_bool(const struct api_field *f, const void *p)
{
	bool v;

	(void)f;
	memcpy(&v, p, sizeof(v));
	return json_boolean(v);
}

static int decode_bool(const struct api_field *f, const json_t *j, void *p,
		       struct err *err)
{
	const bool v = json_is_true(j);

	if (!json_is_boolean(j))
		return wrong(f, err, "true or false");
	memcpy(p, &v, sizeof(v));
	return 0;
}

/* Whole numbers */

static json_t *encode_number_u64(uint64_t v)
{
	return json_integer((json_int_t)(v > INT_MAX_WIRE ? INT_MAX_WIRE : v));
}

static json_t *encode_uint(const struct api_field *f, const void *p)
{
	(void)f;
	return encode_number_u64(get_u64(p));
}

static int decode_range(const struct api_field *f, const json_t *j,
			uint64_t max, uint64_t *ret, struct err *err)
{
	if (!json_is_integer(j))
		return wrong(f, err, "a whole number");
	const json_int_t v = json_integer_value(j);

	if (v < 0 || (uint64_t)v < f->min || (uint64_t)v > max)
		return err_set(err, -ERANGE,
			       "%s is %" PRId64 ", it must be from %" PRIu64
			       " to %" PRIu64,
			       f->name, (int64_t)v, f->min, max);
	*ret = (uint64_t)v;
	return 0;
}

static int decode_uint(const struct api_field *f, const json_t *j, void *p,
		       struct err *err)
{
	uint64_t v = 0;
	const int r = decode_range(f, j, f->max ? f->max : INT_MAX_WIRE, &v,
				   err);

	if (!r)
		set_u64(p, v);
	return r;
}

static json_t *encode_uint32(const struct api_field *f, const void *p)
{
	uint32_t v;

	(void)f;
	memcpy(&v, p, sizeof(v));
	return json_integer(v);
}

static int decode_uint32(const struct api_field *f, const json_t *j, void *p,
			 struct err *err)
{
	uint64_t v = 0;
	const int r = decode_range(f, j, f->max ? f->max : UINT32_MAX, &v, err);
	const uint32_t v32 = (uint32_t)v;

	if (!r)
		memcpy(p, &v32, sizeof(v32));
	return r;
}

/* Amounts of memory */

static json_t *encode_pages(const struct api_field *f, const void *p)
{
	const uint64_t v = get_u64(p);

	(void)f;
	return encode_number_u64(v > INT_MAX_WIRE / PAGE_SIZE ? INT_MAX_WIRE
							      : v * PAGE_SIZE);
}

static int decode_pages(const struct api_field *f, const json_t *j, void *p,
			struct err *err)
{
	uint64_t v = 0;
	const int r = decode_range(f, j, INT_MAX_WIRE & PAGE_MASK, &v, err);

	if (r)
		return r;
	if (v % PAGE_SIZE)
		return err_set(
			err, -EINVAL,
			"%s is %" PRIu64
			" bytes, it must be a multiple of the page size, %" PRIu64,
			f->name, v, PAGE_SIZE);
	set_u64(p, v / PAGE_SIZE);
	return 0;
}

static json_t *encode_limit(const struct api_field *f, const void *p)
{
	return get_u64(p) == UINT64_MAX ? json_integer(-1) : encode_pages(f, p);
}

static int decode_limit(const struct api_field *f, const json_t *j, void *p,
			struct err *err)
{
	if (!json_is_integer(j) || json_integer_value(j) != -1)
		return decode_pages(f, j, p, err);
	set_u64(p, UINT64_MAX);
	return 0;
}

/* Other numbers */

static json_t *encode_number(const struct api_field *f, const void *p)
{
	double v;

	(void)f;
	memcpy(&v, p, sizeof(v));
	return json_real(v);
}

static int decode_number(const struct api_field *f, const json_t *j, void *p,
			 struct err *err)
{
	const double v = json_number_value(j);

	if (!json_is_number(j))
		return wrong(f, err, "a number");
	memcpy(p, &v, sizeof(v));
	return 0;
}

/* Words */

static json_t *encode_enum(const struct api_field *f, const void *p)
{
	unsigned int v, n = 0;

	memcpy(&v, p, sizeof(v));
	while (f->words[n])
		n++;
	VERIFY(v < n);
	return json_string(f->words[v]);
}

static void list_words(const char *const *words, char *buf, size_t size)
{
	size_t at = 0;

	buf[0] = 0;
	for (; *words && at < size; words++)
		at += (size_t)snprintf(buf + at, size - at, "%s%s",
				       at ? ", " : "", *words);
}

static int decode_enum(const struct api_field *f, const json_t *j, void *p,
		       struct err *err)
{
	char list[256];

	for (unsigned int i = 0; json_is_string(j) && f->words[i]; i++) {
		if (strcmp(json_string_value(j), f->words[i]))
			continue;
		memcpy(p, &i, sizeof(i));
		return 0;
	}
	list_words(f->words, list, sizeof(list));
	return err_set(err, -EINVAL, "%s must be one of: %s", f->name, list);
}

/* Objects and lists */

static json_t *encode_object(const struct api_field *f, const void *p)
{
	return api_encode(f->schema, p);
}

/* Missing members of a nested object keep their values too. */
static int decode_object(const struct api_field *f, const json_t *j, void *p,
			 struct err *err)
{
	const int r = api_decode(f->schema, j, API_CHANGE, p, err);

	if (r)
		err_prefix(err, "%s: ", f->name);
	return r;
}

static json_t *encode_array(const struct api_field *f, const void *p)
{
	const struct api_array *a = p;
	json_t *list = json_array();

	for (size_t i = 0; list && i < a->n; i++) {
		json_t *item = api_encode(f->schema,
					  (const char *)a->v +
						  i * f->schema->size);

		if (json_array_append_new(list, item)) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static int decode_array(const struct api_field *f, const json_t *j, void *p,
			struct err *err)
{
	struct api_array *a = p;
	const size_t n = json_array_size(j);

	if (!json_is_array(j) || n > API_ARRAY_MAX)
		return wrong(f, err, "a list");
	VERIFY(!a->v);
	a->v = calloc(n ? n : 1, f->schema->size);
	if (!a->v)
		return err_set(err, -ENOMEM, "no memory for %s", f->name);
	for (size_t i = 0; i < n; i++) {
		const int r = api_decode(f->schema, json_array_get(j, i),
					 API_WHOLE,
					 (char *)a->v + i * f->schema->size,
					 err);
		/* What was begun is released with the rest. */
		a->n = i + 1;
		if (r) {
			err_prefix(err, "%s[%zu]: ", f->name, i);
			return r;
		}
	}
	return 0;
}

static json_t *encode_strings(const struct api_field *f, const void *p)
{
	const struct api_strings *s = p;
	json_t *list = json_array();

	(void)f;
	for (unsigned int i = 0; list && i < s->n; i++) {
		if (json_array_append_new(list, json_string(s->v[i]))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* Append a copy. Return: 0, -E2BIG or -ENOMEM. */
static int api_strings_add(struct api_strings *strings, const char *text)
{
	if (strings->n == API_STRINGS_MAX)
		return -E2BIG;
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	strings->v[strings->n++] = copy;
	return 0;
}

static void api_strings_clear(struct api_strings *strings)
{
	for (unsigned int i = 0; i < strings->n; i++)
		free(strings->v[i]);
	memset(strings, 0, sizeof(*strings));
}

static int decode_strings(const struct api_field *f, const json_t *j, void *p,
			  struct err *err)
{
	struct api_strings *s = p;
	const json_t *item;
	size_t i;

	if (!json_is_array(j))
		return wrong(f, err, "a list of strings");
	if (json_array_size(j) > API_STRINGS_MAX)
		return err_set(err, -ERANGE,
			       "%s has %zu words, at most %d are allowed",
			       f->name, json_array_size(j), API_STRINGS_MAX);
	api_strings_clear(s);
	json_array_foreach(j, i, item)
	{
		if (!json_is_string(item) ||
		    strlen(json_string_value(item)) != json_string_length(item))
			return wrong(f, err, "a list of strings without NUL");
		if (api_strings_add(s, json_string_value(item)))
			return err_set(err, -ENOMEM, "no memory for %s",
				       f->name);
	}
	return 0;
}

struct type_ops {
	json_t *(*encode)(const struct api_field *f, const void *p);
	int (*decode)(const struct api_field *f, const json_t *j, void *p,
		      struct err *err);
	const char *type; /* in OpenAPI */
	const char *format;
};

static const struct type_ops types[] = {
	[API_STRING] = {encode_string, decode_string, "string", NULL},
	[API_BOOL] = {encode_bool, decode_bool, "boolean", NULL},
	[API_UINT] = {encode_uint, decode_uint, "integer", "int64"},
	[API_UINT32] = {encode_uint32, decode_uint32, "integer", "int64"},
	[API_PAGES] = {encode_pages, decode_pages, "integer", "int64"},
	[API_LIMIT] = {encode_limit, decode_limit, "integer", "int64"},
	[API_NS] = {encode_uint, decode_uint, "integer", "int64"},
	[API_NUMBER] = {encode_number, decode_number, "number", "double"},
	[API_ENUM] = {encode_enum, decode_enum, "string", NULL},
	[API_OBJECT] = {encode_object, decode_object, "object", NULL},
	[API_ARRAY] = {encode_array, decode_array, "array", NULL},
	[API_STRINGS] = {encode_strings, decode_strings, "array", NULL},
};
_Static_assert(ARRAY_SIZE(types) == API_TYPES, "one row per type");

json_t *api_encode(const struct api_schema *schema, const void *object)
{
	json_t *j = json_object();

	for (size_t i = 0; j && i < schema->n_fields; i++) {
		const struct api_field *f = &schema->fields[i];
		json_t *v = types[f->type].encode(f, (const char *)object +
							     f->offset);

		/* A member without a value is one that there was no memory for. */
		if (json_object_set_new(j, f->name, v)) {
			json_decref(j);
			return NULL;
		}
	}
	return j;
}

static const struct api_field *find_field(const struct api_schema *schema,
					  const char *name)
{
	for (size_t i = 0; i < schema->n_fields; i++)
		if (!strcmp(schema->fields[i].name, name))
			return &schema->fields[i];
	return NULL;
}

static int unknown_member(const struct api_schema *schema, const char *name,
			  struct err *err)
{
	char list[400];
	size_t at = 0;

	list[0] = 0;
	for (size_t i = 0; i < schema->n_fields && at < sizeof(list); i++)
		at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s",
				       i ? ", " : "", schema->fields[i].name);
	return err_set(err, -EINVAL, "there is no member '%.60s' here, but: %s",
		       name, list);
}

int api_decode(const struct api_schema *schema, const json_t *json,
	       enum api_decode_mode mode, void *object, struct err *err)
{
	/* jansson's iterators take objects that are not const. */
	union {
		const json_t *c;
		json_t *m;
	} from = {json};
	const char *name;
	json_t *value;

	if (!json_is_object(json))
		return err_set(err, -EINVAL, "%s must be an object",
			       schema->name);
	json_object_foreach(from.m, name, value)
	{
		const struct api_field *f = find_field(schema, name);

		if (!f)
			return unknown_member(schema, name, err);
		const int r = types[f->type].decode(f, value,
						    (char *)object + f->offset,
						    err);

		if (r)
			return r;
	}
	for (size_t i = 0; mode == API_WHOLE && i < schema->n_fields; i++) {
		const struct api_field *f = &schema->fields[i];

		if ((f->flags & API_REQUIRED) && !json_object_get(json, f->name))
			return err_set(err, -EINVAL, "%s is missing", f->name);
	}
	if (schema->decoded)
		schema->decoded(json, object);
	return 0;
}

int api_parse(const char *text, size_t len, json_t **ret, struct err *err)
{
	json_error_t e;
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);

	if (!j)
		return err_set(err, -EINVAL,
			       "this is not JSON: line %d, column %d: %s",
			       e.line, e.column, e.text);
	if (!json_is_object(j)) {
		json_decref(j);
		return err_set(err, -EINVAL, "this is JSON, but not an object");
	}
	*ret = j;
	return 0;
}

void api_release(const struct api_schema *schema, void *object)
{
	for (size_t i = 0; i < schema->n_fields; i++) {
		const struct api_field *f = &schema->fields[i];
		void *p = (char *)object + f->offset;

		if (f->type == API_OBJECT) {
			api_release(f->schema, p);
		} else if (f->type == API_STRINGS) {
			api_strings_clear(p);
		} else if (f->type == API_ARRAY) {
			struct api_array *a = p;

			for (size_t k = 0; k < a->n; k++)
				api_release(f->schema,
					    (char *)a->v + k * f->schema->size);
			free(a->v);
			*a = (struct api_array){0};
		}
	}
}

int api_strings_copy(struct api_strings *to, const struct api_strings *from)
{
	memset(to, 0, sizeof(*to));
	for (unsigned int i = 0; i < from->n; i++) {
		if (api_strings_add(to, from->v[i])) {
			api_strings_clear(to);
			return -ENOMEM;
		}
	}
	return 0;
}

static json_t *reference(const struct api_schema *schema)
{
	return json_pack("{s:o}", "$ref",
			 json_sprintf("#/components/schemas/%s", schema->name));
}

static void describe_numbers(const struct api_field *f, json_t *j)
{
	const bool amount = f->type == API_PAGES || f->type == API_LIMIT;

	if (f->type == API_LIMIT)
		json_object_set_new(j, "minimum", json_integer(-1));
	else
		json_object_set_new(j, "minimum", encode_number_u64(f->min));
	if (f->max)
		json_object_set_new(j, "maximum", encode_number_u64(f->max));
	if (amount)
		json_object_set_new(j, "x-unit", json_string("bytes"));
	if (f->type == API_NS)
		json_object_set_new(j, "x-unit", json_string("nanoseconds"));
}

static void describe_enum(const struct api_field *f, json_t *j)
{
	json_t *list = json_array();

	for (const char *const *w = f->words; list && *w; w++)
		json_array_append_new(list, json_string(*w));
	json_object_set_new(j, "enum", list);
}

static json_t *describe_field(const struct api_field *f)
{
	const struct type_ops *ops = &types[f->type];

	if (f->type == API_OBJECT)
		return reference(f->schema);
	json_t *j = json_pack("{s:s, s:s}", "type", ops->type, "description",
			      f->help);

	if (ops->format)
		json_object_set_new(j, "format", json_string(ops->format));
	if (!strcmp(ops->type, "integer"))
		describe_numbers(f, j);
	if (f->type == API_STRING)
		json_object_set_new(j, "maxLength",
				    json_integer((json_int_t)f->size - 1));
	if (f->type == API_ENUM)
		describe_enum(f, j);
	if (f->type == API_ARRAY)
		json_object_set_new(j, "items", reference(f->schema));
	if (f->type == API_STRINGS) {
		json_object_set_new(j, "items",
				    json_pack("{s:s}", "type", "string"));
		json_object_set_new(j, "maxItems",
				    json_integer(API_STRINGS_MAX));
	}
	return j;
}

json_t *api_describe(const struct api_schema *schema, enum api_decode_mode mode)
{
	json_t *properties = json_object(), *required = json_array();

	for (size_t i = 0; i < schema->n_fields; i++) {
		const struct api_field *f = &schema->fields[i];

		json_object_set_new(properties, f->name, describe_field(f));
		if (f->flags & API_REQUIRED)
			json_array_append_new(required, json_string(f->name));
	}
	json_t *j = json_pack("{s:s, s:s, s:o, s:b}", "type", "object",
			      "description", schema->help, "properties",
			      properties, "additionalProperties", 0);

	if (mode == API_WHOLE && json_array_size(required))
		json_object_set(j, "required", required);
	json_decref(required);
	return j;
}
