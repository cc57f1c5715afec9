/*
 * ngx_http_hotpath_nats_link.h: one connection to one NATS server.
 *
 * From connect() to the greeting's PONG and on until it is lost: bytes, TLS,
 * the protocol's own operations. What they mean is told to one owner (nats),
 * which has two links: while a server says that it is about to go, a second one
 * is made to another before the first is given up. Knows nats_conf, nats_auth,
 * nats_tls, nats_servers and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_NATS_LINK_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_NATS_LINK_H_INCLUDED_


#include <ngx_event_connect.h>

#include "ngx_http_hotpath_nats_servers.h"


#define NGX_HTTP_HOTPATH_NATS_NONCE  128


typedef struct ngx_http_hotpath_nats_link_s  ngx_http_hotpath_nats_link_t;

typedef enum {
    NGX_HTTP_HOTPATH_NATS_DOWN = 0,
    NGX_HTTP_HOTPATH_NATS_CONNECTING,
    NGX_HTTP_HOTPATH_NATS_HANDSHAKE,
    NGX_HTTP_HOTPATH_NATS_INFO,      /* awaited */
    NGX_HTTP_HOTPATH_NATS_GREETING,
    NGX_HTTP_HOTPATH_NATS_READY
} ngx_http_hotpath_nats_state_e;


/*
 * What the owner is told. greeting: adds its subscriptions to what was written
 * for the server, NGX_OK or NGX_ERROR. lost: the link is down already; bad is 1
 * where this server will not do better soon. A handler may close links; the
 * link looks before it goes on.
 */
typedef struct {
    ngx_int_t  (*greeting)(void *data, ngx_http_hotpath_nats_link_t *link);
    void       (*ready)(void *data, ngx_http_hotpath_nats_link_t *link);
    void       (*lost)(void *data, ngx_http_hotpath_nats_link_t *link,
                       const char *why, ngx_uint_t bad);
    void       (*message)(void *data, ngx_http_hotpath_nats_link_t *link,
                          hp_nats_op_t *op);
    void       (*info)(void *data, ngx_http_hotpath_nats_link_t *link,
                       hp_nats_info_t *info);
    /* publish to subject is not permitted; text is the server's word */
    void       (*denied)(void *data, ngx_http_hotpath_nats_link_t *link,
                         hp_str_t subject, hp_str_t text);
} ngx_http_hotpath_nats_owner_t;


struct ngx_http_hotpath_nats_link_s {
    const ngx_http_hotpath_nats_owner_t  *owner;
    void                                 *data;
    ngx_http_hotpath_nats_conf_t         *conf;
    ngx_log_t                            *log;

    ngx_http_hotpath_nats_state_e         state;
    ngx_http_hotpath_nats_server_t        server;      /* a copy */
    ngx_peer_connection_t                 peer;
    ngx_connection_t                     *connection;
    ngx_pool_t                           *pool;        /* of TLS; NULL: none */
    ngx_uint_t                            pings;
    size_t                                max_payload;
    ngx_uint_t                            complaints;  /* of -ERR, logged */
    unsigned                              greeted:1;   /* INFO was acted on */
    unsigned                              secure:1;
    unsigned                              reading:1;   /* in its buffer */
    unsigned                              draining:1;  /* the owner's mark */

    hp_str_t                              nonce;       /* over a handshake */
    u_char                                nonce_text[
                                              NGX_HTTP_HOTPATH_NATS_NONCE];

    ngx_event_t                           timer;
    ngx_event_t                           flush;

    u_char                               *in;
    size_t                                in_size;
    size_t                                in_len;

    u_char                               *out;
    size_t                                out_size;
    size_t                                out_pos;
    size_t                                out_len;
    uint64_t                              sent;        /* by out_pos */
};


void ngx_http_hotpath_nats_link_init(ngx_http_hotpath_nats_link_t *link,
    const ngx_http_hotpath_nats_owner_t *owner, void *data,
    ngx_http_hotpath_nats_conf_t *conf, ngx_log_t *log);
void ngx_http_hotpath_nats_link_done(ngx_http_hotpath_nats_link_t *link);

/* From DOWN; how it went is told by ready or lost, lost perhaps at once. */
void ngx_http_hotpath_nats_link_open(ngx_http_hotpath_nats_link_t *link,
    ngx_http_hotpath_nats_server_t *server);

/* Without telling the owner. */
void ngx_http_hotpath_nats_link_close(ngx_http_hotpath_nats_link_t *link);

/* Closes, and tells. */
void ngx_http_hotpath_nats_link_lost(ngx_http_hotpath_nats_link_t *link,
    const char *why, ngx_uint_t bad);

/* Room for size more bytes at out + out_len, or NULL at the bound; whoever
 * writes there adds to out_len and calls wrote(). */
u_char *ngx_http_hotpath_nats_link_reserve(
    ngx_http_hotpath_nats_link_t *link, size_t size);
void ngx_http_hotpath_nats_link_wrote(ngx_http_hotpath_nats_link_t *link,
    u_char *end);

/* The number of the byte behind the last one written, counted from the
 * connection's first; what is beyond link->sent has not left this process. */
uint64_t ngx_http_hotpath_nats_link_written(
    ngx_http_hotpath_nats_link_t *link);

/* Sends, and takes in, now rather than when the event loop comes to it. */
void ngx_http_hotpath_nats_link_push(ngx_http_hotpath_nats_link_t *link);
void ngx_http_hotpath_nats_link_poll(ngx_http_hotpath_nats_link_t *link);


#endif /* _NGX_HTTP_HOTPATH_NATS_LINK_H_INCLUDED_ */
