/*
 * hp_date.c: dates as text, both ways, without the C library's calendar.
 *
 * One job: the same answer in every process, whatever its locale and time zone
 * are, and without a lock: strptime(), timegm() and gmtime() promise none of
 * that, and a cache compares dates on every conditional request.
 *
 * A text is read by a reader that remembers that something was wrong and reads
 * on with zeros, so that each form stands here as one line per part; nothing is
 * read at or behind the end. Owns nothing, allocates nothing.
 *
 * Contract: hp_date.h. Tests: tests/unit/test_date.c.
 */
#include "hp_date.h"

#include <string.h>

#include "hp_char.h"

#define DAY_S 86400

typedef struct {
    const unsigned char *p;
    const unsigned char *end;
    int bad;
} reader_t;

/* One moment of the calendar, as written. */
typedef struct {
    int64_t year;
    unsigned month; /* 1 to 12 */
    unsigned day;
    unsigned hour;
    unsigned minute;
    unsigned second;
} moment_t;

static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr",
                                        "May", "Jun", "Jul", "Aug",
                                        "Sep", "Oct", "Nov", "Dec"};
static const char day_names[7][4] = {"Sun", "Mon", "Tue", "Wed",
                                     "Thu", "Fri", "Sat"};
static const char *const long_day_names[7] = {
    "Sunday",   "Monday", "Tuesday", "Wednesday",
    "Thursday", "Friday", "Saturday"};

/* Days from 1970-01-01; the year begins in March here, so that the day that
 * comes and goes is its last. */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
    int64_t march_year, of_year;

    march_year = year - (month <= 2);
    of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return march_year * 365 + march_year / 4 - march_year / 100 +
           march_year / 400 + of_year - 719468;
}

/* Its reverse, for days within the years 1 to 9999. */
static void day_of(moment_t *moment, int64_t days)
{
    int64_t era, of_era, year, of_year, month;

    days += 719468; /* since 0000-03-01 */
    era = days / 146097;
    of_era = days % 146097;
    year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    of_year = of_era - (365 * year + year / 4 - year / 100);
    month = (5 * of_year + 2) / 153; /* 0 is March */

    moment->day = (unsigned)(of_year - (153 * month + 2) / 5 + 1);
    moment->month = (unsigned)(month < 10 ? month + 3 : month - 9);
    moment->year = era * 400 + year + (moment->month <= 2);
}

static unsigned days_in(int64_t year, unsigned month)
{
    static const unsigned char days[12] = {31, 28, 31, 30, 31, 30,
                                           31, 31, 30, 31, 30, 31};

    if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)) {
        return 29;
    }

    return days[month - 1];
}

static int is_day(const moment_t *moment)
{
    return moment->year >= 1 && moment->year <= 9999 && moment->month >= 1 &&
           moment->month <= 12 && moment->day >= 1 &&
           moment->day <= days_in(moment->year, moment->month);
}

static int64_t seconds_of(const moment_t *moment)
{
    return days_of(moment->year, moment->month, moment->day) * DAY_S +
           (int64_t)moment->hour * 3600 + moment->minute * 60 + moment->second;
}

/* The day in *moment, and the second of that day. */
static int64_t split(moment_t *moment, int64_t unix_s)
{
    int64_t days, rest;

    days = unix_s / DAY_S;
    rest = unix_s % DAY_S;

    if (rest < 0) {
        rest += DAY_S;
        days--;
    }

    day_of(moment, days);
    moment->hour = (unsigned)(rest / 3600);
    moment->minute = (unsigned)(rest / 60 % 60);
    moment->second = (unsigned)(rest % 60);
    return days;
}

static unsigned read_digits(reader_t *reader, unsigned count)
{
    unsigned value;

    value = 0;

    while (count-- != 0) {
        if (reader->p == reader->end || !hp_is_digit(*reader->p)) {
            reader->bad = 1;
            return 0;
        }

        value = value * 10 + (unsigned)(*reader->p++ - '0');
    }

    return value;
}

static int read_text(reader_t *reader, const char *text)
{
    size_t len;

    len = strlen(text);

    if ((size_t)(reader->end - reader->p) < len ||
        memcmp(reader->p, text, len) != 0) {
        return 0;
    }

    reader->p += len;
    return 1;
}

static void read_literal(reader_t *reader, const char *text)
{
    if (!read_text(reader, text)) {
        reader->bad = 1;
    }
}

