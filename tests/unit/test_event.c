/*
 * test_event.c: unit tests of ngx_module/core/hp_event.c.
 *
 * Forms by a table of Content-Type and ce-specversion; arrays by the elements
 * they must give, with offsets, and by their count at the bound from both
 * sides. Every element must be the very bytes of the body. Inputs are blocks
 * of exactly their size, for AddressSanitizer. One process, no files;
 * tests/unit/Makefile.
 */
#include "support.h"

#include "hp_event.h"
#include "hp_json.h"
#include "json_texts.h"

static void test_form(void **state)
{
    static const struct {
        const char *type;
        int has_specversion;
        hp_event_status_t status;
        hp_event_form_t form;
    } cases[] = {
        {"", 0, HP_EVENT_OK, HP_EVENT_OWN},
        {"", 1, HP_EVENT_OK, HP_EVENT_BINARY},
        {"application/json", 0, HP_EVENT_OK, HP_EVENT_OWN},
        {"application/json", 1, HP_EVENT_OK, HP_EVENT_BINARY},
        {"application/json; charset=utf-8", 0, HP_EVENT_OK, HP_EVENT_OWN},
        {"application/vnd.x+json", 1, HP_EVENT_OK, HP_EVENT_BINARY},
        {"application/cloudevents+json", 0, HP_EVENT_OK, HP_EVENT_STRUCTURED},
        {"application/cloudevents+json", 1, HP_EVENT_OK, HP_EVENT_STRUCTURED},
        {"application/cloudevents-batch+json", 0, HP_EVENT_OK, HP_EVENT_BATCH},
        {"application/cloudevents-batch+json", 1, HP_EVENT_OK, HP_EVENT_BATCH},
        {"application/vnd.x+json", 0, HP_EVENT_CONTENT_TYPE_UNSUPPORTED, 0},
        {"text/plain", 0, HP_EVENT_CONTENT_TYPE_UNSUPPORTED, 0},
        {"text/plain", 1, HP_EVENT_CONTENT_TYPE_UNSUPPORTED, 0},
        {"application/cloudevents+avro", 1, HP_EVENT_CONTENT_TYPE_UNSUPPORTED,
         0},
        {"application/cloudevents", 0, HP_EVENT_CONTENT_TYPE_UNSUPPORTED, 0},
        {"json", 0, HP_EVENT_CONTENT_TYPE_INVALID, 0},
        {"application/json,application/json", 0, HP_EVENT_CONTENT_TYPE_INVALID,
         0},
        {"application/json; charset=latin1", 0, HP_EVENT_CHARSET_UNSUPPORTED,
         0},
        {"application/cloudevents+json; charset=utf-16", 0,
         HP_EVENT_CHARSET_UNSUPPORTED, 0},
    };

    hp_event_status_t status;
    hp_event_form_t form;
    hp_str_t type;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        type = exact_text(cases[i].type);
        status = hp_event_form(type, cases[i].has_specversion, &form);
        drop(&type);

        if (status != cases[i].status ||
            (status == HP_EVENT_OK && form != cases[i].form)) {
            fail_msg("%s: %s, form %d", cases[i].type, hp_event_code(status),
                     (int)form);
        }
    }
}

/* Every code is there, once. */
static void test_codes(void **state)
{
    int i, j;

    (void)state;

    for (i = 0; i <= HP_EVENT_DATA_BASE64; i++) {
        assert_non_null(hp_event_code((hp_event_status_t)i));
        assert_true(
            strcmp(hp_event_code((hp_event_status_t)i), "event_unknown") != 0);

        for (j = 0; j < i; j++) {
            assert_true(strcmp(hp_event_code((hp_event_status_t)i),
                               hp_event_code((hp_event_status_t)j)) != 0);
        }
    }

    assert_string_equal(hp_event_code((hp_event_status_t)i), "event_unknown");
}

