/*
 * ngx_http_hotpath_health.c: whether this instance lives, whether it should
 * get traffic, and its metrics.
 *
 * Live asks nothing: the process answers, so it lives. Ready looks at what
 * this worker knows already and asks no dependency either: the broker's
 * connection and streams and the publish queue decide, Redis, Postgres and the
 * push channel are only told, because reads go on without them. Owns nothing;
 * runs in the content phase. Test: tests/integration/test_health.py.
 */


#include "ngx_http_hotpath_module.h"


static u_char *ngx_http_hotpath_health_check(u_char *p, const char *name,
    ngx_uint_t up, ngx_uint_t required);


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
    u_char                              list[1024], *p;
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

        up = (publish.streams == mcf->publish.partitions);
        ready &= up;
        p = ngx_http_hotpath_health_check(p, "streams", up, 1);

        /* nine tenths: there must be room for what comes next */
        up = publish.queued_bytes < mcf->publish.queue_bytes / 10 * 9;
        ready &= up;
        p = ngx_http_hotpath_health_check(p, "queue", up, 1);
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

    b = ngx_http_hotpath_metrics_text(r->pool, openmetrics);
    if (b == NULL) {
        return NGX_ERROR;
    }

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
    return ngx_sprintf(p, "{\"name\":\"%s\",\"status\":\"%s\","
                       "\"required\":%s},",
                       name, up ? "up" : "down", required ? "true" : "false");
}
