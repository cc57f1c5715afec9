/*
 * gone.c: what the stream does not hold any more, and nobody has stored.
 *
 * Messages are numbered without a gap, so one that was purged, or removed with
 * its stream, shows as soon as a later one comes. Where none comes, an idle
 * lane asks the broker once a second what the stream still holds: twice the
 * same answer, with nothing delivered in between, and whatever lies before is
 * gone; the position is moved past it, so that nobody waits for it for ever.
 * Where the stream is empty that is written down too, every few seconds.
 *
 * Runs on the lane's thread, between batches. Must never pass what may still be
 * delivered: a message on its way counts as held, because it is not acked.
 * Who reads it: schemas/README.md, "What is lost".
 */
#include "drain.h"

#include <stdio.h>
#include <string.h>

#include "log.h"

#define HPW_GONE_WRITE_MS 5000

uint64_t hpw_gone_whole(const hpw_batch_t *batch, uint64_t sequence,
                        uint64_t whole)
{
    uint64_t next = sequence + 1, at;
    int i;

    for (i = 0; i < batch->message_count; i++) {
        at = batch->messages[i].sequence;
        if (at > next)
            whole = at;
        if (at >= next)
            next = at + 1;
    }
    /* nor has anybody seen what was in one that could not be read */
    for (i = 0; i < batch->broken_count; i++) {
        at = batch->messages[batch->broken[i]].sequence;
        if (at >= whole)
            whole = at + 1;
    }
    return whole;
}

static uint64_t hpw_gone_number(const cJSON *state, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(state, name);

    return cJSON_IsNumber(item) && item->valuedouble > 0
               ? (uint64_t)item->valuedouble
               : 0;
}

/* What the source's stream holds. 1; 0: not to be had; -1: it is another
 * stream. */
static int hpw_gone_ask(hpw_lane_t *lane, hpw_gone_t *seen)
{
    const cJSON *created, *state;
    hpw_js_error_t error;
    char call[256];
    uint64_t first;
    cJSON *info;
    int rc = 0;

    snprintf(call, sizeof(call), "STREAM.INFO.%s", lane->source->pull->stream);
    seen->at_us = hpw_unix_us();
    info = hpw_js_call(lane->nats, call, NULL, &error);
    if (info == NULL)
        return 0;
    created = cJSON_GetObjectItemCaseSensitive(info, "created");
    state = cJSON_GetObjectItemCaseSensitive(info, "state");
    first = hpw_gone_number(state, "first_seq");
    seen->last = hpw_gone_number(state, "last_seq");
    seen->empty = hpw_gone_number(state, "messages") == 0;
    seen->before = seen->empty ? seen->last : first - 1;
    if (cJSON_IsString(created) && cJSON_IsObject(state) &&
        (seen->empty || first))
        rc = strcmp(created->valuestring, lane->source->pull->created) == 0
                 ? 1
                 : -1;
    cJSON_Delete(info);
    return rc;
}

int hpw_gone_look(hpw_lane_t *lane)
{
    hpw_gone_t seen = {0}, before = lane->source->gone;
    int64_t now_ms = hpw_monotonic_ms();
    uint64_t sequence = lane->source->sequence;
    int rc = hpw_gone_ask(lane, &seen);

    if (rc <= 0) {
        lane->source->gone.at_us = 0;
        return rc == 0 ? HPW_GONE_NOTHING : HPW_GONE_STREAM;
    }
    seen.written_ms = before.written_ms;
    lane->source->gone = seen;
    if (before.at_us == 0 || seen.last != before.last ||
        seen.before != before.before)
        return HPW_GONE_NOTHING;

    if (seen.before > sequence)
        sequence = seen.before;
    else if (!seen.empty || (before.written_ms &&
                             now_ms - before.written_ms < HPW_GONE_WRITE_MS))
        return HPW_GONE_NOTHING;
    /* empty since the look before this one, at the latest */
    if (hpw_store_passed(lane, sequence, seen.empty ? before.at_us : 0) != 0)
        return HPW_GONE_SESSION;
    lane->source->gone.written_ms = now_ms;
    if (sequence == lane->source->sequence)
        return HPW_GONE_NOTHING;

    hpw_log(HPW_LOG_ERROR, "messages are gone from the stream, not stored",
            hpw_i("partition", lane->partition),
            hpw_i("after", (int64_t)lane->source->sequence),
            hpw_i("up_to", (int64_t)sequence));
    lane->source->counters.passed += sequence - lane->source->sequence;
    lane->source->counters.sequence = sequence;
    lane->source->sequence = sequence;
    lane->source->whole = sequence + 1;
    return HPW_GONE_PASSED;
}
