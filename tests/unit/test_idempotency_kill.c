/*
 * test_idempotency_kill.c: workers killed while they write an operation.
 *
 * A child claims or accepts an operation and is led through that by ptrace, an
 * instruction at a time. After each of them the parent copies the table, as a
 * worker would find it that was killed just there (its locks are held by a
 * process that is no more), and looks: the lock can be had, no other entry has
 * changed, what was being claimed is claimed or free, what was being accepted
 * is in flight or accepted. What was given up is never taken for accepted.
 *
 * The rooms are included as source and run on nginx_shim.h; no sanitizer, which
 * would multiply the instructions. Each child is waited for.
 */
#include "support.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static time_t clock_s = 1000;

static int test_clock(clockid_t which, struct timespec *ts)
{
    (void)which;
    ts->tv_sec = clock_s;
    ts->tv_nsec = 0;
    return 0;
}

#define clock_gettime test_clock

#include "nginx_shim.h"

time_t ngx_parse_time(ngx_str_t *line, ngx_uint_t is_sec)
{
    (void)line, (void)is_sec;
    return NGX_ERROR;
}

#include "ngx_http_hotpath_idempotency.c"
#include "ngx_http_hotpath_shm.c"

uint64_t *ngx_http_hotpath_metrics_row =
    (uint64_t[NGX_HTTP_HOTPATH_METRIC_N]){0};

#define CLAIM_MS 5000

static shim_pool_t pool;
static ngx_http_hotpath_idempotency_t *table;
static ngx_http_hotpath_op_t op;
static pid_t gone; /* of nobody */
static const u_char print[HP_FINGERPRINT_SIZE] = "one payload";

static u_char *id_of(unsigned n)
{
    static u_char ids[16][HP_UUID_SIZE];

    memset(ids[n], 7, HP_UUID_SIZE);
    ids[n][0] = (u_char)n;
    return ids[n];
}

static ngx_int_t claim(unsigned n)
{
    return ngx_http_hotpath_idempotency_claim(table, id_of(n), print, CLAIM_MS,
                                              &op);
}

static void accept_it(unsigned n)
{
    ngx_http_hotpath_idempotency_accept(table, id_of(n), print,
                                        1769860800000000, 201, 0, 40 + n);
}

/* 1 and 3 are accepted, 2 is in flight, 5 was and is given up. */
static void set_up(void)
{
    ngx_conf_t conf;
    ngx_str_t name = ngx_string("t:256k");

    memset(&conf, 0, sizeof(conf));
    memset(&shim_zone, 0, sizeof(shim_zone));
    conf.pool = &pool.pool;
    ngx_pid = getpid();
    table = ngx_http_hotpath_idempotency_add(&conf, &name, 100, 1);
    assert_non_null(table);
    assert_int_equal(shim_zone_map(NULL), 0);
    assert_int_equal(shim_zone.init(&shim_zone, NULL), NGX_OK);

    assert_int_equal(claim(5), NGX_OK);
    clock_s += CLAIM_MS / 1000 + 2;
    assert_int_equal(claim(1), NGX_OK);
    accept_it(1);
    assert_int_equal(claim(2), NGX_OK);
    assert_int_equal(claim(3), NGX_OK);
    accept_it(3);
}

static void others_are_whole(void)
{
    assert_int_equal(claim(1), NGX_DONE);
    assert_int_equal(op.sequence, 41);
    assert_int_equal(op.number, 201);
    assert_int_equal(claim(3), NGX_DONE);
    assert_int_equal(op.sequence, 43);
}

static void claims_4(void)
{
    (void)claim(4);
}

static void claims_5(void)
{
    (void)claim(5);
}

static void accepts_2(void)
{
    accept_it(2);
}

static void check_4(void)
{
    ngx_int_t rc;

    rc = claim(4);
    assert_true(rc == NGX_OK || rc == NGX_AGAIN);
    assert_int_equal(claim(2), NGX_AGAIN);
}

static void check_5(void)
{
    ngx_int_t rc;

    rc = claim(5);
    assert_true(rc == NGX_OK || rc == NGX_AGAIN);
    assert_int_equal(claim(2), NGX_AGAIN);
}

static void check_2(void)
{
    ngx_int_t rc;

    rc = claim(2);
    assert_true(rc == NGX_AGAIN || rc == NGX_DONE);

    if (rc == NGX_DONE) {
        assert_true(op.sequence == 42 || op.sequence == 0);
    }
}

/* The table as whoever comes next finds it, with nobody in it. 1: somebody was
 * in the middle of an entry. */
static unsigned copy_table(void *copy, const void *region, pid_t victim)
{
    unsigned i, torn;

    memcpy(copy, region, table->table->region.size);
    table->table = copy;
    table->entries = (ngx_http_hotpath_entry_t *)(table->table + 1);

    for (i = 0, torn = 0; i < NGX_HTTP_HOTPATH_IDEMPOTENCY_STRIPES; i++) {
        torn |= table->table->locks[i].dirty != 0;

        if (table->table->locks[i].owner == (ngx_atomic_uint_t)victim) {
            table->table->locks[i].owner = (ngx_atomic_uint_t)gone;
        }
    }

    return torn;
}

/* How many of the instructions were within an entry. */
static unsigned led_through(void (*work)(void), void (*check)(void))
{
    unsigned torn;
    void *copy, *region;
    int status;
    pid_t pid;

    region = table->table;
    copy = malloc(table->table->region.size);
    assert_non_null(copy);
    pid = fork();
    assert_true(pid >= 0);

    if (pid == 0) {
        ngx_pid = getpid();
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        work();
        _exit(0);
    }

    for (torn = 0;;) {
        assert_int_equal(waitpid(pid, &status, 0), pid);

        if (!WIFSTOPPED(status)) {
            break;
        }

        torn += copy_table(copy, region, pid);
        others_are_whole();
        check();
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
    }

    assert_true(WIFEXITED(status));
    free(copy);
    return torn;
}

static void test_killed_anywhere(void **state)
{
    static const struct {
        void (*work)(void);
        void (*check)(void);
    } cases[] = {
        {claims_4, check_4}, {claims_5, check_5}, {accepts_2, check_2}};
    size_t i;

    (void)state;
    gone = fork();

    if (gone == 0) {
        _exit(0);
    }

    assert_int_equal(waitpid(gone, NULL, 0), gone);

    for (i = 0; i < COUNT_OF(cases); i++) {
        set_up();
        assert_true(led_through(cases[i].work, cases[i].check) > 10);
        shim_zone_unmap();
        shim_pool_reset(&pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
