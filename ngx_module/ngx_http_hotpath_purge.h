/*
 * ngx_http_hotpath_purge.h: a purge as one instance carries it out.
 *
 * Entries by key, by tag or by model, in every cache zone of the configuration
 * whose keys may match, and the documents behind them in Redis. What is long
 * goes in short turns of the event loop. Which instances take part, and who
 * may ask, is not known here (fleet, purge_http). Knows the configuration
 * (module.h), the zones and Redis.
 */
#ifndef _NGX_HTTP_HOTPATH_PURGE_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_PURGE_H_INCLUDED_


#include "ngx_http_hotpath_module.h"
#include "core/hp_purge.h"


/* What may stand in `error`, as it is told to whoever asked. */
#define NGX_HTTP_HOTPATH_PURGE_NO_REDIS  "redis_unavailable"
#define NGX_HTTP_HOTPATH_PURGE_NO_LOCK   "zone_busy"
#define NGX_HTTP_HOTPATH_PURGE_BUSY      "purge_busy"


/* What a part of a purge came to. */
typedef struct {
    uint64_t     purged;       /* entries of zones */
    uint64_t     redis;        /* documents removed from Redis */
    const char  *error;        /* NULL, or why some may be left */
} ngx_http_hotpath_purged_t;


typedef enum {
    /* The zones; where keys or a tag are meant, what they have in Redis too:
     * gone from there before the zone lets go of it for good. */
    NGX_HTTP_HOTPATH_PURGE_ZONES = 0,
    /* All that Redis has of a model or of one of its tenants, which is a walk
     * through its whole key space: once a fleet, before any zone. Nothing
     * where keys or a tag are meant. */
    NGX_HTTP_HOTPATH_PURGE_REDIS
} ngx_http_hotpath_purge_part_e;


/* Called once, from the event loop. */
typedef void (*ngx_http_hotpath_purge_pt)(void *data,
    ngx_http_hotpath_purged_t *purged);

/*
 * *purge and its texts are copied. NGX_OK: the handler will be called, never
 * from within. NGX_BUSY: eight walks or 256 purges are under way in this
 * worker. NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_hotpath_purge_begin(ngx_http_hotpath_main_conf_t *mcf,
    hp_purge_t *purge, ngx_http_hotpath_purge_part_e part,
    ngx_http_hotpath_purge_pt handler, void *data);


#endif /* _NGX_HTTP_HOTPATH_PURGE_H_INCLUDED_ */
