/*
 * test_fields.c: unit tests of ngx_module/core/hp_fields.c.
 *
 * Lists that are taken and refused; selections from documents, into a buffer of
 * exactly the document's size and over the document itself; documents made at
 * random against the same selection made with cJSON; documents that were never
 * checked, cut and garbled, which must only stay inside their bounds.
 *
 * One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_fields.h"
#include "hp_json.h"

static void test_parse(void **state)
{
    static const struct {
        const char *value;
        int count; /* -1: refused */
    } cases[] = {
        {"a", 1},    {"a,b,c", 3},    {"a,b,a", 2},   {"a.b", 1},
        {"a b", 1},  {"\xc3\xa4", 1}, {"A,a", 2},     {"", -1},
        {",", -1},   {"a,", -1},      {",a", -1},     {"a,,b", -1},
        {"a\n", -1}, {"a\x7f", -1},   {"\xc3,a", -1}, {"\xed\xa0\x80", -1},
    };

    hp_fields_t fields;
    hp_str_t copy;
    char many[4 * 40], *p;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        copy = exact_text(cases[i].value);
        assert_int_equal(hp_fields_parse(&fields, copy),
                         cases[i].count < 0 ? -1 : 0);

        if (cases[i].count >= 0) {
            assert_int_equal(fields.count, cases[i].count);
        }

        drop(&copy);
    }

    p = many;

    for (i = 0; i < HP_FIELDS_MAX + 1; i++) {
        p += sprintf(p, "n%02zu,", i);
    }

    copy = exact(many, (size_t)(p - many) - 1);
    assert_int_equal(hp_fields_parse(&fields, copy), -1);
    drop(&copy);
    copy = exact(many, (size_t)(p - many) - 5);
    assert_int_equal(hp_fields_parse(&fields, copy), 0);
    assert_int_equal(fields.count, HP_FIELDS_MAX);
    drop(&copy);

    /* again one that is there already */
    memcpy(p - 4, "n00", 3);
    copy = exact(many, (size_t)(p - many) - 1);
    assert_int_equal(hp_fields_parse(&fields, copy), 0);
    drop(&copy);

    memset(many, 'a', sizeof(many));
    copy = exact(many, HP_FIELD_NAME_MAX);
    assert_int_equal(hp_fields_parse(&fields, copy), 0);
    drop(&copy);
    copy = exact(many, HP_FIELD_NAME_MAX + 1);
    assert_int_equal(hp_fields_parse(&fields, copy), -1);
    drop(&copy);
}

static size_t write_one(hp_str_t dst, hp_str_t object, const char *list,
                        const hp_fields_t *fields)
{
    return list == NULL
               ? hp_fields_write((unsigned char *)dst.data, object, fields)
               : hp_fields_write_list((unsigned char *)dst.data, object,
                                      text_of(list), fields);
}

/* Into another buffer and in place; the length, with the text in *out. What was
 * not checked may come out differently over itself. list: NULL, or the member
 * in whose objects is selected. */
static size_t select_from(hp_str_t object, const char *list,
                          const hp_fields_t *fields, int checked, hp_str_t *out)
{
    hp_str_t dst, same;
    size_t len, again;

    dst = exact(object.data, object.len);
    same = exact(object.data, object.len);
    len = write_one(dst, object, list, fields);
    again = write_one(same, same, list, fields);
    assert_true(len <= object.len);
    assert_true(again <= object.len);
    out->data = dst.data;
    out->len = len;

    if (checked) {
        assert_int_equal(len, again);
        assert_memory_equal(dst.data, same.data, len);
    }

    drop(&same);
    return len;
}

