/*
 * ngx_http_hotpath_nats.c: one NATS connection per nginx worker, on nginx's
 * own events.
 *
 * Owns the socket, both buffers and the table of requests without a reply; all
 * of it lives from init_process to exit_process of one worker. Runs in the
 * event loop of that worker only and takes no lock. Never in here: a call that
 * blocks (names were resolved when the configuration was read), a buffer
 * without bound, a message kept for the next connection. The states are
 *
 *     DOWN --timer--> CONNECTING --writable--> GREETING --PONG--> READY
 *      ^                  |                       |                 |
 *      +------------------+-----------------------+-----------------+
 *                              any failure, with back-off
 *
 * GREETING waits for INFO, answers CONNECT, every SUB and a PING, and takes
 * the PONG as proof that the server accepted all of them. See core/hp_nats.h
 * for the protocol; tests/faults/test_broker.py.
 */


#include "ngx_http_hotpath_nats.h"
#include "ngx_http_hotpath_metrics.h"
#include "core/hp_json.h"


#define NGX_HTTP_HOTPATH_NATS_HANDLERS    8
#define NGX_HTTP_HOTPATH_NATS_IN_START    65536
#define NGX_HTTP_HOTPATH_NATS_IN_MAX      (8 * 1024 * 1024)
#define NGX_HTTP_HOTPATH_NATS_OUT_START   65536
#define NGX_HTTP_HOTPATH_NATS_READS       16
#define NGX_HTTP_HOTPATH_NATS_BACKOFF_MIN 50
#define NGX_HTTP_HOTPATH_NATS_BACKOFF_MAX 800
#define NGX_HTTP_HOTPATH_NATS_PINGS_MAX   2

/* "_INBOX." 16 hexadecimal digits "." */
#define NGX_HTTP_HOTPATH_NATS_INBOX       24


typedef enum {
    ngx_http_hotpath_nats_down = 0,
    ngx_http_hotpath_nats_connecting,
    ngx_http_hotpath_nats_greeting,
    ngx_http_hotpath_nats_ready_e
} ngx_http_hotpath_nats_state_e;


typedef struct {
    ngx_str_t                          subject;
    ngx_http_hotpath_nats_message_pt   handler;
    void                              *data;
} ngx_http_hotpath_nats_sub_t;


typedef struct {
    ngx_http_hotpath_nats_state_pt     handler;
    void                              *data;
} ngx_http_hotpath_nats_watch_t;


/* A free slot has no handler and is linked by next; the id that a reply
 * carries is generation * REQUESTS + index, so that a late reply to an earlier
 * use of the slot is recognised. */
typedef struct {
    ngx_http_hotpath_nats_reply_pt     handler;
    void                              *data;
    uint32_t                           generation;
    uint32_t                           next;
} ngx_http_hotpath_nats_slot_t;


struct ngx_http_hotpath_nats_s {
    ngx_http_hotpath_nats_conf_t      *conf;
    ngx_cycle_t                       *cycle;
    ngx_log_t                         *log;

    ngx_http_hotpath_nats_state_e      state;
    ngx_peer_connection_t              peer;
    ngx_connection_t                  *connection;
    ngx_uint_t                         server;
    ngx_msec_t                         backoff;
    ngx_uint_t                         pings;
    ngx_uint_t                         info_seen;
    ngx_uint_t                         failures;
    ngx_uint_t                         tried;     /* up or down is known */
    size_t                             max_payload;
    size_t                             payload_limit;

    ngx_event_t                        timer;
    ngx_event_t                        flush;

    u_char                            *in;
    size_t                             in_size;
    size_t                             in_len;

    u_char                            *out;
    size_t                             out_size;
    size_t                             out_pos;
    size_t                             out_len;

    ngx_http_hotpath_nats_sub_t        subs[NGX_HTTP_HOTPATH_NATS_HANDLERS];
    ngx_uint_t                         nsubs;
    ngx_http_hotpath_nats_watch_t      watches[NGX_HTTP_HOTPATH_NATS_HANDLERS];
    ngx_uint_t                         nwatches;

    u_char                             inbox[NGX_HTTP_HOTPATH_NATS_INBOX];
    uint32_t                           free;
    ngx_http_hotpath_nats_slot_t       slots[NGX_HTTP_HOTPATH_NATS_REQUESTS];
};


