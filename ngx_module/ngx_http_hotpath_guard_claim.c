/*
 * ngx_http_hotpath_guard_claim.c: what became of a key, and who may find out.
 *
 * A key is claimed in the instance first, in a table of operations of its own
 * (ngx_http_hotpath_idempotency.c), then, where there is one, in Redis, so that
 * of all instances one request goes to the upstream. While it is there both
 * claims are renewed; whoever holds them and dies leaves them to their
 * deadline. What became of it is written in the same order: the answer into a
 * cache zone, that there is one into the table, both into Redis. The table is
 * what counts: an answer that the zone has lost is looked for in Redis, and
 * where it is not there either, the request is refused and not carried out
 * again. In Redis only whoever has the claim changes it (by its token); where
 * the claim is gone, what became of it is written all the same.
 *
 * With Redis away a claim is this instance's alone, and that is counted, or
 * nothing passes (redis=strict). Another instance's claim is waited for by
 * looking at it again, by one request of each key, ever more rarely.
 *
 * Owns the timers and the call of a context. Runs in the event loop of every
 * worker with no lock held. Never in here: a second request for a key while the
 * first one's claim is renewed.
 *
 * Reference: README.md, "hotpath_idempotency", schemas/framing.md; tests:
 * tests/integration/test_guard.py, tests/faults/test_guard_faults.py.
 */


#include "ngx_http_hotpath_guarded.h"
#include "core/hp_id.h"

#include <openssl/rand.h>


/* Between two looks at another instance's claim: first, and at most. */
#define NGX_HTTP_HOTPATH_GUARD_PAUSE_MS      50
#define NGX_HTTP_HOTPATH_GUARD_PAUSE_MAX_MS  1000

/* How often Redis is asked before it counts as away: a worker that has just
 * begun is connected a moment later. */
#define NGX_HTTP_HOTPATH_GUARD_TRIES         3

/* Until a table whose lock was busy is told once more, and how often where
 * nobody can wait. */
#define NGX_HTTP_HOTPATH_GUARD_BUSY_MS       1
#define NGX_HTTP_HOTPATH_GUARD_BUSY_TRIES    8


static void ngx_http_hotpath_guard_known(ngx_http_hotpath_guarded_t *ctx,
    ngx_http_hotpath_op_t *op);
static void ngx_http_hotpath_guard_fetched(void *data, ngx_int_t rc,
    ngx_str_t *value);
static void ngx_http_hotpath_guard_ask(ngx_http_hotpath_guarded_t *ctx);
static void ngx_http_hotpath_guard_asked(void *data, redisReply *reply);
static void ngx_http_hotpath_guard_told(ngx_http_hotpath_guarded_t *ctx,
    hp_str_t record);
static void ngx_http_hotpath_guard_elsewhere(ngx_http_hotpath_guarded_t *ctx);
static void ngx_http_hotpath_guard_away(ngx_http_hotpath_guarded_t *ctx);
static ngx_int_t ngx_http_hotpath_guard_adopt(ngx_http_hotpath_guarded_t *ctx,
    hp_replay_t *replay);
static void ngx_http_hotpath_guard_problem(ngx_http_hotpath_guarded_t *ctx,
    ngx_http_hotpath_problem_e problem);
static void ngx_http_hotpath_guard_hold(ngx_http_hotpath_guarded_t *ctx);
static void ngx_http_hotpath_guard_renew(ngx_event_t *ev);
static void ngx_http_hotpath_guard_again(ngx_event_t *ev);
static ngx_int_t ngx_http_hotpath_guard_write(ngx_http_hotpath_guarded_t *ctx,
    hp_replay_kind_t kind);
static uint64_t ngx_http_hotpath_guard_keep(ngx_http_hotpath_guarded_t *ctx,
    int64_t answered_us);
static void ngx_http_hotpath_guard_publish(ngx_http_hotpath_guarded_t *ctx,
    hp_replay_kind_t kind, ngx_uint_t hold);
static void ngx_http_hotpath_guard_published(void *data, redisReply *reply);
static ngx_http_hotpath_redis_call_t *ngx_http_hotpath_guard_eval(
    ngx_http_hotpath_guarded_t *ctx, ngx_http_hotpath_redis_script_t *script,
    ngx_str_t *record, ngx_msec_t ms,
    ngx_http_hotpath_redis_reply_pt handler);
