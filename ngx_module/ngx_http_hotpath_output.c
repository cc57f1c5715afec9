/*
 * ngx_http_hotpath_output.c: hotpath_cache in a location that something other
 * than Hotpath answers: what happens before the upstream is asked.
 *
 * A handler of the precontent phase, so behind every check of access. GET and
 * HEAD are answered from the zone where it can: fresh, or stale while a
 * subrequest in the background renews it. Else the request leads: it goes to
 * the upstream itself, without the client's own conditions and with those of
 * what the zone has, and others for the same key wait here; they look again
 * when it has ended (ngx_http_hotpath_collapse.c). Where waiting is known to
 * be of no use, or has taken too long, a request goes alone. What the upstream
 * answers is ngx_http_hotpath_relay.c's.
 *
 * Owns a context per request that the zone could not answer, in the request's
 * pool. Runs in the event loop of every worker with no lock held. Never in
 * here: a request with a body answered from the zone, or a hit for a request
 * that the configuration lets pass.
 *
 * Reference: README.md, "In front of any upstream"; tests:
 * tests/integration/test_output_cache.py, tests/faults/test_upstream.py.
 */


#include "ngx_http_hotpath_output.h"
#include "ngx_http_hotpath_relay.h"


static ngx_int_t ngx_http_hotpath_output_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_output_redirected(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_output_begin(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf);
static ngx_int_t ngx_http_hotpath_output_bypass(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf);
static ngx_int_t ngx_http_hotpath_output_look(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_variant_t *variant,
    ngx_http_hotpath_relay_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_output_missed(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_relay_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_output_pass(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, hp_fwd_t fwd);
static ngx_int_t ngx_http_hotpath_output_serve(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_copy_t *copy,
    ngx_http_hotpath_how_t *how);
static ngx_int_t ngx_http_hotpath_output_problem(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem);
static ngx_int_t ngx_http_hotpath_output_wait(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);
static void ngx_http_hotpath_output_woken(
    ngx_http_hotpath_collapse_waiter_t *waiter,
    ngx_http_hotpath_collapse_e why);


ngx_int_t
ngx_http_hotpath_output_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_hotpath_output_handler;

    ngx_http_hotpath_relay_init();

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_output_handler(ngx_http_request_t *r)
{
    ngx_http_hotpath_loc_conf_t   *lcf;
    ngx_http_hotpath_relay_ctx_t  *ctx;

    if (r != r->main) {
        return NGX_DECLINED;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    if (r->internal) {
        ctx = ngx_http_hotpath_relay_ctx(r);

        if (ctx && !ctx->waiting) {
            return ngx_http_hotpath_output_redirected(r, ctx);
        }

    } else {
        if (!lcf->output.enabled) {
            return NGX_DECLINED;
        }

        ctx = ngx_http_get_module_ctx(r, ngx_http_hotpath_module);
    }

    if (ctx) {
        ctx->waiting = 0;
        return ngx_http_hotpath_output_look(r, lcf, &ctx->variant, ctx);
    }

    if (!lcf->output.enabled || r->content_handler == NULL) {
        return NGX_DECLINED;
    }

    return ngx_http_hotpath_output_begin(r, lcf);
}


/*
 * The upstream's answer was to look elsewhere, or it had none and an error page
 * leads here. Nothing that comes from here on is an answer for the key.
 */

static ngx_int_t
ngx_http_hotpath_output_redirected(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    ngx_uint_t              failed;
    ngx_http_hotpath_how_t  how;

    ngx_http_hotpath_relay_restore(ctx);

    if (ctx->done || ctx->role < ngx_http_hotpath_relay_lone) {
        return NGX_DECLINED;
    }

    failed = ngx_http_hotpath_relay_failed(r);
    ctx->done = 1;

    if (!failed) {
        ngx_http_hotpath_relay_refused(ctx);
        return NGX_DECLINED;
    }

    ngx_http_hotpath_relay_end(ctx, ngx_http_hotpath_collapse_failed);

    if (!ngx_http_hotpath_relay_stale(ctx)) {
        return NGX_DECLINED;
    }

    ngx_http_hotpath_count(OUTPUT_STALE);

    ngx_memzero(&how, sizeof(ngx_http_hotpath_how_t));
    ngx_str_set(&how.detail, "stale-if-error");
    how.key = ctx->variant.key;

    r->err_status = 0;

    return ngx_http_hotpath_output_serve(r, ctx->lcf, &ctx->stale, &how);
}


static ngx_int_t
ngx_http_hotpath_output_begin(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf)
{
    ngx_http_hotpath_variant_t     variant;
    ngx_http_hotpath_relay_ctx_t  *ctx;

    if (r->method & (NGX_HTTP_OPTIONS|NGX_HTTP_TRACE|NGX_HTTP_PROPFIND)) {
        return ngx_http_hotpath_output_pass(r, lcf, HP_FWD_METHOD);
    }

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {

        switch (ngx_http_hotpath_output_bypass(r, lcf)) {

        case NGX_OK:
            break;

        case NGX_DECLINED:
            return ngx_http_hotpath_output_pass(r, lcf, HP_FWD_BYPASS);

        default:
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    switch (ngx_http_hotpath_variant_base(r, lcf, &variant.base)) {

    case NGX_OK:
        break;

    case NGX_DECLINED:
        return ngx_http_hotpath_output_pass(r, lcf, HP_FWD_BYPASS);

    case NGX_ABORT:
        return ngx_http_hotpath_output_problem(r,
                                     NGX_HTTP_HOTPATH_PROBLEM_TENANT_INVALID);

    default:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return ngx_http_hotpath_output_look(r, lcf, &variant, NULL);
    }

    ctx = ngx_http_hotpath_relay_create(r, lcf);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_hotpath_count(OUTPUT_PASSED);

    ctx->role = ngx_http_hotpath_relay_unsafe;
    ctx->variant.base = variant.base;
    ctx->variant.key = variant.base;
    ctx->fwd = HP_FWD_METHOD;

    return NGX_DECLINED;
}


/* NGX_DECLINED: the zone has nothing to do with this request. */

static ngx_int_t
ngx_http_hotpath_output_bypass(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf)
{
    /* a body is no part of the key; an upgrade is no answer; an error page
     * gets its status from elsewhere */

    if (r->headers_in.content_length_n > 0
        || r->headers_in.chunked
        || r->headers_in.upgrade
        || r->err_status)
    {
        return NGX_DECLINED;
    }

    return ngx_http_test_predicates(r, lcf->output.bypass);
}


/* ctx is NULL the first time. */

static ngx_int_t
ngx_http_hotpath_output_look(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_variant_t *variant,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    uint64_t                         now_ms;
    ngx_int_t                        rc;
    ngx_uint_t                       control;
    ngx_http_hotpath_how_t           how;
    ngx_http_hotpath_copy_t          copy;
    ngx_http_hotpath_cache_rules_t  *rules;

    rules = &lcf->output.rules;

    rc = ngx_http_hotpath_variant_find(r, lcf, variant, &copy);
    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    now_ms = ngx_http_hotpath_now_ms();

    control = rules->request_control
              ? ngx_http_hotpath_read_control(r, rules, rc == NGX_OK
                                              ? &copy.meta : NULL, now_ms)
              : 0;

    if (rc == NGX_OK && !(control & NGX_HTTP_HOTPATH_CONTROL_FETCH)) {

        ngx_memzero(&how, sizeof(ngx_http_hotpath_how_t));
        how.key = variant->key;

        if (copy.meta.trusted && copy.meta.fresh_ms > now_ms) {

            if (ctx && ctx->waited) {
                ngx_http_hotpath_count(OUTPUT_COLLAPSED);
                how.fwd = ctx->fwd;
                how.collapsed = 1;

            } else {
                ngx_http_hotpath_count(OUTPUT_HIT);
            }

            if (ngx_http_hotpath_read_refresh(rules, &copy.meta, now_ms)
                && ngx_http_hotpath_ask_renew(r, lcf, variant, &copy)
                   != NGX_OK)
            {
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
            }

            return ngx_http_hotpath_output_serve(r, lcf, &copy, &how);
        }

        /* what is fresh and not trusted may be used where stale may be */

        if (copy.meta.revalidate_ms > now_ms
            && (copy.meta.trusted
                || copy.meta.revalidate_ms > copy.meta.fresh_ms))
        {
            ngx_http_hotpath_count(OUTPUT_REVALIDATED);

            if (ngx_http_hotpath_ask_renew(r, lcf, variant, &copy) != NGX_OK) {
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
            }

            ngx_str_set(&how.detail, "stale-while-revalidate");
            return ngx_http_hotpath_output_serve(r, lcf, &copy, &how);
        }
    }

    if (control & NGX_HTTP_HOTPATH_CONTROL_CACHED) {
        ngx_http_hotpath_count(OUTPUT_PASSED);
        return ngx_http_hotpath_output_problem(r,
                                         NGX_HTTP_HOTPATH_PROBLEM_NOT_CACHED);
    }

    if (ctx == NULL) {
        ctx = ngx_http_hotpath_relay_create(r, lcf);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ctx->variant = *variant;
        ctx->why = ngx_http_hotpath_collapse_look;
    }

    ctx->has_stale = (rc == NGX_OK);
    ctx->stale = copy;

    ctx->fwd = (control & NGX_HTTP_HOTPATH_CONTROL_FETCH) ? HP_FWD_REQUEST
               : rc == NGX_OK ? HP_FWD_STALE
               : variant->stamp ? HP_FWD_VARY_MISS : HP_FWD_URI_MISS;

    if (control & NGX_HTTP_HOTPATH_CONTROL_FORGET) {
        ngx_http_hotpath_count(OUTPUT_PASSED);
        return NGX_DECLINED;
    }

    return ngx_http_hotpath_output_missed(r, lcf, ctx);
}


static ngx_int_t
ngx_http_hotpath_output_missed(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_relay_ctx_t *ctx)
{
    ngx_http_hotpath_how_t          how;
    ngx_http_hotpath_cache_meta_t  *meta;

    if ((ctx->why == ngx_http_hotpath_collapse_failed
         || ctx->why == ngx_http_hotpath_collapse_late)
        && ngx_http_hotpath_relay_stale(ctx))
    {
        ngx_http_hotpath_count(OUTPUT_STALE);

        ngx_memzero(&how, sizeof(ngx_http_hotpath_how_t));
        ngx_str_set(&how.detail, "stale-if-error");
        how.key = ctx->variant.key;

        return ngx_http_hotpath_output_serve(r, lcf, &ctx->stale, &how);
    }

    /* a part of an answer, or one that is wanted only if it is a certain one,
     * is for the upstream to give */

    if (r->headers_in.range || r->headers_in.if_match
        || r->headers_in.if_unmodified_since)
    {
        ngx_http_hotpath_count(OUTPUT_PASSED);
        return NGX_DECLINED;
    }

    meta = &ctx->stale.meta;

    if (ctx->variant.marked || ctx->why == ngx_http_hotpath_collapse_pass) {

        /* nothing will be stored, most likely: no reason to ask for more than
         * the client does */

        if (r->method == NGX_HTTP_HEAD || r->headers_in.if_none_match
            || r->headers_in.if_modified_since)
        {
            ngx_http_hotpath_count(OUTPUT_PASSED);
            return NGX_DECLINED;
        }

        return ngx_http_hotpath_ask(r, ctx, ngx_http_hotpath_relay_lone);
    }

    /* each has to ask for itself: by its own wish, or because this answer may
     * not be used without asking, or because it waited long enough */

    if (ctx->fwd == HP_FWD_REQUEST
        || (ctx->has_stale && meta->trusted
            && meta->revalidate_ms <= meta->stored_ms)
        || ctx->why == ngx_http_hotpath_collapse_late
        || lcf->output.lock_timeout == 0)
    {
        return ngx_http_hotpath_ask(r, ctx, ngx_http_hotpath_relay_lone);
    }

    ctx->waiter.handler = ngx_http_hotpath_output_woken;

    switch (ngx_http_hotpath_collapse_enter(&ctx->variant.key,
                                            lcf->output.lock_timeout,
                                            &ctx->waiter, &ctx->lead))
    {
    case NGX_OK:

        if (ngx_http_hotpath_variant_changed(r, ctx->cache, &ctx->variant)) {
            /* somebody ended between our look and this */
            ngx_http_hotpath_relay_end(ctx, ngx_http_hotpath_collapse_look);
            return ngx_http_hotpath_output_look(r, lcf, &ctx->variant, ctx);
        }

        return ngx_http_hotpath_ask(r, ctx, ngx_http_hotpath_relay_lead);

    case NGX_AGAIN:
        return ngx_http_hotpath_output_wait(r, ctx);

    default: /* NGX_DECLINED */
        return ngx_http_hotpath_ask(r, ctx, ngx_http_hotpath_relay_lone);
    }
}


static ngx_int_t
ngx_http_hotpath_output_pass(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, hp_fwd_t fwd)
{
    ngx_http_hotpath_relay_ctx_t  *ctx;

    ngx_http_hotpath_count(OUTPUT_PASSED);

    ctx = ngx_http_hotpath_relay_create(r, lcf);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->role = ngx_http_hotpath_relay_pass;
    ctx->fwd = fwd;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_hotpath_output_serve(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_copy_t *copy,
    ngx_http_hotpath_how_t *how)
{
    ngx_int_t                      rc;
    ngx_http_hotpath_relay_ctx_t  *ctx;

    ctx = ngx_http_hotpath_relay_ctx(r);

    if (ctx) {
        ctx->done = 1;
    }

    rc = ngx_http_hotpath_serve(r, &lcf->output.rules, copy, how);

    ngx_http_finalize_request(r, rc);

    return NGX_DONE;
}


static ngx_int_t
ngx_http_hotpath_output_problem(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem)
{
    ngx_int_t                      rc;
    ngx_http_hotpath_relay_ctx_t  *ctx;

    ctx = ngx_http_hotpath_relay_ctx(r);

    if (ctx) {
        ctx->done = 1;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc == NGX_OK) {
        rc = ngx_http_hotpath_problem(r, problem);
    }

    ngx_http_finalize_request(r, rc);

    return NGX_DONE;
}


static ngx_int_t
ngx_http_hotpath_output_wait(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    if (ctx->has_stale) {

        /* it is looked up anew: a thousand who wait need no thousand copies */

        (void) ngx_pfree(r->pool, ctx->stale.head.data);
        ctx->has_stale = 0;
    }

    if (r->connection->read->ready) {
        ngx_post_event(r->connection->read, &ngx_posted_events);

    } else if (ngx_handle_read_event(r->connection->read, 0) != NGX_OK) {
        ngx_http_hotpath_collapse_leave(&ctx->waiter);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->waiting = 1;
    ctx->waited = 1;

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_AGAIN;
}


static void
ngx_http_hotpath_output_woken(ngx_http_hotpath_collapse_waiter_t *waiter,
    ngx_http_hotpath_collapse_e why)
{
    ngx_connection_t              *c;
    ngx_http_request_t            *r;
    ngx_http_hotpath_relay_ctx_t  *ctx;

    ctx = (ngx_http_hotpath_relay_ctx_t *) waiter;
    ctx->why = why;

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(c);
}
