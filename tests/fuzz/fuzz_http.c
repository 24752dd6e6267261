/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes on a connection to the HTTP server, before a backend that checks what reaches it. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <api/server.h>
#include <base/verify.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/mezz-fuzz-XXXXXX";
static char path[sizeof(folder) + 8];
static struct api_server *server;

/* Everything that the server promises of a request. */
static int on_call(void *ctx, const struct api_request *request, void *reply,
		   struct err *err)
{
	const struct api_route *route;

	(void)ctx;
	VERIFY(request->op < API_OPS);
	route = api_route(request->op);
	VERIFY(strlen(request->name) < API_NAME_MAX);
	VERIFY(!*request->name == !strstr(route->path, "{name}"));
	VERIFY(!request->json || json_is_object(request->json));
	VERIFY(request->json || !route->request || route->mode == API_CHANGE);
	for (unsigned int i = 0; i < API_QUERY_MAX; i++)
		VERIFY(!request->has_query[i] ||
		       request->query[i] <= route->query[i].max);
	if (route->request && request->json) {
		void *object = calloc(1, route->request->size);

		VERIFY(object);
		const int r = api_decode(route->request, request->json,
					 route->mode, object, err);

		api_release(route->request, object);
		free(object);
		if (r)
			return r;
	}
	(void)reply; /* all zero is an answer */
	return 0;
}

static int on_snapshot(void *ctx, struct api_snapshot *ret, struct err *err)
{
	(void)ctx;
	(void)ret;
	(void)err;
	return 0;
}

static void end(void)
{
	api_server_free(server);
	rmdir(folder);
}

static void begin(void)
{
	const struct api_server_config cfg = {
		.backend = {.call = on_call, .snapshot = on_snapshot},
		.socket_path = path,
		.version = "0",
	};
	struct err err;

	VERIFY(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/sock", folder);
	VERIFY(!api_server_new(&cfg, &server, &err));
	atexit(end);
}

static int dial(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	VERIFY(fd >= 0);
	memcpy(addr.sun_path, path, sizeof(path));
	VERIFY(!connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char answer[4096];
	ssize_t n;

	if (!server)
		begin();
	/* A stream of events has no end. */
	if (size > 3500 || memmem(data, size, "events", 6))
		return 0;
	const int fd = dial();

	if (send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size)
		shutdown(fd, SHUT_WR);
	n = read(fd, answer, sizeof(answer));
	if (n > 0)
		VERIFY(n >= 9 && !memcmp(answer, "HTTP/1.", 7));
	while (n > 0)
		n = read(fd, answer, sizeof(answer));
	close(fd);
	return 0;
}
