/*
 * ngx_http_hotpath_warm.h: an empty zone gets back what was hot.
 *
 * By the first worker, before the instance is ready. Knows the configuration
 * (module.h), Redis, the zones, hot and fetch.
 */
#ifndef _NGX_HTTP_HOTPATH_WARM_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_WARM_H_INCLUDED_


#include "ngx_http_hotpath_module.h"


/*
 * hotpath_warm zone=name [keys=number] [timeout=time]; the set callback of the
 * command table; conf is the main configuration.
 */
char *ngx_http_hotpath_warm_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* When the whole http block was read. */
ngx_int_t ngx_http_hotpath_warm_init(ngx_conf_t *cf,
    ngx_http_hotpath_main_conf_t *mcf);

/* In every worker, behind push and before its event loop. */
ngx_int_t ngx_http_hotpath_warm_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf);

/* 1 while a zone is being warmed, by whichever worker. */
ngx_uint_t ngx_http_hotpath_warm_going_on(ngx_http_hotpath_main_conf_t *mcf);


#endif /* _NGX_HTTP_HOTPATH_WARM_H_INCLUDED_ */
