/* SPDX-License-Identifier: Apache-2.0 */
/* The flat segments that every boot protocol asks for. [LINUX-BOOT "64-bit Boot Protocol"] */
#include <boot/bytes.h>
#include <boot/layout.h>
#include <boot/plan.h>

/* Selectors that Linux's protocol prescribes: __BOOT_CS and __BOOT_DS. */
#define SEL_CODE 0x10
#define SEL_DATA 0x18
#define SEL_TSS  0x20

/* Bits 8 to 23 of a descriptor's second word, as in struct boot_segment. */
#define ATTR_CODE64 0xa09b /* G, L, present, code, readable, accessed */
#define ATTR_CODE32 0xc09b /* G, D */
#define ATTR_DATA   0xc093 /* G, B, present, data, writable, accessed */
#define ATTR_TSS    0x008b /* present, busy TSS */
#define ATTR_G      0x8000
#define FLAT_LIMIT  0xffffffffU

static uint64_t descriptor(const struct boot_segment *s)
{
	const uint64_t limit = s->attr & ATTR_G ? s->limit >> 12
						: (uint64_t)s->limit;

	return (limit & 0xffff) | (s->base & 0xffffff) << 16 |
	       (uint64_t)(s->attr & 0xf0ff) << 40 | (limit >> 16 & 0xf) << 48 |
	       (s->base >> 24 & 0xff) << 56;
}

int segments_place(struct boot_plan *plan, bool long_mode,
		   struct boot_state *state, struct err *err)
{
	uint8_t gdt[LAYOUT_GDT_BYTES] = {0};

	state->code = (struct boot_segment){
		.sel = SEL_CODE,
		.attr = long_mode ? ATTR_CODE64 : ATTR_CODE32,
		.limit = FLAT_LIMIT,
	};
	state->data = (struct boot_segment){
		.sel = SEL_DATA,
		.attr = ATTR_DATA,
		.limit = FLAT_LIMIT,
	};
	state->tss = (struct boot_segment){
		.sel = SEL_TSS,
		.attr = ATTR_TSS,
		.limit = LAYOUT_TSS_BYTES - 1,
		.base = LAYOUT_TSS,
	};
	state->gdt_base = gpa(LAYOUT_GDT);
	state->gdt_limit = LAYOUT_GDT_BYTES - 1;
	/* In long mode a TSS descriptor has 16 bytes; the upper half of its base is zero. */
	put_le64(gdt + SEL_CODE, descriptor(&state->code));
	put_le64(gdt + SEL_DATA, descriptor(&state->data));
	put_le64(gdt + SEL_TSS, descriptor(&state->tss));
	return plan_write(plan, LAYOUT_GDT, gdt, sizeof(gdt), err);
}
