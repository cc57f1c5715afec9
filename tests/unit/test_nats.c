/*
 * test_nats.c: unit tests of ngx_module/core/hp_nats.c.
 *
 * What a server sends, whole and cut at every byte: a cut operation asks for
 * more and a broken one is called so, never a third thing. INFO and PubAck are
 * read as real servers write them, and what is only like a PubAck promises
 * nothing. Every input is a block of its own under AddressSanitizer.
 *
 * One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_nats.h"

#define PAYLOAD_MAX 65536

static void assert_text(hp_str_t text, const char *expected)
{
    assert_int_equal(text.len, strlen(expected));
    assert_memory_equal(text.data, expected, text.len);
}

static hp_nats_op_e read_all(hp_str_t data, hp_nats_op_t *op, size_t *consumed)
{
    size_t wanted;

    return hp_nats_read(data, PAYLOAD_MAX, op, consumed, &wanted);
}

/* Reads text as one operation; before its last byte it must not be whole. */
static hp_nats_op_e read_whole(const char *text, hp_nats_op_t *op,
                               hp_str_t *kept)
{
    size_t i, consumed, wanted;
    hp_nats_op_e kind;
    hp_str_t cut;

    for (i = 0; i < strlen(text); i++) {
        cut = exact(text, i);
        kind = hp_nats_read(cut, PAYLOAD_MAX, op, &consumed, &wanted);
        assert_int_equal(kind, HP_NATS_MORE);
        assert_int_equal(consumed, 0);
        assert_true(wanted > i);
        assert_true(wanted <= strlen(text) || wanted == i + 1);
        free((void *)cut.data);
    }

    *kept = exact_text(text);
    kind = read_all(*kept, op, &consumed);
    assert_int_equal(consumed, kept->len);
    return kind;
}

static void test_simple(void **state)
{
    hp_nats_op_t op;
    hp_str_t kept;

    (void)state;
    assert_int_equal(read_whole("PING\r\n", &op, &kept), HP_NATS_PING);
    free((void *)kept.data);
    assert_int_equal(read_whole("pong\r\n", &op, &kept), HP_NATS_PONG);
    free((void *)kept.data);
    assert_int_equal(read_whole("+OK\r\n", &op, &kept), HP_NATS_OK);
    free((void *)kept.data);
    assert_int_equal(
        read_whole("-ERR 'Authorization Violation'\r\n", &op, &kept),
        HP_NATS_ERR);
    assert_text(op.text, "Authorization Violation");
    free((void *)kept.data);
    assert_int_equal(read_whole("INFO {\"a\":1} \r\n", &op, &kept),
                     HP_NATS_INFO);
    assert_text(op.text, "{\"a\":1}");
    free((void *)kept.data);
}

static void test_messages(void **state)
{
    hp_nats_op_t op;
    hp_str_t kept;

    (void)state;
    assert_int_equal(read_whole("MSG a.b 9 5\r\nhello\r\n", &op, &kept),
                     HP_NATS_MSG);
    assert_text(op.subject, "a.b");
    assert_int_equal(op.sid, 9);
    assert_text(op.reply, "");
    assert_text(op.headers, "");
    assert_text(op.payload, "hello");
    assert_int_equal(op.status, 0);
    free((void *)kept.data);

    assert_int_equal(read_whole("MSG a.b 9 _R.1 0\r\n\r\n", &op, &kept),
                     HP_NATS_MSG);
    assert_text(op.reply, "_R.1");
    assert_text(op.payload, "");
    free((void *)kept.data);

    assert_int_equal(
        read_whole("HMSG x 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", &op, &kept),
        HP_NATS_MSG);
    assert_int_equal(op.status, 503);
    assert_int_equal(op.headers.len, 16);
    assert_text(op.payload, "");
    free((void *)kept.data);

    assert_int_equal(
        read_whole("HMSG x\t1 r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n", &op,
                   &kept),
        HP_NATS_MSG);
    assert_int_equal(op.status, 0);
    assert_text(op.reply, "r");
    assert_text(op.payload, "hi");
    free((void *)kept.data);
}

