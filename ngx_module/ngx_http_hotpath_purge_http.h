/*
 * ngx_http_hotpath_purge_http.h: purges asked for over HTTP.
 *
 * The directives and the content handler; who may ask is decided here. Knows
 * the configuration (module.h), body and fanout.
 */
#ifndef _NGX_HTTP_HOTPATH_PURGE_HTTP_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_PURGE_HTTP_H_INCLUDED_


#include "ngx_http_hotpath_module.h"


/* hotpath_purge [timeout=time]; without the content handler itself: sets
 * lcf->purge_timeout. */
char *ngx_http_hotpath_purge_set(ngx_conf_t *cf,
    ngx_http_hotpath_loc_conf_t *lcf);

/* hotpath_purge_token_file path; the set callback of the command table; conf
 * is a location's. */
char *ngx_http_hotpath_purge_token_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

ngx_int_t ngx_http_hotpath_purge_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_HOTPATH_PURGE_HTTP_H_INCLUDED_ */
