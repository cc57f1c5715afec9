/*
 * ngx_http_hotpath_nats_link.c: one connection to one NATS server.
 *
 * Owns the socket, the TLS session and both buffers; all of it lives from
 * init_process to exit_process of one worker, the session as long as its
 * connection. Runs in the event loop of that worker only and takes no lock.
 * Never in here: a call that blocks, a buffer without bound, a secret sent
 * before the server is known. The states are
 *
 *   DOWN -> CONNECTING -> INFO -> [HANDSHAKE] -> GREETING --PONG--> READY
 *    ^                 \-> HANDSHAKE -> INFO -/ (TLS first)           |
 *    +---------------- any failure, told to the owner ----------------+
 *
 * GREETING answers CONNECT, the owner's subscriptions and a PING, and takes the
 * PONG as proof that the server accepted all of them. See core/hp_nats.h for
 * the protocol; tests/integration/test_nats.py, tests/faults/test_broker.py.
 */


#include "ngx_http_hotpath_nats_link.h"
#include "ngx_http_hotpath_nats_auth.h"
#include "ngx_http_hotpath_nats_tls.h"


#define NGX_HTTP_HOTPATH_NATS_IN_START    65536
#define NGX_HTTP_HOTPATH_NATS_IN_MAX      (8 * 1024 * 1024)
#define NGX_HTTP_HOTPATH_NATS_OUT_START   65536
#define NGX_HTTP_HOTPATH_NATS_READS       16
#define NGX_HTTP_HOTPATH_NATS_PINGS_MAX   2

/* Lines of the server's complaints that a connection may put into the log. */
#define NGX_HTTP_HOTPATH_NATS_COMPLAINTS  20


static void ngx_http_hotpath_nats_link_timer(ngx_event_t *ev);
static void ngx_http_hotpath_nats_link_flush(ngx_event_t *ev);
static void ngx_http_hotpath_nats_link_write_handler(ngx_event_t *wev);
static void ngx_http_hotpath_nats_link_read_handler(ngx_event_t *rev);
static ngx_int_t ngx_http_hotpath_nats_link_established(
    ngx_http_hotpath_nats_link_t *link);
static void ngx_http_hotpath_nats_link_secure(
    ngx_http_hotpath_nats_link_t *link);
static void ngx_http_hotpath_nats_link_handshake(ngx_connection_t *c);
static void ngx_http_hotpath_nats_link_secured(
    ngx_http_hotpath_nats_link_t *link);
static ngx_int_t ngx_http_hotpath_nats_link_send(
    ngx_http_hotpath_nats_link_t *link);
static ngx_int_t ngx_http_hotpath_nats_link_process(
    ngx_http_hotpath_nats_link_t *link);
static void ngx_http_hotpath_nats_link_op(ngx_http_hotpath_nats_link_t *link,
    hp_nats_op_e kind, hp_nats_op_t *op);
static void ngx_http_hotpath_nats_link_info(
    ngx_http_hotpath_nats_link_t *link, hp_nats_op_t *op);
static void ngx_http_hotpath_nats_link_greet(
    ngx_http_hotpath_nats_link_t *link, hp_str_t nonce);
static void ngx_http_hotpath_nats_link_trouble(
    ngx_http_hotpath_nats_link_t *link, hp_str_t text);
static void ngx_http_hotpath_nats_link_say(ngx_http_hotpath_nats_link_t *link,
    const char *line, size_t len);
static ngx_int_t ngx_http_hotpath_nats_link_grow_in(
    ngx_http_hotpath_nats_link_t *link, size_t wanted);


void
ngx_http_hotpath_nats_link_init(ngx_http_hotpath_nats_link_t *link,
    const ngx_http_hotpath_nats_owner_t *owner, void *data,
    ngx_http_hotpath_nats_conf_t *conf, ngx_log_t *log)
{
    link->owner = owner;
    link->data = data;
    link->conf = conf;
    link->log = log;

    link->timer.handler = ngx_http_hotpath_nats_link_timer;
    link->timer.data = link;
    link->timer.log = log;
    link->timer.cancelable = 1;

    link->flush.handler = ngx_http_hotpath_nats_link_flush;
    link->flush.data = link;
    link->flush.log = log;
}


void
ngx_http_hotpath_nats_link_done(ngx_http_hotpath_nats_link_t *link)
{
    ngx_http_hotpath_nats_link_close(link);

    if (link->in) {
        ngx_free(link->in);
        link->in = NULL;
    }

    if (link->out) {
        ngx_free(link->out);
        link->out = NULL;
    }
}


