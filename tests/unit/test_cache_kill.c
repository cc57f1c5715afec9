/*
 * test_cache_kill.c: processes on one cache zone, some of which are killed.
 *
 * First two writers and two readers that all end well. Then writers, each
 * killed by SIGKILL in the middle of one put, coded body, purge or walk, while
 * others read and write: the code is compiled with -fsanitize-coverage=
 * trace-pc, which calls __sanitizer_cov_trace_pc() at the begin of each block,
 * and the one to die counts these calls, while it holds a lock, to a number
 * that moves through the whole operation. Some are stopped there instead and
 * led on by ptrace, an instruction at a time, with a look at the zone after
 * each, so that they also die within a block. Then writers that are killed at
 * whatever instant it is.
 *
 * No reader may ever see a byte of another document, another part or another
 * version, and every writer that lives must get every stripe's lock again. Each
 * child is waited for.
 */
#include "support.h"

#include <sched.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "cache_zone.h"

enum { BLOCKS_PER_KIND = 180, RANDOM_KILLS = 600, KEYS = 1500, HAMMERED = 64 };

#if defined(__clang__)
#define UNCOUNTED __attribute__((no_sanitize("coverage")))
#else
#define UNCOUNTED __attribute__((no_sanitize_coverage))
#endif

/* Shared by the processes of one test. */
static struct {
    uint64_t stop;
    uint64_t reads;
    uint64_t blocks;
    uint64_t versions[HAMMERED];
} * shared;

/* Of the process that is to die. */
static ngx_http_hotpath_cache_t *victim_zone;
static int armed, led;
static uint64_t blocks, last_block;

void __sanitizer_cov_trace_pc(void);

UNCOUNTED void __sanitizer_cov_trace_pc(void)
{
    uint32_t s;

    if (!armed) {
        return;
    }

    /* what goes before the lock changes nothing */
    for (s = 0; victim_zone->region->stripe[s].lock.owner !=
                (ngx_atomic_uint_t)ngx_pid;) {
        if (++s == victim_zone->nstripes) {
            return;
        }
    }

    if (++blocks != last_block) {
        return;
    }

    armed = 0;

    if (led) {
        raise(SIGSTOP);
    } else {
        kill(getpid(), SIGKILL);
    }
}

static void finish(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void make_shared(void)
{
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_ANONYMOUS | MAP_SHARED, -1, 0);
    assert_true(shared != MAP_FAILED);
    ngx_pid = getpid();
}

static void drop_shared(void)
{
    munmap(shared, sizeof(*shared));
}

static void hammer_write(ngx_http_hotpath_cache_t *cache, uint64_t seed)
{
    ngx_http_hotpath_cache_meta_t meta;
    uint64_t i, n, version;
    ngx_int_t rc;

    for (i = 0; i < 20000; i++) {
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

        if (!copy_is(&copy, n, HP_CODING_GZIP | HP_CODING_BR) ||
            !times_are(&copy.meta)) {
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
    assert_true(stats.stores > 20000);
    assert_true(shared->reads > 1000);
    check_structure(cache);
    drop_shared();
    drop_zone();
}

/* Reads and checks. */
static void read_until_stopped(ngx_http_hotpath_cache_t *cache, uint64_t seed)
{
    ngx_http_hotpath_copy_t copy;
    uint64_t n, reads;

    reads = 0;

    while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
        n = next_random(&seed) % KEYS;

        if (get_coded(cache, n, next_random(&seed) % 8, &copy) != NGX_OK) {
            continue;
        }

        if (!copy_is(&copy, n, HP_CODING_GZIP | HP_CODING_BR) ||
            !times_are(&copy.meta)) {
            _exit(2);
        }

        reads++;
    }

    __atomic_add_fetch(&shared->reads, reads, __ATOMIC_RELAXED);
}

/* Everything that can be done to a zone that is too small for it. */
static void write_once(ngx_http_hotpath_cache_t *cache, uint64_t *seed)
{
    static ngx_http_hotpath_cache_walk_t walk;
    ngx_http_hotpath_cache_meta_t meta;
    uint64_t n, version;

    n = next_random(seed) % KEYS;
    version = 1 + next_random(seed) % 1000000;
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
        walk.purge = 1;
        walk.tag = 1 + next_random(seed) % 100;

        if (ngx_http_hotpath_cache_walk(cache, &walk, 64) == NGX_OK) {
            walk.position = 0;
        }
    }
}

static void write_until_stopped(ngx_http_hotpath_cache_t *cache, uint64_t seed)
{
    while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
        write_once(cache, &seed);
    }
}

