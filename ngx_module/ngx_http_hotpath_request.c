/*
 * ngx_http_hotpath_request.c: the way of a write, top to bottom.
 *
 * write_handler refuses what can be refused without the body; write_text is
 * called with it and has accept make events of it; write_submit derives the
 * operation of one, claims it in shared memory and hands it to the publisher;
 * write_outcome is called when its message was acknowledged (or not), and the
 * last one of a request has result give the answer. An event whose operation is
 * in flight may be held until that is decided (hotpath_idempotency_wait), and
 * is then submitted again. Each event of a batch goes this way for itself. A
 * request that waits owns its slots, one for each event; when the client goes
 * away their waiters are detached, and the outcomes still settle the claims.
 * Runs in the content phase and in the event loop, with no lock held. Never in
 * here: a 202 before the PubAck, a copy of the body beside the one in the group
 * (but for what is held), two results for one event of a batch, or none. See
 * the HTTP contract in ngx_module/README.md; tests/integration/test_write.py,
 * test_events.py, test_idempotency.py.
 */


#include "ngx_http_hotpath_body.h"
#include "ngx_http_hotpath_publish_conf.h"
#include "ngx_http_hotpath_write.h"
#include "core/hp_id.h"

#include <openssl/rand.h>


static ngx_int_t ngx_http_hotpath_write_text(ngx_http_request_t *r,
    void *data, ngx_pool_t *pool, hp_str_t *text);
static ngx_int_t ngx_http_hotpath_write_slots(
    ngx_http_hotpath_write_t *write, ngx_http_hotpath_accept_t *accept);
static void ngx_http_hotpath_write_event(ngx_http_hotpath_accept_t *accept,
    ngx_http_hotpath_slot_t *slot, ngx_str_t *tenant);
static void ngx_http_hotpath_write_submit(ngx_http_hotpath_slot_t *slot,
    hp_event_t *event, hp_str_t partition_key);
static void ngx_http_hotpath_write_publish(ngx_http_hotpath_slot_t *slot,
    hp_event_t *event, hp_str_t partition_key,
    ngx_http_hotpath_seen_t *seen, ngx_uint_t again);
static ngx_int_t ngx_http_hotpath_write_claim(ngx_http_hotpath_slot_t *slot,
    hp_event_t *event, hp_str_t partition_key, ngx_http_hotpath_op_t *op);
static void ngx_http_hotpath_write_woken(ngx_http_hotpath_wait_t *wait,
    ngx_uint_t over);
static void ngx_http_hotpath_write_done(ngx_http_hotpath_write_t *write);
static void ngx_http_hotpath_write_unhold(ngx_http_hotpath_slot_t *slot);
static ngx_http_hotpath_seen_t *ngx_http_hotpath_write_seen(
    ngx_http_hotpath_write_t *write, u_char *id);
static void ngx_http_hotpath_write_ahead(ngx_http_hotpath_main_conf_t *mcf,
    ngx_http_hotpath_waiter_t *waiter);
static void ngx_http_hotpath_write_cleanup(void *data);


/* Of what the broker says no to, by hp_refused_e. */
static ngx_http_hotpath_problem_e  ngx_http_hotpath_refusals[] = {
    NGX_HTTP_HOTPATH_PROBLEM_BROKER_REFUSED,     /* HP_REFUSED_OTHER */
    NGX_HTTP_HOTPATH_PROBLEM_STREAM_FULL,        /* HP_REFUSED_FULL */
    NGX_HTTP_HOTPATH_PROBLEM_STREAM_UNFIT,       /* HP_REFUSED_MISSING */
    NGX_HTTP_HOTPATH_PROBLEM_BROKER_DEGRADED,    /* HP_REFUSED_DEGRADED */
    NGX_HTTP_HOTPATH_PROBLEM_BROKER_DENIED,      /* HP_REFUSED_DENIED */
    NGX_HTTP_HOTPATH_PROBLEM_BROKER_REFUSED,     /* HP_REFUSED_SIZE */
    NGX_HTTP_HOTPATH_PROBLEM_OUTCOME_UNKNOWN     /* HP_REFUSED_UNSURE */
};


