/*
 * cache_model.h: a cache zone beside a plain map, led by bytes.
 *
 * model_run() makes a zone of a shape that the first bytes choose, and does
 * with it what the others say: gets in any coding, puts with older, equal and
 * newer versions, negative ones, small, large and too large ones, answers that
 * were asked for before a purge or a distrust, coded bodies that come later,
 * purges by key, tag and prefix, reloads. After each step what the zone gives
 * must be what the map has, all of it; what was evicted may be missing, and
 * nothing else. The whole structure is counted through now and then and at the
 * end. Any bytes are good: test_cache_model.c gives random ones,
 * tests/fuzz/fuzz_cache.c lets a fuzzer choose.
 *
 * One run at a time; everything it made is gone when it returns.
 */
#ifndef CACHE_MODEL_H
#define CACHE_MODEL_H

#include "cache_zone.h"

#define MODEL_KEYS 1200
#define MODEL_MAX 6000

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} model_bytes_t;

/* What a run did, to see that it was worth something. */
typedef struct {
    uint64_t found;
    uint64_t older;
    uint64_t too_large;
    uint64_t untrusted;
    uint64_t purged;
    uint64_t walked;
    uint64_t coded;
    uint64_t evicted;
} model_done_t;

/* What the zone should hold of each key. */
typedef struct {
    ngx_http_hotpath_cache_meta_t meta;
    uint64_t generation;
    size_t len;
    ngx_uint_t codings;
    int known;
    int parts;
} model_entry_t;

static model_entry_t model[MODEL_KEYS];

static inline unsigned model_byte(model_bytes_t *bytes)
{
    return bytes->at < bytes->end ? *bytes->at++ : 0;
}

static inline unsigned model_word(model_bytes_t *bytes)
{
    unsigned high = model_byte(bytes);

    return high << 8 | model_byte(bytes);
}

/* A few keys get most of the work. */
static inline uint64_t model_key(model_bytes_t *bytes)
{
    unsigned byte = model_byte(bytes);

    return byte < 128 ? byte % 24 : model_word(bytes) % MODEL_KEYS;
}

static inline void model_take(uint64_t n, int hard)
{
    model[n].meta.trusted = 0;

    if (hard) {
        model[n].meta.fresh_ms = 0;
        model[n].meta.revalidate_ms = 0;
        model[n].meta.stale_ms = 0;
    }
}

/* Whether a purge changes something of it. */
static inline int model_can_lose(uint64_t n, uint64_t generation, int hard)
{
    const ngx_http_hotpath_cache_meta_t *meta = &model[n].meta;

    return (meta->trusted && model[n].generation == generation) ||
           (hard && (meta->fresh_ms || meta->revalidate_ms || meta->stale_ms));
}

static inline void model_compare(const ngx_http_hotpath_copy_t *copy,
                                 uint64_t n, uint64_t generation)
{
    const ngx_http_hotpath_cache_meta_t *is = &copy->meta;
    const ngx_http_hotpath_cache_meta_t *want = &model[n].meta;

    CHECK(model[n].known);
    CHECK_SAME(is->version, want->version);
    CHECK_SAME(is->modified_us, want->modified_us);
    CHECK_SAME(is->stored_ms, want->stored_ms);
    CHECK_SAME(is->fresh_ms, want->fresh_ms);
    CHECK_SAME(is->revalidate_ms, want->revalidate_ms);
    CHECK_SAME(is->stale_ms, want->stale_ms);
    CHECK_SAME(is->negative, want->negative);
    CHECK_SAME(is->trusted, want->trusted && model[n].generation == generation);
    CHECK_SAME(copy->codings, model[n].codings);

    if (copy->coding == HP_CODING_IDENTITY) {
        CHECK_SAME(copy->body.len, model[n].len);
    }

    if (model[n].parts) {
        CHECK(copy_is(copy, n, HP_CODING_GZIP | HP_CODING_BR));
    } else {
        CHECK_SAME(copy->head.len, 0);
        CHECK(body_is(copy, n, is->version));
    }
}

