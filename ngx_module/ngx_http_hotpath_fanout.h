/*
 * ngx_http_hotpath_fanout.h: one purge over all instances.
 *
 * Carried out here and by every other instance; what each says is gathered
 * until all that are known have answered, or been silent for too long.
 * Messages: schemas/framing.md. Knows the configuration (module.h), fleet,
 * purge and NATS.
 */
#ifndef _NGX_HTTP_HOTPATH_FANOUT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_FANOUT_H_INCLUDED_


#include "ngx_http_hotpath_module.h"
#include "core/hp_purge.h"


/* Whoever is at it for longer says so this often. */
#define NGX_HTTP_HOTPATH_FANOUT_SIGN_MS  500


typedef struct ngx_http_hotpath_fanout_s  ngx_http_hotpath_fanout_t;


/* answer: a JSON object, valid during the call; complete: everybody known has
 * done all of it. NULL: it still goes on. */
typedef void (*ngx_http_hotpath_fanout_pt)(void *data, ngx_str_t *answer,
    ngx_uint_t complete);


/* In every worker, behind fleet. */
ngx_int_t ngx_http_hotpath_fanout_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf);

/*
 * text is what *purge was read from; both are copied. silence: how long an
 * instance may say nothing. NGX_OK: *fanout is set. NGX_BUSY: too many are
 * under way. NGX_ERROR: no memory. The handler is not called from within, nor
 * after leaving, which ends nothing but the interest in it.
 */
ngx_int_t ngx_http_hotpath_fanout_begin(ngx_http_hotpath_main_conf_t *mcf,
    hp_str_t text, hp_purge_t *purge, ngx_msec_t silence,
    ngx_http_hotpath_fanout_pt handler, void *data,
    ngx_http_hotpath_fanout_t **fanout);
void ngx_http_hotpath_fanout_leave(ngx_http_hotpath_fanout_t *fanout);


#endif /* _NGX_HTTP_HOTPATH_FANOUT_H_INCLUDED_ */
