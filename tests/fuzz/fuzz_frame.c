/*
 * fuzz_frame.c: libFuzzer target of ngx_module/core/hp_frame.c.
 *
 * Whatever bytes come, the readers of event groups, pushes and Redis values
 * give an answer without reading outside; and what they take, written again,
 * is the same bytes: a frame has one form only, so a reader that lets something
 * through that framing.md does not know would show here.
 *
 * A wrong answer aborts. libFuzzer gives every input in a block of its size, so
 * that AddressSanitizer sees a byte read too far. Seeds: seeds.py. Run by
 * make -C tests/fuzz.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_frame.h"

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned char *block(size_t size)
{
    unsigned char *memory;

    memory = malloc(size == 0 ? 1 : size);
    MUST(memory != NULL);
    return memory;
}

static void check_group(hp_str_t message)
{
    hp_frame_reader_t reader;
    unsigned char *again, *p;
    hp_event_t event;
    uint32_t count;
    int rc;

    if (hp_event_group_open(&reader, message) != 0) {
        MUST(hp_event_group_next(&reader, &event) == -1);
        return;
    }

    again = block(message.len);
    p = again + HP_EVENT_GROUP_HEADER;
    count = 0;

    while ((rc = hp_event_group_next(&reader, &event)) == 1) {
        MUST(hp_event_size(&event) <= message.len - (size_t)(p - again));
        p = hp_event_write(p, &event);
        MUST(memcmp(again + HP_EVENT_GROUP_HEADER,
                    message.data + HP_EVENT_GROUP_HEADER,
                    (size_t)(p - again) - HP_EVENT_GROUP_HEADER) == 0);
        count++;
    }

    MUST(rc == 0 || rc == -1);
    MUST(hp_event_group_next(&reader, &event) == rc);

    if (rc == 0) {
        MUST(count >= 1 && count <= HP_EVENT_COUNT_MAX);
        hp_event_group_header(again, count);
        MUST((size_t)(p - again) == message.len);
        MUST(memcmp(again, message.data, message.len) == 0);
    }

    free(again);
}

static void check_push(hp_str_t message)
{
    hp_frame_reader_t reader;
    unsigned char *again, *p;
    hp_push_t push;
    uint32_t count;
    hp_doc_t doc;
    int rc;

    if (hp_push_open(&reader, message, &push) != 0) {
        MUST(hp_push_next(&reader, &doc) == -1);
        return;
    }

    again = block(message.len);
    hp_push_header(again, &push);
    p = again + HP_PUSH_HEADER;
    count = 0;

    while ((rc = hp_push_next(&reader, &doc)) == 1) {
        MUST(hp_doc_size(&doc) <= message.len - (size_t)(p - again));
        p = hp_doc_write(p, &doc);
        MUST(memcmp(again, message.data, (size_t)(p - again)) == 0);
        count++;
    }

    MUST(rc == 0 || rc == -1);
    MUST(hp_push_next(&reader, &doc) == rc);

    if (rc == 0) {
        MUST(count == push.count);
        MUST((size_t)(p - again) == message.len);
        MUST(memcmp(again, message.data, message.len) == 0);
    }

    free(again);
}

static void check_value(hp_str_t value)
{
    unsigned char *again;
    hp_doc_t doc;

    if (hp_doc_read_value(&doc, value) != 0) {
        return;
    }

    MUST(hp_doc_size(&doc) == value.len + 4);
    again = block(value.len + 4);
    MUST(hp_doc_write(again, &doc) == again + value.len + 4);
    MUST(memcmp(again + 4, value.data, value.len) == 0);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hp_str_t bytes;

    bytes.data = data;
    bytes.len = size;
    check_group(bytes);
    check_push(bytes);
    check_value(bytes);
    return 0;
}
