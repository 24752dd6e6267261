/* SPDX-License-Identifier: Apache-2.0 */
/* The last events, for clients that wait for the next. */
#ifndef API_EVENT_LOG_H
#define API_EVENT_LOG_H
#include <pthread.h>

#include <api/types.h>

#define EVENT_LOG_SIZE 256

/**
 * struct event_log - ring of events. All under @lock.
 * @more: there is another event, or no more
 * @events: event i is at i % EVENT_LOG_SIZE
 * @next: how many there have ever been
 * @closed: nobody waits any more
 */
struct event_log {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct api_event events[EVENT_LOG_SIZE];
	uint64_t next;
	bool closed;
};

/* How a wait ended. */
enum event_wait {
	EVENT_GOT,
	EVENT_TIMEOUT,
	EVENT_CLOSED, /* by event_log_close() */
};

/** event_log_init() - empty. */
void event_log_init(struct event_log *log);

/** event_log_release() - nobody uses it any more. */
void event_log_release(struct event_log *log);

/** event_log_add() - append and wake everybody. */
void event_log_add(struct event_log *log, const struct api_event *event);

/** event_log_close() - send home all who wait. */
void event_log_close(struct event_log *log);

/** event_log_end() - position after the last event. */
uint64_t event_log_end(struct event_log *log);

/** event_log_after() - position of the first event with a seq above @seq. */
uint64_t event_log_after(struct event_log *log, uint64_t seq);

/**
 * event_log_wait() - the event at a position.
 * @log: log
 * @at: position; moved on past what is gone, and past the event that was got
 * @timeout_ms: at most
 * @ret: the event, if there is one
 *
 * Return: see enum event_wait. Context: any thread.
 */
enum event_wait event_log_wait(struct event_log *log, uint64_t *at,
			       uint64_t timeout_ms, struct api_event *ret);

#endif
