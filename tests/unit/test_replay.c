/*
 * test_replay.c: unit tests of ngx_module/core/hp_replay.c.
 *
 * The bytes of each kind of record as schemas/framing.md has them, written out;
 * each record read again, cut at every length and changed at every byte of its
 * fixed part: it is refused or says something else, and nothing outside of it
 * is read.
 */
#include "support.h"

#include "hp_replay.h"

static unsigned char fingerprint[HP_FINGERPRINT_SIZE];
static unsigned char token[HP_REPLAY_TOKEN_SIZE];

static int setup(void **state)
{
    size_t i;

    (void)state;

    for (i = 0; i < sizeof(fingerprint); i++) {
        fingerprint[i] = (unsigned char)(i + 1);
    }

    memset(token, 0xee, sizeof(token));
    return 0;
}

static hp_str_t written(hp_replay_kind_t kind, const char *head,
                        const char *body)
{
    unsigned char space[512];
    hp_replay_t replay;

    memset(&replay, 0, sizeof(replay));
    replay.kind = kind;
    replay.fingerprint = fingerprint;
    replay.answered_us = 0x0605040302010a0b;
    replay.status = 201;
    replay.head.data = (const unsigned char *)head;
    replay.head.len = strlen(head);
    replay.body.data = (const unsigned char *)body;
    replay.body.len = strlen(body);
    return exact(space, (size_t)(hp_replay_write(space, &replay) - space));
}

static void test_bytes(void **state)
{
    static const unsigned char fixed[] = {0x0b, 0x0a, 1, 2, 3, 4, 5, 6, 201, 0,
                                          0,    0,    4, 0, 0, 0, 2, 0, 0,   0};
    unsigned char claim[HP_REPLAY_CLAIM_SIZE];
    hp_str_t record;

    (void)state;
    hp_replay_claim(claim, fingerprint, token);
    assert_memory_equal(claim, "I\1C\0", 4);
    assert_memory_equal(claim + 4, fingerprint, sizeof(fingerprint));
    assert_memory_equal(claim + 36, token, sizeof(token));
    assert_int_equal(HP_REPLAY_CLAIM_SIZE, 52);

    record = written(HP_REPLAY_ANSWER, "head", "{}");
    assert_int_equal(record.len, HP_REPLAY_FIXED + 6);
    assert_memory_equal(record.data, "I\1A\0", 4);
    assert_memory_equal(record.data + 4, fingerprint, sizeof(fingerprint));
    assert_memory_equal(record.data + 36, fixed, sizeof(fixed));
    assert_memory_equal(record.data + 56, "head{}", 6);
    free((void *)record.data);
}

static void test_read(void **state)
{
    static const struct {
        hp_replay_kind_t kind;
        const char *head;
        const char *body;
    } cases[] = {
        {HP_REPLAY_ANSWER, "head", "body"},
        {HP_REPLAY_ANSWER, "h", ""},
        {HP_REPLAY_NOT_KEPT, "", ""},
        {HP_REPLAY_UNKNOWN, "", ""},
    };
    hp_replay_t replay;
    hp_str_t record, cut;
    size_t i, len;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        record = written(cases[i].kind, cases[i].head, cases[i].body);
        assert_int_equal(hp_replay_read(&replay, record), 0);
        assert_int_equal(replay.kind, cases[i].kind);
        assert_ptr_equal(replay.fingerprint, record.data + 4);
        assert_int_equal(replay.answered_us, 0x0605040302010a0b);
        assert_int_equal(replay.status, 201);
        assert_int_equal(replay.head.len, strlen(cases[i].head));
        assert_int_equal(replay.body.len, strlen(cases[i].body));
        assert_memory_equal(replay.head.data, cases[i].head, replay.head.len);
        assert_memory_equal(replay.body.data, cases[i].body, replay.body.len);

        for (len = 0; len < record.len; len++) {
            cut = exact(record.data, len);
            assert_int_equal(hp_replay_read(&replay, cut), -1);
            free((void *)cut.data);
        }

        free((void *)record.data);
    }
}

static void test_refused(void **state)
{
    /* what may be anything: fingerprint, time, and of a claim the token */
    unsigned char claim[HP_REPLAY_CLAIM_SIZE + 1];
    hp_replay_t replay;
    hp_str_t record, changed;
    size_t i;
    int rc;

    (void)state;
    record = written(HP_REPLAY_ANSWER, "head", "body");

    for (i = 0; i < HP_REPLAY_FIXED; i++) {
        changed = exact(record.data, record.len);
        ((unsigned char *)changed.data)[i] ^= 0x40;
        rc = hp_replay_read(&replay, changed);
        assert_int_equal(rc, (i >= 4 && i < 44) || i == 44 ? 0 : -1);
        free((void *)changed.data);
    }

    free((void *)record.data);

    record = written(HP_REPLAY_ANSWER, "", "body");
    assert_int_equal(hp_replay_read(&replay, record), -1);
    free((void *)record.data);
    record = written(HP_REPLAY_UNKNOWN, "", "body");
    assert_int_equal(hp_replay_read(&replay, record), -1);
    free((void *)record.data);

    hp_replay_claim(claim, fingerprint, token);
    record = exact(claim, HP_REPLAY_CLAIM_SIZE);
    assert_int_equal(hp_replay_read(&replay, record), 0);
    assert_int_equal(replay.kind, HP_REPLAY_CLAIM);
    free((void *)record.data);
    claim[HP_REPLAY_CLAIM_SIZE] = 0;
    record = exact(claim, sizeof(claim));
    assert_int_equal(hp_replay_read(&replay, record), -1);
    free((void *)record.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
