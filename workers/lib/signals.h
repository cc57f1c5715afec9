/*
 * signals.h: how a worker is asked to stop, and how it waits.
 *
 * SIGTERM and SIGINT ask once: every lane finishes the batch it has in flight
 * and leaves. A second one ends the process at once, which is harmless by
 * design. The handler sets a flag and writes to a pipe that is never read, so
 * that from then on every wait in every thread returns at once.
 * Also here: the one way to wait longer each time (backoff with jitter).
 */
#ifndef HPW_SIGNALS_H
#define HPW_SIGNALS_H

#include <stdint.h>

/* Before the first thread. 0 or -1. */
int hpw_signals_init(void);

int hpw_stopping(void);

/* Readable for ever once stopping; for poll(). */
int hpw_stop_fd(void);

/* Waits, at most until stopping. */
void hpw_sleep_ms(int ms);

int64_t hpw_monotonic_ms(void);
int64_t hpw_unix_us(void);

/* least to most, each wait about twice the last, between half and all of it
 * drawn at random, so that many waiters do not come back together. */
typedef struct {
    int least_ms;
    int most_ms;
    int next_ms; /* 0: start at least_ms */
} hpw_backoff_t;

void hpw_backoff_reset(hpw_backoff_t *backoff);
int hpw_backoff_next_ms(hpw_backoff_t *backoff);
void hpw_backoff_sleep(hpw_backoff_t *backoff);

/* About ms, between three quarters and five quarters of it. */
int hpw_jitter_ms(int ms);

#endif
