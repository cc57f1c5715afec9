/*
 * tls.c: TLS to Redis, where this build's hiredis has it.
 *
 * One context for the process, made at the start from the settings, so that a
 * file that cannot be used ends it with a sentence; each lane's connection
 * makes its session from it, on the lane's thread. hiredis moves the bytes;
 * that the certificate is for the name that was meant is settled here, because
 * a context of hiredis' own does not look. HPW_REDIS_TLS comes from the
 * Makefile: Debian 12's hiredis has no TLS, and a setting that asks for it is
 * refused.
 *
 * Sessions belong to hiredis, the context to the process. A peer whose
 * certificate was not checked must never be spoken to. Settings:
 * workers/README.md; test: tests/integration/test_redis.py.
 */
#include "project.h"

#include <stdio.h>
#include <string.h>

#ifdef HPW_REDIS_TLS

#include <arpa/inet.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* An encrypted key is refused: OpenSSL itself would ask the terminal. */
static int hpw_tls_ask(char *buf, int size, int writing, void *data)
{
    (void)buf, (void)size, (void)writing, (void)data;
    return -1;
}

static int hpw_tls_files(SSL_CTX *context,
                         const hpw_project_settings_t *settings,
                         const char **file)
{
    *file = settings->redis_tls_ca;
    if (**file == 0) {
        *file = "the system's authorities";
        if (SSL_CTX_set_default_verify_paths(context) != 1)
            return -1;
    } else if (SSL_CTX_load_verify_locations(context, *file, NULL) != 1) {
        return -1;
    }
    if (*settings->redis_tls_cert == 0)
        return 0;
    *file = settings->redis_tls_cert;
    if (SSL_CTX_use_certificate_chain_file(context, *file) != 1)
        return -1;
    *file = settings->redis_tls_key;
    if (SSL_CTX_use_PrivateKey_file(context, *file, SSL_FILETYPE_PEM) != 1)
        return -1;
    return 0;
}

int hpw_tls_init(const hpw_project_settings_t *settings, void **tls,
                 char *error, size_t size)
{
    SSL_CTX *context;
    const char *file = "", *reason;

    *tls = NULL;
    if (settings->redis_tls == 0)
        return 0;
    if (settings->redis[0] == '/' ||
        (*settings->redis_tls_cert == 0) != (*settings->redis_tls_key == 0)) {
        snprintf(error, size, "%s",
                 settings->redis[0] == '/'
                     ? "redis_tls is not for a socket"
                     : "redis_tls_cert and redis_tls_key go together");
        return -1;
    }
    context = SSL_CTX_new(TLS_client_method());
    if (context != NULL) {
        SSL_CTX_set_default_passwd_cb(context, hpw_tls_ask);
        SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    }
    if (context == NULL || hpw_tls_files(context, settings, &file) != 0) {
        reason = ERR_reason_error_string(ERR_peek_error());
        snprintf(error, size, "TLS to Redis: %s (%s)", file,
                 reason ? reason : "no memory");
        SSL_CTX_free(context);
        return -1;
    }
    *tls = context;
    return 0;
}

int hpw_tls_begin(void *tls, const char *name, redisContext *redis)
{
    unsigned char binary[16];
    SSL *session;
    int named;

    ERR_clear_error();
    session = SSL_new(tls);
    if (session == NULL)
        return -1;
    if (inet_pton(AF_INET, name, binary) == 1 ||
        inet_pton(AF_INET6, name, binary) == 1)
        named = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), name);
    else
        named = SSL_set1_host(session, name) == 1 &&
                SSL_set_tlsext_host_name(session, name) == 1;
    if (named == 1 && redisInitiateSSL(redis, session) == REDIS_OK)
        return 0;
    SSL_free(session);
    return -1;
}

#else

int hpw_tls_init(const hpw_project_settings_t *settings, void **tls,
                 char *error, size_t size)
{
    *tls = NULL;
    if (settings->redis_tls == 0)
        return 0;
    snprintf(error, size,
             "redis_tls needs a hiredis with TLS (1.0 or later, "
             "with hiredis_ssl), which this build has not");
    return -1;
}

int hpw_tls_begin(void *tls, const char *name, redisContext *redis)
{
    (void)tls, (void)name, (void)redis;
    return -1;
}

#endif
