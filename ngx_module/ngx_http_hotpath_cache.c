/*
 * ngx_http_hotpath_cache.c: documents in shared memory, read without a lock.
 *
 * A zone is stripes, a stripe is buckets and cells, a document is a chain of
 * cells:
 *
 *   region header | seed, generation, shape | stripe heads (3 lines each)
 *   per stripe:  buckets, one cache line of 8 slots each: tag | cell + 1
 *                cells of 256 bytes: cell header | entry | key, document
 *                                    cell header | more of the document
 *
 * Everything is by index, so a torn read can be checked and hurts nobody. A
 * cell is always a cell: its sequence word stays one whatever the cell holds,
 * only grows, and says in its low bits whether the cell is being written and
 * whether an entry starts in it. A reader takes the word, copies what it wants
 * and looks at the word again; all that changes content moves the word first.
 * Where a stripe is emptied the stripe's epoch is moved in the same way, so
 * that not every cell has to be. Readers write nothing but the `visited` mark,
 * which no reuse of the cell gives another meaning, and only where it is off.
 *
 * Writers hold the lock of one stripe, whose dirty flag is set while they
 * change it: where one was killed in there, the next one empties the stripe. A
 * new version is written beside the old one and swapped in with one store, so
 * that readers of a hot key never find it missing. A key lives in one of two
 * buckets (the first that has room); where both are full, one of their entries
 * goes. Eviction is SIEVE; how long it looks for a victim is bounded by the
 * size of what comes in.
 *
 * Runs in workers (get, put, distrust, stats) and, while a configuration is
 * read, in the master. Never blocks, never calls the system under the lock.
 * Tests: tests/unit/test_cache.c; speed: tests/bench/cache.c. Long because
 * readers without a lock and writers under one are correct only together: the
 * order of their stores and loads is to be checked in one place.
 */
#include "ngx_http_hotpath_cache.h"
#include "core/hp_id.h"
#include <sys/random.h>


#define NGX_HTTP_HOTPATH_CACHE_MAGIC       0x3165686361435048ULL /* HPCache1 */
#define NGX_HTTP_HOTPATH_CACHE_LAYOUT      1

#define NGX_HTTP_HOTPATH_CACHE_SIZE_MIN    (256 * 1024)
#define NGX_HTTP_HOTPATH_CACHE_KEY_MAX     1200
#define NGX_HTTP_HOTPATH_CACHE_ENTRY_MAX   (1024 * 1024                       \
                                            + NGX_HTTP_HOTPATH_CACHE_KEY_MAX)
#define NGX_HTTP_HOTPATH_CACHE_ENTRY_MIN   64

/* A stripe holds at least so many of the largest entries. */
#define NGX_HTTP_HOTPATH_CACHE_LARGEST     16

#define NGX_HTTP_HOTPATH_CACHE_STRIPES     64
#define NGX_HTTP_HOTPATH_CACHE_STRIPE_MIN  65536
#define NGX_HTTP_HOTPATH_CACHE_CELL        256
#define NGX_HTTP_HOTPATH_CACHE_SLOTS       8

/* A reader that was overtaken by writers so often takes it for a miss. */
#define NGX_HTTP_HOTPATH_CACHE_TRIES       16

/* Entries that one put may spare because they were used, besides two for
 * every cell it needs. */
#define NGX_HTTP_HOTPATH_CACHE_SPARE       64

#define NGX_HTTP_HOTPATH_CACHE_NIL         ((uint32_t) -1)

/* Low bits of a cell's sequence word; the rest counts changes. */
#define NGX_HTTP_HOTPATH_CACHE_WRITING     1
#define NGX_HTTP_HOTPATH_CACHE_ENTRY       2
#define NGX_HTTP_HOTPATH_CACHE_STEP        4

#define NGX_HTTP_HOTPATH_CACHE_FIRST                                          \
    (NGX_HTTP_HOTPATH_CACHE_CELL                                              \
     - offsetof(ngx_http_hotpath_cache_cell_t, u.head.bytes))
#define NGX_HTTP_HOTPATH_CACHE_MORE                                           \
    (NGX_HTTP_HOTPATH_CACHE_CELL                                              \
     - offsetof(ngx_http_hotpath_cache_cell_t, u.bytes))

#if defined(__SANITIZE_THREAD__)
#define NGX_HTTP_HOTPATH_CACHE_TSAN  1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NGX_HTTP_HOTPATH_CACHE_TSAN  1
#endif
#endif


/* Written under the stripe's lock, read without it, but for what is said. */
typedef struct {
    uint64_t  hash;            /* of the key */
    uint64_t  version;
    int64_t   modified_us;
    uint64_t  stored_ms;
    uint64_t  fresh_ms;
    uint64_t  stale_ms;
    uint64_t  generation;      /* of the zone when it was put */
    uint32_t  document_len;    /* 0 to max_entry - key_len */
    uint16_t  key_len;         /* 1 to 1200 */
    uint8_t   negative;        /* 0, 1 */
    uint8_t   reserved;
    uint32_t  newer;           /* cells of the neighbours in order of */
    uint32_t  older;           /* insertion, or NIL; only under the lock */
} ngx_http_hotpath_cache_entry_t;


typedef struct {
    uint32_t  sequence;        /* changes counted in steps, and two bits */
    uint32_t  next;            /* cell with what follows, or next free cell */
    uint32_t  visited;         /* 0, 1; set by readers, else under the lock */
    uint32_t  last;            /* of an entry: its last cell; under the lock */

    union {
        struct {
            ngx_http_hotpath_cache_entry_t  entry;
            u_char                          bytes[168];
        } head;

        u_char  bytes[240];
    } u;
} ngx_http_hotpath_cache_cell_t;


/* tag << 32 | cell + 1, or 0; written under the lock, by one store. */
typedef uint64_t  ngx_http_hotpath_cache_bucket_t[NGX_HTTP_HOTPATH_CACHE_SLOTS];


