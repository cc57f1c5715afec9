/*
 * ngx_http_hotpath_answer.c: the answers that Hotpath itself gives.
 *
 * Owns nothing: all is built in the request's pool and sent through nginx's
 * own output chain, so that HTTP/2, TLS, HEAD, access logs and filters see
 * ordinary answers. Problem documents are RFC 9457; the table of codes is in
 * the header and documented in ngx_module/README.md. Never in here: anything
 * that tells a client about internals, such as a host name or a message of a
 * backend. Test: tests/integration/test_write.py.
 */


#include "ngx_http_hotpath_answer.h"


typedef struct {
    ngx_str_t   code;
    ngx_uint_t  status;
    ngx_uint_t  retry_s;
    ngx_str_t   title;
} ngx_http_hotpath_problem_t;


static ngx_int_t ngx_http_hotpath_problem_with(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem, ngx_str_t *members,
    ngx_uint_t retry_s);


#define NGX_HTTP_HOTPATH_PROBLEM_ROW(symbol, code, status, retry, title)      \
    { ngx_string(code), status, retry, ngx_string(title) },

static ngx_http_hotpath_problem_t  ngx_http_hotpath_problems[] = {
    NGX_HTTP_HOTPATH_PROBLEMS(NGX_HTTP_HOTPATH_PROBLEM_ROW)
};

static ngx_str_t  ngx_http_hotpath_problem_type =
    ngx_string("application/problem+json");

ngx_str_t  ngx_http_hotpath_type_json = ngx_string("application/json");

ngx_str_t  ngx_http_hotpath_allow_get = ngx_string("GET, HEAD");


ngx_int_t
ngx_http_hotpath_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_http_hotpath_header_push(r);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->key = *name;
    h->value = *value;

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, ngx_str_t *body)
{
    ngx_int_t    rc;
    ngx_buf_t   *b;
    ngx_chain_t  out;

    r->headers_out.status = status;
    r->headers_out.content_length_n = body->len;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;

    if (r->method == NGX_HTTP_HEAD) {
        r->header_only = 1;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = body->data;
    b->last = body->data + body->len;
    b->memory = body->len ? 1 : 0;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;
    b->sync = (b->last_buf || b->memory) ? 0 : 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


ngx_int_t
ngx_http_hotpath_problem(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem)
{
    return ngx_http_hotpath_problem_at(r, problem, NGX_HTTP_HOTPATH_NO_OFFSET,
                                ngx_http_hotpath_problems[problem].retry_s);
}


ngx_int_t
ngx_http_hotpath_problem_at(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem, size_t offset, ngx_uint_t retry_s)
{
    u_char     buffer[sizeof(",\"offset\":") + NGX_SIZE_T_LEN];
    ngx_str_t  members;

    members.data = buffer;
    members.len = 0;

    if (offset != NGX_HTTP_HOTPATH_NO_OFFSET) {
        members.len = ngx_sprintf(buffer, ",\"offset\":%uz", offset) - buffer;
    }

    return ngx_http_hotpath_problem_with(r, problem, &members, retry_s);
}


ngx_int_t
ngx_http_hotpath_problem_parameter(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem, ngx_str_t *name, const char *reason)
{
    u_char     *p;
    ngx_str_t   members;

    p = ngx_pnalloc(r->pool, sizeof(",\"parameter\":\"\",\"reason\":\"\"")
                             + name->len + (reason ? ngx_strlen(reason) : 0));
    if (p == NULL) {
        return NGX_ERROR;
    }

    members.data = p;

    if (name->len) {
        p = ngx_sprintf(p, ",\"parameter\":\"%V\"", name);
    }

    if (reason) {
        p = ngx_sprintf(p, ",\"reason\":\"%s\"", reason);
    }

    members.len = p - members.data;

    return ngx_http_hotpath_problem_with(r, problem, &members, 0);
}


/* members: more of them, each with a comma before it. */

static ngx_int_t
ngx_http_hotpath_problem_with(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem, ngx_str_t *members, ngx_uint_t retry_s)
{
    ngx_str_t                    body, value;
    ngx_http_hotpath_problem_t  *row;

    row = &ngx_http_hotpath_problems[problem];

    if (retry_s) {
        value.data = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
        if (value.data == NULL) {
            return NGX_ERROR;
        }

        value.len = ngx_sprintf(value.data, "%ui", retry_s) - value.data;

        if (ngx_http_hotpath_header(r, &(ngx_str_t) ngx_string("Retry-After"),
                                    &value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    body.data = ngx_pnalloc(r->pool,
                            ngx_http_hotpath_problem_size(problem, members));
    if (body.data == NULL) {
        return NGX_ERROR;
    }

    body.len = ngx_http_hotpath_problem_write(body.data, problem, members)
               - body.data;

    return ngx_http_hotpath_send(r, row->status,
                                 &ngx_http_hotpath_problem_type, &body);
}


ngx_int_t
ngx_http_hotpath_problem_members(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem, ngx_str_t *members)
{
    return ngx_http_hotpath_problem_with(r, problem, members,
                                ngx_http_hotpath_problems[problem].retry_s);
}


size_t
ngx_http_hotpath_problem_size(ngx_http_hotpath_problem_e problem,
    ngx_str_t *members)
{
    ngx_http_hotpath_problem_t  *row;

    row = &ngx_http_hotpath_problems[problem];

    return 160 + 2 * row->code.len + row->title.len + members->len;
}


u_char *
ngx_http_hotpath_problem_write(u_char *p, ngx_http_hotpath_problem_e problem,
    ngx_str_t *members)
{
    ngx_http_hotpath_problem_t  *row;

    row = &ngx_http_hotpath_problems[problem];

    return ngx_sprintf(p, "{\"type\":\"urn:hotpath:problem:%V\","
                       "\"title\":\"%V\",\"status\":%ui,"
                       "\"code\":\"%V\"%V}",
                       &row->code, &row->title, row->status, &row->code,
                       members);
}


ngx_uint_t
ngx_http_hotpath_problem_status(ngx_http_hotpath_problem_e problem)
{
    return ngx_http_hotpath_problems[problem].status;
}


ngx_int_t
ngx_http_hotpath_refuse(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem)
{
    ngx_int_t  rc;

    if (r->headers_in.expect && !r->expect_tested) {
        /* nginx would ask for the body, in order to discard it */
        r->expect_tested = 1;
        r->keepalive = 0;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_hotpath_problem(r, problem);
}


ngx_int_t
ngx_http_hotpath_refuse_method(ngx_http_request_t *r, ngx_str_t *allow)
{
    static ngx_str_t  name = ngx_string("Allow");

    if (ngx_http_hotpath_header(r, &name, allow) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_refuse(r,
                                 NGX_HTTP_HOTPATH_PROBLEM_METHOD_NOT_ALLOWED);
}
