/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest physical memory of one VM, as its processor, its MMU and its devices see it:
 * the guest's memory map over the physmap over the machine window.
 *
 * Guest RAM is contiguous from zero but for one hole below 4 GiB, where devices live
 * (GUESTMEM_HOLE_START to GUESTMEM_HOLE_END); RAM that does not fit below the hole
 * continues at 4 GiB. A PPN counts pages of RAM without the hole.
 */
#ifndef MEM_GUESTMEM_H
#define MEM_GUESTMEM_H

#include <base/error.h>
#include <base/types.h>
#include <mem/machine.h>

#define GUESTMEM_HOLE_START UINT64_C(0xc0000000)
#define GUESTMEM_HOLE_END   UINT64_C(0x100000000)

struct guestmem;
struct physmap;

enum mem_access {
	MEM_READ,
	MEM_WRITE,
};

/* What became of a request for a guest page. A guest-visible outcome, not a host failure. */
enum mem_status {
	MEM_OK,
	MEM_NOT_RAM, /* nothing or a device is at that address */
	MEM_STOPPED, /* the VM is being stopped while the page was waited for */
	MEM_NO_HOST_MEMORY, /* the host cannot provide a page; the VM must stop with a message */
};

/**
 * struct mem_page - where a guest page is now.
 * @ma: machine address of the page's first byte
 * @ppn: its number in guest RAM
 * @writable: the machine page is private to this VM and may be written in place
 */
struct mem_page {
	ma_t ma;
	ppn_t ppn;
	bool writable;
};

/* Why stores to a page must take the slow path. One byte per PPN. */
enum guestmem_flag {
	GUESTMEM_CODE = 1 << 0,  /* the processor has decoded instructions from it */
	GUESTMEM_TABLE = 1 << 1, /* shadow tables follow this guest page table */
	GUESTMEM_DIRTY_LOG = 1 << 2, /* somebody wants to know the next write */
};

/**
 * struct guestmem_ops - what guest memory needs from the VM that it belongs to.
 * @unmap: drop every cached translation to a PPN; called at a safe point of the
 *         processor, with the page BUSY. After it returns nobody reads or writes
 *         the machine page until guestmem_resolve() hands it out again.
 * @written: a device stored into a page that carries one of the flags above
 * @kick: make the processor reach a safe point soon; any thread
 */
struct guestmem_ops {
	void (*unmap)(void *ctx, ppn_t page);
	void (*written)(void *ctx, gpa_t addr, uint64_t len);
	void (*kick)(void *ctx);
};

/**
 * guestmem_new() - guest RAM of a given size, all ZERO.
 * @ram_bytes: multiple of PAGE_SIZE
 * @ret_mem: set on success; ended with guestmem_free()
 * @err: message on failure
 *
 * Return: 0 or -errno.
 */
int guestmem_new(uint64_t ram_bytes, struct guestmem **ret_mem, struct err *err)
	__attribute__((warn_unused_result));

/** guestmem_free() - end it; NULL is fine. Return: NULL. */
struct guestmem *guestmem_free(struct guestmem *mem);

/**
 * guestmem_set_ops() - connect it with the processor. Before the VM runs.
 * @mem: guest memory
 * @ops: constant table
 * @ctx: passed to every function of the table
 */
void guestmem_set_ops(struct guestmem *mem, const struct guestmem_ops *ops,
		      void *ctx);

/** guestmem_machine() - the machine window under it. */
struct machine *guestmem_machine(struct guestmem *mem);

/** guestmem_physmap() - its physmap. */
struct physmap *guestmem_physmap(struct guestmem *mem);

/** guestmem_ram_bytes() - configured size. */
uint64_t guestmem_ram_bytes(const struct guestmem *mem);

/**
 * guestmem_ppn() - which page of RAM an address is in.
 * @mem: guest memory
 * @addr: guest physical address
 * @ret_ppn: set if it is RAM
 *
 * Return: true if @addr is RAM.
 */
bool guestmem_ppn(const struct guestmem *mem, gpa_t addr, ppn_t *ret_ppn);

/** guestmem_gpa() - the address of a page of RAM; the inverse of guestmem_ppn(). */
gpa_t guestmem_gpa(const struct guestmem *mem, ppn_t page);

/**
 * guestmem_resolve() - find, and if it is away bring back, the page at an address.
 * @mem: guest memory
 * @addr: any address in the page
 * @access: MEM_WRITE makes the page private and writable (ZERO and SHARED become HOME)
 * @ret_page: where it is, on MEM_OK
 *
 * Waits while the page is BUSY; goes on acknowledging revocations meanwhile.
 *
 * Return: see enum mem_status. Context: the processor thread.
 */
enum mem_status guestmem_resolve(struct guestmem *mem, gpa_t addr,
				 enum mem_access access,
				 struct mem_page *ret_page);

/**
 * guestmem_flags() - the flag bytes, indexed by PPN, one per page of RAM.
 * @mem: guest memory
 *
 * Written only by the processor thread.
 */
uint8_t *guestmem_flags(struct guestmem *mem);

/**
 * guestmem_service() - at a safe point: acknowledge the revocations that wait.
 * @mem: guest memory
 *
 * Calls ops->unmap for every page taken. Cheap if there is nothing to do.
 * Context: the processor thread.
 */
void guestmem_service(struct guestmem *mem);

/**
 * guestmem_read() - copy out of guest memory, for devices and loaders.
 * @mem: guest memory
 * @addr: first byte
 * @buf: @len bytes
 * @len: any length, page boundaries are crossed
 *
 * Return: false if any byte is not RAM (nothing is promised about @buf then).
 * Context: the processor thread, or before it runs.
 */
bool guestmem_read(struct guestmem *mem, gpa_t addr, void *buf, uint64_t len)
	__attribute__((warn_unused_result));

/**
 * guestmem_write() - copy into guest memory; tells ops->written where flags ask for it.
 * Parameters, result and context as for guestmem_read().
 */
bool guestmem_write(struct guestmem *mem, gpa_t addr, const void *buf,
		    uint64_t len) __attribute__((warn_unused_result));

/**
 * guestmem_span() - host memory of a stretch of one guest page, for device I/O.
 * @mem: guest memory
 * @addr: first byte
 * @access: MEM_WRITE if the device will store there (flags are told at once)
 * @ret_ptr: host address, valid until the processor thread's next safe point
 * @ret_len: bytes up to the end of the page
 *
 * Return: as guestmem_resolve(). Context: the processor thread.
 */
enum mem_status guestmem_span(struct guestmem *mem, gpa_t addr,
			      enum mem_access access, uint8_t **ret_ptr,
			      uint64_t *ret_len);

#endif
