/*
 * hp_format.c: yes or no to short texts of a known form.
 *
 * One job: the grammars of RFC 3339 times, RFC 3986 references and RFC 9110
 * media types, as far as Hotpath believes what they say. Everything not named
 * in a grammar is refused. Owns nothing, allocates nothing, keeps no state:
 * any process, any thread; in nginx it runs in the event loop, in time linear
 * in the text. Never in here: a clock, a locale, a byte read outside the text.
 *
 * Contract: hp_format.h. Tests: tests/unit/test_format.c,
 * tests/fuzz/fuzz_event.c.
 */
#include "hp_format.h"

#include <string.h>

#include "hp_char.h"
#include "hp_date.h"

#define HP_DATE_TIME_MIN 20 /* 2024-02-29T23:59:59Z */
#define HP_TIME_DIGITS 6    /* of a fraction, hp_time_parse() takes no more */
#define HP_SECOND_US 1000000
#define HP_DAY_US ((int64_t)86400 * HP_SECOND_US)

static int is_alpha(unsigned char c)
{
    c |= 0x20;
    return c >= 'a' && c <= 'z';
}

int hp_date_time_valid(hp_str_t text)
{
    unsigned char copy[HP_DATE_TIME_MAX];
    size_t in, out, digits;
    hp_str_t moment;
    int64_t unix_us;
    int leap;

    if (text.len < HP_DATE_TIME_MIN || text.len > HP_DATE_TIME_MAX) {
        return 0;
    }

    memcpy(copy, text.data, HP_DATE_TIME_MIN);

    /* a leap second is the second after the last one of its day */
    leap = copy[17] == '6' && copy[18] == '0';

    if (leap) {
        copy[17] = '5';
        copy[18] = '9';
    }

    in = out = 19;

    if (text.data[in] == '.') {
        copy[out++] = text.data[in++];

        for (digits = 0; in < text.len && hp_is_digit(text.data[in]); in++) {
            if (digits++ < HP_TIME_DIGITS) {
                copy[out++] = text.data[in];
            }
        }
    }

    memcpy(copy + out, text.data + in, text.len - in);
    moment.data = copy;
    moment.len = out + text.len - in;

    if (hp_time_parse(&unix_us, moment) != 0) {
        return 0;
    }

    if (!leap) {
        return 1;
    }

    unix_us %= HP_DAY_US;
    unix_us += unix_us < 0 ? HP_DAY_US : 0;
    return unix_us >= HP_DAY_US - HP_SECOND_US;
}

/* Letters, digits and the marks of RFC 3986, percent sign not included. */
static int is_uri_char(unsigned char c)
{
    return is_alpha(c) || hp_is_digit(c) ||
           (c != '\0' && strchr("-._~:/?#[]@!$&'()*+,;=", c) != NULL);
}

int hp_uri_valid(hp_str_t text, int needs_scheme)
{
    int scheme, first, hashes;
    unsigned char c;
    size_t i;

    scheme = 0;
    first = 1; /* no ':', '/', '?' or '#' yet: this may be a scheme */
    hashes = 0;

    for (i = 0; i < text.len; i++) {
        c = text.data[i];

        if (c == '%') {
            if (text.len - i < 3 || hp_hex_value(text.data[i + 1]) < 0 ||
                hp_hex_value(text.data[i + 2]) < 0) {
                return 0;
            }

            i += 2;
            scheme = first ? -1 : scheme;
            continue;
        }

        if (!is_uri_char(c)) {
            return 0;
        }

        hashes += c == '#';

        if (!first) {
            continue;
        }

        if (c == ':') {
            if (i == 0 || scheme < 0) {
                return 0;
            }

            first = 0;
            scheme = 1;

        } else if (c == '/' || c == '?' || c == '#') {
            first = 0;
            scheme = 0;

        } else if (i == 0 ? !is_alpha(c)
                          : !is_alpha(c) && !hp_is_digit(c) && c != '+' &&
                                c != '-' && c != '.') {
            scheme = -1; /* none, so no ':' may end this segment */
        }
    }

    return text.len != 0 && hashes <= 1 && (!needs_scheme || scheme == 1);
}

