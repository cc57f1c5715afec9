/*
 * ngx_http_hotpath_pglink.c: one connection to Postgres and the queries that
 * are on their way over it.
 *
 * libpq owns the socket and the order of results, pgconnect the search for a
 * server. A link runs in pipeline mode, every query with a Sync of its own, so
 * that one query's error is no other's. Statements are prepared on first use,
 * in the same packet as the query; with prepare=off each query brings its text.
 * A sent query stays with its link until its result came or the link is closed,
 * however late it is. A server that still works for a late one is told to stop;
 * a link that says nothing for a whole time limit after that is closed, and its
 * server tried last for a while. Runs in workers, on the event loop.
 *
 * What must never happen here: a blocking call (see conninfo, pgcancel; results
 * are only taken when they are complete), a result without a bound, closing the
 * link while libpq or one of its results is in use further up, and an event
 * that stays registered for a socket that libpq has closed.
 * Tests: tests/integration/test_postgres.py,
 * tests/faults/test_postgres_faults.py.
 */
#include "ngx_http_hotpath_pglink.h"
#include "ngx_http_hotpath_metrics.h"
#include "ngx_http_hotpath_pgcancel.h"
#include "ngx_http_hotpath_pgwatch.h"
#include <sys/ioctl.h>


#define NGX_HTTP_HOTPATH_PGLINK_STEADY_MS   1000

/* libpq reads on while there is something to read: the less a server can have
 * sent in advance, the sooner there is not. */
#define NGX_HTTP_HOTPATH_PGLINK_RCVBUF      (128 * 1024)

/* How long a late query may run after the one before it has ended: most need
 * less, and are not worth a cancel request. */
#define NGX_HTTP_HOTPATH_PGLINK_GRACE_MS    20

/* For so long after a cancel request it may be what cancelled a query. */
#define NGX_HTTP_HOTPATH_PGLINK_CANCEL_MS   2000

/* A query at work for this part of its time limit holds up those behind it. */
#define NGX_HTTP_HOTPATH_PGLINK_SLOWLY      10

/* Names that a session was given for statements before it is made anew. */
#define NGX_HTTP_HOTPATH_PGLINK_NAMES_MAX   1000

/* What libpq calls SQLSTATE. */
#define NGX_HTTP_HOTPATH_PGLINK_NO_STATEMENT   "26000"
#define NGX_HTTP_HOTPATH_PGLINK_IS_PREPARED    "42P05"
#define NGX_HTTP_HOTPATH_PGLINK_PLAN_OUTDATED  "0A000"
#define NGX_HTTP_HOTPATH_PGLINK_CANCELED       "57014"
#define NGX_HTTP_HOTPATH_PGLINK_CONFLICT       "40001"
#define NGX_HTTP_HOTPATH_PGLINK_VALUES         "22"       /* a class */


static void ngx_http_hotpath_pglink_connected(void *data, PGconn *pg);
static void ngx_http_hotpath_pglink_close(ngx_http_hotpath_pglink_t *link,
    const char *why);
static void ngx_http_hotpath_pglink_renew(ngx_http_hotpath_pglink_t *link);
static void ngx_http_hotpath_pglink_timer_handler(ngx_event_t *ev);
static void ngx_http_hotpath_pglink_event_handler(ngx_event_t *ev);
static const char *ngx_http_hotpath_pglink_read(
    ngx_http_hotpath_pglink_t *link);
static uint64_t ngx_http_hotpath_pglink_measure(
    ngx_http_hotpath_pglink_t *link);
static ngx_int_t ngx_http_hotpath_pglink_results(
    ngx_http_hotpath_pglink_t *link, ngx_uint_t *ended);
static void ngx_http_hotpath_pglink_result(ngx_http_hotpath_pglink_t *link,
    ngx_http_hotpath_pgquery_t *query, PGresult *result);
static void ngx_http_hotpath_pglink_failed(ngx_http_hotpath_pglink_t *link,
    ngx_http_hotpath_pgquery_t *query, PGresult *result, ngx_uint_t prepare);
