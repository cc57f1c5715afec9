/*
 * ngx_http_hotpath_read.c: the way of a read: shared memory, then Redis, then
 * Postgres.
 *
 * read_handler answers from the zone where it can. Else the request joins the
 * fetch of its key: one fetch per key and worker is under way, however many
 * requests wait for it. A fetch asks Redis, then Postgres, puts what it got
 * into the zone and answers its requests; where neither can be had, each
 * request gets the stale copy it found in the zone, or 503. A fetch outlives
 * its requests, so that a client that goes away does not waste it. Owns the
 * fetches and their pools; they end with the deadlines of the backends. Runs
 * in the event loop of every worker with no lock held. Never in here: a wait.
 * See the failure table in README.md; tests/integration/test_read.py,
 * tests/faults/test_backends.py.
 */


#include "ngx_http_hotpath_module.h"
#include "core/hp_frame.h"
#include "core/hp_id.h"


#define NGX_HTTP_HOTPATH_FETCH_POOL  4096


typedef struct {
    ngx_str_node_t                     node;      /* key: the zone's */
    ngx_queue_t                        requests;  /* of read_ctx_t */
    ngx_pool_t                        *pool;
    ngx_http_hotpath_main_conf_t      *mcf;
    ngx_http_hotpath_model_t          *model;
    ngx_str_t                          tenant;
    ngx_str_t                          key;
    ngx_str_t                          redis_key;
    ngx_http_hotpath_redis_call_t     *redis;
    ngx_http_hotpath_postgres_call_t  *postgres;
} ngx_http_hotpath_fetch_t;


/* A request that waits for a fetch. */
typedef struct {
    ngx_queue_t                        queue;
    ngx_http_request_t                *request;
    ngx_http_hotpath_fetch_t          *fetch;     /* NULL: it has ended */
    ngx_str_t                          document;  /* the stale copy */
    ngx_http_hotpath_cache_meta_t      meta;      /* of the stale copy */
    unsigned                           stale:1;
    unsigned                           first:1;   /* it began the fetch */
} ngx_http_hotpath_read_ctx_t;


/* Where an answer came from, for Cache-Status (RFC 9211). */
typedef enum {
    ngx_http_hotpath_from_zone = 0,
    ngx_http_hotpath_from_zone_stale,
    ngx_http_hotpath_from_redis,
    ngx_http_hotpath_from_postgres,
    ngx_http_hotpath_from_other        /* collapsed with another request */
} ngx_http_hotpath_from_e;


static ngx_int_t ngx_http_hotpath_read_join(ngx_http_request_t *r,
    ngx_http_hotpath_read_ctx_t *ctx, ngx_str_t *zone_key, ngx_str_t *tenant,
    ngx_str_t *key);
static void ngx_http_hotpath_read_leave(void *data);
static ngx_http_hotpath_fetch_t *ngx_http_hotpath_fetch_begin(
    ngx_http_hotpath_main_conf_t *mcf, ngx_http_hotpath_model_t *model,
    ngx_str_t *zone_key, ngx_str_t *tenant, ngx_str_t *key, ngx_log_t *log);
static ngx_int_t ngx_http_hotpath_fetch_ask(ngx_http_hotpath_fetch_t *f);
static ngx_int_t ngx_http_hotpath_fetch_ask_postgres(
    ngx_http_hotpath_fetch_t *f);
static void ngx_http_hotpath_fetch_redis(void *data, ngx_int_t rc,
    ngx_str_t *value);
static void ngx_http_hotpath_fetch_postgres(void *data, ngx_int_t rc,
    PGresult *result);
static void ngx_http_hotpath_fetch_to_redis(ngx_http_hotpath_fetch_t *f,
    hp_doc_t *doc);
static void ngx_http_hotpath_fetch_found(ngx_http_hotpath_fetch_t *f,
    hp_doc_t *doc, ngx_uint_t negative, ngx_http_hotpath_from_e from);
