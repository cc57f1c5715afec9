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
static unsigned char part_space[3][DOCUMENT_MAX + 16];

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
    ngx_http_hotpath_cache_t *cache;

    memset(&shim_zone, 0, sizeof(shim_zone));
    test_log.log_level = NGX_LOG_INFO;
    assert_null(directive(zone, max_entry));
    assert_int_equal(shim_zone_map(&test_log), 0);
    assert_int_equal(shim_zone.init(&shim_zone, NULL), NGX_OK);
    cache = shim_zone.data;

    /* every run the same */
    cache->seed = cache->region->seed = 4711;
    return cache;
}

static void drop_zone(void)
{
    shim_zone_unmap();
    shim_pool_reset(&pool);
}

/* The one text of that part of that key, version and length. */
enum { HEAD = 8 };

static void make_part(unsigned char *p, size_t len, unsigned part, uint64_t key,
                      uint64_t version)
{
    uint64_t seed, word;
    size_t i;

    seed = key * 1000003 + version * 10007 + len + part * 7919;

    for (i = 0; i < len; i += 8) {
        word = next_random(&seed);
        memcpy(p + i, &word, 8);
    }
}

static int part_is(const ngx_str_t *got, unsigned part, uint64_t key,
                   uint64_t version)
{
    uint64_t seed, word;
    size_t i;

    seed = key * 1000003 + version * 10007 + got->len + part * 7919;

    for (i = 0; i < got->len; i += 8) {
        word = next_random(&seed);

        if (memcmp(got->data + i, &word, ngx_min(8, got->len - i)) != 0) {
            return 0;
        }
    }

    return 1;
}

static int body_is(const ngx_http_hotpath_copy_t *copy, uint64_t key,
                   uint64_t version)
{
    return part_is(&copy->body, (unsigned)copy->coding, key, version);
}

/* What has more than a body has it by key and version, so that a reader knows
 * what to expect. */
static size_t head_len(uint64_t key, uint64_t version)
{
    return (key * 31 + version * 17) % 260;
}

static size_t tags_of(uint64_t key, uint64_t version)
{
    return (key * 13 + version * 7) % 17;
}

static uint64_t tag_of(uint64_t key, uint64_t version, size_t i)
{
    return 1 + (key + version + i) % 100;
}

static ngx_uint_t codings_of(uint64_t key, uint64_t version)
{
    return HP_CODING_IDENTITY |
           ((key + version) % 3 == 0 ? HP_CODING_GZIP : 0) |
           ((key + version) % 4 == 0 ? HP_CODING_BR : 0);
}

/* Everything that get() gave is that of this key and of one version. extra:
 * codings that may have been added later. */
static int copy_is(const ngx_http_hotpath_copy_t *copy, uint64_t key,
                   ngx_uint_t extra)
{
    uint64_t version = copy->meta.version;

    return copy->head.len == head_len(key, version) &&
           part_is(&copy->head, HEAD, key, version) &&
           body_is(copy, key, version) && (copy->codings & copy->coding) &&
           (copy->codings & ~extra) == (codings_of(key, version) & ~extra) &&
           copy->meta.modified_us == (int64_t)version - 5;
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
    ngx_http_hotpath_cache_content_t content;
    unsigned char space[1200];
    ngx_str_t key;

    key = make_key(space, n);
    make_part(part_space[0], len, HP_CODING_IDENTITY, n, meta->version);
    memset(&content, 0, sizeof(content));
    content.body.data = part_space[0];
    content.body.len = len;
    return ngx_http_hotpath_cache_put(cache, &key, meta, &content);
}

static ngx_http_hotpath_cache_meta_t make_meta(uint64_t version)
{
    ngx_http_hotpath_cache_meta_t meta;

    memset(&meta, 0, sizeof(meta));
    meta.version = version;
    meta.modified_us = (int64_t)version - 5;
    meta.stored_ms = 1000;
    meta.fresh_ms = 2000;
    meta.revalidate_ms = 2500;
    meta.stale_ms = 3000;
    return meta;
}

/* A body alone. */
static ngx_int_t put(ngx_http_hotpath_cache_t *cache, uint64_t n,
                     uint64_t version, size_t len)
{
    ngx_http_hotpath_cache_meta_t meta = make_meta(version);

    return put_meta(cache, n, &meta, len);
}

