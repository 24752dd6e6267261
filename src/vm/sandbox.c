/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox of a VM's process: a list of system calls that are allowed.
 *
 * Everything that opens something by name is left out. This is what keeps the sharing
 * group's file read-only: by its descriptor alone it cannot be opened anew for writing.
 */
#include <vm/sandbox.h>

#include <errno.h>
#include <seccomp.h>
#include <string.h>
#include <sys/prctl.h>

#include <base/thread.h>
#include <base/types.h>

/* What any program needs that uses what it has open. */
static const int common_calls[] = {
	/* Descriptors. */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(close),
	SCMP_SYS(fcntl),
	SCMP_SYS(ioctl),
	/* Sockets that are there. */
	SCMP_SYS(accept4),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvmsg),
	SCMP_SYS(getsockopt),
	SCMP_SYS(shutdown),
	/* Its own memory. */
	SCMP_SYS(mmap),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(mprotect),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	/* Waiting. */
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(futex),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(restart_syscall),
	/* Itself, and its end. */
	SCMP_SYS(gettid),
	SCMP_SYS(getpid),
	SCMP_SYS(tgkill),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(getrandom),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
};

/* Of a VM. */
static const int vm_calls[] = {
	/* Disks. */
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	/* Memory files. */
	SCMP_SYS(fallocate),
	SCMP_SYS(ftruncate),
	/* Waiting. */
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(sched_yield),
	SCMP_SYS(timerfd_settime),
	/* Threads. */
	SCMP_SYS(clone),
	SCMP_SYS(clone3),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(membarrier),
	SCMP_SYS(getrusage),
	SCMP_SYS(prctl),
};

static int allow(scmp_filter_ctx filter, const int *calls, size_t n)
{
	int r = 0;

	for (size_t i = 0; !r && i < n; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	return r;
}

static int fill_filter(scmp_filter_ctx filter, const int *more, size_t n)
{
	/* Threads that run already are bound too. */
	int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	if (!r)
		r = allow(filter, common_calls, ARRAY_SIZE(common_calls));
	if (!r)
		r = allow(filter, more, n);
	return r ? r : seccomp_load(filter);
}

int sandbox_enter_with(const int *more, size_t n, struct err *err)
{
	scmp_filter_ctx filter;
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_set(err, -errno, "cannot give up privileges: %s",
			       strerror(errno));
	r = thread_drop_capabilities();
	if (r)
		return err_set(err, r, "cannot give up capabilities: %s",
			       strerror(-r));
	filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return err_set(err, -ENOMEM, "no memory for the sandbox");
	r = fill_filter(filter, more, n);
	seccomp_release(filter);
	return r ? err_set(err, r, "cannot enter the sandbox: %s", strerror(-r))
		 : 0;
}

int sandbox_enter(struct err *err)
{
	return sandbox_enter_with(vm_calls, ARRAY_SIZE(vm_calls), err);
}