static void ngx_http_hotpath_fetch_end(ngx_http_hotpath_fetch_t *f,
    ngx_http_hotpath_cache_meta_t *meta, ngx_str_t *document,
    ngx_http_hotpath_from_e from);
static ngx_int_t ngx_http_hotpath_read_answer(ngx_http_request_t *r,
    ngx_http_hotpath_model_t *model, ngx_http_hotpath_cache_meta_t *meta,
    ngx_str_t *document, ngx_http_hotpath_from_e from);
static uint64_t ngx_http_hotpath_now_ms(void);


static ngx_rbtree_t       ngx_http_hotpath_fetches;
static ngx_rbtree_node_t  ngx_http_hotpath_fetches_sentinel;

static ngx_str_t  ngx_http_hotpath_document_type =
    ngx_string("application/json");


ngx_int_t
ngx_http_hotpath_read_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf)
{
    ngx_rbtree_init(&ngx_http_hotpath_fetches,
                    &ngx_http_hotpath_fetches_sentinel,
                    ngx_str_rbtree_insert_value);
    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_read_handler(ngx_http_request_t *r)
{
    u_char                         buffer[1280];
    uint64_t                       now_ms;
    ngx_int_t                      rc;
    ngx_str_t                      tenant, key, zone_key, document;
    ngx_http_hotpath_read_ctx_t   *ctx;
    ngx_http_hotpath_loc_conf_t   *lcf;
    ngx_http_hotpath_cache_meta_t  meta;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_hotpath_refuse_method(r, &ngx_http_hotpath_allow_get);
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    /* which document */

    if (lcf->shared) {
        ngx_str_set(&tenant, "");

    } else {
        rc = ngx_http_hotpath_tenant(r, lcf, &tenant);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_DECLINED) {
            return ngx_http_hotpath_problem(r,
                                     NGX_HTTP_HOTPATH_PROBLEM_TENANT_INVALID);
        }
    }

    if (lcf->key) {
        if (ngx_http_complex_value(r, lcf->key, &key) != NGX_OK) {
            return NGX_ERROR;
        }

    } else {
        ngx_http_hotpath_uri_rest(r, &key);
    }

    if (key.len == 0 || key.len > HP_DOC_KEY_MAX
        || ngx_strlchr(key.data, key.data + key.len, '\0') != NULL)
    {
        return ngx_http_hotpath_problem(r,
                                   NGX_HTTP_HOTPATH_PROBLEM_READ_KEY_INVALID);
    }

    zone_key.data = buffer;
    ngx_http_hotpath_zone_key(&zone_key, &lcf->model->name, &tenant, &key);

    /* from memory */

    rc = ngx_http_hotpath_cache_get(lcf->model->cache, &zone_key, r->pool,
                                    &meta, &document);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    now_ms = ngx_http_hotpath_now_ms();

    if (rc == NGX_OK && meta.trusted && meta.fresh_ms > now_ms) {
        ngx_http_hotpath_count(READ_HIT);
        return ngx_http_hotpath_read_answer(r, lcf->model, &meta, &document,
                                            ngx_http_hotpath_from_zone);
    }

    /* from further away */

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_hotpath_read_ctx_t));
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ctx->request = r;

    if (rc == NGX_OK && meta.stale_ms > now_ms) {
        ctx->stale = 1;
        ctx->meta = meta;
        ctx->document = document;
    }

    return ngx_http_hotpath_read_join(r, ctx, &zone_key, &tenant, &key);
}


/* Waits for the fetch of that key, which begins here if there is none. */

