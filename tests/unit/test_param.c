/*
 * test_param.c: unit tests of ngx_module/core/hp_param.c.
 *
 * Rules that compile and rules that do not; for each type the values that it
 * takes, with what they mean, and those it refuses, with the code; integers
 * against strtoll() at the edges; percent-decoding of every byte; query strings
 * split. Rules, values and queries come in blocks of exactly their size, also
 * cut at every length.
 *
 * One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_param.h"

static void test_rules_refused(void **state)
{
    static const char *const cases[] = {
        "",
        " ",
        "Int",
        "integer",
        "int ",
        "int()",
        "int(",
        "int(1..2",
        "int(1)",
        "int(1.2)",
        "int(..)",
        "int(1...2)",
        "int(2..1)",
        "int(01..2)",
        "int(1 ..2)",
        "int(a..b)",
        "int(..9223372036854775808)",
        "int(-9223372036854775809..)",
        "uint(-1..)",
        "uint(-5..5)",
        "string()",
        "string(64)",
        "string(5..4)",
        "string(-1..4)",
        "string(1..1025)",
        "string(1..4,)",
        "string(,hex)",
        "string(1..4,hexx)",
        "string(1..4, hex)",
        "string(1..4,hex,word)",
        "string(hex)",
        "enum",
        "enum()",
        "enum(|)",
        "enum(a|)",
        "enum(|a)",
        "enum(a||b)",
        "enum(a|b|a)",
        "enum(a b)",
        "enum(\xc3\xa4)",
        "bool(1..2)",
        "uuid(4..4)",
        "date(1..2)",
        "time()",
        "(1..2)",
    };

    char many[4 * 65 + 8], *p;
    hp_param_rule_t rule;
    hp_str_t copy;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        copy = exact_text(cases[i]);

        if (hp_param_rule(&rule, copy) == NULL) {
            fail_msg("taken: %s", cases[i]);
        }

        drop(&copy);
    }

    p = many + sprintf(many, "enum(");

    for (i = 0; i < 65; i++) {
        p += sprintf(p, "n%02zu|", i);
    }

    p[-1] = ')';
    copy = exact(many, (size_t)(p - many));
    assert_non_null(hp_param_rule(&rule, copy));
    drop(&copy);
    p[-5] = ')';
    copy = exact(many, (size_t)(p - many - 4));
    assert_null(hp_param_rule(&rule, copy));
    drop(&copy);

    memset(many, 'a', sizeof(many));
    memcpy(many, "enum(", 5);
    many[5 + 64] = ')';
    many[5 + 65] = ')';
    copy = exact(many, 5 + 65);
    assert_null(hp_param_rule(&rule, copy));
    drop(&copy);
    copy = exact(many, 5 + 66);
    assert_non_null(hp_param_rule(&rule, copy));
    drop(&copy);
}

static void test_values(void **state)
{
    static const struct {
        const char *rule;
        const char *value;
        hp_param_status_t status;
        int64_t number;
        const char *text; /* NULL: as it was given */
    } cases[] = {
        {"int", "0", HP_PARAM_OK, 0, NULL},
        {"int", "-1", HP_PARAM_OK, -1, NULL},
        {"int", "9223372036854775807", HP_PARAM_OK, INT64_MAX, NULL},
        {"int", "-9223372036854775808", HP_PARAM_OK, INT64_MIN, NULL},
        {"int", "9223372036854775808", HP_PARAM_BAD_RANGE, 0, NULL},
        {"int", "-9223372036854775809", HP_PARAM_BAD_RANGE, 0, NULL},
        {"int", "18446744073709551616", HP_PARAM_BAD_RANGE, 0, NULL},
        {"int", "99999999999999999999999", HP_PARAM_BAD_RANGE, 0, NULL},
        {"int", "99999999999999999999999x", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", "", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", "-", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", "+1", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", "-0", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", "01", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", "00", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", " 1", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", "1 ", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", "1.0", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", "1e3", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", "0x10", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int", "--1", HP_PARAM_BAD_TYPE, 0, NULL},
        {"int(1..100)", "1", HP_PARAM_OK, 1, NULL},
        {"int(1..100)", "100", HP_PARAM_OK, 100, NULL},
        {"int(1..100)", "0", HP_PARAM_BAD_RANGE, 0, NULL},
        {"int(1..100)", "101", HP_PARAM_BAD_RANGE, 0, NULL},
        {"int(-5..-2)", "-5", HP_PARAM_OK, -5, NULL},
        {"int(-5..-2)", "-1", HP_PARAM_BAD_RANGE, 0, NULL},
        {"int(5..)", "9223372036854775807", HP_PARAM_OK, INT64_MAX, NULL},
        {"int(..5)", "-9223372036854775808", HP_PARAM_OK, INT64_MIN, NULL},
        {"int(7..7)", "7", HP_PARAM_OK, 7, NULL},
        {"uint", "0", HP_PARAM_OK, 0, NULL},
        {"uint", "-1", HP_PARAM_BAD_RANGE, 0, NULL},
        {"uint(..10)", "10", HP_PARAM_OK, 10, NULL},
        {"uint(..10)", "11", HP_PARAM_BAD_RANGE, 0, NULL},

        {"bool", "true", HP_PARAM_OK, 1, NULL},
        {"bool", "false", HP_PARAM_OK, 0, NULL},
        {"bool", "True", HP_PARAM_BAD_TYPE, 0, NULL},
        {"bool", "1", HP_PARAM_BAD_TYPE, 0, NULL},
        {"bool", "", HP_PARAM_BAD_TYPE, 0, NULL},

        {"string", "a", HP_PARAM_OK, 0, NULL},
        {"string", "", HP_PARAM_BAD_LENGTH, 0, NULL},
        {"string(0..4)", "", HP_PARAM_OK, 0, NULL},
        {"string(..4)", "", HP_PARAM_OK, 0, NULL},
        {"string(2..3)", "a", HP_PARAM_BAD_LENGTH, 0, NULL},
        {"string(2..3)", "ab", HP_PARAM_OK, 0, NULL},
        {"string(2..3)", "abc", HP_PARAM_OK, 0, NULL},
        {"string(2..3)", "abcd", HP_PARAM_BAD_LENGTH, 0, NULL},
        {"string", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80 ~", HP_PARAM_OK, 0,
         NULL},
        {"string(3..3)", "\xe2\x82\xac", HP_PARAM_OK, 0, NULL},
        {"string", "a\tb", HP_PARAM_BAD_CHARACTERS, 0, NULL},
        {"string", "a\x7f", HP_PARAM_BAD_CHARACTERS, 0, NULL},
        {"string", "\xc2\x85", HP_PARAM_BAD_CHARACTERS, 0, NULL},
        {"string", "\xc2\xa0", HP_PARAM_OK, 0, NULL},
        {"string", "\xc3", HP_PARAM_BAD_CHARACTERS, 0, NULL},
        {"string", "\xed\xa0\x80", HP_PARAM_BAD_CHARACTERS, 0, NULL},
        {"string(1..8,text)", "\xc3\xa4", HP_PARAM_OK, 0, NULL},
        {"string(1..8,ascii)", "a ~!", HP_PARAM_OK, 0, NULL},
        {"string(1..8,ascii)", "\xc3\xa4", HP_PARAM_BAD_CHARACTERS, 0, NULL},
        {"string(1..8,word)", "aZ09_-.", HP_PARAM_OK, 0, NULL},
        {"string(1..8,word)", "a b", HP_PARAM_BAD_CHARACTERS, 0, NULL},
        {"string(1..8,word)", "a@", HP_PARAM_BAD_CHARACTERS, 0, NULL},
        {"string(1..8,word)", "[]", HP_PARAM_BAD_CHARACTERS, 0, NULL},
        {"string(1..8,alnum)", "aZ09", HP_PARAM_OK, 0, NULL},
        {"string(1..8,alnum)", "a_", HP_PARAM_BAD_CHARACTERS, 0, NULL},
        {"string(1..8,digits)", "0099", HP_PARAM_OK, 0, NULL},
        {"string(1..8,digits)", "9a", HP_PARAM_BAD_CHARACTERS, 0, NULL},
        {"string(1..8,hex)", "09afAF", HP_PARAM_OK, 0, NULL},
        {"string(1..8,hex)", "g", HP_PARAM_BAD_CHARACTERS, 0, NULL},

        {"enum(asc|desc)", "asc", HP_PARAM_OK, 0, NULL},
        {"enum(asc|desc)", "desc", HP_PARAM_OK, 1, NULL},
        {"enum(asc|desc)", "Desc", HP_PARAM_BAD_CHOICE, 0, NULL},
        {"enum(asc|desc)", "des", HP_PARAM_BAD_CHOICE, 0, NULL},
        {"enum(asc|desc)", "asc|desc", HP_PARAM_BAD_CHOICE, 0, NULL},
        {"enum(asc|desc)", "", HP_PARAM_BAD_CHOICE, 0, NULL},
        {"enum(a)", "a", HP_PARAM_OK, 0, NULL},

        {"uuid", "8E03978E-40D5-43DD-BC93-6894A57F9324", HP_PARAM_OK, 0,
         "8e03978e-40d5-43dd-bc93-6894a57f9324"},
        {"uuid", "8e03978e-40d5-43dd-bc93-6894a57f932", HP_PARAM_BAD_TYPE, 0,
         NULL},
        {"uuid", "8e03978e40d543ddbc936894a57f9324", HP_PARAM_BAD_TYPE, 0,
         NULL},
        {"uuid", "", HP_PARAM_BAD_TYPE, 0, NULL},

        {"date", "1970-01-02", HP_PARAM_OK, 1, NULL},
        {"date", "2023-02-29", HP_PARAM_BAD_TYPE, 0, NULL},
        {"date", "1970-1-2", HP_PARAM_BAD_TYPE, 0, NULL},
        {"date", "", HP_PARAM_BAD_TYPE, 0, NULL},
        {"time", "1970-01-01t01:00:01+01:00", HP_PARAM_OK, 1000000,
         "1970-01-01T00:00:01.000000Z"},
        {"time", "1970-01-01", HP_PARAM_BAD_TYPE, 0, NULL},
        {"time", "", HP_PARAM_BAD_TYPE, 0, NULL},
    };

    hp_param_status_t status;
    hp_param_value_t value;
    hp_param_rule_t rule;
    hp_str_t text, copy;
    const char *wrong;
    size_t i, len;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        for (len = 0; len < strlen(cases[i].rule); len++) {
            copy = exact(cases[i].rule, len);
            (void)hp_param_rule(&rule, copy);
            drop(&copy);
        }

        text = exact_text(cases[i].rule);
        wrong = hp_param_rule(&rule, text);

        if (wrong != NULL) {
            fail_msg("%s: %s", cases[i].rule, wrong);
        }

        for (len = 0; len < strlen(cases[i].value); len++) {
            copy = exact(cases[i].value, len);
            (void)hp_param_check(&rule, copy, &value);
            drop(&copy);
        }

        copy = exact_text(cases[i].value);
        status = hp_param_check(&rule, copy, &value);
        drop(&copy);
        drop(&text);

        if (status != cases[i].status ||
            (status == HP_PARAM_OK && value.number != cases[i].number)) {
            fail_msg("%s of %s: %s", cases[i].value, cases[i].rule,
                     hp_param_code(status));
        }

        if (status == HP_PARAM_OK) {
            assert_same((hp_str_t){value.text, value.text_len},
                        text_of(cases[i].text ? cases[i].text : ""));
        }
    }
}

