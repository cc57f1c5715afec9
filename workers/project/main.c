/*
 * main.c: hotpath-project, wiring only.
 *
 * Turns stored events into read models and hands new documents out: one thread
 * per model and partition (lane.c), a health port, and this thread, which
 * waits to be asked to stop. Exit status: 0 after a stop that was asked for, 1
 * where a lane did not leave in time, 2 for settings or models that are wrong.
 *
 * Settings and metrics: workers/README.md. Must never do a lane's work here.
 */
#include "project.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "health.h"
#include "log.h"

#define HPW_LEAVE_S 10
#define HPW_WATCH_MS 1000

#define HPW_PROJECT(field) offsetof(hpw_project_settings_t, field)

static const hpw_setting_t hpw_project_settings[] = {
    {"models_dir", HPW_SETTING_TEXT, HPW_PROJECT(models_dir), "", 0, 4096,
     "directory of read models; empty: read_models in schemas_dir"},
    {"batch_events", HPW_SETTING_INT, HPW_PROJECT(batch_events), "1000", 1,
     100000, "positions applied in one transaction"},
    {"poll_ms", HPW_SETTING_INT, HPW_PROJECT(poll_ms), "1000", 10, 60000,
     "how often a lane looks without being woken"},
    {"heartbeat_ms", HPW_SETTING_INT, HPW_PROJECT(heartbeat_ms), "1000", 50,
     60000, "how often a quiet lane tells the nginxes that it lives"},
    {"redis", HPW_SETTING_TEXT, HPW_PROJECT(redis), "127.0.0.1:6379", 0, 255,
     "Redis, host:port or the path of a socket; empty: none"},
    {"redis_user", HPW_SETTING_TEXT, HPW_PROJECT(redis_user), "", 0, 256,
     "Redis user"},
    {"redis_password", HPW_SETTING_TEXT, HPW_PROJECT(redis_password), "", 0,
     1024, "Redis password"},
    {"redis_db", HPW_SETTING_INT, HPW_PROJECT(redis_db), "0", 0, 65535,
     "Redis database"},
    {"redis_tls", HPW_SETTING_INT, HPW_PROJECT(redis_tls), "0", 0, 1,
     "1: TLS to Redis"},
    {"redis_tls_ca", HPW_SETTING_TEXT, HPW_PROJECT(redis_tls_ca), "", 0, 4096,
     "PEM file of authorities; empty: the system's"},
    {"redis_tls_name", HPW_SETTING_TEXT, HPW_PROJECT(redis_tls_name), "", 0,
     255, "what Redis' certificate is for; empty: the host"},
    {"redis_tls_cert", HPW_SETTING_TEXT, HPW_PROJECT(redis_tls_cert), "", 0,
     4096, "PEM file of our certificate"},
    {"redis_tls_key", HPW_SETTING_TEXT, HPW_PROJECT(redis_tls_key), "", 0, 4096,
     "PEM file of its key, not encrypted"},
    {"redis_ttl_s", HPW_SETTING_INT, HPW_PROJECT(redis_ttl_s), "86400", 1,
     31536000, "how long Redis keeps a document"},
    {"redis_timeout_ms", HPW_SETTING_INT, HPW_PROJECT(redis_timeout_ms), "250",
     10, 10000, "for connecting to Redis and for an answer"},
    {"lock_retry_ms", HPW_SETTING_INT, HPW_PROJECT(lock_retry_ms), "500", 10,
     60000, "how often a standby tries to take a lane"},
    {"lease_ms", HPW_SETTING_INT, HPW_PROJECT(lease_ms), "30000", 2000, 600000,
     "after which the server ends the session of a frozen projector"},
    {"health_listen", HPW_SETTING_TEXT, HPW_PROJECT(health_listen),
     "127.0.0.1:9102", 0, 255, "address of health and metrics; empty: off"},
    {0},
};

typedef struct {
    hpw_project_settings_t settings;
    hpw_nats_t nats;
    hpw_wake_t wake;
    hpw_model_t *models;
    int model_count;
    hpw_lane_t *lanes;
    int lane_count;
    void *tls; /* to Redis; NULL: none */
} hpw_project_t;

