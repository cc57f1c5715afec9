/*
 * ngx_http_hotpath_accept.h: from a request and its text to events.
 *
 * The ways in: an event of our own or an array of them, a CloudEvent in binary
 * or structured mode, or a batch of these. request is the caller.
 */
#ifndef _NGX_HTTP_HOTPATH_ACCEPT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_ACCEPT_H_INCLUDED_


#include "ngx_http_hotpath_module.h"
#include "core/hp_event.h"


/* What the headers of a write say; zeroed before. */
typedef struct {
    ngx_str_t                    key;         /* that Idempotency-Key says */
    ngx_uint_t                   key_lines;
    ngx_str_t                    trace;       /* a valid traceparent */
    ngx_str_t                    encoding;    /* Content-Encoding */
    ngx_uint_t                   encoding_lines;
    hp_event_form_t              form;
    unsigned                     specversion:1;  /* a CloudEvent's */
} ngx_http_hotpath_headers_t;


typedef struct {
    ngx_http_request_t          *request;
    ngx_http_hotpath_headers_t  *headers;
    ngx_pool_t                  *pool;        /* for what is made of the text */
    hp_str_t                     text;
    hp_event_list_t              list;        /* where it is one */
    unsigned                     is_list:1;

    /* of the last event */
    hp_str_t                     partition_key;  /* of a CloudEvent */

    /* on NGX_DECLINED */
    ngx_http_hotpath_problem_e   problem;
    ngx_str_t                    members;     /* of its document, in the
                                                 request's pool */
} ngx_http_hotpath_accept_t;


/* Reads the headers, of which a location takes only some forms. NGX_OK, or
 * NGX_DECLINED with *problem. */
ngx_int_t ngx_http_hotpath_accept_headers(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_headers_t *headers,
    ngx_http_hotpath_problem_e *problem);

/* request, headers, pool and text are set. NGX_OK with is_list, and the list
 * opened; NGX_DECLINED: no array of events. */
ngx_int_t ngx_http_hotpath_accept_open(ngx_http_hotpath_accept_t *accept);

/*
 * Reads the whole text, or the next element of the list, into *event: type,
 * payload, key, attributes, data; the rest is left. What it points to stays
 * until the next call. NGX_OK, NGX_DECLINED with what is wrong with this one,
 * NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_hotpath_accept_event(ngx_http_hotpath_accept_t *accept,
    hp_event_t *event);

/* The text by which the event's partition is chosen; empty: by its id. */
ngx_int_t ngx_http_hotpath_accept_partition_key(
    ngx_http_hotpath_accept_t *accept, hp_event_t *event, hp_str_t *key);


#endif /* _NGX_HTTP_HOTPATH_ACCEPT_H_INCLUDED_ */
