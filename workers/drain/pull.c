/*
 * pull.c: messages of the streams, each in order, from the oldest not acked.
 *
 * Speaks JetStream's pull protocol over a plain subscription of the lane's:
 * one request of each stream stands at the broker at a time, so messages gather
 * here while the lane waits for PostgreSQL or takes those of another priority,
 * and never more than the requests allow. Every delivery must follow the last
 * one of its stream by consumer sequence; a hole (a reconnect, a dropped
 * message) means that something unacked would come out of order a minute later,
 * so the consumers are made anew instead.
 *
 * Runs on the lane's thread. Owns the subscription and the messages that are
 * kept until they are taken. Must never ack by itself.
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

static void hpw_pull_drop(hpw_pull_t *pull)
{
    int i;

    for (i = 0; i < pull->kept_count; i++)
        natsMsg_Destroy(
            pull->kept[(pull->kept_first + i) % pull->kept_size].msg);
    pull->kept_first = 0;
    pull->kept_count = 0;
    pull->remaining = 0;
    pull->behind = 0;
    pull->attached = 0;
}

void hpw_pull_detach(hpw_intake_t *intake)
{
    int i;

    natsSubscription_Destroy(intake->sub);
    intake->sub = NULL;
    intake->lost = 0;
    for (i = 0; i < HP_PRIORITIES; i++)
        hpw_pull_drop(&intake->pulls[i]);
}

void hpw_pull_free(hpw_intake_t *intake)
{
    int i;

    hpw_pull_detach(intake);
    for (i = 0; i < HP_PRIORITIES; i++) {
        free(intake->pulls[i].kept);
        intake->pulls[i].kept = NULL;
        intake->pulls[i].kept_size = 0;
    }
}

static int hpw_pull_fail(hpw_js_error_t *error, const char *text)
{
    error->code = -1;
    snprintf(error->text, sizeof(error->text), "%s", text);
    return -1;
}

/* Deletes the consumer and creates it from its definition. */
static int hpw_pull_consumer(hpw_nats_t *nats, hpw_pull_t *pull,
                             const cJSON *definition, hpw_js_error_t *error)
{
    const cJSON *config =
        cJSON_GetObjectItemCaseSensitive(definition, "consumer");
    const cJSON *name =
        cJSON_GetObjectItemCaseSensitive(config, "durable_name");
    char call[256], *body;
    cJSON *request, *reply;
    double behind;

    if (!cJSON_IsString(name))
        return hpw_pull_fail(error,
                             "streams/events.json: the consumer has no name");
    snprintf(pull->consumer, sizeof(pull->consumer), "%s", name->valuestring);

    snprintf(call, sizeof(call), "CONSUMER.DELETE.%s.%s", pull->stream,
             pull->consumer);
    cJSON_Delete(hpw_js_call(nats, call, NULL, error));
    if (error->code && error->code != HPW_JS_CONSUMER_UNKNOWN)
        return -1;

    request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "stream_name", pull->stream);
    cJSON_AddItemToObject(request, "config", cJSON_Duplicate(config, 1));
    body = cJSON_PrintUnformatted(request);
    cJSON_Delete(request);
    snprintf(call, sizeof(call), "CONSUMER.DURABLE.CREATE.%s.%s", pull->stream,
             pull->consumer);
    reply = hpw_js_call(nats, call, body, error);
    cJSON_free(body);
    behind = cJSON_GetNumberValue(
        cJSON_GetObjectItemCaseSensitive(reply, "num_pending"));
    pull->behind = behind > 0 ? (uint64_t)behind : 0;
    cJSON_Delete(reply);
    return error->code ? -1 : 0;
}

/* The subscription that all of them share. */
static int hpw_pull_open(hpw_intake_t *intake,
                         const hpw_drain_settings_t *settings,
                         hpw_js_error_t *error)
{
    natsInbox *inbox = NULL;
    char subject[160];
    natsStatus s;

    if (intake->sub)
        return 0;
    intake->reconnects = intake->nats->reconnects;
    s = natsInbox_Create(&inbox);
    if (s == NATS_OK) {
        snprintf(intake->inbox, sizeof(intake->inbox), "%s", inbox);
        natsInbox_Destroy(inbox);
        snprintf(subject, sizeof(subject), "%s.*", intake->inbox);
        s = natsConnection_SubscribeSync(&intake->sub, intake->nats->nc,
                                         subject);
    }
    /* the requests bound what can be waiting here; nats.c must drop none */
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(intake->sub, -1, -1);
    if (s != NATS_OK) {
        hpw_pull_detach(intake);
        return hpw_pull_fail(error, natsStatus_GetText(s));
    }
    /* one message must always fit, or the stream would stand still */
    intake->max_bytes = 2 * natsConnection_GetMaxPayload(intake->nats->nc);
    if (intake->max_bytes < settings->batch_bytes)
        intake->max_bytes = settings->batch_bytes;
    return 0;
}

