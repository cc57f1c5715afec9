/*
 * test_purge.c: unit tests of ngx_module/core/hp_purge.c.
 *
 * What every form of target means, and every way in which a text is none:
 * above all, that nothing misspelt, doubled or of the wrong type is taken for
 * a larger target than was meant. Inputs and the scratch space are blocks of
 * exactly their size, for AddressSanitizer. One process, no files;
 * tests/unit/Makefile.
 */
#include "support.h"

#include "hp_purge.h"

typedef struct {
    hp_str_t text;
    unsigned char *scratch;
    hp_purge_t purge;
    hp_purge_status_t status;
} read_t;

static read_t read_text(const char *text)
{
    read_t r;

    r.text = exact_text(text);
    r.scratch = malloc(r.text.len == 0 ? 1 : r.text.len);
    assert_non_null(r.scratch);
    r.status = hp_purge_read(&r.purge, r.text, r.scratch);
    return r;
}

static void done(read_t *r)
{
    drop(&r->text);
    free(r->scratch);
}

static void expect(const char *text, hp_purge_status_t status)
{
    read_t r;

    r = read_text(text);

    if (r.status != status) {
        fail_msg("%s: %d, not %d", text, (int)r.status, (int)status);
    }

    done(&r);
}

static void expect_json(const char *text, hp_json_status_t json, size_t offset)
{
    read_t r;

    r = read_text(text);
    assert_int_equal(r.status, HP_PURGE_JSON);
    assert_int_equal(r.purge.json, json);
    assert_int_equal(r.purge.error_offset, offset);
    done(&r);
}

static void test_targets(void **state)
{
    read_t r;

    (void)state;

    r = read_text("{\"model\":\"prices\"}");
    assert_int_equal(r.status, HP_PURGE_OK);
    assert_same(r.purge.model, text_of("prices"));
    assert_int_equal(r.purge.has_tenant, 0);
    assert_int_equal(r.purge.nkeys, 0);
    assert_int_equal(r.purge.tag.len, 0);
    assert_int_equal(r.purge.soft, 0);
    done(&r);

    r = read_text(" {\n\"tenant\" : \"\", \"model\":\"@http\"} ");
    assert_int_equal(r.status, HP_PURGE_OK);
    assert_same(r.purge.model, text_of("@http"));
    assert_int_equal(r.purge.has_tenant, 1);
    assert_int_equal(r.purge.tenant.len, 0);
    done(&r);

    r = read_text("{\"key\":\"a\\\"\\u00e4\",\"mode\":\"so\\u0066t\","
                  "\"tenant\":\"ac\\u006de\",\"mo\\u0064el\":\"prices\"}");
    assert_int_equal(r.status, HP_PURGE_OK);
    assert_same(r.purge.model, text_of("prices"));
    assert_same(r.purge.tenant, text_of("acme"));
    assert_int_equal(r.purge.nkeys, 1);
    assert_same(r.purge.keys[0], text_of("a\"\xc3\xa4"));
    assert_int_equal(r.purge.soft, 1);
    done(&r);

    r = read_text("{\"model\":\"p\",\"keys\":[\"1\" , \"\\u0032\",\"3\"],"
                  "\"mode\":\"hard\"}");
    assert_int_equal(r.status, HP_PURGE_OK);
    assert_int_equal(r.purge.nkeys, 3);
    assert_same(r.purge.keys[0], text_of("1"));
    assert_same(r.purge.keys[1], text_of("2"));
    assert_same(r.purge.keys[2], text_of("3"));
    assert_int_equal(r.purge.soft, 0);
    done(&r);

    r = read_text("{\"model\":\"p\",\"tag\":\"spring \\/ 26\"}");
    assert_int_equal(r.status, HP_PURGE_OK);
    assert_same(r.purge.tag, text_of("spring / 26"));
    done(&r);
}

static void test_refused(void **state)
{
    (void)state;

    expect("{}", HP_PURGE_MODEL);
    expect("{\"model\":\"\"}", HP_PURGE_MODEL);
    expect("{\"model\":\"@\"}", HP_PURGE_MODEL);
    expect("{\"model\":\"@@http\"}", HP_PURGE_MODEL);
    expect("{\"model\":\"Prices\"}", HP_PURGE_MODEL);
    expect("{\"model\":\"pri*\"}", HP_PURGE_MODEL);
    expect("{\"model\":\"p\",\"tenant\":\"a b\"}", HP_PURGE_TENANT);
    expect("{\"model\":\"p\",\"tenant\":\"*\"}", HP_PURGE_TENANT);
    expect("{\"model\":\"p\",\"key\":\"\"}", HP_PURGE_KEY);
    expect("{\"model\":\"p\",\"keys\":[\"1\",\"\"]}", HP_PURGE_KEY);
    expect("{\"model\":\"p\",\"keys\":[]}", HP_PURGE_TARGET);
    expect("{\"model\":\"p\",\"tag\":\"\"}", HP_PURGE_TARGET);
    expect("{\"model\":\"p\",\"tag\":\"t\",\"key\":\"k\"}", HP_PURGE_TARGET);
    expect("{\"model\":\"p\",\"tag\":\"t\",\"keys\":[\"k\"]}", HP_PURGE_TARGET);
    expect("{\"model\":\"p\",\"key\":\"k\",\"keys\":[\"k\"]}", HP_PURGE_TARGET);
    expect("{\"model\":\"p\",\"mode\":\"\"}", HP_PURGE_MODE);
    expect("{\"model\":\"p\",\"mode\":\"Soft\"}", HP_PURGE_MODE);
}