static void make_coding(ngx_str_t *coded, ngx_uint_t coding, uint64_t n,
                        uint64_t version, size_t len)
{
    coded->data = part_space[coding == HP_CODING_GZIP ? 1 : 2];
    coded->len = coding == HP_CODING_GZIP ? len / 2 + 1 : len / 3 + 1;
    make_part(coded->data, coded->len, (unsigned)coding, n, version);
}

/* All the parts that this key and version have. */
static ngx_int_t put_parts(ngx_http_hotpath_cache_t *cache, uint64_t n,
                           ngx_http_hotpath_cache_meta_t *meta, size_t len)
{
    ngx_http_hotpath_cache_content_t content;
    uint64_t tags[NGX_HTTP_HOTPATH_CACHE_TAGS];
    unsigned char space[1200];
    unsigned char head[272];
    ngx_str_t key;
    size_t i;

    key = make_key(space, n);
    memset(&content, 0, sizeof(content));
    make_part(part_space[0], len, HP_CODING_IDENTITY, n, meta->version);
    content.body.data = part_space[0];
    content.body.len = len;
    content.head.data = head;
    content.head.len = head_len(n, meta->version);
    make_part(head, content.head.len, HEAD, n, meta->version);
    content.tags = tags;
    content.ntags = tags_of(n, meta->version);

    for (i = 0; i < content.ntags; i++) {
        tags[i] = tag_of(n, meta->version, i);
    }

    if (codings_of(n, meta->version) & HP_CODING_GZIP) {
        make_coding(&content.gzip, HP_CODING_GZIP, n, meta->version, len);
    }

    if (codings_of(n, meta->version) & HP_CODING_BR) {
        make_coding(&content.br, HP_CODING_BR, n, meta->version, len);
    }

    return ngx_http_hotpath_cache_put(cache, &key, meta, &content);
}

static ngx_int_t put_codings(ngx_http_hotpath_cache_t *cache, uint64_t n,
                             uint64_t version, size_t len, ngx_uint_t codings)
{
    ngx_str_t key, gzip, br;
    unsigned char space[1200];

    key = make_key(space, n);
    memset(&gzip, 0, sizeof(gzip));
    memset(&br, 0, sizeof(br));

    if (codings & HP_CODING_GZIP) {
        make_coding(&gzip, HP_CODING_GZIP, n, version, len);
    }

    if (codings & HP_CODING_BR) {
        make_coding(&br, HP_CODING_BR, n, version, len);
    }

    return ngx_http_hotpath_cache_put_codings(cache, &key, version, len, &gzip,
                                              &br);
}

static ngx_int_t get_coded(ngx_http_hotpath_cache_t *cache, uint64_t n,
                           ngx_uint_t codings, ngx_http_hotpath_copy_t *copy)
{
    unsigned char space[1200];
    ngx_str_t key;

    key = make_key(space, n);
    shim_pool_reset(&pool);
    return ngx_http_hotpath_cache_get(cache, &key, codings, &pool.pool, copy);
}

static ngx_int_t get(ngx_http_hotpath_cache_t *cache, uint64_t n,
                     ngx_http_hotpath_copy_t *copy)
{
    return get_coded(cache, n, HP_CODING_IDENTITY, copy);
}

static ngx_int_t purge(ngx_http_hotpath_cache_t *cache, uint64_t n,
                       ngx_uint_t hard)
{
    unsigned char space[1200];
    ngx_str_t key;

    key = make_key(space, n);
    return ngx_http_hotpath_cache_purge(cache, &key, hard);
}

/* As a handle lives in the same pool as what get() gives, it is kept apart. */
static ngx_http_hotpath_cache_t *keep(ngx_http_hotpath_cache_t *cache)
{
    static ngx_http_hotpath_cache_t kept;

    kept = *cache;
    shim_zone.data = &kept;
    return &kept;
}

/* What leads a reader ahead leads to the entry's own cells: part by part, from
 * each cell to the one AHEAD cells on. */
