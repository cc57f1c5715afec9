/*
 * ngx_http_hotpath_follow.c: what has become of operations, now or as soon as
 * it is decided.
 *
 * step() is the one place that decides: it looks at the table of operations,
 * and where that does not settle it, asks Postgres, once at the beginning, once
 * at the end of a wait, and in between at a notice of the drain, with a pause
 * that doubles from 100 ms. Of what this instance accepted itself, it knows
 * partition and sequence: that waits for its place in the partition and asks
 * Postgres only where the notices do not settle it (dead, a conflict, messages
 * that the drain has not seen). No row is a proof of loss only together with
 * evidence that the drain is past it: see lost().
 *
 * Runs in the event loop of a worker, with no lock held. The memory is the
 * request's; a request that goes away takes its waiters and questions with it.
 * Never in here: "processed" or "lost" by anything but a commit, a timer of its
 * own beside the deadline, an answer. See ngx_module/README.md, "What became of
 * it"; tests/integration/test_follow.py.
 */


#include "ngx_http_hotpath_follow.h"
#include "core/hp_id.h"


#define NGX_HTTP_HOTPATH_FOLLOW_PAUSE_MS  100
#define NGX_HTTP_HOTPATH_FOLLOW_COLUMNS   9

#define NGX_HTTP_HOTPATH_FOLLOW_WAIT_MAX_S  86400
#define NGX_HTTP_HOTPATH_FOLLOW_PREFER    1024

/* By how much the clocks of nginx and of a drain may differ. */
#define NGX_HTTP_HOTPATH_FOLLOW_SKEW_MS   5000


static void ngx_http_hotpath_follow_cleanup(void *data);
static ngx_int_t ngx_http_hotpath_follow_step(ngx_http_hotpath_follow_t *f);
static ngx_int_t ngx_http_hotpath_follow_memory(ngx_http_hotpath_follow_t *f,
    ngx_http_hotpath_op_t *op);
static ngx_int_t ngx_http_hotpath_follow_ask(ngx_http_hotpath_follow_t *f,
    ngx_uint_t number);
static void ngx_http_hotpath_follow_row(void *data, ngx_int_t rc,
    PGresult *result);
static ngx_int_t ngx_http_hotpath_follow_read(ngx_http_hotpath_follow_t *f,
    PGresult *result);
static void ngx_http_hotpath_follow_absent(ngx_http_hotpath_follow_t *f,
    PGresult *result);
static ngx_uint_t ngx_http_hotpath_follow_lost(ngx_http_hotpath_follow_t *f,
    ngx_http_hotpath_op_t *op, PGresult *result);
static ngx_int_t ngx_http_hotpath_follow_later(ngx_http_hotpath_follow_t *f);
static void ngx_http_hotpath_follow_woken(ngx_http_hotpath_wait_t *wait,
    ngx_uint_t over);
static void ngx_http_hotpath_follow_done(ngx_http_hotpath_follow_t *f);


ngx_http_hotpath_follows_t *
ngx_http_hotpath_follows(ngx_http_request_t *r, ngx_uint_t n,
    ngx_http_hotpath_follow_pt handler, void *data)
{
    ngx_uint_t                   i;
    ngx_pool_cleanup_t          *cln;
    ngx_http_hotpath_follows_t  *follows;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    follows = ngx_pcalloc(r->pool, sizeof(ngx_http_hotpath_follows_t)
                             + (n - 1) * sizeof(ngx_http_hotpath_follow_t));
    if (follows == NULL) {
        return NULL;
    }

    follows->mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);
    follows->handler = handler;
    follows->data = data;
    follows->n = n;

    for (i = 0; i < n; i++) {
        follows->follow[i].follows = follows;
    }

    cln->handler = ngx_http_hotpath_follow_cleanup;
    cln->data = follows;

    return follows;
}


/* The request ends, however: nobody waits any longer. */

