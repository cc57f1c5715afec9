/*
 * test_cache.c: unit tests of ngx_module/ngx_http_hotpath_cache.c and of the
 * lock in ngx_http_hotpath_shm.c.
 *
 * The rooms are included as source and run on nginx_shim.h. Sizes around every
 * border of the layout; the rule of versions; random work against a plain map,
 * with the whole structure counted through now and then; scans against a hot
 * set; processes that write and read the same keys; and writers killed by
 * SIGKILL at any instruction, thousands of times, while a reader checks what
 * it gets. Every document is made from its key, version and length, so that a
 * byte of another document, or of another version, is seen.
 *
 * Forks its own children and waits for each.
 */
#include "support.h"

#include "nginx_shim.h"

#include <sys/wait.h>

#include "ngx_http_hotpath_cache.c"
#include "ngx_http_hotpath_shm.c"

#define DOCUMENT_MAX (1024 * 1024)

#ifndef KILLS
#define KILLS 2000
#endif

static shim_pool_t pool;
static ngx_conf_t conf;
static ngx_log_t test_log;
static unsigned char document_space[DOCUMENT_MAX + 16];

/* The directive, as nginx would call it; NULL or the error. */
static const char *directive(const char *zone, const char *max_entry)
{
    static ngx_str_t args[3];
    static ngx_array_t array;
    static ngx_command_t cmd;

    args[0] = (ngx_str_t)ngx_string("hotpath_cache_zone");
    args[1].data = (u_char *)zone;
    args[1].len = strlen(zone);
    args[2].data = (u_char *)max_entry;
    args[2].len = max_entry != NULL ? strlen(max_entry) : 0;

    array.elts = args;
    array.nelts = max_entry != NULL ? 3 : 2;
    conf.args = &array;
    conf.pool = &pool.pool;
    cmd.name = args[0];
    shim_message[0] = '\0';

    return ngx_http_hotpath_cache_zone(&conf, &cmd, NULL) == NGX_CONF_OK
               ? NULL
               : shim_message;
}

static ngx_http_hotpath_cache_t *make_zone(const char *zone,
                                           const char *max_entry)
{
    memset(&shim_zone, 0, sizeof(shim_zone));
    test_log.log_level = NGX_LOG_INFO;
    assert_null(directive(zone, max_entry));
    assert_int_equal(shim_zone_map(&test_log), 0);
    assert_int_equal(shim_zone.init(&shim_zone, NULL), NGX_OK);
    return shim_zone.data;
}

static void drop_zone(void)
{
    shim_zone_unmap();
    shim_pool_reset(&pool);
}

/* The one document of that key, version and length. */
static void make_document(unsigned char *p, size_t len, uint64_t key,
                          uint64_t version)
{
    uint64_t seed, word;
    size_t i;

    seed = key * 1000003 + version * 10007 + len;

    for (i = 0; i < len; i += 8) {
        word = next_random(&seed);
        memcpy(p + i, &word, 8);
    }
}

static int document_is(const ngx_str_t *got, uint64_t key, uint64_t version)
{
    uint64_t seed, word;
    size_t i;

    seed = key * 1000003 + version * 10007 + got->len;

    for (i = 0; i < got->len; i += 8) {
        word = next_random(&seed);

        if (memcmp(got->data + i, &word, ngx_min(8, got->len - i)) != 0) {
            return 0;
        }
    }

    return 1;
}

/* Keys of different lengths, some longer than a cell. */
static ngx_str_t make_key(unsigned char *space, uint64_t n)
{
    ngx_str_t key;
    size_t len;

    len = n % 7 == 0 ? 150 + n % 1050 : 8 + n % 40;
    memset(space, 'a' + (int)(n % 26), len);
    memcpy(space, &n, sizeof(n));
    key.data = space;
    key.len = len;
    return key;
}

static ngx_int_t put_meta(ngx_http_hotpath_cache_t *cache, uint64_t n,
                          ngx_http_hotpath_cache_meta_t *meta, size_t len)
{
    unsigned char space[1200];
    ngx_str_t key, document;

    key = make_key(space, n);
    make_document(document_space, len, n, meta->version);
    document.data = document_space;
    document.len = len;
    return ngx_http_hotpath_cache_put(cache, &key, meta, &document);
}

