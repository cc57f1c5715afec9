/*
 * ngx_http_hotpath_variant.c: under which key a zone keeps an upstream's
 * answer, and which of several answers a request is meant to get.
 *
 * What does not vary stands under the key of its URL. What does has an index
 * there: the names of the request fields that it varies by, and a stamp drawn
 * when the index was made; the answers stand under that key, the stamp and a
 * hash of the request's values of these fields. A new index has a new stamp,
 * so the answers of the old one are met by nobody any more. That happens where
 * an answer names a field that the index does not, and where the index was
 * purged; fields are only added, so two kinds of answers of one URL do not
 * replace each other for ever.
 *
 * Beside answers and indexes the zone holds marks: a URL whose answers cannot
 * be stored, for a while, or one whose answers have just become invalid. All
 * three are entries like any other and are evicted like any other; without
 * them requests only take the longer way.
 *
 * Owns nothing. Runs in the event loop of every worker with no lock held.
 * Reference: README.md, "In front of any upstream"; tests:
 * tests/integration/test_output_rules.py.
 */


#include "ngx_http_hotpath_variant.h"
#include "core/hp_id.h"


/* An index lives until it is evicted or purged. */
#define NGX_HTTP_HOTPATH_VARIANT_MS     (3650 * (uint64_t) 86400000)

#define NGX_HTTP_HOTPATH_VARIANT_HEAD   64


typedef enum {
    ngx_http_hotpath_variant_answer = 0,
    ngx_http_hotpath_variant_index,
    ngx_http_hotpath_variant_marked,
    ngx_http_hotpath_variant_nothing
} ngx_http_hotpath_variant_e;


static ngx_http_hotpath_variant_e ngx_http_hotpath_variant_kind(
    ngx_http_hotpath_copy_t *copy);
static ngx_uint_t ngx_http_hotpath_variant_covers(ngx_str_t *names,
    ngx_str_t *wanted);
static ngx_uint_t ngx_http_hotpath_variant_next(ngx_str_t *rest,
    ngx_str_t *name);
static ngx_int_t ngx_http_hotpath_variant_key(ngx_http_request_t *r,
    ngx_http_hotpath_variant_t *variant);
static size_t ngx_http_hotpath_variant_values(ngx_http_request_t *r,
    ngx_str_t *names, u_char *dst);
static ngx_int_t ngx_http_hotpath_variant_put_index(
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_variant_t *variant,
    ngx_http_hotpath_cache_meta_t *answer);
static void ngx_http_hotpath_variant_head(u_char *buffer, ngx_str_t *head,
    ngx_str_t *type);


static ngx_str_t  ngx_http_hotpath_variant_index_type = ngx_string("index");
static ngx_str_t  ngx_http_hotpath_variant_mark_type = ngx_string("mark");