static void read_day_name(reader_t *reader)
{
    unsigned i;

    for (i = 0; i < 7; i++) {
        if (read_text(reader, day_names[i])) {
            return;
        }
    }

    reader->bad = 1;
}

static unsigned read_month_name(reader_t *reader)
{
    unsigned i;

    for (i = 0; i < 12; i++) {
        if (read_text(reader, month_names[i])) {
            return i + 1;
        }
    }

    reader->bad = 1;
    return 1;
}

static void read_clock(reader_t *reader, moment_t *moment)
{
    moment->hour = read_digits(reader, 2);
    read_literal(reader, ":");
    moment->minute = read_digits(reader, 2);
    read_literal(reader, ":");
    moment->second = read_digits(reader, 2);
}

/* The latest year that ends in these two digits and puts the moment at most 50
 * years after now. */
static int64_t full_year(moment_t moment, int64_t now_s)
{
    moment_t limit;
    int64_t ending;

    now_s = now_s < HP_DATE_MIN_S   ? HP_DATE_MIN_S
            : now_s > HP_DATE_MAX_S ? HP_DATE_MAX_S
                                    : now_s;
    split(&limit, now_s);
    limit.year += 50;

    ending = moment.year;
    moment.year = limit.year - limit.year % 100 + ending;

    while (seconds_of(&moment) > seconds_of(&limit)) {
        moment.year -= 100;
    }

    return moment.year;
}

static void read_850(reader_t *reader, moment_t *moment, int64_t now_s)
{
    unsigned i;

    for (i = 0; i < 7; i++) {
        if (read_text(reader, long_day_names[i])) {
            break;
        }
    }

    reader->bad |= i == 7;
    read_literal(reader, ", ");
    moment->day = read_digits(reader, 2);
    read_literal(reader, "-");
    moment->month = read_month_name(reader);
    read_literal(reader, "-");
    moment->year = read_digits(reader, 2);
    read_literal(reader, " ");
    read_clock(reader, moment);
    read_literal(reader, " GMT");

    if (!reader->bad) {
        moment->year = full_year(*moment, now_s);
    }
}

static void read_asctime(reader_t *reader, moment_t *moment)
{
    read_day_name(reader);
    read_literal(reader, " ");
    moment->month = read_month_name(reader);
    read_literal(reader, " ");
    moment->day = read_digits(reader, read_text(reader, " ") ? 1 : 2);
    read_literal(reader, " ");
    read_clock(reader, moment);
    read_literal(reader, " ");
    moment->year = read_digits(reader, 4);
}

static void read_fixdate(reader_t *reader, moment_t *moment)
{
    read_day_name(reader);
    read_literal(reader, ", ");
    moment->day = read_digits(reader, 2);
    read_literal(reader, " ");
    moment->month = read_month_name(reader);
    read_literal(reader, " ");
    moment->year = read_digits(reader, 4);
    read_literal(reader, " ");
    read_clock(reader, moment);
    read_literal(reader, " GMT");
}

int hp_http_date_parse(int64_t *unix_s, hp_str_t text, int64_t now_s)
{
    reader_t reader;
    moment_t moment;

    if (text.len < 4) {
        return -1;
    }

    reader.p = text.data;
    reader.end = text.data + text.len;
    reader.bad = 0;

    if (text.data[3] == ',') {
        read_fixdate(&reader, &moment);
    } else if (text.data[3] == ' ') {
        read_asctime(&reader, &moment);
    } else {
        read_850(&reader, &moment, now_s);
    }

    if (reader.bad || reader.p != reader.end || !is_day(&moment) ||
        moment.hour > 23 || moment.minute > 59 || moment.second > 60) {
        return -1;
    }

    *unix_s = seconds_of(&moment);
    return 0;
}

