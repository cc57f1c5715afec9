/*
 * notice.c: tells every nginx and projector how far a stream is committed.
 *
 * Core NATS, so nobody is waited for and a lost notice is repaired by the next
 * one, at most a second later. Operations that ended otherwise than processed
 * are named once, as many as fit; "whole" says from where on all of them were
 * named: who missed a notice, or asks for what lies before, asks PostgreSQL.
 *
 * Runs on the lane's thread, after the commit and the acks. Must never be sent
 * before the commit. Format: schemas/framing.md, "Commit notice".
 */
#include "drain.h"

#include <stdio.h>
#include <string.h>

#include "hp_id.h"

int hpw_notice_end(hpw_notice_t *notice, const hpw_item_t *item)
{
    hpw_ended_t *ended;

    if (notice->ended_count == HPW_NOTICE_ENDED)
        return -1;
    ended = &notice->ended[notice->ended_count++];
    memcpy(ended->operation_id, item->event.operation_id, HP_UUID_SIZE);
    memcpy(ended->code, item->code, sizeof(ended->code));
    ended->dead = item->fate == HPW_FATE_DEAD;
    return 0;
}

void hpw_notice_build(hpw_notice_t *notice, int partition, unsigned priority,
                      const char *created, uint64_t whole, uint64_t sequence,
                      int64_t position)
{
    char operation[HP_UUID_TEXT + 1] = "", named[32] = "";
    const hpw_ended_t *ended;
    int i;

    if (priority != HP_PRIORITY_NORMAL)
        snprintf(named, sizeof(named), "\"priority\":\"%s\",",
                 hp_priority_name(priority));
    notice->text.len = 0;
    hpw_buf_printf(
        &notice->text,
        "{\"partition\":%d,%s\"created\":\"%s\",\"whole\":%llu,"
        "\"after\":%llu,\"sequence\":%llu,\"position\":%lld,\"ended\":[",
        partition, named, created, (unsigned long long)whole,
        (unsigned long long)notice->after, (unsigned long long)sequence,
        (long long)position);
    for (i = 0; i < notice->ended_count; i++) {
        ended = &notice->ended[i];
        hp_uuid_format(operation, ended->operation_id);
        hpw_buf_printf(
            &notice->text,
            "%s{\"operation\":\"%s\",\"state\":\"%s\",\"code\":\"%s\"}",
            i ? "," : "", operation, ended->dead ? "dead" : "conflict",
            ended->dead ? ended->code : "payload_mismatch");
    }
    hpw_buf_printf(&notice->text, "]}");
}

void hpw_notice_publish(hpw_lane_t *lane)
{
    const hpw_source_t *source = lane->source;
    hpw_notice_t *notice = &lane->source->notice;
    char subject[128];

    hpw_notice_build(notice, lane->partition, source->priority,
                     source->pull->created, source->whole, source->sequence,
                     lane->position);
    snprintf(subject, sizeof(subject), "%s.committed.%d",
             lane->settings->common.subject_prefix, lane->partition);
    natsConnection_Publish(lane->nats->nc, subject, notice->text.data,
                           (int)notice->text.len);
    notice->ended_count = 0;
    notice->after = source->sequence;
    notice->sent_ms = hpw_monotonic_ms();
}
