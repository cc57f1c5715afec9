/*
 * ngx_http_hotpath_redis.c: one pipelined Redis connection per worker.
 *
 * hiredis owns the socket, the buffers and the order of replies; this file
 * owns the calls, which come from the cycle's pool and are used again, at most
 * `pending` of them. A call belongs to hiredis until its reply came or its
 * connection is gone, however long ago its deadline has passed or its caller
 * has cancelled it. Runs in workers, on the event loop, without any lock.
 *
 * What must never happen here: a blocking call (hiredis gets addresses, never
 * names), hiredis freeing its context under a handler (its one way out is the
 * cleanup callback), a reply that no command asked for reaching hiredis, which
 * answers those with abort().
 *
 * A connection is ready when PING was answered, behind AUTH and SELECT. One
 * that says nothing for three deadlines while commands wait is given up. Tests:
 * tests/faults/; the value's format is in schemas/framing.md.
 */
#include "ngx_http_hotpath_redis.h"
#include "ngx_http_hotpath_backend.h"
#include "ngx_http_hotpath_metrics.h"
#include <ngx_event.h>
#include <ngx_sha1.h>
#include <hiredis/hiredis.h>
#include <hiredis/async.h>


#define NGX_HTTP_HOTPATH_REDIS_CONNECT_MS   1000
#define NGX_HTTP_HOTPATH_REDIS_STEADY_MS    1000
#define NGX_HTTP_HOTPATH_REDIS_SILENCE      3
#define NGX_HTTP_HOTPATH_REDIS_COMPLAIN_MS  10000

/* Commands on their way to Redis in one worker: a larger one than SMALL is not
 * sent where it would not fit; the small ones are bounded by their number. */
#define NGX_HTTP_HOTPATH_REDIS_BYTES_MAX    (8 * 1024 * 1024)
#define NGX_HTTP_HOTPATH_REDIS_BYTES_SMALL  4096

/* What is read and not parsed yet: most is a document record, which is little
 * more than 1 MiB. A reply in parts: all of them together. */
#define NGX_HTTP_HOTPATH_REDIS_REPLY_MAX    (4 * 1024 * 1024)
#define NGX_HTTP_HOTPATH_REDIS_PARTS_MAX    16384
#define NGX_HTTP_HOTPATH_REDIS_PARTS_BYTES  (16 * 1024 * 1024)

/* The version in a document record: 16 digits behind magic and flags. */
#define NGX_HTTP_HOTPATH_REDIS_RECORD_MIN   20


struct ngx_http_hotpath_redis_call_s {
    ngx_queue_t                queue;     /* in waiting, or in free */
    ngx_http_hotpath_redis_t  *redis;
    ngx_http_hotpath_redis_pt  get;       /* one of them, or none: nobody */
    ngx_http_hotpath_redis_reply_pt
                               handler;   /* waits */
    void                      *data;
    ngx_http_hotpath_redis_script_t
                              *script;    /* NULL: another command */
    ngx_msec_t                 deadline;
    size_t                     bytes;     /* of the command */
    unsigned                   probe:1;
    unsigned                   overdue:1; /* not in waiting any more */
};


struct ngx_http_hotpath_redis_s {
    /* configuration */
    ngx_str_t                  name;
    char                     **ips;
    ngx_uint_t                 nips;
    int                        port;
    char                      *path;      /* not NULL: a unix socket */
    ngx_str_t                  user;
    ngx_str_t                  password;
    ngx_int_t                  db;
    ngx_msec_t                 timeout;
    ngx_uint_t                 pending_max;

    /* of the worker */
    ngx_cycle_t               *cycle;
    redisAsyncContext         *ac;
    ngx_connection_t          *connection;
    ngx_queue_t                waiting;   /* by deadline, which is by age */
    ngx_queue_t                free;
    ngx_uint_t                 pending;   /* commands hiredis holds */
    size_t                     bytes;     /* of these commands */
    ngx_uint_t                 link;      /* number of the connection, from 1 */
    ngx_event_t                deadline;
    ngx_event_t                connect;   /* connect deadline, or backoff */
    ngx_msec_t                 heard;     /* last reply, or first command */
    ngx_msec_t                 since;     /* ready since then */
    ngx_uint_t                 attempts;  /* in a row that led to nothing */
    ngx_http_hotpath_breaker_t breaker;
    ngx_uint_t                 refusals;  /* since the last line of them */
    ngx_msec_t                 refused;   /* when that was logged */
    ngx_uint_t                 parts;     /* of the reply being read */
    size_t                     part_bytes;
    unsigned                   ready:1;
    unsigned                   writing:1;
    unsigned                   unasked:1; /* a reply nobody asked for */
    unsigned                   stopping:1;
};


static void ngx_http_hotpath_redis_connect(ngx_http_hotpath_redis_t *redis);
static void ngx_http_hotpath_redis_retry(ngx_http_hotpath_redis_t *redis);
static void ngx_http_hotpath_redis_drop(ngx_http_hotpath_redis_t *redis,
    const char *why);
