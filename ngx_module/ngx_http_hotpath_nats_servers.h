/*
 * ngx_http_hotpath_nats_servers.h: which NATS server is tried next.
 *
 * The configured ones and those that they tell of (addresses only, at most
 * NGX_HTTP_HOTPATH_NATS_FOUND_MAX), each with the time until which it is left
 * alone. One list per worker, in no worker's order but its own. Knows nats_conf
 * and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_NATS_SERVERS_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_NATS_SERVERS_H_INCLUDED_


#include "ngx_http_hotpath_nats_conf.h"
#include "core/hp_nats.h"


#define NGX_HTTP_HOTPATH_NATS_FOUND_MAX  32


typedef struct {
    ngx_sockaddr_t  sockaddr;
    socklen_t       socklen;
    ngx_str_t       name;            /* the address, for logs */
    ngx_str_t       host;            /* whom its certificate has to name */
    ngx_uint_t      attempted;       /* number of the attempt; 0: never */
    ngx_msec_t      hold;            /* ms that it was left alone last time */
    ngx_msec_t      until;           /* left alone until; with hold */
    unsigned        found:1;
    unsigned        used:1;          /* the entry is one */
    unsigned        listed:1;        /* while a list is read */
    u_char          text[NGX_SOCKADDR_STRLEN];
} ngx_http_hotpath_nats_server_t;


typedef struct {
    ngx_http_hotpath_nats_server_t  *list;
    ngx_uint_t                       n;
    ngx_uint_t                       attempts;
} ngx_http_hotpath_nats_servers_t;


ngx_int_t ngx_http_hotpath_nats_servers_init(
    ngx_http_hotpath_nats_servers_t *servers,
    ngx_http_hotpath_nats_conf_t *conf, ngx_pool_t *pool);

/*
 * The one that was tried longest ago, out of several such any one; not the one
 * whose address is that of other, if given. NULL: none; *wait is then how long
 * until there is one, or 0 where there is none but other.
 */
ngx_http_hotpath_nats_server_t *ngx_http_hotpath_nats_servers_next(
    ngx_http_hotpath_nats_servers_t *servers,
    ngx_http_hotpath_nats_server_t *other, ngx_msec_t *wait);

/* It was of use; it was not, and asking again soon will not help. server may be
 * a copy. */
void ngx_http_hotpath_nats_servers_good(
    ngx_http_hotpath_nats_servers_t *servers,
    ngx_http_hotpath_nats_server_t *server);
ngx_msec_t ngx_http_hotpath_nats_servers_bad(
    ngx_http_hotpath_nats_servers_t *servers,
    ngx_http_hotpath_nats_server_t *server);

/* connect_urls of a server's INFO: those found before and not in it go. */
void ngx_http_hotpath_nats_servers_found(
    ngx_http_hotpath_nats_servers_t *servers, ngx_str_t *host, hp_str_t urls);


#endif /* _NGX_HTTP_HOTPATH_NATS_SERVERS_H_INCLUDED_ */
