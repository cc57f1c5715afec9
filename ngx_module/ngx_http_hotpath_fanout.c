/*
 * ngx_http_hotpath_fanout.c: one purge over all instances.
 *
 * The same way whoever asked, a request (purge_http) or a message (task):
 *
 *   redis     where a model is meant: its documents leave Redis, once
 *   zones     published on <prefix>.purge, and begun here meanwhile
 *   gather    until everybody known is done, or silent for too long
 *
 * What is this instance's is done by the worker that was asked, since zones
 * are shared; the first worker, which answers for the instance, passes over
 * what comes from its own. Without NATS this instance is all there is. Who is
 * still at it says so every half second, and is waited for.
 *
 * Owns the purges that gather answers, at most 64 a worker, each with a pool of
 * its own. Runs in the event loop with no lock held. Never in here: trust in
 * what a message says (core/hp_fleet.c), a purge that waits for ever. Tests:
 * tests/integration/test_purge.py, tests/faults/test_purging.py.
 */


#include "ngx_http_hotpath_fanout.h"
#include "ngx_http_hotpath_fleet.h"
#include "ngx_http_hotpath_purge.h"

#include <openssl/rand.h>


#define NGX_HTTP_HOTPATH_FANOUTS          64

#define NGX_HTTP_HOTPATH_FANOUT_TICK_MS   100

/* Whoever is still at it then is not waited for any more. */
#define NGX_HTTP_HOTPATH_FANOUT_LIMIT_MS  120000

/* In the answer: of one instance, and of all but them. */
#define NGX_HTTP_HOTPATH_FANOUT_LINE      (HP_INSTANCE_MAX + 160)
#define NGX_HTTP_HOTPATH_FANOUT_FRAME     256


/* What an instance said. */
typedef struct {
    u_char                      id[HP_INSTANCE_MAX];
    size_t                      len;
    ngx_http_hotpath_purged_t   purged;
    ngx_msec_t                  heard;
    ngx_uint_t                  done;
} ngx_http_hotpath_said_t;


struct ngx_http_hotpath_fanout_s {
    ngx_queue_t                      queue;
    ngx_pool_t                      *pool;
    ngx_http_hotpath_main_conf_t    *mcf;
    hp_purge_t                       purge;
    hp_str_t                         text;
    u_char                           id[HP_PURGE_ID];
    ngx_msec_t                       silence;
    ngx_msec_t                       published;
    ngx_event_t                      timer;
    ngx_uint_t                       ticks;
    ngx_http_hotpath_fanout_pt       handler;   /* NULL: has left */
    void                            *data;
    ngx_http_hotpath_said_t          own;
    ngx_array_t                      said;      /* by the others */
    unsigned                         fleet:1;   /* the others were asked */
};


static void ngx_http_hotpath_fanout_redis_done(void *data,
    ngx_http_hotpath_purged_t *purged);
static ngx_int_t ngx_http_hotpath_fanout_zones(ngx_http_hotpath_fanout_t *g);
static void ngx_http_hotpath_fanout_publish(ngx_http_hotpath_fanout_t *g);
static void ngx_http_hotpath_fanout_zones_done(void *data,
    ngx_http_hotpath_purged_t *purged);
static void ngx_http_hotpath_fanout_said(void *data, hp_nats_op_t *op);
static ngx_http_hotpath_said_t *ngx_http_hotpath_fanout_find(
    ngx_http_hotpath_fanout_t *g, const u_char *id, size_t len);
static const char *ngx_http_hotpath_fanout_error(hp_str_t text);
static void ngx_http_hotpath_fanout_tick(ngx_event_t *ev);
static void ngx_http_hotpath_fanout_look(ngx_http_hotpath_fanout_t *g);
static ngx_uint_t ngx_http_hotpath_fanout_waits(ngx_http_hotpath_fanout_t *g);
static void ngx_http_hotpath_fanout_end(ngx_http_hotpath_fanout_t *g);
static ngx_int_t ngx_http_hotpath_fanout_answer(ngx_http_hotpath_fanout_t *g,
    ngx_str_t *answer, ngx_uint_t *complete);
static u_char *ngx_http_hotpath_fanout_line(u_char *p,
    ngx_http_hotpath_said_t *said);