static void ngx_http_hotpath_pglink_synced(ngx_http_hotpath_pglink_t *link,
    ngx_http_hotpath_pgquery_t *query);
static ngx_int_t ngx_http_hotpath_pglink_write(
    ngx_http_hotpath_pglink_t *link, ngx_http_hotpath_pgquery_t *query);
static ngx_int_t ngx_http_hotpath_pglink_flush(
    ngx_http_hotpath_pglink_t *link);
static ngx_http_hotpath_pgquery_t *ngx_http_hotpath_pglink_head(
    ngx_http_hotpath_pglink_t *link);
static void ngx_http_hotpath_pglink_remove(ngx_http_hotpath_pglink_t *link,
    ngx_http_hotpath_pgquery_t *query);


ngx_int_t
ngx_http_hotpath_pglink_init(ngx_http_hotpath_pglink_t *link,
    ngx_pool_t *pool)
{
    link->prepared = ngx_palloc(pool, (link->conf->nstatements + 1)
                                      * sizeof(ngx_uint_t));
    if (link->prepared == NULL) {
        return NGX_ERROR;
    }

    ngx_queue_init(&link->sent);

    link->timer.handler = ngx_http_hotpath_pglink_timer_handler;
    link->timer.data = link;
    link->timer.log = link->conf->log;
    link->timer.cancelable = 1;

    link->connect.servers = &link->conf->servers;
    link->connect.handler = ngx_http_hotpath_pglink_connected;
    link->connect.data = link;

    return NGX_OK;
}


void
ngx_http_hotpath_pglink_open(ngx_http_hotpath_pglink_t *link)
{
    ngx_http_hotpath_add(POSTGRES_CONNECTIONS, 1);

    ngx_http_hotpath_pgconnect_begin(&link->connect);
}


static void
ngx_http_hotpath_pglink_connected(void *data, PGconn *pg)
{
    ngx_http_hotpath_pglink_t *link = data;

    int  size;

    if (pg == NULL) {
        ngx_http_hotpath_add(POSTGRES_CONNECTIONS, -1);
        link->conf->lost(link, 1);
        return;
    }

    link->pg = pg;
    link->since = ngx_current_msec;
    link->names = 0;
    link->cancels = 0;
    link->partial = 0;
    link->proven = 0;
    link->retiring = 0;

    ngx_memzero(link->prepared,
                link->conf->nstatements * sizeof(ngx_uint_t));

    if (PQsetnonblocking(pg, 1) != 0 || PQenterPipelineMode(pg) != 1) {
        ngx_http_hotpath_pglink_close(link, PQerrorMessage(pg));
        return;
    }

    link->connection = ngx_http_hotpath_backend_attach(PQsocket(pg), link,
                                    ngx_http_hotpath_pglink_event_handler,
                                    ngx_http_hotpath_pglink_event_handler,
                                    link->conf->log);
    if (link->connection == NULL
        || ngx_http_hotpath_backend_wait(link->connection, 1, 0) != NGX_OK)
    {
        ngx_http_hotpath_pglink_close(link, "no free connection in nginx");
        return;
    }

    size = NGX_HTTP_HOTPATH_PGLINK_RCVBUF;
    (void) setsockopt(PQsocket(pg), SOL_SOCKET, SO_RCVBUF, &size,
                      sizeof(int));

    link->conf->ready(link);
}


/* Not to be called from under a result. */

static void
ngx_http_hotpath_pglink_close(ngx_http_hotpath_pglink_t *link,
    const char *why)
{
    ngx_uint_t  young;

    ngx_log_error(NGX_LOG_ERR, link->conf->log, 0,
                  "hotpath: connection to postgres closed: %*s",
                  ngx_http_hotpath_backend_line(why), why);

    young = !link->proven
            && (ngx_msec_int_t) (ngx_current_msec - link->since)
               < NGX_HTTP_HOTPATH_PGLINK_STEADY_MS;

    ngx_http_hotpath_pglink_shut(link);

    link->conf->lost(link, young);
}


