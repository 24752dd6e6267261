/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of mem/revoke and mem/revoke_stress, with a processor that is a loop. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <mem/guestmem.h>
#include <mem/revoke.h>
#include <mem/revoke_stress.h>

#define MIB       (UINT64_C(1) << 20)
#define SECOND_NS UINT64_C(1000000000)
#define N_PAGES   UINT64_C(512)
#define HOME_ONLY (1U << PHYSMAP_HOME)

/*
 * A VM: guest memory, and a processor that caches where pages are, as a TLB does. An
 * access through the cache after the page was given away is what the tests look for.
 *
 * Members: P the processor thread's, a atomic, others set before it runs.
 */
struct vm {
	struct guestmem *mem;
	struct physmap *map;
	struct machine *machine;
	struct revoke_host *host;
	pthread_t processor;
	_Atomic bool halt;             /* a */
	_Atomic uint64_t n_kicked;     /* a */
	uint64_t n_wrong;              /* P */
	uint64_t n_steps;              /* P */
	ma_t cached[N_PAGES];          /* P; v is ~0 if not cached */
	bool cached_writable[N_PAGES]; /* P */
	uint64_t model[N_PAGES]; /* P what each page's first word must be */
};

static void vm_unmap(void *ctx, ppn_t page)
{
	struct vm *vm = ctx;

	vm->cached[page.v] = ma(UINT64_MAX);
}

static void vm_kick(void *ctx)
{
	struct vm *vm = ctx;

	atomic_fetch_add(&vm->n_kicked, 1);
}

static const struct guestmem_ops vm_ops = {
	.unmap = vm_unmap,
	.kick = vm_kick,
};

static int send_to_vm(void *ctx, const struct revoke_request *request)
{
	struct vm *vm = ctx;

	return guestmem_revoke(vm->mem, request);
}

static void ack_to_host(void *ctx, uint64_t ticket)
{
	struct vm *vm = ctx;

	revoke_host_ack(vm->host, ticket);
}

static struct vm *vm_new(void)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	struct err err = {0};

	assert_non_null(vm);
	if (guestmem_new(N_PAGES * PAGE_SIZE, &vm->mem, &err))
		fail_msg("%s", err.text);
	vm->map = guestmem_physmap(vm->mem);
	vm->machine = guestmem_machine(vm->mem);
	for (unsigned i = 0; i < N_PAGES; i++)
		vm->cached[i] = ma(UINT64_MAX);
	guestmem_set_ops(vm->mem, &vm_ops, vm);
	assert_int_equal(revoke_host_new(vm->map, vm->machine->home_fd,
					 send_to_vm, vm, &vm->host),
			 0);
	guestmem_connect_host(vm->mem, ack_to_host, vm);
	return vm;
}

static void vm_free(struct vm *vm)
{
	assert_true(physmap_audit(vm->map));
	revoke_host_free(vm->host);
	guestmem_free(vm->mem);
	free(vm);
}

/* One guest instruction: load or store the first word of a page. */
static void vm_access(struct vm *vm, uint64_t page, bool write)
{
	if (vm->cached[page].v == UINT64_MAX ||
	    (write && !vm->cached_writable[page])) {
		struct mem_page found;

		if (guestmem_resolve(vm->mem, gpa(page * PAGE_SIZE),
				     write ? MEM_WRITE : MEM_READ,
				     &found) != MEM_OK)
			return;
		vm->cached[page] = found.ma;
		vm->cached_writable[page] = found.writable;
	}

	uint64_t *word = (uint64_t *)(void *)machine_ptr(vm->machine,
							 vm->cached[page]);

	if (*word != vm->model[page])
		vm->n_wrong++;
	if (write)
		*word = vm->model[page] = vm->n_steps % 5 ? vm->n_steps : 0;
	vm->n_steps++;
}

