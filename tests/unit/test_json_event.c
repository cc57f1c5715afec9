/*
 * test_json_event.c: unit tests of ngx_module/core/hp_json.c beyond the plain
 * check: the event envelope, and what works on checked text (unescape, compact,
 * member) or writes it (escape).
 *
 * By lists with the expected result of each; by every cut of every input and,
 * for the writer, every size of the output; by random bytes through escape and
 * back. Inputs and outputs are blocks of exactly their size for
 * AddressSanitizer. One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_json.h"
#include "json_texts.h"

/* What was found, as one line: key|type|payload with ? for a missing member
 * and e, s for the flags. */
static hp_json_status_t event_line(const char *text, size_t len, unsigned depth,
                                   char *line, size_t size, size_t *offset)
{
    const hp_json_slice_t *slices[3];
    hp_json_status_t status;
    hp_json_event_t event;
    hp_str_t copy;
    size_t i, used;

    copy = exact(text, len);
    memset(&event, 0xa5, sizeof(event));
    status = hp_json_event(copy, depth, &event);
    *offset = event.error_offset;
    slices[0] = &event.key;
    slices[1] = &event.type;
    slices[2] = &event.payload;

    for (i = 0, used = 0; i < 3 && status == HP_JSON_OK; i++) {
        if (!slices[i]->present) {
            used += (size_t)snprintf(line + used, size - used, "?|");
            assert_int_equal(slices[i]->raw.len, 0);
            continue;
        }

        assert_true(slices[i]->raw.data > copy.data);
        assert_true(slices[i]->raw.data + slices[i]->raw.len <
                    copy.data + copy.len);
        used += (size_t)snprintf(line + used, size - used, "%.*s%s%s|",
                                 (int)slices[i]->raw.len, slices[i]->raw.data,
                                 slices[i]->escaped ? "<e>" : "",
                                 slices[i]->spaced ? "<s>" : "");
    }

    drop(&copy);
    return status;
}

