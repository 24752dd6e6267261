/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as messages of the link, and as the ring of places that a VM has left. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <base/verify.h>
#include <mem/link_counters.h>
#include <mem/link_msg.h>
#include <mem/zip_slot.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_message(const uint8_t *data, size_t size, enum link_side from)
{
	struct link_msg m;
	const unsigned n_fds = size ? data[size - 1] % 9 : 0;

	if (!link_msg_valid(data, size, n_fds, from, 1000, &m))
		return;
	VERIFY(m.n_fds == n_fds && n_fds <= LINK_FDS_MAX);
	VERIFY(m.type && m.type < LINK_TYPES);
	VERIFY(m.type != LINK_REVOKE || m.revoke.n_pages <= REVOKE_BATCH_PAGES);
	for (unsigned i = 0; i < m.revoke.n_pages; i++)
		VERIFY(m.revoke.pages[i] < 1000);
}

static void check_ring(const uint8_t *data, size_t size)
{
	static struct link_counters c;
	struct link_left left;
	unsigned n = 0;

	memcpy(&c, data, size < sizeof(c) ? size : sizeof(c));
	while (link_left_pop(&c, &left))
		VERIFY(++n <= LINK_LEFT_RING);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t entry = 0;
	uint64_t offset;

	check_message(data, size, LINK_FROM_VM);
	check_message(data, size, LINK_FROM_HOST);
	check_ring(data, size);
	memcpy(&entry, data, size < sizeof(entry) ? size : sizeof(entry));
	if (zip_slot_find(entry, 64 * PAGE_SIZE, &offset))
		VERIFY(offset + physmap_size_bytes(entry) <= 64 * PAGE_SIZE);
	return 0;
}