static void
ngx_http_hotpath_follow_cleanup(void *data)
{
    ngx_http_hotpath_follows_t *follows = data;

    ngx_uint_t                  i;
    ngx_http_hotpath_follow_t  *f;

    for (i = 0; i < follows->n; i++) {
        f = &follows->follow[i];

        ngx_http_hotpath_wait_leave(&f->wait);

        if (f->call) {
            ngx_http_hotpath_postgres_cancel(f->call);
            f->call = NULL;
        }
    }
}


ngx_int_t
ngx_http_hotpath_follows_begin(ngx_http_hotpath_follows_t *follows,
    ngx_msec_t ms)
{
    ngx_uint_t                  i;
    ngx_http_hotpath_follow_t  *f;

    /* one more than there are, so that nothing ends meanwhile */
    follows->pending = follows->n + 1;

    for (i = 0; i < follows->n; i++) {
        f = &follows->follow[i];

        f->pause_ms = NGX_HTTP_HOTPATH_FOLLOW_PAUSE_MS;
        f->not_before = ngx_current_msec;
        f->wait.handler = ngx_http_hotpath_follow_woken;
        f->wait.data = f;

        /* entered first, or what happens in between would be missed */

        f->waits = ms && ngx_http_hotpath_wait_enter(&f->wait, f->id, ms)
                         == NGX_OK;
        f->waited = f->waits;

        if (ngx_http_hotpath_follow_step(f) == NGX_OK) {
            ngx_http_hotpath_follow_done(f);
        }
    }

    follows->pending--;
    follows->begun = 1;

    return follows->pending ? NGX_AGAIN : NGX_OK;
}


ngx_uint_t
ngx_http_hotpath_fate_decided(ngx_http_hotpath_fate_t *fate)
{
    return fate->fate >= NGX_HTTP_HOTPATH_FATE_PROCESSED;
}


/* NGX_OK: its fate is what is to be answered. NGX_AGAIN: it waits, or
 * Postgres was asked. */

static ngx_int_t
ngx_http_hotpath_follow_step(ngx_http_hotpath_follow_t *f)
{
    ngx_int_t              rc;
    ngx_http_hotpath_op_t  op;

    if (f->call) {
        return NGX_AGAIN;
    }

    rc = ngx_http_hotpath_follow_memory(f, &op);

    if (rc == NGX_AGAIN && f->waits) {
        ngx_http_hotpath_wait_until(&f->wait, op.number, op.sequence);

        /* it may have been committed just before */
        rc = ngx_http_hotpath_follow_memory(f, &op);
    }

    switch (rc) {

    case NGX_OK:
        return NGX_OK;

    case NGX_AGAIN:
        return f->waits ? NGX_AGAIN : NGX_OK;

    default: /* NGX_DECLINED */
        break;
    }

    if (f->follows->mcf->status == NULL) {
        /* dead or in conflict, for reasons that nobody can say */
        return f->waits && !ngx_http_hotpath_fate_decided(&f->fate)
               ? NGX_AGAIN : NGX_OK;
    }

    if (f->waits && (ngx_msec_int_t) (f->not_before - ngx_current_msec) > 0) {
        return ngx_http_hotpath_follow_later(f);
    }

    if (ngx_http_hotpath_follow_ask(f, op.number) == NGX_OK) {
        return NGX_AGAIN;
    }

    if (f->fate.fate == NGX_HTTP_HOTPATH_FATE_UNKNOWN) {
        f->fate.fate = NGX_HTTP_HOTPATH_FATE_UNAVAILABLE;
    }

    return ngx_http_hotpath_follow_later(f);
}


/* What the table of operations says. NGX_OK: that is it. NGX_AGAIN: accepted,
 * and its commit will be heard of. NGX_DECLINED: Postgres may know more. */

