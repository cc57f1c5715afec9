/*
 * ngx_http_hotpath_redis.c: the calls to Redis: commands, scripts, deadlines,
 * breakers.
 *
 * The connection is redis_link's. Calls come from the cycle's pool and are used
 * again, at most `pending` of them. A call belongs to hiredis until its reply
 * came or its connection is gone, however long ago its deadline has passed or
 * its caller has cancelled it; its caller is told once, whatever comes first.
 * Runs in workers, on the event loop, without any lock.
 *
 * Two breakers. One stands before all calls: replies that do not come in time,
 * and errors that a Redis gives to everybody (it is loading, its master is
 * gone). One more stands before scripts, which write: a Redis that is full or
 * a replica refuses those and goes on to answer the others.
 *
 * What must never happen here: a handler called twice or under its own call to
 * us, a line in the log for each request. A connection that says nothing for
 * three deadlines while commands wait is given up. The value's format is in
 * schemas/framing.md. Tests: tests/faults/test_redis_faults.py.
 */
#include "ngx_http_hotpath_redis_link.h"
#include "ngx_http_hotpath_metrics.h"
#include <ngx_event.h>
#include <ngx_sha1.h>


#define NGX_HTTP_HOTPATH_REDIS_SILENCE      3

/* Commands on their way to Redis in one worker: a larger one than SMALL is not
 * sent where it would not fit; the small ones are bounded by their number. */
#define NGX_HTTP_HOTPATH_REDIS_BYTES_MAX    (8 * 1024 * 1024)
#define NGX_HTTP_HOTPATH_REDIS_BYTES_SMALL  4096

/* The version in a document record: 16 digits behind magic and flags. */
#define NGX_HTTP_HOTPATH_REDIS_RECORD_MIN   20


struct ngx_http_hotpath_redis_call_s {
    ngx_queue_t                       queue;    /* in waiting, or in free */
    ngx_http_hotpath_redis_t         *redis;
    ngx_http_hotpath_redis_pt         get;      /* one of the two, or none: */
    ngx_http_hotpath_redis_reply_pt   handler;  /* nobody waits */
    void                             *data;
    ngx_http_hotpath_redis_script_t  *script;   /* NULL: another command */
    ngx_msec_t                        deadline;
    size_t                            bytes;    /* of the command */
    unsigned                          probe:1;  /* of the breaker */
    unsigned                          probe_writes:1;
    unsigned                          overdue:1; /* not in waiting any more */
};


static ngx_http_hotpath_redis_call_t *ngx_http_hotpath_redis_send(
    ngx_http_hotpath_redis_t *redis, ngx_http_hotpath_redis_script_t *script,
    ngx_uint_t n, const char **argv, const size_t *lengths);
static ngx_http_hotpath_redis_call_t *ngx_http_hotpath_redis_send_words(
    ngx_http_hotpath_redis_t *redis, ngx_http_hotpath_redis_script_t *script,
    ngx_str_t *words, ngx_uint_t n, ngx_http_hotpath_redis_reply_pt handler,
    void *data);
static void ngx_http_hotpath_redis_replied(redisAsyncContext *ac, void *reply,
    void *data);
static void ngx_http_hotpath_redis_judge(ngx_http_hotpath_redis_call_t *call,
    redisReply *r);
static void ngx_http_hotpath_redis_refused(ngx_http_hotpath_redis_t *redis,
    redisReply *r);
static ngx_uint_t ngx_http_hotpath_redis_useless(redisReply *r,
    ngx_uint_t script);
static void ngx_http_hotpath_redis_tell(ngx_http_hotpath_redis_pt get,
    ngx_http_hotpath_redis_reply_pt handler, void *data, redisReply *r);
static void ngx_http_hotpath_redis_deadline_handler(ngx_event_t *ev);
static void ngx_http_hotpath_redis_gauges(ngx_http_hotpath_redis_t *redis);


