/*
 * main.c: hotpath-drain, wiring only.
 *
 * Moves accepted events from the streams into PostgreSQL: one thread per
 * partition (lane.c), a health port, and this thread, which waits to be asked
 * to stop. Exit status: 0 after a stop that was asked for, 1 where a lane did
 * not leave in time, 2 for settings that are wrong.
 *
 * Settings and metrics: workers/README.md. Must never do a lane's work here.
 */
#include "drain.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "health.h"
#include "log.h"

#define HPW_LEAVE_S 10
#define HPW_WATCH_MS 1000

#define HPW_DRAIN(field) offsetof(hpw_drain_settings_t, field)

static const hpw_setting_t hpw_drain_settings[] = {
    {"batch_events", HPW_SETTING_INT, HPW_DRAIN(batch_events), "5000", 1, 65535,
     "events at which a batch is full"},
    {"batch_bytes", HPW_SETTING_INT, HPW_DRAIN(batch_bytes), "8388608", 65536,
     268435456, "bytes at which a batch is full"},
    {"coalesce_ms", HPW_SETTING_INT, HPW_DRAIN(coalesce_ms), "2", 0, 1000,
     "how long a batch waits for more"},
    {"yield_batches", HPW_SETTING_INT, HPW_DRAIN(yield_batches), "16", 0,
     1000000,
     "batches of higher priorities before a lower one has its turn; 0: never"},
    {"lock_retry_ms", HPW_SETTING_INT, HPW_DRAIN(lock_retry_ms), "500", 10,
     60000, "how often a standby tries to take a lane"},
    {"lease_ms", HPW_SETTING_INT, HPW_DRAIN(lease_ms), "30000", 2000, 600000,
     "after which the server ends the session of a frozen drain"},
    {"partitions_ahead_days", HPW_SETTING_INT, HPW_DRAIN(partitions_ahead_days),
     "3", 1, 60, "daily tables of hotpath.events made ahead"},
    {"health_listen", HPW_SETTING_TEXT, HPW_DRAIN(health_listen),
     "127.0.0.1:9101", 0, 255, "address of health and metrics; empty: off"},
    {0},
};

typedef struct {
    hpw_drain_settings_t settings;
    hpw_nats_t nats;
    hpw_lane_t *lanes;
} hpw_drain_t;

static int hpw_drain_ready(hpw_buf_t *out, void *data)
{
    hpw_drain_t *drain = data;
    char name[32];
    int64_t i;
    int state, ready;

    ready =
        hpw_health_check(out, "nats", drain->nats.connected,
                         drain->nats.connected ? "connected" : "disconnected");
    for (i = 0; i < drain->settings.common.partitions; i++) {
        state = drain->lanes[i].state;
        snprintf(name, sizeof(name), "lane %d", (int)i);
        /* standing by is what a second drain is for */
        ready &= hpw_health_check(
            out, name, state == HPW_LANE_HELD || state == HPW_LANE_STANDBY,
            hpw_lane_state_name(state));
    }
    return ready;
}

/* Where there is more than one priority, they have a label. */
static void hpw_drain_label(char *label, size_t size, int64_t priorities,
                            int64_t priority)
{
    *label = 0;
    if (priorities > 1)
        snprintf(label, size, ",priority=\"%s\"",
                 hp_priority_name((unsigned)priority));
}

