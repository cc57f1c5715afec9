/*
 * apply.c: events of a range of positions become documents, one transaction.
 *
 * The model's own statement runs behind the CTE "batch", which is the events
 * of one partition in (after, upto] and of the model's types; what it RETURNs
 * are the documents that changed. The position moves in the same transaction,
 * and only from where this lane believes it to be, so nothing is applied twice
 * and nothing is left out, whatever dies when.
 *
 * Runs on the lane's thread and session. Must never commit documents without
 * the position. Form of a model: schemas/README.md.
 */
#include "project.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_id.h"
#include "log.h"

#define HPW_OID_BOOL 16
#define HPW_OID_JSON 114
#define HPW_OID_JSONB 3802
#define HPW_PAGE 1000

static const char hpw_sql_batch[] =
    "WITH batch AS (SELECT e.tenant, e.event_type, e.payload,"
    " e.attributes, e.data_kind, e.position, e.partition, e.operation_id,"
    " e.accepted_at,"
    " (extract(epoch FROM e.accepted_at) * 1000000)::bigint AS accepted_us"
    " FROM hotpath.events e WHERE e.partition = $1::integer"
    " AND e.position > $2::bigint AND e.position <= $3::bigint"
    " AND e.event_type = ANY ($4::text[])) ";

static const char hpw_sql_advance[] =
    "UPDATE hotpath.projections SET position = $3::bigint,"
    " pushed_position = $4::bigint, updated_at = now()"
    " WHERE model = $1 AND partition = $2::integer"
    " AND position = $5::bigint";

static const char hpw_sql_skip[] =
    "INSERT INTO hotpath.projection_errors"
    " (model, partition, position, sqlstate, message)"
    " VALUES ($1, $2::integer, $3::bigint, $4, $5) ON CONFLICT DO NOTHING";

/* What RETURNING must give, in this order. */
static const struct {
    const char *name;
    Oid type[3];
} hpw_returning[] = {{"tenant", {HPW_OID_TEXT}},
                     {"key", {HPW_OID_TEXT}},
                     {"version", {HPW_OID_INT8}},
                     {"document", {HPW_OID_TEXT, HPW_OID_JSON, HPW_OID_JSONB}},
                     {"modified_at", {HPW_OID_TIMESTAMPTZ}},
                     {"deleted", {HPW_OID_BOOL}}};

#define HPW_RETURNING ((int)(sizeof(hpw_returning) / sizeof(*hpw_returning)))

/* Checks the columns of a result. NULL, or the name of the first wrong one. */
static const char *hpw_apply_columns(const PGresult *rows)
{
    Oid type;
    int i, j;

    for (i = 0; i < HPW_RETURNING; i++) {
        if (i >= PQnfields(rows))
            return hpw_returning[i].name;
        type = PQftype(rows, i);
        for (j = 0; j < 3 && hpw_returning[i].type[j] != type; j++)
            ;
        if (j == 3)
            return hpw_returning[i].name;
    }
    return NULL;
}

int hpw_apply_prepare(hpw_lane_t *lane)
{
    const hpw_model_t *model = lane->model;
    hpw_buf_t sql = {0};
    int i, rc;

    hpw_array_begin(&lane->events, HPW_OID_TEXT, (uint32_t)model->event_count,
                    0);
    for (i = 0; i < model->event_count; i++)
        hpw_put_bytes(&lane->events, model->events[i],
                      strlen(model->events[i]));

    hpw_buf_printf(&sql, "%s%s", hpw_sql_batch, model->apply);
    rc = hpw_db_prepare(&lane->db, "apply", hpw_buf_text(&sql));
    if (rc == 0) {
        sql.len = 0;
        /* WITH TIES: one event may have changed several documents */
        hpw_buf_printf(
            &sql,
            "SELECT tenant, key, version, document, modified_at, deleted,"
            " position FROM hotpath.\"%s\" WHERE partition = $1::integer"
            " AND position > $2::bigint AND position <= $3::bigint"
            " ORDER BY position FETCH FIRST %d ROWS WITH TIES",
            model->name, HPW_PAGE);
        rc = hpw_db_prepare(&lane->db, "page", hpw_buf_text(&sql));
    }
    hpw_buf_free(&sql);
    if (rc == 0)
        rc = hpw_db_prepare(&lane->db, "advance", hpw_sql_advance);
    if (rc == 0)
        rc = hpw_db_prepare(&lane->db, "skip", hpw_sql_skip);
    return rc;
}

