/*
 * test_redis.c: unit tests of ngx_module/ngx_http_hotpath_redis.c, the calls
 * to Redis, and of the circuit breaker in ngx_http_hotpath_backend.c.
 *
 * Both are included as source, on nginx_shim.h; in hiredis' place stands a line
 * of commands that were sent, of which a test answers the first, as Redis
 * would, or loses all. Time is what the test says. Each call must end once, as
 * a reply or as none, whatever comes first and however late the other comes;
 * the bounds must hold; and what opens a breaker, keeps it open and closes it
 * again is counted in commands that were sent. In the end random work, in which
 * nothing may be lost.
 */
#include "support.h"

#include "nginx_shim.h"

#include <ngx_event.h>
#include <openssl/sha.h>

#include "ngx_http_hotpath_backend.c"
#include "ngx_http_hotpath_redis.c"

#define TIMEOUT 100
#define PENDING 8

typedef struct {
    redisCallbackFn *fn;
    void *call;
    char words[64];
    char script[41];
    int argc;
} sent_t;

static shim_pool_t pool;
static ngx_log_t test_log;
static ngx_cycle_t cycle;
static ngx_http_hotpath_redis_t redis;
static redisAsyncContext context;
static sent_t sent[4096];
static size_t first, last;
static ngx_uint_t dropped;

volatile ngx_msec_t ngx_current_msec;
ngx_event_actions_t ngx_event_actions;
uint64_t row[NGX_HTTP_HOTPATH_METRIC_N];
uint64_t *ngx_http_hotpath_metrics_row = row;

/* What the rooms under test call of nginx, as far as they need it. */

u_char *ngx_sprintf(u_char *buf, const char *fmt, ...)
{
    va_list args;

    /* of a number of the size of a pointer, which is all that is asked for */
    assert_true(strcmp(fmt, "%ui") == 0 || strcmp(fmt, "%M") == 0);
    va_start(args, fmt);
    buf += sprintf((char *)buf, "%lu", va_arg(args, unsigned long));
    va_end(args);
    return buf;
}

u_char *ngx_hex_dump(u_char *dst, u_char *src, size_t len)
{
    char text[3];

    while (len--) {
        snprintf(text, sizeof(text), "%02x", *src++);
        *dst++ = (u_char)text[0];
        *dst++ = (u_char)text[1];
    }

    return dst;
}

static char hashed[4096];
static size_t hashed_len;

void ngx_sha1_init(ngx_sha1_t *ctx)
{
    (void)ctx;
    hashed_len = 0;
}

void ngx_sha1_update(ngx_sha1_t *ctx, const void *data, size_t size)
{
    (void)ctx;
    assert_true(hashed_len + size <= sizeof(hashed));
    memcpy(hashed + hashed_len, data, size);
    hashed_len += size;
}

void ngx_sha1_final(u_char result[20], ngx_sha1_t *ctx)
{
    (void)ctx;
    SHA1((unsigned char *)hashed, hashed_len, result);
}

/* Timers are looked at one by one: see pass(). */
ngx_rbtree_t ngx_event_timer_rbtree;

void ngx_rbtree_insert(ngx_rbtree_t *tree, ngx_rbtree_node_t *node)
{
    (void)tree, (void)node;
}

void ngx_rbtree_delete(ngx_rbtree_t *tree, ngx_rbtree_node_t *node)
{
    (void)tree, (void)node;
}

ngx_connection_t *ngx_get_connection(ngx_socket_t s, ngx_log_t *log)
{
    (void)s, (void)log;
    return NULL;
}

void ngx_free_connection(ngx_connection_t *c)
{
    (void)c;
}

void ngx_http_hotpath_redis_link_start(ngx_http_hotpath_redis_t *r,
                                       ngx_cycle_t *c)
{
    r->cycle = c;
    r->ac = &context;
    r->link = 1;
    r->ready = 1;
}

