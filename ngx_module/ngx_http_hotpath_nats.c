/*
 * ngx_http_hotpath_nats.c: NATS for one nginx worker: servers, requests,
 * subscriptions.
 *
 * Owns two links (nats_link), the list of servers and the table of requests
 * without a reply; all of it lives from init_process to exit_process of one
 * worker. Runs in the event loop of that worker only and takes no lock.
 *
 * Of the links one is active: requests go to it and messages come from it. When
 * its server says that it is about to stop, another is connected to meanwhile;
 * when that one is ready it becomes the active one, and the first stays until
 * it owes no reply. Both subscribe to one inbox, so a reply may come by either.
 * A request belongs to the link it was written to: lost with it, and whoever
 * waits is told. Never in here: a call that blocks, a message kept for the next
 * connection. Tests: tests/integration/test_nats.py,
 * tests/faults/test_broker.py.
 */


#include "ngx_http_hotpath_nats.h"
#include "ngx_http_hotpath_metrics.h"
#include "ngx_http_hotpath_nats_link.h"


#define NGX_HTTP_HOTPATH_NATS_HANDLERS    8
#define NGX_HTTP_HOTPATH_NATS_BACKOFF_MIN 50
#define NGX_HTTP_HOTPATH_NATS_BACKOFF_MAX 800

/* "_INBOX." 16 hexadecimal digits "." */
#define NGX_HTTP_HOTPATH_NATS_INBOX       24


typedef struct {
    ngx_str_t                          subject;
    ngx_http_hotpath_nats_message_pt   handler;
    void                              *data;
} ngx_http_hotpath_nats_sub_t;


typedef struct {
    ngx_http_hotpath_nats_state_pt     handler;
    void                              *data;
} ngx_http_hotpath_nats_watch_t;


/* A free slot has no handler and is linked by next; the id that a reply
 * carries is generation * REQUESTS + index, so that a late reply to an earlier
 * use of the slot is recognised. */
typedef struct {
    ngx_http_hotpath_nats_reply_pt     handler;
    void                              *data;
    ngx_http_hotpath_nats_link_t      *link;
    ngx_str_t                         *subject;
    uint64_t                           end;       /* in the link's bytes */
    uint32_t                           generation;
    uint32_t                           next;
} ngx_http_hotpath_nats_slot_t;


struct ngx_http_hotpath_nats_s {
    ngx_http_hotpath_nats_conf_t      *conf;
    ngx_log_t                         *log;
    ngx_http_hotpath_nats_servers_t    servers;

    ngx_http_hotpath_nats_link_t       links[2];
    ngx_http_hotpath_nats_link_t      *active;    /* NULL: not connected */
    ngx_http_hotpath_nats_link_t      *trying;    /* NULL: none is made */

    ngx_event_t                        timer;     /* of the next attempt */
    ngx_msec_t                         backoff;
    ngx_uint_t                         failures;
    unsigned                           tried:1;   /* up or down is known */
    unsigned                           leaving:1; /* the active one will stop */

    ngx_http_hotpath_nats_sub_t        subs[NGX_HTTP_HOTPATH_NATS_HANDLERS];
    ngx_uint_t                         nsubs;
    ngx_http_hotpath_nats_watch_t      watches[NGX_HTTP_HOTPATH_NATS_HANDLERS];
    ngx_uint_t                         nwatches;

    u_char                             inbox[NGX_HTTP_HOTPATH_NATS_INBOX];
    uint32_t                           free;
    ngx_http_hotpath_nats_slot_t       slots[NGX_HTTP_HOTPATH_NATS_REQUESTS];
};


static void ngx_http_hotpath_nats_attempt(ngx_event_t *ev);
static void ngx_http_hotpath_nats_again(ngx_http_hotpath_nats_t *nats,
    ngx_msec_t wait);
static ngx_int_t ngx_http_hotpath_nats_greeting(void *data,
    ngx_http_hotpath_nats_link_t *link);
static void ngx_http_hotpath_nats_link_ready(void *data,
    ngx_http_hotpath_nats_link_t *link);
static void ngx_http_hotpath_nats_lost(void *data,
    ngx_http_hotpath_nats_link_t *link, const char *why, ngx_uint_t bad);