static ngx_int_t put(ngx_http_hotpath_cache_t *cache, uint64_t n,
                     uint64_t version, size_t len)
{
    ngx_http_hotpath_cache_meta_t meta;

    memset(&meta, 0, sizeof(meta));
    meta.version = version;
    meta.modified_us = (int64_t)version - 5;
    meta.stored_ms = 1000;
    meta.fresh_ms = 2000;
    meta.stale_ms = 3000;
    return put_meta(cache, n, &meta, len);
}

static ngx_int_t get(ngx_http_hotpath_cache_t *cache, uint64_t n,
                     ngx_http_hotpath_cache_meta_t *meta, ngx_str_t *document)
{
    unsigned char space[1200];
    ngx_str_t key;

    key = make_key(space, n);
    shim_pool_reset(&pool);
    return ngx_http_hotpath_cache_get(cache, &key, &pool.pool, meta, document);
}

/* As a handle lives in the same pool as what get() gives, it is kept apart. */
static ngx_http_hotpath_cache_t *keep(ngx_http_hotpath_cache_t *cache)
{
    static ngx_http_hotpath_cache_t kept;

    kept = *cache;
    shim_zone.data = &kept;
    return &kept;
}

/* Counts everything through: each cell is free, never used, or in one entry;
 * each entry is in the order and in one slot. Nobody may be writing. */
static void check_structure(ngx_http_hotpath_cache_t *cache)
{
    ngx_http_hotpath_cache_stripe_t *stripe;
    ngx_http_hotpath_cache_place_t place;
    ngx_http_hotpath_cache_cell_t *cells;
    uint32_t s, n, k, prev, last, entries, slots;
    unsigned char *seen;
    uint64_t *slot;

    seen = malloc(cache->ncells);
    assert_non_null(seen);

    for (s = 0; s < cache->nstripes; s++) {
        stripe = &cache->region->stripe[s];
        cells = &cache->cells[(size_t)s * cache->ncells];
        memset(seen, 0, cache->ncells);
        entries = 0;
        slots = 0;
        prev = NGX_HTTP_HOTPATH_CACHE_NIL;

        for (n = stripe->newest; n != NGX_HTTP_HOTPATH_CACHE_NIL;
             n = cells[n].u.head.entry.older) {
            assert_true(n < stripe->used);
            assert_int_equal(cells[n].u.head.entry.newer, prev);
            assert_int_equal(cells[n].sequence & 3,
                             NGX_HTTP_HOTPATH_CACHE_ENTRY);
            prev = n;
            entries++;

            k = ngx_http_hotpath_cache_cells(
                (size_t)cells[n].u.head.entry.key_len +
                cells[n].u.head.entry.document_len);

            for (last = n; k > 0; k--) {
                assert_true(last < stripe->used);
                assert_int_equal(seen[last]++, 0);

                if (k > 1) {
                    last = cells[last].next;
                    assert_int_equal(cells[last].sequence & 3, 0);
                }
            }

            assert_int_equal(last, cells[n].last);

            ngx_http_hotpath_cache_place_hash(cache, cells[n].u.head.entry.hash,
                                              &place);
            assert_ptr_equal(place.stripe, stripe);

            for (k = 0, last = 0; k < 16; k++) {
                last += (*place.bucket[k / 8])[k % 8] ==
                        ((uint64_t)place.tag << 32 | (n + 1));
            }

            assert_true(last == 1 ||
                        (last == 2 && place.bucket[0] == place.bucket[1]));
        }

        assert_int_equal(stripe->oldest, prev);
        assert_int_equal(stripe->entries, entries);

        for (n = stripe->free, k = 0; n != NGX_HTTP_HOTPATH_CACHE_NIL;
             n = cells[n].next) {
            assert_true(n < stripe->used);
            assert_int_equal(seen[n]++, 0);
            k++;
        }

        assert_int_equal(stripe->nfree, k);

        for (n = 0; n < stripe->used; n++) {
            assert_int_equal(seen[n], 1);
        }

        slot = &cache->buckets[(size_t)s * cache->nbuckets][0];

        for (n = 0; n < cache->nbuckets * NGX_HTTP_HOTPATH_CACHE_SLOTS; n++) {
            slots += slot[n] != 0;
        }

        assert_int_equal(slots, entries);
    }

    free(seen);
}

