/*
 * ngx_http_hotpath_pgcancel.c: asks a Postgres server to stop what it does for
 * a connection, without waiting for it.
 *
 * From version 17 on libpq does this without blocking, encrypted as the
 * connection is: each request is a slot with a socket on nginx's events and a
 * deadline. An older libpq has only PQcancel, which waits for the server, and
 * for ever for one that is frozen. There each request is a thread of its own,
 * detached, that touches nothing but the PGcancel it was given (a copy, which
 * it frees) and one counter. Not a thread of nginx's pools: a frozen server
 * would hold those, which serve files too, and the pool waits for them when
 * the worker ends. Either way a worker has a bounded number under way, and
 * those that do not come back take no more than their slots with them.
 *
 * What must never happen here: a wait on the event loop; anything of nginx's
 * touched by a thread. Test: tests/faults/test_postgres_faults.py.
 */
#include "ngx_http_hotpath_pgcancel.h"
#include "ngx_http_hotpath_backend.h"


#ifdef LIBPQ_HAS_ASYNC_CANCEL


#define NGX_HTTP_HOTPATH_PGCANCEL_MS  2000


typedef struct {
    PGcancelConn      *cancel;         /* NULL: free */
    ngx_connection_t  *connection;
    ngx_event_t        timer;
} ngx_http_hotpath_pgcancel_t;


static void ngx_http_hotpath_pgcancel_poll(ngx_http_hotpath_pgcancel_t *slot,
    PostgresPollingStatusType status);
static void ngx_http_hotpath_pgcancel_end(ngx_http_hotpath_pgcancel_t *slot,
    const char *why);
static void ngx_http_hotpath_pgcancel_event_handler(ngx_event_t *ev);
static void ngx_http_hotpath_pgcancel_timer_handler(ngx_event_t *ev);


static ngx_http_hotpath_pgcancel_t
    ngx_http_hotpath_pgcancels[NGX_HTTP_HOTPATH_PGCANCEL_MAX];


ngx_int_t
ngx_http_hotpath_pgcancel(PGconn *pg, ngx_log_t *log)
{
    ngx_uint_t                    i;
    ngx_http_hotpath_pgcancel_t  *slot;

    for (i = 0; i < NGX_HTTP_HOTPATH_PGCANCEL_MAX; i++) {
        if (ngx_http_hotpath_pgcancels[i].cancel == NULL) {
            break;
        }
    }

    if (i == NGX_HTTP_HOTPATH_PGCANCEL_MAX) {
        return NGX_BUSY;
    }

    slot = &ngx_http_hotpath_pgcancels[i];

    slot->cancel = PQcancelCreate(pg);

    if (slot->cancel == NULL) {
        return NGX_ERROR;
    }

    slot->timer.handler = ngx_http_hotpath_pgcancel_timer_handler;
    slot->timer.data = slot;
    slot->timer.log = log;
    slot->timer.cancelable = 1;

    if (PQcancelStart(slot->cancel) != 1) {
        ngx_http_hotpath_pgcancel_end(slot,
                                      PQcancelErrorMessage(slot->cancel));
        return NGX_ERROR;
    }

    ngx_add_timer(&slot->timer, NGX_HTTP_HOTPATH_PGCANCEL_MS);

    ngx_http_hotpath_pgcancel_poll(slot, PGRES_POLLING_WRITING);

    return NGX_OK;
}


void
ngx_http_hotpath_pgcancel_stop(void)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_HOTPATH_PGCANCEL_MAX; i++) {
        if (ngx_http_hotpath_pgcancels[i].cancel) {
            ngx_http_hotpath_pgcancel_end(&ngx_http_hotpath_pgcancels[i],
                                          NULL);
        }
    }
}


static void
ngx_http_hotpath_pgcancel_poll(ngx_http_hotpath_pgcancel_t *slot,
    PostgresPollingStatusType status)
{
    if (status == PGRES_POLLING_OK) {
        ngx_http_hotpath_pgcancel_end(slot, NULL);
        return;
    }

    if (status == PGRES_POLLING_FAILED) {
        ngx_http_hotpath_pgcancel_end(slot,
                                      PQcancelErrorMessage(slot->cancel));
        return;
    }

    slot->connection = ngx_http_hotpath_backend_attach(
                                    PQcancelSocket(slot->cancel), slot,
                                    ngx_http_hotpath_pgcancel_event_handler,
                                    ngx_http_hotpath_pgcancel_event_handler,
                                    slot->timer.log);
    if (slot->connection == NULL
        || ngx_http_hotpath_backend_wait(slot->connection,
                                         status != PGRES_POLLING_WRITING,
                                         status == PGRES_POLLING_WRITING)
           != NGX_OK)
    {
        ngx_http_hotpath_pgcancel_end(slot, "no free connection in nginx");
    }
}


