/*
 * ngx_http_hotpath_capture.c: a copy of the body that an upstream sends.
 *
 * For body filters that see what an upstream sends before anything changes it:
 * whoever keeps an answer has its body in one block in the end. The block
 * grows with what comes, or has its size at once where Content-Length said it,
 * and is never longer than the caller allows. What nginx wrote to a file,
 * because a client was too slow for it, is read from there, just written.
 *
 * The copy is in the request's pool. Runs in the event loop of every worker.
 * Never in here: a copy that passes for whole and is not.
 * Test: tests/integration/test_output_cache.py, test_guard.py.
 */


#include "ngx_http_hotpath_capture.h"


/* The first piece of a body whose length is not known. */
#define NGX_HTTP_HOTPATH_CAPTURE_PIECE  16384


static ngx_int_t ngx_http_hotpath_capture_append(ngx_http_request_t *r,
    ngx_http_hotpath_capture_t *capture, ngx_buf_t *b);
static ngx_int_t ngx_http_hotpath_capture_grow(ngx_http_request_t *r,
    ngx_http_hotpath_capture_t *capture, size_t len);


ngx_int_t
ngx_http_hotpath_capture_add(ngx_http_request_t *r,
    ngx_http_hotpath_capture_t *capture, ngx_chain_t *in)
{
    ngx_uint_t  last;

    last = 0;

    for ( /* void */ ; in; in = in->next) {

        if (ngx_buf_size(in->buf)
            && ngx_http_hotpath_capture_append(r, capture, in->buf) != NGX_OK)
        {
            return NGX_DECLINED;
        }

        if (in->buf->last_buf
            || (in->buf->last_in_chain && in->buf->sync && r != r->main))
        {
            last = 1;
        }
    }

    if (capture->expected == (off_t) capture->len) {
        return NGX_OK;
    }

    if (!last) {
        return NGX_AGAIN;
    }

    return capture->expected == -1 ? NGX_OK : NGX_ABORT;
}


static ngx_int_t
ngx_http_hotpath_capture_append(ngx_http_request_t *r,
    ngx_http_hotpath_capture_t *capture, ngx_buf_t *b)
{
    off_t    size;
    ssize_t  n;

    size = ngx_buf_size(b);

    if (size < 0 || size > (off_t) (capture->max - capture->len)
        || (capture->expected != -1
            && size > capture->expected - (off_t) capture->len)
        || ngx_http_hotpath_capture_grow(r, capture, (size_t) size) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    if (ngx_buf_in_memory(b)) {
        ngx_memcpy(capture->data + capture->len, b->pos, (size_t) size);

    } else {
        /* what a client was too slow for, written just now */
        n = ngx_read_file(b->file, capture->data + capture->len, (size_t) size,
                          b->file_pos);
        if (n != size) {
            return NGX_DECLINED;
        }
    }

    capture->len += (size_t) size;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_capture_grow(ngx_http_request_t *r,
    ngx_http_hotpath_capture_t *capture, size_t len)
{
    size_t   size;
    u_char  *p;

    if (capture->size - capture->len >= len) {
        return NGX_OK;
    }

    if (capture->expected != -1) {
        size = (size_t) capture->expected;

    } else {
        size = ngx_max(2 * capture->size, NGX_HTTP_HOTPATH_CAPTURE_PIECE);
        size = ngx_max(size, capture->len + len);
        size = ngx_min(size, capture->max);
    }

    p = ngx_palloc(r->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (capture->data) {
        ngx_memcpy(p, capture->data, capture->len);
        (void) ngx_pfree(r->pool, capture->data);
    }

    capture->data = p;
    capture->size = size;

    return NGX_OK;
}


void
ngx_http_hotpath_capture_drop(ngx_http_request_t *r,
    ngx_http_hotpath_capture_t *capture)
{
    if (capture->data) {
        (void) ngx_pfree(r->pool, capture->data);
        capture->data = NULL;
    }

    capture->len = 0;
    capture->size = 0;
}


void
ngx_http_hotpath_capture_swallow(ngx_chain_t *in)
{
    for ( /* void */ ; in; in = in->next) {
        in->buf->pos = in->buf->last;
        in->buf->file_pos = in->buf->file_last;
    }
}
