/*
 * streams.c: brings the broker to what schemas/streams/ describes.
 *
 * A stream that is missing is created. One that is there is compared with its
 * definition, member by member of what the definition says and no more, and
 * updated where it differs; what the broker will not change (storage,
 * retention) is an error that names the member and both values. Consumers are
 * made by the drain that takes a partition.
 *
 * Must never delete a stream. Format: schemas/README.md.
 */
#include "ctl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the broker leaves out is zero, empty or false. */
static int hpw_streams_nothing(const cJSON *value)
{
    return cJSON_IsFalse(value) || cJSON_IsNull(value) ||
           (cJSON_IsNumber(value) && value->valuedouble == 0) ||
           (cJSON_IsString(value) && value->valuestring[0] == 0) ||
           (cJSON_IsArray(value) && value->child == NULL);
}

static const cJSON *hpw_streams_difference(const cJSON *wanted,
                                           const cJSON *config)
{
    const cJSON *item, *have;

    cJSON_ArrayForEach(item, wanted)
    {
        have = cJSON_GetObjectItemCaseSensitive(config, item->string);
        if (have ? !cJSON_Compare(item, have, 1) : !hpw_streams_nothing(item))
            return item;
    }
    return NULL;
}

static void hpw_streams_explain(const char *name, const cJSON *wanted,
                                const cJSON *config)
{
    const cJSON *item, *have;
    char *want, *is;

    cJSON_ArrayForEach(item, wanted)
    {
        have = cJSON_GetObjectItemCaseSensitive(config, item->string);
        if (have ? cJSON_Compare(item, have, 1) : hpw_streams_nothing(item))
            continue;
        want = cJSON_PrintUnformatted(item);
        is = have ? cJSON_PrintUnformatted(have) : NULL;
        hpw_ctl_error("stream %s: %s is %s, the definition says %s", name,
                      item->string, is ? is : "not set", want);
        cJSON_free(want);
        cJSON_free(is);
    }
}

/* Sends config to STREAM.<verb>.<name>. */
static int hpw_streams_send(hpw_ctl_t *ctl, const char *verb, const char *name,
                            const cJSON *config, hpw_js_error_t *error)
{
    char call[256], *body = cJSON_PrintUnformatted(config);

    snprintf(call, sizeof(call), "STREAM.%s.%s", verb, name);
    cJSON_Delete(hpw_js_call(&ctl->nats, call, body, error));
    cJSON_free(body);
    return error->code ? -1 : 0;
}

static int hpw_streams_update(hpw_ctl_t *ctl, const char *name,
                              const cJSON *wanted, const cJSON *config)
{
    cJSON *merged = cJSON_Duplicate(config, 1);
    const cJSON *item;
    hpw_js_error_t error;
    int rc;

    cJSON_ArrayForEach(item, wanted)
    {
        cJSON_DeleteItemFromObjectCaseSensitive(merged, item->string);
        cJSON_AddItemToObject(merged, item->string, cJSON_Duplicate(item, 1));
    }
    rc = hpw_streams_send(ctl, "UPDATE", name, merged, &error);
    cJSON_Delete(merged);
    if (rc != 0) {
        hpw_streams_explain(name, wanted, config);
        return hpw_ctl_error("stream %s: cannot be updated: %s (%d)", name,
                             error.text, error.code);
    }
    printf("stream %s: updated\n", name);
    return 0;
}

static int hpw_streams_ensure(hpw_ctl_t *ctl, const cJSON *wanted)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(wanted, "name");
    const cJSON *config;
    hpw_js_error_t error;
    char call[256];
    cJSON *info;
    int rc = 0;

    if (!cJSON_IsString(name))
        return hpw_ctl_error("a stream definition has no name");
    snprintf(call, sizeof(call), "STREAM.INFO.%s", name->valuestring);
    info = hpw_js_call(&ctl->nats, call, NULL, &error);
    if (error.code == HPW_JS_STREAM_UNKNOWN) {
        if (hpw_streams_send(ctl, "CREATE", name->valuestring, wanted,
                             &error) != 0)
            return hpw_ctl_error("stream %s: cannot be created: %s (%d)",
                                 name->valuestring, error.text, error.code);
        printf("stream %s: created\n", name->valuestring);
        return 0;
    }
    if (info == NULL)
        return hpw_ctl_error("stream %s: %s (%d)", name->valuestring,
                             error.text, error.code);

    config = cJSON_GetObjectItemCaseSensitive(info, "config");
    if (hpw_streams_difference(wanted, config))
        rc = hpw_streams_update(ctl, name->valuestring, wanted, config);
    else
        printf("stream %s: there\n", name->valuestring);
    cJSON_Delete(info);
    return rc;
}

/* One definition, for every partition and priority where it is made for each.
 */
static int hpw_streams_file(hpw_ctl_t *ctl, const char *path)
{
    const hpw_common_t *common = &ctl->settings.common;
    cJSON *root;
    char error[512];
    int64_t i, count = 1, priorities = 1;
    int rc = 0;

    for (i = 0; i < count * priorities && rc == 0; i++) {
        root = hpw_definition_read(common, path, (int)(i / priorities),
                                   (unsigned)(i % priorities), error,
                                   sizeof(error));
        if (root == NULL)
            return hpw_ctl_error("%s", error);
        if (cJSON_GetObjectItemCaseSensitive(root, "each")) {
            count = common->partitions;
            priorities = common->priorities;
        }
        rc = hpw_streams_ensure(
            ctl, cJSON_GetObjectItemCaseSensitive(root, "stream"));
        cJSON_Delete(root);
    }
    return rc;
}

static int hpw_streams_is_file(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return entry->d_name[0] != '.' && len > 5 &&
           strcmp(entry->d_name + len - 5, ".json") == 0;
}

int hpw_ctl_migrate_streams(hpw_ctl_t *ctl)
{
    struct dirent **files = NULL;
    char directory[4096], path[4400];
    int i, found, rc = 0;

    snprintf(directory, sizeof(directory), "%s/streams",
             ctl->settings.common.schemas_dir);
    found = scandir(directory, &files, hpw_streams_is_file, alphasort);
    if (found < 0)
        return hpw_ctl_error("%s: %s", directory, strerror(errno));
    for (i = 0; i < found; i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, files[i]->d_name);
        if (rc == 0)
            rc = hpw_streams_file(ctl, path);
        free(files[i]);
    }
    free(files);
    return rc;
}