static ngx_int_t ngx_http_hotpath_redis_handshake(
    ngx_http_hotpath_redis_t *redis);
static void ngx_http_hotpath_redis_greeted(redisAsyncContext *ac, void *reply,
    void *data);
static void ngx_http_hotpath_redis_connect_handler(ngx_event_t *ev);
static void ngx_http_hotpath_redis_read_handler(ngx_event_t *rev);
static void ngx_http_hotpath_redis_write_handler(ngx_event_t *wev);
static void ngx_http_hotpath_redis_add_read(void *data);
static void ngx_http_hotpath_redis_del_read(void *data);
static void ngx_http_hotpath_redis_add_write(void *data);
static void ngx_http_hotpath_redis_del_write(void *data);
static void ngx_http_hotpath_redis_cleanup(void *data);
static ngx_http_hotpath_redis_call_t *ngx_http_hotpath_redis_send(
    ngx_http_hotpath_redis_t *redis, ngx_uint_t n, const char **argv,
    const size_t *lengths);
static void ngx_http_hotpath_redis_end(ngx_http_hotpath_redis_call_t *call,
    ngx_uint_t answered);
static void ngx_http_hotpath_redis_replied(redisAsyncContext *ac, void *reply,
    void *data);
static void ngx_http_hotpath_redis_refused(ngx_http_hotpath_redis_t *redis,
    redisReply *r);
static void ngx_http_hotpath_redis_tell(ngx_http_hotpath_redis_pt get,
    ngx_http_hotpath_redis_reply_pt handler, void *data, redisReply *r);
static void ngx_http_hotpath_redis_deadline_handler(ngx_event_t *ev);
static void ngx_http_hotpath_redis_guard(redisAsyncContext *ac);


/* Compares what a record's bytes 4 to 19 are, as text. */
static ngx_http_hotpath_redis_script_t  ngx_http_hotpath_redis_store =
    ngx_http_hotpath_redis_script(
        "local old = redis.call('GETRANGE', KEYS[1], 4, 19) "
        "if #old == 16 and old >= string.sub(ARGV[1], 5, 20) then return 0 end "
        "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) "
        "return 1");

/* Connections made by this process so far, to any Redis. */
static ngx_uint_t  ngx_http_hotpath_redis_links;


char *
ngx_http_hotpath_redis_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    u_char                     *text;
    size_t                      len;
    ngx_str_t                  *value, s;
    ngx_url_t                   u;
    ngx_int_t                   n;
    ngx_uint_t                  i;
    ngx_http_hotpath_redis_t  **slot, *redis;
#if (NGX_HAVE_UNIX_DOMAIN)
    struct sockaddr_un         *sun;
#endif

    slot = (ngx_http_hotpath_redis_t **) (p + cmd->offset);

    if (*slot != NULL) {
        return "is duplicate";
    }

    redis = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_redis_t));
    if (redis == NULL) {
        return NGX_CONF_ERROR;
    }

    redis->timeout = 100;
    redis->pending_max = 1024;

    value = cf->args->elts;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = value[1];
    u.default_port = 6379;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s in \"%V\"",
                           u.err ? u.err : "invalid address", &value[1]);
        return NGX_CONF_ERROR;
    }

    redis->name = value[1];
    redis->port = u.port;
    redis->nips = u.naddrs;

    redis->ips = ngx_pcalloc(cf->pool, u.naddrs * sizeof(char *));
    if (redis->ips == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < u.naddrs; i++) {

#if (NGX_HAVE_UNIX_DOMAIN)
        if (u.addrs[i].sockaddr->sa_family == AF_UNIX) {
            sun = (struct sockaddr_un *) u.addrs[i].sockaddr;
            redis->path = sun->sun_path;
            continue;
        }
#endif

        text = ngx_pcalloc(cf->pool, NGX_SOCKADDR_STRLEN + 1);
        if (text == NULL) {
            return NGX_CONF_ERROR;
        }

        len = ngx_sock_ntop(u.addrs[i].sockaddr, u.addrs[i].socklen, text,
                            NGX_SOCKADDR_STRLEN, 0);
        text[len] = '\0';
        redis->ips[i] = (char *) text;
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "user=", 5) == 0) {
            redis->user.data = value[i].data + 5;
            redis->user.len = value[i].len - 5;
            continue;
        }

        if (ngx_strncmp(value[i].data, "password=", 9) == 0) {
            redis->password.data = value[i].data + 9;
            redis->password.len = value[i].len - 9;
            continue;
        }

        if (ngx_strncmp(value[i].data, "db=", 3) == 0) {
            n = ngx_atoi(value[i].data + 3, value[i].len - 3);
            if (n == NGX_ERROR || n > 65535) {
                goto invalid;
            }

            redis->db = n;
            continue;
        }

        if (ngx_strncmp(value[i].data, "timeout=", 8) == 0) {
            s.data = value[i].data + 8;
            s.len = value[i].len - 8;
            n = ngx_parse_time(&s, 0);
            if (n == NGX_ERROR || n == 0 || n > 60000) {
                goto invalid;
            }

            redis->timeout = n;
            continue;
        }

        if (ngx_strncmp(value[i].data, "pending=", 8) == 0) {
            n = ngx_atoi(value[i].data + 8, value[i].len - 8);
            if (n == NGX_ERROR || n == 0 || n > 1000000) {
                goto invalid;
            }

            redis->pending_max = n;
            continue;
        }

        goto invalid;
    }

    if (redis->user.len && redis->password.len == 0) {
        return "has \"user\" without \"password\"";
    }

    *slot = redis;

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       &value[i]);
    return NGX_CONF_ERROR;
}