/* Compares what a record's bytes 4 to 19 are, as text. */
static ngx_http_hotpath_redis_script_t  ngx_http_hotpath_redis_store =
    ngx_http_hotpath_redis_script(
        "local old = redis.call('GETRANGE', KEYS[1], 4, 19) "
        "if #old == 16 and old >= string.sub(ARGV[1], 5, 20) then return 0 end "
        "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) "
        "return 1");


/* Errors that say nothing of the command: the next one gets the same. */
static ngx_str_t  ngx_http_hotpath_redis_states[] = {
    ngx_string("LOADING "),
    ngx_string("MASTERDOWN "),
    ngx_string("CLUSTERDOWN "),
    ngx_string("BUSY "),
    ngx_string("NOAUTH "),
    ngx_string("NOPERM ")              /* the last: not of scripts */
};

#define NGX_HTTP_HOTPATH_REDIS_STATES                                         \
    (sizeof(ngx_http_hotpath_redis_states) / sizeof(ngx_str_t))


ngx_int_t
ngx_http_hotpath_redis_start(ngx_http_hotpath_redis_t *redis,
    ngx_cycle_t *cycle)
{
    ngx_queue_init(&redis->waiting);
    ngx_queue_init(&redis->free);

    redis->deadline.handler = ngx_http_hotpath_redis_deadline_handler;
    redis->deadline.data = redis;
    redis->deadline.log = cycle->log;

    ngx_http_hotpath_redis_link_start(redis, cycle);

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

    /* The process ends: whoever waits is no longer there to be told. */

    for (q = ngx_queue_head(&redis->waiting);
         q != ngx_queue_sentinel(&redis->waiting);
         q = ngx_queue_next(q))
    {
        call = ngx_queue_data(q, ngx_http_hotpath_redis_call_t, queue);
        call->get = NULL;
        call->handler = NULL;
    }

    ngx_http_hotpath_redis_link_stop(redis);

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

    call = ngx_http_hotpath_redis_send(redis, NULL, 2, argv, lengths);

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
    return ngx_http_hotpath_redis_send_words(redis, NULL, args, n, handler,
                                             data);
}


