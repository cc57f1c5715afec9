/*
 * ngx_http_hotpath_redis_tls.c: TLS under a hiredis connection.
 *
 * hiredis_ssl moves the bytes, on its own context functions, and never waits:
 * the handshake is done step by step by its reads and writes. What it leaves
 * to its user is here: a context that is made while the configuration is read
 * (by the master, who may read the key), the check that the certificate is for
 * the name that was meant, which hiredis' own context does not make, and the
 * reason of a failure, which it replaces by an errno. Its reads ask for as much
 * as a record holds, so that nothing stays behind in OpenSSL that the event
 * loop would not hear of; that needs read-ahead to be off, as it is in a
 * context of our own and is not in one of nginx's.
 *
 * The context belongs to the configuration, a session to hiredis, which frees
 * it with the connection. What must never happen here: a peer accepted without
 * its certificate checked. Test: tests/integration/test_redis.py.
 */
#include "ngx_http_hotpath_redis_tls.h"


#if (NGX_HTTP_HOTPATH_REDIS_TLS)

#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>


static int ngx_http_hotpath_redis_tls_ask(char *buf, int size, int rwflag,
    void *data);
static void ngx_http_hotpath_redis_tls_cleanup(void *data);
static ngx_int_t ngx_http_hotpath_redis_tls_refuse(ngx_conf_t *cf,
    const char *what, ngx_str_t *file);
static ngx_uint_t ngx_http_hotpath_redis_tls_is_address(ngx_str_t *name);


ngx_int_t
ngx_http_hotpath_redis_tls_init(ngx_conf_t *cf,
    ngx_http_hotpath_redis_tls_t *tls)
{
    SSL_CTX             *ctx;
    ngx_uint_t           i;
    ngx_str_t           *files[3];
    ngx_pool_cleanup_t  *cln;

    files[0] = &tls->ca;
    files[1] = &tls->cert;
    files[2] = &tls->key;

    for (i = 0; i < 3; i++) {
        if (files[i]->len
            && ngx_conf_full_name(cf->cycle, files[i], 1) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL) {
        return ngx_http_hotpath_redis_tls_refuse(cf, "SSL_CTX_new()", NULL);
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        SSL_CTX_free(ctx);
        return NGX_ERROR;
    }

    cln->handler = ngx_http_hotpath_redis_tls_cleanup;
    cln->data = ctx;

    SSL_CTX_set_default_passwd_cb(ctx, ngx_http_hotpath_redis_tls_ask);
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);

    if (tls->ca.len) {
        if (SSL_CTX_load_verify_locations(ctx, (char *) tls->ca.data, NULL)
            != 1)
        {
            return ngx_http_hotpath_redis_tls_refuse(cf, "cannot load",
                                                     &tls->ca);
        }

    } else if (SSL_CTX_set_default_verify_paths(ctx) != 1) {
        return ngx_http_hotpath_redis_tls_refuse(cf,
                                   "SSL_CTX_set_default_verify_paths()", NULL);
    }

    if (tls->cert.len) {
        if (SSL_CTX_use_certificate_chain_file(ctx, (char *) tls->cert.data)
            != 1)
        {
            return ngx_http_hotpath_redis_tls_refuse(cf, "cannot load",
                                                     &tls->cert);
        }

        if (SSL_CTX_use_PrivateKey_file(ctx, (char *) tls->key.data,
                                        SSL_FILETYPE_PEM)
            != 1)
        {
            return ngx_http_hotpath_redis_tls_refuse(cf, "cannot load",
                                                     &tls->key);
        }
    }

    tls->context = ctx;

    return NGX_OK;
}


/* A key that is encrypted is refused: OpenSSL itself would ask the terminal. */

static int
ngx_http_hotpath_redis_tls_ask(char *buf, int size, int rwflag, void *data)
{
    return -1;
}


static void
ngx_http_hotpath_redis_tls_cleanup(void *data)
{
    SSL_CTX_free(data);
}


static ngx_int_t
ngx_http_hotpath_redis_tls_refuse(ngx_conf_t *cf, const char *what,
    ngx_str_t *file)
{
    const char     *reason;
    unsigned long   n;

    /* The first error is the cause, what follows says where it was met. */

    n = ERR_peek_error();
    reason = n ? ERR_reason_error_string(n) : NULL;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "TLS to Redis: %s%s%s (%s)", what,
                       file ? " " : "", file ? (char *) file->data : "",
                       reason ? reason : "no reason given");
    ERR_clear_error();

    return NGX_ERROR;
}


void *
ngx_http_hotpath_redis_tls_begin(ngx_http_hotpath_redis_tls_t *tls,
    redisContext *c, const char **why)
{
    SSL   *ssl;
    char  *name;

    ERR_clear_error();

    name = (char *) tls->name.data;
    *why = "no TLS session";

    ssl = SSL_new(tls->context);
    if (ssl == NULL) {
        return NULL;
    }

    if (ngx_http_hotpath_redis_tls_is_address(&tls->name)) {
        if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) != 1) {
            goto failed;
        }

    } else if (SSL_set1_host(ssl, name) != 1
               || SSL_set_tlsext_host_name(ssl, name) != 1)
    {
        goto failed;
    }

    if (redisInitiateSSL(c, ssl) != REDIS_OK) {
        goto failed;
    }

    return ssl;

failed:

    *why = ngx_http_hotpath_redis_tls_reason(ssl);

    if (*why == NULL) {
        *why = c->errstr;
    }

    SSL_free(ssl);

    return NULL;
}


static ngx_uint_t
ngx_http_hotpath_redis_tls_is_address(ngx_str_t *name)
{
#if (NGX_HAVE_INET6)
    u_char  ipv6[16];

    if (ngx_inet6_addr(name->data, name->len, ipv6) == NGX_OK) {
        return 1;
    }
#endif

    return ngx_inet_addr(name->data, name->len) != INADDR_NONE;
}


void
ngx_http_hotpath_redis_tls_forget(void)
{
    ERR_clear_error();
}


const char *
ngx_http_hotpath_redis_tls_reason(void *session)
{
    long           verified;
    unsigned long  n;

    verified = SSL_get_verify_result(session);

    if (verified != X509_V_OK) {
        return X509_verify_cert_error_string(verified);
    }

    n = ERR_peek_error();

    return n ? ERR_reason_error_string(n) : NULL;
}

#else

ngx_int_t
ngx_http_hotpath_redis_tls_init(ngx_conf_t *cf,
    ngx_http_hotpath_redis_tls_t *tls)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"tls\" needs a hiredis with TLS (1.0 or later, with "
                       "hiredis_ssl), which this build has not");
    return NGX_ERROR;
}


void *
ngx_http_hotpath_redis_tls_begin(ngx_http_hotpath_redis_tls_t *tls,
    redisContext *c, const char **why)
{
    *why = "no TLS";

    return NULL;
}


void
ngx_http_hotpath_redis_tls_forget(void)
{
}


const char *
ngx_http_hotpath_redis_tls_reason(void *session)
{
    return NULL;
}

#endif
