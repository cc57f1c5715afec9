/*
 * ngx_http_hotpath_direct.h: an answer that passes no filter.
 *
 * nginx makes an answer in some twenty header and body filters, of which for a
 * short one in memory only the last of either kind has something to do; where a
 * worker comes back to thousands of requests long after it read them, that is
 * a seventh of what an accepted event costs. Knows nginx only.
 */
#ifndef _NGX_HTTP_HOTPATH_DIRECT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_DIRECT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * The answer 202 with a body of JSON, byte for byte what nginx's own last
 * filters would send if those before them did nothing; the variables of the
 * answer are set as they set them. begin() writes it up to the header lines of
 * r->headers_out.headers and gives where to go on: with a Location, an empty
 * line and the body, whose length is told before, and which are `more` bytes
 * in all. NULL, with nothing done: the answer has to go through the filters
 * (HTTP/2, HTTP/1.0, TLS, a connection that will be closed or has something
 * unsent, limit_rate, more bytes than fit). The memory is the worker's: nothing
 * may come in between begin() and end(), which sends it up to last and gives
 * what ngx_http_output_filter() would.
 */
u_char *ngx_http_hotpath_direct_begin(ngx_http_request_t *r, size_t length,
    size_t more);
ngx_int_t ngx_http_hotpath_direct_end(ngx_http_request_t *r,
    ngx_str_t *location, u_char *body, u_char *last);


#endif /* _NGX_HTTP_HOTPATH_DIRECT_H_INCLUDED_ */
