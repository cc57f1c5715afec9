/*
 * ngx_http_hotpath_postgres.h: Postgres from the event loop, through libpq's
 * asynchronous interface on nginx's events.
 *
 * A bounded pool of connections per worker, prepared statements, a bounded
 * queue in front of it, a deadline for every query, a circuit breaker. Knows
 * nginx and core/; gives results to a callback, never includes request.
 */
#ifndef _NGX_HTTP_HOTPATH_POSTGRES_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_POSTGRES_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <libpq-fe.h>


#define NGX_HTTP_HOTPATH_POSTGRES_PARAMS_MAX  16


typedef struct ngx_http_hotpath_postgres_s        ngx_http_hotpath_postgres_t;
typedef struct ngx_http_hotpath_postgres_call_s
    ngx_http_hotpath_postgres_call_t;

/* Written once, when the configuration is read; id is unique per SQL text. */
typedef struct {
    ngx_uint_t  id;
    ngx_str_t   sql;           /* terminated */
} ngx_http_hotpath_statement_t;

/* rc is NGX_OK (result is PGRES_TUPLES_OK, owned by the caller of the handler,
 * valid during the call) or NGX_ERROR (down, deadline passed, refused). */
typedef void (*ngx_http_hotpath_postgres_pt)(void *data, ngx_int_t rc,
    PGresult *result);

/*
 * hotpath_postgres "conninfo" [connections=4] [queue=256] [timeout=1s]
 * [statement_timeout=1250ms] [max_result=8m] [prepare=on|off]
 * [pgbouncer=on|off]; the set callback of the command table, as for Redis.
 * Host names are resolved here, and again, by the resolver of the http level,
 * whenever a connection is made.
 */
char *ngx_http_hotpath_postgres_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* The statement of that text, registered once per pool. */
ngx_http_hotpath_statement_t *ngx_http_hotpath_postgres_statement(
    ngx_conf_t *cf, ngx_http_hotpath_postgres_t *postgres, ngx_str_t *sql);

ngx_int_t ngx_http_hotpath_postgres_start(
    ngx_http_hotpath_postgres_t *postgres, ngx_cycle_t *cycle);
void ngx_http_hotpath_postgres_stop(ngx_http_hotpath_postgres_t *postgres);

/*
 * Runs a statement with text parameters (a NULL data is SQL NULL); they are
 * copied. NULL where nothing was queued and the handler will not be called
 * (breaker open, queue full, no connection, a value with a NUL in it, which
 * Postgres cannot hold). Else the handler is called exactly once, later,
 * unless the call is cancelled; with n as it was in every earlier call of that
 * statement. A statement may be run twice for one call: it has to be one that
 * reads.
 */
ngx_http_hotpath_postgres_call_t *ngx_http_hotpath_postgres_query(
    ngx_http_hotpath_postgres_t *postgres,
    ngx_http_hotpath_statement_t *statement, ngx_str_t *params, ngx_uint_t n,
    ngx_http_hotpath_postgres_pt handler, void *data);
void ngx_http_hotpath_postgres_cancel(ngx_http_hotpath_postgres_call_t *call);

typedef struct {
    ngx_uint_t  up;            /* 1 some connection is ready, breaker lets a
                                  call pass */
    ngx_uint_t  connections;   /* open, or one being opened */
    ngx_uint_t  busy;          /* of these, with a query on its way */
    ngx_uint_t  waiting;       /* queries not sent yet */
} ngx_http_hotpath_postgres_state_t;

void ngx_http_hotpath_postgres_state(ngx_http_hotpath_postgres_t *postgres,
    ngx_http_hotpath_postgres_state_t *state);


#endif /* _NGX_HTTP_HOTPATH_POSTGRES_H_INCLUDED_ */
