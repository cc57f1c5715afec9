/*
 * ngx_http_hotpath_postgres.c: a small pool of Postgres connections per worker.
 *
 * pglink owns the connections and what is on its way over them; this file owns
 * the calls, and decides which link takes one and when a link is opened. A call
 * is in exactly one list at a time: `queue` (not sent), a link's `sent`, or
 * `free`; while somebody may still be waiting for it, it is in `ages` as well,
 * which is what deadlines go by. Sent calls stay with their link until their
 * result came or the link is closed, however long ago they were answered for or
 * cancelled. A call that fell with its link, or with another one's cancel
 * request, is sent again while its deadline lasts: statements here read, so
 * twice is no harm. Runs in workers, on the event loop, without any lock.
 *
 * What must never happen here: a call that is not ended, a queue without a
 * bound, and a link closed while a result is in use further up (so new calls
 * are only queued, and sent by an event of their own).
 * Reference: README.md, "hotpath_postgres". Tests:
 * tests/integration/test_postgres.py, tests/faults/test_postgres_faults.py.
 */
#include "ngx_http_hotpath_postgres.h"
#include "ngx_http_hotpath_backend.h"
#include "ngx_http_hotpath_metrics.h"
#include "ngx_http_hotpath_pgcancel.h"
#include "ngx_http_hotpath_pgconf.h"
#include "ngx_http_hotpath_pglink.h"


/* How often a call is sent that falls with its links: when a server restarts,
 * the next link may be as dead as the first. */
#define NGX_HTTP_HOTPATH_POSTGRES_TRIES      5

/* Attempts to connect that calls wait for; after that they are refused until
 * one has succeeded. */
#define NGX_HTTP_HOTPATH_POSTGRES_PATIENCE   2

/* How long a server that is only second choice is kept. */
#define NGX_HTTP_HOTPATH_POSTGRES_SECOND_MS  15000


struct ngx_http_hotpath_postgres_call_s {
    ngx_http_hotpath_pgquery_t         query;      /* its queue is also that of
                                                      `queue` and `free` */
    ngx_queue_t                        age;
    ngx_http_hotpath_postgres_t       *postgres;
    ngx_http_hotpath_postgres_pt       handler;    /* NULL: nobody waits */
    void                              *data;
    u_char                            *text;       /* the values, from
                                                      malloc */
    const char                        *values[
                                          NGX_HTTP_HOTPATH_POSTGRES_PARAMS_MAX];
    ngx_uint_t                         tries;      /* that have failed */
    unsigned                           probe:1;
    unsigned                           ageing:1;   /* it is in ages */
};


struct ngx_http_hotpath_postgres_s {
    /* configuration */
    ngx_http_hotpath_pgconf_t          conf;
    ngx_http_core_loc_conf_t          *clcf;       /* of the http level */
    ngx_array_t                        statements; /* of pointers */

    /* of the worker */
    ngx_cycle_t                       *cycle;
    ngx_http_hotpath_pglink_t         *links;
    ngx_queue_t                        queue;
    ngx_uint_t                         nqueue;
    ngx_queue_t                        free;
    ngx_queue_t                        ages;
    ngx_event_t                        deadline;
    ngx_event_t                        dispatch;   /* posted, never a timer */
    ngx_event_t                        reconnect;
    ngx_uint_t                         attempts;   /* in a row that failed */
    ngx_http_hotpath_breaker_t         breaker;
    unsigned                           stopping:1;
};


static void ngx_http_hotpath_postgres_ready(ngx_http_hotpath_pglink_t *link);
static void ngx_http_hotpath_postgres_lost(ngx_http_hotpath_pglink_t *link,
    ngx_uint_t wait);
static void ngx_http_hotpath_postgres_ended(
    ngx_http_hotpath_pgquery_t *query);
static ngx_int_t ngx_http_hotpath_postgres_again(
    ngx_http_hotpath_postgres_call_t *call);
static void ngx_http_hotpath_postgres_dispatch_handler(ngx_event_t *ev);
static ngx_http_hotpath_pglink_t *ngx_http_hotpath_postgres_best(
    ngx_http_hotpath_postgres_t *postgres);
