/*
 * hp_http.h: what header values mean to a cache: validators, Cache-Control,
 * Accept-Encoding, Vary, Prefer, and the writers of Cache-Control and
 * Cache-Status.
 *
 * Pure functions of their arguments; results point into the input. A value is
 * one field line; where a request has several lines of one name, join them
 * with commas first (RFC 9110 section 5.3). Every reader is linear in its
 * input, takes any bytes and never fails: what a grammar does not allow has
 * the effect that is safe for a cache, which is said at each function.
 *
 * Specified by RFC 9110 (sections 5.6, 8.8, 12.5, 13), RFC 9111, RFC 5861,
 * RFC 9211 and RFC 7240. Tests: tests/unit/test_http.c, tests/fuzz/fuzz_http.c.
 */
#ifndef HP_HTTP_H
#define HP_HTTP_H

#include "hp_base.h"

/* ---- validators ---- */

#define HP_NO_TIME INT64_MIN

/* 1 where value, an If-None-Match, names the entity tag etag ("..." or
 * W/"...") by weak comparison, or is "*". An empty etag (the document has none)
 * is matched by "*" only. A value that is not exactly of the grammar matches
 * nothing, also where one of its tags would. */
int hp_none_match(hp_str_t value, hp_str_t etag);

/* The same for If-Match: strong comparison, so nothing weak matches. */
int hp_match(hp_str_t value, hp_str_t etag);

/* 1 where a GET or HEAD may be answered with 304. none_match, modified_since:
 * NULL where the request has no such field. modified_s: the document's last
 * modification (for a cache without one its Date, RFC 9111 section 4.3.2), or
 * HP_NO_TIME. If-Modified-Since counts only without If-None-Match, however
 * broken that is, and only as a valid HTTP-date. */
int hp_not_modified(const hp_str_t *none_match, const hp_str_t *modified_since,
                    hp_str_t etag, int64_t modified_s, int64_t now_s);

/* ---- Cache-Control ---- */

/* The largest delta-seconds; larger ones, however long, are read as this. */
#define HP_SECONDS_MAX 2147483648

typedef struct {
    int64_t max_age_s;   /* -1: not there; no number: 0 */
    int64_t max_stale_s; /* -1: not there or no number; any: HP_SECONDS_MAX */
    int64_t min_fresh_s; /* -1: not there or no number */
    unsigned no_cache : 1;
    unsigned no_store : 1;
    unsigned only_if_cached : 1;
    unsigned no_transform : 1;
} hp_request_control_t;

/* -1: not there; no number: 0, that is stale at once. */
typedef struct {
    int64_t max_age_s;
    int64_t s_maxage_s;
    int64_t stale_while_revalidate_s;
    int64_t stale_if_error_s;
    unsigned is_public : 1;
    unsigned is_private : 1; /* with field names too */
    unsigned no_store : 1;
    unsigned no_cache : 1; /* with field names too */
    unsigned no_transform : 1;
    unsigned must_revalidate : 1;
    unsigned proxy_revalidate : 1;
} hp_response_control_t;

/* Names are not case sensitive, numbers may be quoted, of a directive that
 * comes twice the first counts, unknown ones do not. An element that is not of
 * the grammar ends at the next comma; if it begins with the name of a directive
 * that forbids something, it still forbids. */
void hp_request_control(hp_request_control_t *control, hp_str_t value);
void hp_response_control(hp_response_control_t *control, hp_str_t value);

/* What the directives say to a shared cache: 1 where they let it store the
 * answer (authorized: the request had an Authorization field, RFC 9111 section
 * 3.5). Method, status and Vary are the caller's. */
int hp_shared_storable(const hp_response_control_t *control, int authorized);

/* Freshness in seconds: s-maxage, else max-age, else -1 (Expires and
 * heuristics are the caller's). */
int64_t hp_shared_lifetime_s(const hp_response_control_t *control);

/* 0 where a stale answer must not be used unvalidated (RFC 9111 section 4.2.4:
 * no-cache, must-revalidate, proxy-revalidate, s-maxage). */
int hp_stale_allowed(const hp_response_control_t *control);

/* dst of this size takes any Cache-Control. */
#define HP_CACHE_CONTROL_MAX 208

/* Writes the directives set in *control; numbers above HP_SECONDS_MAX as that.
 * Returns the length; 0 where nothing is set or size is too small. */
size_t hp_cache_control_write(unsigned char *dst, size_t size,
                              const hp_response_control_t *control);

/* ---- Cache-Status ---- */

typedef enum {
    HP_FWD_NONE = 0,
    HP_FWD_BYPASS,
    HP_FWD_METHOD,
    HP_FWD_URI_MISS,
    HP_FWD_VARY_MISS,
    HP_FWD_MISS,
    HP_FWD_REQUEST,
    HP_FWD_STALE,
    HP_FWD_PARTIAL
} hp_fwd_t;

typedef struct {
    hp_str_t cache;      /* its name; must not be empty */
    hp_fwd_t fwd;        /* it and the next three are left out with hit */
    unsigned fwd_status; /* 100 to 999, or 0: not written */
    unsigned stored : 1;
    unsigned collapsed : 1;
    unsigned hit : 1;
    unsigned has_ttl : 1;
    int64_t ttl_s;   /* negative when stale */
    hp_str_t key;    /* empty: not written */
    hp_str_t detail; /* empty: not written */
} hp_cache_status_t;

/* dst of this size takes any status whose three texts have so many bytes. */
#define HP_CACHE_STATUS_MAX(bytes) (160 + 3 * (size_t)(bytes))

/* Writes one member of Cache-Status; returns its length. Texts become tokens
 * (cache, detail) where they are of that form, else strings; a byte that
 * neither may hold is written as %XX. A parameter that does not fit is left
 * out, as are those behind it; 0 where not even the name fits. */
size_t hp_cache_status_write(unsigned char *dst, size_t size,
                             const hp_cache_status_t *status);

/* ---- Accept-Encoding, Vary, Prefer ---- */

/* In order of preference between equals: the last first. */
enum { HP_CODING_IDENTITY = 1, HP_CODING_GZIP = 2, HP_CODING_BR = 4 };

/* The best of the available codings (a set of the bits above) for this
 * Accept-Encoding; NULL: the request has none. 0 where none is acceptable.
 * Identity that is not named comes last. An element that is not of the grammar
 * counts as not there; of a coding named twice the first counts. */
unsigned hp_coding_choose(const hp_str_t *accept, unsigned available);

/* Walks Vary, or any list of field names. *rest starts as the value. 1 with
 * *name the next one, perhaps "*"; 0 at the end; -1 where the next element is
 * no field name: an answer with such a Vary matches no request, as with "*". */
int hp_vary_next(hp_str_t *rest, hp_str_t *name);

typedef struct {
    int64_t wait_s; /* -1: not there or no number */
    unsigned respond_async : 1;
    unsigned respond_sync : 1; /* Hotpath's own; never together with async */
} hp_prefer_t;

/* Of a preference that comes twice the first counts, also of respond-async and
 * respond-sync. What is not of the grammar counts as not there. */
void hp_prefer(hp_prefer_t *prefer, hp_str_t value);

#endif