static void test_elements(void **state)
{
    /* elements are joined with '\v' */
    static const struct {
        const char *text;
        const char *elements;
        uint32_t count;
    } cases[] = {
        {"[]", "", 0},
        {" [ ] ", "", 0},
        {"[1]", "1", 1},
        {" [ 1 , \"a\" ,null,[ [] ],{\"a\":[1,2]} ] ",
         "1\v\"a\"\vnull\v[ [] ]\v{\"a\":[1,2]}", 5},
        {"[{},{} , {}]", "{}\v{}\v{}", 3},
        {"[\"],[\",\"\\\"\"]", "\"],[\"\v\"\\\"\"", 2},
        {"\n[\n{\"a\":1}\n,\n{\"b\":\"]\"}\n]\n", "{\"a\":1}\v{\"b\":\"]\"}",
         2},
    };

    size_t i, len, offset;
    hp_event_list_t list;
    hp_str_t text, element;
    const char *next;
    uint32_t count;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        text = exact_text(cases[i].text);
        assert_int_equal(hp_json_check(text, 10, &offset), HP_JSON_OK);
        assert_int_equal(hp_event_is_list(text), 1);
        assert_int_equal(hp_event_list_open(&list, text, cases[i].count),
                         HP_EVENT_OK);
        assert_int_equal(list.count, cases[i].count);
        next = cases[i].elements;

        for (count = 0; hp_event_list_next(&list, &element, &offset); count++) {
            len = strcspn(next, "\v");
            assert_int_equal(element.len, len);
            assert_memory_equal(element.data, next, len);
            assert_ptr_equal(element.data, text.data + offset);
            next += len + (next[len] != '\0');
        }

        assert_int_equal(count, cases[i].count);
        assert_int_equal(hp_event_list_next(&list, &element, &offset), 0);

        if (cases[i].count != 0) {
            assert_int_equal(
                hp_event_list_open(&list, text, cases[i].count - 1),
                HP_EVENT_BATCH_TOO_MANY);
        }

        drop(&text);
    }
}

static void test_no_array(void **state)
{
    hp_event_list_t list;
    hp_str_t text;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(accepted); i++) {
        text = exact_text(accepted[i]);

        if (hp_event_is_list(text)) {
            assert_int_equal(hp_event_list_open(&list, text, UINT32_MAX),
                             HP_EVENT_OK);
        } else {
            assert_int_equal(hp_event_list_open(&list, text, UINT32_MAX),
                             HP_EVENT_BATCH_NOT_ARRAY);
        }

        drop(&text);
    }

    for (i = 0; i < 3; i++) {
        text = exact("  ", i);
        assert_int_equal(hp_event_is_list(text), 0);
        assert_int_equal(hp_event_list_open(&list, text, 1),
                         HP_EVENT_BATCH_NOT_ARRAY);
        drop(&text);
    }
}

/* A batch: each element has its own result. */
static void test_envelopes(void **state)
{
    static const char text[] =
        "[{\"eventType\":\"a\",\"payload\":1},{\"eventtype\":\"b\"},7,"
        "{\"eventType\":\"c\",\"eventType\":\"d\"},{\"eventType\":5},{}]";
    static const struct {
        hp_json_status_t status;
        const char *at; /* the text from the error on begins so */
    } expected[] = {
        {HP_JSON_OK, NULL},
        {HP_JSON_MEMBER_UNKNOWN, "\"eventtype\":"},
        {HP_JSON_NOT_OBJECT, "7,"},
        {HP_JSON_MEMBER_DUPLICATE, "\"eventType\":\"d\""},
        {HP_JSON_MEMBER_TYPE, "5}"},
        {HP_JSON_OK, NULL},
    };

    hp_json_event_t event;
    hp_event_list_t list;
    hp_str_t copy, element;
    size_t i, offset;

    (void)state;

    copy = exact_text(text);
    assert_int_equal(hp_event_list_open(&list, copy, 100), HP_EVENT_OK);

    for (i = 0; hp_event_list_next(&list, &element, &offset); i++) {
        assert_true(i < COUNT_OF(expected));
        assert_int_equal(hp_json_event(element, 10, &event),
                         expected[i].status);

        if (expected[i].at != NULL) {
            assert_memory_equal(text + offset + event.error_offset,
                                expected[i].at, strlen(expected[i].at));
        }
    }

    assert_int_equal(i, COUNT_OF(expected));
    drop(&copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),      cmocka_unit_test(test_codes),
        cmocka_unit_test(test_elements),  cmocka_unit_test(test_no_array),
        cmocka_unit_test(test_envelopes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
