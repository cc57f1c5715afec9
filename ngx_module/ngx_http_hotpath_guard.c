/*
 * ngx_http_hotpath_guard.c: hotpath_idempotency in front of an upstream: what
 * happens before the upstream is asked.
 *
 * A handler of the precontent phase, so behind every check of access. The form
 * of the key is checked first, then the body is read, by nginx and for the
 * upstream too, because the fingerprint is of its bytes. Then the key is
 * claimed (ngx_http_hotpath_guard_claim.c): the request goes to the upstream,
 * or gets the answer that an earlier one got, or a refusal, or waits for the
 * one that is in flight. From the moment that the upstream is asked the
 * client's leaving is no reason to give up: the answer is for the next try.
 *
 * Owns a context per request, in the request's pool, which settles or frees
 * the claim whatever becomes of the request. Runs in the event loop of every
 * worker with no lock held. Never in here: a request passed on with a key that
 * is not claimed.
 *
 * Reference: README.md, "hotpath_idempotency"; tests:
 * tests/integration/test_guard.py, tests/faults/test_guard_faults.py.
 */


#include "ngx_http_hotpath_guarded.h"
#include "core/hp_header.h"
#include "core/hp_id.h"


static ngx_int_t ngx_http_hotpath_guard_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_guard_begin(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf);
static ngx_int_t ngx_http_hotpath_guard_key(ngx_http_request_t *r,
    ngx_str_t *key);
static void ngx_http_hotpath_guard_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_guard_print(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx);
static void ngx_http_hotpath_guard_look(ngx_http_hotpath_guarded_t *ctx);
static ngx_int_t ngx_http_hotpath_guard_pause(ngx_http_request_t *r);
static void ngx_http_hotpath_guard_woken(ngx_http_hotpath_wait_t *wait,
    ngx_uint_t over);
static ngx_int_t ngx_http_hotpath_guard_refuse(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx);
static ngx_int_t ngx_http_hotpath_guard_content(ngx_http_request_t *r);
static void ngx_http_hotpath_guard_cleanup(void *data);


