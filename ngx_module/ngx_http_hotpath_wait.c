/*
 * ngx_http_hotpath_wait.c: who waits for an operation, and who wakes them.
 *
 * Waiters belong to their requests and stand in lists of their worker: one of
 * 4096 buckets by operation id, and a tree for each stream, by the sequence
 * that they wait for. Shared memory holds no waiters, only which workers have
 * any: a bit for each in a word for each bucket, and a word of partitions for
 * each worker. Who changes something looks at these words (two loads where
 * nobody waits), marks the bucket or the partition in the seat of each worker
 * that has waiters there, and writes to its eventfd. Seats are nginx's process
 * slots, so old and new workers have different ones over a reload; the eventfds
 * are made once by the master, before it forks, and kept, so that everybody
 * can wake everybody. No lock: whoever enters sets his bit and then asks the
 * table of operations, whoever changes that table reads the bits afterwards.
 *
 * Runs in workers' event loops. Owns the table, the eventfds and the lists.
 * Never in here: a call of a waiter from within a function that others call,
 * a scan of all waiters, or a word of what has become of an operation.
 * Test: tests/integration/test_follow.py.
 */


#include "ngx_http_hotpath_wait.h"
#include "ngx_http_hotpath_backend.h"
#include "ngx_http_hotpath_metrics.h"
#include <sys/eventfd.h>


#define NGX_HTTP_HOTPATH_WAIT_MAGIC     0x3174696157504848ULL
#define NGX_HTTP_HOTPATH_WAIT_LAYOUT    2
#define NGX_HTTP_HOTPATH_WAIT_BUCKETS   4096
#define NGX_HTTP_HOTPATH_WAIT_SEATS     128
#define NGX_HTTP_HOTPATH_WAIT_SETTLING  8     /* seats beside the workers' */
#define NGX_HTTP_HOTPATH_WAIT_MARKS     1024  /* of each stream */

/* Of its partition, shared by all priorities: to wake too many is harmless. */
#define ngx_http_hotpath_wait_bit(number)                                     \
    ((uint64_t) 1 << (number) % HP_PARTITIONS_MAX)


/* Of one worker; set by whoever wakes, cleared by the worker as it reads. */
typedef struct {
    uint64_t                     changed[NGX_HTTP_HOTPATH_WAIT_BUCKETS / 64];
    uint64_t                     moved;      /* a bit for each partition */
    uint64_t                     all;        /* the same */

    /* written by the worker itself */
    uint64_t                     partitions; /* that anyone waits for, of
                                                whichever priority */
    uint64_t                     anywhere;   /* 1: or for any of them */
    u_char                       pad[NGX_HTTP_HOTPATH_CACHE_LINE - 4 * 8];
} ngx_http_hotpath_wait_seat_t;


/* Which workers have waiters there: each sets and clears a bit of its own. */
typedef struct {
    uint64_t                     seats[NGX_HTTP_HOTPATH_WAIT_SEATS / 64];
} ngx_http_hotpath_wait_bits_t;


/* A stream was committed up to sequence, as heard at that time. */
typedef struct {
    uint64_t                     sequence;
    int64_t                      heard_us;   /* since 1970 */
} ngx_http_hotpath_wait_mark_t;


/* The last of them, as a ring; sequences only grow in it. Written by the worker
 * that listens (at a reload by two) and read under the lock. */
typedef struct {
    ngx_http_hotpath_lock_t      lock;
    uint64_t                     n;          /* ever written since the last
                                                time it was emptied */
    uint64_t                     before;     /* marks are of all after it */
    u_char                       pad[NGX_HTTP_HOTPATH_CACHE_LINE - 2 * 8];
    ngx_http_hotpath_wait_mark_t marks[NGX_HTTP_HOTPATH_WAIT_MARKS];
} ngx_http_hotpath_wait_past_t;


typedef struct {
    ngx_http_hotpath_region_t    region;
    u_char                       pad[NGX_HTTP_HOTPATH_CACHE_LINE
                                     - sizeof(ngx_http_hotpath_region_t)];
    uint64_t                     sequences[HP_STREAMS_MAX];
    ngx_http_hotpath_wait_bits_t buckets[NGX_HTTP_HOTPATH_WAIT_BUCKETS];
    ngx_http_hotpath_wait_seat_t seats[NGX_HTTP_HOTPATH_WAIT_SEATS];
    ngx_http_hotpath_wait_past_t past[HP_STREAMS_MAX];
} ngx_http_hotpath_wait_table_t;