static void ngx_http_hotpath_nats_message(void *data,
    ngx_http_hotpath_nats_link_t *link, hp_nats_op_t *op);
static void ngx_http_hotpath_nats_info(void *data,
    ngx_http_hotpath_nats_link_t *link, hp_nats_info_t *info);
static void ngx_http_hotpath_nats_denied(void *data,
    ngx_http_hotpath_nats_link_t *link, hp_str_t subject, hp_str_t text);
static void ngx_http_hotpath_nats_reply(ngx_http_hotpath_nats_t *nats,
    hp_nats_op_t *op);
static void ngx_http_hotpath_nats_tell(ngx_http_hotpath_nats_t *nats,
    ngx_uint_t up);
static ngx_uint_t ngx_http_hotpath_nats_owes(ngx_http_hotpath_nats_t *nats,
    ngx_http_hotpath_nats_link_t *link);


static const ngx_http_hotpath_nats_owner_t  ngx_http_hotpath_nats_owner = {
    ngx_http_hotpath_nats_greeting,
    ngx_http_hotpath_nats_link_ready,
    ngx_http_hotpath_nats_lost,
    ngx_http_hotpath_nats_message,
    ngx_http_hotpath_nats_info,
    ngx_http_hotpath_nats_denied
};


ngx_http_hotpath_nats_t *
ngx_http_hotpath_nats_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_nats_conf_t *conf)
{
    uint32_t                  i;
    ngx_http_hotpath_nats_t  *nats;

    nats = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hotpath_nats_t));
    if (nats == NULL) {
        return NULL;
    }

    nats->conf = conf;
    nats->log = cycle->log;
    nats->backoff = NGX_HTTP_HOTPATH_NATS_BACKOFF_MIN;

    if (ngx_http_hotpath_nats_servers_init(&nats->servers, conf, cycle->pool)
        != NGX_OK)
    {
        return NULL;
    }

    for (i = 0; i < 2; i++) {
        ngx_http_hotpath_nats_link_init(&nats->links[i],
                                        &ngx_http_hotpath_nats_owner, nats,
                                        conf, cycle->log);
    }

    ngx_sprintf(nats->inbox, "_INBOX.%08xD%08xD.",
                (uint32_t) ngx_random() ^ (uint32_t) ngx_pid << 16,
                (uint32_t) ngx_random() ^ (uint32_t) ngx_time());

    for (i = 0; i < NGX_HTTP_HOTPATH_NATS_REQUESTS; i++) {
        nats->slots[i].next = i + 1;
    }

    nats->timer.handler = ngx_http_hotpath_nats_attempt;
    nats->timer.data = nats;
    nats->timer.log = cycle->log;
    nats->timer.cancelable = 1;

    /* the first attempt is made by the loop, when all handlers are known */
    ngx_add_timer(&nats->timer, 1);

    return nats;
}


void
ngx_http_hotpath_nats_stop(ngx_http_hotpath_nats_t *nats)
{
    if (nats->timer.timer_set) {
        ngx_del_timer(&nats->timer);
    }

    ngx_http_hotpath_nats_link_done(&nats->links[0]);
    ngx_http_hotpath_nats_link_done(&nats->links[1]);

    nats->active = NULL;
    nats->trying = NULL;
}


