/*
 * ngx_http_hotpath_body.c: a request's body in one piece, or a refusal.
 *
 * nginx's own buffered reading answers a body over the bound in HTML and spills
 * a long one into a temporary file, which is disk I/O in the event loop. So the
 * body is read unbuffered: the usual small one is there with the headers and
 * is used in place; a longer one is gathered piece by piece, and one that was
 * sent as gzip is decoded when it is whole, never more than the bound of
 * either. An array of events has a bound of its own, so the bound is known
 * with the first byte that is no white space. What is gathered or decoded lies
 * in a pool that is gone before the request waits for anything, and all of a
 * worker together is bounded. nginx keeps the time limits between pieces
 * (client_body_timeout) and closes what is left over by lingering. Never in
 * here: a file, an unbounded buffer. Tests: tests/integration/test_write.py,
 * test_events.py.
 */


#include "ngx_http_hotpath_body.h"
#include "core/hp_gunzip.h"


#define NGX_HTTP_HOTPATH_BODY_START  8192
#define NGX_HTTP_HOTPATH_BODY_POOL   1024


/* The context is the module's: its index is all that is needed of it. */
extern ngx_module_t  ngx_http_hotpath_module;


/* Bytes in one block, counted. */
typedef struct {
    u_char                        *data;
    size_t                         len;
    size_t                         size;
} ngx_http_hotpath_body_block_t;


typedef struct {
    ngx_http_hotpath_body_conf_t   conf;
    ngx_http_hotpath_body_block_t  sent;
    ngx_pool_t                    *pool;    /* NULL: all is in place */
    size_t                         held;    /* bytes counted for this one */
    size_t                         bound;   /* of the text; 0: not known */
} ngx_http_hotpath_body_t;