static ngx_int_t
ngx_http_hotpath_read_join(ngx_http_request_t *r,
    ngx_http_hotpath_read_ctx_t *ctx, ngx_str_t *zone_key, ngx_str_t *tenant,
    ngx_str_t *key)
{
    uint32_t                       hash;
    ngx_pool_cleanup_t            *cln;
    ngx_http_hotpath_fetch_t      *f;
    ngx_http_hotpath_loc_conf_t   *lcf;
    ngx_http_hotpath_main_conf_t  *mcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);
    mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    hash = ngx_crc32_short(zone_key->data, zone_key->len);

    f = (ngx_http_hotpath_fetch_t *)
            ngx_str_rbtree_lookup(&ngx_http_hotpath_fetches, zone_key, hash);

    if (f == NULL) {
        f = ngx_http_hotpath_fetch_begin(mcf, lcf->model, zone_key, tenant,
                                         key, ngx_cycle->log);

        if (f == NULL) {
            if (ctx->stale) {
                ngx_http_hotpath_count(READ_STALE);
                return ngx_http_hotpath_read_answer(r, lcf->model, &ctx->meta,
                                        &ctx->document,
                                        ngx_http_hotpath_from_zone_stale);
            }

            ngx_http_hotpath_count(READ_UNAVAILABLE);
            return ngx_http_hotpath_problem(r,
                                NGX_HTTP_HOTPATH_PROBLEM_BACKEND_UNAVAILABLE);
        }

        ctx->first = 1;
    }

    ctx->fetch = f;
    ngx_queue_insert_tail(&f->requests, &ctx->queue);

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

    if (ctx->fetch) {
        ngx_queue_remove(&ctx->queue);
        ctx->fetch = NULL;
    }
}


