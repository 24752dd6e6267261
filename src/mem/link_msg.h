/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link between a VM and the host: messages of one fixed size on a SOCK_SEQPACKET
 * socket, descriptors beside them.
 *
 *   VM                                   host
 *                                        connects to the VM's socket
 *   HELLO  + descriptors           -->
 *                                  <--   ATTACH + descriptors, the first time
 *                                  <--   REVOKE, BALLOON, POWER, STOP
 *   UP, once its processor runs    -->
 *   ACK, WANT                      -->
 *
 * Either side checks each message whole with link_msg_valid() before it looks at it; a
 * wrong one ends the link.
 */
#ifndef MEM_LINK_MSG_H
#define MEM_LINK_MSG_H
#include <base/error.h>
#include <base/types.h>
#include <mem/revoke.h>

#define LINK_MAGIC   UINT32_C(0x4b4c5a4d) /* "MZLK" in memory */
#define LINK_VERSION 1
#define LINK_FDS_MAX 7

enum link_type {
	LINK_HELLO = 1, /* VM: who I am */
	LINK_ACK,       /* VM: a revocation's pages are not used any more */
	LINK_WANT,      /* VM: I wait for allowance */
	LINK_ATTACH,    /* host: from now on I am your host */
	LINK_REVOKE,    /* host: let go of pages */
	LINK_BALLOON,   /* host: the balloon should be that large */
	LINK_POWER,     /* host: press the power button */
	LINK_STOP,      /* host: end */
	LINK_UP,        /* VM: everything is made, the processor runs */
	LINK_TYPES,
};

/* Who sends a message. */
enum link_side {
	LINK_FROM_VM,
	LINK_FROM_HOST,
};

/* What a VM's process ends with, besides what the guest says at the debug exit port. */
enum vm_status {
	VM_STATUS_OFF = 0,   /* the guest switched itself off */
	VM_STATUS_USAGE = 2, /* the VM could not be made */
	VM_STATUS_RESET = 3, /* the guest asked for a reset */
	VM_STATUS_CRASH = 4, /* triple fault, jump into nothing, host out of memory */
	VM_STATUS_TIMEOUT = 124,
	VM_STATUS_STOPPED = 130, /* from outside */
};

/* Descriptors of a HELLO, in this order; the last three only of an attached VM. */
enum link_hello_fd {
	LINK_FD_HOME,
	LINK_FD_PHYSMAP,
	LINK_FD_TABLES,
	LINK_FD_COUNTERS,
	LINK_FDS_NEW,
	LINK_FD_ZIP = LINK_FDS_NEW,
	LINK_FD_SWAP,
	LINK_FD_GROUP,
	LINK_FDS_ATTACHED,
};

/* Descriptors of an ATTACH to a VM that has none yet. */
enum link_attach_fd {
	LINK_ATTACH_ZIP,
	LINK_ATTACH_SWAP,
	LINK_ATTACH_GROUP,
	LINK_ATTACH_FDS,
};

/**
 * struct link_msg - one message.
 * @magic: LINK_MAGIC
 * @version: LINK_VERSION
 * @type: enum link_type
 * @n_fds: descriptors that came with it
 * @reserved: 0
 * @value: HELLO: pages of RAM; ACK: ticket; BALLOON: pages; else 0
 * @revoke: REVOKE; else all zero
 */
struct link_msg {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t n_fds;
	uint32_t reserved;
	uint64_t value;
	struct revoke_request revoke;
};

static_assert(sizeof(struct link_msg) == 24 + sizeof(struct revoke_request),
	      "no padding goes over the wire");

/** link_msg_init() - an empty message of a type. */
void link_msg_init(struct link_msg *msg, enum link_type type, uint64_t value);

/**
 * link_msg_valid() - whether received bytes are a message.
 * @buf: as received
 * @len: how many
 * @n_fds: descriptors that came with them
 * @from: the side that they came from
 * @n_pages: pages of the VM's RAM, 0 if that is not known yet
 * @ret: the message, copied
 *
 * Return: true if it may be acted upon.
 */
bool link_msg_valid(const void *buf, size_t len, unsigned n_fds,
		    enum link_side from, uint64_t n_pages, struct link_msg *ret);

/**
 * link_send() - send a message.
 * @sock: socket
 * @msg: message; n_fds is set here
 * @fds: descriptors to pass, stay the caller's
 * @n_fds: how many, at most LINK_FDS_MAX
 *
 * Does not wait.
 *
 * Return: 0 or -errno (-EAGAIN: the other side does not read). Context: any thread.
 */
int link_send(int sock, struct link_msg *msg, const int *fds, unsigned n_fds)
	__attribute__((warn_unused_result));

/**
 * link_recv() - receive a message.
 * @sock: socket
 * @from: the other side
 * @n_pages: as for link_msg_valid()
 * @ret: message
 * @ret_fds: its n_fds descriptors, owned by the caller
 *
 * Return: 0; -EAGAIN; -EPIPE (end of the link); -EBADMSG; or what recvmsg() reports.
 */
int link_recv(int sock, enum link_side from, uint64_t n_pages,
	      struct link_msg *ret, int ret_fds[LINK_FDS_MAX])
	__attribute__((warn_unused_result));

#endif