void
ngx_http_hotpath_pglink_shut(ngx_http_hotpath_pglink_t *link)
{
    ngx_queue_t                 *q;
    ngx_http_hotpath_pgquery_t  *query;

    if (link->connect.busy) {
        ngx_http_hotpath_pgconnect_drop(&link->connect);
        ngx_http_hotpath_add(POSTGRES_CONNECTIONS, -1);
        return;
    }

    if (link->pg == NULL) {
        return;
    }

    if (link->connection) {
        ngx_http_hotpath_backend_detach(link->connection, PQsocket(link->pg));
        link->connection = NULL;
    }

    /* It sends a farewell as far as that goes without waiting. */

    PQfinish(link->pg);
    link->pg = NULL;
    link->retiring = 0;

    ngx_http_hotpath_add(POSTGRES_CONNECTIONS, -1);

    if (link->timer.timer_set) {
        ngx_del_timer(&link->timer);
    }

    /* From the end, so that they are in order when they wait again. */

    while (!ngx_queue_empty(&link->sent)) {
        q = ngx_queue_last(&link->sent);
        query = ngx_queue_data(q, ngx_http_hotpath_pgquery_t, queue);

        ngx_http_hotpath_pglink_remove(link, query);

        PQclear(query->result);
        query->result = NULL;

        query->lost = 1;
        query->again = !query->large;

        link->conf->ended(query);
    }
}


void
ngx_http_hotpath_pglink_retire(ngx_http_hotpath_pglink_t *link)
{
    link->retiring = 1;

    if (link->nsent == 0) {
        ngx_http_hotpath_pglink_renew(link);
    }
}


static void
ngx_http_hotpath_pglink_renew(ngx_http_hotpath_pglink_t *link)
{
    ngx_http_hotpath_pglink_shut(link);

    if (!ngx_exiting && !ngx_terminate) {
        ngx_http_hotpath_pglink_open(link);
    }
}


ngx_uint_t
ngx_http_hotpath_pglink_load(ngx_http_hotpath_pglink_t *link)
{
    ngx_msec_int_t  since;

    if (link->pg == NULL || link->retiring
        || link->nsent == NGX_HTTP_HOTPATH_PGLINK_PIPELINE)
    {
        return NGX_HTTP_HOTPATH_PGLINK_FULL;
    }

    if (link->nsent == 0) {
        return 0;
    }

    since = (ngx_msec_int_t) (ngx_current_msec - link->at_work);

    if (since < (ngx_msec_int_t) (link->conf->timeout
                                  / NGX_HTTP_HOTPATH_PGLINK_SLOWLY))
    {
        return link->nsent;
    }

    return ngx_http_hotpath_pglink_head(link)->late
           ? NGX_HTTP_HOTPATH_PGLINK_FULL
           : link->nsent + NGX_HTTP_HOTPATH_PGLINK_PIPELINE;
}


void
ngx_http_hotpath_pglink_send(ngx_http_hotpath_pglink_t *link,
    ngx_http_hotpath_pgquery_t *query)
{
    query->link = link;
    query->result = NULL;
    query->prepares = 0;
    query->cancelled = 0;
    query->slow = 0;
    query->again = 0;
    query->lost = 0;

    ngx_queue_insert_tail(&link->sent, &query->queue);

    if (link->nsent++ == 0) {
        link->at_work = ngx_current_msec;
        ngx_http_hotpath_add(POSTGRES_BUSY, 1);
    }

    if (ngx_http_hotpath_pglink_write(link, query) != NGX_OK
        || ngx_http_hotpath_pglink_flush(link) != NGX_OK)
    {
        ngx_http_hotpath_pglink_close(link, PQerrorMessage(link->pg));
    }
}


ngx_uint_t
ngx_http_hotpath_pglink_first(ngx_http_hotpath_pgquery_t *query)
{
    return query == ngx_http_hotpath_pglink_head(query->link);
}


