/*
 * ngx_http_hotpath_nats_conf.h: what the configuration says of NATS.
 *
 * Written while a configuration is read, read-only afterwards. Secrets are in
 * the configuration's pool (keys as OpenSSL's, freed with it), read from files
 * by the master, so that no worker needs a right to them.
 */
#ifndef _NGX_HTTP_HOTPATH_NATS_CONF_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_NATS_CONF_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


#define NGX_HTTP_HOTPATH_NATS_TLS_OFF    0
#define NGX_HTTP_HOTPATH_NATS_TLS_ON     1   /* after INFO */
#define NGX_HTTP_HOTPATH_NATS_TLS_FIRST  2   /* before it */


typedef struct {
    ngx_addr_t    addr;
    ngx_str_t     host;              /* whom its certificate has to name,
                                        terminated */
} ngx_http_hotpath_nats_server_conf_t;


typedef struct {
    ngx_array_t  *servers;           /* of server_conf_t; NULL: no NATS */
    ngx_str_t     user;
    ngx_str_t     password;
    ngx_str_t     token;
    ngx_str_t     nkey;              /* file with a seed */
    ngx_str_t     credentials;       /* file with a JWT and a seed */
    ngx_msec_t    connect_timeout;   /* TCP, TLS, INFO and PONG, together */
    ngx_msec_t    ping_interval;
    size_t        buffer;            /* most bytes waiting to be sent */
    ngx_flag_t    discovery;
    ngx_uint_t    tls;
    ngx_flag_t    tls_verify;
    ngx_str_t     tls_trusted;
    ngx_str_t     tls_certificate;
    ngx_str_t     tls_certificate_key;
    ngx_str_t     tls_name;          /* in place of each server's host */

    /* made of the above */
    ngx_str_t     jwt;
    ngx_str_t     public_key;
    void         *key;               /* EVP_PKEY; NULL: none */
#if (NGX_SSL)
    ngx_ssl_t    *ssl;
#endif
    ngx_uint_t    secure;            /* some server was given as tls:// */
} ngx_http_hotpath_nats_conf_t;


void ngx_http_hotpath_nats_conf_create(ngx_http_hotpath_nats_conf_t *conf);

/* Defaults, checks, files; NGX_CONF_ERROR is logged, another text is not. */
char *ngx_http_hotpath_nats_conf_init(ngx_conf_t *cf,
    ngx_http_hotpath_nats_conf_t *conf);

/* Directives; conf + offset is the nats_conf_t. */
char *ngx_http_hotpath_nats_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

extern ngx_conf_enum_t  ngx_http_hotpath_nats_tls_modes[];


#endif /* _NGX_HTTP_HOTPATH_NATS_CONF_H_INCLUDED_ */
