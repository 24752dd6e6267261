/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a VM, for src/vm only. */
#ifndef VM_VM_IMPL_H
#define VM_VM_IMPL_H
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include <boot/boot.h>
#include <dev/apic_bus.h>
#include <dev/bus.h>
#include <dev/clock.h>
#include <dev/debug_exit.h>
#include <dev/ioapic.h>
#include <dev/kvmclock.h>
#include <dev/lapic.h>
#include <dev/power.h>
#include <dev/rtc.h>
#include <dev/serial.h>
#include <dev/virtio_balloon.h>
#include <dev/virtio_blk.h>
#include <dev/virtio_net.h>
#include <dev/virtio_rng.h>
#include <engine/engine.h>
#include <mem/guestmem.h>
#include <mem/link_counters.h>
#include <mem/revoke_stress.h>
#include <vm/link.h>
#include <vm/vm.h>

/* Console output that is not a whole line waits no longer than this. */
#define VM_FLUSH_NS UINT64_C(2000000)
/* A slice takes milliseconds. A processor that was not seen for so long has waited for the host. */
#define VM_STOPPED_NS UINT64_C(1000000000)

/**
 * struct vm - see vm.h. Lock letters: I immutable after vm_new(), d device lock,
 * p processor thread (anybody after vm_join()), a atomic.
 */
struct vm {
	const struct vm_config *cfg;         /* I */
	const struct vm_callbacks *cb;       /* I */
	void *ctx;                           /* I */
	const struct engine_ops *engine_ops; /* I */
	char engine_why[256];                /* I why this engine */
	const char *mmu_why;   /* I why this memory virtualization */
	struct engine *engine; /* p */
	struct guestmem *mem;  /* I */
	struct link *link;     /* I or NULL: to the host's memory manager */
	pthread_mutex_t large_lock; /* the link calls the engine with it held */
	bool has_engine;            /* under large_lock */
	bool broken_large;      /* under large_lock: as the host said last */
	struct boot_state boot; /* I */
	pthread_t reader; /* reads the kernel file while memory and engine are made */
	bool reads;       /* owner's thread: there is a @reader */
	struct boot_kernel *kernel; /* the reader's, then I or NULL: not read */
	struct err kernel_err;      /* the reader's, then I why not */
	int kernel_result;          /* the reader's, then I */
	struct revoke_stress *stress;            /* owner's thread */
	struct revoke_stress_stats stress_stats; /* after vm_join() */

	pthread_mutex_t device_lock;
	struct bus *bus;                        /* d */
	struct apic_bus apic_bus;               /* d */
	struct lapic lapic;                     /* d */
	struct ioapic ioapic;                   /* d */
	struct serial serial;                   /* d */
	struct rtc rtc;                         /* d */
	struct power power;                     /* d */
	struct debug_exit debug_exit;           /* d */
	struct kvmclock kvmclock;               /* p */
	struct dev_clock clock;                 /* I */
	struct virtio_blk *disks[VM_DISKS_MAX]; /* d */
	unsigned int n_disks;                   /* I */
	/* I disks that the host knows as images, in its order */
	const struct virtio_blk *image_disks[LINK_IMAGES_MAX];
	uint32_t n_images;               /* I */
	struct virtio_rng *rng;          /* d */
	struct virtio_balloon *balloon;  /* d or NULL: switched off */
	_Atomic uint64_t balloon_target; /* a pages that the host wants */
	uint64_t balloon_due_ns; /* d when statistics are asked for next */
	uint64_t balloon_seen; /* d the target that the device has been told */
	bool balloon_moving; /* d there are no statistics since it was reached */
	uint64_t balloon_again_ns; /* d until then no step counts as done */
	struct vm_net *net;        /* d or NULL: there is no network card */
	struct irq_line button;    /* I */
	atomic_bool pressed;       /* a vm_press_power(), not yet seen */

	pthread_t thread;
	bool started; /* owner's thread */
	int kick_fd;  /* I eventfd that wakes a sleeping processor */
	int status_fd; /* I what the kernel says of this process; nobody opens it later */
	atomic_bool kicked; /* a something may have changed since the last look */
	atomic_bool asleep;      /* a */
	atomic_bool root_wanted; /* a the first processor is to tell its page root */
	_Atomic uint64_t alive_ns; /* a when the VM's thread was last seen at work */
	atomic_bool stop;          /* a vm_stop() */
	atomic_bool over;          /* a @end was set */
	enum vm_end end;           /* p */
	int exit_status;           /* p */
	struct err failure;        /* p words for some ends */
	uint64_t start_ns;         /* I host time at vm_start() */
	uint64_t skipped_ns; /* p idle time left out by VM_CLOCK_INSTRUCTIONS */
	uint64_t flushed_ns; /* p when the console was flushed last */
	uint64_t flush_due_ns; /* d when the VM's thread will flush it; 0: nobody will */
	uint64_t seen_ns; /* p when the processor was between two slices, or told the time, last */
	uint64_t slices;  /* p */
	uint64_t halts;   /* p */
	uint64_t idle_ns; /* p */
	uint64_t audited; /* p entries that audits looked at */
	uint64_t end_ns;  /* p */
};