static void hpw_drain_metrics(hpw_buf_t *out, void *data)
{
    hpw_drain_t *drain = data;
    int64_t i, lanes = drain->settings.common.partitions;
    int64_t n, priorities = drain->settings.common.priorities;
    char label[32];

#define HPW_EACH(name, type, help, format, value)                              \
    hpw_metric(out, name, type, help);                                         \
    for (i = 0; i < lanes * priorities; i++) {                                 \
        const hpw_lane_t *lane = &drain->lanes[i / priorities];                \
        const hpw_source_counters_t *c =                                       \
            &lane->sources[i % priorities].counters;                           \
        hpw_drain_label(label, sizeof(label), priorities, i % priorities);     \
        hpw_buf_printf(out, name "{partition=\"%d\"%s} " format "\n",          \
                       (int)(i / priorities), label, value);                   \
    }

#define HPW_COUNT(name, help, field)                                           \
    HPW_EACH(name, "counter", help, "%llu", (unsigned long long)c->field)

    HPW_COUNT("hotpath_drain_batches_total", "Transactions committed.", batches)
    HPW_COUNT("hotpath_drain_messages_total", "Stream messages acked.",
              messages)
    HPW_COUNT("hotpath_drain_events_total",
              "Events read, repeats and dead ones among them.", events)
    HPW_COUNT("hotpath_drain_duplicates_total",
              "Events whose operation was stored before.", duplicates)
    HPW_COUNT("hotpath_drain_conflicts_total",
              "Events under a known operation with another payload.", conflicts)
    HPW_COUNT("hotpath_drain_dead_total",
              "Events that PostgreSQL refused, dead-lettered.", dead)
    HPW_COUNT("hotpath_drain_frames_invalid_total",
              "Messages that were no event group, dead-lettered.",
              frames_invalid)
    HPW_COUNT("hotpath_drain_retries_total",
              "Batches given up without commit and fetched again.", retries)
    HPW_COUNT("hotpath_drain_stream_losses_total",
              "Times that a stream was found to be another one.", stream_losses)
    HPW_COUNT("hotpath_drain_passed_messages_total",
              "Messages that were gone from the stream before they came.",
              passed)
    HPW_EACH("hotpath_drain_commit_seconds_sum", "counter",
             "Time from BEGIN to the answer to COMMIT.", "%.6f",
             (double)c->commit_us / 1e6)
    HPW_COUNT("hotpath_drain_commit_seconds_count", "Transactions timed.",
              batches)
    HPW_EACH("hotpath_drain_lane_held", "gauge",
             "1 where this process drains the stream.", "%d", c->held)
    HPW_EACH("hotpath_drain_pending_messages", "gauge",
             "Messages that stood behind the last batch.", "%llu",
             (unsigned long long)c->pending)
    hpw_metric(out, "hotpath_drain_position", "gauge",
               "Last position committed to hotpath.events.");
    for (n = 0; n < lanes; n++)
        hpw_buf_printf(out, "hotpath_drain_position{partition=\"%d\"} %lld\n",
                       (int)n, (long long)drain->lanes[n].committed);
    HPW_EACH("hotpath_drain_sequence", "gauge",
             "Stream sequence up to which all is committed.", "%llu",
             (unsigned long long)c->sequence)

    hpw_metric(out, "hotpath_drain_nats_connected", "gauge",
               "1 while the connection to NATS stands.");
    hpw_buf_printf(out, "hotpath_drain_nats_connected %d\n",
                   drain->nats.connected);
    hpw_metric(out, "hotpath_drain_nats_reconnects_total", "counter",
               "Times that the connection to NATS came back.");
    hpw_buf_printf(out, "hotpath_drain_nats_reconnects_total %llu\n",
                   (unsigned long long)drain->nats.reconnects);
}

/* Waits for the lanes; a lane that hangs must not hold the process for ever. */
static int hpw_drain_leave(hpw_drain_t *drain)
{
    struct timespec until;
    int64_t i;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += HPW_LEAVE_S;
    for (i = 0; i < drain->settings.common.partitions; i++) {
        if (pthread_timedjoin_np(drain->lanes[i].thread, NULL, &until) != 0) {
            hpw_log(HPW_LOG_ERROR, "lane did not leave in time",
                    hpw_i("partition", i));
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const hpw_program_t program = {
        "hotpath-drain", "stores accepted events in PostgreSQL", "",
        hpw_drain_settings};
    static hpw_drain_t drain;
    static const hpw_health_t health = {hpw_drain_ready, hpw_drain_metrics,
                                        &drain};
    int64_t i;

    hpw_settings_main(&program, &drain.settings.common, argc, argv);
    if (hpw_signals_init() != 0)
        return 1;
    drain.lanes = hpw_alloc((size_t)drain.settings.common.partitions,
                            sizeof(*drain.lanes));
    if (hpw_health_start(&health, drain.settings.health_listen) != 0)
        return 2;
    hpw_log(HPW_LOG_INFO, "starting",
            hpw_i("partitions", drain.settings.common.partitions));
    if (hpw_nats_open(&drain.nats, &drain.settings.common, program.program) !=
        0) {
        hpw_health_stop();
        return 0;
    }
    for (i = 0; i < drain.settings.common.partitions; i++) {
        drain.lanes[i].settings = &drain.settings;
        drain.lanes[i].nats = &drain.nats;
        drain.lanes[i].partition = (int)i;
        if (pthread_create(&drain.lanes[i].thread, NULL, hpw_lane_run,
                           &drain.lanes[i]) != 0) {
            hpw_log(HPW_LOG_ERROR, "no thread for a lane");
            _exit(1);
        }
    }

    while (!hpw_stopping()) {
        hpw_sleep_ms(HPW_WATCH_MS);
        hpw_nats_watch(&drain.nats);
    }
    hpw_log(HPW_LOG_INFO, "stopping");
    if (hpw_drain_leave(&drain) != 0)
        _exit(1);
    hpw_nats_close(&drain.nats);
    hpw_health_stop();
    free(drain.lanes);
    hpw_log(HPW_LOG_INFO, "stopped");
    return 0;
}
