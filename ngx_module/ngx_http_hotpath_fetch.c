/*
 * ngx_http_hotpath_fetch.c: what no zone has is fetched, once for everybody.
 *
 * One fetch per key and worker is under way, however many wait for it, and
 * before it asks anybody it passes two gates:
 *
 *   joined    another worker of this instance asks (flight): wait until it has
 *   redis     GET of the document
 *   leased    another instance asks (a key in Redis, SET NX PX): look into
 *             Redis again, soon and then less often, until it has
 *   postgres  the statement of the model; the document goes to Redis, the
 *             answer "there is none" into the lease, where others find it
 *
 * Both gates are hints with a deadline: who waited too long asks by himself,
 * so a fetch ends when the deadlines of the gates and the backends have
 * passed. What it got goes into the zone, then to those who wait; where nobody
 * could answer they get nothing and decide by themselves (stale, or 503). A
 * fetch outlives those who wait, so that a client that goes away does not
 * waste it.
 *
 * Owns the fetches and their pools; bounded by FETCHES per worker. Runs in the
 * event loop of every worker with no lock held. Never in here: a wait. Tests:
 * tests/integration/test_read.py, test_flight.py, tests/faults/.
 */


#include "ngx_http_hotpath_fetch.h"
#include "ngx_http_hotpath_flight.h"
#include "core/hp_id.h"
#include "core/hp_json.h"


/* A tag as it stands in a document. One that is longer cannot be purged by,
 * however it was escaped (HP_PURGE_TAG_MAX). */
#define NGX_HTTP_HOTPATH_TAG_MAX         1536

#define NGX_HTTP_HOTPATH_FETCH_POOL      2048
#define NGX_HTTP_HOTPATH_FETCHES         8192

/* Of background renewals, which nobody waits for: fewer. */
#define NGX_HTTP_HOTPATH_FETCH_RENEWALS  256

/* How long one worker, or one instance, is waited for at most; how often one
 * that waits looks for himself. */
#define NGX_HTTP_HOTPATH_FLIGHT_MS       3000
#define NGX_HTTP_HOTPATH_FLIGHT_LOOK_MS  50
#define NGX_HTTP_HOTPATH_LEASE_MS        1000
#define NGX_HTTP_HOTPATH_LEASE_LOOK_MS   3

/* A lease that says: Postgres has no such document. Any other value says that
 * somebody asks. */
#define NGX_HTTP_HOTPATH_LEASE_ABSENT    "-"
#define NGX_HTTP_HOTPATH_LEASE_HELD      "+"


typedef enum {
    ngx_http_hotpath_fetch_joined = 0,
    ngx_http_hotpath_fetch_asking,
    ngx_http_hotpath_fetch_leased
} ngx_http_hotpath_fetch_state_e;


struct ngx_http_hotpath_fetch_s {
    ngx_str_node_t                     node;      /* key: the zone's */
    ngx_queue_t                        waiters;
    ngx_queue_t                        queue;     /* among the joined */
    ngx_pool_t                        *pool;
    ngx_http_hotpath_main_conf_t      *mcf;
    ngx_http_hotpath_model_t          *model;
    ngx_str_t                          tenant;
    ngx_str_t                          key;
    ngx_str_t                          redis_key;
    ngx_str_t                          lease_key;
    ngx_str_t                         *params;
    ngx_uint_t                         nparams;
    void                              *data;

    ngx_http_hotpath_fetch_state_e     state;
    uint64_t                           hash;      /* of the flight */
    uint64_t                           begun;     /* of the zone */
    uint64_t                           since_ms;  /* wall clock */
    ngx_msec_t                         deadline;  /* of the gate it waits at */
    ngx_msec_t                         look;      /* until it looks again */
    ngx_event_t                        timer;
    ngx_http_hotpath_redis_call_t     *redis;
    ngx_http_hotpath_postgres_call_t  *postgres;
    unsigned                           force:1;   /* Redis is not asked */
    unsigned                           flying:1;  /* must leave the flight */
    unsigned                           lease:1;   /* has the fleet's lease */
    unsigned                           renewal:1; /* nobody waited at first */
};


static ngx_http_hotpath_fetch_t *ngx_http_hotpath_fetch_find(
    ngx_str_t *zone_key);
static ngx_http_hotpath_fetch_t *ngx_http_hotpath_fetch_create(
    ngx_http_hotpath_main_conf_t *mcf, ngx_http_hotpath_wanted_t *wanted,
    ngx_uint_t force);
