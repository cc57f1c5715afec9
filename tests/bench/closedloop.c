/*
 * closedloop.c: a program; asks a server on many connections, again on each as
 * soon as it was answered, and says how many answers came.
 *
 *     closedloop HOST PORT PATH CONNECTIONS SECONDS [RUN]
 *
 * One job: a load that costs less than what it asks for. wrk looks at every
 * byte of every header, so that it is the limit before an nginx worker that
 * answers from memory is, and the sooner the more header lines there are; and
 * where the server shares two cores with it and a broker, what it uses is
 * missing there. This one learns from the first answer how long the header is
 * and what the body is, and then looks where the header ends, at the status and
 * at the whole body. It asks for one document; with RUN, it sends bench.py's
 * event of 157 bytes, each with a key of its own (RUN and a number), and then
 * the status has to be 202 and the body as long as the first. Any other answer
 * ends the program with status 1.
 *
 * Prints a line of JSON: how many answers, in how many seconds. Owns its
 * sockets; one thread, memory fixed. Document: README.md here; used by rig.py.
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 1024
#define ANSWER_MAX 16384
#define EVENT 157

typedef struct {
    int fd;
    size_t have;
    char answer[ANSWER_MAX];
} connection_t;

static connection_t connections[MAX_CONNECTIONS];
static char request[1024], body[ANSWER_MAX];
static char *key; /* the digits of it that count, in the request; or NULL */
static size_t request_len, body_len, head_len, key_len;
static uint64_t asked, answered;

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static __attribute__((noreturn)) void die(const char *what, const char *more)
{
    fprintf(stderr, "closedloop: %s: %s\n", what, more);
    exit(1);
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

static void ask(connection_t *c)
{
    uint64_t number;
    size_t i;

    c->have = 0;

    if (key) {
        number = asked++;

        for (i = key_len; i > 0; i--, number /= 10) {
            key[i - 1] = (char)('0' + number % 10);
        }
    }

    if (send(c->fd, request, request_len, MSG_NOSIGNAL) !=
        (ssize_t)request_len) {
        die("send", strerror(errno));
    }
}

/* Where the header ends; 0 where it does not yet. */
static size_t head_end(const connection_t *c)
{
    const char *end;

    if (head_len && c->have >= head_len &&
        memcmp(c->answer + head_len - 4, "\r\n\r\n", 4) == 0) {
        return head_len; /* as long as that of the answer before */
    }

    end = memmem(c->answer, c->have, "\r\n\r\n", 4);
    head_len = end ? (size_t)(end + 4 - c->answer) : head_len;
    return end ? head_len : 0;
}

/* What the first answer brings is what all others have to bring. */
static int is_whole(connection_t *c)
{
    const char *field;
    size_t head;

    head = head_end(c);

    if (head == 0) {
        return 0;
    }

    if (memcmp(c->answer, key ? "HTTP/1.1 202 " : "HTTP/1.1 200 ", 13) != 0) {
        c->answer[head - 4] = '\0';
        die("answered", c->answer);
    }

    if (body_len == 0) {
        c->answer[c->have] = '\0';
        field = strcasestr(c->answer, "\r\nContent-Length:");
        body_len = field ? strtoul(field + 17, NULL, 10) : 0;

        if (body_len == 0 || head + body_len >= ANSWER_MAX) {
            die("no length, or too much, in", c->answer);
        }
    }

    if (c->have < head + body_len) {
        return 0;
    }

    if (answered == 0) {
        memcpy(body, c->answer + head, body_len);
    }

    if (c->have > head + body_len ||
        (key == NULL && memcmp(c->answer + head, body, body_len) != 0)) {
        die("another body", c->answer);
    }

    return 1;
}

static void read_answer(connection_t *c)
{
    ssize_t n;

    n = recv(c->fd, c->answer + c->have, ANSWER_MAX - 1 - c->have, 0);

    if (n <= 0) {
        die("recv", n == 0 ? "closed" : strerror(errno));
    }

    c->have += (size_t)n;

    if (is_whole(c)) {
        answered++;
        ask(c);
    }
}

static void make_request(const char *path, const char *run)
{
    static const char tail[] =
        "\",\"eventType\":\"page_view\",\"payload\":{\"page\":\"/products/42\","
        "\"referrer\":\"https://example.org/\",\"ms\":17,"
        "\"session\":\"a1b2c3d\"}}";
    static const char before[] = "{\"idempotencyKey\":\"";
    int head;

    if (run == NULL) {
        request_len =
            (size_t)snprintf(request, sizeof(request),
                             "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", path);
        return;
    }

    key_len = EVENT - strlen(before) - strlen(run) - strlen(tail);
    head = snprintf(request, sizeof(request),
                    "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type:"
                    " application/json\r\nContent-Length: %d\r\n\r\n%s%s",
                    path, EVENT, before, run);
    key = request + head;
    request_len =
        (size_t)head + (size_t)snprintf(key, sizeof(request) - (size_t)head,
                                        "%0*d%s", (int)key_len, 0, tail);
}

int main(int argc, char **argv)
{
    struct epoll_event events[256], event = {.events = EPOLLIN};
    int64_t start, until;
    unsigned long count, i;
    int epoll, n;

    if (argc != 6 && argc != 7) {
        die("usage", "HOST PORT PATH CONNECTIONS SECONDS [RUN]");
    }

    count = strtoul(argv[4], NULL, 10);

    if (count == 0 || count > MAX_CONNECTIONS || strlen(argv[3]) > 400 ||
        (argc == 7 && strlen(argv[6]) > 10)) {
        die("arguments", "out of range");
    }

    make_request(argv[3], argc == 7 ? argv[6] : NULL);
    epoll = epoll_create1(0);

    for (i = 0; i < count; i++) {
        open_connection(&connections[i], argv[1], atoi(argv[2]));
        event.data.ptr = &connections[i];

        if (epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event) != 0) {
            die("epoll", strerror(errno));
        }
    }

    start = now_ns();
    until = start + (int64_t)(strtod(argv[5], NULL) * 1e9);

    for (i = 0; i < count; i++) {
        ask(&connections[i]);
    }

    do {
        n = epoll_wait(epoll, events, 256, 10000);

        if (n == 0) {
            die("no answer within ten seconds", argv[3]);
        }

        for (i = 0; (int)i < n; i++) {
            read_answer(events[i].data.ptr);
        }
    } while (now_ns() < until);

    printf("{\"requests\": %llu, \"seconds\": %.6f}\n",
           (unsigned long long)answered, (double)(now_ns() - start) / 1e9);
    return 0;
}