static int hpw_project_ready(hpw_buf_t *out, void *data)
{
    hpw_project_t *project = data;
    const hpw_lane_t *lane;
    char name[128];
    int i, state, ready;

    ready = hpw_health_check(out, "nats", project->nats.connected,
                             project->nats.connected ? "connected"
                                                     : "disconnected");
    for (i = 0; i < project->lane_count; i++) {
        lane = &project->lanes[i];
        state = lane->counters.state;
        snprintf(name, sizeof(name), "lane %s %d", lane->model->name,
                 lane->partition);
        ready &= hpw_health_check(
            out, name, state == HPW_LANE_HELD || state == HPW_LANE_STANDBY,
            hpw_lane_state_name(state));
    }
    return ready;
}

static void hpw_project_metrics(hpw_buf_t *out, void *data)
{
    hpw_project_t *project = data;
    int i;

#define HPW_EACH(metric, type, help, format, value)                            \
    hpw_metric(out, metric, type, help);                                       \
    for (i = 0; i < project->lane_count; i++) {                                \
        const hpw_lane_t *lane = &project->lanes[i];                           \
        const hpw_lane_counters_t *c = &lane->counters;                        \
        hpw_buf_printf(out,                                                    \
                       metric "{model=\"%s\",partition=\"%d\"} " format "\n",  \
                       lane->model->name, lane->partition, value);             \
    }

#define HPW_COUNT(metric, help, field)                                         \
    HPW_EACH(metric, "counter", help, "%llu", (unsigned long long)c->field)

    HPW_COUNT("hotpath_project_batches_total", "Transactions committed.",
              batches)
    HPW_COUNT("hotpath_project_documents_total", "Documents changed.",
              documents)
    HPW_COUNT("hotpath_project_documents_refused_total",
              "Documents that no frame can hold, not handed out.",
              documents_refused)
    HPW_COUNT("hotpath_project_frames_total",
              "Push messages published, heartbeats among them.", frames)
    HPW_COUNT("hotpath_project_frames_failed_total",
              "Push messages that could not be published.", frames_failed)
    HPW_COUNT("hotpath_project_cached_total", "Documents set in Redis.", cached)
    HPW_COUNT("hotpath_project_cache_failures_total",
              "Times that Redis did not take documents.", cache_failures)
    HPW_COUNT("hotpath_project_errors_total",
              "Events passed over, in hotpath.projection_errors.", errors)
    HPW_COUNT("hotpath_project_retries_total", "Times that a lane began anew.",
              retries)
    HPW_EACH("hotpath_project_apply_seconds_sum", "counter",
             "Time from BEGIN to the answer to COMMIT.", "%.6f",
             (double)c->apply_us / 1e6)
    HPW_COUNT("hotpath_project_apply_seconds_count", "Transactions timed.",
              batches)
    HPW_EACH("hotpath_project_lane_held", "gauge",
             "1 where this process runs the projection.", "%d",
             c->state == HPW_LANE_HELD)
    HPW_EACH("hotpath_project_position", "gauge", "Last position applied.",
             "%lld", (long long)c->position)
    HPW_EACH("hotpath_project_lag", "gauge",
             "Positions stored and not applied yet.", "%lld", (long long)c->lag)
    HPW_EACH("hotpath_project_cache_behind", "gauge",
             "1 while Redis lacks documents that were pushed.", "%d",
             (int)c->cache_behind)

    hpw_metric(out, "hotpath_project_nats_connected", "gauge",
               "1 while the connection to NATS stands.");
    hpw_buf_printf(out, "hotpath_project_nats_connected %d\n",
                   project->nats.connected);
    hpw_metric(out, "hotpath_project_nats_reconnects_total", "counter",
               "Times that the connection to NATS came back.");
    hpw_buf_printf(out, "hotpath_project_nats_reconnects_total %llu\n",
                   (unsigned long long)project->nats.reconnects);
}

