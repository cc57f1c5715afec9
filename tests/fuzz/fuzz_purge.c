/*
 * fuzz_purge.c: any bytes as a purge request, and as what instances say.
 *
 * What is accepted must be a target within its bounds whose texts lie inside
 * the text or the scratch space, and must be accepted again, as the same
 * target, when it is written anew from what was understood; so nothing in the
 * text was passed over. What an instance says must lie inside the message and
 * be what JSON takes as it is, however the message was made. Built and run by
 * tests/fuzz/Makefile; seeds: seeds_read.py.
 */
#include <stdlib.h>
#include <string.h>

#include "hp_fleet.h"
#include "hp_purge.h"

static void check(int good)
{
    if (!good) {
        abort();
    }
}

static int inside(hp_str_t text, const void *block, size_t len)
{
    const unsigned char *first = block;

    return text.len == 0 ||
           (text.data >= first && text.data + text.len <= first + len);
}

static unsigned char *put(unsigned char *p, const char *text)
{
    size_t len = strlen(text);

    memcpy(p, text, len);
    return p + len;
}

static unsigned char *put_string(unsigned char *p, hp_str_t text)
{
    *p++ = '"';
    p += hp_json_escape(p, 6 * text.len, text);
    *p++ = '"';
    return p;
}

static int same(hp_str_t a, hp_str_t b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static void again(const hp_purge_t *purge, size_t len)
{
    unsigned char *text = malloc(6 * len + 1024), *p = text, *scratch;
    hp_purge_t second;
    hp_str_t written;
    unsigned i;

    check(text != NULL);
    p = put(p, "{\"model\":");
    p = put_string(p, purge->model);

    if (purge->has_tenant) {
        p = put(p, ",\"tenant\":");
        p = put_string(p, purge->tenant);
    }

    if (purge->nkeys) {
        p = put(p, ",\"keys\":[");
        for (i = 0; i < purge->nkeys; i++) {
            p = put(p, i ? "," : "");
            p = put_string(p, purge->keys[i]);
        }
        p = put(p, "]");
    }

    if (purge->tag.len) {
        p = put(p, ",\"tag\":");
        p = put_string(p, purge->tag);
    }

    p = put(p, purge->soft ? ",\"mode\":\"soft\"}" : "}");

    written.data = text;
    written.len = (size_t)(p - text);
    scratch = malloc(written.len);
    check(scratch != NULL);
    check(hp_purge_read(&second, written, scratch) == HP_PURGE_OK);
    check(same(second.model, purge->model) && same(second.tag, purge->tag) &&
          same(second.tenant, purge->tenant) &&
          second.has_tenant == purge->has_tenant &&
          second.soft == purge->soft && second.nkeys == purge->nkeys);

    for (i = 0; i < purge->nkeys; i++) {
        check(same(second.keys[i], purge->keys[i]));
    }

    free(scratch);
    free(text);
}

static void check_plain(hp_str_t text, size_t least, size_t most,
                        hp_str_t message)
{
    size_t i;

    check(text.len >= least && text.len <= most);
    check(inside(text, message.data, message.len));

    for (i = 0; i < text.len; i++) {
        check(hp_instance_char(text.data[i]));
    }
}

static void check_fleet(hp_str_t message)
{
    hp_purge_answer_t answer;
    hp_purge_ask_t ask;
    hp_beat_t beat;

    if (hp_beat_read(&beat, message) == 0) {
        check_plain(beat.instance, 1, HP_INSTANCE_MAX, message);
    }

    if (hp_purge_ask_read(&ask, message) == 0) {
        check_plain(ask.id, HP_PURGE_ID, HP_PURGE_ID, message);
        check_plain(ask.from, 1, HP_INSTANCE_MAX, message);
        check(inside(ask.purge, message.data, message.len));
    }

    if (hp_purge_answer_read(&answer, message) == 0) {
        check_plain(answer.id, HP_PURGE_ID, HP_PURGE_ID, message);
        check_plain(answer.instance, 1, HP_INSTANCE_MAX, message);
        check_plain(answer.error, 0, 32, message);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *scratch = malloc(size ? size : 1);
    hp_str_t text = {data, size};
    hp_purge_status_t status;
    hp_purge_t purge;
    unsigned i;

    check(scratch != NULL);
    check_fleet(text);
    status = hp_purge_read(&purge, text, scratch);

    if (status == HP_PURGE_OK) {
        check(purge.model.len >= 1 && purge.model.len <= 64);
        check(purge.nkeys <= HP_PURGE_KEYS_MAX);
        check(purge.tag.len <= HP_PURGE_TAG_MAX);
        check(purge.tag.len == 0 || purge.nkeys == 0);
        check(inside(purge.model, data, size) ||
              inside(purge.model, scratch, size));

        for (i = 0; i < purge.nkeys; i++) {
            check(purge.keys[i].len >= 1 &&
                  purge.keys[i].len <= HP_PURGE_KEY_MAX);
            check(inside(purge.keys[i], data, size) ||
                  inside(purge.keys[i], scratch, size));
        }

        again(&purge, size);
    } else if (status == HP_PURGE_JSON) {
        check(purge.json != HP_JSON_OK && purge.error_offset <= size);
    }

    free(scratch);
    return 0;
}
