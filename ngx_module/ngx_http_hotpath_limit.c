/*
 * ngx_http_hotpath_limit.c: rate limits per key; whether a request may pass.
 *
 * Owns the limit zones (one each hotpath_limit_zone, with its keys); nginx
 * frees them with their cycle. Runs in workers, in the preaccess phase, and
 * gives a request in flight back when its pool is destroyed. Zone locks are
 * held for some hundred nanoseconds, one per zone and request, always taken in
 * the order of the zones' names; nothing may be allocated, evaluated or logged
 * while one is held.
 *
 * A busy lock lets the request pass that limit (LIMIT_BYPASSED counts it): a
 * limiter that refused because of its own trouble would be an outage.
 *
 * Reference: README.md, "Gate"; tested by tests/integration/test_gate.py, the
 * arithmetic by tests/unit/test_rate.c.
 */
#include "ngx_http_hotpath_limit.h"
#include "ngx_http_hotpath_metrics.h"
#include "core/hp_id.h"
#include "core/hp_rate.h"
#include <sys/random.h>


#define NGX_HTTP_HOTPATH_LIMIT_MAGIC      0x0054494d494c5048ULL /* HPLIMIT */
#define NGX_HTTP_HOTPATH_LIMIT_LAYOUT     1

#define NGX_HTTP_HOTPATH_LIMIT_WAYS       8
#define NGX_HTTP_HOTPATH_LIMIT_LOCKS      64
#define NGX_HTTP_HOTPATH_LIMIT_KEY        47   /* longer ones by digest */
#define NGX_HTTP_HOTPATH_LIMIT_DIGEST     255
#define NGX_HTTP_HOTPATH_LIMIT_MAX        8    /* zones of one location */
#define NGX_HTTP_HOTPATH_LIMIT_POLICY     64

#define NGX_HTTP_HOTPATH_SECOND_NS        1000000000


/*
 * A limit zone is an array of sets. The hash of a key says its set, the bytes
 * of the key say whether a slot is its own: a hash alone would not do, since
 * anybody can make two keys of 16 or more bytes that XXH64 cannot tell apart
 * whatever its seed, and so spend somebody else's rate. Keys of more than 47
 * bytes are kept as their SHA-256.
 *
 * A slot whose time has passed is free: a key without a slot is a key that has
 * its whole burst, which is what such a slot says. Where all slots of a set are
 * live, the one that would be free soonest is given up (LIMIT_FORCED counts
 * it); so a zone that is too small errs by admitting, and never fails.
 *
 * Writer of everything in a set: a worker that holds the set's lock. A slot
 * keeps being valid at every instruction, so that a holder may die anywhere:
 * tat_ns is 0 while the key is written. The locks' dirty marks stay unused.
 */
typedef struct {
    u_char                             len;      /* 0 to 47, or 255: digest */
    u_char                             data[NGX_HTTP_HOTPATH_LIMIT_KEY];
} ngx_http_hotpath_limit_key_t;


typedef struct {
    uint64_t                           hash[NGX_HTTP_HOTPATH_LIMIT_WAYS];
    int64_t                            tat_ns[NGX_HTTP_HOTPATH_LIMIT_WAYS];
    ngx_http_hotpath_limit_key_t       key[NGX_HTTP_HOTPATH_LIMIT_WAYS];
} ngx_http_hotpath_limit_set_t;


/* seed (random) and count (of sets, at least 1) are written once, when the
 * region is made. Set i is under locks[i % 64]. */
typedef struct {
    ngx_http_hotpath_region_t          region;
    uint64_t                           seed;
    uint64_t                           count;
    u_char                             pad[NGX_HTTP_HOTPATH_CACHE_LINE
                                           - sizeof(ngx_http_hotpath_region_t)
                                           - 2 * sizeof(uint64_t)];
    ngx_http_hotpath_lock_t            locks[NGX_HTTP_HOTPATH_LIMIT_LOCKS];
    ngx_http_hotpath_limit_set_t       sets[];
} ngx_http_hotpath_limit_sh_t;


/* A configured zone: data of its ngx_shm_zone_t. */
typedef struct {
    ngx_http_hotpath_limit_sh_t       *sh;
    hp_rate_t                          rate;
    uint64_t                           quota;     /* that window_s allows */
    uint64_t                           window_s;
    uint64_t                           seed;      /* of the key's expression */
    ngx_http_complex_value_t           key;
} ngx_http_hotpath_limit_zone_t;