static ngx_http_hotpath_fetch_t *
ngx_http_hotpath_fetch_begin(ngx_http_hotpath_main_conf_t *mcf,
    ngx_http_hotpath_model_t *model, ngx_str_t *zone_key, ngx_str_t *tenant,
    ngx_str_t *key, ngx_log_t *log)
{
    u_char                    *p;
    ngx_pool_t                *pool;
    ngx_http_hotpath_fetch_t  *f;

    pool = ngx_create_pool(NGX_HTTP_HOTPATH_FETCH_POOL, log);
    if (pool == NULL) {
        return NULL;
    }

    f = ngx_pcalloc(pool, sizeof(ngx_http_hotpath_fetch_t));

    p = ngx_pnalloc(pool, zone_key->len + sizeof("hotpath:doc:::")
                          + model->name.len + tenant->len + key->len);

    if (f == NULL || p == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    f->pool = pool;
    f->mcf = mcf;
    f->model = model;
    ngx_queue_init(&f->requests);

    f->node.str.data = p;
    f->node.str.len = zone_key->len;
    p = ngx_cpymem(p, zone_key->data, zone_key->len);

    f->redis_key.data = p;
    p = ngx_sprintf(p, "hotpath:doc:%V:%V:", &model->name, tenant);
    f->key.data = p;
    p = ngx_cpymem(p, key->data, key->len);
    f->key.len = key->len;
    f->redis_key.len = p - f->redis_key.data;
    f->tenant.data = f->key.data - tenant->len - 1;
    f->tenant.len = tenant->len;

    if (ngx_http_hotpath_fetch_ask(f) != NGX_OK) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    f->node.node.key = ngx_crc32_short(zone_key->data, zone_key->len);
    ngx_rbtree_insert(&ngx_http_hotpath_fetches, &f->node.node);

    return f;
}


/* NGX_OK: one of the backends was asked and will answer, later. */

static ngx_int_t
ngx_http_hotpath_fetch_ask(ngx_http_hotpath_fetch_t *f)
{
    if (f->mcf->redis) {
        f->redis = ngx_http_hotpath_redis_get(f->mcf->redis, &f->redis_key,
                                             ngx_http_hotpath_fetch_redis, f);
        if (f->redis) {
            return NGX_OK;
        }
    }

    return ngx_http_hotpath_fetch_ask_postgres(f);
}


static ngx_int_t
ngx_http_hotpath_fetch_ask_postgres(ngx_http_hotpath_fetch_t *f)
{
    ngx_str_t  params[2];

    if (f->mcf->postgres == NULL) {
        return NGX_ERROR;
    }

    params[0] = f->tenant;
    params[1] = f->key;

    f->postgres = ngx_http_hotpath_postgres_query(f->mcf->postgres,
                                        f->model->statement, params, 2,
                                        ngx_http_hotpath_fetch_postgres, f);

    return f->postgres ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_hotpath_fetch_redis(void *data, ngx_int_t rc, ngx_str_t *value)
{
    ngx_http_hotpath_fetch_t *f = data;

    hp_doc_t  doc;
    hp_str_t  text;

    f->redis = NULL;

    if (rc == NGX_OK) {
        text.data = value->data;
        text.len = value->len;

        if (hp_doc_read_value(&doc, text) == 0
            && doc.tenant.len == f->tenant.len
            && ngx_memcmp(doc.tenant.data, f->tenant.data, f->tenant.len) == 0
            && doc.key.len == f->key.len
            && ngx_memcmp(doc.key.data, f->key.data, f->key.len) == 0)
        {
            ngx_http_hotpath_fetch_found(f, &doc, doc.deleted,
                                         ngx_http_hotpath_from_redis);
            return;
        }

        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "hotpath: redis key \"%V\" holds no document",
                      &f->redis_key);
        ngx_http_hotpath_count(REDIS_ERRORS);
    }

    if (ngx_http_hotpath_fetch_ask_postgres(f) != NGX_OK) {
        ngx_http_hotpath_fetch_end(f, NULL, NULL,
                                   ngx_http_hotpath_from_postgres);
    }
}


/* Columns: version, document, modified in microseconds since 1970, deleted. */

static void
ngx_http_hotpath_fetch_postgres(void *data, ngx_int_t rc, PGresult *result)
{
    ngx_http_hotpath_fetch_t *f = data;

    hp_doc_t     doc;
    const char  *version;

    f->postgres = NULL;

    if (rc != NGX_OK || PQnfields(result) != 4) {

        if (rc == NGX_OK) {
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                          "hotpath: the statement of model \"%V\" gives %d "
                          "columns instead of version, document, modified_us "
                          "and deleted", &f->model->name, PQnfields(result));
        }

        ngx_http_hotpath_fetch_end(f, NULL, NULL,
                                   ngx_http_hotpath_from_postgres);
        return;
    }

    ngx_memzero(&doc, sizeof(hp_doc_t));

    if (PQntuples(result) == 0) {
        ngx_http_hotpath_fetch_found(f, &doc, 1,
                                     ngx_http_hotpath_from_postgres);
        return;
    }

    version = PQgetvalue(result, 0, 0);

    doc.version = (uint64_t) strtoll(version, NULL, 10);
    doc.document.data = (u_char *) PQgetvalue(result, 0, 1);
    doc.document.len = PQgetlength(result, 0, 1);
    doc.modified_us = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
    doc.deleted = PQgetvalue(result, 0, 3)[0] == 't';
    doc.tenant.data = f->tenant.data;
    doc.tenant.len = f->tenant.len;
    doc.key.data = f->key.data;
    doc.key.len = f->key.len;

    ngx_http_hotpath_fetch_to_redis(f, &doc);
    ngx_http_hotpath_fetch_found(f, &doc, doc.deleted,
                                 ngx_http_hotpath_from_postgres);
}


static void
ngx_http_hotpath_fetch_to_redis(ngx_http_hotpath_fetch_t *f, hp_doc_t *doc)
{
    u_char     *p;
    ngx_str_t   record;

    if (f->mcf->redis == NULL) {
        return;
    }

    p = ngx_palloc(f->pool, hp_doc_size(doc));
    if (p == NULL) {
        return;
    }

    /* Redis keeps the record without its length */
    record.len = hp_doc_write(p, doc) - p - 4;
    record.data = p + 4;

    ngx_http_hotpath_redis_set_document(f->mcf->redis, &f->redis_key, &record,
                                        f->model->redis_ttl);
}


