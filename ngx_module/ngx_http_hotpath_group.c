/*
 * ngx_http_hotpath_group.c: the events of one message, from the first of them
 * until all who wait for them were told.
 *
 * Events come one at a time and go out together, so their records are written
 * once, into chunks of 16 KiB, where they stay until the message has its
 * outcome: it may be sent again. A larger record has a chunk of its own. A
 * message never has more chunks than may be handed over as parts.
 *
 * Owns all groups, chunks and waiters, in use or not; they come from the
 * allocator, and what is kept for use again is bounded. Those who wait are told
 * when the broker has its next messages already, thousands of them over several
 * turns of the event loop. Runs in the event loop of one worker, without locks.
 * Never in here: a bound on how much is under way, which is the caller's to
 * hold by what stands in held. Formats: schemas/framing.md;
 * tests/integration/test_write.py, tests/faults/test_waiting.py.
 */


#include "ngx_http_hotpath_group.h"


#define NGX_HTTP_HOTPATH_GROUP_CHUNK    16384

/* Of each kind, for use again. */
#define NGX_HTTP_HOTPATH_GROUP_GROUPS   64
#define NGX_HTTP_HOTPATH_GROUP_KEPT     64    /* chunks */
#define NGX_HTTP_HOTPATH_GROUP_WAITERS  1024

/* Told between two looks at the broker's connection. */
#define NGX_HTTP_HOTPATH_GROUP_LOOK     8

/* Told in one turn of the event loop: others have their turn too. */
#define NGX_HTTP_HOTPATH_GROUP_TURN     512


struct ngx_http_hotpath_chunk_s {
    ngx_http_hotpath_chunk_t  *next;
    size_t                     size;
    u_char                    *last;
    u_char                    *end;
    u_char                     data[1];
};


static u_char *ngx_http_hotpath_group_room(ngx_http_hotpath_group_t *group,
    size_t size);
static void ngx_http_hotpath_group_keep_waiter(
    ngx_http_hotpath_groups_t *groups, ngx_http_hotpath_waiter_t *w);
static void ngx_http_hotpath_groups_answer(ngx_event_t *ev);
static ngx_uint_t ngx_http_hotpath_group_tell(
    ngx_http_hotpath_group_t *group, ngx_uint_t most);


void
ngx_http_hotpath_groups_start(ngx_http_hotpath_groups_t *groups,
    ngx_http_hotpath_nats_t *nats, ngx_http_hotpath_publish_pt handler,
    void *ctx, ngx_log_t *log)
{
    ngx_memzero(groups, sizeof(ngx_http_hotpath_groups_t));

    groups->handler = handler;
    groups->ctx = ctx;
    groups->nats = nats;
    groups->log = log;

    ngx_queue_init(&groups->answered);
    ngx_queue_init(&groups->groups);

    groups->answer.handler = ngx_http_hotpath_groups_answer;
    groups->answer.data = groups;
    groups->answer.log = log;
}


void
ngx_http_hotpath_groups_stop(ngx_http_hotpath_groups_t *groups)
{
    ngx_queue_t                *q;
    ngx_http_hotpath_chunk_t   *chunk;
    ngx_http_hotpath_waiter_t  *w;

    if (groups->answer.posted) {
        ngx_delete_posted_event(&groups->answer);
    }

    if (groups->answer.timer_set) {
        ngx_del_timer(&groups->answer);
    }

    while (!ngx_queue_empty(&groups->answered)) {
        q = ngx_queue_head(&groups->answered);
        ngx_http_hotpath_group_recycle(
                          ngx_queue_data(q, ngx_http_hotpath_group_t, queue));
    }

    while (!ngx_queue_empty(&groups->groups)) {
        q = ngx_queue_head(&groups->groups);
        ngx_queue_remove(q);
        ngx_free(ngx_queue_data(q, ngx_http_hotpath_group_t, queue));
    }

    while (groups->chunks) {
        chunk = groups->chunks;
        groups->chunks = chunk->next;
        ngx_free(chunk);
    }

    while (groups->waiters) {
        w = groups->waiters;
        groups->waiters = w->next;
        ngx_free(w);
    }
}


