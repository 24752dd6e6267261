/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the local APIC, for src/dev only. */
#ifndef DEV_LAPIC_IMPL_H
#define DEV_LAPIC_IMPL_H
#include <dev/lapic.h>

/* Registers by number: offset in the page >> 4, MSR - MSR_X2APIC_FIRST. */
enum reg {
	REG_ID = 0x02,
	REG_VERSION = 0x03,
	REG_TPR = 0x08,
	REG_APR = 0x09,
	REG_PPR = 0x0a,
	REG_EOI = 0x0b,
	REG_RRD = 0x0c,
	REG_LDR = 0x0d,
	REG_DFR = 0x0e,
	REG_SVR = 0x0f,
	REG_ISR = 0x10,
	REG_TMR = 0x18,
	REG_IRR = 0x20,
	REG_ESR = 0x28,
	REG_ICR_LOW = 0x30,
	REG_ICR_HIGH = 0x31,
	REG_LVT_TIMER = 0x32,
	REG_LVT_ERROR = 0x37,
	REG_INIT_COUNT = 0x38,
	REG_CUR_COUNT = 0x39,
	REG_DIVIDE = 0x3e,
	REG_SELF_IPI = 0x3f,
};

#define VERSION          UINT32_C(0x14)

#define SVR_ENABLE       UINT32_C(0x100)
#define SVR_WRITABLE     UINT32_C(0x3ff)
#define SVR_RESET        UINT32_C(0xff)

#define LVT_VECTOR       UINT32_C(0xff)
#define LVT_MODE(v)      ((enum apic_mode)(((v) >> 8) & 7))
#define LVT_MASKED       (UINT32_C(1) << 16)
#define LVT_TIMER_MODE   (UINT32_C(3) << 17)
#define LVT_ONE_SHOT     (UINT32_C(0) << 17)
#define LVT_PERIODIC     (UINT32_C(1) << 17)
#define LVT_DEADLINE     (UINT32_C(2) << 17)

#define ICR_VECTOR       UINT64_C(0xff)
#define ICR_MODE(v)      ((enum apic_mode)(((v) >> 8) & 7))
#define ICR_LOGICAL      (UINT64_C(1) << 11)
#define ICR_STATUS       (UINT64_C(1) << 12)
#define ICR_ASSERT       (UINT64_C(1) << 14)
#define ICR_LEVEL        (UINT64_C(1) << 15)
#define ICR_SHORTHAND(v) (((v) >> 18) & 3)
#define ICR_WRITABLE_X1  UINT64_C(0xff000000000ccfff)
#define ICR_WRITABLE_X2  UINT64_C(0xffffffff000ccfff)

enum shorthand {
	TO_DEST,
	TO_SELF,
	TO_ALL,
	TO_OTHERS,
};

#define ESR_SEND_VECTOR    (UINT32_C(1) << 5)
#define ESR_RECEIVE_VECTOR (UINT32_C(1) << 6)
#define ESR_REGISTER       (UINT32_C(1) << 7)

/* Vectors 0 to 15 are not for interrupts. */
#define VECTOR_MIN  16

#define DFR_FLAT    UINT32_C(0xf0000000)
#define DFR_RESET   UINT32_C(0xffffffff)
#define DFR_FIXED_1 UINT32_C(0x0fffffff)

static inline bool lapic_in_x2(const struct lapic *lapic)
{
	return lapic->base & LAPIC_BASE_EXTD;
}

/* lapic.c */

/** lapic_set_word() - 32 bits of a set of vectors, as the registers show them. @word: 0 to 7. */
uint32_t lapic_set_word(const uint64_t *set, unsigned int word);

/** lapic_kick_if_pending() - after a priority was lowered: have the processor look. */
void lapic_kick_if_pending(struct lapic *lapic);

/** lapic_raise_error() - set ESR_* in the error register, and interrupt if that is wanted. */
void lapic_raise_error(struct lapic *lapic, uint32_t bit);

/** lapic_end_of_interrupt() - a write to EOI. */
void lapic_end_of_interrupt(struct lapic *lapic);

/** lapic_x2_ldr() - logical destination in x2APIC mode, which follows from the ID. */
uint32_t lapic_x2_ldr(const struct lapic *lapic);

/** lapic_send_ipi() - act on the ICR as it is now. */
void lapic_send_ipi(struct lapic *lapic);

/* lapic_timer.c */

/** lapic_timer_mode() - LVT_ONE_SHOT, LVT_PERIODIC or LVT_DEADLINE. */
uint32_t lapic_timer_mode(const struct lapic *lapic);

/** lapic_timer_stop() - disarm it, whatever its mode. */
void lapic_timer_stop(struct lapic *lapic);

/** lapic_timer_start() - count down from the initial count; 0 stops. */
void lapic_timer_start(struct lapic *lapic);

/** lapic_timer_current() - the current count. */
uint32_t lapic_timer_current(const struct lapic *lapic);

/** lapic_timer_set_divide() - a write to the divide configuration. */
void lapic_timer_set_divide(struct lapic *lapic, uint32_t value);

/** lapic_timer_set_deadline() - a write to the TSC deadline; ignored in other modes. */
void lapic_timer_set_deadline(struct lapic *lapic, uint64_t value);

#endif
