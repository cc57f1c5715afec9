/*
 * ngx_http_hotpath_publish.c: group commit into JetStream.
 *
 * A partition is in here each of its streams, one for a priority; nothing of
 * one waits for another, and what is to be shed is refused when it comes. It
 * has a queue of groups. The last one takes new events until it is full; the
 * first ones are sent as long as fewer than `window` messages are in flight.
 * Sending happens in a posted event, after all that this turn of the event
 * loop brought in has been gathered, and when a PubAck makes room. What need
 * not linger then goes before those whom it is for are answered; what lingers
 * waits for the next events of just these. A group has one timer, from its
 * first event on: at the deadline an unsent group is dropped (nothing that was
 * answered 503 is sent later) and a sent one ends as unknown. When the
 * connection is lost, what was not sent is dropped at once. What was sent and
 * not acknowledged is kept until its deadline: where another connection comes
 * in time, it is sent again under the same Nats-Msg-Id, and the broker knows
 * it by that, if its duplicate window is long enough for it to.
 *
 * Owns the partitions and their queues; what is under way is bounded by
 * queue_bytes. Runs in the event loop of one worker. Never in here: a promise
 * without a PubAck from the expected stream, a message sent after its outcome
 * was told, one to a stream that is not known to be fit. Formats:
 * schemas/framing.md; tests: tests/integration/test_write.py, test_nats.py,
 * tests/faults/test_broker.py.
 */


#include "ngx_http_hotpath_publish.h"
#include "ngx_http_hotpath_metrics.h"
#include "ngx_http_hotpath_shm.h"
#include "core/hp_id.h"


#define NGX_HTTP_HOTPATH_PUBLISH_HEADERS  256

/* Without another event for so long, none is about to come: twice what a busy
 * client takes for one. */
#define NGX_HTTP_HOTPATH_PUBLISH_QUIET_NS  10000


typedef struct {
    ngx_http_hotpath_publish_t    *publish;
    ngx_http_hotpath_stream_t      stream;
    ngx_uint_t                     number;    /* hp_stream_number() */
    ngx_queue_t                    queued;    /* of groups, oldest first */
    ngx_queue_t                    flying;    /* of groups, oldest first */
    ngx_queue_t                    lost;      /* sent, by their numbers; to be
                                                 sent again */
    ngx_uint_t                     in_flight;
    ngx_uint_t                     last_events;  /* of the last message */
    uint64_t                       sequence;  /* the last one seen, in */
    uint64_t                       created;   /* the stream of that time */
    time_t                         complained;   /* of a refusal */
    unsigned                       starting:1; /* not known yet whether it is
                                                  usable: events wait */
} ngx_http_hotpath_partition_t;


struct ngx_http_hotpath_publish_s {
    ngx_http_hotpath_publish_conf_t  *conf;
    ngx_http_hotpath_nats_t          *nats;
    ngx_log_t                        *log;
    ngx_event_t                       flush;
    ngx_http_hotpath_streams_t       *streams;
    ngx_http_hotpath_groups_t         groups;
    uint64_t                          messages;
    u_char                            name[16];   /* hex, of this worker */
    ngx_uint_t                        npartitions; /* by priority first */
    ngx_http_hotpath_partition_t      partitions[1];
};


static void ngx_http_hotpath_publish_flush(ngx_event_t *ev);
static void ngx_http_hotpath_publish_send_queued(
    ngx_http_hotpath_partition_t *partition);
static ngx_uint_t ngx_http_hotpath_publish_lingers(
    ngx_http_hotpath_group_t *group);
static ngx_int_t ngx_http_hotpath_publish_send(
    ngx_http_hotpath_group_t *group);
static void ngx_http_hotpath_publish_reply(void *data, hp_nats_op_t *op);
static void ngx_http_hotpath_publish_deadline(ngx_event_t *ev);
static void ngx_http_hotpath_publish_end(ngx_http_hotpath_group_t *group);
static void ngx_http_hotpath_publish_recycle_all(ngx_queue_t *queue);
static void ngx_http_hotpath_publish_stream(void *data,
    ngx_http_hotpath_stream_e state);
static void ngx_http_hotpath_publish_drop(
    ngx_http_hotpath_partition_t *partition,
    ngx_http_hotpath_publish_e outcome);
