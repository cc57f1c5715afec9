/*
 * test_cache.c: unit tests of ngx_module/ngx_http_hotpath_cache.c and of the
 * lock in ngx_http_hotpath_shm.c, by what their headers say.
 *
 * Sizes around every border of the layout, bounds, coded bodies, the rule of
 * versions, trust and purges, walks, reloads; the lock and who dies with it.
 * What is evicted is in test_cache_evict.c, random work in test_cache_model.c,
 * other processes in test_cache_kill.c, threads in cache_threads.c.
 *
 * Forks two children, and waits for each.
 */
#include "support.h"

#include <sys/wait.h>

#include "cache_zone.h"

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
    static const size_t lens[] = {
        0,   1,   95,  96,  103, 104, 105, 119, 120,  127,   128,   129,
        135, 136, 137, 151, 152, 153, 160, 335, 336,  337,   367,   368,
        369, 391, 392, 393, 632, 633, 960, 961, 4096, 65536, 500000};
    static const ngx_uint_t wanted[] = {
        HP_CODING_IDENTITY, HP_CODING_GZIP, HP_CODING_BR,
        HP_CODING_IDENTITY | HP_CODING_GZIP | HP_CODING_BR};
    ngx_http_hotpath_cache_content_t content;
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    unsigned char space[1201];
    uint64_t version;
    size_t i, w, len;
    ngx_str_t key;

    (void)state;
    cache = keep(make_zone("zone=docs:32m", NULL));

    /* twelve versions: every choice of codings, heads and tags of any number */
    for (i = 0; i < COUNT_OF(lens) * 12; i++) {
        len = lens[i / 12];
        version = i + 1;
        meta = make_meta(version);
        assert_int_equal(put_parts(cache, 1, &meta, len), NGX_OK);

        for (w = 0; w < COUNT_OF(wanted); w++) {
            assert_int_equal(get_coded(cache, 1, wanted[w], &copy), NGX_OK);
            assert_int_equal(copy.meta.version, version);
            assert_int_equal(copy.codings, codings_of(1, version));
            assert_true(copy_is(&copy, 1, 0));
            assert_int_equal(copy.body.len,
                             copy.coding == HP_CODING_BR     ? len / 3 + 1
                             : copy.coding == HP_CODING_GZIP ? len / 2 + 1
                                                             : len);
            assert_int_equal(
                copy.coding,
                wanted[w] & copy.codings & HP_CODING_BR     ? HP_CODING_BR
                : wanted[w] & copy.codings & HP_CODING_GZIP ? HP_CODING_GZIP
                                                            : 1);
            assert_int_equal(copy.meta.stored_ms, 1000);
            assert_int_equal(copy.meta.fresh_ms, 2000);
            assert_int_equal(copy.meta.revalidate_ms, 2500);
            assert_int_equal(copy.meta.stale_ms, 3000);
            assert_int_equal(copy.meta.negative, 0);
            assert_int_equal(copy.meta.trusted, 1);
            assert_int_equal(copy.meta.begun, 0);
        }

        check_structure(cache);
    }

    assert_int_equal(put(cache, 1, 1000, DOCUMENT_MAX), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.body.len, DOCUMENT_MAX);
    assert_true(body_is(&copy, 1, 1000));

    /* every length of key, with a document that fills its last cell or not */
    meta = make_meta(1);
    memset(&content, 0, sizeof(content));
    memset(space, 'k', sizeof(space));
    key.data = space;
    content.body.data = part_space[0];

    for (len = 1; len <= 1200; len++) {
        key.len = len;
        content.body.len = len % 241;
        make_part(part_space[0], content.body.len, HP_CODING_IDENTITY, len, 1);
        assert_int_equal(
            ngx_http_hotpath_cache_put(cache, &key, &meta, &content), NGX_OK);
    }

    for (len = 1; len <= 1200; len++) {
        key.len = len;
        shim_pool_reset(&pool);
        assert_int_equal(ngx_http_hotpath_cache_get(cache, &key,
                                                    HP_CODING_IDENTITY,
                                                    &pool.pool, NULL, &copy),
                         NGX_OK);
        assert_int_equal(copy.body.len, len % 241);
        assert_true(body_is(&copy, len, 1));
    }

    key.len = 1201;
    assert_int_equal(ngx_http_hotpath_cache_put(cache, &key, &meta, &content),
                     NGX_DECLINED);
    assert_int_equal(ngx_http_hotpath_cache_get(cache, &key, HP_CODING_IDENTITY,
                                                &pool.pool, NULL, &copy),
                     NGX_DECLINED);
    assert_int_equal(ngx_http_hotpath_cache_purge(cache, &key, 0),
                     NGX_DECLINED);
    key.len = 0;
    assert_int_equal(ngx_http_hotpath_cache_put(cache, &key, &meta, &content),
                     NGX_DECLINED);
    assert_int_equal(ngx_http_hotpath_cache_purge(cache, &key, 0),
                     NGX_DECLINED);

    check_structure(cache);
    drop_zone();
}

