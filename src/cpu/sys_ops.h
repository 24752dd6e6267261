/* SPDX-License-Identifier: Apache-2.0 */
/* Emitters of system instructions that the table in sys.c names; used inside src/cpu. */
#ifndef CPU_SYS_OPS_H
#define CPU_SYS_OPS_H
#include <cpu/emit.h>

/** emit_mov_special() - MOV to or from control, debug and segment registers. */
bool emit_mov_special(struct emitter *e);

/** emit_mov_segment() - MOV to or from a segment register. */
bool emit_mov_segment(struct emitter *e);

/** emit_pushpop_segment() - PUSH or POP of a segment register; @pop says which. */
bool emit_pushpop_segment(struct emitter *e, bool pop);

/** emit_far_branch() - far JMP and CALL through memory or to an immediate pointer. */
bool emit_far_branch(struct emitter *e, bool call);

/** emit_control() - CLTS, LMSW, SMSW, INVLPG, WBINVD. */
bool emit_control(struct emitter *e, const struct insn_emit *self);

/** emit_invpcid() - INVPCID. */
bool emit_invpcid(struct emitter *e, const struct insn_emit *self);

/** emit_segment() - LGDT, SGDT, LLDT, LTR, LAR, VERR, LDS, far RET and their like. */
bool emit_segment(struct emitter *e, const struct insn_emit *self);

/** emit_transfer() - INT, IRET, SYSCALL, SYSRET, SYSENTER, SYSEXIT. */
bool emit_transfer(struct emitter *e, const struct insn_emit *self);

/** emit_io() - IN, OUT, INS, OUTS. */
bool emit_io(struct emitter *e, const struct insn_emit *self);

#endif
