/*
 * core.c: what one call into core/ costs, in nanoseconds.
 *
 * One job: a table on stdout, for whoever changes hp_json.c or hp_id.c. Each
 * figure is the median of nine rounds; every round calls often enough to last
 * about 20 ms, so the whole takes some seconds. The inputs are made here: the
 * sample event of 157 bytes (the size the design was measured with) and one of
 * 4 KB with the same kind of members. Results go into a volatile sink, so that
 * no compiler leaves a call out. A process of its own, one thread, no files.
 * SHA256() is measured beside our own two to show why hp_id.c does not use it.
 *
 * Build and run: make -C tests/unit bench. What the design asks for: at most
 * 130 ns for the event of 157 bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/sha.h>

#include "hp_frame.h"
#include "hp_id.h"
#include "hp_json.h"

#define ROUNDS 9
#define ROUND_NS 20000000.0

static volatile unsigned long sink;

static hp_str_t body;
static hp_event_t event;
static unsigned char record[8192];

static double now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void run_event(void)
{
    hp_json_event_t found;

    if (hp_json_event(body, 32, &found) != HP_JSON_OK) {
        fprintf(stderr, "the sample event is refused at %zu\n",
                found.error_offset);
        exit(1);
    }

    sink += found.payload.raw.len;
}

static void run_compact(void)
{
    sink += hp_json_compact(record, event.payload);
}

static void run_operation_id(void)
{
    unsigned char id[HP_UUID_SIZE];

    hp_operation_id(id, event.tenant, event.route, event.key);
    sink += id[0];
}

static void run_fingerprint(void)
{
    unsigned char fp[HP_FINGERPRINT_SIZE];

    hp_fingerprint(fp, event.type, event.payload);
    sink += fp[0];
}

static void run_one_shot(void)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];

    SHA256(event.payload.data, event.payload.len, digest);
    sink += digest[0];
}

static void run_partition(void)
{
    const hp_str_t none = {NULL, 0};

    sink += hp_partition(event.tenant, none, event.operation_id, 8);
}

static void run_write(void)
{
    sink += (unsigned long)(hp_event_write(record, &event) - record);
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

static void measure(const char *name, void (*run)(void))
{
    double rounds[ROUNDS], start, spent;
    long calls, i;
    int round;

    /* double until one round is long enough for the clock */
    for (calls = 64;; calls *= 2) {
        start = now_ns();

        for (i = 0; i < calls; i++) {
            run();
        }

        spent = now_ns() - start;

        if (spent >= ROUND_NS) {
            break;
        }
    }

    for (round = 0; round < ROUNDS; round++) {
        start = now_ns();

        for (i = 0; i < calls; i++) {
            run();
        }

        rounds[round] = (now_ns() - start) / (double)calls;
    }

    qsort(rounds, ROUNDS, sizeof(rounds[0]), by_size);
    printf("%-36s %10.1f\n", name, rounds[ROUNDS / 2]);
}

/* An event whose payload has as many members as fit into `size` bytes. */
static size_t make_body(char *text, size_t size)
{
    static const char start[] = "{\"idempotencyKey\":\"0b6cb8a1-7d7f-4d0c-"
                                "9a43-6f1f1d6f7a10\",\"eventType\":"
                                "\"price_set\",\"payload\":{\"productId\":42,"
                                "\"amount\":19.99,\"currency\":\"EUR\"";
    size_t len;
    int n;

    len = sizeof(start) - 1;
    memcpy(text, start, len);

    for (n = 0; len + 40 < size; n++) {
        len += (size_t)sprintf(text + len, ",\"note%03d\":\"line %d\"", n, n);
    }

    /* a last string that makes it exactly `size` */
    len += (size_t)sprintf(text + len, ",\"n\":\"");

    while (len + 3 < size) {
        text[len++] = 'x';
    }

    memcpy(text + len, "\"}}", 3);
    return len + 3;
}

int main(void)
{
    static const size_t sizes[] = {157, 4096};
    static char text[4096 + 64];

    hp_json_event_t found;
    char name[64];
    size_t i;

    printf("%-36s %10s\n", "call", "ns");

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        body.data = (unsigned char *)text;
        body.len = make_body(text, sizes[i]);

        run_event();
        hp_json_event(body, 32, &found);

        memset(&event, 0, sizeof(event));
        event.tenant = (hp_str_t)HP_STR("tenant-a");
        event.route = (hp_str_t)HP_STR("events");
        event.key = found.key.raw;
        event.type = found.type.raw;
        event.payload = found.payload.raw;
        hp_operation_id(event.operation_id, event.tenant, event.route,
                        event.key);

        snprintf(name, sizeof(name), "hp_json_event, %zu B", body.len);
        measure(name, run_event);
        snprintf(name, sizeof(name), "hp_json_compact, %zu B",
                 event.payload.len);
        measure(name, run_compact);
        snprintf(name, sizeof(name), "hp_fingerprint, %zu B",
                 event.payload.len);
        measure(name, run_fingerprint);
        snprintf(name, sizeof(name), "(SHA256() of libcrypto, %zu B)",
                 event.payload.len);
        measure(name, run_one_shot);
        snprintf(name, sizeof(name), "hp_event_write, %zu B",
                 hp_event_size(&event));
        measure(name, run_write);
    }

    measure("hp_operation_id", run_operation_id);
    measure("hp_partition", run_partition);
    return 0;
}
