/*
 * ngx_http_hotpath_push.c: what the workers tell every instance.
 *
 * One worker per instance (the first) listens to two NATS subjects: documents
 * pushed by the projector, which it puts into every zone that keeps the model,
 * and commit notices of the drain, which say how far each partition is
 * committed and name what ended otherwise. Core NATS delivers at most once, so
 * pushes are numbered: after a gap, and after any loss of the connection, the
 * zones are distrusted, and each entry is revalidated before it is used again.
 * Who waits for an operation is woken, in every worker.
 * Owns nothing but the positions of the lanes it heard of; runs in the event
 * loop with no lock held but the zone's own. Frames: schemas/framing.md; test:
 * tests/integration/test_push.py, tests/faults/test_broker.py.
 */


#include "ngx_http_hotpath_module.h"
#include "ngx_http_hotpath_fetch.h"
#include "ngx_http_hotpath_list.h"
#include "ngx_http_hotpath_wait.h"
#include "core/hp_frame.h"
#include "core/hp_id.h"
#include "core/hp_json.h"

#include <cjson/cJSON.h>


#define NGX_HTTP_HOTPATH_LANES  256


/* The last message of one lane of the projector. */
typedef struct {
    uint64_t    model;         /* hash of its name; 0: a free place */
    uint16_t    partition;
    int64_t     epoch_us;
    uint64_t    sequence;
} ngx_http_hotpath_lane_t;


/* What was heard of one stream. */
typedef struct {
    uint64_t    created;       /* its stream; 0: nothing yet */
    uint64_t    floor;         /* before it, notices were not heard */
} ngx_http_hotpath_heard_t;


typedef struct {
    ngx_http_hotpath_main_conf_t  *mcf;
    ngx_str_t                      pushes;
    ngx_str_t                      notices;
    ngx_http_hotpath_lane_t        lanes[NGX_HTTP_HOTPATH_LANES];
    ngx_http_hotpath_heard_t       heard[HP_STREAMS_MAX];
} ngx_http_hotpath_listener_t;


static void ngx_http_hotpath_push_message(void *data, hp_nats_op_t *op);
static ngx_int_t ngx_http_hotpath_push_in_order(
    ngx_http_hotpath_listener_t *listener, ngx_str_t *name, hp_push_t *push);
static void ngx_http_hotpath_push_document(
    ngx_http_hotpath_listener_t *listener, ngx_str_t *name, hp_doc_t *doc);
static void ngx_http_hotpath_push_distrust(
    ngx_http_hotpath_listener_t *listener);
static void ngx_http_hotpath_push_state(void *data, ngx_uint_t up);
static void ngx_http_hotpath_push_notice(void *data, hp_nats_op_t *op);
static void ngx_http_hotpath_push_moved(
    ngx_http_hotpath_listener_t *listener, ngx_uint_t number,
    uint64_t created, uint64_t whole, uint64_t after, uint64_t sequence);
static void ngx_http_hotpath_push_ended(ngx_http_hotpath_main_conf_t *mcf,
    hp_str_t text);


ngx_int_t
ngx_http_hotpath_push_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_main_conf_t *mcf)
{
    u_char                       *p;
    ngx_http_hotpath_listener_t  *listener;

    listener = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hotpath_listener_t));
    if (listener == NULL) {
        return NGX_ERROR;
    }

    listener->mcf = mcf;

    p = ngx_pnalloc(cycle->pool, 2 * mcf->subject.len
                                 + sizeof(".push.*.committed.*"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    listener->pushes.data = p;
    p = ngx_sprintf(p, "%V.push.*", &mcf->subject);
    listener->pushes.len = p - listener->pushes.data;

    listener->notices.data = p;
    p = ngx_sprintf(p, "%V.committed.*", &mcf->subject);
    listener->notices.len = p - listener->notices.data;

    if (mcf->models.nelts) {
        if (ngx_http_hotpath_nats_subscribe(mcf->client, &listener->pushes,
                                     ngx_http_hotpath_push_message, listener)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (ngx_http_hotpath_nats_on_state(mcf->client,
                                       ngx_http_hotpath_push_state, listener)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->operations || mcf->status) {
        return ngx_http_hotpath_nats_subscribe(mcf->client,
                                       &listener->notices,
                                       ngx_http_hotpath_push_notice, listener);
    }

    return NGX_OK;
}


static void
ngx_http_hotpath_push_message(void *data, hp_nats_op_t *op)
{
    ngx_http_hotpath_listener_t *listener = data;

    int                more;
    size_t             prefix;
    hp_doc_t           doc;
    hp_push_t          push;
    ngx_str_t          name;
    hp_frame_reader_t  reader;

    prefix = listener->pushes.len - 1;

    if (op->subject.len <= prefix) {
        return;
    }

    name.data = (u_char *) op->subject.data + prefix;
    name.len = op->subject.len - prefix;

    if (hp_push_open(&reader, op->payload, &push) != 0) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "hotpath: a push of model \"%V\" is no push frame",
                      &name);
        ngx_http_hotpath_count(PUSH_DROPPED);
        return;
    }

    if (ngx_http_hotpath_push_in_order(listener, &name, &push) != NGX_OK) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "hotpath: pushes of model \"%V\", partition %ui, were "
                      "lost: what the zones hold is revalidated",
                      &name, (ngx_uint_t) push.partition);
        ngx_http_hotpath_count(PUSH_GAPS);
        ngx_http_hotpath_push_distrust(listener);
    }

    while ((more = hp_push_next(&reader, &doc)) == 1) {
        ngx_http_hotpath_push_document(listener, &name, &doc);
    }

    if (more < 0) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "hotpath: a push of model \"%V\" is broken", &name);
        ngx_http_hotpath_count(PUSH_DROPPED);
        ngx_http_hotpath_push_distrust(listener);
    }
}