static void test_directive(void **state)
{
    (void)state;

    memset(&shim_zone, 0, sizeof(shim_zone));
    assert_string_equal(directive("zone=docs", NULL),
                        "invalid zone size \"%V\"");
    assert_string_equal(directive("zone=:1m", NULL),
                        "invalid zone size \"%V\"");
    assert_string_equal(directive("zone=docs:", NULL),
                        "invalid zone size \"%V\"");
    assert_string_equal(directive("zone=docs:1x", NULL),
                        "invalid zone size \"%V\"");
    assert_non_null(strstr(directive("zone=docs:255k", NULL), "too small"));
    assert_non_null(strstr(directive("zon=docs:1m", NULL), "invalid param"));
    assert_non_null(strstr(directive("max_entry=1k", NULL), "must have"));
    assert_non_null(
        strstr(directive("zone=docs:1m", "max_entry=63"), "max_entry"));
    assert_non_null(
        strstr(directive("zone=docs:1m", "max_entry=2m"), "max_entry"));
    assert_non_null(
        strstr(directive("zone=docs:1m", "max_entry=128k"), "sixteenth"));
    assert_null(directive("zone=docs:1m", "max_entry=64k"));
    assert_string_equal(directive("zone=docs:1m", NULL),
                        "duplicate zone \"%V\"");
    shim_pool_reset(&pool);
}

static void test_sizes(void **state)
{
    static const size_t lens[] = {0,
                                  1,
                                  119,
                                  120,
                                  127,
                                  128,
                                  129,
                                  151,
                                  152,
                                  153,
                                  160,
                                  391,
                                  392,
                                  393,
                                  632,
                                  633,
                                  4096,
                                  65536,
                                  DOCUMENT_MAX - 1,
                                  DOCUMENT_MAX};
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_t *cache;
    unsigned char space[1201];
    ngx_str_t key, document;
    size_t i, len;

    (void)state;
    cache = keep(make_zone("zone=docs:32m", NULL));

    for (i = 0; i < COUNT_OF(lens); i++) {
        assert_int_equal(put(cache, 1, i + 1, lens[i]), NGX_OK);
        assert_int_equal(get(cache, 1, &meta, &document), NGX_OK);
        assert_int_equal(document.len, lens[i]);
        assert_true(document_is(&document, 1, i + 1));
        assert_int_equal(meta.version, i + 1);
        assert_int_equal(meta.modified_us, (int64_t)i - 4);
        assert_int_equal(meta.stored_ms, 1000);
        assert_int_equal(meta.fresh_ms, 2000);
        assert_int_equal(meta.stale_ms, 3000);
        assert_int_equal(meta.negative, 0);
        assert_int_equal(meta.trusted, 1);
        check_structure(cache);
    }

    /* every length of key, with a document that fills its last cell or not */
    memset(&meta, 0, sizeof(meta));
    meta.version = 1;
    memset(space, 'k', sizeof(space));

    for (len = 1; len <= 1200; len++) {
        key.data = space;
        key.len = len;
        document.data = document_space;
        document.len = len % 241;
        make_document(document_space, document.len, len, 1);
        assert_int_equal(
            ngx_http_hotpath_cache_put(cache, &key, &meta, &document), NGX_OK);
    }

    for (len = 1; len <= 1200; len++) {
        key.data = space;
        key.len = len;
        shim_pool_reset(&pool);
        assert_int_equal(ngx_http_hotpath_cache_get(cache, &key, &pool.pool,
                                                    &meta, &document),
                         NGX_OK);
        assert_int_equal(document.len, len % 241);
        assert_true(document_is(&document, len, 1));
    }

    key.len = 1201;
    assert_int_equal(ngx_http_hotpath_cache_put(cache, &key, &meta, &document),
                     NGX_DECLINED);
    assert_int_equal(
        ngx_http_hotpath_cache_get(cache, &key, &pool.pool, &meta, &document),
        NGX_DECLINED);
    key.len = 0;
    assert_int_equal(ngx_http_hotpath_cache_put(cache, &key, &meta, &document),
                     NGX_DECLINED);

    key.len = 1200;
    document.data = document_space;
    document.len = DOCUMENT_MAX + 1;
    assert_int_equal(ngx_http_hotpath_cache_put(cache, &key, &meta, &document),
                     NGX_DECLINED);

    check_structure(cache);
    drop_zone();
}

