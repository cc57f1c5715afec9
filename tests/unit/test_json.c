/*
 * test_json.c: unit tests of hp_json_check() in ngx_module/core/hp_json.c; what
 * else is in that file is tested by test_json_event.c.
 *
 * RFC 8259 by lists of what is taken and what is refused, with the status and
 * the byte of every refusal; then what lists cannot show: every byte value
 * inside a string, every UTF-8 sequence of two bytes and the edges of the
 * longer ones, at every place within the bytes, eight or sixteen, that the
 * scanner takes at once; every accepted text cut at every length; numbers at
 * the limits of PostgreSQL's numeric (the expectations were taken from a real
 * server).
 *
 * Every input is a block of exactly its size, so that AddressSanitizer sees a
 * byte read too far. One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_json.h"
#include "json_texts.h"

static hp_json_status_t check_text(const char *text)
{
    size_t offset;

    return check_bytes(text, strlen(text), DEPTH, &offset);
}

static void expect(const char *text, size_t len, hp_json_status_t expected,
                   size_t expected_offset)
{
    hp_json_status_t status;
    size_t offset;

    offset = 0;
    status = check_bytes(text, len, DEPTH, &offset);

    if (status != expected ||
        (expected != HP_JSON_OK && offset != expected_offset)) {
        fail_msg("%.*s: %s at %zu, not %s at %zu", (int)len, text,
                 hp_json_code(status), offset, hp_json_code(expected),
                 expected_offset);
    }
}

static void test_accepted(void **state)
{
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(accepted); i++) {
        expect(accepted[i], strlen(accepted[i]), HP_JSON_OK, 0);
    }
}

/* Every place at which an accepted text ends too early is its end, unless what
 * stands is a shorter text. */
