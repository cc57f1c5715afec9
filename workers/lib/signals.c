/*
 * signals.c: how a worker is asked to stop, and how it waits.
 *
 * Owns the process's handlers and one pipe, both until exit. The handler does
 * nothing that is not async-signal-safe: a flag, a write, and _exit() for the
 * impatient second signal. Everything else may be called from any thread.
 *
 * Must never: log, lock or allocate in the handler; read from the pipe, since
 * its staying readable is what wakes the lanes that come to wait later.
 */
#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t hpw_stop_asked;
static int hpw_stop_pipe[2] = {-1, -1};

static void hpw_on_stop(int signo)
{
    int saved = errno;
    ssize_t n;

    if (hpw_stop_asked)
        _exit(128 + signo);
    hpw_stop_asked = 1;
    n = write(hpw_stop_pipe[1], "", 1);
    (void)n;
    errno = saved;
}

int hpw_signals_init(void)
{
    struct sigaction action;

    if (pipe2(hpw_stop_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return -1;

    memset(&action, 0, sizeof(action));
    sigemptyset(&action.sa_mask);
    action.sa_handler = SIG_IGN;
    if (sigaction(SIGPIPE, &action, NULL) != 0)
        return -1;
    action.sa_handler = hpw_on_stop;
    action.sa_flags = SA_RESTART;
    return sigaction(SIGTERM, &action, NULL) == 0 &&
                   sigaction(SIGINT, &action, NULL) == 0
               ? 0
               : -1;
}

int hpw_stopping(void)
{
    return hpw_stop_asked;
}

int hpw_stop_fd(void)
{
    return hpw_stop_pipe[0];
}

void hpw_sleep_ms(int ms)
{
    struct pollfd stop = {hpw_stop_pipe[0], POLLIN, 0};
    int64_t until = hpw_monotonic_ms() + ms, left;

    while ((left = until - hpw_monotonic_ms()) > 0 && !hpw_stop_asked)
        poll(&stop, 1, (int)left);
}

int64_t hpw_monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t hpw_unix_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void hpw_backoff_reset(hpw_backoff_t *backoff)
{
    backoff->next_ms = 0;
}

int hpw_backoff_next_ms(hpw_backoff_t *backoff)
{
    int ms = backoff->next_ms ? backoff->next_ms : backoff->least_ms;

    backoff->next_ms = ms > backoff->most_ms / 2 ? backoff->most_ms : ms * 2;
    return ms / 2 + (int)arc4random_uniform((uint32_t)(ms - ms / 2) + 1);
}

void hpw_backoff_sleep(hpw_backoff_t *backoff)
{
    hpw_sleep_ms(hpw_backoff_next_ms(backoff));
}

int hpw_jitter_ms(int ms)
{
    return ms - ms / 4 + (int)arc4random_uniform((uint32_t)(ms / 2) + 1);
}