ngx_int_t
ngx_http_hotpath_write_handler(ngx_http_request_t *r)
{
    ngx_uint_t                     gzip;
    hp_prefer_t                    prefer;
    ngx_pool_cleanup_t            *cln;
    ngx_http_hotpath_write_t      *write;
    ngx_http_hotpath_problem_e     problem;
    ngx_http_hotpath_loc_conf_t   *lcf;
    ngx_http_hotpath_body_conf_t   body;
    ngx_http_hotpath_main_conf_t  *mcf;

    static ngx_str_t  allow = ngx_string("POST");

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);
    mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);

    if (r->method != NGX_HTTP_POST) {
        ngx_http_hotpath_count(WRITE_REFUSED);
        return ngx_http_hotpath_refuse_method(r, &allow);
    }

    if (r->headers_in.content_length_n < 0 && !r->headers_in.chunked
        && r->http_version < NGX_HTTP_VERSION_20)
    {
        /* such a request has no body, and whoever sent it meant one */
        problem = NGX_HTTP_HOTPATH_PROBLEM_LENGTH_REQUIRED;
        goto refuse;
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_hotpath_write_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    write = cln->data;
    ngx_memzero(write, sizeof(ngx_http_hotpath_write_t));
    write->request = r;

    cln->handler = ngx_http_hotpath_write_cleanup;

    if (ngx_http_hotpath_accept_headers(r, lcf, &write->headers, &problem)
        != NGX_OK)
    {
        goto refuse;
    }

    if (lcf->respond_sync) {
        ngx_http_hotpath_follow_prefer(r, &prefer);

        if (prefer.respond_sync) {
            write->sync_ms = lcf->respond_sync;
        }

        if (prefer.respond_sync && prefer.wait_s >= 0) {
            write->sync_ms = ngx_min((ngx_msec_t) prefer.wait_s * 1000,
                                     lcf->respond_sync);
        }
    }

    gzip = 0;

    if (write->headers.encoding_lines
        && (write->headers.encoding_lines != 1
            || ngx_http_hotpath_body_coding(&write->headers.encoding, &gzip)
               != NGX_OK))
    {
        /* RFC 9110, 15.5.16: so the client learns what would be taken */
        (void) ngx_http_hotpath_header_const(r, "Accept-Encoding", "gzip");

        problem = NGX_HTTP_HOTPATH_PROBLEM_CONTENT_ENCODING_UNSUPPORTED;
        goto refuse;
    }

    body.max = lcf->body_max;
    body.list_max = lcf->body_max;
    body.memory_max = mcf->body_memory;
    body.gzip = gzip;
    body.refused = NGX_HTTP_HOTPATH_WRITE_REFUSED;
    body.full = NGX_HTTP_HOTPATH_WRITE_UNAVAILABLE;
    body.handler = ngx_http_hotpath_write_text;
    body.data = write;

    if (lcf->batch_max) {

        if (write->headers.form == HP_EVENT_BATCH) {
            body.max = lcf->batch_size;
            body.list_max = lcf->batch_size;

        } else if (write->headers.form == HP_EVENT_OWN) {
            body.list_max = lcf->batch_size;
        }
    }

    return ngx_http_hotpath_body_read(r, &body);

refuse:

    ngx_http_hotpath_count(WRITE_REFUSED);

    return ngx_http_hotpath_refuse(r, problem);
}


/* The body is there; NGX_DONE: the last outcome gives the answer. */

static ngx_int_t
ngx_http_hotpath_write_text(ngx_http_request_t *r, void *data,
    ngx_pool_t *pool, hp_str_t *text)
{
    ngx_http_hotpath_write_t *write = data;

    ngx_int_t                     rc;
    ngx_str_t                     tenant;
    ngx_uint_t                    i;
    ngx_http_hotpath_accept_t     accept;
    ngx_http_hotpath_loc_conf_t  *lcf;

    accept.request = r;
    accept.headers = &write->headers;
    accept.pool = pool;
    accept.text = *text;

    rc = ngx_http_hotpath_accept_open(&accept);

    if (rc == NGX_OK) {
        lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

        rc = ngx_http_hotpath_tenant(r, lcf, &tenant);

        if (rc == NGX_DECLINED) {
            accept.problem = NGX_HTTP_HOTPATH_PROBLEM_TENANT_INVALID;
            accept.members.len = 0;
        }
    }

    if (rc == NGX_DECLINED) {
        ngx_http_hotpath_count(WRITE_REFUSED);
        return ngx_http_hotpath_problem_members(r, accept.problem,
                                                &accept.members);
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_hotpath_priority(r, &write->priority) != NGX_OK
        || ngx_http_hotpath_write_slots(write, &accept) != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < write->nslots; i++) {
        write->slots[i].write = write;
        write->slots[i].problem = NGX_HTTP_HOTPATH_PROBLEM_N;
        ngx_http_hotpath_write_event(&accept, &write->slots[i], &tenant);
    }

    write->seen = NULL;

    if (write->waiting == 0) {
        return ngx_http_hotpath_write_settled(write);
    }

    /* notices a client that goes away; nothing else is read meanwhile */
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_DONE;
}


