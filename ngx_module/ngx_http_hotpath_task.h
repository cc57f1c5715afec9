/*
 * ngx_http_hotpath_task.h: what others ask of this instance, over NATS.
 *
 * Parts of their purges, and whole ones to see to. Messages:
 * schemas/framing.md. Knows the configuration (module.h), fanout, fleet, purge
 * and NATS.
 */
#ifndef _NGX_HTTP_HOTPATH_TASK_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_TASK_H_INCLUDED_


#include "ngx_http_hotpath_module.h"


/* In the first worker, behind fanout. */
ngx_int_t ngx_http_hotpath_task_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf);


#endif /* _NGX_HTTP_HOTPATH_TASK_H_INCLUDED_ */