void
ngx_http_hotpath_nats_link_open(ngx_http_hotpath_nats_link_t *link,
    ngx_http_hotpath_nats_server_t *server)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    link->server = *server;
    link->server.name.data = link->server.text;

    link->greeted = 0;
    link->secure = 0;
    link->draining = 0;
    link->pings = 0;
    link->complaints = 0;
    link->max_payload = 0;
    link->in_len = 0;
    link->out_pos = 0;
    link->out_len = 0;
    link->sent = 0;

    /* the second link of a worker may never be needed */

    if (link->in == NULL) {
        link->in_size = NGX_HTTP_HOTPATH_NATS_IN_START;
        link->in = ngx_alloc(link->in_size, link->log);
    }

    if (link->out == NULL) {
        link->out_size = NGX_HTTP_HOTPATH_NATS_OUT_START;
        link->out = ngx_alloc(link->out_size, link->log);
    }

    ngx_memzero(&link->peer, sizeof(ngx_peer_connection_t));

    link->peer.sockaddr = &link->server.sockaddr.sockaddr;
    link->peer.socklen = link->server.socklen;
    link->peer.name = &link->server.name;
    link->peer.get = ngx_event_get_peer;
    link->peer.log = link->log;
    link->peer.log_error = NGX_ERROR_ERR;

    link->state = NGX_HTTP_HOTPATH_NATS_CONNECTING;

    if (link->in == NULL || link->out == NULL) {
        ngx_http_hotpath_nats_link_lost(link, "no memory", 0);
        return;
    }

    rc = ngx_event_connect_peer(&link->peer);

    link->connection = link->peer.connection;

    if (rc == NGX_ERROR || rc == NGX_BUSY || rc == NGX_DECLINED) {
        ngx_http_hotpath_nats_link_lost(link, "could not connect", 0);
        return;
    }

    c = link->connection;

    c->data = link;
    c->log = link->log;
    c->read->log = link->log;
    c->write->log = link->log;
    c->read->handler = ngx_http_hotpath_nats_link_read_handler;
    c->write->handler = ngx_http_hotpath_nats_link_write_handler;

    ngx_add_timer(&link->timer, link->conf->connect_timeout);

    if (rc == NGX_OK) {
        ngx_http_hotpath_nats_link_write_handler(c->write);
    }
}


void
ngx_http_hotpath_nats_link_close(ngx_http_hotpath_nats_link_t *link)
{
    link->state = NGX_HTTP_HOTPATH_NATS_DOWN;

    if (link->timer.timer_set) {
        ngx_del_timer(&link->timer);
    }

    if (link->flush.posted) {
        ngx_delete_posted_event(&link->flush);
    }

    if (link->connection) {
        ngx_http_hotpath_nats_tls_end(link->connection);

        ngx_close_connection(link->connection);
        link->connection = NULL;
        link->peer.connection = NULL;
    }

    if (link->pool) {
        ngx_destroy_pool(link->pool);
        link->pool = NULL;
    }
}


/* The only way down: whatever went wrong, in whatever state. */

void
ngx_http_hotpath_nats_link_lost(ngx_http_hotpath_nats_link_t *link,
    const char *why, ngx_uint_t bad)
{
    if (link->state == NGX_HTTP_HOTPATH_NATS_DOWN) {
        return;
    }

    ngx_http_hotpath_nats_link_close(link);

    link->owner->lost(link->data, link, why, bad);
}


static void
ngx_http_hotpath_nats_link_timer(ngx_event_t *ev)
{
    ngx_http_hotpath_nats_link_t  *link;

    link = ev->data;

    if (link->state != NGX_HTTP_HOTPATH_NATS_READY) {
        ngx_http_hotpath_nats_link_lost(link, "timed out while connecting", 0);
        return;
    }

    if (link->draining) {
        ngx_http_hotpath_nats_link_lost(link, "was left for another", 0);
        return;
    }

    if (link->pings == NGX_HTTP_HOTPATH_NATS_PINGS_MAX) {
        ngx_http_hotpath_nats_link_lost(link, "does not answer", 0);
        return;
    }

    ngx_http_hotpath_nats_link_say(link, "PING" CRLF,
                                   sizeof("PING" CRLF) - 1);
    link->pings++;

    ngx_add_timer(&link->timer, link->conf->ping_interval);
}


