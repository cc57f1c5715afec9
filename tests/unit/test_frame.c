/*
 * test_frame.c: unit tests of ngx_module/core/hp_frame.c.
 *
 * Both directions against schemas/golden/event_group.json and push.json, which
 * another implementation wrote: what it accepts is read field by field and
 * written again to the same bytes; what it calls broken is refused. Then every
 * accepted frame cut at every length and with every single byte changed: never
 * read outside (each input is a block of its own under AddressSanitizer), and
 * what is still taken obeys the rules of schemas/framing.md.
 *
 * One process, no files but the golden ones; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_frame.h"
#include "hp_json.h"

/* Reads a whole group; the number of events, or -1. */
static int read_group(hp_str_t message)
{
    hp_frame_reader_t reader;
    hp_event_t event;
    int rc, count;

    if (hp_event_group_open(&reader, message) != 0) {
        /* a caller that goes on regardless gets nothing */
        assert_int_equal(hp_event_group_next(&reader, &event), -1);
        return -1;
    }

    for (count = 0; (rc = hp_event_group_next(&reader, &event)) == 1; count++) {
        assert_in_range(event.tenant.len, 1, HP_TENANT_MAX);
        assert_in_range(event.route.len, 1, HP_ROUTE_MAX);
        assert_in_range(event.key.len, 0, HP_KEY_MAX);
        assert_in_range(event.type.len, 1, HP_TYPE_MAX);
        assert_true(event.traceparent.len == 0 ||
                    event.traceparent.len == HP_TRACE_LEN);
        assert_true(event.payload.len >= 1);
        assert_true(event.tenant.data >= message.data + 8);
        assert_true(event.payload.data + event.payload.len <=
                    message.data + message.len);
    }

    /* the answer at the end is the answer ever after */
    assert_int_equal(hp_event_group_next(&reader, &event), rc);
    assert_int_equal(hp_event_group_next(&reader, &event), rc);
    return rc == 0 ? count : -1;
}

static int read_push(hp_str_t message)
{
    hp_frame_reader_t reader;
    hp_push_t push;
    hp_doc_t doc;
    int rc, count;

    if (hp_push_open(&reader, message, &push) != 0) {
        assert_int_equal(hp_push_next(&reader, &doc), -1);
        return -1;
    }

    for (count = 0; (rc = hp_push_next(&reader, &doc)) == 1; count++) {
        assert_in_range(doc.tenant.len, 0, HP_TENANT_MAX);
        assert_in_range(doc.key.len, 1, HP_DOC_KEY_MAX);
        assert_true((doc.document.len == 0) == (doc.deleted != 0));
        assert_true(doc.document.data + doc.document.len <=
                    message.data + message.len);
    }

    assert_int_equal(hp_push_next(&reader, &doc), rc);
    assert_int_equal(hp_push_next(&reader, &doc), rc);
    return rc == 0 ? count : -1;
}

static void assert_member(hp_str_t got, const cJSON *item, const char *name)
{
    hp_str_t expected;

    expected = golden_bytes(item, name);
    assert_same(got, expected);
    drop(&expected);
}

