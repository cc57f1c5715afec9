/*
 * ngx_http_hotpath_purge.c: a purge as one instance carries it out.
 *
 * A purge is a job, in one of four steps:
 *
 *   keys      UNLINK in Redis, then each key in each zone, in one turn
 *   walk      all entries of all zones that match, purged as they are met
 *   collect   the same where entries have documents in Redis: those met in a
 *             turn are unlinked there, and then purged once more, for what was
 *             fetched from Redis in between
 *   scan      all of a model's documents in Redis, by a script that goes
 *             through a part of the key space a call
 *
 * The last three take a few hundred microseconds a turn of the event loop, or
 * one command of Redis at a time. What Redis does not answer is passed over,
 * and told: the zones are purged all the same.
 *
 * Owns the jobs and their pools; a job ends with its last step. A worker that
 * exits finishes its jobs first, one that is killed loses them, and whoever
 * asked misses its answer. No lock is held between turns. Never in here: a
 * walk without an end, an entry left without a word. Tests:
 * tests/integration/test_purge.py, tests/faults/test_purging.py.
 */


#include "ngx_http_hotpath_purge.h"


#define NGX_HTTP_HOTPATH_PURGE_POOL       2048
#define NGX_HTTP_HOTPATH_PURGE_JOBS       256
#define NGX_HTTP_HOTPATH_PURGE_WALKS      8

/* Of a turn of the event loop. */
#define NGX_HTTP_HOTPATH_PURGE_TURN_NS    300000

/* Cells of a zone between two looks at the clock, and so the most entries
 * that a walk meets at once. */
#define NGX_HTTP_HOTPATH_PURGE_CELLS      64

/* Redis: keys looked at by one call of the script (its COUNT), calls in a row
 * that may fail, the wait before the next try, and the end of all patience. */
#define NGX_HTTP_HOTPATH_PURGE_SCAN       "1000"
#define NGX_HTTP_HOTPATH_PURGE_TRIES      3
#define NGX_HTTP_HOTPATH_PURGE_RETRY_MS   100
#define NGX_HTTP_HOTPATH_PURGE_SCAN_MS    60000

#define NGX_HTTP_HOTPATH_PURGE_HOLD_MS    1000

/* The tenants that a key is meant of where none is named: what is shared, and
 * what a location without hotpath_tenant has. */
#define NGX_HTTP_HOTPATH_PURGE_TENANTS    2


typedef enum {
    ngx_http_hotpath_purge_keys_e = 0,
    ngx_http_hotpath_purge_walk_e,
    ngx_http_hotpath_purge_collect_e,
    ngx_http_hotpath_purge_scan_e
} ngx_http_hotpath_purge_step_e;


typedef struct {
    ngx_pool_t                       *pool;
    ngx_http_hotpath_main_conf_t     *mcf;
    hp_purge_t                        purge;
    ngx_http_hotpath_purge_step_e     step;
    ngx_http_hotpath_purge_pt         handler;
    void                             *data;
    ngx_http_hotpath_purged_t         purged;

    ngx_event_t                       event;   /* posted: the next turn */
    ngx_event_t                       timer;   /* keeps the worker; retries */

    /* walk, collect */
    ngx_uint_t                        zone;    /* which one is walked */
    ngx_http_hotpath_cache_walk_t     walk;
    u_char                           *space;   /* of the keys met */
    ngx_str_t                        *met;
    ngx_uint_t                        nmet;

    /* scan */
    u_char                            cursor[NGX_INT64_LEN];
    size_t                            cursor_len;
    ngx_str_t                         pattern;
    ngx_uint_t                        failures;  /* in a row */
    ngx_msec_t                        began;
    unsigned                          waiting:1; /* for the timer */
} ngx_http_hotpath_purge_job_t;


static ngx_int_t ngx_http_hotpath_purge_copy(
    ngx_http_hotpath_purge_job_t *job, hp_purge_t *purge);
static ngx_int_t ngx_http_hotpath_purge_plan(
    ngx_http_hotpath_purge_job_t *job, ngx_http_hotpath_purge_part_e part);
