/*
 * ngx_http_hotpath_nats_auth.c: who we are, to a NATS server.
 *
 * User and password, or a token, or an nkey, or a user's JWT with its key. The
 * last two come from files that the master reads; the key becomes OpenSSL's,
 * which the configuration's pool frees, and the buffers it came from are wiped.
 * A server that knows keys sends a nonce, which is signed (Ed25519, tens of
 * microseconds) in the event loop of a worker. Never in here: a secret in a log
 * line, nor one sent: what is written here leaves through nats_link, which asks
 * for it only when the server is known. Formats: core/hp_nkey.h. Tests:
 * tests/integration/test_nats.py.
 */


#include "ngx_http_hotpath_nats_auth.h"
#include "core/hp_json.h"
#include "core/hp_nkey.h"

#include <openssl/evp.h>


#define NGX_HTTP_HOTPATH_NATS_AUTH_FILE  65536


static ngx_int_t ngx_http_hotpath_nats_auth_read(ngx_conf_t *cf,
    ngx_str_t *name, u_char *buf, size_t *len);
static ngx_int_t ngx_http_hotpath_nats_auth_key(ngx_conf_t *cf,
    ngx_http_hotpath_nats_conf_t *conf, hp_str_t seed);
static void ngx_http_hotpath_nats_auth_cleanup(void *data);
static u_char *ngx_http_hotpath_nats_auth_text(u_char *p, const char *name,
    ngx_str_t *text);
static u_char *ngx_http_hotpath_nats_auth_sign(EVP_PKEY *key, u_char *p,
    hp_str_t nonce);


ngx_int_t
ngx_http_hotpath_nats_auth_init(ngx_conf_t *cf,
    ngx_http_hotpath_nats_conf_t *conf)
{
    u_char     *buf;
    size_t      len;
    hp_str_t    text, jwt, seed;
    ngx_int_t   rc;
    ngx_str_t  *name;

    name = conf->credentials.len ? &conf->credentials : &conf->nkey;

    if (name->len == 0) {
        return NGX_OK;
    }

    buf = ngx_alloc(NGX_HTTP_HOTPATH_NATS_AUTH_FILE, cf->log);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_hotpath_nats_auth_read(cf, name, buf, &len);
    if (rc != NGX_OK) {
        goto done;
    }

    rc = NGX_ERROR;
    text.data = buf;
    text.len = len;
    seed = text;

    if (conf->credentials.len) {

        if (hp_nkey_credentials(text, &jwt, &seed) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" holds no NATS credentials", name);
            goto done;
        }

        conf->jwt.len = jwt.len;
        conf->jwt.data = ngx_pnalloc(cf->pool, jwt.len);
        if (conf->jwt.data == NULL) {
            goto done;
        }

        ngx_memcpy(conf->jwt.data, jwt.data, jwt.len);
    }

    rc = ngx_http_hotpath_nats_auth_key(cf, conf, seed);

    if (rc == NGX_DECLINED) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" holds no seed of a NATS user", name);
        rc = NGX_ERROR;
    }

done:

    ngx_explicit_memzero(buf, NGX_HTTP_HOTPATH_NATS_AUTH_FILE);
    ngx_free(buf);

    return rc;
}


static ngx_int_t
ngx_http_hotpath_nats_auth_read(ngx_conf_t *cf, ngx_str_t *name, u_char *buf,
    size_t *len)
{
    ssize_t   n;
    ngx_fd_t  fd;

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);
    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    *len = 0;

    do {
        n = ngx_read_fd(fd, buf + *len,
                        NGX_HTTP_HOTPATH_NATS_AUTH_FILE - *len);
        if (n > 0) {
            *len += n;
        }

    } while (n > 0 && *len < NGX_HTTP_HOTPATH_NATS_AUTH_FILE);

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_read_fd_n " \"%V\" failed", name);
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", name);
    }

    if (n == -1) {
        return NGX_ERROR;
    }

    if (*len == NGX_HTTP_HOTPATH_NATS_AUTH_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is larger than a key can be", name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* NGX_DECLINED: the seed is none. */

static ngx_int_t
ngx_http_hotpath_nats_auth_key(ngx_conf_t *cf,
    ngx_http_hotpath_nats_conf_t *conf, hp_str_t seed)
{
    size_t               len;
    u_char               raw[HP_NKEY_RAW];
    EVP_PKEY            *key;
    ngx_pool_cleanup_t  *cln;

    if (hp_nkey_seed(raw, seed) != 0) {
        return NGX_DECLINED;
    }

    key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, raw,
                                       sizeof(raw));
    ngx_explicit_memzero(raw, sizeof(raw));

    if (key == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "this OpenSSL has no Ed25519");
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        EVP_PKEY_free(key);
        return NGX_ERROR;
    }

    cln->handler = ngx_http_hotpath_nats_auth_cleanup;
    cln->data = key;

    len = sizeof(raw);

    if (EVP_PKEY_get_raw_public_key(key, raw, &len) != 1
        || len != sizeof(raw))
    {
        return NGX_ERROR;
    }

    conf->public_key.len = HP_NKEY_PUBLIC_TEXT;
    conf->public_key.data = ngx_pnalloc(cf->pool, HP_NKEY_PUBLIC_TEXT);
    if (conf->public_key.data == NULL) {
        return NGX_ERROR;
    }

    hp_nkey_public(conf->public_key.data, raw);

    conf->key = key;

    return NGX_OK;
}