static void test_versions(void **state)
{
    ngx_http_hotpath_cache_meta_t meta, got;
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    ngx_str_t document;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", NULL));

    assert_int_equal(get(cache, 1, &got, &document), NGX_DECLINED);
    assert_int_equal(put(cache, 1, 7, 100), NGX_OK);
    assert_int_equal(put(cache, 1, 6, 100), NGX_ABORT);
    assert_int_equal(get(cache, 1, &got, &document), NGX_OK);
    assert_int_equal(got.version, 7);
    assert_true(document_is(&document, 1, 7));

    /* the same version renews the times */
    memset(&meta, 0, sizeof(meta));
    meta.version = 7;
    meta.stored_ms = 1500;
    meta.fresh_ms = 2500;
    meta.stale_ms = 3500;
    assert_int_equal(put_meta(cache, 1, &meta, 300), NGX_OK);
    assert_int_equal(get(cache, 1, &got, &document), NGX_OK);
    assert_int_equal(got.fresh_ms, 2500);
    assert_int_equal(document.len, 300);

    /* "never had one" waits for the end of freshness, and keeps the version */
    meta.version = 0;
    meta.negative = 1;
    meta.stored_ms = 2499;
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_ABORT);
    meta.stored_ms = 2500;
    meta.fresh_ms = 2600;
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_OK);
    assert_int_equal(get(cache, 1, &got, &document), NGX_OK);
    assert_int_equal(got.negative, 1);
    assert_int_equal(got.version, 7);
    assert_int_equal(document.len, 0);
    assert_int_equal(put(cache, 1, 6, 100), NGX_ABORT);

    /* a negative one is replaced by its like at once */
    meta.stored_ms = 2501;
    meta.fresh_ms = 2700;
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_OK);
    assert_int_equal(get(cache, 1, &got, &document), NGX_OK);
    assert_int_equal(got.fresh_ms, 2700);

    /* a pushed deletion has a version; what is older stays away */
    assert_int_equal(put(cache, 1, 8, 100), NGX_OK);
    meta.version = 9;
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_OK);
    assert_int_equal(put(cache, 1, 8, 100), NGX_ABORT);
    assert_int_equal(put(cache, 1, 10, 100), NGX_OK);
    assert_int_equal(get(cache, 1, &got, &document), NGX_OK);
    assert_int_equal(got.negative, 0);

    /* what is not trusted any more may be found gone */
    meta.version = 0;
    meta.stored_ms = 1001;
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_ABORT);
    ngx_http_hotpath_cache_distrust(cache);
    assert_int_equal(get(cache, 1, &got, &document), NGX_OK);
    assert_int_equal(got.trusted, 0);
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_OK);
    assert_int_equal(get(cache, 1, &got, &document), NGX_OK);
    assert_int_equal(got.trusted, 1);
    assert_int_equal(got.version, 10);

    ngx_http_hotpath_cache_stats(cache, &stats);
    assert_int_equal(stats.entries, 1);
    assert_int_equal(stats.refused_older, 5);
    assert_int_equal(stats.stores, 8);
    assert_int_equal(stats.bytes_used, 256);
    assert_true(stats.bytes_total > 900 * 1024);
    check_structure(cache);
    drop_zone();
}

static void test_reload(void **state)
{
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_cache_meta_t meta;
    ngx_str_t document, name = ngx_string("docs"), other = ngx_string("dog");
    ngx_cycle_t cycle;
    void *addr;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", NULL));
    assert_int_equal(put(cache, 3, 4, 500), NGX_OK);
    addr = shim_zone.shm.addr;

    /* the same again, as nginx does it: new handle, old memory */
    shim_zone.data = NULL;
    assert_null(directive("zone=docs:1m", NULL));
    assert_ptr_equal(shim_zone.shm.addr, addr);
    assert_int_equal(shim_zone.init(&shim_zone, cache), NGX_OK);
    cache = keep(shim_zone.data);
    assert_int_equal(get(cache, 3, &meta, &document), NGX_OK);
    assert_true(document_is(&document, 3, 4));

    memset(&cycle, 0, sizeof(cycle));
    cycle.shared_memory.part.elts = &shim_zone;
    cycle.shared_memory.part.nelts = 1;
    conf.cycle = &cycle;
    assert_ptr_equal(ngx_http_hotpath_cache_find(&conf, &name), cache);
    assert_null(ngx_http_hotpath_cache_find(&conf, &other));
    assert_int_equal(ngx_http_hotpath_cache_name(cache)->len, 4);

    shim_zone.data = NULL;
    assert_null(directive("zone=docs:1m", "max_entry=4k"));
    assert_int_equal(shim_zone.init(&shim_zone, cache), NGX_ERROR);
    assert_non_null(strstr(shim_message, "max_entry"));

    cache->region->region.layout++;
    assert_int_equal(shim_zone.init(&shim_zone, cache), NGX_ERROR);
    assert_non_null(strstr(shim_message, "layout"));

    drop_zone();
}

