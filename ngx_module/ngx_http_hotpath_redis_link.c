/*
 * ngx_http_hotpath_redis_link.c: the connection to Redis, made and made again.
 *
 * Resolves where it may, connects, greets (TLS, AUTH, SELECT, PING) and hands
 * what came and may go to hiredis, on nginx's events. hiredis owns the socket,
 * the buffers and the order of replies; this file owns the nginx connection
 * around the socket. It is ready when PING was answered. Runs in workers, on
 * the event loop, without any lock.
 *
 * A name is resolved when the configuration is read, and again, by nginx's
 * resolver where there is one, before every connection after a worker's first.
 * Of several addresses each attempt takes the next. An attempt has a second;
 * after it a pause of 25 ms, growing to 0.8 s at most, because a Redis that is
 * back and not asked costs Postgres more than being asked costs anybody.
 *
 * What must never happen here: a blocking call (hiredis gets addresses, never
 * names), hiredis freeing its context under a handler (its one way out is the
 * cleanup callback), a line in the log for each attempt. Tests:
 * tests/faults/test_redis_faults.py, tests/integration/test_redis.py.
 */
#include "ngx_http_hotpath_redis_link.h"
#include "ngx_http_hotpath_metrics.h"
#include <ngx_event.h>


#define NGX_HTTP_HOTPATH_REDIS_CONNECT_MS   1000
#define NGX_HTTP_HOTPATH_REDIS_RESOLVE_MS   1000
#define NGX_HTTP_HOTPATH_REDIS_STEADY_MS    1000
#define NGX_HTTP_HOTPATH_REDIS_AGAIN_MS     60000
#define NGX_HTTP_HOTPATH_REDIS_TEXT_MAX     160

/* 50 ms doubled four times. */
#define NGX_HTTP_HOTPATH_REDIS_SLOWEST      4


static void ngx_http_hotpath_redis_link_find(ngx_http_hotpath_redis_t *redis);
static void ngx_http_hotpath_redis_link_found(ngx_resolver_ctx_t *ctx);
static void ngx_http_hotpath_redis_link_connect(
    ngx_http_hotpath_redis_t *redis);
static void ngx_http_hotpath_redis_link_retry(ngx_http_hotpath_redis_t *redis);
static ngx_int_t ngx_http_hotpath_redis_link_greet(
    ngx_http_hotpath_redis_t *redis);
static ngx_int_t ngx_http_hotpath_redis_link_say(
    ngx_http_hotpath_redis_t *redis, ngx_uint_t n, ngx_str_t *words,
    const char *expected);
static void ngx_http_hotpath_redis_link_greeted(redisAsyncContext *ac,
    void *reply, void *data);
static void ngx_http_hotpath_redis_link_connect_handler(ngx_event_t *ev);
static void ngx_http_hotpath_redis_link_read_handler(ngx_event_t *rev);
static void ngx_http_hotpath_redis_link_write_handler(ngx_event_t *wev);
static void ngx_http_hotpath_redis_link_add_read(void *data);
static void ngx_http_hotpath_redis_link_del_read(void *data);
static void ngx_http_hotpath_redis_link_add_write(void *data);
static void ngx_http_hotpath_redis_link_del_write(void *data);
static void ngx_http_hotpath_redis_link_cleanup(void *data);
static void ngx_http_hotpath_redis_link_complain(
    ngx_http_hotpath_redis_t *redis, const char *what, const char *why);


/* Connections made by this process so far, to any Redis. */
static ngx_uint_t  ngx_http_hotpath_redis_links;

static const char  ngx_http_hotpath_redis_ok[] = "OK";
static const char  ngx_http_hotpath_redis_pong[] = "PONG";


void
ngx_http_hotpath_redis_link_start(ngx_http_hotpath_redis_t *redis,
    ngx_cycle_t *cycle)
{
    redis->cycle = cycle;

    redis->connect.handler = ngx_http_hotpath_redis_link_connect_handler;
    redis->connect.data = redis;
    redis->connect.log = cycle->log;
    redis->connect.cancelable = 1;

    ngx_http_hotpath_redis_link_connect(redis);
}


