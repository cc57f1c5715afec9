/*
 * eviction.c: hit ratios of eviction rules, simulated, to choose the zone's by.
 *
 * One table on stdout: streams of requests times cache sizes (0.1, 1 and 10 %
 * of the objects that a stream has) times rules, hits in percent after the
 * first third of the stream. All objects weigh the same. Below it, for each
 * rule, what share of the hits of an LRU of the same size it has: at its worst
 * (2 % less is what may be lost), on average, and how often it is the best.
 * The same numbers in every run: the generators have seeds.
 *
 * Streams: Zipf with four exponents; Zipf with scans over cold objects; with a
 * loop longer than two of the sizes; news, where new objects come in at the top
 * and sink; a popularity that is drawn anew five times; a stream that returns
 * to what was just there; and shapes of published traces: clusters 4, 22 and 27
 * of J. Yang, Y. Yue, K. V. Rashmi, "A large scale analysis of hundreds of
 * in-memory cache clusters at Twitter", OSDI 2020 (Zipf exponent, mean
 * frequency and share of objects asked for once, from the statistics published
 * with the traces, github.com/twitter/cache-trace, stat/2020Mar.md). The traces
 * themselves are not here: a stream is drawn from these three numbers, and the
 * table says how near it came.
 *
 * Rules: LRU, FIFO, CLOCK, random, the older of two at random; SIEVE (Y. Zhang
 * et al., NSDI 2024); S3-FIFO (J. Yang et al., SOSP 2023), small queue 10 %,
 * two hits to get into the main queue, ghosts as long as that one, counters to
 * 3; s3/20 with a small queue of 20 % that one hit leads out of, s3/20b the
 * same with one bit. zone is what ngx_http_hotpath_cache.c does, for entries of
 * one cell: s3/20b in stripes by hash, as many as a zone of that many cells may
 * have, with a small queue of a quarter, ghosts in lines of 16 by hash, and at
 * most 66 entries moved on per insertion; its buckets are so rarely full that
 * they are left out.
 *
 * What it says: SIEVE loses up to 19 % of LRU's hits where popularity changes
 * at once, S3-FIFO as published up to 11 % where what was just there returns.
 * The zone has 0.985 of LRU's hits at its worst (recent, 10 %) and 1.43 times
 * as many on average; with 1,000,000 objects (-DOBJECTS=1000000) 0.982 (switch,
 * 10 %) and 1.38, with 200,000 0.979 (recent, 0.1 %: a cache of 197 entries, of
 * which no zone is as small) and 1.42. With a small queue of a fifth these
 * would be 0.982, 0.977 and 0.963, with a third 0.990, 0.991 and 0.998, but
 * with 0.3 to 0.7 points less of hits in nearly every other row, and 12 of 70
 * in the loop. Build and run, 15 s and 150 MB:
 *
 *   make -C tests/unit eviction
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUESTS 3000000u
#ifndef OBJECTS
#define OBJECTS 500000u
#endif
#define IDS (OBJECTS + REQUESTS)
#define NIL UINT32_MAX

/* what the zone has: bounds of ngx_http_hotpath_cache.c for entries of a cell
 */
#define ZONE_STRIPES 64u
#define ZONE_STRIPE_MIN 170u
#define ZONE_SPARE 66u
#define ZONE_SMALL_PART 4u
#define ZONE_GHOSTS 16u
#define ZONE_PER_GHOSTS 20u

typedef struct {
    uint32_t id;
    uint32_t prev; /* towards the newest */
    uint32_t next; /* towards the oldest */
    uint32_t mark; /* used since it was last looked at; or when */
} slot_t;

/* Of the run that is going on. */
static uint32_t stream[REQUESTS];
static uint32_t where[IDS]; /* slot + 1 of an object, or 0 */
static slot_t slots[IDS];
static uint32_t ghosts[IDS]; /* place in the ghost queue + 1, or 0 */
static uint8_t freq[IDS];
static double cumulative[IDS];
static uint64_t random_state;

