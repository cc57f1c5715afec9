/*
 * test_cloudevent.c: unit tests of ngx_module/core/hp_cloudevent.c.
 *
 * An event is taken or refused and, where taken, written as one line: key,
 * type, partition key, kind of data, data, attributes. Lists of JSON with the
 * expected line, or status, name and offset; the same of headers; the same
 * event in both modes must give the same line. Every bound from both sides.
 * Keys of events that differ must differ. Inputs are blocks of exactly their
 * size, for AddressSanitizer. One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_cloudevent.h"
#include "hp_header.h"
#include "hp_json.h"

#define DEPTH 10
#define MIN                                                                    \
    "\"specversion\":\"1.0\",\"id\":\"i\",\"source\":\"s\",\"type\":\"t\""
#define MIN_LINE "s i|t||"

/* Big: not on the stack; filled with rubbish before each use. */
static hp_cloudevent_t event;
static char line[65536];

static void write_line(void)
{
    static const char *const kinds[] = {"none", "json", "text", "base64"};

    size_t offset;

    assert_int_equal(hp_key_valid(event.key), 1);
    assert_int_equal(hp_json_check(event.attributes, DEPTH, &offset),
                     HP_JSON_OK);
    assert_true(event.attributes.len <= HP_CLOUDEVENT_JSON_MAX);
    snprintf(line, sizeof(line), "%.*s|%.*s|%.*s|%s%s|%.*s|%.*s",
             (int)event.key.len, event.key.data, (int)event.type.len,
             event.type.data, (int)event.partition_key.len,
             event.partition_key.len == 0 ? (const unsigned char *)""
                                          : event.partition_key.data,
             kinds[event.data_kind], event.data_spaced ? " spaced" : "",
             (int)event.data.len,
             event.data.len == 0 ? (const unsigned char *)"" : event.data.data,
             (int)event.attributes.len, event.attributes.data);
}

/* Reads checked JSON into event and line. */
static hp_event_status_t read_json(const char *json, hp_str_t *copy)
{
    hp_event_status_t status;
    size_t offset;

    memset(&event, 0xa5, sizeof(event));
    *copy = exact_text(json);

    if (hp_json_check(*copy, DEPTH, &offset) != HP_JSON_OK) {
        fail_msg("not JSON: %s", json);
    }

    status = hp_cloudevent_read(&event, *copy);

    if (status == HP_EVENT_OK) {
        write_line();
    }

    return status;
}