/* What the zone should hold: version and length of the last document that it
 * took, whether it was negative. */
static void test_model(void **state)
{
    enum { KEYS = 3000, STEPS = 60000 };
    static struct {
        uint64_t version;
        size_t len;
        int negative, known;
    } model[KEYS];
    ngx_http_hotpath_cache_meta_t meta, got;
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    ngx_int_t present, rc;
    uint64_t random, n, found, refused;
    ngx_str_t document;
    size_t step, len;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", "max_entry=40k"));
    random = 4711;
    found = 0;
    refused = 0;

    for (step = 0; step < STEPS; step++) {
        n = next_random(&random) % KEYS;

        /* a few keys get most of the work */
        if (next_random(&random) % 4) {
            n %= 50;
        }

        present = get(cache, n, &got, &document);

        if (present == NGX_OK) {
            found++;
            assert_true(model[n].known);
            assert_int_equal(got.version, model[n].version);
            assert_int_equal(got.negative, model[n].negative);
            assert_int_equal(document.len, model[n].len);
            assert_true(document_is(&document, n, got.version));

        } else {
            assert_int_equal(present, NGX_DECLINED);
        }

        if (next_random(&random) % 3 == 0) {
            continue;
        }

        memset(&meta, 0, sizeof(meta));
        meta.version = model[n].version + next_random(&random) % 5;
        meta.version -= ngx_min(meta.version, 2);
        meta.stored_ms = 10 + step;
        meta.fresh_ms = 10 + step + next_random(&random) % 2000;
        meta.stale_ms = meta.fresh_ms;
        len = next_random(&random) % 400;

        switch (next_random(&random) % 16) {
        case 0:
            len = next_random(&random) % 38000;
            meta.version += meta.version == 0;
            break;
        case 1:
            meta.version = 0;
            /* fall through */
        case 2:
            meta.negative = 1;
            len = 0;
            break;
        default:
            meta.version += meta.version == 0;
        }

        rc = put_meta(cache, n, &meta, len);

        if (present == NGX_OK && meta.version == 0 &&
            (got.negative || got.fresh_ms <= meta.stored_ms)) {
            meta.version = got.version;
        }

        if (present == NGX_OK && meta.version < got.version) {
            assert_int_equal(rc, NGX_ABORT);
            refused++;
            continue;
        }

        assert_int_equal(rc, NGX_OK);
        model[n].known = 1;
        model[n].version = meta.version;
        model[n].negative = meta.negative;
        model[n].len = len;

        if (step % 2000 == 0) {
            check_structure(cache);
        }
    }

    check_structure(cache);
    ngx_http_hotpath_cache_stats(cache, &stats);
    assert_int_equal(stats.refused_older, refused);
    assert_int_equal(stats.lock_busy + stats.resets, 0);
    assert_true(refused > 1000);
    assert_true(found > STEPS / 2);
    assert_true(stats.evictions > 1000);
    assert_true(stats.bytes_used > stats.bytes_total / 2);
    drop_zone();
}

static void test_full_buckets(void **state)
{
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_stats_t stats;
    ngx_str_t document;
    uint64_t n, found;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", NULL));

    /* as few buckets as no zone has: all keys fall into the same */
    cache->nbuckets = 1;

    for (n = 1; n <= 64; n++) {
        assert_int_equal(put(cache, n * 7 + 1, n, 50), NGX_OK);
        assert_int_equal(get(cache, n * 7 + 1, &meta, &document), NGX_OK);
        assert_true(document_is(&document, n * 7 + 1, n));
    }

    for (n = 1, found = 0; n <= 64; n++) {
        found += get(cache, n * 7 + 1, &meta, &document) == NGX_OK;
    }

    ngx_http_hotpath_cache_stats(cache, &stats);
    assert_int_equal(stats.entries, found);
    assert_int_equal(stats.evictions, 64 - found);
    assert_true(found >= 8 && found < 64);
    drop_zone();
}

