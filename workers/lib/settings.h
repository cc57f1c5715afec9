/*
 * settings.h: what an operator may set, from one file and the environment.
 *
 * A program lists its settings in tables; this reads a flat JSON object
 * (-c file), then HOTPATH_<NAME> from the environment, which wins, and checks
 * every value against its range. An unknown setting in the file, a wrong type
 * or a value out of range ends the program with a sentence. --help lists all.
 * Values live as long as the process. Unit tests:
 * tests/unit/test_workers_settings.c; reference: workers/README.md.
 */
#ifndef HPW_SETTINGS_H
#define HPW_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

typedef enum { HPW_SETTING_TEXT, HPW_SETTING_INT } hpw_setting_type_t;

typedef struct {
    const char *name; /* NULL ends a table */
    hpw_setting_type_t type;
    size_t offset;        /* of a const char * or an int64_t */
    const char *fallback; /* as in the environment */
    int64_t least;        /* INT: range; TEXT: shortest length */
    int64_t most;
    const char *help;
} hpw_setting_t;

/* Opens every program's settings struct. */
typedef struct {
    const char *nats_url;
    const char *nats_user;
    const char *nats_password;
    const char *nats_token;
    const char *nats_credentials;
    const char *postgres;
    const char *stream_prefix;
    const char *subject_prefix;
    const char *dead_stream;
    int64_t partitions;
    int64_t priorities;
    const char *schemas_dir;
    const char *log_level;
    int64_t statement_timeout_ms;
} hpw_common_t;

extern const hpw_setting_t hpw_common_settings[];

typedef struct {
    const char *program;
    const char *summary;      /* one sentence */
    const char *usage;        /* words after the options, or "" */
    const hpw_setting_t *own; /* offsets from the start of the same struct */
} hpw_program_t;

/* Reads the command line and all settings into *common and what follows it,
 * all of it zero or loaded before.
 * Returns the index of the first word after the options. Ends the process for
 * --help, --check (0 where all is well) and for any mistake (2). Sets up the
 * log. */
int hpw_settings_main(const hpw_program_t *program, hpw_common_t *common,
                      int argc, char **argv);

/* The same without ending the process: 0, or -1 with a sentence in error.
 * file may be NULL. */
int hpw_settings_load(const hpw_program_t *program, hpw_common_t *common,
                      const char *file, char *error, size_t size);

/* The whole file, terminated; *len may be NULL. NULL with errno set. The
 * caller frees it. Files over 16 MiB are refused (EFBIG). */
char *hpw_file_read(const char *path, size_t *len);

#endif
