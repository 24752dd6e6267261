/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads libmicrohttpd by the name of its binary interface. Its functions have their own names here,
 * as if they were linked: each passes the call on through a table that is filled once.
 */
#include <api/mhd_lib.h>

#include <assert.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>

#include <api/dynlib.h>
#include <base/types.h>

/* The version with whose headers this is built. */
#define MHD_SONAME "libmicrohttpd.so.12"

static struct mhd_lib {
	__typeof__(MHD_add_response_header) *add_response_header;
	__typeof__(MHD_create_response_from_buffer) *response_from_buffer;
	__typeof__(MHD_create_response_from_callback) *response_from_callback;
	__typeof__(MHD_create_response_from_fd) *response_from_fd;
	__typeof__(MHD_destroy_response) *destroy_response;
	__typeof__(MHD_get_connection_values) *get_connection_values;
	__typeof__(MHD_http_unescape) *http_unescape;
	__typeof__(MHD_lookup_connection_value) *lookup_connection_value;
	__typeof__(MHD_queue_response) *queue_response;
	__typeof__(MHD_start_daemon_va) *start_daemon_va;
	__typeof__(MHD_stop_daemon) *stop_daemon;
} lib; /* constant once it is loaded, like the table of a linker */

static const struct dynlib_symbol symbols[] = {
	{"MHD_add_response_header",
	 offsetof(struct mhd_lib, add_response_header)},
	{"MHD_create_response_from_buffer",
	 offsetof(struct mhd_lib, response_from_buffer)},
	{"MHD_create_response_from_callback",
	 offsetof(struct mhd_lib, response_from_callback)},
	{"MHD_create_response_from_fd",
	 offsetof(struct mhd_lib, response_from_fd)},
	{"MHD_destroy_response", offsetof(struct mhd_lib, destroy_response)},
	{"MHD_get_connection_values",
	 offsetof(struct mhd_lib, get_connection_values)},
	{"MHD_http_unescape", offsetof(struct mhd_lib, http_unescape)},
	{"MHD_lookup_connection_value",
	 offsetof(struct mhd_lib, lookup_connection_value)},
	{"MHD_queue_response", offsetof(struct mhd_lib, queue_response)},
	{"MHD_start_daemon_va", offsetof(struct mhd_lib, start_daemon_va)},
	{"MHD_stop_daemon", offsetof(struct mhd_lib, stop_daemon)},
};

static_assert(sizeof(struct mhd_lib) == ARRAY_SIZE(symbols) * sizeof(void *),
	      "a symbol for each function");

int mhd_lib_load(struct err *err)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct mhd_lib found;
	const int r = dynlib_load(MHD_SONAME, symbols, ARRAY_SIZE(symbols),
				  &found, err);

	if (r)
		return r;
	pthread_mutex_lock(&lock);
	if (!lib.stop_daemon)
		lib = found;
	pthread_mutex_unlock(&lock);
	return 0;
}

enum MHD_Result MHD_add_response_header(struct MHD_Response *response,
					const char *header, const char *content)
{
	return lib.add_response_header(response, header, content);
}

struct MHD_Response *MHD_create_response_from_buffer(
	size_t size, void *buffer, enum MHD_ResponseMemoryMode mode)
{
	return lib.response_from_buffer(size, buffer, mode);
}

struct MHD_Response *MHD_create_response_from_callback(
	uint64_t size, size_t block_size, MHD_ContentReaderCallback crc,
	void *crc_cls, MHD_ContentReaderFreeCallback crfc)
{
	return lib.response_from_callback(size, block_size, crc, crc_cls, crfc);
}

struct MHD_Response *MHD_create_response_from_fd(size_t size, int fd)
{
	return lib.response_from_fd(size, fd);
}

void MHD_destroy_response(struct MHD_Response *response)
{
	lib.destroy_response(response);
}

int MHD_get_connection_values(struct MHD_Connection *connection,
			      enum MHD_ValueKind kind,
			      MHD_KeyValueIterator iterator, void *iterator_cls)
{
	return lib.get_connection_values(connection, kind, iterator,
					 iterator_cls);
}

size_t MHD_http_unescape(char *val)
{
	return lib.http_unescape(val);
}

const char *MHD_lookup_connection_value(struct MHD_Connection *connection,
					enum MHD_ValueKind kind, const char *key)
{
	return lib.lookup_connection_value(connection, kind, key);
}

enum MHD_Result MHD_queue_response(struct MHD_Connection *connection,
				   unsigned int status_code,
				   struct MHD_Response *response)
{
	return lib.queue_response(connection, status_code, response);
}

struct MHD_Daemon *MHD_start_daemon(unsigned int flags, uint16_t port,
				    MHD_AcceptPolicyCallback apc, void *apc_cls,
				    MHD_AccessHandlerCallback dh, void *dh_cls,
				    ...)
{
	struct MHD_Daemon *daemon;
	va_list options;

	va_start(options, dh_cls);
	daemon = lib.start_daemon_va(flags, port, apc, apc_cls, dh, dh_cls,
				     options);
	va_end(options);
	return daemon;
}

void MHD_stop_daemon(struct MHD_Daemon *daemon)
{
	lib.stop_daemon(daemon);
}