static char *put_number(char *p, int64_t value, unsigned digits)
{
    unsigned i;

    for (i = digits; i != 0; i--) {
        p[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }

    return p + digits;
}

static char *put_clock(char *p, const moment_t *moment)
{
    p = put_number(p, moment->hour, 2);
    *p++ = ':';
    p = put_number(p, moment->minute, 2);
    *p++ = ':';
    return put_number(p, moment->second, 2);
}

static int64_t clamp(int64_t unix_s)
{
    if (unix_s < HP_DATE_MIN_S) {
        return HP_DATE_MIN_S;
    }

    return unix_s > HP_DATE_MAX_S ? HP_DATE_MAX_S : unix_s;
}

void hp_http_date_format(char text[HP_HTTP_DATE_LEN], int64_t unix_s)
{
    moment_t moment;
    int64_t days;
    char *p;

    days = split(&moment, clamp(unix_s));

    /* 1970-01-01 was a Thursday; the days are at least -719162 */
    memcpy(text, day_names[(days + 719162 + 1) % 7], 3);
    memcpy(text + 3, ", ", 2);
    p = put_number(text + 5, moment.day, 2);
    *p++ = ' ';
    memcpy(p, month_names[moment.month - 1], 3);
    p[3] = ' ';
    p = put_number(p + 4, moment.year, 4);
    *p++ = ' ';
    p = put_clock(p, &moment);
    memcpy(p, " GMT", 4);
}

static void read_day(reader_t *reader, moment_t *moment)
{
    moment->year = read_digits(reader, 4);
    read_literal(reader, "-");
    moment->month = read_digits(reader, 2);
    read_literal(reader, "-");
    moment->day = read_digits(reader, 2);
    reader->bad |= !is_day(moment);
}

int hp_day_parse(int64_t *days, hp_str_t text)
{
    reader_t reader;
    moment_t moment;

    if (text.len == 0) {
        return -1;
    }

    reader.p = text.data;
    reader.end = text.data + text.len;
    reader.bad = 0;
    read_day(&reader, &moment);

    if (reader.bad || reader.p != reader.end) {
        return -1;
    }

    *days = days_of(moment.year, moment.month, moment.day);
    return 0;
}

static int64_t read_fraction(reader_t *reader)
{
    int64_t micros;
    int digits;

    if (!read_text(reader, ".")) {
        return 0;
    }

    micros = read_digits(reader, 1);

    for (digits = 1; digits < 6; digits++) {
        micros *= 10;

        if (reader->p < reader->end && hp_is_digit(*reader->p)) {
            micros += *reader->p++ - '0';
        }
    }

    return micros;
}

/* Seconds to the east. */
static int64_t read_offset(reader_t *reader)
{
    unsigned hours, minutes;
    int west;

    if (read_text(reader, "Z") || read_text(reader, "z")) {
        return 0;
    }

    west = read_text(reader, "-");

    if (!west) {
        read_literal(reader, "+");
    }

    hours = read_digits(reader, 2);
    read_literal(reader, ":");
    minutes = read_digits(reader, 2);
    reader->bad |= hours > 23 || minutes > 59;

    return ((int64_t)hours * 3600 + minutes * 60) * (west ? -1 : 1);
}

int hp_time_parse(int64_t *unix_us, hp_str_t text)
{
    int64_t micros, offset, seconds;
    reader_t reader;
    moment_t moment;

    if (text.len == 0) {
        return -1;
    }

    reader.p = text.data;
    reader.end = text.data + text.len;
    reader.bad = 0;

    read_day(&reader, &moment);

    if (!read_text(&reader, "T")) {
        read_literal(&reader, "t");
    }

    read_clock(&reader, &moment);
    micros = read_fraction(&reader);
    offset = read_offset(&reader);

    if (reader.bad || reader.p != reader.end || moment.hour > 23 ||
        moment.minute > 59 || moment.second > 59) {
        return -1;
    }

    seconds = seconds_of(&moment) - offset;

    if (seconds < HP_DATE_MIN_S || seconds > HP_DATE_MAX_S) {
        return -1;
    }

    *unix_us = seconds * 1000000 + micros;
    return 0;
}

void hp_time_format(char text[HP_TIME_LEN], int64_t unix_us)
{
    int64_t seconds, micros;
    moment_t moment;
    char *p;

    seconds = unix_us / 1000000;
    micros = unix_us % 1000000;

    if (micros < 0) {
        micros += 1000000;
        seconds--;
    }

    split(&moment, clamp(seconds));

    p = put_number(text, moment.year, 4);
    *p++ = '-';
    p = put_number(p, moment.month, 2);
    *p++ = '-';
    p = put_number(p, moment.day, 2);
    *p++ = 'T';
    p = put_clock(p, &moment);
    *p++ = '.';
    p = put_number(p, micros, 6);
    *p = 'Z';
}
