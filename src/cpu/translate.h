/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translation of hot code into host code. Host and guest have the same instruction set, so
 * a run of simple instructions (a fragment) is encoded again with other registers: guest
 * registers are loaded into host registers once, stay there, and are stored at the end.
 *
 * A block keeps its ops. The handler of the op at which a fragment begins becomes the
 * fragment's code, which has the signature of a handler. Whatever the fragment cannot do itself,
 * such as a memory access that misses the software TLB, it leaves to the op of that
 * instruction: it stores what it has changed and goes to that op's handler. So
 * translated code calls nothing, cannot fault, and needs no tables about itself. A block
 * that jumps to its own beginning stays in host registers from round to round.
 *
 * What is hot is found by sampling: the block at which a time slice ends.
 */
#ifndef CPU_TRANSLATE_H
#define CPU_TRANSLATE_H
#include <cpu/op.h>

struct translator;

#define TRANSLATE_CODE_BYTES (6UL << 20)

/** translator_new() - room for translated code. Return: 0, -ENOMEM or -errno. */
int translator_new(struct translator **ret) __attribute__((warn_unused_result));

/** translator_free() - end it; NULL is fine. Return: NULL. */
struct translator *translator_free(struct translator *t);

/** translator_clear() - forget all code; no block that uses it may be left. */
void translator_clear(struct translator *t);

/** translator_full() - so little room is left that the block cache should be flushed. */
bool translator_full(const struct translator *t);

/** translator_bytes() - memory that translated code takes. */
size_t translator_bytes(const struct translator *t);

/**
 * translate_block() - translate what can be translated of a block.
 * @t: the translator
 * @c: the processor, for its counters
 * @b: a block of 64-bit code in one page that is alive and not running
 * @code: its bytes
 *
 * Does nothing if there is no room.
 */
void translate_block(struct translator *t, struct cpu *c, struct block *b,
		     const uint8_t *code);

#endif