static void check_ahead(ngx_http_hotpath_cache_cell_t *cells, uint32_t n)
{
    enum { AHEAD = NGX_HTTP_HOTPATH_CACHE_AHEAD };
    ngx_http_hotpath_cache_entry_t *entry = &cells[n].u.head.entry;
    uint32_t *part, total, k, i, length[3], begins[3], p;

    total = ngx_http_hotpath_cache_cells(entry);
    part = malloc(total * sizeof(*part));
    assert_non_null(part);
    length[1] = ngx_http_hotpath_cache_more(entry->gzip_len);
    length[2] = ngx_http_hotpath_cache_more(entry->br_len);
    length[0] = total - length[1] - length[2];
    begins[0] = n;
    begins[1] = entry->gzip;
    begins[2] = entry->br;

    for (p = 0; p < 3; p++) {
        for (i = 0, k = begins[p]; i < length[p]; i++, k = cells[k].next) {
            part[i] = k;
        }

        for (i = 0; i < length[p]; i++) {
            if (p == 0 && i == 0) {
                for (k = 2; k <= AHEAD && k < length[0]; k++) {
                    assert_int_equal(entry->ahead[k - 2], part[k]);
                }
            } else if (i + AHEAD < length[p]) {
                assert_int_equal(cells[part[i]].far, part[i + AHEAD]);
            }
        }
    }

    free(part);
}

/* Counts everything through: each cell is free, never used, or in one entry;
 * each entry is in one queue and in one slot. Nobody may be writing. */
