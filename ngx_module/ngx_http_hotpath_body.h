/*
 * ngx_http_hotpath_body.h: a request's body in one piece, or a refusal.
 *
 * Knows nginx, answer, metrics and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_BODY_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_BODY_H_INCLUDED_


#include "ngx_http_hotpath_answer.h"
#include "ngx_http_hotpath_metrics.h"
#include "core/hp_json.h"


/* Called once, with the whole text (empty where there is none), decoded. It
 * and what is allocated from pool may be gone as soon as the handler returns.
 * NGX_DONE: it will finalize the request later; anything else is what the
 * request is finalized with. */
typedef ngx_int_t (*ngx_http_hotpath_body_pt)(ngx_http_request_t *r,
    void *data, ngx_pool_t *pool, hp_str_t *text);


typedef struct {
    size_t                     max;        /* bytes of the text */
    size_t                     list_max;   /* of one that begins an array */
    size_t                     memory_max; /* that a worker receives into */
    unsigned                   gzip:1;     /* Content-Encoding */
    ngx_http_hotpath_metric_e  refused;    /* counts what is */
    ngx_http_hotpath_metric_e  full;       /* the same for 503 */
    ngx_http_hotpath_body_pt   handler;
    void                      *data;
} ngx_http_hotpath_body_conf_t;


/* Whether the request says that its body is JSON, or nothing about it. */
ngx_uint_t ngx_http_hotpath_body_is_json(ngx_http_request_t *r);

/* What a Content-Encoding says; NGX_DECLINED: one that is not taken. */
ngx_int_t ngx_http_hotpath_body_coding(ngx_str_t *value, ngx_uint_t *gzip);

/* What a body is refused with that is not as it should be; not for OK. */
ngx_http_hotpath_problem_e ngx_http_hotpath_body_problem(
    hp_json_status_t status);

/*
 * Reads what conf allows, then calls the handler, now or later; a longer body
 * is answered 413 as a problem document, however it is sent, one that is no
 * gzip 400, and where memory_max is used up 503. conf is copied. The result is
 * the content handler's. Uses the request's module context.
 */
ngx_int_t ngx_http_hotpath_body_read(ngx_http_request_t *r,
    ngx_http_hotpath_body_conf_t *conf);

/* For what is kept of a body longer than that: it counts as received while it
 * is. NGX_BUSY: memory_max is used up. */
ngx_int_t ngx_http_hotpath_body_reserve(size_t size, size_t memory_max);
void ngx_http_hotpath_body_unreserve(size_t size);


#endif /* _NGX_HTTP_HOTPATH_BODY_H_INCLUDED_ */
