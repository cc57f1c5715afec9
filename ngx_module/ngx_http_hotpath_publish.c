/*
 * ngx_http_hotpath_publish.c: group commit into JetStream.
 *
 * A partition has a queue of groups. The last one takes new events until it is
 * full; the first ones are sent as long as fewer than `window` messages are in
 * flight. Sending happens in a posted event, after all that this turn of the
 * event loop brought in has been gathered, and when a PubAck makes room, before
 * those whom it is for are answered: what bounds the rate is how long the
 * broker has nothing to do. A group has one timer, from its
 * first event on: at the deadline an unsent group is dropped (nothing that was
 * answered 503 is sent later) and a sent one ends as unknown. When the
 * connection is lost, what was not sent is dropped at once. What was sent and
 * not acknowledged is kept until its deadline: where another connection comes
 * in time, it is sent again under the same Nats-Msg-Id, and the broker knows it
 * by that, if its duplicate window is long enough for it to.
 *
 * Owns groups, their chunks of bytes and the waiters, all of them taken from
 * and given back to free lists whose size is bounded by queue_bytes. Runs in
 * the event loop of one worker. Never in here: a promise without a PubAck from
 * the expected stream, a message sent after its outcome was told. The stream's
 * configuration is asked for at connect and every few seconds: one that is
 * unfit gets nothing (core/hp_stream.h). Formats: schemas/framing.md; tests:
 * tests/integration/test_write.py, test_nats.py,
 * tests/faults/test_broker.py.
 */


#include "ngx_http_hotpath_publish.h"
#include "ngx_http_hotpath_metrics.h"
#include "ngx_http_hotpath_shm.h"
#include "core/hp_id.h"
#include "core/hp_json.h"


#define NGX_HTTP_HOTPATH_PUBLISH_CHUNK    16384
#define NGX_HTTP_HOTPATH_PUBLISH_CHUNKS   64
#define NGX_HTTP_HOTPATH_PUBLISH_SPARE    1024
#define NGX_HTTP_HOTPATH_PUBLISH_REFRESH  5000
#define NGX_HTTP_HOTPATH_PUBLISH_SOON     500
#define NGX_HTTP_HOTPATH_PUBLISH_HEADERS  256

/* Answers given between two looks at the broker's connection. */
#define NGX_HTTP_HOTPATH_PUBLISH_LOOK     8

/* Answers given in one turn of the event loop: others have their turn too. */
#define NGX_HTTP_HOTPATH_PUBLISH_TURN     512

/* What a queued event costs beside its record: its waiter. */
#define NGX_HTTP_HOTPATH_PUBLISH_OVERHEAD sizeof(ngx_http_hotpath_waiter_t)


typedef struct ngx_http_hotpath_chunk_s      ngx_http_hotpath_chunk_t;
typedef struct ngx_http_hotpath_partition_s  ngx_http_hotpath_partition_t;

struct ngx_http_hotpath_chunk_s {
    ngx_http_hotpath_chunk_t  *next;
    size_t                     size;
    u_char                    *last;
    u_char                    *end;
    u_char                     data[1];
};


typedef struct {
    ngx_queue_t                    queue;     /* queued, flying, lost,
                                                 answered, or spare */
    ngx_http_hotpath_partition_t  *partition;
    ngx_http_hotpath_chunk_t      *chunks;
    ngx_http_hotpath_chunk_t      *chunk;     /* the last one */
    ngx_uint_t                     nchunks;
    ngx_http_hotpath_waiter_t     *waiters;
    ngx_http_hotpath_waiter_t    **waiter_end;
    ngx_uint_t                     events;
    size_t                         bytes;
    uint32_t                       request;
    ngx_event_t                    timer;
    int64_t                        due_ns;    /* lingers until; 0 not yet */
    uint64_t                       number;    /* of the message, once sent */
    unsigned                       sent:1;    /* at least once */
    unsigned                       flying:1;  /* counted in in_flight */
    unsigned                       repeated:1;

    ngx_http_hotpath_publish_result_t  result;   /* once answered */
} ngx_http_hotpath_group_t;


struct ngx_http_hotpath_partition_s {
    ngx_http_hotpath_publish_t    *publish;
    ngx_str_t                      stream;
    ngx_str_t                      subject;
    ngx_str_t                      info_subject;
    ngx_queue_t                    queued;    /* of groups, oldest first */
    ngx_queue_t                    flying;    /* of groups, oldest first */
    ngx_queue_t                    lost;      /* sent, by their numbers; to be
                                                 sent again */
    ngx_uint_t                     in_flight;
    ngx_uint_t                     last_events;  /* of the last message */
    uint64_t                       created;   /* 0: not usable */
    uint64_t                       sequence;  /* the last one of it seen */
    uint64_t                       max_message;  /* of the stream; 0: none */
    const char                    *reason;    /* what is wrong with it */
    time_t                         complained;   /* of a refusal */
    ngx_msec_t                     asked;     /* when; with asking */
    uint32_t                       info;      /* the request under way */
    unsigned                       asking:1;
    unsigned                       repeats:1; /* it would know a message */
    unsigned                       starting:1; /* not known yet whether it is
                                                  usable: events wait */
};


