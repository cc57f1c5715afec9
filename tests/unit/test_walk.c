/*
 * test_walk.c: unit tests of ngx_module/core/hp_walk.c.
 *
 * Going through every accepted text of json_texts.h must find what the strict
 * scanner accepted, entry by entry down to the last byte; strings and numbers
 * are compared by lists whose order is known, pair by pair. Then the same
 * calls on random bytes and on every cut of every text, which nobody checked:
 * no answer is asked for, only that they end and stay inside (inputs are
 * blocks of exactly their size, for AddressSanitizer). One process, no files;
 * tests/unit/Makefile.
 */
#include "support.h"

#include "hp_walk.h"
#include "json_texts.h"

/* Goes through a value down to its scalars; gives the byte behind it. */
static const unsigned char *go(const unsigned char *p, const unsigned char *end,
                               unsigned depth, size_t *values)
{
    const unsigned char *last;
    hp_walk_t walk;

    (*values)++;

    if (depth == 0 || !hp_walk_open(&walk, p, end)) {
        last = hp_walk_value(p, end, NULL);
        assert_true(last > p || p == end);

        if (p < end && *p == '"') {
            (void)hp_walk_length(hp_walk_string(p, end));
        } else {
            (void)hp_walk_is_integer((hp_str_t){p, (size_t)(last - p)});
        }

        return last;
    }

    while (hp_walk_next(&walk)) {
        assert_true(walk.pos < end);

        if (walk.object) {
            assert_true(walk.name.data + walk.name.len <= end);
            (void)hp_walk_length(walk.name);
        }

        walk.pos = go(walk.pos, end, depth - 1, values);
    }

    assert_true(walk.pos <= end);
    return walk.pos;
}

static void test_accepted_texts(void **state)
{
    hp_str_t text, value;
    size_t i, values;

    (void)state;

    for (i = 0; i < COUNT_OF(accepted); i++) {
        text = exact_text(accepted[i]);
        value = hp_walk_trim(text);
        values = 0;
        assert_ptr_equal(hp_walk_value(value.data, text.data + text.len, NULL),
                         value.data + value.len);
        assert_ptr_equal(go(value.data, text.data + text.len, DEPTH, &values),
                         value.data + value.len);
        assert_true(values >= 1);
        drop(&text);
    }
}

static void test_entries(void **state)
{
    static const char text[] = " { \"a\" : [ 1 , \"]\" , {\"x\":[]} ] "
                               ",\"\\\"}\":-1.5e3, \"\" : { } } ";
    static const char *const names[] = {"a", "\\\"}", ""};
    static const char *const values[] = {"[ 1 , \"]\" , {\"x\":[]} ]", "-1.5e3",
                                         "{ }"};

    hp_str_t copy, value;
    unsigned spaced;
    hp_walk_t walk;
    size_t i;

    (void)state;

    copy = exact_text(text);
    value = hp_walk_trim(copy);
    assert_int_equal(hp_walk_open(&walk, value.data, value.data + value.len),
                     1);
    assert_int_equal(walk.object, 1);

    for (i = 0; hp_walk_next(&walk); i++) {
        assert_true(i < COUNT_OF(names));
        assert_same(walk.name, text_of(names[i]));
        value.data = walk.pos;
        spaced = 0;
        walk.pos = hp_walk_value(walk.pos, walk.end, &spaced);
        value.len = (size_t)(walk.pos - value.data);
        assert_same(value, text_of(values[i]));
        assert_int_equal(spaced, i != 1);
    }

    assert_int_equal(i, COUNT_OF(names));
    drop(&copy);

    copy = exact_text(" \t\r\n");
    assert_int_equal(hp_walk_trim(copy).len, 0);
    drop(&copy);

    copy = exact_text("12");
    assert_int_equal(hp_walk_open(&walk, copy.data, copy.data + 2), 0);
    assert_int_equal(hp_walk_open(&walk, copy.data + 2, copy.data + 2), 0);
    drop(&copy);
}

static void test_characters(void **state)
{
    static const struct {
        const char *raw;
        uint32_t code;
        size_t bytes;
    } cases[] = {
        {"a", 'a', 1},
        {"\\n", '\n', 2},
        {"\\\"x", '"', 2},
        {"\\\\n", '\\', 2},
        {"\\/", '/', 2},
        {"\\u00e4x", 0xe4, 6},
        {"\\uD83D\\ude00x", 0x1f600, 12},
        {"\\ud7ff", 0xd7ff, 6},
        {"\\ue000", 0xe000, 6},
        {"\xc3\xa4", 0xe4, 2},
        {"\xe2\x82\xacx", 0x20ac, 3},
        {"\xf0\x9f\x98\x80", 0x1f600, 4},
        {"\xf4\x8f\xbf\xbf", 0x10ffff, 4},
    };

    const unsigned char *p;
    hp_str_t raw;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        raw = exact_text(cases[i].raw);
        p = raw.data;
        assert_int_equal(hp_walk_char(&p, raw.data + raw.len), cases[i].code);
        assert_int_equal(p - raw.data, cases[i].bytes);
        drop(&raw);
    }

    assert_int_equal(hp_walk_length(text_of("")), 0);
    assert_int_equal(hp_walk_length(text_of("a\xc3\xa4\xf0\x9f\x98\x80")), 3);
    assert_int_equal(hp_walk_length(text_of("\\ud83d\\ude00\\n\xc3\xa4x")), 4);
}

