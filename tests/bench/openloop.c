/*
 * openloop.c: a program; asks a server at a fixed rate, whether it keeps up or
 * not, and says how long it took.
 *
 *     openloop HOST PORT PATH CONNECTIONS RATE SECONDS RUN
 *
 * One job: latency under a given load. wrk asks again when it was answered, so
 * that a server which stands still is asked nothing meanwhile, and the wait of
 * all who would have come is not seen. Here request n is due n / RATE seconds
 * after the start, on any connection that is free; where none is, it waits for
 * one, and its time counts from when it was due and not from when it was sent.
 * Each request is a POST of bench.py's event of 157 bytes with a key of its own
 * (RUN and n). The first second does not count.
 *
 * Times go into buckets of less than 1 % width (128 for each power of two of
 * nanoseconds), so the memory is fixed and nothing is sorted. Prints a line of
 * JSON. Owns its sockets; one thread. It shares the cores with the servers and
 * so is to cost little: it wakes ten thousand times a second, sends what has
 * come due and reads what was answered, and sleeps (a sleep for each request
 * and each answer took more processor time than all the rest, and that from
 * the broker). Every time is so too long by 0.1 ms in the mean, whoever is
 * asked. Never in here: an answer other than 202 that passes for one: the
 * program ends with status 1 and the answer's first line. What did not go out
 * on time by itself is told apart: "late" is the longest that a request waited
 * for this program while a connection was free.
 *
 * Document: README.md here; used by write_rows.py, which checks its counts.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BODY 157
#define WARM_NS 1000000000
#define TICK_NS 100000
#define GRACE_NS 10000000000
#define MAX_CONNECTIONS 4096
#define EVENTS 256
#define SUB_BITS 7
#define BUCKETS ((64 - SUB_BITS) << SUB_BITS)

typedef struct {
    int fd;
    int64_t due_ns;
    size_t have;
    char answer[2048];
} connection_t;

static connection_t connections[MAX_CONNECTIONS];
static connection_t *idle[MAX_CONNECTIONS];
static unsigned nidle;
static uint64_t buckets[BUCKETS];
static uint64_t counted, answered;
static int64_t start_ns, longest_ns;

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static __attribute__((noreturn)) void die(const char *what, const char *more)
{
    fprintf(stderr, "openloop: %s: %s\n", what, more);
    exit(1);
}

/* Where a time belongs: its power of two and the next bits. */
static unsigned bucket_of(uint64_t ns)
{
    unsigned shift;

    if (ns < (1u << SUB_BITS)) {
        return (unsigned)ns;
    }

    shift = 63 - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    return ((shift + 1) << SUB_BITS) |
           ((unsigned)(ns >> shift) & ((1u << SUB_BITS) - 1));
}

/* The highest time of a bucket. */
static uint64_t bucket_end(unsigned bucket)
{
    unsigned shift;
    uint64_t base;

    if (bucket < (1u << SUB_BITS)) {
        return bucket;
    }

    shift = (bucket >> SUB_BITS) - 1;
    base = (1u << SUB_BITS) | (bucket & ((1u << SUB_BITS) - 1));
    return ((base + 1) << shift) - 1;
}

static double quantile_us(double part)
{
    uint64_t wanted, seen;
    unsigned i;

    wanted = (uint64_t)((double)counted * part);
    seen = 0;

    for (i = 0; i < BUCKETS; i++) {
        seen += buckets[i];

        if (seen > wanted) {
            return (double)bucket_end(i) / 1e3;
        }
    }

    return (double)longest_ns / 1e3;
}

static void open_connection(connection_t *c, const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port)};
    int on;

    on = 1;

    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        die("no address", host);
    }

    c->fd = socket(AF_INET, SOCK_STREAM, 0);

    if (c->fd < 0 ||
        connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
        fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0) {
        die("connect", strerror(errno));
    }
}

static void ask(connection_t *c, const char *head, const char *run, uint64_t n,
                int64_t due_ns)
{
    static const char tail[] =
        "\",\"eventType\":\"page_view\",\"payload\":{\"page\":\"/products/42\","
        "\"referrer\":\"https://example.org/\",\"ms\":17,"
        "\"session\":\"a1b2c3d\"}}";
    char request[1024];
    int len, key;

    key = BODY - (int)strlen("{\"idempotencyKey\":\"") - (int)strlen(run) -
          (int)strlen(tail);
    len =
        snprintf(request, sizeof(request), "%s{\"idempotencyKey\":\"%s%0*llx%s",
                 head, run, key, (unsigned long long)n, tail);

    c->due_ns = due_ns;
    c->have = 0;

    if (send(c->fd, request, (size_t)len, MSG_NOSIGNAL) != len) {
        die("send", strerror(errno));
    }
}