static int hpw_project_models(hpw_project_t *project)
{
    const hpw_project_settings_t *settings = &project->settings;
    char directory[4200], error[512];

    if (*settings->models_dir)
        snprintf(directory, sizeof(directory), "%s", settings->models_dir);
    else
        snprintf(directory, sizeof(directory), "%s/read_models",
                 settings->common.schemas_dir);
    if (hpw_models_read(directory, &project->models, &project->model_count,
                        error, sizeof(error)) != 0) {
        hpw_log(HPW_LOG_ERROR, "read models not usable", hpw_s("error", error));
        return -1;
    }
    return 0;
}

static int hpw_project_tls(hpw_project_t *project)
{
    char error[512];

    if (hpw_tls_init(&project->settings, &project->tls, error, sizeof(error)) !=
        0) {
        hpw_log(HPW_LOG_ERROR, "settings not usable", hpw_s("error", error));
        return -1;
    }
    return 0;
}

static void hpw_project_lanes(hpw_project_t *project)
{
    int partitions = (int)project->settings.common.partitions, i;
    hpw_lane_t *lane;

    project->lane_count = project->model_count * partitions;
    project->lanes =
        hpw_alloc((size_t)project->lane_count, sizeof(*project->lanes));
    for (i = 0; i < project->lane_count; i++) {
        lane = &project->lanes[i];
        lane->settings = &project->settings;
        lane->model = &project->models[i / partitions];
        lane->partition = i % partitions;
        lane->nats = &project->nats;
        lane->wake = &project->wake;
        lane->cache.tls = project->tls;
    }
}

static int hpw_project_leave(hpw_project_t *project)
{
    struct timespec until;
    int i;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += HPW_LEAVE_S;
    hpw_wake_all(&project->wake);
    for (i = 0; i < project->lane_count; i++) {
        if (pthread_timedjoin_np(project->lanes[i].thread, NULL, &until) != 0) {
            hpw_log(HPW_LOG_ERROR, "lane did not leave in time",
                    hpw_s("model", project->lanes[i].model->name),
                    hpw_i("partition", project->lanes[i].partition));
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const hpw_program_t program = {
        "hotpath-project", "keeps read models up to date and hands them out",
        "", hpw_project_settings};
    static hpw_project_t project;
    static const hpw_health_t health = {hpw_project_ready, hpw_project_metrics,
                                        &project};
    int i;

    hpw_settings_main(&program, &project.settings.common, argc, argv);
    if (hpw_signals_init() != 0)
        return 1;
    if (hpw_project_models(&project) != 0 || hpw_project_tls(&project) != 0)
        return 2;
    hpw_project_lanes(&project);
    if (hpw_health_start(&health, project.settings.health_listen) != 0)
        return 2;
    hpw_log(HPW_LOG_INFO, "starting", hpw_i("models", project.model_count),
            hpw_i("partitions", project.settings.common.partitions));
    if (hpw_nats_open(&project.nats, &project.settings.common,
                      program.program) != 0) {
        hpw_health_stop();
        return 0;
    }
    if (hpw_wake_init(&project.wake, &project.nats,
                      project.settings.common.subject_prefix) != 0)
        return 1;
    for (i = 0; i < project.lane_count; i++) {
        if (pthread_create(&project.lanes[i].thread, NULL, hpw_lane_run,
                           &project.lanes[i]) != 0) {
            hpw_log(HPW_LOG_ERROR, "no thread for a lane");
            _exit(1);
        }
    }

    while (!hpw_stopping()) {
        hpw_sleep_ms(HPW_WATCH_MS);
        if (hpw_nats_watch(&project.nats))
            hpw_wake_again(&project.wake, &project.nats,
                           project.settings.common.subject_prefix);
    }
    hpw_log(HPW_LOG_INFO, "stopping");
    if (hpw_project_leave(&project) != 0)
        _exit(1);
    hpw_wake_destroy(&project.wake);
    hpw_nats_close(&project.nats);
    hpw_health_stop();
    free(project.lanes);
    hpw_models_free(project.models, project.model_count);
    hpw_log(HPW_LOG_INFO, "stopped");
    return 0;
}
