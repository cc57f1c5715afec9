/*
 * lane.c: one partition's thread, from standby to the last commit.
 *
 * connect -> lock -> attach -> (choose -> collect -> store -> ack -> notice)*
 * and back to the start at any doubt. A batch is of one priority, the highest
 * that has messages; one that was passed over yield_batches times has its turn,
 * so that none waits for ever. A stream that cannot be attached to holds up no
 * other; it is tried again every second. The advisory lock is taken on the very
 * session that writes, so whoever loses the session has lost lock and
 * transaction together; a frozen process loses it too, because the server ends
 * a session that idles past lease_ms. Messages that were fetched and not
 * committed are dropped unacked; the next holder of the lock makes the consumer
 * anew and gets them again, in order.
 *
 * Owns everything in hpw_lane_t. Must never ack before store.c has said that
 * the commit was answered, nor spin: every way back waits with backoff.
 */
#include "drain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_id.h"
#include "log.h"

#define HPW_IDLE_MS 250 /* how soon an idle lane sees that it shall stop */
#define HPW_NOTICE_MS 1000
#define HPW_GOOD_MS 10000
#define HPW_TABLES_MS (10 * 60 * 1000)

const char *hpw_lane_state_name(int state)
{
    static const char *const names[] = {"connecting", "standby", "attaching",
                                        "held", "stopped"};

    return names[state];
}

static void hpw_lane_error(const hpw_lane_t *lane, const char *message)
{
    hpw_log(HPW_LOG_WARN, message, hpw_i("partition", lane->partition),
            hpw_s("sqlstate", lane->db.sqlstate),
            hpw_s("error", lane->db.message));
}

/* The same number in every drain; bound to the partition's name, so that it
 * meets nobody else's advisory locks. */
static int64_t hpw_lane_key(const hpw_lane_t *lane)
{
    char name[64];
    int len = snprintf(name, sizeof(name), "hotpath/drain/%d", lane->partition);

    return (int64_t)hp_hash64(name, (size_t)len, 0);
}

/* Opens the session and waits for the lock. 0 with the lock, else -1. */
static int hpw_lane_lock(hpw_lane_t *lane)
{
    const hpw_drain_settings_t *settings = lane->settings;
    int locked, told = 0;

    lane->state = HPW_LANE_CONNECTING;
    if (hpw_db_open(&lane->db, settings->common.postgres, "hotpath-drain",
                    settings->common.statement_timeout_ms,
                    (int)settings->lease_ms) != 0 ||
        hpw_store_prepare(lane) != 0) {
        hpw_lane_error(lane, "postgres not usable");
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
        lane->state = HPW_LANE_STANDBY;
        if (!told)
            hpw_log(HPW_LOG_INFO, "another drain holds the lane, standing by",
                    hpw_i("partition", lane->partition));
        told = 1;
        hpw_sleep_ms(hpw_jitter_ms((int)settings->lock_retry_ms));
    }
    return -1;
}

/* Tomorrow's tables. Failing is no reason to stop: there is a default one. */
static void hpw_lane_tables(hpw_lane_t *lane)
{
    char sql[128];
    int64_t now = hpw_monotonic_ms();

    if (lane->made_ms && now - lane->made_ms < HPW_TABLES_MS)
        return;
    lane->made_ms = now;
    snprintf(sql, sizeof(sql), "SELECT hotpath.make_event_partitions(%d)",
             (int)lane->settings->partitions_ahead_days);
    if (hpw_db_run(&lane->db, sql) < 0)
        hpw_lane_error(lane, "daily partitions not made");
}

