/*
 * ngx_http_hotpath_compress.c: coded bodies for entries of a zone, made once.
 *
 * One job: to make gzip and Brotli of a body in the background and to put them
 * beside it. A job is a key and a version in a bounded queue; the body is
 * copied out of the zone when its turn comes, so a long queue holds no bodies.
 * One job at a time is worked on, SLICE bytes a turn of the event loop, through
 * a posted event: requests are answered between two slices. A coded body that
 * is not a tenth smaller is not kept. What was tried is remembered by a hash,
 * so that readers of what does not shrink do not ask for it again and again.
 *
 * Owns the queue, the job under way, its pool and its encoder, all this
 * worker's; a worker that ends forgets them. Two workers may make the same
 * bodies at the same time: the second ones replace equal ones. Never in here:
 * a wait, a lock, or more than one slice in a turn.
 *
 * Reference: README.md, "Read a document"; tests:
 * tests/integration/test_http_cache.py.
 */


#include "ngx_http_hotpath_compress.h"
#include "ngx_http_hotpath_metrics.h"

#include <zlib.h>
#if (NGX_HTTP_HOTPATH_BROTLI)
#include <brotli/encode.h>
#endif


/* 0.4 ms of a processor of 2020, at most. */
#define NGX_HTTP_HOTPATH_COMPRESS_SLICE    16384

#define NGX_HTTP_HOTPATH_COMPRESS_QUEUE    64
#define NGX_HTTP_HOTPATH_COMPRESS_TRIED    4096
#define NGX_HTTP_HOTPATH_COMPRESS_POOL     1024

/* Where twice the time brings one hundredth. */
#define NGX_HTTP_HOTPATH_COMPRESS_GZIP     6
#define NGX_HTTP_HOTPATH_COMPRESS_BROTLI   5


typedef struct {
    ngx_queue_t                queue;
    ngx_http_hotpath_cache_t  *cache;
    uint64_t                   version;
    uint64_t                   hash;
    ngx_str_t                  key;          /* behind this */
} ngx_http_hotpath_compress_job_t;


/* The job under way. */
typedef struct {
    ngx_http_hotpath_compress_job_t  *job;   /* NULL: none */
    ngx_pool_t                       *pool;  /* of all below */
    ngx_str_t                         body;
    ngx_uint_t                        coding;  /* being made */
    size_t                            read;    /* of the body, for it */
    size_t                            max;     /* more is not worth it */
    ngx_str_t                         gzip;    /* len 0: not made */
    ngx_str_t                         br;
    z_stream                          deflate;
#if (NGX_HTTP_HOTPATH_BROTLI)
    BrotliEncoderState               *encoder;
#endif
} ngx_http_hotpath_compress_work_t;


static void ngx_http_hotpath_compress_turn(ngx_event_t *ev);
static ngx_int_t ngx_http_hotpath_compress_begin(
    ngx_http_hotpath_compress_work_t *w);
static ngx_int_t ngx_http_hotpath_compress_open(
    ngx_http_hotpath_compress_work_t *w);
static ngx_int_t ngx_http_hotpath_compress_slice(
    ngx_http_hotpath_compress_work_t *w);
static void ngx_http_hotpath_compress_store(
    ngx_http_hotpath_compress_work_t *w);
static void ngx_http_hotpath_compress_end(ngx_http_hotpath_compress_work_t *w,
    ngx_uint_t again);


static ngx_queue_t                       ngx_http_hotpath_compress_jobs;
static ngx_uint_t                        ngx_http_hotpath_compress_njobs;
static ngx_event_t                       ngx_http_hotpath_compress_event;
static ngx_http_hotpath_compress_work_t  ngx_http_hotpath_compress_work;

/* Hashes of key and version that wait, or were not worth it, each in the one
 * place that it may have; another one may take it, and the work is tried
 * again. */
static uint64_t
    ngx_http_hotpath_compress_tried[NGX_HTTP_HOTPATH_COMPRESS_TRIED];

#define ngx_http_hotpath_compress_place(hash)                                 \
    (&ngx_http_hotpath_compress_tried[(hash)                                  \
                                      % NGX_HTTP_HOTPATH_COMPRESS_TRIED])