ngx_int_t
ngx_http_hotpath_redis_start(ngx_http_hotpath_redis_t *redis,
    ngx_cycle_t *cycle)
{
    redis->cycle = cycle;

    ngx_queue_init(&redis->waiting);
    ngx_queue_init(&redis->free);

    redis->deadline.handler = ngx_http_hotpath_redis_deadline_handler;
    redis->deadline.data = redis;
    redis->deadline.log = cycle->log;

    redis->connect.handler = ngx_http_hotpath_redis_connect_handler;
    redis->connect.data = redis;
    redis->connect.log = cycle->log;
    redis->connect.cancelable = 1;

    ngx_http_hotpath_redis_connect(redis);

    return NGX_OK;
}


void
ngx_http_hotpath_redis_stop(ngx_http_hotpath_redis_t *redis)
{
    ngx_queue_t                    *q;
    ngx_http_hotpath_redis_call_t  *call;

    if (redis->cycle == NULL) {
        return;
    }

    redis->stopping = 1;

    /* The process ends: whoever waits is no longer there to be told. */

    for (q = ngx_queue_head(&redis->waiting);
         q != ngx_queue_sentinel(&redis->waiting);
         q = ngx_queue_next(q))
    {
        call = ngx_queue_data(q, ngx_http_hotpath_redis_call_t, queue);
        call->get = NULL;
        call->handler = NULL;
    }

    if (redis->ac) {
        ngx_http_hotpath_redis_drop(redis, NULL);
    }

    if (redis->connect.timer_set) {
        ngx_del_timer(&redis->connect);
    }

    if (redis->deadline.timer_set) {
        ngx_del_timer(&redis->deadline);
    }
}


ngx_http_hotpath_redis_call_t *
ngx_http_hotpath_redis_get(ngx_http_hotpath_redis_t *redis, ngx_str_t *key,
    ngx_http_hotpath_redis_pt handler, void *data)
{
    size_t                          lengths[2];
    const char                     *argv[2];
    ngx_http_hotpath_redis_call_t  *call;

    argv[0] = "GET";
    lengths[0] = 3;
    argv[1] = (char *) key->data;
    lengths[1] = key->len;

    call = ngx_http_hotpath_redis_send(redis, 2, argv, lengths);

    if (call) {
        call->get = handler;
        call->data = data;
    }

    return call;
}


ngx_http_hotpath_redis_call_t *
ngx_http_hotpath_redis_command(ngx_http_hotpath_redis_t *redis,
    ngx_str_t *args, ngx_uint_t n, ngx_http_hotpath_redis_reply_pt handler,
    void *data)
{
    size_t                          lengths[NGX_HTTP_HOTPATH_REDIS_ARGS_MAX];
    ngx_uint_t                      i;
    const char                     *argv[NGX_HTTP_HOTPATH_REDIS_ARGS_MAX];
    ngx_http_hotpath_redis_call_t  *call;

    if (n > NGX_HTTP_HOTPATH_REDIS_ARGS_MAX) {
        return NULL;
    }

    for (i = 0; i < n; i++) {
        argv[i] = (char *) args[i].data;
        lengths[i] = args[i].len;
    }

    call = ngx_http_hotpath_redis_send(redis, n, argv, lengths);

    if (call) {
        call->handler = handler;
        call->data = data;
    }

    return call;
}


