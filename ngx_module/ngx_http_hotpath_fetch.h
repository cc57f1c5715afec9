/*
 * ngx_http_hotpath_fetch.h: what no zone has is fetched, once for everybody.
 *
 * One fetch per key is under way in the whole instance, and by a lease in
 * Redis in the whole fleet, however many ask. Knows the configuration
 * (module.h), the backends and the zone; not requests.
 */
#ifndef _NGX_HTTP_HOTPATH_FETCH_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_FETCH_H_INCLUDED_


#include "ngx_http_hotpath_module.h"
#include "core/hp_frame.h"


typedef struct ngx_http_hotpath_fetch_s         ngx_http_hotpath_fetch_t;
typedef struct ngx_http_hotpath_fetch_waiter_s  ngx_http_hotpath_fetch_waiter_t;


/* Which document, or which page of a list. */
struct ngx_http_hotpath_wanted_s {
    ngx_http_hotpath_model_t  *model;
    ngx_str_t                  zone_key;
    ngx_str_t                  tenant;
    ngx_str_t                  key;       /* of documents */
    ngx_str_t                 *params;    /* of lists: those of the statement */
    ngx_uint_t                 nparams;
    void                      *data;      /* of lists: for model->page() */
    size_t                     data_size; /* so many bytes are copied */
    int64_t                    changed_us; /* an entry that was modified before
                                              is not trusted; 0: any is */
};


/* copy is NULL where it cannot be had; it and how->detail are valid during the
 * call. Called once, unless the waiter left before. */
typedef void (*ngx_http_hotpath_fetched_pt)(
    ngx_http_hotpath_fetch_waiter_t *waiter, ngx_http_hotpath_copy_t *copy,
    ngx_http_hotpath_how_t *how);

/* The caller's memory, until it was called or has left. */
struct ngx_http_hotpath_fetch_waiter_s {
    ngx_queue_t                   queue;
    ngx_http_hotpath_fetch_t     *fetch;      /* NULL: waits for nothing */
    ngx_http_hotpath_fetched_pt   handler;
    unsigned                      first:1;    /* it began the fetch */
};


/*
 * NGX_OK: the waiter waits. NGX_DECLINED: nobody can be asked; it does not.
 * *wanted is copied. force: Redis is not asked; a fetch that is under way is
 * joined as it is.
 */
ngx_int_t ngx_http_hotpath_fetch_join(ngx_http_hotpath_main_conf_t *mcf,
    ngx_http_hotpath_wanted_t *wanted, ngx_uint_t force,
    ngx_http_hotpath_fetch_waiter_t *waiter);
void ngx_http_hotpath_fetch_leave(ngx_http_hotpath_fetch_waiter_t *waiter);

/* The same with nobody waiting; does nothing where it is under way already, or
 * where too many are. */
void ngx_http_hotpath_fetch_renew(ngx_http_hotpath_main_conf_t *mcf,
    ngx_http_hotpath_wanted_t *wanted);

/* Puts a document that was had or pushed into the model's zone, as
 * ngx_http_hotpath_cache_put() says; begun as there. */
ngx_int_t ngx_http_hotpath_store_document(ngx_http_hotpath_model_t *model,
    ngx_str_t *zone_key, hp_doc_t *doc, uint64_t begun);

/* In every worker. */
ngx_int_t ngx_http_hotpath_fetch_start(ngx_cycle_t *cycle);


#endif /* _NGX_HTTP_HOTPATH_FETCH_H_INCLUDED_ */
