/* SPDX-License-Identifier: Apache-2.0 */
/* mezz stop: end VMs that run. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/clock.h>
#include <base/units.h>
#include <cli/commands.h>
#include <cli/common.h>

#define WAIT_DEFAULT_MS 60000
#define FORCED_MS       10000
#define LOOK_MS         100

static const char usage[] =
	"stop NAME... | --all [--wait TIME] [--force | --vm | --kill]\n\n"
	"Press the power button of VMs and wait until they are off. A guest that does not listen\n"
	"to it goes on; --force ends it then.";

enum {
	STOP_ALL,
	STOP_FORCE,
	STOP_VM,
	STOP_KILL,
	STOP_WAIT
};
static const struct cli_option options[] = {
	[STOP_ALL] = {"all", 'a', NULL, "all VMs that run"},
	[STOP_FORCE] = {"force", 'f', NULL,
			"end a VM that is not off after that time"},
	[STOP_VM] = {"vm", 0, NULL,
		     "do not press it, but end the VM: as if by its plug"},
	[STOP_KILL] = {"kill", 'k', NULL, "kill its process"},
	[STOP_WAIT] = {"wait", 'w', "TIME",
		       "wait so long (60s); 0 does not wait"},
	{NULL, 0, NULL, NULL},
};

/**
 * struct stop - VMs that are to end.
 * @cli: command
 * @names: of those that are not off yet; owned, as are the names
 * @n: how many
 * @wait_ms: how long they may take
 * @worst: exit status so far
 */
struct stop {
	struct cli *cli;
	char **names;
	size_t n;
	uint64_t wait_ms;
	int worst;
};

static int request(struct stop *s, const char *name, const char *how,
		   uint64_t wait_ms, bool force, struct api_vm *reply)
{
	json_t *body = json_pack("{s:s, s:I, s:b}", "how", how, "waitMs",
				 (json_int_t)wait_ms, "force", force);
	const struct client_request req = {.op = API_STOP_VM_OP,
					   .name = name,
					   .body = body};
	const int status = cli_call(s->cli, &req, reply);

	json_decref(body);
	if (status > s->worst)
		s->worst = status;
	return status;
}

/* One after the other, each until it is off. */
static void stop_one(struct stop *s, const char *name)
{
	const char *how = s->cli->values[STOP_KILL] ? "kill"
			  : s->cli->values[STOP_VM] ? "vm"
						    : "guest";
	struct api_vm vm = {0};

	if (request(s, name, how, s->wait_ms,
		    s->cli->values[STOP_FORCE] != NULL, &vm) == CLI_OK)
		printf("%s %s\n", name,
		       vm.runtime.power == API_POWERED_OFF ? "is off"
		       : strcmp(how, "guest") != 0
			       ? "is ending"
			       : "has been told to switch off");
	api_release(&api_vm_schema, &vm);
}

static void drop(struct stop *s, size_t i)
{
	free(s->names[i]);
	s->names[i] = s->names[--s->n];
}

/* Those that it fails for are told, and not waited for. */
static void press_all(struct stop *s)
{
	for (size_t i = 0; i < s->n;) {
		struct api_vm vm = {0};
		const int status = request(s, s->names[i], "guest", 0, false,
					   &vm);

		api_release(&api_vm_schema, &vm);
		if (status != CLI_OK) {
			drop(s, i);
			continue;
		}
		if (!s->wait_ms && !s->cli->values[STOP_FORCE])
			printf("%s has been told to switch off\n", s->names[i]);
		i++;
	}
}

static bool is_running(const struct api_vms *list, const char *name)
{
	const struct api_vm *vms = list->vms.v;

	for (size_t i = 0; i < list->vms.n; i++) {
		if (!strcmp(vms[i].config.name, name))
			return vms[i].runtime.power != API_POWERED_OFF;
	}
	return false;
}

/* Not by cli_call(), which prints what it gets. Return: whether mezzd can be asked. */
static bool list_vms(struct stop *s, struct api_vms *ret)
{
	const struct client_request req = {.op = API_LIST_VMS};
	struct err err = {0};

	if (!client_call(s->cli->client, &req, ret, NULL, &err))
		return true;
	s->worst = cli_fail(&err);
	return false;
}

