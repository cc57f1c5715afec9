/*
 * ngx_http_hotpath_postgres.c: a small pool of Postgres connections per worker.
 * Long because a call moves between lists that all of its states share.
 *
 * libpq owns the sockets and the order of results; this file owns the calls
 * and the links to the server. A call is in exactly one list at a time: `queue`
 * (not sent), a link's `sent`, or `free`; while somebody may still be waiting
 * for it, it is in `ages` as well, which is what deadlines go by. Sent calls
 * stay with their link until their result came or the link is closed, however
 * long ago they were answered for or cancelled. Runs in workers, on the event
 * loop, without any lock.
 *
 * A link runs in pipeline mode, every call with a Sync of its own, so that one
 * call's error is no other's. Statements are prepared on first use per link,
 * in the same packet as the query.
 *
 * What must never happen here: a blocking call (no name reaches libpq, only
 * addresses; no cancel request, which blocks; results are only taken when they
 * are complete), closing a link while libpq or one of its results is in use
 * further up (so new calls are only queued, and sent by an event of their own),
 * and an event that stays registered for a socket that libpq has closed.
 * Tests: tests/faults/.
 */
#include "ngx_http_hotpath_postgres.h"
#include "ngx_http_hotpath_backend.h"
#include "ngx_http_hotpath_conninfo.h"
#include "ngx_http_hotpath_metrics.h"
#include <ngx_event.h>


#define NGX_HTTP_HOTPATH_POSTGRES_CONNECT_MS  2000
#define NGX_HTTP_HOTPATH_POSTGRES_STEADY_MS   1000
#define NGX_HTTP_HOTPATH_POSTGRES_PIPELINE    8
#define NGX_HTTP_HOTPATH_POSTGRES_LINKS_MAX   64

/* What libpq calls SQLSTATE. */
#define NGX_HTTP_HOTPATH_POSTGRES_NO_STATEMENT   "26000"
#define NGX_HTTP_HOTPATH_POSTGRES_IS_PREPARED    "42P05"
#define NGX_HTTP_HOTPATH_POSTGRES_PLAN_OUTDATED  "0A000"
#define NGX_HTTP_HOTPATH_POSTGRES_CANCELED       "57014"


typedef struct ngx_http_hotpath_postgres_link_s
    ngx_http_hotpath_postgres_link_t;


struct ngx_http_hotpath_postgres_call_s {
    ngx_queue_t                        queue;
    ngx_queue_t                        age;
    ngx_http_hotpath_postgres_t       *postgres;
    ngx_http_hotpath_postgres_link_t  *link;       /* NULL: not sent */
    ngx_http_hotpath_statement_t      *statement;
    ngx_http_hotpath_postgres_pt       handler;    /* NULL: nobody waits */
    void                              *data;
    u_char                            *text;       /* the values, from malloc
                                                      until they are sent */
    const char                        *values[
                                          NGX_HTTP_HOTPATH_POSTGRES_PARAMS_MAX];
    int                                nvalues;
    ngx_msec_t                         deadline;
    PGresult                          *result;     /* rows, until its Sync */
    unsigned                           prepares:1; /* its first result is that
                                                      of the Prepare */
    unsigned                           probe:1;
    unsigned                           ageing:1;   /* it is in ages */
    unsigned                           slow:1;     /* the server gave it up */
};


struct ngx_http_hotpath_postgres_link_s {
    ngx_http_hotpath_postgres_t       *postgres;
    PGconn                            *pg;         /* NULL: closed */
    ngx_connection_t                  *connection;
    ngx_queue_t                        sent;
    ngx_uint_t                         nsent;
    ngx_event_t                        timer;      /* connecting: deadline;
                                                      ready: overdue calls */
    ngx_msec_t                         since;      /* ready since then */
    u_char                            *prepared;   /* by statement id */
    unsigned                           ready:1;
    unsigned                           retiring:1; /* takes no more calls */
};


struct ngx_http_hotpath_postgres_s {
    /* configuration */
    ngx_http_hotpath_conninfo_t        conninfo;
    ngx_uint_t                         nlinks;
    ngx_uint_t                         queue_max;
    ngx_msec_t                         timeout;
    ngx_array_t                        statements; /* of pointers */

    /* of the worker */
    ngx_cycle_t                       *cycle;
    ngx_http_hotpath_postgres_link_t  *links;
    ngx_queue_t                        queue;
    ngx_uint_t                         nqueue;
    ngx_queue_t                        free;
    ngx_queue_t                        ages;
    ngx_event_t                        deadline;
    ngx_event_t                        dispatch;   /* posted, never a timer */
    ngx_event_t                        reconnect;
    ngx_uint_t                         attempts;   /* in a row that failed,
                                                      with no link ready */
    ngx_http_hotpath_breaker_t         breaker;
    unsigned                           stopping:1;
};


