/*
 * ngx_http_hotpath_idempotency.c: what the instance knows of operations.
 *
 * One table in shared memory: buckets of eight entries, found by the operation
 * id (which is a hash already), each bucket under the lock of its stripe. An
 * entry is in flight until its worker settles it, then accepted for the
 * window. Where a bucket is full, an expired entry goes first, then the oldest
 * accepted one; one in flight stays. For events forgetting is harmless: the
 * broker's duplicate window and Postgres' unique key come behind. Runs in every
 * worker, under at most one lock, for at most one bucket; never under any I/O.
 * A worker killed while it wrote an entry leaves its number in the lock, and
 * the next one finishes what can only have one end: no other entry suffers.
 * Its claims are taken over after their deadline, or at once where its pid is
 * gone; in a patient table, whose requests an upstream may still be at work
 * on, only after their deadline.
 * Test: tests/unit/test_idempotency.c, tests/integration/test_write.py,
 * test_idempotency.py, tests/faults/.
 */


#include "ngx_http_hotpath_idempotency.h"
#include "ngx_http_hotpath_metrics.h"

#include <signal.h>


#define NGX_HTTP_HOTPATH_IDEMPOTENCY_MAGIC    0x3154504d49544f48ULL
#define NGX_HTTP_HOTPATH_IDEMPOTENCY_LAYOUT   3
#define NGX_HTTP_HOTPATH_IDEMPOTENCY_STRIPES  256
#define NGX_HTTP_HOTPATH_IDEMPOTENCY_WAYS     8


/*
 * 64 bytes, one cache line. All fields are written under the stripe's lock and
 * read under it. While one is written it is FREE, or still IN_FLIGHT where it
 * is being accepted: state is written last.
 */
typedef struct {
    u_char     id[HP_UUID_SIZE];
    u_char     fingerprint[16];  /* the first half of SHA-256 */
    uint64_t   sequence;         /* stream sequence; 0 while in flight */
    uint64_t   created;          /* which stream of that name; 0 not known */
    uint32_t   accepted_ms;      /* low bits of accepted_us / 1000, see below */
    uint32_t   until_s;          /* claim's or window's end, seconds of the
                                    monotonic clock */
    uint32_t   owner;            /* in flight: pid of the worker; else the
                                    high bits of accepted_us / 1000 */
    uint16_t   number;
    uint8_t    state;            /* ngx_http_hotpath_op_e, but PROCESSED */
    uint8_t    reserved;
} ngx_http_hotpath_entry_t;


/* Written by the one worker that listens, read by all, as a sequence counter
 * around three words: odd while it is being written. */
typedef struct {
    ngx_atomic_t  guard;
    uint64_t      created;
    uint64_t      whole;         /* from here on to sequence all is committed */
    uint64_t      sequence;
    u_char        pad[NGX_HTTP_HOTPATH_CACHE_LINE - 4 * 8];
} ngx_http_hotpath_committed_t;


typedef struct {
    ngx_http_hotpath_region_t     region;
    uint64_t                      buckets;   /* stripes to 2^32 - 1 */
    u_char                        pad[NGX_HTTP_HOTPATH_CACHE_LINE
                                      - sizeof(ngx_http_hotpath_region_t) - 8];
    ngx_http_hotpath_committed_t  committed[HP_STREAMS_MAX];
    ngx_http_hotpath_lock_t       locks[NGX_HTTP_HOTPATH_IDEMPOTENCY_STRIPES];
} ngx_http_hotpath_table_t;


struct ngx_http_hotpath_idempotency_s {
    ngx_shm_zone_t            *zone;
    ngx_http_hotpath_table_t  *table;
    ngx_http_hotpath_entry_t  *entries;
    ngx_uint_t                 window_s;
    ngx_uint_t                 patient;
};


static ngx_int_t ngx_http_hotpath_idempotency_init_zone(ngx_shm_zone_t *zone,
    void *data);
static void ngx_http_hotpath_idempotency_begin_locked(
    ngx_http_hotpath_idempotency_t *table, ngx_http_hotpath_lock_t *lock,
    ngx_http_hotpath_entry_t *e, ngx_uint_t accepted);