static void ngx_http_hotpath_postgres_grow(
    ngx_http_hotpath_postgres_t *postgres);
static void ngx_http_hotpath_postgres_reconnect_handler(ngx_event_t *ev);
static void ngx_http_hotpath_postgres_deadline_handler(ngx_event_t *ev);
static void ngx_http_hotpath_postgres_unqueue(
    ngx_http_hotpath_postgres_call_t *call);
static void ngx_http_hotpath_postgres_forget_age(
    ngx_http_hotpath_postgres_call_t *call);
static void ngx_http_hotpath_postgres_judge(
    ngx_http_hotpath_postgres_call_t *call, ngx_uint_t good);
static void ngx_http_hotpath_postgres_abandon(
    ngx_http_hotpath_postgres_call_t *call);
static void ngx_http_hotpath_postgres_end(
    ngx_http_hotpath_postgres_call_t *call, ngx_int_t rc);
static ngx_http_hotpath_postgres_call_t *ngx_http_hotpath_postgres_first(
    ngx_queue_t *queue);


char *
ngx_http_hotpath_postgres_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

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

    postgres->clcf = ngx_http_conf_get_module_loc_conf(cf,
                                                       ngx_http_core_module);

    if (ngx_http_hotpath_pgconf_parse(cf, cf->args, &postgres->conf)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    *slot = postgres;

    return NGX_CONF_OK;
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
    ngx_uint_t                       i;
    ngx_http_hotpath_pglink_t       *link;
    ngx_http_hotpath_pglink_conf_t  *conf;

    conf = &postgres->conf.link;

    conf->servers.resolver = postgres->clcf->resolver;
    conf->servers.log = cycle->log;
    conf->log = cycle->log;
    conf->nstatements = postgres->statements.nelts;
    conf->ready = ngx_http_hotpath_postgres_ready;
    conf->lost = ngx_http_hotpath_postgres_lost;
    conf->ended = ngx_http_hotpath_postgres_ended;

    postgres->links = ngx_pcalloc(cycle->pool, postgres->conf.nlinks
                                         * sizeof(ngx_http_hotpath_pglink_t));
    if (postgres->links == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < postgres->conf.nlinks; i++) {
        link = &postgres->links[i];

        link->conf = conf;
        link->data = postgres;

        if (ngx_http_hotpath_pglink_init(link, cycle->pool) != NGX_OK) {
            return NGX_ERROR;
        }
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

    ngx_http_hotpath_pglink_open(&postgres->links[0]);

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

        if (call->query.link == NULL) {
            ngx_http_hotpath_postgres_unqueue(call);
            ngx_http_hotpath_postgres_end(call, NGX_ERROR);
        }
    }

    for (i = 0; i < postgres->conf.nlinks; i++) {
        ngx_http_hotpath_pglink_shut(&postgres->links[i]);
    }

    ngx_http_hotpath_pgcancel_stop();

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
    ngx_http_hotpath_postgres_call_t     *call;

    rc = NGX_OK;

    if (n > NGX_HTTP_HOTPATH_POSTGRES_PARAMS_MAX
        || postgres->nqueue >= postgres->conf.queue_max)
    {
        goto failed;
    }

    /* While nothing is connected. */

    ready = 0;

    for (i = 0; i < postgres->conf.nlinks; i++) {
        ready |= postgres->links[i].pg != NULL;
    }

    if (!ready && (ngx_exiting || postgres->attempts
                                  >= NGX_HTTP_HOTPATH_POSTGRES_PATIENCE))
    {
        goto failed;
    }

    size = 1;

    for (i = 0; i < n; i++) {

        /* Where libpq would see a shorter value than the caller does. */

        if (params[i].data
            && ngx_strlchr(params[i].data, params[i].data + params[i].len,
                           '\0'))
        {
            goto failed;
        }

        size += params[i].len + 1;
    }

    rc = ngx_http_hotpath_breaker_enter(&postgres->breaker);

    if (rc == NGX_BUSY) {
        goto failed;
    }

    p = ngx_alloc(size, postgres->cycle->log);
    if (p == NULL) {
        goto failed;
    }

    if (!ngx_queue_empty(&postgres->free)) {
        call = ngx_http_hotpath_postgres_first(&postgres->free);
        ngx_queue_remove(&call->query.queue);

    } else {
        call = ngx_palloc(postgres->cycle->pool,
                          sizeof(ngx_http_hotpath_postgres_call_t));
        if (call == NULL) {
            ngx_free(p);
            goto failed;
        }
    }

    ngx_memzero(call, sizeof(ngx_http_hotpath_postgres_call_t));

    call->query.id = statement->id;
    call->query.sql = (char *) statement->sql.data;
    call->query.values = call->values;
    call->query.nvalues = n;
    call->query.deadline = ngx_current_msec + postgres->conf.link.timeout;

    call->postgres = postgres;
    call->handler = handler;
    call->data = data;
    call->text = p;
    call->probe = (rc == NGX_AGAIN);
    call->ageing = 1;

    for (i = 0; i < n; i++) {
        if (params[i].data == NULL) {
            continue;
        }

        call->values[i] = (char *) p;
        p = ngx_cpymem(p, params[i].data, params[i].len);
        *p++ = '\0';
    }

    ngx_queue_insert_tail(&postgres->queue, &call->query.queue);
    postgres->nqueue++;
    ngx_http_hotpath_add(POSTGRES_WAITING, 1);

    ngx_queue_insert_tail(&postgres->ages, &call->age);

    /* As for Redis: left alone while it runs, in the way of the worker's end
     * only while somebody waits. */

    postgres->deadline.cancelable = 0;

    if (!postgres->deadline.timer_set) {
        ngx_add_timer(&postgres->deadline, postgres->conf.link.timeout);
    }

    ngx_post_event(&postgres->dispatch, &ngx_posted_events);

    return call;

failed:

    ngx_http_hotpath_count(POSTGRES_REFUSED);

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

    if (call->query.link) {
        return;
    }

    ngx_http_hotpath_postgres_abandon(call);
    ngx_http_hotpath_postgres_unqueue(call);
    ngx_http_hotpath_postgres_end(call, NGX_ERROR);
}


