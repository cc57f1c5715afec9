/*
 * ngx_http_hotpath_guard_answer.c: hotpath_idempotency in front of an upstream:
 * what happens when the upstream has answered, and answers given again.
 *
 * The first header filter and the first body filter of all. An answer is held
 * back until it is whole and written down, in shared memory and where there is
 * one in Redis: whoever has seen it gets the same one again, also from another
 * instance, also if this worker dies the moment after. So what a client is too
 * slow for, or left, does not matter to it. An answer that is too large is not
 * kept: what was held goes on, the rest as it comes, and the key is remembered
 * as used. What nginx itself says in place of an upstream frees the key where
 * not a byte of the request was sent, and otherwise counts as no answer.
 *
 * Owns the copies of head and body, in the request's pool. Runs in the event
 * loop of every worker with no lock held. Never in here: a part of an answer
 * kept as a whole one, or an answer to a client before it was written down.
 *
 * Reference: README.md, "hotpath_idempotency"; tests:
 * tests/integration/test_guard.py, tests/faults/test_guard_faults.py.
 */


#include "ngx_http_hotpath_guarded.h"
#include "ngx_http_hotpath_head.h"
#include "ngx_http_hotpath_relay.h"
#include "ngx_http_hotpath_storable.h"


/* A bit of r->buffered that no filter of nginx uses for a main request's
 * answer of an upstream (the image filter has it, behind this one). */
#define NGX_HTTP_HOTPATH_GUARD_BUFFERED  0x08


static ngx_int_t ngx_http_hotpath_guard_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_guard_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_hotpath_guard_own(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx);
static ngx_int_t ngx_http_hotpath_guard_capture(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx, ngx_chain_t *in);
static ngx_int_t ngx_http_hotpath_guard_too_large(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx, size_t held, ngx_chain_t *in);
static ngx_int_t ngx_http_hotpath_guard_broken(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx);
static ngx_int_t ngx_http_hotpath_guard_send(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx);
static ngx_uint_t ngx_http_hotpath_guard_retried(
    ngx_http_hotpath_guarded_t *ctx, ngx_uint_t status);
static ngx_uint_t ngx_http_hotpath_guard_sent(ngx_http_request_t *r);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


void
ngx_http_hotpath_guard_filters(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_hotpath_guard_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_hotpath_guard_body_filter;
}


static ngx_int_t
ngx_http_hotpath_guard_header_filter(ngx_http_request_t *r)
{
    ngx_int_t                    rc;
    ngx_http_hotpath_guarded_t  *ctx;

    ctx = ngx_http_hotpath_guard_ctx(r);

    if (ctx == NULL || ctx->state != ngx_http_hotpath_guard_claimed) {
        return ngx_http_next_header_filter(r);
    }

    if (ngx_http_hotpath_relay_own(r)) {
        return ngx_http_hotpath_guard_own(r, ctx);
    }

    ctx->status = r->headers_out.status;

    if (ctx->status == 0) {
        /* no HTTP, which nginx would pass on as HTTP/0.9 */

        r->http_version = ctx->http_version;
        ngx_http_hotpath_guard_lost(ctx);
        ctx->state = ngx_http_hotpath_guard_done;

        return NGX_HTTP_BAD_GATEWAY;
    }

    if (ngx_http_hotpath_guard_retried(ctx, ctx->status)) {
        ngx_http_hotpath_count(GUARD_ANSWER_RETRY);
        ngx_http_hotpath_guard_release(ctx);
        ctx->state = ngx_http_hotpath_guard_done;

        return ngx_http_next_header_filter(r);
    }

    ctx->capture.expected = r->upstream->headers_in.content_length_n;

    rc = NGX_DECLINED;

    if (ctx->status >= NGX_HTTP_OK && !r->upstream->upgrade
        && ctx->capture.expected <= (off_t) ctx->capture.max)
    {
        rc = ngx_http_hotpath_storable_whole(r, &ctx->head);

        if (rc == NGX_ERROR) {
            /* it was carried out, and that is remembered all the same */
            ngx_http_hotpath_guard_lost(ctx);
            ctx->state = ngx_http_hotpath_guard_done;
            return NGX_ERROR;
        }
    }

    if (rc != NGX_OK) {
        (void) ngx_http_hotpath_guard_settle(ctx, HP_REPLAY_NOT_KEPT, 0);
        ctx->state = ngx_http_hotpath_guard_done;

        return ngx_http_next_header_filter(r);
    }

    ctx->state = ngx_http_hotpath_guard_capturing;

    return NGX_OK;
}