struct ngx_http_hotpath_publish_s {
    ngx_http_hotpath_publish_conf_t  *conf;
    ngx_http_hotpath_nats_t          *nats;
    ngx_http_hotpath_publish_pt       handler;
    void                             *ctx;
    ngx_log_t                        *log;
    ngx_event_t                       flush;
    ngx_event_t                       answer;
    ngx_event_t                       refresh;
    ngx_queue_t                       answered;   /* of groups */
    size_t                            queued_bytes;
    uint64_t                          messages;
    ngx_uint_t                        answers;
    u_char                            name[16];   /* hex, of this worker */
    ngx_queue_t                       spare_groups;
    ngx_uint_t                        nspare_groups;
    ngx_http_hotpath_chunk_t         *spare_chunks;
    ngx_uint_t                        nspare_chunks;
    ngx_http_hotpath_waiter_t        *spare_waiters;
    ngx_uint_t                        nspare_waiters;
    ngx_http_hotpath_partition_t      partitions[1];
};


static void ngx_http_hotpath_publish_flush(ngx_event_t *ev);
static void ngx_http_hotpath_publish_send_queued(
    ngx_http_hotpath_partition_t *partition);
static ngx_uint_t ngx_http_hotpath_publish_lingers(
    ngx_http_hotpath_group_t *group);
static void ngx_http_hotpath_publish_answer(ngx_event_t *ev);
static ngx_int_t ngx_http_hotpath_publish_send(
    ngx_http_hotpath_group_t *group);
static void ngx_http_hotpath_publish_reply(void *data, hp_nats_op_t *op);
static void ngx_http_hotpath_publish_deadline(ngx_event_t *ev);
static void ngx_http_hotpath_publish_end(ngx_http_hotpath_group_t *group);
static ngx_uint_t ngx_http_hotpath_publish_tell(
    ngx_http_hotpath_group_t *group, ngx_uint_t most);
static void ngx_http_hotpath_publish_spare(ngx_http_hotpath_publish_t *p,
    ngx_http_hotpath_waiter_t *w);
static void ngx_http_hotpath_publish_recycle(
    ngx_http_hotpath_group_t *group);
static void ngx_http_hotpath_publish_state_changed(void *data, ngx_uint_t up);
static void ngx_http_hotpath_publish_drop(
    ngx_http_hotpath_partition_t *partition, ngx_uint_t lost);
static void ngx_http_hotpath_publish_keep(ngx_http_hotpath_group_t *group);
static void ngx_http_hotpath_publish_refused(
    ngx_http_hotpath_group_t *group, uint32_t err_code, hp_str_t description);
static size_t ngx_http_hotpath_publish_most(
    ngx_http_hotpath_partition_t *partition);
static void ngx_http_hotpath_publish_refresh(ngx_event_t *ev);
static void ngx_http_hotpath_publish_info(void *data, hp_nats_op_t *op);
static hp_stream_fit_e ngx_http_hotpath_publish_look(
    ngx_http_hotpath_partition_t *partition, hp_nats_op_t *op,
    hp_stream_t *stream, const char **reason);
static ngx_http_hotpath_group_t *ngx_http_hotpath_publish_group(
    ngx_http_hotpath_partition_t *partition, size_t size);
static u_char *ngx_http_hotpath_publish_room(ngx_http_hotpath_publish_t *p,
    ngx_http_hotpath_group_t *group, size_t size);
static ngx_http_hotpath_waiter_t *ngx_http_hotpath_publish_waiter(
    ngx_http_hotpath_publish_t *p);


ngx_http_hotpath_publish_t *
ngx_http_hotpath_publish_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_publish_conf_t *conf, ngx_http_hotpath_nats_t *nats,
    ngx_http_hotpath_publish_pt handler, void *ctx)
{
    u_char                        *p;
    size_t                         size;
    ngx_uint_t                     i;
    ngx_http_hotpath_publish_t    *publish;
    ngx_http_hotpath_partition_t  *partition;

    publish = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hotpath_publish_t)
                          + (conf->partitions - 1)
                            * sizeof(ngx_http_hotpath_partition_t));
    if (publish == NULL) {
        return NULL;
    }

    publish->conf = conf;
    publish->nats = nats;
    publish->handler = handler;
    publish->ctx = ctx;
    publish->log = cycle->log;

    /* unique to this worker's life: message ids are made of it */
    ngx_sprintf(publish->name, "%08xD%08xD",
                (uint32_t) ngx_random() ^ (uint32_t) ngx_time(),
                (uint32_t) ngx_random() ^ (uint32_t) ngx_pid << 15);

    ngx_queue_init(&publish->spare_groups);

    for (i = 0; i < conf->partitions; i++) {
        partition = &publish->partitions[i];
        partition->publish = publish;
        ngx_queue_init(&partition->queued);
        ngx_queue_init(&partition->flying);
        ngx_queue_init(&partition->lost);

        /* a worker that has just started gets connections before its own to
         * the broker stands; after a reload that must cost nobody a 503 */
        partition->starting = 1;

        size = sizeof("$JS.API.STREAM.INFO.") + conf->stream.len
               + 1 + NGX_INT_T_LEN + conf->subject.len + 1 + NGX_INT_T_LEN;

        p = ngx_pnalloc(cycle->pool, size);
        if (p == NULL) {
            return NULL;
        }

        partition->info_subject.data = p;
        p = ngx_cpymem(p, "$JS.API.STREAM.INFO.",
                       sizeof("$JS.API.STREAM.INFO.") - 1);
        partition->stream.data = p;
        p = ngx_sprintf(p, "%V_%ui", &conf->stream, i);
        partition->stream.len = p - partition->stream.data;
        partition->info_subject.len = p - partition->info_subject.data;
        partition->subject.data = p;
        p = ngx_sprintf(p, "%V.%ui", &conf->subject, i);
        partition->subject.len = p - partition->subject.data;
    }

    publish->flush.handler = ngx_http_hotpath_publish_flush;
    publish->flush.data = publish;
    publish->flush.log = cycle->log;

    publish->answer.handler = ngx_http_hotpath_publish_answer;
    publish->answer.data = publish;
    publish->answer.log = cycle->log;
    ngx_queue_init(&publish->answered);

    publish->refresh.handler = ngx_http_hotpath_publish_refresh;
    publish->refresh.data = publish;
    publish->refresh.log = cycle->log;
    publish->refresh.cancelable = 1;

    if (ngx_http_hotpath_nats_on_state(nats,
                                       ngx_http_hotpath_publish_state_changed,
                                       publish)
        != NGX_OK)
    {
        return NULL;
    }

    return publish;
}