/* NGX_DECLINED: something was lost between the last message and this one. */

static ngx_int_t
ngx_http_hotpath_push_in_order(ngx_http_hotpath_listener_t *listener,
    ngx_str_t *name, hp_push_t *push)
{
    uint64_t                  model, expected;
    ngx_uint_t                i;
    ngx_http_hotpath_lane_t  *lane;

    model = hp_hash64(name->data, name->len, 1) | 1;
    lane = NULL;

    for (i = 0; i < NGX_HTTP_HOTPATH_LANES; i++) {
        lane = &listener->lanes[i];

        if (lane->model == 0
            || (lane->model == model && lane->partition == push->partition))
        {
            break;
        }
    }

    if (i == NGX_HTTP_HOTPATH_LANES) {
        /* more lanes than can be followed: the zones' time to live holds */
        return NGX_OK;
    }

    if (lane->model == 0) {
        /* the first that is heard of it; the zones were distrusted when the
         * subscription began */
        lane->model = model;
        lane->partition = push->partition;
        lane->epoch_us = push->epoch_us;
        lane->sequence = push->sequence;
        return NGX_OK;
    }

    if (push->epoch_us < lane->epoch_us) {
        /* a projector that lost its lane and does not know it yet */
        return NGX_OK;
    }

    expected = push->epoch_us > lane->epoch_us ? 0 : lane->sequence;

    lane->epoch_us = push->epoch_us;
    lane->sequence = push->sequence;

    /* a heartbeat repeats the number of the last message */
    if (push->count) {
        expected++;
    }

    return push->sequence == expected ? NGX_OK : NGX_DECLINED;
}


static void
ngx_http_hotpath_push_document(ngx_http_hotpath_listener_t *listener,
    ngx_str_t *name, hp_doc_t *doc)
{
    u_char                      buffer[NGX_HTTP_HOTPATH_ZONE_KEY_MAX];
    ngx_int_t                   rc;
    ngx_str_t                   tenant, key, zone_key;
    ngx_uint_t                  i;
    ngx_http_hotpath_model_t  **models;

    models = listener->mcf->models.elts;

    tenant.data = (u_char *) doc->tenant.data;
    tenant.len = doc->tenant.len;
    key.data = (u_char *) doc->key.data;
    key.len = doc->key.len;

    for (i = 0; i < listener->mcf->models.nelts; i++) {

        if (models[i]->name.len != name->len
            || ngx_memcmp(models[i]->name.data, name->data, name->len) != 0)
        {
            continue;
        }

        if (models[i]->page) {
            ngx_http_hotpath_list_changed(models[i], doc);
            continue;
        }

        zone_key.data = buffer;
        ngx_http_hotpath_zone_key(&zone_key, name, &tenant, &key);

        rc = ngx_http_hotpath_store_document(models[i], &zone_key, doc, 0);

        if (rc == NGX_BUSY) {
            /* microseconds later it is free, unless its holder is stopped */
            rc = ngx_http_hotpath_store_document(models[i], &zone_key, doc, 0);
        }

        switch (rc) {

        case NGX_OK:
            ngx_http_hotpath_count(PUSH_DOCUMENTS);
            break;

        case NGX_ABORT:
            ngx_http_hotpath_count(PUSH_OLDER);
            break;

        case NGX_DECLINED:
            ngx_http_hotpath_count(PUSH_DROPPED);
            break;

        default: /* NGX_BUSY: an older one may stay */
            ngx_http_hotpath_count(PUSH_DROPPED);
            ngx_http_hotpath_cache_distrust(models[i]->rules.cache);
            break;
        }
    }
}


static void
ngx_http_hotpath_push_distrust(ngx_http_hotpath_listener_t *listener)
{
    ngx_uint_t                  i;
    ngx_http_hotpath_model_t  **models;

    models = listener->mcf->models.elts;

    for (i = 0; i < listener->mcf->models.nelts; i++) {
        ngx_http_hotpath_cache_distrust(models[i]->rules.cache);
    }
}


static void
ngx_http_hotpath_push_state(void *data, ngx_uint_t up)
{
    ngx_http_hotpath_listener_t *listener = data;

    /* when it is lost, and again when it is back: in between, entries were
     * stored that no push could have renewed */
    ngx_http_hotpath_push_distrust(listener);

    ngx_memzero(listener->lanes, sizeof(listener->lanes));
    ngx_memzero(listener->heard, sizeof(listener->heard));

    ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_PUSH_LISTENING] = up;
}


