/*
 * ngx_http_hotpath_serve.c: an entry of a zone as an HTTP answer.
 *
 * One job: to turn a copy of an entry into 200 (or the status that its head
 * has), 304, 404 or 412, as an ordinary answer that HTTP/2, filters and logs
 * see like any other. It is the path of every cached answer, so what does not
 * change with the request was written into the head when the entry was made,
 * and what does (Age, Cache-Status, Content-Length) is written by hand into
 * the one block that an answer takes from the request's pool. Owns nothing
 * beyond that; runs in the event loop of every worker with no lock held.
 *
 * Preconditions are decided here and not by nginx's own filter, which neither
 * knows that an entry has one tag per coding nor that a broken list of tags
 * matches nothing. Never in here: a question to a backend, and a conditional,
 * coded or shortened answer to a subrequest, which is part of another answer.
 *
 * Reference: README.md, "Answers from the zone"; tests:
 * tests/integration/test_http_cache.py.
 */


#include "ngx_http_hotpath_serve.h"
#include "ngx_http_hotpath_answer.h"
#include "ngx_http_hotpath_gather.h"
#include "core/hp_date.h"


/* Of the fixed part of a head. */
#define NGX_HTTP_HOTPATH_HEAD_VERSION  1

#define NGX_HTTP_HOTPATH_FIELD_FIXED   4

/* What so many values of Accept-Encoding mean is remembered; longer ones are
 * read each time. */
#define NGX_HTTP_HOTPATH_ACCEPTS       16
#define NGX_HTTP_HOTPATH_ACCEPT_LEN    62

/* Of "-gzip". */
#define NGX_HTTP_HOTPATH_SUFFIX_MAX    5

/* Age, Content-Length and the Cache-Status of a plain hit. */
#define NGX_HTTP_HOTPATH_TEXT_MAX                                             \
    (3 * NGX_INT64_LEN + sizeof("Hotpath; hit; ttl="))


/* How a head begins, in the byte order of the machine: a zone never leaves
 * it. Behind it stand type, etag, last_modified and fields. */
typedef struct {
    uint8_t         version;
    uint8_t         last_modified_len;
    uint16_t        status;
    uint16_t        type_len;
    uint16_t        media_len;         /* of type without its parameters */
    uint32_t        etag_len;
    uint32_t        fields_len;
} ngx_http_hotpath_head_fixed_t;


/* What an answer takes from the pool. */
typedef struct {
    ngx_buf_t       buf;
    u_char          text[];
} ngx_http_hotpath_serve_block_t;


typedef struct {
    uint8_t         len;
    uint8_t         codings;           /* 0: nothing is known here */
    u_char          value[NGX_HTTP_HOTPATH_ACCEPT_LEN];
} ngx_http_hotpath_accept_t;


typedef enum {
    ngx_http_hotpath_field_other = 0,  /* of 200 only */
    ngx_http_hotpath_field_kept,       /* of 304 too */
    ngx_http_hotpath_field_control,
    ngx_http_hotpath_field_vary,
    ngx_http_hotpath_field_date,
    ngx_http_hotpath_field_server,
    ngx_http_hotpath_field_encoding
} ngx_http_hotpath_field_e;


static ngx_uint_t ngx_http_hotpath_serve_precondition(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_head_t *head,
    ngx_uint_t coding, ngx_str_t *etag);
static u_char *ngx_http_hotpath_serve_tag(u_char *p, ngx_str_t *tag,
    ngx_str_t *etag, ngx_uint_t coding);
static ngx_int_t ngx_http_hotpath_serve_fields(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_str_t *fields,
    ngx_uint_t not_modified);
static ngx_http_hotpath_field_e ngx_http_hotpath_serve_field(ngx_str_t *name);
static ngx_uint_t ngx_http_hotpath_serve_varies(ngx_str_t *value);
static size_t ngx_http_hotpath_serve_status_size(
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_how_t *how);
static u_char *ngx_http_hotpath_serve_status(u_char *p,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_how_t *how,
    int64_t ttl_s);
