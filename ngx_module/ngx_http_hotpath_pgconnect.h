/*
 * ngx_http_hotpath_pgconnect.h: finds a Postgres server that fits, and
 * connects to it.
 *
 * All servers that a connection string names and that have what its
 * target_session_attrs wants are tried, one address after the other, each with
 * a deadline; what did not answer or did not fit is tried last for a while.
 * Knows nginx, libpq, backend and conninfo.
 */
#ifndef _NGX_HTTP_HOTPATH_PGCONNECT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_PGCONNECT_H_INCLUDED_


#include "ngx_http_hotpath_backend.h"
#include "ngx_http_hotpath_conninfo.h"
#include <libpq-fe.h>


/* A host with one of its target_session_attrs. */
#define NGX_HTTP_HOTPATH_PGCONNECT_CHOICES                                    \
    (2 * NGX_HTTP_HOTPATH_CONNINFO_HOSTS_MAX)


/* What a worker knows of the servers; shared by its connections. */
typedef struct {
    ngx_http_hotpath_conninfo_t    conninfo;
    ngx_resolver_t                *resolver;  /* NULL: addresses stay */
    ngx_log_t                     *log;

    /* by choice: until when others go first; in the past or 0: not so */
    ngx_msec_t                     bad_until[
                                           NGX_HTTP_HOTPATH_PGCONNECT_CHOICES];
} ngx_http_hotpath_pgservers_t;


/* pg is connected, and the caller's to finish; NULL: no server was found. */
typedef void (*ngx_http_hotpath_pgconnect_pt)(void *data, PGconn *pg);


/* To be zeroed and filled as far as `data`; the rest is pgconnect's. */
typedef struct {
    ngx_http_hotpath_pgservers_t     *servers;
    ngx_http_hotpath_pgconnect_pt     handler;
    void                             *data;

    PGconn                           *pg;         /* NULL: none under way */
    ngx_connection_t                 *connection;
    ngx_event_t                       begin;      /* posted, never a timer */
    ngx_event_t                       timer;      /* deadline of pg */
    ngx_resolver_ctx_t               *resolving;  /* NULL: no question */
    u_char                            choices[
                                           NGX_HTTP_HOTPATH_PGCONNECT_CHOICES];
    ngx_uint_t                        nchoices;
    ngx_uint_t                        at;         /* in choices */
    ngx_uint_t                        addr;       /* of that host */
    unsigned                          busy:1;     /* between begin and the
                                                     handler */
    unsigned                          resolved:1; /* that host's name was */
    unsigned                          asking:1;
} ngx_http_hotpath_pgconnect_t;


/* Calls the handler once, later, unless _drop comes before. */
void ngx_http_hotpath_pgconnect_begin(ngx_http_hotpath_pgconnect_t *c);
void ngx_http_hotpath_pgconnect_drop(ngx_http_hotpath_pgconnect_t *c);

/* Of the connection that was found last: its server answers no more. */
void ngx_http_hotpath_pgconnect_blame(ngx_http_hotpath_pgconnect_t *c);

/* Of the same: 1 where it is what prefer-standby makes do with. */
ngx_uint_t ngx_http_hotpath_pgconnect_second(ngx_http_hotpath_pgconnect_t *c);


#endif /* _NGX_HTTP_HOTPATH_PGCONNECT_H_INCLUDED_ */
