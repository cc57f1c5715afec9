/*
 * hp_walk.c: goes through JSON that hp_json_check() has accepted.
 *
 * One job: to find one's way in a checked text without checking it again, for
 * hp_event.c (batches, CloudEvents) and hp_schema.c. Owns nothing, allocates
 * nothing, keeps no state beside the caller's hp_walk_t: any process, any
 * thread; in nginx it runs in the event loop. Time is linear in the bytes gone
 * over, the stack constant: nesting is a count.
 *
 * What must never happen here: a byte read at or behind `end`, or a loop that
 * does not come nearer to it, whatever the bytes are.
 *
 * Contract: hp_walk.h. Tests: tests/unit/test_walk.c, tests/fuzz/fuzz_event.c
 * and fuzz_schema.c.
 */
#include "hp_walk.h"

#include <string.h>

#include "hp_char.h"
#include "hp_json.h"

/* A longer exponent is not in any checked text. */
#define HP_WALK_EXPONENT_MAX ((int64_t)1 << 40)

int hp_walk_open(hp_walk_t *walk, const unsigned char *pos,
                 const unsigned char *end)
{
    memset(walk, 0, sizeof(*walk));
    walk->pos = pos;
    walk->end = end;

    if (pos >= end || (*pos != '{' && *pos != '[')) {
        return 0;
    }

    walk->object = *pos == '{';
    walk->first = 1;
    walk->pos = pos + 1;
    return 1;
}

/* p is behind the opening quote; gives what is behind the closing one. */
static const unsigned char *skip_string(const unsigned char *p,
                                        const unsigned char *end)
{
    for (;;) {
        p = hp_skip_plain(p, end);

        if (p >= end) {
            return end;
        }

        if (*p == '"') {
            return p + 1;
        }

        if (*p == '\\') {
            p += end - p > 1 ? 2 : 1;
            continue;
        }

        do {
            p++;
        } while (p < end && *p >= 0x80);
    }
}

int hp_walk_next(hp_walk_t *walk)
{
    const unsigned char *p, *end;

    end = walk->end;
    p = hp_skip_space(walk->pos, end);

    if (p < end && *p == ',' && !walk->first) {
        p = hp_skip_space(p + 1, end);
    }

    walk->first = 0;

    if (p >= end) {
        walk->pos = end;
        return 0;
    }

    if (*p == (walk->object ? '}' : ']')) {
        walk->pos = p + 1;
        return 0;
    }

    if (walk->object) {
        walk->name = hp_walk_string(p, end);
        p = walk->name.data + walk->name.len;
        p += p < end; /* the quote */
        p = hp_skip_space(p, end);
        p += p < end; /* the colon */
        p = hp_skip_space(p, end);
    }

    walk->pos = p;
    return p < end;
}

const unsigned char *hp_walk_value(const unsigned char *pos,
                                   const unsigned char *end, unsigned *spaced)
{
    const unsigned char *p;
    unsigned space;
    size_t level;

    p = pos;
    level = 0;
    space = 0;

    while (p < end) {
        switch (*p) {
        case '"':
            p = skip_string(p + 1, end);
            break;

        case '{':
        case '[':
            level++;
            p++;
            continue;

        case '}':
        case ']':
            level -= level > 0;
            p++;
            break;

        case ' ':
        case '\t':
        case '\n':
        case '\r':
            space = 1;
            p = hp_skip_space(p, end);
            continue;

        case ',':
        case ':':
            p++;
            continue;

        default:
            /* a number or literal: up to what may follow one */
            do {
                p++;
            } while (p<end && * p> ' ' && *p != ',' && *p != ']' && *p != '}');
        }

        if (level == 0) {
            break;
        }
    }

    if (spaced != NULL && space) {
        *spaced = 1;
    }

    return p;
}

hp_str_t hp_walk_trim(hp_str_t text)
{
    const unsigned char *p, *end;

    if (text.len == 0) {
        return text;
    }

    end = text.data + text.len;
    p = hp_skip_space(text.data, end);

    while (end > p && (hp_char_class[end[-1]] & HP_CHAR_SPACE)) {
        end--;
    }

    text.data = p;
    text.len = (size_t)(end - p);
    return text;
}

hp_str_t hp_walk_string(const unsigned char *pos, const unsigned char *end)
{
    const unsigned char *last;
    hp_str_t inside;

    inside.data = pos + 1;
    last = skip_string(pos + 1, end);
    last -= last > pos + 1 && last[-1] == '"';
    inside.len = (size_t)(last - inside.data);
    return inside;
}

/* Of a sequence whose length hp_utf8_length() gave. */
static uint32_t code_of(const unsigned char *p, unsigned len)
{
    uint32_t code;
    unsigned i;

    code = len == 1 ? p[0] : p[0] & (0xffu >> (len + 1));

    for (i = 1; i < len; i++) {
        code = code << 6 | (p[i] & 0x3f);
    }

    return code;
}

/* Bytes of the escape whose backslash is at p: two halves of a pair are one. */
static size_t escape_length(const unsigned char *p, const unsigned char *end)
{
    size_t len, left;

    left = (size_t)(end - p);
    len = 2;

    if (left > 3 && p[1] == 'u') {
        len = 6;

        if ((p[2] | 0x20) == 'd' && hp_hex_value(p[3]) >= 8 &&
            hp_hex_value(p[3]) <= 11) {
            len = 12;
        }
    }

    return len < left ? len : left;
}