/* hiredis tells every command that it got no reply. */
static void lose_all(void)
{
    sent_t lost;

    while (first < last) {
        lost = sent[first++];
        lost.fn(&context, NULL, lost.call);
    }
}

void ngx_http_hotpath_redis_link_stop(ngx_http_hotpath_redis_t *r)
{
    (void)r;
    lose_all();
}

void ngx_http_hotpath_redis_link_drop(ngx_http_hotpath_redis_t *r,
                                      const char *why)
{
    (void)why;
    dropped++;
    r->ready = 0;
    r->ac = NULL;
    lose_all();
}

ngx_uint_t
ngx_http_hotpath_redis_link_news(ngx_http_hotpath_redis_trouble_t *rows,
                                 u_char *text, size_t len)
{
    (void)rows, (void)text, (void)len;
    return 0;
}

int redisAsyncCommandArgv(redisAsyncContext *ac, redisCallbackFn *fn,
                          void *privdata, int argc, const char **argv,
                          const size_t *argvlen)
{
    sent_t *command;
    size_t used = 0;
    int i;

    assert_ptr_equal(ac, &context);
    assert_true(last < COUNT_OF(sent));
    command = &sent[last++];
    command->fn = fn;
    command->call = privdata;
    command->argc = argc;
    command->words[0] = '\0';
    command->script[0] = '\0';

    for (i = 0; i < argc; i++) {
        if (i == 1 && strncmp(command->words, "EVAL", 4) == 0) {
            snprintf(command->script, sizeof(command->script), "%.*s",
                     (int)argvlen[i], argv[i]);
            continue;
        }

        if (used + argvlen[i] + 2 < sizeof(command->words)) {
            used += (size_t)snprintf(command->words + used,
                                     sizeof(command->words) - used, "%s%.*s",
                                     i ? " " : "", (int)argvlen[i], argv[i]);
        }
    }

    return REDIS_OK;
}

/* A caller, and what it was told. */

typedef struct {
    ngx_uint_t calls;
    int type; /* 0: none */
    ngx_int_t rc;
    char text[64];
    ngx_uint_t again; /* asks once more when it is told */
    ngx_http_hotpath_redis_call_t *next;
} told_t;

static ngx_str_t str(const char *text)
{
    ngx_str_t s;

    s.data = (u_char *)text;
    s.len = strlen(text);
    return s;
}

static void tell(void *data, redisReply *reply)
{
    told_t *told = data;
    ngx_str_t word = str("PING");

    told->calls++;
    told->type = reply == NULL ? 0 : reply->type;

    if (told->again) {
        told->again--;
        told->next =
            ngx_http_hotpath_redis_command(&redis, &word, 1, tell, told);
    }
}

static void tell_value(void *data, ngx_int_t rc, ngx_str_t *value)
{
    told_t *told = data;

    told->calls++;
    told->rc = rc;
    snprintf(told->text, sizeof(told->text), "%.*s", (int)value->len,
             (char *)value->data);
}

static ngx_http_hotpath_redis_call_t *get(told_t *told)
{
    ngx_str_t key = str("k");

    return ngx_http_hotpath_redis_get(&redis, &key, tell_value, told);
}

static ngx_http_hotpath_redis_call_t *command(told_t *told, ngx_uint_t n,
                                              const char *word)
{
    static ngx_str_t words[NGX_HTTP_HOTPATH_REDIS_ARGS_MAX + 1];
    ngx_uint_t i;

    for (i = 0; i < n; i++) {
        words[i] = str(word);
    }

    return ngx_http_hotpath_redis_command(&redis, words, n, told ? tell : NULL,
                                          told);
}

static ngx_http_hotpath_redis_script_t script =
    ngx_http_hotpath_redis_script("return 1");

static ngx_http_hotpath_redis_call_t *eval(told_t *told)
{
    ngx_str_t key = str("k"), arg = str("a");

    return ngx_http_hotpath_redis_eval(&redis, &script, &key, 1, &arg, 1,
                                       told ? tell : NULL, told);
}

