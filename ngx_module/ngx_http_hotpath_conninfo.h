/*
 * ngx_http_hotpath_conninfo.h: a libpq connection string made safe to use on
 * an event loop.
 *
 * Called while a configuration is read, which may block; what it gives may be
 * handed to PQconnectStartParams in a worker, which may not. Knows nginx and
 * libpq.
 */
#ifndef _NGX_HTTP_HOTPATH_CONNINFO_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_CONNINFO_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* For PQconnectStartParams, both ending with NULL; from the pool of the
 * configuration. */
typedef struct {
    const char  **keywords;
    const char  **values;
} ngx_http_hotpath_conninfo_t;


/*
 * text is terminated. Names in it are resolved; a host with several addresses
 * becomes several hosts. The server is told to give up a statement after
 * timeout. NGX_ERROR: refused, and logged with the configuration's line.
 */
ngx_int_t ngx_http_hotpath_conninfo_parse(ngx_conf_t *cf, ngx_str_t *text,
    ngx_msec_t timeout, ngx_http_hotpath_conninfo_t *conninfo);


#endif /* _NGX_HTTP_HOTPATH_CONNINFO_H_INCLUDED_ */