int hpw_pull_attach(hpw_intake_t *intake, const hpw_drain_settings_t *settings,
                    int partition, unsigned priority, hpw_js_error_t *error)
{
    const hpw_common_t *common = &settings->common;
    hpw_pull_t *pull = &intake->pulls[priority];
    const cJSON *created, *last;
    cJSON *info, *definition;
    char call[256], path[4200];
    int rc;

    hpw_pull_drop(pull);
    hpw_stream_name(pull->stream, common, partition, priority);
    if (hpw_pull_open(intake, settings, error) != 0)
        return -1;
    snprintf(call, sizeof(call), "STREAM.INFO.%s", pull->stream);
    info = hpw_js_call(intake->nats, call, NULL, error);
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
        return hpw_pull_fail(error, "the stream has no creation time");

    snprintf(path, sizeof(path), "%s/streams/events.json", common->schemas_dir);
    definition = hpw_definition_read(common, path, partition, priority,
                                     error->text, sizeof(error->text));
    if (definition == NULL) {
        error->code = -1;
        return -1;
    }
    rc = hpw_pull_consumer(intake->nats, pull, definition, error);
    cJSON_Delete(definition);
    if (rc != 0)
        return -1;
    pull->delivered = 0;
    pull->attached = 1;
    return 0;
}

void hpw_pull_ask(hpw_intake_t *intake, hpw_pull_t *pull, int wanted)
{
    char subject[256], reply[160], body[128];

    if (!pull->attached ||
        (pull->remaining > 0 && hpw_monotonic_ms() < pull->request_until_ms))
        return;
    if (wanted < 1)
        wanted = 1;
    if (wanted > HPW_PULL_MESSAGES_MAX)
        wanted = HPW_PULL_MESSAGES_MAX;
    pull->request = ++intake->request;
    snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.MSG.NEXT.%s.%s",
             pull->stream, pull->consumer);
    snprintf(reply, sizeof(reply), "%s.%llu", intake->inbox,
             (unsigned long long)pull->request);
    snprintf(body, sizeof(body),
             "{\"batch\":%d,\"max_bytes\":%lld,\"expires\":%lld}", wanted,
             (long long)intake->max_bytes, HPW_PULL_EXPIRES_MS * 1000000LL);
    natsConnection_PublishRequestString(intake->nats->nc, subject, reply, body);
    pull->remaining = wanted;
    pull->request_until_ms =
        hpw_monotonic_ms() + HPW_PULL_EXPIRES_MS + HPW_PULL_SLACK_MS;
}

int hpw_pull_has(const hpw_pull_t *pull)
{
    return pull->kept_count > 0 || (pull->attached && pull->behind > 0);
}

/* A message without a body and with a status is the broker's word on a
 * request. 1: it was one; 0: it is an event; -1: attach again. */
static int hpw_pull_status(hpw_intake_t *intake, natsMsg *msg)
{
    const char *status = NULL, *text = NULL, *dot;
    hpw_pull_t *pull = NULL;
    uint64_t number;
    int i;

    if (natsMsg_GetDataLength(msg) > 0 ||
        natsMsgHeader_Get(msg, "Status", &status) != NATS_OK)
        return 0;
    natsMsgHeader_Get(msg, "Description", &text);
    dot = strrchr(natsMsg_GetSubject(msg), '.');
    number = dot ? strtoull(dot + 1, NULL, 10) : 0;
    for (i = 0; i < HP_PRIORITIES; i++) {
        if (intake->pulls[i].attached && intake->pulls[i].request == number)
            pull = &intake->pulls[i];
    }
    if (pull == NULL)
        return 1; /* of a request given up before */
    if (strcmp(status, "100") == 0)
        return 1;
    pull->remaining = 0;
    if (strcmp(status, "404") == 0 || strcmp(status, "408") == 0)
        return 1;
    if (strcmp(status, "409") == 0 && text &&
        (strncasecmp(text, "Message Size Exceeds", 20) == 0 ||
         strcasecmp(text, "Batch Completed") == 0))
        return 1;
    hpw_log(HPW_LOG_WARN, "pull request refused", hpw_s("stream", pull->stream),
            hpw_s("status", status), hpw_s("error", text));
    return -1;
}

/* Whose consumer delivered it: the reply names stream and consumer. */
static hpw_pull_t *hpw_pull_whose(hpw_intake_t *intake, const char *reply)
{
    char name[sizeof(intake->pulls[0].stream) +
              sizeof(intake->pulls[0].consumer) + 4];
    hpw_pull_t *pull;
    int i;

    for (i = 0; reply && i < HP_PRIORITIES; i++) {
        pull = &intake->pulls[i];
        snprintf(name, sizeof(name), ".%s.%s.", pull->stream, pull->consumer);
        if (pull->attached && strstr(reply, name))
            return pull;
    }
    return NULL;
}

