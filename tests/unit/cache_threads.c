/*
 * cache_threads.c: readers, writers and purgers of one cache zone at the same
 * time, under ThreadSanitizer.
 *
 * Threads take the place of nginx's workers: each has a pid of its own for the
 * lock (its thread id), a pool of its own and documents of its own. Readers
 * check every byte and every version they get; writers put, add codings, evict;
 * one thread purges by key, walks, distrusts and reads the counters. Runs for
 * so many seconds as its argument says, and says what was done. Any race that
 * the zone has not declared, and any document that is not one, ends it with
 * something else than 0. `make -C tests/unit tsan`, and `check` for a moment.
 */
#define ZONE_LOCAL __thread
#define DOCUMENT_MAX 16384

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nginx_shim.h"

static __thread ngx_pid_t thread_pid;
#define ngx_pid thread_pid

#include "cache_zone.h"

enum { READERS = 2, WRITERS = 2, KEYS = 300 };

static ngx_http_hotpath_cache_t *zone;
static int stop;
static uint64_t versions[KEYS];
static uint64_t reads, writes, purges;

static void begin_thread(void)
{
    thread_pid = (ngx_pid_t)syscall(SYS_gettid);
}

/* Half of all work is on a few keys. */
static uint64_t draw(uint64_t *seed)
{
    uint64_t drawn = next_random(seed);

    return drawn & 1 ? (drawn >> 1) % KEYS : (drawn >> 1) % 4;
}

static void *read_all(void *argument)
{
    ngx_http_hotpath_copy_t copy;
    uint64_t seed, n, done;

    begin_thread();
    seed = (uintptr_t)argument;
    done = 0;

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        n = draw(&seed);

        if (get_coded(zone, n, next_random(&seed) % 8, &copy) == NGX_OK) {
            CHECK(copy_is(&copy, n, HP_CODING_GZIP | HP_CODING_BR));
            CHECK(times_are(&copy.meta));
            done++;
        }

        if (next_random(&seed) % 8 == 0) {
            unsigned char space[1200];
            ngx_str_t key = make_key(space, n);

            ngx_http_hotpath_cache_expected(
                zone, ngx_http_hotpath_cache_expect(zone, &key));
        }
    }

    __atomic_add_fetch(&reads, done, __ATOMIC_RELAXED);
    shim_pool_reset(&pool);
    return NULL;
}

static void *write_all(void *argument)
{
    ngx_http_hotpath_cache_meta_t meta;
    uint64_t seed, n, version, done;
    ngx_int_t rc;

    begin_thread();
    seed = (uintptr_t)argument;
    done = 0;

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        n = draw(&seed);
        version = __atomic_add_fetch(&versions[n], 1, __ATOMIC_RELAXED);
        meta = make_meta(version);
        meta.begun =
            version % 2 ? ngx_http_hotpath_cache_begun(zone) : meta.begun;
        rc = put_parts(zone, n, &meta, len_of(n, version));
        CHECK(rc == NGX_OK || rc == NGX_ABORT || rc == NGX_BUSY);
        rc = put_codings(zone, n, version, len_of(n, version),
                         next_random(&seed) % 4 * 2);
        CHECK(rc == NGX_OK || rc == NGX_DECLINED || rc == NGX_BUSY);
        done++;
    }

    __atomic_add_fetch(&writes, done, __ATOMIC_RELAXED);
    return NULL;
}

static void *purge_all(void *argument)
{
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_walk_t walk;
    uint64_t seed, done;

    begin_thread();
    seed = (uintptr_t)argument;
    done = 0;
    memset(&walk, 0, sizeof(walk));
    walk.purge = 1;

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        switch (next_random(&seed) % 8) {
        case 0:
            ngx_http_hotpath_cache_distrust(zone);
            break;
        case 1:
            ngx_http_hotpath_cache_stats(zone, &stats);
            CHECK(stats.bytes_used <= stats.bytes_total);
            break;
        case 2:
            walk.tag = next_random(&seed) % 3;
            walk.main = next_random(&seed) % 2;

            if (ngx_http_hotpath_cache_walk(zone, &walk, 200) == NGX_OK) {
                walk.position = 0;
            }
            break;
        default:
            done += purge(zone, draw(&seed), next_random(&seed) % 2) == NGX_OK;
        }
    }

    __atomic_add_fetch(&purges, done + walk.met, __ATOMIC_RELAXED);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[READERS + WRITERS + 1];
    ngx_http_hotpath_cache_stats_t stats;
    struct timespec until;
    int64_t seconds;
    int i;

    seconds = argc > 1 ? strtol(argv[1], NULL, 10) : 20;
    CHECK(seconds > 0);
    begin_thread();

    /* small enough for what is written to push out what is read */
    zone = keep(make_zone("zone=docs:256k", "max_entry=16k"));

    for (i = 0; i <= READERS + WRITERS; i++) {
        CHECK(pthread_create(&threads[i], NULL,
                             i < READERS             ? read_all
                             : i < READERS + WRITERS ? write_all
                                                     : purge_all,
                             (void *)(uintptr_t)(i + 1)) == 0);
    }

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += seconds;

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) {
    }

    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);

    for (i = 0; i <= READERS + WRITERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }

    ngx_http_hotpath_cache_stats(zone, &stats);
    check_structure(zone);
    printf("%lu good reads, %lu writes, %lu purged, %lu evicted, %lu times "
           "locked\n",
           reads, writes, purges, stats.evictions, stats.lock_busy);
    CHECK(stats.resets == 0);
    CHECK(reads > 100 && writes > 100 && purges > 10 && stats.evictions > 10);
    drop_zone();
    return 0;
}
