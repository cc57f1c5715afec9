/*
 * ngx_http_hotpath_compress.h: coded bodies for entries of a zone, made once.
 *
 * Whoever serves an entry uncoded to a client that takes a coding says so
 * here; some turns of the event loop later the entry has gzip and Brotli
 * bodies beside its own. Knows the zone and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_COMPRESS_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_COMPRESS_H_INCLUDED_


#include "ngx_http_hotpath_cache.h"
#include "core/hp_http.h"


/* Those that this build can make; Brotli where its library was found. */
#if (NGX_HTTP_HOTPATH_BROTLI)
#define NGX_HTTP_HOTPATH_CODINGS  (HP_CODING_GZIP | HP_CODING_BR)
#else
#define NGX_HTTP_HOTPATH_CODINGS  HP_CODING_GZIP
#endif


/* Has them made for the entry with this version, unless that is under way, was
 * found not to be worth it, or too much else waits; returns at once. */
void ngx_http_hotpath_compress(ngx_http_hotpath_cache_t *cache,
    ngx_str_t *key, uint64_t version);


#endif /* _NGX_HTTP_HOTPATH_COMPRESS_H_INCLUDED_ */