static u_char *ngx_http_hotpath_serve_number(u_char *p, uint64_t n);
static ngx_int_t ngx_http_hotpath_serve_unknown(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_str_t *age, ngx_str_t *status);
static uint64_t ngx_http_hotpath_serve_jitter(ngx_msec_t ttl_ms,
    ngx_uint_t percent);


static ngx_str_t  ngx_http_hotpath_serve_names[] = {
    ngx_string("ETag"),
    ngx_string("Age"),
    ngx_string("Cache-Status"),
    ngx_string("Cache-Control"),
    ngx_string("Last-Modified"),
    ngx_string("Content-Length"),
    ngx_string("Content-Encoding"),
    ngx_string("Vary")
};

enum {
    NGX_HTTP_HOTPATH_ETAG = 0,
    NGX_HTTP_HOTPATH_AGE,
    NGX_HTTP_HOTPATH_STATUS,
    NGX_HTTP_HOTPATH_CONTROL,
    NGX_HTTP_HOTPATH_MODIFIED,
    NGX_HTTP_HOTPATH_LENGTH,
    NGX_HTTP_HOTPATH_ENCODING,
    NGX_HTTP_HOTPATH_VARY
};

static ngx_str_t  ngx_http_hotpath_serve_hit =
    ngx_string("Hotpath; hit; ttl=");
static ngx_str_t  ngx_http_hotpath_serve_accept =
    ngx_string("Accept-Encoding");
static ngx_str_t  ngx_http_hotpath_serve_json = ngx_string("application/json");
static ngx_str_t  ngx_http_hotpath_serve_gzip = ngx_string("gzip");
static ngx_str_t  ngx_http_hotpath_serve_br = ngx_string("br");


static ngx_inline ngx_table_elt_t *
ngx_http_hotpath_serve_add(ngx_http_request_t *r, ngx_uint_t name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_http_hotpath_header_push(r);

    if (h) {
        h->key = ngx_http_hotpath_serve_names[name];
        h->value = *value;
    }

    return h;
}


/* An empty text may have no address, which memcpy() must not be given. */

static ngx_inline u_char *
ngx_http_hotpath_serve_append(u_char *p, ngx_str_t *text)
{
    return text->len ? ngx_cpymem(p, text->data, text->len) : p;
}


u_char *
ngx_http_hotpath_head_write(u_char *dst, ngx_http_hotpath_head_t *head)
{
    u_char                         *p;
    ngx_http_hotpath_head_fixed_t   fixed;

    p = ngx_strlchr(head->type.data, head->type.data + head->type.len, ';');

    if (p == NULL) {
        fixed.media_len = (uint16_t) head->type.len;

    } else {
        while (p > head->type.data && (p[-1] == ' ' || p[-1] == '\t')) {
            p--;
        }

        fixed.media_len = (uint16_t) (p - head->type.data);
    }

    fixed.version = NGX_HTTP_HOTPATH_HEAD_VERSION;
    fixed.last_modified_len = (uint8_t) head->last_modified.len;
    fixed.status = (uint16_t) head->status;
    fixed.type_len = (uint16_t) head->type.len;
    fixed.etag_len = (uint32_t) head->etag.len;
    fixed.fields_len = (uint32_t) head->fields.len;

    p = ngx_cpymem(dst, &fixed, sizeof(ngx_http_hotpath_head_fixed_t));
    p = ngx_http_hotpath_serve_append(p, &head->type);
    p = ngx_http_hotpath_serve_append(p, &head->etag);
    p = ngx_http_hotpath_serve_append(p, &head->last_modified);

    return ngx_http_hotpath_serve_append(p, &head->fields);
}


