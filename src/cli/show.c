/* SPDX-License-Identifier: Apache-2.0 */
/* mezz show: everything about one VM. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <cli/commands.h>
#include <cli/common.h>

static void line(const char *name, double v)
{
	printf("  %-22s %12.1f MiB\n", name, v);
}

/* So that a shell reads it as one word again. */
static void print_word(const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789@%+=:,./_-";

	if (*word && !word[strspn(word, plain)]) {
		fputs(word, stdout);
		return;
	}
	putchar('\'');
	for (; *word; word++)
		if (*word == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*word);
	putchar('\'');
}

static void show_args(const struct api_strings *args)
{
	if (!args->n)
		return;
	printf("  args:");
	for (unsigned int i = 0; i < args->n; i++) {
		putchar(' ');
		print_word(args->v[i]);
	}
	putchar('\n');
}

/* Without what is a pool's: whether it borrows. */
static void show_alloc(const struct mem_alloc *alloc)
{
	char text[ALLOC_TEXT];
	const char *end;

	mem_alloc_format(alloc, text);
	end = strstr(text, " expandable");
	printf("  %.*s\n", end ? (int)(end - text) : ALLOC_TEXT, text);
}

static void show_config(const struct api_vm_config *c)
{
	printf("%s\n", c->name);
	line("memory", mib(c->size_pages));
	show_alloc(&c->alloc);
	printf("  pool=%s group=%s sharing=%s autostart=%s\n",
	       *c->pool ? c->pool : "(host)", *c->group ? c->group : "(alone)",
	       c->share ? "on" : "off", c->autostart ? "on" : "off");
	if (c->version)
		printf("  changeVersion=%" PRIu64 "\n", c->version);
	show_args(&c->args);
}

static void show_stats(const struct api_stats *s, uint64_t size_pages)
{
	const struct {
		const char *name;
		uint64_t pages;
	} parts[] = {
		{"private", s->private_pages},
		{"shared", s->shared_pages},
		{"zero", s->zero_pages},
		{"ballooned", s->ballooned_pages},
		{"compressed", s->compressed_pages},
		{"swapped", s->swapped_pages},
	};

	printf("guest memory\n");
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		line(parts[i].name, mib(parts[i].pages));
	line("together", mib(size_pages));
	printf("machine memory\n");
	line("consumed", mib(s->consumed_pages));
	line("active (estimate)", mib(s->active_pages));
	line("entitlement", mib(s->entitlement_pages));
	line("overhead", mib(s->overhead_pages));
	line("page tables", mib(s->table_pages));
	line("balloon target", mib(s->balloon_target_pages));
	line("swept so far", mib(s->swept));
}

static void show_stalls(const struct api_stats *s)
{
	const double run = s->run_ns ? (double)s->run_ns : 1;

	printf("waited for memory, %% of its time\n");
	printf("  unpacking %.3f, disk %.3f, host %.3f, moves %.3f\n",
	       100 * (double)s->stall_zip_ns / run,
	       100 * (double)s->stall_swap_ns / run,
	       100 * (double)s->stall_host_ns / run,
	       100 * (double)s->stall_busy_ns / run);
}

int cmd_show(int argc, char *argv[])
{
	struct api_vm vm = {0};
	struct cli cli;
	int status = cli_begin(&cli, argc, argv,
			       "show NAME\n\nShow all about a VM.", NULL, 1, 1);

	if (status >= 0)
		return status;
	const struct client_request req = {.op = API_GET_VM,
					   .name = cli.args[0]};

	status = cli_call(&cli, &req, &vm);
	if (status == CLI_OK) {
		show_config(&vm.config);
		printf("  %s", api_power_name(vm.runtime.power));
		if (vm.runtime.pid)
			printf(", process %" PRIu64, vm.runtime.pid);
		if (vm.runtime.engine != API_ENGINE_NONE)
			printf(", engine %s, MMU %s",
			       api_engine_name(vm.runtime.engine),
			       api_mmu_name(vm.runtime.mmu));
		printf("%s\n", vm.runtime.pending
				       ? "; some changes wait for its next start"
				       : "");
		if (vm.runtime.pid) {
			show_stats(&vm.stats, vm_memory_pages(&vm));
			show_stalls(&vm.stats);
		}
	}
	api_release(&api_vm_schema, &vm);
	return cli_end(&cli, status < 0 ? CLI_OK : status);
}
