/*
 * cache.c: documents go to Redis, never over a newer version.
 *
 * A script compares the version in the stored value (bytes 4 to 19, text that
 * sorts) with the new one and sets the key only where the new one is greater;
 * it is called by its hash, a pipeline of a hundred calls at a time. The value
 * is one document record of framing.md without its length.
 *
 * hiredis' synchronous calls with a short timeout, on the lane's thread. A
 * Redis that does not answer costs one timeout; the lane then goes on without
 * it and comes back later with everything that Redis missed.
 *
 * Must never hold up the projection for longer than that timeout.
 */
#include "project.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define HPW_CACHE_PIPELINE 100

static const char hpw_cache_script[] =
    "if redis.call('GETRANGE', KEYS[1], 4, 19) < ARGV[1] then"
    " redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) return 1 end"
    " return 0";

void hpw_cache_close(hpw_cache_t *cache)
{
    if (cache->context)
        redisFree(cache->context);
    cache->context = NULL;
    cache->script[0] = 0;
}

static int hpw_cache_fail(hpw_lane_t *lane, const char *text)
{
    if (lane->cache.context && lane->cache.context->err == REDIS_ERR_IO &&
        errno == EAGAIN)
        text = "no answer in time"; /* instead of errno's words */
    hpw_log(HPW_LOG_WARN, "redis failed", hpw_s("model", lane->model->name),
            hpw_i("partition", lane->partition), hpw_s("error", text));
    hpw_cache_close(&lane->cache);
    return -1;
}

/* Checks and frees a reply. 0 where it is none of an error. */
static int hpw_cache_reply(hpw_lane_t *lane, redisReply *reply)
{
    redisContext *context = lane->cache.context;
    char text[256];

    if (reply == NULL)
        return hpw_cache_fail(lane,
                              context->err ? context->errstr : "no answer");
    if (reply->type == REDIS_REPLY_ERROR) {
        snprintf(text, sizeof(text), "%s", reply->str);
        freeReplyObject(reply);
        return hpw_cache_fail(lane, text);
    }
    freeReplyObject(reply);
    return 0;
}

static int hpw_cache_load(hpw_lane_t *lane)
{
    hpw_cache_t *cache = &lane->cache;
    redisReply *reply =
        redisCommand(cache->context, "SCRIPT LOAD %s", hpw_cache_script);

    if (reply && reply->type == REDIS_REPLY_STRING &&
        reply->len < (int)sizeof(cache->script))
        snprintf(cache->script, sizeof(cache->script), "%s", reply->str);
    return hpw_cache_reply(lane, reply);
}

/* Connects to host:port, [host]:port or the path of a socket; leaves the host
 * in host. */
static redisContext *hpw_cache_connect(const char *address, char *host,
                                       size_t size, struct timeval timeout)
{
    const char *colon = strrchr(address, ':'), *first = address;
    size_t len;

    host[0] = 0;
    if (address[0] == '/')
        return redisConnectUnixWithTimeout(address, timeout);
    len = colon ? (size_t)(colon - address) : strlen(address);
    if (len > 2 && address[0] == '[' && address[len - 1] == ']') {
        first++;
        len -= 2;
    }
    snprintf(host, size, "%.*s", (int)len, first);
    return redisConnectWithTimeout(host, colon ? atoi(colon + 1) : 6379,
                                   timeout);
}

