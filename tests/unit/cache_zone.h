/*
 * cache_zone.h: a cache zone in a plain process, and documents to put into it.
 *
 * The rooms cache and shm are included as source and run on nginx_shim.h. Every
 * part of a document (head, body, its codings, tags) is made from its key,
 * version and length, so that a byte of another document, of another version or
 * of another part is seen. check_structure() counts a whole zone through.
 *
 * One zone at a time; make_zone() makes it, drop_zone() ends it. The pool of
 * what get() gives and the space in which parts are made are static: of each
 * thread where ZONE_LOCAL is defined as __thread. What is wrong is said on
 * stderr and ends the process by SIGABRT, which cmocka and fuzzers count as a
 * failure. Included once by test_cache*.c, cache_threads.c and
 * tests/fuzz/fuzz_cache.c.
 */
#ifndef CACHE_ZONE_H
#define CACHE_ZONE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>

#include "nginx_shim.h"
#include "random.h"

#ifndef ZONE_LOCAL
#define ZONE_LOCAL
#endif

#ifndef DOCUMENT_MAX
#define DOCUMENT_MAX (1024 * 1024)
#endif

#include "ngx_http_hotpath_cache.c"
#include "ngx_http_hotpath_shm.c"

#define CHECK(truth)                                                           \
    do {                                                                       \
        if (!(truth)) {                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__,         \
                    #truth);                                                   \
            abort();                                                           \
        }                                                                      \
    } while (0)

#define CHECK_SAME(a, b) CHECK((a) == (b))

static ZONE_LOCAL shim_pool_t pool;
static ZONE_LOCAL unsigned char part_space[3][DOCUMENT_MAX + 16];
static ngx_conf_t conf;
static ngx_log_t test_log;

/* The directive, as nginx would call it; NULL or the error. */
static inline const char *directive(const char *zone, const char *max_entry)
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

static inline ngx_http_hotpath_cache_t *make_zone(const char *zone,
                                                  const char *max_entry)
{
    ngx_http_hotpath_cache_t *cache;

    memset(&shim_zone, 0, sizeof(shim_zone));
    test_log.log_level = NGX_LOG_INFO;
    CHECK(directive(zone, max_entry) == NULL);
    CHECK_SAME(shim_zone_map(&test_log), 0);
    CHECK_SAME(shim_zone.init(&shim_zone, NULL), NGX_OK);
    cache = shim_zone.data;

    /* every run the same */
    cache->seed = cache->region->seed = 4711;
    return cache;
}

/* A process that works on the zone, and does not outlive this one. */
static inline pid_t start(void (*body)(ngx_http_hotpath_cache_t *, uint64_t),
                          ngx_http_hotpath_cache_t *cache, uint64_t argument)
{
    pid_t pid;

    pid = fork();
    CHECK(pid >= 0);

    if (pid == 0) {
        /* a test that fails leaves nobody behind */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        ngx_pid = getpid();
        body(cache, argument);
        _exit(0);
    }

    return pid;
}

static inline void drop_zone(void)
{
    shim_zone_unmap();
    shim_pool_reset(&pool);
}

/* The one text of that part of that key, version and length. */
enum { HEAD = 8 };

static inline void make_part(unsigned char *p, size_t len, unsigned part,
                             uint64_t key, uint64_t version)
{
    uint64_t seed, word;
    size_t i;

    seed = key * 1000003 + version * 10007 + len + part * 7919;

    for (i = 0; i < len; i += 8) {
        word = next_random(&seed);
        memcpy(p + i, &word, 8);
    }
}