static void test_cut(void **state)
{
    hp_json_status_t status;
    size_t i, len, full, offset;

    (void)state;

    for (i = 0; i < COUNT_OF(accepted); i++) {
        full = strlen(accepted[i]);

        for (len = 0; len < full; len++) {
            offset = (size_t)-1;
            status = check_bytes(accepted[i], len, DEPTH, &offset);

            switch (status) {
            case HP_JSON_OK:
                break;
            case HP_JSON_SYNTAX:
            case HP_JSON_EMPTY:
                assert_int_equal(offset, len);
                break;
            case HP_JSON_UTF8:
                assert_true(offset < len && len - offset < 4);
                break;
            case HP_JSON_SURROGATE:
                assert_true(offset < len && len - offset < 12);
                break;
            default:
                fail_msg("%.*s: %s", (int)len, accepted[i],
                         hp_json_code(status));
            }
        }
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *text;
        hp_json_status_t status;
        size_t offset;
    } cases[] = {
        {"", HP_JSON_EMPTY, 0},
        {" \t\r\n", HP_JSON_EMPTY, 4},
        /* not a value */
        {"x", HP_JSON_SYNTAX, 0},
        {" x", HP_JSON_SYNTAX, 1},
        {"'a'", HP_JSON_SYNTAX, 0},
        {"]", HP_JSON_SYNTAX, 0},
        {"}", HP_JSON_SYNTAX, 0},
        {",", HP_JSON_SYNTAX, 0},
        {":", HP_JSON_SYNTAX, 0},
        {"\xef\xbb\xbf"
         "1",
         HP_JSON_SYNTAX, 0},
        {"\xc2\xa0"
         "1",
         HP_JSON_SYNTAX, 0},
        {"\f1", HP_JSON_SYNTAX, 0},
        {"\v1", HP_JSON_SYNTAX, 0},
        {"/**/1", HP_JSON_SYNTAX, 0},
        {"\\u0031", HP_JSON_SYNTAX, 0},
        {"NaN", HP_JSON_SYNTAX, 0},
        {"Infinity", HP_JSON_SYNTAX, 0},
        {"-Infinity", HP_JSON_SYNTAX, 1},
        {"undefined", HP_JSON_SYNTAX, 0},
        /* literals */
        {"nul", HP_JSON_SYNTAX, 3},
        {"nulL", HP_JSON_SYNTAX, 3},
        {"Null", HP_JSON_SYNTAX, 0},
        {"tru", HP_JSON_SYNTAX, 3},
        {"trux", HP_JSON_SYNTAX, 3},
        {"fals", HP_JSON_SYNTAX, 4},
        {"falsy", HP_JSON_SYNTAX, 4},
        {"n", HP_JSON_SYNTAX, 1},
        {"truee", HP_JSON_TRAILING, 4},
        {"[truee]", HP_JSON_SYNTAX, 5},
        {"[nullnull]", HP_JSON_SYNTAX, 5},
        /* numbers */
        {"-", HP_JSON_SYNTAX, 1},
        {"+1", HP_JSON_SYNTAX, 0},
        {"--1", HP_JSON_SYNTAX, 1},
        {"-a", HP_JSON_SYNTAX, 1},
        {".5", HP_JSON_SYNTAX, 0},
        {"-.5", HP_JSON_SYNTAX, 1},
        {"1.", HP_JSON_SYNTAX, 2},
        {"1.e1", HP_JSON_SYNTAX, 2},
        {"[1.]", HP_JSON_SYNTAX, 3},
        {"1.x", HP_JSON_SYNTAX, 2},
        {"1e", HP_JSON_SYNTAX, 2},
        {"1e+", HP_JSON_SYNTAX, 3},
        {"1e-", HP_JSON_SYNTAX, 3},
        {"1e+-1", HP_JSON_SYNTAX, 3},
        {"1ee1", HP_JSON_SYNTAX, 2},
        {"1e1.5", HP_JSON_TRAILING, 3},
        {"01", HP_JSON_TRAILING, 1},
        {"-01", HP_JSON_TRAILING, 2},
        {"[01]", HP_JSON_SYNTAX, 2},
        {"[-012]", HP_JSON_SYNTAX, 3},
        {"0x1", HP_JSON_TRAILING, 1},
        {"1_000", HP_JSON_TRAILING, 1},
        {"1.2.3", HP_JSON_TRAILING, 3},
        {"[1 2]", HP_JSON_SYNTAX, 3},
        {"1\xef\xbc\x91", HP_JSON_TRAILING, 1},
        {"1e1000000000000000000000", HP_JSON_NUMBER, 0},
        {"[1,-1e131072]", HP_JSON_NUMBER, 3},
        {"{\"a\":1e-16384}", HP_JSON_NUMBER, 5},
        /* strings */
        {"\"", HP_JSON_SYNTAX, 1},
        {"\"abc", HP_JSON_SYNTAX, 4},
        {"\"abcdefghijkl", HP_JSON_SYNTAX, 13},
        {"\"a\nb\"", HP_JSON_SYNTAX, 2},
        {"\"a\tb\"", HP_JSON_SYNTAX, 2},
        {"\"abcdefgh\x1f\"", HP_JSON_SYNTAX, 9},
        {"\"\\", HP_JSON_SYNTAX, 2},
        {"\"\\\"", HP_JSON_SYNTAX, 3},
        {"\"\\a\"", HP_JSON_SYNTAX, 2},
        {"\"\\'\"", HP_JSON_SYNTAX, 2},
        {"\"\\x41\"", HP_JSON_SYNTAX, 2},
        {"\"\\0\"", HP_JSON_SYNTAX, 2},
        {"\"\\U0041\"", HP_JSON_SYNTAX, 2},
        {"\"\\\n\"", HP_JSON_SYNTAX, 2},
        {"\"\\\xc3\xa4\"", HP_JSON_SYNTAX, 2},
        {"\"\\u\"", HP_JSON_SYNTAX, 3},
        {"\"\\u1\"", HP_JSON_SYNTAX, 4},
        {"\"\\u12\"", HP_JSON_SYNTAX, 5},
        {"\"\\u123\"", HP_JSON_SYNTAX, 6},
        {"\"\\u123", HP_JSON_SYNTAX, 6},
        {"\"\\u12G4\"", HP_JSON_SYNTAX, 5},
        {"\"\\u 123\"", HP_JSON_SYNTAX, 3},
        {"\"\\u+123\"", HP_JSON_SYNTAX, 3},
        {"\"a\"b", HP_JSON_TRAILING, 3},
        {"\"a\" \"b\"", HP_JSON_TRAILING, 4},
        {"[\"a\" \"b\"]", HP_JSON_SYNTAX, 5},
        /* what jsonb refuses */
        {"\"\\u0000\"", HP_JSON_NUL, 1},
        {"\"abc\\u0000\"", HP_JSON_NUL, 4},
        {"{\"\\u0000\":1}", HP_JSON_NUL, 2},
        {"\"\\ud800\"", HP_JSON_SURROGATE, 1},
        {"\"\\udbff\"", HP_JSON_SURROGATE, 1},
        {"\"\\udc00\"", HP_JSON_SURROGATE, 1},
        {"\"\\uDFFF\"", HP_JSON_SURROGATE, 1},
        {"\"a\\ud800a\"", HP_JSON_SURROGATE, 2},
        {"\"\\ud800\\n\"", HP_JSON_SURROGATE, 1},
        {"\"\\ud800\\u0041\"", HP_JSON_SURROGATE, 1},
        {"\"\\ud800\\ud800\"", HP_JSON_SURROGATE, 1},
        {"\"\\ud800\\ue000\"", HP_JSON_SURROGATE, 1},
        {"\"\\udc00\\ud800\"", HP_JSON_SURROGATE, 1},
        {"\"\\udc00\\udc00\"", HP_JSON_SURROGATE, 1},
        {"\"\\ud800\\udc00\\udc00\"", HP_JSON_SURROGATE, 13},
        {"\"\\ud800\\u12\"", HP_JSON_SYNTAX, 11},
        {"\"\\ud800\\udcG0\"", HP_JSON_SYNTAX, 11},
        /* arrays */
        {"[", HP_JSON_SYNTAX, 1},
        {"[ ", HP_JSON_SYNTAX, 2},
        {"[,", HP_JSON_SYNTAX, 1},
        {"[,1]", HP_JSON_SYNTAX, 1},
        {"[1,]", HP_JSON_SYNTAX, 3},
        {"[1,,2]", HP_JSON_SYNTAX, 3},
        {"[1", HP_JSON_SYNTAX, 2},
        {"[1,", HP_JSON_SYNTAX, 3},
        {"[1}", HP_JSON_SYNTAX, 2},
        {"[}", HP_JSON_SYNTAX, 1},
        {"[1:2]", HP_JSON_SYNTAX, 2},
        {"[\"a\":1]", HP_JSON_SYNTAX, 4},
        {"[1]]", HP_JSON_TRAILING, 3},
        {"[][]", HP_JSON_TRAILING, 2},
        {"[[]", HP_JSON_SYNTAX, 3},
        {"[1,/**/2]", HP_JSON_SYNTAX, 3},
        {"[1]x", HP_JSON_TRAILING, 3},
        {"[1] #", HP_JSON_TRAILING, 4},
        {"[1],", HP_JSON_TRAILING, 3},
        {"[\xe2\x81\xa0]", HP_JSON_SYNTAX, 1},
        {"[\f]", HP_JSON_SYNTAX, 1},
        /* objects */
        {"{", HP_JSON_SYNTAX, 1},
        {"{,", HP_JSON_SYNTAX, 1},
        {"{]", HP_JSON_SYNTAX, 1},
        {"{1:1}", HP_JSON_SYNTAX, 1},
        {"{null:1}", HP_JSON_SYNTAX, 1},
        {"{a:1}", HP_JSON_SYNTAX, 1},
        {"{'a':1}", HP_JSON_SYNTAX, 1},
        {"{\"a\"", HP_JSON_SYNTAX, 4},
        {"{\"a\"}", HP_JSON_SYNTAX, 4},
        {"{\"a\",", HP_JSON_SYNTAX, 4},
        {"{\"a\":", HP_JSON_SYNTAX, 5},
        {"{\"a\":}", HP_JSON_SYNTAX, 5},
        {"{\"a\"::1}", HP_JSON_SYNTAX, 5},
        {"{\"a\" 1}", HP_JSON_SYNTAX, 5},
        {"{\"a\":1", HP_JSON_SYNTAX, 6},
        {"{\"a\":1,", HP_JSON_SYNTAX, 7},
        {"{\"a\":1,}", HP_JSON_SYNTAX, 7},
        {"{\"a\":1,,\"b\":2}", HP_JSON_SYNTAX, 7},
        {"{\"a\":1 \"b\":2}", HP_JSON_SYNTAX, 7},
        {"{\"a\":1]", HP_JSON_SYNTAX, 6},
        {"{\"a\":1,\"b\"}", HP_JSON_SYNTAX, 10},
        {"{\"a\":1}}", HP_JSON_TRAILING, 7},
        {"{\"a\":[1}", HP_JSON_SYNTAX, 7},
        {"{\"a\":{]}", HP_JSON_SYNTAX, 6},
        {"[{]", HP_JSON_SYNTAX, 2},
        {"[{}}", HP_JSON_SYNTAX, 3},
        {"{}[]", HP_JSON_TRAILING, 2},
        {"{\"a\":1}//", HP_JSON_TRAILING, 7},
        {"{\"a\nb\":1}", HP_JSON_SYNTAX, 3},
        {"{\"a\\q\":1}", HP_JSON_SYNTAX, 4},
        {"{\"\xff\":1}", HP_JSON_UTF8, 2},
        {"*", HP_JSON_SYNTAX, 0},
        {"{\"a\":1,...}", HP_JSON_SYNTAX, 7},
    };

    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        expect(cases[i].text, strlen(cases[i].text), cases[i].status,
               cases[i].offset);
    }

    /* a zero byte is a byte like others, never an end */
    expect("1\0", 2, HP_JSON_TRAILING, 1);
    expect("\0", 1, HP_JSON_SYNTAX, 0);
    expect("\"\0\"", 3, HP_JSON_SYNTAX, 1);
    expect("[1\0]", 4, HP_JSON_SYNTAX, 2);
    expect("tru\0", 4, HP_JSON_SYNTAX, 3);
}

