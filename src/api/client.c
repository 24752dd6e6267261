/* SPDX-License-Identifier: Apache-2.0 */
/* Requests by libcurl, over a Unix socket or TCP. */
#include <api/client.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <api/curl_lib.h>
#include <api/paths.h>

#define REPLY_MAX (UINT64_C(256) << 20)

struct client {
	struct curl_lib lib;
	CURL *curl;
	char *socket_path;
	char *url;
	struct curl_slist *headers;
	char why[CURL_ERROR_SIZE];
};

struct buffer {
	char *text;
	size_t len;
};

/* Of struct client. Return: 0 or -ENOMEM. */
static int set_up(struct client *c, const struct client_config *config)
{
	char line[512];

	c->url = strdup(config->url ? config->url : "http://mezzd");
	c->curl = c->lib.easy_init();
	c->headers = c->lib.slist_append(NULL, "Content-Type: application/json");
	if (!c->url || !c->curl || !c->headers)
		return -ENOMEM;
	if (!config->url || !config->token)
		return 0;
	snprintf(line, sizeof(line), "Authorization: Bearer %s", config->token);
	struct curl_slist *more = c->lib.slist_append(c->headers, line);

	if (!more)
		return -ENOMEM;
	c->headers = more;
	return 0;
}

int client_new(const struct client_config *config, struct client **ret,
	       struct err *err)
{
	struct client *c = calloc(1, sizeof(*c));
	char path[PATHS_MAX];
	int r = 0;

	if (!c)
		return err_set(err, -ENOMEM, "no memory for a client");
	if (!config->url && !config->socket_path)
		r = paths_socket(path, err);
	if (!r && !config->url) {
		c->socket_path = strdup(
			config->socket_path ? config->socket_path : path);
		if (!c->socket_path)
			r = -ENOMEM;
	}
	if (!r)
		r = curl_lib_load(&c->lib, err);
	if (!r)
		r = set_up(c, config);
	if (r) {
		client_free(c);
		return r == -ENOMEM ? err_set(err, r, "no memory for a client")
				    : r;
	}
	*ret = c;
	return 0;
}

struct client *client_free(struct client *client)
{
	if (!client)
		return NULL;
	if (client->curl)
		client->lib.easy_cleanup(client->curl);
	if (client->headers)
		client->lib.slist_free_all(client->headers);
	free(client->socket_path);
	free(client->url);
	free(client);
	return NULL;
}

/* http://…/v1/vms/NAME/map?first=0 */
static char *make_url(const struct client *c, const struct api_route *route,
		      const char *name, const char *query)
{
	const char *hole = strstr(route->path, "{name}");
	const size_t before = hole ? (size_t)(hole - route->path)
				   : strlen(route->path);
	char *escaped = c->lib.easy_escape(c->curl, name ? name : "", 0);
	char *url = NULL;

	if (!escaped ||
	    asprintf(&url, "%s%.*s%s%s%s%s", c->url, (int)before, route->path,
		     hole ? escaped : "", hole ? hole + strlen("{name}") : "",
		     query ? "?" : "", query ? query : "") < 0)
		url = NULL;
	c->lib.free(escaped);
	return url;
}

static void prepare(struct client *c, const struct api_route *route,
		    const char *url, const char *body)
{
	const struct curl_lib *lib = &c->lib;
	CURL *h = c->curl;

	lib->easy_reset(h);
	c->why[0] = 0;
	lib->easy_setopt(h, CURLOPT_ERRORBUFFER, c->why);
	lib->easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	lib->easy_setopt(h, CURLOPT_URL, url);
	lib->easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http");
	lib->easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 10L);
	lib->easy_setopt(h, CURLOPT_HTTPHEADER, c->headers);
	lib->easy_setopt(h, CURLOPT_CUSTOMREQUEST, route->method);
	if (c->socket_path)
		lib->easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, c->socket_path);
	if (body || route->request)
		lib->easy_setopt(h, CURLOPT_POSTFIELDS, body ? body : "");
}

static int unreachable(const struct client *c, CURLcode code, struct err *err)
{
	if (code == CURLE_COULDNT_CONNECT)
		return err_set(err, -ECONNREFUSED,
			       "mezzd does not answer on %s; is it running?",
			       c->socket_path ? c->socket_path : c->url);
	return err_set(err, code == CURLE_OUT_OF_MEMORY ? -ENOMEM : -ECONNRESET,
		       "the connection to mezzd failed: %s",
		       *c->why ? c->why : c->lib.easy_strerror(code));
}

