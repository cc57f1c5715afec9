/*
 * ngx_http_hotpath_pgconf.h: what hotpath_postgres says, read and checked.
 *
 * Called while a configuration is read, which may block (names are resolved).
 * Knows nginx, conninfo and pglink, whose settings these are.
 */
#ifndef _NGX_HTTP_HOTPATH_PGCONF_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_PGCONF_H_INCLUDED_


#include "ngx_http_hotpath_pglink.h"


typedef struct {
    ngx_http_hotpath_pglink_conf_t   link;         /* servers, timeout,
                                                      max_result, prepare */
    ngx_uint_t                       nlinks;       /* connections */
    ngx_uint_t                       queue_max;
    ngx_msec_t                       statement_timeout;
    ngx_flag_t                       pgbouncer;
} ngx_http_hotpath_pgconf_t;


/* args: of the directive, its name first. NGX_ERROR: refused, and logged with
 * the configuration's line. */
ngx_int_t ngx_http_hotpath_pgconf_parse(ngx_conf_t *cf, ngx_array_t *args,
    ngx_http_hotpath_pgconf_t *conf);


#endif /* _NGX_HTTP_HOTPATH_PGCONF_H_INCLUDED_ */