static void test_taken(void **state)
{
    static const char *const cases[][2] = {
        {"{" MIN "}", MIN_LINE "none||{\"id\":\"i\",\"source\":\"s\"}"},
        /* every attribute, in any order, with white space */
        {" { \"type\" : \"com.example.a\" , \"data\" : { \"a\" : 1 } ,\n"
         "\"zz\":true,\"aa\":-2147483648,\"subject\":\"su\",\"time\":"
         "\"2018-04-05T17:31:00Z\",\"dataschema\":\"x:y\",\"partitionkey\":"
         "\"p k\",\"datacontenttype\":\"application/vnd.x+json\",\"id\":"
         "\"A-1\",\"source\":\"/my/context\",\"specversion\":\"1.0\" } ",
         "/my/context A-1|com.example.a|p k|json spaced|{ \"a\" : 1 }|"
         "{\"aa\":-2147483648,\"datacontenttype\":\"application/vnd.x+json\","
         "\"dataschema\":\"x:y\",\"id\":\"A-1\",\"partitionkey\":\"p k\","
         "\"source\":\"/my/context\",\"subject\":\"su\",\"time\":"
         "\"2018-04-05T17:31:00Z\",\"zz\":true}"},
        /* null: not there */
        {"{" MIN ",\"subject\":null,\"time\":null,\"x\":null,"
         "\"partitionkey\":null}",
         MIN_LINE "none||{\"id\":\"i\",\"source\":\"s\"}"},
        /* data */
        {"{" MIN ",\"data\":null}",
         MIN_LINE "json|null|{\"datacontenttype\":\"application/json\","
                  "\"id\":\"i\",\"source\":\"s\"}"},
        {"{" MIN ",\"data\":\"a b\"}",
         MIN_LINE "json|\"a b\"|{\"datacontenttype\":\"application/json\","
                  "\"id\":\"i\",\"source\":\"s\"}"},
        {"{\"data\":[1,2]," MIN ",\"datacontenttype\":null}",
         MIN_LINE "json|[1,2]|{\"datacontenttype\":\"application/json\","
                  "\"id\":\"i\",\"source\":\"s\"}"},
        {"{\"data\":[1, 2]," MIN ",\"datacontenttype\":\"text/json\"}",
         MIN_LINE "json spaced|[1, 2]|{\"datacontenttype\":\"text/json\","
                  "\"id\":\"i\",\"source\":\"s\"}"},
        {"{\"data\":\"<a/>\"," MIN ",\"datacontenttype\":\"text/xml\"}",
         MIN_LINE "text|\"<a/>\"|{\"datacontenttype\":\"text/xml\","
                  "\"id\":\"i\",\"source\":\"s\"}"},
        {"{\"data_base64\":\"\"," MIN "}",
         MIN_LINE "base64|\"\"|{\"id\":\"i\",\"source\":\"s\"}"},
        {"{\"data_base64\":\"AB+/\"," MIN ",\"datacontenttype\":\"a/b\"}",
         MIN_LINE "base64|\"AB+/\"|{\"datacontenttype\":\"a/b\",\"id\":\"i\","
                  "\"source\":\"s\"}"},
        {"{\"data_base64\":\"\\u0041z0=\"," MIN "}",
         MIN_LINE "base64|\"\\u0041z0=\"|{\"id\":\"i\",\"source\":\"s\"}"},
        {"{\"data_base64\":\"\\/w==\"," MIN "}",
         MIN_LINE "base64|\"\\/w==\"|{\"id\":\"i\",\"source\":\"s\"}"},
        /* escapes: resolved, and written only where they must be */
        {"{\"\\u0069d\":\"\\u0069\",\"source\":\"\\/s\",\"type\":\"\\u00e4\","
         "\"specversion\":\"\\u0031.0\",\"x\":\"\\\"\\\\\\/\\ud83d\\ude00\","
         "\"d\\u0061ta\":1}",
         "/s i|\xc3\xa4||json|1|{\"datacontenttype\":\"application/json\","
         "\"id\":\"i\",\"source\":\"/s\",\"x\":\"\\\"\\\\/\xf0\x9f\x98\x80\"}"},
        /* extensions */
        {"{" MIN ",\"a\":\"\",\"b\":2147483647,\"c\":-0,\"d\":false,\"0\":1,"
         "\"abcdefghij0123456789\":\"z\"}",
         MIN_LINE "none||{\"0\":1,\"a\":\"\",\"abcdefghij0123456789\":\"z\","
                  "\"b\":2147483647,\"c\":-0,\"d\":false,\"id\":\"i\","
                  "\"source\":\"s\"}"},
        /* a key that is no plain one */
        {"{\"specversion\":\"1.0\",\"id\":\"\xc3\xa4\",\"source\":\"s\","
         "\"type\":\"t\"}",
         "sha256:"
         "504c5db8555ccdccda2bf9c604c6f8b971a2eacf7885698055e3f963f4f3dfe3"
         "|t||none||{\"id\":\"\xc3\xa4\",\"source\":\"s\"}"},
        {"{\"specversion\":\"1.0\",\"id\":\"i \",\"source\":\"s\","
         "\"type\":\"t\"}",
         "sha256:"
         "acde33c2c1c2888e8bf0ebf989d648f09fa84565afa0e277a7faaf8972506d86"
         "|t||none||{\"id\":\"i \",\"source\":\"s\"}"},
    };

    hp_event_status_t status;
    hp_str_t json;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        status = read_json(cases[i][0], &json);

        if (status != HP_EVENT_OK) {
            fail_msg("%s: %s", cases[i][0], hp_event_code(status));
        }

        assert_string_equal(line, cases[i][1]);
        drop(&json);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *json;
        hp_event_status_t status;
        const char *fault;
        const char *at; /* the text from the error on */
    } cases[] = {
        {"[]", HP_EVENT_NOT_OBJECT, "", "[]"},
        {" 1", HP_EVENT_NOT_OBJECT, "", "1"},
        {"\"{}\"", HP_EVENT_NOT_OBJECT, "", "\"{}\""},
        {" {} ", HP_EVENT_ATTRIBUTE_REQUIRED, "specversion", "{} "},
        {"{\"id\":\"i\",\"source\":\"s\",\"type\":\"t\"}",
         HP_EVENT_ATTRIBUTE_REQUIRED, "specversion", NULL},
        {"{\"specversion\":\"1.0\",\"source\":\"s\",\"type\":\"t\"}",
         HP_EVENT_ATTRIBUTE_REQUIRED, "id", NULL},
        {"{\"specversion\":\"1.0\",\"id\":\"i\",\"type\":\"t\"}",
         HP_EVENT_ATTRIBUTE_REQUIRED, "source", NULL},
        {"{\"specversion\":\"1.0\",\"id\":\"i\",\"source\":\"s\"}",
         HP_EVENT_ATTRIBUTE_REQUIRED, "type", NULL},
        {"{\"specversion\":\"1.0\",\"id\":null,\"source\":\"s\",\"type\":"
         "\"t\"}",
         HP_EVENT_ATTRIBUTE_REQUIRED, "id", NULL},
        {"{\"specversion\":\"0.3\"}", HP_EVENT_SPECVERSION, "specversion",
         "\"0.3\"}"},
        {"{\"specversion\":\"1.0.2\"}", HP_EVENT_SPECVERSION, "specversion",
         "\"1.0.2\"}"},
        {"{\"specversion\":1.0}", HP_EVENT_ATTRIBUTE_TYPE, "specversion",
         "1.0}"},
        {"{\"specversion\":1}", HP_EVENT_SPECVERSION, "specversion", "1}"},
        {"{\"id\":\"\"}", HP_EVENT_ATTRIBUTE_VALUE, "id", "\"\"}"},
        {"{\"id\":1}", HP_EVENT_ATTRIBUTE_TYPE, "id", "1}"},
        {"{\"id\":true}", HP_EVENT_ATTRIBUTE_TYPE, "id", "true}"},
        {"{\"type\":\"\"}", HP_EVENT_ATTRIBUTE_VALUE, "type", "\"\"}"},
        {"{\"source\":\"\"}", HP_EVENT_ATTRIBUTE_VALUE, "source", "\"\"}"},
        {"{\"source\":\"a b\"}", HP_EVENT_ATTRIBUTE_VALUE, "source",
         "\"a b\"}"},
        {"{\"source\":\"\xc3\xa4\"}", HP_EVENT_ATTRIBUTE_VALUE, "source", NULL},
        {"{\"subject\":\"\"}", HP_EVENT_ATTRIBUTE_VALUE, "subject", "\"\"}"},
        {"{\"subject\":1}", HP_EVENT_ATTRIBUTE_TYPE, "subject", "1}"},
        {"{\"time\":\"yesterday\"}", HP_EVENT_ATTRIBUTE_VALUE, "time", NULL},
        {"{\"time\":1522949460}", HP_EVENT_ATTRIBUTE_TYPE, "time", NULL},
        {"{\"dataschema\":\"/relative\"}", HP_EVENT_ATTRIBUTE_VALUE,
         "dataschema", NULL},
        {"{\"datacontenttype\":\"json\"}", HP_EVENT_ATTRIBUTE_VALUE,
         "datacontenttype", NULL},
        {"{\"partitionkey\":\"\"}", HP_EVENT_ATTRIBUTE_VALUE, "partitionkey",
         NULL},
        {"{\"partitionkey\":7}", HP_EVENT_ATTRIBUTE_TYPE, "partitionkey", NULL},
        /* names */
        {"{" MIN ",\"\":1}", HP_EVENT_ATTRIBUTE_NAME, "", "\"\":1}"},
        {"{\"Id\":\"i\"}", HP_EVENT_ATTRIBUTE_NAME, "Id", "\"Id\":\"i\"}"},
        {"{\"a_b\":1}", HP_EVENT_ATTRIBUTE_NAME, "a_b", "\"a_b\":1}"},
        {"{\"a-b\":1}", HP_EVENT_ATTRIBUTE_NAME, "a-b", NULL},
        {"{\"\\u00e4\":1}", HP_EVENT_ATTRIBUTE_NAME, "\\u00e4", NULL},
        {"{\"abcdefghij01234567890\":1}", HP_EVENT_ATTRIBUTE_NAME,
         "abcdefghij01234567890", NULL},
        {"{\"a\":1,\"b\":2,\"a\":1}", HP_EVENT_ATTRIBUTE_DUPLICATE, "a",
         "\"a\":1}"},
        {"{\"a\":1,\"\\u0061\":1}", HP_EVENT_ATTRIBUTE_DUPLICATE, "a",
         "\"\\u0061\":1}"},
        {"{\"a\":null,\"a\":1}", HP_EVENT_ATTRIBUTE_DUPLICATE, "a", "\"a\":1}"},
        /* values */
        {"{\"a\":{}}", HP_EVENT_ATTRIBUTE_TYPE, "a", "{}}"},
        {"{\"a\":[1]}", HP_EVENT_ATTRIBUTE_TYPE, "a", "[1]}"},
        {"{\"a\":1.5}", HP_EVENT_ATTRIBUTE_TYPE, "a", "1.5}"},
        {"{\"a\":1e2}", HP_EVENT_ATTRIBUTE_TYPE, "a", "1e2}"},
        {"{\"a\":2147483648}", HP_EVENT_ATTRIBUTE_TYPE, "a", NULL},
        {"{\"a\":-2147483649}", HP_EVENT_ATTRIBUTE_TYPE, "a", NULL},
        {"{\"a\":99999999999999999999999}", HP_EVENT_ATTRIBUTE_TYPE, "a", NULL},
        {"{\"a\":\"x\\ny\"}", HP_EVENT_ATTRIBUTE_VALUE, "a", "\"x\\ny\"}"},
        {"{\"a\":\"\x7f\"}", HP_EVENT_ATTRIBUTE_VALUE, "a", NULL},
        {"{\"a\":\"\\u009f\"}", HP_EVENT_ATTRIBUTE_VALUE, "a", NULL},
        {"{\"a\":\"\\ufdd0\"}", HP_EVENT_ATTRIBUTE_VALUE, "a", NULL},
        {"{\"a\":\"\\ufdef\"}", HP_EVENT_ATTRIBUTE_VALUE, "a", NULL},
        {"{\"a\":\"\xf0\x9f\xbf\xbf\"}", HP_EVENT_ATTRIBUTE_VALUE, "a", NULL},
        /* data */
        {"{\"data\":1,\"data\":2}", HP_EVENT_DATA_DUPLICATE, "data",
         "\"data\":2}"},
        {"{\"data\":1,\"data_base64\":\"\"}", HP_EVENT_DATA_DUPLICATE,
         "data_base64", "\"data_base64\":\"\"}"},
        {"{\"data_base64\":\"\",\"data\":null}", HP_EVENT_DATA_DUPLICATE,
         "data", "\"data\":null}"},
        {"{\"data_base64\":null}", HP_EVENT_DATA_TYPE, "data_base64", "null}"},
        {"{\"data_base64\":[]}", HP_EVENT_DATA_TYPE, "data_base64", "[]}"},
        {"{\"data_base64\":\"A\"}", HP_EVENT_DATA_BASE64, "data_base64", NULL},
        {"{\"data_base64\":\"AAAAA\"}", HP_EVENT_DATA_BASE64, "data_base64",
         NULL},
        {"{\"data_base64\":\"AAA\"}", HP_EVENT_DATA_BASE64, "data_base64",
         NULL},
        {"{\"data_base64\":\"A===\"}", HP_EVENT_DATA_BASE64, "data_base64",
         NULL},
        {"{\"data_base64\":\"AA=A\"}", HP_EVENT_DATA_BASE64, "data_base64",
         NULL},
        {"{\"data_base64\":\"AA==AA==\"}", HP_EVENT_DATA_BASE64, "data_base64",
         NULL},
        {"{\"data_base64\":\"AA-_\"}", HP_EVENT_DATA_BASE64, "data_base64",
         NULL},
        {"{\"data_base64\":\"AAA\xc3\xa4\"}", HP_EVENT_DATA_BASE64,
         "data_base64", NULL},
        {"{\"data_base64\":\"AAA \"}", HP_EVENT_DATA_BASE64, "data_base64",
         NULL},
        {"{\"data\":{}," MIN ",\"datacontenttype\":\"text/xml\"}",
         HP_EVENT_DATA_TYPE, "data", NULL},
        {"{" MIN ",\"datacontenttype\":\"text/xml\",\"data\":1}",
         HP_EVENT_DATA_TYPE, "data", "1}"},
    };

    hp_event_status_t status;
    hp_str_t json;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        status = read_json(cases[i].json, &json);

        if (status != cases[i].status ||
            event.fault.len != strlen(cases[i].fault) ||
            (event.fault.len != 0 &&
             memcmp(event.fault.data, cases[i].fault, event.fault.len) != 0) ||
            event.error_offset >= json.len) {
            fail_msg("%s: %s '%.*s' at %zu", cases[i].json,
                     hp_event_code(status), (int)event.fault.len,
                     event.fault.len == 0 ? (const unsigned char *)""
                                          : event.fault.data,
                     event.error_offset);
        }

        if (cases[i].at != NULL) {
            assert_string_equal(cases[i].json + event.error_offset,
                                cases[i].at);
        }

        drop(&json);
    }
}

