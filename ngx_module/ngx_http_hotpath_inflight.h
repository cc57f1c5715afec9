/*
 * ngx_http_hotpath_inflight.h: a bound on requests at once, over all workers.
 *
 * Counts per directive and process in shared memory. limit decides with it and
 * gives back; the bound can be passed, for a moment, by at most the number of
 * workers less one. Knows shm, metrics and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_INFLIGHT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_INFLIGHT_H_INCLUDED_


#include "ngx_http_hotpath_shm.h"


#define NGX_HTTP_HOTPATH_INFLIGHT_RETRY_S  1


/* All zero when created. */
typedef struct {
    ngx_uint_t    bound;    /* most requests at once; 0: no bound */
    ngx_uint_t    id;       /* which counter; given at configuration; 0:
                               hotpath_inflight is not set here */
} ngx_http_hotpath_inflight_conf_t;

/* hotpath_inflight number; conf + cmd->offset is the struct */
char *ngx_http_hotpath_inflight_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
/* Inherits from the level above what this level does not set. */
void ngx_http_hotpath_inflight_merge(ngx_http_hotpath_inflight_conf_t *prev,
    ngx_http_hotpath_inflight_conf_t *conf);

/* Adds the zone where any location wants one; from postconfiguration. */
ngx_int_t ngx_http_hotpath_inflight_init(ngx_conf_t *cf);
/* In every worker, at init_process: zeroes what a dead process left. */
void ngx_http_hotpath_inflight_start(ngx_cycle_t *cycle);

/* 1 where one more would be too many (counted as a refusal), else 0. */
ngx_uint_t ngx_http_hotpath_inflight_full(
    ngx_http_hotpath_inflight_conf_t *conf);
/* Counts one in; the counter to be lowered when it is over, NULL for none. */
uint32_t *ngx_http_hotpath_inflight_take(
    ngx_http_hotpath_inflight_conf_t *conf);


#endif /* _NGX_HTTP_HOTPATH_INFLIGHT_H_INCLUDED_ */
