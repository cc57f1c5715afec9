/*
 * ngx_http_hotpath_inflight.c: bounds on requests in flight over all workers.
 *
 * Owns the zone "hotpath_inflight", which nginx frees with its cycle: a row for
 * every process slot, a counter in it for every hotpath_inflight. A worker
 * writes its own row and reads those of the others, without a lock; the cost of
 * a request grows with the number of workers and with nothing else. Runs in
 * workers, in the preaccess phase; the caller gives back what it took.
 *
 * Nothing here may wait, and no count may stay behind when its process dies.
 *
 * Reference: README.md, "Gate"; tested by tests/integration/test_gate.py.
 */
#include "ngx_http_hotpath_inflight.h"
#include "ngx_http_hotpath_metrics.h"
#include "core/hp_id.h"
#include <signal.h>


#define NGX_HTTP_HOTPATH_INFLIGHT_MAGIC    0x544847494c465048ULL /* HPFLIGHT */
#define NGX_HTTP_HOTPATH_INFLIGHT_LAYOUT   1
#define NGX_HTTP_HOTPATH_INFLIGHT_MAX      60  /* rows of four cache lines */
#define NGX_HTTP_HOTPATH_INFLIGHT_DEAD_MS  1000


/*
 * Requests in flight that one process holds. All fields are written by that
 * process, without a lock; others read them; pid is also set to 0, by
 * compare-and-swap, by whoever finds its process dead, and then the row counts
 * for nothing. config says by which configuration's numbering the counts are:
 * old and new workers add up over a reload that left the hotpath_inflight
 * directives as they were, and not otherwise. counts[i] is that of id i + 1.
 */
typedef struct {
    ngx_atomic_t                       pid;
    uint64_t                           config;
    uint32_t                           counts[NGX_HTTP_HOTPATH_INFLIGHT_MAX];
} __attribute__((aligned(NGX_HTTP_HOTPATH_CACHE_LINE)))
  ngx_http_hotpath_inflight_row_t;


/* rows_used: one more than the highest process slot that ever had a row;
 * raised by starting processes, by compare-and-swap. */
typedef struct {
    ngx_http_hotpath_region_t          region;
    ngx_atomic_t                       rows_used;
    ngx_http_hotpath_inflight_row_t    rows[NGX_MAX_PROCESSES];
} ngx_http_hotpath_inflight_sh_t;


/* The directives of one configuration: data of the in-flight zone. */
typedef struct {
    ngx_http_hotpath_inflight_sh_t    *sh;
    ngx_uint_t                         last_id;
    uint64_t                           config;
} ngx_http_hotpath_inflight_zone_t;


static ngx_int_t ngx_http_hotpath_inflight_init_zone(ngx_shm_zone_t *zone,
    void *data);
static ngx_shm_zone_t *ngx_http_hotpath_inflight_zone(ngx_cycle_t *cycle);
static ngx_uint_t ngx_http_hotpath_inflight_sum(ngx_uint_t id);


static ngx_str_t  ngx_http_hotpath_inflight_zone_name =
    ngx_string("hotpath_inflight");

/* Its address tells nginx which zone is this room's. */
static u_char  ngx_http_hotpath_inflight_tag;

/* Of this process, set when it starts; NULL: no bound in its configuration. */
static ngx_http_hotpath_inflight_sh_t   *ngx_http_hotpath_inflight_sh;
static ngx_http_hotpath_inflight_row_t  *ngx_http_hotpath_inflight_row;
static ngx_msec_t                        ngx_http_hotpath_inflight_checked;


char *
ngx_http_hotpath_inflight_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_inflight_conf_t  *icf;

    ngx_int_t                          n;
    ngx_str_t                         *value;
    ngx_shm_zone_t                    *shm_zone;
    ngx_http_core_loc_conf_t          *clcf;
    ngx_http_hotpath_inflight_zone_t  *zone;

    icf = (ngx_http_hotpath_inflight_conf_t *)
                                          ((u_char *) conf + cmd->offset);

    if (icf->id) {
        return "is duplicate";
    }

    value = cf->args->elts;

    n = ngx_atoi(value[1].data, value[1].len);

    if (n == NGX_ERROR) {
        return "invalid number";
    }

    shm_zone = ngx_shared_memory_add(cf, &ngx_http_hotpath_inflight_zone_name,
                                     0, &ngx_http_hotpath_inflight_tag);
    if (shm_zone == NULL) {
        return NGX_CONF_ERROR;
    }

    zone = shm_zone->data;

    if (zone == NULL) {
        zone = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_inflight_zone_t));
        if (zone == NULL) {
            return NGX_CONF_ERROR;
        }

        shm_zone->data = zone;
    }

    if (zone->last_id == NGX_HTTP_HOTPATH_INFLIGHT_MAX) {
        return "is used more than 60 times";
    }

    /* The numbering is told apart by where its directives stand, not by their
     * bounds: a bound changed at reload goes on with what is in flight. */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    zone->config = hp_hash64(clcf->name.data, clcf->name.len,
                             zone->config + 1);

    icf->id = ++zone->last_id;
    icf->bound = n;

    return NGX_CONF_OK;
}


void
ngx_http_hotpath_inflight_merge(ngx_http_hotpath_inflight_conf_t *prev,
    ngx_http_hotpath_inflight_conf_t *conf)
{
    if (conf->id == 0) {
        *conf = *prev;
    }
}


