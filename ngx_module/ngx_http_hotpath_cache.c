/*
 * ngx_http_hotpath_cache.c: documents in shared memory, read without a lock.
 *
 * A zone is stripes; a stripe is buckets, ghosts and cells; an entry is a chain
 * of cells: its key, tags, head and body in a row, each coded body from the
 * start of a cell of its own. The map is in ngx_module/README.md ("The cache
 * zone").
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
 * Memory is what a look-up costs: one line of a bucket, then the first cell,
 * whose lines come together; it names the next AHEAD cells, and each of those
 * one further on, so that a chain that lies anywhere is fetched as if it lay in
 * a row.
 *
 * Writers hold the lock of one stripe, whose dirty flag is set while they
 * change it: where one was killed in there, the next one empties the stripe. A
 * new version is written beside the old one and swapped in with one store, so
 * that readers of a hot key never find it missing; what a purge takes and what
 * coded bodies add is changed in place, for which readers begin again. A key
 * lives in one of two buckets, the first that has room. Eviction is S3-FIFO,
 * see room_locked(); how long it looks for a victim is bounded by the size of
 * what comes in.
 *
 * Runs in workers (all but the directive) and, while a configuration is read,
 * in the master. Never blocks, never calls the system under the lock. Tests:
 * tests/unit/test_cache*.c, cache_threads.c and tests/fuzz/fuzz_cache.c; speed:
 * tests/bench/cache.c and million.py; hit ratios: tests/bench/eviction.c. Long
 * because readers without a lock and writers under one are correct only
 * together: the order of their stores and loads is to be checked in one place.
 */
#include "ngx_http_hotpath_cache.h"
#include "core/hp_http.h"
#include "core/hp_id.h"
#include <sys/random.h>


#define NGX_HTTP_HOTPATH_CACHE_MAGIC       0x3165686361435048ULL /* HPCache1 */
#define NGX_HTTP_HOTPATH_CACHE_LAYOUT      2

#define NGX_HTTP_HOTPATH_CACHE_SIZE_MIN    (256 * 1024)
#define NGX_HTTP_HOTPATH_CACHE_KEY_MAX     1200
#define NGX_HTTP_HOTPATH_CACHE_ENTRY_MAX   (1024 * 1024                       \
                                            + NGX_HTTP_HOTPATH_CACHE_KEY_MAX)
#define NGX_HTTP_HOTPATH_CACHE_ENTRY_MIN   64

/* A stripe holds at least so many of the largest entries. */
#define NGX_HTTP_HOTPATH_CACHE_LARGEST     16

#define NGX_HTTP_HOTPATH_CACHE_STRIPES     64
#define NGX_HTTP_HOTPATH_CACHE_STRIPE_MIN  65536
#define NGX_HTTP_HOTPATH_CACHE_CELL        384
#define NGX_HTTP_HOTPATH_CACHE_SLOTS       16

/* Cells for which there is one bucket, and one line of ghosts: eight slots for
 * five cells, and as many ghosts as the main queue may have entries. */
#define NGX_HTTP_HOTPATH_CACHE_PER_BUCKET  10
#define NGX_HTTP_HOTPATH_CACHE_PER_GHOSTS  20
#define NGX_HTTP_HOTPATH_CACHE_CELLS_MAX   ((1 << 24) - 1)

/* Cells that are brought here while others are read. */
#define NGX_HTTP_HOTPATH_CACHE_AHEAD       5

/* The small queue's share of a stripe's cells is one in so many. */
#define NGX_HTTP_HOTPATH_CACHE_SMALL_PART  4

/* A reader that was overtaken by writers so often takes it for a miss. */
#define NGX_HTTP_HOTPATH_CACHE_TRIES       16

/* Entries that one put may move on because they were used, besides two for
 * every cell it needs. */
#define NGX_HTTP_HOTPATH_CACHE_SPARE       64

/* Cells that a walk looks at under one hold of a lock. */
#define NGX_HTTP_HOTPATH_CACHE_SLICE       32

#define NGX_HTTP_HOTPATH_CACHE_NIL         ((uint32_t) -1)

/* Queues of a stripe. */
#define NGX_HTTP_HOTPATH_CACHE_SMALL       0
#define NGX_HTTP_HOTPATH_CACHE_MAIN        1

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

/* What is written under a lock and looked at by anybody: on purpose, or where
 * it is what a cell holds now, and a reader is not yet out of what it held. */
#define ngx_http_hotpath_cache_set(p, n)                                      \
    __atomic_store_n(p, n, __ATOMIC_RELAXED)
#define ngx_http_hotpath_cache_add(p, n)                                      \
    ngx_http_hotpath_cache_set(p, *(p) + (n))

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
    uint64_t  revalidate_ms;
    uint64_t  stale_ms;
    uint32_t  generation;      /* of the zone when it was put; 0: not trusted */
    uint32_t  body_len;        /* 0 to max_entry, and so are the next two */
    uint32_t  gzip_len;        /* 0: not there */
    uint32_t  br_len;          /* 0: not there */
    uint32_t  gzip;            /* cell where it starts, if it is there */
    uint32_t  br;              /* likewise */
    uint32_t  ahead[NGX_HTTP_HOTPATH_CACHE_AHEAD - 1];
                               /* the second of its other cells and those that
                                  follow, as many as it has */
    uint16_t  key_len;         /* 1 to 1200 */
    uint16_t  head_len;        /* 0 to 16384 */
    uint8_t   negative;        /* 0, 1 */
    uint8_t   tags;            /* 0 to 16 */
    uint16_t  reserved;
    uint32_t  newer;           /* cells of the neighbours in its queue, or */
    uint32_t  older;           /* NIL; under the lock */
} ngx_http_hotpath_cache_entry_t;


typedef struct {
    uint32_t  sequence;        /* changes counted in steps, and two bits */
    uint32_t  next;            /* cell with what follows, or next free cell */
    uint32_t  far;             /* of an entry: its last cell, under the lock;
                                  of another: the cell AHEAD cells on, where
                                  the part goes on so far */
    uint8_t   visited;         /* 0, 1; set by readers, else under the lock */
    uint8_t   queue;           /* of an entry: which; under the lock */
    uint16_t  reserved;

    union {
        struct {
            ngx_http_hotpath_cache_entry_t  entry;
            u_char                          bytes[NGX_HTTP_HOTPATH_CACHE_CELL
                                                  - 128];
        } head;

        u_char  bytes[NGX_HTTP_HOTPATH_CACHE_CELL - 16];
    } u;
} ngx_http_hotpath_cache_cell_t;


/* A cell + 1 in the low bits, as many as it takes, a tag above; or 0. Written
 * under the lock, by one store. */
typedef uint32_t  ngx_http_hotpath_cache_bucket_t[NGX_HTTP_HOTPATH_CACHE_SLOTS];

/* Hashes of keys that were in the small queue once, the youngest first. Under
 * the lock; of no consequence but to what is evicted. */
typedef uint32_t  ngx_http_hotpath_cache_ghosts_t[NGX_HTTP_HOTPATH_CACHE_SLOTS];


typedef struct {
    uint32_t  newest;          /* NIL without entries, and so is the next */
    uint32_t  oldest;
    uint32_t  cells;
    uint32_t  entries;
} ngx_http_hotpath_cache_queue_t;


typedef struct {
    ngx_http_hotpath_lock_t         lock;

    /* A line of its own: every reader reads it, only a reset writes it. */
    uint32_t                        epoch;  /* odd: being emptied */
    u_char                          pad1[NGX_HTTP_HOTPATH_CACHE_LINE
                                         - sizeof(uint32_t)];

    /* Read and written under the lock; statistics are read without it. */
    uint32_t                        free;   /* first free cell, or NIL */
    uint32_t                        nfree;
    uint32_t                        used;   /* cells from here on were never
                                               in use since the last reset */
    uint32_t                        reserved;
    ngx_http_hotpath_cache_queue_t  queue[2];
    u_char                          pad2[NGX_HTTP_HOTPATH_CACHE_LINE
                                         - 12 * sizeof(uint32_t)];

    uint64_t                        stores;
    uint64_t                        refused_older;
    uint64_t                        evictions;
    uint64_t                        resets;
    u_char                          pad3[NGX_HTTP_HOTPATH_CACHE_LINE
                                         - 4 * sizeof(uint64_t)];
} ngx_http_hotpath_cache_stripe_t;