ngx_http_hotpath_redis_call_t *
ngx_http_hotpath_redis_eval(ngx_http_hotpath_redis_t *redis,
    ngx_http_hotpath_redis_script_t *script, ngx_str_t *keys,
    ngx_uint_t nkeys, ngx_str_t *args, ngx_uint_t nargs,
    ngx_http_hotpath_redis_reply_pt handler, void *data)
{
    u_char                          digest[20];
    ngx_str_t                       words[NGX_HTTP_HOTPATH_REDIS_ARGS_MAX];
    ngx_sha1_t                      sha1;
    u_char                          number[NGX_INT_T_LEN];
    ngx_http_hotpath_redis_call_t  *call;

    if (nkeys > NGX_HTTP_HOTPATH_REDIS_ARGS_MAX - 3
        || nargs > NGX_HTTP_HOTPATH_REDIS_ARGS_MAX - 3 - nkeys)
    {
        return NULL;
    }

    if (script->sha[0] == '\0') {
        ngx_sha1_init(&sha1);
        ngx_sha1_update(&sha1, script->text.data, script->text.len);
        ngx_sha1_final(digest, &sha1);
        ngx_hex_dump(script->sha, digest, sizeof(digest));
    }

    if (script->link == redis->link) {
        ngx_str_set(&words[0], "EVALSHA");
        words[1].data = script->sha;
        words[1].len = sizeof(script->sha);

    } else {
        ngx_str_set(&words[0], "EVAL");
        words[1] = script->text;
    }

    words[2].data = number;
    words[2].len = ngx_sprintf(number, "%ui", nkeys) - number;

    if (nkeys) {
        ngx_memcpy(&words[3], keys, nkeys * sizeof(ngx_str_t));
    }

    if (nargs) {
        ngx_memcpy(&words[3 + nkeys], args, nargs * sizeof(ngx_str_t));
    }

    call = ngx_http_hotpath_redis_command(redis, words, 3 + nkeys + nargs,
                                          handler, data);
    if (call) {
        call->script = script;
    }

    return call;
}


void
ngx_http_hotpath_redis_cancel(ngx_http_hotpath_redis_call_t *call)
{
    /* It keeps its place and its deadline: a Redis that lets everybody wait
     * until they give up must be noticed as well. */

    call->get = NULL;
    call->handler = NULL;
}


void
ngx_http_hotpath_redis_set_document(ngx_http_hotpath_redis_t *redis,
    ngx_str_t *key, ngx_str_t *record, ngx_msec_t ttl_ms)
{
    u_char     ttl[NGX_INT_T_LEN];
    ngx_str_t  args[2];

    if (record->len < NGX_HTTP_HOTPATH_REDIS_RECORD_MIN || ttl_ms == 0) {
        return;
    }

    args[0] = *record;
    args[1].data = ttl;
    args[1].len = ngx_sprintf(ttl, "%M", ttl_ms) - ttl;

    (void) ngx_http_hotpath_redis_eval(redis, &ngx_http_hotpath_redis_store,
                                       key, 1, args, 2, NULL, NULL);
}


void
ngx_http_hotpath_redis_state(ngx_http_hotpath_redis_t *redis,
    ngx_http_hotpath_redis_state_t *state)
{
    state->up = redis->ready
                && ngx_http_hotpath_breaker_closed(&redis->breaker);
    state->waiting = redis->pending;
}


static void
ngx_http_hotpath_redis_connect(ngx_http_hotpath_redis_t *redis)
{
    redisAsyncContext  *ac;

    if (redis->path) {
        ac = redisAsyncConnectUnix(redis->path);

    } else {
        ac = redisAsyncConnect(redis->ips[redis->attempts % redis->nips],
                               redis->port);
    }

    if (ac == NULL) {
        ngx_http_hotpath_redis_retry(redis);
        return;
    }

    if (ac->err) {
        ngx_log_error(NGX_LOG_ERR, redis->cycle->log, 0,
                      "hotpath: connect to redis \"%V\" failed (%s)",
                      &redis->name, ac->errstr);
        goto failed;
    }

    redis->connection = ngx_http_hotpath_backend_attach(ac->c.fd, redis,
                                          ngx_http_hotpath_redis_read_handler,
                                          ngx_http_hotpath_redis_write_handler,
                                          redis->cycle->log);
    if (redis->connection == NULL) {
        goto failed;
    }

    redis->ac = ac;
    redis->ready = 0;
    redis->link = ++ngx_http_hotpath_redis_links;
    redis->unasked = 0;

    ac->data = redis;
    ac->ev.data = redis;
    ac->ev.addRead = ngx_http_hotpath_redis_add_read;
    ac->ev.delRead = ngx_http_hotpath_redis_del_read;
    ac->ev.addWrite = ngx_http_hotpath_redis_add_write;
    ac->ev.delWrite = ngx_http_hotpath_redis_del_write;
    ac->ev.cleanup = ngx_http_hotpath_redis_cleanup;

    ngx_http_hotpath_redis_guard(ac);

    ngx_add_timer(&redis->connect, ngx_max(redis->timeout,
                                          NGX_HTTP_HOTPATH_REDIS_CONNECT_MS));

    if (ngx_http_hotpath_redis_handshake(redis) != NGX_OK) {
        ngx_http_hotpath_redis_drop(redis, "no memory");
    }

    return;

failed:

    redisAsyncFree(ac);
    ngx_http_hotpath_redis_retry(redis);
}


