/*
 * ngx_http_hotpath_pgconnect.c: finds a Postgres server that fits, and
 * connects to it.
 *
 * libpq could be given all hosts at once, but through its asynchronous
 * interface it has no deadline for any of them: one that is frozen, or whose
 * packets are lost, would be waited for until the whole attempt is given up,
 * and the next attempt would begin with it again. So libpq gets one address at
 * a time, and which one is decided here. A choice is a host together with one
 * target_session_attrs; prefer-standby has two for each host: any standby
 * first, then whatever there is. A choice that failed goes to the end of the
 * row for ten seconds, for every connection of this worker.
 *
 * Owns the PGconn until the handler gets it, and puts the newest addresses of
 * a name where the configuration's stood, in this worker's copy of them. Runs
 * in workers, on the event loop. What must never happen here: a name handed to
 * libpq without its address, the handler called from within begin or drop.
 * Tests: tests/integration/test_postgres.py,
 * tests/faults/test_postgres_faults.py.
 */
#include "ngx_http_hotpath_pgconnect.h"


#define NGX_HTTP_HOTPATH_PGCONNECT_BAD_MS      10000
#define NGX_HTTP_HOTPATH_PGCONNECT_RESOLVE_MS  500


static void ngx_http_hotpath_pgconnect_begin_handler(ngx_event_t *ev);
static void ngx_http_hotpath_pgconnect_next(ngx_http_hotpath_pgconnect_t *c);
static ngx_int_t ngx_http_hotpath_pgconnect_resolve(
    ngx_http_hotpath_pgconnect_t *c);
static void ngx_http_hotpath_pgconnect_resolve_handler(
    ngx_resolver_ctx_t *ctx);
static ngx_int_t ngx_http_hotpath_pgconnect_try(
    ngx_http_hotpath_pgconnect_t *c);
static ngx_int_t ngx_http_hotpath_pgconnect_poll(
    ngx_http_hotpath_pgconnect_t *c, PostgresPollingStatusType status);
static void ngx_http_hotpath_pgconnect_event_handler(ngx_event_t *ev);
static void ngx_http_hotpath_pgconnect_timer_handler(ngx_event_t *ev);
static void ngx_http_hotpath_pgconnect_failed(ngx_http_hotpath_pgconnect_t *c,
    const char *why);
static void ngx_http_hotpath_pgconnect_close(ngx_http_hotpath_pgconnect_t *c);
static ngx_http_hotpath_conninfo_host_t *ngx_http_hotpath_pgconnect_host(
    ngx_http_hotpath_pgconnect_t *c);
static void ngx_http_hotpath_pgconnect_notice(void *data,
    const char *message);


void
ngx_http_hotpath_pgconnect_begin(ngx_http_hotpath_pgconnect_t *c)
{
    u_char                         order[NGX_HTTP_HOTPATH_CONNINFO_HOSTS_MAX];
    u_char                         host;
    ngx_uint_t                     i, j, bad, attr, choice;
    ngx_http_hotpath_conninfo_t   *conninfo;
    ngx_http_hotpath_pgservers_t  *servers;

    servers = c->servers;
    conninfo = &servers->conninfo;

    for (i = 0; i < conninfo->nhosts; i++) {
        order[i] = (u_char) i;

        if (conninfo->balance) {
            j = ngx_random() % (i + 1);

            host = order[i];
            order[i] = order[j];
            order[j] = host;
        }
    }

    c->nchoices = 0;

    for (bad = 0; bad < 2; bad++) {
        for (attr = 0; attr < conninfo->nattrs; attr++) {
            for (i = 0; i < conninfo->nhosts; i++) {

                choice = 2 * order[i] + attr;

                if (servers->bad_until[choice]
                    && (ngx_msec_int_t) (servers->bad_until[choice]
                                         - ngx_current_msec) <= 0)
                {
                    servers->bad_until[choice] = 0;
                }

                if ((servers->bad_until[choice] != 0) == bad) {
                    c->choices[c->nchoices++] = (u_char) choice;
                }
            }
        }
    }

    c->at = 0;
    c->addr = 0;
    c->resolved = 0;
    c->busy = 1;

    c->begin.handler = ngx_http_hotpath_pgconnect_begin_handler;
    c->begin.data = c;
    c->begin.log = servers->log;

    c->timer.handler = ngx_http_hotpath_pgconnect_timer_handler;
    c->timer.data = c;
    c->timer.log = servers->log;
    c->timer.cancelable = 1;

    ngx_post_event(&c->begin, &ngx_posted_events);
}


void
ngx_http_hotpath_pgconnect_drop(ngx_http_hotpath_pgconnect_t *c)
{
    c->busy = 0;

    if (c->begin.posted) {
        ngx_delete_posted_event(&c->begin);
    }

    if (c->resolving) {
        ngx_resolve_name_done(c->resolving);
        c->resolving = NULL;
    }

    ngx_http_hotpath_pgconnect_close(c);
}


