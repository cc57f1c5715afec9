/*
 * ngx_http_hotpath_head.c: what an entry's answers need beside a body.
 *
 * One job: the bytes of a head. A head is written once, when an entry is made,
 * so that its answers have nothing to format and nothing to find out: status,
 * media type, entity tag, Last-Modified, other fields of the header, and
 * whether the body may be coded. A zone keeps it as text that it does not look
 * into; heads do not leave the machine, so numbers are in its byte order, and
 * a head of another version is none.
 *
 * Owns nothing and keeps no state: what is read points into the text, what is
 * written goes where the caller says. Runs in any process, on the path of every
 * cached answer. Never in here: a look at the request, or trust in the lengths
 * of a text that does not add up.
 *
 * Reference: README.md, "Read a document"; tests: tests/unit/test_head.c,
 * tests/integration/test_http_cache.py.
 */


#include "ngx_http_hotpath_head.h"
#include "core/hp_date.h"
#include "core/hp_http.h"


#define NGX_HTTP_HOTPATH_HEAD_VERSION  1
#define NGX_HTTP_HOTPATH_HEAD_CODABLE  1

#define NGX_HTTP_HOTPATH_FIELD_FIXED   4


/* How a head begins; type, etag, last_modified and fields follow. */
typedef struct {
    uint8_t         version;
    uint8_t         last_modified_len;
    uint16_t        status;
    uint16_t        type_len;
    uint16_t        media_len;         /* of type without its parameters */
    uint16_t        etag_len;
    uint16_t        flags;
    uint32_t        fields_len;
} ngx_http_hotpath_head_fixed_t;


static ngx_uint_t ngx_http_hotpath_head_codable(ngx_http_hotpath_head_t *head);
static ngx_uint_t ngx_http_hotpath_head_media(ngx_str_t *type);
static u_char *ngx_http_hotpath_head_copy(u_char *p, ngx_str_t *text);


static ngx_str_t  ngx_http_hotpath_head_json = ngx_string("application/json");


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
    fixed.etag_len = (uint16_t) head->etag.len;
    fixed.flags = ngx_http_hotpath_head_codable(head)
                  ? NGX_HTTP_HOTPATH_HEAD_CODABLE : 0;
    fixed.fields_len = (uint32_t) head->fields.len;

    p = ngx_cpymem(dst, &fixed, sizeof(ngx_http_hotpath_head_fixed_t));
    p = ngx_http_hotpath_head_copy(p, &head->type);
    p = ngx_http_hotpath_head_copy(p, &head->etag);
    p = ngx_http_hotpath_head_copy(p, &head->last_modified);

    return ngx_http_hotpath_head_copy(p, &head->fields);
}


/* What is empty may be nowhere. */

static u_char *
ngx_http_hotpath_head_copy(u_char *p, ngx_str_t *text)
{
    return text->len ? ngx_cpymem(p, text->data, text->len) : p;
}


/* Whether a smaller body would be the same answer, and is to be expected. */

static ngx_uint_t
ngx_http_hotpath_head_codable(ngx_http_hotpath_head_t *head)
{
    hp_str_t                   text;
    ngx_str_t                  rest, name, value;
    hp_response_control_t      control;
    ngx_http_hotpath_field_e   field;

    if (head->status != NGX_HTTP_OK
        || !ngx_http_hotpath_head_media(&head->type))
    {
        return 0;
    }

    rest = head->fields;

    while (ngx_http_hotpath_field_next(&rest, &name, &value) == NGX_OK) {

        field = ngx_http_hotpath_field_kind(&name);

        if (field == ngx_http_hotpath_field_encoding) {
            return 0;
        }

        if (field == ngx_http_hotpath_field_control) {
            text.data = value.data;
            text.len = value.len;

            hp_response_control(&control, text);

            if (control.no_transform) {
                return 0;
            }
        }
    }

    return 1;
}


/* Media types that shrink. */

static ngx_uint_t
ngx_http_hotpath_head_media(ngx_str_t *type)
{
    ngx_uint_t  i;

    static ngx_str_t  parts[] = {
        ngx_string("json"),
        ngx_string("xml"),
        ngx_string("javascript"),
        ngx_string("wasm")
    };

    if (type->len >= 5 && ngx_strncasecmp(type->data, (u_char *) "text/", 5)
                          == 0)
    {
        return 1;
    }

    if (type->len == 0) {
        return 0;                      /* nginx would look below NULL */
    }

    for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (ngx_strlcasestrn(type->data, type->data + type->len,
                             parts[i].data, parts[i].len - 1))
        {
            return 1;
        }
    }

    return 0;
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
    head->codable = (fixed.flags & NGX_HTTP_HOTPATH_HEAD_CODABLE) ? 1 : 0;

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
ngx_http_hotpath_head_document(u_char *dst, uint64_t version,
    int64_t modified_us)
{
    u_char                    etag[18];
    char                      date[HP_HTTP_DATE_LEN];
    ngx_http_hotpath_head_t   head;

    etag[0] = '"';
    *ngx_http_hotpath_head_hex(&etag[1], version) = '"';

    head.status = NGX_HTTP_OK;
    head.type = ngx_http_hotpath_head_json;
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


u_char *
ngx_http_hotpath_head_hex(u_char *p, uint64_t n)
{
    int  shift;

    static const u_char  digits[] = "0123456789abcdef";

    for (shift = 60; shift >= 0; shift -= 4) {
        *p++ = digits[(n >> shift) & 0xf];
    }

    return p;
}


u_char *
ngx_http_hotpath_field_write(u_char *dst, ngx_str_t *name, ngx_str_t *value)
{
    uint16_t  lens[2];

    lens[0] = (uint16_t) name->len;
    lens[1] = (uint16_t) value->len;

    dst = ngx_cpymem(dst, lens, NGX_HTTP_HOTPATH_FIELD_FIXED);
    dst = ngx_http_hotpath_head_copy(dst, name);

    return ngx_http_hotpath_head_copy(dst, value);
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


ngx_http_hotpath_field_e
ngx_http_hotpath_field_kind(ngx_str_t *name)
{
    ngx_uint_t  i;

    static struct {
        ngx_str_t                  name;
        ngx_http_hotpath_field_e   field;
    } known[] = {
        { ngx_string("Cache-Control"), ngx_http_hotpath_field_control },
        { ngx_string("Cache-Status"), ngx_http_hotpath_field_status },
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