static void ngx_http_hotpath_publish_keep(ngx_http_hotpath_group_t *group);
static void ngx_http_hotpath_publish_refused(
    ngx_http_hotpath_group_t *group, uint32_t err_code, hp_str_t description);
static ngx_uint_t ngx_http_hotpath_publish_behind(
    ngx_http_hotpath_publish_t *p, ngx_uint_t n, ngx_uint_t priority);
static size_t ngx_http_hotpath_publish_most(
    ngx_http_hotpath_partition_t *partition);
static ngx_http_hotpath_group_t *ngx_http_hotpath_publish_group(
    ngx_http_hotpath_partition_t *partition, size_t size);


ngx_http_hotpath_publish_t *
ngx_http_hotpath_publish_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_publish_conf_t *conf, ngx_http_hotpath_nats_t *nats,
    ngx_http_hotpath_publish_pt handler, void *ctx)
{
    u_char                        *p;
    ngx_uint_t                     i, n, priority;
    const char                    *suffix;
    hp_stream_wanted_t             wanted;
    ngx_http_hotpath_publish_t    *publish;
    ngx_http_hotpath_partition_t  *partition;

    n = conf->partitions * conf->priorities;

    publish = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hotpath_publish_t)
                          + (n - 1) * sizeof(ngx_http_hotpath_partition_t));
    if (publish == NULL) {
        return NULL;
    }

    publish->conf = conf;
    publish->npartitions = n;
    publish->nats = nats;
    publish->log = cycle->log;

    ngx_http_hotpath_groups_start(&publish->groups, nats, handler, ctx,
                                  cycle->log);

    /* unique to this worker's life: message ids are made of it */
    ngx_sprintf(publish->name, "%08xD%08xD",
                (uint32_t) ngx_random() ^ (uint32_t) ngx_time(),
                (uint32_t) ngx_random() ^ (uint32_t) ngx_pid << 15);

    wanted.storage = conf->storage;
    wanted.replicas = conf->replicas;
    wanted.duplicate_window_ms = conf->duplicate_window;
    wanted.max_message = conf->group_bytes + HP_EVENT_GROUP_HEADER
                         + NGX_HTTP_HOTPATH_PUBLISH_HEADERS;

    publish->streams = ngx_http_hotpath_streams_start(cycle, nats, &wanted);
    if (publish->streams == NULL) {
        return NULL;
    }

    for (i = 0; i < publish->npartitions; i++) {
        priority = i / conf->partitions;
        n = i % conf->partitions;
        suffix = hp_priority_suffix(priority);

        partition = &publish->partitions[i];
        partition->publish = publish;
        partition->number = hp_stream_number(n, priority);
        ngx_queue_init(&partition->queued);
        ngx_queue_init(&partition->flying);
        ngx_queue_init(&partition->lost);

        /* a worker that has just started gets connections before its own to
         * the broker stands; after a reload that must cost nobody a 503 */
        partition->starting = 1;

        p = ngx_pnalloc(cycle->pool, conf->stream.len + conf->subject.len
                                     + 2 * (2 + NGX_INT_T_LEN
                                            + ngx_strlen(suffix)));
        if (p == NULL) {
            return NULL;
        }

        partition->stream.name.data = p;
        p = ngx_sprintf(p, "%V_%ui%s%s", &conf->stream, n,
                        *suffix ? "_" : "", suffix);
        partition->stream.name.len = p - partition->stream.name.data;
        partition->stream.subject.data = p;
        p = ngx_sprintf(p, "%V.%ui%s%s", &conf->subject, n,
                        *suffix ? "." : "", suffix);
        partition->stream.subject.len = p - partition->stream.subject.data;

        partition->stream.handler = ngx_http_hotpath_publish_stream;
        partition->stream.data = partition;

        if (ngx_http_hotpath_streams_add(publish->streams, &partition->stream,
                                         cycle->pool)
            != NGX_OK)
        {
            return NULL;
        }
    }

    publish->flush.handler = ngx_http_hotpath_publish_flush;
    publish->flush.data = publish;
    publish->flush.log = cycle->log;

    return publish;
}


