/*
 * ngx_http_hotpath_nats_servers.c: which NATS server is tried next.
 *
 * One rule both shuffles and goes round: the next one is whichever was tried
 * longest ago, and of several such any one. A server that refuses who we are,
 * or what we may do, is left alone for a while that doubles, because a reload
 * or an operator has to change something first. Addresses that servers tell of
 * are kept beside the configured ones, under the same rules of TLS: the
 * certificate has to be for the host of the server that told.
 *
 * Owned by nats, one per worker, in its pool; runs in its event loop. Never in
 * here: a name to be resolved, a list that grows without bound. Test:
 * tests/integration/test_nats.py.
 */


#include "ngx_http_hotpath_nats_servers.h"


#define NGX_HTTP_HOTPATH_NATS_HOLD_MIN  1000
#define NGX_HTTP_HOTPATH_NATS_HOLD_MAX  16000


static ngx_http_hotpath_nats_server_t *ngx_http_hotpath_nats_servers_find(
    ngx_http_hotpath_nats_servers_t *servers, struct sockaddr *sockaddr,
    socklen_t socklen);
static void ngx_http_hotpath_nats_servers_set(
    ngx_http_hotpath_nats_server_t *server, struct sockaddr *sockaddr,
    socklen_t socklen);


ngx_int_t
ngx_http_hotpath_nats_servers_init(ngx_http_hotpath_nats_servers_t *servers,
    ngx_http_hotpath_nats_conf_t *conf, ngx_pool_t *pool)
{
    ngx_uint_t                            i;
    ngx_http_hotpath_nats_server_t       *server;
    ngx_http_hotpath_nats_server_conf_t  *given;

    servers->n = conf->servers->nelts + NGX_HTTP_HOTPATH_NATS_FOUND_MAX;
    servers->attempts = 0;
    servers->list = ngx_pcalloc(pool, servers->n
                                * sizeof(ngx_http_hotpath_nats_server_t));
    if (servers->list == NULL) {
        return NGX_ERROR;
    }

    given = conf->servers->elts;

    for (i = 0; i < conf->servers->nelts; i++) {
        server = &servers->list[i];

        ngx_http_hotpath_nats_servers_set(server, given[i].addr.sockaddr,
                                          given[i].addr.socklen);
        server->host = given[i].host;
    }

    return NGX_OK;
}


ngx_http_hotpath_nats_server_t *
ngx_http_hotpath_nats_servers_next(ngx_http_hotpath_nats_servers_t *servers,
    ngx_http_hotpath_nats_server_t *other, ngx_msec_t *wait)
{
    ngx_uint_t                       i, same;
    ngx_msec_int_t                   left, least;
    ngx_http_hotpath_nats_server_t  *server, *best;

    best = NULL;
    least = 0;
    same = 0;

    for (i = 0; i < servers->n; i++) {
        server = &servers->list[i];

        if (!server->used
            || (other
                && ngx_cmp_sockaddr(&server->sockaddr.sockaddr,
                                    server->socklen,
                                    &other->sockaddr.sockaddr, other->socklen,
                                    1)
                   == NGX_OK))
        {
            continue;
        }

        if (server->hold) {
            left = (ngx_msec_int_t) (server->until - ngx_current_msec);

            if (left > 0) {
                if (least == 0 || left < least) {
                    least = left;
                }

                continue;
            }
        }

        if (best && server->attempted > best->attempted) {
            continue;
        }

        if (best && server->attempted == best->attempted) {
            if (ngx_random() % ++same != 0) {
                continue;
            }

        } else {
            same = 1;
        }

        best = server;
    }

    *wait = best ? 0 : (ngx_msec_t) least;

    if (best) {
        best->attempted = ++servers->attempts;
    }

    return best;
}


void
ngx_http_hotpath_nats_servers_good(ngx_http_hotpath_nats_servers_t *servers,
    ngx_http_hotpath_nats_server_t *server)
{
    server = ngx_http_hotpath_nats_servers_find(servers,
                                                &server->sockaddr.sockaddr,
                                                server->socklen);
    if (server) {
        server->hold = 0;
    }
}


