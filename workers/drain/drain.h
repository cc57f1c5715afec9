/*
 * drain.h: what the stages of hotpath-drain share.
 *
 *   pull.c   messages of the streams, each in order, from the oldest not acked
 *   batch.c  messages -> events, repeats inside the batch found
 *   store.c  one transaction; what PostgreSQL refuses is found by halving
 *   dead.c   what cannot be stored -> dead-letter stream
 *   notice.c how far it is -> every nginx and projector
 *   gone.c   what the stream has lost, so that nobody waits for it
 *   lane.c   the order in which these happen, and when to begin again
 *
 * One thread per partition runs all of them on its own hpw_lane_t, whose
 * sources are the partition's streams, one for each priority; lane->source is
 * the one that is dealt with. Lanes share the settings, the NATS connection and
 * nothing else. The counters are atomics
 * that the health thread reads.
 */
#ifndef HPW_DRAIN_H
#define HPW_DRAIN_H

#include <pthread.h>
#include <stdatomic.h>

#include "buffer.h"
#include "database.h"
#include "hp_frame.h"
#include "hp_priority.h"
#include "settings.h"
#include "signals.h"
#include "stream.h"

typedef struct {
    hpw_common_t common;
    int64_t batch_events;
    int64_t batch_bytes;
    int64_t coalesce_ms;
    int64_t yield_batches;
    int64_t lock_retry_ms;
    int64_t lease_ms;
    int64_t partitions_ahead_days;
    const char *health_listen;
} hpw_drain_settings_t;

/* pull.c */

typedef struct {
    natsMsg *msg;
    uint64_t sequence; /* in the stream */
    uint64_t pending;  /* behind this one */
} hpw_message_t;

/* One stream. */
typedef struct {
    char stream[HPW_STREAM_NAME];
    char consumer[64];
    char created[64]; /* as the broker writes it */
    uint64_t last;    /* sequence of the stream, when attached */
    int attached;
    uint64_t request; /* number of the request standing at the broker */
    int64_t request_until_ms;
    int remaining;      /* messages it may still bring; 0: none stands */
    uint64_t delivered; /* consumer sequence of the last message */
    uint64_t behind;    /* messages behind it at the broker, as was last said */
    hpw_message_t *kept; /* delivered and not taken yet: a ring */
    int kept_first, kept_count, kept_size;
} hpw_pull_t;

/* The streams of a partition, by priority, on one subscription. */
typedef struct {
    hpw_nats_t *nats;
    hpw_pull_t pulls[HP_PRIORITIES];
    char inbox[128];
    natsSubscription *sub; /* NULL: all are detached */
    uint64_t reconnects;   /* when it was made */
    uint64_t request;      /* number of the last one */
    int lost; /* every further call is -1 until detached and attached again */
    int64_t max_bytes; /* of one request */
} hpw_intake_t;

/* Makes the consumer of one stream anew, so that what a dead drain left unacked
 * comes at once and in order. 0, or -1 with error set; detached then, while the
 * others go on. */
int hpw_pull_attach(hpw_intake_t *intake, const hpw_drain_settings_t *settings,
                    int partition, unsigned priority, hpw_js_error_t *error);
/* All of them; what is kept is dropped, unacked. */
void hpw_pull_detach(hpw_intake_t *intake);
void hpw_pull_free(hpw_intake_t *intake);

/* Asks for messages where no request stands; wanted is how many. */
void hpw_pull_ask(hpw_intake_t *intake, hpw_pull_t *pull, int wanted);

/* 1 where a message is here, or the broker said that it has more. */
int hpw_pull_has(const hpw_pull_t *pull);

/* Keeps all that is here by now, so that the highest is known. 0, or -1. */
int hpw_pull_gather(hpw_intake_t *intake);

/* Waits for a message of any stream. 1, 0 or -1 as below. */
int hpw_pull_wait(hpw_intake_t *intake, int timeout_ms);