/* max_entry bounds the key and all the parts together, and each has its own. */
static void test_bounds(void **state)
{
    static uint64_t tags[NGX_HTTP_HOTPATH_CACHE_TAGS + 1];
    ngx_http_hotpath_cache_content_t content;
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_t *cache;
    ngx_str_t key = ngx_string("key"), empty = ngx_null_string, *part;
    ngx_str_t *parts[] = {&content.head, &content.body, &content.gzip,
                          &content.br};
    size_t i;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", "max_entry=20k"));
    meta = make_meta(1);

    for (i = 0; i < COUNT_OF(parts); i++) {
        memset(&content, 0, sizeof(content));
        content.tags = tags;
        content.ntags = 2;
        content.head.data = content.body.data = part_space[0];
        content.gzip.data = content.br.data = part_space[0];
        content.head.len = content.body.len = 10;
        content.gzip.len = content.br.len = 10;
        part = parts[i];

        part->len = i == 0 ? 16384 : 20 * 1024 - 3 - 16 - 30;
        assert_int_equal(
            ngx_http_hotpath_cache_put(cache, &key, &meta, &content), NGX_OK);
        part->len++;
        assert_int_equal(
            ngx_http_hotpath_cache_put(cache, &key, &meta, &content),
            NGX_DECLINED);
        part->len = (size_t)-1;
        assert_int_equal(
            ngx_http_hotpath_cache_put(cache, &key, &meta, &content),
            NGX_DECLINED);
    }

    memset(&content, 0, sizeof(content));
    content.tags = tags;
    content.ntags = NGX_HTTP_HOTPATH_CACHE_TAGS + 1;
    assert_int_equal(ngx_http_hotpath_cache_put(cache, &key, &meta, &content),
                     NGX_DECLINED);

    content.ntags = 0;
    content.body.data = part_space[0];
    content.body.len = 10 * 1024;
    assert_int_equal(ngx_http_hotpath_cache_put(cache, &key, &meta, &content),
                     NGX_OK);
    content.gzip.data = part_space[0];
    content.gzip.len = 10 * 1024 - 3 + 1;
    assert_int_equal(ngx_http_hotpath_cache_put_codings(
                         cache, &key, 1, 10 * 1024, &content.gzip, &empty),
                     NGX_DECLINED);
    assert_int_equal(ngx_http_hotpath_cache_put_codings(
                         cache, &key, 1, 10 * 1024, &empty, &content.gzip),
                     NGX_DECLINED);
    content.gzip.len--;
    assert_int_equal(ngx_http_hotpath_cache_put_codings(
                         cache, &key, 1, 10 * 1024, &content.gzip, &empty),
                     NGX_OK);
    content.gzip.len = 1;
    assert_int_equal(ngx_http_hotpath_cache_put_codings(
                         cache, &key, 1, 10 * 1024, &empty, &content.gzip),
                     NGX_DECLINED);
    check_structure(cache);
    drop_zone();
}

