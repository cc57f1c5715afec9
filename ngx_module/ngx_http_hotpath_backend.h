/*
 * ngx_http_hotpath_backend.h: what the client libraries' rooms share.
 *
 * hiredis and libpq own their sockets; here such a socket is put on nginx's
 * events and taken off again without being closed. Besides: how long to wait
 * before the next connection attempt, and a circuit breaker. All of it is
 * worker-local state, nothing is shared between processes. Knows nginx only.
 */
#ifndef _NGX_HTTP_HOTPATH_BACKEND_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_BACKEND_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


/*
 * Puts a library's socket on nginx's events, waiting for nothing yet; NULL
 * where there is no free connection (logged by nginx).
 */
ngx_connection_t *ngx_http_hotpath_backend_attach(ngx_socket_t fd, void *data,
    ngx_event_handler_pt read, ngx_event_handler_pt write, ngx_log_t *log);

/*
 * Waits for what is asked for and for nothing else; level-triggered, because
 * the libraries do not read until nothing is left. Cheap where nothing changes.
 */
ngx_int_t ngx_http_hotpath_backend_wait(ngx_connection_t *c, ngx_uint_t read,
    ngx_uint_t write);

/*
 * Takes the socket off the events and gives the connection back to nginx; the
 * socket stays the library's. To be called before the library may close it or
 * swap it for another; where it may have done so already, fd is what the
 * library has now.
 */
void ngx_http_hotpath_backend_detach(ngx_connection_t *c, ngx_socket_t fd);


/* What of a library's message may go to the log: it may quote what a client
 * sent, so it ends with the first control character. */
size_t ngx_http_hotpath_backend_line(const char *message);


/* Milliseconds before attempt number n (from 0) of a row of failed ones: 50 ms
 * doubled up to 5 s, of which the second half is drawn at random. */
ngx_msec_t ngx_http_hotpath_backend_backoff(ngx_uint_t n);


/*
 * Closed: everything passes. After five calls in a row that got no answer in
 * time, or none of use, it opens and nothing passes for 0.4 to 0.8 s; then one
 * call, the probe, passes, and how that ends closes it or opens it again.
 */
typedef struct {
    ngx_uint_t     failures;      /* in a row, while closed */
    ngx_msec_t     open_until;    /* meaningful while open */
    unsigned       open:1;
    unsigned       probing:1;
} ngx_http_hotpath_breaker_t;


/* 1 where a call would pass now. */
ngx_uint_t ngx_http_hotpath_breaker_closed(ngx_http_hotpath_breaker_t *b);

/* NGX_OK: go on. NGX_AGAIN: go on, as the probe. NGX_BUSY: do not. */
ngx_int_t ngx_http_hotpath_breaker_enter(ngx_http_hotpath_breaker_t *b);

/* How a call that passed has ended; good: answered, and in time. Every probe
 * must end here or in _abandon. what is for the log: "redis", "postgres". */
void ngx_http_hotpath_breaker_leave(ngx_http_hotpath_breaker_t *b,
    ngx_uint_t probe, ngx_uint_t good, const char *what, ngx_log_t *log);

/* The probe was given up before anything could be learnt from it. */
void ngx_http_hotpath_breaker_abandon(ngx_http_hotpath_breaker_t *b);


#endif /* _NGX_HTTP_HOTPATH_BACKEND_H_INCLUDED_ */