static void ngx_http_hotpath_postgres_open(
    ngx_http_hotpath_postgres_link_t *link);
static void ngx_http_hotpath_postgres_poll(
    ngx_http_hotpath_postgres_link_t *link, PostgresPollingStatusType status);
static void ngx_http_hotpath_postgres_close(
    ngx_http_hotpath_postgres_link_t *link, const char *why);
static void ngx_http_hotpath_postgres_shut(
    ngx_http_hotpath_postgres_link_t *link);
static void ngx_http_hotpath_postgres_lost(
    ngx_http_hotpath_postgres_t *postgres);
static void ngx_http_hotpath_postgres_reconnect_handler(ngx_event_t *ev);
static void ngx_http_hotpath_postgres_timer_handler(ngx_event_t *ev);
static void ngx_http_hotpath_postgres_event_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_hotpath_postgres_results(
    ngx_http_hotpath_postgres_link_t *link);
static void ngx_http_hotpath_postgres_result(
    ngx_http_hotpath_postgres_link_t *link,
    ngx_http_hotpath_postgres_call_t *call, PGresult *result);
static void ngx_http_hotpath_postgres_synced(
    ngx_http_hotpath_postgres_link_t *link,
    ngx_http_hotpath_postgres_call_t *call);
static void ngx_http_hotpath_postgres_dispatch_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_hotpath_postgres_send(
    ngx_http_hotpath_postgres_link_t *link,
    ngx_http_hotpath_postgres_call_t *call);
static ngx_int_t ngx_http_hotpath_postgres_flush(
    ngx_http_hotpath_postgres_link_t *link);
static void ngx_http_hotpath_postgres_deadline_handler(ngx_event_t *ev);
static void ngx_http_hotpath_postgres_unqueue(
    ngx_http_hotpath_postgres_call_t *call);
static void ngx_http_hotpath_postgres_forget_age(
    ngx_http_hotpath_postgres_call_t *call);
static void ngx_http_hotpath_postgres_end(
    ngx_http_hotpath_postgres_call_t *call, ngx_int_t rc);
static void ngx_http_hotpath_postgres_notice(void *data, const char *message);
static size_t ngx_http_hotpath_postgres_line(const char *message);


char *
ngx_http_hotpath_postgres_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t                     *value, s;
    ngx_int_t                      n;
    ngx_uint_t                     i;
    ngx_http_hotpath_postgres_t  **slot, *postgres;

    slot = (ngx_http_hotpath_postgres_t **) (p + cmd->offset);

    if (*slot != NULL) {
        return "is duplicate";
    }

    postgres = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_postgres_t));
    if (postgres == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_array_init(&postgres->statements, cf->pool, 4,
                       sizeof(ngx_http_hotpath_statement_t *))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    postgres->nlinks = 4;
    postgres->queue_max = 256;
    postgres->timeout = 1000;

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "connections=", 12) == 0) {
            n = ngx_atoi(value[i].data + 12, value[i].len - 12);
            if (n == NGX_ERROR || n == 0
                || n > NGX_HTTP_HOTPATH_POSTGRES_LINKS_MAX)
            {
                goto invalid;
            }

            postgres->nlinks = n;
            continue;
        }

        if (ngx_strncmp(value[i].data, "queue=", 6) == 0) {
            n = ngx_atoi(value[i].data + 6, value[i].len - 6);
            if (n == NGX_ERROR || n == 0 || n > 100000) {
                goto invalid;
            }

            postgres->queue_max = n;
            continue;
        }

        if (ngx_strncmp(value[i].data, "timeout=", 8) == 0) {
            s.data = value[i].data + 8;
            s.len = value[i].len - 8;
            n = ngx_parse_time(&s, 0);
            if (n == NGX_ERROR || n == 0 || n > 60000) {
                goto invalid;
            }

            postgres->timeout = n;
            continue;
        }

        goto invalid;
    }

    if (ngx_http_hotpath_conninfo_parse(cf, &value[1], postgres->timeout,
                                        &postgres->conninfo)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    *slot = postgres;

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       &value[i]);
    return NGX_CONF_ERROR;
}


