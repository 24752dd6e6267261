/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the host memory manager, for src/host only.
 *
 * Threads: the manager, which waits for messages and decides; the mover, which moves
 * pages; and whoever calls the functions of host.h.
 *
 * Locks, taken in this order: @gate, held while pages are moved and by whoever needs that
 * none is moved; @lock, for lists, settings and decisions, held for a short time only.
 * A VM in the list ends only under both.
 */
#ifndef HOST_HOST_IMPL_H
#define HOST_HOST_IMPL_H
#include <pthread.h>
#include <stdatomic.h>

#include <host/group.h>
#include <host/host.h>
#include <host/ledger.h>
#include <host/reclaim.h>
#include <host/sample.h>
#include <host/settings.h>
#include <host/share.h>
#include <host/vmmem.h>
#include <mem/link_msg.h>
#include <policy/plan.h>
#include <policy/sweep.h>

/* Less cannot hold a VM's process and a guest. */
#define HOST_MEMORY_MIN (UINT64_C(16) << 20)

/**
 * struct hvm_end - what is left of a VM that went while somebody waited for its start.
 * @gone: it is
 * @unwanted: its end was asked for
 * @why: what it was killed for; empty: for nothing
 */
struct hvm_end {
	bool gone;
	bool unwanted;
	char why[HOST_EVENT_MAX];
};

/**
 * struct hvm - one VM that runs. Members: I immutable, l under @lock, m the mover's (under
 * @gate), g manager's thread.
 */
struct hvm {
	struct host *host;           /* I */
	struct host_vm_settings set; /* l */
	enum host_vm_state state;    /* l */
	ino_t group_ino;             /* l */
	uint64_t start_ms;           /* I */
	pid_t pid;  /* l 0: it has none yet, or it is not known */
	int pid_fd; /* l so is that of -1 */
	int sock;   /* l set once; -1: nobody is connected yet */
	bool unwanted; /* l told to end before it had a process: it gets none, or not for long */
	bool adopting; /* l it ran before this host and is not attached yet */
	bool up; /* l its processor runs; not known of one that ran before this host */
	struct hvm_end *starter; /* l filled in when it goes; NULL: nobody waits for its start */
	bool greeted;             /* g */
	bool lost;                /* l its link is gone */
	char why[HOST_EVENT_MAX]; /* l for what it is killed; empty: for nothing */
	uint64_t kill_at_ms;      /* l when patience ends; 0: it does not */
	struct vmmem *mem;        /* l set once, ended under both locks */

	struct sample sample;      /* m */
	struct reclaim_vm reclaim; /* m */
	uint64_t reclaim_at_ms;    /* m not before: its disk took nothing */
	uint64_t cursor;           /* m of the scan */
	double share_credit;       /* m pages that may be scanned */

	struct plan_action action;  /* l */
	bool breaks_large;          /* l */
	struct reclaim_order order; /* l */
	bool has_active;            /* l there is an estimate */
	uint64_t active_pages;      /* l */
	struct workset ws;          /* l copy of the estimator */
	uint64_t overhead_pages;    /* l as measured, without tables */
	uint64_t charge_pages;      /* l of overhead and tables in the ledger */
	uint64_t calm_pages;        /* l it had so many when it last grew */
	uint64_t calm_since_ms;     /* l when that was */
	bool entered;               /* l its overhead is in the ledger */
	bool alone; /* l it runs, and has started no process beside its own */
	uint64_t stalled_ns;    /* l all its waits when last looked at */
	uint64_t stalled_ms;    /* l when that was */
	double latency_pct;     /* l share of time that it waited until then */
	bool ran_before;        /* I it is older than this host */
	bool saved;             /* l its settings file is as it was read */
	uint64_t assumed_pages; /* l entered for it until it greets */
	struct balloon_watch balloon; /* l */
	struct sweep sweep;           /* l */
	uint64_t balloon_sent;        /* l with what a sweep adds */
	uint64_t sweep_sent;          /* l of that */
	bool balloon_untold; /* l it knows a target that another mezzd has set */
	bool swap_was_full;  /* l told once */
	int swap_error;      /* l errno that was told, 0: none */
};

/**
 * struct chore - work for the mover's thread, which the manager must not wait for, since
 * the mover may be waiting for what the manager hears.
 * @next: chore that came after it
 * @vm: VM
 * @gone: its process has ended; else it greets with @msg and @fds
 */
struct chore {
	struct chore *next;
	struct hvm *vm;
	bool gone;
	struct link_msg msg;
	int fds[LINK_FDS_MAX];
};

/** struct hpool - a resource pool; all under @lock. As in host_pool_set(). */
struct hpool {
	char name[HOST_NAME_SIZE];
	char parent[HOST_NAME_SIZE];
	struct mem_alloc alloc;
};

/**
 * struct host - one state directory's host. Members: as for struct hvm, a atomic.
 */
