/* SPDX-License-Identifier: Apache-2.0 */
/* Loads libcurl by the name of its binary interface. */
#include <api/curl_lib.h>

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <base/types.h>

/* The version with whose headers this is built; its interface has not changed since 2006. */
#define CURL_SONAME "libcurl.so.4"

static const struct symbol {
	const char *name;
	size_t at;
} symbols[] = {
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
	void *handle = dlopen(CURL_SONAME, RTLD_NOW | RTLD_LOCAL);
	struct curl_lib lib;

	if (!handle)
		return err_set(err, -ELIBACC, "cannot load %s: %s", CURL_SONAME,
			       dlerror());
	for (size_t i = 0; i < ARRAY_SIZE(symbols); i++) {
		void *fn = dlsym(handle, symbols[i].name);

		if (!fn)
			return err_set(err, -ELIBACC, "%s has no %s",
				       CURL_SONAME, symbols[i].name);
		/* POSIX promises that a function's address survives this. */
		memcpy((char *)&lib + symbols[i].at, &fn, sizeof(fn));
	}
	*ret_lib = lib;
	return 0;
}
