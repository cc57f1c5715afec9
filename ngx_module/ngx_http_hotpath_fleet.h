/*
 * ngx_http_hotpath_fleet.h: which instances there are.
 *
 * Every instance has a name, says it once a second over core NATS, and hears
 * that of the others. Knows the configuration (module.h) and NATS.
 */
#ifndef _NGX_HTTP_HOTPATH_FLEET_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_FLEET_H_INCLUDED_


#include "ngx_http_hotpath_module.h"
#include "core/hp_fleet.h"


#define NGX_HTTP_HOTPATH_FLEET_MAX        256

/* A worker that has not listened for so long has not heard everybody. */
#define NGX_HTTP_HOTPATH_FLEET_SETTLE_MS  1300


typedef struct {
    u_char         id[HP_INSTANCE_MAX];
    size_t         len;
    uint64_t       began_us;   /* of the worker that speaks for it,
                                  by its machine's monotonic clock */
    ngx_msec_t     heard;
    ngx_uint_t     leaving;    /* 1 where that was all, unless this was the
                                  old worker of a reload: soon it is gone from
                                  here, or has said otherwise */
} ngx_http_hotpath_instance_t;


/* While the configuration is read. */
ngx_int_t ngx_http_hotpath_fleet_init(ngx_conf_t *cf);

/* In every worker, when its NATS client has been started (or is none) and its
 * event loop not yet. */
ngx_int_t ngx_http_hotpath_fleet_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf);

/* Before the client is stopped: the others need not miss this instance. */
void ngx_http_hotpath_fleet_stop(ngx_http_hotpath_main_conf_t *mcf);

ngx_str_t *ngx_http_hotpath_fleet_self(void);

/* 1 in the old worker of a reload that has heard its successor: that one
 * speaks for the instance. */
ngx_uint_t ngx_http_hotpath_fleet_succeeded(void);

/* The others, at most FLEET_MAX. NULL: this worker has not listened for
 * SETTLE_MS, and does not know them all. */
ngx_http_hotpath_instance_t *ngx_http_hotpath_fleet_others(ngx_uint_t *n);


#endif /* _NGX_HTTP_HOTPATH_FLEET_H_INCLUDED_ */
