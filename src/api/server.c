/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in, replies out: libmicrohttpd, the route table and the backend. */
#include <api/server.h>

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <api/event_log.h>
#include <api/listen.h>
#include <api/metrics.h>
#include <api/mhd_lib.h>
#include <base/clock.h>

#define STACK_BYTES     (1024 * 1024) /* jansson recurses, up to 2048 levels deep */
#define MEMORY_BYTES    (32 * 1024) /* request line and headers of a connection */
#define DISCARD_MAX     (UINT64_C(1) << 20)
#define KEEPALIVE_MS    15000
#define SNAPSHOT_MIN_MS 250
#define EVENT_BLOCK     4096
#define TOKEN_MIN       16
#define TOKEN_MAX       256

struct door {
	struct api_server *server;
	struct MHD_Daemon *daemon;
	bool needs_token;
};

struct api_server {
	struct api_backend backend;
	char *socket_path;
	ino_t socket_ino;
	char *token;
	char *web_page;
	char *version;
	struct event_log log;
	struct door local;
	struct door tcp;
};

/* What is known of a request between the calls for it. */
struct exchange {
	enum api_op op;
	char name[API_NAME_MAX];
	char *body;
	uint64_t len;
	uint64_t seen; /* with what was discarded */
};

static enum MHD_Result send_response(struct MHD_Connection *con,
				     unsigned int status, const char *type,
				     struct MHD_Response *response)
{
	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", type);
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	if (strcmp(type, "text/html; charset=utf-8") != 0)
		MHD_add_response_header(response, "Cache-Control", "no-store");
	else
		MHD_add_response_header(
			response, "Content-Security-Policy",
			"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'");
	const enum MHD_Result r = MHD_queue_response(con, status, response);

	MHD_destroy_response(response);
	return r;
}

/* @text becomes the response's. */
static enum MHD_Result send_text(struct MHD_Connection *con, unsigned int status,
				 const char *type, char *text)
{
	if (!text)
		return MHD_NO;
	return send_response(con, status, type,
			     MHD_create_response_from_buffer(
				     strlen(text), text, MHD_RESPMEM_MUST_FREE));
}

static enum MHD_Result send_json(struct MHD_Connection *con,
				 unsigned int status, json_t *j)
{
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	json_decref(j);
	return send_text(con, status, "application/json", text);
}

static enum MHD_Result send_status(struct MHD_Connection *con,
				   unsigned int status, int error,
				   const char *message)
{
	struct api_error e = {.status = status, .number = (uint32_t)-error};

	snprintf(e.message, sizeof(e.message), "%s", message);
	return send_json(con, status, api_encode(&api_error_schema, &e));
}

static enum MHD_Result send_error(struct MHD_Connection *con, int error,
				  const struct err *err)
{
	return send_status(con, api_status(error), error, err->text);
}

/* Server-sent events */

struct stream {
	struct api_server *server;
	uint64_t at;
	uint64_t snapshots_ms; /* 0: none */
	uint64_t next_ms;      /* when the next snapshot is due */
	char *text;            /* being sent */
	size_t len;
	size_t sent;
};

static void stream_set(struct stream *s, const char *kind, uint64_t seq,
		       json_t *j)
{
	char *data = j ? json_dumps(j, JSON_COMPACT) : NULL;
	char id[48] = "";

	json_decref(j);
	if (seq)
		snprintf(id, sizeof(id), "id: %llu\n", (unsigned long long)seq);
	if (!data ||
	    asprintf(&s->text, "event: %s\n%sdata: %s\n\n", kind, id, data) < 0)
		s->text = NULL;
	free(data);
}

static void stream_snapshot(struct stream *s)
{
	struct api_snapshot snap = {0};
	struct err err = {0};

	if (!s->server->backend.snapshot(s->server->backend.ctx, &snap, &err))
		stream_set(s, "snapshot", 0,
			   api_encode(&api_snapshot_schema, &snap));
	api_release(&api_snapshot_schema, &snap);
	s->next_ms = monotonic_ms() + s->snapshots_ms;
}