static void test_empty_null(void **state)
{
    static const char *const rules[] = {"int",  "bool", "enum(a)",
                                        "uuid", "date", "time"};

    hp_param_value_t value;
    hp_param_rule_t rule;
    hp_str_t none;
    size_t i;

    (void)state;
    none = (hp_str_t){NULL, 0};

    for (i = 0; i < COUNT_OF(rules); i++) {
        assert_null(hp_param_rule(&rule, text_of(rules[i])));
        assert_true(hp_param_check(&rule, none, &value) != HP_PARAM_OK);
    }

    assert_null(hp_param_rule(&rule, text_of("string(0..1)")));
    assert_int_equal(hp_param_check(&rule, none, &value), HP_PARAM_OK);
    assert_non_null(hp_param_rule(&rule, none));
}

static void test_int_edges(void **state)
{
    hp_param_value_t value;
    hp_param_rule_t rule;
    uint64_t random;
    char text[32];
    int64_t number;
    int i;

    (void)state;
    random = 5;
    assert_null(hp_param_rule(&rule, text_of("int")));

    for (i = 0; i < 20000; i++) {
        number = (int64_t)(next_random(&random) >> next_random(&random) % 64);
        number = i % 2 ? number : -number;
        snprintf(text, sizeof(text), "%lld", (long long)number);
        assert_int_equal(hp_param_check(&rule, text_of(text), &value),
                         HP_PARAM_OK);
        assert_true(value.number == number);
        assert_true(value.number == strtoll(text, NULL, 10));
    }

    /* what is out of range is known as far as int64_t reaches */
    assert_null(hp_param_rule(&rule, text_of("int(5..10)")));
    assert_int_equal(hp_param_check(&rule, text_of("-3"), &value),
                     HP_PARAM_BAD_RANGE);
    assert_true(value.number == -3);
    assert_int_equal(hp_param_check(&rule, text_of("11"), &value),
                     HP_PARAM_BAD_RANGE);
    assert_true(value.number == 11);
    assert_int_equal(
        hp_param_check(&rule, text_of("9223372036854775808"), &value),
        HP_PARAM_BAD_RANGE);
    assert_true(value.number == INT64_MAX);
    assert_int_equal(
        hp_param_check(&rule, text_of("-99999999999999999999"), &value),
        HP_PARAM_BAD_RANGE);
    assert_true(value.number == INT64_MIN);
}

