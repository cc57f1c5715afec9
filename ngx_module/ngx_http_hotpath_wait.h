/*
 * ngx_http_hotpath_wait.h: requests that wait until something becomes known of
 * an operation, in whichever worker it becomes known.
 *
 * A waiter is woken when somebody says that its operation has changed, or that
 * its stream is committed as far as it waits for; what that means it asks
 * the table of operations. A wake-up may come without a cause, and after the
 * deadline none comes. Knows shm, backend and metrics.
 */
#ifndef _NGX_HTTP_HOTPATH_WAIT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_WAIT_H_INCLUDED_


#include "ngx_http_hotpath_shm.h"
#include "core/hp_priority.h"


#define NGX_HTTP_HOTPATH_WAIT_ANYWHERE  HP_STREAMS_MAX


typedef struct ngx_http_hotpath_wait_s  ngx_http_hotpath_wait_t;

/* Called from the event loop, never from within a function of this room. over:
 * that was its deadline, it has left; else it waits on until it leaves. */
typedef void (*ngx_http_hotpath_wait_pt)(ngx_http_hotpath_wait_t *wait,
    ngx_uint_t over);

/* One that waits: the caller's memory, zeroed before it enters and there until
 * it has left; handler and data are the caller's to set. */
struct ngx_http_hotpath_wait_s {
    ngx_http_hotpath_wait_pt   handler;
    void                      *data;

    ngx_queue_t                queue;      /* of its bucket */
    ngx_queue_t                due;        /* of those to be called */
    ngx_rbtree_node_t          node;       /* of its stream, by sequence */
    ngx_event_t                deadline;
    u_char                     id[HP_UUID_SIZE];
    unsigned                   number:8;   /* of the stream */
    unsigned                   inside:1;
    unsigned                   in_tree:1;
    unsigned                   is_due:1;
};


/* While the configuration is read: the table. */
ngx_int_t ngx_http_hotpath_wait_init(ngx_conf_t *cf);

/* In the master, before it forks the workers of a configuration. */
ngx_int_t ngx_http_hotpath_wait_prepare(ngx_cycle_t *cycle);

/* In every worker; max: of those that wait in it at a time. */
ngx_int_t ngx_http_hotpath_wait_start(ngx_cycle_t *cycle, ngx_uint_t max);
void ngx_http_hotpath_wait_stop(void);

/* 1 where so many more may wait in this worker; 0 is counted as "full". */
ngx_uint_t ngx_http_hotpath_wait_room(ngx_uint_t n);

/* NGX_OK: it waits, for ms at most; whoever enters asks the table of
 * operations afterwards, not before, or misses what happens in between.
 * NGX_BUSY: as many wait as may: do not. */
ngx_int_t ngx_http_hotpath_wait_enter(ngx_http_hotpath_wait_t *wait,
    const u_char id[HP_UUID_SIZE], ngx_msec_t ms);

/* Wakes it once more, as soon as the stream is committed up to sequence; with
 * WAIT_ANYWHERE when any of them has moved, but not before sequence,
 * which is a time like ngx_current_msec then. The same rule: ask afterwards. */
void ngx_http_hotpath_wait_until(ngx_http_hotpath_wait_t *wait,
    ngx_uint_t number, uint64_t sequence);

/* It waits no longer; nothing where it has left before. */
void ngx_http_hotpath_wait_leave(ngx_http_hotpath_wait_t *wait);

/* The operation has changed: wakes who waits for it, in every worker. To be
 * called after the table of operations says so. */
void ngx_http_hotpath_wait_wake(const u_char id[HP_UUID_SIZE]);

/* The same for all operations: a worker has begun, perhaps in the place of one
 * that was killed, whose operations nobody else will speak of. */
void ngx_http_hotpath_wait_wake_all(void);

/* The stream is committed up to sequence; all: wakes everybody who waits
 * for it, because sequences are not what they were. */
void ngx_http_hotpath_wait_moved(ngx_uint_t number, uint64_t sequence,
    ngx_uint_t all);

/* What came after the one sequence is committed up to the other, now; all: and
 * nothing is known of what came before. To be called before the table of
 * operations says so. */
void ngx_http_hotpath_wait_mark(ngx_uint_t number, uint64_t after,
    uint64_t sequence, ngx_uint_t all);

/* When that was said of the sequence, in microseconds since 1970; 0: too long
 * ago to be known. */
int64_t ngx_http_hotpath_wait_when(ngx_uint_t number, uint64_t sequence);


#endif /* _NGX_HTTP_HOTPATH_WAIT_H_INCLUDED_ */