void
ngx_http_hotpath_postgres_state(ngx_http_hotpath_postgres_t *postgres,
    ngx_http_hotpath_postgres_state_t *state)
{
    ngx_uint_t                  i;
    ngx_http_hotpath_pglink_t  *link;

    ngx_memzero(state, sizeof(ngx_http_hotpath_postgres_state_t));

    for (i = 0; i < postgres->conf.nlinks; i++) {
        link = &postgres->links[i];

        state->up |= link->pg != NULL;
        state->connections += link->pg != NULL || link->connect.busy;
        state->busy += link->nsent != 0;
    }

    state->up = state->up
                && ngx_http_hotpath_breaker_closed(&postgres->breaker);
    state->waiting = postgres->nqueue;
}


static void
ngx_http_hotpath_postgres_ready(ngx_http_hotpath_pglink_t *link)
{
    ngx_http_hotpath_postgres_t  *postgres = link->data;

    ngx_post_event(&postgres->dispatch, &ngx_posted_events);
}


static void
ngx_http_hotpath_postgres_lost(ngx_http_hotpath_pglink_t *link,
    ngx_uint_t wait)
{
    ngx_uint_t                         i, ready, busy, ending;
    ngx_http_hotpath_postgres_t       *postgres = link->data;
    ngx_http_hotpath_postgres_call_t  *call;

    ending = ngx_exiting || ngx_terminate;

    if (wait) {

        if (!ending && !postgres->reconnect.timer_set) {
            ngx_add_timer(&postgres->reconnect,
                          ngx_http_hotpath_backend_backoff(
                                                       postgres->attempts));
        }

        postgres->attempts++;

    } else {
        postgres->attempts = 0;

        if (postgres->reconnect.timer_set) {
            ngx_del_timer(&postgres->reconnect);
        }
    }

    ready = 0;
    busy = 0;

    for (i = 0; i < postgres->conf.nlinks; i++) {
        ready |= postgres->links[i].pg != NULL;
        busy |= postgres->links[i].connect.busy;
    }

    ngx_post_event(&postgres->dispatch, &ngx_posted_events);

    if (ready || (!ending && (busy || postgres->attempts
                                      < NGX_HTTP_HOTPATH_POSTGRES_PATIENCE)))
    {
        return;
    }

    /* By now a handler that asks again is refused. */

    while (!ngx_queue_empty(&postgres->queue)) {
        call = ngx_http_hotpath_postgres_first(&postgres->queue);

        ngx_http_hotpath_postgres_abandon(call);
        ngx_http_hotpath_postgres_unqueue(call);
        ngx_http_hotpath_postgres_end(call, NGX_ERROR);
    }
}