static void
ngx_http_hotpath_nats_auth_cleanup(void *data)
{
    EVP_PKEY_free(data);
}


size_t
ngx_http_hotpath_nats_auth_size(ngx_http_hotpath_nats_conf_t *conf)
{
    return 512 + 6 * (conf->user.len + conf->password.len + conf->token.len)
           + conf->jwt.len + HP_NKEY_PUBLIC_TEXT + HP_NKEY_SIGNATURE_TEXT;
}


u_char *
ngx_http_hotpath_nats_auth_connect(ngx_http_hotpath_nats_conf_t *conf,
    u_char *p, hp_str_t nonce, ngx_uint_t secure)
{
    p = ngx_sprintf(p, "CONNECT {\"verbose\":false,\"pedantic\":false,"
                    "\"tls_required\":%s,\"name\":\"hotpath-nginx-%P\","
                    "\"lang\":\"c\",\"version\":\"1\",\"protocol\":1,"
                    "\"echo\":false,\"headers\":true,\"no_responders\":true",
                    secure ? "true" : "false", ngx_pid);

    if (conf->token.len) {
        p = ngx_http_hotpath_nats_auth_text(p, "auth_token", &conf->token);

    } else if (conf->user.len) {
        p = ngx_http_hotpath_nats_auth_text(p, "user", &conf->user);
        p = ngx_http_hotpath_nats_auth_text(p, "pass", &conf->password);

    } else if (conf->key && nonce.len) {
        /* without a nonce the server knows no keys, and asks for none */

        if (conf->jwt.len) {
            p = ngx_sprintf(p, ",\"jwt\":\"%V\"", &conf->jwt);

        } else {
            p = ngx_sprintf(p, ",\"nkey\":\"%V\"", &conf->public_key);
        }

        p = ngx_http_hotpath_nats_auth_sign(conf->key, p, nonce);
        if (p == NULL) {
            return NULL;
        }
    }

    return ngx_cpymem(p, "}" CRLF, sizeof("}" CRLF) - 1);
}


static u_char *
ngx_http_hotpath_nats_auth_text(u_char *p, const char *name, ngx_str_t *text)
{
    hp_str_t  raw;

    raw.data = text->data;
    raw.len = text->len;

    p = ngx_sprintf(p, ",\"%s\":\"", name);
    p += hp_json_escape(p, 6 * raw.len, raw);
    *p++ = '"';

    return p;
}


static u_char *
ngx_http_hotpath_nats_auth_sign(EVP_PKEY *key, u_char *p, hp_str_t nonce)
{
    int          ok;
    size_t       len;
    u_char       raw[HP_NKEY_SIGNATURE];
    EVP_MD_CTX  *ctx;

    ctx = EVP_MD_CTX_new();
    if (ctx == NULL) {
        return NULL;
    }

    len = sizeof(raw);
    ok = EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1
         && EVP_DigestSign(ctx, raw, &len, nonce.data, nonce.len) == 1
         && len == sizeof(raw);

    EVP_MD_CTX_free(ctx);

    if (!ok) {
        return NULL;
    }

    p = ngx_sprintf(p, ",\"sig\":\"");
    hp_nkey_signature(p, raw);
    p += HP_NKEY_SIGNATURE_TEXT;
    *p++ = '"';

    return p;
}
