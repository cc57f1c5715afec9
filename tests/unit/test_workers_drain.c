/*
 * test_workers_drain.c: the stages of hotpath-drain that ask nobody.
 *
 * Batches are fed messages built here with hp_frame.c and nats.c's own message
 * type; notices and dead letters are compared as text; reply subjects of all
 * shapes are read. Transactions, order and crashes are for the integration and
 * fault tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "drain.h"

static hp_str_t text(const char *s)
{
    return (hp_str_t){(const unsigned char *)s, strlen(s)};
}

static hp_event_t event(unsigned char id, unsigned char fingerprint)
{
    hp_event_t e = {.accepted_us = 1700000000000000,
                    .tenant = text("acme"),
                    .route = text("events"),
                    .key = text("k"),
                    .type = text("t"),
                    .payload = text("{\"a\":1}")};

    memset(e.operation_id, id, sizeof(e.operation_id));
    memset(e.fingerprint, fingerprint, sizeof(e.fingerprint));
    return e;
}

/* A message of these events, cut by so many bytes at its end. */
static hpw_message_t message(const hp_event_t *events, uint32_t count,
                             size_t cut, uint64_t sequence)
{
    hpw_message_t m = {.sequence = sequence};
    hpw_buf_t buf = {0};
    uint32_t i;

    hp_event_group_header(hpw_buf_extend(&buf, HP_EVENT_GROUP_HEADER), count);
    for (i = 0; i < count; i++)
        hp_event_write(hpw_buf_extend(&buf, hp_event_size(&events[i])),
                       &events[i]);
    assert_int_equal(natsMsg_Create(&m.msg, "s", NULL, (char *)buf.data,
                                    (int)(buf.len - cut)),
                     NATS_OK);
    hpw_buf_free(&buf);
    return m;
}

static void test_batch_finds_repeats(void **state)
{
    hp_event_t events[] = {event(1, 1), event(2, 1), event(1, 1), event(2, 9)};
    hpw_message_t first = message(events, 4, 0, 7);
    hpw_message_t second = message(events, 2, 0, 8);
    hpw_batch_t batch;

    (void)state;
    hpw_batch_init(&batch);
    hpw_batch_add(&batch, &first);
    hpw_batch_add(&batch, &second);
    assert_int_equal(batch.item_count, 6);
    assert_int_equal(batch.last_sequence, 8);
    assert_false(batch.items[0].repeat);
    assert_false(batch.items[1].repeat);
    assert_true(batch.items[2].repeat);
    assert_int_equal(batch.items[2].fate, HPW_FATE_DUPLICATE);
    assert_true(batch.items[3].repeat);
    assert_int_equal(batch.items[3].fate, HPW_FATE_CONFLICT);
    assert_int_equal(batch.items[4].fate, HPW_FATE_DUPLICATE);
    assert_int_equal(batch.items[5].fate, HPW_FATE_DUPLICATE);

    /* what was in the last batch is no repeat in this one */
    hpw_batch_reset(&batch);
    first = message(events, 1, 0, 9);
    hpw_batch_add(&batch, &first);
    assert_int_equal(batch.item_count, 1);
    assert_false(batch.items[0].repeat);
    hpw_batch_free(&batch);
}

static void test_batch_many(void **state)
{
    hpw_batch_t batch;
    hpw_message_t m;
    hp_event_t e;
    int i, repeats = 0;

    (void)state;
    hpw_batch_init(&batch);
    for (i = 0; i < 6000; i++) {
        e = event(0, 0);
        e.operation_id[0] = (unsigned char)(i % 5000);
        e.operation_id[1] = (unsigned char)(i % 5000 / 256);
        m = message(&e, 1, 0, (uint64_t)i + 1);
        hpw_batch_add(&batch, &m);
    }
    for (i = 0; i < batch.item_count; i++) {
        assert_int_equal(batch.items[i].repeat, i >= 5000);
        repeats += batch.items[i].repeat;
    }
    assert_int_equal(repeats, 1000);
    hpw_batch_free(&batch);
}

static void test_batch_broken_frame(void **state)
{
    hp_event_t events[] = {event(1, 1), event(2, 2)};
    hpw_message_t good = message(events, 1, 0, 1);
    hpw_message_t cut = message(events, 2, 1, 2);
    hpw_batch_t batch;

    (void)state;
    hpw_batch_init(&batch);
    hpw_batch_add(&batch, &good);
    hpw_batch_add(&batch, &cut);
    /* not even the first event of a broken message counts */
    assert_int_equal(batch.item_count, 1);
    assert_int_equal(batch.message_count, 2);
    assert_int_equal(batch.broken_count, 1);
    assert_int_equal(batch.broken[0], 1);
    hpw_batch_free(&batch);
}

static void test_whole(void **state)
{
    hp_event_t events[] = {event(1, 1)};
    hpw_message_t m;
    hpw_batch_t batch;
    uint64_t at;

    (void)state;
    hpw_batch_init(&batch);
    assert_int_equal(hpw_gone_whole(&batch, 4, 2), 2);
    for (at = 3; at <= 6; at++) { /* two of them again */
        m = message(events, 1, 0, at);
        hpw_batch_add(&batch, &m);
    }
    assert_int_equal(hpw_gone_whole(&batch, 4, 2), 2);
    assert_int_equal(hpw_gone_whole(&batch, 2, 1), 1);
    /* 1 was never seen */
    assert_int_equal(hpw_gone_whole(&batch, 1, 1), 3);
    m = message(events, 1, 0, 9); /* nor were 7 and 8 */
    hpw_batch_add(&batch, &m);
    m = message(events, 1, 0, 10);
    hpw_batch_add(&batch, &m);
    assert_int_equal(hpw_gone_whole(&batch, 4, 2), 9);
    m = message(events, 1, 1, 11); /* cut short */
    hpw_batch_add(&batch, &m);
    m = message(events, 1, 0, 12);
    hpw_batch_add(&batch, &m);
    assert_int_equal(hpw_gone_whole(&batch, 4, 2), 12);
    hpw_batch_free(&batch);
}