typedef struct {
    ngx_http_hotpath_lock_t  lock;

    /* A line of its own: every reader reads it, only a reset writes it. */
    uint32_t                 epoch;         /* odd: being emptied */
    u_char                   pad[NGX_HTTP_HOTPATH_CACHE_LINE
                                 - sizeof(uint32_t)];

    /* Read and written under the lock; statistics are read without it. */
    uint32_t                 free;          /* first free cell, or NIL */
    uint32_t                 nfree;
    uint32_t                 used;          /* cells from here on were never
                                               in use since the last reset */
    uint32_t                 newest;        /* NIL without entries */
    uint32_t                 oldest;
    uint32_t                 hand;          /* where eviction goes on, or NIL */
    uint32_t                 entries;
    uint32_t                 reserved;
    uint64_t                 stores;
    uint64_t                 refused_older;
    uint64_t                 evictions;
    uint64_t                 resets;
} ngx_http_hotpath_cache_stripe_t;


typedef struct {
    ngx_http_hotpath_region_t  region;

    /* Written when the region is made. */
    uint64_t                   seed;
    uint64_t                   max_entry;   /* bytes of key and document */
    uint32_t                   stripes;     /* power of two */
    uint32_t                   cells;       /* of one stripe */
    uint32_t                   buckets;     /* of one stripe */
    uint32_t                   reserved;

    /* Counts up by one, by anybody, atomically; every reader reads it. */
    uint64_t                   generation;
    u_char                     pad1[2 * NGX_HTTP_HOTPATH_CACHE_LINE
                                    - sizeof(ngx_http_hotpath_region_t)
                                    - 5 * sizeof(uint64_t)];

    uint64_t                   lock_busy;   /* counts up likewise */
    u_char                     pad2[NGX_HTTP_HOTPATH_CACHE_LINE
                                    - sizeof(uint64_t)];

    ngx_http_hotpath_cache_stripe_t  stripe[1];
} ngx_http_hotpath_cache_region_t;


/* Of one configuration, in every process: the zone and its shape, so that
 * what a reader computes with cannot change under it. */
struct ngx_http_hotpath_cache_s {
    ngx_shm_zone_t                   *zone;
    uint64_t                          max_entry;
    ngx_http_hotpath_cache_region_t  *region;
    ngx_http_hotpath_cache_bucket_t  *buckets;
    ngx_http_hotpath_cache_cell_t    *cells;
    uint64_t                          seed;
    uint32_t                          nstripes;
    uint32_t                          nbuckets;
    uint32_t                          ncells;
};


/* What a key leads to. */
typedef struct {
    uint64_t                          hash;
    uint32_t                          tag;
    ngx_http_hotpath_cache_stripe_t  *stripe;
    ngx_http_hotpath_cache_bucket_t  *bucket[2];
    ngx_http_hotpath_cache_cell_t    *cells;      /* the stripe's */
} ngx_http_hotpath_cache_place_t;


/* A buffer that a reader may need more than once. */
typedef struct {
    ngx_pool_t  *pool;
    u_char      *data;
    size_t       size;
} ngx_http_hotpath_cache_buffer_t;


static ngx_int_t ngx_http_hotpath_cache_init_zone(ngx_shm_zone_t *zone,
    void *data);
static void ngx_http_hotpath_cache_shape(
    ngx_http_hotpath_cache_region_t *region, uint64_t max_entry);
static uint64_t ngx_http_hotpath_cache_seed(void);
static void ngx_http_hotpath_cache_place(ngx_http_hotpath_cache_t *cache,
    ngx_str_t *key, ngx_http_hotpath_cache_place_t *place);
static void ngx_http_hotpath_cache_place_hash(ngx_http_hotpath_cache_t *cache,
    uint64_t hash, ngx_http_hotpath_cache_place_t *place);
static ngx_int_t ngx_http_hotpath_cache_lookup(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place,
    ngx_str_t *key, ngx_http_hotpath_cache_buffer_t *buffer,
    ngx_http_hotpath_cache_entry_t *entry);
static ngx_int_t ngx_http_hotpath_cache_read(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, uint32_t n, ngx_str_t *key,
    ngx_http_hotpath_cache_buffer_t *buffer,
    ngx_http_hotpath_cache_entry_t *entry);
static ngx_int_t ngx_http_hotpath_cache_put_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place,
    ngx_str_t *key, ngx_http_hotpath_cache_meta_t *meta, ngx_str_t *document);
static uint64_t *ngx_http_hotpath_cache_find_locked(
    ngx_http_hotpath_cache_place_t *place, ngx_str_t *key);
static uint64_t *ngx_http_hotpath_cache_slot_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place);
static void ngx_http_hotpath_cache_room_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place,
    uint32_t need, uint32_t keep, uint64_t now_ms);
static uint32_t ngx_http_hotpath_cache_write_locked(
    ngx_http_hotpath_cache_place_t *place,
    ngx_http_hotpath_cache_entry_t *entry, ngx_str_t *key,
    ngx_str_t *document);
static void ngx_http_hotpath_cache_evict_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place,
    uint32_t n);
static void ngx_http_hotpath_cache_unlink_locked(
    ngx_http_hotpath_cache_place_t *place, uint32_t n);
static void ngx_http_hotpath_cache_release_locked(
    ngx_http_hotpath_cache_place_t *place, uint32_t n);
static void ngx_http_hotpath_cache_reset_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place);


/* Its address tells our zones from those of others. */
static ngx_uint_t  ngx_http_hotpath_cache_tag;


/*
 * All bytes that a reader may copy while a writer changes them pass through
 * these. That is a race by the letter of the C standard; what was read is
 * thrown away where the sequence word has moved. ThreadSanitizer gets the same
 * code with atomic bytes, so that it sees every other race.
 */