static ngx_int_t ngx_http_hotpath_fetch_copy(ngx_http_hotpath_fetch_t *f,
    ngx_http_hotpath_wanted_t *wanted);
static void ngx_http_hotpath_fetch_unlink(ngx_http_hotpath_fetch_t *f);
static ngx_int_t ngx_http_hotpath_fetch_begin(ngx_http_hotpath_fetch_t *f);
static ngx_int_t ngx_http_hotpath_fetch_ask(ngx_http_hotpath_fetch_t *f);
static ngx_int_t ngx_http_hotpath_fetch_ask_postgres(
    ngx_http_hotpath_fetch_t *f);
static void ngx_http_hotpath_fetch_wake(void *data);
static void ngx_http_hotpath_fetch_timer(ngx_event_t *ev);
static void ngx_http_hotpath_fetch_look(ngx_http_hotpath_fetch_t *f);
static void ngx_http_hotpath_fetch_redis(void *data, ngx_int_t rc,
    ngx_str_t *value);
static ngx_int_t ngx_http_hotpath_fetch_value(ngx_http_hotpath_fetch_t *f,
    hp_doc_t *doc, void *data, size_t len);
static ngx_int_t ngx_http_hotpath_fetch_lease(ngx_http_hotpath_fetch_t *f);
static void ngx_http_hotpath_fetch_leased_reply(void *data,
    redisReply *reply);
static void ngx_http_hotpath_fetch_look_reply(void *data, redisReply *reply);
static void ngx_http_hotpath_fetch_release(ngx_http_hotpath_fetch_t *f,
    ngx_uint_t absent);
static void ngx_http_hotpath_fetch_postgres(void *data, ngx_int_t rc,
    PGresult *result);
static void ngx_http_hotpath_fetch_page(ngx_http_hotpath_fetch_t *f,
    PGresult *result);
static void ngx_http_hotpath_fetch_to_redis(ngx_http_hotpath_fetch_t *f,
    hp_doc_t *doc);
static void ngx_http_hotpath_fetch_found(ngx_http_hotpath_fetch_t *f,
    hp_doc_t *doc, const char *from);
static void ngx_http_hotpath_fetch_stored(ngx_http_hotpath_fetch_t *f,
    ngx_int_t rc, ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content, const char *from);
static void ngx_http_hotpath_fetch_failed(ngx_http_hotpath_fetch_t *f);
static void ngx_http_hotpath_fetch_end(ngx_http_hotpath_fetch_t *f,
    ngx_http_hotpath_copy_t *copy, ngx_http_hotpath_how_t *how);
static void ngx_http_hotpath_document(ngx_http_hotpath_model_t *model,
    hp_doc_t *doc, u_char *head, uint64_t *tag,
    ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content);


static ngx_rbtree_t       ngx_http_hotpath_fetches;
static ngx_rbtree_node_t  ngx_http_hotpath_fetches_sentinel;
static ngx_queue_t        ngx_http_hotpath_fetches_joined;
static ngx_uint_t         ngx_http_hotpath_fetches_n;
static ngx_uint_t         ngx_http_hotpath_renewals_n;


ngx_int_t
ngx_http_hotpath_fetch_start(ngx_cycle_t *cycle)
{
    ngx_rbtree_init(&ngx_http_hotpath_fetches,
                    &ngx_http_hotpath_fetches_sentinel,
                    ngx_str_rbtree_insert_value);
    ngx_queue_init(&ngx_http_hotpath_fetches_joined);

    return ngx_http_hotpath_flight_on_wake(ngx_http_hotpath_fetch_wake, NULL);
}


ngx_int_t
ngx_http_hotpath_fetch_join(ngx_http_hotpath_main_conf_t *mcf,
    ngx_http_hotpath_wanted_t *wanted, ngx_uint_t force,
    ngx_http_hotpath_fetch_waiter_t *waiter)
{
    ngx_http_hotpath_fetch_t  *f;

    f = ngx_http_hotpath_fetch_find(&wanted->zone_key);

    waiter->first = 0;

    if (f == NULL) {
        f = ngx_http_hotpath_fetch_create(mcf, wanted, force);
        if (f == NULL) {
            return NGX_DECLINED;
        }

        if (ngx_http_hotpath_fetch_begin(f) != NGX_OK) {
            ngx_http_hotpath_fetch_unlink(f);
            ngx_destroy_pool(f->pool);
            return NGX_DECLINED;
        }

        waiter->first = 1;
    }

    waiter->fetch = f;
    ngx_queue_insert_tail(&f->waiters, &waiter->queue);

    return NGX_OK;
}


