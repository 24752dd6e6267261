/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a compressed page is in a zip file. Each page of the file is cut into slots of one
 * size class, and the class follows from the compressed size that the physmap entry holds,
 * so that the VM finds the bytes with the entry alone and the file needs no headers.
 */
#ifndef MEM_ZIP_SLOT_H
#define MEM_ZIP_SLOT_H
#include <base/types.h>
#include <mem/physmap.h>

/* A page is kept compressed only if it fits half a page. */
#define ZIP_MAX_BYTES  2048
#define ZIP_CLASSES    8
#define ZIP_CLASS_NONE ZIP_CLASSES
/* A slot number is the page of the file times this, plus the place in that page. */
#define ZIP_SLOTS_SHIFT 4

/** zip_class_slots() - how many slots of a class a page holds; the smallest class first. */
static inline unsigned zip_class_slots(unsigned cls)
{
	static const uint8_t slots[ZIP_CLASSES] = {16, 12, 8, 6, 5, 4, 3, 2};

	return slots[cls];
}

/** zip_class_bytes() - size of a slot of a class. */
static inline unsigned zip_class_bytes(unsigned cls)
{
	return (unsigned)(PAGE_SIZE / zip_class_slots(cls)) & ~15U;
}

/** zip_class_of() - smallest class that holds that many bytes, or ZIP_CLASS_NONE. */
static inline unsigned zip_class_of(unsigned size_bytes)
{
	for (unsigned cls = 0; cls < ZIP_CLASSES; cls++) {
		if (size_bytes <= zip_class_bytes(cls))
			return cls;
	}
	return ZIP_CLASS_NONE;
}

/**
 * zip_slot_find() - where the bytes of a ZIPPED entry are.
 * @entry: a valid ZIPPED entry, also one that an untrusted VM wrote
 * @file_bytes: length of the zip file
 * @ret_offset: first byte in the file
 *
 * Return: false if there can be no such slot.
 */
static inline bool zip_slot_find(uint64_t entry, uint64_t file_bytes,
				 uint64_t *ret_offset)
{
	const unsigned cls = zip_class_of(physmap_size_bytes(entry));
	const uint64_t slot = physmap_slot(entry);
	const uint64_t page = slot >> ZIP_SLOTS_SHIFT;
	const uint64_t idx = slot & ((1U << ZIP_SLOTS_SHIFT) - 1);

	if (cls == ZIP_CLASS_NONE || idx >= zip_class_slots(cls) ||
	    page >= file_bytes / PAGE_SIZE)
		return false;
	*ret_offset = page * PAGE_SIZE + idx * zip_class_bytes(cls);
	return true;
}

#endif