/* Redis answers the oldest command. */
static void answer(int type, const char *text)
{
    redisReply reply;
    sent_t command;

    assert_true(first < last);
    command = sent[first++];
    memset(&reply, 0, sizeof(reply));
    reply.type = type;
    reply.str = (char *)text;
    reply.len = text ? strlen(text) : 0;
    command.fn(&context, &reply, command.call);
}

static void pass(ngx_msec_t ms)
{
    ngx_msec_t step;

    /* as nginx' timers would: never later than they are due */
    while (ms > 0) {
        step = ms < 10 ? ms : 10;
        ngx_current_msec += step;
        ms -= step;

        if (redis.deadline.timer_set &&
            (ngx_msec_int_t)(redis.deadline.timer.key - ngx_current_msec) <=
                0) {
            ngx_del_timer(&redis.deadline);
            ngx_http_hotpath_redis_deadline_handler(&redis.deadline);
        }
    }
}

static int setup(void **state)
{
    (void)state;
    memset(&redis, 0, sizeof(redis));
    memset(row, 0, sizeof(row));
    first = last = 0;
    dropped = 0;
    ngx_current_msec += 100000;
    script.link = 0;
    ngx_http_hotpath_redis_store.link = 0;
    cycle.pool = &pool.pool;
    cycle.log = &test_log;
    redis.timeout = TIMEOUT;
    redis.pending_max = PENDING;
    assert_int_equal(ngx_http_hotpath_redis_start(&redis, &cycle), NGX_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ngx_http_hotpath_redis_stop(&redis);
    assert_int_equal(redis.pending, 0);
    assert_int_equal(redis.bytes, 0);
    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_WAITING], 0);
    assert_true(ngx_queue_empty(&redis.waiting));
    shim_pool_reset(&pool);
    return 0;
}

static void test_replies(void **state)
{
    told_t told = {0};

    (void)state;
    assert_non_null(get(&told));
    assert_string_equal(sent[0].words, "GET k");
    assert_int_equal(told.calls, 0);
    answer(REDIS_REPLY_STRING, "value");
    assert_int_equal(told.calls, 1);
    assert_int_equal(told.rc, NGX_OK);
    assert_string_equal(told.text, "value");

    assert_non_null(get(&told));
    answer(REDIS_REPLY_NIL, NULL);
    assert_int_equal(told.rc, NGX_DECLINED);

    assert_non_null(get(&told));
    answer(REDIS_REPLY_INTEGER, NULL);
    assert_int_equal(told.rc, NGX_ERROR);
    assert_string_equal(told.text, "");

    assert_non_null(get(&told));
    answer(REDIS_REPLY_ERROR, "WRONGTYPE of value");
    assert_int_equal(told.rc, NGX_ERROR);
    assert_int_equal(told.calls, 4);

    /* a nil is a reply, an error is none */
    assert_non_null(command(&told, 2, "X"));
    assert_string_equal(sent[4].words, "X X");
    answer(REDIS_REPLY_NIL, NULL);
    assert_int_equal(told.type, REDIS_REPLY_NIL);
    assert_non_null(command(&told, 2, "X"));
    answer(REDIS_REPLY_ERROR, "ERR no");
    assert_int_equal(told.type, 0);
    assert_int_equal(told.calls, 6);

    /* nobody waits */
    assert_non_null(command(NULL, 1, "X"));
    answer(REDIS_REPLY_NIL, NULL);

    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_COMMANDS], 7);
    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_ERRORS], 2);
}

