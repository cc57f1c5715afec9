/*
 * ngx_http_hotpath_hot.c: which documents of a zone are read most.
 *
 * One of 64 hits, drawn at random, is counted in a small table of the worker,
 * by Space-Saving (Metwally, Agrawal, El Abbadi: Efficient Computation of
 * Frequent and Top-k Elements in Data Streams, ICDT 2005): a key that is not in
 * it takes the place of the rarest, and that one's count, so that 512 places
 * hold every key with more than a 512th of the hits. Every few seconds what was
 * counted since goes to a sorted set of Redis, which all instances share and
 * whose scores are halved about every minute (schemas/framing.md).
 *
 * Owns the tables, in the cycle's pool, and the keys in them, from the heap: at
 * most 512 of 1200 bytes for each zone. Runs in the event loop of every worker
 * with no lock held. Never in here: work for a hit that is not counted. Test:
 * tests/integration/test_warm.py.
 */


#include "ngx_http_hotpath_hot.h"
#include "core/hp_id.h"


#define NGX_HTTP_HOTPATH_HOT_PLACES      512

/* The mean of how many hits one sampled hit stands for. */
#define NGX_HTTP_HOTPATH_HOT_SAMPLE      64

/* Between two flushes, a quarter of it at random; keys in one. */
#define NGX_HTTP_HOTPATH_HOT_FLUSH_MS    5000
#define NGX_HTTP_HOTPATH_HOT_FLUSH_KEYS  128

/* Flushes between two halvings of a table. */
#define NGX_HTTP_HOTPATH_HOT_AGE         12

/* In Redis: scores are halved so often, and a set that nobody adds to is kept
 * so long. */
#define NGX_HTTP_HOTPATH_HOT_HALVE_MS    "60000"
#define NGX_HTTP_HOTPATH_HOT_KEEP_MS     "604800000"


/* A key that may be hot. */
typedef struct {
    u_char                            *data;
    size_t                             len;
    size_t                             size;     /* of data */
    uint32_t                           count;    /* with what it took over */
    uint32_t                           unsent;   /* its own, not told yet */
} ngx_http_hotpath_hot_place_t;


/* Of one zone, in every worker. */
typedef struct {
    ngx_http_hotpath_hot_conf_t       *conf;
    ngx_http_hotpath_redis_t          *redis;
    uint32_t                           hash[NGX_HTTP_HOTPATH_HOT_PLACES];
    ngx_http_hotpath_hot_place_t       place[NGX_HTTP_HOTPATH_HOT_PLACES];
    ngx_uint_t                         n;
    ngx_event_t                        flush;
    ngx_uint_t                         flushes;
} ngx_http_hotpath_hot_table_t;


static void ngx_http_hotpath_hot_draw(void);
static ngx_http_hotpath_hot_place_t *ngx_http_hotpath_hot_place(
    ngx_http_hotpath_hot_table_t *table, ngx_str_t *key);
static void ngx_http_hotpath_hot_flush(ngx_event_t *ev);
static void ngx_http_hotpath_hot_tell(ngx_http_hotpath_hot_table_t *table);
static int ngx_libc_cdecl ngx_http_hotpath_hot_compare(const void *one,
    const void *two);
static ngx_msec_t ngx_http_hotpath_hot_interval(void);


uint64_t  ngx_http_hotpath_hot_countdown = (uint64_t) -1;

/* This worker's. */
static ngx_http_hotpath_hot_table_t
    *ngx_http_hotpath_hot_tables[NGX_HTTP_HOTPATH_HOT_ZONES];
static ngx_uint_t  ngx_http_hotpath_hot_ntables;

/* KEYS: the set, and what says that it was halved not long ago. ARGV: how many
 * members stay, how long they do, how long a half lasts, then how much hotter
 * each member became. */