/** vm_devices_init() - make all devices and put them on the bus. Return: 0 or -errno. */
int vm_devices_init(struct vm *vm, struct err *err)
	__attribute__((warn_unused_result));

/** vm_devices_release() - end them. */
void vm_devices_release(struct vm *vm);

/** vm_io_ops - what the processor needs of the machine; the context is the VM. */
extern const struct cpu_ops vm_io_ops;

/** vm_kick() - make the processor look at its interrupts and requests. Any thread. */
void vm_kick(struct vm *vm);

/**
 * vm_tell_stopped() - tell the guest if the host had no memory or no processor for it, or has
 * stopped it, since it was seen last: no fault of the guest's. @now: time of the VM's clock.
 * Processor thread.
 */
void vm_tell_stopped(struct vm *vm, uint64_t now);

/** vm_request_end() - the run shall end like this; processor thread. */
void vm_request_end(struct vm *vm, enum vm_end end);

/** vm_finish() - the run is over, stopped if nothing else was said: flush, and tell the owner. */
void vm_finish(struct vm *vm);

/** vm_loop() - the processor thread. */
void *vm_loop(void *arg);

/** vm_vcpus_loop() - the VM's thread, for an engine whose processors have their own. */
void *vm_vcpus_loop(void *arg);

/**
 * vm_balloon_add() - plug a balloon into a slot.
 * @vm: the VM
 * @slot: virtio slot
 * @line: interrupt controller
 * @report: where messages about a misbehaving guest go
 * @err: message
 *
 * Return: 0 or -errno.
 */
int vm_balloon_add(struct vm *vm, unsigned int slot, const struct irq_line *line,
		   const struct virtio_report *report, struct err *err)
	__attribute__((warn_unused_result));

/**
 * vm_balloon_target() - how many pages the guest should give up.
 *
 * Any thread: the processor's takes it up. A lock could be held by it while it waits for
 * a page that only the caller can bring.
 */
void vm_balloon_target(struct vm *vm, uint64_t pages);

/**
 * vm_balloon_poll() - take up a new target, ask for statistics when it is time.
 *
 * Return: when it should be called again, in the guest's time; UINT64_MAX for never.
 * Context: the processor thread, device lock held.
 */
uint64_t vm_balloon_poll(struct vm *vm, uint64_t now);

/**
 * vm_virtio_poll() - go on with device work that was interrupted to let others have their turn.
 *
 * Return: whether there is more: do not sleep.
 * Context: the device lock held.
 */
bool vm_virtio_poll(struct vm *vm);

/**
 * vm_net_add() - plug the network card into a slot, with what is at its other end.
 * @vm: the VM
 * @slot: virtio slot
 * @line: interrupt controller
 * @report: where messages about a misbehaving guest go
 * @err: message
 *
 * Starts mezz-net if the configuration says so. Before the sandbox is entered.
 *
 * Return: 0 or -errno.
 */
int vm_net_add(struct vm *vm, unsigned int slot, const struct irq_line *line,
	       const struct virtio_report *report, struct err *err)
	__attribute__((warn_unused_result));

/** vm_net_release() - close the connection; NULL is fine. mezz-net ends with it. */
void vm_net_release(struct vm_net *net);

/** vm_net_dev() - the card. */
struct virtio_dev *vm_net_dev(struct vm_net *net);

/** vm_net_poll() - pass on what has come, and what could not be sent. As vm_balloon_poll(). */
void vm_net_poll(struct vm *vm);

/** vm_net_pollfd() - what a sleeping VM waits for: the descriptor is -1 if for nothing. */
struct pollfd vm_net_pollfd(const struct vm *vm);

/** vm_net_stats() - the card's counters, or NULL: there is none. After vm_join(). */
const struct virtio_net_stats *vm_net_stats(const struct vm *vm);

/** vm_power_poll() - hand on a press of the power button. As vm_balloon_poll(). */
void vm_power_poll(struct vm *vm);

/** vm_acpi_build() - tables for the devices, into guest memory. Return: 0 or -errno. */
int vm_acpi_build(struct vm *vm, struct err *err)
	__attribute__((warn_unused_result));

#endif