/* "name: value" lines, body behind an empty line; Content-Type is one. */
static hp_event_status_t read_headers(const char *lines, hp_str_t kept[64],
                                      size_t *kept_count)
{
    hp_str_t name, value, type;
    hp_event_status_t status;
    const char *end, *colon;

    memset(&event, 0xa5, sizeof(event));
    hp_cloudevent_begin(&event);
    type = exact("", 0);
    kept[0] = type;
    *kept_count = 1;

    for (/* void */; *lines != '\n'; lines = end + 1) {
        end = strchr(lines, '\n');
        colon = strchr(lines, ':');
        assert_true(end != NULL && colon != NULL && colon < end);
        name = exact(lines, (size_t)(colon - lines));
        value = exact(colon + 1, (size_t)(end - colon - 1));
        kept[(*kept_count)++] = name;
        kept[(*kept_count)++] = value;

        if (name.len == 12 && memcmp(name.data, "Content-Type", 12) == 0) {
            type = value;
            continue;
        }

        status = hp_cloudevent_header(&event, name, value);

        if (status != HP_EVENT_OK) {
            return status;
        }
    }

    value = exact_text(lines + 1);
    kept[(*kept_count)++] = value;
    status = hp_cloudevent_end(&event, type, value);

    if (status == HP_EVENT_OK) {
        write_line();
    }

    return status;
}

