/*
 * stream.c: the connection to NATS, and JetStream's API as JSON.
 *
 * Owns the nats.c connection. A broker that is away at start or goes away
 * later is tried again for ever, with jitter; callers see requests that fail
 * meanwhile and decide for themselves. Callbacks run on nats.c's threads and
 * only log and set atomics.
 *
 * Must never: wait without a bound, print a password. Formats and definitions:
 * schemas/README.md.
 */
#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "signals.h"

#define HPW_JS_TIMEOUT_MS 2000

/* No call on a connection takes so long. */
#define HPW_NATS_RETIRED_MS (2 * HPW_JS_TIMEOUT_MS)
#define HPW_NATS_SERVERS 16
#define HPW_NATS_AWAY_MS 5000

static void hpw_nats_down(natsConnection *nc, void *data)
{
    hpw_nats_t *nats = data;

    if (nc != nats->nc)
        return; /* one that was replaced */
    nats->connected = 0;
    if (!nats->closing)
        hpw_log(HPW_LOG_WARN, "nats disconnected");
}

static void hpw_nats_up(natsConnection *nc, void *data)
{
    hpw_nats_t *nats = data;

    if (nc != nats->nc)
        return;
    nats->reconnects++;
    nats->connected = 1;
    hpw_log(HPW_LOG_INFO, "nats reconnected");
}

static void hpw_nats_error(natsConnection *nc, natsSubscription *sub,
                           natsStatus status, void *data)
{
    (void)nc;
    (void)sub;
    (void)data;
    hpw_log(HPW_LOG_WARN, "nats error",
            hpw_s("error", natsStatus_GetText(status)));
}

static natsStatus hpw_nats_servers(natsOptions *options, const char *list)
{
    const char *servers[HPW_NATS_SERVERS];
    char *copy = hpw_strdup(list), *save = NULL, *word;
    int count = 0;
    natsStatus s;

    for (word = strtok_r(copy, ", ", &save); word && count < HPW_NATS_SERVERS;
         word = strtok_r(NULL, ", ", &save))
        servers[count++] = word;
    s = count ? natsOptions_SetServers(options, servers, count)
              : NATS_INVALID_ARG;
    free(copy);
    return s;
}

static natsStatus hpw_nats_options(natsOptions *options, hpw_nats_t *nats,
                                   const hpw_common_t *settings,
                                   const char *program)
{
    natsStatus s = hpw_nats_servers(options, settings->nats_url);

    if (s == NATS_OK)
        s = natsOptions_SetName(options, program);
    if (s == NATS_OK && *settings->nats_user)
        s = natsOptions_SetUserInfo(options, settings->nats_user,
                                    settings->nats_password);
    if (s == NATS_OK && *settings->nats_token)
        s = natsOptions_SetToken(options, settings->nats_token);
    if (s == NATS_OK && *settings->nats_credentials)
        s = natsOptions_SetUserCredentialsFromFiles(
            options, settings->nats_credentials, NULL);
    if (s == NATS_OK)
        s = natsOptions_SetTimeout(options, 2000);
    if (s == NATS_OK)
        s = natsOptions_SetMaxReconnect(options, -1);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectWait(options, 250);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectJitter(options, 250, 500);
    /* a broker that stands still is noticed after ten seconds */
    if (s == NATS_OK)
        s = natsOptions_SetPingInterval(options, 5000);
    if (s == NATS_OK)
        s = natsOptions_SetMaxPingsOut(options, 2);
    if (s == NATS_OK)
        s = natsOptions_SetDisconnectedCB(options, hpw_nats_down, nats);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectedCB(options, hpw_nats_up, nats);
    if (s == NATS_OK)
        s = natsOptions_SetErrorHandler(options, hpw_nats_error, nats);
    return s;
}

int hpw_nats_try(hpw_nats_t *nats, const hpw_common_t *settings,
                 const char *program, char *error, size_t size)
{
    natsOptions *options = NULL;
    natsConnection *nc = NULL;
    natsStatus s = natsOptions_Create(&options);

    nats->settings = settings;
    nats->program = program;
    if (s == NATS_OK)
        s = hpw_nats_options(options, nats, settings, program);
    if (s == NATS_OK)
        s = natsConnection_Connect(&nc, options);
    natsOptions_Destroy(options);
    if (s != NATS_OK) {
        snprintf(error, size, "%s", natsStatus_GetText(s));
        return -1;
    }
    nats->nc = nc;
    nats->connected = 1;
    return 0;
}

