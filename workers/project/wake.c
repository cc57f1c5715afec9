/*
 * wake.c: commit notices of the drain wake the lanes of a partition.
 *
 * The notice is taken as a bell and not read: what is committed stands in
 * PostgreSQL, and a lane looks there anyway every poll_ms. The callback runs on
 * a thread of nats.c's and only counts and signals.
 *
 * Owns the subscription, mutex and condition; the one lock of hotpath-project.
 * Must never be held over anything that waits.
 */
#include "project.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"

static void hpw_wake_notice(natsConnection *nc, natsSubscription *sub,
                            natsMsg *msg, void *data)
{
    hpw_wake_t *wake = data;
    const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
    unsigned long partition = dot ? strtoul(dot + 1, NULL, 10) : 256;

    (void)nc;
    (void)sub;
    if (partition < 256) {
        pthread_mutex_lock(&wake->mutex);
        wake->generation[partition]++;
        pthread_cond_broadcast(&wake->changed);
        pthread_mutex_unlock(&wake->mutex);
    }
    natsMsg_Destroy(msg);
}

static int hpw_wake_subscribe(hpw_wake_t *wake, hpw_nats_t *nats,
                              const char *prefix)
{
    char subject[128];
    natsStatus s;

    snprintf(subject, sizeof(subject), "%s.committed.*", prefix);
    s = natsConnection_Subscribe(&wake->sub, nats->nc, subject, hpw_wake_notice,
                                 wake);
    if (s != NATS_OK) {
        hpw_log(HPW_LOG_ERROR, "cannot subscribe to commit notices",
                hpw_s("error", natsStatus_GetText(s)));
        return -1;
    }
    return 0;
}

int hpw_wake_init(hpw_wake_t *wake, hpw_nats_t *nats, const char *prefix)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&wake->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&wake->changed, &attr);
    pthread_condattr_destroy(&attr);
    return hpw_wake_subscribe(wake, nats, prefix);
}

void hpw_wake_again(hpw_wake_t *wake, hpw_nats_t *nats, const char *prefix)
{
    natsSubscription_Destroy(wake->sub);
    wake->sub = NULL;
    hpw_wake_subscribe(wake, nats, prefix);
}

void hpw_wake_destroy(hpw_wake_t *wake)
{
    natsSubscription_Destroy(wake->sub);
    wake->sub = NULL;
}

void hpw_wake_wait(hpw_wake_t *wake, int partition, uint64_t *seen, int ms)
{
    struct timespec until;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_mutex_lock(&wake->mutex);
    while (rc != ETIMEDOUT && !hpw_stopping() &&
           wake->generation[partition] == *seen)
        rc = pthread_cond_timedwait(&wake->changed, &wake->mutex, &until);
    *seen = wake->generation[partition];
    pthread_mutex_unlock(&wake->mutex);
}

void hpw_wake_all(hpw_wake_t *wake)
{
    pthread_mutex_lock(&wake->mutex);
    pthread_cond_broadcast(&wake->changed);
    pthread_mutex_unlock(&wake->mutex);
}