void
ngx_http_hotpath_redis_link_stop(ngx_http_hotpath_redis_t *redis)
{
    redis->stopping = 1;

    if (redis->resolving) {
        ngx_resolve_name_done(redis->resolving);
        redis->resolving = NULL;
    }

    if (redis->ac) {
        ngx_http_hotpath_redis_link_drop(redis, NULL);
    }

    if (redis->connect.timer_set) {
        ngx_del_timer(&redis->connect);
    }
}


void
ngx_http_hotpath_redis_link_drop(ngx_http_hotpath_redis_t *redis,
    const char *why)
{
    if (why) {
        ngx_http_hotpath_redis_link_complain(redis, "given up", why);
    }

    redis->ready = 0;

    redisAsyncFree(redis->ac);
}


/* Looks where the name leads now. Without a resolver, and where it does not
 * know, the addresses stay those that were known. */

static void
ngx_http_hotpath_redis_link_find(ngx_http_hotpath_redis_t *redis)
{
    ngx_resolver_ctx_t  *ctx;

    if (redis->host.len == 0
        || !redis->started
        || redis->clcf->resolver == NULL)
    {
        ngx_http_hotpath_redis_link_connect(redis);
        return;
    }

    ctx = ngx_resolve_start(redis->clcf->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        ngx_http_hotpath_redis_link_connect(redis);
        return;
    }

    ctx->name = redis->host;
    ctx->handler = ngx_http_hotpath_redis_link_found;
    ctx->data = redis;
    ctx->timeout = NGX_HTTP_HOTPATH_REDIS_RESOLVE_MS;
    ctx->cancelable = 1;

    redis->resolving = ctx;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        redis->resolving = NULL;          /* freed without a call */
        ngx_http_hotpath_redis_link_connect(redis);
    }
}


static void
ngx_http_hotpath_redis_link_found(ngx_resolver_ctx_t *ctx)
{
    ngx_http_hotpath_redis_t  *redis = ctx->data;

    size_t      len;
    ngx_uint_t  i;

    redis->resolving = NULL;

    if (ctx->state || ctx->naddrs == 0) {
        ngx_http_hotpath_redis_link_complain(redis, "not resolved",
                                             ngx_resolver_strerror(ctx->state));

    } else {
        redis->naddrs = ngx_min(ctx->naddrs, NGX_HTTP_HOTPATH_REDIS_ADDRS_MAX);

        for (i = 0; i < redis->naddrs; i++) {
            len = ngx_sock_ntop(ctx->addrs[i].sockaddr, ctx->addrs[i].socklen,
                                redis->addrs[i], NGX_SOCKADDR_STRLEN, 0);
            redis->addrs[i][len] = '\0';
        }
    }

    ngx_resolve_name_done(ctx);

    ngx_http_hotpath_redis_link_connect(redis);
}