static void
ngx_http_hotpath_pgcancel_end(ngx_http_hotpath_pgcancel_t *slot,
    const char *why)
{
    if (why) {
        ngx_log_error(NGX_LOG_WARN, slot->timer.log, 0,
                      "hotpath: postgres was not told to cancel a statement: "
                      "%*s", ngx_http_hotpath_backend_line(why), why);
    }

    if (slot->connection) {
        ngx_http_hotpath_backend_detach(slot->connection,
                                        PQcancelSocket(slot->cancel));
        slot->connection = NULL;
    }

    if (slot->timer.timer_set) {
        ngx_del_timer(&slot->timer);
    }

    PQcancelFinish(slot->cancel);
    slot->cancel = NULL;
}


static void
ngx_http_hotpath_pgcancel_event_handler(ngx_event_t *ev)
{
    ngx_connection_t             *c = ev->data;
    ngx_http_hotpath_pgcancel_t  *slot = c->data;

    /* libpq may close the socket in there, or go on with another. */

    ngx_http_hotpath_backend_detach(c, PQcancelSocket(slot->cancel));
    slot->connection = NULL;

    ngx_http_hotpath_pgcancel_poll(slot, PQcancelPoll(slot->cancel));
}


static void
ngx_http_hotpath_pgcancel_timer_handler(ngx_event_t *ev)
{
    ngx_http_hotpath_pgcancel_end(ev->data, "no answer");
}


#else  /* libpq before 17 */


#include <pthread.h>
#include <signal.h>


/* Enough for PQcancel, and for what sanitizers add to it. */
#define NGX_HTTP_HOTPATH_PGCANCEL_STACK  (256 * 1024)


static void *ngx_http_hotpath_pgcancel_thread(void *data);


/* Threads that live. */
static ngx_atomic_t  ngx_http_hotpath_pgcancels;


ngx_int_t
ngx_http_hotpath_pgcancel(PGconn *pg, ngx_log_t *log)
{
    int              err;
    sigset_t         all, old;
    PGcancel        *cancel;
    pthread_t        thread;
    pthread_attr_t   attr;

    if (ngx_http_hotpath_pgcancels >= NGX_HTTP_HOTPATH_PGCANCEL_MAX) {
        return NGX_BUSY;
    }

    cancel = PQgetCancel(pg);

    if (cancel == NULL) {
        return NGX_ERROR;
    }

    err = pthread_attr_init(&attr);

    if (err) {
        goto failed;
    }

    (void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void) pthread_attr_setstacksize(&attr, NGX_HTTP_HOTPATH_PGCANCEL_STACK);

    (void) ngx_atomic_fetch_add(&ngx_http_hotpath_pgcancels, 1);

    /* Signals are for the thread that runs nginx. */

    sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &old);

    err = pthread_create(&thread, &attr, ngx_http_hotpath_pgcancel_thread,
                         cancel);

    (void) pthread_sigmask(SIG_SETMASK, &old, NULL);

    (void) pthread_attr_destroy(&attr);

    if (err == 0) {
        return NGX_OK;
    }

    (void) ngx_atomic_fetch_add(&ngx_http_hotpath_pgcancels, -1);

failed:

    ngx_log_error(NGX_LOG_WARN, log, err,
                  "hotpath: no thread to cancel a statement of postgres");

    PQfreeCancel(cancel);

    return NGX_ERROR;
}


void
ngx_http_hotpath_pgcancel_stop(void)
{
    /* The end of the process is theirs. */
}


static void *
ngx_http_hotpath_pgcancel_thread(void *data)
{
    PGcancel *cancel = data;

    char  error[256];

    (void) PQcancel(cancel, error, sizeof(error));

    PQfreeCancel(cancel);

    (void) ngx_atomic_fetch_add(&ngx_http_hotpath_pgcancels, -1);

    return NULL;
}


#endif