ngx_int_t
ngx_http_hotpath_head_read(ngx_http_hotpath_head_t *head, ngx_str_t *text)
{
    u_char                         *p;
    ngx_http_hotpath_head_fixed_t   fixed;

    if (text->len < sizeof(ngx_http_hotpath_head_fixed_t)) {
        return NGX_ERROR;
    }

    ngx_memcpy(&fixed, text->data, sizeof(ngx_http_hotpath_head_fixed_t));
    p = text->data + sizeof(ngx_http_hotpath_head_fixed_t);

    if (fixed.version != NGX_HTTP_HOTPATH_HEAD_VERSION
        || fixed.media_len > fixed.type_len
        || (uint64_t) fixed.type_len + fixed.etag_len
           + fixed.last_modified_len + fixed.fields_len
           != text->len - sizeof(ngx_http_hotpath_head_fixed_t))
    {
        return NGX_ERROR;
    }

    head->status = fixed.status;
    head->media_len = fixed.media_len;

    head->type.data = p;
    head->type.len = fixed.type_len;
    p += fixed.type_len;

    head->etag.data = p;
    head->etag.len = fixed.etag_len;
    p += fixed.etag_len;

    head->last_modified.data = p;
    head->last_modified.len = fixed.last_modified_len;
    p += fixed.last_modified_len;

    head->fields.data = p;
    head->fields.len = fixed.fields_len;

    return NGX_OK;
}


u_char *
ngx_http_hotpath_field_write(u_char *dst, ngx_str_t *name, ngx_str_t *value)
{
    uint16_t  lens[2];

    lens[0] = (uint16_t) name->len;
    lens[1] = (uint16_t) value->len;

    dst = ngx_cpymem(dst, lens, NGX_HTTP_HOTPATH_FIELD_FIXED);
    dst = ngx_cpymem(dst, name->data, name->len);

    return ngx_cpymem(dst, value->data, value->len);
}


ngx_int_t
ngx_http_hotpath_field_next(ngx_str_t *rest, ngx_str_t *name, ngx_str_t *value)
{
    size_t    len;
    uint16_t  lens[2];

    if (rest->len < NGX_HTTP_HOTPATH_FIELD_FIXED) {
        return NGX_DONE;
    }

    ngx_memcpy(lens, rest->data, NGX_HTTP_HOTPATH_FIELD_FIXED);
    len = NGX_HTTP_HOTPATH_FIELD_FIXED + (size_t) lens[0] + lens[1];

    if (rest->len < len) {
        return NGX_DONE;
    }

    name->data = rest->data + NGX_HTTP_HOTPATH_FIELD_FIXED;
    name->len = lens[0];
    value->data = name->data + lens[0];
    value->len = lens[1];

    rest->data += len;
    rest->len -= len;

    return NGX_OK;
}


u_char *
ngx_http_hotpath_head_document(u_char *dst, uint64_t version,
    int64_t modified_us)
{
    u_char                    etag[18];
    ngx_uint_t                i;
    char                      date[HP_HTTP_DATE_LEN];
    ngx_http_hotpath_head_t   head;

    static const u_char  hex[] = "0123456789abcdef";

    etag[0] = '"';

    for (i = 0; i < 16; i++) {
        etag[1 + i] = hex[(version >> (60 - 4 * i)) & 0xf];
    }

    etag[17] = '"';

    head.status = NGX_HTTP_OK;
    head.type = ngx_http_hotpath_serve_json;
    head.etag.data = etag;
    head.etag.len = sizeof(etag);
    head.last_modified.data = (u_char *) date;
    head.last_modified.len = 0;
    ngx_str_null(&head.fields);

    if (modified_us > 0) {
        /* never later than the answer, whatever the other machine's clock
         * says (RFC 9110, 8.8.2.1) */
        hp_http_date_format(date, ngx_min(modified_us / 1000000,
                                          (int64_t) ngx_time()));
        head.last_modified.len = HP_HTTP_DATE_LEN;
    }

    return ngx_http_hotpath_head_write(dst, &head);
}


/*
 * The zone gives the largest of the set that it has, while a client may like
 * gzip better than Brotli, or nothing better than either; then the set holds
 * only what is at least as good.
 */