/* Every byte value alone in a string, with every number of letters before it
 * and behind it that changes which loop of the scanner sees it. */
static void test_every_byte(void **state)
{
    hp_json_status_t status, expected;
    char text[80];
    size_t before, behind, len, offset;
    int c;

    (void)state;

    for (c = 0; c < 256; c++) {
        for (before = 0; before < 34; before++) {
            for (behind = 0; behind < 34; behind += 3) {
                len = 0;
                text[len++] = '"';
                memset(text + len, 'x', before);
                len += before;
                text[len++] = (char)c;
                memset(text + len, 'x', behind);
                len += behind;
                text[len++] = '"';

                status = check_bytes(text, len, DEPTH, &offset);

                if (c == '"') {
                    expected = HP_JSON_TRAILING;
                    assert_int_equal(offset, before + 2);
                } else if (c == '\\') {
                    expected = HP_JSON_SYNTAX;
                    assert_int_equal(offset, behind ? before + 2 : len);
                } else if (c < 0x20) {
                    expected = HP_JSON_SYNTAX;
                    assert_int_equal(offset, before + 1);
                } else if (c >= 0x80) {
                    expected = HP_JSON_UTF8;
                    assert_int_equal(offset, before + 1);
                } else {
                    expected = HP_JSON_OK;
                }

                assert_int_equal(status, expected);
            }
        }
    }
}