static void write_until_killed(ngx_http_hotpath_cache_t *cache, uint64_t seed)
{
    for (;;) {
        write_once(cache, &seed);
    }
}

/* Whoever lives gets the lock again, as soon as another who lives lets go. */
static void write_surely(ngx_http_hotpath_cache_t *cache, uint64_t n,
                         uint64_t version)
{
    ngx_http_hotpath_cache_meta_t meta = make_meta(version);
    ngx_http_hotpath_copy_t copy;
    ngx_int_t rc;
    int tries;

    for (tries = 0; tries < 10000; tries++) {
        rc = put_parts(cache, n, &meta, 300);

        if (rc != NGX_BUSY) {
            break;
        }

        sched_yield();
    }

    assert_int_equal(rc, NGX_OK);

    /* the others may have pushed it out or emptied its stripe by now */
    if (get(cache, n, &copy) == NGX_OK) {
        assert_int_equal(copy.meta.version, version);
        assert_true(copy_is(&copy, n, 0));
    }
}

/* What the ones to die do: everything is prepared before they are counted. */
enum { PUT_SMALL, PUT_LARGE, REPLACE, CODINGS, PURGE, WALK, KINDS };

typedef struct {
    int kind;
    uint64_t n;
    uint64_t version;
} task_t;

static task_t task;

static void die_in_it(ngx_http_hotpath_cache_t *cache, uint64_t at)
{
    ngx_http_hotpath_cache_content_t content;
    ngx_http_hotpath_cache_walk_t walk;
    ngx_http_hotpath_cache_meta_t meta;
    unsigned char space[1200];
    ngx_str_t key, gzip, br;
    size_t len;

    key = make_key(space, task.n);
    meta = make_meta(task.version);
    len = task.kind == PUT_LARGE ? 9000 : len_of(task.n, task.version);
    make_content(&content, task.n, task.version, len);

    if (task.kind == REPLACE || task.kind == PURGE) {
        (void)ngx_http_hotpath_cache_put(cache, &key, &meta, &content);
        meta = make_meta(task.version + 1);
        make_content(&content, task.n, meta.version, len);
    }

    if (task.kind == CODINGS) {
        memset(&content.gzip, 0, sizeof(gzip));
        memset(&content.br, 0, sizeof(br));
        (void)ngx_http_hotpath_cache_put(cache, &key, &meta, &content);
        make_coding(&gzip, HP_CODING_GZIP, task.n, task.version, len);
        make_coding(&br, HP_CODING_BR, task.n, task.version, len);
    }

    memset(&walk, 0, sizeof(walk));
    walk.purge = 1;
    walk.hard = 1;
    victim_zone = cache;
    last_block = at;
    armed = 1;

    switch (task.kind) {
    case CODINGS:
        (void)ngx_http_hotpath_cache_put_codings(cache, &key, task.version, len,
                                                 &gzip, &br);
        break;
    case PURGE:
        (void)ngx_http_hotpath_cache_purge(cache, &key, 1);
        break;
    case WALK:
        (void)ngx_http_hotpath_cache_walk(cache, &walk, 200);
        break;
    default:
        (void)ngx_http_hotpath_cache_put(cache, &key, &meta, &content);
    }

    armed = 0;
    __atomic_store_n(&shared->blocks, blocks, __ATOMIC_RELAXED);
}

static void die_led(ngx_http_hotpath_cache_t *cache, uint64_t at)
{
    led = 1;

    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
        _exit(7);
    }

    die_in_it(cache, at);
}

/* 1 where it died in there; steps: instructions behind the begin of a block. */
static int kill_at(ngx_http_hotpath_cache_t *cache, uint64_t at, unsigned steps)
{
    ngx_http_hotpath_copy_t copy;
    int status;
    pid_t pid;

    pid = start(steps ? die_led : die_in_it, cache, at);

    for (;;) {
        assert_int_equal(waitpid(pid, &status, 0), pid);

        if (!WIFSTOPPED(status)) {
            break;
        }

        /* as it is between these two instructions */
        if (get_coded(cache, task.n, steps % 8, &copy) == NGX_OK) {
            assert_true(copy_is(&copy, task.n, HP_CODING_GZIP | HP_CODING_BR));
            assert_true(times_are(&copy.meta));
        }

        if (steps-- == 0) {
            assert_int_equal(kill(pid, SIGKILL), 0);
        } else if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0) {
            fail_msg("ptrace: %s", strerror(errno));
        }
    }

    /* where nobody may be traced, it says so and is killed at the block */
    if (WIFEXITED(status) && WEXITSTATUS(status) == 7) {
        return kill_at(cache, at, 0);
    }

    if (WIFEXITED(status)) {
        assert_int_equal(WEXITSTATUS(status), 0);
        return 0;
    }

    assert_int_equal(WTERMSIG(status), SIGKILL);
    return 1;
}

