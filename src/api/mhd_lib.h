/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicrohttpd, loaded when a server is made. With what it needs itself it is eleven libraries,
 * whose loading took most of the time from mezzd's exec to its main(); the VM of `mezz run` waits
 * for that, and does not need a server.
 */
#ifndef API_MHD_LIB_H
#define API_MHD_LIB_H
#include <base/error.h>

/**
 * mhd_lib_load() - load it; it stays for the life of the process.
 * @err: message on failure
 *
 * Its functions are called by their own names; before this they must not be.
 *
 * Return: 0, or -ELIBACC if it is not there or too old. Context: any thread.
 */
int mhd_lib_load(struct err *err) __attribute__((warn_unused_result));

#endif