static void
ngx_http_hotpath_redis_retry(ngx_http_hotpath_redis_t *redis)
{
    if (redis->stopping || ngx_exiting || ngx_terminate) {
        return;
    }

    ngx_add_timer(&redis->connect,
                  ngx_http_hotpath_backend_backoff(redis->attempts));
    redis->attempts++;
}


/* Not to be called while hiredis runs one of our callbacks. */

static void
ngx_http_hotpath_redis_drop(ngx_http_hotpath_redis_t *redis, const char *why)
{
    if (why) {
        ngx_log_error(NGX_LOG_ERR, redis->cycle->log, 0,
                      "hotpath: connection to redis \"%V\" given up: %s",
                      &redis->name, why);
    }

    redis->ready = 0;

    redisAsyncFree(redis->ac);
}


static ngx_int_t
ngx_http_hotpath_redis_handshake(ngx_http_hotpath_redis_t *redis)
{
    int          n;
    u_char       db[NGX_INT_T_LEN];
    size_t       lengths[3];
    const char  *argv[3];

    if (redis->password.len) {
        n = 0;
        argv[n] = "AUTH";
        lengths[n++] = 4;

        if (redis->user.len) {
            argv[n] = (char *) redis->user.data;
            lengths[n++] = redis->user.len;
        }

        argv[n] = (char *) redis->password.data;
        lengths[n++] = redis->password.len;

        if (redisAsyncCommandArgv(redis->ac, ngx_http_hotpath_redis_greeted,
                                  NULL, n, argv, lengths)
            != REDIS_OK)
        {
            return NGX_ERROR;
        }
    }

    if (redis->db) {
        argv[0] = "SELECT";
        lengths[0] = 6;
        argv[1] = (char *) db;
        lengths[1] = ngx_sprintf(db, "%i", redis->db) - db;

        if (redisAsyncCommandArgv(redis->ac, ngx_http_hotpath_redis_greeted,
                                  NULL, 2, argv, lengths)
            != REDIS_OK)
        {
            return NGX_ERROR;
        }
    }

    argv[0] = "PING";
    lengths[0] = 4;

    if (redisAsyncCommandArgv(redis->ac, ngx_http_hotpath_redis_greeted, redis,
                              1, argv, lengths)
        != REDIS_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* The last reply of the handshake comes with data. */

static void
ngx_http_hotpath_redis_greeted(redisAsyncContext *ac, void *reply, void *data)
{
    redisReply                *r = reply;
    ngx_http_hotpath_redis_t  *redis = ac->data;

    if (r == NULL || (ac->c.flags & REDIS_FREEING)) {
        return;
    }

    if (r->type != REDIS_REPLY_STATUS
        || ngx_strcmp(r->str, data ? "PONG" : "OK") != 0)
    {
        ngx_log_error(NGX_LOG_ERR, redis->cycle->log, 0,
                      "hotpath: redis \"%V\" refuses the connection (%s)",
                      &redis->name,
                      r->type == REDIS_REPLY_ERROR ? r->str : "bad reply");

        /* In a callback hiredis only marks it, and frees it after. */
        redisAsyncFree(ac);
        return;
    }

    if (data == NULL) {
        return;
    }

    if (redis->connect.timer_set) {
        ngx_del_timer(&redis->connect);
    }

    redis->ready = 1;
    redis->since = ngx_current_msec;

    ngx_log_error(NGX_LOG_INFO, redis->cycle->log, 0,
                  "hotpath: connected to redis \"%V\"", &redis->name);
}


static void
ngx_http_hotpath_redis_connect_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_redis_t  *redis = ev->data;

    if (redis->ac) {
        ngx_http_hotpath_redis_drop(redis, "no answer to connect");
        return;
    }

    if (ngx_exiting || ngx_terminate) {
        return;
    }

    ngx_http_hotpath_redis_connect(redis);
}


static void
ngx_http_hotpath_redis_read_handler(ngx_event_t *rev)
{
    ngx_connection_t          *c = rev->data;
    ngx_http_hotpath_redis_t  *redis = c->data;

    redisAsyncHandleRead(redis->ac);

    if (redis->ac
        && redis->ac->c.reader->len > NGX_HTTP_HOTPATH_REDIS_REPLY_MAX)
    {
        ngx_http_hotpath_redis_drop(redis, "reply too large");
    }
}


static void
ngx_http_hotpath_redis_write_handler(ngx_event_t *wev)
{
    ngx_connection_t          *c = wev->data;
    ngx_http_hotpath_redis_t  *redis = c->data;

    redis->writing = 1;
    redisAsyncHandleWrite(redis->ac);
    redis->writing = 0;
}


static void
ngx_http_hotpath_redis_add_read(void *data)
{
    ngx_http_hotpath_redis_t  *redis = data;
    ngx_connection_t          *c = redis->connection;

    (void) ngx_http_hotpath_backend_wait(c, 1, c->write->active);
}


static void
ngx_http_hotpath_redis_del_read(void *data)
{
    ngx_http_hotpath_redis_t  *redis = data;
    ngx_connection_t          *c = redis->connection;

    (void) ngx_http_hotpath_backend_wait(c, 0, c->write->active);
}


static void
ngx_http_hotpath_redis_add_write(void *data)
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
ngx_http_hotpath_redis_del_write(void *data)
{
    ngx_http_hotpath_redis_t  *redis = data;
    ngx_connection_t          *c = redis->connection;

    (void) ngx_http_hotpath_backend_wait(c, c->read->active, 0);
}


/* hiredis calls this on every way to its context's end, after the callbacks of
 * all commands that got no reply and before it closes the socket. */

static void
ngx_http_hotpath_redis_cleanup(void *data)
{
    ngx_http_hotpath_redis_t  *redis = data;

    redisAsyncContext  *ac;

    ac = redis->ac;

    if (ac->err && !redis->stopping) {
        ngx_log_error(NGX_LOG_ERR, redis->cycle->log, 0,
                      "hotpath: connection to redis \"%V\" lost (%s)",
                      &redis->name, redis->unasked ? "unexpected reply"
                                                   : ac->errstr);
    }

    ngx_http_hotpath_backend_detach(redis->connection, ac->c.fd);

    redis->connection = NULL;
    redis->ac = NULL;
    redis->ready = 0;

    if (redis->connect.timer_set) {
        /* it never became ready */
        ngx_del_timer(&redis->connect);

    } else if ((ngx_msec_int_t) (ngx_current_msec - redis->since)
               >= NGX_HTTP_HOTPATH_REDIS_STEADY_MS)
    {
        redis->attempts = 0;
    }

    ngx_http_hotpath_redis_retry(redis);
}


/* Everything but the handshake goes through here. */

static ngx_http_hotpath_redis_call_t *
ngx_http_hotpath_redis_send(ngx_http_hotpath_redis_t *redis, ngx_uint_t n,
    const char **argv, const size_t *lengths)
{
    size_t                          bytes;
    ngx_int_t                       rc;
    ngx_uint_t                      i;
    ngx_queue_t                    *q;
    ngx_http_hotpath_redis_call_t  *call;

    if (!redis->ready || redis->pending >= redis->pending_max) {
        return NULL;
    }

    bytes = 0;

    for (i = 0; i < n; i++) {
        bytes += lengths[i];
    }

    if (bytes > NGX_HTTP_HOTPATH_REDIS_BYTES_SMALL
        && redis->bytes + bytes > NGX_HTTP_HOTPATH_REDIS_BYTES_MAX)
    {
        return NULL;
    }

    if (!ngx_queue_empty(&redis->free)) {
        q = ngx_queue_head(&redis->free);
        call = ngx_queue_data(q, ngx_http_hotpath_redis_call_t, queue);
        ngx_queue_remove(q);

    } else {
        call = ngx_palloc(redis->cycle->pool,
                          sizeof(ngx_http_hotpath_redis_call_t));
        if (call == NULL) {
            return NULL;
        }
    }

    ngx_memzero(call, sizeof(ngx_http_hotpath_redis_call_t));

    call->redis = redis;
    call->bytes = bytes;

    rc = ngx_http_hotpath_breaker_enter(&redis->breaker);

    if (rc == NGX_BUSY) {
        goto unsent;
    }

    if (redisAsyncCommandArgv(redis->ac, ngx_http_hotpath_redis_replied, call,
                              (int) n, argv, lengths)
        != REDIS_OK)
    {
        if (rc == NGX_AGAIN) {
            ngx_http_hotpath_breaker_abandon(&redis->breaker);
        }

        goto unsent;
    }

    call->probe = (rc == NGX_AGAIN);

    if (redis->pending++ == 0) {
        redis->heard = ngx_current_msec;
    }

    redis->bytes += bytes;

    call->deadline = ngx_current_msec + redis->timeout;
    ngx_queue_insert_tail(&redis->waiting, &call->queue);

    /* The timer is left alone while it runs: it looks for itself who is due.
     * It holds up the end of the worker only while somebody waits. */

    redis->deadline.cancelable = 0;

    if (!redis->deadline.timer_set) {
        ngx_add_timer(&redis->deadline, redis->timeout);
    }

    return call;

unsent:

    ngx_queue_insert_head(&redis->free, &call->queue);

    return NULL;
}


/* The reply came, or never will: the call is free to be used again. */

static void
ngx_http_hotpath_redis_end(ngx_http_hotpath_redis_call_t *call,
    ngx_uint_t answered)
{
    ngx_http_hotpath_redis_t  *redis = call->redis;

    redis->pending--;
    redis->bytes -= call->bytes;

    if (answered) {
        redis->heard = ngx_current_msec;

    } else {
        redis->ready = 0;
    }

    if (!call->overdue) {
        ngx_queue_remove(&call->queue);

        if (ngx_queue_empty(&redis->waiting)) {
            redis->deadline.cancelable = 1;
        }

        if (answered) {
            ngx_http_hotpath_breaker_leave(&redis->breaker, call->probe, 1,
                                           "redis", redis->cycle->log);

        } else if (call->probe) {
            ngx_http_hotpath_breaker_abandon(&redis->breaker);
        }
    }

    ngx_queue_insert_head(&redis->free, &call->queue);
}


static void
ngx_http_hotpath_redis_replied(redisAsyncContext *ac, void *reply, void *data)
{
    redisReply                     *r = reply;
    ngx_http_hotpath_redis_call_t  *call = data;

    ngx_uint_t                        overdue;
    ngx_http_hotpath_redis_t         *redis;
    ngx_http_hotpath_redis_pt         get;
    ngx_http_hotpath_redis_reply_pt   handler;
    ngx_http_hotpath_redis_script_t  *script;

    redis = call->redis;
    script = call->script;
    overdue = call->overdue;
    get = call->get;
    handler = call->handler;
    data = call->data;

    ngx_http_hotpath_redis_end(call, r != NULL);

    if (r && r->type == REDIS_REPLY_ERROR) {

        if (script && ngx_strncmp(r->str, "NOSCRIPT", 8) == 0) {
            script->link = 0;
        }

        ngx_http_hotpath_redis_refused(redis, r);
        r = NULL;

    } else if (r && script) {
        script->link = redis->link;
    }

    if (r == NULL && !overdue) {
        ngx_http_hotpath_count(REDIS_ERRORS);
    }

    ngx_http_hotpath_redis_tell(get, handler, data, r);
}


/* An error came instead of a reply. It is of a state more often than of the
 * command, and a line for each would be a line for each request. */

static void
ngx_http_hotpath_redis_refused(ngx_http_hotpath_redis_t *redis, redisReply *r)
{
    redis->refusals++;

    if (redis->refusals > 1
        && ngx_current_msec - redis->refused
           < NGX_HTTP_HOTPATH_REDIS_COMPLAIN_MS)
    {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, redis->cycle->log, 0,
                  "hotpath: redis \"%V\" refuses a command (%s), "
                  "%ui since the last such line", &redis->name, r->str,
                  redis->refusals);

    redis->refused = ngx_current_msec;
    redis->refusals = 1;
}


static void
ngx_http_hotpath_redis_tell(ngx_http_hotpath_redis_pt get,
    ngx_http_hotpath_redis_reply_pt handler, void *data, redisReply *r)
{
    ngx_int_t  rc;
    ngx_str_t  value;

    if (handler) {
        handler(data, r);
        return;
    }

    if (get == NULL) {
        return;
    }

    ngx_str_null(&value);
    rc = NGX_ERROR;

    if (r && r->type == REDIS_REPLY_STRING) {
        value.data = (u_char *) r->str;
        value.len = r->len;
        rc = NGX_OK;

    } else if (r && r->type == REDIS_REPLY_NIL) {
        rc = NGX_DECLINED;
    }

    get(data, rc, &value);
}


static void
ngx_http_hotpath_redis_deadline_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_redis_t  *redis = ev->data;

    void                            *data;
    ngx_msec_int_t                   left;
    ngx_queue_t                     *q;
    ngx_http_hotpath_redis_pt        get;
    ngx_http_hotpath_redis_call_t   *call;
    ngx_http_hotpath_redis_reply_pt  handler;

    left = redis->timeout;

    while (!ngx_queue_empty(&redis->waiting)) {

        q = ngx_queue_head(&redis->waiting);
        call = ngx_queue_data(q, ngx_http_hotpath_redis_call_t, queue);

        left = (ngx_msec_int_t) (call->deadline - ngx_current_msec);

        if (left > 0) {
            break;
        }

        left = redis->timeout;

        ngx_queue_remove(q);
        call->overdue = 1;

        ngx_http_hotpath_breaker_leave(&redis->breaker, call->probe, 0,
                                       "redis", redis->cycle->log);

        ngx_http_hotpath_count(REDIS_ERRORS);

        get = call->get;
        handler = call->handler;
        data = call->data;

        call->get = NULL;
        call->handler = NULL;

        ngx_http_hotpath_redis_tell(get, handler, data, NULL);
    }

    if (redis->ac
        && redis->pending
        && ngx_current_msec - redis->heard
           >= NGX_HTTP_HOTPATH_REDIS_SILENCE * redis->timeout)
    {
        ngx_http_hotpath_redis_drop(redis, "commands wait, nothing comes");
    }

    redis->deadline.cancelable = ngx_queue_empty(&redis->waiting);

    if (redis->pending) {

        /* A handler's new call may have set it, for later than is due. */

        if (redis->deadline.timer_set) {
            ngx_del_timer(&redis->deadline);
        }

        ngx_add_timer(&redis->deadline, left);
    }
}