ngx_int_t
ngx_http_hotpath_guard_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_hotpath_guard_handler;

    ngx_http_hotpath_guard_filters();

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_guard_handler(ngx_http_request_t *r)
{
    ngx_http_hotpath_loc_conf_t    *lcf;
    ngx_http_hotpath_guarded_t     *ctx;

    if (r != r->main) {
        return NGX_DECLINED;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    ctx = ngx_http_hotpath_guard_ctx(r);

    if (ctx == NULL) {
        return ngx_http_hotpath_guard_begin(r, lcf);
    }

    if (ctx->state == ngx_http_hotpath_guard_looking) {
        ngx_http_hotpath_guard_look(ctx);
    }

    switch (ctx->state) {

    case ngx_http_hotpath_guard_waiting:
    case ngx_http_hotpath_guard_asking:
        return ngx_http_hotpath_guard_pause(r);

    case ngx_http_hotpath_guard_refused:
        return ngx_http_hotpath_guard_refuse(r, ctx);

    case ngx_http_hotpath_guard_replaying:
        ctx->state = ngx_http_hotpath_guard_done;
        ngx_http_hotpath_count(GUARD_REPLAYED);

        ngx_http_finalize_request(r, ngx_http_hotpath_guard_replay(r, ctx));
        return NGX_DONE;

    case ngx_http_hotpath_guard_claimed:

        /* also where an internal redirect brought another handler */

        if (!ctx->asked && r->content_handler
            && r->content_handler != ngx_http_hotpath_guard_content)
        {
            ctx->content_handler = r->content_handler;
            r->content_handler = ngx_http_hotpath_guard_content;
        }

        return NGX_DECLINED;

    default:
        return NGX_DECLINED;
    }
}


static ngx_int_t
ngx_http_hotpath_guard_begin(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf)
{
    ngx_int_t                       rc;
    ngx_str_t                       key, tenant;
    hp_str_t                        parts[3];
    ngx_pool_cleanup_t             *cln;
    ngx_http_hotpath_guarded_t     *ctx;
    ngx_http_hotpath_main_conf_t   *mcf;
    ngx_http_hotpath_guard_conf_t  *conf;

    conf = &lcf->guard;

    if (conf->mode == NGX_HTTP_HOTPATH_GUARD_OFF
        || !(r->method & conf->methods)
        || r->content_handler == NULL)
    {
        return NGX_DECLINED;
    }

    rc = ngx_http_hotpath_guard_key(r, &key);

    if (rc == NGX_OK && key.len == 0
        && conf->mode == NGX_HTTP_HOTPATH_GUARD_OPTIONAL)
    {
        return NGX_DECLINED;
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_hotpath_guarded_t));
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_hotpath_guarded_t));

    ctx->request = r;
    ctx->conf = conf;
    ctx->wait_ms = lcf->key_wait;
    ctx->problem = NGX_HTTP_HOTPATH_PROBLEM_N;
    ctx->capture.max = conf->answer_max;
    cln->handler = ngx_http_hotpath_guard_cleanup;

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_DECLINED) {
        ctx->problem = NGX_HTTP_HOTPATH_PROBLEM_KEY_INVALID;
        return ngx_http_hotpath_guard_refuse(r, ctx);
    }

    if (key.len == 0) {
        ctx->problem = NGX_HTTP_HOTPATH_PROBLEM_KEY_REQUIRED;
        return ngx_http_hotpath_guard_refuse(r, ctx);
    }

    rc = ngx_http_hotpath_tenant(r, lcf, &tenant);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_DECLINED) {
        ctx->problem = NGX_HTTP_HOTPATH_PROBLEM_TENANT_INVALID;
        return ngx_http_hotpath_guard_refuse(r, ctx);
    }

    if (r->headers_in.content_length_n > (off_t) conf->body_max) {
        ctx->problem = NGX_HTTP_HOTPATH_PROBLEM_BODY_TOO_LARGE;
        return ngx_http_hotpath_guard_refuse(r, ctx);
    }

    parts[0].data = tenant.data;
    parts[0].len = tenant.len;
    parts[1].data = conf->route.data;
    parts[1].len = conf->route.len;
    parts[2].data = key.data;
    parts[2].len = key.len;

    hp_operation_id(ctx->id, parts[0], parts[1], parts[2]);

    if (conf->redis) {
        mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);
        ctx->redis = mcf->redis;
    }

    rc = ngx_http_read_client_request_body(r, ngx_http_hotpath_guard_body);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);
    return NGX_DONE;
}


/* NGX_OK with the key, which is empty where there is none; NGX_DECLINED: it is
 * none, or there are two. */

static ngx_int_t
ngx_http_hotpath_guard_key(ngx_http_request_t *r, ngx_str_t *key)
{
    int               n;
    u_char           *p;
    hp_str_t          value;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *found;

    static ngx_str_t  name = ngx_string("idempotency-key");

    found = NULL;
    ngx_str_null(key);

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len != name.len
                || ngx_memcmp(h[i].lowcase_key, name.data, name.len) != 0)
            {
                continue;
            }

            if (found) {
                return NGX_DECLINED;
            }

            found = &h[i];
        }
    }

    if (found == NULL) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, found->value.len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value.data = found->value.data;
    value.len = found->value.len;

    n = hp_key_parse(p, value);

    if (n <= 0) {
        return NGX_DECLINED;
    }

    key->data = p;
    key->len = n;

    return NGX_OK;
}