static void
ngx_http_hotpath_push_notice(void *data, hp_nats_op_t *op)
{
    ngx_http_hotpath_listener_t *listener = data;

    static const hp_str_t  name_partition = HP_STR("partition");
    static const hp_str_t  name_priority = HP_STR("priority");
    static const hp_str_t  name_created = HP_STR("created");
    static const hp_str_t  name_whole = HP_STR("whole");
    static const hp_str_t  name_after = HP_STR("after");
    static const hp_str_t  name_sequence = HP_STR("sequence");
    static const hp_str_t  name_ended = HP_STR("ended");

    int              is_string, priority;
    size_t           offset;
    ngx_int_t        partition, whole, after, sequence;
    hp_json_slice_t  value, created;

    if (hp_json_check(op->payload, 8, &offset) != HP_JSON_OK
        || !hp_json_member(op->payload, name_partition, &value, &is_string))
    {
        goto broken;
    }

    partition = ngx_atoi((u_char *) value.raw.data, value.raw.len);

    if (!hp_json_member(op->payload, name_sequence, &value, &is_string)) {
        goto broken;
    }

    sequence = ngx_atoi((u_char *) value.raw.data, value.raw.len);

    priority = HP_PRIORITY_NORMAL;

    if (hp_json_member(op->payload, name_priority, &value, &is_string)) {
        priority = is_string ? hp_priority_parse(value.raw) : -1;
    }

    whole = 1;

    if (hp_json_member(op->payload, name_whole, &value, &is_string)) {
        whole = ngx_atoi((u_char *) value.raw.data, value.raw.len);
    }

    after = 0;

    if (hp_json_member(op->payload, name_after, &value, &is_string)) {
        after = ngx_atoi((u_char *) value.raw.data, value.raw.len);
    }

    if (partition == NGX_ERROR || sequence == NGX_ERROR || whole == NGX_ERROR
        || after == NGX_ERROR || priority < 0
        || partition >= HP_PARTITIONS_MAX
        || !hp_json_member(op->payload, name_created, &created, &is_string)
        || !is_string)
    {
        goto broken;
    }

    /* those that ended otherwise first: never "processed" in between */

    if (listener->mcf->operations
        && hp_json_member(op->payload, name_ended, &value, &is_string)
        && value.raw.len > 2)
    {
        ngx_http_hotpath_push_ended(listener->mcf, value.raw);
    }

    ngx_http_hotpath_push_moved(listener,
                             hp_stream_number(partition, priority),
                             ngx_http_hotpath_stream_created(created.raw),
                             whole, after, sequence);
    return;

broken:

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "hotpath: a commit notice on \"%*s\" is broken",
                  op->subject.len, op->subject.data);
}


/* The notices before the first one that was heard may have named operations
 * that ended otherwise: of what was committed then, Postgres is asked. */

static void
ngx_http_hotpath_push_moved(ngx_http_hotpath_listener_t *listener,
    ngx_uint_t number, uint64_t created, uint64_t whole, uint64_t after,
    uint64_t sequence)
{
    ngx_uint_t                 another;
    ngx_http_hotpath_heard_t  *heard;

    heard = &listener->heard[number];
    another = (heard->created != created);

    if (another) {
        heard->created = created;
        heard->floor = after + 1;
    }

    ngx_http_hotpath_wait_mark(number, after, sequence, another);

    if (listener->mcf->operations) {
        ngx_http_hotpath_idempotency_committed(listener->mcf->operations,
                                               number, created,
                                               ngx_max(whole, heard->floor),
                                               sequence);
    }

    ngx_http_hotpath_wait_moved(number, sequence, another);
}


static void
ngx_http_hotpath_push_ended(ngx_http_hotpath_main_conf_t *mcf, hp_str_t text)
{
    u_char                 id[HP_UUID_SIZE];
    cJSON                 *list, *item, *operation, *state;
    hp_str_t               value;
    ngx_http_hotpath_op_e  op;

    list = cJSON_ParseWithLength((const char *) text.data, text.len);
    if (list == NULL) {
        return;
    }

    cJSON_ArrayForEach(item, list) {
        operation = cJSON_GetObjectItemCaseSensitive(item, "operation");
        state = cJSON_GetObjectItemCaseSensitive(item, "state");

        if (!cJSON_IsString(operation) || !cJSON_IsString(state)) {
            continue;
        }

        value.data = (const u_char *) operation->valuestring;
        value.len = ngx_strlen(operation->valuestring);

        if (ngx_strcmp(state->valuestring, "dead") == 0) {
            op = NGX_HTTP_HOTPATH_OP_DEAD;
        } else {
            op = NGX_HTTP_HOTPATH_OP_CONFLICT;
        }

        if (hp_uuid_parse(id, value) == 0) {
            ngx_http_hotpath_idempotency_ended(mcf->operations, id, op);
            ngx_http_hotpath_wait_wake(id);
        }
    }

    cJSON_Delete(list);
}
