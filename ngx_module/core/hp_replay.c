/*
 * hp_replay.c: what instances tell one another of an idempotency key.
 *
 * One job: the record that stands in Redis for a key, written and read. It is
 * compared as a whole by the scripts that settle a claim, so that equal claims
 * are equal bytes; and it is read by other versions of the module, so that its
 * second byte is a version, and what is not known is refused, not guessed.
 *
 * Owns nothing, allocates nothing, keeps no state: any process, any thread.
 * Contract: schemas/framing.md. Tests: tests/unit/test_replay.c,
 * tests/fuzz/fuzz_replay.c.
 */
#include "hp_replay.h"

#include <string.h>

#define REPLAY_MAGIC 'I'
#define REPLAY_VERSION 1

static void put_number(unsigned char *dst, uint64_t n, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++) {
        dst[i] = (unsigned char)(n >> 8 * i);
    }
}

static uint64_t get_number(const unsigned char *src, size_t size)
{
    uint64_t n;

    for (n = 0; size != 0; size--) {
        n = n << 8 | src[size - 1];
    }

    return n;
}

static unsigned char *begin(unsigned char *dst, hp_replay_kind_t kind,
                            const unsigned char *fingerprint)
{
    dst[0] = REPLAY_MAGIC;
    dst[1] = REPLAY_VERSION;
    dst[2] = (unsigned char)kind;
    dst[3] = 0;
    memcpy(dst + 4, fingerprint, HP_FINGERPRINT_SIZE);
    return dst + 4 + HP_FINGERPRINT_SIZE;
}

void hp_replay_claim(unsigned char dst[HP_REPLAY_CLAIM_SIZE],
                     const unsigned char fingerprint[HP_FINGERPRINT_SIZE],
                     const unsigned char token[HP_REPLAY_TOKEN_SIZE])
{
    memcpy(begin(dst, HP_REPLAY_CLAIM, fingerprint), token,
           HP_REPLAY_TOKEN_SIZE);
}

unsigned char *hp_replay_write(unsigned char *dst, const hp_replay_t *replay)
{
    dst = begin(dst, replay->kind, replay->fingerprint);

    put_number(dst, (uint64_t)replay->answered_us, 8);
    put_number(dst + 8, replay->status, 2);
    put_number(dst + 10, 0, 2);
    put_number(dst + 12, replay->head.len, 4);
    put_number(dst + 16, replay->body.len, 4);
    dst += 20;

    if (replay->head.len != 0) {
        memcpy(dst, replay->head.data, replay->head.len);
        dst += replay->head.len;
    }

    if (replay->body.len != 0) {
        memcpy(dst, replay->body.data, replay->body.len);
        dst += replay->body.len;
    }

    return dst;
}

int hp_replay_read(hp_replay_t *replay, hp_str_t record)
{
    const unsigned char *p;

    if (record.len < HP_REPLAY_CLAIM_SIZE || record.data[0] != REPLAY_MAGIC ||
        record.data[1] != REPLAY_VERSION || record.data[3] != 0) {
        return -1;
    }

    memset(replay, 0, sizeof(*replay));
    replay->fingerprint = record.data + 4;
    p = record.data + 4 + HP_FINGERPRINT_SIZE;

    switch (record.data[2]) {
    case HP_REPLAY_CLAIM:
        replay->kind = HP_REPLAY_CLAIM;
        return record.len == HP_REPLAY_CLAIM_SIZE ? 0 : -1;

    case HP_REPLAY_ANSWER:
    case HP_REPLAY_NOT_KEPT:
    case HP_REPLAY_UNKNOWN:
        replay->kind = (hp_replay_kind_t)record.data[2];
        break;

    default:
        return -1;
    }

    if (record.len < HP_REPLAY_FIXED || get_number(p + 10, 2) != 0) {
        return -1;
    }

    replay->answered_us = (int64_t)get_number(p, 8);
    replay->status = (unsigned)get_number(p + 8, 2);
    replay->head.len = get_number(p + 12, 4);
    replay->body.len = get_number(p + 16, 4);
    replay->head.data = p + 20;

    if (replay->head.len + replay->body.len != record.len - HP_REPLAY_FIXED) {
        return -1;
    }

    replay->body.data = replay->head.data + replay->head.len;

    /* there is an answer, or nothing of one */
    return replay->kind == HP_REPLAY_ANSWER
               ? (replay->head.len != 0 && replay->status >= 100 &&
                          replay->status <= 999
                      ? 0
                      : -1)
               : (replay->head.len + replay->body.len == 0 ? 0 : -1);
}