ngx_msec_t
ngx_http_hotpath_nats_servers_bad(ngx_http_hotpath_nats_servers_t *servers,
    ngx_http_hotpath_nats_server_t *server)
{
    server = ngx_http_hotpath_nats_servers_find(servers,
                                                &server->sockaddr.sockaddr,
                                                server->socklen);
    if (server == NULL) {
        return 0;
    }

    server->hold = server->hold == 0 ? NGX_HTTP_HOTPATH_NATS_HOLD_MIN
                                     : ngx_min(2 * server->hold,
                                              NGX_HTTP_HOTPATH_NATS_HOLD_MAX);

    server->until = ngx_current_msec + server->hold / 2
                    + ngx_random() % (server->hold / 2 + 1);

    return server->hold;
}


void
ngx_http_hotpath_nats_servers_found(ngx_http_hotpath_nats_servers_t *servers,
    ngx_str_t *host, hp_str_t urls)
{
    hp_str_t                         url;
    ngx_addr_t                       addr;
    ngx_uint_t                       i;
    ngx_pool_t                      *pool;
    ngx_http_hotpath_nats_server_t  *server, *unused;

    /* of nginx's parsers the one for addresses takes a pool */

    pool = ngx_create_pool(NGX_MIN_POOL_SIZE, ngx_cycle->log);
    if (pool == NULL) {
        return;
    }

    while (hp_nats_url_next(&urls, &url)) {

        /* a name is passed over: nothing in a worker waits for a resolver */

        if (ngx_parse_addr_port(pool, &addr, (u_char *) url.data, url.len)
            != NGX_OK
            || ngx_inet_get_port(addr.sockaddr) == 0)
        {
            continue;
        }

        server = ngx_http_hotpath_nats_servers_find(servers, addr.sockaddr,
                                                    addr.socklen);
        if (server) {
            server->listed = 1;
            continue;
        }

        unused = NULL;

        for (i = 0; i < servers->n; i++) {
            if (!servers->list[i].used) {
                unused = &servers->list[i];
                break;
            }
        }

        if (unused == NULL) {
            break;
        }

        ngx_http_hotpath_nats_servers_set(unused, addr.sockaddr,
                                          addr.socklen);
        unused->host = *host;
        unused->found = 1;
        unused->listed = 1;
    }

    ngx_destroy_pool(pool);

    for (i = 0; i < servers->n; i++) {
        server = &servers->list[i];

        if (server->found && !server->listed) {
            server->used = 0;
            server->found = 0;
        }

        server->listed = 0;
    }
}


static ngx_http_hotpath_nats_server_t *
ngx_http_hotpath_nats_servers_find(ngx_http_hotpath_nats_servers_t *servers,
    struct sockaddr *sockaddr, socklen_t socklen)
{
    ngx_uint_t                       i;
    ngx_http_hotpath_nats_server_t  *server;

    for (i = 0; i < servers->n; i++) {
        server = &servers->list[i];

        if (server->used
            && ngx_cmp_sockaddr(&server->sockaddr.sockaddr, server->socklen,
                                sockaddr, socklen, 1)
               == NGX_OK)
        {
            return server;
        }
    }

    return NULL;
}


static void
ngx_http_hotpath_nats_servers_set(ngx_http_hotpath_nats_server_t *server,
    struct sockaddr *sockaddr, socklen_t socklen)
{
    ngx_memzero(server, sizeof(ngx_http_hotpath_nats_server_t));
    ngx_memcpy(&server->sockaddr, sockaddr, socklen);

    server->socklen = socklen;
    server->used = 1;
    server->name.data = server->text;
    server->name.len = ngx_sock_ntop(&server->sockaddr.sockaddr, socklen,
                                     server->text, NGX_SOCKADDR_STRLEN, 1);
}
