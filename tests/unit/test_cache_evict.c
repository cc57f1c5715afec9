/*
 * test_cache_evict.c: what a full cache zone lets go, and what it keeps.
 *
 * Nothing while there is room, however the keys fall into buckets; then what
 * nobody may use any more, then what came once; never what is read all the
 * time, whatever comes by, and not what is largest. That the rules give hit
 * ratios worth having is shown by tests/bench/eviction.c.
 *
 * Hashes have one seed, so that every run is the same. One process.
 */
#include "support.h"

#include "cache_zone.h"

/* As long as there is room nothing leaves, however the keys fall. */
static void test_full(void **state)
{
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    uint64_t n, seed;

    (void)state;

    for (seed = 1; seed <= 5; seed++) {
        cache = keep(make_zone("zone=docs:2m", NULL));
        assert_int_equal(cache->nstripes, 1);
        cache->seed = seed;

        for (n = 0; n < cache->ncells; n++) {
            assert_int_equal(put(cache, n * 7 + 1, 1, 50), NGX_OK);
        }

        ngx_http_hotpath_cache_stats(cache, &stats);
        assert_int_equal(stats.evictions, 0);
        assert_int_equal(stats.entries, cache->ncells);
        check_structure(cache);

        for (n = 0; n < cache->ncells; n++) {
            assert_int_equal(get(cache, n * 7 + 1, &copy), NGX_OK);
            assert_true(body_is(&copy, n * 7 + 1, 1));
        }

        drop_zone();
    }
}