/* nats.c closes a connection for good after two refusals of its credentials,
 * and once a server has asked for TLS it never again talks to one without. */
int hpw_nats_watch(hpw_nats_t *nats)
{
    natsConnection *old = nats->nc;
    char error[256];

    if (nats->connected) {
        nats->away_ms = 0;
        return 0;
    }
    if (nats->away_ms == 0)
        nats->away_ms = hpw_monotonic_ms();
    if (!natsConnection_IsClosed(old) &&
        hpw_monotonic_ms() - nats->away_ms < HPW_NATS_AWAY_MS)
        return 0;
    /* other threads may still be in a call on the one before that */
    if (nats->retired &&
        hpw_monotonic_ms() - nats->retired_ms < HPW_NATS_RETIRED_MS)
        return 0;
    if (hpw_nats_try(nats, nats->settings, nats->program, error,
                     sizeof(error)) != 0) {
        hpw_log(HPW_LOG_WARN, "nats not reachable", hpw_s("error", error));
        return 0;
    }
    nats->reconnects++;
    hpw_log(HPW_LOG_INFO, "nats connected anew");
    natsConnection_Close(old);
    natsConnection_Destroy(nats->retired);
    nats->retired = old;
    nats->retired_ms = hpw_monotonic_ms();
    return 1;
}

int hpw_nats_open(hpw_nats_t *nats, const hpw_common_t *settings,
                  const char *program)
{
    hpw_backoff_t backoff = {100, 5000, 0};
    char error[256];

    while (!hpw_stopping()) {
        if (hpw_nats_try(nats, settings, program, error, sizeof(error)) == 0) {
            hpw_log(HPW_LOG_INFO, "nats connected");
            return 0;
        }
        hpw_log(HPW_LOG_WARN, "nats not reachable", hpw_s("error", error));
        hpw_backoff_sleep(&backoff);
    }
    return -1;
}

void hpw_nats_close(hpw_nats_t *nats)
{
    if (nats->nc == NULL)
        return;
    if (natsConnection_FlushTimeout(nats->nc, 2000) != NATS_OK)
        hpw_log(HPW_LOG_WARN, "nats closed before everything was sent");
    nats->closing = 1;
    natsConnection_Close(nats->nc);
    natsConnection_Destroy(nats->nc);
    natsConnection_Destroy(nats->retired);
    nats->nc = NULL;
    nats->retired = NULL;
    nats->connected = 0;
}

static void hpw_js_fail(hpw_js_error_t *error, int code, const char *text)
{
    error->code = code;
    snprintf(error->text, sizeof(error->text), "%s", text);
}

/* The reply of a request, where it carries no error. Destroys msg. */
static cJSON *hpw_js_reply(natsStatus s, natsMsg *msg, hpw_js_error_t *error)
{
    const cJSON *fault, *code, *text;
    cJSON *reply;

    error->code = 0;
    if (s != NATS_OK) {
        hpw_js_fail(error, -1, natsStatus_GetText(s));
        natsMsg_Destroy(msg);
        return NULL;
    }
    reply = cJSON_ParseWithLength(natsMsg_GetData(msg),
                                  (size_t)natsMsg_GetDataLength(msg));
    natsMsg_Destroy(msg);
    if (!cJSON_IsObject(reply)) {
        hpw_js_fail(error, -1, "the broker's answer is no JSON object");
        cJSON_Delete(reply);
        return NULL;
    }
    fault = cJSON_GetObjectItemCaseSensitive(reply, "error");
    if (fault) {
        code = cJSON_GetObjectItemCaseSensitive(fault, "err_code");
        text = cJSON_GetObjectItemCaseSensitive(fault, "description");
        hpw_js_fail(error, cJSON_IsNumber(code) ? code->valueint : -1,
                    cJSON_IsString(text) ? text->valuestring : "unknown error");
        cJSON_Delete(reply);
        return NULL;
    }
    return reply;
}

cJSON *hpw_js_call(hpw_nats_t *nats, const char *call, const char *body,
                   hpw_js_error_t *error)
{
    char subject[256];
    natsMsg *msg = NULL;
    natsStatus s;

    snprintf(subject, sizeof(subject), "$JS.API.%s", call);
    s = natsConnection_RequestString(&msg, nats->nc, subject, body ? body : "",
                                     HPW_JS_TIMEOUT_MS);
    return hpw_js_reply(s, msg, error);
}

