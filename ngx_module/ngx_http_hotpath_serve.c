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
 * Reference: README.md, "Read a document"; tests:
 * tests/integration/test_http_cache.py.
 */


#include "ngx_http_hotpath_serve.h"
#include "ngx_http_hotpath_answer.h"
#include "ngx_http_hotpath_compress.h"
#include "ngx_http_hotpath_gather.h"
#include "core/hp_date.h"
#include "core/hp_fields.h"
#include "core/hp_param.h"


/* What so many values of Accept-Encoding mean is remembered; longer ones are
 * read each time. */
#define NGX_HTTP_HOTPATH_ACCEPTS       16
#define NGX_HTTP_HOTPATH_ACCEPT_LEN    62

/* Of a tag: of a selection "-f" and 16 digits, of a coding "-gzip". */
#define NGX_HTTP_HOTPATH_SUFFIX_MAX    18

/* Age, Content-Length and the Cache-Status of a plain hit. */
#define NGX_HTTP_HOTPATH_TEXT_MAX                                             \
    (3 * NGX_INT64_LEN + sizeof("Hotpath; hit; ttl="))


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


static ngx_int_t ngx_http_hotpath_serve_send(ngx_http_request_t *r,
    ngx_http_hotpath_head_t *head, ngx_http_hotpath_copy_t *copy,
    ngx_http_hotpath_serve_block_t *block, u_char *p);
static ngx_int_t ngx_http_hotpath_serve_wanted(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, hp_fields_t *fields);
static ngx_int_t ngx_http_hotpath_serve_select(
    ngx_http_hotpath_cache_rules_t *rules, hp_fields_t *fields,
    ngx_str_t *body);
static ngx_int_t ngx_http_hotpath_serve_precondition(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_head_t *head,
    ngx_uint_t coding, ngx_str_t *etag);
static u_char *ngx_http_hotpath_serve_tag(u_char *p, ngx_str_t *tag,
    ngx_str_t *etag, ngx_uint_t coding);
static u_char *ngx_http_hotpath_serve_tag_fields(u_char *p, ngx_str_t *etag,
    hp_fields_t *fields);
static ngx_int_t ngx_http_hotpath_serve_fields(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_head_t *head,
    ngx_str_t *etag, ngx_table_elt_t *status, ngx_uint_t not_modified);
static ngx_uint_t ngx_http_hotpath_serve_varies(ngx_str_t *value);
static size_t ngx_http_hotpath_serve_status_size(
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_how_t *how);
static u_char *ngx_http_hotpath_serve_status(u_char *p, ngx_str_t *value,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_how_t *how,
    int64_t ttl_s);
static u_char *ngx_http_hotpath_serve_number(u_char *end, uint64_t n);


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

static ngx_str_t  ngx_http_hotpath_serve_accept =
    ngx_string("Accept-Encoding");
static ngx_str_t  ngx_http_hotpath_serve_gzip = ngx_string("gzip");
static ngx_str_t  ngx_http_hotpath_serve_br = ngx_string("br");


#define ngx_http_hotpath_serve_text(s)  ((hp_str_t) { (s)->data, (s)->len })

/* Whether the request may be one for a selection. */
#define ngx_http_hotpath_serve_selects(r, rules)                              \
    ((rules)->fields.len && (r)->args.len                                     \
     && ngx_http_hotpath_serve_argument(r, rules, NULL))