void
ngx_http_hotpath_publish_stop(ngx_http_hotpath_publish_t *p)
{
    ngx_uint_t                     i;
    ngx_http_hotpath_partition_t  *partition;

    /* a worker that finishes in peace has none left, since a group's timer
     * holds it back; one that was told to stop at once answers nobody */

    for (i = 0; i < p->npartitions; i++) {
        partition = &p->partitions[i];

        ngx_http_hotpath_publish_recycle_all(&partition->flying);
        ngx_http_hotpath_publish_recycle_all(&partition->lost);
        ngx_http_hotpath_publish_recycle_all(&partition->queued);
    }

    ngx_http_hotpath_streams_stop(p->streams);

    if (p->flush.posted) {
        ngx_delete_posted_event(&p->flush);
    }

    ngx_http_hotpath_groups_stop(&p->groups);
}


ngx_int_t
ngx_http_hotpath_publish_event(ngx_http_hotpath_publish_t *p, ngx_uint_t n,
    ngx_uint_t priority, hp_event_t *event, ngx_uint_t anew, void *data,
    ngx_http_hotpath_waiter_t **waiter)
{
    size_t                         size, room;
    ngx_http_hotpath_group_t      *group;
    ngx_http_hotpath_waiter_t     *w;
    ngx_http_hotpath_partition_t  *partition;

    partition = &p->partitions[priority * p->conf->partitions + n];

    if (!partition->starting) {

        if (!ngx_http_hotpath_nats_ready(p->nats)) {
            return NGX_DECLINED;
        }

        if (partition->stream.created == 0) {
            /* not asked yet since it is connected again, or not fit */
            return partition->stream.reason ? NGX_ABORT : NGX_DECLINED;
        }
    }

    size = hp_event_size(event);

    if (size > ngx_http_hotpath_publish_most(partition)) {
        return NGX_ERROR;
    }

    room = p->conf->queue_bytes;

    if (p->conf->priorities > 1) {
        room = hp_priority_room(priority, room);
    }

    if (p->groups.held + ngx_http_hotpath_group_cost(size) > room) {
        return room < p->conf->queue_bytes ? NGX_AGAIN : NGX_BUSY;
    }

    if (p->conf->backlog_bytes
        && ngx_http_hotpath_publish_behind(p, n, priority))
    {
        return NGX_AGAIN;
    }

    group = ngx_http_hotpath_publish_group(partition, size);
    if (group == NULL) {
        return NGX_BUSY;
    }

    w = ngx_http_hotpath_group_add(group, event, size, data);
    if (w == NULL) {
        return NGX_BUSY;
    }

    group->anew |= anew;

    if (!p->flush.posted) {
        ngx_post_event(&p->flush, &ngx_posted_events);
    }

    *waiter = w;

    return NGX_OK;
}


uint64_t
ngx_http_hotpath_publish_looked(ngx_http_hotpath_publish_t *p,
    ngx_uint_t number, ngx_msec_t *age_ms)
{
    ngx_uint_t  i;

    for (i = 0; i < p->npartitions; i++) {

        if (p->partitions[i].number == number) {
            *age_ms = ngx_current_msec - p->partitions[i].stream.looked;
            return p->partitions[i].stream.created;
        }
    }

    return 0;
}


void
ngx_http_hotpath_publish_state(ngx_http_hotpath_publish_t *p,
    ngx_http_hotpath_publish_state_t *state)
{
    ngx_uint_t                     i;
    ngx_http_hotpath_partition_t  *partition;

    state->connected = ngx_http_hotpath_nats_ready(p->nats);
    state->queued_bytes = p->groups.held;
    state->streams = 0;
    state->wanted = p->npartitions;
    state->reason = NULL;
    ngx_str_null(&state->stream);

    for (i = 0; i < p->npartitions; i++) {
        partition = &p->partitions[i];

        if (partition->stream.created && partition->stream.reason == NULL) {
            state->streams++;

        } else if (state->reason == NULL) {
            state->stream = partition->stream.name;
            state->reason = partition->stream.reason;
        }
    }
}


/* Once at the end of a turn of the event loop in which something changed. */

static void
ngx_http_hotpath_publish_flush(ngx_event_t *ev)
{
    ngx_uint_t                   i;
    ngx_http_hotpath_publish_t  *p;

    p = ev->data;

    for (i = 0; i < p->npartitions; i++) {
        ngx_http_hotpath_publish_send_queued(&p->partitions[i]);
    }
}


