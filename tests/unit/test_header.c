/*
 * test_header.c: unit tests of ngx_module/core/hp_header.c.
 *
 * Each grammar by lists of what is taken, with its result, and of what is
 * refused; every byte value at every place that matters; every accepted value
 * cut at every length, in a block of exactly that size, so that a read beyond
 * it is seen by AddressSanitizer.
 *
 * One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_header.h"

/* ---- Idempotency-Key ---- */

static int parse_key(const char *value, size_t len, hp_str_t *key)
{
    hp_str_t copy, dst;
    int rc;

    copy = exact(value, len);
    dst = exact(value, len);
    rc = hp_key_parse((unsigned char *)dst.data, copy);
    drop(&copy);

    if (rc < 0) {
        assert_int_equal(rc, -1);
        drop(&dst);
        return -1;
    }

    assert_in_range(rc, 1, HP_KEY_MAX);
    assert_true((size_t)rc <= len);
    dst.len = (size_t)rc;
    assert_int_equal(hp_key_valid(dst), 1);
    *key = dst;
    return rc;
}

static void test_key_accepted(void **state)
{
    static const char *const cases[][2] = {
        {"\"8e03978e-40d5-43dd-bc93-6894a57f9324\"",
         "8e03978e-40d5-43dd-bc93-6894a57f9324"},
        {"8e03978e-40d5-43dd-bc93-6894a57f9324",
         "8e03978e-40d5-43dd-bc93-6894a57f9324"},
        {"\"a\"", "a"},
        {"a", "a"},
        {"\"a b\"", "a b"},
        {"\"a,b;c\"", "a,b;c"},
        {"\"\\\"\"", "\""},
        {"\"\\\\\"", "\\"},
        {"\"a\\\"b\\\\c\"", "a\"b\\c"},
        {"\t \"a\" \t", "a"},
        {"  a\t", "a"},
        {"a\\b", "a\\b"},
        {"!#$%&'()*+-./:<=>?@[]^_`{|}~", "!#$%&'()*+-./:<=>?@[]^_`{|}~"},
        {"\"~!#\"", "~!#"},
        {"'a'", "'a'"},
    };

    hp_str_t key;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        if (parse_key(cases[i][0], strlen(cases[i][0]), &key) < 0) {
            fail_msg("refused: %s", cases[i][0]);
        }

        assert_same(key, text_of(cases[i][1]));
        drop(&key);
    }
}

static void test_key_refused(void **state)
{
    static const char *const cases[] = {
        "",          " ",         "\t",           "\"",           "\"\"",
        "\" \"",     "\" a\"",    "\"a \"",       "\"a",          "a\"",
        "\"a\\\"",   "\"a\\",     "\"\\a\"",      "\"a\"b",       "\"a\"\"b\"",
        "\"a\";q=1", "\"a\" ; q", "\"a\", \"b\"", "\"a\\x41\"",   "a b",
        "a,b",       "a;b",       "a\"b",         "a\tb",         "\"a\tb\"",
        "\"a\x7f\"", "a\x7f",     "\xc3\xa4",     "\"\xc3\xa4\"", "\"a\nb\"",
        "a\r\nb",
    };

    hp_str_t key;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        if (parse_key(cases[i], strlen(cases[i]), &key) >= 0) {
            fail_msg("taken: %s", cases[i]);
        }
    }

    assert_int_equal(parse_key("a\0b", 3, &key), -1);
    assert_int_equal(parse_key("\"a\0b\"", 5, &key), -1);
}

static void test_key_length(void **state)
{
    char value[2 * HP_KEY_MAX + 8];
    hp_str_t key;
    size_t i;

    (void)state;
    memset(value, 'k', sizeof(value));
    assert_int_equal(parse_key(value, HP_KEY_MAX, &key), HP_KEY_MAX);
    drop(&key);
    assert_int_equal(parse_key(value, HP_KEY_MAX + 1, &key), -1);

    value[0] = '"';
    value[HP_KEY_MAX + 1] = '"';
    assert_int_equal(parse_key(value, HP_KEY_MAX + 2, &key), HP_KEY_MAX);
    drop(&key);
    value[HP_KEY_MAX + 1] = 'k';
    value[HP_KEY_MAX + 2] = '"';
    assert_int_equal(parse_key(value, HP_KEY_MAX + 3, &key), -1);

    /* the bound is on the key, not on how it was written */
    for (i = 0; i < HP_KEY_MAX; i++) {
        value[1 + 2 * i] = '\\';
        value[2 + 2 * i] = '"';
    }

    value[1 + 2 * HP_KEY_MAX] = '"';
    assert_int_equal(parse_key(value, 2 * HP_KEY_MAX + 2, &key), HP_KEY_MAX);

    for (i = 0; i < HP_KEY_MAX; i++) {
        assert_int_equal(key.data[i], '"');
    }

    drop(&key);
}

