/*
 * ngx_http_hotpath_output.h: hotpath_cache in a location that something other
 * than Hotpath answers, such as proxy_pass: its configuration and its hooks.
 *
 * Knows rules; included by module.h.
 */
#ifndef _NGX_HTTP_HOTPATH_OUTPUT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_OUTPUT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_hotpath_rules.h"


typedef struct {
    ngx_http_hotpath_cache_rules_t   rules;        /* those of the location */
    ngx_str_t                        scope;        /* "@" and the name */
    ngx_http_complex_value_t        *key;          /* NULL: origin and request
                                                      URI */
    ngx_http_complex_value_t        *origin;
    ngx_str_t                        vary;         /* names, each with a comma
                                                      behind it, lower case */
    ngx_http_complex_value_t        *tags;         /* NULL: none */
    ngx_array_t                     *bypass;       /* NULL: nothing */
    ngx_msec_t                       lock_timeout;
    unsigned                         enabled:1;
    unsigned                         shared:1;     /* no tenant in the key */
} ngx_http_hotpath_output_conf_t;


/* Set callbacks of the command table; cmd->offset is that of the structure. */
char *ngx_http_hotpath_output_key(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_hotpath_output_vary(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

void ngx_http_hotpath_output_create(ngx_http_hotpath_output_conf_t *conf);

/* rules: of the location, with the zone, where it has one and no content
 * handler of ours; else NULL. */
ngx_int_t ngx_http_hotpath_output_merge(ngx_conf_t *cf,
    ngx_http_hotpath_output_conf_t *prev,
    ngx_http_hotpath_output_conf_t *conf,
    ngx_http_hotpath_cache_rules_t *rules);

/* The phase handler and the filters; from postconfiguration. */
ngx_int_t ngx_http_hotpath_output_init(ngx_conf_t *cf);


#endif /* _NGX_HTTP_HOTPATH_OUTPUT_H_INCLUDED_ */