void
ngx_http_hotpath_pgconnect_blame(ngx_http_hotpath_pgconnect_t *c)
{
    ngx_msec_t  until;

    until = ngx_current_msec + NGX_HTTP_HOTPATH_PGCONNECT_BAD_MS;

    c->servers->bad_until[c->choices[c->at]] = until ? until : 1;
}


ngx_uint_t
ngx_http_hotpath_pgconnect_second(ngx_http_hotpath_pgconnect_t *c)
{
    return c->choices[c->at] % 2;
}


static void
ngx_http_hotpath_pgconnect_begin_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_pgconnect_next(ev->data);
}


/* The next address, of this host or of the next choice. */

static void
ngx_http_hotpath_pgconnect_next(ngx_http_hotpath_pgconnect_t *c)
{
    ngx_http_hotpath_conninfo_host_t  *host;

    while (c->at < c->nchoices) {

        host = ngx_http_hotpath_pgconnect_host(c);

        if (!c->resolved) {
            c->resolved = 1;

            if (ngx_http_hotpath_pgconnect_resolve(c) == NGX_AGAIN) {
                return;
            }
        }

        if (c->addr < ngx_max(host->naddrs, 1)) {

            if (ngx_http_hotpath_pgconnect_try(c) == NGX_OK) {
                return;
            }

            c->addr++;
            continue;
        }

        ngx_http_hotpath_pgconnect_blame(c);

        c->at++;
        c->addr = 0;
        c->resolved = 0;
    }

    c->busy = 0;
    c->handler(c->data, NULL);
}


/* Where the host's name leads now. NGX_AGAIN: it goes on in the handler; else
 * with the addresses that are known. */

static ngx_int_t
ngx_http_hotpath_pgconnect_resolve(ngx_http_hotpath_pgconnect_t *c)
{
    ngx_resolver_ctx_t                *ctx;
    ngx_http_hotpath_conninfo_host_t  *host;

    host = ngx_http_hotpath_pgconnect_host(c);

    if (!host->named || c->servers->resolver == NULL) {
        return NGX_DECLINED;
    }

    ctx = ngx_resolve_start(c->servers->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        return NGX_DECLINED;
    }

    ctx->name = host->name;
    ctx->handler = ngx_http_hotpath_pgconnect_resolve_handler;
    ctx->data = c;
    ctx->timeout = NGX_HTTP_HOTPATH_PGCONNECT_RESOLVE_MS;
    ctx->cancelable = 1;

    c->resolving = ctx;

    /* It calls back from in here where it knows the answer. */

    c->asking = 1;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        c->resolving = NULL;
    }

    c->asking = 0;

    return c->resolving ? NGX_AGAIN : NGX_OK;
}


static void
ngx_http_hotpath_pgconnect_resolve_handler(ngx_resolver_ctx_t *ctx)
{
    ngx_http_hotpath_pgconnect_t *c = ctx->data;

    size_t                             len;
    ngx_uint_t                         i, naddrs;
    ngx_http_hotpath_conninfo_host_t  *host;

    host = ngx_http_hotpath_pgconnect_host(c);

    naddrs = ctx->state ? 0 : ngx_min(ctx->naddrs,
                                      NGX_HTTP_HOTPATH_CONNINFO_ADDRS_MAX);

    for (i = 0; i < naddrs; i++) {
        len = ngx_sock_ntop(ctx->addrs[i].sockaddr, ctx->addrs[i].socklen,
                            (u_char *) host->addrs[i], NGX_INET6_ADDRSTRLEN,
                            0);
        host->addrs[i][len] = '\0';
    }

    if (naddrs) {
        host->naddrs = naddrs;

    } else {
        ngx_log_error(NGX_LOG_WARN, c->servers->log, 0,
                      "hotpath: \"%V\" could not be resolved (%i: %s), its "
                      "last addresses stay", &host->name, ctx->state,
                      ngx_resolver_strerror(ctx->state));
    }

    ngx_resolve_name_done(ctx);
    c->resolving = NULL;

    if (!c->asking) {
        ngx_http_hotpath_pgconnect_next(c);
    }
}


static ngx_int_t
ngx_http_hotpath_pgconnect_try(ngx_http_hotpath_pgconnect_t *c)
{
    const char                        **value;
    ngx_http_hotpath_conninfo_t        *conninfo;
    ngx_http_hotpath_conninfo_host_t   *host;

    conninfo = &c->servers->conninfo;
    host = ngx_http_hotpath_pgconnect_host(c);

    value = conninfo->values;
    value[NGX_HTTP_HOTPATH_CONNINFO_HOST] = (char *) host->name.data;
    value[NGX_HTTP_HOTPATH_CONNINFO_HOSTADDR] = host->naddrs
                                                ? host->addrs[c->addr] : "";
    value[NGX_HTTP_HOTPATH_CONNINFO_PORT] = host->port;
    value[NGX_HTTP_HOTPATH_CONNINFO_ATTRS] =
                                     conninfo->attrs[c->choices[c->at] % 2];

    c->pg = PQconnectStartParams(conninfo->keywords, value, 0);

    if (c->pg == NULL) {
        return NGX_ERROR;
    }

    (void) PQsetNoticeProcessor(c->pg, ngx_http_hotpath_pgconnect_notice,
                                c->servers->log);

    ngx_add_timer(&c->timer, conninfo->connect_timeout);

    return ngx_http_hotpath_pgconnect_poll(c,
                                        PQstatus(c->pg) == CONNECTION_BAD
                                        ? PGRES_POLLING_FAILED
                                        : PGRES_POLLING_WRITING);
}


