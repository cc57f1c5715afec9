/*
 * ngx_http_hotpath_rules.h: how long what a zone keeps is used for what.
 *
 * What hotpath_cache says, and the times of an entry that follow from it.
 * Knows the zone.
 */
#ifndef _NGX_HTTP_HOTPATH_RULES_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_RULES_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_hotpath_cache.h"


typedef struct {
    ngx_http_hotpath_cache_t  *cache;
    ngx_msec_t                 ttl;
    ngx_msec_t                 negative_ttl;
    ngx_msec_t                 revalidate;     /* stale-while-revalidate */
    ngx_msec_t                 stale;          /* stale-if-error */
    ngx_msec_t                 redis_ttl;
    ngx_uint_t                 jitter;         /* percent of ttl, 0 to 50 */
    ngx_uint_t                 refresh;        /* percent of ttl, 0 to 50 */
    size_t                     compress_min;   /* bytes; 0: never */
    ngx_str_t                  fields;         /* the argument that names
                                                  members; empty: none does */
    ngx_str_t                  cache_control;  /* of answers that are no
                                                  upstream's; may be empty */
    ngx_http_complex_value_t  *request_control;  /* honour the client's
                                                  Cache-Control where this is
                                                  not empty and not "0" */
    ngx_int_t                (*field)(ngx_http_request_t *r, ngx_str_t *name,
                                      ngx_str_t *value);  /* NULL, or makes of
                                                  a field of the head what the
                                                  request gets */
    unsigned                   status_key:1;   /* the key in Cache-Status */
    unsigned                   fields_data:1;  /* those of the objects in the
                                                  member data */
} ngx_http_hotpath_cache_rules_t;


/* The times of a document that was had now, by the rules, jittered. */
void ngx_http_hotpath_rules_times(ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_cache_meta_t *meta);

uint64_t ngx_http_hotpath_now_ms(void);


#endif /* _NGX_HTTP_HOTPATH_RULES_H_INCLUDED_ */
