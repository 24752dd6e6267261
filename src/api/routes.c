/* SPDX-License-Identifier: Apache-2.0 */
/* The table of routes, how requests are matched with it, and its OpenAPI description. */
#include <api/routes.h>

#include <errno.h>
#include <string.h>

#define NAME_SEGMENT "{name}"

/* clang-format off */
static const struct api_route routes[] = {
	[API_PAGE] = {.method = "GET", .path = "/", .content_type = "text/html", .status = 200,
		.open = true, .help = "A page that shows and sets all of this."},
	[API_OPENAPI] = {.method = "GET", .path = "/openapi.json", .content_type = "application/json",
		.status = 200, .open = true, .help = "This description."},
	[API_METRICS] = {.method = "GET", .path = "/metrics", .content_type = "text/plain",
		.status = 200, .help = "Figures in Prometheus' text format."},
	[API_EVENTS] = {.method = "GET", .path = "/v1/events", .content_type = "text/event-stream",
		.status = 200,
		.help = "Server-sent events: 'event' carries an Event, 'snapshot' a Snapshot.",
		.query = {{"since", INT64_MAX, "begin after this seq; without it with what happens from now on"},
			{"snapshots", 3600000, "send a snapshot every so many ms, at least 250; 0: none"}}},
	[API_GET_HOST] = {.method = "GET", .path = "/v1/host", .reply = &api_host_schema, .status = 200,
		.help = "Figures of the host."},
	[API_GET_SNAPSHOT] = {.method = "GET", .path = "/v1/snapshot", .reply = &api_snapshot_schema,
		.status = 200, .help = "Everything at one moment."},
	[API_GET_AUDIT] = {.method = "GET", .path = "/v1/audit", .reply = &api_audit_schema, .status = 200,
		.help = "Recompute all bookkeeping and compare; stops moving meanwhile."},
	[API_LIST_VMS] = {.method = "GET", .path = "/v1/vms", .reply = &api_vms_schema, .status = 200,
		.help = "All VMs that are defined."},
	[API_CREATE_VM] = {.method = "POST", .path = "/v1/vms", .request = &api_vm_config_schema,
		.mode = API_WHOLE, .reply = &api_vm_schema, .status = 201, .help = "Define a VM."},
	[API_GET_VM] = {.method = "GET", .path = "/v1/vms/{name}", .reply = &api_vm_schema, .status = 200,
		.help = "One VM."},
	[API_SET_VM] = {.method = "PATCH", .path = "/v1/vms/{name}", .request = &api_vm_config_schema,
		.mode = API_CHANGE, .reply = &api_vm_schema, .status = 200,
		.help = "Change a definition; at once, but for size, group and args of a VM that runs."},
	[API_REMOVE_VM] = {.method = "DELETE", .path = "/v1/vms/{name}", .reply = &api_empty_schema,
		.status = 200, .help = "Remove the definition of a VM that does not run."},
	[API_START_VM] = {.method = "POST", .path = "/v1/vms/{name}/start", .reply = &api_vm_schema,
		.status = 200, .help = "Admit a VM and start it."},
	[API_STOP_VM_OP] = {.method = "POST", .path = "/v1/vms/{name}/stop", .request = &api_stop_schema,
		.mode = API_CHANGE, .reply = &api_vm_schema, .status = 200, .help = "Stop a VM."},
	[API_MAP_VM] = {.method = "GET", .path = "/v1/vms/{name}/map", .reply = &api_map_schema,
		.status = 200, .help = "Where a stretch of a running VM's memory is.",
		.query = {{"first", INT64_MAX, "first guest physical page"},
			{"count", 1048576, "pages; 0 for as many as there may be"},
			{"virtual", UINT64_MAX, "begin at this guest virtual address instead"},
			{"frames", 1, "1: with the host's frame numbers, if mezzd may see them"}}},
	[API_LIST_POOLS] = {.method = "GET", .path = "/v1/pools", .reply = &api_pools_schema, .status = 200,
		.help = "All resource pools."},
	[API_SET_POOL] = {.method = "PUT", .path = "/v1/pools/{name}", .request = &api_pool_config_schema,
		.mode = API_CHANGE, .reply = &api_pool_schema, .status = 200,
		.help = "Make a resource pool, or change one."},
	[API_REMOVE_POOL] = {.method = "DELETE", .path = "/v1/pools/{name}", .reply = &api_empty_schema,
		.status = 200, .help = "Remove an empty resource pool."},
	[API_LIST_OPTIONS] = {.method = "GET", .path = "/v1/options", .reply = &api_options_schema,
		.status = 200, .help = "All advanced options."},
	[API_SET_OPTION] = {.method = "PUT", .path = "/v1/options/{name}", .request = &api_option_set_schema,
		.mode = API_WHOLE, .reply = &api_options_schema, .status = 200,
		.help = "Change an advanced option."},
};
/* clang-format on */
_Static_assert(ARRAY_SIZE(routes) == API_OPS, "one row per operation");

const struct api_route *api_route(enum api_op op)
{
	return &routes[op];
}

/* Does a path fit a pattern? @name gets what stands for {name}. */
static bool fits(const char *pattern, const char *path, char name[API_NAME_MAX])
{
	const char *hole = strstr(pattern, NAME_SEGMENT);

	name[0] = 0;
	if (!hole)
		return !strcmp(pattern, path);
	const size_t before = (size_t)(hole - pattern);

	if (strncmp(pattern, path, before))
		return false;
	const char *value = path + before;
	const size_t n = strcspn(value, "/");

	if (!n || n >= API_NAME_MAX ||
	    strcmp(hole + strlen(NAME_SEGMENT), value + n) != 0)
		return false;
	memcpy(name, value, n);
	name[n] = 0;
	return true;
}

