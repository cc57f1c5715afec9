/*
 * ngx_http_hotpath_health.c: whether this instance lives, whether it should
 * get traffic, and its metrics.
 *
 * Live asks nothing: the process answers, so it lives. Ready looks at what
 * this worker knows already and asks no dependency either: the broker's
 * connection and streams, the publish queue and the warm-up of the zones
 * decide; Redis, Postgres and the push channel are only told, because reads go
 * on without them. Owns nothing;
 * runs in the content phase. Test: tests/integration/test_health.py.
 */


#include "ngx_http_hotpath_publish_conf.h"
#include "ngx_http_hotpath_warm.h"


#define NGX_HTTP_HOTPATH_ZONE_METRIC(member, counter, name, help)             \
    { ngx_string(name), ngx_string(help), counter,                            \
      offsetof(ngx_http_hotpath_cache_stats_t, member) }


typedef struct {
    ngx_str_t   name;
    ngx_str_t   help;
    ngx_uint_t  counter;
    size_t      offset;        /* in the statistics of a zone */
} ngx_http_hotpath_zone_metric_t;


static size_t ngx_http_hotpath_zones_size(void);
static u_char *ngx_http_hotpath_zones_text(u_char *p, u_char *last,
    ngx_uint_t openmetrics);
static u_char *ngx_http_hotpath_health_check(u_char *p, const char *name,
    ngx_uint_t up, ngx_uint_t required);
static u_char *ngx_http_hotpath_health_word(u_char *p, const char *name,
    const char *status, ngx_uint_t required);


static ngx_http_hotpath_zone_metric_t  ngx_http_hotpath_zone_metrics[] = {

    NGX_HTTP_HOTPATH_ZONE_METRIC(entries, 0, "hotpath_cache_entries",
        "Entries in a cache zone."),
    NGX_HTTP_HOTPATH_ZONE_METRIC(bytes_used, 0, "hotpath_cache_used_bytes",
        "Bytes of a cache zone's cells that are in use."),
    NGX_HTTP_HOTPATH_ZONE_METRIC(bytes_total, 0, "hotpath_cache_size_bytes",
        "Bytes of a cache zone's cells."),
    NGX_HTTP_HOTPATH_ZONE_METRIC(stores, 1, "hotpath_cache_stores_total",
        "Entries put into a cache zone, new or again."),
    NGX_HTTP_HOTPATH_ZONE_METRIC(evictions, 1,
        "hotpath_cache_evictions_total",
        "Entries that had to go for others."),
    NGX_HTTP_HOTPATH_ZONE_METRIC(refused_older, 1,
        "hotpath_cache_refused_older_total",
        "Puts of an older version than the zone had."),
    NGX_HTTP_HOTPATH_ZONE_METRIC(lock_busy, 1,
        "hotpath_cache_lock_busy_total",
        "Changes left out because a stripe's lock was busy."),
    NGX_HTTP_HOTPATH_ZONE_METRIC(resets, 1, "hotpath_cache_resets_total",
        "Stripes emptied after a worker's death in the middle of a change.")
};

#define NGX_HTTP_HOTPATH_ZONE_METRICS                                         \
    (sizeof(ngx_http_hotpath_zone_metrics)                                    \
     / sizeof(ngx_http_hotpath_zone_metrics[0]))


static ngx_str_t  ngx_http_hotpath_health_type =
    ngx_string("application/json");


ngx_int_t
ngx_http_hotpath_live_handler(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    static ngx_str_t  body = ngx_string("{\"status\":\"live\"}");

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_hotpath_refuse_method(r, &ngx_http_hotpath_allow_get);
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_hotpath_header_const(r, "Cache-Control", "no-store")
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_send(r, NGX_HTTP_OK,
                                 &ngx_http_hotpath_health_type, &body);
}


ngx_int_t
ngx_http_hotpath_ready_handler(ngx_http_request_t *r)
{
    u_char                              list[2048], *p;
    ngx_int_t                           rc;
    ngx_str_t                           body;
    ngx_uint_t                          up, ready;
    ngx_http_hotpath_main_conf_t       *mcf;
    ngx_http_hotpath_redis_state_t      redis;
    ngx_http_hotpath_publish_state_t    publish;
    ngx_http_hotpath_postgres_state_t   postgres;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_hotpath_refuse_method(r, &ngx_http_hotpath_allow_get);
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_hotpath_header_const(r, "Cache-Control", "no-store")
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);

    p = list;
    ready = 1;

    if (mcf->publisher) {
        ngx_http_hotpath_publish_state(mcf->publisher, &publish);

        up = publish.connected;
        ready &= up;
        p = ngx_http_hotpath_health_check(p, "broker", up, 1);

        up = (publish.streams == publish.wanted);
        ready &= up;
        p = ngx_http_hotpath_health_check(p, "streams", up, 1) - 2;
        p = ngx_sprintf(p, ",\"durability\":\"%s\"",
                        ngx_http_hotpath_publish_tier(&mcf->publish));

        if (!up) {
            p = ngx_sprintf(p, ",\"stream\":\"%V\",\"reason\":\"%s\"",
                            &publish.stream,
                            publish.reason ? publish.reason : "not_known_yet");
        }

        p = ngx_cpymem(p, "},", 2);

        /* nine tenths: there must be room for what comes next */
        up = publish.queued_bytes < mcf->publish.queue_bytes / 10 * 9;
        ready &= up;
        p = ngx_http_hotpath_health_check(p, "queue", up, 1);
    }

    if (mcf->warm) {
        up = !ngx_http_hotpath_warm_going_on(mcf);
        ready &= up;
        p = ngx_http_hotpath_health_word(p, "cache", up ? "up" : "warming", 1);
    }

    if (mcf->models.nelts && mcf->client) {
        up = ngx_http_hotpath_metric_sum(NGX_HTTP_HOTPATH_PUSH_LISTENING) > 0;
        p = ngx_http_hotpath_health_check(p, "push", up, 0);
    }

    if (mcf->redis) {
        ngx_http_hotpath_redis_state(mcf->redis, &redis);
        p = ngx_http_hotpath_health_check(p, "redis", redis.up, 0);
    }

    if (mcf->postgres) {
        ngx_http_hotpath_postgres_state(mcf->postgres, &postgres);
        p = ngx_http_hotpath_health_check(p, "postgres", postgres.up, 0);
    }

    if (p > list) {
        p--;                          /* the comma of the last one */
    }

    body.data = ngx_pnalloc(r->pool, 64 + (p - list));
    if (body.data == NULL) {
        return NGX_ERROR;
    }

    body.len = ngx_sprintf(body.data, "{\"status\":\"%s\",\"checks\":[%*s]}",
                           ready ? "ready" : "unready",
                           (size_t) (p - list), list)
               - body.data;

    return ngx_http_hotpath_send(r, ready ? NGX_HTTP_OK
                                          : NGX_HTTP_SERVICE_UNAVAILABLE,
                                 &ngx_http_hotpath_health_type, &body);
}


