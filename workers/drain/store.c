/*
 * store.c: one transaction per batch, and PostgreSQL has the last word.
 *
 * The way of almost every batch: BEGIN; the operations go in by COPY in binary
 * form, their unique key is the deduplication that counts; so do the events;
 * the partition's position moves; COMMIT. That is the bold way, as if nothing
 * in the batch had been seen before. COPY knows no ON CONFLICT, so a batch that
 * meets a known operation is done again carefully: the operations by INSERT
 * over arrays with ON CONFLICT DO NOTHING, the events of those that were new by
 * COPY. So are those that follow, until no repeats have come for a while.
 * Measured whole, the careful way costs a third more than the bold one, and
 * both beat one CTE and two INSERTs over arrays.
 *
 * Where a statement is refused because of data, the batch is done again in
 * halves under savepoints until the culprits stand alone; each is published to
 * the dead-letter stream, with the broker's ack, before the commit that calls
 * it dead. Errors of any other kind give the whole batch back (-1): nobody is
 * dead because a disk was full.
 *
 * Runs on the lane's thread. Must never ack, and never report success without
 * the answer to COMMIT. The tables: schemas/README.md.
 */
#include "drain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

/* Batches without a repeat before the next one is tried boldly. */
#define HPW_CAREFUL 16

static const char hpw_sql_bold[] =
    "COPY hotpath.operations (operation_id, position, accepted_at, partition,"
    " state, fingerprint) FROM STDIN WITH (FORMAT binary)";

static const char hpw_sql_careful[] =
    "INSERT INTO hotpath.operations (operation_id, position, accepted_at,"
    " partition, state, fingerprint) SELECT u.id, u.position, u.accepted_at,"
    " $5::integer, 1, u.fingerprint FROM unnest($1::uuid[], $2::bigint[],"
    " $3::timestamptz[], $4::bytea[])"
    " AS u(id, position, accepted_at, fingerprint)"
    " ON CONFLICT (operation_id) DO NOTHING";

/* Which of these were there before, and with which payload. Positions are
 * given out once, so what stands at another one is not ours. */
static const char hpw_sql_known[] =
    "SELECT u.n::integer, o.fingerprint <> u.fingerprint"
    " FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) WITH ORDINALITY"
    " AS u(id, position, fingerprint, n)"
    " JOIN hotpath.operations o ON o.operation_id = u.id"
    " WHERE o.position <> u.position OR o.partition <> $4::integer";

static const char hpw_sql_copy[] =
    "COPY hotpath.events (position, accepted_at, operation_id, partition,"
    " tenant, route, idempotency_key, event_type, traceparent,"
    " attributes, data_kind, payload)"
    " FROM STDIN WITH (FORMAT binary)";

static const char hpw_sql_conflicts[] =
    "UPDATE hotpath.operations o SET conflicts = o.conflicts + c.n,"
    " conflict_at = now() FROM (SELECT id, count(*)::integer AS n"
    " FROM unnest($1::uuid[]) AS u(id) GROUP BY id) c"
    " WHERE o.operation_id = c.id";

static const char hpw_sql_dead[] =
    "INSERT INTO hotpath.operations (operation_id, position, accepted_at,"
    " partition, state, fingerprint, code, reason)"
    " VALUES ($1::uuid, 0, now(), $2::integer, 2, $3::bytea, $4, $5)"
    " ON CONFLICT (operation_id) DO NOTHING";

/* The old position is asked for as well: should two lanes ever believe to
 * hold one partition, the second commit fails here. */
static const char hpw_sql_advance[] =
    "UPDATE hotpath.partitions SET last_sequence = $2::bigint,"
    " stream_created = $3, updated_at = now(), last_position = $4::bigint"
    " WHERE partition = $1::integer AND last_position = $5::bigint";

static const char hpw_sql_passed[] =
    "UPDATE hotpath.partitions SET last_sequence = $2::bigint,"
    " stream_created = $3, updated_at = now(),"
    " empty_at = coalesce(to_timestamp($4::bigint / 1e6), empty_at)"
    " WHERE partition = $1::integer AND last_position = $5::bigint";

/* The same where the stream is of another priority than normal: the position
 * is the partition's, the rest stands in a row of its own. */
static const char hpw_sql_advance_other[] =
    "WITH moved AS (UPDATE hotpath.partitions SET updated_at = now(),"
    " last_position = $4::bigint"
    " WHERE partition = $1::integer AND last_position = $5::bigint"
    " RETURNING partition)"
    " UPDATE hotpath.priorities s SET last_sequence = $2::bigint,"
    " stream_created = $3, updated_at = now() FROM moved"
    " WHERE s.partition = moved.partition AND s.priority = $6";

