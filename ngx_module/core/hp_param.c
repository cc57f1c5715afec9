/*
 * hp_param.c: typed parameters of a request.
 *
 * One job: to turn what stands in a path, query or header into a value of a
 * declared type, or into a code that says why not, before a key is built from
 * it or a backend sees it. Everything not named by a rule is refused; nothing
 * is trimmed, clamped or repaired, as two spellings of one value would be two
 * entries of the cache, of which a push renews only one.
 *
 * Rules are compiled where the configuration is read and never change then;
 * checking owns nothing, allocates nothing and reads each byte a bounded number
 * of times. Any process, any thread.
 *
 * Contract: hp_param.h. Tests: tests/unit/test_param.c,
 * tests/fuzz/fuzz_param.c.
 */
#include "hp_param.h"

#include <string.h>

#include "hp_char.h"
#include "hp_date.h"
#include "hp_id.h"

/* Classes of single bytes; SET_TEXT is looked at as UTF-8. */
enum { SET_TEXT, SET_ASCII, SET_WORD, SET_ALNUM, SET_DIGITS, SET_HEX, SETS };

static const char *const set_names[SETS] = {"text",  "ascii",  "word",
                                            "alnum", "digits", "hex"};

static int same(hp_str_t text, const char *name)
{
    return text.len == strlen(name) && memcmp(text.data, name, text.len) == 0;
}

static hp_str_t cut(hp_str_t text, size_t start, size_t end)
{
    text.data += start;
    text.len = end - start;
    return text;
}

/* Up to and without the first c, of which *rest is what stands behind; all of
 * it and nothing where there is none. text is not empty. */
static hp_str_t split(hp_str_t text, unsigned char c, hp_str_t *rest)
{
    const unsigned char *mark;
    size_t at;

    mark = memchr(text.data, c, text.len);
    at = mark == NULL ? text.len : (size_t)(mark - text.data);
    *rest = cut(text, mark == NULL ? at : at + 1, text.len);

    return cut(text, 0, at);
}

const char *hp_param_code(hp_param_status_t status)
{
    static const char *const codes[] = {
        [HP_PARAM_OK] = "ok",
        [HP_PARAM_BAD_TYPE] = "param_type",
        [HP_PARAM_BAD_RANGE] = "param_range",
        [HP_PARAM_BAD_LENGTH] = "param_length",
        [HP_PARAM_BAD_CHARACTERS] = "param_characters",
        [HP_PARAM_BAD_CHOICE] = "param_choice",
        [HP_PARAM_BAD_ESCAPE] = "param_escape",
        [HP_PARAM_BAD_NUL] = "param_nul",
        [HP_PARAM_BAD_REPEAT] = "param_repeat",
    };

    return codes[status];
}

/* -1 not a number as it has to be written, 1 one that int64_t cannot hold:
 * *number is then the end that it is beyond. */
static int read_int(hp_str_t text, int64_t *number)
{
    const unsigned char *p, *end;
    uint64_t value, limit;
    int negative;

    if (text.len == 0) {
        return -1;
    }

    p = text.data;
    end = p + text.len;
    negative = *p == '-';
    p += negative;

    /* no leading zero, and none behind a minus sign */
    if (p == end || (*p == '0' && (negative || end - p > 1))) {
        return -1;
    }

    limit = (uint64_t)INT64_MAX + (negative ? 1 : 0);
    value = 0;

    for (/* void */; p < end; p++) {
        if (!hp_is_digit(*p)) {
            return -1;
        }

        if (value <= limit) {
            /* one digit beyond the limit at most: below 2^64 */
            value = value > limit / 10 ? limit + 1 : value * 10 + (*p - '0');
        }
    }

    if (value > limit) {
        *number = negative ? INT64_MIN : INT64_MAX;
        return 1;
    }

    *number = negative ? (int64_t)(0 - value) : (int64_t)value;
    return 0;
}

/* ---- rules ---- */

/* "a..b"; either side may be missing, and then the bound stays as it is. */
static const char *read_bounds(hp_param_rule_t *rule, hp_str_t text)
{
    int64_t low, high;
    hp_str_t side;
    size_t i;

    for (i = 0; i + 1 < text.len; i++) {
        if (text.data[i] == '.' && text.data[i + 1] == '.') {
            break;
        }
    }

    if (i + 1 >= text.len || text.len == 2) {
        return "bounds are written as 1..100, 1.. or ..100";
    }

    low = rule->min;
    high = rule->max;
    side = cut(text, 0, i);

    if (side.len != 0 && read_int(side, &low) != 0) {
        return "the lower bound is no number";
    }

    side = cut(text, i + 2, text.len);

    if (side.len != 0 && read_int(side, &high) != 0) {
        return "the upper bound is no number";
    }

    if (low < rule->min || high > rule->max) {
        return "a bound is outside what the type holds";
    }

    if (low > high) {
        return "the lower bound is above the upper one";
    }

    rule->min = low;
    rule->max = high;
    return NULL;
}