static int
ngx_http_hotpath_serve_argument(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, hp_str_t *value)
{
    hp_str_t  first;

    return hp_param_find(ngx_http_hotpath_serve_text(&r->args),
                         ngx_http_hotpath_serve_text(&rules->fields),
                         value ? value : &first);
}


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
        || r != r->main
        || ngx_http_hotpath_serve_selects(r, rules))
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

    text = ngx_http_hotpath_serve_text(value);

    codings = hp_coding_choose(&text, HP_CODING_IDENTITY
                                      | NGX_HTTP_HOTPATH_CODINGS);

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
    ngx_str_t                        age, status, etag;
    ngx_uint_t                       selects;
    hp_fields_t                      fields;
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

    p = block->text + NGX_INT64_LEN;
    age.data = ngx_http_hotpath_serve_number(p, age_ms > 0
                                                ? (uint64_t) age_ms / 1000
                                                : 0);
    age.len = p - age.data;

    /* negative as soon as it is stale */
    p = ngx_http_hotpath_serve_status(p, &status, rules, how,
                                      (ttl_ms - (ttl_ms > 0 ? 0 : 1000))
                                      / 1000);

    h = ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_STATUS, &status);

    if (h == NULL
        || ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_AGE, &age) == NULL)
    {
        return NGX_ERROR;
    }

    if (copy->head.len == 0) {

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

    /* which representation */

    etag = head.etag;
    selects = 0;

    if (copy->coding != HP_CODING_IDENTITY) {
        p = ngx_http_hotpath_serve_tag(p, &etag, &head.etag, copy->coding);

    } else if (head.status == NGX_HTTP_OK
               && ngx_http_hotpath_serve_selects(r, rules))
    {
        rc = ngx_http_hotpath_serve_wanted(r, rules, &fields);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_DECLINED) {
            return ngx_http_hotpath_problem(r,
                                     NGX_HTTP_HOTPATH_PROBLEM_FIELDS_INVALID);
        }

        p = ngx_http_hotpath_serve_tag_fields(p, &etag, &fields);
        selects = 1;
    }

    rc = NGX_OK;

    if ((r->headers_in.if_none_match || r->headers_in.if_modified_since
         || r->headers_in.if_match || r->headers_in.if_unmodified_since)
        && head.status == NGX_HTTP_OK && r == r->main && r->err_status == 0)
    {
        rc = ngx_http_hotpath_serve_precondition(r, rules, &head,
                                                 copy->coding, &etag);
    }

    if (rc == NGX_HTTP_PRECONDITION_FAILED) {
        return ngx_http_hotpath_problem(r,
                                NGX_HTTP_HOTPATH_PROBLEM_PRECONDITION_FAILED);
    }

    if (rc == NGX_OK && selects
        && ngx_http_hotpath_serve_select(rules, &fields, &copy->body)
           != NGX_OK)
    {
        return ngx_http_hotpath_problem(r,
                                     NGX_HTTP_HOTPATH_PROBLEM_FIELDS_INVALID);
    }

    if (ngx_http_hotpath_serve_fields(r, rules, &head, &etag, h,
                                      rc == NGX_HTTP_NOT_MODIFIED)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* decided above */
    r->disable_not_modified = 1;

    if (rc == NGX_HTTP_NOT_MODIFIED) {
        r->headers_out.status = NGX_HTTP_NOT_MODIFIED;
        r->header_only = 1;

        ngx_http_hotpath_gather_begin(r);
        rc = ngx_http_send_header(r);

        return ngx_http_hotpath_gather_end(r) == NGX_OK ? rc : NGX_ERROR;
    }

    if (rules->compress_min && copy->body.len >= rules->compress_min
        && copy->codings == HP_CODING_IDENTITY && head.codable
        && how->key.len && !selects
        && ngx_http_hotpath_serve_codings(r, rules) != HP_CODING_IDENTITY)
    {
        ngx_http_hotpath_compress(rules->cache, &how->key,
                                  copy->meta.version);
    }

    return ngx_http_hotpath_serve_send(r, &head, copy, block, p);
}


/* All that is not of 304 too; p is free text in the block. */

