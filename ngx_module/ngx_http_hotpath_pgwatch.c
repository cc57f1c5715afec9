/*
 * ngx_http_hotpath_pgwatch.c: a bound for how long one read of a library may
 * keep the event loop.
 *
 * A POSIX timer on this thread's processor time, one for each worker, made when
 * it is first needed; time in which the machine does something else does not
 * count. Its signal is a real-time one that nobody else is known to use here,
 * and its handler does nothing but shut down the one socket that is watched:
 * what the peer sends after that is answered with a reset by the kernel, and
 * the read ends. Where the system has no such timer, nothing is bounded. Runs
 * in workers, on the event loop.
 *
 * What must never happen here: a socket shut down that is not being watched;
 * anything in the handler that is not safe in one. Tests:
 * tests/unit/test_pgwatch.c, tests/faults/test_postgres_faults.py.
 */
#include "ngx_http_hotpath_pgwatch.h"
#include <signal.h>
#include <time.h>


#if (NGX_LINUX)


#define NGX_HTTP_HOTPATH_PGWATCH_SIGNAL  (SIGRTMIN + 7)


static ngx_int_t ngx_http_hotpath_pgwatch_init(ngx_log_t *log);
static void ngx_http_hotpath_pgwatch_handler(int signo);


static timer_t                 ngx_http_hotpath_pgwatch_timer;
static ngx_pid_t               ngx_http_hotpath_pgwatch_pid;
static volatile sig_atomic_t   ngx_http_hotpath_pgwatch_fd = -1;
static volatile sig_atomic_t   ngx_http_hotpath_pgwatch_over;


void
ngx_http_hotpath_pgwatch_begin(ngx_socket_t fd, ngx_log_t *log)
{
    struct itimerspec  when;

    /* A timer is not inherited by a process that is forked. */

    if (ngx_http_hotpath_pgwatch_pid != ngx_pid
        && ngx_http_hotpath_pgwatch_init(log) != NGX_OK)
    {
        return;
    }

    ngx_http_hotpath_pgwatch_over = 0;
    ngx_http_hotpath_pgwatch_fd = fd;

    ngx_memzero(&when, sizeof(struct itimerspec));
    when.it_value.tv_nsec = NGX_HTTP_HOTPATH_PGWATCH_MS * 1000000;

    (void) timer_settime(ngx_http_hotpath_pgwatch_timer, 0, &when, NULL);
}


ngx_uint_t
ngx_http_hotpath_pgwatch_end(void)
{
    struct itimerspec  never;

    if (ngx_http_hotpath_pgwatch_fd == -1) {
        return 0;
    }

    ngx_http_hotpath_pgwatch_fd = -1;

    ngx_memzero(&never, sizeof(struct itimerspec));

    (void) timer_settime(ngx_http_hotpath_pgwatch_timer, 0, &never, NULL);

    return ngx_http_hotpath_pgwatch_over;
}


static ngx_int_t
ngx_http_hotpath_pgwatch_init(ngx_log_t *log)
{
    struct sigevent   event;
    struct sigaction  action;

    ngx_memzero(&action, sizeof(struct sigaction));
    action.sa_handler = ngx_http_hotpath_pgwatch_handler;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);

    ngx_memzero(&event, sizeof(struct sigevent));
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = NGX_HTTP_HOTPATH_PGWATCH_SIGNAL;

    if (sigaction(NGX_HTTP_HOTPATH_PGWATCH_SIGNAL, &action, NULL) == -1
        || timer_create(CLOCK_THREAD_CPUTIME_ID, &event,
                        &ngx_http_hotpath_pgwatch_timer)
           == -1)
    {
        ngx_log_error(NGX_LOG_WARN, log, ngx_errno,
                      "hotpath: no timer for long reads from postgres");
        return NGX_ERROR;
    }

    ngx_http_hotpath_pgwatch_pid = ngx_pid;

    return NGX_OK;
}


static void
ngx_http_hotpath_pgwatch_handler(int signo)
{
    ngx_err_t  err;

    err = ngx_errno;

    if (ngx_http_hotpath_pgwatch_fd != -1) {
        (void) shutdown(ngx_http_hotpath_pgwatch_fd, SHUT_RDWR);
        ngx_http_hotpath_pgwatch_over = 1;
    }

    ngx_set_errno(err);
}


#else


void
ngx_http_hotpath_pgwatch_begin(ngx_socket_t fd, ngx_log_t *log)
{
}


ngx_uint_t
ngx_http_hotpath_pgwatch_end(void)
{
    return 0;
}


#endif