static const char hpw_sql_passed_other[] =
    "UPDATE hotpath.priorities SET last_sequence = $2::bigint,"
    " stream_created = $3, updated_at = now(),"
    " empty_at = coalesce(to_timestamp($4::bigint / 1e6), empty_at)"
    " WHERE partition = $1::integer AND priority = $6"
    " AND EXISTS (SELECT FROM hotpath.partitions"
    " WHERE partition = $1::integer AND last_position = $5::bigint)";

int hpw_store_prepare(hpw_lane_t *lane)
{
    static const struct {
        const char *name;
        const char *sql;
    } statements[] = {{"careful", hpw_sql_careful},
                      {"known", hpw_sql_known},
                      {"conflicts", hpw_sql_conflicts},
                      {"dead", hpw_sql_dead},
                      {"advance", hpw_sql_advance},
                      {"passed", hpw_sql_passed},
                      {"advance_other", hpw_sql_advance_other},
                      {"passed_other", hpw_sql_passed_other}};
    size_t i;

    /* every statement here goes by primary key; a plan made while the tables
     * were small must not scan them when they are not */
    if (hpw_db_run(&lane->db,
                   "SET enable_seqscan = off; SET enable_hashjoin = off;"
                   "SET enable_mergejoin = off; SET jit = off;"
                   "SET search_path = pg_catalog") < 0)
        return -1;
    for (i = 0; i < sizeof(statements) / sizeof(*statements); i++) {
        if (hpw_db_prepare(&lane->db, statements[i].name, statements[i].sql) !=
            0)
            return -1;
    }
    return 0;
}

void hpw_store_free(hpw_store_t *store)
{
    hpw_buf_free(&store->ids);
    hpw_buf_free(&store->positions);
    hpw_buf_free(&store->times);
    hpw_buf_free(&store->fingerprints);
    hpw_buf_free(&store->copy);
    free(store->order);
    memset(store, 0, sizeof(*store));
}

static int hpw_store_compare(const void *a, const void *b, void *data)
{
    const hpw_item_t *items = data;

    return memcmp(items[*(const uint32_t *)a].event.operation_id,
                  items[*(const uint32_t *)b].event.operation_id, HP_UUID_SIZE);
}

/* Lists what is to be inserted out of [first, last), ordered by operation id:
 * two lanes that meet the same operations then cannot deadlock. */
static uint32_t hpw_store_order(hpw_lane_t *lane, int first, int last)
{
    hpw_store_t *store = &lane->store;
    hpw_item_t *items = lane->batch.items;
    uint32_t count = 0;

    if (store->order_size < lane->batch.item_count) {
        store->order_size = lane->batch.item_size;
        store->order = hpw_realloc(store->order, (size_t)store->order_size,
                                   sizeof(*store->order));
    }
    for (; first < last; first++) {
        if (!items[first].repeat) {
            items[first].fate = HPW_FATE_NEW;
            store->order[count++] = (uint32_t)first;
        }
    }
    qsort_r(store->order, count, sizeof(*store->order), hpw_store_compare,
            items);
    return count;
}

static void hpw_store_arrays(hpw_lane_t *lane, uint32_t count)
{
    hpw_store_t *store = &lane->store;
    const hpw_item_t *item;
    uint32_t i;

    hpw_array_begin(&store->ids, HPW_OID_UUID, count, 0);
    hpw_array_begin(&store->positions, HPW_OID_INT8, count, 0);
    hpw_array_begin(&store->times, HPW_OID_TIMESTAMPTZ, count, 0);
    hpw_array_begin(&store->fingerprints, HPW_OID_BYTEA, count, 0);
    for (i = 0; i < count; i++) {
        item = &lane->batch.items[store->order[i]];
        hpw_put_bytes(&store->ids, item->event.operation_id, HP_UUID_SIZE);
        hpw_put_int8(&store->positions, item->position);
        hpw_put_time(&store->times, item->event.accepted_us);
        hpw_put_bytes(&store->fingerprints, item->event.fingerprint,
                      HP_FINGERPRINT_SIZE);
    }
}

/* Sets the fate of those that were there before. -1 as hpw_db_*. */
static int hpw_store_known(hpw_lane_t *lane, hpw_param_t partition)
{
    hpw_store_t *store = &lane->store;
    hpw_param_t params[] = {hpw_param_array(&store->ids),
                            hpw_param_array(&store->positions),
                            hpw_param_array(&store->fingerprints), partition};
    PGresult *result = hpw_db_prepared(&lane->db, "known", 4, params, 1);
    hpw_item_t *item;
    int i;

    if (result == NULL)
        return -1;
    for (i = 0; i < PQntuples(result); i++) {
        item = &lane->batch.items
                    [store->order[hpw_get_int4(PQgetvalue(result, i, 0)) - 1]];
        item->fate =
            *PQgetvalue(result, i, 1) ? HPW_FATE_CONFLICT : HPW_FATE_DUPLICATE;
    }
    PQclear(result);
    return 0;
}