/* A decoder written the other way round: is this sequence the encoding of a
 * code point that is no surrogate? */
static int is_utf8(const unsigned char *p, size_t len)
{
    uint32_t code;
    unsigned char again[4];
    size_t i;

    code = p[0] & (len == 2 ? 0x1f : len == 3 ? 0x0f : 0x07);

    for (i = 1; i < len; i++) {
        code = code << 6 | (p[i] & 0x3f);
    }

    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ||
        code < (len == 2   ? 0x80u
                : len == 3 ? 0x800u
                           : 0x10000u)) {
        return 0;
    }

    for (i = len; i-- > 1;) {
        again[i] = (unsigned char)(0x80 | (code & 0x3f));
        code >>= 6;
    }

    again[0] = (unsigned char)(code | (len == 2   ? 0xc0
                                       : len == 3 ? 0xe0
                                                  : 0xf0));
    return memcmp(again, p, len) == 0;
}

static void test_utf8(void **state)
{
    /* around every edge of table 3-7 */
    static const unsigned char edges[] = {0x00, 0x22, 0x41, 0x7f, 0x80,
                                          0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                          0xc0, 0xc2, 0xe0, 0xff};

    unsigned char text[16];
    size_t len, i, j, k, offset, pad;
    hp_str_t copy;
    int first;

    (void)state;

    for (pad = 0; pad < 9; pad += 4) {
        for (first = 0xc0; first < 0x100; first++) {
            len = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

            for (i = 0; i < COUNT_OF(edges); i++) {
                for (j = 0; j < (len > 2 ? COUNT_OF(edges) : 1); j++) {
                    for (k = 0; k < (len > 3 ? COUNT_OF(edges) : 1); k++) {
                        text[0] = '"';
                        memset(text + 1, 'y', pad);
                        text[pad + 1] = (unsigned char)first;
                        text[pad + 2] = edges[i];
                        text[pad + 3] = edges[j];
                        text[pad + 4] = edges[k];
                        text[pad + 1 + len] = '"';
                        copy = exact(text, pad + len + 2);

                        if (is_utf8(text + pad + 1, len)) {
                            assert_int_equal(
                                hp_json_check(copy, DEPTH, &offset),
                                HP_JSON_OK);
                        } else {
                            assert_int_equal(
                                hp_json_check(copy, DEPTH, &offset),
                                HP_JSON_UTF8);
                            assert_int_equal(offset, pad + 1);
                        }

                        drop(&copy);
                    }
                }
            }
        }
    }

    /* where the second sequence of two is the broken one */
    expect("\"\xc3\xa4\xc3\"", 5, HP_JSON_UTF8, 3);
    expect("\"\xe2\x82\xac\xe2\x82\"", 7, HP_JSON_UTF8, 4);
    expect("\"\xf0\x9f\x98\x80\xf0\x9f\x98", 8, HP_JSON_UTF8, 5);
    expect("\"\xc3\xa4\xa4\"", 5, HP_JSON_UTF8, 3);
}