static void test_two_in_one(void **state)
{
    static const char text[] = "PING\r\nMSG a 1 2\r\nhi\r\nPO";
    hp_str_t data = exact_text(text), rest = data;
    hp_nats_op_t op;
    size_t consumed;

    (void)state;
    assert_int_equal(read_all(rest, &op, &consumed), HP_NATS_PING);
    rest.data += consumed;
    rest.len -= consumed;
    assert_int_equal(read_all(rest, &op, &consumed), HP_NATS_MSG);
    rest.data += consumed;
    rest.len -= consumed;
    assert_int_equal(read_all(rest, &op, &consumed), HP_NATS_MORE);
    free((void *)data.data);
}

static void test_broken(void **state)
{
    static const char *const broken[] = {
        "\r\n",
        "\n",
        "PING\n",
        "PINGS\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
        "MSG\r\n",
        "MSG a\r\n",
        "MSG a 1\r\n",
        "MSG a 1 r 2 3\r\nhi\r\n",
        "MSG a x 2\r\nhi\r\n",
        "MSG a 1 -2\r\nhi\r\n",
        "MSG a 1 2x\r\nhi\r\n",
        "MSG a 1 65537\r\n",
        "MSG a 1 99999999999999999999\r\n",
        "MSG a 1 2\r\nhi!\r\n",
        "MSG a 1 2\r\nhi\n\n",
        "HMSG a 1 2\r\nhi\r\n",
        "HMSG a 1 3 2\r\nhi\r\n",
        "HMSG a 1 x 2\r\nhi\r\n",
    };
    hp_nats_op_t op;
    size_t i, consumed;

    (void)state;
    for (i = 0; i < COUNT_OF(broken); i++) {
        hp_str_t data = exact_text(broken[i]);

        if (read_all(data, &op, &consumed) != HP_NATS_BROKEN) {
            fail_msg("taken for good: %s", broken[i]);
        }
        free((void *)data.data);
    }
}

static void test_endless_line(void **state)
{
    unsigned char *line = malloc(HP_NATS_LINE_MAX);
    hp_str_t data = {line, HP_NATS_LINE_MAX};
    hp_nats_op_t op;
    size_t consumed;

    (void)state;
    assert_non_null(line);
    memset(line, 'a', HP_NATS_LINE_MAX);
    assert_int_equal(read_all(data, &op, &consumed), HP_NATS_BROKEN);
    data.len--;
    assert_int_equal(read_all(data, &op, &consumed), HP_NATS_MORE);
    free(line);
}

static void test_wanted(void **state)
{
    hp_str_t data = exact_text("MSG a 1 60000\r\n");
    hp_nats_op_t op;
    size_t consumed, wanted;

    (void)state;
    assert_int_equal(hp_nats_read(data, PAYLOAD_MAX, &op, &consumed, &wanted),
                     HP_NATS_MORE);
    assert_int_equal(wanted, data.len + 60000 + 2);
    free((void *)data.data);
}

static void test_info(void **state)
{
    hp_str_t text = exact_text(
        "{\"server_id\":\"N\",\"version\":\"2.10.27\",\"headers\":true,"
        "\"max_payload\":1048576,\"auth_required\":true,\"jetstream\":true,"
        "\"nonce\":\"abc\",\"connect_urls\":[\"10.0.0.1:4222\"],"
        "\"ldm\":false}");
    hp_str_t bad;
    hp_nats_info_t info;

    (void)state;
    assert_int_equal(hp_nats_info_read(&info, text), 0);
    assert_int_equal(info.max_payload, 1048576);
    assert_true(info.headers);
    assert_true(info.auth_required);
    assert_false(info.tls_required);
    assert_false(info.lame_duck);
    assert_text(info.version, "2.10.27");
    assert_text(info.nonce, "abc");
    assert_text(info.connect_urls, "[\"10.0.0.1:4222\"]");
    free((void *)text.data);

    bad = exact_text("{\"max_payload\":\"big\"}");
    assert_int_equal(hp_nats_info_read(&info, bad), -1);
    free((void *)bad.data);
    bad = exact_text("[1]");
    assert_int_equal(hp_nats_info_read(&info, bad), -1);
    free((void *)bad.data);
    bad = exact_text("{\"max_payload\":1");
    assert_int_equal(hp_nats_info_read(&info, bad), -1);
    free((void *)bad.data);
}