ngx_uint_t
ngx_http_hotpath_serve_codings(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules)
{
#if (NGX_HTTP_GZIP)

    hp_str_t                    text;
    ngx_str_t                  *value;
    ngx_uint_t                  codings;
    ngx_http_hotpath_accept_t  *known;

    static ngx_http_hotpath_accept_t  accepts[NGX_HTTP_HOTPATH_ACCEPTS];

    if (rules->compress_min == 0
        || r->headers_in.accept_encoding == NULL
        || r != r->main)
    {
        return HP_CODING_IDENTITY;
    }

    value = &r->headers_in.accept_encoding->value;
    known = &accepts[value->len % NGX_HTTP_HOTPATH_ACCEPTS];

    if (known->codings && known->len == value->len
        && ngx_memcmp(known->value, value->data, value->len) == 0)
    {
        return known->codings;
    }

    text.data = value->data;
    text.len = value->len;

    codings = hp_coding_choose(&text, HP_CODING_IDENTITY | HP_CODING_GZIP
                                      | HP_CODING_BR);

    if (codings == HP_CODING_BR) {
        codings |= hp_coding_choose(&text, HP_CODING_IDENTITY
                                           | HP_CODING_GZIP);
    }

    codings |= HP_CODING_IDENTITY;

    if (value->len <= NGX_HTTP_HOTPATH_ACCEPT_LEN) {
        known->len = (uint8_t) value->len;
        known->codings = (uint8_t) codings;
        ngx_memcpy(known->value, value->data, value->len);
    }

    return codings;

#else

    return HP_CODING_IDENTITY;

#endif
}