static ngx_inline void
ngx_http_hotpath_cache_copy(void *dst, const void *src, size_t n)
{
#if (NGX_HTTP_HOTPATH_CACHE_TSAN)
    size_t         i;
    u_char        *d = dst;
    const u_char  *s = src;

    for (i = 0; i < n; i++) {
        __atomic_store_n(&d[i], __atomic_load_n(&s[i], __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    }
#else
    ngx_memcpy(dst, src, n);
#endif
}


static ngx_inline ngx_uint_t
ngx_http_hotpath_cache_same(const u_char *a, const u_char *b, size_t n)
{
#if (NGX_HTTP_HOTPATH_CACHE_TSAN)
    size_t  i;

    for (i = 0; i < n; i++) {
        if (__atomic_load_n(&a[i], __ATOMIC_RELAXED) != b[i]) {
            return 0;
        }
    }

    return 1;
#else
    return ngx_memcmp(a, b, n) == 0;
#endif
}


/* All lines of a cell at once: they come from memory one beside the other. */

static ngx_inline void
ngx_http_hotpath_cache_prefetch(const ngx_http_hotpath_cache_cell_t *cell)
{
    const u_char  *p = (const u_char *) cell;

    __builtin_prefetch(p);
    __builtin_prefetch(p + NGX_HTTP_HOTPATH_CACHE_LINE);
    __builtin_prefetch(p + 2 * NGX_HTTP_HOTPATH_CACHE_LINE);
    __builtin_prefetch(p + 3 * NGX_HTTP_HOTPATH_CACHE_LINE);
}


/* 1 where nothing was changed since the word was read. */

static ngx_inline ngx_uint_t
ngx_http_hotpath_cache_still(const uint32_t *word, uint32_t was)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);

    return __atomic_load_n(word, __ATOMIC_RELAXED) == was;
}


static ngx_inline void
ngx_http_hotpath_cache_begin(ngx_http_hotpath_cache_cell_t *cell)
{
    uint32_t  s;

    s = cell->sequence & ~(NGX_HTTP_HOTPATH_CACHE_STEP - 1);
    s += NGX_HTTP_HOTPATH_CACHE_STEP;

    __atomic_store_n(&cell->sequence, s | NGX_HTTP_HOTPATH_CACHE_WRITING,
                     __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}


static ngx_inline void
ngx_http_hotpath_cache_end(ngx_http_hotpath_cache_cell_t *cell, uint32_t flags)
{
    uint32_t  s;

    s = cell->sequence & ~(NGX_HTTP_HOTPATH_CACHE_STEP - 1);
    s += NGX_HTTP_HOTPATH_CACHE_STEP;

    __atomic_store_n(&cell->sequence, s | flags, __ATOMIC_RELEASE);
}


static ngx_inline uint32_t
ngx_http_hotpath_cache_cells(size_t len)
{
    if (len <= NGX_HTTP_HOTPATH_CACHE_FIRST) {
        return 1;
    }

    return 1 + (len - NGX_HTTP_HOTPATH_CACHE_FIRST
                + NGX_HTTP_HOTPATH_CACHE_MORE - 1)
               / NGX_HTTP_HOTPATH_CACHE_MORE;
}


char *
ngx_http_hotpath_cache_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    u_char                    *p;
    ssize_t                    size, max_entry;
    ngx_str_t                 *value, name, s;
    ngx_uint_t                 i;
    ngx_shm_zone_t            *zone;
    ngx_http_hotpath_cache_t  *cache;

    value = cf->args->elts;

    size = 0;
    max_entry = 0;
    ngx_str_null(&name);

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "zone=", 5) == 0) {

            name.data = value[i].data + 5;

            p = (u_char *) ngx_strchr(name.data, ':');

            if (p == NULL || p == name.data) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid zone size \"%V\"", &value[i]);
                return NGX_CONF_ERROR;
            }

            name.len = p - name.data;

            s.data = p + 1;
            s.len = value[i].data + value[i].len - s.data;

            size = ngx_parse_size(&s);

            if (size == NGX_ERROR) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid zone size \"%V\"", &value[i]);
                return NGX_CONF_ERROR;
            }

            if (size < NGX_HTTP_HOTPATH_CACHE_SIZE_MIN) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "zone \"%V\" is too small, it needs %uzk",
                                   &value[i], (size_t)
                                   NGX_HTTP_HOTPATH_CACHE_SIZE_MIN / 1024);
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_strncmp(value[i].data, "max_entry=", 10) == 0) {

            s.data = value[i].data + 10;
            s.len = value[i].len - 10;

            max_entry = ngx_parse_size(&s);

            if (max_entry < NGX_HTTP_HOTPATH_CACHE_ENTRY_MIN
                || max_entry > NGX_HTTP_HOTPATH_CACHE_ENTRY_MAX)
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid max_entry \"%V\", it must be "
                                   "%d to %d bytes", &value[i],
                                   NGX_HTTP_HOTPATH_CACHE_ENTRY_MIN,
                                   NGX_HTTP_HOTPATH_CACHE_ENTRY_MAX);
                return NGX_CONF_ERROR;
            }

            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    if (name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must have \"zone\" parameter", &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (max_entry > size / NGX_HTTP_HOTPATH_CACHE_LARGEST) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "max_entry is more than a sixteenth of zone \"%V\"",
                           &name);
        return NGX_CONF_ERROR;
    }

    if (max_entry == 0) {
        max_entry = ngx_min(size / NGX_HTTP_HOTPATH_CACHE_LARGEST,
                            NGX_HTTP_HOTPATH_CACHE_ENTRY_MAX);
    }

    cache = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_cache_t));
    if (cache == NULL) {
        return NGX_CONF_ERROR;
    }

    zone = ngx_shared_memory_add(cf, &name, size, &ngx_http_hotpath_cache_tag);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    if (zone->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "duplicate zone \"%V\"",
                           &name);
        return NGX_CONF_ERROR;
    }

    cache->zone = zone;
    cache->max_entry = max_entry;

    zone->init = ngx_http_hotpath_cache_init_zone;
    zone->data = cache;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_hotpath_cache_init_zone(ngx_shm_zone_t *zone, void *data)
{
    u_char                           *p;
    ngx_uint_t                        fresh;
    ngx_http_hotpath_cache_t         *cache;
    ngx_http_hotpath_cache_region_t  *region;

    cache = zone->data;

    region = ngx_http_hotpath_region_init(zone, NGX_HTTP_HOTPATH_CACHE_MAGIC,
                                          NGX_HTTP_HOTPATH_CACHE_LAYOUT,
                                          &fresh);
    if (region == NULL) {
        return NGX_ERROR;
    }

    if (fresh) {
        ngx_http_hotpath_cache_shape(region, cache->max_entry);
    }

    if (region->max_entry != cache->max_entry) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "cache zone \"%V\" uses max_entry %uL while previously "
                      "it used %uL: change its size as well, "
                      "which starts it empty",
                      &zone->shm.name, cache->max_entry, region->max_entry);
        return NGX_ERROR;
    }

    p = (u_char *) &region->stripe[region->stripes];
    cache->buckets = (ngx_http_hotpath_cache_bucket_t *) p;

    p += (size_t) region->stripes * region->buckets
         * sizeof(ngx_http_hotpath_cache_bucket_t);
    cache->cells = (ngx_http_hotpath_cache_cell_t *)
                           ngx_align_ptr(p, NGX_HTTP_HOTPATH_CACHE_CELL);

    cache->region = region;
    cache->seed = region->seed;
    cache->nstripes = region->stripes;
    cache->nbuckets = region->buckets;
    cache->ncells = region->cells;

    return NGX_OK;
}