static inline size_t model_size(uint64_t n, uint64_t version, size_t len,
                                int parts)
{
    ngx_http_hotpath_cache_content_t content;
    unsigned char space[1200];

    memset(&content, 0, sizeof(content));

    if (parts) {
        make_content(&content, n, version, len);
    }

    return make_key(space, n).len + content.ntags * 8 + content.head.len + len +
           content.gzip.len + content.br.len;
}

/* One put: what is put, what the zone has to say to it, and what it has then.
 * copy: what it had, or NULL. 1 where it has it. */
static inline int model_put(ngx_http_hotpath_cache_t *cache,
                            model_bytes_t *bytes, uint64_t n, uint64_t now_ms,
                            const ngx_http_hotpath_copy_t *copy,
                            uint64_t generation, uint64_t asked, int doubtful,
                            model_done_t *done)
{
    ngx_http_hotpath_cache_meta_t meta;
    unsigned how, length;
    ngx_int_t rc;
    size_t len;
    int parts;

    how = model_byte(bytes);
    length = model_word(bytes);
    parts = how & 1;
    len = length % 8 == 7 ? (length >> 3) % MODEL_MAX : (length >> 3) % 300;

    meta = make_meta(model[n].meta.version + 1 + (how >> 1) % 4);
    meta.version -= ngx_min(meta.version - 1, 2);
    meta.stored_ms = now_ms;
    meta.fresh_ms = now_ms + (how >> 3) * 40;
    meta.revalidate_ms = meta.fresh_ms + 5;
    meta.stale_ms = meta.fresh_ms + 7;

    if ((how >> 3) % 8 == 1) {
        meta.negative = 1;
        meta.version = length % 2 ? 0 : meta.version;
        parts = 0;
        len = 0;
    }

    meta.begun = how >> 6 == 3   ? asked
                 : how >> 6 == 2 ? ngx_http_hotpath_cache_begun(cache)
                                 : 0;
    meta.trusted = how >> 6 != 3 || !doubtful;
    meta.modified_us = (int64_t)meta.version - 5;

    rc = parts ? put_parts(cache, n, &meta, len)
               : put_meta(cache, n, &meta, len);

    if (model_size(n, meta.version, len, parts) > cache->max_entry) {
        CHECK_SAME(rc, NGX_DECLINED);
        done->too_large++;
        return 0;
    }

    if (copy != NULL && meta.version == 0 &&
        (copy->meta.negative || !copy->meta.trusted ||
         copy->meta.fresh_ms <= meta.stored_ms)) {
        meta.version = copy->meta.version;
    }

    if (copy != NULL && meta.version < copy->meta.version) {
        CHECK_SAME(rc, NGX_ABORT);
        done->older++;
        return 0;
    }

    CHECK_SAME(rc, NGX_OK);
    done->untrusted += !meta.trusted;
    model[n].known = 1;
    model[n].meta = meta;
    model[n].generation = generation;
    model[n].len = len;
    model[n].parts = parts;
    model[n].codings = parts ? codings_of(n, meta.version) : HP_CODING_IDENTITY;
    return 1;
}

/* 1 where it purged. */
static inline int model_walk(ngx_http_hotpath_cache_t *cache,
                             model_bytes_t *bytes, uint64_t generation,
                             model_done_t *done)
{
    ngx_http_hotpath_cache_walk_t walk;
    unsigned char space[1200], other[1200];
    ngx_str_t other_key;
    uint64_t n, most;
    unsigned how;
    size_t i;
    int tagged;

    how = model_byte(bytes);
    memset(&walk, 0, sizeof(walk));
    walk.tag = how & 1 ? 1 + model_byte(bytes) % 100 : 0;
    walk.purge = how >> 1 & 1;
    walk.hard = how >> 2 & 1;

    if (how & 8) {
        walk.prefix = make_key(space, model_key(bytes));
        walk.prefix.len = 1 + (how >> 4) % 3;
    }

    most = 0;

    for (n = 0; n < MODEL_KEYS; n++) {
        if (!model[n].known) {
            continue;
        }

        for (i = 0, tagged = walk.tag == 0;
             model[n].parts && i < tags_of(n, model[n].meta.version); i++) {
            tagged |= tag_of(n, model[n].meta.version, i) == walk.tag;
        }

        other_key = make_key(other, n);

        if (!tagged ||
            (walk.prefix.len != 0 &&
             memcmp(other_key.data, walk.prefix.data, walk.prefix.len) != 0)) {
            continue;
        }

        if (!walk.purge) {
            most++;
        } else if (model_can_lose(n, generation, walk.hard)) {
            model_take(n, walk.hard);
            most++;
        }
    }

    /* of what the map has the zone may have lost some */
    CHECK(walk_all(cache, &walk, 1 + (how >> 6) * 37) <= most);
    done->walked += walk.met;
    return walk.purge;
}