static ngx_int_t ngx_http_hotpath_wait_init_zone(ngx_shm_zone_t *zone,
    void *data);
static void ngx_http_hotpath_wait_vacate(void);
static ngx_uint_t ngx_http_hotpath_wait_bucket(const u_char *id);
static void ngx_http_hotpath_wait_leave_tree(ngx_http_hotpath_wait_t *wait);
static ngx_uint_t ngx_http_hotpath_wait_alone(ngx_uint_t number);
static ngx_http_hotpath_wait_past_t *ngx_http_hotpath_wait_past(
    ngx_uint_t number);
static void ngx_http_hotpath_wait_rouse(ngx_uint_t seat);
static void ngx_http_hotpath_wait_read(ngx_event_t *ev);
static void ngx_http_hotpath_wait_write(ngx_event_t *ev);
static void ngx_http_hotpath_wait_woken(ngx_event_t *ev);
static void ngx_http_hotpath_wait_gather(ngx_uint_t bucket);
static void ngx_http_hotpath_wait_gather_tree(ngx_uint_t number,
    ngx_uint_t last);
static void ngx_http_hotpath_wait_over(ngx_event_t *ev);


static ngx_uint_t                      ngx_http_hotpath_wait_tag;
static ngx_http_hotpath_wait_table_t  *ngx_http_hotpath_wait_table;

/* made in the master, more of them where a reload brings more workers */
static ngx_socket_t
    ngx_http_hotpath_wait_fds[NGX_HTTP_HOTPATH_WAIT_SEATS];
static ngx_uint_t         ngx_http_hotpath_wait_nfds;

/* this worker's; seat is NULL where it has none, and then nobody waits */
static ngx_http_hotpath_wait_seat_t  *ngx_http_hotpath_wait_seat;
static ngx_connection_t   *ngx_http_hotpath_wait_connection;
static ngx_event_t         ngx_http_hotpath_wait_event;
static ngx_queue_t        *ngx_http_hotpath_wait_lists;
static ngx_queue_t         ngx_http_hotpath_wait_due;
static ngx_rbtree_t
    ngx_http_hotpath_wait_trees[HP_STREAMS_MAX + 1];
static ngx_rbtree_node_t   ngx_http_hotpath_wait_sentinel;
static ngx_uint_t          ngx_http_hotpath_wait_n;
static ngx_uint_t          ngx_http_hotpath_wait_max;


