/*
 * ngx_http_hotpath_publish.h: group commit into JetStream.
 *
 * Events gather per partition while a small window of messages is in flight,
 * then go as one message; its PubAck answers all of them. At low load a message
 * carries one event and nothing waits; under load the group grows with the
 * broker's latency and a short linger. Knows nats, stream, group, metrics, the
 * clock of shm and core/; tells the outcome to one handler and never includes
 * request.
 */
#ifndef _NGX_HTTP_HOTPATH_PUBLISH_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_PUBLISH_H_INCLUDED_


#include "ngx_http_hotpath_group.h"
#include "ngx_http_hotpath_stream.h"
#include "core/hp_priority.h"


typedef struct ngx_http_hotpath_publish_s  ngx_http_hotpath_publish_t;


/* What the operator says that a PubAck survives; a broker does not tell. */
#define NGX_HTTP_HOTPATH_DURABILITY_PROCESS     0  /* its process */
#define NGX_HTTP_HOTPATH_DURABILITY_REPLICATED  1  /* a machine */
#define NGX_HTTP_HOTPATH_DURABILITY_SYNC        2  /* the power of all */


/* Written when the configuration is read. */
typedef struct {
    ngx_str_t    stream;       /* prefix; "_<partition>" follows */
    ngx_str_t    subject;      /* prefix; ".<partition>" follows */
    ngx_uint_t   partitions;   /* 1 to HP_PARTITIONS_MAX */
    ngx_uint_t   priorities;   /* 1 to HP_PRIORITIES, a stream for each */
    ngx_uint_t   window;       /* messages in flight per partition */
    ngx_uint_t   group_events; /* most events in one message */
    size_t       group_bytes;  /* most bytes in one message */
    size_t       queue_bytes;  /* most bytes waiting, all partitions together */
    size_t       backlog_bytes; /* in a partition's streams; 0: no bound */
    ngx_msec_t   timeout;      /* from publish() to the outcome */
    ngx_uint_t   linger_us;    /* a group under load waits so long for more */
    ngx_uint_t   storage;      /* hp_storage_e that the streams must have */
    ngx_uint_t   replicas;     /* at least */
    ngx_msec_t   duplicate_window;  /* at least */
    ngx_uint_t   durability;
} ngx_http_hotpath_publish_conf_t;


ngx_http_hotpath_publish_t *ngx_http_hotpath_publish_start(
    ngx_cycle_t *cycle, ngx_http_hotpath_publish_conf_t *conf,
    ngx_http_hotpath_nats_t *nats, ngx_http_hotpath_publish_pt handler,
    void *ctx);
void ngx_http_hotpath_publish_stop(ngx_http_hotpath_publish_t *publish);

/*
 * Copies the event into the group of its partition and priority. NGX_OK:
 * *waiter is set and the handler will be called exactly once, later.
 * NGX_DECLINED: no broker. NGX_ABORT: their stream is not there, or not fit.
 * NGX_BUSY: the queue is full. NGX_AGAIN: it is as full, or the partition's
 * backlog as long, as those of this priority may make it. NGX_ERROR: the event
 * is larger than a message may be. With anew the broker will not take it for a
 * repeat of an earlier one.
 */
ngx_int_t ngx_http_hotpath_publish_event(ngx_http_hotpath_publish_t *publish,
    ngx_uint_t partition, ngx_uint_t priority, hp_event_t *event,
    ngx_uint_t anew, void *data, ngx_http_hotpath_waiter_t **waiter);

/* The stream of that number as it was when it was last asked for, 0 where it is
 * not known; and when that was, in milliseconds before now. */
uint64_t ngx_http_hotpath_publish_looked(ngx_http_hotpath_publish_t *publish,
    ngx_uint_t number, ngx_msec_t *age_ms);

typedef struct {
    ngx_uint_t  connected;     /* 1: the broker answers */
    ngx_uint_t  streams;       /* that are as was said */
    ngx_uint_t  wanted;        /* all of them */
    size_t      queued_bytes;
    ngx_str_t   stream;        /* one that is not; empty: none */
    const char *reason;        /* why, in a word; NULL: nobody knows yet */
} ngx_http_hotpath_publish_state_t;

void ngx_http_hotpath_publish_state(ngx_http_hotpath_publish_t *publish,
    ngx_http_hotpath_publish_state_t *state);


#endif /* _NGX_HTTP_HOTPATH_PUBLISH_H_INCLUDED_ */
