/*
 * ngx_http_hotpath_nats_tls.c: TLS under a NATS connection, nginx's own.
 *
 * nginx moves the bytes and makes the handshake, step by step in its event
 * loop. Here is what it leaves to its user: the certificate is checked inside
 * the handshake, chain and name, so that nothing of ours (our certificate
 * neither) goes to a server that failed it; and OpenSSL is told that the buffer
 * which a write is repeated from may have moved, as ours does when it grows.
 *
 * The context belongs to the configuration, a session to its connection. Runs
 * in the event loop of one worker. Must not happen here: a server accepted
 * whose certificate was not checked, unless hotpath_nats_ssl_verify is off.
 * Test: tests/integration/test_nats.py.
 */


#include "ngx_http_hotpath_nats_tls.h"


#if (NGX_SSL)

#include <openssl/x509v3.h>


static int ngx_http_hotpath_nats_tls_verify(int ok, X509_STORE_CTX *store);
static ngx_int_t ngx_http_hotpath_nats_tls_name(SSL *ssl, ngx_str_t *host,
    ngx_uint_t verify);


ngx_int_t
ngx_http_hotpath_nats_tls_begin(ngx_http_hotpath_nats_conf_t *conf,
    ngx_connection_t *c, ngx_pool_t *pool, ngx_str_t *host,
    void (*handler)(ngx_connection_t *c))
{
    SSL        *ssl;
    ngx_int_t   rc;

    c->pool = pool;

    if (ngx_ssl_create_connection(conf->ssl, c,
                                  NGX_SSL_BUFFER|NGX_SSL_CLIENT)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ssl = c->ssl->connection;

    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE
                      |SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);

    if (conf->tls_name.len) {
        host = &conf->tls_name;
    }

    if (ngx_http_hotpath_nats_tls_name(ssl, host, conf->tls_verify)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (conf->tls_verify) {
        SSL_set_verify(ssl, SSL_VERIFY_PEER,
                       ngx_http_hotpath_nats_tls_verify);
    }

    rc = ngx_ssl_handshake(c);

    if (rc == NGX_AGAIN) {
        c->ssl->handler = handler;
        return NGX_AGAIN;
    }

    return rc == NGX_OK ? ngx_http_hotpath_nats_tls_done(c) : NGX_ERROR;
}


/* nginx's own callback lets everything pass, to be looked at later. */

static int
ngx_http_hotpath_nats_tls_verify(int ok, X509_STORE_CTX *store)
{
    return ok;
}


static ngx_int_t
ngx_http_hotpath_nats_tls_name(SSL *ssl, ngx_str_t *host, ngx_uint_t verify)
{
    char       *name;
    ngx_uint_t  address;
#if (NGX_HAVE_INET6)
    u_char      ipv6[16];
#endif

    name = (char *) host->data;

    address = (ngx_inet_addr(host->data, host->len) != INADDR_NONE);

#if (NGX_HAVE_INET6)
    address |= (ngx_inet6_addr(host->data, host->len, ipv6) == NGX_OK);
#endif

    if (!address && SSL_set_tlsext_host_name(ssl, name) != 1) {
        return NGX_ERROR;
    }

    if (!verify) {
        return NGX_OK;
    }

    if (address) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1
               ? NGX_OK : NGX_ERROR;
    }

    return SSL_set1_host(ssl, name) == 1 ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_hotpath_nats_tls_done(ngx_connection_t *c)
{
    SSL *ssl;

    if (!c->ssl->handshaked) {
        return NGX_ERROR;
    }

    ssl = c->ssl->connection;

    /* the handshake has failed already where this is not so */

    if ((SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER)
        && SSL_get_verify_result(ssl) != X509_V_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_http_hotpath_nats_tls_end(ngx_connection_t *c)
{
    if (c->ssl == NULL) {
        return;
    }

    /* nobody waits for a goodbye: the session is freed at once */

    c->ssl->no_wait_shutdown = 1;
    c->ssl->no_send_shutdown = 1;

    (void) ngx_ssl_shutdown(c);
}


const char *
ngx_http_hotpath_nats_tls_reason(ngx_connection_t *c)
{
    long  verified;

    if (c->ssl) {
        verified = SSL_get_verify_result(c->ssl->connection);

        if (verified != X509_V_OK) {
            return X509_verify_cert_error_string(verified);
        }
    }

    return "the TLS handshake failed";
}

#else

ngx_int_t
ngx_http_hotpath_nats_tls_begin(ngx_http_hotpath_nats_conf_t *conf,
    ngx_connection_t *c, ngx_pool_t *pool, ngx_str_t *host,
    void (*handler)(ngx_connection_t *c))
{
    return NGX_ERROR;
}


ngx_int_t
ngx_http_hotpath_nats_tls_done(ngx_connection_t *c)
{
    return NGX_ERROR;
}


void
ngx_http_hotpath_nats_tls_end(ngx_connection_t *c)
{
}


const char *
ngx_http_hotpath_nats_tls_reason(ngx_connection_t *c)
{
    return "this nginx has no TLS";
}

#endif