static void ngx_http_hotpath_idempotency_end_locked(
    ngx_http_hotpath_lock_t *lock, ngx_http_hotpath_entry_t *e,
    ngx_http_hotpath_op_e state);
static void ngx_http_hotpath_idempotency_mend_locked(
    ngx_http_hotpath_idempotency_t *table, ngx_http_hotpath_lock_t *lock);
static ngx_inline uint64_t ngx_http_hotpath_idempotency_bucket(
    ngx_http_hotpath_idempotency_t *table, const u_char *id);
static ngx_http_hotpath_entry_t *ngx_http_hotpath_idempotency_enter(
    ngx_http_hotpath_idempotency_t *table, const u_char *id,
    ngx_http_hotpath_lock_t **lock);
static ngx_http_hotpath_entry_t *ngx_http_hotpath_idempotency_find_locked(
    ngx_http_hotpath_entry_t *bucket, const u_char *id);
static ngx_http_hotpath_entry_t *ngx_http_hotpath_idempotency_room_locked(
    ngx_http_hotpath_idempotency_t *table, ngx_http_hotpath_entry_t *bucket,
    uint32_t now_s);
static ngx_uint_t ngx_http_hotpath_idempotency_given_up_locked(
    ngx_http_hotpath_idempotency_t *table, ngx_http_hotpath_entry_t *e,
    uint32_t now_s);
static void ngx_http_hotpath_idempotency_tell_locked(
    ngx_http_hotpath_idempotency_t *table, ngx_http_hotpath_entry_t *e,
    ngx_http_hotpath_op_t *op);


static ngx_inline uint32_t
ngx_http_hotpath_idempotency_now_s(void)
{
    struct timespec  ts;

    /* read twice a write, and of seconds a few milliseconds do not matter */
    (void) clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);

    return (uint32_t) ts.tv_sec;
}


/* When a claim ends: never before its deadline. */

static ngx_inline uint32_t
ngx_http_hotpath_idempotency_until_s(uint32_t now_s, ngx_msec_t deadline_ms)
{
    return now_s + (uint32_t) (deadline_ms / 1000) + 2;
}


char *
ngx_http_hotpath_idempotency_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    char  *p = conf;

    time_t                            window;
    ngx_str_t                        *value, zone, s;
    ngx_uint_t                        i;
    ngx_http_hotpath_idempotency_t  **slot;

    slot = (ngx_http_hotpath_idempotency_t **) (p + cmd->offset);

    if (*slot) {
        return "is duplicate";
    }

    value = cf->args->elts;
    zone.len = 0;
    window = 86400;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "zone=", 5) == 0) {
            zone.data = value[i].data + 5;
            zone.len = value[i].len - 5;
            continue;
        }

        if (ngx_strncmp(value[i].data, "window=", 7) == 0) {

            s.data = value[i].data + 7;
            s.len = value[i].len - 7;
            window = ngx_parse_time(&s, 1);

            if (window != (time_t) NGX_ERROR) {
                continue;
            }
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    if (zone.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must have \"zone\" parameter", &cmd->name);
        return NGX_CONF_ERROR;
    }

    *slot = ngx_http_hotpath_idempotency_add(cf, &zone, window, 0);

    return *slot ? NGX_CONF_OK : NGX_CONF_ERROR;
}


ngx_http_hotpath_idempotency_t *
ngx_http_hotpath_idempotency_add(ngx_conf_t *cf, ngx_str_t *text,
    time_t window_s, ngx_uint_t patient)
{
    u_char                          *colon;
    ssize_t                          size;
    ngx_str_t                        name, s;
    ngx_shm_zone_t                  *zone;
    ngx_http_hotpath_idempotency_t  *table;

    name = *text;
    size = 0;

    colon = ngx_strlchr(name.data, name.data + name.len, ':');

    if (colon) {
        s.data = colon + 1;
        s.len = name.data + name.len - s.data;
        name.len = colon - name.data;
        size = ngx_parse_size(&s);
    }

    if (name.len == 0 || size == NGX_ERROR || (colon && size == 0)
        || (colon == NULL && !patient)
        || window_s < 1 || window_s > 30 * 86400)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid zone \"%V\", or its time is not 1s to 30d",
                           text);
        return NULL;
    }

    if (colon && size < 262144) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "zone \"%V\" is too small, "
                           "it needs at least 256k", text);
        return NULL;
    }

    zone = ngx_shared_memory_add(cf, &name, size,
                                 &ngx_http_hotpath_idempotency_init_zone);
    if (zone == NULL) {
        return NULL;
    }

    table = zone->data;

    if (table) {
        if (!patient || !table->patient
            || table->window_s != (ngx_uint_t) window_s)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "zone \"%V\" is already used, for something "
                               "else or another time", &name);
            return NULL;
        }

        return table;
    }

    table = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_idempotency_t));
    if (table == NULL) {
        return NULL;
    }

    table->window_s = window_s;
    table->patient = patient;
    table->zone = zone;

    zone->init = ngx_http_hotpath_idempotency_init_zone;
    zone->data = table;

    return table;
}


