/*
 * test_fleet.c: unit tests of ngx_module/core/hp_fleet.c.
 *
 * What instances tell one another comes over a subject on which others may
 * publish too: every message is read as it should be, and every way in which
 * it is none is refused, above all what would not fit the reader's buffers or
 * would have to be escaped in JSON. Inputs are blocks of exactly their size.
 * One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_fleet.h"

#define NAME95                                                                 \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaaaaaaaaaaaaaaaaaaaaa"

static void test_beats(void **state)
{
    static const char *const refused[] = {
        "",
        "{}",
        "[]",
        "\"instance\"",
        "{\"instance\":\"\"}",
        "{\"instance\":7}",
        "{\"instance\":\"a b\"}",
        "{\"instance\":\"a\\u0062\"}",
        "{\"instance\":\"\\\"\"}",
        "{\"instance\":\"\xc3\xa4\"}",
        "{\"instance\":\"a\"",
        "{\"instance\":\"a\"} x",
        "{\"instance\":\"" NAME95 "a\"}",
    };
    hp_str_t message;
    hp_beat_t beat;
    size_t i;

    (void)state;

    message = exact_text("{\"instance\":\"web-1.x_y:42:0f\",\"began\":17,"
                         "\"more\":[{}],\"leaving\":false}");
    assert_int_equal(hp_beat_read(&beat, message), 0);
    assert_same(beat.instance, text_of("web-1.x_y:42:0f"));
    assert_int_equal(beat.began_us, 17);
    assert_int_equal(beat.leaving, 0);
    drop(&message);

    message = exact_text("{\"leaving\":true,\"instance\":\"" NAME95 "\"}");
    assert_int_equal(hp_beat_read(&beat, message), 0);
    assert_int_equal(beat.instance.len, HP_INSTANCE_MAX);
    assert_int_equal(beat.began_us, 0);
    assert_int_equal(beat.leaving, 1);
    drop(&message);

    /* what is not what it should be says nothing */
    message = exact_text("{\"instance\":\"a\",\"leaving\":\"true\","
                         "\"began\":1234567890123456789}");
    assert_int_equal(hp_beat_read(&beat, message), 0);
    assert_int_equal(beat.began_us, 0);
    assert_int_equal(beat.leaving, 0);
    drop(&message);

    for (i = 0; i < COUNT_OF(refused); i++) {
        message = exact_text(refused[i]);
        assert_int_equal(hp_beat_read(&beat, message), -1);
        drop(&message);
    }
}

static void test_asks(void **state)
{
    static const char *const refused[] = {
        "{\"from\":\"a\",\"purge\":{}}",
        "{\"id\":\"0123456789abcde\",\"from\":\"a\",\"purge\":{}}",
        "{\"id\":\"0123456789abcdef0\",\"from\":\"a\",\"purge\":{}}",
        "{\"id\":\"0123456789abcdeF\",\"from\":\"a\",\"purge\":{}}",
        "{\"id\":\"0123456789abcdef\",\"purge\":{}}",
        "{\"id\":\"0123456789abcdef\",\"from\":\"\",\"purge\":{}}",
        "{\"id\":\"0123456789abcdef\",\"from\":\"a\"}",
        "{\"id\":\"0123456789abcdef\",\"from\":\"a\",\"purge\":\"x\"}",
        "{\"id\":\"0123456789abcdef\",\"from\":\"a\",\"purge\":[[[[[]]]]]}",
    };
    hp_str_t message;
    hp_purge_ask_t ask;
    size_t i;

    (void)state;

    message = exact_text("{\"id\":\"0123456789abcdef\",\"from\":\"a\","
                         "\"purge\": {\"keys\" : [\"1\"]} }");
    assert_int_equal(hp_purge_ask_read(&ask, message), 0);
    assert_same(ask.id, text_of("0123456789abcdef"));
    assert_same(ask.from, text_of("a"));
    assert_same(ask.purge, text_of("{\"keys\" : [\"1\"]}"));
    drop(&message);

    for (i = 0; i < COUNT_OF(refused); i++) {
        message = exact_text(refused[i]);
        assert_int_equal(hp_purge_ask_read(&ask, message), -1);
        drop(&message);
    }
}

static void test_answers(void **state)
{
    static const char *const refused[] = {
        "{\"instance\":\"a\",\"done\":true}",
        "{\"id\":\"0123456789abcdef\",\"done\":true}",
        "{\"id\":\"0123456789abcdef\",\"instance\":\"a\",\"error\":\"\"}",
        "{\"id\":\"0123456789abcdef\",\"instance\":\"a\",\"error\":\"A\"}",
        "{\"id\":\"0123456789abcdef\",\"instance\":\"a\",\"error\":"
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
    };
    hp_purge_answer_t answer;
    hp_str_t message;
    size_t i;

    (void)state;

    message = exact_text("{\"id\":\"0123456789abcdef\",\"instance\":\"a\","
                         "\"done\":true,\"purged\":12,\"redis\":3,"
                         "\"error\":\"zone_busy\"}");
    assert_int_equal(hp_purge_answer_read(&answer, message), 0);
    assert_same(answer.id, text_of("0123456789abcdef"));
    assert_same(answer.instance, text_of("a"));
    assert_int_equal(answer.done, 1);
    assert_int_equal(answer.purged, 12);
    assert_int_equal(answer.redis, 3);
    assert_same(answer.error, text_of("zone_busy"));
    drop(&message);

    message = exact_text("{\"id\":\"0123456789abcdef\",\"instance\":\"a\","
                         "\"purged\":-1,\"redis\":1e3}");
    assert_int_equal(hp_purge_answer_read(&answer, message), 0);
    assert_int_equal(answer.done, 0);
    assert_int_equal(answer.purged, 0);
    assert_int_equal(answer.redis, 0);
    assert_int_equal(answer.error.len, 0);
    drop(&message);

    for (i = 0; i < COUNT_OF(refused); i++) {
        message = exact_text(refused[i]);
        assert_int_equal(hp_purge_answer_read(&answer, message), -1);
        drop(&message);
    }
}

/* Every cut of every message is none, and nothing behind it is read. */
static void test_cuts(void **state)
{
    static const char whole[] =
        "{\"id\":\"0123456789abcdef\",\"instance\":\"a\",\"from\":\"b\","
        "\"purge\":{\"model\":\"p\"},\"done\":true,\"error\":\"refused\"}";
    hp_purge_answer_t answer;
    hp_purge_ask_t ask;
    hp_str_t message;
    hp_beat_t beat;
    size_t len;
    int good;

    (void)state;

    for (len = 0; len < sizeof(whole); len++) {
        good = len == sizeof(whole) - 1;
        message = exact(whole, len);
        assert_int_equal(hp_beat_read(&beat, message), good ? 0 : -1);
        assert_int_equal(hp_purge_ask_read(&ask, message), good ? 0 : -1);
        assert_int_equal(hp_purge_answer_read(&answer, message), good ? 0 : -1);
        drop(&message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beats),
        cmocka_unit_test(test_asks),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_cuts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
