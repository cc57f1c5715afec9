/*
 * hp_json.c: the strict JSON scanner behind hp_json.h.
 *
 * One job: say whether bytes are JSON that PostgreSQL will store as jsonb, and
 * where in them the members of the sample envelope are. Owns nothing, keeps
 * nothing between calls, allocates nothing: any process, any thread. Runs in
 * nginx's event loop for every write, so the time is linear in the input and
 * the stack is constant: nesting is a bit per level, never a recursion.
 * Nothing is read beyond text.len, also by loops that take many bytes at once.
 *
 * A scan function takes the position to start at and gives the position after
 * what it accepted, or NULL with status and error of the scan set.
 * The rules for numbers are those of numeric_in(), see number_fits().
 *
 * Contract: hp_json.h. Tests: tests/unit/test_json.c (every status with its
 * offset), test_json_event.c, tests/fuzz/fuzz_json.c, tests/bench/core.c.
 */
#include "hp_json.h"

#include <string.h>

#include "hp_char.h"

#define HP_JSON_LEVELS 1000

/* numeric keeps its weight (in groups of four digits) in an int16 and the
 * number of digits after the point in 14 bits; numeric_in() of PostgreSQL 15
 * refuses exponents from INT_MAX / 2 on, even for zero. */
#define HP_JSON_DIGITS_BEFORE 131072
#define HP_JSON_DIGITS_AFTER 16383
#define HP_JSON_EXPONENT 1073741823

typedef struct {
    const unsigned char *end;
    const unsigned char *error;
    hp_json_status_t status;
    unsigned escaped; /* a backslash was seen */
    unsigned spaced;  /* white space was skipped inside a value */
    unsigned closed;  /* scan_member() came to the closing brace */
} scan_t;

static const char *const code_of[] = {
    [HP_JSON_OK] = "json_ok",
    [HP_JSON_EMPTY] = "json_empty",
    [HP_JSON_SYNTAX] = "json_syntax",
    [HP_JSON_TRAILING] = "json_trailing",
    [HP_JSON_UTF8] = "json_utf8",
    [HP_JSON_NUL] = "json_nul",
    [HP_JSON_SURROGATE] = "json_surrogate",
    [HP_JSON_NUMBER] = "json_number",
    [HP_JSON_DEPTH] = "json_depth",
    [HP_JSON_NOT_OBJECT] = "json_not_object",
    [HP_JSON_MEMBER_DUPLICATE] = "json_member_duplicate",
    [HP_JSON_MEMBER_UNKNOWN] = "json_member_unknown",
    [HP_JSON_MEMBER_TYPE] = "json_member_type",
};

const char *hp_json_code(hp_json_status_t status)
{
    if ((unsigned)status >= sizeof(code_of) / sizeof(code_of[0])) {
        return "json_unknown";
    }

    return code_of[status];
}

static __attribute__((cold, noinline)) const unsigned char *
fail(scan_t *scan, hp_json_status_t status, const unsigned char *at)
{
    scan->status = status;
    scan->error = at;
    return NULL;
}

/* p is at the backslash. */
static const unsigned char *scan_escape(scan_t *scan, const unsigned char *p)
{
    const unsigned char *bad = p, *end;
    int32_t code, low;

    end = scan->end;
    scan->escaped = 1;

    if (end - p < 2) {
        return fail(scan, HP_JSON_SYNTAX, end);
    }

    if (hp_char_escape[p[1]] != 0) {
        return p + 2;
    }

    if (p[1] != 'u') {
        return fail(scan, HP_JSON_SYNTAX, p + 1);
    }

    code = hp_hex4(p + 2, end, &bad);

    if (code < 0) {
        return fail(scan, HP_JSON_SYNTAX, bad);
    }

    if (code == 0) {
        return fail(scan, HP_JSON_NUL, p);
    }

    if (code < 0xd800 || code > 0xdfff) {
        return p + 6;
    }

    if (code > 0xdbff || end - p < 8 || p[6] != '\\' || p[7] != 'u') {
        return fail(scan, HP_JSON_SURROGATE, p);
    }

    low = hp_hex4(p + 8, end, &bad);

    if (low < 0) {
        return fail(scan, HP_JSON_SYNTAX, bad);
    }

    if (low < 0xdc00 || low > 0xdfff) {
        return fail(scan, HP_JSON_SURROGATE, p);
    }

    return p + 12;
}