ngx_http_hotpath_statement_t *
ngx_http_hotpath_postgres_statement(ngx_conf_t *cf,
    ngx_http_hotpath_postgres_t *postgres, ngx_str_t *sql)
{
    ngx_uint_t                      i;
    ngx_http_hotpath_statement_t  **statements, **slot, *statement;

    statements = postgres->statements.elts;

    for (i = 0; i < postgres->statements.nelts; i++) {
        if (statements[i]->sql.len == sql->len
            && ngx_memcmp(statements[i]->sql.data, sql->data, sql->len) == 0)
        {
            return statements[i];
        }
    }

    statement = ngx_palloc(cf->pool, sizeof(ngx_http_hotpath_statement_t));
    if (statement == NULL) {
        return NULL;
    }

    statement->id = postgres->statements.nelts;
    statement->sql.len = sql->len;
    statement->sql.data = ngx_pnalloc(cf->pool, sql->len + 1);
    if (statement->sql.data == NULL) {
        return NULL;
    }

    ngx_memcpy(statement->sql.data, sql->data, sql->len);
    statement->sql.data[sql->len] = '\0';

    slot = ngx_array_push(&postgres->statements);
    if (slot == NULL) {
        return NULL;
    }

    *slot = statement;

    return statement;
}


ngx_int_t
ngx_http_hotpath_postgres_start(ngx_http_hotpath_postgres_t *postgres,
    ngx_cycle_t *cycle)
{
    ngx_uint_t                         i;
    ngx_http_hotpath_postgres_link_t  *link;

    postgres->links = ngx_pcalloc(cycle->pool, postgres->nlinks
                                  * sizeof(ngx_http_hotpath_postgres_link_t));
    if (postgres->links == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < postgres->nlinks; i++) {
        link = &postgres->links[i];

        link->postgres = postgres;
        link->prepared = ngx_pcalloc(cycle->pool,
                                     postgres->statements.nelts + 1);
        if (link->prepared == NULL) {
            return NGX_ERROR;
        }

        ngx_queue_init(&link->sent);

        link->timer.handler = ngx_http_hotpath_postgres_timer_handler;
        link->timer.data = link;
        link->timer.log = cycle->log;
        link->timer.cancelable = 1;
    }

    ngx_queue_init(&postgres->queue);
    ngx_queue_init(&postgres->free);
    ngx_queue_init(&postgres->ages);

    postgres->deadline.handler = ngx_http_hotpath_postgres_deadline_handler;
    postgres->deadline.data = postgres;
    postgres->deadline.log = cycle->log;

    postgres->dispatch.handler = ngx_http_hotpath_postgres_dispatch_handler;
    postgres->dispatch.data = postgres;
    postgres->dispatch.log = cycle->log;

    postgres->reconnect.handler = ngx_http_hotpath_postgres_reconnect_handler;
    postgres->reconnect.data = postgres;
    postgres->reconnect.log = cycle->log;
    postgres->reconnect.cancelable = 1;

    postgres->cycle = cycle;

    ngx_http_hotpath_postgres_open(&postgres->links[0]);

    return NGX_OK;
}


void
ngx_http_hotpath_postgres_stop(ngx_http_hotpath_postgres_t *postgres)
{
    ngx_uint_t                         i;
    ngx_queue_t                       *q;
    ngx_http_hotpath_postgres_call_t  *call;

    if (postgres->cycle == NULL) {
        return;
    }

    postgres->stopping = 1;

    /* The process ends: whoever waits is no longer there to be told. */

    while (!ngx_queue_empty(&postgres->ages)) {
        q = ngx_queue_head(&postgres->ages);
        call = ngx_queue_data(q, ngx_http_hotpath_postgres_call_t, age);

        call->handler = NULL;
        ngx_http_hotpath_postgres_forget_age(call);

        if (call->link == NULL) {
            ngx_http_hotpath_postgres_unqueue(call);
            ngx_http_hotpath_postgres_end(call, NGX_ERROR);
        }
    }

    for (i = 0; i < postgres->nlinks; i++) {
        if (postgres->links[i].pg) {
            ngx_http_hotpath_postgres_shut(&postgres->links[i]);
        }
    }

    if (postgres->reconnect.timer_set) {
        ngx_del_timer(&postgres->reconnect);
    }

    if (postgres->deadline.timer_set) {
        ngx_del_timer(&postgres->deadline);
    }

    if (postgres->dispatch.posted) {
        ngx_delete_posted_event(&postgres->dispatch);
    }
}


