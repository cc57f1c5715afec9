/*
 * ngx_http_hotpath_pgcancel.h: asks a Postgres server to stop what it does for
 * a connection, without waiting for it.
 *
 * A cancel request is a connection of its own to the same server, which closes
 * it as soon as the signal is sent. Knows nginx, libpq and backend.
 */
#ifndef _NGX_HTTP_HOTPATH_PGCANCEL_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_PGCANCEL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <libpq-fe.h>


/* Most requests that a worker has under way. */
#define NGX_HTTP_HOTPATH_PGCANCEL_MAX  8


/*
 * Sends a request for what pg is doing and returns at once. NGX_OK: it is on
 * its way; whether it arrives, and whether it arrives while that statement
 * still runs, nobody knows. NGX_BUSY: so many are under way already.
 * NGX_ERROR: it could not be sent. pg may be closed at any time after.
 */
ngx_int_t ngx_http_hotpath_pgcancel(PGconn *pg, ngx_log_t *log);

/* Gives up what is under way; at the end of a worker. */
void ngx_http_hotpath_pgcancel_stop(void);


#endif /* _NGX_HTTP_HOTPATH_PGCANCEL_H_INCLUDED_ */
