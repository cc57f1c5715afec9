/*
 * hp_rate.h: GCRA, the generic cell rate algorithm (ITU-T I.371, in the
 * "theoretical arrival time" form), in whole nanoseconds.
 *
 * Exact: over any time the number of admitted requests never passes
 * burst + elapsed * rate. The caller keeps tat_ns, serialises access to it and
 * supplies the clock, which may stand still but must not run backwards.
 */
#ifndef HP_RATE_H
#define HP_RATE_H

#include "hp_base.h"

typedef struct {
    int64_t interval_ns;  /* between requests at the steady rate; >= 1 */
    int64_t tolerance_ns; /* (burst - 1) * interval_ns; >= 0 */
} hp_rate_t;

typedef struct {
    int admitted;
    uint64_t remaining; /* requests that would be admitted right now */
    int64_t retry_ns;   /* refused: until one would be admitted; else 0 */
    int64_t reset_ns;   /* until the whole burst is available again */
} hp_rate_result_t;

/* count requests per period_ms, with room for burst at once. Returns 0, or -1
 * where a value is out of range (count 1 to 1e9, period 1 ms to 1 day, burst 1
 * to 1e9, and burst * interval within 100 years). */
int hp_rate_init(hp_rate_t *rate, uint64_t count, uint64_t period_ms,
                 uint64_t burst);

/* Takes one request. *tat_ns is 0 for a key never seen; it changes only when
 * the request is admitted. */
void hp_rate_take(const hp_rate_t *rate, int64_t *tat_ns, int64_t now_ns,
                  hp_rate_result_t *result);

#endif
