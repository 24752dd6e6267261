/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a library by the name of its binary interface. */
#include <api/dynlib.h>

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int dynlib_load(const char *soname, const struct dynlib_symbol *symbols,
		size_t n, void *table, struct err *err)
{
	void *handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return err_set(err, -ELIBACC, "cannot load %s: %s", soname,
			       dlerror());
	for (size_t i = 0; i < n; i++) {
		void *fn = dlsym(handle, symbols[i].name);

		if (!fn)
			return err_set(err, -ELIBACC, "%s has no %s", soname,
				       symbols[i].name);
		/* POSIX promises that a function's address survives this. */
		memcpy((char *)table + symbols[i].at, &fn, sizeof(fn));
	}
	return 0;
}