/* Keys that are read again stay, whatever comes by once. */
static void test_scan(void **state)
{
    enum { HOT = 300 };
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_t *cache;
    ngx_str_t document;
    uint64_t n, cold, hits;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", "max_entry=4k"));
    hits = 0;

    for (n = 0; n < HOT; n++) {
        assert_int_equal(put(cache, n, 1, 100), NGX_OK);
        assert_int_equal(get(cache, n, &meta, &document), NGX_OK);
    }

    for (cold = 0; cold < 40000; cold++) {
        assert_int_equal(put(cache, HOT + cold, 1, 100), NGX_OK);
        hits += get(cache, cold % HOT, &meta, &document) == NGX_OK;
    }

    assert_true(hits > 40000 * 95 / 100);
    check_structure(cache);
    drop_zone();
}

/* Entries nobody can use any more go first, however often they were read. */
static void test_expired_first(void **state)
{
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    ngx_str_t document;
    uint64_t n, left;

    (void)state;
    cache = keep(make_zone("zone=docs:256k", "max_entry=1k"));

    for (n = 0; n < 400; n++) {
        assert_int_equal(put(cache, n * 7 + 1, 1, 100), NGX_OK);
        (void)get(cache, n * 7 + 1, &meta, &document);
    }

    memset(&meta, 0, sizeof(meta));
    meta.version = 1;
    meta.stored_ms = 3000;
    meta.fresh_ms = 9000;
    meta.stale_ms = 9000;

    for (n = 1000; n < 1700; n++) {
        assert_int_equal(put_meta(cache, n * 7 + 1, &meta, 100), NGX_OK);
    }

    for (n = 0, left = 0; n < 400; n++) {
        left += get(cache, n * 7 + 1, &meta, &document) == NGX_OK;
    }

    ngx_http_hotpath_cache_stats(cache, &stats);
    assert_true(stats.entries > 700);
    assert_true(left <= stats.entries - 600);
    drop_zone();
}

static pid_t start(void (*body)(ngx_http_hotpath_cache_t *, uint64_t),
                   ngx_http_hotpath_cache_t *cache, uint64_t argument)
{
    pid_t pid;

    pid = fork();
    assert_true(pid >= 0);

    if (pid == 0) {
        ngx_pid = getpid();
        body(cache, argument);
        _exit(0);
    }

    return pid;
}

static void finish(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Shared by the processes of one test. */
static struct {
    uint64_t stop;
    uint64_t reads;
    uint64_t versions[1024];
} * shared;

static void make_shared(void)
{
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_ANONYMOUS | MAP_SHARED, -1, 0);
    assert_true(shared != MAP_FAILED);
    ngx_pid = getpid();
}

#define HAMMERED 64

static void hammer_write(ngx_http_hotpath_cache_t *cache, uint64_t seed)
{
    uint64_t i, n, version;
    ngx_int_t rc;

    for (i = 0; i < 15000; i++) {
        n = next_random(&seed) % HAMMERED;
        version = __atomic_add_fetch(&shared->versions[n], 1, __ATOMIC_RELAXED);
        rc = put(cache, n, version,
                 i % 100 == 0 ? next_random(&seed) % 20000
                              : next_random(&seed) % 600);

        /* between drawing and storing, the other may have been quicker */
        if (rc != NGX_OK && rc != NGX_ABORT && rc != NGX_BUSY) {
            _exit(1);
        }
    }
}