ngx_http_hotpath_group_t *
ngx_http_hotpath_group_new(ngx_http_hotpath_groups_t *groups)
{
    ngx_queue_t               *q;
    ngx_http_hotpath_group_t  *group;

    if (!ngx_queue_empty(&groups->groups)) {
        q = ngx_queue_head(&groups->groups);
        ngx_queue_remove(q);
        groups->ngroups--;
        group = ngx_queue_data(q, ngx_http_hotpath_group_t, queue);

    } else {
        group = ngx_alloc(sizeof(ngx_http_hotpath_group_t), groups->log);
        if (group == NULL) {
            return NULL;
        }
    }

    ngx_memzero(group, sizeof(ngx_http_hotpath_group_t));

    group->groups = groups;

    return group;
}


ngx_uint_t
ngx_http_hotpath_group_fit(ngx_http_hotpath_group_t *group, size_t size,
    ngx_uint_t most_events, size_t most_bytes)
{
    return group->events < most_events
           && group->bytes + size <= most_bytes
           && (group->nchunks < NGX_HTTP_HOTPATH_GROUP_CHUNKS
               || (size_t) (group->last->end - group->last->last) >= size);
}


ngx_http_hotpath_waiter_t *
ngx_http_hotpath_group_add(ngx_http_hotpath_group_t *group, hp_event_t *event,
    size_t size, void *data)
{
    u_char                     *to;
    ngx_http_hotpath_waiter_t  *w;
    ngx_http_hotpath_groups_t  *groups;

    groups = group->groups;
    w = groups->waiters;

    if (w) {
        groups->waiters = w->next;
        groups->nwaiters--;

    } else {
        w = ngx_alloc(sizeof(ngx_http_hotpath_waiter_t), groups->log);
        if (w == NULL) {
            return NULL;
        }
    }

    to = ngx_http_hotpath_group_room(group, size);

    if (to == NULL) {
        ngx_http_hotpath_group_keep_waiter(groups, w);
        return NULL;
    }

    group->last->last = hp_event_write(to, event);

    w->next = NULL;
    w->data = data;
    w->accepted_us = event->accepted_us;
    ngx_memcpy(w->operation_id, event->operation_id, HP_UUID_SIZE);
    ngx_memcpy(w->fingerprint, event->fingerprint, HP_FINGERPRINT_SIZE);

    if (group->waiters) {
        group->newest->next = w;
    } else {
        group->waiters = w;
    }

    group->newest = w;
    group->events++;
    group->bytes += size;

    groups->held += ngx_http_hotpath_group_cost(size);

    return w;
}


static u_char *
ngx_http_hotpath_group_room(ngx_http_hotpath_group_t *group, size_t size)
{
    size_t                      want;
    ngx_http_hotpath_chunk_t   *chunk;
    ngx_http_hotpath_groups_t  *groups;

    chunk = group->last;

    if (chunk && (size_t) (chunk->end - chunk->last) >= size) {
        return chunk->last;
    }

    groups = group->groups;
    want = ngx_max(size, NGX_HTTP_HOTPATH_GROUP_CHUNK);

    if (want == NGX_HTTP_HOTPATH_GROUP_CHUNK && groups->chunks) {
        chunk = groups->chunks;
        groups->chunks = chunk->next;
        groups->nchunks--;

    } else {
        chunk = ngx_alloc(offsetof(ngx_http_hotpath_chunk_t, data) + want,
                          groups->log);
        if (chunk == NULL) {
            return NULL;
        }

        chunk->size = want;
        chunk->end = chunk->data + want;
    }

    chunk->next = NULL;
    chunk->last = chunk->data;

    if (group->last) {
        group->last->next = chunk;
    } else {
        group->chunks = chunk;
    }

    group->last = chunk;
    group->nchunks++;

    return chunk->last;
}