static void check_structure(ngx_http_hotpath_cache_t *cache)
{
    ngx_http_hotpath_cache_stripe_t *stripe;
    ngx_http_hotpath_cache_place_t place;
    ngx_http_hotpath_cache_cell_t *cells;
    uint32_t s, q, n, k, prev, last, all, entries, held, slots, *slot;
    unsigned char *seen;

    seen = malloc(cache->ncells);
    assert_non_null(seen);

    for (s = 0; s < cache->nstripes; s++) {
        stripe = &cache->region->stripe[s];
        cells = &cache->cells[(size_t)s * cache->ncells];
        memset(seen, 0, cache->ncells);
        all = 0;
        slots = 0;

        for (q = 0; q < 2; q++) {
            prev = NGX_HTTP_HOTPATH_CACHE_NIL;
            entries = 0;
            held = 0;

            for (n = stripe->queue[q].newest; n != NGX_HTTP_HOTPATH_CACHE_NIL;
                 n = cells[n].u.head.entry.older) {
                assert_true(n < stripe->used);
                assert_int_equal(cells[n].queue, q);
                assert_int_equal(cells[n].u.head.entry.newer, prev);
                assert_int_equal(cells[n].sequence & 3,
                                 NGX_HTTP_HOTPATH_CACHE_ENTRY);
                prev = n;
                entries++;

                k = ngx_http_hotpath_cache_cells(&cells[n].u.head.entry);
                held += k;

                for (last = n; k > 0; k--) {
                    assert_true(last < stripe->used);
                    assert_int_equal(seen[last]++, 0);

                    if (k > 1) {
                        last = cells[last].next;
                        assert_int_equal(cells[last].sequence & 3, 0);
                    }
                }

                assert_int_equal(last, cells[n].far);
                check_ahead(cells, n);

                ngx_http_hotpath_cache_place_hash(
                    cache, cells[n].u.head.entry.hash, &place);
                assert_ptr_equal(place.stripe, stripe);

                for (k = 0, last = 0; k < 32; k++) {
                    last += (*place.bucket[k / 16])[k % 16] ==
                            (place.tag | (n + 1));
                }

                assert_true(last == 1 ||
                            (last == 2 && place.bucket[0] == place.bucket[1]));
            }

            assert_int_equal(stripe->queue[q].oldest, prev);
            assert_int_equal(stripe->queue[q].entries, entries);
            assert_int_equal(stripe->queue[q].cells, held);
            all += entries;
        }

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

        assert_int_equal(slots, all);
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
                                                    &pool.pool, &copy),
                         NGX_OK);
        assert_int_equal(copy.body.len, len % 241);
        assert_true(body_is(&copy, len, 1));
    }

    key.len = 1201;
    assert_int_equal(ngx_http_hotpath_cache_put(cache, &key, &meta, &content),
                     NGX_DECLINED);
    assert_int_equal(ngx_http_hotpath_cache_get(cache, &key, HP_CODING_IDENTITY,
                                                &pool.pool, &copy),
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

static uint64_t walk_all(ngx_http_hotpath_cache_t *cache,
                         ngx_http_hotpath_cache_walk_t *walk, ngx_uint_t cells)
{
    size_t calls;

    walk->position = 0;
    walk->met = 0;

    for (calls = 0; ngx_http_hotpath_cache_walk(cache, walk, cells) != NGX_OK;
         calls++) {
        assert_true(calls < 1000000);
    }

    assert_int_equal(ngx_http_hotpath_cache_walk(cache, walk, cells), NGX_OK);
    return walk->met;
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

/* What the zone should hold: the last that it took of each key. */
static struct {
    uint64_t version;
    uint64_t generation;
    ngx_http_hotpath_cache_meta_t meta;
    size_t len;
    ngx_uint_t codings;
    int known, parts;
} model[3000];

#define KEYS COUNT_OF(model)

static int model_trusts(uint64_t n, uint64_t generation)
{
    return model[n].meta.trusted && model[n].generation == generation;
}

static void model_purge(uint64_t n, unsigned hard)
{
    model[n].meta.trusted = 0;

    if (hard) {
        model[n].meta.fresh_ms = 0;
        model[n].meta.revalidate_ms = 0;
        model[n].meta.stale_ms = 0;
    }
}

static void model_compare(const ngx_http_hotpath_copy_t *copy, uint64_t n,
                          uint64_t generation)
{
    const ngx_http_hotpath_cache_meta_t *is = &copy->meta;
    const ngx_http_hotpath_cache_meta_t *want = &model[n].meta;

    assert_true(model[n].known);
    assert_int_equal(is->version, model[n].version);
    assert_int_equal(is->modified_us, want->modified_us);
    assert_int_equal(is->stored_ms, want->stored_ms);
    assert_int_equal(is->fresh_ms, want->fresh_ms);
    assert_int_equal(is->revalidate_ms, want->revalidate_ms);
    assert_int_equal(is->stale_ms, want->stale_ms);
    assert_int_equal(is->negative, want->negative);
    assert_int_equal(is->trusted, model_trusts(n, generation));
    assert_int_equal(copy->codings, model[n].codings);

    if (copy->coding == HP_CODING_IDENTITY) {
        assert_int_equal(copy->body.len, model[n].len);
    }

    if (model[n].parts) {
        assert_true(copy_is(copy, n, 6));
    } else {
        assert_int_equal(copy->head.len, 0);
        assert_true(body_is(copy, n, is->version));
    }
}

static void test_model(void **state)
{
    enum { STEPS = 60000 };
    ngx_http_hotpath_cache_walk_t walk;
    ngx_http_hotpath_cache_meta_t meta;
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    ngx_int_t present, rc;
    ngx_uint_t coding;
    uint64_t random, n, i, found, refused, generation, older, old_generation;
    uint64_t purges, old_purges, done[6];
    unsigned hard;
    size_t step, len;

    (void)state;
    cache = keep(make_zone("zone=docs:1m", "max_entry=60k"));
    memset(model, 0, sizeof(model));
    memset(done, 0, sizeof(done));
    random = 4711;
    found = 0;
    refused = 0;
    generation = 1;
    purges = 0;
    older = ngx_http_hotpath_cache_begun(cache);
    old_generation = generation;
    old_purges = purges;

    for (step = 0; step < STEPS; step++) {
        n = next_random(&random) % KEYS;

        /* a few keys get most of the work */
        if (next_random(&random) % 4) {
            n %= 50;
        }

        coding = next_random(&random) % 8;
        present = get_coded(cache, n, coding, &copy);

        if (present == NGX_OK) {
            found++;
            model_compare(&copy, n, generation);

        } else {
            assert_int_equal(present, NGX_DECLINED);
        }

        switch (next_random(&random) % 64) {
        case 0:
        case 1:
        case 2:
        case 3:
            hard = next_random(&random) % 4 == 0;
            rc = purge(cache, n, hard);
            purges++;

            if (present != NGX_OK || (!model_trusts(n, generation) &&
                                      (!hard || (copy.meta.fresh_ms == 0 &&
                                                 copy.meta.revalidate_ms == 0 &&
                                                 copy.meta.stale_ms == 0)))) {
                assert_int_equal(rc, NGX_DECLINED);
            } else {
                assert_int_equal(rc, NGX_OK);
                model_purge(n, hard);
                done[0]++;
            }

            continue;

        case 4:
            if (step % 16 == 0) {
                ngx_http_hotpath_cache_distrust(cache);
                generation++;
                done[1]++;
            }

            continue;

        case 5:
        case 6:
        case 7:
        case 8:
        case 9:
        case 10:
            if (!model[n].known) {
                continue;
            }

            coding = next_random(&random) % 4 * 2;
            rc = put_codings(cache, n, model[n].version, model[n].len, coding);
            assert_int_equal(rc, present == NGX_OK ? NGX_OK : NGX_DECLINED);

            if (rc == NGX_OK) {
                model[n].codings |= coding;
                done[2]++;
            }

            continue;

        case 11:
            if (step % 8) {
                continue;
            }

            memset(&walk, 0, sizeof(walk));
            walk.tag = 1 + next_random(&random) % 100;
            walk.purge = 1;
            walk.hard = next_random(&random) % 2;
            done[3] += walk_all(cache, &walk, 1 + next_random(&random) % 5000);
            purges++;

            for (n = 0; n < KEYS; n++) {
                if (!model[n].known || !model[n].parts) {
                    continue;
                }

                for (i = 0; i < tags_of(n, model[n].version); i++) {
                    if (tag_of(n, model[n].version, i) == walk.tag) {
                        model_purge(n, walk.hard);
                    }
                }
            }

            continue;

        case 12:
            /* somebody asks, and will be answered later */
            older = ngx_http_hotpath_cache_begun(cache);
            old_generation = generation;
            old_purges = purges;
            continue;
        }

        if (next_random(&random) % 3 == 0) {
            continue;
        }

        meta = make_meta(model[n].version + next_random(&random) % 5);
        meta.version -= ngx_min(meta.version, 2);
        meta.stored_ms = 10 + step;
        meta.fresh_ms = 10 + step + next_random(&random) % 2000;
        meta.revalidate_ms = meta.fresh_ms + 5;
        meta.stale_ms = meta.fresh_ms + 7;
        len = next_random(&random) % 400;

        switch (next_random(&random) % 16) {
        case 0:
            len = next_random(&random) % 30000;
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

        meta.trusted = 1;

        switch (next_random(&random) % 4) {
        case 0:
            meta.begun = ngx_http_hotpath_cache_begun(cache);
            break;
        case 1:
            meta.begun = older;
            meta.trusted = old_generation == generation && old_purges == purges;
            break;
        }

        meta.modified_us = (int64_t)meta.version - 5;
        i = next_random(&random) % 2 && !meta.negative;
        rc = i ? put_parts(cache, n, &meta, len)
               : put_meta(cache, n, &meta, len);

        if (present == NGX_OK && meta.version == 0 &&
            (copy.meta.negative || !copy.meta.trusted ||
             copy.meta.fresh_ms <= meta.stored_ms)) {
            meta.version = copy.meta.version;
        }

        if (present == NGX_OK && meta.version < copy.meta.version) {
            assert_int_equal(rc, NGX_ABORT);
            refused++;
            continue;
        }

        assert_int_equal(rc, NGX_OK);
        done[4] += !meta.trusted;
        model[n].known = 1;
        model[n].version = meta.version;
        model[n].meta = meta;
        model[n].generation = generation;
        model[n].len = len;
        model[n].parts = (int)i;
        model[n].codings = i ? codings_of(n, meta.version) : HP_CODING_IDENTITY;

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

    for (i = 0; i < 5; i++) {
        assert_true(done[i] > 20);
    }

    drop_zone();
}

#undef KEYS

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

    /* those that left last are remembered; as long as the main queue is */
    for (n = cells - 1, back = 0; n > 0; n--) {
        if (get(cache, (n + 10000) * 7 + 1, &copy) == NGX_OK) {
            continue;
        }

        assert_int_equal(put(cache, (n + 10000) * 7 + 1, 1, 50), NGX_OK);

        if (++back == 30) {
            break;
        }
    }

    assert_int_equal(back, 30);
    assert_true(count_main(cache) > 20 + 10);

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

/* A length that belongs to the version, so that codings can be made for it. */
static size_t len_of(uint64_t n, uint64_t version)
{
    uint64_t seed = n * 31 + version;
    uint64_t drawn = next_random(&seed);

    return drawn % 64 == 0 ? (drawn >> 8) % 8000 : (drawn >> 8) % 600;
}

static void hammer_write(ngx_http_hotpath_cache_t *cache, uint64_t seed)
{
    ngx_http_hotpath_cache_meta_t meta;
    uint64_t i, n, version;
    ngx_int_t rc;

    for (i = 0; i < 15000; i++) {
        n = next_random(&seed) % HAMMERED;
        version = __atomic_add_fetch(&shared->versions[n], 1, __ATOMIC_RELAXED);
        meta = make_meta(version);
        rc = put_parts(cache, n, &meta, len_of(n, version));

        if (i % 4 == 0) {
            (void)put_codings(cache, n, version, len_of(n, version),
                              next_random(&seed) % 4 * 2);
        }

        if (i % 16 == 0) {
            (void)purge(cache, n, i % 32 == 0);
        }

        /* between drawing and storing, the other may have been quicker */
        if (rc != NGX_OK && rc != NGX_ABORT && rc != NGX_BUSY) {
            _exit(1);
        }
    }
}

static void hammer_read(ngx_http_hotpath_cache_t *cache, uint64_t seed)
{
    static uint64_t last[HAMMERED];
    ngx_http_hotpath_copy_t copy;
    uint64_t n, reads;

    reads = 0;

    while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
        n = next_random(&seed) % HAMMERED;

        if (get_coded(cache, n, next_random(&seed) % 8, &copy) != NGX_OK) {
            continue;
        }

        if (!copy_is(&copy, n, 6)) {
            _exit(2);
        }

        /* nothing is evicted here, so nothing ever goes back */
        if (copy.meta.version < last[n]) {
            _exit(3);
        }

        last[n] = copy.meta.version;
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
    ngx_http_hotpath_cache_walk_t walk;
    ngx_http_hotpath_cache_meta_t meta;
    uint64_t n, version;

    memset(&walk, 0, sizeof(walk));
    walk.purge = 1;

    for (;;) {
        n = next_random(&seed) % 1500;
        version = 1 + next_random(&seed) % 1000000;
        meta = make_meta(version);
        (void)put_parts(cache, n, &meta, len_of(n, version));

        switch (version % 4) {
        case 0:
            (void)put_codings(cache, n, version, len_of(n, version),
                              HP_CODING_GZIP | HP_CODING_BR);
            break;
        case 1:
            (void)purge(cache, n, version % 8 == 1);
            break;
        case 2:
            walk.tag = 1 + next_random(&seed) % 100;

            if (ngx_http_hotpath_cache_walk(cache, &walk, 64) == NGX_OK) {
                walk.position = 0;
            }
        }
    }
}

static void read_until_stopped(ngx_http_hotpath_cache_t *cache, uint64_t seed)
{
    ngx_http_hotpath_copy_t copy;
    uint64_t n, reads;

    reads = 0;

    while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
        n = next_random(&seed) % 1500;

        if (get_coded(cache, n, next_random(&seed) % 8, &copy) != NGX_OK) {
            continue;
        }

        if (!copy_is(&copy, n, 6)) {
            _exit(2);
        }

        reads++;
    }

    __atomic_add_fetch(&shared->reads, reads, __ATOMIC_RELAXED);
}

static void test_killed_writers(void **state)
{
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_copy_t copy;
    ngx_http_hotpath_cache_t *cache;
    uint64_t random, i, n, stores;
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
            assert_int_equal(get(cache, n, &copy), NGX_OK);
            assert_int_equal(copy.meta.version, i + 1);
            assert_true(body_is(&copy, n, i + 1));
        }
    }

    __atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
    finish(reader);

    /* every stripe is touched once more, so that none is left torn */
    for (n = 3000; n < 3000 + 64 * (uint64_t)cache->nstripes; n++) {
        assert_int_equal(put(cache, n, 1, 300), NGX_OK);
        assert_int_equal(get(cache, n, &copy), NGX_OK);
        assert_true(body_is(&copy, n, 1));
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
        cmocka_unit_test(test_reload),    cmocka_unit_test(test_model),
        cmocka_unit_test(test_full),      cmocka_unit_test(test_full_buckets),
        cmocka_unit_test(test_scan),      cmocka_unit_test(test_queues),
        cmocka_unit_test(test_large),     cmocka_unit_test(test_expired_first),
        cmocka_unit_test(test_lock),      cmocka_unit_test(test_busy),
        cmocka_unit_test(test_processes), cmocka_unit_test(test_killed_writers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