static void test_bounds(void **state)
{
    static char large[5 * 1024 * 1024 + 1];
    ngx_str_t words[600];
    told_t told = {0};
    int i;

    (void)state;
    assert_null(command(&told, 0, "X"));
    assert_null(command(&told, NGX_HTTP_HOTPATH_REDIS_ARGS_MAX + 1, "X"));
    assert_non_null(command(&told, NGX_HTTP_HOTPATH_REDIS_ARGS_MAX, "X"));
    assert_int_equal(sent[0].argc, NGX_HTTP_HOTPATH_REDIS_ARGS_MAX);
    answer(REDIS_REPLY_NIL, NULL);

    for (i = 0; i < 600; i++) {
        words[i] = str("w");
    }

    assert_null(ngx_http_hotpath_redis_eval(&redis, &script, words, 510, NULL,
                                            0, tell, &told));
    assert_null(ngx_http_hotpath_redis_eval(&redis, &script, words, 300, words,
                                            210, tell, &told));
    assert_null(ngx_http_hotpath_redis_eval(&redis, &script, words, 1, words,
                                            (ngx_uint_t)-1, tell, &told));
    assert_null(ngx_http_hotpath_redis_eval(
        &redis, &script, words, (ngx_uint_t)-1, words, 1, tell, &told));
    assert_non_null(ngx_http_hotpath_redis_eval(&redis, &script, words, 300,
                                                words, 209, tell, &told));
    assert_int_equal(sent[1].argc, NGX_HTTP_HOTPATH_REDIS_ARGS_MAX);
    answer(REDIS_REPLY_INTEGER, NULL);
    assert_int_equal(told.calls, 2);

    /* so many under way */
    for (i = 0; i < PENDING; i++) {
        assert_non_null(get(&told));
    }

    assert_null(get(&told));
    answer(REDIS_REPLY_NIL, NULL);
    assert_non_null(get(&told));
    assert_null(get(&told));
    lose_all();
    redis.ready = 1;
    redis.ac = &context;

    /* so many bytes; a small one still passes */
    memset(large, 'x', sizeof(large) - 1);
    assert_non_null(command(&told, 1, large));
    assert_null(command(&told, 1, large));
    assert_non_null(get(&told));
    answer(REDIS_REPLY_NIL, NULL);
    assert_non_null(command(&told, 1, large));
    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_SKIPPED_FULL], 3);

    /* not connected */
    redis.ready = 0;
    assert_null(get(&told));
    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_SKIPPED_DOWN], 1);
}