static void hpw_put_optional(hpw_buf_t *buf, hp_str_t text)
{
    if (text.len)
        hpw_put_text(buf, text);
    else
        hpw_put_null(buf);
}

/* attributes and data_kind */
static void hpw_put_attributes(hpw_buf_t *buf, const hp_event_t *event)
{
    static const hp_str_t kinds[] = {HP_STR(""), HP_STR("none"), HP_STR("text"),
                                     HP_STR("base64")};

    if (event->attributes.len)
        hpw_put_jsonb(buf, event->attributes);
    else
        hpw_put_null(buf);
    hpw_put_optional(buf, kinds[event->data]);
}

static int hpw_store_events(hpw_lane_t *lane, int first, int last)
{
    hpw_buf_t *copy = &lane->store.copy;
    const hpw_item_t *item;
    int64_t count = 0;

    hpw_copy_begin(copy);
    for (; first < last; first++) {
        item = &lane->batch.items[first];
        if (item->fate != HPW_FATE_NEW)
            continue;
        hpw_copy_row(copy, 12);
        hpw_put_int8(copy, item->position);
        hpw_put_time(copy, item->event.accepted_us);
        hpw_put_bytes(copy, item->event.operation_id, HP_UUID_SIZE);
        hpw_put_int4(copy, lane->partition);
        hpw_put_text(copy, item->event.tenant);
        hpw_put_text(copy, item->event.route);
        hpw_put_optional(copy, item->event.key);
        hpw_put_text(copy, item->event.type);
        hpw_put_optional(copy, item->event.traceparent);
        hpw_put_attributes(copy, &item->event);
        hpw_put_jsonb(copy, item->event.payload);
        count++;
    }
    hpw_copy_end(copy);
    if (count == 0)
        return 0;
    return hpw_db_copy(&lane->db, hpw_sql_copy, copy) == count ? 0 : -1;
}

static int hpw_store_bold(hpw_lane_t *lane, uint32_t count)
{
    hpw_buf_t *copy = &lane->store.copy;
    const hpw_item_t *item;
    uint32_t i;

    hpw_copy_begin(copy);
    for (i = 0; i < count; i++) {
        item = &lane->batch.items[lane->store.order[i]];
        hpw_copy_row(copy, 6);
        hpw_put_bytes(copy, item->event.operation_id, HP_UUID_SIZE);
        hpw_put_int8(copy, item->position);
        hpw_put_time(copy, item->event.accepted_us);
        hpw_put_int4(copy, lane->partition);
        hpw_put_int2(copy, 1);
        hpw_put_bytes(copy, item->event.fingerprint, HP_FINGERPRINT_SIZE);
    }
    hpw_copy_end(copy);
    return hpw_db_copy(&lane->db, hpw_sql_bold, copy) == count ? 0 : -1;
}

/* Stores [first, last) in the open transaction. -1 as hpw_db_*. */
static int hpw_store_range(hpw_lane_t *lane, int bold, int first, int last)
{
    hpw_store_t *store = &lane->store;
    char partition[16];
    hpw_param_t params[5];
    PGresult *result;
    uint32_t count = hpw_store_order(lane, first, last);
    int64_t stored;

    if (count == 0)
        return 0;
    if (bold) {
        if (hpw_store_bold(lane, count) != 0)
            return -1;
        return hpw_store_events(lane, first, last);
    }
    hpw_store_arrays(lane, count);
    snprintf(partition, sizeof(partition), "%d", lane->partition);
    params[0] = hpw_param_array(&store->ids);
    params[1] = hpw_param_array(&store->positions);
    params[2] = hpw_param_array(&store->times);
    params[3] = hpw_param_array(&store->fingerprints);
    params[4] = hpw_param_text(partition);
    result = hpw_db_prepared(&lane->db, "careful", 5, params, 0);
    if (result == NULL)
        return -1;
    stored = strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    if (stored != count && hpw_store_known(lane, params[4]) != 0)
        return -1;
    return hpw_store_events(lane, first, last);
}

/* As hpw_store_range(), halving what is refused. What is left alone with its
 * refusal is marked dead. -1: the session or the server, not the data. */