static const char *read_string_rule(hp_param_rule_t *rule, hp_str_t inside)
{
    hp_str_t bounds, set;

    rule->min = 0;
    rule->max = HP_PARAM_LENGTH_MAX;
    bounds = split(inside, ',', &set);

    if (bounds.len != inside.len) {
        for (rule->set = 0; rule->set < SETS; rule->set++) {
            if (same(set, set_names[rule->set])) {
                break;
            }
        }

        if (rule->set == SETS) {
            return "no such set of characters";
        }
    }

    return read_bounds(rule, bounds);
}

static const char *read_names(hp_param_rule_t *rule, hp_str_t inside)
{
    hp_str_t rest, name, others, other;
    size_t count, i;

    if (inside.data[inside.len - 1] == '|') {
        return "a name of an enum is empty";
    }

    rule->names = inside;
    count = 0;

    for (rest = inside; rest.len != 0; count++) {
        name = split(rest, '|', &rest);

        if (name.len == 0) {
            return "a name of an enum is empty";
        }

        if (name.len > HP_PARAM_CHOICE_MAX || count == HP_PARAM_CHOICES) {
            return "more than 64 names, or one longer than 64 bytes";
        }

        for (i = 0; i < name.len; i++) {
            if (name.data[i] <= ' ' || name.data[i] > '~') {
                return "a name of an enum is not printable ASCII";
            }
        }

        for (others = rest; others.len != 0; /* void */) {
            other = split(others, '|', &others);

            if (other.len == name.len &&
                memcmp(other.data, name.data, name.len) == 0) {
                return "a name of an enum stands there twice";
            }
        }
    }

    return NULL;
}

const char *hp_param_rule(hp_param_rule_t *rule, hp_str_t text)
{
    hp_str_t type, inside;

    memset(rule, 0, sizeof(*rule));

    if (text.len == 0) {
        return "the rule is empty";
    }

    type = split(text, '(', &inside);

    if (type.len != text.len) {
        if (inside.len < 2 || inside.data[inside.len - 1] != ')') {
            return "what is in parentheses is empty or does not end";
        }

        inside.len--;
    }

    if (same(type, "int") || same(type, "uint")) {
        rule->kind = HP_PARAM_INT;
        rule->min = type.data[0] == 'u' ? 0 : INT64_MIN;
        rule->max = INT64_MAX;
        return inside.len != 0 ? read_bounds(rule, inside) : NULL;
    }

    if (same(type, "string")) {
        rule->kind = HP_PARAM_STRING;
        rule->min = 1;
        rule->max = HP_PARAM_LENGTH;
        return inside.len != 0 ? read_string_rule(rule, inside) : NULL;
    }

    if (same(type, "enum")) {
        rule->kind = HP_PARAM_ENUM;
        return inside.len != 0 ? read_names(rule, inside)
                               : "an enum needs its names";
    }

    if (same(type, "bool")) {
        rule->kind = HP_PARAM_BOOL;
    } else if (same(type, "uuid")) {
        rule->kind = HP_PARAM_UUID;
    } else if (same(type, "date")) {
        rule->kind = HP_PARAM_DATE;
    } else if (same(type, "time")) {
        rule->kind = HP_PARAM_TIME;
    } else {
        return "no such type";
    }

    return inside.len != 0 ? "this type has no bounds" : NULL;
}

/* ---- values ---- */

static int in_set(unsigned set, unsigned char c)
{
    int letter;

    letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';

    switch (set) {
    case SET_ASCII:
        return c >= ' ' && c <= '~';
    case SET_WORD:
        return letter || hp_is_digit(c) || c == '_' || c == '-' || c == '.';
    case SET_ALNUM:
        return letter || hp_is_digit(c);
    case SET_DIGITS:
        return hp_is_digit(c);
    default:
        return hp_hex_value(c) >= 0;
    }
}

/* UTF-8 without the controls of ASCII and of Latin 1 (U+0080 to U+009F). */
static int is_text(hp_str_t text)
{
    const unsigned char *p, *end;
    unsigned len;

    p = text.data;
    end = p + text.len;

    while (p < end) {
        len = hp_utf8_length(p, end);

        if (len == 0 || *p < ' ' || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0)) {
            return 0;
        }

        p += len;
    }

    return 1;
}

static hp_param_status_t check_string(const hp_param_rule_t *rule,
                                      hp_str_t text)
{
    size_t i;

    if (text.len < (size_t)rule->min || text.len > (size_t)rule->max) {
        return HP_PARAM_BAD_LENGTH;
    }

    if (text.len == 0) {
        return HP_PARAM_OK;
    }

    if (rule->set == SET_TEXT) {
        return is_text(text) ? HP_PARAM_OK : HP_PARAM_BAD_CHARACTERS;
    }

    for (i = 0; i < text.len; i++) {
        if (!in_set(rule->set, text.data[i])) {
            return HP_PARAM_BAD_CHARACTERS;
        }
    }

    return HP_PARAM_OK;
}

