/*
 * ngx_http_hotpath_request.c: the way of a write, top to bottom.
 *
 * Top to bottom: write_handler refuses what can be refused without the body,
 * write_event checks the body and derives the operation, claims it in shared
 * memory and hands it to the publisher; write_outcome is called when its
 * message was acknowledged (or not) and gives the answer. A request that
 * waits owns a waiter through its context; when the client goes away the
 * waiter is detached, and the outcome still settles the claim. Runs in the
 * content phase and in the event loop, with no lock held. Never in here: a 202
 * before the PubAck, a copy of the body beside the one in the group. See the
 * HTTP contract in ngx_module/README.md; tests/integration/test_write.py.
 */


#include "ngx_http_hotpath_module.h"
#include "ngx_http_hotpath_body.h"
#include "core/hp_header.h"
#include "core/hp_id.h"
#include "core/hp_json.h"

#include <openssl/rand.h>


/* The content handlers' context of one request. */
typedef struct {
    ngx_http_request_t                *request;
    ngx_http_hotpath_waiter_t         *waiter;
    u_char                             id[HP_UUID_SIZE];
} ngx_http_hotpath_write_ctx_t;


/* What the request's headers say about the event. */
typedef struct {
    ngx_str_t   key;        /* of Idempotency-Key, as sent */
    ngx_str_t   trace;      /* a valid traceparent, or empty */
    ngx_uint_t  key_lines;
} ngx_http_hotpath_write_headers_t;


static ngx_int_t ngx_http_hotpath_write_event(ngx_http_request_t *r,
    hp_str_t *text);
static void ngx_http_hotpath_write_headers(ngx_http_request_t *r,
    ngx_http_hotpath_write_headers_t *headers);
static ngx_int_t ngx_http_hotpath_write_key(ngx_http_request_t *r,
    ngx_http_hotpath_write_headers_t *headers, hp_json_slice_t *member,
    hp_str_t *key, ngx_http_hotpath_problem_e *problem);
static ngx_int_t ngx_http_hotpath_write_string(ngx_http_request_t *r,
    hp_json_slice_t *slice, hp_str_t *value);
static ngx_int_t ngx_http_hotpath_write_value(ngx_http_request_t *r,
    hp_json_slice_t *slice, hp_str_t *value);
static ngx_int_t ngx_http_hotpath_write_partition_key(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, hp_event_t *event, hp_str_t *key);
static ngx_int_t ngx_http_hotpath_write_accepted(ngx_http_request_t *r,
    u_char *id, ngx_uint_t replayed);
static void ngx_http_hotpath_write_cleanup(void *data);
static ngx_http_hotpath_write_ctx_t *ngx_http_hotpath_write_ctx(
    ngx_http_request_t *r);


ngx_int_t
ngx_http_hotpath_write_handler(ngx_http_request_t *r)
{
    ngx_http_hotpath_loc_conf_t  *lcf;

    static ngx_str_t  allow = ngx_string("POST");

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    if (r->method != NGX_HTTP_POST) {
        ngx_http_hotpath_count(WRITE_REFUSED);
        return ngx_http_hotpath_refuse_method(r, &allow);
    }

    if (!ngx_http_hotpath_body_is_json(r)) {
        ngx_http_hotpath_count(WRITE_REFUSED);
        return ngx_http_hotpath_refuse(r,
                           NGX_HTTP_HOTPATH_PROBLEM_CONTENT_TYPE_UNSUPPORTED);
    }

    return ngx_http_hotpath_body_read(r, lcf->body_max,
                                      NGX_HTTP_HOTPATH_WRITE_REFUSED,
                                      ngx_http_hotpath_write_event);
}


/* The body is there; NGX_DONE: the outcome gives the answer. */

