/*
 * push.c: documents go to every nginx, over core NATS.
 *
 * Messages of one lane are numbered without gaps within the lane's epoch; a
 * listener that sees a gap stops trusting what it has, so a document that
 * cannot be sent (too large for a message) takes a number and sends nothing,
 * which is the truth. Heartbeats carry the last number when all is quiet.
 *
 * Runs on the lane's thread, after the commit and after Redis: an nginx that
 * misses right after the push then finds the new version there. Nobody is
 * waited for. Format: schemas/framing.md, "Document push".
 */
#include "project.h"

#include <stdio.h>
#include <string.h>

#include "log.h"

#define HPW_PUSH_BYTES (512 * 1024)
#define HPW_PUSH_ROOM 1024 /* of max_payload, left to the protocol */

/* Sends lane->frame with count documents in it. */
static void hpw_push_send(hpw_lane_t *lane, uint32_t count)
{
    char subject[192];
    natsStatus s;
    hp_push_t push = {.partition = (uint16_t)lane->partition,
                      .epoch_us = lane->epoch_us,
                      .sequence = lane->sequence,
                      .count = count};

    hp_push_header(lane->frame.data, &push);
    snprintf(subject, sizeof(subject), "%s.push.%s",
             lane->settings->common.subject_prefix, lane->model->name);
    s = natsConnection_Publish(lane->nats->nc, subject, lane->frame.data,
                               (int)lane->frame.len);
    if (s == NATS_OK) {
        lane->counters.frames++;
    } else {
        lane->counters.frames_failed++;
        hpw_log(HPW_LOG_WARN, "push not published",
                hpw_s("model", lane->model->name),
                hpw_i("partition", lane->partition),
                hpw_s("error", natsStatus_GetText(s)));
    }
    lane->beaten_ms = hpw_monotonic_ms();
}

static void hpw_push_begin(hpw_lane_t *lane)
{
    lane->frame.len = 0;
    hpw_buf_extend(&lane->frame, HP_PUSH_HEADER);
}

void hpw_push_documents(hpw_lane_t *lane, const hpw_documents_t *documents)
{
    int64_t payload = natsConnection_GetMaxPayload(lane->nats->nc);
    size_t size, most = HPW_PUSH_BYTES;
    uint32_t count = 0;
    hp_doc_t doc;
    int i;

    if (payload > 2 * HPW_PUSH_ROOM && (size_t)payload - HPW_PUSH_ROOM < most)
        most = (size_t)payload - HPW_PUSH_ROOM;
    hpw_push_begin(lane);
    for (i = 0; i < PQntuples(documents->rows); i++) {
        if (hpw_document_row(documents, i, &doc) != 0) {
            lane->counters.documents_refused++;
            hpw_log(HPW_LOG_ERROR, "document cannot be handed out",
                    hpw_s("model", lane->model->name),
                    hpw_i("partition", lane->partition));
            continue;
        }
        size = hp_doc_size(&doc);
        if (count &&
            (lane->frame.len + size > most || count == HP_EVENT_COUNT_MAX)) {
            lane->sequence++;
            hpw_push_send(lane, count);
            hpw_push_begin(lane);
            count = 0;
        }
        if (HP_PUSH_HEADER + size > most) {
            lane->sequence++;
            lane->counters.frames_failed++;
            hpw_log(HPW_LOG_WARN, "document too large to push",
                    hpw_s("model", lane->model->name),
                    hpw_i("bytes", (int64_t)size));
            continue;
        }
        hp_doc_write(hpw_buf_extend(&lane->frame, size), &doc);
        count++;
    }
    if (count) {
        lane->sequence++;
        hpw_push_send(lane, count);
    }
}

void hpw_push_heartbeat(hpw_lane_t *lane)
{
    if (hpw_monotonic_ms() - lane->beaten_ms < lane->settings->heartbeat_ms)
        return;
    hpw_push_begin(lane);
    hpw_push_send(lane, 0);
}
