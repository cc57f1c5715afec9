/*
 * ngx_http_hotpath_head.h: what an entry's answers need beside a body.
 *
 * Written once, when an entry is made, and kept in the zone with it. Knows
 * core/ only.
 */
#ifndef _NGX_HTTP_HOTPATH_HEAD_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_HEAD_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* The head of an entry, before it is written or after it was read. */
typedef struct {
    ngx_uint_t  status;         /* 200 */
    ngx_str_t   type;           /* Content-Type */
    ngx_str_t   etag;           /* quoted, may be weak; empty: none */
    ngx_str_t   last_modified;  /* an HTTP-date; empty: none */
    ngx_str_t   fields;         /* others, as field_next() reads them */

    /* out only */
    size_t      media_len;      /* of type without parameters */
    unsigned    codable:1;      /* its body may be coded */
} ngx_http_hotpath_head_t;


/* What a field is to an answer. */
typedef enum {
    ngx_http_hotpath_field_other = 0,  /* of 200 only */
    ngx_http_hotpath_field_kept,       /* of 304 too (RFC 9110, 15.4.5) */
    ngx_http_hotpath_field_control,    /* kept: Cache-Control */
    ngx_http_hotpath_field_vary,       /* kept: Vary */
    ngx_http_hotpath_field_date,       /* kept: Date */
    ngx_http_hotpath_field_server,     /* kept: Server */
    ngx_http_hotpath_field_encoding,   /* of 200 only: Content-Encoding */
    ngx_http_hotpath_field_status      /* of 200 only: Cache-Status */
} ngx_http_hotpath_field_e;


#define ngx_http_hotpath_head_size(head)                                      \
    (16 + (head)->type.len + (head)->etag.len + (head)->last_modified.len     \
     + (head)->fields.len)

/* Writes a head; dst holds ngx_http_hotpath_head_size(). Gives its end. type
 * and etag have less than 65536 bytes, last_modified less than 256. */
u_char *ngx_http_hotpath_head_write(u_char *dst,
    ngx_http_hotpath_head_t *head);

/* Strings point into text. NGX_ERROR: it is none. */
ngx_int_t ngx_http_hotpath_head_read(ngx_http_hotpath_head_t *head,
    ngx_str_t *text);

/* The head of a document of a read model: ETag from the version, Last-Modified
 * from modified_us; dst holds HEAD_DOCUMENT bytes. Gives its end. */
#define NGX_HTTP_HOTPATH_HEAD_DOCUMENT  128
u_char *ngx_http_hotpath_head_document(u_char *dst, uint64_t version,
    int64_t modified_us);

/* 16 digits, as in the ETag of a document. Gives their end. */
u_char *ngx_http_hotpath_head_hex(u_char *p, uint64_t n);

/* Other fields: dst holds 4 + name->len + value->len bytes; either has less
 * than 65536. */
u_char *ngx_http_hotpath_field_write(u_char *dst, ngx_str_t *name,
    ngx_str_t *value);

/* NGX_OK with the next one, NGX_DONE at the end; *rest starts as fields. */
ngx_int_t ngx_http_hotpath_field_next(ngx_str_t *rest, ngx_str_t *name,
    ngx_str_t *value);

ngx_http_hotpath_field_e ngx_http_hotpath_field_kind(ngx_str_t *name);


#endif /* _NGX_HTTP_HOTPATH_HEAD_H_INCLUDED_ */
