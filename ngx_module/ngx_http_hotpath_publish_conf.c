/*
 * ngx_http_hotpath_publish_conf.c: where events go, and with which priority.
 *
 * hotpath_stream is read here, with its defaults, and what it says is checked
 * for what does not fit together; hotpath_priority is read, and asked for each
 * request. What is written here is in nginx's configuration pool and read-only
 * once workers run. Runs while a configuration is read, and in the content
 * phase. Never in here: a priority that stops a request: what is none is
 * normal. Reference: ngx_module/README.md; tests:
 * tests/integration/test_priority.py, test_nats.py.
 */


#include "ngx_http_hotpath_publish_conf.h"


#define NGX_HTTP_HOTPATH_DEFAULT_STREAM   "HOTPATH_EVENTS"
#define NGX_HTTP_HOTPATH_DEFAULT_SUBJECT  "hotpath"


char *
ngx_http_hotpath_publish_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_main_conf_t *mcf = conf;

    u_char      *p;
    ssize_t      size;
    ngx_str_t   *value, s;
    ngx_int_t    n;
    ngx_uint_t   i;

    if (mcf->publish.stream.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    /* a name that is part of a subject: no blanks, dots or wildcards */
    for (p = value[1].data; p < value[1].data + value[1].len; p++) {
        if (!((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z')
              || (*p >= '0' && *p <= '9') || *p == '_' || *p == '-'))
        {
            break;
        }
    }

    if (value[1].len == 0 || value[1].len > 100
        || p < value[1].data + value[1].len)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid stream name \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    mcf->publish.stream = value[1];

    for (i = 2; i < cf->args->nelts; i++) {

        p = (u_char *) ngx_strchr(value[i].data, '=');
        if (p == NULL) {
            goto invalid;
        }

        s.data = p + 1;
        s.len = value[i].data + value[i].len - s.data;

        if (ngx_strncmp(value[i].data, "subject=", 8) == 0) {

            if (s.len == 0 || s.len > 100
                || strcspn((char *) s.data, " \t*>") != s.len)
            {
                goto invalid;
            }

            mcf->subject = s;

        } else if (ngx_strncmp(value[i].data, "partitions=", 11) == 0) {

            n = ngx_atoi(s.data, s.len);
            if (n < 1 || n > HP_PARTITIONS_MAX) {
                goto invalid;
            }

            mcf->publish.partitions = n;

        } else if (ngx_strncmp(value[i].data, "priorities=", 11) == 0) {

            n = ngx_atoi(s.data, s.len);
            if (n < 1 || n > HP_PRIORITIES) {
                goto invalid;
            }

            mcf->publish.priorities = n;

        } else if (ngx_strncmp(value[i].data, "backlog=", 8) == 0) {

            size = ngx_parse_size(&s);
            if (size == NGX_ERROR || size < 1) {
                goto invalid;
            }

            mcf->publish.backlog_bytes = size;

        } else if (ngx_strncmp(value[i].data, "window=", 7) == 0) {

            n = ngx_atoi(s.data, s.len);
            if (n < 1 || n > 64) {
                goto invalid;
            }

            mcf->publish.window = n;

        } else if (ngx_strncmp(value[i].data, "linger=", 7) == 0) {

            if (s.len < 3 || ngx_strncmp(s.data + s.len - 2, "us", 2) != 0) {
                goto invalid;
            }

            n = ngx_atoi(s.data, s.len - 2);
            if (n == NGX_ERROR || n > 100000) {
                goto invalid;
            }

            mcf->publish.linger_us = n;

        } else if (ngx_strncmp(value[i].data, "group=", 6) == 0) {

            n = ngx_atoi(s.data, s.len);
            if (n < 1 || n > HP_EVENT_COUNT_MAX) {
                goto invalid;
            }

            mcf->publish.group_events = n;

        } else if (ngx_strncmp(value[i].data, "group_size=", 11) == 0) {

            size = ngx_parse_size(&s);
            if (size == NGX_ERROR || size < 4096 || size > 1024 * 1024) {
                goto invalid;
            }

            mcf->publish.group_bytes = size;

        } else if (ngx_strncmp(value[i].data, "queue=", 6) == 0) {

            size = ngx_parse_size(&s);
            if (size == NGX_ERROR || size < 65536) {
                goto invalid;
            }

            mcf->publish.queue_bytes = size;

        } else if (ngx_strncmp(value[i].data, "timeout=", 8) == 0) {

            n = ngx_parse_time(&s, 0);
            if (n == NGX_ERROR || n < 1 || n > 60000) {
                goto invalid;
            }

            mcf->publish.timeout = n;

        } else if (ngx_strcmp(value[i].data, "storage=file") == 0) {

            mcf->publish.storage = HP_STORAGE_FILE;

        } else if (ngx_strcmp(value[i].data, "storage=memory") == 0) {

            mcf->publish.storage = HP_STORAGE_MEMORY;

        } else if (ngx_strncmp(value[i].data, "replicas=", 9) == 0) {

            n = ngx_atoi(s.data, s.len);
            if (n < 1 || n > 5) {
                goto invalid;
            }

            mcf->publish.replicas = n;

        } else if (ngx_strncmp(value[i].data, "duplicate_window=", 17) == 0) {

            n = ngx_parse_time(&s, 0);
            if (n == NGX_ERROR) {
                goto invalid;
            }

            mcf->publish.duplicate_window = n;

        } else if (ngx_strcmp(value[i].data, "durability=process") == 0) {

            mcf->publish.durability = NGX_HTTP_HOTPATH_DURABILITY_PROCESS;

        } else if (ngx_strcmp(value[i].data, "durability=replicated") == 0) {

            mcf->publish.durability = NGX_HTTP_HOTPATH_DURABILITY_REPLICATED;

        } else if (ngx_strcmp(value[i].data, "durability=sync") == 0) {

            mcf->publish.durability = NGX_HTTP_HOTPATH_DURABILITY_SYNC;

        } else {
            goto invalid;
        }
    }

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\"", &value[i]);
    return NGX_CONF_ERROR;
}


