/*
 * database.c: one PostgreSQL session, and waiting for it with a bound.
 *
 * libpq in non-blocking mode with a poll() of our own in every wait, because
 * its blocking calls wait for ever on a server that was stopped. Runs on the
 * thread of the lane that owns the session.
 *
 * Must never: retry anything by itself (only the caller knows whether it was
 * committed), keep a session after a wait ran out.
 */
#include "database.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "signals.h"

#define HPW_DB_GRACE_MS 5000
#define HPW_DB_COPY_CHUNK 65536

static void hpw_db_fail(hpw_db_t *db, const char *sqlstate, const char *text)
{
    size_t len;

    snprintf(db->sqlstate, sizeof(db->sqlstate), "%s", sqlstate);
    snprintf(db->message, sizeof(db->message), "%s", text);
    len = strlen(db->message);
    while (len && db->message[len - 1] == '\n')
        db->message[--len] = 0;
}

static void hpw_db_lost(hpw_db_t *db, const char *text)
{
    hpw_db_fail(db, "08006", text);
    hpw_db_close(db);
}

void hpw_db_close(hpw_db_t *db)
{
    if (db->conn)
        PQfinish(db->conn);
    db->conn = NULL;
}

static void hpw_db_notice(void *data, const char *text)
{
    (void)data;
    hpw_log(HPW_LOG_DEBUG, "postgres notice", hpw_s("text", text));
}

int hpw_db_open(hpw_db_t *db, const char *conninfo, const char *program,
                int64_t statement_timeout_ms, int lease_ms)
{
    /* what stands before dbname can be set otherwise in conninfo */
    const char *names[] = {
        "connect_timeout",  "keepalives_idle",  "keepalives_interval",
        "keepalives_count", "tcp_user_timeout", "fallback_application_name",
        "dbname",           "client_encoding",  NULL};
    const char *values[] = {"3",     "10",     "5",    "3", "25000",
                            program, conninfo, "UTF8", NULL};
    char sql[256];

    hpw_db_close(db);
    db->timeout_ms = statement_timeout_ms;
    db->conn = PQconnectdbParams(names, values, 1);
    if (PQstatus(db->conn) != CONNECTION_OK) {
        hpw_db_lost(db, PQerrorMessage(db->conn));
        return -1;
    }
    PQsetNoticeProcessor(db->conn, hpw_db_notice, NULL);
    if (PQsetnonblocking(db->conn, 1) != 0) {
        hpw_db_lost(db, "cannot make the session non-blocking");
        return -1;
    }
    snprintf(sql, sizeof(sql),
             "SET statement_timeout = %lld;"
             "SET idle_in_transaction_session_timeout = %d;"
             "SET idle_session_timeout = %d; SET timezone = 'UTC'",
             (long long)statement_timeout_ms, lease_ms, lease_ms);
    if (hpw_db_run(db, sql) < 0) {
        hpw_db_close(db);
        return -1;
    }
    return 0;
}

int hpw_db_data_error(const hpw_db_t *db)
{
    static const char classes[][3] = {"21", "22", "23", "54", "P0"};
    size_t i;

    for (i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (strncmp(db->sqlstate, classes[i], 2) == 0)
            return 1;
    }
    return 0;
}

hpw_param_t hpw_param_text(const char *text)
{
    return (hpw_param_t){text, 0, 0};
}

hpw_param_t hpw_param_array(const hpw_buf_t *array)
{
    return (hpw_param_t){array->data, (int)array->len, 1};
}

/* Waits until the socket is ready for events. 0, or -1 where time is up. */
static int hpw_db_wait(hpw_db_t *db, short events, int64_t deadline_ms)
{
    struct pollfd fd = {PQsocket(db->conn), events, 0};
    int64_t now, left;
    int n;

    for (;;) {
        now = hpw_monotonic_ms();
        left = deadline_ms ? deadline_ms - now : 200;
        if (left <= 0)
            return -1;
        n = poll(&fd, 1, left > 200 ? 200 : (int)left);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -1;
        /* asked to stop: finish, but not for longer than a grace */
        if (hpw_stopping() &&
            (!deadline_ms || deadline_ms > now + HPW_DB_GRACE_MS))
            deadline_ms = now + HPW_DB_GRACE_MS;
    }
}

