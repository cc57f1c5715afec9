/*
 * ngx_http_hotpath_rules.c: how long what a zone keeps is used for what.
 *
 * One job: the times of an entry, by the rules of its location, and the clock
 * that they are counted by: the wall clock as nginx last read it, because
 * entries outlive processes and come from other machines. Owns a random number
 * generator, this worker's own; runs in the event loop of every worker and in
 * the master while it reads a configuration, with no lock held. Never in here:
 * a system call.
 *
 * Reference: README.md, hotpath_cache; tests: tests/unit/test_head.c,
 * tests/integration/test_read.py.
 */


#include "ngx_http_hotpath_rules.h"


static uint64_t ngx_http_hotpath_rules_jitter(ngx_msec_t ttl_ms,
    ngx_uint_t percent);


void
ngx_http_hotpath_rules_times(ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_cache_meta_t *meta)
{
    meta->stored_ms = ngx_http_hotpath_now_ms();
    meta->fresh_ms = meta->stored_ms
                     + ngx_http_hotpath_rules_jitter(meta->negative
                                                     ? rules->negative_ttl
                                                     : rules->ttl,
                                                     rules->jitter);
    meta->revalidate_ms = meta->fresh_ms + rules->revalidate;
    meta->stale_ms = meta->fresh_ms + ngx_max(rules->stale,
                                              rules->revalidate);
}


/* Between ttl less percent of it and ttl, so that what was stored together
 * does not expire together. */

static uint64_t
ngx_http_hotpath_rules_jitter(ngx_msec_t ttl_ms, ngx_uint_t percent)
{
    uint64_t  range_ms;

    static uint64_t  state;      /* this worker's; xorshift64 */

    range_ms = (uint64_t) ttl_ms * percent / 100;

    if (range_ms == 0) {
        return ttl_ms;
    }

    if (state == 0) {
        state = ((uint64_t) ngx_random() << 32) ^ (uint64_t) ngx_random()
                ^ ((uint64_t) ngx_pid << 16) ^ 1;
    }

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;

    return ttl_ms - state % (range_ms + 1);
}


uint64_t
ngx_http_hotpath_now_ms(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (uint64_t) tp->sec * 1000 + tp->msec;
}
