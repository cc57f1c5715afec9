/*
 * ngx_http_hotpath_nats_conf.c: what the configuration says of NATS.
 *
 * Reads the list of servers and resolves their names, gives the other
 * directives their defaults, and checks them against each other. Loads what is
 * in files: the authorities and our certificate into a TLS context, by nginx's
 * own functions; keys through nats_auth. Runs in the process that reads the
 * configuration (the master, or nginx -t). Owns nothing but entries of the
 * configuration's pool. Never in here: a worker, a connection, a default that
 * makes a connection less safe than the operator said. Reference:
 * ngx_module/README.md; tests: tests/integration/test_nats.py.
 */


#include "ngx_http_hotpath_nats_conf.h"
#include "ngx_http_hotpath_nats_auth.h"


static char *ngx_http_hotpath_nats_conf_exclude(ngx_conf_t *cf,
    ngx_http_hotpath_nats_conf_t *conf);
static char *ngx_http_hotpath_nats_conf_tls(ngx_conf_t *cf,
    ngx_http_hotpath_nats_conf_t *conf);


ngx_conf_enum_t  ngx_http_hotpath_nats_tls_modes[] = {
    { ngx_string("off"), NGX_HTTP_HOTPATH_NATS_TLS_OFF },
    { ngx_string("on"), NGX_HTTP_HOTPATH_NATS_TLS_ON },
    { ngx_string("first"), NGX_HTTP_HOTPATH_NATS_TLS_FIRST },
    { ngx_null_string, 0 }
};


void
ngx_http_hotpath_nats_conf_create(ngx_http_hotpath_nats_conf_t *conf)
{
    /* the rest is zero already */

    conf->connect_timeout = NGX_CONF_UNSET_MSEC;
    conf->ping_interval = NGX_CONF_UNSET_MSEC;
    conf->buffer = NGX_CONF_UNSET_SIZE;
    conf->discovery = NGX_CONF_UNSET;
    conf->tls = NGX_CONF_UNSET_UINT;
    conf->tls_verify = NGX_CONF_UNSET;
}