static ngx_int_t
ngx_http_hotpath_idempotency_init_zone(ngx_shm_zone_t *zone, void *data)
{
    uint64_t                         fit;
    ngx_uint_t                       fresh;
    ngx_http_hotpath_table_t        *t;
    ngx_http_hotpath_idempotency_t  *table;

    table = zone->data;

    t = ngx_http_hotpath_region_init(zone, NGX_HTTP_HOTPATH_IDEMPOTENCY_MAGIC,
                                     NGX_HTTP_HOTPATH_IDEMPOTENCY_LAYOUT,
                                     &fresh);
    if (t == NULL) {
        return NGX_ERROR;
    }

    if (fresh) {
        fit = (t->region.size - sizeof(ngx_http_hotpath_table_t))
              / (NGX_HTTP_HOTPATH_IDEMPOTENCY_WAYS
                 * sizeof(ngx_http_hotpath_entry_t));

        if (fit < NGX_HTTP_HOTPATH_IDEMPOTENCY_STRIPES) {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "hotpath: zone \"%V\" is too small",
                          &zone->shm.name);
            return NGX_ERROR;
        }

        t->buckets = ngx_min(fit, NGX_MAX_UINT32_VALUE);
    }

    table->table = t;
    table->entries = (ngx_http_hotpath_entry_t *) (t + 1);

    return NGX_OK;
}


void
ngx_http_hotpath_idempotency_prefetch(ngx_http_hotpath_idempotency_t *table,
    const u_char id[HP_UUID_SIZE])
{
    uint64_t                   n;
    ngx_uint_t                 i;
    ngx_http_hotpath_entry_t  *bucket;

    n = ngx_http_hotpath_idempotency_bucket(table, id);
    bucket = table->entries + n * NGX_HTTP_HOTPATH_IDEMPOTENCY_WAYS;

    __builtin_prefetch(&table->table->locks[n
                                      % NGX_HTTP_HOTPATH_IDEMPOTENCY_STRIPES]);

    for (i = 0; i < NGX_HTTP_HOTPATH_IDEMPOTENCY_WAYS; i++) {
        __builtin_prefetch(&bucket[i]);
    }
}


