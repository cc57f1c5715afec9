/*
 * main.c: hotpathctl, wiring only.
 *
 *   hotpathctl migrate          database, read models and streams
 *   hotpathctl status [--json]  where everything stands
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

static int hpw_ctl_open(hpw_ctl_t *ctl)
{
    const hpw_common_t *common = &ctl->settings.common;
    int64_t until = hpw_monotonic_ms() + ctl->settings.wait_s * 1000;
    hpw_backoff_t backoff = {100, 1000, 0};
    char error[256] = "";
    int64_t timeout_ms = 0; /* a migration may take its time */

    while (ctl->db.conn == NULL || ctl->nats.nc == NULL) {
        if (ctl->db.conn == NULL)
            hpw_db_open(&ctl->db, common->postgres, "hotpathctl", timeout_ms,
                        0);
        if (ctl->nats.nc == NULL)
            hpw_nats_try(&ctl->nats, common, "hotpathctl", error,
                         sizeof(error));
        if (ctl->db.conn && ctl->nats.nc)
            break;
        if (hpw_stopping() || hpw_monotonic_ms() >= until) {
            if (ctl->db.conn == NULL)
                hpw_ctl_error("postgres: %s", ctl->db.message);
            if (ctl->nats.nc == NULL)
                hpw_ctl_error("nats at %s: %s", common->nats_url, error);
            return -1;
        }
        hpw_backoff_sleep(&backoff);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const hpw_program_t program = {
        "hotpathctl", "prepares a Hotpath and shows where it stands",
        "migrate | status [--json]", hpw_ctl_settings};
    static hpw_ctl_t ctl;
    int word = hpw_settings_main(&program, &ctl.settings.common, argc, argv);
    const char *command = word < argc ? argv[word] : "";
    const char *option = word + 1 < argc ? argv[word + 1] : "";
    int migrate = strcmp(command, "migrate") == 0, rc = -1;
    int json = strcmp(option, "--json") == 0;

    if ((!migrate && strcmp(command, "status") != 0) ||
        argc > word + 1 + (migrate ? 0 : json)) {
        hpw_ctl_error("%s", "usage: hotpathctl [-c FILE] migrate |"
                            " status [--json]");
        return 2;
    }
    if (hpw_signals_init() != 0)
        return 1;
    if (hpw_ctl_open(&ctl) == 0) {
        if (migrate)
            rc = hpw_ctl_migrate_database(&ctl) == 0 &&
                         hpw_ctl_migrate_streams(&ctl) == 0
                     ? 0
                     : -1;
        else
            rc = hpw_ctl_status(&ctl, json);
    }
    hpw_nats_close(&ctl.nats);
    hpw_db_close(&ctl.db);
    return rc == 0 ? 0 : 1;
}
