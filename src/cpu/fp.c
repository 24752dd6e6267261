/* SPDX-License-Identifier: Apache-2.0 */
/* Floating-point state: between struct cpu and the host's units, and who may use it when. */
#include <cpu/fp.h>

#include <string.h>

#include <cpu/fp_ops.h>

/* The image of FXSAVE; its first 160 bytes are struct cpu_x87. */
struct fx_image {
	uint8_t bytes[512];
} __attribute__((aligned(16)));

_Static_assert(sizeof(struct cpu_x87) == 160, "layout of FXSAVE");

void fp_reset(struct cpu *c)
{
	memset(&c->x87, 0, sizeof(c->x87));
	memset(&c->fp, 0, sizeof(c->fp));
	memset(c->xmm, 0, sizeof(c->xmm));
	c->x87.fcw = FCW_DEFAULT;
	c->x87.mxcsr = MXCSR_DEFAULT;
	c->x87.mxcsr_mask = MXCSR_VALID;
}

/* With underflow unmasked, flush to zero has no effect. [SDM1 10.2.3.3] */
uint32_t fp_host_mxcsr(uint32_t guest)
{
	uint32_t host = guest | MXCSR_MASKS;

	if (!(guest & (MXCSR_UE << MXCSR_MASK_SHIFT)))
		host &= ~MXCSR_FTZ;
	return host;
}

void fp_enter(struct cpu *c)
{
	_mm_setcsr(fp_host_mxcsr(c->x87.mxcsr));
}

void fp_leave(struct cpu *c)
{
	x87_save(c);
	c->x87.mxcsr = fp_mxcsr(c);
	_mm_setcsr(MXCSR_DEFAULT);
}

uint32_t fp_mxcsr(const struct cpu *c)
{
	return c->x87.mxcsr | (_mm_getcsr() & MXCSR_FLAGS);
}

void fp_set_mxcsr(struct cpu *c, uint32_t value)
{
	c->x87.mxcsr = value;
	_mm_setcsr(fp_host_mxcsr(value));
	c->code_mode = (c->code_mode & ~(uint32_t)CODE_FP_UNMASKED) |
		       (cpu_fp_mode(c) & CODE_FP_UNMASKED);
}

static uint8_t fp_trap(const struct cpu *c, enum fp_kind kind)
{
	const bool em = c->cr0 & CR0_EM;
	const bool ts = c->cr0 & CR0_TS;

	switch (kind) {
	case FP_KIND_X87:
		return em || ts ? VEC_NM : 0;
	case FP_KIND_WAIT:
		return ts && (c->cr0 & CR0_MP) ? VEC_NM : 0;
	case FP_KIND_SSE:
		if (!(c->cr4 & CR4_OSFXSR))
			return VEC_UD;
		break;
	case FP_KIND_MMX:
	case FP_KIND_FXSR:
		break;
	}
	return em ? VEC_UD : ts ? VEC_NM : 0;
}

OP(fp_check)
{
	const uint8_t vector = fp_trap(c, (enum fp_kind)op->imm);

	if (vector) {
		cpu_raise(c, vector);
		FAULT();
	}
	NEXT();
}

void fp_emit_check(struct emitter *e, enum fp_kind kind)
{
	if (e->mode & CODE_FP_TRAP)
		emit(e, op_fp_check)->imm = kind;
}

void x87_load(struct cpu *c)
{
	struct fx_image image = {0};
	const uint32_t mxcsr = _mm_getcsr();

	memcpy(image.bytes, &c->x87, sizeof(c->x87));
	memcpy(image.bytes + offsetof(struct cpu_x87, mxcsr), &mxcsr,
	       sizeof(mxcsr));
	__asm__ volatile("fxrstor64 %0"
			 :
			 : "m"(image)
			 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
			   "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
			   "xmm12", "xmm13", "xmm14", "xmm15", "memory");
	c->fp.unmasked = ~c->x87.fcw & FCW_MASKS;
	c->fp.where = FP_LIVE;
}

void x87_save(struct cpu *c)
{
	struct fx_image image;
	const struct cpu_x87 *x = (const struct cpu_x87 *)&image;

	if (c->fp.where == FP_LIVE) {
		/* FNINIT: the host's code expects an empty stack and masked exceptions. */
		__asm__ volatile("fxsave64 %0\n\tfninit"
				 : "=m"(image)
				 :
				 : "memory");
		c->x87.fsw = x->fsw;
		c->x87.ftw = x->ftw;
		memcpy(c->x87.st, x->st, sizeof(x->st));
	}
	c->fp.where = FP_MEM;
}

void x87_update_es(struct cpu *c)
{
	c->x87.fsw &= (uint16_t) ~(FSW_ES | FSW_B);
	if (c->x87.fsw & ~c->x87.fcw & FSW_FLAGS)
		c->x87.fsw |= FSW_ES | FSW_B;
}

void x87_set_top(struct cpu *c, unsigned int top)
{
	const unsigned int by = (top - x87_top(c)) & 7;
	uint8_t old[8][16];

	memcpy(old, c->x87.st, sizeof(old));
	for (unsigned int i = 0; i < 8; i++)
		memcpy(c->x87.st[i], old[(i + by) & 7], sizeof(old[0]));
	c->x87.fsw &= (uint16_t) ~(7U << FSW_TOP_SHIFT);
	c->x87.fsw |= (uint16_t)(top << FSW_TOP_SHIFT);
}

bool x87_not_pending(struct cpu *c)
{
	if (c->fp.where != FP_MEM || !(c->x87.fsw & FSW_ES))
		return true;
	cpu_raise(c, VEC_MF);
	return false;
}

bool mmx_check(struct cpu *c)
{
	if (!x87_not_pending(c))
		return false;
	if (c->fp.where == FP_LIVE)
		x87_save(c);
	return true;
}

void x87_init(struct cpu *c)
{
	x87_save(c);
	x87_set_top(c, 0);
	c->x87.fcw = FCW_DEFAULT;
	c->x87.fsw = 0;
	c->x87.ftw = 0;
	c->x87.fop = 0;
	c->x87.fip = 0;
	c->x87.fdp = 0;
}

void mmx_enter(struct cpu *c)
{
	x87_save(c);
	x87_set_top(c, 0);
	c->x87.ftw = 0xff;
	c->fp.where = FP_MMX;
}

uint64_t mmx_get(const struct cpu *c, unsigned int n)
{
	return host_ld64(c->x87.st[(n - x87_top(c)) & 7]);
}

bool fp_load_bytes(struct cpu *c, const struct op *op, uint64_t addr, void *to,
		   unsigned int size)
{
	uint8_t *out = to;

	for (unsigned int at = 0; at < size;) {
		const unsigned int n = size - at < 64 ? size - at : 64;
		const uint8_t *p = cpu_read_hit(c, addr + at, n);

		if (!p) {
			if (!cpu_load_slow(c, op, addr + at, n))
				return false;
			p = (const uint8_t *)c->scratch;
		}
		memcpy(out + at, p, n);
		at += n;
	}
	return true;
}

bool fp_store_bytes(struct cpu *c, const struct op *op, uint64_t addr,
		    const void *from, unsigned int size)
{
	const uint8_t *in = from;

	for (unsigned int at = 0; at < size;) {
		const unsigned int n = size - at < 64 ? size - at : 64;
		uint8_t *p = cpu_write_hit(c, addr + at, n);

		if (p) {
			memcpy(p, in + at, n);
		} else {
			memcpy(c->scratch, in + at, n);
			if (!cpu_store_slow(c, op, addr + at, n))
				return false;
		}
		at += n;
	}
	return true;
}