ngx_http_hotpath_postgres_call_t *
ngx_http_hotpath_postgres_query(ngx_http_hotpath_postgres_t *postgres,
    ngx_http_hotpath_statement_t *statement, ngx_str_t *params, ngx_uint_t n,
    ngx_http_hotpath_postgres_pt handler, void *data)
{
    size_t                                size;
    u_char                               *p;
    ngx_int_t                             rc;
    ngx_uint_t                            i, ready;
    ngx_queue_t                          *q;
    ngx_http_hotpath_postgres_call_t     *call;

    if (n > NGX_HTTP_HOTPATH_POSTGRES_PARAMS_MAX
        || postgres->nqueue >= postgres->queue_max)
    {
        return NULL;
    }

    /* Only right after the start there is something to wait for while nothing
     * is connected. */

    ready = 0;

    for (i = 0; i < postgres->nlinks; i++) {
        ready |= postgres->links[i].ready;
    }

    if (!ready && (postgres->attempts || ngx_exiting)) {
        return NULL;
    }

    size = 1;

    for (i = 0; i < n; i++) {

        /* Where libpq would see a shorter value than the caller does. */

        if (params[i].data
            && ngx_strlchr(params[i].data, params[i].data + params[i].len,
                           '\0'))
        {
            return NULL;
        }

        size += params[i].len + 1;
    }

    rc = ngx_http_hotpath_breaker_enter(&postgres->breaker);

    if (rc == NGX_BUSY) {
        return NULL;
    }

    p = ngx_alloc(size, postgres->cycle->log);
    if (p == NULL) {
        goto failed;
    }

    if (!ngx_queue_empty(&postgres->free)) {
        q = ngx_queue_head(&postgres->free);
        call = ngx_queue_data(q, ngx_http_hotpath_postgres_call_t, queue);
        ngx_queue_remove(q);

    } else {
        call = ngx_palloc(postgres->cycle->pool,
                          sizeof(ngx_http_hotpath_postgres_call_t));
        if (call == NULL) {
            ngx_free(p);
            goto failed;
        }
    }

    ngx_memzero(call, sizeof(ngx_http_hotpath_postgres_call_t));

    call->postgres = postgres;
    call->statement = statement;
    call->handler = handler;
    call->data = data;
    call->text = p;
    call->nvalues = n;
    call->probe = (rc == NGX_AGAIN);
    call->ageing = 1;
    call->deadline = ngx_current_msec + postgres->timeout;

    for (i = 0; i < n; i++) {
        if (params[i].data == NULL) {
            continue;
        }

        call->values[i] = (char *) p;
        p = ngx_cpymem(p, params[i].data, params[i].len);
        *p++ = '\0';
    }

    ngx_queue_insert_tail(&postgres->queue, &call->queue);
    postgres->nqueue++;

    ngx_queue_insert_tail(&postgres->ages, &call->age);

    /* As for Redis: left alone while it runs, in the way of the worker's end
     * only while somebody waits. */

    postgres->deadline.cancelable = 0;

    if (!postgres->deadline.timer_set) {
        ngx_add_timer(&postgres->deadline, postgres->timeout);
    }

    ngx_post_event(&postgres->dispatch, &ngx_posted_events);

    return call;

failed:

    if (rc == NGX_AGAIN) {
        ngx_http_hotpath_breaker_abandon(&postgres->breaker);
    }

    return NULL;
}


void
ngx_http_hotpath_postgres_cancel(ngx_http_hotpath_postgres_call_t *call)
{
    call->handler = NULL;

    /* Once sent it keeps its place and its deadline: a server that lets
     * everybody wait until they give up must be noticed as well. */

    if (call->link) {
        return;
    }

    if (call->probe) {
        ngx_http_hotpath_breaker_abandon(&call->postgres->breaker);
    }

    ngx_http_hotpath_postgres_forget_age(call);
    ngx_http_hotpath_postgres_unqueue(call);
    ngx_http_hotpath_postgres_end(call, NGX_ERROR);
}


void
ngx_http_hotpath_postgres_state(ngx_http_hotpath_postgres_t *postgres,
    ngx_http_hotpath_postgres_state_t *state)
{
    ngx_uint_t                         i;
    ngx_http_hotpath_postgres_link_t  *link;

    ngx_memzero(state, sizeof(ngx_http_hotpath_postgres_state_t));

    for (i = 0; i < postgres->nlinks; i++) {
        link = &postgres->links[i];

        state->up |= link->ready;
        state->connections += link->pg != NULL;
        state->busy += link->nsent != 0;
    }

    state->up = state->up
                && ngx_http_hotpath_breaker_closed(&postgres->breaker);
    state->waiting = postgres->nqueue;
}


static void
ngx_http_hotpath_postgres_open(ngx_http_hotpath_postgres_link_t *link)
{
    ngx_http_hotpath_postgres_t  *postgres = link->postgres;

    link->pg = PQconnectStartParams(postgres->conninfo.keywords,
                                    postgres->conninfo.values, 0);

    if (link->pg == NULL) {
        ngx_http_hotpath_postgres_lost(postgres);
        return;
    }

    (void) PQsetNoticeProcessor(link->pg, ngx_http_hotpath_postgres_notice,
                                postgres->cycle->log);

    ngx_add_timer(&link->timer, ngx_max(postgres->timeout,
                                     NGX_HTTP_HOTPATH_POSTGRES_CONNECT_MS));

    ngx_http_hotpath_postgres_poll(link, PQstatus(link->pg) == CONNECTION_BAD
                                         ? PGRES_POLLING_FAILED
                                         : PGRES_POLLING_WRITING);
}