static void test_event_groups(void **state)
{
    unsigned char *written, *end;
    hp_frame_reader_t reader;
    const cJSON *frame, *item, *events;
    hp_event_t event;
    size_t offset;
    hp_str_t message;
    cJSON *json;

    (void)state;
    json = golden("event_group.json");

    cJSON_ArrayForEach(frame, golden_list(json, "accepted"))
    {
        message = golden_bytes(frame, "frame");
        events = golden_list(frame, "events");
        assert_int_equal(hp_event_group_open(&reader, message), 0);

        written = malloc(message.len);
        assert_non_null(written);
        hp_event_group_header(written, (uint32_t)cJSON_GetArraySize(events));
        offset = HP_EVENT_GROUP_HEADER;

        cJSON_ArrayForEach(item, events)
        {
            assert_int_equal(hp_event_group_next(&reader, &event), 1);

            assert_member((hp_str_t){event.operation_id, HP_UUID_SIZE}, item,
                          "operation_id");
            assert_member((hp_str_t){event.fingerprint, HP_FINGERPRINT_SIZE},
                          item, "fingerprint");
            assert_true(event.accepted_us ==
                        golden_signed(item, "accepted_us"));
            assert_member(event.tenant, item, "tenant");
            assert_member(event.route, item, "route");
            assert_member(event.key, item, "key");
            assert_member(event.type, item, "type");
            assert_member(event.traceparent, item, "traceparent");
            assert_member(event.attributes, item, "attributes");
            assert_int_equal(
                event.data,
                cJSON_GetObjectItemCaseSensitive(item, "data")->valueint);
            assert_member(event.payload, item, "payload");

            assert_true(hp_event_size(&event) <= message.len - offset);
            end = hp_event_write(written + offset, &event);
            assert_int_equal(end - written - (ptrdiff_t)offset,
                             hp_event_size(&event));
            offset += hp_event_size(&event);
        }

        assert_int_equal(hp_event_group_next(&reader, &event), 0);
        assert_int_equal(offset, message.len);
        assert_memory_equal(written, message.data, message.len);
        assert_int_equal(read_group(message), cJSON_GetArraySize(events));

        free(written);
        drop(&message);
    }

    cJSON_Delete(json);
}

static void test_event_groups_refused(void **state)
{
    const cJSON *frame;
    hp_str_t message;
    cJSON *json;

    (void)state;
    json = golden("event_group.json");

    cJSON_ArrayForEach(frame, golden_list(json, "refused"))
    {
        message = golden_bytes(frame, "frame");

        if (read_group(message) != -1) {
            fail_msg("taken: %s", golden_text(frame, "name"));
        }

        drop(&message);
    }

    cJSON_Delete(json);
}

static void test_pushes(void **state)
{
    const cJSON *frame, *item, *docs;
    unsigned char *written, *end;
    hp_frame_reader_t reader;
    hp_doc_t doc, other;
    hp_str_t message, value;
    hp_push_t push;
    size_t offset;
    cJSON *json;

    (void)state;
    json = golden("push.json");

    cJSON_ArrayForEach(frame, golden_list(json, "accepted"))
    {
        message = golden_bytes(frame, "frame");
        docs = cJSON_GetObjectItemCaseSensitive(frame, "documents");
        assert_true(cJSON_IsArray(docs));
        assert_int_equal(hp_push_open(&reader, message, &push), 0);
        assert_int_equal(push.partition, golden_number(frame, "partition"));
        assert_true(push.epoch_us == golden_signed(frame, "epoch_us"));
        assert_true(push.sequence == golden_unsigned(frame, "sequence"));
        assert_int_equal(push.count, cJSON_GetArraySize(docs));

        written = malloc(message.len);
        assert_non_null(written);
        hp_push_header(written, &push);
        offset = HP_PUSH_HEADER;

        cJSON_ArrayForEach(item, docs)
        {
            assert_int_equal(hp_push_next(&reader, &doc), 1);
            assert_true(doc.version == golden_unsigned(item, "version"));
            assert_true(doc.modified_us == golden_signed(item, "modified_us"));
            assert_int_equal(doc.deleted, golden_number(item, "deleted"));
            assert_member(doc.tenant, item, "tenant");
            assert_member(doc.key, item, "key");
            assert_member(doc.document, item, "document");

            assert_true(hp_doc_size(&doc) <= message.len - offset);
            end = hp_doc_write(written + offset, &doc);
            assert_int_equal(end - written - (ptrdiff_t)offset,
                             hp_doc_size(&doc));

            /* the value in Redis is the record behind its length */
            value = golden_bytes(item, "value");
            assert_int_equal(value.len, hp_doc_size(&doc) - 4);
            assert_memory_equal(written + offset + 4, value.data, value.len);
            assert_int_equal(hp_doc_read_value(&other, value), 0);
            assert_true(other.version == doc.version);
            assert_true(other.modified_us == doc.modified_us);
            assert_int_equal(other.deleted, doc.deleted);
            assert_same(other.tenant, doc.tenant);
            assert_same(other.key, doc.key);
            assert_same(other.document, doc.document);
            drop(&value);

            offset += hp_doc_size(&doc);
        }

        assert_int_equal(hp_push_next(&reader, &doc), 0);
        assert_int_equal(offset, message.len);
        assert_memory_equal(written, message.data, message.len);
        assert_int_equal(read_push(message), cJSON_GetArraySize(docs));

        free(written);
        drop(&message);
    }

    cJSON_Delete(json);
}

