/*
 * lane.c: one read model's and one partition's thread.
 *
 * connect -> lock -> start (what a dead lane committed but did not hand out is
 * handed out now) -> (apply -> Redis -> push)* and back to the start at any
 * doubt. The advisory lock is taken on the session that writes, as in the
 * drain, with the same lease. While Redis is away documents are pushed all the
 * same; once it is back it gets everything after pushed_position from the
 * model's table, so that it never serves an old version for as long as its TTL.
 *
 * Owns everything in hpw_lane_t. Must never move pushed_position past what
 * Redis has taken, nor spin: every way back waits with backoff.
 */
#include "project.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_id.h"
#include "log.h"

#define HPW_GOOD_MS 10000
#define HPW_PUSHED_MS                                                          \
    1000 /* how often pushed_position is written when idle                     \
          */
#define HPW_BATCH_BYTES (32 * 1024 * 1024)

const char *hpw_lane_state_name(int state)
{
    static const char *const names[] = {"connecting", "standby", "starting",
                                        "held", "stopped"};

    return names[state];
}

static void hpw_lane_error(const hpw_lane_t *lane, const char *message)
{
    hpw_log(HPW_LOG_WARN, message, hpw_s("model", lane->model->name),
            hpw_i("partition", lane->partition),
            hpw_s("sqlstate", lane->db.sqlstate),
            hpw_s("error", lane->db.message));
}

static int64_t hpw_lane_key(const hpw_lane_t *lane)
{
    char name[128];
    int len = snprintf(name, sizeof(name), "hotpath/project/%s/%d",
                       lane->model->name, lane->partition);

    return (int64_t)hp_hash64(name, (size_t)len, 0);
}

/* Opens the session and waits for the lock. 0 with the lock, else -1. */
static int hpw_lane_lock(hpw_lane_t *lane)
{
    const hpw_project_settings_t *settings = lane->settings;
    char error[512];
    int locked, told = 0;

    lane->counters.state = HPW_LANE_CONNECTING;
    if (hpw_db_open(&lane->db, settings->common.postgres, "hotpath-project",
                    settings->common.statement_timeout_ms,
                    (int)settings->lease_ms) != 0) {
        hpw_lane_error(lane, "postgres not usable");
        return -1;
    }
    if (hpw_model_verify(lane->model, &lane->db, error, sizeof(error)) != 0) {
        hpw_log(HPW_LOG_ERROR, "read model not usable",
                hpw_s("model", lane->model->name),
                hpw_i("partition", lane->partition), hpw_s("error", error));
        return -1;
    }
    while (!hpw_stopping()) {
        locked = hpw_db_try_lock(&lane->db, hpw_lane_key(lane));
        if (locked < 0) {
            hpw_lane_error(lane, "session lost on standby");
            return -1;
        }
        if (locked)
            return 0;
        lane->counters.state = HPW_LANE_STANDBY;
        if (!told)
            hpw_log(HPW_LOG_INFO,
                    "another projector holds the lane, standing by",
                    hpw_s("model", lane->model->name),
                    hpw_i("partition", lane->partition));
        told = 1;
        hpw_sleep_ms(hpw_jitter_ms((int)settings->lock_retry_ms));
    }
    return -1;
}

/* Reads where the projection stands. 0 or -1. */
static int hpw_lane_where(hpw_lane_t *lane)
{
    char partition[16];
    hpw_param_t params[2];
    PGresult *result;

    snprintf(partition, sizeof(partition), "%d", lane->partition);
    params[0] = hpw_param_text(lane->model->name);
    params[1] = hpw_param_text(partition);
    result = hpw_db_params(&lane->db,
                           "INSERT INTO hotpath.projections (model, partition)"
                           " VALUES ($1, $2::integer) ON CONFLICT DO NOTHING",
                           2, params);
    PQclear(result);
    if (result == NULL)
        return -1;
    result = hpw_db_params(
        &lane->db,
        "SELECT position, pushed_position FROM hotpath.projections"
        " WHERE model = $1 AND partition = $2::integer",
        2, params);
    if (result == NULL || PQntuples(result) != 1) {
        PQclear(result);
        return -1;
    }
    lane->position = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    lane->pushed = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
    lane->pushed_stored = lane->pushed;
    PQclear(result);
    return 0;
}