ngx_int_t
ngx_http_hotpath_wait_init(ngx_conf_t *cf)
{
    ngx_shm_zone_t  *zone;

    static ngx_str_t  name = ngx_string("hotpath_wait");

    zone = ngx_shared_memory_add(cf, &name,
                                 sizeof(ngx_http_hotpath_wait_table_t)
                                 / 32 * 33 + 16 * ngx_pagesize,
                                 &ngx_http_hotpath_wait_tag);
    if (zone == NULL) {
        return NGX_ERROR;
    }

    zone->init = ngx_http_hotpath_wait_init_zone;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_wait_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_uint_t                      fresh;
    ngx_http_hotpath_wait_table_t  *table;

    table = ngx_http_hotpath_region_init(zone, NGX_HTTP_HOTPATH_WAIT_MAGIC,
                                         NGX_HTTP_HOTPATH_WAIT_LAYOUT, &fresh);
    if (table == NULL) {
        return NGX_ERROR;
    }

    if (table->region.size < sizeof(ngx_http_hotpath_wait_table_t)) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "shared memory zone \"%V\" is too small",
                      &zone->shm.name);
        return NGX_ERROR;
    }

    ngx_http_hotpath_wait_table = table;

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_wait_prepare(ngx_cycle_t *cycle)
{
    ngx_uint_t        n;
    ngx_socket_t      fd;
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (ngx_test_config
        || ngx_get_conf(cycle->conf_ctx, ngx_http_module) == NULL)
    {
        return NGX_OK;
    }

    /* a reload or two ago there may have been as many, still ending */

    n = 3 * (ccf->worker_processes > 0 ? ccf->worker_processes : 1)
        + NGX_HTTP_HOTPATH_WAIT_SETTLING;
    n = ngx_min(n, NGX_HTTP_HOTPATH_WAIT_SEATS);

    while (ngx_http_hotpath_wait_nfds < n) {
        fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

        if (fd == -1) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                          "eventfd() failed");
            return NGX_ERROR;
        }

        ngx_http_hotpath_wait_fds[ngx_http_hotpath_wait_nfds++] = fd;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_wait_start(ngx_cycle_t *cycle, ngx_uint_t max)
{
    ngx_uint_t  i;

    ngx_http_hotpath_wait_seat = NULL;
    ngx_http_hotpath_wait_connection = NULL;
    ngx_http_hotpath_wait_n = 0;
    ngx_http_hotpath_wait_max = max;

    if (max == 0
        || (ngx_uint_t) ngx_process_slot >= ngx_http_hotpath_wait_nfds)
    {
        return NGX_OK;
    }

    ngx_http_hotpath_wait_lists = ngx_palloc(cycle->pool,
                        NGX_HTTP_HOTPATH_WAIT_BUCKETS * sizeof(ngx_queue_t));
    if (ngx_http_hotpath_wait_lists == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_HTTP_HOTPATH_WAIT_BUCKETS; i++) {
        ngx_queue_init(&ngx_http_hotpath_wait_lists[i]);
    }

    for (i = 0; i <= HP_STREAMS_MAX; i++) {
        ngx_rbtree_init(&ngx_http_hotpath_wait_trees[i],
                        &ngx_http_hotpath_wait_sentinel,
                        ngx_rbtree_insert_value);
    }

    ngx_queue_init(&ngx_http_hotpath_wait_due);

    ngx_memzero(&ngx_http_hotpath_wait_event, sizeof(ngx_event_t));
    ngx_http_hotpath_wait_event.handler = ngx_http_hotpath_wait_woken;
    ngx_http_hotpath_wait_event.log = cycle->log;

    ngx_http_hotpath_wait_connection = ngx_http_hotpath_backend_attach(
                                  ngx_http_hotpath_wait_fds[ngx_process_slot],
                                  NULL, ngx_http_hotpath_wait_read,
                                  ngx_http_hotpath_wait_write, cycle->log);

    if (ngx_http_hotpath_wait_connection == NULL) {
        return NGX_ERROR;
    }

    ngx_http_hotpath_wait_seat =
                         &ngx_http_hotpath_wait_table->seats[ngx_process_slot];

    /* of the process that had the slot before */
    ngx_http_hotpath_wait_vacate();

    return ngx_http_hotpath_backend_wait(ngx_http_hotpath_wait_connection,
                                         1, 0);
}


void
ngx_http_hotpath_wait_stop(void)
{
    if (ngx_http_hotpath_wait_seat == NULL) {
        return;
    }

    ngx_http_hotpath_wait_vacate();
    ngx_http_hotpath_wait_seat = NULL;

    ngx_http_hotpath_backend_detach(ngx_http_hotpath_wait_connection,
                                  ngx_http_hotpath_wait_fds[ngx_process_slot]);
    ngx_http_hotpath_wait_connection = NULL;
}


/* This worker's seat is that of one that waits for nothing. */

static void
ngx_http_hotpath_wait_vacate(void)
{
    uint64_t    bit, *word;
    ngx_uint_t  i;

    bit = (uint64_t) 1 << (ngx_process_slot & 63);

    for (i = 0; i < NGX_HTTP_HOTPATH_WAIT_BUCKETS; i++) {
        word = &ngx_http_hotpath_wait_table->buckets[i]
                                              .seats[ngx_process_slot / 64];

        if (__atomic_load_n(word, __ATOMIC_RELAXED) & bit) {
            (void) __atomic_and_fetch(word, ~bit, __ATOMIC_SEQ_CST);
        }
    }

    ngx_memzero(ngx_http_hotpath_wait_seat,
                sizeof(ngx_http_hotpath_wait_seat_t));
}


/* The last bytes of a UUIDv8 or v7: all of them hash, or random. */