static void drop_all(hp_str_t kept[64], size_t count)
{
    while (count != 0) {
        drop(&kept[--count]);
    }
}

#define HEADERS "specversion: 1.0\nid: i\nsource: s\ntype: t\n"

static void test_headers(void **state)
{
    static const char *const cases[][2] = {
        {HEADERS "\n", MIN_LINE "none||{\"id\":\"i\",\"source\":\"s\"}"},
        {"SpecVersion:1.0\nID:\t i \t\nSource: s\ntYpE: t\n\n 1 ",
         MIN_LINE "json|1|{\"datacontenttype\":\"application/json\",\"id\":"
                  "\"i\",\"source\":\"s\"}"},
        {HEADERS "Content-Type: application/json; charset=utf-8\n\n{\"a\": 1}",
         MIN_LINE "json spaced|{\"a\": 1}|{\"datacontenttype\":"
                  "\"application/json; charset=utf-8\",\"id\":\"i\","
                  "\"source\":\"s\"}"},
        {HEADERS "Content-Type: application/vnd.x+json\n\n",
         MIN_LINE "none||{\"datacontenttype\":\"application/vnd.x+json\","
                  "\"id\":\"i\",\"source\":\"s\"}"},
        /* percent-encoding */
        {HEADERS "a: Euro%20%E2%82%AC%20%f0%9f%98%80\n\n",
         MIN_LINE "none||{\"a\":\"Euro \xe2\x82\xac \xf0\x9f\x98\x80\",\"id\":"
                  "\"i\",\"source\":\"s\"}"},
        {HEADERS "a: %25%32%30%41 b\n\n",
         MIN_LINE "none||{\"a\":\"%20A b\",\"id\":\"i\",\"source\":\"s\"}"},
        {HEADERS "AZ: \xc3\xa4\n\n",
         MIN_LINE "none||{\"az\":\"\xc3\xa4\",\"id\":\"i\",\"source\":\"s\"}"},
        {HEADERS "a:\nb: true\nc: 5\n\n",
         MIN_LINE "none||{\"a\":\"\",\"b\":\"true\",\"c\":\"5\",\"id\":\"i\","
                  "\"source\":\"s\"}"},
        /* quoted */
        {HEADERS "a: \"x y\"\nb: \"\"\nc: \"\\\"\\\\\\x%20\"\nd: %22\n\n",
         MIN_LINE "none||{\"a\":\"x y\",\"b\":\"\",\"c\":\"\\\"\\\\x \",\"d\":"
                  "\"\\\"\",\"id\":\"i\",\"source\":\"s\"}"},
        {HEADERS "partitionkey: a%2Fb\ntime: 2018-04-05T17:31:00Z\n\n",
         "s i|t|a/b|none||{\"id\":\"i\",\"partitionkey\":\"a/b\",\"source\":"
         "\"s\",\"time\":\"2018-04-05T17:31:00Z\"}"},
    };

    hp_event_status_t status;
    hp_str_t kept[64];
    size_t i, count;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        status = read_headers(cases[i][0], kept, &count);

        if (status != HP_EVENT_OK) {
            fail_msg("%s: %s", cases[i][0], hp_event_code(status));
        }

        assert_string_equal(line, cases[i][1]);
        drop_all(kept, count);
    }
}