static void ngx_http_hotpath_fanout_add(ngx_http_hotpath_purged_t *sum,
    ngx_http_hotpath_purged_t *purged);

/* This worker's. */
static ngx_queue_t  ngx_http_hotpath_fanouts;
static ngx_uint_t   ngx_http_hotpath_fanouts_n;
static ngx_str_t    ngx_http_hotpath_fanout_subject;
static ngx_str_t    ngx_http_hotpath_fanout_inbox;

/* What another instance may say; whatever else it says is the last. */
static const char  *ngx_http_hotpath_fanout_errors[] = {
    NGX_HTTP_HOTPATH_PURGE_NO_REDIS,
    NGX_HTTP_HOTPATH_PURGE_NO_LOCK,
    NGX_HTTP_HOTPATH_PURGE_BUSY,
    "no_memory",
    "refused"
};


ngx_int_t
ngx_http_hotpath_fanout_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf)
{
    u_char  *p, random[8];

    ngx_queue_init(&ngx_http_hotpath_fanouts);

    if (mcf->client == NULL || (ngx_worker != 0 && mcf->purges == 0)) {
        return NGX_OK;
    }

    p = ngx_pnalloc(cycle->pool, mcf->subject.len
                                 + sizeof(".purge_INBOX.purge.") + 16);
    if (p == NULL || RAND_bytes(random, sizeof(random)) != 1) {
        return NGX_ERROR;
    }

    ngx_http_hotpath_fanout_subject.data = p;
    p = ngx_sprintf(p, "%V.purge", &mcf->subject);
    ngx_http_hotpath_fanout_subject.len = p
                                        - ngx_http_hotpath_fanout_subject.data;

    ngx_http_hotpath_fanout_inbox.data = p;
    p = ngx_cpymem(p, "_INBOX.purge.", sizeof("_INBOX.purge.") - 1);
    p = ngx_hex_dump(p, random, sizeof(random));
    ngx_http_hotpath_fanout_inbox.len = p - ngx_http_hotpath_fanout_inbox.data;

    return ngx_http_hotpath_nats_subscribe(mcf->client,
                                           &ngx_http_hotpath_fanout_inbox,
                                           ngx_http_hotpath_fanout_said, mcf);
}


