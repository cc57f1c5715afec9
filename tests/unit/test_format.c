/*
 * test_format.c: unit tests of ngx_module/core/hp_format.c.
 *
 * Every grammar by a list of texts with the expected answer; every accepted
 * text is cut at every place and changed at every byte as well, which must
 * stay inside the text (blocks of exactly its size, for AddressSanitizer). One
 * process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_format.h"

static int is_time(const char *text)
{
    hp_str_t copy;
    int valid;

    copy = exact_text(text);
    valid = hp_date_time_valid(copy);
    drop(&copy);
    return valid;
}

static int is_uri(const char *text, int needs_scheme)
{
    hp_str_t copy;
    int valid;

    copy = exact_text(text);
    valid = hp_uri_valid(copy, needs_scheme);
    drop(&copy);
    return valid;
}

static void test_date_time(void **state)
{
    static const char *const good[] = {
        "2024-02-29T23:59:59Z",
        "2024-02-29t23:59:59z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "2018-04-05T17:31:00.1+01:00",
        "2018-04-05T17:31:00-23:59",
        "2018-04-05T17:31:00.123456789012345678901234567890Z",
        "1998-12-31T23:59:60Z",
        "1998-12-31T15:59:60.123-08:00",
        "1999-01-01T08:59:60+09:00",
    };
    static const char *const bad[] = {
        "",
        "2024-02-29",
        "2024-02-29T23:59:59",
        "2023-02-29T23:59:59Z",
        "2024-13-01T00:00:00Z",
        "2024-00-01T00:00:00Z",
        "2024-01-00T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2024-02-29 23:59:59Z",
        "2024-02-29T24:00:00Z",
        "2024-02-29T23:60:00Z",
        "2024-02-29T23:59:61Z",
        "2024-02-29T22:59:60Z",
        "2024-02-29T23:58:60Z",
        "1998-12-31T23:59:60+01:00",
        "2024-02-29T23:59:59.Z",
        "2024-02-29T23:59:59.",
        "2024-02-29T23:59:5Z0",
        "2024-02-29T23:59:59+24:00",
        "2024-02-29T23:59:59+01:60",
        "2024-02-29T23:59:59+0100",
        "2024-02-29T23:59:59+01",
        "2024-02-29T23:59:59ZZ",
        "2024-02-29T23:59:59Z ",
        " 2024-02-29T23:59:59Z",
        "24-02-29T23:59:59Z00",
        "2018-04-05T17:31:00.12345678901234567890123456789012345678901234Z",
    };

    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(good); i++) {
        if (!is_time(good[i])) {
            fail_msg("%s", good[i]);
        }
    }

    for (i = 0; i < COUNT_OF(bad); i++) {
        if (is_time(bad[i])) {
            fail_msg("%s", bad[i]);
        }
    }
}

static void test_uri(void **state)
{
    /* 2: a URI, 1: a reference without scheme, 0: neither */
    static const struct {
        const char *text;
        int answer;
    } cases[] = {
        {"https://example.com/a?b=c#d", 2},
        {"urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66", 2},
        {"mailto:a@example.com", 2},
        {"a+b-c.9:", 2},
        {"x:%20%aF", 2},
        {"x:%0F%f0", 2},
        {"http://[2001:db8::1]:80/", 2},
        {"/cloudevents/spec/pull/123", 1},
        {"//host/path", 1},
        {"?q", 1},
        {"#", 1},
        {"./a:b", 1},
        {"a/b:c", 1},
        {"1-555-123-4567", 1},
        {"a%20b", 1},
        {"tag", 1},
        {"", 0},
        {":", 0},
        {":a", 0},
        {"1:a", 0},
        {"a_b:c", 0},
        {"a%20b:c", 0},
        {"a b", 0},
        {" a", 0},
        {"a\n", 0},
        {"a\x7f", 0},
        {"a\xc3\xa4", 0},
        {"a\"b", 0},
        {"<a>", 0},
        {"a\\b", 0},
        {"a^b", 0},
        {"a`b", 0},
        {"{a}", 0},
        {"a|b", 0},
        {"a#b#c", 0},
        {"%", 0},
        {"%4", 0},
        {"%4g", 0},
        {"a%g4", 0},
    };

    hp_str_t nul;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        if (is_uri(cases[i].text, 0) != (cases[i].answer >= 1) ||
            is_uri(cases[i].text, 1) != (cases[i].answer == 2)) {
            fail_msg("%s", cases[i].text);
        }
    }

    nul = exact("a\0b", 3);
    assert_int_equal(hp_uri_valid(nul, 0), 0);
    drop(&nul);
}