static void ngx_http_hotpath_guard_zone_key(ngx_http_hotpath_guarded_t *ctx,
    u_char *buffer, ngx_str_t *key);


/* KEYS[1] the key; ARGV[1] the claim, ARGV[2] ms, ARGV[3] what became of it */

static ngx_http_hotpath_redis_script_t  ngx_http_hotpath_guard_script_claim =
    ngx_http_hotpath_redis_script(
        "local v = redis.call('GET', KEYS[1]) "
        "if v then return v end "
        "redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) "
        "return false");

static ngx_http_hotpath_redis_script_t  ngx_http_hotpath_guard_script_renew =
    ngx_http_hotpath_redis_script(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then "
        "return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end "
        "return 0");

static ngx_http_hotpath_redis_script_t  ngx_http_hotpath_guard_script_release =
    ngx_http_hotpath_redis_script(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then "
        "return redis.call('DEL', KEYS[1]) end "
        "return 0");

static ngx_http_hotpath_redis_script_t  ngx_http_hotpath_guard_script_settle =
    ngx_http_hotpath_redis_script(
        "local v = redis.call('GET', KEYS[1]) "
        "if v and v ~= ARGV[1] then return 0 end "
        "redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2]) "
        "return 1");

#define NGX_HTTP_HOTPATH_GUARD_ZONE_PREFIX  "=idempotency\0"
#define NGX_HTTP_HOTPATH_GUARD_ZONE_KEY                                       \
    (sizeof(NGX_HTTP_HOTPATH_GUARD_ZONE_PREFIX) - 1 + HP_UUID_SIZE)


void
ngx_http_hotpath_guard_claim(ngx_http_hotpath_guarded_t *ctx)
{
    u_char                  token[HP_REPLAY_TOKEN_SIZE], *p;
    ngx_http_hotpath_op_t   op;

    switch (ngx_http_hotpath_idempotency_claim(ctx->conf->table, ctx->id,
                                               ctx->fingerprint,
                                               ctx->conf->claim_ms, &op))
    {
    case NGX_OK:
        break;

    case NGX_DONE:
        ngx_http_hotpath_guard_known(ctx, &op);
        return;

    case NGX_AGAIN:
        ctx->state = ngx_http_hotpath_guard_waiting;
        ctx->left_ms = op.left_ms;
        return;

    case NGX_DECLINED:
        ngx_http_hotpath_guard_problem(ctx,
                                       NGX_HTTP_HOTPATH_PROBLEM_KEY_REUSED);
        return;

    default: /* NGX_BUSY */
        ngx_http_hotpath_guard_problem(ctx,
                                    NGX_HTTP_HOTPATH_PROBLEM_KEY_TABLE_FULL);
        return;
    }

    ctx->local = 1;
    ngx_http_hotpath_guard_hold(ctx);

    if (ctx->redis == NULL) {
        ctx->state = ngx_http_hotpath_guard_claimed;
        return;
    }

    if (ctx->claim[0] == 0) {

        if (RAND_bytes(token, sizeof(token)) != 1) {
            ngx_http_hotpath_guard_problem(ctx,
                                           NGX_HTTP_HOTPATH_PROBLEM_NO_MEMORY);
            return;
        }

        hp_replay_claim(ctx->claim, ctx->fingerprint, token);

        p = ngx_cpymem(ctx->redis_key, NGX_HTTP_HOTPATH_GUARD_PREFIX,
                       sizeof(NGX_HTTP_HOTPATH_GUARD_PREFIX) - 1);
        hp_uuid_format((char *) p, ctx->id);
    }

    ctx->pause_ms = NGX_HTTP_HOTPATH_GUARD_PAUSE_MS;
    ctx->until_ms = ngx_current_msec + ctx->wait_ms;
    ctx->tries = 0;

    ngx_http_hotpath_guard_ask(ctx);
}


/* The instance knows what became of it. */

