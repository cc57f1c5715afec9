/*
 * ngx_http_hotpath_hold.h: an event that waits for another with its key.
 *
 * Knows wait, body (whose bound on memory it shares) and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_HOLD_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_HOLD_H_INCLUDED_


#include "ngx_http_hotpath_wait.h"
#include "core/hp_frame.h"


typedef struct {
    ngx_http_hotpath_wait_t   wait;
    hp_event_t                event;
    hp_str_t                  partition_key;
    size_t                    size;           /* that it takes, all in all */
    unsigned                  over:1;         /* it has waited long enough */
} ngx_http_hotpath_hold_t;


/*
 * Copies what of the event may be gone when the request's text is (not tenant,
 * route and traceparent) and waits for whoever has its operation, ms at most;
 * the handler is called as that of wait, with data in hold->wait.data. NULL:
 * no memory, or as many wait as may. Ask the table of operations afterwards.
 */
ngx_http_hotpath_hold_t *ngx_http_hotpath_hold_enter(hp_event_t *event,
    hp_str_t *partition_key, size_t memory_max, ngx_msec_t ms,
    ngx_http_hotpath_wait_pt handler, void *data);

/* It waits no longer, and is gone. */
void ngx_http_hotpath_hold_leave(ngx_http_hotpath_hold_t *hold);


#endif /* _NGX_HTTP_HOTPATH_HOLD_H_INCLUDED_ */
