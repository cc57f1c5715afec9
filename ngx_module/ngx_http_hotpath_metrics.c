/*
 * ngx_http_hotpath_metrics.c: the instance's counters and gauges, and their
 * text.
 *
 * One zone holds a row for every process slot that nginx can have. A worker
 * writes to the row of its own slot only, so adding is one increment of plain
 * memory; a scrape reads all rows that were ever in use. The zone belongs to
 * nginx, the text buffer to the pool it was made in.
 *
 * A new worker in a used slot goes on counting where the dead one stopped;
 * gauges start at zero, and a dead worker's are not summed. The zone's tag is
 * an address in this very module, and its size follows from the table below:
 * nginx keeps the zone over a reload, and starts a fresh one (all counters at
 * zero) for a module file with another table, so that two tables never share
 * a row.
 *
 * Counting must never lock, allocate or make a system call. Reference:
 * README.md, "Metrics"; tested by tests/integration/test_gate.py.
 */
#include "ngx_http_hotpath_metrics.h"
#include <signal.h>


#define NGX_HTTP_HOTPATH_METRICS_MAGIC   0x43495254454d5048ULL /* HPMETRIC */
#define NGX_HTTP_HOTPATH_METRICS_LAYOUT  1

#define NGX_HTTP_HOTPATH_METRIC_COUNTER  0
#define NGX_HTTP_HOTPATH_METRIC_GAUGE    1

/* 20 digits of a value, quotes, braces, spaces and line ends. */
#define NGX_HTTP_HOTPATH_METRIC_EXTRA    64


typedef struct {
    ngx_str_t     name;
    ngx_str_t     labels;
    ngx_str_t     help;
    ngx_uint_t    kind;
} ngx_http_hotpath_metric_t;


/*
 * pid: of the process that writes the row; written by it, at its start; 0: the
 * row was never used. value: written by that process only, without a lock; a
 * counter is never set back, a gauge is set to zero at start.
 */
typedef struct {
    ngx_atomic_t  pid;
    uint64_t      value[NGX_HTTP_HOTPATH_METRIC_N];
} __attribute__((aligned(NGX_HTTP_HOTPATH_CACHE_LINE)))
  ngx_http_hotpath_metrics_row_t;


/*
 * rows_used: one more than the highest slot that ever wrote, 0 to
 * NGX_MAX_PROCESSES; raised by a starting process, by compare-and-swap.
 */
typedef struct {
    ngx_http_hotpath_region_t       region;
    ngx_atomic_t                    rows_used;
    ngx_http_hotpath_metrics_row_t  rows[NGX_MAX_PROCESSES];
} ngx_http_hotpath_metrics_sh_t;


static ngx_int_t ngx_http_hotpath_metrics_init_zone(ngx_shm_zone_t *zone,
    void *data);
static ngx_uint_t ngx_http_hotpath_metrics_alive(ngx_pid_t pid);


#define NGX_HTTP_HOTPATH_METRIC_ROW(symbol, kind, name, labels, help)         \
    { ngx_string(name), ngx_string(labels), ngx_string(help),                 \
      NGX_HTTP_HOTPATH_METRIC_##kind },

static ngx_http_hotpath_metric_t  ngx_http_hotpath_metrics_table[] = {
    NGX_HTTP_HOTPATH_METRICS(NGX_HTTP_HOTPATH_METRIC_ROW)
};


static ngx_str_t  ngx_http_hotpath_metrics_zone_name =
    ngx_string("hotpath_metrics");

/* Where a process counts that has no row in the zone; shown by nobody. */
static uint64_t  ngx_http_hotpath_metrics_private[NGX_HTTP_HOTPATH_METRIC_N];

/*
 * Set while a configuration is read. It may be static: with this zone's fixed
 * tag, name and size every later configuration gets the very same memory.
 */
static ngx_http_hotpath_metrics_sh_t  *ngx_http_hotpath_metrics_sh;

uint64_t  *ngx_http_hotpath_metrics_row = ngx_http_hotpath_metrics_private;


ngx_int_t
ngx_http_hotpath_metrics_init(ngx_conf_t *cf)
{
    size_t           size;
    ngx_shm_zone_t  *zone;

    /* With what nginx's slab pool keeps for itself: less than 1/64. */

    size = sizeof(ngx_http_hotpath_metrics_sh_t);
    size += size / 64 + 8 * ngx_pagesize;

    zone = ngx_shared_memory_add(cf, &ngx_http_hotpath_metrics_zone_name,
                                 size, &ngx_http_hotpath_metrics_table);
    if (zone == NULL) {
        return NGX_ERROR;
    }

    zone->init = ngx_http_hotpath_metrics_init_zone;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_metrics_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_uint_t                      fresh;
    ngx_http_hotpath_metrics_sh_t  *sh;

    sh = ngx_http_hotpath_region_init(zone, NGX_HTTP_HOTPATH_METRICS_MAGIC,
                                      NGX_HTTP_HOTPATH_METRICS_LAYOUT, &fresh);
    if (sh == NULL) {
        return NGX_ERROR;
    }

    if (sh->region.size < sizeof(ngx_http_hotpath_metrics_sh_t)) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "shared memory zone \"%V\" is too small",
                      &zone->shm.name);
        return NGX_ERROR;
    }

    ngx_http_hotpath_metrics_sh = sh;
    zone->data = sh;

    return NGX_OK;
}


