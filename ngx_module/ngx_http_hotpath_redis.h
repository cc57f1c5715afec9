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


typedef struct ngx_http_hotpath_redis_s       ngx_http_hotpath_redis_t;
typedef struct ngx_http_hotpath_redis_call_s  ngx_http_hotpath_redis_call_t;

/* rc is NGX_OK (value points into memory valid during the call), NGX_DECLINED
 * (no such key) or NGX_ERROR (down, deadline passed, or nonsense answered). */
typedef void (*ngx_http_hotpath_redis_pt)(void *data, ngx_int_t rc,
    ngx_str_t *value);

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
 * GET. NULL where nothing was sent and the handler will not be called (breaker
 * open, not connected, too many waiting). Else the handler is called exactly
 * once, later, unless the call is cancelled.
 */
ngx_http_hotpath_redis_call_t *ngx_http_hotpath_redis_get(
    ngx_http_hotpath_redis_t *redis, ngx_str_t *key,
    ngx_http_hotpath_redis_pt handler, void *data);
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