static inline void model_run(const uint8_t *data, size_t len,
                             model_done_t *done)
{
    static const char *const zones[] = {"zone=docs:256k", "zone=docs:300k",
                                        "zone=docs:512k", "zone=docs:1m"};
    static const char *const entries[] = {"max_entry=16k", "max_entry=1k",
                                          "max_entry=4k", "max_entry=4123"};
    ngx_http_hotpath_cache_stats_t stats;
    ngx_http_hotpath_cache_t *cache;
    ngx_http_hotpath_copy_t copy;
    model_bytes_t bytes;
    uint64_t n, step, generation, asked;
    ngx_uint_t codings;
    int present, doubtful, hard;
    unsigned shape, what;
    ngx_int_t rc;

    bytes.at = data;
    bytes.end = data + len;
    shape = model_byte(&bytes);
    cache = keep(make_zone(zones[shape % 4], entries[shape / 4 % 4]));
    memset(model, 0, sizeof(model));
    generation = 1;
    asked = ngx_http_hotpath_cache_begun(cache);
    doubtful = 0;

    for (step = 1; bytes.at < bytes.end; step++) {
        what = model_byte(&bytes);
        n = model_key(&bytes);
        rc = get_coded(cache, n, what / 32, &copy);
        present = rc == NGX_OK;

        if (present) {
            model_compare(&copy, n, generation);
            done->found++;
        } else {
            CHECK_SAME(rc, NGX_DECLINED);
        }

        switch (what % 32) {
        case 0:
        case 1:
            hard = what % 32;
            doubtful = 1;
            rc = purge(cache, n, (unsigned)hard);

            if (present && model_can_lose(n, generation, hard)) {
                CHECK_SAME(rc, NGX_OK);
                model_take(n, hard);
                done->purged++;
            } else {
                CHECK_SAME(rc, NGX_DECLINED);
            }

            break;
        case 2:
            doubtful = 1;
            generation++;
            ngx_http_hotpath_cache_distrust(cache);
            break;
        case 3:
            doubtful |= model_walk(cache, &bytes, generation, done);
            break;
        case 4:
            asked = ngx_http_hotpath_cache_begun(cache);
            doubtful = 0;
            break;
        case 5:
        case 6:
        case 7:
            codings = model_byte(&bytes) % 4 * 2;
            rc = put_codings(cache, n, model[n].meta.version, model[n].len,
                             codings);
            codings |= model[n].codings;

            if (!present) {
                CHECK_SAME(rc, NGX_DECLINED);
            } else if (rc == NGX_OK) {
                model[n].codings = codings;
                done->coded++;
            } else {
                CHECK_SAME(rc, NGX_DECLINED);
                CHECK(model_size(n, model[n].meta.version, model[n].len,
                                 model[n].parts) +
                          model[n].len + 2 >
                      cache->max_entry);
            }

            break;
        case 8:
            check_structure(cache);
            break;
        case 9:
        case 10:
        case 11:
            break;
        default:
            present |=
                model_put(cache, &bytes, n, 10 + step, present ? &copy : NULL,
                          generation, asked, doubtful, done);
        }

        rc = get_coded(cache, n, what / 32, &copy);

        if (rc == NGX_OK) {
            model_compare(&copy, n, generation);
        } else {
            /* what was there or was put just now is there */
            CHECK(!present);
        }
    }

    check_structure(cache);
    ngx_http_hotpath_cache_stats(cache, &stats);
    CHECK_SAME(stats.lock_busy + stats.resets, 0);
    done->evicted += stats.evictions;
    drop_zone();
}

#endif
