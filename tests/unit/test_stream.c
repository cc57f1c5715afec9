/*
 * test_stream.c: unit tests of ngx_module/core/hp_stream.c.
 *
 * An answer to STREAM.INFO as nats-server 2.10 writes it, and the same with one
 * thing changed at a time: each is found, by its reason and no other, and what
 * cannot be understood is never fit. Then the table of refusals, by number and
 * by the store's own words.
 *
 * One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_stream.h"

static const hp_str_t subject = HP_STR("hotpath.events.0");

static const hp_stream_wanted_t wanted = {HP_STORAGE_FILE, 1, 10000, 600000};

#define ANSWER(config)                                                         \
    "{\"type\":\"io.nats.jetstream.api.v1.stream_info_response\","             \
    "\"total\":0,\"config\":{\"name\":\"S\"," config                           \
    "\"max_msgs\":-1},\"created\":\"2026-01-31T12:00:00Z\","                   \
    "\"state\":{\"messages\":3,\"bytes\":4711}}"

#define SUBJECTS "\"subjects\":[\"x\",\"hotpath.events.*\"],"
#define REST                                                                   \
    "\"discard\":\"new\",\"storage\":\"file\",\"num_replicas\":1,"             \
    "\"duplicate_window\":120000000000,"

static hp_stream_fit_e check(const char *answer, const char **reason)
{
    hp_str_t text = exact_text(answer);
    hp_stream_t stream;
    hp_stream_fit_e fit;

    if (hp_stream_read(&stream, text, subject) != 0) {
        *reason = "unread";
        fit = HP_STREAM_UNFIT;
    } else {
        fit = hp_stream_check(&stream, &wanted, reason);
    }
    free((void *)text.data);
    return fit;
}

static void test_fit(void **state)
{
    hp_str_t text = exact_text(ANSWER(SUBJECTS REST "\"max_msg_size\":-1,"));
    hp_stream_t stream;
    const char *reason = "";

    (void)state;
    assert_int_equal(hp_stream_read(&stream, text, subject), 0);
    assert_true(stream.exists && stream.bound && stream.discard_new);
    assert_false(stream.closed);
    assert_int_equal(stream.replicas, 1);
    assert_int_equal(stream.duplicate_window_ms, 120000);
    assert_int_equal(stream.max_message, 0);
    assert_int_equal(stream.bytes, 4711);
    assert_int_equal(stream.storage, HP_STORAGE_FILE);
    assert_int_equal(stream.created.len, 20);
    assert_int_equal(hp_stream_check(&stream, &wanted, &reason), HP_STREAM_FIT);
    assert_null(reason);
    free((void *)text.data);
}

static void test_reasons(void **state)
{
    static const struct {
        const char *answer;
        hp_stream_fit_e fit;
        const char *reason;
    } known[] = {
        {"{\"error\":{\"code\":404,\"err_code\":10059}}", HP_STREAM_UNFIT,
         "missing"},
        {"{\"error\":{\"code\":503,\"err_code\":10008}}", HP_STREAM_UNFIT,
         "cannot_be_asked"},
        {"{\"error\":7}", HP_STREAM_UNFIT, "missing"},
        {ANSWER(REST), HP_STREAM_UNFIT, "subject_not_bound"},
        {ANSWER("\"subjects\":[\"hotpath.events.1\"]," REST), HP_STREAM_UNFIT,
         "subject_not_bound"},
        {ANSWER("\"subjects\":\"hotpath.events.0\"," REST), HP_STREAM_UNFIT,
         "subject_not_bound"},
        {ANSWER(SUBJECTS REST "\"sealed\":true,"), HP_STREAM_UNFIT,
         "takes_no_messages"},
        {ANSWER(SUBJECTS REST "\"sealed\":false,"), HP_STREAM_FIT, NULL},
        {ANSWER(SUBJECTS REST "\"sealed\":null,\"mirror\":null,"),
         HP_STREAM_FIT, NULL},
        {ANSWER(SUBJECTS REST "\"mirror\":{\"name\":\"T\"},"), HP_STREAM_UNFIT,
         "takes_no_messages"},
        {ANSWER(SUBJECTS REST "\"discard\":\"old\","), HP_STREAM_UNFIT,
         "discards_old"},
        {ANSWER(SUBJECTS REST "\"discard\":1,"), HP_STREAM_UNFIT,
         "discards_old"},
        {ANSWER(SUBJECTS REST "\"storage\":\"memory\","), HP_STREAM_UNFIT,
         "storage_differs"},
        {ANSWER(SUBJECTS REST "\"storage\":\"tape\","), HP_STREAM_UNFIT,
         "storage_differs"},
        {ANSWER(SUBJECTS REST "\"num_replicas\":0,"), HP_STREAM_WEAKER,
         "too_few_replicas"},
        {ANSWER(SUBJECTS REST "\"num_replicas\":\"3\","), HP_STREAM_WEAKER,
         "too_few_replicas"},
        {ANSWER(SUBJECTS REST "\"duplicate_window\":9999999999,"),
         HP_STREAM_WEAKER, "duplicate_window_too_short"},
        {ANSWER(SUBJECTS REST "\"duplicate_window\":10000000000,"),
         HP_STREAM_FIT, NULL},
        {ANSWER(SUBJECTS REST "\"max_msg_size\":599999,"), HP_STREAM_WEAKER,
         "max_msg_size_too_small"},
        {ANSWER(SUBJECTS REST "\"max_msg_size\":600000,"), HP_STREAM_FIT, NULL},
        {"", HP_STREAM_UNFIT, "unread"},
        {"[]", HP_STREAM_UNFIT, "unread"},
        {"{}", HP_STREAM_UNFIT, "unread"},
        {"{\"config\":{},\"created\":7}", HP_STREAM_UNFIT, "unread"},
        {"{\"config\":[],\"created\":\"x\"}", HP_STREAM_UNFIT, "unread"},
        {"{\"config\":\"{}\",\"created\":\"x\"}", HP_STREAM_UNFIT, "unread"},
    };
    const char *reason;
    size_t i;

    (void)state;
    for (i = 0; i < COUNT_OF(known); i++) {
        reason = "";
        if (check(known[i].answer, &reason) != known[i].fit ||
            (reason == NULL) != (known[i].reason == NULL) ||
            (reason && strcmp(reason, known[i].reason) != 0)) {
            fail_msg("%s: %s, not %s", known[i].answer, reason ? reason : "fit",
                     known[i].reason ? known[i].reason : "fit");
        }
    }
}

/* Where memory was wanted, files are more than that: told, and published to. */
static void test_memory(void **state)
{
    hp_stream_wanted_t memory = wanted;
    hp_str_t text = exact_text(ANSWER(SUBJECTS REST));
    hp_stream_t stream;
    const char *reason = NULL;

    (void)state;
    memory.storage = HP_STORAGE_MEMORY;
    assert_int_equal(hp_stream_read(&stream, text, subject), 0);
    assert_int_equal(hp_stream_check(&stream, &memory, &reason),
                     HP_STREAM_WEAKER);
    assert_string_equal(reason, "storage_differs");
    memory.storage = HP_STORAGE_ANY;
    assert_int_equal(hp_stream_check(&stream, &memory, &reason), HP_STREAM_FIT);
    free((void *)text.data);
}