void
ngx_http_hotpath_publish_conf_create(ngx_http_hotpath_publish_conf_t *conf)
{
    conf->partitions = NGX_CONF_UNSET_UINT;
    conf->priorities = NGX_CONF_UNSET_UINT;
    conf->window = NGX_CONF_UNSET_UINT;
    conf->group_events = NGX_CONF_UNSET_UINT;
    conf->group_bytes = NGX_CONF_UNSET_SIZE;
    conf->queue_bytes = NGX_CONF_UNSET_SIZE;
    conf->backlog_bytes = NGX_CONF_UNSET_SIZE;
    conf->timeout = NGX_CONF_UNSET_MSEC;
    conf->linger_us = NGX_CONF_UNSET_UINT;
    conf->storage = NGX_CONF_UNSET_UINT;
    conf->replicas = NGX_CONF_UNSET_UINT;
    conf->duplicate_window = NGX_CONF_UNSET_MSEC;
    conf->durability = NGX_CONF_UNSET_UINT;
}


char *
ngx_http_hotpath_publish_conf_init(ngx_conf_t *cf,
    ngx_http_hotpath_main_conf_t *mcf)
{
    u_char                           *p;
    ngx_http_hotpath_publish_conf_t  *conf;

    conf = &mcf->publish;

    ngx_conf_init_uint_value(conf->partitions, 2);
    ngx_conf_init_uint_value(conf->priorities, 1);
    ngx_conf_init_uint_value(conf->window, 1);
    ngx_conf_init_uint_value(conf->group_events, 4096);
    ngx_conf_init_size_value(conf->group_bytes, 512 * 1024);
    ngx_conf_init_size_value(conf->queue_bytes, 32 * 1024 * 1024);
    ngx_conf_init_size_value(conf->backlog_bytes, 0);
    ngx_conf_init_msec_value(conf->timeout, 5000);
    ngx_conf_init_uint_value(conf->linger_us, 1000);
    ngx_conf_init_uint_value(conf->storage, HP_STORAGE_FILE);
    ngx_conf_init_uint_value(conf->durability,
                             NGX_HTTP_HOTPATH_DURABILITY_PROCESS);
    ngx_conf_init_msec_value(conf->duplicate_window,
                             2 * conf->timeout);
    ngx_conf_init_uint_value(conf->replicas,
        conf->durability == NGX_HTTP_HOTPATH_DURABILITY_REPLICATED ? 3 : 1);

    if (conf->durability == NGX_HTTP_HOTPATH_DURABILITY_REPLICATED
        && conf->replicas < 2)
    {
        return "\"durability=replicated\" of \"hotpath_stream\" needs two "
               "\"replicas\" or more";
    }

    if (conf->durability == NGX_HTTP_HOTPATH_DURABILITY_SYNC
        && conf->storage == HP_STORAGE_MEMORY)
    {
        return "\"durability=sync\" of \"hotpath_stream\" excludes "
               "\"storage=memory\"";
    }

    if (conf->priorities == 1 && conf->backlog_bytes) {
        return "\"backlog\" of \"hotpath_stream\" needs two \"priorities\" "
               "or more";
    }

    if (conf->priorities == 1 && mcf->prioritized) {
        return "\"hotpath_priority\" needs \"priorities\" of "
               "\"hotpath_stream\"";
    }

    if (conf->stream.data == NULL) {
        ngx_str_set(&conf->stream, NGX_HTTP_HOTPATH_DEFAULT_STREAM);
    }

    if (mcf->subject.data == NULL) {
        ngx_str_set(&mcf->subject, NGX_HTTP_HOTPATH_DEFAULT_SUBJECT);
    }

    p = ngx_pnalloc(cf->pool, mcf->subject.len + sizeof(".events"));
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    conf->subject.data = p;
    conf->subject.len = ngx_sprintf(p, "%V.events", &mcf->subject) - p;

    return NGX_CONF_OK;
}