_Static_assert(sizeof(ngx_http_hotpath_cache_cell_t)
               == NGX_HTTP_HOTPATH_CACHE_CELL
               && sizeof(ngx_http_hotpath_cache_stripe_t)
                  == 3 * NGX_HTTP_HOTPATH_CACHE_LINE
               && offsetof(ngx_http_hotpath_cache_region_t, stripe)
                  == 3 * NGX_HTTP_HOTPATH_CACHE_LINE,
               "the layout in shared memory is not the one described");


/* Once, in the master, before anybody else sees the region. */

static void
ngx_http_hotpath_cache_shape(ngx_http_hotpath_cache_region_t *region,
    uint64_t max_entry)
{
    size_t                            share;
    uint32_t                          n;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    n = NGX_HTTP_HOTPATH_CACHE_STRIPES;
    share = ngx_max(NGX_HTTP_HOTPATH_CACHE_LARGEST * max_entry,
                    NGX_HTTP_HOTPATH_CACHE_STRIPE_MIN);

    while (n > 1 && region->region.size / n < share) {
        n /= 2;
    }

    /* Twice as many slots as cells: four cells to a bucket, and one bucket for
     * what does not divide. */

    share = region->region.size - sizeof(ngx_http_hotpath_cache_region_t)
            - n * sizeof(ngx_http_hotpath_cache_stripe_t)
            - NGX_HTTP_HOTPATH_CACHE_CELL;
    share = share / n - sizeof(ngx_http_hotpath_cache_bucket_t);
    share /= NGX_HTTP_HOTPATH_CACHE_CELL
             + sizeof(ngx_http_hotpath_cache_bucket_t) / 4;

    region->cells = ngx_min(share, NGX_HTTP_HOTPATH_CACHE_NIL - 1);
    region->buckets = region->cells / 4 + 1;
    region->stripes = n;
    region->max_entry = max_entry;
    region->seed = ngx_http_hotpath_cache_seed();
    region->generation = 1;

    for (n = 0; n < region->stripes; n++) {
        stripe = &region->stripe[n];

        stripe->free = NGX_HTTP_HOTPATH_CACHE_NIL;
        stripe->newest = NGX_HTTP_HOTPATH_CACHE_NIL;
        stripe->oldest = NGX_HTTP_HOTPATH_CACHE_NIL;
        stripe->hand = NGX_HTTP_HOTPATH_CACHE_NIL;
    }
}


/* So that nobody can choose keys that fall into one bucket. */

static uint64_t
ngx_http_hotpath_cache_seed(void)
{
    uint64_t  seed;

    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed)) {
        seed = (uint64_t) ngx_http_hotpath_wall_us() * 0x9e3779b97f4a7c15ULL
               ^ (uint64_t) ngx_pid << 32
               ^ (uint64_t) ngx_http_hotpath_monotonic_ns();
    }

    return seed;
}


ngx_http_hotpath_cache_t *
ngx_http_hotpath_cache_find(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t        i;
    ngx_shm_zone_t   *zone;
    ngx_list_part_t  *part;

    part = &cf->cycle->shared_memory.part;
    zone = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return NULL;
            }

            part = part->next;
            zone = part->elts;
            i = 0;
        }

        if (zone[i].tag == &ngx_http_hotpath_cache_tag
            && zone[i].shm.name.len == name->len
            && ngx_strncmp(zone[i].shm.name.data, name->data, name->len) == 0)
        {
            return zone[i].data;
        }
    }
}


