/*
 * ngx_http_hotpath_pglink.h: one connection to Postgres and the queries that
 * are on their way over it.
 *
 * A link is closed, connecting, or ready; ready, it carries a few queries at
 * once in pipeline mode. What becomes of it and of them it tells its owner
 * through three callbacks. Knows nginx, libpq, backend, metrics, pgcancel and
 * pgconnect; nothing of who waits for a query.
 */
#ifndef _NGX_HTTP_HOTPATH_PGLINK_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_PGLINK_H_INCLUDED_


#include "ngx_http_hotpath_pgconnect.h"


#define NGX_HTTP_HOTPATH_PGLINK_PIPELINE  8
#define NGX_HTTP_HOTPATH_PGLINK_FULL      NGX_MAX_INT_T_VALUE


typedef struct ngx_http_hotpath_pglink_s  ngx_http_hotpath_pglink_t;


/* A query. To be zeroed and filled as far as `deadline`; what stands there has
 * to stay until it has ended. */
typedef struct {
    ngx_uint_t                   id;          /* of the statement */
    const char                  *sql;
    const char                 **values;
    int                          nvalues;
    ngx_msec_t                   deadline;

    ngx_queue_t                  queue;       /* while sent: of its link; else
                                                 the owner's to use */
    ngx_http_hotpath_pglink_t   *link;        /* NULL: not sent */
    PGresult                    *result;      /* rows, for the owner to clear */
    ngx_uint_t                   name;        /* of the prepared statement */
    unsigned                     prepares:1;  /* the next result is that of the
                                                 Prepare */
    unsigned                     cancelled:1; /* a request was sent for it */
    unsigned                     slow:1;      /* the server took too long */
    unsigned                     lost:1;      /* its link was closed */
    unsigned                     large:1;     /* for its result's sake */
    unsigned                     again:1;     /* another try may help */
    unsigned                     late:1;      /* its deadline has passed */
} ngx_http_hotpath_pgquery_t;


typedef struct {
    ngx_http_hotpath_pgservers_t    servers;
    ngx_uint_t                      nstatements;
    ngx_msec_t                      timeout;
    size_t                          max_result;
    ngx_flag_t                      prepare;
    ngx_log_t                      *log;

    /* The link takes queries now. */
    void                          (*ready)(ngx_http_hotpath_pglink_t *link);

    /* The link is closed; wait: without having been of any use, so that
     * another attempt should wait. Never called by _shut. */
    void                          (*lost)(ngx_http_hotpath_pglink_t *link,
                                          ngx_uint_t wait);

    /* The query is off the link: with its result, or without, for an error or
     * because the link was closed. Must not close a link. */
    void                          (*ended)(ngx_http_hotpath_pgquery_t *query);
} ngx_http_hotpath_pglink_conf_t;


/* To be zeroed but for conf; data is the owner's. */
struct ngx_http_hotpath_pglink_s {
    ngx_http_hotpath_pglink_conf_t  *conf;
    void                            *data;

    ngx_http_hotpath_pgconnect_t     connect;    /* busy: connecting */
    PGconn                          *pg;         /* NULL: not ready */
    ngx_connection_t                *connection;
    ngx_queue_t                      sent;
    ngx_uint_t                       nsent;
    ngx_event_t                      timer;      /* of overdue queries */
    ngx_msec_t                       since;      /* ready since then */
    ngx_msec_t                       at_work;    /* for its first query */
    ngx_uint_t                      *prepared;   /* by statement id: its name,
                                                    0: none */
    ngx_uint_t                       names;      /* given so far */
    ngx_msec_t                       cancelled;  /* last, if so */
    uint64_t                         taken;      /* bytes, since a query ended;
                                                    see measure */
    unsigned                         partial:1;  /* taken is kept */
    unsigned                         proven:1;   /* has answered a query */
    unsigned                         cancels:1;  /* cancelled has a meaning */
    unsigned                         retiring:1; /* takes no more queries, and
                                                    is made anew after the last
                                                    one has ended */
};


ngx_int_t ngx_http_hotpath_pglink_init(ngx_http_hotpath_pglink_t *link,
    ngx_pool_t *pool);

/* Of a closed link: begins to connect. Calls ready or lost, later. */
void ngx_http_hotpath_pglink_open(ngx_http_hotpath_pglink_t *link);

/* Whatever it is, it is closed after that. Its queries end. */
void ngx_http_hotpath_pglink_shut(ngx_http_hotpath_pglink_t *link);

/* Makes it anew, when nothing is under way any more. */
void ngx_http_hotpath_pglink_retire(ngx_http_hotpath_pglink_t *link);

/* How much stands in the way of one more query; FULL: it takes none. */
ngx_uint_t ngx_http_hotpath_pglink_load(ngx_http_hotpath_pglink_t *link);

/* Only where the link is not full. It may be lost by that, the query end. */
void ngx_http_hotpath_pglink_send(ngx_http_hotpath_pglink_t *link,
    ngx_http_hotpath_pgquery_t *query);

/* 1: the sent query is what the server is at work for; 0: it stands behind
 * another one. */
ngx_uint_t ngx_http_hotpath_pglink_first(ngx_http_hotpath_pgquery_t *query);

/* The deadline of a sent query has passed: if the server is at work for it,
 * that has to stop. Its link may be lost by that, and the query end. */
void ngx_http_hotpath_pglink_late(ngx_http_hotpath_pgquery_t *query);


#endif /* _NGX_HTTP_HOTPATH_PGLINK_H_INCLUDED_ */
