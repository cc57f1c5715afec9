/*
 * ngx_http_hotpath_body.c: a request's body in one piece, or a refusal.
 *
 * nginx's own buffered reading answers a body over the bound in HTML and spills
 * a long one into a temporary file, which is disk I/O in the event loop. So the
 * body is read unbuffered: the usual small one is there with the headers and
 * is used in place; a longer one is gathered piece by piece in the request's
 * pool, never more than max bytes. nginx keeps the time limits between pieces
 * (client_body_timeout) and closes what is left over by lingering. Owns the
 * gathered copy, in the request's pool. Never in here: a file, an unbounded
 * buffer. Test: tests/integration/test_write.py.
 */


#include "ngx_http_hotpath_body.h"


#define NGX_HTTP_HOTPATH_BODY_START  8192


/* The context is the module's: its index is all that is needed of it. */
extern ngx_module_t  ngx_http_hotpath_module;


typedef struct {
    ngx_http_hotpath_body_pt   handler;
    ngx_http_hotpath_metric_e  refused;
    size_t                     max;
    u_char                    *data;
    size_t                     len;
    size_t                     size;
} ngx_http_hotpath_body_t;


static void ngx_http_hotpath_body_begin(ngx_http_request_t *r);
static void ngx_http_hotpath_body_more(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_body_gather(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body);
static void ngx_http_hotpath_body_whole(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body);


static ngx_str_t  ngx_http_hotpath_body_json_type =
    ngx_string("application/json");

static ngx_http_hotpath_problem_e  ngx_http_hotpath_body_problems[] = {
    NGX_HTTP_HOTPATH_PROBLEM_N,
    NGX_HTTP_HOTPATH_PROBLEM_BODY_EMPTY,
    NGX_HTTP_HOTPATH_PROBLEM_JSON_SYNTAX,
    NGX_HTTP_HOTPATH_PROBLEM_JSON_TRAILING,
    NGX_HTTP_HOTPATH_PROBLEM_JSON_UTF8,
    NGX_HTTP_HOTPATH_PROBLEM_JSON_NUL,
    NGX_HTTP_HOTPATH_PROBLEM_JSON_SURROGATE,
    NGX_HTTP_HOTPATH_PROBLEM_JSON_NUMBER,
    NGX_HTTP_HOTPATH_PROBLEM_JSON_DEPTH,
    NGX_HTTP_HOTPATH_PROBLEM_BODY_NOT_OBJECT,
    NGX_HTTP_HOTPATH_PROBLEM_MEMBER_DUPLICATE,
    NGX_HTTP_HOTPATH_PROBLEM_MEMBER_UNKNOWN,
    NGX_HTTP_HOTPATH_PROBLEM_MEMBER_TYPE
};


ngx_uint_t
ngx_http_hotpath_body_is_json(ngx_http_request_t *r)
{
    size_t      len;
    ngx_str_t  *type;

    if (r->headers_in.content_type == NULL) {
        return 1;
    }

    type = &r->headers_in.content_type->value;
    len = ngx_http_hotpath_body_json_type.len;

    return type->len >= len
           && ngx_strncasecmp(type->data,
                              ngx_http_hotpath_body_json_type.data, len)
              == 0
           && (type->len == len || type->data[len] == ';'
               || type->data[len] == ' ');
}


ngx_http_hotpath_problem_e
ngx_http_hotpath_body_problem(hp_json_status_t status)
{
    return ngx_http_hotpath_body_problems[status];
}


ngx_int_t
ngx_http_hotpath_body_read(ngx_http_request_t *r, size_t max,
    ngx_http_hotpath_metric_e refused, ngx_http_hotpath_body_pt handler)
{
    ngx_int_t                 rc;
    ngx_http_hotpath_body_t  *body;

    if (r->headers_in.content_length_n > (off_t) max) {
        ngx_http_hotpath_metrics_row[refused]++;
        return ngx_http_hotpath_refuse(r,
                                     NGX_HTTP_HOTPATH_PROBLEM_BODY_TOO_LARGE);
    }

    body = ngx_pcalloc(r->pool, sizeof(ngx_http_hotpath_body_t));
    if (body == NULL) {
        return NGX_ERROR;
    }

    body->handler = handler;
    body->refused = refused;
    body->max = max;
    ngx_http_set_ctx(r, body, ngx_http_hotpath_module);

    r->request_body_no_buffering = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_hotpath_body_begin);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static void
ngx_http_hotpath_body_begin(ngx_http_request_t *r)
{
    ngx_chain_t              *bufs;
    ngx_http_hotpath_body_t  *body;

    body = ngx_http_get_module_ctx(r, ngx_http_hotpath_module);

    if (r->reading_body) {
        r->read_event_handler = ngx_http_hotpath_body_more;
        ngx_http_hotpath_body_more(r);
        return;
    }

    bufs = r->request_body ? r->request_body->bufs : NULL;

    if (bufs && bufs->next == NULL && ngx_buf_in_memory(bufs->buf)
        && ngx_buf_size(bufs->buf) <= (off_t) body->max)
    {
        /* it came with the headers and is used where it is */
        body->data = bufs->buf->pos;
        body->len = bufs->buf->last - bufs->buf->pos;

    } else if (bufs && ngx_http_hotpath_body_gather(r, body) != NGX_OK) {
        return;
    }

    ngx_http_hotpath_body_whole(r, body);
}


static void
ngx_http_hotpath_body_more(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_http_hotpath_body_t  *body;

    body = ngx_http_get_module_ctx(r, ngx_http_hotpath_module);

    for ( ;; ) {
        if (ngx_http_hotpath_body_gather(r, body) != NGX_OK) {
            return;
        }

        if (!r->reading_body) {
            break;
        }

        rc = ngx_http_read_unbuffered_request_body(r);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_finalize_request(r, rc);
            return;
        }

        if (rc == NGX_AGAIN && r->request_body->bufs == NULL) {
            return;
        }
    }

    ngx_http_hotpath_body_whole(r, body);
}


/* Takes over what was read; NGX_ERROR: the request has been finalized. */

static ngx_int_t
ngx_http_hotpath_body_gather(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body)
{
    u_char       *data;
    size_t        len, size;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;
        len = b->last - b->pos;

        if (len > body->max - body->len) {
            r->request_body->bufs = NULL;
            ngx_http_hotpath_metrics_row[body->refused]++;
            ngx_http_finalize_request(r, ngx_http_hotpath_problem(r,
                                    NGX_HTTP_HOTPATH_PROBLEM_BODY_TOO_LARGE));
            return NGX_ERROR;
        }

        if (len > body->size - body->len) {
            size = ngx_max(body->size * 2, NGX_HTTP_HOTPATH_BODY_START);

            while (size < body->len + len) {
                size *= 2;
            }

            if (r->headers_in.content_length_n > (off_t) body->len) {
                size = (size_t) r->headers_in.content_length_n;
            }

            data = ngx_palloc(r->pool, size);
            if (data == NULL) {
                ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
                return NGX_ERROR;
            }

            if (body->len) {
                ngx_memcpy(data, body->data, body->len);
            }

            body->data = data;
            body->size = size;
        }

        if (len) {
            ngx_memcpy(body->data + body->len, b->pos, len);
            body->len += len;
            b->pos = b->last;
        }
    }

    r->request_body->bufs = NULL;

    return NGX_OK;
}


static void
ngx_http_hotpath_body_whole(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body)
{
    hp_str_t   text;
    ngx_int_t  rc;

    text.data = body->data;
    text.len = body->len;

    rc = body->handler(r, &text);

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}
