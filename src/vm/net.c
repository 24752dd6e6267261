/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network of a VM: its card, and a socket on which frames go to whoever makes the rest.
 *
 * There is no thread for it: the one that looks after interrupts also looks here, and waits
 * for this socket, too, when it has nothing else to do.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <dev/frames.h>
#include <vm/net_peer.h>
#include <vm/vm_impl.h>

/* Reads of one look, so that a busy network leaves the guest time. */
#define MAX_READS 4

/* Members: d under the device lock, a atomic. */
struct vm_net {
	struct vm *vm;
	struct virtio_net *card; /* d */
	bool stalled;            /* d the guest has no room for what came */
	bool gone;               /* d the other end is */
	_Atomic short events;    /* a what to wait for */
	struct frames frames;    /* d */
};

/* Between the card and the socket. */

static void update_events(struct vm_net *net)
{
	const bool writes = frames_waiting(&net->frames) ||
			    virtio_net_held(net->card);

	atomic_store(&net->events, (short)((net->stalled ? 0 : POLLIN) |
					   (writes ? POLLOUT : 0)));
}

static bool guest_sends(void *ctx, const uint8_t *frame, size_t len)
{
	struct vm_net *net = ctx;
	const bool taken = net->gone || frames_send(&net->frames, frame, len);

	/* Whoever sleeps now waits for something else from now on. */
	if (!taken || frames_waiting(&net->frames)) {
		atomic_fetch_or(&net->events, POLLOUT);
		vm_kick(net->vm);
	}
	return taken;
}

static void guest_has_room(void *ctx)
{
	struct vm_net *net = ctx;

	if (net->stalled)
		vm_kick(net->vm);
	net->stalled = false;
}

static const struct virtio_net_ops ops = {
	.send = guest_sends,
	.room = guest_has_room,
};

static bool to_guest(void *ctx, const uint8_t *frame, size_t len)
{
	struct vm_net *net = ctx;

	net->stalled = !virtio_net_receive(net->card, frame, len);
	return !net->stalled;
}

static void unplug(struct vm_net *net)
{
	struct vm *vm = net->vm;

	net->gone = true;
	/* What the card holds back goes nowhere. */
	virtio_net_flush(net->card);
	virtio_net_unplug(net->card);
	vm->cb->report(
		vm->ctx,
		"the other end of the network is gone: the guest's cable is unplugged");
}

void vm_net_poll(struct vm *vm)
{
	struct vm_net *net = vm->net;
	int r = 1;

	if (!net || net->gone)
		return;
	frames_flush(&net->frames);
	if (virtio_net_held(net->card))
		virtio_net_flush(net->card);
	for (int i = 0; r > 0 && i < MAX_READS; i++)
		r = frames_receive(&net->frames, to_guest, net);
	if (r < 0)
		unplug(net);
	update_events(net);
}

struct pollfd vm_net_pollfd(const struct vm *vm)
{
	const struct vm_net *net = vm->net;

	if (!net || net->gone)
		return (struct pollfd){.fd = -1};
	return (struct pollfd){.fd = net->frames.fd,
			       .events = atomic_load(&net->events)};
}

struct virtio_dev *vm_net_dev(struct vm_net *net)
{
	return virtio_net_dev(net->card);
}

const struct virtio_net_stats *vm_net_stats(const struct vm *vm)
{
	return vm->net ? virtio_net_stats(vm->net->card) : NULL;
}

/* The card. */

/* One's own for each VM, and the same at each of its starts. */
static void make_up_mac(const struct vm_config *cfg, uint8_t mac[6])
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	const char *of = cfg->link_dir ? cfg->link_dir : "";

	for (; *of; of++)
		hash = (hash ^ (uint8_t)*of) * UINT64_C(0x100000001b3);
	mac[0] = 0x02; /* locally administered */
	for (int i = 1; i < 6; i++)
		mac[i] = (uint8_t)(hash >> (8 * i));
}

static int make_card(struct vm_net *net, const struct virtio_report *report,
		     struct err *err)
{
	static const uint8_t none[6];
	const struct vm_config *cfg = net->vm->cfg;
	uint8_t mac[6];

	memcpy(mac, cfg->net.mac, sizeof(mac));
	if (!memcmp(mac, none, sizeof(mac)))
		make_up_mac(cfg, mac);
	return virtio_net_new(net->vm->mem, mac, report, &ops, net, &net->card,
			      err);
}

int vm_net_add(struct vm *vm, unsigned int slot, const struct irq_line *line,
	       const struct virtio_report *report, struct err *err)
{
	struct vm_net *net = calloc(1, sizeof(*net));
	int r;

	if (!net)
		return err_set(err, -ENOMEM, "no memory for the network");
	r = net_peer_open(&vm->cfg->net, err);
	if (r < 0) {
		free(net);
		return r;
	}
	net->vm = vm;
	frames_init(&net->frames, r);
	vm->net = net;
	r = make_card(net, report, err);
	if (r)
		return r;
	update_events(net);
	return virtio_mmio_attach(virtio_net_dev(net->card), vm->bus, slot,
				  line, err);
}

void vm_net_release(struct vm_net *net)
{
	if (!net)
		return;
	close(net->frames.fd);
	virtio_net_free(net->card);
	free(net);
}