static void *processor_main(void *arg)
{
	struct vm *vm = arg;
	uint64_t seed = 7;

	while (!atomic_load(&vm->halt)) {
		for (unsigned i = 0; i < 50; i++) {
			seed = seed * UINT64_C(6364136223846793005) + 1;
			vm_access(vm, (seed >> 33) % N_PAGES, seed >> 63);
		}
		guestmem_service(vm->mem);
	}
	return NULL;
}

static void vm_start(struct vm *vm)
{
	assert_int_equal(pthread_create(&vm->processor, NULL, processor_main, vm),
			 0);
}

static void vm_halt(struct vm *vm)
{
	atomic_store(&vm->halt, true);
	pthread_join(vm->processor, NULL);
	atomic_store(&vm->halt, false);
	assert_int_equal(vm->n_wrong, 0);
}

static void sleep_ms(unsigned ms)
{
	const struct timespec t = {.tv_sec = ms / 1000,
				   .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

static void touch_all(struct vm *vm)
{
	for (uint64_t i = 0; i < N_PAGES; i++)
		vm_access(vm, i, true);
}

static uint64_t *home_word(struct vm *vm, ppn_t page)
{
	return (uint64_t *)(void *)
		machine_ptr(vm->machine, ma(MACHINE_HOME + page.v * PAGE_SIZE));
}

static bool frame_is_hole(struct vm *vm, ppn_t page)
{
	const off_t at = (off_t)(page.v * PAGE_SIZE);
	const off_t data = lseek(vm->machine->home_fd, at, SEEK_DATA);

	return data < 0 || data >= at + (off_t)PAGE_SIZE;
}

static void port_is_a_bounded_queue(void **state)
{
	struct revoke_request request = {.ticket = 1, .n_pages = 1};
	struct revoke_request got;
	struct revoke_port port;

	(void)state;
	assert_int_equal(revoke_port_init(&port, 10), 0);
	assert_false(revoke_port_next(&port, &got));
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < REVOKE_MAX_REQUESTS; i++) {
			request.ticket = i + 1;
			request.pages[0] = i % 10;
			assert_int_equal(revoke_port_post(&port, &request), 0);
		}
		assert_int_equal(revoke_port_post(&port, &request), -ENOBUFS);
		for (unsigned i = 0; i < REVOKE_MAX_REQUESTS; i++) {
			assert_true(revoke_port_next(&port, &got));
			assert_int_equal(got.ticket, i + 1);
			assert_int_equal(got.pages[0], i % 10);
		}
		/* The next round starts one place further in the ring. */
		assert_int_equal(revoke_port_post(&port, &request), 0);
		assert_true(revoke_port_next(&port, &got));
		assert_false(revoke_port_next(&port, &got));
	}
	revoke_port_release(&port);
}

static void port_refuses_malformed_requests(void **state)
{
	const struct revoke_request good = {.ticket = 1, .n_pages = 2};
	struct revoke_request bad;
	struct revoke_port port;

	(void)state;
	assert_int_equal(revoke_port_init(&port, 10), 0);
	bad = good;
	bad.ticket = 0;
	assert_int_equal(revoke_port_post(&port, &bad), -EINVAL);
	bad = good;
	bad.n_pages = 0;
	assert_int_equal(revoke_port_post(&port, &bad), -EINVAL);
	bad = good;
	bad.n_pages = REVOKE_BATCH_PAGES + 1;
	assert_int_equal(revoke_port_post(&port, &bad), -EINVAL);
	bad = good;
	bad.pages[1] = 10;
	assert_int_equal(revoke_port_post(&port, &bad), -EINVAL);
	bad = good;
	bad.reserved = 1;
	assert_int_equal(revoke_port_post(&port, &bad), -EINVAL);
	assert_false(revoke_port_next(&port, &bad));
	assert_int_equal(revoke_port_post(&port, &good), 0);
	revoke_port_release(&port);
}