ngx_uint_t
ngx_http_hotpath_group_parts(ngx_http_hotpath_group_t *group, ngx_str_t *parts)
{
    ngx_uint_t                 n;
    ngx_http_hotpath_chunk_t  *chunk;

    for (n = 0, chunk = group->chunks; chunk; chunk = chunk->next, n++) {
        parts[n].data = chunk->data;
        parts[n].len = chunk->last - chunk->data;
    }

    return n;
}


void
ngx_http_hotpath_group_answer(ngx_http_hotpath_group_t *group)
{
    ngx_http_hotpath_groups_t  *groups;

    groups = group->groups;

    ngx_queue_remove(&group->queue);
    ngx_queue_insert_tail(&groups->answered, &group->queue);

    if (!groups->answer.posted) {
        ngx_post_event(&groups->answer, &ngx_posted_events);
    }
}


static void
ngx_http_hotpath_groups_answer(ngx_event_t *ev)
{
    ngx_uint_t                  left;
    ngx_queue_t                *q;
    ngx_http_hotpath_groups_t  *groups;

    groups = ev->data;
    left = NGX_HTTP_HOTPATH_GROUP_TURN;

    while (!ngx_queue_empty(&groups->answered)) {

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

        q = ngx_queue_head(&groups->answered);
        left -= ngx_http_hotpath_group_tell(
                    ngx_queue_data(q, ngx_http_hotpath_group_t, queue), left);
    }

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }
}


/* At most so many of a group; gives how many. The last one's end is that of
 * the group, which is recycled. */

static ngx_uint_t
ngx_http_hotpath_group_tell(ngx_http_hotpath_group_t *group, ngx_uint_t most)
{
    ngx_uint_t                  n;
    ngx_http_hotpath_waiter_t  *w;
    ngx_http_hotpath_groups_t  *groups;

    groups = group->groups;

    for (n = 0; group->waiters && n < most; n++) {
        w = group->waiters;
        groups->handler(groups->ctx, w, &group->result);

        group->waiters = w->next;
        ngx_http_hotpath_group_keep_waiter(groups, w);

        /* an ack must not wait for the rest of a long turn: the broker would
         * idle meanwhile */

        if (groups->flying
            && ++groups->answers % NGX_HTTP_HOTPATH_GROUP_LOOK == 0)
        {
            ngx_http_hotpath_nats_poll(groups->nats);
        }
    }

    if (group->waiters == NULL) {
        ngx_http_hotpath_group_recycle(group);
    }

    return n;
}


void
ngx_http_hotpath_group_recycle(ngx_http_hotpath_group_t *group)
{
    ngx_http_hotpath_chunk_t   *chunk;
    ngx_http_hotpath_waiter_t  *w;
    ngx_http_hotpath_groups_t  *groups;

    groups = group->groups;

    if (group->timer.timer_set) {
        ngx_del_timer(&group->timer);
    }

    ngx_queue_remove(&group->queue);

    groups->held -= group->bytes
                    + group->events * ngx_http_hotpath_group_cost(0);

    while (group->waiters) {
        w = group->waiters;
        group->waiters = w->next;
        ngx_http_hotpath_group_keep_waiter(groups, w);
    }

    while (group->chunks) {
        chunk = group->chunks;
        group->chunks = chunk->next;

        if (chunk->size == NGX_HTTP_HOTPATH_GROUP_CHUNK
            && groups->nchunks < NGX_HTTP_HOTPATH_GROUP_KEPT)
        {
            chunk->next = groups->chunks;
            groups->chunks = chunk;
            groups->nchunks++;

        } else {
            ngx_free(chunk);
        }
    }

    if (groups->ngroups < NGX_HTTP_HOTPATH_GROUP_GROUPS) {
        ngx_queue_insert_head(&groups->groups, &group->queue);
        groups->ngroups++;

    } else {
        ngx_free(group);
    }
}


static void
ngx_http_hotpath_group_keep_waiter(ngx_http_hotpath_groups_t *groups,
    ngx_http_hotpath_waiter_t *w)
{
    if (groups->nwaiters < NGX_HTTP_HOTPATH_GROUP_WAITERS) {
        w->next = groups->waiters;
        groups->waiters = w;
        groups->nwaiters++;

    } else {
        ngx_free(w);
    }
}
