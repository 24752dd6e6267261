/* SPDX-License-Identifier: Apache-2.0 */
/* Logging of programs. Libraries use at most log_debug(). */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/**
 * log_set_level() - choose what is written to standard error from now on.
 * @level: messages above it are dropped
 *
 * Context: once, before threads start.
 */
void log_set_level(enum log_level level);

/**
 * log_line() - write one message, with a newline added.
 * @level: how serious it is
 * @fmt: printf format
 *
 * Context: any thread; a line is written whole.
 */
void log_line(enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