/* Wait for something to send. Return: false at the end. */
static bool stream_fill(struct stream *s)
{
	uint64_t wait = KEEPALIVE_MS;
	struct api_event event;

	if (s->snapshots_ms) {
		const uint64_t now = monotonic_ms();

		wait = s->next_ms > now ? s->next_ms - now : 0;
	}
	switch (event_log_wait(&s->server->log, &s->at, wait, &event)) {
	case EVENT_GOT:
		stream_set(s, "event", event.seq,
			   api_encode(&api_event_schema, &event));
		break;
	case EVENT_TIMEOUT:
		if (s->snapshots_ms)
			stream_snapshot(s);
		else
			s->text = strdup(":\n\n");
		break;
	case EVENT_CLOSED:
		return false;
	}
	s->len = s->text ? strlen(s->text) : 0;
	s->sent = 0;
	return s->text;
}

static ssize_t stream_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct stream *s = cls;

	(void)pos;
	if (!s->text && !stream_fill(s))
		return MHD_CONTENT_READER_END_OF_STREAM;
	const size_t n = s->len - s->sent < max ? s->len - s->sent : max;

	memcpy(buf, s->text + s->sent, n);
	s->sent += n;
	if (s->sent == s->len) {
		free(s->text);
		s->text = NULL;
	}
	return (ssize_t)n;
}

static void stream_free(void *cls)
{
	struct stream *s = cls;

	free(s->text);
	free(s);
}

static enum MHD_Result answer_events(struct api_server *server,
				     struct MHD_Connection *con,
				     const struct api_request *req)
{
	const char *last = MHD_lookup_connection_value(con, MHD_HEADER_KIND,
						       "Last-Event-ID");
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return MHD_NO;
	s->server = server;
	s->at = last ? event_log_after(&server->log, strtoull(last, NULL, 10))
		: req->has_query[0]
			? event_log_after(&server->log, req->query[0])
			: event_log_end(&server->log);
	s->snapshots_ms = req->query[1];
	if (s->snapshots_ms && s->snapshots_ms < SNAPSHOT_MIN_MS)
		s->snapshots_ms = SNAPSHOT_MIN_MS;
	/* At once a line, so that a client knows that it is heard. */
	s->text = strdup(":\n\n");
	s->len = s->text ? strlen(s->text) : 0;
	return send_response(con, 200, "text/event-stream",
			     MHD_create_response_from_callback(MHD_SIZE_UNKNOWN,
							       EVENT_BLOCK,
							       stream_read, s,
							       stream_free));
}

/* Answers that are not objects of the backend */

static enum MHD_Result answer_page(const struct api_server *server,
				   struct MHD_Connection *con)
{
	const int fd = server->web_page
			       ? open(server->web_page, O_RDONLY | O_CLOEXEC)
			       : -1;
	const off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;

	if (size < 0) {
		if (fd >= 0)
			close(fd);
		return send_status(con, 404, -ENOENT,
				   "the page is not installed; see /openapi.json");
	}
	return send_response(con, 200, "text/html; charset=utf-8",
			     MHD_create_response_from_fd((uint64_t)size, fd));
}

static enum MHD_Result answer_metrics(struct api_server *server,
				      struct MHD_Connection *con)
{
	struct api_snapshot snap = {0};
	struct err err = {0};
	const int r = server->backend.snapshot(server->backend.ctx, &snap, &err);
	char *text = r ? NULL : api_metrics(&snap);

	api_release(&api_snapshot_schema, &snap);
	if (r)
		return send_error(con, r, &err);
	return send_text(con, 200, "text/plain; version=0.0.4; charset=utf-8",
			 text);
}