static void
ngx_http_hotpath_publish_send_queued(ngx_http_hotpath_partition_t *partition)
{
    ngx_queue_t               *q;
    ngx_http_hotpath_group_t  *group;

    if (partition->starting || partition->stream.created == 0) {
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
 * 1: more may join it for a moment longer, for as long as they keep coming and
 * linger_us at most. Only where the last message of the partition carried more
 * than one event: at low load nothing waits. Those who are about to be told the
 * outcome of the one before are the ones who send the next events, so the
 * moment begins when this turn has told them. There are no timers for
 * microseconds; the loop turns without sleeping meanwhile.
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

    if (!group->passed && !ngx_queue_empty(&p->groups.answered)) {
        group->passed = 1;
        goto lingers;
    }

    now_ns = ngx_http_hotpath_monotonic_ns();

    if (group->due_ns == 0) {
        group->due_ns = now_ns + (int64_t) p->conf->linger_us * 1000;
    }

    if (group->looked_events != group->events) {
        group->looked_events = group->events;
        group->quiet_ns = now_ns + NGX_HTTP_HOTPATH_PUBLISH_QUIET_NS;
    }

    if (now_ns >= group->due_ns || now_ns >= group->quiet_ns) {
        return 0;
    }

lingers:

    if (!p->flush.posted) {
        ngx_post_event(&p->flush, &ngx_posted_next_events);
    }

    return 1;
}


static ngx_int_t
ngx_http_hotpath_publish_send(ngx_http_hotpath_group_t *group)
{
    u_char                         header[HP_EVENT_GROUP_HEADER];
    u_char                         lines[NGX_HTTP_HOTPATH_PUBLISH_HEADERS], *p;
    ngx_int_t                      rc;
    ngx_str_t                      headers;
    ngx_str_t                      parts[NGX_HTTP_HOTPATH_GROUP_CHUNKS + 1];
    ngx_uint_t                     n;
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

    if (group->events == 1 && !group->anew) {
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
                     &partition->stream.name);

    headers.data = lines;
    headers.len = p - lines;

    hp_event_group_header(header, (uint32_t) group->events);

    parts[0].data = header;
    parts[0].len = HP_EVENT_GROUP_HEADER;

    n = 1 + ngx_http_hotpath_group_parts(group, &parts[1]);

    rc = ngx_http_hotpath_nats_request(publish->nats,
                                       &partition->stream.subject,
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
    publish->groups.flying++;
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
        /* twice, for a clock that is not ours and a message on its way */

        if (partition->stream.duplicate_window_ms >= 2 * p->conf->timeout) {
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
                      &partition->stream.subject, op->payload.len);
        goto answered;
    }

    if (ack.error) {
        ngx_http_hotpath_publish_refused(group, ack.err_code ? ack.err_code
                                                             : ack.code,
                                         ack.description);
        goto answered;
    }

    if (ack.stream.len != partition->stream.name.len
        || ngx_memcmp(ack.stream.data, partition->stream.name.data,
                      ack.stream.len)
           != 0)
    {
        ngx_log_error(NGX_LOG_ERR, p->log, 0,
                      "hotpath: PubAck from stream \"%*s\" instead of \"%V\"",
                      ack.stream.len, ack.stream.data,
                      &partition->stream.name);
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

    /* a full message first: the broker must not wait while many are told */

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
                      &partition->stream.name,
                      description.len, description.data,
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
    p->groups.flying--;
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
    ngx_int_t                      rc;
    ngx_http_hotpath_group_t      *group;
    ngx_http_hotpath_partition_t  *partition;

    group = ev->data;
    partition = group->partition;

    group->result.outcome = group->sent ? NGX_HTTP_HOTPATH_PUBLISH_UNKNOWN
                                        : NGX_HTTP_HOTPATH_PUBLISH_UNSENT;

    if (group->flying) {
        /* a late PubAck does no harm: retries carry the key */
        rc = ngx_http_hotpath_nats_withdraw(partition->publish->nats,
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

    group->result.number = partition->number;

    if (group->timer.timer_set) {
        ngx_del_timer(&group->timer);
    }

    if (group->flying) {
        group->flying = 0;
        partition->in_flight--;
        p->groups.flying--;
    }

    ngx_http_hotpath_group_answer(group);

    if (!ngx_queue_empty(&partition->queued) && !p->flush.posted) {
        ngx_post_event(&p->flush, &ngx_posted_events);
    }
}


static void
ngx_http_hotpath_publish_recycle_all(ngx_queue_t *queue)
{
    ngx_queue_t  *q;

    while (!ngx_queue_empty(queue)) {
        q = ngx_queue_head(queue);
        ngx_http_hotpath_group_recycle(
                          ngx_queue_data(q, ngx_http_hotpath_group_t, queue));
    }
}


static void
ngx_http_hotpath_publish_stream(void *data, ngx_http_hotpath_stream_e state)
{
    ngx_http_hotpath_partition_t *partition = data;

    ngx_http_hotpath_publish_t  *p;

    p = partition->publish;

    switch (state) {

    case NGX_HTTP_HOTPATH_STREAM_LOST:
        /* what was in flight heard of it as a request; the rest was never
         * sent */
        partition->created = 0;
        ngx_http_hotpath_publish_drop(partition,
                                      NGX_HTTP_HOTPATH_PUBLISH_UNSENT);
        break;

    case NGX_HTTP_HOTPATH_STREAM_UNFIT:
        partition->created = 0;
        ngx_http_hotpath_publish_drop(partition,
                                      NGX_HTTP_HOTPATH_PUBLISH_REFUSED);
        break;

    default: /* NGX_HTTP_HOTPATH_STREAM_FIT */
        if (partition->created != partition->stream.created) {
            partition->created = partition->stream.created;
            partition->sequence = 0;
        }

        partition->starting = 0;

        if (!p->flush.posted) {
            ngx_post_event(&p->flush, &ngx_posted_events);
        }

        break;
    }
}


/* What waits will not be sent, with that outcome: the connection is gone, and
 * what was sent waits for another; or the stream is no longer fit, and that is
 * not sent again either. */

static void
ngx_http_hotpath_publish_drop(ngx_http_hotpath_partition_t *partition,
    ngx_http_hotpath_publish_e outcome)
{
    ngx_queue_t               *q;
    ngx_http_hotpath_group_t  *group;

    partition->starting = 0;

    while (!ngx_queue_empty(&partition->queued)) {
        q = ngx_queue_head(&partition->queued);
        group = ngx_queue_data(q, ngx_http_hotpath_group_t, queue);

        group->result.outcome = outcome;
        group->result.refused = HP_REFUSED_MISSING;
        ngx_http_hotpath_publish_end(group);
    }

    if (outcome == NGX_HTTP_HOTPATH_PUBLISH_UNSENT) {
        return;
    }

    while (!ngx_queue_empty(&partition->lost)) {
        q = ngx_queue_head(&partition->lost);
        group = ngx_queue_data(q, ngx_http_hotpath_group_t, queue);

        group->result.outcome = NGX_HTTP_HOTPATH_PUBLISH_UNKNOWN;
        ngx_http_hotpath_publish_end(group);
    }
}


/* 1: what its streams hold, as they last said, is too much for that. */

static ngx_uint_t
ngx_http_hotpath_publish_behind(ngx_http_hotpath_publish_t *p, ngx_uint_t n,
    ngx_uint_t priority)
{
    uint64_t  bytes;

    bytes = 0;

    for ( /* void */ ; n < p->npartitions; n += p->conf->partitions) {
        bytes += p->partitions[n].stream.bytes;
    }

    return hp_priority_behind(priority, bytes, p->conf->backlog_bytes);
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

    if (partition->stream.max_message
        && partition->stream.max_message < most)
    {
        most = partition->stream.max_message;
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

        if (ngx_http_hotpath_group_fit(group, size, p->conf->group_events,
                                       most))
        {
            return group;
        }
    }

    group = ngx_http_hotpath_group_new(&p->groups);
    if (group == NULL) {
        return NULL;
    }

    group->partition = partition;
    group->timer.handler = ngx_http_hotpath_publish_deadline;
    group->timer.data = group;
    group->timer.log = p->log;

    /* not cancelable: it keeps an exiting worker until the answer is given */
    ngx_add_timer(&group->timer, p->conf->timeout);

    ngx_queue_insert_tail(&partition->queued, &group->queue);

    return group;
}
