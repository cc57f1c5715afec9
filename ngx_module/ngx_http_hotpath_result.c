/*
 * ngx_http_hotpath_result.c: the answer to a write.
 *
 * 202 once every event is settled, a problem where it is one event that was not
 * accepted, a list of results for a batch. With Prefer: respond-sync, where the
 * location allows that, the answer waits until what was accepted is committed,
 * for a bounded time: 200 where all of it is, 202 where some of it is not yet,
 * and what a request can do nothing about any more (dead, lost, another payload
 * that was first) as a problem. Owns nothing: slots are the request's. Runs in
 * the content phase and in the event loop, with no lock held. Never in here: a
 * 200 before the commit. See the HTTP contract in ngx_module/README.md;
 * tests/integration/test_write.py, test_events.py, test_follow.py.
 */


#include "ngx_http_hotpath_direct.h"
#include "ngx_http_hotpath_write.h"
#include "core/hp_id.h"
#include "core/hp_json.h"


/* Bytes of the body that says so. */
#define NGX_HTTP_HOTPATH_ACCEPTED_BODY                                        \
    (sizeof("{\"operationId\":\"\",\"status\":\"accepted\"}") - 1             \
     + HP_UUID_TEXT)


static void ngx_http_hotpath_write_twins(ngx_http_hotpath_write_t *write);
static ngx_int_t ngx_http_hotpath_write_follow(
    ngx_http_hotpath_write_t *write);
static void ngx_http_hotpath_write_decided(void *data);
static ngx_int_t ngx_http_hotpath_write_fates(
    ngx_http_hotpath_write_t *write);
static ngx_int_t ngx_http_hotpath_write_fate(ngx_http_request_t *r,
    ngx_http_hotpath_slot_t *slot, ngx_http_hotpath_fate_t *fate);
static ngx_int_t ngx_http_hotpath_write_answer(
    ngx_http_hotpath_write_t *write);
static ngx_int_t ngx_http_hotpath_write_answer_list(
    ngx_http_hotpath_write_t *write);
static u_char *ngx_http_hotpath_write_result(u_char *p,
    ngx_http_hotpath_slot_t *slot);
static ngx_int_t ngx_http_hotpath_write_accepted(ngx_http_request_t *r,
    ngx_http_hotpath_slot_t *slot);
static ngx_int_t ngx_http_hotpath_write_directly(ngx_http_request_t *r,
    ngx_http_hotpath_slot_t *slot, ngx_str_t *status_uri);
static u_char *ngx_http_hotpath_write_body(u_char *p, const u_char *id);