static void test_event(void **state)
{
    static const char *const cases[][2] = {
        {"{\"idempotencyKey\":\"k\",\"eventType\":\"t\",\"payload\":{}}",
         "k|t|{}|"},
        {"{\"payload\":[1],\"eventType\":\"t\",\"idempotencyKey\":\"k\"}",
         "k|t|[1]|"},
        {"{}", "?|?|?|"},
        {" { } ", "?|?|?|"},
        {"{\"eventType\":\"t\"}", "?|t|?|"},
        {"{\"payload\":null}", "?|?|null|"},
        {"{\"payload\":true}", "?|?|true|"},
        {"{\"payload\":-1.5e3}", "?|?|-1.5e3|"},
        {"{\"payload\":\"\"}", "?|?|\"\"|"},
        {"{\"payload\":\"p\"}", "?|?|\"p\"|"},
        {"{\"payload\":\"p q\"}", "?|?|\"p q\"|"},
        {"{\"payload\":\"\\n\"}", "?|?|\"\\n\"<e>|"},
        {"{\"payload\":{\"a\\u0062\":1}}", "?|?|{\"a\\u0062\":1}<e>|"},
        {"{\"payload\":[\"\\\"\"]}", "?|?|[\"\\\"\"]<e>|"},
        {"{\"idempotencyKey\":\"\",\"eventType\":\"\"}", "||?|"},
        {"{\"idempotencyKey\":\"a\\\"b\",\"eventType\":\"c\"}",
         "a\\\"b<e>|c|?|"},
        {"{\"idempotencyKey\":\"a\",\"eventType\":\"c\\\\\"}", "a|c\\\\<e>|?|"},
        /* white space outside a value is nobody's, inside it is its own */
        {" { \"payload\" : {} , \"eventType\" : \"t\" } \n", "?|t|{}|"},
        {"{\"payload\":{ }}", "?|?|{ }<s>|"},
        {"{\"payload\":[1, 2]}", "?|?|[1, 2]<s>|"},
        {"{\"payload\":[1 ,2]}", "?|?|[1 ,2]<s>|"},
        {"{\"payload\":[ 1]}", "?|?|[ 1]<s>|"},
        {"{\"payload\":[1 ]}", "?|?|[1 ]<s>|"},
        {"{\"payload\":{\"a\" :1}}", "?|?|{\"a\" :1}<s>|"},
        {"{\"payload\":{\"a\":\t1}}", "?|?|{\"a\":\t1}<s>|"},
        {"{\"payload\":{\"a\":1\n}}", "?|?|{\"a\":1\n}<s>|"},
        {"{\"payload\":{\"a\":1,\r\"b\":2}}", "?|?|{\"a\":1,\r\"b\":2}<s>|"},
        {"{\"payload\":[[],{\"a\":[ ]}]}", "?|?|[[],{\"a\":[ ]}]<s>|"},
        {"{\"payload\":[\" \"]}", "?|?|[\" \"]|"},
        {"{\"payload\":1 }", "?|?|1|"},
        /* the flags are of one member, not of the one before */
        {"{\"idempotencyKey\":\"\\n\",\"payload\":[ ],\"eventType\":\"t\"}",
         "\\n<e>|t|[ ]<s>|"},
        {"{\"payload\":[ \"\\n\"],\"eventType\":\"t\"}",
         "?|t|[ \"\\n\"]<e><s>|"},
        /* names in escapes, which are not escapes of the value */
        {"{\"\\u0065ventType\":\"t\"}", "?|t|?|"},
        {"{\"event\\u0054ype\":\"t\",\"p\\u0061yload\":1}", "?|t|1|"},
        {"{\"\\u0070\\u0061\\u0079\\u006c\\u006f\\u0061\\u0064\":2}", "?|?|2|"},
        {"{\"idempotency\\u004bey\":\"k\"}", "k|?|?|"},
        /* members of a payload are its own business */
        {"{\"payload\":{\"payload\":1,\"x\":2,\"x\":3}}",
         "?|?|{\"payload\":1,\"x\":2,\"x\":3}|"},
        {"{\"idempotencyKey\":\"\xc3\xa4\xf0\x9f\x98\x80\"}",
         "\xc3\xa4\xf0\x9f\x98\x80|?|?|"},
    };

    hp_json_status_t status;
    char line[256];
    size_t i, offset;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        status = event_line(cases[i][0], strlen(cases[i][0]), DEPTH, line,
                            sizeof(line), &offset);

        if (status != HP_JSON_OK) {
            fail_msg("%s: %s", cases[i][0], hp_json_code(status));
        }

        assert_string_equal(line, cases[i][1]);
    }
}