ngx_http_hotpath_redis_call_t *
ngx_http_hotpath_redis_eval(ngx_http_hotpath_redis_t *redis,
    ngx_http_hotpath_redis_script_t *script, ngx_str_t *keys,
    ngx_uint_t nkeys, ngx_str_t *args, ngx_uint_t nargs,
    ngx_http_hotpath_redis_reply_pt handler, void *data)
{
    u_char      digest[20];
    ngx_str_t   words[NGX_HTTP_HOTPATH_REDIS_ARGS_MAX];
    ngx_sha1_t  sha1;
    u_char      number[NGX_INT_T_LEN];

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

    return ngx_http_hotpath_redis_send_words(redis, script, words,
                                             3 + nkeys + nargs, handler, data);
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


static ngx_http_hotpath_redis_call_t *
ngx_http_hotpath_redis_send_words(ngx_http_hotpath_redis_t *redis,
    ngx_http_hotpath_redis_script_t *script, ngx_str_t *words, ngx_uint_t n,
    ngx_http_hotpath_redis_reply_pt handler, void *data)
{
    size_t                          lengths[NGX_HTTP_HOTPATH_REDIS_ARGS_MAX];
    ngx_uint_t                      i;
    const char                     *argv[NGX_HTTP_HOTPATH_REDIS_ARGS_MAX];
    ngx_http_hotpath_redis_call_t  *call;

    if (n == 0 || n > NGX_HTTP_HOTPATH_REDIS_ARGS_MAX) {
        return NULL;
    }

    for (i = 0; i < n; i++) {
        argv[i] = (char *) words[i].data;
        lengths[i] = words[i].len;
    }

    call = ngx_http_hotpath_redis_send(redis, script, n, argv, lengths);

    if (call) {
        call->handler = handler;
        call->data = data;
    }

    return call;
}


/* Everything but the handshake goes through here. */

static ngx_http_hotpath_redis_call_t *
ngx_http_hotpath_redis_send(ngx_http_hotpath_redis_t *redis,
    ngx_http_hotpath_redis_script_t *script, ngx_uint_t n, const char **argv,
    const size_t *lengths)
{
    size_t                          bytes;
    ngx_int_t                       rc, rc_writes;
    ngx_uint_t                      i;
    ngx_queue_t                    *q;
    ngx_http_hotpath_redis_call_t  *call;

    if (!redis->ready) {
        ngx_http_hotpath_count(REDIS_SKIPPED_DOWN);
        return NULL;
    }

    bytes = 0;

    for (i = 0; i < n; i++) {
        bytes += lengths[i];
    }

    if (redis->pending >= redis->pending_max
        || (bytes > NGX_HTTP_HOTPATH_REDIS_BYTES_SMALL
            && redis->bytes + bytes > NGX_HTTP_HOTPATH_REDIS_BYTES_MAX))
    {
        ngx_http_hotpath_count(REDIS_SKIPPED_FULL);
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
            ngx_http_hotpath_count(REDIS_SKIPPED_FULL);
            return NULL;
        }
    }

    ngx_memzero(call, sizeof(ngx_http_hotpath_redis_call_t));

    call->redis = redis;
    call->script = script;
    call->bytes = bytes;

    rc_writes = script ? ngx_http_hotpath_breaker_enter(&redis->writes)
                       : NGX_OK;
    rc = NGX_BUSY;

    if (rc_writes != NGX_BUSY) {
        rc = ngx_http_hotpath_breaker_enter(&redis->breaker);
    }

    if (rc == NGX_BUSY) {
        ngx_http_hotpath_count(REDIS_SKIPPED_BREAKER);
        goto unsent;
    }

    if (redisAsyncCommandArgv(redis->ac, ngx_http_hotpath_redis_replied, call,
                              (int) n, argv, lengths)
        != REDIS_OK)
    {
        if (rc == NGX_AGAIN) {
            ngx_http_hotpath_breaker_abandon(&redis->breaker);
        }

        ngx_http_hotpath_count(REDIS_SKIPPED_FULL);
        goto unsent;
    }

    call->probe = (rc == NGX_AGAIN);
    call->probe_writes = (rc_writes == NGX_AGAIN);

    if (redis->pending++ == 0) {
        redis->heard = ngx_current_msec;
    }

    redis->bytes += bytes;

    ngx_http_hotpath_count(REDIS_COMMANDS);
    ngx_http_hotpath_add(REDIS_WAITING, 1);

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

    if (rc_writes == NGX_AGAIN) {
        ngx_http_hotpath_breaker_abandon(&redis->writes);
    }

    ngx_queue_insert_head(&redis->free, &call->queue);

    return NULL;
}


/* The reply came, or never will. The call is free to be used again before its
 * handler, which may want one, is called. */

static void
ngx_http_hotpath_redis_replied(redisAsyncContext *ac, void *reply, void *data)
{
    redisReply                     *r = reply;
    ngx_http_hotpath_redis_call_t  *call = data;

    ngx_http_hotpath_redis_t         *redis;
    ngx_http_hotpath_redis_pt         get;
    ngx_http_hotpath_redis_reply_pt   handler;

    redis = call->redis;
    get = call->get;
    handler = call->handler;
    data = call->data;

    redis->pending--;
    redis->bytes -= call->bytes;

    ngx_http_hotpath_add(REDIS_WAITING, -1);

    if (r) {
        redis->heard = ngx_current_msec;

    } else {
        redis->ready = 0;
    }

    if (!call->overdue) {
        ngx_queue_remove(&call->queue);

        if (ngx_queue_empty(&redis->waiting)) {
            redis->deadline.cancelable = 1;
        }

        ngx_http_hotpath_redis_judge(call, r);
    }

    if (r && r->type == REDIS_REPLY_ERROR) {

        if (call->script && ngx_strncmp(r->str, "NOSCRIPT", 8) == 0) {
            call->script->link = 0;

        } else {
            ngx_http_hotpath_redis_refused(redis, r);
        }

        r = NULL;

    } else if (r && call->script) {
        call->script->link = redis->link;
    }

    if (r == NULL && !call->overdue) {
        ngx_http_hotpath_count(REDIS_ERRORS);
    }

    ngx_queue_insert_head(&redis->free, &call->queue);

    ngx_http_hotpath_redis_tell(get, handler, data, r);
}


