/*
 * ngx_http_hotpath_stream.h: whether JetStream's streams are as was said.
 *
 * Each stream that is watched is asked for when a connection to the broker
 * stands and every few seconds from then on, and compared with what the
 * operator said of it (core/hp_stream.h). Its owner, who embeds it, is told and
 * reads what was found in it. Knows nats and core/; tells one handler for each
 * stream, and never knows what is published.
 */
#ifndef _NGX_HTTP_HOTPATH_STREAM_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_STREAM_H_INCLUDED_


#include "ngx_http_hotpath_nats.h"
#include "core/hp_stream.h"


typedef struct ngx_http_hotpath_streams_s  ngx_http_hotpath_streams_t;
typedef struct ngx_http_hotpath_stream_s   ngx_http_hotpath_stream_t;


typedef enum {
    NGX_HTTP_HOTPATH_STREAM_LOST = 0,  /* the connection is, or never came */
    NGX_HTTP_HOTPATH_STREAM_UNFIT,     /* nothing may be published to it */
    NGX_HTTP_HOTPATH_STREAM_FIT
} ngx_http_hotpath_stream_e;

/* After each answer, and when the connection is lost. */
typedef void (*ngx_http_hotpath_stream_pt)(void *data,
    ngx_http_hotpath_stream_e state);


struct ngx_http_hotpath_stream_s {
    /* by the owner, before it is watched */
    ngx_str_t                    name;
    ngx_str_t                    subject;  /* that it has to be bound to */
    ngx_http_hotpath_stream_pt   handler;
    void                        *data;

    /* by this room */
    uint64_t                     created;  /* see below; 0: not usable */
    uint64_t                     max_message;          /* bytes; 0: no bound */
    uint64_t                     duplicate_window_ms;
    uint64_t                     bytes;    /* that it held then */
    const char                  *reason;   /* what is wrong; NULL: nothing, or
                                              nobody knows yet */
    ngx_http_hotpath_stream_t   *next;
    ngx_http_hotpath_streams_t  *streams;
    ngx_str_t                    request;  /* the subject of the question */
    ngx_msec_t                   asked;    /* when; with asking */
    ngx_msec_t                   looked;   /* asked then what created says */
    uint32_t                     id;       /* of the request under way */
    unsigned                     asking:1;
};


/* From init_process to exit_process of a worker; NULL: no memory. All streams
 * are added before the event loop runs. */
ngx_http_hotpath_streams_t *ngx_http_hotpath_streams_start(
    ngx_cycle_t *cycle, ngx_http_hotpath_nats_t *nats,
    hp_stream_wanted_t *wanted);
ngx_int_t ngx_http_hotpath_streams_add(ngx_http_hotpath_streams_t *streams,
    ngx_http_hotpath_stream_t *stream, ngx_pool_t *pool);
void ngx_http_hotpath_streams_stop(ngx_http_hotpath_streams_t *streams);

/* A number that tells streams of one name apart, from their creation time as
 * the broker writes it; never 0. The later one has the greater number, unless
 * one of the two has the highest bit: that is of a time not understood. */
uint64_t ngx_http_hotpath_stream_created(hp_str_t text);


#endif /* _NGX_HTTP_HOTPATH_STREAM_H_INCLUDED_ */