static void a_page_is_taken_and_becomes_something_else(void **state)
{
	struct vm *vm = vm_new();
	const ppn_t pages[] = {ppn(3), ppn(3), ppn(9), ppn(4)};
	struct revoke_batch batch;

	(void)state;
	vm_access(vm, 3, true);
	vm_access(vm, 4, true);
	/* Page 9 is not at home and page 3 is named twice. */
	assert_int_equal(revoke_take(vm->host, pages, 4, HOME_ONLY, &batch), 2);
	assert_int_equal(physmap_state(physmap_load(vm->map, ppn(3))),
			 PHYSMAP_BUSY);
	assert_int_equal(atomic_load(&vm->n_kicked), 1);
	assert_int_equal(revoke_wait(vm->host, &batch, 1), -ETIMEDOUT);
	assert_true(guestmem_pending(vm->mem));
	guestmem_service(vm->mem);
	assert_false(guestmem_pending(vm->mem));
	assert_int_equal(vm->cached[3].v, UINT64_MAX);
	assert_int_equal(revoke_wait(vm->host, &batch, 1), 0);

	assert_int_equal(revoke_finish(vm->host, &batch, 0, physmap_balloon()),
			 -EINVAL);
	assert_int_equal(revoke_finish(vm->host, &batch, 0,
				       physmap_busy(physmap_zero(),
						    PHYSMAP_BY_HOST)),
			 -EINVAL);
	assert_int_equal(revoke_finish(vm->host, &batch, 0, physmap_swapped(1)),
			 0);
	assert_int_equal(physmap_load(vm->map, ppn(3)), physmap_swapped(1));
	assert_true(frame_is_hole(vm, ppn(3)));
	revoke_end(vm->host, &batch);
	assert_int_equal(physmap_load(vm->map, ppn(3)), physmap_swapped(1));
	assert_int_equal(physmap_load(vm->map, ppn(4)), physmap_home());
	assert_false(frame_is_hole(vm, ppn(4)));
	assert_int_equal(guestmem_stats(vm->mem).revoked_pages, 2);
	assert_int_equal(guestmem_stats(vm->mem).revoke_requests, 1);

	/* Further out: from the swap's slot to another, without a home frame. */
	assert_int_equal(revoke_take(vm->host, pages, 1, 1U << PHYSMAP_SWAPPED,
				     &batch),
			 1);
	guestmem_service(vm->mem);
	assert_int_equal(revoke_wait(vm->host, &batch, SECOND_NS), 0);
	assert_int_equal(revoke_finish(vm->host, &batch, 0, physmap_swapped(2)),
			 0);
	revoke_end(vm->host, &batch);
	assert_int_equal(physmap_load(vm->map, ppn(3)), physmap_swapped(2));
	vm_free(vm);
}

/* Some side by side, some not, one that stays, one whose final entry is not legal. */
static void many_pages_are_finished_at_once(void **state)
{
	struct vm *vm = vm_new();
	const ppn_t pages[] = {ppn(3), ppn(4), ppn(5), ppn(7), ppn(8), ppn(2)};
	const uint64_t finals[] = {physmap_swapped(1), physmap_zero(),
				   REVOKE_KEEP,        physmap_shared(1),
				   physmap_balloon(),  physmap_swapped(2)};
	struct revoke_batch batch;

	(void)state;
	touch_all(vm);
	assert_int_equal(revoke_take(vm->host, pages, 6, HOME_ONLY, &batch), 6);
	guestmem_service(vm->mem);
	assert_int_equal(revoke_wait(vm->host, &batch, SECOND_NS), 0);
	assert_int_equal(revoke_finish_all(vm->host, &batch, finals), 0x2b);
	for (unsigned i = 0; i < 6; i++) {
		const bool done = 0x2b >> i & 1;

		if (done)
			assert_int_equal(physmap_load(vm->map, pages[i]),
					 finals[i]);
		else
			assert_true(physmap_is_busy(
				physmap_load(vm->map, pages[i])));
		assert_int_equal(frame_is_hole(vm, pages[i]), done);
	}
	/* Once only. */
	assert_int_equal(revoke_finish_all(vm->host, &batch, finals), 0);
	revoke_end(vm->host, &batch);
	assert_int_equal(physmap_load(vm->map, ppn(5)), physmap_home());
	assert_int_equal(physmap_load(vm->map, ppn(8)), physmap_home());
	assert_false(frame_is_hole(vm, ppn(6)));
	assert_true(physmap_audit(vm->map));
	vm_free(vm);
}