static void
ngx_http_hotpath_fetch_found(ngx_http_hotpath_fetch_t *f, hp_doc_t *doc,
    ngx_uint_t negative, ngx_http_hotpath_from_e from)
{
    ngx_int_t                      rc;
    ngx_str_t                      document;
    ngx_http_hotpath_cache_meta_t  meta;

    ngx_memzero(&meta, sizeof(ngx_http_hotpath_cache_meta_t));

    meta.version = doc->version;
    meta.modified_us = doc->modified_us;
    meta.negative = negative ? 1 : 0;
    meta.trusted = 1;
    ngx_http_hotpath_times(f->model, &meta);

    document.data = (u_char *) doc->document.data;
    document.len = negative ? 0 : doc->document.len;

    rc = ngx_http_hotpath_cache_put(f->model->cache, &f->node.str, &meta,
                                    &document);

    if (rc == NGX_ABORT) {
        /* a newer version was pushed while this one was on its way */
        if (ngx_http_hotpath_cache_get(f->model->cache, &f->node.str, f->pool,
                                       &meta, &document)
            == NGX_ERROR)
        {
            ngx_http_hotpath_fetch_end(f, NULL, NULL, from);
            return;
        }
    }

    ngx_http_hotpath_fetch_end(f, &meta, &document, from);
}


/* Answers everybody who waits; meta is NULL where no backend answered. */

static void
ngx_http_hotpath_fetch_end(ngx_http_hotpath_fetch_t *f,
    ngx_http_hotpath_cache_meta_t *meta, ngx_str_t *document,
    ngx_http_hotpath_from_e from)
{
    ngx_int_t                     rc;
    ngx_str_t                     copy;
    ngx_queue_t                  *q;
    ngx_connection_t             *c;
    ngx_http_request_t           *r;
    ngx_http_hotpath_read_ctx_t  *ctx;

    ngx_rbtree_delete(&ngx_http_hotpath_fetches, &f->node.node);

    while (!ngx_queue_empty(&f->requests)) {
        q = ngx_queue_head(&f->requests);
        ngx_queue_remove(q);

        ctx = ngx_queue_data(q, ngx_http_hotpath_read_ctx_t, queue);
        ctx->fetch = NULL;

        r = ctx->request;
        c = r->connection;

        ngx_http_set_log_request(c->log, r);

        if (meta) {
            copy.len = document->len;
            copy.data = ngx_pnalloc(r->pool, copy.len + 1);

            if (copy.data == NULL) {
                rc = NGX_ERROR;

            } else {
                if (copy.len) {
                    ngx_memcpy(copy.data, document->data, copy.len);
                }

                if (!ctx->first) {
                    ngx_http_hotpath_count(READ_COLLAPSED);
                } else if (from == ngx_http_hotpath_from_redis) {
                    ngx_http_hotpath_count(READ_REDIS);
                } else {
                    ngx_http_hotpath_count(READ_POSTGRES);
                }

                rc = ngx_http_hotpath_read_answer(r, f->model, meta, &copy,
                              ctx->first ? from : ngx_http_hotpath_from_other);
            }

        } else if (ctx->stale) {
            ngx_http_hotpath_count(READ_STALE);
            rc = ngx_http_hotpath_read_answer(r, f->model, &ctx->meta,
                                              &ctx->document,
                                            ngx_http_hotpath_from_zone_stale);

        } else {
            ngx_http_hotpath_count(READ_UNAVAILABLE);
            rc = ngx_http_hotpath_problem(r,
                                NGX_HTTP_HOTPATH_PROBLEM_BACKEND_UNAVAILABLE);
        }

        ngx_http_finalize_request(r, rc);
        ngx_http_run_posted_requests(c);
    }

    ngx_destroy_pool(f->pool);
}