static void test_key_every_byte(void **state)
{
    char bare[3] = "abc", quoted[5] = "\"abc\"", rule[3] = "abc";
    hp_str_t key;
    int c, printable, expected;

    (void)state;

    for (c = 0; c < 256; c++) {
        printable = c >= 0x20 && c <= 0x7e;

        bare[1] = (char)c;
        expected = printable && c != ' ' && c != '"' && c != ',' && c != ';';
        assert_int_equal(parse_key(bare, 3, &key), expected ? 3 : -1);

        if (expected) {
            assert_memory_equal(key.data, bare, 3);
            drop(&key);
        }

        quoted[2] = (char)c;
        expected = printable && c != '"' && c != '\\';
        assert_int_equal(parse_key(quoted, 5, &key), expected ? 3 : -1);

        if (expected) {
            assert_memory_equal(key.data, quoted + 1, 3);
            drop(&key);
        }

        rule[1] = (char)c;
        assert_int_equal(hp_key_valid((hp_str_t){(unsigned char *)rule, 3}),
                         printable);
    }

    assert_int_equal(hp_key_valid((hp_str_t){NULL, 0}), 0);
    assert_int_equal(hp_key_valid(text_of(" a")), 0);
    assert_int_equal(hp_key_valid(text_of("a ")), 0);
    assert_int_equal(hp_key_valid(text_of(" ")), 0);
    assert_int_equal(hp_key_valid(text_of("a b")), 1);
}

static void test_key_cut(void **state)
{
    static const char value[] = " \"a\\\"b\\\\c d\" ";

    hp_str_t key;
    size_t len;
    int rc;

    (void)state;

    for (len = 0; len < sizeof(value); len++) {
        rc = parse_key(value, len, &key);

        if (len >= sizeof(value) - 2) {
            assert_int_equal(rc, len == sizeof(value) ? -1 : 7);
        } else {
            assert_int_equal(rc, -1);
        }

        if (rc >= 0) {
            drop(&key);
        }
    }
}

/* ---- X-Forwarded-For ---- */

/* Walks the whole value and joins what comes with '|'; " !" for a -1. */
static void walk(char *out, size_t size, const char *value)
{
    hp_str_t copy, rest, element;
    size_t used, steps;
    int rc;

    copy = exact_text(value);
    rest = copy;
    used = 0;
    steps = 0;
    out[0] = '\0';

    for (;;) {
        rc = hp_forwarded_previous(&rest, &element);
        assert_true(rc == 1 || rc == 0 || rc == -1);
        assert_true(++steps < 100);

        if (rc == 0) {
            assert_int_equal(rest.len, 0);
            break;
        }

        if (rc < 0) {
            used += (size_t)snprintf(out + used, size - used, "!|");
            continue;
        }

        assert_in_range(element.len, 1, 64);
        assert_true(element.data >= copy.data);
        assert_true(element.data + element.len <= copy.data + copy.len);
        assert_true(rest.len < copy.len);
        used += (size_t)snprintf(out + used, size - used, "%.*s|",
                                 (int)element.len, element.data);
    }

    drop(&copy);
}