ngx_int_t
ngx_http_hotpath_cache_get(ngx_http_hotpath_cache_t *cache, ngx_str_t *key,
    ngx_pool_t *pool, ngx_http_hotpath_cache_meta_t *meta, ngx_str_t *document)
{
    ngx_int_t                        rc;
    ngx_uint_t                       i;
    ngx_http_hotpath_cache_entry_t   entry;
    ngx_http_hotpath_cache_place_t   place;
    ngx_http_hotpath_cache_buffer_t  buffer;

    buffer.pool = pool;
    buffer.data = NULL;
    buffer.size = 0;

    rc = NGX_DECLINED;

    ngx_http_hotpath_cache_place(cache, key, &place);

    for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_TRIES; i++) {

        rc = ngx_http_hotpath_cache_lookup(cache, &place, key, &buffer,
                                           &entry);
        if (rc == NGX_AGAIN) {
            ngx_cpu_pause();
            continue;
        }

        if (rc != NGX_OK) {
            break;
        }

        meta->version = entry.version;
        meta->modified_us = entry.modified_us;
        meta->stored_ms = entry.stored_ms;
        meta->fresh_ms = entry.fresh_ms;
        meta->stale_ms = entry.stale_ms;
        meta->negative = entry.negative;
        meta->trusted = entry.generation
                        == __atomic_load_n(&cache->region->generation,
                                           __ATOMIC_RELAXED);

        document->len = entry.document_len;
        document->data = entry.document_len ? buffer.data : NULL;

        return NGX_OK;
    }

    if (buffer.data) {
        (void) ngx_pfree(pool, buffer.data);
    }

    return rc == NGX_ERROR ? NGX_ERROR : NGX_DECLINED;
}


/* NGX_AGAIN: a writer came in between. */