/* Moves the position inside the open transaction. 0 or -1. */
static int hpw_apply_advance(hpw_lane_t *lane, int64_t position)
{
    char partition[16], now[24], pushed[24], before[24];
    hpw_param_t params[5];
    PGresult *result;
    int moved;

    snprintf(partition, sizeof(partition), "%d", lane->partition);
    snprintf(now, sizeof(now), "%lld", (long long)position);
    snprintf(pushed, sizeof(pushed), "%lld", (long long)lane->pushed);
    snprintf(before, sizeof(before), "%lld", (long long)lane->position);
    params[0] = hpw_param_text(lane->model->name);
    params[1] = hpw_param_text(partition);
    params[2] = hpw_param_text(now);
    params[3] = hpw_param_text(pushed);
    params[4] = hpw_param_text(before);
    result = hpw_db_prepared(&lane->db, "advance", 5, params, 0);
    if (result == NULL)
        return -1;
    moved = strcmp(PQcmdTuples(result), "1") == 0;
    PQclear(result);
    if (!moved) {
        hpw_log(HPW_LOG_ERROR, "somebody else moved the projection",
                hpw_s("model", lane->model->name),
                hpw_i("partition", lane->partition));
        return -1;
    }
    return 0;
}

static PGresult *hpw_apply_statement(hpw_lane_t *lane, const char *name,
                                     int64_t after, int64_t upto, int count)
{
    char partition[16], from[24], to[24];
    hpw_param_t params[4];

    snprintf(partition, sizeof(partition), "%d", lane->partition);
    snprintf(from, sizeof(from), "%lld", (long long)after);
    snprintf(to, sizeof(to), "%lld", (long long)upto);
    params[0] = hpw_param_text(partition);
    params[1] = hpw_param_text(from);
    params[2] = hpw_param_text(to);
    params[3] = hpw_param_array(&lane->events);
    return hpw_db_prepared(&lane->db, name, count, params, 1);
}

int hpw_apply_range(hpw_lane_t *lane, int64_t upto, hpw_documents_t *documents)
{
    PGresult *rows = NULL;
    const char *column;
    int refused;

    if (hpw_db_run(&lane->db, "BEGIN") < 0)
        return -1;
    rows = hpw_apply_statement(lane, "apply", lane->position, upto, 4);
    if (rows == NULL) {
        refused = lane->db.conn && hpw_db_data_error(&lane->db);
        return refused ? 0 : -1; /* the transaction is still to be ended */
    }
    column = hpw_apply_columns(rows);
    if (column) {
        hpw_log(HPW_LOG_ERROR, "the model does not return what it must",
                hpw_s("model", lane->model->name), hpw_s("column", column));
        snprintf(lane->db.message, sizeof(lane->db.message),
                 "RETURNING lacks %s or has it of another type", column);
        PQclear(rows);
        return -1;
    }
    if (hpw_apply_advance(lane, upto) != 0 ||
        hpw_db_run(&lane->db, "COMMIT") < 0) {
        PQclear(rows);
        return -1;
    }
    lane->position = upto;
    lane->pushed_stored = lane->pushed;
    documents->rows = rows;
    documents->jsonb = PQftype(rows, 3) == HPW_OID_JSONB;
    return 1;
}

