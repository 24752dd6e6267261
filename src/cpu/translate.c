/* SPDX-License-Identifier: Apache-2.0 */
/* Translation of hot blocks. The model is described in translate.h. */
#include <cpu/translate.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <base/verify.h>
#include <cpu/translate_impl.h>

#define MIN_INSNS 4 /* shorter fragments cost more than they save */

int translator_new(struct translator **ret)
{
	struct translator *t = calloc(1, sizeof(*t));
	const int fd = memfd_create("mezz-code", MFD_CLOEXEC);
	int r = 0;

	if (!t || fd < 0 || ftruncate(fd, TRANSLATE_CODE_BYTES)) {
		r = t ? -errno : -ENOMEM;
		goto out;
	}
	t->rw = mmap(NULL, TRANSLATE_CODE_BYTES, PROT_READ | PROT_WRITE,
		     MAP_SHARED, fd, 0);
	t->rx = mmap(NULL, TRANSLATE_CODE_BYTES, PROT_READ | PROT_EXEC,
		     MAP_SHARED, fd, 0);
	if (t->rw == MAP_FAILED || t->rx == MAP_FAILED)
		r = -errno;
	ZydisDecoderInit(&t->decoder, ZYDIS_MACHINE_MODE_LONG_64,
			 ZYDIS_STACK_WIDTH_64);
out:
	if (fd >= 0)
		close(fd);
	if (r)
		t = translator_free(t);
	*ret = t;
	return r;
}

struct translator *translator_free(struct translator *t)
{
	if (!t)
		return NULL;
	if (t->rw && t->rw != MAP_FAILED)
		munmap(t->rw, TRANSLATE_CODE_BYTES);
	if (t->rx && t->rx != MAP_FAILED)
		munmap(t->rx, TRANSLATE_CODE_BYTES);
	free(t);
	return NULL;
}

void translator_clear(struct translator *t)
{
	t->used = 0;
}

bool translator_full(const struct translator *t)
{
	return t->used + 2 * FRAGMENT_BYTES > TRANSLATE_CODE_BYTES;
}

size_t translator_bytes(const struct translator *t)
{
	return t->used;
}

/* Which stretches of a block become fragments. */

static void find_live_flags(struct translator *t, bool live)
{
	for (unsigned int i = t->end; i > t->first; i--) {
		struct guest_insn *g = &t->insns[i - 1];

		g->live_out = live;
		/*
		 * Before an access the interpreter may take over, and fault: flags
		 * must be right.
		 */
		live = g->tests || (live && !g->sets_all) || g->mem >= 0 ||
		       g->kind == INSN_PUSH || g->kind == INSN_POP;
		g->live_in = live;
	}
}

static void install(struct translator *t, struct cpu *c)
{
	uint8_t *code = t->rx + t->used;
	op_fn *fn;

	memcpy(&fn, &code, sizeof(fn));
	t->block->ops[t->insns[t->first].op].fn = fn;
	t->used += (t->len + 15) & ~15U;
	c->stats.fragments++;
}

/* How far a fragment that begins at @first can go. */
static unsigned int extent(struct translator *t, unsigned int first)
{
	unsigned int i;

	t->used_regs = 0;
	for (i = first; i < t->block->n_insns; i++) {
		const struct guest_insn *g = &t->insns[i];
		const uint32_t regs = t->used_regs | g->reads | g->writes;

		if (g->kind == INSN_OTHER || g->kind == INSN_JCC ||
		    __builtin_popcount(regs) > N_POOL)
			break;
		t->used_regs = regs;
	}
	/* It must end where the interpreter can go on. */
	while (i > first && translator_op_of(t->block, i) < 0)
		i--;
	return i;
}

/* Is the whole block a loop that fits? */
static bool is_loop(struct translator *t)
{
	const struct block *b = t->block;
	const unsigned int jcc = b->n_insns - 1U;
	const struct guest_insn *g = &t->insns[jcc];
	uint32_t regs = 0;

	if (b->n_insns < 2 || g->kind != INSN_JCC ||
	    g->off + g->insn.length + g->ops[0].imm.value.s != 0)
		return false;
	/* Only a compare, which may be repeated, shares its op with the branch. */
	if (g->op < 0 && t->insns[jcc - 1].op < 0)
		return false;
	if (g->op < 0 && t->insns[jcc - 1].insn.mnemonic != ZYDIS_MNEMONIC_CMP &&
	    t->insns[jcc - 1].insn.mnemonic != ZYDIS_MNEMONIC_TEST)
		return false;
	for (unsigned int i = 0; i < jcc; i++) {
		const enum insn_kind k = t->insns[i].kind;

		if (k == INSN_OTHER || k == INSN_JCC)
			return false;
		regs |= t->insns[i].reads | t->insns[i].writes;
	}
	if (__builtin_popcount(regs) > N_POOL)
		return false;
	t->used_regs = regs;
	t->first = 0;
	t->end = b->n_insns;
	find_live_flags(t, true);
	return true;
}

static void build(struct translator *t, struct cpu *c)
{
	if (translator_full(t))
		return;
	translator_emit(t);
	if (!t->failed)
		install(t, c);
}

void translate_block(struct translator *t, struct cpu *c, struct block *b,
		     const uint8_t *code)
{
	const unsigned int min = c->features.translate_at_once ? 1 : MIN_INSNS;

	t->block = b;
	if (!translator_decode(t, b, code))
		return;
	t->loops = is_loop(t);
	if (t->loops) {
		build(t, c);
		return;
	}
	for (unsigned int i = 0; i < b->n_insns;) {
		unsigned int end;

		if (t->insns[i].op < 0 || t->insns[i].kind == INSN_OTHER) {
			i++;
			continue;
		}
		end = extent(t, i);
		if (end >= i + min) {
			t->first = i;
			t->end = end;
			find_live_flags(t, true);
			build(t, c);
		}
		i = end > i ? end : i + 1;
	}
}
