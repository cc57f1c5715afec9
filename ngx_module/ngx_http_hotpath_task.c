/*
 * ngx_http_hotpath_task.c: what others ask of this instance, over NATS.
 *
 * The first worker listens for the instance, to two subjects: on
 * <prefix>.purge another instance tells all of them what leaves their zones,
 * and is told what became of it; on <prefix>.purge.run whoever wants something
 * purged everywhere asks one of them, whichever NATS picks, to see to it. While
 * it lasts, whoever asked is told so every half second. Whoever did not listen
 * may have missed a purge: when the connection is lost, and when it is back,
 * all zones are distrusted.
 *
 * Owns the tasks, each in a pool of its own; purge and fanout bound how many
 * there are. Runs in the event loop with no lock held. Never in here: trust in
 * what a message says (core/hp_fleet.c, core/hp_purge.c). Tests:
 * tests/integration/test_purge.py, tests/faults/test_purging.py.
 */


#include "ngx_http_hotpath_task.h"
#include "ngx_http_hotpath_fanout.h"
#include "ngx_http_hotpath_fleet.h"
#include "ngx_http_hotpath_purge.h"


/* How long other instances may say nothing. */
#define NGX_HTTP_HOTPATH_TASK_SILENCE_MS  2000


/* What somebody else waits for: a part of a purge, or a whole one. */
typedef struct {
    ngx_pool_t                    *pool;
    ngx_http_hotpath_main_conf_t  *mcf;
    ngx_str_t                      reply;       /* empty: nobody listens */
    ngx_str_t                      id;
    ngx_event_t                    timer;
} ngx_http_hotpath_task_t;


static void ngx_http_hotpath_task_state(void *data, ngx_uint_t up);
static void ngx_http_hotpath_task_asked(void *data, hp_nats_op_t *op);
static void ngx_http_hotpath_task_done(void *data,
    ngx_http_hotpath_purged_t *purged);
static void ngx_http_hotpath_task_sign(ngx_event_t *ev);
static void ngx_http_hotpath_task_tell(ngx_http_hotpath_task_t *task,
    ngx_http_hotpath_purged_t *purged, ngx_uint_t done);
static void ngx_http_hotpath_task_run(void *data, hp_nats_op_t *op);
static void ngx_http_hotpath_task_run_done(void *data, ngx_str_t *answer,
    ngx_uint_t complete);
static ngx_http_hotpath_task_t *ngx_http_hotpath_task_create(
    ngx_http_hotpath_main_conf_t *mcf, hp_str_t reply, hp_str_t id);


static ngx_str_t  ngx_http_hotpath_task_subject;
static ngx_str_t  ngx_http_hotpath_task_none = ngx_null_string;