/* Return: false if mezzd cannot be asked. */
static bool look(struct stop *s)
{
	struct api_vms list = {0};

	if (!list_vms(s, &list))
		return false;
	for (size_t i = 0; i < s->n;) {
		if (is_running(&list, s->names[i])) {
			i++;
			continue;
		}
		printf("%s is off\n", s->names[i]);
		drop(s, i);
	}
	fflush(stdout);
	api_release(&api_vms_schema, &list);
	return true;
}

/* All of them have the same time, whatever the others do. */
static void stop_together(struct stop *s)
{
	const uint64_t end = monotonic_ms() + s->wait_ms;

	press_all(s);
	if (!s->wait_ms && !s->cli->values[STOP_FORCE])
		return;
	while (s->n) {
		if (!look(s))
			return;
		if (!s->n || monotonic_ms() >= end)
			break;
		nap_ms(LOOK_MS);
	}
	for (size_t i = 0; i < s->n; i++) {
		struct api_vm vm = {0};

		if (!s->cli->values[STOP_FORCE]) {
			fprintf(stderr,
				"mezz: '%s' has not ended within %" PRIu64
				" ms\n",
				s->names[i], s->wait_ms);
			s->worst = CLI_FAILED;
		} else if (request(s, s->names[i], "vm", FORCED_MS, false,
				   &vm) == CLI_OK) {
			printf("%s is off\n", s->names[i]);
		}
		api_release(&api_vm_schema, &vm);
	}
}

static int add_name(struct stop *s, const char *name)
{
	char **names = realloc(s->names, (s->n + 1) * sizeof(*names));

	if (!names)
		return -ENOMEM;
	s->names = names;
	names[s->n] = strdup(name);
	return names[s->n] ? (s->n++, 0) : -ENOMEM;
}

/* Return: 0, or -ENOMEM; what mezzd could not be asked for is told. */
static int add_running(struct stop *s)
{
	struct api_vms list = {0};
	int r = 0;

	if (!list_vms(s, &list))
		return 0;

	const struct api_vm *vms = list.vms.v;

	for (size_t i = 0; i < list.vms.n && !r; i++) {
		if (vms[i].runtime.power != API_POWERED_OFF)
			r = add_name(s, vms[i].config.name);
	}
	api_release(&api_vms_schema, &list);
	return r;
}

static void run(struct stop *s)
{
	const struct cli *cli = s->cli;
	struct err err = {0};
	int r = cli->values[STOP_ALL] ? add_running(s) : 0;

	for (int i = 0; i < cli->n_args && !r; i++)
		r = add_name(s, cli->args[i]);
	if (r) {
		s->worst = cli_fail((err_set(&err, r, "out of memory"), &err));
	} else if (s->n < 2 || cli->json || cli->values[STOP_VM] ||
		   cli->values[STOP_KILL]) {
		for (size_t i = 0; i < s->n; i++)
			stop_one(s, s->names[i]);
	} else {
		stop_together(s);
	}
	for (size_t i = 0; i < s->n; i++)
		free(s->names[i]);
	free(s->names);
}

int cmd_stop(int argc, char *argv[])
{
	struct cli cli;
	struct stop s = {.cli = &cli, .wait_ms = WAIT_DEFAULT_MS};
	struct err err = {0};
	int status = cli_begin(&cli, argc, argv, usage, options, 0, CLI_ARGS);

	if (status >= 0)
		return status;
	if (!cli.n_args == !cli.values[STOP_ALL]) {
		fprintf(stderr, "mezz: %s\nusage: mezz %.*s\n",
			cli.n_args ? "either names or --all"
				   : "words are missing",
			(int)strcspn(usage, "\n"), usage);
		return cli_end(&cli, CLI_USAGE);
	}
	if (cli.values[STOP_WAIT] &&
	    duration_parse(cli.values[STOP_WAIT], &s.wait_ms, &err)) {
		err_prefix(&err, "--wait: ");
		return cli_end(&cli, cli_fail(&err));
	}
	run(&s);
	return cli_end(&cli, s.worst);
}