static uint64_t next_random(void)
{
    uint64_t z;

    /* splitmix64 */
    random_state += 0x9e3779b97f4a7c15u;
    z = random_state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint32_t below(uint32_t limit)
{
    return (uint32_t)((next_random() >> 32) * limit >> 32);
}

static double uniform(void)
{
    return (double)(next_random() >> 11) * 0x1p-53;
}

/* ---- streams ---- */

/* Where a rank is looked for first: by the upper bits of the number drawn. */
#define GUIDES 65536u

static uint32_t guide[GUIDES + 1];
static uint32_t ranks;

static void zipf_begin(uint32_t count, double exponent)
{
    uint32_t i, g;
    double sum;

    ranks = count;
    sum = 0;

    for (i = 0; i < count; i++) {
        sum += pow((double)i + 1, -exponent);
        cumulative[i] = sum;
    }

    for (i = 0; i < count; i++) {
        cumulative[i] /= sum;
    }

    for (i = 0, g = 0; g <= GUIDES; g++) {
        while (i + 1 < count && cumulative[i] < (double)g / GUIDES) {
            i++;
        }

        guide[g] = i;
    }
}

/* 0 is the most popular. */
static uint32_t zipf(void)
{
    uint32_t low, high, middle, g;
    double drawn;

    drawn = uniform();
    g = (uint32_t)(drawn * GUIDES);
    low = guide[g];
    high = guide[g + 1];

    while (low < high) {
        middle = (low + high) / 2;

        if (cumulative[middle] < drawn) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }

    return low;
}

static void make_zipf(double exponent)
{
    uint32_t i;

    zipf_begin(OBJECTS, exponent);

    for (i = 0; i < REQUESTS; i++) {
        stream[i] = zipf();
    }
}

static void make_zipf_06(void)
{
    make_zipf(0.6);
}

static void make_zipf_08(void)
{
    make_zipf(0.8);
}

static void make_zipf_10(void)
{
    make_zipf(1.0);
}

static void make_zipf_12(void)
{
    make_zipf(1.2);
}

/* Every 50,000 requests somebody reads 25,000 cold objects in a row. */
static void make_scans(void)
{
    uint32_t i, cold;

    zipf_begin(OBJECTS / 2, 0.9);

    for (i = 0, cold = 0; i < REQUESTS; i++) {
        stream[i] =
            i % 75000 < 50000 ? zipf() : OBJECTS / 2 + cold++ % (OBJECTS / 2);
    }
}

/* One request in two goes round 20,000 objects. */
static void make_loop(void)
{
    uint32_t i;

    zipf_begin(OBJECTS - 20000, 0.9);

    for (i = 0; i < REQUESTS; i++) {
        stream[i] = i % 2 ? zipf() : OBJECTS - 20000 + i / 2 % 20000;
    }
}

/* A new object every 20 requests, at once the most popular. */
static void make_news(void)
{
    uint32_t i;

    zipf_begin(OBJECTS, 0.9);

    for (i = 0; i < REQUESTS; i++) {
        stream[i] = OBJECTS + i / 20 - zipf();
    }
}

static void make_switch(void)
{
    uint32_t i;

    zipf_begin(OBJECTS, 0.9);

    for (i = 0; i < REQUESTS; i++) {
        /* 7919 is prime to OBJECTS: another order of all of them */
        stream[i] = (uint32_t)((zipf() + i / (REQUESTS / 6) * 7919u * 11u) *
                               (uint64_t)7919 % OBJECTS);
    }
}

/* Seven in ten repeat a request of a short while ago. */
static void make_recent(void)
{
    uint32_t i, back;

    zipf_begin(100000, 0.9);

    for (i = 0; i < REQUESTS; i++) {
        back = zipf() + 1;
        stream[i] =
            below(10) < 7 && back <= i ? stream[i - back] : below(OBJECTS);
    }
}

/* How many of `count` ranks get two of `requests` requests or more. */
static double repeated(uint32_t count, double exponent, double requests)
{
    double sum, share, expected, result;
    uint32_t i;

    for (i = 0, sum = 0; i < count; i++) {
        sum += pow((double)i + 1, -exponent);
    }

    for (i = 0, result = 0; i < count; i++) {
        share = pow((double)i + 1, -exponent) / sum;
        expected = requests * share;
        result += 1 - exp(-expected) * (1 + expected);
    }

    return result;
}

/* Ranks for the objects that are asked for again, as many as it takes; the rest
 * of the objects, each once, at random times. */
static void make_published(double exponent, double mean, double once)
{
    double objects, best, now, requests, fresh_share;
    uint32_t i, count, fresh;

    objects = REQUESTS / mean;
    requests = REQUESTS - once * objects;
    count = (uint32_t)(objects * (1 - once));
    best = repeated(count, exponent, requests);

    while (best < objects * (1 - once) && count < OBJECTS * 2) {
        now = repeated(count + count / 8, exponent, requests);

        if (now <= best) {
            break;
        }

        count += count / 8;
        best = now;
    }

    zipf_begin(count, exponent);

    /* of the tail some come once anyway, some never */
    for (i = 0, now = 0; i < count; i++) {
        now +=
            exp(-requests * (cumulative[i] - (i == 0 ? 0 : cumulative[i - 1])));
    }

    fresh_share = (objects - (count - now)) / REQUESTS;

    for (i = 0, fresh = count; i < REQUESTS; i++) {
        stream[i] = uniform() < fresh_share ? fresh++ : zipf();
    }
}

static void make_twitter_4(void)
{
    make_published(1.1004, 26.5, 0.2933);
}

static void make_twitter_22(void)
{
    make_published(0.7624, 4.3, 0.4148);
}

static void make_twitter_27(void)
{
    make_published(1.065, 9.0, 0.2221);
}

/* ---- rules: each runs the whole stream and gives its hits ---- */

#define COUNTED(i) ((i) >= REQUESTS / 3)

/* Slots in order of age, and where eviction goes on. */
typedef struct {
    uint32_t newest;
    uint32_t oldest;
    uint32_t hand; /* or NIL: the oldest */
    uint32_t used;
} list_t;

static const list_t no_list = {NIL, NIL, NIL, 0};

static void unlink_slot(list_t *list, uint32_t n)
{
    if (slots[n].prev != NIL) {
        slots[slots[n].prev].next = slots[n].next;
    } else {
        list->newest = slots[n].next;
    }

    if (slots[n].next != NIL) {
        slots[slots[n].next].prev = slots[n].prev;
    } else {
        list->oldest = slots[n].prev;
    }
}

static void put_newest(list_t *list, uint32_t n, uint32_t id)
{
    slots[n].id = id;
    slots[n].prev = NIL;
    slots[n].next = list->newest;

    if (list->newest != NIL) {
        slots[list->newest].prev = n;
    } else {
        list->oldest = n;
    }

    list->newest = n;
    where[id] = n + 1;
}

static uint32_t run_lru(uint32_t capacity)
{
    uint32_t i, n, hits;
    list_t list;

    list = no_list;
    hits = 0;

    for (i = 0; i < REQUESTS; i++) {
        n = where[stream[i]] - 1;

        if (n != NIL) {
            hits += COUNTED(i);
            unlink_slot(&list, n);

        } else if (list.used < capacity) {
            n = list.used++;

        } else {
            n = list.oldest;
            where[slots[n].id] = 0;
            unlink_slot(&list, n);
        }

        put_newest(&list, n, stream[i]);
    }

    return hits;
}

/* Slots in a ring; what the hand takes is the rule. */
typedef enum { RING_FIFO, RING_CLOCK, RING_RANDOM, RING_TWO } ring_t;

static uint32_t ring_victim(ring_t ring, uint32_t capacity, uint32_t *hand)
{
    uint32_t n, other;

    switch (ring) {
    case RING_RANDOM:
        return below(capacity);

    case RING_TWO:
        n = below(capacity);
        other = below(capacity);
        return slots[n].mark < slots[other].mark ? n : other;

    default:
        while (ring == RING_CLOCK && slots[*hand].mark) {
            slots[*hand].mark = 0;
            *hand = *hand + 1 == capacity ? 0 : *hand + 1;
        }

        n = *hand;
        *hand = n + 1 == capacity ? 0 : n + 1;
        return n;
    }
}

static uint32_t run_ring(ring_t ring, uint32_t capacity)
{
    uint32_t i, n, used, hand, hits;

    used = hand = hits = 0;

    for (i = 0; i < REQUESTS; i++) {
        n = where[stream[i]] - 1;

        if (n != NIL) {
            hits += COUNTED(i);
            slots[n].mark = ring == RING_TWO ? i : 1;
            continue;
        }

        if (used < capacity) {
            n = used++;
        } else {
            n = ring_victim(ring, capacity, &hand);
            where[slots[n].id] = 0;
        }

        slots[n].id = stream[i];
        slots[n].mark = ring == RING_TWO ? i : 0;
        where[stream[i]] = n + 1;
    }

    return hits;
}

static uint32_t run_fifo(uint32_t capacity)
{
    return run_ring(RING_FIFO, capacity);
}

static uint32_t run_clock(uint32_t capacity)
{
    return run_ring(RING_CLOCK, capacity);
}

static uint32_t run_random(uint32_t capacity)
{
    return run_ring(RING_RANDOM, capacity);
}

static uint32_t run_two(uint32_t capacity)
{
    return run_ring(RING_TWO, capacity);
}

static uint32_t run_sieve(uint32_t capacity)
{
    uint32_t i, n, hits;
    list_t list;

    list = no_list;
    hits = 0;

    for (i = 0; i < REQUESTS; i++) {
        n = where[stream[i]] - 1;

        if (n != NIL) {
            hits += COUNTED(i);
            slots[n].mark = 1;
            continue;
        }

        if (list.used < capacity) {
            n = list.used++;
        } else {
            while (n = list.hand == NIL ? list.oldest : list.hand,
                   list.hand = slots[n].prev, slots[n].mark) {
                slots[n].mark = 0;
            }

            unlink_slot(&list, n);
            where[slots[n].id] = 0;
        }

        slots[n].mark = 0;
        put_newest(&list, n, stream[i]);
    }

    return hits;
}

/* A queue of ids, a ring in slots[]. */
typedef struct {
    slot_t *ring;
    uint32_t size;
    uint32_t first; /* the oldest */
    uint32_t count;
} queue_t;

/* What `where` says here. */
enum { SMALL = 1, MAIN = 2 };

/* S3-FIFO and its shape. */
typedef struct {
    queue_t small;
    queue_t main;
    uint32_t ghost;      /* how many went into the ghost queue */
    uint32_t small_most; /* entries */
    uint32_t main_most;  /* entries, and so long is the ghost queue */
    uint32_t promote;    /* hits that take an entry to the main queue */
} s3_t;

static void queue_put(queue_t *queue, uint32_t id)
{
    queue->ring[(queue->first + queue->count++) % queue->size].id = id;
}

static uint32_t queue_take(queue_t *queue)
{
    uint32_t id;

    id = queue->ring[queue->first].id;
    queue->first = queue->first + 1 == queue->size ? 0 : queue->first + 1;
    queue->count--;
    return id;
}

static void s3_evict_main(s3_t *s3)
{
    uint32_t id;

    for (;;) {
        id = queue_take(&s3->main);

        if (freq[id] == 0) {
            where[id] = 0;
            return;
        }

        freq[id]--;
        queue_put(&s3->main, id);
    }
}

/* Makes room for one, unless all of the small queue moved to the other. */
static void s3_evict_small(s3_t *s3)
{
    uint32_t id;

    while (s3->small.count != 0) {
        id = queue_take(&s3->small);

        if (freq[id] < s3->promote) {
            where[id] = 0;
            ghosts[id] = ++s3->ghost;
            return;
        }

        if (s3->main.count == s3->main_most) {
            s3_evict_main(s3);
        }

        freq[id] = 0;
        where[id] = MAIN;
        queue_put(&s3->main, id);
    }
}

static void s3_insert(s3_t *s3, uint32_t id)
{
    int known;

    known = ghosts[id] && s3->ghost - ghosts[id] < s3->main_most;

    while (s3->small.count + s3->main.count >= s3->small_most + s3->main_most) {
        if (s3->small.count >= s3->small_most) {
            s3_evict_small(s3);
        } else {
            s3_evict_main(s3);
        }
    }

    ghosts[id] = 0;
    freq[id] = 0;
    where[id] = known ? MAIN : SMALL;
    queue_put(known ? &s3->main : &s3->small, id);
}

/* percent: the small queue's share; most: what a counter of hits goes to. */
static uint32_t s3fifo(uint32_t capacity, uint32_t percent, uint32_t promote,
                       uint32_t most)
{
    uint32_t i, id, hits;
    s3_t s3;

    memset(&s3, 0, sizeof(s3));
    s3.small.size = s3.main.size = capacity + 1;
    s3.small.ring = slots;
    s3.main.ring = slots + capacity + 1;
    s3.small_most = capacity * percent / 100 + (capacity < 100 / percent);
    s3.main_most = capacity - s3.small_most;
    s3.promote = promote;
    hits = 0;

    for (i = 0; i < REQUESTS; i++) {
        id = stream[i];

        if (where[id]) {
            hits += COUNTED(i);
            freq[id] += freq[id] < most;
        } else {
            s3_insert(&s3, id);
        }
    }

    return hits;
}

static uint32_t run_s3(uint32_t capacity)
{
    return s3fifo(capacity, 10, 2, 3);
}

static uint32_t run_s3_20(uint32_t capacity)
{
    return s3fifo(capacity, 20, 1, 3);
}

static uint32_t run_s3_bit(uint32_t capacity)
{
    return s3fifo(capacity, 20, 1, 1);
}

/* ---- the zone's own ---- */

typedef struct {
    queue_t small;
    queue_t main;
    uint32_t *ghosts; /* lines of them: id + 1, the youngest first */
    uint32_t lines;
} stripe_t;

/* The factor stands for a hash; stripes is a power of two. */
static uint32_t stripe_of(uint32_t id, uint32_t stripes)
{
    return (uint32_t)(id * (uint64_t)0x9e3779b97f4a7c15u >> 40) & (stripes - 1);
}

static uint32_t zone_stripes(uint32_t capacity)
{
    uint32_t stripes;

    for (stripes = ZONE_STRIPES; stripes > 1; stripes /= 2) {
        if (capacity / stripes >= ZONE_STRIPE_MIN) {
            break;
        }
    }

    return stripes;
}

static uint32_t *zone_line(stripe_t *stripe, uint32_t id)
{
    return stripe->ghosts + (id * (uint64_t)0xd6e8feb86659fd93u >> 32) %
                                stripe->lines * ZONE_GHOSTS;
}

static void zone_remember(stripe_t *stripe, uint32_t id)
{
    uint32_t *line;

    line = zone_line(stripe, id);
    memmove(line + 1, line, (ZONE_GHOSTS - 1) * sizeof(*line));
    line[0] = id + 1;
}

/* Whether it was a ghost; of each line as many count as make up the length of
 * the main queue. */
static int zone_recall(stripe_t *stripe, uint32_t id)
{
    uint32_t i, n, *line;

    line = zone_line(stripe, id);
    n = stripe->main.count / stripe->lines + 1;

    for (i = 0; i < n && i < ZONE_GHOSTS; i++) {
        if (line[i] == id + 1) {
            memmove(line + i, line + i + 1,
                    (ZONE_GHOSTS - 1 - i) * sizeof(*line));
            line[ZONE_GHOSTS - 1] = 0;
            return 1;
        }
    }

    return 0;
}

static void zone_insert(stripe_t *stripe, uint32_t each, uint32_t id)
{
    uint32_t old, spare;
    int known, small;

    known = zone_recall(stripe, id);
    spare = ZONE_SPARE;

    while (stripe->small.count + stripe->main.count >= each) {
        small = stripe->small.count > each / ZONE_SMALL_PART ||
                stripe->main.count == 0;
        old = queue_take(small ? &stripe->small : &stripe->main);

        if (freq[old] && spare) {
            freq[old] = 0;
            spare--;
            queue_put(&stripe->main, old);
            continue;
        }

        where[old] = 0;

        if (small) {
            zone_remember(stripe, old);
        }
    }

    freq[id] = 0;
    where[id] = 1;
    queue_put(known ? &stripe->main : &stripe->small, id);
}

static uint32_t run_zone(uint32_t capacity)
{
    stripe_t all[ZONE_STRIPES];
    uint32_t i, id, hits, each, stripes;

    stripes = zone_stripes(capacity);
    each = capacity / stripes;
    hits = 0;

    for (i = 0; i < stripes; i++) {
        memset(&all[i], 0, sizeof(all[i]));
        all[i].small.size = all[i].main.size = each + 1;
        all[i].small.ring = slots + (size_t)i * 2 * (each + 1);
        all[i].main.ring = all[i].small.ring + each + 1;
        all[i].lines = each / ZONE_PER_GHOSTS + 1;
        all[i].ghosts = ghosts + (size_t)i * all[i].lines * ZONE_GHOSTS;
    }

    for (i = 0; i < REQUESTS; i++) {
        id = stream[i];

        if (where[id]) {
            hits += COUNTED(i);
            freq[id] = 1;
        } else {
            zone_insert(&all[stripe_of(id, stripes)], each, id);
        }
    }

    return hits;
}

/* ---- the table ---- */

static const struct {
    const char *name;
    void (*make)(void);
} streams[] = {
    {"zipf 0.6", make_zipf_06},
    {"zipf 0.8", make_zipf_08},
    {"zipf 1.0", make_zipf_10},
    {"zipf 1.2", make_zipf_12},
    {"zipf+scans", make_scans},
    {"zipf+loop", make_loop},
    {"news", make_news},
    {"switch", make_switch},
    {"recent", make_recent},
    {"twitter 4", make_twitter_4},
    {"twitter 22", make_twitter_22},
    {"twitter 27", make_twitter_27},
};

static const struct {
    const char *name;
    uint32_t (*run)(uint32_t capacity);
} rules[] = {
    {"lru", run_lru},       {"fifo", run_fifo},   {"clock", run_clock},
    {"random", run_random}, {"two", run_two},     {"sieve", run_sieve},
    {"s3", run_s3},         {"s3/20", run_s3_20}, {"s3/20b", run_s3_bit},
    {"zone", run_zone},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct {
    double worst; /* share of LRU's hits */
    double sum;
    unsigned rows;
    unsigned best;
    char where[32];
} totals[COUNT(rules)];

/* Objects, and how many of them only once. */
static uint32_t count_objects(uint32_t *once)
{
    uint32_t i, objects;

    memset(where, 0, sizeof(where));

    for (i = 0; i < REQUESTS; i++) {
        where[stream[i]]++;
    }

    for (i = 0, objects = 0, *once = 0; i < IDS; i++) {
        objects += where[i] != 0;
        *once += where[i] == 1;
    }

    return objects;
}

static void run_row(const char *name, double percent, uint32_t capacity)
{
    double hits[COUNT(rules)], best, share;
    size_t r;

    printf("%-11s %5.1f %7u", name, percent, capacity);

    for (r = 0, best = 0; r < COUNT(rules); r++) {
        memset(where, 0, sizeof(where));
        memset(ghosts, 0, sizeof(ghosts));
        memset(freq, 0, sizeof(freq));
        random_state = 7;
        hits[r] = rules[r].run(capacity) * 100.0 / (REQUESTS - REQUESTS / 3);
        best = hits[r] > best ? hits[r] : best;
        printf(" %7.2f", hits[r]);
        fflush(stdout);
    }

    for (r = 0; r < COUNT(rules); r++) {
        share = hits[0] > 0 ? hits[r] / hits[0] : 1;
        totals[r].best += hits[r] >= best - 0.005;
        totals[r].sum += share;

        if (totals[r].rows++ == 0 || share < totals[r].worst) {
            totals[r].worst = share;
            snprintf(totals[r].where, sizeof(totals[r].where), "%s, %.1f %%",
                     name, percent);
        }
    }

    printf("\n");
}

int main(void)
{
    static const double percents[] = {0.1, 1, 10};

    uint32_t objects, once;
    size_t s, p, r;

    printf("%-11s %5s %7s", "stream", "size%", "entries");

    for (r = 0; r < COUNT(rules); r++) {
        printf(" %7s", rules[r].name);
    }

    printf("\n");

    for (s = 0; s < COUNT(streams); s++) {
        random_state = s + 1;
        streams[s].make();
        objects = count_objects(&once);

        for (p = 0; p < COUNT(percents); p++) {
            run_row(streams[s].name, percents[p],
                    (uint32_t)(objects * percents[p] / 100));
        }

        printf("%-11s %u objects, each %.1f times, %.1f %% once\n", "", objects,
               (double)REQUESTS / objects, once * 100.0 / objects);
    }

    printf("\n%-8s %8s %8s %6s  share of LRU's hits\n", "rule", "worst",
           "average", "best");

    for (r = 0; r < COUNT(rules); r++) {
        printf("%-8s %8.3f %8.3f %3u/%u  worst at %s\n", rules[r].name,
               totals[r].worst, totals[r].sum / totals[r].rows, totals[r].best,
               totals[r].rows, totals[r].where);
    }

    return 0;
}
