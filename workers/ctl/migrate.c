/*
 * migrate.c: brings the database to what schemas/ describes.
 *
 * Every migration runs once, in the order of its name, in a transaction with
 * the row that remembers it and its checksum; one that was changed after it
 * was applied is refused, because two databases would then differ under one
 * name. Tables of read models are made where they are missing and checked
 * where they are not. An advisory lock lets two callers take turns.
 *
 * Must never drop or rewrite anything by itself. schemas/README.md.
 */
#include "ctl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "hp_id.h"
#include "model.h"

static int hpw_migrate_failed(hpw_ctl_t *ctl, const char *what)
{
    return hpw_ctl_error("%s: %s (SQLSTATE %s)", what, ctl->db.message,
                         ctl->db.sqlstate);
}

/* The checksum under which a migration was applied; "" where it was not. */
static int hpw_migrate_applied(hpw_ctl_t *ctl, const char *name,
                               char checksum[65])
{
    hpw_param_t param = hpw_param_text(name);
    PGresult *result = hpw_db_params(
        &ctl->db, "SELECT checksum FROM hotpath.migrations WHERE name = $1", 1,
        &param);

    if (result == NULL)
        return hpw_migrate_failed(ctl, "hotpath.migrations");
    snprintf(checksum, 65, "%s",
             PQntuples(result) ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return 0;
}

static int hpw_migrate_apply(hpw_ctl_t *ctl, const char *name, const char *sql,
                             const char *checksum)
{
    hpw_param_t params[] = {hpw_param_text(name), hpw_param_text(checksum)};
    PGresult *result;

    if (hpw_db_run(&ctl->db, "BEGIN") < 0 || hpw_db_run(&ctl->db, sql) < 0)
        return hpw_migrate_failed(ctl, name);
    result = hpw_db_params(
        &ctl->db,
        "INSERT INTO hotpath.migrations (name, checksum) VALUES ($1, $2)", 2,
        params);
    PQclear(result);
    if (result == NULL || hpw_db_run(&ctl->db, "COMMIT") < 0)
        return hpw_migrate_failed(ctl, name);
    printf("migration %s: applied\n", name);
    return 0;
}

static int hpw_migrate_file(hpw_ctl_t *ctl, const char *directory,
                            const char *file)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    char path[4400], name[256], known[65], checksum[65] = "", *sql;
    size_t len;
    int rc = 0;

    snprintf(path, sizeof(path), "%s/%s", directory, file);
    snprintf(name, sizeof(name), "%.*s", (int)(strlen(file) - 4), file);
    sql = hpw_file_read(path, &len);
    if (sql == NULL)
        return hpw_ctl_error("%s: %s", path, strerror(errno));
    SHA256((unsigned char *)sql, len, digest);
    hp_hex(checksum, digest, sizeof(digest));

    if (hpw_migrate_applied(ctl, name, known) != 0)
        rc = -1;
    else if (known[0] == 0)
        rc = hpw_migrate_apply(ctl, name, sql, checksum);
    else if (strcmp(known, checksum) != 0)
        rc = hpw_ctl_error("%s: was changed after it was applied;"
                           " restore it and write a new migration",
                           path);
    else
        printf("migration %s: there\n", name);
    free(sql);
    return rc;
}

static int hpw_migrate_is_file(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len > 4 && entry->d_name[0] >= '0' && entry->d_name[0] <= '9' &&
           strcmp(entry->d_name + len - 4, ".sql") == 0;
}

static int hpw_migrate_files(hpw_ctl_t *ctl)
{
    struct dirent **files = NULL;
    char directory[4096];
    int i, found, rc = 0;

    snprintf(directory, sizeof(directory), "%s/migrations",
             ctl->settings.common.schemas_dir);
    found = scandir(directory, &files, hpw_migrate_is_file, alphasort);
    if (found < 0)
        return hpw_ctl_error("%s: %s", directory, strerror(errno));
    if (found == 0)
        rc = hpw_ctl_error("%s: no migrations", directory);
    for (i = 0; i < found; i++) {
        if (rc == 0)
            rc = hpw_migrate_file(ctl, directory, files[i]->d_name);
        free(files[i]);
    }
    free(files);
    return rc;
}

static int hpw_migrate_model(hpw_ctl_t *ctl, const hpw_model_t *model)
{
    hpw_param_t name = hpw_param_text(model->name);
    PGresult *result = hpw_db_params(
        &ctl->db, "SELECT to_regclass('hotpath.' || quote_ident($1)) IS NULL",
        1, &name);
    char error[512];
    int missing;

    if (result == NULL)
        return hpw_migrate_failed(ctl, model->name);
    missing = *PQgetvalue(result, 0, 0) == 't';
    PQclear(result);
    if (missing && (hpw_db_run(&ctl->db, "BEGIN") < 0 ||
                    hpw_db_run(&ctl->db, model->table) < 0))
        return hpw_migrate_failed(ctl, model->name);
    if (hpw_model_verify(model, &ctl->db, error, sizeof(error)) != 0)
        return hpw_ctl_error("read model %s: %s", model->name, error);
    if (missing && hpw_db_run(&ctl->db, "COMMIT") < 0)
        return hpw_migrate_failed(ctl, model->name);
    printf("read model %s: %s\n", model->name, missing ? "made" : "there");
    return 0;
}

static int hpw_migrate_models(hpw_ctl_t *ctl)
{
    hpw_model_t *models;
    char directory[4200], error[512];
    int i, count, rc = 0;

    if (*ctl->settings.models_dir)
        snprintf(directory, sizeof(directory), "%s", ctl->settings.models_dir);
    else
        snprintf(directory, sizeof(directory), "%s/read_models",
                 ctl->settings.common.schemas_dir);
    if (hpw_models_read(directory, &models, &count, error, sizeof(error)) != 0)
        return hpw_ctl_error("%s", error);
    for (i = 0; i < count && rc == 0; i++)
        rc = hpw_migrate_model(ctl, &models[i]);
    hpw_models_free(models, count);
    return rc;
}

static int hpw_migrate_days(hpw_ctl_t *ctl)
{
    char sql[128];
    PGresult *result;

    snprintf(sql, sizeof(sql), "SELECT hotpath.make_event_partitions(%d)",
             (int)ctl->settings.partitions_ahead_days);
    result = hpw_db_query(&ctl->db, sql);
    if (result == NULL)
        return hpw_migrate_failed(ctl, "daily partitions");
    printf("daily partitions: %s made\n", PQgetvalue(result, 0, 0));
    PQclear(result);
    return 0;
}

int hpw_ctl_migrate_database(hpw_ctl_t *ctl)
{
    /* the lock ends with the session; "IF NOT EXISTS" is not enough, since
     * two at once would both find nothing and collide in the catalogue */
    if (hpw_db_run(&ctl->db,
                   "SELECT pg_advisory_lock(hashtext('hotpath.migrate'))") <
            0 ||
        hpw_db_run(&ctl->db, "CREATE SCHEMA IF NOT EXISTS hotpath") < 0 ||
        hpw_db_run(&ctl->db,
                   "CREATE TABLE IF NOT EXISTS hotpath.migrations ("
                   "name text PRIMARY KEY, checksum text NOT NULL,"
                   " applied_at timestamptz NOT NULL DEFAULT now())") < 0)
        return hpw_migrate_failed(ctl, "schema hotpath");
    if (hpw_migrate_files(ctl) != 0 || hpw_migrate_days(ctl) != 0)
        return -1;
    return hpw_migrate_models(ctl);
}