void
ngx_http_hotpath_compress(ngx_http_hotpath_cache_t *cache, ngx_str_t *key,
    uint64_t version)
{
    uint64_t                         *tried, hash;
    ngx_http_hotpath_compress_job_t  *job;

    hash = ((uint64_t) ngx_murmur_hash2(key->data, key->len) << 32)
           ^ (version * 0x9e3779b97f4a7c15ULL) ^ (uintptr_t) cache;

    tried = ngx_http_hotpath_compress_place(hash);

    if (*tried == hash) {
        return;
    }

    if (ngx_http_hotpath_compress_njobs == NGX_HTTP_HOTPATH_COMPRESS_QUEUE) {
        ngx_http_hotpath_count(COMPRESS_DROPPED);
        return;
    }

    job = ngx_alloc(sizeof(ngx_http_hotpath_compress_job_t) + key->len,
                    ngx_cycle->log);
    if (job == NULL) {
        return;
    }

    job->cache = cache;
    job->version = version;
    job->hash = hash;
    job->key.len = key->len;
    job->key.data = (u_char *) (job + 1);
    ngx_memcpy(job->key.data, key->data, key->len);

    *tried = hash;

    if (ngx_http_hotpath_compress_jobs.next == NULL) {
        ngx_queue_init(&ngx_http_hotpath_compress_jobs);
    }

    ngx_queue_insert_tail(&ngx_http_hotpath_compress_jobs, &job->queue);
    ngx_http_hotpath_compress_njobs++;

    if (!ngx_http_hotpath_compress_event.posted) {
        ngx_http_hotpath_compress_event.handler =
                                              ngx_http_hotpath_compress_turn;
        ngx_http_hotpath_compress_event.log = ngx_cycle->log;

        ngx_post_event(&ngx_http_hotpath_compress_event,
                       &ngx_posted_next_events);
    }
}


static void
ngx_http_hotpath_compress_turn(ngx_event_t *ev)
{
    ngx_int_t                          rc;
    ngx_http_hotpath_compress_work_t  *w;

    w = &ngx_http_hotpath_compress_work;

    if (w->job == NULL) {
        rc = ngx_http_hotpath_compress_begin(w);

    } else {
        rc = ngx_http_hotpath_compress_slice(w);
    }

    if (rc == NGX_DONE) {
        ngx_http_hotpath_compress_store(w);

    } else if (rc == NGX_ERROR) {
        ngx_http_hotpath_compress_end(w, 1);
    }

    if (w->job || ngx_http_hotpath_compress_njobs) {
        ngx_post_event(ev, &ngx_posted_next_events);
    }
}


/* NGX_AGAIN: there is work. NGX_ERROR: none, or it can't be done. */

static ngx_int_t
ngx_http_hotpath_compress_begin(ngx_http_hotpath_compress_work_t *w)
{
    ngx_queue_t              *q;
    ngx_http_hotpath_copy_t   copy;

    q = ngx_queue_head(&ngx_http_hotpath_compress_jobs);
    ngx_queue_remove(q);
    ngx_http_hotpath_compress_njobs--;

    ngx_memzero(w, sizeof(ngx_http_hotpath_compress_work_t));
    w->job = ngx_queue_data(q, ngx_http_hotpath_compress_job_t, queue);

    w->pool = ngx_create_pool(NGX_HTTP_HOTPATH_COMPRESS_POOL, ngx_cycle->log);
    if (w->pool == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_hotpath_cache_get(w->job->cache, &w->job->key,
                                   HP_CODING_IDENTITY, w->pool, NULL, &copy)
        != NGX_OK
        || copy.meta.version != w->job->version
        || copy.codings != HP_CODING_IDENTITY)
    {
        /* gone, changed, or another worker was faster */
        return NGX_ERROR;
    }

    w->body = copy.body;
    w->max = copy.body.len - copy.body.len / 10;
    w->coding = HP_CODING_GZIP;

    return ngx_http_hotpath_compress_open(w);
}