static ngx_int_t
ngx_http_hotpath_write_slots(ngx_http_hotpath_write_t *write,
    ngx_http_hotpath_accept_t *accept)
{
    uint32_t  size;

    write->is_list = accept->is_list;

    if (!accept->is_list) {
        write->slots = &write->one;
        write->nslots = 1;
        return NGX_OK;
    }

    ngx_http_hotpath_count(WRITE_BATCHES);

    write->nslots = accept->list.count;

    if (write->nslots == 0) {
        return NGX_OK;
    }

    write->slots = ngx_pcalloc(write->request->pool,
                            write->nslots * sizeof(ngx_http_hotpath_slot_t));
    if (write->slots == NULL) {
        return NGX_ERROR;
    }

    for (size = 2; size < 2 * write->nslots; size *= 2) { /* void */ }

    write->seen_mask = size - 1;
    write->seen = ngx_pcalloc(accept->pool,
                              size * sizeof(ngx_http_hotpath_seen_t));

    return write->seen ? NGX_OK : NGX_ERROR;
}


/* One event from the text to the publisher, or to what is wrong with it. */

static void
ngx_http_hotpath_write_event(ngx_http_hotpath_accept_t *accept,
    ngx_http_hotpath_slot_t *slot, ngx_str_t *tenant)
{
    u_char                         drawn[10];
    hp_str_t                       partition_key;
    ngx_int_t                      rc;
    hp_event_t                     event;
    ngx_http_hotpath_loc_conf_t   *lcf;
    ngx_http_hotpath_main_conf_t  *mcf;

    rc = ngx_http_hotpath_accept_event(accept, &event);

    if (rc == NGX_DECLINED) {
        slot->members = accept->members;
        ngx_http_hotpath_write_refuse(slot, accept->problem);
        return;
    }

    if (rc != NGX_OK
        || ngx_http_hotpath_accept_partition_key(accept, &event,
                                                 &partition_key)
           != NGX_OK)
    {
        ngx_http_hotpath_write_refuse(slot,
                                      NGX_HTTP_HOTPATH_PROBLEM_NO_MEMORY);
        return;
    }

    /* which operation that is */

    lcf = ngx_http_get_module_loc_conf(accept->request,
                                       ngx_http_hotpath_module);

    event.tenant.data = tenant->data;
    event.tenant.len = tenant->len;
    event.route.data = lcf->route.data;
    event.route.len = lcf->route.len;
    event.traceparent.data = accept->headers->trace.data;
    event.traceparent.len = accept->headers->trace.len;
    event.accepted_us = ngx_http_hotpath_wall_us();

    if (event.key.len) {
        hp_operation_id(event.operation_id, event.tenant, event.route,
                        event.key);

        mcf = ngx_http_get_module_main_conf(accept->request,
                                            ngx_http_hotpath_module);

        if (mcf->operations) {
            ngx_http_hotpath_idempotency_prefetch(mcf->operations,
                                                  event.operation_id);
        }

    } else {
        if (RAND_bytes(drawn, sizeof(drawn)) != 1) {
            ngx_http_hotpath_write_refuse(slot,
                                          NGX_HTTP_HOTPATH_PROBLEM_NO_MEMORY);
            return;
        }

        hp_uuid7(event.operation_id, event.accepted_us / 1000, drawn);
    }

    hp_fingerprint(event.fingerprint, event.type, event.payload);

    ngx_memcpy(slot->id, event.operation_id, HP_UUID_SIZE);
    ngx_memcpy(slot->fingerprint, event.fingerprint,
               sizeof(slot->fingerprint));
    slot->known = 1;

    ngx_http_hotpath_write_submit(slot, &event, partition_key);
}


/* Claims the operation and hands it to the publisher, unless it is known. */