static void
ngx_http_hotpath_postgres_ended(ngx_http_hotpath_pgquery_t *query)
{
    ngx_http_hotpath_postgres_t       *postgres;
    ngx_http_hotpath_postgres_call_t  *call;

    call = (ngx_http_hotpath_postgres_call_t *) query;
    postgres = call->postgres;

    if (query->again && ngx_http_hotpath_postgres_again(call) == NGX_OK) {
        return;
    }

    if (query->lost) {
        ngx_http_hotpath_postgres_abandon(call);

    } else if (call->ageing) {
        ngx_http_hotpath_postgres_forget_age(call);
        ngx_http_hotpath_postgres_judge(call, !query->slow);
    }

    if (!ngx_queue_empty(&postgres->queue)) {
        ngx_post_event(&postgres->dispatch, &ngx_posted_events);
    }

    ngx_http_hotpath_postgres_end(call, query->result ? NGX_OK : NGX_ERROR);
}


/* NGX_OK: the call waits to be sent again. */

static ngx_int_t
ngx_http_hotpath_postgres_again(ngx_http_hotpath_postgres_call_t *call)
{
    ngx_http_hotpath_postgres_t  *postgres = call->postgres;

    if (++call->tries >= NGX_HTTP_HOTPATH_POSTGRES_TRIES
        || !call->ageing || call->handler == NULL || postgres->stopping
        || (ngx_msec_int_t) (call->query.deadline - ngx_current_msec) <= 0)
    {
        return NGX_DECLINED;
    }

    PQclear(call->query.result);
    call->query.result = NULL;

    ngx_queue_insert_head(&postgres->queue, &call->query.queue);
    postgres->nqueue++;

    ngx_http_hotpath_add(POSTGRES_WAITING, 1);
    ngx_http_hotpath_count(POSTGRES_RETRIES);

    ngx_post_event(&postgres->dispatch, &ngx_posted_events);

    return NGX_OK;
}


/* Sends what waits, as far as the links go. */

static void
ngx_http_hotpath_postgres_dispatch_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_postgres_t       *postgres = ev->data;

    ngx_http_hotpath_pglink_t         *link;
    ngx_http_hotpath_postgres_call_t  *call;

    while (!ngx_queue_empty(&postgres->queue)) {

        link = ngx_http_hotpath_postgres_best(postgres);

        if (link == NULL) {
            break;
        }

        call = ngx_http_hotpath_postgres_first(&postgres->queue);

        ngx_http_hotpath_postgres_unqueue(call);
        ngx_http_hotpath_pglink_send(link, &call->query);
    }

    ngx_http_hotpath_postgres_grow(postgres);
}


/* The one that does least. */

static ngx_http_hotpath_pglink_t *
ngx_http_hotpath_postgres_best(ngx_http_hotpath_postgres_t *postgres)
{
    ngx_uint_t                  i, load, least;
    ngx_http_hotpath_pglink_t  *best;

    best = NULL;
    least = NGX_HTTP_HOTPATH_PGLINK_FULL;

    for (i = 0; i < postgres->conf.nlinks; i++) {
        load = ngx_http_hotpath_pglink_load(&postgres->links[i]);

        if (load < least) {
            least = load;
            best = &postgres->links[i];
        }
    }

    return best;
}


/*
 * Opens one more link where none is idle; one at a time, and none while the
 * next attempt has to wait. Looks after those that make do with a second
 * choice of server, as long as another one takes the calls meanwhile.
 */

