/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel command line that a guest gets if nobody says otherwise. `mezz run` and the
 * benchmark share it, so that ours and the peer boot the same way.
 *
 * console=ttyS0		a guest has one 16550 and no screen
 * quiet loglevel=3		only what is worse than an error goes through the slow serial port
 *				(a machine without PCI makes Linux print one that means nothing)
 * cryptomgr.notests		saves 875 M of 1343 M instructions of the boot
 * 8250.nr_uarts=1		do not probe ports that are not there
 * no_timer_check		the timer works; do not spin to see whether it ticks
 * tsc=reliable			no watchdog clock to compare with
 * noreplace-smp		with one processor Linux would take each of its LOCK prefixes away,
 *				by a change of address space and two flushes of the TLB for each
 * panic=-1 reboot=panic_warm	a guest that panics ends at once; the word that BIOSes look at
 *				tells that from a reboot, which is cold (see BOOT_WARM_FLAG)
 */
#ifndef BOOT_CMDLINE_H
#define BOOT_CMDLINE_H

/*
 * Linux writes there how it restarts, before it does: a word of the BIOS data area of PCs.
 * With reboot=panic_warm only a panic is warm.
 */
#define BOOT_WARM_FLAG_AT UINT64_C(0x472)
#define BOOT_WARM_FLAG    0x1234

#define BOOT_CMDLINE_DEFAULT                                         \
	"console=ttyS0 quiet loglevel=3 cryptomgr.notests "          \
	"8250.nr_uarts=1 no_timer_check tsc=reliable noreplace-smp " \
	"panic=-1 reboot=panic_warm"

#endif