static void test_forwarded(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {" \t ", ""},
        {"192.0.2.1", "192.0.2.1|"},
        {"192.0.2.1, 10.0.0.1", "10.0.0.1|192.0.2.1|"},
        {"a,b,c", "c|b|a|"},
        {" a \t,\tb , c ", "c|b|a|"},
        {"192.0.2.1:8080", "192.0.2.1|"},
        {"2001:db8::1", "2001:db8::1|"},
        {"2001:db8::1, ::1", "::1|2001:db8::1|"},
        {"[2001:db8::1]", "2001:db8::1|"},
        {"[2001:db8::1]:443", "2001:db8::1|"},
        {"unknown", "unknown|"},
        {"host:65535", "host|"},
        /* what is no port stays, for the address parser to refuse */
        {"192.0.2.1:65536", "192.0.2.1:65536|"},
        {"192.0.2.1:123456", "192.0.2.1:123456|"},
        {"192.0.2.1:", "192.0.2.1:|"},
        {"192.0.2.1:8x", "192.0.2.1:8x|"},
        {"192.0.2.1:-1", "192.0.2.1:-1|"},
        {"[::1", "[::1|"},
        {"[::1]x", "[::1]x|"},
        {"[::1]:", "[::1]:|"},
        {"[::1]:99999", "[::1]:99999|"},
        {"::1]", "::1]|"},
        {"a b", "a b|"},
        /* broken elements, and the walk goes on behind them */
        {",", "!|"},
        {"a,", "!|a|"},
        {"a,,b", "b|!|a|"},
        {"a, ,b", "b|!|a|"},
        {",,", "!|!|"},
        {":80", "!|"},
        {"[]", "!|"},
        {"[]:80", "!|"},
        {"[", "[|"},
        {"]", "]|"},
        {":", ":|"},
        /* nothing left of the first comma is nothing left */
        {",a", "a|"},
        {" ,a", "a|"},
    };

    char out[256];
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        walk(out, sizeof(out), cases[i][0]);
        assert_string_equal(out, cases[i][1]);
    }
}

static void test_forwarded_length(void **state)
{
    char value[80], out[256];

    (void)state;
    memset(value, 'a', sizeof(value));
    memcpy(value, "x, ", 3);

    value[3 + 64] = '\0';
    walk(out, sizeof(out), value);
    assert_int_equal(strlen(out), 64 + 1 + 2);

    value[3 + 64] = 'a';
    value[3 + 65] = '\0';
    walk(out, sizeof(out), value);
    assert_string_equal(out, "!|x|");
}

/* The same elements with every cut of the value, from both ends. */
static void test_forwarded_cut(void **state)
{
    static const char value[] =
        "198.51.100.7, [2001:db8::1]:443,\t10.0.0.1:80 , ::1";

    hp_str_t part, rest, element;
    size_t from, len, steps;
    int rc;

    (void)state;

    for (from = 0; from < sizeof(value) - 1; from++) {
        for (len = 0; from + len < sizeof(value); len++) {
            part = exact(value + from, len);
            rest = part;
            steps = 0;

            while ((rc = hp_forwarded_previous(&rest, &element)) != 0) {
                assert_true(++steps <= 4);

                if (rc == 1) {
                    assert_true(element.data >= part.data);
                    assert_true(element.data + element.len <=
                                part.data + part.len);
                    assert_null(memchr(element.data, ',', element.len));
                    assert_true(element.data[0] != ' ');
                }
            }

            drop(&part);
        }
    }

    rest.data = NULL;
    rest.len = 0;
    assert_int_equal(hp_forwarded_previous(&rest, &element), 0);
}

/* ---- traceparent ---- */