static void ngx_http_hotpath_body_begin(ngx_http_request_t *r);
static void ngx_http_hotpath_body_more(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_body_gather(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body, ngx_http_hotpath_problem_e *problem);
static ngx_int_t ngx_http_hotpath_body_decode(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body, hp_str_t *text,
    ngx_http_hotpath_problem_e *problem);
static ngx_int_t ngx_http_hotpath_body_grow(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body, ngx_http_hotpath_body_block_t *block,
    size_t size, ngx_http_hotpath_problem_e *problem);
static size_t ngx_http_hotpath_body_bound(ngx_http_hotpath_body_t *body,
    u_char *p, size_t len);
static size_t ngx_http_hotpath_body_bound_sent(ngx_http_hotpath_body_t *body,
    u_char *p, size_t len);
static ngx_int_t ngx_http_hotpath_body_refusal(ngx_http_request_t *r,
    ngx_int_t rc, ngx_http_hotpath_problem_e problem);
static void ngx_http_hotpath_body_whole(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body);
static void ngx_http_hotpath_body_free(void *data);


/* What all bodies of this worker hold together. */
static size_t       ngx_http_hotpath_body_held;

/* Of this worker, for one body after another; untouched until the first. */
static hp_gunzip_t  ngx_http_hotpath_body_gunzip;


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
    len = ngx_http_hotpath_type_json.len;

    return type->len >= len
           && ngx_strncasecmp(type->data,
                              ngx_http_hotpath_type_json.data, len)
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
ngx_http_hotpath_body_coding(ngx_str_t *value, ngx_uint_t *gzip)
{
    ngx_uint_t  i;

    static ngx_str_t  codings[] = {
        ngx_string(""), ngx_string("identity"),
        ngx_string("gzip"), ngx_string("x-gzip")
    };

    for (i = 0; i < sizeof(codings) / sizeof(codings[0]); i++) {
        if (value->len == codings[i].len
            && ngx_strncasecmp(value->data, codings[i].data, value->len) == 0)
        {
            *gzip = (i > 1);
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_hotpath_body_read(ngx_http_request_t *r,
    ngx_http_hotpath_body_conf_t *conf)
{
    size_t                    bound;
    ngx_int_t                 rc;
    ngx_http_hotpath_body_t  *body;

    body = ngx_pcalloc(r->pool, sizeof(ngx_http_hotpath_body_t));
    if (body == NULL) {
        return NGX_ERROR;
    }

    body->conf = *conf;

    if (r->headers_in.content_length_n > (off_t) conf->max) {
        bound = ngx_max(conf->max, conf->list_max);

        if (r->http_version < NGX_HTTP_VERSION_20) {
            /* what came with the headers may say that it is no array */
            bound = ngx_http_hotpath_body_bound_sent(body, r->header_in->pos,
                                    r->header_in->last - r->header_in->pos);
        }

        if (r->headers_in.content_length_n > (off_t) bound) {
            ngx_http_hotpath_metrics_row[conf->refused]++;
            return ngx_http_hotpath_refuse(r,
                                     NGX_HTTP_HOTPATH_PROBLEM_BODY_TOO_LARGE);
        }
    }

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
    ngx_int_t                    rc;
    ngx_buf_t                   *b;
    ngx_chain_t                 *bufs;
    ngx_http_hotpath_body_t     *body;
    ngx_http_hotpath_problem_e   problem;

    problem = NGX_HTTP_HOTPATH_PROBLEM_N;
    body = ngx_http_get_module_ctx(r, ngx_http_hotpath_module);

    if (r->reading_body) {
        r->read_event_handler = ngx_http_hotpath_body_more;
        ngx_http_hotpath_body_more(r);
        return;
    }

    bufs = r->request_body ? r->request_body->bufs : NULL;

    if (bufs && bufs->next == NULL && ngx_buf_in_memory(bufs->buf)) {
        b = bufs->buf;

        if ((size_t) (b->last - b->pos)
            <= ngx_http_hotpath_body_bound_sent(body, b->pos,
                                                b->last - b->pos))
        {
            /* it came with the headers and is used where it is */
            body->sent.data = b->pos;
            body->sent.len = b->last - b->pos;
            bufs = NULL;
        }
    }

    if (bufs) {
        rc = ngx_http_hotpath_body_gather(r, body, &problem);

        if (rc != NGX_OK) {
            ngx_http_finalize_request(r,
                               ngx_http_hotpath_body_refusal(r, rc, problem));
            return;
        }
    }

    ngx_http_hotpath_body_whole(r, body);
}


static void
ngx_http_hotpath_body_more(ngx_http_request_t *r)
{
    ngx_int_t                    rc;
    ngx_http_hotpath_body_t     *body;
    ngx_http_hotpath_problem_e   problem;

    problem = NGX_HTTP_HOTPATH_PROBLEM_N;
    body = ngx_http_get_module_ctx(r, ngx_http_hotpath_module);

    for ( ;; ) {
        rc = ngx_http_hotpath_body_gather(r, body, &problem);

        if (rc != NGX_OK) {
            ngx_http_finalize_request(r,
                               ngx_http_hotpath_body_refusal(r, rc, problem));
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


/* Takes over what was read. NGX_OK, NGX_DECLINED with *problem, NGX_ERROR. */

static ngx_int_t
ngx_http_hotpath_body_gather(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body, ngx_http_hotpath_problem_e *problem)
{
    size_t                          len, bound, size;
    ngx_int_t                       rc;
    ngx_buf_t                      *b;
    ngx_chain_t                    *cl;
    ngx_http_hotpath_body_block_t  *sent;

    sent = &body->sent;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;
        len = b->last - b->pos;

        if (len == 0) {
            continue;
        }

        bound = ngx_http_hotpath_body_bound_sent(body, b->pos, len);

        if (sent->len + len > bound
            || r->headers_in.content_length_n > (off_t) bound)
        {
            r->request_body->bufs = NULL;
            *problem = NGX_HTTP_HOTPATH_PROBLEM_BODY_TOO_LARGE;
            return NGX_DECLINED;
        }

        if (len > sent->size - sent->len) {
            size = ngx_max(sent->size * 2, NGX_HTTP_HOTPATH_BODY_START);
            size = ngx_max(size, sent->len + len);
            size = ngx_min(size, bound);

            if (r->headers_in.content_length && !r->headers_in.chunked) {
                /* in chunks it is no more than what came by now */
                size = ngx_min(size,
                               (size_t) r->headers_in.content_length_n);
            }

            rc = ngx_http_hotpath_body_grow(r, body, sent, size, problem);

            if (rc != NGX_OK) {
                r->request_body->bufs = NULL;
                return rc;
            }
        }

        ngx_memcpy(sent->data + sent->len, b->pos, len);
        sent->len += len;
        b->pos = b->last;
    }

    r->request_body->bufs = NULL;

    return NGX_OK;
}


/* As gather. A text that passes its bound has cost the bound and one byte. */

static ngx_int_t
ngx_http_hotpath_body_decode(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body, hp_str_t *text,
    ngx_http_hotpath_problem_e *problem)
{
    size_t                          len, bound, size;
    hp_str_t                        sent;
    ngx_int_t                       rc;
    hp_gunzip_status_t              status;
    ngx_http_hotpath_body_block_t   whole;

    sent.data = body->sent.data;
    sent.len = body->sent.len;

    ngx_memzero(&whole, sizeof(ngx_http_hotpath_body_block_t));

    bound = ngx_http_hotpath_body_bound(body, NULL, 0);
    status = hp_gunzip_begin(&ngx_http_hotpath_body_gunzip, sent);

    while (status == HP_GUNZIP_MORE) {
        if (whole.len == whole.size) {
            size = ngx_max(whole.size * 2, NGX_HTTP_HOTPATH_BODY_START);
            size = ngx_min(size, bound + 1);

            rc = ngx_http_hotpath_body_grow(r, body, &whole, size, problem);

            if (rc != NGX_OK) {
                return rc;
            }
        }

        status = hp_gunzip_next(&ngx_http_hotpath_body_gunzip,
                                whole.data + whole.len,
                                whole.size - whole.len, &len);
        bound = ngx_http_hotpath_body_bound(body, whole.data + whole.len, len);
        whole.len += len;

        if (whole.len > bound) {
            *problem = NGX_HTTP_HOTPATH_PROBLEM_BODY_TOO_LARGE;
            return NGX_DECLINED;
        }
    }

    text->data = whole.data;
    text->len = whole.len;

    switch (status) {

    case HP_GUNZIP_DONE:
        return NGX_OK;

    case HP_GUNZIP_NO_MEMORY:
        return NGX_ERROR;

    default:
        *problem = NGX_HTTP_HOTPATH_PROBLEM_BODY_ENCODING_INVALID;
        return NGX_DECLINED;
    }
}


/* A larger block with the same bytes in it; as gather. */

static ngx_int_t
ngx_http_hotpath_body_grow(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body, ngx_http_hotpath_body_block_t *block,
    size_t size, ngx_http_hotpath_problem_e *problem)
{
    u_char              *data;
    ngx_pool_cleanup_t  *cln;

    if (body->pool == NULL) {
        cln = ngx_pool_cleanup_add(r->pool, 0);
        if (cln == NULL) {
            return NGX_ERROR;
        }

        body->pool = ngx_create_pool(NGX_HTTP_HOTPATH_BODY_POOL,
                                     r->connection->log);
        if (body->pool == NULL) {
            return NGX_ERROR;
        }

        cln->handler = ngx_http_hotpath_body_free;
        cln->data = body;
    }

    if (ngx_http_hotpath_body_reserve(size, body->conf.memory_max) != NGX_OK) {
        *problem = NGX_HTTP_HOTPATH_PROBLEM_BODY_MEMORY_FULL;
        return NGX_DECLINED;
    }

    body->held += size;

    data = ngx_palloc(body->pool, size);
    if (data == NULL) {
        return NGX_ERROR;
    }

    if (block->len) {
        ngx_memcpy(data, block->data, block->len);
    }

    if (block->data && ngx_pfree(body->pool, block->data) == NGX_OK) {
        body->held -= block->size;
        ngx_http_hotpath_body_unreserve(block->size);
    }

    block->data = data;
    block->size = size;

    return NGX_OK;
}


/* How long a text may be of which this is the next piece; as long as it is
 * nothing but white space it may become an array. */

static size_t
ngx_http_hotpath_body_bound(ngx_http_hotpath_body_t *body, u_char *p,
    size_t len)
{
    u_char  *last;

    last = p + len;

    for ( /* void */ ; body->bound == 0 && p < last; p++) {
        if (*p != ' ' && *p != '\t' && *p != '\r' && *p != '\n') {
            body->bound = (*p == '[') ? body->conf.list_max : body->conf.max;
        }
    }

    return body->bound ? body->bound
                       : ngx_max(body->conf.max, body->conf.list_max);
}


/* The same for a piece of what is sent; of gzip it is not known before it is
 * decoded. */

static size_t
ngx_http_hotpath_body_bound_sent(ngx_http_hotpath_body_t *body, u_char *p,
    size_t len)
{
    return body->conf.gzip ? ngx_max(body->conf.max, body->conf.list_max)
                           : ngx_http_hotpath_body_bound(body, p, len);
}


static ngx_int_t
ngx_http_hotpath_body_refusal(ngx_http_request_t *r, ngx_int_t rc,
    ngx_http_hotpath_problem_e problem)
{
    ngx_http_hotpath_body_t  *body;

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body = ngx_http_get_module_ctx(r, ngx_http_hotpath_module);

    if (ngx_http_hotpath_problem_status(problem)
        == NGX_HTTP_SERVICE_UNAVAILABLE)
    {
        ngx_http_hotpath_metrics_row[body->conf.full]++;

    } else {
        ngx_http_hotpath_metrics_row[body->conf.refused]++;
    }

    return ngx_http_hotpath_problem(r, problem);
}


static void
ngx_http_hotpath_body_whole(ngx_http_request_t *r,
    ngx_http_hotpath_body_t *body)
{
    hp_str_t                     text;
    ngx_int_t                    rc;
    ngx_http_hotpath_problem_e   problem;

    text.data = body->sent.data;
    text.len = body->sent.len;
    rc = NGX_OK;
    problem = NGX_HTTP_HOTPATH_PROBLEM_N;

    if (body->conf.gzip && text.len) {
        rc = ngx_http_hotpath_body_decode(r, body, &text, &problem);
    }

    rc = rc == NGX_OK ? body->conf.handler(r, body->conf.data,
                                           body->pool ? body->pool : r->pool,
                                           &text)
                      : ngx_http_hotpath_body_refusal(r, rc, problem);

    ngx_http_hotpath_body_free(body);

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}


static void
ngx_http_hotpath_body_free(void *data)
{
    ngx_http_hotpath_body_t *body = data;

    if (body->pool) {
        ngx_destroy_pool(body->pool);
        body->pool = NULL;

        ngx_http_hotpath_body_unreserve(body->held);
        body->held = 0;
    }
}


ngx_int_t
ngx_http_hotpath_body_reserve(size_t size, size_t memory_max)
{
    if (size > memory_max || ngx_http_hotpath_body_held > memory_max - size) {
        return NGX_BUSY;
    }

    ngx_http_hotpath_body_held += size;
    ngx_http_hotpath_set(WRITE_BODY_BYTES, ngx_http_hotpath_body_held);

    return NGX_OK;
}


void
ngx_http_hotpath_body_unreserve(size_t size)
{
    ngx_http_hotpath_body_held -= size;
    ngx_http_hotpath_set(WRITE_BODY_BYTES, ngx_http_hotpath_body_held);
}