/* 1: *message is the next one of that stream, to be destroyed by the caller; 0:
 * none within timeout_ms; -1: order or consumer is lost, attach again. What
 * comes of other streams meanwhile is kept. */
int hpw_pull_next(hpw_intake_t *intake, hpw_pull_t *pull, int wanted,
                  int timeout_ms, hpw_message_t *message);

/* Sends the ack of a message. Not waited for: a lost one costs a repeat. */
void hpw_pull_ack(hpw_intake_t *intake, const hpw_message_t *message);

/* Reads stream sequence, consumer sequence and pending out of the reply
 * subject of a delivered message. 0 or -1. */
int hpw_pull_metadata(const char *reply, uint64_t *sequence,
                      uint64_t *delivered, uint64_t *pending);

/* batch.c */

typedef enum {
    HPW_FATE_NEW,       /* stored, or about to be */
    HPW_FATE_DUPLICATE, /* the same operation, the same payload */
    HPW_FATE_CONFLICT,  /* the same operation, another payload */
    HPW_FATE_DEAD       /* refused */
} hpw_fate_t;

typedef struct {
    hp_event_t event; /* points into its message */
    int64_t position; /* set by store.c */
    hpw_fate_t fate;
    int repeat;        /* known from inside this batch: fate is final */
    uint64_t sequence; /* of its message */
    char code[6];
    char *reason; /* of a dead one; owned */
} hpw_item_t;

typedef struct {
    hpw_message_t *messages;
    int message_count, message_size;
    int *broken; /* indices of messages that are no event group */
    int broken_count, broken_size;
    hpw_item_t *items;
    int item_count, item_size;
    uint32_t *table;     /* of item index + 1, by operation id */
    uint32_t table_size; /* a power of two */
    uint64_t seed;
    size_t bytes;
    uint64_t last_sequence;
    uint64_t pending;
} hpw_batch_t;

void hpw_batch_init(hpw_batch_t *batch);
/* Takes the message over, whatever is in it. */
void hpw_batch_add(hpw_batch_t *batch, const hpw_message_t *message);
/* Destroys the messages; keeps the memory. */
void hpw_batch_reset(hpw_batch_t *batch);
void hpw_batch_free(hpw_batch_t *batch);

/* store.c */

typedef struct {
    hpw_buf_t ids, positions, times, fingerprints, copy;
    uint32_t *order;
    int order_size;
    int careful; /* batches to come in which repeats are likely */
} hpw_store_t;

typedef struct hpw_lane_s hpw_lane_t;

int hpw_store_prepare(hpw_lane_t *lane);
/* Stores lane->batch and commits. Fates are set, lane->position moved. 0, or
 * -1 where nothing may be acked and the session has to be begun anew. */
int hpw_store_batch(hpw_lane_t *lane);
/* Moves the source to that sequence of the stream attached to, with nothing to
 * be stored; empty_us: when it was seen empty, or 0. 0, or -1 as above. */
int hpw_store_passed(hpw_lane_t *lane, uint64_t sequence, int64_t empty_us);
void hpw_store_free(hpw_store_t *store);

/* dead.c */

/* Both wait for the broker's ack. 0 or -1 (logged). */
int hpw_dead_event(hpw_lane_t *lane, const hpw_item_t *item);
int hpw_dead_frame(hpw_lane_t *lane, const hpw_message_t *message);

/* The JSON of a dead event, part of parts (from 1) holding payload bytes
 * first to last; to be freed by cJSON_free(). Pure. */
char *hpw_dead_json(const hpw_item_t *item, int partition, const char *stream,
                    int part, int parts, hp_str_t piece);

/* notice.c */

#define HPW_NOTICE_ENDED 100

typedef struct {
    unsigned char operation_id[HP_UUID_SIZE];
    int dead; /* else a conflict */
    char code[6];
} hpw_ended_t;