static inline int part_is(const ngx_str_t *got, unsigned part, uint64_t key,
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

static inline int body_is(const ngx_http_hotpath_copy_t *copy, uint64_t key,
                          uint64_t version)
{
    return part_is(&copy->body, (unsigned)copy->coding, key, version);
}

/* What has more than a body has it by key and version, so that a reader knows
 * what to expect. */
static inline size_t head_len(uint64_t key, uint64_t version)
{
    return (key * 31 + version * 17) % 260;
}

static inline size_t tags_of(uint64_t key, uint64_t version)
{
    return (key * 13 + version * 7) % 17;
}

static inline uint64_t tag_of(uint64_t key, uint64_t version, size_t i)
{
    return 1 + (key + version + i) % 100;
}

static inline ngx_uint_t codings_of(uint64_t key, uint64_t version)
{
    return HP_CODING_IDENTITY |
           ((key + version) % 3 == 0 ? HP_CODING_GZIP : 0) |
           ((key + version) % 4 == 0 ? HP_CODING_BR : 0);
}

/* Everything that get() gave is that of this key and of one version. extra:
 * codings that may have been added later. */
static inline int copy_is(const ngx_http_hotpath_copy_t *copy, uint64_t key,
                          ngx_uint_t extra)
{
    uint64_t version = copy->meta.version;

    return copy->head.len == head_len(key, version) &&
           part_is(&copy->head, HEAD, key, version) &&
           body_is(copy, key, version) && (copy->codings & copy->coding) &&
           (copy->codings & ~extra) == (codings_of(key, version) & ~extra) &&
           copy->meta.modified_us == (int64_t)version - 5;
}

/* The times are those of make_meta(), or of one that was purged hard. */
static inline int times_are(const ngx_http_hotpath_cache_meta_t *meta)
{
    return meta->stored_ms == 1000 &&
           ((meta->fresh_ms == 2000 && meta->revalidate_ms == 2500 &&
             meta->stale_ms == 3000) ||
            (meta->fresh_ms == 0 && meta->revalidate_ms == 0 &&
             meta->stale_ms == 0 && !meta->trusted));
}

/* Keys of different lengths, some longer than a cell. */
static inline ngx_str_t make_key(unsigned char *space, uint64_t n)
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

static inline ngx_int_t put_meta(ngx_http_hotpath_cache_t *cache, uint64_t n,
                                 ngx_http_hotpath_cache_meta_t *meta,
                                 size_t len)
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

static inline ngx_http_hotpath_cache_meta_t make_meta(uint64_t version)
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
static inline ngx_int_t put(ngx_http_hotpath_cache_t *cache, uint64_t n,
                            uint64_t version, size_t len)
{
    ngx_http_hotpath_cache_meta_t meta = make_meta(version);

    return put_meta(cache, n, &meta, len);
}

static inline void make_coding(ngx_str_t *coded, ngx_uint_t coding, uint64_t n,
                               uint64_t version, size_t len)
{
    coded->data = part_space[coding == HP_CODING_GZIP ? 1 : 2];
    coded->len = coding == HP_CODING_GZIP ? len / 2 + 1 : len / 3 + 1;
    make_part(coded->data, coded->len, (unsigned)coding, n, version);
}

/* All the parts that this key and version have; valid until the next call. */
static inline void make_content(ngx_http_hotpath_cache_content_t *content,
                                uint64_t n, uint64_t version, size_t len)
{
    static ZONE_LOCAL uint64_t tags[NGX_HTTP_HOTPATH_CACHE_TAGS];
    static ZONE_LOCAL unsigned char head[272];
    size_t i;

    memset(content, 0, sizeof(*content));
    make_part(part_space[0], len, HP_CODING_IDENTITY, n, version);
    content->body.data = part_space[0];
    content->body.len = len;
    content->head.data = head;
    content->head.len = head_len(n, version);
    make_part(head, content->head.len, HEAD, n, version);
    content->tags = tags;
    content->ntags = tags_of(n, version);

    for (i = 0; i < content->ntags; i++) {
        tags[i] = tag_of(n, version, i);
    }

    if (codings_of(n, version) & HP_CODING_GZIP) {
        make_coding(&content->gzip, HP_CODING_GZIP, n, version, len);
    }

    if (codings_of(n, version) & HP_CODING_BR) {
        make_coding(&content->br, HP_CODING_BR, n, version, len);
    }
}

static inline ngx_int_t put_parts(ngx_http_hotpath_cache_t *cache, uint64_t n,
                                  ngx_http_hotpath_cache_meta_t *meta,
                                  size_t len)
{
    ngx_http_hotpath_cache_content_t content;
    unsigned char space[1200];
    ngx_str_t key;

    key = make_key(space, n);
    make_content(&content, n, meta->version, len);
    return ngx_http_hotpath_cache_put(cache, &key, meta, &content);
}

static inline ngx_int_t put_codings(ngx_http_hotpath_cache_t *cache, uint64_t n,
                                    uint64_t version, size_t len,
                                    ngx_uint_t codings)
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

static inline ngx_int_t get_coded(ngx_http_hotpath_cache_t *cache, uint64_t n,
                                  ngx_uint_t codings,
                                  ngx_http_hotpath_copy_t *copy)
{
    unsigned char space[1200];
    ngx_str_t key;

    key = make_key(space, n);
    shim_pool_reset(&pool);
    return ngx_http_hotpath_cache_get(cache, &key, codings, &pool.pool, NULL,
                                      copy);
}

static inline ngx_int_t get(ngx_http_hotpath_cache_t *cache, uint64_t n,
                            ngx_http_hotpath_copy_t *copy)
{
    return get_coded(cache, n, HP_CODING_IDENTITY, copy);
}

static inline ngx_int_t purge(ngx_http_hotpath_cache_t *cache, uint64_t n,
                              ngx_uint_t hard)
{
    unsigned char space[1200];
    ngx_str_t key;

    key = make_key(space, n);
    return ngx_http_hotpath_cache_purge(cache, &key, hard);
}

/* As a handle lives in the same pool as what get() gives, it is kept apart. */
static inline ngx_http_hotpath_cache_t *keep(ngx_http_hotpath_cache_t *cache)
{
    static ngx_http_hotpath_cache_t kept;

    kept = *cache;
    shim_zone.data = &kept;
    return &kept;
}

/* What leads a reader ahead leads to the entry's own cells: part by part, from
 * each cell to the one AHEAD cells on. */
static inline void check_ahead(ngx_http_hotpath_cache_cell_t *cells, uint32_t n)
{
    enum { AHEAD = NGX_HTTP_HOTPATH_CACHE_AHEAD };
    ngx_http_hotpath_cache_entry_t *entry = &cells[n].u.head.entry;
    uint32_t *part, total, k, i, length[3], begins[3], p;

    total = ngx_http_hotpath_cache_cells(entry);
    part = malloc(total * sizeof(*part));
    CHECK(part != NULL);
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
                    CHECK_SAME(entry->ahead[k - 2], part[k]);
                }
            } else if (i + AHEAD < length[p]) {
                CHECK_SAME(cells[part[i]].far, part[i + AHEAD]);
            }
        }
    }

    free(part);
}