ngx_int_t
ngx_http_hotpath_idempotency_claim(ngx_http_hotpath_idempotency_t *table,
    const u_char id[HP_UUID_SIZE],
    const u_char fingerprint[HP_FINGERPRINT_SIZE],
    ngx_msec_t deadline_ms, ngx_http_hotpath_op_t *op)
{
    uint32_t                   now_s;
    ngx_int_t                  rc;
    ngx_http_hotpath_lock_t   *lock;
    ngx_http_hotpath_entry_t  *bucket, *e;

    now_s = ngx_http_hotpath_idempotency_now_s();
    op->state = NGX_HTTP_HOTPATH_OP_FREE;

    bucket = ngx_http_hotpath_idempotency_enter(table, id, &lock);
    if (bucket == NULL) {
        return NGX_BUSY;
    }

    e = ngx_http_hotpath_idempotency_find_locked(bucket, id);

    if (e && (int32_t) (e->until_s - now_s) <= 0
        && e->state != NGX_HTTP_HOTPATH_OP_IN_FLIGHT)
    {
        e->state = NGX_HTTP_HOTPATH_OP_FREE;
        e = NULL;
    }

    if (e) {
        if (ngx_memcmp(e->fingerprint, fingerprint, sizeof(e->fingerprint))
            != 0)
        {
            rc = NGX_DECLINED;

            if (e->state != NGX_HTTP_HOTPATH_OP_IN_FLIGHT
                || !ngx_http_hotpath_idempotency_given_up_locked(table, e,
                                                                 now_s))
            {
                goto done;
            }

        } else if (e->state == NGX_HTTP_HOTPATH_OP_LOST) {
            op->state = NGX_HTTP_HOTPATH_OP_LOST;

        } else if (e->state != NGX_HTTP_HOTPATH_OP_IN_FLIGHT) {
            ngx_http_hotpath_idempotency_tell_locked(table, e, op);
            rc = NGX_DONE;
            goto done;

        } else if (!ngx_http_hotpath_idempotency_given_up_locked(table, e,
                                                                 now_s))
        {
            op->left_ms = (ngx_msec_t) (e->until_s - now_s) * 1000;
            rc = NGX_AGAIN;
            goto done;
        }

    } else {
        e = ngx_http_hotpath_idempotency_room_locked(table, bucket, now_s);
        if (e == NULL) {
            rc = NGX_BUSY;
            goto done;
        }
    }

    e->state = NGX_HTTP_HOTPATH_OP_FREE;
    ngx_http_hotpath_idempotency_begin_locked(table, lock, e, 0);

    ngx_memcpy(e->id, id, HP_UUID_SIZE);
    ngx_memcpy(e->fingerprint, fingerprint, sizeof(e->fingerprint));
    e->sequence = 0;
    e->created = 0;
    e->accepted_ms = 0;
    e->until_s = ngx_http_hotpath_idempotency_until_s(now_s, deadline_ms);
    e->owner = (uint32_t) ngx_pid;
    e->number = HP_STREAMS_MAX;

    ngx_http_hotpath_idempotency_end_locked(lock, e,
                                            NGX_HTTP_HOTPATH_OP_IN_FLIGHT);

    rc = NGX_OK;

done:

    ngx_http_hotpath_unlock(lock);

    return rc;
}


ngx_int_t
ngx_http_hotpath_idempotency_accept(ngx_http_hotpath_idempotency_t *table,
    const u_char id[HP_UUID_SIZE],
    const u_char fingerprint[HP_FINGERPRINT_SIZE], int64_t accepted_us,
    ngx_uint_t number, uint64_t created, uint64_t sequence)
{
    uint32_t                   now_s;
    uint64_t                   accepted_ms;
    ngx_int_t                  rc;
    ngx_uint_t                 fresh;
    ngx_http_hotpath_lock_t   *lock;
    ngx_http_hotpath_entry_t  *bucket, *e;

    now_s = ngx_http_hotpath_idempotency_now_s();

    bucket = ngx_http_hotpath_idempotency_enter(table, id, &lock);
    if (bucket == NULL) {
        return NGX_BUSY;
    }

    rc = NGX_DECLINED;

    e = ngx_http_hotpath_idempotency_find_locked(bucket, id);

    if (e && (e->state != NGX_HTTP_HOTPATH_OP_IN_FLIGHT
              || ngx_memcmp(e->fingerprint, fingerprint,
                            sizeof(e->fingerprint))
                 != 0))
    {
        /* settled by another; the first payload stays */
        goto done;
    }

    fresh = (e == NULL);

    if (fresh) {
        /* it was claimed without room, or forgotten since */
        e = ngx_http_hotpath_idempotency_room_locked(table, bucket, now_s);
        if (e == NULL) {
            goto done;
        }
    }

    if (fresh) {
        e->state = NGX_HTTP_HOTPATH_OP_FREE;
    }

    ngx_http_hotpath_idempotency_begin_locked(table, lock, e, 1);

    if (fresh) {
        ngx_memcpy(e->id, id, HP_UUID_SIZE);
        ngx_memcpy(e->fingerprint, fingerprint, sizeof(e->fingerprint));
    }

    accepted_ms = (uint64_t) accepted_us / 1000;

    e->sequence = sequence;
    e->created = created;
    e->accepted_ms = (uint32_t) accepted_ms;
    e->owner = (uint32_t) (accepted_ms >> 32);
    e->until_s = now_s + (uint32_t) table->window_s;
    e->number = (uint16_t) number;

    ngx_http_hotpath_idempotency_end_locked(lock, e,
                                            NGX_HTTP_HOTPATH_OP_ACCEPTED);

    rc = NGX_OK;

done:

    ngx_http_hotpath_unlock(lock);

    return rc;
}