typedef struct {
    ngx_http_hotpath_region_t  region;

    /* Written when the region is made. */
    uint64_t                   seed;
    uint64_t                   max_entry;   /* bytes of key and all parts */
    uint32_t                   stripes;     /* power of two */
    uint32_t                   cells;       /* of one stripe */
    uint32_t                   reserved;

    uint32_t                   warm;        /* 0, 1; set by anybody, once */

    /* generation << 32 | purges: what there was to make entries lose their
     * trust. Both count up, by anybody, atomically; every reader reads it. */
    uint64_t                   begun;
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
    ngx_http_hotpath_cache_ghosts_t  *ghosts;
    ngx_http_hotpath_cache_cell_t    *cells;
    uint64_t                          seed;
    uint32_t                          nstripes;
    uint32_t                          nbuckets;   /* of one stripe */
    uint32_t                          nghosts;    /* likewise: lines of them */
    uint32_t                          ncells;     /* likewise */
    uint32_t                          mask;       /* of the cell in a slot */
};


/* What a key leads to. */
typedef struct {
    uint64_t                          hash;
    uint32_t                          tag;        /* where slots have it */
    uint32_t                          ghost;
    ngx_http_hotpath_cache_stripe_t  *stripe;
    ngx_http_hotpath_cache_bucket_t  *bucket[2];
    ngx_http_hotpath_cache_ghosts_t  *ghosts;
    ngx_http_hotpath_cache_cell_t    *cells;      /* the stripe's */
} ngx_http_hotpath_cache_place_t;


/* A buffer that a reader may need more than once: for the head, and for the
 * body where the caller's room has not enough. */
typedef struct {
    ngx_pool_t  *pool;
    ngx_str_t   *room;                 /* or NULL */
    u_char      *data;
    size_t       size;
    u_char      *body;                 /* where it is */
} ngx_http_hotpath_cache_buffer_t;


/* A way along an entry's cells, for its readers and for who fills it. */
typedef struct {
    ngx_http_hotpath_cache_place_t  *place;
    ngx_http_hotpath_cache_cell_t   *cell;
    u_char                          *p;     /* next byte in the cell */
    size_t                           room;  /* bytes from there on */
    uint32_t                         ncells;

    /* of who fills it */
    ngx_http_hotpath_cache_entry_t  *entry; /* NULL in a coded body */
    uint32_t                         n;     /* the cell */
    uint32_t                         count; /* of the part's cells so far */
    uint32_t                         recent[NGX_HTTP_HOTPATH_CACHE_AHEAD];
} ngx_http_hotpath_cache_cursor_t;


static ngx_int_t ngx_http_hotpath_cache_init_zone(ngx_shm_zone_t *zone,
    void *data);
static void ngx_http_hotpath_cache_shape(
    ngx_http_hotpath_cache_region_t *region, uint64_t max_entry);
static void ngx_http_hotpath_cache_empty(
    ngx_http_hotpath_cache_stripe_t *stripe);
static uint64_t ngx_http_hotpath_cache_seed(void);
static ngx_int_t ngx_http_hotpath_cache_lookup(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place,
    ngx_str_t *key, ngx_uint_t codings,
    ngx_http_hotpath_cache_buffer_t *buffer,
    ngx_http_hotpath_cache_entry_t *entry);
static ngx_int_t ngx_http_hotpath_cache_read(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, uint32_t n, ngx_str_t *key,
    ngx_uint_t codings, ngx_http_hotpath_cache_buffer_t *buffer,
    ngx_http_hotpath_cache_entry_t *entry);
static ngx_int_t ngx_http_hotpath_cache_lock(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_stripe_t *stripe);
static ngx_int_t ngx_http_hotpath_cache_put_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place,
    ngx_str_t *key, ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content);
static ngx_int_t ngx_http_hotpath_cache_codings_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place,
    uint32_t n, ngx_str_t *gzip, ngx_str_t *br);
static ngx_int_t ngx_http_hotpath_cache_purge_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_stripe_t *stripe,
    ngx_http_hotpath_cache_cell_t *cell, ngx_uint_t hard);
static void ngx_http_hotpath_cache_meet_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_walk_t *walk,
    ngx_uint_t stripe, uint32_t n);
static uint32_t *ngx_http_hotpath_cache_find_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place,
    ngx_str_t *key);
static uint32_t *ngx_http_hotpath_cache_slot_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place);
static void ngx_http_hotpath_cache_room_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place,
    uint32_t need, uint32_t keep, uint64_t now_ms);
static uint32_t ngx_http_hotpath_cache_write_locked(
    ngx_http_hotpath_cache_place_t *place,
    ngx_http_hotpath_cache_entry_t *entry, ngx_str_t *key,
    ngx_http_hotpath_cache_content_t *content);
static uint32_t ngx_http_hotpath_cache_coded_locked(
    ngx_http_hotpath_cache_cursor_t *cursor,
    ngx_http_hotpath_cache_cell_t *head, ngx_str_t *coded);
static uint32_t ngx_http_hotpath_cache_grow_locked(
    ngx_http_hotpath_cache_cursor_t *cursor,
    ngx_http_hotpath_cache_cell_t *head);
static void ngx_http_hotpath_cache_fill_locked(
    ngx_http_hotpath_cache_cursor_t *cursor,
    ngx_http_hotpath_cache_cell_t *head, const void *data, size_t len);
static void ngx_http_hotpath_cache_full_locked(
    ngx_http_hotpath_cache_cursor_t *cursor,
    ngx_http_hotpath_cache_cell_t *head);
static void ngx_http_hotpath_cache_evict_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place,
    uint32_t n, ngx_uint_t ghost);
static ngx_uint_t ngx_http_hotpath_cache_recall_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_place_t *place);
static void ngx_http_hotpath_cache_remember_locked(
    ngx_http_hotpath_cache_place_t *place);
static void ngx_http_hotpath_cache_link_locked(
    ngx_http_hotpath_cache_place_t *place, uint32_t n, ngx_uint_t queue);
static void ngx_http_hotpath_cache_relink_locked(
    ngx_http_hotpath_cache_place_t *place, uint32_t was, uint32_t n);
static void ngx_http_hotpath_cache_unlink_locked(
    ngx_http_hotpath_cache_place_t *place, uint32_t n);
static void ngx_http_hotpath_cache_release_locked(
    ngx_http_hotpath_cache_place_t *place, uint32_t n);
static void ngx_http_hotpath_cache_reset_locked(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_cache_stripe_t *stripe);


/* Its address tells our zones from those of others. */
static ngx_uint_t  ngx_http_hotpath_cache_zone_tag;


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


/* All lines of a cell at once: they come from memory one beside the other. Not
 * a function by itself: gcc sees no effect in one, and leaves its calls out. */