static void test_scripts(void **state)
{
    told_t told = {0};

    (void)state;

    /* the text, until it was run */
    assert_non_null(eval(&told));
    assert_non_null(eval(&told));
    assert_string_equal(sent[0].words, "EVAL 1 k a");
    assert_string_equal(sent[0].script, "return 1");
    assert_string_equal(sent[1].words, "EVAL 1 k a");
    answer(REDIS_REPLY_INTEGER, NULL);
    assert_int_equal(told.type, REDIS_REPLY_INTEGER);
    assert_non_null(eval(&told));
    assert_string_equal(sent[2].words, "EVALSHA 1 k a");
    assert_string_equal(sent[2].script,
                        "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    answer(REDIS_REPLY_INTEGER, NULL);
    answer(REDIS_REPLY_INTEGER, NULL);

    /* forgotten: that call is lost, the next one brings the text */
    assert_non_null(eval(&told));
    assert_non_null(eval(&told));
    assert_string_equal(sent[4].words, "EVALSHA 1 k a");
    answer(REDIS_REPLY_ERROR, "NOSCRIPT No matching script.");
    assert_int_equal(told.type, 0);
    assert_non_null(eval(&told));
    assert_string_equal(sent[5].words, "EVAL 1 k a");
    answer(REDIS_REPLY_ERROR, "NOSCRIPT No matching script.");
    answer(REDIS_REPLY_INTEGER, NULL);
    assert_non_null(eval(&told));
    assert_string_equal(sent[6].words, "EVALSHA 1 k a");
    answer(REDIS_REPLY_INTEGER, NULL);

    /* another connection may lead to another Redis */
    redis.link = 2;
    assert_non_null(eval(&told));
    assert_string_equal(sent[7].words, "EVAL 1 k a");
    answer(REDIS_REPLY_ERROR, "OOM full");
    assert_non_null(eval(&told));
    assert_string_equal(sent[8].words, "EVAL 1 k a");
    answer(REDIS_REPLY_INTEGER, NULL);
    assert_int_equal(told.calls, 9);
}

static void test_set_document(void **state)
{
    ngx_str_t key = str("k"), record = str("HPD1xxxxxxxxxxxxxxxxtext");
    ngx_str_t brief = str("HPD1xxxxxxxxxxxxxxx");

    (void)state;
    ngx_http_hotpath_redis_set_document(&redis, &key, &brief, 5);
    ngx_http_hotpath_redis_set_document(&redis, &key, &record, 0);
    assert_int_equal(last, 0);
    ngx_http_hotpath_redis_set_document(&redis, &key, &record, 86400000);
    assert_string_equal(sent[0].words,
                        "EVAL 1 k HPD1xxxxxxxxxxxxxxxxtext 86400000");
    answer(REDIS_REPLY_INTEGER, NULL);
}

static void test_deadline(void **state)
{
    told_t told = {0}, other = {0};

    (void)state;
    assert_non_null(get(&told));
    pass(60);
    assert_non_null(command(&other, 1, "X"));
    assert_int_equal(told.calls, 0);
    pass(40);
    assert_int_equal(told.calls, 1);
    assert_int_equal(told.rc, NGX_ERROR);
    assert_int_equal(other.calls, 0);
    pass(60);
    assert_int_equal(other.calls, 1);
    assert_int_equal(other.type, 0);
    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_TIMEOUTS], 2);
    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_ERRORS], 2);
    assert_true(redis.deadline.cancelable);

    /* the late replies are nobody's, nor an error twice */
    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_WAITING], 2);
    answer(REDIS_REPLY_STRING, "late");
    answer(REDIS_REPLY_ERROR, "late");
    assert_int_equal(told.calls, 1);
    assert_int_equal(other.calls, 1);
    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_ERRORS], 2);
    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_WAITING], 0);
    assert_int_equal(dropped, 0);
}

static void test_silence(void **state)
{
    told_t told = {0};

    (void)state;
    assert_non_null(get(&told));
    pass(90);
    assert_non_null(get(&told));
    pass(150);
    answer(REDIS_REPLY_NIL, NULL); /* late, and a sign of life */
    pass(290);
    assert_int_equal(dropped, 0);
    pass(100);
    assert_int_equal(dropped, 1);
    assert_int_equal(told.calls, 2);
    assert_int_equal(redis.pending, 0);

    /* and where nothing waits, silence is rest */
    redis.ready = 1;
    redis.ac = &context;
    pass(10000);
    assert_int_equal(dropped, 1);
}

static void test_cancel(void **state)
{
    told_t told = {0};
    ngx_http_hotpath_redis_call_t *call;
    int i;

    (void)state;
    call = get(&told);
    ngx_http_hotpath_redis_cancel(call);
    answer(REDIS_REPLY_STRING, "value");
    call = command(&told, 1, "X");
    ngx_http_hotpath_redis_cancel(call);
    pass(150);
    answer(REDIS_REPLY_NIL, NULL);
    assert_int_equal(told.calls, 0);

    /* who gave up before the deadline is counted as well */
    for (i = 1; i < 5; i++) {
        assert_false(redis.breaker.open);
        ngx_http_hotpath_redis_cancel(get(&told));
        pass(100);
        answer(REDIS_REPLY_NIL, NULL);
    }

    assert_true(redis.breaker.open);
    assert_int_equal(told.calls, 0);
}