ngx_int_t
ngx_http_hotpath_nats_subscribe(ngx_http_hotpath_nats_t *nats,
    ngx_str_t *subject, ngx_http_hotpath_nats_message_pt handler, void *data)
{
    ngx_http_hotpath_nats_sub_t  *sub;

    if (nats->nsubs == NGX_HTTP_HOTPATH_NATS_HANDLERS) {
        return NGX_ERROR;
    }

    sub = &nats->subs[nats->nsubs++];
    sub->subject = *subject;
    sub->handler = handler;
    sub->data = data;

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_nats_on_state(ngx_http_hotpath_nats_t *nats,
    ngx_http_hotpath_nats_state_pt handler, void *data)
{
    if (nats->nwatches == NGX_HTTP_HOTPATH_NATS_HANDLERS) {
        return NGX_ERROR;
    }

    nats->watches[nats->nwatches].handler = handler;
    nats->watches[nats->nwatches++].data = data;

    return NGX_OK;
}


ngx_uint_t
ngx_http_hotpath_nats_ready(ngx_http_hotpath_nats_t *nats)
{
    return nats->active != NULL;
}


size_t
ngx_http_hotpath_nats_max_payload(ngx_http_hotpath_nats_t *nats)
{
    return nats->active ? nats->active->max_payload : 0;
}


ngx_int_t
ngx_http_hotpath_nats_request(ngx_http_hotpath_nats_t *nats,
    ngx_str_t *subject, ngx_str_t *headers, ngx_str_t *payload, ngx_uint_t n,
    ngx_http_hotpath_nats_reply_pt handler, void *data, uint32_t *id)
{
    u_char                        *p;
    size_t                         size, head;
    uint32_t                       index;
    ngx_uint_t                     i;
    ngx_http_hotpath_nats_link_t  *link;
    ngx_http_hotpath_nats_slot_t  *slot;

    link = nats->active;

    if (link == NULL) {
        return NGX_DECLINED;
    }

    index = nats->free;
    if (index == NGX_HTTP_HOTPATH_NATS_REQUESTS) {
        return NGX_BUSY;
    }

    head = headers->len ? sizeof("NATS/1.0\r\n\r\n") - 1 + headers->len : 0;

    size = head;
    for (i = 0; i < n; i++) {
        size += payload[i].len;
    }

    if (size > link->max_payload) {
        return NGX_BUSY;
    }

    p = ngx_http_hotpath_nats_link_reserve(link, sizeof("HPUB   \r\n\r\n")
                                      + subject->len
                                      + NGX_HTTP_HOTPATH_NATS_INBOX
                                      + NGX_INT32_LEN + 2 * NGX_SIZE_T_LEN
                                      + size);
    if (p == NULL) {
        return NGX_BUSY;
    }

    slot = &nats->slots[index];
    nats->free = slot->next;
    slot->handler = handler;
    slot->data = data;
    slot->link = link;
    slot->subject = subject;
    *id = slot->generation * NGX_HTTP_HOTPATH_NATS_REQUESTS + index;

    p = ngx_sprintf(p, "%s %V %*s%uD ", head ? "HPUB" : "PUB", subject,
                    (size_t) NGX_HTTP_HOTPATH_NATS_INBOX, nats->inbox, *id);

    if (head) {
        p = ngx_sprintf(p, "%uz %uz\r\nNATS/1.0\r\n%V\r\n", head, size,
                        headers);
    } else {
        p = ngx_sprintf(p, "%uz\r\n", size);
    }

    for (i = 0; i < n; i++) {
        p = ngx_cpymem(p, payload[i].data, payload[i].len);
    }

    *p++ = CR;
    *p++ = LF;

    ngx_http_hotpath_nats_link_wrote(link, p);

    slot->end = ngx_http_hotpath_nats_link_written(link);

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_nats_publish(ngx_http_hotpath_nats_t *nats,
    ngx_str_t *subject, ngx_str_t *reply, ngx_str_t *payload, ngx_uint_t n)
{
    u_char                        *p;
    size_t                         size;
    ngx_uint_t                     i;
    ngx_http_hotpath_nats_link_t  *link;

    link = nats->active;

    if (link == NULL) {
        return NGX_DECLINED;
    }

    size = 0;
    for (i = 0; i < n; i++) {
        size += payload[i].len;
    }

    if (size > link->max_payload) {
        return NGX_BUSY;
    }

    p = ngx_http_hotpath_nats_link_reserve(link, sizeof("PUB   \r\n\r\n")
                                           + subject->len + reply->len
                                           + NGX_SIZE_T_LEN + size);
    if (p == NULL) {
        return NGX_BUSY;
    }

    p = ngx_sprintf(p, "PUB %V %V%s%uz\r\n", subject, reply,
                    reply->len ? " " : "", size);

    for (i = 0; i < n; i++) {
        p = ngx_cpymem(p, payload[i].data, payload[i].len);
    }

    *p++ = CR;
    *p++ = LF;

    ngx_http_hotpath_nats_link_wrote(link, p);

    return NGX_OK;
}


void
ngx_http_hotpath_nats_push(ngx_http_hotpath_nats_t *nats)
{
    if (nats->active) {
        ngx_http_hotpath_nats_link_push(nats->active);
    }
}


void
ngx_http_hotpath_nats_poll(ngx_http_hotpath_nats_t *nats)
{
    if (nats->active) {
        ngx_http_hotpath_nats_link_poll(nats->active);
    }
}


void
ngx_http_hotpath_nats_give_up(ngx_http_hotpath_nats_t *nats, uint32_t id)
{
    uint32_t                       index;
    ngx_http_hotpath_nats_slot_t  *slot;

    index = id % NGX_HTTP_HOTPATH_NATS_REQUESTS;
    slot = &nats->slots[index];

    if (slot->handler == NULL
        || slot->generation * NGX_HTTP_HOTPATH_NATS_REQUESTS + index != id)
    {
        return;
    }

    slot->handler = NULL;
    slot->generation++;
    slot->next = nats->free;
    nats->free = index;
}


ngx_int_t
ngx_http_hotpath_nats_withdraw(ngx_http_hotpath_nats_t *nats, uint32_t id)
{
    ngx_http_hotpath_nats_link_t  *link;
    ngx_http_hotpath_nats_slot_t  *slot;

    slot = &nats->slots[id % NGX_HTTP_HOTPATH_NATS_REQUESTS];
    link = slot->link;

    ngx_http_hotpath_nats_give_up(nats, id);

    if (link->sent >= slot->end) {
        return NGX_OK;
    }

    ngx_http_hotpath_nats_link_lost(link, "takes nothing", 0);

    return NGX_DECLINED;
}


/* Another connection: the first, the next, or one beside a server that is about
 * to stop. */

static void
ngx_http_hotpath_nats_attempt(ngx_event_t *ev)
{
    ngx_msec_t                       wait;
    ngx_http_hotpath_nats_t         *nats;
    ngx_http_hotpath_nats_link_t    *link;
    ngx_http_hotpath_nats_server_t  *server;

    nats = ev->data;

    if (nats->trying || (nats->active && !nats->leaving)) {
        return;
    }

    server = ngx_http_hotpath_nats_servers_next(&nats->servers,
                                 nats->active ? &nats->active->server : NULL,
                                 &wait);
    if (server == NULL) {
        if (nats->active == NULL || wait) {
            ngx_add_timer(&nats->timer, wait + 1);
        }

        /* else there is no other: it is left when it goes */
        return;
    }

    link = &nats->links[0];

    if (link == nats->active || link->state != NGX_HTTP_HOTPATH_NATS_DOWN) {
        link = &nats->links[1];
    }

    if (link == nats->active) {
        link = &nats->links[0];
    }

    /* one that was left and still owes a reply has to go */
    ngx_http_hotpath_nats_link_lost(link, "was left for another", 0);

    nats->trying = link;

    ngx_http_hotpath_nats_link_open(link, server);
}


static void
ngx_http_hotpath_nats_again(ngx_http_hotpath_nats_t *nats, ngx_msec_t wait)
{
    if (!nats->timer.timer_set) {
        ngx_add_timer(&nats->timer, wait);
    }
}


static ngx_int_t
ngx_http_hotpath_nats_greeting(void *data,
    ngx_http_hotpath_nats_link_t *link)
{
    ngx_http_hotpath_nats_t *nats = data;

    u_char      *p;
    size_t       size;
    ngx_uint_t   i;

    size = sizeof("SUB * \r\n") + NGX_HTTP_HOTPATH_NATS_INBOX + NGX_INT_T_LEN;

    for (i = 0; i < nats->nsubs; i++) {
        size += nats->subs[i].subject.len + sizeof("SUB  \r\n")
                + NGX_INT_T_LEN;
    }

    p = ngx_http_hotpath_nats_link_reserve(link, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < nats->nsubs; i++) {
        p = ngx_sprintf(p, "SUB %V %ui\r\n", &nats->subs[i].subject, i + 1);
    }

    p = ngx_sprintf(p, "SUB %*s* %ui\r\n",
                    (size_t) NGX_HTTP_HOTPATH_NATS_INBOX, nats->inbox,
                    nats->nsubs + 1);

    ngx_http_hotpath_nats_link_wrote(link, p);

    return NGX_OK;
}


static void
ngx_http_hotpath_nats_link_ready(void *data,
    ngx_http_hotpath_nats_link_t *link)
{
    ngx_http_hotpath_nats_t *nats = data;

    ngx_http_hotpath_nats_link_t  *old;

    ngx_log_error(NGX_LOG_NOTICE, nats->log, 0,
                  "hotpath: connected to nats server %V%s", link->peer.name,
                  link->secure ? " with TLS" : "");

    old = nats->active;

    nats->active = link;
    nats->trying = NULL;
    nats->leaving = 0;
    nats->backoff = NGX_HTTP_HOTPATH_NATS_BACKOFF_MIN;
    nats->failures = 0;
    nats->tried = 1;

    ngx_http_hotpath_nats_servers_good(&nats->servers, &link->server);

    ngx_http_hotpath_count(NATS_CONNECTS);
    ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_NATS_CONNECTED] = 1;

    if (old) {
        if (ngx_http_hotpath_nats_owes(nats, old)) {
            old->draining = 1;
            ngx_add_timer(&old->timer, nats->conf->connect_timeout);

        } else {
            ngx_http_hotpath_nats_link_close(old);
        }
    }

    ngx_http_hotpath_nats_tell(nats, 1);
}


static void
ngx_http_hotpath_nats_lost(void *data, ngx_http_hotpath_nats_link_t *link,
    const char *why, ngx_uint_t bad)
{
    ngx_http_hotpath_nats_t *nats = data;

    uint32_t                         i;
    ngx_msec_t                       hold;
    ngx_uint_t                       was_active, was_trying, tell;
    ngx_http_hotpath_nats_slot_t    *slot;
    ngx_http_hotpath_nats_reply_pt   handler;

    was_active = (link == nats->active);
    was_trying = (link == nats->trying);

    if (was_active) {
        nats->active = NULL;
        nats->leaving = 0;
        nats->backoff = NGX_HTTP_HOTPATH_NATS_BACKOFF_MIN;
        ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_NATS_CONNECTED] = 0;
    }

    if (was_trying) {
        nats->trying = NULL;
    }

    /* the first attempt that failed is news as well */
    tell = was_active || !nats->tried;

    hold = bad ? ngx_http_hotpath_nats_servers_bad(&nats->servers,
                                                   &link->server)
               : 0;

    /* one line when it is lost, one for each time that it is left alone for
     * longer, and one in twenty while it stays so */

    if (was_active || (was_trying && nats->failures++ % 20 == 0)
        || hold > link->server.hold)
    {
        ngx_log_error(NGX_LOG_ERR, nats->log, 0, "hotpath: nats server %V: %s",
                      link->peer.name, why);
    }

    if (was_active || was_trying) {
        nats->tried = 1;

        /* full jitter keeps a fleet from coming back in step */
        ngx_http_hotpath_nats_again(nats, nats->backoff / 2
                                    + ngx_random() % (nats->backoff / 2 + 1));
        nats->backoff = ngx_min(nats->backoff * 2,
                                NGX_HTTP_HOTPATH_NATS_BACKOFF_MAX);
    }

    for (i = 0; i < NGX_HTTP_HOTPATH_NATS_REQUESTS; i++) {
        slot = &nats->slots[i];
        handler = slot->handler;

        if (handler && slot->link == link) {
            ngx_http_hotpath_nats_give_up(nats, slot->generation
                                      * NGX_HTTP_HOTPATH_NATS_REQUESTS + i);
            handler(slot->data, NULL);
        }
    }

    if (tell && nats->active == NULL) {
        ngx_http_hotpath_nats_tell(nats, 0);
    }
}


