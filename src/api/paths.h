/* SPDX-License-Identifier: Apache-2.0 */
/* Where things are if nobody says otherwise; the same for mezzd and its clients. */
#ifndef API_PATHS_H
#define API_PATHS_H
#include <base/error.h>
#include <base/types.h>

#define PATHS_MAX 4096

/**
 * paths_socket() - the socket of mezzd.
 * @buf: PATHS_MAX bytes
 * @err: message
 *
 * $MEZZ_SOCKET; else /run/mezzanine/mezzd.sock for root, and for others
 * $XDG_RUNTIME_DIR/mezzanine/mezzd.sock.
 *
 * Return: 0, -ENOENT (no $XDG_RUNTIME_DIR), -ENAMETOOLONG.
 */
int paths_socket(char buf[PATHS_MAX], struct err *err)
	__attribute__((warn_unused_result));

/**
 * paths_state_dir() - the state directory of mezzd.
 * @buf: PATHS_MAX bytes
 * @err: message
 *
 * /var/lib/mezzanine for root, and for others $XDG_STATE_HOME/mezzanine or
 * $HOME/.local/state/mezzanine.
 *
 * Return: 0, -ENOENT (no $HOME), -ENAMETOOLONG.
 */
int paths_state_dir(char buf[PATHS_MAX], struct err *err)
	__attribute__((warn_unused_result));

/** paths_own_folder() - the folder of this program. Return: false if it is not known. */
bool paths_own_folder(char buf[PATHS_MAX]);

/**
 * paths_beside() - a file near this program: the first of some relative paths that is there.
 * @places: relative to the folder of this program, ended by NULL
 * @buf: PATHS_MAX bytes
 *
 * Return: whether there is one.
 */
bool paths_beside(const char *const *places, char buf[PATHS_MAX]);

/** paths_make_parents() - make the folders above a file, mode 0755. Return: 0 or -errno. */
int paths_make_parents(const char *path, struct err *err)
	__attribute__((warn_unused_result));

/** paths_remove_tree() - remove a folder and all in it; what cannot be removed stays. */
void paths_remove_tree(const char *path);

#endif
