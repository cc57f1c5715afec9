/*
 * ngx_http_hotpath_guarded.h: a request with an idempotency key on its way to
 * an upstream and its answer on the way back: between guard, which decides
 * whether it goes, guard_claim, which knows what became of its key, and
 * guard_answer, which meets the answer.
 *
 * Knows the configuration (module.h), wait, capture and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_GUARDED_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_GUARDED_H_INCLUDED_


#include "ngx_http_hotpath_capture.h"
#include "ngx_http_hotpath_module.h"
#include "ngx_http_hotpath_wait.h"
#include "core/hp_replay.h"


#define NGX_HTTP_HOTPATH_GUARD_PREFIX      "hotpath:idempotency:"

/* What stands for a version where no answer is kept. */
#define NGX_HTTP_HOTPATH_GUARD_NOT_KEPT    0
#define NGX_HTTP_HOTPATH_GUARD_UNKNOWN     1


typedef enum {
    ngx_http_hotpath_guard_reading = 0,  /* its body comes */
    ngx_http_hotpath_guard_looking,      /* what is known of its key? */
    ngx_http_hotpath_guard_waiting,      /* for the one that is in flight */
    ngx_http_hotpath_guard_asking,       /* Redis */
    ngx_http_hotpath_guard_refused,      /* with ctx->problem */
    ngx_http_hotpath_guard_replaying,    /* ctx->head and ctx->body */
    ngx_http_hotpath_guard_claimed,      /* it goes to the upstream */
    ngx_http_hotpath_guard_capturing,    /* which answers */
    ngx_http_hotpath_guard_settling,     /* that is being written down */
    ngx_http_hotpath_guard_settled,      /* it was: to the client */
    ngx_http_hotpath_guard_done          /* leave it alone */
} ngx_http_hotpath_guard_state_e;


/* In the request's pool, which ends it. */
typedef struct {
    ngx_http_hotpath_wait_t           wait;
    ngx_http_request_t               *request;
    ngx_http_hotpath_guard_conf_t    *conf;       /* where it began */
    ngx_http_hotpath_redis_t         *redis;      /* NULL: not asked */
    ngx_msec_t                        wait_ms;
    ngx_http_hotpath_guard_state_e    state;
    ngx_http_hotpath_problem_e        problem;
    ngx_uint_t                        status;     /* of the first answer, where
                                                     the problem tells it */
    ngx_str_t                         key;        /* until it is an id */

    u_char                            id[HP_UUID_SIZE];
    u_char                            fingerprint[HP_FINGERPRINT_SIZE];
    u_char                            claim[HP_REPLAY_CLAIM_SIZE];
    u_char                            redis_key[
                                   sizeof(NGX_HTTP_HOTPATH_GUARD_PREFIX) - 1
                                   + HP_UUID_TEXT];

    ngx_http_hotpath_redis_call_t    *call;       /* NULL: none is waited for */
    ngx_event_t                       renew;
    ngx_event_t                       again;      /* Redis is asked, or the
                                                     table asked or told, once
                                                     more */
    ngx_msec_t                        left_ms;    /* of the claim in flight */
    ngx_msec_t                        pause_ms;
    ngx_msec_t                        until_ms;   /* of asking Redis */
    ngx_uint_t                        tries;      /* in vain */

    ngx_http_handler_pt               content_handler;
    ngx_uint_t                        http_version;
    ngx_str_t                         head;
    ngx_str_t                         body;
    ngx_http_hotpath_capture_t        capture;
    hp_replay_kind_t                  kind;       /* what is being settled */
    int64_t                           answered_us;

    unsigned                          over:1;     /* it has waited enough */
    unsigned                          local:1;    /* it has the claim here */
    unsigned                          remote:1;   /* and perhaps in Redis */
    unsigned                          asked:1;    /* the upstream */
} ngx_http_hotpath_guarded_t;


/* That of the request, also behind an internal redirect; NULL: none. */
ngx_http_hotpath_guarded_t *ngx_http_hotpath_guard_ctx(ngx_http_request_t *r);

/* Its state has changed outside of the phases: they go on. */
void ngx_http_hotpath_guard_go_on(ngx_http_hotpath_guarded_t *ctx);


/*
 * From looking to claimed, replaying or refused at once; to waiting, where the
 * key is in flight in this instance; or to asking, which goes on by itself.
 */
void ngx_http_hotpath_guard_claim(ngx_http_hotpath_guarded_t *ctx);

/*
 * What became of the request is written down: an answer (head and body) with
 * ctx->status, or that there is none. NGX_OK: it is; NGX_AGAIN: the state is
 * settling, and ngx_http_hotpath_guard_resume() is called. hold: 0 where nobody
 * can wait for that; then it is done as far as it can be.
 */
ngx_int_t ngx_http_hotpath_guard_settle(ngx_http_hotpath_guarded_t *ctx,
    hp_replay_kind_t kind, ngx_uint_t hold);

/* Looks, asks or tells again then; detach() and what settles forget it. */
void ngx_http_hotpath_guard_later(ngx_http_hotpath_guarded_t *ctx,
    ngx_msec_t ms);

/* Nothing became of it: the next request may try. */
void ngx_http_hotpath_guard_release(ngx_http_hotpath_guarded_t *ctx);

/* Nothing is waited for any more; for whoever ends the request. */
void ngx_http_hotpath_guard_detach(ngx_http_hotpath_guarded_t *ctx);


/* The filters; from postconfiguration. */
void ngx_http_hotpath_guard_filters(void);

/* Settled: the answer goes on to the client. */
void ngx_http_hotpath_guard_resume(ngx_http_hotpath_guarded_t *ctx);

/* Sends ctx->head and ctx->body; what it gives is for
 * ngx_http_finalize_request(). */
ngx_int_t ngx_http_hotpath_guard_replay(ngx_http_request_t *r,
    ngx_http_hotpath_guarded_t *ctx);

/* The upstream was asked and will not answer any more, or not as a whole. */
void ngx_http_hotpath_guard_lost(ngx_http_hotpath_guarded_t *ctx);


#endif /* _NGX_HTTP_HOTPATH_GUARDED_H_INCLUDED_ */