static void ngx_http_hotpath_nats_connect(ngx_http_hotpath_nats_t *nats);
static void ngx_http_hotpath_nats_lost(ngx_http_hotpath_nats_t *nats,
    const char *why);
static void ngx_http_hotpath_nats_close(ngx_http_hotpath_nats_t *nats);
static void ngx_http_hotpath_nats_timer(ngx_event_t *ev);
static void ngx_http_hotpath_nats_flush_event(ngx_event_t *ev);
static void ngx_http_hotpath_nats_write_handler(ngx_event_t *wev);
static void ngx_http_hotpath_nats_read_handler(ngx_event_t *rev);
static ngx_int_t ngx_http_hotpath_nats_established(
    ngx_http_hotpath_nats_t *nats);
static ngx_int_t ngx_http_hotpath_nats_send(ngx_http_hotpath_nats_t *nats);
static ngx_int_t ngx_http_hotpath_nats_process(ngx_http_hotpath_nats_t *nats);
static ngx_int_t ngx_http_hotpath_nats_op(ngx_http_hotpath_nats_t *nats,
    hp_nats_op_e kind, hp_nats_op_t *op);
static ngx_int_t ngx_http_hotpath_nats_greet(ngx_http_hotpath_nats_t *nats,
    hp_nats_op_t *op);
static void ngx_http_hotpath_nats_ready_now(ngx_http_hotpath_nats_t *nats);
static void ngx_http_hotpath_nats_reply(ngx_http_hotpath_nats_t *nats,
    hp_nats_op_t *op);
static u_char *ngx_http_hotpath_nats_reserve(ngx_http_hotpath_nats_t *nats,
    size_t size);
static ngx_int_t ngx_http_hotpath_nats_grow_in(ngx_http_hotpath_nats_t *nats,
    size_t wanted);


ngx_http_hotpath_nats_t *
ngx_http_hotpath_nats_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_nats_conf_t *conf)
{
    uint32_t                  i;
    ngx_http_hotpath_nats_t  *nats;

    nats = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hotpath_nats_t));
    if (nats == NULL) {
        return NULL;
    }

    nats->conf = conf;
    nats->cycle = cycle;
    nats->log = cycle->log;
    nats->backoff = NGX_HTTP_HOTPATH_NATS_BACKOFF_MIN;
    nats->server = ngx_random() % conf->addrs->nelts;

    ngx_sprintf(nats->inbox, "_INBOX.%08xD%08xD.",
                (uint32_t) ngx_random() ^ (uint32_t) ngx_pid << 16,
                (uint32_t) ngx_random() ^ (uint32_t) ngx_time());

    for (i = 0; i < NGX_HTTP_HOTPATH_NATS_REQUESTS; i++) {
        nats->slots[i].next = i + 1;
    }

    nats->in_size = NGX_HTTP_HOTPATH_NATS_IN_START;
    nats->in = ngx_alloc(nats->in_size, cycle->log);
    nats->out_size = NGX_HTTP_HOTPATH_NATS_OUT_START;
    nats->out = ngx_alloc(nats->out_size, cycle->log);

    if (nats->in == NULL || nats->out == NULL) {
        return NULL;
    }

    nats->timer.handler = ngx_http_hotpath_nats_timer;
    nats->timer.data = nats;
    nats->timer.log = cycle->log;
    nats->timer.cancelable = 1;

    nats->flush.handler = ngx_http_hotpath_nats_flush_event;
    nats->flush.data = nats;
    nats->flush.log = cycle->log;

    /* the first attempt is made by the loop, when all handlers are known */
    ngx_add_timer(&nats->timer, 1);

    return nats;
}


void
ngx_http_hotpath_nats_stop(ngx_http_hotpath_nats_t *nats)
{
    if (nats->timer.timer_set) {
        ngx_del_timer(&nats->timer);
    }

    if (nats->flush.posted) {
        ngx_delete_posted_event(&nats->flush);
    }

    ngx_http_hotpath_nats_close(nats);

    ngx_free(nats->in);
    ngx_free(nats->out);
    nats->in = NULL;
    nats->out = NULL;
}


