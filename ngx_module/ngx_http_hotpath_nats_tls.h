/*
 * ngx_http_hotpath_nats_tls.h: TLS under a NATS connection, nginx's own.
 *
 * Empty in an nginx without SSL, where nats_conf refuses to use it. Knows nginx
 * and nats_conf.
 */
#ifndef _NGX_HTTP_HOTPATH_NATS_TLS_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_NATS_TLS_H_INCLUDED_


#include "ngx_http_hotpath_nats_conf.h"


/*
 * Begins the handshake with the server whose certificate has to name host
 * (terminated). NGX_OK: done, and the server is who it has to be. NGX_AGAIN:
 * handler will be called with the connection, whose read and write handlers are
 * taken for so long. NGX_ERROR. The pool holds what nginx keeps of the session:
 * it is destroyed after ngx_http_hotpath_nats_tls_end().
 */
ngx_int_t ngx_http_hotpath_nats_tls_begin(ngx_http_hotpath_nats_conf_t *conf,
    ngx_connection_t *c, ngx_pool_t *pool, ngx_str_t *host,
    void (*handler)(ngx_connection_t *c));

/* In that handler: NGX_OK where the handshake is done, and was good. */
ngx_int_t ngx_http_hotpath_nats_tls_done(ngx_connection_t *c);

/* Before the connection is closed; whether or not there is a session. */
void ngx_http_hotpath_nats_tls_end(ngx_connection_t *c);

/* Why the handshake failed, or a general word for it. */
const char *ngx_http_hotpath_nats_tls_reason(ngx_connection_t *c);


#endif /* _NGX_HTTP_HOTPATH_NATS_TLS_H_INCLUDED_ */
