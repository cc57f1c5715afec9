/*
 * ngx_http_hotpath_redis_tls.h: TLS under a hiredis connection.
 *
 * Only where the build's hiredis has it (1.0 on, with hiredis_ssl, found by
 * ngx_module/config); without it a configuration that asks for TLS is refused,
 * and the rest is empty. Knows nginx, OpenSSL and hiredis.
 */
#ifndef _NGX_HTTP_HOTPATH_REDIS_TLS_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_REDIS_TLS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <hiredis/hiredis.h>


/* All but name may be empty; files are terminated, and read when the context
 * is made. */
typedef struct {
    ngx_str_t  name;     /* what the certificate is for */
    ngx_str_t  ca;       /* PEM; without it, what the system trusts */
    ngx_str_t  cert;     /* PEM, ours; with key */
    ngx_str_t  key;
    void      *context;  /* SSL_CTX; freed with the configuration's pool */
} ngx_http_hotpath_redis_tls_t;


/* While the configuration is read; NGX_ERROR: refused, and logged. */
ngx_int_t ngx_http_hotpath_redis_tls_init(ngx_conf_t *cf,
    ngx_http_hotpath_redis_tls_t *tls);

/* Right after hiredis has begun to connect: what it sends and reads from here
 * on goes through TLS, and the handshake happens on the way. The session, which
 * is hiredis' and ends with its connection; or NULL, and why. */
void *ngx_http_hotpath_redis_tls_begin(ngx_http_hotpath_redis_tls_t *tls,
    redisContext *c, const char **why);

/* Before and after hiredis reads or writes: the errors that OpenSSL keeps for
 * a thread must neither come from nor get to nginx's own connections. */
void ngx_http_hotpath_redis_tls_forget(void);

/* Why the session failed, as text; NULL where it did not. */
const char *ngx_http_hotpath_redis_tls_reason(void *session);


#endif /* _NGX_HTTP_HOTPATH_REDIS_TLS_H_INCLUDED_ */
