/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest without a system: says by which protocol it was entered, and then does what the first
 * letter of its command line says. Built for 32 bits (multiboot and PVH) and for 64 (Linux).
 */
#include "bare.h"

#include <stddef.h>
#include <stdint.h>

#define EXIT_PORT 0xf4
#define MIB       (1UL << 20)

/* Each entry passes what the protocol promises. */
#ifndef __x86_64__
__asm__(".section .text.start,\"ax\"\n"
	".balign 4\n"
	".long 0x1badb002, 2, -(0x1badb002 + 2)\n" /* multiboot header: wants memory figures */
	".globl start\n"
	"start: mov $stack_end, %esp\n"
	"push %ebx\n push %eax\n call multiboot\n"
	"pvh_start: mov $stack_end, %esp\n"
	"push %ebx\n call pvh\n"
	".section .note.xen,\"a\",@note\n"
	".long 4, 4, 18\n .asciz \"Xen\"\n .long pvh_start\n"
	".text\n");
#endif

/* Without an IDT the first exception is the last. */
static void forget_interrupts(void)
{
	static const struct {
		uint16_t limit;
		uintptr_t base;
	} __attribute__((packed)) none = {0, 0};

	__asm__ volatile("lidt %0" : : "m"(none));
}

static void __attribute__((noreturn)) jump(uintptr_t to)
{
	__asm__ volatile("jmp *%0" : : "r"(to));
	__builtin_unreachable();
}

static void touch(void)
{
	for (uintptr_t at = 2 * MIB; at < 60 * MIB; at += 4096)
		*(volatile uint8_t *)at = 1;
}

static void act(const char *how)
{
	print("mezz-bare: entered by ");
	print(how);
	print("\n");
}

static void obey(const char *command)
{
	switch (*command) {
	case 'p':
		out8(POWER_PORT, POWER_OFF);
		break;
	case 'r':
		out8(POWER_PORT + POWER_RESET, 1);
		break;
	case 't':
		forget_interrupts();
		__asm__ volatile("int3");
		break;
	case 'u': /* VZEROUPPER: no such processor */
		forget_interrupts();
		__asm__ volatile(".byte 0xc5, 0xf8, 0x77");
		break;
	case 'l': /* local APIC */
		jump(0xfee00000);
	case 'i': /* I/O APIC */
		jump(0xfec00000);
	case 'n': /* neither RAM nor device */
		jump(0xf0000000);
	case 'm':
		touch();
		print("mezz-bare: touched\n");
		out8(POWER_PORT, POWER_OFF);
		break;
	case 'e':
		out8(EXIT_PORT, (uint8_t)command[1]);
		print("mezz-bare: there is no exit port\n");
		out8(POWER_PORT, POWER_OFF);
		break;
	default:
		print("mezz-bare: unknown command\n");
	}
	halt();
}

#ifdef __x86_64__
void linux64(const uint8_t *zero_page)
{
	act(*(const uint32_t *)(zero_page + 0x202) == 0x53726448 ? "linux64"
								 : "nobody");
	obey(linux64_command_line(zero_page));
	__builtin_unreachable();
}
#else
void multiboot(uint32_t magic, const uint32_t *info)
	__attribute__((noreturn, used));
void pvh(const uint32_t *info) __attribute__((noreturn, used));

void multiboot(uint32_t magic, const uint32_t *info)
{
	act(magic == 0x2badb002 && (info[0] & 5) == 5 ? "multiboot" : "nobody");
	print("mezz-bare: ");
	print_number(info[2] / 1024 + 1, " MiB\n");
	/* The file's name comes before its arguments. */
	const char *line = (const char *)info[4];

	while (*line && *line != ' ')
		line++;
	obey(line + (*line == ' '));
	__builtin_unreachable();
}

void pvh(const uint32_t *info)
{
	act(info[0] == 0x336ec578 ? "pvh" : "nobody");
	obey((const char *)info[6]);
	__builtin_unreachable();
}
#endif