static void test_notice(void **state)
{
    hpw_notice_t notice = {.after = 4710};
    hpw_item_t item = {.event = event(0xab, 1), .fate = HPW_FATE_DEAD};
    int i;

    (void)state;
    hpw_notice_build(&notice, 3, HP_PRIORITY_NORMAL, "2026-01-31T12:00:00.5Z",
                     17, 4711, 90210);
    assert_string_equal(
        hpw_buf_text(&notice.text),
        "{\"partition\":3,\"created\":\"2026-01-31T12:00:00.5Z\","
        "\"whole\":17,\"after\":4710,\"sequence\":4711,\"position\":90210,"
        "\"ended\":[]}");

    strcpy(item.code, "22P02");
    hpw_notice_end(&notice, &item);
    item.fate = HPW_FATE_CONFLICT;
    hpw_notice_end(&notice, &item);
    hpw_notice_build(&notice, 0, HP_PRIORITY_LOW, "c", 1, 1, 2);
    assert_string_equal(
        hpw_buf_text(&notice.text),
        "{\"partition\":0,\"priority\":\"low\",\"created\":\"c\","
        "\"whole\":1,\"after\":4710,"
        "\"sequence\":1,"
        "\"position\":2,"
        "\"ended\":[{\"operation\":\"abababab-abab-abab-abab-abababababab\","
        "\"state\":\"dead\",\"code\":\"22P02\"},"
        "{\"operation\":\"abababab-abab-abab-abab-abababababab\","
        "\"state\":\"conflict\",\"code\":\"payload_mismatch\"}]}");

    for (i = 2; i < 2 * HPW_NOTICE_ENDED; i++)
        assert_int_equal(hpw_notice_end(&notice, &item),
                         i < HPW_NOTICE_ENDED ? 0 : -1);
    assert_int_equal(notice.ended_count, HPW_NOTICE_ENDED);
    hpw_buf_free(&notice.text);
}

static void test_metadata(void **state)
{
    uint64_t sequence, delivered, pending;

    (void)state;
    assert_int_equal(hpw_pull_metadata("$JS.ACK.S_0.drain.1.42.7.169.5",
                                       &sequence, &delivered, &pending),
                     0);
    assert_int_equal(sequence, 42);
    assert_int_equal(delivered, 7);
    assert_int_equal(pending, 5);
    assert_int_equal(
        hpw_pull_metadata("$JS.ACK._.acc.S_0.drain.1.43.8.169.6.rnd", &sequence,
                          &delivered, &pending),
        0);
    assert_int_equal(sequence, 43);
    assert_int_equal(delivered, 8);
    assert_int_equal(pending, 6);
    assert_int_equal(
        hpw_pull_metadata("_INBOX.x.1", &sequence, &delivered, &pending), -1);
    assert_int_equal(hpw_pull_metadata("$JS.ACK.S_0.drain.1", &sequence,
                                       &delivered, &pending),
                     -1);
    assert_int_equal(hpw_pull_metadata("$JS.ACK.S_0.drain.1.x.y.169.5",
                                       &sequence, &delivered, &pending),
                     -1);
}

static const char *member(cJSON *root, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, name));
}

static void test_dead_json(void **state)
{
    hpw_item_t item = {.event = event(0x11, 0xfe),
                       .sequence = 9,
                       .code = "22P05",
                       .reason = "unsupported \"escape\""};
    char *json;
    cJSON *root;

    (void)state;
    item.event.key = text("\xff\xfe");
    item.event.accepted_us = 9007199254740993; /* no double holds it */
    json = hpw_dead_json(&item, 1, "S_1", 1, 1, item.event.payload);
    assert_non_null(strstr(json, "\"accepted_us\":9007199254740993"));
    root = cJSON_Parse(json);
    assert_string_equal(member(root, "code"), "22P05");
    assert_string_equal(member(root, "reason"), "unsupported \"escape\"");
    assert_string_equal(member(root, "operation"),
                        "11111111-1111-1111-1111-111111111111");
    assert_string_equal(member(root, "tenant"), "acme");
    assert_string_equal(member(root, "key_base64"), "//4=");
    assert_null(member(root, "key"));
    assert_string_equal(member(root, "payload"), "{\"a\":1}");
    assert_null(cJSON_GetObjectItem(root, "part"));
    cJSON_Delete(root);
    cJSON_free(json);

    json = hpw_dead_json(&item, 1, "S_1", 2, 3, text("{\"a"));
    root = cJSON_Parse(json);
    assert_string_equal(member(root, "payload_base64"), "eyJh");
    assert_null(member(root, "payload"));
    assert_int_equal(cJSON_GetObjectItem(root, "part")->valueint, 2);
    assert_int_equal(cJSON_GetObjectItem(root, "parts")->valueint, 3);
    cJSON_Delete(root);
    cJSON_free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_finds_repeats),
        cmocka_unit_test(test_batch_many),
        cmocka_unit_test(test_batch_broken_frame),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_notice),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_dead_json),
    };
    int rc;

    /* nats.c frees messages on a thread that this starts */
    if (nats_Open(-1) != NATS_OK)
        return 1;
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    nats_CloseAndWait(5000);
    return rc;
}