static void test_not_json(void **state)
{
    (void)state;

    expect_json("", HP_JSON_EMPTY, 0);
    expect_json("  ", HP_JSON_EMPTY, 2);
    expect_json("{\"model\":\"p\"", HP_JSON_SYNTAX, 12);
    expect_json("{\"model\":\"p\"} x", HP_JSON_TRAILING, 14);
    expect_json(" [\"model\"]", HP_JSON_NOT_OBJECT, 1);
    expect_json("\"model\"", HP_JSON_NOT_OBJECT, 0);
    expect_json("{\"model\":\"p\",\"key\":\"\\u0000\"}", HP_JSON_NUL, 20);

    /* what is misspelt must not be passed over: it would purge the model */
    expect_json("{\"model\":\"p\",\"kye\":\"1\"}", HP_JSON_MEMBER_UNKNOWN, 13);
    expect_json("{\"model\":\"p\",\"\":1}", HP_JSON_MEMBER_UNKNOWN, 13);
    expect_json("{\"model\":\"p\",\"key\":\"1\",\"k\\u0065y\":\"2\"}",
                HP_JSON_MEMBER_DUPLICATE, 23);
    expect_json("{\"model\":\"p\",\"key\":null}", HP_JSON_MEMBER_TYPE, 19);
    expect_json("{\"model\":\"p\",\"key\":7}", HP_JSON_MEMBER_TYPE, 19);
    expect_json("{\"model\":\"p\",\"keys\":\"1\"}", HP_JSON_MEMBER_TYPE, 20);
    expect_json("{\"model\":\"p\",\"keys\":{\"1\":\"2\"}}", HP_JSON_MEMBER_TYPE,
                20);
    expect_json("{\"model\":\"p\",\"keys\":[\"1\",2]}", HP_JSON_MEMBER_TYPE,
                25);
    expect_json("{\"model\":\"p\",\"keys\":[[\"1\"]]}", HP_JSON_DEPTH, 21);
    expect_json("{\"model\":[\"p\"]}", HP_JSON_MEMBER_TYPE, 9);
}

/* The codes are those of the module's problem documents. */
static void test_codes(void **state)
{
    static const char *const cases[][2] = {
        {" ", "body_empty"},
        {"[]", "body_not_object"},
        {"{", "json_syntax"},
        {"{\"model\":1}", "member_type"},
        {"{\"x\":1}", "member_unknown"},
        {"{\"model\":\"p\",\"model\":\"p\"}", "member_duplicate"},
        {"{\"model\":\"\"}", "purge_model_invalid"},
        {"{\"model\":\"p\",\"tenant\":\" \"}", "tenant_invalid"},
        {"{\"model\":\"p\",\"key\":\"\"}", "read_key_invalid"},
        {"{\"model\":\"p\",\"tag\":\"\"}", "purge_target_invalid"},
        {"{\"model\":\"p\",\"mode\":\"\"}", "purge_mode_invalid"},
    };
    size_t i;
    read_t r;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        r = read_text(cases[i][0]);
        assert_string_equal(hp_purge_code(&r.purge, r.status), cases[i][1]);
        done(&r);
    }
}

/* As many keys as are allowed, and one more; a key and a tag as long. */
static void test_bounds(void **state)
{
    static char text[4096];
    size_t i, len;
    int more;

    (void)state;

    for (more = 0; more < 2; more++) {
        len = (size_t)sprintf(text, "{\"model\":\"p\",\"keys\":[");

        for (i = 0; i < HP_PURGE_KEYS_MAX + (size_t)more; i++) {
            len += (size_t)sprintf(text + len, "%s\"%zu\"", i ? "," : "", i);
        }

        strcpy(text + len, "]}");
        expect(text, more ? HP_PURGE_TARGET : HP_PURGE_OK);

        sprintf(text, "{\"model\":\"p\",\"key\":\"%0*d\"}",
                HP_PURGE_KEY_MAX + more, 7);
        expect(text, more ? HP_PURGE_KEY : HP_PURGE_OK);

        sprintf(text, "{\"model\":\"p\",\"tag\":\"%0*d\"}",
                HP_PURGE_TAG_MAX + more, 7);
        expect(text, more ? HP_PURGE_TARGET : HP_PURGE_OK);

        sprintf(text, "{\"model\":\"@%.*s\"}", 63 + more,
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                "aaaa");
        expect(text, more ? HP_PURGE_MODEL : HP_PURGE_OK);
    }
}

/* Every cut of a good text is refused, and read no further than it goes. */
static void test_cuts(void **state)
{
    static const char whole[] = "{\"model\":\"p\",\"tenant\":\"t\","
                                "\"keys\":[\"\\u0041\",\"b\"],"
                                "\"mode\":\"soft\"}";
    char text[sizeof(whole)];
    size_t len;

    (void)state;

    for (len = 0; len < sizeof(whole) - 1; len++) {
        memcpy(text, whole, len);
        text[len] = '\0';
        expect(text, HP_PURGE_JSON);
    }

    expect(whole, HP_PURGE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_not_json), cmocka_unit_test(test_codes),
        cmocka_unit_test(test_bounds),   cmocka_unit_test(test_cuts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
