/*
 * health.c: /health/live, /health/ready and /metrics of a worker.
 *
 * libmicrohttpd with one thread of its own, a bound on connections and a
 * timeout for each; it answers GET and HEAD on three paths and nothing else.
 * Live is 200 while the process serves at all. Documented in
 * workers/README.md.
 *
 * Must never: wait for a lane, a lock or a server.
 */
#include "health.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <microhttpd.h>

#include "log.h"

static struct MHD_Daemon *hpw_health_daemon;

int hpw_health_check(hpw_buf_t *out, const char *name, int ok,
                     const char *detail)
{
    const char *comma = out->len && out->data[out->len - 1] == '}' ? "," : "";

    hpw_buf_printf(out, "%s{\"name\":\"%s\",\"ok\":%s,\"detail\":\"%s\"}",
                   comma, name, ok ? "true" : "false", detail);
    return ok;
}

void hpw_metric(hpw_buf_t *out, const char *name, const char *type,
                const char *help)
{
    hpw_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static enum MHD_Result hpw_health_send(struct MHD_Connection *connection,
                                       unsigned status, const char *type,
                                       const hpw_buf_t *body)
{
    enum MHD_Result result;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        body->len, body->data, MHD_RESPMEM_MUST_COPY);

    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result
hpw_health_answer(void *data, struct MHD_Connection *connection,
                  const char *url, const char *method, const char *version,
                  const char *upload, size_t *upload_size, void **state)
{
    const hpw_health_t *health = data;
    const char *type = "application/json";
    enum MHD_Result result;
    hpw_buf_t body = {0}, checks = {0};
    unsigned status = MHD_HTTP_OK;

    (void)version;
    (void)upload;
    (void)state;
    *upload_size = 0;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        status = MHD_HTTP_METHOD_NOT_ALLOWED;
        hpw_buf_printf(&body, "{\"code\":\"method_not_allowed\"}\n");
    } else if (strcmp(url, "/health/live") == 0) {
        hpw_buf_printf(&body, "{\"status\":\"live\"}\n");
    } else if (strcmp(url, "/health/ready") == 0) {
        if (!health->ready(&checks, health->data))
            status = MHD_HTTP_SERVICE_UNAVAILABLE;
        hpw_buf_printf(&body, "{\"status\":\"%s\",\"checks\":[%s]}\n",
                       status == MHD_HTTP_OK ? "ready" : "not_ready",
                       hpw_buf_text(&checks));
    } else if (strcmp(url, "/metrics") == 0) {
        type = "text/plain; version=0.0.4; charset=utf-8";
        health->metrics(&body, health->data);
    } else {
        status = MHD_HTTP_NOT_FOUND;
        hpw_buf_printf(&body, "{\"code\":\"not_found\"}\n");
    }
    result = hpw_health_send(connection, status, type, &body);
    hpw_buf_free(&body);
    hpw_buf_free(&checks);
    return result;
}

/* Splits host:port. 0 or -1. */
static int hpw_health_split(const char *address, char *host, size_t size,
                            const char **port)
{
    const char *colon = strrchr(address, ':'), *first = address;
    size_t len;

    if (colon == NULL || colon == address || colon[1] == 0)
        return -1;
    len = (size_t)(colon - address);
    if (address[0] == '[' && colon[-1] == ']') {
        first++;
        len -= 2;
    }
    if (len == 0 || len >= size)
        return -1;
    memcpy(host, first, len);
    host[len] = 0;
    *port = colon + 1;
    return 0;
}

int hpw_health_start(const hpw_health_t *health, const char *address)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    const char *port;
    char host[256];
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO;

    if (*address == 0)
        return 0;
    if (hpw_health_split(address, host, sizeof(host), &port) != 0 ||
        getaddrinfo(host, port, &hints, &found) != 0) {
        hpw_log(HPW_LOG_ERROR, "health_listen is no address",
                hpw_s("address", address));
        return -1;
    }
    if (found->ai_family == AF_INET6)
        flags |= MHD_USE_IPv6;

    hpw_health_daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, hpw_health_answer, (void *)health,
        MHD_OPTION_SOCK_ADDR, found->ai_addr, MHD_OPTION_CONNECTION_LIMIT, 64u,
        MHD_OPTION_CONNECTION_TIMEOUT, 5u, MHD_OPTION_END);
    freeaddrinfo(found);
    if (hpw_health_daemon == NULL) {
        hpw_log(HPW_LOG_ERROR, "health_listen cannot be bound",
                hpw_s("address", address));
        return -1;
    }
    return 0;
}

void hpw_health_stop(void)
{
    if (hpw_health_daemon)
        MHD_stop_daemon(hpw_health_daemon);
    hpw_health_daemon = NULL;
}