static void
ngx_http_hotpath_guard_known(ngx_http_hotpath_guarded_t *ctx,
    ngx_http_hotpath_op_t *op)
{
    u_char                    buffer[NGX_HTTP_HOTPATH_GUARD_ZONE_KEY], *p;
    ngx_str_t                 key;
    ngx_http_hotpath_copy_t   copy;

    ctx->status = op->number > HP_STREAMS_MAX ? op->number : 0;

    if (op->sequence == NGX_HTTP_HOTPATH_GUARD_UNKNOWN) {
        ngx_http_hotpath_guard_problem(ctx,
                                     NGX_HTTP_HOTPATH_PROBLEM_ANSWER_UNKNOWN);
        return;
    }

    if (op->sequence != NGX_HTTP_HOTPATH_GUARD_NOT_KEPT) {

        ngx_http_hotpath_guard_zone_key(ctx, buffer, &key);

        if (ngx_http_hotpath_cache_get(ctx->conf->answers, &key,
                                       HP_CODING_IDENTITY, ctx->request->pool,
                                       NULL, &copy)
            == NGX_OK
            && copy.meta.version == op->sequence)
        {
            ctx->head = copy.head;
            ctx->body = copy.body;
            ctx->state = ngx_http_hotpath_guard_replaying;
            return;
        }

        if (ctx->redis) {
            p = ngx_cpymem(ctx->redis_key, NGX_HTTP_HOTPATH_GUARD_PREFIX,
                           sizeof(NGX_HTTP_HOTPATH_GUARD_PREFIX) - 1);
            hp_uuid_format((char *) p, ctx->id);

            key.data = ctx->redis_key;
            key.len = sizeof(ctx->redis_key);

            ctx->call = ngx_http_hotpath_redis_get(ctx->redis, &key,
                                              ngx_http_hotpath_guard_fetched,
                                              ctx);
            if (ctx->call) {
                ctx->state = ngx_http_hotpath_guard_asking;
                return;
            }
        }
    }

    ngx_http_hotpath_guard_problem(ctx,
                                   NGX_HTTP_HOTPATH_PROBLEM_ANSWER_NOT_KEPT);
}


/* An answer that the zone has lost. */

static void
ngx_http_hotpath_guard_fetched(void *data, ngx_int_t rc, ngx_str_t *value)
{
    ngx_http_hotpath_guarded_t *ctx = data;

    hp_str_t     record;
    hp_replay_t  replay;

    ctx->call = NULL;

    record.data = value->data;
    record.len = value->len;

    if (rc == NGX_OK && hp_replay_read(&replay, record) == 0
        && replay.kind == HP_REPLAY_ANSWER
        && ngx_memcmp(replay.fingerprint, ctx->fingerprint,
                      HP_FINGERPRINT_SIZE)
           == 0
        && ngx_http_hotpath_guard_adopt(ctx, &replay) == NGX_OK)
    {
        ctx->state = ngx_http_hotpath_guard_replaying;

    } else {
        ngx_http_hotpath_guard_problem(ctx,
                                    NGX_HTTP_HOTPATH_PROBLEM_ANSWER_NOT_KEPT);
    }

    ngx_http_hotpath_guard_go_on(ctx);
}


/* Claims the key in Redis, or learns what is known of it there. */

static void
ngx_http_hotpath_guard_ask(ngx_http_hotpath_guarded_t *ctx)
{
    ctx->state = ngx_http_hotpath_guard_asking;
    ctx->remote = 1;

    ctx->call = ngx_http_hotpath_guard_eval(ctx,
                                         &ngx_http_hotpath_guard_script_claim,
                                         NULL, ctx->conf->claim_ms,
                                         ngx_http_hotpath_guard_asked);
    if (ctx->call == NULL) {
        ngx_http_hotpath_guard_away(ctx);
    }
}


static void
ngx_http_hotpath_guard_asked(void *data, redisReply *reply)
{
    ngx_http_hotpath_guarded_t *ctx = data;

    hp_str_t  record;

    ctx->call = NULL;

    if (reply == NULL) {
        ngx_http_hotpath_guard_away(ctx);

    } else if (reply->type == REDIS_REPLY_NIL) {
        ctx->state = ngx_http_hotpath_guard_claimed;

    } else if (reply->type == REDIS_REPLY_STRING) {
        record.data = (u_char *) reply->str;
        record.len = reply->len;
        ngx_http_hotpath_guard_told(ctx, record);

    } else {
        ngx_http_hotpath_guard_away(ctx);
    }

    if (ctx->state != ngx_http_hotpath_guard_asking) {
        ngx_http_hotpath_guard_go_on(ctx);
    }
}


