/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything of the policy that reads text, behind one entry: the first byte chooses the
 * reader. Whatever is accepted must print and read back the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/units.h>
#include <base/verify.h>
#include <policy/alloc.h>
#include <policy/options.h>
#include <policy/scenario.h>
#include <policy/sim.h>
#include <policy/trace.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void units_try(const char *text)
{
	char buf[UNITS_TEXT];
	uint64_t v, back;

	if (size_parse(text, &v, NULL) == 0)
		VERIFY(size_parse(size_format(v, buf), &back, NULL) == 0 &&
		       back == v);
	if (duration_parse(text, &v, NULL) == 0)
		VERIFY(v <= UINT64_C(366) * 24 * 3600 * 1000);
	if (number_parse(text, 3, 99, &v, NULL) == 0)
		VERIFY(v >= 3 && v <= 99);
}

/* "name=value", for options and for allocation settings. */
static void settings_try(char *text)
{
	char *const equals = strchr(text, '=');
	struct options options;
	struct mem_alloc alloc;
	struct err err = {""};
	char buf[ALLOC_TEXT];

	if (!equals)
		return;
	*equals = '\0';
	options_init(&options);
	if (options_set(&options, text, equals + 1, &err) < 0)
		VERIFY(err.text[0]);
	VERIFY(options_check(&options, NULL) == 0);
	mem_alloc_init(&alloc);
	err.text[0] = '\0';
	if (mem_alloc_set(&alloc, text, equals + 1, &err) < 0)
		VERIFY(err.text[0]);
	VERIFY(strlen(mem_alloc_format(&alloc, buf)) < sizeof(buf));
}

static void trace_try(const char *text)
{
	struct trace *trace = NULL;
	struct err err = {""};

	if (trace_parse(text, &trace, &err) == 0)
		VERIFY(trace->n_rows > 0 && trace->n_names > 0);
	else
		VERIFY(err.text[0] && !trace);
	trace_free(trace);
}

/* A scenario that is accepted and small is also run for a few steps. */
static void scenario_try(const char *text)
{
	struct scenario *s = NULL;
	struct sim *sim = NULL;
	struct err err = {""};
	uint64_t vms = 0;

	if (scenario_parse(text, &s, &err) < 0) {
		VERIFY(err.text[0] && !s);
		return;
	}
	for (size_t i = 0; i < s->n_vms; i++)
		vms += s->vms[i].count;
	if (vms <= 50 && sim_new(s, NULL, &sim, &err) == 0) {
		int r = 1;

		for (int i = 0; i < 30 && r == 1; i++)
			r = sim_step(sim, &err);
		if (r < 0)
			fprintf(stderr, "%s\n", err.text);
		VERIFY(r >= 0);
	}
	sim_free(sim);
	scenario_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size == 0)
		return 0;
	text = malloc(size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	switch (data[0]) {
	case 'u':
		units_try(text);
		break;
	case 'o':
		settings_try(text);
		break;
	case 't':
		trace_try(text);
		break;
	default:
		scenario_try(text);
		break;
	}
	free(text);
	return 0;
}
