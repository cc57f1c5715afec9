/*
 * fuzz_nats.c: libFuzzer target of ngx_module/core/hp_nats.c.
 *
 * The input is a server's stream of bytes. Read whole, and again as it would
 * arrive in pieces (each operation asked for with every shorter prefix until it
 * is whole), it must give the same operations; every slice must lie inside the
 * input, and what asks for more must say how much. Then the same bytes as INFO
 * with its list of servers, as a PubAck (only a stream and a sequence above
 * zero are a promise), as what a server complains of, and as a stream's
 * configuration: no stream is fit without a time of creation.
 *
 * A wrong answer aborts; AddressSanitizer sees a byte read too far. Seeds:
 * seeds.py. Run by make -C tests/fuzz.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_stream.h"

#define PAYLOAD_MAX 1024

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(hp_str_t slice, hp_str_t whole)
{
    if (slice.len != 0) {
        MUST(slice.data >= whole.data);
        MUST(slice.data + slice.len <= whole.data + whole.len);
    }
}

static int same(hp_str_t a, hp_str_t b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Before its last byte an operation is not whole, and never another one. */
static void in_pieces(hp_str_t data, hp_nats_op_e kind, hp_nats_op_t *op,
                      size_t consumed)
{
    hp_nats_op_t again;
    hp_str_t part = data;
    size_t eaten, wanted, step;

    step = consumed > 64 ? consumed / 64 : 1;

    for (part.len = 0; part.len < consumed; part.len += step) {
        MUST(hp_nats_read(part, PAYLOAD_MAX, &again, &eaten, &wanted) ==
             HP_NATS_MORE);
        MUST(eaten == 0);
        MUST(wanted > part.len);
    }

    part.len = consumed;
    MUST(hp_nats_read(part, PAYLOAD_MAX, &again, &eaten, &wanted) == kind);
    MUST(eaten == consumed);
    MUST(same(again.subject, op->subject) && same(again.reply, op->reply) &&
         same(again.payload, op->payload) && same(again.text, op->text));
}

static void urls(hp_str_t list)
{
    hp_str_t rest = list, url;
    size_t before = rest.len;

    while (hp_nats_url_next(&rest, &url)) {
        inside(url, list);
        MUST(url.len != 0 && url.len <= HP_NATS_URL_MAX);
        MUST(memchr(url.data, '"', url.len) == NULL);
        MUST(rest.len < before);
        before = rest.len;
    }
    MUST(rest.len == 0);
}

static void stream(hp_str_t answer)
{
    static const hp_str_t subject = HP_STR("a.b.0");
    static const hp_stream_wanted_t wanted = {HP_STORAGE_FILE, 1, 1, 1};
    hp_stream_t found;
    const char *reason = "";

    if (hp_stream_read(&found, answer, subject) != 0) {
        return;
    }
    inside(found.created, answer);
    if (hp_stream_check(&found, &wanted, &reason) == HP_STREAM_FIT) {
        MUST(reason == NULL && found.created.len != 0 && found.bound &&
             found.discard_new && found.replicas >= 1);
    } else {
        MUST(reason != NULL && reason[0]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hp_str_t rest = {data, size}, subject;
    hp_nats_puback_t ack;
    hp_nats_info_t info;
    hp_nats_op_t op;
    hp_nats_op_e kind;
    size_t consumed, wanted;

    if (hp_nats_info_read(&info, rest) == 0) {
        inside(info.version, rest);
        inside(info.nonce, rest);
        inside(info.connect_urls, rest);
        urls(info.connect_urls);
    }
    urls(rest);
    stream(rest);

    (void)hp_nats_trouble(rest, &subject);
    inside(subject, rest);
    MUST(!hp_nats_subject_match(rest, subject) || subject.len != 0 ||
         rest.len == 0);

    if (hp_nats_puback_read(&ack, rest) == 0) {
        inside(ack.stream, rest);
        inside(ack.description, rest);
        MUST(hp_refused(ack.err_code, ack.description) <= HP_REFUSED_UNSURE);
        MUST(ack.error || (ack.stream.len != 0 && ack.sequence != 0));
    }

    for (;;) {
        kind = hp_nats_read(rest, PAYLOAD_MAX, &op, &consumed, &wanted);

        if (kind == HP_NATS_MORE || kind == HP_NATS_BROKEN) {
            MUST(consumed == 0);
            MUST(kind == HP_NATS_BROKEN || wanted > rest.len);
            return 0;
        }

        MUST(consumed > 0 && consumed <= rest.len);
        inside(op.subject, rest);
        inside(op.reply, rest);
        inside(op.headers, rest);
        inside(op.payload, rest);
        inside(op.text, rest);
        MUST(op.headers.len + op.payload.len <= PAYLOAD_MAX);
        in_pieces(rest, kind, &op, consumed);

        rest.data += consumed;
        rest.len -= consumed;
    }
}
