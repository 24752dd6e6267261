/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest without a system needs: a stack, its entry, the serial console, and an end. */
#ifndef TESTS_GUEST_PAYLOAD_BARE_H
#define TESTS_GUEST_PAYLOAD_BARE_H
#include <stdint.h>

#define SERIAL      0x3f8
#define SERIAL_LSR  5
#define LSR_EMPTY   0x20
#define POWER_PORT  0x600
#define POWER_RESET 2
#define POWER_OFF   (5 << 2 | 0x20)

uint8_t stack[16384] __attribute__((aligned(16), used));
__asm__(".globl stack_end\n stack_end = stack + 16384 - 16");

#ifdef __x86_64__
/* The 64-bit Linux protocol: RSI is the zero page; the stack is ours. */
__asm__(".section .text.start,\"ax\"\n"
	".globl start\n"
	"start: leaq stack_end(%rip), %rsp\n"
	"mov %rsi, %rdi\n call linux64\n"
	".text\n");

/** linux64() - where a program for 64 bits begins. */
void linux64(const uint8_t *zero_page) __attribute__((noreturn, used));

/** linux64_command_line() - what the zero page says of it. */
static inline const char *linux64_command_line(const uint8_t *zero_page)
{
	return (const char *)(uintptr_t) * (const uint32_t *)(zero_page + 0x228);
}
#endif

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void print(const char *text)
{
	for (; *text; text++) {
		while (!(in8(SERIAL + SERIAL_LSR) & LSR_EMPTY))
			;
		out8(SERIAL, (uint8_t)*text);
	}
}

/** print_number() - a number in decimal, and what follows it. */
static inline void print_number(uintptr_t n, const char *after)
{
	char text[24] = {0};
	unsigned int at = sizeof(text) - 1;

	do
		text[--at] = (char)('0' + n % 10);
	while (n /= 10);
	print(text + at);
	print(after);
}

static inline void __attribute__((noreturn)) halt(void)
{
	for (;;)
		__asm__ volatile("hlt");
}

#endif