static ngx_int_t
ngx_http_hotpath_read_answer(ngx_http_request_t *r,
    ngx_http_hotpath_model_t *model, ngx_http_hotpath_cache_meta_t *meta,
    ngx_str_t *document, ngx_http_hotpath_from_e from)
{
    u_char           *p;
    int64_t           age, ttl;
    uint64_t          now_ms;
    ngx_str_t         age_value, status_value, etag_value;
    ngx_table_elt_t  *etag;

    static ngx_str_t  age_name = ngx_string("Age");
    static ngx_str_t  status_name = ngx_string("Cache-Status");
    static ngx_str_t  control_name = ngx_string("Cache-Control");

    static ngx_str_t  how[] = {
        ngx_string("Hotpath; hit; ttl="),
        ngx_string("Hotpath; hit; detail=stale-if-error; ttl="),
        ngx_string("Hotpath; fwd=miss; stored; detail=redis; ttl="),
        ngx_string("Hotpath; fwd=miss; stored; detail=postgres; ttl="),
        ngx_string("Hotpath; fwd=miss; collapsed; ttl=")
    };

    p = ngx_pnalloc(r->pool, 2 * NGX_INT64_LEN + 18 + how[from].len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    now_ms = ngx_http_hotpath_now_ms();
    age = ((int64_t) now_ms - (int64_t) meta->stored_ms) / 1000;
    ttl = ((int64_t) meta->fresh_ms - (int64_t) now_ms) / 1000;

    age_value.data = p;
    p = ngx_sprintf(p, "%L", age > 0 ? age : 0);
    age_value.len = p - age_value.data;

    status_value.data = p;
    p = ngx_cpymem(p, how[from].data, how[from].len);
    p = ngx_sprintf(p, "%L", ttl);
    status_value.len = p - status_value.data;

    if (ngx_http_hotpath_header(r, &age_name, &age_value) != NGX_OK
        || ngx_http_hotpath_header(r, &status_name, &status_value) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (meta->negative) {
        return ngx_http_hotpath_problem(r,
                                   NGX_HTTP_HOTPATH_PROBLEM_DOCUMENT_UNKNOWN);
    }

    if (model->cache_control.len
        && ngx_http_hotpath_header(r, &control_name, &model->cache_control)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    etag_value.data = p;
    etag_value.len = 18;
    *p++ = '"';
    p = ngx_hex_dump(p, (u_char[8]) {
        (u_char) (meta->version >> 56), (u_char) (meta->version >> 48),
        (u_char) (meta->version >> 40), (u_char) (meta->version >> 32),
        (u_char) (meta->version >> 24), (u_char) (meta->version >> 16),
        (u_char) (meta->version >> 8), (u_char) meta->version }, 8);
    *p = '"';

    etag = ngx_list_push(&r->headers_out.headers);
    if (etag == NULL) {
        return NGX_ERROR;
    }

    etag->hash = 1;
    ngx_str_set(&etag->key, "ETag");
    etag->value = etag_value;
#if (nginx_version >= 1023000)
    etag->next = NULL;
#endif

    /* nginx's own filter compares it with If-None-Match */
    r->headers_out.etag = etag;

    return ngx_http_hotpath_send(r, NGX_HTTP_OK,
                                 &ngx_http_hotpath_document_type, document);
}


void
ngx_http_hotpath_times(ngx_http_hotpath_model_t *model,
    ngx_http_hotpath_cache_meta_t *meta)
{
    meta->stored_ms = ngx_http_hotpath_now_ms();
    meta->fresh_ms = meta->stored_ms
                     + (meta->negative ? model->negative_ttl : model->ttl);
    meta->stale_ms = meta->fresh_ms + model->stale;
}


void
ngx_http_hotpath_zone_key(ngx_str_t *dst, ngx_str_t *model, ngx_str_t *tenant,
    ngx_str_t *key)
{
    u_char  *p;

    p = ngx_cpymem(dst->data, model->data, model->len);
    *p++ = '\0';
    p = ngx_cpymem(p, tenant->data, tenant->len);
    *p++ = '\0';
    p = ngx_cpymem(p, key->data, key->len);

    dst->len = p - dst->data;
}


static uint64_t
ngx_http_hotpath_now_ms(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (uint64_t) tp->sec * 1000 + tp->msec;
}