/* ---- decoding ---- */

static hp_param_status_t decode(const char *raw, size_t raw_len, int plus,
                                hp_str_t *out)
{
    hp_param_status_t status, in_place;
    hp_str_t copy, dst;
    size_t len, again;

    copy = exact(raw, raw_len);
    dst = exact(raw, raw_len);
    status = hp_param_decode((unsigned char *)dst.data, &len, copy, plus);
    in_place = hp_param_decode((unsigned char *)copy.data, &again, copy, plus);
    assert_int_equal(status, in_place);

    if (status == HP_PARAM_OK) {
        assert_int_equal(len, again);
        assert_memory_equal(dst.data, copy.data, len);
    }

    drop(&copy);
    dst.len = len;
    *out = dst;
    return status;
}

static void test_decode(void **state)
{
    static const struct {
        const char *raw;
        int plus;
        hp_param_status_t status;
        const char *text;
    } cases[] = {
        {"", 1, HP_PARAM_OK, ""},
        {"abc", 1, HP_PARAM_OK, "abc"},
        {"a%20b", 1, HP_PARAM_OK, "a b"},
        {"a+b", 1, HP_PARAM_OK, "a b"},
        {"a+b", 0, HP_PARAM_OK, "a+b"},
        {"a%2bb%2B", 1, HP_PARAM_OK, "a+b+"},
        {"%25%32%35", 1, HP_PARAM_OK, "%25"},
        {"%c3%A4", 1, HP_PARAM_OK, "\xc3\xa4"},
        {"%2e%2e%2f", 1, HP_PARAM_OK, "../"},
        {"%", 1, HP_PARAM_BAD_ESCAPE, ""},
        {"%2", 1, HP_PARAM_BAD_ESCAPE, ""},
        {"a%", 1, HP_PARAM_BAD_ESCAPE, ""},
        {"%g0", 1, HP_PARAM_BAD_ESCAPE, ""},
        {"%0g", 1, HP_PARAM_BAD_ESCAPE, ""},
        {"%%41", 1, HP_PARAM_BAD_ESCAPE, ""},
        {"%u0041", 1, HP_PARAM_BAD_ESCAPE, ""},
        {"% 1", 1, HP_PARAM_BAD_ESCAPE, ""},
        {"a%00b", 1, HP_PARAM_BAD_NUL, ""},
    };

    char raw[8];
    hp_str_t text;
    unsigned byte;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(
            decode(cases[i].raw, strlen(cases[i].raw), cases[i].plus, &text),
            cases[i].status);

        if (cases[i].status == HP_PARAM_OK) {
            assert_same(text, text_of(cases[i].text));
        }

        drop(&text);
    }

    assert_int_equal(decode("a\0b", 3, 1, &text), HP_PARAM_BAD_NUL);
    drop(&text);

    for (byte = 1; byte < 256; byte++) {
        snprintf(raw, sizeof(raw), byte % 2 ? "%%%02x" : "%%%02X", byte);
        assert_int_equal(decode(raw, 3, 1, &text), HP_PARAM_OK);
        assert_int_equal(text.len, 1);
        assert_int_equal(text.data[0], byte);
        drop(&text);
    }
}