static void test_headers_refused(void **state)
{
    static const struct {
        const char *lines;
        hp_event_status_t status;
        const char *fault;
    } cases[] = {
        {"\n", HP_EVENT_ATTRIBUTE_REQUIRED, "specversion"},
        {"specversion: 1.0\nsource: s\ntype: t\n\n",
         HP_EVENT_ATTRIBUTE_REQUIRED, "id"},
        {"specversion: 0.3\n\n", HP_EVENT_SPECVERSION, "specversion"},
        {"specversion:\n\n", HP_EVENT_SPECVERSION, "specversion"},
        {"id:  \n\n", HP_EVENT_ATTRIBUTE_VALUE, "id"},
        {"source: a%20b\n\n", HP_EVENT_ATTRIBUTE_VALUE, "source"},
        {"time: now\n\n", HP_EVENT_ATTRIBUTE_VALUE, "time"},
        {"a: %0A\n\n", HP_EVENT_ATTRIBUTE_VALUE, "a"},
        {"a: %00\n\n", HP_EVENT_ATTRIBUTE_VALUE, "a"},
        {"a: x\ty\n\n", HP_EVENT_ATTRIBUTE_VALUE, "a"},
        {"a: %\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: %4\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: %zz\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: \"%4\"\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: %C0%A0\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: %ED%A0%80\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: \xe4\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: x\"y\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: \"x\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: \"\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: \"x\"y\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: \"x\" \"y\"\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: \"x\\\"\n\n", HP_EVENT_ATTRIBUTE_ENCODING, "a"},
        {"a: 1\nA: 1\n\n", HP_EVENT_ATTRIBUTE_DUPLICATE, "a"},
        {"a-b: 1\n\n", HP_EVENT_ATTRIBUTE_NAME, "a-b"},
        {": 1\n\n", HP_EVENT_ATTRIBUTE_NAME, ""},
        {"data: 1\n\n", HP_EVENT_ATTRIBUTE_NAME, "data"},
        {"datacontenttype: text/xml\n\n", HP_EVENT_ATTRIBUTE_NAME,
         "datacontenttype"},
        {HEADERS "Content-Type: text/xml\n\n<a/>",
         HP_EVENT_CONTENT_TYPE_UNSUPPORTED, "datacontenttype"},
        {HEADERS "Content-Type: application/cloudevents+json\n\n1",
         HP_EVENT_CONTENT_TYPE_UNSUPPORTED, "datacontenttype"},
        {HEADERS "Content-Type: xml\n\n<a/>", HP_EVENT_CONTENT_TYPE_INVALID,
         "datacontenttype"},
        {HEADERS "Content-Type: application/json; charset=latin1\n\n1",
         HP_EVENT_CHARSET_UNSUPPORTED, "datacontenttype"},
    };

    hp_event_status_t status;
    hp_str_t kept[64];
    size_t i, count;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        status = read_headers(cases[i].lines, kept, &count);

        if (status != cases[i].status ||
            event.fault.len != strlen(cases[i].fault) ||
            (event.fault.len != 0 &&
             memcmp(event.fault.data, cases[i].fault, event.fault.len) != 0)) {
            fail_msg("%s: %s '%.*s'", cases[i].lines, hp_event_code(status),
                     (int)event.fault.len,
                     event.fault.len == 0 ? (const unsigned char *)""
                                          : event.fault.data);
        }

        drop_all(kept, count);
    }
}