struct host {
	char *state_dir;        /* I */
	char *vm_program;       /* I */
	bool foreground;        /* I VMs share our terminal */
	int dir_fd;             /* I vms/ */
	int lock_fd;            /* I */
	uint64_t managed_pages; /* I */
	uint64_t processor_mhz; /* I */
	uint64_t start_ms;      /* I */
	void (*event)(void *ctx, const struct host_event *event); /* I */
	void *event_ctx;                                          /* I */
	pthread_mutex_t event_lock;
	uint64_t event_seq; /* under @event_lock */

	struct ledger ledger; /* its own lock */
	pthread_mutex_t gate;
	_Atomic int gate_wanted; /* a others than the mover who wait for it */
	pthread_mutex_t lock;
	pthread_cond_t changed;   /* a VM's state changed */
	struct hvm **vms;         /* l by name */
	uint32_t n_vms;           /* l */
	struct hpool *pools;      /* l */
	uint32_t n_pools;         /* l */
	struct chore *chores;     /* l oldest first */
	struct options options;   /* l */
	uint32_t n_adopting;      /* l */
	bool open;                /* l all that is in use is in the ledger */
	struct plan_summary plan; /* l */
	uint64_t plan_ns;         /* l */
	uint64_t self_pages;      /* l this program's own memory */
	uint64_t overhead_base_pages; /* I */
	uint64_t starting_pages; /* l VMs that start need so many, and wait */

	struct group **groups;          /* m */
	uint32_t n_groups;              /* m */
	struct share *share;            /* m */
	struct reclaim *reclaim;        /* m */
	uint64_t filled_credit_ns;      /* m processor time for filled pages */
	_Atomic uint64_t share_scanned; /* a */
	_Atomic uint64_t share_cpu_ns;  /* a */

	pthread_t manager;         /* I */
	pthread_t mover;           /* I */
	bool has_manager;          /* I */
	bool has_mover;            /* I */
	int epoll_fd;              /* I */
	int wake_fd;               /* I wakes the manager */
	_Atomic bool ending;       /* a */
	_Atomic bool replan;       /* a */
	uint64_t next_plan_ms;     /* g */
	double overcommit[3];      /* l averages, each second */
	uint64_t next_overhead_ms; /* g */
	uint64_t next_adopt_ms;    /* g */
	uint64_t earliest_plan_ms; /* g */
};

/* process.c: VM processes and their links */

/** process_start() - the VM's directory, swap file and process. Return: 0 or -errno. */
int process_start(struct host *host, struct hvm *vm,
		  const struct host_vm_settings *set, struct err *err)
	__attribute__((warn_unused_result));

/** process_connect() - to the VM that listens in a directory. Return: socket or -errno. */
int process_connect(int dir_fd);

/** process_open() - a process by its number. Return: descriptor or -errno. */
int process_open(pid_t pid);

/** process_hello() - a VM greets: make its memory known. Under the gate. Return: 0 or -errno. */
int process_hello(struct hvm *vm, const struct link_msg *msg, int *fds,
		  struct err *err) __attribute__((warn_unused_result));

/**
 * process_last_words() - the last line that a VM's log holds, printable ASCII.
 * @host: the host
 * @name: of the VM
 * @buf: the line, without its end; empty if there is none
 * @size: of @buf; what is longer loses its beginning
 *
 * Return: whether there is one.
 */
bool process_last_words(struct host *host, const char *name, char *buf,
			size_t size);

/** process_remove_files() - what only a VM that runs needs: swap file and sockets. */
void process_remove_files(struct host *host, const char *name);

/**
 * process_ended() - say why a VM ended at its start, by its log.
 *
 * Return: -ECHILD. HOST_EVENT_VM_ENDED was told, or is about to be.
 */
int process_ended(struct host *host, const char *name, struct err *err);

/** process_save() - write a VM's settings file. Under @lock. Return: 0 or -errno. */
int process_save(struct hvm *vm, struct err *err)
	__attribute__((warn_unused_result));

/** process_dir() - open a VM's directory. Return: descriptor or -errno. */
int process_dir(struct host *host, const char *name);

/** process_kill() - send a signal. */
void process_kill(const struct hvm *vm, int signal);

/* adopt.c: VMs that an earlier host left running */

/** adopt_all() - find them; they attach themselves later. Return: 0 or -errno. */
int adopt_all(struct host *host, struct err *err)
	__attribute__((warn_unused_result));

/** adopt_wait() - until all that were found have attached themselves, or for so long. */
void adopt_wait(struct host *host, uint64_t timeout_ms);

/**
 * adopt_again() - try to connect to one that was found, but could not be connected to.
 *
 * Return: whether it is there; if not, it is not in the list any more soon. Manager, under @lock.
 */
bool adopt_again(struct hvm *vm);

/** process_ticks() - when a process was started, in the kernel's ticks; 0: there is none. */
uint64_t process_ticks(pid_t pid);

/* manager.c */

