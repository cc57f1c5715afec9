/*
 * ngx_http_hotpath_relay.h: a request on its way to an upstream and its answer
 * on the way back: between output, which decides that it goes, ask, which
 * sends it, and relay, which meets the answer.
 *
 * Knows the configuration (module.h), variant, storable and collapse.
 */
#ifndef _NGX_HTTP_HOTPATH_RELAY_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_RELAY_H_INCLUDED_


#include "ngx_http_hotpath_capture.h"
#include "ngx_http_hotpath_collapse.h"
#include "ngx_http_hotpath_storable.h"
#include "ngx_http_hotpath_variant.h"


/* What a request is to the zone. */
typedef enum {
    ngx_http_hotpath_relay_pass = 0,   /* nothing: it goes its way */
    ngx_http_hotpath_relay_unsafe,     /* nothing, and what the zone has of its
                                          URL becomes invalid where it
                                          succeeds */
    ngx_http_hotpath_relay_lone,       /* its answer is stored */
    ngx_http_hotpath_relay_lead,       /* the same, and others wait for it */
    ngx_http_hotpath_relay_renew       /* the same, and nobody sees it */
} ngx_http_hotpath_relay_e;


/* In the request's pool, or in that of the main request. */
typedef struct {
    ngx_http_hotpath_collapse_waiter_t  waiter;    /* first */
    ngx_http_request_t                 *request;
    ngx_http_hotpath_loc_conf_t        *lcf;       /* where it began */
    ngx_http_hotpath_cache_t           *cache;     /* the same */
    ngx_http_hotpath_relay_e            role;
    ngx_http_hotpath_variant_t          variant;
    ngx_http_hotpath_collapse_t        *lead;      /* NULL: nothing to end */
    ngx_http_hotpath_collapse_e         why;       /* it waits no more */

    ngx_http_hotpath_copy_t             stale;     /* what the zone has */
    hp_fwd_t                            fwd;
    ngx_str_t                           detail;

    /* the upstream is asked */
    uint64_t                            version;   /* of what it brings */
    uint64_t                            begun;     /* of the zone */
    uint64_t                            asked_ms;
    ngx_http_handler_pt                 content_handler;
    ngx_list_t                          headers;   /* the client's own */
    ngx_str_t                           method_name;
    ngx_str_t                           main_method_name;
    ngx_uint_t                          method;
    ngx_uint_t                          http_version;
    ngx_http_event_handler_pt           read_handler;

    /* it answers */
    ngx_http_hotpath_storable_t        *storable;
    ngx_http_hotpath_capture_t          capture;

    unsigned                            has_stale:1;
    unsigned                            waited:1;
    unsigned                            waiting:1;
    unsigned                            swapped:1;    /* headers and method */
    unsigned                            bare:1;       /* it was asked without
                                                         the client's own
                                                         conditions */
    unsigned                            validating:1; /* it may answer 304 */
    unsigned                            answering:1;  /* from the zone */
    unsigned                            capturing:1;
    unsigned                            hidden:1;     /* no body goes on */
    unsigned                            done:1;       /* leave it alone */
} ngx_http_hotpath_relay_ctx_t;


/*
 * Has the request's own content handler ask the upstream when its turn comes;
 * gives what a phase handler returns then.
 */
ngx_int_t ngx_http_hotpath_ask(ngx_http_request_t *r,
    ngx_http_hotpath_relay_ctx_t *ctx, ngx_http_hotpath_relay_e role);

/* Renews an entry in the background, unless somebody does already. NGX_OK, or
 * NGX_ERROR. */
ngx_int_t ngx_http_hotpath_ask_renew(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_variant_t *variant,
    ngx_http_hotpath_copy_t *copy);

/* That of the request, also behind an internal redirect; NULL: none. */
ngx_http_hotpath_relay_ctx_t *ngx_http_hotpath_relay_ctx(
    ngx_http_request_t *r);

/* A new one; NULL: no memory. The request's pool ends it. */
ngx_http_hotpath_relay_ctx_t *ngx_http_hotpath_relay_create(
    ngx_http_request_t *r, ngx_http_hotpath_loc_conf_t *lcf);

/* Nobody has to wait for it any more. */
void ngx_http_hotpath_relay_end(ngx_http_hotpath_relay_ctx_t *ctx,
    ngx_http_hotpath_collapse_e why);

/* The same where its answer is one that is not stored. */
void ngx_http_hotpath_relay_refused(ngx_http_hotpath_relay_ctx_t *ctx);

/* 1 where the answer is nginx's own and not the upstream's; for header
 * filters. */
ngx_uint_t ngx_http_hotpath_relay_own(ngx_http_request_t *r);

/* 1 where the upstream failed to answer r, and 1 where what the zone has may
 * stand in for it. */
ngx_uint_t ngx_http_hotpath_relay_failed(ngx_http_request_t *r);
ngx_uint_t ngx_http_hotpath_relay_stale(ngx_http_hotpath_relay_ctx_t *ctx);

/* The client's headers and method again, where they were changed. */
void ngx_http_hotpath_relay_restore(ngx_http_hotpath_relay_ctx_t *ctx);

/* The filters; from postconfiguration. */
void ngx_http_hotpath_relay_init(void);


#endif /* _NGX_HTTP_HOTPATH_RELAY_H_INCLUDED_ */
