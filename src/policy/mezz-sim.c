/* SPDX-License-Identifier: Apache-2.0 */
/* mezz-sim: simulate a host from a scenario file; print a summary, write CSV, plot. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/arith.h>
#include <base/log.h>
#include <base/units.h>
#include <policy/scenario.h>
#include <policy/sim.h>
#include <policy/trace.h>

#define FILE_MAX_BYTES (UINT64_C(1) << 31)

/* VMs of a plot: more would hide each other. */
#define PLOT_VMS_MAX 12

struct request {
	const char *scenario;
	const char *csv;
	const char *vm_csv;
	const char *plot;
	const char *set[64];
	int n_set;
	bool quiet;
};

struct outputs {
	FILE *csv;
	FILE *vm_csv;
};

struct group_sum {
	uint64_t n, size, target, charge, active, estimate, balloon, zip, swap;
	uint64_t turns, ooms;
	double run, zip_ms, swap_ms, host_ms;
};

static int fail(const struct err *err)
{
	log_error("%s", err->text);
	return EXIT_FAILURE;
}

static void usage(FILE *to)
{
	fputs("usage: mezz-sim [options] SCENARIO\n"
	      "  -c, --csv FILE       the host after each step\n"
	      "  -v, --vm-csv FILE    each VM after each step\n"
	      "  -p, --plot FILE.svg  draw the run with gnuplot; the data goes to\n"
	      "                       FILE.svg.host.csv and FILE.svg.vm.csv\n"
	      "  -o, --option N=V     set an advanced option, over the scenario's own\n"
	      "  -q, --quiet          no summary\n"
	      "  -h, --help           this text\n",
	      to);
}

static double mib(uint64_t pages)
{
	return (double)pages / MIB_PAGES;
}

static char *file_read(const char *name, struct err *err)
{
	FILE *const f = fopen(name, "rb");
	size_t size = 0, room = 65536;
	char *text = NULL;

	if (!f) {
		err_set(err, -errno, "%s: %s", name, strerror(errno));
		return NULL;
	}
	for (;;) {
		char *const more = realloc(text, room + 1);

		if (!more)
			break;
		text = more;
		size += fread(text + size, 1, room - size, f);
		if (size < room)
			break;
		room *= 2;
		if (room > FILE_MAX_BYTES)
			break;
	}
	if (ferror(f) || !text || size == room || memchr(text, 0, size)) {
		err_set(err, -EINVAL,
			"%s: cannot be read, is too large or is not text", name);
		free(text);
		text = NULL;
	} else {
		text[size] = '\0';
	}
	fclose(f);
	return text;
}

static int scenario_load(const struct request *request, struct scenario **ret,
			 struct err *err)
{
	char *const text = file_read(request->scenario, err);
	int r;

	if (!text)
		return -EINVAL;
	r = scenario_parse(text, ret, err);
	free(text);
	if (r < 0) {
		err_prefix(err, "%s: ", request->scenario);
		return r;
	}
	for (int i = 0; i < request->n_set && r == 0; i++) {
		char name[64];
		const char *const equals = strchr(request->set[i], '=');
		const size_t len = equals ? (size_t)(equals - request->set[i])
					  : 0;

		if (len == 0 || len >= sizeof(name)) {
			r = err_set(err, -EINVAL,
				    "option %.60s is not NAME=VALUE",
				    request->set[i]);
			break;
		}
		memcpy(name, request->set[i], len);
		name[len] = '\0';
		r = options_set(&(*ret)->options, name, equals + 1, err);
	}
	if (r < 0) {
		scenario_free(*ret);
		*ret = NULL;
	}
	return r;
}

/* A trace is named relative to the scenario that names it. */
static int trace_load(const struct request *request, const struct scenario *s,
		      struct trace **ret, struct err *err)
{
	const char *const slash = strrchr(request->scenario, '/');
	char path[4096];
	char *text;
	int r;

	if (!s->trace_file[0])
		return 0;
	if (s->trace_file[0] == '/' || !slash)
		snprintf(path, sizeof(path), "%s", s->trace_file);
	else
		snprintf(path, sizeof(path), "%.*s%s",
			 (int)(slash + 1 - request->scenario),
			 request->scenario, s->trace_file);
	text = file_read(path, err);
	if (!text)
		return -EINVAL;
	r = trace_parse(text, ret, err);
	free(text);
	if (r < 0)
		err_prefix(err, "%s: ", path);
	return r;
}