static void
ngx_http_hotpath_guard_told(ngx_http_hotpath_guarded_t *ctx, hp_str_t record)
{
    hp_replay_t  replay;

    if (record.len == HP_REPLAY_CLAIM_SIZE
        && ngx_memcmp(record.data, ctx->claim, HP_REPLAY_CLAIM_SIZE) == 0)
    {
        /* our own, of which we have not heard */
        ctx->state = ngx_http_hotpath_guard_claimed;
        return;
    }

    ctx->remote = 0;

    if (hp_replay_read(&replay, record) != 0) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "hotpath: \"%*s\" in redis is not of an idempotency key",
                      sizeof(ctx->redis_key), ctx->redis_key);
        ctx->tries = NGX_HTTP_HOTPATH_GUARD_TRIES;
        ngx_http_hotpath_guard_away(ctx);
        return;
    }

    if (ngx_memcmp(replay.fingerprint, ctx->fingerprint, HP_FINGERPRINT_SIZE)
        != 0)
    {
        ngx_http_hotpath_guard_release(ctx);
        ngx_http_hotpath_guard_problem(ctx,
                                       NGX_HTTP_HOTPATH_PROBLEM_KEY_REUSED);
        return;
    }

    if (replay.kind == HP_REPLAY_CLAIM) {
        ngx_http_hotpath_guard_elsewhere(ctx);
        return;
    }

    /* another instance has it: from here on this one knows it as well */

    ctx->status = replay.status;
    ctx->answered_us = replay.answered_us;

    if (replay.kind == HP_REPLAY_ANSWER
        && ngx_http_hotpath_guard_adopt(ctx, &replay) != NGX_OK)
    {
        ngx_http_hotpath_guard_release(ctx);
        ngx_http_hotpath_guard_problem(ctx,
                                       NGX_HTTP_HOTPATH_PROBLEM_NO_MEMORY);
        return;
    }

    if (ngx_http_hotpath_guard_write(ctx, replay.kind) == NGX_BUSY) {
        ngx_http_hotpath_guard_release(ctx);
    }

    if (replay.kind == HP_REPLAY_ANSWER) {
        ctx->state = ngx_http_hotpath_guard_replaying;

    } else {
        ngx_http_hotpath_guard_problem(ctx, replay.kind == HP_REPLAY_UNKNOWN
                                 ? NGX_HTTP_HOTPATH_PROBLEM_ANSWER_UNKNOWN
                                 : NGX_HTTP_HOTPATH_PROBLEM_ANSWER_NOT_KEPT);
    }
}


/* In flight at another instance, which cannot wake anybody here. */

static void
ngx_http_hotpath_guard_elsewhere(ngx_http_hotpath_guarded_t *ctx)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (ctx->until_ms - ngx_current_msec);

    if (left <= 0) {
        ngx_http_hotpath_guard_release(ctx);
        ngx_http_hotpath_guard_problem(ctx,
                                NGX_HTTP_HOTPATH_PROBLEM_OPERATION_IN_FLIGHT);
        return;
    }

    ctx->tries = 0;
    ngx_http_hotpath_guard_later(ctx, ngx_min(ctx->pause_ms,
                                              (ngx_msec_t) left));

    ctx->pause_ms = ngx_min(2 * ctx->pause_ms,
                            NGX_HTTP_HOTPATH_GUARD_PAUSE_MAX_MS);
}


static void
ngx_http_hotpath_guard_away(ngx_http_hotpath_guarded_t *ctx)
{
    if (++ctx->tries < NGX_HTTP_HOTPATH_GUARD_TRIES) {
        ngx_http_hotpath_guard_later(ctx, NGX_HTTP_HOTPATH_GUARD_PAUSE_MS
                                          * ctx->tries);
        return;
    }

    ngx_http_hotpath_count(GUARD_REDIS_ERRORS);

    if (!ctx->conf->strict) {
        ctx->state = ngx_http_hotpath_guard_claimed;
        return;
    }

    ngx_http_hotpath_guard_release(ctx);
    ngx_http_hotpath_guard_problem(ctx,
                                   NGX_HTTP_HOTPATH_PROBLEM_KEY_UNAVAILABLE);
}


/* Copies the answer, whose memory is Redis'. */

