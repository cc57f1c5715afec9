/*
 * ngx_http_hotpath_status.c: GET on a status location.
 *
 * Says what has become of one operation, as ngx_http_hotpath_follow.c finds it;
 * with Prefer: wait=N (RFC 7240) as soon as it is decided, or what is known at
 * the end of the wait. Runs in the content phase and in the event loop, with no
 * lock held. Never in here: a state that nobody has committed or acknowledged,
 * or a wait without an end. See the HTTP contract in ngx_module/README.md;
 * tests/integration/test_status.py, test_follow.py.
 */


#include "ngx_http_hotpath_follow.h"
#include "core/hp_date.h"
#include "core/hp_id.h"
#include "core/hp_json.h"


/* One request. */
typedef struct {
    ngx_http_request_t          *request;
    ngx_http_hotpath_follows_t  *follows;
    uint32_t                     wait_s;       /* 0: it waits not */
    unsigned                     shortened:1;
} ngx_http_hotpath_status_ctx_t;


static void ngx_http_hotpath_status_known(void *data);
static ngx_int_t ngx_http_hotpath_status_answer(
    ngx_http_hotpath_status_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_status_applied(
    ngx_http_hotpath_status_ctx_t *ctx, ngx_http_hotpath_follow_t *follow);


ngx_int_t
ngx_http_hotpath_status_handler(ngx_http_request_t *r)
{
    hp_str_t                        last;
    ngx_int_t                       rc;
    ngx_str_t                       rest;
    ngx_msec_t                      ms;
    hp_prefer_t                     prefer;
    ngx_http_hotpath_loc_conf_t    *lcf;
    ngx_http_hotpath_status_ctx_t  *ctx;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_hotpath_refuse_method(r, &ngx_http_hotpath_allow_get);
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_hotpath_status_ctx_t));
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ctx->request = r;
    ctx->follows = ngx_http_hotpath_follows(r, 1,
                                          ngx_http_hotpath_status_known, ctx);
    if (ctx->follows == NULL) {
        return NGX_ERROR;
    }

    ngx_http_hotpath_uri_rest(r, &rest);
    last.data = rest.data;
    last.len = rest.len;

    if (hp_uuid_parse(ctx->follows->follow[0].id, last) != 0) {
        return ngx_http_hotpath_problem(r,
                               NGX_HTTP_HOTPATH_PROBLEM_OPERATION_ID_INVALID);
    }

    ngx_http_hotpath_follow_prefer(r, &prefer);

    ms = 0;

    if (prefer.wait_s > 0 && lcf->status_wait) {
        ms = ngx_min((ngx_msec_t) prefer.wait_s * 1000, lcf->status_wait);
        ctx->shortened = (ms < (ngx_msec_t) prefer.wait_s * 1000);
        ctx->wait_s = (uint32_t) ((ms + 999) / 1000);
    }

    if (ngx_http_hotpath_follows_begin(ctx->follows, ms) == NGX_OK) {
        return ngx_http_hotpath_status_answer(ctx);
    }

    /* notices a client that goes away */
    r->main->count++;
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_DONE;
}


static void
ngx_http_hotpath_status_known(void *data)
{
    ngx_http_hotpath_status_ctx_t *ctx = data;

    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ngx_http_finalize_request(r, ngx_http_hotpath_status_answer(ctx));
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_hotpath_status_answer(ngx_http_hotpath_status_ctx_t *ctx)
{
    ngx_str_t                   body;
    ngx_http_request_t         *r;
    ngx_http_hotpath_fate_t    *fate;
    ngx_http_hotpath_follow_t  *follow;

    r = ctx->request;
    follow = &ctx->follows->follow[0];
    fate = &follow->fate;

    if (ctx->wait_s
        && ngx_http_hotpath_status_applied(ctx, follow) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (fate->fate == NGX_HTTP_HOTPATH_FATE_UNKNOWN) {
        return ngx_http_hotpath_problem(r,
                                  NGX_HTTP_HOTPATH_PROBLEM_OPERATION_UNKNOWN);
    }

    if (fate->fate == NGX_HTTP_HOTPATH_FATE_UNAVAILABLE) {
        return ngx_http_hotpath_problem(r,
                                NGX_HTTP_HOTPATH_PROBLEM_BACKEND_UNAVAILABLE);
    }

    if (ngx_http_hotpath_header_const(r, "Cache-Control", "no-store")
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    body.data = ngx_pnalloc(r->pool, NGX_HTTP_HOTPATH_STATUS_BODY);
    if (body.data == NULL) {
        return NGX_ERROR;
    }

    body.len = ngx_http_hotpath_status_write(body.data, follow->id, fate)
               - body.data;

    return ngx_http_hotpath_send(r, NGX_HTTP_OK, &ngx_http_hotpath_type_json,
                                 &body);
}


/* It was waited for, or there was nothing to wait for. */

static ngx_int_t
ngx_http_hotpath_status_applied(ngx_http_hotpath_status_ctx_t *ctx,
    ngx_http_hotpath_follow_t *follow)
{
    ngx_str_t  value;

    static ngx_str_t  name = ngx_string("Preference-Applied");

    if (!follow->waited && !ngx_http_hotpath_fate_decided(&follow->fate)) {
        return NGX_OK;
    }

    ngx_str_set(&value, "wait");

    if (ctx->shortened) {
        value.data = ngx_pnalloc(ctx->request->pool,
                                 sizeof("wait=") + NGX_INT32_LEN);
        if (value.data == NULL) {
            return NGX_ERROR;
        }

        value.len = ngx_sprintf(value.data, "wait=%uD", ctx->wait_s)
                    - value.data;
    }

    return ngx_http_hotpath_header(ctx->request, &name, &value);
}


u_char *
ngx_http_hotpath_status_write(u_char *p, u_char *id,
    ngx_http_hotpath_fate_t *fate)
{
    hp_str_t  code;

    static const char *names[] = {
        "unknown", "unknown", "accepted", "processed", "dead", "lost"
    };

    p = ngx_cpymem(p, "{\"operationId\":\"",
                   sizeof("{\"operationId\":\"") - 1);
    hp_uuid_format((char *) p, id);
    p += HP_UUID_TEXT;

    p = ngx_sprintf(p, "\",\"status\":\"%s\",\"acceptedAt\":\"",
                    names[fate->fate]);
    hp_time_format((char *) p, fate->accepted_us);
    p += HP_TIME_LEN;

    if (fate->processed_us && fate->fate == NGX_HTTP_HOTPATH_FATE_PROCESSED) {
        p = ngx_cpymem(p, "\",\"processedAt\":\"",
                       sizeof("\",\"processedAt\":\"") - 1);
        hp_time_format((char *) p, fate->processed_us);
        p += HP_TIME_LEN;
    }

    *p++ = '"';

    if (fate->fate == NGX_HTTP_HOTPATH_FATE_LOST) {
        p = ngx_cpymem(p, ",\"code\":\"lost_resubmit\"",
                       sizeof(",\"code\":\"lost_resubmit\"") - 1);

    } else if (fate->fate == NGX_HTTP_HOTPATH_FATE_DEAD && fate->code_len) {
        code.data = fate->code;
        code.len = fate->code_len;

        p = ngx_cpymem(p, ",\"code\":\"", sizeof(",\"code\":\"") - 1);
        p += hp_json_escape(p, 6 * code.len, code);
        *p++ = '"';

    } else if (fate->conflict) {
        p = ngx_cpymem(p, ",\"conflict\":true",
                       sizeof(",\"conflict\":true") - 1);
    }

    *p++ = '}';

    return p;
}