static ngx_http_hotpath_redis_script_t  ngx_http_hotpath_hot_tell_script =
    ngx_http_hotpath_redis_script(
        "for i = 4, #ARGV, 2 do "
        "redis.call('ZINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) "
        "end "
        "if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[3]) then "
        "redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', '0.5') "
        "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(0.5') "
        "end "
        "redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -(ARGV[1] + 1)) "
        "redis.call('PEXPIRE', KEYS[1], ARGV[2]) "
        "return 1");


ngx_int_t
ngx_http_hotpath_hot_watch(ngx_cycle_t *cycle, ngx_http_hotpath_redis_t *redis,
    ngx_http_hotpath_hot_conf_t *conf)
{
    ngx_http_hotpath_hot_table_t  *table;

    if (ngx_http_hotpath_hot_ntables == NGX_HTTP_HOTPATH_HOT_ZONES) {
        return NGX_ERROR;
    }

    table = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hotpath_hot_table_t));
    if (table == NULL) {
        return NGX_ERROR;
    }

    table->conf = conf;
    table->redis = redis;

    table->flush.handler = ngx_http_hotpath_hot_flush;
    table->flush.data = table;
    table->flush.log = cycle->log;
    table->flush.cancelable = 1;

    ngx_add_timer(&table->flush, ngx_http_hotpath_hot_interval());

    ngx_http_hotpath_hot_tables[ngx_http_hotpath_hot_ntables++] = table;
    ngx_http_hotpath_hot_draw();

    return NGX_OK;
}


/* At random, so that no rhythm of the requests hides a key. */

static void
ngx_http_hotpath_hot_draw(void)
{
    ngx_http_hotpath_hot_countdown = 1 + ngx_random()
                                   % (2 * NGX_HTTP_HOTPATH_HOT_SAMPLE - 1);
}


void
ngx_http_hotpath_hot_sample(ngx_http_hotpath_model_t *model,
    ngx_str_t *zone_key)
{
    ngx_uint_t                     i;
    ngx_http_hotpath_hot_place_t  *place;
    ngx_http_hotpath_hot_table_t  *table;

    ngx_http_hotpath_hot_draw();

    if (model->page) {
        /* of a list: made of what is read, and of the moment */
        return;
    }

    for (i = 0; i < ngx_http_hotpath_hot_ntables; i++) {
        table = ngx_http_hotpath_hot_tables[i];

        if (table->conf->cache == model->rules.cache) {
            place = ngx_http_hotpath_hot_place(table, zone_key);

            if (place) {
                place->count++;
                place->unsent++;
            }

            return;
        }
    }
}


/* That of the key, which takes one if it has none; NULL: no memory. */

static ngx_http_hotpath_hot_place_t *
ngx_http_hotpath_hot_place(ngx_http_hotpath_hot_table_t *table,
    ngx_str_t *key)
{
    size_t                         size;
    u_char                        *data;
    uint32_t                       hash;
    ngx_uint_t                     i, rarest;
    ngx_http_hotpath_hot_place_t  *place;

    hash = (uint32_t) hp_hash64(key->data, key->len, 0);

    for (i = 0; i < table->n; i++) {
        place = &table->place[i];

        if (table->hash[i] == hash && place->len == key->len
            && ngx_memcmp(place->data, key->data, key->len) == 0)
        {
            return place;
        }
    }

    if (i == NGX_HTTP_HOTPATH_HOT_PLACES) {

        rarest = 0;

        for (i = 1; i < NGX_HTTP_HOTPATH_HOT_PLACES; i++) {
            if (table->place[i].count < table->place[rarest].count) {
                rarest = i;
            }
        }

        i = rarest;
    }

    place = &table->place[i];

    if (place->size < key->len) {
        size = ngx_align(key->len, 64);

        data = ngx_alloc(size, ngx_cycle->log);
        if (data == NULL) {
            return NULL;
        }

        if (place->data) {
            ngx_free(place->data);
        }

        place->data = data;
        place->size = size;
    }

    ngx_memcpy(place->data, key->data, key->len);
    place->len = key->len;
    place->unsent = 0;

    table->hash[i] = hash;
    table->n = ngx_max(table->n, i + 1);

    return place;
}


