/*
 * ngx_http_hotpath_idempotency.h: what the instance knows of operations.
 *
 * The first of three layers (shared memory, broker, Postgres), each allowed to
 * forget because the next does not. It answers repeats without publishing,
 * and knows how far each stream is committed, so that a status needs no
 * database. Knows shm and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_IDEMPOTENCY_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_IDEMPOTENCY_H_INCLUDED_


#include "ngx_http_hotpath_shm.h"
#include "core/hp_priority.h"


typedef struct ngx_http_hotpath_idempotency_s  ngx_http_hotpath_idempotency_t;


typedef enum {
    NGX_HTTP_HOTPATH_OP_FREE = 0,
    NGX_HTTP_HOTPATH_OP_IN_FLIGHT,   /* published, not acknowledged yet */
    NGX_HTTP_HOTPATH_OP_ACCEPTED,    /* acknowledged by the broker */
    NGX_HTTP_HOTPATH_OP_PROCESSED,   /* committed; only given out, not kept */
    NGX_HTTP_HOTPATH_OP_DEAD,        /* dead-lettered by the drain */
    NGX_HTTP_HOTPATH_OP_CONFLICT,    /* committed; another payload was seen */
    NGX_HTTP_HOTPATH_OP_LOST         /* gone after it was acknowledged */
} ngx_http_hotpath_op_e;


/* What is known of one operation. */
typedef struct {
    ngx_http_hotpath_op_e  state;
    int64_t                accepted_us;  /* since 1970 */
    uint64_t               sequence;     /* accepted: of its message */
    ngx_uint_t             number;       /* and of its stream */
    ngx_msec_t             left_ms;      /* in flight: until the claim ends, if
                                            nobody renews it */
    unsigned               unsure:1;     /* accepted, and what is heard of
                                            commits does not say more: another
                                            stream's, or not of all messages */
} ngx_http_hotpath_op_t;


/* hotpath_idempotency_zone zone=name:size [window=24h]; conf + cmd->offset is
 * a (ngx_http_hotpath_idempotency_t *), NULL before. */
char *ngx_http_hotpath_idempotency_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/*
 * A table of its own: name:size, or where it is patient also only the name of
 * one that another directive gives its size. window_s: 1 to 30 days, the same
 * for all that name it. NULL: not possible, which was logged. A patient one
 * waits for a claim's deadline also where its worker is gone.
 */
ngx_http_hotpath_idempotency_t *ngx_http_hotpath_idempotency_add(
    ngx_conf_t *cf, ngx_str_t *text, time_t window_s, ngx_uint_t patient);

/*
 * Claims the operation for this worker until deadline_ms from now. NGX_OK:
 * claimed, to be settled by _accept() or _release(). NGX_DONE: accepted
 * before, *op is filled. NGX_AGAIN: in flight under another request, for at
 * least op->left_ms unless it is settled before.
 * NGX_DECLINED: known with another fingerprint. NGX_BUSY: not to be kept (no
 * room or lock): go on without, the next layers do not forget. With NGX_OK,
 * op->state is OP_LOST where it was accepted before and lost: the broker may
 * still take it for a repeat, so it needs another message id.
 */
ngx_int_t ngx_http_hotpath_idempotency_claim(
    ngx_http_hotpath_idempotency_t *table,
    const u_char id[HP_UUID_SIZE],
    const u_char fingerprint[HP_FINGERPRINT_SIZE],
    ngx_msec_t deadline_ms, ngx_http_hotpath_op_t *op);

/* Has the processor fetch what it will need for that operation. */
void ngx_http_hotpath_idempotency_prefetch(
    ngx_http_hotpath_idempotency_t *table, const u_char id[HP_UUID_SIZE]);

/* The broker has it, in the stream of that number under that sequence; created
 * tells the streams of one name apart (0: not known). In a table that is not of
 * events they are the caller's, the number being HP_STREAMS_MAX to 65535.
 * NGX_OK; NGX_DECLINED: it was settled before, or there is no room; NGX_BUSY:
 * the table could not be told, and does not know it. */
ngx_int_t ngx_http_hotpath_idempotency_accept(
    ngx_http_hotpath_idempotency_t *table, const u_char id[HP_UUID_SIZE],
    const u_char fingerprint[HP_FINGERPRINT_SIZE], int64_t accepted_us,
    ngx_uint_t number, uint64_t created, uint64_t sequence);

/* It was not accepted, as far as is known: the next request may try again. */
void ngx_http_hotpath_idempotency_release(
    ngx_http_hotpath_idempotency_t *table, const u_char id[HP_UUID_SIZE]);

/* Moves the claim's deadline. NGX_DECLINED: it is this worker's no more;
 * NGX_BUSY: not done this time. */
ngx_int_t ngx_http_hotpath_idempotency_renew(
    ngx_http_hotpath_idempotency_t *table, const u_char id[HP_UUID_SIZE],
    ngx_msec_t deadline_ms);

/* NGX_OK with *op, or NGX_DECLINED where this instance does not know it. */
ngx_int_t ngx_http_hotpath_idempotency_find(
    ngx_http_hotpath_idempotency_t *table, const u_char id[HP_UUID_SIZE],
    ngx_http_hotpath_op_t *op);

/* It was accepted under that sequence and nobody will ever store it: the next
 * request may try again. */
void ngx_http_hotpath_idempotency_lost(
    ngx_http_hotpath_idempotency_t *table, const u_char id[HP_UUID_SIZE],
    uint64_t sequence);

/* From a commit notice: everything from whole to sequence is in Postgres, and
 * what ended otherwise than processed was named. */
void ngx_http_hotpath_idempotency_committed(
    ngx_http_hotpath_idempotency_t *table, ngx_uint_t number,
    uint64_t created, uint64_t whole, uint64_t sequence);

/* From a commit notice: this one ended otherwise than processed. */
void ngx_http_hotpath_idempotency_ended(
    ngx_http_hotpath_idempotency_t *table, const u_char id[HP_UUID_SIZE],
    ngx_http_hotpath_op_e state);

/* How long an accepted operation is remembered, in seconds, at most. */
ngx_uint_t ngx_http_hotpath_idempotency_window(
    ngx_http_hotpath_idempotency_t *table);


#endif /* _NGX_HTTP_HOTPATH_IDEMPOTENCY_H_INCLUDED_ */