/* Reads where the partition and the source stand. 0 or -1. */
static int hpw_lane_where(hpw_lane_t *lane)
{
    hpw_source_t *source = lane->source;
    char partition[16];
    hpw_param_t params[2];
    PGresult *result;
    int lost;

    snprintf(partition, sizeof(partition), "%d", lane->partition);
    params[0] = hpw_param_text(partition);
    params[1] = hpw_param_text(hp_priority_name(source->priority));
    result = hpw_db_params(
        &lane->db,
        "INSERT INTO hotpath.partitions (partition) VALUES ($1::integer)"
        " ON CONFLICT (partition) DO NOTHING",
        1, params);
    PQclear(result);
    if (result && source->priority != HP_PRIORITY_NORMAL) {
        result =
            hpw_db_params(&lane->db,
                          "INSERT INTO hotpath.priorities (partition, priority)"
                          " VALUES ($1::integer, $2)"
                          " ON CONFLICT (partition, priority) DO NOTHING",
                          2, params);
        PQclear(result);
    }
    if (result == NULL)
        return -1;
    result = hpw_db_params(
        &lane->db,
        "SELECT p.last_position, s.last_sequence, s.stream_created"
        " FROM hotpath.partitions p JOIN hotpath.streams s USING (partition)"
        " WHERE p.partition = $1::integer AND s.priority = $2",
        2, params);
    if (result == NULL || PQntuples(result) != 1) {
        PQclear(result);
        return -1;
    }
    lane->position = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    source->sequence = strtoull(PQgetvalue(result, 0, 1), NULL, 10);
    lost = strcmp(PQgetvalue(result, 0, 2), source->pull->created) != 0;
    if (lost && *PQgetvalue(result, 0, 2)) {
        source->counters.stream_losses++;
        hpw_log(HPW_LOG_ERROR, "the stream is another one than before",
                hpw_i("partition", lane->partition),
                hpw_s("stream", source->pull->stream),
                hpw_s("before", PQgetvalue(result, 0, 2)),
                hpw_s("now", source->pull->created),
                hpw_i("last_sequence", (int64_t)source->sequence));
    }
    PQclear(result);
    /* it went back: what its last messages were is not known any more */
    if (!lost && source->pull->last < source->sequence) {
        lost = 1;
        source->counters.stream_losses++;
        hpw_log(HPW_LOG_ERROR, "the stream has lost its last messages",
                hpw_i("partition", lane->partition),
                hpw_s("stream", source->pull->stream),
                hpw_i("last_sequence", (int64_t)source->sequence),
                hpw_i("now", (int64_t)source->pull->last));
        source->sequence = source->pull->last;
    } else if (lost) {
        source->sequence = 0;
    }
    source->whole = source->sequence + 1; /* what was told is not known */
    source->notice.after = source->sequence;
    source->notice.ended_count = 0;
    source->gone = (hpw_gone_t){0};
    return lost ? hpw_store_passed(lane, source->sequence, 0) : 0;
}

static void hpw_lane_detach(hpw_lane_t *lane)
{
    int i;

    hpw_pull_detach(&lane->intake);
    for (i = 0; i < HP_PRIORITIES; i++)
        lane->sources[i].counters.held = 0;
}

/* Attaches to the streams that it is not attached to. How many there are then,
 * or -1 where the session is lost. */
static int hpw_lane_attach_each(hpw_lane_t *lane)
{
    int64_t i, held = 0, priorities = lane->settings->common.priorities;
    hpw_js_error_t error;
    hpw_source_t *source;

    for (i = 0; i < priorities; i++) {
        lane->source = source = &lane->sources[i];
        if (source->pull->attached) {
            held++;
            continue;
        }
        if (hpw_pull_attach(&lane->intake, lane->settings, lane->partition,
                            source->priority, &error) != 0) {
            hpw_log(HPW_LOG_WARN, "stream not usable",
                    hpw_i("partition", lane->partition),
                    hpw_s("stream", source->pull->stream),
                    hpw_i("code", error.code), hpw_s("error", error.text));
            continue;
        }
        if (hpw_lane_where(lane) != 0)
            return -1;
        held++;
        source->counters.held = 1;
        source->counters.sequence = source->sequence;
        lane->store.careful = 1; /* a dead drain's rest may be in already */
        lane->committed = lane->position;
        hpw_log(HPW_LOG_INFO, "lane held", hpw_i("partition", lane->partition),
                hpw_s("stream", source->pull->stream),
                hpw_s("created", source->pull->created),
                hpw_i("sequence", (int64_t)source->sequence),
                hpw_i("position", lane->position));
    }
    lane->state = held == priorities ? HPW_LANE_HELD : HPW_LANE_ATTACHING;
    return (int)held;
}

