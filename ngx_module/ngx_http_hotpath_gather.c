/*
 * ngx_http_hotpath_gather.c: answers to pipelined requests leave together.
 *
 * While an answer is sent whose successor is already in the header buffer, the
 * connection's send_chain is ours: it copies the answer into a buffer and
 * calls it sent. Whatever is sent next on that connection, by whomever, goes
 * through it too and takes the buffer along, in front, in one system call.
 * Where nothing comes next in this turn of the event loop, an event posted for
 * the next turn sends what is there. So an answer waits for nothing but other
 * answers that are being made at the same time.
 *
 * Owns a fixed number of buffers per worker; a connection has one only from
 * the first answer kept until it is sent. Where there is none left, or the
 * answer is not in memory, or the connection is TLS or HTTP/2, nothing is
 * kept. A connection that is closed between two of its pipelined requests
 * without an answer (return 444) takes what is kept with it, as it takes what
 * the kernel has not sent: for that to be rare, only what stands before a
 * request line with the same beginning is kept. Never in here: a wait.
 * Test: tests/integration/test_pipeline.py.
 */


#include "ngx_http_hotpath_gather.h"


#define NGX_HTTP_HOTPATH_GATHERS      64
#define NGX_HTTP_HOTPATH_GATHER_SIZE  16384

/* Until a socket that takes nothing is tried again, where no answer follows
 * that nginx itself would wait with. */
#define NGX_HTTP_HOTPATH_GATHER_MS    10


typedef struct ngx_http_hotpath_gather_s  ngx_http_hotpath_gather_t;

struct ngx_http_hotpath_gather_s {
    ngx_http_hotpath_gather_t  *next;        /* of the free ones */
    ngx_connection_t           *connection;
    ngx_atomic_uint_t           number;      /* of that connection */
    ngx_send_chain_pt           send_chain;  /* the connection's own */
    ngx_buf_t                   buf;
    ngx_chain_t                 link;
    ngx_event_t                 event;
    ngx_uint_t                  keep;        /* what is sent now is kept */
};


static ngx_http_hotpath_gather_t *ngx_http_hotpath_gather_of(
    ngx_connection_t *c);
static ngx_http_hotpath_gather_t *ngx_http_hotpath_gather_take(
    ngx_connection_t *c);
static void ngx_http_hotpath_gather_give(ngx_http_hotpath_gather_t *g);
static ngx_chain_t *ngx_http_hotpath_gather_send(ngx_connection_t *c,
    ngx_chain_t *in, off_t limit);
static ngx_int_t ngx_http_hotpath_gather_keep(ngx_http_hotpath_gather_t *g,
    ngx_chain_t *in, off_t limit);
static void ngx_http_hotpath_gather_late(ngx_event_t *ev);


/* This worker's. */
static ngx_http_hotpath_gather_t   *ngx_http_hotpath_gather_free;
static ngx_http_hotpath_gather_t  **ngx_http_hotpath_gathers;  /* by place in
                                                  cycle->connections */
static ngx_connection_t            *ngx_http_hotpath_gather_base;


ngx_int_t
ngx_http_hotpath_gather_start(ngx_cycle_t *cycle)
{
    u_char                     *p;
    ngx_uint_t                  i;
    ngx_http_hotpath_gather_t  *g;

    ngx_http_hotpath_gather_free = NULL;
    ngx_http_hotpath_gather_base = cycle->connections;

    ngx_http_hotpath_gathers = ngx_pcalloc(cycle->pool, cycle->connection_n
                                         * sizeof(ngx_http_hotpath_gather_t *));
    g = ngx_pcalloc(cycle->pool, NGX_HTTP_HOTPATH_GATHERS
                                 * sizeof(ngx_http_hotpath_gather_t));
    p = ngx_palloc(cycle->pool, NGX_HTTP_HOTPATH_GATHERS
                                * NGX_HTTP_HOTPATH_GATHER_SIZE);

    if (ngx_http_hotpath_gathers == NULL || g == NULL || p == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_HTTP_HOTPATH_GATHERS; i++, g++) {
        g->buf.start = p;
        g->buf.temporary = 1;
        g->link.buf = &g->buf;
        p += NGX_HTTP_HOTPATH_GATHER_SIZE;
        g->buf.end = p;

        g->event.handler = ngx_http_hotpath_gather_late;
        g->event.data = g;
        g->event.log = cycle->log;
        g->event.cancelable = 1;

        g->next = ngx_http_hotpath_gather_free;
        ngx_http_hotpath_gather_free = g;
    }

    return NGX_OK;
}


void
ngx_http_hotpath_gather_begin(ngx_http_request_t *r)
{
    size_t                      len;
    ngx_buf_t                  *b;
    ngx_connection_t           *c;
    ngx_http_core_loc_conf_t   *clcf;
    ngx_http_hotpath_gather_t  *g;

    b = r->header_in;

    if (b == NULL || b->pos == b->last) {
        return;                        /* nothing follows; nearly always */
    }

    c = r->connection;

    if (r != r->main || !r->keepalive
        || r->http_version != NGX_HTTP_VERSION_11
#if (NGX_HTTP_SSL)
        || c->ssl
#endif
#if (NGX_HTTP_V2)
        || r->stream
#endif
       )
    {
        return;
    }

    /* the method and the location's name, as they stand in the request line */

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    len = r->method_name.len + 1 + clcf->name.len;

    if (len > r->request_line.len
        || len > (size_t) (b->last - b->pos)
        || ngx_memcmp(b->pos, r->request_line.data, len) != 0)
    {
        return;
    }

    g = ngx_http_hotpath_gather_of(c);

    if (g == NULL) {
        g = ngx_http_hotpath_gather_take(c);
    }

    if (g) {
        g->keep = 1;
    }
}


