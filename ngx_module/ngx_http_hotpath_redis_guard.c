/*
 * ngx_http_hotpath_redis_guard.c: what a peer may make hiredis build.
 *
 * hiredis asserts that every reply has a command, so a peer that talks out of
 * turn would end the worker; and it takes arrays of any size and any number of
 * strings, apart of what is read and not parsed yet. The functions here stand
 * in front of its own constructors: a reply nobody asked for, one of a kind
 * that RESP 2 has not, and one of too many or too large parts is a protocol
 * error, which ends that connection only. An error nobody asked for ("max
 * number of clients reached") hiredis knows how to take.
 *
 * Runs in workers, inside hiredis' reader; owns nothing. Nothing here may log,
 * call back or free: hiredis is in the middle of a reply. Both generations of
 * its interface: 0.14, and 1.0 on. Tests: tests/fuzz/fuzz_redis.c, and
 * tests/faults/test_redis_faults.py with a whole nginx.
 */
#include "ngx_http_hotpath_redis_guard.h"


static void *ngx_http_hotpath_redis_guard_refuse(const redisReadTask *task);
static ngx_uint_t ngx_http_hotpath_redis_guard_pass(const redisReadTask *task,
    size_t parts, size_t bytes);


static redisReplyObjectFunctions  *ngx_http_hotpath_redis_library;
static redisReplyObjectFunctions   ngx_http_hotpath_redis_guarded;


static void *
ngx_http_hotpath_redis_guard_refuse(const redisReadTask *task)
{
    ngx_http_hotpath_redis_guard_t  *guard = task->privdata;

    guard->refused = 1;

    return NULL;
}


static ngx_uint_t
ngx_http_hotpath_redis_guard_pass(const redisReadTask *task, size_t parts,
    size_t bytes)
{
    ngx_http_hotpath_redis_guard_t  *guard = task->privdata;

    if (task->parent == NULL) {

        if (guard->ac->replies.head == NULL && task->type != REDIS_REPLY_ERROR)
        {
            return 0;
        }

        guard->parts = 0;
        guard->bytes = 0;
    }

    if (parts > NGX_HTTP_HOTPATH_REDIS_PARTS_MAX - guard->parts
        || bytes > NGX_HTTP_HOTPATH_REDIS_REPLY_MAX - guard->bytes)
    {
        return 0;
    }

    guard->parts += parts;
    guard->bytes += bytes;

    return 1;
}


static void *
ngx_http_hotpath_redis_guard_string(const redisReadTask *task, char *text,
    size_t len)
{
    /* RESP 3 has two more kinds of strings. */

    if ((task->type != REDIS_REPLY_STRING
         && task->type != REDIS_REPLY_STATUS
         && task->type != REDIS_REPLY_ERROR)
        || !ngx_http_hotpath_redis_guard_pass(task, 0, len))
    {
        return ngx_http_hotpath_redis_guard_refuse(task);
    }

    return ngx_http_hotpath_redis_library->createString(task, text, len);
}


static void *
ngx_http_hotpath_redis_guard_integer(const redisReadTask *task, long long n)
{
    if (!ngx_http_hotpath_redis_guard_pass(task, 0, 0)) {
        return ngx_http_hotpath_redis_guard_refuse(task);
    }

    return ngx_http_hotpath_redis_library->createInteger(task, n);
}


static void *
ngx_http_hotpath_redis_guard_nil(const redisReadTask *task)
{
    if (!ngx_http_hotpath_redis_guard_pass(task, 0, 0)) {
        return ngx_http_hotpath_redis_guard_refuse(task);
    }

    return ngx_http_hotpath_redis_library->createNil(task);
}


#if (HIREDIS_MAJOR >= 1)

static void *
ngx_http_hotpath_redis_guard_array(const redisReadTask *task, size_t n)
{
    if (task->type != REDIS_REPLY_ARRAY
        || !ngx_http_hotpath_redis_guard_pass(task, n, 0))
    {
        return ngx_http_hotpath_redis_guard_refuse(task);
    }

    return ngx_http_hotpath_redis_library->createArray(task, n);
}


static void *
ngx_http_hotpath_redis_guard_double(const redisReadTask *task, double value,
    char *text, size_t len)
{
    return ngx_http_hotpath_redis_guard_refuse(task);
}


static void *
ngx_http_hotpath_redis_guard_bool(const redisReadTask *task, int value)
{
    return ngx_http_hotpath_redis_guard_refuse(task);
}

#else

static void *
ngx_http_hotpath_redis_guard_array(const redisReadTask *task, int n)
{
    if (n < 0 || !ngx_http_hotpath_redis_guard_pass(task, (size_t) n, 0)) {
        return ngx_http_hotpath_redis_guard_refuse(task);
    }

    return ngx_http_hotpath_redis_library->createArray(task, n);
}

#endif


void
ngx_http_hotpath_redis_guard_set(ngx_http_hotpath_redis_guard_t *guard,
    redisAsyncContext *ac)
{
    redisReader  *reader = ac->c.reader;

    if (ngx_http_hotpath_redis_library == NULL) {
        ngx_http_hotpath_redis_library = reader->fn;

        ngx_http_hotpath_redis_guarded = *reader->fn;
        ngx_http_hotpath_redis_guarded.createString =
            ngx_http_hotpath_redis_guard_string;
        ngx_http_hotpath_redis_guarded.createArray =
            ngx_http_hotpath_redis_guard_array;
        ngx_http_hotpath_redis_guarded.createInteger =
            ngx_http_hotpath_redis_guard_integer;
        ngx_http_hotpath_redis_guarded.createNil =
            ngx_http_hotpath_redis_guard_nil;
#if (HIREDIS_MAJOR >= 1)
        ngx_http_hotpath_redis_guarded.createDouble =
            ngx_http_hotpath_redis_guard_double;
        ngx_http_hotpath_redis_guarded.createBool =
            ngx_http_hotpath_redis_guard_bool;
#endif
    }

    ngx_memzero(guard, sizeof(ngx_http_hotpath_redis_guard_t));

    guard->ac = ac;

    reader->fn = &ngx_http_hotpath_redis_guarded;
    reader->privdata = guard;
}


ngx_uint_t
ngx_http_hotpath_redis_guard_full(redisAsyncContext *ac)
{
    return ac->c.reader->len > NGX_HTTP_HOTPATH_REDIS_UNREAD_MAX;
}
