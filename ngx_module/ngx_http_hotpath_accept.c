/*
 * ngx_http_hotpath_accept.c: from a request and its text to events.
 *
 * Which form a request has, what each of its events says, and what is wrong
 * with one that is refused: code, byte of the text, attribute or member. An
 * array is checked as a whole first; what is wrong inside an element is that
 * element's result. The one event in application/json, which is nearly all
 * there is, takes one pass and no copy. Owns one hp_cloudevent_t for each
 * worker, used for one event after another; all else lies in the pools that
 * the caller names. Runs in the event loop, in time linear in the text. Never
 * in here: an event that is repaired, a part of one that is dropped. The
 * contract is in ngx_module/README.md; tests/integration/test_events.py,
 * test_schemas.py, test_write.py.
 */


#include "ngx_http_hotpath_accept.h"
#include "ngx_http_hotpath_body.h"
#include "core/hp_cloudevent.h"
#include "core/hp_header.h"
#include "core/hp_json.h"


#define NGX_HTTP_HOTPATH_ACCEPT_NAME_MAX  64  /* of an attribute, as told */
#define NGX_HTTP_HOTPATH_ACCEPT_DEPTH     1000

#define ngx_http_hotpath_accept_header(h, lit)                                \
    (ngx_memcmp((h)->lowcase_key, lit, sizeof(lit) - 1) == 0)


static ngx_int_t ngx_http_hotpath_accept_key_read(ngx_http_request_t *r,
    ngx_http_hotpath_headers_t *headers);
static ngx_int_t ngx_http_hotpath_accept_own(
    ngx_http_hotpath_accept_t *accept, hp_str_t text, size_t offset,
    hp_event_t *event);
static ngx_int_t ngx_http_hotpath_accept_cloudevent(
    ngx_http_hotpath_accept_t *accept, hp_str_t text, size_t offset,
    hp_event_t *event);
static hp_event_status_t ngx_http_hotpath_accept_binary(
    ngx_http_hotpath_accept_t *accept, hp_str_t text);
static ngx_int_t ngx_http_hotpath_accept_key(
    ngx_http_hotpath_accept_t *accept, hp_event_t *event);
static ngx_int_t ngx_http_hotpath_accept_schema(
    ngx_http_hotpath_accept_t *accept, hp_event_t *event, hp_str_t sent,
    size_t offset);
static ngx_int_t ngx_http_hotpath_accept_string(ngx_pool_t *pool,
    hp_json_slice_t *slice, hp_str_t *value);
static ngx_int_t ngx_http_hotpath_accept_value(ngx_pool_t *pool, hp_str_t raw,
    unsigned spaced, hp_str_t *value);
static ngx_int_t ngx_http_hotpath_accept_refuse(
    ngx_http_hotpath_accept_t *accept, ngx_http_hotpath_problem_e problem);
static ngx_int_t ngx_http_hotpath_accept_refuse_at(
    ngx_http_hotpath_accept_t *accept, ngx_http_hotpath_problem_e problem,
    const char *member, hp_str_t *name, size_t offset);


static ngx_http_hotpath_problem_e  ngx_http_hotpath_accept_event_problems[] = {
    NGX_HTTP_HOTPATH_PROBLEM_N,
    NGX_HTTP_HOTPATH_PROBLEM_CONTENT_TYPE_INVALID,
    NGX_HTTP_HOTPATH_PROBLEM_CONTENT_TYPE_UNSUPPORTED,
    NGX_HTTP_HOTPATH_PROBLEM_CHARSET_UNSUPPORTED,
    NGX_HTTP_HOTPATH_PROBLEM_BATCH_NOT_ARRAY,
    NGX_HTTP_HOTPATH_PROBLEM_BATCH_TOO_MANY,
    NGX_HTTP_HOTPATH_PROBLEM_CE_NOT_OBJECT,
    NGX_HTTP_HOTPATH_PROBLEM_CE_SPECVERSION,
    NGX_HTTP_HOTPATH_PROBLEM_CE_ATTRIBUTE_NAME,
    NGX_HTTP_HOTPATH_PROBLEM_CE_ATTRIBUTE_DUPLICATE,
    NGX_HTTP_HOTPATH_PROBLEM_CE_ATTRIBUTE_REQUIRED,
    NGX_HTTP_HOTPATH_PROBLEM_CE_ATTRIBUTE_TYPE,
    NGX_HTTP_HOTPATH_PROBLEM_CE_ATTRIBUTE_VALUE,
    NGX_HTTP_HOTPATH_PROBLEM_CE_ATTRIBUTE_ENCODING,
    NGX_HTTP_HOTPATH_PROBLEM_CE_ATTRIBUTES_TOO_MANY,
    NGX_HTTP_HOTPATH_PROBLEM_CE_ATTRIBUTES_TOO_LARGE,
    NGX_HTTP_HOTPATH_PROBLEM_CE_DATA_DUPLICATE,
    NGX_HTTP_HOTPATH_PROBLEM_CE_DATA_TYPE,
    NGX_HTTP_HOTPATH_PROBLEM_CE_DATA_BASE64
};