void
ngx_http_hotpath_gather_end(ngx_http_request_t *r)
{
    ngx_http_hotpath_gather_t  *g;

    if (r->header_in == NULL || r->header_in->pos == r->header_in->last) {
        return;
    }

    g = ngx_http_hotpath_gather_of(r->connection);

    if (g) {
        g->keep = 0;
    }
}


static ngx_http_hotpath_gather_t *
ngx_http_hotpath_gather_of(ngx_connection_t *c)
{
    /* a place is taken only while the connection's send_chain is ours */

    if (c->send_chain != ngx_http_hotpath_gather_send) {
        return NULL;
    }

    return ngx_http_hotpath_gathers[c - ngx_http_hotpath_gather_base];
}


static ngx_http_hotpath_gather_t *
ngx_http_hotpath_gather_take(ngx_connection_t *c)
{
    ngx_http_hotpath_gather_t  *g;

    g = ngx_http_hotpath_gather_free;

    if (g == NULL) {
        return NULL;
    }

    ngx_http_hotpath_gather_free = g->next;

    g->connection = c;
    g->number = c->number;
    g->send_chain = c->send_chain;
    g->buf.pos = g->buf.start;
    g->buf.last = g->buf.start;
    g->keep = 0;

    c->send_chain = ngx_http_hotpath_gather_send;
    ngx_http_hotpath_gathers[c - ngx_http_hotpath_gather_base] = g;

    ngx_post_event(&g->event, &ngx_posted_next_events);

    return g;
}


/* Back to the free ones; the connection is as it was, or another's by now. */

static void
ngx_http_hotpath_gather_give(ngx_http_hotpath_gather_t *g)
{
    ngx_connection_t  *c;

    c = g->connection;

    if (c->number == g->number && ngx_http_hotpath_gather_of(c) == g) {
        c->send_chain = g->send_chain;
    }

    if (g->event.posted) {
        ngx_delete_posted_event(&g->event);
    }

    if (g->event.timer_set) {
        ngx_del_timer(&g->event);
    }

    g->connection = NULL;
    g->next = ngx_http_hotpath_gather_free;
    ngx_http_hotpath_gather_free = g;
}


static ngx_chain_t *
ngx_http_hotpath_gather_send(ngx_connection_t *c, ngx_chain_t *in, off_t limit)
{
    size_t                      kept;
    ngx_chain_t                *rest;
    ngx_http_hotpath_gather_t  *g;

    g = ngx_http_hotpath_gathers[c - ngx_http_hotpath_gather_base];

    if (g->keep && ngx_http_hotpath_gather_keep(g, in, limit) == NGX_OK) {
        return NULL;
    }

    kept = g->buf.last - g->buf.pos;

    g->link.next = in;
    rest = g->send_chain(c, kept ? &g->link : in, limit ? limit + kept : 0);

    /* those bytes were counted when they were kept */
    c->sent -= kept - (g->buf.last - g->buf.pos);

    if (rest == NGX_CHAIN_ERROR) {
        ngx_http_hotpath_gather_give(g);
        return rest;
    }

    if (g->buf.pos < g->buf.last) {
        return in;                     /* and nothing of it was sent */
    }

    ngx_http_hotpath_gather_give(g);

    return rest;
}


/* NGX_DECLINED: there is no room for it. */

static ngx_int_t
ngx_http_hotpath_gather_keep(ngx_http_hotpath_gather_t *g, ngx_chain_t *in,
    off_t limit)
{
    size_t        size, room;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    room = g->buf.end - g->buf.last;

    if (limit && (off_t) room > limit) {
        room = (size_t) limit;
    }

    for (cl = in; cl; cl = cl->next) {
        b = cl->buf;

        if (ngx_buf_special(b)) {
            continue;
        }

        if (!ngx_buf_in_memory(b) || (size_t) (b->last - b->pos) > room) {
            return NGX_DECLINED;
        }

        room -= b->last - b->pos;
    }

    for (cl = in; cl; cl = cl->next) {
        b = cl->buf;

        if (ngx_buf_special(b)) {
            continue;
        }

        size = b->last - b->pos;
        g->buf.last = ngx_cpymem(g->buf.last, b->pos, size);
        b->pos = b->last;
        g->connection->sent += size;
    }

    return NGX_OK;
}


/* A turn of the event loop later, and nobody has taken it along. */

static void
ngx_http_hotpath_gather_late(ngx_event_t *ev)
{
    size_t                      kept;
    ngx_chain_t                *rest;
    ngx_connection_t           *c;
    ngx_http_hotpath_gather_t  *g;

    g = ev->data;
    c = g->connection;

    if (c->fd == (ngx_socket_t) -1 || c->number != g->number || c->error) {
        ngx_http_hotpath_gather_give(g);
        return;
    }

    kept = g->buf.last - g->buf.pos;
    rest = NULL;

    if (kept) {
        g->link.next = NULL;
        rest = g->send_chain(c, &g->link, 0);
        c->sent -= kept - (g->buf.last - g->buf.pos);
    }

    if (rest == NGX_CHAIN_ERROR) {
        /* whoever reads or writes next finds it out as well */
        c->error = 1;
    }

    if (rest == NULL || rest == NGX_CHAIN_ERROR) {
        ngx_http_hotpath_gather_give(g);
        return;
    }

    ngx_add_timer(&g->event, NGX_HTTP_HOTPATH_GATHER_MS);
}