/* p is behind the opening quote; gives what is behind the closing one. */
static inline const unsigned char *scan_string(scan_t *scan,
                                               const unsigned char *p)
{
    const unsigned char *end;
    unsigned len;

    end = scan->end;

    for (;;) {
        p = hp_skip_plain(p, end);

        if (p == end) {
            return fail(scan, HP_JSON_SYNTAX, p);
        }

        if (*p == '"') {
            return p + 1;
        }

        if (*p == '\\') {
            p = scan_escape(scan, p);

            if (p == NULL) {
                return NULL;
            }

            continue;
        }

        if (*p < 0x20) {
            return fail(scan, HP_JSON_SYNTAX, p);
        }

        do {
            len = hp_utf8_length(p, end);

            if (len == 0) {
                return fail(scan, HP_JSON_UTF8, p);
            }

            p += len;
        } while (p < end && *p >= 0x80);
    }
}

/*
 * Whether numeric_in() takes the number [p, end), which is RFC 8259: its first
 * digit that is not zero stands at most 131072 places before the point, at
 * most 16383 digits stand after the point once the exponent has moved it, and
 * the exponent itself is less than INT_MAX / 2. Zeros count as digits after
 * the point, and in front of it not at all.
 */
static __attribute__((noinline)) int number_fits(const unsigned char *p,
                                                 const unsigned char *end)
{
    int64_t place, before, after, exponent;
    int seen_point, negative;

    /* place: digits from the first that is not zero to the point */
    place = before = after = exponent = 0;
    seen_point = negative = 0;

    for (/* void */; p < end && (*p | 0x20) != 'e'; p++) {
        if (*p == '.') {
            seen_point = 1;

        } else if (hp_is_digit(*p)) {
            after += seen_point;

            if (before == 0 && *p != '0') {
                before = 1;
                place = seen_point ? 1 - after : 0;
            }

            place += before && !seen_point;
        }
    }

    if (p < end) {
        p++;
        negative = *p == '-';

        if (*p == '-' || *p == '+') {
            p++;
        }

        for (/* void */; p < end; p++) {
            exponent = exponent * 10 + (*p - '0');

            if (exponent >= HP_JSON_EXPONENT) {
                return 0;
            }
        }

        if (negative) {
            exponent = -exponent;
        }
    }

    if (before && place + exponent > HP_JSON_DIGITS_BEFORE) {
        return 0;
    }

    return after - exponent <= HP_JSON_DIGITS_AFTER;
}

/* At least one digit. */
static inline const unsigned char *scan_digits(scan_t *scan,
                                               const unsigned char *p)
{
    if (p == scan->end || !hp_is_digit(*p)) {
        return fail(scan, HP_JSON_SYNTAX, p);
    }

    do {
        p++;
    } while (p < scan->end && hp_is_digit(*p));

    return p;
}

static inline const unsigned char *scan_number(scan_t *scan,
                                               const unsigned char *p)
{
    const unsigned char *start, *end;
    int exponent;

    start = p;
    end = scan->end;
    exponent = 0;

    p += *p == '-';
    p = p < end && *p == '0' ? p + 1 : scan_digits(scan, p);

    if (p != NULL && p < end && *p == '.') {
        p = scan_digits(scan, p + 1);
    }

    if (p != NULL && p < end && (*p == 'e' || *p == 'E')) {
        exponent = 1;
        p++;
        p += p < end && (*p == '+' || *p == '-');
        p = scan_digits(scan, p);
    }

    if (p == NULL) {
        return NULL;
    }

    if ((exponent || p - start > HP_JSON_DIGITS_AFTER) &&
        !number_fits(start, p)) {
        return fail(scan, HP_JSON_NUMBER, start);
    }

    return p;
}

static inline const unsigned char *scan_literal(scan_t *scan,
                                                const unsigned char *p,
                                                const char *literal, size_t len)
{
    const unsigned char *end;
    size_t i;

    end = scan->end;

    if ((size_t)(end - p) >= len && memcmp(p, literal, len) == 0) {
        return p + len;
    }

    for (i = 0; p + i < end && p[i] == (unsigned char)literal[i]; i++) {
        /* to the first byte that differs */
    }

    return fail(scan, HP_JSON_SYNTAX, p + i);
}

/* White space inside a value. */
static inline const unsigned char *scan_space(scan_t *scan,
                                              const unsigned char *p)
{
    if (p < scan->end && *p <= ' ') {
        const unsigned char *start = p;

        p = hp_skip_space(p, scan->end);
        scan->spaced |= p != start;
    }

    return p;
}

/* A member's name up to its value: p is where the name should begin; gives
 * where the value should. */