ngx_int_t
ngx_http_hotpath_variant_base(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_str_t *base)
{
    u_char     *p;
    ngx_int_t   rc;
    ngx_str_t   origin, tenant, key;

    ngx_str_set(&tenant, "");

    if (!lcf->output.shared) {
        rc = ngx_http_hotpath_tenant(r, lcf, &tenant);

        if (rc != NGX_OK) {
            return rc == NGX_DECLINED ? NGX_ABORT : NGX_ERROR;
        }
    }

    if (lcf->output.key) {
        if (ngx_http_complex_value(r, lcf->output.key, &key) != NGX_OK) {
            return NGX_ERROR;
        }

    } else {
        if (ngx_http_complex_value(r, lcf->output.origin, &origin) != NGX_OK) {
            return NGX_ERROR;
        }

        key.len = origin.len + r->unparsed_uri.len + r->uri.len + r->args.len
                  + 2;

        key.data = ngx_pnalloc(r->pool, key.len);
        if (key.data == NULL) {
            return NGX_ERROR;
        }

        p = ngx_cpymem(key.data, origin.data, origin.len);
        p = ngx_cpymem(p, r->unparsed_uri.data, r->unparsed_uri.len);

        if (r->internal || r->uri_changes != NGX_HTTP_MAX_URI_CHANGES + 1) {
            /* what the client asked for is not all that leads here, for
             * instance where an upstream chose this by X-Accel-Redirect */
            *p++ = ' ';
            p = ngx_cpymem(p, r->uri.data, r->uri.len);

            if (r->args.len) {
                *p++ = '?';
                p = ngx_cpymem(p, r->args.data, r->args.len);
            }
        }

        key.len = p - key.data;
    }

    if (key.len == 0 || key.len > NGX_HTTP_HOTPATH_VARIANT_KEY) {
        return NGX_DECLINED;
    }

    base->data = ngx_pnalloc(r->pool, lcf->output.scope.len + tenant.len
                                      + key.len + 2);
    if (base->data == NULL) {
        return NGX_ERROR;
    }

    ngx_http_hotpath_zone_key(base, &lcf->output.scope, &tenant, &key);

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_variant_other(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_str_t *url, ngx_str_t *base)
{
    u_char     *p, *last, *path;
    size_t      len;
    ngx_int_t   rc;
    ngx_str_t   origin, saved, bare;

    if (lcf->output.key
        || r->internal || r->uri_changes != NGX_HTTP_MAX_URI_CHANGES + 1)
    {
        return NGX_DECLINED;
    }

    p = url->data;
    last = p + url->len;

    if (last - p > 1 && p[0] == '/' && p[1] == '/') {
        return NGX_DECLINED;
    }

    if (last != p && *p != '/') {

        if (ngx_http_complex_value(r, lcf->output.origin, &origin) != NGX_OK) {
            return NGX_ERROR;
        }

        /* with the port, or without it where it is the one of the scheme */

        bare = origin;

        while (bare.len && bare.data[bare.len - 1] != ':') {
            bare.len--;
        }

        len = bare.len ? bare.len - 1 : 0;

        if ((size_t) (last - p) > origin.len
            && ngx_strncasecmp(p, origin.data, origin.len) == 0
            && p[origin.len] == '/')
        {
            p += origin.len;

        } else if (((origin.len == len + 3
                     && ngx_strncmp(origin.data + len, ":80", 3) == 0
                     && origin.data[4] == ':')
                    || (origin.len == len + 4
                        && ngx_strncmp(origin.data + len, ":443", 4) == 0
                        && origin.data[4] == 's'))
                   && (size_t) (last - p) > len
                   && ngx_strncasecmp(p, origin.data, len) == 0
                   && p[len] == '/')
        {
            p += len;

        } else {
            return NGX_DECLINED;
        }
    }

    path = p;

    while (p < last && *p != '#') {
        p++;
    }

    if (p == path) {
        return NGX_DECLINED;
    }

    saved = r->unparsed_uri;

    r->unparsed_uri.data = path;
    r->unparsed_uri.len = p - path;

    rc = ngx_http_hotpath_variant_base(r, lcf, base);

    r->unparsed_uri = saved;

    return rc == NGX_ABORT ? NGX_DECLINED : rc;
}


ngx_int_t
ngx_http_hotpath_variant_find(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_variant_t *variant,
    ngx_http_hotpath_copy_t *copy)
{
    uint64_t                    now_ms;
    ngx_int_t                   rc;
    ngx_uint_t                  codings;
    ngx_http_hotpath_cache_t   *cache;

    cache = lcf->output.rules.cache;
    codings = ngx_http_hotpath_serve_codings(r, &lcf->output.rules);

    variant->key = variant->base;
    ngx_str_null(&variant->names);
    variant->stamp = 0;
    variant->version = 0;
    variant->marked = 0;
    variant->shaken = 0;

    rc = ngx_http_hotpath_cache_get(cache, &variant->base, codings, r->pool,
                                    NULL, copy);
    if (rc != NGX_OK) {
        return rc;
    }

    now_ms = ngx_http_hotpath_now_ms();
    variant->version = copy->meta.version;

    switch (ngx_http_hotpath_variant_kind(copy)) {

    case ngx_http_hotpath_variant_answer:

        /* stored before the configuration named fields to vary by */
        return lcf->output.vary.len ? NGX_DECLINED : NGX_OK;

    case ngx_http_hotpath_variant_marked:
        variant->marked = copy->meta.trusted && copy->meta.fresh_ms > now_ms;
        return NGX_DECLINED;

    case ngx_http_hotpath_variant_nothing:
        return NGX_DECLINED;

    case ngx_http_hotpath_variant_index:
        break;
    }

    if (copy->meta.stale_ms <= now_ms) {
        return NGX_DECLINED;
    }

    ngx_memcpy(&variant->stamp, copy->body.data, sizeof(uint64_t));
    variant->names.data = copy->body.data + sizeof(uint64_t);
    variant->names.len = copy->body.len - sizeof(uint64_t);
    variant->shaken = !copy->meta.trusted;

    if (!ngx_http_hotpath_variant_covers(&variant->names, &lcf->output.vary)) {
        variant->stamp = 0;
        return NGX_DECLINED;
    }

    if (ngx_http_hotpath_variant_key(r, variant) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_hotpath_cache_get(cache, &variant->key, codings, r->pool,
                                    NULL, copy);
    if (rc != NGX_OK) {
        return rc;
    }

    variant->version = ngx_max(variant->version, copy->meta.version);

    switch (ngx_http_hotpath_variant_kind(copy)) {

    case ngx_http_hotpath_variant_answer:

        if (variant->shaken) {
            copy->meta.trusted = 0;
        }

        return NGX_OK;

    case ngx_http_hotpath_variant_marked:
        variant->marked = copy->meta.trusted && copy->meta.fresh_ms > now_ms;
        return NGX_DECLINED;

    default:
        return NGX_DECLINED;
    }
}


ngx_uint_t
ngx_http_hotpath_variant_changed(ngx_http_request_t *r,
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_variant_t *variant)
{
    ngx_uint_t                changed;
    ngx_http_hotpath_copy_t   copy;

    if (ngx_http_hotpath_cache_get(cache, &variant->key, HP_CODING_IDENTITY,
                                   r->pool, NULL, &copy)
        != NGX_OK)
    {
        return 0;
    }

    changed = copy.meta.version > variant->version;
    (void) ngx_pfree(r->pool, copy.head.data);

    return changed;
}


ngx_int_t
ngx_http_hotpath_variant_store(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_variant_t *variant,
    ngx_str_t *names, ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content)
{
    u_char                     *p;
    ngx_int_t                   rc;
    ngx_str_t                   all, name, rest;
    ngx_http_hotpath_copy_t     copy;
    ngx_http_hotpath_cache_t   *cache;

    cache = lcf->output.rules.cache;

    if (names->len == 0 && variant->stamp == 0) {
        variant->key = variant->base;
        return ngx_http_hotpath_cache_put(cache, &variant->base, meta,
                                          content);
    }

    p = ngx_pnalloc(r->pool, NGX_HTTP_HOTPATH_VARIANT_TEXT);
    if (p == NULL) {
        return NGX_ERROR;
    }

    all.data = p;
    all.len = names->len;
    ngx_memcpy(p, names->data, names->len);

    /* the index as it is now: others may have added to it */

    ngx_str_null(&variant->names);
    variant->stamp = 0;

    rc = ngx_http_hotpath_cache_get(cache, &variant->base, HP_CODING_IDENTITY,
                                    r->pool, NULL, &copy);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_OK
        && ngx_http_hotpath_variant_kind(&copy)
           == ngx_http_hotpath_variant_index
        && copy.meta.stale_ms > ngx_http_hotpath_now_ms())
    {
        variant->names.data = copy.body.data + sizeof(uint64_t);
        variant->names.len = copy.body.len - sizeof(uint64_t);

        if (copy.meta.trusted
            && ngx_http_hotpath_variant_covers(&variant->names, names))
        {
            ngx_memcpy(&variant->stamp, copy.body.data, sizeof(uint64_t));

        } else {
            rest = variant->names;

            while (ngx_http_hotpath_variant_next(&rest, &name)) {
                if (ngx_http_hotpath_variant_name(&all, &name) != NGX_OK) {
                    return NGX_DECLINED;
                }
            }
        }
    }

    if (variant->stamp == 0) {
        variant->names = all;

        rc = ngx_http_hotpath_variant_put_index(cache, variant, meta);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (ngx_http_hotpath_variant_key(r, variant) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_cache_put(cache, &variant->key, meta, content);
}


ngx_int_t
ngx_http_hotpath_variant_name(ngx_str_t *names, ngx_str_t *name)
{
    u_char      *p;
    ngx_str_t    rest, each;
    ngx_uint_t   n;

    if (name->len == 1 && name->data[0] == '*') {
        return NGX_DECLINED;
    }

    rest = *names;

    for (n = 0; ngx_http_hotpath_variant_next(&rest, &each); n++) {
        if (each.len == name->len
            && ngx_strncasecmp(each.data, name->data, name->len) == 0)
        {
            return NGX_OK;
        }
    }

    if (n == NGX_HTTP_HOTPATH_VARIANT_NAMES
        || names->len + name->len + 1 > NGX_HTTP_HOTPATH_VARIANT_TEXT)
    {
        return NGX_DECLINED;
    }

    p = names->data + names->len;
    ngx_strlow(p, name->data, name->len);
    p[name->len] = ',';

    names->len += name->len + 1;

    return NGX_OK;
}


void
ngx_http_hotpath_variant_mark(ngx_http_hotpath_cache_t *cache, ngx_str_t *key,
    uint64_t version, uint64_t until_ms)
{
    u_char                             buffer[NGX_HTTP_HOTPATH_VARIANT_HEAD];
    ngx_http_hotpath_cache_meta_t      meta;
    ngx_http_hotpath_cache_content_t   content;

    ngx_memzero(&meta, sizeof(ngx_http_hotpath_cache_meta_t));
    ngx_memzero(&content, sizeof(ngx_http_hotpath_cache_content_t));

    meta.version = version;
    meta.stored_ms = ngx_http_hotpath_now_ms();
    meta.fresh_ms = ngx_max(meta.stored_ms, until_ms);
    meta.revalidate_ms = meta.fresh_ms;
    meta.stale_ms = meta.fresh_ms;

    ngx_http_hotpath_variant_head(buffer, &content.head,
                                  &ngx_http_hotpath_variant_mark_type);

    (void) ngx_http_hotpath_cache_put(cache, key, &meta, &content);
}


/*
 * A mark that is over at once takes the place of what the zone has under the
 * key; its version says that what is under way now, asked for before, is out
 * of date as well. Not ngx_http_hotpath_cache_purge(): that takes the trust of
 * everything that is under way, whatever its key, and writes are many.
 */

ngx_int_t
ngx_http_hotpath_variant_invalidate(ngx_http_request_t *r,
    ngx_http_hotpath_cache_t *cache, ngx_str_t *key)
{
    uint64_t                  version;
    ngx_http_hotpath_copy_t   copy;

    version = (uint64_t) ngx_http_hotpath_wall_us();

    switch (ngx_http_hotpath_cache_get(cache, key,
                                       HP_CODING_IDENTITY, r->pool, NULL,
                                       &copy))
    {
    case NGX_OK:
        version = ngx_max(version, copy.meta.version + 1);
        (void) ngx_pfree(r->pool, copy.head.data);
        break;

    case NGX_DECLINED:
        break;

    default:
        return NGX_ERROR;
    }

    ngx_http_hotpath_count(OUTPUT_INVALIDATED);

    ngx_http_hotpath_variant_mark(cache, key, version, 0);

    return NGX_OK;
}


/* What an entry is; only an answer has a status. */

static ngx_http_hotpath_variant_e
ngx_http_hotpath_variant_kind(ngx_http_hotpath_copy_t *copy)
{
    ngx_http_hotpath_head_t  head;

    if (ngx_http_hotpath_head_read(&head, &copy->head) != NGX_OK) {
        return ngx_http_hotpath_variant_nothing;
    }

    if (head.status) {
        return ngx_http_hotpath_variant_answer;
    }

    if (head.type.len == ngx_http_hotpath_variant_mark_type.len) {
        return ngx_http_hotpath_variant_marked;
    }

    return copy->body.len > sizeof(uint64_t) ? ngx_http_hotpath_variant_index
                                         : ngx_http_hotpath_variant_nothing;
}


/* 1 where names has all that are wanted. */

static ngx_uint_t
ngx_http_hotpath_variant_covers(ngx_str_t *names, ngx_str_t *wanted)
{
    ngx_str_t  rest, left, name, each;

    left = *wanted;

    while (ngx_http_hotpath_variant_next(&left, &name)) {

        rest = *names;

        for ( ;; ) {
            if (!ngx_http_hotpath_variant_next(&rest, &each)) {
                return 0;
            }

            if (each.len == name.len
                && ngx_memcmp(each.data, name.data, name.len) == 0)
            {
                break;
            }
        }
    }

    return 1;
}


static ngx_uint_t
ngx_http_hotpath_variant_next(ngx_str_t *rest, ngx_str_t *name)
{
    u_char  *p;

    p = ngx_strlchr(rest->data, rest->data + rest->len, ',');

    if (p == NULL) {
        return 0;
    }

    name->data = rest->data;
    name->len = p - rest->data;

    rest->len -= name->len + 1;
    rest->data = p + 1;

    return 1;
}


static ngx_int_t
ngx_http_hotpath_variant_key(ngx_http_request_t *r,
    ngx_http_hotpath_variant_t *variant)
{
    u_char    *p;
    u_char     hash[HP_FINGERPRINT_SIZE];
    hp_str_t   names, values;

    values.len = ngx_http_hotpath_variant_values(r, &variant->names, NULL);

    p = ngx_pnalloc(r->pool, values.len + variant->base.len
                             + NGX_HTTP_HOTPATH_VARIANT_TAIL);
    if (p == NULL) {
        return NGX_ERROR;
    }

    values.data = p;
    p += ngx_http_hotpath_variant_values(r, &variant->names, p);

    names.data = variant->names.data;
    names.len = variant->names.len;

    hp_fingerprint(hash, names, values);

    variant->key.data = p;
    variant->key.len = variant->base.len + NGX_HTTP_HOTPATH_VARIANT_TAIL;

    p = ngx_cpymem(p, variant->base.data, variant->base.len);
    *p++ = '\0';
    p = ngx_cpymem(p, &variant->stamp, sizeof(uint64_t));
    ngx_memcpy(p, hash, NGX_HTTP_HOTPATH_VARIANT_HASH);

    return NGX_OK;
}


/*
 * The request's values of the fields, each behind a line feed, which none of
 * them can contain, and NUL behind the last of a name. Accept-Encoding loses
 * its blanks and its case, by which browsers differ and codings do not. Gives
 * the bytes; does not write where dst is NULL.
 */

static size_t
ngx_http_hotpath_variant_values(ngx_http_request_t *r, ngx_str_t *names,
    u_char *dst)
{
    size_t            j, len;
    u_char            c;
    ngx_str_t         rest, name;
    ngx_uint_t        i, codings;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    static ngx_str_t  accept = ngx_string("accept-encoding");

    len = 0;
    rest = *names;

    while (ngx_http_hotpath_variant_next(&rest, &name)) {

        codings = name.len == accept.len
                  && ngx_memcmp(name.data, accept.data, accept.len) == 0;

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

            if (h[i].key.len != name.len
                || ngx_strncasecmp(h[i].key.data, name.data, name.len) != 0)
            {
                continue;
            }

            if (dst) {
                dst[len] = '\n';
            }

            len++;

            for (j = 0; j < h[i].value.len; j++) {
                c = h[i].value.data[j];

                if (codings) {
                    if (c == ' ' || c == '\t') {
                        continue;
                    }

                    c = ngx_tolower(c);
                }

                if (dst) {
                    dst[len] = c;
                }

                len++;
            }
        }

        if (dst) {
            dst[len] = '\0';
        }

        len++;
    }

    return len;
}


static ngx_int_t
ngx_http_hotpath_variant_put_index(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_variant_t *variant, ngx_http_hotpath_cache_meta_t *answer)
{
    u_char                             buffer[NGX_HTTP_HOTPATH_VARIANT_HEAD];
    u_char                             body[sizeof(uint64_t)
                                            + NGX_HTTP_HOTPATH_VARIANT_TEXT];
    ngx_http_hotpath_cache_meta_t      meta;
    ngx_http_hotpath_cache_content_t   content;

    ngx_memzero(&meta, sizeof(ngx_http_hotpath_cache_meta_t));
    ngx_memzero(&content, sizeof(ngx_http_hotpath_cache_content_t));

    do {
        variant->stamp = ((uint64_t) ngx_random() << 33)
                         ^ ((uint64_t) ngx_random() << 11)
                         ^ (uint64_t) ngx_http_hotpath_wall_us();

    } while (variant->stamp == 0);

    meta.version = answer->version;
    meta.begun = answer->begun;
    meta.stored_ms = ngx_http_hotpath_now_ms();
    meta.fresh_ms = meta.stored_ms + NGX_HTTP_HOTPATH_VARIANT_MS;
    meta.revalidate_ms = meta.fresh_ms;
    meta.stale_ms = meta.fresh_ms;

    ngx_http_hotpath_variant_head(buffer, &content.head,
                                  &ngx_http_hotpath_variant_index_type);

    ngx_memcpy(body, &variant->stamp, sizeof(uint64_t));
    ngx_memcpy(body + sizeof(uint64_t), variant->names.data,
               variant->names.len);

    content.body.data = body;
    content.body.len = sizeof(uint64_t) + variant->names.len;

    return ngx_http_hotpath_cache_put(cache, &variant->base, &meta, &content);
}


/* A head without a status, in buffer. */

static void
ngx_http_hotpath_variant_head(u_char *buffer, ngx_str_t *head, ngx_str_t *type)
{
    ngx_http_hotpath_head_t  parts;

    ngx_memzero(&parts, sizeof(ngx_http_hotpath_head_t));
    parts.type = *type;

    head->data = buffer;
    head->len = ngx_http_hotpath_head_write(buffer, &parts) - buffer;
}
