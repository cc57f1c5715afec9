/*
 * hp_date.h: dates as text: HTTP's three forms and those of RFC 3339.
 *
 * One job: text to a number and back, proleptic Gregorian, UTC, years 1 to
 * 9999. Pure functions without a clock: where "now" decides (the two-digit
 * year of RFC 850), the caller gives it. Nothing is repaired: what is not of
 * the grammar, or no day of the calendar, is refused. Any process, any thread.
 *
 * Specified by RFC 9110 section 5.6.7 and RFC 3339 section 5.6. Tests:
 * tests/unit/test_date.c, tests/fuzz/fuzz_http.c, tests/fuzz/fuzz_param.c.
 */
#ifndef HP_DATE_H
#define HP_DATE_H

#include "hp_base.h"

#define HP_HTTP_DATE_LEN 29
#define HP_TIME_LEN 27

/* Seconds since 1970 of 0001-01-01T00:00:00Z and of 9999-12-31T23:59:59Z. */
#define HP_DATE_MIN_S (-62135596800)
#define HP_DATE_MAX_S 253402300799

/* An HTTP-date: IMF-fixdate, RFC 850 or asctime, exactly (names are case
 * sensitive, no white space around it). The name of the day must be one, but
 * is not compared with the date. A second of 60 counts as the next minute's
 * first. A two-digit year is the latest one that is not more than 50 years
 * after now_s. 0, or -1 with *unix_s unchanged. */
int hp_http_date_parse(int64_t *unix_s, hp_str_t text, int64_t now_s);

/* IMF-fixdate, not terminated; a time outside the years 1 to 9999 is written
 * as the nearest one inside. */
void hp_http_date_format(char text[HP_HTTP_DATE_LEN], int64_t unix_s);

/* A full-date such as 2024-02-29; days since 1970-01-01. 0 or -1. */
int hp_day_parse(int64_t *days, hp_str_t text);

/* An RFC 3339 date-time such as 2024-02-29T23:59:59.5+01:00; microseconds since
 * 1970. T and Z may be lower case; a fraction has 1 to 6 digits; leap seconds
 * are refused, as a count since 1970 has none. 0 or -1. */
int hp_time_parse(int64_t *unix_us, hp_str_t text);

/* The one form for one moment: YYYY-MM-DDThh:mm:ss.ffffffZ, not terminated; a
 * time outside the years 1 to 9999 as above. */
void hp_time_format(char text[HP_TIME_LEN], int64_t unix_us);

#endif