/* The same event, however it is sent. */
static void test_same_in_both_modes(void **state)
{
    static char structured[sizeof(line)];

    hp_str_t kept[64], json;
    size_t count;

    (void)state;

    assert_int_equal(
        read_json("{\"type\":\"t\",\"data\":{\"a\":1},\"specversion\":\"1.0\","
                  "\"source\":\"/s\",\"id\":\"1 \\u00e4\",\"subject\":\"\\\"\","
                  "\"time\":\"2018-04-05T17:31:00Z\"}",
                  &json),
        HP_EVENT_OK);
    memcpy(structured, line, sizeof(line));
    drop(&json);
    assert_int_equal(
        read_headers("specversion: 1.0\ntime: 2018-04-05T17:31:00Z\nsubject: "
                     "%22\nsource: /s\nid: 1%20%C3%A4\ntype: t\n"
                     "Content-Type: application/json\n\n{\"a\":1}",
                     kept, &count),
        HP_EVENT_OK);
    assert_string_equal(line, structured);
    drop_all(kept, count);
}

/* An event with these, as a key; NULL where it is refused. */
static const char *key_of(const char *source, const char *id)
{
    static char json[4096];

    hp_event_status_t status;
    hp_str_t copy;

    snprintf(json, sizeof(json),
             "{\"specversion\":\"1.0\",\"type\":\"t\",\"source\":\"%s\","
             "\"id\":\"%s\"}",
             source, id);
    status = read_json(json, &copy);
    drop(&copy);
    assert_int_equal(status, HP_EVENT_OK);
    *strchr(line, '|') = '\0';
    return line;
}