static int hpw_store_halves(hpw_lane_t *lane, int first, int last)
{
    hpw_item_t *item = &lane->batch.items[first];
    hpw_db_t *db = &lane->db;
    char code[sizeof(db->sqlstate)], reason[sizeof(db->message)];
    int middle;

    if (hpw_db_run(db, "SAVEPOINT part") < 0)
        return -1;
    if (hpw_store_range(lane, 0, first, last) == 0)
        return hpw_db_run(db, "RELEASE SAVEPOINT part") < 0 ? -1 : 0;
    if (db->conn == NULL || !hpw_db_data_error(db))
        return -1;
    memcpy(code, db->sqlstate, sizeof(code));
    memcpy(reason, db->message, sizeof(reason));
    if (hpw_db_run(db, "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part") <
        0)
        return -1;

    if (last - first == 1) {
        item->fate = HPW_FATE_DEAD;
        memcpy(item->code, code, sizeof(code));
        item->reason = hpw_strdup(reason);
        return 0;
    }
    middle = first + (last - first) / 2;
    if (hpw_store_halves(lane, first, middle) != 0)
        return -1;
    return hpw_store_halves(lane, middle, last);
}

/* A dead letter, acknowledged by the broker, and its operation. */
static int hpw_store_dead(hpw_lane_t *lane, hpw_item_t *item)
{
    char partition[16];
    hp_str_t text = {(const unsigned char *)item->reason, strlen(item->reason)};
    hpw_param_t params[5];
    PGresult *result;

    if (hpw_dead_event(lane, item) != 0)
        return -1;
    snprintf(partition, sizeof(partition), "%d", lane->partition);
    params[0] = (hpw_param_t){item->event.operation_id, HP_UUID_SIZE, 1};
    params[1] = hpw_param_text(partition);
    params[2] = (hpw_param_t){item->event.fingerprint, HP_FINGERPRINT_SIZE, 1};
    params[3] = hpw_param_text(item->code);
    /* cut in the middle of a character by its buffer, perhaps */
    params[4] = hpw_param_text(hpw_utf8_valid(text) ? item->reason : "");
    result = hpw_db_prepared(&lane->db, "dead", 5, params, 0);
    PQclear(result);
    return result ? 0 : -1;
}

/* What stands beside the events: frames that were none, the dead, conflicts.
 * The dead first, so that a conflict with one of them finds it. */
static int hpw_store_rest(hpw_lane_t *lane)
{
    hpw_batch_t *batch = &lane->batch;
    hpw_buf_t *ids = &lane->store.ids;
    hpw_param_t param;
    PGresult *result;
    uint32_t conflicts = 0;
    int i;

    for (i = 0; i < batch->broken_count; i++) {
        if (hpw_dead_frame(lane, &batch->messages[batch->broken[i]]) != 0)
            return -1;
    }
    for (i = 0; i < batch->item_count; i++) {
        if (batch->items[i].fate == HPW_FATE_CONFLICT)
            conflicts++;
        if (batch->items[i].fate == HPW_FATE_DEAD &&
            hpw_store_dead(lane, &batch->items[i]) != 0)
            return -1;
    }
    if (conflicts == 0)
        return 0;

    hpw_array_begin(ids, HPW_OID_UUID, conflicts, 0);
    for (i = 0; i < batch->item_count; i++) {
        if (batch->items[i].fate == HPW_FATE_CONFLICT)
            hpw_put_bytes(ids, batch->items[i].event.operation_id,
                          HP_UUID_SIZE);
    }
    param = hpw_param_array(ids);
    result = hpw_db_prepared(&lane->db, "conflicts", 1, &param, 0);
    PQclear(result);
    return result ? 0 : -1;
}

/* One of the two statements that move the partition; value is the position, or
 * when the stream was seen empty (0: it was not). */
static int hpw_store_move(hpw_lane_t *lane, int passed, int64_t value,
                          uint64_t sequence)
{
    static const char *const statements[2][2] = {{"advance", "advance_other"},
                                                 {"passed", "passed_other"}};
    char partition[16], number[24], last[24], before[24];
    int other = lane->source->priority != HP_PRIORITY_NORMAL, moved;
    hpw_param_t params[6];
    PGresult *result;

    snprintf(partition, sizeof(partition), "%d", lane->partition);
    snprintf(number, sizeof(number), "%lld", (long long)value);
    snprintf(last, sizeof(last), "%llu", (unsigned long long)sequence);
    snprintf(before, sizeof(before), "%lld", (long long)lane->position);
    params[0] = hpw_param_text(partition);
    params[1] = hpw_param_text(last);
    params[2] = hpw_param_text(lane->source->pull->created);
    params[3] = hpw_param_text(passed && value == 0 ? NULL : number);
    params[4] = hpw_param_text(before);
    params[5] = hpw_param_text(hp_priority_name(lane->source->priority));
    result = hpw_db_prepared(&lane->db, statements[passed][other], 5 + other,
                             params, 0);
    if (result == NULL)
        return -1;
    moved = strcmp(PQcmdTuples(result), "1") == 0;
    PQclear(result);
    if (!moved) {
        hpw_log(HPW_LOG_ERROR, "somebody else moved the partition",
                hpw_i("partition", lane->partition));
        return -1;
    }
    return 0;
}

