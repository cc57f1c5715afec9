/*
 * ngx_http_hotpath_purge_http.c: purges asked for over HTTP.
 *
 * A POST with a bearer token and a JSON body that says what (core/hp_purge.h).
 * The token is looked at before the body is read. What is kept of the tokens
 * that will do is their SHA-256, and all of these are compared whatever the
 * first ones gave, so that the time it takes tells nothing of any token. The
 * answer comes when the purge is over; a client that goes away does not end it.
 *
 * Owns the digests, in the configuration's pool, and the request's context.
 * Runs in the content phase and in the event loop, with no lock held. Never in
 * here: a purge for somebody without a token, a token in a log. Test:
 * tests/integration/test_purge.py.
 */


#include "ngx_http_hotpath_purge_http.h"
#include "ngx_http_hotpath_body.h"
#include "ngx_http_hotpath_fanout.h"
#include "ngx_http_hotpath_secret.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>


#define NGX_HTTP_HOTPATH_PURGE_BODY_MAX    131072

#define NGX_HTTP_HOTPATH_PURGE_TOKENS      64
#define NGX_HTTP_HOTPATH_PURGE_TOKEN_MIN   16
#define NGX_HTTP_HOTPATH_PURGE_TOKEN_MAX   1024


typedef struct {
    u_char                      bytes[SHA256_DIGEST_LENGTH];
} ngx_http_hotpath_digest_t;


typedef struct {
    ngx_http_request_t         *request;
    ngx_http_hotpath_fanout_t  *fanout;    /* NULL: it is over */
} ngx_http_hotpath_purge_ctx_t;


static const char *ngx_http_hotpath_purge_token(void *data,
    ngx_str_t *secret);
static ngx_uint_t ngx_http_hotpath_purge_allowed(ngx_http_request_t *r,
    ngx_array_t *tokens);
static ngx_int_t ngx_http_hotpath_purge_refuse(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_purge_body(ngx_http_request_t *r, void *data,
    ngx_pool_t *pool, hp_str_t *text);
static ngx_int_t ngx_http_hotpath_purge_problem(ngx_http_request_t *r,
    hp_purge_t *purge, hp_purge_status_t status);
static void ngx_http_hotpath_purge_left(void *data);
static void ngx_http_hotpath_purge_answer(void *data, ngx_str_t *answer,
    ngx_uint_t complete);


char *
ngx_http_hotpath_purge_set(ngx_conf_t *cf, ngx_http_hotpath_loc_conf_t *lcf)
{
    ngx_int_t   ms;
    ngx_str_t  *value, s;

    value = cf->args->elts;

    lcf->purge_timeout = 2000;

    if (cf->args->nelts == 2) {

        if (ngx_strncmp(value[1].data, "timeout=", 8) != 0) {
            goto invalid;
        }

        s.data = value[1].data + 8;
        s.len = value[1].len - 8;

        ms = ngx_parse_time(&s, 0);

        if (ms == NGX_ERROR || ms < 100 || ms > 60000) {
            goto invalid;
        }

        lcf->purge_timeout = ms;
    }

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       &value[1]);
    return NGX_CONF_ERROR;
}


