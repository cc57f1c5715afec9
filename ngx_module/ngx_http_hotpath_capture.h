/*
 * ngx_http_hotpath_capture.h: a copy of the body that an upstream sends.
 *
 * Knows nginx only.
 */
#ifndef _NGX_HTTP_HOTPATH_CAPTURE_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_CAPTURE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* Zeroed; max and expected are the caller's to set. */
typedef struct {
    u_char   *data;       /* so far; NULL: nothing */
    size_t    len;
    size_t    size;
    size_t    max;
    off_t     expected;   /* by Content-Length; -1: not known */
} ngx_http_hotpath_capture_t;


/*
 * Copies what comes now, into the request's pool. NGX_AGAIN: there is more to
 * come; NGX_OK: it is whole; NGX_DECLINED: it is too large, or cannot be had;
 * NGX_ABORT: it has ended before it was whole.
 */
ngx_int_t ngx_http_hotpath_capture_add(ngx_http_request_t *r,
    ngx_http_hotpath_capture_t *capture, ngx_chain_t *in);

/* What was copied is not needed. */
void ngx_http_hotpath_capture_drop(ngx_http_request_t *r,
    ngx_http_hotpath_capture_t *capture);

/* Of what comes nothing goes on. */
void ngx_http_hotpath_capture_swallow(ngx_chain_t *in);


#endif /* _NGX_HTTP_HOTPATH_CAPTURE_H_INCLUDED_ */