static void test_event_refused(void **state)
{
    static const struct {
        const char *text;
        hp_json_status_t status;
        size_t offset;
    } cases[] = {
        {"", HP_JSON_EMPTY, 0},
        {"  ", HP_JSON_EMPTY, 2},
        {"x", HP_JSON_SYNTAX, 0},
        {"}", HP_JSON_SYNTAX, 0},
        {"[]", HP_JSON_NOT_OBJECT, 0},
        {" [{}]", HP_JSON_NOT_OBJECT, 1},
        {"\"a\"", HP_JSON_NOT_OBJECT, 0},
        {"1", HP_JSON_NOT_OBJECT, 0},
        {"-1", HP_JSON_NOT_OBJECT, 0},
        {"true", HP_JSON_NOT_OBJECT, 0},
        {"false", HP_JSON_NOT_OBJECT, 0},
        {"null", HP_JSON_NOT_OBJECT, 0},
        {"{", HP_JSON_SYNTAX, 1},
        {"{\"eventType\"", HP_JSON_SYNTAX, 12},
        {"{\"eventType\":", HP_JSON_SYNTAX, 13},
        {"{\"eventType\":\"", HP_JSON_SYNTAX, 14},
        {"{\"eventType\":\"t\"", HP_JSON_SYNTAX, 16},
        {"{\"eventType\":\"t\",", HP_JSON_SYNTAX, 17},
        {"{\"eventType\":\"t\",}", HP_JSON_SYNTAX, 17},
        {"{\"eventType\":x}", HP_JSON_SYNTAX, 13},
        {"{\"eventType\" \"t\"}", HP_JSON_SYNTAX, 13},
        {"{\"eventType\":\"t\"]", HP_JSON_SYNTAX, 16},
        {"{\"eventType\":\"t\" \"payload\":1}", HP_JSON_SYNTAX, 17},
        {"{,}", HP_JSON_SYNTAX, 1},
        {"{payload:1}", HP_JSON_SYNTAX, 1},
        {"{}x", HP_JSON_TRAILING, 2},
        {"{} {}", HP_JSON_TRAILING, 3},
        {"{\"payload\":1}}", HP_JSON_TRAILING, 13},
        {"{\"payload\":1},", HP_JSON_TRAILING, 13},
        {"{\"payload\":\"\xff\"}", HP_JSON_UTF8, 12},
        {"{\"payload\":\"\\u0000\"}", HP_JSON_NUL, 12},
        {"{\"payload\":\"\\ud800\"}", HP_JSON_SURROGATE, 12},
        {"{\"payload\":1e131072}", HP_JSON_NUMBER, 11},
        {"{\"eventType\":\"\\u0000\"}", HP_JSON_NUL, 14},
        {"{\"\\u0000\":1}", HP_JSON_NUL, 2},
        {"{\"\xc0\":1}", HP_JSON_UTF8, 2},
        /* members */
        {"{\"x\":1}", HP_JSON_MEMBER_UNKNOWN, 1},
        {"{ \"x\":1}", HP_JSON_MEMBER_UNKNOWN, 2},
        {"{\"\":1}", HP_JSON_MEMBER_UNKNOWN, 1},
        {"{\"payload\":1,\"x\":1}", HP_JSON_MEMBER_UNKNOWN, 13},
        {"{\"Payload\":1}", HP_JSON_MEMBER_UNKNOWN, 1},
        {"{\"payloa\":1}", HP_JSON_MEMBER_UNKNOWN, 1},
        {"{\"payload \":1}", HP_JSON_MEMBER_UNKNOWN, 1},
        {"{\"payloadx\":1}", HP_JSON_MEMBER_UNKNOWN, 1},
        {"{\"payloa\\u0064x\":1}", HP_JSON_MEMBER_UNKNOWN, 1},
        {"{\"payloa\\u0065\":1}", HP_JSON_MEMBER_UNKNOWN, 1},
        {"{\"\\\\u0070ayload\":1}", HP_JSON_MEMBER_UNKNOWN, 1},
        {"{\"eventtype\":\"t\"}", HP_JSON_MEMBER_UNKNOWN, 1},
        {"{\"\\u0070ayloa\":1}", HP_JSON_MEMBER_UNKNOWN, 1},
        /* nine bytes with a backslash are not the nine of the name */
        {"{\"e\\u0076Ty\":\"t\"}", HP_JSON_MEMBER_UNKNOWN, 1},
        {"{\"payload\":1,\"payload\":1}", HP_JSON_MEMBER_DUPLICATE, 13},
        {"{\"payload\":1,\"\\u0070ayload\":1}", HP_JSON_MEMBER_DUPLICATE, 13},
        {"{\"eventType\":\"t\",\"eventType\":\"t\"}", HP_JSON_MEMBER_DUPLICATE,
         17},
        {"{\"idempotencyKey\":\"\",\"idempotencyKey\":\"\"}",
         HP_JSON_MEMBER_DUPLICATE, 21},
        {"{\"eventType\":null}", HP_JSON_MEMBER_TYPE, 13},
        {"{\"eventType\": 1}", HP_JSON_MEMBER_TYPE, 14},
        {"{\"eventType\":true}", HP_JSON_MEMBER_TYPE, 13},
        {"{\"eventType\":{}}", HP_JSON_MEMBER_TYPE, 13},
        {"{\"idempotencyKey\":[]}", HP_JSON_MEMBER_TYPE, 18},
        {"{\"idempotencyKey\":-1}", HP_JSON_MEMBER_TYPE, 18},
        {"{\"idempotencyKey\":false}", HP_JSON_MEMBER_TYPE, 18},
    };

    hp_json_status_t status;
    char line[256];
    size_t i, offset;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        status = event_line(cases[i].text, strlen(cases[i].text), DEPTH, line,
                            sizeof(line), &offset);

        if (status != cases[i].status || offset != cases[i].offset) {
            fail_msg("%s: %s at %zu, not %s at %zu", cases[i].text,
                     hp_json_code(status), offset,
                     hp_json_code(cases[i].status), cases[i].offset);
        }
    }
}