static void
ngx_http_hotpath_nats_message(void *data, ngx_http_hotpath_nats_link_t *link,
    hp_nats_op_t *op)
{
    ngx_http_hotpath_nats_t *nats = data;

    ngx_http_hotpath_nats_sub_t  *sub;

    if (op->sid == nats->nsubs + 1) {
        ngx_http_hotpath_nats_reply(nats, op);

        if (link->draining && !ngx_http_hotpath_nats_owes(nats, link)) {
            ngx_http_hotpath_nats_link_close(link);
        }

    } else if (op->sid != 0 && op->sid <= nats->nsubs
               && link == nats->active)
    {
        sub = &nats->subs[op->sid - 1];
        sub->handler(sub->data, op);
    }
}


static void
ngx_http_hotpath_nats_info(void *data, ngx_http_hotpath_nats_link_t *link,
    hp_nats_info_t *info)
{
    ngx_http_hotpath_nats_t *nats = data;

    if (nats->conf->discovery && info->connect_urls.len) {
        ngx_http_hotpath_nats_servers_found(&nats->servers,
                                            &link->server.host,
                                            info->connect_urls);
    }

    if (info->lame_duck && link == nats->active && !nats->leaving) {
        ngx_log_error(NGX_LOG_NOTICE, nats->log, 0,
                      "hotpath: nats server %V is about to stop",
                      link->peer.name);

        nats->leaving = 1;

        /* the fleet does not leave all at once */
        ngx_http_hotpath_nats_again(nats,
                           1 + ngx_random()
                               % NGX_HTTP_HOTPATH_NATS_BACKOFF_MIN);
    }
}


