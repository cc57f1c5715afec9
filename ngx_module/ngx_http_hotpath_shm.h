/*
 * ngx_http_hotpath_shm.h: what every shared-memory room stands on.
 *
 * A region is one block of memory shared by all workers of an instance, with a
 * header that says whose layout and which version it is. A lock is a word with
 * the pid of its holder: it is never waited for without bound, and a holder
 * that died inside is noticed, so that whoever comes next can start the
 * protected structure over. Knows nginx and core/, no other room.
 */
#ifndef _NGX_HTTP_HOTPATH_SHM_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_SHM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


#define NGX_HTTP_HOTPATH_CACHE_LINE  64


/*
 * owner: written by whoever takes or releases the lock, by compare-and-swap;
 * 0 free, else the pid of the holder. dirty: written by the holder only; not
 * 0 while what the lock protects is between two consistent states.
 */
typedef struct {
    ngx_atomic_t  owner;
    ngx_atomic_t  dirty;
    u_char        pad[NGX_HTTP_HOTPATH_CACHE_LINE - 2 * sizeof(ngx_atomic_t)];
} ngx_http_hotpath_lock_t;


/* First bytes of every region; written once, by the init callback. */
typedef struct {
    uint64_t  magic;      /* one per room, eight ASCII characters */
    uint32_t  layout;     /* layout version of that room, from 1 */
    uint32_t  reserved;
    uint64_t  size;       /* bytes of the region, this header included */
} ngx_http_hotpath_region_t;


/*
 * To be called from a zone's init callback. Gives the region, *fresh set to 1
 * where it is new and zeroed except for its header, to 0 where it is that of
 * the previous cycle (nginx keeps the memory while name, size and tag stay the
 * same). An old region with another layout is refused with a log line (NULL):
 * nginx then keeps the old configuration.
 */
void *ngx_http_hotpath_region_init(ngx_shm_zone_t *zone, uint64_t magic,
    uint32_t layout, ngx_uint_t *fresh);

/*
 * NGX_OK: held. NGX_ABORT: held, and its last holder died with dirty set: what
 * it protects must be reset before anything else. NGX_BUSY: not to be had
 * within a bounded spin (microseconds); the caller goes on without.
 */
ngx_int_t ngx_http_hotpath_lock(ngx_http_hotpath_lock_t *lock);
void ngx_http_hotpath_unlock(ngx_http_hotpath_lock_t *lock);

/* Around every change of what the lock protects. */
#define ngx_http_hotpath_lock_begin(l)  do { (l)->dirty = 1;                  \
                                            ngx_memory_barrier(); } while (0)
#define ngx_http_hotpath_lock_end(l)    do { ngx_memory_barrier();            \
                                            (l)->dirty = 0; } while (0)

/* Monotonic and wall clock, in nanoseconds and microseconds; the first is the
 * same in every process of the machine. */
int64_t ngx_http_hotpath_monotonic_ns(void);
int64_t ngx_http_hotpath_wall_us(void);


#endif /* _NGX_HTTP_HOTPATH_SHM_H_INCLUDED_ */
