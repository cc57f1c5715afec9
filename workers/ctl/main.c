/*
 * main.c: hotpathctl, wiring only.
 *
 *   hotpathctl migrate          database, read models and streams
 *   hotpathctl status [--json]  where everything stands
 *   hotpathctl purge …          what the instances of nginx have cached
 *
 * Waits up to wait_s for servers that are still starting, does its command,
 * and leaves with 0, 1 (something is wrong, said on standard error) or 2
 * (called wrongly). Everything it does can be repeated without harm.
 */
#include "ctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "signals.h"

#define HPW_CTL(field) offsetof(hpw_ctl_settings_t, field)

#define HPW_CTL_COMMANDS                                                       \
    "migrate | status [--json] |\n"                                            \
    "       purge --model MODEL [--tenant TENANT] [--key KEY ... | --tag TAG]" \
    "\n             [--soft | --hard] [--json]"

static const hpw_setting_t hpw_ctl_settings[] = {
    {"models_dir", HPW_SETTING_TEXT, HPW_CTL(models_dir), "", 0, 4096,
     "directory of read models; empty: read_models in schemas_dir"},
    {"wait_s", HPW_SETTING_INT, HPW_CTL(wait_s), "30", 0, 3600,
     "how long to wait for servers to come up"},
    {"partitions_ahead_days", HPW_SETTING_INT, HPW_CTL(partitions_ahead_days),
     "3", 1, 60, "daily tables of hotpath.events made ahead"},
    {0},
};

int hpw_ctl_error(const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fputs("hotpathctl: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return -1;
}

int hpw_ctl_open(hpw_ctl_t *ctl, int database)
{
    const hpw_common_t *common = &ctl->settings.common;
    int64_t until = hpw_monotonic_ms() + ctl->settings.wait_s * 1000;
    hpw_backoff_t backoff = {100, 1000, 0};
    char error[256] = "";
    int64_t timeout_ms = 0; /* a migration may take its time */

    for (;;) {
        if (database && ctl->db.conn == NULL)
            hpw_db_open(&ctl->db, common->postgres, "hotpathctl", timeout_ms,
                        0);
        if (ctl->nats.nc == NULL)
            hpw_nats_try(&ctl->nats, common, "hotpathctl", error,
                         sizeof(error));
        if ((!database || ctl->db.conn) && ctl->nats.nc)
            return 0;
        if (hpw_stopping() || hpw_monotonic_ms() >= until) {
            if (database && ctl->db.conn == NULL)
                hpw_ctl_error("postgres: %s", ctl->db.message);
            if (ctl->nats.nc == NULL)
                hpw_ctl_error("nats at %s: %s", common->nats_url, error);
            return -1;
        }
        hpw_backoff_sleep(&backoff);
    }
}

static int hpw_ctl_usage(void)
{
    hpw_ctl_error("usage: hotpathctl [-c FILE] %s", HPW_CTL_COMMANDS);
    return HPW_CTL_USAGE;
}

static int hpw_ctl_run(hpw_ctl_t *ctl, int argc, char **argv)
{
    const char *command = argc ? argv[0] : "";
    int json = argc == 2 && strcmp(argv[1], "--json") == 0;

    if (strcmp(command, "purge") == 0)
        return hpw_ctl_purge(ctl, argc, argv);
    if (strcmp(command, "status") == 0 && argc == 1 + json)
        return hpw_ctl_open(ctl, 1) == 0 ? hpw_ctl_status(ctl, json) : -1;
    if (strcmp(command, "migrate") != 0 || argc != 1)
        return hpw_ctl_usage();
    if (hpw_ctl_open(ctl, 1) != 0 || hpw_ctl_migrate_database(ctl) != 0)
        return -1;
    return hpw_ctl_migrate_streams(ctl);
}

int main(int argc, char **argv)
{
    static const hpw_program_t program = {
        "hotpathctl", "prepares a Hotpath, shows where it stands, purges",
        HPW_CTL_COMMANDS, hpw_ctl_settings};
    static hpw_ctl_t ctl;
    int word = hpw_settings_main(&program, &ctl.settings.common, argc, argv);
    int rc;

    if (hpw_signals_init() != 0)
        return 1;
    rc = hpw_ctl_run(&ctl, argc - word, argv + word);
    hpw_nats_close(&ctl.nats);
    hpw_db_close(&ctl.db);
    return rc == 0 ? 0 : rc == HPW_CTL_USAGE ? 2 : 1;
}
