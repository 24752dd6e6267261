/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the options of mezz-vm. */
#include <api/vm_options.h>

#include <stdio.h>
#include <string.h>

#include <base/types.h>
#include <base/verify.h>

#define HELP_COLUMN 34

static const struct vm_option options[] = {
	{VM_OPT_MEMORY, "memory", 'm', "SIZE", "guest RAM (512M)"},
	{VM_OPT_CPUS, "cpus", 'c', "N",
	 "processors, 1 to 16 (1); more than 1 need kvm"},
	{VM_OPT_KERNEL, "kernel", 'k', "FILE",
	 "kernel: bzImage, ELF or multiboot (that of 'make guest')"},
	{VM_OPT_INITRD, "initrd", 'i', "FILE", "initial RAM disk"},
	{VM_OPT_APPEND, "append", 'a', "TEXT",
	 "add to the kernel command line; repeatable"},
	{VM_OPT_EXEC, "exec", 'e', "TEXT",
	 "a shell of the guest of 'make guest' runs TEXT; its status is ours"},
	{VM_OPT_BARE, "bare", 0, NULL,
	 "do not put the default command line before TEXT"},
	{VM_OPT_PROTOCOL, "protocol", 0, "auto|linux64|pvh|multiboot",
	 "how to enter the kernel"},
	{VM_OPT_DISK, "disk", 'd', "FILE[,ro|,snapshot]",
	 "a virtio disk; repeatable. snapshot: what is written is forgotten"},
	{VM_OPT_NET, "net", 'n', "user[,tcp=PORT:GUEST_PORT]...|SOCKET",
	 "a network card: sockets of the user, or who listens there (none)"},
	{VM_OPT_ENGINE, "engine", 0, "auto|soft|kvm", "what runs the processor"},
	{VM_OPT_MMU, "mmu", 0, "auto|hardware|software",
	 "nested or shadow page tables; auto: KVM's own, else hardware"},
	{VM_OPT_SHADOW_MEMORY, "shadow-memory", 0, "SIZE",
	 "bound of shadow tables (1/64 of RAM, at least 2M)"},
	{VM_OPT_WITHOUT, "without", 0, "LIST",
	 "switch off: caches,large,prefetch,unsync,translate"},
	{VM_OPT_TRANSLATE_AT_ONCE, "translate-at-once", 0, NULL,
	 "translate all code, not only what is hot"},
	{VM_OPT_CPU, "cpu", 0, "LIST",
	 "also show: pcid,fsgsbase,pku,umip,x2apic; hide: nosmap,nosmep"},
	{VM_OPT_CLOCK, "clock", 0, "host|instructions",
	 "what the guest's time follows"},
	{VM_OPT_STATS, "stats", 0, "FILE.json",
	 "write counters there at the end"},
	{VM_OPT_TIMEOUT, "timeout", 't', "TIME",
	 "end the run then: 90 or 90s, 5min, 1h"},
	{VM_OPT_REVOKE_STRESS, "revoke-stress", 0, "N",
	 "take and return N random pages a second"},
	{VM_OPT_REVOKE_SEED, "revoke-seed", 0, "N", "which random pages (1)"},
	{VM_OPT_AUDIT, "audit", 0, "N",
	 "recompute all translations every N time slices"},
	{VM_OPT_MEMORY_LIMIT, "memory-limit", 0, "SIZE",
	 "most machine memory for guest RAM"},
	{VM_OPT_LINK, "link", 0, "DIR",
	 "wait there for a host that gives memory (mezzd does this)"},
	{VM_OPT_BALLOON, "balloon", 0, "on|off|SIZE",
	 "take back what the guest frees, and SIZE of the rest (on)"},
	{VM_OPT_CONSOLE, "console", 0, "SOCKET",
	 "the console listens there; standard output is its log"},
	{VM_OPT_EXIT_PORT, "exit-port", 0, NULL,
	 "a byte v written to port 0xf4 ends with status (v<<1)|1"},
	{VM_OPT_VERBOSE, "verbose", 'v', NULL, "print a summary at the end"},
	{VM_OPT_HELP, "help", 'h', NULL, "this text"},
};

const struct vm_option *vm_option_find(const char *word, const char **ret_value)
{
	*ret_value = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct vm_option *o = &options[i];
		const size_t n = strlen(o->name);

		if (o->letter && word[0] == '-' && word[1] == o->letter &&
		    !word[2])
			return o;
		if (strncmp(word, "--", 2) || strncmp(word + 2, o->name, n))
			continue;
		if (!word[2 + n])
			return o;
		if (word[2 + n] == '=' && o->value) {
			*ret_value = word + 3 + n;
			return o;
		}
	}
	return NULL;
}

/* What does not fit into its column puts its help on a line of its own. */
static size_t put_row(char *to, size_t room, const struct vm_option *o)
{
	char left[96];
	int n = snprintf(left, sizeof(left), "  %c%c%s --%s%s%s",
			 o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
			 o->letter ? "," : " ", o->name, o->value ? " " : "",
			 o->value ? o->value : "");

	if (n >= HELP_COLUMN)
		return (size_t)snprintf(to, room, "%s\n%*s%s\n", left,
					HELP_COLUMN, "", o->help);
	return (size_t)snprintf(to, room, "%-*s%s\n", HELP_COLUMN, left,
				o->help);
}

const char *vm_options_usage(void)
{
	static char text[8192];
	size_t at = 0;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		at += put_row(text + at, sizeof(text) - at, &options[i]);
	VERIFY(at < sizeof(text));
	return text;
}