static ngx_uint_t
ngx_http_hotpath_wait_bucket(const u_char *id)
{
    return (id[HP_UUID_SIZE - 2] << 8 | id[HP_UUID_SIZE - 1])
           % NGX_HTTP_HOTPATH_WAIT_BUCKETS;
}


ngx_uint_t
ngx_http_hotpath_wait_room(ngx_uint_t n)
{
    if (ngx_http_hotpath_wait_seat
        && ngx_http_hotpath_wait_n < ngx_http_hotpath_wait_max
        && n <= ngx_http_hotpath_wait_max - ngx_http_hotpath_wait_n)
    {
        return 1;
    }

    ngx_http_hotpath_count(WAIT_FULL);

    return 0;
}


ngx_int_t
ngx_http_hotpath_wait_enter(ngx_http_hotpath_wait_t *wait,
    const u_char id[HP_UUID_SIZE], ngx_msec_t ms)
{
    ngx_uint_t    i;
    ngx_queue_t  *list;

    if (!ngx_http_hotpath_wait_room(1)) {
        return NGX_BUSY;
    }

    ngx_memcpy(wait->id, id, HP_UUID_SIZE);

    i = ngx_http_hotpath_wait_bucket(id);
    list = &ngx_http_hotpath_wait_lists[i];

    if (ngx_queue_empty(list)) {
        (void) __atomic_or_fetch(
                   &ngx_http_hotpath_wait_table->buckets[i]
                                                .seats[ngx_process_slot / 64],
                   (uint64_t) 1 << (ngx_process_slot & 63),
                   __ATOMIC_SEQ_CST);
    }

    ngx_queue_insert_tail(list, &wait->queue);

    /* not cancelable: it keeps an exiting worker until the answer is given */
    wait->deadline.handler = ngx_http_hotpath_wait_over;
    wait->deadline.data = wait;
    wait->deadline.log = ngx_cycle->log;
    ngx_add_timer(&wait->deadline, ms);

    wait->inside = 1;
    ngx_http_hotpath_wait_n++;
    ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_WAITING]++;

    return NGX_OK;
}


void
ngx_http_hotpath_wait_until(ngx_http_hotpath_wait_t *wait,
    ngx_uint_t number, uint64_t sequence)
{
    ngx_rbtree_t  *tree;

    if (!wait->inside || number > HP_STREAMS_MAX) {
        return;
    }

    ngx_http_hotpath_wait_leave_tree(wait);

    tree = &ngx_http_hotpath_wait_trees[number];

    if (tree->root == tree->sentinel) {

        if (number == NGX_HTTP_HOTPATH_WAIT_ANYWHERE) {
            __atomic_store_n(&ngx_http_hotpath_wait_seat->anywhere, 1,
                             __ATOMIC_SEQ_CST);
        } else {
            (void) __atomic_or_fetch(&ngx_http_hotpath_wait_seat->partitions,
                                     ngx_http_hotpath_wait_bit(number),
                                     __ATOMIC_SEQ_CST);
        }
    }

    wait->node.key = (ngx_rbtree_key_t) sequence;
    wait->number = number;
    wait->in_tree = 1;
    ngx_rbtree_insert(tree, &wait->node);
}


static void
ngx_http_hotpath_wait_leave_tree(ngx_http_hotpath_wait_t *wait)
{
    ngx_rbtree_t  *tree;

    if (!wait->in_tree) {
        return;
    }

    tree = &ngx_http_hotpath_wait_trees[wait->number];

    ngx_rbtree_delete(tree, &wait->node);
    wait->in_tree = 0;

    if (tree->root != tree->sentinel) {
        return;
    }

    if (wait->number == NGX_HTTP_HOTPATH_WAIT_ANYWHERE) {
        __atomic_store_n(&ngx_http_hotpath_wait_seat->anywhere, 0,
                         __ATOMIC_SEQ_CST);
    } else if (ngx_http_hotpath_wait_alone(wait->number)) {
        (void) __atomic_and_fetch(&ngx_http_hotpath_wait_seat->partitions,
                                  ~ngx_http_hotpath_wait_bit(wait->number),
                                  __ATOMIC_SEQ_CST);
    }
}


/* 1: nobody waits for its partition in another priority. */