void
ngx_http_hotpath_publish_stop(ngx_http_hotpath_publish_t *p)
{
    ngx_uint_t                     i;
    ngx_queue_t                   *q;
    ngx_http_hotpath_chunk_t      *chunk;
    ngx_http_hotpath_waiter_t     *waiter;
    ngx_http_hotpath_partition_t  *partition;

    /* a worker that finishes in peace has none left, since a group's timer
     * holds it back; one that was told to stop at once answers nobody */

    for (i = 0; i < p->conf->partitions; i++) {
        partition = &p->partitions[i];

        while (!ngx_queue_empty(&partition->flying)) {
            q = ngx_queue_head(&partition->flying);
            ngx_http_hotpath_publish_recycle(
                          ngx_queue_data(q, ngx_http_hotpath_group_t, queue));
        }

        while (!ngx_queue_empty(&partition->lost)) {
            q = ngx_queue_head(&partition->lost);
            ngx_http_hotpath_publish_recycle(
                          ngx_queue_data(q, ngx_http_hotpath_group_t, queue));
        }

        while (!ngx_queue_empty(&partition->queued)) {
            q = ngx_queue_head(&partition->queued);
            ngx_http_hotpath_publish_recycle(
                          ngx_queue_data(q, ngx_http_hotpath_group_t, queue));
        }
    }

    if (p->refresh.timer_set) {
        ngx_del_timer(&p->refresh);
    }

    if (p->flush.posted) {
        ngx_delete_posted_event(&p->flush);
    }

    if (p->answer.posted) {
        ngx_delete_posted_event(&p->answer);
    }

    if (p->answer.timer_set) {
        ngx_del_timer(&p->answer);
    }

    while (!ngx_queue_empty(&p->answered)) {
        q = ngx_queue_head(&p->answered);
        ngx_http_hotpath_publish_recycle(
                          ngx_queue_data(q, ngx_http_hotpath_group_t, queue));
    }

    while (!ngx_queue_empty(&p->spare_groups)) {
        q = ngx_queue_head(&p->spare_groups);
        ngx_queue_remove(q);
        ngx_free(ngx_queue_data(q, ngx_http_hotpath_group_t, queue));
    }

    while (p->spare_chunks) {
        chunk = p->spare_chunks;
        p->spare_chunks = chunk->next;
        ngx_free(chunk);
    }

    while (p->spare_waiters) {
        waiter = p->spare_waiters;
        p->spare_waiters = waiter->next;
        ngx_free(waiter);
    }
}


ngx_int_t
ngx_http_hotpath_publish_event(ngx_http_hotpath_publish_t *p, ngx_uint_t n,
    hp_event_t *event, void *data, ngx_http_hotpath_waiter_t **waiter)
{
    u_char                        *to;
    size_t                         size;
    ngx_http_hotpath_group_t      *group;
    ngx_http_hotpath_waiter_t     *w;
    ngx_http_hotpath_partition_t  *partition;

    partition = &p->partitions[n];

    if (!partition->starting) {

        if (!ngx_http_hotpath_nats_ready(p->nats)) {
            return NGX_DECLINED;
        }

        if (partition->created == 0) {
            /* not asked yet since it is connected again, or not fit */
            return partition->reason ? NGX_ABORT : NGX_DECLINED;
        }
    }

    size = hp_event_size(event);

    if (size > ngx_http_hotpath_publish_most(partition)) {
        return NGX_ERROR;
    }

    if (p->queued_bytes + size + NGX_HTTP_HOTPATH_PUBLISH_OVERHEAD
        > p->conf->queue_bytes)
    {
        return NGX_BUSY;
    }

    w = ngx_http_hotpath_publish_waiter(p);
    if (w == NULL) {
        return NGX_BUSY;
    }

    group = ngx_http_hotpath_publish_group(partition, size);
    to = group ? ngx_http_hotpath_publish_room(p, group, size) : NULL;

    if (to == NULL) {
        ngx_free(w);
        return NGX_BUSY;
    }

    group->chunk->last = hp_event_write(to, event);

    w->next = NULL;
    w->data = data;
    w->accepted_us = event->accepted_us;
    ngx_memcpy(w->operation_id, event->operation_id, HP_UUID_SIZE);
    ngx_memcpy(w->fingerprint, event->fingerprint, HP_FINGERPRINT_SIZE);

    *group->waiter_end = w;
    group->waiter_end = &w->next;

    group->events++;
    group->bytes += size;
    p->queued_bytes += size + NGX_HTTP_HOTPATH_PUBLISH_OVERHEAD;

    if (!p->flush.posted) {
        ngx_post_event(&p->flush, &ngx_posted_events);
    }

    *waiter = w;

    return NGX_OK;
}


