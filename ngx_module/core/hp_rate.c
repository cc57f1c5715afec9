/*
 * hp_rate.c: the arithmetic of one rate limit.
 *
 * One job: whether a request conforms, from the theoretical arrival time (TAT)
 * of the next one and the clock. The state is a single integer that the caller
 * owns, locks and stores; nothing here reads a clock or remembers anything.
 *
 * The interval is rounded up to a whole nanosecond, so that what is admitted
 * never passes the configured rate, only falls short of it by less than one
 * nanosecond a request (and is at most one per nanosecond). Everything is
 * integer; with burst * interval bounded by 100 years no sum overflows for
 * clocks up to the year 2160 in nanoseconds since 1970.
 *
 * Contract: hp_rate.h. Tests: tests/unit/test_rate.c, against a model that
 * counts tokens.
 */
#include "hp_rate.h"

#define HP_RATE_DAY_MS ((uint64_t)86400 * 1000)
#define HP_RATE_SPAN_NS ((uint64_t)100 * 365 * 86400 * 1000000000)

int hp_rate_init(hp_rate_t *rate, uint64_t count, uint64_t period_ms,
                 uint64_t burst)
{
    uint64_t interval_ns;

    if (count < 1 || count > 1000000000 || period_ms < 1 ||
        period_ms > HP_RATE_DAY_MS || burst < 1 || burst > 1000000000) {
        return -1;
    }

    interval_ns = (period_ms * 1000000 + count - 1) / count;

    if (interval_ns > HP_RATE_SPAN_NS / burst) {
        return -1;
    }

    rate->interval_ns = (int64_t)interval_ns;
    rate->tolerance_ns = (int64_t)(interval_ns * (burst - 1));
    return 0;
}

void hp_rate_take(const hp_rate_t *rate, int64_t *tat_ns, int64_t now_ns,
                  hp_rate_result_t *result)
{
    int64_t ahead_ns;

    /* how much of the burst is used up, as time */
    ahead_ns = *tat_ns > now_ns ? *tat_ns - now_ns : 0;

    if (ahead_ns > rate->tolerance_ns) {
        result->admitted = 0;
        result->remaining = 0;
        result->retry_ns = ahead_ns - rate->tolerance_ns;
        result->reset_ns = ahead_ns;
        return;
    }

    *tat_ns = now_ns + ahead_ns + rate->interval_ns;

    result->admitted = 1;
    result->remaining =
        (uint64_t)((rate->tolerance_ns - ahead_ns) / rate->interval_ns);
    result->retry_ns = 0;
    result->reset_ns = ahead_ns + rate->interval_ns;
}