static ngx_uint_t
ngx_http_hotpath_wait_alone(ngx_uint_t number)
{
    ngx_uint_t     i;
    ngx_rbtree_t  *tree;

    for (i = number % HP_PARTITIONS_MAX; i < HP_STREAMS_MAX;
         i += HP_PARTITIONS_MAX)
    {
        tree = &ngx_http_hotpath_wait_trees[i];

        if (i != number && tree->root != tree->sentinel) {
            return 0;
        }
    }

    return 1;
}


void
ngx_http_hotpath_wait_leave(ngx_http_hotpath_wait_t *wait)
{
    ngx_uint_t  i;

    if (!wait->inside) {
        return;
    }

    wait->inside = 0;
    ngx_http_hotpath_wait_n--;
    ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_WAITING]--;

    if (wait->deadline.timer_set) {
        ngx_del_timer(&wait->deadline);
    }

    if (wait->is_due) {
        wait->is_due = 0;
        ngx_queue_remove(&wait->due);
    }

    ngx_http_hotpath_wait_leave_tree(wait);

    ngx_queue_remove(&wait->queue);
    i = ngx_http_hotpath_wait_bucket(wait->id);

    if (ngx_queue_empty(&ngx_http_hotpath_wait_lists[i])) {
        (void) __atomic_and_fetch(
                   &ngx_http_hotpath_wait_table->buckets[i]
                                                .seats[ngx_process_slot / 64],
                   ~((uint64_t) 1 << (ngx_process_slot & 63)),
                   __ATOMIC_SEQ_CST);
    }
}


void
ngx_http_hotpath_wait_wake(const u_char id[HP_UUID_SIZE])
{
    uint64_t                        seats;
    ngx_uint_t                      i, bucket, seat;
    ngx_http_hotpath_wait_table_t  *table;

    table = ngx_http_hotpath_wait_table;
    bucket = ngx_http_hotpath_wait_bucket(id);

    /* what was changed before is to be seen by whoever sets his bit after */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);

    for (i = 0; i < NGX_HTTP_HOTPATH_WAIT_SEATS / 64; i++) {

        seats = __atomic_load_n(&table->buckets[bucket].seats[i],
                                __ATOMIC_SEQ_CST);

        for ( /* void */ ; seats; seats &= seats - 1) {
            seat = i * 64 + __builtin_ctzll(seats);

            (void) __atomic_or_fetch(&table->seats[seat].changed[bucket / 64],
                                     (uint64_t) 1 << (bucket & 63),
                                     __ATOMIC_SEQ_CST);
            ngx_http_hotpath_wait_rouse(seat);
        }
    }
}


void
ngx_http_hotpath_wait_wake_all(void)
{
    ngx_uint_t  i;
    u_char      id[HP_UUID_SIZE];

    ngx_memzero(id, HP_UUID_SIZE);

    for (i = 0; i < NGX_HTTP_HOTPATH_WAIT_BUCKETS; i++) {
        id[HP_UUID_SIZE - 2] = (u_char) (i >> 8);
        id[HP_UUID_SIZE - 1] = (u_char) i;
        ngx_http_hotpath_wait_wake(id);
    }
}


void
ngx_http_hotpath_wait_moved(ngx_uint_t number, uint64_t sequence,
    ngx_uint_t all)
{
    uint64_t                        bit;
    ngx_uint_t                      i;
    ngx_http_hotpath_wait_seat_t   *seat;
    ngx_http_hotpath_wait_table_t  *table;

    if (number >= HP_STREAMS_MAX) {
        return;
    }

    table = ngx_http_hotpath_wait_table;
    bit = ngx_http_hotpath_wait_bit(number);

    __atomic_store_n(&table->sequences[number], sequence, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);

    for (i = 0; i < ngx_http_hotpath_wait_nfds; i++) {
        seat = &table->seats[i];

        if (!(__atomic_load_n(&seat->partitions, __ATOMIC_SEQ_CST) & bit)
            && !__atomic_load_n(&seat->anywhere, __ATOMIC_SEQ_CST))
        {
            continue;
        }

        if (all) {
            (void) __atomic_or_fetch(&seat->all, bit, __ATOMIC_SEQ_CST);
        }

        (void) __atomic_or_fetch(&seat->moved, bit, __ATOMIC_SEQ_CST);
        ngx_http_hotpath_wait_rouse(i);
    }
}