void
ngx_http_hotpath_publish_state(ngx_http_hotpath_publish_t *p,
    ngx_http_hotpath_publish_state_t *state)
{
    ngx_uint_t                     i;
    ngx_http_hotpath_partition_t  *partition;

    state->connected = ngx_http_hotpath_nats_ready(p->nats);
    state->queued_bytes = p->queued_bytes;
    state->streams = 0;
    state->reason = NULL;
    ngx_str_null(&state->stream);

    for (i = 0; i < p->conf->partitions; i++) {
        partition = &p->partitions[i];

        if (partition->created && partition->reason == NULL) {
            state->streams++;

        } else if (state->reason == NULL) {
            state->stream = partition->stream;
            state->reason = partition->reason;
        }
    }
}


const char *
ngx_http_hotpath_publish_tier(ngx_http_hotpath_publish_conf_t *conf)
{
    switch (conf->durability) {

    case NGX_HTTP_HOTPATH_DURABILITY_SYNC:
        return "sync";

    case NGX_HTTP_HOTPATH_DURABILITY_REPLICATED:
        return "replicated";

    default: /* NGX_HTTP_HOTPATH_DURABILITY_PROCESS */
        return "process";
    }
}


uint64_t
ngx_http_hotpath_publish_created(hp_str_t text)
{
    uint64_t  created;

    created = hp_hash64(text.data, text.len, 0);

    return created ? created : 1;
}


/* Once at the end of a turn of the event loop in which something changed. */

static void
ngx_http_hotpath_publish_flush(ngx_event_t *ev)
{
    ngx_uint_t                   i;
    ngx_http_hotpath_publish_t  *p;

    p = ev->data;

    for (i = 0; i < p->conf->partitions; i++) {
        ngx_http_hotpath_publish_send_queued(&p->partitions[i]);
    }
}


static void
ngx_http_hotpath_publish_send_queued(ngx_http_hotpath_partition_t *partition)
{
    ngx_queue_t               *q;
    ngx_http_hotpath_group_t  *group;

    if (partition->starting || partition->created == 0) {
        return;
    }

    while (partition->in_flight < partition->publish->conf->window
           && !ngx_queue_empty(&partition->lost))
    {
        q = ngx_queue_head(&partition->lost);
        group = ngx_queue_data(q, ngx_http_hotpath_group_t, queue);

        if (ngx_http_hotpath_publish_send(group) == NGX_OK) {
            ngx_http_hotpath_count(PUBLISH_REPEATS);
            continue;
        }

        group->result.outcome = NGX_HTTP_HOTPATH_PUBLISH_UNKNOWN;
        ngx_http_hotpath_publish_end(group);
    }

    while (partition->in_flight < partition->publish->conf->window
           && !ngx_queue_empty(&partition->queued))
    {
        q = ngx_queue_head(&partition->queued);
        group = ngx_queue_data(q, ngx_http_hotpath_group_t, queue);

        if (ngx_http_hotpath_publish_lingers(group)) {
            return;
        }

        if (ngx_http_hotpath_publish_send(group) == NGX_OK) {
            continue;
        }

        group->result.outcome = NGX_HTTP_HOTPATH_PUBLISH_UNSENT;
        ngx_http_hotpath_publish_end(group);
    }
}


/*
 * 1: more may join it for a moment longer. Only where the last message of the
 * partition carried more than one event: at low load nothing waits. There are
 * no timers for microseconds; the loop turns without sleeping meanwhile.
 */

static ngx_uint_t
ngx_http_hotpath_publish_lingers(ngx_http_hotpath_group_t *group)
{
    int64_t                        now_ns;
    ngx_http_hotpath_publish_t    *p;
    ngx_http_hotpath_partition_t  *partition;

    partition = group->partition;
    p = partition->publish;

    if (p->conf->linger_us == 0 || partition->last_events <= 1
        || ngx_queue_last(&partition->queued) != &group->queue)
    {
        return 0;
    }

    now_ns = ngx_http_hotpath_monotonic_ns();

    if (group->due_ns == 0) {
        group->due_ns = now_ns + (int64_t) p->conf->linger_us * 1000;
    }

    if (now_ns >= group->due_ns) {
        return 0;
    }

    if (!p->flush.posted) {
        ngx_post_event(&p->flush, &ngx_posted_next_events);
    }

    return 1;
}


/*
 * Tells those whose groups have ended, when the broker has its next messages
 * already. Thousands that waited for a broker which is gone are told over
 * several turns of the event loop.
 */

static void
ngx_http_hotpath_publish_answer(ngx_event_t *ev)
{
    ngx_uint_t                   left;
    ngx_queue_t                 *q;
    ngx_http_hotpath_publish_t  *p;

    p = ev->data;
    left = NGX_HTTP_HOTPATH_PUBLISH_TURN;

    while (!ngx_queue_empty(&p->answered)) {

        if (left == 0) {
            if (ev->posted) {
                ngx_delete_posted_event(ev);
            }

            ngx_post_event(ev, &ngx_posted_next_events);

            /* a worker that finishes stays for them */

            if (!ev->timer_set) {
                ngx_add_timer(ev, 1000);
            }

            return;
        }

        q = ngx_queue_head(&p->answered);
        left -= ngx_http_hotpath_publish_tell(
                    ngx_queue_data(q, ngx_http_hotpath_group_t, queue), left);
    }

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }
}