static void
ngx_http_hotpath_postgres_grow(ngx_http_hotpath_postgres_t *postgres)
{
    ngx_uint_t                  i, n, idle, retiring;
    ngx_http_hotpath_pglink_t  *link, *closed, *second;

    if (ngx_exiting || ngx_terminate || postgres->reconnect.timer_set) {
        return;
    }

    closed = NULL;
    second = NULL;
    retiring = 0;
    idle = 0;
    n = 0;

    for (i = 0; i < postgres->conf.nlinks; i++) {
        link = &postgres->links[i];

        if (link->connect.busy) {
            return;
        }

        if (link->pg == NULL) {
            closed = link;
            continue;
        }

        if (link->retiring) {
            retiring = 1;
            continue;
        }

        n++;
        idle |= link->nsent == 0;

        if (ngx_http_hotpath_pgconnect_second(&link->connect)
            && (ngx_msec_int_t) (ngx_current_msec - link->since)
               >= NGX_HTTP_HOTPATH_POSTGRES_SECOND_MS)
        {
            second = link;
        }
    }

    if (closed && (!idle || (second && n == 1))) {
        ngx_http_hotpath_pglink_open(closed);
        return;
    }

    if (second && n > 1 && !retiring) {
        ngx_http_hotpath_pglink_retire(second);
    }
}


static void
ngx_http_hotpath_postgres_reconnect_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_postgres_grow(ev->data);
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

        left = (ngx_msec_int_t) (call->query.deadline - ngx_current_msec);

        if (left > 0) {
            break;
        }

        ngx_http_hotpath_count(POSTGRES_TIMEOUTS);

        /* One slow statement must not open the breaker by itself: those that
         * stand behind it say nothing that it does not. */

        if (call->query.link
            && !ngx_http_hotpath_pglink_first(&call->query))
        {
            ngx_http_hotpath_postgres_abandon(call);

        } else {
            ngx_http_hotpath_postgres_forget_age(call);
            ngx_http_hotpath_postgres_judge(call, 0);
        }

        if (call->query.link == NULL) {
            ngx_http_hotpath_postgres_unqueue(call);
            ngx_http_hotpath_postgres_end(call, NGX_ERROR);
            continue;
        }

        /* Sent, so it stays with its link. */

        handler = call->handler;
        data = call->data;
        call->handler = NULL;

        ngx_http_hotpath_pglink_late(&call->query);

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
    ngx_queue_remove(&call->query.queue);
    call->postgres->nqueue--;

    ngx_http_hotpath_add(POSTGRES_WAITING, -1);
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


/* Tells the circuit breaker how a call that passed it has ended. */

static void
ngx_http_hotpath_postgres_judge(ngx_http_hotpath_postgres_call_t *call,
    ngx_uint_t good)
{
    ngx_http_hotpath_postgres_t  *postgres = call->postgres;

    ngx_http_hotpath_breaker_leave(&postgres->breaker, call->probe, good,
                                   "postgres", postgres->cycle->log);

    ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_POSTGRES_BREAKER] =
                                                     postgres->breaker.open;
}


/* Nobody waits for it any more, and nothing can be learnt from it. */

static void
ngx_http_hotpath_postgres_abandon(ngx_http_hotpath_postgres_call_t *call)
{
    if (!call->ageing) {
        return;
    }

    ngx_http_hotpath_postgres_forget_age(call);

    if (call->probe) {
        ngx_http_hotpath_breaker_abandon(&call->postgres->breaker);
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
    result = call->query.result;

    ngx_free(call->text);

    ngx_queue_insert_head(&call->postgres->free, &call->query.queue);

    if (handler) {

        if (rc != NGX_OK) {
            ngx_http_hotpath_count(POSTGRES_ERRORS);
        }

        handler(data, rc, rc == NGX_OK ? result : NULL);
    }

    PQclear(result);
}


static ngx_http_hotpath_postgres_call_t *
ngx_http_hotpath_postgres_first(ngx_queue_t *queue)
{
    ngx_queue_t  *q;

    q = ngx_queue_head(queue);

    return ngx_queue_data(q, ngx_http_hotpath_postgres_call_t, query.queue);
}