/* Reads what there is; the answer is whole with the end of its body. */
static void read_answer(connection_t *c)
{
    const char *body, *field;
    int64_t took_ns;
    ssize_t n;

    n = recv(c->fd, c->answer + c->have, sizeof(c->answer) - 1 - c->have, 0);

    if (n < 0 && errno == EAGAIN) {
        return;
    }

    if (n <= 0) {
        die("recv", n == 0 ? "closed" : strerror(errno));
    }

    c->have += (size_t)n;
    c->answer[c->have] = '\0';
    body = strstr(c->answer, "\r\n\r\n");

    if (body == NULL) {
        return;
    }

    field = strcasestr(c->answer, "\r\nContent-Length:");

    if (field == NULL || field > body) {
        die("no length in", c->answer);
    }

    if ((size_t)(c->answer + c->have - (body + 4)) <
        strtoul(field + strlen("\r\nContent-Length:"), NULL, 10)) {
        return;
    }

    if (strncmp(c->answer, "HTTP/1.1 202 ", 13) != 0) {
        *strchr(c->answer, '\r') = '\0';
        die("answered", c->answer);
    }

    answered++;
    idle[nidle++] = c;

    if (c->due_ns - start_ns >= WARM_NS) {
        took_ns = now_ns() - c->due_ns;
        buckets[bucket_of((uint64_t)took_ns)]++;
        counted++;
        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
    }
}

/* Until the clock shows the next multiple of TICK_NS. */
static void next_tick(void)
{
    int64_t at_ns;
    struct timespec at;

    at_ns = (now_ns() / TICK_NS + 1) * TICK_NS;
    at.tv_sec = at_ns / 1000000000;
    at.tv_nsec = at_ns % 1000000000;

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0) {
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN};
    int64_t now, due_ns, late_ns, most_late_ns;
    unsigned long count, i;
    uint64_t sent, total;
    int epoll, n, starved;
    double rate;
    char head[512];

    if (argc != 8) {
        die("usage", "HOST PORT PATH CONNECTIONS RATE SECONDS RUN");
    }

    count = strtoul(argv[4], NULL, 10);
    rate = strtod(argv[5], NULL);
    total = (uint64_t)(rate * (strtod(argv[6], NULL) + WARM_NS / 1e9));

    if (count == 0 || count > MAX_CONNECTIONS || rate < 1 ||
        strlen(argv[3]) > 200 || strlen(argv[7]) > 10) {
        die("arguments", "out of range");
    }

    snprintf(head, sizeof(head),
             "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type:"
             " application/json\r\nContent-Length: %d\r\n\r\n",
             argv[3], BODY);
    epoll = epoll_create1(0);
    prctl(PR_SET_TIMERSLACK, 1); /* or the kernel wakes us 50 us late */

    for (i = 0; i < count; i++) {
        open_connection(&connections[i], argv[1], atoi(argv[2]));
        event.data.ptr = &connections[i];

        if (epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event) != 0) {
            die("epoll", strerror(errno));
        }

        idle[nidle++] = &connections[i];
    }

    sent = 0;
    starved = 0;
    most_late_ns = 0;
    start_ns = now_ns();

    while (answered < total) {
        now = now_ns();
        late_ns = 0;

        while (sent < total) {
            due_ns = start_ns + (int64_t)((double)sent / rate * 1e9);

            if (due_ns > now) {
                break;
            }

            if (nidle == 0) {
                starved = 1;
                break;
            }

            late_ns = late_ns > now - due_ns ? late_ns : now - due_ns;
            ask(idle[--nidle], head, argv[7], sent++, due_ns);
        }

        /* not those that had waited for a connection */
        if (!starved && late_ns > most_late_ns && now - start_ns >= WARM_NS) {
            most_late_ns = late_ns;
        }

        if (nidle > 0) {
            starved = 0;
        }

        if (now - start_ns > (int64_t)((double)total / rate * 1e9) + GRACE_NS) {
            die("not answered in time", argv[3]);
        }

        next_tick();

        do {
            n = epoll_wait(epoll, events, EVENTS, 0);

            for (i = 0; (int)i < n; i++) {
                read_answer(events[i].data.ptr);
            }
        } while (n == EVENTS);
    }

    printf("{\"requests\": %llu, \"counted\": %llu, \"seconds\": %.3f,"
           " \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f,"
           " \"p999_us\": %.1f, \"max_us\": %.1f, \"late_us\": %.1f}\n",
           (unsigned long long)answered, (unsigned long long)counted,
           (double)(now_ns() - start_ns) / 1e9, quantile_us(0.5),
           quantile_us(0.9), quantile_us(0.99), quantile_us(0.999),
           (double)longest_ns / 1e3, (double)most_late_ns / 1e3);
    return 0;
}