static int hpw_cache_open(hpw_lane_t *lane)
{
    const hpw_project_settings_t *settings = lane->settings;
    hpw_cache_t *cache = &lane->cache;
    struct timeval timeout = {settings->redis_timeout_ms / 1000,
                              settings->redis_timeout_ms % 1000 * 1000};
    char host[256];
    redisContext *context =
        hpw_cache_connect(settings->redis, host, sizeof(host), timeout);

    if (context == NULL)
        return hpw_cache_fail(lane, "out of memory");
    cache->context = context;
    if (context->err)
        return hpw_cache_fail(lane, context->errstr);
    if (redisSetTimeout(context, timeout) != REDIS_OK)
        return hpw_cache_fail(lane, "cannot set a timeout");
    if (cache->tls &&
        hpw_tls_begin(cache->tls,
                      *settings->redis_tls_name ? settings->redis_tls_name
                                                : host,
                      context) != 0)
        return hpw_cache_fail(lane, context->err ? context->errstr : "no TLS");
    if (*settings->redis_password &&
        hpw_cache_reply(
            lane,
            *settings->redis_user
                ? redisCommand(context, "AUTH %s %s", settings->redis_user,
                               settings->redis_password)
                : redisCommand(context, "AUTH %s", settings->redis_password)) !=
            0)
        return -1;
    if (settings->redis_db &&
        hpw_cache_reply(lane, redisCommand(context, "SELECT %d",
                                           (int)settings->redis_db)) != 0)
        return -1;
    return hpw_cache_load(lane);
}

/* Queues the call for one document. */
static void hpw_cache_append(hpw_lane_t *lane, const hp_doc_t *doc)
{
    hpw_buf_t *buf = &lane->cache.values;
    char ttl[24];
    const char *argv[7] = {"EVALSHA", lane->cache.script, "1"};
    size_t lens[7] = {7, 40, 1}, key;
    unsigned char *record;

    buf->len = 0;
    hpw_buf_printf(buf, "hotpath:doc:%s:%.*s:", lane->model->name,
                   (int)doc->tenant.len, (const char *)doc->tenant.data);
    hpw_buf_add(buf, doc->key.data, doc->key.len);
    key = buf->len;
    record = hpw_buf_extend(buf, hp_doc_size(doc));
    hp_doc_write(record, doc);

    argv[3] = (const char *)buf->data;
    lens[3] = key;
    argv[4] = (const char *)record + 8; /* after length, magic, flags */
    lens[4] = 16;
    argv[5] = (const char *)record + 4;
    lens[5] = hp_doc_size(doc) - 4;
    argv[6] = ttl;
    lens[6] = (size_t)snprintf(ttl, sizeof(ttl), "%lld",
                               (long long)lane->settings->redis_ttl_s);
    redisAppendCommandArgv(lane->cache.context, 7, argv, lens);
}

/* Takes the answers of a pipeline. 0; 1 where the script has to be loaded
 * again; -1. */
static int hpw_cache_answers(hpw_lane_t *lane, int count)
{
    void *reply = NULL;
    redisReply *answer;
    int unknown = 0;

    while (count--) {
        if (redisGetReply(lane->cache.context, &reply) != REDIS_OK)
            return hpw_cache_fail(lane, lane->cache.context->errstr);
        answer = reply;
        if (answer->type == REDIS_REPLY_ERROR &&
            strncmp(answer->str, "NOSCRIPT", 8) == 0) {
            unknown = 1;
            freeReplyObject(answer);
            continue;
        }
        if (answer->type == REDIS_REPLY_INTEGER)
            lane->counters.cached += (uint64_t)answer->integer;
        if (hpw_cache_reply(lane, answer) != 0)
            return -1;
    }
    return unknown;
}

int hpw_cache_store(hpw_lane_t *lane, const hpw_documents_t *documents)
{
    int i, first, sent, rc, loaded = 0, count = PQntuples(documents->rows);
    hp_doc_t doc;

    if (*lane->settings->redis == 0 || count == 0)
        return 0;
    if (lane->cache.context == NULL && hpw_cache_open(lane) != 0)
        return -1;

    for (first = 0; first < count; first = i) {
        sent = 0;
        for (i = first; i < count && sent < HPW_CACHE_PIPELINE; i++) {
            if (hpw_document_row(documents, i, &doc) == 0) {
                hpw_cache_append(lane, &doc);
                sent++;
            }
        }
        rc = hpw_cache_answers(lane, sent);
        if (rc < 0)
            return -1;
        if (rc > 0) {
            if (loaded++ > 0)
                return hpw_cache_fail(lane, "the script does not stay loaded");
            if (hpw_cache_load(lane) != 0)
                return -1;
            i = first; /* setting twice what was set is harmless */
        }
    }
    return 0;
}
