/*
 * closedloop.c: a program; asks a server for one document on many connections,
 * again on each as soon as it was answered, and says how many answers came.
 *
 *     closedloop HOST PORT PATH CONNECTIONS SECONDS
 *
 * One job: a load that costs less than what it asks for. wrk looks at every
 * byte of every header, so that it is the limit before an nginx worker that
 * answers from memory is, and the sooner the more header lines there are. This
 * one learns from the first answer how long the header is and what the body is,
 * and then looks where the header ends, at the status and at the whole body. An
 * answer that is not 200 with that same body ends the program with status 1.
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

typedef struct {
    int fd;
    size_t have;
    char answer[ANSWER_MAX];
} connection_t;

static connection_t connections[MAX_CONNECTIONS];
static char request[1024], body[ANSWER_MAX];
static size_t request_len, body_len, head_len;
static uint64_t answered;

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
    c->have = 0;

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

    if (memcmp(c->answer, "HTTP/1.1 200 ", 13) != 0) {
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
        memcmp(c->answer + head, body, body_len) != 0) {
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

int main(int argc, char **argv)
{
    struct epoll_event events[256], event = {.events = EPOLLIN};
    int64_t start, until;
    unsigned long count, i;
    int epoll, n;

    if (argc != 6) {
        die("usage", "HOST PORT PATH CONNECTIONS SECONDS");
    }

    count = strtoul(argv[4], NULL, 10);

    if (count == 0 || count > MAX_CONNECTIONS || strlen(argv[3]) > 800) {
        die("arguments", "out of range");
    }

    request_len =
        (size_t)snprintf(request, sizeof(request),
                         "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", argv[3]);
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
        n = epoll_wait(epoll, events, 256, 1000);

        if (n == 0) {
            die("no answer within a second", argv[3]);
        }

        for (i = 0; (int)i < n; i++) {
            read_answer(events[i].data.ptr);
        }
    } while (now_ns() < until);

    printf("{\"requests\": %llu, \"seconds\": %.6f}\n",
           (unsigned long long)answered, (double)(now_ns() - start) / 1e9);
    return 0;
}