/* The partition's last position, or -1. 0 where it has no row yet. */
static int64_t hpw_lane_target(hpw_lane_t *lane)
{
    char partition[16];
    hpw_param_t param = hpw_param_text(partition);
    PGresult *result;
    int64_t target = 0;

    snprintf(partition, sizeof(partition), "%d", lane->partition);
    result = hpw_db_params(&lane->db,
                           "SELECT last_position FROM hotpath.partitions"
                           " WHERE partition = $1::integer",
                           1, &param);
    if (result == NULL)
        return -1;
    if (PQntuples(result))
        target = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return target;
}

static void hpw_lane_behind(hpw_lane_t *lane)
{
    lane->behind = 1;
    lane->counters.cache_behind = 1;
    lane->counters.cache_failures++;
    lane->retry_ms =
        hpw_monotonic_ms() + hpw_backoff_next_ms(&lane->cache_backoff);
}

/* Hands out again what changed in (pushed, position]: to Redis, and to the
 * nginxes too where push is set. 0, also where Redis is away; -1: session. */
static int hpw_lane_again(hpw_lane_t *lane, int push)
{
    hpw_documents_t documents;
    int64_t after = lane->pushed, reached;
    int failed = 0;

    while (after < lane->position && !hpw_stopping() && (push || !failed)) {
        if (hpw_apply_page(lane, after, lane->position, &documents, &reached) !=
            0)
            return -1;
        if (!failed && hpw_cache_store(lane, &documents) != 0)
            failed = 1;
        if (push)
            hpw_push_documents(lane, &documents);
        PQclear(documents.rows);
        after = reached;
        if (!failed)
            lane->pushed = after;
        hpw_push_heartbeat(lane);
    }
    if (failed) {
        hpw_lane_behind(lane);
    } else if (lane->behind && lane->pushed == lane->position) {
        lane->behind = 0;
        lane->counters.cache_behind = 0;
        hpw_backoff_reset(&lane->cache_backoff);
        hpw_log(HPW_LOG_INFO, "redis has caught up",
                hpw_s("model", lane->model->name),
                hpw_i("partition", lane->partition));
    }
    return 0;
}

static size_t hpw_lane_bytes(const hpw_documents_t *documents)
{
    size_t bytes = 0;
    int i;

    for (i = 0; i < PQntuples(documents->rows); i++)
        bytes += (size_t)PQgetlength(documents->rows, i, 3);
    return bytes;
}

static void hpw_lane_hand_out(hpw_lane_t *lane, hpw_documents_t *documents)
{
    lane->counters.documents += (uint64_t)PQntuples(documents->rows);
    if (!lane->behind && hpw_cache_store(lane, documents) != 0)
        hpw_lane_behind(lane);
    hpw_push_documents(lane, documents);
    if (!lane->behind)
        lane->pushed = lane->position;
}

/* One transaction's worth. 0, or -1 to begin anew. */
static int hpw_lane_step(hpw_lane_t *lane, int64_t target)
{
    int64_t upto = lane->position + lane->limit, begun_us = hpw_unix_us(), took;
    hpw_documents_t documents;
    char code[sizeof(lane->db.sqlstate)], text[sizeof(lane->db.message)];
    int rc;

    if (upto > target)
        upto = target;
    rc = hpw_apply_range(lane, upto, &documents);
    if (rc < 0)
        return -1;
    if (rc == 0) {
        memcpy(code, lane->db.sqlstate, sizeof(code));
        memcpy(text, lane->db.message, sizeof(text));
        if (hpw_db_run(&lane->db, "ROLLBACK") < 0)
            return -1;
        if (upto - lane->position > 1) {
            /* halve until the culprit stands alone */
            lane->limit = (upto - lane->position) / 2;
            return 0;
        }
        memcpy(lane->db.sqlstate, code, sizeof(code));
        memcpy(lane->db.message, text, sizeof(text));
        lane->counters.errors++;
        return hpw_apply_skip(lane);
    }
    took = hpw_unix_us() - begun_us;
    lane->counters.apply_us += took > 0 ? (uint64_t)took : 0;
    lane->counters.batches++;
    if (hpw_lane_bytes(&documents) > HPW_BATCH_BYTES && lane->limit > 1)
        lane->limit /= 2;
    else if (lane->limit < lane->settings->batch_events)
        lane->limit = lane->limit * 2 > lane->settings->batch_events
                          ? lane->settings->batch_events
                          : lane->limit * 2;
    hpw_lane_hand_out(lane, &documents);
    PQclear(documents.rows);
    return 0;
}

