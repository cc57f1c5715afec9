/*
 * ngx_http_hotpath_ask.c: an upstream is asked for what a zone is to have.
 *
 * The location's own content handler does it, such as that of proxy_pass. It
 * is called from one of ours, for what must be different meanwhile: without
 * the client's conditions and ranges, with the conditions of what the zone has,
 * with GET for HEAD. So the upstream is asked for the whole answer or for
 * nothing new, and nginx and the zone make of it what the client asked for.
 *
 * Here too begins what nobody waits for, the renewal of an entry in the
 * background, by a copy of the client's request as nginx's own cache makes it;
 * and here is the life of the context that goes with a request until its answer
 * is there: it is in the request's pool, and whatever becomes of the request,
 * the pool ends it, and so ends what others wait for.
 *
 * Runs in the event loop of every worker with no lock held. Never in here: the
 * zone's own conditions in anybody's request but that to the upstream.
 *
 * Tests: tests/integration/test_output_cache.py, test_output_collapse.py,
 * tests/faults/test_upstream.py.
 */


#include "ngx_http_hotpath_relay.h"


static ngx_int_t ngx_http_hotpath_ask_keep(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_ask_renewed(ngx_http_request_t *r,
    void *data, ngx_int_t rc);
static ngx_int_t ngx_http_hotpath_ask_content(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_ask_headers(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_ask_condition(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value);
static void ngx_http_hotpath_ask_cleanup(void *data);


/* Conditions and ranges are the client's business with the zone. */
static ngx_str_t  ngx_http_hotpath_ask_conditions[] = {
    ngx_string("If-Match"),
    ngx_string("If-Modified-Since"),
    ngx_string("If-None-Match"),
    ngx_string("If-Range"),
    ngx_string("If-Unmodified-Since"),
    ngx_string("Range"),
    ngx_null_string
};


ngx_int_t
ngx_http_hotpath_ask(ngx_http_request_t *r, ngx_http_hotpath_relay_ctx_t *ctx,
    ngx_http_hotpath_relay_e role)
{
    uint64_t  now_us;

    ctx->role = role;

    if (role != ngx_http_hotpath_relay_renew) {
        ngx_http_hotpath_count(OUTPUT_MISS);
    }

    if (ngx_http_hotpath_ask_keep(r, ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* whoever asked later has the newer answer, also where the clock was set
     * back since the last one */

    now_us = (uint64_t) ngx_http_hotpath_wall_us();

    ctx->version = ngx_max(now_us, ctx->variant.version + 1);
    ctx->begun = ngx_http_hotpath_cache_begun(ctx->cache);
    ctx->asked_ms = ngx_http_hotpath_now_ms();

    ctx->content_handler = r->content_handler;
    r->content_handler = ngx_http_hotpath_ask_content;

    return NGX_DECLINED;
}


/* What the zone has is kept as the upstream sent it, for a 304. */

static ngx_int_t
ngx_http_hotpath_ask_keep(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    ngx_int_t                 rc;
    ngx_http_hotpath_copy_t   copy;

    if (!ctx->has_stale || ctx->stale.coding == HP_CODING_IDENTITY) {
        return NGX_OK;
    }

    rc = ngx_http_hotpath_cache_get(ctx->cache, &ctx->variant.key,
                                    HP_CODING_IDENTITY, r->pool, NULL, &copy);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    ctx->has_stale = (rc == NGX_OK
                      && copy.meta.version == ctx->stale.meta.version);
    copy.meta.trusted = ctx->stale.meta.trusted;
    ctx->stale = copy;

    return NGX_OK;
}


/*
 * The subrequest holds the client's connection until it has ended, which would
 * delay the next request on it for as long as the upstream takes: the client
 * is told to make another one.
 */

ngx_int_t
ngx_http_hotpath_ask_renew(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_variant_t *variant,
    ngx_http_hotpath_copy_t *copy)
{
    ngx_http_request_t            *sr;
    ngx_http_hotpath_collapse_t   *lead;
    ngx_http_post_subrequest_t    *ps;
    ngx_http_hotpath_relay_ctx_t  *ctx;

    if (ngx_http_hotpath_collapse_enter(&variant->key,
                                        ngx_max(lcf->output.lock_timeout, 1),
                                        NULL, &lead)
        != NGX_OK)
    {
        return NGX_OK;
    }

    if (ngx_http_hotpath_variant_changed(r, lcf->output.rules.cache, variant))
    {
        /* somebody ended between our look and this */
        ngx_http_hotpath_collapse_end(lead, ngx_http_hotpath_collapse_look);
        return NGX_OK;
    }

    ctx = NULL;

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));

    if (ps) {
        ctx = ngx_http_hotpath_relay_create(r, lcf);
    }

    if (ctx == NULL) {
        ngx_http_hotpath_collapse_end(lead, ngx_http_hotpath_collapse_failed);
        return NGX_ERROR;
    }

    ctx->lead = lead;
    ctx->variant = *variant;
    ctx->stale = *copy;
    ctx->has_stale = 1;

    ps->handler = ngx_http_hotpath_ask_renewed;
    ps->data = ctx;

    if (ngx_http_subrequest(r, &r->uri, &r->args, &sr, ps,
                            NGX_HTTP_SUBREQUEST_CLONE
                            |NGX_HTTP_SUBREQUEST_BACKGROUND)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_hotpath_count(OUTPUT_RENEWALS);

    ngx_http_set_ctx(r, NULL, ngx_http_hotpath_module);
    ngx_http_set_ctx(sr, ctx, ngx_http_hotpath_module);

    ctx->request = sr;

    if (r->http_version < NGX_HTTP_VERSION_20) {
        r->keepalive = 0;
    }

    return ngx_http_hotpath_ask(sr, ctx, ngx_http_hotpath_relay_renew)
           == NGX_DECLINED ? NGX_OK : NGX_ERROR;
}


/* However it ended, the client's request goes on, and no error page takes the
 * place of an answer. */

static ngx_int_t
ngx_http_hotpath_ask_renewed(ngx_http_request_t *r, void *data,
    ngx_int_t rc)
{
    ngx_http_hotpath_relay_ctx_t *ctx = data;

    ngx_http_hotpath_relay_end(ctx, ngx_http_hotpath_collapse_failed);
    ctx->done = 1;

    return NGX_OK;
}


/*
 * In place of the location's own content handler, which it calls. Without a
 * body to be read, that makes the request to the upstream before it returns;
 * so the client's headers have to be others only during the call.
 */

static ngx_int_t
ngx_http_hotpath_ask_content(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_http_upstream_t           *u;
    ngx_http_hotpath_relay_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_hotpath_module);

    r->content_handler = ctx->content_handler;

    if (ngx_http_hotpath_ask_headers(r, ctx) != NGX_OK) {
        ngx_http_hotpath_relay_restore(ctx);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* the whole answer is wanted, and nginx sends the part of it that HEAD
     * does */

    ctx->method = r->method;
    ctx->method_name = r->method_name;
    ctx->http_version = r->http_version;
    ctx->main_method_name = r->main->method_name;

    r->method = NGX_HTTP_GET;
    r->method_name = ngx_http_core_get_method;
    r->main->method_name = ngx_http_core_get_method;

    rc = ctx->content_handler(r);

    ngx_http_hotpath_relay_restore(ctx);

    u = r->upstream;

    if (u == NULL || u->cleanup == NULL || ctx->done) {
        return rc;
    }

    if (u->request_bufs) {
        ctx->bare = 1;

    } else {
        /* not made yet: what the client asked for is what will be sent */
        ctx->validating = 0;
    }

    if (ctx->role == ngx_http_hotpath_relay_lead) {
        /* others wait: the client's leaving is no reason to give up */
        ctx->read_handler = r->read_event_handler;
        r->read_event_handler = ngx_http_block_reading;
        r->write_event_handler = ngx_http_request_empty_handler;
    }

    return rc;
}


static ngx_int_t
ngx_http_hotpath_ask_headers(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    ngx_str_t                *name;
    ngx_uint_t                i;
    ngx_list_t               *list;
    ngx_list_part_t          *part;
    ngx_table_elt_t          *h, *new;
    ngx_http_hotpath_head_t   head;

    static ngx_str_t  none_match = ngx_string("If-None-Match");
    static ngx_str_t  modified_since = ngx_string("If-Modified-Since");

    list = &r->headers_in.headers;

    ctx->headers = *list;
    ctx->swapped = 1;

    part = &ctx->headers.part;

    if (ngx_list_init(list, r->pool, part->nelts + 2, sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        for (name = ngx_http_hotpath_ask_conditions; name->len; name++) {
            if (h[i].key.len == name->len
                && ngx_strncasecmp(h[i].key.data, name->data, name->len) == 0)
            {
                break;
            }
        }

        if (name->len) {
            continue;
        }

        new = ngx_list_push(list);
        if (new == NULL) {
            return NGX_ERROR;
        }

        *new = h[i];
    }

    if (!ctx->has_stale
        || ngx_http_hotpath_head_read(&head, &ctx->stale.head) != NGX_OK)
    {
        return NGX_OK;
    }

    if (head.etag.len) {
        if (ngx_http_hotpath_ask_condition(r, &none_match, &head.etag)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        ctx->validating = 1;
    }

    if (head.last_modified.len) {
        if (ngx_http_hotpath_ask_condition(r, &modified_since,
                                              &head.last_modified)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        ctx->validating = 1;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_ask_condition(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_in.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->key = *name;
    h->value = *value;

    h->lowcase_key = ngx_pnalloc(r->pool, name->len);
    if (h->lowcase_key == NULL) {
        return NGX_ERROR;
    }

    h->hash = ngx_hash_strlow(h->lowcase_key, name->data, name->len);
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    return NGX_OK;
}


ngx_http_hotpath_relay_ctx_t *
ngx_http_hotpath_relay_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t            *cln;
    ngx_http_hotpath_loc_conf_t   *lcf;
    ngx_http_hotpath_relay_ctx_t  *ctx;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    /* elsewhere the module's context is that of a room of ours */

    if (lcf->output.enabled) {
        ctx = ngx_http_get_module_ctx(r, ngx_http_hotpath_module);

        if (ctx) {
            return ctx;
        }
    }

    if (!r->internal || r != r->main) {
        return NULL;
    }

    /* a redirect has cleared it */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_hotpath_ask_cleanup) {
            ctx = cln->data;

            if (ctx->request == r) {
                return ctx;
            }
        }
    }

    return NULL;
}


ngx_http_hotpath_relay_ctx_t *
ngx_http_hotpath_relay_create(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf)
{
    ngx_pool_cleanup_t            *cln;
    ngx_http_hotpath_relay_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_hotpath_relay_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_hotpath_relay_ctx_t));

    ctx->request = r;
    ctx->lcf = lcf;
    ctx->cache = lcf->output.rules.cache;
    cln->handler = ngx_http_hotpath_ask_cleanup;

    ngx_http_set_ctx(r, ctx, ngx_http_hotpath_module);

    return ctx;
}


static void
ngx_http_hotpath_ask_cleanup(void *data)
{
    ngx_http_hotpath_relay_ctx_t *ctx = data;

    ngx_http_hotpath_collapse_leave(&ctx->waiter);
    ngx_http_hotpath_relay_end(ctx, ngx_http_hotpath_collapse_failed);
}


void
ngx_http_hotpath_relay_end(ngx_http_hotpath_relay_ctx_t *ctx,
    ngx_http_hotpath_collapse_e why)
{
    if (ctx->lead) {
        ngx_http_hotpath_collapse_end(ctx->lead, why);
        ctx->lead = NULL;
    }
}


void
ngx_http_hotpath_relay_restore(ngx_http_hotpath_relay_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    if (!ctx->swapped) {
        return;
    }

    ctx->swapped = 0;

    r = ctx->request;
    r->headers_in.headers = ctx->headers;

    if (ctx->method) {
        r->method = ctx->method;
        r->main->method_name = ctx->main_method_name;
        r->method_name = ctx->method_name;
    }
}
