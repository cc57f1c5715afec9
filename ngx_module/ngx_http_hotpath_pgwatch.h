/*
 * ngx_http_hotpath_pgwatch.h: a bound for how long one read of a library may
 * keep the event loop.
 *
 * libpq reads from a socket as long as there is something to read, so a peer
 * that sends as fast as it is read decides when the call returns. Between begin
 * and end the call has so much processor time; then its socket is shut down
 * under it, and it fails. Knows nginx.
 */
#ifndef _NGX_HTTP_HOTPATH_PGWATCH_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_PGWATCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_HOTPATH_PGWATCH_MS  20


void ngx_http_hotpath_pgwatch_begin(ngx_socket_t fd, ngx_log_t *log);

/* 1: the time was up, the socket is of no more use. */
ngx_uint_t ngx_http_hotpath_pgwatch_end(void);


#endif /* _NGX_HTTP_HOTPATH_PGWATCH_H_INCLUDED_ */
