/* SPDX-License-Identifier: Apache-2.0 */
/* VMs whose guest asked for a reset run again. */
#include <host/restart.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <base/log.h>
#include <mem/link_msg.h>

/* A VM that waits for its start. */
struct waiting {
	struct waiting *next;
	char name[HOST_NAME_SIZE];
};

struct restart {
	struct control *control;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	struct waiting *first, **last;
	bool end;
};

/* Return: the next one, the caller's; NULL at the end. */
static struct waiting *take(struct restart *r)
{
	struct waiting *w;

	pthread_mutex_lock(&r->lock);
	while (!r->first && !r->end)
		pthread_cond_wait(&r->changed, &r->lock);
	w = r->end ? NULL : r->first;
	if (w) {
		r->first = w->next;
		if (!r->first)
			r->last = &r->first;
	}
	pthread_mutex_unlock(&r->lock);
	return w;
}

static void *run(void *arg)
{
	struct restart *r = arg;
	struct waiting *w;

	while ((w = take(r))) {
		struct err err = {0};
		const int done = control_start(r->control, w->name, &err);

		/* Somebody was faster, or has removed it. */
		if (done && done != -EEXIST && done != -ENOENT)
			log_error("cannot start '%s' again: %s", w->name,
				  err.text);
		free(w);
	}
	return NULL;
}

int restart_new(struct control *control, struct restart **ret, struct err *err)
{
	struct restart *r = calloc(1, sizeof(*r));
	int done;

	if (!r)
		return err_set(err, -ENOMEM, "out of memory");
	r->control = control;
	r->last = &r->first;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	done = -pthread_create(&r->thread, NULL, run, r);
	if (done) {
		pthread_cond_destroy(&r->changed);
		pthread_mutex_destroy(&r->lock);
		free(r);
		return err_set(err, done, "cannot start a thread: %s",
			       strerror(-done));
	}
	*ret = r;
	return 0;
}

struct restart *restart_free(struct restart *r)
{
	struct waiting *w;

	if (!r)
		return NULL;
	pthread_mutex_lock(&r->lock);
	r->end = true;
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	while ((w = r->first)) {
		r->first = w->next;
		free(w);
	}
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
	return NULL;
}

void restart_event(struct restart *r, const struct host_event *event)
{
	struct waiting *w;

	if (event->kind != HOST_EVENT_VM_ENDED || event->status == -1 ||
	    !WIFEXITED(event->status) ||
	    WEXITSTATUS(event->status) != VM_STATUS_RESET)
		return;
	w = calloc(1, sizeof(*w));
	if (!w) {
		log_error("cannot start '%s' again: out of memory", event->vm);
		return;
	}
	memcpy(w->name, event->vm, sizeof(w->name));
	pthread_mutex_lock(&r->lock);
	*r->last = w;
	r->last = &w->next;
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->lock);
}