static ngx_int_t
ngx_http_hotpath_write_event(ngx_http_request_t *r, hp_str_t *text)
{
    u_char                             drawn[10];
    hp_str_t                           partition_key;
    ngx_int_t                          rc;
    ngx_str_t                          tenant;
    ngx_uint_t                         partition;
    hp_event_t                         event;
    hp_json_event_t                    json;
    hp_json_status_t                   status;
    ngx_http_hotpath_op_t              op;
    ngx_http_hotpath_problem_e         problem;
    ngx_http_hotpath_loc_conf_t       *lcf;
    ngx_http_hotpath_main_conf_t      *mcf;
    ngx_http_hotpath_write_ctx_t      *ctx;
    ngx_http_hotpath_write_headers_t   headers;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);
    mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);

    /* what was sent */

    status = hp_json_event(*text, lcf->json_depth, &json);

    if (status != HP_JSON_OK) {
        ngx_http_hotpath_count(WRITE_REFUSED);
        return ngx_http_hotpath_problem_at(r,
                                       ngx_http_hotpath_body_problem(status),
                                       json.error_offset, 0);
    }

    ngx_memzero(&event, sizeof(hp_event_t));

    if (!json.type.present) {
        problem = NGX_HTTP_HOTPATH_PROBLEM_EVENT_TYPE_REQUIRED;
        goto refuse;
    }

    if (!json.payload.present) {
        problem = NGX_HTTP_HOTPATH_PROBLEM_PAYLOAD_REQUIRED;
        goto refuse;
    }

    if (ngx_http_hotpath_write_string(r, &json.type, &event.type) != NGX_OK
        || ngx_http_hotpath_write_value(r, &json.payload, &event.payload)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (event.type.len == 0 || event.type.len > HP_TYPE_MAX) {
        problem = NGX_HTTP_HOTPATH_PROBLEM_EVENT_TYPE_INVALID;
        goto refuse;
    }

    ngx_http_hotpath_write_headers(r, &headers);

    rc = ngx_http_hotpath_write_key(r, &headers, &json.key, &event.key,
                                    &problem);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED) {
        goto refuse;
    }

    rc = ngx_http_hotpath_tenant(r, lcf, &tenant);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED) {
        problem = NGX_HTTP_HOTPATH_PROBLEM_TENANT_INVALID;
        goto refuse;
    }

    /* which operation that is */

    event.tenant.data = tenant.data;
    event.tenant.len = tenant.len;
    event.route.data = lcf->route.data;
    event.route.len = lcf->route.len;
    event.traceparent.data = headers.trace.data;
    event.traceparent.len = headers.trace.len;
    event.accepted_us = ngx_http_hotpath_wall_us();

    if (event.key.len) {
        hp_operation_id(event.operation_id, event.tenant, event.route,
                        event.key);
    } else {
        if (RAND_bytes(drawn, sizeof(drawn)) != 1) {
            problem = NGX_HTTP_HOTPATH_PROBLEM_NO_MEMORY;
            goto refuse;
        }

        hp_uuid7(event.operation_id, event.accepted_us / 1000, drawn);
    }

    hp_fingerprint(event.fingerprint, event.type, event.payload);

    if (ngx_http_hotpath_write_partition_key(r, lcf, &event, &partition_key)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    partition = hp_partition(event.tenant, partition_key, event.operation_id,
                             mcf->publish.partitions);

    /* whether it is new here */

    rc = NGX_BUSY;

    if (mcf->operations && event.key.len) {
        rc = ngx_http_hotpath_idempotency_claim(mcf->operations,
                                                event.operation_id,
                                                event.fingerprint,
                                                mcf->publish.timeout, &op);
    }

    switch (rc) {

    case NGX_DONE:
        ngx_http_hotpath_count(WRITE_REPLAYED);
        return ngx_http_hotpath_write_accepted(r, event.operation_id, 1);

    case NGX_AGAIN:
        ngx_http_hotpath_count(WRITE_CONFLICT);
        return ngx_http_hotpath_problem(r,
                                NGX_HTTP_HOTPATH_PROBLEM_OPERATION_IN_FLIGHT);

    case NGX_DECLINED:
        ngx_http_hotpath_count(WRITE_CONFLICT);
        return ngx_http_hotpath_problem(r,
                                        NGX_HTTP_HOTPATH_PROBLEM_KEY_REUSED);

    default: /* NGX_OK, or NGX_BUSY: the next layers tell repeats apart */
        break;
    }

    /* away with it */

    ctx = ngx_http_hotpath_write_ctx(r);
    if (ctx == NULL) {
        rc = NGX_BUSY;
        goto unclaim;
    }

    ngx_memcpy(ctx->id, event.operation_id, HP_UUID_SIZE);

    rc = ngx_http_hotpath_publish_event(mcf->publisher, partition, &event,
                                        ctx, &ctx->waiter);
    if (rc == NGX_OK) {
        /* notices a client that goes away; nothing else is read meanwhile */
        r->read_event_handler = ngx_http_test_reading;
        r->write_event_handler = ngx_http_request_empty_handler;
        return NGX_DONE;
    }

unclaim:

    if (mcf->operations && event.key.len) {
        ngx_http_hotpath_idempotency_release(mcf->operations,
                                             event.operation_id);
    }

    ngx_http_hotpath_count(WRITE_UNAVAILABLE);

    switch (rc) {

    case NGX_DECLINED:
        problem = NGX_HTTP_HOTPATH_PROBLEM_BROKER_UNAVAILABLE;
        break;

    case NGX_ERROR:
        problem = NGX_HTTP_HOTPATH_PROBLEM_BODY_TOO_LARGE;
        break;

    default: /* NGX_BUSY */
        problem = NGX_HTTP_HOTPATH_PROBLEM_PUBLISH_QUEUE_FULL;
        break;
    }

    return ngx_http_hotpath_problem(r, problem);

refuse:

    ngx_http_hotpath_count(WRITE_REFUSED);

    return ngx_http_hotpath_problem(r, problem);
}