static void test_puback(void **state)
{
    static const char *const nothing[] = {
        "",
        "-ERR",
        "{}",
        "[]",
        "null",
        "{\"stream\":\"S\"}",
        "{\"seq\":7}",
        "{\"stream\":\"S\",\"seq\":0}",
        "{\"stream\":\"S\",\"seq\":\"7\"}",
        "{\"stream\":\"S\",\"seq\":-7}",
        "{\"stream\":\"S\",\"seq\":7.5}",
        "{\"stream\":7,\"seq\":7}",
        "{\"stream\":\"S\",\"seq\":7",
        "{\"error\":\"no\",\"stream\":\"S\",\"seq\":7}",
    };
    hp_nats_puback_t ack;
    hp_str_t text;
    size_t i;

    (void)state;
    text = exact_text("{\"stream\":\"S\", \"seq\":7, \"duplicate\": true}");
    assert_int_equal(hp_nats_puback_read(&ack, text), 0);
    assert_text(ack.stream, "S");
    assert_int_equal(ack.sequence, 7);
    assert_true(ack.duplicate);
    assert_false(ack.error);
    free((void *)text.data);

    text = exact_text("{\"error\":{\"code\":503,\"err_code\":10077,"
                      "\"description\":\"maximum bytes exceeded\"},"
                      "\"stream\":\"S\",\"seq\":0}");
    assert_int_equal(hp_nats_puback_read(&ack, text), 0);
    assert_true(ack.error);
    assert_int_equal(ack.code, 503);
    assert_int_equal(ack.err_code, 10077);
    assert_text(ack.description, "maximum bytes exceeded");
    free((void *)text.data);

    for (i = 0; i < COUNT_OF(nothing); i++) {
        text = exact_text(nothing[i]);
        if (hp_nats_puback_read(&ack, text) == 0) {
            fail_msg("taken for a promise: %s", nothing[i]);
        }
        free((void *)text.data);
    }
}

static void test_info_tls(void **state)
{
    hp_str_t text = exact_text("{\"headers\":true,\"tls_required\":true,"
                               "\"tls_available\":true,\"ldm\":true}");
    hp_nats_info_t info;

    (void)state;
    assert_int_equal(hp_nats_info_read(&info, text), 0);
    assert_true(info.tls_required);
    assert_true(info.tls_available);
    assert_true(info.lame_duck);
    assert_int_equal(info.max_payload, 0);
    free((void *)text.data);
}

static void test_urls(void **state)
{
    char longest[HP_NATS_URL_MAX + 8], list[1024];
    hp_str_t text, rest, url;

    (void)state;
    memset(longest, 'a', HP_NATS_URL_MAX);
    longest[HP_NATS_URL_MAX] = 0;
    snprintf(list, sizeof(list),
             "[\"10.0.0.1:4222\", \"\",\"a\\\"b\",\"%s\",\"%sa\",7,"
             "\"[::1]:1\"]",
             longest, longest);
    text = rest = exact_text(list);
    assert_int_equal(hp_nats_url_next(&rest, &url), 1);
    assert_text(url, "10.0.0.1:4222");
    assert_int_equal(hp_nats_url_next(&rest, &url), 1);
    assert_text(url, longest);
    assert_int_equal(hp_nats_url_next(&rest, &url), 1);
    assert_text(url, "[::1]:1");
    assert_int_equal(hp_nats_url_next(&rest, &url), 0);
    assert_int_equal(rest.len, 0);
    free((void *)text.data);

    /* what is cut off in a string is none */
    text = rest = exact_text("[\"10.0.0.1:42");
    assert_int_equal(hp_nats_url_next(&rest, &url), 0);
    free((void *)text.data);
    text = rest = exact_text("[\"10.0.0.1:42\\");
    assert_int_equal(hp_nats_url_next(&rest, &url), 0);
    free((void *)text.data);
}

