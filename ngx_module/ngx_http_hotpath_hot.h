/*
 * ngx_http_hotpath_hot.h: which documents of a zone are read most.
 *
 * A sample of the hits is counted in every worker and told to Redis from time
 * to time. Knows the configuration (module.h), Redis and the zones.
 */
#ifndef _NGX_HTTP_HOTPATH_HOT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_HOT_H_INCLUDED_


#include "ngx_http_hotpath_module.h"


#define NGX_HTTP_HOTPATH_HOT_ZONES  8

/* A zone whose hits are counted. */
typedef struct {
    ngx_http_hotpath_cache_t  *cache;
    ngx_uint_t                 keys;     /* so many will be wanted */
    ngx_str_t                  set;      /* keys in Redis: of the set, and of */
    ngx_str_t                  halved;   /* what says that it was halved */
} ngx_http_hotpath_hot_conf_t;


/* In every worker, before its event loop; for HOT_ZONES zones at the most. */
ngx_int_t ngx_http_hotpath_hot_watch(ngx_cycle_t *cycle,
    ngx_http_hotpath_redis_t *redis, ngx_http_hotpath_hot_conf_t *conf);


/* How many hits are passed over before the next one is looked at; so many
 * that it never ends where no zone is watched. */
extern uint64_t  ngx_http_hotpath_hot_countdown;

void ngx_http_hotpath_hot_sample(ngx_http_hotpath_model_t *model,
    ngx_str_t *zone_key);

/* For every hit. */
static ngx_inline void
ngx_http_hotpath_hot_hit(ngx_http_hotpath_model_t *model, ngx_str_t *zone_key)
{
    if (--ngx_http_hotpath_hot_countdown == 0) {
        ngx_http_hotpath_hot_sample(model, zone_key);
    }
}


#endif /* _NGX_HTTP_HOTPATH_HOT_H_INCLUDED_ */
