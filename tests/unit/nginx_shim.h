/*
 * nginx_shim.h: the few functions of nginx that the shared memory rooms call,
 * so that a test can include such a room's .c file and run it in a plain
 * process, against nginx's own headers (package nginx-dev) and no nginx.
 *
 * Memory of pools is malloc's, remembered in the pool and freed by
 * shim_pool_reset(). A zone is an anonymous shared mapping, so that processes
 * forked later share it as nginx's workers do. The last configuration or log
 * message is kept in shim_message. Included by tests/unit/test_cache.c, _head.c
 * and tests/bench/cache.c, once, before the room.
 */
#ifndef NGINX_SHIM_H
#define NGINX_SHIM_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <sys/mman.h>

#define SHIM_BLOCKS 4096

typedef struct {
    ngx_pool_t pool;
    void *blocks[SHIM_BLOCKS];
    size_t n;
} shim_pool_t;

ngx_pid_t ngx_pid;
ngx_uint_t ngx_pagesize = 4096;
ngx_uint_t ngx_test_config;
volatile ngx_cycle_t *ngx_cycle;

static char shim_message[2048];
static ngx_shm_zone_t shim_zone;

/* Where set, every allocation gives this: a benchmark measures no malloc. */
static void *shim_buffer;

static inline void shim_pool_reset(shim_pool_t *pool)
{
    while (pool->n) {
        free(pool->blocks[--pool->n]);
    }
}

void *ngx_pnalloc(ngx_pool_t *pool, size_t size)
{
    shim_pool_t *shim = (shim_pool_t *)pool;

    if (shim_buffer != NULL) {
        return shim_buffer;
    }

    if (shim->n == SHIM_BLOCKS) {
        return NULL;
    }

    return shim->blocks[shim->n++] = malloc(size);
}

void *ngx_palloc(ngx_pool_t *pool, size_t size)
{
    return ngx_pnalloc(pool, size);
}

void *ngx_pcalloc(ngx_pool_t *pool, size_t size)
{
    void *p = ngx_pnalloc(pool, size);

    return p == NULL ? NULL : memset(p, 0, size);
}

ngx_int_t ngx_pfree(ngx_pool_t *pool, void *p)
{
    shim_pool_t *shim = (shim_pool_t *)pool;
    size_t i;

    for (i = 0; i < shim->n; i++) {
        if (shim->blocks[i] == p) {
            shim->blocks[i] = shim->blocks[--shim->n];
            free(p);
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}

/* Messages are kept as their format: tests look for fixed words. */
void ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err,
                        const char *fmt, ...)
{
    (void)level, (void)log, (void)err;
    snprintf(shim_message, sizeof(shim_message), "%s", fmt);
}

void ngx_conf_log_error(ngx_uint_t level, ngx_conf_t *cf, ngx_err_t err,
                        const char *fmt, ...)
{
    (void)level, (void)cf, (void)err;
    snprintf(shim_message, sizeof(shim_message), "%s", fmt);
}

ssize_t ngx_parse_size(ngx_str_t *line)
{
    char text[32], *end;
    long long n;

    if (line->len == 0 || line->len >= sizeof(text)) {
        return NGX_ERROR;
    }

    memcpy(text, line->data, line->len);
    text[line->len] = '\0';
    n = strtoll(text, &end, 10);

    if (end == text || n < 0) {
        return NGX_ERROR;
    }

    if (*end == 'k' || *end == 'K') {
        n *= 1024;
        end++;
    } else if (*end == 'm' || *end == 'M') {
        n *= 1024 * 1024;
        end++;
    }

    return *end == '\0' ? (ssize_t)n : NGX_ERROR;
}

ngx_shm_zone_t *ngx_shared_memory_add(ngx_conf_t *cf, ngx_str_t *name,
                                      size_t size, void *tag)
{
    (void)cf;
    shim_zone.shm.name = *name;
    shim_zone.shm.size = size;
    shim_zone.tag = tag;
    return &shim_zone;
}

/* The zone's only allocation: everything behind the pool's own page. */
void *ngx_slab_alloc(ngx_slab_pool_t *pool, size_t size)
{
    if (size != pool->pfree * ngx_pagesize) {
        return NULL;
    }

    return (u_char *)pool + ngx_pagesize;
}

/* What nginx does between reading the directive and init: memory. */
static inline int shim_zone_map(ngx_log_t *log)
{
    ngx_slab_pool_t *pool;
    void *p;

    p = mmap(NULL, shim_zone.shm.size, PROT_READ | PROT_WRITE,
             MAP_ANONYMOUS | MAP_SHARED, -1, 0);

    if (p == MAP_FAILED) {
        return -1;
    }

    shim_zone.shm.addr = p;
    shim_zone.shm.log = log;
    pool = p;
    pool->pfree = shim_zone.shm.size / ngx_pagesize - 1;
    return 0;
}

static inline void shim_zone_unmap(void)
{
    munmap(shim_zone.shm.addr, shim_zone.shm.size);
    memset(&shim_zone, 0, sizeof(shim_zone));
}

#endif