/* Counts everything through: each cell is free, never used, or in one entry;
 * each entry is in one queue and in one slot. Nobody may be writing. */
static inline void check_structure(ngx_http_hotpath_cache_t *cache)
{
    ngx_http_hotpath_cache_stripe_t *stripe;
    ngx_http_hotpath_cache_place_t place;
    ngx_http_hotpath_cache_cell_t *cells;
    uint32_t s, q, n, k, prev, last, all, entries, held, slots, *slot;
    unsigned char *seen;

    seen = malloc(cache->ncells);
    CHECK(seen != NULL);

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
                CHECK(n < stripe->used);
                CHECK_SAME(cells[n].queue, q);
                CHECK_SAME(cells[n].u.head.entry.newer, prev);
                CHECK_SAME(cells[n].sequence & 3, NGX_HTTP_HOTPATH_CACHE_ENTRY);
                prev = n;
                entries++;

                k = ngx_http_hotpath_cache_cells(&cells[n].u.head.entry);
                held += k;

                for (last = n; k > 0; k--) {
                    CHECK(last < stripe->used);
                    CHECK_SAME(seen[last]++, 0);

                    if (k > 1) {
                        last = cells[last].next;
                        CHECK_SAME(cells[last].sequence & 3, 0);
                    }
                }

                CHECK_SAME(last, cells[n].far);
                check_ahead(cells, n);

                ngx_http_hotpath_cache_place_hash(
                    cache, cells[n].u.head.entry.hash, &place);
                CHECK_SAME(place.stripe, stripe);

                for (k = 0, last = 0; k < 32; k++) {
                    last += (*place.bucket[k / 16])[k % 16] ==
                            (place.tag | (n + 1));
                }

                CHECK(last == 1 ||
                      (last == 2 && place.bucket[0] == place.bucket[1]));
            }

            CHECK_SAME(stripe->queue[q].oldest, prev);
            CHECK_SAME(stripe->queue[q].entries, entries);
            CHECK_SAME(stripe->queue[q].cells, held);
            all += entries;
        }

        for (n = stripe->free, k = 0; n != NGX_HTTP_HOTPATH_CACHE_NIL;
             n = cells[n].next) {
            CHECK(n < stripe->used);
            CHECK_SAME(seen[n]++, 0);
            k++;
        }

        CHECK_SAME(stripe->nfree, k);

        for (n = 0; n < stripe->used; n++) {
            CHECK_SAME(seen[n], 1);
        }

        slot = &cache->buckets[(size_t)s * cache->nbuckets][0];

        for (n = 0; n < cache->nbuckets * NGX_HTTP_HOTPATH_CACHE_SLOTS; n++) {
            slots += slot[n] != 0;
        }

        CHECK_SAME(slots, all);
    }

    free(seen);
}

/* A length that belongs to the version, so that codings can be made for it. */
static inline size_t len_of(uint64_t n, uint64_t version)
{
    uint64_t seed = n * 31 + version;
    uint64_t drawn = next_random(&seed);

    return drawn % 64 == 0 ? (drawn >> 8) % 8000 : (drawn >> 8) % 600;
}

static inline uint64_t walk_all(ngx_http_hotpath_cache_t *cache,
                                ngx_http_hotpath_cache_walk_t *walk,
                                ngx_uint_t cells)
{
    size_t calls;

    walk->position = 0;
    walk->met = 0;

    for (calls = 0; ngx_http_hotpath_cache_walk(cache, walk, cells) != NGX_OK;
         calls++) {
        CHECK(calls < 1000000);
    }

    CHECK_SAME(ngx_http_hotpath_cache_walk(cache, walk, cells), NGX_OK);
    return walk->met;
}

#endif
