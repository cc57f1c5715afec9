/*
 * ngx_http_hotpath_guard.h: hotpath_idempotency in a location that something
 * other than Hotpath answers, such as proxy_pass: its configuration and hooks.
 *
 * Knows idempotency and the cache zone; included by module.h.
 */
#ifndef _NGX_HTTP_HOTPATH_GUARD_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_GUARD_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_hotpath_cache.h"
#include "ngx_http_hotpath_idempotency.h"


#define NGX_HTTP_HOTPATH_GUARD_OFF       1
#define NGX_HTTP_HOTPATH_GUARD_OPTIONAL  2   /* without a key it passes */
#define NGX_HTTP_HOTPATH_GUARD_REQUIRED  3

#define NGX_HTTP_HOTPATH_GUARD_RETRIES   16


typedef struct {
    ngx_uint_t                       mode;         /* 0: not set */
    ngx_http_hotpath_idempotency_t  *table;
    ngx_str_t                        zone;         /* of the answers */
    ngx_http_hotpath_cache_t        *answers;
    ngx_str_t                        route;
    ngx_uint_t                       methods;      /* NGX_HTTP_* */
    size_t                           body_max;
    size_t                           answer_max;
    ngx_msec_t                       claim_ms;
    ngx_uint_t                       retries[NGX_HTTP_HOTPATH_GUARD_RETRIES];
    ngx_uint_t                       nretries;     /* statuses that free a
                                                      key */
    unsigned                         retry_lost:1; /* and so does no answer */
    unsigned                         redis:1;
    unsigned                         redis_set:1;
    unsigned                         strict:1;     /* not without Redis */
} ngx_http_hotpath_guard_conf_t;


/* The set callback of the command table; cmd->offset is that of the
 * structure. */
char *ngx_http_hotpath_guard_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* own: the location has a content handler of ours, which has no upstream;
 * redis: there is one. */
ngx_int_t ngx_http_hotpath_guard_merge(ngx_conf_t *cf,
    ngx_http_hotpath_guard_conf_t *prev, ngx_http_hotpath_guard_conf_t *conf,
    ngx_uint_t own, ngx_uint_t redis);

/* The phase handler and the filters; from postconfiguration, behind those of
 * the output cache. */
ngx_int_t ngx_http_hotpath_guard_init(ngx_conf_t *cf);


#endif /* _NGX_HTTP_HOTPATH_GUARD_H_INCLUDED_ */