static void test_pushes_refused(void **state)
{
    hp_str_t message, value;
    const cJSON *item;
    hp_doc_t doc;
    cJSON *json;

    (void)state;
    json = golden("push.json");

    cJSON_ArrayForEach(item, golden_list(json, "refused"))
    {
        message = golden_bytes(item, "frame");

        if (read_push(message) != -1) {
            fail_msg("taken: %s", golden_text(item, "name"));
        }

        drop(&message);
    }

    cJSON_ArrayForEach(item, golden_list(json, "refused_values"))
    {
        value = golden_bytes(item, "value");

        if (hp_doc_read_value(&doc, value) != -1) {
            fail_msg("taken: %s", golden_text(item, "name"));
        }

        drop(&value);
    }

    cJSON_Delete(json);
}

/* A frame cut anywhere is refused; the long ones at every seventh length and
 * around both ends, which is where fields are. */
static void cut_everywhere(const char *file, int (*read)(hp_str_t message))
{
    const cJSON *frame;
    hp_str_t message, part;
    cJSON *json;
    size_t len;

    json = golden(file);

    cJSON_ArrayForEach(frame, golden_list(json, "accepted"))
    {
        message = golden_bytes(frame, "frame");

        for (len = 0; len < message.len; len++) {
            if (len > 600 && len + 200 < message.len && len % 7 != 0) {
                continue;
            }

            part = exact(message.data, len);
            assert_int_equal(read(part), -1);
            drop(&part);
        }

        drop(&message);
    }

    assert_int_equal(read((hp_str_t){NULL, 0}), -1);
    cJSON_Delete(json);
}

static void test_cut(void **state)
{
    (void)state;
    cut_everywhere("event_group.json", read_group);
    cut_everywhere("push.json", read_push);
}

/* One byte changed anywhere: an answer, and nothing read outside. */
static void change_everywhere(const char *file, int (*read)(hp_str_t message))
{
    static const unsigned char masks[] = {0x01, 0x80, 0xff, 0x20};

    const cJSON *frame;
    hp_str_t message;
    unsigned taken, refused;
    unsigned char *bytes;
    cJSON *json;
    size_t i, m;

    json = golden(file);
    taken = 0;
    refused = 0;

    cJSON_ArrayForEach(frame, golden_list(json, "accepted"))
    {
        message = golden_bytes(frame, "frame");
        bytes = (unsigned char *)message.data;

        for (i = 0; i < message.len && i < 1200; i++) {
            for (m = 0; m < sizeof(masks); m++) {
                bytes[i] ^= masks[m];

                if (read(message) >= 0) {
                    taken++;
                } else {
                    refused++;
                }

                bytes[i] ^= masks[m];
            }
        }

        drop(&message);
    }

    cJSON_Delete(json);

    /* texts may be anything, lengths and magics may not */
    assert_true(taken > 100);
    assert_true(refused > 100);
}

static void test_changed(void **state)
{
    (void)state;
    change_everywhere("event_group.json", read_group);
    change_everywhere("push.json", read_push);
}

static void test_values_cut(void **state)
{
    const cJSON *frame, *item;
    hp_str_t value, part;
    unsigned values;
    hp_doc_t doc;
    cJSON *json;
    size_t len;
    int rc;

    (void)state;
    json = golden("push.json");
    values = 0;

    cJSON_ArrayForEach(frame, golden_list(json, "accepted"))
    {
        cJSON_ArrayForEach(item,
                           cJSON_GetObjectItemCaseSensitive(frame, "documents"))
        {
            value = golden_bytes(item, "value");
            assert_int_equal(hp_doc_read_value(&doc, value), 0);
            values++;

            for (len = 0; len < value.len; len++) {
                part = exact(value.data, len);
                rc = hp_doc_read_value(&doc, part);

                /* without its length a value may only lose text at its end */
                if (rc == 0) {
                    assert_true(doc.document.len >= 1);
                    assert_int_equal(32 + doc.tenant.len + doc.key.len +
                                         doc.document.len,
                                     len);
                } else {
                    assert_int_equal(rc, -1);
                }

                drop(&part);
            }

            drop(&value);
        }
    }

    assert_true(values >= 5);
    cJSON_Delete(json);
}

