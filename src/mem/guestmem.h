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
#include <stdatomic.h>

#include <base/error.h>
#include <base/types.h>
#include <base/verify.h>
#include <mem/machine.h>
#include <mem/physmap.h>
#include <mem/revoke.h>
#include <mem/stats.h>

#define GUESTMEM_HOLE_START UINT64_C(0xc0000000)
#define GUESTMEM_HOLE_END   UINT64_C(0x100000000)

struct guestmem;

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
	GUESTMEM_CODE = 1 << 0, /* the processor has decoded instructions from it */
	GUESTMEM_TABLE = 1 << 1, /* shadow tables follow this guest page table */
};

/*
 * The first part of struct guestmem, for the inline functions below only.
 *
 * Members: I immutable, a atomic.
 */
struct guestmem_hot {
	_Atomic uint64_t *entries;  /* I the physmap's */
	uint64_t n_pages;           /* I of RAM */
	uint64_t low_pages;         /* I of RAM below the hole */
	_Atomic uint32_t n_pending; /* a things for guestmem_service() to do */
};

/**
 * struct guestmem_ops - what guest memory needs from the VM that it belongs to.
 * @unmap: drop every cached translation to a PPN; called at a safe point of the
 *         processor. After it returns nobody reads or writes the machine page until
 *         guestmem_resolve() hands it out again. Called from guestmem_service(), and
 *         from guestmem_resolve() (and what uses it) when that has to wait, or when a
 *         write moves a page that was handed out for reading before; it must call
 *         neither.
 * @unmap_run: @unmap for pages that follow each other, at once; NULL: there is only @unmap
 * @untouched: how many HOME pages from one on nobody has ever touched, as far as that is
 *             known, so that there is nothing to give up; NULL: none. Context: as @unmap
 * @waiting: guest memory has no allowance and is about to sleep, for a second at most, again and
 *           again until it has, and once more then; for how many ns it has slept since the last
 *           call. With what the caller of guestmem_resolve() holds; NULL: nothing has to go on
 *           meanwhile. It must not call what @unmap must not
 * @written: a device stored into a page that carries one of the flags above
 * @kick: make the processor reach a safe point soon, also if it idles; any thread
 */
struct guestmem_ops {
	void (*unmap)(void *ctx, ppn_t page);
	void (*unmap_run)(void *ctx, ppn_t first, uint64_t n_pages);
	uint64_t (*untouched)(void *ctx, ppn_t first, uint64_t n_pages);
	void (*waiting)(void *ctx, uint64_t slept_ns);
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
static inline bool guestmem_ppn(const struct guestmem *mem, gpa_t addr,
				ppn_t *ret_ppn)
{
	const struct guestmem_hot *hot = (const struct guestmem_hot *)mem;
	uint64_t page = addr.v >> PAGE_SHIFT;

	if (page >= hot->low_pages) {
		page -= (GUESTMEM_HOLE_END - GUESTMEM_HOLE_START) >> PAGE_SHIFT;
		/* In the hole, or wrapped around: page is no longer above it. */
		if (addr.v < GUESTMEM_HOLE_END || page >= hot->n_pages)
			return false;
	}
	*ret_ppn = ppn(page);
	return true;
}

/** guestmem_gpa() - the address of a page of RAM; the inverse of guestmem_ppn(). */
static inline gpa_t guestmem_gpa(const struct guestmem *mem, ppn_t page)
{
	const struct guestmem_hot *hot = (const struct guestmem_hot *)mem;

	VERIFY(page.v < hot->n_pages);
	if (page.v < hot->low_pages)
		return gpa(page.v * PAGE_SIZE);
	return gpa((page.v - hot->low_pages) * PAGE_SIZE + GUESTMEM_HOLE_END);
}

/** guestmem_resolve_slow() - the part of guestmem_resolve() for pages that are not HOME. */
enum mem_status guestmem_resolve_slow(struct guestmem *mem, ppn_t page,
				      enum mem_access access,
				      struct mem_page *ret_page);

/**
 * guestmem_resolve() - find, and if it is away bring back, the page at an address.
 * @mem: guest memory
 * @addr: any address in the page
 * @access: MEM_WRITE makes the page private and writable (ZERO and SHARED become HOME)
 * @ret_page: where it is, on MEM_OK
 *
 * Waits while the page is BUSY, or the VM has no allowance; goes on acknowledging
 * revocations meanwhile. So this call is a safe point, except where the page is HOME
 * already: whoever still holds a page from an earlier call compares guestmem_epoch()
 * before and after this one, and starts anew if it changed.
 *
 * Return: see enum mem_status. Context: the processor thread.
 */
static inline enum mem_status guestmem_resolve(struct guestmem *mem, gpa_t addr,
					       enum mem_access access,
					       struct mem_page *ret_page)
{
	const struct guestmem_hot *hot = (const struct guestmem_hot *)mem;
	ppn_t page;