static void csv_heads(const struct outputs *out)
{
	if (out->csv)
		fputs("time_s,state,running,waiting,blocked,managed_mib,free_mib,"
		      "private_mib,common_mib,zip_store_mib,overhead_mib,"
		      "shared_mib,zero_mib,balloon_mib,zipped_mib,"
		      "swapped_mib,deficit_mib,unmet_mib\n",
		      out->csv);
	if (out->vm_csv)
		fputs("time_s,vm,size_mib,target_mib,charge_mib,active_mib,"
		      "estimate_mib,private_mib,shared_mib,balloon_mib,"
		      "balloon_target_mib,zipped_mib,swapped_mib,"
		      "allowance_mib,stall_pct\n",
		      out->vm_csv);
}

static void host_row(FILE *f, const struct sim_host *h)
{
	fprintf(f,
		"%.3f,%s,%" PRIu32 ",%" PRIu32 ",%" PRIu32
		",%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f\n",
		(double)h->time_ms / 1000, host_state_name(h->plan.state),
		h->running, h->waiting, h->blocked, mib(h->managed_pages),
		mib(h->free_pages), mib(h->private_pages), mib(h->common_pages),
		mib(h->zip_store_pages), mib(h->overhead_pages),
		mib(h->shared_pages), mib(h->zero_used_pages),
		mib(h->balloon_pages), mib(h->zip_pages), mib(h->swap_pages),
		mib(h->plan.deficit_pages), mib(h->plan.unmet_pages));
}

static double stall_pct(const struct guest_stats *s)
{
	const double stall = s->stall_zip_ms + s->stall_swap_ms +
			     s->stall_host_ms;

	return s->run_ms > 0 ? 100 * stall / s->run_ms : 0;
}

static void vm_rows(FILE *f, const struct sim *sim)
{
	const double t = (double)sim_host(sim)->time_ms / 1000;

	for (uint32_t i = 0; i < sim_vm_count(sim); i++) {
		const char *name;
		uint32_t group;
		const struct guest *const g = sim_vm(sim, i, &group, &name);

		if (!g)
			continue;
		fprintf(f,
			"%.3f,%s,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.3f\n",
			t, name, mib(g->spec->size_pages),
			mib(g->action.target_pages), mib(guest_charge(g)),
			mib(g->active_pages),
			mib(guest_active_estimate(g, sim_options(sim))),
			mib(g->private_pages), mib(g->shared_pages),
			mib(g->balloon_pages),
			mib(g->action.balloon_target_pages), mib(g->zip_pages),
			mib(g->swap_pages), mib(g->allowance_pages),
			stall_pct(&g->stats));
	}
}

static void group_add(struct group_sum *sum, const struct guest *g,
		      const struct options *options)
{
	sum->n++;
	sum->size += g->spec->size_pages;
	sum->target += g->action.target_pages;
	sum->charge += guest_charge(g);
	sum->active += g->active_pages;
	sum->estimate += guest_active_estimate(g, options);
	sum->balloon += g->balloon_pages;
	sum->zip += g->zip_pages;
	sum->swap += g->swap_pages;
	sum->turns += g->stats.balloon_turns;
	sum->ooms += g->stats.ooms;
	sum->run += g->stats.run_ms;
	sum->zip_ms += g->stats.stall_zip_ms;
	sum->swap_ms += g->stats.stall_swap_ms;
	sum->host_ms += g->stats.stall_host_ms;
}

static void group_print(const char *name, const struct group_sum *s)
{
	const double n = s->n ? (double)s->n : 1;
	const double percent = s->run > 0 ? s->run / 100 : 1;

	printf("%-16.16s %6" PRIu64 " %7.1f %7.1f %7.1f %7.1f %7.1f %7.1f %7.1f"
	       " %7.1f %6.2f %6.2f %6.2f %6.1f %5" PRIu64 "\n",
	       name, s->n, mib(s->size) / n, mib(s->target) / n,
	       mib(s->charge) / n, mib(s->active) / n, mib(s->estimate) / n,
	       mib(s->balloon) / n, mib(s->zip) / n, mib(s->swap) / n,
	       s->zip_ms / percent, s->swap_ms / percent, s->host_ms / percent,
	       (double)s->turns / n, s->ooms);
}