/* One hotpath_limit of a location. */
typedef struct {
    ngx_shm_zone_t                    *zone;
    ngx_str_t                          policy;
} ngx_http_hotpath_limit_t;


/* One request at one limit. set is NULL where the limit was bypassed. */
typedef struct {
    ngx_http_hotpath_limit_t          *limit;
    ngx_http_hotpath_limit_zone_t     *zone;
    ngx_http_hotpath_limit_set_t      *set;
    ngx_http_hotpath_lock_t           *lock;
    ngx_uint_t                         way;
    ngx_uint_t                         found;     /* way is the key's own */
    uint64_t                           hash;
    int64_t                            tat_ns;
    hp_rate_result_t                   result;
    ngx_http_hotpath_limit_key_t       key;
} ngx_http_hotpath_limit_try_t;


/* Marks a request as seen; count is what it holds, NULL for nothing. */
typedef struct {
    uint32_t                          *count;
} ngx_http_hotpath_limit_cleanup_t;


static ngx_int_t ngx_http_hotpath_limit_init_zone(ngx_shm_zone_t *zone,
    void *data);
static ngx_int_t ngx_http_hotpath_limit_rate(ngx_str_t *value,
    ngx_int_t *count, ngx_int_t *period_s);
static ngx_int_t ngx_http_hotpath_limit_policy_valid(ngx_str_t *policy);

static ngx_int_t ngx_http_hotpath_limit_seen(ngx_http_request_t *r);
static void ngx_http_hotpath_limit_cleanup(void *data);
static ngx_int_t ngx_http_hotpath_limit_take(ngx_http_request_t *r,
    ngx_array_t *limits, ngx_uint_t *retry_s);
static ngx_int_t ngx_http_hotpath_limit_key(ngx_http_request_t *r,
    ngx_http_hotpath_limit_try_t *t);
static void ngx_http_hotpath_limit_look_locked(ngx_http_hotpath_limit_try_t *t,
    int64_t now_ns);
static void ngx_http_hotpath_limit_store_locked(
    ngx_http_hotpath_limit_try_t *t, int64_t now_ns);
static ngx_int_t ngx_http_hotpath_limit_headers(ngx_http_request_t *r,
    ngx_http_hotpath_limit_try_t *tries, ngx_uint_t n,
    ngx_http_hotpath_limit_try_t *worst);
static uint64_t ngx_http_hotpath_limit_seconds(int64_t ns);
static size_t ngx_http_hotpath_limit_key_size(
    ngx_http_hotpath_limit_key_t *key);


/* Its address tells nginx which zones are this room's. */
static u_char  ngx_http_hotpath_limit_tag;


char *
ngx_http_hotpath_limit_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    u_char                            *p;
    ssize_t                            size;
    ngx_int_t                          count, period_s, burst;
    ngx_str_t                         *value, name, text;
    ngx_uint_t                         i;
    ngx_shm_zone_t                    *shm_zone;
    ngx_http_hotpath_limit_zone_t     *zone;
    ngx_http_compile_complex_value_t   ccv;

    value = cf->args->elts;

    zone = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_limit_zone_t));
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = &zone->key;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    zone->seed = hp_hash64(value[1].data, value[1].len, 0);

    size = 0;
    count = 0;
    period_s = 1;
    burst = 1;
    ngx_str_null(&name);

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "zone=", 5) == 0) {

            name.data = value[i].data + 5;

            p = (u_char *) ngx_strchr(name.data, ':');

            if (p == NULL || p == name.data) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid zone size \"%V\"", &value[i]);
                return NGX_CONF_ERROR;
            }

            name.len = p - name.data;

            text.data = p + 1;
            text.len = value[i].data + value[i].len - text.data;

            size = ngx_parse_size(&text);

            if (size == NGX_ERROR) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid zone size \"%V\"", &value[i]);
                return NGX_CONF_ERROR;
            }

            if (size < (ssize_t) (8 * ngx_pagesize)) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "zone \"%V\" is too small", &value[i]);
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_strncmp(value[i].data, "rate=", 5) == 0) {

            text.data = value[i].data + 5;
            text.len = value[i].len - 5;

            if (ngx_http_hotpath_limit_rate(&text, &count, &period_s)
                != NGX_OK)
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid rate \"%V\", it must be a number "
                                   "above zero and \"r/s\" or \"r/m\"",
                                   &value[i]);
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_strncmp(value[i].data, "burst=", 6) == 0) {

            burst = ngx_atoi(value[i].data + 6, value[i].len - 6);

            if (burst <= 0) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid burst value \"%V\"", &value[i]);
                return NGX_CONF_ERROR;
            }

            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    if (name.len == 0 || count == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must have \"zone\" and \"rate\" parameters",
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (hp_rate_init(&zone->rate, count, (uint64_t) period_s * 1000, burst)
        != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "rate or burst of zone \"%V\" is out of range",
                           &name);
        return NGX_CONF_ERROR;
    }

    /* What clients are told: the shortest whole seconds that refill the burst,
     * and what the rate allows in these; never more than is admitted. */

    zone->window_s = ((uint64_t) burst * period_s + count - 1) / count;
    zone->quota = zone->window_s * count / period_s;

    shm_zone = ngx_shared_memory_add(cf, &name, size,
                                     &ngx_http_hotpath_limit_tag);
    if (shm_zone == NULL) {
        return NGX_CONF_ERROR;
    }

    if (shm_zone->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone \"%V\" is already defined", &name);
        return NGX_CONF_ERROR;
    }

    shm_zone->init = ngx_http_hotpath_limit_init_zone;
    shm_zone->data = zone;

    return NGX_CONF_OK;
}