static ngx_int_t
ngx_http_hotpath_publish_send(ngx_http_hotpath_group_t *group)
{
    u_char                         header[HP_EVENT_GROUP_HEADER];
    u_char                         lines[NGX_HTTP_HOTPATH_PUBLISH_HEADERS], *p;
    ngx_int_t                      rc;
    ngx_str_t                      headers;
    ngx_str_t                      parts[NGX_HTTP_HOTPATH_PUBLISH_CHUNKS + 1];
    ngx_uint_t                     n;
    ngx_http_hotpath_chunk_t      *chunk;
    ngx_http_hotpath_waiter_t     *w;
    ngx_http_hotpath_publish_t    *publish;
    ngx_http_hotpath_partition_t  *partition;

    partition = group->partition;
    publish = partition->publish;

    if (group->events == 0) {
        /* there was no memory for its first event */
        return NGX_ERROR;
    }

    if (!group->sent) {
        group->number = publish->messages;
    }

    p = ngx_cpymem(lines, "Nats-Msg-Id: ", sizeof("Nats-Msg-Id: ") - 1);

    if (group->events == 1) {
        /* the same through whichever instance: the broker recognises it */
        w = group->waiters;
        hp_hex((char *) p, w->operation_id, HP_UUID_SIZE);
        p += 2 * HP_UUID_SIZE;
        *p++ = '-';
        hp_hex((char *) p, w->fingerprint, 8);
        p += 16;

    } else {
        p = ngx_sprintf(p, "%*s-%uL", sizeof(publish->name), publish->name,
                        group->number);
    }

    p = ngx_snprintf(p, lines + sizeof(lines) - p,
                     CRLF "Nats-Expected-Stream: %V" CRLF,
                     &partition->stream);

    headers.data = lines;
    headers.len = p - lines;

    hp_event_group_header(header, (uint32_t) group->events);

    parts[0].data = header;
    parts[0].len = HP_EVENT_GROUP_HEADER;

    for (n = 1, chunk = group->chunks; chunk; chunk = chunk->next, n++) {
        parts[n].data = chunk->data;
        parts[n].len = chunk->last - chunk->data;
    }

    rc = ngx_http_hotpath_nats_request(publish->nats, &partition->subject,
                                       &headers, parts, n,
                                       ngx_http_hotpath_publish_reply, group,
                                       &group->request);
    if (rc != NGX_OK) {
        return rc;
    }

    if (group->sent) {
        group->repeated = 1;

    } else {
        publish->messages++;
        ngx_http_hotpath_count(PUBLISH_MESSAGES);
        ngx_http_hotpath_add(PUBLISH_EVENTS, group->events);
    }

    group->sent = 1;
    group->flying = 1;
    partition->last_events = group->events;
    partition->in_flight++;
    ngx_queue_remove(&group->queue);
    ngx_queue_insert_tail(&partition->flying, &group->queue);

    return NGX_OK;
}


static void
ngx_http_hotpath_publish_reply(void *data, hp_nats_op_t *op)
{
    ngx_http_hotpath_group_t *group = data;

    hp_nats_puback_t                    ack;
    ngx_http_hotpath_publish_t         *p;
    ngx_http_hotpath_partition_t       *partition;
    ngx_http_hotpath_publish_result_t  *result;

    partition = group->partition;
    p = partition->publish;
    result = &group->result;

    result->outcome = NGX_HTTP_HOTPATH_PUBLISH_UNKNOWN;

    if (op == NULL) {
        if (partition->repeats) {
            ngx_http_hotpath_publish_keep(group);

        } else {
            ngx_http_hotpath_publish_end(group);
        }

        return;
    }

    if (op->status) {
        ngx_http_hotpath_publish_refused(group, op->status, op->text);
        goto answered;
    }

    if (hp_nats_puback_read(&ack, op->payload) != 0) {
        ngx_log_error(NGX_LOG_ERR, p->log, 0,
                      "hotpath: no PubAck on subject %V, but %uz other bytes",
                      &partition->subject, op->payload.len);
        goto answered;
    }

    if (ack.error) {
        ngx_http_hotpath_publish_refused(group, ack.err_code ? ack.err_code
                                                             : ack.code,
                                         ack.description);
        goto answered;
    }

    if (ack.stream.len != partition->stream.len
        || ngx_memcmp(ack.stream.data, partition->stream.data, ack.stream.len)
           != 0)
    {
        ngx_log_error(NGX_LOG_ERR, p->log, 0,
                      "hotpath: PubAck from stream \"%*s\" instead of \"%V\"",
                      ack.stream.len, ack.stream.data, &partition->stream);
        goto answered;
    }

    result->outcome = NGX_HTTP_HOTPATH_PUBLISHED;
    result->sequence = ack.sequence;

    /* one that goes back is of a repeat, or of a stream made anew since it
     * was asked for: which stream it counts in is then not known */

    if (ack.sequence > partition->sequence) {
        partition->sequence = ack.sequence;
        result->created = partition->created;
    }

answered:

    /* the next message first: the broker must not wait while many are told */

    ngx_http_hotpath_publish_end(group);
    ngx_http_hotpath_publish_send_queued(partition);
    ngx_http_hotpath_nats_push(p->nats);
}


/* The broker said no. Only of a message that was sent once does that say that
 * nothing was stored. */

static void
ngx_http_hotpath_publish_refused(ngx_http_hotpath_group_t *group,
    uint32_t err_code, hp_str_t description)
{
    ngx_http_hotpath_partition_t       *partition;
    ngx_http_hotpath_publish_result_t  *result;

    partition = group->partition;
    result = &group->result;

    result->refused = hp_refused(err_code, description);

    if (!group->repeated && result->refused != HP_REFUSED_UNSURE) {
        result->outcome = NGX_HTTP_HOTPATH_PUBLISH_REFUSED;
    }

    if (partition->complained != ngx_time()) {
        partition->complained = ngx_time();

        ngx_log_error(NGX_LOG_ERR, partition->publish->log, 0,
                      "hotpath: stream %V refused a message: %*s (%uD)",
                      &partition->stream, description.len, description.data,
                      err_code);
    }
}