/* What libpq said last about a connection being made. */

static void
ngx_http_hotpath_postgres_poll(ngx_http_hotpath_postgres_link_t *link,
    PostgresPollingStatusType status)
{
    ngx_http_hotpath_postgres_t  *postgres = link->postgres;

    if (status == PGRES_POLLING_FAILED) {
        ngx_http_hotpath_postgres_close(link, PQerrorMessage(link->pg));
        return;
    }

    link->connection = ngx_http_hotpath_backend_attach(PQsocket(link->pg),
                                    link,
                                    ngx_http_hotpath_postgres_event_handler,
                                    ngx_http_hotpath_postgres_event_handler,
                                    postgres->cycle->log);
    if (link->connection == NULL) {
        ngx_http_hotpath_postgres_close(link, "no free connection in nginx");
        return;
    }

    if (ngx_http_hotpath_backend_wait(link->connection,
                                      status != PGRES_POLLING_WRITING,
                                      status == PGRES_POLLING_WRITING)
        != NGX_OK)
    {
        ngx_http_hotpath_postgres_close(link, "no event");
        return;
    }

    if (status != PGRES_POLLING_OK) {
        return;
    }

    if (PQsetnonblocking(link->pg, 1) != 0
        || PQenterPipelineMode(link->pg) != 1)
    {
        ngx_http_hotpath_postgres_close(link, PQerrorMessage(link->pg));
        return;
    }

    ngx_del_timer(&link->timer);

    ngx_memzero(link->prepared, postgres->statements.nelts);

    link->ready = 1;
    link->since = ngx_current_msec;

    ngx_log_error(NGX_LOG_INFO, postgres->cycle->log, 0,
                  "hotpath: connected to postgres, backend pid %d",
                  PQbackendPID(link->pg));

    ngx_post_event(&postgres->dispatch, &ngx_posted_events);
}


/* Not to be called from under a result. why is of libpq or NULL. */

static void
ngx_http_hotpath_postgres_close(ngx_http_hotpath_postgres_link_t *link,
    const char *why)
{
    ngx_http_hotpath_postgres_t  *postgres = link->postgres;

    if (why) {
        ngx_log_error(NGX_LOG_ERR, postgres->cycle->log, 0,
                      "hotpath: connection to postgres closed: %*s",
                      ngx_http_hotpath_postgres_line(why), why);
    }

    if (link->ready
        && (ngx_msec_int_t) (ngx_current_msec - link->since)
           >= NGX_HTTP_HOTPATH_POSTGRES_STEADY_MS)
    {
        postgres->attempts = 0;
    }

    ngx_http_hotpath_postgres_shut(link);
    ngx_http_hotpath_postgres_lost(postgres);
}


static void
ngx_http_hotpath_postgres_shut(ngx_http_hotpath_postgres_link_t *link)
{
    ngx_queue_t                       *q;
    ngx_http_hotpath_postgres_t       *postgres = link->postgres;
    ngx_http_hotpath_postgres_call_t  *call;

    link->ready = 0;
    link->retiring = 0;

    if (link->connection) {
        ngx_http_hotpath_backend_detach(link->connection, PQsocket(link->pg));
        link->connection = NULL;
    }

    /* It sends a farewell as far as that goes without waiting. */

    PQfinish(link->pg);
    link->pg = NULL;

    if (link->timer.timer_set) {
        ngx_del_timer(&link->timer);
    }

    while (!ngx_queue_empty(&link->sent)) {
        q = ngx_queue_head(&link->sent);
        call = ngx_queue_data(q, ngx_http_hotpath_postgres_call_t, queue);

        ngx_queue_remove(q);
        link->nsent--;

        if (call->ageing) {
            ngx_http_hotpath_postgres_forget_age(call);

            if (call->probe) {
                ngx_http_hotpath_breaker_abandon(&postgres->breaker);
            }
        }

        ngx_http_hotpath_postgres_end(call, NGX_ERROR);
    }
}


/* A link was closed, or could not be opened. */

