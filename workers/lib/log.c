/*
 * log.c: one JSON object a line on standard error.
 *
 * A line is put together in a buffer on the stack and leaves in one write(),
 * so lines of several threads never mix; what does not fit is cut, field by
 * field. One mutex guards the table of repeats, which is small and fixed:
 * another message hashed to the same place simply starts counting anew.
 *
 * Must never: block on anything but that mutex and stderr, allocate, or take
 * a message from outside as its format. Documented in workers/README.md.
 */
#include "log.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hp_base.h"
#include "hp_json.h"

#define HPW_LOG_LINE 4096
#define HPW_LOG_BURST 10
#define HPW_LOG_WINDOW_S 10
#define HPW_LOG_SLOTS 64

typedef struct {
    const char *message;
    time_t since;
    unsigned written;
    int64_t suppressed;
} hpw_log_slot_t;

static const char *const hpw_log_names[] = {"debug", "info", "warn", "error"};
static const char *hpw_log_program = "hotpath";
static hpw_log_level_t hpw_log_least = HPW_LOG_INFO;
static pthread_mutex_t hpw_log_mutex = PTHREAD_MUTEX_INITIALIZER;
static hpw_log_slot_t hpw_log_slots[HPW_LOG_SLOTS];

int hpw_log_init(const char *program, const char *level)
{
    int i;

    hpw_log_program = program;
    for (i = HPW_LOG_DEBUG; i <= HPW_LOG_ERROR; i++) {
        if (strcmp(level, hpw_log_names[i]) == 0) {
            hpw_log_least = (hpw_log_level_t)i;
            return 0;
        }
    }
    return -1;
}

/* 1: write it, with *suppressed of its kind left out before. */
static int hpw_log_admit(const char *message, time_t now, int64_t *suppressed)
{
    hpw_log_slot_t *slot =
        &hpw_log_slots[((uintptr_t)message >> 3) % HPW_LOG_SLOTS];
    int admitted;

    pthread_mutex_lock(&hpw_log_mutex);
    *suppressed = 0;
    if (slot->message != message || now - slot->since >= HPW_LOG_WINDOW_S) {
        if (slot->message == message)
            *suppressed = slot->suppressed;
        *slot = (hpw_log_slot_t){message, now, 0, 0};
    }
    admitted = slot->written < HPW_LOG_BURST;
    if (admitted)
        slot->written++;
    else
        slot->suppressed++;
    pthread_mutex_unlock(&hpw_log_mutex);
    return admitted;
}

static size_t hpw_log_string(char *dst, size_t size, const char *text)
{
    hp_str_t raw = {(const unsigned char *)text, strlen(text)};
    size_t len;

    dst[0] = '"';
    len = 1 + hp_json_escape((unsigned char *)dst + 1, size - 2, raw);
    dst[len++] = '"';
    return len;
}

static size_t hpw_log_field(char *dst, size_t size, hpw_log_field_t field)
{
    size_t len = 0, name = strlen(field.name);

    /* what cannot hold a name, a number and punctuation is not begun */
    if (size < name + 40)
        return 0;
    dst[len++] = ',';
    len += hpw_log_string(dst + len, size - len, field.name);
    dst[len++] = ':';
    if (field.text)
        return len + hpw_log_string(dst + len, size - len, field.text);
    return len + (size_t)sprintf(dst + len, "%lld", (long long)field.number);
}

void hpw_log_write(hpw_log_level_t level, const char *message,
                   const hpw_log_field_t *fields)
{
    char line[HPW_LOG_LINE], *p = line, *last = line + sizeof(line) - 3;
    struct timespec now;
    struct tm tm;
    int64_t suppressed;
    ssize_t n;

    if (level < hpw_log_least)
        return;

    clock_gettime(CLOCK_REALTIME, &now);
    if (!hpw_log_admit(message, now.tv_sec, &suppressed))
        return;

    gmtime_r(&now.tv_sec, &tm);
    p += strftime(p, 64, "{\"ts\":\"%Y-%m-%dT%H:%M:%S", &tm);
    p += sprintf(p, ".%03ldZ\",\"level\":\"%s\",\"program\":\"%s\"",
                 now.tv_nsec / 1000000, hpw_log_names[level], hpw_log_program);
    p += hpw_log_field(p, (size_t)(last - p), hpw_s("msg", message));
    for (; fields->name; fields++)
        p += hpw_log_field(p, (size_t)(last - p), *fields);
    if (suppressed)
        p += hpw_log_field(p, (size_t)(last - p),
                           hpw_i("suppressed", suppressed));
    *p++ = '}';
    *p++ = '\n';

    n = write(STDERR_FILENO, line, (size_t)(p - line));
    (void)n; /* a log that cannot be written has nowhere to say so */
}