static void
ngx_http_hotpath_nats_denied(void *data, ngx_http_hotpath_nats_link_t *link,
    hp_str_t subject, hp_str_t text)
{
    ngx_http_hotpath_nats_t *nats = data;

    uint32_t                         i;
    hp_nats_op_t                     op;
    ngx_http_hotpath_nats_slot_t    *slot;
    ngx_http_hotpath_nats_reply_pt   handler;

    /* what a connection may do stays so for its life: all that wait for this
     * subject wait in vain */

    for (i = 0; i < NGX_HTTP_HOTPATH_NATS_REQUESTS; i++) {
        slot = &nats->slots[i];
        handler = slot->handler;

        if (handler && slot->link == link
            && slot->subject->len == subject.len
            && ngx_memcmp(slot->subject->data, subject.data, subject.len) == 0)
        {
            ngx_memzero(&op, sizeof(hp_nats_op_t));
            op.status = NGX_HTTP_HOTPATH_NATS_DENIED;
            op.text = text;

            ngx_http_hotpath_nats_give_up(nats, slot->generation
                                      * NGX_HTTP_HOTPATH_NATS_REQUESTS + i);
            handler(slot->data, &op);
        }
    }
}


static void
ngx_http_hotpath_nats_reply(ngx_http_hotpath_nats_t *nats, hp_nats_op_t *op)
{
    void                            *data;
    uint32_t                         index;
    ngx_int_t                        id;
    ngx_http_hotpath_nats_slot_t    *slot;
    ngx_http_hotpath_nats_reply_pt   handler;

    if (op->subject.len <= NGX_HTTP_HOTPATH_NATS_INBOX) {
        return;
    }

    id = ngx_atoi((u_char *) op->subject.data + NGX_HTTP_HOTPATH_NATS_INBOX,
                  op->subject.len - NGX_HTTP_HOTPATH_NATS_INBOX);
    if (id == NGX_ERROR || id > (ngx_int_t) NGX_MAX_UINT32_VALUE) {
        return;
    }

    index = (uint32_t) id % NGX_HTTP_HOTPATH_NATS_REQUESTS;
    slot = &nats->slots[index];

    if (slot->handler == NULL
        || slot->generation * NGX_HTTP_HOTPATH_NATS_REQUESTS + index
           != (uint32_t) id)
    {
        /* too late: whoever waited was told so */
        return;
    }

    handler = slot->handler;
    data = slot->data;

    ngx_http_hotpath_nats_give_up(nats, (uint32_t) id);
    handler(data, op);
}


static void
ngx_http_hotpath_nats_tell(ngx_http_hotpath_nats_t *nats, ngx_uint_t up)
{
    ngx_uint_t  i;

    for (i = 0; i < nats->nwatches; i++) {
        nats->watches[i].handler(nats->watches[i].data, up);
    }
}


static ngx_uint_t
ngx_http_hotpath_nats_owes(ngx_http_hotpath_nats_t *nats,
    ngx_http_hotpath_nats_link_t *link)
{
    uint32_t  i;

    for (i = 0; i < NGX_HTTP_HOTPATH_NATS_REQUESTS; i++) {
        if (nats->slots[i].handler && nats->slots[i].link == link) {
            return 1;
        }
    }

    return 0;
}
