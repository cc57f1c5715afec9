/*
 * ngx_http_hotpath_gather.h: answers to pipelined requests leave together.
 *
 * nginx writes every answer by itself, also where the next request already
 * stands in its buffer; the system call is then most of what a short answer
 * costs. Knows nginx only.
 */
#ifndef _NGX_HTTP_HOTPATH_GATHER_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_GATHER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* In every worker. */
ngx_int_t ngx_http_hotpath_gather_start(ngx_cycle_t *cycle);

/*
 * Around sending a whole answer, from its header on. Where another request for
 * the same location stands behind this one in the connection's buffer, the
 * answer is kept and goes out in front of the next one, or at the latest when
 * the event loop comes round.
 */
void ngx_http_hotpath_gather_begin(ngx_http_request_t *r);
void ngx_http_hotpath_gather_end(ngx_http_request_t *r);


#endif /* _NGX_HTTP_HOTPATH_GATHER_H_INCLUDED_ */