static void
ngx_http_hotpath_postgres_lost(ngx_http_hotpath_postgres_t *postgres)
{
    ngx_uint_t                         i;
    ngx_queue_t                       *q;
    ngx_http_hotpath_postgres_call_t  *call;

    if (postgres->stopping) {
        return;
    }

    for (i = 0; i < postgres->nlinks; i++) {
        if (postgres->links[i].pg) {
            ngx_post_event(&postgres->dispatch, &ngx_posted_events);
            return;
        }
    }

    if (!ngx_exiting && !ngx_terminate && !postgres->reconnect.timer_set) {
        ngx_add_timer(&postgres->reconnect,
                      ngx_http_hotpath_backend_backoff(postgres->attempts));
    }

    /* First, because a handler that asks again must not be queued. */

    postgres->attempts++;

    while (!ngx_queue_empty(&postgres->queue)) {
        q = ngx_queue_head(&postgres->queue);
        call = ngx_queue_data(q, ngx_http_hotpath_postgres_call_t, queue);

        if (call->probe) {
            ngx_http_hotpath_breaker_abandon(&postgres->breaker);
        }

        ngx_http_hotpath_postgres_forget_age(call);
        ngx_http_hotpath_postgres_unqueue(call);
        ngx_http_hotpath_postgres_end(call, NGX_ERROR);
    }
}


static void
ngx_http_hotpath_postgres_reconnect_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_postgres_t  *postgres = ev->data;

    if (ngx_exiting || ngx_terminate) {
        return;
    }

    ngx_http_hotpath_postgres_open(&postgres->links[0]);
}


static void
ngx_http_hotpath_postgres_timer_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_postgres_link_t  *link = ev->data;

    ngx_queue_t                       *q;
    ngx_msec_int_t                     late;
    ngx_http_hotpath_postgres_t       *postgres;
    ngx_http_hotpath_postgres_call_t  *call;

    postgres = link->postgres;

    if (!link->ready) {
        ngx_http_hotpath_postgres_close(link, "no answer to connect");
        return;
    }

    if (ngx_queue_empty(&link->sent)) {
        return;
    }

    q = ngx_queue_head(&link->sent);
    call = ngx_queue_data(q, ngx_http_hotpath_postgres_call_t, queue);

    if (call->ageing) {
        /* its own deadline sets this timer again */
        return;
    }

    late = (ngx_msec_int_t) (ngx_current_msec - call->deadline);

    if (late < (ngx_msec_int_t) postgres->timeout) {
        ngx_add_timer(&link->timer, postgres->timeout - late);
        return;
    }

    ngx_http_hotpath_postgres_close(link, "a query is overdue");
}


static void
ngx_http_hotpath_postgres_event_handler(ngx_event_t *ev)
{
    ngx_connection_t                  *c = ev->data;
    ngx_http_hotpath_postgres_link_t  *link = c->data;

    if (!link->ready) {

        /* libpq may close the socket in there, or go on with another. */

        ngx_http_hotpath_backend_detach(c, PQsocket(link->pg));
        link->connection = NULL;

        ngx_http_hotpath_postgres_poll(link, PQconnectPoll(link->pg));
        return;
    }

    if (!ev->write
        && (PQconsumeInput(link->pg) != 1
            || ngx_http_hotpath_postgres_results(link) != NGX_OK))
    {
        ngx_http_hotpath_postgres_close(link, PQerrorMessage(link->pg));
        return;
    }

    if (link->retiring && link->nsent == 0) {
        ngx_http_hotpath_postgres_shut(link);
        ngx_http_hotpath_postgres_open(link);
        return;
    }

    if (c->write->active && ngx_http_hotpath_postgres_flush(link) != NGX_OK) {
        ngx_http_hotpath_postgres_close(link, PQerrorMessage(link->pg));
    }
}


/* Takes what has come in complete; NGX_ERROR: the link is of no more use. */

