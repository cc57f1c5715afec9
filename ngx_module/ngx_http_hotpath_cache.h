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


/* What an entry knows beside its key and what it holds. All times are wall
 * clock milliseconds since 1970. */
typedef struct {
    uint64_t   version;        /* of the document; 0 only for a negative entry
                                  of a key that never had one */
    int64_t    modified_us;
    uint64_t   stored_ms;      /* when its origin was asked or pushed it */
    uint64_t   fresh_ms;       /* fresh until then */
    uint64_t   revalidate_ms;  /* until then it may be used while it is being
                                  renewed in the background, >= fresh_ms */
    uint64_t   stale_ms;       /* until then it may be used where its origin
                                  cannot be had, >= fresh_ms */
    uint64_t   begun;          /* in only: what ngx_http_hotpath_cache_begun()
                                  gave before the origin was asked; 0 for what
                                  came by itself */
    unsigned   negative:1;     /* the origin has no such document; a pushed
                                  deletion is one, with its version */
    unsigned   trusted:1;      /* out only: stored or revalidated since the
                                  last ngx_http_hotpath_cache_distrust(), and
                                  not purged */
} ngx_http_hotpath_cache_meta_t;


#define NGX_HTTP_HOTPATH_CACHE_TAGS      16
#define NGX_HTTP_HOTPATH_CACHE_HEAD_MAX  16384

/* What an entry holds. */
typedef struct {
    ngx_str_t   head;          /* what its answers need beside a body, up to
                                  HEAD_MAX bytes; the zone does not look into
                                  it */
    ngx_str_t   body;          /* as it came: HP_CODING_IDENTITY */
    ngx_str_t   gzip;          /* the same, coded; empty: not there */
    ngx_str_t   br;
    uint64_t   *tags;          /* ngx_http_hotpath_cache_tag() of each */
    ngx_uint_t  ntags;         /* 0 to TAGS */
} ngx_http_hotpath_cache_content_t;


/* A copy of an entry, in a pool. */
typedef struct {
    ngx_http_hotpath_cache_meta_t  meta;
    ngx_str_t                      head;
    ngx_str_t                      body;
    ngx_uint_t                     coding;   /* HP_CODING_* of body */
    ngx_uint_t                     codings;  /* those that the entry has */
} ngx_http_hotpath_copy_t;


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
 * NGX_OK: *copy is filled, head and body from pool, but the body in room where
 * that is not NULL and has enough. NGX_DECLINED: not there. NGX_ERROR: no
 * memory. The key is any bytes, 1 to 1200. codings is a set of
 * HP_CODING_*: the body is the largest of them that the entry has, else
 * identity.
 */
ngx_int_t ngx_http_hotpath_cache_get(ngx_http_hotpath_cache_t *cache,
    ngx_str_t *key, ngx_uint_t codings, ngx_pool_t *pool, ngx_str_t *room,
    ngx_http_hotpath_copy_t *copy);

/*
 * For who knows a key a while before the get: what that will read is brought
 * nearer, in two steps with other work between them. Neither waits, neither
 * says whether the key is there. The second takes what the first gave.
 */
uint64_t ngx_http_hotpath_cache_expect(ngx_http_hotpath_cache_t *cache,
    ngx_str_t *key);
void ngx_http_hotpath_cache_expected(ngx_http_hotpath_cache_t *cache,
    uint64_t hash);

/*
 * NGX_OK: stored; where the same version was there, its times are renewed and
 * the content is replaced. NGX_ABORT: what is there is newer and stays.
 * NGX_DECLINED: too large. NGX_BUSY: the stripe was locked too long; nothing
 * changed.
 *
 * Older is a lower version, with one exception: version 0, which says that the
 * origin has no such document and knows of none that was deleted. It replaces
 * an entry that is negative, not trusted, or no longer fresh at stored_ms, and
 * then takes over its version, so that no older document comes back later.
 *
 * Where the zone was distrusted or anything was purged since meta->begun, the
 * entry is stored, but not trusted.
 */
ngx_int_t ngx_http_hotpath_cache_put(ngx_http_hotpath_cache_t *cache,
    ngx_str_t *key, ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content);

/*
 * Adds coded bodies to the entry with this very version and body length, and
 * changes nothing else of it; one that it has already stays. NGX_OK;
 * NGX_DECLINED: it is no longer there, or too large; NGX_BUSY.
 */
ngx_int_t ngx_http_hotpath_cache_put_codings(ngx_http_hotpath_cache_t *cache,
    ngx_str_t *key, uint64_t version, size_t body_len, ngx_str_t *gzip,
    ngx_str_t *br);

/* To be asked before an origin is, for meta->begun. */
uint64_t ngx_http_hotpath_cache_begun(ngx_http_hotpath_cache_t *cache);

/* From now on every entry counts as not trusted until it is put again. */
void ngx_http_hotpath_cache_distrust(ngx_http_hotpath_cache_t *cache);

/* A tag as entries keep it; scope is what the tag is of, such as a model. */
uint64_t ngx_http_hotpath_cache_tag(ngx_str_t *scope, ngx_str_t *tag);

/*
 * Takes an entry's trust, and with hard its times too, so that it answers
 * nobody any more, not even where its origin is down; its version stays, so
 * that nothing older comes back. Soft leaves it to be used while it is renewed
 * and while its origin is down. NGX_OK: was there and is purged; NGX_DECLINED:
 * not there or already so; NGX_BUSY.
 */
ngx_int_t ngx_http_hotpath_cache_purge(ngx_http_hotpath_cache_t *cache,
    ngx_str_t *key, ngx_uint_t hard);


/* A walk over the whole zone. Entries that are put while it goes on are met
 * once, twice or not at all. */
typedef struct {
    ngx_str_t   prefix;        /* of the keys that are meant; may be empty */
    uint64_t    tag;           /* that they must have, or 0 */
    unsigned    purge:1;       /* purge them; without: only meet them */
    unsigned    hard:1;
    unsigned    main:1;        /* only what was used more than once */
    void      (*each)(void *data, ngx_str_t *key);  /* NULL, or called for
                                  each under a lock: must be short, must not
                                  call this room */
    void       *data;
    uint64_t    position;      /* 0 at first */
    uint64_t    met;           /* how many so far; with purge, only those that
                                  it changed */
} ngx_http_hotpath_cache_walk_t;

/* Goes on by about so many cells; NGX_OK: done; NGX_AGAIN: call again. */
ngx_int_t ngx_http_hotpath_cache_walk(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_walk_t *walk, ngx_uint_t cells);

/* 1 until somebody says that the zone is warm: it was started empty. */
ngx_uint_t ngx_http_hotpath_cache_cold(ngx_http_hotpath_cache_t *cache);
void ngx_http_hotpath_cache_warm(ngx_http_hotpath_cache_t *cache);

void ngx_http_hotpath_cache_stats(ngx_http_hotpath_cache_t *cache,
    ngx_http_hotpath_cache_stats_t *stats);

/* The n-th zone of a configuration, from 0; NULL: there are no more. */
ngx_http_hotpath_cache_t *ngx_http_hotpath_cache_each(ngx_cycle_t *cycle,
    ngx_uint_t n);

ngx_str_t *ngx_http_hotpath_cache_name(ngx_http_hotpath_cache_t *cache);

/* Bytes that an entry's key, tags, head and bodies may have together. */
size_t ngx_http_hotpath_cache_max_entry(ngx_http_hotpath_cache_t *cache);


#endif /* _NGX_HTTP_HOTPATH_CACHE_H_INCLUDED_ */