static ngx_inline __attribute__((always_inline)) void
ngx_http_hotpath_cache_prefetch(const ngx_http_hotpath_cache_cell_t *cell)
{
    const u_char  *p = (const u_char *) cell;

    __builtin_prefetch(p);
    __builtin_prefetch(p + NGX_HTTP_HOTPATH_CACHE_LINE);
    __builtin_prefetch(p + 2 * NGX_HTTP_HOTPATH_CACHE_LINE);
    __builtin_prefetch(p + 3 * NGX_HTTP_HOTPATH_CACHE_LINE);
    __builtin_prefetch(p + 4 * NGX_HTTP_HOTPATH_CACHE_LINE);
    __builtin_prefetch(p + 5 * NGX_HTTP_HOTPATH_CACHE_LINE);
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


/* Stripe, tag and buckets come from different bits, ghosts and their line too.
 */

static ngx_inline void
ngx_http_hotpath_cache_place_hash(ngx_http_hotpath_cache_t *cache,
    uint64_t hash, ngx_http_hotpath_cache_place_t *place)
{
    size_t    n;
    uint64_t  other;

    n = hash & (cache->nstripes - 1);
    other = (hash ^ hash >> 29) * 0x9e3779b97f4a7c15ULL;

    place->hash = hash;
    place->tag = (uint32_t) (hash >> 6) * (cache->mask + 1);
    place->ghost = (uint32_t) (hash >> 32) | 1;
    place->stripe = &cache->region->stripe[n];
    place->bucket[0] = &cache->buckets[n * cache->nbuckets
                                  + ((hash >> 32) * cache->nbuckets >> 32)];
    place->bucket[1] = &cache->buckets[n * cache->nbuckets
                                  + ((other >> 32) * cache->nbuckets >> 32)];
    place->ghosts = &cache->ghosts[n * cache->nghosts
                          + ((other & 0xffffffff) * cache->nghosts >> 32)];
    place->cells = &cache->cells[n * cache->ncells];
}


static ngx_inline void
ngx_http_hotpath_cache_place(ngx_http_hotpath_cache_t *cache, ngx_str_t *key,
    ngx_http_hotpath_cache_place_t *place)
{
    ngx_http_hotpath_cache_place_hash(cache,
                           hp_hash64(key->data, key->len, cache->seed), place);
}


/* How many cells that are no entry's first so many bytes take. */

static ngx_inline uint32_t
ngx_http_hotpath_cache_more(size_t len)
{
    return (len + NGX_HTTP_HOTPATH_CACHE_MORE - 1)
           / NGX_HTTP_HOTPATH_CACHE_MORE;
}


/* How many an entry takes. */

static ngx_inline uint32_t
ngx_http_hotpath_cache_cells(const ngx_http_hotpath_cache_entry_t *entry)
{
    size_t  len;

    len = entry->key_len + entry->tags * sizeof(uint64_t) + entry->head_len
          + entry->body_len;

    return 1 + (len > NGX_HTTP_HOTPATH_CACHE_FIRST
                ? ngx_http_hotpath_cache_more(
                                        len - NGX_HTTP_HOTPATH_CACHE_FIRST)
                : 0)
           + ngx_http_hotpath_cache_more(entry->gzip_len)
           + ngx_http_hotpath_cache_more(entry->br_len);
}


static ngx_inline uint32_t
ngx_http_hotpath_cache_generation(ngx_http_hotpath_cache_t *cache)
{
    return __atomic_load_n(&cache->region->begun, __ATOMIC_RELAXED) >> 32;
}


static ngx_inline ngx_uint_t
ngx_http_hotpath_cache_coding(const ngx_http_hotpath_cache_entry_t *entry,
    ngx_uint_t codings)
{
    if ((codings & HP_CODING_BR) && entry->br_len) {
        return HP_CODING_BR;
    }

    if ((codings & HP_CODING_GZIP) && entry->gzip_len) {
        return HP_CODING_GZIP;
    }

    return HP_CODING_IDENTITY;
}


static ngx_inline uint32_t
ngx_http_hotpath_cache_body_len(const ngx_http_hotpath_cache_entry_t *entry,
    ngx_uint_t coding)
{
    switch (coding) {

    case HP_CODING_BR:
        return entry->br_len;

    case HP_CODING_GZIP:
        return entry->gzip_len;

    default:
        return entry->body_len;
    }
}


/* A cursor at the first byte of an entry's key. */

static ngx_inline void
ngx_http_hotpath_cache_start(ngx_http_hotpath_cache_cursor_t *cursor,
    ngx_http_hotpath_cache_cell_t *head, ngx_http_hotpath_cache_place_t *place,
    uint32_t ncells)
{
    cursor->place = place;
    cursor->cell = head;
    cursor->p = head->u.head.bytes;
    cursor->room = NGX_HTTP_HOTPATH_CACHE_FIRST;
    cursor->ncells = ncells;
}


/* What is wanted does not end in the entry's first cell: has the next ones
 * brought here. left: from the second on. */

static ngx_inline void
ngx_http_hotpath_cache_ahead(ngx_http_hotpath_cache_cursor_t *cursor,
    ngx_http_hotpath_cache_entry_t *entry, size_t left)
{
    uint32_t    n;
    ngx_uint_t  i;

    n = __atomic_load_n(&cursor->cell->next, __ATOMIC_RELAXED);

    for (i = 0; n < cursor->ncells; i++) {

        ngx_http_hotpath_cache_prefetch(&cursor->place->cells[n]);

        if (i == NGX_HTTP_HOTPATH_CACHE_AHEAD - 1
            || left <= NGX_HTTP_HOTPATH_CACHE_MORE)
        {
            break;
        }

        left -= NGX_HTTP_HOTPATH_CACHE_MORE;
        n = entry->ahead[i];
    }
}


/* At the first byte of cell n. NGX_AGAIN: there is no such cell, so that what
 * led there was not of one moment. left: what is still wanted. */

static ngx_inline ngx_int_t
ngx_http_hotpath_cache_jump(ngx_http_hotpath_cache_cursor_t *cursor, uint32_t n,
    size_t left)
{
    if (n >= cursor->ncells) {
        return NGX_AGAIN;
    }

    cursor->cell = &cursor->place->cells[n];
    cursor->p = cursor->cell->u.bytes;
    cursor->room = NGX_HTTP_HOTPATH_CACHE_MORE;

    if (left > NGX_HTTP_HOTPATH_CACHE_AHEAD * NGX_HTTP_HOTPATH_CACHE_MORE) {
        n = __atomic_load_n(&cursor->cell->far, __ATOMIC_RELAXED);

        if (n < cursor->ncells) {
            ngx_http_hotpath_cache_prefetch(&cursor->place->cells[n]);
        }
    }

    return NGX_OK;
}


/* Copies the next len bytes, or goes past them where dst is NULL. */

static ngx_inline ngx_int_t
ngx_http_hotpath_cache_take(ngx_http_hotpath_cache_cursor_t *cursor,
    void *dst, size_t len)
{
    size_t   size;
    u_char  *d = dst;

    for ( ;; ) {

        size = ngx_min(len, cursor->room);

        if (d) {
            ngx_http_hotpath_cache_copy(d, cursor->p, size);
            d += size;
        }

        cursor->p += size;
        cursor->room -= size;
        len -= size;

        if (len == 0) {
            return NGX_OK;
        }

        if (ngx_http_hotpath_cache_jump(cursor,
                      __atomic_load_n(&cursor->cell->next, __ATOMIC_RELAXED),
                      len)
            != NGX_OK)
        {
            return NGX_AGAIN;
        }
    }
}


/* NGX_DECLINED: the next bytes are others. */

static ngx_inline ngx_int_t
ngx_http_hotpath_cache_match(ngx_http_hotpath_cache_cursor_t *cursor,
    const u_char *data, size_t len)
{
    size_t  size;

    for ( ;; ) {

        size = ngx_min(len, cursor->room);

        if (!ngx_http_hotpath_cache_same(cursor->p, data, size)) {
            return NGX_DECLINED;
        }

        data += size;
        cursor->p += size;
        cursor->room -= size;
        len -= size;

        if (len == 0) {
            return NGX_OK;
        }

        if (ngx_http_hotpath_cache_jump(cursor,
                      __atomic_load_n(&cursor->cell->next, __ATOMIC_RELAXED),
                      len)
            != NGX_OK)
        {
            return NGX_AGAIN;
        }
    }
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

    zone = ngx_shared_memory_add(cf, &name, size,
                                 &ngx_http_hotpath_cache_zone_tag);
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

    cache->region = region;
    cache->seed = region->seed;
    cache->nstripes = region->stripes;
    cache->ncells = region->cells;
    cache->nbuckets = region->cells / NGX_HTTP_HOTPATH_CACHE_PER_BUCKET + 1;
    cache->nghosts = region->cells / NGX_HTTP_HOTPATH_CACHE_PER_GHOSTS + 1;

    for (cache->mask = 1; cache->mask < cache->ncells; /* void */ ) {
        cache->mask = cache->mask << 1 | 1;
    }

    cache->buckets = (ngx_http_hotpath_cache_bucket_t *)
                                          &region->stripe[cache->nstripes];
    cache->ghosts = (ngx_http_hotpath_cache_ghosts_t *)
        &cache->buckets[(size_t) cache->nstripes * cache->nbuckets];
    cache->cells = (ngx_http_hotpath_cache_cell_t *)
        &cache->ghosts[(size_t) cache->nstripes * cache->nghosts];

    return NGX_OK;
}


_Static_assert(sizeof(ngx_http_hotpath_cache_cell_t)
               == NGX_HTTP_HOTPATH_CACHE_CELL
               && sizeof(ngx_http_hotpath_cache_stripe_t)
                  == 4 * NGX_HTTP_HOTPATH_CACHE_LINE
               && sizeof(ngx_http_hotpath_cache_bucket_t)
                  == NGX_HTTP_HOTPATH_CACHE_LINE
               && 60 % NGX_HTTP_HOTPATH_CACHE_PER_BUCKET == 0
               && 60 % NGX_HTTP_HOTPATH_CACHE_PER_GHOSTS == 0
               && offsetof(ngx_http_hotpath_cache_region_t, stripe)
                  == 3 * NGX_HTTP_HOTPATH_CACHE_LINE,
               "the layout in shared memory is not the one described");


/* Once, in the master, before anybody else sees the region. */

static void
ngx_http_hotpath_cache_shape(ngx_http_hotpath_cache_region_t *region,
    uint64_t max_entry)
{
    size_t    share;
    uint32_t  n;

    n = NGX_HTTP_HOTPATH_CACHE_STRIPES;
    share = ngx_max(NGX_HTTP_HOTPATH_CACHE_LARGEST * max_entry,
                    NGX_HTTP_HOTPATH_CACHE_STRIPE_MIN);

    while (n > 1 && region->region.size / n < share) {
        n /= 2;
    }

    /* What the cells take with their buckets and ghosts; one more line of
     * each for what does not divide. */

    share = region->region.size - sizeof(ngx_http_hotpath_cache_region_t)
            - n * sizeof(ngx_http_hotpath_cache_stripe_t);
    share = share / n - 2 * NGX_HTTP_HOTPATH_CACHE_LINE;
    share = share * 60
            / (60 * NGX_HTTP_HOTPATH_CACHE_CELL
               + 60 / NGX_HTTP_HOTPATH_CACHE_PER_BUCKET
                 * NGX_HTTP_HOTPATH_CACHE_LINE
               + 60 / NGX_HTTP_HOTPATH_CACHE_PER_GHOSTS
                 * NGX_HTTP_HOTPATH_CACHE_LINE);

    region->cells = ngx_min(share, NGX_HTTP_HOTPATH_CACHE_CELLS_MAX);
    region->stripes = n;
    region->max_entry = max_entry;
    region->seed = ngx_http_hotpath_cache_seed();
    region->begun = (uint64_t) 1 << 32;

    for (n = 0; n < region->stripes; n++) {
        ngx_http_hotpath_cache_empty(&region->stripe[n]);
    }
}


/* A stripe without entries, but for its buckets. */

static void
ngx_http_hotpath_cache_empty(ngx_http_hotpath_cache_stripe_t *stripe)
{
    ngx_uint_t  i;

    stripe->free = NGX_HTTP_HOTPATH_CACHE_NIL;
    ngx_http_hotpath_cache_set(&stripe->nfree, 0);
    ngx_http_hotpath_cache_set(&stripe->used, 0);

    for (i = 0; i < 2; i++) {
        stripe->queue[i].newest = NGX_HTTP_HOTPATH_CACHE_NIL;
        stripe->queue[i].oldest = NGX_HTTP_HOTPATH_CACHE_NIL;
        stripe->queue[i].cells = 0;
        ngx_http_hotpath_cache_set(&stripe->queue[i].entries, 0);
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
    ngx_uint_t                 n;
    ngx_str_t                 *found;
    ngx_http_hotpath_cache_t  *cache;

    for (n = 0; /* void */ ; n++) {
        cache = ngx_http_hotpath_cache_each(cf->cycle, n);

        if (cache == NULL) {
            return NULL;
        }

        found = &cache->zone->shm.name;

        if (found->len == name->len
            && ngx_strncmp(found->data, name->data, name->len) == 0)
        {
            return cache;
        }
    }
}


ngx_http_hotpath_cache_t *
ngx_http_hotpath_cache_each(ngx_cycle_t *cycle, ngx_uint_t n)
{
    ngx_uint_t        i;
    ngx_shm_zone_t   *zone;
    ngx_list_part_t  *part;

    for (part = &cycle->shared_memory.part; part; part = part->next) {
        zone = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (zone[i].tag == &ngx_http_hotpath_cache_zone_tag && n-- == 0) {
                return zone[i].data;
            }
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_hotpath_cache_get(ngx_http_hotpath_cache_t *cache, ngx_str_t *key,
    ngx_uint_t codings, ngx_pool_t *pool, ngx_str_t *room,
    ngx_http_hotpath_copy_t *copy)
{
    ngx_int_t                        rc;
    ngx_uint_t                       i;
    ngx_http_hotpath_cache_entry_t   entry;
    ngx_http_hotpath_cache_place_t   place;
    ngx_http_hotpath_cache_buffer_t  buffer;

    buffer.pool = pool;
    buffer.room = room;
    buffer.data = NULL;
    buffer.size = 0;

    rc = NGX_DECLINED;

    ngx_http_hotpath_cache_place(cache, key, &place);

    for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_TRIES; i++) {

        rc = ngx_http_hotpath_cache_lookup(cache, &place, key, codings,
                                           &buffer, &entry);
        if (rc == NGX_AGAIN) {
            ngx_cpu_pause();
            continue;
        }

        if (rc != NGX_OK) {
            break;
        }

        copy->meta.version = entry.version;
        copy->meta.modified_us = entry.modified_us;
        copy->meta.stored_ms = entry.stored_ms;
        copy->meta.fresh_ms = entry.fresh_ms;
        copy->meta.revalidate_ms = entry.revalidate_ms;
        copy->meta.stale_ms = entry.stale_ms;
        copy->meta.begun = 0;
        copy->meta.negative = entry.negative;
        copy->meta.trusted = entry.generation != 0
                             && entry.generation
                                == ngx_http_hotpath_cache_generation(cache);

        copy->coding = ngx_http_hotpath_cache_coding(&entry, codings);
        copy->codings = HP_CODING_IDENTITY
                        | (entry.gzip_len ? HP_CODING_GZIP : 0)
                        | (entry.br_len ? HP_CODING_BR : 0);

        copy->head.len = entry.head_len;
        copy->head.data = buffer.data;

        copy->body.len = ngx_http_hotpath_cache_body_len(&entry, copy->coding);
        copy->body.data = copy->body.len ? buffer.body : NULL;

        return NGX_OK;
    }

    if (buffer.data) {
        (void) ngx_pfree(pool, buffer.data);
    }

    return rc == NGX_ERROR ? NGX_ERROR : NGX_DECLINED;
}


uint64_t
ngx_http_hotpath_cache_expect(ngx_http_hotpath_cache_t *cache, ngx_str_t *key)
{
    ngx_http_hotpath_cache_place_t  place;

    ngx_http_hotpath_cache_place(cache, key, &place);

    __builtin_prefetch(place.bucket[0]);

    return place.hash;
}


void
ngx_http_hotpath_cache_expected(ngx_http_hotpath_cache_t *cache, uint64_t hash)
{
    uint32_t                        n, word;
    ngx_uint_t                      i;
    ngx_http_hotpath_cache_place_t  place;

    ngx_http_hotpath_cache_place_hash(cache, hash, &place);

    for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_SLOTS; i++) {

        word = __atomic_load_n(&(*place.bucket[0])[i], __ATOMIC_RELAXED);
        n = (word & cache->mask) - 1;

        if ((word ^ place.tag) <= cache->mask && n < cache->ncells) {
            ngx_http_hotpath_cache_prefetch(&place.cells[n]);
            return;
        }
    }

    __builtin_prefetch(place.bucket[1]);
}


/* NGX_AGAIN: a writer came in between. */

static ngx_int_t
ngx_http_hotpath_cache_lookup(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, ngx_str_t *key, ngx_uint_t codings,
    ngx_http_hotpath_cache_buffer_t *buffer,
    ngx_http_hotpath_cache_entry_t *entry)
{
    uint32_t    epoch, n, word;
    ngx_int_t   rc;
    ngx_uint_t  b, i;

    epoch = __atomic_load_n(&place->stripe->epoch, __ATOMIC_ACQUIRE);

    if (epoch & 1) {
        return NGX_AGAIN;
    }

    for (b = 0; b < 2; b++) {
        for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_SLOTS; i++) {

            word = __atomic_load_n(&(*place->bucket[b])[i], __ATOMIC_ACQUIRE);

            if ((word ^ place->tag) > cache->mask) {
                continue;
            }

            /* an empty slot becomes the largest number */
            n = (word & cache->mask) - 1;

            if (n >= cache->ncells) {
                continue;
            }

            rc = ngx_http_hotpath_cache_read(cache, place, n, key, codings,
                                             buffer, entry);
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
    ngx_uint_t codings, ngx_http_hotpath_cache_buffer_t *buffer,
    ngx_http_hotpath_cache_entry_t *entry)
{
    size_t                            len, body;
    uint32_t                          sequence;
    ngx_int_t                         rc;
    ngx_uint_t                        coding;
    ngx_http_hotpath_cache_cell_t    *head;
    ngx_http_hotpath_cache_cursor_t   cursor;

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

    coding = ngx_http_hotpath_cache_coding(entry, codings);
    body = ngx_http_hotpath_cache_body_len(entry, coding);
    len = entry->key_len + entry->tags * sizeof(uint64_t) + entry->head_len
          + (coding == HP_CODING_IDENTITY ? body : 0);

    ngx_http_hotpath_cache_start(&cursor, head, place, cache->ncells);

    if (len > NGX_HTTP_HOTPATH_CACHE_FIRST) {
        ngx_http_hotpath_cache_ahead(&cursor, entry,
                                     len - NGX_HTTP_HOTPATH_CACHE_FIRST);
    }

    rc = ngx_http_hotpath_cache_match(&cursor, key->data, key->len);

    if (rc != NGX_OK) {
        return rc == NGX_DECLINED
               && ngx_http_hotpath_cache_still(&head->sequence, sequence)
               ? NGX_DECLINED : NGX_AGAIN;
    }

    buffer->body = buffer->room && body <= buffer->room->len
                   ? buffer->room->data : NULL;

    len = entry->head_len + (buffer->body ? 0 : body);

    if (len > buffer->size) {

        if (buffer->data) {
            (void) ngx_pfree(buffer->pool, buffer->data);
        }

        buffer->size = len;
        buffer->data = ngx_pnalloc(buffer->pool, len);

        if (buffer->data == NULL) {
            buffer->size = 0;
            return NGX_ERROR;
        }
    }

    if (entry->tags) {
        rc = ngx_http_hotpath_cache_take(&cursor, NULL,
                                         entry->tags * sizeof(uint64_t));
        if (rc != NGX_OK) {
            return NGX_AGAIN;
        }
    }

    if (buffer->body == NULL && body) {
        buffer->body = buffer->data + entry->head_len;
    }

    /* The body as it came lies behind the head, any other in its own cells. */

    if ((entry->head_len
         && ngx_http_hotpath_cache_take(&cursor, buffer->data, entry->head_len)
            != NGX_OK)
        || (coding != HP_CODING_IDENTITY
            && ngx_http_hotpath_cache_jump(&cursor,
                                           coding == HP_CODING_BR
                                           ? entry->br : entry->gzip, body)
               != NGX_OK)
        || (body && ngx_http_hotpath_cache_take(&cursor, buffer->body, body)
                    != NGX_OK))
    {
        return NGX_AGAIN;
    }

    if (!ngx_http_hotpath_cache_still(&head->sequence, sequence)) {
        return NGX_AGAIN;
    }

    if (!__atomic_load_n(&head->visited, __ATOMIC_RELAXED)) {
        __atomic_store_n(&head->visited, 1, __ATOMIC_RELAXED);
    }

    return NGX_OK;
}


/* The stripe's lock, its structure in order. NGX_BUSY: not to be had. */

static ngx_int_t
ngx_http_hotpath_cache_lock(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_stripe_t *stripe)
{
    switch (ngx_http_hotpath_lock(&stripe->lock)) {

    case NGX_BUSY:
        (void) __atomic_fetch_add(&cache->region->lock_busy, 1,
                                  __ATOMIC_RELAXED);
        return NGX_BUSY;

    case NGX_ABORT:
        ngx_http_hotpath_lock_begin(&stripe->lock);
        ngx_http_hotpath_cache_reset_locked(cache, stripe);
        ngx_http_hotpath_lock_end(&stripe->lock);
        return NGX_OK;

    default:
        return NGX_OK;
    }
}


ngx_int_t
ngx_http_hotpath_cache_put(ngx_http_hotpath_cache_t *cache, ngx_str_t *key,
    ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content)
{
    ngx_int_t                       rc;
    ngx_http_hotpath_cache_place_t  place;

    if (key->len == 0
        || key->len > NGX_HTTP_HOTPATH_CACHE_KEY_MAX
        || content->head.len > NGX_HTTP_HOTPATH_CACHE_HEAD_MAX
        || content->ntags > NGX_HTTP_HOTPATH_CACHE_TAGS
        || content->body.len > cache->max_entry
        || content->gzip.len > cache->max_entry
        || content->br.len > cache->max_entry
        || key->len + content->ntags * sizeof(uint64_t) + content->head.len
           + content->body.len + content->gzip.len + content->br.len
           > cache->max_entry)
    {
        return NGX_DECLINED;
    }

    ngx_http_hotpath_cache_place(cache, key, &place);

    if (ngx_http_hotpath_cache_lock(cache, place.stripe) != NGX_OK) {
        return NGX_BUSY;
    }

    ngx_http_hotpath_lock_begin(&place.stripe->lock);

    rc = ngx_http_hotpath_cache_put_locked(cache, &place, key, meta, content);

    ngx_http_hotpath_lock_end(&place.stripe->lock);

    ngx_http_hotpath_unlock(&place.stripe->lock);

    return rc;
}


ngx_int_t
ngx_http_hotpath_cache_put_codings(ngx_http_hotpath_cache_t *cache,
    ngx_str_t *key, uint64_t version, size_t body_len, ngx_str_t *gzip,
    ngx_str_t *br)
{
    uint32_t                        *slot, n;
    ngx_int_t                        rc;
    ngx_http_hotpath_cache_entry_t  *entry;
    ngx_http_hotpath_cache_place_t   place;

    if (key->len == 0
        || key->len > NGX_HTTP_HOTPATH_CACHE_KEY_MAX
        || gzip->len > cache->max_entry
        || br->len > cache->max_entry)
    {
        return NGX_DECLINED;
    }

    ngx_http_hotpath_cache_place(cache, key, &place);

    if (ngx_http_hotpath_cache_lock(cache, place.stripe) != NGX_OK) {
        return NGX_BUSY;
    }

    rc = NGX_DECLINED;

    slot = ngx_http_hotpath_cache_find_locked(cache, &place, key);

    if (slot) {
        n = (*slot & cache->mask) - 1;
        entry = &place.cells[n].u.head.entry;

        if (entry->version == version && entry->body_len == body_len) {
            ngx_http_hotpath_lock_begin(&place.stripe->lock);

            rc = ngx_http_hotpath_cache_codings_locked(cache, &place, n, gzip,
                                                       br);

            ngx_http_hotpath_lock_end(&place.stripe->lock);
        }
    }

    ngx_http_hotpath_unlock(&place.stripe->lock);

    return rc;
}


uint64_t
ngx_http_hotpath_cache_begun(ngx_http_hotpath_cache_t *cache)
{
    return __atomic_load_n(&cache->region->begun, __ATOMIC_ACQUIRE);
}


void
ngx_http_hotpath_cache_distrust(ngx_http_hotpath_cache_t *cache)
{
    (void) __atomic_fetch_add(&cache->region->begun, (uint64_t) 1 << 32,
                              __ATOMIC_RELEASE);
}


uint64_t
ngx_http_hotpath_cache_tag(ngx_str_t *scope, ngx_str_t *tag)
{
    uint64_t  hash;

    hash = hp_hash64(tag->data, tag->len,
                     hp_hash64(scope->data, scope->len, 0));

    return hash ? hash : 1;
}


ngx_int_t
ngx_http_hotpath_cache_purge(ngx_http_hotpath_cache_t *cache, ngx_str_t *key,
    ngx_uint_t hard)
{
    uint32_t                        *slot;
    ngx_int_t                        rc;
    ngx_http_hotpath_cache_place_t   place;

    /* Before the lock: what was asked for until now and comes after it will
     * find the number moved. */

    (void) __atomic_fetch_add(&cache->region->begun, 1, __ATOMIC_SEQ_CST);

    if (key->len == 0 || key->len > NGX_HTTP_HOTPATH_CACHE_KEY_MAX) {
        return NGX_DECLINED;
    }

    ngx_http_hotpath_cache_place(cache, key, &place);

    if (ngx_http_hotpath_cache_lock(cache, place.stripe) != NGX_OK) {
        return NGX_BUSY;
    }

    slot = ngx_http_hotpath_cache_find_locked(cache, &place, key);

    rc = slot ? ngx_http_hotpath_cache_purge_locked(cache, place.stripe,
                          &place.cells[(*slot & cache->mask) - 1], hard)
              : NGX_DECLINED;

    ngx_http_hotpath_unlock(&place.stripe->lock);

    return rc;
}


ngx_int_t
ngx_http_hotpath_cache_walk(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_walk_t *walk, ngx_uint_t cells)
{
    uint32_t                          n, end;
    ngx_uint_t                        s;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    if (walk->purge && walk->position == 0) {
        (void) __atomic_fetch_add(&cache->region->begun, 1, __ATOMIC_SEQ_CST);
    }

    for ( ;; ) {

        s = walk->position / cache->ncells;
        n = walk->position % cache->ncells;

        if (s >= cache->nstripes) {
            return NGX_OK;
        }

        stripe = &cache->region->stripe[s];

        if (n >= __atomic_load_n(&stripe->used, __ATOMIC_RELAXED)) {
            walk->position = (uint64_t) (s + 1) * cache->ncells;
            continue;
        }

        if (cells == 0
            || ngx_http_hotpath_cache_lock(cache, stripe) != NGX_OK)
        {
            return NGX_AGAIN;
        }

        end = n + ngx_min(cells, NGX_HTTP_HOTPATH_CACHE_SLICE);

        /* it may have been emptied just now */
        end = ngx_min(end, stripe->used);

        for ( /* void */ ; n < end; n++) {
            ngx_http_hotpath_cache_meet_locked(cache, walk, s, n);
            walk->position++;
            cells--;
        }

        ngx_http_hotpath_unlock(&stripe->lock);
    }
}


ngx_uint_t
ngx_http_hotpath_cache_cold(ngx_http_hotpath_cache_t *cache)
{
    return !__atomic_load_n(&cache->region->warm, __ATOMIC_RELAXED);
}


void
ngx_http_hotpath_cache_warm(ngx_http_hotpath_cache_t *cache)
{
    __atomic_store_n(&cache->region->warm, 1, __ATOMIC_RELAXED);
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
        stats->entries += __atomic_load_n(&stripe->queue[0].entries,
                                          __ATOMIC_RELAXED)
                          + __atomic_load_n(&stripe->queue[1].entries,
                                            __ATOMIC_RELAXED);

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


size_t
ngx_http_hotpath_cache_max_entry(ngx_http_hotpath_cache_t *cache)
{
    return (size_t) cache->max_entry;
}


static ngx_int_t
ngx_http_hotpath_cache_put_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, ngx_str_t *key,
    ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content)
{
    uint32_t                          n, was, generation, *slot;
    uint64_t                          begun;
    ngx_uint_t                        queue;
    ngx_http_hotpath_cache_entry_t    entry, *old;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    stripe = place->stripe;

    ngx_memzero(&entry, sizeof(ngx_http_hotpath_cache_entry_t));

    entry.hash = place->hash;
    entry.version = meta->version;
    entry.modified_us = meta->modified_us;
    entry.stored_ms = meta->stored_ms;
    entry.fresh_ms = meta->fresh_ms;
    entry.revalidate_ms = meta->revalidate_ms;
    entry.stale_ms = meta->stale_ms;
    entry.body_len = content->body.len;
    entry.gzip_len = content->gzip.len;
    entry.br_len = content->br.len;
    entry.key_len = key->len;
    entry.head_len = content->head.len;
    entry.negative = meta->negative;
    entry.tags = content->ntags;

    begun = __atomic_load_n(&cache->region->begun, __ATOMIC_RELAXED);
    generation = begun >> 32;

    if (meta->begun == 0 || meta->begun == begun) {
        entry.generation = generation;
    }

    slot = ngx_http_hotpath_cache_find_locked(cache, place, key);
    old = NULL;
    was = NGX_HTTP_HOTPATH_CACHE_NIL;

    if (slot) {
        was = (*slot & cache->mask) - 1;
        old = &place->cells[was].u.head.entry;

        if (entry.version == 0
            && (old->negative
                || old->generation == 0
                || old->generation != generation
                || old->fresh_ms <= entry.stored_ms))
        {
            entry.version = old->version;
        }

        if (entry.version < old->version) {
            ngx_http_hotpath_cache_add(&stripe->refused_older, 1);
            return NGX_ABORT;
        }
    }

    queue = old == NULL && ngx_http_hotpath_cache_recall_locked(cache, place)
            ? NGX_HTTP_HOTPATH_CACHE_MAIN : NGX_HTTP_HOTPATH_CACHE_SMALL;

    ngx_http_hotpath_cache_room_locked(cache, place,
                                       ngx_http_hotpath_cache_cells(&entry),
                                       was, meta->stored_ms);

    if (slot == NULL) {
        slot = ngx_http_hotpath_cache_slot_locked(cache, place);
    }

    n = ngx_http_hotpath_cache_write_locked(place, &entry, key, content);

    if (old) {
        ngx_http_hotpath_cache_relink_locked(place, was, n);

    } else {
        ngx_http_hotpath_cache_link_locked(place, n, queue);
    }

    ngx_http_hotpath_cache_end(&place->cells[n], NGX_HTTP_HOTPATH_CACHE_ENTRY);

    __atomic_store_n(slot, place->tag | (n + 1), __ATOMIC_RELEASE);

    if (old) {
        ngx_http_hotpath_cache_release_locked(place, was);
    }

    ngx_http_hotpath_cache_add(&stripe->stores, 1);

    return NGX_OK;
}


static uint32_t *
ngx_http_hotpath_cache_find_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, ngx_str_t *key)
{
    u_char                         *p, *k;
    size_t                          left, size;
    uint32_t                       *slot;
    ngx_uint_t                      b, i;
    ngx_http_hotpath_cache_cell_t  *cell;

    for (b = 0; b < 2; b++) {
        for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_SLOTS; i++) {

            slot = &(*place->bucket[b])[i];

            if (*slot == 0 || (*slot ^ place->tag) > cache->mask) {
                continue;
            }

            cell = &place->cells[(*slot & cache->mask) - 1];

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


/* A free slot in one of both buckets. Where there is none, an entry that may
 * move to its second bucket does: readers, who look there last, find it in one
 * of them. Where none may, one of the least used leaves. */

static uint32_t *
ngx_http_hotpath_cache_slot_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place)
{
    uint32_t                        *slot, *victim, *free;
    ngx_uint_t                       b, i, j, used, least;
    ngx_http_hotpath_cache_cell_t   *cell;
    ngx_http_hotpath_cache_place_t   other;

    victim = NULL;
    least = 4;

    for (b = 0; b < 2; b++) {
        for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_SLOTS; i++) {

            slot = &(*place->bucket[b])[i];

            if (*slot == 0) {
                return slot;
            }

            cell = &place->cells[(*slot & cache->mask) - 1];

            used = 2 * __atomic_load_n(&cell->visited, __ATOMIC_RELAXED)
                   + cell->queue;

            if (used < least) {
                least = used;
                victim = slot;
            }
        }
    }

    for (b = 0; b < 2; b++) {
        for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_SLOTS; i++) {

            slot = &(*place->bucket[b])[i];
            cell = &place->cells[(*slot & cache->mask) - 1];

            ngx_http_hotpath_cache_place_hash(cache, cell->u.head.entry.hash,
                                              &other);

            if (other.bucket[0] != place->bucket[b]) {
                continue;
            }

            for (j = 0; j < NGX_HTTP_HOTPATH_CACHE_SLOTS; j++) {

                free = &(*other.bucket[1])[j];

                if (*free == 0) {
                    __atomic_store_n(free, *slot, __ATOMIC_RELEASE);
                    __atomic_store_n(slot, 0, __ATOMIC_RELEASE);
                    return slot;
                }
            }
        }
    }

    ngx_http_hotpath_cache_evict_locked(cache, place,
                                        (*victim & cache->mask) - 1, 0);

    return victim;
}


/*
 * S3-FIFO: what is new goes into the small queue, a quarter of the stripe. At
 * its end, what was visited meanwhile moves on to the main queue, what was not
 * leaves and is remembered as a ghost; what comes back while it is one goes
 * into the main queue at once. At the end of that, what was visited goes round
 * again, what was not leaves. What nobody may use any more leaves before
 * anything else, where it is at an end. keep is not taken.
 *
 * There is always enough to take: an entry is at most a sixteenth of its
 * stripe, and so less than the small queue.
 */

static void
ngx_http_hotpath_cache_room_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, uint32_t need, uint32_t keep,
    uint64_t now_ms)
{
    uint32_t                          n, spare;
    ngx_uint_t                        i, used;
    ngx_http_hotpath_cache_cell_t    *cell;
    ngx_http_hotpath_cache_queue_t   *queue;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    stripe = place->stripe;
    queue = stripe->queue;
    spare = NGX_HTTP_HOTPATH_CACHE_SPARE + 2 * need;

next:

    while (stripe->nfree + (cache->ncells - stripe->used) < need) {

        for (i = 0; i < 2; i++) {
            n = queue[i].oldest;

            if (n != NGX_HTTP_HOTPATH_CACHE_NIL
                && n != keep
                && place->cells[n].u.head.entry.stale_ms <= now_ms)
            {
                ngx_http_hotpath_cache_evict_locked(cache, place, n, 0);
                goto next;
            }
        }

        i = queue[NGX_HTTP_HOTPATH_CACHE_SMALL].cells
            > cache->ncells / NGX_HTTP_HOTPATH_CACHE_SMALL_PART
            || queue[NGX_HTTP_HOTPATH_CACHE_MAIN].entries
               <= (keep != NGX_HTTP_HOTPATH_CACHE_NIL)
            ? NGX_HTTP_HOTPATH_CACHE_SMALL : NGX_HTTP_HOTPATH_CACHE_MAIN;

        n = queue[i].oldest;
        cell = &place->cells[n];

        used = spare && __atomic_load_n(&cell->visited, __ATOMIC_RELAXED);

        if (used || n == keep) {
            spare -= used;
            __atomic_store_n(&cell->visited, 0, __ATOMIC_RELAXED);

            ngx_http_hotpath_cache_unlink_locked(place, n);
            ngx_http_hotpath_cache_link_locked(place, n,
                          used ? NGX_HTTP_HOTPATH_CACHE_MAIN : i);
            continue;
        }

        ngx_http_hotpath_cache_evict_locked(cache, place, n,
                                       i == NGX_HTTP_HOTPATH_CACHE_SMALL);
    }
}


