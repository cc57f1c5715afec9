/*
 * dead.c: what cannot be stored goes to the dead-letter stream, whole.
 *
 * A dead event becomes one JSON message on <subject_prefix>.dead.<partition>
 * with its reason and everything it consisted of; texts that are not UTF-8 are
 * given in base64 under <name>_base64, and so is a payload so large that it
 * takes several messages ("part" of "parts"). A message that is no event group
 * is given in base64 as it came. Each is published with a message id, so that
 * a retry soon after is recognised, and waited for.
 *
 * Runs on the lane's thread, inside the transaction that calls the event dead.
 * Must never lose a byte of what was accepted. Format: schemas/README.md.
 */
#include "drain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "hp_id.h"
#include "log.h"

/* Room that everything but the payload may take in one message. */
#define HPW_DEAD_RESERVE 16384
#define HPW_DEAD_PIECE_LEAST 4096

static void hpw_dead_base64(cJSON *root, const char *name, hp_str_t bytes)
{
    char label[64];
    unsigned char *text = hpw_alloc(1, bytes.len / 3 * 4 + 5);

    EVP_EncodeBlock(text, bytes.data, (int)bytes.len);
    snprintf(label, sizeof(label), "%s_base64", name);
    cJSON_AddStringToObject(root, label, (char *)text);
    free(text);
}

static void hpw_dead_text(cJSON *root, const char *name, hp_str_t bytes)
{
    char *text;

    if (!hpw_utf8_valid(bytes)) {
        hpw_dead_base64(root, name, bytes);
        return;
    }
    text = hpw_alloc(1, bytes.len + 1);
    if (bytes.len)
        memcpy(text, bytes.data, bytes.len);
    cJSON_AddStringToObject(root, name, text);
    free(text);
}

static cJSON *hpw_dead_begin(const char *code, const char *reason,
                             int partition, const char *stream,
                             uint64_t sequence, int part, int parts)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "code", code);
    cJSON_AddStringToObject(root, "reason", reason);
    cJSON_AddNumberToObject(root, "partition", partition);
    cJSON_AddStringToObject(root, "stream", stream);
    cJSON_AddNumberToObject(root, "sequence", (double)sequence);
    if (parts > 1) {
        cJSON_AddNumberToObject(root, "part", part);
        cJSON_AddNumberToObject(root, "parts", parts);
    }
    return root;
}

char *hpw_dead_json(const hpw_item_t *item, int partition, const char *stream,
                    int part, int parts, hp_str_t piece)
{
    const hp_event_t *event = &item->event;
    char operation[HP_UUID_TEXT + 1] = "",
                                  fingerprint[2 * HP_FINGERPRINT_SIZE + 1] = "",
                                  accepted[24], *text;
    cJSON *root = hpw_dead_begin(item->code, item->reason, partition, stream,
                                 item->sequence, part, parts);

    hp_uuid_format(operation, event->operation_id);
    hp_hex(fingerprint, event->fingerprint, HP_FINGERPRINT_SIZE);
    snprintf(accepted, sizeof(accepted), "%lld", (long long)event->accepted_us);
    cJSON_AddStringToObject(root, "operation", operation);
    cJSON_AddStringToObject(root, "fingerprint", fingerprint);
    /* raw: a double would round it */
    cJSON_AddRawToObject(root, "accepted_us", accepted);
    hpw_dead_text(root, "tenant", event->tenant);
    hpw_dead_text(root, "route", event->route);
    hpw_dead_text(root, "key", event->key);
    hpw_dead_text(root, "type", event->type);
    hpw_dead_text(root, "traceparent", event->traceparent);
    if (event->attributes.len) {
        hpw_dead_text(root, "attributes", event->attributes);
        cJSON_AddNumberToObject(root, "data", event->data);
    }
    if (parts > 1)
        hpw_dead_base64(root, "payload", piece);
    else
        hpw_dead_text(root, "payload", piece);
    text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}

/* Largest JSON that fits one message. */
static size_t hpw_dead_limit(const hpw_lane_t *lane)
{
    int64_t limit =
        natsConnection_GetMaxPayload(lane->nats->nc) - HPW_DEAD_RESERVE;

    return limit < 2 * HPW_DEAD_PIECE_LEAST ? 2 * HPW_DEAD_PIECE_LEAST
                                            : (size_t)limit;
}

