/*
 * ngx_http_hotpath_status.c: what became of an operation.
 *
 * The answer to GET on a status location: from shared memory where this
 * instance knows, else from Postgres, else from what shared memory knows by
 * then. A request that waits owns its query through its context and cancels it
 * when the client goes away. Runs in the content phase and in the event loop,
 * with no lock held. Never in here: a state that nobody has committed or
 * acknowledged. See the HTTP contract in ngx_module/README.md;
 * tests/integration/test_status.py.
 */


#include "ngx_http_hotpath_module.h"
#include "core/hp_id.h"
#include "core/hp_json.h"


/* A request that waits for Postgres. */
typedef struct {
    ngx_http_request_t                *request;
    ngx_http_hotpath_postgres_call_t  *call;
    u_char                             id[HP_UUID_SIZE];
} ngx_http_hotpath_status_ctx_t;


static ngx_int_t ngx_http_hotpath_status_answer(ngx_http_request_t *r,
    u_char *id, const char *state, int64_t accepted_us, ngx_str_t *more);
static void ngx_http_hotpath_status_row(void *data, ngx_int_t rc,
    PGresult *result);
static ngx_int_t ngx_http_hotpath_status_memory(ngx_http_request_t *r,
    u_char *id, ngx_http_hotpath_problem_e problem);
static ngx_int_t ngx_http_hotpath_status_result(ngx_http_request_t *r,
    u_char *id, PGresult *result);
static void ngx_http_hotpath_status_cleanup(void *data);


