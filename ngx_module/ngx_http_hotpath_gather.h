/*
 * ngx_http_hotpath_gather.h: answers that are made together leave together.
 *
 * nginx writes every answer at once and by itself, also where the next request
 * already stands in its buffer: then the system call is most of what a short
 * answer costs. And where each is followed by another connection's request,
 * the kernel and nginx push each other out of the processor's nearest caches.
 * Knows nginx only.
 */
#ifndef _NGX_HTTP_HOTPATH_GATHER_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_GATHER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* In every worker. */
ngx_int_t ngx_http_hotpath_gather_start(ngx_cycle_t *cycle);

/*
 * Memory in which the body of the answer to r may be put, so that it is not
 * copied once more: until gather_end() of that answer, and no longer than this
 * turn of the event loop. NGX_DECLINED: it would not be kept there.
 */
ngx_int_t ngx_http_hotpath_gather_room(ngx_http_request_t *r, ngx_str_t *room);

/*
 * Around sending a whole answer, from its header on. It is kept, and goes out
 * with the others at the end of the turn; or, where another request for the
 * same location stands behind this one in the connection's buffer, in front of
 * the answer to that. gather_end() gives NGX_ERROR where there is no memory.
 */
void ngx_http_hotpath_gather_begin(ngx_http_request_t *r);
ngx_int_t ngx_http_hotpath_gather_end(ngx_http_request_t *r);


#endif /* _NGX_HTTP_HOTPATH_GATHER_H_INCLUDED_ */