static ngx_int_t
ngx_http_hotpath_cache_lookup(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, ngx_str_t *key,
    ngx_http_hotpath_cache_buffer_t *buffer,
    ngx_http_hotpath_cache_entry_t *entry)
{
    uint32_t    epoch, n;
    uint64_t    word;
    ngx_int_t   rc;
    ngx_uint_t  b, i;

    epoch = __atomic_load_n(&place->stripe->epoch, __ATOMIC_ACQUIRE);

    if (epoch & 1) {
        return NGX_AGAIN;
    }

    for (b = 0; b < 2; b++) {
        for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_SLOTS; i++) {

            word = __atomic_load_n(&(*place->bucket[b])[i], __ATOMIC_ACQUIRE);

            if ((uint32_t) (word >> 32) != place->tag) {
                continue;
            }

            /* an empty slot becomes the largest number */
            n = (uint32_t) word - 1;

            if (n >= cache->ncells) {
                continue;
            }

            rc = ngx_http_hotpath_cache_read(cache, place, n, key, buffer,
                                             entry);
            if (rc == NGX_DECLINED) {
                continue;
            }

            if (rc == NGX_OK
                && !ngx_http_hotpath_cache_still(&place->stripe->epoch, epoch))
            {
                return NGX_AGAIN;
            }

            return rc;
        }
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_hotpath_cache_read(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, uint32_t n, ngx_str_t *key,
    ngx_http_hotpath_cache_buffer_t *buffer,
    ngx_http_hotpath_cache_entry_t *entry)
{
    u_char                         *p, *dst;
    size_t                          left, room, size;
    uint32_t                        sequence;
    const u_char                   *k;
    ngx_http_hotpath_cache_cell_t  *head, *cell;

    head = &place->cells[n];

    ngx_http_hotpath_cache_prefetch(head);

    sequence = __atomic_load_n(&head->sequence, __ATOMIC_ACQUIRE);

    if ((sequence & (NGX_HTTP_HOTPATH_CACHE_WRITING
                     | NGX_HTTP_HOTPATH_CACHE_ENTRY))
        != NGX_HTTP_HOTPATH_CACHE_ENTRY)
    {
        return NGX_AGAIN;
    }

    ngx_http_hotpath_cache_copy(entry, &head->u.head.entry,
                           offsetof(ngx_http_hotpath_cache_entry_t, newer));

    /* From here on the lengths are those of one entry. */

    if (!ngx_http_hotpath_cache_still(&head->sequence, sequence)) {
        return NGX_AGAIN;
    }

    if (entry->hash != place->hash || entry->key_len != key->len) {
        return NGX_DECLINED;
    }

    cell = head;
    p = cell->u.head.bytes;
    room = NGX_HTTP_HOTPATH_CACHE_FIRST;

    k = key->data;
    left = key->len;
    dst = NULL;

    for ( ;; ) {

        size = ngx_min(left, room);

        if (dst) {
            ngx_http_hotpath_cache_copy(dst, p, size);
            dst += size;

        } else if (ngx_http_hotpath_cache_same(p, k, size)) {
            k += size;

        } else {
            return ngx_http_hotpath_cache_still(&head->sequence, sequence)
                   ? NGX_DECLINED : NGX_AGAIN;
        }

        p += size;
        room -= size;
        left -= size;

        if (left == 0) {

            if (dst || entry->document_len == 0) {
                break;
            }

            /* The key is done, the document follows. */

            if (buffer->size < entry->document_len) {

                if (buffer->data) {
                    (void) ngx_pfree(buffer->pool, buffer->data);
                }

                buffer->size = entry->document_len;
                buffer->data = ngx_pnalloc(buffer->pool, buffer->size);

                if (buffer->data == NULL) {
                    buffer->size = 0;
                    return NGX_ERROR;
                }
            }

            dst = buffer->data;
            left = entry->document_len;
        }

        if (room == 0) {

            n = __atomic_load_n(&cell->next, __ATOMIC_RELAXED);

            if (n >= cache->ncells) {
                return NGX_AGAIN;
            }

            cell = &place->cells[n];
            p = cell->u.bytes;
            room = NGX_HTTP_HOTPATH_CACHE_MORE;

            if (left > room) {
                n = __atomic_load_n(&cell->next, __ATOMIC_RELAXED);

                if (n < cache->ncells) {
                    ngx_http_hotpath_cache_prefetch(&place->cells[n]);
                }
            }
        }
    }

    if (!ngx_http_hotpath_cache_still(&head->sequence, sequence)) {
        return NGX_AGAIN;
    }

    if (!__atomic_load_n(&head->visited, __ATOMIC_RELAXED)) {
        __atomic_store_n(&head->visited, 1, __ATOMIC_RELAXED);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_cache_put(ngx_http_hotpath_cache_t *cache, ngx_str_t *key,
    ngx_http_hotpath_cache_meta_t *meta, ngx_str_t *document)
{
    ngx_int_t                        rc;
    ngx_http_hotpath_lock_t         *lock;
    ngx_http_hotpath_cache_place_t   place;

    if (key->len == 0
        || key->len > NGX_HTTP_HOTPATH_CACHE_KEY_MAX
        || document->len > cache->max_entry
        || key->len + document->len > cache->max_entry)
    {
        return NGX_DECLINED;
    }

    ngx_http_hotpath_cache_place(cache, key, &place);

    lock = &place.stripe->lock;

    rc = ngx_http_hotpath_lock(lock);

    if (rc == NGX_BUSY) {
        (void) __atomic_fetch_add(&cache->region->lock_busy, 1,
                                  __ATOMIC_RELAXED);
        return NGX_BUSY;
    }

    ngx_http_hotpath_lock_begin(lock);

    if (rc == NGX_ABORT) {
        ngx_http_hotpath_cache_reset_locked(cache, &place);
    }

    rc = ngx_http_hotpath_cache_put_locked(cache, &place, key, meta, document);

    ngx_http_hotpath_lock_end(lock);

    ngx_http_hotpath_unlock(lock);

    return rc;
}


void
ngx_http_hotpath_cache_distrust(ngx_http_hotpath_cache_t *cache)
{
    (void) __atomic_fetch_add(&cache->region->generation, 1, __ATOMIC_RELAXED);
}


void
ngx_http_hotpath_cache_stats(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_stats_t *stats)
{
    uint32_t                          i, used, nfree;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    ngx_memzero(stats, sizeof(ngx_http_hotpath_cache_stats_t));

    for (i = 0; i < cache->nstripes; i++) {
        stripe = &cache->region->stripe[i];

        stats->stores += __atomic_load_n(&stripe->stores, __ATOMIC_RELAXED);
        stats->refused_older += __atomic_load_n(&stripe->refused_older,
                                                __ATOMIC_RELAXED);
        stats->evictions += __atomic_load_n(&stripe->evictions,
                                            __ATOMIC_RELAXED);
        stats->resets += __atomic_load_n(&stripe->resets, __ATOMIC_RELAXED);
        stats->entries += __atomic_load_n(&stripe->entries, __ATOMIC_RELAXED);

        used = __atomic_load_n(&stripe->used, __ATOMIC_RELAXED);
        nfree = __atomic_load_n(&stripe->nfree, __ATOMIC_RELAXED);

        /* not of the same moment, perhaps */
        if (used > nfree) {
            stats->bytes_used += (uint64_t) NGX_HTTP_HOTPATH_CACHE_CELL
                                 * (used - nfree);
        }
    }

    stats->lock_busy = __atomic_load_n(&cache->region->lock_busy,
                                       __ATOMIC_RELAXED);
    stats->bytes_total = (uint64_t) NGX_HTTP_HOTPATH_CACHE_CELL
                         * cache->ncells * cache->nstripes;
}


ngx_str_t *
ngx_http_hotpath_cache_name(ngx_http_hotpath_cache_t *cache)
{
    return &cache->zone->shm.name;
}


static void
ngx_http_hotpath_cache_place(ngx_http_hotpath_cache_t *cache, ngx_str_t *key,
    ngx_http_hotpath_cache_place_t *place)
{
    ngx_http_hotpath_cache_place_hash(cache,
                           hp_hash64(key->data, key->len, cache->seed), place);
}


/* Stripe, tag and both buckets come from different bits. */

static void
ngx_http_hotpath_cache_place_hash(ngx_http_hotpath_cache_t *cache,
    uint64_t hash, ngx_http_hotpath_cache_place_t *place)
{
    size_t    n;
    uint64_t  other;

    n = hash & (cache->nstripes - 1);
    other = (hash ^ hash >> 29) * 0x9e3779b97f4a7c15ULL;

    place->hash = hash;
    place->tag = (uint32_t) (hash >> 6);
    place->stripe = &cache->region->stripe[n];
    place->bucket[0] = &cache->buckets[n * cache->nbuckets
                                  + ((hash >> 32) * cache->nbuckets >> 32)];
    place->bucket[1] = &cache->buckets[n * cache->nbuckets
                                  + ((other >> 32) * cache->nbuckets >> 32)];
    place->cells = &cache->cells[n * cache->ncells];
}


static ngx_int_t
ngx_http_hotpath_cache_put_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, ngx_str_t *key,
    ngx_http_hotpath_cache_meta_t *meta, ngx_str_t *document)
{
    uint32_t                          n, was;
    uint64_t                         *slot;
    ngx_http_hotpath_cache_entry_t    entry, *old;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    stripe = place->stripe;

    ngx_memzero(&entry, sizeof(ngx_http_hotpath_cache_entry_t));

    entry.hash = place->hash;
    entry.version = meta->version;
    entry.modified_us = meta->modified_us;
    entry.stored_ms = meta->stored_ms;
    entry.fresh_ms = meta->fresh_ms;
    entry.stale_ms = meta->stale_ms;
    entry.generation = __atomic_load_n(&cache->region->generation,
                                       __ATOMIC_RELAXED);
    entry.document_len = document->len;
    entry.key_len = key->len;
    entry.negative = meta->negative;

    slot = ngx_http_hotpath_cache_find_locked(place, key);
    old = NULL;
    was = NGX_HTTP_HOTPATH_CACHE_NIL;

    if (slot) {
        was = (uint32_t) *slot - 1;
        old = &place->cells[was].u.head.entry;

        if (entry.version == 0
            && (old->negative
                || old->generation != entry.generation
                || old->fresh_ms <= entry.stored_ms))
        {
            entry.version = old->version;
        }

        if (entry.version < old->version) {
            stripe->refused_older++;
            return NGX_ABORT;
        }
    }

    ngx_http_hotpath_cache_room_locked(cache, place,
                     ngx_http_hotpath_cache_cells(key->len + document->len),
                     was, meta->stored_ms);

    if (slot == NULL) {
        slot = ngx_http_hotpath_cache_slot_locked(cache, place);
    }

    n = ngx_http_hotpath_cache_write_locked(place, &entry, key, document);

    /* A new version keeps the place of the old one in the order. */

    if (old) {
        place->cells[n].u.head.entry.newer = old->newer;
        place->cells[n].u.head.entry.older = old->older;
        __atomic_store_n(&place->cells[n].visited,
                         __atomic_load_n(&place->cells[was].visited,
                                         __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);

        if (stripe->hand == was) {
            stripe->hand = n;
        }

    } else {
        place->cells[n].u.head.entry.newer = NGX_HTTP_HOTPATH_CACHE_NIL;
        place->cells[n].u.head.entry.older = stripe->newest;
        stripe->entries++;
    }

    old = &place->cells[n].u.head.entry;

    if (old->newer != NGX_HTTP_HOTPATH_CACHE_NIL) {
        place->cells[old->newer].u.head.entry.older = n;

    } else {
        stripe->newest = n;
    }

    if (old->older != NGX_HTTP_HOTPATH_CACHE_NIL) {
        place->cells[old->older].u.head.entry.newer = n;

    } else {
        stripe->oldest = n;
    }

    ngx_http_hotpath_cache_end(&place->cells[n], NGX_HTTP_HOTPATH_CACHE_ENTRY);

    __atomic_store_n(slot, (uint64_t) place->tag << 32 | (n + 1),
                     __ATOMIC_RELEASE);

    if (was != NGX_HTTP_HOTPATH_CACHE_NIL) {
        ngx_http_hotpath_cache_release_locked(place, was);
    }

    stripe->stores++;

    return NGX_OK;
}


static uint64_t *
ngx_http_hotpath_cache_find_locked(ngx_http_hotpath_cache_place_t *place,
    ngx_str_t *key)
{
    u_char                         *p, *k;
    size_t                          left, size;
    uint64_t                       *slot;
    ngx_uint_t                      b, i;
    ngx_http_hotpath_cache_cell_t  *cell;

    for (b = 0; b < 2; b++) {
        for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_SLOTS; i++) {

            slot = &(*place->bucket[b])[i];

            if (*slot == 0 || (uint32_t) (*slot >> 32) != place->tag) {
                continue;
            }

            cell = &place->cells[(uint32_t) *slot - 1];

            if (cell->u.head.entry.hash != place->hash
                || cell->u.head.entry.key_len != key->len)
            {
                continue;
            }

            p = cell->u.head.bytes;
            size = ngx_min(key->len, NGX_HTTP_HOTPATH_CACHE_FIRST);
            k = key->data;
            left = key->len;

            while (ngx_memcmp(p, k, size) == 0) {
                k += size;
                left -= size;

                if (left == 0) {
                    return slot;
                }

                cell = &place->cells[cell->next];
                p = cell->u.bytes;
                size = ngx_min(left, NGX_HTTP_HOTPATH_CACHE_MORE);
            }
        }
    }

    return NULL;
}


/* A free slot in one of both buckets; where there is none, one is made. */

static uint64_t *
ngx_http_hotpath_cache_slot_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place)
{
    uint64_t                       *slot, *victim;
    ngx_uint_t                      b, i;
    ngx_http_hotpath_cache_cell_t  *cell;

    victim = NULL;

    for (b = 0; b < 2; b++) {
        for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_SLOTS; i++) {

            slot = &(*place->bucket[b])[i];

            if (*slot == 0) {
                return slot;
            }

            cell = &place->cells[(uint32_t) *slot - 1];

            if (victim == NULL
                && !__atomic_load_n(&cell->visited, __ATOMIC_RELAXED))
            {
                victim = slot;
            }
        }
    }

    if (victim == NULL) {
        /* the hash decides, for want of anything better */
        victim = &(*place->bucket[place->hash >> 3 & 1])[place->hash & 7];
    }

    ngx_http_hotpath_cache_evict_locked(cache, place, (uint32_t) *victim - 1);

    return victim;
}


