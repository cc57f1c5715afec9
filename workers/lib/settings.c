/*
 * settings.c: what an operator may set, from one file and the environment.
 *
 * Runs once, in main(), before any thread. Text values are copied, freed where
 * another value takes their place, and otherwise wanted until exit. Secrets may
 * come from file or environment and are never printed; --help shows defaults,
 * not values.
 *
 * Refused: unknown names in the file, nested values, duplicates, numbers that
 * are no integers, values out of range. Unknown HOTPATH_ variables are not,
 * since several programs share one environment.
 */
#include "settings.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "buffer.h"
#include "hp_priority.h"
#include "log.h"

#define HPW_FILE_MAX (16 * 1024 * 1024)

#define HPW_COMMON(field) offsetof(hpw_common_t, field)

const hpw_setting_t hpw_common_settings[] = {
    {"nats_url", HPW_SETTING_TEXT, HPW_COMMON(nats_url),
     "nats://127.0.0.1:4222", 1, 4096, "NATS servers, comma separated"},
    {"nats_user", HPW_SETTING_TEXT, HPW_COMMON(nats_user), "", 0, 256,
     "NATS user"},
    {"nats_password", HPW_SETTING_TEXT, HPW_COMMON(nats_password), "", 0, 1024,
     "NATS password"},
    {"nats_token", HPW_SETTING_TEXT, HPW_COMMON(nats_token), "", 0, 4096,
     "NATS token"},
    {"nats_credentials", HPW_SETTING_TEXT, HPW_COMMON(nats_credentials), "", 0,
     4096, "NATS credentials file"},
    {"postgres", HPW_SETTING_TEXT, HPW_COMMON(postgres), "dbname=hotpath", 1,
     4096, "libpq connection string, straight to the server"},
    {"stream_prefix", HPW_SETTING_TEXT, HPW_COMMON(stream_prefix),
     "HOTPATH_EVENTS", 1, 64, "stream names are <prefix>_<partition>"},
    {"subject_prefix", HPW_SETTING_TEXT, HPW_COMMON(subject_prefix), "hotpath",
     1, 64, "first token of every subject"},
    {"dead_stream", HPW_SETTING_TEXT, HPW_COMMON(dead_stream), "HOTPATH_DEAD",
     1, 64, "stream of dead letters"},
    {"partitions", HPW_SETTING_INT, HPW_COMMON(partitions), "2", 1, 256,
     "number of partitions, the same everywhere"},
    {"priorities", HPW_SETTING_INT, HPW_COMMON(priorities), "1", 1,
     HP_PRIORITIES, "streams of a partition: normal, high, low; as in nginx"},
    {"schemas_dir", HPW_SETTING_TEXT, HPW_COMMON(schemas_dir), "schemas", 1,
     4096, "directory with migrations, read_models and streams"},
    {"log_level", HPW_SETTING_TEXT, HPW_COMMON(log_level), "info", 1, 16,
     "debug, info, warn or error"},
    {"statement_timeout_ms", HPW_SETTING_INT, HPW_COMMON(statement_timeout_ms),
     "30000", 0, 86400000, "for one SQL statement; 0: none"},
    {0},
};

char *hpw_file_read(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    hpw_buf_t buf = {0};
    size_t n;

    if (file == NULL)
        return NULL;
    do {
        n = fread(hpw_buf_extend(&buf, 16384), 1, 16384, file);
        buf.len -= 16384 - n;
    } while (n > 0 && buf.len <= HPW_FILE_MAX);

    if (ferror(file) || buf.len > HPW_FILE_MAX) {
        n = (size_t)(buf.len > HPW_FILE_MAX ? EFBIG : errno);
        fclose(file);
        hpw_buf_free(&buf);
        errno = (int)n;
        return NULL;
    }
    fclose(file);
    if (len)
        *len = buf.len;
    return hpw_buf_text(&buf);
}

static int hpw_settings_set(hpw_common_t *base, const hpw_setting_t *setting,
                            const char *value, const char *source, char *error,
                            size_t size)
{
    char *place = (char *)base + setting->offset, *end;
    long long number;
    size_t len = strlen(value);

    if (setting->type == HPW_SETTING_TEXT) {
        if ((int64_t)len < setting->least || (int64_t)len > setting->most) {
            snprintf(error, size, "%s: %s must have %lld to %lld characters",
                     source, setting->name, (long long)setting->least,
                     (long long)setting->most);
            return -1;
        }
        free(*(char **)place);
        *(char **)place = hpw_strdup(value);
        return 0;
    }

    errno = 0;
    number = strtoll(value, &end, 10);
    if (len == 0 || *end || isspace((unsigned char)value[0]) || errno ||
        number < setting->least || number > setting->most) {
        snprintf(
            error, size,
            "%s: %s must be a whole number from %lld to %lld, not \"%.40s\"",
            source, setting->name, (long long)setting->least,
            (long long)setting->most, value);
        return -1;
    }
    *(int64_t *)place = number;
    return 0;
}

