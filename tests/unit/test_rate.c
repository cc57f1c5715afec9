/*
 * test_rate.c: unit tests of ngx_module/core/hp_rate.c.
 *
 * The limits of hp_rate_init(), the sequence of one bucket by hand, and random
 * traffic against a model that works another way: a bucket of tokens counted
 * in nanoseconds that fills with the clock. Both must give the same answer to
 * every request, with the same numbers; and the promise itself is counted: in
 * no stretch of time more than burst + elapsed * rate.
 *
 * The clock is a variable here; one process; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_rate.h"

#define SECOND 1000000000LL

static void test_init_limits(void **state)
{
    static const struct {
        uint64_t count, period_ms, burst;
        int rc;
        int64_t interval_ns;
    } cases[] = {
        {1, 1000, 1, 0, SECOND},
        {100, 1000, 20, 0, 10000000},
        {3, 1000, 1, 0, 333333334}, /* rounded up: never faster */
        {7, 1, 1, 0, 142858},
        {1000000000, 1000, 1, 0, 1},
        {1000000000, 1, 1, 0, 1}, /* faster than the unit of the clock */
        {1000000000, 1000, 1000000000, 0, 1},
        {1, 86400000, 1, 0, 86400 * SECOND},
        {1, 86400000, 36500, 0, 86400 * SECOND}, /* 100 years */
        {1, 86400000, 36501, -1, 0},
        {1, 1000, 1000000000, 0, SECOND}, /* 31 years */
        {1, 3153, 1000000000, 0, 3153000000},
        {1, 3154, 1000000000, -1, 0},
        {0, 1000, 1, -1, 0},
        {1000000001, 1000, 1, -1, 0},
        {UINT64_MAX, 1000, 1, -1, 0},
        {1, 0, 1, -1, 0},
        {1, 86400001, 1, -1, 0},
        {1, UINT64_MAX, 1, -1, 0},
        {1, 1000, 0, -1, 0},
        {1, 1000, 1000000001, -1, 0},
        {1, 1000, UINT64_MAX, -1, 0},
    };

    hp_rate_t rate;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        rate.interval_ns = -1;
        rate.tolerance_ns = -1;
        assert_int_equal(hp_rate_init(&rate, cases[i].count, cases[i].period_ms,
                                      cases[i].burst),
                         cases[i].rc);

        if (cases[i].rc == 0) {
            assert_true(rate.interval_ns == cases[i].interval_ns);
            assert_true(rate.tolerance_ns ==
                        (int64_t)(cases[i].burst - 1) * cases[i].interval_ns);
        } else {
            assert_true(rate.interval_ns == -1 && rate.tolerance_ns == -1);
        }
    }
}

static void assert_take(const hp_rate_t *rate, int64_t *tat, int64_t now,
                        int admitted, uint64_t remaining, int64_t retry,
                        int64_t reset)
{
    hp_rate_result_t result;
    int64_t before;

    before = *tat;
    memset(&result, 0x55, sizeof(result));
    hp_rate_take(rate, tat, now, &result);

    assert_int_equal(result.admitted, admitted);
    assert_true(result.remaining == remaining);
    assert_true(result.retry_ns == retry);
    assert_true(result.reset_ns == reset);

    if (!admitted) {
        assert_true(*tat == before);
    }
}

/* 10 a second, 3 at once. */
static void test_by_hand(void **state)
{
    const int64_t step = SECOND / 10, start = 1769860800LL * SECOND;
    hp_rate_t rate;
    int64_t tat;

    (void)state;
    assert_int_equal(hp_rate_init(&rate, 10, 1000, 3), 0);
    tat = 0;

    assert_take(&rate, &tat, start, 1, 2, 0, step);
    assert_take(&rate, &tat, start, 1, 1, 0, 2 * step);
    assert_take(&rate, &tat, start, 1, 0, 0, 3 * step);
    assert_take(&rate, &tat, start, 0, 0, step, 3 * step);
    assert_take(&rate, &tat, start + 1, 0, 0, step - 1, 3 * step - 1);

    /* one nanosecond too early, then on time */
    assert_take(&rate, &tat, start + step - 1, 0, 0, 1, 2 * step + 1);
    assert_take(&rate, &tat, start + step, 1, 0, 0, 3 * step);
    assert_take(&rate, &tat, start + step, 0, 0, step, 3 * step);

    /* half an interval later still one short, the fraction is kept */
    assert_take(&rate, &tat, start + 2 * step + step / 2, 1, 0, 0,
                2 * step + step / 2);

    /* a long pause gives the burst back and not more */
    assert_take(&rate, &tat, start + 3600 * SECOND, 1, 2, 0, step);
    assert_take(&rate, &tat, start + 3600 * SECOND, 1, 1, 0, 2 * step);
    assert_take(&rate, &tat, start + 3600 * SECOND, 1, 0, 0, 3 * step);
    assert_take(&rate, &tat, start + 3600 * SECOND, 0, 0, step, 3 * step);
}

