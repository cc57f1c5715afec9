/*
 * ngx_http_hotpath_guard_conf.c: hotpath_idempotency, read, checked and merged.
 *
 * What its parameters mean is in ngx_http_hotpath_guard.c and those beside it.
 * Owns the values, in nginx's configuration pool. Runs only while a
 * configuration is read. Reference: README.md, "hotpath_idempotency"; what is
 * refused here: tests/integration/test_guard.py.
 */


#include "ngx_http_hotpath_guard.h"


static char *ngx_http_hotpath_guard_option(ngx_conf_t *cf,
    ngx_http_hotpath_guard_conf_t *conf, ngx_str_t *name, ngx_str_t *value);
static ngx_int_t ngx_http_hotpath_guard_methods(
    ngx_http_hotpath_guard_conf_t *conf, ngx_str_t *list);
static ngx_int_t ngx_http_hotpath_guard_retries(
    ngx_http_hotpath_guard_conf_t *conf, ngx_str_t *list);
static ngx_uint_t ngx_http_hotpath_guard_next(ngx_str_t *rest,
    ngx_str_t *item);


#define ngx_http_hotpath_guard_is(s, lit)                                     \
    ((s)->len == sizeof(lit) - 1                                              \
     && ngx_memcmp((s)->data, lit, sizeof(lit) - 1) == 0)


