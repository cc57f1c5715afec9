/*
 * ngx_http_hotpath_warm.c: an empty zone gets back what was hot.
 *
 * The first worker, where the zone is cold, waits until it hears pushes or
 * knows that it will not (either distrusts the zone), and has Redis. Then it
 * asks for the hottest keys with their documents, some at a time, and fetches
 * those that Redis does not have, a few at once. In the end, or when the time
 * is up, or without Redis, the zone counts as warm, and the instance as ready.
 * A worker that is killed meanwhile leaves it cold: its successor begins anew.
 * What is hot the hot room finds out.
 *
 * Owns what is under way, in the cycle's pool, and a pool for each batch. Runs
 * in the event loop with no lock held. Never in here: a start that waits for
 * ever. Tests: tests/integration/test_warm.py, tests/faults/test_warming.py.
 */


#include "ngx_http_hotpath_warm.h"
#include "ngx_http_hotpath_fetch.h"
#include "ngx_http_hotpath_hot.h"


/* Of one answer of Redis, but always at least one document. */
#define NGX_HTTP_HOTPATH_WARM_BATCH       100
#define NGX_HTTP_HOTPATH_WARM_BATCH_SIZE  "1048576"

/* Documents that are fetched from elsewhere at the same time. */
#define NGX_HTTP_HOTPATH_WARM_FETCHES     8

/* How long Redis may take to be there; how often that is looked at. */
#define NGX_HTTP_HOTPATH_WARM_REDIS_MS    1500
#define NGX_HTTP_HOTPATH_WARM_LOOK_MS     10

#define NGX_HTTP_HOTPATH_WARM_KEYS_MAX    100000
#define NGX_HTTP_HOTPATH_WARM_NAME_MAX    256


/* Of the configuration. */
typedef struct {
    ngx_str_t                          zone;
    ngx_http_hotpath_hot_conf_t        hot;
    ngx_msec_t                         timeout;
    u_char                            *file;
    ngx_uint_t                         line;
} ngx_http_hotpath_warm_conf_t;


typedef struct ngx_http_hotpath_warming_s  ngx_http_hotpath_warming_t;

typedef struct {
    ngx_http_hotpath_fetch_waiter_t    waiter;   /* first */
    ngx_http_hotpath_warming_t        *warming;
} ngx_http_hotpath_warm_fetch_t;


/* A cold zone, in the first worker, until it is warm. */
struct ngx_http_hotpath_warming_s {
    ngx_http_hotpath_warm_conf_t      *conf;
    ngx_http_hotpath_main_conf_t      *mcf;
    ngx_msec_t                         began;
    ngx_event_t                        look;     /* for Redis */
    ngx_event_t                        deadline;
    ngx_http_hotpath_redis_call_t     *call;
    ngx_uint_t                         offset;   /* in the order of heat */
    uint64_t                           begun;    /* of the zone */
    uint64_t                           loaded;
    uint64_t                           missed;
    ngx_pool_t                        *pool;     /* of the batch, or NULL */
    ngx_str_t                         *absent;   /* what Redis had not */
    ngx_uint_t                         nabsent;
    ngx_uint_t                         next;     /* of these to be fetched */
    ngx_uint_t                         fetching;
    ngx_http_hotpath_warm_fetch_t      fetch[NGX_HTTP_HOTPATH_WARM_FETCHES];
    ngx_uint_t                         done;
};


static ngx_int_t ngx_http_hotpath_warming_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf, ngx_http_hotpath_warm_conf_t *conf);
static void ngx_http_hotpath_warming_state(void *data, ngx_uint_t up);
static void ngx_http_hotpath_warming_look(ngx_event_t *ev);
static void ngx_http_hotpath_warming_ask(ngx_http_hotpath_warming_t *w);
static void ngx_http_hotpath_warming_got(void *data, redisReply *reply);
static ngx_int_t ngx_http_hotpath_warming_batch(ngx_http_hotpath_warming_t *w,
    redisReply *reply);