static void
ngx_http_hotpath_write_submit(ngx_http_hotpath_slot_t *slot,
    hp_event_t *event, hp_str_t partition_key)
{
    ngx_int_t                      rc;
    ngx_http_hotpath_op_t          op;
    ngx_http_hotpath_seen_t       *seen;
    ngx_http_hotpath_write_t      *write;
    ngx_http_hotpath_main_conf_t  *mcf;

    write = slot->write;
    seen = NULL;

    mcf = ngx_http_get_module_main_conf(write->request,
                                        ngx_http_hotpath_module);

    if (write->seen && event->key.len) {
        seen = ngx_http_hotpath_write_seen(write, event->operation_id);

        if (seen->slot) {
            if (ngx_memcmp(seen->fingerprint, event->fingerprint,
                           HP_FINGERPRINT_SIZE)
                != 0)
            {
                ngx_http_hotpath_write_refuse(slot,
                                         NGX_HTTP_HOTPATH_PROBLEM_KEY_REUSED);
                return;
            }

            slot->twin = seen->slot;
            return;
        }
    }

    /* whether it is new here */

    rc = NGX_BUSY;
    op.state = NGX_HTTP_HOTPATH_OP_FREE;

    if (mcf->operations && event->key.len) {
        rc = ngx_http_hotpath_write_claim(slot, event, partition_key, &op);
    }

    switch (rc) {

    case NGX_DONE:
        ngx_http_hotpath_count(WRITE_REPLAYED);
        slot->replayed = 1;
        break;

    case NGX_AGAIN:

        if (slot->hold && !slot->hold->over) {
            return;                    /* this comes back when it is woken */
        }

        ngx_http_hotpath_write_refuse(slot,
                                NGX_HTTP_HOTPATH_PROBLEM_OPERATION_IN_FLIGHT);
        break;

    case NGX_DECLINED:
        ngx_http_hotpath_write_refuse(slot,
                                      NGX_HTTP_HOTPATH_PROBLEM_KEY_REUSED);
        break;

    default: /* NGX_OK, or NGX_BUSY: the next layers tell repeats apart */
        ngx_http_hotpath_write_publish(slot, event, partition_key, seen,
                                       op.state == NGX_HTTP_HOTPATH_OP_LOST);
        break;
    }

    if (slot->hold) {
        ngx_http_hotpath_write_unhold(slot);
    }
}


/* As a claim in the table does; on NGX_AGAIN the event is held, where it may
 * be. */

static ngx_int_t
ngx_http_hotpath_write_claim(ngx_http_hotpath_slot_t *slot, hp_event_t *event,
    hp_str_t partition_key, ngx_http_hotpath_op_t *op)
{
    ngx_int_t                      rc;
    ngx_http_hotpath_loc_conf_t   *lcf;
    ngx_http_hotpath_main_conf_t  *mcf;

    lcf = ngx_http_get_module_loc_conf(slot->write->request,
                                       ngx_http_hotpath_module);
    mcf = ngx_http_get_module_main_conf(slot->write->request,
                                        ngx_http_hotpath_module);

    rc = ngx_http_hotpath_idempotency_claim(mcf->operations,
                                            event->operation_id,
                                            event->fingerprint,
                                            mcf->publish.timeout, op);

    if (rc != NGX_AGAIN || slot->hold || lcf->key_wait == 0) {
        return rc;
    }

    slot->hold = ngx_http_hotpath_hold_enter(event, &partition_key,
                                             mcf->body_memory, lcf->key_wait,
                                             ngx_http_hotpath_write_woken,
                                             slot);
    if (slot->hold == NULL) {
        return NGX_AGAIN;
    }

    slot->write->waiting++;

    /* it may have ended before anybody waited for that */

    return ngx_http_hotpath_idempotency_claim(mcf->operations,
                                              event->operation_id,
                                              event->fingerprint,
                                              mcf->publish.timeout, op);
}


/* Away with it. */