static void test_event_depth(void **state)
{
    static const char text[] = "{\"payload\":[[1]]}";

    char line[64];
    size_t offset;

    (void)state;

    /* the envelope is one of them */
    assert_int_equal(
        event_line(text, sizeof(text) - 1, 3, line, sizeof(line), &offset),
        HP_JSON_OK);
    assert_int_equal(
        event_line(text, sizeof(text) - 1, 2, line, sizeof(line), &offset),
        HP_JSON_DEPTH);
    assert_int_equal(offset, 12);
    assert_int_equal(
        event_line(text, sizeof(text) - 1, 1, line, sizeof(line), &offset),
        HP_JSON_DEPTH);
    assert_int_equal(offset, 11);
    assert_int_equal(
        event_line("{\"payload\":1}", 13, 0, line, sizeof(line), &offset),
        HP_JSON_OK);
}

static void test_event_cut(void **state)
{
    static const char text[] =
        " {\"idempotencyKey\" : \"a\\u00e4\\ud83d\\ude00\",\"eventType\":"
        "\"\xc3\xa4\",\"payload\":{\"a\":[1.5e1,true,null,\"\\\\\"]}}";

    hp_json_status_t status;
    char line[256];
    size_t len, offset;

    (void)state;
    assert_int_equal(
        event_line(text, sizeof(text) - 1, DEPTH, line, sizeof(line), &offset),
        HP_JSON_OK);

    for (len = 0; len < sizeof(text) - 1; len++) {
        status = event_line(text, len, DEPTH, line, sizeof(line), &offset);
        assert_int_not_equal(status, HP_JSON_OK);
        assert_true(offset <= len);
    }

    assert_int_equal(event_line(NULL, 0, DEPTH, line, sizeof(line), &offset),
                     HP_JSON_EMPTY);
}

/* What hp_json_check() says of a text hp_json_event() says too, unless the
 * envelope itself is what it refuses. */
static void test_event_agrees(void **state)
{
    hp_json_status_t status, checked;
    char text[256], line[512];
    size_t i, offset, inner;

    (void)state;

    for (i = 0; i < COUNT_OF(accepted); i++) {
        snprintf(text, sizeof(text), "{\"payload\":%s}", accepted[i]);
        status =
            event_line(text, strlen(text), DEPTH, line, sizeof(line), &offset);
        assert_int_equal(status, HP_JSON_OK);

        status = event_line(accepted[i], strlen(accepted[i]), DEPTH, line,
                            sizeof(line), &offset);
        checked = check_bytes(accepted[i], strlen(accepted[i]), DEPTH, &inner);
        assert_int_equal(checked, HP_JSON_OK);
        assert_true(status == HP_JSON_OK || status == HP_JSON_NOT_OBJECT ||
                    status == HP_JSON_MEMBER_UNKNOWN);
    }
}

/* ---- hp_json_unescape() ---- */

static hp_str_t unescaped(const char *raw, size_t len)
{
    hp_str_t copy, result;

    copy = exact(raw, len);
    result = exact(raw, len);
    result.len = hp_json_unescape((unsigned char *)result.data, copy);
    assert_true(result.len <= len);
    drop(&copy);
    return result;
}