static int64_t hpw_db_deadline(const hpw_db_t *db)
{
    if (db->timeout_ms == 0)
        return 0;
    return hpw_monotonic_ms() + db->timeout_ms + HPW_DB_GRACE_MS;
}

/* Sends what libpq holds. 0, or -1 with the session closed. */
static int hpw_db_flush(hpw_db_t *db, int64_t deadline_ms)
{
    int rc;

    while ((rc = PQflush(db->conn)) == 1) {
        if (hpw_db_wait(db, POLLIN | POLLOUT, deadline_ms) != 0) {
            hpw_db_lost(db, "no answer in time");
            return -1;
        }
        if (!PQconsumeInput(db->conn))
            break;
    }
    if (rc != 0) {
        hpw_db_lost(db, PQerrorMessage(db->conn));
        return -1;
    }
    return 0;
}

/* The next result of the statement in flight, NULL at its end. -1 with the
 * session closed, else 0. */
static int hpw_db_next(hpw_db_t *db, int64_t deadline_ms, PGresult **result)
{
    while (PQisBusy(db->conn)) {
        if (hpw_db_wait(db, POLLIN, deadline_ms) != 0) {
            hpw_db_lost(db, "no answer in time");
            return -1;
        }
        if (!PQconsumeInput(db->conn)) {
            hpw_db_lost(db, PQerrorMessage(db->conn));
            return -1;
        }
    }
    *result = PQgetResult(db->conn);
    return 0;
}

static void hpw_db_keep_error(hpw_db_t *db, const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    hpw_db_fail(db, state ? state : "08006",
                text ? text : PQresultErrorMessage(result));
}

/* Collects a statement's results: the last one is returned unless one of them
 * is an error. A COPY that asks for data is returned at once. */
static PGresult *hpw_db_results(hpw_db_t *db, int64_t deadline_ms)
{
    PGresult *result, *last = NULL;
    int failed = 0;

    for (;;) {
        if (hpw_db_next(db, deadline_ms, &result) != 0) {
            PQclear(last);
            return NULL;
        }
        if (result == NULL)
            break;
        switch (PQresultStatus(result)) {
        case PGRES_COMMAND_OK:
        case PGRES_TUPLES_OK:
            PQclear(last);
            last = result;
            break;
        case PGRES_COPY_IN:
            PQclear(last);
            return result;
        default:
            if (!failed)
                hpw_db_keep_error(db, result);
            failed = 1;
            PQclear(result);
        }
    }
    if (!failed && last)
        return last;

    if (!failed)
        hpw_db_fail(db, "XX000", "no result");
    PQclear(last);
    if (PQstatus(db->conn) != CONNECTION_OK)
        hpw_db_close(db);
    return NULL;
}

static PGresult *hpw_db_finish(hpw_db_t *db, int sent)
{
    int64_t deadline_ms = hpw_db_deadline(db);

    if (!sent) {
        hpw_db_lost(db, PQerrorMessage(db->conn));
        return NULL;
    }
    if (hpw_db_flush(db, deadline_ms) != 0)
        return NULL;
    return hpw_db_results(db, deadline_ms);
}

static int hpw_db_ready(hpw_db_t *db)
{
    db->sqlstate[0] = 0;
    db->message[0] = 0;
    if (db->conn)
        return 1;
    hpw_db_fail(db, "08003", "the session is closed");
    return 0;
}

PGresult *hpw_db_query(hpw_db_t *db, const char *sql)
{
    return hpw_db_ready(db) ? hpw_db_finish(db, PQsendQuery(db->conn, sql))
                            : NULL;
}

#define HPW_DB_PARAMS 16