/*
 * hiredis asserts that every reply has a command, so a peer that talks out of
 * turn would end the worker; and it takes arrays of any size, apart of what is
 * read and not parsed yet. These stand in front of its own constructors: a
 * reply nobody asked for, one of a kind that RESP 2 has not, and one of too
 * many or too large parts is a protocol error, which ends that connection
 * only. An error nobody asked for ("max number of clients reached") hiredis
 * knows how to take.
 */

static redisReplyObjectFunctions  *ngx_http_hotpath_redis_library;
static redisReplyObjectFunctions   ngx_http_hotpath_redis_guarded;


static void *
ngx_http_hotpath_redis_refuse(const redisReadTask *task)
{
    redisAsyncContext         *ac = task->privdata;
    ngx_http_hotpath_redis_t  *redis = ac->data;

    redis->unasked = 1;

    return NULL;
}


static ngx_uint_t
ngx_http_hotpath_redis_expected(const redisReadTask *task, size_t parts,
    size_t bytes)
{
    redisAsyncContext         *ac = task->privdata;
    ngx_http_hotpath_redis_t  *redis = ac->data;

    if (task->parent == NULL) {

        if (ac->replies.head == NULL && task->type != REDIS_REPLY_ERROR) {
            return 0;
        }

        redis->parts = 0;
        redis->part_bytes = 0;
    }

    if (parts > NGX_HTTP_HOTPATH_REDIS_PARTS_MAX - redis->parts
        || bytes > NGX_HTTP_HOTPATH_REDIS_PARTS_BYTES - redis->part_bytes)
    {
        return 0;
    }

    redis->parts += parts;
    redis->part_bytes += bytes;

    return 1;
}


