/*
 * ngx_http_hotpath_flight.c: single flight across the workers of an instance.
 *
 * The table is sets of slots in a shared-memory zone of the module's own; a
 * set has a lock, held for a few instructions. A slot is a key's hash, who
 * asks for it until when, and a bit for each worker that waits. Who leaves
 * writes to the eventfd of each of them: these are made by the master before
 * it forks, one per worker, so that a worker that is started anew has that of
 * its predecessor. Workers of the configuration before a reload share the
 * table but not the eventfds: whoever waits looks for himself now and then
 * (ngx_http_hotpath_flight_held), so a lost wake-up costs milliseconds.
 *
 * Owns the table and the eventfds; runs in workers' event loops. Never in
 * here: a wait, or anything that is wrong where the table forgets. With one
 * worker there is nothing to share and the table is not looked at. Two keys
 * with one hash, 1 in 2^64, only wait for one another.
 * Test: tests/integration/test_flight.py.
 */


#include "ngx_http_hotpath_flight.h"
#include "ngx_http_hotpath_backend.h"
#include <sys/eventfd.h>


#define NGX_HTTP_HOTPATH_FLIGHT_MAGIC     0x3174686769466c48ULL
#define NGX_HTTP_HOTPATH_FLIGHT_LAYOUT    1
#define NGX_HTTP_HOTPATH_FLIGHT_SETS      256
#define NGX_HTTP_HOTPATH_FLIGHT_SLOTS     8
#define NGX_HTTP_HOTPATH_FLIGHT_WORKERS   64
#define NGX_HTTP_HOTPATH_FLIGHT_HANDLERS  4


/* All written under the set's lock. */
typedef struct {
    uint64_t                        hash;      /* 0: free */
    int64_t                         until_ms;  /* monotonic; then it is free */
    uint64_t                        waiters;   /* a bit for each worker */
    uint64_t                        pid;       /* who asks */
} ngx_http_hotpath_flight_slot_t;


typedef struct {
    ngx_http_hotpath_lock_t         lock;
    ngx_http_hotpath_flight_slot_t  slots[NGX_HTTP_HOTPATH_FLIGHT_SLOTS];
} ngx_http_hotpath_flight_set_t;


typedef struct {
    ngx_http_hotpath_region_t       region;
    u_char                          pad[NGX_HTTP_HOTPATH_CACHE_LINE
                                        - sizeof(ngx_http_hotpath_region_t)];
    ngx_http_hotpath_flight_set_t   sets[NGX_HTTP_HOTPATH_FLIGHT_SETS];
} ngx_http_hotpath_flight_table_t;


typedef struct {
    ngx_http_hotpath_flight_pt      handler;
    void                           *data;
} ngx_http_hotpath_flight_handler_t;


static ngx_int_t ngx_http_hotpath_flight_init_zone(ngx_shm_zone_t *zone,
    void *data);
static void ngx_http_hotpath_flight_close(void *data);
static void ngx_http_hotpath_flight_woken(ngx_event_t *ev);
static void ngx_http_hotpath_flight_write(ngx_event_t *ev);
static ngx_http_hotpath_flight_set_t *ngx_http_hotpath_flight_lock(
    uint64_t hash);


static ngx_uint_t                        ngx_http_hotpath_flight_tag;
static ngx_http_hotpath_flight_table_t  *ngx_http_hotpath_flight_table;

/* the eventfds of this configuration's workers, made in the master */
static ngx_socket_t       *ngx_http_hotpath_flight_fds;
static ngx_uint_t          ngx_http_hotpath_flight_nfds;

/* this worker's */
static ngx_connection_t   *ngx_http_hotpath_flight_connection;
static ngx_http_hotpath_flight_handler_t
    ngx_http_hotpath_flight_handlers[NGX_HTTP_HOTPATH_FLIGHT_HANDLERS];
static ngx_uint_t          ngx_http_hotpath_flight_nhandlers;