char *
ngx_http_hotpath_purge_token_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_hotpath_loc_conf_t *lcf = conf;

    ngx_str_t  *value;

    if (lcf->purge_tokens != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    lcf->purge_tokens = ngx_array_create(cf->pool, 4,
                                         sizeof(ngx_http_hotpath_digest_t));
    if (lcf->purge_tokens == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    return ngx_http_hotpath_secret_file(cf, &value[1],
                                        NGX_HTTP_HOTPATH_PURGE_TOKENS,
                                        ngx_http_hotpath_purge_token,
                                        lcf->purge_tokens);
}


static const char *
ngx_http_hotpath_purge_token(void *data, ngx_str_t *secret)
{
    ngx_array_t *tokens = data;

    size_t                      i;
    ngx_http_hotpath_digest_t  *digest;

    if (secret->len < NGX_HTTP_HOTPATH_PURGE_TOKEN_MIN
        || secret->len > NGX_HTTP_HOTPATH_PURGE_TOKEN_MAX)
    {
        return "has less than 16 or more than 1024 bytes";
    }

    for (i = 0; i < secret->len; i++) {
        if (secret->data[i] <= ' ' || secret->data[i] >= 0x7f) {
            return "has a character that a token cannot have";
        }
    }

    digest = ngx_array_push(tokens);
    if (digest == NULL) {
        return "there is no memory for";
    }

    SHA256(secret->data, secret->len, digest->bytes);

    return NULL;
}


ngx_int_t
ngx_http_hotpath_purge_handler(ngx_http_request_t *r)
{
    ngx_http_hotpath_loc_conf_t   *lcf;
    ngx_http_hotpath_body_conf_t   body;
    ngx_http_hotpath_main_conf_t  *mcf;

    static ngx_str_t  allow = ngx_string("POST");

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    if (r->method != NGX_HTTP_POST) {
        return ngx_http_hotpath_refuse_method(r, &allow);
    }

    if (!ngx_http_hotpath_purge_allowed(r, lcf->purge_tokens)) {
        ngx_http_hotpath_count(PURGE_REFUSED);
        return ngx_http_hotpath_purge_refuse(r);
    }

    if (!ngx_http_hotpath_body_is_json(r)) {
        ngx_http_hotpath_count(PURGE_REFUSED);
        return ngx_http_hotpath_refuse(r,
                           NGX_HTTP_HOTPATH_PROBLEM_CONTENT_TYPE_UNSUPPORTED);
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);

    body.max = NGX_HTTP_HOTPATH_PURGE_BODY_MAX;
    body.list_max = NGX_HTTP_HOTPATH_PURGE_BODY_MAX;
    body.memory_max = mcf->body_memory;
    body.gzip = 0;
    body.refused = NGX_HTTP_HOTPATH_PURGE_REFUSED;
    body.full = NGX_HTTP_HOTPATH_PURGE_REFUSED;
    body.handler = ngx_http_hotpath_purge_body;
    body.data = NULL;

    return ngx_http_hotpath_body_read(r, &body);
}


static ngx_uint_t
ngx_http_hotpath_purge_allowed(ngx_http_request_t *r, ngx_array_t *tokens)
{
    size_t                      len;
    u_char                     *p, digest[SHA256_DIGEST_LENGTH];
    ngx_uint_t                  i, allowed;
    ngx_table_elt_t            *h;
    ngx_http_hotpath_digest_t  *digests;

    h = r->headers_in.authorization;

    if (h == NULL || h->value.len < sizeof("Bearer ") - 1
        || ngx_strncasecmp(h->value.data, (u_char *) "Bearer ",
                           sizeof("Bearer ") - 1)
           != 0)
    {
        return 0;
    }

    p = h->value.data + sizeof("Bearer ") - 1;
    len = h->value.len - (sizeof("Bearer ") - 1);

    while (len && *p == ' ') {
        p++;
        len--;
    }

    SHA256(p, len, digest);

    allowed = 0;
    digests = tokens->elts;

    for (i = 0; i < tokens->nelts; i++) {
        allowed |= (CRYPTO_memcmp(digests[i].bytes, digest, sizeof(digest))
                    == 0);
    }

    return allowed;
}


static ngx_int_t
ngx_http_hotpath_purge_refuse(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif
    ngx_str_set(&h->key, "WWW-Authenticate");

    if (r->headers_in.authorization) {
        ngx_str_set(&h->value,
                    "Bearer realm=\"hotpath\", error=\"invalid_token\"");
    } else {
        ngx_str_set(&h->value, "Bearer realm=\"hotpath\"");
    }

    r->headers_out.www_authenticate = h;

    return ngx_http_hotpath_refuse(r, NGX_HTTP_HOTPATH_PROBLEM_UNAUTHORIZED);
}


static ngx_int_t
ngx_http_hotpath_purge_body(ngx_http_request_t *r, void *data,
    ngx_pool_t *pool, hp_str_t *text)
{
    u_char                        *scratch;
    ngx_int_t                      rc;
    hp_purge_t                     purge;
    hp_purge_status_t              status;
    ngx_pool_cleanup_t            *cln;
    ngx_http_hotpath_loc_conf_t   *lcf;
    ngx_http_hotpath_main_conf_t  *mcf;
    ngx_http_hotpath_purge_ctx_t  *ctx;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);
    mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);

    scratch = ngx_pnalloc(r->pool, text->len + 1);
    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_hotpath_purge_ctx_t));

    if (scratch == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    status = hp_purge_read(&purge, *text, scratch);

    if (status != HP_PURGE_OK) {
        ngx_http_hotpath_count(PURGE_REFUSED);
        return ngx_http_hotpath_purge_problem(r, &purge, status);
    }

    ctx = cln->data;
    ctx->request = r;

    rc = ngx_http_hotpath_fanout_begin(mcf, *text, &purge, lcf->purge_timeout,
                                       ngx_http_hotpath_purge_answer, ctx,
                                       &ctx->fanout);

    if (rc != NGX_OK) {
        ngx_http_hotpath_count(PURGE_REFUSED);
        return ngx_http_hotpath_problem(r, rc == NGX_BUSY
                                     ? NGX_HTTP_HOTPATH_PROBLEM_PURGE_BUSY
                                     : NGX_HTTP_HOTPATH_PROBLEM_NO_MEMORY);
    }

    cln->handler = ngx_http_hotpath_purge_left;

    /* notices a client that goes away; nothing else is read meanwhile */
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_DONE;
}