static enum MHD_Result answer_object(struct api_server *server,
				     struct MHD_Connection *con,
				     const struct api_request *req)
{
	const struct api_route *route = api_route(req->op);
	void *reply = calloc(1, route->reply->size);
	struct err err = {0};

	if (!reply)
		return MHD_NO;
	const int r = server->backend.call(server->backend.ctx, req, reply,
					   &err);
	json_t *j = r ? NULL : api_encode(route->reply, reply);

	api_release(route->reply, reply);
	free(reply);
	if (r)
		return send_error(con, r, &err);
	return send_json(con, route->status, j);
}

static enum MHD_Result answer(struct api_server *server,
			      struct MHD_Connection *con,
			      const struct api_request *req)
{
	if (req->op == API_PAGE)
		return answer_page(server, con);
	if (req->op == API_OPENAPI)
		return send_json(con, 200, api_openapi(server->version));
	if (req->op == API_METRICS)
		return answer_metrics(server, con);
	if (req->op == API_EVENTS)
		return answer_events(server, con, req);
	return answer_object(server, con, req);
}

/* Requests */

/* Takes as long whatever is wrong with it. */
static bool token_fits(const char *token, const char *header)
{
	static const char scheme[] = "Bearer ";
	const size_t n = strlen(token);
	unsigned char diff = 0;

	if (!header || strncasecmp(header, scheme, sizeof(scheme) - 1))
		return false;
	header += sizeof(scheme) - 1;
	if (strlen(header) != n)
		return false;
	for (size_t i = 0; i < n; i++)
		diff |= (unsigned char)(token[i] ^ header[i]);
	return !diff;
}

struct query_scan {
	const struct api_route *route;
	struct api_request *req;
	struct err *err;
	int error;
};

static enum MHD_Result scan_query(void *cls, enum MHD_ValueKind kind,
				  const char *key, const char *value)
{
	struct query_scan *q = cls;
	char *end = NULL;

	(void)kind;
	for (unsigned int i = 0; q->route->query[i].name; i++) {
		const struct api_query *p = &q->route->query[i];

		if (strcmp(p->name, key) != 0)
			continue;
		errno = 0;
		q->req->query[i] = value ? strtoull(value, &end, 10) : 0;
		q->req->has_query[i] = true;
		if (!value || *value < '0' || *value > '9' || *end || errno ||
		    q->req->query[i] > p->max)
			q->error = err_set(
				q->err, -EINVAL,
				"%s must be a whole number from 0 to %llu", key,
				(unsigned long long)p->max);
		return q->error ? MHD_NO : MHD_YES;
	}
	q->error = err_set(q->err, -EINVAL,
			   "there is no parameter '%.60s' here", key);
	return MHD_NO;
}

static int read_query(struct MHD_Connection *con, struct api_request *req,
		      struct err *err)
{
	struct query_scan q = {.route = api_route(req->op),
			       .req = req,
			       .err = err};

	MHD_get_connection_values(con, MHD_GET_ARGUMENT_KIND, scan_query, &q);
	return q.error;
}

static int read_body(const struct exchange *x, json_t **ret, struct err *err)
{
	const struct api_route *route = api_route(x->op);

	if (x->seen > API_BODY_MAX)
		return err_set(
			err, -EFBIG,
			"the body has %llu bytes or more, at most %llu are allowed",
			(unsigned long long)x->seen,
			(unsigned long long)API_BODY_MAX);
	if (x->len && !route->request)
		return err_set(err, -EINVAL, "%s %s takes no body",
			       route->method, route->path);
	if (!x->len)
		return route->request && route->mode == API_WHOLE
			       ? err_set(err, -EINVAL, "a body is missing")
			       : 0;
	return api_parse(x->body, x->len, ret, err);
}

static enum MHD_Result finish(struct api_server *server,
			      struct MHD_Connection *con,
			      const struct exchange *x)
{
	struct api_request req = {.op = x->op};
	struct err err = {0};
	json_t *json = NULL;
	int r = read_query(con, &req, &err);

	memcpy(req.name, x->name, sizeof(req.name));
	if (!r)
		r = read_body(x, &json, &err);
	req.json = json;
	const enum MHD_Result sent = r ? send_error(con, r, &err)
				       : answer(server, con, &req);

	json_decref(json);
	return sent;
}

