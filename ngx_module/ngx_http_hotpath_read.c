/*
 * ngx_http_hotpath_read.c: the way of a read: shared memory, else whoever has
 * the document.
 *
 * read_handler says which document is meant and answers from the zone where it
 * can: fresh, or stale while it is renewed in the background. Else the request
 * waits for a fetch (ngx_http_hotpath_fetch.c) together with everybody else
 * who wants that document; where it cannot be had, the request gets the stale
 * copy it found, or 503. A client that goes away only leaves its place. Owns
 * nothing that outlives the request. Runs in the event loop of every worker
 * with no lock held. Never in here: a wait. See the failure table in
 * README.md; tests/integration/test_read.py, tests/faults/test_backends.py.
 */


#include "ngx_http_hotpath_module.h"
#include "ngx_http_hotpath_fetch.h"
#include "ngx_http_hotpath_gather.h"
#include "ngx_http_hotpath_hot.h"
#include "ngx_http_hotpath_list.h"


/* In the last part of its life every so many-th use of a document renews it,
 * drawn at random: so those that are used often are, and others seldom. No
 * reader has to count in shared memory for that. */
#define NGX_HTTP_HOTPATH_REFRESH_ONE_OF  8


/* A request that waits for a document. */
typedef struct {
    ngx_http_hotpath_fetch_waiter_t    waiter;
    ngx_http_request_t                *request;
    ngx_http_hotpath_cache_rules_t    *rules;
    ngx_http_hotpath_copy_t            copy;      /* the stale one */
    ngx_http_hotpath_how_t             how;
    unsigned                           stale:1;
} ngx_http_hotpath_read_ctx_t;


static ngx_int_t ngx_http_hotpath_read_wanted(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_wanted_t *wanted,
    ngx_http_hotpath_problem_e *problem);
static uint64_t ngx_http_hotpath_read_next(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_str_t *tenant);
static ngx_int_t ngx_http_hotpath_read_join(ngx_http_request_t *r,
    ngx_http_hotpath_read_ctx_t *ctx, ngx_http_hotpath_wanted_t *wanted,
    ngx_uint_t force);
static void ngx_http_hotpath_read_leave(void *data);
static void ngx_http_hotpath_read_fetched(
    ngx_http_hotpath_fetch_waiter_t *waiter, ngx_http_hotpath_copy_t *copy,
    ngx_http_hotpath_how_t *how);
static ngx_int_t ngx_http_hotpath_read_copied(ngx_http_request_t *r,
    ngx_str_t *text);
static ngx_int_t ngx_http_hotpath_read_without(ngx_http_request_t *r,
    ngx_http_hotpath_read_ctx_t *ctx);


ngx_int_t
ngx_http_hotpath_read_handler(ngx_http_request_t *r)
{
    u_char                        buffer[NGX_HTTP_HOTPATH_ZONE_KEY_MAX];
    uint64_t                      next;
    ngx_int_t                     rc;
    ngx_http_hotpath_cache_t     *cache;
    ngx_http_hotpath_wanted_t     wanted;
    ngx_http_hotpath_problem_e    problem;
    ngx_http_hotpath_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_hotpath_refuse_method(r, &ngx_http_hotpath_allow_get);
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    wanted.zone_key.data = buffer;

    rc = ngx_http_hotpath_read_wanted(r, lcf, &wanted, &problem);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED) {
        return ngx_http_hotpath_problem(r, problem);
    }

    if (wanted.model->page) {
        return ngx_http_hotpath_list(r, &wanted);
    }

    if (r->header_in == NULL || r->header_in->pos == r->header_in->last) {
        return ngx_http_hotpath_read_through(r, &wanted);
    }

    /* While this one is answered, what the next will want comes nearer. */

    cache = lcf->model->rules.cache;
    next = ngx_http_hotpath_read_next(r, lcf, &wanted.tenant);

    rc = ngx_http_hotpath_read_through(r, &wanted);

    if (next) {
        ngx_http_hotpath_cache_expected(cache, next);
    }

    return rc;
}


/* What a pipelined request, as it stands in the buffer, will look for, if it is
 * for a document of the same model and tenant; 0: nobody can tell. No more than
 * a guess, for ngx_http_hotpath_cache_expected() alone. */