static ngx_http_hotpath_model_t *ngx_http_hotpath_warming_wanted(
    ngx_http_hotpath_warming_t *w, ngx_str_t *member,
    ngx_http_hotpath_wanted_t *wanted);
static ngx_int_t ngx_http_hotpath_warming_store(ngx_http_hotpath_warming_t *w,
    ngx_http_hotpath_wanted_t *wanted, redisReply *value);
static void ngx_http_hotpath_warming_fetch(ngx_http_hotpath_warming_t *w);
static void ngx_http_hotpath_warming_fetched(
    ngx_http_hotpath_fetch_waiter_t *waiter, ngx_http_hotpath_copy_t *copy,
    ngx_http_hotpath_how_t *how);
static void ngx_http_hotpath_warming_late(ngx_event_t *ev);
static void ngx_http_hotpath_warming_end(ngx_http_hotpath_warming_t *w,
    const char *why);


/* KEYS: the set. ARGV: the first, how many, how many bytes. Gives members and
 * their documents in turn, an empty one where there is none. */
static ngx_http_hotpath_redis_script_t  ngx_http_hotpath_warm_load_script =
    ngx_http_hotpath_redis_script(
        "local out, bytes = {}, 0 "
        "local hot = redis.call('ZREVRANGE', KEYS[1], ARGV[1],"
        " ARGV[1] + ARGV[2] - 1) "
        "for i = 1, #hot do "
        "local m, t, k = string.match(hot[i], '^([^%z]*)%z([^%z]*)%z(.*)$') "
        "local doc = m and redis.pcall('GET',"
        " 'hotpath:doc:' .. m .. ':' .. t .. ':' .. k) "
        "if type(doc) ~= 'string' then doc = '' end "
        "out[#out + 1] = hot[i] "
        "out[#out + 1] = doc "
        "bytes = bytes + #hot[i] + #doc "
        "if bytes > tonumber(ARGV[3]) then break end "
        "end "
        "return out");


char *
ngx_http_hotpath_warm_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_main_conf_t *mcf = conf;

    u_char                        *p;
    ngx_int_t                      n;
    ngx_str_t                     *value, s;
    ngx_uint_t                     i;
    ngx_http_hotpath_warm_conf_t  *warm, *other;

    if (mcf->warm == NULL) {
        mcf->warm = ngx_array_create(cf->pool, 2,
                                     sizeof(ngx_http_hotpath_warm_conf_t));
        if (mcf->warm == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    if (mcf->warm->nelts == NGX_HTTP_HOTPATH_HOT_ZONES) {
        return "is there for more than 8 zones";
    }

    warm = ngx_array_push(mcf->warm);
    if (warm == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(warm, sizeof(ngx_http_hotpath_warm_conf_t));
    warm->hot.keys = 1000;
    warm->timeout = 10000;
    warm->file = cf->conf_file->file.name.data;
    warm->line = cf->conf_file->line;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "zone=", 5) == 0) {
            warm->zone.data = value[i].data + 5;
            warm->zone.len = value[i].len - 5;

            if (warm->zone.len == 0
                || warm->zone.len > NGX_HTTP_HOTPATH_WARM_NAME_MAX)
            {
                goto invalid;
            }

        } else if (ngx_strncmp(value[i].data, "keys=", 5) == 0) {
            n = ngx_atoi(value[i].data + 5, value[i].len - 5);

            if (n < 1 || n > NGX_HTTP_HOTPATH_WARM_KEYS_MAX) {
                goto invalid;
            }

            warm->hot.keys = n;

        } else if (ngx_strncmp(value[i].data, "timeout=", 8) == 0) {
            s.data = value[i].data + 8;
            s.len = value[i].len - 8;
            n = ngx_parse_time(&s, 0);

            if (n < 1 || n > 600000) {
                goto invalid;
            }

            warm->timeout = n;

        } else {
            goto invalid;
        }
    }

    if (warm->zone.data == NULL) {
        return "must have a \"zone\"";
    }

    other = mcf->warm->elts;

    for (i = 0; i < mcf->warm->nelts - 1; i++) {
        if (other[i].zone.len == warm->zone.len
            && ngx_strncmp(other[i].zone.data, warm->zone.data,
                           warm->zone.len)
               == 0)
        {
            return "names a zone twice";
        }
    }

    p = ngx_pnalloc(cf->pool, 2 * (sizeof("hotpath:halved:")
                                   + warm->zone.len));
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    warm->hot.set.data = p;
    p = ngx_sprintf(p, "hotpath:hot:%V", &warm->zone);
    warm->hot.set.len = p - warm->hot.set.data;

    warm->hot.halved.data = p;
    p = ngx_sprintf(p, "hotpath:halved:%V", &warm->zone);
    warm->hot.halved.len = p - warm->hot.halved.data;

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       &value[i]);
    return NGX_CONF_ERROR;
}