/* A number and "r/s" or "r/m". */

static ngx_int_t
ngx_http_hotpath_limit_rate(ngx_str_t *value, ngx_int_t *count,
    ngx_int_t *period_s)
{
    u_char  *unit;

    if (value->len < 4) {
        return NGX_ERROR;
    }

    unit = value->data + value->len - 3;

    if (ngx_strncmp(unit, "r/s", 3) == 0) {
        *period_s = 1;

    } else if (ngx_strncmp(unit, "r/m", 3) == 0) {
        *period_s = 60;

    } else {
        return NGX_ERROR;
    }

    *count = ngx_atoi(value->data, value->len - 3);

    return *count > 0 ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_hotpath_limit_init_zone(ngx_shm_zone_t *shm_zone, void *data)
{
    size_t                          room;
    ngx_uint_t                      fresh;
    ngx_http_hotpath_limit_sh_t    *sh;
    ngx_http_hotpath_limit_zone_t  *zone;

    zone = shm_zone->data;

    sh = ngx_http_hotpath_region_init(shm_zone, NGX_HTTP_HOTPATH_LIMIT_MAGIC,
                                      NGX_HTTP_HOTPATH_LIMIT_LAYOUT, &fresh);
    if (sh == NULL) {
        return NGX_ERROR;
    }

    if (fresh) {
        room = sh->region.size;

        if (room < sizeof(ngx_http_hotpath_limit_sh_t)
                   + sizeof(ngx_http_hotpath_limit_set_t))
        {
            ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                          "shared memory zone \"%V\" is too small",
                          &shm_zone->shm.name);
            return NGX_ERROR;
        }

        if (getrandom(&sh->seed, sizeof(sh->seed), GRND_NONBLOCK)
            != (ssize_t) sizeof(sh->seed))
        {
            ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, ngx_errno,
                          "getrandom() failed");
            return NGX_ERROR;
        }

        room -= sizeof(ngx_http_hotpath_limit_sh_t);
        sh->count = room / sizeof(ngx_http_hotpath_limit_set_t);
    }

    zone->sh = sh;

    return NGX_OK;
}


