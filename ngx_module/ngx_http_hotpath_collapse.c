/*
 * ngx_http_hotpath_collapse.c: of the requests for one key, one goes to the
 * upstream and the others wait for what it brings.
 *
 * A collapse is a key that somebody goes to an upstream for: a request of this
 * worker leads it, or it is remote: another worker has the flight. When that
 * ends, those who wait are called one after another, in the order in which
 * they came, until one of them leads again. So after an answer was stored all
 * of them find it, and after a failure the upstream sees one at a time. Only
 * "pass" is for everybody at once.
 *
 * Owns the collapses (each ends with its lead and the last who waits), never
 * the waiters, which are in the pools of their requests. They are called from
 * posted events, so that none runs inside the filter or the clean-up of
 * another, and in batches, so that a thousand do not hold the event loop. Runs
 * in workers. Never in here: a request, or a wait without a deadline.
 *
 * Tests: tests/integration/test_output_collapse.py,
 * tests/faults/test_upstream.py.
 */


#include "ngx_http_hotpath_collapse.h"
#include "ngx_http_hotpath_flight.h"
#include "ngx_http_hotpath_metrics.h"
#include "core/hp_id.h"


/* How often a flight of another worker is looked at, beside its wake-up, and
 * how many are called in one turn of the event loop. */
#define NGX_HTTP_HOTPATH_COLLAPSE_LOOK_MS  50
#define NGX_HTTP_HOTPATH_COLLAPSE_BATCH    64


struct ngx_http_hotpath_collapse_s {
    ngx_str_node_t                 node;
    ngx_queue_t                    waiters;
    ngx_queue_t                    queue;      /* among the remote ones */
    ngx_event_t                    turn;       /* posted: call who waits */
    ngx_event_t                    timer;      /* of a remote one */
    uint64_t                       hash;       /* of the flight */
    ngx_http_hotpath_collapse_e    why;        /* it ended */
    unsigned                       led:1;      /* a request here leads */
    unsigned                       flying:1;   /* and must leave the flight */
    unsigned                       remote:1;
    unsigned                       gone:1;     /* no longer in the tree */
    unsigned                       turning:1;
};


static ngx_http_hotpath_collapse_t *ngx_http_hotpath_collapse_create(
    ngx_str_t *key);
static void ngx_http_hotpath_collapse_release(ngx_http_hotpath_collapse_t *c);
static void ngx_http_hotpath_collapse_unlink(ngx_http_hotpath_collapse_t *c);
static void ngx_http_hotpath_collapse_turn(ngx_event_t *ev);
static void ngx_http_hotpath_collapse_woken(void *data);
static void ngx_http_hotpath_collapse_check(ngx_event_t *ev);
static void ngx_http_hotpath_collapse_landed(ngx_http_hotpath_collapse_t *c);
static void ngx_http_hotpath_collapse_timer(ngx_event_t *ev);
static void ngx_http_hotpath_collapse_count(ngx_int_t n);


static ngx_rbtree_t       ngx_http_hotpath_collapses;
static ngx_rbtree_node_t  ngx_http_hotpath_collapses_sentinel;
static ngx_queue_t        ngx_http_hotpath_collapses_remote;


ngx_int_t
ngx_http_hotpath_collapse_start(ngx_cycle_t *cycle)
{
    ngx_rbtree_init(&ngx_http_hotpath_collapses,
                    &ngx_http_hotpath_collapses_sentinel,
                    ngx_str_rbtree_insert_value);

    ngx_queue_init(&ngx_http_hotpath_collapses_remote);

    return ngx_http_hotpath_flight_on_wake(ngx_http_hotpath_collapse_woken,
                                           NULL);
}