static inline const unsigned char *
scan_name(scan_t *scan, const unsigned char *p, hp_str_t *name)
{
    if (p == scan->end || *p != '"') {
        return fail(scan, HP_JSON_SYNTAX, p);
    }

    name->data = ++p;
    p = scan_string(scan, p);

    if (p == NULL) {
        return NULL;
    }

    name->len = (size_t)(p - name->data) - 1;
    p = scan_space(scan, p);

    if (p == scan->end || *p != ':') {
        return fail(scan, HP_JSON_SYNTAX, p);
    }

    return scan_space(scan, p + 1);
}

/* One whole value beginning at p, with at most `levels` arrays and objects
 * open in it; gives the byte after it, white space behind it not included. */
static const unsigned char *scan_value(scan_t *scan, const unsigned char *p,
                                       unsigned levels)
{
    const unsigned char *end;
    uint64_t objects[(HP_JSON_LEVELS + 63) / 64]; /* bit set: no array */
    uint64_t bit;
    unsigned level, in_object;
    hp_str_t name;

    end = scan->end;
    level = 0;
    in_object = 0;

value:

    if (p == end) {
        return fail(scan, HP_JSON_SYNTAX, p);
    }

    switch (*p) {
    case '"':
        p = scan_string(scan, p + 1);
        break;

    case '{':
    case '[':
        if (level == levels) {
            return fail(scan, HP_JSON_DEPTH, p);
        }

        /* what encloses is kept at its own level; level 0 has nothing */
        if (level % 64 == 0) {
            objects[level / 64] = 0;
        }

        bit = (uint64_t)1 << (level % 64);
        objects[level / 64] &= ~bit;
        objects[level / 64] |= in_object ? bit : 0;

        level++;
        in_object = *p == '{';
        p = scan_space(scan, p + 1);

        if (p < end && *p == (in_object ? '}' : ']')) {
            goto close;
        }

        if (in_object) {
            goto name;
        }

        goto value;

    case '-':
    case '0' ... '9':
        p = scan_number(scan, p);
        break;

    case 't':
        p = scan_literal(scan, p, "true", 4);
        break;

    case 'f':
        p = scan_literal(scan, p, "false", 5);
        break;

    case 'n':
        p = scan_literal(scan, p, "null", 4);
        break;

    default:
        return fail(scan, HP_JSON_SYNTAX, p);
    }

    if (p == NULL) {
        return NULL;
    }

after:

    if (level == 0) {
        return p;
    }

    p = scan_space(scan, p);

    if (p == end) {
        return fail(scan, HP_JSON_SYNTAX, p);
    }

    if (*p == ',') {
        p = scan_space(scan, p + 1);

        if (in_object) {
            goto name;
        }

        goto value;
    }

    if (*p != (in_object ? '}' : ']')) {
        return fail(scan, HP_JSON_SYNTAX, p);
    }

close:

    p++;
    level--;
    in_object = (objects[level / 64] >> (level % 64)) & 1;
    goto after;

name:

    p = scan_name(scan, p, &name);

    if (p == NULL) {
        return NULL;
    }

    goto value;
}

/* Behind a '{' (first) or a member's value: gives where the next name should
 * begin, or, with scan->closed set, the byte after the '}'. */
static inline const unsigned char *
scan_member(scan_t *scan, const unsigned char *p, int first)
{
    p = hp_skip_space(p, scan->end);

    if (p < scan->end && *p == '}') {
        scan->closed = 1;
        return p + 1;
    }

    if (first) {
        return p;
    }

    if (p == scan->end || *p != ',') {
        return fail(scan, HP_JSON_SYNTAX, p);
    }

    return hp_skip_space(p + 1, scan->end);
}

/* The value at p, which becomes *slice; quotes of a string included. */
static inline const unsigned char *scan_slice(scan_t *scan,
                                              const unsigned char *p,
                                              unsigned levels,
                                              hp_json_slice_t *slice)
{
    slice->raw.data = p;
    scan->escaped = 0;
    scan->spaced = 0;
    p = scan_value(scan, p, levels);

    if (p != NULL) {
        slice->raw.len = (size_t)(p - slice->raw.data);
        slice->present = 1;
        slice->escaped = scan->escaped;
        slice->spaced = scan->spaced;
    }

    return p;
}

static inline void unquote(hp_json_slice_t *slice)
{
    slice->raw.data++;
    slice->raw.len -= 2;
}

static inline unsigned levels_of(unsigned max_depth)
{
    max_depth = max_depth > 0 ? max_depth : 1;
    return max_depth < HP_JSON_LEVELS ? max_depth : HP_JSON_LEVELS;
}