static void test_killed_at_each_block(void **state)
{
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    uint64_t seed, i, at, total, killed, longest[KINDS];
    pid_t reader, writer;

    (void)state;
    cache = keep(make_zone("zone=docs:512k", "max_entry=16k"));
    make_shared();
    reader = start(read_until_stopped, cache, 5);
    writer = start(write_until_stopped, cache, 6);
    seed = 77;
    killed = 0;
    total = 0;

    for (task.kind = 0; task.kind < KINDS; task.kind++) {
        longest[task.kind] = 0;

        /* how long it is, where nobody dies; the zone is not always the same */
        for (i = 0; i < 8; i++) {
            task.n = next_random(&seed) % KEYS;
            task.version = 2000000 + total++ * 2;
            assert_int_equal(kill_at(cache, (uint64_t)-1, 0), 0);
            longest[task.kind] +=
                __atomic_load_n(&shared->blocks, __ATOMIC_RELAXED);
        }

        longest[task.kind] = longest[task.kind] / 6;
        assert_true(longest[task.kind] > 3);

        for (i = 0; i < BLOCKS_PER_KIND; i++) {
            task.n = next_random(&seed) % KEYS;
            task.version = 2000000 + total++ * 2;
            at = 1 + longest[task.kind] * i / BLOCKS_PER_KIND;
            killed += (uint64_t)kill_at(
                cache, at,
                i % 3 && task.kind != PURGE ? 0 : 1 + next_random(&seed) % 40);

            if (i % 8 == 0) {
                write_surely(cache, 5000 + next_random(&seed) % 64,
                             2000000 + total);
            }
        }
    }

    __atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
    finish(reader);
    finish(writer);

    /* every stripe is touched once more, so that none is left torn */
    for (i = 6000; i < 6000 + 64 * (uint64_t)cache->nstripes; i++) {
        write_surely(cache, i, 1);
    }

    check_structure(cache);
    ngx_http_hotpath_cache_stats(cache, &stats);
    print_message("%lu writers killed, %lu stripes emptied, %lu good reads; "
                  "blocks of an operation: %lu %lu %lu %lu %lu %lu\n",
                  killed, stats.resets, shared->reads, longest[0], longest[1],
                  longest[2], longest[3], longest[4], longest[5]);
    assert_true(killed > KINDS * BLOCKS_PER_KIND / 2);
    assert_true(stats.resets > 50);
    assert_true(shared->reads > 1000);
    drop_shared();
    drop_zone();
}

static void test_killed_at_any_time(void **state)
{
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    uint64_t seed, i, stores;
    volatile int spin;
    pid_t reader, writer;
    int status;

    (void)state;
    cache = keep(make_zone("zone=docs:512k", "max_entry=16k"));
    make_shared();
    seed = 42;
    reader = start(read_until_stopped, cache, 5);

    for (i = 0; i < RANDOM_KILLS; i++) {
        ngx_http_hotpath_cache_stats(cache, &stats);
        stores = stats.stores;
        writer = start(write_until_killed, cache, i);

        /* until it is at work, and then any time */
        do {
            ngx_http_hotpath_cache_stats(cache, &stats);
        } while (stats.stores == stores &&
                 waitpid(writer, &status, WNOHANG) == 0);

        for (spin = (int)(next_random(&seed) % 3000); spin > 0; spin--) {
        }

        assert_int_equal(kill(writer, SIGKILL), 0);
        assert_int_equal(waitpid(writer, &status, 0), writer);
        assert_true(WIFSIGNALED(status));
        write_surely(cache, 2000 + next_random(&seed) % 64, i + 1);
    }

    __atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
    finish(reader);

    for (i = 3000; i < 3000 + 64 * (uint64_t)cache->nstripes; i++) {
        write_surely(cache, i, 1);
    }

    check_structure(cache);
    ngx_http_hotpath_cache_stats(cache, &stats);
    print_message("%d writers killed, %lu of them inside, %lu good reads\n",
                  RANDOM_KILLS, stats.resets, shared->reads);
    assert_true(stats.resets > RANDOM_KILLS / 40);
    assert_true(shared->reads > 1000);
    assert_true(stats.evictions > 1000);
    drop_shared();
    drop_zone();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_processes),
        cmocka_unit_test(test_killed_at_each_block),
        cmocka_unit_test(test_killed_at_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
