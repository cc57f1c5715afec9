/*
 * ngx_http_hotpath_kept.c: the head of an upstream's answer as a zone keeps it.
 *
 * One job: to pick out of the header that a client gets what other clients may
 * get later. That is all but the fields of one hop, those that Connection
 * names, what is one client's (Set-Cookie), what the zone says itself (Age) or
 * knows better (lengths, ranges), and what has a place of its own in a head. It
 * is taken before nginx's filters add theirs, which they do each time. Date is
 * the upstream's own (RFC 9111, 3.1).
 *
 * Owns nothing; all is in the request's pool. Runs in the header filter of
 * every worker. Never in here: a decision whether it is kept at all
 * (ngx_http_hotpath_storable.c). Reference: README.md, "In front of any
 * upstream"; tests: tests/integration/test_output_rules.py.
 */


#include "ngx_http_hotpath_kept.h"
#include "ngx_http_hotpath_cache.h"
#include "core/hp_date.h"
#include "core/hp_http.h"


static ngx_int_t ngx_http_hotpath_kept_answer(ngx_http_request_t *r,
    ngx_array_t *fields, ngx_str_t *connection, ngx_uint_t renewed);
static ngx_uint_t ngx_http_hotpath_kept_field(ngx_str_t *name,
    ngx_str_t *connection);
static ngx_int_t ngx_http_hotpath_kept_add(ngx_array_t *fields,
    ngx_str_t *name, ngx_str_t *value);
static ngx_keyval_t *ngx_http_hotpath_kept_find(ngx_array_t *fields,
    ngx_uint_t n, ngx_str_t *name);


/* Of neither the zone nor other clients. */
static ngx_str_t  ngx_http_hotpath_kept_dropped[] = {
    ngx_string("Accept-Ranges"),
    ngx_string("Age"),
    ngx_string("Connection"),
    ngx_string("Content-Length"),
    ngx_string("Content-Range"),
    ngx_string("Content-Type"),
    ngx_string("Date"),
    ngx_string("ETag"),
    ngx_string("Keep-Alive"),
    ngx_string("Last-Modified"),
    ngx_string("Proxy-Authenticate"),
    ngx_string("Proxy-Authentication-Info"),
    ngx_string("Proxy-Authorization"),
    ngx_string("Proxy-Connection"),
    ngx_string("Set-Cookie"),
    ngx_string("Set-Cookie2"),
    ngx_string("TE"),
    ngx_string("Trailer"),
    ngx_string("Transfer-Encoding"),
    ngx_string("Upgrade")
};


