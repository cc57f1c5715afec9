/*
 * ngx_http_hotpath_fleet.c: which instances there are.
 *
 * Core NATS tells nobody who listens. So the first worker of every instance
 * says on <prefix>.instances that it is there, once a second and when it has
 * connected, and that it leaves when it exits. Whoever has to know whose word
 * is missing keeps a table of what it hears: the first worker, and all where
 * something is purged over HTTP. An instance stays in it for a minute after it
 * was last heard: one that has lost its connection should be missed rather
 * than forgotten.
 *
 * An instance is its master process: the host's name, the master's pid, and
 * four random bytes for those that share both. So it keeps its name over a
 * reload, as its zones stay.
 *
 * Owns the table, of at most 256 instances; more are not missed. Runs in the
 * event loop with no lock held. Never in here: trust in what a message says
 * (core/hp_fleet.c). Tests: tests/integration/test_purge.py.
 */


#include "ngx_http_hotpath_fleet.h"

#include <openssl/rand.h>


#define NGX_HTTP_HOTPATH_FLEET_BEAT_MS    1000
#define NGX_HTTP_HOTPATH_FLEET_FORGET_MS  60000

/* How long the successor of a worker that leaves may take to be heard. */
#define NGX_HTTP_HOTPATH_FLEET_LEAVE_MS   2000

#define NGX_HTTP_HOTPATH_FLEET_HOST_MAX   63


typedef struct {
    ngx_str_t                      self;
    ngx_str_t                      subject;
    ngx_msec_t                     since;      /* listens since then */
    ngx_event_t                    beat;
    uint64_t                       began_us;   /* this worker, monotonic */
    ngx_uint_t                     succeeded;  /* by one that began later */
    ngx_uint_t                     n;
    ngx_http_hotpath_instance_t    instances[NGX_HTTP_HOTPATH_FLEET_MAX];
} ngx_http_hotpath_fleet_t;


static void ngx_http_hotpath_fleet_state(void *data, ngx_uint_t up);
static void ngx_http_hotpath_fleet_beat(ngx_event_t *ev);
static void ngx_http_hotpath_fleet_say(ngx_http_hotpath_main_conf_t *mcf,
    ngx_uint_t leaving);
static void ngx_http_hotpath_fleet_heard(void *data, hp_nats_op_t *op);
static ngx_uint_t ngx_http_hotpath_fleet_find(hp_str_t id);
static void ngx_http_hotpath_fleet_forget(void);


static ngx_http_hotpath_fleet_t  ngx_http_hotpath_fleet;

/* Drawn once in the life of a master. */
static u_char      ngx_http_hotpath_fleet_token[4];
static ngx_uint_t  ngx_http_hotpath_fleet_token_drawn;