/* Attaches, trying again while the session lives until there is a stream. 0 or
 * -1. */
static int hpw_lane_attach(hpw_lane_t *lane)
{
    hpw_backoff_t backoff = {100, 2000, 0};
    int held;

    lane->state = HPW_LANE_ATTACHING;
    while (!hpw_stopping()) {
        held = hpw_lane_attach_each(lane);
        if (held < 0)
            return -1;
        if (held > 0) {
            lane->asked_ms = hpw_monotonic_ms();
            return 0;
        }
        hpw_backoff_sleep(&backoff);
        /* keeps the lease as well */
        if (hpw_db_run(&lane->db, "SELECT 1") < 0)
            return -1;
    }
    return -1;
}

/* Messages to ask for: as many as made up a batch lately. */
static int hpw_lane_wanted(const hpw_lane_t *lane, const hpw_source_t *source)
{
    uint64_t messages = source->counters.messages,
             events = source->counters.events;
    uint64_t each = messages && events > messages ? events / messages : 1;

    return (int)((uint64_t)lane->settings->batch_events / each) + 1;
}

/* Lets requests stand, so that the next messages come meanwhile; of a source
 * that still has some here, only where it is the one that is taken from. */
static void hpw_lane_ask(hpw_lane_t *lane, const hpw_source_t *taken)
{
    hpw_source_t *source;
    int i;

    for (i = 0; i < HP_PRIORITIES; i++) {
        source = &lane->sources[hp_priority_order((unsigned)i)];
        if (source == taken || source->pull->kept_count == 0)
            hpw_pull_ask(&lane->intake, source->pull,
                         hpw_lane_wanted(lane, source));
    }
}

/* Whose turn it is: the highest priority that has messages, unless a lower one
 * was passed over too often. NULL: none has any. */
static hpw_source_t *hpw_lane_choose(hpw_lane_t *lane)
{
    int64_t yield = lane->settings->yield_batches;
    hpw_source_t *source, *chosen = NULL;
    int i;

    for (i = 0; i < HP_PRIORITIES; i++) {
        source = &lane->sources[hp_priority_order((unsigned)i)];
        if (!hpw_pull_has(source->pull)) {
            source->passed_over = 0;
            continue;
        }
        if (chosen == NULL || (yield && source->passed_over >= yield))
            chosen = source;
        source->passed_over++;
    }
    if (chosen)
        chosen->passed_over = 0;
    return chosen;
}

/* Gathers a batch of one priority: waits for a first message, then takes what
 * is there and what comes within coalesce_ms. 0, or -1 to attach again. */