void
ngx_http_hotpath_idempotency_release(ngx_http_hotpath_idempotency_t *table,
    const u_char id[HP_UUID_SIZE])
{
    ngx_http_hotpath_lock_t   *lock;
    ngx_http_hotpath_entry_t  *bucket, *e;

    bucket = ngx_http_hotpath_idempotency_enter(table, id, &lock);
    if (bucket == NULL) {
        return;
    }

    e = ngx_http_hotpath_idempotency_find_locked(bucket, id);

    if (e && e->state == NGX_HTTP_HOTPATH_OP_IN_FLIGHT
        && e->owner == (uint32_t) ngx_pid)
    {
        e->state = NGX_HTTP_HOTPATH_OP_FREE;
    }

    ngx_http_hotpath_unlock(lock);
}


ngx_int_t
ngx_http_hotpath_idempotency_renew(ngx_http_hotpath_idempotency_t *table,
    const u_char id[HP_UUID_SIZE], ngx_msec_t deadline_ms)
{
    ngx_int_t                  rc;
    ngx_http_hotpath_lock_t   *lock;
    ngx_http_hotpath_entry_t  *bucket, *e;

    bucket = ngx_http_hotpath_idempotency_enter(table, id, &lock);
    if (bucket == NULL) {
        return NGX_BUSY;
    }

    rc = NGX_DECLINED;
    e = ngx_http_hotpath_idempotency_find_locked(bucket, id);

    if (e && e->state == NGX_HTTP_HOTPATH_OP_IN_FLIGHT
        && e->owner == (uint32_t) ngx_pid)
    {
        /* one word: either time is one that the claim ends at */
        e->until_s = ngx_http_hotpath_idempotency_until_s(
                         ngx_http_hotpath_idempotency_now_s(), deadline_ms);
        rc = NGX_OK;
    }

    ngx_http_hotpath_unlock(lock);

    return rc;
}


ngx_int_t
ngx_http_hotpath_idempotency_find(ngx_http_hotpath_idempotency_t *table,
    const u_char id[HP_UUID_SIZE], ngx_http_hotpath_op_t *op)
{
    ngx_int_t                  rc;
    ngx_http_hotpath_lock_t   *lock;
    ngx_http_hotpath_entry_t  *bucket, *e;

    bucket = ngx_http_hotpath_idempotency_enter(table, id, &lock);
    if (bucket == NULL) {
        return NGX_DECLINED;
    }

    rc = NGX_DECLINED;
    e = ngx_http_hotpath_idempotency_find_locked(bucket, id);

    if (e) {
        ngx_http_hotpath_idempotency_tell_locked(table, e, op);
        rc = NGX_OK;
    }

    ngx_http_hotpath_unlock(lock);

    return rc;
}


void
ngx_http_hotpath_idempotency_ended(ngx_http_hotpath_idempotency_t *table,
    const u_char id[HP_UUID_SIZE], ngx_http_hotpath_op_e state)
{
    ngx_http_hotpath_lock_t   *lock;
    ngx_http_hotpath_entry_t  *bucket, *e;

    bucket = ngx_http_hotpath_idempotency_enter(table, id, &lock);
    if (bucket == NULL) {
        return;
    }

    e = ngx_http_hotpath_idempotency_find_locked(bucket, id);

    if (e && e->state == NGX_HTTP_HOTPATH_OP_ACCEPTED) {
        e->state = (uint8_t) state;
    }

    ngx_http_hotpath_unlock(lock);
}


void
ngx_http_hotpath_idempotency_lost(ngx_http_hotpath_idempotency_t *table,
    const u_char id[HP_UUID_SIZE], uint64_t sequence)
{
    ngx_http_hotpath_lock_t   *lock;
    ngx_http_hotpath_entry_t  *bucket, *e;

    bucket = ngx_http_hotpath_idempotency_enter(table, id, &lock);
    if (bucket == NULL) {
        return;
    }

    e = ngx_http_hotpath_idempotency_find_locked(bucket, id);

    if (e && e->state == NGX_HTTP_HOTPATH_OP_ACCEPTED
        && e->sequence == sequence)
    {
        e->state = NGX_HTTP_HOTPATH_OP_LOST;
    }

    ngx_http_hotpath_unlock(lock);
}


