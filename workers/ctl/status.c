/*
 * status.c: prints where everything stands, for people and for programs.
 *
 * Asks the broker about every partition's stream and consumer and about the
 * dead letters, and the database about partitions and projections; puts it all
 * into one JSON object, which is printed as it is (--json) or as a table. What
 * could not be asked is missing from the answer and makes the exit status 1.
 *
 * Reads only. Shape of the object: workers/README.md.
 */
#include "ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double hpw_status_number(const cJSON *object, const char *name)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static const char *hpw_status_text(const cJSON *object, const char *name)
{
    const char *text =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));

    return text ? text : "";
}

/* Asks $JS.API.<verb>.<name>. NULL with the reason said. */
static cJSON *hpw_status_ask(hpw_ctl_t *ctl, const char *verb, const char *name)
{
    hpw_js_error_t error;
    char call[256];
    cJSON *info;

    snprintf(call, sizeof(call), "%s.INFO.%s", verb, name);
    info = hpw_js_call(&ctl->nats, call, NULL, &error);
    if (info == NULL)
        hpw_ctl_error("%s: %s (%d)", name, error.text, error.code);
    return info;
}

static int hpw_status_stream(hpw_ctl_t *ctl, cJSON *list, int partition,
                             unsigned priority)
{
    char name[HPW_STREAM_NAME], consumer[200], call[256];
    hpw_js_error_t error;
    const cJSON *state;
    cJSON *info, *row;

    hpw_stream_name(name, &ctl->settings.common, partition, priority);
    info = hpw_status_ask(ctl, "STREAM", name);
    if (info == NULL)
        return -1;
    state = cJSON_GetObjectItemCaseSensitive(info, "state");
    row = cJSON_CreateObject();
    cJSON_AddItemToArray(list, row);
    cJSON_AddNumberToObject(row, "partition", partition);
    cJSON_AddStringToObject(row, "priority", hp_priority_name(priority));
    cJSON_AddStringToObject(row, "name", name);
    cJSON_AddStringToObject(row, "created", hpw_status_text(info, "created"));
    cJSON_AddNumberToObject(row, "messages",
                            hpw_status_number(state, "messages"));
    cJSON_AddNumberToObject(row, "bytes", hpw_status_number(state, "bytes"));
    cJSON_AddNumberToObject(row, "first_sequence",
                            hpw_status_number(state, "first_seq"));
    cJSON_AddNumberToObject(row, "last_sequence",
                            hpw_status_number(state, "last_seq"));
    cJSON_Delete(info);

    snprintf(consumer, sizeof(consumer), "%s.drain", name);
    snprintf(call, sizeof(call), "CONSUMER.INFO.%s", consumer);
    info = hpw_js_call(&ctl->nats, call, NULL, &error);
    if (info == NULL && error.code != HPW_JS_CONSUMER_UNKNOWN)
        return hpw_ctl_error("%s: %s (%d)", consumer, error.text, error.code);
    /* no drain has ever held this lane: everything is still to come */
    cJSON_AddNumberToObject(row, "pending",
                            info ? hpw_status_number(info, "num_pending")
                                 : hpw_status_number(row, "messages"));
    cJSON_AddNumberToObject(
        row, "unacked", info ? hpw_status_number(info, "num_ack_pending") : 0);
    cJSON_Delete(info);
    return 0;
}

static int hpw_status_broker(hpw_ctl_t *ctl, cJSON *root)
{
    cJSON *list = cJSON_AddArrayToObject(root, "streams"), *info;
    int64_t i, priorities = ctl->settings.common.priorities;
    int rc = 0;

    for (i = 0; i < ctl->settings.common.partitions * priorities; i++) {
        if (hpw_status_stream(ctl, list, (int)(i / priorities),
                              (unsigned)(i % priorities)) != 0)
            rc = -1;
    }
    info = hpw_status_ask(ctl, "STREAM", ctl->settings.common.dead_stream);
    if (info == NULL)
        return -1;
    cJSON_AddNumberToObject(
        root, "dead_letters",
        hpw_status_number(cJSON_GetObjectItemCaseSensitive(info, "state"),
                          "messages"));
    cJSON_Delete(info);
    return rc;
}