static void test_extremes(void **state)
{
    hp_rate_result_t result;
    hp_rate_t rate;
    int64_t tat;

    (void)state;

    /* a clock that begins with 0 */
    assert_int_equal(hp_rate_init(&rate, 1, 1000, 1), 0);
    tat = 0;
    assert_take(&rate, &tat, 0, 1, 0, 0, SECOND);
    assert_take(&rate, &tat, 0, 0, 0, SECOND, SECOND);

    /* the longest span there is, in the year 2150 */
    assert_int_equal(hp_rate_init(&rate, 1, 86400000, 36500), 0);
    tat = 0;
    hp_rate_take(&rate, &tat, 5680281600LL * SECOND, &result);
    assert_int_equal(result.admitted, 1);
    assert_true(result.remaining == 36499);
    assert_true(result.reset_ns == 86400 * SECOND);

    /* one every nanosecond, a thousand million at once */
    assert_int_equal(hp_rate_init(&rate, 1000000000, 1, 1000000000), 0);
    tat = 0;
    hp_rate_take(&rate, &tat, 7, &result);
    assert_true(result.remaining == 999999999);
    assert_true(tat == 8);
}

/* The bucket: `level` nanoseconds of credit, at most burst * interval; a
 * request costs one interval. */
typedef struct {
    int64_t interval, full, level, at;
} bucket_t;

static int bucket_take(bucket_t *bucket, int64_t now)
{
    int64_t gained;

    gained = now - bucket->at;
    bucket->at = now;
    bucket->level = gained > bucket->full - bucket->level
                        ? bucket->full
                        : bucket->level + gained;

    if (bucket->level < bucket->interval) {
        return 0;
    }

    bucket->level -= bucket->interval;
    return 1;
}

static void random_traffic(uint64_t seed)
{
    int64_t taken_at[512];
    hp_rate_result_t result;
    bucket_t bucket;
    hp_rate_t rate;
    uint64_t burst;
    int64_t now, tat, elapsed;
    size_t taken, first;
    int i, admitted;

    burst = 1 + next_random(&seed) % 20;
    assert_int_equal(hp_rate_init(&rate, 1 + next_random(&seed) % 1000,
                                  1 + next_random(&seed) % 5000, burst),
                     0);

    now = (int64_t)(next_random(&seed) % 1769860800000000000u);
    tat = 0;
    taken = 0;
    bucket.interval = rate.interval_ns;
    bucket.full = rate.interval_ns * (int64_t)burst;
    bucket.level = bucket.full;
    bucket.at = now;

    for (i = 0; i < 1000; i++) {
        /* bursts, a standing clock, waits around an interval, long pauses */
        switch (next_random(&seed) % 8) {
        case 0:
            now += (int64_t)(next_random(&seed) %
                             (3 * (uint64_t)rate.interval_ns));
            break;
        case 1:
            now += rate.interval_ns - 1 + (int64_t)(next_random(&seed) % 3);
            break;
        case 2:
            now += next_random(&seed) % 10 == 0 ? 2 * bucket.full : 1;
            break;
        default:
            break;
        }

        admitted = bucket_take(&bucket, now);
        hp_rate_take(&rate, &tat, now, &result);

        assert_int_equal(result.admitted, admitted);
        assert_true(result.remaining ==
                    (uint64_t)(bucket.level / bucket.interval));
        assert_true(result.reset_ns == bucket.full - bucket.level);
        assert_true(result.retry_ns ==
                    (admitted ? 0 : bucket.interval - bucket.level));

        if (admitted && taken < COUNT_OF(taken_at)) {
            taken_at[taken++] = now;
        }
    }

    /* the promise, over every stretch from one admitted to another */
    for (first = 0; first < taken; first++) {
        size_t last;

        for (last = first; last < taken; last++) {
            elapsed = taken_at[last] - taken_at[first];
            assert_true((int64_t)(last - first + 1) <=
                        (int64_t)burst + elapsed / rate.interval_ns);
        }
    }
}

static void test_random_traffic(void **state)
{
    uint64_t seed;

    (void)state;

    for (seed = 1; seed <= 60; seed++) {
        random_traffic(seed * 7919);
    }
}

/* Refused requests cost nothing: who waits as told is admitted. */
static void test_retry_is_enough(void **state)
{
    hp_rate_result_t result;
    hp_rate_t rate;
    int64_t tat, now, retry;
    int i;

    (void)state;
    assert_int_equal(hp_rate_init(&rate, 7, 1000, 2), 0);
    tat = 0;
    now = 12345;

    for (i = 0; i < 1000; i++) {
        hp_rate_take(&rate, &tat, now, &result);

        if (result.admitted) {
            continue;
        }

        retry = result.retry_ns;
        assert_true(retry > 0);
        hp_rate_take(&rate, &tat, now + retry - 1, &result);
        assert_int_equal(result.admitted, 0);
        now += retry;
        hp_rate_take(&rate, &tat, now, &result);
        assert_int_equal(result.admitted, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init_limits),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_random_traffic),
        cmocka_unit_test(test_retry_is_enough),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
