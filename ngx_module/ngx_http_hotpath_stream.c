/*
 * ngx_http_hotpath_stream.c: whether JetStream's streams are as was said.
 *
 * One timer asks for all streams of a worker: every five seconds, twice a
 * second while one of them is not usable. At most one question is under way for
 * each; one that nobody answers is given up when its turn comes again. What is
 * wrong is said in the error log when it changes, and lasts until an answer
 * says otherwise or the connection is lost: another stream may stand there
 * under that name when it is back.
 *
 * Owns the timer; the streams are their owner's. Runs in the event loop of one
 * worker, cancelable, so that it holds back none that ends. Never in here: a
 * change of a stream, which are the operator's. The broker's configuration is
 * in ngx_module/README.md, hotpath_stream; tests/integration/test_nats.py,
 * tests/faults/test_broker.py.
 */


#include "ngx_http_hotpath_stream.h"
#include "core/hp_date.h"
#include "core/hp_id.h"


#define NGX_HTTP_HOTPATH_STREAM_REFRESH  5000
#define NGX_HTTP_HOTPATH_STREAM_SOON     500

#define NGX_HTTP_HOTPATH_STREAM_API      "$JS.API.STREAM.INFO."


struct ngx_http_hotpath_streams_s {
    ngx_http_hotpath_nats_t    *nats;
    hp_stream_wanted_t          wanted;
    ngx_log_t                  *log;
    ngx_event_t                 timer;
    ngx_http_hotpath_stream_t  *first;
};


static void ngx_http_hotpath_streams_state(void *data, ngx_uint_t up);
static void ngx_http_hotpath_streams_ask(ngx_event_t *ev);
static void ngx_http_hotpath_stream_info(void *data, hp_nats_op_t *op);
static hp_stream_fit_e ngx_http_hotpath_stream_look(
    ngx_http_hotpath_stream_t *stream, hp_nats_op_t *op, hp_stream_t *found,
    const char **reason);


ngx_http_hotpath_streams_t *
ngx_http_hotpath_streams_start(ngx_cycle_t *cycle,
    ngx_http_hotpath_nats_t *nats, hp_stream_wanted_t *wanted)
{
    ngx_http_hotpath_streams_t  *streams;

    streams = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hotpath_streams_t));
    if (streams == NULL) {
        return NULL;
    }

    streams->nats = nats;
    streams->wanted = *wanted;
    streams->log = cycle->log;

    streams->timer.handler = ngx_http_hotpath_streams_ask;
    streams->timer.data = streams;
    streams->timer.log = cycle->log;
    streams->timer.cancelable = 1;

    if (ngx_http_hotpath_nats_on_state(nats, ngx_http_hotpath_streams_state,
                                       streams)
        != NGX_OK)
    {
        return NULL;
    }

    return streams;
}