static int is_token_char(unsigned char c)
{
    return is_alpha(c) || hp_is_digit(c) ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* The token at *p, which moves behind it; empty where there is none. */
static hp_str_t token_at(const unsigned char **p, const unsigned char *end)
{
    hp_str_t token;

    token.data = *p;

    while (*p < end && is_token_char(**p)) {
        (*p)++;
    }

    token.len = (size_t)(*p - token.data);
    return token;
}

/* Whether text is `lower`, which is lower-case, letters in either case. */
static int same(hp_str_t text, const char *lower)
{
    size_t i;

    for (i = 0; i < text.len; i++) {
        if ((is_alpha(text.data[i]) ? text.data[i] | 0x20 : text.data[i]) !=
            (unsigned char)lower[i]) {
            return 0;
        }
    }

    return lower[i] == '\0';
}

static int starts_with(hp_str_t text, const char *lower)
{
    size_t len;

    len = strlen(lower);

    if (text.len < len) {
        return 0;
    }

    text.len = len;
    return same(text, lower);
}

static int ends_with(hp_str_t text, const char *lower)
{
    size_t len;

    len = strlen(lower);

    if (text.len <= len) {
        return 0;
    }

    text.data += text.len - len;
    text.len = len;
    return same(text, lower);
}

static const unsigned char *skip_blank(const unsigned char *p,
                                       const unsigned char *end)
{
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    return p;
}

/* A token or quoted string at *p, without the quotes and with its backslashes
 * left in (no charset has one). 0, or -1 where it is neither. */
static int parameter_value(const unsigned char **p, const unsigned char *end,
                           hp_str_t *value)
{
    if (*p == end || **p != '"') {
        *value = token_at(p, end);
        return value->len == 0 ? -1 : 0;
    }

    value->data = ++*p;

    while (*p < end && **p != '"') {
        if (**p == '\\') {
            (*p)++;
        }

        if (*p == end || (**p < 0x20 && **p != '\t') || **p == 0x7f) {
            return -1;
        }

        (*p)++;
    }

    if (*p == end) {
        return -1;
    }

    value->len = (size_t)(*p - value->data);
    (*p)++;
    return 0;
}

static hp_media_kind_t kind_of(hp_str_t type, hp_str_t subtype)
{
    if (same(type, "application")) {
        if (same(subtype, "json")) {
            return HP_MEDIA_JSON;
        }

        if (same(subtype, "cloudevents+json")) {
            return HP_MEDIA_CLOUDEVENT;
        }

        if (same(subtype, "cloudevents-batch+json")) {
            return HP_MEDIA_CLOUDEVENT_LIST;
        }

        if (starts_with(subtype, "cloudevents")) {
            return HP_MEDIA_CLOUDEVENT_ELSE;
        }
    }

    return same(subtype, "json") || ends_with(subtype, "+json")
               ? HP_MEDIA_JSON_LIKE
               : HP_MEDIA_ELSE;
}

int hp_media_parse(hp_str_t value, hp_media_t *media)
{
    hp_str_t type, subtype, name, parameter;
    const unsigned char *p, *end;
    unsigned charsets;

    memset(media, 0, sizeof(*media));

    if (value.len == 0) {
        return -1;
    }

    end = value.data + value.len;
    p = skip_blank(value.data, end);
    type = token_at(&p, end);

    if (type.len == 0 || p == end || *p != '/') {
        return -1;
    }

    p++;
    subtype = token_at(&p, end);

    if (subtype.len == 0) {
        return -1;
    }

    charsets = 0;
    p = skip_blank(p, end);

    while (p < end) {
        if (*p != ';') {
            return -1;
        }

        p = skip_blank(p + 1, end);
        name = token_at(&p, end);

        if (name.len == 0) {
            continue; /* RFC 9110 lets a parameter be empty */
        }

        if (p == end || *p != '=') {
            return -1;
        }

        p++;

        if (parameter_value(&p, end, &parameter) != 0) {
            return -1;
        }

        if (same(name, "charset")) {
            charsets++;
            media->charset_other = !same(parameter, "utf-8");
        }

        p = skip_blank(p, end);
    }

    if (charsets > 1) {
        return -1;
    }

    media->kind = kind_of(type, subtype);
    return 0;
}