void
ngx_http_hotpath_fetch_leave(ngx_http_hotpath_fetch_waiter_t *waiter)
{
    if (waiter->fetch) {
        ngx_queue_remove(&waiter->queue);
        waiter->fetch = NULL;
    }
}


void
ngx_http_hotpath_fetch_renew(ngx_http_hotpath_main_conf_t *mcf,
    ngx_http_hotpath_wanted_t *wanted)
{
    ngx_http_hotpath_fetch_t  *f;

    if (ngx_http_hotpath_renewals_n == NGX_HTTP_HOTPATH_FETCH_RENEWALS
        || ngx_http_hotpath_fetch_find(&wanted->zone_key))
    {
        return;
    }

    f = ngx_http_hotpath_fetch_create(mcf, wanted, 0);
    if (f == NULL) {
        return;
    }

    f->renewal = 1;
    ngx_http_hotpath_renewals_n++;

    if (ngx_http_hotpath_fetch_begin(f) != NGX_OK) {
        ngx_http_hotpath_fetch_unlink(f);
        ngx_destroy_pool(f->pool);
        return;
    }

    ngx_http_hotpath_count(READ_RENEWALS);
}


static ngx_http_hotpath_fetch_t *
ngx_http_hotpath_fetch_find(ngx_str_t *zone_key)
{
    return (ngx_http_hotpath_fetch_t *)
               ngx_str_rbtree_lookup(&ngx_http_hotpath_fetches, zone_key,
                                     ngx_crc32_short(zone_key->data,
                                                     zone_key->len));
}


/* In the tree, and asking nobody yet. */

