/* SPDX-License-Identifier: Apache-2.0 */
/* Where the default guest image is. */
#ifndef VM_IMAGE_H
#define VM_IMAGE_H
#include <stddef.h>

#include <base/error.h>

/**
 * image_folder() - folder of the default guest image.
 * @buf: where its path goes
 * @size: room there
 * @err: message
 *
 * It is $MEZZ_IMAGE; else, for a program in a build folder, the guest/ beside its src/; else
 * the share/mezzanine/guest that was installed with this program; else
 * /var/lib/mezzanine/guest.
 *
 * Return: 0 or -ENAMETOOLONG.
 */
int image_folder(char *buf, size_t size, struct err *err)
	__attribute__((warn_unused_result));

#endif