static void test_write(void **state)
{
    static const struct {
        const char *fields;
        const char *object;
        const char *selected;
    } cases[] = {
        {"a", "{\"a\":1}", "{\"a\":1}"},
        {"a", "{}", "{}"},
        {"b", "{\"a\":1}", "{}"},
        {"c,a", "{\"a\":1,\"b\":2,\"c\":3}", "{\"a\":1,\"c\":3}"},
        {"b", " {\n \"a\" : 1 ,\t\"b\" : [ 1, 2 ] } ", "{\"b\":[ 1, 2 ]}"},
        {"a", "{\"b\":{\"a\":1},\"a\":{\"b\":\"}\"},\"c\":[{\"a\":2}]}",
         "{\"a\":{\"b\":\"}\"}}"},
        {"a", "{\"x\":\"\\\",\\\"a\\\":1\",\"a\":\"\\\\\"}",
         "{\"a\":\"\\\\\"}"},
        {"a", "{\"\\u0061\":1,\"ab\":2}", "{\"\\u0061\":1}"},
        {"\xf0\x9f\x98\x80", "{\"\\ud83d\\ude00\":[],\"a\":1}",
         "{\"\\ud83d\\ude00\":[]}"},
        {"a", "{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":2}"},
        {"a,b,c,d,e",
         "{\"a\":true,\"b\":null,\"c\":-1.5e3,\"d\":\"\",\"e\":[]}",
         "{\"a\":true,\"b\":null,\"c\":-1.5e3,\"d\":\"\",\"e\":[]}"},
        {"a", "{\"\":1,\"a\":{ }}", "{\"a\":{ }}"},
        {"a", "[{\"a\":1}]", ""},
        {"a", "\"a\"", ""},
        {"a", "1", ""},
        {"a", "null", ""},
    };

    hp_str_t object, value, out;
    hp_fields_t fields;
    size_t i, offset;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        object = exact_text(cases[i].object);
        assert_int_equal(hp_json_check(object, 100, &offset), HP_JSON_OK);
        value = exact_text(cases[i].fields);
        assert_int_equal(hp_fields_parse(&fields, value), 0);
        (void)select_from(object, NULL, &fields, 1, &out);
        assert_same(out, text_of(cases[i].selected));
        drop(&out);
        drop(&object);
        drop(&value);
    }
}

static void test_write_list(void **state)
{
    static const struct {
        const char *fields;
        const char *object;
        const char *selected;
    } cases[] = {
        {"a", "{\"data\":[]}", "{\"data\":[]}"},
        {"a", "{\"data\":[{}]}", "{\"data\":[{}]}"},
        {"a", "{\"data\":[{\"a\":1,\"b\":2},{\"b\":2,\"a\":3}]}",
         "{\"data\":[{\"a\":1},{\"a\":3}]}"},
        {"b",
         "{\"data\":[{\"a\":1},{\"b\":[1]}],\"nextCursor\":\"b\","
         "\"hasMore\":true}",
         "{\"data\":[{},{\"b\":[1]}],\"nextCursor\":\"b\","
         "\"hasMore\":true}"},
        {"a", " { \"x\" : 1 , \"data\" : [ { \"b\" : 1 , \"a\" : 2 } ] } ",
         "{\"x\":1,\"data\":[{\"a\":2}]}"},
        {"a", "{\"data\":[1,{\"a\":1},[{\"b\":1}],null,{\"b\":\"]}\"},\"x\"]}",
         "{\"data\":[1,{\"a\":1},[{\"b\":1}],null,{},\"x\"]}"},
        {"a", "{\"d\\u0061ta\":[{\"b\":1}]}", "{\"d\\u0061ta\":[{}]}"},
        {"a", "{\"data\":{\"b\":1},\"list\":[{\"b\":1}]}",
         "{\"data\":{\"b\":1},\"list\":[{\"b\":1}]}"},
        {"a", "{}", "{}"},
        {"a", "[{\"a\":1}]", ""},
        {"a", "1", ""},
    };

    hp_str_t object, value, out;
    hp_fields_t fields;
    size_t i, offset;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        object = exact_text(cases[i].object);
        assert_int_equal(hp_json_check(object, 100, &offset), HP_JSON_OK);
        value = exact_text(cases[i].fields);
        assert_int_equal(hp_fields_parse(&fields, value), 0);
        (void)select_from(object, "data", &fields, 1, &out);
        assert_same(out, text_of(cases[i].selected));
        drop(&out);
        drop(&object);
        drop(&value);
    }
}

static uint64_t hash_of(const char *list)
{
    hp_fields_t fields;

    assert_int_equal(hp_fields_parse(&fields, text_of(list)), 0);
    return hp_fields_hash(&fields);
}