static ngx_int_t
ngx_http_hotpath_postgres_results(ngx_http_hotpath_postgres_link_t *link)
{
    PGresult                          *result;
    ngx_uint_t                         ends;
    ngx_queue_t                       *q;
    ngx_http_hotpath_postgres_call_t  *call;

    ends = 0;

    /* Two ends in a row: nothing is outstanding. */

    while (ends < 2 && !PQisBusy(link->pg)) {

        result = PQgetResult(link->pg);

        if (result == NULL) {
            ends++;
            continue;
        }

        ends = 0;

        if (ngx_queue_empty(&link->sent)) {
            PQclear(result);
            return NGX_ERROR;
        }

        q = ngx_queue_head(&link->sent);
        call = ngx_queue_data(q, ngx_http_hotpath_postgres_call_t, queue);

        if (PQresultStatus(result) != PGRES_PIPELINE_SYNC) {
            ngx_http_hotpath_postgres_result(link, call, result);

        } else {
            PQclear(result);
            ngx_queue_remove(q);
            link->nsent--;
            ngx_http_hotpath_postgres_synced(link, call);
        }
    }

    if (!ngx_queue_empty(&link->postgres->queue)) {
        ngx_post_event(&link->postgres->dispatch, &ngx_posted_events);
    }

    return PQstatus(link->pg) == CONNECTION_OK ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_hotpath_postgres_result(ngx_http_hotpath_postgres_link_t *link,
    ngx_http_hotpath_postgres_call_t *call, PGresult *result)
{
    char            *message, *code;
    ngx_uint_t       prepare, id, level;
    ExecStatusType   status;

    id = call->statement->id;
    status = PQresultStatus(result);

    prepare = call->prepares;
    call->prepares = 0;

    if (status == PGRES_TUPLES_OK) {
        PQclear(call->result);
        call->result = result;
        return;
    }

    if (status == PGRES_PIPELINE_ABORTED
        || (prepare && status == PGRES_COMMAND_OK))
    {
        PQclear(result);
        return;
    }

    message = PQresultErrorMessage(result);
    code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (code == NULL) {
        code = "";
    }

    /* Class 22 is about the values, which are the client's. */

    level = ngx_strncmp(code, "22", 2) == 0 ? NGX_LOG_INFO : NGX_LOG_ERR;

    ngx_log_error(level, link->postgres->cycle->log, 0,
                  "hotpath: postgres statement %ui failed: %*s", id,
                  *message ? ngx_http_hotpath_postgres_line(message)
                           : sizeof("it gives no rows") - 1,
                  *message ? message : "it gives no rows");

    if (prepare) {
        link->prepared[id] =
                  ngx_strcmp(code, NGX_HTTP_HOTPATH_POSTGRES_IS_PREPARED) == 0;

    } else if (ngx_strcmp(code, NGX_HTTP_HOTPATH_POSTGRES_NO_STATEMENT) == 0) {
        link->prepared[id] = 0;

    } else if (ngx_strcmp(code, NGX_HTTP_HOTPATH_POSTGRES_PLAN_OUTDATED)
               == 0)
    {
        link->retiring = 1;
    }

    if (ngx_strcmp(code, NGX_HTTP_HOTPATH_POSTGRES_CANCELED) == 0) {
        call->slow = 1;
    }

    PQclear(result);
}


static void
ngx_http_hotpath_postgres_synced(ngx_http_hotpath_postgres_link_t *link,
    ngx_http_hotpath_postgres_call_t *call)
{
    ngx_http_hotpath_postgres_t  *postgres = link->postgres;

    if (call->ageing) {
        ngx_http_hotpath_postgres_forget_age(call);
        ngx_http_hotpath_breaker_leave(&postgres->breaker, call->probe,
                                       !call->slow, "postgres",
                                       postgres->cycle->log);
    }

    ngx_http_hotpath_postgres_end(call, call->result ? NGX_OK : NGX_ERROR);
}


/* Sends what waits, as far as the links go, and opens one more where they are
 * all in use. */

static void
ngx_http_hotpath_postgres_dispatch_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_postgres_t       *postgres = ev->data;

    ngx_uint_t                         i, connecting;
    ngx_queue_t                       *q;
    ngx_http_hotpath_postgres_call_t  *call;
    ngx_http_hotpath_postgres_link_t  *link, *best, *closed;

    for ( ;; ) {

        best = NULL;
        closed = NULL;
        connecting = 0;

        for (i = 0; i < postgres->nlinks; i++) {
            link = &postgres->links[i];

            if (link->pg == NULL) {
                closed = link;
                continue;
            }

            if (!link->ready) {
                connecting = 1;
                continue;
            }

            if (!link->retiring
                && link->nsent < NGX_HTTP_HOTPATH_POSTGRES_PIPELINE
                && (best == NULL || link->nsent < best->nsent))
            {
                best = link;
            }
        }

        if (best == NULL || ngx_queue_empty(&postgres->queue)) {
            break;
        }

        q = ngx_queue_head(&postgres->queue);
        call = ngx_queue_data(q, ngx_http_hotpath_postgres_call_t, queue);

        ngx_http_hotpath_postgres_unqueue(call);

        call->link = best;
        ngx_queue_insert_tail(&best->sent, &call->queue);
        best->nsent++;

        if (ngx_http_hotpath_postgres_send(best, call) != NGX_OK
            || ngx_http_hotpath_postgres_flush(best) != NGX_OK)
        {
            ngx_http_hotpath_postgres_close(best, PQerrorMessage(best->pg));
        }
    }

    /* One at a time, and none while the server is being looked for. */

    if (closed && !connecting && !ngx_exiting && !ngx_terminate
        && !postgres->reconnect.timer_set
        && (best == NULL || best->nsent))
    {
        ngx_http_hotpath_postgres_open(closed);
    }
}