static ngx_int_t
ngx_http_hotpath_guard_adopt(ngx_http_hotpath_guarded_t *ctx,
    hp_replay_t *replay)
{
    u_char  *p;

    p = ngx_pnalloc(ctx->request->pool, replay->head.len + replay->body.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->head.data = p;
    ctx->head.len = replay->head.len;
    p = ngx_cpymem(p, replay->head.data, replay->head.len);

    ctx->body.data = p;
    ctx->body.len = replay->body.len;
    ngx_memcpy(p, replay->body.data, replay->body.len);

    return NGX_OK;
}


static void
ngx_http_hotpath_guard_problem(ngx_http_hotpath_guarded_t *ctx,
    ngx_http_hotpath_problem_e problem)
{
    if (ctx->local) {
        ngx_http_hotpath_guard_release(ctx);
    }

    ctx->problem = problem;
    ctx->state = ngx_http_hotpath_guard_refused;
}


/* From now on the claim is renewed. */

static void
ngx_http_hotpath_guard_hold(ngx_http_hotpath_guarded_t *ctx)
{
    ctx->renew.handler = ngx_http_hotpath_guard_renew;
    ctx->renew.data = ctx;
    ctx->renew.log = ngx_cycle->log;
    ngx_add_timer(&ctx->renew, ctx->conf->claim_ms / 3);
}


static void
ngx_http_hotpath_guard_renew(ngx_event_t *ev)
{
    ngx_http_hotpath_guarded_t *ctx = ev->data;

    if (ngx_http_hotpath_idempotency_renew(ctx->conf->table, ctx->id,
                                           ctx->conf->claim_ms)
        == NGX_DECLINED)
    {
        ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                      "hotpath: the claim of an idempotency key was lost "
                      "while its request was under way");
    }

    if (ctx->remote) {
        (void) ngx_http_hotpath_guard_eval(ctx,
                                         &ngx_http_hotpath_guard_script_renew,
                                         NULL, ctx->conf->claim_ms, NULL);
    }

    ngx_add_timer(ev, ctx->conf->claim_ms / 3);
}


void
ngx_http_hotpath_guard_later(ngx_http_hotpath_guarded_t *ctx, ngx_msec_t ms)
{
    ctx->again.handler = ngx_http_hotpath_guard_again;
    ctx->again.data = ctx;
    ctx->again.log = ngx_cycle->log;
    ngx_add_timer(&ctx->again, ms);
}


static void
ngx_http_hotpath_guard_again(ngx_event_t *ev)
{
    ngx_http_hotpath_guarded_t *ctx = ev->data;

    if (ctx->state == ngx_http_hotpath_guard_waiting) {
        ctx->state = ngx_http_hotpath_guard_looking;
        ngx_http_hotpath_guard_go_on(ctx);
        return;
    }

    if (ctx->state == ngx_http_hotpath_guard_settling) {

        if (ngx_http_hotpath_guard_settle(ctx, ctx->kind, 1) == NGX_OK) {
            ngx_http_hotpath_guard_resume(ctx);
        }

        return;
    }

    ngx_http_hotpath_guard_ask(ctx);

    if (ctx->state != ngx_http_hotpath_guard_asking) {
        ngx_http_hotpath_guard_go_on(ctx);
    }
}


ngx_int_t
ngx_http_hotpath_guard_settle(ngx_http_hotpath_guarded_t *ctx,
    hp_replay_kind_t kind, ngx_uint_t hold)
{
    ngx_int_t   rc;
    ngx_uint_t  tries;

    rc = NGX_OK;

    if (!ctx->local) {
        return NGX_OK;
    }

    if (ctx->answered_us == 0) {
        ctx->answered_us = ngx_http_hotpath_wall_us();
    }

    ctx->kind = kind;

    for (tries = 0; tries < NGX_HTTP_HOTPATH_GUARD_BUSY_TRIES; tries++) {
        rc = ngx_http_hotpath_guard_write(ctx, kind);

        if (rc != NGX_BUSY) {
            break;
        }

        if (hold) {
            ctx->state = ngx_http_hotpath_guard_settling;
            ngx_http_hotpath_guard_later(ctx, NGX_HTTP_HOTPATH_GUARD_BUSY_MS);
            return NGX_AGAIN;
        }
    }

    if (rc == NGX_DECLINED) {
        ngx_http_hotpath_count(GUARD_DIVERGED);
    }

    switch (kind) {

    case HP_REPLAY_ANSWER:
        ngx_http_hotpath_count(GUARD_ANSWER_KEPT);
        break;

    case HP_REPLAY_UNKNOWN:
        ngx_http_hotpath_count(GUARD_ANSWER_LOST);
        break;

    default:
        ngx_http_hotpath_count(GUARD_ANSWER_NOT_KEPT);
        break;
    }

    if (ctx->redis) {
        ngx_http_hotpath_guard_publish(ctx, kind, hold);
    }

    if (ctx->call) {
        ctx->state = ngx_http_hotpath_guard_settling;
        return NGX_AGAIN;
    }

    return NGX_OK;
}