ngx_int_t
ngx_http_hotpath_warm_init(ngx_conf_t *cf, ngx_http_hotpath_main_conf_t *mcf)
{
    ngx_uint_t                     i;
    ngx_http_hotpath_warm_conf_t  *warm;

    if (mcf->warm == NULL) {
        return NGX_OK;
    }

    warm = mcf->warm->elts;

    for (i = 0; i < mcf->warm->nelts; i++) {

        if (mcf->redis == NULL) {
            ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                          "\"hotpath_warm\" has no effect without "
                          "\"hotpath_redis\" in %s:%ui", warm[i].file,
                          warm[i].line);
        }

        warm[i].hot.cache = ngx_http_hotpath_cache_find(cf, &warm[i].zone);

        if (warm[i].hot.cache == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "unknown cache zone \"%V\" in %s:%ui",
                          &warm[i].zone, warm[i].file, warm[i].line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_warm_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf)
{
    ngx_uint_t                     i, n, nwarm, wanted;
    ngx_http_hotpath_cache_t      *cache;
    ngx_http_hotpath_warm_conf_t  *warm;

    warm = NULL;
    nwarm = 0;

    if (mcf->warm && mcf->redis) {
        warm = mcf->warm->elts;
        nwarm = mcf->warm->nelts;
    }

    for (i = 0; i < nwarm; i++) {
        if (ngx_http_hotpath_hot_watch(cycle, mcf->redis, &warm[i].hot)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (ngx_worker != 0) {
        return NGX_OK;
    }

    for (i = 0; i < nwarm; i++) {
        if (ngx_http_hotpath_cache_cold(warm[i].hot.cache)
            && ngx_http_hotpath_warming_start(cycle, mcf, &warm[i]) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    /* a zone that nobody warms is as warm as it ever will be: should it be
     * named at a reload, that is no reason for not being ready */

    for (n = 0; /* void */ ; n++) {

        cache = ngx_http_hotpath_cache_each(cycle, n);
        if (cache == NULL) {
            break;
        }

        wanted = 0;

        for (i = 0; i < nwarm; i++) {
            wanted |= (warm[i].hot.cache == cache);
        }

        if (!wanted) {
            ngx_http_hotpath_cache_warm(cache);
        }
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_hotpath_warm_going_on(ngx_http_hotpath_main_conf_t *mcf)
{
    ngx_uint_t                     i;
    ngx_http_hotpath_warm_conf_t  *warm;

    if (mcf->warm == NULL) {
        return 0;
    }

    warm = mcf->warm->elts;

    for (i = 0; i < mcf->warm->nelts; i++) {
        if (ngx_http_hotpath_cache_cold(warm[i].hot.cache)) {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_hotpath_warming_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf, ngx_http_hotpath_warm_conf_t *conf)
{
    ngx_uint_t                   i;
    ngx_http_hotpath_warming_t  *w;

    w = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hotpath_warming_t));
    if (w == NULL) {
        return NGX_ERROR;
    }

    w->conf = conf;
    w->mcf = mcf;
    w->began = ngx_current_msec;

    w->look.handler = ngx_http_hotpath_warming_look;
    w->look.data = w;
    w->look.log = cycle->log;
    w->look.cancelable = 1;

    w->deadline.handler = ngx_http_hotpath_warming_late;
    w->deadline.data = w;
    w->deadline.log = cycle->log;
    w->deadline.cancelable = 1;

    for (i = 0; i < NGX_HTTP_HOTPATH_WARM_FETCHES; i++) {
        w->fetch[i].waiter.handler = ngx_http_hotpath_warming_fetched;
        w->fetch[i].warming = w;
    }

    ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_WARMING]++;

    ngx_add_timer(&w->deadline, conf->timeout);

    if (mcf->client == NULL) {
        ngx_add_timer(&w->look, NGX_HTTP_HOTPATH_WARM_LOOK_MS);
        return NGX_OK;
    }

    return ngx_http_hotpath_nats_on_state(mcf->client,
                                          ngx_http_hotpath_warming_state, w);
}


/* The broker is there, or is not: either way the zone was distrusted for it,
 * which would make worthless what is loaded before. */

static void
ngx_http_hotpath_warming_state(void *data, ngx_uint_t up)
{
    ngx_http_hotpath_warming_t *w = data;

    if (!w->done && w->call == NULL && w->pool == NULL && !w->look.timer_set) {
        ngx_add_timer(&w->look, 1);
    }
}


static void
ngx_http_hotpath_warming_look(ngx_event_t *ev)
{
    ngx_http_hotpath_warming_t *w = ev->data;

    ngx_http_hotpath_redis_state_t  state;

    ngx_http_hotpath_redis_state(w->mcf->redis, &state);

    if (state.up) {
        ngx_http_hotpath_warming_ask(w);
        return;
    }

    if (ngx_current_msec - w->began > NGX_HTTP_HOTPATH_WARM_REDIS_MS) {
        ngx_http_hotpath_warming_end(w, "Redis is not there");
        return;
    }

    ngx_add_timer(ev, NGX_HTTP_HOTPATH_WARM_LOOK_MS);
}


static void
ngx_http_hotpath_warming_ask(ngx_http_hotpath_warming_t *w)
{
    u_char      offset[NGX_INT_T_LEN], count[NGX_INT_T_LEN];
    ngx_str_t   args[3];
    ngx_uint_t  n;

    n = ngx_min(w->conf->hot.keys - w->offset, NGX_HTTP_HOTPATH_WARM_BATCH);

    if (n == 0) {
        ngx_http_hotpath_warming_end(w, NULL);
        return;
    }

    args[0].data = offset;
    args[0].len = ngx_sprintf(offset, "%ui", w->offset) - offset;
    args[1].data = count;
    args[1].len = ngx_sprintf(count, "%ui", n) - count;
    ngx_str_set(&args[2], NGX_HTTP_HOTPATH_WARM_BATCH_SIZE);

    w->begun = ngx_http_hotpath_cache_begun(w->conf->hot.cache);

    w->call = ngx_http_hotpath_redis_eval(w->mcf->redis,
                                          &ngx_http_hotpath_warm_load_script,
                                          &w->conf->hot.set, 1, args, 3,
                                          ngx_http_hotpath_warming_got, w);
    if (w->call == NULL) {
        ngx_http_hotpath_warming_end(w, "Redis cannot be asked");
    }
}


static void
ngx_http_hotpath_warming_got(void *data, redisReply *reply)
{
    ngx_http_hotpath_warming_t *w = data;

    w->call = NULL;

    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY) {
        ngx_http_hotpath_warming_end(w, "Redis did not answer");
        return;
    }

    if (reply->elements == 0) {
        ngx_http_hotpath_warming_end(w, NULL);
        return;
    }

    w->pool = ngx_create_pool(4096, ngx_cycle->log);

    if (w->pool == NULL
        || ngx_http_hotpath_warming_batch(w, reply) != NGX_OK)
    {
        ngx_http_hotpath_warming_end(w, "there is no memory");
        return;
    }

    ngx_http_hotpath_warming_fetch(w);
}


static ngx_int_t
ngx_http_hotpath_warming_batch(ngx_http_hotpath_warming_t *w,
    redisReply *reply)
{
    size_t                      i;
    ngx_str_t                   member;
    redisReply                 *key, *value;
    ngx_http_hotpath_wanted_t   wanted;

    w->nabsent = 0;
    w->next = 0;
    w->absent = ngx_palloc(w->pool, reply->elements / 2 * sizeof(ngx_str_t));

    if (w->absent == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i + 1 < reply->elements; i += 2) {

        w->offset++;

        key = reply->element[i];
        value = reply->element[i + 1];

        if (key->type != REDIS_REPLY_STRING
            || value->type != REDIS_REPLY_STRING)
        {
            continue;
        }

        member.data = (u_char *) key->str;
        member.len = key->len;

        if (ngx_http_hotpath_warming_wanted(w, &member, &wanted) == NULL) {
            /* of another configuration, or another time */
            continue;
        }

        if (ngx_http_hotpath_warming_store(w, &wanted, value) == NGX_OK) {
            w->loaded++;
            ngx_http_hotpath_count(WARM_LOADED);
            continue;
        }

        member.data = ngx_pstrdup(w->pool, &member);
        if (member.data == NULL) {
            return NGX_ERROR;
        }

        w->absent[w->nabsent++] = member;
    }

    return NGX_OK;
}


/* The document that a member of the set means, if this zone keeps such. */

static ngx_http_hotpath_model_t *
ngx_http_hotpath_warming_wanted(ngx_http_hotpath_warming_t *w,
    ngx_str_t *member, ngx_http_hotpath_wanted_t *wanted)
{
    u_char                     *p, *last;
    ngx_uint_t                  i;
    ngx_http_hotpath_model_t  **models;

    ngx_memzero(wanted, sizeof(ngx_http_hotpath_wanted_t));

    last = member->data + member->len;

    p = ngx_strlchr(member->data, last, '\0');
    if (p == NULL) {
        return NULL;
    }

    wanted->tenant.data = p + 1;

    models = w->mcf->models.elts;

    for (i = 0; i < w->mcf->models.nelts; i++) {
        if (models[i]->rules.cache == w->conf->hot.cache
            && models[i]->page == NULL
            && models[i]->name.len == (size_t) (p - member->data)
            && ngx_memcmp(models[i]->name.data, member->data,
                          models[i]->name.len)
               == 0)
        {
            wanted->model = models[i];
            break;
        }
    }

    p = ngx_strlchr(wanted->tenant.data, last, '\0');

    if (p == NULL || wanted->model == NULL) {
        return NULL;
    }

    wanted->tenant.len = p - wanted->tenant.data;
    wanted->key.data = p + 1;
    wanted->key.len = last - wanted->key.data;

    if (wanted->key.len == 0 || wanted->key.len > HP_DOC_KEY_MAX
        || wanted->tenant.len > HP_TENANT_MAX)
    {
        return NULL;
    }

    wanted->zone_key = *member;

    return wanted->model;
}


static ngx_int_t
ngx_http_hotpath_warming_store(ngx_http_hotpath_warming_t *w,
    ngx_http_hotpath_wanted_t *wanted, redisReply *value)
{
    hp_doc_t   doc;
    hp_str_t   text;
    ngx_int_t  rc;

    text.data = (u_char *) value->str;
    text.len = value->len;

    if (hp_doc_read_value(&doc, text) != 0
        || doc.tenant.len != wanted->tenant.len
        || ngx_memcmp(doc.tenant.data, wanted->tenant.data, doc.tenant.len)
           != 0
        || doc.key.len != wanted->key.len
        || ngx_memcmp(doc.key.data, wanted->key.data, doc.key.len) != 0)
    {
        return NGX_DECLINED;
    }

    rc = ngx_http_hotpath_store_document(wanted->model, &wanted->zone_key,
                                         &doc, w->begun);

    /* NGX_ABORT: a push was faster */
    return rc == NGX_ABORT ? NGX_OK : rc;
}


/* What Redis had not, a few at a time; then the next batch. */

static void
ngx_http_hotpath_warming_fetch(ngx_http_hotpath_warming_t *w)
{
    ngx_uint_t                      i;
    ngx_http_hotpath_wanted_t       wanted;
    ngx_http_hotpath_warm_fetch_t  *fetch;

    while (w->next < w->nabsent && w->fetching < NGX_HTTP_HOTPATH_WARM_FETCHES)
    {
        for (i = 0; w->fetch[i].waiter.fetch != NULL; i++) { /* void */ }

        fetch = &w->fetch[i];

        (void) ngx_http_hotpath_warming_wanted(w, &w->absent[w->next++],
                                               &wanted);

        if (ngx_http_hotpath_fetch_join(w->mcf, &wanted, 0, &fetch->waiter)
            == NGX_OK)
        {
            w->fetching++;

        } else {
            w->missed++;
            ngx_http_hotpath_count(WARM_MISSED);
        }
    }

    if (w->fetching) {
        return;
    }

    ngx_destroy_pool(w->pool);
    w->pool = NULL;

    ngx_http_hotpath_warming_ask(w);
}


static void
ngx_http_hotpath_warming_fetched(ngx_http_hotpath_fetch_waiter_t *waiter,
    ngx_http_hotpath_copy_t *copy, ngx_http_hotpath_how_t *how)
{
    ngx_http_hotpath_warming_t *w =
                           ((ngx_http_hotpath_warm_fetch_t *) waiter)->warming;

    w->fetching--;

    if (copy) {
        w->loaded++;
        ngx_http_hotpath_count(WARM_LOADED);

    } else {
        w->missed++;
        ngx_http_hotpath_count(WARM_MISSED);
    }

    ngx_http_hotpath_warming_fetch(w);
}


static void
ngx_http_hotpath_warming_late(ngx_event_t *ev)
{
    ngx_http_hotpath_warming_end(ev->data, "its time is up");
}


/* why: NULL where all that was hot has been tried. */

static void
ngx_http_hotpath_warming_end(ngx_http_hotpath_warming_t *w, const char *why)
{
    ngx_uint_t  i;

    if (w->call) {
        ngx_http_hotpath_redis_cancel(w->call);
        w->call = NULL;
    }

    for (i = 0; i < NGX_HTTP_HOTPATH_WARM_FETCHES; i++) {
        ngx_http_hotpath_fetch_leave(&w->fetch[i].waiter);
    }

    if (w->look.timer_set) {
        ngx_del_timer(&w->look);
    }

    if (w->deadline.timer_set) {
        ngx_del_timer(&w->deadline);
    }

    if (w->pool) {
        ngx_destroy_pool(w->pool);
        w->pool = NULL;
    }

    w->done = 1;

    ngx_http_hotpath_cache_warm(w->conf->hot.cache);
    ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_WARMING]--;

    if (why) {
        ngx_http_hotpath_count(WARM_UNFINISHED);
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "hotpath: zone \"%V\" is taken as warm because %s: "
                      "%uL documents loaded, %uL not to be had",
                      &w->conf->zone, why, w->loaded, w->missed);
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "hotpath: zone \"%V\" is warm: %uL documents loaded, "
                  "%uL not to be had", &w->conf->zone, w->loaded, w->missed);
}
