/*
 * ngx_http_hotpath_nats_auth.h: who we are, to a NATS server.
 *
 * Keys and credentials are read with the configuration; a worker signs with
 * them what a server asks it to sign, and writes the line that introduces it.
 * Knows nats_conf and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_NATS_AUTH_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_NATS_AUTH_H_INCLUDED_


#include "ngx_http_hotpath_nats_conf.h"
#include "core/hp_nats.h"


/* While the configuration is read; NGX_ERROR: refused, and logged. */
ngx_int_t ngx_http_hotpath_nats_auth_init(ngx_conf_t *cf,
    ngx_http_hotpath_nats_conf_t *conf);

/* Most bytes that connect() writes. */
size_t ngx_http_hotpath_nats_auth_size(ngx_http_hotpath_nats_conf_t *conf);

/* CONNECT with its line's end; behind its last byte, or NULL where signing
 * failed. secure: the connection is encrypted and the server known. */
u_char *ngx_http_hotpath_nats_auth_connect(
    ngx_http_hotpath_nats_conf_t *conf, u_char *p, hp_str_t nonce,
    ngx_uint_t secure);


#endif /* _NGX_HTTP_HOTPATH_NATS_AUTH_H_INCLUDED_ */