static void *
ngx_http_hotpath_redis_create_string(const redisReadTask *task, char *text,
    size_t len)
{
    if (!ngx_http_hotpath_redis_expected(task, 0, len)) {
        return ngx_http_hotpath_redis_refuse(task);
    }

    return ngx_http_hotpath_redis_library->createString(task, text, len);
}


static void *
ngx_http_hotpath_redis_create_integer(const redisReadTask *task, long long n)
{
    if (!ngx_http_hotpath_redis_expected(task, 0, 0)) {
        return ngx_http_hotpath_redis_refuse(task);
    }

    return ngx_http_hotpath_redis_library->createInteger(task, n);
}


static void *
ngx_http_hotpath_redis_create_nil(const redisReadTask *task)
{
    if (!ngx_http_hotpath_redis_expected(task, 0, 0)) {
        return ngx_http_hotpath_redis_refuse(task);
    }

    return ngx_http_hotpath_redis_library->createNil(task);
}


#if (HIREDIS_MAJOR >= 1)

static void *
ngx_http_hotpath_redis_create_array(const redisReadTask *task, size_t n)
{
    if (task->type != REDIS_REPLY_ARRAY
        || !ngx_http_hotpath_redis_expected(task, n, 0))
    {
        return ngx_http_hotpath_redis_refuse(task);
    }

    return ngx_http_hotpath_redis_library->createArray(task, n);
}


