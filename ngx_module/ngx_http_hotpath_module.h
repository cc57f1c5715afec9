/*
 * ngx_http_hotpath_module.h: the configuration of the module, as the rooms
 * above the backends see it.
 *
 * Written while a configuration is read, read-only afterwards, except for the
 * members under "this worker's": those are set at init_process. Included by
 * module, request, read, push and health; never by a backend or by a room in
 * shared memory.
 */
#ifndef _NGX_HTTP_HOTPATH_MODULE_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_hotpath_answer.h"
#include "ngx_http_hotpath_cache.h"
#include "ngx_http_hotpath_cursor.h"
#include "ngx_http_hotpath_forwarded.h"
#include "ngx_http_hotpath_guard.h"
#include "ngx_http_hotpath_idempotency.h"
#include "ngx_http_hotpath_limit.h"
#include "ngx_http_hotpath_metrics.h"
#include "ngx_http_hotpath_output.h"
#include "ngx_http_hotpath_param.h"
#include "ngx_http_hotpath_postgres.h"
#include "ngx_http_hotpath_publish.h"
#include "ngx_http_hotpath_redis.h"
#include "ngx_http_hotpath_schema.h"
#include "ngx_http_hotpath_serve.h"


typedef struct ngx_http_hotpath_model_s   ngx_http_hotpath_model_t;
typedef struct ngx_http_hotpath_wanted_s  ngx_http_hotpath_wanted_t;

/*
 * Makes a page of a list out of the rows that Postgres gave: content and
 * meta->version, from pool; data is the copy of what the wanted one carried.
 * NGX_OK, or NGX_ERROR where the rows are not what the list needs (logged).
 */
typedef ngx_int_t (*ngx_http_hotpath_page_pt)(ngx_http_hotpath_model_t *model,
    PGresult *result, void *data, ngx_pool_t *pool,
    ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content);

/* A read model as one zone keeps it; pushes go to every one of its name. */
struct ngx_http_hotpath_model_s {
    ngx_str_t                        name;
    ngx_http_hotpath_cache_rules_t   rules;
    ngx_http_hotpath_statement_t    *statement;
    ngx_str_t                        tag;          /* member whose text is the
                                                      document's tag, or the
                                                      key of the list that it
                                                      is in */
    ngx_http_hotpath_page_pt         page;         /* NULL: documents */
};


typedef struct {
    ngx_http_hotpath_nats_conf_t     nats;
    ngx_http_hotpath_publish_conf_t  publish;
    ngx_str_t                        subject;      /* prefix of all subjects */
    ngx_http_hotpath_redis_t        *redis;        /* NULL: none */
    ngx_http_hotpath_postgres_t     *postgres;     /* NULL: none */
    ngx_http_hotpath_idempotency_t  *operations;   /* NULL: none */
    ngx_http_hotpath_statement_t    *status;       /* NULL: no Postgres */
    ngx_array_t                      models;       /* of model_t * */
    ngx_http_hotpath_cursors_t      *cursors;      /* NULL: no secret */
    ngx_array_t                     *warm;         /* hotpath_warm; NULL: none,
                                                      else the warm room's */
    ngx_uint_t                       writes;       /* locations that write */
    ngx_uint_t                       prioritized;  /* one says which first */
    ngx_uint_t                       purges;       /* and that purge */
    ngx_uint_t                       guards;       /* hotpath_idempotency */
    size_t                           body_memory;  /* a worker's, for bodies */
    ngx_int_t                        wait_max;     /* waiters in a worker */

    /* this worker's */
    ngx_http_hotpath_nats_t         *client;       /* NULL: no NATS */
    ngx_http_hotpath_publish_t      *publisher;    /* NULL: nothing written */
} ngx_http_hotpath_main_conf_t;


