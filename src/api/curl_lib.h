/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl, loaded when the first request is made. With what it needs itself it is thirty
 * libraries, whose loading would take longer than everything else that `mezz run` does.
 */
#ifndef API_CURL_LIB_H
#define API_CURL_LIB_H
/* Its checks of types are macros around the functions that we do not link. */
#define CURL_DISABLE_TYPECHECK 1
#include <curl/curl.h>

#include <base/error.h>

/** struct curl_lib - functions of libcurl, each as curl/curl.h describes it. */
struct curl_lib {
	CURL *(*easy_init)(void);
	void (*easy_cleanup)(CURL *curl);
	void (*easy_reset)(CURL *curl);
	CURLcode (*easy_setopt)(CURL *curl, CURLoption option, ...);
	CURLcode (*easy_perform)(CURL *curl);
	CURLcode (*easy_getinfo)(CURL *curl, CURLINFO info, ...);
	char *(*easy_escape)(CURL *curl, const char *text, int length);
	const char *(*easy_strerror)(CURLcode code);
	struct curl_slist *(*slist_append)(struct curl_slist *list,
					   const char *text);
	void (*slist_free_all)(struct curl_slist *list);
	void (*free)(void *mem);
};

/**
 * curl_lib_load() - load it; it stays for the life of the process.
 * @ret_lib: filled on success
 * @err: message on failure
 *
 * Return: 0, or -ELIBACC if it is not there or too old. Context: any thread.
 */
int curl_lib_load(struct curl_lib *ret_lib, struct err *err)
	__attribute__((warn_unused_result));

#endif