ngx_int_t
ngx_http_hotpath_serve(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_copy_t *copy,
    ngx_http_hotpath_how_t *how)
{
    u_char                          *p;
    size_t                           size;
    int64_t                          age_ms, ttl_ms;
    uint64_t                         now_ms;
    ngx_int_t                        rc;
    ngx_str_t                        age, status, etag, length;
    ngx_buf_t                       *b;
    ngx_uint_t                       precondition;
    ngx_chain_t                      out;
    ngx_table_elt_t                 *h;
    ngx_http_hotpath_head_t          head;
    ngx_http_hotpath_serve_block_t  *block;

    if (copy->head.len == 0 && copy->meta.negative) {
        ngx_str_null(&head.etag);

    } else if (ngx_http_hotpath_head_read(&head, &copy->head) != NGX_OK) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "hotpath: an entry without a head in zone \"%V\"",
                      ngx_http_hotpath_cache_name(rules->cache));
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    size = sizeof(ngx_http_hotpath_serve_block_t) + NGX_HTTP_HOTPATH_TEXT_MAX
           + head.etag.len + NGX_HTTP_HOTPATH_SUFFIX_MAX
           + ngx_http_hotpath_serve_status_size(rules, how);

    block = ngx_palloc(r->pool, size);
    if (block == NULL) {
        return NGX_ERROR;
    }

    /* what changes with the moment */

    now_ms = ngx_http_hotpath_now_ms();
    age_ms = (int64_t) (now_ms - copy->meta.stored_ms);
    ttl_ms = (int64_t) (copy->meta.fresh_ms - now_ms);

    p = block->text;

    age.data = p;
    p = ngx_http_hotpath_serve_number(p, age_ms > 0 ? age_ms / 1000 : 0);
    age.len = p - age.data;

    status.data = p;
    /* rounded down, so that it is negative as soon as it is stale */
    p = ngx_http_hotpath_serve_status(p, rules, how,
                                      (ttl_ms - (ttl_ms < 0 ? 999 : 0))
                                      / 1000);
    status.len = p - status.data;

    if (copy->head.len == 0) {
        return ngx_http_hotpath_serve_unknown(r, rules, &age, &status);
    }

    etag = head.etag;

    if (copy->coding != HP_CODING_IDENTITY) {
        p = ngx_http_hotpath_serve_tag(p, &etag, &head.etag, copy->coding);
    }

    precondition = NGX_OK;

    if ((r->headers_in.if_none_match || r->headers_in.if_modified_since
         || r->headers_in.if_match || r->headers_in.if_unmodified_since)
        && head.status == NGX_HTTP_OK && r == r->main && r->err_status == 0)
    {
        precondition = ngx_http_hotpath_serve_precondition(r, rules, &head,
                                                           copy->coding,
                                                           &etag);

        if (precondition == NGX_HTTP_PRECONDITION_FAILED) {
            return ngx_http_hotpath_problem(r,
                                NGX_HTTP_HOTPATH_PROBLEM_PRECONDITION_FAILED);
        }
    }

    /* the header */

    r->disable_not_modified = 1;

    if (etag.len) {
        h = ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_ETAG, &etag);
        if (h == NULL) {
            return NGX_ERROR;
        }

        /* for filters that change a body and so have to make it weak */
        r->headers_out.etag = h;
    }

    if (ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_AGE, &age) == NULL
        || ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_STATUS, &status)
           == NULL)
    {
        return NGX_ERROR;
    }

    if (ngx_http_hotpath_serve_fields(r, rules, &head.fields,
                                      precondition == NGX_HTTP_NOT_MODIFIED)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* of 304 only where it is all that the client can know its copy by */

    if (head.last_modified.len
        && (precondition != NGX_HTTP_NOT_MODIFIED || etag.len == 0))
    {
        h = ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_MODIFIED,
                                       &head.last_modified);
        if (h == NULL) {
            return NGX_ERROR;
        }

        r->headers_out.last_modified = h;
    }

    if (precondition == NGX_HTTP_NOT_MODIFIED) {
        r->headers_out.status = NGX_HTTP_NOT_MODIFIED;
        r->header_only = 1;

        ngx_http_hotpath_gather_begin(r);
        rc = ngx_http_send_header(r);
        ngx_http_hotpath_gather_end(r);

        return rc;
    }

    r->headers_out.status = head.status;
    r->headers_out.content_type = head.type;
    r->headers_out.content_type_len = head.media_len;
    r->headers_out.content_type_lowcase = NULL;

    if (copy->coding != HP_CODING_IDENTITY) {
        h = ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_ENCODING,
                                       copy->coding == HP_CODING_GZIP
                                       ? &ngx_http_hotpath_serve_gzip
                                       : &ngx_http_hotpath_serve_br);
        if (h == NULL) {
            return NGX_ERROR;
        }

        r->headers_out.content_encoding = h;
    }

    if (head.status != NGX_HTTP_NO_CONTENT) {
        /* nginx would format the number; both, for filters that ask one */
        length.data = p;
        p = ngx_http_hotpath_serve_number(p, copy->body.len);
        length.len = p - length.data;

        h = ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_LENGTH, &length);
        if (h == NULL) {
            return NGX_ERROR;
        }

        r->headers_out.content_length = h;
        r->headers_out.content_length_n = copy->body.len;
    }

    if (r->method == NGX_HTTP_HEAD) {
        r->header_only = 1;
    }

    ngx_http_hotpath_gather_begin(r);

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        goto done;
    }

    b = &block->buf;
    ngx_memzero(b, sizeof(ngx_buf_t));

    b->pos = copy->body.data;
    b->last = copy->body.data + copy->body.len;
    b->memory = copy->body.len ? 1 : 0;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;
    b->sync = (b->last_buf || b->memory) ? 0 : 1;

    out.buf = b;
    out.next = NULL;

    rc = ngx_http_output_filter(r, &out);

done:

    ngx_http_hotpath_gather_end(r);

    return rc;
}


/*
 * NGX_OK: send it all. The client may hold any of the representations that it
 * takes; *etag becomes the tag of the one that it holds.
 */