static uint64_t
ngx_http_hotpath_read_next(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_str_t *tenant)
{
    u_char                     buffer[NGX_HTTP_HOTPATH_ZONE_KEY_MAX];
    size_t                     len;
    ngx_buf_t                 *b;
    ngx_str_t                  key, zone_key;
    ngx_http_core_loc_conf_t  *clcf;

    b = r->header_in;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    /* the method and the location's name, as they stand in this one's line */
    len = r->method_name.len + 1 + clcf->name.len;

    if (lcf->key
        || len > r->request_line.len
        || len >= (size_t) (b->last - b->pos)
        || ngx_memcmp(b->pos, r->request_line.data, len) != 0)
    {
        return 0;
    }

    key.data = b->pos + len;

    for (key.len = 0; key.data[key.len] != ' '; key.len++) {
        if (key.len == HP_DOC_KEY_MAX
            || key.data + key.len + 1 == b->last)
        {
            return 0;
        }
    }

    zone_key.data = buffer;
    ngx_http_hotpath_zone_key(&zone_key, &lcf->model->name, tenant, &key);

    return ngx_http_hotpath_cache_expect(lcf->model->rules.cache, &zone_key);
}


/* Which document. NGX_DECLINED: none, *problem says why. */

static ngx_int_t
ngx_http_hotpath_read_wanted(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_wanted_t *wanted,
    ngx_http_hotpath_problem_e *problem)
{
    hp_str_t    text;
    ngx_int_t   rc;
    ngx_str_t  *key;

    wanted->model = lcf->model;
    wanted->params = NULL;
    wanted->nparams = 0;
    wanted->data_size = 0;
    wanted->changed_us = 0;

    key = &wanted->key;

    if (lcf->shared) {
        ngx_str_set(&wanted->tenant, "");

    } else {
        rc = ngx_http_hotpath_tenant(r, lcf, &wanted->tenant);

        if (rc != NGX_OK) {
            *problem = NGX_HTTP_HOTPATH_PROBLEM_TENANT_INVALID;
            return rc;
        }
    }

    if (lcf->key) {
        if (ngx_http_complex_value(r, lcf->key, key) != NGX_OK) {
            return NGX_ERROR;
        }

    } else {
        ngx_http_hotpath_uri_rest(r, key);
    }

    text.data = key->data;
    text.len = key->len;

    if (!hp_doc_key_valid(text)) {
        *problem = NGX_HTTP_HOTPATH_PROBLEM_READ_KEY_INVALID;
        return NGX_DECLINED;
    }

    ngx_http_hotpath_zone_key(&wanted->zone_key, &lcf->model->name,
                              &wanted->tenant, key);
    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_read_through(ngx_http_request_t *r,
    ngx_http_hotpath_wanted_t *wanted)
{
    uint64_t                         now_ms;
    ngx_int_t                        rc;
    ngx_str_t                        room;
    ngx_uint_t                       codings, control, given;
    ngx_http_hotpath_how_t           how;
    ngx_http_hotpath_copy_t          copy;
    ngx_http_hotpath_read_ctx_t     *ctx;
    ngx_http_hotpath_main_conf_t    *mcf;
    ngx_http_hotpath_cache_rules_t  *rules;

    rules = &wanted->model->rules;
    codings = ngx_http_hotpath_serve_codings(r, rules);
    given = ngx_http_hotpath_gather_room(r, &room) == NGX_OK;

    rc = ngx_http_hotpath_cache_get(rules->cache, &wanted->zone_key, codings,
                                    r->pool, given ? &room : NULL, &copy);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_OK && copy.meta.modified_us <= wanted->changed_us
        && wanted->changed_us)
    {
        copy.meta.trusted = 0;
    }

    now_ms = ngx_http_hotpath_now_ms();
    control = 0;

    if (rules->request_control) {
        control = ngx_http_hotpath_read_control(r, rules,
                                    rc == NGX_OK ? &copy.meta : NULL, now_ms);
    }

    ngx_memzero(&how, sizeof(ngx_http_hotpath_how_t));
    how.key = wanted->zone_key;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);

    if (rc == NGX_OK && !(control & NGX_HTTP_HOTPATH_CONTROL_FETCH)) {

        if (copy.meta.trusted && copy.meta.fresh_ms > now_ms) {

            ngx_http_hotpath_count(READ_HIT);
            ngx_http_hotpath_hot_hit(wanted->model, &wanted->zone_key);

            if (ngx_http_hotpath_read_refresh(rules, &copy.meta, now_ms)) {
                ngx_http_hotpath_fetch_renew(mcf, wanted);
            }

            return ngx_http_hotpath_serve(r, rules, &copy, &how);
        }

        if (rules->revalidate && copy.meta.revalidate_ms > now_ms) {

            ngx_http_hotpath_count(READ_REVALIDATED);
            ngx_http_hotpath_fetch_renew(mcf, wanted);

            ngx_str_set(&how.detail, "stale-while-revalidate");
            return ngx_http_hotpath_serve(r, rules, &copy, &how);
        }
    }

    if (control & NGX_HTTP_HOTPATH_CONTROL_CACHED) {
        ngx_http_hotpath_count(READ_UNAVAILABLE);
        return ngx_http_hotpath_problem(r,
                                        NGX_HTTP_HOTPATH_PROBLEM_NOT_CACHED);
    }

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_hotpath_read_ctx_t));
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ctx->request = r;
    ctx->rules = rules;
    ctx->how = how;

    if (rc == NGX_OK && copy.meta.stale_ms > now_ms) {
        ctx->stale = 1;
        ctx->copy = copy;

        if (given
            && ngx_http_hotpath_read_copied(r, &ctx->copy.body) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (!rules->status_key) {
        ngx_str_null(&ctx->how.key);

    } else if (ngx_http_hotpath_read_copied(r, &ctx->how.key) != NGX_OK) {
        return NGX_ERROR;
    }

    ctx->how.fwd = rc != NGX_OK ? HP_FWD_URI_MISS
                   : (control & NGX_HTTP_HOTPATH_CONTROL_FETCH)
                     ? HP_FWD_REQUEST
                   : HP_FWD_STALE;

    return ngx_http_hotpath_read_join(r, ctx, wanted,
                                control & NGX_HTTP_HOTPATH_CONTROL_FETCH);
}


ngx_uint_t
ngx_http_hotpath_read_control(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_cache_meta_t *meta, uint64_t now_ms)
{
    hp_str_t              text;
    ngx_str_t             value;
    ngx_uint_t            i, found, wanted, pragma;
    ngx_list_part_t      *part;
    ngx_table_elt_t      *h;
    hp_request_control_t  control;

    static ngx_str_t  name = ngx_string("cache-control");
    static ngx_str_t  old_name = ngx_string("pragma");

    if (ngx_http_complex_value(r, rules->request_control, &value) != NGX_OK
        || value.len == 0 || (value.len == 1 && value.data[0] == '0'))
    {
        return 0;
    }

    found = 0;
    wanted = 0;
    pragma = 0;

    part = &r->headers_in.headers.part;
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

        text.data = h[i].value.data;
        text.len = h[i].value.len;

        if (h[i].key.len == old_name.len
            && ngx_strncasecmp(h[i].key.data, old_name.data, old_name.len)
               == 0)
        {
            hp_request_control(&control, text);
            pragma |= control.no_cache;
            continue;
        }

        if (h[i].key.len != name.len
            || ngx_strncasecmp(h[i].key.data, name.data, name.len) != 0)
        {
            continue;
        }

        /* a second line adds to what the first asks for */

        found = 1;
        hp_request_control(&control, text);

        if (control.no_cache || control.no_store
            || (meta && control.max_age_s >= 0
                && meta->stored_ms + control.max_age_s * 1000 < now_ms)
            || (meta && control.min_fresh_s >= 0
                && meta->fresh_ms < now_ms + control.min_fresh_s * 1000))
        {
            wanted |= NGX_HTTP_HOTPATH_CONTROL_FETCH;
        }

        if (control.no_store) {
            wanted |= NGX_HTTP_HOTPATH_CONTROL_FORGET;
        }

        if (control.only_if_cached) {
            wanted |= NGX_HTTP_HOTPATH_CONTROL_CACHED;
        }
    }

    return found || !pragma ? wanted : NGX_HTTP_HOTPATH_CONTROL_FETCH;
}