/* To the first byte of the top-level value. */
static inline const unsigned char *scan_begin(scan_t *scan, hp_str_t text)
{
    const unsigned char *p;

    memset(scan, 0, sizeof(*scan));

    if (text.len == 0) {
        return fail(scan, HP_JSON_EMPTY, text.data);
    }

    scan->end = text.data + text.len;
    p = hp_skip_space(text.data, scan->end);

    return p < scan->end ? p : fail(scan, HP_JSON_EMPTY, p);
}

/* From behind the top-level value to the end: nothing else may follow. */
static inline const unsigned char *scan_end(scan_t *scan,
                                            const unsigned char *p)
{
    p = hp_skip_space(p, scan->end);

    return p == scan->end ? p : fail(scan, HP_JSON_TRAILING, p);
}

hp_json_status_t hp_json_check(hp_str_t text, unsigned max_depth,
                               size_t *error_offset)
{
    const unsigned char *p;
    scan_t scan;

    *error_offset = 0;
    p = scan_begin(&scan, text);

    if (p != NULL) {
        p = scan_value(&scan, p, levels_of(max_depth));
    }

    if (p == NULL || scan_end(&scan, p) == NULL) {
        *error_offset = (size_t)(scan.error - text.data);
    }

    return scan.status;
}

/* Reads the character at *p of a string's inside, resolving an escape, into
 * dst; gives its length and moves *p. Of an inside that was not checked a
 * broken escape gives its first byte as it stands. */
static unsigned decode(unsigned char dst[4], const unsigned char **p,
                       const unsigned char *end)
{
    const unsigned char *in, *bad;
    int32_t code, low;

    in = *p;
    dst[0] = *in;
    *p = in + 1;

    if (*in != '\\' || end - in < 2) {
        return 1;
    }

    if (hp_char_escape[in[1]] != 0) {
        *p = in + 2;
        dst[0] = hp_char_escape[in[1]];
        return 1;
    }

    code = in[1] == 'u' ? hp_hex4(in + 2, end, &bad) : -1;

    if (code < 0) {
        return 1;
    }

    *p = in + 6;

    if (code >= 0xd800 && code <= 0xdbff && end - in >= 12 && in[6] == '\\' &&
        in[7] == 'u') {
        low = hp_hex4(in + 8, end, &bad);

        if (low >= 0xdc00 && low <= 0xdfff) {
            *p = in + 12;
            code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
        }
    }

    return hp_utf8_write(dst, (uint32_t)code);
}

size_t hp_json_unescape(unsigned char *dst, hp_str_t raw)
{
    const unsigned char *p, *end, *slash;
    unsigned char *out;
    unsigned len;
    size_t run;
    unsigned char character[4];

    if (raw.len == 0) {
        return 0;
    }

    p = raw.data;
    end = p + raw.len;
    out = dst;

    while (p < end) {
        slash = memchr(p, '\\', (size_t)(end - p));
        run = (size_t)((slash == NULL ? end : slash) - p);
        memmove(out, p, run);
        out += run;
        p += run;

        if (p < end) {
            len = decode(character, &p, end);
            memcpy(out, character, len);
            out += len;
        }
    }

    return (size_t)(out - dst);
}

/* Whether a checked name, escapes resolved, is `name`. */
static int same_name(hp_str_t raw, hp_str_t name)
{
    const unsigned char *p, *end;
    unsigned len;
    size_t done;
    unsigned char character[4];

    if (raw.len == name.len &&
        (name.len == 0 || memcmp(raw.data, name.data, name.len) == 0)) {
        /* escapes would have made it shorter, unless it holds none */
        return name.len == 0 || memchr(raw.data, '\\', raw.len) == NULL;
    }

    if (raw.len <= name.len) {
        return 0;
    }

    p = raw.data;
    end = p + raw.len;

    for (done = 0; p < end; done += len) {
        len = decode(character, &p, end);

        if (len > name.len - done ||
            memcmp(character, name.data + done, len) != 0) {
            return 0;
        }
    }

    return done == name.len;
}

