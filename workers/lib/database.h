/*
 * database.h: one PostgreSQL session, and waiting for it with a bound.
 *
 * A session belongs to one thread. Every call returns within
 * statement_timeout_ms plus a grace, and soon after the process was asked to
 * stop: a server that stands still must not hold a worker. What cannot be
 * finished closes the session, and with it go its transaction and its advisory
 * lock; that is the fence all lanes rely on.
 *
 * The last error stays in sqlstate and message until the next call.
 */
#ifndef HPW_DATABASE_H
#define HPW_DATABASE_H

#include <libpq-fe.h>

#include "buffer.h"

typedef struct {
    PGconn *conn;       /* NULL: closed */
    int64_t timeout_ms; /* of one statement at the server; 0: none */
    char sqlstate[6];
    char message[512];
} hpw_db_t;

/* Opens and prepares the session: UTF-8, statement timeout, and limits on
 * idling after which the server drops a session whose client has frozen
 * (lease_ms; 0: none). 0, or -1 with the error set. */
int hpw_db_open(hpw_db_t *db, const char *conninfo, const char *program,
                int64_t statement_timeout_ms, int lease_ms);
void hpw_db_close(hpw_db_t *db);

/* 1 where the last error is about the data of the statement (SQLSTATE classes
 * 21, 22, 23, 54 and P0): the same again would fail the same way. Anything
 * else is about the server, the session or the set-up. */
int hpw_db_data_error(const hpw_db_t *db);

/* A parameter; data NULL is SQL NULL. Binary unless it is text. */
typedef struct {
    const void *data;
    int len;
    int binary;
} hpw_param_t;

hpw_param_t hpw_param_text(const char *text);
hpw_param_t hpw_param_array(const hpw_buf_t *array);

/* Each returns a result to PQclear(), or NULL with the error set. */
PGresult *hpw_db_query(hpw_db_t *db, const char *sql);
PGresult *hpw_db_params(hpw_db_t *db, const char *sql, int count,
                        const hpw_param_t *params);
PGresult *hpw_db_prepared(hpw_db_t *db, const char *name, int count,
                          const hpw_param_t *params, int binary_result);

/* The same for who wants no rows: the number of rows affected, or -1. */
int64_t hpw_db_run(hpw_db_t *db, const char *sql);
int hpw_db_prepare(hpw_db_t *db, const char *name, const char *sql);

/* COPY … FROM STDIN with these bytes. Rows stored, or -1. */
int64_t hpw_db_copy(hpw_db_t *db, const char *sql, const hpw_buf_t *data);

/* Takes the lock without waiting: 1 has it, 0 somebody else has it, -1. */
int hpw_db_try_lock(hpw_db_t *db, int64_t key);

/* 0 where the session has been lost while nobody looked. */
int hpw_db_alive(hpw_db_t *db);

#endif