#define TRACE "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static void test_traceparent(void **state)
{
    static const struct {
        const char *value;
        int valid;
    } cases[] = {
        {TRACE, 1},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", 1},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", 1},
        {"00-00000000000000000000000000000001-0000000000000001-01", 1},
        {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 1},
        {"fe-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 1},
        {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", 1},
        {"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x,y", 1},
        {"10-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", 1},
        {"", 0},
        {TRACE "-", 0},
        {TRACE "-extra", 0},
        {TRACE "0", 0},
        {TRACE " ", 0},
        {" " TRACE, 0},
        {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.", 0},
        {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-010", 0},
        {"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 0},
        {"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", 0},
        {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", 0},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", 0},
        {"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", 0},
        {"FE-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 0},
        {"00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", 0},
        {"0-04bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 0},
    };

    hp_str_t copy;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        copy = exact_text(cases[i].value);

        if (hp_traceparent_valid(copy) != cases[i].valid) {
            fail_msg("wrong: %s", cases[i].value);
        }

        drop(&copy);
    }
}

static void test_traceparent_every_byte(void **state)
{
    char value[] = TRACE;
    hp_str_t copy;
    size_t i;
    int c, expected;

    (void)state;
    assert_int_equal(strlen(value), HP_TRACE_LEN);

    for (i = 0; i < HP_TRACE_LEN; i++) {
        copy = exact(value, i);
        assert_int_equal(hp_traceparent_valid(copy), 0);
        drop(&copy);

        for (c = 0; c < 256; c++) {
            value[i] = (char)c;
            expected = TRACE[i] == '-'
                           ? c == '-'
                           : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
            copy = exact(value, HP_TRACE_LEN);
            assert_int_equal(hp_traceparent_valid(copy), expected);
            drop(&copy);
        }

        value[i] = TRACE[i];
    }

    assert_int_equal(hp_traceparent_valid((hp_str_t){NULL, 0}), 0);
}

/* ---- host ---- */

static void test_host(void **state)
{
    static const char *const good[] = {
        "a",
        "localhost",
        "example.com",
        "EXAMPLE.com:443",
        "a-b_c.example",
        "192.0.2.1",
        "192.0.2.1:8080",
        "example.com:0",
        "example.com:65535",
        "[::1]",
        "[::]:80",
        "[2001:db8::1]:443",
        "[2001:0db8:0000:0000:0000:0000:0000:0001]",
        "[::ffff:192.0.2.1]",
        "[2001:db8:1:2:3:4:255.255.255.255]:1",
    };
    static const char *const bad[] = {
        "",
        " ",
        ":",
        ":80",
        "a:",
        "a:x",
        "a:65536",
        "a:123456",
        "a:000080",
        "a:-1",
        "a:80:80",
        "a b",
        " a",
        "a ",
        "a/b",
        "a@b",
        "a?b",
        "a#b",
        "a%41",
        "a\\b",
        "a,b",
        "http://a",
        "\xc3\xa4.example",
        "::1",
        "[]",
        "[",
        "]",
        "[::1",
        "::1]",
        "[::1]x",
        "[::1]:",
        "[::1]:65536",
        "[::1]:x",
        "[::1]]",
        "[[::1]]",
        "[192.0.2.1]",
        "[::g]",
        "[1:2:3:4:5:6:7:8:9]",
        "[fe80::1%25eth0]",
        "[v1.a]",
        "[::1 ]",
        "[2001:0db8:0000:0000:0000:0000:0000:000000000000001]",
        "a[::1]",
        /* longer than an address ever is, by one byte and by two */
        "[2001:0db8:0000:0000:0000:0000:255.255.255.2550]",
        "[2001:0db8:0000:0000:0000:00000:255.255.255.2550]",
    };

    hp_str_t copy;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(good); i++) {
        copy = exact_text(good[i]);

        if (hp_host_valid(copy) != 1) {
            fail_msg("refused: %s", good[i]);
        }

        drop(&copy);
    }

    for (i = 0; i < COUNT_OF(bad); i++) {
        copy = exact_text(bad[i]);

        if (hp_host_valid(copy) != 0) {
            fail_msg("taken: %s", bad[i]);
        }

        drop(&copy);
    }

    assert_int_equal(hp_host_valid((hp_str_t){NULL, 0}), 0);
}

static void test_host_every_byte(void **state)
{
    static const char address[] = "[2001:db8::ffff:192.0.2.1]:8080";

    char value[3] = "abc", longest[256];
    hp_str_t copy;
    size_t len;
    int c, expected;

    (void)state;

    for (c = 0; c < 256; c++) {
        value[1] = (char)c;
        expected = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                   (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
        copy = exact(value, 3);
        assert_int_equal(hp_host_valid(copy), expected);
        drop(&copy);
    }

    /* no zero byte hides what stands behind it from the parser */
    copy = exact("[::1\0]", 6);
    assert_int_equal(hp_host_valid(copy), 0);
    drop(&copy);

    for (len = 0; len < sizeof(address) - 1; len++) {
        copy = exact(address, len);
        assert_int_equal(hp_host_valid(copy),
                         strcmp(address + len, ":8080") == 0 ||
                             (len >= 28 && len < sizeof(address) - 1));
        drop(&copy);
    }

    memset(longest, 'a', sizeof(longest));
    assert_int_equal(hp_host_valid((hp_str_t){(unsigned char *)longest, 255}),
                     1);
    assert_int_equal(hp_host_valid((hp_str_t){(unsigned char *)longest, 256}),
                     0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_accepted),
        cmocka_unit_test(test_key_refused),
        cmocka_unit_test(test_key_length),
        cmocka_unit_test(test_key_every_byte),
        cmocka_unit_test(test_key_cut),
        cmocka_unit_test(test_forwarded),
        cmocka_unit_test(test_forwarded_length),
        cmocka_unit_test(test_forwarded_cut),
        cmocka_unit_test(test_traceparent),
        cmocka_unit_test(test_traceparent_every_byte),
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_host_every_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