void
ngx_http_hotpath_idempotency_committed(ngx_http_hotpath_idempotency_t *table,
    ngx_uint_t number, uint64_t created, uint64_t whole, uint64_t sequence)
{
    ngx_http_hotpath_committed_t  *c;

    if (number >= HP_STREAMS_MAX) {
        return;
    }

    c = &table->table->committed[number];

    /* left odd by a writer that was killed: one more makes it odd again */
    __atomic_store_n(&c->guard, c->guard | 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);

    __atomic_store_n(&c->created, created, __ATOMIC_RELAXED);
    __atomic_store_n(&c->whole, whole, __ATOMIC_RELAXED);
    __atomic_store_n(&c->sequence, sequence, __ATOMIC_RELAXED);

    __atomic_store_n(&c->guard, (c->guard | 1) + 1, __ATOMIC_RELEASE);
}


ngx_uint_t
ngx_http_hotpath_idempotency_window(ngx_http_hotpath_idempotency_t *table)
{
    return table->window_s;
}


/* Around the writing of an entry: which one it is, and whether it is being
 * accepted, stands in the lock. One that is claimed is set free before. */

static void
ngx_http_hotpath_idempotency_begin_locked(
    ngx_http_hotpath_idempotency_t *table, ngx_http_hotpath_lock_t *lock,
    ngx_http_hotpath_entry_t *e, ngx_uint_t accepted)
{
    ngx_memory_barrier();
    lock->dirty = (e - table->entries + 1) * 2 + accepted;
    ngx_memory_barrier();
}


static void
ngx_http_hotpath_idempotency_end_locked(ngx_http_hotpath_lock_t *lock,
    ngx_http_hotpath_entry_t *e, ngx_http_hotpath_op_e state)
{
    ngx_memory_barrier();
    e->state = (uint8_t) state;
    ngx_http_hotpath_lock_end(lock);
}


/* Somebody died while writing. What was being claimed is free, or a claim of
 * his: his request died too, before it did anything. What was being accepted
 * has been. */

static void
ngx_http_hotpath_idempotency_mend_locked(
    ngx_http_hotpath_idempotency_t *table, ngx_http_hotpath_lock_t *lock)
{
    ngx_http_hotpath_entry_t  *e;

    e = &table->entries[lock->dirty / 2 - 1];

    if ((lock->dirty & 1) && e->state == NGX_HTTP_HOTPATH_OP_IN_FLIGHT) {
        e->until_s = ngx_http_hotpath_idempotency_now_s()
                     + (uint32_t) table->window_s;
        e->state = NGX_HTTP_HOTPATH_OP_ACCEPTED;
    }

    ngx_http_hotpath_lock_end(lock);
}


static ngx_inline uint64_t
ngx_http_hotpath_idempotency_bucket(ngx_http_hotpath_idempotency_t *table,
    const u_char *id)
{
    uint32_t  hash;

    /* the last bytes of a UUIDv8 or v7: all of them hash, or random */
    ngx_memcpy(&hash, id + 12, sizeof(hash));

    return (uint64_t) hash * table->table->buckets >> 32;
}


/* The bucket of that id with its stripe locked, or NULL. */

static ngx_http_hotpath_entry_t *
ngx_http_hotpath_idempotency_enter(ngx_http_hotpath_idempotency_t *table,
    const u_char *id, ngx_http_hotpath_lock_t **lock)
{
    uint64_t   bucket;
    ngx_int_t  rc;

    bucket = ngx_http_hotpath_idempotency_bucket(table, id);
    *lock = &table->table->locks[bucket
                                 % NGX_HTTP_HOTPATH_IDEMPOTENCY_STRIPES];

    rc = ngx_http_hotpath_lock(*lock);

    if (rc == NGX_BUSY) {
        return NULL;
    }

    if (rc == NGX_ABORT) {
        ngx_http_hotpath_idempotency_mend_locked(table, *lock);
    }

    return table->entries + bucket * NGX_HTTP_HOTPATH_IDEMPOTENCY_WAYS;
}