/* The server's own words, from the places where it says them. */
static void test_trouble(void **state)
{
    static const struct {
        const char *text;
        hp_nats_trouble_e trouble;
        const char *subject;
    } known[] = {
        {"Permissions Violation for Publish to \"a.b\"",
         HP_NATS_TROUBLE_PUBLISH, "a.b"},
        {"permissions violation for publish to", HP_NATS_TROUBLE_PUBLISH, ""},
        {"Permissions Violation for Publish to \"a.b", HP_NATS_TROUBLE_PUBLISH,
         ""},
        {"Permissions Violation for Subscription to \"_INBOX.x.*\" (sid "
         "\"1\")",
         HP_NATS_TROUBLE_SUBSCRIBE, "_INBOX.x.*"},
        {"Permissions Violation for Publish with Reply of \"r\"",
         HP_NATS_TROUBLE_SUBSCRIBE, "r"},
        {"Authorization Violation", HP_NATS_TROUBLE_AUTH, ""},
        {"User Authentication Expired", HP_NATS_TROUBLE_AUTH, ""},
        {"User Authentication Revoked", HP_NATS_TROUBLE_AUTH, ""},
        {"Account Authentication Expired", HP_NATS_TROUBLE_AUTH, ""},
        {"Authentication Timeout", HP_NATS_TROUBLE_AUTH, ""},
        {"Failed Account Registration", HP_NATS_TROUBLE_AUTH, ""},
        {"maximum connections exceeded", HP_NATS_TROUBLE_LIMIT, ""},
        {"maximum account active connections exceeded", HP_NATS_TROUBLE_LIMIT,
         ""},
        {"Connection throttling is active. Please try again later.",
         HP_NATS_TROUBLE_LIMIT, ""},
        {"maximum subscriptions exceeded", HP_NATS_TROUBLE_LIMIT, ""},
        {"Maximum Payload Violation", HP_NATS_TROUBLE_PAYLOAD, ""},
        {"Stale Connection", HP_NATS_TROUBLE_BROKEN, ""},
        {"Slow Consumer", HP_NATS_TROUBLE_BROKEN, ""},
        {"Secure Connection - TLS Required", HP_NATS_TROUBLE_BROKEN, ""},
        {"Unknown Protocol Operation", HP_NATS_TROUBLE_BROKEN, ""},
        {"Parser Error", HP_NATS_TROUBLE_BROKEN, ""},
        {"maximum control line exceeded", HP_NATS_TROUBLE_BROKEN, ""},
        {"Attempted To Connect To Route Port", HP_NATS_TROUBLE_BROKEN, ""},
        {"Invalid Publish Subject", HP_NATS_TROUBLE_OTHER, ""},
        {"Authorization", HP_NATS_TROUBLE_OTHER, ""},
        {"", HP_NATS_TROUBLE_OTHER, ""},
    };
    hp_str_t text, subject;
    size_t i;

    (void)state;
    for (i = 0; i < COUNT_OF(known); i++) {
        text = exact_text(known[i].text);
        if (hp_nats_trouble(text, &subject) != known[i].trouble) {
            fail_msg("taken for another: %s", known[i].text);
        }
        assert_text(subject, known[i].subject);
        free((void *)text.data);
    }
}

static void test_subjects(void **state)
{
    static const struct {
        const char *pattern;
        const char *subject;
        int match;
    } known[] = {
        {"a.b.0", "a.b.0", 1}, {"a.b.0", "a.b.1", 0},  {"a.b", "a.b.0", 0},
        {"a.b.0", "a.b", 0},   {"a.*.0", "a.b.0", 1},  {"a.*", "a.b.0", 0},
        {"*.*.*", "a.b.0", 1}, {"a.>", "a.b.0", 1},    {"a.b.0.>", "a.b.0", 0},
        {">", "a", 1},         {"a.>.0", "a.b.0", 0},  {"a.b*", "a.b0", 0},
        {"", "a", 0},          {"a", "", 0},           {"ab", "a", 0},
        {"a..0", "a..0", 0},   {"a.b.00", "a.b.0", 0},
    };
    hp_str_t pattern, subject;
    size_t i;

    (void)state;
    for (i = 0; i < COUNT_OF(known); i++) {
        pattern = exact_text(known[i].pattern);
        subject = exact_text(known[i].subject);
        if (hp_nats_subject_match(pattern, subject) != known[i].match) {
            fail_msg("%s and %s", known[i].pattern, known[i].subject);
        }
        free((void *)pattern.data);
        free((void *)subject.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simple),       cmocka_unit_test(test_messages),
        cmocka_unit_test(test_two_in_one),   cmocka_unit_test(test_broken),
        cmocka_unit_test(test_endless_line), cmocka_unit_test(test_wanted),
        cmocka_unit_test(test_info),         cmocka_unit_test(test_puback),
        cmocka_unit_test(test_info_tls),     cmocka_unit_test(test_urls),
        cmocka_unit_test(test_trouble),      cmocka_unit_test(test_subjects),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