static uint64_t random_state = 20260131;

static size_t random_between(size_t low, size_t high)
{
    return low + (size_t)(next_random(&random_state) % (high - low + 1));
}

static hp_str_t random_text(size_t low, size_t high)
{
    unsigned char bytes[2048];
    size_t i, len;

    len = random_between(low, high);
    assert_true(len <= sizeof(bytes));

    for (i = 0; i < len; i++) {
        bytes[i] = (unsigned char)next_random(&random_state);
    }

    return exact(bytes, len);
}

/* What is written within the rules is read back the same, whatever it is. */
static void test_random_events(void **state)
{
    hp_event_t events[5], read;
    hp_frame_reader_t reader;
    unsigned char *p;
    hp_str_t message;
    size_t i, n, size;
    int round;

    (void)state;

    for (round = 0; round < 300; round++) {
        n = random_between(1, COUNT_OF(events));
        size = HP_EVENT_GROUP_HEADER;
        memset(events, 0, sizeof(events));

        for (i = 0; i < n; i++) {
            events[i].accepted_us = (int64_t)next_random(&random_state);
            memset(events[i].operation_id, (int)i, HP_UUID_SIZE);
            memset(events[i].fingerprint, (int)(i + 9), HP_FINGERPRINT_SIZE);
            events[i].tenant = random_text(1, HP_TENANT_MAX);
            events[i].route = random_text(1, HP_ROUTE_MAX);
            events[i].key = random_text(0, HP_KEY_MAX);
            events[i].type = random_text(1, HP_TYPE_MAX);
            events[i].traceparent = random_text(0, 0);
            events[i].attributes = random_text(0, 500);
            events[i].data = (hp_data_t)(i % 4);
            events[i].payload = random_text(1, 2000);
            size += hp_event_size(&events[i]);
        }

        p = malloc(size);
        assert_non_null(p);
        message.data = p;
        message.len = size;
        hp_event_group_header(p, (uint32_t)n);
        p += HP_EVENT_GROUP_HEADER;

        for (i = 0; i < n; i++) {
            p = hp_event_write(p, &events[i]);
        }

        assert_ptr_equal(p, message.data + size);
        assert_int_equal(hp_event_group_open(&reader, message), 0);

        for (i = 0; i < n; i++) {
            assert_int_equal(hp_event_group_next(&reader, &read), 1);
            assert_true(read.accepted_us == events[i].accepted_us);
            assert_memory_equal(read.operation_id, events[i].operation_id,
                                HP_UUID_SIZE);
            assert_memory_equal(read.fingerprint, events[i].fingerprint,
                                HP_FINGERPRINT_SIZE);
            assert_same(read.tenant, events[i].tenant);
            assert_same(read.route, events[i].route);
            assert_same(read.key, events[i].key);
            assert_same(read.type, events[i].type);
            assert_same(read.traceparent, events[i].traceparent);
            assert_same(read.attributes, events[i].attributes);
            assert_int_equal(read.data, events[i].data);
            assert_same(read.payload, events[i].payload);

            drop(&events[i].tenant);
            drop(&events[i].route);
            drop(&events[i].key);
            drop(&events[i].type);
            drop(&events[i].traceparent);
            drop(&events[i].attributes);
            drop(&events[i].payload);
        }

        assert_int_equal(hp_event_group_next(&reader, &read), 0);
        drop(&message);
    }
}