ngx_int_t
ngx_http_hotpath_task_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf)
{
    u_char     *p;
    ngx_str_t   run;

    if (mcf->client == NULL || ngx_worker != 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(cycle->pool, 2 * mcf->subject.len
                                 + sizeof(".purge.purge.run purge"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_http_hotpath_task_subject.data = p;
    p = ngx_sprintf(p, "%V.purge", &mcf->subject);
    ngx_http_hotpath_task_subject.len = p - ngx_http_hotpath_task_subject.data;

    /* of the instances in the queue group one gets each */
    run.data = p;
    run.len = ngx_sprintf(p, "%V.purge.run purge", &mcf->subject) - p;

    if (ngx_http_hotpath_nats_subscribe(mcf->client, &run,
                                        ngx_http_hotpath_task_run, mcf)
        != NGX_OK
        || ngx_http_hotpath_nats_subscribe(mcf->client,
                                           &ngx_http_hotpath_task_subject,
                                           ngx_http_hotpath_task_asked, mcf)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_nats_on_state(mcf->client,
                                          ngx_http_hotpath_task_state, mcf);
}


static void
ngx_http_hotpath_task_state(void *data, ngx_uint_t up)
{
    ngx_uint_t                 n;
    ngx_http_hotpath_cache_t  *cache;

    for (n = 0; /* void */ ; n++) {

        cache = ngx_http_hotpath_cache_each((ngx_cycle_t *) ngx_cycle, n);
        if (cache == NULL) {
            return;
        }

        ngx_http_hotpath_cache_distrust(cache);
    }
}


/* Another instance's purge: our zones. */

static void
ngx_http_hotpath_task_asked(void *data, hp_nats_op_t *op)
{
    ngx_http_hotpath_main_conf_t *mcf = data;

    u_char                     *scratch;
    ngx_int_t                   rc;
    ngx_str_t                  *self;
    hp_purge_t                  purge;
    hp_purge_ask_t              ask;
    ngx_http_hotpath_task_t    *task;
    ngx_http_hotpath_purged_t   purged;

    if (hp_purge_ask_read(&ask, op->payload) != 0) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "hotpath: a message on \"%V\" is no purge",
                      &ngx_http_hotpath_task_subject);
        return;
    }

    self = ngx_http_hotpath_fleet_self();

    if (ask.from.len == self->len
        && ngx_memcmp(ask.from.data, self->data, self->len) == 0)
    {
        /* another worker of this instance is at it */
        return;
    }

    if (ngx_http_hotpath_fleet_succeeded()) {
        return;
    }

    task = ngx_http_hotpath_task_create(mcf, op->reply, ask.id);
    if (task == NULL) {
        return;
    }

    rc = NGX_ERROR;
    scratch = ngx_alloc(ask.purge.len, ngx_cycle->log);

    if (scratch) {
        rc = NGX_DECLINED;

        if (hp_purge_read(&purge, ask.purge, scratch) == HP_PURGE_OK) {
            rc = ngx_http_hotpath_purge_begin(mcf, &purge,
                                              NGX_HTTP_HOTPATH_PURGE_ZONES,
                                              ngx_http_hotpath_task_done,
                                              task);
        }

        ngx_free(scratch);
    }

    if (rc == NGX_OK) {
        task->timer.handler = ngx_http_hotpath_task_sign;
        ngx_add_timer(&task->timer, NGX_HTTP_HOTPATH_FANOUT_SIGN_MS);
        return;
    }

    ngx_memzero(&purged, sizeof(ngx_http_hotpath_purged_t));
    purged.error = rc == NGX_BUSY ? NGX_HTTP_HOTPATH_PURGE_BUSY
                 : rc == NGX_DECLINED ? "refused"
                 : "no_memory";

    ngx_http_hotpath_task_tell(task, &purged, 1);
    ngx_destroy_pool(task->pool);
}


static void
ngx_http_hotpath_task_done(void *data, ngx_http_hotpath_purged_t *purged)
{
    ngx_http_hotpath_task_t *task = data;

    ngx_del_timer(&task->timer);
    ngx_http_hotpath_task_tell(task, purged, 1);
    ngx_destroy_pool(task->pool);
}


static void
ngx_http_hotpath_task_sign(ngx_event_t *ev)
{
    ngx_http_hotpath_task_t *task = ev->data;

    ngx_http_hotpath_purged_t  none;

    ngx_memzero(&none, sizeof(ngx_http_hotpath_purged_t));

    ngx_http_hotpath_task_tell(task, &none, 0);
    ngx_add_timer(&task->timer, NGX_HTTP_HOTPATH_FANOUT_SIGN_MS);
}


static void
ngx_http_hotpath_task_tell(ngx_http_hotpath_task_t *task,
    ngx_http_hotpath_purged_t *purged, ngx_uint_t done)
{
    u_char     *p, text[HP_INSTANCE_MAX + 256];
    ngx_str_t   payload;

    if (task->reply.len == 0) {
        return;
    }

    p = ngx_sprintf(text, "{\"id\":\"%V\",\"instance\":\"%V\",\"done\":%s,"
                    "\"purged\":%uL,\"redis\":%uL", &task->id,
                    ngx_http_hotpath_fleet_self(), done ? "true" : "false",
                    purged->purged, purged->redis);

    if (purged->error) {
        p = ngx_sprintf(p, ",\"error\":\"%s\"", purged->error);
    }

    *p++ = '}';

    payload.data = text;
    payload.len = p - text;

    /* where it cannot be sent, whoever asked misses it */
    (void) ngx_http_hotpath_nats_publish(task->mcf->client, &task->reply,
                                         &ngx_http_hotpath_task_none,
                                         &payload, 1);
}


/* Somebody's purge over all instances: this one sees to it. */

static void
ngx_http_hotpath_task_run(void *data, hp_nats_op_t *op)
{
    ngx_http_hotpath_main_conf_t *mcf = data;

    u_char                     *p, *scratch, text[64];
    hp_str_t                    none;
    ngx_int_t                   rc;
    ngx_str_t                   payload;
    hp_purge_t                  purge;
    const char                 *error;
    hp_purge_status_t           status;
    ngx_http_hotpath_task_t    *task;
    ngx_http_hotpath_fanout_t  *fanout;

    none.data = NULL;
    none.len = 0;

    task = ngx_http_hotpath_task_create(mcf, op->reply, none);
    if (task == NULL) {
        return;
    }

    error = "no_memory";
    scratch = ngx_alloc(op->payload.len + 1, ngx_cycle->log);

    if (scratch) {
        status = hp_purge_read(&purge, op->payload, scratch);

        if (status != HP_PURGE_OK) {
            error = hp_purge_code(&purge, status);

        } else {
            rc = ngx_http_hotpath_fanout_begin(mcf, op->payload, &purge,
                                        NGX_HTTP_HOTPATH_TASK_SILENCE_MS,
                                        ngx_http_hotpath_task_run_done, task,
                                        &fanout);

            error = rc == NGX_OK ? NULL
                  : rc == NGX_BUSY ? NGX_HTTP_HOTPATH_PURGE_BUSY
                  : error;
        }

        ngx_free(scratch);
    }

    if (error == NULL) {
        return;
    }

    ngx_http_hotpath_count(PURGE_REFUSED);

    if (task->reply.len) {
        p = ngx_sprintf(text, "{\"error\":\"%s\"}", error);

        payload.data = text;
        payload.len = p - text;

        (void) ngx_http_hotpath_nats_publish(mcf->client, &task->reply,
                                             &ngx_http_hotpath_task_none,
                                             &payload, 1);
    }

    ngx_destroy_pool(task->pool);
}


static void
ngx_http_hotpath_task_run_done(void *data, ngx_str_t *answer,
    ngx_uint_t complete)
{
    ngx_http_hotpath_task_t *task = data;

    static ngx_str_t  running = ngx_string("{\"running\":true}");

    if (task->reply.len) {
        (void) ngx_http_hotpath_nats_publish(task->mcf->client, &task->reply,
                                             &ngx_http_hotpath_task_none,
                                             answer ? answer : &running, 1);
    }

    if (answer) {
        ngx_destroy_pool(task->pool);
    }
}


static ngx_http_hotpath_task_t *
ngx_http_hotpath_task_create(ngx_http_hotpath_main_conf_t *mcf, hp_str_t reply,
    hp_str_t id)
{
    u_char                   *p;
    ngx_pool_t               *pool;
    ngx_http_hotpath_task_t  *task;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    task = ngx_pcalloc(pool, sizeof(ngx_http_hotpath_task_t));
    p = ngx_pnalloc(pool, reply.len + id.len + 1);

    if (task == NULL || p == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    task->pool = pool;
    task->mcf = mcf;
    task->timer.data = task;
    task->timer.log = ngx_cycle->log;

    task->reply.data = p;
    task->reply.len = reply.len;

    if (reply.len) {
        p = ngx_cpymem(p, reply.data, reply.len);
    }

    task->id.data = p;
    task->id.len = id.len;

    if (id.len) {
        ngx_memcpy(p, id.data, id.len);
    }

    return task;
}