/* Its connection went before its acknowledgement came. */

static void
ngx_http_hotpath_publish_keep(ngx_http_hotpath_group_t *group)
{
    ngx_queue_t                   *q;
    ngx_http_hotpath_group_t      *before;
    ngx_http_hotpath_publish_t    *p;
    ngx_http_hotpath_partition_t  *partition;

    partition = group->partition;
    p = partition->publish;

    group->flying = 0;
    partition->in_flight--;
    ngx_queue_remove(&group->queue);

    for (q = ngx_queue_last(&partition->lost);
         q != ngx_queue_sentinel(&partition->lost);
         q = ngx_queue_prev(q))
    {
        before = ngx_queue_data(q, ngx_http_hotpath_group_t, queue);

        if (before->number < group->number) {
            break;
        }
    }

    ngx_queue_insert_after(q, &group->queue);

    /* where another connection stands already, it goes at once */

    if (!p->flush.posted) {
        ngx_post_event(&p->flush, &ngx_posted_events);
    }
}


static void
ngx_http_hotpath_publish_deadline(ngx_event_t *ev)
{
    ngx_int_t                  rc;
    ngx_http_hotpath_group_t  *group;

    group = ev->data;

    group->result.outcome = group->sent ? NGX_HTTP_HOTPATH_PUBLISH_UNKNOWN
                                        : NGX_HTTP_HOTPATH_PUBLISH_UNSENT;

    if (group->flying) {
        /* a late PubAck does no harm: retries carry the key */
        rc = ngx_http_hotpath_nats_withdraw(group->partition->publish->nats,
                                            group->request);

        if (rc == NGX_DECLINED && !group->repeated) {
            group->result.outcome = NGX_HTTP_HOTPATH_PUBLISH_UNSENT;
        }
    }

    ngx_http_hotpath_publish_end(group);
}


/* The one end of every group, with its result set: it is neither queued nor
 * flying any more, and everybody will be told. */

static void
ngx_http_hotpath_publish_end(ngx_http_hotpath_group_t *group)
{
    ngx_http_hotpath_publish_t    *p;
    ngx_http_hotpath_partition_t  *partition;

    partition = group->partition;
    p = partition->publish;

    if (group->result.outcome != NGX_HTTP_HOTPATH_PUBLISHED) {
        ngx_http_hotpath_count(PUBLISH_ERRORS);
    }

    group->result.partition = partition - p->partitions;

    if (group->timer.timer_set) {
        ngx_del_timer(&group->timer);
    }

    if (group->flying) {
        group->flying = 0;
        partition->in_flight--;
    }

    ngx_queue_remove(&group->queue);
    ngx_queue_insert_tail(&p->answered, &group->queue);

    if (!p->answer.posted) {
        ngx_post_event(&p->answer, &ngx_posted_events);
    }

    if (!ngx_queue_empty(&partition->queued) && !p->flush.posted) {
        ngx_post_event(&p->flush, &ngx_posted_events);
    }
}


/* At most so many of a group; gives how many. The last one's end is that of
 * the group, which is recycled. */

static ngx_uint_t
ngx_http_hotpath_publish_tell(ngx_http_hotpath_group_t *group, ngx_uint_t most)
{
    ngx_uint_t                   n;
    ngx_http_hotpath_waiter_t   *w;
    ngx_http_hotpath_publish_t  *p;

    p = group->partition->publish;

    for (n = 0; group->waiters && n < most; n++) {
        w = group->waiters;
        p->handler(p->ctx, w, &group->result);

        group->waiters = w->next;
        ngx_http_hotpath_publish_spare(p, w);

        /* an ack must not wait for the rest of a long turn: the broker would
         * idle meanwhile */

        if (++p->answers % NGX_HTTP_HOTPATH_PUBLISH_LOOK == 0) {
            ngx_http_hotpath_nats_poll(p->nats);
        }
    }

    if (group->waiters == NULL) {
        ngx_http_hotpath_publish_recycle(group);
    }

    return n;
}


static void
ngx_http_hotpath_publish_spare(ngx_http_hotpath_publish_t *p,
    ngx_http_hotpath_waiter_t *w)
{
    if (p->nspare_waiters < NGX_HTTP_HOTPATH_PUBLISH_SPARE) {
        w->next = p->spare_waiters;
        p->spare_waiters = w;
        p->nspare_waiters++;

    } else {
        ngx_free(w);
    }
}


static void
ngx_http_hotpath_publish_recycle(ngx_http_hotpath_group_t *group)
{
    ngx_http_hotpath_chunk_t    *chunk;
    ngx_http_hotpath_waiter_t   *w;
    ngx_http_hotpath_publish_t  *p;

    p = group->partition->publish;

    if (group->timer.timer_set) {
        ngx_del_timer(&group->timer);
    }

    ngx_queue_remove(&group->queue);

    if (group->flying) {
        group->partition->in_flight--;
    }

    p->queued_bytes -= group->bytes
                       + group->events * NGX_HTTP_HOTPATH_PUBLISH_OVERHEAD;

    while (group->waiters) {
        w = group->waiters;
        group->waiters = w->next;
        ngx_http_hotpath_publish_spare(p, w);
    }

    while (group->chunks) {
        chunk = group->chunks;
        group->chunks = chunk->next;

        if (chunk->size == NGX_HTTP_HOTPATH_PUBLISH_CHUNK
            && p->nspare_chunks < NGX_HTTP_HOTPATH_PUBLISH_CHUNKS)
        {
            chunk->next = p->spare_chunks;
            p->spare_chunks = chunk;
            p->nspare_chunks++;

        } else {
            ngx_free(chunk);
        }
    }

    if (p->nspare_groups < NGX_HTTP_HOTPATH_PUBLISH_CHUNKS) {
        ngx_queue_insert_head(&p->spare_groups, &group->queue);
        p->nspare_groups++;

    } else {
        ngx_free(group);
    }
}