/* The greatest count there is, and one more. */
static void test_count_limit(void **state)
{
    hp_event_t event;
    unsigned char *p;
    hp_str_t message;
    size_t i;

    (void)state;
    memset(&event, 0, sizeof(event));
    event.tenant = text_of("t");
    event.route = text_of("r");
    event.type = text_of("x");
    event.payload = text_of("1");

    message.len = HP_EVENT_GROUP_HEADER +
                  (HP_EVENT_COUNT_MAX + 1) * hp_event_size(&event);
    message.data = p = malloc(message.len);
    assert_non_null(p);
    hp_event_group_header(p, HP_EVENT_COUNT_MAX + 1);
    p += HP_EVENT_GROUP_HEADER;

    for (i = 0; i < HP_EVENT_COUNT_MAX + 1; i++) {
        p = hp_event_write(p, &event);
    }

    assert_int_equal(read_group(message), -1);

    hp_event_group_header((unsigned char *)message.data, HP_EVENT_COUNT_MAX);
    message.len -= hp_event_size(&event);
    assert_int_equal(read_group(message), HP_EVENT_COUNT_MAX);
    drop(&message);
}

/* Versions compare as texts the way they do as numbers: what the script in
 * Redis relies on. */
static void test_version_text(void **state)
{
    static const uint64_t versions[] = {0,
                                        1,
                                        9,
                                        10,
                                        15,
                                        16,
                                        255,
                                        4711,
                                        0x7fffffffffffffffu,
                                        0x8000000000000000u,
                                        0xffffffffffffffffu};

    unsigned char records[COUNT_OF(versions)][64];
    hp_doc_t doc;
    size_t i;

    (void)state;
    memset(&doc, 0, sizeof(doc));
    doc.key = text_of("k");
    doc.document = text_of("1");

    for (i = 0; i < COUNT_OF(versions); i++) {
        doc.version = versions[i];
        hp_doc_write(records[i], &doc);

        if (i > 0) {
            assert_true(memcmp(records[i - 1] + 8, records[i] + 8, 16) < 0);
        }
    }
}

static void test_keys(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        int valid;
    } cases[] = {
        {"", 0, 0},
        {"a", 1, 1},
        {"a b/c:d%", 8, 1},
        {"\x01\x7f", 2, 1},
        {"a\0b", 3, 0},
        {"\0", 1, 0},
        {"\xc3\xa4", 2, 1},
        {"\xc3", 1, 0},
        {"\xe2\x82\xac", 3, 1},
        {"\xe2\x82", 2, 0},
        {"\xf0\x9f\x98\x80", 4, 1},
        {"\xf0\x9f\x98", 3, 0},
        {"\xff", 1, 0},
        {"\xc0\x80", 2, 0},
        {"\xed\xa0\x80", 3, 0},
        {"\xf4\x90\x80\x80", 4, 0},
    };

    unsigned char many[HP_DOC_KEY_MAX + 1];
    hp_str_t copy;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        copy = exact(cases[i].text, cases[i].len);
        assert_int_equal(hp_doc_key_valid(copy), cases[i].valid);
        drop(&copy);
    }

    memset(many, 'k', sizeof(many));

    for (i = HP_DOC_KEY_MAX - 1; i <= sizeof(many); i++) {
        copy = exact(many, i);
        assert_int_equal(hp_doc_key_valid(copy), i <= HP_DOC_KEY_MAX);
        drop(&copy);
    }
}

/* The golden payloads are what the event scanner would have let through. */
static void test_payloads_are_json(void **state)
{
    const cJSON *frame, *item;
    size_t offset;
    hp_str_t text;
    cJSON *json;

    (void)state;
    json = golden("event_group.json");

    cJSON_ArrayForEach(frame, golden_list(json, "accepted"))
    {
        cJSON_ArrayForEach(item, golden_list(frame, "events"))
        {
            text = golden_bytes(item, "payload");
            assert_int_equal(hp_json_check(text, 100, &offset), HP_JSON_OK);
            drop(&text);
        }
    }

    cJSON_Delete(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_event_groups),
        cmocka_unit_test(test_event_groups_refused),
        cmocka_unit_test(test_pushes),
        cmocka_unit_test(test_pushes_refused),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_changed),
        cmocka_unit_test(test_values_cut),
        cmocka_unit_test(test_random_events),
        cmocka_unit_test(test_count_limit),
        cmocka_unit_test(test_version_text),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_payloads_are_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