/* What libpq said last. NGX_OK: it goes on, or the handler was called. */

static ngx_int_t
ngx_http_hotpath_pgconnect_poll(ngx_http_hotpath_pgconnect_t *c,
    PostgresPollingStatusType status)
{
    PGconn                            *pg;
    ngx_uint_t                         level, second;
    ngx_http_hotpath_conninfo_host_t  *host;

    if (status == PGRES_POLLING_FAILED) {
        ngx_http_hotpath_pgconnect_failed(c, PQerrorMessage(c->pg));
        return NGX_ERROR;
    }

    if (status == PGRES_POLLING_OK) {

        host = ngx_http_hotpath_pgconnect_host(c);
        second = ngx_http_hotpath_pgconnect_second(c);
        level = second ? NGX_LOG_NOTICE : NGX_LOG_INFO;

        ngx_log_error(level, c->servers->log, 0,
                      "hotpath: connected to postgres \"%V\" %s:%s, backend "
                      "pid %d%s", &host->name,
                      host->naddrs ? host->addrs[c->addr] : "socket",
                      host->port, PQbackendPID(c->pg),
                      second ? ", no standby answered" : "");

        ngx_del_timer(&c->timer);

        pg = c->pg;
        c->pg = NULL;
        c->busy = 0;

        c->handler(c->data, pg);
        return NGX_OK;
    }

    c->connection = ngx_http_hotpath_backend_attach(PQsocket(c->pg), c,
                                    ngx_http_hotpath_pgconnect_event_handler,
                                    ngx_http_hotpath_pgconnect_event_handler,
                                    c->servers->log);
    if (c->connection == NULL
        || ngx_http_hotpath_backend_wait(c->connection,
                                         status != PGRES_POLLING_WRITING,
                                         status == PGRES_POLLING_WRITING)
           != NGX_OK)
    {
        ngx_http_hotpath_pgconnect_failed(c, "no free connection in nginx");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_hotpath_pgconnect_event_handler(ngx_event_t *ev)
{
    ngx_connection_t              *connection = ev->data;
    ngx_http_hotpath_pgconnect_t  *c = connection->data;

    /* libpq may close the socket in there, or go on with another. */

    ngx_http_hotpath_backend_detach(connection, PQsocket(c->pg));
    c->connection = NULL;

    if (ngx_http_hotpath_pgconnect_poll(c, PQconnectPoll(c->pg)) != NGX_OK) {
        c->addr++;
        ngx_http_hotpath_pgconnect_next(c);
    }
}


static void
ngx_http_hotpath_pgconnect_timer_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_pgconnect_t *c = ev->data;

    ngx_http_hotpath_pgconnect_failed(c, "no answer in time");

    c->addr++;
    ngx_http_hotpath_pgconnect_next(c);
}


static void
ngx_http_hotpath_pgconnect_failed(ngx_http_hotpath_pgconnect_t *c,
    const char *why)
{
    ngx_uint_t                         level;
    ngx_http_hotpath_conninfo_host_t  *host;

    host = ngx_http_hotpath_pgconnect_host(c);

    /* What is no standby while a standby is looked for is nothing amiss. */

    level = c->servers->conninfo.nattrs == 2
            && !ngx_http_hotpath_pgconnect_second(c)
            ? NGX_LOG_INFO : NGX_LOG_ERR;

    ngx_log_error(level, c->servers->log, 0,
                  "hotpath: no connection to postgres \"%V\" %s:%s: %*s",
                  &host->name, host->naddrs ? host->addrs[c->addr] : "socket",
                  host->port, ngx_http_hotpath_backend_line(why), why);

    ngx_http_hotpath_pgconnect_close(c);
}


static void
ngx_http_hotpath_pgconnect_close(ngx_http_hotpath_pgconnect_t *c)
{
    if (c->connection) {
        ngx_http_hotpath_backend_detach(c->connection, PQsocket(c->pg));
        c->connection = NULL;
    }

    if (c->timer.timer_set) {
        ngx_del_timer(&c->timer);
    }

    PQfinish(c->pg);
    c->pg = NULL;
}


static ngx_http_hotpath_conninfo_host_t *
ngx_http_hotpath_pgconnect_host(ngx_http_hotpath_pgconnect_t *c)
{
    return &c->servers->conninfo.hosts[c->choices[c->at] / 2];
}


static void
ngx_http_hotpath_pgconnect_notice(void *data, const char *message)
{
    ngx_log_t  *log = data;

    ngx_log_error(NGX_LOG_INFO, log, 0, "hotpath: postgres: %*s",
                  ngx_http_hotpath_backend_line(message), message);
}
