/*
 * model.c: a read model as its SQL file describes it.
 *
 * The file is read line by line: header lines "-- model:" and "-- events:",
 * then the sections "-- section: table" and "-- section: apply". The SQL
 * inside is not looked into: it is the operator's, runs with the rights of the
 * database role, and is checked by PostgreSQL and by hpw_model_verify().
 * Runs at start, on the main thread or a lane's. Owns what is in hpw_model_t.
 */
#include "model.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_id.h"
#include "settings.h"

typedef struct {
    const char *path;
    char *error;
    size_t size;
    int line;
} hpw_model_reader_t;

static int hpw_model_refuse(hpw_model_reader_t *reader, const char *what)
{
    snprintf(reader->error, reader->size, "%s:%d: %s", reader->path,
             reader->line, what);
    return -1;
}

/* Cuts white space off both ends, in place. */
static char *hpw_trim(char *text)
{
    size_t len;

    text += strspn(text, " \t\r");
    len = strlen(text);
    while (len && strchr(" \t\r;\n", text[len - 1]))
        text[--len] = 0;
    return text;
}

static int hpw_model_events(hpw_model_t *model, char *list,
                            hpw_model_reader_t *reader)
{
    char *word;

    if (model->event_count)
        return hpw_model_refuse(reader, "events are given twice");
    while ((word = strsep(&list, ","))) {
        word = hpw_trim(word);
        if (*word == 0 || strlen(word) > HP_TYPE_MAX)
            return hpw_model_refuse(reader,
                                    "an event type has 1 to 255 characters");
        if (model->event_count == HPW_MODEL_EVENTS)
            return hpw_model_refuse(reader, "more than 64 event types");
        model->events[model->event_count++] = hpw_strdup(word);
    }
    return 0;
}

static int hpw_model_name(hpw_model_t *model, const char *name,
                          hpw_model_reader_t *reader)
{
    const char *slash = strrchr(reader->path, '/');
    const char *file = slash ? slash + 1 : reader->path;
    hp_str_t text = {(const unsigned char *)name, strlen(name)};

    if (model->name[0])
        return hpw_model_refuse(reader, "the model is named twice");
    if (!hp_model_valid(text))
        return hpw_model_refuse(reader,
                                "a model is named [a-z][a-z0-9_]{0,62}");
    if (strncmp(file, name, text.len) != 0 ||
        strcmp(file + text.len, ".sql") != 0)
        return hpw_model_refuse(reader, "the file must be named <model>.sql");
    memcpy(model->name, name, text.len + 1);
    return 0;
}

/* The value of a line "-- <name>: <value>", or NULL. */
static char *hpw_model_header(char *line, const char *name)
{
    size_t len = strlen(name);

    if (strncmp(line, "-- ", 3) != 0 || strncmp(line + 3, name, len) != 0 ||
        line[3 + len] != ':')
        return NULL;
    return hpw_trim(line + 4 + len);
}

static int hpw_model_line(hpw_model_t *model, char *line, hpw_buf_t *sections,
                          hpw_buf_t **into, hpw_model_reader_t *reader)
{
    char *value = hpw_model_header(line, "section");

    if (value) {
        if (strcmp(value, "table") == 0)
            *into = &sections[0];
        else if (strcmp(value, "apply") == 0)
            *into = &sections[1];
        else
            return hpw_model_refuse(reader, "a section is table or apply");
        if ((*into)->size)
            return hpw_model_refuse(reader, "the section is there twice");
        hpw_buf_text(*into);
        return 0;
    }
    if (*into) {
        hpw_buf_printf(*into, "%s\n", line);
        return 0;
    }
    if ((value = hpw_model_header(line, "model")))
        return hpw_model_name(model, value, reader);
    if ((value = hpw_model_header(line, "events")))
        return hpw_model_events(model, value, reader);
    if (strncmp(line, "--", 2) != 0 && *hpw_trim(line))
        return hpw_model_refuse(reader, "SQL before the first section");
    return 0;
}

/* Has anything but comments and white space. */
static int hpw_model_has_sql(const char *text)
{
    while (*text) {
        text += strspn(text, " \t\r\n;");
        if (strncmp(text, "--", 2) != 0)
            return *text != 0;
        text += strcspn(text, "\n");
    }
    return 0;
}