static ngx_int_t
ngx_http_hotpath_follow_memory(ngx_http_hotpath_follow_t *f,
    ngx_http_hotpath_op_t *op)
{
    ngx_http_hotpath_main_conf_t  *mcf;

    mcf = f->follows->mcf;
    op->state = NGX_HTTP_HOTPATH_OP_FREE;
    op->number = NGX_HTTP_HOTPATH_WAIT_ANYWHERE;

    if (mcf->operations == NULL
        || ngx_http_hotpath_idempotency_find(mcf->operations, f->id, op)
           != NGX_OK)
    {
        f->fate.fate = NGX_HTTP_HOTPATH_FATE_UNKNOWN;
        return NGX_DECLINED;
    }

    f->fate.accepted_us = op->accepted_us;

    switch (op->state) {

    case NGX_HTTP_HOTPATH_OP_ACCEPTED:
        f->fate.fate = NGX_HTTP_HOTPATH_FATE_ACCEPTED;
        return op->unsure ? NGX_DECLINED : NGX_AGAIN;

    case NGX_HTTP_HOTPATH_OP_PROCESSED:
        f->fate.fate = NGX_HTTP_HOTPATH_FATE_PROCESSED;
        f->fate.processed_us = ngx_http_hotpath_wait_when(op->number,
                                                          op->sequence);
        return NGX_OK;

    case NGX_HTTP_HOTPATH_OP_LOST:
        f->fate.fate = NGX_HTTP_HOTPATH_FATE_LOST;
        return NGX_OK;

    case NGX_HTTP_HOTPATH_OP_DEAD:
        f->fate.fate = NGX_HTTP_HOTPATH_FATE_DEAD;
        return NGX_DECLINED;

    case NGX_HTTP_HOTPATH_OP_CONFLICT:
        f->fate.fate = NGX_HTTP_HOTPATH_FATE_PROCESSED;
        f->fate.conflict = 1;
        return NGX_DECLINED;

    default:
        /* in flight: it may have been processed through another instance */
        op->number = NGX_HTTP_HOTPATH_WAIT_ANYWHERE;
        f->fate.fate = NGX_HTTP_HOTPATH_FATE_UNKNOWN;
        return NGX_DECLINED;
    }
}


static ngx_int_t
ngx_http_hotpath_follow_ask(ngx_http_hotpath_follow_t *f, ngx_uint_t number)
{
    u_char                         text[HP_UUID_TEXT], digits[NGX_INT_T_LEN];
    ngx_int_t                      partition;
    ngx_str_t                      params[3];
    ngx_http_hotpath_main_conf_t  *mcf;

    mcf = f->follows->mcf;

    hp_uuid_format((char *) text, f->id);
    params[0].data = text;
    params[0].len = HP_UUID_TEXT;

    partition = -1;
    ngx_str_set(&params[2], "");

    if (number < HP_STREAMS_MAX) {
        partition = number % HP_PARTITIONS_MAX;
        params[2].data = (u_char *)
                                hp_priority_name(number / HP_PARTITIONS_MAX);
        params[2].len = ngx_strlen(params[2].data);
    }

    params[1].data = digits;
    params[1].len = ngx_sprintf(digits, "%i", partition) - digits;

    ngx_http_hotpath_count(FOLLOW_ASKED);

    f->not_before = ngx_current_msec + f->pause_ms;
    f->pause_ms *= 2;

    f->call = ngx_http_hotpath_postgres_query(mcf->postgres, mcf->status,
                                              params, 3,
                                              ngx_http_hotpath_follow_row, f);

    return f->call ? NGX_OK : NGX_DECLINED;
}


static void
ngx_http_hotpath_follow_row(void *data, ngx_int_t rc, PGresult *result)
{
    ngx_http_hotpath_follow_t *f = data;

    ngx_http_hotpath_op_t  op;

    f->call = NULL;

    /* what is known by now, or was all the time */
    if (ngx_http_hotpath_follow_memory(f, &op) == NGX_OK) {
        ngx_http_hotpath_follow_done(f);
        return;
    }

    if (rc == NGX_OK) {
        rc = ngx_http_hotpath_follow_read(f, result);
    }

    if (rc != NGX_OK && f->fate.fate == NGX_HTTP_HOTPATH_FATE_UNKNOWN) {
        f->fate.fate = NGX_HTTP_HOTPATH_FATE_UNAVAILABLE;
    }

    /* not at once again: there is a pause */

    if (ngx_http_hotpath_fate_decided(&f->fate) || !f->waits
        || ngx_http_hotpath_follow_step(f) == NGX_OK)
    {
        ngx_http_hotpath_follow_done(f);
    }
}