static void test_media(void **state)
{
    /* kind 0: refused */
    static const struct {
        const char *text;
        int kind;
        unsigned charset_other;
    } cases[] = {
        {"application/json", HP_MEDIA_JSON, 0},
        {"Application/JSON", HP_MEDIA_JSON, 0},
        {"\t application/json \t", HP_MEDIA_JSON, 0},
        {"application/json;charset=utf-8", HP_MEDIA_JSON, 0},
        {"application/json ; Charset=\"UTF-8\"", HP_MEDIA_JSON, 0},
        {"application/json; charset=utf-8;", HP_MEDIA_JSON, 0},
        {"application/json;;; a=b ; c=\"d;\\\"e\"", HP_MEDIA_JSON, 0},
        {"application/json; charset=latin1", HP_MEDIA_JSON, 1},
        {"application/json; charset=utf-16", HP_MEDIA_JSON, 1},
        {"application/json; charset=\"utf-8 \"", HP_MEDIA_JSON, 1},
        {"application/json; charset=utf-8x", HP_MEDIA_JSON, 1},
        {"application/json; xcharset=latin1", HP_MEDIA_JSON, 0},
        {"text/json", HP_MEDIA_JSON_LIKE, 0},
        {"application/vnd.order+json", HP_MEDIA_JSON_LIKE, 0},
        {"application/+json", HP_MEDIA_ELSE, 0},
        {"application/jsonx", HP_MEDIA_ELSE, 0},
        {"application/json-seq", HP_MEDIA_ELSE, 0},
        {"application/cloudevents+json", HP_MEDIA_CLOUDEVENT, 0},
        {"application/CloudEvents+JSON; charset=UTF-8", HP_MEDIA_CLOUDEVENT, 0},
        {"application/cloudevents-batch+json", HP_MEDIA_CLOUDEVENT_LIST, 0},
        {"application/cloudevents", HP_MEDIA_CLOUDEVENT_ELSE, 0},
        {"application/cloudevents+avro", HP_MEDIA_CLOUDEVENT_ELSE, 0},
        {"application/cloudevents-batch+xml", HP_MEDIA_CLOUDEVENT_ELSE, 0},
        {"text/cloudevents+json", HP_MEDIA_JSON_LIKE, 0},
        {"text/plain", HP_MEDIA_ELSE, 0},
        {"*/*", HP_MEDIA_ELSE, 0},
        {"", 0, 0},
        {" ", 0, 0},
        {"application", 0, 0},
        {"application/", 0, 0},
        {"/json", 0, 0},
        {"application /json", 0, 0},
        {"application/json charset=utf-8", 0, 0},
        {"application/json, text/plain", 0, 0},
        {"application/json; charset", 0, 0},
        {"application/json; charset=", 0, 0},
        {"application/json; charset =utf-8", 0, 0},
        {"application/json; charset= utf-8", 0, 0},
        {"application/json; charset=\"utf-8", 0, 0},
        {"application/json; charset=\"utf-8\\", 0, 0},
        {"application/json; charset=\"utf-8\"x", 0, 0},
        {"application/json; a=\"\x01\"", 0, 0},
        {"application/json; a=\"\\\x01\"", 0, 0},
        {"application/json; charset=utf-8; charset=utf-8", 0, 0},
        {"application/js\xc3\xa4n", 0, 0},
    };

    hp_media_t media;
    hp_str_t text;
    size_t i;
    int rc;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        text = exact_text(cases[i].text);
        rc = hp_media_parse(text, &media);
        drop(&text);

        if (rc != (cases[i].kind == 0 ? -1 : 0) ||
            (rc == 0 && ((int)media.kind != cases[i].kind ||
                         media.charset_other != cases[i].charset_other))) {
            fail_msg("%s", cases[i].text);
        }
    }
}

/* What nobody chose: no answer is asked for, only that nothing is read
 * outside. */
static void test_changed(void **state)
{
    static const char *const texts[] = {
        "2018-04-05T17:31:00.123456789+01:00",
        "https://example.com/%20a?b#c",
        "application/json; charset=\"utf-8\"; a=b",
    };

    unsigned char changed[64];
    hp_media_t media;
    size_t i, len, at;
    unsigned byte;
    hp_str_t text;

    (void)state;

    for (i = 0; i < COUNT_OF(texts); i++) {
        for (len = 0; len <= strlen(texts[i]); len++) {
            text = exact(texts[i], len);
            (void)hp_date_time_valid(text);
            (void)hp_uri_valid(text, 1);
            (void)hp_media_parse(text, &media);
            drop(&text);
        }

        for (at = 0; at < strlen(texts[i]); at++) {
            for (byte = 0; byte < 256; byte++) {
                memcpy(changed, texts[i], strlen(texts[i]));
                changed[at] = (unsigned char)byte;
                text = exact(changed, strlen(texts[i]));
                (void)hp_date_time_valid(text);
                (void)hp_uri_valid(text, 0);
                (void)hp_media_parse(text, &media);
                drop(&text);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_date_time),
        cmocka_unit_test(test_uri),
        cmocka_unit_test(test_media),
        cmocka_unit_test(test_changed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