void
ngx_http_hotpath_pglink_late(ngx_http_hotpath_pgquery_t *query)
{
    ngx_msec_int_t              after;
    ngx_http_hotpath_pglink_t  *link = query->link;

    query->late = 1;

    if (!ngx_http_hotpath_pglink_first(query)) {
        return;
    }

    if (!query->cancelled) {
        query->cancelled = 1;

        if (ngx_http_hotpath_pgcancel(link->pg, link->conf->log) == NGX_OK) {
            link->cancels = 1;
            link->cancelled = ngx_current_msec;
            ngx_http_hotpath_count(POSTGRES_CANCELS);
        }
    }

    after = (ngx_msec_int_t) (query->deadline + link->conf->timeout
                              - ngx_current_msec);

    if (after > 0) {
        ngx_add_timer(&link->timer, after);
        return;
    }

    ngx_http_hotpath_pgconnect_blame(&link->connect);
    ngx_http_hotpath_pglink_close(link, "a query is overdue");
}


static void
ngx_http_hotpath_pglink_timer_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_pglink_t   *link = ev->data;
    ngx_http_hotpath_pgquery_t  *query;

    query = link->nsent ? ngx_http_hotpath_pglink_head(link) : NULL;

    if (query && query->late) {
        ngx_http_hotpath_pglink_late(query);
    }
}


static void
ngx_http_hotpath_pglink_event_handler(ngx_event_t *ev)
{
    const char                 *why;
    ngx_connection_t           *c = ev->data;
    ngx_http_hotpath_pglink_t  *link = c->data;

    if (!ev->write) {
        why = ngx_http_hotpath_pglink_read(link);

        if (why) {
            ngx_http_hotpath_pglink_close(link, why);
            return;
        }
    }

    if (link->retiring && link->nsent == 0) {
        ngx_http_hotpath_pglink_renew(link);
        return;
    }

    if (c->write->active && ngx_http_hotpath_pglink_flush(link) != NGX_OK) {
        ngx_http_hotpath_pglink_close(link, PQerrorMessage(link->pg));
    }
}


/* NULL, or why the link is of no more use. */

static const char *
ngx_http_hotpath_pglink_read(ngx_http_hotpath_pglink_t *link)
{
    int          rc;
    PGnotify    *notify;
    ngx_uint_t   ended;

    if (!link->partial) {
        rc = PQconsumeInput(link->pg);

    } else {

        if (ngx_http_hotpath_pglink_measure(link) > link->conf->max_result) {
            ngx_http_hotpath_pglink_head(link)->large = 1;
            return "a result is larger than max_result";
        }

        ngx_http_hotpath_pgwatch_begin(link->connection->fd, link->conf->log);

        rc = PQconsumeInput(link->pg);

        if (ngx_http_hotpath_pgwatch_end()) {
            ngx_http_hotpath_pglink_head(link)->large = 1;
            return "a result takes too long to read";
        }
    }

    ended = 0;

    if (rc != 1
        || ngx_http_hotpath_pglink_results(link, &ended) != NGX_OK)
    {
        return PQstatus(link->pg) == CONNECTION_OK
               ? "an answer that was not asked for" : PQerrorMessage(link->pg);
    }

    /* Nobody listens; libpq keeps them nevertheless. */

    while ((notify = PQnotifies(link->pg)) != NULL) {
        PQfreemem(notify);
    }

    if (ended || link->nsent == 0) {
        link->partial = 0;

    } else if (!link->partial) {
        (void) ngx_http_hotpath_pglink_measure(link);
    }

    return NULL;
}


/*
 * How much has come since the first time this was asked with partial being 0:
 * libpq gathers a result without a bound. Linux counts for each TCP connection
 * (what is read here is tcpi_bytes_received, the 17th 64-bit word, which the
 * structure of older headers does not reach). Elsewhere what waits in the
 * socket is added up each time, which is at least what is about to be read.
 */

