/*
 * ngx_http_hotpath_gather.c: answers that are made together leave together.
 *
 * While a whole answer is sent, the connection's send_chain is ours: it keeps
 * the answer in a buffer and calls it sent. Whatever is sent next on that
 * connection, by whomever, goes through it too and takes the buffer along, in
 * front, in one system call. Else an event posted for the end of this turn of
 * the event loop sends it (where a pipelined request follows, of the next
 * turn), or what comes before when all buffers are taken. So an answer waits
 * for nothing but other answers that are being made at the same time.
 *
 * Owns a fixed number of buffers per worker; a connection has one only from
 * the first answer kept until it is sent. Where there is none left, or the
 * answer is not in memory, or the connection is TLS or HTTP/2, or nginx will
 * close it after the answer, nothing is kept. A connection that is closed
 * between two of its pipelined requests without an answer (return 444) takes
 * what is kept with it, as it takes what the kernel has not sent: for that to
 * be rare, only what stands before a request line with the same beginning is
 * kept. Never in here: a wait. Test: tests/integration/test_pipeline.py.
 */


#include "ngx_http_hotpath_gather.h"


#define NGX_HTTP_HOTPATH_GATHERS      64
#define NGX_HTTP_HOTPATH_GATHER_SIZE  16384

/* Buffers do not begin in the same sets of the processor's cache. */
#define NGX_HTTP_HOTPATH_GATHER_STEP  (NGX_HTTP_HOTPATH_GATHER_SIZE + 320)

/* In front of the room for an answer's body, for its header. */
#define NGX_HTTP_HOTPATH_GATHER_HEAD  2048

/* Until a socket that takes nothing is tried again, where no answer follows
 * that nginx itself would wait with. */
#define NGX_HTTP_HOTPATH_GATHER_MS    10


typedef struct ngx_http_hotpath_gather_s  ngx_http_hotpath_gather_t;

struct ngx_http_hotpath_gather_s {
    ngx_http_hotpath_gather_t  *next;        /* of the free ones */
    ngx_connection_t           *connection;
    ngx_atomic_uint_t           number;      /* of that connection */
    ngx_send_chain_pt           send_chain;  /* the connection's own */
    ngx_event_handler_pt        idle;        /* its reader, where it was taken
                                                out of the idle ones */
    ngx_buf_t                   buf;         /* what is kept */
    ngx_chain_t                 link;
    ngx_event_t                 event;
    unsigned                    keep:1;      /* what is sent now is kept */
    unsigned                    room:1;      /* the end of it was given away */
    unsigned                    lent:1;      /* a request still needs that */
};


static ngx_http_hotpath_gather_t *ngx_http_hotpath_gather_of(
    ngx_connection_t *c);
static ngx_http_hotpath_gather_t *ngx_http_hotpath_gather_alone(
    ngx_connection_t *c);
static ngx_http_hotpath_gather_t *ngx_http_hotpath_gather_take(
    ngx_connection_t *c, ngx_queue_t *when);
static void ngx_http_hotpath_gather_flush(void);
static ngx_uint_t ngx_http_hotpath_gather_fits(ngx_http_request_t *r);
static ngx_chain_t *ngx_http_hotpath_gather_out(ngx_http_hotpath_gather_t *g,
    ngx_chain_t *in, off_t limit);
static void ngx_http_hotpath_gather_back(void *data);
static void ngx_http_hotpath_gather_give(ngx_http_hotpath_gather_t *g);
static ngx_chain_t *ngx_http_hotpath_gather_send(ngx_connection_t *c,
    ngx_chain_t *in, off_t limit);
static ngx_int_t ngx_http_hotpath_gather_keep(ngx_http_hotpath_gather_t *g,
    ngx_chain_t *in, off_t limit);
static void ngx_http_hotpath_gather_late(ngx_event_t *ev);