ngx_int_t
ngx_http_hotpath_flight_init(ngx_conf_t *cf)
{
    ngx_shm_zone_t  *zone;

    static ngx_str_t  name = ngx_string("hotpath_flight");

    zone = ngx_shared_memory_add(cf, &name,
                                 sizeof(ngx_http_hotpath_flight_table_t)
                                 + 16 * ngx_pagesize,
                                 &ngx_http_hotpath_flight_tag);
    if (zone == NULL) {
        return NGX_ERROR;
    }

    zone->init = ngx_http_hotpath_flight_init_zone;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_flight_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_uint_t                        fresh;
    ngx_http_hotpath_flight_table_t  *table;

    table = ngx_http_hotpath_region_init(zone, NGX_HTTP_HOTPATH_FLIGHT_MAGIC,
                                         NGX_HTTP_HOTPATH_FLIGHT_LAYOUT,
                                         &fresh);
    if (table == NULL) {
        return NGX_ERROR;
    }

    if (table->region.size < sizeof(ngx_http_hotpath_flight_table_t)) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "shared memory zone \"%V\" is too small",
                      &zone->shm.name);
        return NGX_ERROR;
    }

    ngx_http_hotpath_flight_table = table;

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_flight_prepare(ngx_cycle_t *cycle)
{
    ngx_uint_t           i, n;
    ngx_socket_t        *fds;
    ngx_core_conf_t     *ccf;
    ngx_pool_cleanup_t  *cln;

    ngx_http_hotpath_flight_fds = NULL;
    ngx_http_hotpath_flight_nfds = 0;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (ngx_test_config || !ccf->master || ccf->worker_processes < 2) {
        return NGX_OK;
    }

    n = ngx_min(ccf->worker_processes, NGX_HTTP_HOTPATH_FLIGHT_WORKERS);

    fds = ngx_palloc(cycle->pool, (n + 1) * sizeof(ngx_socket_t));
    cln = ngx_pool_cleanup_add(cycle->pool, 0);

    if (fds == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i <= n; i++) {
        fds[i] = -1;
    }

    cln->handler = ngx_http_hotpath_flight_close;
    cln->data = fds;

    for (i = 0; i < n; i++) {
        fds[i] = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

        if (fds[i] == -1) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                          "eventfd() failed");
            return NGX_ERROR;
        }
    }

    ngx_http_hotpath_flight_fds = fds;
    ngx_http_hotpath_flight_nfds = n;

    return NGX_OK;
}


/* With the cycle's pool, in the master after a reload; a worker that still
 * runs has its own descriptors of them. */

static void
ngx_http_hotpath_flight_close(void *data)
{
    ngx_socket_t *fd = data;

    while (*fd != -1) {
        (void) close(*fd++);
    }
}


ngx_int_t
ngx_http_hotpath_flight_start(ngx_cycle_t *cycle)
{
    ngx_http_hotpath_flight_nhandlers = 0;
    ngx_http_hotpath_flight_connection = NULL;

    if (ngx_worker >= ngx_http_hotpath_flight_nfds) {
        return NGX_OK;
    }

    ngx_http_hotpath_flight_connection = ngx_http_hotpath_backend_attach(
                                      ngx_http_hotpath_flight_fds[ngx_worker],
                                      NULL, ngx_http_hotpath_flight_woken,
                                      ngx_http_hotpath_flight_write,
                                      cycle->log);

    if (ngx_http_hotpath_flight_connection == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_backend_wait(ngx_http_hotpath_flight_connection,
                                         1, 0);
}


void
ngx_http_hotpath_flight_stop(void)
{
    if (ngx_http_hotpath_flight_connection) {
        ngx_http_hotpath_backend_detach(ngx_http_hotpath_flight_connection,
                                     ngx_http_hotpath_flight_fds[ngx_worker]);
        ngx_http_hotpath_flight_connection = NULL;
    }
}


ngx_int_t
ngx_http_hotpath_flight_on_wake(ngx_http_hotpath_flight_pt handler, void *data)
{
    ngx_http_hotpath_flight_handler_t  *h;

    if (ngx_http_hotpath_flight_nhandlers == NGX_HTTP_HOTPATH_FLIGHT_HANDLERS)
    {
        return NGX_ERROR;
    }

    h = &ngx_http_hotpath_flight_handlers[ngx_http_hotpath_flight_nhandlers++];
    h->handler = handler;
    h->data = data;

    return NGX_OK;
}


static void
ngx_http_hotpath_flight_woken(ngx_event_t *ev)
{
    uint64_t           n;
    ngx_uint_t         i;
    ngx_connection_t  *c;

    c = ev->data;

    if (read(c->fd, &n, sizeof(n)) == -1 && ngx_errno != NGX_EAGAIN) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "hotpath: read() of an eventfd failed");
    }

    for (i = 0; i < ngx_http_hotpath_flight_nhandlers; i++) {
        ngx_http_hotpath_flight_handlers[i].handler(
                                    ngx_http_hotpath_flight_handlers[i].data);
    }
}


static void
ngx_http_hotpath_flight_write(ngx_event_t *ev)
{
    /* never waited for */
}


/* NULL: not to be had. */