/* Texts of `count` open brackets and as many closed ones. */
static hp_json_status_t check_nested(char open, char close, size_t count,
                                     unsigned depth, size_t *offset)
{
    hp_json_status_t status;
    char *text;

    text = malloc(2 * count);
    assert_non_null(text);
    memset(text, open, count);
    memset(text + count, close, count);
    status = check_bytes(text, 2 * count, depth, offset);
    free(text);
    return status;
}

static void test_depth(void **state)
{
    static const unsigned depths[] = {1,   2,   3,   31,  63,  64,  65,
                                      127, 128, 129, 512, 999, 1000};

    size_t i, offset;

    (void)state;

    for (i = 0; i < COUNT_OF(depths); i++) {
        assert_int_equal(check_nested('[', ']', depths[i], depths[i], &offset),
                         HP_JSON_OK);
        assert_int_equal(
            check_nested('[', ']', depths[i] + 1, depths[i], &offset),
            HP_JSON_DEPTH);
        assert_int_equal(offset, depths[i]);
    }

    /* outside its range the bound is the nearest one within */
    assert_int_equal(check_nested('[', ']', 1, 0, &offset), HP_JSON_OK);
    assert_int_equal(check_nested('[', ']', 2, 0, &offset), HP_JSON_DEPTH);
    assert_int_equal(check_nested('[', ']', 1000, 5000, &offset), HP_JSON_OK);
    assert_int_equal(check_nested('[', ']', 1001, 5000, &offset),
                     HP_JSON_DEPTH);
    assert_int_equal(offset, 1000);
    assert_int_equal(check_nested('[', ']', 1000000, 1000, &offset),
                     HP_JSON_DEPTH);

    /* it counts what is open at once, not what was opened */
    assert_int_equal(check_bytes("[[],[],{},[]]", 13, 2, &offset), HP_JSON_OK);
    assert_int_equal(check_bytes("[[],[[]]]", 9, 2, &offset), HP_JSON_DEPTH);
    assert_int_equal(offset, 5);
    assert_int_equal(check_bytes("{\"a\":{}}", 8, 1, &offset), HP_JSON_DEPTH);
    assert_int_equal(offset, 5);
    assert_int_equal(check_bytes("\"[[[[\"", 6, 1, &offset), HP_JSON_OK);
}