static void test_unescape(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"a", "a"},
        {"no escapes at all, and rather long", "no escapes at all, and "
                                               "rather long"},
        {"\\\"\\\\\\/", "\"\\/"},
        {"\\b\\f\\n\\r\\t", "\b\f\n\r\t"},
        {"\\u0041", "A"},
        {"\\u007f", "\x7f"},
        {"\\u0080", "\xc2\x80"},
        {"\\u07FF", "\xdf\xbf"},
        {"\\u0800", "\xe0\xa0\x80"},
        {"\\ud7ff\\ue000", "\xed\x9f\xbf\xee\x80\x80"},
        {"\\uffff", "\xef\xbf\xbf"},
        {"\\ud800\\udc00", "\xf0\x90\x80\x80"},
        {"\\uD83D\\uDE00", "\xf0\x9f\x98\x80"},
        {"\\udbff\\udfff", "\xf4\x8f\xbf\xbf"},
        {"a\\u00e4b\\nc", "a\xc3\xa4"
                          "b\nc"},
        {"\\\\u0041", "\\u0041"},
        {"\\\\\\u0041", "\\A"},
        {"\xc3\xa4\\u00e4\xc3\xa4", "\xc3\xa4\xc3\xa4\xc3\xa4"},
    };

    hp_str_t result;
    size_t i, len;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        result = unescaped(cases[i][0], strlen(cases[i][0]));
        assert_same(result, text_of(cases[i][1]));
        drop(&result);

        /* in place */
        result = exact_text(cases[i][0]);
        result.len = hp_json_unescape((unsigned char *)result.data, result);
        assert_same(result, text_of(cases[i][1]));
        drop(&result);

        /* cut anywhere, where it is no checked string any more: no read or
         * write outside, nothing longer than what came in */
        for (len = 0; len < strlen(cases[i][0]); len++) {
            result = unescaped(cases[i][0], len);
            drop(&result);
        }
    }

    assert_int_equal(hp_json_unescape(NULL, (hp_str_t){NULL, 0}), 0);
}

/* ---- hp_json_compact() ---- */

static void assert_compact(const char *raw, const char *expected)
{
    hp_str_t copy, result;
    size_t offset, len;

    copy = exact_text(raw);
    result = exact_text(raw);
    result.len = hp_json_compact((unsigned char *)result.data, copy);
    assert_same(result, text_of(expected));
    assert_int_equal(hp_json_check(copy, DEPTH, &offset), HP_JSON_OK);
    assert_int_equal(hp_json_check(result, DEPTH, &offset), HP_JSON_OK);
    drop(&result);

    /* in place */
    copy.len = hp_json_compact((unsigned char *)copy.data, copy);
    assert_same(copy, text_of(expected));
    drop(&copy);

    for (len = 0; len < strlen(raw); len++) {
        copy = exact(raw, len);
        result = exact(raw, len);
        assert_true(hp_json_compact((unsigned char *)result.data, copy) <= len);
        drop(&copy);
        drop(&result);
    }
}

static void test_compact(void **state)
{
    size_t i;

    (void)state;

    assert_compact("1", "1");
    assert_compact(" 1 ", "1");
    assert_compact("[ 1 , 2 ]", "[1,2]");
    assert_compact("\" a \\\" b \"", "\" a \\\" b \"");
    assert_compact("[ \" \\\\\" , \"\\\" ]\" ]", "[\" \\\\\",\"\\\" ]\"]");
    assert_compact("{ \"a b\" : { \"c\" : [ \" \" , null ] } }",
                   "{\"a b\":{\"c\":[\" \",null]}}");
    assert_compact("\t\r\n{\t\r\n}\t\r\n", "{}");
    assert_compact("[\"\xc3\xa4 \xf0\x9f\x98\x80\", \"\\u00e4\"]",
                   "[\"\xc3\xa4 \xf0\x9f\x98\x80\",\"\\u00e4\"]");
    assert_compact("{\"k\":\"longer than eight bytes \\\\\\\" with  two\" }",
                   "{\"k\":\"longer than eight bytes \\\\\\\" with  two\"}");
    assert_int_equal(hp_json_compact(NULL, (hp_str_t){NULL, 0}), 0);

    /* without white space nothing changes */
    for (i = 0; i < COUNT_OF(accepted); i++) {
        if (strpbrk(accepted[i], " \t\r\n") == NULL) {
            assert_compact(accepted[i], accepted[i]);
        }
    }
}

