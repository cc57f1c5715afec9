/*
 * ngx_http_hotpath_serve.h: an entry of a zone as an HTTP answer.
 *
 * Validators and 304, HEAD, codings, Age, Cache-Control, Cache-Status, Vary,
 * fields=. Knows answer, cache and core/; nothing of where an entry came from.
 */
#ifndef _NGX_HTTP_HOTPATH_SERVE_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_SERVE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "core/hp_http.h"
#include "ngx_http_hotpath_cache.h"


/* hotpath_cache: how long what is used for what. */
typedef struct {
    ngx_http_hotpath_cache_t  *cache;
    ngx_msec_t                 ttl;
    ngx_msec_t                 negative_ttl;
    ngx_msec_t                 revalidate;     /* stale-while-revalidate */
    ngx_msec_t                 stale;          /* stale-if-error */
    ngx_msec_t                 redis_ttl;
    ngx_uint_t                 jitter;         /* percent of ttl, 0 to 50 */
    ngx_uint_t                 refresh;        /* percent of ttl, 0 to 50 */
    size_t                     compress_min;   /* bytes; 0: never */
    ngx_str_t                  cache_control;  /* of answers that are no
                                                  upstream's; may be empty */
    ngx_http_complex_value_t  *request_control;  /* honour the client's
                                                  Cache-Control where this is
                                                  not empty and not "0" */
    unsigned                   status_key:1;   /* the key in Cache-Status */
} ngx_http_hotpath_cache_rules_t;


/* The head of an entry, before it is written or after it was read. */
typedef struct {
    ngx_uint_t  status;         /* 200 */
    ngx_str_t   type;           /* Content-Type */
    ngx_str_t   etag;           /* quoted, may be weak; empty: none */
    ngx_str_t   last_modified;  /* an HTTP-date; empty: none */
    ngx_str_t   fields;         /* others, as field_next() reads them */
    size_t      media_len;      /* out only: of type without parameters */
} ngx_http_hotpath_head_t;


/* How an answer came about. */
typedef struct {
    hp_fwd_t    fwd;            /* HP_FWD_NONE: a hit */
    unsigned    stored:1;
    unsigned    collapsed:1;
    ngx_str_t   detail;         /* empty: none */
    ngx_str_t   key;            /* the zone's, of the entry */
} ngx_http_hotpath_how_t;


#define ngx_http_hotpath_head_size(head)                                      \
    (16 + (head)->type.len + (head)->etag.len + (head)->last_modified.len     \
     + (head)->fields.len)

/* Writes a head; dst holds ngx_http_hotpath_head_size(). Gives its end. */
u_char *ngx_http_hotpath_head_write(u_char *dst,
    ngx_http_hotpath_head_t *head);

/* Strings point into text. NGX_ERROR: it is none. */
ngx_int_t ngx_http_hotpath_head_read(ngx_http_hotpath_head_t *head,
    ngx_str_t *text);

/* Other fields: dst holds 4 + name->len + value->len bytes. */
u_char *ngx_http_hotpath_field_write(u_char *dst, ngx_str_t *name,
    ngx_str_t *value);
/* NGX_OK with the next one, NGX_DONE at the end; *rest starts as fields. */
ngx_int_t ngx_http_hotpath_field_next(ngx_str_t *rest, ngx_str_t *name,
    ngx_str_t *value);

/* The head of a document of a read model: ETag from the version, Last-Modified
 * from modified_us; dst holds HEAD_DOCUMENT bytes. Gives its end. */
#define NGX_HTTP_HOTPATH_HEAD_DOCUMENT  128
u_char *ngx_http_hotpath_head_document(u_char *dst, uint64_t version,
    int64_t modified_us);

/* What the client takes, as ngx_http_hotpath_cache_get() wants it: a set of
 * HP_CODING_*. Identity alone where rules do not compress. */
ngx_uint_t ngx_http_hotpath_serve_codings(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules);

/*
 * Answers from *copy: 200 or the head's status, 304 where the client has it,
 * or the 404 problem where it is negative without a head. What it returns is
 * for ngx_http_finalize_request(). Where the client would take a coding that
 * the entry does not have, it is made in the background.
 */
ngx_int_t ngx_http_hotpath_serve(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_copy_t *copy,
    ngx_http_hotpath_how_t *how);


/* The times of a document that was had now, by the rules, jittered. */
void ngx_http_hotpath_serve_times(ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_cache_meta_t *meta);

uint64_t ngx_http_hotpath_now_ms(void);


#endif /* _NGX_HTTP_HOTPATH_SERVE_H_INCLUDED_ */
