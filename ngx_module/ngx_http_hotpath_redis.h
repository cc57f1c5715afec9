/*
 * ngx_http_hotpath_redis.h: Redis from the event loop, through hiredis' own
 * asynchronous interface on nginx's events.
 *
 * One or more pipelined connections per worker, never a blocking call, a
 * deadline for every command, a bound on commands waiting, a circuit breaker.
 * Knows nginx and core/; gives results to a callback, never includes request.
 */
#ifndef _NGX_HTTP_HOTPATH_REDIS_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_REDIS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <hiredis/hiredis.h>


/* Words of a command, the scripts' own included. */
#define NGX_HTTP_HOTPATH_REDIS_ARGS_MAX  512


typedef struct ngx_http_hotpath_redis_s       ngx_http_hotpath_redis_t;
typedef struct ngx_http_hotpath_redis_call_s  ngx_http_hotpath_redis_call_t;

/* rc is NGX_OK (value points into memory valid during the call), NGX_DECLINED
 * (no such key) or NGX_ERROR (down, deadline passed, or nonsense answered). */
typedef void (*ngx_http_hotpath_redis_pt)(void *data, ngx_int_t rc,
    ngx_str_t *value);

/*
 * reply is one of hiredis' in RESP 2, valid during the call, and never an
 * error: NULL stands for down, deadline passed, or an error answered (which
 * was logged). A nil is a reply.
 */
typedef void (*ngx_http_hotpath_redis_reply_pt)(void *data,
    redisReply *reply);

/*
 * A script, in memory that stays; all but the text starts as zero and is ours.
 *
 *     static ngx_http_hotpath_redis_script_t  script =
 *         ngx_http_hotpath_redis_script("return redis.call(...)");
 */
typedef struct {
    ngx_str_t   text;
    u_char      sha[40];       /* of the text, once set */
    ngx_uint_t  link;          /* the connection that is known to know it */
} ngx_http_hotpath_redis_script_t;

#define ngx_http_hotpath_redis_script(text)  { ngx_string(text), { 0 }, 0 }

/*
 * hotpath_redis host:port|unix:path [user=] [password=] [db=] [timeout=100ms]
 *               [pending=1024]; the set callback of the command table; conf is
 * the address of a (ngx_http_hotpath_redis_t *), NULL before, found at
 * (char *) conf + cmd->offset. The name is resolved here, when the
 * configuration is read: hiredis would block on it.
 */
char *ngx_http_hotpath_redis_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* In every worker, at init_process and exit_process; at the latter handlers
 * that still wait are dropped without a call. */
ngx_int_t ngx_http_hotpath_redis_start(ngx_http_hotpath_redis_t *redis,
    ngx_cycle_t *cycle);
void ngx_http_hotpath_redis_stop(ngx_http_hotpath_redis_t *redis);

/*
 * Commands. NULL where nothing was sent and the handler will not be called
 * (breaker open, not connected, too much waiting, too many words). Else the
 * handler is called exactly once, later, unless the call is cancelled; with
 * handler NULL nobody waits, and what is returned only says that it was sent.
 * The arguments are copied. Handlers may issue commands.
 */
ngx_http_hotpath_redis_call_t *ngx_http_hotpath_redis_get(
    ngx_http_hotpath_redis_t *redis, ngx_str_t *key,
    ngx_http_hotpath_redis_pt handler, void *data);
ngx_http_hotpath_redis_call_t *ngx_http_hotpath_redis_command(
    ngx_http_hotpath_redis_t *redis, ngx_str_t *args, ngx_uint_t n,
    ngx_http_hotpath_redis_reply_pt handler, void *data);

/*
 * EVALSHA where this connection has shown that it knows the script, else EVAL.
 * Where Redis has forgotten it (SCRIPT FLUSH) the call ends as an error, and
 * the next one carries the whole text again.
 */
ngx_http_hotpath_redis_call_t *ngx_http_hotpath_redis_eval(
    ngx_http_hotpath_redis_t *redis, ngx_http_hotpath_redis_script_t *script,
    ngx_str_t *keys, ngx_uint_t nkeys, ngx_str_t *args, ngx_uint_t nargs,
    ngx_http_hotpath_redis_reply_pt handler, void *data);

/* The handler is not called any more; not to be used after it was. */
void ngx_http_hotpath_redis_cancel(ngx_http_hotpath_redis_call_t *call);

/*
 * SET of a document record (schemas/framing.md, without its length field)
 * unless Redis holds a newer or the same version; expires after ttl_ms. Nobody
 * waits for the answer; dropped where it cannot be sent.
 */
void ngx_http_hotpath_redis_set_document(ngx_http_hotpath_redis_t *redis,
    ngx_str_t *key, ngx_str_t *record, ngx_msec_t ttl_ms);

typedef struct {
    ngx_uint_t  up;            /* 1 connected, breaker lets a call pass */
    ngx_uint_t  waiting;       /* commands sent and not answered */
} ngx_http_hotpath_redis_state_t;

void ngx_http_hotpath_redis_state(ngx_http_hotpath_redis_t *redis,
    ngx_http_hotpath_redis_state_t *state);


#endif /* _NGX_HTTP_HOTPATH_REDIS_H_INCLUDED_ */