char *
ngx_http_hotpath_guard_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    char                           *rv;
    u_char                         *equals;
    time_t                          ttl;
    ngx_str_t                      *value, name, text, zone;
    ngx_uint_t                      i;
    ngx_http_hotpath_guard_conf_t  *gcf;

    gcf = (ngx_http_hotpath_guard_conf_t *) (p + cmd->offset);

    if (gcf->mode) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        gcf->mode = NGX_HTTP_HOTPATH_GUARD_OFF;
        return cf->args->nelts == 2 ? NGX_CONF_OK : "has too many parameters";
    }

    if (ngx_strcmp(value[1].data, "optional") == 0) {
        gcf->mode = NGX_HTTP_HOTPATH_GUARD_OPTIONAL;

    } else if (ngx_strcmp(value[1].data, "required") == 0) {
        gcf->mode = NGX_HTTP_HOTPATH_GUARD_REQUIRED;

    } else {
        return "must be \"required\", \"optional\" or \"off\"";
    }

    gcf->methods = NGX_HTTP_POST|NGX_HTTP_PATCH;
    gcf->body_max = 65536;
    gcf->answer_max = 65536;
    gcf->claim_ms = 60000;
    gcf->retries[0] = NGX_HTTP_TOO_MANY_REQUESTS;
    gcf->nretries = 1;

    ttl = 86400;
    zone.len = 0;

    for (i = 2; i < cf->args->nelts; i++) {

        equals = (u_char *) ngx_strchr(value[i].data, '=');

        if (equals == NULL || equals[1] == '\0') {
            goto invalid;
        }

        name.data = value[i].data;
        name.len = equals - value[i].data;
        text.data = equals + 1;
        text.len = value[i].data + value[i].len - text.data;

        if (ngx_http_hotpath_guard_is(&name, "zone")) {
            zone = text;
            continue;
        }

        if (ngx_http_hotpath_guard_is(&name, "ttl")) {
            ttl = ngx_parse_time(&text, 1);

            if (ttl == (time_t) NGX_ERROR) {
                goto invalid;
            }

            continue;
        }

        rv = ngx_http_hotpath_guard_option(cf, gcf, &name, &text);

        if (rv == NGX_CONF_OK) {
            continue;
        }

    invalid:

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    if (zone.len == 0 || gcf->zone.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" must have \"zone\" "
                           "and \"answers\" parameters", &cmd->name);
        return NGX_CONF_ERROR;
    }

    gcf->table = ngx_http_hotpath_idempotency_add(cf, &zone, ttl, 1);

    return gcf->table ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_hotpath_guard_option(ngx_conf_t *cf,
    ngx_http_hotpath_guard_conf_t *conf, ngx_str_t *name, ngx_str_t *value)
{
    ssize_t     size;
    ngx_int_t   n;

    if (ngx_http_hotpath_guard_is(name, "answers")) {
        conf->zone = *value;
        return NGX_CONF_OK;
    }

    if (ngx_http_hotpath_guard_is(name, "name")) {
        conf->route = *value;
        return value->len <= HP_ROUTE_MAX ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    if (ngx_http_hotpath_guard_is(name, "max_body")) {
        size = ngx_parse_size(value);

        if (size < 0 || size > 16 * 1024 * 1024) {
            return NGX_CONF_ERROR;
        }

        conf->body_max = size;
        return NGX_CONF_OK;
    }

    if (ngx_http_hotpath_guard_is(name, "max_answer")) {
        size = ngx_parse_size(value);

        if (size < 0) {
            return NGX_CONF_ERROR;
        }

        conf->answer_max = size;
        return NGX_CONF_OK;
    }

    if (ngx_http_hotpath_guard_is(name, "claim")) {
        n = ngx_parse_time(value, 0);

        if (n == NGX_ERROR || n < 1000 || n > 3600000) {
            return NGX_CONF_ERROR;
        }

        conf->claim_ms = n;
        return NGX_CONF_OK;
    }

    if (ngx_http_hotpath_guard_is(name, "methods")) {
        return ngx_http_hotpath_guard_methods(conf, value) == NGX_OK
               ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    if (ngx_http_hotpath_guard_is(name, "retry")) {
        return ngx_http_hotpath_guard_retries(conf, value) == NGX_OK
               ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    if (!ngx_http_hotpath_guard_is(name, "redis")) {
        return NGX_CONF_ERROR;
    }

    conf->redis_set = 1;
    conf->strict = ngx_http_hotpath_guard_is(value, "strict");
    conf->redis = conf->strict || ngx_http_hotpath_guard_is(value, "on");

    return conf->redis || ngx_http_hotpath_guard_is(value, "off")
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static ngx_int_t
ngx_http_hotpath_guard_methods(ngx_http_hotpath_guard_conf_t *conf,
    ngx_str_t *list)
{
    ngx_str_t   item;
    ngx_uint_t  i;

    static struct {
        ngx_str_t   name;
        ngx_uint_t  method;
    } methods[] = {
        { ngx_string("POST"), NGX_HTTP_POST },
        { ngx_string("PATCH"), NGX_HTTP_PATCH },
        { ngx_string("PUT"), NGX_HTTP_PUT },
        { ngx_string("DELETE"), NGX_HTTP_DELETE }
    };

    conf->methods = 0;

    while (ngx_http_hotpath_guard_next(list, &item)) {

        for (i = 0; i < 4; i++) {
            if (item.len == methods[i].name.len
                && ngx_memcmp(item.data, methods[i].name.data, item.len) == 0)
            {
                break;
            }
        }

        if (i == 4) {
            return NGX_ERROR;
        }

        conf->methods |= methods[i].method;
    }

    return NGX_OK;
}


/* Statuses, "lost", or "none" alone. */

static ngx_int_t
ngx_http_hotpath_guard_retries(ngx_http_hotpath_guard_conf_t *conf,
    ngx_str_t *list)
{
    ngx_int_t  status;
    ngx_str_t  item;

    conf->nretries = 0;

    if (ngx_http_hotpath_guard_is(list, "none")) {
        return NGX_OK;
    }

    while (ngx_http_hotpath_guard_next(list, &item)) {

        if (ngx_http_hotpath_guard_is(&item, "lost")) {
            conf->retry_lost = 1;
            continue;
        }

        status = ngx_atoi(item.data, item.len);

        if (status < 300 || status > 599
            || conf->nretries == NGX_HTTP_HOTPATH_GUARD_RETRIES)
        {
            return NGX_ERROR;
        }

        conf->retries[conf->nretries++] = status;
    }

    return NGX_OK;
}


/* What stands before the next comma; 0: there is no more. */

static ngx_uint_t
ngx_http_hotpath_guard_next(ngx_str_t *rest, ngx_str_t *item)
{
    u_char  *comma;

    if (rest->len == 0) {
        return 0;
    }

    *item = *rest;
    comma = ngx_strlchr(rest->data, rest->data + rest->len, ',');

    if (comma) {
        item->len = comma - rest->data;
    }

    rest->data += item->len + (comma ? 1 : 0);
    rest->len -= item->len + (comma ? 1 : 0);

    return 1;
}


ngx_int_t
ngx_http_hotpath_guard_merge(ngx_conf_t *cf,
    ngx_http_hotpath_guard_conf_t *prev, ngx_http_hotpath_guard_conf_t *conf,
    ngx_uint_t own, ngx_uint_t redis)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (conf->mode == 0) {
        *conf = *prev;

        if (own || conf->mode == 0) {
            conf->mode = NGX_HTTP_HOTPATH_GUARD_OFF;
        }

        return NGX_OK;
    }

    if (conf->mode == NGX_HTTP_HOTPATH_GUARD_OFF) {
        return NGX_OK;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (own) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"hotpath_idempotency\" is for what an upstream "
                      "answers, in location \"%V\"", &clcf->name);
        return NGX_ERROR;
    }

    if (conf->route.len == 0) {
        conf->route = clcf->name;
        conf->route.len = ngx_min(conf->route.len, HP_ROUTE_MAX);
    }

    conf->answers = ngx_http_hotpath_cache_find(cf, &conf->zone);

    if (conf->answers == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "unknown cache zone \"%V\" in \"hotpath_idempotency\"",
                      &conf->zone);
        return NGX_ERROR;
    }

    if (conf->answer_max + NGX_HTTP_HOTPATH_CACHE_HEAD_MAX + 64
        > ngx_http_hotpath_cache_max_entry(conf->answers))
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "an answer of %uz bytes (\"max_answer\") and its header "
                      "have no room in zone \"%V\", whose entries have up to "
                      "%uz", conf->answer_max, &conf->zone,
                      ngx_http_hotpath_cache_max_entry(conf->answers));
        return NGX_ERROR;
    }

    if (!conf->redis_set) {
        conf->redis = redis ? 1 : 0;
    }

    if (conf->redis && !redis) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"hotpath_idempotency\" with \"redis\" needs "
                      "\"hotpath_redis\" at the http level");
        return NGX_ERROR;
    }

    return NGX_OK;
}
