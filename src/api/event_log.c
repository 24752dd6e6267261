/* SPDX-License-Identifier: Apache-2.0 */
/* A ring with a condition; slow readers lose the oldest, nobody waits for them. */
#include <api/event_log.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#include <base/clock.h>

void event_log_init(struct event_log *log)
{
	pthread_condattr_t attr;

	memset(log, 0, sizeof(*log));
	pthread_mutex_init(&log->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&log->more, &attr);
	pthread_condattr_destroy(&attr);
}

void event_log_release(struct event_log *log)
{
	pthread_cond_destroy(&log->more);
	pthread_mutex_destroy(&log->lock);
}

void event_log_add(struct event_log *log, const struct api_event *event)
{
	pthread_mutex_lock(&log->lock);
	log->events[log->next++ % EVENT_LOG_SIZE] = *event;
	pthread_cond_broadcast(&log->more);
	pthread_mutex_unlock(&log->lock);
}

void event_log_close(struct event_log *log)
{
	pthread_mutex_lock(&log->lock);
	log->closed = true;
	pthread_cond_broadcast(&log->more);
	pthread_mutex_unlock(&log->lock);
}

uint64_t event_log_end(struct event_log *log)
{
	pthread_mutex_lock(&log->lock);
	const uint64_t end = log->next;

	pthread_mutex_unlock(&log->lock);
	return end;
}

static uint64_t oldest_locked(const struct event_log *log)
{
	return log->next > EVENT_LOG_SIZE ? log->next - EVENT_LOG_SIZE : 0;
}

uint64_t event_log_after(struct event_log *log, uint64_t seq)
{
	pthread_mutex_lock(&log->lock);
	uint64_t at = oldest_locked(log);

	while (at < log->next && log->events[at % EVENT_LOG_SIZE].seq <= seq)
		at++;
	pthread_mutex_unlock(&log->lock);
	return at;
}

enum event_wait event_log_wait(struct event_log *log, uint64_t *at,
			       uint64_t timeout_ms, struct api_event *ret)
{
	const struct timespec until = monotonic_after_ms(timeout_ms);
	enum event_wait r = EVENT_TIMEOUT;

	pthread_mutex_lock(&log->lock);
	while (*at >= log->next && !log->closed)
		if (pthread_cond_timedwait(&log->more, &log->lock, &until) ==
		    ETIMEDOUT)
			break;
	if (log->closed) {
		r = EVENT_CLOSED;
	} else if (*at < log->next) {
		if (*at < oldest_locked(log))
			*at = oldest_locked(log);
		*ret = log->events[(*at)++ % EVENT_LOG_SIZE];
		r = EVENT_GOT;
	}
	pthread_mutex_unlock(&log->lock);
	return r;
}
