/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables that say how a struct looks in JSON.
 *
 * One table per object serves the encoder, the decoder, the OpenAPI description and the
 * metrics, so that these cannot differ. A decoder refuses what its table does not name.
 */
#ifndef API_SCHEMA_H
#define API_SCHEMA_H
#include <jansson.h>

#include <base/error.h>
#include <base/types.h>

#define API_STRINGS_MAX 64
#define API_ARRAY_MAX   UINT32_C(1000000)

enum api_type {
	API_STRING,  /* char[] in place */
	API_BOOL,    /* bool */
	API_UINT,    /* uint64_t */
	API_UINT32,  /* uint32_t */
	API_PAGES,   /* uint64_t, pages here and bytes in JSON */
	API_LIMIT,   /* the same; UINT64_MAX here is -1 in JSON: none */
	API_NS,      /* uint64_t, nanoseconds */
	API_NUMBER,  /* double */
	API_ENUM,    /* an enum, one of @words in JSON */
	API_OBJECT,  /* a struct in place */
	API_ARRAY,   /* struct api_array of structs */
	API_STRINGS, /* struct api_strings */
	API_TYPES,
};

/**
 * struct api_array - a list of structs; owned, ended with api_release().
 * @v: @n structs of the field's schema
 * @n: how many
 */
struct api_array {
	void *v;
	size_t n;
};

/**
 * struct api_strings - a list of strings; owned, ended with api_release().
 * @n: how many
 * @v: @n strings
 */
struct api_strings {
	unsigned int n;
	char *v[API_STRINGS_MAX];
};

struct api_schema;

enum api_field_flag {
	API_REQUIRED = 1 << 0, /* must be there when the whole object is given */
	API_COUNTER = 1 << 1,  /* only ever grows */
	API_NO_METRIC = 1 << 2,
};

/**
 * struct api_field - one member.
 * @name: in JSON
 * @type: of the member
 * @offset: in the struct
 * @size: of the member
 * @flags: set of enum api_field_flag
 * @min: API_UINT and API_UINT32: smallest value; API_PAGES: smallest, in bytes
 * @max: API_UINT and API_UINT32: largest value; 0 for whatever fits
 * @words: API_ENUM: names by value, ended by NULL
 * @schema: API_OBJECT and API_ARRAY: of the struct inside
 * @help: one line
 */
struct api_field {
	const char *name;
	enum api_type type;
	size_t offset;
	size_t size;
	unsigned int flags;
	uint64_t min;
	uint64_t max;
	const char *const *words;
	const struct api_schema *schema;
	const char *help;
};

/**
 * struct api_schema - one kind of object.
 * @name: in the OpenAPI description
 * @help: one line
 * @fields: the members
 * @n_fields: how many
 * @size: of the struct
 * @decoded: called after decoding to settle what one member means for another; or NULL
 */
struct api_schema {
	const char *name;
	const char *help;
	const struct api_field *fields;
	size_t n_fields;
	size_t size;
	void (*decoded)(const json_t *from, void *object);
};

/**
 * api_encode() - a struct as JSON; what is no UTF-8 in its strings becomes U+FFFD.
 *
 * Return: a new reference, NULL without memory.
 */
json_t *api_encode(const struct api_schema *schema, const void *object);

enum api_decode_mode {
	API_WHOLE,  /* required members must be there */
	API_CHANGE, /* what is not there stays as it is */
};

/**
 * api_decode() - read JSON into a struct.
 * @schema: of the struct
 * @json: any value
 * @mode: whether members may be missing
 * @object: filled; members that are not named keep their values
 * @err: names the member and says what was wrong with it
 *
 * On failure the struct is partly changed: decode into a copy, and release that.
 *
 * Return: 0, -EINVAL, -ERANGE or -ENOMEM.
 */
int api_decode(const struct api_schema *schema, const json_t *json,
	       enum api_decode_mode mode, void *object, struct err *err)
	__attribute__((warn_unused_result));

/**
 * api_parse() - read text as JSON: one object, no member twice, no depth without end.
 * @text: not ended by NUL
 * @len: of @text
 * @ret: new reference
 * @err: says where and what was wrong
 *
 * Return: 0 or -EINVAL.
 */
int api_parse(const char *text, size_t len, json_t **ret, struct err *err)
	__attribute__((warn_unused_result));

/** api_release() - free what decoding allocated inside a struct, and clear it. */
void api_release(const struct api_schema *schema, void *object);

/** api_strings_copy() - deep copy; @to is overwritten, not freed. Return: 0 or -ENOMEM. */
int api_strings_copy(struct api_strings *to, const struct api_strings *from)
	__attribute__((warn_unused_result));

/** api_describe() - JSON schema of an object, as OpenAPI 3 wants it. NULL without memory. */
json_t *api_describe(const struct api_schema *schema, enum api_decode_mode mode);

#endif