/* In the instance. NGX_BUSY: not done this time; the claim is still held.
 * NGX_DECLINED: somebody else has done that, after this claim was over. */

static ngx_int_t
ngx_http_hotpath_guard_write(ngx_http_hotpath_guarded_t *ctx,
    hp_replay_kind_t kind)
{
    uint64_t   version;
    ngx_int_t  rc;

    version = kind == HP_REPLAY_UNKNOWN ? NGX_HTTP_HOTPATH_GUARD_UNKNOWN
              : kind == HP_REPLAY_ANSWER
                ? ngx_http_hotpath_guard_keep(ctx, ctx->answered_us)
                : NGX_HTTP_HOTPATH_GUARD_NOT_KEPT;

    rc = ngx_http_hotpath_idempotency_accept(ctx->conf->table, ctx->id,
                                             ctx->fingerprint,
                                             ctx->answered_us,
                                             ngx_max(ctx->status,
                                                     HP_STREAMS_MAX),
                                             0, version);
    if (rc == NGX_BUSY) {
        return NGX_BUSY;
    }

    ctx->local = 0;

    if (ctx->renew.timer_set) {
        ngx_del_timer(&ctx->renew);
    }

    ngx_http_hotpath_wait_wake(ctx->id);

    return rc;
}


/* Into the zone; gives the version under which it is there. */

static uint64_t
ngx_http_hotpath_guard_keep(ngx_http_hotpath_guarded_t *ctx,
    int64_t answered_us)
{
    u_char                             buffer[NGX_HTTP_HOTPATH_GUARD_ZONE_KEY];
    ngx_str_t                          key;
    ngx_http_hotpath_cache_meta_t      meta;
    ngx_http_hotpath_cache_content_t   content;

    ngx_http_hotpath_guard_zone_key(ctx, buffer, &key);

    ngx_memzero(&meta, sizeof(ngx_http_hotpath_cache_meta_t));
    ngx_memzero(&content, sizeof(ngx_http_hotpath_cache_content_t));

    meta.version = (uint64_t) answered_us;
    meta.modified_us = answered_us;
    meta.stored_ms = ngx_http_hotpath_now_ms();
    meta.fresh_ms = meta.stored_ms
                    + (uint64_t) 1000
                      * ngx_http_hotpath_idempotency_window(ctx->conf->table);
    meta.revalidate_ms = meta.fresh_ms;
    meta.stale_ms = meta.fresh_ms;

    content.head = ctx->head;
    content.body = ctx->body;

    if (content.body.data == NULL) {
        content.body.data = (u_char *) "";
    }

    return ngx_http_hotpath_cache_put(ctx->conf->answers, &key, &meta,
                                      &content)
           == NGX_OK ? meta.version : NGX_HTTP_HOTPATH_GUARD_NOT_KEPT;
}


/* In Redis; hold: ctx->call is set where that will be heard of. */