static void test_hash(void **state)
{
    static const char *const lists[] = {"a",  "b",     "a,b",   "ab",
                                        "ba", "a,b,c", "c,d,a", "aa"};

    size_t i, k;

    (void)state;
    assert_true(hash_of("a,b,c") == hash_of("c,a,b"));
    assert_true(hash_of("a,b,a") == hash_of("b,a"));

    for (i = 0; i < COUNT_OF(lists); i++) {
        for (k = 0; k < i; k++) {
            assert_true(hash_of(lists[i]) != hash_of(lists[k]));
        }
    }
}

static cJSON *random_value(uint64_t *random, int depth)
{
    static const char *const texts[] = {
        "", "a", "\"}{,", "\\", "\n\x01", "\xc3\xa4 \xf0\x9f\x98\x80"};

    cJSON *value;
    char name[16];
    int i, n;

    n = (int)(next_random(random) % 4);

    switch (next_random(random) % (depth == 0 ? 4 : 6)) {
    case 0:
        return cJSON_CreateNull();
    case 1:
        return cJSON_CreateNumber((double)n * 1.25);
    case 2:
        return cJSON_CreateBool(n);
    case 3:
        return cJSON_CreateString(texts[next_random(random) % 6]);
    case 4:
        value = cJSON_CreateArray();

        for (i = 0; i < n; i++) {
            cJSON_AddItemToArray(value, random_value(random, depth - 1));
        }

        return value;
    default:
        value = cJSON_CreateObject();

        for (i = 0; i < n; i++) {
            snprintf(name, sizeof(name), "m%d", i);
            cJSON_AddItemToObject(value, name, random_value(random, depth - 1));
        }

        return value;
    }
}

static void test_random(void **state)
{
    char name[16], list[64], *text, *expected;
    cJSON *object, *chosen, *value;
    hp_str_t copy, out, names;
    hp_fields_t fields;
    uint64_t random;
    size_t len;
    int i, n, round;

    (void)state;
    random = 11;

    for (round = 0; round < 3000; round++) {
        object = cJSON_CreateObject();
        chosen = cJSON_CreateObject();
        n = (int)(next_random(&random) % 9);
        len = (size_t)sprintf(list, "none");

        for (i = 0; i < n; i++) {
            snprintf(name, sizeof(name), "m%d", i);
            value = random_value(&random, 3);
            cJSON_AddItemToObject(object, name, value);

            if (next_random(&random) % 2 == 0) {
                cJSON_AddItemToObject(chosen, name, cJSON_Duplicate(value, 1));
                len += (size_t)sprintf(list + len, ",m%d", i);
            }
        }

        names = exact(list, len);
        assert_int_equal(hp_fields_parse(&fields, names), 0);
        text = cJSON_PrintUnformatted(object);
        expected = cJSON_PrintUnformatted(chosen);
        copy = exact_text(text);
        (void)select_from(copy, NULL, &fields, 1, &out);
        assert_same(out, text_of(expected));

        drop(&out);
        drop(&copy);
        drop(&names);
        cJSON_free(text);
        cJSON_free(expected);
        cJSON_Delete(object);
        cJSON_Delete(chosen);
    }
}

static void test_unchecked(void **state)
{
    static const char text[] =
        "{\"a\":[1,{\"b\":\"\\u00e4\"},{\"d\":1,\"c\":2}],\"b\" : true,"
        "\"c\":\"x\\\"y\"}";
    static const char marks[] = "{}[]\",:\\ a";

    char changed[sizeof(text)];
    hp_fields_t fields;
    hp_str_t copy, out;
    size_t at, mark;

    (void)state;
    assert_int_equal(hp_fields_parse(&fields, text_of("a,b,c")), 0);

    for (at = 0; at < sizeof(text); at++) {
        copy = exact(text, at);
        (void)select_from(copy, NULL, &fields, 0, &out);
        drop(&out);
        (void)select_from(copy, "a", &fields, 0, &out);
        drop(&out);
        drop(&copy);

        for (mark = 0; mark < sizeof(marks); mark++) {
            memcpy(changed, text, sizeof(text));
            changed[at] = marks[mark];
            copy = exact(changed, sizeof(text) - 1);
            (void)select_from(copy, NULL, &fields, 0, &out);
            drop(&out);
            (void)select_from(copy, "a", &fields, 0, &out);
            drop(&out);
            drop(&copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),      cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_list), cmocka_unit_test(test_hash),
        cmocka_unit_test(test_random),     cmocka_unit_test(test_unchecked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
