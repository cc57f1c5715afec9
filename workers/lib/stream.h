/*
 * stream.h: the connection to NATS, and JetStream's API as JSON.
 *
 * nats.c keeps the connection (its own threads, reconnecting for ever);
 * JetStream is asked through its request subjects, because the definitions in
 * schemas/streams/ are then passed through word for word, whatever a version
 * of the library knows of them, and because the creation time of a stream has
 * to be kept exactly as the broker writes it.
 *
 * One hpw_nats_t a process, shared by its lanes: every call is thread safe.
 */
#ifndef HPW_STREAM_H
#define HPW_STREAM_H

#include <nats/nats.h>

#include <cjson/cJSON.h>

#include "buffer.h"
#include "hp_priority.h"
#include "settings.h"

typedef struct {
    natsConnection *_Atomic nc;
    /* the main thread's */
    const hpw_common_t *settings;
    const char *program;
    natsConnection *retired; /* what nc was before; closed, perhaps in use */
    int64_t retired_ms;      /* since then */
    int64_t away_ms;         /* not connected since; 0: connected */
    /* written by nats.c's threads */
    _Atomic int connected;
    _Atomic int closing;
    _Atomic uint64_t reconnects;
} hpw_nats_t;

/* Connects, trying again with backoff until it works. 0, or -1 where the
 * process was asked to stop first. Settings that cannot work (a credentials
 * file that is not there) are logged and retried like the rest. */
int hpw_nats_open(hpw_nats_t *nats, const hpw_common_t *settings,
                  const char *program);
/* One try. 0, or -1 with a sentence in error. */
int hpw_nats_try(hpw_nats_t *nats, const hpw_common_t *settings,
                 const char *program, char *error, size_t size);
/* To be called every second or so by the thread that opened it. Where nats.c
 * has given up, or has had no success for long, a new connection takes the
 * place of the old one, and whatever hung on that fails. 1 where that was
 * done, else 0. */
int hpw_nats_watch(hpw_nats_t *nats);
/* Sends what is buffered, waits for it a little, and closes. */
void hpw_nats_close(hpw_nats_t *nats);

#define HPW_JS_STREAM_UNKNOWN 10059
#define HPW_JS_CONSUMER_UNKNOWN 10014

typedef struct {
    int code; /* 0: fine; -1: no answer; else JetStream's err_code */
    char text[256];
} hpw_js_error_t;

/* Asks $JS.API.<call> with a JSON body (NULL: none). The reply belongs to the
 * caller (cJSON_Delete); NULL where error->code is not 0. */
cJSON *hpw_js_call(hpw_nats_t *nats, const char *call, const char *body,
                   hpw_js_error_t *error);

/* Publishes to a stream and waits for its ack, which must come from the
 * stream named. 0, or -1 with error set. */
int hpw_js_publish(hpw_nats_t *nats, const char *subject, const char *stream,
                   const char *message_id, const void *data, size_t len,
                   hpw_js_error_t *error);

/* The names of a partition's stream of a priority, and of its subject. */
#define HPW_STREAM_NAME 128
void hpw_stream_name(char name[HPW_STREAM_NAME], const hpw_common_t *settings,
                     int partition, unsigned priority);
void hpw_stream_subject(char name[HPW_STREAM_NAME],
                        const hpw_common_t *settings, int partition,
                        unsigned priority);

/* A definition out of schemas/streams/ with {partition}, {stream}, {subject}
 * and the names of the settings put in. The caller deletes it; NULL with a
 * sentence in error. */
cJSON *hpw_definition_read(const hpw_common_t *settings, const char *path,
                           int partition, unsigned priority, char *error,
                           size_t size);

#endif
