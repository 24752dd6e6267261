/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual machine: guest memory, a processor on an engine, devices, and the thread that
 * runs them.
 *
 * Two threads: the processor's (vm_start()) and the owner's, which feeds the console and waits
 * for the end. Devices are reached from both and belong to whoever holds the device lock.
 */
#ifndef VM_VM_H
#define VM_VM_H
#include <stdio.h>

#include <base/error.h>
#include <base/types.h>
#include <vm/config.h>

struct vm;

/* How a run ended. */
enum vm_end {
	VM_END_NONE,      /* it has not */
	VM_END_POWER_OFF, /* the guest switched itself off */
	VM_END_RESET,     /* the guest asked for a reset */
	VM_END_PANIC,     /* it did so because it panicked */
	VM_END_EXIT_PORT, /* debug exit port; see vm_exit_status() */
	VM_END_SHUTDOWN,  /* triple fault */
	VM_END_BAD_FETCH, /* the guest jumped to an address without memory */
	VM_END_MEMORY,    /* the host could not provide memory */
	VM_END_STOPPED,   /* vm_stop() */
	VM_END_AUDIT,     /* an audit found a wrong translation: our bug */
	VM_END_ENGINE,    /* the engine cannot go on */
};

/**
 * struct vm_callbacks - whoever runs the VM, and the other end of the guest's serial port.
 * @output: bytes from the guest; processor thread, device lock held
 * @input_room: vm_console_input() would take more; may be called from any thread
 * @ended: the run is over; called once, on the processor thread
 * @report: one sentence about a guest that misuses a device
 */
struct vm_callbacks {
	void (*output)(void *ctx, const uint8_t *bytes, size_t len);
	void (*input_room)(void *ctx);
	void (*ended)(void *ctx);
	void (*report)(void *ctx, const char *text);
};

/**
 * vm_new() - make a VM and load its kernel.
 * @cfg: complete configuration; outlives the VM
 * @cb: constant table
 * @ctx: for @cb
 * @ret_vm: set on success; ended with vm_free()
 * @err: message on failure
 *
 * Return: 0 or -errno.
 */
int vm_new(const struct vm_config *cfg, const struct vm_callbacks *cb,
	   void *ctx, struct vm **ret_vm, struct err *err)
	__attribute__((warn_unused_result));

/** vm_free() - end a VM that was joined or never started; NULL is fine. Return: NULL. */
struct vm *vm_free(struct vm *vm);

/** vm_start() - let the processor run. Return: 0 or -errno. */
int vm_start(struct vm *vm, struct err *err) __attribute__((warn_unused_result));

/** vm_stop() - end the run from outside. Any thread. */
void vm_stop(struct vm *vm);

/**
 * vm_press_power() - press the power button; what the guest does then is its business.
 * Any thread: the processor's hands it on, for the reason that vm_balloon_target() has.
 */
void vm_press_power(struct vm *vm);

/** vm_join() - wait for the processor thread. Return: how the run ended. */
enum vm_end vm_join(struct vm *vm);

/** vm_exit_status() - value for VM_END_EXIT_PORT and VM_END_POWER_OFF. */
int vm_exit_status(const struct vm *vm);

/** vm_end_text() - one sentence about the end, for people. */
void vm_end_text(const struct vm *vm, char *buf, size_t size);

/**
 * vm_console_input() - bytes for the guest.
 * Return: how many were taken; input_room follows if not all.
 */
size_t vm_console_input(struct vm *vm, const uint8_t *bytes, size_t len);

/** vm_write_stats() - write all counters as JSON. Return: 0 or -errno. After vm_join(). */
int vm_write_stats(const struct vm *vm, FILE *to, struct err *err)
	__attribute__((warn_unused_result));

/**
 * vm_print_summary() - the counters that people look at first, on standard error.
 * After vm_join().
 */
void vm_print_summary(const struct vm *vm);

#endif