static ngx_int_t
ngx_http_hotpath_purge_problem(ngx_http_request_t *r, hp_purge_t *purge,
    hp_purge_status_t status)
{
    switch (status) {

    case HP_PURGE_JSON:
        return ngx_http_hotpath_problem_at(r,
                              ngx_http_hotpath_body_problem(purge->json),
                              purge->error_offset, 0);

    case HP_PURGE_MODEL:
        return ngx_http_hotpath_problem(r,
                                NGX_HTTP_HOTPATH_PROBLEM_PURGE_MODEL_INVALID);

    case HP_PURGE_TENANT:
        return ngx_http_hotpath_problem(r,
                                     NGX_HTTP_HOTPATH_PROBLEM_TENANT_INVALID);

    case HP_PURGE_KEY:
        return ngx_http_hotpath_problem(r,
                                   NGX_HTTP_HOTPATH_PROBLEM_READ_KEY_INVALID);

    case HP_PURGE_MODE:
        return ngx_http_hotpath_problem(r,
                                 NGX_HTTP_HOTPATH_PROBLEM_PURGE_MODE_INVALID);

    default: /* HP_PURGE_TARGET */
        return ngx_http_hotpath_problem(r,
                               NGX_HTTP_HOTPATH_PROBLEM_PURGE_TARGET_INVALID);
    }
}


/* The request ends, answered or not. */

static void
ngx_http_hotpath_purge_left(void *data)
{
    ngx_http_hotpath_purge_ctx_t *ctx = data;

    if (ctx->fanout) {
        ngx_http_hotpath_fanout_leave(ctx->fanout);
    }
}


static void
ngx_http_hotpath_purge_answer(void *data, ngx_str_t *answer,
    ngx_uint_t complete)
{
    ngx_http_hotpath_purge_ctx_t *ctx = data;

    ngx_int_t            rc;
    ngx_str_t            body;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    static ngx_str_t  type = ngx_string("application/json");

    if (answer == NULL) {
        return;
    }

    ctx->fanout = NULL;

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    rc = NGX_ERROR;
    body.len = answer->len;
    body.data = ngx_pstrdup(r->pool, answer);

    if (body.data
        && ngx_http_hotpath_header_const(r, "Cache-Control", "no-store")
           == NGX_OK)
    {
        rc = ngx_http_hotpath_send(r, NGX_HTTP_OK, &type, &body);
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}
