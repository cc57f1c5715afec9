/*
 * test_date.c: unit tests of ngx_module/core/hp_date.c.
 *
 * The three forms of HTTP's dates and RFC 3339, by lists of what is taken and
 * refused; every day from year 1 to 9999 against a calendar that counts on day
 * by day; times at random against gmtime_r() and strftime(); every text cut at
 * every length and with every byte changed, in blocks of exactly that size.
 *
 * One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include <time.h>

#include "hp_date.h"

#define NOW 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */

static int parse(const char *text, size_t len, int64_t now_s, int64_t *unix_s)
{
    hp_str_t copy;
    int rc;

    copy = exact(text, len);
    *unix_s = 42;
    rc = hp_http_date_parse(unix_s, copy, now_s);
    drop(&copy);
    assert_in_range(rc + 1, 0, 1);

    if (rc != 0) {
        assert_int_equal(*unix_s, 42);
    }

    return rc;
}

static void test_http_accepted(void **state)
{
    static const struct {
        const char *text;
        int64_t unix_s;
    } cases[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", NOW},
        {"Sunday, 06-Nov-94 08:49:37 GMT", NOW},
        {"Sun Nov  6 08:49:37 1994", NOW},
        {"Sun Nov 06 08:49:37 1994", NOW},
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
        {"Tue, 29 Feb 2000 00:00:00 GMT", 951782400},
        {"Mon, 01 Jan 0001 00:00:00 GMT", HP_DATE_MIN_S},
        {"Fri, 31 Dec 9999 23:59:59 GMT", HP_DATE_MAX_S},
        {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800},
        /* the name is not compared with the date */
        {"Mon, 06 Nov 1994 08:49:37 GMT", NOW},
        {"Wednesday, 06-Nov-94 08:49:37 GMT", NOW},
    };

    int64_t unix_s;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        if (parse(cases[i].text, strlen(cases[i].text), NOW, &unix_s) != 0) {
            fail_msg("refused: %s", cases[i].text);
        }

        assert_int_equal(unix_s, cases[i].unix_s);
    }
}

static void test_http_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "0",
        "Sun",
        "Sun,",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06 Nov 94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunny, 06-Nov-94 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 94",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun Nov   08:49:37 1994",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Thursday, 29-Feb-94 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
        "784111777",
    };

    int64_t unix_s;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        if (parse(cases[i], strlen(cases[i]), NOW, &unix_s) == 0) {
            fail_msg("taken: %s", cases[i]);
        }
    }
}

/* RFC 9110: more than 50 years ahead is the most recent past year instead. */
static void test_http_two_digits(void **state)
{
    static const struct {
        const char *text;
        int64_t now_s;
        const char *year;
    } cases[] = {
        {"Sunday, 06-Nov-44 08:49:37 GMT", NOW, "2044"},
        {"Sunday, 06-Nov-44 08:49:38 GMT", NOW, "1944"},
        {"Sunday, 06-Nov-45 08:49:37 GMT", NOW, "1945"},
        {"Sunday, 06-Nov-93 08:49:37 GMT", NOW, "1993"},
        {"Sunday, 06-Nov-00 08:49:37 GMT", NOW, "2000"},
        {"Sunday, 06-Nov-01 08:49:37 GMT", 4102444799, "2101"}, /* 2099 */
        {"Sunday, 06-Nov-99 08:49:37 GMT", 4102444800, "2099"}, /* 2100 */
        {"Sunday, 06-Nov-99 08:49:37 GMT", HP_DATE_MAX_S, "9999"},
        {"Sunday, 06-Nov-99 08:49:37 GMT", INT64_MAX, "9999"},
        {"Sunday, 06-Nov-30 08:49:37 GMT", INT64_MIN, "0030"},
    };

    char text[HP_HTTP_DATE_LEN];
    int64_t unix_s;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(parse(cases[i].text, strlen(cases[i].text),
                               cases[i].now_s, &unix_s),
                         0);
        hp_http_date_format(text, unix_s);
        assert_memory_equal(text + 12, cases[i].year, 4);
        assert_memory_equal(text + 17, cases[i].text + 18, 12);
    }

    /* a year before the first is none */
    assert_int_equal(
        parse("Sunday, 06-Nov-99 08:49:37 GMT", 30, INT64_MIN, &unix_s), -1);
}

