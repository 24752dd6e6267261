/* SPDX-License-Identifier: Apache-2.0 */
/* The memory screen: what is shown, apart from keys and terminal. */
#ifndef CLI_TOP_H
#define CLI_TOP_H
#include <api/types.h>

#define TOP_FIELDS      9  /* groups of columns, 'A' to 'I' */
#define TOP_ROWS_BEFORE 10 /* lines above the first VM */

/**
 * struct top_screen - what a screen shows.
 * @now: figures; VMs are put in order
 * @before: those of the last time, for rates; time_ms 0: none
 * @fields: which groups of columns, bit 0 for 'A'
 * @sort: key that orders the VMs
 * @columns: of the terminal; 0: without end
 * @rows: most VMs
 */
struct top_screen {
	struct api_snapshot now;
	struct api_snapshot before;
	unsigned int fields;
	char sort;
	unsigned int columns;
	size_t rows;
};

/** top_print() - the whole screen, to standard output. */
void top_print(struct top_screen *s);

/** top_print_fields() - the list of groups, and which are shown. */
void top_print_fields(const struct top_screen *s);

/** top_print_help() - what the keys do. */
void top_print_help(void);

/** top_is_sort_key() - whether a key orders VMs. */
bool top_is_sort_key(char key);

/** top_fields() - read letters such as "ABE". Return: bits, 0 if there is another letter. */
unsigned int top_fields(const char *letters);

#endif
