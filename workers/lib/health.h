/*
 * health.h: /health/live, /health/ready and /metrics of a worker.
 *
 * The program supplies two callbacks; both run on libmicrohttpd's one thread
 * and may only read atomics. Nothing here asks a dependency: readiness is what
 * the lanes last saw.
 */
#ifndef HPW_HEALTH_H
#define HPW_HEALTH_H

#include "buffer.h"

typedef struct {
    /* Adds members to the array "checks" with hpw_health_check(); returns 1
     * where the worker is ready. */
    int (*ready)(hpw_buf_t *out, void *data);
    /* Adds Prometheus text. */
    void (*metrics)(hpw_buf_t *out, void *data);
    void *data;
} hpw_health_t;

/* address is host:port or [host]:port; "" is off. health must outlive the
 * process. 0, or -1 with the reason logged. */
int hpw_health_start(const hpw_health_t *health, const char *address);
void hpw_health_stop(void);

/* One element of "checks"; returns ok. */
int hpw_health_check(hpw_buf_t *out, const char *name, int ok,
                     const char *detail);

/* HELP and TYPE of a metric, then its samples by hpw_buf_printf(). */
void hpw_metric(hpw_buf_t *out, const char *name, const char *type,
                const char *help);

#endif
