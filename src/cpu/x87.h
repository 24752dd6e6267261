/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the x87 topic that have a file of their own. */
#ifndef CPU_X87_H
#define CPU_X87_H
#include <cpu/emit.h>

/* insn_emit.arg of the instructions on the x87 environment. */
enum x87_env {
	X87_ENV_FLDENV,
	X87_ENV_FNSTENV,
	X87_ENV_FRSTOR,
	X87_ENV_FNSAVE,
};

/** x87_emit_env() - emitter of FLDENV, FNSTENV, FRSTOR and FNSAVE. */
bool x87_emit_env(struct emitter *e, const struct insn_emit *self);

#endif
