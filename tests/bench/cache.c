/*
 * cache.c: what a look-up in the cache zone costs, in nanoseconds.
 *
 * Documents of 120 bytes with a head of 80 under keys of 40, a thousand
 * entries and a million, read in random order by one process and by two at
 * once; the same for 4 KiB. Beside it what a look-up cannot avoid: hashing the
 * key and copying the document from memory that is as far away (an array of as
 * many, read in the same order). Medians of interleaved rounds; one line of
 * text per case.
 *
 * One process, and one child where two read; `make -C tests/unit bench`.
 */
#include "nginx_shim.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "ngx_http_hotpath_cache.c"
#include "ngx_http_hotpath_shm.c"

#define ROUNDS 7
#define READS 400000
#define KEY 40
#define HEAD 80

static ngx_log_t bench_log;
static shim_pool_t pool;
static unsigned char sink[8192];

static void fail(const char *what)
{
    fprintf(stderr, "bench/cache: %s\n", what);
    exit(1);
}

static uint64_t next(uint64_t *state)
{
    uint64_t z;

    *state += 0x9e3779b97f4a7c15u;
    z = *state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    return z ^ z >> 27;
}

static uint32_t cells(size_t len)
{
    ngx_http_hotpath_cache_entry_t entry;

    memset(&entry, 0, sizeof(entry));
    entry.key_len = KEY;
    entry.head_len = HEAD;
    entry.body_len = len;
    return ngx_http_hotpath_cache_cells(&entry);
}

static ngx_http_hotpath_cache_t *make_zone(size_t entries, size_t len)
{
    static ngx_http_hotpath_cache_t cache;
    ngx_http_hotpath_cache_content_t content;
    ngx_http_hotpath_cache_meta_t meta;
    unsigned char key_space[KEY], document_space[4096];
    ngx_str_t args[2], key;
    char text[64];
    ngx_array_t array;
    ngx_command_t cmd;
    ngx_conf_t conf;
    uint64_t i;

    memset(&conf, 0, sizeof(conf));
    memset(&cmd, 0, sizeof(cmd));
    args[1].data = (u_char *)text;
    args[1].len = (size_t)snprintf(text, sizeof(text), "zone=bench:%zum",
                                   2 + entries * cells(len) * 420 / 1000000);
    array.elts = args;
    array.nelts = 2;
    conf.args = &array;
    conf.pool = &pool.pool;

    if (ngx_http_hotpath_cache_zone(&conf, &cmd, NULL) != NGX_CONF_OK ||
        shim_zone_map(&bench_log) != 0 ||
        shim_zone.init(&shim_zone, NULL) != NGX_OK) {
        fail("no zone");
    }

    cache = *(ngx_http_hotpath_cache_t *)shim_zone.data;
    shim_pool_reset(&pool);

    memset(key_space, 'k', KEY);
    memset(document_space, 'd', sizeof(document_space));
    memset(&meta, 0, sizeof(meta));
    meta.version = 1;
    memset(&content, 0, sizeof(content));
    content.head.data = document_space;
    content.head.len = HEAD;
    content.body.data = document_space;
    content.body.len = len;

    for (i = 0; i < entries; i++) {
        memcpy(key_space, &i, sizeof(i));
        key.data = key_space;
        key.len = KEY;

        if (ngx_http_hotpath_cache_put(&cache, &key, &meta, &content) !=
            NGX_OK) {
            fail("put failed");
        }
    }

    return &cache;
}

static double read_zone(ngx_http_hotpath_cache_t *cache, size_t entries,
                        uint64_t seed)
{
    ngx_http_hotpath_copy_t copy;
    unsigned char key_space[KEY];
    ngx_str_t key;
    int64_t start;
    uint64_t i, n;
    size_t found;

    memset(key_space, 'k', KEY);
    key.data = key_space;
    key.len = KEY;
    found = 0;
    shim_buffer = sink;
    start = ngx_http_hotpath_monotonic_ns();

    for (i = 0; i < READS; i++) {
        n = next(&seed) % entries;
        memcpy(key_space, &n, sizeof(n));
        found += ngx_http_hotpath_cache_get(cache, &key, HP_CODING_IDENTITY,
                                            &pool.pool, NULL, &copy) == NGX_OK;
        pool.n = 0;
    }

    shim_buffer = NULL;

    if (found < READS * 98 / 100) {
        fail("misses");
    }

    return (double)(ngx_http_hotpath_monotonic_ns() - start) / READS;
}

/* Hash, and copy from an array of as many slots as the zone has cells. */
static double read_array(ngx_http_hotpath_cache_t *cache, size_t entries,
                         size_t len, uint64_t seed)
{
    unsigned char key_space[KEY];
    size_t stride, span;
    int64_t start;
    uint64_t i, n, hashes;

    stride = cells(len) * (size_t)NGX_HTTP_HOTPATH_CACHE_CELL;
    span = (size_t)cache->nstripes * cache->ncells *
           NGX_HTTP_HOTPATH_CACHE_CELL / stride;
    memset(key_space, 'k', KEY);
    hashes = 0;
    start = ngx_http_hotpath_monotonic_ns();

    for (i = 0; i < READS; i++) {
        n = next(&seed) % ngx_min(entries, span);
        memcpy(key_space, &n, sizeof(n));
        hashes += hp_hash64(key_space, KEY, cache->seed);
        memcpy(sink, (unsigned char *)cache->cells + n * stride, HEAD + len);
        __asm__ volatile("" : : "r"(sink), "r"(hashes) : "memory");
    }

    return (double)(ngx_http_hotpath_monotonic_ns() - start) / READS;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void bench(size_t entries, size_t len)
{
    double zone[ROUNDS], two[ROUNDS], array[ROUNDS];
    ngx_http_hotpath_cache_t *cache;
    int i, status;
    pid_t child;

    cache = make_zone(entries, len);
    (void)read_zone(cache, entries, 99);

    for (i = 0; i < ROUNDS; i++) {
        array[i] = read_array(cache, entries, len, (uint64_t)i);
        zone[i] = read_zone(cache, entries, (uint64_t)i);

        child = fork();

        if (child < 0) {
            fail("fork");
        }

        if (child == 0) {
            /* longer than the parent, which is the one that measures */
            (void)read_zone(cache, entries, (uint64_t)i + 100);
            (void)read_zone(cache, entries, (uint64_t)i + 200);
            _exit(0);
        }

        two[i] = read_zone(cache, entries, (uint64_t)i);

        if (waitpid(child, &status, 0) != child || status != 0) {
            fail("child");
        }
    }

    qsort(zone, ROUNDS, sizeof(double), by_value);
    qsort(two, ROUNDS, sizeof(double), by_value);
    qsort(array, ROUNDS, sizeof(double), by_value);

    printf("%8zu entries of %4zu bytes: get %6.0f ns, beside another reader "
           "%6.0f ns, hash and copy alone %6.0f ns\n",
           entries, len, zone[ROUNDS / 2], two[ROUNDS / 2], array[ROUNDS / 2]);

    shim_zone_unmap();
}

int main(void)
{
    ngx_pid = getpid();
    bench_log.log_level = NGX_LOG_EMERG;

    bench(1000, 120);
    bench(1000000, 120);
    bench(1000, 4096);
    bench(100000, 4096);

    return 0;
}