/* What the end of a call, in time, says of Redis. */

static void
ngx_http_hotpath_redis_judge(ngx_http_hotpath_redis_call_t *call,
    redisReply *r)
{
    ngx_uint_t                 error, good;
    ngx_http_hotpath_redis_t  *redis = call->redis;

    if (r == NULL) {
        if (call->probe) {
            ngx_http_hotpath_breaker_abandon(&redis->breaker);
        }

        if (call->probe_writes) {
            ngx_http_hotpath_breaker_abandon(&redis->writes);
        }

        return;
    }

    error = (r->type == REDIS_REPLY_ERROR);
    good = !error || !ngx_http_hotpath_redis_useless(r, call->script != NULL);

    ngx_http_hotpath_breaker_leave(&redis->breaker, call->probe, good, "redis",
                                   redis->cycle->log);

    if (call->script) {
        good = !error || ngx_strncmp(r->str, "NOSCRIPT", 8) == 0;

        ngx_http_hotpath_breaker_leave(&redis->writes, call->probe_writes,
                                       good, "redis, for scripts,",
                                       redis->cycle->log);
    }

    ngx_http_hotpath_redis_gauges(redis);
}


static ngx_uint_t
ngx_http_hotpath_redis_useless(redisReply *r, ngx_uint_t script)
{
    ngx_str_t   *state = ngx_http_hotpath_redis_states;
    ngx_uint_t   i, n;

    n = NGX_HTTP_HOTPATH_REDIS_STATES - (script ? 1 : 0);

    for (i = 0; i < n; i++) {
        if (ngx_strncmp(r->str, state[i].data, state[i].len) == 0) {
            return 1;
        }
    }

    return 0;
}


/* An error came instead of a reply. It is one of Redis' state more often than
 * of the command, and goes into the log once, by its first word. */

static void
ngx_http_hotpath_redis_refused(ngx_http_hotpath_redis_t *redis, redisReply *r)
{
    size_t      len;
    ngx_uint_t  n;

    len = strcspn(r->str, " ");
    n = ngx_http_hotpath_redis_link_news(redis->refusals, (u_char *) r->str,
                                         len);
    if (n) {
        ngx_log_error(NGX_LOG_ERR, redis->cycle->log, 0,
                      "hotpath: redis \"%V\" answers with an error (%s), "
                      "%ui since it was logged", &redis->name, r->str, n);
    }
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

    void                             *data;
    ngx_msec_int_t                    left;
    ngx_queue_t                      *q;
    ngx_http_hotpath_redis_pt         get;
    ngx_http_hotpath_redis_call_t    *call;
    ngx_http_hotpath_redis_reply_pt   handler;

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

        if (call->probe_writes) {
            ngx_http_hotpath_breaker_abandon(&redis->writes);
        }

        ngx_http_hotpath_redis_gauges(redis);

        ngx_http_hotpath_count(REDIS_ERRORS);
        ngx_http_hotpath_count(REDIS_TIMEOUTS);

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
        ngx_http_hotpath_redis_link_drop(redis,
                                         "commands wait, nothing comes");
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


/* After every breaker that was left. */

static void
ngx_http_hotpath_redis_gauges(ngx_http_hotpath_redis_t *redis)
{
    if (redis->open != redis->breaker.open) {
        redis->open = redis->breaker.open;
        ngx_http_hotpath_add(REDIS_OPEN, redis->open ? 1 : -1);
    }

    if (redis->writes_open != redis->writes.open) {
        redis->writes_open = redis->writes.open;
        ngx_http_hotpath_add(REDIS_OPEN_SCRIPTS, redis->writes_open ? 1 : -1);
    }
}