static ngx_int_t
ngx_http_hotpath_postgres_send(ngx_http_hotpath_postgres_link_t *link,
    ngx_http_hotpath_postgres_call_t *call)
{
    u_char                         name[sizeof("hp_") + NGX_INT_T_LEN];
    ngx_http_hotpath_statement_t  *statement;

    statement = call->statement;

    *ngx_sprintf(name, "hp_%ui", statement->id) = '\0';

    if (!link->prepared[statement->id]) {

        if (PQsendPrepare(link->pg, (char *) name,
                          (char *) statement->sql.data, call->nvalues, NULL)
            != 1)
        {
            return NGX_ERROR;
        }

        link->prepared[statement->id] = 1;
        call->prepares = 1;
    }

    if (PQsendQueryPrepared(link->pg, (char *) name, call->nvalues,
                            call->values, NULL, NULL, 0)
        != 1)
    {
        return NGX_ERROR;
    }

    if (PQpipelineSync(link->pg) != 1) {
        return NGX_ERROR;
    }

    ngx_free(call->text);
    call->text = NULL;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_postgres_flush(ngx_http_hotpath_postgres_link_t *link)
{
    int  rc;

    rc = PQflush(link->pg);

    if (rc < 0 || PQsocket(link->pg) != link->connection->fd) {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_backend_wait(link->connection, 1, rc);
}


static void
ngx_http_hotpath_postgres_deadline_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_postgres_t       *postgres = ev->data;

    void                              *data;
    ngx_queue_t                       *q;
    ngx_msec_int_t                     left;
    ngx_http_hotpath_postgres_pt       handler;
    ngx_http_hotpath_postgres_call_t  *call;

    left = 0;

    while (!ngx_queue_empty(&postgres->ages)) {

        q = ngx_queue_head(&postgres->ages);
        call = ngx_queue_data(q, ngx_http_hotpath_postgres_call_t, age);

        left = (ngx_msec_int_t) (call->deadline - ngx_current_msec);

        if (left > 0) {
            break;
        }

        ngx_http_hotpath_postgres_forget_age(call);
        ngx_http_hotpath_breaker_leave(&postgres->breaker, call->probe, 0,
                                       "postgres", postgres->cycle->log);

        if (call->link == NULL) {
            ngx_http_hotpath_postgres_unqueue(call);
            ngx_http_hotpath_postgres_end(call, NGX_ERROR);
            continue;
        }

        /* Sent, so it stays until its result comes; for how long it may, the
         * link's timer tells. */

        if (!call->link->timer.timer_set) {
            ngx_add_timer(&call->link->timer, postgres->timeout);
        }

        handler = call->handler;
        data = call->data;
        call->handler = NULL;

        if (handler) {
            ngx_http_hotpath_count(POSTGRES_ERRORS);
            handler(data, NGX_ERROR, NULL);
        }
    }

    if (ngx_queue_empty(&postgres->ages)) {
        return;
    }

    /* A handler's new call may have set it, for later than is due. */

    if (postgres->deadline.timer_set) {
        ngx_del_timer(&postgres->deadline);
    }

    ngx_add_timer(&postgres->deadline, left);
}


static void
ngx_http_hotpath_postgres_unqueue(ngx_http_hotpath_postgres_call_t *call)
{
    ngx_queue_remove(&call->queue);
    call->postgres->nqueue--;
}


static void
ngx_http_hotpath_postgres_forget_age(ngx_http_hotpath_postgres_call_t *call)
{
    ngx_http_hotpath_postgres_t  *postgres = call->postgres;

    ngx_queue_remove(&call->age);
    call->ageing = 0;

    if (ngx_queue_empty(&postgres->ages)) {
        postgres->deadline.cancelable = 1;
    }
}


/* The call is in no list any more; it is free to be used again before its
 * handler runs. */

static void
ngx_http_hotpath_postgres_end(ngx_http_hotpath_postgres_call_t *call,
    ngx_int_t rc)
{
    void                          *data;
    PGresult                      *result;
    ngx_http_hotpath_postgres_pt   handler;

    handler = call->handler;
    data = call->data;
    result = call->result;

    if (call->text) {
        ngx_free(call->text);
    }

    ngx_queue_insert_head(&call->postgres->free, &call->queue);

    if (handler) {

        if (rc != NGX_OK) {
            ngx_http_hotpath_count(POSTGRES_ERRORS);
        }

        handler(data, rc, rc == NGX_OK ? result : NULL);
    }

    PQclear(result);
}


static void
ngx_http_hotpath_postgres_notice(void *data, const char *message)
{
    ngx_log_t  *log = data;

    ngx_log_error(NGX_LOG_INFO, log, 0, "hotpath: postgres: %*s",
                  ngx_http_hotpath_postgres_line(message), message);
}


/* What of a message of libpq may go to the log: it may quote what a client
 * sent, so it ends with the first control character. */

static size_t
ngx_http_hotpath_postgres_line(const char *message)
{
    size_t  n;

    for (n = 0; (u_char) message[n] >= ' '; n++) { /* void */ }

    return n;
}