static ngx_uint_t
ngx_http_hotpath_serve_precondition(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_head_t *head,
    ngx_uint_t coding, ngx_str_t *etag)
{
    u_char           *p;
    int64_t           modified_s, time_s;
    ngx_str_t         tags[3], *value;
    hp_str_t          text, tag;
    ngx_uint_t        i, n, each, codings;
    ngx_table_elt_t  *match;

    tags[0] = *etag;
    n = 1;

    if (rules->compress_min && etag->len && etag->data[0] == '"') {

        p = ngx_pnalloc(r->pool,
                        2 * (etag->len + NGX_HTTP_HOTPATH_SUFFIX_MAX));
        if (p == NULL) {
            return NGX_OK;
        }

        codings = ngx_http_hotpath_serve_codings(r, rules);

        for (each = HP_CODING_IDENTITY; each <= HP_CODING_BR; each <<= 1) {
            if ((codings & each) && each != coding) {
                p = ngx_http_hotpath_serve_tag(p, &tags[n++], &head->etag,
                                               each);
            }
        }
    }

    modified_s = HP_NO_TIME;

    if (head->last_modified.len) {
        text.data = head->last_modified.data;
        text.len = head->last_modified.len;
        (void) hp_http_date_parse(&modified_s, text, ngx_time());
    }

    /* RFC 9110, 13.2.2: in this order */

    if (r->headers_in.if_match) {
        value = &r->headers_in.if_match->value;
        text.data = value->data;
        text.len = value->len;

        for (i = 0; i < n; i++) {
            tag.data = tags[i].data;
            tag.len = tags[i].len;

            if (hp_match(text, tag)) {
                break;
            }
        }

        if (i == n) {
            return NGX_HTTP_PRECONDITION_FAILED;
        }

    } else if (r->headers_in.if_unmodified_since && modified_s != HP_NO_TIME) {
        value = &r->headers_in.if_unmodified_since->value;
        text.data = value->data;
        text.len = value->len;

        if (hp_http_date_parse(&time_s, text, ngx_time()) == 0
            && modified_s > time_s)
        {
            return NGX_HTTP_PRECONDITION_FAILED;
        }
    }

    match = r->headers_in.if_none_match;

    if (match == NULL) {
        if (r->headers_in.if_modified_since == NULL) {
            return NGX_OK;
        }

        value = &r->headers_in.if_modified_since->value;
        text.data = value->data;
        text.len = value->len;
        tag.len = 0;

        return hp_not_modified(NULL, &text, tag, modified_s, ngx_time())
               ? NGX_HTTP_NOT_MODIFIED : NGX_OK;
    }

    text.data = match->value.data;
    text.len = match->value.len;

    for (i = 0; i < n; i++) {
        tag.data = tags[i].data;
        tag.len = tags[i].len;

        if (hp_none_match(text, tag)) {
            *etag = tags[i];
            return NGX_HTTP_NOT_MODIFIED;
        }
    }

    return NGX_OK;
}


/* Tags of different codings of one document must differ, weak ones need not.
 * dst holds etag->len and NGX_HTTP_HOTPATH_SUFFIX_MAX bytes. */

static u_char *
ngx_http_hotpath_serve_tag(u_char *dst, ngx_str_t *tag, ngx_str_t *etag,
    ngx_uint_t coding)
{
    u_char  *p;

    *tag = *etag;

    if (coding == HP_CODING_IDENTITY || etag->len < 2
        || etag->data[0] != '"')
    {
        return dst;
    }

    p = ngx_cpymem(dst, etag->data, etag->len - 1);

    if (coding == HP_CODING_GZIP) {
        p = ngx_cpymem(p, "-gzip", 5);

    } else {
        p = ngx_cpymem(p, "-br", 3);
    }

    *p++ = '"';

    tag->data = dst;
    tag->len = p - dst;

    return p;
}


/* Cache-Control, Vary, and what an answer of an upstream has beside them. */

