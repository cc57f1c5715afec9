/*
 * ngx_http_hotpath_shm.c: regions, locks and clocks for shared-memory rooms.
 *
 * A region is all the pages that a fresh zone has to give, taken as one block
 * that is never returned: it lives and dies with its zone, which nginx owns.
 * The slab pool's data pointer leads to it, so that a later configuration with
 * the same zone finds it again. Region calls run in the master while it reads
 * a configuration; lock and clock calls run in workers, on the event loop.
 *
 * A lock must never be waited for without bound and never stay with the dead:
 * a worker may be killed between any two instructions. What cannot be noticed
 * is a holder that died and whose pid an unrelated process got before anybody
 * wanted the lock: that lock answers NGX_BUSY until that process ends. A new
 * worker with that pid is noticed.
 *
 * Described in ngx_http_hotpath_shm.h; tested by tests/unit/test_cache.c.
 */
#include "ngx_http_hotpath_shm.h"
#include <signal.h>


/* One round is 5 to 25 microseconds, as the processor's pause goes. */
#define NGX_HTTP_HOTPATH_LOCK_SPIN    512
#define NGX_HTTP_HOTPATH_LOCK_ROUNDS  2

#define NGX_HTTP_HOTPATH_HUGE_PAGE  (2 * 1024 * 1024)

/* Linux 6.1; elsewhere it is refused. C libraries know it later. */
#define NGX_HTTP_HOTPATH_MADV_COLLAPSE  25


#if (NGX_LINUX && NGX_HAVE_MAP_ANON)

static void ngx_http_hotpath_region_huge(u_char *p, size_t size);

#else

#define ngx_http_hotpath_region_huge(p, size)

#endif


void *
ngx_http_hotpath_region_init(ngx_shm_zone_t *zone, uint64_t magic,
    uint32_t layout, ngx_uint_t *fresh)
{
    size_t                     size;
    ngx_slab_pool_t           *shpool;
    ngx_http_hotpath_region_t *region;

    shpool = (ngx_slab_pool_t *) zone->shm.addr;
    region = shpool->data;

    if (region) {

        if (region->magic != magic || region->layout != layout) {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "shared memory zone \"%V\" has layout version %uD, "
                          "this build needs %uD: restart nginx, or give "
                          "the zone another name or size",
                          &zone->shm.name, region->layout, layout);
            return NULL;
        }

        *fresh = 0;

        return region;
    }

    size = shpool->pfree * ngx_pagesize;

    if (size < sizeof(ngx_http_hotpath_region_t)) {
        goto too_small;
    }

    region = ngx_slab_alloc(shpool, size);

    if (region == NULL) {
        goto too_small;
    }

    ngx_http_hotpath_region_huge((u_char *) region, size);

#if (NGX_DEBUG_MALLOC || NGX_HAVE_DEBUG_MALLOC)
    /* Elsewhere these are pages that nobody wrote to since the system gave
     * them: zero, and not to be touched before they are needed. */
    ngx_memzero(region, size);
#endif

    region->magic = magic;
    region->layout = layout;
    region->size = size;

    shpool->data = region;
    *fresh = 1;

    return region;

too_small:

    ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                  "shared memory zone \"%V\" is too small", &zone->shm.name);

    return NULL;
}


#if (NGX_LINUX && NGX_HAVE_MAP_ANON)

/*
 * Gives a region huge pages, as far as it covers whole ones and the system has
 * them: what is read at random in it costs a walk through the page tables
 * otherwise, which is dearer than the memory itself. For that its middle must
 * be memory of its own that begins where a huge page does; nginx unmaps it with
 * the rest of the zone. All of it is in use from then on. Nothing was written
 * there before, and nothing is said where it cannot be done.
 */

static void
ngx_http_hotpath_region_huge(u_char *p, size_t size)
{
    u_char  *start, *end;

    start = ngx_align_ptr(p, NGX_HTTP_HOTPATH_HUGE_PAGE);
    end = p + size;
    end -= (uintptr_t) end & (NGX_HTTP_HOTPATH_HUGE_PAGE - 1);

    if (ngx_test_config
        || start >= end
        || mmap(start, end - start, PROT_READ|PROT_WRITE,
                MAP_ANON|MAP_SHARED|MAP_FIXED, -1, 0)
           == MAP_FAILED)
    {
        return;
    }

    (void) madvise(start, end - start, MADV_HUGEPAGE);

    for (p = start; p < end; p += NGX_HTTP_HOTPATH_HUGE_PAGE) {
        *(volatile u_char *) p = 0;
    }

    (void) madvise(start, end - start, NGX_HTTP_HOTPATH_MADV_COLLAPSE);
}

#endif


ngx_int_t
ngx_http_hotpath_lock(ngx_http_hotpath_lock_t *lock)
{
    ngx_uint_t         i, round;
    ngx_atomic_uint_t  owner, self;

    self = (ngx_atomic_uint_t) ngx_pid;

    for (round = 0; round < NGX_HTTP_HOTPATH_LOCK_ROUNDS; round++) {

        for (i = 0; i < NGX_HTTP_HOTPATH_LOCK_SPIN; i++) {

            if (__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == 0
                && ngx_atomic_cmp_set(&lock->owner, 0, self))
            {
                goto held;
            }

            ngx_cpu_pause();
        }

        owner = __atomic_load_n(&lock->owner, __ATOMIC_RELAXED);

        /* Our own pid is that of a dead process too: no lock is taken twice,
         * so it died as the one who had this pid before. */

        if (owner != 0
            && (owner == self
                || (kill((pid_t) owner, 0) == -1 && ngx_errno == NGX_ESRCH))
            && ngx_atomic_cmp_set(&lock->owner, owner, self))
        {
            goto held;
        }

        /* The holder lives; most likely it lost its processor inside. */

        ngx_sched_yield();
    }

    return NGX_BUSY;

held:

    return __atomic_load_n(&lock->dirty, __ATOMIC_ACQUIRE) ? NGX_ABORT
                                                           : NGX_OK;
}


void
ngx_http_hotpath_unlock(ngx_http_hotpath_lock_t *lock)
{
    __atomic_store_n(&lock->owner, 0, __ATOMIC_RELEASE);
}


int64_t
ngx_http_hotpath_monotonic_ns(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}


int64_t
ngx_http_hotpath_wall_us(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_REALTIME, &ts);

    return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