ngx_int_t
ngx_http_hotpath_inflight_init(ngx_conf_t *cf)
{
    size_t           size;
    ngx_shm_zone_t  *zone;

    zone = ngx_http_hotpath_inflight_zone(cf->cycle);

    if (zone == NULL) {
        return NGX_OK;
    }

    /* With what nginx's slab pool keeps for itself: less than 1/64. */

    size = sizeof(ngx_http_hotpath_inflight_sh_t);

    zone->shm.size = ngx_align(size + size / 64 + 8 * ngx_pagesize,
                               ngx_pagesize);
    zone->init = ngx_http_hotpath_inflight_init_zone;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_inflight_init_zone(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_uint_t                         fresh;
    ngx_http_hotpath_inflight_sh_t    *sh;
    ngx_http_hotpath_inflight_zone_t  *zone;

    zone = shm_zone->data;

    sh = ngx_http_hotpath_region_init(shm_zone,
                                      NGX_HTTP_HOTPATH_INFLIGHT_MAGIC,
                                      NGX_HTTP_HOTPATH_INFLIGHT_LAYOUT, &fresh);
    if (sh == NULL) {
        return NGX_ERROR;
    }

    if (sh->region.size < sizeof(ngx_http_hotpath_inflight_sh_t)) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "shared memory zone \"%V\" is too small",
                      &shm_zone->shm.name);
        return NGX_ERROR;
    }

    zone->sh = sh;

    return NGX_OK;
}


/* The in-flight zone of a cycle, or NULL where no location wants one. */

static ngx_shm_zone_t *
ngx_http_hotpath_inflight_zone(ngx_cycle_t *cycle)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_shm_zone_t   *zone;

    for (part = &cycle->shared_memory.part; part; part = part->next) {
        zone = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (zone[i].tag == &ngx_http_hotpath_inflight_tag) {
                return &zone[i];
            }
        }
    }

    return NULL;
}


void
ngx_http_hotpath_inflight_start(ngx_cycle_t *cycle)
{
    ngx_shm_zone_t                    *shm_zone;
    ngx_atomic_uint_t                  used, slot;
    ngx_http_hotpath_inflight_sh_t    *sh;
    ngx_http_hotpath_inflight_row_t   *row;
    ngx_http_hotpath_inflight_zone_t  *zone;

    shm_zone = ngx_http_hotpath_inflight_zone(cycle);

    if (shm_zone == NULL) {
        return;
    }

    zone = shm_zone->data;
    sh = zone->sh;
    slot = ngx_process_slot;
    row = &sh->rows[slot];

    ngx_memzero(row->counts, sizeof(row->counts));
    row->config = zone->config;

    ngx_memory_barrier();

    row->pid = (ngx_atomic_uint_t) ngx_pid;

    do {
        used = sh->rows_used;

    } while (used <= slot
             && !ngx_atomic_cmp_set(&sh->rows_used, used, slot + 1));

    ngx_http_hotpath_inflight_sh = sh;
    ngx_http_hotpath_inflight_row = row;
}


/*
 * Whether as many are in flight as may be. Workers that ask at the same moment
 * do not see one another, so the bound may be passed for a moment, by less than
 * the number of workers. Before refusing, but at most once a second, rows of
 * dead processes are taken out: those of workers that were killed and not
 * replaced, such as old ones after a reload.
 */

ngx_uint_t
ngx_http_hotpath_inflight_full(ngx_http_hotpath_inflight_conf_t *conf)
{
    ngx_uint_t                        i;
    ngx_atomic_uint_t                 pid;
    ngx_http_hotpath_inflight_row_t  *row;

    /* Without a row only where there are no workers ("master_process off") and
     * the bound came with a reload. */

    if (conf->bound == 0 || ngx_http_hotpath_inflight_row == NULL
        || ngx_http_hotpath_inflight_sum(conf->id) < conf->bound)
    {
        return 0;
    }

    if (ngx_current_msec - ngx_http_hotpath_inflight_checked
        < NGX_HTTP_HOTPATH_INFLIGHT_DEAD_MS)
    {
        goto full;
    }

    ngx_http_hotpath_inflight_checked = ngx_current_msec;

    for (i = 0; i < ngx_http_hotpath_inflight_sh->rows_used; i++) {
        row = &ngx_http_hotpath_inflight_sh->rows[i];
        pid = row->pid;

        if (pid != 0 && kill((ngx_pid_t) pid, 0) == -1
            && ngx_errno == NGX_ESRCH)
        {
            (void) ngx_atomic_cmp_set(&row->pid, pid, 0);
        }
    }

    if (ngx_http_hotpath_inflight_sum(conf->id) < conf->bound) {
        return 0;
    }

full:

    ngx_http_hotpath_count(INFLIGHT_REJECTED);

    return 1;
}


uint32_t *
ngx_http_hotpath_inflight_take(ngx_http_hotpath_inflight_conf_t *conf)
{
    uint32_t  *count;

    if (conf->bound == 0 || ngx_http_hotpath_inflight_row == NULL) {
        return NULL;
    }

    count = &ngx_http_hotpath_inflight_row->counts[conf->id - 1];
    (*count)++;

    return count;
}


static ngx_uint_t
ngx_http_hotpath_inflight_sum(ngx_uint_t id)
{
    ngx_uint_t                        i, n, sum;
    ngx_http_hotpath_inflight_row_t  *row, *own;

    sum = 0;
    own = ngx_http_hotpath_inflight_row;
    n = ngx_http_hotpath_inflight_sh->rows_used;

    for (i = 0; i < n; i++) {
        row = &ngx_http_hotpath_inflight_sh->rows[i];

        if (row->pid != 0 && row->config == own->config) {
            sum += *(volatile uint32_t *) &row->counts[id - 1];
        }
    }

    return sum;
}