static void test_refusals(void **state)
{
    static const struct {
        uint32_t code;
        const char *description;
        hp_refused_e refused;
    } known[] = {
        {503, "", HP_REFUSED_MISSING},
        {403, "", HP_REFUSED_DENIED},
        {10077, "maximum messages exceeded", HP_REFUSED_FULL},
        {10077, "maximum bytes exceeded", HP_REFUSED_FULL},
        {10077, "maximum messages per subject exceeded", HP_REFUSED_FULL},
        {10077, "message too large", HP_REFUSED_SIZE},
        {10077, "no space left on device", HP_REFUSED_DEGRADED},
        {10077, "maximum", HP_REFUSED_DEGRADED},
        {10077, "", HP_REFUSED_DEGRADED},
        {10002, "", HP_REFUSED_FULL},
        {10023, "", HP_REFUSED_FULL},
        {10028, "", HP_REFUSED_FULL},
        {10047, "", HP_REFUSED_FULL},
        {10122, "", HP_REFUSED_FULL},
        {10054, "", HP_REFUSED_SIZE},
        {10097, "", HP_REFUSED_SIZE},
        {10005, "", HP_REFUSED_DEGRADED},
        {10008, "", HP_REFUSED_DEGRADED},
        {10009, "", HP_REFUSED_DEGRADED},
        {10118, "", HP_REFUSED_DEGRADED},
        {10167, "", HP_REFUSED_DEGRADED},
        {10039, "", HP_REFUSED_MISSING},
        {10059, "", HP_REFUSED_MISSING},
        {10060, "", HP_REFUSED_MISSING},
        {10076, "", HP_REFUSED_MISSING},
        {10109, "", HP_REFUSED_MISSING},
        {10158, "", HP_REFUSED_UNSURE},
        {10070, "", HP_REFUSED_OTHER},
        {10071, "wrong last sequence: 5", HP_REFUSED_OTHER},
        {0, "", HP_REFUSED_OTHER},
        {4294967295u, "", HP_REFUSED_OTHER},
    };
    hp_str_t text;
    size_t i;

    (void)state;
    for (i = 0; i < COUNT_OF(known); i++) {
        text = exact_text(known[i].description);
        if (hp_refused(known[i].code, text) != known[i].refused) {
            fail_msg("%u %s", known[i].code, known[i].description);
        }
        free((void *)text.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
