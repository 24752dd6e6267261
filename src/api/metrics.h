/* SPDX-License-Identifier: Apache-2.0 */
/* Figures in the text format that Prometheus reads. */
#ifndef API_METRICS_H
#define API_METRICS_H
#include <api/types.h>

/**
 * api_metrics() - write a snapshot as metrics.
 * @snapshot: figures
 *
 * Names come from the tables: mezz_host_free_bytes, mezz_vm_swap_in_total{vm="…"}.
 *
 * Return: text to be freed, or NULL without memory.
 */
char *api_metrics(const struct api_snapshot *snapshot);

#endif