/* With its lock held, or NULL. */

static ngx_http_hotpath_wait_past_t *
ngx_http_hotpath_wait_past(ngx_uint_t number)
{
    ngx_http_hotpath_wait_past_t  *past;

    past = &ngx_http_hotpath_wait_table->past[number];

    switch (ngx_http_hotpath_lock(&past->lock)) {

    case NGX_OK:
        return past;

    case NGX_ABORT:
        /* its writer died in there */
        past->n = 0;
        ngx_http_hotpath_lock_end(&past->lock);
        return past;

    default:
        return NULL;
    }
}


void
ngx_http_hotpath_wait_mark(ngx_uint_t number, uint64_t after,
    uint64_t sequence, ngx_uint_t all)
{
    uint64_t                       last;
    ngx_http_hotpath_wait_mark_t  *mark;
    ngx_http_hotpath_wait_past_t  *past;

    if (number >= HP_STREAMS_MAX) {
        return;
    }

    past = ngx_http_hotpath_wait_past(number);
    if (past == NULL) {
        return;
    }

    ngx_http_hotpath_lock_begin(&past->lock);

    if (past->n == 0 || all) {
        past->n = 0;
        past->before = after;
    }

    last = past->n ? past->marks[(past->n - 1) % NGX_HTTP_HOTPATH_WAIT_MARKS]
                         .sequence
                   : past->before;

    if (sequence > last) {
        mark = &past->marks[past->n % NGX_HTTP_HOTPATH_WAIT_MARKS];

        if (past->n >= NGX_HTTP_HOTPATH_WAIT_MARKS) {
            past->before = mark->sequence;
        }

        mark->sequence = sequence;
        mark->heard_us = ngx_http_hotpath_wall_us();
        past->n++;
    }

    ngx_http_hotpath_lock_end(&past->lock);
    ngx_http_hotpath_unlock(&past->lock);
}


int64_t
ngx_http_hotpath_wait_when(ngx_uint_t number, uint64_t sequence)
{
    int64_t                        heard_us;
    uint64_t                       low, high, middle;
    ngx_http_hotpath_wait_past_t  *past;

    if (number >= HP_STREAMS_MAX) {
        return 0;
    }

    past = ngx_http_hotpath_wait_past(number);
    if (past == NULL) {
        return 0;
    }

    heard_us = 0;
    high = past->n;
    low = high > NGX_HTTP_HOTPATH_WAIT_MARKS
          ? high - NGX_HTTP_HOTPATH_WAIT_MARKS : 0;

    if (high == 0 || sequence <= past->before) {
        goto done;
    }

    /* the first mark that is not below */

    while (low < high) {
        middle = low + (high - low) / 2;

        if (past->marks[middle % NGX_HTTP_HOTPATH_WAIT_MARKS].sequence
            < sequence)
        {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    if (low < past->n) {
        heard_us = past->marks[low % NGX_HTTP_HOTPATH_WAIT_MARKS].heard_us;
    }

done:

    ngx_http_hotpath_unlock(&past->lock);

    return heard_us;
}


static void
ngx_http_hotpath_wait_rouse(ngx_uint_t seat)
{
    static uint64_t  one = 1;

    if (ngx_http_hotpath_wait_seat
        && seat == (ngx_uint_t) ngx_process_slot)
    {
        ngx_post_event(&ngx_http_hotpath_wait_event, &ngx_posted_events);
        return;
    }

    /* one that is not there any more fills its counter up at worst */

    if (seat < ngx_http_hotpath_wait_nfds
        && write(ngx_http_hotpath_wait_fds[seat], &one, sizeof(one)) == -1
        && ngx_errno != NGX_EAGAIN)
    {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "hotpath: write() to an eventfd failed");
    }
}


static void
ngx_http_hotpath_wait_read(ngx_event_t *ev)
{
    uint64_t           n;
    ngx_connection_t  *c;

    c = ev->data;

    if (read(c->fd, &n, sizeof(n)) == -1 && ngx_errno != NGX_EAGAIN) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "hotpath: read() of an eventfd failed");
    }

    ngx_http_hotpath_wait_woken(&ngx_http_hotpath_wait_event);
}