ngx_int_t
ngx_http_hotpath_nats_subscribe(ngx_http_hotpath_nats_t *nats,
    ngx_str_t *subject, ngx_http_hotpath_nats_message_pt handler, void *data)
{
    ngx_http_hotpath_nats_sub_t  *sub;

    if (nats->nsubs == NGX_HTTP_HOTPATH_NATS_HANDLERS) {
        return NGX_ERROR;
    }

    sub = &nats->subs[nats->nsubs++];
    sub->subject = *subject;
    sub->handler = handler;
    sub->data = data;

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_nats_on_state(ngx_http_hotpath_nats_t *nats,
    ngx_http_hotpath_nats_state_pt handler, void *data)
{
    if (nats->nwatches == NGX_HTTP_HOTPATH_NATS_HANDLERS) {
        return NGX_ERROR;
    }

    nats->watches[nats->nwatches].handler = handler;
    nats->watches[nats->nwatches++].data = data;

    return NGX_OK;
}


ngx_uint_t
ngx_http_hotpath_nats_ready(ngx_http_hotpath_nats_t *nats)
{
    return nats->state == ngx_http_hotpath_nats_ready_e;
}


size_t
ngx_http_hotpath_nats_max_payload(ngx_http_hotpath_nats_t *nats)
{
    return ngx_http_hotpath_nats_ready(nats) ? nats->max_payload : 0;
}


ngx_int_t
ngx_http_hotpath_nats_request(ngx_http_hotpath_nats_t *nats,
    ngx_str_t *subject, ngx_str_t *headers, ngx_str_t *payload, ngx_uint_t n,
    ngx_http_hotpath_nats_reply_pt handler, void *data, uint32_t *id)
{
    u_char                        *p;
    size_t                         size, head;
    uint32_t                       index;
    ngx_uint_t                     i;
    ngx_http_hotpath_nats_slot_t  *slot;

    if (nats->state != ngx_http_hotpath_nats_ready_e) {
        return NGX_DECLINED;
    }

    index = nats->free;
    if (index == NGX_HTTP_HOTPATH_NATS_REQUESTS) {
        return NGX_BUSY;
    }

    head = headers->len ? sizeof("NATS/1.0\r\n\r\n") - 1 + headers->len : 0;

    size = head;
    for (i = 0; i < n; i++) {
        size += payload[i].len;
    }

    if (size > nats->max_payload) {
        return NGX_BUSY;
    }

    p = ngx_http_hotpath_nats_reserve(nats, sizeof("HPUB   \r\n\r\n")
                                      + subject->len
                                      + NGX_HTTP_HOTPATH_NATS_INBOX
                                      + NGX_INT32_LEN + 2 * NGX_SIZE_T_LEN
                                      + size);
    if (p == NULL) {
        return NGX_BUSY;
    }

    slot = &nats->slots[index];
    nats->free = slot->next;
    slot->handler = handler;
    slot->data = data;
    *id = slot->generation * NGX_HTTP_HOTPATH_NATS_REQUESTS + index;

    p = ngx_sprintf(p, "%s %V %*s%uD ", head ? "HPUB" : "PUB", subject,
                    (size_t) NGX_HTTP_HOTPATH_NATS_INBOX, nats->inbox, *id);

    if (head) {
        p = ngx_sprintf(p, "%uz %uz\r\nNATS/1.0\r\n%V\r\n", head, size,
                        headers);
    } else {
        p = ngx_sprintf(p, "%uz\r\n", size);
    }

    for (i = 0; i < n; i++) {
        p = ngx_cpymem(p, payload[i].data, payload[i].len);
    }

    *p++ = CR;
    *p++ = LF;

    nats->out_len = p - nats->out;

    if (!nats->flush.posted) {
        ngx_post_event(&nats->flush, &ngx_posted_events);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_nats_publish(ngx_http_hotpath_nats_t *nats,
    ngx_str_t *subject, ngx_str_t *reply, ngx_str_t *payload, ngx_uint_t n)
{
    u_char      *p;
    size_t       size;
    ngx_uint_t   i;

    if (nats->state != ngx_http_hotpath_nats_ready_e) {
        return NGX_DECLINED;
    }

    size = 0;
    for (i = 0; i < n; i++) {
        size += payload[i].len;
    }

    if (size > nats->max_payload) {
        return NGX_BUSY;
    }

    p = ngx_http_hotpath_nats_reserve(nats, sizeof("PUB   \r\n\r\n")
                                      + subject->len + reply->len
                                      + NGX_SIZE_T_LEN + size);
    if (p == NULL) {
        return NGX_BUSY;
    }

    p = ngx_sprintf(p, "PUB %V %V%s%uz\r\n", subject, reply,
                    reply->len ? " " : "", size);

    for (i = 0; i < n; i++) {
        p = ngx_cpymem(p, payload[i].data, payload[i].len);
    }

    *p++ = CR;
    *p++ = LF;

    nats->out_len = p - nats->out;

    if (!nats->flush.posted) {
        ngx_post_event(&nats->flush, &ngx_posted_events);
    }

    return NGX_OK;
}


void
ngx_http_hotpath_nats_push(ngx_http_hotpath_nats_t *nats)
{
    if (nats->connection && nats->out_pos < nats->out_len) {
        /* what fails here fails again, and is seen, in the posted event */
        (void) ngx_http_hotpath_nats_send(nats);
    }
}


void
ngx_http_hotpath_nats_poll(ngx_http_hotpath_nats_t *nats)
{
    ngx_event_t  *rev;

    if (nats->state != ngx_http_hotpath_nats_ready_e) {
        return;
    }

    rev = nats->connection->read;

    /* else nginx knows from epoll that nothing is there, as of this turn */
    rev->available = -1;

    ngx_http_hotpath_nats_read_handler(rev);
}


void
ngx_http_hotpath_nats_give_up(ngx_http_hotpath_nats_t *nats, uint32_t id)
{
    uint32_t                       index;
    ngx_http_hotpath_nats_slot_t  *slot;

    index = id % NGX_HTTP_HOTPATH_NATS_REQUESTS;
    slot = &nats->slots[index];

    if (slot->handler == NULL
        || slot->generation * NGX_HTTP_HOTPATH_NATS_REQUESTS + index != id)
    {
        return;
    }

    slot->handler = NULL;
    slot->generation++;
    slot->next = nats->free;
    nats->free = index;
}


static void
ngx_http_hotpath_nats_connect(ngx_http_hotpath_nats_t *nats)
{
    ngx_int_t          rc;
    ngx_addr_t        *addr;
    ngx_connection_t  *c;

    addr = nats->conf->addrs->elts;
    nats->server = (nats->server + 1) % nats->conf->addrs->nelts;
    addr += nats->server;

    ngx_memzero(&nats->peer, sizeof(ngx_peer_connection_t));

    nats->peer.sockaddr = addr->sockaddr;
    nats->peer.socklen = addr->socklen;
    nats->peer.name = &addr->name;
    nats->peer.get = ngx_event_get_peer;
    nats->peer.log = nats->log;
    nats->peer.log_error = NGX_ERROR_ERR;

    nats->info_seen = 0;
    nats->pings = 0;
    nats->in_len = 0;
    nats->out_pos = 0;
    nats->out_len = 0;
    nats->payload_limit = NGX_HTTP_HOTPATH_NATS_IN_MAX / 2;

    rc = ngx_event_connect_peer(&nats->peer);

    if (rc == NGX_ERROR || rc == NGX_BUSY || rc == NGX_DECLINED) {
        nats->connection = nats->peer.connection;
        ngx_http_hotpath_nats_lost(nats, "could not connect");
        return;
    }

    c = nats->peer.connection;
    nats->connection = c;

    c->data = nats;
    c->log = nats->log;
    c->read->log = nats->log;
    c->write->log = nats->log;
    c->read->handler = ngx_http_hotpath_nats_read_handler;
    c->write->handler = ngx_http_hotpath_nats_write_handler;

    nats->state = ngx_http_hotpath_nats_connecting;

    ngx_add_timer(&nats->timer, nats->conf->connect_timeout);

    if (rc == NGX_OK) {
        ngx_http_hotpath_nats_write_handler(c->write);
    }
}


/* The only way down: whatever went wrong, in whatever state. */

static void
ngx_http_hotpath_nats_lost(ngx_http_hotpath_nats_t *nats, const char *why)
{
    uint32_t                         i;
    ngx_uint_t                       was_ready, tell;
    ngx_http_hotpath_nats_slot_t    *slot;
    ngx_http_hotpath_nats_reply_pt   handler;

    was_ready = (nats->state == ngx_http_hotpath_nats_ready_e);

    /* the first attempt that failed is news as well */
    tell = was_ready || !nats->tried;
    nats->tried = 1;

    /* one line when it is lost and one in twenty while it stays so */
    if (was_ready || nats->failures++ % 20 == 0) {
        ngx_log_error(NGX_LOG_ERR, nats->log, 0,
                      "hotpath: nats server %V: %s",
                      nats->peer.name, why);
    }

    ngx_http_hotpath_nats_close(nats);

    nats->state = ngx_http_hotpath_nats_down;

    if (was_ready) {
        ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_NATS_CONNECTED] = 0;
        nats->backoff = NGX_HTTP_HOTPATH_NATS_BACKOFF_MIN;
    }

    /* full jitter keeps a fleet from coming back in step */
    ngx_add_timer(&nats->timer,
                  nats->backoff / 2 + ngx_random() % (nats->backoff / 2 + 1));
    nats->backoff = ngx_min(nats->backoff * 2,
                            NGX_HTTP_HOTPATH_NATS_BACKOFF_MAX);

    for (i = 0; i < NGX_HTTP_HOTPATH_NATS_REQUESTS; i++) {
        slot = &nats->slots[i];
        handler = slot->handler;

        if (handler) {
            ngx_http_hotpath_nats_give_up(nats, slot->generation
                                      * NGX_HTTP_HOTPATH_NATS_REQUESTS + i);
            handler(slot->data, NULL);
        }
    }

    if (tell) {
        for (i = 0; i < nats->nwatches; i++) {
            nats->watches[i].handler(nats->watches[i].data, 0);
        }
    }
}


static void
ngx_http_hotpath_nats_close(ngx_http_hotpath_nats_t *nats)
{
    if (nats->timer.timer_set) {
        ngx_del_timer(&nats->timer);
    }

    if (nats->connection) {
        ngx_close_connection(nats->connection);
        nats->connection = NULL;
        nats->peer.connection = NULL;
    }
}


static void
ngx_http_hotpath_nats_timer(ngx_event_t *ev)
{
    static u_char             ping[] = "PING\r\n";

    u_char                   *p;
    ngx_http_hotpath_nats_t  *nats;

    nats = ev->data;

    switch (nats->state) {

    case ngx_http_hotpath_nats_down:
        ngx_http_hotpath_nats_connect(nats);
        return;

    case ngx_http_hotpath_nats_connecting:
    case ngx_http_hotpath_nats_greeting:
        ngx_http_hotpath_nats_lost(nats, "timed out while connecting");
        return;

    default: /* ngx_http_hotpath_nats_ready_e */
        break;
    }

    if (nats->pings == NGX_HTTP_HOTPATH_NATS_PINGS_MAX) {
        ngx_http_hotpath_nats_lost(nats, "does not answer");
        return;
    }

    p = ngx_http_hotpath_nats_reserve(nats, sizeof(ping) - 1);
    if (p) {
        ngx_memcpy(p, ping, sizeof(ping) - 1);
        nats->out_len += sizeof(ping) - 1;

        if (!nats->flush.posted) {
            ngx_post_event(&nats->flush, &ngx_posted_events);
        }
    }

    nats->pings++;

    ngx_add_timer(&nats->timer, nats->conf->ping_interval);
}


static void
ngx_http_hotpath_nats_flush_event(ngx_event_t *ev)
{
    ngx_http_hotpath_nats_t  *nats;

    nats = ev->data;

    if (nats->connection == NULL) {
        return;
    }

    if (ngx_http_hotpath_nats_send(nats) != NGX_OK) {
        ngx_http_hotpath_nats_lost(nats, "write failed");
    }
}


static void
ngx_http_hotpath_nats_write_handler(ngx_event_t *wev)
{
    ngx_connection_t         *c;
    ngx_http_hotpath_nats_t  *nats;

    c = wev->data;
    nats = c->data;

    if (nats->state == ngx_http_hotpath_nats_connecting) {

        if (ngx_http_hotpath_nats_established(nats) != NGX_OK) {
            ngx_http_hotpath_nats_lost(nats, "could not connect");
            return;
        }

        if (c->read->ready) {
            /* INFO came with the connection, and its edge was passed over */
            ngx_post_event(c->read, &ngx_posted_events);
        }
    }

    if (ngx_http_hotpath_nats_send(nats) != NGX_OK) {
        ngx_http_hotpath_nats_lost(nats, "write failed");
    }
}


/* The outcome of a connect that was under way. */

static ngx_int_t
ngx_http_hotpath_nats_established(ngx_http_hotpath_nats_t *nats)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    if (getsockopt(nats->connection->fd, SOL_SOCKET, SO_ERROR, (void *) &err,
                   &len)
        == -1)
    {
        err = ngx_socket_errno;
    }

    if (err) {
        ngx_log_error(NGX_LOG_INFO, nats->log, err, "hotpath: connect() to %V",
                      nats->peer.name);
        return NGX_ERROR;
    }

    if (nats->peer.sockaddr->sa_family != AF_UNIX) {
        (void) ngx_tcp_nodelay(nats->connection);
    }

    nats->state = ngx_http_hotpath_nats_greeting;

    return ngx_handle_read_event(nats->connection->read, 0);
}


static ngx_int_t
ngx_http_hotpath_nats_send(ngx_http_hotpath_nats_t *nats)
{
    ssize_t            n;
    ngx_connection_t  *c;

    c = nats->connection;

    while (nats->out_pos < nats->out_len && c->write->ready) {

        n = c->send(c, nats->out + nats->out_pos,
                    nats->out_len - nats->out_pos);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n <= 0) {
            return NGX_ERROR;
        }

        nats->out_pos += n;
    }

    if (nats->out_pos == nats->out_len) {
        nats->out_pos = 0;
        nats->out_len = 0;
    }

    return ngx_handle_write_event(c->write, 0);
}