int hpw_js_publish(hpw_nats_t *nats, const char *subject, const char *stream,
                   const char *message_id, const void *data, size_t len,
                   hpw_js_error_t *error)
{
    natsMsg *msg = NULL, *answer = NULL;
    const cJSON *from;
    cJSON *ack;
    natsStatus s;

    s = natsMsg_Create(&msg, subject, NULL, data, (int)len);
    if (s == NATS_OK)
        s = natsMsgHeader_Set(msg, "Nats-Msg-Id", message_id);
    if (s == NATS_OK)
        s = natsMsgHeader_Set(msg, "Nats-Expected-Stream", stream);
    if (s == NATS_OK)
        s = natsConnection_RequestMsg(&answer, nats->nc, msg,
                                      HPW_JS_TIMEOUT_MS);
    natsMsg_Destroy(msg);

    ack = hpw_js_reply(s, answer, error);
    if (ack == NULL)
        return -1;
    from = cJSON_GetObjectItemCaseSensitive(ack, "stream");
    if (!cJSON_IsString(from) || strcmp(from->valuestring, stream) != 0)
        hpw_js_fail(error, -1, "acknowledged by another stream");
    cJSON_Delete(ack);
    return error->code ? -1 : 0;
}

void hpw_stream_name(char name[HPW_STREAM_NAME], const hpw_common_t *settings,
                     int partition, unsigned priority)
{
    const char *suffix = hp_priority_suffix(priority);

    snprintf(name, HPW_STREAM_NAME, "%s_%d%s%s", settings->stream_prefix,
             partition, *suffix ? "_" : "", suffix);
}

void hpw_stream_subject(char name[HPW_STREAM_NAME],
                        const hpw_common_t *settings, int partition,
                        unsigned priority)
{
    const char *suffix = hp_priority_suffix(priority);

    snprintf(name, HPW_STREAM_NAME, "%s.events.%d%s%s",
             settings->subject_prefix, partition, *suffix ? "." : "", suffix);
}

/* Copies text with its {names} replaced. -1 where a name is not known. */
static int hpw_definition_fill(hpw_buf_t *out, const char *text,
                               const hpw_common_t *settings, int partition,
                               unsigned priority, char *error, size_t size)
{
    char number[16], stream[HPW_STREAM_NAME], subject[HPW_STREAM_NAME];
    const struct {
        const char *name;
        const char *value;
    } names[] = {{"{partition}", number},
                 {"{stream}", stream},
                 {"{subject}", subject},
                 {"{stream_prefix}", settings->stream_prefix},
                 {"{subject_prefix}", settings->subject_prefix},
                 {"{dead_stream}", settings->dead_stream}};
    size_t i, len;

    snprintf(number, sizeof(number), "%d", partition);
    hpw_stream_name(stream, settings, partition, priority);
    hpw_stream_subject(subject, settings, partition, priority);
    while (*text) {
        len = 1;
        for (i = 0; *text == '{' && i < sizeof(names) / sizeof(*names); i++) {
            if (strncmp(text, names[i].name, strlen(names[i].name)) == 0) {
                len = strlen(names[i].name);
                hpw_buf_add(out, names[i].value, strlen(names[i].value));
                break;
            }
        }
        if (len == 1 && *text == '{' && text[1] >= 'a' && text[1] <= 'z') {
            snprintf(error, size, "unknown name at %.30s", text);
            return -1;
        }
        if (len == 1)
            hpw_buf_add(out, text, 1);
        text += len;
    }
    return 0;
}

cJSON *hpw_definition_read(const hpw_common_t *settings, const char *path,
                           int partition, unsigned priority, char *error,
                           size_t size)
{
    char *text = hpw_file_read(path, NULL), reason[128];
    hpw_buf_t filled = {0};
    cJSON *root = NULL;

    if (text == NULL) {
        snprintf(error, size, "%s: cannot be read", path);
        return NULL;
    }
    if (hpw_definition_fill(&filled, text, settings, partition, priority,
                            reason, sizeof(reason)) != 0) {
        snprintf(error, size, "%s: %s", path, reason);
    } else {
        root = cJSON_ParseWithOpts(hpw_buf_text(&filled), NULL, 1);
        if (!cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(root, "stream"))) {
            snprintf(error, size,
                     "%s: must be a JSON object with a member \"stream\"",
                     path);
            cJSON_Delete(root);
            root = NULL;
        }
    }
    free(text);
    hpw_buf_free(&filled);
    return root;
}