/* Random nesting of both kinds, closed rightly, and with one bracket wrong. */
static void test_nesting(void **state)
{
    char text[4 * 1000 + 8 * 1000], stack[1000];
    uint64_t random = 99;
    size_t len, level, opened, wrong, offset;
    int round, empty;

    (void)state;

    for (round = 0; round < 400; round++) {
        len = level = opened = 0;
        empty = 1;
        wrong = (size_t)-1;

        while (opened < 900 || level > 0) {
            if (opened < 900 && level < 1000 &&
                (level == 0 || next_random(&random) % 5 < 3)) {
                if (level == 0 && opened > 0) {
                    break;
                }

                if (!empty) {
                    text[len++] = ',';
                }

                if (level > 0 && stack[level - 1] == '}') {
                    memcpy(text + len, "\"k\":", 4);
                    len += 4;
                }

                stack[level] = next_random(&random) % 2 ? '}' : ']';
                text[len++] = stack[level] == '}' ? '{' : '[';
                level++;
                opened++;
                empty = 1;
                continue;
            }

            level--;
            text[len] = stack[level];

            if (round % 2 && wrong == (size_t)-1 &&
                next_random(&random) % 40 == 0) {
                text[len] = stack[level] == '}' ? ']' : '}';
                wrong = len;
            }

            len++;
            empty = 0;
        }

        if (wrong == (size_t)-1) {
            assert_int_equal(check_bytes(text, len, 1000, &offset), HP_JSON_OK);
        } else {
            assert_int_equal(check_bytes(text, len, 1000, &offset),
                             HP_JSON_SYNTAX);
            assert_int_equal(offset, wrong);
        }
    }
}

/* `count` times `c` between two texts. */
static hp_json_status_t check_long(const char *before, char c, size_t count,
                                   const char *behind)
{
    hp_json_status_t status;
    size_t len, offset;
    char *text;

    len = strlen(before) + count + strlen(behind);
    text = malloc(len + 1);
    assert_non_null(text);
    strcpy(text, before);
    memset(text + strlen(before), c, count);
    strcpy(text + strlen(before) + count, behind);
    status = check_bytes(text, len, DEPTH, &offset);

    if (status != HP_JSON_OK) {
        assert_int_equal(offset, 0);
    }

    free(text);
    return status;
}

