/*
 * ngx_http_hotpath_write.h: a write and its events, between the rooms that it
 * goes through.
 *
 * request takes them in and settles each; result gives the answer, and with
 * Prefer: respond-sync waits for the commits before.
 */
#ifndef _NGX_HTTP_HOTPATH_WRITE_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_WRITE_H_INCLUDED_


#include "ngx_http_hotpath_accept.h"
#include "ngx_http_hotpath_follow.h"
#include "ngx_http_hotpath_hold.h"


typedef struct ngx_http_hotpath_write_s  ngx_http_hotpath_write_t;


/* One event of a request, until the answer. */
typedef struct {
    ngx_http_hotpath_write_t     *write;
    ngx_http_hotpath_waiter_t    *waiter;    /* while it is under way */
    ngx_http_hotpath_hold_t      *hold;      /* while another one is */
    ngx_http_hotpath_fate_t      *fate;      /* decided; NULL: not known, or
                                                not waited for */
    ngx_str_t                     members;   /* of the problem's document */
    ngx_http_hotpath_problem_e    problem;   /* _N: accepted */
    uint32_t                      twin;      /* 0, or one more than the number
                                                of the slot with this very
                                                event, whose outcome counts */
    u_char                        id[HP_UUID_SIZE];
    u_char                        fingerprint[8];  /* its beginning */
    unsigned                      known:1;   /* id is set */
    unsigned                      replayed:1;
} ngx_http_hotpath_slot_t;


/* Which operations a batch had before, while it is gone through: a table by
 * the last bytes of the id, where one more than the slot's number stands. */
typedef struct {
    uint32_t                      slot;      /* 0: free */
    u_char                        fingerprint[HP_FINGERPRINT_SIZE];
} ngx_http_hotpath_seen_t;


/* A request; zeroed. */
struct ngx_http_hotpath_write_s {
    ngx_http_request_t           *request;
    ngx_http_hotpath_slot_t      *slots;
    ngx_uint_t                    nslots;
    ngx_uint_t                    priority;  /* of all of them */
    ngx_uint_t                    waiting;   /* slots with a waiter or held */
    ngx_http_hotpath_seen_t      *seen;      /* only within write_text */
    uint32_t                      seen_mask;
    ngx_msec_t                    sync_ms;   /* to wait for the commits */
    ngx_http_hotpath_follows_t   *follows;   /* while it does, and after */
    ngx_uint_t                    undecided; /* slots, after that */
    unsigned                      is_list:1;
    ngx_http_hotpath_slot_t       one;
    ngx_http_hotpath_headers_t    headers;
};


/* Settles the slot with a problem; request's. */
void ngx_http_hotpath_write_refuse(ngx_http_hotpath_slot_t *slot,
    ngx_http_hotpath_problem_e problem);

/* Every slot is settled: the answer, whose result it gives, or NGX_DONE where
 * it is given later, when it is known what became of the events. */
ngx_int_t ngx_http_hotpath_write_settled(ngx_http_hotpath_write_t *write);


#endif /* _NGX_HTTP_HOTPATH_WRITE_H_INCLUDED_ */
