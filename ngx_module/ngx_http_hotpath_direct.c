/*
 * ngx_http_hotpath_direct.c: an answer that passes no filter.
 *
 * Header and body are put together on the stack and handed to the kernel in one
 * call. What it does not take goes to where nginx's write filter keeps its own
 * rest, and nginx sends it as it would that. Only for locations that were told
 * so: what other modules' filters do (add_header, gzip, charset, userid) they
 * do not do here. Owns nothing. Never in here: an answer that nginx would make
 * otherwise. After ngx_http_header_filter() and ngx_http_write_filter(); test:
 * tests/integration/test_direct.py.
 */


#include <nginx.h>

#include "ngx_http_hotpath_direct.h"


/* Most of a whole answer. */
#define NGX_HTTP_HOTPATH_DIRECT_SIZE  1024

#define ngx_http_hotpath_direct_put(p, text)                                  \
    ngx_cpymem(p, text, sizeof(text) - 1)


static ngx_uint_t ngx_http_hotpath_direct_fits(ngx_http_request_t *r);
static ngx_int_t ngx_http_hotpath_direct_rest(ngx_http_request_t *r, u_char *p,
    size_t size);


ngx_int_t
ngx_http_hotpath_direct(ngx_http_request_t *r, ngx_str_t *body)
{
    u_char                     buffer[NGX_HTTP_HOTPATH_DIRECT_SIZE];
    u_char                    *p;
    size_t                     size;
    ssize_t                    n;
    ngx_uint_t                 i;
    ngx_table_elt_t           *h;
    ngx_connection_t          *c;
    ngx_http_core_loc_conf_t  *clcf;

    if (!ngx_http_hotpath_direct_fits(r)) {
        return NGX_DECLINED;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    p = ngx_http_hotpath_direct_put(buffer, "HTTP/1.1 202 Accepted" CRLF);

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
    p = ngx_sprintf(p, "%uz", body->len);
    p = ngx_http_hotpath_direct_put(p, CRLF "Connection: keep-alive" CRLF);

    h = r->headers_out.headers.part.elts;
    size = sizeof(CRLF) - 1 + body->len;

    for (i = 0; i < r->headers_out.headers.part.nelts; i++) {

        if (h[i].hash == 0) {
            continue;
        }

        size += h[i].key.len + h[i].value.len + sizeof(": " CRLF) - 1;

        if (size > (size_t) (buffer + sizeof(buffer) - p)) {
            return NGX_DECLINED;
        }

        p = ngx_cpymem(p, h[i].key.data, h[i].key.len);
        *p++ = ':';
        *p++ = ' ';
        p = ngx_cpymem(p, h[i].value.data, h[i].value.len);
        *p++ = CR;
        *p++ = LF;

        size = sizeof(CRLF) - 1 + body->len;
    }

    if (size > (size_t) (buffer + sizeof(buffer) - p)) {
        return NGX_DECLINED;
    }

    *p++ = CR;
    *p++ = LF;

    r->headers_out.status = NGX_HTTP_ACCEPTED;
    r->headers_out.content_length_n = body->len;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->header_size = p - buffer;
    r->header_sent = 1;

    p = ngx_cpymem(p, body->data, body->len);

    c = r->connection;
    size = p - buffer;
    n = c->send(c, buffer, size);

    if (n == NGX_AGAIN) {
        n = 0;
    }

    if (n == NGX_ERROR
        || ((size_t) n < size
            && ngx_http_hotpath_direct_rest(r, buffer + n, size - n)
               != NGX_OK))
    {
        c->error = 1;
        return NGX_ERROR;
    }

    return (size_t) n < size ? NGX_AGAIN : NGX_OK;
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
           && r->method != NGX_HTTP_HEAD && !r->header_only
           && !r->header_sent && !r->post_action && r->err_status == 0
           && r->headers_out.headers.part.next == NULL
           && r->headers_out.server == NULL && r->headers_out.date == NULL
           && r->headers_out.location == NULL
           && r->limit_rate == 0 && clcf->limit_rate == NULL
           && r->out == NULL && !r->buffered && !c->buffered && !c->error
           && c->send_chain == ngx_send_chain && !c->write->delayed
#if (NGX_HTTP_SSL)
           && c->ssl == NULL
#endif
           ;
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
