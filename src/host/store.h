/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions that survive: VMs, resource pools and options, in SQLite. */
#ifndef HOST_STORE_H
#define HOST_STORE_H
#include <jansson.h>

#include <base/error.h>
#include <base/types.h>

enum store_kind {
	STORE_VM,
	STORE_POOL,
	STORE_OPTION,
	STORE_KINDS,
};

struct store;

/**
 * store_open() - open the database of a state directory, and make it if it is not there.
 * @dir: directory, which exists
 * @ret: set on success; ended with store_close()
 * @err: message
 *
 * Return: 0; -EBUSY (another program has it open); -EROFS; -EACCES; -ENOSPC; -EBADMSG (not a
 * database, or damaged); -EPROTO (written by a newer version); -EIO; -ENOMEM.
 */
int store_open(const char *dir, struct store **ret, struct err *err)
	__attribute__((warn_unused_result));

/** store_close() - NULL is fine. Return: NULL. */
struct store *store_close(struct store *store);

/**
 * store_put() - make or replace one definition; on disk when it returns.
 * @store: store
 * @kind: of what
 * @name: of it
 * @definition: JSON
 * @err: message
 *
 * Return: as store_open(). Context: one thread at a time, for all functions here.
 */
int store_put(struct store *store, enum store_kind kind, const char *name,
	      const json_t *definition, struct err *err)
	__attribute__((warn_unused_result));

/** store_remove() - forget one definition, if it is there. Return: as store_open(). */
int store_remove(struct store *store, enum store_kind kind, const char *name,
		 struct err *err) __attribute__((warn_unused_result));

/**
 * store_each() - read all definitions of a kind, by name.
 * @store: store
 * @kind: of what
 * @each: called for each; what it returns ends the walk if it is not 0
 * @ctx: for @each
 * @err: message
 *
 * Return: 0, what @each returned, or as store_open().
 */
int store_each(struct store *store, enum store_kind kind,
	       int (*each)(void *ctx, const char *name,
			   const json_t *definition, struct err *err),
	       void *ctx, struct err *err) __attribute__((warn_unused_result));

#endif