static void nothing_to_take_sends_nothing(void **state)
{
	struct vm *vm = vm_new();
	struct revoke_batch batch;
	const ppn_t page = ppn(3);

	(void)state;
	/* Nor does it count as a request under way. */
	for (unsigned i = 0; i <= REVOKE_MAX_REQUESTS; i++)
		assert_int_equal(revoke_take(vm->host, &page, 1, HOME_ONLY,
					     &batch),
				 0);
	assert_false(guestmem_pending(vm->mem));
	/* A word that is no entry, written by a broken VM. */
	atomic_store(&physmap_entries(vm->map)[3], 7);
	assert_int_equal(revoke_take(vm->host, &page, 1, ~0U, &batch), 0);
	atomic_store(&physmap_entries(vm->map)[3], 0);
	vm_free(vm);
}

static void requests_are_bounded(void **state)
{
	struct vm *vm = vm_new();
	struct revoke_batch batch[REVOKE_MAX_REQUESTS];
	struct revoke_batch more;
	ppn_t page;

	(void)state;
	touch_all(vm);
	for (unsigned i = 0; i < REVOKE_MAX_REQUESTS; i++) {
		page = ppn(i);
		assert_int_equal(revoke_take(vm->host, &page, 1, HOME_ONLY,
					     &batch[i]),
				 1);
	}
	page = ppn(100);
	assert_int_equal(revoke_take(vm->host, &page, 1, HOME_ONLY, &more),
			 -EBUSY);
	assert_int_equal(physmap_load(vm->map, page), physmap_home());
	guestmem_service(vm->mem);
	for (unsigned i = 0; i < REVOKE_MAX_REQUESTS; i++) {
		assert_int_equal(revoke_wait(vm->host, &batch[i], SECOND_NS), 0);
		revoke_end(vm->host, &batch[i]);
	}
	assert_int_equal(revoke_take(vm->host, &page, 1, HOME_ONLY, &more), 1);
	revoke_end(vm->host, &more);
	guestmem_service(vm->mem);
	vm_free(vm);
}

static void an_unacknowledged_page_is_given_back(void **state)
{
	struct vm *vm = vm_new();
	struct revoke_batch batch;
	const ppn_t page = ppn(3);

	(void)state;
	touch_all(vm);
	assert_int_equal(revoke_take(vm->host, &page, 1, HOME_ONLY, &batch), 1);
	assert_int_equal(revoke_wait(vm->host, &batch, 1000), -ETIMEDOUT);
	revoke_end(vm->host, &batch);
	assert_int_equal(physmap_load(vm->map, page), physmap_home());
	/* The answer comes late, to nobody. */
	guestmem_service(vm->mem);
	vm_access(vm, 3, false);
	assert_int_equal(vm->n_wrong, 0);
	vm_free(vm);
}

/* Ending a batch leaves alone what was finished, even if another batch has it now. */
static void a_finished_page_may_be_taken_again(void **state)
{
	(void)state;
	for (unsigned together = 0; together < 2; together++) {
		struct vm *vm = vm_new();
		struct revoke_batch first, second;
		const ppn_t pages[] = {ppn(3), ppn(4)};
		const uint64_t finals[] = {REVOKE_KEEP, physmap_home()};

		touch_all(vm);
		assert_int_equal(revoke_take(vm->host, pages, 2, HOME_ONLY,
					     &first),
				 2);
		guestmem_service(vm->mem);
		assert_int_equal(revoke_wait(vm->host, &first, SECOND_NS), 0);
		if (together)
			assert_int_equal(revoke_finish_all(vm->host, &first,
							   finals),
					 2);
		else
			assert_int_equal(revoke_finish(vm->host, &first, 1,
						       finals[1]),
					 0);
		assert_int_equal(revoke_take(vm->host, &pages[1], 1, HOME_ONLY,
					     &second),
				 1);
		revoke_end(vm->host, &first);
		assert_int_equal(physmap_load(vm->map, pages[0]),
				 physmap_home());
		assert_true(physmap_is_busy(physmap_load(vm->map, pages[1])));
		guestmem_service(vm->mem);
		revoke_end(vm->host, &second);
		assert_int_equal(physmap_load(vm->map, pages[1]),
				 physmap_home());
		vm_free(vm);
	}
}