ngx_int_t
ngx_http_hotpath_collapse_enter(ngx_str_t *key, ngx_msec_t ms,
    ngx_http_hotpath_collapse_waiter_t *waiter,
    ngx_http_hotpath_collapse_t **lead)
{
    uint32_t                      hash;
    ngx_http_hotpath_collapse_t  *c;

    hash = ngx_crc32_short(key->data, key->len);

    c = (ngx_http_hotpath_collapse_t *)
            ngx_str_rbtree_lookup(&ngx_http_hotpath_collapses, key, hash);

    if (c == NULL) {
        c = ngx_http_hotpath_collapse_create(key);
        if (c == NULL) {
            return NGX_DECLINED;
        }

        c->node.node.key = hash;
        ngx_rbtree_insert(&ngx_http_hotpath_collapses, &c->node.node);
    }

    if (!c->led && !c->remote) {

        switch (ngx_http_hotpath_flight_enter(c->hash, ms)) {

        case NGX_OK:
            c->flying = 1;
            c->led = 1;
            *lead = c;
            return NGX_OK;

        case NGX_AGAIN:
            c->remote = 1;
            ngx_queue_insert_tail(&ngx_http_hotpath_collapses_remote,
                                  &c->queue);
            ngx_add_timer(&c->timer, NGX_HTTP_HOTPATH_COLLAPSE_LOOK_MS);
            break;

        default: /* NGX_DECLINED */
            c->led = 1;
            *lead = c;
            return NGX_OK;
        }
    }

    if (waiter == NULL) {
        ngx_http_hotpath_collapse_release(c);
        return NGX_AGAIN;
    }

    waiter->collapse = c;
    waiter->timer.handler = ngx_http_hotpath_collapse_timer;
    waiter->timer.data = waiter;
    waiter->timer.log = ngx_cycle->log;

    ngx_queue_insert_tail(&c->waiters, &waiter->queue);
    ngx_add_timer(&waiter->timer, ms);
    ngx_http_hotpath_collapse_count(1);

    return NGX_AGAIN;
}


static ngx_http_hotpath_collapse_t *
ngx_http_hotpath_collapse_create(ngx_str_t *key)
{
    ngx_http_hotpath_collapse_t  *c;

    c = ngx_calloc(sizeof(ngx_http_hotpath_collapse_t) + key->len,
                   ngx_cycle->log);
    if (c == NULL) {
        return NULL;
    }

    c->node.str.data = (u_char *) c + sizeof(ngx_http_hotpath_collapse_t);
    c->node.str.len = key->len;
    ngx_memcpy(c->node.str.data, key->data, key->len);

    /* not the hash that a read model's fetch has of its key */
    c->hash = hp_hash64(key->data, key->len, 1);

    if (c->hash == 0) {
        c->hash = 1;
    }

    ngx_queue_init(&c->waiters);

    c->turn.handler = ngx_http_hotpath_collapse_turn;
    c->turn.data = c;
    c->turn.log = ngx_cycle->log;

    c->timer.handler = ngx_http_hotpath_collapse_check;
    c->timer.data = c;
    c->timer.log = ngx_cycle->log;

    return c;
}


/* Frees it where nobody needs it any more. */

static void
ngx_http_hotpath_collapse_release(ngx_http_hotpath_collapse_t *c)
{
    if (c->led || c->turning || !ngx_queue_empty(&c->waiters)) {
        return;
    }

    if (c->remote) {
        ngx_queue_remove(&c->queue);
        ngx_del_timer(&c->timer);
    }

    if (c->turn.posted) {
        ngx_delete_posted_event(&c->turn);
    }

    ngx_http_hotpath_collapse_unlink(c);
    ngx_free(c);
}


static void
ngx_http_hotpath_collapse_unlink(ngx_http_hotpath_collapse_t *c)
{
    if (!c->gone) {
        ngx_rbtree_delete(&ngx_http_hotpath_collapses, &c->node.node);
        c->gone = 1;
    }
}


void
ngx_http_hotpath_collapse_end(ngx_http_hotpath_collapse_t *c,
    ngx_http_hotpath_collapse_e why)
{
    c->led = 0;
    c->why = why;

    if (c->flying) {
        c->flying = 0;
        ngx_http_hotpath_flight_leave(c->hash);
    }

    if (why == ngx_http_hotpath_collapse_pass) {
        /* who comes from now on has nothing to do with those who wait */
        ngx_http_hotpath_collapse_unlink(c);
    }

    if (!ngx_queue_empty(&c->waiters)) {
        ngx_post_event(&c->turn, &ngx_posted_events);
    }

    ngx_http_hotpath_collapse_release(c);
}