/* Coded bodies that come later, in either order, to entries of any shape. */
static void test_codings(void **state)
{
    enum { BOTH = HP_CODING_GZIP | HP_CODING_BR };
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    ngx_uint_t first, coding;
    uint64_t n;
    size_t len;

    (void)state;
    cache = keep(make_zone("zone=docs:2m", "max_entry=40k"));

    for (n = 0; n < 600; n++) {
        len = n * n % 3000;
        first = n % 3 == 0 ? BOTH : n % 3 == 1 ? HP_CODING_GZIP : HP_CODING_BR;
        meta = make_meta(9);
        assert_int_equal(put_parts(cache, n, &meta, len), NGX_OK);

        assert_int_equal(put_codings(cache, n, 8, len, BOTH), NGX_DECLINED);
        assert_int_equal(put_codings(cache, n, 10, len, BOTH), NGX_DECLINED);
        assert_int_equal(put_codings(cache, n, 9, len + 1, BOTH), NGX_DECLINED);
        assert_int_equal(put_codings(cache, n + 7000, 9, len, BOTH),
                         NGX_DECLINED);
        assert_int_equal(put_codings(cache, n, 9, len, 0), NGX_OK);
        assert_int_equal(get(cache, n, &copy), NGX_OK);
        assert_true(copy_is(&copy, n, 0));

        assert_int_equal(put_codings(cache, n, 9, len, first), NGX_OK);
        assert_int_equal(get_coded(cache, n, BOTH, &copy), NGX_OK);
        assert_int_equal(copy.codings,
                         codings_of(n, 9) | first | HP_CODING_IDENTITY);
        assert_true(copy_is(&copy, n, BOTH));
        assert_int_equal(put_codings(cache, n, 9, len, BOTH), NGX_OK);

        for (coding = HP_CODING_IDENTITY; coding <= HP_CODING_BR; coding *= 2) {
            assert_int_equal(get_coded(cache, n, coding, &copy), NGX_OK);
            assert_int_equal(copy.coding, coding);
            assert_int_equal(copy.codings, BOTH | HP_CODING_IDENTITY);
            assert_true(copy_is(&copy, n, BOTH));
            assert_int_equal(copy.meta.trusted, 1);
            assert_int_equal(copy.meta.stale_ms, 3000);
        }

        if (n % 50 == 0) {
            check_structure(cache);
        }
    }

    /* a purged entry stays purged */
    assert_int_equal(put(cache, 9000, 4, 500), NGX_OK);
    assert_int_equal(purge(cache, 9000, 1), NGX_OK);
    assert_int_equal(put_codings(cache, 9000, 4, 500, BOTH), NGX_OK);
    assert_int_equal(get_coded(cache, 9000, BOTH, &copy), NGX_OK);
    assert_int_equal(copy.coding, HP_CODING_BR);
    assert_int_equal(copy.meta.trusted, 0);
    assert_int_equal(copy.meta.stale_ms, 0);

    check_structure(cache);
    drop_zone();
}

static void test_begun(void **state)
{
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    uint64_t begun;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", NULL));
    begun = ngx_http_hotpath_cache_begun(cache);
    assert_true(begun != 0);

    /* asked and answered with nothing in between */
    meta = make_meta(1);
    meta.begun = begun;
    assert_int_equal(put_meta(cache, 1, &meta, 10), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.trusted, 1);

    /* the purge of any key makes what was asked for before it doubtful, the
     * one of another key and of one that is not there too */
    assert_int_equal(purge(cache, 2, 0), NGX_DECLINED);
    meta.version = 2;
    assert_int_equal(put_meta(cache, 1, &meta, 10), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.version, 2);
    assert_int_equal(copy.meta.trusted, 0);

    /* what was pushed is not */
    meta.begun = 0;
    assert_int_equal(put_meta(cache, 1, &meta, 10), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.trusted, 1);

    begun = ngx_http_hotpath_cache_begun(cache);
    ngx_http_hotpath_cache_distrust(cache);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.trusted, 0);
    meta.begun = begun;
    assert_int_equal(put_meta(cache, 1, &meta, 10), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.trusted, 0);
    meta.begun = ngx_http_hotpath_cache_begun(cache);
    assert_int_equal(put_meta(cache, 1, &meta, 10), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.trusted, 1);

    /* what is not trusted may be found gone, at any time */
    meta = make_meta(0);
    meta.negative = 1;
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_ABORT);
    assert_int_equal(purge(cache, 1, 0), NGX_OK);
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.negative, 1);
    assert_int_equal(copy.meta.version, 2);

    /* and a counter that has come round does no harm */
    cache->region->begun |= (uint32_t)-1;
    begun = ngx_http_hotpath_cache_begun(cache);
    assert_int_equal(purge(cache, 2, 0), NGX_DECLINED);
    assert_true(ngx_http_hotpath_cache_begun(cache) != begun);
    cache->region->begun |= (uint64_t)-1 << 32;
    ngx_http_hotpath_cache_distrust(cache);
    assert_int_equal(put(cache, 3, 1, 10), NGX_OK);
    assert_int_equal(get(cache, 3, &copy), NGX_OK);
    assert_int_equal(copy.meta.trusted, 0);

    drop_zone();
}