static void test_http_cut_and_changed(void **state)
{
    static const char *const texts[] = {
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    };

    char changed[40], form[HP_HTTP_DATE_LEN], again[HP_HTTP_DATE_LEN];
    int64_t unix_s, second;
    size_t i, at, len;
    unsigned byte;

    (void)state;

    for (i = 0; i < COUNT_OF(texts); i++) {
        len = strlen(texts[i]);

        for (at = 0; at < len; at++) {
            assert_int_equal(parse(texts[i], at, NOW, &unix_s), -1);
        }

        for (at = 0; at < len; at++) {
            for (byte = 0; byte < 256; byte++) {
                memcpy(changed, texts[i], len);
                changed[at] = (char)byte;

                if (parse(changed, len, NOW, &unix_s) == 0) {
                    hp_http_date_format(form, unix_s);
                    assert_int_equal(
                        parse(form, HP_HTTP_DATE_LEN, NOW, &second), 0);
                    assert_int_equal(unix_s, second);
                    hp_http_date_format(again, second);
                    assert_memory_equal(form, again, HP_HTTP_DATE_LEN);
                }
            }
        }
    }
}

static void test_format_against_libc(void **state)
{
    char expected[64], text[HP_HTTP_DATE_LEN];
    uint64_t random;
    int64_t unix_s, back;
    struct tm tm;
    time_t when;
    int i;

    (void)state;
    random = 1;

    for (i = 0; i < 100000; i++) {
        unix_s = HP_DATE_MIN_S +
                 (int64_t)(next_random(&random) %
                           (uint64_t)(HP_DATE_MAX_S - HP_DATE_MIN_S + 1));
        when = (time_t)unix_s;
        assert_non_null(gmtime_r(&when, &tm));
        /* %Y of a year before 1000 has no leading zeros */
        strftime(expected, sizeof(expected), "%a, %d %b ", &tm);
        snprintf(expected + 12, sizeof(expected) - 12,
                 "%04d %02d:%02d:%02d GMT", tm.tm_year + 1900, tm.tm_hour,
                 tm.tm_min, tm.tm_sec);
        hp_http_date_format(text, unix_s);
        assert_memory_equal(text, expected, HP_HTTP_DATE_LEN);
        assert_int_equal(parse(text, HP_HTTP_DATE_LEN, NOW, &back), 0);
        assert_int_equal(back, unix_s);
    }

    hp_http_date_format(text, INT64_MIN);
    assert_memory_equal(text, "Mon, 01 Jan 0001 00:00:00 GMT", 29);
    hp_http_date_format(text, INT64_MAX);
    assert_memory_equal(text, "Fri, 31 Dec 9999 23:59:59 GMT", 29);
}

static void test_every_day(void **state)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30,
                                  31, 31, 30, 31, 30, 31};

    char text[16], time[HP_TIME_LEN];
    int year, month, day, length;
    int64_t days, expected;
    hp_str_t view;

    (void)state;
    expected = HP_DATE_MIN_S / 86400;

    for (year = 1; year <= 9999; year++) {
        for (month = 1; month <= 12; month++) {
            length =
                lengths[month - 1] + (month == 2 && year % 4 == 0 &&
                                      (year % 100 != 0 || year % 400 == 0));

            for (day = 1; day <= length + 1; day++) {
                snprintf(text, sizeof(text), "%04u-%02u-%02u",
                         (unsigned)year % 10000, (unsigned)month % 100,
                         (unsigned)day % 100);
                view = text_of(text);

                if (day > length) {
                    assert_int_equal(hp_day_parse(&days, view), -1);
                    continue;
                }

                assert_int_equal(hp_day_parse(&days, view), 0);
                assert_int_equal(days, expected);
                hp_time_format(time, days * 86400 * 1000000);
                assert_memory_equal(time, text, 10);
                expected++;
            }
        }
    }

    assert_int_equal(expected, (HP_DATE_MAX_S + 1) / 86400);
}