static void test_number_range(void **state)
{
    static const struct {
        const char *text;
        int fits;
    } cases[] = {
        {"1e131071", 1},
        {"1e131072", 0},
        {"-9.99E+131071", 1},
        {"-9.99E+131072", 0},
        {"10e131070", 1},
        {"10e131071", 0},
        {"0.1e131072", 1},
        {"0.1e131073", 0},
        {"0.00001e131076", 1},
        {"0.00001e131077", 0},
        {"12345e131067", 1},
        {"12345e131068", 0},
        {"1e-16383", 1},
        {"1e-16384", 0},
        {"1.5e-16382", 1},
        {"1.5e-16383", 0},
        {"100e-16383", 1},
        {"100e-16384", 0},
        {"1.000000e-16377", 1},
        {"1.000000e-16378", 0},
        {"0e131072", 1},
        {"0e999999999", 1},
        {"-0.000e+999999999", 1},
        {"0e1073741822", 1},
        {"0e1073741823", 0},
        {"0e0001073741822", 1},
        {"0e2147483648", 0},
        {"0e4294967296", 0},
        {"0e18446744073709551616", 0},
        {"0e-16383", 1},
        {"0e-16384", 0},
        {"0e-1073741822", 0},
        {"0e-99999999999999999999", 0},
        {"1e00000000000000000000000000000001", 1},
        {"1e-00000000000000000000000000000001", 1},
        {"1e9223372036854775807", 0},
        {"1e9223372036854775808", 0},
        {"1e-9223372036854775809", 0},
    };

    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        if (check_text(cases[i].text) !=
            (cases[i].fits ? HP_JSON_OK : HP_JSON_NUMBER)) {
            fail_msg("wrong: %s", cases[i].text);
        }
    }

    assert_int_equal(check_long("", '9', 131072, ""), HP_JSON_OK);
    assert_int_equal(check_long("", '9', 131073, ""), HP_JSON_NUMBER);
    assert_int_equal(check_long("", '9', 131072, ".25"), HP_JSON_OK);
    assert_int_equal(check_long("", '9', 131073, ".25"), HP_JSON_NUMBER);
    assert_int_equal(check_long("", '9', 131080, "e-8"), HP_JSON_OK);
    assert_int_equal(check_long("", '9', 131080, "e-7"), HP_JSON_NUMBER);
    assert_int_equal(check_long("0.", '1', 16383, ""), HP_JSON_OK);
    assert_int_equal(check_long("0.", '1', 16384, ""), HP_JSON_NUMBER);
    assert_int_equal(check_long("0.", '0', 16383, ""), HP_JSON_OK);
    assert_int_equal(check_long("0.", '0', 16384, ""), HP_JSON_NUMBER);
    assert_int_equal(check_long("0.", '0', 16383, "1"), HP_JSON_NUMBER);
    assert_int_equal(check_long("0.", '3', 16390, "e7"), HP_JSON_OK);
    assert_int_equal(check_long("0.", '3', 16390, "e6"), HP_JSON_NUMBER);
    assert_int_equal(check_long("0.", '0', 140000, "1e140001"), HP_JSON_OK);
    assert_int_equal(check_long("1e", '0', 200000, "1"), HP_JSON_OK);
    assert_int_equal(check_long("1e-", '0', 200000, "16384"), HP_JSON_NUMBER);
}

static void test_codes(void **state)
{
    const char *code, *other;
    int i, j;

    (void)state;
    assert_string_equal(hp_json_code(HP_JSON_OK), "json_ok");
    assert_string_equal(hp_json_code(HP_JSON_SYNTAX), "json_syntax");
    assert_string_equal(hp_json_code(HP_JSON_MEMBER_TYPE), "json_member_type");

    for (i = HP_JSON_OK; i <= HP_JSON_MEMBER_TYPE; i++) {
        code = hp_json_code((hp_json_status_t)i);
        assert_non_null(code);
        assert_memory_equal(code, "json_", 5);

        for (j = HP_JSON_OK; j < i; j++) {
            other = hp_json_code((hp_json_status_t)j);
            assert_string_not_equal(code, other);
        }
    }

    assert_string_equal(hp_json_code((hp_json_status_t)1000), "json_unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_utf8),     cmocka_unit_test(test_depth),
        cmocka_unit_test(test_nesting),  cmocka_unit_test(test_number_range),
        cmocka_unit_test(test_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