static void hammer_read(ngx_http_hotpath_cache_t *cache, uint64_t seed)
{
    static uint64_t last[HAMMERED];
    ngx_http_hotpath_cache_meta_t meta;
    ngx_str_t document;
    uint64_t n, reads;

    reads = 0;

    while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
        n = next_random(&seed) % HAMMERED;

        if (get(cache, n, &meta, &document) != NGX_OK) {
            continue;
        }

        if (!document_is(&document, n, meta.version) ||
            meta.modified_us != (int64_t)meta.version - 5) {
            _exit(2);
        }

        /* nothing is evicted here, so nothing ever goes back */
        if (meta.version < last[n]) {
            _exit(3);
        }

        last[n] = meta.version;
        reads++;
    }

    __atomic_add_fetch(&shared->reads, reads, __ATOMIC_RELAXED);
}

static void test_processes(void **state)
{
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    pid_t writers[2], readers[2];

    (void)state;
    cache = keep(make_zone("zone=docs:8m", "max_entry=32k"));
    make_shared();

    readers[0] = start(hammer_read, cache, 1);
    readers[1] = start(hammer_read, cache, 2);
    writers[0] = start(hammer_write, cache, 3);
    writers[1] = start(hammer_write, cache, 4);
    finish(writers[0]);
    finish(writers[1]);
    __atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
    finish(readers[0]);
    finish(readers[1]);

    ngx_http_hotpath_cache_stats(cache, &stats);
    assert_int_equal(stats.evictions + stats.resets, 0);
    assert_int_equal(stats.entries, HAMMERED);
    assert_true(stats.stores > 15000);
    assert_true(shared->reads > 1000);
    check_structure(cache);
    munmap(shared, sizeof(*shared));
    drop_zone();
}

/* Puts for ever, in a zone that is too small for it: everything that a put can
 * do is going on when the signal comes. */
static void write_until_killed(ngx_http_hotpath_cache_t *cache, uint64_t seed)
{
    uint64_t n;

    for (;;) {
        n = next_random(&seed) % 1500;
        (void)put(cache, n, 1 + next_random(&seed) % 1000000,
                  next_random(&seed) % 8 == 0 ? next_random(&seed) % 15000
                                              : next_random(&seed) % 500);
    }
}

static void read_until_stopped(ngx_http_hotpath_cache_t *cache, uint64_t seed)
{
    ngx_http_hotpath_cache_meta_t meta;
    ngx_str_t document;
    uint64_t n, reads;

    reads = 0;

    while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
        n = next_random(&seed) % 1500;

        if (get(cache, n, &meta, &document) != NGX_OK) {
            continue;
        }

        if (!document_is(&document, n, meta.version)) {
            _exit(2);
        }

        reads++;
    }

    __atomic_add_fetch(&shared->reads, reads, __ATOMIC_RELAXED);
}

static void test_killed_writers(void **state)
{
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_t *cache;
    uint64_t random, i, n, stores;
    ngx_str_t document;
    volatile int spin;
    pid_t reader, writer;
    int status;

    (void)state;
    cache = keep(make_zone("zone=docs:512k", "max_entry=16k"));
    make_shared();
    random = 42;
    reader = start(read_until_stopped, cache, 5);

    for (i = 0; i < KILLS; i++) {
        ngx_http_hotpath_cache_stats(cache, &stats);
        stores = stats.stores;
        writer = start(write_until_killed, cache, i);

        /* until it is at work, and then any time */
        do {
            ngx_http_hotpath_cache_stats(cache, &stats);
        } while (stats.stores == stores &&
                 waitpid(writer, &status, WNOHANG) == 0);

        for (spin = (int)(next_random(&random) % 3000); spin > 0; spin--) {
        }

        assert_int_equal(kill(writer, SIGKILL), 0);
        assert_int_equal(waitpid(writer, &status, 0), writer);
        assert_true(WIFSIGNALED(status));

        if (i % 8 == 0) {
            n = 2000 + next_random(&random) % 64;
            assert_int_equal(put(cache, n, i + 1, 300), NGX_OK);
            assert_int_equal(get(cache, n, &meta, &document), NGX_OK);
            assert_int_equal(meta.version, i + 1);
            assert_true(document_is(&document, n, i + 1));
        }
    }

    __atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
    finish(reader);

    /* every stripe is touched once more, so that none is left torn */
    for (n = 3000; n < 3000 + 64 * (uint64_t)cache->nstripes; n++) {
        assert_int_equal(put(cache, n, 1, 300), NGX_OK);
        assert_int_equal(get(cache, n, &meta, &document), NGX_OK);
        assert_true(document_is(&document, n, 1));
    }

    check_structure(cache);
    ngx_http_hotpath_cache_stats(cache, &stats);
    print_message("%d writers killed, %d of them inside, %llu good reads\n",
                  KILLS, (int)stats.resets, (unsigned long long)shared->reads);
    assert_true(stats.resets > KILLS / 20);
    assert_true(shared->reads > 1000);
    assert_true(stats.evictions > 1000);
    munmap(shared, sizeof(*shared));
    drop_zone();
}