static void test_query(void **state)
{
    static const struct {
        const char *query;
        const char *pieces; /* name:value; for each */
    } cases[] = {
        {"", ""},
        {"&", ""},
        {"a=1", "a:1;"},
        {"a=1&b=2", "a:1;b:2;"},
        {"&&a=1&&b=&c&=d&e=f=g&", "a:1;b:;c:;:d;e:f=g;"},
        {"a%3D=%26", "a%3D:%26;"},
        {"=", ":;"},
    };

    hp_str_t query, rest, name, value;
    char pieces[128];
    size_t i, len;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        query = rest = exact_text(cases[i].query);
        len = 0;

        while (hp_param_next(&rest, &name, &value)) {
            len += (size_t)snprintf(pieces + len, sizeof(pieces) - len,
                                    "%.*s:%.*s;", (int)name.len, name.data,
                                    (int)value.len, value.data);
        }

        assert_same((hp_str_t){(unsigned char *)pieces, len},
                    text_of(cases[i].pieces));
        drop(&query);
    }

    query = exact_text("limit=5&a=x&b=y&a=z&LIMIT=6&limits=7&a");
    assert_int_equal(hp_param_find(query, text_of("limit"), &value), 1);
    assert_same(value, text_of("5"));
    assert_int_equal(hp_param_find(query, text_of("a"), &value), 2);
    assert_same(value, text_of("x"));
    assert_int_equal(hp_param_find(query, text_of("b"), &value), 1);
    assert_int_equal(hp_param_find(query, text_of("c"), &value), 0);
    assert_int_equal(hp_param_find(query, text_of("limi"), &value), 0);
    drop(&query);

    /* whoever decodes names sees the second one as well */
    query = exact_text("limit=5&%6Cimi%74=6&a+b=1&%6cimits=7&%zz=8");
    assert_int_equal(hp_param_find(query, text_of("limit"), &value), 2);
    assert_same(value, text_of("5"));
    assert_int_equal(hp_param_find(query, text_of("a b"), &value), 1);
    assert_same(value, text_of("1"));
    assert_int_equal(hp_param_find(query, text_of("limits"), &value), 1);
    drop(&query);
}