ngx_int_t
ngx_http_hotpath_kept_head(ngx_http_request_t *r,
    ngx_http_hotpath_head_t *head, ngx_str_t *connection, ngx_str_t *date,
    ngx_str_t *stored, ngx_str_t *text)
{
    u_char        *p;
    size_t         len;
    ngx_str_t      rest, name, value;
    ngx_uint_t     i, n;
    ngx_array_t    fields;
    ngx_keyval_t  *field;

    static ngx_str_t  date_name = ngx_string("Date");

    if (ngx_array_init(&fields, r->pool, 16, sizeof(ngx_keyval_t)) != NGX_OK
        || ngx_http_hotpath_kept_answer(r, &fields, connection,
                                        stored != NULL)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    value = *date;

    if (value.len == 0) {
        value.len = HP_HTTP_DATE_LEN;
        value.data = ngx_pnalloc(r->pool, HP_HTTP_DATE_LEN);
        if (value.data == NULL) {
            return NGX_ERROR;
        }

        hp_http_date_format((char *) value.data, ngx_time());
    }

    if (ngx_http_hotpath_kept_add(&fields, &date_name, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    if (stored) {
        n = fields.nelts;
        rest = *stored;

        while (ngx_http_hotpath_field_next(&rest, &name, &value) == NGX_OK) {

            if (ngx_http_hotpath_kept_find(&fields, n, &name) == NULL
                && ngx_http_hotpath_kept_add(&fields, &name, &value) != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    /* as one text */

    field = fields.elts;
    len = 0;

    for (i = 0; i < fields.nelts; i++) {
        len += 4 + field[i].key.len + field[i].value.len;
    }

    if (head->last_modified.len > 255) {
        ngx_str_null(&head->last_modified);
    }

    head->fields.len = len;

    if (ngx_http_hotpath_head_size(head) > NGX_HTTP_HOTPATH_CACHE_HEAD_MAX) {
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(r->pool, len + ngx_http_hotpath_head_size(head));
    if (p == NULL) {
        return NGX_ERROR;
    }

    head->fields.data = p;

    for (i = 0; i < fields.nelts; i++) {
        p = ngx_http_hotpath_field_write(p, &field[i].key, &field[i].value);
    }

    text->data = p;
    text->len = ngx_http_hotpath_head_write(p, head) - p;

    return NGX_OK;
}


/* Lines of Cache-Control and Vary are joined, as they are read as one; others
 * stay as they are. Of a 304 what tells of a body is left out. */

static ngx_int_t
ngx_http_hotpath_kept_answer(ngx_http_request_t *r, ngx_array_t *fields,
    ngx_str_t *connection, ngx_uint_t renewed)
{
    ngx_uint_t                 i;
    ngx_keyval_t              *field;
    ngx_list_part_t           *part;
    ngx_table_elt_t           *h;
    ngx_http_hotpath_field_e   kind;

    part = &r->headers_out.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return NGX_OK;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].hash == 0
            || !ngx_http_hotpath_kept_field(&h[i].key, connection))
        {
            continue;
        }

        kind = ngx_http_hotpath_field_kind(&h[i].key);

        if (renewed && kind == ngx_http_hotpath_field_encoding) {
            continue;
        }

        field = NULL;

        if (kind == ngx_http_hotpath_field_control
            || kind == ngx_http_hotpath_field_vary)
        {
            field = ngx_http_hotpath_kept_find(fields, fields->nelts,
                                               &h[i].key);
        }

        if (field) {
            if (ngx_http_hotpath_kept_join(r->pool, &field->value, &h[i].value)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

        } else if (ngx_http_hotpath_kept_add(fields, &h[i].key, &h[i].value)
                   != NGX_OK)
        {
            return NGX_ERROR;
        }
    }
}


static ngx_uint_t
ngx_http_hotpath_kept_field(ngx_str_t *name, ngx_str_t *connection)
{
    hp_str_t     rest, each;
    ngx_str_t    listed;
    ngx_uint_t   i;

    for (i = 0; i < sizeof(ngx_http_hotpath_kept_dropped)
                    / sizeof(ngx_http_hotpath_kept_dropped[0]); i++)
    {
        if (ngx_http_hotpath_kept_same(name,
                                       &ngx_http_hotpath_kept_dropped[i]))
        {
            return 0;
        }
    }

    rest.data = connection->data;
    rest.len = connection->len;

    while (hp_vary_next(&rest, &each) != 0) {
        listed.data = (u_char *) each.data;
        listed.len = each.len;

        if (ngx_http_hotpath_kept_same(name, &listed)) {
            return 0;
        }
    }

    return 1;
}


static ngx_int_t
ngx_http_hotpath_kept_add(ngx_array_t *fields, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_keyval_t  *field;

    field = ngx_array_push(fields);
    if (field == NULL) {
        return NGX_ERROR;
    }

    field->key = *name;
    field->value = *value;

    return NGX_OK;
}


/* Among the first n. */

static ngx_keyval_t *
ngx_http_hotpath_kept_find(ngx_array_t *fields, ngx_uint_t n, ngx_str_t *name)
{
    ngx_uint_t     i;
    ngx_keyval_t  *field;

    field = fields->elts;

    for (i = 0; i < n; i++) {
        if (ngx_http_hotpath_kept_same(&field[i].key, name)) {
            return &field[i];
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_hotpath_kept_join(ngx_pool_t *pool, ngx_str_t *value, ngx_str_t *more)
{
    u_char  *p, *start;

    start = ngx_pnalloc(pool, value->len + 2 + more->len);
    if (start == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(start, value->data, value->len);
    *p++ = ',';
    *p++ = ' ';
    p = ngx_cpymem(p, more->data, more->len);

    value->data = start;
    value->len = p - start;

    return NGX_OK;
}