/* The publisher's handler: the one place where a write is answered 202. */

void
ngx_http_hotpath_write_outcome(void *data, ngx_http_hotpath_waiter_t *waiter,
    ngx_http_hotpath_publish_result_t *result)
{
    ngx_http_hotpath_main_conf_t *mcf = data;

    ngx_int_t                      rc;
    ngx_connection_t              *c;
    ngx_http_request_t            *r;
    ngx_http_hotpath_write_ctx_t  *ctx;

    if (mcf->operations) {
        if (result->outcome == NGX_HTTP_HOTPATH_PUBLISHED) {
            ngx_http_hotpath_idempotency_accept(mcf->operations,
                                                waiter->operation_id,
                                                waiter->fingerprint,
                                                waiter->accepted_us,
                                                result->partition,
                                                result->created,
                                                result->sequence);
        } else {
            ngx_http_hotpath_idempotency_release(mcf->operations,
                                                 waiter->operation_id);
        }
    }

    ctx = waiter->data;

    if (ctx == NULL) {
        return;
    }

    ctx->waiter = NULL;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    switch (result->outcome) {

    case NGX_HTTP_HOTPATH_PUBLISHED:
        ngx_http_hotpath_count(WRITE_ACCEPTED);
        rc = ngx_http_hotpath_write_accepted(r, ctx->id, 0);
        break;

    case NGX_HTTP_HOTPATH_PUBLISH_UNKNOWN:
        ngx_http_hotpath_count(WRITE_TIMEOUT);
        rc = ngx_http_hotpath_problem(r,
                                    NGX_HTTP_HOTPATH_PROBLEM_OUTCOME_UNKNOWN);
        break;

    case NGX_HTTP_HOTPATH_PUBLISH_REFUSED:
        ngx_http_hotpath_count(WRITE_UNAVAILABLE);
        rc = ngx_http_hotpath_problem(r,
                                     NGX_HTTP_HOTPATH_PROBLEM_BROKER_REFUSED);
        break;

    default: /* NGX_HTTP_HOTPATH_PUBLISH_UNSENT */
        ngx_http_hotpath_count(WRITE_UNAVAILABLE);
        rc = ngx_http_hotpath_problem(r,
                                 NGX_HTTP_HOTPATH_PROBLEM_BROKER_UNAVAILABLE);
        break;
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


static void
ngx_http_hotpath_write_headers(ngx_http_request_t *r,
    ngx_http_hotpath_write_headers_t *headers)
{
    hp_str_t          value;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    ngx_memzero(headers, sizeof(ngx_http_hotpath_write_headers_t));

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

        if (h[i].key.len == sizeof("Idempotency-Key") - 1
            && ngx_memcmp(h[i].lowcase_key, "idempotency-key",
                          sizeof("Idempotency-Key") - 1)
               == 0)
        {
            headers->key = h[i].value;
            headers->key_lines++;

        } else if (h[i].key.len == sizeof("traceparent") - 1
                   && ngx_memcmp(h[i].lowcase_key, "traceparent",
                                 sizeof("traceparent") - 1)
                      == 0)
        {
            value.data = h[i].value.data;
            value.len = h[i].value.len;

            if (hp_traceparent_valid(value)) {
                headers->trace.data = h[i].value.data;
                headers->trace.len = HP_TRACE_LEN;
            }
        }
    }
}


/* The idempotency key out of header and body, which must agree. NGX_OK (empty
 * where none was given and none is needed), NGX_DECLINED with *problem, or
 * NGX_ERROR. */

static ngx_int_t
ngx_http_hotpath_write_key(ngx_http_request_t *r,
    ngx_http_hotpath_write_headers_t *headers, hp_json_slice_t *member,
    hp_str_t *key, ngx_http_hotpath_problem_e *problem)
{
    int                           n;
    u_char                       *p;
    hp_str_t                      value, body;
    ngx_http_hotpath_loc_conf_t  *lcf;

    key->data = NULL;
    key->len = 0;

    if (member->present) {
        if (ngx_http_hotpath_write_string(r, member, &body) != NGX_OK) {
            return NGX_ERROR;
        }

        if (!hp_key_valid(body)) {
            *problem = NGX_HTTP_HOTPATH_PROBLEM_KEY_INVALID;
            return NGX_DECLINED;
        }

        *key = body;
    }

    if (headers->key_lines) {
        value.data = headers->key.data;
        value.len = headers->key.len;

        p = ngx_pnalloc(r->pool, value.len + 1);
        if (p == NULL) {
            return NGX_ERROR;
        }

        n = headers->key_lines == 1 ? hp_key_parse(p, value) : -1;

        if (n <= 0) {
            *problem = NGX_HTTP_HOTPATH_PROBLEM_KEY_INVALID;
            return NGX_DECLINED;
        }

        if (key->len
            && ((size_t) n != key->len || ngx_memcmp(p, key->data, n) != 0))
        {
            *problem = NGX_HTTP_HOTPATH_PROBLEM_KEY_MISMATCH;
            return NGX_DECLINED;
        }

        key->data = p;
        key->len = n;
    }

    if (key->len == 0) {
        lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

        if (!lcf->key_optional) {
            *problem = NGX_HTTP_HOTPATH_PROBLEM_KEY_REQUIRED;
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


/* What stands in a string, with its escapes resolved. */

static ngx_int_t
ngx_http_hotpath_write_string(ngx_http_request_t *r, hp_json_slice_t *slice,
    hp_str_t *value)
{
    u_char  *p;

    *value = slice->raw;

    if (!slice->escaped) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, slice->raw.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;
    value->len = hp_json_unescape(p, slice->raw);

    return NGX_OK;
}


/* A JSON value without its insignificant white space. */

static ngx_int_t
ngx_http_hotpath_write_value(ngx_http_request_t *r, hp_json_slice_t *slice,
    hp_str_t *value)
{
    u_char  *p;

    *value = slice->raw;

    if (!slice->spaced) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, slice->raw.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;
    value->len = hp_json_compact(p, slice->raw);

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_write_partition_key(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, hp_event_t *event, hp_str_t *key)
{
    int              is_string;
    hp_str_t         name;
    ngx_str_t        value;
    hp_json_slice_t  slice;

    key->data = NULL;
    key->len = 0;

    if (lcf->partition_key) {
        if (ngx_http_complex_value(r, lcf->partition_key, &value) != NGX_OK) {
            return NGX_ERROR;
        }

        key->data = value.data;
        key->len = value.len;

    } else if (lcf->partition_member.len) {
        name.data = lcf->partition_member.data;
        name.len = lcf->partition_member.len;

        if (hp_json_member(event->payload, name, &slice, &is_string)) {
            return is_string ? ngx_http_hotpath_write_string(r, &slice, key)
                             : ngx_http_hotpath_write_value(r, &slice, key);
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_write_accepted(ngx_http_request_t *r, u_char *id,
    ngx_uint_t replayed)
{
    u_char                       *p;
    ngx_str_t                     location, body;
    ngx_http_hotpath_loc_conf_t  *lcf;

    static ngx_str_t  name = ngx_string("Location");

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    p = ngx_pnalloc(r->pool, lcf->status_uri.len + HP_UUID_TEXT
               + sizeof("{\"operationId\":\"\",\"status\":\"accepted\"}") - 1
               + HP_UUID_TEXT);
    if (p == NULL) {
        return NGX_ERROR;
    }

    location.data = p;
    p = ngx_cpymem(p, lcf->status_uri.data, lcf->status_uri.len);
    hp_uuid_format((char *) p, id);
    p += HP_UUID_TEXT;
    location.len = p - location.data;

    body.data = p;
    p = ngx_cpymem(p, "{\"operationId\":\"", sizeof("{\"operationId\":\"") - 1);
    p = ngx_cpymem(p, body.data - HP_UUID_TEXT, HP_UUID_TEXT);
    p = ngx_cpymem(p, "\",\"status\":\"accepted\"}",
                   sizeof("\",\"status\":\"accepted\"}") - 1);
    body.len = p - body.data;

    if (ngx_http_hotpath_header(r, &name, &location) != NGX_OK) {
        return NGX_ERROR;
    }

    if (replayed
        && ngx_http_hotpath_header_const(r, "Idempotent-Replayed", "true")
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_send(r, NGX_HTTP_ACCEPTED,
                                 &ngx_http_hotpath_type_json, &body);
}


static ngx_http_hotpath_write_ctx_t *
ngx_http_hotpath_write_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t            *cln;
    ngx_http_hotpath_write_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_hotpath_write_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_hotpath_write_ctx_t));
    ctx->request = r;

    cln->handler = ngx_http_hotpath_write_cleanup;

    return ctx;
}


/* The request ends, however: nobody waits for the outcome any longer. */

static void
ngx_http_hotpath_write_cleanup(void *data)
{
    ngx_http_hotpath_write_ctx_t *ctx = data;

    if (ctx->waiter) {
        ctx->waiter->data = NULL;
        ctx->waiter = NULL;
    }
}