static void
ngx_http_hotpath_redis_link_connect(ngx_http_hotpath_redis_t *redis)
{
    const char         *why;
    redisAsyncContext  *ac;

    redis->started = 1;

    if (redis->path) {
        ac = redisAsyncConnectUnix(redis->path);

    } else {
        redis->addr %= redis->naddrs;
        ac = redisAsyncConnect((char *) redis->addrs[redis->addr],
                               redis->port);
    }

    if (ac == NULL) {
        ngx_http_hotpath_redis_link_complain(redis, "failed", "no memory");
        ngx_http_hotpath_redis_link_retry(redis);
        return;
    }

    if (ac->err) {
        ngx_http_hotpath_redis_link_complain(redis, "failed", ac->errstr);
        goto failed;
    }

    redis->connection = ngx_http_hotpath_backend_attach(ac->c.fd, redis,
                                     ngx_http_hotpath_redis_link_read_handler,
                                     ngx_http_hotpath_redis_link_write_handler,
                                     redis->cycle->log);
    if (redis->connection == NULL) {
        goto failed;
    }

    redis->ac = ac;
    redis->ready = 0;
    redis->session = NULL;
    redis->link = ++ngx_http_hotpath_redis_links;

    ac->data = redis;
    ac->ev.data = redis;
    ac->ev.addRead = ngx_http_hotpath_redis_link_add_read;
    ac->ev.delRead = ngx_http_hotpath_redis_link_del_read;
    ac->ev.addWrite = ngx_http_hotpath_redis_link_add_write;
    ac->ev.delWrite = ngx_http_hotpath_redis_link_del_write;
    ac->ev.cleanup = ngx_http_hotpath_redis_link_cleanup;

    ngx_http_hotpath_redis_guard_set(&redis->guard, ac);

    ngx_add_timer(&redis->connect, ngx_max(redis->timeout,
                                          NGX_HTTP_HOTPATH_REDIS_CONNECT_MS));

    if (redis->encrypted) {
        redis->session = ngx_http_hotpath_redis_tls_begin(&redis->tls, &ac->c,
                                                          &why);
        if (redis->session == NULL) {
            ngx_http_hotpath_redis_link_drop(redis, why);
            return;
        }
    }

    if (ngx_http_hotpath_redis_link_greet(redis) != NGX_OK) {
        ngx_http_hotpath_redis_link_drop(redis, "no memory");
    }

    return;

failed:

    redisAsyncFree(ac);
    ngx_http_hotpath_redis_link_retry(redis);
}


static void
ngx_http_hotpath_redis_link_retry(ngx_http_hotpath_redis_t *redis)
{
    ngx_uint_t  n;

    if (redis->stopping || ngx_exiting || ngx_terminate) {
        return;
    }

    redis->addr++;

    n = ngx_min(redis->attempts, NGX_HTTP_HOTPATH_REDIS_SLOWEST);
    redis->attempts++;

    ngx_add_timer(&redis->connect, ngx_http_hotpath_backend_backoff(n));
}