int hpw_model_parse(hpw_model_t *model, const char *path, const char *text,
                    char *error, size_t size)
{
    hpw_model_reader_t reader = {path, error, size, 0};
    hpw_buf_t sections[2] = {{0}, {0}}, *into = NULL;
    char *copy = hpw_strdup(text), *line = copy, *end;
    int rc = 0;

    memset(model, 0, sizeof(*model));
    while (rc == 0 && line) {
        reader.line++;
        end = strchr(line, '\n');
        if (end)
            *end = 0;
        rc = hpw_model_line(model, line, sections, &into, &reader);
        line = end ? end + 1 : NULL;
    }
    free(copy);
    model->table = hpw_buf_text(&sections[0]);
    model->apply = hpw_trim(hpw_buf_text(&sections[1]));
    if (rc != 0) {
        /* said already */
    } else if (model->name[0] == 0) {
        rc = hpw_model_refuse(&reader, "no line \"-- model: <name>\"");
    } else if (model->event_count == 0) {
        rc = hpw_model_refuse(&reader, "no line \"-- events: <types>\"");
    } else if (!hpw_model_has_sql(model->table)) {
        rc = hpw_model_refuse(&reader, "the section table is missing");
    } else if (!hpw_model_has_sql(model->apply)) {
        rc = hpw_model_refuse(&reader, "the section apply is missing");
    }
    /* apply may point past white space: keep the start that can be freed */
    model->apply = hpw_strdup(model->apply);
    hpw_buf_free(&sections[1]);
    return rc;
}

void hpw_model_free(hpw_model_t *model)
{
    int i;

    for (i = 0; i < model->event_count; i++)
        free(model->events[i]);
    free(model->table);
    free(model->apply);
    memset(model, 0, sizeof(*model));
}

static int hpw_model_is_file(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return entry->d_name[0] != '.' && len > 4 &&
           strcmp(entry->d_name + len - 4, ".sql") == 0;
}

int hpw_models_read(const char *directory, hpw_model_t **models, int *count,
                    char *error, size_t size)
{
    struct dirent **files = NULL;
    char path[4400], *text;
    int i, found, rc = 0;

    *models = NULL;
    *count = 0;
    found = scandir(directory, &files, hpw_model_is_file, alphasort);
    if (found < 0) {
        snprintf(error, size, "%s: %s", directory, strerror(errno));
        return -1;
    }
    *models = hpw_alloc((size_t)found, sizeof(**models));
    for (i = 0; i < found; i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, files[i]->d_name);
        free(files[i]);
        if (rc != 0)
            continue;
        text = hpw_file_read(path, NULL);
        if (text == NULL) {
            snprintf(error, size, "%s: %s", path, strerror(errno));
            rc = -1;
            continue;
        }
        rc = hpw_model_parse(&(*models)[(*count)++], path, text, error, size);
        free(text);
    }
    free(files);
    if (rc != 0) {
        hpw_models_free(*models, *count);
        *models = NULL;
        *count = 0;
    }
    return rc;
}

void hpw_models_free(hpw_model_t *models, int count)
{
    int i;

    for (i = 0; i < count; i++)
        hpw_model_free(&models[i]);
    free(models);
}

/* What is wrong with the table, one line per fault; no row: nothing. */
static const char hpw_model_check[] =
    "WITH want(name, types) AS (VALUES"
    " ('tenant', '{text}'::regtype[]), ('key', '{text}'),"
    " ('version', '{bigint}'), ('document', '{text,json,jsonb}'),"
    " ('modified_at', '{timestamptz}'), ('deleted', '{boolean}'),"
    " ('partition', '{integer}'), ('position', '{bigint}')),"
    " rel AS (SELECT to_regclass('hotpath.' || quote_ident($1)) AS id)"
    " SELECT 'table hotpath.' || $1 || ' does not exist:"
    " run hotpathctl migrate' FROM rel WHERE id IS NULL"
    " UNION ALL"
    " SELECT format('column %s of hotpath.%s must be NOT NULL of type %s',"
    " w.name, $1, array_to_string(w.types, ' or '))"
    " FROM want w CROSS JOIN rel WHERE rel.id IS NOT NULL AND NOT EXISTS ("
    " SELECT FROM pg_attribute a WHERE a.attrelid = rel.id"
    " AND a.attname = w.name AND NOT a.attisdropped AND a.attnotnull"
    " AND a.atttypid = ANY (w.types::oid[]))"
    " UNION ALL"
    " SELECT format('hotpath.%s must have the primary key (tenant, key)',"
    " $1) FROM rel WHERE rel.id IS NOT NULL AND NOT EXISTS ("
    " SELECT FROM pg_index i WHERE i.indrelid = rel.id AND i.indisprimary"
    " AND i.indnkeyatts = 2 AND (SELECT array_agg(a.attname::text ORDER BY"
    " a.attname) FROM pg_attribute a WHERE a.attrelid = rel.id"
    " AND a.attnum = ANY (i.indkey)) = '{key,tenant}')";

int hpw_model_verify(const hpw_model_t *model, hpw_db_t *db, char *error,
                     size_t size)
{
    hpw_param_t name = hpw_param_text(model->name);
    PGresult *result = hpw_db_params(db, hpw_model_check, 1, &name);
    int faults;

    if (result == NULL) {
        snprintf(error, size, "%s", db->message);
        return -1;
    }
    faults = PQntuples(result);
    if (faults)
        snprintf(error, size, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return faults ? 1 : 0;
}