/* Publishes json and frees it. */
static int hpw_dead_publish(hpw_lane_t *lane, char *json, const char *id)
{
    const hpw_common_t *common = &lane->settings->common;
    hpw_js_error_t error;
    char subject[128];
    int rc;

    snprintf(subject, sizeof(subject), "%s.dead.%d", common->subject_prefix,
             lane->partition);
    rc = json ? hpw_js_publish(lane->nats, subject, common->dead_stream, id,
                               json, strlen(json), &error)
              : -1;
    if (rc != 0)
        hpw_log(HPW_LOG_ERROR, "dead letter not published",
                hpw_i("partition", lane->partition), hpw_s("id", id),
                hpw_s("error", json ? error.text : "out of memory"));
    cJSON_free(json);
    return rc;
}

/* Splits bytes so that each piece fits in base64; the whole is one part where
 * it fits as it is. */
static int hpw_dead_parts(size_t len, size_t *piece, size_t limit)
{
    *piece = limit / 4 * 3;
    return (int)((len + *piece - 1) / *piece);
}

int hpw_dead_event(hpw_lane_t *lane, const hpw_item_t *item)
{
    hp_str_t payload = item->event.payload, piece;
    char operation[HP_UUID_TEXT + 1] = "", prefix[17] = "", id[80];
    char *json;
    size_t step, limit = hpw_dead_limit(lane);
    int part, parts;

    hp_uuid_format(operation, item->event.operation_id);
    hp_hex(prefix, item->event.fingerprint, 8);
    hpw_log(HPW_LOG_WARN, "event is dead", hpw_i("partition", lane->partition),
            hpw_s("operation", operation), hpw_s("code", item->code),
            hpw_s("reason", item->reason));

    json = hpw_dead_json(item, lane->partition, lane->source->pull->stream, 1,
                         1, payload);
    if (json && strlen(json) <= limit) {
        snprintf(id, sizeof(id), "%s-%s", operation, prefix);
        return hpw_dead_publish(lane, json, id);
    }
    cJSON_free(json);
    parts = hpw_dead_parts(payload.len, &step, limit);
    if (parts < 2) { /* short, but long once escaped */
        step = payload.len / 2 + 1;
        parts = 2;
    }
    for (part = 1; part <= parts; part++) {
        piece.data = payload.data + (size_t)(part - 1) * step;
        piece.len =
            part < parts ? step : payload.len - step * (size_t)(part - 1);
        json = hpw_dead_json(item, lane->partition, lane->source->pull->stream,
                             part, parts, piece);
        snprintf(id, sizeof(id), "%s-%s-%d", operation, prefix, part);
        if (hpw_dead_publish(lane, json, id) != 0)
            return -1;
    }
    return 0;
}

int hpw_dead_frame(hpw_lane_t *lane, const hpw_message_t *message)
{
    hp_str_t frame = {(const unsigned char *)natsMsg_GetData(message->msg),
                      (size_t)natsMsg_GetDataLength(message->msg)},
             piece;
    char id[160];
    cJSON *root;
    size_t step;
    int part, parts = hpw_dead_parts(frame.len, &step, hpw_dead_limit(lane));

    hpw_log(HPW_LOG_WARN, "message is no event group",
            hpw_i("partition", lane->partition),
            hpw_i("sequence", (int64_t)message->sequence));
    if (parts < 1)
        parts = 1;
    for (part = 1; part <= parts; part++) {
        piece.data = frame.data + (size_t)(part - 1) * step;
        piece.len = part < parts ? step : frame.len - step * (size_t)(part - 1);
        root = hpw_dead_begin("frame_invalid",
                              "the message does not follow framing.md",
                              lane->partition, lane->source->pull->stream,
                              message->sequence, part, parts);
        hpw_dead_base64(root, "message", piece);
        snprintf(id, sizeof(id), "%s-%llu-%d", lane->source->pull->created,
                 (unsigned long long)message->sequence, part);
        if (hpw_dead_publish(lane, cJSON_PrintUnformatted(root), id) != 0) {
            cJSON_Delete(root);
            return -1;
        }
        cJSON_Delete(root);
    }
    return 0;
}
