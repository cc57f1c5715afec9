/*
 * log.h: one JSON object a line on standard error.
 *
 *   hpw_log(HPW_LOG_WARN, "session lost", hpw_i("partition", 1),
 *       hpw_s("error", text));
 *
 * The message is a constant that operators can search for; what varies goes
 * into fields. A message that repeats is written ten times in ten seconds and
 * then counted; the next one carries "suppressed". Any thread may log; never
 * called from a signal handler. Fields are read during the call only.
 */
#ifndef HPW_LOG_H
#define HPW_LOG_H

#include <stdint.h>

typedef enum {
    HPW_LOG_DEBUG,
    HPW_LOG_INFO,
    HPW_LOG_WARN,
    HPW_LOG_ERROR
} hpw_log_level_t;

typedef struct {
    const char *name;
    const char *text; /* NULL: number counts */
    int64_t number;
} hpw_log_field_t;

static inline hpw_log_field_t hpw_s(const char *name, const char *text)
{
    return (hpw_log_field_t){name, text ? text : "", 0};
}

static inline hpw_log_field_t hpw_i(const char *name, int64_t number)
{
    return (hpw_log_field_t){name, 0, number};
}

/* program must outlive the process; level is one of debug, info, warn, error.
 * Returns -1 where it is none of them. */
int hpw_log_init(const char *program, const char *level);

void hpw_log_write(hpw_log_level_t level, const char *message,
                   const hpw_log_field_t *fields);

/* An empty field ends the list. */
#define hpw_log(level, ...) hpw_log_pick(level, __VA_ARGS__, {0})
#define hpw_log_pick(level, message, ...)                                      \
    hpw_log_write(level, message, (const hpw_log_field_t[]){__VA_ARGS__})

#endif