static ngx_http_hotpath_flight_set_t *
ngx_http_hotpath_flight_lock(uint64_t hash)
{
    ngx_http_hotpath_flight_set_t  *set;

    set = &ngx_http_hotpath_flight_table->sets[hash
                                            % NGX_HTTP_HOTPATH_FLIGHT_SETS];

    switch (ngx_http_hotpath_lock(&set->lock)) {

    case NGX_OK:
        ngx_http_hotpath_lock_begin(&set->lock);
        return set;

    case NGX_ABORT:
        ngx_http_hotpath_lock_begin(&set->lock);
        ngx_memzero(set->slots, sizeof(set->slots));
        return set;

    default:
        return NULL;
    }
}


ngx_int_t
ngx_http_hotpath_flight_enter(uint64_t hash, ngx_msec_t ms)
{
    int64_t                          now_ms;
    ngx_int_t                        rc;
    ngx_uint_t                       i;
    ngx_http_hotpath_flight_set_t   *set;
    ngx_http_hotpath_flight_slot_t  *slot, *vacant;

    if (ngx_worker >= ngx_http_hotpath_flight_nfds) {
        return NGX_DECLINED;
    }

    set = ngx_http_hotpath_flight_lock(hash);
    if (set == NULL) {
        return NGX_DECLINED;
    }

    now_ms = ngx_http_hotpath_monotonic_ns() / 1000000;
    vacant = NULL;

    for (i = 0; i < NGX_HTTP_HOTPATH_FLIGHT_SLOTS; i++) {
        slot = &set->slots[i];

        if (slot->hash == hash && slot->until_ms > now_ms) {
            slot->waiters |= (uint64_t) 1 << ngx_worker;
            rc = NGX_AGAIN;
            goto done;
        }

        if (slot->hash == 0 || slot->until_ms <= now_ms) {
            vacant = slot;

            if (slot->hash == hash) {
                break;
            }
        }
    }

    if (vacant == NULL) {
        rc = NGX_DECLINED;
        goto done;
    }

    if (vacant->hash != hash) {
        vacant->waiters = 0;
    }

    vacant->hash = hash;
    vacant->until_ms = now_ms + ms;
    vacant->pid = ngx_pid;
    rc = NGX_OK;

done:

    ngx_http_hotpath_lock_end(&set->lock);
    ngx_http_hotpath_unlock(&set->lock);

    return rc;
}


ngx_uint_t
ngx_http_hotpath_flight_held(uint64_t hash)
{
    int64_t                          now_ms;
    ngx_uint_t                       i;
    ngx_http_hotpath_flight_set_t   *set;
    ngx_http_hotpath_flight_slot_t  *slot;

    /* Words of other workers, read without the lock: an answer that was right
     * a moment ago is as good as one that will be wrong in a moment. */

    set = &ngx_http_hotpath_flight_table->sets[hash
                                            % NGX_HTTP_HOTPATH_FLIGHT_SETS];
    now_ms = ngx_http_hotpath_monotonic_ns() / 1000000;

    for (i = 0; i < NGX_HTTP_HOTPATH_FLIGHT_SLOTS; i++) {
        slot = &set->slots[i];

        if (__atomic_load_n(&slot->hash, __ATOMIC_RELAXED) == hash) {
            return __atomic_load_n(&slot->until_ms, __ATOMIC_RELAXED) > now_ms;
        }
    }

    return 0;
}


void
ngx_http_hotpath_flight_leave(uint64_t hash)
{
    uint64_t                         waiters, one;
    ngx_uint_t                       i;
    ngx_http_hotpath_flight_set_t   *set;
    ngx_http_hotpath_flight_slot_t  *slot;

    set = ngx_http_hotpath_flight_lock(hash);
    if (set == NULL) {
        return;
    }

    waiters = 0;

    for (i = 0; i < NGX_HTTP_HOTPATH_FLIGHT_SLOTS; i++) {
        slot = &set->slots[i];

        if (slot->hash == hash && slot->pid == (uint64_t) ngx_pid) {
            waiters = slot->waiters;
            slot->hash = 0;
            break;
        }
    }

    ngx_http_hotpath_lock_end(&set->lock);
    ngx_http_hotpath_unlock(&set->lock);

    one = 1;

    for (i = 0; waiters && i < ngx_http_hotpath_flight_nfds; i++) {

        if (!(waiters >> i & 1)) {
            continue;
        }

        waiters &= ~((uint64_t) 1 << i);

        if (i != ngx_worker
            && write(ngx_http_hotpath_flight_fds[i], &one, sizeof(one)) == -1)
        {
            ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                          "hotpath: write() to an eventfd failed");
        }
    }
}