/* The members of the envelope whose '{' is at p. */
static inline const unsigned char *scan_event(scan_t *scan,
                                              const unsigned char *p,
                                              unsigned levels,
                                              hp_json_event_t *event)
{
    static const hp_str_t payload = HP_STR("payload");
    static const hp_str_t type = HP_STR("eventType");
    static const hp_str_t key = HP_STR("idempotencyKey");

    hp_json_slice_t *slice;
    hp_str_t name;

    if (*p != '{') {
        return fail(scan,
                    hp_char_class[*p] & HP_CHAR_STARTS ? HP_JSON_NOT_OBJECT
                                                       : HP_JSON_SYNTAX,
                    p);
    }

    p = scan_member(scan, p + 1, 1);

    while (p != NULL && !scan->closed) {
        p = scan_name(scan, p, &name);

        if (p == NULL) {
            return NULL;
        }

        if (same_name(name, payload)) {
            slice = &event->payload;
        } else if (same_name(name, type)) {
            slice = &event->type;
        } else if (same_name(name, key)) {
            slice = &event->key;
        } else {
            return fail(scan, HP_JSON_MEMBER_UNKNOWN, name.data - 1);
        }

        if (slice->present) {
            return fail(scan, HP_JSON_MEMBER_DUPLICATE, name.data - 1);
        }

        if (slice != &event->payload && p < scan->end && *p != '"' &&
            (hp_char_class[*p] & HP_CHAR_STARTS)) {
            return fail(scan, HP_JSON_MEMBER_TYPE, p);
        }

        p = scan_slice(scan, p, levels - 1, slice);

        if (p == NULL) {
            return NULL;
        }

        if (slice != &event->payload) {
            unquote(slice);
        }

        p = scan_member(scan, p, 0);
    }

    return p;
}

hp_json_status_t hp_json_event(hp_str_t text, unsigned max_depth,
                               hp_json_event_t *event)
{
    const unsigned char *p;
    scan_t scan;

    memset(event, 0, sizeof(*event));
    p = scan_begin(&scan, text);

    if (p != NULL) {
        p = scan_event(&scan, p, levels_of(max_depth), event);
    }

    if (p == NULL || scan_end(&scan, p) == NULL) {
        event->error_offset = (size_t)(scan.error - text.data);
    }

    return scan.status;
}

size_t hp_json_compact(unsigned char *dst, hp_str_t raw)
{
    const unsigned char *p, *end, *start;
    unsigned char *out;

    if (raw.len == 0) {
        return 0;
    }

    p = raw.data;
    end = p + raw.len;
    out = dst;

    while (p < end) {
        start = p;

        /* up to the next white space that is not inside a string */
        while (p < end && !(hp_char_class[*p] & HP_CHAR_SPACE)) {
            if (*p++ != '"') {
                continue;
            }

            while (p < end && *p != '"') {
                p += *p == '\\' && end - p > 1 ? 2 : 1;
                p = hp_skip_plain(p, end);
            }

            p += p < end;
        }

        memmove(out, start, (size_t)(p - start));
        out += p - start;
        p = hp_skip_space(p, end);
    }

    return (size_t)(out - dst);
}

int hp_json_member(hp_str_t object, hp_str_t name, hp_json_slice_t *value,
                   int *is_string)
{
    const unsigned char *p;
    hp_json_slice_t slice = {0};
    hp_str_t member;
    scan_t scan;

    memset(value, 0, sizeof(*value));
    *is_string = 0;

    p = scan_begin(&scan, object);

    if (p == NULL || *p != '{') {
        return 0;
    }

    p = scan_member(&scan, p + 1, 1);

    while (p != NULL && !scan.closed) {
        p = scan_name(&scan, p, &member);
        p = p == NULL ? NULL : scan_slice(&scan, p, HP_JSON_LEVELS, &slice);

        if (p == NULL) {
            break;
        }

        if (same_name(member, name)) {
            *value = slice;
        }

        p = scan_member(&scan, p, 0);
    }

    if (value->present && value->raw.data[0] == '"') {
        *is_string = 1;
        unquote(value);
    }

    return value->present;
}

size_t hp_json_escape(unsigned char *dst, size_t size, hp_str_t text)
{
    const unsigned char *p, *end;
    unsigned char piece[6], c;
    size_t written;
    unsigned len;

    if (text.len == 0) {
        return 0;
    }

    p = text.data;
    end = p + text.len;
    written = 0;

    for (/* void */; p < end; written += len) {
        len = hp_utf8_length(p, end);

        if (len == 0) {
            len = 3;
            memcpy(piece, "\xef\xbf\xbd", 3);
            p++;

        } else if (len > 1 || (hp_char_class[*p] & HP_CHAR_PLAIN)) {
            memcpy(piece, p, len);
            p += len;

        } else {
            /* to the short form, if there is one; 0 is no entry */
            for (c = 'b'; c <= 't'; c++) {
                if (*p != 0 && hp_char_escape[c] == *p) {
                    break;
                }
            }

            piece[0] = '\\';
            piece[1] = c <= 't' ? c : *p;
            len = 2;

            if (c > 't' && *p < 0x20) {
                memcpy(piece + 1, "u00", 3);
                piece[4] = hp_hex_digit(*p >> 4);
                piece[5] = hp_hex_digit(*p);
                len = 6;
            }

            p++;
        }

        if (len > size - written) {
            break;
        }

        memcpy(dst + written, piece, len);
    }

    return written;
}
