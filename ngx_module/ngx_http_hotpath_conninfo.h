/*
 * ngx_http_hotpath_conninfo.h: a libpq connection string made safe to use on
 * an event loop.
 *
 * Called while a configuration is read, which may block; what it gives may be
 * handed to PQconnectStartParams in a worker, which may not. The hosts are
 * taken out of the string, because which one is asked next is not left to
 * libpq (see pgconnect). Knows nginx and libpq.
 */
#ifndef _NGX_HTTP_HOTPATH_CONNINFO_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_CONNINFO_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_HOTPATH_CONNINFO_HOSTS_MAX  16
#define NGX_HTTP_HOTPATH_CONNINFO_ADDRS_MAX  8


/* Where in keywords and values stands what is chosen for each attempt. */
typedef enum {
    NGX_HTTP_HOTPATH_CONNINFO_HOST = 0,
    NGX_HTTP_HOTPATH_CONNINFO_HOSTADDR,
    NGX_HTTP_HOTPATH_CONNINFO_PORT,
    NGX_HTTP_HOTPATH_CONNINFO_ATTRS,
    NGX_HTTP_HOTPATH_CONNINFO_CHOSEN
} ngx_http_hotpath_conninfo_slot_e;


typedef struct {
    ngx_str_t        name;         /* terminated: for the certificate and the
                                      log; or a directory with a socket in it;
                                      empty: libpq's own default */
    const char      *port;         /* empty: libpq's own default */
    char             addrs[NGX_HTTP_HOTPATH_CONNINFO_ADDRS_MAX]
                          [NGX_INET6_ADDRSTRLEN + 1];
    ngx_uint_t       naddrs;       /* 0: a socket's directory */
    unsigned         named:1;      /* the addresses are what a name gave; a
                                      worker may put newer ones there */
} ngx_http_hotpath_conninfo_host_t;


/* From the pool of the configuration. */
typedef struct {
    const char                        **keywords;  /* for */
    const char                        **values;    /* PQconnectStartParams */
    ngx_http_hotpath_conninfo_host_t   *hosts;
    ngx_uint_t                          nhosts;
    const char                         *attrs[2];  /* target_session_attrs to
                                                      be tried, in order */
    ngx_uint_t                          nattrs;    /* 1 or 2 */
    ngx_msec_t                          connect_timeout;
    unsigned                            balance:1; /* hosts in any order */
} ngx_http_hotpath_conninfo_t;


/*
 * text is terminated. Names in it are resolved. statement_timeout: what the
 * server is told with the start of a session, 0: nothing. user_timeout: what
 * becomes tcp_user_timeout where the text does not say. NGX_ERROR: refused,
 * and logged with the configuration's line.
 */
ngx_int_t ngx_http_hotpath_conninfo_parse(ngx_conf_t *cf, ngx_str_t *text,
    ngx_msec_t statement_timeout, ngx_msec_t user_timeout,
    ngx_http_hotpath_conninfo_t *conninfo);


#endif /* _NGX_HTTP_HOTPATH_CONNINFO_H_INCLUDED_ */
