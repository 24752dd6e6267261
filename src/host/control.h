/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control side of mezzd: what is defined, joined with what runs.
 *
 * Definitions are kept in memory and written through to the store; the host knows only VMs
 * that run. Answers the requests of api/server.h.
 */
#ifndef HOST_CONTROL_H
#define HOST_CONTROL_H
#include <api/server.h>
#include <host/host.h>

struct control;

/**
 * control_new() - read the definitions of a state directory and tell the host about them.
 * @host: the host; stays the caller's
 * @state_dir: where the definitions are
 * @version: of the program
 * @ret: set on success; ended with control_free()
 * @err: message
 *
 * Options and pools are in force when it returns; nothing is started.
 *
 * Return: 0, or as store_open(); -EBADMSG if a definition cannot be read.
 */
int control_new(struct host *host, const char *state_dir, const char *version,
		struct control **ret, struct err *err)
	__attribute__((warn_unused_result));

/** control_free() - the host and its VMs go on. NULL is fine. Return: NULL. */
struct control *control_free(struct control *control);

/**
 * control_start() - start a VM that is defined, as clients do.
 * Return: 0 or -errno. Takes seconds; any thread but the host's.
 */
int control_start(struct control *control, const char *name, struct err *err)
	__attribute__((warn_unused_result));

/**
 * control_autostart() - start what is to be started with the host, in the order of names.
 * @control: control
 * @failed: called for each VM that could not be started
 * @ctx: for @failed
 */
void control_autostart(struct control *control,
		       void (*failed)(void *ctx, const char *name,
				      const struct err *err),
		       void *ctx);

/** control_backend() - what a server needs to ask this control. */
struct api_backend control_backend(struct control *control);

/** control_event() - an event of the host as clients see it. */
void control_event(const struct host_event *from, struct api_event *to);

#endif
