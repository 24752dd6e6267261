/* SPDX-License-Identifier: Apache-2.0 */
/* What happens when one of our own invariants does not hold. */
#include <base/verify.h>

#include <stdio.h>
#include <stdlib.h>

_Noreturn void verify_failed(const char *expr, const char *file, int line)
{
	fprintf(stderr, "mezzanine: bug: %s does not hold at %s:%d\n", expr,
		file, line);
	abort();
}