/* Adds root[name]: an array that the database wrote. */
static int hpw_status_rows(hpw_ctl_t *ctl, cJSON *root, const char *name,
                           const char *sql)
{
    PGresult *result = hpw_db_query(&ctl->db, sql);
    cJSON *rows;

    if (result == NULL)
        return hpw_ctl_error("%s: %s", name, ctl->db.message);
    rows = cJSON_Parse(PQgetvalue(result, 0, 0));
    PQclear(result);
    cJSON_AddItemToObject(root, name, rows ? rows : cJSON_CreateArray());
    return 0;
}

static int hpw_status_database(hpw_ctl_t *ctl, cJSON *root)
{
    int rc;

    rc = hpw_status_rows(
        ctl, root, "partitions",
        "SELECT coalesce(json_agg(p ORDER BY p.partition), '[]') FROM"
        " (SELECT partition, last_position, last_sequence, stream_created,"
        " updated_at FROM hotpath.partitions) p");
    if (hpw_status_rows(
            ctl, root, "stored",
            "SELECT coalesce(json_agg(s ORDER BY s.partition, s.priority),"
            " '[]') FROM hotpath.streams s") != 0)
        rc = -1;
    if (hpw_status_rows(
            ctl, root, "projections",
            "SELECT coalesce(json_agg(j ORDER BY j.model, j.partition), '[]')"
            " FROM (SELECT r.model, r.partition, r.position,"
            " r.pushed_position, coalesce(p.last_position, 0) - r.position AS "
            "lag,"
            " (SELECT count(*) FROM hotpath.projection_errors e WHERE"
            " e.model = r.model AND e.partition = r.partition) AS errors"
            " FROM hotpath.projections r"
            " LEFT JOIN hotpath.partitions p USING (partition)) j") != 0)
        rc = -1;
    return rc;
}

static void hpw_status_table(const cJSON *root)
{
    const cJSON *row, *dead;

    printf("%-24s %10s %10s %10s %12s %12s\n", "stream", "messages", "pending",
           "unacked", "first", "last");
    cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(root, "streams"))
    {
        printf("%-24s %10.0f %10.0f %10.0f %12.0f %12.0f\n",
               hpw_status_text(row, "name"), hpw_status_number(row, "messages"),
               hpw_status_number(row, "pending"),
               hpw_status_number(row, "unacked"),
               hpw_status_number(row, "first_sequence"),
               hpw_status_number(row, "last_sequence"));
    }
    printf("\n%-24s %14s %14s  %s\n", "partition", "position", "sequence",
           "updated");
    cJSON_ArrayForEach(row,
                       cJSON_GetObjectItemCaseSensitive(root, "partitions"))
    {
        printf("%-24.0f %14.0f %14.0f  %s\n",
               hpw_status_number(row, "partition"),
               hpw_status_number(row, "last_position"),
               hpw_status_number(row, "last_sequence"),
               hpw_status_text(row, "updated_at"));
    }
    printf("\n%-20s %9s %12s %12s %8s %8s\n", "read model", "partition",
           "position", "pushed", "lag", "errors");
    cJSON_ArrayForEach(row,
                       cJSON_GetObjectItemCaseSensitive(root, "projections"))
    {
        printf("%-20s %9.0f %12.0f %12.0f %8.0f %8.0f\n",
               hpw_status_text(row, "model"),
               hpw_status_number(row, "partition"),
               hpw_status_number(row, "position"),
               hpw_status_number(row, "pushed_position"),
               hpw_status_number(row, "lag"), hpw_status_number(row, "errors"));
    }
    dead = cJSON_GetObjectItemCaseSensitive(root, "dead_letters");
    if (dead)
        printf("\ndead letters: %.0f\n", dead->valuedouble);
}

int hpw_ctl_status(hpw_ctl_t *ctl, int json)
{
    cJSON *root = cJSON_CreateObject();
    char *text;
    int rc = hpw_status_broker(ctl, root);

    if (hpw_status_database(ctl, root) != 0)
        rc = -1;
    if (json) {
        text = cJSON_Print(root);
        puts(text);
        cJSON_free(text);
    } else {
        hpw_status_table(root);
    }
    cJSON_Delete(root);
    return rc;
}
