/* SPDX-License-Identifier: Apache-2.0 */
/* Opening userfaultfd, in the order of what needs the least privilege. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <engine/kvm_window.h>

/* Newer than the headers of some supported systems. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_FEATURE_MINOR_SHMEM
#define UFFD_FEATURE_MINOR_SHMEM (1 << 10)
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif

/* Faults of KVM are the kernel's own, so a descriptor for user mode alone is of no use. */
static int open_any(bool *ret_by_device)
{
	const int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = -1;

	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(dev);
	}
	*ret_by_device = fd >= 0;
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	return fd;
}

/* A descriptor is good for one handshake, so asking costs one of its own. */
static uint64_t offered(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	bool ignored;
	const int fd = open_any(&ignored);

	if (fd < 0)
		return 0;
	if (ioctl(fd, UFFDIO_API, &api))
		api.features = 0;
	close(fd);
	return api.features;
}

int kvm_userfault_open(struct kvm_userfault *ret)
{
	const uint64_t needed = UFFD_FEATURE_MISSING_SHMEM |
				UFFD_FEATURE_MINOR_SHMEM |
				UFFD_FEATURE_THREAD_ID;
	const uint64_t wp = UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			    UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	struct uffdio_api api = {.api = UFFD_API};
	int fd;

	memset(ret, 0, sizeof(*ret));
	fd = open_any(&ret->by_device);
	if (fd < 0) {
		snprintf(ret->reason, sizeof(ret->reason),
			 "userfaultfd: %s (it needs access to /dev/userfaultfd, or vm.unprivileged_userfaultfd=1)",
			 strerror(errno));
		return -1;
	}
	ret->features = offered();
	if ((ret->features & needed) != needed) {
		snprintf(ret->reason, sizeof(ret->reason),
			 "the kernel's userfaultfd does not know memory files (features 0x%llx)",
			 (unsigned long long)ret->features);
		close(fd);
		return -1;
	}
	ret->write_protect = (ret->features & wp) == wp;
	api.features = needed | (ret->write_protect ? wp : 0);
	if (ioctl(fd, UFFDIO_API, &api)) {
		snprintf(ret->reason, sizeof(ret->reason), "userfaultfd: %s",
			 strerror(errno));
		close(fd);
		return -1;
	}
	ret->usable = true;
	return fd;
}
