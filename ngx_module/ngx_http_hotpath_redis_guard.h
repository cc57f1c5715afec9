/*
 * ngx_http_hotpath_redis_guard.h: what a peer may make hiredis build.
 *
 * Stands between hiredis' reader and its constructors of replies, for one
 * connection; worker-local, no lock. Knows nginx's types and hiredis only, so
 * that tests/fuzz/fuzz_redis.c can feed it without an nginx.
 */
#ifndef _NGX_HTTP_HOTPATH_REDIS_GUARD_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_REDIS_GUARD_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <hiredis/hiredis.h>
#include <hiredis/async.h>


/* Of one reply: elements of all its arrays, bytes of all its strings. */
#define NGX_HTTP_HOTPATH_REDIS_PARTS_MAX   16384
#define NGX_HTTP_HOTPATH_REDIS_REPLY_MAX   (32 * 1024 * 1024)

/* What was read and is not part of a reply yet: mostly a bulk string, and the
 * longest is a document record, which is little more than 1 MiB. */
#define NGX_HTTP_HOTPATH_REDIS_UNREAD_MAX  (4 * 1024 * 1024)


typedef struct {
    redisAsyncContext  *ac;
    ngx_uint_t          parts;     /* of the reply that is being read */
    size_t              bytes;
    unsigned            refused:1; /* what came is not for us, or too much */
} ngx_http_hotpath_redis_guard_t;


/* From here on the context's reader refuses what the guard does; the guard
 * outlives the context. */
void ngx_http_hotpath_redis_guard_set(ngx_http_hotpath_redis_guard_t *guard,
    redisAsyncContext *ac);

/* 1 where more was read than may stand unparsed; after every read. */
ngx_uint_t ngx_http_hotpath_redis_guard_full(redisAsyncContext *ac);


#endif /* _NGX_HTTP_HOTPATH_REDIS_GUARD_H_INCLUDED_ */
