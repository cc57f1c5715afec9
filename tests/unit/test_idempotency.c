/*
 * test_idempotency.c: unit tests of ngx_module/ngx_http_hotpath_idempotency.c.
 *
 * Claims, their outcomes and their ends; what a full bucket forgets, and in
 * which order; claims that are taken over, at once or only after their
 * deadline; a worker killed at any store of a claim or an acceptance, of which
 * only that entry may suffer; what an entry takes.
 *
 * The rooms are included as source and run on nginx_shim.h. Time is the test's:
 * clock_gettime() is replaced. Owners that are gone are pids of children that
 * have ended. One process but for those.
 */
#include "support.h"

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t clock_s = 1000;

static int test_clock(clockid_t which, struct timespec *ts)
{
    ts->tv_sec = clock_s + (which == CLOCK_REALTIME ? 1769860800 : 0);
    ts->tv_nsec = 0;
    return 0;
}

#define clock_gettime test_clock

#include "nginx_shim.h"

time_t ngx_parse_time(ngx_str_t *line, ngx_uint_t is_sec)
{
    (void)is_sec;
    return line->len != 0 ? atoi((char *)line->data) : NGX_ERROR;
}

#include "ngx_http_hotpath_idempotency.c"
#include "ngx_http_hotpath_shm.c"

uint64_t *ngx_http_hotpath_metrics_row =
    (uint64_t[NGX_HTTP_HOTPATH_METRIC_N]){0};

#define WAYS NGX_HTTP_HOTPATH_IDEMPOTENCY_WAYS
#define CLAIM_MS 5000

static shim_pool_t pool;
static ngx_conf_t conf;
static ngx_log_t test_log;
static ngx_http_hotpath_op_t op;
static const u_char print[HP_FINGERPRINT_SIZE] = "one payload";
static const u_char other[HP_FINGERPRINT_SIZE] = "another payload";

static ngx_http_hotpath_idempotency_t *make_table(const char *text,
                                                  ngx_uint_t patient)
{
    ngx_http_hotpath_idempotency_t *table;
    ngx_str_t name;

    name.data = (u_char *)text;
    name.len = strlen(text);
    memset(&shim_zone, 0, sizeof(shim_zone));
    conf.pool = &pool.pool;
    ngx_pid = getpid();
    table = ngx_http_hotpath_idempotency_add(&conf, &name, 100, patient);
    assert_non_null(table);
    assert_int_equal(shim_zone_map(&test_log), 0);
    assert_int_equal(shim_zone.init(&shim_zone, NULL), NGX_OK);
    return table;
}

static void drop_table(void)
{
    shim_zone_unmap();
    shim_pool_reset(&pool);
}

/* Ids with the same last bytes share a bucket. */
static u_char *id_of(unsigned n)
{
    static u_char ids[64][HP_UUID_SIZE];

    memset(ids[n], 7, HP_UUID_SIZE);
    ids[n][0] = (u_char)n;
    return ids[n];
}

static ngx_int_t claim(ngx_http_hotpath_idempotency_t *table, unsigned n,
                       const u_char *fingerprint)
{
    return ngx_http_hotpath_idempotency_claim(table, id_of(n), fingerprint,
                                              CLAIM_MS, &op);
}

static void accept_it(ngx_http_hotpath_idempotency_t *table, unsigned n)
{
    ngx_http_hotpath_idempotency_accept(table, id_of(n), print,
                                        1769860800000000, 201, 0, 40 + n);
}

/* A pid that nobody has. */
static ngx_pid_t gone(void)
{
    pid_t pid;

    pid = fork();

    if (pid == 0) {
        _exit(0);
    }

    assert_int_equal(waitpid(pid, NULL, 0), pid);
    return pid;
}