static void
ngx_http_hotpath_write_publish(ngx_http_hotpath_slot_t *slot,
    hp_event_t *event, hp_str_t partition_key, ngx_http_hotpath_seen_t *seen,
    ngx_uint_t again)
{
    ngx_int_t                      rc;
    ngx_uint_t                     partition;
    ngx_http_hotpath_write_t      *write;
    ngx_http_hotpath_main_conf_t  *mcf;

    write = slot->write;

    mcf = ngx_http_get_module_main_conf(write->request,
                                        ngx_http_hotpath_module);

    partition = hp_partition(event->tenant, partition_key,
                             event->operation_id, mcf->publish.partitions);

    rc = ngx_http_hotpath_publish_event(mcf->publisher, partition,
                                        write->priority, event, again, slot,
                                        &slot->waiter);
    if (rc == NGX_OK) {
        write->waiting++;

        if (seen) {
            seen->slot = (uint32_t) (slot - write->slots) + 1;
            ngx_memcpy(seen->fingerprint, event->fingerprint,
                       HP_FINGERPRINT_SIZE);
        }

        return;
    }

    if (mcf->operations && event->key.len) {
        ngx_http_hotpath_idempotency_release(mcf->operations,
                                             event->operation_id);
        ngx_http_hotpath_wait_wake(event->operation_id);
    }

    switch (rc) {

    case NGX_DECLINED:
        ngx_http_hotpath_write_refuse(slot,
                                 NGX_HTTP_HOTPATH_PROBLEM_BROKER_UNAVAILABLE);
        break;

    case NGX_ABORT:
        ngx_http_hotpath_write_refuse(slot,
                                      NGX_HTTP_HOTPATH_PROBLEM_STREAM_UNFIT);
        break;

    case NGX_ERROR:
        ngx_http_hotpath_write_refuse(slot, write->is_list
                                   ? NGX_HTTP_HOTPATH_PROBLEM_EVENT_TOO_LARGE
                                   : NGX_HTTP_HOTPATH_PROBLEM_BODY_TOO_LARGE);
        break;

    case NGX_AGAIN:

        if (write->priority == HP_PRIORITY_LOW) {
            ngx_http_hotpath_count(SHED_LOW);

        } else {
            ngx_http_hotpath_count(SHED_NORMAL);
        }

        ngx_http_hotpath_write_refuse(slot,
                                      NGX_HTTP_HOTPATH_PROBLEM_PRIORITY_SHED);
        break;

    default: /* NGX_BUSY */
        ngx_http_hotpath_write_refuse(slot,
                                 NGX_HTTP_HOTPATH_PROBLEM_PUBLISH_QUEUE_FULL);
        break;
    }
}


/* Something became known of the operation that the slot's event is held for,
 * or (over) it is told for the last time. */

static void
ngx_http_hotpath_write_woken(ngx_http_hotpath_wait_t *wait, ngx_uint_t over)
{
    ngx_http_hotpath_slot_t  *slot;

    slot = wait->data;
    slot->hold->over = over;

    ngx_http_hotpath_write_submit(slot, &slot->hold->event,
                                  slot->hold->partition_key);

    if (slot->write->waiting == 0) {
        ngx_http_hotpath_write_done(slot->write);
    }
}


/* Nothing of it is under way or held any more. */

