/*
 * ngx_http_hotpath_param.h: typed parameters of a location.
 *
 * What a request says in its path, its query or its headers is checked by a
 * rule (core/hp_param.h) before anything behind it is asked, and then has one
 * spelling. Every other room that needs such a value gets it from here.
 */
#ifndef _NGX_HTTP_HOTPATH_PARAM_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_PARAM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "core/hp_param.h"
#include "ngx_http_hotpath_answer.h"


#define NGX_HTTP_HOTPATH_PARAMS_MAX  16


typedef enum {
    ngx_http_hotpath_param_path = 0,
    ngx_http_hotpath_param_arg,
    ngx_http_hotpath_param_header
} ngx_http_hotpath_param_source_e;


/* Written when the configuration is read. */
typedef struct {
    ngx_str_t                        name;     /* as problems call it */
    ngx_http_hotpath_param_source_e  source;
    ngx_uint_t                       segment;  /* of the path, from 1; 0: all
                                                  of it */
    ngx_str_t                        from;     /* the argument's, the header's
                                                  name */
    hp_param_rule_t                  rule;
    ngx_str_t                        absent;   /* the value where it is not
                                                  given and need not be */
    ngx_str_t                        low;      /* the rule's bounds as text */
    ngx_str_t                        high;
    unsigned                         optional:1;
    unsigned                         clamp:1;
    unsigned                         raw:1;    /* no rule: decoded, no more */
} ngx_http_hotpath_param_t;


typedef struct {
    ngx_array_t                     *declared; /* of param_t; NULL: none */
    ngx_flag_t                       strict;
    ngx_http_hotpath_param_t        *more;     /* what another directive of the
                                                  location looks at */
    ngx_uint_t                       nmore;
} ngx_http_hotpath_param_conf_t;


/* Why a value is refused. */
typedef struct {
    ngx_http_hotpath_problem_e       problem;
    const char                      *reason;   /* NULL: none */
} ngx_http_hotpath_param_refusal_t;


/* hotpath_param; conf + cmd->offset is a param_conf_t. */
char *ngx_http_hotpath_param_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
void ngx_http_hotpath_param_merge(ngx_http_hotpath_param_conf_t *prev,
    ngx_http_hotpath_param_conf_t *conf);

/* Fills *param with an argument of the query; rule and absent are constants
 * that fit, NULL: raw, and not given is an empty value. */
char *ngx_http_hotpath_param_argument(ngx_conf_t *cf,
    ngx_http_hotpath_param_t *param, ngx_str_t *name, ngx_str_t *rule,
    ngx_str_t *absent);

/* NGX_OK: *value is the one spelling of what the request gives; NGX_DECLINED:
 * refused, *why is filled; NGX_ERROR. */
ngx_int_t ngx_http_hotpath_param_get(ngx_http_request_t *r,
    ngx_http_hotpath_param_t *param, ngx_str_t *value,
    ngx_http_hotpath_param_refusal_t *why);

/* Of the phase precontent: refuses what any parameter of the location
 * refuses. */
ngx_int_t ngx_http_hotpath_param_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_HOTPATH_PARAM_H_INCLUDED_ */