static void test_outcomes(void **state)
{
    ngx_http_hotpath_idempotency_t *table;

    (void)state;
    table = make_table("t:256k", 1);

    assert_int_equal(claim(table, 1, print), NGX_OK);
    assert_int_equal(claim(table, 1, print), NGX_AGAIN);
    assert_int_equal(claim(table, 1, other), NGX_DECLINED);

    ngx_http_hotpath_idempotency_release(table, id_of(1));
    assert_int_equal(claim(table, 1, other), NGX_OK);
    ngx_http_hotpath_idempotency_release(table, id_of(1));

    assert_int_equal(claim(table, 1, print), NGX_OK);
    accept_it(table, 1);
    assert_int_equal(claim(table, 1, print), NGX_DONE);
    assert_int_equal(op.state, NGX_HTTP_HOTPATH_OP_ACCEPTED);
    assert_int_equal(op.number, 201);
    assert_int_equal(op.sequence, 41);
    assert_int_equal(op.accepted_us, 1769860800000000);
    assert_int_equal(claim(table, 1, other), NGX_DECLINED);

    /* settled: nothing takes that back */
    ngx_http_hotpath_idempotency_release(table, id_of(1));
    assert_int_equal(claim(table, 1, print), NGX_DONE);

    /* the window has passed: another payload is a new one */
    clock_s += 101;
    assert_int_equal(claim(table, 1, other), NGX_OK);

    /* what was accepted for the payload before must not settle this one */
    accept_it(table, 1);
    assert_int_equal(claim(table, 1, other), NGX_AGAIN);
    drop_table();
}

static void test_eviction(void **state)
{
    ngx_http_hotpath_idempotency_t *table;
    uint64_t forced;
    unsigned n;

    (void)state;
    table = make_table("t:256k", 1);

    for (n = 0; n < WAYS; n++) {
        assert_int_equal(claim(table, n, print), NGX_OK);
    }

    /* all in flight: none is forgotten */
    assert_int_equal(claim(table, WAYS, print), NGX_BUSY);

    clock_s += 1;
    accept_it(table, 5);
    clock_s += 1;
    accept_it(table, 2);

    /* of the finished ones the oldest, with a counter */
    forced = ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_IDEMPOTENCY_FORCED];
    assert_int_equal(claim(table, WAYS, print), NGX_OK);
    assert_int_equal(
        ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_IDEMPOTENCY_FORCED],
        forced + 1);
    assert_int_equal(claim(table, 2, print), NGX_DONE);
    assert_int_equal(claim(table, 5, print), NGX_OK); /* and that was 5 */
    assert_int_equal(ngx_http_hotpath_idempotency_find(table, id_of(2), &op),
                     NGX_DECLINED);
    assert_int_equal(claim(table, WAYS + 1, print), NGX_BUSY);

    /* an expired one goes without a word */
    accept_it(table, 0);
    clock_s += 101;
    forced = ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_IDEMPOTENCY_FORCED];
    assert_int_equal(claim(table, WAYS + 1, print), NGX_OK);
    assert_int_equal(
        ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_IDEMPOTENCY_FORCED],
        forced);
    drop_table();
}

static void test_deadline(void **state)
{
    ngx_http_hotpath_idempotency_t *table;
    ngx_uint_t patient;
    ngx_pid_t self;

    (void)state;
    self = getpid();

    for (patient = 0; patient < 2; patient++) {
        table = make_table("t:256k", patient);

        /* of a worker that is gone */
        ngx_pid = gone();
        assert_int_equal(claim(table, 1, print), NGX_OK);
        ngx_pid = self;
        assert_int_equal(claim(table, 1, print), patient ? NGX_AGAIN : NGX_OK);
        assert_int_equal(
            ngx_http_hotpath_idempotency_renew(table, id_of(1), CLAIM_MS),
            patient ? NGX_DECLINED : NGX_OK);
        clock_s += CLAIM_MS / 1000 + 2;
        assert_int_equal(claim(table, 1, print), NGX_OK);

        /* of one that lives: it can be renewed, and never ends early */
        clock_s += CLAIM_MS / 1000;
        assert_int_equal(claim(table, 1, print), NGX_AGAIN);
        assert_int_equal(
            ngx_http_hotpath_idempotency_renew(table, id_of(1), CLAIM_MS),
            NGX_OK);
        clock_s += CLAIM_MS / 1000;
        assert_int_equal(claim(table, 1, print), NGX_AGAIN);
        clock_s += 2;
        assert_int_equal(claim(table, 1, other), NGX_OK);
        drop_table();
    }
}

/* What a worker leaves that died between two stores: entry and lock are put
 * into each state that there is on the way. */
