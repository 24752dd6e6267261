/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1.1 server of mezzd.
 *
 * It finds the route of a request, reads and decodes its body, has the backend answer,
 * and encodes that. Each connection has a thread of its own, so that a backend that waits
 * for one VM keeps nobody else waiting. Connections, body sizes and times are bounded.
 */
#ifndef API_SERVER_H
#define API_SERVER_H
#include <api/routes.h>

#define API_BODY_MAX        (UINT64_C(64) << 10)
#define API_CONNECTIONS_MAX 2048
#define API_TCP_MAX         256
#define API_TIMEOUT_S       20

/**
 * struct api_request - a request that has passed all checks.
 * @op: what is asked for
 * @name: {name} in the path, or empty
 * @json: the body, an object; NULL if there was none or the route takes none
 * @query: values of the route's parameters, in its order
 * @has_query: which were given
 */
struct api_request {
	enum api_op op;
	char name[API_NAME_MAX];
	const json_t *json;
	uint64_t query[API_QUERY_MAX];
	bool has_query[API_QUERY_MAX];
};

/**
 * struct api_backend - who answers.
 * @call: fills @reply, a zeroed struct of the route's reply schema, which the server
 *        releases. Called on many threads at once. Return: 0 or -errno with a message
 * @snapshot: fills a zeroed struct in the same way, for metrics and events
 * @ctx: for both
 */
struct api_backend {
	int (*call)(void *ctx, const struct api_request *request, void *reply,
		    struct err *err);
	int (*snapshot)(void *ctx, struct api_snapshot *ret, struct err *err);
	void *ctx;
};

/**
 * struct api_server_config - what a server is made of; strings are copied.
 * @backend: who answers
 * @socket_path: Unix socket, mode 0660; a stale one is replaced
 * @tcp: "ADDRESS:PORT" to listen on too, or NULL
 * @token: what TCP clients must say; with @tcp at least 16 bytes
 * @web_page: file behind "/", or NULL
 * @version: of the program
 */
struct api_server_config {
	struct api_backend backend;
	const char *socket_path;
	const char *tcp;
	const char *token;
	const char *web_page;
	const char *version;
};

struct api_server;

/**
 * api_server_new() - listen and answer from now on.
 * @config: configuration
 * @ret: set on success; ended with api_server_free()
 * @err: message
 *
 * Return: 0; -EADDRINUSE (another server answers on that socket); -EINVAL; -ENOMEM; or
 * what binding reports.
 */
int api_server_new(const struct api_server_config *config,
		   struct api_server **ret, struct err *err)
	__attribute__((warn_unused_result));

/** api_server_free() - end all connections and the socket. NULL is fine. Return: NULL. */
struct api_server *api_server_free(struct api_server *server);

/** api_server_event() - tell all who listen. Any thread; does not wait. */
void api_server_event(struct api_server *server, const struct api_event *event);

#endif