static void test_full_buckets(void **state)
{
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_copy_t copy;
    uint64_t n, found;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", NULL));

    /* as few buckets as no zone has: all keys fall into the same */
    cache->nbuckets = 1;

    for (n = 1; n <= 64; n++) {
        assert_int_equal(put(cache, n * 7 + 1, n, 50), NGX_OK);
        assert_int_equal(get(cache, n * 7 + 1, &copy), NGX_OK);
        assert_true(body_is(&copy, n * 7 + 1, n));
    }

    for (n = 1, found = 0; n <= 64; n++) {
        found += get(cache, n * 7 + 1, &copy) == NGX_OK;
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
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    uint64_t n, cold, hits;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", "max_entry=4k"));
    hits = 0;

    for (n = 0; n < HOT; n++) {
        assert_int_equal(put(cache, n, 1, 100), NGX_OK);
        assert_int_equal(get(cache, n, &copy), NGX_OK);
    }

    for (cold = 0; cold < 40000; cold++) {
        assert_int_equal(put(cache, HOT + cold, 1, 100), NGX_OK);
        hits += get(cache, cold % HOT, &copy) == NGX_OK;
    }

    assert_true(hits > 40000 * 95 / 100);
    check_structure(cache);
    drop_zone();
}

/* In the main queue: neither marks nor the small queue make walk.main meet an
 * entry. */
static uint64_t count_main(ngx_http_hotpath_cache_t *cache)
{
    uint64_t entries = 0;
    uint32_t s;

    for (s = 0; s < cache->nstripes; s++) {
        entries += cache->region->stripe[s].queue[1].entries;
    }

    return entries;
}

/* Without reading it, as a walk would see it. */
static int is_there(ngx_http_hotpath_cache_t *cache, uint64_t n)
{
    ngx_http_hotpath_cache_place_t place;
    unsigned char space[1200];
    ngx_str_t key;

    key = make_key(space, n);
    ngx_http_hotpath_cache_place(cache, &key, &place);
    return ngx_http_hotpath_cache_find_locked(cache, &place, &key) != NULL;
}

/* What was read once moves on, what was not leaves and is known when it comes
 * back; a new version stays where the old one was. */
static void test_queues(void **state)
{
    ngx_http_hotpath_cache_walk_t walk;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    uint64_t n, cells, back;

    (void)state;
    cache = keep(make_zone("zone=docs:256k", "max_entry=2k"));
    assert_int_equal(cache->nstripes, 2);
    cells = (uint64_t)cache->ncells * cache->nstripes;

    for (n = 1; n < cells * 9 / 10; n++) {
        assert_int_equal(put(cache, n * 7 + 1, 1, 50), NGX_OK);
    }

    /* nothing was pressed yet */
    assert_int_equal(count_main(cache), 0);

    for (n = 1; n <= 20; n++) {
        assert_int_equal(get(cache, n * 7 + 1, &copy), NGX_OK);
    }

    for (n = 1; n < cells; n++) {
        assert_int_equal(put(cache, (n + 10000) * 7 + 1, 1, 50), NGX_OK);
    }

    assert_int_equal(count_main(cache), 20);
    memset(&walk, 0, sizeof(walk));
    walk.main = 1;
    assert_int_equal(walk_all(cache, &walk, 100), 20);

    for (n = 1; n <= 20; n++) {
        assert_int_equal(put(cache, n * 7 + 1, 2, 1500), NGX_OK);
        assert_int_equal(get(cache, n * 7 + 1, &copy), NGX_OK);
        assert_int_equal(copy.meta.version, 2);
    }

    assert_int_equal(count_main(cache), 20);
    check_structure(cache);

    /* those that left last are remembered, as many as the main queue has */
    for (n = cells - 1, back = 0; n > 0 && back < 20; n--) {
        if (!is_there(cache, (n + 10000) * 7 + 1)) {
            assert_int_equal(put(cache, (n + 10000) * 7 + 1, 1, 50), NGX_OK);
            back++;
        }
    }

    assert_int_equal(back, 20);
    assert_true(count_main(cache) >= 20 + 15);

    /* those that nobody remembers are new */
    for (n = 1, back = count_main(cache); n <= 30; n++) {
        assert_int_equal(put(cache, (n + 900000) * 7 + 1, 1, 50), NGX_OK);
    }

    assert_int_equal(count_main(cache), back);
    check_structure(cache);
    drop_zone();
}

/* The largest entries that a zone takes do not push one another out. */
static void test_large(void **state)
{
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    uint64_t n, round, hits;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", NULL));

    for (round = 0, hits = 0; round < 20; round++) {
        for (n = 1; n <= 9; n++) {
            if (get(cache, n * 7 + 1, &copy) == NGX_OK) {
                assert_true(body_is(&copy, n * 7 + 1, 1));
                hits++;
            } else {
                assert_int_equal(put(cache, n * 7 + 1, 1, 65000), NGX_OK);
            }
        }
    }

    ngx_http_hotpath_cache_stats(cache, &stats);
    assert_int_equal(stats.evictions, 0);
    assert_int_equal(hits, 19 * 9);

    /* nor do small ones that nobody reads push them out */
    for (n = 100; n < 20000; n++) {
        assert_int_equal(put(cache, n * 7 + 1, 1, 50), NGX_OK);

        if (n % 100 == 0) {
            for (round = 1; round <= 9; round++) {
                hits += get(cache, round * 7 + 1, &copy) == NGX_OK;
            }
        }
    }

    assert_true(hits > 19 * 9 + 199 * 9 * 95 / 100);
    check_structure(cache);
    drop_zone();
}

/* Entries nobody can use any more go first, however often they were read. */
static void test_expired_first(void **state)
{
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    uint64_t n, left;

    (void)state;
    cache = keep(make_zone("zone=docs:256k", "max_entry=1k"));

    for (n = 0; n < 300; n++) {
        assert_int_equal(put(cache, n * 7 + 1, 1, 100), NGX_OK);
        (void)get(cache, n * 7 + 1, &copy);
    }

    memset(&meta, 0, sizeof(meta));
    meta.version = 1;
    meta.stored_ms = 3000;
    meta.fresh_ms = 9000;
    meta.stale_ms = 9000;

    for (n = 1000; n < 1500; n++) {
        assert_int_equal(put_meta(cache, n * 7 + 1, &meta, 100), NGX_OK);
    }

    for (n = 0, left = 0; n < 300; n++) {
        left += get(cache, n * 7 + 1, &copy) == NGX_OK;
    }

    ngx_http_hotpath_cache_stats(cache, &stats);
    assert_true(stats.entries > 600);
    assert_true(left <= stats.entries - 490);
    drop_zone();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),  cmocka_unit_test(test_full_buckets),
        cmocka_unit_test(test_scan),  cmocka_unit_test(test_queues),
        cmocka_unit_test(test_large), cmocka_unit_test(test_expired_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