static void hold_lock(ngx_http_hotpath_cache_t *cache, uint64_t fd)
{
    ngx_http_hotpath_lock_t *lock = &cache->region->stripe[0].lock;

    if (ngx_http_hotpath_lock(lock) != NGX_OK || write((int)fd, "h", 1) != 1) {
        _exit(1);
    }

    for (;;) {
        pause();
    }
}

static void test_lock(void **state)
{
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_lock_t *lock;
    int status, fds[2];
    pid_t holder;
    char byte;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", NULL));
    lock = &cache->region->stripe[0].lock;
    ngx_pid = getpid();

    assert_int_equal(ngx_http_hotpath_lock(lock), NGX_OK);
    assert_int_equal(lock->owner, getpid());
    ngx_http_hotpath_unlock(lock);
    assert_int_equal(lock->owner, 0);

    /* of a process that lives: not to be had, and not waited for */
    assert_int_equal(pipe(fds), 0);
    holder = start(hold_lock, cache, (uint64_t)fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    assert_int_equal(ngx_http_hotpath_lock(lock), NGX_BUSY);
    assert_int_equal(lock->owner, holder);

    /* of one that died between two changes */
    assert_int_equal(kill(holder, SIGKILL), 0);
    assert_int_equal(waitpid(holder, &status, 0), holder);
    assert_int_equal(ngx_http_hotpath_lock(lock), NGX_OK);
    ngx_http_hotpath_unlock(lock);

    /* of one that died within a change, until somebody has mended it */
    lock->owner = (ngx_atomic_uint_t)holder;
    lock->dirty = 1;
    assert_int_equal(ngx_http_hotpath_lock(lock), NGX_ABORT);
    ngx_http_hotpath_unlock(lock);
    assert_int_equal(ngx_http_hotpath_lock(lock), NGX_ABORT);
    ngx_http_hotpath_lock_begin(lock);
    ngx_http_hotpath_lock_end(lock);
    ngx_http_hotpath_unlock(lock);

    /* of one whose pid is ours now */
    lock->owner = (ngx_atomic_uint_t)getpid();
    assert_int_equal(ngx_http_hotpath_lock(lock), NGX_OK);
    ngx_http_hotpath_unlock(lock);

    close(fds[0]);
    close(fds[1]);
    drop_zone();
}

/* A lock that cannot be had costs the put, and no reader. */
static void test_busy(void **state)
{
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_t *cache;
    int status, fds[2];
    ngx_str_t document;
    pid_t holder;
    char byte;

    (void)state;
    cache = keep(make_zone("zone=docs:256k", NULL));
    assert_int_equal(cache->nstripes, 1);
    assert_int_equal(put(cache, 1, 1, 100), NGX_OK);

    assert_int_equal(pipe(fds), 0);
    holder = start(hold_lock, cache, (uint64_t)fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);

    assert_int_equal(put(cache, 1, 2, 100), NGX_BUSY);
    assert_int_equal(get(cache, 1, &meta, &document), NGX_OK);
    assert_int_equal(meta.version, 1);
    ngx_http_hotpath_cache_stats(cache, &stats);
    assert_int_equal(stats.lock_busy, 1);

    assert_int_equal(kill(holder, SIGKILL), 0);
    assert_int_equal(waitpid(holder, &status, 0), holder);
    assert_int_equal(put(cache, 1, 2, 100), NGX_OK);

    close(fds[0]);
    close(fds[1]);
    drop_zone();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directive), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_versions),  cmocka_unit_test(test_reload),
        cmocka_unit_test(test_model),     cmocka_unit_test(test_full_buckets),
        cmocka_unit_test(test_scan),      cmocka_unit_test(test_expired_first),
        cmocka_unit_test(test_lock),      cmocka_unit_test(test_busy),
        cmocka_unit_test(test_processes), cmocka_unit_test(test_killed_writers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