uint32_t hp_walk_char(const unsigned char **pos, const unsigned char *end)
{
    const unsigned char *p;
    unsigned char resolved[12];
    hp_str_t escape;
    unsigned len;
    size_t n;

    p = *pos;

    if (*p < 0x80 && *p != '\\') {
        *pos = p + 1;
        return *p;
    }

    if (*p == '\\') {
        escape.data = p;
        escape.len = escape_length(p, end);
        *pos = p + escape.len;
        n = hp_json_unescape(resolved, escape);
        len = hp_utf8_length(resolved, resolved + n);
        return len == 0 ? 0xfffd : code_of(resolved, len);
    }

    len = hp_utf8_length(p, end);
    *pos = p + (len == 0 ? 1 : len);
    return len == 0 ? 0xfffd : code_of(p, len);
}

static int has_escape(hp_str_t raw)
{
    return raw.len != 0 && memchr(raw.data, '\\', raw.len) != NULL;
}

size_t hp_walk_length(hp_str_t raw)
{
    const unsigned char *p, *end;
    size_t length;

    p = raw.data;
    end = p + raw.len;
    length = 0;

    if (!has_escape(raw)) {
        for (/* void */; p < end; p++) {
            length += (*p & 0xc0) != 0x80;
        }

        return length;
    }

    for (/* void */; p < end; length++) {
        (void)hp_walk_char(&p, end);
    }

    return length;
}

int hp_walk_compare(hp_str_t raw, hp_str_t text)
{
    const unsigned char *p, *end;
    unsigned char piece[4];
    unsigned len, i;
    size_t common, done;
    int order;

    if (!has_escape(raw)) {
        common = raw.len < text.len ? raw.len : text.len;
        order = common == 0 ? 0 : memcmp(raw.data, text.data, common);
        return order != 0 ? order : (raw.len > text.len) - (raw.len < text.len);
    }

    p = raw.data;
    end = p + raw.len;
    done = 0;

    while (p < end) {
        len = hp_utf8_write(piece, hp_walk_char(&p, end));

        for (i = 0; i < len; i++, done++) {
            if (done == text.len) {
                return 1;
            }

            if (piece[i] != text.data[done]) {
                return (int)piece[i] - (int)text.data[done];
            }
        }
    }

    return done < text.len ? -1 : 0;
}

/* A number taken apart: its digits from the first that is not zero. */
typedef struct {
    const unsigned char *digit; /* end where the number is zero */
    const unsigned char *end;   /* of the digits */
    int64_t place;              /* power of ten of the first digit */
    int negative;
} number_t;

static number_t number_of(hp_str_t text)
{
    const unsigned char *p, *end, *point;
    int64_t exponent;
    number_t number;
    int negative;

    p = text.data;
    end = p + text.len;
    number.negative = p < end && *p == '-';
    p += number.negative;
    number.digit = NULL;
    point = NULL;

    for (/* void */; p < end && (*p | 0x20) != 'e'; p++) {
        if (*p == '.') {
            point = p;
        } else if (number.digit == NULL && *p != '0') {
            number.digit = p;
        }
    }

    number.end = p;
    exponent = 0;
    negative = 0;

    if (p < end) {
        p++;

        if (p < end && (*p == '-' || *p == '+')) {
            negative = *p == '-';
            p++;
        }

        for (/* void */; p < end && exponent < HP_WALK_EXPONENT_MAX; p++) {
            exponent = exponent * 10 + (*p & 0x0f);
        }
    }

    if (number.digit == NULL) {
        number.digit = number.end;
        number.place = 0;
        return number;
    }

    point = point == NULL ? number.end : point;
    number.place =
        number.digit < point ? point - number.digit - 1 : point - number.digit;
    number.place += negative ? -exponent : exponent;
    return number;
}

/* The next digit, 0 behind the last. */
static int next_digit(number_t *number)
{
    if (number->digit < number->end && *number->digit == '.') {
        number->digit++;
    }

    return number->digit < number->end ? *number->digit++ - '0' : 0;
}

int hp_walk_compare_numbers(hp_str_t a, hp_str_t b)
{
    number_t left, right;
    int sign, l, r;

    left = number_of(a);
    right = number_of(b);

    /* -0 is 0 */
    l = left.digit == left.end ? 0 : left.negative ? -1 : 1;
    r = right.digit == right.end ? 0 : right.negative ? -1 : 1;

    if (l != r || l == 0) {
        return (l > r) - (l < r);
    }

    sign = l;

    if (left.place != right.place) {
        return left.place > right.place ? sign : -sign;
    }

    while (left.digit < left.end || right.digit < right.end) {
        l = next_digit(&left);
        r = next_digit(&right);

        if (l != r) {
            return l > r ? sign : -sign;
        }
    }

    return 0;
}

int hp_walk_is_integer(hp_str_t number)
{
    int64_t place, last;
    number_t digits;

    digits = number_of(number);
    last = 0;

    for (place = digits.place; digits.digit < digits.end; place--) {
        if (next_digit(&digits) != 0) {
            last = place;
        }
    }

    return last >= 0;
}
