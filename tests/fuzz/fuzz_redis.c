/*
 * fuzz_redis.c: libFuzzer target of ngx_http_hotpath_redis_guard.c.
 *
 * The input is what a peer sends: its first byte says how many commands wait
 * for a reply, the second in how large pieces the rest arrives. It goes through
 * hiredis' own reader with the guard in front of its constructors. Whatever
 * comes, no more replies are built than commands wait but for an error, none
 * has a type that RESP 2 has not, and none more parts or bytes than the guard
 * allows; a reader that was refused stays so. That a great array is never
 * allocated, libFuzzer's bound on one allocation sees.
 *
 * hiredis is the machine's library, whichever of its generations that is, and
 * not instrumented. A wrong answer aborts. Seeds: seeds.py. Run by make -C
 * tests/fuzz.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../ngx_module/ngx_http_hotpath_redis_guard.c"

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t parts, bytes;

static void walk(const redisReply *reply)
{
    size_t i;

    MUST(reply != NULL);

    switch (reply->type) {

    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        MUST(reply->str[reply->len] == '\0');
        bytes += (size_t)reply->len;
        break;

    case REDIS_REPLY_INTEGER:
    case REDIS_REPLY_NIL:
        break;

    case REDIS_REPLY_ARRAY:
        parts += reply->elements;

        for (i = 0; i < reply->elements; i++) {
            walk(reply->element[i]);
        }

        break;

    default:
        MUST(!"a type of RESP 2");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_http_hotpath_redis_guard_t guard;
    redisAsyncContext ac;
    redisReader *reader;
    redisCallback waits;
    unsigned expected;
    size_t piece, n;
    void *reply;

    if (size < 2) {
        return 0;
    }

    expected = data[0] % 8;
    piece = data[1] ? data[1] : size;
    data += 2;
    size -= 2;

    memset(&ac, 0, sizeof(ac));
    memset(&waits, 0, sizeof(waits));
    reader = redisReaderCreate();
    MUST(reader != NULL);
    ac.c.reader = reader;
    ngx_http_hotpath_redis_guard_set(&guard, &ac);

    while (size > 0) {
        n = piece < size ? piece : size;
        MUST(redisReaderFeed(reader, (const char *)data, n) == REDIS_OK);
        data += n;
        size -= n;

        for (;;) {
            ac.replies.head = expected ? &waits : NULL;

            if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
                MUST(redisReaderGetReply(reader, &reply) == REDIS_ERR);
                MUST(!guard.refused || reader->err == REDIS_ERR_OOM);
                goto done;
            }

            if (reply == NULL) {
                break;
            }

            MUST(!guard.refused);
            parts = bytes = 0;
            walk(reply);
            MUST(parts <= NGX_HTTP_HOTPATH_REDIS_PARTS_MAX);
            MUST(bytes <= NGX_HTTP_HOTPATH_REDIS_REPLY_MAX);
            MUST(expected || ((redisReply *)reply)->type == REDIS_REPLY_ERROR);
            freeReplyObject(reply);

            if (expected == 0) {
                goto done; /* where hiredis disconnects */
            }

            expected--;
        }

        MUST(!ngx_http_hotpath_redis_guard_full(&ac));
    }

done:
    redisReaderFree(reader);
    return 0;
}