ngx_int_t
ngx_http_hotpath_fleet_init(ngx_conf_t *cf)
{
    if (ngx_http_hotpath_fleet_token_drawn) {
        return NGX_OK;
    }

    if (RAND_bytes(ngx_http_hotpath_fleet_token,
                   sizeof(ngx_http_hotpath_fleet_token))
        != 1)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no random bytes for the name of the instance");
        return NGX_ERROR;
    }

    ngx_http_hotpath_fleet_token_drawn = 1;

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_fleet_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf)
{
    u_char                    *p;
    ngx_uint_t                 i;
    ngx_http_hotpath_fleet_t  *fleet;

    fleet = &ngx_http_hotpath_fleet;

    ngx_memzero(fleet, sizeof(ngx_http_hotpath_fleet_t));

    p = ngx_pnalloc(cycle->pool, HP_INSTANCE_MAX + mcf->subject.len
                                 + sizeof(".instances"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    fleet->self.data = p;

    for (i = 0; i < cycle->hostname.len
                && i < NGX_HTTP_HOTPATH_FLEET_HOST_MAX; i++)
    {
        *p++ = hp_instance_char(cycle->hostname.data[i])
               ? cycle->hostname.data[i] : '_';
    }

    p = ngx_sprintf(p, ":%P:",
                    ngx_process == NGX_PROCESS_SINGLE ? ngx_pid : ngx_parent);
    p = ngx_hex_dump(p, ngx_http_hotpath_fleet_token,
                     sizeof(ngx_http_hotpath_fleet_token));

    fleet->self.len = p - fleet->self.data;

    fleet->began_us = ngx_http_hotpath_monotonic_ns() / 1000;

    if (mcf->client == NULL || (ngx_worker != 0 && mcf->purges == 0)) {
        return NGX_OK;
    }

    fleet->subject.data = p;
    p = ngx_sprintf(p, "%V.instances", &mcf->subject);
    fleet->subject.len = p - fleet->subject.data;

    if (ngx_worker == 0) {
        fleet->beat.handler = ngx_http_hotpath_fleet_beat;
        fleet->beat.data = mcf;
        fleet->beat.log = cycle->log;
        fleet->beat.cancelable = 1;
    }

    if (ngx_http_hotpath_nats_subscribe(mcf->client, &fleet->subject,
                                        ngx_http_hotpath_fleet_heard, mcf)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_nats_on_state(mcf->client,
                                          ngx_http_hotpath_fleet_state, mcf);
}


void
ngx_http_hotpath_fleet_stop(ngx_http_hotpath_main_conf_t *mcf)
{
    if (ngx_worker == 0 && mcf->client) {
        ngx_http_hotpath_fleet_say(mcf, 1);
        ngx_http_hotpath_nats_push(mcf->client);
    }
}


ngx_str_t *
ngx_http_hotpath_fleet_self(void)
{
    return &ngx_http_hotpath_fleet.self;
}


ngx_uint_t
ngx_http_hotpath_fleet_succeeded(void)
{
    return ngx_http_hotpath_fleet.succeeded;
}


ngx_http_hotpath_instance_t *
ngx_http_hotpath_fleet_others(ngx_uint_t *n)
{
    if (ngx_current_msec - ngx_http_hotpath_fleet.since
        < NGX_HTTP_HOTPATH_FLEET_SETTLE_MS)
    {
        return NULL;
    }

    ngx_http_hotpath_fleet_forget();

    *n = ngx_http_hotpath_fleet.n;

    return ngx_http_hotpath_fleet.instances;
}


static void
ngx_http_hotpath_fleet_state(void *data, ngx_uint_t up)
{
    ngx_event_t  *beat;

    beat = &ngx_http_hotpath_fleet.beat;

    ngx_http_hotpath_fleet.since = ngx_current_msec;

    if (beat->timer_set) {
        ngx_del_timer(beat);
    }

    if (up && beat->handler) {
        ngx_http_hotpath_fleet_beat(beat);
    }
}


static void
ngx_http_hotpath_fleet_beat(ngx_event_t *ev)
{
    ngx_http_hotpath_fleet_say(ev->data, 0);

    ngx_add_timer(ev, NGX_HTTP_HOTPATH_FLEET_BEAT_MS);
}


static void
ngx_http_hotpath_fleet_say(ngx_http_hotpath_main_conf_t *mcf,
    ngx_uint_t leaving)
{
    u_char     text[HP_INSTANCE_MAX + 96];
    ngx_str_t  payload, none;

    ngx_str_null(&none);

    payload.data = text;
    payload.len = ngx_sprintf(text, "{\"instance\":\"%V\",\"began\":%uL,"
                              "\"leaving\":%s}",
                              &ngx_http_hotpath_fleet.self,
                              ngx_http_hotpath_fleet.began_us,
                              leaving ? "true" : "false")
                  - text;

    /* what cannot be sent now, the next one makes up for */
    (void) ngx_http_hotpath_nats_publish(mcf->client,
                                         &ngx_http_hotpath_fleet.subject,
                                         &none, &payload, 1);
}


static void
ngx_http_hotpath_fleet_heard(void *data, hp_nats_op_t *op)
{
    ngx_uint_t                    i;
    hp_beat_t                     beat;
    ngx_http_hotpath_fleet_t     *fleet;
    ngx_http_hotpath_instance_t  *instance;

    fleet = &ngx_http_hotpath_fleet;

    if (hp_beat_read(&beat, op->payload) != 0) {
        return;
    }

    if (beat.instance.len == fleet->self.len
        && ngx_memcmp(beat.instance.data, fleet->self.data, fleet->self.len)
           == 0)
    {
        fleet->succeeded |= (beat.began_us > fleet->began_us);
        return;
    }

    i = ngx_http_hotpath_fleet_find(beat.instance);

    if (beat.leaving) {

        /* the successor may have been heard before */

        if (i < fleet->n && fleet->instances[i].began_us <= beat.began_us) {
            fleet->instances[i].leaving = 1;
            fleet->instances[i].heard = ngx_current_msec;
        }

        return;
    }

    if (i == NGX_HTTP_HOTPATH_FLEET_MAX) {
        ngx_http_hotpath_fleet_forget();
        i = fleet->n;

        if (i == NGX_HTTP_HOTPATH_FLEET_MAX) {
            return;
        }
    }

    instance = &fleet->instances[i];

    if (i < fleet->n && instance->began_us > beat.began_us) {
        /* the old worker of a reload */
        return;
    }

    if (i == fleet->n) {
        ngx_memcpy(instance->id, beat.instance.data, beat.instance.len);
        instance->len = beat.instance.len;
        fleet->n++;
    }

    instance->leaving = 0;
    instance->began_us = beat.began_us;
    instance->heard = ngx_current_msec;
}


/* Its index, or how many there are. */

static ngx_uint_t
ngx_http_hotpath_fleet_find(hp_str_t id)
{
    ngx_uint_t                    i;
    ngx_http_hotpath_instance_t  *instance;

    for (i = 0; i < ngx_http_hotpath_fleet.n; i++) {
        instance = &ngx_http_hotpath_fleet.instances[i];

        if (instance->len == id.len
            && ngx_memcmp(instance->id, id.data, id.len) == 0)
        {
            break;
        }
    }

    return i;
}


static void
ngx_http_hotpath_fleet_forget(void)
{
    ngx_uint_t                    i;
    ngx_http_hotpath_fleet_t     *fleet;
    ngx_http_hotpath_instance_t  *instance;

    fleet = &ngx_http_hotpath_fleet;

    for (i = fleet->n; i-- > 0; /* void */ ) {
        instance = &fleet->instances[i];

        if (ngx_current_msec - instance->heard
            > (instance->leaving ? NGX_HTTP_HOTPATH_FLEET_LEAVE_MS
                                 : NGX_HTTP_HOTPATH_FLEET_FORGET_MS))
        {
            *instance = fleet->instances[--fleet->n];
        }
    }
}