const char *
ngx_http_hotpath_publish_tier(ngx_http_hotpath_publish_conf_t *conf)
{
    switch (conf->durability) {

    case NGX_HTTP_HOTPATH_DURABILITY_SYNC:
        return "sync";

    case NGX_HTTP_HOTPATH_DURABILITY_REPLICATED:
        return "replicated";

    default: /* NGX_HTTP_HOTPATH_DURABILITY_PROCESS */
        return "process";
    }
}


char *
ngx_http_hotpath_priority_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_loc_conf_t *lcf = conf;

    hp_str_t                       text;
    ngx_str_t                     *value;
    ngx_http_hotpath_main_conf_t  *mcf;

    if (lcf->priority != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    text.data = value[1].data;
    text.len = value[1].len;

    if (ngx_http_script_variables_count(&value[1]) == 0
        && hp_priority_parse(text) < 0)
    {
        return "must be \"high\", \"normal\", \"low\", or a variable";
    }

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hotpath_module);
    mcf->prioritized = 1;

    return ngx_http_hotpath_value(cf, &value[1], &lcf->priority) == NGX_OK
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


ngx_int_t
ngx_http_hotpath_priority(ngx_http_request_t *r, ngx_uint_t *priority)
{
    int                            found;
    hp_str_t                       text;
    ngx_str_t                      value;
    ngx_http_hotpath_loc_conf_t   *lcf;
    ngx_http_hotpath_main_conf_t  *mcf;

    *priority = HP_PRIORITY_NORMAL;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    if (lcf->priority == NULL) {
        return NGX_OK;
    }

    if (ngx_http_complex_value(r, lcf->priority, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    text.data = value.data;
    text.len = value.len;

    found = hp_priority_parse(text);
    mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);

    if (found > 0 && (ngx_uint_t) found < mcf->publish.priorities) {
        *priority = found;
    }

    return NGX_OK;
}