static void
ngx_http_hotpath_publish_state_changed(void *data, ngx_uint_t up)
{
    ngx_http_hotpath_publish_t *p = data;

    ngx_uint_t                     i;
    ngx_http_hotpath_partition_t  *partition;

    if (up) {
        ngx_http_hotpath_publish_refresh(&p->refresh);
        return;
    }

    /* those in flight were told by their requests; the rest was never sent */

    for (i = 0; i < p->conf->partitions; i++) {
        partition = &p->partitions[i];
        partition->asking = 0;

        /* another stream may stand there under this name when it is back */
        partition->created = 0;
        partition->reason = NULL;

        ngx_http_hotpath_publish_drop(partition, 0);
    }
}


/* What waits will not be sent; with lost, nor will be sent again what was. */

static void
ngx_http_hotpath_publish_drop(ngx_http_hotpath_partition_t *partition,
    ngx_uint_t lost)
{
    ngx_queue_t               *q;
    ngx_http_hotpath_group_t  *group;

    partition->starting = 0;

    while (!ngx_queue_empty(&partition->queued)) {
        q = ngx_queue_head(&partition->queued);
        group = ngx_queue_data(q, ngx_http_hotpath_group_t, queue);

        group->result.outcome = NGX_HTTP_HOTPATH_PUBLISH_UNSENT;
        ngx_http_hotpath_publish_end(group);
    }

    while (lost && !ngx_queue_empty(&partition->lost)) {
        q = ngx_queue_head(&partition->lost);
        group = ngx_queue_data(q, ngx_http_hotpath_group_t, queue);

        group->result.outcome = NGX_HTTP_HOTPATH_PUBLISH_UNKNOWN;
        ngx_http_hotpath_publish_end(group);
    }
}


static void
ngx_http_hotpath_publish_refresh(ngx_event_t *ev)
{
    ngx_int_t                      rc;
    ngx_str_t                      none;
    ngx_uint_t                     i, unknown;
    ngx_http_hotpath_publish_t    *p;
    ngx_http_hotpath_partition_t  *partition;

    p = ev->data;
    unknown = 0;

    ngx_str_null(&none);

    for (i = 0; i < p->conf->partitions; i++) {
        partition = &p->partitions[i];

        unknown |= (partition->created == 0);

        if (partition->asking) {

            if (ngx_current_msec - partition->asked
                < NGX_HTTP_HOTPATH_PUBLISH_REFRESH)
            {
                continue;
            }

            /* nothing came back for so long: ask anew */
            ngx_http_hotpath_nats_give_up(p->nats, partition->info);
        }

        rc = ngx_http_hotpath_nats_request(p->nats, &partition->info_subject,
                                           &none, NULL, 0,
                                           ngx_http_hotpath_publish_info,
                                           partition, &partition->info);
        partition->asking = (rc == NGX_OK);
        partition->asked = ngx_current_msec;
    }

    ngx_add_timer(&p->refresh, unknown ? NGX_HTTP_HOTPATH_PUBLISH_SOON
                                       : NGX_HTTP_HOTPATH_PUBLISH_REFRESH);
}


static void
ngx_http_hotpath_publish_info(void *data, hp_nats_op_t *op)
{
    ngx_http_hotpath_partition_t *partition = data;

    uint64_t                     created;
    const char                  *reason;
    hp_stream_t                  stream;
    hp_stream_fit_e              fit;
    ngx_http_hotpath_publish_t  *p;

    p = partition->publish;
    partition->asking = 0;

    if (op == NULL) {
        return;
    }

    fit = ngx_http_hotpath_publish_look(partition, op, &stream, &reason);

    if (reason && reason != partition->reason) {
        ngx_log_error(NGX_LOG_ERR, p->log, 0,
                      "hotpath: stream %V: %s%s", &partition->stream, reason,
                      fit == HP_STREAM_UNFIT ? ", nothing is published to it"
                                             : "");
    }

    if (reason == NULL && partition->reason) {
        ngx_log_error(NGX_LOG_NOTICE, p->log, 0,
                      "hotpath: stream %V is as it has to be",
                      &partition->stream);
    }

    partition->reason = reason;

    if (fit == HP_STREAM_UNFIT) {
        partition->created = 0;
        ngx_http_hotpath_publish_drop(partition, 1);
        return;
    }

    created = ngx_http_hotpath_publish_created(stream.created);

    if (created != partition->created) {
        partition->sequence = 0;
    }

    partition->created = created;
    partition->max_message = stream.max_message;

    /* twice, for a clock that is not ours and a message on its way */
    partition->repeats = stream.duplicate_window_ms >= 2 * p->conf->timeout;

    partition->starting = 0;

    if (!p->flush.posted) {
        ngx_post_event(&p->flush, &ngx_posted_events);
    }
}


/* Reasons are constants: another address is another reason. */