/** manager_loop() - the thread; @arg: the host. Return: NULL. */
void *manager_loop(void *arg);

/** manager_wake() - have it look at what is new. Any thread. */
void manager_wake(struct host *host);

/** manager_watch() - wait for messages and end of a VM, as far as known. Return: 0 or -errno. */
int manager_watch(struct host *host, struct hvm *vm)
	__attribute__((warn_unused_result));

/** manager_do_chores() - what the mover does for the manager. Under the gate. */
void manager_do_chores(struct host *host);

/* overhead.c */

/** vm_overhead_reserve() - overhead that a VM of that size is admitted with, pages. */
uint64_t vm_overhead_reserve(const struct host *host, uint64_t size_pages);

/** vm_overhead_now() - overhead without tables, as the kernel says now; 0 before it greets. */
uint64_t vm_overhead_now(struct hvm *vm);

/**
 * process_overhead() - machine pages of a process beside memory files, from /proc.
 *
 * Return: pages; 0 if there is no such process, and where the address sanitizer is built in.
 */
uint64_t process_overhead(pid_t pid);

/** overhead_measure() - enter what everybody uses now, or may use soon. Under @lock. */
void overhead_measure(struct host *host);

/**
 * overhead_enter() - enter what a VM needs at its start, before it starts.
 * @host: host; has its memory reclaimed if need be
 * @vm: in the list, without a process
 * @err: says what was short
 *
 * Return: 0, or -EAGAIN if it could not be had within seconds.
 */
int overhead_enter(struct host *host, struct hvm *vm, struct err *err)
	__attribute__((warn_unused_result));

/* balloon.c; all under @lock, of a VM that has greeted */

/** hvm_balloon_found() - a VM that ran before has what an earlier mezzd asked its balloon for. */
void hvm_balloon_found(struct hvm *vm);

/** hvm_balloon_judge() - look at what its driver has done; events. Once a second. */
void hvm_balloon_judge(struct hvm *vm);

/** hvm_balloon_base() - what the balloon was asked for, without a sweep. Return: pages. */
uint64_t hvm_balloon_base(const struct hvm *vm);

/** hvm_balloon_send() - ask for what the plan says, and a sweep, if that is new. */
void hvm_balloon_send(struct hvm *vm);

/** hvm_sweep() - go on with sweeping. Return: whether to come back soon. */
bool hvm_sweep(struct hvm *vm);

/* decide.c */

/** host_free_pages() - what is free, or promised to VMs and not taken yet. Under @lock. */
uint64_t host_free_pages(struct host *host);

/** decide() - make a plan and put it into force. Manager, under @lock. */
void decide(struct host *host);

/**
 * build_tree() - pools and VMs for the policy; ended with free(*ret_nodes). Return:
 * 0 or -ENOMEM.
 */
int build_tree(struct host *host, struct tree *ret, struct tree_node **ret_nodes)
	__attribute__((warn_unused_result));

/** admit_host() - what the host has to promise. Under @lock. */
struct admit_host admit_host(struct host *host);

/** vm_common_pages() - a VM's part of its group's frames; parts add up. Under @lock. */
uint64_t vm_common_pages(const struct hvm *vm);

/* mover.c */

/** mover_loop() - the thread; @arg: the host. Return: NULL. */
void *mover_loop(void *arg);

/** gate_lock() - wait until no page is being moved, ahead of the mover. */
void gate_lock(struct host *host);

/** gate_unlock() - let it go on. */
void gate_unlock(struct host *host);

/* events.c */

/** host_tell() - report an event. @vm: its name or NULL. */
void host_tell(struct host *host, enum host_event_kind kind, const char *vm,
	       const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/** host_tell_ended() - report HOST_EVENT_VM_ENDED. @status: of waitpid(), -1: not known. */
void host_tell_ended(struct host *host, const char *vm, int status);

/* vms.c */

/** vm_find() - a VM by name. Under @lock. Return: NULL if it does not run. */
struct hvm *vm_find(struct host *host, const char *name);

/** vm_insert() - into the list. Under @lock. Return: 0 or -ENOMEM. */
int vm_insert(struct host *host, struct hvm *vm)
	__attribute__((warn_unused_result));

/** hvm_new() - a VM without memory and process. Return: NULL if there is no memory. */
struct hvm *hvm_new(struct host *host, const struct host_vm_settings *set);

/** hvm_destroy() - take it from the list and free everything. Under both locks. */
void hvm_destroy(struct hvm *vm);

/**
 * host_check_promises() - whether all promises hold with what is set now. Under @lock.
 *
 * Return: 0; -ENOSPC and the like, as admit_check(); -ENOMEM.
 */
int host_check_promises(struct host *host, struct err *err)
	__attribute__((warn_unused_result));

/* pools.c */

/** pool_index() - index of a pool, -1 for the host itself (""), -ENOENT. Under @lock. */
int pool_index(struct host *host, const char *name);

#endif
