/*
 * ngx_http_hotpath_redis_link.h: one worker's Redis, as the redis rooms share
 * it: configuration, connection, calls.
 *
 * redis_conf writes the configuration in the master, before there are workers.
 * In a worker redis_link owns the connection and redis the calls; each writes
 * its own part of the state only, without a lock. Nobody but the redis rooms
 * includes this; redis.h is for the others.
 */
#ifndef _NGX_HTTP_HOTPATH_REDIS_LINK_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_REDIS_LINK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_hotpath_backend.h"
#include "ngx_http_hotpath_redis.h"
#include "ngx_http_hotpath_redis_guard.h"
#include "ngx_http_hotpath_redis_tls.h"


/* A name may stand for more; the first ones are used. */
#define NGX_HTTP_HOTPATH_REDIS_ADDRS_MAX     16

/* Troubles of a connection, or of commands, that are told apart in the log. */
#define NGX_HTTP_HOTPATH_REDIS_TROUBLES      8


/* A trouble that is in the log, so that it is there once and not with every
 * attempt or command. */
typedef struct {
    uint32_t    hash;          /* of its text */
    ngx_uint_t  count;         /* since its last line; 0: the row is free */
    ngx_msec_t  at;            /* of its last line */
} ngx_http_hotpath_redis_trouble_t;


struct ngx_http_hotpath_redis_s {
    /* configuration */
    ngx_str_t                           name;      /* as given, for the log */
    ngx_str_t                           host;      /* to resolve; may be "" */
    int                                 port;
    char                               *path;      /* not NULL: unix socket */
    ngx_str_t                           user;
    ngx_str_t                           password;
    ngx_int_t                           db;
    ngx_msec_t                          timeout;
    ngx_uint_t                          pending_max;
    ngx_http_core_loc_conf_t           *clcf;      /* http's: its resolver */
    ngx_http_hotpath_redis_tls_t        tls;
    ngx_uint_t                          encrypted; /* tls is to be used */

    /* connection; the addresses are the configuration's at first */
    u_char                              addrs[NGX_HTTP_HOTPATH_REDIS_ADDRS_MAX]
                                             [NGX_SOCKADDR_STRLEN + 1];
    ngx_uint_t                          naddrs;
    ngx_uint_t                          addr;      /* the one in use, or next */
    ngx_cycle_t                        *cycle;
    ngx_resolver_ctx_t                 *resolving;
    redisAsyncContext                  *ac;
    ngx_connection_t                   *connection;
    void                               *session;   /* TLS; hiredis' */
    ngx_http_hotpath_redis_guard_t      guard;
    ngx_event_t                         connect;   /* deadline, or backoff */
    ngx_uint_t                          link;      /* its number, from 1 */
    ngx_uint_t                          attempts;  /* in a row, to nothing */
    ngx_msec_t                          since;     /* ready since then */
    ngx_http_hotpath_redis_trouble_t    troubles[
                                             NGX_HTTP_HOTPATH_REDIS_TROUBLES];

    /* calls */
    ngx_queue_t                         waiting;   /* by deadline, so by age */
    ngx_queue_t                         free;
    ngx_uint_t                          pending;   /* commands hiredis holds */
    size_t                              bytes;     /* of these commands */
    ngx_event_t                         deadline;
    ngx_msec_t                          heard;     /* reply, or first command */
    ngx_http_hotpath_breaker_t          breaker;   /* of all calls */
    ngx_http_hotpath_breaker_t          writes;    /* of scripts */
    ngx_http_hotpath_redis_trouble_t    refusals[
                                             NGX_HTTP_HOTPATH_REDIS_TROUBLES];

    unsigned                            ready:1;   /* commands may be sent */
    unsigned                            counted:1; /* in the gauge */
    unsigned                            writing:1;
    unsigned                            started:1; /* tried once */
    unsigned                            troubled:1; /* and said so */
    unsigned                            stopping:1;
    unsigned                            open:1;    /* breaker, in the gauge */
    unsigned                            writes_open:1;
};


/* From start to stop it connects, and connects again. */
void ngx_http_hotpath_redis_link_start(ngx_http_hotpath_redis_t *redis,
    ngx_cycle_t *cycle);
void ngx_http_hotpath_redis_link_stop(ngx_http_hotpath_redis_t *redis);

/* The connection is of no use; calls without a reply end with none. Not to be
 * called while hiredis runs a callback. */
void ngx_http_hotpath_redis_link_drop(ngx_http_hotpath_redis_t *redis,
    const char *why);

/* How often the trouble has come since its last line, if it is to have one
 * now: when it is new, and again every minute. Else 0. */
ngx_uint_t ngx_http_hotpath_redis_link_news(
    ngx_http_hotpath_redis_trouble_t *rows, u_char *text, size_t len);


#endif /* _NGX_HTTP_HOTPATH_REDIS_LINK_H_INCLUDED_ */