/* nginx answers by itself: the upstream was not reached, or has not answered,
 * or an error page takes its answer's place. */

static ngx_int_t
ngx_http_hotpath_guard_own(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx)
{
    ngx_http_hotpath_guard_lost(ctx);
    ctx->state = ngx_http_hotpath_guard_done;

    return ngx_http_next_header_filter(r);
}


void
ngx_http_hotpath_guard_lost(ngx_http_hotpath_guarded_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (!ctx->asked || !ngx_http_hotpath_guard_sent(r)) {

        if (ctx->asked) {
            ngx_http_hotpath_count(GUARD_ANSWER_UNSENT);
        }

        ngx_http_hotpath_guard_release(ctx);
        return;
    }

    if (ctx->status == 0 && r->upstream) {
        ctx->status = r->upstream->headers_in.status_n;
    }

    if (ctx->status ? ngx_http_hotpath_guard_retried(ctx, ctx->status)
                    : ctx->conf->retry_lost)
    {
        ngx_http_hotpath_count(GUARD_ANSWER_RETRY);
        ngx_http_hotpath_guard_release(ctx);
        return;
    }

    (void) ngx_http_hotpath_guard_settle(ctx, ctx->status
                                              ? HP_REPLAY_NOT_KEPT
                                              : HP_REPLAY_UNKNOWN, 0);
}


/* Whether any of the request may have reached an upstream. */