typedef struct {
    const char *values[HPW_DB_PARAMS];
    int lengths[HPW_DB_PARAMS];
    int formats[HPW_DB_PARAMS];
} hpw_db_args_t;

static void hpw_db_spread(hpw_db_args_t *args, int count,
                          const hpw_param_t *params)
{
    int i;

    for (i = 0; i < count && i < HPW_DB_PARAMS; i++) {
        args->values[i] = params[i].data;
        args->lengths[i] = params[i].len;
        args->formats[i] = params[i].binary;
    }
}

PGresult *hpw_db_params(hpw_db_t *db, const char *sql, int count,
                        const hpw_param_t *params)
{
    hpw_db_args_t args;

    if (!hpw_db_ready(db))
        return NULL;
    hpw_db_spread(&args, count, params);
    return hpw_db_finish(db, PQsendQueryParams(db->conn, sql, count, NULL,
                                               args.values, args.lengths,
                                               args.formats, 0));
}

PGresult *hpw_db_prepared(hpw_db_t *db, const char *name, int count,
                          const hpw_param_t *params, int binary_result)
{
    hpw_db_args_t args;

    if (!hpw_db_ready(db))
        return NULL;
    hpw_db_spread(&args, count, params);
    return hpw_db_finish(db, PQsendQueryPrepared(db->conn, name, count,
                                                 args.values, args.lengths,
                                                 args.formats, binary_result));
}

static int64_t hpw_db_affected(PGresult *result)
{
    int64_t rows;

    if (result == NULL)
        return -1;
    rows = strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    return rows;
}

int64_t hpw_db_run(hpw_db_t *db, const char *sql)
{
    return hpw_db_affected(hpw_db_query(db, sql));
}

int hpw_db_prepare(hpw_db_t *db, const char *name, const char *sql)
{
    PGresult *result;

    if (!hpw_db_ready(db))
        return -1;
    result = hpw_db_finish(db, PQsendPrepare(db->conn, name, sql, 0, NULL));
    PQclear(result);
    return result ? 0 : -1;
}

int64_t hpw_db_copy(hpw_db_t *db, const char *sql, const hpw_buf_t *data)
{
    int64_t deadline_ms;
    PGresult *result = hpw_db_query(db, sql);
    size_t sent, chunk;

    if (result == NULL)
        return -1;
    if (PQresultStatus(result) != PGRES_COPY_IN) {
        PQclear(result);
        hpw_db_lost(db, "COPY was answered otherwise");
        return -1;
    }
    PQclear(result);
    deadline_ms = hpw_db_deadline(db);

    for (sent = 0; sent < data->len; sent += chunk) {
        chunk = data->len - sent;
        if (chunk > HPW_DB_COPY_CHUNK)
            chunk = HPW_DB_COPY_CHUNK;
        switch (PQputCopyData(db->conn, (const char *)data->data + sent,
                              (int)chunk)) {
        case 1:
            break;
        case 0:
            chunk = 0; /* libpq holds enough already: send that first */
            break;
        default:
            hpw_db_lost(db, PQerrorMessage(db->conn));
            return -1;
        }
        if (hpw_db_flush(db, deadline_ms) != 0)
            return -1;
    }
    return hpw_db_affected(
        hpw_db_finish(db, PQputCopyEnd(db->conn, NULL) == 1));
}

int hpw_db_try_lock(hpw_db_t *db, int64_t key)
{
    char text[32];
    hpw_param_t param = hpw_param_text(text);
    PGresult *result;
    int locked;

    snprintf(text, sizeof(text), "%lld", (long long)key);
    result =
        hpw_db_params(db, "SELECT pg_try_advisory_lock($1::bigint)", 1, &param);
    if (result == NULL)
        return -1;
    locked = PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return locked;
}

int hpw_db_alive(hpw_db_t *db)
{
    if (!hpw_db_ready(db))
        return 0;
    if (!PQconsumeInput(db->conn) || PQstatus(db->conn) != CONNECTION_OK) {
        hpw_db_lost(db, PQerrorMessage(db->conn));
        return 0;
    }
    return 1;
}