static void hpw_pull_keep(hpw_pull_t *pull, const hpw_message_t *message)
{
    hpw_message_t *kept;
    int i;

    if (pull->kept_count == pull->kept_size) {
        kept = hpw_alloc(pull->kept_size ? 2 * (size_t)pull->kept_size : 256,
                         sizeof(*kept));
        for (i = 0; i < pull->kept_count; i++)
            kept[i] = pull->kept[(pull->kept_first + i) % pull->kept_size];
        free(pull->kept);
        pull->kept = kept;
        pull->kept_first = 0;
        pull->kept_size = pull->kept_size ? 2 * pull->kept_size : 256;
    }
    pull->kept[(pull->kept_first + pull->kept_count++) % pull->kept_size] =
        *message;
}

/* 1: a message came and is kept; 2: the broker said something of a request; 0:
 * nothing within timeout_ms; -1: lost. */
static int hpw_pull_receive(hpw_intake_t *intake, int timeout_ms)
{
    hpw_message_t message = {0};
    const char *reply;
    hpw_pull_t *pull;
    uint64_t delivered = 0;
    natsStatus s;
    int rc;

    s = natsSubscription_NextMsg(&message.msg, intake->sub,
                                 timeout_ms > 0 ? timeout_ms : 1);
    if (s == NATS_TIMEOUT)
        return 0;
    if (s != NATS_OK) {
        hpw_log(HPW_LOG_WARN, "pull failed",
                hpw_s("stream", intake->pulls[0].stream),
                hpw_s("error", natsStatus_GetText(s)));
        intake->lost = 1;
        return -1;
    }
    rc = hpw_pull_status(intake, message.msg);
    if (rc != 0) {
        natsMsg_Destroy(message.msg);
        intake->lost |= rc < 0;
        return rc < 0 ? -1 : 2;
    }

    reply = natsMsg_GetReply(message.msg);
    pull = hpw_pull_whose(intake, reply);
    if (pull == NULL ||
        hpw_pull_metadata(reply, &message.sequence, &delivered,
                          &message.pending) != 0 ||
        delivered != pull->delivered + 1) {
        hpw_log(HPW_LOG_WARN, "a delivery is missing, beginning anew",
                hpw_s("reply", reply),
                hpw_i("expected", pull ? (int64_t)pull->delivered + 1 : 0));
        natsMsg_Destroy(message.msg);
        intake->lost = 1;
        return -1;
    }
    pull->delivered = delivered;
    pull->behind = message.pending;
    if (pull->remaining > 0)
        pull->remaining--;
    hpw_pull_keep(pull, &message);
    return 1;
}

static int hpw_pull_is_lost(const hpw_intake_t *intake)
{
    return intake->sub == NULL || intake->lost ||
           intake->nats->reconnects != intake->reconnects;
}

int hpw_pull_gather(hpw_intake_t *intake)
{
    int messages, bytes, rc = 0;

    while (rc >= 0 && !hpw_pull_is_lost(intake) &&
           natsSubscription_GetPending(intake->sub, &messages, &bytes) ==
               NATS_OK &&
           messages > 0)
        rc = hpw_pull_receive(intake, 1);
    return hpw_pull_is_lost(intake) ? -1 : 0;
}

int hpw_pull_wait(hpw_intake_t *intake, int timeout_ms)
{
    int rc;

    if (hpw_pull_is_lost(intake))
        return -1;
    rc = hpw_pull_receive(intake, timeout_ms);
    return rc == 2 ? 0 : rc;
}

int hpw_pull_next(hpw_intake_t *intake, hpw_pull_t *pull, int wanted,
                  int timeout_ms, hpw_message_t *message)
{
    int64_t until = hpw_monotonic_ms() + timeout_ms;
    int rc;

    for (;;) {
        if (hpw_pull_is_lost(intake))
            return -1;
        if (pull->kept_count > 0)
            break;
        hpw_pull_ask(intake, pull, wanted);
        rc = hpw_pull_receive(intake, (int)(until - hpw_monotonic_ms()));
        if (rc <= 0)
            return rc;
        if (rc == 2 && pull->remaining == 0)
            until = 0; /* see what else is here, then let the caller look */
        else if (pull->kept_count == 0 && hpw_monotonic_ms() > until)
            return 0;
    }
    *message = pull->kept[pull->kept_first];
    pull->kept_first = (pull->kept_first + 1) % pull->kept_size;
    pull->kept_count--;
    return 1;
}

void hpw_pull_ack(hpw_intake_t *intake, const hpw_message_t *message)
{
    natsConnection_PublishString(intake->nats->nc,
                                 natsMsg_GetReply(message->msg), "+ACK");
}