static ngx_int_t
ngx_http_hotpath_serve_send(ngx_http_request_t *r,
    ngx_http_hotpath_head_t *head, ngx_http_hotpath_copy_t *copy,
    ngx_http_hotpath_serve_block_t *block, u_char *p)
{
    ngx_int_t         rc;
    ngx_str_t         length;
    ngx_buf_t        *b;
    ngx_chain_t       out;
    ngx_table_elt_t  *h;

    r->headers_out.status = head->status;
    r->headers_out.content_type = head->type;
    r->headers_out.content_type_len = head->media_len;
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

    if (head->status != NGX_HTTP_NO_CONTENT) {

        /* where only the number is set, nginx formats it; filters ask it */

        p += NGX_INT64_LEN;
        length.data = ngx_http_hotpath_serve_number(p, copy->body.len);
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

    return ngx_http_hotpath_gather_end(r) == NGX_OK ? rc : NGX_ERROR;
}


/* The names point into a copy in the request's pool. NGX_DECLINED: there are
 * none. */

static ngx_int_t
ngx_http_hotpath_serve_wanted(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, hp_fields_t *fields)
{
    u_char    *p;
    size_t     len;
    hp_str_t   text;

    if (ngx_http_hotpath_serve_argument(r, rules, &text) != 1) {
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(r->pool, text.len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (hp_param_decode(p, &len, text, 1) != HP_PARAM_OK) {
        return NGX_DECLINED;
    }

    text.data = p;
    text.len = len;

    return hp_fields_parse(fields, text) == 0 ? NGX_OK : NGX_DECLINED;
}


/* In place. NGX_DECLINED: it has no members. */

static ngx_int_t
ngx_http_hotpath_serve_select(ngx_http_hotpath_cache_rules_t *rules,
    hp_fields_t *fields, ngx_str_t *body)
{
    size_t    len;
    hp_str_t  text;

    static const hp_str_t  data = HP_STR("data");

    text = ngx_http_hotpath_serve_text(body);

    len = rules->fields_data
          ? hp_fields_write_list(body->data, text, data, fields)
          : hp_fields_write(body->data, text, fields);

    if (len == 0) {
        return NGX_DECLINED;
    }

    body->len = len;

    return NGX_OK;
}


/*
 * NGX_OK: send it all. The client may hold any of the representations that it
 * takes; *etag becomes the tag of the one that it holds.
 */

static ngx_int_t
ngx_http_hotpath_serve_precondition(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_head_t *head,
    ngx_uint_t coding, ngx_str_t *etag)
{
    u_char      *p;
    int64_t      modified_s, time_s;
    ngx_str_t    tags[3];
    hp_str_t     text;
    ngx_uint_t   i, n, each, codings;

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
        (void) hp_http_date_parse(&modified_s,
                            ngx_http_hotpath_serve_text(&head->last_modified),
                            ngx_time());
    }

    /* RFC 9110, 13.2.2: in this order */

    if (r->headers_in.if_match) {
        text = ngx_http_hotpath_serve_text(&r->headers_in.if_match->value);

        for (i = 0; i < n; i++) {
            if (hp_match(text, ngx_http_hotpath_serve_text(&tags[i]))) {
                break;
            }
        }

        if (i == n) {
            return NGX_HTTP_PRECONDITION_FAILED;
        }

    } else if (r->headers_in.if_unmodified_since && modified_s != HP_NO_TIME) {
        text = ngx_http_hotpath_serve_text(
                                   &r->headers_in.if_unmodified_since->value);

        if (hp_http_date_parse(&time_s, text, ngx_time()) == 0
            && modified_s > time_s)
        {
            return NGX_HTTP_PRECONDITION_FAILED;
        }
    }

    if (r->headers_in.if_none_match) {
        text = ngx_http_hotpath_serve_text(&r->headers_in.if_none_match->value);

        for (i = 0; i < n; i++) {
            if (hp_none_match(text, ngx_http_hotpath_serve_text(&tags[i]))) {
                *etag = tags[i];
                return NGX_HTTP_NOT_MODIFIED;
            }
        }

    } else if (r->headers_in.if_modified_since) {
        text = ngx_http_hotpath_serve_text(
                                     &r->headers_in.if_modified_since->value);

        if (hp_not_modified(NULL, &text, ngx_http_hotpath_serve_text(etag),
                            modified_s, ngx_time()))
        {
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


/* The tag of a selection, which no other selection of that document has. */

static u_char *
ngx_http_hotpath_serve_tag_fields(u_char *dst, ngx_str_t *etag,
    hp_fields_t *fields)
{
    u_char  *p;

    if (etag->len == 0) {
        return dst;
    }

    p = ngx_cpymem(dst, etag->data, etag->len - 1);
    *p++ = '-';
    *p++ = 'f';
    p = ngx_http_hotpath_head_hex(p, hp_fields_hash(fields));
    *p++ = '"';

    etag->data = dst;
    etag->len = p - dst;

    return p;
}


/* What the head says; of 304 what RFC 9110, 15.4.5, wants, and Last-Modified
 * only where it is all that the client can know its copy by. */

static ngx_int_t
ngx_http_hotpath_serve_fields(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_head_t *head,
    ngx_str_t *etag, ngx_table_elt_t *status, ngx_uint_t not_modified)
{
    ngx_str_t                  rest, name, value;
    ngx_uint_t                 control, vary;
    ngx_table_elt_t           *h;
    ngx_http_hotpath_field_e   field;

    if (etag->len) {
        h = ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_ETAG, etag);
        if (h == NULL) {
            return NGX_ERROR;
        }

        /* for filters that change a body and so have to make it weak */
        r->headers_out.etag = h;
    }

    if (head->last_modified.len && (!not_modified || etag->len == 0)) {
        h = ngx_http_hotpath_serve_add(r, NGX_HTTP_HOTPATH_MODIFIED,
                                       &head->last_modified);
        if (h == NULL) {
            return NGX_ERROR;
        }

        r->headers_out.last_modified = h;
    }

    control = rules->cache_control.len ? 1 : 0;
    vary = rules->compress_min ? 1 : 0;

    rest = head->fields;

    while (ngx_http_hotpath_field_next(&rest, &name, &value) == NGX_OK) {

        field = ngx_http_hotpath_field_kind(&name);

        if (not_modified
            && (field == ngx_http_hotpath_field_other
                || field == ngx_http_hotpath_field_encoding
                || field == ngx_http_hotpath_field_status))
        {
            continue;
        }

        if (rules->field && rules->field(r, &name, &value) != NGX_OK) {
            return NGX_ERROR;
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

        case ngx_http_hotpath_field_status:
            /* that of an upstream: ours comes behind it (RFC 9211) */
            h->value = status->value;
            status->value = value;
            status = h;
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


/* 1 where a Vary already says what ours would. */

static ngx_uint_t
ngx_http_hotpath_serve_varies(ngx_str_t *value)
{
    int       rc;
    hp_str_t  rest, name;

    rest = ngx_http_hotpath_serve_text(value);

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


/* Into the text at p; gives the end of what it took of it. */

static u_char *
ngx_http_hotpath_serve_status(u_char *p, ngx_str_t *value,
    ngx_http_hotpath_cache_rules_t *rules, ngx_http_hotpath_how_t *how,
    int64_t ttl_s)
{
    u_char             *first;
    size_t              i, len;
    hp_cache_status_t   status;

    static const u_char  hit[] = "Hotpath; hit; ttl=";

    if (ngx_http_hotpath_serve_plain(rules, how)) {
        p += sizeof(hit) + NGX_INT64_LEN;
        first = ngx_http_hotpath_serve_number(p, ttl_s < 0 ? -ttl_s : ttl_s);

        if (ttl_s < 0) {
            *--first = '-';
        }

        value->data = first - (sizeof(hit) - 1);
        value->len = p - value->data;
        ngx_memcpy(value->data, hit, sizeof(hit) - 1);

        return p;
    }

    ngx_memzero(&status, sizeof(hp_cache_status_t));

    status.cache = (hp_str_t) HP_STR("Hotpath");
    status.fwd = how->fwd;
    status.fwd_status = (unsigned) how->fwd_status;
    status.stored = how->stored;
    status.collapsed = how->collapsed;
    status.hit = (how->fwd == HP_FWD_NONE);
    status.has_ttl = 1;
    status.ttl_s = ttl_s;
    status.detail = ngx_http_hotpath_serve_text(&how->detail);

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

    value->data = p;
    value->len = hp_cache_status_write(p, len, &status);

    return p + value->len;
}


/* The digits of n, so that they end at end; gives where they begin. */

static u_char *
ngx_http_hotpath_serve_number(u_char *end, uint64_t n)
{
    u_char  *p;

    static const u_char  pairs[] =
        "00010203040506070809101112131415161718192021222324"
        "25262728293031323334353637383940414243444546474849"
        "50515253545556575859606162636465666768697071727374"
        "75767778798081828384858687888990919293949596979899";

    p = end;

    while (n >= 100) {
        p -= 2;
        ngx_memcpy(p, &pairs[2 * (n % 100)], 2);
        n /= 100;
    }

    if (n >= 10) {
        p -= 2;
        ngx_memcpy(p, &pairs[2 * n], 2);
        return p;
    }

    *--p = (u_char) ('0' + n);

    return p;
}