static void
ngx_http_hotpath_guard_body(ngx_http_request_t *r)
{
    ngx_http_hotpath_guarded_t  *ctx;

    ctx = ngx_http_hotpath_guard_ctx(r);
    ctx->state = ngx_http_hotpath_guard_looking;

    switch (ngx_http_hotpath_guard_print(r, ctx)) {

    case NGX_OK:
        break;

    case NGX_DECLINED:
        ctx->problem = NGX_HTTP_HOTPATH_PROBLEM_BODY_TOO_LARGE;
        ctx->state = ngx_http_hotpath_guard_refused;
        break;

    default:
        ctx->problem = NGX_HTTP_HOTPATH_PROBLEM_NO_MEMORY;
        ctx->state = ngx_http_hotpath_guard_refused;
        break;
    }

    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


/* The fingerprint of method, URI and body. */

static ngx_int_t
ngx_http_hotpath_guard_print(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx)
{
    off_t         size;
    u_char       *p;
    hp_str_t      target, body;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    size = 0;

    for (cl = r->request_body ? r->request_body->bufs : NULL;
         cl;
         cl = cl->next)
    {
        size += ngx_buf_size(cl->buf);
    }

    if (size > (off_t) ctx->conf->body_max) {
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(r->pool, r->method_name.len + 1 + r->unparsed_uri.len
                             + (size_t) size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    target.data = p;
    p = ngx_cpymem(p, r->method_name.data, r->method_name.len);
    *p++ = ' ';
    p = ngx_cpymem(p, r->unparsed_uri.data, r->unparsed_uri.len);
    target.len = p - target.data;

    body.data = p;
    body.len = (size_t) size;

    for (cl = r->request_body ? r->request_body->bufs : NULL;
         cl;
         cl = cl->next)
    {
        b = cl->buf;
        size = ngx_buf_size(b);

        if (ngx_buf_in_memory(b)) {
            p = ngx_cpymem(p, b->pos, (size_t) size);

        } else if (size) {
            /* longer than client_body_buffer_size, written just now */
            if (ngx_read_file(b->file, p, (size_t) size, b->file_pos)
                != (ssize_t) size)
            {
                return NGX_ERROR;
            }

            p += size;
        }
    }

    hp_fingerprint(ctx->fingerprint, target, body);

    (void) ngx_pfree(r->pool, (void *) target.data);

    return NGX_OK;
}


static void
ngx_http_hotpath_guard_look(ngx_http_hotpath_guarded_t *ctx)
{
    if (ctx->again.timer_set) {
        ngx_del_timer(&ctx->again);
    }

    ngx_http_hotpath_guard_claim(ctx);

    if (ctx->state == ngx_http_hotpath_guard_waiting && ctx->wait_ms
        && !ctx->over && !ctx->wait.inside)
    {
        ctx->wait.handler = ngx_http_hotpath_guard_woken;

        if (ngx_http_hotpath_wait_enter(&ctx->wait, ctx->id, ctx->wait_ms)
            == NGX_OK)
        {
            /* it may have ended before anybody waited for that */
            ngx_http_hotpath_guard_claim(ctx);
        }
    }

    if (ctx->state == ngx_http_hotpath_guard_waiting) {

        if (ctx->wait.inside) {
            /* nobody wakes for a worker that was killed */
            ngx_http_hotpath_guard_later(ctx, ctx->left_ms);
            return;
        }

        ctx->problem = NGX_HTTP_HOTPATH_PROBLEM_OPERATION_IN_FLIGHT;
        ctx->state = ngx_http_hotpath_guard_refused;
        return;
    }

    if (ctx->wait.inside) {
        ngx_http_hotpath_count(WAIT_DECIDED);
        ngx_http_hotpath_wait_leave(&ctx->wait);
    }
}


/* Until something calls go_on(), or the client leaves. */

static ngx_int_t
ngx_http_hotpath_guard_pause(ngx_http_request_t *r)
{
    if (r->connection->read->ready) {
        ngx_post_event(r->connection->read, &ngx_posted_events);

    } else if (ngx_handle_read_event(r->connection->read, 0) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_AGAIN;
}


static void
ngx_http_hotpath_guard_woken(ngx_http_hotpath_wait_t *wait, ngx_uint_t over)
{
    ngx_http_hotpath_guarded_t *ctx = (ngx_http_hotpath_guarded_t *) wait;

    ctx->over = over;

    if (ctx->state == ngx_http_hotpath_guard_waiting) {
        ctx->state = ngx_http_hotpath_guard_looking;
        ngx_http_hotpath_guard_go_on(ctx);
    }
}


void
ngx_http_hotpath_guard_go_on(ngx_http_hotpath_guarded_t *ctx)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_hotpath_guard_refuse(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx)
{
    u_char     buffer[sizeof(",\"answered\":") + NGX_INT_T_LEN];
    ngx_int_t  rc;
    ngx_str_t  members;

    ctx->state = ngx_http_hotpath_guard_done;

    switch (ctx->problem) {

    case NGX_HTTP_HOTPATH_PROBLEM_OPERATION_IN_FLIGHT:
        ngx_http_hotpath_count(GUARD_IN_FLIGHT);
        break;

    case NGX_HTTP_HOTPATH_PROBLEM_KEY_REUSED:
        ngx_http_hotpath_count(GUARD_REUSED);
        break;

    case NGX_HTTP_HOTPATH_PROBLEM_ANSWER_NOT_KEPT:
    case NGX_HTTP_HOTPATH_PROBLEM_ANSWER_UNKNOWN:
        ngx_http_hotpath_count(GUARD_NO_ANSWER);
        break;

    default:
        if (ngx_http_hotpath_problem_status(ctx->problem)
            == NGX_HTTP_SERVICE_UNAVAILABLE)
        {
            ngx_http_hotpath_count(GUARD_UNAVAILABLE);

        } else {
            ngx_http_hotpath_count(GUARD_REFUSED);
        }

        break;
    }

    if (r->request_body == NULL) {
        rc = ngx_http_hotpath_refuse(r, ctx->problem);

    } else {
        members.data = buffer;
        members.len = ctx->status
                      ? ngx_sprintf(buffer, ",\"answered\":%ui", ctx->status)
                        - buffer
                      : 0;

        rc = ngx_http_hotpath_problem_members(r, ctx->problem, &members);
    }

    ngx_http_finalize_request(r, rc);

    return NGX_DONE;
}


/* In place of the location's own content handler, which it calls. The body has
 * been read, so that makes the request to the upstream before it returns. */

static ngx_int_t
ngx_http_hotpath_guard_content(ngx_http_request_t *r)
{
    ngx_int_t                    rc;
    ngx_http_upstream_t         *u;
    ngx_http_hotpath_guarded_t  *ctx;

    ctx = ngx_http_hotpath_guard_ctx(r);

    ctx->asked = 1;
    ctx->http_version = r->http_version;
    r->content_handler = ctx->content_handler;

    ngx_http_hotpath_count(GUARD_PASSED);

    rc = ctx->content_handler(r);

    u = r->upstream;

    if (u && u->cleanup && ctx->state == ngx_http_hotpath_guard_claimed) {
        /* as with proxy_ignore_client_abort */
        r->read_event_handler = ngx_http_block_reading;
        r->write_event_handler = ngx_http_request_empty_handler;
    }

    return rc;
}


ngx_http_hotpath_guarded_t *
ngx_http_hotpath_guard_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t           *cln;
    ngx_http_hotpath_guarded_t   *ctx;
    ngx_http_hotpath_loc_conf_t  *lcf;

    if (r != r->main) {
        return NULL;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    if (lcf->guard.mode == NGX_HTTP_HOTPATH_GUARD_OFF && !r->internal) {
        return NULL;
    }

    /* no module context: that is the output cache's in the same location, and
     * a redirect clears it */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_hotpath_guard_cleanup) {
            ctx = cln->data;

            if (ctx->request == r) {
                return ctx;
            }
        }
    }

    return NULL;
}


/* However the request ends. */

static void
ngx_http_hotpath_guard_cleanup(void *data)
{
    ngx_http_hotpath_guarded_t *ctx = data;

    ngx_http_hotpath_wait_leave(&ctx->wait);

    switch (ctx->state) {

    case ngx_http_hotpath_guard_claimed:
    case ngx_http_hotpath_guard_capturing:
        ngx_http_hotpath_guard_lost(ctx);
        break;

    case ngx_http_hotpath_guard_asking:
        ngx_http_hotpath_guard_release(ctx);
        break;

    default:
        break;
    }

    ngx_http_hotpath_guard_detach(ctx);
}
