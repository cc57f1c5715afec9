/*
 * pull.c: messages of one stream, in order, from the oldest not acked.
 *
 * Speaks JetStream's pull protocol over a plain subscription of the lane's:
 * one request stands at the broker at a time, so messages gather here while
 * the lane waits for PostgreSQL, and never more than the request allows. Every
 * delivery must follow the last one by consumer sequence; a hole (a reconnect,
 * a dropped message) means that something unacked would come out of order a
 * minute later, so the consumer is made anew instead.
 *
 * Runs on the lane's thread. Owns the subscription. Must never ack by itself.
 * The consumer's definition is schemas/streams/events.json.
 */
#include "drain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define HPW_PULL_EXPIRES_MS 5000
#define HPW_PULL_SLACK_MS 2000
#define HPW_PULL_MESSAGES_MAX 8192

int hpw_pull_metadata(const char *reply, uint64_t *sequence,
                      uint64_t *delivered, uint64_t *pending)
{
    /* $JS.ACK.<stream>.<consumer>.<times>.<stream seq>.<consumer seq>.<time>
     * .<pending>, since 2.2 possibly with domain and account before stream and
     * more after pending */
    const char *token[12];
    size_t count = 0, shift;

    if (strncmp(reply, "$JS.ACK.", 8) != 0)
        return -1;
    while (reply && count < 12) {
        token[count++] = reply;
        reply = strchr(reply, '.');
        if (reply)
            reply++;
    }
    if (count == 9)
        shift = 0;
    else if (count >= 11)
        shift = 2;
    else
        return -1;
    *sequence = strtoull(token[5 + shift], NULL, 10);
    *delivered = strtoull(token[6 + shift], NULL, 10);
    *pending = strtoull(token[8 + shift], NULL, 10);
    return *sequence && *delivered ? 0 : -1;
}

void hpw_pull_detach(hpw_pull_t *pull)
{
    natsSubscription_Destroy(pull->sub);
    pull->sub = NULL;
    pull->remaining = 0;
    pull->lost = 0;
}

static int hpw_pull_fail(hpw_pull_t *pull, hpw_js_error_t *error,
                         const char *text)
{
    error->code = -1;
    snprintf(error->text, sizeof(error->text), "%s", text);
    hpw_pull_detach(pull);
    return -1;
}

/* Deletes the consumer and creates it from its definition. */
static int hpw_pull_consumer(hpw_pull_t *pull, const cJSON *definition,
                             hpw_js_error_t *error)
{
    const cJSON *config =
        cJSON_GetObjectItemCaseSensitive(definition, "consumer");
    const cJSON *name =
        cJSON_GetObjectItemCaseSensitive(config, "durable_name");
    char call[256], *body;
    cJSON *request, *reply;

    if (!cJSON_IsString(name))
        return hpw_pull_fail(pull, error,
                             "streams/events.json: the consumer has no name");
    snprintf(pull->consumer, sizeof(pull->consumer), "%s", name->valuestring);

    snprintf(call, sizeof(call), "CONSUMER.DELETE.%s.%s", pull->stream,
             pull->consumer);
    cJSON_Delete(hpw_js_call(pull->nats, call, NULL, error));
    if (error->code && error->code != HPW_JS_CONSUMER_UNKNOWN)
        return -1;

    request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "stream_name", pull->stream);
    cJSON_AddItemToObject(request, "config", cJSON_Duplicate(config, 1));
    body = cJSON_PrintUnformatted(request);
    cJSON_Delete(request);
    snprintf(call, sizeof(call), "CONSUMER.DURABLE.CREATE.%s.%s", pull->stream,
             pull->consumer);
    reply = hpw_js_call(pull->nats, call, body, error);
    cJSON_free(body);
    cJSON_Delete(reply);
    return error->code ? -1 : 0;
}

int hpw_pull_attach(hpw_pull_t *pull, const hpw_drain_settings_t *settings,
                    int partition, hpw_js_error_t *error)
{
    const hpw_common_t *common = &settings->common;
    const cJSON *created, *last;
    cJSON *info, *definition;
    char call[256], path[4200];
    natsInbox *inbox = NULL;
    natsStatus s;
    int rc;

    hpw_pull_detach(pull);
    pull->reconnects = pull->nats->reconnects;
    snprintf(pull->stream, sizeof(pull->stream), "%s_%d", common->stream_prefix,
             partition);
    snprintf(call, sizeof(call), "STREAM.INFO.%s", pull->stream);
    info = hpw_js_call(pull->nats, call, NULL, error);
    if (info == NULL)
        return -1;
    created = cJSON_GetObjectItemCaseSensitive(info, "created");
    snprintf(pull->created, sizeof(pull->created), "%s",
             cJSON_IsString(created) ? created->valuestring : "");
    last = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(info, "state"), "last_seq");
    pull->last = cJSON_IsNumber(last) ? (uint64_t)last->valuedouble : 0;
    cJSON_Delete(info);
    if (pull->created[0] == 0)
        return hpw_pull_fail(pull, error, "the stream has no creation time");

    snprintf(path, sizeof(path), "%s/streams/events.json", common->schemas_dir);
    definition = hpw_definition_read(common, path, partition, error->text,
                                     sizeof(error->text));
    if (definition == NULL) {
        error->code = -1;
        return -1;
    }
    rc = hpw_pull_consumer(pull, definition, error);
    cJSON_Delete(definition);
    if (rc != 0)
        return -1;

    s = natsInbox_Create(&inbox);
    if (s == NATS_OK) {
        snprintf(pull->inbox, sizeof(pull->inbox), "%s", inbox);
        natsInbox_Destroy(inbox);
        snprintf(call, sizeof(call), "%s.*", pull->inbox);
        s = natsConnection_SubscribeSync(&pull->sub, pull->nats->nc, call);
    }
    /* the requests bound what can be waiting here; nats.c must drop none */
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(pull->sub, -1, -1);
    if (s != NATS_OK)
        return hpw_pull_fail(pull, error, natsStatus_GetText(s));

    pull->delivered = 0;
    /* one message must always fit, or the stream would stand still */
    pull->max_bytes = 2 * natsConnection_GetMaxPayload(pull->nats->nc);
    if (pull->max_bytes < settings->batch_bytes)
        pull->max_bytes = settings->batch_bytes;
    return 0;
}