ngx_int_t
ngx_http_hotpath_status_handler(ngx_http_request_t *r)
{
    u_char                          id[HP_UUID_SIZE], text[HP_UUID_TEXT];
    hp_str_t                        last;
    ngx_int_t                       rc;
    ngx_str_t                       rest, more, param;
    ngx_pool_cleanup_t             *cln;
    ngx_http_hotpath_op_t           op;
    ngx_http_hotpath_main_conf_t   *mcf;
    ngx_http_hotpath_status_ctx_t  *ctx;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_hotpath_refuse_method(r, &ngx_http_hotpath_allow_get);
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);

    ngx_http_hotpath_uri_rest(r, &rest);
    last.data = rest.data;
    last.len = rest.len;

    if (hp_uuid_parse(id, last) != 0) {
        return ngx_http_hotpath_problem(r,
                               NGX_HTTP_HOTPATH_PROBLEM_OPERATION_ID_INVALID);
    }

    ngx_str_null(&more);

    if (mcf->operations
        && ngx_http_hotpath_idempotency_find(mcf->operations, id, &op)
           == NGX_OK)
    {
        switch (op.state) {

        case NGX_HTTP_HOTPATH_OP_ACCEPTED:
            if (op.unsure && mcf->status) {
                break;
            }

            return ngx_http_hotpath_status_answer(r, id, "accepted",
                                                  op.accepted_us, &more);

        case NGX_HTTP_HOTPATH_OP_PROCESSED:
            return ngx_http_hotpath_status_answer(r, id, "processed",
                                                  op.accepted_us, &more);

        default:
            /* dead or in conflict: the reason is in Postgres; in flight: it
             * may have been processed through another instance */
            break;
        }

        if (mcf->status == NULL && op.state == NGX_HTTP_HOTPATH_OP_DEAD) {
            return ngx_http_hotpath_status_answer(r, id, "dead",
                                                  op.accepted_us, &more);
        }

        if (mcf->status == NULL && op.state == NGX_HTTP_HOTPATH_OP_CONFLICT) {
            ngx_str_set(&more, ",\"conflict\":true");
            return ngx_http_hotpath_status_answer(r, id, "processed",
                                                  op.accepted_us, &more);
        }
    }

    if (mcf->status == NULL) {
        return ngx_http_hotpath_problem(r,
                                  NGX_HTTP_HOTPATH_PROBLEM_OPERATION_UNKNOWN);
    }

    cln = ngx_pool_cleanup_add(r->pool,
                               sizeof(ngx_http_hotpath_status_ctx_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_hotpath_status_cleanup;

    ctx = cln->data;
    ctx->request = r;
    ctx->call = NULL;
    ngx_memcpy(ctx->id, id, HP_UUID_SIZE);
    hp_uuid_format((char *) text, id);
    param.data = text;
    param.len = HP_UUID_TEXT;

    ctx->call = ngx_http_hotpath_postgres_query(mcf->postgres, mcf->status,
                                                &param, 1,
                                                ngx_http_hotpath_status_row,
                                                ctx);
    if (ctx->call == NULL) {
        return ngx_http_hotpath_status_memory(r, id,
                                NGX_HTTP_HOTPATH_PROBLEM_BACKEND_UNAVAILABLE);
    }

    r->main->count++;
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_DONE;
}


static void
ngx_http_hotpath_status_row(void *data, ngx_int_t rc, PGresult *result)
{
    ngx_http_hotpath_status_ctx_t *ctx = data;

    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    ctx->call = NULL;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (rc == NGX_OK) {
        rc = ngx_http_hotpath_status_result(r, ctx->id, result);

    } else {
        rc = ngx_http_hotpath_status_memory(r, ctx->id,
                                NGX_HTTP_HOTPATH_PROBLEM_BACKEND_UNAVAILABLE);
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


/* Postgres did not know, or was not there: what is known here by now, or the
 * problem. */

static ngx_int_t
ngx_http_hotpath_status_memory(ngx_http_request_t *r, u_char *id,
    ngx_http_hotpath_problem_e problem)
{
    ngx_str_t                      none;
    ngx_http_hotpath_op_t          op;
    ngx_http_hotpath_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_hotpath_module);

    if (mcf->operations
        && ngx_http_hotpath_idempotency_find(mcf->operations, id, &op)
           == NGX_OK
        && (op.state == NGX_HTTP_HOTPATH_OP_ACCEPTED
            || op.state == NGX_HTTP_HOTPATH_OP_PROCESSED))
    {
        ngx_str_null(&none);

        return ngx_http_hotpath_status_answer(r, id,
                                 op.state == NGX_HTTP_HOTPATH_OP_ACCEPTED
                                 ? "accepted" : "processed",
                                 op.accepted_us, &none);
    }

    return ngx_http_hotpath_problem(r, problem);
}


/* Columns: state, accepted_us, code, conflict; at most one row. */

static ngx_int_t
ngx_http_hotpath_status_result(ngx_http_request_t *r, u_char *id,
    PGresult *result)
{
    u_char      *p;
    int64_t      accepted_us;
    hp_str_t     code;
    ngx_str_t    more;
    const char  *state;

    ngx_str_null(&more);

    if (PQntuples(result) == 0) {
        return ngx_http_hotpath_status_memory(r, id,
                                  NGX_HTTP_HOTPATH_PROBLEM_OPERATION_UNKNOWN);
    }

    if (PQnfields(result) != 4) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    accepted_us = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
    state = "processed";

    if (ngx_strcmp(PQgetvalue(result, 0, 0), "dead") == 0) {
        state = "dead";
        code.data = (u_char *) PQgetvalue(result, 0, 2);
        code.len = PQgetlength(result, 0, 2);

        more.data = ngx_pnalloc(r->pool, sizeof(",\"code\":\"\"")
                                         + 6 * code.len);
        if (more.data == NULL) {
            return NGX_ERROR;
        }

        p = ngx_cpymem(more.data, ",\"code\":\"", sizeof(",\"code\":\"") - 1);
        p += hp_json_escape(p, 6 * code.len, code);
        *p++ = '"';
        more.len = p - more.data;

    } else if (PQgetvalue(result, 0, 3)[0] == 't') {
        ngx_str_set(&more, ",\"conflict\":true");
    }

    return ngx_http_hotpath_status_answer(r, id, state, accepted_us, &more);
}


static ngx_int_t
ngx_http_hotpath_status_answer(ngx_http_request_t *r, u_char *id,
    const char *state, int64_t accepted_us, ngx_str_t *more)
{
    u_char     *p;
    ngx_tm_t    tm;
    ngx_str_t   body;

    body.data = ngx_pnalloc(r->pool, 160 + HP_UUID_TEXT + more->len);
    if (body.data == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_hotpath_header_const(r, "Cache-Control", "no-store")
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    p = ngx_cpymem(body.data, "{\"operationId\":\"",
                   sizeof("{\"operationId\":\"") - 1);
    hp_uuid_format((char *) p, id);
    p += HP_UUID_TEXT;

    ngx_gmtime(accepted_us / 1000000, &tm);

    p = ngx_sprintf(p, "\",\"status\":\"%s\",\"acceptedAt\":"
                    "\"%4d-%02d-%02dT%02d:%02d:%02d.%06LZ\"%V}",
                    state, tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                    tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec,
                    accepted_us % 1000000, more);

    body.len = p - body.data;

    return ngx_http_hotpath_send(r, NGX_HTTP_OK, &ngx_http_hotpath_type_json,
                                 &body);
}


/* The request ends, however: nobody waits for the answer any longer. */

static void
ngx_http_hotpath_status_cleanup(void *data)
{
    ngx_http_hotpath_status_ctx_t *ctx = data;

    if (ctx->call) {
        ngx_http_hotpath_postgres_cancel(ctx->call);
        ctx->call = NULL;
    }
}
