/* SPDX-License-Identifier: Apache-2.0 */
/* What may be asked of mezzd: one table from which requests are matched and described. */
#ifndef API_ROUTES_H
#define API_ROUTES_H
#include <api/types.h>

enum api_op {
	API_PAGE,
	API_OPENAPI,
	API_METRICS,
	API_EVENTS,
	API_GET_HOST,
	API_GET_SNAPSHOT,
	API_GET_AUDIT,
	API_LIST_VMS,
	API_CREATE_VM,
	API_GET_VM,
	API_SET_VM,
	API_REMOVE_VM,
	API_START_VM,
	API_STOP_VM_OP,
	API_MAP_VM,
	API_LIST_POOLS,
	API_SET_POOL,
	API_REMOVE_POOL,
	API_LIST_OPTIONS,
	API_SET_OPTION,
	API_OPS,
};

/**
 * struct api_query - one parameter of a request's query.
 * @name: word; NULL ends a list
 * @max: largest value
 * @help: one line
 */
struct api_query {
	const char *name;
	uint64_t max;
	const char *help;
};

#define API_QUERY_MAX 4

/**
 * struct api_route - one kind of request.
 * @method: of HTTP
 * @path: may contain one {name} segment
 * @request: schema of the body, or NULL
 * @mode: how much of @request must be there
 * @reply: schema of the answer; NULL: @content_type says what it is
 * @content_type: of an answer that is not JSON
 * @status: of success
 * @open: answered without a token
 * @help: one line
 * @query: parameters
 */
struct api_route {
	const char *method;
	const char *path;
	const struct api_schema *request;
	enum api_decode_mode mode;
	const struct api_schema *reply;
	const char *content_type;
	unsigned int status;
	bool open;
	const char *help;
	struct api_query query[API_QUERY_MAX + 1];
};

/** api_route() - the row of an operation. */
const struct api_route *api_route(enum api_op op);

enum api_match {
	API_MATCHED,
	API_NO_PATH,
	API_NO_METHOD, /* the path is there, for other methods */
};

/**
 * api_match() - which operation a request line asks for.
 * @method: word
 * @path: decoded, without the query
 * @ret_op: set if it matched
 * @name: set to the {name} segment, or empty
 *
 * Return: see enum api_match.
 */
enum api_match api_match(const char *method, const char *path,
			 enum api_op *ret_op, char name[API_NAME_MAX]);

/**
 * api_openapi() - the OpenAPI 3 description of all of it.
 * @version: of the program
 *
 * Return: a new reference, or NULL without memory.
 */
json_t *api_openapi(const char *version);

/** api_status() - HTTP status for a negative errno. */
unsigned int api_status(int error);

#endif