static void test_keys_differ(void **state)
{
    static const char *const parts[][2] = {
        {"a", "b"},
        {"a", "b c"},
        {"a", "b "},
        {"a", " b"},
        {"a", "  b"},
        {"ab", "c"},
        {"a", "bc"},
        {"a", "\xc3\xa4"},
        {"a", "\xc3"
              "\xb6"},
        {"a", "sha256:b"},
        {"sha256:", "b"},
        {"a/b", "c"},
        {"a", "/bc"},
    };

    char keys[COUNT_OF(parts)][HP_KEY_MAX + 1], long_text[300], first[300];
    size_t i, j;

    (void)state;

    for (i = 0; i < COUNT_OF(parts); i++) {
        snprintf(keys[i], sizeof(keys[i]), "%s",
                 key_of(parts[i][0], parts[i][1]));

        for (j = 0; j < i; j++) {
            assert_string_not_equal(keys[i], keys[j]);
        }
    }

    /* 255 bytes are a plain key, one more is hashed */
    memset(long_text, 'x', sizeof(long_text));
    long_text[253] = '\0';
    snprintf(first, sizeof(first), "%s", key_of("s", long_text));
    assert_int_equal(strlen(first), 255);
    assert_memory_equal(first, "s x", 3);
    long_text[253] = 'x';
    long_text[254] = '\0';
    snprintf(first, sizeof(first), "%s", key_of("s", long_text));
    assert_int_equal(strlen(first), 71);
    long_text[253] = 'y';
    assert_string_not_equal(first, key_of("s", long_text));
    assert_int_equal(strlen(key_of(long_text, "i")), 71);
    assert_int_equal(strlen(key_of(long_text, long_text)), 71);
}

/* An event whose values have `text` bytes and that has `count` attributes. */
static hp_event_status_t read_sized(size_t text, unsigned count, int data,
                                    char filling)
{
    static char json[65536];

    hp_event_status_t status;
    hp_str_t copy;
    size_t used;
    unsigned i;
    char *p;

    p = json + sprintf(json, "{" MIN);
    used = 6; /* "1.0", i, s, t */

    for (i = 4; i + 1 < count; i++) {
        p += sprintf(p, ",\"abcdefghijklmnop%04u\":\"\"", i);
    }

    if (text != 0) {
        p += sprintf(p, ",\"x\":\"");
        memset(p, filling, text - used);
        p += text - used;
        *p++ = '"';
    } else {
        p += sprintf(p, ",\"x\":\"\"");
    }

    sprintf(p, "%s}", data ? ",\"data\":1" : "");
    status = read_json(json, &copy);
    drop(&copy);
    return status;
}

