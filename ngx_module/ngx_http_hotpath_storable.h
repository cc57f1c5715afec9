/*
 * ngx_http_hotpath_storable.h: what of an upstream's answer a shared cache may
 * keep, for how long, and for whom.
 *
 * RFC 9111, RFC 5861, and what nginx's own X-Accel-Expires and
 * proxy_ignore_headers say. Knows the configuration (module.h) and the shape of
 * an entry; not the zone, nor how a request goes on.
 */
#ifndef _NGX_HTTP_HOTPATH_STORABLE_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_STORABLE_H_INCLUDED_


#include "ngx_http_hotpath_module.h"


typedef struct {
    ngx_str_t                       head;      /* to be stored */
    ngx_str_t                       names;     /* of the fields it varies by,
                                                  each with a comma behind it */
    ngx_http_hotpath_cache_meta_t   meta;      /* its times only */
    uint64_t                        tags[NGX_HTTP_HOTPATH_CACHE_TAGS];
    ngx_uint_t                      ntags;
    ngx_str_t                       detail;    /* of DECLINED: why */
    unsigned                        lasting:1; /* others may have it unasked */
} ngx_http_hotpath_storable_t;


/*
 * The answer whose header r->upstream has and r is about to send; asked_ms:
 * when the upstream was asked. NGX_OK: *storable is filled, in the request's
 * pool. NGX_DECLINED: must not be stored. NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_hotpath_storable_judge(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, uint64_t asked_ms,
    ngx_http_hotpath_storable_t *storable);

/* The same for a 304 that says that *copy is good: its head with the fields of
 * the 304 (RFC 9111, 3.2). */
ngx_int_t ngx_http_hotpath_storable_renewed(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, uint64_t asked_ms,
    ngx_http_hotpath_copy_t *copy, ngx_http_hotpath_storable_t *storable);

/* The head of such an answer whether a cache may keep it or not, all but what
 * ngx_http_hotpath_kept.h leaves out. NGX_OK, NGX_DECLINED: too large,
 * NGX_ERROR. */
ngx_int_t ngx_http_hotpath_storable_whole(ngx_http_request_t *r,
    ngx_str_t *head);


#endif /* _NGX_HTTP_HOTPATH_STORABLE_H_INCLUDED_ */
