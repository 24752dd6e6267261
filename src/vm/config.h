/* SPDX-License-Identifier: Apache-2.0 */
/* What a VM is made of, and how its command line says so. */
#ifndef VM_CONFIG_H
#define VM_CONFIG_H
#include <base/error.h>
#include <base/types.h>
#include <boot/boot.h>
#include <cpu/feature_set.h>
#include <dev/virtio_blk.h>
#include <mmu/mmu.h>

#define VM_DISKS_MAX 8
#define VM_CPUS_MAX  16

enum vm_engine {
	VM_ENGINE_AUTO,
	VM_ENGINE_SOFT,
	VM_ENGINE_KVM,
};

enum vm_mmu {
	VM_MMU_AUTO,
	VM_MMU_SOFTWARE,
	VM_MMU_HARDWARE,
};

/* What the guest's clocks follow. */
enum vm_clock {
	VM_CLOCK_HOST, /* the host's time */
	VM_CLOCK_INSTRUCTIONS, /* 1 ns per instruction, idle time skipped: repeatable runs */
};

/**
 * struct vm_disk_config - one disk.
 * @path: the image
 * @mode: may the guest write, and where to
 */
struct vm_disk_config {
	char *path;
	enum virtio_blk_mode mode;
};

/**
 * struct vm_net_config - the network card, if there is one.
 * @user: the user's own sockets, by mezz-net
 * @words: with @user: what it is told, or NULL
 * @socket: else: a Unix socket that speaks frames (dev/frames.h); NULL: there is no card
 * @mac: address of the card; all zeros: one is made up
 */
struct vm_net_config {
	bool user;
	char *words;
	char *socket;
	uint8_t mac[6];
};

/**
 * struct vm_config - one VM. Strings belong to it.
 * @memory_bytes: guest RAM
 * @kernel: kernel file; NULL for the one of `make guest`
 * @initrd: initial RAM disk, or NULL; with the default kernel its own
 * @append: text added to the default kernel command line, each --append after the one before;
 *          or NULL
 * @exec: command for the guest of `make guest`, whose status is the run's, or NULL
 * @bare: pass only @append
 * @protocol: how the kernel is entered
 * @disks: @n_disks virtio disks, in order
 * @net: the network card
 * @engine: which engine
 * @mmu: which kind of memory virtualization. Automatic takes what KVM has if that runs the
 *       processor, and else nested tables: these cost the same whatever the guest does with
 *       its page tables, where shadow tables pay for each change. For a guest that seldom
 *       changes them and misses the TLB much, software is worth being asked for.
 * @mmu_options: switches; mode is derived from @mmu
 * @features: what CPUID shows
 * @clock: what time follows
 * @stats_path: file for the counters in JSON, or NULL
 * @timeout_ms: end the run after that time, 0 for never
 * @revoke_stress: pages per second to revoke and return, 0 for none
 * @revoke_seed: of the choice of pages
 * @audit_every: slices between two audits of all translations, 0 for never
 * @memory_limit_bytes: the most machine memory that RAM may take, 0 for no limit
 * @link_dir: directory in which to listen for a host that gives memory, or NULL for none
 * @console_path: socket on which the console listens, or NULL for standard input and output
 * @balloon: there is a balloon: memory that the guest frees goes back to the host
 * @balloon_bytes: its size until a host sets another
 * @exit_port: debug exit port at 0xf4
 * @verbose: print a summary at the end
 */
struct vm_config {
	uint64_t memory_bytes;
	char *kernel;
	char *initrd;
	char *append;
	char *exec;
	bool bare;
	enum boot_protocol protocol;
	struct vm_disk_config disks[VM_DISKS_MAX];
	unsigned int n_disks;
	struct vm_net_config net;
	enum vm_engine engine;
	enum vm_mmu mmu;
	struct mmu_options mmu_options;
	struct cpu_features features;
	enum vm_clock clock;
	char *stats_path;
	uint64_t timeout_ms;
	uint64_t revoke_stress;
	uint64_t revoke_seed;
	uint64_t audit_every;
	uint64_t memory_limit_bytes;
	char *link_dir;
	char *console_path;
	bool balloon;
	uint64_t balloon_bytes;
	bool exit_port;
	bool verbose;
};

/** vm_config_init() - defaults: 512 MiB, the image of `make guest`, everything automatic. */
void vm_config_init(struct vm_config *cfg);

/** vm_config_release() - free its strings. */
void vm_config_release(struct vm_config *cfg);

/**
 * vm_config_parse() - read command line options.
 * @cfg: initialized; changed as the options say
 * @argc: number of words
 * @argv: the words after the command, options only
 * @err: names the option and what was wrong with it
 *
 * Return: 0; 1 if help was asked for; -EINVAL; -ENOMEM.
 */
int vm_config_parse(struct vm_config *cfg, int argc, char *const argv[],
		    struct err *err) __attribute__((warn_unused_result));

/**
 * vm_config_complete() - fill in the default image and check that the parts fit together.
 * @cfg: parsed
 * @image_dir: folder with vmlinuz and initramfs.cpio
 * @err: message
 *
 * Return: 0 or -EINVAL, -ENOENT, -ENOMEM with a message.
 */
int vm_config_complete(struct vm_config *cfg, const char *image_dir,
		       struct err *err) __attribute__((warn_unused_result));

/** vm_config_has_net() - is there a network card? */
static inline bool vm_config_has_net(const struct vm_config *cfg)
{
	return cfg->net.user || cfg->net.socket;
}

#endif