static void test_handler_that_asks(void **state)
{
    told_t told = {0};

    (void)state;

    /* under a reply, under a deadline, and under a loss */
    told.again = 1;
    assert_non_null(command(&told, 1, "X"));
    answer(REDIS_REPLY_NIL, NULL);
    assert_non_null(told.next);
    assert_int_equal(last - first, 1);
    told.again = 1;
    pass(100);
    assert_int_equal(told.calls, 2);
    assert_non_null(told.next);
    assert_int_equal(last - first, 2);
    answer(REDIS_REPLY_NIL, NULL);
    pass(50);
    assert_int_equal(told.calls, 2);
    told.again = 1;
    lose_all();
    assert_int_equal(told.calls, 3);
    assert_null(told.next);
}

static void test_breaker(void **state)
{
    told_t told = {0}, probe = {0};
    int i;

    (void)state;

    for (i = 0; i < 4; i++) {
        assert_non_null(get(&told));
        pass(100);
        answer(REDIS_REPLY_NIL, NULL);
    }

    /* one good one, and the count begins again */
    assert_non_null(get(&told));
    answer(REDIS_REPLY_NIL, NULL);

    for (i = 0; i < 5; i++) {
        assert_non_null(get(&told));
        pass(100);
        answer(REDIS_REPLY_NIL, NULL);
    }

    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_OPEN], 1);
    assert_null(get(&told));
    assert_null(eval(&told));
    pass(390);
    assert_null(get(&told));
    pass(420);

    /* one, and nobody beside it; in vain */
    assert_non_null(get(&probe));
    assert_null(get(&told));
    pass(100);
    assert_int_equal(probe.calls, 1);
    assert_null(get(&told));
    answer(REDIS_REPLY_NIL, NULL); /* too late to close it */
    assert_null(get(&told));

    /* again; the connection goes with it, which says nothing */
    pass(810);
    assert_non_null(get(&probe));
    lose_all();
    redis.ready = 1;
    assert_non_null(get(&probe));
    assert_null(get(&told));
    answer(REDIS_REPLY_NIL, NULL);
    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_OPEN], 0);
    assert_non_null(get(&told));
    answer(REDIS_REPLY_NIL, NULL);
    assert_true(row[NGX_HTTP_HOTPATH_REDIS_SKIPPED_BREAKER] >= 6);
}

static void test_breaker_of_errors(void **state)
{
    static const char *useless[] = {"LOADING x",     "MASTERDOWN x",
                                    "CLUSTERDOWN x", "BUSY x",
                                    "NOAUTH x",      "NOPERM x"};
    static const char *useful[] = {"WRONGTYPE x", "ERR x",      "MOVED 1 x",
                                   "OOM x",       "READONLY x", "LOADINGS x"};
    told_t told = {0};
    size_t i, n;

    (void)state;

    for (n = 0; n < COUNT_OF(useful); n++) {
        for (i = 0; i < 10; i++) {
            assert_non_null(get(&told));
            answer(REDIS_REPLY_ERROR, useful[n]);
        }
    }

    for (n = 0; n < COUNT_OF(useless); n++) {
        for (i = 0; i < 5; i++) {
            assert_non_null(get(&told));
            answer(REDIS_REPLY_ERROR, useless[n]);
        }

        assert_null(get(&told));
        pass(900);
        assert_non_null(get(&told));
        answer(REDIS_REPLY_NIL, NULL);
    }
}