static void test_purge(void **state)
{
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", NULL));
    meta = make_meta(5);

    assert_int_equal(purge(cache, 1, 0), NGX_DECLINED);
    assert_int_equal(purge(cache, 1, 1), NGX_DECLINED);
    assert_int_equal(put_parts(cache, 1, &meta, 700), NGX_OK);

    assert_int_equal(purge(cache, 1, 0), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_true(copy_is(&copy, 1, 0));
    assert_int_equal(copy.meta.trusted, 0);
    assert_int_equal(copy.meta.fresh_ms, 2000);
    assert_int_equal(copy.meta.revalidate_ms, 2500);
    assert_int_equal(copy.meta.stale_ms, 3000);
    assert_int_equal(purge(cache, 1, 0), NGX_DECLINED);

    assert_int_equal(purge(cache, 1, 1), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_true(copy_is(&copy, 1, 0));
    assert_int_equal(copy.meta.version, 5);
    assert_int_equal(copy.meta.trusted, 0);
    assert_int_equal(copy.meta.stored_ms, 1000);
    assert_int_equal(copy.meta.fresh_ms, 0);
    assert_int_equal(copy.meta.revalidate_ms, 0);
    assert_int_equal(copy.meta.stale_ms, 0);
    assert_int_equal(purge(cache, 1, 1), NGX_DECLINED);
    assert_int_equal(purge(cache, 1, 0), NGX_DECLINED);

    /* nothing older comes back, the same and newer do */
    assert_int_equal(put(cache, 1, 4, 10), NGX_ABORT);
    assert_int_equal(put(cache, 1, 5, 10), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.trusted, 1);
    assert_int_equal(copy.meta.stale_ms, 3000);

    /* a distrusted one is not trusted as it is, but can still be taken away */
    ngx_http_hotpath_cache_distrust(cache);
    assert_int_equal(purge(cache, 1, 0), NGX_DECLINED);
    assert_int_equal(purge(cache, 1, 1), NGX_OK);

    check_structure(cache);
    drop_zone();
}

static void test_tag(void **state)
{
    ngx_str_t prices = ngx_string("prices"), price = ngx_string("price");
    ngx_str_t a = ngx_string("a"), sa = ngx_string("sa");
    ngx_str_t empty = ngx_null_string;

    (void)state;
    assert_true(ngx_http_hotpath_cache_tag(&prices, &a) != 0);
    assert_true(ngx_http_hotpath_cache_tag(&prices, &a) ==
                ngx_http_hotpath_cache_tag(&prices, &a));
    assert_true(ngx_http_hotpath_cache_tag(&prices, &a) !=
                ngx_http_hotpath_cache_tag(&price, &a));
    assert_true(ngx_http_hotpath_cache_tag(&prices, &a) !=
                ngx_http_hotpath_cache_tag(&price, &sa));
    assert_true(ngx_http_hotpath_cache_tag(&prices, &empty) !=
                ngx_http_hotpath_cache_tag(&empty, &prices));
}

/* What a walk met; the callback's data. */
typedef struct {
    unsigned met[4000];
    size_t n;
} met_t;

static void meet(void *data, ngx_str_t *key)
{
    unsigned char space[1200];
    met_t *met = data;
    ngx_str_t expected;
    uint64_t n;

    memcpy(&n, key->data, sizeof(n));
    assert_true(n < COUNT_OF(met->met));
    expected = make_key(space, n);
    assert_int_equal(key->len, expected.len);
    assert_memory_equal(key->data, expected.data, key->len);
    met->met[n]++;
    met->n++;
}

static void test_walk(void **state)
{
    enum { KEYS = 2000 };
    static const ngx_uint_t steps[] = {1, 7, 32, 33, 1000, 1000000};
    ngx_http_hotpath_cache_walk_t walk;
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    unsigned char space[1200];
    uint64_t n, expected, begun;
    static met_t met;
    size_t i, t;

    (void)state;
    cache = keep(make_zone("zone=docs:8m", "max_entry=8k"));
    assert_true(cache->nstripes > 4);
    memset(&walk, 0, sizeof(walk));
    assert_int_equal(ngx_http_hotpath_cache_walk(cache, &walk, 1), NGX_OK);

    for (n = 0; n < KEYS; n++) {
        meta = make_meta(n % 9 + 1);
        assert_int_equal(put_parts(cache, n, &meta, n % 700), NGX_OK);
    }

    walk.each = meet;
    walk.data = &met;

    for (i = 0; i < COUNT_OF(steps); i++) {
        memset(&met, 0, sizeof(met));
        assert_int_equal(walk_all(cache, &walk, steps[i]), KEYS);

        for (n = 0; n < KEYS; n++) {
            assert_int_equal(met.met[n], 1);
        }
    }

    /* what was read */
    for (n = 0; n < KEYS; n += 3) {
        assert_int_equal(get(cache, n, &copy), NGX_OK);
    }

    memset(&met, 0, sizeof(met));
    walk.main = 1;
    assert_int_equal(walk_all(cache, &walk, 100), (KEYS + 2) / 3);

    for (n = 0; n < KEYS; n++) {
        assert_int_equal(met.met[n], n % 3 == 0);
    }

    walk.main = 0;

    /* a prefix: the first byte of a number is its lowest */
    walk.prefix = make_key(space, 77);
    walk.prefix.len = 1;
    memset(&met, 0, sizeof(met));

    for (n = 0, expected = 0; n < KEYS; n++) {
        expected += n % 256 == 77;
    }

    assert_int_equal(walk_all(cache, &walk, 100), expected);
    assert_int_equal(met.met[77 + 512], 1);
    walk.prefix.len = 1200;
    assert_int_equal(walk_all(cache, &walk, 100), 0);
    walk.prefix.len = 0;

    /* tags: met by anybody, then purged softly, then hard */
    walk.tag = 42;

    for (n = 0, expected = 0; n < KEYS; n++) {
        for (t = 0; t < tags_of(n, n % 9 + 1); t++) {
            if (tag_of(n, n % 9 + 1, t) == 42) {
                expected++;
                break;
            }
        }
    }

    assert_true(expected > 50);
    begun = ngx_http_hotpath_cache_begun(cache);
    assert_int_equal(walk_all(cache, &walk, 100), expected);
    assert_true(ngx_http_hotpath_cache_begun(cache) == begun);
    walk.purge = 1;
    assert_int_equal(walk_all(cache, &walk, 100), expected);
    assert_true(ngx_http_hotpath_cache_begun(cache) == begun + 1);
    assert_int_equal(walk_all(cache, &walk, 100), 0);
    walk.hard = 1;
    walk.each = NULL;
    assert_int_equal(walk_all(cache, &walk, 100), expected);
    assert_int_equal(walk_all(cache, &walk, 100), 0);

    for (n = 0; n < KEYS; n++) {
        assert_int_equal(get(cache, n, &copy), NGX_OK);
        assert_true(copy_is(&copy, n, 0));

        for (t = 0; t < tags_of(n, n % 9 + 1); t++) {
            if (tag_of(n, n % 9 + 1, t) == 42) {
                break;
            }
        }

        assert_int_equal(copy.meta.trusted, t == tags_of(n, n % 9 + 1));
        assert_int_equal(copy.meta.stale_ms,
                         t == tags_of(n, n % 9 + 1) ? 3000 : 0);
    }

    check_structure(cache);
    drop_zone();
}

static void test_cold(void **state)
{
    ngx_http_hotpath_cache_t *cache;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", NULL));
    assert_int_equal(ngx_http_hotpath_cache_cold(cache), 1);
    assert_int_equal(put(cache, 1, 1, 10), NGX_OK);
    assert_int_equal(ngx_http_hotpath_cache_cold(cache), 1);
    ngx_http_hotpath_cache_warm(cache);
    assert_int_equal(ngx_http_hotpath_cache_cold(cache), 0);

    /* after a reload it is what it was */
    shim_zone.data = NULL;
    assert_null(directive("zone=docs:1m", NULL));
    assert_int_equal(shim_zone.init(&shim_zone, cache), NGX_OK);
    assert_int_equal(ngx_http_hotpath_cache_cold(shim_zone.data), 0);
    drop_zone();
}

static void test_versions(void **state)
{
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", NULL));

    assert_int_equal(get(cache, 1, &copy), NGX_DECLINED);
    assert_int_equal(put(cache, 1, 7, 100), NGX_OK);
    assert_int_equal(put(cache, 1, 6, 100), NGX_ABORT);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.version, 7);
    assert_true(body_is(&copy, 1, 7));

    /* the same version renews the times */
    meta = make_meta(7);
    meta.stored_ms = 1500;
    meta.fresh_ms = 2500;
    meta.stale_ms = 3500;
    assert_int_equal(put_meta(cache, 1, &meta, 300), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.fresh_ms, 2500);
    assert_int_equal(copy.body.len, 300);

    /* "never had one" waits for the end of freshness, and keeps the version */
    meta.version = 0;
    meta.negative = 1;
    meta.stored_ms = 2499;
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_ABORT);
    meta.stored_ms = 2500;
    meta.fresh_ms = 2600;
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.negative, 1);
    assert_int_equal(copy.meta.version, 7);
    assert_int_equal(copy.body.len, 0);
    assert_int_equal(put(cache, 1, 6, 100), NGX_ABORT);

    /* a negative one is replaced by its like at once */
    meta.stored_ms = 2501;
    meta.fresh_ms = 2700;
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.fresh_ms, 2700);

    /* a pushed deletion has a version; what is older stays away */
    assert_int_equal(put(cache, 1, 8, 100), NGX_OK);
    meta.version = 9;
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_OK);
    assert_int_equal(put(cache, 1, 8, 100), NGX_ABORT);
    assert_int_equal(put(cache, 1, 10, 100), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.negative, 0);

    /* what is not trusted any more may be found gone */
    meta.version = 0;
    meta.stored_ms = 1001;
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_ABORT);
    ngx_http_hotpath_cache_distrust(cache);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.trusted, 0);
    assert_int_equal(put_meta(cache, 1, &meta, 0), NGX_OK);
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.trusted, 1);
    assert_int_equal(copy.meta.version, 10);

    ngx_http_hotpath_cache_stats(cache, &stats);
    assert_int_equal(stats.entries, 1);
    assert_int_equal(stats.refused_older, 5);
    assert_int_equal(stats.stores, 8);
    assert_int_equal(stats.bytes_used, 384);
    assert_true(stats.bytes_total > 900 * 1024);
    check_structure(cache);
    drop_zone();
}