ngx_uint_t
ngx_http_hotpath_read_refresh(ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_cache_meta_t *meta, uint64_t now_ms)
{
    uint64_t  part_ms;

    part_ms = (meta->fresh_ms - meta->stored_ms) * rules->refresh / 100;

    return meta->fresh_ms - now_ms < part_ms
           && !meta->negative
           && ngx_random() % NGX_HTTP_HOTPATH_REFRESH_ONE_OF == 0;
}


/* Waits for the fetch of that key, which begins here if there is none. */

static ngx_int_t
ngx_http_hotpath_read_join(ngx_http_request_t *r,
    ngx_http_hotpath_read_ctx_t *ctx, ngx_http_hotpath_wanted_t *wanted,
    ngx_uint_t force)
{
    ngx_pool_cleanup_t            *cln;
    ngx_http_hotpath_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    ctx->waiter.handler = ngx_http_hotpath_read_fetched;

    if (ngx_http_hotpath_fetch_join(mcf, wanted, force, &ctx->waiter)
        != NGX_OK)
    {
        return ngx_http_hotpath_read_without(r, ctx);
    }

    cln->handler = ngx_http_hotpath_read_leave;
    cln->data = ctx;

    r->main->count++;
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_DONE;
}


static void
ngx_http_hotpath_read_leave(void *data)
{
    ngx_http_hotpath_read_ctx_t *ctx = data;

    ngx_http_hotpath_fetch_leave(&ctx->waiter);
}


