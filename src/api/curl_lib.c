/* SPDX-License-Identifier: Apache-2.0 */
/* Loads libcurl by the name of its binary interface. */
#include <api/curl_lib.h>

#include <assert.h>
#include <stddef.h>

#include <api/dynlib.h>
#include <base/types.h>

/* The version with whose headers this is built; its interface has not changed since 2006. */
#define CURL_SONAME "libcurl.so.4"

static const struct dynlib_symbol symbols[] = {
	{"curl_easy_init", offsetof(struct curl_lib, easy_init)},
	{"curl_easy_cleanup", offsetof(struct curl_lib, easy_cleanup)},
	{"curl_easy_reset", offsetof(struct curl_lib, easy_reset)},
	{"curl_easy_setopt", offsetof(struct curl_lib, easy_setopt)},
	{"curl_easy_perform", offsetof(struct curl_lib, easy_perform)},
	{"curl_easy_getinfo", offsetof(struct curl_lib, easy_getinfo)},
	{"curl_easy_escape", offsetof(struct curl_lib, easy_escape)},
	{"curl_easy_strerror", offsetof(struct curl_lib, easy_strerror)},
	{"curl_slist_append", offsetof(struct curl_lib, slist_append)},
	{"curl_slist_free_all", offsetof(struct curl_lib, slist_free_all)},
	{"curl_free", offsetof(struct curl_lib, free)},
};

static_assert(sizeof(struct curl_lib) == ARRAY_SIZE(symbols) * sizeof(void *),
	      "a symbol for each function");

int curl_lib_load(struct curl_lib *ret_lib, struct err *err)
{
	struct curl_lib lib;
	const int r = dynlib_load(CURL_SONAME, symbols, ARRAY_SIZE(symbols),
				  &lib, err);

	if (!r)
		*ret_lib = lib;
	return r;
}