/* ---- hp_json_member() ---- */

static int member(const char *object, const char *name, char *out, size_t size)
{
    hp_json_slice_t value;
    hp_str_t copy, wanted;
    int found, is_string;

    copy = exact_text(object);
    wanted = exact_text(name);
    is_string = -1;
    memset(&value, 0xa5, sizeof(value));
    found = hp_json_member(copy, wanted, &value, &is_string);
    assert_int_equal(found, value.present);
    assert_true(is_string == 0 || (is_string == 1 && found));
    snprintf(out, size, "%.*s%s%s%s", (int)value.raw.len,
             value.raw.len ? (const char *)value.raw.data : "",
             is_string ? "<t>" : "", value.escaped ? "<e>" : "",
             value.spaced ? "<s>" : "");
    drop(&copy);
    drop(&wanted);
    return found;
}

static void test_member(void **state)
{
    static const struct {
        const char *object, *name, *value;
        int found;
    } cases[] = {
        {"{\"a\":1}", "a", "1", 1},
        {"{\"a\":\"x\"}", "a", "x<t>", 1},
        {"{\"a\":\"\"}", "a", "<t>", 1},
        {"{\"a\":\"\\n\"}", "a", "\\n<t><e>", 1},
        {"{\"a\":[ 1]}", "a", "[ 1]<s>", 1},
        {"{\"a\":{\"b\":2},\"b\":3}", "b", "3", 1},
        {"{\"a\":{\"b\":2}}", "b", "", 0},
        {"{\"a\":null}", "a", "null", 1},
        /* the last one counts */
        {"{\"a\":1,\"b\":2,\"a\":3}", "a", "3", 1},
        {"{\"a\":\"x\",\"a\":3}", "a", "3", 1},
        {"{\"a\":3,\"a\":\"x\"}", "a", "x<t>", 1},
        {"{\"a\":1,\"\\u0061\":2}", "a", "2", 1},
        /* names */
        {"{\"\":1}", "", "1", 1},
        {"{\"a\":1}", "", "", 0},
        {"{}", "a", "", 0},
        {"{ }", "a", "", 0},
        {" { \"a\" : 1 } ", "a", "1", 1},
        {"{\"a\\\"b\":1}", "a\"b", "1", 1},
        {"{\"a\\\"b\":1}", "a\\\"b", "", 0},
        {"{\"a\\\\b\":1}", "a\\b", "1", 1},
        {"{\"\\u00e4\":1}", "\xc3\xa4", "1", 1},
        {"{\"\xc3\xa4\":1}", "\xc3\xa4", "1", 1},
        {"{\"\\ud83d\\ude00\":1}", "\xf0\x9f\x98\x80", "1", 1},
        {"{\"\\n\":1}", "\n", "1", 1},
        {"{\"\\n\":1}", "\\n", "", 0},
        {"{\"ab\":1}", "a", "", 0},
        {"{\"a\":1}", "ab", "", 0},
        {"{\"\\u0061b\":1}", "a", "", 0},
        {"{\"\\u0061\":1}", "abcdefgh", "", 0},
        {"{\"\\u0061\":1}", "ab", "", 0},
        {"{\"\\u0062\":1}", "a", "", 0},
        {"{\"\\u0061\\u0063\":1}", "ab", "", 0},
        /* no object, or none that was checked */
        {"", "a", "", 0},
        {"[]", "a", "", 0},
        {"\"a\"", "a", "", 0},
        {"[{\"a\":1}]", "a", "", 0},
        {"null", "a", "", 0},
        {"{\"b\":1", "a", "", 0},
        {"{\"b\"", "a", "", 0},
        {"{", "a", "", 0},
    };

    char out[128];
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        if (member(cases[i].object, cases[i].name, out, sizeof(out)) !=
            cases[i].found) {
            fail_msg("%s: %s", cases[i].object, cases[i].name);
        }

        assert_string_equal(out, cases[i].value);
    }
}