static int sign(int order)
{
    return (order > 0) - (order < 0);
}

/* In their order; those of one line are equal. */
static void test_strings_in_order(void **state)
{
    static const struct {
        const char *raw;
        const char *plain;
    } texts[] = {
        {"", ""},
        {"\\u0001", "\x01"},
        {"\\\"", "\""},
        {"\\/", "/"},
        {"A", "A"},
        {"\\u0041\\u0042", "AB"},
        {"\\\\", "\\"},
        {"a", "a"},
        {"\\u00e4", "\xc3\xa4"},
        {"\xc3\xa4", "\xc3\xa4"},
        {"\\u00E4b", "\xc3\xa4"
                     "b"},
        {"\\uffff", "\xef\xbf\xbf"},
        {"\\ud83d\\ude00", "\xf0\x9f\x98\x80"},
    };

    hp_str_t raw, plain;
    size_t i, j;
    int expected;

    (void)state;

    for (i = 0; i < COUNT_OF(texts); i++) {
        for (j = 0; j < COUNT_OF(texts); j++) {
            raw = exact_text(texts[i].raw);
            plain = exact_text(texts[j].plain);
            expected = strcmp(texts[i].plain, texts[j].plain) == 0
                           ? 0
                           : sign((int)i - (int)j);
            assert_int_equal(sign(hp_walk_compare(raw, plain)), expected);
            drop(&raw);
            drop(&plain);
        }
    }
}

static void test_numbers_in_order(void **state)
{
    /* separated by spaces: equal numbers */
    static const char *const lines[] = {
        "-1e400 -10e399 -0.01e402",
        "-123456789012345678901234567890.5",
        "-123456789012345678901234567890 -1.2345678901234567890123456789e29",
        "-10 -1e1 -10.0 -100e-1",
        "-1.00000000000000000000000001",
        "-1 -1.0 -0.1e1",
        "-0.5 -5e-1",
        "-1e-400",
        "0 -0 0.0 -0.00e5 0e0 0E-10",
        "1e-400",
        "0.1 1e-1 0.10 0.01e1 10E-2",
        "0.10000000000000000000000000000001",
        "0.5",
        "1 1.0 1e0 1E+0 0.1e1 10e-1",
        "9",
        "10 1e1 1E+01 10.000",
        "9007199254740992 9007199254740992.0",
        "9007199254740993 9.007199254740993e15",
        "1e400 10e399",
    };
    static const int integers[] = {1, 0, 1, 1, 0, 1, 0, 0, 1, 0,
                                   0, 0, 0, 1, 1, 1, 1, 1, 1};

    char all[COUNT_OF(lines)][128], *numbers[64], *next;
    size_t line[64], count, i, j;
    hp_str_t a, b;

    (void)state;

    assert_int_equal(COUNT_OF(lines), COUNT_OF(integers));

    for (i = 0, count = 0; i < COUNT_OF(lines); i++) {
        snprintf(all[i], sizeof(all[i]), "%s", lines[i]);

        for (next = strtok(all[i], " "); next != NULL;
             next = strtok(NULL, " ")) {
            assert_true(count < COUNT_OF(numbers));
            line[count] = i;
            numbers[count++] = next;
        }
    }

    for (i = 0; i < count; i++) {
        a = exact_text(numbers[i]);
        assert_int_equal(hp_walk_is_integer(a), integers[line[i]]);

        for (j = 0; j < count; j++) {
            b = exact_text(numbers[j]);

            if (hp_walk_compare_numbers(a, b) !=
                sign((int)line[i] - (int)line[j])) {
                fail_msg("%s and %s", numbers[i], numbers[j]);
            }

            drop(&b);
        }

        drop(&a);
    }
}

/* Nobody checked these: every cut of the texts, and random bytes. */
static void test_unchecked(void **state)
{
    static const char bytes[] = "{}[]\",:\\u00dd8ab -.0e1tn \xc3\xa4\xf0\x01";

    unsigned char random[40];
    size_t i, len, j, values;
    hp_str_t text;
    uint64_t seed;

    (void)state;

    for (i = 0; i < COUNT_OF(accepted); i++) {
        for (len = 0; len < strlen(accepted[i]); len++) {
            text = exact(accepted[i], len);
            values = 0;
            assert_true(go(text.data, text.data + len, DEPTH, &values) <=
                        text.data + len);
            drop(&text);
        }
    }

    for (i = 0, seed = 4; i < 20000; i++) {
        len = next_random(&seed) % sizeof(random);

        for (j = 0; j < len; j++) {
            random[j] =
                (unsigned char)bytes[next_random(&seed) % (sizeof(bytes) - 1)];
        }

        text = exact(random, len);
        values = 0;
        (void)go(text.data, text.data + len, DEPTH, &values);
        (void)hp_walk_trim(text);
        (void)hp_walk_compare(text, text_of("a\xc3\xa4"));
        (void)hp_walk_compare_numbers(text, text_of("1.5"));
        drop(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted_texts),
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_strings_in_order),
        cmocka_unit_test(test_numbers_in_order),
        cmocka_unit_test(test_unchecked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