static void
ngx_http_hotpath_write_done(ngx_http_hotpath_write_t *write)
{
    ngx_int_t            rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = write->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    rc = ngx_http_hotpath_write_settled(write);

    if (rc == NGX_DONE) {
        return;
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


static void
ngx_http_hotpath_write_unhold(ngx_http_hotpath_slot_t *slot)
{
    if (!slot->hold->over) {
        ngx_http_hotpath_count(WAIT_DECIDED);
    }

    ngx_http_hotpath_hold_leave(slot->hold);
    slot->hold = NULL;
    slot->write->waiting--;
}


/* Where the operation stands in the table, or may be put. */

static ngx_http_hotpath_seen_t *
ngx_http_hotpath_write_seen(ngx_http_hotpath_write_t *write, u_char *id)
{
    uint32_t                  i;
    ngx_http_hotpath_seen_t  *seen;

    ngx_memcpy(&i, id + HP_UUID_SIZE - sizeof(i), sizeof(i));

    for ( ;; ) {
        seen = &write->seen[i++ & write->seen_mask];

        if (seen->slot == 0
            || ngx_memcmp(write->slots[seen->slot - 1].id, id, HP_UUID_SIZE)
               == 0)
        {
            return seen;
        }
    }
}


/* Settles the slot with a problem. */

void
ngx_http_hotpath_write_refuse(ngx_http_hotpath_slot_t *slot,
    ngx_http_hotpath_problem_e problem)
{
    slot->problem = problem;

    switch (problem) {

    case NGX_HTTP_HOTPATH_PROBLEM_OPERATION_IN_FLIGHT:
    case NGX_HTTP_HOTPATH_PROBLEM_KEY_REUSED:
        ngx_http_hotpath_count(WRITE_CONFLICT);
        break;

    case NGX_HTTP_HOTPATH_PROBLEM_OUTCOME_UNKNOWN:
        ngx_http_hotpath_count(WRITE_TIMEOUT);
        break;

    default:
        if (ngx_http_hotpath_problem_status(problem)
            == NGX_HTTP_SERVICE_UNAVAILABLE)
        {
            ngx_http_hotpath_count(WRITE_UNAVAILABLE);

        } else {
            ngx_http_hotpath_count(WRITE_REFUSED);
        }

        break;
    }
}


/* The publisher's handler: the one place where an event becomes accepted. */

void
ngx_http_hotpath_write_outcome(void *data, ngx_http_hotpath_waiter_t *waiter,
    ngx_http_hotpath_publish_result_t *result)
{
    ngx_http_hotpath_main_conf_t *mcf = data;

    ngx_http_hotpath_slot_t  *slot;

    ngx_http_hotpath_write_ahead(mcf, waiter->next);

    if (mcf->operations) {
        if (result->outcome == NGX_HTTP_HOTPATH_PUBLISHED) {
            (void) ngx_http_hotpath_idempotency_accept(mcf->operations,
                                                waiter->operation_id,
                                                waiter->fingerprint,
                                                waiter->accepted_us,
                                                result->number,
                                                result->created,
                                                result->sequence);
        } else {
            ngx_http_hotpath_idempotency_release(mcf->operations,
                                                 waiter->operation_id);
        }

        ngx_http_hotpath_wait_wake(waiter->operation_id);
    }

    slot = waiter->data;

    if (slot == NULL) {
        return;
    }

    slot->waiter = NULL;

    switch (result->outcome) {

    case NGX_HTTP_HOTPATH_PUBLISHED:
        ngx_http_hotpath_count(WRITE_ACCEPTED);
        ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_ACCEPTED_NORMAL
                                     + slot->write->priority]++;
        break;

    case NGX_HTTP_HOTPATH_PUBLISH_UNKNOWN:
        ngx_http_hotpath_write_refuse(slot,
                                    NGX_HTTP_HOTPATH_PROBLEM_OUTCOME_UNKNOWN);
        break;

    case NGX_HTTP_HOTPATH_PUBLISH_REFUSED:
        ngx_http_hotpath_write_refuse(slot,
                                  ngx_http_hotpath_refusals[result->refused]);
        break;

    default: /* NGX_HTTP_HOTPATH_PUBLISH_UNSENT */
        ngx_http_hotpath_write_refuse(slot,
                                 NGX_HTTP_HOTPATH_PROBLEM_BROKER_UNAVAILABLE);
        break;
    }

    if (--slot->write->waiting == 0) {
        ngx_http_hotpath_write_done(slot->write);
    }
}


/* Whose outcome is told next: most of what that needs has not been touched for
 * as long as the broker took, while hundreds of others were. */

static void
ngx_http_hotpath_write_ahead(ngx_http_hotpath_main_conf_t *mcf,
    ngx_http_hotpath_waiter_t *waiter)
{
    ngx_http_request_t        *r;
    ngx_http_hotpath_slot_t   *slot;

    if (waiter == NULL) {
        return;
    }

    if (mcf->operations) {
        ngx_http_hotpath_idempotency_prefetch(mcf->operations,
                                              waiter->operation_id);
    }

    slot = waiter->data;

    if (slot) {
        r = slot->write->request;

        __builtin_prefetch(r);
        __builtin_prefetch(r->connection);
        __builtin_prefetch(&r->headers_out);
        __builtin_prefetch(r->pool);
    }

    if (waiter->next && waiter->next->data) {
        __builtin_prefetch(waiter->next->data);
    }
}


/* The request ends, however: nobody waits for the outcomes any longer. */

static void
ngx_http_hotpath_write_cleanup(void *data)
{
    ngx_http_hotpath_write_t *write = data;

    ngx_uint_t  i;

    for (i = 0; write->waiting && i < write->nslots; i++) {
        if (write->slots[i].waiter) {
            write->slots[i].waiter->data = NULL;
            write->slots[i].waiter = NULL;
            write->waiting--;
        }

        if (write->slots[i].hold) {
            ngx_http_hotpath_hold_leave(write->slots[i].hold);
            write->slots[i].hold = NULL;
            write->waiting--;
        }
    }
}