ngx_uint_t
ngx_http_hotpath_collapse_awaited(ngx_http_hotpath_collapse_t *c)
{
    return !ngx_queue_empty(&c->waiters);
}


static void
ngx_http_hotpath_collapse_turn(ngx_event_t *ev)
{
    ngx_uint_t                           n;
    ngx_queue_t                         *q;
    ngx_http_hotpath_collapse_t         *c;
    ngx_http_hotpath_collapse_waiter_t  *waiter;

    c = ev->data;
    c->turning = 1;

    for (n = 0; !c->led && !c->remote && !ngx_queue_empty(&c->waiters); n++) {

        if (n == NGX_HTTP_HOTPATH_COLLAPSE_BATCH) {
            ngx_post_event(ev, &ngx_posted_next_events);
            break;
        }

        q = ngx_queue_head(&c->waiters);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_http_hotpath_collapse_waiter_t, queue);
        waiter->collapse = NULL;
        ngx_del_timer(&waiter->timer);
        ngx_http_hotpath_collapse_count(-1);

        waiter->handler(waiter, c->why);
    }

    c->turning = 0;
    ngx_http_hotpath_collapse_release(c);
}


static void
ngx_http_hotpath_collapse_woken(void *data)
{
    ngx_queue_t                  *q, *next;
    ngx_http_hotpath_collapse_t  *c;

    for (q = ngx_queue_head(&ngx_http_hotpath_collapses_remote);
         q != ngx_queue_sentinel(&ngx_http_hotpath_collapses_remote);
         q = next)
    {
        next = ngx_queue_next(q);
        c = ngx_queue_data(q, ngx_http_hotpath_collapse_t, queue);

        if (!ngx_http_hotpath_flight_held(c->hash)) {
            ngx_http_hotpath_collapse_landed(c);
        }
    }
}


static void
ngx_http_hotpath_collapse_check(ngx_event_t *ev)
{
    ngx_http_hotpath_collapse_t *c = ev->data;

    if (ngx_http_hotpath_flight_held(c->hash)) {
        ngx_add_timer(ev, NGX_HTTP_HOTPATH_COLLAPSE_LOOK_MS);
        return;
    }

    ngx_http_hotpath_collapse_landed(c);
}


/* The other worker has ended, in which way is in the zone. */

static void
ngx_http_hotpath_collapse_landed(ngx_http_hotpath_collapse_t *c)
{
    c->remote = 0;
    c->why = ngx_http_hotpath_collapse_look;

    ngx_queue_remove(&c->queue);

    if (c->timer.timer_set) {
        ngx_del_timer(&c->timer);
    }

    ngx_post_event(&c->turn, &ngx_posted_events);
}


static void
ngx_http_hotpath_collapse_timer(ngx_event_t *ev)
{
    ngx_http_hotpath_collapse_waiter_t *waiter = ev->data;

    ngx_http_hotpath_collapse_leave(waiter);
    waiter->handler(waiter, ngx_http_hotpath_collapse_late);
}


void
ngx_http_hotpath_collapse_leave(ngx_http_hotpath_collapse_waiter_t *waiter)
{
    ngx_http_hotpath_collapse_t *c = waiter->collapse;

    if (c == NULL) {
        return;
    }

    waiter->collapse = NULL;
    ngx_queue_remove(&waiter->queue);
    ngx_http_hotpath_collapse_count(-1);

    if (waiter->timer.timer_set) {
        ngx_del_timer(&waiter->timer);
    }

    ngx_http_hotpath_collapse_release(c);
}


/* The gauge is what this process has; at a reload two of them write it. */

static void
ngx_http_hotpath_collapse_count(ngx_int_t n)
{
    static ngx_int_t  waiting;

    waiting += n;

    ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_OUTPUT_WAITING] =
                                                          (uint64_t) waiting;
}