static void test_time(void **state)
{
    static const struct {
        const char *text;
        const char *form; /* NULL: refused */
    } cases[] = {
        {"1994-11-06T08:49:37Z", "1994-11-06T08:49:37.000000Z"},
        {"1994-11-06t08:49:37z", "1994-11-06T08:49:37.000000Z"},
        {"1994-11-06T08:49:37+00:00", "1994-11-06T08:49:37.000000Z"},
        {"1994-11-06T08:49:37-00:00", "1994-11-06T08:49:37.000000Z"},
        {"1994-11-06T08:49:37.5+01:30", "1994-11-06T07:19:37.500000Z"},
        {"1994-12-31T23:00:00-23:59", "1995-01-01T22:59:00.000000Z"},
        {"1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"},
        {"0001-01-01T00:00:00.000001Z", "0001-01-01T00:00:00.000001Z"},
        {"9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"},
        {"1994-11-06T08:49:37.1Z", "1994-11-06T08:49:37.100000Z"},
        {"1994-11-06T08:49:37.012Z", "1994-11-06T08:49:37.012000Z"},
        {"", NULL},
        {"1994-11-06", NULL},
        {"1994-11-06T08:49:37", NULL},
        {"1994-11-06 08:49:37Z", NULL},
        {"1994-11-06T08:49Z", NULL},
        {"1994-11-06T08:49:37.Z", NULL},
        {"1994-11-06T08:49:37.1234567Z", NULL},
        {"1994-11-06T08:49:37,5Z", NULL},
        {"1994-11-06T08:49:60Z", NULL},
        {"1994-11-06T24:00:00Z", NULL},
        {"1994-11-06T08:60:37Z", NULL},
        {"1994-11-31T08:49:37Z", NULL},
        {"1994-13-06T08:49:37Z", NULL},
        {"1994-00-06T08:49:37Z", NULL},
        {"0000-01-01T00:00:00Z", NULL},
        {"0001-01-01T00:00:00+00:01", NULL},
        {"9999-12-31T23:59:59-00:01", NULL},
        {"1994-11-06T08:49:37+24:00", NULL},
        {"1994-11-06T08:49:37+01:60", NULL},
        {"1994-11-06T08:49:37+0100", NULL},
        {"1994-11-06T08:49:37Z ", NULL},
        {"+994-11-06T08:49:37Z", NULL},
    };

    char form[HP_TIME_LEN];
    int64_t unix_us, back;
    hp_str_t copy;
    size_t i, len;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        for (len = 0; len < strlen(cases[i].text); len++) {
            copy = exact(cases[i].text, len);
            /* a shorter fraction is one, without its Z it is none */
            assert_int_equal(hp_time_parse(&unix_us, copy) == 0,
                             cases[i].text[len] == ' ' && len == 20);
            drop(&copy);
        }

        copy = exact_text(cases[i].text);

        if (cases[i].form == NULL) {
            assert_int_equal(hp_time_parse(&unix_us, copy), -1);
            drop(&copy);
            continue;
        }

        assert_int_equal(hp_time_parse(&unix_us, copy), 0);
        drop(&copy);
        hp_time_format(form, unix_us);
        assert_memory_equal(form, cases[i].form, HP_TIME_LEN);

        copy = exact(form, HP_TIME_LEN);
        assert_int_equal(hp_time_parse(&back, copy), 0);
        assert_int_equal(back, unix_us);
        drop(&copy);
    }

    hp_time_format(form, INT64_MIN);
    assert_memory_equal(form, "0001-01-01T00:00:00", 19);
    hp_time_format(form, INT64_MAX);
    assert_memory_equal(form, "9999-12-31T23:59:59", 19);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_accepted),
        cmocka_unit_test(test_http_refused),
        cmocka_unit_test(test_http_two_digits),
        cmocka_unit_test(test_http_cut_and_changed),
        cmocka_unit_test(test_format_against_libc),
        cmocka_unit_test(test_every_day),
        cmocka_unit_test(test_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