static void
ngx_http_hotpath_hot_flush(ngx_event_t *ev)
{
    ngx_http_hotpath_hot_table_t *table = ev->data;

    ngx_uint_t  i;

    ngx_http_hotpath_hot_tell(table);

    if (++table->flushes % NGX_HTTP_HOTPATH_HOT_AGE == 0) {
        /* what was hot makes way for what is */
        for (i = 0; i < table->n; i++) {
            table->place[i].count /= 2;
        }
    }

    ngx_add_timer(ev, ngx_http_hotpath_hot_interval());
}


static void
ngx_http_hotpath_hot_tell(ngx_http_hotpath_hot_table_t *table)
{
    u_char                         numbers[NGX_HTTP_HOTPATH_HOT_FLUSH_KEYS]
                                          [NGX_INT32_LEN];
    u_char                         keep[NGX_INT_T_LEN];
    ngx_str_t                      keys[2];
    ngx_str_t                      args[3 + 2
                                        * NGX_HTTP_HOTPATH_HOT_FLUSH_KEYS];
    ngx_uint_t                     i, n;
    ngx_http_hotpath_hot_place_t  *place;
    ngx_http_hotpath_hot_place_t  *changed[NGX_HTTP_HOTPATH_HOT_PLACES];

    n = 0;

    for (i = 0; i < table->n; i++) {
        if (table->place[i].unsent) {
            changed[n++] = &table->place[i];
        }
    }

    if (n == 0) {
        return;
    }

    if (n > NGX_HTTP_HOTPATH_HOT_FLUSH_KEYS) {
        /* the others go on gathering, until their turn comes */
        ngx_qsort(changed, n, sizeof(ngx_http_hotpath_hot_place_t *),
                  ngx_http_hotpath_hot_compare);
        n = NGX_HTTP_HOTPATH_HOT_FLUSH_KEYS;
    }

    keys[0] = table->conf->set;
    keys[1] = table->conf->halved;

    /* twice as many as will be loaded: a newcomer must not fall out at once */
    args[0].data = keep;
    args[0].len = ngx_sprintf(keep, "%ui", 2 * table->conf->keys) - keep;
    ngx_str_set(&args[1], NGX_HTTP_HOTPATH_HOT_KEEP_MS);
    ngx_str_set(&args[2], NGX_HTTP_HOTPATH_HOT_HALVE_MS);

    for (i = 0; i < n; i++) {
        place = changed[i];

        args[3 + 2 * i].data = numbers[i];
        args[3 + 2 * i].len = ngx_sprintf(numbers[i], "%uD", place->unsent)
                              - numbers[i];
        args[4 + 2 * i].data = place->data;
        args[4 + 2 * i].len = place->len;
    }

    if (ngx_http_hotpath_redis_eval(table->redis,
                                    &ngx_http_hotpath_hot_tell_script,
                                    keys, 2, args, 3 + 2 * n, NULL, NULL)
        == NULL)
    {
        /* it keeps until Redis is there */
        return;
    }

    for (i = 0; i < n; i++) {
        changed[i]->unsent = 0;
    }
}


static int ngx_libc_cdecl
ngx_http_hotpath_hot_compare(const void *one, const void *two)
{
    ngx_http_hotpath_hot_place_t *const  *a = one;
    ngx_http_hotpath_hot_place_t *const  *b = two;

    return (*a)->unsent < (*b)->unsent ? 1 : -((*a)->unsent > (*b)->unsent);
}


static ngx_msec_t
ngx_http_hotpath_hot_interval(void)
{
    return NGX_HTTP_HOTPATH_HOT_FLUSH_MS * 3 / 4
           + ngx_random() % (NGX_HTTP_HOTPATH_HOT_FLUSH_MS / 4);
}
