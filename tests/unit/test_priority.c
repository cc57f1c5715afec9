/*
 * test_priority.c: unit tests of ngx_module/core/hp_priority.h.
 *
 * Names, which are in framing.md, both ways; the order of draining, in which
 * each stands once; numbers of streams, of which no two are the same; and who
 * is shed while more and more is behind: always the lower one first.
 *
 * One process, no clock; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_priority.h"

static void test_names(void **state)
{
    static const struct {
        hp_str_t text;
        int priority;
    } cases[] = {
        {HP_STR("normal"), HP_PRIORITY_NORMAL},
        {HP_STR("high"), HP_PRIORITY_HIGH},
        {HP_STR("low"), HP_PRIORITY_LOW},
        {HP_STR(""), -1},
        {HP_STR("hig"), -1},
        {HP_STR("highs"), -1},
        {HP_STR("High"), -1},
        {HP_STR("1"), -1},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_int_equal(hp_priority_parse(cases[i].text), cases[i].priority);
    assert_string_equal(hp_priority_suffix(HP_PRIORITY_NORMAL), "");
    assert_string_equal(hp_priority_suffix(HP_PRIORITY_HIGH), "high");
    assert_string_equal(hp_priority_suffix(HP_PRIORITY_LOW), "low");
}

static void test_order(void **state)
{
    (void)state;
    assert_int_equal(hp_priority_order(0), HP_PRIORITY_HIGH);
    assert_int_equal(hp_priority_order(1), HP_PRIORITY_NORMAL);
    assert_int_equal(hp_priority_order(2), HP_PRIORITY_LOW);
}

static void test_numbers(void **state)
{
    char seen[HP_STREAMS_MAX] = {0};
    int partition, priority;

    (void)state;
    for (partition = 0; partition < HP_PARTITIONS_MAX; partition++) {
        /* as it was before there were priorities */
        assert_int_equal(hp_stream_number(partition, HP_PRIORITY_NORMAL),
                         partition);
        for (priority = 0; priority < HP_PRIORITIES; priority++)
            seen[hp_stream_number(partition, priority)]++;
    }
    for (partition = 0; partition < HP_STREAMS_MAX; partition++)
        assert_int_equal(seen[partition], 1);
}

static void test_room(void **state)
{
    size_t bytes;

    (void)state;
    assert_int_equal(hp_priority_room(HP_PRIORITY_HIGH, 1000), 1000);
    assert_int_equal(hp_priority_room(HP_PRIORITY_NORMAL, 1000), 800);
    assert_int_equal(hp_priority_room(HP_PRIORITY_LOW, 1000), 500);
    for (bytes = 65536; bytes < SIZE_MAX / 2; bytes = bytes * 2 + 1) {
        assert_true(hp_priority_room(HP_PRIORITY_LOW, bytes) <
                    hp_priority_room(HP_PRIORITY_NORMAL, bytes));
        assert_true(hp_priority_room(HP_PRIORITY_NORMAL, bytes) < bytes);
    }
}

static void test_behind(void **state)
{
    static const struct {
        uint64_t bytes;
        int low, normal;
    } cases[] = {{0, 0, 0},   {99, 0, 0},  {100, 1, 0},       {199, 1, 0},
                 {200, 1, 1}, {201, 1, 1}, {UINT64_MAX, 1, 1}};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(
            hp_priority_behind(HP_PRIORITY_LOW, cases[i].bytes, 100),
            cases[i].low);
        assert_int_equal(
            hp_priority_behind(HP_PRIORITY_NORMAL, cases[i].bytes, 100),
            cases[i].normal);
        assert_int_equal(
            hp_priority_behind(HP_PRIORITY_HIGH, cases[i].bytes, 100), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),   cmocka_unit_test(test_order),
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_room),
        cmocka_unit_test(test_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