enum api_match api_match(const char *method, const char *path,
			 enum api_op *ret_op, char name[API_NAME_MAX])
{
	enum api_match found = API_NO_PATH;

	for (unsigned int i = 0; i < API_OPS; i++) {
		if (!fits(routes[i].path, path, name))
			continue;
		if (!strcmp(routes[i].method, method)) {
			*ret_op = (enum api_op)i;
			return API_MATCHED;
		}
		found = API_NO_METHOD;
	}
	name[0] = 0;
	return found;
}

unsigned int api_status(int error)
{
	switch (-error) {
	case EINVAL:
	case ERANGE:
	case ELOOP:
	case EOPNOTSUPP:
	case ENAMETOOLONG:
		return 400;
	case EACCES:
		return 401;
	case ENOENT:
		return 404;
	case EEXIST:
	case EBUSY:
	case ECANCELED:
		return 409;
	case EFBIG:
		return 413;
	case ENOSPC:
		return 507;
	case ENOMEM:
	case EAGAIN:
		return 503;
	case ETIMEDOUT:
		return 504;
	default:
		return 500;
	}
}

static json_t *schema_ref(const char *name, const char *suffix)
{
	return json_pack("{s:o}", "$ref",
			 json_sprintf("#/components/schemas/%s%s", name, suffix));
}

static json_t *content(const char *type, json_t *schema)
{
	return json_pack("{s:{s:o}}", type, "schema", schema);
}

static json_t *describe_replies(const struct api_route *r)
{
	json_t *type = r->reply
			       ? content("application/json",
					 schema_ref(r->reply->name, ""))
			       : content(r->content_type,
					 json_pack("{s:s}", "type",
						   strstr(r->content_type, "json")
							   ? "object"
							   : "string"));
	json_t *error = content("application/json", schema_ref("Error", ""));
	json_t *replies = json_object();
	char status[16] = "200";

	if (r->status == 201)
		memcpy(status, "201", 4);
	json_object_set_new(replies, status,
			    json_pack("{s:s, s:o}", "description", "done",
				      "content", type));
	json_object_set_new(replies, "default",
			    json_pack("{s:s, s:o}", "description", "failed",
				      "content", error));
	return replies;
}

static json_t *describe_parameters(const struct api_route *r)
{
	json_t *list = json_array();

	if (strstr(r->path, NAME_SEGMENT))
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:b, s:{s:s, s:i}}",
						"name", "name", "in", "path",
						"required", 1, "schema", "type",
						"string", "maxLength",
						API_NAME_MAX - 1));
	for (const struct api_query *q = r->query; q->name; q++) {
		json_t *schema = json_pack("{s:s, s:i}", "type", "integer",
					   "minimum", 0);

		if (q->max <= INT64_MAX)
			json_object_set_new(schema, "maximum",
					    json_integer((json_int_t)q->max));
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:s, s:o}", "name",
						q->name, "in", "query",
						"description", q->help,
						"schema", schema));
	}
	return list;
}

static json_t *describe_route(const struct api_route *r)
{
	json_t *j = json_pack("{s:s, s:o, s:o}", "summary", r->help,
			      "parameters", describe_parameters(r), "responses",
			      describe_replies(r));

	if (r->request) {
		const bool change = r->mode == API_CHANGE;

		json_object_set_new(
			j, "requestBody",
			json_pack("{s:b, s:o}", "required", !change, "content",
				  content("application/json",
					  schema_ref(r->request->name,
						     change ? "Change" : ""))));
	}
	if (r->open)
		json_object_set_new(j, "security", json_array());
	return j;
}

static json_t *describe_paths(void)
{
	json_t *paths = json_object();

	for (unsigned int i = 0; i < API_OPS; i++) {
		const struct api_route *r = &routes[i];
		json_t *path = json_object_get(paths, r->path);
		char method[8] = "";

		for (size_t k = 0; r->method[k] && k + 1 < sizeof(method); k++)
			method[k] = (char)(r->method[k] | 0x20);
		if (!path) {
			path = json_object();
			json_object_set_new(paths, r->path, path);
		}
		json_object_set_new(path, method, describe_route(r));
	}
	return paths;
}

static json_t *describe_schemas(void)
{
	json_t *j = json_object();

	for (const struct api_schema *const *s = api_schemas(); *s; s++)
		json_object_set_new(j, (*s)->name, api_describe(*s, API_WHOLE));
	for (unsigned int i = 0; i < API_OPS; i++) {
		const struct api_schema *s = routes[i].request;
		char name[64];

		if (!s || routes[i].mode != API_CHANGE)
			continue;
		snprintf(name, sizeof(name), "%sChange", s->name);
		json_object_set_new(j, name, api_describe(s, API_CHANGE));
	}
	return j;
}

json_t *api_openapi(const char *version)
{
	return json_pack(
		"{s:s, s:{s:s, s:s, s:s}, s:o, s:{s:o, s:{s:{s:s, s:s}}}, s:[{s:[]}]}",
		"openapi", "3.0.3", "info", "title", "Mezzanine", "description",
		"The control side of mezzd. Amounts of memory are bytes. A Unix socket needs no token.",
		"version", version, "paths", describe_paths(), "components",
		"schemas", describe_schemas(), "securitySchemes", "token",
		"type", "http", "scheme", "bearer", "security", "token");
}