/* This worker's. */
static ngx_http_hotpath_gather_t   *ngx_http_hotpath_gather_all;
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
                                * NGX_HTTP_HOTPATH_GATHER_STEP);

    if (ngx_http_hotpath_gathers == NULL || g == NULL || p == NULL) {
        return NGX_ERROR;
    }

    ngx_http_hotpath_gather_all = g;

    for (i = 0; i < NGX_HTTP_HOTPATH_GATHERS; i++, g++) {
        g->buf.start = p;
        g->buf.temporary = 1;
        g->link.buf = &g->buf;
        g->buf.end = p + NGX_HTTP_HOTPATH_GATHER_SIZE;
        p += NGX_HTTP_HOTPATH_GATHER_STEP;

        g->event.handler = ngx_http_hotpath_gather_late;
        g->event.data = g;
        g->event.log = cycle->log;
        g->event.cancelable = 1;

        g->next = ngx_http_hotpath_gather_free;
        ngx_http_hotpath_gather_free = g;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_gather_room(ngx_http_request_t *r, ngx_str_t *room)
{
    ngx_http_hotpath_gather_t  *g;

    if (r->header_in == NULL || r->header_in->pos < r->header_in->last
        || !ngx_http_hotpath_gather_fits(r))
    {
        return NGX_DECLINED;
    }

    g = ngx_http_hotpath_gather_alone(r->connection);

    if (g == NULL) {
        return NGX_DECLINED;
    }

    g->room = 1;

    room->data = g->buf.start + NGX_HTTP_HOTPATH_GATHER_HEAD;
    room->len = g->buf.end - room->data;

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
    c = r->connection;
    g = ngx_http_hotpath_gather_of(c);

    if (g && g->room) {
        g->keep = 1;
        return;
    }

    if (b == NULL || !ngx_http_hotpath_gather_fits(r)) {
        return;
    }

    if (b->pos == b->last) {

        /* with what is kept already it goes at once */

        if (g == NULL) {
            g = ngx_http_hotpath_gather_alone(c);

        } else {
            g = NULL;
        }

    } else {

        /* the method and the location's name, as in this request's line */

        clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
        len = r->method_name.len + 1 + clcf->name.len;

        if (len > r->request_line.len
            || len > (size_t) (b->last - b->pos)
            || ngx_memcmp(b->pos, r->request_line.data, len) != 0)
        {
            return;
        }

        if (g == NULL) {
            g = ngx_http_hotpath_gather_take(c, &ngx_posted_next_events);
        }
    }

    if (g) {
        g->keep = 1;
    }
}


ngx_int_t
ngx_http_hotpath_gather_end(ngx_http_request_t *r)
{
    ngx_connection_t           *c;
    ngx_pool_cleanup_t         *cln;
    ngx_http_hotpath_gather_t  *g;

    c = r->connection;
    g = ngx_http_hotpath_gather_of(c);

    if (g == NULL) {
        return NGX_OK;
    }

    g->keep = 0;

    if (!g->room) {
        return NGX_OK;
    }

    g->room = 0;

    if (r->out == NULL && r->postponed == NULL && !r->buffered
        && !c->buffered)
    {
        return NGX_OK;                 /* nobody will look at it any more */
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        c->error = 1;
        return NGX_ERROR;
    }

    cln->handler = ngx_http_hotpath_gather_back;
    cln->data = g;

    g->lent = 1;

    return NGX_OK;
}


/* Whether nginx will keep the connection after the answer, which it may close
 * without knowing of what we have not sent: ngx_http_finalize_connection(). */

static ngx_uint_t
ngx_http_hotpath_gather_fits(ngx_http_request_t *r)
{
    ngx_connection_t          *c;
    ngx_http_core_loc_conf_t  *clcf;

    c = r->connection;

    if (r != r->main || !r->keepalive
        || r->http_version != NGX_HTTP_VERSION_11
        || r->discard_body || r->reading_body
        || c->read->eof || c->read->pending_eof
        || ngx_exiting || ngx_terminate
#if (NGX_HTTP_SSL)
        || c->ssl
#endif
#if (NGX_HTTP_V2)
        || r->stream
#endif
       )
    {
        return 0;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    return clcf->keepalive_timeout > 0;
}


/* For an answer that no other follows on its connection. NULL also where nginx
 * may soon close connections that look idle to it, for want of others. */

static ngx_http_hotpath_gather_t *
ngx_http_hotpath_gather_alone(ngx_connection_t *c)
{
    if (ngx_http_hotpath_gather_of(c)
        || ngx_cycle->free_connection_n <= ngx_cycle->connection_n / 8)
    {
        return NULL;
    }

    if (ngx_http_hotpath_gather_free == NULL) {
        ngx_http_hotpath_gather_flush();
    }

    return ngx_http_hotpath_gather_take(c, &ngx_posted_events);
}


/* Sends what all buffers hold. */

static void
ngx_http_hotpath_gather_flush(void)
{
    ngx_uint_t    i;
    ngx_event_t  *ev;

    for (i = 0; i < NGX_HTTP_HOTPATH_GATHERS; i++) {
        ev = &ngx_http_hotpath_gather_all[i].event;

        if (ev->posted) {
            ngx_delete_posted_event(ev);
            ngx_http_hotpath_gather_late(ev);
        }
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
ngx_http_hotpath_gather_take(ngx_connection_t *c, ngx_queue_t *when)
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
    g->room = 0;
    g->idle = NULL;

    c->send_chain = ngx_http_hotpath_gather_send;
    ngx_http_hotpath_gathers[c - ngx_http_hotpath_gather_base] = g;

    ngx_post_event(&g->event, when);

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

        if (g->idle && c->read->handler == g->idle) {
            c->idle = 1;
            ngx_reusable_connection(c, 1);
        }
    }

    if (g->event.posted) {
        ngx_delete_posted_event(&g->event);
    }

    if (g->event.timer_set) {
        ngx_del_timer(&g->event);
    }

    g->connection = NULL;

    if (!g->lent) {
        g->next = ngx_http_hotpath_gather_free;
        ngx_http_hotpath_gather_free = g;
    }
}


/* The request whose body lies in it ends. */

static void
ngx_http_hotpath_gather_back(void *data)
{
    ngx_http_hotpath_gather_t  *g = data;

    g->lent = 0;

    if (g->connection == NULL) {
        g->next = ngx_http_hotpath_gather_free;
        ngx_http_hotpath_gather_free = g;
    }
}


/* Sends what is kept, and in behind it, in one call. */

static ngx_chain_t *
ngx_http_hotpath_gather_out(ngx_http_hotpath_gather_t *g, ngx_chain_t *in,
    off_t limit)
{
    size_t             kept;
    ssize_t            n;
    ngx_buf_t         *b;
    ngx_chain_t       *rest;
    ngx_connection_t  *c;

    b = &g->buf;
    c = g->connection;
    kept = b->last - b->pos;

    if (kept == 0) {
        return in ? g->send_chain(c, in, limit) : NULL;
    }

    if (in) {
        g->link.next = in;
        rest = g->send_chain(c, &g->link, limit ? limit + kept : 0);

    } else {
        n = c->send(c, b->pos, kept);
        rest = n == NGX_ERROR ? NGX_CHAIN_ERROR : NULL;
        b->pos += n > 0 ? n : 0;
    }

    if (rest == NGX_CHAIN_ERROR) {
        b->pos = b->last;
        return rest;
    }

    kept -= b->last - b->pos;

    /* those bytes were counted when they were kept */
    c->sent -= kept;

    return b->pos < b->last ? in : rest;
}


static ngx_chain_t *
ngx_http_hotpath_gather_send(ngx_connection_t *c, ngx_chain_t *in, off_t limit)
{
    ngx_chain_t                *rest;
    ngx_http_hotpath_gather_t  *g;

    g = ngx_http_hotpath_gathers[c - ngx_http_hotpath_gather_base];

    if (g->keep && ngx_http_hotpath_gather_keep(g, in, limit) == NGX_OK) {
        return NULL;
    }

    rest = ngx_http_hotpath_gather_out(g, in, limit);

    if (g->buf.pos == g->buf.last && !g->room) {
        ngx_http_hotpath_gather_give(g);
    }

    return rest;
}


/* NGX_DECLINED: there is no room for it. */

static ngx_int_t
ngx_http_hotpath_gather_keep(ngx_http_hotpath_gather_t *g, ngx_chain_t *in,
    off_t limit)
{
    size_t        size, room, head;
    u_char       *p;
    ngx_buf_t    *b, *body;
    ngx_chain_t  *cl;

    p = g->buf.start + NGX_HTTP_HOTPATH_GATHER_HEAD;

    body = NULL;
    head = 0;
    room = g->room ? NGX_HTTP_HOTPATH_GATHER_HEAD : g->buf.end - g->buf.last;

    for (cl = in; cl; cl = cl->next) {
        b = cl->buf;

        if (ngx_buf_special(b)) {
            continue;
        }

        size = b->last - b->pos;

        if (body || !ngx_buf_in_memory(b)
            || (limit && (off_t) (head + size) > limit))
        {
            return NGX_DECLINED;
        }

        if (g->room && b->pos == p) {
            body = b;                  /* in place; before it goes the rest */
            continue;
        }

        head += size;

        if (head > room) {
            return NGX_DECLINED;
        }
    }

    if (body) {
        g->buf.pos = p - head;
        g->buf.last = g->buf.pos;
    }

    for (cl = in; cl; cl = cl->next) {
        b = cl->buf;

        if (ngx_buf_special(b)) {
            continue;
        }

        size = b->last - b->pos;

        if (b != body) {
            ngx_memcpy(g->buf.last, b->pos, size);
        }

        g->buf.last += size;
        b->pos = b->last;
        g->connection->sent += size;
    }

    return NGX_OK;
}


/* The turn of the event loop ends, and nobody has taken it along. */

static void
ngx_http_hotpath_gather_late(ngx_event_t *ev)
{
    ngx_chain_t                *rest;
    ngx_connection_t           *c;
    ngx_http_hotpath_gather_t  *g;

    g = ev->data;
    c = g->connection;

    if (c->fd == (ngx_socket_t) -1 || c->number != g->number || c->error) {
        ngx_http_hotpath_gather_give(g);
        return;
    }

    rest = ngx_http_hotpath_gather_out(g, NULL, 0);

    if (rest == NGX_CHAIN_ERROR) {
        /* whoever reads or writes next finds it out as well */
        c->error = 1;
    }

    if (g->buf.pos == g->buf.last) {
        ngx_http_hotpath_gather_give(g);
        return;
    }

    /* until then it is not one that nginx closes for being idle */

    if (c->idle) {
        g->idle = c->read->handler;
        c->idle = 0;
        ngx_reusable_connection(c, 0);
    }

    ngx_add_timer(&g->event, NGX_HTTP_HOTPATH_GATHER_MS);
}
