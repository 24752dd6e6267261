/* SPDX-License-Identifier: Apache-2.0 */
/* Three tables of a name and a definition in JSON each, which need no new columns ever. */
#include <host/store.h>

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <host/disk.h>

#define STORE_FILE    "mezzanine.db"
#define STORE_VERSION 1
/* A change, and the journal that it can be taken back with; nobody needs much more. */
#define ROOM_BYTES (UINT64_C(64) << 10)

struct store {
	sqlite3 *db;
	char *path;
};

/* clang-format off */
static const char *const create_sql =
	"CREATE TABLE IF NOT EXISTS vm (name TEXT PRIMARY KEY, definition TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS pool (name TEXT PRIMARY KEY, definition TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS option (name TEXT PRIMARY KEY, definition TEXT NOT NULL) WITHOUT ROWID;"
	"PRAGMA user_version = 1;";

static const char *const put_sql[STORE_KINDS] = {
	[STORE_VM] = "INSERT OR REPLACE INTO vm VALUES (?1, ?2)",
	[STORE_POOL] = "INSERT OR REPLACE INTO pool VALUES (?1, ?2)",
	[STORE_OPTION] = "INSERT OR REPLACE INTO option VALUES (?1, ?2)",
};
static const char *const remove_sql[STORE_KINDS] = {
	[STORE_VM] = "DELETE FROM vm WHERE name = ?1",
	[STORE_POOL] = "DELETE FROM pool WHERE name = ?1",
	[STORE_OPTION] = "DELETE FROM option WHERE name = ?1",
};
static const char *const each_sql[STORE_KINDS] = {
	[STORE_VM] = "SELECT name, definition FROM vm ORDER BY name",
	[STORE_POOL] = "SELECT name, definition FROM pool ORDER BY name",
	[STORE_OPTION] = "SELECT name, definition FROM option ORDER BY name",
};
/* clang-format on */

static int error_code(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
		return -EACCES;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	case SQLITE_NOMEM:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

/* SQLite reports a full disk as an I/O error where that is met outside its own writes. */
static int fail(struct store *store, int rc, struct err *err)
{
	char why[DISK_TEXT];
	const int r = store->db && sqlite3_system_errno(store->db) == ENOSPC
			      ? -ENOSPC
			      : error_code(rc);

	return err_set(err, r, "%s: %s", store->path,
		       r == -ENOSPC
			       ? disk_error(ENOSPC, store->path, ROOM_BYTES, why)
		       : r == -EBUSY ? "another program has it open"
		       : r == -EROFS ? "it cannot be written"
		       : store->db   ? sqlite3_errmsg(store->db)
				     : sqlite3_errstr(rc));
}

static int version_of(struct store *store, int *ret)
{
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(store->db, "PRAGMA user_version", -1, &q,
				    NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(q);
	if (rc == SQLITE_ROW) {
		*ret = sqlite3_column_int(q, 0);
		rc = SQLITE_OK;
	}
	sqlite3_finalize(q);
	return rc;
}

static int prepare(struct store *store, struct err *err)
{
	int version = 0;
	int rc = sqlite3_busy_timeout(store->db, 1000);

	/* Taken at the first write and kept: nobody else may change what we remember. */
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(store->db,
				  "PRAGMA locking_mode = EXCLUSIVE;"
				  "PRAGMA synchronous = FULL;"
				  "BEGIN EXCLUSIVE; COMMIT;",
				  NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = version_of(store, &version);
	if (rc == SQLITE_OK && version > STORE_VERSION)
		return err_set(
			err, -EPROTO,
			"%s has version %d, this program knows %d: it was written by a newer one",
			store->path, version, STORE_VERSION);
	/* Definitions that are there can be read from a disk that is full. */
	if (rc == SQLITE_OK && version < STORE_VERSION)
		rc = sqlite3_exec(store->db, create_sql, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : fail(store, rc, err);
}

int store_open(const char *dir, struct store **ret, struct err *err)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store || asprintf(&store->path, "%s/" STORE_FILE, dir) < 0) {
		free(store);
		return err_set(err, -ENOMEM, "no memory for the definitions");
	}
	const int rc = sqlite3_open_v2(store->path, &store->db,
				       SQLITE_OPEN_READWRITE |
					       SQLITE_OPEN_CREATE |
					       SQLITE_OPEN_FULLMUTEX,
				       NULL);
	const int r = rc == SQLITE_OK ? prepare(store, err)
				      : fail(store, rc, err);

	if (r) {
		store_close(store);
		return r;
	}
	*ret = store;
	return 0;
}

struct store *store_close(struct store *store)
{
	if (!store)
		return NULL;
	sqlite3_close(store->db);
	free(store->path);
	free(store);
	return NULL;
}

/* One statement with up to two texts. */
static int run(struct store *store, const char *sql, const char *name,
	       const char *definition, struct err *err)
{
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(store->db, sql, -1, &q, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK && definition)
		rc = sqlite3_bind_text(q, 2, definition, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(q);
	const int r = rc == SQLITE_DONE ? 0 : fail(store, rc, err);

	sqlite3_finalize(q);
	return r;
}

int store_put(struct store *store, enum store_kind kind, const char *name,
	      const json_t *definition, struct err *err)
{
	char *text = json_dumps(definition, JSON_COMPACT);

	if (!text)
		return err_set(err, -ENOMEM, "no memory for the definition");
	const int r = run(store, put_sql[kind], name, text, err);

	free(text);
	return r;
}

int store_remove(struct store *store, enum store_kind kind, const char *name,
		 struct err *err)
{
	return run(store, remove_sql[kind], name, NULL, err);
}

static int one_row(struct store *store, sqlite3_stmt *q,
		   int (*each)(void *ctx, const char *name,
			       const json_t *definition, struct err *err),
		   void *ctx, struct err *err)
{
	const char *name = (const char *)sqlite3_column_text(q, 0);
	const char *text = (const char *)sqlite3_column_text(q, 1);
	json_error_t e;
	json_t *j = name && text ? json_loads(text, 0, &e) : NULL;

	if (!j)
		return err_set(err, -EBADMSG,
			       "%s: the definition of %s is damaged",
			       store->path, name ? name : "?");
	const int r = each(ctx, name, j, err);

	json_decref(j);
	return r;
}

int store_each(struct store *store, enum store_kind kind,
	       int (*each)(void *ctx, const char *name,
			   const json_t *definition, struct err *err),
	       void *ctx, struct err *err)
{
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(store->db, each_sql[kind], -1, &q, NULL);
	int r = 0;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(q);
	for (; rc == SQLITE_ROW && !r; rc = sqlite3_step(q))
		r = one_row(store, q, each, ctx, err);
	if (!r && rc != SQLITE_DONE)
		r = fail(store, rc, err);
	sqlite3_finalize(q);
	return r;
}
