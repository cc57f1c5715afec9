/*
 * ngx_http_hotpath_output_conf.c: the directives of hotpath_cache in front of
 * an upstream, read, checked and merged.
 *
 * What they mean is in ngx_http_hotpath_variant.c (hotpath_cache_key,
 * hotpath_cache_vary), ngx_http_hotpath_storable.c (hotpath_cache_tags) and
 * ngx_http_hotpath_output.c (the others); the zone and its times are read with
 * those of read models, in the module's own file. Owns the values, in nginx's
 * configuration pool. Runs only while a configuration is read. Reference:
 * README.md, "In front of any upstream"; what is refused here:
 * tests/integration/test_output_cache.py.
 */


#include "ngx_http_hotpath_module.h"
#include "core/hp_http.h"
#include "core/hp_id.h"


void
ngx_http_hotpath_output_create(ngx_http_hotpath_output_conf_t *conf)
{
    /*
     * set by ngx_pcalloc():
     *
     *     conf->scope = { 0, NULL };
     *     conf->key = NULL;
     *     conf->vary = { 0, NULL };
     *     conf->enabled = 0;
     *     conf->shared = 0;
     */

    conf->tags = NGX_CONF_UNSET_PTR;
    conf->bypass = NGX_CONF_UNSET_PTR;
    conf->lock_timeout = NGX_CONF_UNSET_MSEC;
}


ngx_int_t
ngx_http_hotpath_output_merge(ngx_conf_t *cf,
    ngx_http_hotpath_output_conf_t *prev, ngx_http_hotpath_output_conf_t *conf,
    ngx_http_hotpath_cache_rules_t *rules)
{
    ngx_str_t  origin;

    if (conf->scope.data == NULL) {
        conf->scope = prev->scope;
        conf->key = prev->key;
        conf->shared = prev->shared;
    }

    if (conf->scope.data == NULL) {
        ngx_str_set(&conf->scope, "@http");
    }

    if (conf->vary.data == NULL) {
        conf->vary = prev->vary;
    }

    ngx_conf_merge_ptr_value(conf->tags, prev->tags, NULL);
    ngx_conf_merge_ptr_value(conf->bypass, prev->bypass, NULL);
    ngx_conf_merge_msec_value(conf->lock_timeout, prev->lock_timeout, 5000);

    if (rules == NULL) {
        return NGX_OK;
    }

    conf->enabled = 1;
    conf->rules = *rules;

    /* the query is the upstream's to read */
    ngx_str_null(&conf->rules.fields);

    if (conf->key == NULL) {
        ngx_str_set(&origin, "$scheme://$host:$server_port");

        return ngx_http_hotpath_value(cf, &origin, &conf->origin);
    }

    return NGX_OK;
}


char *
ngx_http_hotpath_output_key(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    hp_str_t                         name;
    ngx_str_t                       *value;
    ngx_uint_t                       i;
    ngx_http_hotpath_output_conf_t  *ocf;

    ocf = (ngx_http_hotpath_output_conf_t *) (p + cmd->offset);

    if (ocf->scope.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    ngx_str_set(&ocf->scope, "@http");

    if (ngx_strcmp(value[1].data, "default") != 0
        && ngx_http_hotpath_value(cf, &value[1], &ocf->key) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "shared") == 0) {
            ocf->shared = 1;
            continue;
        }

        if (ngx_strncmp(value[i].data, "name=", 5) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        name.data = value[i].data + 5;
        name.len = value[i].len - 5;

        if (!hp_model_valid(name)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid name \"%V\": a lower-case letter and "
                               "then up to 62 of a-z 0-9 _ are allowed",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        /* read models have no "@" in their names */

        ocf->scope.len = name.len + 1;
        ocf->scope.data = ngx_pnalloc(cf->pool, name.len + 1);
        if (ocf->scope.data == NULL) {
            return NGX_CONF_ERROR;
        }

        ocf->scope.data[0] = '@';
        ngx_memcpy(ocf->scope.data + 1, name.data, name.len);
    }

    return NGX_CONF_OK;
}


char *
ngx_http_hotpath_output_vary(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    u_char                          *dst;
    size_t                           len;
    hp_str_t                         rest, name;
    ngx_str_t                       *value;
    ngx_uint_t                       i;
    ngx_http_hotpath_output_conf_t  *ocf;

    ocf = (ngx_http_hotpath_output_conf_t *) (p + cmd->offset);

    if (ocf->vary.data) {
        return "is duplicate";
    }

    value = cf->args->elts;
    len = 0;

    for (i = 1; i < cf->args->nelts; i++) {
        len += value[i].len + 1;
    }

    if (len > 256 || cf->args->nelts - 1 > 8) {
        return "has too many names";
    }

    dst = ngx_pnalloc(cf->pool, len);
    if (dst == NULL) {
        return NGX_CONF_ERROR;
    }

    ocf->vary.data = dst;
    ocf->vary.len = len;

    for (i = 1; i < cf->args->nelts; i++) {

        rest.data = value[i].data;
        rest.len = value[i].len;

        if (hp_vary_next(&rest, &name) != 1 || name.len != value[i].len
            || name.data[0] == '*')
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" is no name of a field", &value[i]);
            return NGX_CONF_ERROR;
        }

        ngx_strlow(dst, value[i].data, value[i].len);
        dst += value[i].len;
        *dst++ = ',';
    }

    return NGX_CONF_OK;
}