static void *
ngx_http_hotpath_redis_create_double(const redisReadTask *task, double value,
    char *text, size_t len)
{
    return ngx_http_hotpath_redis_refuse(task);
}


static void *
ngx_http_hotpath_redis_create_bool(const redisReadTask *task, int value)
{
    return ngx_http_hotpath_redis_refuse(task);
}

#else

static void *
ngx_http_hotpath_redis_create_array(const redisReadTask *task, int n)
{
    if (n < 0 || !ngx_http_hotpath_redis_expected(task, (size_t) n, 0)) {
        return ngx_http_hotpath_redis_refuse(task);
    }

    return ngx_http_hotpath_redis_library->createArray(task, n);
}

#endif


static void
ngx_http_hotpath_redis_guard(redisAsyncContext *ac)
{
    redisReader  *reader = ac->c.reader;

    if (ngx_http_hotpath_redis_library == NULL) {
        ngx_http_hotpath_redis_library = reader->fn;

        ngx_http_hotpath_redis_guarded = *reader->fn;
        ngx_http_hotpath_redis_guarded.createString =
            ngx_http_hotpath_redis_create_string;
        ngx_http_hotpath_redis_guarded.createArray =
            ngx_http_hotpath_redis_create_array;
        ngx_http_hotpath_redis_guarded.createInteger =
            ngx_http_hotpath_redis_create_integer;
        ngx_http_hotpath_redis_guarded.createNil =
            ngx_http_hotpath_redis_create_nil;
#if (HIREDIS_MAJOR >= 1)
        ngx_http_hotpath_redis_guarded.createDouble =
            ngx_http_hotpath_redis_create_double;
        ngx_http_hotpath_redis_guarded.createBool =
            ngx_http_hotpath_redis_create_bool;
#endif
    }

    reader->fn = &ngx_http_hotpath_redis_guarded;
    reader->privdata = ac;
}