static void ngx_http_hotpath_purge_turn(ngx_event_t *ev);
static void ngx_http_hotpath_purge_timer(ngx_event_t *ev);
static void ngx_http_hotpath_purge_end(ngx_http_hotpath_purge_job_t *job);
static void ngx_http_hotpath_purge_keys(ngx_http_hotpath_purge_job_t *job);
static void ngx_http_hotpath_purge_keys_unlinked(void *data,
    redisReply *reply);
static void ngx_http_hotpath_purge_keys_now(ngx_http_hotpath_purge_job_t *job);
static ngx_uint_t ngx_http_hotpath_purge_tenants(
    ngx_http_hotpath_purge_job_t *job, ngx_str_t *tenants);
static void ngx_http_hotpath_purge_one(ngx_http_hotpath_purge_job_t *job,
    ngx_http_hotpath_cache_t *cache, ngx_str_t *key);
static void ngx_http_hotpath_purge_walk(ngx_http_hotpath_purge_job_t *job);
static void ngx_http_hotpath_purge_meet(void *data, ngx_str_t *key);
static ngx_int_t ngx_http_hotpath_purge_met(ngx_http_hotpath_purge_job_t *job);
static void ngx_http_hotpath_purge_met_unlinked(void *data, redisReply *reply);
static void ngx_http_hotpath_purge_scan(ngx_http_hotpath_purge_job_t *job);
static void ngx_http_hotpath_purge_scanned(void *data, redisReply *reply);
static void ngx_http_hotpath_purge_scan_failed(
    ngx_http_hotpath_purge_job_t *job);
static void ngx_http_hotpath_purge_removed(ngx_http_hotpath_purge_job_t *job,
    redisReply *reply);
static u_char *ngx_http_hotpath_purge_redis_key(u_char *p, const char *kind,
    ngx_str_t *model, ngx_str_t *tenant, ngx_str_t *key);


static ngx_uint_t  ngx_http_hotpath_purge_jobs;
static ngx_uint_t  ngx_http_hotpath_purge_walks;


/* ARGV: cursor, pattern, count. Gives the next cursor, as text, and how many
 * were removed. A part of the key space may hold more than count; unpack()
 * takes no more than some thousands. */
static ngx_http_hotpath_redis_script_t  ngx_http_hotpath_purge_script =
    ngx_http_hotpath_redis_script(
        "local part = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2],"
        " 'COUNT', ARGV[3]) "
        "local n = 0 "
        "for i = 1, #part[2], 1000 do "
        "n = n + redis.call('UNLINK', unpack(part[2], i,"
        " math.min(i + 999, #part[2]))) "
        "end "
        "return {part[1], n}");


