/*
 * ngx_http_hotpath_relay.c: hotpath_cache in a location that something other
 * than Hotpath answers: what happens when the upstream has answered.
 *
 * The first header filter and the first body filter of all, so that they see
 * what the upstream sent before anything changes it, and what is stored goes
 * through the other filters again each time. The header decides: an answer
 * that may be stored is copied while it goes to the client, one that may not
 * lets those go who wait for it, a 304 to our own condition and an error that
 * stale may stand in for are replaced by what the zone has. What was copied is
 * put into the zone when it is whole, before its last byte goes on.
 *
 * A filter cannot stop an upstream. It can answer by itself, hide what comes
 * after, and give NGX_HTTP_OK, upon which nginx's upstream ends the request as
 * one that is done. And where nginx has nothing more to tell the client (HEAD,
 * 304, a client that has left) while others wait, the rest is read and hidden.
 *
 * The copy of the body is in the request's pool. Runs in the event loop of
 * every worker with no lock held. Never in here: a part of an answer in the
 * zone, or one byte of a subrequest in the background to a client.
 *
 * Reference: README.md, "In front of any upstream"; tests:
 * tests/integration/test_output_cache.py, tests/faults/test_upstream.py.
 */


#include "ngx_http_hotpath_relay.h"


/* How long a URL is known to have nothing to store. */
#define NGX_HTTP_HOTPATH_RELAY_MARK_MS  10000