static void
ngx_http_hotpath_nats_link_flush(ngx_event_t *ev)
{
    ngx_http_hotpath_nats_link_t  *link;

    link = ev->data;

    if (link->connection && ngx_http_hotpath_nats_link_send(link) != NGX_OK) {
        ngx_http_hotpath_nats_link_lost(link, "write failed", 0);
    }
}


void
ngx_http_hotpath_nats_link_push(ngx_http_hotpath_nats_link_t *link)
{
    if (link->connection && link->out_pos < link->out_len) {
        /* what fails here fails again, and is seen, in the posted event */
        (void) ngx_http_hotpath_nats_link_send(link);
    }
}


void
ngx_http_hotpath_nats_link_poll(ngx_http_hotpath_nats_link_t *link)
{
    ngx_event_t  *rev;

    /* whoever is called from here must not come back here */

    if (link->state != NGX_HTTP_HOTPATH_NATS_READY || link->reading) {
        return;
    }

    rev = link->connection->read;

    /* else nginx knows from epoll that nothing is there, as of this turn */
    rev->available = -1;

    ngx_http_hotpath_nats_link_read_handler(rev);
}


static void
ngx_http_hotpath_nats_link_write_handler(ngx_event_t *wev)
{
    ngx_connection_t              *c;
    ngx_http_hotpath_nats_link_t  *link;

    c = wev->data;
    link = c->data;

    if (link->state == NGX_HTTP_HOTPATH_NATS_CONNECTING) {

        if (ngx_http_hotpath_nats_link_established(link) != NGX_OK) {
            ngx_http_hotpath_nats_link_lost(link, "could not connect", 0);
            return;
        }

        if (link->conf->tls == NGX_HTTP_HOTPATH_NATS_TLS_FIRST) {
            ngx_http_hotpath_nats_link_secure(link);
            return;
        }

        if (c->read->ready) {
            /* INFO came with the connection, and its edge was passed over */
            ngx_post_event(c->read, &ngx_posted_events);
        }
    }

    if (ngx_http_hotpath_nats_link_send(link) != NGX_OK) {
        ngx_http_hotpath_nats_link_lost(link, "write failed", 0);
    }
}


/* The outcome of a connect that was under way. */

static ngx_int_t
ngx_http_hotpath_nats_link_established(ngx_http_hotpath_nats_link_t *link)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    if (getsockopt(link->connection->fd, SOL_SOCKET, SO_ERROR, (void *) &err,
                   &len)
        == -1)
    {
        err = ngx_socket_errno;
    }

    if (err) {
        ngx_log_error(NGX_LOG_INFO, link->log, err,
                      "hotpath: connect() to %V", link->peer.name);
        return NGX_ERROR;
    }

    if (link->peer.sockaddr->sa_family != AF_UNIX) {
        (void) ngx_tcp_nodelay(link->connection);
    }

    link->state = NGX_HTTP_HOTPATH_NATS_INFO;

    return ngx_handle_read_event(link->connection->read, 0);
}


static void
ngx_http_hotpath_nats_link_secure(ngx_http_hotpath_nats_link_t *link)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = link->connection;

    if (link->in_len) {
        /* whoever put it there did so before there was a secret */
        ngx_http_hotpath_nats_link_lost(link,
                                  "sent something before the handshake", 0);
        return;
    }

    link->pool = ngx_create_pool(1024, link->log);
    if (link->pool == NULL) {
        ngx_http_hotpath_nats_link_lost(link, "no memory", 0);
        return;
    }

    link->state = NGX_HTTP_HOTPATH_NATS_HANDSHAKE;

    rc = ngx_http_hotpath_nats_tls_begin(link->conf, c, link->pool,
                                         &link->server.host,
                                         ngx_http_hotpath_nats_link_handshake);
    if (rc == NGX_OK) {
        ngx_http_hotpath_nats_link_secured(link);

    } else if (rc != NGX_AGAIN) {
        ngx_http_hotpath_nats_link_lost(link,
                                   ngx_http_hotpath_nats_tls_reason(c), 1);
    }
}


static void
ngx_http_hotpath_nats_link_handshake(ngx_connection_t *c)
{
    ngx_http_hotpath_nats_link_t  *link;

    link = c->data;

    if (ngx_http_hotpath_nats_tls_done(c) != NGX_OK) {
        ngx_http_hotpath_nats_link_lost(link,
                                   ngx_http_hotpath_nats_tls_reason(c), 1);
        return;
    }

    ngx_http_hotpath_nats_link_secured(link);
}


