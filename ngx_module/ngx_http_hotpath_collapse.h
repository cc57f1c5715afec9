/*
 * ngx_http_hotpath_collapse.h: of the requests for one key, one goes to the
 * upstream and the others wait for what it brings.
 *
 * In this worker by a tree, across the workers by flight. Knows flight and
 * metrics.
 */
#ifndef _NGX_HTTP_HOTPATH_COLLAPSE_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_COLLAPSE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


typedef struct ngx_http_hotpath_collapse_s         ngx_http_hotpath_collapse_t;
typedef struct ngx_http_hotpath_collapse_waiter_s
    ngx_http_hotpath_collapse_waiter_t;


/* Why somebody who waited waits no more. */
typedef enum {
    ngx_http_hotpath_collapse_look = 0,  /* it may be there now: look */
    ngx_http_hotpath_collapse_failed,    /* the upstream did not answer */
    ngx_http_hotpath_collapse_pass,      /* nothing will ever be there */
    ngx_http_hotpath_collapse_late       /* it took too long */
} ngx_http_hotpath_collapse_e;


/* Called once, from the event loop, unless the waiter left before. It may
 * enter again. */
typedef void (*ngx_http_hotpath_collapse_pt)(
    ngx_http_hotpath_collapse_waiter_t *waiter,
    ngx_http_hotpath_collapse_e why);

/* The caller's memory, until it was called or has left. Zeroed but for the
 * handler. */
struct ngx_http_hotpath_collapse_waiter_s {
    ngx_queue_t                     queue;
    ngx_event_t                     timer;
    ngx_http_hotpath_collapse_t    *collapse;   /* NULL: waits for nothing */
    ngx_http_hotpath_collapse_pt    handler;
};


/* In every worker, behind flight. */
ngx_int_t ngx_http_hotpath_collapse_start(ngx_cycle_t *cycle);

/*
 * NGX_OK: the caller goes to the upstream and must end *lead. NGX_AGAIN:
 * somebody does already, and waiter, unless it is NULL, waits up to ms.
 * NGX_DECLINED: no memory; go alone.
 */
ngx_int_t ngx_http_hotpath_collapse_enter(ngx_str_t *key, ngx_msec_t ms,
    ngx_http_hotpath_collapse_waiter_t *waiter,
    ngx_http_hotpath_collapse_t **lead);

/* Those who wait are called soon, not now. */
void ngx_http_hotpath_collapse_end(ngx_http_hotpath_collapse_t *lead,
    ngx_http_hotpath_collapse_e why);

/* 1 where somebody waits for it. */
ngx_uint_t ngx_http_hotpath_collapse_awaited(
    ngx_http_hotpath_collapse_t *lead);

void ngx_http_hotpath_collapse_leave(
    ngx_http_hotpath_collapse_waiter_t *waiter);


#endif /* _NGX_HTTP_HOTPATH_COLLAPSE_H_INCLUDED_ */