static void test_bounds(void **state)
{
    const size_t implied = strlen("application/json");

    char type[HP_TYPE_MAX + 2], json[1024];
    hp_str_t copy;

    (void)state;

    assert_int_equal(read_sized(0, HP_CLOUDEVENT_ATTRIBUTES_MAX, 0, 'a'),
                     HP_EVENT_OK);
    assert_int_equal(read_sized(0, HP_CLOUDEVENT_ATTRIBUTES_MAX + 1, 0, 'a'),
                     HP_EVENT_ATTRIBUTES_TOO_MANY);
    assert_int_equal(read_sized(0, HP_CLOUDEVENT_ATTRIBUTES_MAX - 1, 1, 'a'),
                     HP_EVENT_OK);
    /* the implied datacontenttype counts */
    assert_int_equal(read_sized(0, HP_CLOUDEVENT_ATTRIBUTES_MAX, 1, 'a'),
                     HP_EVENT_ATTRIBUTES_TOO_MANY);
    assert_int_equal(read_sized(HP_CLOUDEVENT_TEXT_MAX, 5, 0, 'a'),
                     HP_EVENT_OK);
    assert_int_equal(read_sized(HP_CLOUDEVENT_TEXT_MAX + 1, 5, 0, 'a'),
                     HP_EVENT_ATTRIBUTES_TOO_LARGE);
    assert_int_equal(read_sized(HP_CLOUDEVENT_TEXT_MAX - implied, 5, 1, 'a'),
                     HP_EVENT_OK);
    assert_int_equal(
        read_sized(HP_CLOUDEVENT_TEXT_MAX - implied + 1, 5, 1, 'a'),
        HP_EVENT_ATTRIBUTES_TOO_LARGE);
    /* all of it, with as many names as there may be */
    assert_int_equal(read_sized(HP_CLOUDEVENT_TEXT_MAX,
                                HP_CLOUDEVENT_ATTRIBUTES_MAX, 0, 'a'),
                     HP_EVENT_OK);

    memset(type, 't', sizeof(type));
    snprintf(json, sizeof(json),
             "{\"specversion\":\"1.0\",\"id\":\"i\",\"source\":\"s\","
             "\"type\":\"%.*s\"}",
             HP_TYPE_MAX, type);
    assert_int_equal(read_json(json, &copy), HP_EVENT_OK);
    assert_int_equal(event.type.len, HP_TYPE_MAX);
    drop(&copy);
    snprintf(json, sizeof(json), "{\"type\":\"%.*s\"}", HP_TYPE_MAX + 1, type);
    assert_int_equal(read_json(json, &copy), HP_EVENT_ATTRIBUTE_VALUE);
    drop(&copy);
}

/* Headers whose every byte must be escaped in JSON: the longest attributes. */
static void test_longest_attributes(void **state)
{
    unsigned char quotes[HP_CLOUDEVENT_TEXT_MAX];
    char name[HP_CLOUDEVENT_NAME_MAX + 1];
    static const hp_str_t none = {NULL, 0};
    unsigned i, n;
    hp_str_t value;

    (void)state;

    memset(quotes, '\\', sizeof(quotes));
    memset(&event, 0xa5, sizeof(event));
    hp_cloudevent_begin(&event);
    assert_int_equal(
        hp_cloudevent_header(&event, text_of("specversion"), text_of("1.0")),
        HP_EVENT_OK);
    assert_int_equal(
        hp_cloudevent_header(&event, text_of("source"), text_of("s")),
        HP_EVENT_OK);
    assert_int_equal(
        hp_cloudevent_header(&event, text_of("type"), text_of("t")),
        HP_EVENT_OK);
    assert_int_equal(hp_cloudevent_header(&event, text_of("id"), text_of("i")),
                     HP_EVENT_OK);
    n = HP_CLOUDEVENT_ATTRIBUTES_MAX - 4;
    value = exact(quotes, (HP_CLOUDEVENT_TEXT_MAX - 6) / n);

    for (i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "abcdefghijklmnop%04u", i);
        assert_int_equal(hp_cloudevent_header(&event, text_of(name), value),
                         HP_EVENT_OK);
    }

    assert_int_equal(hp_cloudevent_end(&event, none, none), HP_EVENT_OK);
    write_line();
    assert_true(event.attributes.len > 2 * n * value.len);
    drop(&value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_headers_refused),
        cmocka_unit_test(test_same_in_both_modes),
        cmocka_unit_test(test_keys_differ),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_longest_attributes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