/* 1 where the key is a ghost; then it is one no more. There are as many as the
 * main queue has entries: of each line the youngest count. */

static ngx_uint_t
ngx_http_hotpath_cache_recall_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place)
{
    uint32_t    *ghost;
    ngx_uint_t   i, n;

    ghost = *place->ghosts;

    n = place->stripe->queue[NGX_HTTP_HOTPATH_CACHE_MAIN].entries
        / cache->nghosts + 1;
    n = ngx_min(n, NGX_HTTP_HOTPATH_CACHE_SLOTS);

    for (i = 0; i < n; i++) {
        if (ghost[i] == place->ghost) {

            for ( /* void */ ; i < NGX_HTTP_HOTPATH_CACHE_SLOTS - 1; i++) {
                ghost[i] = ghost[i + 1];
            }

            ghost[i] = 0;

            return 1;
        }
    }

    return 0;
}


static void
ngx_http_hotpath_cache_remember_locked(ngx_http_hotpath_cache_place_t *place)
{
    uint32_t    *ghost;
    ngx_uint_t   i;

    ghost = *place->ghosts;

    for (i = NGX_HTTP_HOTPATH_CACHE_SLOTS - 1; i > 0; i--) {
        ghost[i] = ghost[i - 1];
    }

    ghost[0] = place->ghost;
}


