/*
 * fuzz_replay.c: any bytes as what Redis has of an idempotency key.
 *
 * What is accepted must lie inside the record, and must be the very same bytes
 * when it is written again from what was understood, so that nothing was passed
 * over. Built and run by tests/fuzz/Makefile; seeds: seeds.py.
 */
#include <stdlib.h>
#include <string.h>

#include "hp_replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int good)
{
    if (!good) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *again;
    hp_replay_t replay;
    hp_str_t record;

    record.data = data;
    record.len = size;

    if (hp_replay_read(&replay, record) != 0) {
        return 0;
    }

    check(replay.fingerprint == data + 4);
    again = malloc(size);
    check(again != NULL);

    if (replay.kind == HP_REPLAY_CLAIM) {
        check(size == HP_REPLAY_CLAIM_SIZE);
        hp_replay_claim(again, replay.fingerprint,
                        data + 4 + HP_FINGERPRINT_SIZE);
    } else {
        check(replay.head.len + replay.body.len == size - HP_REPLAY_FIXED);
        check(hp_replay_write(again, &replay) == again + size);
    }

    check(memcmp(again, data, size) == 0);
    free(again);
    return 0;
}
