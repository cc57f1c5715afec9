/*
 * ngx_http_hotpath_group.h: the events of one message, from the first of them
 * until all who wait for them were told.
 *
 * Bytes as they go out, in chunks, and for each event a waiter. Who owns a
 * group while it is built, sent and acknowledged has it in a queue of his own;
 * with its end it comes back here. Knows nats, nginx's allocator and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_GROUP_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_GROUP_H_INCLUDED_


#include "ngx_http_hotpath_nats.h"
#include "core/hp_frame.h"
#include "core/hp_stream.h"


#define NGX_HTTP_HOTPATH_GROUP_CHUNKS  64  /* of one message, at most */


typedef enum {
    NGX_HTTP_HOTPATH_PUBLISHED = 0,   /* PubAck without error */
    NGX_HTTP_HOTPATH_PUBLISH_REFUSED, /* the broker said no: nothing stored */
    NGX_HTTP_HOTPATH_PUBLISH_UNSENT,  /* never left this process */
    NGX_HTTP_HOTPATH_PUBLISH_UNKNOWN  /* sent, and no answer came */
} ngx_http_hotpath_publish_e;


typedef struct {
    ngx_http_hotpath_publish_e  outcome;
    ngx_uint_t                  number;     /* hp_stream_number() */
    uint64_t                    created;    /* of the stream; 0 not known */
    uint64_t                    sequence;   /* of the message in the stream */
    hp_refused_e                refused;    /* why */
} ngx_http_hotpath_publish_result_t;


/*
 * One event under way. Valid until whoever is told of its outcome returns.
 * data is the caller's and may be set to NULL when nobody waits any longer:
 * the outcome is told all the same, to settle what the event left behind.
 */
typedef struct ngx_http_hotpath_waiter_s  ngx_http_hotpath_waiter_t;

struct ngx_http_hotpath_waiter_s {
    ngx_http_hotpath_waiter_t  *next;
    void                       *data;
    int64_t                     accepted_us;
    u_char                      operation_id[HP_UUID_SIZE];
    u_char                      fingerprint[HP_FINGERPRINT_SIZE];
};


typedef void (*ngx_http_hotpath_publish_pt)(void *ctx,
    ngx_http_hotpath_waiter_t *waiter,
    ngx_http_hotpath_publish_result_t *result);


typedef struct ngx_http_hotpath_chunk_s  ngx_http_hotpath_chunk_t;


/* Of a worker. */
typedef struct {
    ngx_http_hotpath_publish_pt   handler;
    void                         *ctx;
    ngx_http_hotpath_nats_t      *nats;
    ngx_log_t                    *log;
    size_t                        held;      /* bytes, by all under way */
    ngx_uint_t                    flying;    /* messages, the publisher's */
    ngx_queue_t                   answered;  /* ended, not all are told yet */
    ngx_event_t                   answer;
    ngx_uint_t                    answers;
    ngx_queue_t                   groups;    /* from here on: for use again */
    ngx_uint_t                    ngroups;
    ngx_http_hotpath_chunk_t     *chunks;
    ngx_uint_t                    nchunks;
    ngx_http_hotpath_waiter_t    *waiters;
    ngx_uint_t                    nwaiters;
} ngx_http_hotpath_groups_t;


typedef struct {
    ngx_queue_t                         queue;   /* of whoever has it */
    ngx_http_hotpath_groups_t          *groups;
    ngx_http_hotpath_chunk_t           *chunks;
    ngx_http_hotpath_chunk_t           *last;
    ngx_uint_t                          nchunks;
    ngx_http_hotpath_waiter_t          *waiters; /* in the events' order */
    ngx_http_hotpath_waiter_t          *newest;
    ngx_uint_t                          events;
    size_t                              bytes;
    ngx_http_hotpath_publish_result_t   result;  /* before its end */

    /* the publisher's */
    void                               *partition;
    ngx_event_t                         timer;
    int64_t                             due_ns;  /* lingers until; 0 not yet */
    int64_t                             quiet_ns;  /* or until here, where no
                                                      event joins it */
    ngx_uint_t                          looked_events;  /* when that was set */
    uint64_t                            number;  /* of the message, if sent */
    uint32_t                            request;
    unsigned                            sent:1;  /* at least once */
    unsigned                            flying:1;    /* counts in in_flight */
    unsigned                            repeated:1;
    unsigned                            anew:1;  /* no repeat of anything */
    unsigned                            passed:1;  /* over, once, until others
                                                      were told */
} ngx_http_hotpath_group_t;


/* What an event of so many bytes adds to held. */
#define ngx_http_hotpath_group_cost(size)                                     \
    ((size) + sizeof(ngx_http_hotpath_waiter_t))


/* From init_process to exit_process; stop tells nobody any more, and all that
 * others still have was given back before it. */
void ngx_http_hotpath_groups_start(ngx_http_hotpath_groups_t *groups,
    ngx_http_hotpath_nats_t *nats, ngx_http_hotpath_publish_pt handler,
    void *ctx, ngx_log_t *log);
void ngx_http_hotpath_groups_stop(ngx_http_hotpath_groups_t *groups);

/* An empty one, in no queue; NULL: no memory. */
ngx_http_hotpath_group_t *ngx_http_hotpath_group_new(
    ngx_http_hotpath_groups_t *groups);

/* 1: an event of so many bytes has its place in it. */
ngx_uint_t ngx_http_hotpath_group_fit(ngx_http_hotpath_group_t *group,
    size_t size, ngx_uint_t most_events, size_t most_bytes);

/* size is hp_event_size() of the event. NULL: no memory, nothing changed. */
ngx_http_hotpath_waiter_t *ngx_http_hotpath_group_add(
    ngx_http_hotpath_group_t *group, hp_event_t *event, size_t size,
    void *data);

/* Its bytes, as parts, of which there are GROUP_CHUNKS; gives how many. */
ngx_uint_t ngx_http_hotpath_group_parts(ngx_http_hotpath_group_t *group,
    ngx_str_t *parts);

/* Its end, with its result set: it leaves the queue that it is in, and all who
 * wait are told in this turn of the event loop or soon. */
void ngx_http_hotpath_group_answer(ngx_http_hotpath_group_t *group);

/* Its end without a word: it leaves the queue that it is in. */
void ngx_http_hotpath_group_recycle(ngx_http_hotpath_group_t *group);


#endif /* _NGX_HTTP_HOTPATH_GROUP_H_INCLUDED_ */