char *
ngx_http_hotpath_limit_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_limit_conf_t  *lcf;

    ngx_str_t                      *value, name, policy;
    ngx_uint_t                      i, place;
    ngx_shm_zone_t                 *zone;
    ngx_http_hotpath_limit_t       *limits;

    lcf = (ngx_http_hotpath_limit_conf_t *) ((u_char *) conf + cmd->offset);

    value = cf->args->elts;

    ngx_str_null(&name);
    ngx_str_null(&policy);

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "zone=", 5) == 0) {
            name.data = value[i].data + 5;
            name.len = value[i].len - 5;
            continue;
        }

        if (ngx_strncmp(value[i].data, "policy=", 7) == 0) {
            policy.data = value[i].data + 7;
            policy.len = value[i].len - 7;
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    if (name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must have a \"zone\" parameter",
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (policy.data == NULL) {
        policy = name;
    }

    if (ngx_http_hotpath_limit_policy_valid(&policy) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid policy name \"%V\", it must be 1 to 64 "
                           "printable ASCII characters without quotes and "
                           "backslashes", &policy);
        return NGX_CONF_ERROR;
    }

    zone = ngx_shared_memory_add(cf, &name, 0, &ngx_http_hotpath_limit_tag);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    if (lcf->limits == NULL) {
        lcf->limits = ngx_array_create(cf->pool, 1,
                                       sizeof(ngx_http_hotpath_limit_t));
        if (lcf->limits == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    if (lcf->limits->nelts == NGX_HTTP_HOTPATH_LIMIT_MAX) {
        return "has too many zones here, 8 are allowed";
    }

    limits = lcf->limits->elts;
    place = 0;

    for (i = 0; i < lcf->limits->nelts; i++) {

        if (limits[i].zone == zone
            || (limits[i].policy.len == policy.len
                && ngx_strncmp(limits[i].policy.data, policy.data, policy.len)
                   == 0))
        {
            return "has a zone or a policy twice";
        }

        if (ngx_memn2cmp(limits[i].zone->shm.name.data, name.data,
                         limits[i].zone->shm.name.len, name.len)
            < 0)
        {
            place = i + 1;
        }
    }

    if (ngx_array_push(lcf->limits) == NULL) {
        return NGX_CONF_ERROR;
    }

    limits = lcf->limits->elts;

    for (i = lcf->limits->nelts - 1; i > place; i--) {
        limits[i] = limits[i - 1];
    }

    limits[place].zone = zone;
    limits[place].policy = policy;

    return NGX_CONF_OK;
}


/* Whether it can stand in a String of RFC 9651 as it is. */

static ngx_int_t
ngx_http_hotpath_limit_policy_valid(ngx_str_t *policy)
{
    u_char      c;
    ngx_uint_t  i;

    if (policy->len == 0 || policy->len > NGX_HTTP_HOTPATH_LIMIT_POLICY) {
        return NGX_ERROR;
    }

    for (i = 0; i < policy->len; i++) {
        c = policy->data[i];

        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


void
ngx_http_hotpath_limit_merge(ngx_http_hotpath_limit_conf_t *prev,
    ngx_http_hotpath_limit_conf_t *conf)
{
    if (conf->limits == NULL) {
        conf->limits = prev->limits;
    }

    ngx_http_hotpath_inflight_merge(&prev->inflight, &conf->inflight);
}


ngx_int_t
ngx_http_hotpath_limit_check(ngx_http_request_t *r,
    ngx_http_hotpath_limit_conf_t *conf, ngx_uint_t *retry_s)
{
    ngx_int_t                          rc;
    ngx_pool_cleanup_t                *cln;
    ngx_http_hotpath_limit_cleanup_t  *held;

    if (r != r->main || (conf->limits == NULL && conf->inflight.bound == 0)) {
        return NGX_DECLINED;
    }

    /* Only after an internal redirect can it have been here before. */

    if (r->internal && ngx_http_hotpath_limit_seen(r) == NGX_OK) {
        return NGX_DECLINED;
    }

    cln = ngx_pool_cleanup_add(r->pool,
                               sizeof(ngx_http_hotpath_limit_cleanup_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_hotpath_limit_cleanup;
    held = cln->data;
    held->count = NULL;

    /* First, so that a request that is refused here took nothing from a rate.
     * This process counts itself in only after the rates have admitted; no
     * other request of this process comes between. */

    if (ngx_http_hotpath_inflight_full(&conf->inflight)) {
        *retry_s = NGX_HTTP_HOTPATH_INFLIGHT_RETRY_S;
        return NGX_AGAIN;
    }

    if (conf->limits) {
        rc = ngx_http_hotpath_limit_take(r, conf->limits, retry_s);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    held->count = ngx_http_hotpath_inflight_take(&conf->inflight);

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_limit_seen(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t  *cln;

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_hotpath_limit_cleanup) {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


static void
ngx_http_hotpath_limit_cleanup(void *data)
{
    ngx_http_hotpath_limit_cleanup_t  *held = data;

    if (held->count) {
        (*held->count)--;
    }
}


/*
 * All or nothing: every limit is looked up with its set locked, and only when
 * all of them admit is anything stored; then all locks are released. With one
 * order for all requests nobody waits in a circle.
 */

static ngx_int_t
ngx_http_hotpath_limit_take(ngx_http_request_t *r, ngx_array_t *limits,
    ngx_uint_t *retry_s)
{
    int64_t                        now_ns;
    ngx_int_t                      rc;
    ngx_uint_t                     i, n, admitted;
    ngx_http_hotpath_limit_t      *limit;
    ngx_http_hotpath_limit_try_t   tries[NGX_HTTP_HOTPATH_LIMIT_MAX], *t,
                                  *worst;

    n = 0;
    limit = limits->elts;

    for (i = 0; i < limits->nelts; i++) {
        tries[n].limit = &limit[i];

        rc = ngx_http_hotpath_limit_key(r, &tries[n]);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_OK) {
            n++;
        }
    }

    if (n == 0) {
        return NGX_OK;
    }

    /* A clock read before the locks can only be too strict, by what the wait
     * for them took. */

    now_ns = ngx_http_hotpath_monotonic_ns();
    admitted = 1;
    worst = NULL;

    for (i = 0; i < n; i++) {
        t = &tries[i];

        /* NGX_ABORT does not happen: dirty is never set here. */

        if (ngx_http_hotpath_lock(t->lock) == NGX_BUSY) {
            t->set = NULL;
            ngx_http_hotpath_count(LIMIT_BYPASSED);
            continue;
        }

        ngx_http_hotpath_limit_look_locked(t, now_ns);

        hp_rate_take(&t->zone->rate, &t->tat_ns, now_ns, &t->result);

        admitted &= (ngx_uint_t) t->result.admitted;

        if (worst == NULL
            || t->result.retry_ns > worst->result.retry_ns
            || (t->result.retry_ns == worst->result.retry_ns
                && (t->result.remaining < worst->result.remaining
                    || (t->result.remaining == worst->result.remaining
                        && t->result.reset_ns > worst->result.reset_ns))))
        {
            worst = t;
        }
    }

    for (i = 0; i < n; i++) {
        t = &tries[i];

        if (t->set == NULL) {
            continue;
        }

        if (admitted) {
            ngx_http_hotpath_limit_store_locked(t, now_ns);
        }

        ngx_http_hotpath_unlock(t->lock);
    }

    if (ngx_http_hotpath_limit_headers(r, tries, n, worst) != NGX_OK) {
        return NGX_ERROR;
    }

    if (admitted) {
        return NGX_OK;
    }

    ngx_http_hotpath_count(LIMIT_REJECTED);

    *retry_s = (ngx_uint_t)
                         ngx_http_hotpath_limit_seconds(worst->result.retry_ns);

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "limiting requests by zone \"%V\"",
                  &worst->limit->zone->shm.name);

    return NGX_BUSY;
}


/*
 * NGX_OK: the key, its hash, its set and lock are known. NGX_DECLINED: the key
 * is empty, this limit does not concern the request.
 */

static ngx_int_t
ngx_http_hotpath_limit_key(ngx_http_request_t *r,
    ngx_http_hotpath_limit_try_t *t)
{
    uint64_t                      index;
    hp_str_t                      text, none;
    ngx_str_t                     value;
    ngx_http_hotpath_limit_sh_t  *sh;

    t->zone = t->limit->zone->data;
    sh = t->zone->sh;

    if (ngx_http_complex_value(r, &t->zone->key, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    if (value.len == 0) {
        return NGX_DECLINED;
    }

    if (value.len <= NGX_HTTP_HOTPATH_LIMIT_KEY) {
        t->key.len = (u_char) value.len;
        ngx_memcpy(t->key.data, value.data, value.len);
        t->hash = hp_hash64(value.data, value.len, sh->seed ^ t->zone->seed);

    } else {
        none.data = NULL;
        none.len = 0;
        text.data = value.data;
        text.len = value.len;

        t->key.len = NGX_HTTP_HOTPATH_LIMIT_DIGEST;
        hp_fingerprint(t->key.data, none, text);
        t->hash = hp_hash64(t->key.data, HP_FINGERPRINT_SIZE,
                            sh->seed ^ t->zone->seed);
    }

    index = t->hash % sh->count;

    t->set = &sh->sets[index];
    t->lock = &sh->locks[index % NGX_HTTP_HOTPATH_LIMIT_LOCKS];

    return NGX_OK;
}


/*
 * Finds the slot of the key, or the one it is to take, and its time. A slot of
 * its own is used even when its time has passed: another worker's clock reading
 * may be a little older, and must not find the key twice.
 */

static void
ngx_http_hotpath_limit_look_locked(ngx_http_hotpath_limit_try_t *t,
    int64_t now_ns)
{
    size_t                         len;
    int64_t                        most_ns;
    ngx_uint_t                     i, soonest;
    ngx_http_hotpath_limit_set_t  *set;

    set = t->set;
    soonest = 0;

    len = ngx_http_hotpath_limit_key_size(&t->key);

    for (i = 0; i < NGX_HTTP_HOTPATH_LIMIT_WAYS; i++) {

        if (set->hash[i] == t->hash
            && set->key[i].len == t->key.len
            && ngx_memcmp(set->key[i].data, t->key.data, len) == 0)
        {
            t->way = i;
            t->found = 1;
            t->tat_ns = set->tat_ns[i];

            /* Further ahead than this rate ever gets: from before a reload
             * that made the rate higher or the burst smaller. Stored even if
             * the request is refused, else time would never get there. */

            most_ns = now_ns + t->zone->rate.tolerance_ns
                      + t->zone->rate.interval_ns;

            if (t->tat_ns > most_ns) {
                t->tat_ns = most_ns;
                set->tat_ns[i] = most_ns;
            }

            return;
        }

        if (set->tat_ns[i] < set->tat_ns[soonest]) {
            soonest = i;
        }
    }

    t->way = soonest;
    t->found = 0;
    t->tat_ns = 0;
}


static void
ngx_http_hotpath_limit_store_locked(ngx_http_hotpath_limit_try_t *t,
    int64_t now_ns)
{
    ngx_uint_t                     way;
    ngx_http_hotpath_limit_set_t  *set;

    set = t->set;
    way = t->way;

    if (!t->found) {

        if (set->tat_ns[way] > now_ns) {
            ngx_http_hotpath_count(LIMIT_FORCED);
        }

        set->tat_ns[way] = 0;

        ngx_memory_barrier();

        set->hash[way] = t->hash;
        set->key[way].len = t->key.len;
        ngx_memcpy(set->key[way].data, t->key.data,
                   ngx_http_hotpath_limit_key_size(&t->key));

        ngx_memory_barrier();
    }

    set->tat_ns[way] = t->tat_ns;
}


/*
 * RateLimit-Policy names every limit that concerned the request, RateLimit the
 * one that leaves the client least; where it was refused, for as long as
 * Retry-After says.
 */

static ngx_int_t
ngx_http_hotpath_limit_headers(ngx_http_request_t *r,
    ngx_http_hotpath_limit_try_t *tries, ngx_uint_t n,
    ngx_http_hotpath_limit_try_t *worst)
{
    u_char           *p, *last;
    size_t            size;
    int64_t           until_ns;
    ngx_uint_t        i;
    ngx_table_elt_t  *policy, *limit;

    size = sizeof("\"\";r=;t=") + 2 * NGX_INT64_LEN
           + NGX_HTTP_HOTPATH_LIMIT_POLICY;

    for (i = 0; i < n; i++) {
        size += sizeof("\"\";q=;w=, ") + 2 * NGX_INT64_LEN
                + tries[i].limit->policy.len;
    }

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    last = p + size;

    policy = ngx_list_push(&r->headers_out.headers);
    if (policy == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(policy, sizeof(ngx_table_elt_t));
    policy->hash = 1;
    ngx_str_set(&policy->key, "RateLimit-Policy");
    policy->lowcase_key = (u_char *) "ratelimit-policy";
    policy->value.data = p;

    for (i = 0; i < n; i++) {
        p = ngx_slprintf(p, last, "%s\"%V\";q=%uL;w=%uL", i ? ", " : "",
                         &tries[i].limit->policy, tries[i].zone->quota,
                         tries[i].zone->window_s);
    }

    policy->value.len = p - policy->value.data;

    if (worst == NULL) {
        return NGX_OK;
    }

    limit = ngx_list_push(&r->headers_out.headers);
    if (limit == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(limit, sizeof(ngx_table_elt_t));
    limit->hash = 1;
    ngx_str_set(&limit->key, "RateLimit");
    limit->lowcase_key = (u_char *) "ratelimit";
    limit->value.data = p;

    until_ns = worst->result.admitted ? worst->result.reset_ns
                                      : worst->result.retry_ns;

    p = ngx_slprintf(p, last, "\"%V\";r=%uL;t=%uL", &worst->limit->policy,
                     worst->result.remaining,
                     ngx_http_hotpath_limit_seconds(until_ns));

    limit->value.len = p - limit->value.data;

    return NGX_OK;
}


static uint64_t
ngx_http_hotpath_limit_seconds(int64_t ns)
{
    return ((uint64_t) ns + NGX_HTTP_HOTPATH_SECOND_NS - 1)
           / NGX_HTTP_HOTPATH_SECOND_NS;
}


static size_t
ngx_http_hotpath_limit_key_size(ngx_http_hotpath_limit_key_t *key)
{
    return key->len == NGX_HTTP_HOTPATH_LIMIT_DIGEST ? HP_FINGERPRINT_SIZE
                                                     : key->len;
}