/* Everything that is there. 0, or -1 to begin anew. */
static int hpw_lane_catch_up(hpw_lane_t *lane)
{
    int64_t target = hpw_lane_target(lane);

    if (target < 0)
        return -1;
    while (lane->position < target && !hpw_stopping()) {
        lane->counters.lag = target - lane->position;
        if (hpw_lane_step(lane, target) != 0)
            return -1;
        lane->counters.position = lane->position;
        hpw_push_heartbeat(lane);
    }
    lane->counters.lag = target > lane->position ? target - lane->position : 0;
    return 0;
}

static int hpw_lane_start(hpw_lane_t *lane)
{
    lane->counters.state = HPW_LANE_STARTING;
    if (hpw_apply_prepare(lane) != 0 || hpw_lane_where(lane) != 0)
        return -1;
    lane->epoch_us = hpw_unix_us();
    lane->sequence = 0;
    lane->beaten_ms = 0;
    lane->limit = lane->settings->batch_events;
    lane->behind = 0;
    lane->counters.cache_behind = 0;
    lane->counters.position = lane->position;
    hpw_log(HPW_LOG_INFO, "lane held", hpw_s("model", lane->model->name),
            hpw_i("partition", lane->partition),
            hpw_i("position", lane->position), hpw_i("pushed", lane->pushed));
    if (hpw_lane_again(lane, 1) != 0)
        return -1;
    lane->counters.state = HPW_LANE_HELD;
    return 0;
}

/* Works with the lock held until the session is lost or the process stops. */
static void hpw_lane_hold(hpw_lane_t *lane, hpw_backoff_t *backoff)
{
    const hpw_project_settings_t *settings = lane->settings;
    int64_t wait_ms = settings->poll_ms < settings->heartbeat_ms
                          ? settings->poll_ms
                          : settings->heartbeat_ms;
    int64_t now;

    if (hpw_lane_start(lane) != 0) {
        hpw_lane_error(lane, "projection cannot start");
        return;
    }
    while (!hpw_stopping()) {
        if (hpw_lane_catch_up(lane) != 0) {
            lane->counters.retries++;
            hpw_lane_error(lane, "projection interrupted");
            return;
        }
        if (lane->counters.batches)
            hpw_backoff_reset(backoff);
        now = hpw_monotonic_ms();
        if ((lane->behind && now >= lane->retry_ms &&
             hpw_lane_again(lane, 0) != 0) ||
            (lane->pushed != lane->pushed_stored &&
             now - lane->stored_ms >= HPW_PUSHED_MS &&
             hpw_apply_pushed(lane) != 0)) {
            hpw_lane_error(lane, "session lost");
            return;
        }
        if (lane->pushed == lane->pushed_stored)
            lane->stored_ms = now;
        hpw_push_heartbeat(lane);
        hpw_wake_wait(lane->wake, lane->partition, &lane->seen, (int)wait_ms);
    }
    /* a clean leave needs no repeat at the next start */
    if (lane->pushed != lane->pushed_stored)
        hpw_apply_pushed(lane);
}

void *hpw_lane_run(void *data)
{
    hpw_lane_t *lane = data;
    hpw_backoff_t backoff = {100, 5000, 0};
    int64_t since_ms;

    lane->cache_backoff = (hpw_backoff_t){250, 5000, 0};
    while (!hpw_stopping()) {
        if (hpw_lane_lock(lane) == 0) {
            since_ms = hpw_monotonic_ms();
            hpw_lane_hold(lane, &backoff);
            if (hpw_monotonic_ms() - since_ms > HPW_GOOD_MS)
                hpw_backoff_reset(&backoff);
        }
        hpw_cache_close(&lane->cache);
        hpw_db_close(&lane->db);
        if (!hpw_stopping()) {
            lane->counters.state = HPW_LANE_CONNECTING;
            hpw_backoff_sleep(&backoff);
        }
    }
    lane->counters.state = HPW_LANE_STOPPED;
    hpw_log(HPW_LOG_INFO, "lane left", hpw_s("model", lane->model->name),
            hpw_i("partition", lane->partition));
    hpw_buf_free(&lane->events);
    hpw_buf_free(&lane->frame);
    hpw_buf_free(&lane->cache.values);
    return NULL;
}