ngx_int_t
ngx_http_hotpath_metrics_handler(ngx_http_request_t *r)
{
    ngx_int_t         rc;
    ngx_buf_t        *b;
    ngx_str_t         type, body;
    ngx_uint_t        i, openmetrics;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    static ngx_str_t  wanted = ngx_string("application/openmetrics-text");

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_hotpath_refuse_method(r, &ngx_http_hotpath_allow_get);
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_hotpath_header_const(r, "Cache-Control", "no-store")
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    openmetrics = 0;
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

        if (h[i].key.len == sizeof("Accept") - 1
            && ngx_memcmp(h[i].lowcase_key, "accept", sizeof("accept") - 1)
               == 0
            && ngx_strlcasestrn(h[i].value.data,
                                h[i].value.data + h[i].value.len,
                                wanted.data, wanted.len - 1)
               != NULL)
        {
            openmetrics = 1;
        }
    }

    b = ngx_http_hotpath_metrics_text(r->pool, openmetrics,
                                      ngx_http_hotpath_zones_size());
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->last = ngx_http_hotpath_zones_text(b->last, b->end, openmetrics);

    if (openmetrics) {
        b->last = ngx_cpymem(b->last, "# EOF\n", sizeof("# EOF\n") - 1);

        ngx_str_set(&type, "application/openmetrics-text; version=1.0.0; "
                           "charset=utf-8");
    } else {
        ngx_str_set(&type, "text/plain; version=0.0.4; charset=utf-8");
    }

    body.data = b->pos;
    body.len = b->last - b->pos;

    return ngx_http_hotpath_send(r, NGX_HTTP_OK, &type, &body);
}


static u_char *
ngx_http_hotpath_health_check(u_char *p, const char *name, ngx_uint_t up,
    ngx_uint_t required)
{
    return ngx_http_hotpath_health_word(p, name, up ? "up" : "down",
                                        required);
}


static u_char *
ngx_http_hotpath_health_word(u_char *p, const char *name, const char *status,
    ngx_uint_t required)
{
    return ngx_sprintf(p, "{\"name\":\"%s\",\"status\":\"%s\","
                       "\"required\":%s},",
                       name, status, required ? "true" : "false");
}


/* What the cache zones count themselves: a sample for each zone. */

static size_t
ngx_http_hotpath_zones_size(void)
{
    size_t                     size, names;
    ngx_uint_t                 i, n;
    ngx_http_hotpath_cache_t  *cache;

    names = 0;

    for (n = 0; /* void */ ; n++) {
        cache = ngx_http_hotpath_cache_each((ngx_cycle_t *) ngx_cycle, n);

        if (cache == NULL) {
            break;
        }

        names += ngx_http_hotpath_cache_name(cache)->len;
    }

    size = 0;

    for (i = 0; i < NGX_HTTP_HOTPATH_ZONE_METRICS; i++) {
        size += NGX_HTTP_HOTPATH_METRICS_HEAD
                + 2 * ngx_http_hotpath_zone_metrics[i].name.len
                + ngx_http_hotpath_zone_metrics[i].help.len + names
                + n * (ngx_http_hotpath_zone_metrics[i].name.len
                       + sizeof("{zone=\"\"} \n") + NGX_INT64_LEN);
    }

    return size;
}


static u_char *
ngx_http_hotpath_zones_text(u_char *p, u_char *last, ngx_uint_t openmetrics)
{
    uint64_t                          value;
    ngx_uint_t                        i, n;
    ngx_http_hotpath_cache_t         *cache;
    ngx_http_hotpath_zone_metric_t   *m;
    ngx_http_hotpath_cache_stats_t    stats;

    for (i = 0; i < NGX_HTTP_HOTPATH_ZONE_METRICS; i++) {
        m = &ngx_http_hotpath_zone_metrics[i];

        for (n = 0; /* void */ ; n++) {
            cache = ngx_http_hotpath_cache_each((ngx_cycle_t *) ngx_cycle, n);

            if (cache == NULL) {
                break;
            }

            if (n == 0) {
                p = ngx_http_hotpath_metrics_head(p, last, &m->name,
                                                  m->counter, &m->help,
                                                  openmetrics);
            }

            ngx_http_hotpath_cache_stats(cache, &stats);
            value = *(uint64_t *) ((char *) &stats + m->offset);

            p = ngx_slprintf(p, last, "%V{zone=\"%V\"} %uL\n", &m->name,
                             ngx_http_hotpath_cache_name(cache), value);
        }
    }

    return p;
}
