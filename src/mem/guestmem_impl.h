/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of guest memory, for the files that make it up. */
#ifndef MEM_GUESTMEM_IMPL_H
#define MEM_GUESTMEM_IMPL_H
#include <mem/guestmem.h>

/**
 * struct guestmem - guest memory of one VM; made and ended by guestmem_new(), guestmem_free().
 *
 * Members: I immutable, S set before the VM runs, P processor thread, a atomic.
 */
struct guestmem {
	struct guestmem_hot hot;
	struct machine *machine; /* I */
	struct physmap *map;     /* I */
	uint8_t *flags;          /* I the array; P its bytes */
	uint8_t *shown;          /* I the array, a bit per PPN; P its bits */

	const struct guestmem_ops *ops;           /* S or NULL */
	void *ops_ctx;                            /* S */
	const struct guestmem_source_ops *source; /* S or NULL */
	void *source_ctx;                         /* S */
	enum guestmem_grant (*ask)(void *ctx);    /* S */
	void *ask_ctx;                            /* S */
	uint64_t limit_pages;                     /* S */

	struct revoke_port port; /* its own lock */
	bool servicing;          /* P in guestmem_service_slow() */
	uint64_t epoch;          /* P */

	_Atomic bool link_broken; /* a */
	_Atomic bool stopped;     /* a */
	_Atomic uint32_t failure; /* a enum mem_status */

	/* a, written by the processor thread */
	_Atomic uint64_t revoke_requests;
	_Atomic uint64_t revoked_pages;
	_Atomic uint64_t recovered_pages;
	_Atomic uint64_t busy_waits;
	_Atomic uint64_t busy_wait_ns;
	_Atomic uint64_t allowance_waits;
	_Atomic uint64_t allowance_wait_ns;
	_Atomic uint64_t zero_fills;
	_Atomic uint64_t unshares;
	_Atomic uint64_t fills;
	_Atomic uint64_t dropped;
};

static_assert(offsetof(struct guestmem, hot) == 0,
	      "the inline functions find it there");

/** enum guestmem_step - the outcome of one step towards what is wanted of a page. */
enum guestmem_step {
	GUESTMEM_STEP_AGAIN, /* look at the entry again */
	GUESTMEM_STEP_DONE,
	GUESTMEM_STEP_FAILED, /* see guestmem_failure() */
};

/** guestmem_count() - add @n to a counter that any thread may read. */
static inline void guestmem_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/** guestmem_fail() - keep @status for guestmem_failure(), if it is the first. Return: it. */
enum mem_status guestmem_fail(struct guestmem *mem, enum mem_status status);

/** guestmem_zero_shown() - whether the common page of zeros may be cached as this page. */
static inline bool guestmem_zero_shown(const struct guestmem *mem, ppn_t page)
{
	return mem->shown[page.v / 8] >> page.v % 8 & 1;
}

/**
 * guestmem_unmap_run() - have the processor forget where pages are.
 * @mem: guest memory
 * @first: PPN of the first one
 * @n_pages: pages of RAM from there on
 *
 * Context: the processor thread; what was handed out before is not used any more.
 */
void guestmem_unmap_run(struct guestmem *mem, ppn_t first, uint64_t n_pages);

/** guestmem_unmap_page() - guestmem_unmap_run() of one page. */
static inline void guestmem_unmap_page(struct guestmem *mem, ppn_t page)
{
	guestmem_unmap_run(mem, page, 1);
}

/**
 * guestmem_page_written() - tell ops->written of a store, if flags of the page ask for it.
 * @mem: guest memory
 * @page: PPN
 * @addr: first byte, in that page
 * @len: bytes, within the page
 */
static inline void guestmem_page_written(struct guestmem *mem, ppn_t page,
					 gpa_t addr, uint64_t len)
{
	if (unlikely(mem->flags[page.v]) && mem->ops && mem->ops->written)
		mem->ops->written(mem->ops_ctx, addr, len);
}

/**
 * guestmem_step_change() - change an entry for the VM, if it still is as it was read.
 * @mem: guest memory
 * @page: PPN
 * @from: the entry as it was read
 * @to: what it becomes
 * @ret_changed: whether that was done
 *
 * Waits for allowance if the change needs it and there is none.
 *
 * Return: GUESTMEM_STEP_AGAIN; or GUESTMEM_STEP_FAILED, if no allowance will come.
 * Context: the processor thread.
 */
enum guestmem_step guestmem_step_change(struct guestmem *mem, ppn_t page,
					uint64_t from, uint64_t to,
					bool *ret_changed);

/**
 * guestmem_change_own() - change an entry that nobody else can change.
 * @mem: guest memory
 * @page: PPN; HOME, or BUSY by the VM
 * @from: the entry as it is
 * @to: what it becomes
 */
void guestmem_change_own(struct guestmem *mem, ppn_t page, uint64_t from,
			 uint64_t to);

/**
 * guestmem_step_busy() - wait until an entry that is BUSY changes, or the VM is stopped.
 * @mem: guest memory
 * @page: PPN
 * @entry: its entry as it was read
 *
 * Return: GUESTMEM_STEP_AGAIN. Context: the processor thread.
 */
enum guestmem_step guestmem_step_busy(struct guestmem *mem, ppn_t page,
				      uint64_t entry);

/**
 * guestmem_step_drop_home() - have a page that is HOME lose its frame.
 * @mem: guest memory
 * @page: PPN
 * @entry: its entry as it was read
 * @final: what it becomes, physmap_zero() or physmap_balloon()
 *
 * Return: GUESTMEM_STEP_DONE, or as guestmem_step_change() if it was not HOME any more.
 * Context: the processor thread.
 */
enum guestmem_step guestmem_step_drop_home(struct guestmem *mem, ppn_t page,
					   uint64_t entry, uint64_t final);

#endif