static int hpw_lane_collect(hpw_lane_t *lane)
{
    const hpw_drain_settings_t *settings = lane->settings;
    hpw_batch_t *batch = &lane->batch;
    hpw_source_t *source;
    hpw_message_t message;
    int64_t until = 0;
    int rc, wait_ms = HPW_IDLE_MS, wanted;

    if (hpw_pull_gather(&lane->intake) != 0)
        return -1;
    source = hpw_lane_choose(lane);
    hpw_lane_ask(lane, source);
    if (source == NULL) {
        rc = hpw_pull_wait(&lane->intake, HPW_IDLE_MS);
        if (rc <= 0)
            return rc;
        if (hpw_pull_gather(&lane->intake) != 0)
            return -1;
        source = hpw_lane_choose(lane);
    }
    lane->source = source;
    wanted = hpw_lane_wanted(lane, source);
    while (batch->item_count < settings->batch_events &&
           batch->bytes < (size_t)settings->batch_bytes) {
        rc = hpw_pull_next(&lane->intake, source->pull, wanted, wait_ms,
                           &message);
        if (rc < 0)
            return batch->message_count ? 0 : -1; /* store these first */
        if (rc == 0 && until == 0)
            source->pull->behind = 0; /* they are gone, or come by themselves */
        if (rc == 0 && (until == 0 || hpw_monotonic_ms() >= until))
            break;
        if (rc == 1)
            hpw_batch_add(batch, &message);
        if (until == 0)
            until = hpw_monotonic_ms() + settings->coalesce_ms;
        wait_ms = (int)(until - hpw_monotonic_ms());
        if (wait_ms < 1)
            wait_ms = 1;
    }
    hpw_lane_ask(lane, source);
    return 0;
}

static void hpw_lane_count(hpw_lane_t *lane, uint64_t commit_us)
{
    hpw_source_t *source = lane->source;
    hpw_source_counters_t *counters = &source->counters;
    const hpw_batch_t *batch = &lane->batch;
    uint64_t fates[4] = {0};
    int i, unnamed = 0;

    for (i = 0; i < batch->item_count; i++) {
        fates[batch->items[i].fate]++;
        if (batch->items[i].fate == HPW_FATE_CONFLICT ||
            batch->items[i].fate == HPW_FATE_DEAD)
            unnamed |= hpw_notice_end(&source->notice, &batch->items[i]);
    }
    if (unnamed)
        source->whole = source->sequence + 1;
    counters->batches++;
    counters->messages += (uint64_t)batch->message_count;
    counters->events += (uint64_t)batch->item_count;
    counters->duplicates += fates[HPW_FATE_DUPLICATE];
    counters->conflicts += fates[HPW_FATE_CONFLICT];
    counters->dead += fates[HPW_FATE_DEAD];
    counters->frames_invalid += (uint64_t)batch->broken_count;
    counters->commit_us += commit_us;
    counters->sequence = source->sequence;
    counters->pending = batch->pending;
    lane->committed = lane->position;
}

/* What came before this batch and never came shows by its numbers. */
static void hpw_lane_whole(hpw_lane_t *lane, uint64_t before)
{
    hpw_source_t *source = lane->source;
    uint64_t missing = source->sequence - before;
    int i;

    for (i = 0; i < lane->batch.message_count; i++)
        missing -= lane->batch.messages[i].sequence > before && missing > 0;
    source->whole = hpw_gone_whole(&lane->batch, before, source->whole);
    if (missing == 0)
        return;
    source->counters.passed += missing;
    hpw_log(HPW_LOG_ERROR, "messages are gone from the stream, not stored",
            hpw_i("partition", lane->partition),
            hpw_s("stream", source->pull->stream),
            hpw_i("after", (int64_t)before),
            hpw_i("up_to", (int64_t)source->sequence),
            hpw_i("messages", (int64_t)missing));
}

static int hpw_lane_commit(hpw_lane_t *lane)
{
    int64_t begun_us = hpw_unix_us(), took_us;
    uint64_t before = lane->source->sequence;
    int i;

    lane->source->gone.at_us = 0;
    if (hpw_store_batch(lane) != 0) {
        lane->source->counters.retries++;
        return -1;
    }
    lane->asked_ms = hpw_monotonic_ms();
    took_us = hpw_unix_us() - begun_us;
    /* committed: from here on a crash costs a repeat and nothing else */
    for (i = 0; i < lane->batch.message_count; i++)
        hpw_pull_ack(&lane->intake, &lane->batch.messages[i]);
    hpw_lane_whole(lane, before);
    hpw_lane_count(lane, took_us > 0 ? (uint64_t)took_us : 0);
    hpw_notice_publish(lane);
    return 0;
}

