/*
 * test_cache_model.c: random work on cache zones of many shapes, each beside a
 * plain map: see cache_model.h.
 *
 * Hundreds of zones, small enough that everything is evicted again and again.
 * One that finds nothing wrong because it did nothing fails too. The same every
 * time; RUNS and a SEED of the environment make it longer and different. One
 * process.
 */
#include "support.h"

#include "cache_model.h"

static void test_random_work(void **state)
{
    enum { LENGTH = 12000 };
    static uint8_t data[LENGTH];
    model_done_t done;
    uint64_t seed, word;
    const char *text;
    size_t i;
    long run, runs;

    (void)state;
    memset(&done, 0, sizeof(done));
    text = getenv("RUNS");
    runs = text != NULL ? strtol(text, NULL, 10) : 150;
    text = getenv("SEED");
    seed = text != NULL ? strtoull(text, NULL, 10) : 4711;

    for (run = 0; run < runs; run++) {
        for (i = 0; i + 8 <= LENGTH; i += 8) {
            word = next_random(&seed);
            memcpy(data + i, &word, 8);
        }

        data[0] = (uint8_t)run;
        model_run(data, LENGTH, &done);
    }

    print_message("%lu found, %lu older, %lu too large, %lu not trusted, %lu "
                  "purged, %lu by walks, %lu coded, %lu evicted\n",
                  done.found, done.older, done.too_large, done.untrusted,
                  done.purged, done.walked, done.coded, done.evicted);
    assert_true(done.found > (uint64_t)runs * 500);
    assert_true(done.older > (uint64_t)runs * 10);
    assert_true(done.too_large > (uint64_t)runs);
    assert_true(done.untrusted > (uint64_t)runs * 10);
    assert_true(done.purged > (uint64_t)runs * 5);
    assert_true(done.walked > (uint64_t)runs * 5);
    assert_true(done.coded > (uint64_t)runs * 10);
    assert_true(done.evicted > (uint64_t)runs * 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
