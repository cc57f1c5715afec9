/*
 * ngx_http_hotpath_publish_conf.h: where events go, and with which priority.
 *
 * Between module, which has the commands, and request, which asks.
 */
#ifndef _NGX_HTTP_HOTPATH_PUBLISH_CONF_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_PUBLISH_CONF_H_INCLUDED_


#include "ngx_http_hotpath_module.h"


/* hotpath_stream; conf is the main configuration. */
char *ngx_http_hotpath_publish_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* As nothing said, and what follows from what was. */
void ngx_http_hotpath_publish_conf_create(
    ngx_http_hotpath_publish_conf_t *conf);
char *ngx_http_hotpath_publish_conf_init(ngx_conf_t *cf,
    ngx_http_hotpath_main_conf_t *mcf);

/* What an acknowledgement is worth, as a word. */
const char *ngx_http_hotpath_publish_tier(
    ngx_http_hotpath_publish_conf_t *conf);

/* hotpath_priority; conf is the location's. */
char *ngx_http_hotpath_priority_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* That of a request's events, one that has a stream. NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_hotpath_priority(ngx_http_request_t *r,
    ngx_uint_t *priority);


#endif /* _NGX_HTTP_HOTPATH_PUBLISH_CONF_H_INCLUDED_ */