/* What mezzd said in an error. */
static int refused(const json_t *j, long status, struct err *err)
{
	struct api_error e = {0};

	if (!api_decode(&api_error_schema, j, API_WHOLE, &e, NULL) && e.number)
		return err_set(err, -(int)(e.number < 4096 ? e.number : EPROTO),
			       "%s", e.message);
	return err_set(err, -EBADMSG, "mezzd answers with HTTP status %ld",
		       status);
}

static size_t collect(char *bytes, size_t one, size_t n, void *ctx)
{
	struct buffer *b = ctx;

	(void)one;
	if (b->len + n > REPLY_MAX)
		return 0;
	char *text = realloc(b->text, b->len + n + 1);

	if (!text)
		return 0;
	memcpy(text + b->len, bytes, n);
	b->text = text;
	b->len += n;
	text[b->len] = 0;
	return n;
}

static int understand(const struct api_route *route, const struct buffer *b,
		      long status, void *reply, json_t **ret_json,
		      struct err *err)
{
	json_t *j = NULL;
	int r = b->len ? api_parse(b->text, b->len, &j, err) : -EBADMSG;

	if (status < 200 || status > 299) {
		r = refused(j, status, err);
	} else if (r) {
		r = err_set(err, -EBADMSG, "mezzd's answer is not understood");
	} else if (reply) {
		r = api_decode(route->reply, j, API_WHOLE, reply, err);
		if (r)
			err_prefix(err, "mezzd's answer is not understood: ");
	}
	if (!r && ret_json)
		*ret_json = json_incref(j);
	json_decref(j);
	return r;
}

int client_call(struct client *client, const struct client_request *request,
		void *reply, json_t **ret_json, struct err *err)
{
	const struct api_route *route = api_route(request->op);
	char *url = make_url(client, route, request->name, request->query);
	char *body = request->body ? json_dumps(request->body, JSON_COMPACT)
				   : NULL;
	struct buffer b = {0};
	long status = 0;
	int r = 0;

	if (!url || (request->body && !body))
		r = err_set(err, -ENOMEM, "no memory for the request");
	if (!r) {
		prepare(client, route, url, body);
		client->lib.easy_setopt(client->curl, CURLOPT_WRITEFUNCTION,
					collect);
		client->lib.easy_setopt(client->curl, CURLOPT_WRITEDATA, &b);
		const CURLcode code = client->lib.easy_perform(client->curl);

		client->lib.easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE,
					 &status);
		r = code == CURLE_OK
			    ? understand(route, &b, status, reply, ret_json, err)
			    : unreachable(client, code, err);
	}
	free(b.text);
	free(body);
	free(url);
	return r;
}

/* A stream on its way. */
struct following {
	struct sse sse;
	bool (*on_event)(void *ctx, const char *kind, const json_t *data);
	void *ctx;
	bool ended; /* by @on_event */
};

static bool on_text(void *ctx, const char *kind, const char *data)
{
	struct following *f = ctx;
	json_t *j = NULL;
	bool more = true;

	/* What is no JSON is not for us. */
	if (!api_parse(data, strlen(data), &j, NULL))
		more = f->on_event(f->ctx, kind, j);
	json_decref(j);
	return more;
}

static size_t follow(char *bytes, size_t one, size_t n, void *ctx)
{
	struct following *f = ctx;

	(void)one;
	const int r = sse_feed(&f->sse, bytes, n, on_text, f);

	f->ended = r == 1;
	return r ? 0 : n;
}

int client_stream(struct client *client, const char *query,
		  bool (*on_event)(void *ctx, const char *kind,
				   const json_t *data),
		  void *ctx, struct err *err)
{
	const struct api_route *route = api_route(API_EVENTS);
	struct following f = {.on_event = on_event, .ctx = ctx};
	char *url = make_url(client, route, NULL, query);
	long status = 0;

	if (!url)
		return err_set(err, -ENOMEM, "no memory for the request");
	sse_init(&f.sse);
	prepare(client, route, url, NULL);
	client->lib.easy_setopt(client->curl, CURLOPT_FAILONERROR, 1L);
	client->lib.easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, follow);
	client->lib.easy_setopt(client->curl, CURLOPT_WRITEDATA, &f);
	const CURLcode code = client->lib.easy_perform(client->curl);

	client->lib.easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
	sse_release(&f.sse);
	free(url);
	if (f.ended)
		return 0;
	if (code == CURLE_OK)
		return err_set(err, -ECONNRESET, "mezzd has ended");
	if (code == CURLE_HTTP_RETURNED_ERROR)
		return refused(NULL, status, err);
	return unreachable(client, code, err);
}