static void test_reload(void **state)
{
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    ngx_str_t name = ngx_string("docs"), other = ngx_string("dog");
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
    assert_int_equal(get(cache, 3, &copy), NGX_OK);
    assert_true(body_is(&copy, 3, 4));

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
    ngx_http_hotpath_cache_walk_t walk;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    int status, fds[2];
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
    assert_int_equal(get(cache, 1, &copy), NGX_OK);
    assert_int_equal(copy.meta.version, 1);
    ngx_http_hotpath_cache_stats(cache, &stats);
    assert_int_equal(stats.lock_busy, 1);

    assert_int_equal(purge(cache, 1, 0), NGX_BUSY);
    assert_int_equal(put_codings(cache, 1, 1, 100, HP_CODING_BR), NGX_BUSY);
    memset(&walk, 0, sizeof(walk));
    assert_int_equal(ngx_http_hotpath_cache_walk(cache, &walk, 10), NGX_AGAIN);
    assert_int_equal(walk.position + walk.met, 0);
    ngx_http_hotpath_cache_stats(cache, &stats);
    assert_int_equal(stats.lock_busy, 4);

    assert_int_equal(kill(holder, SIGKILL), 0);
    assert_int_equal(waitpid(holder, &status, 0), holder);
    assert_int_equal(put(cache, 1, 2, 100), NGX_OK);
    assert_int_equal(ngx_http_hotpath_cache_walk(cache, &walk, 10), NGX_OK);
    assert_int_equal(walk.met, 1);

    close(fds[0]);
    close(fds[1]);
    drop_zone();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directive), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bounds),    cmocka_unit_test(test_codings),
        cmocka_unit_test(test_begun),     cmocka_unit_test(test_purge),
        cmocka_unit_test(test_tag),       cmocka_unit_test(test_walk),
        cmocka_unit_test(test_cold),      cmocka_unit_test(test_versions),
        cmocka_unit_test(test_reload),    cmocka_unit_test(test_lock),
        cmocka_unit_test(test_busy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