static int groups_print(const struct sim *sim, const struct scenario *s)
{
	struct group_sum *const sums = calloc(s->n_vms, sizeof(*sums));

	if (!sums)
		return -ENOMEM;
	for (uint32_t i = 0; i < sim_vm_count(sim); i++) {
		const char *name;
		uint32_t group;
		const struct guest *const g = sim_vm(sim, i, &group, &name);

		if (g)
			group_add(&sums[group], g, sim_options(sim));
	}
	puts("\nper VM, MiB at the end; stalls in % of run time; balloon turns per VM, OOMs in all\n"
	     "group              runs    size  target  charge  active   estim balloon  zipped"
	     " swapped   %zip  %swap  %host  turns  ooms");
	for (size_t g = 0; g < s->n_vms; g++)
		group_print(s->vms[g].name, &sums[g]);
	free(sums);
	return 0;
}

static int summary_print(const struct sim *sim, const struct scenario *s)
{
	const struct sim_host *const h = sim_host(sim);
	const struct sim_totals *const t = sim_totals(sim);
	const double percent = h->time_ms ? (double)h->time_ms / 100 : 1;

	printf("simulated %.0f s: %" PRIu32 " VMs run, %" PRIu32
	       " refused; %" PRIu64 " plans, %" PRIu64
	       " changes of state; every check passed\n",
	       (double)h->time_ms / 1000, h->running, t->refused, t->plans,
	       t->state_changes);
	if (t->refused)
		printf("first refusal: %s\n", t->refusal.text);
	printf("machine memory %.0f MiB, minFree %.1f MiB; least free %.1f MiB,"
	       " at the end %.1f MiB, state %s\n",
	       mib(h->managed_pages), mib(h->plan.minfree_pages),
	       mib(t->free_min_pages), mib(h->free_pages),
	       host_state_name(h->plan.state));
	fputs("time in state:", stdout);
	for (unsigned int i = 0; i < HOST_STATES; i++)
		printf("  %s %.1f %%", host_state_name((enum host_state)i),
		       (double)t->state_ms[i] / percent);
	printf("\nmost at any time, MiB: saved by sharing %.1f, ballooned %.1f,"
	       " compressed %.1f, swapped %.1f\n",
	       mib(t->saved_max_pages), mib(t->balloon_max_pages),
	       mib(t->zip_max_pages), mib(t->swap_max_pages));
	return groups_print(sim, s);
}

static int sim_drive(struct sim *sim, const struct outputs *out, struct err *err)
{
	int r;

	csv_heads(out);
	do {
		r = sim_step(sim, err);
		if (r < 0)
			return r;
		if (out->csv)
			host_row(out->csv, sim_host(sim));
		if (out->vm_csv)
			vm_rows(out->vm_csv, sim);
	} while (r > 0);
	return 0;
}

static FILE *out_open(const char *name, struct err *err)
{
	FILE *const f = fopen(name, "w");

	if (!f)
		err_set(err, -errno, "%s: %s", name, strerror(errno));
	return f;
}

static int out_close(FILE *f, const char *name, struct err *err)
{
	bool bad;

	if (!f)
		return 0;
	bad = ferror(f) != 0;
	if (fclose(f) != 0 || bad)
		return err_set(err, -EIO, "%s: cannot be written", name);
	return 0;
}

/* A name goes into a gnuplot script between single quotes. */
static bool plot_name_fits(const char *name)
{
	return strlen(name) < 3000 && !strpbrk(name, "'\"\\`$\n");
}

static void plot_line(FILE *f, const char *before, const char *svg,
		      const char *name, const char *column, unsigned int width,
		      uint32_t colour, const char *title)
{
	fprintf(f,
		"%s'%s.vm.csv' using 1:(strcol('vm') eq '%s' ? column('%s_mib') : NaN)"
		" with lines lw %u lc %" PRIu32 " title '%s'",
		before, svg, name, column, width, colour, title);
}

static void plot_script(FILE *f, const char *svg, const struct sim *sim)
{
	uint32_t n = sim_vm_count(sim);

	fprintf(f,
		"set datafile separator ','\n"
		"set datafile missing NaN\n"
		"set terminal svg size 1000,900 background 'white'\n"
		"set output '%s'\nset key outside right\nset grid\n"
		"set xlabel 'seconds'\nset ylabel 'MiB'\n"
		"set multiplot layout 2,1\nset title 'host'\n"
		"plot for [c in 'free private common zip_store balloon swapped'] "
		"'%s.host.csv' using 1:(column(c.'_mib')) with lines title c\n",
		svg, svg);
	if (n > PLOT_VMS_MAX)
		n = PLOT_VMS_MAX;
	fputs("set title 'machine memory of each VM (thin: target)'\nplot ", f);
	for (uint32_t i = 0; i < n; i++) {
		const char *name;
		uint32_t group;

		sim_vm(sim, i, &group, &name);
		plot_line(f, i ? ", " : "", svg, name, "charge", 2, i + 1, name);
		plot_line(f, ", ", svg, name, "target", 1, i + 1, "");
	}
	fputs("\nunset multiplot\n", f);
}