static ngx_int_t
ngx_http_hotpath_compress_open(ngx_http_hotpath_compress_work_t *w)
{
    u_char  *p;

#if (NGX_HTTP_HOTPATH_BROTLI)

    ngx_uint_t  lgwin;

#endif

    p = ngx_pnalloc(w->pool, w->max);
    if (p == NULL) {
        return NGX_ERROR;
    }

    w->read = 0;

#if (NGX_HTTP_HOTPATH_BROTLI)

    if (w->coding == HP_CODING_BR) {

        w->br.data = p;

        w->encoder = BrotliEncoderCreateInstance(NULL, NULL, NULL);
        if (w->encoder == NULL) {
            return NGX_ERROR;
        }

        /* the smallest window that sees the whole, for the client's sake */

        for (lgwin = BROTLI_MIN_WINDOW_BITS;
             lgwin < BROTLI_MAX_WINDOW_BITS
             && w->body.len > ((size_t) 1 << lgwin) - 16;
             lgwin++)
        {
            /* void */
        }

        if (!BrotliEncoderSetParameter(w->encoder, BROTLI_PARAM_QUALITY,
                                       NGX_HTTP_HOTPATH_COMPRESS_BROTLI)
            || !BrotliEncoderSetParameter(w->encoder, BROTLI_PARAM_LGWIN,
                                          (uint32_t) lgwin)
            || !BrotliEncoderSetParameter(w->encoder, BROTLI_PARAM_SIZE_HINT,
                                          (uint32_t) w->body.len))
        {
            return NGX_ERROR;
        }

        return NGX_AGAIN;
    }

#endif

    w->gzip.data = p;

    w->deflate.next_out = p;
    w->deflate.avail_out = (uInt) w->max;

    if (deflateInit2(&w->deflate, NGX_HTTP_HOTPATH_COMPRESS_GZIP, Z_DEFLATED,
                     MAX_WBITS + 16, MAX_MEM_LEVEL - 1, Z_DEFAULT_STRATEGY)
        != Z_OK)
    {
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}


/* NGX_AGAIN: not yet done. NGX_DONE: all that is to be had is there. */

static ngx_int_t
ngx_http_hotpath_compress_slice(ngx_http_hotpath_compress_work_t *w)
{
    int          rc;
    size_t       size;
    u_char      *in;
    ngx_uint_t   last, full;

#if (NGX_HTTP_HOTPATH_BROTLI)

    size_t          left;
    u_char         *out;
    const uint8_t  *next;

#endif

    in = w->body.data + w->read;
    size = ngx_min(w->body.len - w->read, NGX_HTTP_HOTPATH_COMPRESS_SLICE);
    w->read += size;
    last = (w->read == w->body.len);

#if (NGX_HTTP_HOTPATH_BROTLI)

    if (w->coding == HP_CODING_BR) {

        next = in;
        out = w->br.data + w->br.len;
        left = w->max - w->br.len;

        /* without the flush it would gather several slices and then work on
         * all of them in one turn */

        if (!BrotliEncoderCompressStream(w->encoder,
                                         last ? BROTLI_OPERATION_FINISH
                                              : BROTLI_OPERATION_FLUSH,
                                         &size, &next, &left, &out, NULL))
        {
            return NGX_ERROR;
        }

        w->br.len = out - w->br.data;
        full = (size != 0 || BrotliEncoderHasMoreOutput(w->encoder));

        if (!full && !last) {
            return NGX_AGAIN;
        }

        if (full) {
            w->br.len = 0;
        }

        return NGX_DONE;
    }

#endif

    w->deflate.next_in = in;
    w->deflate.avail_in = (uInt) size;

    rc = deflate(&w->deflate, last ? Z_FINISH : Z_NO_FLUSH);

    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR) {
        return NGX_ERROR;
    }

    full = last ? rc != Z_STREAM_END : w->deflate.avail_out == 0;

    if (!full && !last) {
        return NGX_AGAIN;
    }

    w->gzip.len = full ? 0 : w->max - w->deflate.avail_out;

#if (NGX_HTTP_HOTPATH_BROTLI)

    w->coding = HP_CODING_BR;
    return ngx_http_hotpath_compress_open(w);

#else

    return NGX_DONE;

#endif
}


static void
ngx_http_hotpath_compress_store(ngx_http_hotpath_compress_work_t *w)
{
    size_t     best;
    ngx_int_t  rc;

    if (w->gzip.len == 0 && w->br.len == 0) {
        /* stays in the table of what was tried */
        ngx_http_hotpath_compress_end(w, 0);
        return;
    }

    rc = ngx_http_hotpath_cache_put_codings(w->job->cache, &w->job->key,
                                            w->job->version, w->body.len,
                                            &w->gzip, &w->br);

    if (rc == NGX_OK) {
        best = w->gzip.len;

        if (best == 0 || (w->br.len && w->br.len < best)) {
            best = w->br.len;
        }

        ngx_http_hotpath_count(COMPRESSED);
        ngx_http_hotpath_add(COMPRESS_SAVED, w->body.len - best);

    } else {
        ngx_http_hotpath_count(COMPRESS_DROPPED);
    }

    /* what the zone declines now it would decline again */

    ngx_http_hotpath_compress_end(w, rc != NGX_DECLINED);
}


/* again: it may be asked for another time. */

static void
ngx_http_hotpath_compress_end(ngx_http_hotpath_compress_work_t *w,
    ngx_uint_t again)
{
    uint64_t  *tried;

    tried = ngx_http_hotpath_compress_place(w->job->hash);

    if (again && *tried == w->job->hash) {
        *tried = 0;
    }

    if (w->deflate.state) {
        (void) deflateEnd(&w->deflate);
    }

#if (NGX_HTTP_HOTPATH_BROTLI)

    if (w->encoder) {
        BrotliEncoderDestroyInstance(w->encoder);
    }

#endif

    if (w->pool) {
        ngx_destroy_pool(w->pool);
    }

    ngx_free(w->job);

    w->job = NULL;
}