/*
 * SIEVE: the hand goes from the oldest entry to the newest, spares whatever was
 * visited since it came by last, and takes the first that was not. keep is not
 * taken. There is always enough to take: an entry is at most a sixteenth of
 * its stripe.
 */

static void
ngx_http_hotpath_cache_room_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, uint32_t need, uint32_t keep,
    uint64_t now_ms)
{
    uint32_t                          n, spare;
    ngx_http_hotpath_cache_cell_t    *cell;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    stripe = place->stripe;
    spare = NGX_HTTP_HOTPATH_CACHE_SPARE + 2 * need;

    while (stripe->nfree + (cache->ncells - stripe->used) < need) {

        n = stripe->hand;

        if (n == NGX_HTTP_HOTPATH_CACHE_NIL) {
            n = stripe->oldest;
        }

        cell = &place->cells[n];
        stripe->hand = cell->u.head.entry.newer;

        if (n == keep) {
            continue;
        }

        if (spare
            && __atomic_load_n(&cell->visited, __ATOMIC_RELAXED)
            && cell->u.head.entry.stale_ms > now_ms)
        {
            __atomic_store_n(&cell->visited, 0, __ATOMIC_RELAXED);
            spare--;
            continue;
        }

        ngx_http_hotpath_cache_evict_locked(cache, place, n);
    }
}


/* Gives the cell of a new entry, which is still marked as being written and
 * linked nowhere. Room was made before. */

