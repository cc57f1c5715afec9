/*
 * ngx_http_hotpath_kept.h: the head of an upstream's answer as a zone keeps it.
 *
 * Knows head and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_KEPT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_KEPT_H_INCLUDED_


#include "ngx_http_hotpath_head.h"


/* Names of fields, in any case. */
#define ngx_http_hotpath_kept_same(a, b)                                      \
    ((a)->len == (b)->len                                                     \
     && ngx_strncasecmp((a)->data, (b)->data, (b)->len) == 0)


/*
 * Writes the head of the answer that r is about to send: *head with the fields
 * in place of its own. connection and date: those of the upstream, may be
 * empty. stored: NULL, or of a 304 the fields that the zone has, of which those
 * that the 304 has too are left out. NGX_OK with *text, in the request's pool;
 * NGX_DECLINED: too large; NGX_ERROR.
 */
ngx_int_t ngx_http_hotpath_kept_head(ngx_http_request_t *r,
    ngx_http_hotpath_head_t *head, ngx_str_t *connection, ngx_str_t *date,
    ngx_str_t *stored, ngx_str_t *text);

/* Another line of the same field behind the first. */
ngx_int_t ngx_http_hotpath_kept_join(ngx_pool_t *pool, ngx_str_t *value,
    ngx_str_t *more);


#endif /* _NGX_HTTP_HOTPATH_KEPT_H_INCLUDED_ */
