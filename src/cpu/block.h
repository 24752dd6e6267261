/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block cache: decoded code, found by the page of guest RAM that it is in.
 *
 * A page that holds decoded code carries GUESTMEM_CODE, so stores to it take the slow path and
 * reach block_written(). A block that is written over is dead: its ops are replaced by one
 * that leaves the block before the instruction, so whoever still has a way into it,
 * the running instruction included, finds out there and then.
 *
 * Blocks come from one pool without being freed singly; when it is full, all of them go.
 */
#ifndef CPU_BLOCK_H
#define CPU_BLOCK_H
#include <cpu/op.h>

/** block_cache_new() - @pool_bytes of room for decoded code. Return: 0 or -ENOMEM. */
int block_cache_new(struct cpu *c, size_t pool_bytes)
	__attribute__((warn_unused_result));

/** block_cache_free() - end it; NULL inside is fine. */
void block_cache_free(struct cpu *c);

/** block_flush() - drop all decoded code. Not while a block runs. */
void block_flush(struct cpu *c);

/**
 * block_written() - bytes of a page that carries GUESTMEM_CODE were stored to.
 * @c: processor
 * @page: page of RAM
 * @offset: first byte in it
 * @len: bytes, within the page
 */
void block_written(struct cpu *c, ppn_t page, uint64_t offset, uint64_t len);

/** cpu_written_flagged() - tell everybody whom the page's flags name of a store, done already. */
void cpu_written_flagged(struct cpu *c, ppn_t page, gpa_t addr, uint64_t len);

/**
 * block_sample() - a time slice ended before the block at RIP: if that happens
 * often, translate it.
 */
void block_sample(struct cpu *c);

/** block_cache_bytes() - memory that the cache uses. */
size_t block_cache_bytes(const struct cpu *c);

/* A page of code as the decoder sees it. */
struct code_fetch {
	const uint8_t *host; /* first byte of the page */
	ppn_t ppn;
};

/**
 * block_decode() - decode.c: turn code into ops.
 * @c: processor
 * @b: where to; ops follow it, with room for BLOCK_MAX_OPS
 * @code: bytes from the block's first, @n_bytes up to the end of the page
 * @next: bytes of the following page if an instruction crosses into it, else NULL with @n_next 0
 * @ret_need_next: set if the first instruction reaches into the next page, and @next was NULL
 *
 * Fills in ops, bytes, n_insns and n_ops. Return: nothing; bad code becomes an op that raises.
 */
void block_decode(struct cpu *c, struct block *b, const uint8_t *code,
		  size_t n_bytes, const uint8_t *next, size_t n_next,
		  bool *ret_need_next);

#define BLOCK_MAX_OPS 200

/** decoder_new(), decoder_free() - the decoder's own state in cpu.decoder. */
int decoder_new(struct cpu *c) __attribute__((warn_unused_result));
void decoder_free(struct cpu *c);

/** op_stale: leave the block before this instruction, since its code has changed. */
OP_EXPORT(stale);

#endif