int hpw_store_passed(hpw_lane_t *lane, uint64_t sequence, int64_t empty_us)
{
    /* losing it costs another look: nothing to wait for a standby for */
    if (hpw_db_run(&lane->db, "BEGIN; SET LOCAL synchronous_commit = off") <
            0 ||
        hpw_store_move(lane, 1, empty_us, sequence) != 0)
        return -1;
    return hpw_db_run(&lane->db, "COMMIT") < 0 ? -1 : 0;
}

static int hpw_store_advance(hpw_lane_t *lane, int64_t position)
{
    uint64_t last = lane->batch.last_sequence;

    if (last < lane->source->sequence)
        last =
            lane->source->sequence; /* nothing but repeats of older messages */
    return hpw_store_move(lane, 0, position, last);
}

typedef enum { HPW_STORE_BOLD, HPW_STORE_CAREFUL, HPW_STORE_HALVES } hpw_way_t;

static int hpw_store_transaction(hpw_lane_t *lane, hpw_way_t way,
                                 int64_t position)
{
    int count = lane->batch.item_count, rc = 0;

    if (hpw_db_run(&lane->db, "BEGIN") < 0)
        return -1;
    if (count && way == HPW_STORE_HALVES)
        rc = hpw_store_halves(lane, 0, count);
    else if (count)
        rc = hpw_store_range(lane, way == HPW_STORE_BOLD, 0, count);
    if (rc != 0 || hpw_store_rest(lane) != 0 ||
        hpw_store_advance(lane, position) != 0)
        return -1;
    return hpw_db_run(&lane->db, "COMMIT") < 0 ? -1 : 0;
}

/* Remembers whether repeats are about. */
static void hpw_store_learn(hpw_lane_t *lane)
{
    const hpw_batch_t *batch = &lane->batch;
    int i;

    if (lane->store.careful == 0)
        return; /* a bold batch that went through had none */
    lane->store.careful--;
    for (i = 0; i < batch->item_count; i++) {
        if (!batch->items[i].repeat &&
            (batch->items[i].fate == HPW_FATE_DUPLICATE ||
             batch->items[i].fate == HPW_FATE_CONFLICT)) {
            lane->store.careful = HPW_CAREFUL;
            return;
        }
    }
}

int hpw_store_batch(hpw_lane_t *lane)
{
    hpw_batch_t *batch = &lane->batch;
    hpw_db_t *db = &lane->db;
    hpw_way_t way = lane->store.careful ? HPW_STORE_CAREFUL : HPW_STORE_BOLD;
    int64_t position = lane->position;
    int i, rc;

    for (i = 0; i < batch->item_count; i++) {
        if (!batch->items[i].repeat)
            batch->items[i].position = ++position;
    }
    for (;;) {
        rc = hpw_store_transaction(lane, way, position);
        if (rc == 0 || db->conn == NULL || !hpw_db_data_error(db) ||
            way == HPW_STORE_HALVES)
            break;
        if (way == HPW_STORE_BOLD && strcmp(db->sqlstate, "23505") == 0) {
            way = HPW_STORE_CAREFUL;
            lane->store.careful = HPW_CAREFUL;
        } else {
            way = HPW_STORE_HALVES;
            hpw_log(HPW_LOG_WARN, "batch refused, looking for the culprit",
                    hpw_i("partition", lane->partition),
                    hpw_i("events", batch->item_count),
                    hpw_s("sqlstate", db->sqlstate),
                    hpw_s("error", db->message));
        }
        if (hpw_db_run(db, "ROLLBACK") < 0)
            break;
    }
    if (rc != 0) {
        hpw_log(HPW_LOG_ERROR, "batch not committed",
                hpw_i("partition", lane->partition),
                hpw_s("sqlstate", db->sqlstate), hpw_s("error", db->message));
        return -1;
    }
    hpw_store_learn(lane);
    lane->position = position;
    if (batch->last_sequence > lane->source->sequence)
        lane->source->sequence = batch->last_sequence;
    return 0;
}