static void
ngx_http_hotpath_nats_link_secured(ngx_http_hotpath_nats_link_t *link)
{
    ngx_connection_t  *c;

    c = link->connection;

    c->read->handler = ngx_http_hotpath_nats_link_read_handler;
    c->write->handler = ngx_http_hotpath_nats_link_write_handler;

    link->secure = 1;
    link->state = NGX_HTTP_HOTPATH_NATS_INFO;

    if (link->greeted) {
        ngx_http_hotpath_nats_link_greet(link, link->nonce);
    }

    if (link->state != NGX_HTTP_HOTPATH_NATS_DOWN) {
        ngx_post_event(c->read, &ngx_posted_events);
    }
}


static ngx_int_t
ngx_http_hotpath_nats_link_send(ngx_http_hotpath_nats_link_t *link)
{
    ssize_t            n;
    ngx_connection_t  *c;

    c = link->connection;

    if (link->state == NGX_HTTP_HOTPATH_NATS_HANDSHAKE) {
        return NGX_OK;
    }

    while (link->out_pos < link->out_len && c->write->ready) {

        n = c->send(c, link->out + link->out_pos,
                    link->out_len - link->out_pos);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n <= 0) {
            return NGX_ERROR;
        }

        link->out_pos += n;
        link->sent += n;
    }

    if (link->out_pos == link->out_len) {
        link->out_pos = 0;
        link->out_len = 0;
    }

    return ngx_handle_write_event(c->write, 0);
}


u_char *
ngx_http_hotpath_nats_link_reserve(ngx_http_hotpath_nats_link_t *link,
    size_t size)
{
    u_char  *out;
    size_t   waiting, wanted;

    waiting = link->out_len - link->out_pos;

    if (waiting + size > link->conf->buffer) {
        return NULL;
    }

    if (link->out_len + size <= link->out_size) {
        return link->out + link->out_len;
    }

    if (link->out_pos) {
        ngx_memmove(link->out, link->out + link->out_pos, waiting);
        link->out_pos = 0;
        link->out_len = waiting;
    }

    if (waiting + size > link->out_size) {

        wanted = ngx_min(ngx_max(link->out_size * 2, waiting + size),
                         link->conf->buffer);

        out = ngx_alloc(wanted, link->log);
        if (out == NULL) {
            return NULL;
        }

        ngx_memcpy(out, link->out, waiting);
        ngx_free(link->out);

        link->out = out;
        link->out_size = wanted;
    }

    return link->out + link->out_len;
}


void
ngx_http_hotpath_nats_link_wrote(ngx_http_hotpath_nats_link_t *link,
    u_char *end)
{
    link->out_len = end - link->out;

    if (!link->flush.posted) {
        ngx_post_event(&link->flush, &ngx_posted_events);
    }
}


uint64_t
ngx_http_hotpath_nats_link_written(ngx_http_hotpath_nats_link_t *link)
{
    return link->sent + (link->out_len - link->out_pos);
}


/* A line of the protocol's own; at the buffer's bound it is left out, and the
 * timers see to it that the connection does not stay so. */

static void
ngx_http_hotpath_nats_link_say(ngx_http_hotpath_nats_link_t *link,
    const char *line, size_t len)
{
    u_char  *p;

    p = ngx_http_hotpath_nats_link_reserve(link, len);

    if (p) {
        ngx_http_hotpath_nats_link_wrote(link, ngx_cpymem(p, line, len));
    }
}