static hp_stream_fit_e
ngx_http_hotpath_publish_look(ngx_http_hotpath_partition_t *partition,
    hp_nats_op_t *op, hp_stream_t *stream, const char **reason)
{
    hp_str_t                          subject;
    hp_stream_wanted_t                wanted;
    ngx_http_hotpath_publish_conf_t  *conf;

    conf = partition->publish->conf;

    if (op->status == NGX_HTTP_HOTPATH_NATS_DENIED) {
        *reason = "may_not_be_asked_for";
        return HP_STREAM_UNFIT;
    }

    if (op->status) {
        *reason = "jetstream_does_not_answer";
        return HP_STREAM_UNFIT;
    }

    subject.data = partition->subject.data;
    subject.len = partition->subject.len;

    if (hp_stream_read(stream, op->payload, subject) != 0) {
        *reason = "answer_not_understood";
        return HP_STREAM_UNFIT;
    }

    wanted.storage = conf->storage;
    wanted.replicas = conf->replicas;
    wanted.duplicate_window_ms = conf->duplicate_window;
    wanted.max_message = conf->group_bytes + HP_EVENT_GROUP_HEADER
                         + NGX_HTTP_HOTPATH_PUBLISH_HEADERS;

    return hp_stream_check(stream, &wanted, reason);
}


/* Most bytes of events in one message. */

static size_t
ngx_http_hotpath_publish_most(ngx_http_hotpath_partition_t *partition)
{
    size_t                       most, head;
    ngx_http_hotpath_publish_t  *p;

    p = partition->publish;
    head = NGX_HTTP_HOTPATH_PUBLISH_HEADERS + HP_EVENT_GROUP_HEADER;

    if (!ngx_http_hotpath_nats_ready(p->nats)) {
        /* starting: what the server takes is not known yet */
        return p->conf->group_bytes;
    }

    most = ngx_http_hotpath_nats_max_payload(p->nats);

    if (partition->max_message && partition->max_message < most) {
        most = partition->max_message;
    }

    return most > head ? most - head : 0;
}


/* The group that takes size more bytes: the last one queued, or a new one. */

static ngx_http_hotpath_group_t *
ngx_http_hotpath_publish_group(ngx_http_hotpath_partition_t *partition,
    size_t size)
{
    size_t                       most;
    ngx_queue_t                 *q;
    ngx_http_hotpath_group_t    *group;
    ngx_http_hotpath_publish_t  *p;

    p = partition->publish;

    if (!ngx_queue_empty(&partition->queued)) {
        q = ngx_queue_last(&partition->queued);
        group = ngx_queue_data(q, ngx_http_hotpath_group_t, queue);

        most = ngx_min(p->conf->group_bytes,
                       ngx_http_hotpath_publish_most(partition));

        if (group->events < p->conf->group_events
            && group->bytes + size <= most
            && (group->nchunks < NGX_HTTP_HOTPATH_PUBLISH_CHUNKS
                || (size_t) (group->chunk->end - group->chunk->last) >= size))
        {
            return group;
        }
    }

    if (!ngx_queue_empty(&p->spare_groups)) {
        q = ngx_queue_head(&p->spare_groups);
        ngx_queue_remove(q);
        p->nspare_groups--;
        group = ngx_queue_data(q, ngx_http_hotpath_group_t, queue);

    } else {
        group = ngx_alloc(sizeof(ngx_http_hotpath_group_t), p->log);
        if (group == NULL) {
            return NULL;
        }
    }

    ngx_memzero(group, sizeof(ngx_http_hotpath_group_t));

    group->partition = partition;
    group->waiter_end = &group->waiters;
    group->timer.handler = ngx_http_hotpath_publish_deadline;
    group->timer.data = group;
    group->timer.log = p->log;

    /* not cancelable: it keeps an exiting worker until the answer is given */
    ngx_add_timer(&group->timer, p->conf->timeout);

    ngx_queue_insert_tail(&partition->queued, &group->queue);

    return group;
}


static u_char *
ngx_http_hotpath_publish_room(ngx_http_hotpath_publish_t *p,
    ngx_http_hotpath_group_t *group, size_t size)
{
    size_t                     want;
    ngx_http_hotpath_chunk_t  *chunk;

    chunk = group->chunk;

    if (chunk && (size_t) (chunk->end - chunk->last) >= size) {
        return chunk->last;
    }

    want = ngx_max(size, NGX_HTTP_HOTPATH_PUBLISH_CHUNK);

    if (want == NGX_HTTP_HOTPATH_PUBLISH_CHUNK && p->spare_chunks) {
        chunk = p->spare_chunks;
        p->spare_chunks = chunk->next;
        p->nspare_chunks--;

    } else {
        chunk = ngx_alloc(offsetof(ngx_http_hotpath_chunk_t, data) + want,
                          p->log);
        if (chunk == NULL) {
            return NULL;
        }

        chunk->size = want;
        chunk->end = chunk->data + want;
    }

    chunk->next = NULL;
    chunk->last = chunk->data;

    if (group->chunk) {
        group->chunk->next = chunk;
    } else {
        group->chunks = chunk;
    }

    group->chunk = chunk;
    group->nchunks++;

    return chunk->last;
}


static ngx_http_hotpath_waiter_t *
ngx_http_hotpath_publish_waiter(ngx_http_hotpath_publish_t *p)
{
    ngx_http_hotpath_waiter_t  *w;

    w = p->spare_waiters;

    if (w) {
        p->spare_waiters = w->next;
        p->nspare_waiters--;
        return w;
    }

    return ngx_alloc(sizeof(ngx_http_hotpath_waiter_t), p->log);
}