static int send_fails(void *ctx, const struct revoke_request *request)
{
	(void)ctx;
	(void)request;
	return -ECONNRESET;
}

static void a_failed_send_takes_nothing(void **state)
{
	struct vm *vm = vm_new();
	struct revoke_host *host;
	struct revoke_batch batch;
	const ppn_t page = ppn(3);

	(void)state;
	touch_all(vm);
	assert_int_equal(revoke_host_new(vm->map, vm->machine->home_fd,
					 send_fails, NULL, &host),
			 0);
	for (unsigned i = 0; i <= REVOKE_MAX_REQUESTS; i++) {
		assert_int_equal(revoke_take(host, &page, 1, HOME_ONLY, &batch),
				 -ECONNRESET);
		assert_int_equal(physmap_load(vm->map, page), physmap_home());
	}
	revoke_host_free(host);
	assert_null(revoke_host_free(NULL));
	vm_free(vm);
}

/* The host dies at each of the moments of a move; no byte is lost. */
static void a_dead_host_loses_nothing(void **state)
{
	(void)state;
	for (unsigned moment = 0; moment < 3; moment++) {
		struct vm *vm = vm_new();
		struct revoke_batch batch;
		const ppn_t page = ppn(3);

		touch_all(vm);
		vm_access(vm, 3, true);
		assert_true(vm->model[3] != 0);
		assert_int_equal(revoke_take(vm->host, &page, 1, HOME_ONLY,
					     &batch),
				 1);
		if (moment > 0)
			guestmem_service(vm->mem);
		if (moment > 1)
			assert_int_equal(revoke_wait(vm->host, &batch, SECOND_NS),
					 0);
		revoke_host_break(vm->host);
		assert_int_equal(revoke_wait(vm->host, &batch, SECOND_NS),
				 -EPIPE);
		/* From now on it is for the VM to turn the page back. */
		if (moment == 2) {
			revoke_end(vm->host, &batch);
			assert_int_equal(physmap_state(
						 physmap_load(vm->map, page)),
					 PHYSMAP_BUSY);
		}
		guestmem_link_broken(vm->mem);
		vm_start(vm);
		sleep_ms(20);
		vm_halt(vm);
		guestmem_service(vm->mem);
		assert_int_equal(physmap_load(vm->map, page), physmap_home());
		assert_int_equal(guestmem_stats(vm->mem).recovered_pages, 1);

		/* Should a part of it still run, then it changes nothing. */
		assert_int_equal(revoke_finish(vm->host, &batch, 0,
					       physmap_swapped(1)),
				 -ESTALE);
		revoke_end(vm->host, &batch);
		assert_int_equal(revoke_take(vm->host, &page, 1, HOME_ONLY,
					     &batch),
				 -EPIPE);
		assert_int_equal(physmap_load(vm->map, page), physmap_home());
		vm_free(vm);
	}
}