/* What is due for each source when nothing was committed for a while. 0, or -1
 * where the session is lost. */
static int hpw_lane_look(hpw_lane_t *lane)
{
    int64_t i, missing = 0;
    hpw_source_t *source;
    int verdict;

    for (i = 0; i < lane->settings->common.priorities; i++) {
        lane->source = source = &lane->sources[i];
        if (hpw_monotonic_ms() - source->notice.sent_ms < HPW_NOTICE_MS)
            continue;
        if (!source->pull->attached) {
            source->notice.sent_ms = hpw_monotonic_ms();
            missing = 1;
            continue;
        }
        verdict = hpw_gone_look(lane);
        if (verdict == HPW_GONE_SESSION)
            return -1;
        if (verdict == HPW_GONE_STREAM) {
            hpw_lane_detach(lane);
            return 0;
        }
        hpw_notice_publish(lane);
    }
    return missing && hpw_lane_attach_each(lane) < 0 ? -1 : 0;
}

/* Works with the lock held until the session is lost or the process stops. */
static void hpw_lane_hold(hpw_lane_t *lane, hpw_backoff_t *backoff)
{
    int64_t idle_ms = lane->settings->lease_ms / 4;

    while (!hpw_stopping()) {
        if (lane->intake.sub == NULL && hpw_lane_attach(lane) != 0)
            return;
        hpw_lane_tables(lane);
        if (hpw_lane_collect(lane) != 0) {
            hpw_lane_detach(lane);
            hpw_backoff_sleep(backoff);
            continue;
        }
        if (lane->batch.message_count) {
            if (hpw_lane_commit(lane) != 0)
                return;
            hpw_backoff_reset(backoff);
            hpw_batch_reset(&lane->batch);
        } else if (!hpw_db_alive(&lane->db) ||
                   (hpw_monotonic_ms() - lane->asked_ms >= idle_ms &&
                    hpw_db_run(&lane->db, "SELECT 1") < 0)) {
            hpw_lane_error(lane, "session lost");
            return;
        } else if (hpw_monotonic_ms() - lane->asked_ms >= idle_ms) {
            lane->asked_ms = hpw_monotonic_ms();
        }
        if (hpw_lane_look(lane) != 0) {
            hpw_lane_error(lane, "session lost");
            return;
        }
    }
}

void *hpw_lane_run(void *data)
{
    hpw_lane_t *lane = data;
    hpw_backoff_t backoff = {100, 5000, 0};
    int64_t since_ms;
    unsigned i;

    hpw_batch_init(&lane->batch);
    lane->intake.nats = lane->nats;
    for (i = 0; i < HP_PRIORITIES; i++) {
        lane->sources[i].priority = i;
        lane->sources[i].pull = &lane->intake.pulls[i];
    }
    lane->source = &lane->sources[HP_PRIORITY_NORMAL];
    while (!hpw_stopping()) {
        if (hpw_lane_lock(lane) == 0) {
            since_ms = hpw_monotonic_ms();
            hpw_lane_hold(lane, &backoff);
            /* an idle lane that held for a while was a good one too */
            if (hpw_monotonic_ms() - since_ms > HPW_GOOD_MS)
                hpw_backoff_reset(&backoff);
        }
        hpw_lane_detach(lane);
        hpw_batch_reset(&lane->batch);
        hpw_db_close(&lane->db);
        if (!hpw_stopping()) {
            lane->state = HPW_LANE_CONNECTING;
            hpw_backoff_sleep(&backoff);
        }
    }
    lane->state = HPW_LANE_STOPPED;
    hpw_log(HPW_LOG_INFO, "lane left", hpw_i("partition", lane->partition));
    hpw_batch_free(&lane->batch);
    hpw_store_free(&lane->store);
    hpw_pull_free(&lane->intake);
    for (i = 0; i < HP_PRIORITIES; i++)
        hpw_buf_free(&lane->sources[i].notice.text);
    return NULL;
}