void
ngx_http_hotpath_metrics_start(ngx_cycle_t *cycle)
{
    ngx_uint_t                       i;
    ngx_atomic_uint_t                used;
    ngx_http_hotpath_metrics_sh_t   *sh;
    ngx_http_hotpath_metrics_row_t  *row;

    sh = ngx_http_hotpath_metrics_sh;

    /* Without an http block there is no zone, whatever a configuration that
     * was refused since may have left here. */

    if (sh == NULL || ngx_get_conf(cycle->conf_ctx, ngx_http_module) == NULL) {
        return;
    }

    row = &sh->rows[ngx_process_slot];

    for (i = 0; i < NGX_HTTP_HOTPATH_METRIC_N; i++) {
        if (ngx_http_hotpath_metrics_table[i].kind
            == NGX_HTTP_HOTPATH_METRIC_GAUGE)
        {
            row->value[i] = 0;
        }
    }

    ngx_memory_barrier();

    row->pid = (ngx_atomic_uint_t) ngx_pid;

    do {
        used = sh->rows_used;

    } while (used <= (ngx_atomic_uint_t) ngx_process_slot
             && !ngx_atomic_cmp_set(&sh->rows_used, used,
                                    (ngx_atomic_uint_t) ngx_process_slot + 1));

    ngx_http_hotpath_metrics_row = row->value;
}


uint64_t
ngx_http_hotpath_metric_sum(ngx_uint_t metric)
{
    uint64_t                         sum, value;
    ngx_uint_t                       i, n;
    ngx_http_hotpath_metrics_sh_t   *sh;
    ngx_http_hotpath_metrics_row_t  *row;

    sh = ngx_http_hotpath_metrics_sh;

    if (sh == NULL) {
        return ngx_http_hotpath_metrics_private[metric];
    }

    sum = 0;
    n = sh->rows_used;

    for (i = 0; i < n; i++) {
        row = &sh->rows[i];
        value = *(volatile uint64_t *) &row->value[metric];

        if (value == 0) {
            continue;
        }

        if (ngx_http_hotpath_metrics_table[metric].kind
                == NGX_HTTP_HOTPATH_METRIC_GAUGE
            && !ngx_http_hotpath_metrics_alive((ngx_pid_t) row->pid))
        {
            continue;
        }

        sum += value;
    }

    return sum;
}


static ngx_uint_t
ngx_http_hotpath_metrics_alive(ngx_pid_t pid)
{
    return kill(pid, 0) == 0 || ngx_errno != NGX_ESRCH;
}


ngx_buf_t *
ngx_http_hotpath_metrics_text(ngx_pool_t *pool, ngx_uint_t openmetrics,
    size_t room)
{
    u_char                     *p;
    size_t                      size;
    ngx_buf_t                  *b;
    ngx_uint_t                  i;
    ngx_http_hotpath_metric_t  *m, *previous;

    size = room + sizeof("# EOF\n");

    for (i = 0; i < NGX_HTTP_HOTPATH_METRIC_N; i++) {
        m = &ngx_http_hotpath_metrics_table[i];
        size += 3 * m->name.len + m->labels.len + m->help.len
                + NGX_HTTP_HOTPATH_METRIC_EXTRA;
    }

    b = ngx_create_temp_buf(pool, size);
    if (b == NULL) {
        return NULL;
    }

    p = b->last;
    previous = NULL;

    for (i = 0; i < NGX_HTTP_HOTPATH_METRIC_N; i++) {
        m = &ngx_http_hotpath_metrics_table[i];

        if (previous == NULL
            || previous->name.len != m->name.len
            || ngx_memcmp(previous->name.data, m->name.data, m->name.len) != 0)
        {
            p = ngx_http_hotpath_metrics_head(p, b->end, &m->name,
                                   m->kind == NGX_HTTP_HOTPATH_METRIC_COUNTER,
                                   &m->help, openmetrics);
        }

        p = ngx_slprintf(p, b->end, m->labels.len ? "%V{%V} %uL\n"
                                                  : "%V%V %uL\n",
                         &m->name, &m->labels, ngx_http_hotpath_metric_sum(i));
        previous = m;
    }

    b->last = p;

    return b;
}


u_char *
ngx_http_hotpath_metrics_head(u_char *p, u_char *last, ngx_str_t *name,
    ngx_uint_t counter, ngx_str_t *help, ngx_uint_t openmetrics)
{
    ngx_str_t  family;

    /* OpenMetrics names the family of a counter without the _total that its
     * sample carries */

    family = *name;

    if (openmetrics && counter) {
        family.len -= sizeof("_total") - 1;
    }

    return ngx_slprintf(p, last, "# HELP %V %V\n# TYPE %V %s\n", &family, help,
                        &family, counter ? "counter" : "gauge");
}
