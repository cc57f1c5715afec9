/*
 * ngx_http_hotpath_serve.h: an entry of a zone as an HTTP answer.
 *
 * Validators and 304, HEAD, codings, Age, Cache-Control, Cache-Status, Vary,
 * fields=. Knows answer, head, rules, compress, the zone and core/; nothing of
 * where an entry came from.
 */
#ifndef _NGX_HTTP_HOTPATH_SERVE_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_SERVE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "core/hp_http.h"
#include "ngx_http_hotpath_cache.h"
#include "ngx_http_hotpath_head.h"
#include "ngx_http_hotpath_rules.h"


/* How an answer came about. */
typedef struct {
    hp_fwd_t    fwd;            /* HP_FWD_NONE: a hit */
    ngx_uint_t  fwd_status;     /* 0: not said */
    unsigned    stored:1;
    unsigned    collapsed:1;
    ngx_str_t   detail;         /* empty: none */
    ngx_str_t   key;            /* the zone's, of the entry; where it is empty,
                                   nothing is coded */
} ngx_http_hotpath_how_t;


/* What the client takes, as ngx_http_hotpath_cache_get() wants it: a set of
 * HP_CODING_*. Identity alone where rules do not compress. */
ngx_uint_t ngx_http_hotpath_serve_codings(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules);

/*
 * Answers from *copy, whose body may be changed: 200 or the head's status, 304
 * where the client has it, 412, 400 where it asks for fields that are no list
 * of names, or the 404 problem where it is negative without a head. What it
 * returns is for ngx_http_finalize_request(). Where the client would take a
 * coding and the entry has none, they are made in the background.
 */
ngx_int_t ngx_http_hotpath_serve(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_copy_t *copy,
    ngx_http_hotpath_how_t *how);


#endif /* _NGX_HTTP_HOTPATH_SERVE_H_INCLUDED_ */