static hp_param_status_t check_int(const hp_param_rule_t *rule, hp_str_t text,
                                   int64_t *number)
{
    int rc;

    rc = read_int(text, number);

    if (rc < 0) {
        return HP_PARAM_BAD_TYPE;
    }

    return rc > 0 || *number < rule->min || *number > rule->max
               ? HP_PARAM_BAD_RANGE
               : HP_PARAM_OK;
}

static hp_param_status_t check_enum(const hp_param_rule_t *rule, hp_str_t text,
                                    int64_t *place)
{
    hp_str_t rest, name;

    *place = 0;

    for (rest = rule->names; rest.len != 0; (*place)++) {
        name = split(rest, '|', &rest);

        if (name.len == text.len &&
            memcmp(name.data, text.data, name.len) == 0) {
            return HP_PARAM_OK;
        }
    }

    return HP_PARAM_BAD_CHOICE;
}

hp_param_status_t hp_param_check(const hp_param_rule_t *rule, hp_str_t text,
                                 hp_param_value_t *value)
{
    memset(value, 0, sizeof(*value));

    switch (rule->kind) {
    case HP_PARAM_INT:
        return check_int(rule, text, &value->number);

    case HP_PARAM_BOOL:
        value->number = same(text, "true");
        return value->number || same(text, "false") ? HP_PARAM_OK
                                                    : HP_PARAM_BAD_TYPE;

    case HP_PARAM_ENUM:
        return check_enum(rule, text, &value->number);

    case HP_PARAM_UUID:
        if (hp_uuid_parse(value->uuid, text) != 0) {
            return HP_PARAM_BAD_TYPE;
        }

        hp_uuid_format((char *)value->text, value->uuid);
        value->text_len = HP_UUID_TEXT;
        return HP_PARAM_OK;

    case HP_PARAM_DATE:
        return hp_day_parse(&value->number, text) == 0 ? HP_PARAM_OK
                                                       : HP_PARAM_BAD_TYPE;

    case HP_PARAM_TIME:
        if (hp_time_parse(&value->number, text) != 0) {
            return HP_PARAM_BAD_TYPE;
        }

        hp_time_format((char *)value->text, value->number);
        value->text_len = HP_TIME_LEN;
        return HP_PARAM_OK;

    default:
        return check_string(rule, text);
    }
}

/* ---- query strings ---- */

hp_param_status_t hp_param_decode(unsigned char *dst, size_t *len, hp_str_t raw,
                                  int plus)
{
    const unsigned char *p, *end;
    unsigned char c, *out;
    int high, low;

    *len = 0;

    if (raw.len == 0) {
        return HP_PARAM_OK;
    }

    p = raw.data;
    end = p + raw.len;
    out = dst;

    while (p < end) {
        c = *p++;

        if (c == '%') {
            high = end - p >= 2 ? hp_hex_value(p[0]) : -1;
            low = end - p >= 2 ? hp_hex_value(p[1]) : -1;

            if (high < 0 || low < 0) {
                return HP_PARAM_BAD_ESCAPE;
            }

            c = (unsigned char)(high << 4 | low);
            p += 2;

        } else if (c == '+' && plus) {
            c = ' ';
        }

        if (c == '\0') {
            return HP_PARAM_BAD_NUL;
        }

        *out++ = c;
    }

    *len = (size_t)(out - dst);
    return HP_PARAM_OK;
}

int hp_param_next(hp_str_t *rest, hp_str_t *name, hp_str_t *value)
{
    hp_str_t argument;

    while (rest->len != 0) {
        argument = split(*rest, '&', rest);

        if (argument.len != 0) {
            *name = split(argument, '=', value);
            return 1;
        }
    }

    return 0;
}

int hp_param_named(hp_str_t given, hp_str_t name)
{
    unsigned char decoded[3 * HP_PARAM_NAME_MAX];
    size_t len;

    if (given.len < name.len || given.len > 3 * name.len ||
        name.len > HP_PARAM_NAME_MAX || name.len == 0) {
        return 0;
    }

    if (given.len == name.len && memcmp(given.data, name.data, name.len) == 0) {
        return 1;
    }

    if (memchr(given.data, '%', given.len) == NULL &&
        memchr(given.data, '+', given.len) == NULL) {
        return 0;
    }

    return hp_param_decode(decoded, &len, given, 1) == HP_PARAM_OK &&
           len == name.len && memcmp(decoded, name.data, len) == 0;
}

int hp_param_find(hp_str_t query, hp_str_t name, hp_str_t *value)
{
    hp_str_t other, given;
    int count;

    count = 0;

    while (count < 2 && hp_param_next(&query, &other, &given)) {
        if (hp_param_named(other, name) && count++ == 0) {
            *value = given;
        }
    }

    return count;
}