static void
ngx_http_hotpath_guard_publish(ngx_http_hotpath_guarded_t *ctx,
    hp_replay_kind_t kind, ngx_uint_t hold)
{
    u_char                         *p;
    ngx_str_t                       record;
    hp_replay_t                     replay;
    ngx_http_hotpath_redis_call_t  *call;

    ngx_memzero(&replay, sizeof(hp_replay_t));

    replay.kind = kind;
    replay.fingerprint = ctx->fingerprint;
    replay.answered_us = ctx->answered_us;
    replay.status = (unsigned) ctx->status;

    if (kind == HP_REPLAY_ANSWER) {
        replay.head.data = ctx->head.data;
        replay.head.len = ctx->head.len;
        replay.body.data = ctx->body.data;
        replay.body.len = ctx->body.len;
    }

    p = ngx_alloc(HP_REPLAY_FIXED + replay.head.len + replay.body.len,
                  ngx_cycle->log);
    call = NULL;

    if (p) {
        record.data = p;
        record.len = hp_replay_write(p, &replay) - p;

        call = ngx_http_hotpath_guard_eval(ctx,
                               &ngx_http_hotpath_guard_script_settle, &record,
                               (ngx_msec_t) 1000
                               * ngx_http_hotpath_idempotency_window(
                                                            ctx->conf->table),
                               hold ? ngx_http_hotpath_guard_published : NULL);
        ngx_free(p);
    }

    ctx->remote = 0;

    if (call == NULL) {
        ngx_http_hotpath_count(GUARD_REDIS_ERRORS);

    } else if (hold) {
        ctx->call = call;
    }
}


static void
ngx_http_hotpath_guard_published(void *data, redisReply *reply)
{
    ngx_http_hotpath_guarded_t *ctx = data;

    ctx->call = NULL;

    if (reply == NULL || reply->type != REDIS_REPLY_INTEGER) {
        ngx_http_hotpath_count(GUARD_REDIS_ERRORS);

    } else if (reply->integer == 0) {
        ngx_http_hotpath_count(GUARD_DIVERGED);
        ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                      "hotpath: another instance has passed on a request with "
                      "the same idempotency key");
    }

    ngx_http_hotpath_guard_resume(ctx);
}


void
ngx_http_hotpath_guard_release(ngx_http_hotpath_guarded_t *ctx)
{
    if (ctx->local) {
        ctx->local = 0;
        ngx_http_hotpath_idempotency_release(ctx->conf->table, ctx->id);
        ngx_http_hotpath_wait_wake(ctx->id);
    }

    if (ctx->remote) {
        ctx->remote = 0;
        (void) ngx_http_hotpath_guard_eval(ctx,
                                       &ngx_http_hotpath_guard_script_release,
                                       NULL, 0, NULL);
    }

    ngx_http_hotpath_guard_detach(ctx);
}


void
ngx_http_hotpath_guard_detach(ngx_http_hotpath_guarded_t *ctx)
{
    if (ctx->call) {
        ngx_http_hotpath_redis_cancel(ctx->call);
        ctx->call = NULL;
    }

    if (ctx->again.timer_set) {
        ngx_del_timer(&ctx->again);
    }

    if (ctx->local && ctx->state == ngx_http_hotpath_guard_settling) {
        /* the table's lock was busy: now or never */
        (void) ngx_http_hotpath_guard_settle(ctx, ctx->kind, 0);
    }

    if (ctx->renew.timer_set) {
        ngx_del_timer(&ctx->renew);
    }
}


static ngx_http_hotpath_redis_call_t *
ngx_http_hotpath_guard_eval(ngx_http_hotpath_guarded_t *ctx,
    ngx_http_hotpath_redis_script_t *script, ngx_str_t *record, ngx_msec_t ms,
    ngx_http_hotpath_redis_reply_pt handler)
{
    u_char     number[NGX_INT64_LEN];
    ngx_str_t  key, args[3];

    key.data = ctx->redis_key;
    key.len = sizeof(ctx->redis_key);

    args[0].data = ctx->claim;
    args[0].len = HP_REPLAY_CLAIM_SIZE;
    args[1].data = number;
    args[1].len = ngx_sprintf(number, "%M", ms) - number;

    if (record) {
        args[2] = *record;
    }

    return ngx_http_hotpath_redis_eval(ctx->redis, script, &key, 1, args,
                                       record ? 3 : 2, handler, ctx);
}


/* No model and no scope of the output cache begins like this. */

static void
ngx_http_hotpath_guard_zone_key(ngx_http_hotpath_guarded_t *ctx,
    u_char *buffer, ngx_str_t *key)
{
    u_char  *p;

    key->data = buffer;
    p = ngx_cpymem(buffer, NGX_HTTP_HOTPATH_GUARD_ZONE_PREFIX,
                   sizeof(NGX_HTTP_HOTPATH_GUARD_ZONE_PREFIX) - 1);
    p = ngx_cpymem(p, ctx->id, HP_UUID_SIZE);
    key->len = p - buffer;
}
