/*
 * hp_priority.h: the priorities of a partition, and the numbers of streams.
 *
 * A partition has one stream for each priority that is in use: the first one
 * is normal and alone by default, two are high and normal, three all of them.
 * They are drained in the order high, normal, low and shed in the reverse. The
 * number of a stream names it wherever commits are kept; it does not change
 * with how many partitions or priorities there are, so what was kept stays
 * true over a reload. Pure. Used by the module and the workers; the names are
 * in schemas/framing.md; tests/unit/test_priority.c.
 */
#ifndef HP_PRIORITY_H
#define HP_PRIORITY_H

#include "hp_base.h"

#include <string.h>

#define HP_PARTITIONS_MAX 64 /* that nginx publishes to */

typedef enum {
    HP_PRIORITY_NORMAL = 0,
    HP_PRIORITY_HIGH,
    HP_PRIORITY_LOW,
    HP_PRIORITIES
} hp_priority_e;

#define HP_STREAMS_MAX (HP_PRIORITIES * HP_PARTITIONS_MAX)

#define hp_stream_number(partition, priority)                                  \
    ((priority)*HP_PARTITIONS_MAX + (partition))

static inline const char *hp_priority_name(unsigned priority)
{
    static const char *const names[] = {"normal", "high", "low"};

    return names[priority];
}

/* What stands behind the separator in the names of its stream and subject. */
static inline const char *hp_priority_suffix(unsigned priority)
{
    return priority == HP_PRIORITY_NORMAL ? "" : hp_priority_name(priority);
}

/* The one that is drained as number i, from 0. */
static inline unsigned hp_priority_order(unsigned i)
{
    static const unsigned order[] = {HP_PRIORITY_HIGH, HP_PRIORITY_NORMAL,
                                     HP_PRIORITY_LOW};

    return order[i];
}

/* By its name; anything else is -1. */
static inline int hp_priority_parse(hp_str_t text)
{
    unsigned i;

    for (i = 0; i < HP_PRIORITIES; i++) {
        if (text.len == strlen(hp_priority_name(i)) &&
            memcmp(text.data, hp_priority_name(i), text.len) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* How much of so many bytes those of a priority may fill, all together: who is
 * above keeps a fifth from normal, and half from low. */
static inline size_t hp_priority_room(unsigned priority, size_t bytes)
{
    switch (priority) {
    case HP_PRIORITY_HIGH:
        return bytes;
    case HP_PRIORITY_NORMAL:
        return bytes - bytes / 5;
    default:
        return bytes / 2;
    }
}

/* Whether it is shed while so many bytes are behind a bound that is not 0: low
 * from the bound on, normal from twice that. */
static inline int hp_priority_behind(unsigned priority, uint64_t bytes,
                                     uint64_t bound)
{
    switch (priority) {
    case HP_PRIORITY_HIGH:
        return 0;
    case HP_PRIORITY_NORMAL:
        return bytes / 2 >= bound;
    default:
        return bytes >= bound;
    }
}

#endif
