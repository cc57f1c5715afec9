/*
 * project.h: what the stages of hotpath-project share.
 *
 *   apply.c  events of a range of positions -> documents, one transaction
 *   cache.c  documents -> Redis, never over a newer version
 *   tls.c    TLS to it
 *   push.c   documents -> every nginx, core NATS; heartbeats
 *   wake.c   commit notices of the drain wake the lanes of a partition
 *   lane.c   the order in which these happen, and when to begin again
 *
 * One thread per read model and partition runs all of them on its own
 * hpw_lane_t, so a model that is broken holds up no other. Lanes share the
 * settings, the models, the NATS connection and the wake-up; the counters are
 * atomics that the health thread reads.
 */
#ifndef HPW_PROJECT_H
#define HPW_PROJECT_H

#include <pthread.h>
#include <stdatomic.h>

#include <hiredis/hiredis.h>

#include "buffer.h"
#include "database.h"
#include "hp_frame.h"
#include "model.h"
#include "settings.h"
#include "signals.h"
#include "stream.h"

typedef struct {
    hpw_common_t common;
    const char *models_dir;
    int64_t batch_events;
    int64_t poll_ms;
    int64_t heartbeat_ms;
    const char *redis;
    const char *redis_user;
    const char *redis_password;
    int64_t redis_db;
    int64_t redis_tls;
    const char *redis_tls_ca;
    const char *redis_tls_name;
    const char *redis_tls_cert;
    const char *redis_tls_key;
    int64_t redis_ttl_s;
    int64_t redis_timeout_ms;
    int64_t lock_retry_ms;
    int64_t lease_ms;
    const char *health_listen;
} hpw_project_settings_t;

/* Rows of (tenant, key, version, document, modified_at, deleted, …) in binary
 * form. */
typedef struct {
    PGresult *rows;
    int jsonb; /* document opens with jsonb's version byte */
} hpw_documents_t;

typedef struct hpw_lane_s hpw_lane_t;

/* apply.c */

/* Prepares the statements; says what is wrong with the model's. 0 or -1. */
int hpw_apply_prepare(hpw_lane_t *lane);

/* Applies positions (lane->position, upto] and commits. 1: done, *documents
 * has what changed (to be PQclear()ed); 0: refused because of data, nothing
 * changed; -1: the session has to be begun anew. */
int hpw_apply_range(hpw_lane_t *lane, int64_t upto, hpw_documents_t *documents);

/* Passes over the one position after lane->position, recording the last
 * error. 0 or -1. */
int hpw_apply_skip(hpw_lane_t *lane);

/* One page of documents last changed at positions (after, upto], by position;
 * *reached is the last one in it. 0 or -1. */
int hpw_apply_page(hpw_lane_t *lane, int64_t after, int64_t upto,
                   hpw_documents_t *documents, int64_t *reached);

/* Remembers lane->pushed. 0 or -1. */
int hpw_apply_pushed(hpw_lane_t *lane);

/* Row i as a document that points into the result. 0, or -1 where it is none
 * that can be handed out. */
int hpw_document_row(const hpw_documents_t *documents, int i, hp_doc_t *doc);

/* tls.c */

/* A context in *tls, NULL where the settings want none, for as long as the
 * process lives. 0, or -1 with a sentence in error. */
int hpw_tls_init(const hpw_project_settings_t *settings, void **tls,
                 char *error, size_t size);

/* On a connection that stands, whose timeouts bound it: from here on TLS, with
 * somebody whose certificate is for that name. 0, or -1 with redis->errstr. */
int hpw_tls_begin(void *tls, const char *name, redisContext *redis);

/* cache.c */

typedef struct {
    void *tls;             /* NULL: none */
    redisContext *context; /* NULL: not connected */
    char script[41];       /* its SHA-1, as Redis gave it; "": not loaded */
    hpw_buf_t values;
} hpw_cache_t;

/* Stores what is newer than what Redis has. 0; -1 where Redis could not take
 * it all, disconnected then. Returns within redis_timeout_ms or so. */
int hpw_cache_store(hpw_lane_t *lane, const hpw_documents_t *documents);
void hpw_cache_close(hpw_cache_t *cache);

/* push.c */

/* Publishes all rows, in as many messages as it takes. */
void hpw_push_documents(hpw_lane_t *lane, const hpw_documents_t *documents);
/* Publishes a heartbeat where one is due. */
void hpw_push_heartbeat(hpw_lane_t *lane);

/* wake.c */

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t generation[256]; /* by partition; under mutex */
    natsSubscription *sub;
} hpw_wake_t;

/* Subscribes to the commit notices. 0 or -1 (logged). */
int hpw_wake_init(hpw_wake_t *wake, hpw_nats_t *nats, const char *prefix);
/* Subscribes anew, on another connection. Where that fails, lanes wake by the
 * clock only. */
void hpw_wake_again(hpw_wake_t *wake, hpw_nats_t *nats, const char *prefix);
void hpw_wake_destroy(hpw_wake_t *wake);
/* Waits until the partition's generation differs from *seen, and takes it
 * over; or until ms have passed or the process is stopping. */
void hpw_wake_wait(hpw_wake_t *wake, int partition, uint64_t *seen, int ms);
void hpw_wake_all(hpw_wake_t *wake);

/* lane.c */

typedef enum {
    HPW_LANE_CONNECTING,
    HPW_LANE_STANDBY,
    HPW_LANE_STARTING,
    HPW_LANE_HELD,
    HPW_LANE_STOPPED
} hpw_lane_state_t;

typedef struct {
    _Atomic int state;
    _Atomic uint64_t batches;
    _Atomic uint64_t documents;
    _Atomic uint64_t documents_refused;
    _Atomic uint64_t frames;
    _Atomic uint64_t frames_failed;
    _Atomic uint64_t cached;
    _Atomic uint64_t cache_failures;
    _Atomic uint64_t errors; /* events passed over */
    _Atomic uint64_t retries;
    _Atomic uint64_t apply_us;
    _Atomic int64_t position;
    _Atomic int64_t lag;
    _Atomic int cache_behind;
} hpw_lane_counters_t;

struct hpw_lane_s {
    const hpw_project_settings_t *settings;
    const hpw_model_t *model;
    hpw_nats_t *nats;
    hpw_wake_t *wake;
    int partition;
    pthread_t thread;
    hpw_lane_counters_t counters;
    /* the lane's thread only */
    hpw_db_t db;
    hpw_cache_t cache;
    hpw_buf_t events; /* the model's event types as a text[] */
    hpw_buf_t frame;
    int64_t position;      /* applied */
    int64_t pushed;        /* handed out, to Redis as well */
    int64_t pushed_stored; /* as hotpath.projections has it */
    int64_t stored_ms;
    int64_t limit; /* positions in one transaction */
    int64_t epoch_us;
    uint64_t sequence; /* of the last push message */
    int64_t beaten_ms; /* when it went out */
    int behind;        /* Redis lacks (pushed, position] */
    int64_t retry_ms;  /* when to try Redis again */
    hpw_backoff_t cache_backoff;
    uint64_t seen; /* of wake->generation */
};

const char *hpw_lane_state_name(int state);

/* The lane's thread; data is its hpw_lane_t. Returns once stopping. */
void *hpw_lane_run(void *data);

#endif