static void watching_counts_the_next_touch(void **state)
{
	struct vm *vm = vm_new();
	ppn_t pages[REVOKE_BATCH_PAGES];
	uint64_t touched;

	(void)state;
	touch_all(vm);
	for (unsigned i = 0; i < REVOKE_BATCH_PAGES; i++)
		pages[i] = ppn(i * 3);
	assert_int_equal(revoke_watch(vm->host, pages, 1, 1000), -ETIMEDOUT);
	assert_int_equal(physmap_load(vm->map, pages[0]), physmap_home());
	guestmem_service(vm->mem);

	vm_start(vm);
	assert_int_equal(revoke_watch(vm->host, pages, REVOKE_BATCH_PAGES,
				      10 * SECOND_NS),
			 REVOKE_BATCH_PAGES);
	vm_halt(vm);
	touched = physmap_touched(vm->map);
	assert_true(touched <= REVOKE_BATCH_PAGES);
	for (unsigned i = 0; i < REVOKE_BATCH_PAGES; i++) {
		if (physmap_is_watched(physmap_load(vm->map, pages[i])))
			touched++;
	}
	assert_int_equal(touched, REVOKE_BATCH_PAGES);
	touch_all(vm);
	assert_int_equal(physmap_touched(vm->map), REVOKE_BATCH_PAGES);
	assert_int_equal(vm->n_wrong, 0);
	vm_free(vm);
}

/*
 * The processor waits for a page of one batch while another batch, of pages it has
 * cached, waits for the processor.
 */
struct host_thread {
	struct vm *vm;
	int result;
};

static void *take_two_batches(void *arg)
{
	struct host_thread *h = arg;
	struct vm *vm = h->vm;
	const ppn_t first = ppn(1);
	const ppn_t second = ppn(2);
	struct revoke_batch a;
	struct revoke_batch b;

	h->result = revoke_take(vm->host, &first, 1, HOME_ONLY, &a) == 1 ? 0
									 : -1;
	if (!h->result)
		h->result = revoke_wait(vm->host, &a, 10 * SECOND_NS);
	while (!guestmem_stats(vm->mem).busy_waits)
		sleep_ms(1);
	if (revoke_take(vm->host, &second, 1, HOME_ONLY, &b) != 1)
		h->result = -1;
	if (!h->result)
		h->result = revoke_wait(vm->host, &b, 10 * SECOND_NS);
	revoke_end(vm->host, &b);
	revoke_end(vm->host, &a);
	return NULL;
}

static void a_waiting_processor_acknowledges(void **state)
{
	struct vm *vm = vm_new();
	struct host_thread h = {.vm = vm};
	pthread_t thread;
	uint64_t epoch;

	(void)state;
	touch_all(vm);
	epoch = guestmem_epoch(vm->mem);
	assert_int_equal(pthread_create(&thread, NULL, take_two_batches, &h), 0);
	while (!guestmem_pending(vm->mem))
		sleep_ms(1);
	guestmem_service(vm->mem);
	/* Waits until both batches are through. */
	vm_access(vm, 1, true);
	pthread_join(thread, NULL);
	assert_int_equal(h.result, 0);
	assert_int_equal(vm->cached[2].v, UINT64_MAX);
	assert_int_equal(guestmem_epoch(vm->mem), epoch + 2);
	assert_int_equal(vm->n_wrong, 0);
	vm_free(vm);
}

static struct revoke_stress_stats stress_for(struct vm *vm, uint64_t rate,
					     unsigned ms)
{
	struct revoke_stress *stress = NULL;
	struct revoke_stress_stats stats;
	struct err err = {0};

	if (revoke_stress_start(vm->mem, rate, 5, &stress, &err))
		fail_msg("%s", err.text);
	sleep_ms(ms);
	stats = revoke_stress_stats(stress);
	assert_null(revoke_stress_stop(stress));
	return stats;
}

static void the_guest_does_not_notice_stress(void **state)
{
	struct vm *vm = vm_new();
	struct revoke_stress_stats stats;

	(void)state;
	touch_all(vm);
	vm_start(vm);
	stats = stress_for(vm, 20000, 1000);
	vm_halt(vm);
	for (uint64_t i = 0; i < N_PAGES; i++)
		vm_access(vm, i, false);
	assert_int_equal(vm->n_wrong, 0);
	assert_true(stats.taken > 200);
	assert_true(stats.zeroed > 0 && stats.zeroed < stats.taken);
	assert_true(guestmem_stats(vm->mem).revoked_pages >= stats.taken);
	assert_int_equal(physmap_counts(vm->map).pages[PHYSMAP_BUSY], 0);
	vm_free(vm);
}