static void test_torn(void **state)
{
    ngx_http_hotpath_idempotency_t *table;
    ngx_http_hotpath_entry_t *bucket, *e;
    ngx_http_hotpath_lock_t *lock;

    (void)state;
    table = make_table("t:256k", 1);

    assert_int_equal(claim(table, 1, print), NGX_OK);
    accept_it(table, 1);
    assert_int_equal(claim(table, 2, print), NGX_OK);
    assert_int_equal(claim(table, 3, print), NGX_OK);

    bucket = ngx_http_hotpath_idempotency_enter(table, id_of(1), &lock);
    assert_non_null(bucket);

    /* 2 was being accepted: its claim says so until the last store */
    e = ngx_http_hotpath_idempotency_find_locked(bucket, id_of(2));
    ngx_http_hotpath_idempotency_begin_locked(table, lock, e, 1);
    e->owner = 123;
    lock->owner = (ngx_atomic_t)gone();
    assert_int_equal(claim(table, 2, print), NGX_DONE);
    assert_int_equal(op.unsure, 1);
    assert_int_equal(claim(table, 1, print), NGX_DONE);
    assert_int_equal(claim(table, 3, print), NGX_AGAIN);

    /* 4 was being claimed */
    bucket = ngx_http_hotpath_idempotency_enter(table, id_of(4), &lock);
    e = ngx_http_hotpath_idempotency_room_locked(
        table, bucket, ngx_http_hotpath_idempotency_now_s());
    ngx_http_hotpath_idempotency_begin_locked(table, lock, e, 0);
    memcpy(e->id, id_of(4), HP_UUID_SIZE);
    lock->owner = (ngx_atomic_t)gone();
    assert_int_equal(claim(table, 4, other), NGX_OK);
    assert_int_equal(claim(table, 1, print), NGX_DONE);
    assert_int_equal(claim(table, 2, print), NGX_DONE);
    assert_int_equal(claim(table, 3, print), NGX_AGAIN);
    assert_int_equal(lock->dirty, 0);
    drop_table();
}

static void test_add(void **state)
{
    static const char *const bad[] = {"", ":1m", "t:", "t:x", "t:255k", "t:0"};
    ngx_http_hotpath_idempotency_t *table;
    ngx_str_t name;
    size_t i;

    (void)state;
    conf.pool = &pool.pool;

    for (i = 0; i < COUNT_OF(bad); i++) {
        name.data = (u_char *)bad[i];
        name.len = strlen(bad[i]);
        assert_null(ngx_http_hotpath_idempotency_add(&conf, &name, 100, 1));
    }

    memset(&shim_zone, 0, sizeof(shim_zone));
    ngx_str_set(&name, "t:1m");
    assert_null(ngx_http_hotpath_idempotency_add(&conf, &name, 0, 1));
    assert_null(
        ngx_http_hotpath_idempotency_add(&conf, &name, 30 * 86400 + 1, 1));
    table = ngx_http_hotpath_idempotency_add(&conf, &name, 100, 1);
    assert_non_null(table);
    assert_int_equal(ngx_http_hotpath_idempotency_window(table), 100);

    /* again, by its name: the same table for the same time only */
    ngx_str_set(&name, "t");
    assert_ptr_equal(ngx_http_hotpath_idempotency_add(&conf, &name, 100, 1),
                     table);
    assert_null(ngx_http_hotpath_idempotency_add(&conf, &name, 101, 1));
    assert_null(ngx_http_hotpath_idempotency_add(&conf, &name, 100, 0));
    shim_pool_reset(&pool);
    memset(&shim_zone, 0, sizeof(shim_zone));
}

/* What the reference says of its memory. */
static void test_memory(void **state)
{
    ngx_http_hotpath_idempotency_t *table;
    size_t used;

    (void)state;
    assert_int_equal(sizeof(ngx_http_hotpath_entry_t), 64);
    table = make_table("t:1m", 1);
    used = sizeof(ngx_http_hotpath_table_t) +
           table->table->buckets * WAYS * sizeof(ngx_http_hotpath_entry_t);
    assert_in_range(used, table->table->region.size - WAYS * 64,
                    table->table->region.size);
    assert_in_range(sizeof(ngx_http_hotpath_table_t), 0, 32 * 1024);
    drop_table();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes), cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_deadline), cmocka_unit_test(test_torn),
        cmocka_unit_test(test_add),      cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
