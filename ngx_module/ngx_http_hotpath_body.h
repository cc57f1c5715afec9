/*
 * ngx_http_hotpath_body.h: a request's body in one piece, or a refusal.
 *
 * Knows nginx, answer and metrics.
 */
#ifndef _NGX_HTTP_HOTPATH_BODY_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_BODY_H_INCLUDED_


#include "ngx_http_hotpath_answer.h"
#include "ngx_http_hotpath_metrics.h"
#include "core/hp_json.h"


/* Called once, with the whole body (empty where there is none), which lives
 * as long as the request. NGX_DONE: it will finalize the request later;
 * anything else is what the request is finalized with. */
typedef ngx_int_t (*ngx_http_hotpath_body_pt)(ngx_http_request_t *r,
    hp_str_t *text);

/* Whether the request says that its body is JSON, or nothing about it. */
ngx_uint_t ngx_http_hotpath_body_is_json(ngx_http_request_t *r);

/* What a body is refused with that is not as it should be; not for OK. */
ngx_http_hotpath_problem_e ngx_http_hotpath_body_problem(
    hp_json_status_t status);

/*
 * Reads at most max bytes, then calls the handler, now or later; a longer body
 * is answered 413 as a problem document, however it is sent, and counted as
 * refused. The result is the content handler's. Uses the request's module
 * context.
 */
ngx_int_t ngx_http_hotpath_body_read(ngx_http_request_t *r, size_t max,
    ngx_http_hotpath_metric_e refused, ngx_http_hotpath_body_pt handler);


#endif /* _NGX_HTTP_HOTPATH_BODY_H_INCLUDED_ */