/* NGX_OK, or NGX_ERROR where that is not what the statement gives. */

static ngx_int_t
ngx_http_hotpath_follow_read(ngx_http_hotpath_follow_t *f, PGresult *result)
{
    size_t       i;
    ngx_int_t    byte;
    const char  *state, *hex;

    if (PQntuples(result) != 1
        || PQnfields(result) != NGX_HTTP_HOTPATH_FOLLOW_COLUMNS)
    {
        return NGX_ERROR;
    }

    state = PQgetvalue(result, 0, 0);

    if (*state == '\0') {
        ngx_http_hotpath_follow_absent(f, result);
        return NGX_OK;
    }

    f->fate.row = 1;
    f->fate.accepted_us = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
    f->fate.processed_us = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
    f->fate.conflict = PQgetvalue(result, 0, 4)[0] == 't';

    if (ngx_strcmp(state, "dead") == 0) {
        f->fate.fate = NGX_HTTP_HOTPATH_FATE_DEAD;
        f->fate.code_len = ngx_min(PQgetlength(result, 0, 3),
                                   NGX_HTTP_HOTPATH_FOLLOW_CODE);
        ngx_memcpy(f->fate.code, PQgetvalue(result, 0, 3), f->fate.code_len);

    } else {
        f->fate.fate = NGX_HTTP_HOTPATH_FATE_PROCESSED;
    }

    hex = PQgetvalue(result, 0, 5);

    for (i = 0; i < sizeof(f->fate.fingerprint)
                && (size_t) PQgetlength(result, 0, 5) >= 2 * (i + 1); i++)
    {
        byte = ngx_hextoi((u_char *) hex + 2 * i, 2);
        f->fate.fingerprint[i] = (u_char) byte;
    }

    return NGX_OK;
}


/* Postgres has no row. */

static void
ngx_http_hotpath_follow_absent(ngx_http_hotpath_follow_t *f, PGresult *result)
{
    ngx_http_hotpath_op_t          op;
    ngx_http_hotpath_main_conf_t  *mcf;

    mcf = f->follows->mcf;

    if (ngx_http_hotpath_follow_memory(f, &op) != NGX_DECLINED
        || op.state != NGX_HTTP_HOTPATH_OP_ACCEPTED
        || !ngx_http_hotpath_follow_lost(f, &op, result))
    {
        return;
    }

    f->fate.fate = NGX_HTTP_HOTPATH_FATE_LOST;

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "hotpath: an accepted event is lost: partition %ui, "
                  "priority %s, sequence %uL", op.number % HP_PARTITIONS_MAX,
                  hp_priority_name(op.number / HP_PARTITIONS_MAX),
                  op.sequence);
    ngx_http_hotpath_count(OPERATIONS_LOST);

    /* so that the next request with its key publishes it anew */
    ngx_http_hotpath_idempotency_lost(mcf->operations, f->id, op.sequence);
    ngx_http_hotpath_wait_wake(f->id);
}


/*
 * 1 where an operation that was accepted and has no row will never have one.
 * Row and position are of one snapshot, and the drain moves the position in the
 * transaction that stores. Sequences count only within one stream, and which
 * one it was is not always known: made anew, a stream goes on for seconds
 * before it is noticed. But it is at most as new as the one that was found
 * there when the broker was asked after the acknowledgement. So it is lost
 *
 *   where the drain reads a stream that is newer than that one;
 *   where it reads that one, and is past the sequence: in it or in an older
 *   one, there is nothing left to come;
 *   where the drain saw that nothing was left in the stream, whichever, some
 *   time after the acknowledgement.
 */