static ngx_int_t ngx_http_hotpath_relay_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_relay_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_hotpath_relay_decide(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_relay_validated(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_relay_refresh(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx,
    ngx_http_hotpath_storable_t *storable);
static ngx_int_t ngx_http_hotpath_relay_coded(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx,
    ngx_uint_t coding, ngx_str_t *body);
static ngx_int_t ngx_http_hotpath_relay_answer(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx,
    ngx_http_hotpath_how_t *how);
static ngx_int_t ngx_http_hotpath_relay_begin(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);
static void ngx_http_hotpath_relay_invalidate(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_relay_status(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_relay_send(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_relay_capture(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx, ngx_chain_t *in);
static void ngx_http_hotpath_relay_give_up(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);
static void ngx_http_hotpath_relay_store(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


void
ngx_http_hotpath_relay_init(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_hotpath_relay_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_hotpath_relay_body_filter;
}


static ngx_int_t
ngx_http_hotpath_relay_header_filter(ngx_http_request_t *r)
{
    ngx_http_hotpath_relay_ctx_t  *ctx;

    ctx = ngx_http_hotpath_relay_ctx(r);

    if (ctx == NULL || ctx->done || ctx->answering) {
        return ngx_http_next_header_filter(r);
    }

    if (ctx->role >= ngx_http_hotpath_relay_lone) {
        return ngx_http_hotpath_relay_decide(r, ctx);
    }

    ctx->done = 1;

    if (ctx->role == ngx_http_hotpath_relay_unsafe
        && r->headers_out.status >= NGX_HTTP_OK
        && r->headers_out.status < NGX_HTTP_BAD_REQUEST)
    {
        ngx_http_hotpath_relay_invalidate(r, ctx);
    }

    if (ngx_http_hotpath_relay_status(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


ngx_uint_t
ngx_http_hotpath_relay_own(ngx_http_request_t *r)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u == NULL || u->header_sent || r->err_status
        || u->headers_in.status_n != r->headers_out.status)
    {
        return 1;
    }

#if (NGX_HTTP_CACHE)
    if (r->cached) {
        return 0;
    }
#endif

    return u->peer.connection == NULL;
}


ngx_uint_t
ngx_http_hotpath_relay_failed(ngx_http_request_t *r)
{
    ngx_uint_t                  i, status[3];
    ngx_http_upstream_state_t  *state;

    /* what it is now, what it was before an error page took its place, and
     * what became of the last upstream that was asked */

    status[0] = r->headers_out.status;
    status[1] = r->err_status;
    status[2] = 0;

    if (r->upstream_states && r->upstream_states->nelts) {
        state = r->upstream_states->elts;
        status[2] = state[r->upstream_states->nelts - 1].status;
    }

    for (i = 0; i < 3; i++) {

        switch (status[i]) {

        case NGX_HTTP_INTERNAL_SERVER_ERROR:
        case NGX_HTTP_BAD_GATEWAY:
        case NGX_HTTP_SERVICE_UNAVAILABLE:
        case NGX_HTTP_GATEWAY_TIME_OUT:
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_http_hotpath_relay_stale(ngx_http_hotpath_relay_ctx_t *ctx)
{
    return ctx->has_stale
           && ctx->stale.meta.stale_ms > ngx_http_hotpath_now_ms();
}


static ngx_int_t
ngx_http_hotpath_relay_decide(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_uint_t               own, failed;
    ngx_http_hotpath_how_t   how;

    own = ngx_http_hotpath_relay_own(r);
    failed = ngx_http_hotpath_relay_failed(r);

    if (!own && (r->headers_out.status == 0
                 || (r->headers_out.status == NGX_HTTP_NOT_MODIFIED
                     && ctx->bare && !ctx->validating)))
    {
        /* no HTTP, which nginx would pass on as HTTP/0.9, or an answer to
         * something that nobody asked */

        failed = 1;
        r->http_version = ctx->http_version;

        if (!ngx_http_hotpath_relay_stale(ctx)) {
            return NGX_HTTP_BAD_GATEWAY;
        }
    }

    if (failed && ngx_http_hotpath_relay_stale(ctx)
        && ctx->role != ngx_http_hotpath_relay_renew)
    {
        ngx_http_hotpath_count(OUTPUT_STALE);
        ngx_http_hotpath_relay_end(ctx, ngx_http_hotpath_collapse_failed);

        ngx_memzero(&how, sizeof(ngx_http_hotpath_how_t));
        ngx_str_set(&how.detail, "stale-if-error");

        return ngx_http_hotpath_relay_answer(r, ctx, &how);
    }

    if (!own && ctx->validating
        && r->headers_out.status == NGX_HTTP_NOT_MODIFIED)
    {
        return ngx_http_hotpath_relay_validated(r, ctx);
    }

    rc = NGX_DECLINED;

    if (!own) {
        rc = ngx_http_hotpath_relay_begin(r, ctx);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        /* its conditions stayed here */
        r->disable_not_modified = 0;
    }

    if (rc == NGX_DECLINED) {

        if (failed) {
            ngx_http_hotpath_relay_end(ctx, ngx_http_hotpath_collapse_failed);

        } else {
            ngx_http_hotpath_relay_refused(ctx);
        }

        if (ctx->role == ngx_http_hotpath_relay_renew) {
            ctx->done = 1;
            ctx->hidden = 1;
            return NGX_HTTP_OK;
        }
    }

    if (ctx->role == ngx_http_hotpath_relay_renew) {

        /* it goes nowhere: read as it comes, with no file for what a slow
         * client would not take; see ngx_event_pipe_write_to_downstream() */

        r->upstream->buffering = 0;
        r->header_sent = 1;
        ctx->hidden = 1;

        return NGX_OK;
    }

    if (ngx_http_hotpath_relay_status(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_relay_send(r, ctx);
}


/* The upstream says that what the zone has is good. */

static ngx_int_t
ngx_http_hotpath_relay_validated(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    ngx_int_t                     rc;
    ngx_http_hotpath_how_t        how;
    ngx_http_hotpath_storable_t   storable;

    ctx->validating = 0;

    ngx_memzero(&how, sizeof(ngx_http_hotpath_how_t));
    how.fwd = ctx->fwd;
    how.fwd_status = NGX_HTTP_NOT_MODIFIED;

    rc = ngx_http_hotpath_storable_renewed(r, ctx->lcf, ctx->asked_ms,
                                           &ctx->stale, &storable);
    switch (rc) {

    case NGX_OK:
        rc = ngx_http_hotpath_relay_refresh(r, ctx, &storable);
        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        how.stored = (rc == NGX_OK);

        ngx_http_hotpath_relay_end(ctx, storable.lasting
                                        ? ngx_http_hotpath_collapse_look
                                        : ngx_http_hotpath_collapse_pass);
        break;

    case NGX_DECLINED:
        ngx_http_hotpath_relay_refused(ctx);
        break;

    default:
        return NGX_ERROR;
    }

    if (ctx->role == ngx_http_hotpath_relay_renew) {
        ctx->done = 1;
        ctx->hidden = 1;
        return NGX_HTTP_OK;
    }

    return ngx_http_hotpath_relay_answer(r, ctx, &how);
}


/* Puts the entry with its new head and times, and all its bodies. NGX_OK,
 * NGX_DECLINED where it was not stored, or NGX_ERROR. */

static ngx_int_t
ngx_http_hotpath_relay_refresh(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx,
    ngx_http_hotpath_storable_t *storable)
{
    ngx_int_t                          rc;
    ngx_http_hotpath_cache_content_t   content;

    ngx_memzero(&content, sizeof(ngx_http_hotpath_cache_content_t));

    content.head = storable->head;
    content.body = ctx->stale.body;
    content.tags = storable->tags;
    content.ntags = storable->ntags;

    if (ngx_http_hotpath_relay_coded(r, ctx, HP_CODING_GZIP,
                                     &content.gzip)
        != NGX_OK
        || ngx_http_hotpath_relay_coded(r, ctx, HP_CODING_BR,
                                        &content.br)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    storable->meta.version = ctx->version;
    storable->meta.begun = ctx->begun;

    rc = ngx_http_hotpath_variant_store(r, ctx->lcf, &ctx->variant,
                                        &storable->names, &storable->meta,
                                        &content);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_OK) {
        ngx_http_hotpath_count(OUTPUT_VALIDATED);

    } else {
        ngx_http_hotpath_count(OUTPUT_REFUSED);
    }

    ctx->stale.meta = storable->meta;
    ctx->stale.meta.trusted = 1;
    ctx->stale.head = storable->head;

    return rc == NGX_OK ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_hotpath_relay_coded(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx,
    ngx_uint_t coding, ngx_str_t *body)
{
    ngx_int_t                 rc;
    ngx_http_hotpath_copy_t   copy;

    if (!(ctx->stale.codings & coding)) {
        return NGX_OK;
    }

    rc = ngx_http_hotpath_cache_get(ctx->cache, &ctx->variant.key,
                                    coding, r->pool, NULL, &copy);

    if (rc == NGX_OK && copy.coding == coding
        && copy.meta.version == ctx->stale.meta.version)
    {
        *body = copy.body;
    }

    return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


/* What the zone has, in place of what the upstream has sent or could not. */

static ngx_int_t
ngx_http_hotpath_relay_answer(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx,
    ngx_http_hotpath_how_t *how)
{
    ngx_int_t  rc;

    ngx_http_clean_header(r);
    r->err_status = 0;

    how->key = ctx->variant.key;

    ctx->answering = 1;

    rc = ngx_http_hotpath_serve(r, &ctx->lcf->output.rules, &ctx->stale, how);

    ctx->answering = 0;
    ctx->done = 1;
    ctx->hidden = 1;

    return rc == NGX_ERROR ? NGX_ERROR : NGX_HTTP_OK;
}


/* NGX_OK: the body is to be copied. NGX_DECLINED: the answer is not to be
 * stored, ctx->detail says why. */

static ngx_int_t
ngx_http_hotpath_relay_begin(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    size_t                        used;
    ngx_int_t                     rc;
    ngx_http_hotpath_storable_t  *storable;

    storable = ngx_palloc(r->pool, sizeof(ngx_http_hotpath_storable_t));
    if (storable == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_hotpath_storable_judge(r, ctx->lcf, ctx->asked_ms, storable);

    if (rc != NGX_OK) {
        ctx->detail = storable->detail;
        return rc;
    }

    /* what an entry has beside its body */

    used = ctx->variant.base.len + NGX_HTTP_HOTPATH_VARIANT_TAIL
           + storable->head.len + storable->ntags * sizeof(uint64_t);

    ctx->capture.max = ngx_http_hotpath_cache_max_entry(ctx->cache);
    ctx->capture.max -= ngx_min(used, ctx->capture.max);
    ctx->capture.expected = r->upstream->headers_in.content_length_n;

    if (ctx->capture.expected > (off_t) ctx->capture.max) {
        ngx_str_set(&ctx->detail, "size");
        return NGX_DECLINED;
    }

    ctx->storable = storable;
    ctx->capturing = 1;

    return NGX_OK;
}


/*
 * The answer cannot be stored: what the zone has of it is out of date, and
 * nobody need wait for the next. Where somebody did, that is remembered; where
 * it was remembered already, it goes on to be as long as it stays true.
 */

void
ngx_http_hotpath_relay_refused(ngx_http_hotpath_relay_ctx_t *ctx)
{
    uint64_t  now_ms, until_ms;

    ngx_http_hotpath_count(OUTPUT_REFUSED);

    now_ms = ngx_http_hotpath_now_ms();

    until_ms = (ctx->lead && ngx_http_hotpath_collapse_awaited(ctx->lead))
               || ctx->variant.marked
               || ctx->why == ngx_http_hotpath_collapse_pass
               ? now_ms + NGX_HTTP_HOTPATH_RELAY_MARK_MS : 0;

    if (until_ms || ctx->has_stale) {
        ngx_http_hotpath_variant_mark(ctx->cache, &ctx->variant.key,
                                      ctx->version, until_ms);
    }

    ngx_http_hotpath_relay_end(ctx, ngx_http_hotpath_collapse_pass);
}


/* RFC 9111, 4.4. */

static void
ngx_http_hotpath_relay_invalidate(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    ngx_str_t         key;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    static ngx_str_t  location = ngx_string("Location");
    static ngx_str_t  content = ngx_string("Content-Location");

    if (ngx_http_hotpath_variant_invalidate(r, ctx->cache, &ctx->variant.key)
        != NGX_OK)
    {
        return;
    }

    part = &r->headers_out.headers.part;
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

        if (h[i].hash == 0
            || !((h[i].key.len == location.len
                  && ngx_strncasecmp(h[i].key.data, location.data,
                                     location.len)
                     == 0)
                 || (h[i].key.len == content.len
                     && ngx_strncasecmp(h[i].key.data, content.data,
                                        content.len)
                        == 0)))
        {
            continue;
        }

        if (ngx_http_hotpath_variant_other(r, ctx->lcf, &h[i].value, &key)
            == NGX_OK)
        {
            (void) ngx_http_hotpath_variant_invalidate(r, ctx->cache, &key);
        }
    }
}


/* Behind a Cache-Status of the upstream's, as RFC 9211 wants it. */

static ngx_int_t
ngx_http_hotpath_relay_status(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    u_char             *p;
    size_t              size, i;
    ngx_str_t           value;
    hp_cache_status_t   status;

    static ngx_str_t  name = ngx_string("Cache-Status");

    ngx_memzero(&status, sizeof(hp_cache_status_t));

    status.cache = (hp_str_t) HP_STR("Hotpath");
    status.fwd = ctx->fwd;
    status.stored = ctx->capturing;
    status.detail.data = ctx->detail.data;
    status.detail.len = ctx->detail.len;

    if (r->upstream && r->upstream->headers_in.status_n) {
        status.fwd_status = r->upstream->headers_in.status_n;
    }

    if (ctx->capturing) {
        status.has_ttl = 1;
        status.ttl_s = ((int64_t) (ctx->storable->meta.fresh_ms
                                   - ngx_http_hotpath_now_ms()))
                       / 1000;
    }

    size = HP_CACHE_STATUS_MAX(sizeof("Hotpath") - 1 + ctx->detail.len
                               + ctx->variant.key.len);

    p = ngx_pnalloc(r->pool, size + ctx->variant.key.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (ctx->lcf->output.rules.status_key) {
        /* the parts of a key end with NUL, which is no sight */
        status.key.data = p + size;
        status.key.len = ctx->variant.key.len;

        for (i = 0; i < ctx->variant.key.len; i++) {
            p[size + i] = ctx->variant.key.data[i]
                          ? ctx->variant.key.data[i] : '/';
        }
    }

    value.data = p;
    value.len = hp_cache_status_write(p, size, &status);

    return ngx_http_hotpath_header(r, &name, &value);
}


static ngx_int_t
ngx_http_hotpath_relay_send(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (!ctx->capturing) {

        ctx->done = 1;

        if (ctx->read_handler && r->read_event_handler
                                 == ngx_http_block_reading)
        {
            /* nobody waits for it any more */
            r->read_event_handler = ctx->read_handler;
        }

        return ngx_http_next_header_filter(r);
    }

    rc = ngx_http_next_header_filter(r);

    if (rc == NGX_ERROR && ctx->role == ngx_http_hotpath_relay_lead
        && r->connection->error)
    {
        /* the client has left, those who wait have not */
        ctx->hidden = 1;
        rc = NGX_OK;
    }

    if (r->header_only) {
        /* the client has all that it gets, the zone has nothing yet */
        ctx->hidden = 1;
        r->header_only = 0;
    }

    return rc;
}


static ngx_int_t
ngx_http_hotpath_relay_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_int_t                      rc;
    ngx_http_hotpath_relay_ctx_t  *ctx;

    ctx = ngx_http_hotpath_relay_ctx(r);

    if (ctx == NULL || in == NULL || !(ctx->capturing || ctx->hidden)) {
        return ngx_http_next_body_filter(r, in);
    }

    if (ctx->capturing && ngx_http_hotpath_relay_capture(r, ctx, in) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ctx->hidden) {
        ngx_http_hotpath_capture_swallow(in);
        return NGX_OK;
    }

    rc = ngx_http_next_body_filter(r, in);

    if (rc == NGX_ERROR && ctx->capturing && r->connection->error
        && ctx->role == ngx_http_hotpath_relay_lead)
    {
        ctx->hidden = 1;
        ngx_http_hotpath_capture_swallow(in);
        return NGX_OK;
    }

    return rc;
}


/* NGX_ERROR: what is hidden became too large to be worth the rest of it. */

static ngx_int_t
ngx_http_hotpath_relay_capture(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx, ngx_chain_t *in)
{
    switch (ngx_http_hotpath_capture_add(r, &ctx->capture, in)) {

    case NGX_AGAIN:
        return NGX_OK;

    case NGX_OK:
        ngx_http_hotpath_relay_store(r, ctx);
        return NGX_OK;

    case NGX_ABORT:
        ngx_http_hotpath_relay_give_up(r, ctx);
        return NGX_OK;

    default: /* NGX_DECLINED */
        ngx_http_hotpath_relay_give_up(r, ctx);
        return ctx->hidden ? NGX_ERROR : NGX_OK;
    }
}


static void
ngx_http_hotpath_relay_give_up(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    ctx->capturing = 0;

    ngx_http_hotpath_capture_drop(r, &ctx->capture);
    ngx_http_hotpath_relay_refused(ctx);
}


static void
ngx_http_hotpath_relay_store(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx)
{
    ngx_http_hotpath_storable_t       *storable;
    ngx_http_hotpath_cache_content_t   content;

    storable = ctx->storable;

    ctx->capturing = 0;

    ngx_memzero(&content, sizeof(ngx_http_hotpath_cache_content_t));

    content.head = storable->head;
    content.body.data = ctx->capture.data ? ctx->capture.data : (u_char *) "";
    content.body.len = ctx->capture.len;
    content.tags = storable->tags;
    content.ntags = storable->ntags;

    storable->meta.version = ctx->version;
    storable->meta.begun = ctx->begun;

    switch (ngx_http_hotpath_variant_store(r, ctx->lcf, &ctx->variant,
                                           &storable->names, &storable->meta,
                                           &content))
    {
    case NGX_OK:
        ngx_http_hotpath_count(OUTPUT_STORED);
        ngx_http_hotpath_relay_end(ctx, storable->lasting
                                        ? ngx_http_hotpath_collapse_look
                                        : ngx_http_hotpath_collapse_pass);
        break;

    case NGX_DECLINED:
        ngx_http_hotpath_relay_refused(ctx);
        break;

    default:
        /* a newer one is there, or the zone was too busy */
        ngx_http_hotpath_count(OUTPUT_REFUSED);
        ngx_http_hotpath_relay_end(ctx, ngx_http_hotpath_collapse_look);
        break;
    }
}
