/*
 * ctl.h: what the commands of hotpathctl share.
 *
 * One short process, one thread: it opens what a command needs, says on
 * standard output what it did, on standard error what is wrong, and leaves
 * with 0, 1 or 2.
 */
#ifndef HPW_CTL_H
#define HPW_CTL_H

#include "database.h"
#include "settings.h"
#include "stream.h"

typedef struct {
    hpw_common_t common;
    const char *models_dir;
    int64_t wait_s;
    int64_t partitions_ahead_days;
} hpw_ctl_settings_t;

typedef struct {
    hpw_ctl_settings_t settings;
    hpw_db_t db;
    hpw_nats_t nats;
} hpw_ctl_t;

/* What a command gives beside 0 and -1: it was called wrongly, which it has
 * said, and did nothing. */
#define HPW_CTL_USAGE (-2)

/* Says it on standard error; returns -1. */
int hpw_ctl_error(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Connects to NATS, and to the database where that is wanted; waits for both
 * up to wait_s. 0 or -1, said. */
int hpw_ctl_open(hpw_ctl_t *ctl, int database);

/* migrate.c: SQL migrations, daily partitions, tables of read models. */
int hpw_ctl_migrate_database(hpw_ctl_t *ctl);

/* streams.c: creates and updates what schemas/streams/ defines. */
int hpw_ctl_migrate_streams(hpw_ctl_t *ctl);

/* status.c: prints where everything stands. */
int hpw_ctl_status(hpw_ctl_t *ctl, int json);

/* purge.c: a command as main() calls it, argv[0] being its name. */
int hpw_ctl_purge(hpw_ctl_t *ctl, int argc, char **argv);

#endif