static void
ngx_http_hotpath_wait_write(ngx_event_t *ev)
{
    /* never waited for */
}


/* Everybody who is to be called is found first: a handler may make any waiter
 * leave, and new ones enter. */

static void
ngx_http_hotpath_wait_woken(ngx_event_t *ev)
{
    uint64_t                       bits, all;
    ngx_uint_t                     i, number, last;
    ngx_queue_t                   *q;
    ngx_http_hotpath_wait_t       *wait;
    ngx_http_hotpath_wait_seat_t  *seat;

    seat = ngx_http_hotpath_wait_seat;

    if (seat == NULL) {
        return;
    }

    for (i = 0; i < NGX_HTTP_HOTPATH_WAIT_BUCKETS / 64; i++) {

        if (__atomic_load_n(&seat->changed[i], __ATOMIC_RELAXED) == 0) {
            continue;
        }

        bits = __atomic_exchange_n(&seat->changed[i], 0, __ATOMIC_SEQ_CST);

        for ( /* void */ ; bits; bits &= bits - 1) {
            ngx_http_hotpath_wait_gather(i * 64 + __builtin_ctzll(bits));
        }
    }

    bits = __atomic_exchange_n(&seat->moved, 0, __ATOMIC_SEQ_CST);

    if (bits) {
        all = __atomic_exchange_n(&seat->all, 0, __ATOMIC_SEQ_CST);

        ngx_http_hotpath_wait_gather_tree(NGX_HTTP_HOTPATH_WAIT_ANYWHERE,
                                          ngx_current_msec);

        for ( /* void */ ; bits; bits &= bits - 1) {
            number = __builtin_ctzll(bits);
            last = all >> number & 1 ? (ngx_uint_t) -1 : 0;

            for ( /* void */ ; number < HP_STREAMS_MAX;
                 number += HP_PARTITIONS_MAX)
            {
                ngx_http_hotpath_wait_gather_tree(number, ngx_max(last,
                         __atomic_load_n(
                             &ngx_http_hotpath_wait_table->sequences[number],
                             __ATOMIC_SEQ_CST)));
            }
        }
    }

    while (!ngx_queue_empty(&ngx_http_hotpath_wait_due)) {
        q = ngx_queue_head(&ngx_http_hotpath_wait_due);
        wait = ngx_queue_data(q, ngx_http_hotpath_wait_t, due);

        ngx_queue_remove(q);
        wait->is_due = 0;

        wait->handler(wait, 0);
    }
}


static void
ngx_http_hotpath_wait_gather(ngx_uint_t bucket)
{
    ngx_queue_t              *list, *q;
    ngx_http_hotpath_wait_t  *wait;

    list = &ngx_http_hotpath_wait_lists[bucket];

    for (q = ngx_queue_head(list);
         q != ngx_queue_sentinel(list);
         q = ngx_queue_next(q))
    {
        wait = ngx_queue_data(q, ngx_http_hotpath_wait_t, queue);

        if (!wait->is_due) {
            wait->is_due = 1;
            ngx_queue_insert_tail(&ngx_http_hotpath_wait_due, &wait->due);
        }
    }
}


static void
ngx_http_hotpath_wait_gather_tree(ngx_uint_t number, ngx_uint_t last)
{
    ngx_rbtree_t             *tree;
    ngx_rbtree_node_t        *node;
    ngx_http_hotpath_wait_t  *wait;

    tree = &ngx_http_hotpath_wait_trees[number];

    while (tree->root != tree->sentinel) {
        node = ngx_rbtree_min(tree->root, tree->sentinel);

        if (node->key > last) {
            return;
        }

        wait = ngx_rbtree_data(node, ngx_http_hotpath_wait_t, node);
        ngx_http_hotpath_wait_leave_tree(wait);

        if (!wait->is_due) {
            wait->is_due = 1;
            ngx_queue_insert_tail(&ngx_http_hotpath_wait_due, &wait->due);
        }
    }
}


static void
ngx_http_hotpath_wait_over(ngx_event_t *ev)
{
    ngx_http_hotpath_wait_t  *wait;

    wait = ev->data;

    ngx_http_hotpath_count(WAIT_OVER);
    ngx_http_hotpath_wait_leave(wait);
    wait->handler(wait, 1);
}