static uint32_t
ngx_http_hotpath_cache_write_locked(ngx_http_hotpath_cache_place_t *place,
    ngx_http_hotpath_cache_entry_t *entry, ngx_str_t *key, ngx_str_t *document)
{
    u_char                           *p, *src;
    size_t                            left, room, size;
    uint32_t                          n, first, need;
    ngx_uint_t                        in_key;
    ngx_http_hotpath_cache_cell_t    *cell, *head;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    stripe = place->stripe;
    head = NULL;
    cell = NULL;
    first = NGX_HTTP_HOTPATH_CACHE_NIL;

    src = key->data;
    left = key->len;
    in_key = 1;

    need = ngx_http_hotpath_cache_cells(key->len + document->len);

    do {

        if (stripe->free != NGX_HTTP_HOTPATH_CACHE_NIL) {
            n = stripe->free;
            stripe->free = place->cells[n].next;
            stripe->nfree--;

        } else {
            n = stripe->used++;
        }

        if (cell) {
            __atomic_store_n(&cell->next, n, __ATOMIC_RELAXED);

            if (cell != head) {
                ngx_http_hotpath_cache_end(cell, 0);
            }
        }

        cell = &place->cells[n];

        ngx_http_hotpath_cache_begin(cell);

        if (head == NULL) {
            head = cell;
            first = n;
            ngx_http_hotpath_cache_copy(&cell->u.head.entry, entry,
                                      sizeof(ngx_http_hotpath_cache_entry_t));
            __atomic_store_n(&cell->visited, 0, __ATOMIC_RELAXED);
            p = cell->u.head.bytes;
            room = NGX_HTTP_HOTPATH_CACHE_FIRST;

        } else {
            p = cell->u.bytes;
            room = NGX_HTTP_HOTPATH_CACHE_MORE;
        }

        while (room) {

            size = ngx_min(left, room);
            ngx_http_hotpath_cache_copy(p, src, size);

            p += size;
            src += size;
            room -= size;
            left -= size;

            if (left == 0) {
                if (!in_key || document->len == 0) {
                    break;
                }

                in_key = 0;
                src = document->data;
                left = document->len;
            }
        }

        head->last = n;

    } while (--need);

    __atomic_store_n(&cell->next, NGX_HTTP_HOTPATH_CACHE_NIL,
                     __ATOMIC_RELAXED);

    if (cell != head) {
        ngx_http_hotpath_cache_end(cell, 0);
    }

    return first;
}


static void
ngx_http_hotpath_cache_evict_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, uint32_t n)
{
    uint64_t                         *slot, word;
    ngx_uint_t                        b, i;
    ngx_http_hotpath_cache_entry_t   *entry;
    ngx_http_hotpath_cache_place_t    victim;

    entry = &place->cells[n].u.head.entry;

    ngx_http_hotpath_cache_place_hash(cache, entry->hash, &victim);

    word = (uint64_t) victim.tag << 32 | (n + 1);

    for (b = 0; b < 2; b++) {
        for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_SLOTS; i++) {
            slot = &(*victim.bucket[b])[i];

            if (*slot == word) {
                __atomic_store_n(slot, 0, __ATOMIC_RELEASE);
            }
        }
    }

    ngx_http_hotpath_cache_unlink_locked(place, n);
    ngx_http_hotpath_cache_release_locked(place, n);

    place->stripe->entries--;
    place->stripe->evictions++;
}


static void
ngx_http_hotpath_cache_unlink_locked(ngx_http_hotpath_cache_place_t *place,
    uint32_t n)
{
    ngx_http_hotpath_cache_entry_t   *entry;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    stripe = place->stripe;
    entry = &place->cells[n].u.head.entry;

    if (stripe->hand == n) {
        stripe->hand = entry->newer;
    }

    if (entry->newer != NGX_HTTP_HOTPATH_CACHE_NIL) {
        place->cells[entry->newer].u.head.entry.older = entry->older;

    } else {
        stripe->newest = entry->older;
    }

    if (entry->older != NGX_HTTP_HOTPATH_CACHE_NIL) {
        place->cells[entry->older].u.head.entry.newer = entry->newer;

    } else {
        stripe->oldest = entry->newer;
    }
}


/* Gives an entry's cells back, all at once, however many. Readers that are in
 * there see its word move before any of the cells is used again. */

static void
ngx_http_hotpath_cache_release_locked(ngx_http_hotpath_cache_place_t *place,
    uint32_t n)
{
    ngx_http_hotpath_cache_cell_t    *head;
    ngx_http_hotpath_cache_entry_t   *entry;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    stripe = place->stripe;
    head = &place->cells[n];
    entry = &head->u.head.entry;

    ngx_http_hotpath_cache_end(head, 0);

    __atomic_store_n(&place->cells[head->last].next, stripe->free,
                     __ATOMIC_RELAXED);

    stripe->free = n;
    stripe->nfree += ngx_http_hotpath_cache_cells((size_t) entry->key_len
                                                  + entry->document_len);
}


/* Whoever held the lock died while it changed something. Cells keep their
 * sequence words: those only grow. */

static void
ngx_http_hotpath_cache_reset_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place)
{
    size_t                            n;
    uint32_t                          epoch;
    uint64_t                         *slot;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    stripe = place->stripe;

    /* It may have died in here, too: then the epoch is odd already. */

    epoch = (stripe->epoch + 1) | 1;

    __atomic_store_n(&stripe->epoch, epoch, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);

    slot = &cache->buckets[(stripe - cache->region->stripe)
                           * (size_t) cache->nbuckets][0];

    n = (size_t) cache->nbuckets * NGX_HTTP_HOTPATH_CACHE_SLOTS;

    while (n--) {
        __atomic_store_n(slot++, 0, __ATOMIC_RELAXED);
    }

    stripe->free = NGX_HTTP_HOTPATH_CACHE_NIL;
    stripe->nfree = 0;
    stripe->used = 0;
    stripe->newest = NGX_HTTP_HOTPATH_CACHE_NIL;
    stripe->oldest = NGX_HTTP_HOTPATH_CACHE_NIL;
    stripe->hand = NGX_HTTP_HOTPATH_CACHE_NIL;
    stripe->entries = 0;
    stripe->resets++;

    __atomic_store_n(&stripe->epoch, epoch + 1, __ATOMIC_RELEASE);
}