ngx_int_t
ngx_http_hotpath_write_settled(ngx_http_hotpath_write_t *write)
{
    ngx_int_t  rc;

    if (write->is_list) {
        ngx_http_hotpath_write_twins(write);
    }

    if (write->sync_ms) {
        rc = ngx_http_hotpath_write_follow(write);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return ngx_http_hotpath_write_answer(write);
}


/* What became of an event's first copy became of the others. */

static void
ngx_http_hotpath_write_twins(ngx_http_hotpath_write_t *write)
{
    ngx_uint_t                i;
    ngx_http_hotpath_slot_t  *slot, *first;

    for (i = 0; i < write->nslots; i++) {
        slot = &write->slots[i];

        if (slot->twin == 0) {
            continue;
        }

        first = &write->slots[slot->twin - 1];
        slot->replayed = 1;

        if (first->problem == NGX_HTTP_HOTPATH_PROBLEM_N) {
            ngx_http_hotpath_count(WRITE_REPLAYED);

        } else {
            ngx_http_hotpath_write_refuse(slot, first->problem);
        }
    }
}


/* Waits for the commits of what was accepted. NGX_OK: there is nothing to wait
 * for; NGX_DONE: the answer is given later. */

static ngx_int_t
ngx_http_hotpath_write_follow(ngx_http_hotpath_write_t *write)
{
    ngx_uint_t                   i, n;
    ngx_http_request_t          *r;
    ngx_http_hotpath_slot_t     *slot;
    ngx_http_hotpath_follows_t  *follows;

    n = 0;

    for (i = 0; i < write->nslots; i++) {
        slot = &write->slots[i];
        n += (slot->problem == NGX_HTTP_HOTPATH_PROBLEM_N && slot->twin == 0);
    }

    /* all or none, so that the memory of those that wait has a bound */

    if (n == 0 || !ngx_http_hotpath_wait_room(n)) {
        return NGX_OK;
    }

    r = write->request;

    follows = ngx_http_hotpath_follows(r, n, ngx_http_hotpath_write_decided,
                                       write);
    if (follows == NULL) {
        /* it was accepted, and that is what counts */
        return NGX_OK;
    }

    write->follows = follows;
    n = 0;

    for (i = 0; i < write->nslots; i++) {
        slot = &write->slots[i];

        if (slot->problem == NGX_HTTP_HOTPATH_PROBLEM_N && slot->twin == 0) {
            ngx_memcpy(follows->follow[n++].id, slot->id, HP_UUID_SIZE);
        }
    }

    if (ngx_http_hotpath_follows_begin(follows, write->sync_ms) == NGX_OK) {
        return ngx_http_hotpath_write_fates(write);
    }

    /* notices a client that goes away; nothing else is read meanwhile */
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_DONE;
}


/* What can be known in time of the events' commits is. */

static void
ngx_http_hotpath_write_decided(void *data)
{
    ngx_http_hotpath_write_t *write = data;

    ngx_int_t            rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = write->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    rc = ngx_http_hotpath_write_fates(write);

    if (rc == NGX_OK) {
        rc = ngx_http_hotpath_write_answer(write);
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_hotpath_write_fates(ngx_http_hotpath_write_t *write)
{
    ngx_uint_t                i, n;
    ngx_http_hotpath_slot_t  *slot, *first;

    n = 0;

    for (i = 0; i < write->nslots; i++) {
        slot = &write->slots[i];

        if (slot->twin) {
            first = &write->slots[slot->twin - 1];
            slot->problem = first->problem;
            slot->members = first->members;
            slot->fate = first->fate;
            continue;
        }

        if (slot->problem != NGX_HTTP_HOTPATH_PROBLEM_N) {
            continue;
        }

        if (ngx_http_hotpath_write_fate(write->request, slot,
                                        &write->follows->follow[n++].fate)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (slot->problem == NGX_HTTP_HOTPATH_PROBLEM_N && !slot->fate) {
            write->undecided++;
        }
    }

    if (write->undecided) {
        return NGX_OK;
    }

    return ngx_http_hotpath_header_const(write->request, "Preference-Applied",
                                         "respond-sync");
}


/* What an accepted event's fate means to whoever sent it. */

static ngx_int_t
ngx_http_hotpath_write_fate(ngx_http_request_t *r,
    ngx_http_hotpath_slot_t *slot, ngx_http_hotpath_fate_t *fate)
{
    u_char    *p;
    hp_str_t   code;

    if (!ngx_http_hotpath_fate_decided(fate)) {
        return NGX_OK;
    }

    if (fate->row
        && ngx_memcmp(fate->fingerprint, slot->fingerprint,
                      sizeof(slot->fingerprint))
           != 0)
    {
        /* seen by Postgres alone: another instance had it first */
        slot->problem = NGX_HTTP_HOTPATH_PROBLEM_KEY_REUSED;
        return NGX_OK;
    }

    if (fate->fate == NGX_HTTP_HOTPATH_FATE_PROCESSED) {

        if (fate->row || !fate->conflict) {
            slot->fate = fate;
        }

        /* else which of two payloads it is cannot be told */

        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, sizeof(",\"operationId\":\"\",\"deadCode\":\"\"")
                             + HP_UUID_TEXT + 6 * fate->code_len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    slot->members.data = p;

    if (!slot->write->is_list) {
        p = ngx_cpymem(p, ",\"operationId\":\"",
                       sizeof(",\"operationId\":\"") - 1);
        hp_uuid_format((char *) p, slot->id);
        p += HP_UUID_TEXT;
        *p++ = '"';
    }

    if (fate->fate == NGX_HTTP_HOTPATH_FATE_LOST) {
        slot->problem = NGX_HTTP_HOTPATH_PROBLEM_OPERATION_LOST;

    } else {
        slot->problem = NGX_HTTP_HOTPATH_PROBLEM_OPERATION_DEAD;

        if (fate->code_len) {
            code.data = fate->code;
            code.len = fate->code_len;

            p = ngx_cpymem(p, ",\"deadCode\":\"",
                           sizeof(",\"deadCode\":\"") - 1);
            p += hp_json_escape(p, 6 * code.len, code);
            *p++ = '"';
        }
    }

    slot->members.len = p - slot->members.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_write_answer(ngx_http_hotpath_write_t *write)
{
    ngx_http_hotpath_slot_t  *slot;

    if (write->is_list) {
        return ngx_http_hotpath_write_answer_list(write);
    }

    slot = &write->one;

    return slot->problem == NGX_HTTP_HOTPATH_PROBLEM_N
           ? ngx_http_hotpath_write_accepted(write->request, slot)
           : ngx_http_hotpath_problem_members(write->request, slot->problem,
                                              &slot->members);
}


/* 202 (200 where each is decided) with a result for each event; where none was
 * accepted and one may be if it is sent again, the same as a 503. */

static ngx_int_t
ngx_http_hotpath_write_answer_list(ngx_http_hotpath_write_t *write)
{
    u_char                      *p;
    size_t                       size;
    ngx_str_t                    results;
    ngx_uint_t                   i, accepted;
    ngx_http_hotpath_slot_t     *slot;
    ngx_http_hotpath_problem_e   retry;

    static ngx_str_t  head = ngx_string(",\"results\":[");

    accepted = 0;
    retry = NGX_HTTP_HOTPATH_PROBLEM_N;
    size = head.len + sizeof("]}");

    for (i = 0; i < write->nslots; i++) {
        slot = &write->slots[i];

        size += sizeof("{\"operationId\":\"\",\"status\":\"rejected\","
                       "\"replayed\":true,\"problem\":},") + HP_UUID_TEXT;

        if (slot->problem == NGX_HTTP_HOTPATH_PROBLEM_N) {
            accepted++;
            continue;
        }

        size += ngx_http_hotpath_problem_size(slot->problem, &slot->members);

        if (ngx_http_hotpath_problem_status(slot->problem)
            == NGX_HTTP_SERVICE_UNAVAILABLE
            && retry != NGX_HTTP_HOTPATH_PROBLEM_OUTCOME_UNKNOWN
            && (retry == NGX_HTTP_HOTPATH_PROBLEM_N
                || slot->problem == NGX_HTTP_HOTPATH_PROBLEM_OUTCOME_UNKNOWN))
        {
            retry = slot->problem;
        }
    }

    p = ngx_pnalloc(write->request->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    results.data = p;
    p = ngx_cpymem(p, head.data, head.len);

    for (i = 0; i < write->nslots; i++) {
        if (i) {
            *p++ = ',';
        }

        p = ngx_http_hotpath_write_result(p, &write->slots[i]);
    }

    *p++ = ']';

    if (accepted == 0 && retry != NGX_HTTP_HOTPATH_PROBLEM_N) {
        results.len = p - results.data;
        return ngx_http_hotpath_problem_members(write->request, retry,
                                                &results);
    }

    results.data[0] = '{';
    *p++ = '}';
    results.len = p - results.data;

    return ngx_http_hotpath_send(write->request,
                                 write->follows && write->undecided == 0
                                 ? NGX_HTTP_OK : NGX_HTTP_ACCEPTED,
                                 &ngx_http_hotpath_type_json, &results);
}


static u_char *
ngx_http_hotpath_write_result(u_char *p, ngx_http_hotpath_slot_t *slot)
{
    const char  *status;

    *p++ = '{';

    if (slot->known) {
        p = ngx_cpymem(p, "\"operationId\":\"",
                       sizeof("\"operationId\":\"") - 1);
        hp_uuid_format((char *) p, slot->id);
        p += HP_UUID_TEXT;
        *p++ = '"';
        *p++ = ',';
    }

    if (slot->problem == NGX_HTTP_HOTPATH_PROBLEM_N) {
        p = ngx_sprintf(p, "\"status\":\"%s\"%s}",
                        slot->fate ? "processed" : "accepted",
                        slot->replayed ? ",\"replayed\":true" : "");
        return p;
    }

    switch (slot->problem) {

    case NGX_HTTP_HOTPATH_PROBLEM_OUTCOME_UNKNOWN:
        status = "unknown";
        break;

    case NGX_HTTP_HOTPATH_PROBLEM_OPERATION_DEAD:
        status = "dead";
        break;

    case NGX_HTTP_HOTPATH_PROBLEM_OPERATION_LOST:
        status = "lost";
        break;

    default:
        status = "rejected";
        break;
    }

    p = ngx_sprintf(p, "\"status\":\"%s\",\"problem\":", status);
    p = ngx_http_hotpath_problem_write(p, slot->problem, &slot->members);
    *p++ = '}';

    return p;
}


static ngx_int_t
ngx_http_hotpath_write_accepted(ngx_http_request_t *r,
    ngx_http_hotpath_slot_t *slot)
{
    u_char                       *p;
    ngx_int_t                     rc;
    ngx_str_t                     location, body;
    ngx_http_hotpath_loc_conf_t  *lcf;

    static ngx_str_t  name = ngx_string("Location");

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    if (lcf->direct && !slot->fate) {
        rc = ngx_http_hotpath_write_directly(r, slot, &lcf->status_uri);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    p = ngx_pnalloc(r->pool, lcf->status_uri.len + HP_UUID_TEXT
                             + (slot->fate ? NGX_HTTP_HOTPATH_STATUS_BODY
                                         : NGX_HTTP_HOTPATH_ACCEPTED_BODY));
    if (p == NULL) {
        return NGX_ERROR;
    }

    location.data = p;
    p = ngx_cpymem(p, lcf->status_uri.data, lcf->status_uri.len);
    hp_uuid_format((char *) p, slot->id);
    p += HP_UUID_TEXT;
    location.len = p - location.data;

    body.data = p;
    p = slot->fate ? ngx_http_hotpath_status_write(p, slot->id, slot->fate)
                   : ngx_http_hotpath_write_body(p, p - HP_UUID_TEXT);
    body.len = p - body.data;

    if (ngx_http_hotpath_header(r, &name, &location) != NGX_OK) {
        return NGX_ERROR;
    }

    if (slot->replayed
        && ngx_http_hotpath_header_const(r, "Idempotent-Replayed", "true")
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_send(r,
                                 slot->fate ? NGX_HTTP_OK : NGX_HTTP_ACCEPTED,
                                 &ngx_http_hotpath_type_json, &body);
}


/* The same, where the location says that it passes no filter. NGX_DECLINED:
 * this one has to. */

static ngx_int_t
ngx_http_hotpath_write_directly(ngx_http_request_t *r,
    ngx_http_hotpath_slot_t *slot, ngx_str_t *status_uri)
{
    u_char     *p, *body;
    ngx_int_t   rc;
    ngx_str_t   location;

    p = ngx_http_hotpath_direct_begin(r, NGX_HTTP_HOTPATH_ACCEPTED_BODY,
            sizeof("Location: " CRLF "Idempotent-Replayed: true" CRLF CRLF) - 1
            + status_uri->len + HP_UUID_TEXT + NGX_HTTP_HOTPATH_ACCEPTED_BODY);

    if (p == NULL) {
        return NGX_DECLINED;
    }

    p = ngx_cpymem(p, "Location: ", sizeof("Location: ") - 1);
    location.data = p;
    p = ngx_cpymem(p, status_uri->data, status_uri->len);
    hp_uuid_format((char *) p, slot->id);
    p += HP_UUID_TEXT;
    location.len = p - location.data;
    p = ngx_cpymem(p, CRLF, sizeof(CRLF) - 1);

    if (slot->replayed) {
        p = ngx_cpymem(p, "Idempotent-Replayed: true" CRLF,
                       sizeof("Idempotent-Replayed: true" CRLF) - 1);
    }

    p = ngx_cpymem(p, CRLF, sizeof(CRLF) - 1);

    body = p;
    p = ngx_http_hotpath_write_body(p, location.data + status_uri->len);

    rc = ngx_http_hotpath_direct_end(r, &location, body, p);

    /* for the log */

    if (slot->replayed
        && ngx_http_hotpath_header_const(r, "Idempotent-Replayed", "true")
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return rc;
}


/* ACCEPTED_BODY bytes. */

static u_char *
ngx_http_hotpath_write_body(u_char *p, const u_char *id)
{
    p = ngx_cpymem(p, "{\"operationId\":\"",
                   sizeof("{\"operationId\":\"") - 1);
    p = ngx_cpymem(p, id, HP_UUID_TEXT);

    return ngx_cpymem(p, "\",\"status\":\"accepted\"}",
                      sizeof("\",\"status\":\"accepted\"}") - 1);
}