ngx_int_t
ngx_http_hotpath_purge_begin(ngx_http_hotpath_main_conf_t *mcf,
    hp_purge_t *purge, ngx_http_hotpath_purge_part_e part,
    ngx_http_hotpath_purge_pt handler, void *data)
{
    ngx_pool_t                    *pool;
    ngx_http_hotpath_purge_job_t  *job;

    if (ngx_http_hotpath_purge_jobs == NGX_HTTP_HOTPATH_PURGE_JOBS
        || (purge->nkeys == 0
            && ngx_http_hotpath_purge_walks == NGX_HTTP_HOTPATH_PURGE_WALKS))
    {
        return NGX_BUSY;
    }

    pool = ngx_create_pool(NGX_HTTP_HOTPATH_PURGE_POOL, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    job = ngx_pcalloc(pool, sizeof(ngx_http_hotpath_purge_job_t));
    if (job == NULL) {
        ngx_destroy_pool(pool);
        return NGX_ERROR;
    }

    job->pool = pool;
    job->mcf = mcf;
    job->handler = handler;
    job->data = data;

    if (ngx_http_hotpath_purge_copy(job, purge) != NGX_OK
        || ngx_http_hotpath_purge_plan(job, part) != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NGX_ERROR;
    }

    job->event.handler = ngx_http_hotpath_purge_turn;
    job->event.data = job;
    job->event.log = ngx_cycle->log;

    job->timer.handler = ngx_http_hotpath_purge_timer;
    job->timer.data = job;
    job->timer.log = ngx_cycle->log;

    ngx_http_hotpath_purge_jobs++;
    ngx_http_hotpath_purge_walks += (purge->nkeys == 0);

    ngx_post_event(&job->event, &ngx_posted_events);
    ngx_add_timer(&job->timer, NGX_HTTP_HOTPATH_PURGE_HOLD_MS);

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_purge_copy(ngx_http_hotpath_purge_job_t *job,
    hp_purge_t *purge)
{
    size_t       size;
    u_char      *p;
    hp_str_t    *text;
    ngx_uint_t   i;

    job->purge = *purge;

    size = purge->model.len + purge->tenant.len + purge->tag.len;
    for (i = 0; i < purge->nkeys; i++) {
        size += purge->keys[i].len;
    }

    p = ngx_pnalloc(job->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < 3 + purge->nkeys; i++) {
        text = i == 0 ? &job->purge.model
             : i == 1 ? &job->purge.tenant
             : i == 2 ? &job->purge.tag
             : &job->purge.keys[i - 3];

        if (text->len) {
            ngx_memcpy(p, text->data, text->len);
        }

        text->data = p;
        p += text->len;
    }

    return NGX_OK;
}


/* Which step is the job's, and what it needs. */

static ngx_int_t
ngx_http_hotpath_purge_plan(ngx_http_hotpath_purge_job_t *job,
    ngx_http_hotpath_purge_part_e part)
{
    u_char      *p;
    ngx_str_t    model, tenant, tag, *prefix;
    ngx_uint_t   redis;
    hp_purge_t  *purge;

    purge = &job->purge;

    model.data = (u_char *) purge->model.data;
    model.len = purge->model.len;
    tenant.data = (u_char *) purge->tenant.data;
    tenant.len = purge->tenant.len;

    /* answers of upstreams, whose models begin with "@", are in no Redis */
    redis = (job->mcf->redis != NULL && model.data[0] != '@');

    if (part == NGX_HTTP_HOTPATH_PURGE_REDIS) {
        job->step = ngx_http_hotpath_purge_scan_e;
        job->began = ngx_current_msec;

        if (redis && purge->nkeys == 0 && purge->tag.len == 0) {
            job->pattern.data = ngx_pnalloc(job->pool,
                                            sizeof("hotpath:doc:::*")
                                            + model.len + tenant.len);
            if (job->pattern.data == NULL) {
                return NGX_ERROR;
            }

            p = ngx_sprintf(job->pattern.data, "hotpath:doc:%V:", &model);

            if (purge->has_tenant) {
                p = ngx_sprintf(p, "%V:", &tenant);
            }

            *p++ = '*';
            job->pattern.len = p - job->pattern.data;

            job->cursor[0] = '0';
            job->cursor_len = 1;
        }

        return NGX_OK;
    }

    if (purge->nkeys) {
        job->step = ngx_http_hotpath_purge_keys_e;
        return NGX_OK;
    }

    prefix = &job->walk.prefix;

    prefix->data = ngx_pnalloc(job->pool, model.len + tenant.len + 2);
    if (prefix->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(prefix->data, model.data, model.len);
    *p++ = '\0';

    if (purge->has_tenant) {
        p = ngx_cpymem(p, tenant.data, tenant.len);
        *p++ = '\0';
    }

    prefix->len = p - prefix->data;

    job->step = ngx_http_hotpath_purge_walk_e;
    job->walk.purge = 1;
    job->walk.hard = !purge->soft;

    if (purge->tag.len == 0) {
        return NGX_OK;
    }

    tag.data = (u_char *) purge->tag.data;
    tag.len = purge->tag.len;
    job->walk.tag = ngx_http_hotpath_cache_tag(&model, &tag);

    if (redis) {
        job->step = ngx_http_hotpath_purge_collect_e;
        job->walk.each = ngx_http_hotpath_purge_meet;
        job->walk.data = job;

        job->met = ngx_palloc(job->pool, NGX_HTTP_HOTPATH_PURGE_CELLS
                                         * sizeof(ngx_str_t));
        job->space = ngx_palloc(job->pool, NGX_HTTP_HOTPATH_PURGE_CELLS
                                           * NGX_HTTP_HOTPATH_ZONE_KEY_MAX);
        if (job->met == NULL || job->space == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_http_hotpath_purge_turn(ngx_event_t *ev)
{
    ngx_http_hotpath_purge_job_t *job = ev->data;

    switch (job->step) {

    case ngx_http_hotpath_purge_keys_e:
        ngx_http_hotpath_purge_keys(job);
        break;

    case ngx_http_hotpath_purge_scan_e:
        ngx_http_hotpath_purge_scan(job);
        break;

    default: /* walk, collect */
        ngx_http_hotpath_purge_walk(job);
        break;
    }
}


/* Not cancelable: a worker that has been told to exit stays until it fires
 * and finds no job. */

static void
ngx_http_hotpath_purge_timer(ngx_event_t *ev)
{
    ngx_http_hotpath_purge_job_t *job = ev->data;

    ngx_add_timer(&job->timer, NGX_HTTP_HOTPATH_PURGE_HOLD_MS);

    if (job->waiting) {
        job->waiting = 0;
        ngx_http_hotpath_purge_scan(job);
    }
}


static void
ngx_http_hotpath_purge_end(ngx_http_hotpath_purge_job_t *job)
{
    void                       *data;
    ngx_http_hotpath_purged_t   purged;
    ngx_http_hotpath_purge_pt   handler;

    handler = job->handler;
    data = job->data;
    purged = job->purged;

    if (job->step != ngx_http_hotpath_purge_scan_e) {
        ngx_http_hotpath_add(PURGED_ENTRIES, purged.purged);
    }

    ngx_http_hotpath_add(PURGED_REDIS, purged.redis);

    if (purged.error) {
        ngx_http_hotpath_count(PURGE_ERRORS);

        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "hotpath: a purge of model \"%*s\" is not complete: %s",
                      job->purge.model.len, job->purge.model.data,
                      purged.error);
    }

    ngx_http_hotpath_purge_jobs--;
    ngx_http_hotpath_purge_walks -= (job->purge.nkeys == 0);

    if (job->timer.timer_set) {
        ngx_del_timer(&job->timer);
    }

    ngx_destroy_pool(job->pool);

    handler(data, &purged);
}


static void
ngx_http_hotpath_purge_keys(ngx_http_hotpath_purge_job_t *job)
{
    size_t       size;
    u_char      *p;
    ngx_str_t    tenants[NGX_HTTP_HOTPATH_PURGE_TENANTS], model, key;
    ngx_str_t   *args, *leases;
    ngx_uint_t   i, t, n, nargs;
    hp_purge_t  *purge;

    purge = &job->purge;

    if (job->mcf->redis == NULL || purge->model.data[0] == '@') {
        ngx_http_hotpath_purge_keys_now(job);
        return;
    }

    n = ngx_http_hotpath_purge_tenants(job, tenants);

    model.data = (u_char *) purge->model.data;
    model.len = purge->model.len;

    size = 0;
    for (i = 0; i < purge->nkeys; i++) {
        size += 2 * n * (sizeof("hotpath:lease:::") + model.len
                         + HP_TENANT_MAX + purge->keys[i].len);
    }

    nargs = n * purge->nkeys + 1;

    args = ngx_palloc(job->pool, 2 * nargs * sizeof(ngx_str_t));
    p = ngx_pnalloc(job->pool, size);

    if (args == NULL || p == NULL) {
        job->purged.error = NGX_HTTP_HOTPATH_PURGE_NO_REDIS;
        ngx_http_hotpath_purge_keys_now(job);
        return;
    }

    leases = args + nargs;
    ngx_str_set(&args[0], "UNLINK");
    leases[0] = args[0];
    nargs = 1;

    for (i = 0; i < purge->nkeys; i++) {
        key.data = (u_char *) purge->keys[i].data;
        key.len = purge->keys[i].len;

        for (t = 0; t < n; t++) {
            args[nargs].data = p;
            p = ngx_http_hotpath_purge_redis_key(p, "doc", &model, &tenants[t],
                                                 &key);
            args[nargs].len = p - args[nargs].data;

            leases[nargs].data = p;
            p = ngx_http_hotpath_purge_redis_key(p, "lease", &model,
                                                 &tenants[t], &key);
            leases[nargs].len = p - leases[nargs].data;

            nargs++;
        }
    }

    /* a lease may say that there is no such document */
    (void) ngx_http_hotpath_redis_command(job->mcf->redis, leases, nargs,
                                          NULL, NULL);

    if (ngx_http_hotpath_redis_command(job->mcf->redis, args, nargs,
                                  ngx_http_hotpath_purge_keys_unlinked, job)
        == NULL)
    {
        job->purged.error = NGX_HTTP_HOTPATH_PURGE_NO_REDIS;
        ngx_http_hotpath_purge_keys_now(job);
    }
}


static void
ngx_http_hotpath_purge_keys_unlinked(void *data, redisReply *reply)
{
    ngx_http_hotpath_purge_job_t *job = data;

    ngx_http_hotpath_purge_removed(job, reply);
    ngx_http_hotpath_purge_keys_now(job);
}


static void
ngx_http_hotpath_purge_keys_now(ngx_http_hotpath_purge_job_t *job)
{
    u_char                     buffer[NGX_HTTP_HOTPATH_ZONE_KEY_MAX];
    ngx_str_t                  tenants[NGX_HTTP_HOTPATH_PURGE_TENANTS];
    ngx_str_t                  model, key, zone_key;
    ngx_uint_t                 i, t, n, zone;
    hp_purge_t                *purge;
    ngx_http_hotpath_cache_t  *cache;

    purge = &job->purge;
    n = ngx_http_hotpath_purge_tenants(job, tenants);

    model.data = (u_char *) purge->model.data;
    model.len = purge->model.len;

    for (zone = 0; /* void */ ; zone++) {

        cache = ngx_http_hotpath_cache_each((ngx_cycle_t *) ngx_cycle, zone);
        if (cache == NULL) {
            break;
        }

        for (i = 0; i < purge->nkeys; i++) {
            key.data = (u_char *) purge->keys[i].data;
            key.len = purge->keys[i].len;

            for (t = 0; t < n; t++) {
                zone_key.data = buffer;
                ngx_http_hotpath_zone_key(&zone_key, &model, &tenants[t],
                                          &key);

                ngx_http_hotpath_purge_one(job, cache, &zone_key);
            }
        }
    }

    ngx_http_hotpath_purge_end(job);
}


static ngx_uint_t
ngx_http_hotpath_purge_tenants(ngx_http_hotpath_purge_job_t *job,
    ngx_str_t *tenants)
{
    if (job->purge.has_tenant) {
        tenants[0].data = (u_char *) job->purge.tenant.data;
        tenants[0].len = job->purge.tenant.len;
        return 1;
    }

    ngx_str_set(&tenants[0], "");
    ngx_str_set(&tenants[1], "default");

    return NGX_HTTP_HOTPATH_PURGE_TENANTS;
}


static void
ngx_http_hotpath_purge_one(ngx_http_hotpath_purge_job_t *job,
    ngx_http_hotpath_cache_t *cache, ngx_str_t *key)
{
    ngx_int_t   rc;
    ngx_uint_t  tries;

    /* a lock is held for microseconds, unless its holder is stopped */

    for (tries = 0; tries < 3; tries++) {
        rc = ngx_http_hotpath_cache_purge(cache, key, !job->purge.soft);

        if (rc != NGX_BUSY) {
            job->purged.purged += (rc == NGX_OK);
            return;
        }
    }

    /* all that can be done without the lock */
    ngx_http_hotpath_cache_distrust(cache);
    job->purged.error = NGX_HTTP_HOTPATH_PURGE_NO_LOCK;
}


static void
ngx_http_hotpath_purge_walk(ngx_http_hotpath_purge_job_t *job)
{
    int64_t                    until_ns;
    ngx_int_t                  rc;
    ngx_http_hotpath_cache_t  *cache;

    until_ns = ngx_http_hotpath_monotonic_ns()
               + NGX_HTTP_HOTPATH_PURGE_TURN_NS;

    do {
        cache = ngx_http_hotpath_cache_each((ngx_cycle_t *) ngx_cycle,
                                            job->zone);
        if (cache == NULL) {
            ngx_http_hotpath_purge_end(job);
            return;
        }

        rc = ngx_http_hotpath_cache_walk(cache, &job->walk,
                                         NGX_HTTP_HOTPATH_PURGE_CELLS);

        job->purged.purged += job->walk.met;
        job->walk.met = 0;

        if (rc == NGX_OK && job->nmet == 0) {
            job->zone++;
            job->walk.position = 0;
        }

        if (job->nmet && ngx_http_hotpath_purge_met(job) == NGX_OK) {
            /* goes on when Redis has answered */
            return;
        }

    } while (ngx_http_hotpath_monotonic_ns() < until_ns);

    ngx_post_event(&job->event, &ngx_posted_next_events);
}


/* Under a lock of the zone. */

static void
ngx_http_hotpath_purge_meet(void *data, ngx_str_t *key)
{
    ngx_http_hotpath_purge_job_t *job = data;

    ngx_str_t  *met;

    met = &job->met[job->nmet];
    met->data = job->space + job->nmet * NGX_HTTP_HOTPATH_ZONE_KEY_MAX;
    met->len = key->len;
    ngx_memcpy(met->data, key->data, key->len);

    job->nmet++;
}


/* NGX_OK: Redis was asked to remove the documents of what was met.
 * NGX_DECLINED: it cannot be. */

static ngx_int_t
ngx_http_hotpath_purge_met(ngx_http_hotpath_purge_job_t *job)
{
    size_t      size;
    u_char     *p, *last, *keys;
    ngx_str_t   args[NGX_HTTP_HOTPATH_PURGE_CELLS + 1];
    ngx_str_t   model, tenant, key;
    ngx_uint_t  i;
    ngx_int_t   rc;

    size = 0;
    for (i = 0; i < job->nmet; i++) {
        size += sizeof("hotpath:doc:") + job->met[i].len;
    }

    rc = NGX_DECLINED;

    keys = ngx_alloc(size, ngx_cycle->log);
    if (keys == NULL) {
        goto failed;
    }

    p = keys;
    ngx_str_set(&args[0], "UNLINK");

    for (i = 0; i < job->nmet; i++) {
        last = job->met[i].data + job->met[i].len;

        model.data = job->met[i].data;
        model.len = job->purge.model.len;

        /* the prefix ends with the zero byte behind the model */
        tenant.data = model.data + model.len + 1;
        key.data = ngx_strlchr(tenant.data, last, '\0');

        if (key.data == NULL) {
            key.data = last;
        } else {
            key.data++;
        }

        tenant.len = key.data - tenant.data - (key.data > tenant.data);
        key.len = last - key.data;

        args[i + 1].data = p;
        p = ngx_http_hotpath_purge_redis_key(p, "doc", &model, &tenant, &key);
        args[i + 1].len = p - args[i + 1].data;
    }

    if (ngx_http_hotpath_redis_command(job->mcf->redis, args, job->nmet + 1,
                                       ngx_http_hotpath_purge_met_unlinked,
                                       job)
        != NULL)
    {
        rc = NGX_OK;
    }

    ngx_free(keys);

failed:

    if (rc != NGX_OK) {
        job->purged.error = NGX_HTTP_HOTPATH_PURGE_NO_REDIS;
        job->nmet = 0;
    }

    return rc;
}


static void
ngx_http_hotpath_purge_met_unlinked(void *data, redisReply *reply)
{
    ngx_http_hotpath_purge_job_t *job = data;

    uint64_t                   purged;
    ngx_uint_t                 i;
    ngx_http_hotpath_cache_t  *cache;

    ngx_http_hotpath_purge_removed(job, reply);

    cache = ngx_http_hotpath_cache_each((ngx_cycle_t *) ngx_cycle, job->zone);

    /* they were counted when they were met */
    purged = job->purged.purged;

    for (i = 0; i < job->nmet; i++) {
        ngx_http_hotpath_purge_one(job, cache, &job->met[i]);
    }

    job->purged.purged = purged;
    job->nmet = 0;

    ngx_post_event(&job->event, &ngx_posted_events);
}


static void
ngx_http_hotpath_purge_scan(ngx_http_hotpath_purge_job_t *job)
{
    ngx_str_t  args[3];

    if (job->pattern.len == 0) {
        ngx_http_hotpath_purge_end(job);
        return;
    }

    args[0].data = job->cursor;
    args[0].len = job->cursor_len;
    args[1] = job->pattern;
    ngx_str_set(&args[2], NGX_HTTP_HOTPATH_PURGE_SCAN);

    if (ngx_http_hotpath_redis_eval(job->mcf->redis,
                                    &ngx_http_hotpath_purge_script, NULL, 0,
                                    args, 3, ngx_http_hotpath_purge_scanned,
                                    job)
        == NULL)
    {
        ngx_http_hotpath_purge_scan_failed(job);
    }
}


static void
ngx_http_hotpath_purge_scanned(void *data, redisReply *reply)
{
    ngx_http_hotpath_purge_job_t *job = data;

    redisReply  *cursor;

    if (reply == NULL
        || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2
        || reply->element[0]->type != REDIS_REPLY_STRING
        || (size_t) reply->element[0]->len > sizeof(job->cursor)
        || reply->element[0]->len == 0
        || reply->element[1]->type != REDIS_REPLY_INTEGER)
    {
        ngx_http_hotpath_purge_scan_failed(job);
        return;
    }

    job->failures = 0;
    job->purged.redis += reply->element[1]->integer;

    cursor = reply->element[0];

    if (cursor->len == 1 && cursor->str[0] == '0') {
        ngx_http_hotpath_purge_end(job);
        return;
    }

    if (ngx_current_msec - job->began > NGX_HTTP_HOTPATH_PURGE_SCAN_MS) {
        job->purged.error = NGX_HTTP_HOTPATH_PURGE_NO_REDIS;
        ngx_http_hotpath_purge_end(job);
        return;
    }

    ngx_memcpy(job->cursor, cursor->str, cursor->len);
    job->cursor_len = cursor->len;

    ngx_http_hotpath_purge_scan(job);
}


/* The same call again, a little later, a few times. */

static void
ngx_http_hotpath_purge_scan_failed(ngx_http_hotpath_purge_job_t *job)
{
    if (++job->failures == NGX_HTTP_HOTPATH_PURGE_TRIES) {
        job->purged.error = NGX_HTTP_HOTPATH_PURGE_NO_REDIS;
        ngx_http_hotpath_purge_end(job);
        return;
    }

    job->waiting = 1;

    if (job->timer.timer_set) {
        ngx_del_timer(&job->timer);
    }

    ngx_add_timer(&job->timer, NGX_HTTP_HOTPATH_PURGE_RETRY_MS);
}


static void
ngx_http_hotpath_purge_removed(ngx_http_hotpath_purge_job_t *job,
    redisReply *reply)
{
    if (reply && reply->type == REDIS_REPLY_INTEGER) {
        job->purged.redis += reply->integer;
        return;
    }

    job->purged.error = NGX_HTTP_HOTPATH_PURGE_NO_REDIS;
}


static u_char *
ngx_http_hotpath_purge_redis_key(u_char *p, const char *kind, ngx_str_t *model,
    ngx_str_t *tenant, ngx_str_t *key)
{
    p = ngx_sprintf(p, "hotpath:%s:%V:%V:", kind, model, tenant);

    return ngx_cpymem(p, key->data, key->len);
}