static ngx_http_hotpath_fetch_t *
ngx_http_hotpath_fetch_create(ngx_http_hotpath_main_conf_t *mcf,
    ngx_http_hotpath_wanted_t *wanted, ngx_uint_t force)
{
    ngx_pool_t                *pool;
    ngx_http_hotpath_fetch_t  *f;

    if (ngx_http_hotpath_fetches_n == NGX_HTTP_HOTPATH_FETCHES) {
        return NULL;
    }

    pool = ngx_create_pool(NGX_HTTP_HOTPATH_FETCH_POOL, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    f = ngx_pcalloc(pool, sizeof(ngx_http_hotpath_fetch_t));
    if (f == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    f->pool = pool;
    f->mcf = mcf;
    f->model = wanted->model;
    f->force = force;
    f->since_ms = ngx_http_hotpath_now_ms();
    f->timer.handler = ngx_http_hotpath_fetch_timer;
    f->timer.data = f;
    f->timer.log = ngx_cycle->log;
    ngx_queue_init(&f->waiters);

    if (ngx_http_hotpath_fetch_copy(f, wanted) != NGX_OK) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    f->hash = hp_hash64(f->node.str.data, f->node.str.len,
                        (uintptr_t) f->model->rules.cache) | 1;
    f->node.node.key = ngx_crc32_short(f->node.str.data, f->node.str.len);
    ngx_rbtree_insert(&ngx_http_hotpath_fetches, &f->node.node);
    ngx_http_hotpath_fetches_n++;

    return f;
}


static ngx_int_t
ngx_http_hotpath_fetch_copy(ngx_http_hotpath_fetch_t *f,
    ngx_http_hotpath_wanted_t *wanted)
{
    u_char      *p;
    size_t       size;
    ngx_uint_t   i;
    ngx_str_t   *name;

    name = &f->model->name;

    size = wanted->zone_key.len + 2 * (name->len + wanted->tenant.len
           + wanted->key.len + sizeof("hotpath:lease:::"));

    for (i = 0; i < wanted->nparams; i++) {
        size += wanted->params[i].len;
    }

    p = ngx_pnalloc(f->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    f->node.str.data = p;
    p = ngx_cpymem(p, wanted->zone_key.data, wanted->zone_key.len);
    f->node.str.len = p - f->node.str.data;

    f->redis_key.data = p;
    p = ngx_sprintf(p, "hotpath:doc:%V:", name);
    f->tenant.data = p;
    p = ngx_cpymem(p, wanted->tenant.data, wanted->tenant.len);
    f->tenant.len = wanted->tenant.len;
    *p++ = ':';
    f->key.data = p;
    p = ngx_cpymem(p, wanted->key.data, wanted->key.len);
    f->key.len = wanted->key.len;
    f->redis_key.len = p - f->redis_key.data;

    f->lease_key.data = p;
    p = ngx_sprintf(p, "hotpath:lease:%V:%V:%V", name, &f->tenant, &f->key);
    f->lease_key.len = p - f->lease_key.data;

    if (wanted->nparams) {
        f->params = ngx_palloc(f->pool, wanted->nparams * sizeof(ngx_str_t));
        if (f->params == NULL) {
            return NGX_ERROR;
        }

        f->nparams = wanted->nparams;

        for (i = 0; i < wanted->nparams; i++) {
            f->params[i].len = wanted->params[i].len;
            f->params[i].data = NULL;

            if (wanted->params[i].data) {
                f->params[i].data = p;
                p = ngx_cpymem(p, wanted->params[i].data,
                               wanted->params[i].len);
            }
        }
    }

    if (wanted->data_size) {
        f->data = ngx_palloc(f->pool, wanted->data_size);
        if (f->data == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(f->data, wanted->data, wanted->data_size);
    }

    return NGX_OK;
}


/* From here on whoever wants its key begins a fetch of his own. */

static void
ngx_http_hotpath_fetch_unlink(ngx_http_hotpath_fetch_t *f)
{
    ngx_rbtree_delete(&ngx_http_hotpath_fetches, &f->node.node);
    ngx_http_hotpath_fetches_n--;

    if (f->renewal) {
        ngx_http_hotpath_renewals_n--;
    }

    if (f->timer.timer_set) {
        ngx_del_timer(&f->timer);
    }

    if (f->flying) {
        ngx_http_hotpath_flight_leave(f->hash);
    }
}


/* The first gate. NGX_OK: it ends later; NGX_ERROR: nobody can be asked. */

static ngx_int_t
ngx_http_hotpath_fetch_begin(ngx_http_hotpath_fetch_t *f)
{
    switch (ngx_http_hotpath_flight_enter(f->hash,
                                          NGX_HTTP_HOTPATH_FLIGHT_MS))
    {

    case NGX_OK:
        f->flying = 1;
        break;

    case NGX_AGAIN:

        if (f->renewal) {
            return NGX_ERROR;
        }

        ngx_http_hotpath_count(READ_JOINED_WORKER);

        f->state = ngx_http_hotpath_fetch_joined;

        if (f->deadline == 0) {
            f->deadline = ngx_current_msec + NGX_HTTP_HOTPATH_FLIGHT_MS;
        }

        ngx_queue_insert_tail(&ngx_http_hotpath_fetches_joined, &f->queue);
        ngx_add_timer(&f->timer, NGX_HTTP_HOTPATH_FLIGHT_LOOK_MS);

        return NGX_OK;

    default: /* NGX_DECLINED */
        break;
    }

    return ngx_http_hotpath_fetch_ask(f);
}


static ngx_int_t
ngx_http_hotpath_fetch_ask(ngx_http_hotpath_fetch_t *f)
{
    f->state = ngx_http_hotpath_fetch_asking;
    f->begun = ngx_http_hotpath_cache_begun(f->model->rules.cache);

    if (f->mcf->redis && !f->force && f->model->page == NULL) {
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

    f->state = ngx_http_hotpath_fetch_asking;

    if (f->mcf->postgres == NULL) {
        return NGX_ERROR;
    }

    if (f->params) {
        f->postgres = ngx_http_hotpath_postgres_query(f->mcf->postgres,
                                   f->model->statement, f->params, f->nparams,
                                   ngx_http_hotpath_fetch_postgres, f);

    } else {
        params[0] = f->tenant;
        params[1] = f->key;

        f->postgres = ngx_http_hotpath_postgres_query(f->mcf->postgres,
                                        f->model->statement, params, 2,
                                        ngx_http_hotpath_fetch_postgres, f);
    }

    return f->postgres ? NGX_OK : NGX_ERROR;
}


/* Some other worker has left some key. */

static void
ngx_http_hotpath_fetch_wake(void *data)
{
    ngx_queue_t               *q, *next;
    ngx_http_hotpath_fetch_t  *f;

    for (q = ngx_queue_head(&ngx_http_hotpath_fetches_joined);
         q != ngx_queue_sentinel(&ngx_http_hotpath_fetches_joined);
         q = next)
    {
        next = ngx_queue_next(q);
        f = ngx_queue_data(q, ngx_http_hotpath_fetch_t, queue);

        if (!ngx_http_hotpath_flight_held(f->hash)) {
            /* ends it now or makes it ask; what waits for it may begin other
             * fetches, at the end of the queue, but ends none */
            ngx_http_hotpath_fetch_look(f);
        }
    }
}


static void
ngx_http_hotpath_fetch_timer(ngx_event_t *ev)
{
    ngx_str_t                  args[3];
    ngx_http_hotpath_fetch_t  *f;

    f = ev->data;

    if (f->state == ngx_http_hotpath_fetch_joined) {

        /* a wake-up may be lost, as may be who should have sent it */

        if (ngx_http_hotpath_flight_held(f->hash)
            && (ngx_msec_int_t) (f->deadline - ngx_current_msec) > 0)
        {
            ngx_add_timer(&f->timer, NGX_HTTP_HOTPATH_FLIGHT_LOOK_MS);
            return;
        }

        ngx_http_hotpath_fetch_look(f);
        return;
    }

    /* leased */

    if ((ngx_msec_int_t) (f->deadline - ngx_current_msec) > 0) {

        ngx_str_set(&args[0], "MGET");
        args[1] = f->redis_key;
        args[2] = f->lease_key;

        f->redis = ngx_http_hotpath_redis_command(f->mcf->redis, args, 3,
                                        ngx_http_hotpath_fetch_look_reply, f);
        if (f->redis) {
            return;
        }
    }

    if (ngx_http_hotpath_fetch_ask_postgres(f) != NGX_OK) {
        ngx_http_hotpath_fetch_failed(f);
    }
}


/* The worker that asked for it has left it, or takes too long. */

static void
ngx_http_hotpath_fetch_look(ngx_http_hotpath_fetch_t *f)
{
    ngx_int_t                rc;
    ngx_http_hotpath_how_t   how;
    ngx_http_hotpath_copy_t  copy;

    ngx_queue_remove(&f->queue);

    if (f->timer.timer_set) {
        ngx_del_timer(&f->timer);
    }

    rc = ngx_http_hotpath_cache_get(f->model->rules.cache, &f->node.str,
                                    HP_CODING_IDENTITY, f->pool, NULL, &copy);

    if (rc == NGX_OK && copy.meta.trusted
        && copy.meta.fresh_ms > ngx_http_hotpath_now_ms()
        && (!f->force || copy.meta.stored_ms >= f->since_ms))
    {
        ngx_memzero(&how, sizeof(ngx_http_hotpath_how_t));
        how.fwd = HP_FWD_MISS;
        how.collapsed = 1;
        ngx_str_set(&how.detail, "worker");

        ngx_http_hotpath_fetch_end(f, &copy, &how);
        return;
    }

    /* it could not, or did not put it there: this one tries, or joins whoever
     * was faster */

    if ((ngx_msec_int_t) (f->deadline - ngx_current_msec) > 0) {
        rc = ngx_http_hotpath_fetch_begin(f);
    } else {
        rc = ngx_http_hotpath_fetch_ask(f);
    }

    if (rc != NGX_OK) {
        ngx_http_hotpath_fetch_failed(f);
    }
}


static void
ngx_http_hotpath_fetch_redis(void *data, ngx_int_t rc, ngx_str_t *value)
{
    ngx_http_hotpath_fetch_t *f = data;

    hp_doc_t  doc;

    f->redis = NULL;

    if (rc == NGX_OK
        && ngx_http_hotpath_fetch_value(f, &doc, value->data, value->len)
           == NGX_OK)
    {
        ngx_http_hotpath_fetch_found(f, &doc, "redis");
        return;
    }

    /* the second gate, where Redis answers */

    if (rc == NGX_DECLINED && f->mcf->postgres
        && ngx_http_hotpath_fetch_lease(f) == NGX_OK)
    {
        return;
    }

    if (ngx_http_hotpath_fetch_ask_postgres(f) != NGX_OK) {
        ngx_http_hotpath_fetch_failed(f);
    }
}


/* What Redis keeps, if it is this document. */

static ngx_int_t
ngx_http_hotpath_fetch_value(ngx_http_hotpath_fetch_t *f, hp_doc_t *doc,
    void *data, size_t len)
{
    hp_str_t  record;

    record.data = data;
    record.len = len;

    if (hp_doc_read_value(doc, record) == 0
        && doc->tenant.len == f->tenant.len
        && doc->key.len == f->key.len
        && ngx_memcmp(doc->tenant.data, f->tenant.data, f->tenant.len) == 0
        && ngx_memcmp(doc->key.data, f->key.data, f->key.len) == 0)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "hotpath: what Redis keeps under \"%V\" is not this "
                  "document", &f->redis_key);
    ngx_http_hotpath_count(REDIS_ERRORS);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_hotpath_fetch_lease(ngx_http_hotpath_fetch_t *f)
{
    u_char     ms[NGX_INT_T_LEN];
    ngx_str_t  args[6];

    ngx_str_set(&args[0], "SET");
    args[1] = f->lease_key;
    ngx_str_set(&args[2], NGX_HTTP_HOTPATH_LEASE_HELD);
    ngx_str_set(&args[3], "NX");
    ngx_str_set(&args[4], "PX");
    args[5].data = ms;
    args[5].len = ngx_sprintf(ms, "%d", NGX_HTTP_HOTPATH_LEASE_MS) - ms;

    f->redis = ngx_http_hotpath_redis_command(f->mcf->redis, args, 6,
                                      ngx_http_hotpath_fetch_leased_reply, f);

    return f->redis ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_hotpath_fetch_leased_reply(void *data, redisReply *reply)
{
    ngx_http_hotpath_fetch_t *f = data;

    f->redis = NULL;

    if (reply && reply->type == REDIS_REPLY_NIL) {

        /* another instance has it */

        if (f->state != ngx_http_hotpath_fetch_leased) {
            ngx_http_hotpath_count(READ_JOINED_FLEET);
            f->state = ngx_http_hotpath_fetch_leased;
            f->deadline = ngx_current_msec + NGX_HTTP_HOTPATH_LEASE_MS;
            f->look = NGX_HTTP_HOTPATH_LEASE_LOOK_MS;
        }

        ngx_add_timer(&f->timer, f->look);
        f->look = ngx_min(2 * f->look, 100);
        return;
    }

    if (reply && reply->type == REDIS_REPLY_STATUS) {
        f->lease = 1;
    }

    if (ngx_http_hotpath_fetch_ask_postgres(f) != NGX_OK) {
        ngx_http_hotpath_fetch_failed(f);
    }
}


/* The document and the lease, while another instance had the lease. */

static void
ngx_http_hotpath_fetch_look_reply(void *data, redisReply *reply)
{
    ngx_http_hotpath_fetch_t *f = data;

    hp_doc_t     doc;
    redisReply  *document, *lease;

    f->redis = NULL;

    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY
        || reply->elements != 2)
    {
        goto postgres;
    }

    document = reply->element[0];
    lease = reply->element[1];

    if (document->type == REDIS_REPLY_STRING) {

        if (ngx_http_hotpath_fetch_value(f, &doc, document->str,
                                         document->len)
            == NGX_OK)
        {
            ngx_http_hotpath_fetch_found(f, &doc, "fleet");
            return;
        }

        goto postgres;
    }

    if (lease->type == REDIS_REPLY_STRING) {

        if (lease->len == 1
            && lease->str[0] == NGX_HTTP_HOTPATH_LEASE_ABSENT[0])
        {
            ngx_memzero(&doc, sizeof(hp_doc_t));
            doc.deleted = 1;
            ngx_http_hotpath_fetch_found(f, &doc, "fleet");
            return;
        }

        ngx_add_timer(&f->timer, f->look);
        f->look = ngx_min(2 * f->look, 100);
        return;
    }

    /* it has given up */

    if (ngx_http_hotpath_fetch_lease(f) == NGX_OK) {
        return;
    }

postgres:

    if (ngx_http_hotpath_fetch_ask_postgres(f) != NGX_OK) {
        ngx_http_hotpath_fetch_failed(f);
    }
}


/* What was stored in Redis before this is seen by those that look. */

static void
ngx_http_hotpath_fetch_release(ngx_http_hotpath_fetch_t *f, ngx_uint_t absent)
{
    u_char      ms[NGX_INT_T_LEN];
    ngx_str_t   args[5];
    ngx_msec_t  ttl;

    if (!f->lease) {
        return;
    }

    f->lease = 0;
    args[1] = f->lease_key;

    if (!absent) {
        ngx_str_set(&args[0], "UNLINK");
        (void) ngx_http_hotpath_redis_command(f->mcf->redis, args, 2, NULL,
                                              NULL);
        return;
    }

    /* as long as those that wait need to see it, and no longer than this
     * instance believes it */

    ttl = ngx_min(f->model->rules.negative_ttl, 500);

    ngx_str_set(&args[0], "SET");
    ngx_str_set(&args[2], NGX_HTTP_HOTPATH_LEASE_ABSENT);
    ngx_str_set(&args[3], "PX");
    args[4].data = ms;
    args[4].len = ngx_sprintf(ms, "%M", ngx_max(ttl, 1)) - ms;

    (void) ngx_http_hotpath_redis_command(f->mcf->redis, args, 5, NULL, NULL);
}


/* Of a document: version, document, modified in microseconds since 1970,
 * deleted. */

static void
ngx_http_hotpath_fetch_postgres(void *data, ngx_int_t rc, PGresult *result)
{
    ngx_http_hotpath_fetch_t *f = data;

    hp_doc_t  doc;

    f->postgres = NULL;

    if (rc != NGX_OK) {
        ngx_http_hotpath_fetch_failed(f);
        return;
    }

    if (f->model->page) {
        ngx_http_hotpath_fetch_page(f, result);
        return;
    }

    if (PQnfields(result) != 4) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "hotpath: the statement of model \"%V\" gives %d "
                      "columns instead of version, document, modified_us "
                      "and deleted", &f->model->name, PQnfields(result));

        ngx_http_hotpath_fetch_failed(f);
        return;
    }

    ngx_memzero(&doc, sizeof(hp_doc_t));

    if (PQntuples(result) == 0) {
        doc.deleted = 1;
        ngx_http_hotpath_fetch_release(f, 1);

    } else {
        doc.version = (uint64_t) strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        doc.document.data = (u_char *) PQgetvalue(result, 0, 1);
        doc.document.len = PQgetlength(result, 0, 1);
        doc.modified_us = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
        doc.deleted = PQgetvalue(result, 0, 3)[0] == 't';
        doc.tenant.data = f->tenant.data;
        doc.tenant.len = f->tenant.len;
        doc.key.data = f->key.data;
        doc.key.len = f->key.len;

        ngx_http_hotpath_fetch_to_redis(f, &doc);
        ngx_http_hotpath_fetch_release(f, 0);
    }

    ngx_http_hotpath_fetch_found(f, &doc, "postgres");
}


static void
ngx_http_hotpath_fetch_page(ngx_http_hotpath_fetch_t *f, PGresult *result)
{
    ngx_int_t                         rc;
    ngx_http_hotpath_cache_meta_t     meta;
    ngx_http_hotpath_cache_content_t  content;

    ngx_memzero(&meta, sizeof(ngx_http_hotpath_cache_meta_t));
    ngx_memzero(&content, sizeof(ngx_http_hotpath_cache_content_t));

    if (f->model->page(f->model, result, f->data, f->pool, &meta, &content)
        != NGX_OK)
    {
        ngx_http_hotpath_fetch_failed(f);
        return;
    }

    meta.begun = f->begun;
    ngx_http_hotpath_rules_times(&f->model->rules, &meta);

    rc = ngx_http_hotpath_cache_put(f->model->rules.cache, &f->node.str, &meta,
                                    &content);

    ngx_http_hotpath_fetch_stored(f, rc, &meta, &content, "postgres");
}


static void
ngx_http_hotpath_fetch_to_redis(ngx_http_hotpath_fetch_t *f, hp_doc_t *doc)
{
    u_char     *p;
    ngx_str_t   record;

    if (f->mcf->redis == NULL
        || ngx_http_hotpath_cache_begun(f->model->rules.cache) != f->begun)
    {
        /* what was purged while Postgres was asked must not come back */
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
                                        f->model->rules.redis_ttl);
}


static void
ngx_http_hotpath_fetch_found(ngx_http_hotpath_fetch_t *f, hp_doc_t *doc,
    const char *from)
{
    u_char                            head[NGX_HTTP_HOTPATH_HEAD_DOCUMENT];
    uint64_t                          tag;
    ngx_int_t                         rc;
    ngx_http_hotpath_cache_meta_t     meta;
    ngx_http_hotpath_cache_content_t  content;

    ngx_http_hotpath_document(f->model, doc, head, &tag, &meta, &content);
    meta.begun = f->begun;

    rc = ngx_http_hotpath_cache_put(f->model->rules.cache, &f->node.str, &meta,
                                    &content);

    ngx_http_hotpath_fetch_stored(f, rc, &meta, &content, from);
}


static void
ngx_http_hotpath_fetch_stored(ngx_http_hotpath_fetch_t *f, ngx_int_t rc,
    ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content, const char *from)
{
    ngx_http_hotpath_how_t   how;
    ngx_http_hotpath_copy_t  copy;

    ngx_memzero(&how, sizeof(ngx_http_hotpath_how_t));
    how.fwd = HP_FWD_MISS;
    how.stored = (rc == NGX_OK || rc == NGX_ABORT);
    how.detail.data = (u_char *) from;
    how.detail.len = ngx_strlen(from);

    if (rc == NGX_ABORT) {

        /* a newer version was pushed while this one was on its way */

        if (ngx_http_hotpath_cache_get(f->model->rules.cache, &f->node.str,
                                       HP_CODING_IDENTITY, f->pool, NULL, &copy)
            == NGX_OK)
        {
            ngx_http_hotpath_fetch_end(f, &copy, &how);
            return;
        }

        /* and has gone again */
        how.stored = 0;
    }

    copy.meta = *meta;
    copy.head = content->head;
    copy.body = content->body;
    copy.coding = HP_CODING_IDENTITY;
    copy.codings = HP_CODING_IDENTITY;

    ngx_http_hotpath_fetch_end(f, &copy, &how);
}


static void
ngx_http_hotpath_fetch_failed(ngx_http_hotpath_fetch_t *f)
{
    ngx_http_hotpath_how_t  how;

    ngx_http_hotpath_fetch_release(f, 0);

    ngx_memzero(&how, sizeof(ngx_http_hotpath_how_t));
    how.fwd = HP_FWD_MISS;

    ngx_http_hotpath_fetch_end(f, NULL, &how);
}


static void
ngx_http_hotpath_fetch_end(ngx_http_hotpath_fetch_t *f,
    ngx_http_hotpath_copy_t *copy, ngx_http_hotpath_how_t *how)
{
    ngx_queue_t                      *q;
    ngx_http_hotpath_fetch_waiter_t  *waiter;

    ngx_http_hotpath_fetch_unlink(f);

    while (!ngx_queue_empty(&f->waiters)) {
        q = ngx_queue_head(&f->waiters);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_http_hotpath_fetch_waiter_t, queue);
        waiter->fetch = NULL;

        waiter->handler(waiter, copy, how);
    }

    ngx_destroy_pool(f->pool);
}


/* A document as an entry: what is small is written into head and tag, which
 * are the caller's. */

static void
ngx_http_hotpath_document(ngx_http_hotpath_model_t *model, hp_doc_t *doc,
    u_char *head, uint64_t *tag, ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content)
{
    int              is_string;
    u_char           unescaped[NGX_HTTP_HOTPATH_TAG_MAX];
    hp_str_t         name;
    ngx_str_t        text;
    hp_json_slice_t  value;

    ngx_memzero(meta, sizeof(ngx_http_hotpath_cache_meta_t));
    ngx_memzero(content, sizeof(ngx_http_hotpath_cache_content_t));

    meta->version = doc->version;
    meta->modified_us = doc->modified_us;
    meta->negative = doc->deleted ? 1 : 0;
    meta->trusted = 1;
    ngx_http_hotpath_rules_times(&model->rules, meta);

    if (doc->deleted) {
        return;
    }

    content->head.data = head;
    content->head.len = ngx_http_hotpath_head_document(head, doc->version,
                                                       doc->modified_us)
                        - head;
    content->body.data = (u_char *) doc->document.data;
    content->body.len = doc->document.len;

    if (model->tag.len) {
        name.data = model->tag.data;
        name.len = model->tag.len;

        if (hp_json_member(doc->document, name, &value, &is_string)
            && value.raw.len && value.raw.len <= sizeof(unescaped))
        {
            text.data = (u_char *) value.raw.data;
            text.len = value.raw.len;

            if (is_string && value.escaped) {
                text.data = unescaped;
                text.len = hp_json_unescape(unescaped, value.raw);
            }

            *tag = ngx_http_hotpath_cache_tag(&model->name, &text);

            content->tags = tag;
            content->ntags = 1;
        }
    }
}


ngx_int_t
ngx_http_hotpath_store_document(ngx_http_hotpath_model_t *model,
    ngx_str_t *zone_key, hp_doc_t *doc, uint64_t begun)
{
    u_char                            head[NGX_HTTP_HOTPATH_HEAD_DOCUMENT];
    uint64_t                          tag;
    ngx_int_t                         rc;
    ngx_http_hotpath_cache_meta_t     meta;
    ngx_http_hotpath_cache_content_t  content;

    ngx_http_hotpath_document(model, doc, head, &tag, &meta, &content);
    meta.begun = begun;

    rc = ngx_http_hotpath_cache_put(model->rules.cache, zone_key, &meta,
                                    &content);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    /* The zone does not take the document. What it gets instead is the
     * version, which answers nobody, so that an older document answers nobody
     * either. */

    ngx_memzero(&content, sizeof(ngx_http_hotpath_cache_content_t));
    meta.negative = 1;
    meta.fresh_ms = 0;
    meta.revalidate_ms = 0;
    meta.stale_ms = 0;

    return ngx_http_hotpath_cache_put(model->rules.cache, zone_key, &meta,
                                      &content)
           == NGX_BUSY ? NGX_BUSY : NGX_DECLINED;
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