static uint64_t
ngx_http_hotpath_pglink_measure(ngx_http_hotpath_pglink_t *link)
{
    int        n;
#if (NGX_LINUX)
    uint64_t   info[17];
    socklen_t  len;

    len = sizeof(info);

    if (getsockopt(link->connection->fd, IPPROTO_TCP, TCP_INFO, info, &len)
        == 0
        && len == sizeof(info))
    {
        if (!link->partial) {
            link->partial = 1;
            link->taken = info[16];
        }

        return info[16] - link->taken;
    }
#endif

    if (!link->partial) {
        link->partial = 1;
        link->taken = 0;
        return 0;
    }

    if (ioctl(link->connection->fd, FIONREAD, &n) == 0) {
        link->taken += n;
    }

    return link->taken;
}


/* Takes what has come in complete; NGX_ERROR: the link is of no more use. */

static ngx_int_t
ngx_http_hotpath_pglink_results(ngx_http_hotpath_pglink_t *link,
    ngx_uint_t *ended)
{
    PGresult                    *result;
    ngx_uint_t                   ends;
    ExecStatusType               status;
    ngx_http_hotpath_pgquery_t  *query;

    ends = 0;

    /* Two ends in a row: nothing is outstanding. */

    while (ends < 2 && !PQisBusy(link->pg)) {

        result = PQgetResult(link->pg);

        if (result == NULL) {
            ends++;
            continue;
        }

        ends = 0;
        status = PQresultStatus(result);

        /* Of a copy there would be no end. */

        if (link->nsent == 0
            || status == PGRES_COPY_IN
            || status == PGRES_COPY_OUT
            || status == PGRES_COPY_BOTH)
        {
            PQclear(result);
            return NGX_ERROR;
        }

        query = ngx_http_hotpath_pglink_head(link);

        if (status != PGRES_PIPELINE_SYNC) {
            ngx_http_hotpath_pglink_result(link, query, result);
            continue;
        }

        PQclear(result);

        (*ended)++;
        ngx_http_hotpath_pglink_synced(link, query);
    }

    return PQstatus(link->pg) == CONNECTION_OK ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_hotpath_pglink_result(ngx_http_hotpath_pglink_t *link,
    ngx_http_hotpath_pgquery_t *query, PGresult *result)
{
    ngx_uint_t      prepare;
    ExecStatusType  status;

    status = PQresultStatus(result);

    prepare = query->prepares;
    query->prepares = 0;

    if (status == PGRES_TUPLES_OK) {
        PQclear(query->result);
        query->result = result;
        return;
    }

    if (status != PGRES_PIPELINE_ABORTED
        && !(prepare && status == PGRES_COMMAND_OK))
    {
        ngx_http_hotpath_pglink_failed(link, query, result, prepare);
    }

    PQclear(result);
}


/* What went wrong, and whether it would again. */

static void
ngx_http_hotpath_pglink_failed(ngx_http_hotpath_pglink_t *link,
    ngx_http_hotpath_pgquery_t *query, PGresult *result, ngx_uint_t prepare)
{
    char        *message, *code;
    ngx_uint_t   level;

    message = PQresultErrorMessage(result);

    if (*message == '\0') {
        message = "it gives no rows";
    }

    code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (code == NULL) {
        code = "";
    }

    level = NGX_LOG_ERR;

    if (ngx_strcmp(code, NGX_HTTP_HOTPATH_PGLINK_CANCELED) == 0) {

        /* The request for another query may have come late and have hit this
         * one. Else it is the server's own limit. */

        if (link->cancels
            && (ngx_msec_int_t) (ngx_current_msec - link->cancelled)
               < NGX_HTTP_HOTPATH_PGLINK_CANCEL_MS)
        {
            query->again = !query->late;
            level = NGX_LOG_INFO;
        }

        query->slow = !query->again;

    } else if (ngx_strcmp(code, NGX_HTTP_HOTPATH_PGLINK_CONFLICT) == 0) {

        /* A standby had to remove what the statement was reading. */

        query->again = 1;
        level = NGX_LOG_NOTICE;

    } else if (ngx_strcmp(code, NGX_HTTP_HOTPATH_PGLINK_NO_STATEMENT) == 0
               || ngx_strcmp(code, NGX_HTTP_HOTPATH_PGLINK_IS_PREPARED) == 0
               || ngx_strcmp(code, NGX_HTTP_HOTPATH_PGLINK_PLAN_OUTDATED)
                  == 0)
    {
        /* A table was changed, or behind a pooler it is another session. */

        query->again = 1;
        prepare = 1;
        level = NGX_LOG_NOTICE;

    } else if (ngx_strncmp(code, NGX_HTTP_HOTPATH_PGLINK_VALUES, 2) == 0) {

        /* The values are the client's. */

        level = NGX_LOG_INFO;
    }

    if (prepare && link->prepared[query->id] == query->name) {
        link->prepared[query->id] = 0;
    }

    ngx_log_error(level, link->conf->log, 0,
                  "hotpath: postgres statement %ui failed: %*s", query->id,
                  ngx_http_hotpath_backend_line(message), message);
}


static void
ngx_http_hotpath_pglink_synced(ngx_http_hotpath_pglink_t *link,
    ngx_http_hotpath_pgquery_t *query)
{
    if (query->result) {
        link->proven = 1;
    }

    ngx_http_hotpath_pglink_remove(link, query);
    link->at_work = ngx_current_msec;

    if (link->timer.timer_set) {
        ngx_del_timer(&link->timer);
    }

    if (link->nsent && ngx_http_hotpath_pglink_head(link)->late) {
        ngx_add_timer(&link->timer, NGX_HTTP_HOTPATH_PGLINK_GRACE_MS);
    }

    link->conf->ended(query);
}


static ngx_int_t
ngx_http_hotpath_pglink_write(ngx_http_hotpath_pglink_t *link,
    ngx_http_hotpath_pgquery_t *query)
{
    u_char  name[sizeof("hp__") + 2 * NGX_INT_T_LEN];

    if (!link->conf->prepare) {

        if (PQsendQueryParams(link->pg, query->sql, query->nvalues, NULL,
                              query->values, NULL, NULL, 0)
            != 1)
        {
            return NGX_ERROR;
        }

        return PQpipelineSync(link->pg) == 1 ? NGX_OK : NGX_ERROR;
    }

    query->name = link->prepared[query->id];

    if (query->name == 0) {

        /* A name is not used twice in a session, whatever became of it. */

        query->name = ++link->names;
        query->prepares = 1;

        if (link->names >= NGX_HTTP_HOTPATH_PGLINK_NAMES_MAX) {
            link->retiring = 1;
        }
    }

    *ngx_sprintf(name, "hp_%ui_%ui", query->id, query->name) = '\0';

    if (query->prepares) {

        if (PQsendPrepare(link->pg, (char *) name, query->sql, query->nvalues,
                          NULL)
            != 1)
        {
            return NGX_ERROR;
        }

        link->prepared[query->id] = query->name;
    }

    if (PQsendQueryPrepared(link->pg, (char *) name, query->nvalues,
                            query->values, NULL, NULL, 0)
        != 1)
    {
        return NGX_ERROR;
    }

    return PQpipelineSync(link->pg) == 1 ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_hotpath_pglink_flush(ngx_http_hotpath_pglink_t *link)
{
    int  rc;

    rc = PQflush(link->pg);

    if (rc < 0 || PQsocket(link->pg) != link->connection->fd) {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_backend_wait(link->connection, 1, rc);
}


/* What the server is at work for; there is one. */

static ngx_http_hotpath_pgquery_t *
ngx_http_hotpath_pglink_head(ngx_http_hotpath_pglink_t *link)
{
    ngx_queue_t  *q;

    q = ngx_queue_head(&link->sent);

    return ngx_queue_data(q, ngx_http_hotpath_pgquery_t, queue);
}


static void
ngx_http_hotpath_pglink_remove(ngx_http_hotpath_pglink_t *link,
    ngx_http_hotpath_pgquery_t *query)
{
    ngx_queue_remove(&query->queue);
    query->link = NULL;

    if (--link->nsent == 0) {
        ngx_http_hotpath_add(POSTGRES_BUSY, -1);
    }
}