static ngx_http_hotpath_entry_t *
ngx_http_hotpath_idempotency_find_locked(ngx_http_hotpath_entry_t *bucket,
    const u_char *id)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_HOTPATH_IDEMPOTENCY_WAYS; i++) {
        if (bucket[i].state != NGX_HTTP_HOTPATH_OP_FREE
            && ngx_memcmp(bucket[i].id, id, HP_UUID_SIZE) == 0)
        {
            return &bucket[i];
        }
    }

    return NULL;
}


static ngx_http_hotpath_entry_t *
ngx_http_hotpath_idempotency_room_locked(
    ngx_http_hotpath_idempotency_t *table, ngx_http_hotpath_entry_t *bucket,
    uint32_t now_s)
{
    ngx_uint_t                 i;
    ngx_http_hotpath_entry_t  *e, *oldest;

    oldest = NULL;

    for (i = 0; i < NGX_HTTP_HOTPATH_IDEMPOTENCY_WAYS; i++) {
        e = &bucket[i];

        if (e->state == NGX_HTTP_HOTPATH_OP_FREE) {
            return e;
        }

        if (e->state == NGX_HTTP_HOTPATH_OP_IN_FLIGHT) {
            if (ngx_http_hotpath_idempotency_given_up_locked(table, e,
                                                             now_s))
            {
                return e;
            }

            continue;
        }

        if ((int32_t) (e->until_s - now_s) <= 0) {
            return e;
        }

        if (oldest == NULL || (int32_t) (e->until_s - oldest->until_s) < 0) {
            oldest = e;
        }
    }

    if (oldest) {
        ngx_http_hotpath_count(IDEMPOTENCY_FORCED);
    }

    return oldest;
}


/* The worker that claimed it died, or never settled it. */

static ngx_uint_t
ngx_http_hotpath_idempotency_given_up_locked(
    ngx_http_hotpath_idempotency_t *table, ngx_http_hotpath_entry_t *e,
    uint32_t now_s)
{
    if ((int32_t) (e->until_s - now_s) <= 0) {
        return 1;
    }

    return !table->patient
           && e->owner != (uint32_t) ngx_pid
           && kill((pid_t) e->owner, 0) == -1 && ngx_errno == ESRCH;
}


static void
ngx_http_hotpath_idempotency_tell_locked(
    ngx_http_hotpath_idempotency_t *table, ngx_http_hotpath_entry_t *e,
    ngx_http_hotpath_op_t *op)
{
    uint64_t                       created, whole, sequence;
    ngx_uint_t                     guard;
    ngx_http_hotpath_committed_t  *c;

    op->state = e->state;
    op->accepted_us = 0;
    op->sequence = e->sequence;
    op->number = e->number;
    op->unsure = 0;

    if (e->state == NGX_HTTP_HOTPATH_OP_IN_FLIGHT) {
        return;
    }

    op->accepted_us = (int64_t) ((uint64_t) e->owner << 32 | e->accepted_ms)
                      * 1000;

    if (e->state != NGX_HTTP_HOTPATH_OP_ACCEPTED) {
        return;
    }

    if (e->number >= HP_STREAMS_MAX) {
        /* no event, or whoever accepted it died while writing that down */
        op->unsure = 1;
        return;
    }

    c = &table->table->committed[e->number];

    guard = __atomic_load_n(&c->guard, __ATOMIC_ACQUIRE);
    created = __atomic_load_n(&c->created, __ATOMIC_RELAXED);
    whole = __atomic_load_n(&c->whole, __ATOMIC_RELAXED);
    sequence = __atomic_load_n(&c->sequence, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);

    if ((guard & 1)
        || __atomic_load_n(&c->guard, __ATOMIC_RELAXED) != guard)
    {
        /* it is being written: accepted is still true */
        return;
    }

    if (e->created == 0 || created != e->created) {
        op->unsure = 1;

    } else if (sequence >= e->sequence) {

        if (e->sequence >= whole) {
            op->state = NGX_HTTP_HOTPATH_OP_PROCESSED;

        } else {
            op->unsure = 1;
        }
    }
}