static void
ngx_http_hotpath_read_fetched(ngx_http_hotpath_fetch_waiter_t *waiter,
    ngx_http_hotpath_copy_t *copy, ngx_http_hotpath_how_t *how)
{
    ngx_int_t                     rc;
    ngx_connection_t             *c;
    ngx_http_request_t           *r;
    ngx_http_hotpath_copy_t       own;
    ngx_http_hotpath_read_ctx_t  *ctx;

    ctx = (ngx_http_hotpath_read_ctx_t *) waiter;

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (copy) {

        /* what the fetch has goes with it, the answer may take longer */

        own = *copy;
        ctx->how.stored = how->stored;
        ctx->how.collapsed = how->collapsed || !waiter->first;
        ctx->how.detail = how->detail;

        if (ctx->how.collapsed) {
            ngx_http_hotpath_count(READ_COLLAPSED);
        } else if (how->detail.data[0] == 'p') {
            ngx_http_hotpath_count(READ_POSTGRES);
        } else {
            ngx_http_hotpath_count(READ_REDIS);
        }

        if (ngx_http_hotpath_read_copied(r, &own.head) != NGX_OK
            || ngx_http_hotpath_read_copied(r, &own.body) != NGX_OK)
        {
            rc = NGX_ERROR;

        } else {
            rc = ngx_http_hotpath_serve(r, ctx->rules, &own, &ctx->how);
        }

    } else {
        rc = ngx_http_hotpath_read_without(r, ctx);
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


/* Into the request's pool. */

static ngx_int_t
ngx_http_hotpath_read_copied(ngx_http_request_t *r, ngx_str_t *text)
{
    u_char  *p;

    if (text->len == 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, text->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, text->data, text->len);
    text->data = p;

    return NGX_OK;
}


/* Nobody could be asked, or nobody answered. */

static ngx_int_t
ngx_http_hotpath_read_without(ngx_http_request_t *r,
    ngx_http_hotpath_read_ctx_t *ctx)
{
    if (!ctx->stale) {
        ngx_http_hotpath_count(READ_UNAVAILABLE);
        return ngx_http_hotpath_problem(r,
                                NGX_HTTP_HOTPATH_PROBLEM_BACKEND_UNAVAILABLE);
    }

    ngx_http_hotpath_count(READ_STALE);

    ctx->how.fwd = HP_FWD_NONE;
    ngx_str_set(&ctx->how.detail, "stale-if-error");

    return ngx_http_hotpath_serve(r, ctx->rules, &ctx->copy, &ctx->how);
}
