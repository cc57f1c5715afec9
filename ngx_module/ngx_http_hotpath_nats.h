/*
 * ngx_http_hotpath_nats.h: NATS for one nginx worker, on nginx's own events.
 *
 * nats.c starts threads and can hold the loop for seconds, so the module
 * speaks the protocol itself (core/hp_nats.h). One connection at a time; two
 * for a moment, while a server that is about to stop is left for another. Never
 * blocks in any state: a server that is down, frozen, slow or talking nonsense
 * costs a reconnect with back-off. Everything is bounded: bytes waiting to be
 * sent, bytes received, requests without a reply. Nothing that was waiting when
 * the connection was lost is sent on the next one. Knows nginx, the rooms
 * nats_*, metrics and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_NATS_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_NATS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_http_hotpath_nats_conf.h"
#include "core/hp_nats.h"


#define NGX_HTTP_HOTPATH_NATS_REQUESTS  1024


typedef struct ngx_http_hotpath_nats_s  ngx_http_hotpath_nats_t;


/* op points into the receive buffer and is valid during the call. */
typedef void (*ngx_http_hotpath_nats_message_pt)(void *data,
    hp_nats_op_t *op);

/* A status that no server sends in a reply: it does not permit to publish to
 * the subject, which is therefore known not to have the message. */
#define NGX_HTTP_HOTPATH_NATS_DENIED  403

/* op is NULL where the connection was lost before the reply came; its status
 * may be NGX_HTTP_HOTPATH_NATS_DENIED. */
typedef void (*ngx_http_hotpath_nats_reply_pt)(void *data, hp_nats_op_t *op);

/* up: 1 ready, subscriptions in force (also on another server than before,
 * without having been lost); 0 lost (all replies were given up), or the very
 * first attempt failed. */
typedef void (*ngx_http_hotpath_nats_state_pt)(void *data, ngx_uint_t up);


/* A worker's connection, from its pool; connects at once, in the background. */
ngx_http_hotpath_nats_t *ngx_http_hotpath_nats_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_nats_conf_t *conf);
void ngx_http_hotpath_nats_stop(ngx_http_hotpath_nats_t *nats);

/* Before the event loop runs; at most eight of each. Behind the subject may
 * stand a blank and the name of a queue group: of all who subscribe with it,
 * one gets each message. */
ngx_int_t ngx_http_hotpath_nats_subscribe(ngx_http_hotpath_nats_t *nats,
    ngx_str_t *subject, ngx_http_hotpath_nats_message_pt handler, void *data);
ngx_int_t ngx_http_hotpath_nats_on_state(ngx_http_hotpath_nats_t *nats,
    ngx_http_hotpath_nats_state_pt handler, void *data);

/*
 * Sends a message that asks for a reply; payload is n parts that are copied,
 * subject is not and has to outlive the request.
 * headers: lines each ended by CRLF, without the first line and the empty last
 * one; may be empty. NGX_OK: *id is set, and the handler is called exactly
 * once unless the request is given up. NGX_DECLINED: not connected.
 * NGX_BUSY: the buffer or the table of requests is full, or the message is
 * larger than the server allows.
 */
ngx_int_t ngx_http_hotpath_nats_request(ngx_http_hotpath_nats_t *nats,
    ngx_str_t *subject, ngx_str_t *headers, ngx_str_t *payload, ngx_uint_t n,
    ngx_http_hotpath_nats_reply_pt handler, void *data, uint32_t *id);

/*
 * Sends a message that asks for nothing; payload is n parts that are copied,
 * reply is where answers to it should go, or empty. NGX_OK, NGX_DECLINED and
 * NGX_BUSY as above. Nobody who listens on this very connection gets it.
 */
ngx_int_t ngx_http_hotpath_nats_publish(ngx_http_hotpath_nats_t *nats,
    ngx_str_t *subject, ngx_str_t *reply, ngx_str_t *payload, ngx_uint_t n);

/* Sends now what waits for the end of this turn of the event loop. */
void ngx_http_hotpath_nats_push(ngx_http_hotpath_nats_t *nats);

/* Takes in what has come since the event loop last looked; for a caller in the
 * middle of long work. Handlers are called, the connection may be lost. */
void ngx_http_hotpath_nats_poll(ngx_http_hotpath_nats_t *nats);
void ngx_http_hotpath_nats_give_up(ngx_http_hotpath_nats_t *nats, uint32_t id);

/* Gives up and sees to it that it is not sent later: NGX_OK where all of it has
 * left this process. NGX_DECLINED where it has not: the connection, which took
 * nothing for so long, is closed, and the server never gets the whole. */
ngx_int_t ngx_http_hotpath_nats_withdraw(ngx_http_hotpath_nats_t *nats,
    uint32_t id);

ngx_uint_t ngx_http_hotpath_nats_ready(ngx_http_hotpath_nats_t *nats);

/* Largest message the server takes, in bytes; 0 while not connected. */
size_t ngx_http_hotpath_nats_max_payload(ngx_http_hotpath_nats_t *nats);


#endif /* _NGX_HTTP_HOTPATH_NATS_H_INCLUDED_ */