char *
ngx_http_hotpath_nats_conf_init(ngx_conf_t *cf,
    ngx_http_hotpath_nats_conf_t *conf)
{
    char  *rv;

    ngx_conf_init_msec_value(conf->connect_timeout, 2000);
    ngx_conf_init_msec_value(conf->ping_interval, 5000);
    ngx_conf_init_size_value(conf->buffer, 16 * 1024 * 1024);
    ngx_conf_init_value(conf->discovery, 1);
    ngx_conf_init_value(conf->tls_verify, 1);

    if (conf->secure && conf->tls == NGX_HTTP_HOTPATH_NATS_TLS_OFF) {
        return "a server with \"tls://\" in \"hotpath_nats\" excludes "
               "\"hotpath_nats_ssl off\"";
    }

    ngx_conf_init_uint_value(conf->tls,
                             conf->secure ? NGX_HTTP_HOTPATH_NATS_TLS_ON
                                          : NGX_HTTP_HOTPATH_NATS_TLS_OFF);

    if (conf->connect_timeout == 0 || conf->ping_interval == 0) {
        return "\"hotpath_nats_connect_timeout\" and "
               "\"hotpath_nats_ping_interval\" must not be 0";
    }

    rv = ngx_http_hotpath_nats_conf_exclude(cf, conf);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (ngx_http_hotpath_nats_auth_init(cf, conf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_hotpath_nats_conf_tls(cf, conf);
}


static char *
ngx_http_hotpath_nats_conf_exclude(ngx_conf_t *cf,
    ngx_http_hotpath_nats_conf_t *conf)
{
    ngx_uint_t  ways;

    ways = (conf->user.len != 0) + (conf->token.len != 0)
           + (conf->nkey.len != 0) + (conf->credentials.len != 0);

    if (ways > 1) {
        return "\"hotpath_nats_user\", \"hotpath_nats_token\", "
               "\"hotpath_nats_nkey\" and \"hotpath_nats_credentials\" "
               "exclude one another";
    }

    if ((conf->tls_certificate.len != 0)
        != (conf->tls_certificate_key.len != 0))
    {
        return "\"hotpath_nats_ssl_certificate\" and "
               "\"hotpath_nats_ssl_certificate_key\" need each other";
    }

    return NGX_CONF_OK;
}


/* The servers, each [nats://|tls://]host[:port]; names are resolved here. */

char *
ngx_http_hotpath_nats_set(ngx_conf_t *cf, ngx_command_t *cmd, void *parent)
{
    ngx_url_t                             u;
    ngx_str_t                            *value, host;
    ngx_uint_t                            i, j;
    ngx_http_hotpath_nats_conf_t         *conf;
    ngx_http_hotpath_nats_server_conf_t  *server;

    static ngx_str_t  plain = ngx_string("nats://");
    static ngx_str_t  secure = ngx_string("tls://");

    conf = (ngx_http_hotpath_nats_conf_t *) ((char *) parent + cmd->offset);

    if (conf->servers) {
        return "is duplicate";
    }

    conf->servers = ngx_array_create(cf->pool, 4,
                                  sizeof(ngx_http_hotpath_nats_server_conf_t));
    if (conf->servers == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        ngx_memzero(&u, sizeof(ngx_url_t));
        u.url = value[i];
        u.default_port = 4222;

        if (u.url.len > plain.len
            && ngx_strncasecmp(u.url.data, plain.data, plain.len) == 0)
        {
            u.url.data += plain.len;
            u.url.len -= plain.len;

        } else if (u.url.len > secure.len
                   && ngx_strncasecmp(u.url.data, secure.data, secure.len)
                      == 0)
        {
            u.url.data += secure.len;
            u.url.len -= secure.len;

            /* one that must be encrypted makes all of them so: what may not
             * go to one in the clear may not go to its neighbour */
            conf->secure = 1;

        } else if (ngx_strlchr(u.url.data, u.url.data + u.url.len, '/')) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid NATS server \"%V\": only the schemes "
                               "\"nats://\" and \"tls://\" are supported",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        if (ngx_strlchr(u.url.data, u.url.data + u.url.len, '@')) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "credentials in NATS server \"%V\" belong in "
                               "\"hotpath_nats_user\" and "
                               "\"hotpath_nats_password\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "%s in NATS server \"%V\"",
                               u.err ? u.err : "invalid address", &value[i]);
            return NGX_CONF_ERROR;
        }

        if (u.host.len > 2 && u.host.data[0] == '[') {
            u.host.data++;
            u.host.len -= 2;
        }

        host.len = u.host.len;
        host.data = ngx_pnalloc(cf->pool, host.len + 1);
        if (host.data == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_cpystrn(host.data, u.host.data, host.len + 1);

        for (j = 0; j < u.naddrs; j++) {
            server = ngx_array_push(conf->servers);
            if (server == NULL) {
                return NGX_CONF_ERROR;
            }

            server->addr = u.addrs[j];
            server->host = host;
        }
    }

    return NGX_CONF_OK;
}


#if (NGX_SSL)

static char *
ngx_http_hotpath_nats_conf_tls(ngx_conf_t *cf,
    ngx_http_hotpath_nats_conf_t *conf)
{
    u_char              *name;
    ngx_ssl_t           *ssl;
    ngx_pool_cleanup_t  *cln;

    if (conf->tls == NGX_HTTP_HOTPATH_NATS_TLS_OFF) {
        return NGX_CONF_OK;
    }

    if (conf->tls_name.len) {
        name = ngx_pnalloc(cf->pool, conf->tls_name.len + 1);
        if (name == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_cpystrn(name, conf->tls_name.data, conf->tls_name.len + 1);
        conf->tls_name.data = name;
    }

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (ssl == NULL) {
        return NGX_CONF_ERROR;
    }

    ssl->log = cf->log;

    if (ngx_ssl_create(ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(ssl);
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

    if (conf->tls_certificate.len
        && ngx_ssl_certificate(cf, ssl, &conf->tls_certificate,
                               &conf->tls_certificate_key, NULL)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (conf->tls_trusted.len) {
        if (ngx_ssl_trusted_certificate(cf, ssl, &conf->tls_trusted, 9)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

    } else if (SSL_CTX_set_default_verify_paths(ssl->ctx) != 1) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "SSL_CTX_set_default_verify_paths() failed");
        return NGX_CONF_ERROR;
    }

    conf->ssl = ssl;

    return NGX_CONF_OK;
}

#else

static char *
ngx_http_hotpath_nats_conf_tls(ngx_conf_t *cf,
    ngx_http_hotpath_nats_conf_t *conf)
{
    if (conf->tls == NGX_HTTP_HOTPATH_NATS_TLS_OFF) {
        return NGX_CONF_OK;
    }

    return "TLS to NATS needs an nginx that was built with SSL";
}

#endif