static ngx_int_t
ngx_http_hotpath_serve_fields(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_str_t *fields,
    ngx_uint_t not_modified)
{
    ngx_str_t                  rest, name, value;
    ngx_uint_t                 control, vary;
    ngx_table_elt_t           *h;
    ngx_http_hotpath_field_e   field;

    control = rules->cache_control.len ? 1 : 0;
    vary = rules->compress_min ? 1 : 0;

    rest = *fields;

    while (ngx_http_hotpath_field_next(&rest, &name, &value) == NGX_OK) {

        field = ngx_http_hotpath_serve_field(&name);

        if (not_modified
            && (field == ngx_http_hotpath_field_other
                || field == ngx_http_hotpath_field_encoding))
        {
            continue;
        }

        h = ngx_http_hotpath_header_push(r);
        if (h == NULL) {
            return NGX_ERROR;
        }

        h->key = name;
        h->value = value;

        switch (field) {

        case ngx_http_hotpath_field_control:
            control = 0;
            break;

        case ngx_http_hotpath_field_vary:
            if (vary && ngx_http_hotpath_serve_varies(&value)) {
                vary = 0;
            }

            break;

        case ngx_http_hotpath_field_date:
            r->headers_out.date = h;
            break;

        case ngx_http_hotpath_field_server:
            r->headers_out.server = h;
            break;

        case ngx_http_hotpath_field_encoding:
            r->headers_out.content_encoding = h;
            break;

        default:
            break;
        }
    }

    if (control
        && ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_CONTROL,
                                      &rules->cache_control)
           == NULL)
    {
        return NGX_ERROR;
    }

    if (vary
        && ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_VARY,
                                      &ngx_http_hotpath_serve_accept)
           == NULL)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* What a field of a head is to nginx, and to 304 (RFC 9110, 15.4.5). */

static ngx_http_hotpath_field_e
ngx_http_hotpath_serve_field(ngx_str_t *name)
{
    ngx_uint_t  i;

    static struct {
        ngx_str_t                  name;
        ngx_http_hotpath_field_e   field;
    } known[] = {
        { ngx_string("Cache-Control"), ngx_http_hotpath_field_control },
        { ngx_string("Content-Encoding"), ngx_http_hotpath_field_encoding },
        { ngx_string("Content-Location"), ngx_http_hotpath_field_kept },
        { ngx_string("Date"), ngx_http_hotpath_field_date },
        { ngx_string("Expires"), ngx_http_hotpath_field_kept },
        { ngx_string("Server"), ngx_http_hotpath_field_server },
        { ngx_string("Vary"), ngx_http_hotpath_field_vary }
    };

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].name.len == name->len
            && ngx_strncasecmp(known[i].name.data, name->data, name->len) == 0)
        {
            return known[i].field;
        }
    }

    return ngx_http_hotpath_field_other;
}


/* 1 where a Vary already says what ours would. */

static ngx_uint_t
ngx_http_hotpath_serve_varies(ngx_str_t *value)
{
    int       rc;
    hp_str_t  rest, name;

    rest.data = value->data;
    rest.len = value->len;

    for ( ;; ) {
        rc = hp_vary_next(&rest, &name);

        if (rc == 0) {
            return 0;
        }

        if (rc < 0 || (name.len == 1 && name.data[0] == '*')) {
            return 1;
        }

        if (name.len == ngx_http_hotpath_serve_accept.len
            && ngx_strncasecmp((u_char *) name.data,
                               ngx_http_hotpath_serve_accept.data, name.len)
               == 0)
        {
            return 1;
        }
    }
}


#define ngx_http_hotpath_serve_plain(rules, how)                              \
    ((how)->fwd == HP_FWD_NONE && (how)->detail.len == 0                      \
     && !(rules)->status_key)


/* What a Cache-Status other than that of a plain hit needs, with the copy of
 * the key that it is written from. */

static size_t
ngx_http_hotpath_serve_status_size(ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_how_t *how)
{
    if (ngx_http_hotpath_serve_plain(rules, how)) {
        return 0;
    }

    return how->key.len + HP_CACHE_STATUS_MAX(sizeof("Hotpath") - 1
                                              + how->detail.len
                                              + how->key.len);
}