static ngx_int_t
ngx_http_hotpath_nats_link_grow_in(ngx_http_hotpath_nats_link_t *link,
    size_t wanted)
{
    u_char  *in;
    size_t   size;

    if (wanted > NGX_HTTP_HOTPATH_NATS_IN_MAX) {
        return NGX_ERROR;
    }

    size = link->in_size;
    while (size < wanted) {
        size *= 2;
    }

    in = ngx_alloc(size, link->log);
    if (in == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(in, link->in, link->in_len);
    ngx_free(link->in);

    link->in = in;
    link->in_size = size;

    return NGX_OK;
}


static void
ngx_http_hotpath_nats_link_read_handler(ngx_event_t *rev)
{
    ssize_t                        n;
    ngx_int_t                      rc;
    ngx_uint_t                     reads;
    ngx_connection_t              *c;
    ngx_http_hotpath_nats_link_t  *link;

    c = rev->data;
    link = c->data;

    if (link->state == NGX_HTTP_HOTPATH_NATS_CONNECTING) {
        /* the write event tells how connecting went */
        return;
    }

    for (reads = 0; reads < NGX_HTTP_HOTPATH_NATS_READS; reads++) {

        if (link->in_len == link->in_size
            && ngx_http_hotpath_nats_link_grow_in(link, link->in_size + 1)
               != NGX_OK)
        {
            ngx_http_hotpath_nats_link_lost(link, "sent too large a message",
                                            0);
            return;
        }

        n = c->recv(c, link->in + link->in_len, link->in_size - link->in_len);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {
            ngx_http_hotpath_nats_link_lost(link, "closed the connection", 0);
            return;
        }

        link->in_len += n;

        link->reading = 1;
        rc = ngx_http_hotpath_nats_link_process(link);
        link->reading = 0;

        if (rc != NGX_OK) {
            return;
        }
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_http_hotpath_nats_link_lost(link, "could not be watched", 0);
        return;
    }

    if (reads == NGX_HTTP_HOTPATH_NATS_READS) {
        /* more is there: let the others run first */
        ngx_post_event(rev, &ngx_posted_next_events);
    }
}


/* NGX_DONE: this is no longer the connection that was read from, or it must
 * not be read from now. */

static ngx_int_t
ngx_http_hotpath_nats_link_process(ngx_http_hotpath_nats_link_t *link)
{
    size_t             pos, consumed, wanted;
    hp_str_t           data;
    hp_nats_op_t       op;
    hp_nats_op_e       kind;
    ngx_connection_t  *c;

    c = link->connection;
    pos = 0;

    for ( ;; ) {
        data.data = link->in + pos;
        data.len = link->in_len - pos;

        kind = hp_nats_read(data, NGX_HTTP_HOTPATH_NATS_IN_MAX / 2, &op,
                            &consumed, &wanted);

        if (kind == HP_NATS_MORE) {
            break;
        }

        if (kind == HP_NATS_BROKEN) {
            ngx_http_hotpath_nats_link_lost(link, "does not speak NATS", 0);
            return NGX_DONE;
        }

        pos += consumed;

        if (kind == HP_NATS_INFO && pos == link->in_len) {
            /* nothing stands behind it: a handshake may follow */
            link->in_len = 0;
            pos = 0;
        }

        ngx_http_hotpath_nats_link_op(link, kind, &op);

        if (link->connection != c
            || link->state == NGX_HTTP_HOTPATH_NATS_HANDSHAKE)
        {
            return NGX_DONE;
        }
    }

    if (pos) {
        link->in_len -= pos;
        ngx_memmove(link->in, link->in + pos, link->in_len);
    }

    if (wanted > link->in_size
        && ngx_http_hotpath_nats_link_grow_in(link, wanted) != NGX_OK)
    {
        ngx_http_hotpath_nats_link_lost(link, "sent too large a message", 0);
        return NGX_DONE;
    }

    return NGX_OK;
}


static void
ngx_http_hotpath_nats_link_op(ngx_http_hotpath_nats_link_t *link,
    hp_nats_op_e kind, hp_nats_op_t *op)
{
    switch (kind) {

    case HP_NATS_MSG:
        if (link->state == NGX_HTTP_HOTPATH_NATS_READY) {
            link->owner->message(link->data, link, op);
        }

        break;

    case HP_NATS_PING:
        ngx_http_hotpath_nats_link_say(link, "PONG" CRLF,
                                       sizeof("PONG" CRLF) - 1);
        break;

    case HP_NATS_PONG:
        link->pings = 0;

        if (link->state == NGX_HTTP_HOTPATH_NATS_GREETING) {
            link->state = NGX_HTTP_HOTPATH_NATS_READY;
            ngx_add_timer(&link->timer, link->conf->ping_interval);
            link->owner->ready(link->data, link);
        }

        break;

    case HP_NATS_INFO:
        ngx_http_hotpath_nats_link_info(link, op);
        break;

    case HP_NATS_ERR:
        ngx_http_hotpath_nats_link_trouble(link, op->text);
        break;

    default: /* +OK */
        break;
    }
}


static void
ngx_http_hotpath_nats_link_info(ngx_http_hotpath_nats_link_t *link,
    hp_nats_op_t *op)
{
    ngx_uint_t      wants;
    hp_nats_info_t  info;

    if (hp_nats_info_read(&info, op->text) != 0) {
        ngx_http_hotpath_nats_link_lost(link, "sent a broken INFO", 0);
        return;
    }

    if (info.max_payload) {
        link->max_payload = ngx_min(info.max_payload,
                                    NGX_HTTP_HOTPATH_NATS_IN_MAX / 2);
    }

    if (link->greeted) {
        link->owner->info(link->data, link, &info);
        return;
    }

    if (!info.headers || info.max_payload == 0) {
        ngx_http_hotpath_nats_link_lost(link,
                              "is too old: message headers are missing", 1);
        return;
    }

    if (info.lame_duck) {
        ngx_http_hotpath_nats_link_lost(link, "is about to stop", 1);
        return;
    }

    if (info.nonce.len > sizeof(link->nonce_text)) {
        ngx_http_hotpath_nats_link_lost(link, "sent a broken INFO", 0);
        return;
    }

    link->greeted = 1;
    link->owner->info(link->data, link, &info);

    wants = (link->conf->tls != NGX_HTTP_HOTPATH_NATS_TLS_OFF);

    if (wants && !link->secure) {

        if (!info.tls_required && !info.tls_available) {
            ngx_http_hotpath_nats_link_lost(link, "offers no TLS", 1);
            return;
        }

        /* INFO is not there any longer when the handshake is done */

        link->nonce.data = link->nonce_text;
        link->nonce.len = info.nonce.len;

        if (info.nonce.len) {
            ngx_memcpy(link->nonce_text, info.nonce.data, info.nonce.len);
        }

        ngx_http_hotpath_nats_link_secure(link);
        return;
    }

    if (!wants && info.tls_required) {
        ngx_http_hotpath_nats_link_lost(link,
                                   "requires TLS, which is not set up", 1);
        return;
    }

    ngx_http_hotpath_nats_link_greet(link, info.nonce);
}


static void
ngx_http_hotpath_nats_link_greet(ngx_http_hotpath_nats_link_t *link,
    hp_str_t nonce)
{
    u_char  *p;

    p = ngx_http_hotpath_nats_link_reserve(link,
                               ngx_http_hotpath_nats_auth_size(link->conf));
    if (p == NULL) {
        ngx_http_hotpath_nats_link_lost(link, "no memory", 0);
        return;
    }

    p = ngx_http_hotpath_nats_auth_connect(link->conf, p, nonce,
                                           link->secure);
    if (p == NULL) {
        ngx_http_hotpath_nats_link_lost(link, "its nonce cannot be signed", 0);
        return;
    }

    ngx_http_hotpath_nats_link_wrote(link, p);

    link->state = NGX_HTTP_HOTPATH_NATS_GREETING;

    if (link->owner->greeting(link->data, link) != NGX_OK) {
        ngx_http_hotpath_nats_link_lost(link, "no memory", 0);
        return;
    }

    ngx_http_hotpath_nats_link_say(link, "PING" CRLF,
                                   sizeof("PING" CRLF) - 1);
}


static void
ngx_http_hotpath_nats_link_trouble(ngx_http_hotpath_nats_link_t *link,
    hp_str_t text)
{
    hp_str_t           subject;
    ngx_uint_t         level;
    hp_nats_trouble_e  trouble;

    trouble = hp_nats_trouble(text, &subject);

    if (link->complaints < NGX_HTTP_HOTPATH_NATS_COMPLAINTS) {
        link->complaints++;

        /* of a server that is left alone for that reason, once */

        level = link->server.hold ? NGX_LOG_INFO : NGX_LOG_ERR;

        ngx_log_error(level, link->log, 0, "hotpath: nats server %V says: %*s",
                      link->peer.name, text.len, text.data);
    }

    switch (trouble) {

    case HP_NATS_TROUBLE_PUBLISH:
        link->owner->denied(link->data, link, subject, text);
        break;

    case HP_NATS_TROUBLE_SUBSCRIBE:
        /* replies or pushes would be waited for in vain */
        ngx_http_hotpath_nats_link_lost(link,
                        "does not permit a subscription that is needed", 1);
        break;

    case HP_NATS_TROUBLE_AUTH:
        ngx_http_hotpath_nats_link_lost(link,
                              "does not accept who we are, or no longer", 1);
        break;

    case HP_NATS_TROUBLE_LIMIT:
        ngx_http_hotpath_nats_link_lost(link, "takes no more connections", 1);
        break;

    case HP_NATS_TROUBLE_PAYLOAD:
        ngx_http_hotpath_nats_link_lost(link, "found a message too large", 0);
        break;

    case HP_NATS_TROUBLE_BROKEN:
        ngx_http_hotpath_nats_link_lost(link, "gave the connection up", 0);
        break;

    default: /* HP_NATS_TROUBLE_OTHER */
        break;
    }
}