static ngx_int_t
ngx_http_hotpath_redis_link_greet(ngx_http_hotpath_redis_t *redis)
{
    u_char      db[NGX_INT_T_LEN];
    ngx_str_t   words[3];
    ngx_uint_t  n;

    if (redis->password.len) {
        n = 0;
        ngx_str_set(&words[n], "AUTH");
        n++;

        if (redis->user.len) {
            words[n++] = redis->user;
        }

        words[n++] = redis->password;

        if (ngx_http_hotpath_redis_link_say(redis, n, words,
                                            ngx_http_hotpath_redis_ok)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (redis->db) {
        ngx_str_set(&words[0], "SELECT");
        words[1].data = db;
        words[1].len = ngx_sprintf(db, "%i", redis->db) - db;

        if (ngx_http_hotpath_redis_link_say(redis, 2, words,
                                            ngx_http_hotpath_redis_ok)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    ngx_str_set(&words[0], "PING");

    return ngx_http_hotpath_redis_link_say(redis, 1, words,
                                           ngx_http_hotpath_redis_pong);
}


static ngx_int_t
ngx_http_hotpath_redis_link_say(ngx_http_hotpath_redis_t *redis, ngx_uint_t n,
    ngx_str_t *words, const char *expected)
{
    size_t       lengths[3];
    ngx_uint_t   i;
    const char  *argv[3];

    for (i = 0; i < n; i++) {
        argv[i] = (char *) words[i].data;
        lengths[i] = words[i].len;
    }

    if (redisAsyncCommandArgv(redis->ac, ngx_http_hotpath_redis_link_greeted,
                              (void *) expected, (int) n, argv, lengths)
        != REDIS_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* data is the reply that was expected; the last one is PONG. */

static void
ngx_http_hotpath_redis_link_greeted(redisAsyncContext *ac, void *reply,
    void *data)
{
    redisReply                *r = reply;
    ngx_http_hotpath_redis_t  *redis = ac->data;

    ngx_uint_t  level;

    if (r == NULL || (ac->c.flags & REDIS_FREEING)) {
        return;
    }

    if (r->type != REDIS_REPLY_STATUS || ngx_strcmp(r->str, data) != 0) {
        ngx_http_hotpath_redis_link_complain(redis, "refused",
                             r->type == REDIS_REPLY_ERROR ? r->str
                                                          : "bad reply");

        /* In a callback hiredis only marks it, and frees it after. */
        redisAsyncFree(ac);
        return;
    }

    if (data != ngx_http_hotpath_redis_pong) {
        return;
    }

    if (redis->connect.timer_set) {
        ngx_del_timer(&redis->connect);
    }

    redis->ready = 1;
    redis->since = ngx_current_msec;

    redis->counted = 1;
    ngx_http_hotpath_count(REDIS_CONNECTS);
    ngx_http_hotpath_add(REDIS_CONNECTED, 1);

    level = redis->troubled ? NGX_LOG_NOTICE : NGX_LOG_INFO;

    ngx_log_error(level, redis->cycle->log, 0,
                  "hotpath: connected to redis \"%V\"", &redis->name);

    redis->troubled = 0;
}


static void
ngx_http_hotpath_redis_link_connect_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_redis_t  *redis = ev->data;

    if (redis->ac) {
        ngx_http_hotpath_redis_link_drop(redis, "no answer in time");
        return;
    }

    if (ngx_exiting || ngx_terminate) {
        return;
    }

    ngx_http_hotpath_redis_link_find(redis);
}


static void
ngx_http_hotpath_redis_link_read_handler(ngx_event_t *rev)
{
    ngx_connection_t          *c = rev->data;
    ngx_http_hotpath_redis_t  *redis = c->data;

    if (redis->encrypted) {
        ngx_http_hotpath_redis_tls_forget();
    }

    redisAsyncHandleRead(redis->ac);

    if (redis->encrypted) {
        ngx_http_hotpath_redis_tls_forget();
    }

    if (redis->ac && ngx_http_hotpath_redis_guard_full(redis->ac)) {
        ngx_http_hotpath_redis_link_drop(redis, "reply too large");
    }
}


static void
ngx_http_hotpath_redis_link_write_handler(ngx_event_t *wev)
{
    ngx_connection_t          *c = wev->data;
    ngx_http_hotpath_redis_t  *redis = c->data;

    if (redis->encrypted) {
        ngx_http_hotpath_redis_tls_forget();
    }

    redis->writing = 1;
    redisAsyncHandleWrite(redis->ac);
    redis->writing = 0;

    if (redis->encrypted) {
        ngx_http_hotpath_redis_tls_forget();
    }
}


static void
ngx_http_hotpath_redis_link_add_read(void *data)
{
    ngx_http_hotpath_redis_t  *redis = data;
    ngx_connection_t          *c = redis->connection;

    (void) ngx_http_hotpath_backend_wait(c, 1, c->write->active);
}


static void
ngx_http_hotpath_redis_link_del_read(void *data)
{
    ngx_http_hotpath_redis_t  *redis = data;
    ngx_connection_t          *c = redis->connection;

    (void) ngx_http_hotpath_backend_wait(c, 0, c->write->active);
}


static void
ngx_http_hotpath_redis_link_add_write(void *data)
{
    ngx_http_hotpath_redis_t  *redis = data;
    ngx_connection_t          *c = redis->connection;

    /* Everything that this turn of the event loop has to send goes in one
     * write at its end; the system is asked only where that was not enough,
     * or where the connection is still being made. */

    if ((redis->ac->c.flags & REDIS_CONNECTED) && !redis->writing) {
        ngx_post_event(c->write, &ngx_posted_events);
        return;
    }

    (void) ngx_http_hotpath_backend_wait(c, c->read->active, 1);
}


static void
ngx_http_hotpath_redis_link_del_write(void *data)
{
    ngx_http_hotpath_redis_t  *redis = data;
    ngx_connection_t          *c = redis->connection;

    (void) ngx_http_hotpath_backend_wait(c, c->read->active, 0);
}


/* hiredis calls this on every way to its context's end, once, before it closes
 * the socket. The callbacks of commands that got no reply come before it
 * (redisAsyncFree(), and always in 0.14) or after it. */

static void
ngx_http_hotpath_redis_link_cleanup(void *data)
{
    ngx_http_hotpath_redis_t  *redis = data;

    const char         *why;
    redisAsyncContext  *ac;

    ac = redis->ac;

    if (redis->counted
        && (ngx_msec_int_t) (ngx_current_msec - redis->since)
           >= NGX_HTTP_HOTPATH_REDIS_STEADY_MS)
    {
        /* it was good: a new beginning, and a new trouble */
        redis->attempts = 0;
        ngx_memzero(redis->troubles, sizeof(redis->troubles));
    }

    if (ac->err && !redis->stopping) {
        why = redis->session ? ngx_http_hotpath_redis_tls_reason(redis->session)
                             : NULL;

        if (redis->guard.refused) {
            why = "a reply that was not asked for, or too large";
        }

        ngx_http_hotpath_redis_link_complain(redis, "lost",
                                             why ? why : ac->errstr);
    }

    ngx_http_hotpath_backend_detach(redis->connection, ac->c.fd);

    redis->connection = NULL;
    redis->session = NULL;
    redis->ac = NULL;
    redis->ready = 0;

    if (redis->counted) {
        redis->counted = 0;
        ngx_http_hotpath_add(REDIS_CONNECTED, -1);
    }

    if (redis->connect.timer_set) {
        /* it never became ready */
        ngx_del_timer(&redis->connect);
    }

    ngx_http_hotpath_redis_link_retry(redis);
}


static void
ngx_http_hotpath_redis_link_complain(ngx_http_hotpath_redis_t *redis,
    const char *what, const char *why)
{
    u_char      text[NGX_HTTP_HOTPATH_REDIS_TEXT_MAX];
    size_t      len;
    ngx_str_t   where;
    ngx_uint_t  level;

    ngx_str_set(&where, "its socket");

    if (redis->path == NULL) {
        where.data = redis->addrs[redis->addr % redis->naddrs];
        where.len = ngx_strlen(where.data);
    }

    len = ngx_snprintf(text, sizeof(text), "at %V %s (%s)", &where, what, why)
          - text;

    level = NGX_LOG_INFO;

    if (ngx_http_hotpath_redis_link_news(redis->troubles, text, len)) {
        level = NGX_LOG_ERR;
        redis->troubled = 1;
    }

    ngx_log_error(level, redis->cycle->log, 0,
                  "hotpath: connection to redis \"%V\" %*s",
                  &redis->name, len, text);
}


ngx_uint_t
ngx_http_hotpath_redis_link_news(ngx_http_hotpath_redis_trouble_t *rows,
    u_char *text, size_t len)
{
    uint32_t                           hash;
    ngx_uint_t                         i, n;
    ngx_http_hotpath_redis_trouble_t  *row;

    hash = ngx_crc32_short(text, len);
    row = NULL;

    for (i = 0; i < NGX_HTTP_HOTPATH_REDIS_TROUBLES; i++) {

        if (rows[i].count && rows[i].hash == hash) {
            row = &rows[i];
            break;
        }

        if (rows[i].count == 0
            || ngx_current_msec - rows[i].at
               >= NGX_HTTP_HOTPATH_REDIS_AGAIN_MS)
        {
            row = &rows[i];
        }
    }

    /* A peer that has a new trouble every time gets as many lines as there are
     * rows. */

    if (row == NULL) {
        return 0;
    }

    if (i == NGX_HTTP_HOTPATH_REDIS_TROUBLES) {
        row->hash = hash;
        row->count = 0;

    } else if (ngx_current_msec - row->at < NGX_HTTP_HOTPATH_REDIS_AGAIN_MS) {
        row->count++;
        return 0;
    }

    n = row->count ? row->count : 1;

    row->at = ngx_current_msec;
    row->count = 1;

    return n;
}
