/*
 * ngx_http_hotpath_limit.h: how much a client may ask for.
 *
 * An exact rate limit (GCRA) per key in shared memory, and a bound on requests
 * in flight over all workers. Decides, counts its refusals and writes the
 * RateLimit headers; the answer itself is the caller's. Knows shm, metrics and
 * core/.
 */
#ifndef _NGX_HTTP_HOTPATH_LIMIT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_LIMIT_H_INCLUDED_


#include "ngx_http_hotpath_shm.h"


/* One location's limits; a member of the module's location configuration,
 * all zero when created. */
typedef struct {
    ngx_array_t  *limits;      /* of the room's own type; NULL: none */
    ngx_uint_t    inflight;    /* most requests at once; 0: no bound */
    ngx_uint_t    inflight_id; /* which counter; given at configuration; 0:
                                  hotpath_inflight is not set here */
} ngx_http_hotpath_limit_conf_t;

/* hotpath_limit_zone key zone=name:size rate=NUMBERr/s|r/m [burst=N]; http */
char *ngx_http_hotpath_limit_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
/* hotpath_limit zone=name [policy=name]; conf + cmd->offset is the struct */
char *ngx_http_hotpath_limit_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
/* hotpath_inflight number; conf + cmd->offset is the struct */
char *ngx_http_hotpath_inflight_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* Inherits from the level above what this level does not set. */
void ngx_http_hotpath_limit_merge(ngx_http_hotpath_limit_conf_t *prev,
    ngx_http_hotpath_limit_conf_t *conf);

/* Adds the zone of the in-flight counters where any location wants one; from
 * postconfiguration. */
ngx_int_t ngx_http_hotpath_limit_init(ngx_conf_t *cf);
/* In every worker, at init_process: zeroes what a dead process left. */
void ngx_http_hotpath_limit_start(ngx_cycle_t *cycle);

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
