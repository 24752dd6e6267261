/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the control side: definitions, and figures in the form of the API. */
#ifndef HOST_CONTROL_IMPL_H
#define HOST_CONTROL_IMPL_H
#include <pthread.h>

#include <api/types.h>
#include <host/control.h>
#include <host/store.h>

/**
 * struct definition - one VM that is defined.
 * @config: definition
 * @args_changed: they are not those that it runs with
 */
struct definition {
	struct api_vm_config config;
	bool args_changed;
};

/**
 * struct control - everything but the first two and @version is under @lock.
 */
struct control {
	struct host *host;
	struct store *store;
	char version[32];
	pthread_mutex_t lock;
	struct definition **defs; /* by name */
	size_t n_defs;
	struct api_array pools; /* struct api_pool, of which name and config are used */
};

/** fill_host() - figures of the host. */
void fill_host(struct api_host *to, const struct host_figures *from,
	       const char *version);

/** fill_stats() - figures of a VM. */
void fill_stats(struct api_stats *to, const struct host_vm_figures *from);

/** fill_settings() - what the host is told of a definition; args are borrowed. */
void fill_settings(struct host_vm_settings *to,
		   const struct api_vm_config *from);

/** fill_pool() - figures of a pool. */
void fill_pool(struct api_pool *to, const struct host_pool_figures *from);

/** fill_option() - one advanced option. */
void fill_option(struct api_option *to, const struct options *options,
		 enum option_id id);

/** map_vm() - answer API_MAP_VM. Return: 0 or -errno. */
int map_vm(struct control *control, const struct api_request *request,
	   struct api_map *ret, struct err *err);

#endif
