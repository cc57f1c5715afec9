/*
 * ngx_http_hotpath_limit.h: how much a client may ask for.
 *
 * An exact rate limit (GCRA) per key in shared memory, together with the bound
 * on requests in flight. Decides, counts its refusals and writes the RateLimit
 * headers; the answer itself is the caller's. Knows shm, metrics, inflight and
 * core/.
 */
#ifndef _NGX_HTTP_HOTPATH_LIMIT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_LIMIT_H_INCLUDED_


#include "ngx_http_hotpath_inflight.h"
#include "ngx_http_hotpath_shm.h"


/* One location's limits; a member of the module's location configuration,
 * all zero when created. */
typedef struct {
    ngx_array_t                      *limits;   /* the room's own; NULL: none */
    ngx_http_hotpath_inflight_conf_t  inflight;
} ngx_http_hotpath_limit_conf_t;

/* hotpath_limit_zone key zone=name:size rate=NUMBERr/s|r/m [burst=N]; http */
char *ngx_http_hotpath_limit_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
/* hotpath_limit zone=name [policy=name]; conf + cmd->offset is the struct */
char *ngx_http_hotpath_limit_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* Inherits from the level above what this level does not set. */
void ngx_http_hotpath_limit_merge(ngx_http_hotpath_limit_conf_t *prev,
    ngx_http_hotpath_limit_conf_t *conf);

/*
 * Once per request, in the preaccess phase. NGX_OK: go on (a request that
 * counts as in flight is given back by a cleanup of r->pool). NGX_DECLINED: no
 * limit is set here, or this request passed one before an internal redirect,
 * or it is a subrequest. NGX_BUSY: answer 429, *retry_s says Retry-After, the
 * RateLimit headers are set. NGX_AGAIN: answer 503, too many in flight,
 * *retry_s as well. NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_hotpath_limit_check(ngx_http_request_t *r,
    ngx_http_hotpath_limit_conf_t *conf, ngx_uint_t *retry_s);


#endif /* _NGX_HTTP_HOTPATH_LIMIT_H_INCLUDED_ */
