/*
 * ngx_http_hotpath_pgconf.c: what hotpath_postgres says, read and checked.
 *
 * The parameters beside the connection string, which is conninfo's, and what
 * they are where they are not written. Runs in the master, or in `nginx -t`,
 * while the configuration is read; all memory is that configuration's.
 *
 * What must never happen here: a parameter that is taken for something else
 * than it says. Reference: README.md, "hotpath_postgres"; test:
 * tests/integration/test_postgres.py.
 */
#include "ngx_http_hotpath_pgconf.h"
#include "ngx_http_hotpath_conninfo.h"


#define NGX_HTTP_HOTPATH_PGCONF_LINKS_MAX  64


static ngx_int_t ngx_http_hotpath_pgconf_option(
    ngx_http_hotpath_pgconf_t *conf, ngx_str_t *value);


ngx_int_t
ngx_http_hotpath_pgconf_parse(ngx_conf_t *cf, ngx_array_t *args,
    ngx_http_hotpath_pgconf_t *conf)
{
    ngx_str_t   *value;
    ngx_uint_t   i;
    ngx_msec_t   timeout;

    conf->nlinks = 4;
    conf->queue_max = 256;
    conf->statement_timeout = NGX_CONF_UNSET_MSEC;
    conf->pgbouncer = NGX_CONF_UNSET;
    conf->link.timeout = 1000;
    conf->link.max_result = 8 * 1024 * 1024;
    conf->link.prepare = NGX_CONF_UNSET;

    value = args->elts;

    for (i = 2; i < args->nelts; i++) {
        if (ngx_http_hotpath_pgconf_option(conf, &value[i]) != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[i]);
            return NGX_ERROR;
        }
    }

    ngx_conf_init_value(conf->pgbouncer, 0);
    ngx_conf_init_value(conf->link.prepare, !conf->pgbouncer);

    /* A cancel request comes first, where it can. */

    timeout = conf->link.timeout;

    ngx_conf_init_msec_value(conf->statement_timeout,
                             conf->pgbouncer ? 0 : timeout + timeout / 4);

    if (conf->pgbouncer && conf->statement_timeout) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"statement_timeout\" does not pass through "
                           "PgBouncer, set it for the role instead");
        return NGX_ERROR;
    }

    return ngx_http_hotpath_conninfo_parse(cf, &value[1],
                                           conf->statement_timeout,
                                           ngx_max(2 * timeout, 2000),
                                           &conf->link.servers.conninfo);
}


static ngx_int_t
ngx_http_hotpath_pgconf_option(ngx_http_hotpath_pgconf_t *conf,
    ngx_str_t *value)
{
    u_char      *p;
    ssize_t      size;
    ngx_str_t    s;
    ngx_int_t    n;
    ngx_flag_t  *flag;

    p = ngx_strlchr(value->data, value->data + value->len, '=');

    if (p == NULL) {
        return NGX_ERROR;
    }

    s.data = ++p;
    s.len = value->data + value->len - p;

    if (ngx_strncmp(value->data, "connections=", 12) == 0) {
        n = ngx_atoi(s.data, s.len);
        conf->nlinks = n;

        return n > 0 && n <= NGX_HTTP_HOTPATH_PGCONF_LINKS_MAX ? NGX_OK
                                                               : NGX_ERROR;
    }

    if (ngx_strncmp(value->data, "queue=", 6) == 0) {
        n = ngx_atoi(s.data, s.len);
        conf->queue_max = n;

        return n > 0 && n <= 100000 ? NGX_OK : NGX_ERROR;
    }

    if (ngx_strncmp(value->data, "timeout=", 8) == 0) {
        n = ngx_parse_time(&s, 0);
        conf->link.timeout = n;

        return n > 0 && n <= 60000 ? NGX_OK : NGX_ERROR;
    }

    if (ngx_strncmp(value->data, "statement_timeout=", 18) == 0) {
        n = ngx_parse_time(&s, 0);
        conf->statement_timeout = n;

        return n >= 0 && n <= 600000 ? NGX_OK : NGX_ERROR;
    }

    if (ngx_strncmp(value->data, "max_result=", 11) == 0) {
        size = ngx_parse_size(&s);
        conf->link.max_result = size;

        return size >= 65536 && size <= 1024 * 1024 * 1024 ? NGX_OK
                                                           : NGX_ERROR;
    }

    if (ngx_strncmp(value->data, "prepare=", 8) == 0) {
        flag = &conf->link.prepare;

    } else if (ngx_strncmp(value->data, "pgbouncer=", 10) == 0) {
        flag = &conf->pgbouncer;

    } else {
        return NGX_ERROR;
    }

    *flag = (s.len == 2);

    return (s.len == 2 && ngx_strncmp(s.data, "on", 2) == 0)
           || (s.len == 3 && ngx_strncmp(s.data, "off", 3) == 0) ? NGX_OK
                                                                 : NGX_ERROR;
}