	if (unlikely(!guestmem_ppn(mem, addr, &page)))
		return MEM_NOT_RAM;
	if (likely(atomic_load_explicit(&hot->entries[page.v],
					memory_order_acquire) ==
		   PHYSMAP_HOME_ENTRY)) {
		ret_page->ma = ma(MACHINE_HOME + (page.v << PAGE_SHIFT));
		ret_page->ppn = page;
		ret_page->writable = true;
		return MEM_OK;
	}
	return guestmem_resolve_slow(mem, page, access, ret_page);
}

/**
 * guestmem_epoch() - counts the times that pages were taken away.
 * @mem: guest memory
 *
 * While it does not change, every page that guestmem_resolve() handed out is still where
 * it was. It changes whenever pages are unmapped. Context: the processor thread.
 */
uint64_t guestmem_epoch(const struct guestmem *mem);

/**
 * guestmem_flags() - the flag bytes, indexed by PPN, one per page of RAM.
 * @mem: guest memory
 *
 * Written only by the processor thread.
 */
uint8_t *guestmem_flags(struct guestmem *mem);

/** guestmem_service_slow() - the part of guestmem_service() for when there is work. */
void guestmem_service_slow(struct guestmem *mem);

/**
 * guestmem_service() - at a safe point: acknowledge the revocations that wait.
 * @mem: guest memory
 *
 * Unmaps every page taken. Cheap if there is nothing to do.
 * Context: the processor thread.
 */
static inline void guestmem_service(struct guestmem *mem)
{
	const struct guestmem_hot *hot = (const struct guestmem_hot *)mem;

	if (unlikely(atomic_load_explicit(&hot->n_pending, memory_order_relaxed)))
		guestmem_service_slow(mem);
}

/** guestmem_pending() - whether guestmem_service() has work; for idle loops. Any thread. */
static inline bool guestmem_pending(const struct guestmem *mem)
{
	const struct guestmem_hot *hot = (const struct guestmem_hot *)mem;

	return atomic_load_explicit(&hot->n_pending, memory_order_relaxed);
}

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
 * guestmem_tell_written() - tell ops->written of a store that was made in place.
 * @mem: guest memory
 * @addr: first byte
 * @len: bytes, within one page
 *
 * For the MMU's accessed and dirty bits. Does nothing if the page carries no flag.
 */
void guestmem_tell_written(struct guestmem *mem, gpa_t addr, uint64_t len);

/**
 * guestmem_span() - host memory of a stretch of one guest page, for device I/O.
 * @mem: guest memory
 * @addr: first byte
 * @access: MEM_WRITE if the device will store there: ops->written is told at once, and of
 *          the whole page, since the stores come later
 * @ret_ptr: host address, valid until the processor thread's next safe point
 * @ret_len: bytes up to the end of the page
 *
 * Return: as guestmem_resolve(). Context: the processor thread.
 */
enum mem_status guestmem_span(struct guestmem *mem, gpa_t addr,
			      enum mem_access access, uint8_t **ret_ptr,
			      uint64_t *ret_len);

/**
 * guestmem_drop() - the guest gives a page up: its contents are of no use any more.
 * @mem: guest memory
 * @page: PPN
 * @final: PHYSMAP_ZERO (reported free) or PHYSMAP_BALLOON (given to the balloon)
 *
 * The page reads as zeros when it is touched next. Waits as guestmem_resolve() does. Tells
 * ops->written if the page carries flags, since its contents are others now.
 *
 * Return: MEM_OK, also if it was given up already; MEM_STOPPED; MEM_NOT_RAM.
 * Context: the processor thread, at a safe point.
 */
enum mem_status guestmem_drop(struct guestmem *mem, ppn_t page,
			      enum physmap_state final);

/**
 * guestmem_drop_run() - guestmem_drop() of pages that follow each other, faster.
 * @mem: guest memory
 * @first: first PPN
 * @n_pages: how many; 0 is fine
 * @final: as for guestmem_drop()
 *
 * Return: as guestmem_drop(); on failure some pages at the start may be given up already.
 * Context: as guestmem_drop().
 */
enum mem_status guestmem_drop_run(struct guestmem *mem, ppn_t first,
				  uint64_t n_pages, enum physmap_state final);

/**
 * guestmem_stop() - end every wait with MEM_STOPPED, now and from now on. Any thread.
 * @mem: guest memory
 */
void guestmem_stop(struct guestmem *mem);

/** guestmem_is_stopped() - whether guestmem_stop() was called: for loops without a wait. */
bool guestmem_is_stopped(const struct guestmem *mem);

/**
 * guestmem_failure() - why reads and writes fail although the address is RAM.
 * @mem: guest memory
 *
 * Return: MEM_OK, or the MEM_STOPPED or MEM_NO_HOST_MEMORY that was met first. Any thread.
 */
enum mem_status guestmem_failure(const struct guestmem *mem);

/* What a source of allowance says. */
enum guestmem_grant {
	GUESTMEM_GRANT_ASKED, /* it will come, or has come, by physmap_grant(): wait */
	GUESTMEM_GRANT_REFUSED, /* never: the guest gets MEM_NO_HOST_MEMORY */
};

/**
 * guestmem_set_allowance_source() - who is asked for more pages when there are none left.
 * @mem: guest memory
 * @ask: called on the processor thread each time it has to wait
 * @ctx: passed to @ask
 *
 * Guest memory starts with unlimited allowance, and refuses at the end of it. Before the
 * VM runs; whoever sets this withdraws the unlimited allowance (physmap_withdraw()).
 */
void guestmem_set_allowance_source(struct guestmem *mem,
				   enum guestmem_grant (*ask)(void *ctx),
				   void *ctx);

/**
 * guestmem_set_limit() - without a host: the most machine pages that RAM may take.
 * @mem: guest memory
 * @pages: limit; a guest that wants more gets MEM_NO_HOST_MEMORY
 *
 * Before the VM runs.
 */
void guestmem_set_limit(struct guestmem *mem, uint64_t pages);

/* What an access to a page had to wait for. */
enum guestmem_stall {
	GUESTMEM_STALL_ZIP,  /* its contents were compressed */
	GUESTMEM_STALL_SWAP, /* they were on disk */
	GUESTMEM_STALL_HOST, /* there was no allowance */
	GUESTMEM_STALL_BUSY, /* it was being moved */
};

/**
 * struct guestmem_source_ops - where pages come back from that are not at home.
 * @fill: put the contents of a ZIPPED or SWAPPED entry into a frame of PAGE_SIZE bytes;
 *        0 or -errno, then the VM stops
 * @left: the page no longer uses the SHARED frame, ZIPPED or SWAPPED slot of @entry
 * @stalled: an access has waited that long, from the fault on; may be NULL
 */
struct guestmem_source_ops {
	int (*fill)(void *ctx, ppn_t page, uint64_t entry, uint8_t *frame);
	void (*left)(void *ctx, ppn_t page, uint64_t entry);
	void (*stalled)(void *ctx, enum guestmem_stall cause, uint64_t ns);
};

/**
 * guestmem_set_source() - connect it with zip and swap. Before the VM runs.
 * @mem: guest memory
 * @ops: constant table; without one such entries give MEM_NO_HOST_MEMORY
 * @ctx: passed to every function of the table
 */
void guestmem_set_source(struct guestmem *mem,
			 const struct guestmem_source_ops *ops, void *ctx);

/**
 * guestmem_connect_host() - where acknowledgements of revocations go.
 * @mem: guest memory
 * @ack: called on the processor thread; NULL disconnects
 * @ctx: passed to @ack
 *
 * Context: any thread.
 */
void guestmem_connect_host(struct guestmem *mem,
			   void (*ack)(void *ctx, uint64_t ticket), void *ctx);

/**
 * guestmem_revoke() - the host wants pages: have the processor let go of them.
 * @mem: guest memory
 * @request: as it came from the host
 *
 * Return: as revoke_port_post(). Context: any thread.
 */
int guestmem_revoke(struct guestmem *mem, const struct revoke_request *request)
	__attribute__((warn_unused_result));

/**
 * guestmem_link_broken() - the host is gone: turn its BUSY pages back.
 * @mem: guest memory
 *
 * Done by the processor at its next safe point. Call only when the host cannot act on
 * pages any more. Context: any thread.
 */
void guestmem_link_broken(struct guestmem *mem);

/** guestmem_link_settled() - whether what guestmem_link_broken() asked for is done. Any thread. */
bool guestmem_link_settled(const struct guestmem *mem);

/** guestmem_stats() - its figures now. Context: any thread; table pages are approximate. */
struct mem_stats guestmem_stats(struct guestmem *mem);

#endif