static const hpw_setting_t *hpw_settings_find(const hpw_program_t *program,
                                              const char *name)
{
    const hpw_setting_t *tables[] = {hpw_common_settings, program->own}, *s;
    size_t i;

    for (i = 0; i < 2; i++) {
        for (s = tables[i]; s && s->name; s++) {
            if (strcmp(s->name, name) == 0)
                return s;
        }
    }
    return NULL;
}

static int hpw_settings_file(const hpw_program_t *program, hpw_common_t *base,
                             const char *file, char *error, size_t size)
{
    char number[32], *text = hpw_file_read(file, NULL);
    const hpw_setting_t *setting;
    const char *end = NULL;
    cJSON *root, *item;
    int rc = -1;

    if (text == NULL) {
        snprintf(error, size, "%s: %s", file, strerror(errno));
        return -1;
    }
    root = cJSON_ParseWithOpts(text, &end, 1);
    if (!cJSON_IsObject(root)) {
        snprintf(error, size, "%s: no JSON object (character %ld)", file,
                 end ? (long)(end - text) : 0L);
        goto done;
    }
    cJSON_ArrayForEach(item, root)
    {
        setting = hpw_settings_find(program, item->string);
        if (setting == NULL) {
            snprintf(error, size, "%s: unknown setting \"%.64s\"", file,
                     item->string);
            goto done;
        }
        if (cJSON_GetObjectItemCaseSensitive(root, item->string) != item) {
            snprintf(error, size, "%s: %s is there twice", file, item->string);
            goto done;
        }
        if (cJSON_IsNumber(item) && setting->type == HPW_SETTING_INT) {
            snprintf(number, sizeof(number), "%.17g", item->valuedouble);
        } else if (!cJSON_IsString(item) || setting->type != HPW_SETTING_TEXT) {
            snprintf(error, size, "%s: %s must be a %s", file, item->string,
                     setting->type == HPW_SETTING_TEXT ? "string" : "number");
            goto done;
        }
        if (hpw_settings_set(base, setting,
                             cJSON_IsNumber(item) ? number : item->valuestring,
                             file, error, size) != 0)
            goto done;
    }
    rc = 0;

done:
    cJSON_Delete(root);
    free(text);
    return rc;
}

static void hpw_settings_variable(char *dst, size_t size, const char *name)
{
    size_t i = (size_t)snprintf(dst, size, "HOTPATH_");

    for (; *name && i + 1 < size; name++)
        dst[i++] = (char)toupper((unsigned char)*name);
    dst[i] = 0;
}

int hpw_settings_load(const hpw_program_t *program, hpw_common_t *common,
                      const char *file, char *error, size_t size)
{
    const hpw_setting_t *tables[] = {hpw_common_settings, program->own}, *s;
    char variable[128];
    const char *value;
    size_t i;

    for (i = 0; i < 2; i++) {
        for (s = tables[i]; s && s->name; s++) {
            if (hpw_settings_set(common, s, s->fallback, "default", error,
                                 size) != 0)
                return -1;
        }
    }
    if (file && hpw_settings_file(program, common, file, error, size) != 0)
        return -1;

    for (i = 0; i < 2; i++) {
        for (s = tables[i]; s && s->name; s++) {
            hpw_settings_variable(variable, sizeof(variable), s->name);
            value = getenv(variable);
            if (value &&
                hpw_settings_set(common, s, value, variable, error, size) != 0)
                return -1;
        }
    }
    return 0;
}

static void hpw_settings_help(const hpw_program_t *program)
{
    const hpw_setting_t *tables[] = {hpw_common_settings, program->own}, *s;
    size_t i;

    printf("%s: %s\n\n"
           "usage: %s [-c FILE] [--check] [--help] %s\n\n"
           "  -c FILE   settings, one flat JSON object\n"
           "  --check   read the settings, say what is wrong, exit\n\n"
           "Settings, each also as an environment variable HOTPATH_<NAME>,\n"
           "which wins over the file:\n",
           program->program, program->summary, program->program,
           program->usage);
    for (i = 0; i < 2; i++) {
        for (s = tables[i]; s && s->name; s++)
            printf("  %-22s %s [%s]\n", s->name, s->help, s->fallback);
    }
}

int hpw_settings_main(const hpw_program_t *program, hpw_common_t *common,
                      int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *file = NULL;
    char error[512];
    int option, check = 0;

    /* "+": what follows the first word belongs to that word */
    while ((option = getopt_long(argc, argv, "+c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            file = optarg;
            break;
        case 'k':
            check = 1;
            break;
        case 'h':
            hpw_settings_help(program);
            exit(0);
        default:
            exit(2);
        }
    }
    if (*program->usage == 0 && optind < argc) {
        fprintf(stderr, "%s: unexpected \"%s\"\n", program->program,
                argv[optind]);
        exit(2);
    }
    if (hpw_settings_load(program, common, file, error, sizeof(error)) != 0) {
        fprintf(stderr, "%s: %s\n", program->program, error);
        exit(2);
    }
    if (hpw_log_init(program->program, common->log_level) != 0) {
        fprintf(stderr, "%s: log_level must be debug, info, warn or error\n",
                program->program);
        exit(2);
    }
    if (check) {
        printf("%s: settings are valid\n", program->program);
        exit(0);
    }
    return optind;
}