static ngx_uint_t
ngx_http_hotpath_follow_lost(ngx_http_hotpath_follow_t *f,
    ngx_http_hotpath_op_t *op, PGresult *result)
{
    int64_t                        acked_us, empty_us;
    uint64_t                       stream, drained, sequence, clock;
    hp_str_t                       text;
    ngx_msec_t                     age_ms;
    ngx_http_hotpath_main_conf_t  *mcf;

    mcf = f->follows->mcf;

    /* at the latest */
    acked_us = op->accepted_us + (int64_t) mcf->publish.timeout * 1000;

    empty_us = strtoll(PQgetvalue(result, 0, 8), NULL, 10);

    if (empty_us > acked_us + NGX_HTTP_HOTPATH_FOLLOW_SKEW_MS * 1000) {
        return 1;
    }

    text.data = (u_char *) PQgetvalue(result, 0, 6);
    text.len = PQgetlength(result, 0, 6);

    if (mcf->publisher == NULL || text.len == 0) {
        return 0;
    }

    stream = ngx_http_hotpath_publish_looked(mcf->publisher, op->number,
                                             &age_ms);

    if (stream == 0
        || ngx_http_hotpath_wall_us() - (int64_t) age_ms * 1000 <= acked_us)
    {
        return 0;
    }

    drained = ngx_http_hotpath_stream_created(text);
    sequence = strtoull(PQgetvalue(result, 0, 7), NULL, 10);

    if (drained == stream) {
        return sequence >= op->sequence;
    }

    /* a time that was not understood is neither earlier nor later */
    clock = (uint64_t) 1 << 63;

    return !((drained | stream) & clock) && drained > stream;
}


/* Undecided: NGX_AGAIN where it waits, NGX_OK where that is all. */

static ngx_int_t
ngx_http_hotpath_follow_later(ngx_http_hotpath_follow_t *f)
{
    if (!f->waits) {
        return NGX_OK;
    }

    ngx_http_hotpath_wait_until(&f->wait, NGX_HTTP_HOTPATH_WAIT_ANYWHERE,
                                f->not_before);
    return NGX_AGAIN;
}


static void
ngx_http_hotpath_follow_woken(ngx_http_hotpath_wait_t *wait, ngx_uint_t over)
{
    ngx_http_hotpath_follow_t  *f;

    f = wait->data;

    if (over) {
        /* what is known at the end is asked for once more */
        f->waits = 0;
    }

    if (ngx_http_hotpath_follow_step(f) == NGX_OK) {
        ngx_http_hotpath_follow_done(f);
    }
}


static void
ngx_http_hotpath_follow_done(ngx_http_hotpath_follow_t *f)
{
    ngx_http_hotpath_follows_t  *follows;

    if (f->done) {
        return;
    }

    f->done = 1;
    follows = f->follows;

    if (f->wait.inside) {
        ngx_http_hotpath_count(WAIT_DECIDED);
        ngx_http_hotpath_wait_leave(&f->wait);
    }

    if (--follows->pending == 0 && follows->begun) {
        follows->handler(follows->data);
    }
}


void
ngx_http_hotpath_follow_prefer(ngx_http_request_t *r, hp_prefer_t *prefer)
{
    u_char           *p;
    hp_str_t          value;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    value.data = NULL;
    value.len = 0;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len != sizeof("prefer") - 1
            || ngx_strncasecmp(h[i].key.data, (u_char *) "prefer",
                               sizeof("prefer") - 1)
               != 0)
        {
            continue;
        }

        if (value.len == 0) {
            value.data = h[i].value.data;
            value.len = h[i].value.len;
            continue;
        }

        /* several lines are one value (RFC 9110, 5.3), for who means it */

        if (value.len + h[i].value.len >= NGX_HTTP_HOTPATH_FOLLOW_PREFER) {
            break;
        }

        p = ngx_pnalloc(r->pool, value.len + 1 + h[i].value.len);
        if (p == NULL) {
            break;
        }

        ngx_memcpy(p, value.data, value.len);
        p[value.len] = ',';
        ngx_memcpy(p + value.len + 1, h[i].value.data, h[i].value.len);

        value.data = p;
        value.len += 1 + h[i].value.len;
    }

    hp_prefer(prefer, value);

    prefer->wait_s = ngx_min(prefer->wait_s,
                             NGX_HTTP_HOTPATH_FOLLOW_WAIT_MAX_S);
}