void hpw_pull_ask(hpw_pull_t *pull, int wanted)
{
    char subject[256], reply[160], body[128];

    if (pull->remaining > 0 && hpw_monotonic_ms() < pull->request_until_ms)
        return;
    if (wanted < 1)
        wanted = 1;
    if (wanted > HPW_PULL_MESSAGES_MAX)
        wanted = HPW_PULL_MESSAGES_MAX;
    snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.MSG.NEXT.%s.%s",
             pull->stream, pull->consumer);
    snprintf(reply, sizeof(reply), "%s.%llu", pull->inbox,
             (unsigned long long)++pull->request);
    snprintf(body, sizeof(body),
             "{\"batch\":%d,\"max_bytes\":%lld,\"expires\":%lld}", wanted,
             (long long)pull->max_bytes, HPW_PULL_EXPIRES_MS * 1000000LL);
    natsConnection_PublishRequestString(pull->nats->nc, subject, reply, body);
    pull->remaining = wanted;
    pull->request_until_ms =
        hpw_monotonic_ms() + HPW_PULL_EXPIRES_MS + HPW_PULL_SLACK_MS;
}

/* A message without a body and with a status is the broker's word on a
 * request. 1: it was one; 0: it is an event; -1: attach again. */
static int hpw_pull_status(hpw_pull_t *pull, natsMsg *msg)
{
    const char *status = NULL, *text = NULL, *dot;

    if (natsMsg_GetDataLength(msg) > 0 ||
        natsMsgHeader_Get(msg, "Status", &status) != NATS_OK)
        return 0;
    natsMsgHeader_Get(msg, "Description", &text);
    dot = strrchr(natsMsg_GetSubject(msg), '.');
    if (dot == NULL || strtoull(dot + 1, NULL, 10) != pull->request)
        return 1; /* of a request given up before */
    if (strcmp(status, "100") == 0)
        return 1;
    pull->remaining = 0;
    if (strcmp(status, "404") == 0 || strcmp(status, "408") == 0)
        return 1;
    if (strcmp(status, "409") == 0 && text &&
        strncasecmp(text, "Message Size Exceeds", 20) == 0)
        return 1;
    hpw_log(HPW_LOG_WARN, "pull request refused", hpw_s("stream", pull->stream),
            hpw_s("status", status), hpw_s("error", text));
    return -1;
}

int hpw_pull_next(hpw_pull_t *pull, int wanted, int timeout_ms,
                  hpw_message_t *message)
{
    uint64_t delivered;
    natsMsg *msg = NULL;
    const char *reply;
    natsStatus s;
    int rc;

    for (;;) {
        if (pull->lost || pull->nats->reconnects != pull->reconnects)
            return -1;
        hpw_pull_ask(pull, wanted);
        s = natsSubscription_NextMsg(&msg, pull->sub,
                                     timeout_ms > 0 ? timeout_ms : 1);
        if (s == NATS_TIMEOUT)
            return 0;
        if (s != NATS_OK) {
            hpw_log(HPW_LOG_WARN, "pull failed", hpw_s("stream", pull->stream),
                    hpw_s("error", natsStatus_GetText(s)));
            pull->lost = 1;
            return -1;
        }
        rc = hpw_pull_status(pull, msg);
        if (rc == 0)
            break;
        natsMsg_Destroy(msg);
        if (rc < 0) {
            pull->lost = 1;
            return -1;
        }
        timeout_ms = 1; /* see what else is here, then let the caller look */
    }

    reply = natsMsg_GetReply(msg);
    message->msg = msg;
    if (reply == NULL ||
        hpw_pull_metadata(reply, &message->sequence, &delivered,
                          &message->pending) != 0 ||
        delivered != pull->delivered + 1) {
        hpw_log(HPW_LOG_WARN, "a delivery is missing, beginning anew",
                hpw_s("stream", pull->stream), hpw_s("reply", reply),
                hpw_i("expected", (int64_t)pull->delivered + 1));
        natsMsg_Destroy(msg);
        pull->lost = 1;
        return -1;
    }
    pull->delivered = delivered;
    if (pull->remaining > 0)
        pull->remaining--;
    return 1;
}

void hpw_pull_ack(hpw_pull_t *pull, const hpw_message_t *message)
{
    natsConnection_PublishString(pull->nats->nc, natsMsg_GetReply(message->msg),
                                 "+ACK");
}