int hpw_apply_skip(hpw_lane_t *lane)
{
    char partition[16], position[24], code[sizeof(lane->db.sqlstate)],
        message[sizeof(lane->db.message)];
    hp_str_t text = {(unsigned char *)message, 0};
    hpw_param_t params[5];
    PGresult *result;

    memcpy(code, lane->db.sqlstate, sizeof(code));
    memcpy(message, lane->db.message, sizeof(message));
    text.len = strlen(message);
    if (!hpw_utf8_valid(text)) /* cut inside a character by its buffer */
        message[0] = 0;
    hpw_log(HPW_LOG_ERROR, "event passed over by the projection",
            hpw_s("model", lane->model->name),
            hpw_i("partition", lane->partition),
            hpw_i("position", lane->position + 1), hpw_s("sqlstate", code),
            hpw_s("error", message));
    snprintf(partition, sizeof(partition), "%d", lane->partition);
    snprintf(position, sizeof(position), "%lld", (long long)lane->position + 1);
    params[0] = hpw_param_text(lane->model->name);
    params[1] = hpw_param_text(partition);
    params[2] = hpw_param_text(position);
    params[3] = hpw_param_text(code);
    params[4] = hpw_param_text(message);

    if (hpw_db_run(&lane->db, "BEGIN") < 0)
        return -1;
    result = hpw_db_prepared(&lane->db, "skip", 5, params, 0);
    PQclear(result);
    if (result == NULL || hpw_apply_advance(lane, lane->position + 1) != 0 ||
        hpw_db_run(&lane->db, "COMMIT") < 0)
        return -1;
    lane->position++;
    lane->pushed_stored = lane->pushed;
    return 0;
}

int hpw_apply_page(hpw_lane_t *lane, int64_t after, int64_t upto,
                   hpw_documents_t *documents, int64_t *reached)
{
    PGresult *rows = hpw_apply_statement(lane, "page", after, upto, 3);
    int count;

    if (rows == NULL)
        return -1;
    count = PQntuples(rows);
    documents->rows = rows;
    documents->jsonb = PQftype(rows, 3) == HPW_OID_JSONB;
    *reached = count < HPW_PAGE
                   ? upto
                   : hpw_get_int8(PQgetvalue(rows, count - 1, HPW_RETURNING));
    return 0;
}

int hpw_apply_pushed(hpw_lane_t *lane)
{
    char partition[16], pushed[24];
    hpw_param_t params[3];
    PGresult *result;

    snprintf(partition, sizeof(partition), "%d", lane->partition);
    snprintf(pushed, sizeof(pushed), "%lld", (long long)lane->pushed);
    params[0] = hpw_param_text(lane->model->name);
    params[1] = hpw_param_text(partition);
    params[2] = hpw_param_text(pushed);
    result = hpw_db_params(
        &lane->db,
        "UPDATE hotpath.projections SET pushed_position = $3::bigint"
        " WHERE model = $1 AND partition = $2::integer",
        3, params);
    PQclear(result);
    if (result == NULL)
        return -1;
    lane->pushed_stored = lane->pushed;
    return 0;
}

int hpw_document_row(const hpw_documents_t *documents, int i, hp_doc_t *doc)
{
    const PGresult *rows = documents->rows;
    int64_t version;
    hp_str_t *texts[] = {&doc->tenant, &doc->key, NULL, &doc->document};
    int column;

    for (column = 0; column < HPW_RETURNING; column++) {
        if (PQgetisnull(rows, i, column))
            return -1;
    }
    for (column = 0; column < 4; column++) {
        if (texts[column] == NULL)
            continue;
        texts[column]->data =
            (const unsigned char *)PQgetvalue(rows, i, column);
        texts[column]->len = (size_t)PQgetlength(rows, i, column);
    }
    version = hpw_get_int8(PQgetvalue(rows, i, 2));
    doc->version = (uint64_t)version;
    doc->modified_us = hpw_get_int8(PQgetvalue(rows, i, 4)) + HPW_EPOCH_2000_US;
    doc->deleted = *PQgetvalue(rows, i, 5) != 0;
    if (documents->jsonb && doc->document.len) {
        doc->document.data++;
        doc->document.len--;
    }
    if (doc->deleted)
        doc->document.len = 0;
    if (version < 0 || doc->key.len < 1 || doc->key.len > HP_DOC_KEY_MAX)
        return -1;
    return doc->tenant.len == 0 || hp_tenant_valid(doc->tenant) ? 0 : -1;
}