/* Room for size more bytes at out + out_len, or NULL at the bound. */

static u_char *
ngx_http_hotpath_nats_reserve(ngx_http_hotpath_nats_t *nats, size_t size)
{
    u_char  *out;
    size_t   waiting, wanted;

    waiting = nats->out_len - nats->out_pos;

    if (waiting + size > nats->conf->buffer) {
        return NULL;
    }

    if (nats->out_len + size <= nats->out_size) {
        return nats->out + nats->out_len;
    }

    if (nats->out_pos) {
        ngx_memmove(nats->out, nats->out + nats->out_pos, waiting);
        nats->out_pos = 0;
        nats->out_len = waiting;
    }

    if (waiting + size > nats->out_size) {

        wanted = ngx_min(ngx_max(nats->out_size * 2, waiting + size),
                         nats->conf->buffer);

        out = ngx_alloc(wanted, nats->log);
        if (out == NULL) {
            return NULL;
        }

        ngx_memcpy(out, nats->out, waiting);
        ngx_free(nats->out);

        nats->out = out;
        nats->out_size = wanted;
    }

    return nats->out + nats->out_len;
}


static ngx_int_t
ngx_http_hotpath_nats_grow_in(ngx_http_hotpath_nats_t *nats, size_t wanted)
{
    u_char  *in;
    size_t   size;

    if (wanted > NGX_HTTP_HOTPATH_NATS_IN_MAX) {
        return NGX_ERROR;
    }

    size = nats->in_size;
    while (size < wanted) {
        size *= 2;
    }

    in = ngx_alloc(size, nats->log);
    if (in == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(in, nats->in, nats->in_len);
    ngx_free(nats->in);

    nats->in = in;
    nats->in_size = size;

    return NGX_OK;
}


static void
ngx_http_hotpath_nats_read_handler(ngx_event_t *rev)
{
    ssize_t                   n;
    ngx_uint_t                reads;
    ngx_connection_t         *c;
    ngx_http_hotpath_nats_t  *nats;

    c = rev->data;
    nats = c->data;

    if (nats->state == ngx_http_hotpath_nats_connecting) {
        /* the write event tells how connecting went */
        return;
    }

    for (reads = 0; reads < NGX_HTTP_HOTPATH_NATS_READS; reads++) {

        if (nats->in_len == nats->in_size
            && ngx_http_hotpath_nats_grow_in(nats, nats->in_size + 1)
               != NGX_OK)
        {
            ngx_http_hotpath_nats_lost(nats, "sent too large a message");
            return;
        }

        n = c->recv(c, nats->in + nats->in_len, nats->in_size - nats->in_len);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {
            ngx_http_hotpath_nats_lost(nats, "closed the connection");
            return;
        }

        nats->in_len += n;

        if (ngx_http_hotpath_nats_process(nats) != NGX_OK) {
            return;
        }
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_http_hotpath_nats_lost(nats, "could not be watched");
        return;
    }

    if (reads == NGX_HTTP_HOTPATH_NATS_READS) {
        /* more is there: let the others run first */
        ngx_post_event(rev, &ngx_posted_next_events);
    }
}


/* NGX_ERROR: the connection is gone. */

static ngx_int_t
ngx_http_hotpath_nats_process(ngx_http_hotpath_nats_t *nats)
{
    size_t        pos, consumed, wanted;
    hp_str_t      data;
    hp_nats_op_t  op;
    hp_nats_op_e  kind;

    pos = 0;

    for ( ;; ) {
        data.data = nats->in + pos;
        data.len = nats->in_len - pos;

        kind = hp_nats_read(data, nats->payload_limit, &op, &consumed,
                            &wanted);

        if (kind == HP_NATS_MORE) {
            break;
        }

        if (kind == HP_NATS_BROKEN) {
            ngx_http_hotpath_nats_lost(nats, "does not speak NATS");
            return NGX_ERROR;
        }

        pos += consumed;

        if (ngx_http_hotpath_nats_op(nats, kind, &op) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (pos) {
        nats->in_len -= pos;
        ngx_memmove(nats->in, nats->in + pos, nats->in_len);
    }

    if (wanted > nats->in_size
        && ngx_http_hotpath_nats_grow_in(nats, wanted) != NGX_OK)
    {
        ngx_http_hotpath_nats_lost(nats, "sent too large a message");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_nats_op(ngx_http_hotpath_nats_t *nats, hp_nats_op_e kind,
    hp_nats_op_t *op)
{
    static u_char                 pong[] = "PONG\r\n";

    u_char                       *p;
    ngx_http_hotpath_nats_sub_t  *sub;

    switch (kind) {

    case HP_NATS_MSG:
        if (op->sid == 0) {
            break;
        }

        if (op->sid <= nats->nsubs) {
            sub = &nats->subs[op->sid - 1];
            sub->handler(sub->data, op);

        } else if (op->sid == nats->nsubs + 1) {
            ngx_http_hotpath_nats_reply(nats, op);
        }

        break;

    case HP_NATS_PING:
        p = ngx_http_hotpath_nats_reserve(nats, sizeof(pong) - 1);
        if (p) {
            ngx_memcpy(p, pong, sizeof(pong) - 1);
            nats->out_len += sizeof(pong) - 1;

            if (!nats->flush.posted) {
                ngx_post_event(&nats->flush, &ngx_posted_events);
            }
        }

        break;

    case HP_NATS_PONG:
        nats->pings = 0;

        if (nats->state == ngx_http_hotpath_nats_greeting
            && nats->info_seen)
        {
            ngx_http_hotpath_nats_ready_now(nats);
        }

        break;

    case HP_NATS_INFO:
        return ngx_http_hotpath_nats_greet(nats, op);

    case HP_NATS_ERR:
        ngx_log_error(NGX_LOG_ERR, nats->log, 0,
                      "hotpath: nats server %V says: %*s", nats->peer.name,
                      op->text.len, op->text.data);
        break;

    default: /* +OK */
        break;
    }

    /* a handler cannot close the connection, but be sure */
    return nats->connection ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_hotpath_nats_greet(ngx_http_hotpath_nats_t *nats, hp_nats_op_t *op)
{
    u_char                        *p;
    size_t                         size;
    hp_str_t                       user, password, token;
    ngx_uint_t                     i;
    hp_nats_info_t                 info;
    ngx_http_hotpath_nats_conf_t  *conf;

    if (hp_nats_info_read(&info, op->text) != 0) {
        ngx_http_hotpath_nats_lost(nats, "sent a broken INFO");
        return NGX_ERROR;
    }

    if (info.max_payload) {
        nats->max_payload = ngx_min(info.max_payload,
                                    NGX_HTTP_HOTPATH_NATS_IN_MAX / 2);
    }

    if (nats->info_seen) {
        return NGX_OK;
    }

    if (info.tls_required) {
        ngx_http_hotpath_nats_lost(nats, "requires TLS, which is not set up");
        return NGX_ERROR;
    }

    if (!info.headers || info.max_payload == 0) {
        ngx_http_hotpath_nats_lost(nats,
                                   "is too old: message headers are missing");
        return NGX_ERROR;
    }

    nats->info_seen = 1;
    conf = nats->conf;

    user.data = conf->user.data;
    user.len = conf->user.len;
    password.data = conf->password.data;
    password.len = conf->password.len;
    token.data = conf->token.data;
    token.len = conf->token.len;

    size = 512 + 6 * (user.len + password.len + token.len);
    for (i = 0; i < nats->nsubs; i++) {
        size += nats->subs[i].subject.len + sizeof("SUB  \r\n")
                + NGX_INT_T_LEN;
    }

    p = ngx_http_hotpath_nats_reserve(nats, size);
    if (p == NULL) {
        ngx_http_hotpath_nats_lost(nats, "no memory");
        return NGX_ERROR;
    }

    p = ngx_sprintf(p, "CONNECT {\"verbose\":false,\"pedantic\":false,"
                    "\"tls_required\":false,\"name\":\"hotpath-nginx-%P\","
                    "\"lang\":\"c\",\"version\":\"1\",\"protocol\":1,"
                    "\"echo\":false,\"headers\":true,\"no_responders\":true",
                    ngx_pid);

    if (token.len) {
        p = ngx_cpymem(p, ",\"auth_token\":\"",
                       sizeof(",\"auth_token\":\"") - 1);
        p += hp_json_escape(p, 6 * token.len, token);
        *p++ = '"';

    } else if (user.len) {
        p = ngx_cpymem(p, ",\"user\":\"", sizeof(",\"user\":\"") - 1);
        p += hp_json_escape(p, 6 * user.len, user);
        p = ngx_cpymem(p, "\",\"pass\":\"", sizeof("\",\"pass\":\"") - 1);
        p += hp_json_escape(p, 6 * password.len, password);
        *p++ = '"';
    }

    p = ngx_cpymem(p, "}\r\n", sizeof("}\r\n") - 1);

    for (i = 0; i < nats->nsubs; i++) {
        p = ngx_sprintf(p, "SUB %V %ui\r\n", &nats->subs[i].subject, i + 1);
    }

    p = ngx_sprintf(p, "SUB %*s* %ui\r\nPING\r\n",
                    (size_t) NGX_HTTP_HOTPATH_NATS_INBOX, nats->inbox,
                    nats->nsubs + 1);

    nats->out_len = p - nats->out;

    if (!nats->flush.posted) {
        ngx_post_event(&nats->flush, &ngx_posted_events);
    }

    return NGX_OK;
}


static void
ngx_http_hotpath_nats_ready_now(ngx_http_hotpath_nats_t *nats)
{
    ngx_uint_t  i;

    ngx_log_error(NGX_LOG_NOTICE, nats->log, 0,
                  "hotpath: connected to nats server %V", nats->peer.name);

    nats->state = ngx_http_hotpath_nats_ready_e;
    nats->backoff = NGX_HTTP_HOTPATH_NATS_BACKOFF_MIN;
    nats->failures = 0;
    nats->tried = 1;

    ngx_http_hotpath_count(NATS_CONNECTS);
    ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_NATS_CONNECTED] = 1;

    ngx_add_timer(&nats->timer, nats->conf->ping_interval);

    for (i = 0; i < nats->nwatches; i++) {
        nats->watches[i].handler(nats->watches[i].data, 1);
    }
}


static void
ngx_http_hotpath_nats_reply(ngx_http_hotpath_nats_t *nats, hp_nats_op_t *op)
{
    void                            *data;
    uint32_t                         index;
    ngx_int_t                        id;
    ngx_http_hotpath_nats_slot_t    *slot;
    ngx_http_hotpath_nats_reply_pt   handler;

    if (op->subject.len <= NGX_HTTP_HOTPATH_NATS_INBOX) {
        return;
    }

    id = ngx_atoi((u_char *) op->subject.data + NGX_HTTP_HOTPATH_NATS_INBOX,
                  op->subject.len - NGX_HTTP_HOTPATH_NATS_INBOX);
    if (id == NGX_ERROR || id > (ngx_int_t) NGX_MAX_UINT32_VALUE) {
        return;
    }

    index = (uint32_t) id % NGX_HTTP_HOTPATH_NATS_REQUESTS;
    slot = &nats->slots[index];

    if (slot->handler == NULL
        || slot->generation * NGX_HTTP_HOTPATH_NATS_REQUESTS + index
           != (uint32_t) id)
    {
        /* too late: whoever waited was told so */
        return;
    }

    handler = slot->handler;
    data = slot->data;

    ngx_http_hotpath_nats_give_up(nats, (uint32_t) id);
    handler(data, op);
}
