/*
 * ngx_http_hotpath_direct.c: an answer that passes no filter.
 *
 * Header and body are put together in one buffer of the worker and handed to
 * the kernel in one call. What it does not take goes to where nginx's write
 * filter keeps its own rest, and nginx sends it as it would that. What the log
 * may ask for is in that buffer too; a request that is not over with its answer
 * gets a copy. Only for locations that were told so: what other modules'
 * filters do (add_header, gzip, charset, userid) they do not do here. Never in
 * here: an answer that nginx would make otherwise. After
 * ngx_http_header_filter() and ngx_http_write_filter(); test:
 * tests/integration/test_direct.py.
 */


#include <nginx.h>

#include "ngx_http_hotpath_direct.h"


/* Most of a whole answer, and of what always stands at its beginning. */
#define NGX_HTTP_HOTPATH_DIRECT_SIZE  1024
#define NGX_HTTP_HOTPATH_DIRECT_HEAD  (192 + sizeof(NGINX_VER_BUILD))

#define ngx_http_hotpath_direct_put(p, text)                                  \
    ngx_cpymem(p, text, sizeof(text) - 1)


static ngx_uint_t ngx_http_hotpath_direct_fits(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_direct_location(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_direct_rest(ngx_http_request_t *r, u_char *p,
    size_t size);


/* This worker's. */
static u_char           ngx_http_hotpath_direct_buffer[
                                               NGX_HTTP_HOTPATH_DIRECT_SIZE];
static ngx_table_elt_t  ngx_http_hotpath_direct_elt;


u_char *
ngx_http_hotpath_direct_begin(ngx_http_request_t *r, size_t length,
    size_t more)
{
    u_char                    *p, *end;
    ngx_uint_t                 i;
    ngx_table_elt_t           *h;
    ngx_http_core_loc_conf_t  *clcf;

    if (more > NGX_HTTP_HOTPATH_DIRECT_SIZE - NGX_HTTP_HOTPATH_DIRECT_HEAD
        || !ngx_http_hotpath_direct_fits(r))
    {
        return NULL;
    }

    p = ngx_http_hotpath_direct_buffer;
    end = p + NGX_HTTP_HOTPATH_DIRECT_SIZE - more;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    p = ngx_http_hotpath_direct_put(p, "HTTP/1.1 202 Accepted" CRLF);

    switch (clcf->server_tokens) {

    case NGX_HTTP_SERVER_TOKENS_ON:
        p = ngx_http_hotpath_direct_put(p, "Server: " NGINX_VER CRLF);
        break;

    case NGX_HTTP_SERVER_TOKENS_BUILD:
        p = ngx_http_hotpath_direct_put(p, "Server: " NGINX_VER_BUILD CRLF);
        break;

    default:
        p = ngx_http_hotpath_direct_put(p, "Server: nginx" CRLF);
        break;
    }

    p = ngx_http_hotpath_direct_put(p, "Date: ");
    p = ngx_cpymem(p, ngx_cached_http_time.data, ngx_cached_http_time.len);
    p = ngx_http_hotpath_direct_put(p, CRLF "Content-Type: application/json"
                                       CRLF "Content-Length: ");
    p = ngx_sprintf(p, "%uz", length);
    p = ngx_http_hotpath_direct_put(p, CRLF "Connection: keep-alive" CRLF);

    h = r->headers_out.headers.part.elts;

    for (i = 0; i < r->headers_out.headers.part.nelts; i++) {

        if (h[i].hash == 0) {
            continue;
        }

        if (h[i].key.len + h[i].value.len + sizeof(": " CRLF) - 1
            > (size_t) (end - p))
        {
            return NULL;
        }

        p = ngx_cpymem(p, h[i].key.data, h[i].key.len);
        *p++ = ':';
        *p++ = ' ';
        p = ngx_cpymem(p, h[i].value.data, h[i].value.len);
        *p++ = CR;
        *p++ = LF;
    }

    return p;
}


ngx_int_t
ngx_http_hotpath_direct_end(ngx_http_request_t *r, ngx_str_t *location,
    u_char *body, u_char *last)
{
    size_t             size;
    ssize_t            n;
    ngx_connection_t  *c;

    ngx_http_hotpath_direct_elt.hash = 1;
    ngx_str_set(&ngx_http_hotpath_direct_elt.key, "Location");
    ngx_http_hotpath_direct_elt.value = *location;

    r->headers_out.location = &ngx_http_hotpath_direct_elt;
    r->headers_out.status = NGX_HTTP_ACCEPTED;
    r->headers_out.content_length_n = last - body;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->header_size = body - ngx_http_hotpath_direct_buffer;
    r->header_sent = 1;

    c = r->connection;
    size = last - ngx_http_hotpath_direct_buffer;
    n = c->send(c, ngx_http_hotpath_direct_buffer, size);

    if (n == NGX_AGAIN) {
        n = 0;
    }

    if (n == NGX_ERROR) {
        c->error = 1;
        return NGX_ERROR;
    }

    if ((size_t) n == size) {
        return r->main->count == 1 ? NGX_OK
                                   : ngx_http_hotpath_direct_location(r);
    }

    if (ngx_http_hotpath_direct_location(r) != NGX_OK
        || ngx_http_hotpath_direct_rest(r, last - (size - n), size - n)
           != NGX_OK)
    {
        c->error = 1;
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}


static ngx_uint_t
ngx_http_hotpath_direct_fits(ngx_http_request_t *r)
{
    ngx_connection_t          *c;
    ngx_http_core_loc_conf_t  *clcf;

    c = r->connection;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    return r == r->main
           && r->http_version == NGX_HTTP_VERSION_11
           && r->keepalive && !clcf->keepalive_header
           && !r->header_only && !r->header_sent
           && !r->post_action && r->err_status == 0
           && r->headers_out.headers.part.next == NULL
           && r->headers_out.server == NULL && r->headers_out.date == NULL
           && r->headers_out.location == NULL
           && r->limit_rate == 0 && clcf->limit_rate == NULL
           && r->out == NULL && !r->buffered && !c->buffered && !c->error
           /* else TLS, or something kept by the gather room */
           && c->send_chain == ngx_send_chain && !c->write->delayed;
}


/* Makes it the request's own. */

static ngx_int_t
ngx_http_hotpath_direct_location(ngx_http_request_t *r)
{
    u_char           *p;
    ngx_table_elt_t  *h;

    h = ngx_palloc(r->pool, sizeof(ngx_table_elt_t)
                            + r->headers_out.location->value.len);
    if (h == NULL) {
        r->headers_out.location = NULL;
        return NGX_ERROR;
    }

    *h = *r->headers_out.location;

    p = (u_char *) (h + 1);
    ngx_memcpy(p, h->value.data, h->value.len);
    h->value.data = p;

    r->headers_out.location = h;

    return NGX_OK;
}


/* Keeps a copy for nginx to send, as its write filter does. */

static ngx_int_t
ngx_http_hotpath_direct_rest(ngx_http_request_t *r, u_char *p, size_t size)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    cl = ngx_alloc_chain_link(r->pool);
    b = ngx_create_temp_buf(r->pool, size);

    if (cl == NULL || b == NULL) {
        return NGX_ERROR;
    }

    b->last = ngx_cpymem(b->pos, p, size);
    b->last_buf = 1;
    b->last_in_chain = 1;

    cl->buf = b;
    cl->next = NULL;

    r->out = cl;
    r->connection->buffered |= NGX_HTTP_WRITE_BUFFERED;

    return NGX_OK;
}