static enum MHD_Result no_method(struct MHD_Connection *con, const char *url)
{
	char name[API_NAME_MAX], allow[64] = "";
	struct MHD_Response *response;
	enum api_op op;
	size_t len = 0;

	for (unsigned int i = 0; i < API_OPS; i++) {
		const char *method = api_route((enum api_op)i)->method;

		if (api_match(method, url, &op, name) != API_MATCHED ||
		    strstr(allow, method))
			continue;
		len += (size_t)snprintf(allow + len, sizeof(allow) - len,
					"%s%s", len ? ", " : "", method);
	}
	struct api_error e = {.status = 405, .number = EOPNOTSUPP};

	snprintf(e.message, sizeof(e.message), "here only %s is possible",
		 allow);
	json_t *j = api_encode(&api_error_schema, &e);
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	json_decref(j);
	if (!text)
		return MHD_NO;
	response = MHD_create_response_from_buffer(strlen(text), text,
						   MHD_RESPMEM_MUST_FREE);
	if (response)
		MHD_add_response_header(response, "Allow", allow);
	return send_response(con, 405, "application/json", response);
}

/* First call for a request: headers are there. NULL: it has been answered. */
static struct exchange *begin(const struct door *door,
			      struct MHD_Connection *con, const char *url,
			      const char *method, enum MHD_Result *ret)
{
	const char *length = MHD_lookup_connection_value(
		con, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	const char *token = MHD_lookup_connection_value(
		con, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
	struct exchange x = {.op = API_OPS};
	const enum api_match m = api_match(method, url, &x.op, x.name);

	*ret = MHD_YES;
	if (door->needs_token && !token_fits(door->server->token, token) &&
	    (m != API_MATCHED || !api_route(x.op)->open)) {
		*ret = send_status(
			con, 401, -EACCES,
			"a token is needed: Authorization: Bearer TOKEN");
		return NULL;
	}
	if (m == API_NO_PATH) {
		*ret = send_status(con, 404, -ENOENT,
				   "there is no such path; see /openapi.json");
		return NULL;
	}
	if (m == API_NO_METHOD) {
		*ret = no_method(con, url);
		return NULL;
	}
	if (length && strtoull(length, NULL, 10) > API_BODY_MAX) {
		struct err err;

		*ret = send_error(
			con,
			err_set(&err, -EFBIG,
				"the body has %.20s bytes, at most %llu are allowed",
				length, (unsigned long long)API_BODY_MAX),
			&err);
		return NULL;
	}
	struct exchange *copy = malloc(sizeof(*copy));

	if (copy)
		*copy = x;
	else
		*ret = MHD_NO;
	return copy;
}

/* A bit of the body. What is too much is thrown away, up to a point. */
static enum MHD_Result take(struct exchange *x, const char *data, size_t n)
{
	x->seen += n;
	if (x->seen > DISCARD_MAX)
		return MHD_NO;
	if (x->seen > API_BODY_MAX)
		return MHD_YES;
	char *body = realloc(x->body, x->len + n);

	if (!body)
		return MHD_NO;
	x->body = body;
	memcpy(body + x->len, data, n);
	x->len += n;
	return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *con,
				  const char *url, const char *method,
				  const char *version, const char *data,
				  size_t *n, void **con_cls)
{
	const struct door *door = cls;
	enum MHD_Result r;

	(void)version;
	if (!*con_cls) {
		*con_cls = begin(door, con, url, method, &r);
		return r;
	}
	if (*n) {
		r = take(*con_cls, data, *n);
		*n = 0;
		return r;
	}
	return finish(door->server, con, *con_cls);
}

static void on_done(void *cls, struct MHD_Connection *con, void **con_cls,
		    enum MHD_RequestTerminationCode why)
{
	struct exchange *x = *con_cls;

	(void)cls;
	(void)con;
	(void)why;
	if (x)
		free(x->body);
	free(x);
	*con_cls = NULL;
}

/* As it is done by default, but a path does not end at a %00. */
static size_t unescape(void *cls, struct MHD_Connection *con, char *text)
{
	const size_t n = MHD_http_unescape(text);

	(void)cls;
	(void)con;
	for (size_t i = 0; i < n; i++)
		if (!text[i])
			text[i] = '\177';
	return n;
}

/* Life */

static int open_door(struct api_server *server, struct door *door, int fd,
		     unsigned int connections, unsigned int per_address,
		     struct err *err)
{
	door->server = server;
	door->daemon = MHD_start_daemon(
		MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
			MHD_USE_POLL | MHD_USE_ITC,
		0, NULL, NULL, on_request, door, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_NOTIFY_COMPLETED, on_done, NULL,
		MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)API_TIMEOUT_S,
		MHD_OPTION_CONNECTION_LIMIT, connections,
		MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_address,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_BYTES,
		MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES,
		MHD_OPTION_END);
	if (door->daemon)
		return 0;
	close(fd);
	return err_set(err, -ENOMEM, "cannot start the HTTP server");
}

static int check_token(const char *token, struct err *err)
{
	const size_t n = token ? strlen(token) : 0;

	if (n >= TOKEN_MIN && n <= TOKEN_MAX)
		return 0;
	return err_set(
		err, -EINVAL,
		"the token for TCP has %zu bytes, it must have from %d to %d",
		n, TOKEN_MIN, TOKEN_MAX);
}

static int open_doors(struct api_server *server,
		      const struct api_server_config *c, struct err *err)
{
	int fd, r = 0;

	if (c->tcp)
		r = check_token(c->token, err);
	if (!r)
		r = listen_unix(c->socket_path, &fd, &server->socket_ino, err);
	if (r)
		return r;
	server->socket_path = strdup(c->socket_path);
	r = open_door(server, &server->local, fd, API_CONNECTIONS_MAX, 0, err);
	if (r || !c->tcp)
		return r;
	server->tcp.needs_token = true;
	r = listen_tcp(c->tcp, &fd, err);
	return r ? r
		 : open_door(server, &server->tcp, fd, API_TCP_MAX,
			     API_TCP_MAX / 4, err);
}

static bool copy_string(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return *to || !from;
}

int api_server_new(const struct api_server_config *config,
		   struct api_server **ret, struct err *err)
{
	struct api_server *server;
	int r = mhd_lib_load(err);

	if (r)
		return r;
	server = calloc(1, sizeof(*server));
	if (!server)
		return err_set(err, -ENOMEM, "no memory for the HTTP server");
	server->backend = config->backend;
	event_log_init(&server->log);
	const bool copied = copy_string(&server->token, config->token) &&
			    copy_string(&server->web_page, config->web_page) &&
			    copy_string(&server->version, config->version);

	r = copied ? open_doors(server, config, err)
		   : err_set(err, -ENOMEM, "no memory for the HTTP server");
	if (r) {
		api_server_free(server);
		return r;
	}
	*ret = server;
	return 0;
}

struct api_server *api_server_free(struct api_server *server)
{
	if (!server)
		return NULL;
	event_log_close(&server->log);
	if (server->local.daemon)
		MHD_stop_daemon(server->local.daemon);
	if (server->tcp.daemon)
		MHD_stop_daemon(server->tcp.daemon);
	if (server->socket_path)
		listen_unlink(server->socket_path, server->socket_ino);
	event_log_release(&server->log);
	free(server->socket_path);
	free(server->token);
	free(server->web_page);
	free(server->version);
	free(server);
	return NULL;
}

void api_server_event(struct api_server *server, const struct api_event *event)
{
	event_log_add(&server->log, event);
}