ngx_int_t
ngx_http_hotpath_fanout_begin(ngx_http_hotpath_main_conf_t *mcf, hp_str_t text,
    hp_purge_t *purge, ngx_msec_t silence, ngx_http_hotpath_fanout_pt handler,
    void *data, ngx_http_hotpath_fanout_t **fanout)
{
    u_char                     *copy, random[HP_PURGE_ID / 2];
    ngx_int_t                   rc;
    ngx_str_t                  *self;
    ngx_pool_t                 *pool;
    ngx_http_hotpath_fanout_t  *g;

    if (ngx_http_hotpath_fanouts_n == NGX_HTTP_HOTPATH_FANOUTS) {
        return NGX_BUSY;
    }

    pool = ngx_create_pool(4096, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = NGX_ERROR;

    g = ngx_pcalloc(pool, sizeof(ngx_http_hotpath_fanout_t));
    copy = ngx_pnalloc(pool, 2 * text.len);

    if (g == NULL || copy == NULL
        || ngx_array_init(&g->said, pool, 16, sizeof(ngx_http_hotpath_said_t))
           != NGX_OK
        || RAND_bytes(random, sizeof(random)) != 1)
    {
        goto failed;
    }

    ngx_memcpy(copy, text.data, text.len);

    g->pool = pool;
    g->mcf = mcf;
    g->text.data = copy;
    g->text.len = text.len;
    g->silence = silence;
    g->handler = handler;
    g->data = data;
    ngx_hex_dump(g->id, random, sizeof(random));

    /* that of the caller points into what is the caller's */
    (void) hp_purge_read(&g->purge, g->text, copy + text.len);

    self = ngx_http_hotpath_fleet_self();
    ngx_memcpy(g->own.id, self->data, self->len);
    g->own.len = self->len;

    g->timer.handler = ngx_http_hotpath_fanout_tick;
    g->timer.data = g;
    g->timer.log = ngx_cycle->log;

    if (purge->nkeys || purge->tag.len) {
        rc = ngx_http_hotpath_fanout_zones(g);

    } else {
        rc = ngx_http_hotpath_purge_begin(mcf, &g->purge,
                                          NGX_HTTP_HOTPATH_PURGE_REDIS,
                                          ngx_http_hotpath_fanout_redis_done,
                                          g);
    }

    if (rc != NGX_OK) {
        goto failed;
    }

    ngx_queue_insert_tail(&ngx_http_hotpath_fanouts, &g->queue);
    ngx_http_hotpath_fanouts_n++;
    ngx_add_timer(&g->timer, NGX_HTTP_HOTPATH_FANOUT_TICK_MS);

    *fanout = g;

    return NGX_OK;

failed:

    ngx_destroy_pool(pool);

    return rc;
}


void
ngx_http_hotpath_fanout_leave(ngx_http_hotpath_fanout_t *g)
{
    g->handler = NULL;
}


static void
ngx_http_hotpath_fanout_redis_done(void *data,
    ngx_http_hotpath_purged_t *purged)
{
    ngx_http_hotpath_fanout_t *g = data;

    ngx_int_t  rc;

    ngx_http_hotpath_fanout_add(&g->own.purged, purged);

    rc = ngx_http_hotpath_fanout_zones(g);

    if (rc != NGX_OK) {
        /* what has left Redis should leave the others' zones all the same */
        ngx_http_hotpath_fanout_publish(g);

        g->own.purged.error = rc == NGX_BUSY ? NGX_HTTP_HOTPATH_PURGE_BUSY
                                             : "no_memory";
        g->own.done = 1;
    }
}


static ngx_int_t
ngx_http_hotpath_fanout_zones(ngx_http_hotpath_fanout_t *g)
{
    ngx_int_t  rc;

    rc = ngx_http_hotpath_purge_begin(g->mcf, &g->purge,
                                      NGX_HTTP_HOTPATH_PURGE_ZONES,
                                      ngx_http_hotpath_fanout_zones_done, g);

    if (rc == NGX_OK) {
        ngx_http_hotpath_fanout_publish(g);
    }

    return rc;
}


static void
ngx_http_hotpath_fanout_publish(ngx_http_hotpath_fanout_t *g)
{
    u_char     head[HP_INSTANCE_MAX + 96];
    ngx_str_t  parts[3];

    if (g->mcf->client == NULL) {
        return;
    }

    parts[0].data = head;
    parts[0].len = ngx_sprintf(head, "{\"id\":\"%*s\",\"from\":\"%V\","
                               "\"purge\":", (size_t) HP_PURGE_ID, g->id,
                               ngx_http_hotpath_fleet_self())
                   - head;
    parts[1].data = (u_char *) g->text.data;
    parts[1].len = g->text.len;
    ngx_str_set(&parts[2], "}");

    g->published = ngx_current_msec;
    g->fleet = (ngx_http_hotpath_nats_publish(g->mcf->client,
                                            &ngx_http_hotpath_fanout_subject,
                                            &ngx_http_hotpath_fanout_inbox,
                                            parts, 3)
                == NGX_OK);
}


static void
ngx_http_hotpath_fanout_zones_done(void *data,
    ngx_http_hotpath_purged_t *purged)
{
    ngx_http_hotpath_fanout_t *g = data;

    ngx_http_hotpath_fanout_add(&g->own.purged, purged);
    g->own.done = 1;

    ngx_http_hotpath_fanout_look(g);
}


/* Another instance about a purge of ours. */

static void
ngx_http_hotpath_fanout_said(void *data, hp_nats_op_t *op)
{
    ngx_queue_t                *q;
    hp_purge_answer_t           answer;
    ngx_http_hotpath_said_t    *said;
    ngx_http_hotpath_fanout_t  *g;

    if (hp_purge_answer_read(&answer, op->payload) != 0) {
        return;
    }

    for (q = ngx_queue_head(&ngx_http_hotpath_fanouts); /* void */ ;
         q = ngx_queue_next(q))
    {
        if (q == ngx_queue_sentinel(&ngx_http_hotpath_fanouts)) {
            /* too late */
            return;
        }

        g = ngx_queue_data(q, ngx_http_hotpath_fanout_t, queue);

        if (ngx_memcmp(g->id, answer.id.data, HP_PURGE_ID) == 0) {
            break;
        }
    }

    said = ngx_http_hotpath_fanout_find(g, answer.instance.data,
                                        answer.instance.len);
    if (said == NULL) {

        if (g->said.nelts == NGX_HTTP_HOTPATH_FLEET_MAX) {
            return;
        }

        said = ngx_array_push(&g->said);
        if (said == NULL) {
            return;
        }

        ngx_memzero(said, sizeof(ngx_http_hotpath_said_t));
        ngx_memcpy(said->id, answer.instance.data, answer.instance.len);
        said->len = answer.instance.len;
    }

    said->heard = ngx_current_msec;

    /* at a reload an instance may answer twice: the first one counts */

    if (said->done || !answer.done) {
        return;
    }

    said->done = 1;
    said->purged.purged = answer.purged;
    said->purged.redis = answer.redis;
    said->purged.error = ngx_http_hotpath_fanout_error(answer.error);

    ngx_http_hotpath_fanout_look(g);
}


static ngx_http_hotpath_said_t *
ngx_http_hotpath_fanout_find(ngx_http_hotpath_fanout_t *g, const u_char *id,
    size_t len)
{
    ngx_uint_t                i;
    ngx_http_hotpath_said_t  *said;

    said = g->said.elts;

    for (i = 0; i < g->said.nelts; i++) {
        if (said[i].len == len && ngx_memcmp(said[i].id, id, len) == 0) {
            return &said[i];
        }
    }

    return NULL;
}


static const char *
ngx_http_hotpath_fanout_error(hp_str_t text)
{
    ngx_uint_t   i, n;
    const char  *error;

    if (text.len == 0) {
        return NULL;
    }

    n = sizeof(ngx_http_hotpath_fanout_errors) / sizeof(char *);
    error = NULL;

    for (i = 0; i < n; i++) {
        error = ngx_http_hotpath_fanout_errors[i];

        if (ngx_strlen(error) == text.len
            && ngx_memcmp(error, text.data, text.len) == 0)
        {
            break;
        }
    }

    return error;
}


static void
ngx_http_hotpath_fanout_tick(ngx_event_t *ev)
{
    ngx_http_hotpath_fanout_t *g = ev->data;

    ngx_add_timer(&g->timer, NGX_HTTP_HOTPATH_FANOUT_TICK_MS);

    if (++g->ticks % (NGX_HTTP_HOTPATH_FANOUT_SIGN_MS
                      / NGX_HTTP_HOTPATH_FANOUT_TICK_MS)
        == 0
        && g->handler)
    {
        g->handler(g->data, NULL, 0);
    }

    ngx_http_hotpath_fanout_look(g);
}


static void
ngx_http_hotpath_fanout_look(ngx_http_hotpath_fanout_t *g)
{
    if (g->own.done && !(g->fleet && ngx_http_hotpath_fanout_waits(g))) {
        ngx_http_hotpath_fanout_end(g);
    }
}


/* 1 where somebody may still answer. */

static ngx_uint_t
ngx_http_hotpath_fanout_waits(ngx_http_hotpath_fanout_t *g)
{
    ngx_uint_t                    i, n;
    ngx_msec_t                    now;
    ngx_http_hotpath_said_t      *said;
    ngx_http_hotpath_instance_t  *others;

    now = ngx_current_msec;

    if (now - g->published >= NGX_HTTP_HOTPATH_FANOUT_LIMIT_MS) {
        return 0;
    }

    others = ngx_http_hotpath_fleet_others(&n);

    if (others == NULL) {
        return now - g->published
               < g->silence + NGX_HTTP_HOTPATH_FLEET_SETTLE_MS;
    }

    for (i = 0; i < n; i++) {
        said = ngx_http_hotpath_fanout_find(g, others[i].id, others[i].len);

        if (said == NULL
            && (others[i].leaving || now - g->published < g->silence))
        {
            return 1;
        }
    }

    said = g->said.elts;

    for (i = 0; i < g->said.nelts; i++) {
        if (!said[i].done && now - said[i].heard < g->silence) {
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_hotpath_fanout_end(ngx_http_hotpath_fanout_t *g)
{
    ngx_str_t   answer;
    ngx_uint_t  complete;

    ngx_queue_remove(&g->queue);
    ngx_http_hotpath_fanouts_n--;
    ngx_del_timer(&g->timer);

    if (ngx_http_hotpath_fanout_answer(g, &answer, &complete) != NGX_OK) {
        ngx_str_set(&answer, "{\"complete\":false,\"error\":\"no_memory\"}");
        complete = 0;
    }

    if (complete) {
        ngx_http_hotpath_count(PURGE_COMPLETE);
    } else {
        ngx_http_hotpath_count(PURGE_INCOMPLETE);
    }

    if (g->handler) {
        g->handler(g->data, &answer, complete);
    }

    ngx_destroy_pool(g->pool);
}


static ngx_int_t
ngx_http_hotpath_fanout_answer(ngx_http_hotpath_fanout_t *g, ngx_str_t *answer,
    ngx_uint_t *complete)
{
    u_char                       *p, *list;
    size_t                        size;
    ngx_uint_t                    i, n, missing, failed;
    ngx_http_hotpath_said_t      *said, none;
    ngx_http_hotpath_purged_t     sum;
    ngx_http_hotpath_instance_t  *others;

    n = 0;
    others = NULL;

    if (g->fleet) {
        others = ngx_http_hotpath_fleet_others(&n);

        if (others == NULL) {
            /* this worker, or its connection, is new: who knows */
            g->fleet = 0;
        }
    }

    size = (1 + g->said.nelts + n) * NGX_HTTP_HOTPATH_FANOUT_LINE;

    list = ngx_pnalloc(g->pool, size);
    answer->data = ngx_pnalloc(g->pool, size + NGX_HTTP_HOTPATH_FANOUT_FRAME);

    if (list == NULL || answer->data == NULL) {
        return NGX_ERROR;
    }

    sum = g->own.purged;
    failed = (sum.error != NULL);
    missing = 0;

    p = ngx_http_hotpath_fanout_line(list, &g->own);

    said = g->said.elts;

    for (i = 0; i < g->said.nelts; i++) {

        if (!said[i].done) {
            said[i].purged.error = "no_answer";
            missing++;
        }

        failed |= (said[i].purged.error != NULL);

        ngx_http_hotpath_fanout_add(&sum, &said[i].purged);
        p = ngx_http_hotpath_fanout_line(p, &said[i]);
    }

    ngx_memzero(&none, sizeof(ngx_http_hotpath_said_t));
    none.purged.error = "no_answer";

    for (i = 0; others && i < n; i++) {

        if (ngx_http_hotpath_fanout_find(g, others[i].id, others[i].len)) {
            continue;
        }

        ngx_memcpy(none.id, others[i].id, others[i].len);
        none.len = others[i].len;
        missing++;

        p = ngx_http_hotpath_fanout_line(p, &none);
    }

    *complete = !failed && !missing && (g->fleet || g->mcf->client == NULL);

    answer->len = ngx_sprintf(answer->data, "{\"id\":\"%*s\",\"complete\":%s,"
                              "\"reach\":\"%s\",\"purged\":%uL,"
                              "\"redis\":%uL,\"missing\":%ui,"
                              "\"instances\":[%*s]}",
                              (size_t) HP_PURGE_ID, g->id,
                              *complete ? "true" : "false",
                              g->fleet ? "fleet" : "instance", sum.purged,
                              sum.redis, missing, (size_t) (p - 1 - list),
                              list)
                  - answer->data;

    return NGX_OK;
}


static u_char *
ngx_http_hotpath_fanout_line(u_char *p, ngx_http_hotpath_said_t *said)
{
    p = ngx_sprintf(p, "{\"instance\":\"%*s\",\"purged\":%uL,\"redis\":%uL",
                    said->len, said->id, said->purged.purged,
                    said->purged.redis);

    if (said->purged.error) {
        p = ngx_sprintf(p, ",\"error\":\"%s\"", said->purged.error);
    }

    return ngx_cpymem(p, "},", 2);
}


static void
ngx_http_hotpath_fanout_add(ngx_http_hotpath_purged_t *sum,
    ngx_http_hotpath_purged_t *purged)
{
    sum->purged += purged->purged;
    sum->redis += purged->redis;

    if (sum->error == NULL) {
        sum->error = purged->error;
    }
}