/* Gives the cell of a new entry, which is still marked as being written and
 * linked nowhere. Room was made before. */

static uint32_t
ngx_http_hotpath_cache_write_locked(ngx_http_hotpath_cache_place_t *place,
    ngx_http_hotpath_cache_entry_t *entry, ngx_str_t *key,
    ngx_http_hotpath_cache_content_t *content)
{
    uint32_t                          n;
    ngx_http_hotpath_cache_cell_t    *head;
    ngx_http_hotpath_cache_cursor_t   cursor;

    cursor.place = place;
    cursor.cell = NULL;
    cursor.entry = entry;
    cursor.count = 0;

    n = ngx_http_hotpath_cache_grow_locked(&cursor, NULL);

    head = cursor.cell;
    ngx_http_hotpath_cache_start(&cursor, head, place, 0);

    ngx_http_hotpath_cache_fill_locked(&cursor, head, key->data, key->len);
    ngx_http_hotpath_cache_fill_locked(&cursor, head, content->tags,
                                   content->ntags * sizeof(uint64_t));
    ngx_http_hotpath_cache_fill_locked(&cursor, head, content->head.data,
                                       content->head.len);
    ngx_http_hotpath_cache_fill_locked(&cursor, head, content->body.data,
                                       content->body.len);

    if (entry->gzip_len) {
        entry->gzip = ngx_http_hotpath_cache_coded_locked(&cursor, head,
                                                          &content->gzip);
    }

    if (entry->br_len) {
        entry->br = ngx_http_hotpath_cache_coded_locked(&cursor, head,
                                                        &content->br);
    }

    ngx_http_hotpath_cache_full_locked(&cursor, head);

    ngx_http_hotpath_cache_copy(&head->u.head.entry, entry,
                                sizeof(ngx_http_hotpath_cache_entry_t));
    __atomic_store_n(&head->visited, 0, __ATOMIC_RELAXED);

    return n;
}