static ngx_http_hotpath_problem_e  ngx_http_hotpath_accept_schema_problems[] =
{
    NGX_HTTP_HOTPATH_PROBLEM_N,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_FALSE,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_TYPE,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_ENUM,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_CONST,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_MINIMUM,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_MAXIMUM,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_EXCLUSIVE_MINIMUM,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_EXCLUSIVE_MAXIMUM,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_MIN_LENGTH,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_MAX_LENGTH,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_PATTERN,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_FORMAT,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_MIN_ITEMS,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_MAX_ITEMS,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_MIN_PROPERTIES,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_MAX_PROPERTIES,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_REQUIRED,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_ADDITIONAL,
    NGX_HTTP_HOTPATH_PROBLEM_SCHEMA_DUPLICATE
};

/* What the payload is of what was sent, by hp_cloudevent_data_t. */
static hp_data_t  ngx_http_hotpath_accept_data[] = {
    HP_DATA_NONE, HP_DATA_JSON, HP_DATA_TEXT, HP_DATA_BASE64
};

/* Of this worker. */
static hp_cloudevent_t  ngx_http_hotpath_accept_ce;


ngx_int_t
ngx_http_hotpath_accept_headers(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_headers_t *headers,
    ngx_http_hotpath_problem_e *problem)
{
    hp_str_t            value;
    ngx_int_t           rc;
    ngx_uint_t          i;
    ngx_list_part_t    *part;
    ngx_table_elt_t    *h;
    hp_event_status_t   status;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        switch (h[i].key.len) {

        case sizeof("traceparent") - 1:
            if (ngx_http_hotpath_accept_header(&h[i], "traceparent")) {
                value.data = h[i].value.data;
                value.len = h[i].value.len;

                if (hp_traceparent_valid(value)) {
                    headers->trace.data = h[i].value.data;
                    headers->trace.len = HP_TRACE_LEN;
                }
            }

            break;

        case sizeof("ce-specversion") - 1:
            if (ngx_http_hotpath_accept_header(&h[i], "ce-specversion")) {
                headers->specversion = 1;
            }

            break;

        case sizeof("idempotency-key") - 1:
            if (ngx_http_hotpath_accept_header(&h[i], "idempotency-key")) {
                headers->key = h[i].value;
                headers->key_lines++;
            }

            break;

        case sizeof("content-encoding") - 1:
            if (ngx_http_hotpath_accept_header(&h[i], "content-encoding")) {
                headers->encoding = h[i].value;
                headers->encoding_lines++;
            }

            break;
        }
    }

    if (headers->key_lines) {
        rc = ngx_http_hotpath_accept_key_read(r, headers);

        if (rc != NGX_OK) {
            *problem = rc == NGX_DECLINED
                       ? NGX_HTTP_HOTPATH_PROBLEM_KEY_INVALID
                       : NGX_HTTP_HOTPATH_PROBLEM_NO_MEMORY;
            return NGX_DECLINED;
        }
    }

    if (!lcf->cloudevents) {
        headers->specversion = 0;
    }

    h = r->headers_in.content_type;

    if (h && !headers->specversion
        && h->value.len == ngx_http_hotpath_type_json.len
        && ngx_memcmp(h->value.data, ngx_http_hotpath_type_json.data,
                      h->value.len)
           == 0)
    {
        headers->form = HP_EVENT_OWN;
        return NGX_OK;
    }

    value.data = h ? h->value.data : NULL;
    value.len = h ? h->value.len : 0;

    status = hp_event_form(value, headers->specversion, &headers->form);

    if (status == HP_EVENT_OK && headers->form != HP_EVENT_OWN
        && (!lcf->cloudevents
            || (headers->form == HP_EVENT_BATCH && lcf->batch_max == 0)))
    {
        status = HP_EVENT_CONTENT_TYPE_UNSUPPORTED;
    }

    if (status != HP_EVENT_OK) {
        *problem = ngx_http_hotpath_accept_event_problems[status];
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* The one field of that name as the key that it says, or NGX_DECLINED. */

static ngx_int_t
ngx_http_hotpath_accept_key_read(ngx_http_request_t *r,
    ngx_http_hotpath_headers_t *headers)
{
    int        n;
    u_char    *p;
    hp_str_t   value;

    if (headers->key_lines != 1) {
        return NGX_DECLINED;
    }

    value.data = headers->key.data;
    value.len = headers->key.len;

    p = ngx_pnalloc(r->pool, value.len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    n = hp_key_parse(p, value);

    if (n <= 0) {
        return NGX_DECLINED;
    }

    headers->key.data = p;
    headers->key.len = n;

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_accept_open(ngx_http_hotpath_accept_t *accept)
{
    size_t                        offset;
    hp_json_status_t              json;
    hp_event_status_t             status;
    ngx_http_hotpath_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(accept->request,
                                       ngx_http_hotpath_module);

    accept->is_list = accept->headers->form == HP_EVENT_BATCH
                      || (accept->headers->form == HP_EVENT_OWN
                          && lcf->batch_max
                          && hp_event_is_list(accept->text));

    if (!accept->is_list) {
        return NGX_OK;
    }

    /* the array is one level around what the depth is meant for */
    json = hp_json_check(accept->text,
                         ngx_min(lcf->json_depth + 1,
                                 NGX_HTTP_HOTPATH_ACCEPT_DEPTH),
                         &offset);

    if (json != HP_JSON_OK) {
        return ngx_http_hotpath_accept_refuse_at(accept,
                               ngx_http_hotpath_body_problem(json),
                               NULL, NULL, offset);
    }

    if (accept->headers->key_lines) {
        return ngx_http_hotpath_accept_refuse(accept,
                                   NGX_HTTP_HOTPATH_PROBLEM_KEY_ON_BATCH);
    }

    status = hp_event_list_open(&accept->list, accept->text,
                                (uint32_t) lcf->batch_max);

    return status == HP_EVENT_OK ? NGX_OK
           : ngx_http_hotpath_accept_refuse(accept,
                             ngx_http_hotpath_accept_event_problems[status]);
}


ngx_int_t
ngx_http_hotpath_accept_event(ngx_http_hotpath_accept_t *accept,
    hp_event_t *event)
{
    size_t                        offset;
    hp_str_t                      text;
    ngx_http_hotpath_loc_conf_t  *lcf;

    text = accept->text;
    offset = 0;

    ngx_memzero(event, sizeof(hp_event_t));
    accept->partition_key.len = 0;

    if (accept->is_list) {
        lcf = ngx_http_get_module_loc_conf(accept->request,
                                           ngx_http_hotpath_module);

        (void) hp_event_list_next(&accept->list, &text, &offset);

        if (text.len > lcf->body_max) {
            return ngx_http_hotpath_accept_refuse_at(accept,
                                    NGX_HTTP_HOTPATH_PROBLEM_EVENT_TOO_LARGE,
                                    NULL, NULL, offset);
        }
    }

    return accept->headers->form == HP_EVENT_OWN
           ? ngx_http_hotpath_accept_own(accept, text, offset, event)
           : ngx_http_hotpath_accept_cloudevent(accept, text, offset, event);
}


ngx_int_t
ngx_http_hotpath_accept_partition_key(ngx_http_hotpath_accept_t *accept,
    hp_event_t *event, hp_str_t *key)
{
    int                           is_string;
    hp_str_t                      name;
    ngx_str_t                     value;
    hp_json_slice_t               slice;
    ngx_http_hotpath_loc_conf_t  *lcf;

    *key = accept->partition_key;

    if (key->len) {
        return NGX_OK;
    }

    lcf = ngx_http_get_module_loc_conf(accept->request,
                                       ngx_http_hotpath_module);

    if (lcf->partition_key) {
        if (ngx_http_complex_value(accept->request, lcf->partition_key,
                                   &value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        key->data = value.data;
        key->len = value.len;

    } else if (lcf->partition_member.len) {
        name.data = lcf->partition_member.data;
        name.len = lcf->partition_member.len;

        if (hp_json_member(event->payload, name, &slice, &is_string)) {
            return is_string ? ngx_http_hotpath_accept_string(accept->pool,
                                                              &slice, key)
                             : ngx_http_hotpath_accept_value(accept->pool,
                                              slice.raw, slice.spaced, key);
        }
    }

    return NGX_OK;
}


/* {"idempotencyKey":…,"eventType":…,"payload":…} */

static ngx_int_t
ngx_http_hotpath_accept_own(ngx_http_hotpath_accept_t *accept, hp_str_t text,
    size_t offset, hp_event_t *event)
{
    ngx_int_t                     rc;
    hp_json_event_t               json;
    hp_json_status_t              status;
    ngx_http_hotpath_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(accept->request,
                                       ngx_http_hotpath_module);

    status = hp_json_event(text, lcf->json_depth, &json);

    if (status != HP_JSON_OK) {
        return ngx_http_hotpath_accept_refuse_at(accept,
                                ngx_http_hotpath_body_problem(status),
                                NULL, NULL, offset + json.error_offset);
    }

    if (!json.type.present) {
        return ngx_http_hotpath_accept_refuse(accept,
                               NGX_HTTP_HOTPATH_PROBLEM_EVENT_TYPE_REQUIRED);
    }

    if (!json.payload.present) {
        return ngx_http_hotpath_accept_refuse(accept,
                                  NGX_HTTP_HOTPATH_PROBLEM_PAYLOAD_REQUIRED);
    }

    if (ngx_http_hotpath_accept_string(accept->pool, &json.type, &event->type)
        != NGX_OK
        || ngx_http_hotpath_accept_value(accept->pool, json.payload.raw,
                                         json.payload.spaced, &event->payload)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (event->type.len == 0 || event->type.len > HP_TYPE_MAX) {
        return ngx_http_hotpath_accept_refuse(accept,
                                NGX_HTTP_HOTPATH_PROBLEM_EVENT_TYPE_INVALID);
    }

    if (json.key.present) {
        if (ngx_http_hotpath_accept_string(accept->pool, &json.key,
                                           &event->key)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (!hp_key_valid(event->key)) {
            return ngx_http_hotpath_accept_refuse(accept,
                                        NGX_HTTP_HOTPATH_PROBLEM_KEY_INVALID);
        }
    }

    rc = ngx_http_hotpath_accept_key(accept, event);

    if (rc != NGX_OK || ngx_http_hotpath_schema_none(&lcf->schemas)) {
        return rc;
    }

    return ngx_http_hotpath_accept_schema(accept, event, json.payload.raw,
                                   offset + (json.payload.raw.data
                                             - text.data));
}


static ngx_int_t
ngx_http_hotpath_accept_cloudevent(ngx_http_hotpath_accept_t *accept,
    hp_str_t text, size_t offset, hp_event_t *event)
{
    size_t                        at;
    ngx_int_t                     rc;
    hp_cloudevent_t              *ce;
    hp_json_status_t              json;
    hp_event_status_t             status;
    ngx_http_hotpath_loc_conf_t  *lcf;

    static hp_str_t  nothing = HP_STR("null");

    lcf = ngx_http_get_module_loc_conf(accept->request,
                                       ngx_http_hotpath_module);

    ce = &ngx_http_hotpath_accept_ce;

    /* of an element only its depth is not known yet */

    if (text.len || accept->headers->form != HP_EVENT_BINARY) {
        json = hp_json_check(text, lcf->json_depth, &at);

        if (json != HP_JSON_OK) {
            return ngx_http_hotpath_accept_refuse_at(accept,
                                  ngx_http_hotpath_body_problem(json),
                                  NULL, NULL, offset + at);
        }
    }

    status = accept->headers->form == HP_EVENT_BINARY
             ? ngx_http_hotpath_accept_binary(accept, text)
             : hp_cloudevent_read(ce, text);

    if (status != HP_EVENT_OK) {
        return ngx_http_hotpath_accept_refuse_at(accept,
                               ngx_http_hotpath_accept_event_problems[status],
                               "attribute", ce->fault.len ? &ce->fault : NULL,
                               accept->headers->form == HP_EVENT_BINARY
                               ? NGX_HTTP_HOTPATH_NO_OFFSET
                               : offset + ce->error_offset);
    }

    event->type = ce->type;
    event->key = ce->key;
    event->attributes = ce->attributes;
    event->data = ngx_http_hotpath_accept_data[ce->data_kind];
    accept->partition_key = ce->partition_key;

    if (ce->data_kind == HP_CLOUDEVENT_NONE) {
        event->payload = nothing;

    } else if (ngx_http_hotpath_accept_value(accept->pool, ce->data,
                                             ce->data_spaced, &event->payload)
               != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_http_hotpath_accept_key(accept, event);

    if (rc != NGX_OK || ngx_http_hotpath_schema_none(&lcf->schemas)) {
        return rc;
    }

    if (ce->data_kind == HP_CLOUDEVENT_NONE) {
        return ngx_http_hotpath_accept_schema(accept, event, nothing,
                                              NGX_HTTP_HOTPATH_NO_OFFSET);
    }

    return ngx_http_hotpath_accept_schema(accept, event, ce->data,
                                          offset + (ce->data.data
                                                    - text.data));
}


static hp_event_status_t
ngx_http_hotpath_accept_binary(ngx_http_hotpath_accept_t *accept,
    hp_str_t text)
{
    hp_str_t             name, value;
    ngx_uint_t           i;
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h;
    hp_cloudevent_t     *ce;
    hp_event_status_t    status;
    ngx_http_request_t  *r;

    r = accept->request;
    ce = &ngx_http_hotpath_accept_ce;

    hp_cloudevent_begin(ce);

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len < sizeof("ce-") - 1
                || !ngx_http_hotpath_accept_header(&h[i], "ce-"))
            {
                continue;
            }

            name.data = h[i].key.data + sizeof("ce-") - 1;
            name.len = h[i].key.len - (sizeof("ce-") - 1);
            value.data = h[i].value.data;
            value.len = h[i].value.len;

            status = hp_cloudevent_header(ce, name, value);

            if (status != HP_EVENT_OK) {
                return status;
            }
        }
    }

    h = r->headers_in.content_type;
    value.data = h ? h->value.data : NULL;
    value.len = h ? h->value.len : 0;

    return hp_cloudevent_end(ce, value, text);
}


/* The key in the header, which must be that of the event where it has one. */

static ngx_int_t
ngx_http_hotpath_accept_key(ngx_http_hotpath_accept_t *accept,
    hp_event_t *event)
{
    ngx_http_hotpath_headers_t   *headers;
    ngx_http_hotpath_loc_conf_t  *lcf;

    headers = accept->headers;

    if (headers->key_lines) {

        if (event->key.len
            && (headers->key.len != event->key.len
                || ngx_memcmp(headers->key.data, event->key.data,
                              event->key.len)
                   != 0))
        {
            return ngx_http_hotpath_accept_refuse(accept,
                                       NGX_HTTP_HOTPATH_PROBLEM_KEY_MISMATCH);
        }

        event->key.data = headers->key.data;
        event->key.len = headers->key.len;
    }

    if (event->key.len == 0) {
        lcf = ngx_http_get_module_loc_conf(accept->request,
                                           ngx_http_hotpath_module);

        if (!lcf->key_optional) {
            return ngx_http_hotpath_accept_refuse(accept,
                                       NGX_HTTP_HOTPATH_PROBLEM_KEY_REQUIRED);
        }
    }

    return NGX_OK;
}


/* sent is the payload as it stands in the text, offset where. */

static ngx_int_t
ngx_http_hotpath_accept_schema(ngx_http_hotpath_accept_t *accept,
    hp_event_t *event, hp_str_t sent, size_t offset)
{
    hp_str_t                      pointer;
    const hp_schema_t            *schema;
    hp_schema_status_t            status;
    hp_schema_violation_t         violation;
    ngx_http_hotpath_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(accept->request,
                                       ngx_http_hotpath_module);

    schema = ngx_http_hotpath_schema_find(&lcf->schemas, event->type);

    if (schema == NULL) {
        return lcf->schemas.required
               ? ngx_http_hotpath_accept_refuse(accept,
                                  NGX_HTTP_HOTPATH_PROBLEM_EVENT_TYPE_UNKNOWN)
               : NGX_OK;
    }

    status = hp_schema_check(schema, sent, &violation);

    if (status == HP_SCHEMA_OK) {
        return NGX_OK;
    }

    pointer.data = violation.pointer;
    pointer.len = violation.pointer_len;

    return ngx_http_hotpath_accept_refuse_at(accept,
                              ngx_http_hotpath_accept_schema_problems[status],
                              "pointer", &pointer,
                              offset == NGX_HTTP_HOTPATH_NO_OFFSET
                              ? offset : offset + violation.offset);
}


/* What stands in a string, with its escapes resolved. */

static ngx_int_t
ngx_http_hotpath_accept_string(ngx_pool_t *pool, hp_json_slice_t *slice,
    hp_str_t *value)
{
    u_char  *p;

    *value = slice->raw;

    if (!slice->escaped) {
        return NGX_OK;
    }

    p = ngx_pnalloc(pool, slice->raw.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;
    value->len = hp_json_unescape(p, slice->raw);

    return NGX_OK;
}


/* A JSON value without its insignificant white space. */

static ngx_int_t
ngx_http_hotpath_accept_value(ngx_pool_t *pool, hp_str_t raw, unsigned spaced,
    hp_str_t *value)
{
    u_char  *p;

    *value = raw;

    if (!spaced) {
        return NGX_OK;
    }

    p = ngx_pnalloc(pool, raw.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;
    value->len = hp_json_compact(p, raw);

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_accept_refuse(ngx_http_hotpath_accept_t *accept,
    ngx_http_hotpath_problem_e problem)
{
    accept->problem = problem;
    ngx_str_null(&accept->members);

    return NGX_DECLINED;
}


/* With a member of the document that holds the name (NULL: without), and where
 * in the text that is. */

static ngx_int_t
ngx_http_hotpath_accept_refuse_at(ngx_http_hotpath_accept_t *accept,
    ngx_http_hotpath_problem_e problem, const char *member, hp_str_t *name,
    size_t offset)
{
    u_char    *p, *last;
    size_t     size;
    hp_str_t   value;

    accept->problem = problem;

    size = sizeof(",\"offset\":") + NGX_SIZE_T_LEN;

    value.data = NULL;
    value.len = 0;

    if (name) {
        value = *name;

        if (ngx_strcmp(member, "attribute") == 0) {
            value.len = ngx_min(value.len, NGX_HTTP_HOTPATH_ACCEPT_NAME_MAX);
        }

        size += sizeof(",\"\":\"\"") + ngx_strlen(member) + 6 * value.len;
    }

    p = ngx_pnalloc(accept->request->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    last = p + size;
    accept->members.data = p;

    if (name) {
        p = ngx_sprintf(p, ",\"%s\":\"", member);
        p += hp_json_escape(p, last - p, value);
        *p++ = '"';
    }

    if (offset != NGX_HTTP_HOTPATH_NO_OFFSET) {
        p = ngx_sprintf(p, ",\"offset\":%uz", offset);
    }

    accept->members.len = p - accept->members.data;

    return NGX_DECLINED;
}