/* ---- hp_json_escape() ---- */

static void test_escape(void **state)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"", ""},
        {"plain text", "plain text"},
        {"\"\\/", "\\\"\\\\/"},
        {"\b\f\n\r\t", "\\b\\f\\n\\r\\t"},
        {"\x01\x0b\x1f\x7f", "\\u0001\\u000b\\u001f\x7f"},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
         "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xff", "\xef\xbf\xbd"},
        {"a\xc3", "a\xef\xbf\xbd"},
        {"\xc3(", "\xef\xbf\xbd("},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
    };

    char zeros[128] = {0};
    hp_str_t text, dst;
    size_t i, room, len, full;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        text = exact_text(cases[i].text);
        full = strlen(cases[i].expected);
        assert_true(full <= 6 * text.len);

        /* every room: what is written is the start of the whole, never half a
         * character or escape */
        for (room = 0; room <= 6 * text.len; room++) {
            dst = exact(zeros, room);
            len = hp_json_escape((unsigned char *)dst.data, room, text);
            assert_true(len <= room);
            assert_true(len <= full);
            assert_memory_equal(dst.data, cases[i].expected, len);
            assert_true(room < full || len == full);
            drop(&dst);
        }

        drop(&text);
    }

    assert_int_equal(hp_json_escape(NULL, 0, (hp_str_t){NULL, 0}), 0);
}

/* Every byte below 0x80 alone: escaped where RFC 8259 wants it, else not. */
static void test_escape_every_byte(void **state)
{
    unsigned char byte, escaped[6], back[6];
    size_t len, back_len;
    char expected[8];
    int c;

    (void)state;

    for (c = 0; c < 0x80; c++) {
        byte = (unsigned char)c;
        len = hp_json_escape(escaped, sizeof(escaped), (hp_str_t){&byte, 1});

        if (c >= 0x20) {
            assert_int_equal(len, c == '"' || c == '\\' ? 2 : 1);
        } else if (strchr("\b\f\n\r\t", c) != NULL && c != 0) {
            assert_int_equal(len, 2);
        } else {
            snprintf(expected, sizeof(expected), "\\u%04x", (unsigned)c);
            assert_int_equal(len, 6);
            assert_memory_equal(escaped, expected, 6);
        }

        back_len = hp_json_unescape(back, (hp_str_t){escaped, len});
        assert_int_equal(back_len, 1);
        assert_int_equal(back[0], c);
    }
}

/* Whatever bytes go in, what comes out is the inside of a string that the
 * scanner takes; and where they were UTF-8 without U+0000 it means them. */
static void test_escape_round(void **state)
{
    unsigned char bytes[64], escaped[2 + 6 * 64], back[6 * 64];
    hp_str_t text, inside;
    uint64_t random = 4711;
    size_t i, len, offset;
    int round;

    (void)state;

    for (round = 0; round < 3000; round++) {
        text.len = next_random(&random) % sizeof(bytes);
        text.data = bytes;

        for (i = 0; i < text.len; i++) {
            bytes[i] =
                (unsigned char)(round % 2 ? 1 + next_random(&random) % 127
                                          : 1 + next_random(&random) % 255);
        }

        escaped[0] = '"';
        len = hp_json_escape(escaped + 1, sizeof(escaped) - 2, text);
        escaped[len + 1] = '"';
        assert_int_equal(check_bytes(escaped, len + 2, 1, &offset), HP_JSON_OK);

        if (round % 2) {
            inside.data = escaped + 1;
            inside.len = len;
            assert_int_equal(hp_json_unescape(back, inside), text.len);
            assert_memory_equal(back, bytes, text.len);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_event),
        cmocka_unit_test(test_event_refused),
        cmocka_unit_test(test_event_depth),
        cmocka_unit_test(test_event_cut),
        cmocka_unit_test(test_event_agrees),
        cmocka_unit_test(test_unescape),
        cmocka_unit_test(test_compact),
        cmocka_unit_test(test_member),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_escape_every_byte),
        cmocka_unit_test(test_escape_round),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