/*
 * Puts coded bodies that entry n does not have yet behind what it has. Nobody
 * reads those cells before the entry says that they are there; readers that
 * are in it meanwhile begin again.
 */

static ngx_int_t
ngx_http_hotpath_cache_codings_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, uint32_t n, ngx_str_t *gzip,
    ngx_str_t *br)
{
    uint32_t                          had;
    ngx_http_hotpath_cache_cell_t    *head;
    ngx_http_hotpath_cache_entry_t    entry;
    ngx_http_hotpath_cache_cursor_t   cursor;

    head = &place->cells[n];
    entry = head->u.head.entry;

    had = ngx_http_hotpath_cache_cells(&entry);

    if (entry.gzip_len == 0) {
        entry.gzip_len = gzip->len;
    }

    if (entry.br_len == 0) {
        entry.br_len = br->len;
    }

    if (entry.key_len + entry.tags * sizeof(uint64_t) + entry.head_len
        + (size_t) entry.body_len + entry.gzip_len + entry.br_len
        > cache->max_entry)
    {
        return NGX_DECLINED;
    }

    had = ngx_http_hotpath_cache_cells(&entry) - had;

    if (had == 0) {
        return NGX_OK;
    }

    ngx_http_hotpath_cache_room_locked(cache, place, had, n, entry.stored_ms);

    place->stripe->queue[head->queue].cells += had;

    /* the neighbours in the queue may have gone */
    entry.newer = head->u.head.entry.newer;
    entry.older = head->u.head.entry.older;

    cursor.place = place;
    cursor.cell = &place->cells[head->far];
    cursor.n = head->far;

    if (head->u.head.entry.gzip_len == 0 && entry.gzip_len) {
        entry.gzip = ngx_http_hotpath_cache_coded_locked(&cursor, head, gzip);
    }

    if (head->u.head.entry.br_len == 0 && entry.br_len) {
        entry.br = ngx_http_hotpath_cache_coded_locked(&cursor, head, br);
    }

    ngx_http_hotpath_cache_begin(head);

    ngx_http_hotpath_cache_full_locked(&cursor, head);
    ngx_http_hotpath_cache_copy(&head->u.head.entry, &entry,
                                sizeof(ngx_http_hotpath_cache_entry_t));

    ngx_http_hotpath_cache_end(head, NGX_HTTP_HOTPATH_CACHE_ENTRY);

    return NGX_OK;
}


