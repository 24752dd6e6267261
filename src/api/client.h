/* SPDX-License-Identifier: Apache-2.0 */
/* The client library: requests to mezzd as function calls. */
#ifndef API_CLIENT_H
#define API_CLIENT_H
#include <api/routes.h>

struct client;

/**
 * struct client_config - where mezzd is.
 * @socket_path: Unix socket, or NULL for that of paths_socket()
 * @url: "http://ADDRESS:PORT" instead, or NULL
 * @token: said with @url, or NULL
 */
struct client_config {
	const char *socket_path;
	const char *url;
	const char *token;
};

/**
 * client_new() - does not connect yet.
 * @config: where mezzd is
 * @ret: set on success
 * @err: message
 *
 * Return: 0, -ENOMEM, -ELIBACC (there is no libcurl), or as paths_socket().
 */
int client_new(const struct client_config *config, struct client **ret,
	       struct err *err) __attribute__((warn_unused_result));

/** client_free() - NULL is fine. Return: NULL. */
struct client *client_free(struct client *client);

/**
 * struct client_request - what to ask.
 * @op: operation
 * @name: for {name} in its path, or NULL
 * @query: "first=0&count=8", or NULL
 * @body: JSON, borrowed, or NULL
 */
struct client_request {
	enum api_op op;
	const char *name;
	const char *query;
	const json_t *body;
};

/**
 * client_call() - ask and wait for the answer.
 * @client: client
 * @request: what to ask
 * @reply: zeroed struct of the route's reply schema, to be released; or NULL
 * @ret_json: the answer as it came, a new reference; or NULL
 * @err: what mezzd said, or why it could not be reached
 *
 * Return: 0; mezzd's -errno; -ECONNREFUSED (nobody answers); -EBADMSG (an answer that is
 * none); -ENOMEM.
 */
int client_call(struct client *client, const struct client_request *request,
		void *reply, json_t **ret_json, struct err *err)
	__attribute__((warn_unused_result));

/**
 * client_stream() - follow events until the other side or @on_event ends it.
 * @client: client
 * @query: of API_EVENTS, or NULL
 * @on_event: called with the kind and its JSON; false ends the stream
 * @ctx: for @on_event
 * @err: message
 *
 * Return: 0 if @on_event ended it, else as client_call(); -ECONNRESET at the end.
 */
int client_stream(struct client *client, const char *query,
		  bool (*on_event)(void *ctx, const char *kind,
				   const json_t *data),
		  void *ctx, struct err *err)
	__attribute__((warn_unused_result));

/**
 * struct sse - decoder of server-sent events.
 * @line: line that is being received, without its end
 * @len: of it
 * @room: of @line
 * @kind: of the event, "message" if none was said
 * @data: its data so far, or NULL
 */
struct sse {
	char *line;
	size_t len;
	size_t room;
	char kind[32];
	char *data;
};

/** sse_init() - at the beginning of a stream. */
void sse_init(struct sse *sse);

/** sse_release() - free it. */
void sse_release(struct sse *sse);

/**
 * sse_feed() - take some bytes of a stream.
 * @sse: decoder
 * @bytes: any bytes
 * @n: how many
 * @on_event: called for each whole event with its data; false ends
 * @ctx: for @on_event
 *
 * Return: 0, 1 if @on_event ended it, -EFBIG (an event without end), -ENOMEM.
 */
int sse_feed(struct sse *sse, const char *bytes, size_t n,
	     bool (*on_event)(void *ctx, const char *kind, const char *data),
	     void *ctx) __attribute__((warn_unused_result));

#endif