static void stress_keeps_its_rate(void **state)
{
	struct vm *vm = vm_new();
	struct revoke_stress_stats stats;

	(void)state;
	touch_all(vm);
	vm_start(vm);
	stats = stress_for(vm, 500, 1000);
	vm_halt(vm);
	/* The upper bound holds on the busiest machine: up to a second of bursts. */
	assert_true(stats.taken > 10 && stats.taken < 1200);
	vm_free(vm);
}

static void stress_ends_with_a_processor_that_does_not_answer(void **state)
{
	struct vm *vm = vm_new();
	struct revoke_stress_stats stats;

	(void)state;
	touch_all(vm);
	/* Its thread may have to wait for a processor. */
	do
		stats = stress_for(vm, 1000, 300);
	while (!stats.timeouts);
	assert_int_equal(stats.taken, 0);
	assert_int_equal(physmap_counts(vm->map).pages[PHYSMAP_BUSY], 0);
	guestmem_service(vm->mem);
	vm_free(vm);
}

static void stress_of_nothing_is_refused(void **state)
{
	struct vm *vm = vm_new();
	struct revoke_stress *stress = NULL;
	struct err err = {0};

	(void)state;
	assert_int_equal(revoke_stress_start(vm->mem, 0, 1, &stress, &err),
			 -EINVAL);
	assert_null(stress);
	assert_null(revoke_stress_stop(NULL));
	vm_free(vm);
}

/* Were a translation to survive, the guest of these tests would notice. */
static void ignore_unmap(void *ctx, ppn_t page)
{
	(void)ctx;
	(void)page;
}

static void a_stale_translation_is_noticed(void **state)
{
	static const struct guestmem_ops bad_ops = {.unmap = ignore_unmap};
	struct vm *vm = vm_new();
	struct revoke_batch batch;
	const ppn_t page = ppn(3);

	(void)state;
	touch_all(vm);
	vm_access(vm, 3, true);
	guestmem_set_ops(vm->mem, &bad_ops, vm);
	assert_int_equal(revoke_take(vm->host, &page, 1, HOME_ONLY, &batch), 1);
	guestmem_service(vm->mem);
	assert_int_equal(revoke_wait(vm->host, &batch, SECOND_NS), 0);
	*home_word(vm, page) = UINT64_C(0xa5a5a5a5a5a5a5a5);
	vm_access(vm, 3, false);
	assert_int_equal(vm->n_wrong, 1);
	revoke_end(vm->host, &batch);
	vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(port_is_a_bounded_queue),
		cmocka_unit_test(port_refuses_malformed_requests),
		cmocka_unit_test(a_page_is_taken_and_becomes_something_else),
		cmocka_unit_test(many_pages_are_finished_at_once),
		cmocka_unit_test(nothing_to_take_sends_nothing),
		cmocka_unit_test(requests_are_bounded),
		cmocka_unit_test(an_unacknowledged_page_is_given_back),
		cmocka_unit_test(a_finished_page_may_be_taken_again),
		cmocka_unit_test(a_failed_send_takes_nothing),
		cmocka_unit_test(a_dead_host_loses_nothing),
		cmocka_unit_test(watching_counts_the_next_touch),
		cmocka_unit_test(a_waiting_processor_acknowledges),
		cmocka_unit_test(the_guest_does_not_notice_stress),
		cmocka_unit_test(stress_keeps_its_rate),
		cmocka_unit_test(
			stress_ends_with_a_processor_that_does_not_answer),
		cmocka_unit_test(stress_of_nothing_is_refused),
		cmocka_unit_test(a_stale_translation_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