/* A coded body, from the start of a cell, which it gives. */

static uint32_t
ngx_http_hotpath_cache_coded_locked(ngx_http_hotpath_cache_cursor_t *cursor,
    ngx_http_hotpath_cache_cell_t *head, ngx_str_t *coded)
{
    uint32_t  n;

    cursor->entry = NULL;
    cursor->count = 0;

    n = ngx_http_hotpath_cache_grow_locked(cursor, head);

    ngx_http_hotpath_cache_fill_locked(cursor, head, coded->data, coded->len);

    return n;
}


/* One more cell for the entry of head, or its first, being written from here
 * on; the one before it is done. Whoever is to lead readers here is told. */

static uint32_t
ngx_http_hotpath_cache_grow_locked(ngx_http_hotpath_cache_cursor_t *cursor,
    ngx_http_hotpath_cache_cell_t *head)
{
    uint32_t                          n, *recent;
    ngx_http_hotpath_cache_cell_t    *cells;
    ngx_http_hotpath_cache_stripe_t  *stripe;

    cells = cursor->place->cells;
    stripe = cursor->place->stripe;

    if (stripe->free != NGX_HTTP_HOTPATH_CACHE_NIL) {
        n = stripe->free;
        stripe->free = cells[n].next;
        ngx_http_hotpath_cache_add(&stripe->nfree, -1);

    } else {
        n = stripe->used;
        ngx_http_hotpath_cache_add(&stripe->used, 1);
    }

    if (cursor->cell) {
        __atomic_store_n(&cursor->cell->next, n, __ATOMIC_RELAXED);

        if (cursor->cell != head) {
            ngx_http_hotpath_cache_end(cursor->cell, 0);
        }
    }

    recent = &cursor->recent[cursor->count % NGX_HTTP_HOTPATH_CACHE_AHEAD];

    if (cursor->entry && cursor->count <= NGX_HTTP_HOTPATH_CACHE_AHEAD) {

        if (cursor->count >= 2) {
            cursor->entry->ahead[cursor->count - 2] = n;
        }

    } else if (cursor->count >= NGX_HTTP_HOTPATH_CACHE_AHEAD) {
        __atomic_store_n(&cells[*recent].far, n, __ATOMIC_RELAXED);
    }

    *recent = n;

    cursor->count++;
    cursor->n = n;
    cursor->cell = &cells[n];
    cursor->p = cursor->cell->u.bytes;
    cursor->room = NGX_HTTP_HOTPATH_CACHE_MORE;

    ngx_http_hotpath_cache_begin(cursor->cell);

    return n;
}


static void
ngx_http_hotpath_cache_fill_locked(ngx_http_hotpath_cache_cursor_t *cursor,
    ngx_http_hotpath_cache_cell_t *head, const void *data, size_t len)
{
    size_t         size;
    const u_char  *p = data;

    while (len) {

        if (cursor->room == 0) {
            (void) ngx_http_hotpath_cache_grow_locked(cursor, head);
        }

        size = ngx_min(len, cursor->room);
        ngx_http_hotpath_cache_copy(cursor->p, p, size);

        p += size;
        len -= size;
        cursor->p += size;
        cursor->room -= size;
    }
}


/* The cursor's cell is the entry's last. */

static void
ngx_http_hotpath_cache_full_locked(ngx_http_hotpath_cache_cursor_t *cursor,
    ngx_http_hotpath_cache_cell_t *head)
{
    __atomic_store_n(&cursor->cell->next, NGX_HTTP_HOTPATH_CACHE_NIL,
                     __ATOMIC_RELAXED);

    if (cursor->cell != head) {
        ngx_http_hotpath_cache_end(cursor->cell, 0);
    }

    __atomic_store_n(&head->far, cursor->n, __ATOMIC_RELAXED);
}


