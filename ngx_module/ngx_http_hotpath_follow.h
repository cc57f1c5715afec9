/*
 * ngx_http_hotpath_follow.h: what has become of operations, now or as soon as
 * it is decided.
 *
 * status and request ask here; the answer comes from shared memory, from the
 * drain's notices, or from Postgres, which is asked a bounded number of times:
 * 2 + log2(wait / 100 ms) for each operation at most.
 */
#ifndef _NGX_HTTP_HOTPATH_FOLLOW_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_FOLLOW_H_INCLUDED_


#include "ngx_http_hotpath_module.h"
#include "ngx_http_hotpath_wait.h"
#include "core/hp_http.h"


#define NGX_HTTP_HOTPATH_FOLLOW_CODE  32

/* One row: state, accepted and processed in microseconds, code, conflict, the
 * payload's fingerprint, where its stream is. Parameters: the operation, its
 * partition (-1 where that is not known) and its priority. */
#define NGX_HTTP_HOTPATH_FOLLOW_SQL                                           \
    "SELECT CASE WHEN o.operation_id IS NULL THEN ''"                         \
    " WHEN o.state = 2 THEN 'dead' ELSE 'processed' END,"                     \
    " (extract(epoch FROM o.accepted_at) * 1000000)::bigint,"                 \
    " (extract(epoch FROM o.processed_at) * 1000000)::bigint,"                \
    " coalesce(o.code, ''), o.conflicts > 0, encode(o.fingerprint, 'hex'),"   \
    " coalesce(s.stream_created, ''), coalesce(s.last_sequence, 0),"          \
    " coalesce((extract(epoch FROM s.empty_at) * 1000000)::bigint, 0)"        \
    " FROM (VALUES (1)) AS one"                                               \
    " LEFT JOIN hotpath.operations o ON o.operation_id = $1::uuid"            \
    " LEFT JOIN hotpath.streams s ON s.partition = $2::integer"               \
    " AND s.priority = $3"


typedef enum {
    NGX_HTTP_HOTPATH_FATE_UNKNOWN = 0,   /* nobody knows it */
    NGX_HTTP_HOTPATH_FATE_UNAVAILABLE,   /* Postgres might, and is not there */
    NGX_HTTP_HOTPATH_FATE_ACCEPTED,      /* not decided yet */
    NGX_HTTP_HOTPATH_FATE_PROCESSED,
    NGX_HTTP_HOTPATH_FATE_DEAD,
    NGX_HTTP_HOTPATH_FATE_LOST           /* and never will be: send it again */
} ngx_http_hotpath_fate_e;


typedef struct {
    ngx_http_hotpath_fate_e           fate;
    int64_t                           accepted_us;
    int64_t                           processed_us;   /* 0: not known */
    u_char                            code[NGX_HTTP_HOTPATH_FOLLOW_CODE];
    ngx_uint_t                        code_len;       /* dead; 0: not known */
    u_char                            fingerprint[8]; /* with row */
    unsigned                          conflict:1;     /* another payload came */
    unsigned                          row:1;          /* that is what Postgres
                                                         says */
} ngx_http_hotpath_fate_t;


typedef struct ngx_http_hotpath_follow_s   ngx_http_hotpath_follow_t;
typedef struct ngx_http_hotpath_follows_s  ngx_http_hotpath_follows_t;

/* One operation that is followed. */
struct ngx_http_hotpath_follow_s {
    ngx_http_hotpath_follows_t        *follows;
    ngx_http_hotpath_postgres_call_t  *call;
    ngx_http_hotpath_fate_t            fate;
    ngx_http_hotpath_wait_t            wait;
    ngx_msec_t                         not_before;    /* to ask Postgres */
    ngx_msec_t                         pause_ms;
    u_char                             id[HP_UUID_SIZE];
    unsigned                           waits:1;       /* now */
    unsigned                           waited:1;
    unsigned                           done:1;
};


typedef void (*ngx_http_hotpath_follow_pt)(void *data);

/* The operations of one request. */
struct ngx_http_hotpath_follows_s {
    ngx_http_hotpath_main_conf_t      *mcf;
    ngx_http_hotpath_follow_pt         handler;
    void                              *data;
    ngx_uint_t                         n;
    ngx_uint_t                         pending;
    unsigned                           begun:1;
    ngx_http_hotpath_follow_t          follow[1];     /* n of them */
};


/* n of them in the request's memory, with their ids to be set; NULL: there is
 * none. handler is called once, when nothing is pending any longer, unless
 * _begin() has said so or the request is gone. */
ngx_http_hotpath_follows_t *ngx_http_hotpath_follows(ngx_http_request_t *r,
    ngx_uint_t n, ngx_http_hotpath_follow_pt handler, void *data);

/* Asks for all of them, and with ms waits until each is decided, at most for so
 * long (and for a question to Postgres that is under way then). NGX_OK: what
 * there is to know stands in their fates. NGX_AGAIN: later. */
ngx_int_t ngx_http_hotpath_follows_begin(ngx_http_hotpath_follows_t *follows,
    ngx_msec_t ms);

/* 1 where it will not change any more. */
ngx_uint_t ngx_http_hotpath_fate_decided(ngx_http_hotpath_fate_t *fate);

/* The document of a status, where it is known; status is the writer. At p is
 * room for so many bytes. */
#define NGX_HTTP_HOTPATH_STATUS_BODY  512
u_char *ngx_http_hotpath_status_write(u_char *p, u_char *id,
    ngx_http_hotpath_fate_t *fate);

/* What the request prefers; a wait is a day at most. */
void ngx_http_hotpath_follow_prefer(ngx_http_request_t *r,
    hp_prefer_t *prefer);


#endif /* _NGX_HTTP_HOTPATH_FOLLOW_H_INCLUDED_ */
