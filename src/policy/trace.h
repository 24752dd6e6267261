/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recorded demand for memory: what each VM used and touched, and when.
 *
 * Text, one line per change, after a header line:
 *
 *	time_s,vm,active_mib,footprint_mib
 *	0,web1,40,200
 *	12.5,web1,90,210
 *
 * Times do not go back. A value holds until the VM's next line. Empty lines and lines
 * that begin with # do not count.
 */
#ifndef POLICY_TRACE_H
#define POLICY_TRACE_H
#include <base/error.h>
#include <base/types.h>

#define TRACE_NAME_MAX 48
#define TRACE_ROWS_MAX 20000000u

/**
 * struct trace_row - one change.
 * @time_ms: when
 * @vm: index of the VM's name
 * @active_pages: working set from then on
 * @footprint_pages: memory in use from then on; at least @active_pages
 */
struct trace_row {
	uint64_t time_ms;
	uint32_t vm;
	uint64_t active_pages;
	uint64_t footprint_pages;
};

/**
 * struct trace - a whole recording.
 * @rows: @n_rows changes, in order of time
 * @n_rows: number of rows
 * @names: @n_names names of VMs, in order of appearance
 * @n_names: number of names
 */
struct trace {
	struct trace_row *rows;
	size_t n_rows;
	char (*names)[TRACE_NAME_MAX];
	uint32_t n_names;
};

/**
 * trace_parse() - read a recording.
 * @text: the file's contents
 * @ret: recording, to be freed with trace_free(); not touched on failure
 * @err: names the line and what was wrong with it
 *
 * Return: 0, -EINVAL or -ERANGE for the text, -ENOMEM.
 */
int trace_parse(const char *text, struct trace **ret, struct err *err)
	__attribute__((warn_unused_result));

/**
 * trace_free() - release a recording.
 * @trace: recording, or NULL
 */
void trace_free(struct trace *trace);

#endif