static ngx_int_t
ngx_http_hotpath_cache_purge_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_stripe_t *stripe,
    ngx_http_hotpath_cache_cell_t *cell, ngx_uint_t hard)
{
    ngx_http_hotpath_cache_entry_t  entry;

    entry = cell->u.head.entry;

    if (entry.generation == 0
        || entry.generation != ngx_http_hotpath_cache_generation(cache))
    {
        if (!hard
            || (entry.fresh_ms == 0 && entry.revalidate_ms == 0
                && entry.stale_ms == 0))
        {
            return NGX_DECLINED;
        }
    }

    entry.generation = 0;

    if (hard) {
        entry.fresh_ms = 0;
        entry.revalidate_ms = 0;
        entry.stale_ms = 0;
    }

    ngx_http_hotpath_lock_begin(&stripe->lock);
    ngx_http_hotpath_cache_begin(cell);

    ngx_http_hotpath_cache_copy(&cell->u.head.entry, &entry,
                                sizeof(ngx_http_hotpath_cache_entry_t));

    ngx_http_hotpath_cache_end(cell, NGX_HTTP_HOTPATH_CACHE_ENTRY);
    ngx_http_hotpath_lock_end(&stripe->lock);

    return NGX_OK;
}


/* One step of a walk: cell n, whatever it holds. */

static void
ngx_http_hotpath_cache_meet_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_walk_t *walk, ngx_uint_t stripe, uint32_t n)
{
    u_char                            space[NGX_HTTP_HOTPATH_CACHE_KEY_MAX];
    uint64_t                          tags[NGX_HTTP_HOTPATH_CACHE_TAGS];
    ngx_str_t                         key;
    ngx_uint_t                        i;
    ngx_http_hotpath_cache_cell_t    *cell;
    ngx_http_hotpath_cache_entry_t   *entry;
    ngx_http_hotpath_cache_place_t    place;
    ngx_http_hotpath_cache_cursor_t   cursor;

    place.cells = &cache->cells[stripe * cache->ncells];
    cell = &place.cells[n];

    if (!(cell->sequence & NGX_HTTP_HOTPATH_CACHE_ENTRY)) {
        return;
    }

    entry = &cell->u.head.entry;

    if (entry->key_len < walk->prefix.len
        || (walk->main
            && cell->queue != NGX_HTTP_HOTPATH_CACHE_MAIN
            && !__atomic_load_n(&cell->visited, __ATOMIC_RELAXED)))
    {
        return;
    }

    /* Under the lock the chain is as it should be. */

    ngx_http_hotpath_cache_start(&cursor, cell, &place, cache->ncells);

    key.len = entry->key_len;

    if (key.len <= NGX_HTTP_HOTPATH_CACHE_FIRST) {
        key.data = cell->u.head.bytes;
        (void) ngx_http_hotpath_cache_take(&cursor, NULL, key.len);

    } else {
        key.data = space;
        (void) ngx_http_hotpath_cache_take(&cursor, space, key.len);
    }

    if (walk->prefix.len
        && ngx_memcmp(key.data, walk->prefix.data, walk->prefix.len) != 0)
    {
        return;
    }

    if (walk->tag) {

        if (entry->tags == 0) {
            return;
        }

        (void) ngx_http_hotpath_cache_take(&cursor, tags,
                                           entry->tags * sizeof(uint64_t));

        for (i = 0; tags[i] != walk->tag; /* void */ ) {
            if (++i == entry->tags) {
                return;
            }
        }
    }

    if (walk->purge
        && ngx_http_hotpath_cache_purge_locked(cache,
                                               &cache->region->stripe[stripe],
                                               cell, walk->hard)
           != NGX_OK)
    {
        return;
    }

    walk->met++;

    if (walk->each) {
        walk->each(walk->data, &key);
    }
}


static void
ngx_http_hotpath_cache_evict_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_place_t *place, uint32_t n, ngx_uint_t ghost)
{
    uint32_t                        *slot, word;
    ngx_uint_t                       b, i;
    ngx_http_hotpath_cache_place_t   victim;

    ngx_http_hotpath_cache_place_hash(cache,
                                 place->cells[n].u.head.entry.hash, &victim);

    word = victim.tag | (n + 1);

    for (b = 0; b < 2; b++) {
        for (i = 0; i < NGX_HTTP_HOTPATH_CACHE_SLOTS; i++) {
            slot = &(*victim.bucket[b])[i];

            if (*slot == word) {
                __atomic_store_n(slot, 0, __ATOMIC_RELEASE);
            }
        }
    }

    if (ghost) {
        ngx_http_hotpath_cache_remember_locked(&victim);
    }

    ngx_http_hotpath_cache_unlink_locked(place, n);
    ngx_http_hotpath_cache_release_locked(place, n);

    ngx_http_hotpath_cache_add(&place->stripe->evictions, 1);
}


/* As the newest. */

static void
ngx_http_hotpath_cache_link_locked(ngx_http_hotpath_cache_place_t *place,
    uint32_t n, ngx_uint_t which)
{
    ngx_http_hotpath_cache_cell_t   *cell;
    ngx_http_hotpath_cache_queue_t  *queue;

    queue = &place->stripe->queue[which];
    cell = &place->cells[n];

    cell->queue = which;
    ngx_http_hotpath_cache_set(&cell->u.head.entry.newer,
                               NGX_HTTP_HOTPATH_CACHE_NIL);
    ngx_http_hotpath_cache_set(&cell->u.head.entry.older, queue->newest);

    if (queue->newest != NGX_HTTP_HOTPATH_CACHE_NIL) {
        ngx_http_hotpath_cache_set(
                         &place->cells[queue->newest].u.head.entry.newer, n);

    } else {
        queue->oldest = n;
    }

    queue->newest = n;
    queue->cells += ngx_http_hotpath_cache_cells(&cell->u.head.entry);
    ngx_http_hotpath_cache_add(&queue->entries, 1);
}


/* n in the place of another, whose mark it gets too. */

static void
ngx_http_hotpath_cache_relink_locked(ngx_http_hotpath_cache_place_t *place,
    uint32_t was, uint32_t n)
{
    uint32_t                         newer, older;
    ngx_http_hotpath_cache_cell_t   *cell, *old;
    ngx_http_hotpath_cache_queue_t  *queue;

    cell = &place->cells[n];
    old = &place->cells[was];
    queue = &place->stripe->queue[old->queue];

    __atomic_store_n(&cell->visited,
                     __atomic_load_n(&old->visited, __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);

    cell->queue = old->queue;
    newer = old->u.head.entry.newer;
    older = old->u.head.entry.older;

    ngx_http_hotpath_cache_set(&cell->u.head.entry.newer, newer);
    ngx_http_hotpath_cache_set(&cell->u.head.entry.older, older);

    if (newer != NGX_HTTP_HOTPATH_CACHE_NIL) {
        ngx_http_hotpath_cache_set(&place->cells[newer].u.head.entry.older,
                                   n);
    } else {
        queue->newest = n;
    }

    if (older != NGX_HTTP_HOTPATH_CACHE_NIL) {
        ngx_http_hotpath_cache_set(&place->cells[older].u.head.entry.newer,
                                   n);
    } else {
        queue->oldest = n;
    }

    queue->cells += ngx_http_hotpath_cache_cells(&cell->u.head.entry);
    queue->cells -= ngx_http_hotpath_cache_cells(&old->u.head.entry);
}


static void
ngx_http_hotpath_cache_unlink_locked(ngx_http_hotpath_cache_place_t *place,
    uint32_t n)
{
    ngx_http_hotpath_cache_cell_t   *cell;
    ngx_http_hotpath_cache_entry_t  *entry;
    ngx_http_hotpath_cache_queue_t  *queue;

    cell = &place->cells[n];
    entry = &cell->u.head.entry;
    queue = &place->stripe->queue[cell->queue];

    if (entry->newer != NGX_HTTP_HOTPATH_CACHE_NIL) {
        ngx_http_hotpath_cache_set(
                  &place->cells[entry->newer].u.head.entry.older, entry->older);

    } else {
        queue->newest = entry->older;
    }

    if (entry->older != NGX_HTTP_HOTPATH_CACHE_NIL) {
        ngx_http_hotpath_cache_set(
                  &place->cells[entry->older].u.head.entry.newer, entry->newer);

    } else {
        queue->oldest = entry->newer;
    }

    queue->cells -= ngx_http_hotpath_cache_cells(entry);
    ngx_http_hotpath_cache_add(&queue->entries, -1);
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

    __atomic_store_n(&place->cells[head->far].next, stripe->free,
                     __ATOMIC_RELAXED);

    stripe->free = n;
    ngx_http_hotpath_cache_add(&stripe->nfree,
                               ngx_http_hotpath_cache_cells(entry));
}


/* Whoever held the lock died while it changed something. Cells keep their
 * sequence words: those only grow. */

static void
ngx_http_hotpath_cache_reset_locked(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_stripe_t *stripe)
{
    size_t     n;
    uint32_t   epoch, *slot;

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

    ngx_http_hotpath_cache_empty(stripe);
    ngx_http_hotpath_cache_add(&stripe->resets, 1);

    __atomic_store_n(&stripe->epoch, epoch + 1, __ATOMIC_RELEASE);
}