static void test_named(void **state)
{
    char given[3 * HP_PARAM_NAME_MAX + 4], name[HP_PARAM_NAME_MAX + 2];
    hp_str_t copy;
    size_t len, i;

    (void)state;

    for (len = 1; len <= HP_PARAM_NAME_MAX + 1; len++) {
        memset(name, 'n', len);
        name[len] = '\0';

        for (i = 0; i < len; i++) {
            memcpy(given + 3 * i, "%6e", 4);
        }

        copy = exact_text(given);
        assert_int_equal(hp_param_named(copy, text_of(name)),
                         len <= HP_PARAM_NAME_MAX);
        copy.len--;
        assert_int_equal(hp_param_named(copy, text_of(name)), 0);
        copy.len++;
        drop(&copy);

        copy = exact_text(name);
        assert_int_equal(hp_param_named(copy, text_of(name)),
                         len <= HP_PARAM_NAME_MAX);
        drop(&copy);
    }

    assert_int_equal(hp_param_named(text_of(""), text_of("")), 0);
    assert_int_equal(hp_param_named(text_of("N"), text_of("n")), 0);
}

static void test_codes(void **state)
{
    (void)state;
    assert_string_equal(hp_param_code(HP_PARAM_OK), "ok");
    assert_string_equal(hp_param_code(HP_PARAM_BAD_TYPE), "param_type");
    assert_string_equal(hp_param_code(HP_PARAM_BAD_RANGE), "param_range");
    assert_string_equal(hp_param_code(HP_PARAM_BAD_LENGTH), "param_length");
    assert_string_equal(hp_param_code(HP_PARAM_BAD_CHARACTERS),
                        "param_characters");
    assert_string_equal(hp_param_code(HP_PARAM_BAD_CHOICE), "param_choice");
    assert_string_equal(hp_param_code(HP_PARAM_BAD_ESCAPE), "param_escape");
    assert_string_equal(hp_param_code(HP_PARAM_BAD_NUL), "param_nul");
    assert_string_equal(hp_param_code(HP_PARAM_BAD_REPEAT), "param_repeat");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_refused), cmocka_unit_test(test_values),
        cmocka_unit_test(test_empty_null),    cmocka_unit_test(test_int_edges),
        cmocka_unit_test(test_decode),        cmocka_unit_test(test_query),
        cmocka_unit_test(test_named),         cmocka_unit_test(test_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