static void test_breaker_of_scripts(void **state)
{
    told_t told = {0};
    int i;

    (void)state;

    for (i = 0; i < 10; i++) {
        assert_non_null(eval(&told));
        answer(REDIS_REPLY_ERROR, "NOSCRIPT x");
    }

    for (i = 0; i < 5; i++) {
        assert_non_null(eval(&told));
        answer(REDIS_REPLY_ERROR, "OOM x");
    }

    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_OPEN_SCRIPTS], 1);
    assert_null(eval(&told));
    assert_non_null(get(&told));
    answer(REDIS_REPLY_NIL, NULL);

    /* a probe that gets no answer is no answer about writing */
    pass(900);
    assert_non_null(eval(&told));
    assert_null(eval(&told));
    pass(100);
    answer(REDIS_REPLY_INTEGER, NULL);
    assert_non_null(eval(&told));
    assert_null(eval(&told));
    answer(REDIS_REPLY_ERROR, "NOPERM x");
    assert_false(redis.breaker.open);
    assert_null(eval(&told));
    pass(900);
    assert_non_null(eval(&told));
    answer(REDIS_REPLY_INTEGER, NULL);
    assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_OPEN_SCRIPTS], 0);

    /* where the other breaker is open, this one's probe is not used up */
    for (i = 0; i < 5; i++) {
        assert_non_null(eval(&told));
        answer(REDIS_REPLY_ERROR, "LOADING x");
    }

    assert_true(redis.breaker.open && redis.writes.open);
    pass(900);
    assert_non_null(get(&told));
    assert_null(eval(&told));
    assert_null(eval(&told));
    answer(REDIS_REPLY_NIL, NULL);
    assert_non_null(eval(&told));
    answer(REDIS_REPLY_INTEGER, NULL);
    assert_false(redis.breaker.open || redis.writes.open);
}

/* Any order of what callers, Redis and time may do. */
static void test_random(void **state)
{
    static told_t told[20000];
    static ngx_http_hotpath_redis_call_t *calls[20000];
    static const int types[] = {REDIS_REPLY_NIL, REDIS_REPLY_INTEGER,
                                REDIS_REPLY_STRING, REDIS_REPLY_ERROR};
    static const char *texts[] = {"LOADING x", "OOM x", "NOSCRIPT x", "ERR x"};
    size_t n = 0, i, wanted, k;
    unsigned char cancelled[COUNT_OF(told)] = {0};

    (void)state;
    srandom(7);
    memset(told, 0, sizeof(told));

    while (n < COUNT_OF(told)) {
        switch (random() % 12) {
        case 0:
        case 1:
        case 2:
            calls[n] = get(&told[n]);
            n++;
            break;
        case 3:
        case 4:
            calls[n] = eval(&told[n]);
            n++;
            break;
        case 5:
            calls[n] = command(&told[n], 3, "word");
            n++;
            break;
        case 6:
        case 7:
        case 8:
            if (first < last) {
                k = (size_t)random() % 4;
                answer(types[k], texts[random() % 4]);
            }

            break;
        case 9:
            pass((ngx_msec_t)(random() % 60));
            break;
        case 10:
            k = n ? n - 1 : 0;

            if (n && calls[k] && told[k].calls == 0) {
                ngx_http_hotpath_redis_cancel(calls[k]);
                cancelled[k] = 1;
            }

            break;
        default:
            if (random() % 50 == 0) {
                lose_all();
            }

            if (!redis.ready) {
                redis.ready = 1;
                redis.ac = &context;
                redis.link++;
            }
        }

        assert_int_equal(redis.pending, last - first);
        assert_int_equal(row[NGX_HTTP_HOTPATH_REDIS_WAITING], last - first);
        assert_true(redis.pending <= PENDING);

        if (last > COUNT_OF(sent) / 2) {
            memmove(sent, sent + first, (last - first) * sizeof(sent_t));
            last -= first;
            first = 0;
        }
    }

    lose_all();
    pass(1000);
    wanted = 0;

    for (i = 0; i < n; i++) {
        assert_int_equal(told[i].calls, calls[i] != NULL && !cancelled[i]);
        wanted += told[i].calls;
    }

    assert_true(wanted > n / 20);
    assert_true(pool.n <= PENDING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_replies),
        TEST(test_bounds),
        TEST(test_scripts),
        TEST(test_set_document),
        TEST(test_deadline),
        TEST(test_silence),
        TEST(test_cancel),
        TEST(test_handler_that_asks),
        TEST(test_breaker),
        TEST(test_breaker_of_errors),
        TEST(test_breaker_of_scripts),
        TEST(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
