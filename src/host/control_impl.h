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
 * @n_starting: so many starts are under way, by this definition
 */
struct definition {
	struct api_vm_config config;
	bool args_changed;
	unsigned int n_starting;
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

/* control.c */

/**
 * control_put() - write a definition down.
 * @c: control
 * @kind: of definition
 * @name: of what is defined
 * @schema: how @object becomes JSON
 * @object: definition
 * @err: message
 *
 * Return: 0, -ENOMEM, or as store_put().
 */
int control_put(struct control *c, enum store_kind kind, const char *name,
		const struct api_schema *schema, const void *object,
		struct err *err) __attribute__((warn_unused_result));

/** control_figures() - as host_snapshot_take(), with a message. Return: 0 or -ENOMEM. */
int control_figures(struct control *c, struct host_snapshot *s, struct err *err)
	__attribute__((warn_unused_result));

/* control_vms.c */

/**
 * control_find_def() - the position of a VM in the definitions, or where it belongs. Under @lock.
 *
 * Return: whether it is there.
 */
bool control_find_def(const struct control *c, const char *name, size_t *ret_at);

/** control_copy_config() - a copy with arguments of its own. Return: 0 or -ENOMEM. */
int control_copy_config(struct api_vm_config *to,
			const struct api_vm_config *from, struct err *err)
	__attribute__((warn_unused_result));

/** control_no_vm() - say that there is no such VM. Return: -ENOENT. */
int control_no_vm(const char *name, struct err *err);

/** control_load_vms() - read all definitions. Return: 0 or -errno. */
int control_load_vms(struct control *c, struct err *err)
	__attribute__((warn_unused_result));

/** control_free_vms() - free what control_load_vms() and requests have made. */
void control_free_vms(struct control *c);

/* control_show.c */

/** control_list_vms() - VMs that are defined or run, by name. Return: 0 or -ENOMEM. */
int control_list_vms(struct control *c, const struct host_snapshot *s,
		     struct api_array *ret) __attribute__((warn_unused_result));

/** control_show_vm() - one VM that is defined or runs. Return: 0, -ENOENT, -ENOMEM. */
int control_show_vm(struct control *c, const char *name, struct api_vm *ret,
		    struct err *err) __attribute__((warn_unused_result));

/* control_pools.c */

/** control_find_pool() - by name. Under @lock. Return: NULL if there is none. */
struct api_pool *control_find_pool(const struct control *c, const char *name);

/** control_list_pools() - all pools and their figures. Return: 0 or -ENOMEM. */
int control_list_pools(const struct host_snapshot *s, struct api_array *ret)
	__attribute__((warn_unused_result));

/** control_load_pools() - read all definitions and make the pools. Return: 0 or -errno. */
int control_load_pools(struct control *c, struct err *err)
	__attribute__((warn_unused_result));

/*
 * Requests: each answers one operation of the API. @reply is the struct that the route's
 * schema describes, all zero before; what is in it at the end is released by the caller, also
 * on failure. Without @lock. Return: 0, or -errno and a message.
 */
typedef int control_request(struct control *c, const struct api_request *req,
			    void *reply, struct err *err);

control_request control_get_vms, control_get_vm, control_create_vm,
	control_set_vm, control_remove_vm, control_start_vm, control_stop_vm,
	control_get_map, control_get_pools, control_set_pool,
	control_remove_pool;

#endif