static int plot_draw(const char *svg, const struct sim *sim, struct err *err)
{
	FILE *const gnuplot = popen("gnuplot 2>&1", "w");

	if (!gnuplot)
		return err_set(err, -errno, "gnuplot: %s", strerror(errno));
	plot_script(gnuplot, svg, sim);
	if (pclose(gnuplot) != 0)
		return err_set(
			err, -EIO,
			"gnuplot is missing or failed; the data is in %s.host.csv and %s.vm.csv",
			svg, svg);
	return 0;
}

static int run(const struct request *request, struct sim *sim,
	       const struct scenario *s, struct err *err)
{
	struct outputs out = {NULL, NULL};
	int r = 0, closed;

	if (request->csv) {
		out.csv = out_open(request->csv, err);
		r = out.csv ? 0 : -EIO;
	}
	if (r == 0 && request->vm_csv) {
		out.vm_csv = out_open(request->vm_csv, err);
		r = out.vm_csv ? 0 : -EIO;
	}
	if (r == 0)
		r = sim_drive(sim, &out, err);
	closed = out_close(out.csv, request->csv, r ? NULL : err);
	closed |= out_close(out.vm_csv, request->vm_csv,
			    r || closed ? NULL : err);
	if (r == 0)
		r = closed;
	if (r == 0 && !request->quiet && summary_print(sim, s) < 0)
		r = err_set(err, -ENOMEM, "no memory for the summary");
	if (r == 0 && request->plot)
		r = plot_draw(request->plot, sim, err);
	return r;
}

/* Return 0, or an exit status + 1 if there is nothing to simulate. */
static int arguments_parse(int argc, char **argv, struct request *request)
{
	static const struct option longs[] = {
		{"csv", required_argument, NULL, 'c'},
		{"vm-csv", required_argument, NULL, 'v'},
		{"plot", required_argument, NULL, 'p'},
		{"option", required_argument, NULL, 'o'},
		{"quiet", no_argument, NULL, 'q'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "c:v:p:o:qh", longs, NULL)) != -1) {
		if (c == 'c')
			request->csv = optarg;
		else if (c == 'v')
			request->vm_csv = optarg;
		else if (c == 'p')
			request->plot = optarg;
		else if (c == 'q')
			request->quiet = true;
		else if (c == 'o' &&
			 request->n_set < (int)ARRAY_SIZE(request->set))
			request->set[request->n_set++] = optarg;
		else if (c == 'h') {
			usage(stdout);
			return EXIT_SUCCESS + 1;
		} else {
			usage(stderr);
			return EXIT_FAILURE + 1;
		}
	}
	if (optind != argc - 1 ||
	    (request->plot && (request->csv || request->vm_csv ||
			       !plot_name_fits(request->plot)))) {
		usage(stderr);
		return EXIT_FAILURE + 1;
	}
	request->scenario = argv[optind];
	return 0;
}

int main(int argc, char **argv)
{
	struct request request = {0};
	static char host_csv[4096], vm_csv[4096];
	struct scenario *scenario = NULL;
	struct trace *trace = NULL;
	struct sim *sim = NULL;
	struct err err = {""};
	int r = arguments_parse(argc, argv, &request);

	if (r > 0)
		return r - 1;
	if (request.plot) {
		snprintf(host_csv, sizeof(host_csv), "%s.host.csv",
			 request.plot);
		snprintf(vm_csv, sizeof(vm_csv), "%s.vm.csv", request.plot);
		request.csv = host_csv;
		request.vm_csv = vm_csv;
	}
	r = scenario_load(&request, &scenario, &err);
	if (r == 0)
		r = trace_load(&request, scenario, &trace, &err);
	if (r == 0)
		r = sim_new(scenario, trace, &sim, &err);
	if (r == 0)
		r = run(&request, sim, scenario, &err);
	sim_free(sim);
	trace_free(trace);
	scenario_free(scenario);
	return r < 0 ? fail(&err) : EXIT_SUCCESS;
}
