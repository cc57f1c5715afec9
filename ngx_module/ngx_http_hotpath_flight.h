/*
 * ngx_http_hotpath_flight.h: one worker of the instance at a time asks for a
 * key.
 *
 * A small table in shared memory says which keys are being asked for, by which
 * worker, and which other workers wait; who ends wakes them. Only ever a hint:
 * where the table is full, or a worker dies or forgets, others go alone after
 * the deadline. Knows shm.
 */
#ifndef _NGX_HTTP_HOTPATH_FLIGHT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_FLIGHT_H_INCLUDED_


#include "ngx_http_hotpath_shm.h"


/* Called in a worker that waits, soon after any of its keys was left. */
typedef void (*ngx_http_hotpath_flight_pt)(void *data);


/* While the configuration is read: the table. */
ngx_int_t ngx_http_hotpath_flight_init(ngx_conf_t *cf);

/* In the master, before it forks the workers of a configuration. */
ngx_int_t ngx_http_hotpath_flight_prepare(ngx_cycle_t *cycle);

/* In every worker; handlers, at most four, are called in the order given. */
ngx_int_t ngx_http_hotpath_flight_start(ngx_cycle_t *cycle);
ngx_int_t ngx_http_hotpath_flight_on_wake(ngx_http_hotpath_flight_pt handler,
    void *data);
void ngx_http_hotpath_flight_stop(void);

/* hash: of whatever is asked for, not 0. NGX_OK: this worker asks, and must
 * leave; it is taken for dead after ms. NGX_AGAIN: another one does, this one
 * is woken. NGX_DECLINED: no room in the table, or only
 * one worker: go alone, and do not leave. */
ngx_int_t ngx_http_hotpath_flight_enter(uint64_t hash, ngx_msec_t ms);

/* 1 while another worker asks for it. */
ngx_uint_t ngx_http_hotpath_flight_held(uint64_t hash);

void ngx_http_hotpath_flight_leave(uint64_t hash);


#endif /* _NGX_HTTP_HOTPATH_FLIGHT_H_INCLUDED_ */
