/*
 * ngx_http_hotpath_hold.c: an event that waits for another with its key.
 *
 * While an operation is in flight, an event for the same one may wait for what
 * becomes of it; where that fails, one of those who wait is published in its
 * place. So each keeps a copy of its event, in one block of the heap: the text
 * that it was read from is gone by then. All of a worker's share the bound that
 * bodies have (hotpath_body_memory), and their number that of waits
 * (hotpath_wait_max).
 *
 * Owns the copies, each until its request leaves, which it does from its
 * clean-up at the latest. Runs in the event loop of a worker. Never in here: a
 * look at the table of operations, or a wait without a deadline.
 * Test: tests/integration/test_idempotency.py.
 */


#include "ngx_http_hotpath_hold.h"
#include "ngx_http_hotpath_body.h"


static u_char *ngx_http_hotpath_hold_copy(u_char *p, hp_str_t *text);


ngx_http_hotpath_hold_t *
ngx_http_hotpath_hold_enter(hp_event_t *event, hp_str_t *partition_key,
    size_t memory_max, ngx_msec_t ms, ngx_http_hotpath_wait_pt handler,
    void *data)
{
    u_char                   *p;
    size_t                    size;
    ngx_http_hotpath_hold_t  *hold;

    size = sizeof(ngx_http_hotpath_hold_t) + event->key.len + event->type.len
           + event->attributes.len + event->payload.len + partition_key->len;

    if (ngx_http_hotpath_body_reserve(size, memory_max) != NGX_OK) {
        return NULL;
    }

    hold = ngx_alloc(size, ngx_cycle->log);
    if (hold == NULL) {
        ngx_http_hotpath_body_unreserve(size);
        return NULL;
    }

    ngx_memzero(hold, sizeof(ngx_http_hotpath_hold_t));

    hold->wait.handler = handler;
    hold->wait.data = data;
    hold->event = *event;
    hold->partition_key = *partition_key;
    hold->size = size;

    p = (u_char *) hold + sizeof(ngx_http_hotpath_hold_t);
    p = ngx_http_hotpath_hold_copy(p, &hold->event.key);
    p = ngx_http_hotpath_hold_copy(p, &hold->event.type);
    p = ngx_http_hotpath_hold_copy(p, &hold->event.attributes);
    p = ngx_http_hotpath_hold_copy(p, &hold->event.payload);
    (void) ngx_http_hotpath_hold_copy(p, &hold->partition_key);

    if (ngx_http_hotpath_wait_enter(&hold->wait, event->operation_id, ms)
        != NGX_OK)
    {
        ngx_http_hotpath_hold_leave(hold);
        return NULL;
    }

    return hold;
}


static u_char *
ngx_http_hotpath_hold_copy(u_char *p, hp_str_t *text)
{
    if (text->len == 0) {
        return p;
    }

    ngx_memcpy(p, text->data, text->len);
    text->data = p;

    return p + text->len;
}


void
ngx_http_hotpath_hold_leave(ngx_http_hotpath_hold_t *hold)
{
    ngx_http_hotpath_wait_leave(&hold->wait);
    ngx_http_hotpath_body_unreserve(hold->size);
    ngx_free(hold);
}