static u_char *
ngx_http_hotpath_serve_status(u_char *p, ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_how_t *how, int64_t ttl_s)
{
    size_t             i, len;
    hp_cache_status_t  status;

    if (ngx_http_hotpath_serve_plain(rules, how)) {
        p = ngx_cpymem(p, ngx_http_hotpath_serve_hit.data,
                       ngx_http_hotpath_serve_hit.len);

        if (ttl_s < 0) {
            *p++ = '-';
            ttl_s = -ttl_s;
        }

        return ngx_http_hotpath_serve_number(p, ttl_s);
    }

    ngx_memzero(&status, sizeof(hp_cache_status_t));

    status.cache = (hp_str_t) HP_STR("Hotpath");
    status.fwd = how->fwd;
    status.stored = how->stored;
    status.collapsed = how->collapsed;
    status.hit = (how->fwd == HP_FWD_NONE);
    status.has_ttl = 1;
    status.ttl_s = ttl_s;
    status.detail.data = how->detail.data;
    status.detail.len = how->detail.len;

    len = HP_CACHE_STATUS_MAX(sizeof("Hotpath") - 1 + how->detail.len
                              + how->key.len);

    if (rules->status_key) {
        /* the parts of a key end with NUL, which is no sight */
        status.key.data = p + len;
        status.key.len = how->key.len;

        for (i = 0; i < how->key.len; i++) {
            p[len + i] = how->key.data[i] ? how->key.data[i] : '/';
        }
    }

    return p + hp_cache_status_write(p, len, &status);
}


static u_char *
ngx_http_hotpath_serve_number(u_char *p, uint64_t n)
{
    u_char    *last, *end;
    uint64_t   rest;

    last = p;

    for (rest = n; rest >= 10; rest /= 10) {
        last++;
    }

    end = last + 1;

    for ( ;; ) {
        *last = (u_char) ('0' + n % 10);
        n /= 10;

        if (last == p) {
            return end;
        }

        last--;
    }
}


/* 404: nobody has it. */

static ngx_int_t
ngx_http_hotpath_serve_unknown(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_str_t *age, ngx_str_t *status)
{
    if (ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_AGE, age) == NULL
        || ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_STATUS, status)
           == NULL)
    {
        return NGX_ERROR;
    }

    if (rules->compress_min
        && ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_VARY,
                                      &ngx_http_hotpath_serve_accept)
           == NULL)
    {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_problem(r,
                                   NGX_HTTP_HOTPATH_PROBLEM_DOCUMENT_UNKNOWN);
}


void
ngx_http_hotpath_serve_times(ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_cache_meta_t *meta)
{
    meta->stored_ms = ngx_http_hotpath_now_ms();
    meta->fresh_ms = meta->stored_ms
                     + ngx_http_hotpath_serve_jitter(meta->negative
                                                     ? rules->negative_ttl
                                                     : rules->ttl,
                                                     rules->jitter);
    meta->revalidate_ms = meta->fresh_ms + rules->revalidate;
    meta->stale_ms = meta->fresh_ms + ngx_max(rules->stale,
                                              rules->revalidate);
}


/* Between ttl less percent of it and ttl, so that what was stored together
 * does not expire together. */

static uint64_t
ngx_http_hotpath_serve_jitter(ngx_msec_t ttl_ms, ngx_uint_t percent)
{
    uint64_t  range_ms;

    static uint64_t  state;      /* this worker's; xorshift64 */

    range_ms = (uint64_t) ttl_ms * percent / 100;

    if (range_ms == 0) {
        return ttl_ms;
    }

    if (state == 0) {
        state = ((uint64_t) ngx_random() << 32) ^ (uint64_t) ngx_random()
                ^ ((uint64_t) ngx_pid << 16) ^ 1;
    }

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;

    return ttl_ms - state % (range_ms + 1);
}


uint64_t
ngx_http_hotpath_now_ms(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (uint64_t) tp->sec * 1000 + tp->msec;
}
