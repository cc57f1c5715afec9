/*
 * ngx_http_hotpath_variant.h: under which key a zone keeps an upstream's
 * answer, and which of several answers a request is meant to get.
 *
 * Knows the configuration (module.h) and the zone; not how a request goes on.
 */
#ifndef _NGX_HTTP_HOTPATH_VARIANT_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_VARIANT_H_INCLUDED_


#include "ngx_http_hotpath_module.h"


/* Names of request fields that one URL may vary by, and their bytes with a
 * comma behind each. An answer that varies by more is not stored. */
#define NGX_HTTP_HOTPATH_VARIANT_NAMES  16
#define NGX_HTTP_HOTPATH_VARIANT_TEXT   512

#define NGX_HTTP_HOTPATH_VARIANT_KEY    1024

/* What a variant's key has behind that of the URL: NUL, stamp, hash. */
#define NGX_HTTP_HOTPATH_VARIANT_HASH   16
#define NGX_HTTP_HOTPATH_VARIANT_TAIL                                         \
    (1 + sizeof(uint64_t) + NGX_HTTP_HOTPATH_VARIANT_HASH)


/* Where a request's answer is, or would be. All in the request's pool. */
typedef struct {
    ngx_str_t   base;          /* the key of the URL */
    ngx_str_t   key;           /* of the answer: base, or that of a variant */
    ngx_str_t   names;         /* fields it varies by, as in the zone */
    uint64_t    stamp;         /* of the index; 0: there is none */
    uint64_t    version;       /* the highest that was met under base and key */
    unsigned    marked:1;      /* known not to be storable: do not queue */
    unsigned    shaken:1;      /* the index is not trusted */
} ngx_http_hotpath_variant_t;


/*
 * Writes the key of the request's URL: "@name" NUL tenant NUL key. NGX_OK;
 * NGX_DECLINED: it has none, or one over KEY bytes, and is not cached;
 * NGX_ABORT: its tenant is none; NGX_ERROR.
 */
ngx_int_t ngx_http_hotpath_variant_base(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_str_t *base);

/* The same for another URL of the same origin, as Location or Content-Location
 * names it. NGX_DECLINED too where it is of another one, or where the
 * configuration has a key of its own. */
ngx_int_t ngx_http_hotpath_variant_other(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_str_t *url, ngx_str_t *base);

/*
 * Looks up the answer for the request; variant->base is set, the rest is
 * filled. NGX_OK: *copy is one, perhaps stale. NGX_DECLINED: none. NGX_ERROR.
 */
ngx_int_t ngx_http_hotpath_variant_find(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_variant_t *variant,
    ngx_http_hotpath_copy_t *copy);

/* 1 where the answer that was found, or not, is another one by now. */
ngx_uint_t ngx_http_hotpath_variant_changed(ngx_http_request_t *r,
    ngx_http_hotpath_cache_t *cache, ngx_http_hotpath_variant_t *variant);

/*
 * Stores the request's answer; names: of the fields that it varies by, each
 * with a comma behind it, lower case. Gives what ngx_http_hotpath_cache_put()
 * gives, or NGX_ERROR. variant->key becomes that of the answer.
 */
ngx_int_t ngx_http_hotpath_variant_store(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_variant_t *variant,
    ngx_str_t *names, ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content);

/* Adds a name to names, whose data holds TEXT bytes, unless it is there.
 * NGX_DECLINED: no room, or the name is "*". */
ngx_int_t ngx_http_hotpath_variant_name(ngx_str_t *names, ngx_str_t *name);

/*
 * Puts a mark in place of an answer: until then it says that it is not worth
 * waiting for one, afterwards nothing. What was asked for before version does
 * not replace it.
 */
void ngx_http_hotpath_variant_mark(ngx_http_hotpath_cache_t *cache,
    ngx_str_t *key, uint64_t version, uint64_t until_ms);

/* What the zone has under the key is out of date, and what is under way to it
 * as well. NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_hotpath_variant_invalidate(ngx_http_request_t *r,
    ngx_http_hotpath_cache_t *cache, ngx_str_t *key);


#endif /* _NGX_HTTP_HOTPATH_VARIANT_H_INCLUDED_ */