static ngx_uint_t
ngx_http_hotpath_guard_sent(ngx_http_request_t *r)
{
    ngx_uint_t                  i;
    ngx_http_upstream_state_t  *state;

    if (r->upstream && r->upstream->request_sent) {
        return 1;
    }

    if (r->upstream_states == NULL) {
        return 0;
    }

    state = r->upstream_states->elts;

    for (i = 0; i < r->upstream_states->nelts; i++) {
        if (state[i].bytes_sent) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_http_hotpath_guard_retried(ngx_http_hotpath_guarded_t *ctx,
    ngx_uint_t status)
{
    ngx_uint_t  i;

    for (i = 0; i < ctx->conf->nretries; i++) {
        if (ctx->conf->retries[i] == status) {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_hotpath_guard_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_http_hotpath_guarded_t  *ctx;

    ctx = ngx_http_hotpath_guard_ctx(r);

    if (ctx == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    switch (ctx->state) {

    case ngx_http_hotpath_guard_capturing:
        return in ? ngx_http_hotpath_guard_capture(r, ctx, in) : NGX_OK;

    case ngx_http_hotpath_guard_settling:
        ngx_http_hotpath_capture_swallow(in);
        return NGX_AGAIN;

    case ngx_http_hotpath_guard_settled:
        r->buffered &= ~NGX_HTTP_HOTPATH_GUARD_BUFFERED;
        return ngx_http_hotpath_guard_send(r, ctx);

    default:
        return ngx_http_next_body_filter(r, in);
    }
}


static ngx_int_t
ngx_http_hotpath_guard_capture(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx, ngx_chain_t *in)
{
    size_t        held;
    ngx_int_t     rc;
    ngx_uint_t    last, flush;
    ngx_chain_t  *cl;

    held = ctx->capture.len;
    last = 0;
    flush = 0;

    for (cl = in; cl; cl = cl->next) {
        last |= cl->buf->last_buf;
        flush |= cl->buf->flush;
    }

    rc = ngx_http_hotpath_capture_add(r, &ctx->capture, in);

    if (rc == NGX_DECLINED) {
        return ngx_http_hotpath_guard_too_large(r, ctx, held, in);
    }

    ngx_http_hotpath_capture_swallow(in);

    if (rc == NGX_ABORT
        || (flush && !last && r->upstream && r->upstream->cleanup == NULL))
    {
        /* nginx has given the upstream up in the middle of its answer */
        return ngx_http_hotpath_guard_broken(r, ctx);
    }

    if (!last) {
        return NGX_OK;
    }

    ctx->body.data = ctx->capture.data;
    ctx->body.len = ctx->capture.len;

    if (ngx_http_hotpath_guard_settle(ctx, HP_REPLAY_ANSWER, 1) == NGX_AGAIN) {
        r->buffered |= NGX_HTTP_HOTPATH_GUARD_BUFFERED;
        return NGX_AGAIN;
    }

    return ngx_http_hotpath_guard_send(r, ctx);
}


/* What was held goes on, and the rest as it comes. */

static ngx_int_t
ngx_http_hotpath_guard_too_large(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx, size_t held, ngx_chain_t *in)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    (void) ngx_http_hotpath_guard_settle(ctx, HP_REPLAY_NOT_KEPT, 0);
    ctx->state = ngx_http_hotpath_guard_done;

    rc = ngx_http_next_header_filter(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    if (held) {
        b = ngx_calloc_buf(r->pool);
        if (b == NULL) {
            return NGX_ERROR;
        }

        b->pos = ctx->capture.data;
        b->last = ctx->capture.data + held;
        b->memory = 1;

        out.buf = b;
        out.next = NULL;

        if (ngx_http_next_body_filter(r, &out) == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    return ngx_http_next_body_filter(r, in);
}


static ngx_int_t
ngx_http_hotpath_guard_broken(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx)
{
    ngx_http_hotpath_guard_lost(ctx);
    ctx->state = ngx_http_hotpath_guard_done;

    ngx_http_clean_header(r);
    r->keepalive = 0;

    return ngx_http_hotpath_problem(r,
                                NGX_HTTP_HOTPATH_PROBLEM_UPSTREAM_INCOMPLETE);
}


void
ngx_http_hotpath_guard_resume(ngx_http_hotpath_guarded_t *ctx)
{
    ngx_event_t  *wev;

    ctx->state = ngx_http_hotpath_guard_settled;

    /* the request writes what is buffered: it asks the filters for it */

    wev = ctx->request->connection->write;
    ngx_post_event(wev, &ngx_posted_events);
}


/* The header that was held back, and the whole body. */

static ngx_int_t
ngx_http_hotpath_guard_send(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    ctx->state = ngx_http_hotpath_guard_done;

    rc = ngx_http_next_header_filter(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = ctx->body.data;
    b->last = ctx->body.data + ctx->body.len;
    b->memory = ctx->body.len ? 1 : 0;
    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_next_body_filter(r, &out);
}


ngx_int_t
ngx_http_hotpath_guard_replay(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx)
{
    ngx_str_t                 rest, name, value;
    ngx_table_elt_t          *h;
    ngx_http_hotpath_head_t   head;

    static ngx_str_t  etag = ngx_string("ETag");
    static ngx_str_t  modified = ngx_string("Last-Modified");

    if (ngx_http_hotpath_head_read(&head, &ctx->head) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "hotpath: an answer that was kept has no head");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_hotpath_header_const(r, "Idempotent-Replayed", "true")
        != NGX_OK
        || (head.etag.len
            && ngx_http_hotpath_header(r, &etag, &head.etag) != NGX_OK)
        || (head.last_modified.len
            && ngx_http_hotpath_header(r, &modified, &head.last_modified)
               != NGX_OK))
    {
        return NGX_ERROR;
    }

    rest = head.fields;

    while (ngx_http_hotpath_field_next(&rest, &name, &value) == NGX_OK) {

        h = ngx_http_hotpath_header_push(r);
        if (h == NULL) {
            return NGX_ERROR;
        }

        h->key = name;
        h->value = value;

        /* what nginx's own filters have to know of */

        switch (ngx_http_hotpath_field_kind(&name)) {

        case ngx_http_hotpath_field_date:
            r->headers_out.date = h;
            break;

        case ngx_http_hotpath_field_server:
            r->headers_out.server = h;
            break;

        case ngx_http_hotpath_field_encoding:
            r->headers_out.content_encoding = h;
            break;

        default:
            break;
        }
    }

    /* conditions were the first request's business */
    r->disable_not_modified = 1;

    return ngx_http_hotpath_send(r, head.status, &head.type, &ctx->body);
}
