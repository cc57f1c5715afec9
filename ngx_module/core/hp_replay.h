/*
 * hp_replay.h: what instances tell one another of an idempotency key.
 *
 * One record in Redis for each key that an upstream is guarded by: that a
 * request is under way, or what became of it. Byte by byte in
 * schemas/framing.md. No allocation; a reader trusts nothing.
 */
#ifndef HP_REPLAY_H
#define HP_REPLAY_H

#include "hp_base.h"

#define HP_REPLAY_TOKEN_SIZE 16
#define HP_REPLAY_CLAIM_SIZE (4 + HP_FINGERPRINT_SIZE + HP_REPLAY_TOKEN_SIZE)
#define HP_REPLAY_FIXED (4 + HP_FINGERPRINT_SIZE + 20)
#define HP_REPLAY_PART_MAX 0x7fffffff

typedef enum {
    HP_REPLAY_CLAIM = 'C',    /* a request is under way */
    HP_REPLAY_ANSWER = 'A',   /* it was answered, and this is the answer */
    HP_REPLAY_NOT_KEPT = 'N', /* it was answered, the answer is not kept */
    HP_REPLAY_UNKNOWN = 'U'   /* it was sent, and no answer came */
} hp_replay_kind_t;

typedef struct {
    hp_replay_kind_t kind;
    const unsigned char *fingerprint; /* HP_FINGERPRINT_SIZE bytes */

    /* not of a claim */
    int64_t answered_us; /* since 1970 */
    unsigned status;     /* of HTTP; 0: none */
    hp_str_t head;       /* as the module keeps it; empty without an answer */
    hp_str_t body;
} hp_replay_t;

/* A claim: whoever holds it alone knows the token. */
void hp_replay_claim(unsigned char dst[HP_REPLAY_CLAIM_SIZE],
                     const unsigned char fingerprint[HP_FINGERPRINT_SIZE],
                     const unsigned char token[HP_REPLAY_TOKEN_SIZE]);

/* Any other record; head and body have up to HP_REPLAY_PART_MAX bytes, and dst
 * holds HP_REPLAY_FIXED and both. Returns its end. */
unsigned char *hp_replay_write(unsigned char *dst, const hp_replay_t *replay);

/* 0 with *replay pointing into the record, or -1. */
int hp_replay_read(hp_replay_t *replay, hp_str_t record);

#endif