ngx_int_t
ngx_http_hotpath_streams_add(ngx_http_hotpath_streams_t *streams,
    ngx_http_hotpath_stream_t *stream, ngx_pool_t *pool)
{
    u_char  *p;

    p = ngx_pnalloc(pool, sizeof(NGX_HTTP_HOTPATH_STREAM_API) - 1
                          + stream->name.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    stream->request.data = p;
    stream->request.len = ngx_sprintf(p, NGX_HTTP_HOTPATH_STREAM_API "%V",
                                      &stream->name)
                          - p;

    stream->streams = streams;
    stream->next = streams->first;
    streams->first = stream;

    return NGX_OK;
}


void
ngx_http_hotpath_streams_stop(ngx_http_hotpath_streams_t *streams)
{
    if (streams->timer.timer_set) {
        ngx_del_timer(&streams->timer);
    }
}


uint64_t
ngx_http_hotpath_stream_created(hp_str_t text)
{
    u_char      *p, *last;
    int64_t      us;
    uint64_t     ns, unit;
    hp_str_t     cut;
    u_char       whole[HP_TIME_LEN];

    /* nanoseconds, without the last zeros: 2026-01-31T12:00:00.12345678Z */

    cut = text;
    ns = 0;
    unit = 100;

    if (text.len > HP_TIME_LEN && text.len <= HP_TIME_LEN + 3
        && text.data[text.len - 1] == 'Z')
    {
        p = ngx_cpymem(whole, text.data, HP_TIME_LEN - 1);
        *p = 'Z';

        p = (u_char *) text.data + HP_TIME_LEN - 1;
        last = (u_char *) text.data + text.len - 1;

        for ( /* void */ ; p < last && *p >= '0' && *p <= '9'; p++) {
            ns += (*p - '0') * unit;
            unit /= 10;
        }

        if (p == last) {
            cut.data = whole;
            cut.len = HP_TIME_LEN;
        }
    }

    if (hp_time_parse(&us, cut) == 0 && us > 0) {
        return (uint64_t) us * 1000 + ns;
    }

    return hp_hash64(text.data, text.len, 0) | (uint64_t) 1 << 63;
}


static void
ngx_http_hotpath_streams_state(void *data, ngx_uint_t up)
{
    ngx_http_hotpath_streams_t *streams = data;

    ngx_http_hotpath_stream_t  *stream;

    if (up) {
        ngx_http_hotpath_streams_ask(&streams->timer);
        return;
    }

    for (stream = streams->first; stream; stream = stream->next) {
        stream->asking = 0;
        stream->created = 0;
        stream->bytes = 0;
        stream->reason = NULL;
        stream->handler(stream->data, NGX_HTTP_HOTPATH_STREAM_LOST);
    }
}


static void
ngx_http_hotpath_streams_ask(ngx_event_t *ev)
{
    ngx_int_t                    rc;
    ngx_str_t                    none;
    ngx_uint_t                   unusable;
    ngx_http_hotpath_stream_t   *stream;
    ngx_http_hotpath_streams_t  *streams;

    streams = ev->data;
    unusable = 0;

    ngx_str_null(&none);

    for (stream = streams->first; stream; stream = stream->next) {

        unusable |= (stream->created == 0);

        if (stream->asking) {

            if (ngx_current_msec - stream->asked
                < NGX_HTTP_HOTPATH_STREAM_REFRESH)
            {
                continue;
            }

            /* nothing came back for so long: ask anew */
            ngx_http_hotpath_nats_give_up(streams->nats, stream->id);
        }

        rc = ngx_http_hotpath_nats_request(streams->nats, &stream->request,
                                           &none, NULL, 0,
                                           ngx_http_hotpath_stream_info,
                                           stream, &stream->id);
        stream->asking = (rc == NGX_OK);
        stream->asked = ngx_current_msec;
    }

    ngx_add_timer(&streams->timer, unusable ? NGX_HTTP_HOTPATH_STREAM_SOON
                                            : NGX_HTTP_HOTPATH_STREAM_REFRESH);
}


static void
ngx_http_hotpath_stream_info(void *data, hp_nats_op_t *op)
{
    ngx_http_hotpath_stream_t *stream = data;

    const char       *reason;
    ngx_log_t        *log;
    hp_stream_t       found;
    hp_stream_fit_e   fit;

    log = stream->streams->log;
    stream->asking = 0;

    if (op == NULL) {
        return;
    }

    fit = ngx_http_hotpath_stream_look(stream, op, &found, &reason);

    if (reason && reason != stream->reason) {
        ngx_log_error(NGX_LOG_ERR, log, 0, "hotpath: stream %V: %s%s",
                      &stream->name, reason,
                      fit == HP_STREAM_UNFIT ? ", nothing is published to it"
                                             : "");
    }

    if (reason == NULL && stream->reason) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "hotpath: stream %V is as it has to be", &stream->name);
    }

    stream->reason = reason;

    if (fit == HP_STREAM_UNFIT) {
        stream->created = 0;
        stream->handler(stream->data, NGX_HTTP_HOTPATH_STREAM_UNFIT);
        return;
    }

    stream->created = ngx_http_hotpath_stream_created(found.created);
    stream->looked = stream->asked;
    stream->bytes = found.bytes;
    stream->max_message = found.max_message;
    stream->duplicate_window_ms = found.duplicate_window_ms;

    stream->handler(stream->data, NGX_HTTP_HOTPATH_STREAM_FIT);
}


/* Reasons are constants: another address is another reason. */

static hp_stream_fit_e
ngx_http_hotpath_stream_look(ngx_http_hotpath_stream_t *stream,
    hp_nats_op_t *op, hp_stream_t *found, const char **reason)
{
    hp_str_t  subject;

    if (op->status == NGX_HTTP_HOTPATH_NATS_DENIED) {
        *reason = "may_not_be_asked_for";
        return HP_STREAM_UNFIT;
    }

    if (op->status) {
        *reason = "jetstream_does_not_answer";
        return HP_STREAM_UNFIT;
    }

    subject.data = stream->subject.data;
    subject.len = stream->subject.len;

    if (hp_stream_read(found, op->payload, subject) != 0) {
        *reason = "answer_not_understood";
        return HP_STREAM_UNFIT;
    }

    return hp_stream_check(found, &stream->streams->wanted, reason);
}