typedef struct {
    hpw_ended_t ended[HPW_NOTICE_ENDED];
    int ended_count; /* never more than fit: the rest is in PostgreSQL */
    uint64_t after;  /* sequence of the last notice */
    int64_t sent_ms;
    hpw_buf_t text;
} hpw_notice_t;

/* 0, or -1: there are too many to name this one. */
int hpw_notice_end(hpw_notice_t *notice, const hpw_item_t *item);
/* Writes it into notice->text, as framing.md has it. Pure. */
void hpw_notice_build(hpw_notice_t *notice, int partition, unsigned priority,
                      const char *created, uint64_t whole, uint64_t sequence,
                      int64_t position);
void hpw_notice_publish(hpw_lane_t *lane);

/* gone.c */

typedef struct {
    int64_t at_us;      /* when the stream was looked at; 0: not lately */
    int64_t written_ms; /* when it was written down to be empty; 0: not yet */
    uint64_t last;      /* sequence */
    uint64_t before;    /* all up to it is not in the stream */
    int empty;
} hpw_gone_t;

typedef enum {
    HPW_GONE_NOTHING,
    HPW_GONE_PASSED,  /* the position was moved */
    HPW_GONE_STREAM,  /* another stream has that name now: attach again */
    HPW_GONE_SESSION, /* the session is lost */
} hpw_gone_verdict_t;

/* Looks after an idle source's stream; at most once a second. */
int hpw_gone_look(hpw_lane_t *lane);

/* From where on every sequence up to the batch's last was seen, with all up to
 * sequence, and from whole on, seen before. Pure. */
uint64_t hpw_gone_whole(const hpw_batch_t *batch, uint64_t sequence,
                        uint64_t whole);

/* lane.c */

typedef enum {
    HPW_LANE_CONNECTING,
    HPW_LANE_STANDBY,
    HPW_LANE_ATTACHING,
    HPW_LANE_HELD,
    HPW_LANE_STOPPED
} hpw_lane_state_t;

/* By priority. */
typedef struct {
    _Atomic int held;
    _Atomic uint64_t batches;
    _Atomic uint64_t messages;
    _Atomic uint64_t events;
    _Atomic uint64_t duplicates;
    _Atomic uint64_t conflicts;
    _Atomic uint64_t dead;
    _Atomic uint64_t frames_invalid;
    _Atomic uint64_t commit_us; /* from BEGIN to the answer to COMMIT */
    _Atomic uint64_t retries;   /* batches given up and begun anew */
    _Atomic uint64_t stream_losses;
    _Atomic uint64_t passed;  /* messages that were gone before they came */
    _Atomic uint64_t pending; /* messages in the stream not fetched yet */
    _Atomic uint64_t sequence;
} hpw_source_counters_t;

/* A stream of the partition. */
typedef struct {
    unsigned priority;
    hpw_pull_t *pull;
    hpw_source_counters_t counters;
    /* the lane's thread only */
    hpw_notice_t notice;
    uint64_t sequence; /* all up to it is committed */
    uint64_t whole;    /* and from here on all of them were seen, and their
                          ends told */
    hpw_gone_t gone;
    int64_t passed_over; /* batches, while it had messages */
} hpw_source_t;

struct hpw_lane_s {
    const hpw_drain_settings_t *settings;
    hpw_nats_t *nats;
    int partition;
    pthread_t thread;
    _Atomic int state;
    _Atomic int64_t committed; /* position */
    hpw_source_t sources[HP_PRIORITIES];
    /* the lane's thread only */
    hpw_source_t *source; /* of the batch, or looked after */
    hpw_db_t db;
    hpw_intake_t intake;
    hpw_batch_t batch;
    hpw_store_t store;
    int64_t position; /* last one given out and committed */
    int64_t asked_ms; /* last time the session was used */
    int64_t made_ms;  /* last time the daily tables were seen to */
};

const char *hpw_lane_state_name(int state);

/* The lane's thread; data is its hpw_lane_t. Returns once stopping. */
void *hpw_lane_run(void *data);

#endif
