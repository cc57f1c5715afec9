/*
 * ngx_http_hotpath_backend.c: sockets of client libraries on nginx's events,
 * backoff, circuit breaker.
 *
 * Owns the ngx_connection_t between attach and detach and never the socket in
 * it: nginx must not close what hiredis or libpq will close, and no event may
 * stay registered for a number that another socket may get. Detach and attach
 * give the connection another event instance, so events already fetched for
 * the old socket are recognised by nginx as stale. Runs in workers, on the
 * event loop; nothing here blocks, allocates or calls back.
 *
 * Described in ngx_http_hotpath_backend.h; tested through redis and postgres
 * by tests/faults/.
 */
#include "ngx_http_hotpath_backend.h"


#define NGX_HTTP_HOTPATH_BACKOFF_MIN_MS    50
#define NGX_HTTP_HOTPATH_BACKOFF_MAX_MS    5000

#define NGX_HTTP_HOTPATH_BREAKER_FAILURES  5
#define NGX_HTTP_HOTPATH_BREAKER_SLOWER    4


static void ngx_http_hotpath_breaker_trip(ngx_http_hotpath_breaker_t *b,
    ngx_uint_t probe, const char *what, ngx_log_t *log);


ngx_connection_t *
ngx_http_hotpath_backend_attach(ngx_socket_t fd, void *data,
    ngx_event_handler_pt read, ngx_event_handler_pt write, ngx_log_t *log)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(fd, log);

    if (c == NULL) {
        return NULL;
    }

    c->data = data;

    c->read->handler = read;
    c->read->log = log;

    c->write->handler = write;
    c->write->log = log;

    return c;
}


ngx_int_t
ngx_http_hotpath_backend_wait(ngx_connection_t *c, ngx_uint_t read,
    ngx_uint_t write)
{
    if (read && !c->read->active) {
        if (ngx_add_event(c->read, NGX_READ_EVENT, NGX_LEVEL_EVENT) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (write && !c->write->active) {
        if (ngx_add_event(c->write, NGX_WRITE_EVENT, NGX_LEVEL_EVENT)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (!read && c->read->active) {
        if (ngx_del_event(c->read, NGX_READ_EVENT, 0) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (!write && c->write->active) {
        if (ngx_del_event(c->write, NGX_WRITE_EVENT, 0) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


void
ngx_http_hotpath_backend_detach(ngx_connection_t *c, ngx_socket_t fd)
{
    ngx_uint_t  flags;

    /* A socket closed behind our back has left the event set by itself, and
     * its number must not be named to the system any more. */

    flags = (fd == c->fd) ? 0 : NGX_CLOSE_EVENT;

    if (c->read->active) {
        (void) ngx_del_event(c->read, NGX_READ_EVENT, flags);
    }

    if (c->write->active) {
        (void) ngx_del_event(c->write, NGX_WRITE_EVENT, flags);
    }

    if (c->read->posted) {
        ngx_delete_posted_event(c->read);
    }

    if (c->write->posted) {
        ngx_delete_posted_event(c->write);
    }

    c->read->closed = 1;
    c->write->closed = 1;

    ngx_free_connection(c);

    c->fd = (ngx_socket_t) -1;
}


size_t
ngx_http_hotpath_backend_line(const char *message)
{
    size_t  n;

    for (n = 0; (u_char) message[n] >= ' '; n++) { /* void */ }

    return n;
}


ngx_msec_t
ngx_http_hotpath_backend_backoff(ngx_uint_t n)
{
    ngx_msec_t  ms;

    ms = NGX_HTTP_HOTPATH_BACKOFF_MIN_MS << ngx_min(n, 7);
    ms = ngx_min(ms, NGX_HTTP_HOTPATH_BACKOFF_MAX_MS);

    return ms / 2 + (ngx_msec_t) ngx_random() % (ms / 2 + 1);
}


ngx_uint_t
ngx_http_hotpath_breaker_closed(ngx_http_hotpath_breaker_t *b)
{
    if (!b->open) {
        return 1;
    }

    return !b->probing
           && (ngx_msec_int_t) (ngx_current_msec - b->open_until) >= 0;
}


ngx_int_t
ngx_http_hotpath_breaker_enter(ngx_http_hotpath_breaker_t *b)
{
    if (!b->open) {
        return NGX_OK;
    }

    if (!ngx_http_hotpath_breaker_closed(b)) {
        return NGX_BUSY;
    }

    b->probing = 1;

    return NGX_AGAIN;
}


void
ngx_http_hotpath_breaker_leave(ngx_http_hotpath_breaker_t *b,
    ngx_uint_t probe, ngx_uint_t good, const char *what, ngx_log_t *log)
{
    if (probe) {
        b->probing = 0;

        if (!good) {
            ngx_http_hotpath_breaker_trip(b, 1, what, log);
            return;
        }

        b->open = 0;
        b->failures = 0;

        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "hotpath: %s answers again, calls pass", what);
        return;
    }

    /* What was sent before the breaker opened tells nothing new. */

    if (b->open) {
        return;
    }

    if (good) {
        b->failures = 0;
        return;
    }

    if (++b->failures >= NGX_HTTP_HOTPATH_BREAKER_FAILURES) {
        ngx_http_hotpath_breaker_trip(b, 0, what, log);
    }
}


void
ngx_http_hotpath_breaker_abandon(ngx_http_hotpath_breaker_t *b)
{
    b->probing = 0;
}


static void
ngx_http_hotpath_breaker_trip(ngx_http_hotpath_breaker_t *b, ngx_uint_t probe,
    const char *what, ngx_log_t *log)
{
    ngx_msec_t  ms;
    ngx_uint_t  level;

    /* From the same row as reconnecting, but not from its start: 0.4 to 0.8 s,
     * however often: one call that waits in vain each time is less than what a
     * backend that is back and not asked costs. */

    ms = ngx_http_hotpath_backend_backoff(NGX_HTTP_HOTPATH_BREAKER_SLOWER);

    b->open = 1;
    b->open_until = ngx_current_msec + ms;
    b->failures = 0;

    level = probe ? NGX_LOG_INFO : NGX_LOG_ERR;

    ngx_log_error(level, log, 0, "hotpath: %s fails, no calls to it for %Mms",
                  what, ms);
}