typedef struct {
    ngx_http_handler_pt              handler;      /* NULL: not ours */
    u_char                          *file;         /* where it was set */
    ngx_uint_t                       line;
    ngx_http_complex_value_t        *tenant;
    ngx_msec_t                       key_wait;     /* for one in flight */

    /* hotpath_write */
    ngx_str_t                        route;
    ngx_str_t                        status_uri;
    ngx_uint_t                       key_optional;
    ngx_uint_t                       direct;       /* 202s pass no filter */
    ngx_http_complex_value_t        *partition_key;
    ngx_http_complex_value_t        *priority;     /* NULL: normal */
    ngx_str_t                        partition_member;
    size_t                           body_max;
    ngx_int_t                        json_depth;
    ngx_flag_t                       cloudevents;
    ngx_int_t                        batch_max;    /* events; 0: no arrays */
    size_t                           batch_size;
    ngx_http_hotpath_schemas_t       schemas;
    ngx_msec_t                       respond_sync; /* 0: never waited for */

    /* hotpath_status */
    ngx_msec_t                       status_wait;  /* the longest wait */

    /* hotpath_read */
    ngx_http_hotpath_model_t        *model;
    ngx_http_complex_value_t        *key;
    ngx_uint_t                       shared;       /* no tenant in the key */
    ngx_str_t                        cache_name;   /* hotpath_cache */
    ngx_http_hotpath_cache_rules_t   rules;        /* the same */
    ngx_str_t                        statement;
    ngx_str_t                        list_statement;

    ngx_http_hotpath_param_conf_t    param;

    /* hotpath_cache in front of an upstream */
    ngx_http_hotpath_output_conf_t   output;

    /* hotpath_idempotency in front of an upstream */
    ngx_http_hotpath_guard_conf_t    guard;

    ngx_http_hotpath_limit_conf_t    limit;
    ngx_array_t                     *trusted;      /* of ngx_cidr_t */
    ngx_array_t                     *purge_tokens; /* of their digests */
    ngx_msec_t                       purge_timeout;
} ngx_http_hotpath_loc_conf_t;


extern ngx_module_t  ngx_http_hotpath_module;


/* Content handlers. */
ngx_int_t ngx_http_hotpath_write_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hotpath_status_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hotpath_read_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hotpath_live_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hotpath_ready_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hotpath_metrics_handler(ngx_http_request_t *r);

/* The way of a read from where it is known what is wanted
 * (ngx_http_hotpath_fetch.h); its result is the content handler's. */
ngx_int_t ngx_http_hotpath_read_through(ngx_http_request_t *r,
    ngx_http_hotpath_wanted_t *wanted);

/* What the client's Cache-Control asks for, where the rules honour it: a set.
 * Without one, Pragma: no-cache counts. meta: of what the zone has, or NULL. */
#define NGX_HTTP_HOTPATH_CONTROL_FETCH   1  /* what the zone has will not do */
#define NGX_HTTP_HOTPATH_CONTROL_CACHED  2  /* only what the zone has */
#define NGX_HTTP_HOTPATH_CONTROL_FORGET  4  /* the zone must not keep it */

ngx_uint_t ngx_http_hotpath_read_control(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_cache_meta_t *meta, uint64_t now_ms);

/* 1 where what is fresh is to be renewed ahead of its time. */
ngx_uint_t ngx_http_hotpath_read_refresh(
    ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_cache_meta_t *meta, uint64_t now_ms);

/* What a waiter of the publisher ends with; ctx is the main configuration. */
void ngx_http_hotpath_write_outcome(void *ctx,
    ngx_http_hotpath_waiter_t *waiter,
    ngx_http_hotpath_publish_result_t *result);

/* In one worker per instance: listens to pushes and commit notices. */
ngx_int_t ngx_http_hotpath_push_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf);

/* The tenant of the request: NGX_OK, NGX_DECLINED where it is not one, or
 * NGX_ERROR. */
ngx_int_t ngx_http_hotpath_tenant(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_str_t *tenant);

/* The parameters that hotpath_read and hotpath_list have in common: name, key
 * and shared. The model is the location's then. */
char *ngx_http_hotpath_model_set(ngx_conf_t *cf,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_model_t *model);
char *ngx_http_hotpath_model_option(ngx_conf_t *cf,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_str_t *value);

/* A value with variables in it, compiled. */
ngx_int_t ngx_http_hotpath_value(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_complex_value_t **value);

/* What stands in the URI behind a prefix location's name. */
void ngx_http_hotpath_uri_rest(ngx_http_request_t *r, ngx_str_t *rest);

/* The key under which a zone keeps a document: model NUL tenant NUL key. dst
 * holds NGX_HTTP_HOTPATH_ZONE_KEY_MAX bytes. */
#define NGX_HTTP_HOTPATH_ZONE_KEY_MAX  1280
void ngx_http_hotpath_zone_key(ngx_str_t *dst, ngx_str_t *model,
    ngx_str_t *tenant, ngx_str_t *key);


#endif /* _NGX_HTTP_HOTPATH_MODULE_H_INCLUDED_ */
