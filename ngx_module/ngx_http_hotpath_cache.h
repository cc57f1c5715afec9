/*
 * ngx_http_hotpath_cache.h: documents in shared memory.
 *
 * Look-ups take no lock (a sequence counter per entry), changes take the lock
 * of one stripe. A newer version is never replaced by an older one. Knows shm
 * and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_CACHE_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_CACHE_H_INCLUDED_


#include "ngx_http_hotpath_shm.h"


typedef struct ngx_http_hotpath_cache_s  ngx_http_hotpath_cache_t;


/* What an entry knows beside its key and its document. All times are wall
 * clock milliseconds since 1970. */
typedef struct {
    uint64_t   version;        /* of the document; 0 only for a negative entry
                                  of a key that never had one */
    int64_t    modified_us;
    uint64_t   stored_ms;      /* when its origin was asked or pushed it */
    uint64_t   fresh_ms;       /* fresh until then */
    uint64_t   stale_ms;       /* usable while stale until then, >= fresh_ms */
    unsigned   negative:1;     /* the origin has no such document; a pushed
                                  deletion is one, with its version */
    unsigned   trusted:1;      /* out only: stored or revalidated since the
                                  last ngx_http_hotpath_cache_distrust() */
} ngx_http_hotpath_cache_meta_t;


typedef struct {
    uint64_t   stores;         /* the counters of the zone since it was made;
                                  hits are the callers' to count: a counter
                                  that readers share would cost them more than
                                  the look-up */
    uint64_t   refused_older;  /* puts that would have gone back in version */
    uint64_t   evictions;
    uint64_t   lock_busy;
    uint64_t   resets;         /* stripes emptied after a holder's death */
    uint64_t   entries;        /* now */
    uint64_t   bytes_used;     /* now */
    uint64_t   bytes_total;
} ngx_http_hotpath_cache_stats_t;


/*
 * hotpath_cache_zone zone=name:size [max_entry=size]; the set callback of the
 * command table. cmd->post and the conf structure are not used. max_entry
 * bounds key and document together; without it, it is 1 MiB and a key, or a
 * sixteenth of the zone where that is less. What the zone holds survives a
 * reload where name, size and max_entry are the same; a new size starts empty,
 * a new max_entry alone is refused.
 */
char *ngx_http_hotpath_cache_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* The zone of that name, or NULL where the configuration has none. To be
 * called when the whole http block was read. */
ngx_http_hotpath_cache_t *ngx_http_hotpath_cache_find(ngx_conf_t *cf,
    ngx_str_t *name);

/*
 * NGX_OK: *meta is filled and *document is a copy from pool. NGX_DECLINED: not
 * there. NGX_ERROR: no memory. The key is any bytes, 1 to 1200.
 */
ngx_int_t ngx_http_hotpath_cache_get(ngx_http_hotpath_cache_t *cache,
    ngx_str_t *key, ngx_pool_t *pool, ngx_http_hotpath_cache_meta_t *meta,
    ngx_str_t *document);

/*
 * NGX_OK: stored; where the same version was there, its times are renewed and
 * the document is replaced. NGX_ABORT: what is there is newer and stays.
 * NGX_DECLINED: too large. NGX_BUSY: the stripe was locked too long; nothing
 * changed.
 *
 * Older is a lower version, with one exception: version 0, which says that the
 * origin has no such document and knows of none that was deleted. It replaces
 * an entry that is negative, not trusted, or no longer fresh at stored_ms, and
 * then takes over its version, so that no older document comes back later.
 */
ngx_int_t ngx_http_hotpath_cache_put(ngx_http_hotpath_cache_t *cache,
    ngx_str_t *key, ngx_http_hotpath_cache_meta_t *meta, ngx_str_t *document);

/* From now on every entry counts as not trusted until it is put again. */
void ngx_http_hotpath_cache_distrust(ngx_http_hotpath_cache_t *cache);

void ngx_http_hotpath_cache_stats(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_stats_t *stats);

ngx_str_t *ngx_http_hotpath_cache_name(ngx_http_hotpath_cache_t *cache);


#endif /* _NGX_HTTP_HOTPATH_CACHE_H_INCLUDED_ */
